use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use crate::limits::DEDUP_BYTES_MAX;
use crate::preprocess::Reason;
use crate::preprocess::rig::{Rig, column, every, meta};
use crate::receipt::Receipt;
use crate::sample::{Column, Scaling, Times, Values};

fn burst(t0_us: i64, values: &[i16]) -> Column {
    let values = Values::I16(values.to_vec());
    column(&meta(&values), every(t0_us, 1_000_000, values.len()), values)
}

fn at(times: &[i64], values: &[i16]) -> Column {
    let values = Values::I16(values.to_vec());
    column(&meta(&values), Times::Explicit(times.to_vec()), values)
}

fn counting() -> (Receipt, Arc<AtomicU32>) {
    let fired = Arc::new(AtomicU32::new(0));
    let count = fired.clone();
    let receipt = Receipt::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    (receipt, fired)
}

#[test]
fn what_came_before_is_settled_as_a_duplicate_and_does_not_go_on() {
    let mut rig = Rig::new("");
    let first = burst(0, &[1, 2, 3]);
    assert_eq!(rig.column(first.clone()), Some(first.clone()));
    assert_eq!(rig.column(first), None);
    assert_eq!(rig.duplicates(), 3);
    assert_eq!(rig.counted(), [(Reason::Duplicate, 3)]);
    assert_eq!(rig.words(Reason::Duplicate), "brake.front at 2000 µs came before");
}

#[test]
fn of_bursts_that_overlap_only_what_is_new_goes_on() {
    let mut rig = Rig::new("");
    rig.column(burst(0, &[1, 2, 3]));
    let column = rig.column(burst(1_000, &[2, 3, 4, 5])).unwrap();
    assert_eq!(column.times, Times::Explicit(vec![3_000, 4_000]));
    assert_eq!(column.values, Values::I16(vec![4, 5]));
    assert_eq!(rig.column(burst(3_000, &[4, 5])), None, "the new part of it is remembered too");
    assert_eq!(rig.duplicates(), 4);
}

#[test]
fn another_value_or_another_scaling_at_the_same_time_is_a_conflict_and_kept() {
    let mut rig = Rig::new("");
    rig.column(burst(0, &[1, 2, 3]));
    assert_eq!(rig.column(burst(0, &[1, 9, 3])).unwrap().values, Values::I16(vec![9]));
    assert_eq!(rig.column(burst(1_000, &[9])), None, "the other value has come before by now");
    let mut scaled = burst(0, &[1]);
    Arc::make_mut(&mut scaled.channel).scaling = Scaling { scale: 2.0, offset: 0.0 };
    assert!(rig.column(scaled).is_some());
    assert_eq!(rig.counted(), [(Reason::Duplicate, 3), (Reason::Conflict, 2)]);
    assert_eq!(rig.words(Reason::Conflict), "brake.front at 0 µs had another value");
}

#[test]
fn late_samples_that_are_new_go_on() {
    let mut rig = Rig::new("");
    rig.column(burst(10_000, &[1, 2]));
    let late = burst(0, &[7, 8]);
    assert_eq!(rig.column(late.clone()), Some(late.clone()));
    assert_eq!(rig.column(late), None);
    assert_eq!(rig.column(at(&[500, 10_500], &[1, 1])).unwrap().len(), 2, "between and around what came");
}

#[test]
fn parts_of_a_burst_with_a_period_below_a_microsecond_are_found_at_their_rounded_times() {
    let mut rig = Rig::new("");
    let values = Values::I16((0..100).collect());
    let whole = column(&meta(&values), every(5, 272_727, 100), values);
    rig.column(whole.clone());
    let mut part = whole.clone();
    part.retain(&(40..60).collect::<Vec<_>>());
    assert_eq!(rig.column(part), None);
    assert_eq!(rig.duplicates(), 20);
}

#[test]
fn what_lies_further_back_than_the_window_is_forgotten() {
    let mut rig = Rig::new("[dedup]\nwindow = '1s'");
    let old = burst(0, &[1, 2]);
    rig.column(old.clone());
    rig.column(burst(2_000_000, &[3]));
    assert_eq!(rig.column(old.clone()), Some(old), "readers merge it");
    assert_eq!(rig.column(burst(2_000_000, &[3])), None);
}

#[test]
fn a_newest_time_that_was_a_mistake_does_not_disable_it_for_ever() {
    let mut rig = Rig::new("");
    rig.column(burst(i64::MAX / 2, &[1]));
    for second in 0..100 {
        rig.column(burst(second * 1_000_000, &[1]));
    }
    assert_eq!(rig.column(burst(99_000_000, &[1])), None);
}

#[test]
fn nothing_is_looked_for_when_it_is_disabled() {
    let mut rig = Rig::new("[dedup]\nenabled = false");
    assert!(rig.column(burst(0, &[1])).is_some());
    assert!(rig.column(burst(0, &[1])).is_some());
    assert_eq!(rig.duplicates(), 0);
}

#[test]
fn a_repetition_is_acknowledged_with_its_original_even_if_that_had_no_receipt() {
    for original_is_acknowledged in [true, false] {
        let mut rig = Rig::new("");
        let (original, first) = if original_is_acknowledged { counting() } else { (Receipt::none(), Arc::default()) };
        let (repeat, second) = counting();
        let batch = rig.frame(vec![burst(0, &[1, 2])], original).unwrap();
        assert!(rig.frame(vec![burst(0, &[1, 2])], repeat).is_none());
        assert_eq!(second.load(Ordering::SeqCst), 0, "a crash now would lose both");
        batch.custody.receipt.settle();
        assert_eq!(first.load(Ordering::SeqCst), u32::from(original_is_acknowledged));
        assert_eq!(second.load(Ordering::SeqCst), 1);
        batch.custody.tally.settle(crate::ledger::Fate::Stored);
    }
}

#[test]
fn a_repetition_of_a_lost_original_is_new() {
    let mut rig = Rig::new("");
    let (original, _) = counting();
    let batch = rig.frame(vec![burst(0, &[1, 2])], original).unwrap();
    batch.custody.tally.settle(crate::ledger::Fate::Stored);
    drop(batch.custody.receipt);
    assert_eq!(rig.column(burst(0, &[1, 2])).map(|column| column.len()), Some(2));
    assert_eq!(rig.column(burst(0, &[1, 2])), None, "and is the original from then on");
}

#[test]
fn a_frame_that_repeats_itself_does_not_wait_for_itself() {
    let mut rig = Rig::new("");
    let (receipt, fired) = counting();
    let first = rig.frame(vec![burst(0, &[1]), burst(0, &[1])], receipt.clone()).unwrap();
    assert!(rig.frame(vec![burst(0, &[1])], receipt).is_none(), "a message of several batches");
    assert_eq!(first.columns.len(), 1);
    first.custody.tally.settle(crate::ledger::Fate::Stored);
    first.custody.receipt.settle();
    assert_eq!((fired.load(Ordering::SeqCst), rig.duplicates()), (1, 2));
}

#[test]
fn times_that_do_not_increase_within_a_column_are_looked_at_one_by_one() {
    let mut rig = Rig::new("");
    let column = rig.column(at(&[5, 5, 3, 5, 4], &[1, 1, 2, 9, 3])).unwrap();
    assert_eq!(column.times, Times::Explicit(vec![5, 3, 5, 4]));
    assert_eq!(rig.counted(), [(Reason::Duplicate, 1), (Reason::Conflict, 1)]);
}

#[test]
fn when_memory_is_short_every_channel_forgets_its_older_half_and_that_is_counted() {
    let mut rig = Rig::new("[dedup]\nwindow = '1h'");
    let values = vec![0.0_f64; 60_000];
    let bursts = (DEDUP_BYTES_MAX / (values.len() * 8) + 2) as i64;
    let burst = |number: i64| {
        let values = Values::F64(values.clone());
        column(&meta(&values), every(number * 60_000_000, 1_000_000, values.len()), values)
    };
    for number in 0..bursts {
        rig.column(burst(number));
    }
    assert!(matches!(rig.counted()[..], [(Reason::Forgotten, samples)] if samples >= 60_000));
    assert_eq!(rig.column(burst(bursts - 1)), None);
    assert!(rig.column(burst(0)).is_some());
}

#[derive(Debug, Clone)]
enum Action {
    Send { times: Times, values: Vec<i16>, keep: bool },
    End { which: prop::sample::Index, settled: bool },
}

fn action() -> impl Strategy<Value = Action> {
    let values = |count| prop::collection::vec(0..2_i16, count);
    let regular = (0..40_i64, prop::sample::select(vec![0_u32, 1_000, 1_500, 3_000]), 1..8_usize);
    let regular = regular.prop_flat_map(move |(t0, period, count)| (Just(every(t0, period, count)), values(count)));
    let explicit = prop::collection::vec(0..40_i64, 1..8);
    let explicit = explicit.prop_flat_map(move |times| (values(times.len()), Just(Times::Explicit(times))));
    let explicit = explicit.prop_map(|(values, times)| (times, values));
    let send = (prop_oneof![regular, explicit], any::<bool>());
    prop_oneof![
        3 => send.prop_map(|((times, values), keep)| Action::Send { times, values, keep }),
        1 => (any::<prop::sample::Index>(), prop::bool::weighted(0.7))
            .prop_map(|(which, settled)| Action::End { which, settled }),
    ]
}

/// What a frame has become, in the plain model.
#[derive(Default)]
struct Frame {
    own: Option<bool>,
    joined: Vec<usize>,
    fired: Arc<AtomicU32>,
}

struct Model(Vec<Frame>);

impl Model {
    fn ended(&self, frame: usize) -> bool {
        self.0[frame].own.is_some() && self.0[frame].joined.iter().all(|&joined| self.ended(joined))
    }

    fn void(&self, frame: usize) -> bool {
        let lost = |&joined: &usize| self.ended(joined) && self.void(joined);
        self.0[frame].own == Some(false) || self.0[frame].joined.iter().any(lost)
    }
}

proptest! {
    #[test]
    fn it_says_the_same_as_a_plain_list_of_all_samples(actions in prop::collection::vec(action(), 1..40)) {
        let mut rig = Rig::new("");
        let (mut model, mut seen) = (Model(Vec::new()), Vec::<(i64, i16, usize)>::new());
        let (mut open, mut duplicates, mut conflicts) = (Vec::new(), 0, 0);
        for action in actions {
            match action {
                Action::Send { times, values, keep } => {
                    let number = model.0.len();
                    model.0.push(Frame::default());
                    let mut expected = Vec::new();
                    for (t, &value) in times.iter().zip(&values) {
                        let known: Vec<_> = seen.iter().filter(|(at, _, frame)| *at == t && !model.void(*frame)).collect();
                        match known.iter().find(|(_, before, _)| *before == value) {
                            Some((.., original)) => {
                                if *original != number {
                                    model.0[number].joined.push(*original);
                                }
                                duplicates += 1;
                            }
                            None => {
                                conflicts += u64::from(!known.is_empty());
                                seen.push((t, value, number));
                                expected.push((t, value));
                            }
                        }
                    }
                    let fired = model.0[number].fired.clone();
                    let receipt = Receipt::new(move || { fired.fetch_add(1, Ordering::SeqCst); });
                    let values = Values::I16(values);
                    let batch = rig.frame(vec![column(&meta(&values), times, values)], receipt);
                    let got: Vec<(i64, i16)> = batch.iter().flat_map(|batch| &batch.columns).flat_map(|column| {
                        (0..column.len()).map(|index| (column.times.at(index), column.values.raw(index) as i16))
                    }).collect();
                    prop_assert_eq!(got, expected);
                    match batch {
                        None => model.0[number].own = Some(true),
                        Some(batch) => {
                            batch.custody.tally.settle(crate::ledger::Fate::Stored);
                            if keep {
                                open.push((number, batch.custody.receipt));
                            } else {
                                batch.custody.receipt.settle();
                                model.0[number].own = Some(true);
                            }
                        }
                    }
                }
                Action::End { which, settled } if !open.is_empty() => {
                    let (number, receipt) = open.swap_remove(which.index(open.len()));
                    if settled { receipt.settle() } else { drop(receipt) }
                    model.0[number].own = Some(settled);
                }
                Action::End { .. } => {}
            }
            for number in 0..model.0.len() {
                let fires = model.ended(number) && !model.void(number);
                prop_assert_eq!(model.0[number].fired.load(Ordering::SeqCst), u32::from(fires), "frame {}", number);
            }
        }
        prop_assert_eq!(rig.duplicates(), duplicates);
        let counted = rig.counted().into_iter().find(|(reason, _)| *reason == Reason::Conflict);
        prop_assert_eq!(counted.map_or(0, |(_, samples)| samples), conflicts);
    }
}
