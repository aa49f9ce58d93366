//! Rows that the store can never take: found by halving, and told from a fault of the configuration.

use std::sync::Arc;

use crate::row::{ExtentRow, Rows};
use crate::store::{Store, StoreError};

use super::tasks::{Miss, Within};

/// Poison rows below which nothing is suspected.
const SUSPICIOUS_ROWS_MIN: u64 = 100;
/// Rows remembered: at `wide` 0.2 s, at `can` some seconds.
const ROWS_REMEMBERED: u64 = 1_000;

/// Rows that the store refuses, alone or with the extent of their partition, and what it said.
#[derive(Debug)]
pub(super) struct Poison {
    pub(super) rows: Rows,
    pub(super) reason: String,
}

/// Samples in what is refused.
pub(super) fn samples_of(poison: &[Poison]) -> u64 {
    poison.iter().map(|poison| poison.rows.samples()).sum()
}

/// Writes `rows`; of those that the store refuses for good it finds the guilty ones by halving.
///
/// # Errors
/// The first error that is not the rows' fault; then nothing is known of any of them.
pub(super) async fn write_or_halve(
    store: &Arc<dyn Store>,
    rows: &Rows,
    within: Within,
    poison: &mut Vec<Poison>,
) -> Result<(), Miss> {
    let reason = match within.write(store, rows).await {
        Ok(()) => return Ok(()),
        Err(Miss::Store(StoreError::Rejected { reason })) => reason,
        Err(miss) => return Err(miss),
    };
    let Some(halves) = halves(rows) else {
        poison.push(Poison { rows: rows.clone(), reason });
        return Ok(());
    };
    for half in halves {
        Box::pin(write_or_halve(store, &half, within.after_an_answer(), poison)).await?;
    }
    Ok(())
}

/// Two parts of `rows`, each with the extents; `None` for a single row.
fn halves(rows: &Rows) -> Option<[Rows; 2]> {
    let extents = &rows.extents;
    let of_chunks = |chunks: &[_]| Rows { extents: extents.clone(), chunks: chunks.to_vec(), ..Rows::default() };
    let beside = rows.len() - rows.chunks.len() - extents.len();
    match (rows.chunks.len(), beside) {
        (0, 0) => split_extents(extents),
        (0, _) => split_beside(rows, beside),
        (1, 0) => None,
        (_, 0) => {
            let (left, right) = rows.chunks.split_at(rows.chunks.len() / 2);
            Some([of_chunks(left), of_chunks(right)])
        }
        // First what came beside the chunks.
        (_, _) => Some([
            Rows { extents: Vec::new(), chunks: Vec::new(), ..rows.clone() },
            Rows { extents: extents.clone(), chunks: rows.chunks.clone(), ..Rows::default() },
        ]),
    }
}

fn split_extents(extents: &[ExtentRow]) -> Option<[Rows; 2]> {
    let (left, right) = extents.split_at(extents.len() / 2);
    let of = |extents: &[_]| Rows { extents: extents.to_vec(), ..Rows::default() };
    (!left.is_empty()).then(|| [of(left), of(right)])
}

/// Halves the rows of the small tables, in the order in which they stand.
fn split_beside(rows: &Rows, count: usize) -> Option<[Rows; 2]> {
    if count + rows.extents.len() < 2 {
        return None;
    }
    let mut left = Rows { extents: rows.extents.clone(), ..Rows::default() };
    let mut right = Rows::default();
    // Extents alone count as the left half if there is but one row besides.
    let mut room = count / 2;
    macro_rules! share {
        ($($table:ident)*) => { $(
            let (first, rest) = rows.$table.split_at(room.min(rows.$table.len()));
            (left.$table, right.$table) = (first.to_vec(), rest.to_vec());
            room -= first.len();
        )* };
    }
    share!(channels clocks events sessions);
    debug_assert_eq!(room, 0);
    Some([left, right])
}

/// Tells poison from a fault of the configuration: when most rows are refused, it is not the rows.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    rows: u64,
    poison: u64,
}

impl Suspicion {
    /// Counts a write; gives the reason to hold if what is refused is too much to be the rows' fault.
    pub(super) fn wrote(&mut self, rows: usize, poison: &[Poison]) -> Option<StoreError> {
        self.rows += rows as u64;
        self.poison += poison.len() as u64;
        while self.rows > ROWS_REMEMBERED {
            (self.rows, self.poison) = (self.rows / 2, self.poison / 2);
        }
        let first = poison.first()?;
        (self.poison >= SUSPICIOUS_ROWS_MIN && self.poison * 2 > self.rows).then(|| StoreError::Hold {
            reason: format!("the store refuses most rows: {}", first.reason),
            remedy: "check its limits and its schema (pitwire schema apply); nothing is dropped meanwhile".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::tests::{chunk, rows};
    use crate::row::{EventRow, SessionRow};

    fn event(sequence: i64) -> EventRow {
        let (car, device, kind) = ("44".into(), "ecu".into(), "text".into());
        EventRow { car, day: 0, t: 0, device, boot: 0, sequence, d: 0, kind, number: 0, text: String::new() }
    }

    /// Every single row of `rows`, by halving to the end.
    fn singles(rows: &Rows) -> Vec<Rows> {
        match halves(rows) {
            None => vec![rows.clone()],
            Some(halves) => halves.iter().flat_map(singles).collect(),
        }
    }

    #[test]
    fn halving_ends_at_single_rows_and_loses_none() {
        let mut all = rows(&[("a", 3), ("b", 1), ("c", 2), ("d", 5), ("e", 1)]);
        all.events = (0..3).map(event).collect();
        all.sessions = vec![SessionRow { car: "44".into(), start: 0, number: 1, name: String::new() }];
        let singles = singles(&all);
        let chunks: Vec<_> = singles.iter().flat_map(|r| &r.chunks).map(|c| c.channel.as_str()).collect();
        assert_eq!(chunks, ["a", "b", "c", "d", "e"]);
        assert!(singles.iter().all(|r| r.len() - r.extents.len() == 1), "{singles:?}");
        assert!(singles.iter().filter(|r| !r.chunks.is_empty()).all(|r| r.extents == all.extents));
        assert_eq!(singles.iter().map(|r| r.events.len() + r.sessions.len()).sum::<usize>(), 4);
    }

    #[test]
    fn one_row_cannot_be_halved_whatever_it_is() {
        assert!(halves(&Rows { chunks: vec![chunk("a", 1)], ..Rows::default() }).is_none());
        assert!(halves(&Rows { events: vec![event(0)], ..Rows::default() }).is_none());
        assert!(halves(&Rows { extents: rows(&[("a", 1)]).extents, ..Rows::default() }).is_none());
        assert!(halves(&Rows::default()).is_none());
    }

    #[test]
    fn some_poison_is_poison_and_mostly_poison_is_a_fault_to_hold_for() {
        let poison = |count| -> Vec<Poison> {
            (0..count).map(|_| Poison { rows: rows(&[("a", 1)]), reason: "too large".into() }).collect()
        };
        let mut few = Suspicion::default();
        for _ in 0..1_000 {
            assert!(few.wrote(1_000, &poison(1)).is_none());
        }
        let mut many = Suspicion::default();
        let held = (0..20).position(|_| many.wrote(20, &poison(20)).is_some());
        assert_eq!(held, Some(4), "from 100 rows on");
        for _ in 0..10 {
            many.wrote(200, &[]);
        }
        assert!(many.wrote(20, &poison(1)).is_none(), "good rows clear the suspicion");
    }
}
