//! Which extents this process has written, so that each is written once and not with every flush.
//!
//! An extent that is taken for written and is not makes its rows invisible. So all is forgotten whenever the tables may
//! have become others, and what a write finds out that began before that is not remembered.

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
    /// How often all was forgotten.
    age: u64,
}

/// Since when nothing was forgotten: what [`Written::missing`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Age(u64);

impl Written {
    /// Of `extents` those that are not known to be written, and since when that holds.
    pub(super) fn missing<'a>(&self, extents: &'a [ExtentRow]) -> (Vec<&'a ExtentRow>, Age) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (extents.iter().filter(|extent| !state.known.contains(*extent)).collect(), Age(state.age))
    }

    /// Remembers that `extents` are written, and forgets the oldest beyond the bound. Does nothing if all was
    /// forgotten since `age`.
    pub(super) fn remember(&self, extents: &[&ExtentRow], age: Age) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if age != Age(state.age) {
            return;
        }
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
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { age: state.age + 1, ..State::default() };
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
        let lacks = |extent: &ExtentRow| !written.missing(std::slice::from_ref(extent)).0.is_empty();
        let age = || written.missing(&[]).1;
        let (first, bound) = (extent(0), i64::try_from(EXTENTS_REMEMBERED_MAX).unwrap());
        assert!(lacks(&first));
        written.remember(&[&first, &first], age());
        assert!(!lacks(&first));
        for bucket in 1..bound {
            written.remember(&[&extent(bucket)], age());
        }
        assert!(!lacks(&first));
        written.remember(&[&extent(bound)], age());
        assert!(lacks(&first) && !lacks(&extent(1)) && !lacks(&extent(bound)));

        // A write that is under way while the tables are made anew has written into the old ones.
        let before = age();
        written.clear();
        assert!(lacks(&extent(bound)));
        written.remember(&[&first], before);
        assert!(lacks(&first));
        written.remember(&[&first], age());
        assert!(!lacks(&first));
    }
}
