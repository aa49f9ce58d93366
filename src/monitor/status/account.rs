//! The ledger in the status.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::ledger::{Counts, Policy, Snapshot};

/// Every policy by which samples are dropped, with its name in the API: shown at 0 too, so that a reader
/// sees that nothing was dropped instead of seeing nothing.
pub(in crate::monitor) const POLICIES: [(Policy, &str); 5] = [
    (Policy::Damaged, "damaged"),
    (Policy::Decimate, "decimate"),
    (Policy::Memory, "memory"),
    (Policy::Overflow, "overflow"),
    (Policy::Validate, "validate"),
];

/// One account of the ledger as the API shows it.
#[derive(Serialize)]
struct Account<'a> {
    received: u64,
    recovered: u64,
    stored: u64,
    backlog: u64,
    in_flight: u64,
    quarantined: u64,
    dropped: BTreeMap<Policy, u64>,
    duplicate: u64,
    balanced: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    derived: Option<Box<Account<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sources: Option<BTreeMap<&'a str, Account<'a>>>,
}

impl Account<'_> {
    fn of(counts: &Counts, balanced: bool) -> Self {
        let mut dropped: BTreeMap<Policy, u64> = POLICIES.map(|(policy, _)| (policy, 0)).into();
        dropped.extend(&counts.dropped);
        Self {
            received: counts.received,
            recovered: counts.recovered,
            stored: counts.stored,
            backlog: counts.backlog,
            in_flight: counts.in_flight,
            quarantined: counts.quarantined,
            dropped,
            duplicate: counts.duplicate,
            balanced,
            derived: None,
            sources: None,
        }
    }
}

pub(super) fn ledger<S: Serializer>(snapshot: &Snapshot, serializer: S) -> Result<S::Ok, S::Error> {
    let sources = snapshot.sources.iter();
    let sources = sources.map(|(name, counts)| (name.as_str(), Account::of(counts, counts.balanced()))).collect();
    let derived = Some(Box::new(Account::of(&snapshot.derived, snapshot.derived.balanced())));
    Account { derived, sources: Some(sources), ..Account::of(&snapshot.total, snapshot.balanced) }.serialize(serializer)
}
