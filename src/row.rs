//! What the store holds: the rows that `chunk` makes, `store` writes and `export` reads.
//!
//! Rows are immutable and their keys are settled before they leave memory, so writing one again is
//! harmless. All times called `t…` are UTC µs; `d…` are device times in µs.
//!
//! [`Rows::encode`] is the form in which rows lie in the spill: a version byte, then bincode. A row keeps
//! its `writer` and `seq` there, so that a later process writes the same key.
//!
//! Deliberately absent: any store's types, and the format of `data` (see `codec`).

use bincode::{Decode, Encode};

mod earlier;

/// Version of [`Rows::encode`].
const ROWS_VERSION: u8 = 2;
/// One day in µs.
pub const DAY_US: i64 = 86_400_000_000;
/// The kind of a channel that a device sends.
pub const KIND_RAW: &str = "raw";
/// The kind of a channel that a step computes.
pub const KIND_DERIVED: &str = "derived";

/// The UTC day of `t_us`, in days since 1970.
#[must_use]
pub const fn day_of(t_us: i64) -> i32 {
    // Within ±2^31 days of 1970 for every i64 of µs: 2^63 / 86.4e9 < 2^27.
    t_us.div_euclid(DAY_US) as i32
}

/// In which form a channel's samples lie in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub enum Layout {
    /// Packed: the table `chunks`.
    #[default]
    Chunks,
    /// Each a row: the table `samples`.
    Rows,
}

impl Layout {
    /// As [`ExtentRow::layout`] says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chunks => "chunks",
            Self::Rows => "rows",
        }
    }
}

/// One channel's samples of one flush: at most a second. On its way it is packed whatever its layout: the store takes
/// it apart where each sample is a row.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct ChunkRow {
    /// Partition: the car.
    pub car: String,
    /// Partition: the device.
    pub device: String,
    /// Partition: start of the bucket, UTC µs.
    pub bucket: i64,
    /// Key: the channel.
    pub channel: String,
    /// Key: UTC of the first sample, µs, as placed at the time of writing.
    pub t0: i64,
    /// Key: 128 random bits of the process that made the row.
    pub writer: [u8; 16],
    /// Key: counts the rows of that process from 0.
    pub seq: i64,
    /// The device's start.
    pub boot: i64,
    /// Device time of the first sample, µs.
    pub d0: i64,
    /// UTC of the last sample, µs.
    pub t1: i64,
    /// How many samples.
    pub n: i32,
    /// Smallest physical value that is a number.
    pub v_min: Option<f64>,
    /// Largest.
    pub v_max: Option<f64>,
    /// Arithmetic mean of the values that are numbers.
    pub v_mean: Option<f64>,
    /// Last value that is a number.
    pub v_last: Option<f64>,
    /// Quality flags of all samples, or-ed.
    pub quality: i32,
    /// Format of `data`: 1, see docs/storage.md.
    pub codec: i8,
    /// Every sample, with its flags.
    pub data: Vec<u8>,
    /// Where the store puts it.
    pub layout: Layout,
}

impl ChunkRow {
    /// About how many bytes it takes in memory and on the wire.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // 160 = fixed columns and headers.
        160 + self.car.len() + self.device.len() + self.channel.len() + self.data.len()
    }
}

/// One sample where each is a row. Its partition is a car's channel in one bucket.
///
/// Its key is what it says: a sample that is sent again is the same row, and two values of one time are two.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRow {
    /// Key: UTC µs, as placed when it was written.
    pub t: i64,
    /// Key: the device.
    pub device: String,
    /// Key: the device's start.
    pub boot: i64,
    /// Key: device time, µs.
    pub d: i64,
    /// Key: the physical value.
    pub v: f64,
    /// Its flags.
    pub quality: i32,
    /// The process that made it.
    pub writer: [u8; 16],
    /// Which of that process's chunks it came in.
    pub seq: i64,
}

/// Which partitions exist. A reader starts here and never scans.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ExtentRow {
    /// Partition: the car.
    pub car: String,
    /// Partition: UTC days since 1970 of the bucket's start.
    pub day: i32,
    /// Key: see [`Layout::as_str`].
    pub layout: String,
    /// Key: the device.
    pub device: String,
    /// Key: the channel, empty for layouts whose partitions hold all channels of a device.
    pub channel: String,
    /// Key: start of the bucket, UTC µs.
    pub bucket: i64,
    /// Length of the bucket, µs.
    pub length_us: i64,
}

/// What a device said of a channel, from `since` on.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct ChannelRow {
    /// Partition: the car.
    pub car: String,
    /// Key: the device.
    pub device: String,
    /// Key: the channel.
    pub channel: String,
    /// Key: UTC µs from which it holds.
    pub since: i64,
    /// The unit's symbol.
    pub unit: String,
    /// [`KIND_RAW`] (a device's fact) or [`KIND_DERIVED`].
    pub kind: String,
    /// `i16`, `i32`, `f32`, `f64`.
    pub value_kind: String,
    /// Physical = raw × scale + offset.
    pub scale: f64,
    /// See `scale`.
    pub offset: f64,
    /// Samples a second in millihertz, 0 if irregular.
    pub rate_mhz: i64,
}

/// How a device's own time maps to UTC: `utc = device time + offset_us`, from `from_us` on.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ClockRow {
    /// Partition: the car.
    pub car: String,
    /// Key: the device.
    pub device: String,
    /// Key: the device's start.
    pub boot: i64,
    /// Key: device time from which it holds, µs; for a whole boot see [`ClockRow::from_start`].
    pub from_us: i64,
    /// Add this to a device time to get UTC µs.
    pub offset_us: i64,
    /// The gateway's clock was not known to be right when this was written.
    pub provisional: bool,
}

impl ClockRow {
    /// `from_us` of a mapping that holds for a whole boot. The best of several has the highest `rank`, and those of
    /// one rank differ by who made them: `by`, of whom nothing else is known. So no mapping is written over another,
    /// and all of them lie before any device time, where the last one holds.
    #[must_use]
    pub const fn from_start(rank: u8, by: u32) -> i64 {
        i64::MIN + (((rank as i64) << 32) | by as i64)
    }

    /// Whether `from_us` means a whole boot.
    #[must_use]
    pub const fn is_from_start(from_us: i64) -> bool {
        from_us < i64::MIN + (1 << 40)
    }
}

/// A lap, a session, a marker, a text.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EventRow {
    /// Partition: the car.
    pub car: String,
    /// Partition: UTC days since 1970.
    pub day: i32,
    /// Key: UTC µs.
    pub t: i64,
    /// Key: the device.
    pub device: String,
    /// Key: the device's start.
    pub boot: i64,
    /// Key: the frame's sequence.
    pub sequence: i64,
    /// Device time, µs.
    pub d: i64,
    /// `lap`, `session`, `marker`, `text`, `device_dropped`, `frames_lost`, `anomaly`.
    pub kind: String,
    /// Lap or session number, or a count.
    pub number: i64,
    /// Free text.
    pub text: String,
}

/// A session of a car.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SessionRow {
    /// Partition: the car.
    pub car: String,
    /// Key: UTC µs of its start.
    pub start: i64,
    /// Its number as the device counts.
    pub number: i64,
    /// Its name.
    pub name: String,
}

/// An agent's heartbeat.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct AgentRow {
    /// Partition: the car.
    pub car: String,
    /// Key: the agent's id.
    pub agent: String,
    /// UTC µs of the heartbeat.
    pub at_us: i64,
    /// The program's version.
    pub version: String,
    /// Samples on their way through memory.
    pub in_flight: i64,
    /// Samples in the spill.
    pub backlog: i64,
    /// Samples stored by this run.
    pub stored: i64,
    /// `direct`, `spilling`, `draining`.
    pub mode: String,
}

/// What is written together. Its chunks are of one layout; those of [`Layout::Chunks`] are of one partition and become
/// one atomic write.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
pub struct Rows {
    /// Written before the chunks.
    pub extents: Vec<ExtentRow>,
    /// One partition's chunks, or what becomes rows.
    pub chunks: Vec<ChunkRow>,
    /// Catalogue entries that are new.
    pub channels: Vec<ChannelRow>,
    /// Clock mappings that are new.
    pub clocks: Vec<ClockRow>,
    /// Events.
    pub events: Vec<EventRow>,
    /// Sessions.
    pub sessions: Vec<SessionRow>,
}

/// Why bytes are not [`Rows`].
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// Made by a version that this program does not know.
    #[error("rows of version {0}, this program knows {ROWS_VERSION}: use the version that wrote them, or newer")]
    Version(u8),
    /// Not in the format.
    #[error("rows are damaged: {0}")]
    Damaged(String),
}

impl Rows {
    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.extents.len()
            + self.chunks.len()
            + self.channels.len()
            + self.clocks.len()
            + self.events.len()
            + self.sessions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Samples in its chunks.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.n.unsigned_abs())).sum()
    }

    /// About how many bytes it takes in memory and on the wire: what bounds in bytes count.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // 128 = an average row of the other tables.
        let chunks: usize = self.chunks.iter().map(ChunkRow::bytes).sum();
        let texts: usize = self.events.iter().map(|event| event.text.len()).sum();
        chunks + texts + 128 * (self.len() - self.chunks.len())
    }

    /// The bytes for the spill.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes() + 64);
        bytes.push(ROWS_VERSION);
        bincode::encode_into_std_write(self, &mut bytes, bincode::config::standard())
            .expect("encoding plain data into memory cannot fail");
        bytes
    }

    /// Rows from [`Rows::encode`]'s bytes.
    ///
    /// # Errors
    /// If the version is unknown or the bytes are damaged; nothing larger than the input is allocated first.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowsError> {
        let (&version, body) = bytes.split_first().ok_or_else(|| RowsError::Damaged("empty".into()))?;
        match version {
            ROWS_VERSION => decode_body(body),
            1 => decode_body::<earlier::RowsV1>(body).map(Self::from),
            _ => Err(RowsError::Version(version)),
        }
    }
}

fn decode_body<T: Decode<()>>(body: &[u8]) -> Result<T, RowsError> {
    // bincode's limit counts decoded bytes; a row never shrinks below a quarter of its decoded size.
    let config = bincode::config::standard().with_limit::<{ 256 << 20 }>();
    let (rows, used) =
        bincode::decode_from_slice(body, config).map_err(|error| RowsError::Damaged(error.to_string()))?;
    if used != body.len() {
        return Err(RowsError::Damaged(format!("{} bytes too many", body.len() - used)));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
