//! The parts that race, under a model checker: `cargo test -p pitwire-pipeline --lib --features model model_tests`.
//!
//! Shuttle runs each test in thousands of random schedules, and replays one that fails from the seed that it
//! prints. It is used where a lost wakeup would be a pipeline that stands still once in a million: the queue, the turns,
//! the slot of the pool. A checker of all schedules (loom) was left out: two senders, two takers and a bound make too
//! many. Orderings weaker than sequential are used in `meter` only, which no schedule depends on.

#![cfg(feature = "model")]

use std::future::poll_fn;
use std::task::Poll;

use shuttle::future::{block_on, spawn};

use crate::clock::Clock;
use crate::failure::{Error, Policy};
use crate::give::Output;
use crate::meter::Doing;
use crate::operation::Operation;
use crate::pool::{Crew, Job, Slot};
use crate::queue::{Bounds, Receiver, Sender, Shared, Taker};
use crate::stage::StageMeter;
use crate::sync::{Arc, Mutex, lock};
use crate::turn::Turn;
use crate::worker::{ByItself, Rules, Seat, work};

const SCHEDULES: usize = 2_000;

fn shared(items: usize) -> Arc<Shared<u64>> {
    Shared::new("model", Bounds::items(items), Clock::new(false))
}

/// Takes until the end; `soon` as a brisk worker promises it.
async fn take_all(mut taker: Taker<u64>, soon: bool, seen: Arc<Mutex<Vec<u64>>>) {
    while let Some(taken) = poll_fn(|cx| taker.poll_take(soon, None, None, cx)).await {
        lock(&seen).push(taken.item);
        if taken.item % 3 == 0 {
            taker.waits();
            shuttle::future::yield_now().await;
        }
    }
}

#[test]
fn senders_and_takers_lose_and_double_nothing_and_all_come_to_their_end() {
    shuttle::check_random(
        || {
            for soon in [false, true] {
                let queue = shared(1);
                let seen = Arc::new(Mutex::new(Vec::new()));
                let takers: Vec<Taker<u64>> = (0..2).map(|_| Taker::new(&queue)).collect();
                let senders = [(0, Sender::new(&queue)), (10, Sender::new(&queue))];
                let mut tasks: Vec<_> =
                    takers.into_iter().map(|taker| spawn(take_all(taker, soon, seen.clone()))).collect();
                for (first, sender) in senders {
                    tasks.push(spawn(async move {
                        for n in first..first + 3 {
                            assert!(sender.send(n).await.is_ok());
                        }
                    }));
                }
                block_on(async {
                    for task in tasks {
                        task.await.unwrap();
                    }
                });
                let mut seen = lock(&seen).clone();
                seen.sort_unstable();
                assert_eq!(seen, [0, 1, 2, 10, 11, 12]);
            }
        },
        SCHEDULES,
    );
}

#[test]
fn a_wait_for_room_that_is_given_up_at_any_moment_keeps_nobody_waiting() {
    shuttle::check_random(
        || {
            let queue = shared(1);
            let mut receiver = Receiver::new(&queue);
            let (gives_up, stays) = (Sender::new(&queue), Sender::new(&queue));
            let mut tasks = vec![spawn(async move {
                assert!(gives_up.send(1).await.is_ok());
                let mut room = Box::pin(gives_up.room(8));
                for _ in 0..2 {
                    let polled = poll_fn(|cx| Poll::Ready(room.as_mut().poll(cx))).await;
                    if polled.is_ready() {
                        break;
                    }
                    shuttle::future::yield_now().await;
                }
            })];
            tasks.push(spawn(async move {
                for n in [2, 3] {
                    assert!(stays.send(n).await.is_ok());
                }
            }));
            let sum = block_on(async move {
                let mut sum = 0;
                while let Some(item) = receiver.recv().await {
                    sum += item;
                }
                for task in tasks {
                    task.await.unwrap();
                }
                sum
            });
            assert_eq!(sum, 6);
        },
        SCHEDULES,
    );
}

#[test]
fn turns_come_in_order_and_none_is_missed() {
    shuttle::check_random(
        || {
            let turn = Arc::new(Turn::new(3));
            let given = Arc::new(Mutex::new(Vec::new()));
            let workers = (0..3_u64).map(|first| {
                let (turn, given) = (turn.clone(), given.clone());
                spawn(async move {
                    for number in [first, first + 3] {
                        let mut registered = false;
                        assert!(poll_fn(|cx| turn.poll(number, &mut registered, cx)).await);
                        lock(&given).push(number);
                        turn.end(number);
                    }
                })
            });
            let workers: Vec<_> = workers.collect();
            block_on(async {
                for worker in workers {
                    worker.await.unwrap();
                }
            });
            assert_eq!(*lock(&given), [0, 1, 2, 3, 4, 5]);
            assert!(!turn.is_waited_for());
        },
        SCHEDULES,
    );
}

#[test]
fn when_turns_break_off_nobody_waits_on() {
    shuttle::check_random(
        || {
            let turn = Arc::new(Turn::new(3));
            let wait = |number| {
                let turn = turn.clone();
                spawn(async move {
                    let mut registered = false;
                    poll_fn(|cx| turn.poll(number, &mut registered, cx)).await
                })
            };
            let waiting = [wait(1), wait(2)];
            let breaks = {
                let turn = turn.clone();
                spawn(async move { turn.break_off() })
            };
            block_on(async {
                breaks.await.unwrap();
                for worker in waiting {
                    assert!(!worker.await.unwrap());
                }
            });
        },
        SCHEDULES,
    );
}

/// Waits now and then.
struct Now;

impl Operation<u64> for Now {
    type Out = u64;

    async fn run(&self, item: &mut u64) -> Result<u64, Error> {
        if *item % 3 == 1 {
            shuttle::future::yield_now().await;
        }
        Ok(*item)
    }
}

#[test]
fn the_workers_of_an_ordered_stage_give_all_in_order_and_come_to_their_end() {
    shuttle::check_random(
        || {
            for fails in [false, true] {
                let (input, output) = (shared(2), shared(1));
                let stage = Arc::new(StageMeter::new("model", 3, Clock::new(false)));
                let rules = Arc::new(Rules { policy: Policy::fail(), control: Arc::default() });
                let turn = Arc::new(Turn::new(3));
                let (sender, mut receiver) = (Sender::new(&input), Receiver::new(&output));
                let workers: Vec<_> = (0..3)
                    .map(|index| {
                        let seat = Seat::new(&input, &stage, index, Clock::new(false));
                        let output = Output { sender: Some(Sender::new(&output)), turn: Some(turn.clone()) };
                        work(seat, ByItself(Arc::new(Now)), output, rules.clone())
                    })
                    .collect();
                let mut tasks: Vec<_> = workers.into_iter().map(spawn).collect();
                tasks.push(spawn(async move {
                    for n in 0..7 {
                        // Refused once nobody takes any more.
                        let _ = sender.send(n).await;
                    }
                }));
                let mut out = Vec::new();
                block_on(async {
                    while !(fails && out.len() == 2)
                        && let Some(item) = receiver.recv().await
                    {
                        out.push(item);
                    }
                    drop(receiver);
                    for task in tasks {
                        task.await.unwrap();
                    }
                });
                assert_eq!(out, if fails { vec![0, 1] } else { (0..7).collect() });
            }
        },
        SCHEDULES,
    );
}

/// What a worker keeps of its place at a pool.
fn slot(crew: &Arc<Crew>, queue: &Arc<Shared<u64>>) -> Arc<Slot<u64, u64>> {
    let clock = Clock::new(false);
    let seat = Seat::new(queue, &Arc::new(StageMeter::new("model", 1, clock)), 0, clock);
    Slot::new(Arc::new(|n: &mut u64| Ok(*n * 2)), crew, &seat)
}

#[test]
fn an_operation_on_the_pool_is_always_told_to_its_worker() {
    shuttle::check_random(
        || {
            let (crew, queue) = (Crew::new(), shared(1));
            let thread = {
                let crew = crew.clone();
                shuttle::thread::spawn(move || crew.work())
            };
            let slot = slot(&crew, &queue);
            block_on(async {
                for n in 0..3 {
                    slot.fill(n, n);
                    crew.submit(slot.clone());
                    let (item, outcome) = poll_fn(|cx| slot.poll_done(cx.waker())).await;
                    assert_eq!((item, outcome.unwrap()), (n, n * 2));
                }
            });
            crew.stop();
            thread.join().unwrap();
        },
        SCHEDULES,
    );
}

#[test]
fn an_item_whose_worker_goes_away_is_handed_back_once_whenever_that_is() {
    shuttle::check_random(
        || {
            let (crew, queue) = (Crew::new(), shared(1));
            let slot = slot(&crew, &queue);
            slot.fill(0, 7);
            let job = {
                let slot = slot.clone();
                shuttle::thread::spawn(move || slot.run())
            };
            slot.abandon();
            job.join().unwrap();
            assert_eq!(queue.take_left(), [7]);
        },
        SCHEDULES,
    );
}

#[test]
fn a_reader_of_a_book_that_is_being_written_sees_each_time_once() {
    shuttle::check_random(
        || {
            let meter = Arc::new(StageMeter::new("model", 1, Clock::new(false)));
            let writer = {
                let meter = meter.clone();
                shuttle::thread::spawn(move || {
                    for (doing, now) in [(Doing::Busy, 10), (Doing::Turn, 30), (Doing::Busy, 60)] {
                        meter.workers[0].enter(doing, now);
                    }
                })
            };
            let sum: u64 = meter.workers[0].read(|| 0).spent.iter().sum();
            assert!([0, 10, 30, 60].contains(&sum), "{sum}");
            writer.join().unwrap();
        },
        SCHEDULES,
    );
}
