//! Where frames leave: lines of bytes, and MQTT.

mod line;
mod mqtt;
mod pty;

pub(crate) use line::Line;
pub(crate) use mqtt::Mqtt;
pub(crate) use pty::Pty;

use std::time::Duration;

/// An end waits this long without progress of the reader, then gives up.
pub(crate) const READER_PATIENCE: Duration = Duration::from_secs(5);
