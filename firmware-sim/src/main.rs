//! `firmware-sim`: a simulated racing car. Arguments → options → run → exit code.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use firmware_sim::{Error, Simulator, Stop, Summary};

mod cli;

fn main() -> ExitCode {
    let options = match cli::options() {
        Ok(options) => options,
        Err(e) => {
            // Help goes to stdout with 0, faults to stderr with 2; a closed pipe changes neither.
            let _ = e.print();
            return ExitCode::from(if e.exit_code() == 0 { 0 } else { 2 });
        }
    };
    tracing_subscriber::fmt().with_writer(io::stderr).with_target(false).without_time().with_ansi(false).init();
    match simulate(options) {
        Ok(summary) if summary.problems.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(e) => {
            say(&format!("firmware-sim: {e}"));
            ExitCode::from(if matches!(e, Error::Usage(_)) { 2 } else { 1 })
        }
    }
}

fn simulate(options: firmware_sim::Options) -> Result<Summary, Error> {
    let simulator = Simulator::prepare(options)?.on_new_port(print_path);
    let stop = Stop::new();
    watch_signals(&stop)?;
    simulator.ports().iter().for_each(|path| print_path(path));
    let summary = simulator.run(&stop)?;
    say(&sentence(&summary));
    Ok(summary)
}

/// The summary in one line.
fn sentence(summary: &Summary) -> String {
    let mut text = format!(
        "sent {} samples in {} frames from {} devices, {:.1} s of device time",
        summary.samples(),
        summary.frames(),
        summary.devices.len(),
        summary.elapsed.as_secs_f64()
    );
    for (samples, why) in
        [(summary.samples_dropped(), "dropped by full buffers"), (summary.samples_hit(), "lost to faults")]
    {
        if samples > 0 {
            text.push_str(&format!("; {samples} of them {why}"));
        }
    }
    text
}

/// The first SIGINT or SIGTERM ends it, a second one at once.
fn watch_signals(stop: &Stop) -> Result<(), Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |e: io::Error| Error::Failed { what: "watch for signals".to_owned(), source: e.into() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt()).map_err(failed)?, signal(SignalKind::terminate()).map_err(failed)?)
    };
    let stop = stop.clone();
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if stop.is_stopped() {
                    stop.abort();
                }
                stop.stop();
            }
        });
    });
    Ok(())
}

/// A path that a program may read.
fn print_path(path: &Path) {
    let mut out = io::stdout().lock();
    // Nobody may be reading any more, which is no reason to stop.
    let _ = writeln!(out, "{}", path.display()).and_then(|()| out.flush());
}

/// Words for the user.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
