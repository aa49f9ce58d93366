//! The configuration of a running agent exchanged fifty times, good and bad in turn, while a wide car drives.

use crate::support::{
    Agent, Bench, Broker, Setup, Sim, audit, eventually, mqtt_source, number, profile, signal, text, turn,
};

const RELOADS: u64 = 50;

/// Steps that leave every value as it came.
const GOOD: [&str; 6] = [
    "",
    "[[preprocess.validate]]\nchannel = \"*\"\nmin = -1e6\nmax = 10.0\n",
    "[[preprocess.validate]]\nchannel = \"*temp*\"\nmin = 500.0\n\n[[preprocess.calibrate]]\nchannel = \"*\"\nscale = 1.0\n",
    "[[preprocess.validate]]\nchannel = \"none.of.them\"\nmax = 1.0\naction = \"drop\"\n",
    "[[preprocess.derive]]\nname = \"wheel.slip\"\nexpression = \"wheel.rl.speed / wheel.fl.speed - 1\"\n",
    "[preprocess.dedup]\nenabled = false\n\n[[preprocess.anomaly]]\nchannel = \"*\"\nlearn_for = \"1s\"\n",
];

/// What is wrong, and what the refusal has to say of it.
const BAD: [(&str, &[&str]); 6] = [
    (
        "[[preprocess.validate]]\nchannel = \"*\"\nmin = 4.0\nmax = 3.0\naction = \"drop\"\n",
        &["preprocess.validate[0].min", "must not be above"],
    ),
    ("[[preprocess.validate]]\nchannel = \"*\"\nmaximum = 3.0\n", &["maximum"]),
    ("[preprocess.validate\n", &["pitwire.toml:"]),
    (
        "[deliver]\ndurable_within = \"3s\"\n[[preprocess.validate]]\nchannel = \"*\"\nmax = -1e9\naction = \"drop\"\n",
        &["[deliver] changed", "restart"],
    ),
    ("[[preprocess.calibrate]]\nchannel = \"*\"\nscale = 0\n", &["preprocess.calibrate[0].scale"]),
    (
        "[[preprocess.derive]]\nname = \"slip\"\nexpression = \"wheel.rl.speed / (2\"\n",
        &["preprocess.derive[0].expression", "at character"],
    ),
];

#[test]
fn fifty_reloads_of_good_and_bad_configurations_lose_nothing_and_each_refusal_is_explained() {
    let _turn = turn(true);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let source = mqtt_source("car", &broker.url());
    let setup = |steps: &str| Setup { store: bench.sqlite(), more: format!("{source}{steps}"), ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup(""));
    agent.until_subscribed();
    let sim = Sim::start(&bench, "sent", &["--tier", "wide", "--for", "12s", "--mqtt", &broker.url()]);
    agent.until_received(10_000);

    let (mut taken, mut refused) = (1, 0);
    for turn in 0..RELOADS {
        let (good, kind) = (turn % 2 == 0, (turn / 2) as usize);
        let (bad, words) = BAD[kind % BAD.len()];
        setup(if good { GOOD[kind % GOOD.len()] } else { bad }).write(&bench);
        signal("HUP", agent.pid());
        if good {
            taken += 1
        } else {
            refused += 1
        }
        let status = agent.until("the reload is answered", |status| {
            number(status, "/config/revision") + number(status, "/config/refused") == taken + refused
        });
        assert_eq!(number(&status, "/config/revision"), taken, "{status:#}");
        let refusal = text(&status, "/config/refusal");
        match good {
            true => assert_eq!(refusal, ""),
            false => assert!(words.iter().all(|word| refusal.contains(word)), "{bad:?} is refused with {refusal:?}"),
        }
    }
    let received = number(&agent.status(), "/ledger/received");
    let sent = sim.finish();
    assert!(received < sent.sent(), "the car drove all the while: {received} of {}", sent.sent());
    agent.until_received(sent.sent());
    let drained = agent.until_drained();
    agent.terminate();
    assert_eq!(number(&drained, "/ledger/dropped/validate"), 0, "no bad configuration held for a moment");
    eventually("each refusal is in the log", || agent.log().matches("configuration refused").count() as u64 >= refused);
    let found = audit(sent.path(), &bench.sqlite());
    bench.figure(&format!(
        "{RELOADS} reloads, {refused} refused: {found:?}; flagged {} ({} build)",
        drained["preprocess"],
        profile()
    ));
    found.assert_exact();
}
