//! Rows of a wide table to bytes. Arrow and Parquet are in modules of their own; here is the text.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int32Type, TimestampMicrosecondType};
use arrow_array::{Array as _, Float64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::{Column, Joiner, Wide};
use crate::export::csv::quote;
use crate::export::merge::Block;
use crate::export::sink::{Format, Sink, TEXT_BUFFER_BYTES, write_f64};
use crate::export::time::Rfc3339;

/// The time zone of all times.
pub(super) const UTC: &str = "UTC";
/// Columns before the first channel.
const FIRST: usize = 2;

/// The columns as Arrow knows them: `t_us`, `car`, then one for each channel, with its unit.
pub(in crate::export) fn schema(wide: &Wide, columns: &[Column]) -> SchemaRef {
    let car = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let mut fields = vec![
        Field::new("t_us", DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())), false),
        Field::new("car", car, false),
    ];
    fields.extend(columns.iter().map(|Column { name, unit, channel, .. }| {
        let told = [("unit".to_owned(), unit.clone()), ("channel".to_owned(), channel.clone())];
        Field::new(name, DataType::Float64, true).with_metadata(HashMap::from(told))
    }));
    Arc::new(Schema::new_with_metadata(fields, HashMap::from([("pitwire.wide".to_owned(), wide.to_string())])))
}

/// Writes the rows of a wide table in one format.
pub(in crate::export) trait TableSink<W>: Send {
    /// Writes `rows`, or keeps them until there are enough.
    fn write(&mut self, rows: &RecordBatch) -> io::Result<()>;

    /// Writes what is left and gives the output back, flushed.
    fn finish(self: Box<Self>) -> io::Result<W>;
}

/// Writes samples as a wide table.
pub(in crate::export) struct WideSink<W> {
    /// Shared with the sinks of other pieces of the same file, one after the other: a row may need what came before it.
    joiner: Arc<Mutex<Joiner>>,
    out: Box<dyn TableSink<W>>,
}

impl<W> WideSink<W> {
    pub(in crate::export) fn new(
        joiner: &Arc<Mutex<Joiner>>,
        open: impl FnOnce(SchemaRef) -> io::Result<Box<dyn TableSink<W>>>,
    ) -> io::Result<Self> {
        let schema = joiner.lock().unwrap_or_else(PoisonError::into_inner).schema();
        Ok(Self { joiner: Arc::clone(joiner), out: open(schema)? })
    }
}

impl<W> Sink<W> for WideSink<W> {
    fn write(&mut self, block: Block) -> io::Result<()> {
        let Self { joiner, out } = self;
        joiner.lock().unwrap_or_else(PoisonError::into_inner).push(&block, &mut |rows| out.write(&rows))
    }

    fn finish(self: Box<Self>, last: bool) -> io::Result<W> {
        let Self { joiner, mut out } = *self;
        joiner.lock().unwrap_or_else(PoisonError::into_inner).flush(last, &mut |rows| out.write(&rows))?;
        out.finish()
    }
}

/// The text formats: CSV with an empty cell, or JSON lines with `null`, where there is no value. `first`: with CSV's header.
pub(in crate::export) fn text_table<W: Write + Send + 'static>(
    format: Format,
    out: W,
    schema: &SchemaRef,
    first: bool,
) -> io::Result<Box<dyn TableSink<W>>> {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut table = TextTable { out, buffer: Vec::new(), time: Rfc3339::default(), json: None };
    if format == Format::Jsonl {
        let keys = names.iter().map(|name| serde_json::to_string(name).map(|name| format!(",{name}:").into_bytes()));
        table.json = Some(keys.collect::<Result<_, _>>()?);
    } else if first {
        table.buffer.extend_from_slice(b"time");
        for name in names {
            table.buffer.push(b',');
            quote(&mut table.buffer, name);
        }
        table.buffer.push(b'\n');
    }
    Ok(Box::new(table))
}

struct TextTable<W> {
    out: W,
    buffer: Vec<u8>,
    time: Rfc3339,
    /// `,"name":` of each column if it is JSON.
    json: Option<Vec<Vec<u8>>>,
}

impl<W: Write + Send> TableSink<W> for TextTable<W> {
    fn write(&mut self, rows: &RecordBatch) -> io::Result<()> {
        let times = rows.column(0).as_primitive::<TimestampMicrosecondType>();
        let cars = rows.column(1).as_dictionary::<Int32Type>();
        let names = cars.values().as_string::<i32>();
        let values: Vec<&Float64Array> =
            rows.columns()[FIRST..].iter().map(|it| it.as_primitive::<Float64Type>()).collect();
        for (row, &t_us) in times.values().iter().enumerate() {
            let car = cars.key(row).map_or("", |key| names.value(key));
            let Self { buffer, time, json, .. } = self;
            if let Some(keys) = json {
                buffer.extend_from_slice(b"{\"time\":\"");
                time.write(t_us, buffer);
                write!(buffer, "\",\"t_us\":{t_us},\"car\":")?;
                serde_json::to_writer(&mut *buffer, car)?;
                for (column, key) in values.iter().zip(&keys[FIRST..]) {
                    buffer.extend_from_slice(key);
                    match column.is_valid(row).then(|| column.value(row)).filter(|value| value.is_finite()) {
                        Some(value) => write_f64(buffer, value),
                        None => buffer.extend_from_slice(b"null"),
                    }
                }
                buffer.push(b'}');
            } else {
                time.write(t_us, buffer);
                write!(buffer, ",{t_us},")?;
                quote(buffer, car);
                for column in &values {
                    buffer.push(b',');
                    if column.is_valid(row) {
                        write_f64(buffer, column.value(row));
                    }
                }
            }
            buffer.push(b'\n');
            if buffer.len() >= TEXT_BUFFER_BYTES {
                self.out.write_all(buffer)?;
                buffer.clear();
            }
        }
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<W> {
        self.out.write_all(&self.buffer)?;
        self.out.flush()?;
        Ok(self.out)
    }
}
