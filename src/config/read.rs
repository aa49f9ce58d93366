//! From a text to a configuration: reads what can be read, and says the rest in the words of this file's keys.
//!
//! Invariants: whatever is wrong is named once, with its line and, where it is a value, its whole key and
//! what would be right. What was passed over counts neither as missing nor as its default.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Config, FAULTS_MAX, Fault};

/// What could be read of a text.
pub(super) struct Reading<'a> {
    /// The configuration, if one is left.
    pub(super) config: Option<Config>,
    /// What it was made of.
    pub(super) root: Spanned<DeTable<'a>>,
    /// What is wrong so far.
    pub(super) faults: Vec<Fault>,
    /// The whole keys of what was passed over, such as `deliver.durable_within`.
    pub(super) passed_over: Vec<String>,
}

/// Reads as much as can be read: what cannot is noted, taken out and passed over, so that all faults are
/// named at once.
pub(super) fn read(text: &str) -> Reading<'_> {
    let line = |span: &Range<usize>| Some(text[..span.start.min(text.len())].matches('\n').count() + 1);
    let (mut root, errors) = DeTable::parse_recoverable(text);
    let mut faults = Vec::new();
    let mut passed_over = Vec::new();
    if !errors.is_empty() {
        // What the rest means is anybody's guess.
        let fault = |error: &toml::de::Error| Fault {
            line: error.span().as_ref().and_then(line),
            what: error.message().replace('\n', " "),
        };
        faults = errors.iter().take(FAULTS_MAX).map(fault).collect();
        return Reading { config: None, root, faults, passed_over };
    }
    // Keys are told from the whole: entries that were taken out would shift the others.
    let whole = root.clone();
    let mut taken: Vec<String> = Vec::new();
    // Each turn takes something out, and a file is finite; the bound is for the reader.
    while faults.len() < FAULTS_MAX {
        let error = match Config::deserialize(toml::Deserializer::from(root.clone())) {
            Ok(config) => return Reading { config: Some(config), root, faults, passed_over },
            Err(error) => error,
        };
        let span = error.span();
        let key = span.as_ref().and_then(|span| key_at(whole.get_ref(), span));
        let top = key.as_deref().map(|key| key.trim_end_matches("[0]"));
        let list = top.filter(|top| whole.get_ref().get(*top).is_some_and(|value| value.get_ref().is_array()));
        // A key that was taken out is not missing.
        let missed = taken.iter().any(|key| error.message().starts_with(&format!("missing field `{key}`")));
        if !missed {
            faults.push(Fault {
                line: span.as_ref().and_then(line),
                what: in_our_words(error.message(), key.as_deref(), list),
            });
        }
        passed_over.extend(key);
        match span.and_then(|span| take_out(root.get_mut(), &span)) {
            Some(key) => taken.push(key),
            None if !missed && error.message().starts_with("missing field `car`") => {
                root.get_mut().insert(spanned("car".into()), spanned(DeValue::String("car".into())));
                faults.last_mut().into_iter().for_each(|fault| fault.line = None);
            }
            None if missed && !root.get_ref().iter().any(|(key, _)| key.get_ref() == "car") => {
                root.get_mut().insert(spanned("car".into()), spanned(DeValue::String("car".into())));
            }
            None => break,
        }
    }
    Reading { config: None, root, faults, passed_over }
}

/// The whole key, such as `source.mqtt[0].topics[1]`, whose name or value is at `span`.
fn key_at(table: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let name = key.get_ref();
        if key.span() == *span {
            return Some(name.to_string());
        }
        below(value, span).map(|rest| format!("{name}{rest}"))
    })
}

/// What follows the key of `value` down to `span`: nothing, `.key` or `[index]`.
fn below(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<String> {
    let inside = match value.get_ref() {
        DeValue::Table(_) if value.span() == *span => None,
        DeValue::Table(inner) => key_at(inner, span).map(|rest| format!(".{rest}")),
        // A list of sections is said to be where its first entry is; the entry is meant.
        DeValue::Array(entries) => {
            let mut entries = entries.iter().enumerate();
            entries.find_map(|(index, entry)| below(entry, span).map(|rest| format!("[{index}]{rest}")))
        }
        _ => None,
    };
    inside.or_else(|| (value.span() == *span).then(String::new))
}

/// The message of the parser with the key, and with what would be right instead of the name of a type.
/// `list` is the key if it stands at the top and holds a list.
fn in_our_words(message: &str, key: Option<&str>, list: Option<&str>) -> String {
    let message = message.replace('\n', " ");
    let Some(key) = key else { return message };
    if message.starts_with("unknown field") {
        return message;
    }
    // It names the words that are possible.
    if message.starts_with("unknown variant") {
        return format!("{message} for {key}");
    }
    // The parser takes a list of sections for a section's values in a row, and wants the first.
    if let Some(key) = list.filter(|_| message.starts_with("invalid type: map")) {
        return format!("{key}: invalid type: list, expected a section that begins with [{key}], once");
    }
    let right = message.rsplit_once("expected ").and_then(|(before, kind)| Some((before, right(kind, key)?)));
    match right {
        Some((before, right)) => format!("{key}: {before}expected {right}"),
        None => format!("{key}: {message}"),
    }
}

/// What would be right where the parser expected `kind`.
fn right(kind: &str, key: &str) -> Option<String> {
    let whole = |max: u64| format!("a whole number from 0 to {max} without quotes");
    Some(match kind {
        "a duration" => r#"a duration, a text with a unit, e.g. "200ms" or "1s""#.into(),
        "parsable string" | "an integer or string" => {
            r#"a size, a text with a unit, e.g. "64MiB" or "2GiB", or a number of bytes"#.into()
        }
        "u8" => whole(u8::MAX.into()),
        "u16" => whole(u16::MAX.into()),
        "u32" => whole(u32::MAX.into()),
        "u64" => whole(i64::MAX.unsigned_abs()),
        "f64" => "a number without quotes, e.g. 0.1".into(),
        "a boolean" => "true or false, without quotes".into(),
        "path string" => r#"a path, an absolute one in quotes, e.g. "/var/lib/pitwire""#.into(),
        "a string" => r#"a text in quotes, e.g. "car44""#.into(),
        "a sequence" if key.ends_with("topics") => r#"a list of texts, e.g. ["pitwire/44/#"]"#.into(),
        "a sequence" => format!("a list, each entry of which begins with [[{key}]]"),
        section if section.starts_with("struct ") => format!("a section that begins with [{key}], once"),
        _ => return None,
    })
}

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

/// Takes out the entry whose key or value is at `span`; gives its key.
fn take_out(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    // The first entry of a list may be where the list is: then the others stay.
    let is_entry = |value: &DeValue<'_>| match value {
        DeValue::Array(entries) => entries.iter().any(|entry| entry.span() == *span),
        _ => false,
    };
    let here =
        table.iter().find(|(key, value)| key.span() == *span || (value.span() == *span && !is_entry(value.get_ref())));
    if let Some(key) = here.map(|(key, _)| key.clone()) {
        table.remove(&key);
        return Some(key.get_ref().to_string());
    }
    table.iter_mut().find_map(|(key, value)| match value.get_mut() {
        DeValue::Table(inner) => take_out(inner, span),
        DeValue::Array(entries) => {
            if entries.iter().any(|entry| entry.span() == *span) {
                *entries = entries.iter().filter(|entry| entry.span() != *span).cloned().collect();
                return Some(key.get_ref().to_string());
            }
            entries.iter_mut().find_map(|entry| match entry.get_mut() {
                DeValue::Table(inner) => take_out(inner, span),
                _ => None,
            })
        }
        _ => None,
    })
}

/// The line of a key such as `source.mqtt[0].url`, or of the nearest section that exists.
pub(super) fn line_of(text: &str, table: &DeTable<'_>, key: &str) -> Option<usize> {
    let mut table = table;
    let mut found = None;
    for part in key.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
            None => (part, None),
        };
        let (spanned_key, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
        found = Some(spanned_key.span().start);
        let value = match (value.get_ref(), index) {
            (DeValue::Array(array), Some(index)) => {
                let entry = array.get(index)?;
                found = Some(entry.span().start);
                entry.get_ref()
            }
            (value, _) => value,
        };
        match value {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
        let next = key.split('.').skip_while(|p| *p != part).nth(1);
        let exists = next.is_some_and(|next| {
            let name = next.split('[').next().unwrap_or(next);
            table.iter().any(|(key, _)| key.get_ref() == name)
        });
        if !exists {
            break;
        }
    }
    found.map(|at| text[..at].matches('\n').count() + 1)
}
