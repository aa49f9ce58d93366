//! What leaves for the broker, seen on the wire: acknowledgements in order, none stale, none before its samples are
//! durable, whatever is killed or cut.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use crate::crash::Locked;
use crate::support::{Agent, Bench, Broker, Setup, Sim, Tap, audit, number, turn};

const PROTOCOLS: [&str; 2] = ["5", "3.1.1"];
const CLIENT: &str = "the-agent";
/// Device time of message 0, ms.
const EPOCH_MS: u64 = 1_790_000_000_000;

fn source(url: &str, protocol: &str, format: &str) -> String {
    let topic = if format == "json" { "numbers" } else { "pitwire/44/#" };
    format!(
        "[[source.mqtt]]\nname = \"car\"\nurl = {url:?}\ntopics = [{topic:?}]\nformat = {format:?}\n\
         protocol = {protocol:?}\nclient_id = {CLIENT:?}\n\n"
    )
}

/// Messages of one sample each, whose time is their number.
fn messages(numbers: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    numbers.map(|n| format!("{{\"ts\": {}, \"values\": {{\"n\": {n}}}}}", EPOCH_MS + n).into_bytes()).collect()
}

fn number_of(payload: &[u8]) -> u64 {
    let message: serde_json::Value = serde_json::from_slice(payload).unwrap();
    message["values"]["n"].as_u64().unwrap()
}

/// The numbers in a row: by the samples' device times.
fn numbers_in(d0: i64, data: &[u8], codec: i8, n: i32) -> Vec<u64> {
    let times = pitwire::codec::decode(d0, data, codec, n).unwrap().times;
    times.iter().map(|t| *t as u64 / 1_000 - EPOCH_MS).collect()
}

fn in_store(bench: &Bench) -> BTreeSet<u64> {
    let connection = Connection::open_with_flags(bench.path("pitwire.db"), OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let mut statement = connection.prepare("SELECT d0, data, codec, n FROM chunks").unwrap();
    let rows = statement.query_map([], |row| {
        let data: Vec<u8> = row.get(1)?;
        Ok(numbers_in(row.get(0)?, &data, row.get(2)?, row.get(3)?))
    });
    rows.unwrap().flat_map(|numbers| numbers.unwrap()).collect()
}

fn in_spill(bench: &Bench) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    for segment in pitwire::spill::scan(&bench.path("spill")).unwrap() {
        for info in &segment.records {
            let rows = pitwire::row::Rows::decode(&segment.read(info).unwrap().payload).unwrap();
            found.extend(rows.chunks.iter().flat_map(|row| numbers_in(row.d0, &row.data, row.codec, row.n)));
        }
    }
    found
}

/// Ends the publisher also when the scenario fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn no_acknowledgement_leaves_before_its_samples_are_in_the_store_or_the_spill() {
    let _turn = turn(false);
    for protocol in PROTOCOLS {
        let bench = Bench::new();
        let Some(broker) = Broker::start(&bench) else { return };
        let tap = Tap::to(broker.port());
        let more = source(&tap.url(), protocol, "json");
        let mut agent = Agent::start(&bench, &Setup { store: bench.sqlite(), more, ..Setup::default() });
        agent.until_subscribed();
        let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        let (mut checked, mut by_spill) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let first = sent.load(Ordering::SeqCst);
                    broker.publish("numbers", &messages(first..first + 40));
                    sent.store(first + 40, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(40));
                }
            });
            let _stop = Stop(&stop);
            for (round, locks) in [false, true, false, true, true, false].into_iter().enumerate() {
                let lock = locks.then(|| Locked::new(&bench));
                if locks {
                    // What was stored before is acknowledged by then: the next ones are the spill's.
                    std::thread::sleep(Duration::from_millis(500));
                }
                // At different places of a flush.
                tap.kill_after(97 + 61 * round, agent.pid());
                let began = Instant::now();
                while !tap.has_killed() {
                    assert!(began.elapsed() < Duration::from_secs(45), "{protocol}, {round}: {}", agent.log());
                    std::thread::sleep(Duration::from_millis(5));
                }
                agent.kill();
                // What it sent before its end has passed the tap.
                std::thread::sleep(Duration::from_millis(200));
                let (stored, spilled) = (in_store(&bench), in_spill(&bench));
                let acknowledged: BTreeSet<u64> = tap.judge().acknowledged.iter().map(|p| number_of(p)).collect();
                let early: Vec<&u64> =
                    acknowledged.iter().filter(|n| !stored.contains(n) && !spilled.contains(n)).collect();
                assert!(early.is_empty(), "{protocol}, round {round}: acknowledged and nowhere: {early:?}");
                checked = acknowledged.len();
                let only_spilled = acknowledged.difference(&stored).count();
                // What the broker sends again may lie in both.
                let spill_has = acknowledged.intersection(&spilled).count();
                assert!(!locks || spill_has > 0, "{protocol}, round {round}: the spill had no part in it");
                by_spill += only_spilled;
                lock.into_iter().for_each(Locked::unlock);
                agent.start_again();
                agent.until_subscribed();
            }
        });
        let sent = sent.load(Ordering::SeqCst);
        agent.until("all there", |_| in_store(&bench).len() as u64 == sent);
        agent.until_drained();
        agent.terminate();
        assert!(in_store(&bench).into_iter().eq(0..sent));
        let judged = tap.judge();
        bench.figure(&format!(
            "MQTT {protocol}: {sent} messages, 6 kills at an acknowledgement: 0 of {checked} acknowledged then were not \
             durable ({by_spill} in the spill only); {judged}"
        ));
        judged.assert_in_order();
    }
}

#[test]
fn reconnect_storms_and_a_second_client_of_the_same_id_lose_nothing() {
    let _turn = turn(false);
    for protocol in PROTOCOLS {
        let bench = Bench::new();
        let Some(broker) = Broker::start(&bench) else { return };
        let tap = Tap::to(broker.port());
        let more = source(&tap.url(), protocol, "wire");
        let mut agent = Agent::start(&bench, &Setup { store: bench.sqlite(), more, ..Setup::default() });
        agent.until_subscribed();
        let sim = Sim::start(&bench, "sent", &["--tier", "can", "--for", "12s", "--mqtt", &broker.url()]);
        let began = Instant::now();
        let (mut cuts, mut takeovers) = (0, 0);
        while began.elapsed() < Duration::from_secs(12) {
            // Some messages come on each connection, some are acknowledged.
            std::thread::sleep(Duration::from_millis(130 + 70 * (cuts % 4)));
            if cuts % 3 == 2 {
                broker.take_over(CLIENT, Duration::from_millis(150));
                takeovers += 1;
            } else {
                tap.cut();
            }
            cuts += 1;
            agent.until_subscribed();
        }
        let sent = sim.finish();
        agent.until("everything has come", |status| {
            number(status, "/ledger/received") - number(status, "/ledger/duplicate") == sent.sent()
        });
        let last = agent.until_drained();
        agent.terminate();
        let (found, judged) = (audit(sent.path(), &bench.sqlite()), tap.judge());
        bench.figure(&format!(
            "MQTT {protocol}: {found:?}; {cuts} ends of a connection, {takeovers} by a second client; {judged}; {} \
             samples came twice",
            number(&last, "/ledger/duplicate")
        ));
        found.assert_exact();
        judged.assert_in_order();
        assert!(cuts >= 4 && takeovers >= 1 && judged.messages > judged.acknowledged.len(), "{cuts} {takeovers}");
    }
}

#[test]
fn a_broker_that_is_killed_again_and_again_loses_nothing_through_the_agent() {
    let _turn = turn(false);
    for protocol in PROTOCOLS {
        let bench = Bench::new();
        let Some(mut broker) = Broker::start_with_a_disk(&bench) else { return };
        let tap = Tap::to(broker.port());
        // Nothing is durable before the kill, so that nothing is acknowledged. A mosquitto 2.0.11 brings it again with
        // 3.1.1; with 5 the session begins anew, and its packet ids with it: the worst case for a stale one.
        let more =
            source(&tap.url(), protocol, "json") + "[deliver]\ndurable_within = \"20s\"\ndrain_within = \"20s\"\n";
        let mut agent = Agent::start(&bench, &Setup { store: bench.sqlite(), more, ..Setup::default() });
        agent.until_subscribed();
        let (rounds, each) = (5, 300);
        for round in 0..rounds {
            let lock = Locked::new(&bench);
            broker.publish("numbers", &messages(round * each..(round + 1) * each));
            // The broker has written them down by then.
            std::thread::sleep(Duration::from_millis(1_500));
            let before = agent.status()["sources"][0]["connects"].as_u64();
            broker.kill_and_restart();
            agent.until("subscribed again", |status| {
                status["sources"][0]["state"] == "connected" && status["sources"][0]["connects"].as_u64() > before
            });
            lock.unlock();
        }
        agent.until("all there", |_| in_store(&bench).len() as u64 == rounds * each);
        agent.until_drained();
        let duplicate = number(&agent.status(), "/ledger/duplicate");
        agent.terminate();
        assert!(in_store(&bench).into_iter().eq(0..rounds * each));
        let judged = tap.judge();
        bench.figure(&format!(
            "MQTT {protocol}: {rounds} kills: {} messages found, none missing; {judged}; {duplicate} came twice",
            rounds * each
        ));
        judged.assert_in_order();
    }
}

#[test]
fn a_broker_that_sets_the_window_itself_does_not_slow_the_agent_down_to_it() {
    let _turn = turn(true);
    // A window that holds, and a mosquitto at its defaults, which sends more once it was acknowledged something.
    for (protocol, window) in [("3.1.1", 20), ("3.1.1", usize::MAX), ("5", usize::MAX)] {
        let bench = Bench::new();
        let Some(broker) = Broker::start(&bench) else { return };
        let tap = Tap::with_window(broker.port(), window);
        let more = source(&tap.url(), protocol, "json");
        let mut agent = Agent::start(&bench, &Setup { store: bench.sqlite(), more, ..Setup::default() });
        agent.until_subscribed();
        let (sent, began) = (4_000, Instant::now());
        broker.publish("numbers", &messages(0..sent));
        let published = began.elapsed();
        agent.until("all acknowledged", |_| tap.judge().acknowledged.len() as u64 == sent);
        let rate = sent as f64 / began.elapsed().as_secs_f64();
        let rows = number(&agent.until_drained(), "/store/rows_written");
        agent.terminate();
        let kept = if window == usize::MAX { "mosquitto's default".into() } else { window.to_string() };
        bench.figure(&format!(
            "MQTT {protocol}, window {kept}: {rate:.0} messages/s acknowledged, published in {published:?}; {rows} rows"
        ));
        // A window of 20 and chunks that close after 200 ms make 100.
        assert!(rate > 200.0, "{protocol}, window {kept}: {rate:.0} messages/s");
        assert!(in_store(&bench).into_iter().eq(0..sent));
    }
}
