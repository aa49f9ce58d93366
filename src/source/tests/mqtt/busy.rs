//! A broker that is alive and too busy to answer pings in time: what it sends is a sign of life as well.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// The first byte of a PINGRESP.
const PING_RESPONSE: u8 = 0xd0;

/// A way to the broker on which each answer to a ping is lost.
async fn without_ping_responses(port: u16) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.into_split(), far.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut from_near, &mut to_far).await });
            tokio::spawn(async move {
                // A packet: its kind, its length in groups of 7 bits, its rest.
                while let Ok(kind) = from_far.read_u8().await {
                    let (mut packet, mut length, mut shift) = (vec![kind], 0usize, 0);
                    loop {
                        let byte = from_far.read_u8().await.unwrap();
                        packet.push(byte);
                        length |= usize::from(byte & 0x7f) << shift;
                        shift += 7;
                        if byte & 0x80 == 0 {
                            break;
                        }
                    }
                    let head = packet.len();
                    packet.resize(head + length, 0);
                    from_far.read_exact(&mut packet[head..]).await.unwrap();
                    if kind != PING_RESPONSE && to_near.write_all(&packet).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    ours
}

#[tokio::test]
async fn a_connection_on_which_messages_come_is_not_given_up_for_a_ping_and_a_silent_one_is() {
    tokio::join!(stays_while_it_lives(PROTOCOLS[0]), stays_while_it_lives(PROTOCOLS[1]));
}

async fn stays_while_it_lives(protocol: Protocol) {
    let Some(broker) = Broker::open("a_connection_on_which_messages_come").await else { return };
    let way = without_ping_responses(broker.port).await;
    let keep_alive = Duration::from_secs(5);
    let (mut ends, source) = start(MqttConfig { keep_alive, ..speaking(protocol, way) }).await;
    let connects = |ends: &Ends| ends.gauges.connects.load(Ordering::Relaxed);
    assert_eq!(connects(&ends), 1);
    let began = Instant::now();
    for number in 0.. {
        broker.publish(number..number + 1).await;
        take(&mut ends, 1).await.pop().unwrap().1.settle();
        if began.elapsed() > 3 * keep_alive {
            break;
        }
        tokio::time::sleep(keep_alive / 10).await;
    }
    assert_eq!(connects(&ends), 1, "{protocol:?}");
    let silent = Instant::now();
    while connects(&ends) == 1 {
        assert!(silent.elapsed() < 4 * keep_alive, "{protocol:?}: a dead connection is kept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    kill(source).await;
}
