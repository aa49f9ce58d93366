//! What of each device and boot is settled, by sequence: what a later process needs to say what lies between.
//!
//! A [`Boot`] keeps ranges of frames. A frame joins them when its receipt fires ([`Boot::watch`]), a missing one when
//! the event that declares it is durable. So whatever is outside the ranges is on its way, or will be declared: by
//! this process, or by the next one from the bytes of [`Book::encode`], which `app` keeps where a process's end does
//! not reach.
//!
//! Frames are numbered by *place*: the sequence, continued past its 32 bits; `place as u32` is the sequence.
//!
//! Invariant: ranges say *settled* only of what is. Forgetting one (see the bounds) makes a later gap too wide, never
//! too narrow. Deliberately absent: files, and any knowledge of what a frame holds.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::limits::{SETTLED_BOOTS_MAX, SETTLED_BYTES_MAX, SETTLED_RANGES_MAX};
use crate::receipt::{Ending, Receipt};

/// First word of [`Book::encode`], with its version.
const HEAD: &str = "pitwire-settled-1";
/// The place of sequence 0 of a boot: so far from 0 that no place is negative.
pub const PLACE_MIN: u64 = 1 << 32;

/// Car, device, boot.
pub type BootKey = (String, String, u32);

/// The place of `sequence` that is nearest to `near`.
#[must_use]
pub const fn place_near(near: u64, sequence: u32) -> u64 {
    near.saturating_add_signed(sequence.wrapping_sub(near as u32) as i32 as i64)
}

/// Frames in a row that are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First place.
    pub from: u64,
    /// Last place.
    pub to: u64,
    /// The newest device time that had been seen when frame `to` came, µs.
    pub high_us: i64,
}

/// What is settled of one boot. Shared by its decoder and its frames' receipts.
#[derive(Debug, Default)]
pub struct Boot {
    state: Mutex<State>,
    news: Arc<News>,
    /// The book's turn at its last change, to find the one that was quiet longest.
    heard: AtomicU64,
}

/// Frames in a row that a stage failed on, or that memory gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// First place.
    pub from: u64,
    /// Last place.
    pub to: u64,
    /// The newest device time that had been seen when the first came, and when the last did, µs.
    pub high_us: (i64, i64),
}

#[derive(Debug, Default)]
struct State {
    /// In order, apart from each other.
    ranges: Vec<Range>,
    /// Frames whose receipts became void, of sources that cannot send again.
    failed: Vec<Failed>,
}

#[derive(Debug, Default)]
struct News {
    changed: AtomicBool,
    /// Grows with each failure.
    failed: AtomicU64,
    turn: AtomicU64,
}

impl Boot {
    /// What is settled now.
    #[must_use]
    pub fn ranges(&self) -> Vec<Range> {
        self.lock().ranges.clone()
    }

    /// Frames that were given up since the last call, and that nobody sends again.
    #[must_use]
    pub fn take_failed(&self) -> Vec<Failed> {
        std::mem::take(&mut self.lock().failed)
    }

    /// What of `from..=to` is not settled.
    #[must_use]
    pub fn open_in(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        without(&self.lock().ranges, from, to)
    }

    /// Notes `from..=to` as settled; `high_us` is the newest device time seen until then.
    pub fn settle(&self, from: u64, to: u64, high_us: i64) {
        self.lock().add(Range { from, to, high_us });
        self.heard.store(self.news.turn.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        self.news.changed.store(true, Ordering::Release);
    }

    /// A receipt that notes `ranges` as settled when it fires, and then settles `source`. If it becomes void,
    /// `source` does, and unless that `comes_again` the frames are to be declared.
    pub fn watch(
        self: &Arc<Self>,
        ranges: impl IntoIterator<Item = (u64, u64)> + Send + 'static,
        high_us: i64,
        comes_again: bool,
        source: Receipt,
    ) -> Receipt {
        let (boot, owed) = (self.clone(), source.is_owed());
        let on_end = move |ending| match ending {
            Ending::Settled => {
                ranges.into_iter().for_each(|(from, to)| boot.settle(from, to, high_us));
                source.settle();
            }
            Ending::Void => {
                drop(source);
                if !comes_again {
                    boot.lock().fail(ranges, high_us);
                    boot.news.failed.fetch_add(1, Ordering::Release);
                }
            }
        };
        if owed { Receipt::with_ending(on_end) } else { Receipt::unowed_with_ending(on_end) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, new: Range) {
        // Nearly always it continues the last one.
        let first = self.ranges.partition_point(|range| range.to.saturating_add(1) < new.from);
        let last = self.ranges.partition_point(|range| range.from <= new.to.saturating_add(1));
        let mut joined = new;
        for range in &self.ranges[first..last] {
            joined.from = joined.from.min(range.from);
            if range.to > joined.to {
                (joined.to, joined.high_us) = (range.to, range.high_us);
            }
        }
        self.ranges.splice(first..last, [joined]);
        if self.ranges.len() > SETTLED_RANGES_MAX {
            let shortest = (0..self.ranges.len()).min_by_key(|&i| self.ranges[i].to - self.ranges[i].from);
            shortest.map(|index| self.ranges.remove(index));
        }
    }

    fn fail(&mut self, ranges: impl IntoIterator<Item = (u64, u64)>, high_us: i64) {
        for (from, to) in ranges {
            let full = self.failed.len() >= SETTLED_RANGES_MAX;
            match self.failed.last_mut() {
                Some(last) if last.to + 1 == from => (last.to, last.high_us.1) = (to, high_us),
                // What no longer fits stays outside of the ranges: the next process declares it.
                _ if full => {}
                _ => self.failed.push(Failed { from, to, high_us: (high_us, high_us) }),
            }
        }
    }
}

/// What of `from..=to` is in none of `ranges`, which are in order.
#[must_use]
pub fn without(ranges: &[Range], from: u64, to: u64) -> Vec<(u64, u64)> {
    let (mut next, mut open) = (from, Vec::new());
    for range in ranges.iter().filter(|range| range.to >= from && range.from <= to) {
        if range.from > next {
            open.push((next, range.from - 1));
        }
        next = next.max(range.to.saturating_add(1));
    }
    if next <= to {
        open.push((next, to));
    }
    open
}

/// All boots. Shared by the decoders and whoever keeps it.
#[derive(Debug, Default)]
pub struct Book {
    boots: Mutex<HashMap<BootKey, Arc<Boot>>>,
    news: Arc<News>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    car: String,
    device: String,
    boot: u32,
    ranges: Vec<(u64, u64, i64)>,
}

impl Book {
    /// The place of a boot, opened if it is new; beyond [`SETTLED_BOOTS_MAX`] the one that was quiet longest goes.
    #[must_use]
    pub fn boot(&self, key: &BootKey) -> Arc<Boot> {
        let mut boots = self.lock();
        if let Some(boot) = boots.get(key) {
            return boot.clone();
        }
        let heard = AtomicU64::new(self.news.turn.fetch_add(1, Ordering::Relaxed));
        let boot = Arc::new(Boot { state: Mutex::default(), news: self.news.clone(), heard });
        if boots.len() >= SETTLED_BOOTS_MAX
            && let Some(quietest) =
                boots.iter().min_by_key(|(_, boot)| boot.heard.load(Ordering::Relaxed)).map(|(key, _)| key.clone())
        {
            boots.remove(&quietest);
        }
        boots.insert(key.clone(), boot.clone());
        boot
    }

    /// Whether something was settled since the last call.
    #[must_use]
    pub fn take_changed(&self) -> bool {
        self.news.changed.swap(false, Ordering::AcqRel)
    }

    /// Changes when some boot may have failed frames: each source looks by itself.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.news.failed.load(Ordering::Acquire)
    }

    /// All of it as bytes: a line with a checksum, then a line for each boot.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let boots: Vec<(BootKey, Arc<Boot>)> =
            self.lock().iter().map(|(key, boot)| (key.clone(), boot.clone())).collect();
        let mut body = String::new();
        for ((car, device, boot), state) in boots {
            let ranges: Vec<_> = state.ranges().iter().map(|r| (r.from, r.to, r.high_us)).collect();
            let line = Line { car, device, boot, ranges };
            if let Ok(text) = serde_json::to_string(&line) {
                body.push_str(&text);
                body.push('\n');
            }
        }
        let mut text = String::with_capacity(body.len() + 40);
        let _ = writeln!(text, "{HEAD} {:016x}", xxh3_64(body.as_bytes()));
        text.push_str(&body);
        text.into_bytes()
    }

    /// From [`Self::encode`]'s bytes; `None` if they are damaged, of another version or too many.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= SETTLED_BYTES_MAX)?;
        let (head, body) = text.split_once('\n')?;
        let sum = u64::from_str_radix(head.strip_prefix(HEAD)?.trim(), 16).ok()?;
        if sum != xxh3_64(body.as_bytes()) {
            return None;
        }
        let book = Self::default();
        for line in body.lines().take(SETTLED_BOOTS_MAX) {
            let Line { car, device, boot, ranges } = serde_json::from_str(line).ok()?;
            let boot = book.boot(&(car, device, boot));
            for (from, to, high_us) in ranges.into_iter().filter(|(from, to, _)| from <= to) {
                boot.lock().add(Range { from, to, high_us });
            }
        }
        Some(book)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BootKey, Arc<Boot>>> {
        self.boots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(boot: u32) -> BootKey {
        ("44".into(), "ecu".into(), boot)
    }

    fn pairs(boot: &Boot) -> Vec<(u64, u64, i64)> {
        boot.ranges().iter().map(|range| (range.from, range.to, range.high_us)).collect()
    }

    #[test]
    fn frames_that_settle_in_any_order_make_ranges_and_the_rest_stays_open() {
        let boot = Boot::default();
        for (from, to) in [(5, 5), (1, 2), (9, 9), (3, 4), (6, 6), (2, 3)] {
            boot.settle(from, to, to as i64 * 10);
        }
        assert_eq!(pairs(&boot), [(1, 6, 60), (9, 9, 90)]);
        assert_eq!(boot.open_in(0, 12), [(0, 0), (7, 8), (10, 12)]);
        assert_eq!(boot.open_in(2, 6), []);
        assert_eq!(boot.open_in(8, 8), [(8, 8)]);
    }

    #[test]
    fn too_many_ranges_forget_the_shortest_and_never_claim_what_is_open() {
        let boot = Boot::default();
        boot.settle(0, 100, 0);
        (1..1_000).for_each(|n| boot.settle(100 + n * 2, 100 + n * 2, 0));
        assert_eq!(boot.ranges().len(), SETTLED_RANGES_MAX);
        assert_eq!(boot.ranges()[0].to, 100, "the long one stays");
        assert!((0..999).all(|n| !boot.open_in(101 + n * 2, 101 + n * 2).is_empty()));
    }

    #[test]
    fn a_frame_is_noted_when_its_last_share_settles_and_a_void_one_is_given_out() {
        let book = Book::default();
        let boot = book.boot(&key(1));
        let (told, heard) = std::sync::mpsc::channel();
        let source = || {
            let told = told.clone();
            Receipt::with_ending(move |ending| told.send(ending).unwrap())
        };
        let receipt = boot.watch([(3, 3)], 7, true, source());
        let share = receipt.clone();
        receipt.settle();
        assert!(boot.ranges().is_empty() && heard.try_recv().is_err() && !book.take_changed());
        share.settle();
        assert_eq!((pairs(&boot), heard.try_recv()), (vec![(3, 3, 7)], Ok(Ending::Settled)));
        assert!(book.take_changed() && !book.take_changed());

        drop(boot.watch([(4, 4)], 7, true, source()));
        assert_eq!(heard.try_recv(), Ok(Ending::Void));
        assert!(book.failures() == 0 && boot.take_failed().is_empty(), "it comes again");
        drop(boot.watch([(5, 5)], 7, false, Receipt::none()));
        drop(boot.watch([(6, 6)], 8, false, Receipt::none()));
        assert_eq!(book.failures(), 2);
        assert_eq!(
            (boot.take_failed(), boot.take_failed()),
            (vec![Failed { from: 5, to: 6, high_us: (7, 8) }], vec![])
        );
    }

    #[test]
    fn a_book_comes_back_from_its_bytes_and_damaged_ones_are_refused() {
        let book = Book::default();
        book.boot(&key(1)).settle(PLACE_MIN, PLACE_MIN + 40, 5);
        book.boot(&("44".into(), "a \"strange\" name\n".into(), 2)).settle(7, 9, -3);
        let bytes = book.encode();
        let back = Book::decode(&bytes).unwrap();
        assert_eq!(pairs(&back.boot(&key(1))), [(PLACE_MIN, PLACE_MIN + 40, 5)]);
        assert_eq!(pairs(&back.boot(&("44".into(), "a \"strange\" name\n".into(), 2))), [(7, 9, -3)]);
        assert!(!back.take_changed(), "what was read need not be written");
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 0x04;
            let read = Book::decode(&damaged);
            // A flipped letter of the checksum's own text may still mean the same.
            assert!(read.is_none_or(|read| pairs(&read.boot(&key(1))) == [(PLACE_MIN, PLACE_MIN + 40, 5)]));
            assert!(Book::decode(&bytes[..index]).is_none());
        }
    }

    #[test]
    fn the_boot_that_was_quiet_longest_is_forgotten_first() {
        let book = Book::default();
        let first = book.boot(&key(0));
        (1..SETTLED_BOOTS_MAX as u32).for_each(|boot| book.boot(&key(boot)).settle(1, 1, 0));
        first.settle(1, 1, 0);
        assert!(!book.boot(&key(u32::MAX)).ranges().iter().any(|range| range.to == 1), "a new one");
        assert_eq!(book.boot(&key(0)).ranges().len(), 1);
        assert!(book.boot(&key(1)).ranges().is_empty());
        assert!(book.encode().len() < SETTLED_BYTES_MAX);
    }

    #[test]
    fn places_go_on_past_the_wrap() {
        assert_eq!(place_near(PLACE_MIN, 5), PLACE_MIN + 5);
        assert_eq!(place_near(PLACE_MIN + u64::from(u32::MAX), 1), 2 * PLACE_MIN + 1);
        assert_eq!(place_near(2 * PLACE_MIN + 1, u32::MAX), 2 * PLACE_MIN - 1);
    }
}
