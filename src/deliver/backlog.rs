//! The backlog on its way to the store: oldest first, beside live data and never before it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::decide::backoff;
use super::live::tell;
use super::poison::{Poison, samples_of};
use super::quarantine::Quarantined;
use super::record;
use super::run::Deliver;
use super::tasks::{self, BacklogRecord, Done, Miss, Took, Within};
use super::uplink::{REQUEST_WITHIN, jitter};
use crate::ledger::Fate;
use crate::limits::{BACKLOG_BYTES_MAX, FETCH_BYTES_MAX};
use crate::row::{Rows, RowsError};
use crate::spill::{Place, Record};

/// How long reading from the spill may take before it is tried anew.
const FETCH_WITHIN: Duration = Duration::from_secs(5);

/// What of the backlog is in memory, and when it goes on.
pub(super) struct Backlog {
    pub(super) writes: usize,
    bytes: usize,
    fetched: VecDeque<(Place, Record)>,
    fetching: bool,
    /// Failures since the last record that was stored. Of its own: live data may well be taken while the
    /// oldest record is not, and must not make it be tried as fast as it can fail.
    attempt: u32,
    resume_at: Instant,
    /// Records of another version of this program: they stay in the spill for it.
    foreign: u64,
}

impl Backlog {
    pub(super) fn new(now: Instant) -> Self {
        Self { writes: 0, bytes: 0, fetched: VecDeque::new(), fetching: false, attempt: 0, resume_at: now, foreign: 0 }
    }

    pub(super) fn fetched(&mut self, records: Vec<(Place, Record)>) {
        self.fetching = false;
        self.fetched.extend(records);
    }
}

impl Deliver {
    pub(super) fn has_backlog(&self) -> bool {
        self.parts.spill.stats().backlog_records > self.backlog.foreign
    }

    /// Whether the backlog has a claim on writes now.
    pub(super) fn backlog_may_go(&self, now: Instant) -> bool {
        now >= self.backlog.resume_at && !self.stopping() && self.has_backlog()
    }

    pub(super) fn backlog_wake_at(&self) -> Option<Instant> {
        let waits = self.link.up().is_some() && !self.stopping() && !self.spilling && !self.quarantine.full();
        let paused = self.backlog.resume_at > Instant::now();
        (waits && paused && self.has_backlog()).then_some(self.backlog.resume_at)
    }

    /// Fetches records and starts writes of them.
    pub(super) fn write_backlog(&mut self, now: Instant) {
        if self.stopping() || self.link.up().is_none() {
            // It stays where it is safe, and none of it is in the way of the overflow policy.
            self.give_back();
            return;
        }
        // While live data has to be spilled the store has no room for more, and what is just being
        // appended is counted as backlog only once that is done.
        if self.spilling || self.quarantine.full() || now < self.backlog.resume_at {
            return;
        }
        self.fetch();
        while self.has_room_for_backlog() {
            let Some((place, record)) = self.backlog.fetched.pop_front() else { return };
            match Rows::decode(&record.payload) {
                Ok(rows) => self.write_record(place, &record, rows),
                Err(RowsError::Version(version)) => {
                    self.backlog.foreign += 1;
                    if self.backlog.foreign == 1 {
                        let remedy = "run the version that wrote them, or a newer one";
                        tracing::error!(version, remedy, "records of another version stay in the spill");
                    }
                }
                Err(error) => {
                    // Its checksum was right, so it was written like this: our mistake, and kept as evidence.
                    tracing::error!(%error, ?place, "a record of the spill holds no rows; it goes to the quarantine");
                    let samples = record::samples_of(Some(&record.meta), record.weight, &self.parts.ledger);
                    let reason = error.to_string();
                    self.quarantine.push(Quarantined::Unreadable { record, reason, place, samples });
                }
            }
        }
        if !self.backlog.fetched.is_empty() && self.backlog.bytes < BACKLOG_BYTES_MAX && self.link.window() > 1 {
            self.link.kept_back();
        }
    }

    fn fetch(&mut self) {
        let stats = self.parts.spill.stats();
        let ready = stats.backlog_records.saturating_sub(stats.in_flight_records);
        if self.backlog.fetching || !self.backlog.fetched.is_empty() || ready == 0 {
            return;
        }
        self.backlog.fetching = true;
        let (spill, records_max) = (self.parts.spill.clone(), self.shares(self.link.window()).backlog_alone * 2);
        self.tasks.spawn(async move {
            let batch = spill.next_batch(records_max, FETCH_BYTES_MAX as u64);
            // A segment that cannot be read now would be waited for.
            let batch = tokio::time::timeout(FETCH_WITHIN, batch).await;
            Done::Fetched(batch.ok().flatten().unwrap_or_default())
        });
    }

    fn has_room_for_backlog(&self) -> bool {
        let writes = self.backlog.writes;
        let alone = self.pending.is_empty() && self.live_writes == 0;
        match self.link.window() {
            window @ (0 | 1) => writes + self.live_writes < window,
            _ if writes == 0 => true,
            window => self.backlog.bytes < BACKLOG_BYTES_MAX && self.shares(window).takes_backlog(writes, alone),
        }
    }

    fn write_record(&mut self, place: Place, record: &Record, rows: Rows) {
        let Some(store) = self.link.up().cloned() else { return };
        let samples = record::samples_of(Some(&record.meta), record.weight, &self.parts.ledger);
        let bytes = record.payload.len();
        self.backlog.writes += 1;
        self.backlog.bytes += bytes;
        let record = Box::new(BacklogRecord { place, samples, rows });
        let (began, requests) = (Instant::now(), store.requests(&record.rows));
        self.tasks.spawn(async move {
            let outcome = tasks::write(&store, &record.rows, Within::Each(REQUEST_WITHIN)).await;
            Done::Backlog { record, bytes, outcome, took: Took { whole: began.elapsed(), requests } }
        });
    }

    /// Fetched records go back to their places.
    pub(super) fn give_back(&mut self) {
        for (place, _) in self.backlog.fetched.drain(..) {
            self.parts.spill.nack(place);
        }
    }

    pub(super) fn backlog_done(
        &mut self,
        record: BacklogRecord,
        bytes: usize,
        outcome: Result<Vec<Poison>, Miss>,
        took: Took,
        now: Instant,
    ) {
        self.backlog.writes -= 1;
        self.backlog.bytes -= bytes;
        let failed = match outcome {
            Ok(poison) => match self.suspicion.wrote(record.rows.len(), &poison) {
                Some(hold) => Some(hold),
                None => {
                    self.record_stored(record, poison, took, now);
                    return;
                }
            },
            Err(Miss::Store(error) | Miss::Unanswered(error)) => Some(error),
            Err(Miss::Late) => None,
        };
        if let Some(error) = failed {
            self.link.write_failed(&error, now, jitter());
        }
        if now >= self.backlog.resume_at {
            self.backlog.resume_at = now + backoff(self.backlog.attempt, jitter());
            self.backlog.attempt = self.backlog.attempt.saturating_add(1);
        }
        self.parts.spill.nack(record.place);
        self.give_back();
    }

    fn record_stored(&mut self, record: BacklogRecord, poison: Vec<Poison>, took: Took, now: Instant) {
        self.link.wrote(took, now);
        self.backlog.attempt = 0;
        let BacklogRecord { place, samples, rows } = record;
        let stored = rows.samples() - samples_of(&poison);
        let mut stats = self.parts.stats.lock();
        stats.wrote(rows.len() - poison.len(), stored, rows.bytes(), took.whole);
        if let Some(drain) = &mut stats.drain {
            drain.done += rows.samples();
        }
        drop(stats);
        if poison.is_empty() {
            self.parts.ledger.settle_backlog(&samples, Fate::Stored);
            self.parts.spill.ack(place);
        } else {
            tell(&poison);
            self.quarantine.push(Quarantined::Backlog { poison, place, samples });
        }
    }
}
