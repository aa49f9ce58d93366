//! Sources against real ports and a real broker: `serial`, `mqtt`.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::*;
use crate::clock::SystemClock;
use crate::gauges::SourceState;
use crate::item::{Body, RawMessage};
use crate::ledger::Ledger;
use crate::pipeline::{Bounds, Receiver, queue};

mod mqtt;
mod serial;

/// How long anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Both ends of a source: what it is given, and what comes out of it.
struct Ends {
    out: Receiver<RawBatch>,
    came: VecDeque<RawMessage>,
    gauges: Arc<SourceGauges>,
    stop: CancellationToken,
    settled: CancellationToken,
}

fn ends(kind: &'static str) -> (Outlet, Ends) {
    let clock = SystemClock::shared();
    let gauges = SourceGauges::new("src", kind, "", clock.now());
    let (sender, out) = queue("in", Bounds { items: 1_000, bytes: 1 << 20, weigh: RawBatch::bytes });
    let (stop, settled) = (CancellationToken::new(), CancellationToken::new());
    let id = Ledger::new().source("src");
    let outlet = Outlet {
        id,
        sender: Some(sender),
        gauges: gauges.clone(),
        clock,
        stop: stop.clone(),
        settled: settled.clone(),
    };
    (outlet, Ends { out, came: VecDeque::new(), gauges, stop, settled })
}

impl Ends {
    async fn next(&mut self) -> RawMessage {
        self.within(PATIENCE).await.expect("a message in time")
    }

    /// The next message, if there is one so soon.
    async fn within(&mut self, patience: Duration) -> Option<RawMessage> {
        if self.came.is_empty() {
            let batch = tokio::time::timeout(patience, self.out.recv()).await.ok()?;
            self.came.extend(batch.expect("the source lives").messages);
        }
        self.came.pop_front()
    }

    /// Nothing more comes for a while.
    async fn is_quiet(&mut self) -> bool {
        self.within(Duration::from_millis(300)).await.is_none()
    }

    /// Waits for a state whose detail says something.
    async fn until(&self, state: SourceState, says: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let now = self.gauges.condition();
            if now.state == state && now.detail.contains(says) {
                return;
            }
            assert!(Instant::now() < until, "never {state:?} with {says:?}, but {now:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Says loudly that a test did not run; where CI has the means it has to.
fn skip(test: &str, reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} cannot run, and must under CI=true: {reason}");
    let line = format!("SKIPPED {test}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("stderr takes the line");
    if let Some(log) = std::env::var_os("PITWIRE_SKIP_LOG") {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log);
        log.and_then(|mut log| log.write_all(line.as_bytes())).expect("the file of PITWIRE_SKIP_LOG takes a line");
    }
}
