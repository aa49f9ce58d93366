//! The text of a message, taken in one pass: numbers into one list, what numbers cannot hold into another. Nothing is
//! allocated for a key or a number.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::text;

/// Integers up to here are exact in f64.
const EXACT_INTEGER_MAX: u64 = 1 << 53;
/// 2^63 µs in ms, rounded down: later times do not fit.
const MS_MAX: f64 = 9.2e15;
const EXPECTED: &str = r#"expected {"ts": ms, "values": {"channel": number}} or an array of them"#;

/// Finds a channel's number by its name, or says why it can have none.
pub(super) type Find<'a> = dyn FnMut(&str) -> Result<u32, String> + 'a;

/// A record: `{"ts": ms, "values": {…}}`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Record {
    /// µs since 1970; none if it names no time.
    pub(super) t_us: Option<i64>,
    /// Ends of its numbers and texts in the lists; they begin where the record before ends.
    pub(super) numbers: usize,
    pub(super) texts: usize,
}

/// A message, understood. It is used again, so that its lists are allocated once.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) records: Vec<Record>,
    /// (channel, value)
    pub(super) numbers: Vec<(u32, f64)>,
    /// `name=text`
    pub(super) texts: Vec<String>,
    /// By channel, where its last number lies, if it does.
    places: Vec<usize>,
}

impl Message {
    /// Takes the message `payload`.
    ///
    /// # Errors
    /// If it is none; what was taken of it is to be let go.
    pub(super) fn take(&mut self, payload: &[u8], find: &mut Find<'_>) -> Result<(), String> {
        self.records.clear();
        self.numbers.clear();
        self.texts.clear();
        let mut fault = None;
        let mut source = serde_json::Deserializer::from_slice(payload);
        let taken = OneOrMany(Taking { into: self, find, fault: &mut fault }).deserialize(&mut source);
        match (taken.and_then(|()| source.end()), fault) {
            (_, Some(reason)) => Err(reason),
            (Ok(()), None) => Ok(()),
            (Err(error), None) if error.is_data() => Err(EXPECTED.into()),
            (Err(error), None) => Err(format!("not json: {error}")),
        }
    }
}

/// What all visitors share.
struct Taking<'a, 'f> {
    into: &'a mut Message,
    find: &'a mut Find<'f>,
    /// What is wrong with what it says, the first.
    fault: &'a mut Option<String>,
}

impl<'f> Taking<'_, 'f> {
    fn again(&mut self) -> Taking<'_, 'f> {
        Taking { into: self.into, find: self.find, fault: self.fault }
    }

    fn wrong(&mut self, reason: String) {
        self.fault.get_or_insert(reason);
    }
}

struct OneOrMany<'a, 'f>(Taking<'a, 'f>);

impl<'de> DeserializeSeed<'de> for OneOrMany<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OneOrMany<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        OneRecord(self.0).visit_map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(OneRecord(self.0.again()))?.is_some() {}
        Ok(())
    }
}

struct OneRecord<'a, 'f>(Taking<'a, 'f>);

impl<'de> DeserializeSeed<'de> for OneRecord<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneRecord<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let (mut ms, mut has_ts, mut has_values) = (None, false, false);
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "ts" => {
                    let twice = std::mem::replace(&mut has_ts, true);
                    ms = map.next_value::<Option<f64>>()?;
                    if twice {
                        self.0.wrong("ts is named twice".into());
                    }
                }
                "values" => {
                    if std::mem::replace(&mut has_values, true) {
                        self.0.wrong("values is named twice".into());
                    }
                    map.next_value_seed(Values(self.0.again()))?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if !has_values {
            return Err(A::Error::missing_field("values"));
        }
        let t_us = match ms {
            Some(ms) if ms.is_finite() && ms.abs() < MS_MAX => Some((ms * 1000.0).round() as i64),
            Some(ms) => {
                self.0.wrong(format!("ts {ms} is not a time in ms since 1970"));
                None
            }
            None => None,
        };
        let message = self.0.into;
        message.records.push(Record { t_us, numbers: message.numbers.len(), texts: message.texts.len() });
        Ok(())
    }
}

/// A key, which is copied only if it has escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(key)))
    }

    fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(key.to_owned())))
    }
}

/// `{"channel": number, …}`
struct Values<'a, 'f>(Taking<'a, 'f>);

impl<'de> DeserializeSeed<'de> for Values<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Values<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("values by channel")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(name)) = map.next_key()? {
            map.next_value_seed(Value { name: &name, taking: self.0.again() })?;
        }
        Ok(())
    }
}

/// A channel's value.
struct Value<'a, 'f, 'n> {
    name: &'n str,
    taking: Taking<'a, 'f>,
}

impl Value<'_, '_, '_> {
    fn number(mut self, value: f64) {
        let channel = match (self.taking.find)(self.name) {
            Ok(channel) => channel,
            Err(reason) => return self.taking.wrong(reason),
        };
        let message = self.taking.into;
        let of_record = message.records.last().map_or(0, |before| before.numbers);
        let at = channel as usize;
        if message.places.len() <= at {
            message.places.resize(at + 1, 0);
        }
        // Of a number that a record names twice the last counts, as JSON's readers have it.
        match message.numbers.get_mut(message.places[at]) {
            Some(twice) if twice.0 == channel && message.places[at] >= of_record => twice.1 = value,
            _ => {
                message.places[at] = message.numbers.len();
                message.numbers.push((channel, value));
            }
        }
    }

    fn words(mut self, words: &str) {
        match text(self.name, words) {
            Ok(text) => self.taking.into.texts.push(text),
            Err(reason) => self.taking.wrong(reason),
        }
    }

    fn neither(mut self) {
        let reason = format!("value of {} is neither a number nor a text", self.name);
        self.taking.wrong(reason);
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a truth, a text or null")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, on: bool) -> Result<(), E> {
        self.number(f64::from(u8::from(on)));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.number(value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        match value <= EXACT_INTEGER_MAX {
            true => self.number(value as f64),
            false => self.words(&value.to_string()),
        }
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        match value.unsigned_abs() <= EXACT_INTEGER_MAX {
            true => self.number(value as f64),
            false => self.words(&value.to_string()),
        }
        Ok(())
    }

    fn visit_str<E>(self, words: &str) -> Result<(), E> {
        self.words(words);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.neither();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.neither();
        Ok(())
    }
}
