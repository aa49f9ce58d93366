//! What a frame says: one file per group of kinds.
//!
//! Each kind has `write`, `read` and `check`. `check` holds the rules that both directions share:
//! it runs before writing and after reading.

mod describe;
mod event;
mod samples;

pub use describe::{ChannelEntry, ClockBase, Describe, DescribeParts, catalogue_revision, describe_parts};
pub use event::{Event, EventKind, Status};
pub use samples::{Burst, Scan, ScanWriter};

use crate::codec::{In, Out};
use crate::error::{DecodeError, EncodeError};

/// The kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// A part of the channel catalogue.
    Describe,
    /// One channel, many times.
    Burst,
    /// A group of channels, one or more times.
    Scan,
    /// Lap, session, marker, text.
    Event,
    /// What the device itself has dropped, and its resets.
    Status,
}

impl FrameKind {
    /// All kinds, in the order of their bytes.
    pub const ALL: [Self; 5] = [Self::Describe, Self::Burst, Self::Scan, Self::Event, Self::Status];

    /// The kind's byte on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Describe => 1,
            Self::Burst => 2,
            Self::Scan => 3,
            Self::Event => 4,
            Self::Status => 5,
        }
    }

    /// The kind of a byte on the wire.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Describe),
            2 => Some(Self::Burst),
            3 => Some(Self::Scan),
            4 => Some(Self::Event),
            5 => Some(Self::Status),
            _ => None,
        }
    }

    /// Its name in lower case, for counters and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Burst => "burst",
            Self::Scan => "scan",
            Self::Event => "event",
            Self::Status => "status",
        }
    }
}

/// What a frame says. Decoded payloads borrow from the frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload<'a> {
    /// A part of the channel catalogue.
    Describe(Describe<'a>),
    /// One channel, many times.
    Burst(Burst<'a>),
    /// A group of channels, one or more times.
    Scan(Scan<'a>),
    /// Lap, session, marker, text.
    Event(Event<'a>),
    /// What the device itself has dropped, and its resets.
    Status(Status),
}

impl<'a> Payload<'a> {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> FrameKind {
        match self {
            Self::Describe(_) => FrameKind::Describe,
            Self::Burst(_) => FrameKind::Burst,
            Self::Scan(_) => FrameKind::Scan,
            Self::Event(_) => FrameKind::Event,
            Self::Status(_) => FrameKind::Status,
        }
    }

    /// The rules both directions share; the name of the field that breaks one.
    pub(crate) fn check(&self, t0_us: i64) -> Result<(), &'static str> {
        match self {
            Self::Describe(p) => p.check(),
            Self::Burst(p) => p.check(t0_us),
            Self::Scan(p) => p.check(t0_us),
            Self::Event(_) => Ok(()),
            Self::Status(p) => p.check(),
        }
    }

    pub(crate) fn write(&self, out: &mut Out<'_>) -> Result<(), EncodeError> {
        match self {
            Self::Describe(p) => p.write(out),
            Self::Burst(p) => p.write(out),
            Self::Scan(p) => p.write(out),
            Self::Event(p) => p.write(out),
            Self::Status(p) => p.write(out),
        }
    }

    pub(crate) fn read(kind: FrameKind, input: &mut In<'a>) -> Result<Self, DecodeError> {
        Ok(match kind {
            FrameKind::Describe => Self::Describe(Describe::read(input)?),
            FrameKind::Burst => Self::Burst(Burst::read(input)?),
            FrameKind::Scan => Self::Scan(Scan::read(input)?),
            FrameKind::Event => Self::Event(Event::read(input)?),
            FrameKind::Status => Self::Status(Status::read(input)?),
        })
    }
}
