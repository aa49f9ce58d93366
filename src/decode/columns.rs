//! Bursts and Scans as columns, by the catalogue that their frame names.

use std::sync::Arc;

use pitwire_wire as wire;

use super::catalogue::{Catalogue, value_kind};
use crate::sample::{ChannelMeta, Column, DeviceTime, Flags, Times, ValueKind, Values};

/// The column of a Burst.
///
/// # Errors
/// If the channel is not declared, or as another kind.
pub(super) fn burst(catalogue: &Catalogue, t0_us: i64, burst: &wire::Burst<'_>) -> Result<Column, String> {
    let meta = catalogue.channel(burst.channel).ok_or_else(|| format!("channel {} is not declared", burst.channel))?;
    column(meta, times(t0_us, burst.period_ns, burst.values.len()), &burst.values)
}

/// The columns of a Scan, in the order of its channels; none for no rows.
///
/// # Errors
/// If the group is not declared, or its channels do not make up a row.
pub(super) fn scan(catalogue: &Catalogue, t0_us: i64, scan: &wire::Scan<'_>) -> Result<Vec<Column>, String> {
    let undeclared = || format!("group {} is not declared", scan.group);
    let width: usize = catalogue.group(scan.group).ok_or_else(undeclared)?.map(|meta| meta.kind.bytes()).sum();
    if width * usize::from(scan.count) != scan.data.len() {
        let (bytes, count) = (scan.data.len(), scan.count);
        return Err(format!("{bytes} bytes for {count} rows of group {}, whose row has {width}", scan.group));
    }
    let mut columns = Vec::new();
    if scan.count == 0 {
        return Ok(columns);
    }
    let mut offset = 0;
    for meta in catalogue.group(scan.group).ok_or_else(undeclared)? {
        let kind = match meta.kind {
            ValueKind::I16 => wire::ValueKind::I16,
            ValueKind::I32 => wire::ValueKind::I32,
            ValueKind::F32 | ValueKind::F64 => wire::ValueKind::F32,
        };
        let values = scan.column(offset, kind).ok_or("a row is cut short")?;
        columns.push(column(meta, times(t0_us, scan.period_ns, usize::from(scan.count)), &values)?);
        offset += meta.kind.bytes();
    }
    Ok(columns)
}

fn times(t0_us: i64, period_ns: u32, count: usize) -> Times {
    Times::Regular { t0: DeviceTime(t0_us), period_ns, count: u32::try_from(count).unwrap_or(u32::MAX) }
}

fn column(meta: &Arc<ChannelMeta>, times: Times, values: &wire::Values<'_>) -> Result<Column, String> {
    if value_kind(values.kind()) != meta.kind {
        return Err(format!("channel {} is declared as {}", meta.name, meta.kind.as_str()));
    }
    let copied = match values.kind() {
        wire::ValueKind::I16 => values.i16s().map(|v| Values::I16(v.collect())),
        wire::ValueKind::I32 => values.i32s().map(|v| Values::I32(v.collect())),
        wire::ValueKind::F32 => values.f32s().map(|v| Values::F32(v.collect())),
    };
    let values = copied.ok_or("values of another kind")?;
    Ok(Column { channel: meta.clone(), times, values, flags: Flags::default() })
}
