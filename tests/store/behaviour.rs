//! What is true of every store.

use std::sync::Arc;

use pitwire::row::{DAY_US, Rows, day_of};
use pitwire::store::{self, StoreError};

use crate::fixtures::{
    BUCKET, CAR, DAY, DEVICE, MINUTE_US, bits, channel_bits, chunk, event, extent, flush, heartbeat, odd,
};
use crate::places::{Place, on_both};

on_both!(
    what_was_written_comes_back_bit_for_bit,
    writing_again_changes_nothing,
    a_reader_finds_partitions_from_days_over_extents_to_chunks,
    chunks_come_by_channel_then_time_then_writer_and_one_channel_alone_on_request,
    events_come_by_time,
    a_heartbeat_replaces_the_one_before,
    nothing_is_found_of_a_car_that_never_ran,
    writing_nothing_is_no_error,
    applying_the_schema_again_and_at_once_is_harmless,
    a_table_dropped_while_running_is_held_and_writing_goes_on_once_it_is_back,
    a_column_of_another_type_is_named,
    writers_at_once_lose_nothing,
    readers_see_all_chunks_of_a_flush_or_none,
    a_large_flush_is_written_whole,
);

async fn what_was_written_comes_back_bit_for_bit(place: &Place) {
    let (store, rows) = (place.store().await, odd());
    store.write(&rows).await.unwrap();
    assert_eq!(store.extents(CAR, DAY).await.unwrap(), rows.extents);
    assert_eq!(bits(&store.chunks(CAR, DEVICE, BUCKET, None).await.unwrap()), bits(&rows.chunks));
    assert_eq!(channel_bits(&store.channels(CAR).await.unwrap()), channel_bits(&rows.channels));
    assert_eq!(store.clocks(CAR).await.unwrap(), rows.clocks);
    assert_eq!(store.events(CAR, DAY).await.unwrap(), rows.events);
    assert_eq!(store.sessions(CAR).await.unwrap(), rows.sessions);
    // The same from a process that starts anew.
    let later = store::connect_to_read(&place.config).await.unwrap();
    assert_eq!(bits(&later.chunks(CAR, DEVICE, BUCKET, None).await.unwrap()), bits(&rows.chunks));
}

async fn writing_again_changes_nothing(place: &Place) {
    let (store, rows) = (place.store().await, odd());
    store.write(&rows).await.unwrap();
    let half = Rows { chunks: rows.chunks[3..].to_vec(), ..Rows::default() };
    store.write(&half).await.unwrap();
    place.bare().await.write(&rows).await.unwrap();
    assert_eq!(bits(&store.chunks(CAR, DEVICE, BUCKET, None).await.unwrap()), bits(&rows.chunks));
    assert_eq!(store.extents(CAR, DAY).await.unwrap(), rows.extents);
    assert_eq!(store.events(CAR, DAY).await.unwrap(), rows.events);
    assert_eq!(store.clocks(CAR).await.unwrap(), rows.clocks);
    assert_eq!(store.sessions(CAR).await.unwrap(), rows.sessions);
}

async fn a_reader_finds_partitions_from_days_over_extents_to_chunks(place: &Place) {
    let store = place.store().await;
    let days = [-1, 0, DAY, DAY + 1];
    for day in days {
        let bucket = i64::from(day) * DAY_US + MINUTE_US;
        assert_eq!(day_of(bucket), day);
        let mut rows = Rows { extents: vec![extent(day, bucket)], ..Rows::default() };
        rows.chunks.push(pitwire::row::ChunkRow { bucket, ..chunk("a", bucket, 0) });
        store.write(&rows).await.unwrap();
    }
    let mut other = extent(DAY + 9, BUCKET);
    other.car = "45".into();
    store.write(&Rows { extents: vec![other], ..Rows::default() }).await.unwrap();
    assert_eq!(store.days(CAR).await.unwrap(), days);
    assert_eq!(store.days("45").await.unwrap(), [DAY + 9]);
    for day in days {
        let extents = store.extents(CAR, day).await.unwrap();
        assert_eq!(extents.len(), 1);
        let chunks = store.chunks(CAR, &extents[0].device, extents[0].bucket, None).await.unwrap();
        assert_eq!(chunks.len(), 1, "day {day}");
        assert_eq!(chunks[0].t0, i64::from(day) * DAY_US + MINUTE_US);
    }
}

async fn chunks_come_by_channel_then_time_then_writer_and_one_channel_alone_on_request(place: &Place) {
    let store = place.store().await;
    let mut rows = flush(&[], 0);
    for (channel, t0, writer, seq) in [
        ("b", 5, 1, 0),
        ("a", 9, 1, 1),
        ("a", -3, 2, 0),
        ("a", -3, 1, 9),
        ("a", -3, 1, 2),
        ("é", 0, 0, 0),
        ("B", 0, 0, 0),
    ] {
        rows.chunks.push(pitwire::row::ChunkRow { writer: [writer; 16], ..chunk(channel, t0, seq) });
    }
    store.write(&rows).await.unwrap();
    let keys = |chunks: Vec<pitwire::row::ChunkRow>| -> Vec<_> {
        chunks.into_iter().map(|c| (c.channel, c.t0, c.writer[0], c.seq)).collect()
    };
    let a = [("a", -3, 1, 2), ("a", -3, 1, 9), ("a", -3, 2, 0), ("a", 9, 1, 1)].map(|(c, t, w, s)| (c.into(), t, w, s));
    let mut all: Vec<(String, i64, u8, i64)> = vec![("B".into(), 0, 0, 0)];
    all.extend(a.clone());
    all.extend([("b".into(), 5, 1, 0), ("é".into(), 0, 0, 0)]);
    assert_eq!(keys(store.chunks(CAR, DEVICE, BUCKET, None).await.unwrap()), all);
    assert_eq!(keys(store.chunks(CAR, DEVICE, BUCKET, Some("a")).await.unwrap()), a);
    assert!(store.chunks(CAR, DEVICE, BUCKET, Some("")).await.unwrap().is_empty());
    assert!(store.chunks(CAR, "other", BUCKET, None).await.unwrap().is_empty());
    assert!(store.chunks(CAR, DEVICE, BUCKET + 1, None).await.unwrap().is_empty());
}

async fn events_come_by_time(place: &Place) {
    let store = place.store().await;
    let events = [event(30, 1, "c"), event(-10, 5, "a"), event(30, 0, "b")];
    for event in &events {
        store.write(&Rows { events: vec![event.clone()], ..Rows::default() }).await.unwrap();
    }
    let texts: Vec<_> = store.events(CAR, DAY).await.unwrap().into_iter().map(|event| event.text).collect();
    assert_eq!(texts, ["a", "b", "c"]);
    assert!(store.events(CAR, DAY + 1).await.unwrap().is_empty());
}

async fn a_heartbeat_replaces_the_one_before(place: &Place) {
    let store = place.store().await;
    for beat in [heartbeat("one", 1), heartbeat("two", 2), heartbeat("one", 3)] {
        store.heartbeat(&beat).await.unwrap();
    }
    assert_eq!(store.agents(CAR).await.unwrap(), [heartbeat("one", 3), heartbeat("two", 2)]);
}

async fn nothing_is_found_of_a_car_that_never_ran(place: &Place) {
    let store = place.store().await;
    store.write(&odd()).await.unwrap();
    assert!(store.days("7").await.unwrap().is_empty());
    assert!(store.extents("7", DAY).await.unwrap().is_empty());
    assert!(store.chunks("7", DEVICE, BUCKET, None).await.unwrap().is_empty());
    assert!(store.channels("7").await.unwrap().is_empty());
    assert!(store.clocks("7").await.unwrap().is_empty());
    assert!(store.events("7", DAY).await.unwrap().is_empty());
    assert!(store.sessions("7").await.unwrap().is_empty());
    assert!(store.agents("7").await.unwrap().is_empty());
}

async fn writing_nothing_is_no_error(place: &Place) {
    let store = place.store().await;
    store.write(&Rows::default()).await.unwrap();
    assert!(store.days(CAR).await.unwrap().is_empty());
}

async fn applying_the_schema_again_and_at_once_is_harmless(place: &Place) {
    let stores = [place.bare().await, place.bare().await, place.bare().await];
    let applied = stores.map(|store| tokio::spawn(async move { store.apply_schema().await }));
    for applied in applied {
        applied.await.unwrap().unwrap();
    }
    let store = place.store().await;
    store.check().await.unwrap();
    store.write(&flush(&["a"], BUCKET)).await.unwrap();
    store.apply_schema().await.unwrap();
    assert_eq!(store.chunks(CAR, DEVICE, BUCKET, None).await.unwrap().len(), 1);
}

async fn a_table_dropped_while_running_is_held_and_writing_goes_on_once_it_is_back(place: &Place) {
    let store = place.store().await;
    store.write(&flush(&["a"], BUCKET)).await.unwrap();
    place.raw("DROP TABLE KS.chunks").await;
    place.raw("DROP TABLE KS.extents").await;
    for _ in 0..2 {
        match store.write(&flush(&["a"], BUCKET)).await {
            Err(StoreError::Hold { reason, remedy }) => {
                assert!(reason.contains("extents") || reason.contains("chunks"), "{reason}");
                assert!(remedy.contains("pitwire schema apply --store"), "{remedy}");
            }
            other => panic!("{other:?}"),
        }
    }
    let check = store.check().await.unwrap_err().to_string();
    assert!(check.contains("table chunks is missing, table extents is missing"), "{check}");
    place.bare().await.apply_schema().await.unwrap();
    store.write(&flush(&["a"], BUCKET)).await.unwrap();
    assert_eq!(store.chunks(CAR, DEVICE, BUCKET, None).await.unwrap().len(), 1);
    // A table made anew is empty: what was known of the old one must not be trusted.
    assert_eq!(store.extents(CAR, DAY).await.unwrap().len(), 1);
}

async fn a_column_of_another_type_is_named(place: &Place) {
    let store = place.store().await;
    place.raw("DROP TABLE KS.sessions").await;
    let create = match store.kind() {
        "sqlite" => "CREATE TABLE sessions (car TEXT, start TEXT, number INTEGER, PRIMARY KEY (car, start)) STRICT",
        _ => "CREATE TABLE KS.sessions (car text, start text, number bigint, PRIMARY KEY ((car), start))",
    };
    place.raw(create).await;
    for result in [store.check().await, store.apply_schema().await, store.write(&odd()).await] {
        let Err(StoreError::Hold { reason, .. }) = &result else { panic!("{result:?}") };
        if !reason.contains("write to") {
            assert!(reason.contains("column sessions.start is text, not bigint"), "{reason}");
            assert!(reason.contains("column sessions.name is missing"), "{reason}");
        }
    }
}

async fn writers_at_once_lose_nothing(place: &Place) {
    const WRITERS: i64 = 8;
    const FLUSHES: i64 = 5;
    let stores = [place.store().await, place.bare().await];
    let writers = (0..WRITERS).map(|writer| {
        let store = Arc::clone(&stores[writer as usize % stores.len()]);
        tokio::spawn(async move {
            for i in 0..FLUSHES {
                let mut rows = flush(&["a", "b", "c"], BUCKET + i);
                rows.chunks.iter_mut().for_each(|chunk| chunk.writer = [writer as u8; 16]);
                store.write(&rows).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let found = stores[1].chunks(CAR, DEVICE, BUCKET, None).await.unwrap();
    assert_eq!(found.len() as i64, 3 * WRITERS * FLUSHES);
}

async fn readers_see_all_chunks_of_a_flush_or_none(place: &Place) {
    // Few enough that a reader of Cassandra needs one page.
    let names: Vec<_> = (0..9).map(|i| format!("channel{i:03}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let store = place.store().await;
    let writer = {
        let (store, flushes) = (Arc::clone(&store), (0..20).map(|i| flush(&names, BUCKET + i)).collect::<Vec<_>>());
        tokio::spawn(async move {
            for rows in flushes {
                store.write(&rows).await.unwrap();
            }
        })
    };
    while !writer.is_finished() {
        let chunks = store.chunks(CAR, DEVICE, BUCKET, None).await.unwrap();
        assert_eq!(chunks.len() % names.len(), 0);
        if !chunks.is_empty() {
            assert_eq!(store.extents(CAR, DAY).await.unwrap().len(), 1, "an extent comes before its chunks");
        }
    }
    writer.await.unwrap();
    assert_eq!(store.chunks(CAR, DEVICE, BUCKET, None).await.unwrap().len(), 20 * names.len());
}

async fn a_large_flush_is_written_whole(place: &Place) {
    // 24 MiB: more than one mutation of Cassandra may hold, and more than one page of a reader.
    const CHUNKS: usize = 384;
    let store = place.store().await;
    let mut rows = flush(&[], 0);
    for i in 0..CHUNKS {
        let mut row = chunk("a", BUCKET + i as i64, i as i64);
        row.data = vec![i as u8; 64 << 10];
        rows.chunks.push(row);
    }
    store.write(&rows).await.unwrap();
    let found = store.chunks(CAR, DEVICE, BUCKET, Some("a")).await.unwrap();
    assert!(found == rows.chunks, "{} chunks came back", found.len());
}
