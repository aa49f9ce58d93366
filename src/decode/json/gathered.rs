//! The samples of several messages on their way into one batch.

use std::sync::Arc;
use std::time::Instant;

use super::super::Arrival;
use crate::receipt::{Receipt, ReceiptWatch};
use crate::sample::{ChannelMeta, Column, DeviceTime, Flags, Quality, Times, UnixMicros, Values};

/// No place.
const NONE: u32 = u32::MAX;
/// What came later than this after the first is no part of its batch: times are judged by when the batch came.
const RECEIVED_WITHIN_US: u64 = 100_000;

/// What is gathered of one series, and whose it is.
#[derive(Default)]
pub(super) struct Gathered {
    head: Option<Head>,
    /// Channel by channel, in the order in which they came.
    columns: Vec<Growing>,
    /// By channel number, the place of its column.
    places: Vec<u32>,
    samples: u64,
    /// Something of it was counted since the last look.
    pub(super) touched: bool,
}

/// Of the first message: deadlines count from there, and the others' receipts settle with its own.
struct Head {
    receipt: Receipt,
    /// Of that receipt.
    watch: ReceiptWatch,
    accepted_at: Instant,
    received: UnixMicros,
}

/// A column that grows.
struct Growing {
    channel: u32,
    times: Vec<i64>,
    values: Vec<f64>,
    flags: Flags,
}

/// What was gathered.
pub(super) struct Taken {
    pub(super) columns: Vec<Column>,
    pub(super) samples: u64,
    pub(super) receipt: Receipt,
    pub(super) accepted_at: Instant,
    pub(super) received: UnixMicros,
}

impl Gathered {
    /// Whether a message's samples may be added: its receipt settles then with that of the others. `false` if there are
    /// none yet, they came long before, or what they came with is void.
    pub(super) fn joins(&mut self, arrival: &Arrival) -> bool {
        let Some(head) = &mut self.head else { return false };
        if arrival.received.0.abs_diff(head.received.0) > RECEIVED_WITHIN_US {
            return false;
        }
        if arrival.receipt.is_none() || head.receipt.same_frame(&arrival.receipt) {
            return true;
        }
        if head.receipt.is_none() {
            // Nobody waits for the others.
            (head.receipt, head.watch) = (arrival.receipt.clone(), arrival.receipt.watch());
            return true;
        }
        match head.watch.join(arrival.receipt.clone()) {
            Ok(()) => true,
            Err(share) => {
                share.settle();
                false
            }
        }
    }

    /// Begins with a message.
    pub(super) fn begin(&mut self, arrival: &Arrival) {
        let Arrival { accepted_at, received, .. } = *arrival;
        let (receipt, watch) = (arrival.receipt.clone(), arrival.receipt.watch());
        self.head = Some(Head { receipt, watch, accepted_at, received });
    }

    /// Adds numbers of one time, by channel.
    pub(super) fn add(&mut self, t: DeviceTime, quality: Quality, numbers: &[(u32, f64)]) {
        for &(channel, value) in numbers {
            let at = channel as usize;
            if self.places.len() <= at {
                self.places.resize(at + 1, NONE);
            }
            if self.places[at] == NONE {
                self.places[at] = self.columns.len() as u32;
                let (times, values, flags) = (Vec::new(), Vec::new(), Flags::default());
                self.columns.push(Growing { channel, times, values, flags });
            }
            let column = &mut self.columns[self.places[at] as usize];
            column.flags.push(quality, 1, column.times.len());
            column.times.push(t.0);
            column.values.push(value);
        }
        self.samples += numbers.len() as u64;
    }

    /// All of it, if there is any.
    pub(super) fn take(&mut self, metas: &[Arc<ChannelMeta>]) -> Option<Taken> {
        let Head { receipt, accepted_at, received, .. } = self.head.take()?;
        let column = |of: Growing| {
            self.places[of.channel as usize] = NONE;
            let channel = metas[of.channel as usize].clone();
            Column { channel, times: Times::Explicit(of.times), values: Values::F64(of.values), flags: of.flags }
        };
        let columns = self.columns.drain(..).map(column).collect();
        Some(Taken { columns, samples: std::mem::take(&mut self.samples), receipt, accepted_at, received })
    }
}
