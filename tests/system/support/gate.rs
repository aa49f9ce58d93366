//! A TCP port of our own that refuses, and later leads to a server.

use std::net::SocketAddr;

use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;

/// Closed at first: the port is taken and refuses connections.
pub(crate) struct Gate {
    // First: its end closes the port.
    runtime: Runtime,
    closed: Option<TcpSocket>,
    address: SocketAddr,
}

impl Gate {
    pub(crate) fn closed() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        Self { runtime, closed: Some(socket), address }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Leads to `server` from now on.
    pub(crate) fn open(&mut self, server: &str) {
        let (socket, server) = (self.closed.take().unwrap(), server.to_owned());
        let _inside = self.runtime.enter();
        let listener = socket.listen(64).unwrap();
        self.runtime.spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move {
                    if let Ok(mut upstream) = TcpStream::connect(server).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
                    }
                });
            }
        });
    }
}
