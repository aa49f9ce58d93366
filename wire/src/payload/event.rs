//! Event and Status: what happened on the car, and what happened to the device.

use bincode::{Decode, Encode};

use crate::codec::{In, Out};
use crate::error::{DecodeError, EncodeError};

/// What kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A lap began; the number is the lap's.
    Lap,
    /// A session began; the number is the session's.
    Session,
    /// Someone or something marked this moment.
    Marker,
    /// A message for people.
    Text,
}

impl EventKind {
    const fn code(self) -> u8 {
        match self {
            Self::Lap => 1,
            Self::Session => 2,
            Self::Marker => 3,
            Self::Text => 4,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Lap),
            2 => Some(Self::Session),
            3 => Some(Self::Marker),
            4 => Some(Self::Text),
            _ => None,
        }
    }
}

/// Something that happened at the frame's `t0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// What kind.
    pub kind: EventKind,
    /// Number of the lap, the session and so on; 0 if it has none.
    pub number: i64,
    /// Words, at most 255 bytes of UTF-8; may be empty.
    pub text: &'a str,
}

#[derive(Encode, Decode)]
struct EventFixed {
    kind: u8,
    number: i64,
}

impl<'a> Event<'a> {
    pub(super) fn write(&self, out: &mut Out<'_>) -> Result<(), EncodeError> {
        out.put(EventFixed { kind: self.kind.code(), number: self.number })?;
        out.put_str8(self.text, "text")
    }

    pub(super) fn read(input: &mut In<'a>) -> Result<Self, DecodeError> {
        let fixed: EventFixed = input.take()?;
        Ok(Self {
            kind: EventKind::from_code(fixed.kind).ok_or(DecodeError::Field("event_kind"))?,
            number: fixed.number,
            text: input.take_str8("text")?,
        })
    }
}

/// The device's own account, with which a receiver states exactly what it misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Status {
    /// Samples in all frames of this boot with a smaller sequence, dropped frames included.
    pub samples_before: u64,
    /// Of these, the samples that the device dropped by itself.
    pub samples_dropped: u64,
    /// Resets of the device that it knows of (watchdog, brown-out).
    pub resets: u32,
}

impl Status {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.samples_dropped > self.samples_before {
            return Err("samples_dropped");
        }
        Ok(())
    }

    pub(super) fn write(&self, out: &mut Out<'_>) -> Result<(), EncodeError> {
        out.put(self)
    }

    pub(super) fn read(input: &mut In<'_>) -> Result<Self, DecodeError> {
        input.take()
    }
}
