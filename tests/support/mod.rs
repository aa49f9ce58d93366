//! What the tests in this folder share.

use std::io::Write as _;

/// Says that a test did not run, loudly: on stderr and in the file that `tests/run` lists at its end.
///
/// `test` is the test's name, `reason` what is missing here. A test whose means *are* present never calls this:
/// it fails instead.
pub(crate) fn skip(test: &str, reason: &str) {
    let line = format!("SKIPPED {test}: {reason}\n");
    // Straight to the stream: the harness shows what a passing test prints to nobody.
    std::io::stderr().write_all(line.as_bytes()).expect("stderr takes the line");
    if let Some(log) = std::env::var_os("PITWIRE_SKIP_LOG") {
        // One write in append mode: tests of several processes share the file.
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .and_then(|mut log| log.write_all(line.as_bytes()))
            .expect("the file of PITWIRE_SKIP_LOG takes a line");
    }
}
