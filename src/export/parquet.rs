//! Parquet: what pandas, DuckDB and Spark read without a word.
//!
//! One row a sample: columns `t_us` (timestamp, µs, UTC), `car`, `device`, `boot`, `d_us`, `channel`, `unit` (dictionary
//! strings), `value`, `quality`; Snappy. The footer says `pitwire.schema_version`.
//!
//! Bounded: a row group has [`PARQUET_GROUP_ROWS_MAX`] rows; they are gathered as blocks of 32 bytes a
//! sample and turned into columns one after the other, in slices.

mod dictionary;
mod table;

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, Type};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{ByteArray, DataType, DoubleType, Int64Type};
use parquet::file::metadata::{KeyValue, ParquetMetaDataReader};
use parquet::file::properties::WriterProperties;
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnDescPtr, ColumnPath};

use self::dictionary::Dictionary;
pub(super) use self::table::ParquetTable;
use super::merge::{Block, ReadSample, Series};
use super::sink::Sink;
use crate::limits::PARQUET_GROUP_ROWS_MAX;

/// Version of the columns and their meaning.
pub const PARQUET_SCHEMA_VERSION: u32 = 1;
/// Key of that version in the footer.
pub const PARQUET_SCHEMA_KEY: &str = "pitwire.schema_version";

const CREATED_BY: &str = concat!("pitwire ", env!("CARGO_PKG_VERSION"));

const SCHEMA: &str = "message samples {
    REQUIRED INT64 t_us (TIMESTAMP(MICROS,true));
    REQUIRED BINARY car (STRING);
    REQUIRED BINARY device (STRING);
    REQUIRED INT64 boot;
    REQUIRED INT64 d_us;
    REQUIRED BINARY channel (STRING);
    REQUIRED BINARY unit (STRING);
    REQUIRED DOUBLE value;
    REQUIRED INT32 quality;
}";
/// Values handed to a column at once.
const SLICE: usize = 8 * 1024;

/// Writes Parquet.
pub(super) struct ParquetSink<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    /// Of the series of all blocks so far.
    series: Arc<Vec<Series>>,
    rows: Vec<ReadSample>,
    group_rows: usize,
}

/// A file without rows yet.
fn file_writer<W: Write + Send>(out: W) -> parquet::errors::Result<SerializedFileWriter<W>> {
    let schema = parse_message_type(SCHEMA)?;
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(PARQUET_GROUP_ROWS_MAX))
        .set_created_by(CREATED_BY.into())
        .set_key_value_metadata(Some(vec![KeyValue::new(
            PARQUET_SCHEMA_KEY.into(),
            PARQUET_SCHEMA_VERSION.to_string(),
        )]));
    for time in ["t_us", "d_us"] {
        // Times rise in small steps: differences take a tenth of a dictionary.
        properties = properties
            .set_column_dictionary_enabled(ColumnPath::from(time), false)
            .set_column_encoding(ColumnPath::from(time), Encoding::DELTA_BINARY_PACKED);
    }
    SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties.build()))
}

/// One file with the row groups of several, as they are: nothing is encoded anew.
pub(super) fn join<W: Write + Send>(out: W, files: impl Iterator<Item = io::Result<File>>) -> io::Result<W> {
    let (mut out, mut joined) = (Some(out), None);
    for file in files {
        let file = file?;
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).map_err(io_error)?;
        if let Some(out) = out.take() {
            // All of them have the schema and the words of the first.
            let of = metadata.file_metadata();
            let properties = WriterProperties::builder()
                .set_created_by(CREATED_BY.into())
                .set_key_value_metadata(of.key_value_metadata().cloned());
            let schema = of.schema_descr().root_schema_ptr();
            let writer = SerializedFileWriter::new(out, schema, Arc::new(properties.build()));
            joined = Some(writer.map_err(io_error)?);
        }
        let Some(writer) = &mut joined else { continue };
        for group in metadata.row_groups() {
            let mut to = writer.next_row_group().map_err(io_error)?;
            for column in group.columns() {
                let closed = ColumnCloseResult {
                    bytes_written: u64::try_from(column.compressed_size()).unwrap_or_default(),
                    rows_written: u64::try_from(group.num_rows()).unwrap_or_default(),
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: None,
                    offset_index: None,
                };
                to.append_column(&file, closed).map_err(io_error)?;
            }
            to.close().map_err(io_error)?;
        }
    }
    let Some(writer) = joined else { return Err(io::Error::other("nothing to join")) };
    ended(writer)
}

fn ended<W: Write + Send>(writer: SerializedFileWriter<W>) -> io::Result<W> {
    let mut out = writer.into_inner().map_err(io_error)?;
    out.flush()?;
    Ok(out)
}

impl<W: Write + Send> ParquetSink<W> {
    pub(super) fn new(out: W) -> io::Result<Self> {
        Ok(Self {
            writer: file_writer(out).map_err(io_error)?,
            series: Arc::default(),
            rows: Vec::new(),
            group_rows: PARQUET_GROUP_ROWS_MAX,
        })
    }

    #[cfg(test)]
    pub(super) fn with_group_rows(mut self, rows: usize) -> Self {
        self.group_rows = rows;
        self
    }

    fn write_group(&mut self) -> parquet::errors::Result<()> {
        let (rows, series) = (std::mem::take(&mut self.rows), Arc::clone(&self.series));
        let schema = self.writer.schema_descr().clone();
        let mut group = self.writer.next_row_group()?;
        let mut places = Vec::with_capacity(rows.len());
        let mut put = |group: &mut _, at: usize, value: fn(&Series, i64) -> (Vec<u8>, bool)| {
            by_place(group, schema.column(at), &rows, &mut places, of_series(&series, value))
        };
        column::<Int64Type, _>(&mut group, &rows, |s| s.t_us)?;
        put(&mut group, 1, |s, _| (s.car.as_bytes().to_vec(), true))?;
        put(&mut group, 2, |s, _| (s.device.as_bytes().to_vec(), true))?;
        put(&mut group, 3, |s, _| (s.boot.to_le_bytes().to_vec(), true))?;
        column::<Int64Type, _>(&mut group, &rows, |s| s.d_us)?;
        put(&mut group, 5, |s, _| (s.channel.as_bytes().to_vec(), true))?;
        // A device may describe its unit anew.
        put(&mut group, 6, |s, t_us| (s.unit(t_us).as_bytes().to_vec(), s.only_unit().is_some()))?;
        column::<DoubleType, _>(&mut group, &rows, |s| s.value)?;
        by_place(&mut group, schema.column(8), &rows, &mut places, of_quality())?;
        group.close()?;
        self.rows = rows;
        self.rows.clear();
        Ok(())
    }
}

impl<W: Write + Send> Sink<W> for ParquetSink<W> {
    fn write(&mut self, block: Block) -> io::Result<()> {
        self.series = block.series;
        let mut left = block.samples.as_slice();
        while !left.is_empty() {
            let (now, later) = left.split_at(left.len().min(self.group_rows - self.rows.len()));
            self.rows.extend_from_slice(now);
            left = later;
            if self.rows.len() == self.group_rows {
                self.write_group().map_err(io_error)?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, _last: bool) -> io::Result<W> {
        if !self.rows.is_empty() {
            self.write_group().map_err(io_error)?;
        }
        ended(self.writer)
    }
}

fn column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    rows: &[ReadSample],
    value: impl Fn(&ReadSample) -> T::T,
) -> parquet::errors::Result<()> {
    let Some(mut column) = group.next_column()? else {
        return Err(parquet::errors::ParquetError::General("the schema has too few columns".into()));
    };
    let mut values = Vec::with_capacity(SLICE.min(rows.len()));
    for slice in rows.chunks(SLICE) {
        values.clear();
        values.extend(slice.iter().map(&value));
        column.typed::<T>().write_batch(&values, None, None)?;
    }
    column.close()
}

/// Writes the next column by places in a dictionary: `place` finds each sample's. `places` is room for them.
fn by_place<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    column: ColumnDescPtr,
    rows: &[ReadSample],
    places: &mut Vec<u32>,
    mut place: impl FnMut(&ReadSample, &mut Dictionary) -> u32,
) -> parquet::errors::Result<()> {
    let mut dictionary = Dictionary::default();
    places.clear();
    places.extend(rows.iter().map(|sample| place(sample, &mut dictionary)));
    let kind = column.physical_type();
    let statistics = statistics(kind, dictionary.entries());
    dictionary::write(group, column, &dictionary, kind == Type::BYTE_ARRAY, statistics, places)
}

/// Places of values that follow from the series: `value` answers one, at a time, and whether it is the same at all times.
/// Only what occurs is entered: whoever reads looks in the dictionary for what a group may hold.
fn of_series(
    series: &[Series],
    value: impl Fn(&Series, i64) -> (Vec<u8>, bool),
) -> impl FnMut(&ReadSample, &mut Dictionary) -> u32 {
    let mut known: Vec<Option<u32>> = vec![None; series.len()];
    move |sample, dictionary| {
        let index = sample.series as usize;
        known[index].unwrap_or_else(|| {
            let (value, always) = value(&series[index], sample.t_us);
            let place = dictionary.place(&value);
            known[index] = always.then_some(place);
            place
        })
    }
}

/// Places of flags: a few combinations of them, and the same as before as a rule.
fn of_quality() -> impl FnMut(&ReadSample, &mut Dictionary) -> u32 {
    let mut last = None;
    move |sample, dictionary| match last {
        Some((quality, place)) if quality == sample.quality => place,
        _ => {
            let place = dictionary.place(&i32::from(sample.quality.0).to_le_bytes());
            last = Some((sample.quality, place));
            place
        }
    }
}

/// The least and the most of a column's values: readers pass over groups by them.
fn statistics(kind: Type, entries: &[Vec<u8>]) -> Statistics {
    fn range<T: Ord>(values: impl Iterator<Item = T> + Clone) -> (Option<T>, Option<T>) {
        (values.clone().min(), values.max())
    }
    let entries = entries.iter();
    match kind {
        Type::INT64 => {
            let numbers = entries.map(|entry| entry.as_slice().try_into().map_or(0, i64::from_le_bytes));
            let (least, most) = range(numbers);
            Statistics::int64(least, most, None, Some(0), false)
        }
        Type::INT32 => {
            let numbers = entries.map(|entry| entry.as_slice().try_into().map_or(0, i32::from_le_bytes));
            let (least, most) = range(numbers);
            Statistics::int32(least, most, None, Some(0), false)
        }
        _ => {
            let (least, most) = range(entries);
            let text = |entry: &Vec<u8>| ByteArray::from(entry.clone());
            Statistics::byte_array(least.map(text), most.map(text), None, Some(0), false)
        }
    }
}

/// The error of the output where there is one inside, so that a full disk is named as such.
fn io_error(error: parquet::errors::ParquetError) -> io::Error {
    match error {
        parquet::errors::ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(io) => *io,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}
