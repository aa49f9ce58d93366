//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use firmware_sim::{Broker, ClockBase, Error, Fault, Options, Output, Speed, Tier, parse_duration};

/// A simulated racing car that speaks the Pitwire wire: for trying out, for tests, for load.
#[derive(Debug, Parser)]
#[command(name = "firmware-sim", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  A car on a pseudo-terminal, until Ctrl-C; prints the path to open:
    firmware-sim run --tier can --pty

  The same under a name that stays:
    firmware-sim run --tier can --pty=/tmp/ecu

  Thirty seconds to a broker, with a manifest for `pitwire audit`:
    firmware-sim run --tier wide --for 30s --mqtt mqtt://127.0.0.1:1883 --manifest m.jsonl

Exit codes: 0 done, 1 failed, 2 usage.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Drive one or more cars.
    Run(Run),
}

const RUN_HELP: &str = "\
At least one of --pty, --serial and --mqtt is needed, each as often as wanted. Each device goes to
exactly one of them, in turn. A serial line carries one car only: with several cars each needs a
line of its own, or MQTT. Frames go to the topic pitwire/CAR/DEVICE, catalogues retained to
pitwire/CAR/DEVICE/describe/PART.

On a pseudo-terminal sending starts when somebody opens it. When its buffer is full, whole frames
are dropped, and count as sent, unless --block is given. At the end the simulator waits until
everything was read; when nothing is read for 5 s it gives up and exits 1.

Faults: --fault KIND@WHEN[:ARG][,car=CAR][,device=DEVICE], as often as wanted.
WHEN is a time after the start of sending (500ms, 5s, 2m), or every=N for each Nth frame.
  flip@every=500        one bit of a frame is flipped
  drop-bytes@2s:3       3 bytes of a frame are lost (default 1)
  cut@every=200         a frame breaks off
  insert@every=50:64    64 random bytes come before a frame (default 16)
  duplicate@every=100   a frame is sent twice
  swap@every=100        a frame and the next of its device change places
  garbage@0s:1MiB       random bytes come before a frame, once
  unplug@5s:5s          the line is gone for 5 s; frames made meanwhile are lost
  reboot@8s             the device starts anew: new boot, sequence from 0
  step@6s:+3600s        the device's clock is stepped; a step back begins a new boot
  drift=50              the device's clock runs 50 ppm too fast (also drift@5s:50)
The manifest has a line for each fault that happened.

Examples:
  firmware-sim run --tier can --pty
  firmware-sim run --tier club --car 44 --car 45 --pty=/tmp/a --pty=/tmp/b
  firmware-sim run --tier wide --for 30s --mqtt mqtt://127.0.0.1 --manifest m.jsonl
  firmware-sim run --tier f1 --for 1m --speed max --block --pty=/tmp/f1 --seed 7
  firmware-sim run --tier can --serial /dev/ttyUSB0 --baud 460800 --fault flip@every=500
  firmware-sim run --tier can --pty=/tmp/ecu --fault unplug@5s:5s --fault reboot@15s,device=gps";

#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
struct Run {
    /// What the car carries: club (400 samples/s), can (1,500), wide (78,200) or f1 (1.1 million)
    #[arg(long, value_name = "T", value_parser = parse::<Tier>)]
    tier: Tier,

    /// The car's name; give it again for more cars
    #[arg(long = "car", value_name = "CAR", default_value = "44")]
    cars: Vec<String>,

    /// Decides the drivers' pace, the weather, noise and faults
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// End after so much device time was sent, such as 20s or 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_for)]
    run_for: Option<Duration>,

    /// How many times as fast as real time, or max
    #[arg(long, value_name = "N|max", default_value = "1", value_parser = parse::<Speed>)]
    speed: Speed,

    /// Multiply every channel's rate
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    rate_factor: f64,

    /// What the devices' clocks count from: 1970, or their own start
    #[arg(long, value_name = "BASE", default_value = "utc")]
    clock: Clock,

    /// Make a pseudo-terminal and print its path; with =LINK under that name
    #[arg(long, value_name = "LINK", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pty: Vec<String>,

    /// Write to this serial port, pseudo-terminal or fifo
    #[arg(long, value_name = "PATH")]
    serial: Vec<PathBuf>,

    /// Speed of serial ports
    #[arg(long, value_name = "BAUD", default_value_t = 921_600)]
    baud: u32,

    /// Publish to this broker, MQTT v5, QoS 1
    #[arg(long, value_name = "mqtt://HOST[:PORT]", value_parser = parse::<Broker>)]
    mqtt: Vec<Broker>,

    /// Write down what was sent, for an audit of what arrived
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,

    /// Wait when a buffer is full, instead of dropping frames
    #[arg(long)]
    block: bool,

    /// Let something go wrong: see below
    #[arg(long = "fault", value_name = "SPEC", value_parser = parse::<Fault>)]
    faults: Vec<Fault>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Clock {
    Utc,
    Boot,
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: T::Err| e.to_string())
}

fn parse_for(text: &str) -> Result<Duration, Error> {
    parse_duration(text).map_err(Error::Usage)
}

/// The options of the command line. `Err` is what clap has to say: help, version, or a fault.
pub(crate) fn options() -> Result<Options, clap::Error> {
    parse_from(std::env::args_os())
}

fn parse_from(args: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>) -> Result<Options, clap::Error> {
    let matches = Cli::command().try_get_matches_from(args)?;
    let Command::Run(run) = Cli::from_arg_matches(&matches)?.command;
    let mut outputs: Vec<(usize, Output)> = Vec::new();
    if let Some(("run", matches)) = matches.subcommand() {
        // Devices are dealt in the order in which the outputs were given, across the flags.
        let places = |id| matches.indices_of(id).into_iter().flatten();
        let pty = |link: String| Output::Pty { link: (!link.is_empty()).then(|| link.into()) };
        outputs.extend(places("pty").zip(run.pty.into_iter().map(pty)));
        outputs.extend(places("serial").zip(run.serial.into_iter().map(|path| Output::Serial { path })));
        outputs.extend(places("mqtt").zip(run.mqtt.into_iter().map(Output::Mqtt)));
    }
    outputs.sort_by_key(|(place, _)| *place);
    Ok(Options {
        tier: run.tier,
        cars: run.cars,
        seed: run.seed,
        run_for: run.run_for,
        speed: run.speed,
        rate_factor: run.rate_factor,
        clock: match run.clock {
            Clock::Utc => ClockBase::Utc,
            Clock::Boot => ClockBase::Boot,
        },
        outputs: outputs.into_iter().map(|(_, output)| output).collect(),
        manifest: run.manifest,
        block: run.block,
        baud: run.baud,
        faults: run.faults,
        start_us: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, clap::Error> {
        parse_from(line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn outputs_keep_their_order_across_flags() {
        let options =
            parsed("firmware-sim run --tier can --mqtt mqtt://h:1 --pty=/tmp/a --serial /dev/x --pty").unwrap();
        let broker = Broker { host: "h".to_owned(), port: 1 };
        let expected = [
            Output::Mqtt(broker),
            Output::Pty { link: Some("/tmp/a".into()) },
            Output::Serial { path: "/dev/x".into() },
            Output::Pty { link: None },
        ];
        assert_eq!(options.outputs, expected);
    }

    #[test]
    fn examples_of_the_help_are_valid() {
        let mut examples = 0;
        for line in RUN_HELP.lines().chain(EXAMPLES.lines()).map(str::trim) {
            if line.starts_with("firmware-sim run") {
                let options = parsed(line).unwrap_or_else(|e| panic!("{line}: {e}"));
                options.check().unwrap_or_else(|e| panic!("{line}: {e}"));
                examples += 1;
            }
        }
        assert!(examples >= 8, "{examples}");
    }

    #[test]
    fn several_cars_replace_the_default_one() {
        assert_eq!(parsed("firmware-sim run --tier can --pty").unwrap().cars, ["44"]);
        assert_eq!(parsed("firmware-sim run --tier can --pty --car 7 --car 8").unwrap().cars, ["7", "8"]);
    }

    #[test]
    fn wrong_values_say_what_would_be_right() {
        for (line, hint) in [
            ("run --tier rally --pty", "expected club"),
            ("run --tier can --pty --for 20", "with a unit"),
            ("run --tier can --mqtt localhost", "mqtt://HOST"),
            ("run --tier can --pty --speed fast", "max"),
            ("run --tier can --pty --fault melt@5s", "expected flip"),
        ] {
            let error = parsed(&format!("firmware-sim {line}")).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(hint), "{line}: {error}");
        }
    }
}
