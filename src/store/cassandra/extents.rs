//! Which extents this process has written, so that each is written once and not with every flush.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::limits::EXTENTS_REMEMBERED_MAX;
use crate::row::ExtentRow;

/// The extents written last, bounded.
#[derive(Default)]
pub(super) struct Written(Mutex<State>);

#[derive(Default)]
struct State {
    known: HashSet<ExtentRow>,
    /// In the order of writing.
    order: VecDeque<ExtentRow>,
}

impl Written {
    /// Of `extents` those that are not known to be written.
    pub(super) fn missing<'a>(&self, extents: &'a [ExtentRow]) -> Vec<&'a ExtentRow> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        extents.iter().filter(|extent| !state.known.contains(*extent)).collect()
    }

    /// Remembers that `extents` are written, and forgets the oldest beyond the bound.
    pub(super) fn remember(&self, extents: &[&ExtentRow]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for &extent in extents {
            if state.known.insert(extent.clone()) {
                state.order.push_back(extent.clone());
            }
            if state.order.len() > EXTENTS_REMEMBERED_MAX
                && let Some(oldest) = state.order.pop_front()
            {
                state.known.remove(&oldest);
            }
        }
    }

    /// Forgets all: the table may be another one.
    pub(super) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_is_written_once_until_it_is_forgotten() {
        let extent = |bucket: i64| ExtentRow {
            car: "44".into(),
            day: 0,
            layout: "chunks".into(),
            device: "ecu".into(),
            channel: String::new(),
            bucket,
            length_us: 60_000_000,
        };
        let written = Written::default();
        let (first, bound) = (extent(0), i64::try_from(EXTENTS_REMEMBERED_MAX).unwrap());
        assert_eq!(written.missing(std::slice::from_ref(&first)), [&first]);
        written.remember(&[&first, &first]);
        assert!(written.missing(std::slice::from_ref(&first)).is_empty());
        for bucket in 1..bound {
            written.remember(&[&extent(bucket)]);
        }
        assert!(written.missing(std::slice::from_ref(&first)).is_empty());
        written.remember(&[&extent(bound)]);
        assert_eq!(written.missing(&[first, extent(1), extent(bound)]).len(), 1);
        written.clear();
        assert_eq!(written.missing(&[extent(bound)]).len(), 1);
    }
}
