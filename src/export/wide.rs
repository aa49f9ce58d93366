//! Wide tables: a row for a time, a column for each channel, as pandas, MATLAB and spreadsheets like it.
//!
//! Two ways to say which times have rows:
//! - **every so long** ([`WideRows::Every`]): at the multiples of a length since 1970 (UTC), so that two exports have the same
//!   times. With [`Rule::Last`] a cell is the last sample at or before the row's time; with the others it sums up the samples
//!   from the row's time until the next one's. Where no channel has a sample since the row before there is no row: a week
//!   between two drives costs nothing.
//! - **at each sample of one channel** ([`WideRows::At`]): the others as of then (an as-of join).
//!
//! A cell is empty where its channel has no sample in the row's span, or for `Last` and `At` none that is younger than
//! [`Wide::max_age_us`]: a dead sensor is not read on for ever. So that the first row has what it may have, reading begins
//! earlier by as much ([`Wide::read_from`]).
//!
//! Flags have no place here: a value that was flagged stands as it is, but `Mean`, `Min` and `Max` leave out what is not finite.
//! Of two values of one identity the last in order stays.

mod columns;
mod join;
mod table;

pub(super) use columns::{Column, ColumnsError, columns};
pub(super) use join::Joiner;
pub(super) use table::{TableSink, WideSink, schema, text_table};

use crate::row::DAY_US;

/// What makes a table wide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wide {
    /// Which times have a row.
    pub rows: WideRows,
    /// A sample older than this, µs, is not read on.
    pub max_age_us: i64,
}

/// Which times have a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WideRows {
    /// The multiples of a length.
    Every {
        /// The length, µs, 1 to a day.
        every_us: i64,
        /// What a cell is.
        rule: Rule,
    },
    /// Those of a channel's samples.
    At {
        /// The channel.
        channel: String,
    },
}

/// What a cell is, of the samples around its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The last one at or before the row's time.
    Last,
    /// The mean of those from the row's time until the next row's.
    Mean,
    /// The least of them.
    Min,
    /// The greatest of them.
    Max,
}

impl std::str::FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "last" => Ok(Self::Last),
            "mean" => Ok(Self::Mean),
            "min" => Ok(Self::Min),
            "max" => Ok(Self::Max),
            other => Err(format!("rule `{other}` is unknown; write last, mean, min or max")),
        }
    }
}

impl Wide {
    /// Longest distance between two rows, µs.
    pub const EVERY_US_MAX: i64 = DAY_US;

    /// Where the first row is that is still to be written, after one that saw everything before `until_us`.
    pub(super) const fn rows_from(&self, until_us: i64) -> i64 {
        match self.rows {
            WideRows::Every { every_us, rule: Rule::Mean | Rule::Min | Rule::Max } => {
                until_us.div_euclid(every_us).saturating_mul(every_us)
            }
            WideRows::Every { .. } | WideRows::At { .. } => until_us,
        }
    }

    /// From which time on samples count for rows from `rows_from_us` on.
    pub(super) fn read_from(&self, rows_from_us: i64) -> i64 {
        match self.rows {
            WideRows::Every { rule: Rule::Mean | Rule::Min | Rule::Max, .. } => rows_from_us,
            // A row comes of a sample that may be older than what it shows.
            WideRows::Every { every_us, .. } => rows_from_us.saturating_sub(self.max_age_us.max(every_us)),
            WideRows::At { .. } => rows_from_us.saturating_sub(self.max_age_us),
        }
    }
}

impl std::fmt::Display for Wide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.rows {
            WideRows::Every { every_us, rule } => {
                let rule = format!("{rule:?}").to_lowercase();
                write!(f, "a row every {every_us} µs, {rule}, samples up to {} µs old", self.max_age_us)
            }
            WideRows::At { channel } => write!(f, "a row at each {channel}, samples up to {} µs old", self.max_age_us),
        }
    }
}

#[cfg(test)]
mod tests;
