//! Random batches in, the same samples out.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ledger::Policy;

/// Name, kind, start after the minute in µs, period in ns, values, whether time runs backwards, flags.
type GivenColumn = (u8, u8, i64, u32, Vec<i16>, bool, u16);

#[derive(Debug, Clone)]
struct Given {
    device: u8,
    boot: u32,
    base: bool,
    columns: Vec<GivenColumn>,
    ms: u64,
}

fn given() -> impl Strategy<Value = Given> {
    let start = prop_oneof![
        4 => -2_000_000..2_000_000_i64,
        2 => -100_000_000..100_000_000_i64,
        1 => Just(i64::MAX - MINUTE - 1_000_000_000),
        1 => Just(i64::MIN / 2),
    ];
    let period = prop_oneof![Just(1_000_u32), Just(272_727), Just(10_000_000), Just(900_000_000), 1_000..u32::MAX];
    let values = prop::collection::vec(any::<i16>(), 0..60);
    let quality = prop_oneof![3 => Just(0_u16), 1 => 0..8_u16];
    let column = (0..3_u8, 0..2_u8, start, period, values, any::<bool>(), quality);
    let columns = prop::collection::vec(column, 0..4);
    (0..2_u8, 0..2_u32, any::<bool>(), columns, 0..500_u64).prop_map(|(device, boot, base, columns, ms)| Given {
        device,
        boot,
        base,
        columns,
        ms,
    })
}

/// The column; some are turned round into explicit times that decrease.
fn build((name, kind, start, period_ns, values, backwards, quality): &GivenColumn) -> Column {
    let count = values.len();
    let regular =
        Times::Regular { t0: DeviceTime(MINUTE.saturating_add(*start)), period_ns: *period_ns, count: count as u32 };
    let times = if *backwards {
        Times::Explicit(regular.iter().collect::<Vec<_>>().into_iter().rev().collect())
    } else {
        regular
    };
    let (kind, values) = match kind {
        0 => (ValueKind::I16, Values::I16(values.clone())),
        _ => (ValueKind::F64, Values::F64(values.iter().map(|&v| f64::from(v) / 3.0).collect())),
    };
    let flags = Flags::all(Quality(*quality), count);
    Column { flags, ..column(&meta(&format!("c{name}"), kind), times, values) }
}

type Samples = BTreeMap<(String, i64, String), Vec<(i64, u64, u16)>>;

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_sample_comes_out_once_the_tallies_add_up_and_receipts_wait_for_all_their_flushes(
        all in prop::collection::vec(given(), 1..25),
        order in any::<u64>(),
    ) {
        let mut bench = Bench::new();
        let (mut sent, mut out, mut total) = (Samples::new(), Vec::new(), 0);
        for given in &all {
            let device = ["ecu", "tcu"][usize::from(given.device)];
            let base = if given.base { ClockBase::Utc } else { ClockBase::Boot };
            let columns: Vec<Column> = given.columns.iter().map(build).collect();
            for column in &columns {
                let key = (device.to_owned(), i64::from(given.boot), column.channel.name.to_string());
                let flags = column.flags.iter(column.len());
                let samples = column.times.iter().zip(flags).enumerate();
                sent.entry(key).or_default().extend(samples.map(|(i, (t, q))| (t, column.physical(i).to_bits(), q.0)));
                total += column.len() as u64;
            }
            out.extend(bench.batch_at(&origin(device, given.boot, base), columns, MINUTE, given.ms));
            if given.ms % 3 == 0 {
                out.extend(bench.at(given.ms));
            }
        }
        out.extend(bench.finish());
        let mut found = Samples::new();
        for row in chunks(&out) {
            let key = (row.device.clone(), row.boot, row.channel.clone());
            let decoded = samples(row);
            prop_assert_eq!(decoded.iter().map(|s| s.0).min(), Some(row.d0));
            prop_assert!(decoded.is_sorted_by_key(|s| s.0));
            prop_assert!(decoded.last().is_some_and(|s| s.0.saturating_sub(row.d0) <= 1_000_000));
            found.entry(key).or_default().extend(decoded.into_iter().map(|(t, v, q)| (t, v.to_bits(), q)));
        }
        sent.retain(|_, samples| !samples.is_empty());
        for samples in sent.values_mut().chain(found.values_mut()) {
            samples.sort_unstable();
        }
        prop_assert_eq!(&found, &sent);
        prop_assert_eq!(out.iter().map(|flush| flush.tally.samples()).sum::<u64>(), total);

        // In any order: a receipt never fires while a flush that holds a share of it is open.
        let mut state = order;
        while !out.is_empty() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let flush = out.swap_remove((state >> 33) as usize % out.len());
            let fate = if state & 1 == 0 { Fate::Stored } else { Fate::Dropped(Policy::Overflow) };
            flush.tally.settle(fate);
            let before = bench.fired();
            let shares = flush.receipts.len() as u32;
            flush.receipts.into_iter().for_each(Receipt::settle);
            prop_assert!(bench.fired() - before <= shares);
            prop_assert!(!out.is_empty() || bench.fired() as usize == all.len());
        }
        prop_assert_eq!(bench.fired() as usize, all.len());
        let now = bench.ledger.snapshot();
        prop_assert!(now.balanced && now.total.in_flight == 0, "{:?}", now);
    }
}
