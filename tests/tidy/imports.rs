//! Who may import whom.

use std::collections::BTreeSet;

use crate::File;

/// The modules of `src/`, lowest first. A module imports modules of lower levels only. `pipeline` is a crate of its
/// own, named as if it were a module.
const LEVELS: &[&[&str]] = &[
    &["pipeline", "limits", "priority", "sample", "row"],
    &["ledger", "clock", "gauges", "live", "gap", "codec", "layout"],
    &["receipt"],
    &["item", "settled"],
    &["source", "decode", "preprocess", "chunk", "store", "spill"],
    &["deliver", "monitor", "export"],
    &["config", "state"],
    &["app"],
    &["cli"],
    &["lib", "main"],
];

/// What only some modules may know, with the reason.
const OWNED: &[(&str, &[&str], &str)] = &[
    ("scylla", &["store"], "adding or leaving a store is one folder"),
    ("rusqlite", &["store"], "adding or leaving a store is one folder"),
    ("rumqttc", &["source"], "adding or leaving a transport is one file"),
    ("tokio_serial", &["source"], "adding or leaving a transport is one file"),
    ("pitwire_pipeline", &[], "it has one name here: crate::pipeline"),
    ("pitwire_wire", &["decode"], "a format is one file"),
    ("axum", &["monitor"], "HTTP is the monitor's affair"),
    ("parquet", &["export"], "file formats are the export's affair"),
    ("arrow_array", &["export"], "file formats are the export's affair"),
    ("arrow_ipc", &["export"], "file formats are the export's affair"),
    ("arrow_schema", &["export"], "file formats are the export's affair"),
    ("bincode", &["row", "deliver"], "what lies on disk has few writers (docs/decisions/0002)"),
    ("clap", &["cli"], "arguments end at the command line"),
    ("firmware_sim", &["cli"], "the agent does not know that a car is simulated"),
];

/// The module of `src/` that a file belongs to.
fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let first = inside.split('/').next()?;
    path.ends_with(".rs").then(|| first.strip_suffix(".rs").unwrap_or(first))
}

fn level_of(module: &str) -> Option<usize> {
    LEVELS.iter().position(|level| level.contains(&module))
}

/// The modules that `text` names by `crate::`, in groups too.
fn named(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        // `$crate::` and `some_crate::` are something else.
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        let heads: Vec<&str> = match rest.strip_prefix('{') {
            None => vec![rest],
            Some(group) => top_of_group(group),
        };
        let word = |head: &str| head.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned);
        names.extend(heads.into_iter().filter_map(word).filter(|name| !name.is_empty() && name != "self"));
    }
    names
}

/// The entries of a `{a::b, c::{d, e}}` that begins after its brace.
fn top_of_group(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut entries) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                entries.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                entries.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    entries
}

/// Whether code names the crate `name`, as a path or in a `use`.
fn names_crate(code: &str, name: &str) -> bool {
    let (path, import) = (format!("{name}::"), format!("use {name};"));
    let own = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    code.match_indices(&path).any(|(at, _)| own(at)) || code.contains(&import)
}

pub(crate) fn complaints(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    let tests = crate::words::test_files(files);
    for file in files.iter().filter(|file| !tests.contains(file.path.as_str())) {
        let Some(module) = module_of(&file.path) else { continue };
        let Some(level) = level_of(module) else {
            complaints.push(format!("{}: src/{module} has no level: give it one in tests/tidy/imports.rs", file.path));
            continue;
        };
        let code = crate::words::code(&file.text);
        for name in named(&code).iter().filter(|name| *name != module) {
            match level_of(name) {
                Some(other) if other < level => {}
                Some(_) => {
                    complaints.push(format!("{}: {module} may not import {name}: imports only go down", file.path))
                }
                None if module == "lib" || module == "main" => {}
                None => complaints.push(format!("{}: crate::{name} has no level", file.path)),
            }
        }
        for (name, owners, reason) in OWNED {
            if !owners.contains(&module) && names_crate(&code, name) {
                let owners = if owners.is_empty() { "lib".to_owned() } else { owners.join(", ") };
                complaints.push(format!("{}: only {owners} may know the crate {name}: {reason}", file.path));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    fn check(path: &str, text: &str, expected: &[&str]) {
        let found = complaints(&[file(path, text)]);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, part) in found.iter().zip(expected) {
            assert!(found.contains(part), "{found}, expected {part}");
        }
    }

    #[test]
    fn an_import_upwards_or_sideways_is_found_however_it_is_written() {
        check("src/spill/mod.rs", "use crate::limits::MIB;", &[]);
        check("src/spill/mod.rs", "use crate::store::Store;", &["spill may not import store"]);
        check("src/store/x.rs", "fn a() { crate::app::b() }", &["store may not import app"]);
        check("src/decode/a.rs", "use crate::{limits::X, source::{A, B}, chunk};", &["chunk", "source"]);
        check("src/item.rs", "#[cfg(test)]\nmod tests {\n    use crate::app::App;\n}\n", &[]);
        check("src/item.rs", "//! [`crate::app::App`]\nuse some_crate::app;", &[]);
    }

    #[test]
    fn a_module_without_a_level_is_found() {
        check("src/new.rs", "", &["src/new has no level"]);
        check("src/app.rs", "use crate::new::Thing;", &["crate::new has no level"]);
    }

    #[test]
    fn a_driver_outside_its_module_is_found() {
        check("src/deliver/a.rs", "use scylla::Session;", &["only store may know the crate scylla"]);
        check("src/store/a.rs", "use scylla::Session;\nfn f() { my_axum::x() }", &[]);
        check("src/cli/a.rs", "fn f() { axum::serve() }", &["only monitor"]);
    }
}
