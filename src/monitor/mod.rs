//! The monitor: the agent's page, its HTTP API, its live stream and its metrics, on one loopback port.
//!
//! It is given a [`View`], two functions that take snapshots and the live board, and nothing else: it
//! cannot send anything into the pipeline, and what fails here costs one connection, never the agent.
//!
//! Read [`status`] first: what it tells; then `routes`: who may ask for what; `stream`: the live stream;
//! `metrics`; `page`: the embedded files; `listen`: the port and its bounds; `copy`: statuses from gauges.
//!
//! Deliberately absent: TLS, tokens and other addresses than loopback, which come together; anything
//! that changes the agent; history, which is the store's affair.

mod copy;
mod listen;
mod metrics;
mod page;
mod process;
mod routes;
pub mod status;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::limits::MONITOR_DRAIN_MAX;
use crate::live::LiveBoard;

pub use listen::{MonitorError, bind, bind_first_free};
pub use process::ProcessStatus;
pub use status::Status;

/// The port of the page, unless configured.
pub const PORT_DEFAULT: u16 = 8710;

/// `[monitor]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether there is a monitor at all.
    pub enabled: bool,
    /// Where it listens.
    pub listen: Listen,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, listen: Listen((Ipv4Addr::LOCALHOST, PORT_DEFAULT).into()) }
    }
}

/// A loopback address with its port, checked when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Listen(SocketAddr);

impl Listen {
    /// The address.
    #[must_use]
    pub const fn addr(self) -> SocketAddr {
        self.0
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let addr: SocketAddr = text.parse().map_err(|_| {
            format!("`{text}` is no address with a port; write for example \"127.0.0.1:{PORT_DEFAULT}\"")
        })?;
        if !addr.ip().is_loopback() {
            return Err(format!(
                "`{text}` is not a loopback address: the monitor has neither TLS nor a token yet, so it may not \
                 be reachable from other machines; write \"127.0.0.1:{}\" and reach it through a tunnel, \
                 for example `ssh -L {PORT_DEFAULT}:127.0.0.1:{0} GATEWAY`",
                addr.port()
            ));
        }
        Ok(Self(addr))
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        listen.0.to_string()
    }
}

/// What the monitor may see.
#[derive(Clone)]
pub struct View {
    /// Takes a snapshot of the whole agent. Asked once a second by each live client; it may take locks
    /// for a moment and must not wait for anything else.
    pub status: Arc<dyn Fn() -> Status + Send + Sync>,
    /// Says whether the agent is ready. As quick as `status`.
    pub ready: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// The last values.
    pub live: Arc<LiveBoard>,
    /// What time it is: the one that samples are placed by.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("channels", &self.live.len()).finish_non_exhaustive()
    }
}

/// Whether each source has connected for the first time (MQTT: subscribed). No store is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether nothing is waited for.
    pub ready: bool,
    /// What is waited for, e.g. `source ecu: open /dev/ttyACM0`.
    pub waiting_for: Vec<String>,
}

/// Serves `view` on `listener` until `shutdown`, then lets open requests end, at most
/// [`MONITOR_DRAIN_MAX`].
///
/// # Cancel safety
/// May be dropped at any point: the port is then closed, open connections end with the runtime.
pub async fn serve(listener: TcpListener, view: View, shutdown: CancellationToken) {
    let addr = listener.local_addr().ok();
    let router = routes::router(view, addr.map(|addr| addr.ip()), shutdown.clone());
    let server = axum::serve(listen::Guarded::new(listener), router);
    let server = server.with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(MONITOR_DRAIN_MAX).await;
    };
    tokio::select! {
        served = server => if let Err(error) = served {
            tracing::warn!(%error, "the monitor has stopped; the agent goes on without it");
        },
        () = late => tracing::debug!("requests were still open at the monitor's end"),
    }
}
