//! The gateway's clock does what it likes while data flows.

use std::collections::HashMap;
use std::io::{BufReader, Write as _};

use firmware_sim::ClockBase;

use super::*;
use crate::clock::{EARLIEST_PLAUSIBLE, Scripted};
use crate::export::{Query, Reader, audit};
use crate::sample::{Quality, UnixMicros};
use crate::store::Store;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const YEARS_50: i64 = 50 * 8_766 * HOUR;
/// What the right time is when the clock is set.
const TODAY: UnixMicros = UnixMicros(EARLIEST_PLAUSIBLE.0 + 200 * 24 * HOUR);
/// How long a stored row may be in coming: the tests share the machine.
const STALL_MAX: Duration = Duration::from_secs(8);

/// After so many ms of data, in words, what the wall clock does.
type Step = (u64, &'static str, fn(&Scripted));

const SCRIPT: [Step; 6] = [
    (2_500, "1970 -> today", |clock| clock.set_utc(TODAY)),
    (4_000, "+1 h", |clock| clock.step_us(HOUR)),
    (5_500, "-1 h", |clock| clock.step_us(-HOUR)),
    (7_000, "+50 y", |clock| clock.step_us(YEARS_50)),
    (9_000, "-50 y", |clock| clock.step_us(-YEARS_50)),
    (10_000, "-50 y", |clock| clock.step_us(-YEARS_50)),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_car_that_boots_in_1970_and_whose_clock_is_stepped_arrives_whole_in_order_and_under_its_right_time() {
    let dir = tempfile::tempdir().unwrap();
    let (link, manifest) = (dir.path().join("ecu"), dir.path().join("sent.jsonl"));
    let clock = Scripted::running(UnixMicros(30 * SECOND));
    let app = App::start_with(config(&dir, &sqlite(&dir), &link), None, clock.clone()).await.unwrap();
    let options = Options {
        tier: Tier::Can,
        run_for: Some(Duration::from_secs(12)),
        clock: ClockBase::Boot,
        outputs: vec![Output::Pty { link: Some(link) }],
        manifest: Some(manifest.clone()),
        // Boots that begin while the clock is fifty years ahead, and while it is in 1976.
        faults: vec!["reboot@8s".parse().unwrap(), "reboot@11s".parse().unwrap()],
        block: true,
        ..Options::default()
    };
    let simulator = Simulator::prepare(options).unwrap();
    let running = tokio::task::spawn_blocking(move || simulator.run(&Stop::new()).unwrap());

    until(&app, "data comes", |s| s.ledger.total.received > 0).await;
    let began = Instant::now();
    let (mut script, mut stored, mut stored_at, mut stall) = (SCRIPT.iter().peekable(), 0, None, Duration::ZERO);
    let mut right_at = None;
    while !running.is_finished() {
        if let Some((_, _, step)) = script.next_if(|(ms, ..)| began.elapsed() >= Duration::from_millis(*ms)) {
            step(&clock);
            right_at.get_or_insert_with(Instant::now);
        }
        let status = app.status();
        assert!(status.ledger.balanced && app.alive(), "{:?}", status.ledger);
        if status.ledger.total.stored > stored {
            stall = stall.max(stored_at.map_or(Duration::ZERO, |at: Instant| at.elapsed()));
            (stored, stored_at) = (status.ledger.total.stored, Some(Instant::now()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(script.peek().is_none(), "the car was too fast for the script");
    let sent = running.await.unwrap().samples();
    until(&app, "stored", |s| s.ledger.total.stored == sent).await;
    let outcome = app.stop().await;
    assert_eq!((outcome.undurable, outcome.failed_stages.len()), (0, 0));
    // The right time of the first sample that may be, and of the last.
    let set_after = right_at.unwrap().duration_since(began).as_micros() as i64;
    let right = (TODAY.0 - set_after - 5 * SECOND, TODAY.0 + 30 * SECOND);

    let stored_in = store::Config { url: sqlite(&dir).parse().unwrap(), ..Default::default() };
    let store = store::connect_to_read(&stored_in).await.unwrap();
    let report = audit(BufReader::new(std::fs::File::open(&manifest).unwrap()), &*store).await.unwrap();
    assert!(report.is_exact() && report.sent == sent && report.sent > 15_000, "{report:?}");
    let found = look(&*store, right).await;
    assert_eq!(found.samples, sent, "all of it is found under its right time");
    // Of each of three devices one provisional mapping, which was corrected, and a right one for each later boot.
    let mut clocks = store.clocks("44").await.unwrap();
    clocks.sort_by_key(|row| row.provisional);
    assert_eq!(clocks.iter().filter(|row| row.provisional).count(), 3, "{clocks:?}");
    assert_eq!(clocks.len(), 3 * 4, "{clocks:?}");
    let in_1970 = store.days("44").await.unwrap().iter().filter(|&&day| day == 0).count();
    let extents = store.extents("44", 0).await.unwrap().len();
    assert!(in_1970 == 1 && extents <= 3 * 2, "1970 does not grow on: {extents} partitions");
    let nobody = look(&*store, (TODAY.0 - 24 * HOUR, TODAY.0 - 12 * HOUR)).await;
    assert_eq!((nobody.samples, nobody.partitions), (0, 0), "and no other time makes anybody look into 1970");
    let steps: Vec<&str> = SCRIPT.iter().map(|(_, name, _)| *name).collect();
    let line = format!(
        "FIGURE clock steps {steps:?}: sent {}, missing {}, extra {}, altered {}; longest time between two stored rows \
         {:.0} ms; {} of {sent} samples found in {} partitions by their right time\n",
        report.sent,
        report.missing,
        report.extra,
        report.altered,
        stall.as_secs_f64() * 1_000.0,
        found.samples,
        found.partitions
    );
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    assert!(stall < STALL_MAX, "{stall:?}");
}

struct Found {
    samples: u64,
    partitions: usize,
}

/// Reads a time, and looks whether it is in order and known.
async fn look(store: &dyn Store, (from_us, to_us): (i64, i64)) -> Found {
    let query = Query { from_us: Some(from_us), to_us: Some(to_us), ..Query::default() };
    let mut reading = Reader::new(store, "44").read(&query).await.unwrap();
    let (mut samples, mut last) = (0, HashMap::new());
    while let Some(block) = reading.next().await.unwrap() {
        for sample in &block.samples {
            samples += 1;
            assert_eq!(sample.quality.0 & Quality::PROVISIONAL_TIME.0, 0, "{sample:?}");
            let before = last.insert(sample.series, (sample.t_us, sample.d_us));
            assert!(before.is_none_or(|(t, d)| t < sample.t_us && d < sample.d_us), "{before:?} {sample:?}");
        }
    }
    assert_eq!((reading.counts().late, reading.counts().damaged), (0, 0));
    Found { samples, partitions: reading.progress().1 }
}
