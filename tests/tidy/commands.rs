//! The commands that pages show, against what make and the built programs know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::File;

/// A command's flags and the commands below it.
#[derive(Debug, Default, Clone)]
struct Node {
    flags: BTreeSet<String>,
    below: BTreeMap<String, Node>,
}

/// What there is.
pub(crate) struct Known {
    targets: BTreeSet<String>,
    programs: BTreeMap<String, Node>,
}

impl Known {
    /// Asks make's file and the programs of this build; `None`, said loudly, where one is not built.
    pub(crate) fn of_this_build() -> Option<Self> {
        let pitwire = PathBuf::from(env!("CARGO_BIN_EXE_pitwire"));
        let simulator = pitwire.with_file_name("firmware-sim");
        if !simulator.exists() {
            let reason = format!("{} is not built: cargo build --workspace --bins", simulator.display());
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{reason}");
            crate::support::skip("tidy::every_command_that_is_shown_exists_with_its_flags", &reason);
            return None;
        }
        let makefile = std::fs::read_to_string(crate::root().join("Makefile")).expect("the Makefile is there");
        let programs = [("pitwire", &pitwire), ("firmware-sim", &simulator)];
        let programs = programs.map(|(name, path)| (name.to_owned(), ask(path, &[])));
        Some(Self { targets: targets(&makefile), programs: programs.into() })
    }
}

fn targets(makefile: &str) -> BTreeSet<String> {
    let target = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        (plain && !rest.starts_with('=')).then(|| name.to_owned())
    };
    makefile.lines().filter_map(target).collect()
}

fn ask(program: &Path, path: &[String]) -> Node {
    let output = Command::new(program).args(path).arg("--help").output().expect("the program runs");
    assert!(output.status.success(), "{} {path:?} --help", program.display());
    let (flags, names) = read_help(&String::from_utf8_lossy(&output.stdout));
    let mut below = BTreeMap::new();
    for name in names {
        let path = [path, std::slice::from_ref(&name)].concat();
        below.insert(name, ask(program, &path));
    }
    Node { flags, below }
}

/// The flags and the commands that a help text lists.
fn read_help(help: &str) -> (BTreeSet<String>, Vec<String>) {
    let (mut flags, mut names, mut in_commands) = (BTreeSet::new(), Vec::new(), false);
    for line in help.lines() {
        if line == "Commands:" {
            in_commands = true;
        } else if line.is_empty() {
            in_commands = false;
        } else if in_commands {
            names.extend(line.split_whitespace().next().filter(|name| *name != "help").map(str::to_owned));
        } else if line.trim_start().starts_with('-') {
            let words =
                line.split([' ', ',', '=', '[', '<']).take_while(|word| word.is_empty() || word.starts_with('-'));
            flags.extend(words.filter(|word| word.len() > 1).map(str::to_owned));
        }
    }
    (flags, names)
}

/// The words of a shell line, without quotes; a comment ends it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut open) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match quote {
            Some(mark) if c == mark => quote = None,
            Some(_) => word.push(c),
            None if c == '"' || c == '\'' => (quote, open) = (Some(c), true),
            None if c == '#' && word.is_empty() && !open => break,
            None if c.is_whitespace() => {
                if open || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            None => word.push(c),
        }
    }
    if open || !word.is_empty() {
        words.push(word);
    }
    words
}

/// The shell lines of a page: those of its blocks of sh, and spans of code in its text, with their numbers.
fn shown(page: &str) -> Vec<(usize, String)> {
    let (mut lines, mut block, mut joined) = (Vec::new(), None, String::new());
    for (index, line) in page.lines().enumerate() {
        match (line.trim().strip_prefix("```"), block) {
            (Some(kind), None) => block = Some(matches!(kind, "sh" | "console" | "bash" | "shell")),
            (Some(_), Some(_)) => block = None,
            (None, Some(true)) => {
                joined += line.trim().trim_start_matches("$ ");
                match joined.strip_suffix('\\') {
                    Some(begun) => joined = format!("{begun} "),
                    None => lines.push((index + 1, std::mem::take(&mut joined))),
                }
            }
            (None, Some(false)) => {}
            (None, None) => lines.extend(line.split('`').skip(1).step_by(2).map(|span| (index + 1, span.to_owned()))),
        }
    }
    lines
}

pub(crate) fn complaints(page: &File, known: &Known) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in shown(&page.text) {
        let words = words(&line);
        for command in words.split(|word| ["|", "&&", "||", ";", "&"].contains(&word.as_str())) {
            let not_yet = |word: &&String| *word == "sudo" || (word.contains('=') && !word.starts_with('-'));
            let begun: Vec<String> = command.iter().skip_while(not_yet).cloned().collect();
            let Some((program, arguments)) = begun.split_first() else { continue };
            let name = program.rsplit('/').next().unwrap_or(program);
            // In running text a lone name is a name.
            let wrong = match name {
                "make" => make(arguments, known),
                _ => known.programs.get(name).and_then(|node| check(name, node, arguments)),
            };
            complaints.extend(wrong.map(|wrong| format!("{}:{number}: {wrong}", page.path)));
        }
    }
    complaints
}

fn make(arguments: &[String], known: &Known) -> Option<String> {
    for argument in arguments {
        match argument.split_once('=') {
            Some(("DEMO", options)) => {
                let demo = known.programs.get("pitwire")?.below.get("demo")?;
                let wrong = check("pitwire demo", demo, &words(options));
                if wrong.is_some() {
                    return wrong;
                }
            }
            Some(_) => {}
            None if argument.starts_with('-') || known.targets.contains(argument) => {}
            None => return Some(format!("make has no target `{argument}`")),
        }
    }
    None
}

fn check(name: &str, node: &Node, arguments: &[String]) -> Option<String> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let is_flag =
            argument.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_alphabetic() || c == '-'));
        if argument.starts_with('>') || argument == "…" {
            return None;
        }
        if is_flag {
            let flag = argument.split('=').next().unwrap_or(argument);
            if !node.flags.contains(flag) {
                return Some(format!("`{name}` has no flag `{flag}`"));
            }
        } else if !node.below.is_empty() {
            let Some(below) = node.below.get(argument) else {
                return Some(format!("`{name}` has no command `{argument}`"));
            };
            return check(&format!("{name} {argument}"), below, arguments.as_slice());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    fn known() -> Known {
        let help = "Usage\n\nOptions:\n  -o, --output <FILE>  Where\n      --pty[=<L>]      A --block\n";
        let (flags, _) = read_help(help);
        let (_, names) = read_help("Commands:\n  run   Run it\n  help  Print\n\nOptions:\n  -h, --help\n");
        assert_eq!(names, ["run"]);
        let below = BTreeMap::from([("run".to_owned(), Node { flags: flags.clone(), ..Node::default() })]);
        let demo = Node { flags, ..Node::default() };
        let pitwire = Node {
            below: [below, [("demo".to_owned(), demo)].into()].into_iter().flatten().collect(),
            ..Node::default()
        };
        let targets = targets(".PHONY: a\nx := y\ndemo: setup ## show\n\ttouch: no\n");
        Known { targets, programs: [("pitwire".to_owned(), pitwire)].into() }
    }

    fn check(text: &str, expected: &[&str]) {
        let found = complaints(&file("a.md", text), &known());
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_command_a_flag_or_a_target_that_is_not_there_is_found() {
        check("```sh\npitwire run --pty=/a -o b --output c  # --not this\n```", &[]);
        check("```sh\nsudo A=b target/release/pitwire run --pyt\n```", &["a.md:2: `pitwire run` has no flag `--pyt`"]);
        check("```sh\nx | pitwire ran\n```", &["a.md:2: `pitwire` has no command `ran`"]);
        check("```sh\npitwire run \\\n  --block\n```", &["a.md:3: `pitwire run` has no flag `--block`"]);
        check("```sh\nmake demo && make dmeo\n```", &["a.md:2: make has no target `dmeo`"]);
        check("```sh\nmake demo DEMO=\"--output a --pyt\"\n```", &["a.md:2: `pitwire demo` has no flag `--pyt`"]);
        check("say `pitwire run`, `pitwire` or `pitwire rum`", &["a.md:1: `pitwire` has no command `rum`"]);
        check("```toml\npitwire ran\n```", &[]);
    }

    #[test]
    fn quotes_hold_words_together() {
        assert_eq!(words("a \"b c\" 'd' '' # e"), ["a", "b c", "d", ""]);
    }
}
