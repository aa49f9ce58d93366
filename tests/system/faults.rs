//! Frames that are repeated, swapped or damaged on their way.

use crate::support::{
    Agent, Bench, Broker, Manifest, Setup, Sim, audit, mqtt_source, number, over_devices, serial_source, turn,
};

const FAULTS: [&str; 8] = [
    "--fault",
    "duplicate@every=17",
    "--fault",
    "swap@every=23",
    "--fault",
    "flip@every=41",
    "--fault",
    "cut@every=97",
];

/// What the agent and the audit have to say of a run with [`FAULTS`].
fn judge(bench: &Bench, agent: &mut Agent, sent: &Manifest) {
    let lost = sent.touched_by("flip") + sent.touched_by("cut");
    let status = agent.until_quiet();
    agent.terminate();
    let source = &status["sources"][0];
    let found = audit(sent.path(), &bench.sqlite());
    bench.figure(&format!(
        "{found:?}; {} duplicated, {} swapped, {} flipped, {} cut frames; {} samples came twice",
        sent.of_kind("duplicate").len(),
        sent.of_kind("swap").len(),
        sent.of_kind("flip").len(),
        sent.of_kind("cut").len(),
        number(&status, "/ledger/duplicate"),
    ));
    for kind in ["duplicate", "swap", "flip", "cut"] {
        assert!(sent.of_kind(kind).len() > 2, "{kind}");
    }
    found.assert_missing(lost);
    assert_eq!(number(&status, "/ledger/received"), sent.sent() - lost + sent.touched_by("duplicate"));
    assert_eq!(number(&status, "/ledger/duplicate"), sent.touched_by("duplicate"));
    assert_eq!(over_devices(source, "duplicate_frames"), sent.of_kind("duplicate").len() as u64);
    // By sequence numbers, device by device. A last frame, a Status, has no successor that would show its loss.
    let mut unseen = 0;
    for device in source["devices"].as_array().unwrap() {
        let (came, gone) = (number(device, "/frames"), number(device, "/frames_lost"));
        let mut damaged = sent.of_kind("flip");
        damaged.extend(sent.of_kind("cut"));
        damaged.retain(|fault| device["device"] == *fault.device);
        let seen = damaged.iter().filter(|fault| fault.seq_from < came + gone).count();
        unseen += damaged.len() - seen;
        assert_eq!(gone, seen as u64, "{device:#}");
    }
    let counted = over_devices(source, "samples_lost");
    assert!(counted == lost || (unseen > 0 && counted < lost), "{counted} of {lost}, {unseen} frames unseen");
    assert!(number(source, "/malformed") > 0, "{source:#}");
}

#[test]
fn faults_on_a_serial_line_are_counted_as_the_manifest_does() {
    let _turn = turn(false);
    let bench = Bench::new();
    let port = bench.path("ecu");
    let arguments = [&["--tier", "can", "--for", "8s", "--block"][..], &FAULTS].concat();
    let sim = Sim::start_on_ports(&bench, "sent", &[&port], &arguments);
    let setup = Setup { store: bench.sqlite(), more: serial_source("ecu", &port, "44"), ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    let sent = sim.finish();
    judge(&bench, &mut agent, &sent);
}

#[test]
fn faults_on_mqtt_are_counted_as_the_manifest_does_and_damaged_messages_are_quarantined() {
    let _turn = turn(false);
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let setup = Setup { store: bench.sqlite(), more: mqtt_source("car", &broker.url()), ..Setup::default() };
    let mut agent = Agent::start(&bench, &setup);
    agent.until_subscribed();
    let url = broker.url();
    let arguments = [&["--tier", "can", "--for", "8s", "--mqtt", &url][..], &FAULTS].concat();
    let sent = Sim::start(&bench, "sent", &arguments).finish();
    judge(&bench, &mut agent, &sent);
    let damaged = sent.of_kind("flip").len() + sent.of_kind("cut").len();
    assert_eq!(quarantined(&bench).len(), damaged);
}

/// What lies in the quarantine of an agent that has ended: reason, topic and message.
pub(crate) fn quarantined(bench: &Bench) -> Vec<(String, String, Vec<u8>)> {
    use pitwire::deliver::record::{Content, Meta};
    let mut found = Vec::new();
    for segment in pitwire::spill::scan(&bench.path("quarantine")).unwrap() {
        for info in &segment.records {
            let record = segment.read(info).unwrap();
            let meta = Meta::decode(&record.meta).unwrap();
            let Content::Message { topic, .. } = meta.content else { panic!("rows in the quarantine: {meta:?}") };
            found.push((meta.reason, topic, record.payload.to_vec()));
        }
    }
    found
}
