//! The monitor's port: how it is opened, how many connections it takes, and when it gives one up.
//!
//! The agent's file descriptors are for its sources and its spill. So there are at most
//! [`MONITOR_CONNECTIONS_MAX`] connections, one more is closed at once, and one on which nothing moves for
//! [`MONITOR_IDLE_MAX`] is closed too: a client that vanished, reads nothing or never asks.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use super::Config;
use crate::limits::{MONITOR_CONNECTIONS_MAX, MONITOR_IDLE_MAX};

/// How many ports after the first are tried.
const PORTS_TRIED_AFTER: u16 = 100;
/// Accepting failed for want of something, mostly file descriptors: give the process time to free some.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Why the monitor has no port. The agent can go on without.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// Someone else listens there.
    #[error(
        "open the monitor on {listen}: the address is in use, perhaps by another pitwire (run or demo) on this \
         machine; end that one (`ss -ltnp 'sport = :{port}'` names it), or change `listen` in [monitor]",
        port = .listen.port()
    )]
    InUse {
        /// The address.
        listen: SocketAddr,
    },
    /// All ports that were tried are taken.
    #[error("open the monitor: all ports from {first} to {last} on 127.0.0.1 are in use")]
    NoFreePort {
        /// The first port that was tried.
        first: u16,
        /// The last port that was tried.
        last: u16,
    },
    /// The system refuses for another reason.
    #[error("open the monitor on {listen}: {source}; change `listen` in [monitor]")]
    Refused {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Opens the port of `config`.
///
/// # Errors
/// [`MonitorError::InUse`] or [`MonitorError::Refused`], with the key to change.
pub async fn bind(config: &Config) -> Result<TcpListener, MonitorError> {
    open(config.listen.addr()).await
}

/// Opens `first_port` on 127.0.0.1, or the next one that is free, at most 100 further.
///
/// # Errors
/// [`MonitorError::NoFreePort`], or [`MonitorError::Refused`] for any other reason than a port in use.
pub async fn bind_first_free(first_port: u16) -> Result<TcpListener, MonitorError> {
    let last = first_port.saturating_add(PORTS_TRIED_AFTER);
    for port in first_port..=last {
        match open((Ipv4Addr::LOCALHOST, port).into()).await {
            Err(MonitorError::InUse { .. }) => {}
            done => return done,
        }
    }
    Err(MonitorError::NoFreePort { first: first_port, last })
}

async fn open(listen: SocketAddr) -> Result<TcpListener, MonitorError> {
    TcpListener::bind(listen).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => MonitorError::InUse { listen },
        _ => MonitorError::Refused { listen, source },
    })
}

/// A listener that keeps the bounds.
pub(super) struct Guarded {
    listener: TcpListener,
    free: Arc<Semaphore>,
}

impl Guarded {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, free: Arc::new(Semaphore::new(MONITOR_CONNECTIONS_MAX)) }
    }
}

impl axum::serve::Listener for Guarded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, addr)) => match self.free.clone().try_acquire_owned() {
                    Ok(place) => return (Connection::new(stream, place, MONITOR_IDLE_MAX), addr),
                    Err(_) => tracing::debug!(%addr, max = MONITOR_CONNECTIONS_MAX, "one connection too many: closed"),
                },
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "the monitor cannot accept a connection; trying again");
                    sleep(ACCEPT_AGAIN_AFTER).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// A connection that gives itself up when nothing moves.
pub(super) struct Connection {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    idle_max: Duration,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, place: OwnedSemaphorePermit, idle_max: Duration) -> Self {
        // Events are small and wanted now; without it they would wait for the last one's acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "events may arrive late");
        }
        Self { stream, idle: Box::pin(sleep(idle_max)), idle_max, _place: place }
    }

    /// Passes `progress` on; starts the idle time anew if there was some, and ends it if it is over.
    fn watch<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            let idle_at = Instant::now() + self.idle_max;
            self.idle.as_mut().reset(idle_at);
            return progress;
        }
        self.idle.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_read(cx, into);
        self.watch(cx, progress)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, from);
        self.watch(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(cx, from);
        self.watch(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const IDLE_MAX: Duration = Duration::from_millis(300);

    async fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        (Connection::new(listener.accept().await.unwrap().0, place, IDLE_MAX), client)
    }

    #[tokio::test]
    async fn a_client_that_never_asks_is_given_up_and_one_that_goes_on_asking_is_not() {
        let (mut connection, mut client) = pair().await;
        let begun = Instant::now();
        let mut byte = [0];
        for _ in 0..4 {
            sleep(IDLE_MAX / 2).await;
            client.write_all(b"x").await.unwrap();
            connection.read_exact(&mut byte).await.unwrap();
        }
        assert!(begun.elapsed() > IDLE_MAX, "it was kept for longer than the idle time");
        let error = connection.read_exact(&mut byte).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_given_up_once_the_socket_is_full() {
        let (mut connection, client) = pair().await;
        let mib = vec![0; 1 << 20];
        let mut written = 0;
        let error = loop {
            match connection.write_all(&mib).await {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 1024, "the socket takes everything");
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(client);
    }
}
