//! The command line: one file for each subcommand. Data goes to stdout, words to stderr.
//!
//! Exit codes: 0 done, 1 failed, 2 usage or configuration.

mod audit;
mod check;
mod demo;
mod export;
mod pipeline;
mod plan;
mod progress;
mod run;
mod schema;
mod sessions;
mod spill;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// What a command failed with.
pub(crate) enum Failure {
    /// It could not be done.
    Failed(String),
    /// It was asked for wrongly, or the configuration is wrong.
    Usage(String),
}

pub(crate) type Outcome = Result<(), Failure>;

impl Failure {
    pub(crate) fn failed(what: impl std::fmt::Display) -> Self {
        Self::Failed(what.to_string())
    }

    pub(crate) fn usage(what: impl std::fmt::Display) -> Self {
        Self::Usage(what.to_string())
    }
}

/// The telemetry agent on a racing car's gateway: it reads sensor frames from serial ports and MQTT and
/// stores them in Apache Cassandra or SQLite; what it accepted is never lost, doubled or out of order.
#[derive(Parser)]
#[command(name = "pitwire", version, about, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  pitwire demo                                   a simulated car, and its page in the browser
  pitwire check --config pitwire.toml            name what is wrong with a configuration
  pitwire run --config pitwire.toml              run the agent
  pitwire pipeline explain --config pitwire.toml the way of the data, with every bound
  pitwire schema apply --store cassandra://127.0.0.1:9042/pitwire
  pitwire export --store sqlite:///var/lib/pitwire/pitwire.db --car 44 --format csv
  pitwire plan --tier wide --uplink 20Mbit --outage 2h
  pitwire spill ls --config pitwire.toml         what waits for the store, and since when

PITWIRE_LOG sets what is logged, e.g. PITWIRE_LOG=debug or PITWIRE_LOG=pitwire::source=debug.
Exit codes: 0 done, 1 failed, 2 usage or configuration.";

#[derive(Subcommand)]
enum Command {
    /// Run the agent until it is told to stop (SIGTERM, Ctrl-C); then it drains.
    Run(run::Arguments),
    /// Check a configuration and name each fault with its line.
    Check(check::Arguments),
    /// Show the whole way of the data with a simulated car; nothing has to be installed.
    Demo(demo::Arguments),
    /// Show the way of the data through the agent.
    Pipeline(pipeline::Arguments),
    /// Print or apply the schema of a store.
    Schema(schema::Arguments),
    /// Read a car's samples back: merged, in order, each once.
    Export(export::Arguments),
    /// List a car's sessions and laps.
    Sessions(sessions::Arguments),
    /// Compare what a simulator sent with what a reader of the store sees.
    Audit(audit::Arguments),
    /// How long an outage the disk bridges, and how long the drain takes afterwards.
    Plan(plan::Arguments),
    /// Look into the spill or the quarantine of an agent, read it out, mend it.
    Spill(spill::Arguments),
}

/// Parses the arguments, does what they ask for, and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors; clap knows where each belongs.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    // The demo speaks for itself.
    log(if matches!(arguments.command, Command::Demo(_)) { "warn,pitwire::source=error" } else { "info" });
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(Err(Failure::failed(format!("start the runtime: {error}")))),
    };
    end(runtime.block_on(async {
        match arguments.command {
            Command::Run(arguments) => run::run(arguments).await,
            Command::Check(arguments) => check::run(&arguments),
            Command::Demo(arguments) => demo::run(arguments).await,
            Command::Pipeline(arguments) => pipeline::run(arguments),
            Command::Schema(arguments) => schema::run(arguments).await,
            Command::Export(arguments) => export::run(arguments).await,
            Command::Sessions(arguments) => sessions::run(arguments).await,
            Command::Audit(arguments) => audit::run(arguments).await,
            Command::Plan(arguments) => plan::run(arguments),
            Command::Spill(arguments) => spill::run(arguments).await,
        }
    }))
}

fn end(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(what)) => {
            say(&format!("pitwire: {what}"));
            ExitCode::FAILURE
        }
        Err(Failure::Usage(what)) => {
            say(&format!("pitwire: {what}"));
            ExitCode::from(2)
        }
    }
}

/// A line of words for a person, on stderr.
pub(crate) fn say(line: &str) {
    // Nobody may be listening; that is no reason to end.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A line of data, on stdout.
pub(crate) fn print(line: &str) -> Outcome {
    writeln!(std::io::stdout(), "{line}").map_err(|error| Failure::failed(format!("write to stdout: {error}")))
}

/// Logs to stderr. The driver repeats each lost connection every second; delivery says it once.
fn log(level: &str) {
    let filter = std::env::var("PITWIRE_LOG").unwrap_or_else(|_| level.into());
    let filter = EnvFilter::try_new(format!("scylla=off,{filter}")).unwrap_or_else(|error| {
        say(&format!("pitwire: PITWIRE_LOG: {error}; logging at {level}"));
        EnvFilter::new(format!("scylla=off,{level}"))
    });
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    // journald stamps the lines itself.
    if std::env::var_os("JOURNAL_STREAM").is_some() { builder.without_time().init() } else { builder.init() }
}

/// Waits for SIGINT, SIGTERM or SIGHUP (a terminal that is closed).
pub(crate) async fn told_to_stop() -> Result<(), Failure> {
    let (mut stops, mut hangup) = (Stops::listen()?, hangups()?);
    tokio::select! {
        _ = hangup.recv() => {}
        () = stops.told() => {}
    }
    Ok(())
}

/// SIGINT and SIGTERM, heard from [`Self::listen`] on: before, they end the process outright.
pub(crate) struct Stops {
    interrupt: Signal,
    terminate: Signal,
}

impl Stops {
    pub(crate) fn listen() -> Result<Self, Failure> {
        Ok(Self { interrupt: signals(SignalKind::interrupt())?, terminate: signals(SignalKind::terminate())? })
    }

    /// Waits for one of them.
    pub(crate) async fn told(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// SIGHUP, each time from now on.
pub(crate) fn hangups() -> Result<Signal, Failure> {
    signals(SignalKind::hangup())
}

fn signals(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::failed(format!("listen for signals: {error}")))
}

/// The settings of the store at `url`, for commands that have no configuration.
pub(crate) fn store_config(url: &str) -> Result<crate::store::Config, Failure> {
    let url = url.parse::<crate::store::StoreUrl>().map_err(|error| Failure::usage(format!("--store: {error}")))?;
    Ok(crate::store::Config::for_url(url))
}
