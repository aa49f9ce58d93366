//! What no compiler checks: who imports whom, what the documentation claims, how large files are.
//!
//! Each check is a function from texts to complaints, tried on bad input beside it; the tests here run it
//! over the project. A complaint says where, what is wrong and what would be right.

mod support;

#[path = "tidy/commands.rs"]
mod commands;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/keys.rs"]
mod keys;
#[path = "tidy/markdown.rs"]
mod markdown;
#[path = "tidy/mutants.rs"]
mod mutants;
#[path = "tidy/words.rs"]
mod words;

use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the project, by its path from the root.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn has_extension(&self, wanted: &[&str]) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, extension)| wanted.contains(&extension))
    }
}

#[cfg(test)]
pub(crate) fn file(path: &str, text: &str) -> File {
    File { path: path.into(), text: text.into() }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the project: what `.gitignore` names and what is no UTF-8 is passed over.
fn project() -> Vec<File> {
    let ignored = fs::read_to_string(root().join(".gitignore")).expect(".gitignore is there");
    let mut skipped: Vec<PathBuf> =
        ignored.lines().map(|line| root().join(line.trim_start_matches('/').trim_end_matches('/'))).collect();
    skipped.push(root().join(".git"));
    let mut files = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the entry can be read").path();
            if skipped.contains(&path) || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let path = path.strip_prefix(root()).expect("it lies below").to_string_lossy().into_owned();
                files.push(File { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the project's files are found");
    files
}

pub(crate) fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaint(s):\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn imports_only_go_down() {
    assert_none(&imports::complaints(&project()));
}

#[test]
fn no_source_file_is_long_without_a_reason() {
    assert_none(&words::long_files(&project(), words::LONG));
}

#[test]
fn nothing_is_unfinished_ignored_or_unwrapped_and_only_the_clock_reads_the_clock() {
    assert_none(&words::complaints(&project()));
}

#[test]
fn nothing_names_the_machine_that_it_was_made_on() {
    assert_none(&words::machine_paths(&project()));
}

#[test]
fn decisions_are_numbered_without_holes_dated_and_have_a_status() {
    assert_none(&markdown::decisions(&project()));
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    assert_none(&markdown::links(&project(), |path| root().join(path).exists()));
}

#[test]
fn every_metric_that_is_named_is_served() {
    let source = fs::read_to_string(root().join("src/monitor/metrics.rs")).expect("the file is there");
    assert_none(&markdown::metrics(&project(), &source));
}

#[test]
fn every_key_of_the_configuration_is_documented_with_its_default() {
    let page = fs::read_to_string(root().join("docs/configuration.md")).expect("the page is there");
    assert_none(&keys::complaints(&page));
}

#[test]
fn every_configuration_that_is_shown_is_accepted() {
    let shown = |file: &File| file.has_extension(&["md"]) && !file.path.starts_with("web/");
    let mut complaints: Vec<String> = project().iter().filter(|file| shown(file)).flat_map(keys::examples).collect();
    let shipped = fs::read_to_string(root().join("systemd/pitwire.toml")).expect("the shipped file is there");
    complaints.extend(keys::example("systemd/pitwire.toml", &shipped));
    assert_none(&complaints);
}

#[test]
fn every_command_that_is_shown_exists_with_its_flags() {
    let Some(known) = commands::Known::of_this_build() else { return };
    let pages = project().into_iter().filter(|file| file.has_extension(&["md"]));
    assert_none(&pages.flat_map(|page| commands::complaints(&page, &known)).collect::<Vec<_>>());
}

#[test]
fn every_mutant_of_the_durability_code_applies_to_one_place() {
    let files = project();
    assert!(files.iter().any(|file| file.has_extension(&["mutant"])), "the mutants are found");
    assert_none(&mutants::complaints(&files));
}
