//! `pitwire check`

use std::path::PathBuf;

use super::{Failure, Outcome, say};
use crate::config::{Config, DEFAULT_PATH};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The configuration.
    #[arg(long, default_value = DEFAULT_PATH)]
    config: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let config = Config::load(&arguments.config).map_err(Failure::usage)?;
    if config.spill.key_is_with_systemd() {
        say("spill.key_file is a credential of the unit, which only systemd can give: its content is not checked here");
    }
    if let Some(warning) = config.spill.key_warning() {
        say(&format!("spill.key_file: {warning}"));
    }
    let sources = config.source.serial.len() + config.source.mqtt.len();
    say(&format!(
        "{}: good: car {}, {sources} source(s), store {}",
        arguments.config.display(),
        config.car,
        config.store.url
    ));
    Ok(())
}
