//! A disk that is full or read-only, and then is not: nobody ends, nothing is lost in silence, it goes on by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use pitwire::spill::{Config, Overflow, Spill};

use crate::books::{Books, key_of};
use crate::life::{runtime, small, soon};
use crate::rig::{KIB, LoopFs, MIB, figure};

/// What the contract allows from the moment at which the disk is well again.
const RECOVERS_WITHIN: Duration = Duration::from_secs(10);

fn config(fs: &LoopFs, overflow: Overflow) -> Config {
    Config {
        // More than there is: the file system says when it is full.
        disk_max: ByteSize::b(64 * MIB),
        segment_bytes: ByteSize::b(256 * KIB),
        overflow,
        ..small(&fs.path().join("spill"))
    }
}

/// Appends until the answer is as wanted; how long that took, and what was answered before.
async fn until(taken: bool, books: &Books, spill: &Spill, number: &mut u64) -> (Duration, Option<String>) {
    let (start, mut words) = (Instant::now(), None);
    loop {
        let outcome = soon("an answer", books.append(spill, 0, *number, &[20_000, 100, 1])).await;
        *number += 3;
        let is_taken = outcome.is_ok();
        words = outcome.err().or(words);
        if is_taken == taken {
            return (start.elapsed(), words);
        }
        assert!(!taken || start.elapsed() < RECOVERS_WITHIN, "not well after {RECOVERS_WITHIN:?}: {words:?}");
        if taken {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Takes everything there is, acking it; how much that was.
async fn drain(books: &Books, spill: &Spill) -> u64 {
    let mut drained = 0;
    while spill.stats().backlog_records > 0 {
        for (position, record) in soon("the backlog", spill.next_batch(4096, MIB)).await.unwrap() {
            books.handed_out(position, &record);
            books.ack(spill, position, key_of(&record));
            drained += 1;
        }
    }
    drained
}

#[test]
fn a_full_disk_refuses_and_takes_again_as_soon_as_there_is_room() {
    let Some(fs) = LoopFs::new(16 * MIB) else { return };
    let books = Arc::new(Books::default());
    runtime().block_on(async {
        let (spill, _) = books.open(&config(&fs, Overflow::Block)).await.unwrap();
        let mut number = 0;
        let (mut slowest, mut words) = (Duration::ZERO, None);
        for _ in 0..5 {
            until(true, &books, &spill, &mut number).await;
            fs.fill(300 * KIB).unwrap();
            words = until(false, &books, &spill, &mut number).await.1.or(words);
            // What lies there can be had while nothing more fits, and gives its room back.
            assert!(drain(&books, &spill).await > 0);
            fs.clear().unwrap();
            let (took, _) = until(true, &books, &spill, &mut number).await;
            slowest = slowest.max(took);
        }
        drain(&books, &spill).await;
        let sums = books.sums();
        assert_eq!(books.left(), 0, "{sums:?}");
        assert_eq!(sums.durable, sums.acked, "{sums:?}");
        figure(&format!(
            "5 times full ({}): took again after at most {} ms; {} appended = {} handed out + {} refused",
            words.unwrap(),
            slowest.as_millis(),
            number,
            sums.acked,
            sums.refused
        ));
        assert_eq!(number, sums.acked + sums.refused);
        soon("close", spill.close()).await;
    });
}

#[test]
fn a_disk_that_turns_read_only_refuses_and_takes_again_as_soon_as_it_is_writable() {
    let Some(fs) = LoopFs::new(16 * MIB) else { return };
    let books = Arc::new(Books::default());
    let config = config(&fs, Overflow::DropOldest);
    runtime().block_on(async {
        let (spill, _) = books.open(&config).await.unwrap();
        let mut number = 0;
        for _ in 0..40 {
            until(true, &books, &spill, &mut number).await;
        }
        // With a file open for writing the kernel refuses to make it read-only: a new process has none yet.
        soon("close", spill.close()).await;
        let (spill, recovery) = books.open(&config).await.unwrap();
        assert!(books.verify(&spill, &recovery).await);
        // The writer's thread of the one before ends a moment after its last answer.
        let start = Instant::now();
        while let Err(error) = fs.set_read_only(true) {
            assert!(start.elapsed() < RECOVERS_WITHIN, "{error}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (_, words) = until(false, &books, &spill, &mut number).await;
        assert!(drain(&books, &spill).await > 0, "reading goes on");
        fs.set_read_only(false).unwrap();
        let (took, _) = until(true, &books, &spill, &mut number).await;
        let start = Instant::now();
        while spill.stats().segments > 1 {
            assert!(start.elapsed() < RECOVERS_WITHIN, "finished segments stay: {:?}", spill.stats());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drain(&books, &spill).await;
        let sums = books.sums();
        assert_eq!((books.left(), number), (0, sums.acked + sums.refused), "{sums:?}");
        figure(&format!("{}: took again after {} ms", words.unwrap(), took.as_millis()));
        soon("close", spill.close()).await;
    });
}

#[test]
fn each_overflow_policy_accounts_for_every_record_on_a_full_disk() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest, Overflow::Block] {
        let Some(fs) = LoopFs::new(16 * MIB) else { return };
        let books = Arc::new(Books::default());
        runtime().block_on(async {
            let (spill, _) = books.open(&config(&fs, overflow)).await.unwrap();
            let (mut number, mut given) = (0, 0);
            while given < 28 * MIB {
                let sizes = [(given % 50_000) as usize, 700, 0];
                let _ = soon("an answer", books.append(&spill, 0, number, &sizes)).await;
                number += 3;
                given += 20_000;
            }
            let (free, stats) = (fs.free_bytes(), spill.stats());
            let drained = drain(&books, &spill).await;
            let sums = books.sums();
            assert_eq!(drained, sums.acked);
            assert_eq!(number, sums.acked + sums.dropped + sums.refused, "{sums:?}");
            assert_eq!((books.left(), stats.lost_records), (0, 0), "{stats:?}");
            assert_eq!(stats.dropped_records, sums.dropped, "{stats:?}");
            let drops = overflow == Overflow::DropOldest;
            assert_eq!((sums.dropped > 0, sums.refused > 0), (drops, !drops), "{sums:?}");
            figure(&format!(
                "{overflow:?}, 16 MiB: {number} appended = {drained} handed out + {} dropped + {} refused; {} KiB free",
                sums.dropped,
                sums.refused,
                free / KIB
            ));
            soon("close", spill.close()).await;
        });
    }
}
