//! With the real embedded store.

use super::*;
use crate::store::{self, StoreUrl};

fn connect_sqlite(path: &Path) -> Connect {
    let config = store::Config::for_url(StoreUrl::Sqlite { path: path.to_owned() });
    Arc::new(move || {
        let config = config.clone();
        Box::pin(async move {
            let store = store::connect(&config).await?;
            store.check().await?;
            Ok(store)
        })
    })
}

fn start(dir: &TempDir, path: &Path) -> Bench {
    Bench::start_on(dir.path(), Scripted::new(Script::Works), connect_sqlite(path), Setup::default())
}

async fn samples_in(path: &Path) -> u64 {
    let config = store::Config::for_url(StoreUrl::Sqlite { path: path.to_owned() });
    let store = store::connect_to_read(&config).await.unwrap();
    let mut samples = 0;
    for extent in store.extents("44", 0).await.unwrap() {
        let chunks = store.chunks("44", "ecu", extent.bucket, None).await.unwrap();
        samples += chunks.iter().map(|chunk| chunk.n as u64).sum::<u64>();
    }
    samples
}

#[tokio::test]
async fn what_is_counted_as_stored_is_in_the_file() {
    let dir = temporary();
    let path = dir.path().join("pitwire.db");
    let bench = start(&dir, &path);
    for _ in 0..50 {
        bench.send(&[("a", 10), ("b", 5)]).await;
    }
    bench.until("settled", |b| b.counts().in_flight == 0 && b.counts().backlog == 0).await;
    assert_eq!((bench.fired(), bench.counts().stored), (50, 750));
    let (left, ..) = bench.end().await;
    assert_eq!((left, samples_in(&path).await), (0, 750));
}

#[tokio::test]
async fn without_a_place_for_the_file_all_is_spilled_and_a_later_run_stores_it() {
    let dir = temporary();
    let place = dir.path().join("not/there");
    let path = place.join("pitwire.db");
    let bench = start(&dir, &path);
    for _ in 0..30 {
        bench.send(&[("a", 10)]).await;
    }
    bench.until("spilled", |b| b.counts().backlog == 300).await;
    let stats = bench.stats.snapshot();
    assert_eq!(stats.link, LinkState::Holding);
    assert!(stats.detail.contains("make the directory"), "{}", stats.detail);
    let (left, counts, _) = bench.end().await;
    assert_eq!((left, counts.backlog), (0, 300));
    std::fs::create_dir_all(&place).unwrap();
    let again = start(&dir, &path);
    assert_eq!(again.counts().recovered, 300);
    again.until("drained", |b| b.counts().stored == 300).await;
    assert_eq!((samples_in(&path).await, again.counts().backlog), (300, 0));
}

#[tokio::test]
async fn a_file_that_is_replaced_under_it_is_held_for_and_nothing_is_lost() {
    let dir = temporary();
    let path = dir.path().join("pitwire.db");
    let bench = start(&dir, &path);
    bench.send(&[("a", 10)]).await;
    bench.until("stored", |b| b.counts().stored == 10).await;
    let aside = dir.path().join("aside.db");
    std::fs::rename(&path, &aside).unwrap();
    bench.send(&[("a", 10)]).await;
    bench.until("spilled", |b| b.counts().backlog == 10).await;
    assert_eq!(bench.stats.snapshot().link, LinkState::Holding);
    std::fs::rename(&aside, &path).unwrap();
    let took = bench.until("stored again", |b| b.counts().stored == 20).await;
    assert!(took < ms(10_000), "{took:?}");
    assert_eq!(samples_in(&path).await, 20);
}
