//! A histogram of durations: log-linear, of a fixed size, so that any two can be merged.
//!
//! Below 16 ns each nanosecond has a bucket; above, each doubling has 8, up to 73 minutes: a quantile is
//! off by 6 % at most. What is longer falls into the last bucket.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::sync::atomic::{AtomicU64, Ordering};

const LINEAR: usize = 16;
const PER_DOUBLING: usize = 8;
/// Doublings above [`LINEAR`]: 2^42 ns are 73 minutes.
const DOUBLINGS: usize = 38;
const BUCKETS: usize = LINEAR + DOUBLINGS * PER_DOUBLING;

fn bucket_of(nanos: u64) -> usize {
    if nanos < LINEAR as u64 {
        return nanos as usize;
    }
    let doubling = nanos.ilog2() as usize;
    let within = (nanos >> (doubling - 3)) as usize & (PER_DOUBLING - 1);
    (LINEAR + (doubling - 4) * PER_DOUBLING + within).min(BUCKETS - 1)
}

/// The middle of a bucket, in ns.
fn middle_of(bucket: usize) -> u64 {
    if bucket < LINEAR {
        return bucket as u64;
    }
    let (doubling, within) = (4 + (bucket - LINEAR) / PER_DOUBLING, (bucket - LINEAR) % PER_DOUBLING);
    let width = 1_u64 << (doubling - 3);
    (1 << doubling) + within as u64 * width + width / 2
}

/// Written by one, read by all.
#[derive(Debug)]
pub(crate) struct Recorder {
    counts: Box<[AtomicU64]>,
}

impl Recorder {
    /// One that takes nothing where no times are kept.
    pub(crate) fn new(timed: bool) -> Self {
        Self { counts: (0..if timed { BUCKETS } else { 0 }).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Only the owner calls this: it loads and stores, which is cheaper than adding.
    pub(crate) fn record(&self, times: u64, nanos: u64) {
        if let Some(count) = self.counts.get(bucket_of(nanos)) {
            count.store(count.load(Ordering::Relaxed) + times, Ordering::Relaxed);
        }
    }

    pub(crate) fn add_to(&self, histogram: &mut Histogram) {
        for (sum, count) in histogram.counts.iter_mut().zip(&self.counts) {
            *sum += count.load(Ordering::Relaxed);
        }
    }
}

/// How long operations took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS] }
    }
}

impl Histogram {
    /// Takes one duration in.
    pub fn record(&mut self, duration: Duration) {
        self.counts[bucket_of(crate::clock::nanos(duration))] += 1;
    }

    /// How many durations are in it.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Takes in all that `other` has, of another stage, process or machine.
    pub fn merge(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
    }

    /// What came since `earlier`, a former state of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self { counts: self.counts.iter().zip(&earlier.counts).map(|(now, then)| now.saturating_sub(*then)).collect() }
    }

    /// The duration that the share `q` (0 to 1) of all took no longer than, within 6 %; `None` if it is empty.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        bucket.map(|bucket| Duration::from_nanos(middle_of(bucket)))
    }
}

/// Serialised as its count and its quantiles in ms.
impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let ms = |q| self.quantile(q).map(|duration| duration.as_secs_f64() * 1e3);
        let mut fields = serializer.serialize_struct("Histogram", 5)?;
        fields.serialize_field("count", &self.count())?;
        fields.serialize_field("p50_ms", &ms(0.5))?;
        fields.serialize_field("p90_ms", &ms(0.9))?;
        fields.serialize_field("p99_ms", &ms(0.99))?;
        fields.serialize_field("max_ms", &ms(1.0))?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_off_by_six_percent_at_most_over_the_whole_range() {
        let mut nanos = 1_u64;
        while nanos < 1 << 42 {
            let mut histogram = Histogram::default();
            histogram.record(Duration::from_nanos(nanos));
            let found = histogram.quantile(0.5).unwrap().as_nanos() as f64;
            assert!((found / nanos as f64 - 1.0).abs() <= 0.0626, "{nanos} ns became {found}");
            nanos = nanos * 17 / 16 + 1;
        }
    }

    #[test]
    fn buckets_are_in_the_order_of_the_durations_and_the_longest_falls_into_the_last() {
        let mut last = 0;
        for shift in 0..64 {
            for nanos in [1_u64 << shift, (1 << shift) + (1 << shift) / 2] {
                assert!(bucket_of(nanos) >= last);
                last = bucket_of(nanos);
            }
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn merged_histograms_answer_for_both_and_an_interval_for_what_came_in_it() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        (0..99).for_each(|_| a.record(Duration::from_millis(1)));
        b.record(Duration::from_secs(1));
        let before = a.clone();
        a.merge(&b);
        assert_eq!(a.count(), 100);
        assert!(a.quantile(0.99).unwrap() < Duration::from_millis(2));
        assert!(a.quantile(1.0).unwrap() > Duration::from_millis(900));
        assert_eq!(a.since(&before), b);
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
