//! Blocks of samples to bytes: one sink for each format.

use std::io::{self, Write};

use super::csv::CsvSink;
use super::jsonl::JsonlSink;
use super::merge::Block;
use super::parquet::ParquetSink;

/// What an export writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 4180, with a header.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet, one row a sample.
    Parquet,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "csv" => Ok(Self::Csv),
            "jsonl" => Ok(Self::Jsonl),
            "parquet" => Ok(Self::Parquet),
            other => Err(format!("format `{other}` is unknown; write csv, jsonl or parquet")),
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        })
    }
}

/// Writes blocks in one format.
pub(super) trait Sink<W>: Send {
    /// Writes `block`, or keeps it until there is enough.
    fn write(&mut self, block: Block) -> io::Result<()>;

    /// Writes what is left and gives the output back, flushed.
    fn finish(self: Box<Self>) -> io::Result<W>;
}

/// The sink for `format`; `first` unless it goes on after another of the same file.
pub(super) fn sink<W: Write + Send + 'static>(format: Format, out: W, first: bool) -> io::Result<Box<dyn Sink<W>>> {
    Ok(match format {
        Format::Csv => Box::new(CsvSink::new(out, first)?),
        Format::Jsonl => Box::new(JsonlSink::new(out)),
        Format::Parquet => Box::new(ParquetSink::new(out)?),
    })
}

/// Bytes gathered before they are written.
pub(super) const TEXT_BUFFER_BYTES: usize = 64 * 1024;

/// The shortest text that reads back as the same f64.
pub(super) fn write_f64(out: &mut Vec<u8>, value: f64) {
    // Debug, not Display: it writes 1e300 with an exponent. Writing into memory cannot fail.
    let _ = write!(out, "{value:?}");
}
