use super::*;

#[test]
fn every_fate_keeps_the_identity() {
    let ledger = Ledger::new();
    let (a, b) = (ledger.source("a"), ledger.source("b"));
    assert_eq!(ledger.source("a"), a);
    ledger.recover(b, 7);
    let mut tally = ledger.receive(a, 10);
    tally.merge(ledger.receive(b, 5));
    assert_eq!(ledger.snapshot().total.in_flight, 15);
    tally.split(4).settle(Fate::Dropped(Policy::Validate));
    tally.split(1).settle(Fate::Duplicate);
    tally.split(1).settle(Fate::Quarantined);
    tally.split(8).settle(Fate::Backlog);
    tally.settle(Fate::Stored);
    ledger.settle_backlog(&[(b, 7)], Fate::Stored);
    let now = ledger.snapshot();
    assert!(now.balanced, "{now:?}");
    assert_eq!((now.total.received, now.total.recovered, now.total.in_flight), (15, 7, 0));
    assert_eq!((now.total.stored, now.total.backlog), (8, 8));
    assert_eq!(now.sources["a"].dropped[&Policy::Validate], 4);
}

#[test]
fn a_tally_that_is_lost_shows_as_an_imbalance() {
    let ledger = Ledger::new();
    drop(ledger.receive(ledger.source("a"), 3));
    let now = ledger.snapshot();
    assert!(!now.balanced);
    assert_eq!(now.total.in_flight, 0);
}

#[test]
fn what_was_derived_has_a_line_of_its_own_and_is_in_no_sum() {
    let ledger = Ledger::new();
    let mut tally = ledger.receive(ledger.source("a"), 3);
    tally.merge(ledger.receive(SourceId::DERIVED, 2));
    let derived = ledger.source(&ledger.name(SourceId::DERIVED));
    assert_eq!(derived, SourceId::DERIVED, "it finds itself again by its name in the spill");
    tally.settle(Fate::Backlog);
    ledger.settle_backlog(&[(derived, 2)], Fate::Stored);
    let now = ledger.snapshot();
    assert!(now.balanced, "{now:?}");
    assert_eq!((now.total.received, now.total.backlog, now.total.stored), (3, 3, 0));
    assert_eq!((now.derived.received, now.derived.backlog, now.derived.stored), (2, 0, 2));
    assert_eq!(now.sources.len(), 1);
}

#[test]
fn what_a_stop_cuts_off_stays_in_flight() {
    let ledger = Ledger::new();
    let tally = ledger.receive(ledger.source("a"), 3);
    ledger.end();
    drop(tally);
    let now = ledger.snapshot();
    assert!(now.balanced);
    assert_eq!(now.total.in_flight, 3);
}

#[test]
fn a_backlog_that_nobody_can_name_leaves_the_largest_and_never_an_imbalance() {
    let ledger = Ledger::new();
    let (a, b) = (ledger.source("a"), ledger.source("b"));
    ledger.recover(a, 5);
    ledger.recover(b, 8);
    ledger.settle_backlog_of_anyone(10, Fate::Dropped(Policy::Damaged));
    let now = ledger.snapshot();
    assert!(now.balanced, "{now:?}");
    assert_eq!((now.sources["a"].backlog, now.sources["b"].backlog), (3, 0));
    ledger.settle_backlog_of_anyone(10, Fate::Dropped(Policy::Damaged));
    assert_eq!(ledger.snapshot().total.dropped[&Policy::Damaged], 13, "never more than there was");
}
