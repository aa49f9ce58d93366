//! The pit-wall page of a loaded agent, in a real browser.
//!
//! `PITWIRE_PICTURE=FILE.png` keeps the picture (`make picture` makes the README's).

use std::path::Path;
use std::process::Command;

use crate::support::{Agent, Bench, Broker, Setup, Sim, audit, long, mqtt_source, number, skip, turn};

/// The picture's width and height in pixels, from the head of a PNG file.
fn png_size(bytes: &[u8]) -> (u32, u32) {
    assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[test]
fn the_page_of_a_loaded_agent_can_be_shown_to_an_engineer() {
    const NAME: &str = "the_page_of_a_loaded_agent_can_be_shown_to_an_engineer";
    let _turn = turn(true);
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
    let missing = match (web.join("node_modules").is_dir(), Path::new("/usr/bin/chromium").exists()) {
        (true, true) => None,
        (false, _) => Some("the page's packages are not there: make web"),
        (_, false) => Some("no browser: apt-get install chromium"),
    };
    if let Some(missing) = missing {
        return skip(NAME, missing);
    }
    let bench = Bench::new();
    let Some(broker) = Broker::start(&bench) else { return };
    let setup = Setup { store: bench.sqlite(), more: mqtt_source("car", &broker.url()), ..Setup::default() };
    let agent = Agent::start(&bench, &setup);
    let (drives, after) = if long() { ("40s", "34") } else { ("12s", "6") };
    let sim = Sim::start(&bench, "sent", &["--tier", "wide", "--for", drives, "--mqtt", &broker.url()]);
    agent.until("data comes", |status| number(status, "/ledger/stored") > 0);

    let picture = bench.path("page.png");
    let script = web.join("tests/picture.mjs");
    let taken =
        Command::new("node").arg(script).arg(agent.url()).arg(&picture).args(["--after", after]).output().unwrap();
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let status = agent.status();
    assert!(number(&status, "/channels") >= 782, "{status:#}");

    let bytes = std::fs::read(&picture).unwrap();
    assert_eq!(png_size(&bytes), (1600, 1000));
    // An empty page, or one that only says that it cannot reach the agent, is far smaller.
    assert!(bytes.len() > 100_000, "{} bytes", bytes.len());
    if let Some(keep) = std::env::var_os("PITWIRE_PICTURE") {
        std::fs::copy(&picture, keep).unwrap();
    }
    let sent = sim.finish();
    agent.until_received(sent.sent());
    agent.until_drained();
    let found = audit(sent.path(), &bench.sqlite());
    bench.figure(&format!("{} bytes of picture; {found:?}", bytes.len()));
    found.assert_exact();
}
