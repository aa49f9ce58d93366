//! Describe: the channel catalogue, in parts.

use bincode::{Decode, Encode};

use crate::codec::{In, Out};
use crate::error::{DecodeError, EncodeError};
use crate::limits::{
    CATALOGUE_CHANNELS_MAX, CHANNEL_FIXED_BYTES, CHANNEL_NAME_BYTES_MAX, DESCRIBE_FIXED_BYTES, UNIT_BYTES_MAX,
    payload_bytes_max,
};
use crate::name::is_name;
use crate::value::ValueKind;

/// What the device's times count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClockBase {
    /// Disciplined: µs of UTC since 1970.
    Utc,
    /// µs since the device started.
    Boot,
}

impl ClockBase {
    const fn code(self) -> u8 {
        match self {
            Self::Utc => 0,
            Self::Boot => 1,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Utc),
            1 => Some(Self::Boot),
            _ => None,
        }
    }
}

/// One channel of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChannelEntry<'a> {
    /// The channel's number in Burst frames and its place in a Scan's rows.
    pub id: u16,
    /// How its raw values are sent.
    pub kind: ValueKind,
    /// The group whose Scans it is in; 0 if it is sent in Bursts only.
    pub group: u8,
    /// Physical value = raw × scale + offset. Finite.
    pub scale: f64,
    /// See `scale`. Finite.
    pub offset: f64,
    /// Nominal rate in millihertz; 0 if irregular.
    pub rate_mhz: u32,
    /// 1 to 48 bytes of `[a-z0-9._-]`, unique in the device.
    pub name: &'a str,
    /// 0 to 16 bytes of UTF-8, such as `°C`.
    pub unit: &'a str,
}

#[derive(Encode, Decode)]
struct ChannelFixed {
    id: u16,
    kind: u8,
    group: u8,
    scale: f64,
    offset: f64,
    rate_mhz: u32,
}

impl<'a> ChannelEntry<'a> {
    /// Bytes of the entry in a Describe.
    #[must_use]
    pub const fn encoded_bytes(&self) -> usize {
        CHANNEL_FIXED_BYTES + self.name.len() + self.unit.len()
    }

    fn check(&self) -> Result<(), &'static str> {
        if !self.scale.is_finite() {
            Err("scale")
        } else if !self.offset.is_finite() {
            Err("offset")
        } else if !is_name(self.name, CHANNEL_NAME_BYTES_MAX) {
            Err("name")
        } else if self.unit.len() > UNIT_BYTES_MAX {
            Err("unit")
        } else {
            Ok(())
        }
    }

    fn write(&self, out: &mut Out<'_>) -> Result<(), EncodeError> {
        out.put(ChannelFixed {
            id: self.id,
            kind: self.kind.code(),
            group: self.group,
            scale: self.scale,
            offset: self.offset,
            rate_mhz: self.rate_mhz,
        })?;
        out.put_str8(self.name, "name")?;
        out.put_str8(self.unit, "unit")
    }

    fn read(input: &mut In<'a>) -> Result<Self, DecodeError> {
        let fixed: ChannelFixed = input.take()?;
        Ok(Self {
            id: fixed.id,
            kind: ValueKind::from_code(fixed.kind).ok_or(DecodeError::Field("value_kind"))?,
            group: fixed.group,
            scale: fixed.scale,
            offset: fixed.offset,
            rate_mhz: fixed.rate_mhz,
            name: input.take_str8("name")?,
            unit: input.take_str8("unit")?,
        })
    }
}

/// A part of the channel catalogue. Together the parts list every channel once, in ascending id.
#[derive(Debug, Clone, Copy)]
pub struct Describe<'a> {
    /// Which part, from 0.
    pub part: u8,
    /// How many parts, at least 1.
    pub parts: u8,
    /// What the device's times count from.
    pub clock_base: ClockBase,
    /// Channels in all parts together, at most 1,024.
    pub total_channels: u16,
    entries: Entries<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Entries<'a> {
    Native(&'a [ChannelEntry<'a>]),
    /// Entries in a frame; each was read once when the frame was decoded.
    Wire {
        count: u8,
        bytes: &'a [u8],
    },
}

#[derive(Encode, Decode)]
struct DescribeFixed {
    part: u8,
    parts: u8,
    clock_base: u8,
    total_channels: u16,
    count: u8,
}

impl<'a> Describe<'a> {
    /// A part with the given channels. It is checked when it is encoded.
    #[must_use]
    pub const fn new(
        part: u8,
        parts: u8,
        clock_base: ClockBase,
        total_channels: u16,
        channels: &'a [ChannelEntry<'a>],
    ) -> Self {
        Self { part, parts, clock_base, total_channels, entries: Entries::Native(channels) }
    }

    /// How many channels this part lists.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.entries {
            Entries::Native(channels) => channels.len(),
            Entries::Wire { count, .. } => count as usize,
        }
    }

    /// Whether this part lists none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The channels of this part, in ascending id.
    pub fn channels(&self) -> impl Iterator<Item = ChannelEntry<'a>> + Clone + 'a {
        let (native, wire) = match self.entries {
            Entries::Native(channels) => (channels, In::new(&[])),
            Entries::Wire { bytes, .. } => (&[][..], In::new(bytes)),
        };
        // Reading ends with the bytes: all of them were read once already, so none fails.
        let wire = core::iter::successors(Some((wire, None)), |(input, _)| {
            let mut input = input.clone();
            let entry = ChannelEntry::read(&mut input).ok()?;
            Some((input, Some(entry)))
        });
        native.iter().copied().chain(wire.filter_map(|(_, entry)| entry))
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.part >= self.parts {
            return Err("part");
        }
        let total = usize::from(self.total_channels);
        if total > CATALOGUE_CHANNELS_MAX || self.len() > total {
            return Err("total_channels");
        }
        let mut last_id = None;
        for channel in self.channels() {
            channel.check()?;
            if last_id >= Some(channel.id) {
                return Err("channel id");
            }
            last_id = Some(channel.id);
        }
        Ok(())
    }

    pub(super) fn write(&self, out: &mut Out<'_>) -> Result<(), EncodeError> {
        out.put(DescribeFixed {
            part: self.part,
            parts: self.parts,
            clock_base: self.clock_base.code(),
            total_channels: self.total_channels,
            count: u8::try_from(self.len()).map_err(|_| EncodeError::Field("count"))?,
        })?;
        match self.entries {
            Entries::Native(channels) => channels.iter().try_for_each(|c| c.write(out)),
            Entries::Wire { bytes, .. } => out.put_bytes(bytes),
        }
    }

    pub(super) fn read(input: &mut In<'a>) -> Result<Self, DecodeError> {
        let fixed: DescribeFixed = input.take()?;
        let bytes = input.rest();
        for _ in 0..fixed.count {
            ChannelEntry::read(input)?;
        }
        let bytes = &bytes[..bytes.len() - input.rest().len()];
        Ok(Self {
            part: fixed.part,
            parts: fixed.parts,
            clock_base: ClockBase::from_code(fixed.clock_base).ok_or(DecodeError::Field("clock_base"))?,
            total_channels: fixed.total_channels,
            entries: Entries::Wire { count: fixed.count, bytes },
        })
    }
}

impl PartialEq for Describe<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.part, self.parts, self.clock_base, self.total_channels)
            == (other.part, other.parts, other.clock_base, other.total_channels)
            && self.channels().eq(other.channels())
    }
}

/// The revision of a catalogue: the CRC-32 over the encoded entries of all channels in id order.
///
/// # Errors
/// [`EncodeError::Field`] if an entry cannot be encoded.
pub fn catalogue_revision(channels: &[ChannelEntry<'_>]) -> Result<u32, EncodeError> {
    const ENTRY_BYTES_MAX: usize = CHANNEL_FIXED_BYTES + CHANNEL_NAME_BYTES_MAX + UNIT_BYTES_MAX;
    let mut crc = crc32fast::Hasher::new();
    for channel in channels {
        channel.check().map_err(EncodeError::Field)?;
        let mut buffer = [0; ENTRY_BYTES_MAX];
        let mut out = Out::new(&mut buffer);
        channel.write(&mut out)?;
        crc.update(out.written());
    }
    Ok(crc.finalize())
}

/// Cuts a catalogue into Describe parts that fit in frames of `frame_bytes`.
///
/// `channels` is the whole catalogue in ascending id.
///
/// # Errors
/// [`EncodeError::Field`] if there are more than 1,024 channels or more than 255 parts, or
/// [`EncodeError::TooLong`] if `frame_bytes` has no room for an entry.
pub fn describe_parts<'a>(
    channels: &'a [ChannelEntry<'a>],
    clock_base: ClockBase,
    frame_bytes: usize,
    device_bytes: usize,
) -> Result<DescribeParts<'a>, EncodeError> {
    if channels.len() > CATALOGUE_CHANNELS_MAX {
        return Err(EncodeError::Field("total_channels"));
    }
    let room = payload_bytes_max(frame_bytes, device_bytes).saturating_sub(DESCRIBE_FIXED_BYTES);
    let mut parts = 0_u16;
    let mut rest = channels;
    while !rest.is_empty() {
        let n = fitting(rest, room);
        if n == 0 {
            return Err(EncodeError::TooLong);
        }
        rest = &rest[n..];
        parts += 1;
    }
    Ok(DescribeParts {
        rest: channels,
        room,
        part: 0,
        // A device without channels still says so, and states its clock's base.
        parts: u8::try_from(parts.max(1)).map_err(|_| EncodeError::Field("parts"))?,
        clock_base,
        // Not more than CATALOGUE_CHANNELS_MAX, see above.
        total_channels: channels.len() as u16,
    })
}

/// How many of the first channels fit in `room` bytes and in the count's `u8`.
fn fitting(channels: &[ChannelEntry<'_>], room: usize) -> usize {
    let mut used = 0;
    channels
        .iter()
        .take(usize::from(u8::MAX))
        .take_while(|channel| {
            used += channel.encoded_bytes();
            used <= room
        })
        .count()
}

/// The parts of a catalogue: see [`describe_parts`].
#[derive(Debug, Clone)]
pub struct DescribeParts<'a> {
    rest: &'a [ChannelEntry<'a>],
    room: usize,
    part: u8,
    parts: u8,
    clock_base: ClockBase,
    total_channels: u16,
}

impl<'a> Iterator for DescribeParts<'a> {
    type Item = Describe<'a>;

    fn next(&mut self) -> Option<Describe<'a>> {
        if self.part == self.parts {
            return None;
        }
        let (now, rest) = self.rest.split_at(fitting(self.rest, self.room));
        let part = self.part;
        self.rest = rest;
        self.part += 1;
        Some(Describe::new(part, self.parts, self.clock_base, self.total_channels, now))
    }
}
