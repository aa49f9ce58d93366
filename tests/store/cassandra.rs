//! What only a cluster can suffer.

use std::process::Command;
use std::time::{Duration, Instant};

use pitwire::row::{ChunkRow, Rows};
use pitwire::store::{self, Config, StoreError, StoreUrl};

use crate::fixtures::{BUCKET, CAR, DAY, DEVICE, bits, chunk, extent, flush, odd};
use crate::places::{Place, run, skip, turn};

/// Runs `test` in a keyspace of its own.
fn with_place(name: &str, alone: bool, test: impl AsyncFnOnce(&mut Place)) {
    run(async {
        let _turn = turn(alone).await;
        if let Some(mut place) = Place::cassandra(&format!("store::cassandra::{name}")).await {
            test(&mut place).await;
            place.clean().await;
        }
    });
}

#[test]
fn an_absent_schema_is_held_with_the_command_that_makes_it() {
    with_place("an_absent_schema_is_held_with_the_command_that_makes_it", false, async |place| {
        let store = place.bare().await;
        for result in [store.check().await, store.write(&odd()).await, store.days(CAR).await.map(drop)] {
            let Err(StoreError::Hold { reason, remedy }) = &result else { panic!("{result:?}") };
            assert!(reason.contains("the keyspace is missing"), "{reason}");
            assert_eq!(*remedy, format!("run `pitwire schema apply --store {}`", place.config.url));
        }
        place
            .raw(&format!(
                "CREATE KEYSPACE {} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}",
                place.keyspace()
            ))
            .await;
        let error = store.check().await.unwrap_err().to_string();
        assert!(error.contains("table chunks is missing") && error.contains("and 4 more"), "{error}");
        assert!(matches!(store.write(&odd()).await, Err(StoreError::Hold { .. })));
        // What a person then does is enough: the same store goes on.
        store.apply_schema().await.unwrap();
        store.write(&odd()).await.unwrap();
    });
}

#[test]
fn the_tables_are_made_with_the_options_of_the_configuration() {
    with_place("the_tables_are_made_with_the_options_of_the_configuration", false, async |place| {
        place.config.ttl = Some(Duration::from_secs(48 * 3_600));
        place.config.compression = store::Compression::Lz4;
        place.config.datacenter = Some("datacenter1".into());
        let store = place.store().await;
        store.write(&odd()).await.unwrap();
        assert_eq!(bits(&store.chunks(CAR, DEVICE, BUCKET, None).await.unwrap()), bits(&odd().chunks));
        let options = place.table_options("chunks").await;
        assert!(options.contains("TimeWindowCompactionStrategy") && options.contains("HOURS"), "{options}");
        assert!(options.contains("ttl 172800") && options.contains("gc_grace 10800"), "{options}");
        let options = place.table_options("extents").await;
        assert!(options.contains("ttl 259200"), "{options}");
        assert!(place.table_options("channels").await.contains("ttl 0"));
    });
}

#[test]
fn a_data_centre_that_is_not_there_is_held_with_those_that_are() {
    with_place("a_data_centre_that_is_not_there_is_held_with_those_that_are", false, async |place| {
        place.config.datacenter = Some("moon".into());
        match store::connect(&place.config).await.map(|store| store.kind()) {
            Err(StoreError::Hold { reason, .. }) => assert!(reason.contains("there are: datacenter1"), "{reason}"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn rows_that_can_never_fit_are_rejected_and_the_others_of_a_later_write_are_not() {
    with_place("rows_that_can_never_fit_are_rejected_and_the_others_of_a_later_write_are_not", false, async |place| {
        let store = place.store().await;
        let large = |bytes: usize| {
            let mut row = chunk("large", BUCKET, 0);
            row.data = vec![1; bytes];
            Rows { chunks: vec![row], ..flush(&[], 0) }
        };
        for bytes in [16 << 20, 17 << 20, 40 << 20] {
            match store.write(&large(bytes)).await {
                Err(StoreError::Rejected { reason }) => assert!(reason.contains("too big"), "{reason}"),
                other => panic!("{bytes} bytes: {other:?}"),
            }
        }
        let mut long = flush(&["a"], BUCKET);
        long.chunks[0].device = "d".repeat(70_000);
        assert!(matches!(store.write(&long).await, Err(StoreError::Rejected { .. })));
        let mut empty = odd();
        empty.sessions[0].car = String::new();
        assert!(matches!(store.write(&empty).await, Err(StoreError::Rejected { .. })));
        store.write(&large(1 << 20)).await.unwrap();
        assert_eq!(store.chunks(CAR, DEVICE, BUCKET, Some("large")).await.unwrap()[0].data.len(), 1 << 20);
    });
}

#[test]
fn an_extent_goes_before_its_chunks_and_only_once_for_each_process() {
    with_place("an_extent_goes_before_its_chunks_and_only_once_for_each_process", false, async |place| {
        let store = place.store().await;
        let mut rejected = flush(&["a"], BUCKET);
        rejected.chunks[0].data = vec![1; 17 << 20];
        store.write(&rejected).await.unwrap_err();
        assert_eq!(store.extents(CAR, DAY).await.unwrap(), [extent(DAY, BUCKET)]);

        // A poisoned write makes the store forget; after the next it knows again.
        store.write(&flush(&["a"], BUCKET)).await.unwrap();
        let written = place.count("extents").await;
        place.raw("TRUNCATE KS.extents").await;
        store.write(&flush(&["b"], BUCKET)).await.unwrap();
        assert_eq!((written, place.count("extents").await), (1, 0), "not written again");
        place.bare().await.write(&flush(&["b"], BUCKET)).await.unwrap();
        assert_eq!(place.count("extents").await, 1, "another process writes it");
    });
}

#[test]
fn chunks_of_several_partitions_in_one_write_all_arrive() {
    with_place("chunks_of_several_partitions_in_one_write_all_arrive", false, async |place| {
        let store = place.store().await;
        let mut rows = flush(&["a", "b"], BUCKET);
        rows.chunks.push(ChunkRow { device: "other".into(), ..chunk("a", BUCKET, 9) });
        store.write(&rows).await.unwrap();
        assert_eq!(store.chunks(CAR, DEVICE, BUCKET, None).await.unwrap().len(), 2);
        assert_eq!(store.chunks(CAR, "other", BUCKET, None).await.unwrap().len(), 1);
    });
}

#[test]
fn a_schema_mended_by_hand_is_taken_up_without_a_restart() {
    with_place("a_schema_mended_by_hand_is_taken_up_without_a_restart", false, async |place| {
        let store = place.store().await;
        store.write(&odd()).await.unwrap();
        place.raw("DROP TABLE KS.sessions").await;
        place
            .raw("CREATE TABLE KS.sessions (car text, start bigint, number int, name text, PRIMARY KEY ((car), start))")
            .await;
        for _ in 0..2 {
            let error = store.write(&odd()).await.unwrap_err();
            assert!(matches!(error, StoreError::Hold { .. }), "{error}");
            assert!(error.to_string().contains("column sessions.number is int, not bigint"), "{error}");
        }
        place.raw("DROP TABLE KS.sessions").await;
        store.apply_schema().await.unwrap();
        store.write(&odd()).await.unwrap();
        assert_eq!(store.sessions(CAR).await.unwrap(), odd().sessions);
    });
}

#[test]
fn tables_that_were_dropped_and_made_again_get_their_extents_anew() {
    with_place("tables_that_were_dropped_and_made_again_get_their_extents_anew", false, async |place| {
        let store = place.store().await;
        store.write(&odd()).await.unwrap();
        place.raw(&format!("DROP KEYSPACE {}", place.keyspace())).await;
        // Writes may time out while that is done, so that the first who sees it is a probe, which writes nothing.
        assert!(matches!(store.check().await, Err(StoreError::Hold { .. })));
        place.store().await;
        store.check().await.unwrap();
        store.write(&odd()).await.unwrap();
        let days = store.days(CAR).await.unwrap();
        let extents = store.extents(CAR, *days.first().expect("the rows are where no reader looks")).await.unwrap();
        assert_eq!(extents, odd().extents);
    });
}

/// The processes that listen on `port` here, from /proc.
fn listeners(port: u16) -> Vec<u32> {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .flat_map(|table| table.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let local = u16::from_str_radix(words.get(1)?.rsplit(':').next()?, 16).ok()?;
            (local == port && *words.get(3)? == "0A").then(|| format!("socket:[{}]", words[9]))
        })
        .collect();
    let holds = |pid: u32| {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|&pid| holds(pid)).collect()
}

/// Whether every thread of a process is in state T.
fn all_threads_stand(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let mut stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    // `pid (name) state …`; a name may hold brackets.
    stats.all(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['T', 't'])))
}

/// A stopped process that goes on whatever becomes of the test.
struct Stopped(u32);

impl Stopped {
    fn new(pid: u32) -> Self {
        assert!(Command::new("kill").args(["-STOP", &pid.to_string()]).status().unwrap().success());
        let stopped = Self(pid);
        // `kill` does not wait for the threads, and one that still runs may answer.
        let started = Instant::now();
        while !all_threads_stand(pid) {
            assert!(started.elapsed() < Duration::from_secs(10), "process {pid} does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-CONT", &self.0.to_string()]).status();
    }
}

#[test]
fn a_server_that_stands_still_is_unavailable_within_the_timeout_and_taken_up_again() {
    const NAME: &str = "a_server_that_stands_still_is_unavailable_within_the_timeout_and_taken_up_again";
    with_place(NAME, true, async |place| {
        let StoreUrl::Cassandra { nodes, .. } = &place.config.url else { panic!("a Cassandra place") };
        let [pid] = listeners(nodes[0].port)[..] else {
            return skip(NAME, "the node is not a process of this machine that may be stopped");
        };
        place.store().await;
        place.config.request_timeout = Duration::from_secs(1);
        let store = place.bare().await;
        store.write(&flush(&["a"], BUCKET)).await.unwrap();
        let fresh = place.bare().await;
        let stopped = Stopped::new(pid);
        let rows = flush(&["a"], BUCKET);
        // Requests in flight, statements not prepared yet, and connections given up meanwhile.
        for round in 0..8 {
            let started = Instant::now();
            let (known, new) = tokio::join!(store.write(&rows), fresh.write(&rows));
            for result in [known, new] {
                assert!(matches!(result, Err(StoreError::Unavailable { .. })), "round {round}: {result:?}");
            }
            assert!(started.elapsed() < Duration::from_millis(1_500), "round {round}: {:?}", started.elapsed());
        }
        let started = Instant::now();
        let connected = store::connect(&place.config).await.map(|store| store.kind());
        assert!(matches!(connected, Err(StoreError::Unavailable { .. })), "{connected:?}");
        assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
        drop(stopped);
        let started = Instant::now();
        while let Err(error) = store.write(&flush(&["a"], BUCKET)).await {
            assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
            assert!(started.elapsed() < Duration::from_secs(30), "{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(store.chunks(CAR, DEVICE, BUCKET, None).await.unwrap().len(), 1);
    });
}

#[test]
fn nobody_listening_is_unavailable_at_once() {
    run(async {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = Config::for_url(format!("cassandra://127.0.0.1:{port}/race").parse().unwrap());
        let started = Instant::now();
        match store::connect(&config).await.map(|store| store.kind()) {
            Err(StoreError::Unavailable { what, reason }) => {
                assert_eq!(what, format!("connect to 127.0.0.1:{port}"));
                assert!(reason.contains("refused"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        assert!(started.elapsed() < Duration::from_secs(4));
    });
}

#[test]
fn tables_of_a_later_version_are_refused_and_left_alone() {
    with_place("tables_of_a_later_version_are_refused_and_left_alone", false, async |place| {
        let store = place.store().await;
        store.write(&odd()).await.unwrap();
        place.raw("ALTER TABLE KS.agents WITH comment = 'Pitwire, version 99'").await;
        place.raw("DROP TABLE KS.samples").await;
        for outcome in [store.check().await, store.apply_schema().await] {
            let Err(StoreError::Hold { reason, remedy }) = outcome else { panic!("{outcome:?}") };
            assert!(reason.contains("tables of version 99, this program knows 2"), "{reason}");
            assert!(remedy.contains("a newer one"), "{remedy}");
        }
        place.raw("ALTER TABLE KS.agents WITH comment = 'ours'").await;
        store.apply_schema().await.unwrap();
        store.check().await.unwrap();
    });
}

#[test]
fn what_is_printed_is_what_is_applied() {
    let config = Config {
        ttl: Some(Duration::from_secs(86_400)),
        replication: 3,
        ..Config::for_url("cassandra://127.0.0.1:9042/race".parse().unwrap())
    };
    let script = store::schema_script(&config);
    assert!(script.contains("CREATE KEYSPACE IF NOT EXISTS race WITH replication = {'class': 'SimpleStrategy'"));
    assert_eq!(script.matches("CREATE TABLE IF NOT EXISTS race.").count(), 8);
    assert!(script.contains("default_time_to_live = 86400"));
    let sqlite = store::schema_script(&Config::default());
    rusqlite::Connection::open_in_memory().unwrap().execute_batch(&sqlite).unwrap();
}
