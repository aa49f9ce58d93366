//! The gaps that a store knows of: what is missing and was declared, merged.
//!
//! Events lie by the UTC day of what is missing first. Asked are the days that have partitions, one more at each end,
//! and those of the range. Bounded by the events of these days. Deliberately absent: gaps longer than a day that began
//! where neither is.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::reader::patiently;
use super::{ChannelFilter, ExportError};
use crate::gap::{Gap, KIND_GAP};
use crate::row::day_of;
use crate::sample::UnixMicros;
use crate::settled::place_near;
use crate::store::{Store, StoreError};

/// Wait before a store that was not reachable is asked again.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Days of a range that are asked for though nothing lies there: a season's break.
const DAYS_MAX: i32 = 400;

/// One gap; as JSON a flat object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeclaredGap {
    /// UTC of the earliest time of what is missing, µs.
    pub t_us: i64,
    /// UTC of the latest, if known, µs.
    pub t_to_us: Option<i64>,
    /// The car.
    pub car: String,
    /// The device; empty if it is not known.
    pub device: String,
    /// Its start.
    pub boot: i64,
    /// What is missing, and why.
    #[serde(flatten)]
    pub gap: Gap,
}

/// What to look for.
#[derive(Debug, Clone, Default)]
pub struct GapQuery {
    /// The car.
    pub car: String,
    /// From this UTC on.
    pub from: Option<UnixMicros>,
    /// Before this UTC.
    pub to: Option<UnixMicros>,
    /// Only gaps that may concern one of these channels.
    pub channels: ChannelFilter,
}

/// The gaps that reach into a range, by time, each once.
///
/// # Errors
/// If the range holds no time, or the store does not answer.
pub async fn gaps(store: &dyn Store, query: &GapQuery) -> Result<Vec<DeclaredGap>, ExportError> {
    let GapQuery { car, from, to, channels } = query;
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        return Err(ExportError::EmptyRange);
    }
    let asked = match (from, to) {
        (Some(from), Some(to)) => (day_of(from.0), day_of(to.0)),
        _ => (1, 0),
    };
    let mut found = merged(read(store, car, asked).await?);
    found.retain(|gap| {
        let concerns = |gap: &Gap| channels.takes_all() || gap.channels.iter().any(|name| channels.takes(name));
        let end = gap.t_to_us.unwrap_or(i64::MAX);
        to.is_none_or(|to| gap.t_us < to.0)
            && from.is_none_or(|from| end >= from.0)
            && (concerns(&gap.gap) || gap.gap.channels.is_empty() || gap.gap.channels_more > 0)
    });
    Ok(found)
}

/// All gaps of `car` near its partitions and on the days `asked`, both inclusive.
pub(super) async fn read(store: &dyn Store, car: &str, asked: (i32, i32)) -> Result<Vec<DeclaredGap>, StoreError> {
    let mut days = BTreeSet::new();
    for day in patiently(RETRY_AFTER, || store.days(car)).await? {
        days.extend(day.saturating_sub(1)..=day.saturating_add(1));
    }
    days.extend((asked.0.saturating_sub(1)..=asked.1).take(DAYS_MAX as usize));
    let mut found = Vec::new();
    for day in days {
        for event in patiently(RETRY_AFTER, || store.events(car, day)).await? {
            let Some(gap) = Some(&event).filter(|event| event.kind == KIND_GAP).and_then(|e| Gap::parse(&e.text))
            else {
                continue;
            };
            let t_to_us = gap.d_to.map(|d_to| event.t.saturating_add(d_to.saturating_sub(event.d)));
            let (car, device) = (event.car, event.device);
            found.push(DeclaredGap { t_us: event.t, t_to_us, car, device, boot: event.boot, gap });
        }
    }
    Ok(found)
}

/// Gaps of one device and reason that overlap become one; a process that was killed may have declared one twice.
fn merged(mut found: Vec<DeclaredGap>) -> Vec<DeclaredGap> {
    found.sort_by(|a, b| {
        let key = |g: &DeclaredGap| (g.device.clone(), g.boot, g.gap.reason, g.gap.seq_from, g.t_us);
        key(a).cmp(&key(b))
    });
    let mut merged: Vec<DeclaredGap> = Vec::with_capacity(found.len());
    for next in found {
        match merged.last_mut().filter(|last| overlap(last, &next)) {
            Some(last) => join(last, next),
            None => merged.push(next),
        }
    }
    merged.sort_by_key(|gap| gap.t_us);
    merged
}

/// The ranges of sequences, continued past the wrap of 32 bits.
fn places(gap: &Gap) -> Vec<(u64, u64)> {
    let mut ranges = gap.seq_ranges.clone();
    if ranges.is_empty() {
        ranges.extend(gap.seq_from.zip(gap.seq_to));
    }
    let place =
        |from: u64, sequence: u32| if sequence < from as u32 { place_near(from, sequence) } else { sequence.into() };
    let first = ranges.first().map_or(0, |range| u64::from(range.0));
    ranges.into_iter().map(|(from, to)| (place(first, from), place(first, to))).collect()
}

fn overlap(a: &DeclaredGap, b: &DeclaredGap) -> bool {
    let whose = |g: &DeclaredGap| (g.device.clone(), g.boot, g.gap.reason, g.gap.may_be_stored);
    let (seq_a, seq_b) = (places(&a.gap), places(&b.gap));
    whose(a) == whose(b)
        && match (seq_a.last(), seq_b.first()) {
            (Some(last), Some(first)) => first.0 <= last.1,
            (None, None) => a.gap == b.gap,
            _ => false,
        }
}

fn join(into: &mut DeclaredGap, other: DeclaredGap) {
    let mut ranges = places(&into.gap);
    ranges.extend(places(&other.gap));
    if ranges.is_empty() {
        return;
    }
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (from, to) in ranges {
        match joined.last_mut().filter(|last| from <= last.1 + 1) {
            Some(last) => last.1 = last.1.max(to),
            None => joined.push((from, to)),
        }
    }
    let Gap { reason, may_be_stored, .. } = into.gap;
    let d_from = into.gap.d_from.zip(other.gap.d_from).map(|(a, b)| a.min(b));
    let d_to = into.gap.d_to.zip(other.gap.d_to).map(|(a, b)| a.max(b));
    into.gap = Gap { may_be_stored, d_from, d_to, ..Gap::new(reason) }.with_sequences(joined);
    into.t_us = into.t_us.min(other.t_us);
    into.t_to_us = into.t_to_us.zip(other.t_to_us).map(|(a, b)| a.max(b));
}

#[cfg(test)]
mod tests {
    use super::super::testing::on_each;
    use super::*;
    use crate::gap::Reason;
    use crate::row::{DAY_US, EventRow, Rows};

    const T: i64 = 20_000 * DAY_US + 5_000_000;

    fn event(t: i64, sequence: i64, gap: &Gap) -> EventRow {
        EventRow {
            car: "44".into(),
            day: day_of(t),
            t,
            device: "ecu".into(),
            boot: 1,
            sequence,
            d: t - T,
            kind: KIND_GAP.into(),
            number: 0,
            text: gap.text(),
        }
    }

    fn by_sequence(t: i64, d_to: i64, ranges: &[(u64, u64)]) -> EventRow {
        let gap = Gap { d_from: Some(t - T), d_to: Some(d_to), ..Gap::new(Reason::Restart) };
        event(t, ranges[0].0 as i64, &gap.with_sequences(ranges.to_vec()))
    }

    #[tokio::test]
    async fn gaps_come_by_time_merged_and_only_those_that_reach_into_the_range() {
        on_each(async |store: &dyn Store| {
            let overflow = Gap { d_from: Some(0), d_to: Some(50), samples: Some(9), ..Gap::new(Reason::Overflow) };
            let overflow = overflow.with_channels(["rpm".to_owned()]);
            let events = vec![
                by_sequence(T + 100, 200, &[(5, 6), (9, 9)]),
                // Declared once more by the next process, which knew less.
                by_sequence(T + 90, 250, &[(6, 12)]),
                by_sequence(T + 900, 950, &[(30, 31)]),
                event(T, -7, &overflow),
                EventRow { kind: "lap".into(), text: "3".into(), ..event(T, 4, &overflow) },
            ];
            store.write(&Rows { events, ..Rows::default() }).await.unwrap();
            let of = async |from: i64, to: i64, channel: &str| {
                let query = GapQuery {
                    car: "44".into(),
                    from: Some(UnixMicros(from)),
                    to: Some(UnixMicros(to)),
                    channels: ChannelFilter::new([channel]),
                };
                gaps(store, &query).await.unwrap()
            };
            let all = of(T - DAY_US, T + DAY_US, "*").await;
            assert_eq!(all.iter().map(|gap| gap.t_us - T).collect::<Vec<_>>(), [0, 90, 900]);
            assert_eq!((all[1].gap.seq_from, all[1].gap.seq_to, all[1].gap.frames), (Some(5), Some(12), Some(8)));
            assert_eq!((all[1].t_to_us, all[1].gap.d_to), (Some(T + 250), Some(250)));
            assert_eq!(of(T + 240, T + 300, "*").await, all[1..2]);
            assert_eq!(of(T, T + 90, "speed").await, []);
            assert_eq!(of(T, T + 90, "r*").await, all[..1]);
            let line = serde_json::to_string(&all[0]).unwrap();
            assert!(line.starts_with(r#"{"t_us":1728000005000000,"t_to_us":1728000005000050,"car":"44","device":"ecu","boot":1,"reason":"overflow","#), "{line}");
        })
        .await;
    }

    #[test]
    fn ranges_are_continued_past_the_wrap() {
        let gap = Gap::new(Reason::Restart)
            .with_sequences(vec![((1 << 32) - 2, (1 << 32) + 1), ((1 << 32) + 5, (1 << 32) + 6)]);
        assert_eq!(places(&gap), [((1 << 32) - 2, (1 << 32) + 1), ((1 << 32) + 5, (1 << 32) + 6)]);
    }
}
