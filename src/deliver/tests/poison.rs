//! Rows that can never be stored, messages that cannot be decoded, records that hold no rows.

use super::*;
use crate::deliver::record::{Meta, rows_record};
use crate::receipt::Ending;

/// What lies in the quarantine: reason and samples.
async fn quarantined(bench: &Bench) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    while bench.quarantine.stats().backlog_records > bench.quarantine.stats().in_flight_records {
        let (_, record) = bench.quarantine.next().await.unwrap();
        found.push((Meta::decode(&record.meta).unwrap().reason, record.weight));
    }
    found
}

#[tokio::test]
async fn a_poison_row_is_quarantined_with_its_reason_and_its_neighbours_are_stored() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Poison("bad"));
    bench.send(&[("a", 10), ("b", 20), ("bad", 7), ("c", 30)]).await;
    bench.until("settled", |b| b.counts().in_flight == 0).await;
    let counts = bench.counts();
    assert_eq!((counts.stored, counts.quarantined), (60, 7));
    assert_eq!((bench.fired(), bench.stats.snapshot().samples_written), (1, 60));
    assert_eq!(bench.stats.snapshot().link, LinkState::Up, "poison says nothing of the link");
    assert_eq!(quarantined(&bench).await, [("scripted: too large".to_owned(), 7)]);
    assert!(!bench.store.stored().contains_key("bad"));
}

#[tokio::test]
async fn poison_in_the_backlog_leaves_it_and_holds_up_nothing_behind_it() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Refuses);
    for _ in 0..10 {
        bench.send(&[("bad", 7), ("a", 1)]).await;
        bench.send(&[("b", 1)]).await;
    }
    bench.until("spilled", |b| b.counts().backlog == 90).await;
    bench.store.now(Script::Poison("bad"));
    bench.until("drained", |b| b.spill.stats().backlog_records == 0).await;
    let counts = bench.counts();
    assert_eq!((counts.stored, counts.quarantined, counts.backlog), (20, 70, 0));
    assert_eq!(quarantined(&bench).await.len(), 10);
}

#[tokio::test]
async fn a_refused_event_is_quarantined_as_well_and_not_held_for_ever() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Poison("bad text"));
    let mut flush = bench.flush(&[("a", 3)]);
    let event = |sequence, text: &str| EventRow {
        car: "44".into(),
        day: 0,
        t: 0,
        device: "ecu".into(),
        boot: 1,
        sequence,
        d: 0,
        kind: "text".into(),
        number: 0,
        text: text.into(),
    };
    flush.rows.events = vec![event(1, "good"), event(2, "bad text")];
    bench.push(Outgoing::Flush(flush)).await;
    bench.until("settled", |b| b.fired() == 1).await;
    assert_eq!(bench.counts().stored, 3);
    let events = bench.store.written.lock().unwrap().iter().map(|rows| rows.events.len()).sum::<usize>();
    assert_eq!((events, quarantined(&bench).await.len()), (1, 1));
}

#[tokio::test]
async fn poison_that_takes_longer_than_d_to_find_is_found_from_the_backlog_and_the_link_stays_up() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Works);
    bench.send(&[("a", 1)]).await;
    bench.until("up", |b| b.counts().stored == 1).await;
    // Some 100 writes of 5 ms, and D is 200 ms.
    bench.store.now(Script::SlowPoison("bad", ms(5)));
    let names: Vec<String> = (0..64).map(|n| if n % 9 == 8 { format!("bad{n}") } else { format!("c{n}") }).collect();
    let channels: Vec<(&str, i32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    bench.send(&channels).await;
    bench.until("spilled", |b| b.counts().backlog == 64).await;
    assert_eq!(bench.stats.snapshot().link, LinkState::Up);
    bench.until("settled", |b| b.counts().quarantined == 7 && b.counts().stored == 58).await;
    assert_eq!(bench.stats.snapshot().link, LinkState::Up);
}

#[tokio::test]
async fn a_store_that_refuses_nearly_all_rows_is_held_for_and_the_rows_are_kept() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::PoisonAll);
    for _ in 0..40 {
        bench.send(&[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)]).await;
    }
    bench.until("held", |b| b.stats.snapshot().link == LinkState::Holding).await;
    bench.until("spilled", |b| b.counts().in_flight == 0).await;
    let counts = bench.counts();
    assert!(counts.quarantined < 120 && counts.backlog > 80, "{counts:?}");
    assert_eq!(counts.quarantined + counts.backlog, 200);
    assert!(bench.stats.snapshot().detail.contains("refuses most rows"), "{}", bench.stats.snapshot().detail);
    bench.store.now(Script::Works);
    bench.until("drained", |b| b.counts().backlog == 0).await;
    assert_eq!(bench.counts().stored + counts.quarantined, 200);
}

#[tokio::test]
async fn a_message_that_cannot_be_decoded_is_settled_once_it_is_in_the_quarantine() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Hangs);
    for _ in 0..100 {
        bench.push(bench.malformed(1_000)).await;
    }
    bench.until("quarantined", |b| b.fired() == 100).await;
    assert_eq!(quarantined(&bench).await.len(), 100);
    assert_eq!(bench.counts(), Counts::default(), "no samples were in it");
}

#[tokio::test]
async fn messages_larger_together_than_the_smallest_quarantine_get_into_it() {
    let dir = temporary();
    let setup = Setup { disk_max: ByteSize::mib(4), ..Setup::default() };
    let bench = Bench::start_with(&dir, Script::Works, setup);
    for _ in 0..40 {
        bench.push(bench.malformed(200_000)).await;
    }
    bench.until("quarantined", |b| b.fired() == 40).await;
    assert!(bench.quarantine.stats().disk_bytes <= 4 << 20);
}

#[tokio::test]
async fn a_quarantine_that_cannot_be_written_leaves_messages_with_their_broker_and_lets_samples_through() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Poison("bad"));
    bench.quarantine_disk.fails(true);
    bench.send(&[("bad", 7), ("a", 1)]).await;
    let (void, settled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = |owed: bool| {
        let (void, settled) = (void.clone(), settled.clone());
        let on_end = move |ending| {
            let count = if ending == Ending::Void { &void } else { &settled };
            count.fetch_add(1, Ordering::SeqCst);
        };
        if owed { Receipt::with_ending(on_end) } else { Receipt::unowed_with_ending(on_end) }
    };
    let malformed = |owed| match bench.malformed(256 << 10) {
        Outgoing::Malformed(malformed) => Outgoing::Malformed(Malformed { receipt: count(owed), ..malformed }),
        Outgoing::Flush(_) => unreachable!(),
    };
    // Eight of them may wait.
    for _ in 0..40 {
        bench.push(malformed(true)).await;
    }
    bench.until("all are taken", |b| b.stats.snapshot().turns > 0 && settled.load(Ordering::SeqCst) == 0).await;
    for _ in 0..10 {
        bench.push(malformed(false)).await;
        bench.send(&[("a", 10)]).await;
    }
    bench.until("samples go through", |b| b.counts().stored == 100).await;
    assert!(!bench.stats.snapshot().holding_back);
    assert_eq!((bench.counts().in_flight, void.load(Ordering::SeqCst)), (8, 0), "nobody was told anything");
    assert_eq!((settled.load(Ordering::SeqCst), bench.stats.snapshot().quarantine_lost), (10, 10), "counted");
    bench.quarantine_disk.fails(false);
    let settles = || settled.load(Ordering::SeqCst) - 10;
    let took = bench.until("recovered", |b| settles() + void.load(Ordering::SeqCst) == 40 && b.fired() == 11).await;
    assert!(took < ms(10_000), "{took:?}");
    assert!((7..=9).contains(&settles()), "{} are in the quarantine, the others come again", settles());
    let counts = bench.counts();
    assert_eq!((counts.stored, counts.quarantined, counts.in_flight), (101, 7, 0));
}

#[tokio::test]
async fn samples_that_the_store_refuses_and_no_disk_takes_hold_everything_back_within_bounds() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Poison("bad"));
    bench.quarantine_disk.fails(true);
    let mut sent = 0;
    while sent < 80 {
        let room = bench.sender.as_ref().unwrap().room(256 << 10);
        let Ok(room) = tokio::time::timeout(ms(1_500), room).await else { break };
        let mut flush = bench.flush(&[("bad", 7), ("a", 1)]);
        flush.rows.chunks[0].data = vec![7; 256 << 10];
        room.unwrap().put(Outgoing::Flush(flush));
        sent += 1;
        tokio::time::sleep(ms(10)).await;
    }
    assert!(sent < 80 && bench.stats.snapshot().holding_back, "{sent}");
    assert_eq!(bench.fired(), 0, "nothing is settled before it is durable");
    bench.quarantine_disk.fails(false);
    bench.until("recovered", |b| b.counts().quarantined == 7 * sent && b.fired() as u64 == sent).await;
    assert_eq!(bench.counts().stored, sent);
}

#[tokio::test]
async fn a_record_that_holds_no_rows_goes_to_the_quarantine_and_one_of_another_version_stays() {
    let dir = temporary();
    let bench = Bench::start(&dir, Script::Works);
    let record = |payload: &'static [u8], samples| {
        let record = rows_record(&Rows::default(), &[(bench.ledger.source("ecu"), samples)], &bench.ledger, "");
        spill::Record { payload: payload.into(), weight: samples, ..record }
    };
    // As if an earlier run had left them.
    bench.ledger.recover(bench.ledger.source("ecu"), 12);
    bench.spill.append(Priority::Normal, vec![record(b"\x02\xff\xff", 5), record(b"\x63abc", 7)]).await.unwrap();
    bench.send(&[("a", 1)]).await;
    bench.until("settled", |b| b.counts().quarantined == 5 && b.counts().stored == 1).await;
    let turns = bench.stats.snapshot().turns;
    tokio::time::sleep(ms(2_000)).await;
    assert!(bench.stats.snapshot().turns - turns < 20, "what stays is not asked for again and again");
    assert_eq!((bench.counts().backlog, bench.spill.stats().backlog_records), (7, 1));
    assert_eq!(bench.stats.snapshot().mode, Mode::Direct);
    assert_eq!(quarantined(&bench).await[0].1, 5);
}
