//! Arrow's IPC stream: what pandas, Polars, DuckDB and R read from a pipe without parsing a word.
//!
//! One row a sample, with the columns of `parquet` in the same order; names and units are dictionaries, which grow in
//! the course of a stream. Wide tables are written as they are made.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};

use super::merge::{Block, ReadSample, Series};
use super::parquet::{PARQUET_SCHEMA_KEY, PARQUET_SCHEMA_VERSION};
use super::sink::Sink;
use super::wide::TableSink;
use crate::limits::ARROW_BATCH_ROWS;
use crate::sample::Name;

/// Writes samples, one a row.
pub(super) struct ArrowSink<W: Write> {
    writer: StreamWriter<W>,
    schema: SchemaRef,
    words: Words,
    /// Car, device, channel, and the unit where it never changes, of each series.
    known: Vec<([i32; 3], Option<i32>)>,
}

/// Texts by their place in a dictionary.
#[derive(Default)]
struct Words {
    places: HashMap<Name, i32>,
    words: Vec<Name>,
    array: Option<ArrayRef>,
}

impl Words {
    fn place(&mut self, word: &Name) -> i32 {
        *self.places.entry(Arc::clone(word)).or_insert_with(|| {
            self.words.push(Arc::clone(word));
            self.array = None;
            i32::try_from(self.words.len() - 1).unwrap_or(i32::MAX)
        })
    }

    fn column(&mut self, places: Vec<i32>) -> Result<ArrayRef, ArrowError> {
        let words = &self.words;
        let array = self.array.get_or_insert_with(|| Arc::new(StringArray::from_iter_values(words)));
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(Int32Array::from(places), Arc::clone(array))?))
    }
}

fn schema() -> SchemaRef {
    let text = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let fields = [
        ("t_us", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("car", text()),
        ("device", text()),
        ("boot", DataType::Int64),
        ("d_us", DataType::Int64),
        ("channel", text()),
        ("unit", text()),
        ("value", DataType::Float64),
        ("quality", DataType::Int32),
    ];
    let fields: Vec<Field> = fields.map(|(name, kind)| Field::new(name, kind, false)).into();
    let version = (PARQUET_SCHEMA_KEY.to_owned(), PARQUET_SCHEMA_VERSION.to_string());
    Arc::new(Schema::new_with_metadata(fields, HashMap::from([version])))
}

impl<W: Write> ArrowSink<W> {
    pub(super) fn new(out: W) -> io::Result<Self> {
        let schema = schema();
        let writer = StreamWriter::try_new(out, &schema).map_err(io_error)?;
        Ok(Self { writer, schema, words: Words::default(), known: Vec::new() })
    }

    fn batch(&mut self, series: &[Series], samples: &[ReadSample]) -> Result<RecordBatch, ArrowError> {
        for Series { car, device, channel, .. } in &series[self.known.len().min(series.len())..] {
            self.known.push(([car, device, channel].map(|name| self.words.place(name)), None));
        }
        let mut units = Vec::with_capacity(samples.len());
        for sample in samples {
            let (known, series) = (&mut self.known[sample.series as usize].1, &series[sample.series as usize]);
            units.push(match *known {
                Some(place) => place,
                None => {
                    let place = self.words.place(series.unit(sample.t_us));
                    *known = series.only_unit().map(|_| place);
                    place
                }
            });
        }
        let name = |which: usize| samples.iter().map(|s| self.known[s.series as usize].0[which]).collect::<Vec<_>>();
        let [cars, devices, channels] = [name(0), name(1), name(2)];
        let times = TimestampMicrosecondArray::from_iter_values(samples.iter().map(|sample| sample.t_us));
        let integers = |of: &dyn Fn(&ReadSample) -> i64| Arc::new(Int64Array::from_iter_values(samples.iter().map(of)));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(times.with_timezone("UTC")),
            self.words.column(cars)?,
            self.words.column(devices)?,
            integers(&|sample| series[sample.series as usize].boot),
            integers(&|sample| sample.d_us),
            self.words.column(channels)?,
            self.words.column(units)?,
            Arc::new(Float64Array::from_iter_values(samples.iter().map(|sample| sample.value))),
            Arc::new(Int32Array::from_iter_values(samples.iter().map(|sample| i32::from(sample.quality.0)))),
        ];
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}

impl<W: Write + Send> Sink<W> for ArrowSink<W> {
    fn write(&mut self, block: Block) -> io::Result<()> {
        for samples in block.samples.chunks(ARROW_BATCH_ROWS) {
            let batch = self.batch(&block.series, samples).map_err(io_error)?;
            self.writer.write(&batch).map_err(io_error)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _last: bool) -> io::Result<W> {
        ended(self.writer)
    }
}

/// Writes the rows of a wide table.
pub(super) struct ArrowTable<W: Write>(StreamWriter<W>);

impl<W: Write> ArrowTable<W> {
    pub(super) fn new(out: W, schema: &SchemaRef) -> io::Result<Self> {
        Ok(Self(StreamWriter::try_new(out, schema).map_err(io_error)?))
    }
}

impl<W: Write + Send> TableSink<W> for ArrowTable<W> {
    fn write(&mut self, rows: &RecordBatch) -> io::Result<()> {
        self.0.write(rows).map_err(io_error)
    }

    fn finish(self: Box<Self>) -> io::Result<W> {
        ended(self.0)
    }
}

/// One stream with the batches of several.
pub(super) fn join<W: Write>(out: W, files: impl Iterator<Item = io::Result<File>>) -> io::Result<W> {
    let (mut out, mut writer) = (Some(out), None);
    for file in files {
        let reader = StreamReader::try_new(BufReader::new(file?), None).map_err(io_error)?;
        if let Some(out) = out.take() {
            writer = Some(StreamWriter::try_new(out, &reader.schema()).map_err(io_error)?);
        }
        for batch in reader {
            let batch = batch.map_err(io_error)?;
            writer.iter_mut().try_for_each(|writer| writer.write(&batch)).map_err(io_error)?;
        }
    }
    writer.map_or_else(|| Err(io::Error::other("nothing to join")), ended)
}

fn ended<W: Write>(mut writer: StreamWriter<W>) -> io::Result<W> {
    writer.finish().map_err(io_error)?;
    let mut out = writer.into_inner().map_err(io_error)?;
    out.flush()?;
    Ok(out)
}

/// The error of the output where there is one inside: a pipe that nobody reads, a full disk.
fn io_error(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, inner) => inner,
        other => io::Error::other(other),
    }
}
