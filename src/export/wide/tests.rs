use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::super::target::Target;
use super::super::testing::{Chunk, MemoryStore, channel_row, chunk, write};
use super::super::{ExportError, ExportOptions, Format, Reader, export};
use super::*;
use crate::row::{ChannelRow, Rows};
use crate::sample::UnixMicros;
use crate::store::Store as _;

/// (time, car, channel, value)
type Sample = (i64, &'static str, &'static str, f64);
const CHANNELS: [&str; 3] = ["lap", "rpm", "speed"];

async fn store(samples: &[Sample]) -> Arc<MemoryStore> {
    let store = MemoryStore::default();
    let mut chunks = Vec::new();
    for (seq, &(t_us, car, channel, value)) in (0..).zip(samples) {
        chunks.push(Chunk { car, channel, seq, bucket_us: 20, ..chunk(&[(t_us, value)]) });
    }
    write(&store, &chunks).await;
    let channels = ["44", "45"]
        .into_iter()
        .flat_map(|car| CHANNELS.map(|channel| ChannelRow { car: car.into(), ..channel_row("ecu", channel, "V") }));
    store.write(&Rows { channels: channels.collect(), ..Rows::default() }).await.unwrap();
    Arc::new(store)
}

fn options(wide: &Wide, [from, to]: [Option<i64>; 2], path: &Path) -> ExportOptions {
    ExportOptions {
        cars: vec!["45".into(), "44".into()],
        channels: vec![],
        from: from.map(UnixMicros),
        to: to.map(UnixMicros),
        format: Format::Csv,
        wide: Some(wide.clone()),
        output: Some(path.to_owned()),
        of: Some("it".into()),
        checkpoint: Duration::ZERO,
        progress: false,
    }
}

fn every(every_us: i64, rule: Rule, max_age_us: i64) -> Wide {
    Wide { rows: WideRows::Every { every_us, rule }, max_age_us }
}

fn at(channel: &str, max_age_us: i64) -> Wide {
    Wide { rows: WideRows::At { channel: channel.into() }, max_age_us }
}

/// Without the columns `time`.
fn rows_of(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split_once(',').unwrap().1.to_owned()).collect()
}

async fn exported(samples: &[Sample], wide: &Wide, range: [Option<i64>; 2]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.csv");
    let options = options(wide, range, &path);
    export(store(samples).await, &options, CancellationToken::new()).await.unwrap();
    rows_of(&path)
}

#[tokio::test]
async fn a_row_holds_the_last_sample_of_each_channel_up_to_its_time() {
    let samples = [(5, "44", "rpm", 1.0), (10, "44", "speed", 2.0), (11, "44", "rpm", 3.0), (95, "44", "lap", 4.0)];
    let rows = exported(&samples, &every(10, Rule::Last, 50), [None, None]).await;
    // 10 counts for 10, 11 for 20; between 20 and 100 nothing comes; what is older than 50 µs is gone.
    let expected = ["t_us,car,lap,rpm,speed", "10,44,,1.0,2.0", "20,44,,3.0,2.0", "100,44,4.0,,"];
    assert_eq!(rows, expected);
    let rows = exported(&samples, &every(10, Rule::Last, 1_000), [Some(20), Some(100)]).await;
    assert_eq!(rows[1..], ["20,44,,3.0,2.0"], "the first row has what came before the range; the last is none of it");
}

#[tokio::test]
async fn a_row_sums_up_the_samples_until_the_next() {
    let samples = [
        (0, "44", "rpm", 1.0),
        (9, "44", "rpm", 4.0),
        (9, "44", "speed", f64::NAN),
        (10, "44", "rpm", 7.0),
        (35, "44", "speed", -1.5),
    ];
    let of = |rule| {
        let wide = every(10, rule, 1);
        async move { exported(&samples, &wide, [None, None]).await[1..].to_vec() }
    };
    assert_eq!(of(Rule::Mean).await, ["0,44,,2.5,", "10,44,,7.0,", "30,44,,,-1.5"]);
    assert_eq!(of(Rule::Min).await, ["0,44,,1.0,", "10,44,,7.0,", "30,44,,,-1.5"]);
    assert_eq!(of(Rule::Max).await, ["0,44,,4.0,", "10,44,,7.0,", "30,44,,,-1.5"]);
}

#[tokio::test]
async fn rows_at_a_channel_have_its_times_and_each_car_its_own() {
    let samples = [
        (1, "44", "rpm", 1.0),
        (3, "45", "rpm", 9.0),
        (5, "44", "lap", 2.0),
        (5, "45", "lap", 8.0),
        (5, "44", "speed", 3.0),
        (6, "44", "rpm", 4.0),
        (7, "45", "lap", 7.0),
    ];
    let rows = exported(&samples, &at("lap", 100), [None, None]).await;
    assert_eq!(rows[1..], ["5,44,2.0,1.0,3.0", "5,45,8.0,9.0,", "7,45,7.0,9.0,"]);
}

#[tokio::test]
async fn a_table_without_columns_or_rows_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.csv");
    let refused = |wide: Wide, channels: Vec<String>| {
        let options = ExportOptions { channels, ..options(&wide, [None, None], &path) };
        async move { export(store(&[(1, "44", "rpm", 1.0)]).await, &options, CancellationToken::new()).await.unwrap_err() }
    };
    let error = refused(at("gear", 1), vec![]).await;
    assert!(matches!(&error, ExportError::Wide(why) if why.contains("gear")), "{error}");
    let error = refused(every(1, Rule::Last, 1), vec!["gear".into()]).await;
    assert!(matches!(&error, ExportError::Wide(why) if why.contains("no columns")), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// The same, one step after the other and slow.
fn expected(samples: &[Sample], wide: &Wide, [from, to]: [Option<i64>; 2]) -> Vec<String> {
    let is_in = |t: i64| from.is_none_or(|from| t >= from) && to.is_none_or(|to| t < to);
    let mut times: Vec<(i64, &str)> = Vec::new();
    for &(t, car, channel, _) in samples.iter().filter(|sample| to.is_none_or(|to| sample.0 < to)) {
        let row = match &wide.rows {
            WideRows::At { channel: at } => (channel == at).then_some(t),
            WideRows::Every { every_us, rule: Rule::Last } => Some((t + every_us - 1).div_euclid(*every_us) * every_us),
            WideRows::Every { every_us, .. } => Some(t.div_euclid(*every_us) * every_us),
        };
        times.extend(row.filter(|&row| is_in(row)).map(|row| (row, car)));
    }
    times.sort_unstable();
    times.dedup();
    let cell = |row: i64, car: &str, channel: &str| {
        let of: Vec<(i64, f64)> = samples.iter().filter(|s| (s.1, s.2) == (car, channel)).map(|s| (s.0, s.3)).collect();
        let value = match wide.rows {
            WideRows::Every { every_us, rule: rule @ (Rule::Mean | Rule::Min | Rule::Max) } => {
                let until = to.map_or(row + every_us, |to| to.min(row + every_us));
                let within: Vec<f64> = of.iter().filter(|s| (row..until).contains(&s.0)).map(|s| s.1).collect();
                (!within.is_empty()).then(|| match rule {
                    Rule::Min => within.iter().copied().fold(f64::INFINITY, f64::min),
                    Rule::Max => within.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    _ => within.iter().fold(0.0, |sum, value| sum + value) / within.len() as f64,
                })
            }
            _ => {
                let last = of.iter().filter(|s| s.0 <= row).max_by_key(|s| s.0);
                last.filter(|s| s.0 >= row - wide.max_age_us).map(|s| s.1)
            }
        };
        value.map_or_else(String::new, |value| format!("{value:?}"))
    };
    let line = |&(t, car): &(i64, &str)| {
        let cells = CHANNELS.map(|channel| cell(t, car, channel)).join(",");
        format!("{t},{car},{cells}")
    };
    times.iter().map(line).collect()
}

/// Writes so many blocks at a time and ends there, as often as it takes.
async fn exported_in_parts(samples: &[Sample], wide: &Wide, range: [Option<i64>; 2], blocks: usize) -> Vec<String> {
    let (store, folder) = (store(samples).await, tempfile::tempdir().unwrap());
    let path = folder.path().join("out.csv");
    let options = options(wide, range, &path);
    for _ in 0..1_000 {
        let mut target = Target::open(&options).unwrap();
        let (query, earlier) = target.left(&options);
        let mut reading = Reader::of_cars(&*store, &options.cars).read(&query).await.unwrap().with_block_samples(1);
        assert!(target.placed_by(reading.clock_digests()));
        target.begin(&options, reading.described()).unwrap();
        let (mut written, mut more) = (0, true);
        while more && written < blocks {
            match reading.next().await.unwrap() {
                Some(block) => {
                    // What was read for the sake of the first row is no progress.
                    written += usize::from(block.until_us > query.from_us.unwrap_or(i64::MIN) + 60);
                    target.write(block, &reading.counts().with(&earlier)).unwrap();
                }
                None => more = false,
            }
        }
        if !more {
            target.commit(&reading.counts().with(&earlier)).unwrap();
            return rows_of(&path);
        }
    }
    panic!("it does not come to an end");
}

fn any_wide() -> impl Strategy<Value = Wide> {
    let rule = prop_oneof![Just(Rule::Last), Just(Rule::Mean), Just(Rule::Min), Just(Rule::Max)];
    let rows = (1..30_i64, rule).prop_map(|(every_us, rule)| WideRows::Every { every_us, rule });
    let rows = prop_oneof![3 => rows, 1 => Just(WideRows::At { channel: "rpm".into() })];
    (rows, 1..50_i64).prop_map(|(rows, max_age_us)| Wide { rows, max_age_us })
}

fn any_samples() -> impl Strategy<Value = Vec<Sample>> {
    let one = (-100..400_i64, prop::sample::select(vec!["44", "45"]), prop::sample::select(CHANNELS.to_vec()));
    prop::collection::btree_map(one, -8..8_i8, 1..60)
        .prop_map(|all| all.into_iter().map(|((t, car, channel), value)| (t, car, channel, f64::from(value))).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_table_is_what_its_rule_says_however_often_it_is_interrupted(
        samples in any_samples(),
        wide in any_wide(),
        from in prop::option::of(-100..300_i64),
        length in prop::option::of(1..300_i64),
        blocks in 1..4_usize,
    ) {
        let range = [from, length.map(|length| from.unwrap_or(-100) + length)];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let wanted = expected(&samples, &wide, range);
        let whole = runtime.block_on(exported(&samples, &wide, range));
        prop_assert_eq!(&whole[1..], &wanted[..]);
        let parts = runtime.block_on(exported_in_parts(&samples, &wide, range, blocks));
        prop_assert_eq!(&parts[1..], &wanted[..]);
    }
}
