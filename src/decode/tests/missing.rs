//! What did not come, by sequence: declared once it is final, and across runs.

use super::*;
use crate::gap::{Gap, Reason};
use crate::limits::{GAP_EVERY, LATE_FROM_A_BROKER, LATE_ON_A_LINE};
use crate::settled::Book;

/// A talk of a describe and bursts of two samples, 20 ms each.
fn talk(frames: i64) -> Vec<Vec<u8>> {
    let mut device = Device::new("ecu");
    let describe = device.describe(wire::ClockBase::Utc);
    std::iter::once(describe).chain((1..frames).map(|n| device.burst(n * 20_000, &[n as i16, 0]))).collect()
}

/// The next run of an agent that kept `book`.
fn next_run(book: &Book) -> (Bench, Arc<Book>) {
    let book = Arc::new(Book::decode(&book.encode()).unwrap());
    let mut bench = Bench::new();
    let gaps = Gaps { book: book.clone(), ..Gaps::default() };
    let spec = SourceSpec {
        id: bench.source,
        name: "src".into(),
        car: "44".into(),
        car_is_fixed: false,
        device_prefix: String::new(),
        gauges: bench.gauges.clone(),
        ledger: bench.ledger.clone(),
    };
    let (known, remembered) = (bench.remembered.lock().unwrap().clone(), bench.remembered.clone());
    let remember: Remember = Arc::new(move |record: &_| remembered.lock().unwrap().push(record.clone()));
    let gateway = Gateway::new(SystemClock::shared(), Trust::System);
    bench.stage = Decode::new(known, remember, DURABLE_WITHIN, gateway).with_gaps(gaps).source(spec, FormatName::Wire);
    (bench, book)
}

fn gaps(items: &[Item]) -> Vec<(u32, Gap)> {
    let events = items.iter().filter_map(|item| if let Item::Event(event) = item { Some(event) } else { None });
    events.filter(|event| event.kind == "gap").map(|e| (e.sequence, Gap::parse(&e.text).unwrap())).collect()
}

/// What is declared so long after the talk.
fn declared(bench: &mut Bench, after: Duration) -> Vec<Item> {
    let mut out = Vec::new();
    if bench.stage.deadline().is_some_and(|at| at <= bench.began + after) {
        bench.stage.on_deadline(bench.began + after, &mut out);
    }
    out
}

/// Samples of the frame `sequence` of [`talk`], which a gap over it has to cover.
fn covers(gap: &Gap, sequence: u32) -> bool {
    let t0 = i64::from(sequence) * 20_000;
    gap.covers_sequence(sequence) && gap.covers_time(t0, t0) && gap.covers_time(t0 + 10_000, t0 + 10_000)
}

#[test]
fn frames_that_a_line_lost_are_declared_after_a_while_and_late_ones_are_not() {
    let (mut bench, book) = next_run(&Book::default());
    let frames = talk(12);
    for index in [0, 1, 2, 5, 6, 4, 8, 9, 11] {
        settle(bench.stream(&to_stream(&frames[index])));
    }
    assert!(declared(&mut bench, LATE_ON_A_LINE - Duration::from_nanos(1)).is_empty(), "they may still come");
    let items = declared(&mut bench, LATE_ON_A_LINE);
    let found = gaps(&items);
    let (sequence, gap) = &found[0];
    assert_eq!((found.len(), *sequence, gap.reason, gap.frames), (1, 3, Reason::NeverReceived, Some(3)));
    assert_eq!(gap.seq_ranges, [(3, 3), (7, 7), (10, 10)]);
    assert!([3, 7, 10].iter().all(|&lost| covers(gap, lost)), "{gap:?}");
    let boot = book.boot(&("44".into(), "ecu".into(), 7));
    assert_eq!(boot.ranges().len(), 4, "what is declared is settled when its event is durable, not before");
    settle(items);
    assert_eq!(boot.ranges().len(), 1);
    assert_eq!(bench.stage.deadline(), None);
}

#[test]
fn a_new_run_declares_what_the_one_before_took_in_and_did_not_settle() {
    let (mut first, book) = next_run(&Book::default());
    let frames = talk(30);
    let mut on_the_way = Vec::new();
    for (index, frame) in frames[..14].iter().enumerate() {
        let items = first.stream(&to_stream(frame));
        // 8 and 9 are still being written when it is killed; the rest is durable.
        if index == 8 || index == 9 { on_the_way.extend(items) } else { settle(items) }
    }
    let (mut second, book) = next_run(&book);
    settle(on_the_way);
    for frame in &frames[20..25] {
        settle(second.stream(&to_stream(frame)));
    }
    // They are held, and copied to the quarantine meanwhile.
    let copies = declared(&mut second, LATE_ON_A_LINE);
    assert!(gaps(&copies).is_empty(), "nobody has said what its clock counts from");
    settle(copies);
    settle(second.stream(&to_stream(&frames[0])));
    let items = declared(&mut second, LATE_ON_A_LINE + LATE_ON_A_LINE);
    let found = gaps(&items);
    assert_eq!((found.len(), found[0].1.reason, found[0].1.frames), (1, Reason::Restart, Some(8)));
    assert_eq!((&found[0].1.seq_ranges[..], found[0].1.may_be_stored), (&[(8, 9), (14, 19)][..], false));
    assert!((8..=9).chain(14..=19).all(|lost| covers(&found[0].1, lost)), "{found:?}");
    // Killed before that was durable: the third declares it again, and after that nobody does.
    drop(items);
    for settles in [true, false] {
        let (mut third, _) = next_run(&book);
        settle(third.stream(&to_stream(&frames[0])));
        settle(third.stream(&to_stream(&frames[25])));
        let items = declared(&mut third, LATE_ON_A_LINE);
        if settles {
            assert_eq!(gaps(&items)[0].1.seq_ranges, [(8, 9), (14, 19)]);
            book.boot(&("44".into(), "ecu".into(), 7)).settle(0, (1 << 32) + 24, 0);
        } else {
            assert!(gaps(&items).is_empty());
        }
    }
}

#[test]
fn a_broker_that_sends_again_leaves_no_gap_whatever_the_order() {
    let (mut first, book) = next_run(&Book::default());
    let frames = talk(30);
    for frame in &frames[..10] {
        settle(first.message(frame));
    }
    drop(first.message(&frames[10]));
    settle(first.message(&frames[11]));
    let (mut second, _) = next_run(&book);
    // The retained describe comes first, made much later; then what was not acknowledged, and what waited.
    let mut late = Device { sequence: 29, ..Device::new("ecu") };
    settle(second.message(&late.describe(wire::ClockBase::Utc)));
    for index in [10, 11, 9, 13, 12].into_iter().chain(14..29) {
        settle(second.message(&frames[index]));
    }
    assert!(gaps(&declared(&mut second, LATE_FROM_A_BROKER * 2)).is_empty());
    let mut out = Vec::new();
    second.stage.finish(&mut out);
    assert!(gaps(&out).is_empty());
}

#[test]
fn what_was_before_the_first_frame_of_a_device_that_nobody_knows_may_be_stored() {
    let (mut bench, _) = next_run(&Book::default());
    let frames = talk(9);
    settle(bench.message(&frames[0]));
    settle(bench.message(&Device { sequence: 40, boot: 8, ..Device::new("ecu") }.burst(0, &[1])));
    let found = gaps(&declared(&mut bench, LATE_FROM_A_BROKER));
    assert_eq!(found.len(), 1);
    let gap = &found[0].1;
    assert_eq!((gap.reason, gap.seq_from, gap.seq_to, gap.may_be_stored), (Reason::Restart, Some(0), Some(39), true));
}

#[test]
fn a_frame_that_a_stage_failed_on_is_declared_if_nobody_sends_it_again() {
    let (mut bench, _) = next_run(&Book::default());
    let frames = talk(6);
    settle(bench.stream(&to_stream(&frames[0])));
    settle(bench.stream(&to_stream(&frames[1])));
    let failed = bench.stream(&to_stream(&frames[2]));
    for item in failed {
        if let Item::Batch(batch) = item {
            batch.custody.tally.settle(Fate::Stored);
            drop(batch.custody.receipt);
        }
    }
    settle(bench.stream(&to_stream(&frames[3])));
    assert!(declared(&mut bench, Duration::ZERO).is_empty(), "a moment later, with what else fails until then");
    let found = gaps(&declared(&mut bench, 2 * GAP_EVERY));
    assert_eq!((found.len(), found[0].0, found[0].1.reason, found[0].1.frames), (1, 2, Reason::Failed, Some(1)));
    assert!(covers(&found[0].1, 2), "{found:?}");
}

#[test]
fn an_end_declares_what_a_line_lost_at_once() {
    let (mut bench, _) = next_run(&Book::default());
    let frames = talk(6);
    for index in [0, 1, 4] {
        settle(bench.stream(&to_stream(&frames[index])));
    }
    let mut out = Vec::new();
    bench.stage.finish(&mut out);
    assert_eq!(gaps(&out)[0].1.frames, Some(2));
}
