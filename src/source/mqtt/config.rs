//! What a user may say of an MQTT source.

use std::path::PathBuf;
use std::time::Duration;

use rumqttc::{TlsConfiguration, Transport};
use serde::{Deserialize, Serialize};

use crate::item::FormatName;
use crate::limits::{MQTT_311_PACKET_BYTES_MAX, MQTT_PACKET_BYTES_MAX, MQTT_RECEIVE_MAXIMUM};

/// Messages of ours that the client may have on their way: there are none, but ids of subscriptions count as well.
const PUBLISHES_MAX: u16 = 16;

/// `[[source.mqtt]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttConfig {
    /// Its name: in the ledger, in messages, in the client id.
    pub name: String,
    /// `mqtt://host:port`, or `mqtts://host:port` with `tls`.
    pub url: String,
    /// What to subscribe to, at QoS 1.
    pub topics: Vec<String>,
    /// The version that is spoken with the broker.
    #[serde(default)]
    pub protocol: Protocol,
    /// What messages hold.
    #[serde(default)]
    pub format: FormatName,
    /// The car, whatever topics say; if absent, `pitwire/CAR/…` names it, else it is the agent's.
    pub car: Option<String>,
    /// Put before the names of its devices.
    #[serde(default)]
    pub device_prefix: String,
    /// The client id; `pitwire-AGENT-NAME` if absent.
    pub client_id: Option<String>,
    /// Messages that the broker may send ahead of our acknowledgements.
    #[serde(default = "default_receive_maximum")]
    pub receive_maximum: u16,
    /// How long the broker keeps the session, and what it queues for it, while we are away.
    #[serde(default = "default_session_expiry", with = "humantime_serde")]
    pub session_expiry: Duration,
    /// Distance of keep-alive messages.
    #[serde(default = "default_keep_alive", with = "humantime_serde")]
    pub keep_alive: Duration,
    /// User name.
    pub user: Option<String>,
    /// File that holds the password; else `PITWIRE_MQTT_PASSWORD`.
    pub password_file: Option<PathBuf>,
    /// TLS, for `mqtts://`.
    pub tls: Option<TlsConfig>,
}

/// A version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Protocol {
    /// MQTT 5: the agent sets the window and how long the session lives.
    #[default]
    #[serde(rename = "5")]
    V5,
    /// MQTT 3.1.1: the broker sets both.
    #[serde(rename = "3.1.1")]
    V311,
}

/// `[source.mqtt.tls]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// File with the certificate of the authority that signed the broker's, PEM.
    pub ca: PathBuf,
    /// File with our certificate and key, PKCS#12, if the broker asks for one.
    pub client: Option<PathBuf>,
    /// File with the password of `client`.
    pub client_password_file: Option<PathBuf>,
}

const fn default_receive_maximum() -> u16 {
    MQTT_RECEIVE_MAXIMUM
}
const fn default_session_expiry() -> Duration {
    Duration::from_secs(7 * 24 * 3600)
}
const fn default_keep_alive() -> Duration {
    Duration::from_secs(10)
}

impl MqttConfig {
    /// Wire frames from `url`, everything else as documented.
    #[must_use]
    pub fn new(name: &str, url: &str, topics: &[String]) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            topics: topics.to_vec(),
            protocol: Protocol::V5,
            format: FormatName::Wire,
            car: None,
            device_prefix: String::new(),
            client_id: None,
            receive_maximum: default_receive_maximum(),
            session_expiry: default_session_expiry(),
            keep_alive: default_keep_alive(),
            user: None,
            password_file: None,
            tls: None,
        }
    }

    /// Host, port, and whether TLS is asked for.
    ///
    /// # Errors
    /// If the URL is not `mqtt://host[:port]` or `mqtts://host[:port]`.
    pub fn address(&self) -> Result<(String, u16, bool), String> {
        let expected = || format!("{:?} is not mqtt://host:port or mqtts://host:port", self.url);
        let (rest, tls, default_port) = match (self.url.strip_prefix("mqtt://"), self.url.strip_prefix("mqtts://")) {
            (Some(rest), _) => (rest, false, 1883),
            (_, Some(rest)) => (rest, true, 8883),
            _ => return Err(expected()),
        };
        if rest.contains('@') {
            return Err("user and password do not belong into the URL: see user and password_file".into());
        }
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| expected())?),
            _ => (rest, default_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains('/') { Err(expected()) } else { Ok((host.into(), port, tls)) }
    }

    /// What is wrong, as (key, what would be right).
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        match self.address() {
            Err(reason) => faults.push(("url", reason)),
            Ok((_, _, true)) if self.tls.is_none() => {
                faults.push(("url", "mqtts:// needs a section [source.mqtt.tls] with ca".into()));
            }
            Ok((_, _, false)) if self.tls.is_some() => faults.push(("url", "with tls it has to be mqtts://".into())),
            Ok(_) => {}
        }
        if self.topics.is_empty() {
            faults.push(("topics", r#"at least one is needed, e.g. ["pitwire/44/#"]"#.into()));
        }
        for topic in self.topics.iter().filter(|topic| !is_filter(topic)) {
            let what =
                "is no topic filter: 1 to 65535 bytes without NUL, + alone in its level, # alone in the last one";
            faults.push(("topics", format!(r#"{topic:?} {what}, e.g. "pitwire/+/wire" or "pitwire/44/#""#)));
        }
        if self.client_id.as_ref().is_some_and(String::is_empty) {
            faults.push(("client_id", "must not be empty: the broker keeps the session under it".into()));
        }
        if self.receive_maximum == 0 {
            faults.push(("receive_maximum", "must be at least 1".into()));
        }
        // Below that the client refuses to work, above it does not fit into a packet.
        if !(Duration::from_secs(5)..=Duration::from_secs(u16::MAX.into())).contains(&self.keep_alive) {
            faults.push(("keep_alive", "must be from 5s to 18h".into()));
        }
        faults
    }

    /// The client's options for MQTT 5.
    ///
    /// # Errors
    /// If the URL is wrong, or a file cannot be read.
    pub(super) fn options(&self, agent: &str) -> Result<rumqttc::v5::MqttOptions, String> {
        let (host, port, _) = self.address()?;
        let mut options = rumqttc::v5::MqttOptions::new(self.client_id(agent), host, port);
        options
            .set_keep_alive(self.keep_alive)
            .set_clean_start(false)
            .set_manual_acks(true)
            .set_session_expiry_interval(Some(u32::try_from(self.session_expiry.as_secs()).unwrap_or(u32::MAX)))
            .set_receive_maximum(Some(self.receive_maximum))
            // Nothing is published; at the default the client keeps 14 MB ready for what might be.
            .set_outgoing_inflight_upper_limit(PUBLISHES_MAX)
            .set_max_packet_size(Some(MQTT_PACKET_BYTES_MAX))
            .set_connection_timeout(5);
        if let Some((user, password)) = self.credentials()? {
            options.set_credentials(user, password);
        }
        if let Some(transport) = self.transport()? {
            options.set_transport(transport);
        }
        Ok(options)
    }

    /// The same for MQTT 3.1.1.
    ///
    /// # Errors
    /// If the URL is wrong, or a file cannot be read.
    pub(super) fn options_of_311(&self, agent: &str) -> Result<rumqttc::MqttOptions, String> {
        let (host, port, _) = self.address()?;
        let mut options = rumqttc::MqttOptions::new(self.client_id(agent), host, port);
        options
            .set_keep_alive(self.keep_alive)
            .set_clean_session(false)
            .set_manual_acks(true)
            .set_max_packet_size(MQTT_311_PACKET_BYTES_MAX, MQTT_311_PACKET_BYTES_MAX);
        if let Some((user, password)) = self.credentials()? {
            options.set_credentials(user, password);
        }
        if let Some(transport) = self.transport()? {
            options.set_transport(transport);
        }
        Ok(options)
    }

    /// The same in each run, or the session would not be found again. Never empty.
    fn client_id(&self, agent: &str) -> String {
        let given = self.client_id.clone().filter(|id| !id.is_empty());
        given.unwrap_or_else(|| format!("pitwire-{agent}-{}", self.name))
    }

    fn credentials(&self) -> Result<Option<(String, String)>, String> {
        let Some(user) = &self.user else { return Ok(None) };
        let password = match &self.password_file {
            Some(path) => read(path)?.trim_end().to_owned(),
            None => std::env::var("PITWIRE_MQTT_PASSWORD").unwrap_or_default(),
        };
        Ok(Some((user.clone(), password)))
    }

    fn transport(&self) -> Result<Option<Transport>, String> {
        let (true, Some(tls)) = (self.address()?.2, &self.tls) else { return Ok(None) };
        let client_password = tls.client_password_file.as_ref().map(read).transpose()?.unwrap_or_default();
        let client = tls.client.as_ref().map(read_bytes).transpose()?;
        let client_auth = client.map(|client| (client, client_password.trim_end().to_owned()));
        let configuration = TlsConfiguration::SimpleNative { ca: read_bytes(&tls.ca)?, client_auth };
        Ok(Some(Transport::tls_with_config(configuration)))
    }
}

/// Whether a broker takes it as a topic filter; otherwise it would refuse the subscription, or the client.
fn is_filter(topic: &str) -> bool {
    let topic_bytes_max = usize::from(u16::MAX);
    if topic.is_empty() || topic.len() > topic_bytes_max || topic.contains('\0') {
        return false;
    }
    if let Some(shared) = topic.strip_prefix("$share/") {
        return shared.split_once('/').is_some_and(|(group, filter)| {
            !group.is_empty() && !group.contains(['+', '#']) && !filter.is_empty() && levels_fit(filter)
        });
    }
    levels_fit(topic)
}

/// Whether wildcards stand only where they may.
fn levels_fit(filter: &str) -> bool {
    let last = filter.split('/').count() - 1;
    filter.split('/').enumerate().all(|(index, level)| match level {
        "#" => index == last,
        "+" => true,
        plain => !plain.contains(['+', '#']),
    })
}

fn read_bytes(path: &PathBuf) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("read {}: {error}", path.display()))
}

fn read(path: &PathBuf) -> Result<String, String> {
    String::from_utf8(read_bytes(path)?).map_err(|_| format!("{} is not text", path.display()))
}
