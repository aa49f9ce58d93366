use std::fs;

use ::arrow_array::RecordBatch;
use ::arrow_array::cast::AsArray as _;
use ::arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use ::arrow_ipc::reader::StreamReader;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::RowAccessor;

use super::pieces::Pieces;
use super::testing::{Chunk, MemoryStore, channel_row, chunk, write};
use super::*;
use crate::row::Rows;

const T: i64 = 1_777_644_180_000_000;

async fn store() -> Arc<dyn Store> {
    let store = MemoryStore::default();
    let mut first = chunk(&[(T, 0.1), (T + 1, f64::NAN), (T + 2, -1e300), (T + 1_000_000, f64::INFINITY)]);
    first.samples[0].2 = 1;
    let odd = Chunk { device: "a \"b\", c", channel: "x,y", boot: 7, ..chunk(&[(T + 1, 3.0)]) };
    write(&store, &[first, odd]).await;
    store.write(&Rows { channels: vec![channel_row("ecu", "rpm", "1/min")], ..Rows::default() }).await.unwrap();
    Arc::new(store)
}

fn options(format: Format, output: PathBuf) -> ExportOptions {
    ExportOptions {
        cars: vec!["44".into()],
        channels: vec![],
        from: None,
        to: None,
        format,
        wide: None,
        output: Some(output),
        of: Some("car 44".into()),
        checkpoint: Duration::ZERO,
        progress: true,
    }
}

async fn exported(format: Format) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let summary = export(store().await, &options(format, path.clone()), CancellationToken::new()).await.unwrap();
    assert!(summary.is_complete());
    assert_eq!((summary.counts.samples, summary.partitions), (5, 2));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the file itself");
    fs::read(path).unwrap()
}

#[tokio::test]
async fn csv_has_each_sample_in_order_and_quotes_what_needs_it() {
    let text = String::from_utf8(exported(Format::Csv).await).unwrap();
    let expected = r#"time,t_us,car,device,channel,value,unit,quality
2026-05-01T14:03:00.000000Z,1777644180000000,44,ecu,rpm,0.1,1/min,1
2026-05-01T14:03:00.000001Z,1777644180000001,44,"a ""b"", c","x,y",3.0,,0
2026-05-01T14:03:00.000001Z,1777644180000001,44,ecu,rpm,NaN,1/min,0
2026-05-01T14:03:00.000002Z,1777644180000002,44,ecu,rpm,-1e300,1/min,0
2026-05-01T14:03:01.000000Z,1777644181000000,44,ecu,rpm,inf,1/min,0
"#;
    assert_eq!(text, expected);
}

#[tokio::test]
async fn json_lines_read_back_and_what_is_no_number_is_null() {
    let text = String::from_utf8(exported(Format::Jsonl).await).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5);
    let first = r#"{"time":"2026-05-01T14:03:00.000000Z","t_us":1777644180000000,"car":"44","device":"ecu","channel":"rpm","value":0.1,"unit":"1/min","quality":1}"#;
    assert_eq!(text.lines().next(), Some(first));
    assert_eq!(lines[1]["device"], "a \"b\", c");
    assert!(lines[2]["value"].is_null() && lines[4]["value"].is_null());
    assert_eq!(lines[3]["value"].as_f64(), Some(-1e300));
}

#[tokio::test]
async fn parquet_reads_back_with_its_schema_and_version() {
    let file = SerializedFileReader::new(bytes::Bytes::from(exported(Format::Parquet).await)).unwrap();
    let metadata = file.metadata().file_metadata();
    let version = metadata.key_value_metadata().unwrap().iter().find(|pair| pair.key == PARQUET_SCHEMA_KEY);
    assert_eq!(version.unwrap().value.as_deref(), Some("1"));
    let names: Vec<&str> = metadata.schema_descr().columns().iter().map(|column| column.name()).collect();
    assert_eq!(names, ["t_us", "car", "device", "boot", "d_us", "channel", "unit", "value", "quality"]);
    let rows: Vec<_> = file.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    let row = |row: &::parquet::record::Row| {
        let text = |at| row.get_string(at).unwrap().clone();
        let quality = row.get_int(8).unwrap();
        (row.get_timestamp_micros(0).unwrap(), text(2), row.get_long(3).unwrap(), text(5), text(6), quality)
    };
    assert_eq!(rows.len(), 5);
    assert_eq!(row(&rows[0]), (T, "ecu".into(), 1, "rpm".into(), "1/min".into(), 1));
    assert_eq!(row(&rows[1]), (T + 1, "a \"b\", c".into(), 7, "x,y".into(), String::new(), 0));
    assert_eq!(rows[3].get_double(7).unwrap(), -1e300);
    assert!(rows[2].get_double(7).unwrap().is_nan());
    assert_eq!(rows[3].get_long(4).unwrap(), T + 2);
}

fn stream(bytes: Vec<u8>) -> Vec<RecordBatch> {
    StreamReader::try_new(std::io::Cursor::new(bytes), None).unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn arrow_has_the_columns_of_parquet_and_names_as_dictionaries() {
    let batches = stream(exported(Format::Arrow).await);
    let schema = batches[0].schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["t_us", "car", "device", "boot", "d_us", "channel", "unit", "value", "quality"]);
    assert_eq!(schema.metadata().get(PARQUET_SCHEMA_KEY).map(String::as_str), Some("1"));
    let [batch] = &batches[..] else { panic!("{} batches", batches.len()) };
    let text = |column: usize| {
        let column = batch.column(column).as_dictionary::<Int32Type>();
        let words = column.values().as_string::<i32>();
        column.keys().values().iter().map(|&key| words.value(key as usize).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(batch.column(0).as_primitive::<TimestampMicrosecondType>().values()[..2], [T, T + 1]);
    assert_eq!(text(2)[..2], ["ecu", "a \"b\", c"]);
    assert_eq!(text(5), ["rpm", "x,y", "rpm", "rpm", "rpm"]);
    assert_eq!(text(6), ["1/min", "", "1/min", "1/min", "1/min"]);
    assert_eq!(batch.column(3).as_primitive::<Int64Type>().values()[..2], [1, 7]);
    assert_eq!(batch.column(7).as_primitive::<Float64Type>().value(3), -1e300);
    assert_eq!(batch.column(8).as_primitive::<Int32Type>().values()[..2], [1, 0]);
}

#[tokio::test]
async fn a_wide_table_is_the_same_in_each_format_and_says_its_units() {
    let folder = tempfile::tempdir().unwrap();
    let wide = Wide { rows: WideRows::At { channel: "rpm".into() }, max_age_us: 1_000 };
    let mut written = Vec::new();
    for format in [Format::Csv, Format::Jsonl, Format::Parquet, Format::Arrow] {
        let path = folder.path().join(format.to_string());
        let options = ExportOptions { wide: Some(wide.clone()), ..options(format, path.clone()) };
        export(store().await, &options, CancellationToken::new()).await.unwrap();
        written.push(fs::read(path).unwrap());
    }
    let [csv, jsonl, parquet, arrow] = <[Vec<u8>; 4]>::try_from(written).unwrap();
    let expected = "time,t_us,car,rpm\n2026-05-01T14:03:00.000000Z,1777644180000000,44,0.1\n\
        2026-05-01T14:03:00.000001Z,1777644180000001,44,NaN\n2026-05-01T14:03:00.000002Z,1777644180000002,44,-1e300\n\
        2026-05-01T14:03:01.000000Z,1777644181000000,44,inf\n";
    assert_eq!(String::from_utf8(csv).unwrap(), expected);
    let first = r#"{"time":"2026-05-01T14:03:00.000000Z","t_us":1777644180000000,"car":"44","rpm":0.1}"#;
    let jsonl = String::from_utf8(jsonl).unwrap();
    assert_eq!(jsonl.lines().next(), Some(first));
    assert!(jsonl.lines().nth(1).unwrap().ends_with(r#""rpm":null}"#), "no number");
    let file = SerializedFileReader::new(bytes::Bytes::from(parquet)).unwrap();
    let rows: Vec<_> = file.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 4);
    assert_eq!((rows[2].get_string(1).unwrap().as_str(), rows[2].get_double(2).unwrap()), ("44", -1e300));
    let batches = stream(arrow);
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 4);
    assert_eq!(batches[0].schema().field(2).metadata().get("unit").map(String::as_str), Some("1/min"));
}

#[tokio::test]
async fn parquet_closes_a_row_group_when_it_is_full() {
    let store = store().await;
    let mut sink = parquet::ParquetSink::new(Vec::new()).unwrap().with_group_rows(2);
    let mut reading = Reader::new(&*store, "44").read(&Query::default()).await.unwrap();
    while let Some(block) = reading.next().await.unwrap() {
        sink::Sink::write(&mut sink, block).unwrap();
    }
    let bytes = sink::Sink::finish(Box::new(sink), true).unwrap();
    let file = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    let rows: Vec<i64> = file.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(rows, [2, 2, 1]);
    let times = file.get_row_iter(None).unwrap().map(|row| row.unwrap().get_timestamp_micros(0).unwrap() - T);
    assert_eq!(times.collect::<Vec<_>>(), [0, 1, 1, 2, 1_000_000]);
}

#[tokio::test]
async fn an_interrupted_export_leaves_nothing_behind_and_an_older_file_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.csv");
    fs::write(&path, "older").unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    let options = options(Format::Csv, path.clone());
    let failed = export(store().await, &options, stop).await.unwrap_err();
    assert!(matches!(failed, ExportError::Interrupted { kept: None }));
    assert_eq!(fs::read_to_string(&path).unwrap(), "older");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Blocks of an export that holds seconds 0 to `seconds`, one each.
async fn blocks(seconds: i64) -> Vec<(Block, ReadCounts)> {
    let store = MemoryStore::default();
    let of = |second: i64| chunk(&[(T + second * 1_000_000, second as f64), (T + second * 1_000_000 + 5, 0.5)]);
    write(&store, &(0..seconds).map(|second| Chunk { seq: second, ..of(second) }).collect::<Vec<_>>()).await;
    let mut reading = Reader::new(&store, "44").read(&Query::default()).await.unwrap().with_block_samples(2);
    let mut blocks = Vec::new();
    while let Some(block) = reading.next().await.unwrap() {
        blocks.push((block, reading.counts().clone()));
    }
    assert_eq!(blocks.len() as i64, seconds);
    blocks
}

/// Writes `blocks` in small pieces, and ends after each as a kill would: with whatever is there at that moment.
async fn interrupted_everywhere(format: Format) -> Vec<u8> {
    let blocks = blocks(6).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let open =
        || Pieces::open(&path, &ExportOptions { from: Some(UnixMicros(T)), ..options(format, path.clone()) }).unwrap();
    let mut done = 0;
    while done < blocks.len() {
        let mut pieces = open();
        let left = pieces.state.until_us.map_or(0, |until| {
            blocks.iter().position(|(block, _)| block.samples[0].t_us >= until).unwrap_or(blocks.len())
        });
        assert_eq!((left, pieces.state.counts.samples), (done, 2 * done as u64));
        let (block, counts) = blocks[done].clone();
        pieces.write(block, &counts).unwrap();
        // What was written behind the last piece is lost, however much of it reached the disk.
        fs::write(folder.path().join("out.part").join((done + 1).to_string()), b"torn").unwrap();
        done += 1;
        assert!(!path.exists());
    }
    let counts = &blocks.last().unwrap().1;
    open().commit(counts).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the file itself");
    fs::read(path).unwrap()
}

#[tokio::test]
async fn an_export_that_is_cut_off_after_each_piece_has_each_sample_once() {
    let text = String::from_utf8(interrupted_everywhere(Format::Csv).await).unwrap();
    let times: Vec<i64> = text.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse().unwrap()).collect();
    let expected: Vec<i64> = (0..6).flat_map(|second| [T + second * 1_000_000, T + second * 1_000_000 + 5]).collect();
    assert_eq!(times, expected);
    assert_eq!(String::from_utf8(interrupted_everywhere(Format::Jsonl).await).unwrap().lines().count(), 12);
    let file = SerializedFileReader::new(bytes::Bytes::from(interrupted_everywhere(Format::Parquet).await)).unwrap();
    assert_eq!(file.metadata().num_row_groups(), 6);
    let metadata = file.metadata().file_metadata();
    assert!(metadata.key_value_metadata().unwrap().iter().any(|pair| pair.key == PARQUET_SCHEMA_KEY));
    let times = file.get_row_iter(None).unwrap().map(|row| row.unwrap().get_timestamp_micros(0).unwrap());
    assert_eq!(times.collect::<Vec<_>>(), expected);
    let batches = stream(interrupted_everywhere(Format::Arrow).await);
    let times = batches.iter().flat_map(|batch| {
        batch.column(0).as_primitive::<TimestampMicrosecondType>().values().iter().copied().collect::<Vec<_>>()
    });
    assert_eq!(times.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn what_is_complete_is_only_put_in_place_and_never_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, part) = (folder.path().join("out"), folder.path().join("out.part"));
    let options = options(Format::Csv, path.clone());
    let wanted = exported(Format::Csv).await;
    // A folder in its place: everything is done but the last step, as a kill or a full disk leaves it.
    fs::create_dir(&path).unwrap();
    fs::write(path.join("in the way"), "").unwrap();
    for _ in 0..2 {
        let failed = export(store().await, &options, CancellationToken::new()).await.unwrap_err();
        assert!(matches!(failed, ExportError::Output { .. }), "{failed}");
        assert!(part.join("state.json").exists());
    }
    fs::remove_dir_all(&path).unwrap();
    fs::write(part.join("whole"), "half of it").unwrap();
    let summary = export(store().await, &options, CancellationToken::new()).await.unwrap();
    assert_eq!(summary.counts.samples, 5, "counted once");
    assert_eq!(fs::read(&path).unwrap(), wanted);
    assert!(!part.exists());
}

#[tokio::test]
async fn a_state_that_was_left_behind_never_makes_a_torn_piece_complete() {
    let folder = tempfile::tempdir().unwrap();
    let (path, part) = (folder.path().join("out"), folder.path().join("out.part"));
    // Killed after its file was put in place, before the state was removed.
    let options = ExportOptions { checkpoint: Duration::MAX, ..options(Format::Csv, path.clone()) };
    let mut pieces = Pieces::open(&path, &options).unwrap();
    (pieces.state.pieces, pieces.state.complete) = (1, true);
    fs::write(part.join("state.json"), serde_json::to_vec(&pieces.state).unwrap()).unwrap();
    drop(pieces);
    // The next is killed within its first piece.
    std::mem::forget(Pieces::open(&path, &options).unwrap());
    assert!(!part.join("state.json").exists());
}

#[tokio::test]
async fn an_export_begins_anew_if_a_clock_was_corrected_since() {
    use super::testing::clock_row;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let options = options(Format::Csv, path.clone());
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    write(&*store, &[chunk(&[(10, 1.0), (20, 2.0)])]).await;
    store.write(&Rows { clocks: vec![clock_row(i64::MIN, 0, true)], ..Rows::default() }).await.unwrap();
    // An export that was killed after its first piece.
    let mut pieces = Pieces::open(&path, &options).unwrap();
    let mut reading = Reader::new(&*store, "44").read(&Query::default()).await.unwrap();
    pieces.state.clocks = reading.clock_digests();
    let block = reading.next().await.unwrap().unwrap();
    pieces.write(Block { until_us: 15, ..block }, reading.counts()).unwrap();
    drop((pieces, reading));
    store.write(&Rows { clocks: vec![clock_row(i64::MIN + 1, 1_000, false)], ..Rows::default() }).await.unwrap();
    export(store, &options, CancellationToken::new()).await.unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let times: Vec<&str> = text.lines().skip(1).map(|line| line.split(',').nth(1).unwrap()).collect();
    assert_eq!(times, ["1010", "1020"]);
}

#[test]
fn a_folder_with_other_things_in_it_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (path, part) = (folder.path().join("out"), folder.path().join("out.part"));
    fs::create_dir(&part).unwrap();
    fs::write(part.join("thesis.txt"), "years").unwrap();
    let Err(ExportError::Another { of, .. }) = Pieces::open(&path, &options(Format::Csv, path.clone())) else {
        panic!("it is not ours")
    };
    assert_eq!(of, "something else");
    assert!(part.join("thesis.txt").exists());
}

#[test]
fn two_exports_never_write_to_one_file_and_another_export_never_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let open = |of: Option<&str>| {
        Pieces::open(&path, &ExportOptions { of: of.map(str::to_owned), ..options(Format::Csv, path.clone()) })
    };
    let mut first = open(Some("it")).unwrap();
    let Err(ExportError::Busy { part }) = open(Some("it")) else { panic!("two at once") };
    assert_eq!(part, folder.path().join("out.part"));
    let series = Arc::default();
    first.write(Block { series, samples: Vec::new(), until_us: 5 }, &ReadCounts::default()).unwrap();
    assert!(!first.keeps(), "a piece without a sample is none");
    drop(first);
    assert!(!folder.path().join("out.part").exists());
    let mut first = open(Some("it")).unwrap();
    first.state.pieces = 1;
    assert!(first.keeps());
    drop(first);
    fs::write(folder.path().join("out.part/state.json"), "{").unwrap();
    let Err(ExportError::Another { of, .. }) = open(Some("it")) else { panic!("of what?") };
    assert!(of.starts_with("something unreadable"), "{of}");
    assert!(matches!(open(None), Err(ExportError::Another { .. })), "nor does one without a name remove it");
}

#[tokio::test]
async fn a_folder_that_is_not_there_and_a_range_without_time_are_named() {
    let missing = options(Format::Csv, "/nowhere/at/all/x.csv".into());
    let error = export(store().await, &missing, CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().starts_with("write /nowhere/at/all/x.csv.part: "), "{error}");
    let empty = ExportOptions { from: Some(UnixMicros(5)), to: Some(UnixMicros(5)), ..missing };
    let error = export(store().await, &empty, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, ExportError::EmptyRange));
}

#[test]
fn formats_have_the_names_of_the_command_line() {
    for format in [Format::Csv, Format::Jsonl, Format::Parquet, Format::Arrow] {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
    assert!("xml".parse::<Format>().unwrap_err().contains("csv, jsonl, parquet or arrow"));
}
