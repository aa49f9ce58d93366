//! The items of a queue, in the order in which they may be taken.
//!
//! Plain, that is the order of arrival. By key, an item whose key is in progress is passed over and parked
//! until the key is free; it stays in the queue's bounds. Items of one key never overtake each other.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sync::Arc;

/// Gives an item's key, as a hash: two keys of one hash are merely kept in order with each other.
pub(crate) type KeyOf<T> = Arc<dyn Fn(&T) -> u64 + Send + Sync>;

/// An item with its weight.
pub(crate) struct Entry<T> {
    pub(crate) item: T,
    pub(crate) bytes: usize,
}

pub(crate) struct Line<T> {
    arrived: VecDeque<Entry<T>>,
    keyed: Option<Keyed<T>>,
}

struct Keyed<T> {
    key_of: KeyOf<T>,
    /// The keys in progress, and what is parked behind each.
    busy: HashMap<u64, VecDeque<Entry<T>>>,
    /// First of their key, which became free: they go before what arrived later.
    freed: VecDeque<(u64, Entry<T>)>,
    parked: usize,
    /// Emptied parking places, to be used again.
    spare: Vec<VecDeque<Entry<T>>>,
}

impl<T> Line<T> {
    pub(crate) const fn new() -> Self {
        Self { arrived: VecDeque::new(), keyed: None }
    }

    /// From now on taken by key.
    pub(crate) fn key_by(&mut self, key_of: KeyOf<T>) {
        let (busy, freed, spare) = (HashMap::new(), VecDeque::new(), Vec::new());
        self.keyed = Some(Keyed { key_of, busy, freed, parked: 0, spare });
    }

    pub(crate) fn len(&self) -> usize {
        self.arrived.len() + self.keyed.as_ref().map_or(0, |keyed| keyed.freed.len() + keyed.parked)
    }

    /// Whether anything might be taken now.
    pub(crate) fn is_ready(&self) -> bool {
        !self.arrived.is_empty() || self.keyed.as_ref().is_some_and(|keyed| !keyed.freed.is_empty())
    }

    pub(crate) fn push(&mut self, entry: Entry<T>) {
        self.arrived.push_back(entry);
    }

    /// The next item that may be taken, with its key, which is in progress from now on.
    pub(crate) fn pop(&mut self) -> Option<(Entry<T>, Option<u64>)> {
        let Some(keyed) = &mut self.keyed else {
            return self.arrived.pop_front().map(|entry| (entry, None));
        };
        if let Some((key, entry)) = keyed.freed.pop_front() {
            return Some((entry, Some(key)));
        }
        while let Some(entry) = self.arrived.pop_front() {
            // A key function that panics must not take the queue with it: such items share a key.
            let key = catch_unwind(AssertUnwindSafe(|| (keyed.key_of)(&entry.item))).unwrap_or(0);
            match keyed.busy.get_mut(&key) {
                Some(place) => {
                    keyed.parked += 1;
                    place.push_back(entry);
                }
                None => {
                    keyed.busy.insert(key, keyed.spare.pop().unwrap_or_default());
                    return Some((entry, Some(key)));
                }
            }
        }
        None
    }

    /// The operation on an item of `key` is over: the next of that key may be taken.
    pub(crate) fn free(&mut self, key: u64) {
        let Some(keyed) = &mut self.keyed else { return };
        let Some(place) = keyed.busy.get_mut(&key) else { return };
        match place.pop_front() {
            Some(entry) => {
                keyed.parked -= 1;
                keyed.freed.push_back((key, entry));
            }
            None => keyed.spare.extend(keyed.busy.remove(&key)),
        }
    }

    /// All that is left, each key's items in their order.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        let mut left = Vec::new();
        if let Some(keyed) = &mut self.keyed {
            left.extend(keyed.freed.drain(..).map(|(_, entry)| entry));
            left.extend(keyed.busy.drain().flat_map(|(_, place)| place));
            keyed.parked = 0;
        }
        left.extend(self.arrived.drain(..));
        left.into_iter().map(|entry| entry.item).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(items: &[(u64, u32)]) -> Line<(u64, u32)> {
        let mut line = Line::new();
        line.key_by(Arc::new(|item: &(u64, u32)| item.0));
        items.iter().for_each(|&item| line.push(Entry { item, bytes: 1 }));
        line
    }

    fn pop(line: &mut Line<(u64, u32)>) -> Option<(u64, u32)> {
        line.pop().map(|(entry, _)| entry.item)
    }

    #[test]
    fn an_item_whose_key_is_in_progress_is_passed_over_and_stays_in_the_count() {
        let mut line = keyed(&[(1, 0), (1, 1), (2, 0), (1, 2), (3, 0)]);
        assert_eq!((pop(&mut line), pop(&mut line), pop(&mut line)), (Some((1, 0)), Some((2, 0)), Some((3, 0))));
        assert_eq!((pop(&mut line), line.len(), line.is_ready()), (None, 2, false));
        line.free(2);
        assert_eq!(pop(&mut line), None);
        line.free(1);
        line.push(Entry { item: (2, 1), bytes: 1 });
        assert_eq!((pop(&mut line), pop(&mut line)), (Some((1, 1)), Some((2, 1))));
        line.free(1);
        assert_eq!((pop(&mut line), line.len()), (Some((1, 2)), 0));
    }

    #[test]
    fn what_is_left_keeps_each_keys_order() {
        let mut line = keyed(&[(1, 0), (1, 1), (2, 0), (1, 2), (1, 3)]);
        assert_eq!((pop(&mut line), pop(&mut line), pop(&mut line)), (Some((1, 0)), Some((2, 0)), None));
        line.free(1);
        assert_eq!(line.drain(), [(1, 1), (1, 2), (1, 3)]);
        assert_eq!(line.len(), 0);
    }

    #[test]
    fn a_key_function_that_panics_costs_order_among_such_items_only() {
        let mut line = Line::new();
        line.key_by(Arc::new(|item: &(u64, u32)| if item.1 == 7 { panic!("no key") } else { item.0 }));
        line.push(Entry { item: (5, 7), bytes: 1 });
        line.push(Entry { item: (6, 1), bytes: 1 });
        assert_eq!((pop(&mut line), pop(&mut line)), (Some((5, 7)), Some((6, 1))));
    }
}
