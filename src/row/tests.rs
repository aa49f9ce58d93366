use super::*;

#[test]
fn rows_come_back_from_the_spill_as_they_were() {
    let chunk = ChunkRow {
        car: "44".into(),
        device: "ecu".into(),
        bucket: 60_000_000,
        channel: "engine.rpm".into(),
        t0: 61_000_000,
        writer: [7; 16],
        seq: 3,
        boot: 9,
        d0: 61_000_000,
        t1: 61_100_000,
        n: 2,
        v_min: Some(1.5),
        v_max: None,
        v_mean: Some(-0.0),
        v_last: Some(2.0),
        quality: 1,
        codec: 0,
        data: vec![1, 2, 3],
        layout: Layout::Rows,
    };
    let rows = Rows { chunks: vec![chunk], ..Rows::default() };
    assert_eq!(Rows::decode(&rows.encode()).unwrap(), rows);
    assert_eq!(rows.samples(), 2);
}

#[test]
fn damaged_or_unknown_rows_are_refused_with_the_reason() {
    assert!(matches!(Rows::decode(&[]), Err(RowsError::Damaged(_))));
    assert!(matches!(Rows::decode(&[9, 0]), Err(RowsError::Version(9))));
    let mut bytes = Rows::default().encode();
    bytes.push(0);
    assert!(Rows::decode(&bytes).unwrap_err().to_string().contains("1 bytes too many"));
}

#[test]
fn rows_of_version_1_are_read_as_chunks() {
    // A row of each list of version 1, as it was written: car "4", device "e", bucket 1, channel "r" …
    let mut bytes = vec![1, 0, 1];
    bytes.extend([1, b'4', 1, b'e', 2, 1, b'r', 4]);
    bytes.extend([7; 16]);
    // seq 3, boot 9, d0 2, t1 5, n 2, v_min 1.5, v_max none, v_mean none, v_last none, quality 1, codec 1, data
    bytes.extend([6, 18, 4, 10, 4, 1, 0, 0, 0, 0, 0, 0, 0xF8, 0x3F, 0, 0, 0, 2, 1, 3, 1, 2, 3]);
    bytes.extend([0, 0, 0, 0]);
    let rows = Rows::decode(&bytes).unwrap();
    let row = &rows.chunks[0];
    assert_eq!((rows.len(), &*row.car, &*row.device, row.bucket, &*row.channel, row.t0), (1, "4", "e", 1, "r", 2));
    assert_eq!((row.writer, row.seq, row.boot, row.d0, row.t1, row.n), ([7; 16], 3, 9, 2, 5, 2));
    assert_eq!((row.v_min, row.v_max, row.quality, row.codec), (Some(1.5), None, 1, 1));
    assert_eq!((&row.data[..], row.layout), (&[1, 2, 3][..], Layout::Chunks));
}

#[test]
fn days_before_1970_are_negative() {
    assert_eq!((day_of(-1), day_of(0), day_of(DAY_US)), (-1, 0, 1));
}
