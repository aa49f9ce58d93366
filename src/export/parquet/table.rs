//! A wide table as Parquet. The library's Arrow writer does it: a cell is handed over as it is, and there are no names to look
//! up, which is what the writer of samples is for.

use std::io::{self, Write};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::{CREATED_BY, PARQUET_SCHEMA_KEY, PARQUET_SCHEMA_VERSION, io_error};
use crate::export::wide::TableSink;
use crate::limits::{PARQUET_GROUP_ROWS_MAX, WIDE_GROUP_CELLS};

/// Writes the rows of a wide table.
pub(in crate::export) struct ParquetTable<W: Write + Send>(ArrowWriter<W>);

impl<W: Write + Send> ParquetTable<W> {
    pub(in crate::export) fn new(out: W, schema: &SchemaRef) -> io::Result<Self> {
        let rows_max = (WIDE_GROUP_CELLS / schema.fields().len().max(1)).min(PARQUET_GROUP_ROWS_MAX);
        let version = KeyValue::new(PARQUET_SCHEMA_KEY.into(), PARQUET_SCHEMA_VERSION.to_string());
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(rows_max))
            .set_created_by(CREATED_BY.into())
            .set_key_value_metadata(Some(vec![version]))
            .set_column_dictionary_enabled(ColumnPath::from("t_us"), false)
            .set_column_encoding(ColumnPath::from("t_us"), Encoding::DELTA_BINARY_PACKED);
        let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties.build()));
        Ok(Self(writer.map_err(io_error)?))
    }
}

impl<W: Write + Send> TableSink<W> for ParquetTable<W> {
    fn write(&mut self, rows: &RecordBatch) -> io::Result<()> {
        self.0.write(rows).map_err(io_error)
    }

    fn finish(self: Box<Self>) -> io::Result<W> {
        let mut out = self.0.into_inner().map_err(io_error)?;
        out.flush()?;
        Ok(out)
    }
}
