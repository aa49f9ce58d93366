//! `pitwire run`

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::Signal;

use super::{Failure, Outcome, Stops, hangups, say};
use crate::app::App;
use crate::config::{Config, DEFAULT_PATH};
use crate::monitor;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The configuration.
    #[arg(long, default_value = DEFAULT_PATH)]
    config: PathBuf,
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    // Before anybody is told that it runs: whoever sends a signal then counts on being heard.
    let (mut stops, hangups) = (Stops::listen()?, hangups()?);
    let config = Config::load(&arguments.config).map_err(Failure::usage)?;
    // Within the unit it has to be there. Starting again would not mend it.
    config.spill.key().map_err(|error| Failure::usage(format!("{}: spill.{error}", arguments.config.display())))?;
    let listener = match monitor::bind(&config.monitor).await {
        _ if !config.monitor.enabled => None,
        Ok(listener) => Some(listener),
        Err(error) => {
            // The car drives without its page rather than not at all.
            tracing::error!(%error, "the monitor is not served");
            None
        }
    };
    if let Some(Ok(address)) = listener.as_ref().map(tokio::net::TcpListener::local_addr) {
        tracing::info!("page and API on http://{address}");
    }
    let app = App::start(config, listener).await.map_err(Failure::failed)?;
    notify(&[NotifyState::Ready]);
    tokio::select! {
        () = stops.told() => {}
        () = reloads(&app, &arguments.config, hangups) => {}
        () = watchdog(&app) => {}
    }
    notify(&[NotifyState::Stopping]);
    tracing::info!("stopping: what is in memory is made durable");
    let outcome = app.stop().await;
    let ledger = &outcome.ledger.total;
    say(&format!(
        "received {} and recovered {}: stored {}, backlog {}, quarantined {}, dropped {}, duplicate {}, in flight {}",
        ledger.received,
        ledger.recovered,
        ledger.stored,
        ledger.backlog,
        ledger.quarantined,
        ledger.dropped.values().sum::<u64>(),
        ledger.duplicate,
        ledger.in_flight,
    ));
    if !outcome.failed_stages.is_empty() {
        return Err(Failure::failed(format!("stages failed: {}", outcome.failed_stages.join(", "))));
    }
    if outcome.undurable > 0 {
        return Err(Failure::failed(format!("{} samples could be made durable nowhere", outcome.undurable)));
    }
    if !outcome.ledger.balanced {
        return Err(Failure::failed("the ledger does not balance: please report this"));
    }
    Ok(())
}

/// Reads the configuration anew at each SIGHUP. Ends if it meant that the terminal is gone: then nobody could stop
/// the agent any more.
async fn reloads(app: &App, path: &Path, mut hangups: Signal) {
    let had_terminal = std::io::stderr().is_terminal();
    while hangups.recv().await.is_some() {
        if had_terminal && !std::io::stderr().is_terminal() {
            break;
        }
        notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now().unwrap_or(NotifyState::MonotonicUsec(0))]);
        match app.reload(Config::load(path)) {
            Ok(what) => tracing::info!(config = %path.display(), "configuration reloaded: {what}"),
            Err(refusal) => {
                for line in refusal.lines() {
                    tracing::error!("configuration refused, the present one stays: {line}");
                }
            }
        }
        notify(&[NotifyState::Ready]);
    }
}

/// Feeds systemd's watchdog while data moves; for ever.
async fn watchdog(app: &App) {
    let every = sd_notify::watchdog_enabled().map_or(Duration::from_secs(5), |limit| limit / 3);
    loop {
        tokio::time::sleep(every).await;
        if app.alive() {
            notify(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("nothing moves in the agent; systemd's watchdog is not fed");
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(states);
}
