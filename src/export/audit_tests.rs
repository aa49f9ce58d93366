use super::super::testing::{Chunk, chunk, clock_row, on_each, write};
use super::*;
use crate::gap::{Gap, KIND_GAP, Reason};
use crate::row::{EventRow, Rows};

/// A slot line for samples of car 44, `ecu`, boot 1, all in one second.
fn line(channel: &str, samples: &[(i64, f64)]) -> String {
    let digest = samples.iter().fold(0u64, |sum, &(d, value)| sum.wrapping_add(digest(d, value)));
    let (first, last) = (samples[0].0, samples[samples.len() - 1].0);
    format!(
        r#"{{"car":"44","device":"ecu","boot":1,"channel":"{channel}","slot":{},"samples":{},"t_first_us":{first},"t_last_us":{last},"digest":{digest}}}"#,
        first / 1_000_000,
        samples.len(),
    ) + "\n"
}

const SENT: [(i64, f64); 4] = [(100, 1.0), (200, 2.0), (1_000_100, 3.0), (1_000_200, 4.0)];

fn sent() -> String {
    line("rpm", &SENT[..2]) + &line("rpm", &SENT[2..])
}

async fn audited(manifest: &str, chunks: &[Chunk]) -> AuditReport {
    let numbered = |(seq, chunk): (usize, &Chunk)| Chunk { seq: seq as i64, ..chunk.clone() };
    let chunks: Vec<Chunk> = chunks.iter().enumerate().map(numbered).collect();
    let reports = std::sync::Mutex::new(Vec::new());
    on_each(async |store| {
        write(store, &chunks).await;
        let report = audit(manifest.as_bytes(), store).await.unwrap();
        reports.lock().unwrap().push(report);
    })
    .await;
    let mut reports = reports.into_inner().unwrap();
    let last = reports.pop().unwrap();
    assert_eq!(reports, std::slice::from_ref(&last), "both stores give the same report");
    last
}

/// missing, extra, altered, unlisted
fn counts(report: &AuditReport) -> [u64; 4] {
    [report.missing, report.extra, report.altered, report.unlisted]
}

#[tokio::test]
async fn the_audit_counts_by_slot_what_differs() {
    let changed = |at: usize, value: f64| {
        let mut samples = SENT;
        samples[at].1 = value;
        vec![chunk(&samples)]
    };
    let other = |channel| Chunk { channel, ..chunk(&[(150, 9.0)]) };
    let with = |more: Chunk| vec![chunk(&SENT), more];
    for (what, chunks, expected) in [
        ("exact", vec![chunk(&SENT)], [0, 0, 0, 0]),
        ("stored twice", with(chunk(&SENT[1..3])), [0, 0, 0, 0]),
        ("nothing there", vec![], [4, 0, 0, 0]),
        ("one missing", vec![chunk(&SENT[1..])], [1, 0, 0, 0]),
        ("one more", with(chunk(&[(150, 9.0)])), [0, 1, 0, 0]),
        ("one value changed: its whole slot", changed(2, 3.5), [0, 0, 2, 0]),
        ("two values of one identity", with(chunk(&[(200, 2.5)])), [0, 1, 0, 0]),
        ("missing and extra in different slots", vec![chunk(&SENT[..3]), chunk(&[(101, 0.0)])], [1, 1, 0, 0]),
        ("another channel", with(other("speed")), [0, 0, 0, 1]),
        ("another boot", with(Chunk { boot: 2, ..chunk(&[(150, 9.0)]) }), [0, 0, 0, 1]),
        ("another device", with(Chunk { device: "imu", ..chunk(&[(150, 9.0)]) }), [0, 0, 0, 1]),
        ("before the first and after the last", with(chunk(&[(99, 0.0), (1_000_201, 0.0)])), [0, 0, 0, 2]),
    ] {
        let report = audited(&sent(), &chunks).await;
        assert_eq!(counts(&report), expected, "{what}");
        assert_eq!(report.sent, 4, "{what}");
        assert_eq!(report.rows, chunks.len() as u64, "{what}");
        assert_eq!(report.is_exact(), expected[..3] == [0, 0, 0], "{what}");
    }
}

#[tokio::test]
async fn samples_in_a_second_in_which_nothing_was_sent_are_extra() {
    let manifest = line("rpm", &[(100, 1.0)]) + &line("rpm", &[(5_000_000, 2.0)]);
    let report = audited(&manifest, &[chunk(&[(100, 1.0), (5_000_000, 2.0)]), chunk(&[(3_000_000, 7.0)])]).await;
    assert_eq!(counts(&report), [0, 1, 0, 0]);
    let bad = &report.bad_slots[..];
    assert!(matches!(bad, [BadSlot { slot: 3, sent: 0, found: 1, fault: Fault::Extra, .. }]), "{bad:?}");
}

#[tokio::test]
async fn a_device_with_a_mapped_clock_is_compared_by_its_own_time() {
    on_each(async |store: &dyn Store| {
        write(store, &[Chunk { placed_us: 5_000_000_000, ..chunk(&SENT) }]).await;
        write(store, &[Chunk { placed_us: 9_000_000_000, writer: 2, ..chunk(&SENT) }]).await;
        let clocks = vec![clock_row(0, 5_000_000_000, true), clock_row(1, 9_000_000_000, false)];
        store.write(&Rows { clocks, ..Rows::default() }).await.unwrap();
        assert_eq!(counts(&audit(sent().as_bytes(), store).await.unwrap()), [0; 4]);
    })
    .await;
}

#[tokio::test]
async fn bad_slots_say_what_is_wrong_and_unlisted_channels_are_named() {
    let report = audited(&sent(), &[chunk(&SENT[1..]), Chunk { channel: "speed", ..chunk(&SENT) }]).await;
    let json = serde_json::to_string(&report.bad_slots[0]).unwrap();
    let expected =
        r#"{"car":"44","device":"ecu","boot":1,"channel":"rpm","slot":0,"sent":2,"found":1,"fault":"missing"}"#;
    assert_eq!(json, expected);
    assert_eq!(report.unlisted_channels.iter().collect::<Vec<_>>(), ["44/ecu/1/speed"]);
}

#[tokio::test]
async fn the_report_is_one_line_with_the_fields_in_order() {
    let report = audited(&sent(), &[chunk(&SENT[..3])]).await;
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(json, r#"{"sent":4,"found":3,"missing":1,"extra":0,"altered":0,"unlisted":0,"rows":1,"declared":0}"#);
}

#[tokio::test]
async fn what_is_missing_where_a_gap_event_speaks_of_it_is_declared() {
    let gap = |d_from, d_to, channels: &[&str]| {
        let gap = Gap { d_from: Some(d_from), d_to: Some(d_to), ..Gap::new(Reason::Overflow) };
        gap.with_channels(channels.iter().map(|&name| name.to_owned()))
    };
    for (device, boot, gap, declared) in [
        ("ecu", 1, gap(150, 999_999, &["rpm"]), 1),
        ("ecu", 1, gap(150, 1_000_000, &[]), 3),
        ("", 0, Gap { samples: Some(2), ..Gap::new(Reason::Damaged) }, 2),
        ("", 0, Gap { samples: Some(9), ..Gap::new(Reason::Damaged) }, 3),
        ("ecu", 1, gap(150, 999_999, &["speed"]), 0),
        ("ecu", 2, gap(150, 999_999, &[]), 0),
        ("imu", 1, gap(150, 999_999, &[]), 0),
        ("ecu", 1, gap(2_000_000, 3_000_000, &[]), 0),
    ] {
        on_each(async |store: &dyn Store| {
            write(store, &[chunk(&SENT[..1])]).await;
            let text = gap.text();
            let event = EventRow {
                car: "44".into(),
                day: 0,
                t: 0,
                device: device.into(),
                boot,
                sequence: -1,
                d: 0,
                kind: KIND_GAP.into(),
                number: 0,
                text,
            };
            store.write(&Rows { events: vec![event], ..Rows::default() }).await.unwrap();
            let report = audit(sent().as_bytes(), store).await.unwrap();
            assert_eq!((report.missing, report.declared), (3, declared), "{device} {boot} {gap:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn several_cars_are_compared_each_with_its_own() {
    let manifest = sent() + &sent().replace("\"44\"", "\"16\"");
    let report = audited(&manifest, &[chunk(&SENT)]).await;
    assert_eq!((report.sent, report.found, report.missing), (8, 4, 4));
    assert!(report.bad_slots.iter().all(|bad| bad.car == "16"));
}

#[tokio::test]
async fn a_damaged_row_is_missing_and_named() {
    on_each(async |store: &dyn Store| {
        let mut rows = chunk(&SENT).rows();
        rows.chunks[0].data.push(0);
        store.write(&rows).await.unwrap();
        let report = audit(sent().as_bytes(), store).await.unwrap();
        assert_eq!((report.missing, report.damaged, report.damages.len()), (4, 1, 1));
    })
    .await;
}

#[test]
fn the_digest_of_a_sample_is_the_documented_one() {
    // xxh3-64 over the 16 bytes of 0x0102030405060708 and 1.0, little-endian.
    let bytes = [8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0xF0, 0x3F];
    assert_eq!(digest(0x0102_0304_0506_0708, 1.0), xxh3_64(&bytes));
}
