//! The power goes at any moment: nothing durable is lost, nothing finished comes again, and it always starts.

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;

use crate::books::{Books, Sums};
use crate::life::{Ending, Plan, live, small};
use crate::random::{Random, seed};
use crate::rig::{KIB, LoopFs, MIB, figure, say_seed};

const MILLI: Duration = Duration::from_millis(1);

/// Cuts the power `cycles` times, as `plan` says for each, and looks a last time.
fn cycles(cycles: u32, mut plan: impl FnMut(&LoopFs, &mut Random) -> Plan) -> Option<(Sums, u64)> {
    let mut fs = LoopFs::new(64 * MIB)?;
    let seed = seed("PITWIRE_SOAK_SEED");
    let mut random = Random::new(seed);
    let books = Arc::new(Books::default());
    say_seed(seed);
    for _ in 0..cycles {
        let plan = plan(&fs, &mut random);
        live(&fs.path(), &books, &plan, &mut random);
        fs.power_on();
    }
    let last = Plan { ending: Ending::Close(MILLI), ..plan(&fs, &mut random) };
    live(&fs.path(), &books, &last, &mut random);
    Some((books.sums(), seed))
}

#[test]
fn a_power_cut_while_spilling_loses_nothing_durable() {
    let plan = |fs: &LoopFs, random: &mut Random| Plan {
        config: small(&fs.path().join("spill")),
        writers: 3,
        payload_bytes: 3000,
        nack_one_in: 0,
        ending: Ending::Cut(random.within(20 * MILLI)),
    };
    let Some((sums, seed)) = cycles(60, plan) else { return };
    figure(&format!("60 cuts (seed {seed}): 0 of {} durable records lost, {} commits torn", sums.durable, sums.torn));
    assert!(sums.durable > 60 && sums.recovered > sums.durable, "{sums:?}");
}

#[test]
fn a_power_cut_while_draining_loses_nothing_durable_and_brings_back_nothing_finished() {
    let plan = |fs: &LoopFs, random: &mut Random| Plan {
        config: small(&fs.path().join("spill")),
        writers: 2,
        payload_bytes: 12_000,
        nack_one_in: 5,
        ending: Ending::Cut(random.within(80 * MILLI)),
    };
    let Some((sums, seed)) = cycles(60, plan) else { return };
    figure(&format!(
        "60 cuts (seed {seed}): 0 of {} durable records lost, {} came again of segments that were not finished, 0 of \
         {} finished segments",
        sums.durable, sums.again, sums.finished
    ));
    assert!(sums.acked > 60 && sums.finished > 3, "{sums:?}");
}

#[test]
fn a_power_cut_while_segments_are_recycled_loses_nothing_durable_and_brings_back_nothing_finished() {
    // A few records fill a segment, and what the drain leaves is dropped at 1 MiB.
    let plan = |fs: &LoopFs, random: &mut Random| Plan {
        config: pitwire::spill::Config { disk_max: ByteSize::b(MIB), ..small(&fs.path().join("spill")) },
        writers: 2,
        payload_bytes: 30 * KIB,
        nack_one_in: if random.one_in(5) { 0 } else { 20 },
        ending: Ending::Cut(random.within(120 * MILLI)),
    };
    let Some((sums, seed)) = cycles(60, plan) else { return };
    figure(&format!(
        "60 cuts (seed {seed}): 0 of {} durable records lost, 0 stale; {} segments finished, {} records dropped and told",
        sums.durable, sums.finished, sums.dropped
    ));
    assert!(sums.finished > 3 && sums.dropped > 10, "{sums:?}");
}

#[test]
fn a_power_cut_at_the_first_boot_never_keeps_it_from_starting() {
    let Some(mut fs) = LoopFs::new(64 * MIB) else { return };
    let seed = seed("PITWIRE_SOAK_SEED");
    let mut random = Random::new(seed);
    say_seed(seed);
    let (mut durable, mut before_any) = (0, 0);
    for cycle in 0..60 {
        let books = Arc::new(Books::default());
        let plan = |ending| Plan {
            config: small(&fs.path().join(format!("new/{cycle}/spill"))),
            writers: 2,
            payload_bytes: 3000,
            nack_one_in: 0,
            ending,
        };
        let first = plan(Ending::CutFromOpen(random.within(20 * MILLI)));
        let last = plan(Ending::Close(MILLI));
        live(&fs.path(), &books, &first, &mut random);
        let sums = books.sums();
        (durable, before_any) = (durable + sums.durable, before_any + u64::from(sums.durable == 0));
        fs.power_on();
        live(&fs.path(), &books, &last, &mut random);
    }
    figure(&format!(
        "60 first boots cut (seed {seed}): started 60 times, {before_any} cuts before anything was durable, 0 of \
         {durable} durable records lost"
    ));
    assert!(durable > 0 && before_any > 0, "{durable} durable, {before_any} cuts before that");
}

#[test]
fn a_power_cut_while_it_starts_loses_nothing_durable() {
    let plan = |fs: &LoopFs, random: &mut Random| Plan {
        config: small(&fs.path().join("spill")),
        writers: 2,
        payload_bytes: 12_000,
        nack_one_in: 2,
        ending: Ending::CutFromOpen(random.within(25 * MILLI)),
    };
    let Some((sums, seed)) = cycles(60, plan) else { return };
    figure(&format!("60 cuts (seed {seed}): 0 of {} durable records lost, started 60 times", sums.durable));
    assert!(sums.durable > 10, "{sums:?}");
}
