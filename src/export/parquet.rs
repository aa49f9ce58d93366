//! Parquet, one row a sample: what pandas, DuckDB and Spark read without a word.
//!
//! Columns `t_us` (timestamp, µs, UTC), `car`, `device`, `boot`, `d_us`, `channel`, `unit` (dictionary
//! strings), `value`, `quality`; Snappy. The footer says `pitwire.schema_version`.
//!
//! Bounded: a row group has [`PARQUET_GROUP_ROWS_MAX`] rows; they are gathered as blocks of 32 bytes a
//! sample and turned into columns one after the other, in slices.

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{Compression, Encoding};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::merge::{Block, ReadSample, Series};
use super::sink::Sink;
use crate::limits::PARQUET_GROUP_ROWS_MAX;

/// Version of the columns and their meaning.
pub const PARQUET_SCHEMA_VERSION: u32 = 1;
/// Key of that version in the footer.
pub const PARQUET_SCHEMA_KEY: &str = "pitwire.schema_version";

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

impl<W: Write + Send> ParquetSink<W> {
    pub(super) fn new(out: W) -> io::Result<Self> {
        let schema = parse_message_type(SCHEMA).map_err(io::Error::other)?;
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(PARQUET_GROUP_ROWS_MAX))
            .set_created_by(concat!("pitwire ", env!("CARGO_PKG_VERSION")).into())
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
        let writer = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties.build()));
        Ok(Self {
            writer: writer.map_err(io::Error::other)?,
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
        let of = |sample: &ReadSample| &series[sample.series as usize];
        // One allocation for each name, not for each sample.
        let names = |name: fn(&Series) -> &str| series.iter().map(|s| bytes(name(s))).collect::<Vec<_>>();
        let (cars, devices, channels) = (names(|s| &s.car), names(|s| &s.device), names(|s| &s.channel));
        let units: Vec<Option<ByteArray>> = series.iter().map(|s| s.only_unit().map(|unit| bytes(unit))).collect();
        let unit = |s: &ReadSample| units[s.series as usize].clone().unwrap_or_else(|| bytes(of(s).unit(s.t_us)));

        let mut group = self.writer.next_row_group()?;
        column::<Int64Type, _>(&mut group, &rows, |s| s.t_us)?;
        column::<ByteArrayType, _>(&mut group, &rows, |s| cars[s.series as usize].clone())?;
        column::<ByteArrayType, _>(&mut group, &rows, |s| devices[s.series as usize].clone())?;
        column::<Int64Type, _>(&mut group, &rows, |s| of(s).boot)?;
        column::<Int64Type, _>(&mut group, &rows, |s| s.d_us)?;
        column::<ByteArrayType, _>(&mut group, &rows, |s| channels[s.series as usize].clone())?;
        column::<ByteArrayType, _>(&mut group, &rows, unit)?;
        column::<DoubleType, _>(&mut group, &rows, |s| s.value)?;
        column::<Int32Type, _>(&mut group, &rows, |s| i32::from(s.quality.0))?;
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

    fn finish(mut self: Box<Self>) -> io::Result<W> {
        if !self.rows.is_empty() {
            self.write_group().map_err(io_error)?;
        }
        let mut out = self.writer.into_inner().map_err(io_error)?;
        out.flush()?;
        Ok(out)
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

fn bytes(text: &str) -> ByteArray {
    ByteArray::from(text.as_bytes().to_vec())
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
