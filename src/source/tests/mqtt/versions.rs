//! What differs between MQTT 5 and 3.1.1: who sets the window, and who refuses what is too large.

use super::*;
use crate::limits::{MQTT_PACKET_BYTES_MAX, MQTT_RECEIVE_MAXIMUM};

/// The window of a mosquitto at its defaults.
const WINDOW: usize = 20;

#[tokio::test]
async fn a_broker_at_its_defaults_does_not_throttle_mqtt_5_by_its_window() {
    let Some(broker) = Broker::open("a_broker_at_its_defaults_does_not_throttle").await else { return };
    let (mut ends, source) = start(config(broker.port)).await;
    let (sent, window) = (u32::from(MQTT_RECEIVE_MAXIMUM) + 500, usize::from(MQTT_RECEIVE_MAXIMUM));
    broker.publish(0..sent).await;
    let began = Instant::now();
    // The bench's queue holds fewer: what was taken out stays unacknowledged.
    let all = take(&mut ends, window).await;
    println!("{} messages came unacknowledged in {:?}", all.len(), began.elapsed());
    assert!(numbers(&all).into_iter().eq(0..u32::from(MQTT_RECEIVE_MAXIMUM)));
    assert!(ends.is_quiet().await, "and no more than the agent allows");
    all.into_iter().for_each(|(_, receipt)| receipt.settle());
    let rest = take(&mut ends, 500).await;
    assert_eq!(rest.last().map(|(number, _)| *number), Some(sent - 1));
    kill(source).await;
}

#[tokio::test]
async fn a_broker_of_3_1_1_whose_window_is_full_makes_the_source_ask_for_a_flush() {
    let Some(broker) = Broker::open("a_broker_of_3_1_1_whose_window_is_full").await else { return };
    let (mut ends, source) = start(speaking(Protocol::V311, broker.port)).await;
    broker.publish(0..100).await;
    let first = take(&mut ends, WINDOW).await;
    assert!(ends.is_quiet().await, "the first round teaches the window");
    first.into_iter().for_each(|(_, receipt)| receipt.settle());
    // A mosquitto sends more than its window once it was acknowledged something, if more is queued; on a busy machine
    // it pauses meanwhile.
    let (mut waiting, mut asked, mut last_asks) = (Vec::new(), 0, false);
    while let Some(message) = ends.within(Duration::from_millis(500)).await {
        last_asks = matches!(message.body, Body::Flush);
        if last_asks {
            assert!(message.receipt.is_none() && waiting.len() >= WINDOW, "{} messages came before", waiting.len());
            asked += 1;
        } else {
            waiting.push((number(&message), message.receipt));
        }
    }
    assert!(last_asks && asked <= waiting.len() - WINDOW + 1, "asked {asked} times, {} messages", waiting.len());
    assert!(numbers(&waiting).into_iter().eq((WINDOW as u32..).take(waiting.len())));
    kill(source).await;
}

#[tokio::test]
async fn a_window_that_is_not_full_asks_for_nothing() {
    let Some(broker) = Broker::open("a_window_that_is_not_full").await else { return };
    for protocol in PROTOCOLS {
        let (mut ends, source) = start(speaking(protocol, broker.port)).await;
        broker.publish(0..10).await;
        let all = take(&mut ends, 10).await;
        assert!(ends.is_quiet().await);
        all.into_iter().for_each(|(_, receipt)| receipt.settle());
        pass().await;
        broker.publish(0..9).await;
        let all = take(&mut ends, 9).await;
        assert!(ends.is_quiet().await, "{protocol:?}: nine are outstanding, and ten were before");
        all.into_iter().for_each(|(_, receipt)| receipt.settle());
        pass().await;
        kill(source).await;
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_does_not_end_the_connection_again_and_again() {
    for protocol in PROTOCOLS {
        let Some(broker) = Broker::open("a_message_that_is_too_large").await else { return };
        let (mut ends, source) = start(speaking(protocol, broker.port)).await;
        let large = vec![b'7'; MQTT_PACKET_BYTES_MAX as usize + 1];
        broker.publish_all(vec![b"0".to_vec(), large, b"1".to_vec()]).await;
        let all = take(&mut ends, 2).await;
        assert_eq!(numbers(&all), [0, 1], "{protocol:?}");
        all.into_iter().for_each(|(_, receipt)| receipt.settle());
        pass().await;
        let refused = ends.gauges.refused.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(refused, u64::from(protocol == Protocol::V311), "the broker sees to it with 5");
        assert_eq!(ends.gauges.connects.load(std::sync::atomic::Ordering::Relaxed), 1, "{protocol:?}");
        kill(source).await;
        assert_eq!(left(protocol, broker.port).await, [0; 0], "{protocol:?}");
    }
}

#[test]
fn the_version_is_read_from_the_configuration_and_a_client_without_a_name_is_refused() {
    let read = |more: &str| {
        toml::from_str::<MqttConfig>(&format!("name = \"a\"\nurl = \"mqtt://h\"\ntopics = [\"#\"]\n{more}"))
    };
    assert_eq!(read("").unwrap().protocol, Protocol::V5);
    assert_eq!(read("protocol = \"5\"").unwrap().protocol, Protocol::V5);
    assert_eq!(read("protocol = \"3.1.1\"").unwrap().protocol, Protocol::V311);
    assert!(read("protocol = \"4\"").unwrap_err().to_string().contains("3.1.1"));
    let nameless = read("client_id = \"\"").unwrap();
    assert_eq!(nameless.faults()[0].0, "client_id");
}
