//! What the text of the files may not hold, and how much of it.

use std::collections::BTreeSet;

use crate::File;

/// Lines that a source file may have.
const LINES_MAX: usize = 400;
/// Lines that no reason excuses.
const LINES_HARD_MAX: usize = 500;

/// Source files over [`LINES_MAX`], and why they are in one piece.
pub(crate) const LONG: &[(&str, &str)] = &[
    ("firmware-sim/src/run/wire.rs", "one state machine: a line and every fault on it"),
    ("src/chunk/build.rs", "one stage; its steps share the device's open chunks"),
    ("src/spill/faulty.rs", "one file system in memory, for tests"),
];

/// Who besides the clock may read the wall clock.
const CLOCK_READERS: &[(&str, &str)] = &[
    ("src/clock.rs", "the agent's only reader"),
    ("firmware-sim/src/run/mod.rs", "the simulator is the car's side: a new boot needs a number of its own"),
    ("firmware-sim/src/run/port.rs", "the simulator is the car's side: a device with a clock of base utc"),
];

/// A file's code: without comments that take a line, and without its `#[cfg(test)]` block.
pub(crate) fn code(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with("//") {
            code.push('\n');
            continue;
        }
        if line == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.starts_with("mod ") && next.ends_with('{')) {
            let block = lines.by_ref().take_while(|line| *line != "}").count();
            // Lines keep their numbers: the attribute's, the block's, and its end.
            code.push_str(&"\n".repeat(block + 1));
            code.push('\n');
            continue;
        }
        code.push_str(line);
        code.push('\n');
    }
    code
}

/// Files that are compiled for tests only: those of a `#[cfg(test)] mod name;`, and `tests/` folders.
pub(crate) fn test_files(files: &[File]) -> BTreeSet<&str> {
    let mut stems = Vec::new();
    for file in files.iter().filter(|file| file.has_extension(&["rs"])) {
        let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let own = match name.strip_suffix(".rs") {
            Some("mod" | "lib" | "main") | None => folder.to_owned(),
            Some(stem) => format!("{folder}/{stem}"),
        };
        let mut lines = file.text.lines().peekable();
        while let Some(line) = lines.next() {
            if line != "#[cfg(test)]" {
                continue;
            }
            let path = lines.next_if(|line| line.starts_with("#[path = \""));
            let Some(module) = lines.peek().and_then(|line| line.strip_prefix("mod ")?.strip_suffix(';')) else {
                continue;
            };
            match path.and_then(|path| path.split('"').nth(1)) {
                Some(path) => stems.push(format!("{folder}/{}", path.trim_end_matches(".rs"))),
                None => stems.push(format!("{own}/{module}")),
            }
        }
    }
    let is_test = |path: &str| {
        let of_stem = |stem: &String| path == format!("{stem}.rs") || path.starts_with(&format!("{stem}/"));
        path.starts_with("tests/")
            || path.contains("/tests/")
            || path.starts_with("benches/")
            || stems.iter().any(of_stem)
    };
    files.iter().map(|file| file.path.as_str()).filter(|path| is_test(path)).collect()
}

/// Source files that are too long, and reasons that are needed no more.
pub(crate) fn long_files(files: &[File], reasons: &[(&str, &str)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.has_extension(&["rs", "ts", "js", "mjs", "css", "sh"])) {
        let lines = file.text.lines().count();
        let reason = reasons.iter().any(|(path, _)| *path == file.path);
        if lines > LINES_HARD_MAX {
            complaints.push(format!("{}: {lines} lines, at most {LINES_HARD_MAX}: split it by subject", file.path));
        } else if lines > LINES_MAX && !reason {
            complaints.push(format!(
                "{}: {lines} lines, over {LINES_MAX}: split it by subject, or give the reason in tests/tidy/words.rs",
                file.path
            ));
        } else if lines <= LINES_MAX && reason {
            complaints.push(format!("{}: {lines} lines need no reason any more: take it off the list", file.path));
        }
    }
    for (path, _) in reasons.iter().filter(|(path, _)| !files.iter().any(|file| file.path == *path)) {
        complaints.push(format!("{path}: is gone: take it off the list of long files"));
    }
    complaints
}

/// Words that no Rust source holds. They are put together here so that this file does not hold them.
pub(crate) fn complaints(files: &[File]) -> Vec<String> {
    let anywhere = [
        (["#[ign", "ore"], "a test that cannot run says why and skips loudly"),
        (["to", "do!("], "finish it"),
        (["unimpl", "emented!("], "finish it"),
        (["FIX", "ME"], "fix it"),
    ]
    .map(|(word, remedy)| (word.concat(), remedy));
    let tests = test_files(files);
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.has_extension(&["rs", "ts", "mjs", "css", "sh", "toml"])) {
        let mut complain = |text: &str, word: &str, remedy: &str| {
            for (index, _) in text.lines().enumerate().filter(|(_, line)| line.contains(word)) {
                complaints.push(format!("{}:{}: `{word}`: {remedy}", file.path, index + 1));
            }
        };
        for (word, remedy) in &anywhere {
            complain(&file.text, word, remedy);
        }
        if !file.has_extension(&["rs"]) || tests.contains(file.path.as_str()) {
            continue;
        }
        let code = code(&file.text);
        complain(&code, ".unwrap()", "return the error, or expect() with why it cannot fail");
        if !CLOCK_READERS.iter().any(|(path, _)| *path == file.path) {
            complain(&code, "SystemTime::now", "ask a Clock that is passed in");
            complain(&code, "UNIX_EPOCH.elapsed", "ask a Clock that is passed in");
        }
    }
    complaints
}

/// Absolute paths of the place where the project was made.
pub(crate) fn machine_paths(files: &[File]) -> Vec<String> {
    let places = [["/wo", "rk"], ["/tmp/", "wt"], ["/home/", "user"]].map(|parts| parts.concat());
    let mut complaints = Vec::new();
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            let whole = |place: &String| {
                line.match_indices(place.as_str()).any(|(at, _)| {
                    let part_of_more = |c: char| c.is_alphanumeric() || "._-)*]}".contains(c);
                    let after = line[at + place.len()..].chars().next();
                    !line[..at].ends_with(part_of_more)
                        && after.is_none_or(|c| !c.is_alphanumeric() && c != '-' && c != '_')
                })
            };
            if let Some(place) = places.iter().find(|place| whole(place)) {
                complaints.push(format!("{}:{}: `{place}` exists on one machine only", file.path, index + 1));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    #[test]
    fn words_of_the_unfinished_are_found_in_code_and_in_tests() {
        let unfinished = ["to", "do!()"].concat();
        assert_eq!(complaints(&[file("src/a.rs", &unfinished)]).len(), 1);
        assert_eq!(complaints(&[file("tests/a.rs", &format!("\n{}]", ["#[ign", "ore"].concat()))]).len(), 1);
        assert!(complaints(&[file("web/src/a.ts", &["// FIX", "ME"].concat())])[0].starts_with("web/src/a.ts:1:"));
        assert_eq!(complaints(&[file("src/a.rs", "fn f() {}")]), [""; 0]);
    }

    #[test]
    fn unwrap_and_the_wall_clock_are_found_outside_tests_only() {
        let text = "fn f() {\n    a.unwrap();\n    // b.unwrap()\n}\n\n#[cfg(test)]\nmod tests {\n    c.unwrap();\n}\n";
        let found = complaints(&[file("src/a.rs", text)]);
        assert!(found.len() == 1 && found[0].starts_with("src/a.rs:2:"), "{found:?}");
        assert_eq!(complaints(&[file("src/a.rs", "let t = SystemTime::now();")]).len(), 1);
        assert_eq!(complaints(&[file("src/a.rs", "UNIX_EPOCH.elapsed()")]).len(), 1);
        assert_eq!(complaints(&[file("src/clock.rs", "let t = SystemTime::now();")]), [""; 0]);
        let tested = [file("src/a/mod.rs", "#[cfg(test)]\nmod fake;\n"), file("src/a/fake.rs", "x.unwrap()")];
        assert_eq!(complaints(&tested), [""; 0]);
        let named = file("src/a/b.rs", "#[cfg(test)]\n#[path = \"b_tests.rs\"]\nmod tests;\n");
        assert_eq!(complaints(&[named, file("src/a/b_tests.rs", "x.unwrap()")]), [""; 0]);
    }

    #[test]
    fn what_follows_a_test_block_is_code_again_and_lines_keep_their_numbers() {
        let text = "#[cfg(test)]\nmod tests {\n    a();\n}\nfn g() {\n    b.unwrap()\n}\n";
        assert_eq!(complaints(&[file("src/a.rs", text)]).len(), 1);
        assert!(complaints(&[file("src/a.rs", text)])[0].starts_with("src/a.rs:6:"));
    }

    #[test]
    fn a_long_file_needs_a_reason_and_a_reason_needs_a_long_file() {
        let long = |lines: usize| [file("src/a.rs", &"x\n".repeat(lines))];
        let reasons = [("src/a.rs", "because")];
        assert_eq!(long_files(&long(400), &[]), [""; 0]);
        assert!(long_files(&long(401), &[])[0].contains("401 lines, over 400"));
        assert_eq!(long_files(&long(500), &reasons), [""; 0]);
        assert!(long_files(&long(501), &reasons)[0].contains("at most 500"));
        assert!(long_files(&long(400), &reasons)[0].contains("no reason"));
        assert!(long_files(&[], &reasons)[0].contains("is gone"));
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        let here = ["see /wo", "rk/main"].concat();
        assert!(machine_paths(&[file("docs/a.md", &here)])[0].starts_with("docs/a.md:1:"));
        assert_eq!(machine_paths(&[file("a", "target/working home/work/x ../worker")]), [""; 0]);
        assert_eq!(machine_paths(&[file("a", &["cd /tmp/", "wt/x"].concat())]).len(), 1);
    }
}
