//! Random lives, one after another: power cuts, full disks, other settings, for as long as one likes.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use pitwire::spill::{Config, Overflow};

use crate::books::Books;
use crate::life::{Ending, Plan, live, small};
use crate::random::{Random, seed};
use crate::rig::{KIB, LoopFs, MIB, figure};
use crate::size::resident_kib;

/// How long the short form runs.
const SHORT: Duration = Duration::from_secs(8);

fn plan(fs: &LoopFs, random: &mut Random) -> Plan {
    let segment = (64 * KIB) << random.below(4);
    let after = random.within(Duration::from_millis(80));
    let overflow =
        [Overflow::DropOldest, Overflow::DropNewest, Overflow::Block][usize::try_from(random.below(3)).unwrap()];
    Plan {
        config: Config {
            segment_bytes: ByteSize::b(segment),
            disk_max: ByteSize::b(2 * segment + random.below(12 * MIB)),
            free_min: ByteSize::b(random.below(2) * MIB),
            overflow,
            ..small(&fs.path().join("spill"))
        },
        writers: 1 + usize::try_from(random.below(3)).unwrap(),
        payload_bytes: 1 + random.below(40 * KIB),
        nack_one_in: [0, 2, 5, 50][usize::try_from(random.below(4)).unwrap()],
        ending: match random.below(8) {
            0 => Ending::Close(after),
            1 => Ending::CutFromOpen(after / 3),
            _ => Ending::Cut(after),
        },
    }
}

/// Takes the disk's room away and gives it back, until told to stop. In the dark it can do neither.
fn hoard(fs: &LoopFs, stop: &AtomicBool, mut random: Random) {
    while !stop.load(Ordering::SeqCst) {
        let _ = fs.fill(random.below(600 * KIB));
        std::thread::sleep(random.within(Duration::from_millis(20)));
        let _ = fs.clear();
        std::thread::sleep(random.within(Duration::from_millis(20)));
    }
}

/// Open descriptors that lead into the folders of this test.
fn descriptors(fs: &LoopFs) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter(|target| target.starts_with(fs.path())).count()
}

#[test]
fn random_faults_lose_nothing_durable() {
    let Some(mut fs) = LoopFs::new(24 * MIB) else { return };
    let seconds = std::env::var("PITWIRE_SOAK_SECONDS").ok();
    let run_for = seconds.map_or(SHORT, |text| Duration::from_secs(text.parse().expect("a number of seconds")));
    let seed = seed("PITWIRE_SOAK_SEED");
    // Before anything can fail: it is what replays the run.
    figure(&format!("seed {seed}, {} s", run_for.as_secs()));
    let (mut random, books) = (Random::new(seed), Arc::new(Books::default()));
    let (start, mut lives, mut resident) = (Instant::now(), 0u64, None);
    while start.elapsed() < run_for {
        let plan = plan(&fs, &mut random);
        let hoards = random.one_in(4);
        let (chance, stop) = (random.fork(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let hoarder = hoards.then(|| scope.spawn(|| hoard(&fs, &stop, chance)));
            live(&fs.path(), &books, &plan, &mut random);
            stop.store(true, Ordering::SeqCst);
            if let Some(hoarder) = hoarder {
                hoarder.join().unwrap();
            }
        });
        fs.power_on();
        let _ = fs.clear();
        assert_eq!(descriptors(&fs), 0, "left open after life {lives}: {plan:?}");
        lives += 1;
        if resident.is_none() && start.elapsed() > run_for / 5 {
            resident = Some(resident_kib());
        }
    }
    let plan = Plan { ending: Ending::Close(Duration::from_millis(1)), nack_one_in: 0, ..plan(&fs, &mut random) };
    live(&fs.path(), &books, &plan, &mut random);
    let sums = books.sums();
    figure(&format!(
        "{lives} lives: 0 of {} durable records lost, 0 stale, {} dropped and told, {} refused; {} finished segments; \
         resident {} KiB after a fifth, {} KiB at the end",
        sums.durable,
        sums.dropped,
        sums.refused,
        sums.finished,
        resident.unwrap_or_default(),
        resident_kib()
    ));
    assert!(sums.durable > 0 && lives > 1, "{sums:?}");
}
