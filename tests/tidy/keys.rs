//! The configuration's keys against `docs/configuration.md`, and every configuration that a page shows.
//!
//! The program itself says which keys there are: asked for one that does not exist, it names those that do.

use std::collections::{BTreeMap, BTreeSet};

use pitwire::config::Config;

use crate::File;

/// A key that no section has.
const NO_KEY: &str = "no-such-key";

/// Keys without a default, with a value to put in their place.
const REQUIRED: &[(&str, &str)] = &[
    ("car", r#""44""#),
    ("preprocess.anomaly.channel", r#""a""#),
    ("preprocess.calibrate.channel", r#""a""#),
    ("preprocess.validate.channel", r#""a""#),
    ("preprocess.derive.name", r#""a""#),
    ("preprocess.derive.expression", r#""b + c""#),
    ("preprocess.decimate.channel", r#""a""#),
    ("preprocess.decimate.every", "2"),
    ("source.serial.name", r#""s""#),
    ("source.serial.path", r#""/dev/s""#),
    ("source.mqtt.name", r#""m""#),
    ("source.mqtt.url", r#""mqtt://127.0.0.1""#),
    ("source.mqtt.topics", r#"["a"]"#),
    ("source.mqtt.tls.ca", r#""/ca.pem""#),
];

/// Keys whose default is a value that nobody would write.
const UNWRITTEN: &[(&str, &str)] = &[
    ("preprocess.validate.min", "the lowest number: no bound"),
    ("preprocess.validate.max", "the highest number: no bound"),
];

/// Sections that are absent unless they are needed.
const OPTIONAL: &[&str] = &["source.mqtt.tls"];

/// A section's place: names from the top, and whether each is a list of tables.
#[derive(Debug, Clone, Default, PartialEq)]
struct Place(Vec<(String, bool)>);

impl Place {
    fn below(&self, name: &str, list: bool) -> Self {
        let mut place = self.clone();
        place.0.push((name.into(), list));
        place
    }

    fn path(&self, key: &str) -> String {
        let names = self.0.iter().map(|(name, _)| name.as_str());
        names.chain((!key.is_empty()).then_some(key)).collect::<Vec<_>>().join(".")
    }

    /// The headers that open it.
    fn headers(&self) -> String {
        let mut headers = String::new();
        for (index, (_, list)) in self.0.iter().enumerate() {
            let path = Self(self.0[..=index].to_vec()).path("");
            match list {
                true => headers += &format!("[[{path}]]\n"),
                false if index + 1 == self.0.len() => headers += &format!("[{path}]\n"),
                false => {}
            }
        }
        headers
    }

    /// What the program says to `line` in this place.
    fn answer(&self, line: &str) -> Vec<String> {
        let faults = Config::parse(&format!("{}{line}\n", self.headers())).err().unwrap_or_default();
        faults.into_iter().map(|fault| fault.what).collect()
    }

    /// Its keys, or `None` if it is no section.
    fn keys(&self) -> Option<Vec<String>> {
        let unknown = format!("unknown field `{NO_KEY}`");
        let answer = self.answer(&format!("{NO_KEY} = 1"));
        answer.iter().find_map(|what| Some(in_backticks(what.strip_prefix(&unknown)?)))
    }
}

fn in_backticks(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every key by its path, with the words that it takes where it takes one of a few.
fn real_keys() -> BTreeMap<String, Vec<String>> {
    let mut keys = BTreeMap::new();
    let mut places = vec![Place::default()];
    while let Some(place) = places.pop() {
        for key in place.keys().expect("it was found to be a section") {
            let inside = [false, true].map(|list| place.below(&key, list)).into_iter().find(|p| p.keys().is_some());
            match inside {
                Some(section) => places.push(section),
                None => {
                    let unknown = format!("unknown variant `{NO_KEY}`");
                    let answer = place.answer(&format!("{key} = \"{NO_KEY}\""));
                    let words = answer.iter().find_map(|what| Some(in_backticks(what.strip_prefix(&unknown)?)));
                    keys.insert(place.path(&key), words.unwrap_or_default());
                }
            }
        }
    }
    keys
}

/// A documented key.
#[derive(Debug)]
struct Row {
    header: String,
    path: String,
    key: String,
    default: Option<String>,
    text: String,
}

/// The rows of the page's tables, each under the section that the heading above it names.
fn rows(page: &str) -> Vec<Row> {
    let (mut rows, mut section) = (Vec::new(), None);
    for line in page.lines() {
        if line.starts_with('#') {
            let named = in_backticks(line).into_iter().find(|name| name.starts_with('['));
            section = named.or_else(|| (line == "## Top level").then(String::new));
            continue;
        }
        let Some(header) = &section else { continue };
        let mut cells = line.trim().trim_start_matches('|').split(" | ");
        let Some(key) = cells.next().map(str::trim).filter(|_| line.starts_with("| `")) else { continue };
        let key = key.trim_matches('`').to_owned();
        let default = cells.next().map(str::trim).and_then(|cell| cell.strip_prefix('`')?.strip_suffix('`'));
        let section = header.trim_matches(['[', ']']);
        let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
        let default = default.map(str::to_owned);
        rows.push(Row { header: header.clone(), path, key, default, text: line.into() });
    }
    rows
}

/// A configuration of what is required, and of the documented defaults if `with_defaults`.
fn written_out(rows: &[Row], with_defaults: bool) -> String {
    let (mut text, mut header) = (String::new(), "");
    let optional = |row: &Row| OPTIONAL.iter().any(|section| row.path.starts_with(section));
    for row in rows.iter().filter(|row| !optional(row)) {
        if row.header != header {
            header = &row.header;
            text += &format!("{header}\n");
        }
        let required = REQUIRED.iter().find(|(path, _)| *path == row.path).map(|(_, value)| *value);
        let value = required.or(row.default.as_deref().filter(|_| with_defaults));
        if let Some(value) = value {
            text += &format!("{} = {value}\n", row.key);
        }
    }
    text
}

fn leaves(table: &toml::Table, prefix: &str, out: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => leaves(inner, &path, out),
            toml::Value::Array(list) if list.first().is_some_and(toml::Value::is_table) => {
                list.iter().filter_map(toml::Value::as_table).for_each(|inner| leaves(inner, &path, out));
            }
            _ => drop(out.insert(path)),
        }
    }
}

pub(crate) fn complaints(page: &str) -> Vec<String> {
    let (real, rows) = (real_keys(), rows(page));
    let mut complaints = Vec::new();
    for (path, words) in &real {
        match rows.iter().filter(|row| row.path == *path).collect::<Vec<_>>()[..] {
            [] => complaints.push(format!("docs/configuration.md: the key {path} is not documented")),
            [row] => {
                let absent = words.iter().filter(|word| !row.text.contains(&format!("`\"{word}\"`")));
                complaints
                    .extend(absent.map(|word| format!("docs/configuration.md: {path} can be `\"{word}\"`: say so")));
            }
            _ => complaints.push(format!("docs/configuration.md: the key {path} is documented twice")),
        }
    }
    let unknown = rows.iter().filter(|row| !real.contains_key(&row.path));
    complaints.extend(unknown.map(|row| format!("docs/configuration.md: there is no key {}", row.path)));
    if !complaints.is_empty() {
        return complaints;
    }
    let (plain, full) = (Config::parse(&written_out(&rows, false)), Config::parse(&written_out(&rows, true)));
    let (plain, full) = match (plain, full) {
        (Ok(plain), Ok(full)) => (plain, full),
        (Err(faults), _) | (_, Err(faults)) => {
            let what = |fault: pitwire::config::Fault| format!("docs/configuration.md: as documented: {}", fault.what);
            return faults.into_iter().map(what).collect();
        }
    };
    let table = |config: &Config| toml::Table::try_from(config).expect("a configuration can be written");
    let (plain, full) = (table(&plain), table(&full));
    let mut with_default = BTreeSet::new();
    leaves(&plain, "", &mut with_default);
    for path in with_default {
        let said = rows.iter().any(|row| row.path == path && row.default.is_some());
        let elsewhere = REQUIRED.iter().chain(UNWRITTEN).any(|(known, _)| *known == path);
        if !said && !elsewhere {
            complaints.push(format!("docs/configuration.md: {path} has a default that its row does not state"));
        }
    }
    if plain != full {
        complaints.push(format!("docs/configuration.md: its defaults are not the program's:\n{plain}\nand\n{full}"));
    }
    complaints
}

/// What is wrong with one shown configuration; what it leaves out is added.
pub(crate) fn example(place: &str, text: &str) -> Vec<String> {
    let car = if text.lines().any(|line| line.starts_with("car ")) { "" } else { "car = \"44\"\n" };
    let source = if text.contains("[[source.") { "" } else { "\n[[source.serial]]\nname = \"s\"\npath = \"/dev/s\"\n" };
    let faults = Config::parse(&format!("{car}{text}{source}")).err().unwrap_or_default();
    faults.into_iter().map(|fault| format!("{place}: {}", fault.what)).collect()
}

/// The same for every block of TOML on a page.
pub(crate) fn examples(page: &File) -> Vec<String> {
    let blocks = page.text.split("```toml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    blocks.filter(|block| !block.contains("[dependencies]")).flat_map(|block| example(&page.path, block)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    #[test]
    fn the_program_names_all_its_keys() {
        let keys = real_keys();
        for known in ["car", "agent", "spill.disk_max", "source.mqtt.tls.ca", "preprocess.validate.action"] {
            assert!(keys.contains_key(known), "{known} in {keys:?}");
        }
        assert_eq!(keys["source.serial.format"], ["wire", "json"]);
        assert!(!keys.contains_key("spill"), "a section is no key");
    }

    #[test]
    fn a_key_that_is_missing_invented_or_has_another_default_is_found() {
        let page = std::fs::read_to_string(crate::root().join("docs/configuration.md")).unwrap();
        let check = |from: &str, to: &str, expected: &str| {
            assert!(page.contains(from), "{from}");
            let found = complaints(&page.replace(from, to));
            assert!(found.iter().any(|found| found.contains(expected)), "{expected} in {found:?}");
        };
        check("| `flush_after` |", "| `flush_aftr` |", "the key deliver.flush_after is not documented");
        check("| `flush_after` |", "| `flush_aftr` |", "there is no key deliver.flush_aftr");
        check("| `\"200ms\"` |", "| `\"300ms\"` |", "defaults are not the program's");
        check("| `\"200ms\"` |", "| none |", "has a default that its row does not state");
        check("`\"drop-newest\"`", "`\"drop-new\"`", "spill.overflow can be `\"drop-newest\"`");
    }

    #[test]
    fn a_shown_configuration_with_a_wrong_key_is_found() {
        let page = |line: &str| file("a.md", &format!("```toml\n[deliver]\n{line}\n```\n"));
        assert_eq!(examples(&page("flush_after = \"100ms\"")), [""; 0]);
        assert!(examples(&page("flush_aftr = \"100ms\""))[0].contains("unknown field"));
    }
}
