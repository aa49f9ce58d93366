//! Lanes: channels that are sampled together, on one grid of the device's clock.

use heapless::Vec;
use pitwire_wire::FRAME_BYTES_DEFAULT;

/// Lanes a device may have: each holds the rows of one frame, so this bounds its memory to
/// 16 × 1 KiB.
pub const LANES_MAX: usize = 16;

/// A frame is closed before its first sample is this old.
pub const AGE_MS_MAX: u64 = 50;

/// How a lane is sampled and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneConfig {
    /// The group that its Scans carry; 0 for a lane that is sent in Bursts.
    pub group: u8,
    /// Time between two samples, ns; at least 1,000 (two samples need two device times).
    pub period_ns: u64,
}

/// Channels sampled together. Sample `k` is due when the clock has counted `k × period`.
#[derive(Debug)]
pub struct Lane {
    pub(super) config: LaneConfig,
    /// Bytes of a row of its Scans.
    pub(super) row_bytes: usize,
    /// Channels in a row.
    pub(super) row_channels: u32,
    /// Index of the next sample.
    pub(super) next: u64,
    /// Index of the first row in `data`.
    pub(super) first: u64,
    pub(super) rows: u16,
    pub(super) data: Vec<u8, FRAME_BYTES_DEFAULT>,
}

impl Lane {
    pub(super) fn new(config: LaneConfig, row_bytes: usize, row_channels: u32) -> Self {
        Self { config, row_bytes, row_channels, next: 0, first: 0, rows: 0, data: Vec::new() }
    }

    /// How it is sampled and sent.
    #[must_use]
    pub fn config(&self) -> LaneConfig {
        self.config
    }

    /// Index of the next sample.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// When sample `index` is due, in ns on the clock's count.
    #[must_use]
    pub fn due_ns(&self, index: u64) -> u64 {
        index.saturating_mul(self.config.period_ns)
    }

    /// Index after the last sample that is due before `local_ns`.
    #[must_use]
    pub fn due_end(&self, local_ns: u64) -> u64 {
        local_ns.div_ceil(self.config.period_ns.max(1)).max(self.next)
    }

    /// The period as the wire has it. A lane slower than that sends one sample a frame, and the
    /// field has no meaning.
    pub(super) fn wire_period_ns(&self) -> u32 {
        u32::try_from(self.config.period_ns).unwrap_or(u32::MAX)
    }

    /// Whether one more sample would come too late for a frame that began with `first`.
    pub(super) fn would_age(&self, first: u64, next: u64) -> bool {
        (next - first).saturating_mul(self.config.period_ns) > AGE_MS_MAX * 1_000_000
    }

    pub(super) fn clear(&mut self) {
        self.rows = 0;
        self.data.clear();
    }
}
