//! A TCP port of our own that refuses, later leads to a server, and may swallow what that answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Closed at first: the port is taken and refuses connections.
pub(crate) struct Gate {
    // First: its end closes the port.
    runtime: Runtime,
    closed: Option<TcpSocket>,
    address: SocketAddr,
    swallows: watch::Sender<bool>,
    swallowed_bytes: Arc<AtomicU64>,
}

impl Gate {
    pub(crate) fn closed() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let (swallows, swallowed_bytes) = (watch::Sender::new(false), Arc::default());
        Self { runtime, closed: Some(socket), address, swallows, swallowed_bytes }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Leads to `server` from now on.
    pub(crate) fn open(&mut self, server: &str) {
        let (socket, server) = (self.closed.take().unwrap(), server.to_owned());
        let (swallows, swallowed) = (self.swallows.subscribe(), self.swallowed_bytes.clone());
        let _inside = self.runtime.enter();
        let listener = socket.listen(64).unwrap();
        self.runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, swallows, swallowed) = (server.clone(), swallows.clone(), swallowed.clone());
                tokio::spawn(async move {
                    if let Ok(upstream) = TcpStream::connect(server).await {
                        lead(client, upstream, swallows, &swallowed).await;
                    }
                });
            }
        });
    }

    /// What comes in still reaches the server, and does there what it does; nobody hears of it.
    pub(crate) fn swallow(&self) {
        self.swallows.send_replace(true);
    }

    /// Answers come through again. Connections of which some are gone break: that is how the client learns it.
    /// Returns the bytes of answers that were swallowed, ever.
    pub(crate) fn let_go(&self) -> u64 {
        self.swallows.send_replace(false);
        self.swallowed_bytes.load(Ordering::Relaxed)
    }
}

/// Copies both ways until one end closes, or until answers come through again after some were swallowed.
async fn lead(client: TcpStream, upstream: TcpStream, mut swallows: watch::Receiver<bool>, swallowed: &AtomicU64) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = upstream.into_split();
    let questions = async { drop(tokio::io::copy(&mut from_client, &mut to_server).await) };
    let answers = async {
        let (mut buffer, mut spoilt) = (vec![0; 64 * 1024], false);
        loop {
            let read = tokio::select! {
                read = from_server.read(&mut buffer) => read.unwrap_or(0),
                Ok(()) = swallows.changed() => {
                    if spoilt && !*swallows.borrow_and_update() {
                        return;
                    }
                    continue;
                }
            };
            if read == 0 {
                return;
            }
            if *swallows.borrow() {
                spoilt = true;
                swallowed.fetch_add(read as u64, Ordering::Relaxed);
            } else if spoilt || to_client.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = questions => {}
        () = answers => {}
    }
}
