//! The C encoder of `docs/firmware.md` does what the page says.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::golden::{self, hex};
use common::{Found, Numbers, push_all, stream_of};
use pitwire_wire::Deframer;

/// Lines the page may ask a firmware author to read.
const C_LINES_MAX: usize = 100;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/firmware.md");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

/// The page's only C block.
fn c_source() -> String {
    let page = page();
    let mut blocks = page.split("\n```c\n").skip(1);
    let block = blocks.next().expect("the page has a C block");
    assert!(blocks.next().is_none(), "the page has one C block only");
    let (source, _) = block.split_once("\n```").expect("the C block is closed");
    format!("{source}\n")
}

/// Compiles C with all warnings as errors. `None`, said aloud, where there is no compiler.
#[allow(clippy::explicit_write, reason = "the test harness would swallow eprintln")]
fn compile(name: &str, source: &str) -> Option<PathBuf> {
    if let Err(e) = Command::new("cc").arg("--version").output() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI needs a C compiler: cc: {e}");
        let how = "install one to check docs/firmware.md";
        writeln!(std::io::stderr(), "SKIPPED {name}: no C compiler (cc: {e}); {how}").unwrap();
        return None;
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("firmware-page");
    std::fs::create_dir_all(&dir).unwrap();
    let (file, program) = (dir.join(format!("{name}.c")), dir.join(name));
    std::fs::write(&file, source).unwrap();
    let output = Command::new("cc")
        .args(["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([&program, &file])
        .output()
        .unwrap();
    assert!(output.status.success(), "cc {name}.c:\n{}", String::from_utf8_lossy(&output.stderr));
    Some(program)
}

#[test]
fn the_c_encoder_sends_the_golden_frames() {
    let Some(program) = compile("first", &c_source()) else { return };
    let output = Command::new(program).output().unwrap();
    assert!(output.status.success());
    let frames = [golden::DESCRIBE, golden::BURST, golden::SCAN].map(hex);
    assert_eq!(push_all(&mut Deframer::new(), &output.stdout), frames.clone().map(Found::Frame));
    let streams: Vec<u8> = frames.iter().flat_map(|frame| stream_of(frame)).collect();
    assert_eq!(output.stdout, [&[0][..], &streams].concat(), "one 0x00, then the frames");
}

#[test]
fn the_c_cobs_agrees_with_the_crate_at_every_length_of_run() {
    // The page's code, with a main that encodes what it reads: u16 length, bytes, and so on.
    let source = format!(
        "#define main first_main\n{}#undef main\n{}",
        c_source(),
        "int main(void) {\n\
         \x20   static uint8_t in[65536];\n\
         \x20   int low, high;\n\
         \x20   if (sequence != 0) return first_main();\n\
         \x20   while ((low = getchar()) != EOF && (high = getchar()) != EOF) {\n\
         \x20       size_t n = (size_t)(low | high << 8);\n\
         \x20       if (fread(in, 1, n, stdin) != n) return 1;\n\
         \x20       send_cobs(in, n);\n\
         \x20   }\n\
         \x20   return 0;\n\
         }\n"
    );
    let Some(program) = compile("cobs", &source) else { return };
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    for n in 1..=1100 {
        blocks.push(vec![0xaa; n]);
        for zero_at in [0, n / 2, n - 1, n.min(254) - 1, n.min(255) - 1] {
            blocks.push(vec![0x55; n]);
            blocks.last_mut().unwrap()[zero_at] = 0;
        }
        blocks.push(Numbers(n as u64).bytes(n));
    }
    let input: Vec<u8> = blocks.iter().flat_map(|b| [&(b.len() as u16).to_le_bytes()[..], b].concat()).collect();
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let encoded: Vec<&[u8]> = output.stdout.split_inclusive(|&b| b == 0).collect();
    assert_eq!(encoded.len(), blocks.len());
    for (block, encoded) in blocks.iter().zip(encoded) {
        assert_eq!(encoded, stream_of(block), "block of {} bytes", block.len());
    }
}

#[test]
fn the_c_encoder_stays_short_enough_for_an_afternoon() {
    let lines = c_source().lines().count();
    assert!(lines <= C_LINES_MAX, "{lines} lines of C, at most {C_LINES_MAX}");
}

#[test]
fn the_page_explains_the_messages_as_they_are_worded() {
    use pitwire_wire::{DecodeError, GarbageReason};
    let page = page();
    let messages = [
        GarbageReason::NoDelimiter.to_string(),
        GarbageReason::Cobs.to_string(),
        GarbageReason::Crc.to_string(),
        GarbageReason::TooShort.to_string(),
        DecodeError::Version(2).to_string(),
        DecodeError::Overrun.to_string(),
        DecodeError::Trailing.to_string(),
    ];
    for message in messages {
        let message = message.trim_start_matches("decode frame: ");
        assert!(page.contains(&format!("| {message} |")), "docs/firmware.md does not explain {message:?}");
    }
}
