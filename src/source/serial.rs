//! Serial ports: opened by path, read, and opened again by path when the cable or the device goes away.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio_serial::{SerialPortBuilderExt, SerialStream};

use super::Outlet;
use crate::gauges::SourceState;
use crate::item::{Body, FormatName, RawBatch, RawMessage};
use crate::limits::SERIAL_READ_BYTES;
use crate::receipt::Receipt;

/// First pause before a port is opened again.
const REOPEN_AFTER_MIN: Duration = Duration::from_millis(100);
/// Longest pause: a cable that is plugged in again is noticed within it.
const REOPEN_AFTER_MAX: Duration = Duration::from_secs(2);

/// `[[source.serial]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SerialConfig {
    /// Its name: in the ledger, in messages.
    pub name: String,
    /// The port, best by a path that stays: `/dev/serial/by-id/…`.
    pub path: PathBuf,
    /// Bits a second.
    #[serde(default = "default_baud")]
    pub baud: u32,
    /// What it speaks: `wire`.
    #[serde(default)]
    pub format: FormatName,
    /// The car, if not the agent's.
    pub car: Option<String>,
    /// Put before the names of its devices.
    #[serde(default)]
    pub device_prefix: String,
}

const fn default_baud() -> u32 {
    921_600
}

/// Reads the port until told to stop.
pub async fn run(config: SerialConfig, outlet: Outlet) {
    let mut pause = REOPEN_AFTER_MIN;
    loop {
        match open(&config) {
            Ok(port) => {
                show(&outlet, &config.name, SourceState::Connected, "");
                let before = outlet.gauges.bytes.load(Ordering::Relaxed);
                match read(port, &outlet).await {
                    Ended::Told => return,
                    Ended::Lost(reason) => show(&outlet, &config.name, SourceState::Down, &reason),
                }
                // A port that opens and gives nothing but its end is not to be opened ten times a second.
                if outlet.gauges.bytes.load(Ordering::Relaxed) > before {
                    pause = REOPEN_AFTER_MIN;
                }
            }
            Err(reason) => show(&outlet, &config.name, SourceState::Down, &reason),
        }
        tokio::select! {
            () = outlet.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(REOPEN_AFTER_MAX);
    }
}

fn open(config: &SerialConfig) -> Result<SerialStream, String> {
    let path = config.path.display();
    tokio_serial::new(config.path.to_string_lossy(), config.baud)
        .open_native_async()
        .map_err(|error| format!("open {path}: {}; {}", error.description, remedy(&error, config.baud)))
}

/// What to do about a port that does not open.
pub(super) fn remedy(error: &tokio_serial::Error, baud: u32) -> String {
    // That a port is taken comes as "no device", and says so in its text only.
    let taken = ["exclusive lock", "busy"].iter().any(|word| error.description.contains(word));
    match error.kind() {
        _ if taken => "another program has the port open: stop that".into(),
        tokio_serial::ErrorKind::NoDevice | tokio_serial::ErrorKind::Io(io::ErrorKind::NotFound) => {
            "check the cable and source.serial.path".into()
        }
        tokio_serial::ErrorKind::InvalidInput => format!("the port does not take {baud} baud: see baud"),
        tokio_serial::ErrorKind::Io(io::ErrorKind::PermissionDenied) => "add the user to the group dialout".into(),
        _ => "check that source.serial.path is a serial port".into(),
    }
}

enum Ended {
    Told,
    Lost(String),
}

async fn read(mut port: SerialStream, outlet: &Outlet) -> Ended {
    if !send(outlet, Body::Opened).await {
        return Ended::Told;
    }
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(SERIAL_READ_BYTES);
        let read = tokio::select! {
            () = outlet.stop.cancelled() => return Ended::Told,
            read = port.read_buf(&mut buffer) => read,
        };
        match read {
            // A pseudo-terminal whose other end is gone reads as an endless end of file.
            Ok(0) => return Ended::Lost("the port was unplugged; it is opened again when it is back".into()),
            Ok(count) => {
                outlet.gauges.received(count, outlet.clock.now());
                if !send(outlet, Body::Stream(buffer.split().freeze())).await {
                    return Ended::Told;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Ended::Lost(format!("the port was lost: {error}; it is opened again when it is back"));
            }
        }
    }
}

/// Puts a message into the pipeline; `false` if the pipeline is gone.
///
/// While it waits for room nothing is read, so the kernel's buffer fills and the device's frames are cut:
/// its sequence shows what was lost.
async fn send(outlet: &Outlet, body: Body) -> bool {
    let (accepted_at, received) = (outlet.clock.now(), outlet.clock.now_utc());
    let message = RawMessage { body, accepted_at, received, receipt: Receipt::none() };
    match &outlet.sender {
        Some(sender) => sender.send(RawBatch::one(outlet.id, message)).await.is_ok(),
        None => false,
    }
}

fn show(outlet: &Outlet, name: &str, state: SourceState, detail: &str) {
    if outlet.gauges.set(state, detail, outlet.clock.now()) {
        match state {
            SourceState::Connected => tracing::info!(source = name, "serial port open"),
            _ => tracing::warn!(source = name, detail, "serial port down"),
        }
    }
}
