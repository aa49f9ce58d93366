//! Columns with few distinct values, written as what they are: a dictionary, and for each row a place in it.
//!
//! The library finds the place of each value by hashing it, a million times for each column and row group, though all but
//! the first are known: a series has one car, one device, one channel. That took two thirds of an export. Here the caller
//! names the place.
//!
//! ```text
//! dictionary page   the entries, PLAIN
//! data page         u8 bits of a place; then runs, each a varint and what follows it:
//!                   count << 1, the place in whole bytes       so many times the same
//!                   groups << 1 | 1, 8 × bits for each group   as they come, the lowest bit first
//! ```
//! That is Parquet's hybrid of run length and bit packing (*Encodings*, RLE_DICTIONARY), Snappy over both pages. The library's
//! own encoder of it is behind its feature `experimental`, which promises nothing and brings more crates.

use std::io::Write;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{CompressedPage, Page, PageWriter as _};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use crate::codec::{BitWriter, put_varint};

/// From so many equal places on a run is shorter than bits.
const RUN_MIN: usize = 8;

/// The distinct values of a column, each by its place.
#[derive(Default)]
pub(super) struct Dictionary {
    entries: Vec<Vec<u8>>,
}

impl Dictionary {
    /// The place of a value, PLAIN without a length: of few, so they are looked through.
    pub(super) fn place(&mut self, plain: &[u8]) -> u32 {
        let found = self.entries.iter().position(|entry| entry == plain);
        let place = found.unwrap_or_else(|| {
            self.entries.push(plain.to_vec());
            self.entries.len() - 1
        });
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    /// The entries in order of their places.
    pub(super) fn entries(&self) -> &[Vec<u8>] {
        &self.entries
    }
}

/// Writes the group's next column: `places` in `dictionary`, whose entries have a length in front if they are `texts`.
pub(super) fn write<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    column: ColumnDescPtr,
    dictionary: &Dictionary,
    texts: bool,
    statistics: Statistics,
    places: &[u32],
) -> Result<()> {
    let mut entries = Vec::new();
    for entry in dictionary.entries() {
        if texts {
            entries.extend_from_slice(&u32::try_from(entry.len()).unwrap_or(u32::MAX).to_le_bytes());
        }
        entries.extend_from_slice(entry);
    }
    let rows = u32::try_from(places.len()).map_err(|error| ParquetError::External(Box::new(error)))?;
    let (mut sink, mut sizes) = (TrackedWrite::new(Vec::new()), [0, 0]);
    let mut writer = SerializedPageWriter::new(&mut sink);
    let spec = writer.write_page(page(&entries, &mut sizes, |buf| Page::DictionaryPage {
        buf,
        num_values: dictionary.entries().len() as u32,
        encoding: Encoding::PLAIN,
        is_sorted: false,
    })?)?;
    let data_at = spec.bytes_written;
    writer.write_page(page(&hybrid(places, dictionary.entries().len()), &mut sizes, |buf| Page::DataPage {
        buf,
        num_values: rows,
        encoding: Encoding::RLE_DICTIONARY,
        def_level_encoding: Encoding::RLE,
        rep_level_encoding: Encoding::RLE,
        statistics: None,
    })?)?;
    let written = sink.bytes_written();
    let pages = Bytes::from(sink.into_inner()?);
    let [uncompressed, compressed] = sizes;
    let headers = written - compressed;
    let metadata = ColumnChunkMetaData::builder(column)
        .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY])
        .set_compression(Compression::SNAPPY)
        .set_num_values(i64::from(rows))
        .set_total_compressed_size(written as i64)
        .set_total_uncompressed_size((uncompressed + headers) as i64)
        .set_dictionary_page_offset(Some(0))
        .set_data_page_offset(data_at as i64)
        .set_statistics(statistics)
        .build()?;
    let closed = ColumnCloseResult {
        bytes_written: written as u64,
        rows_written: u64::from(rows),
        metadata,
        bloom_filter: None,
        column_index: None,
        offset_index: None,
    };
    group.append_column(&pages, closed)
}

/// A page of `plain`, compressed; adds its bytes before and after that to `sizes`.
fn page(plain: &[u8], sizes: &mut [usize; 2], of: impl Fn(Bytes) -> Page) -> Result<CompressedPage> {
    let compressed = snap::raw::Encoder::new().compress_vec(plain);
    let compressed = compressed.map_err(|error| ParquetError::External(Box::new(error)))?;
    sizes[0] += plain.len();
    sizes[1] += compressed.len();
    Ok(CompressedPage::new(of(compressed.into()), plain.len()))
}

/// Places below `entries`, as runs and bits.
fn hybrid(places: &[u32], entries: usize) -> Vec<u8> {
    let bits = usize::BITS - entries.saturating_sub(1).leading_zeros();
    let mut out = vec![bits as u8];
    if bits == 0 && !places.is_empty() {
        put_varint(&mut out, (places.len() as u64) << 1);
        return out;
    }
    let mut at = 0;
    while at < places.len() {
        // How far until a run begins, in whole groups: only the last group of a page may be short.
        let mut end = at;
        let mut run = run_at(places, end);
        while run < RUN_MIN && end < places.len() {
            end = (end + 8).min(places.len());
            run = run_at(places, end);
        }
        if end > at {
            put_bits(&mut out, &places[at..end], bits);
        }
        if run >= RUN_MIN {
            put_varint(&mut out, (run as u64) << 1);
            out.extend_from_slice(&places[end].to_le_bytes()[..bits.div_ceil(8) as usize]);
            end += run;
        }
        at = end;
    }
    out
}

/// How many places from `at` on are the same.
fn run_at(places: &[u32], at: usize) -> usize {
    let rest = &places[at.min(places.len())..];
    rest.first().map_or(0, |first| rest.iter().take_while(|place| *place == first).count())
}

fn put_bits(out: &mut Vec<u8>, places: &[u32], bits: u32) {
    let groups = places.len().div_ceil(8);
    put_varint(out, (groups as u64) << 1 | 1);
    let mut writer = BitWriter::new(out);
    let filled = places.iter().copied().chain(std::iter::repeat_n(0, 8 * groups - places.len()));
    filled.for_each(|place| writer.put(place.into(), bits));
    writer.finish();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_bits_have_the_bytes_of_the_format() {
        assert_eq!(hybrid(&[], 1), [0]);
        assert_eq!(hybrid(&[0; 100], 1), [0, 200, 1], "one entry: no bits, only a count");
        assert_eq!(hybrid(&[0; 3], 1), [0, 6]);
        assert_eq!(hybrid(&[2; 9], 3), [2, 18, 2]);
        // The format's own example: 0 to 7 in three bits.
        assert_eq!(hybrid(&[0, 1, 2, 3, 4, 5, 6, 7], 8), [3, 3, 0b1000_1000, 0b1100_0110, 0b1111_1010]);
        assert_eq!(hybrid(&[1, 0, 1], 2), [1, 3, 0b101], "the last group is filled up");
        let mixed = [&[0, 1, 0, 1, 0, 1, 0, 1][..], &[1; 10], &[0]].concat();
        assert_eq!(hybrid(&mixed, 2), [1, 3, 0b1010_1010, 20, 1, 3, 0]);
    }
}
