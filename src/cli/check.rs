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
    let sources = config.source.serial.len() + config.source.mqtt.len();
    say(&format!(
        "{}: good: car {}, {sources} source(s), store {}",
        arguments.config.display(),
        config.car,
        config.store.url
    ));
    Ok(())
}
