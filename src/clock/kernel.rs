//! Whether the kernel says that the wall clock is synchronised.
//!
//! Two ways, neither of which needs a privilege or a call that the unit file refuses. systemd-timesyncd makes a file
//! in `/run` once it has set the clock; a look at it costs a microsecond. Whatever else keeps the clock (chrony, ntpd,
//! ptp4l) tells the kernel its greatest error, and `timedatectl` says whether that is below 16 s. Asking it starts a
//! process, so that is done under `clock.trust = "kernel"` only, until the answer is yes.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::{Gateway, Trust};

/// Made by systemd-timesyncd once it has synchronised; `/run` is empty after a start.
const MARK: &str = "/run/systemd/timesync/synchronized";
/// Distance of two questions.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// The same where the answer only makes a plausible clock a better one.
const ASK_NOW_AND_THEN: Duration = Duration::from_secs(60);
/// What an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Whether systemd-timesyncd says so.
pub(super) fn marked() -> bool {
    Path::new(MARK).exists()
}

/// Asks `timedatectl` until the clock is synchronised or `stop` is told, and tells `gateway`: also where a plausible
/// clock is trusted, since one that another daemon sets later is better.
pub async fn watch(gateway: Arc<Gateway>, stop: CancellationToken) {
    let needed = gateway.trust() == Trust::Kernel;
    ask_until_yes(gateway, stop, needed, timedatectl).await;
}

fn timedatectl() -> Command {
    let mut command = Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]);
    command
}

async fn ask_until_yes(gateway: Arc<Gateway>, stop: CancellationToken, needed: bool, question: impl Fn() -> Command) {
    // Where nobody needs its word, there may well be none.
    let mut complained = !needed;
    while !marked() {
        match ask(question()).await {
            Ok(true) => return gateway.tell_synchronised(),
            Ok(false) => {}
            Err(reason) if !complained => {
                complained = true;
                tracing::warn!(
                    reason,
                    "timedatectl does not say whether the clock is synchronised; {MARK} is looked at \
                    as well: set clock.trust to \"system\" if nothing makes it"
                );
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(if needed { ASK_EVERY } else { ASK_NOW_AND_THEN }) => {}
        }
    }
}

async fn ask(mut command: Command) -> Result<bool, String> {
    command.kill_on_drop(true).stdin(Stdio::null());
    let answer =
        tokio::time::timeout(ANSWER_WITHIN, command.output()).await.map_err(|_| "no answer in time".to_owned())?;
    let answer = answer.map_err(|error| error.to_string())?;
    match answer.stdout.trim_ascii() {
        b"yes" => Ok(true),
        b"no" => Ok(false),
        _ => Err(format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.stderr).trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, EARLIEST_PLAUSIBLE, Scripted};

    fn says(script: &'static str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn the_answer_is_yes_or_no_or_a_reason() {
        assert_eq!(ask(says("echo yes")).await, Ok(true));
        assert_eq!(ask(says("echo no")).await, Ok(false));
        let refused = ask(says("echo 'no bus' >&2; exit 1")).await.unwrap_err();
        assert!(refused.contains("no bus"), "{refused}");
        assert!(ask(Command::new("/nowhere/timedatectl")).await.is_err());
        let question = timedatectl();
        let arguments: Vec<_> = question.as_std().get_args().collect();
        assert_eq!(arguments, ["show", "--property=NTPSynchronized", "--value"]);
    }

    #[tokio::test]
    async fn a_yes_makes_a_plausible_clock_known_where_the_kernels_word_is_needed() {
        let gateway = Gateway::new(Scripted::running(EARLIEST_PLAUSIBLE), Trust::Kernel);
        assert_eq!(gateway.utc(), None);
        ask_until_yes(gateway.clone(), CancellationToken::new(), true, || says("echo yes")).await;
        let until = gateway.now() + Duration::from_secs(20);
        while gateway.utc().is_none() {
            assert!(gateway.now() < until, "it was told");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
