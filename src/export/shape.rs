//! What an export's rows are: a sample each, or a time each.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use arrow_schema::SchemaRef;

use super::arrow::{ArrowSink, ArrowTable};
use super::csv::CsvSink;
use super::jsonl::JsonlSink;
use super::parquet::{ParquetSink, ParquetTable};
use super::sink::{Format, Sink};
use super::wide::{Joiner, TableSink, WideSink, text_table};

/// What the rows are, and for wide tables what is known so far.
#[derive(Clone)]
pub(super) enum Shape {
    /// A sample each.
    Long,
    /// A time each.
    Wide(Arc<Mutex<Joiner>>),
}

impl Shape {
    /// The sink for `format`; `first` unless it goes on after another of the same file.
    pub(super) fn sink<W>(&self, format: Format, out: W, first: bool) -> io::Result<Box<dyn Sink<W>>>
    where
        W: Write + Send + 'static,
    {
        Ok(match (self, format) {
            (Self::Wide(joiner), _) => Box::new(WideSink::new(joiner, |schema| table(format, out, &schema, first))?),
            (Self::Long, Format::Csv) => Box::new(CsvSink::new(out, first)?),
            (Self::Long, Format::Jsonl) => Box::new(JsonlSink::new(out)),
            (Self::Long, Format::Parquet) => Box::new(ParquetSink::new(out)?),
            (Self::Long, Format::Arrow) => Box::new(ArrowSink::new(out)?),
        })
    }
}

fn table<W: Write + Send + 'static>(
    format: Format,
    out: W,
    schema: &SchemaRef,
    first: bool,
) -> io::Result<Box<dyn TableSink<W>>> {
    Ok(match format {
        Format::Csv | Format::Jsonl => text_table(format, out, schema, first)?,
        Format::Parquet => Box::new(ParquetTable::new(out, schema)?),
        Format::Arrow => Box::new(ArrowTable::new(out, schema)?),
    })
}
