//! What only the embedded store can suffer.

use std::time::Duration;

use pitwire::row::{ChunkRow, DAY_US, ExtentRow, Layout, Rows};
use pitwire::sample::UnixMicros;
use pitwire::store::{self, Config, StoreError, StoreUrl};

use crate::fixtures::{BUCKET, CAR, DAY, DEVICE, MINUTE_US, chunk, event, extent, flush, odd};
use crate::places::{Place, run};

fn path(config: &Config) -> std::path::PathBuf {
    let StoreUrl::Sqlite { path } = &config.url else { panic!("a SQLite place") };
    path.clone()
}

async fn held(config: &Config, read: bool) -> String {
    let result = if read { store::connect_to_read(config).await } else { store::connect(config).await };
    match result.map(|store| store.kind()) {
        Err(StoreError::Hold { reason, remedy }) => format!("{reason}; {remedy}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_file_and_its_directory_are_made_when_it_is_opened_to_write_only() {
    run(async {
        let place = Place::sqlite();
        let file = path(&place.config).with_file_name("new").join("pitwire.db");
        let config = Config::for_url(StoreUrl::Sqlite { path: file.clone() });
        assert!(held(&config, true).await.contains("No such file"));
        assert!(!file.exists());
        store::connect(&config).await.unwrap().check().await.unwrap();
        store::connect_to_read(&config).await.unwrap().check().await.unwrap();
        let deep = Config::for_url(StoreUrl::Sqlite { path: file.with_file_name("no").join("such").join("x.db") });
        assert!(held(&deep, false).await.contains("make the directory"));
    });
}

#[test]
fn a_store_opened_to_read_refuses_to_write() {
    run(async {
        let place = Place::sqlite();
        place.store().await;
        let store = store::connect_to_read(&place.config).await.unwrap();
        assert!(matches!(store.write(&odd()).await, Err(StoreError::Hold { .. })));
        store.apply_schema().await.unwrap();
    });
}

#[test]
fn files_of_others_and_of_newer_versions_are_refused_and_left_alone() {
    run(async {
        let place = Place::sqlite();
        std::fs::write(path(&place.config), "not a database, but long enough to be read as one".repeat(99)).unwrap();
        let error = held(&place.config, false).await;
        assert!(error.contains("not a database"), "{error}");

        let place = Place::sqlite();
        place.raw("CREATE TABLE bookmarks (x)").await;
        assert!(held(&place.config, false).await.contains("another program"));

        let place = Place::sqlite();
        drop(place.store().await);
        place.raw("PRAGMA user_version = 99").await;
        assert!(held(&place.config, true).await.contains("version 99, this program knows 2"));
    });
}

#[test]
fn openers_at_once_make_one_file() {
    const ROUNDS: usize = 25;
    run(async {
        for _ in 0..ROUNDS {
            let place = Place::sqlite();
            let openers: Vec<_> = (0..8)
                .map(|_| {
                    let config = place.config.clone();
                    tokio::spawn(async move { store::connect(&config).await.map(|store| store.kind()) })
                })
                .collect();
            for opener in openers {
                assert_eq!(opener.await.unwrap().unwrap(), "sqlite");
            }
            place.bare().await.check().await.unwrap();
        }
    });
}

#[test]
fn a_file_that_another_process_holds_is_unavailable_after_the_timeout() {
    run(async {
        let mut place = Place::sqlite();
        place.config.request_timeout = Duration::from_millis(200);
        let store = place.store().await;
        let other = rusqlite::Connection::open(path(&place.config)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let started = std::time::Instant::now();
        assert!(matches!(store.write(&odd()).await, Err(StoreError::Unavailable { .. })));
        assert!(started.elapsed() < Duration::from_secs(5));
        store.chunks(CAR, DEVICE, BUCKET, None).await.unwrap();
        other.execute_batch("ROLLBACK").unwrap();
        store.write(&odd()).await.unwrap();
    });
}

#[test]
fn a_file_removed_while_in_use_takes_no_more_writes() {
    run(async {
        let place = Place::sqlite();
        let store = place.store().await;
        store.write(&odd()).await.unwrap();
        std::fs::remove_file(path(&place.config)).unwrap();
        let error = store.write(&odd()).await.unwrap_err();
        assert!(matches!(error, StoreError::Hold { .. }), "{error}");
        assert!(error.to_string().contains("removed or replaced"), "{error}");
    });
}

#[test]
fn a_full_disk_is_unavailable_and_leaves_the_rows_before_it() {
    run(async {
        let place = Place::sqlite();
        let store = place.store().await;
        store.write(&flush(&["a"], BUCKET)).await.unwrap();
        drop(store);
        // The page count cannot be bounded from outside the connection, but a file size can.
        let size = std::fs::metadata(path(&place.config)).unwrap().len();
        assert!(size > 0);
        let mut script = std::process::Command::new("sh");
        script.args(["-c", "ulimit -f 200; trap '' XFSZ; exec \"$0\" \"$@\""]);
        script.arg(std::env::current_exe().unwrap()).args(["--exact", "sqlite::fills_the_disk", "--nocapture"]);
        let output = script.env("PITWIRE_TEST_FILL", path(&place.config)).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("unavailable after"), "{text}");
        let found = place.bare().await.chunks(CAR, DEVICE, BUCKET, Some("a")).await.unwrap();
        assert_eq!(found, flush(&["a"], BUCKET).chunks);
    });
}

/// The process that the test above starts with a small limit on the size of files; alone it checks that
/// without a limit the writes succeed.
#[test]
fn fills_the_disk() {
    run(async {
        let place = Place::sqlite();
        let limited = std::env::var_os("PITWIRE_TEST_FILL");
        let config = match &limited {
            Some(path) => Config::for_url(StoreUrl::Sqlite { path: path.into() }),
            None => place.config.clone(),
        };
        let store = store::connect(&config).await.unwrap();
        for i in 0..40 {
            let mut rows = flush(&["b"], BUCKET + i);
            rows.chunks[0].data = vec![7; 16 << 10];
            match store.write(&rows).await {
                Ok(()) => {}
                Err(StoreError::Unavailable { reason, .. }) if limited.is_some() => {
                    println!("unavailable after {i}: {reason}");
                    return;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(limited.is_none(), "40 × 16 KiB went into files of at most 100 KiB");
    });
}

#[test]
fn what_is_older_than_the_ttl_goes_bucket_by_bucket_and_the_rest_stays() {
    run(async {
        let mut place = Place::sqlite();
        place.config.ttl = Some(Duration::from_secs(3_600));
        let store = place.store().await;
        for minute in 0..20 {
            let bucket = BUCKET + minute * MINUTE_US;
            let mut rows = Rows { extents: vec![extent(DAY, bucket)], ..Rows::default() };
            for seq in 0..1_000 {
                rows.chunks.push(pitwire::row::ChunkRow { bucket, ..chunk("a", bucket, seq) });
            }
            let of_rows = |channel: &str| ExtentRow {
                layout: Layout::Rows.as_str().into(),
                channel: channel.into(),
                ..extent(DAY, bucket)
            };
            rows.extents.push(of_rows("lap"));
            rows.chunks.push(ChunkRow { bucket, ..crate::samples::of("lap", 0, &[(0, 1.0, 0), (9, 2.0, 0)]) });
            rows.events.push(event(bucket, 0, "new"));
            let mut old = event(bucket - DAY_US, 0, "old");
            old.day = DAY - 1;
            rows.events.push(old);
            store.write(&rows).await.unwrap();
        }
        // An hour after the end of the twelfth bucket.
        let now = UnixMicros(BUCKET + 12 * MINUTE_US + 3_600_000_000);
        let mut deleted = Vec::new();
        while let Some(rows) = Some(store.expire(now).await.unwrap()).filter(|&rows| rows > 0) {
            deleted.push(rows);
        }
        // 12 buckets of 1,000 chunks and two samples with their extents, and 20 events.
        assert_eq!(deleted.iter().sum::<u64>(), 12 * (1_001 + 3) + 20);
        assert!(deleted.len() >= 3 && deleted.iter().all(|&rows| rows <= 5_000), "{deleted:?}");
        let left = store.extents(CAR, DAY).await.unwrap();
        let left: Vec<_> = left.into_iter().filter(|e| e.layout == Layout::Chunks.as_str()).map(|e| e.bucket).collect();
        assert_eq!(left, (12..20).map(|minute| BUCKET + minute * MINUTE_US).collect::<Vec<_>>());
        assert!(store.chunks(CAR, DEVICE, BUCKET + 11 * MINUTE_US, None).await.unwrap().is_empty());
        assert_eq!(store.chunks(CAR, DEVICE, BUCKET + 12 * MINUTE_US, None).await.unwrap().len(), 1_000);
        assert!(store.samples(CAR, "lap", BUCKET + 11 * MINUTE_US).await.unwrap().is_empty());
        assert_eq!(store.samples(CAR, "lap", BUCKET + 12 * MINUTE_US).await.unwrap().len(), 2);
        assert!(store.events(CAR, DAY - 1).await.unwrap().is_empty());
        assert_eq!(store.events(CAR, DAY).await.unwrap().len(), 20);
        place.config.ttl = None;
        assert_eq!(place.bare().await.expire(UnixMicros(i64::MAX)).await.unwrap(), 0);
    });
}

#[test]
fn what_was_placed_in_1970_is_never_too_old_and_the_newest_is_told_whatever_lies_ahead() {
    run(async {
        let mut place = Place::sqlite();
        place.config.ttl = Some(Duration::from_secs(3_600));
        let store = place.store().await;
        assert_eq!(store.newest_before(UnixMicros(i64::MAX)).await.unwrap(), None);
        for bucket in [MINUTE_US, BUCKET, BUCKET + MINUTE_US, BUCKET + 50 * 366 * DAY_US] {
            let day = pitwire::row::day_of(bucket);
            let mut event = event(bucket, 0, "lap");
            event.day = day;
            let chunk = pitwire::row::ChunkRow { bucket, ..chunk("a", bucket, 1) };
            let rows = Rows {
                extents: vec![extent(day, bucket)],
                chunks: vec![chunk],
                events: vec![event],
                ..Rows::default()
            };
            store.write(&rows).await.unwrap();
        }
        let now = UnixMicros(BUCKET + 3 * DAY_US);
        assert_eq!(store.newest_before(now).await.unwrap(), Some(UnixMicros(BUCKET + 2 * MINUTE_US)));
        let wrong = UnixMicros(BUCKET + 51 * 366 * DAY_US);
        let newest = store.newest_before(wrong).await.unwrap();
        assert_eq!(newest, Some(UnixMicros(BUCKET + 2 * MINUTE_US)), "what a wrong clock placed does not count");
        while store.expire(now).await.unwrap() > 0 {}
        assert_eq!(store.days(CAR).await.unwrap(), [0, pitwire::row::day_of(BUCKET + 50 * 366 * DAY_US)]);
        assert_eq!(store.chunks(CAR, DEVICE, MINUTE_US, None).await.unwrap().len(), 1);
        assert_eq!(store.events(CAR, 0).await.unwrap().len(), 1);
    });
}
