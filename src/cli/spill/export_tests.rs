//! What comes out of a quarantine with rows, messages and what nobody can read.

use std::time::Instant;

use super::*;
use crate::deliver::record::{message_record, rows_record};
use crate::item::Malformed;
use crate::ledger::Ledger;
use crate::receipt::Receipt;
use crate::row::{ChunkRow, ExtentRow, Layout, SessionRow};
use crate::sample::UnixMicros;
use crate::spill::{self, RealFs, Spill};

fn message() -> Record {
    message_record(&Malformed {
        source: "car".into(),
        topic: "pitwire/44/x".into(),
        reason: "no frame".into(),
        payload: b"\x01\x02".to_vec().into(),
        accepted_at: Instant::now(),
        received: UnixMicros(1_795_255_200_000_000),
        receipt: Receipt::new(|| {}),
    })
}

fn rows(car: &str, seq: i64) -> Rows {
    let extent = ExtentRow {
        car: car.into(),
        day: 0,
        layout: Layout::Chunks.as_str().into(),
        device: "ecu".into(),
        channel: String::new(),
        bucket: 60_000_000,
        length_us: 60_000_000,
    };
    let chunk = ChunkRow {
        car: car.into(),
        device: "ecu".into(),
        bucket: 60_000_000,
        channel: "a".into(),
        t0: 61_000_000 + seq,
        writer: [7; 16],
        seq,
        boot: 1,
        d0: 61_000_000 + seq,
        t1: 61_100_000,
        n: 5,
        v_min: None,
        v_max: None,
        v_mean: None,
        v_last: None,
        quality: 0,
        codec: 0,
        data: vec![1, 2, 3],
        layout: Layout::Chunks,
    };
    let session = SessionRow { car: car.into(), start: seq, number: seq, name: "race".into() };
    Rows { extents: vec![extent], chunks: vec![chunk], sessions: vec![session], ..Rows::default() }
}

#[tokio::test]
async fn rows_go_to_the_store_with_their_reasons_told_and_messages_to_files_with_theirs_beside() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, raw) = (dir.path().join("quarantine"), dir.path().join("raw"));
    fs::create_dir(&raw).unwrap();
    let ledger = Ledger::new();
    let config = spill::Config { dir: queue.clone(), ..spill::Config::default() };
    let (spill, _) = Spill::open(config, Arc::new(RealFs), Arc::new(())).unwrap();
    let refused = |seq| rows_record(&rows("44", seq), &[], &ledger, "too large");
    spill.append(vec![refused(0), message(), refused(1)]).await.unwrap();
    spill.append(vec![Record { payload: vec![9, 9].into(), ..refused(2) }]).await.unwrap();
    spill.close().await;

    let path = dir.path().join("spool.db");
    let store = store::connect(&store::Config::for_url(StoreUrl::Sqlite { path })).await.unwrap();
    let config = spill::Config { dir: queue.clone(), ..spill::Config::default() };
    let place = Place { dir: queue, config, disk_max: None, quarantine: true, car: "44".into(), key: None };
    let met = fill(place, Some(raw.clone()), true, &store).await.unwrap_or_else(|_| panic!("it was read"));
    assert_eq!((met.records, met.samples, met.raw, met.gaps), (2, 10, 2, 0));
    assert_eq!(met.cars.into_iter().collect::<Vec<_>>(), ["44"]);
    assert_eq!(met.reasons, BTreeMap::from([("too large".into(), 3), ("no frame".into(), 1)]));
    assert_eq!(store.chunks("44", "ecu", 60_000_000, None).await.unwrap().len(), 2);
    assert_eq!(store.sessions("44").await.unwrap().len(), 2);

    let mut files: Vec<_> = fs::read_dir(&raw).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 4, "{files:?}");
    assert_eq!(fs::read(&files[0]).unwrap(), b"\x01\x02");
    let json = |path: &PathBuf| serde_json::from_slice::<serde_json::Value>(&fs::read(path).unwrap()).unwrap();
    let beside = json(&files[1]);
    assert_eq!((&beside["reason"], &beside["topic"]), (&"no frame".into(), &"pitwire/44/x".into()));
    assert_eq!((&beside["received"], &beside["sources"][0]), (&"2026-11-21T10:00:00Z".into(), &"car".into()));
    let unknown = json(&files[3]);
    assert!(unknown["reason"].as_str().unwrap().contains("version 9"), "{unknown}");
}

#[test]
fn of_several_cars_one_has_to_be_named() {
    let cars = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let chosen = |car: Option<&str>, names: &[&str]| one_car(car.map(str::to_owned), &cars(names)).ok().flatten();
    assert_eq!(chosen(None, &["44"]).as_deref(), Some("44"));
    assert_eq!(chosen(Some("46"), &["44", "46"]).as_deref(), Some("46"));
    assert_eq!(chosen(None, &[]), None);
    assert!(matches!(one_car(None, &cars(&["44", "46"])), Err(Failure::Usage(what)) if what.contains("44, 46")));
}
