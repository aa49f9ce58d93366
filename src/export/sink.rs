//! Blocks of samples to bytes: what a sink of each format does (`shape` chooses one).

use std::io::{self, Write};

use super::merge::Block;

/// What an export writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 4180, with a header.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
    /// Apache Arrow's IPC stream.
    Arrow,
}

impl Format {
    /// Whether it is no text.
    #[must_use]
    pub const fn is_binary(self) -> bool {
        matches!(self, Self::Parquet | Self::Arrow)
    }
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "csv" => Ok(Self::Csv),
            "jsonl" => Ok(Self::Jsonl),
            "parquet" => Ok(Self::Parquet),
            "arrow" => Ok(Self::Arrow),
            other => Err(format!("format `{other}` is unknown; write csv, jsonl, parquet or arrow")),
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        })
    }
}

/// Writes blocks in one format.
pub(super) trait Sink<W>: Send {
    /// Writes `block`, or keeps it until there is enough.
    fn write(&mut self, block: Block) -> io::Result<()>;

    /// Writes what is left and gives the output back, flushed. Unless it is the `last` of a file, what is not complete
    /// without what comes is left to the next one.
    fn finish(self: Box<Self>, last: bool) -> io::Result<W>;
}

/// Bytes gathered before they are written.
pub(super) const TEXT_BUFFER_BYTES: usize = 64 * 1024;

/// The shortest text that reads back as the same f64.
pub(super) fn write_f64(out: &mut Vec<u8>, value: f64) {
    // Debug, not Display: it writes 1e300 with an exponent. Writing into memory cannot fail.
    let _ = write!(out, "{value:?}");
}
