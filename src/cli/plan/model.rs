//! The arithmetic of an outage. Pure.
//!
//! ```text
//! disk      = rate × bytes a sample + commits × half a block
//! commits   = one for each D / 2 and half a flush: what is late takes with it what would follow within D / 2;
//!             as many for each priority that channels have
//! bridged   = (disk budget − one segment for each priority) ÷ disk a second
//! flash     = disk + commits × journal + segments × journal
//! drain     = backlog ÷ (uplink − live data)
//! ```
//! A commit starts on a fresh block, so its last one is half empty on average. *Journal* is what the file system writes
//! for a sync of a segment that is written for the first time; where it is written again there is none.

use std::time::Duration;

use serde::Serialize;

use crate::spill::config::BLOCK_BYTES;

/// What ext4 writes to its journal for one `fdatasync` of a file that has grown, bytes: descriptor, inode, bitmap and
/// commit block, four of 4 KiB. On a segment that is recycled it is next to nothing.
pub(super) const JOURNAL_BYTES: f64 = 16_384.0;

/// Bytes that a sample takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Cost {
    /// In the spill: rows with their records' headers, without the end of the last block.
    pub(super) spill_bytes_per_sample: f64,
    /// On the way to the store, before compression.
    pub(super) uplink_bytes_per_sample: f64,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Given {
    pub(super) rate_per_s: f64,
    pub(super) cost: Cost,
    pub(super) disk_max_bytes: f64,
    pub(super) segment_bytes: f64,
    pub(super) durable_within: Duration,
    pub(super) flush_after: Duration,
    /// Bits a second.
    pub(super) uplink_bit_per_s: Option<f64>,
    pub(super) outage: Option<Duration>,
    /// How many priorities channels have: each has a queue of its own.
    pub(super) queues: u32,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Plan {
    /// Rows, bytes a second.
    pub(super) payload_per_s: f64,
    pub(super) commits_per_s: f64,
    /// Ends of blocks, bytes a second.
    pub(super) padding_per_s: f64,
    pub(super) disk_per_s: f64,
    /// The file system's own, bytes a second.
    pub(super) journal_per_s: f64,
    pub(super) flash_per_s: f64,
    /// How long an outage the disk bridges, s.
    pub(super) bridged_s: f64,
    /// Live data on the uplink, bit/s.
    pub(super) live_bit_per_s: f64,
    pub(super) outage: Option<Outage>,
}

/// One outage and the drain after it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Outage {
    pub(super) seconds: f64,
    pub(super) samples: f64,
    pub(super) disk_bytes: f64,
    pub(super) flash_bytes: f64,
    /// Samples beyond what the disk bridges, which the overflow policy decides about.
    pub(super) samples_beyond: f64,
    /// How long the drain takes while live data goes on, s; `null`: never, or no uplink was named.
    pub(super) drain_s: Option<f64>,
}

impl Given {
    pub(super) fn plan(&self) -> Plan {
        let block = BLOCK_BYTES as f64;
        let payload_per_s = self.rate_per_s * self.cost.spill_bytes_per_sample;
        let queues = f64::from(self.queues);
        let commits_per_s = queues / (self.durable_within.as_secs_f64() / 2.0 + self.flush_after.as_secs_f64() / 2.0);
        let padding_per_s = commits_per_s * block / 2.0;
        let disk_per_s = payload_per_s + padding_per_s;
        let journal_per_s = (commits_per_s + disk_per_s / self.segment_bytes) * JOURNAL_BYTES;
        let plan = Plan {
            payload_per_s,
            commits_per_s,
            padding_per_s,
            disk_per_s,
            journal_per_s,
            flash_per_s: disk_per_s + journal_per_s,
            // `drop-oldest` holds one segment back.
            bridged_s: (self.disk_max_bytes - queues * self.segment_bytes).max(0.0) / disk_per_s,
            live_bit_per_s: self.rate_per_s * self.cost.uplink_bytes_per_sample * 8.0,
            outage: None,
        };
        Plan { outage: self.outage.map(|outage| self.outage(&plan, outage.as_secs_f64())), ..plan }
    }

    /// An outage of so many seconds.
    pub(super) fn outage(&self, plan: &Plan, seconds: f64) -> Outage {
        let kept_s = seconds.min(plan.bridged_s);
        let samples = self.rate_per_s * kept_s;
        let spare = self.uplink_bit_per_s.map(|uplink| uplink - plan.live_bit_per_s).filter(|spare| *spare > 0.0);
        let bits = samples * self.cost.uplink_bytes_per_sample * 8.0;
        Outage {
            seconds,
            samples,
            disk_bytes: ((plan.disk_per_s * kept_s / self.segment_bytes).ceil() * self.segment_bytes)
                .min(self.disk_max_bytes),
            flash_bytes: plan.flash_per_s * seconds,
            samples_beyond: self.rate_per_s * (seconds - kept_s),
            drain_s: spare.map(|spare| bits / spare),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Given {
        Given {
            rate_per_s: 100_000.0,
            cost: Cost { spill_bytes_per_sample: 5.0, uplink_bytes_per_sample: 10.0 },
            disk_max_bytes: 2_147_483_648.0,
            segment_bytes: 8_388_608.0,
            durable_within: Duration::from_secs(1),
            flush_after: Duration::from_millis(200),
            uplink_bit_per_s: Some(20e6),
            outage: Some(Duration::from_secs(3_600)),
            queues: 1,
        }
    }

    #[track_caller]
    fn near(is: f64, should: f64) {
        assert!((is / should - 1.0).abs() < 0.001, "{is} instead of {should}");
    }

    #[test]
    fn the_figures_are_those_of_the_arithmetic_by_hand() {
        let plan = given().plan();
        near(plan.payload_per_s, 500_000.0);
        near(plan.commits_per_s, 1.0 / 0.6);
        near(plan.padding_per_s, 2_048.0 / 0.6);
        near(plan.disk_per_s, 503_413.3);
        near(plan.journal_per_s, (1.0 / 0.6 + 503_413.3 / 8_388_608.0) * 16_384.0);
        near(plan.bridged_s, (2_147_483_648.0 - 8_388_608.0) / 503_413.3);
        near(plan.live_bit_per_s, 8e6);
        let outage = plan.outage.unwrap();
        // 216.04 segments.
        near(outage.disk_bytes, 217.0 * 8_388_608.0);
        // 3,600 s of 8 Mbit/s through the 12 that live data leaves.
        near(outage.drain_s.unwrap(), 2_400.0);
        assert_eq!((outage.samples, outage.samples_beyond), (360e6, 0.0));
    }

    #[test]
    fn each_priority_has_commits_of_its_own_and_a_segment_held_back() {
        let plan = Given { queues: 3, ..given() }.plan();
        near(plan.padding_per_s, 3.0 * 2_048.0 / 0.6);
        near(plan.bridged_s, (2_147_483_648.0 - 3.0 * 8_388_608.0) / (500_000.0 + 3.0 * 2_048.0 / 0.6));
    }

    #[test]
    fn an_uplink_that_live_data_fills_never_drains() {
        for uplink in [None, Some(8e6), Some(1e6)] {
            let plan = Given { uplink_bit_per_s: uplink, ..given() }.plan();
            assert_eq!(plan.outage.unwrap().drain_s, None, "{uplink:?}");
        }
    }

    #[test]
    fn what_the_disk_does_not_bridge_is_counted_apart() {
        let plan = Given { outage: Some(Duration::from_secs(36_000)), ..given() }.plan();
        let outage = plan.outage.unwrap();
        near(outage.disk_bytes, 2_147_483_648.0 - 8_388_608.0);
        near(outage.samples + outage.samples_beyond, 3.6e9);
        assert!(outage.samples_beyond > 0.0);
    }
}
