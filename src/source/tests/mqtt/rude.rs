//! A broker that heeds no window. It is made up: no real one does so when it is told.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const MESSAGES: u32 = 3_000;
const PAYLOAD_BYTES: usize = 10_000;

/// Takes one client, and sends it everything at once. How many of the messages have left is counted.
async fn rude_broker() -> (u16, Arc<AtomicU32>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, sent) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU32::new(0)));
    let count = sent.clone();
    tokio::spawn(async move {
        let (mut from, mut to) = listener.accept().await.unwrap().0.into_split();
        let mut request = [0; 1024];
        assert!(from.read(&mut request).await.unwrap() > 0, "CONNECT");
        to.write_all(&[0x20, 3, 0, 0, 0]).await.unwrap();
        assert!(from.read(&mut request).await.unwrap() > 0, "SUBSCRIBE");
        to.write_all(&[0x90, 4, request[2], request[3], 0, 1]).await.unwrap();
        tokio::spawn(async move { tokio::io::copy(&mut from, &mut tokio::io::sink()).await });
        for number in 0..MESSAGES {
            let mut body = vec![0, 3];
            body.extend_from_slice(b"t/a");
            body.extend_from_slice(&(number as u16 + 1).to_be_bytes());
            body.push(0);
            body.extend_from_slice(format!("{number:0PAYLOAD_BYTES$}").as_bytes());
            let packet = [&[0x32, body.len() as u8 & 0x7f | 0x80, (body.len() >> 7) as u8][..], &body].concat();
            to.write_all(&packet).await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
        }
        // It stays connected.
        std::future::pending::<()>().await;
    });
    (port, sent)
}

#[tokio::test]
async fn a_broker_that_sends_more_than_it_may_is_not_read_on_until_there_is_room() {
    let (port, sent) = rude_broker().await;
    let (mut ends, source) = start(MqttConfig { receive_maximum: 10, ..config(port) }).await;
    let mut last = (0, Instant::now());
    while last.0 == 0 || last.1.elapsed() < Duration::from_millis(1_500) {
        let now = sent.load(Ordering::Relaxed);
        if now > last.0 + 10 {
            last = (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The rest of what left it is in the sockets: a few MB.
    assert!(last.0 < MESSAGES / 2, "{} of {MESSAGES} are in memory", last.0);
    let all = take(&mut ends, MESSAGES as usize).await;
    assert!(numbers(&all).into_iter().eq(0..MESSAGES), "then all come, in order");
    kill(source).await;
}
