//! A disk whose sync fails once and says yes ever after, though the data is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use pitwire::spill::{Config, Overflow};

use crate::books::Books;
use crate::life::{runtime, small, soon};
use crate::rig::{KIB, LoopFs, MIB, PATIENCE, figure};

#[test]
fn what_a_lying_sync_lost_was_never_called_durable() {
    // The file system thinks that it has 64 MiB; the device takes 24 and then refuses. The first sync after that
    // fails, the next one says yes.
    let Some(mut fs) = LoopFs::overpromised(64 * MIB, 24 * MIB) else { return };
    let config = Config {
        disk_max: ByteSize::b(56 * MIB),
        segment_bytes: ByteSize::b(MIB),
        overflow: Overflow::Block,
        ..small(&fs.path().join("spill"))
    };
    let (runtime, books) = (runtime(), Arc::new(Books::default()));
    let stats = runtime.block_on(async {
        let (spill, _) = books.open(&config).await.unwrap();
        let start = Instant::now();
        let (mut number, mut faults) = (0, 0);
        // On: what comes after the first fault is what is lied about.
        while faults < 30 && spill.stats().written_bytes < 50 * MIB && start.elapsed() < PATIENCE {
            let appending = books.append(&spill, 0, number, &[60 * KIB as usize, 3000]);
            let outcome = soon("an answer", appending).await;
            number += 2;
            if outcome.is_err() {
                faults += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let stats = spill.stats();
        soon("close", spill.close()).await;
        stats
    });
    let sums = books.sums();
    assert!(stats.failed_syncs + stats.failed_writes > 0, "the device never failed: {stats:?}");
    assert!(sums.durable > 100, "{sums:?}");
    fs.repair();
    runtime.block_on(async {
        let (spill, recovery) = books.open(&config).await.unwrap();
        assert!(books.verify_on_a_lying_disk(&spill, &recovery).await);
        // And it works again.
        soon("an answer", books.append(&spill, 1, 0, &[1000])).await.unwrap();
        soon("close", spill.close()).await;
    });
    figure(&format!(
        "{} syncs failed: 0 of {} durable records lost, {} refused and given back",
        stats.failed_syncs, sums.durable, sums.refused
    ));
}
