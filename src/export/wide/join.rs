//! Samples in order to rows, as [`Wide`] says: the pure half of a wide table.
//!
//! ```text
//! Last    cells as of the row's time ──────●       written when a sample later than it has come
//! Mean …              the row's time ●──────────   written when a sample of the next row's time has come
//! ```
//! Each car has at most one row that is not written, and a cell for each column. Memory: 24 B a cell and car, and what is
//! gathered of a batch.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use arrow_array::builder::Float64Builder;
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::SchemaRef;

use super::table::UTC;
use super::{Column, ColumnsError, Rule, Wide, WideRows, schema};
use crate::export::merge::{Block, ReadSample};
use crate::limits::{READ_FAULTS_LISTED_MAX, WIDE_BATCH_CELLS};
use crate::sample::Name;

/// What takes rows.
pub(super) type Take<'a> = dyn FnMut(RecordBatch) -> io::Result<()> + 'a;

/// Makes rows of samples.
pub(in crate::export) struct Joiner {
    wide: Wide,
    /// Of the rows that are wanted, UTC µs.
    from_us: Option<i64>,
    to_us: Option<i64>,
    schema: SchemaRef,
    /// By device and channel.
    columns: HashMap<(String, String), usize>,
    columns_len: usize,
    cars: Vec<Car>,
    /// Where each series belongs, as far as blocks have named them.
    places: Vec<Place>,
    /// Before this time no row becomes complete.
    due_us: i64,
    gathered: Gathered,
    /// How many series have no column.
    unlisted: usize,
}

#[derive(Clone, Copy)]
struct Place {
    car: usize,
    column: Option<usize>,
    /// Whether its samples make rows, where those of one channel do.
    makes_rows: bool,
}

struct Car {
    name: Name,
    cells: Vec<Cell>,
    next: Option<Row>,
    /// Time of the row written last.
    written_us: i64,
}

#[derive(Clone, Copy)]
struct Row {
    t_us: i64,
    /// Samples from here on are no part of it.
    due_us: i64,
}

/// A column's value so far: the last, the least, the greatest, or a sum.
#[derive(Clone, Copy)]
struct Cell {
    t_us: i64,
    value: f64,
    count: u32,
}

const NO_SAMPLE: Cell = Cell { t_us: i64::MIN, value: 0.0, count: 0 };

/// Rows that were not handed on.
struct Gathered {
    times_us: Vec<i64>,
    cars: Vec<i32>,
    columns: Vec<Float64Builder>,
}

impl Joiner {
    /// Of the rows from `from_us` until before `to_us`.
    ///
    /// # Errors
    /// If rows were to be at a channel that is none of the columns.
    pub(in crate::export) fn new(
        wide: Wide,
        all: &[Column],
        cars: &[String],
        [from_us, to_us]: [Option<i64>; 2],
    ) -> Result<Self, ColumnsError> {
        if let WideRows::At { channel } = &wide.rows
            && !all.iter().any(|column| column.channel == *channel)
        {
            return Err(ColumnsError::NoSuchChannel(channel.clone()));
        }
        let mut columns = HashMap::new();
        for (index, column) in all.iter().enumerate() {
            columns.extend(column.devices.iter().map(|device| ((device.clone(), column.channel.clone()), index)));
        }
        // In the order of the samples: by name.
        let names: BTreeMap<Name, ()> = cars.iter().map(|car| (car.as_str().into(), ())).collect();
        let car = |name| Car { name, cells: vec![NO_SAMPLE; all.len()], next: None, written_us: i64::MIN };
        Ok(Self {
            schema: schema(&wide, all),
            from_us,
            to_us,
            columns,
            columns_len: all.len(),
            cars: names.into_keys().map(car).collect(),
            places: Vec::new(),
            due_us: i64::MAX,
            gathered: Gathered::new(all.len()),
            unlisted: 0,
            wide,
        })
    }

    /// The columns as Arrow knows them.
    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Takes `block` in, and hands on the rows that are complete with it, once there are enough.
    pub(super) fn push(&mut self, block: &Block, take: &mut Take<'_>) -> io::Result<()> {
        self.place(block);
        for sample in &block.samples {
            if sample.t_us >= self.due_us {
                self.write_due(sample.t_us, take)?;
            }
            self.add(sample);
        }
        if block.until_us >= self.due_us {
            self.write_due(block.until_us, take)?;
        }
        Ok(())
    }

    /// Hands on what is complete; with `last` also the rows that wait for more.
    pub(super) fn flush(&mut self, last: bool, take: &mut Take<'_>) -> io::Result<()> {
        if last {
            self.write_due(i64::MAX, take)?;
        }
        if self.gathered.times_us.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.cars.iter().map(|car| &*car.name).collect();
        take(self.gathered.take(&self.schema, &names)?)
    }

    fn place(&mut self, block: &Block) {
        for series in &block.series[self.places.len().min(block.series.len())..] {
            let car = self.cars.iter().position(|car| car.name == series.car).unwrap_or_default();
            let column = self.columns.get(&(series.device.to_string(), series.channel.to_string())).copied();
            if column.is_none() {
                self.unlisted += 1;
                if self.unlisted <= READ_FAULTS_LISTED_MAX {
                    let (device, channel) = (&*series.device, &*series.channel);
                    tracing::warn!(device, channel, "has no column: it was first described while this export ran");
                }
            }
            let makes_rows = match &self.wide.rows {
                WideRows::At { channel } => *series.channel == **channel,
                WideRows::Every { .. } => true,
            };
            self.places.push(Place { car, column, makes_rows });
        }
    }

    fn add(&mut self, sample: &ReadSample) {
        let Place { car, column: Some(column), makes_rows } = self.places[sample.series as usize] else { return };
        let car = &mut self.cars[car];
        if let WideRows::Every { rule: rule @ (Rule::Mean | Rule::Min | Rule::Max), .. } = self.wide.rows {
            car.cells[column].sum_up(sample.value, rule);
        } else if sample.t_us >= car.cells[column].t_us {
            car.cells[column] = Cell { t_us: sample.t_us, value: sample.value, count: 1 };
        }
        if makes_rows && car.next.is_none() {
            let row = row(&self.wide, sample.t_us);
            // A late sample makes no row behind one that is written.
            if row.t_us > car.written_us {
                car.next = Some(row);
                self.due_us = self.due_us.min(row.due_us);
            }
        }
    }

    /// Writes the rows that no sample from `now_us` on belongs to, in order of time and car.
    fn write_due(&mut self, now_us: i64, take: &mut Take<'_>) -> io::Result<()> {
        let due = |car: &Car| car.next.filter(|row| row.due_us <= now_us).map(|row| row.t_us);
        let mut order: Vec<(i64, usize)> =
            self.cars.iter().enumerate().filter_map(|(index, car)| Some((due(car)?, index))).collect();
        order.sort_unstable();
        for (t_us, index) in order {
            let car = &mut self.cars[index];
            (car.next, car.written_us) = (None, t_us);
            let windows = matches!(self.wide.rows, WideRows::Every { rule, .. } if rule != Rule::Last);
            if self.from_us.is_some_and(|from| t_us < from) || self.to_us.is_some_and(|to| t_us >= to) {
                if windows {
                    car.cells.fill(NO_SAMPLE);
                }
                continue;
            }
            let oldest_us = if windows { i64::MIN } else { t_us.saturating_sub(self.wide.max_age_us) };
            let mean = matches!(self.wide.rows, WideRows::Every { rule: Rule::Mean, .. });
            self.gathered.times_us.push(t_us);
            self.gathered.cars.push(i32::try_from(index).unwrap_or(i32::MAX));
            for (cell, column) in car.cells.iter_mut().zip(&mut self.gathered.columns) {
                let holds = cell.count > 0 && cell.t_us >= oldest_us;
                let divisor = if mean { f64::from(cell.count) } else { 1.0 };
                column.append_option(holds.then_some(cell.value / divisor));
                if windows {
                    *cell = NO_SAMPLE;
                }
            }
            if self.gathered.times_us.len() * self.columns_len >= WIDE_BATCH_CELLS {
                self.flush(false, take)?;
            }
        }
        self.due_us = self.cars.iter().filter_map(|car| Some(car.next?.due_us)).min().unwrap_or(i64::MAX);
        Ok(())
    }
}

/// The row to which a sample at `t_us` belongs.
fn row(wide: &Wide, t_us: i64) -> Row {
    match wide.rows {
        WideRows::At { .. } => Row { t_us, due_us: t_us.saturating_add(1) },
        WideRows::Every { every_us, rule: Rule::Last } => {
            let t_us = t_us.saturating_add(every_us - 1).div_euclid(every_us) * every_us;
            Row { t_us, due_us: t_us.saturating_add(1) }
        }
        WideRows::Every { every_us, .. } => {
            let t_us = t_us.div_euclid(every_us).saturating_mul(every_us);
            Row { t_us, due_us: t_us.saturating_add(every_us) }
        }
    }
}

impl Cell {
    fn sum_up(&mut self, value: f64, rule: Rule) {
        if !value.is_finite() {
            return;
        }
        self.value = match (self.count, rule) {
            (0, _) => value,
            (_, Rule::Min) => self.value.min(value),
            (_, Rule::Max) => self.value.max(value),
            (_, Rule::Mean | Rule::Last) => self.value + value,
        };
        self.count = self.count.saturating_add(1);
    }
}

impl Gathered {
    fn new(columns: usize) -> Self {
        let builder = || Float64Builder::with_capacity(0);
        Self {
            times_us: Vec::new(),
            cars: Vec::new(),
            columns: std::iter::repeat_with(builder).take(columns).collect(),
        }
    }

    fn take(&mut self, schema: &SchemaRef, cars: &[&str]) -> io::Result<RecordBatch> {
        let times = TimestampMicrosecondArray::from(std::mem::take(&mut self.times_us)).with_timezone(UTC);
        let names = Arc::new(StringArray::from_iter_values(cars));
        let cars = DictionaryArray::<Int32Type>::try_new(Int32Array::from(std::mem::take(&mut self.cars)), names);
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(times), Arc::new(cars.map_err(io::Error::other)?)];
        arrays.extend(self.columns.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        RecordBatch::try_new(Arc::clone(schema), arrays).map_err(io::Error::other)
    }
}
