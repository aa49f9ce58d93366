//! Burst and Scan: the samples themselves.
//!
//! Both place sample `i` at `t0 + (i × period_ns) div 1000` µs. The period is in nanoseconds so
//! that rates such as 3,667 Hz do not drift within a frame.

use bincode::{Decode, Encode};

use crate::codec::{In, Out};
use crate::error::{DecodeError, EncodeError};
use crate::limits::PERIOD_NS_MIN;
use crate::value::{Value, ValueKind, Values, WireValues};

/// Device time of sample `i` in µs. Saturates, but never does so in a frame that was accepted.
fn sample_time_us(t0_us: i64, period_ns: u32, i: usize) -> i64 {
    t0_us.saturating_add_unsigned((i as u64).saturating_mul(u64::from(period_ns)) / 1000)
}

/// Times must increase strictly and stay inside an `i64`.
fn check_times(t0_us: i64, period_ns: u32, count: usize) -> Result<(), &'static str> {
    if count > usize::from(u16::MAX) {
        return Err("count");
    }
    if count > 1 && period_ns < PERIOD_NS_MIN {
        return Err("period_ns");
    }
    let last = count.saturating_sub(1) as u64 * u64::from(period_ns) / 1000;
    match t0_us.checked_add_unsigned(last) {
        Some(_) => Ok(()),
        None => Err("t0"),
    }
}

/// One channel, many times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burst<'a> {
    /// The channel's id in the catalogue.
    pub channel: u16,
    /// Time between two samples in ns; at least 1,000 if there are two.
    pub period_ns: u32,
    /// The samples; their kind must be the channel's.
    pub values: Values<'a>,
}

#[derive(Encode, Decode)]
struct BurstFixed {
    channel: u16,
    kind: u8,
    period_ns: u32,
    count: u16,
}

impl<'a> Burst<'a> {
    /// Device time of sample `i` in µs, with the header's `t0`.
    #[must_use]
    pub fn time_us(&self, t0_us: i64, i: usize) -> i64 {
        sample_time_us(t0_us, self.period_ns, i)
    }

    pub(super) fn check(&self, t0_us: i64) -> Result<(), &'static str> {
        check_times(t0_us, self.period_ns, self.values.len())
    }

    pub(super) fn write(&self, out: &mut Out<'_>) -> Result<(), EncodeError> {
        out.put(BurstFixed {
            channel: self.channel,
            kind: self.values.kind().code(),
            period_ns: self.period_ns,
            count: u16::try_from(self.values.len()).map_err(|_| EncodeError::Field("count"))?,
        })?;
        self.values.write(out)
    }

    pub(super) fn read(input: &mut In<'a>) -> Result<Self, DecodeError> {
        let fixed: BurstFixed = input.take()?;
        let kind = ValueKind::from_code(fixed.kind).ok_or(DecodeError::Field("value_kind"))?;
        let count = usize::from(fixed.count);
        let bytes = input.take_bytes(count * kind.bytes())?;
        let values = WireValues::new(kind, kind.bytes(), count, bytes).ok_or(DecodeError::Overrun)?;
        Ok(Self { channel: fixed.channel, period_ns: fixed.period_ns, values: Values::Wire(values) })
    }
}

/// A declared group of channels, one or more times.
///
/// The data are rows, one per time; a row holds the group's channels in ascending id, each in its
/// own kind, without gaps. Only the catalogue knows a row's columns: see [`Scan::column`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan<'a> {
    /// The group, as its channels declare it in the catalogue; never 0.
    pub group: u8,
    /// Time between two rows in ns; at least 1,000 if there are two.
    pub period_ns: u32,
    /// Rows.
    pub count: u16,
    /// The rows' bytes, all of one length. [`ScanWriter`] makes them.
    pub data: &'a [u8],
}

#[derive(Encode, Decode)]
struct ScanFixed {
    group: u8,
    period_ns: u32,
    count: u16,
    data_bytes: u16,
}

impl<'a> Scan<'a> {
    /// Device time of row `i` in µs, with the header's `t0`.
    #[must_use]
    pub fn time_us(&self, t0_us: i64, i: usize) -> i64 {
        sample_time_us(t0_us, self.period_ns, i)
    }

    /// Bytes of a row; 0 if there is none. It must equal the sum over the group's channels.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.data.len().checked_div(usize::from(self.count)).unwrap_or(0)
    }

    /// The column that begins `offset` bytes into each row. `None` if it does not fit in a row.
    #[must_use]
    pub fn column(&self, offset: usize, kind: ValueKind) -> Option<Values<'a>> {
        let row_bytes = self.row_bytes();
        if self.count == 0 || offset.checked_add(kind.bytes())? > row_bytes {
            return None;
        }
        let bytes = self.data.get(offset..)?;
        WireValues::new(kind, row_bytes, usize::from(self.count), bytes).map(Values::Wire)
    }

    pub(super) fn check(&self, t0_us: i64) -> Result<(), &'static str> {
        if self.group == 0 {
            return Err("group");
        }
        let whole_rows = match usize::from(self.count) {
            0 => self.data.is_empty(),
            count => !self.data.is_empty() && self.data.len().is_multiple_of(count),
        };
        if !whole_rows {
            return Err("data_bytes");
        }
        check_times(t0_us, self.period_ns, usize::from(self.count))
    }

    pub(super) fn write(&self, out: &mut Out<'_>) -> Result<(), EncodeError> {
        out.put(ScanFixed {
            group: self.group,
            period_ns: self.period_ns,
            count: self.count,
            data_bytes: u16::try_from(self.data.len()).map_err(|_| EncodeError::TooLong)?,
        })?;
        out.put_bytes(self.data)
    }

    pub(super) fn read(input: &mut In<'a>) -> Result<Self, DecodeError> {
        let fixed: ScanFixed = input.take()?;
        Ok(Self {
            group: fixed.group,
            period_ns: fixed.period_ns,
            count: fixed.count,
            data: input.take_bytes(usize::from(fixed.data_bytes))?,
        })
    }
}

/// Lays the values of a Scan into a buffer, row by row.
pub struct ScanWriter<'b> {
    out: Out<'b>,
}

impl<'b> ScanWriter<'b> {
    /// Starts at the beginning of `buffer`.
    #[must_use]
    pub fn new(buffer: &'b mut [u8]) -> Self {
        Self { out: Out::new(buffer) }
    }

    /// Appends the next value: within a row by ascending channel id, then the next row.
    ///
    /// # Errors
    /// [`EncodeError::BufferFull`]; nothing was appended.
    pub fn push(&mut self, value: Value) -> Result<(), EncodeError> {
        value.write(&mut self.out)
    }

    /// What was written so far: the `data` of a [`Scan`].
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.out.written()
    }
}
