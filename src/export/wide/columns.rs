//! Which columns a wide table has: one for each channel that a device described and that was asked for.
//!
//! A column is called as its channel. Where two devices of one car have a channel of that name, or the table has a column of
//! its own of that name, it is called `device/channel`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::super::plan::ChannelFilter;
use crate::limits::WIDE_COLUMNS_MAX;
use crate::row::ChannelRow;

/// The columns that every table has.
pub(super) const OWN: [&str; 3] = ["time", "t_us", "car"];

/// A column with the values of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::export) struct Column {
    /// Its name in the table.
    pub(in crate::export) name: String,
    /// The unit that was described last, empty if unknown.
    pub(in crate::export) unit: String,
    /// The channel.
    pub(in crate::export) channel: String,
    /// Whose it is; several only of several cars.
    pub(in crate::export) devices: BTreeSet<String>,
}

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub(in crate::export) enum ColumnsError {
    #[error("nobody described a channel that was asked for, so a wide table has no columns")]
    None,
    #[error("a wide table of {0} columns is wider than {WIDE_COLUMNS_MAX}: choose some with --channel")]
    TooMany(usize),
    #[error("no car has a channel {0} among those asked for (--channel): its samples were to make the rows")]
    NoSuchChannel(String),
}

/// The columns for what was `described`, by name.
pub(in crate::export) fn columns(
    described: &[ChannelRow],
    filter: &ChannelFilter,
) -> Result<Vec<Column>, ColumnsError> {
    let mut devices: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
    let mut units: HashMap<(&str, &str), (i64, &str)> = HashMap::new();
    for row in described.iter().filter(|row| filter.takes(&row.channel)) {
        devices.entry(&row.channel).or_default().insert((&row.car, &row.device));
        let unit = units.entry((&row.device, &row.channel)).or_insert((i64::MIN, ""));
        *unit = (*unit).max((row.since, &row.unit));
    }
    let mut all = Vec::new();
    for (channel, of) in devices {
        let cars: BTreeSet<&str> = of.iter().map(|&(car, _)| car).collect();
        let names: BTreeSet<&str> = of.iter().map(|&(_, device)| device).collect();
        let column = |name: String, devices: &[&str]| Column {
            name,
            unit: devices
                .iter()
                .filter_map(|device| units.get(&(*device, channel)))
                .max()
                .map_or("", |unit| unit.1)
                .into(),
            channel: channel.into(),
            devices: devices.iter().map(|&device| device.into()).collect(),
        };
        if cars.len() == of.len() && !OWN.contains(&channel) {
            all.push(column(channel.into(), &names.into_iter().collect::<Vec<_>>()));
        } else {
            all.extend(names.into_iter().map(|device| column(format!("{device}/{channel}"), &[device])));
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    match all.len() {
        0 => Err(ColumnsError::None),
        1..=WIDE_COLUMNS_MAX => Ok(all),
        more => Err(ColumnsError::TooMany(more)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::channel_row;
    use super::*;

    fn names(described: &[ChannelRow]) -> Vec<String> {
        columns(described, &ChannelFilter::default()).unwrap().into_iter().map(|column| column.name).collect()
    }

    #[test]
    fn a_column_is_called_as_its_channel_where_that_says_whose_it_is() {
        let of_car = |car: &str, device: &str, channel: &str| ChannelRow {
            car: car.into(),
            ..channel_row(device, channel, "V")
        };
        let row = |device: &str, channel: &str| of_car("44", device, channel);
        assert_eq!(names(&[row("ecu", "rpm"), row("ecu", "rpm"), row("gps", "lat")]), ["lat", "rpm"]);
        assert_eq!(names(&[row("a", "rpm"), row("b", "rpm"), row("b", "lat")]), ["a/rpm", "b/rpm", "lat"]);
        assert_eq!(names(&[of_car("44", "a", "rpm"), of_car("45", "b", "rpm")]), ["rpm"], "a car each");
        assert_eq!(names(&[row("ecu", "t_us"), row("ecu", "car")]), ["ecu/car", "ecu/t_us"], "the table's own");
    }

    #[test]
    fn the_unit_is_the_last_one_and_what_makes_no_table_is_refused() {
        let since = |since, unit| ChannelRow { since, ..channel_row("ecu", "rpm", unit) };
        let all = columns(&[since(2, "1/min"), since(1, "Hz")], &ChannelFilter::default()).unwrap();
        assert_eq!(all[0].unit, "1/min");
        let none = columns(&[since(1, "Hz")], &ChannelFilter::new(["lap"])).unwrap_err();
        assert!(matches!(none, ColumnsError::None));
        let many: Vec<ChannelRow> = (0..=WIDE_COLUMNS_MAX).map(|n| channel_row("ecu", &format!("c{n}"), "")).collect();
        let refused = columns(&many, &ChannelFilter::default()).unwrap_err();
        assert!(refused.to_string().contains("choose some with --channel"), "{refused}");
    }
}
