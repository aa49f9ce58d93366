//! What a running agent has measured: its status, over HTTP or from a file.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use serde_json::Value;

use crate::spill::config::BLOCK_BYTES;

/// Distance of two looks that tell the rate.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How long an agent may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Longest answer: a few hundred devices.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// What was measured; `None` where the agent has not done it yet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    pub(super) rate_per_s: f64,
    pub(super) spill_bytes_per_sample: Option<f64>,
    pub(super) uplink_bytes_per_sample: Option<f64>,
    pub(super) disk_max_bytes: Option<f64>,
    pub(super) segment_bytes: Option<f64>,
    pub(super) durable_within: Option<Duration>,
    pub(super) flush_after: Option<Duration>,
    /// Queues of the spill, one for each priority.
    pub(super) queues: usize,
}

/// Asks an agent at `http://host:port` twice, or reads a file.
pub(super) fn measured(from: &str) -> Result<Measured, String> {
    let Some(host) = from.strip_prefix("http://") else {
        let text = std::fs::read_to_string(from).map_err(|error| format!("read {from}: {error}"))?;
        return of(&parse(&text, from)?, None).ok_or_else(|| no_status(from));
    };
    let host = host.split('/').next().unwrap_or(host);
    let before = parse(&get(host)?, from)?;
    std::thread::sleep(LOOK_AGAIN_AFTER);
    let now = parse(&get(host)?, from)?;
    of(&now, Some(&before)).ok_or_else(|| no_status(from))
}

fn parse(text: &str, from: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("{} ({error})", no_status(from)))
}

fn no_status(from: &str) -> String {
    format!(
        "{from} is not the status of an agent: name its page, e.g. http://127.0.0.1:8710, or a saved /api/v1/status"
    )
}

/// What a status says, with the rate since `before` or else since the agent's start.
fn of(status: &Value, before: Option<&Value>) -> Option<Measured> {
    let number = |status: &Value, pointer: &str| status.pointer(pointer).and_then(Value::as_f64);
    let since = |pointer| Some(number(status, pointer)? - before.map_or(Some(0.0), |before| number(before, pointer))?);
    let ratio = |bytes: f64, pointer| number(status, pointer).filter(|n| *n > 0.0).map(|samples| bytes / samples);
    let duration = |pointer| number(status, pointer).map(|ms| Duration::from_secs_f64(ms / 1_000.0));
    // Half a block of each commit is not the samples'.
    let padding = number(status, "/spill/commits")? * BLOCK_BYTES as f64 / 2.0;
    let rows = (number(status, "/spill/written_bytes")? - padding).max(0.0);
    Some(Measured {
        rate_per_s: since("/ledger/received")? / since("/uptime_s")?.max(0.001),
        spill_bytes_per_sample: ratio(rows, "/spill/spilled_samples"),
        uplink_bytes_per_sample: number(status, "/store/bytes_written")
            .and_then(|bytes| ratio(bytes, "/store/samples_written")),
        disk_max_bytes: number(status, "/spill/disk_max_bytes"),
        segment_bytes: number(status, "/spill/segment_bytes"),
        durable_within: duration("/deliver/durable_within_ms"),
        flush_after: duration("/deliver/flush_after_ms"),
        queues: status.pointer("/spill/priorities").and_then(Value::as_array).map_or(1, |queues| queues.len().max(1)),
    })
}

/// The agent serves plain HTTP on the loopback, and this is all that is asked of it.
fn get(host: &str) -> Result<String, String> {
    let failed =
        |error: std::io::Error| format!("ask http://{host}: {error}; does the agent run, and [monitor] listen there?");
    let address = host.to_socket_addrs().map_err(failed)?.next();
    let address = address.ok_or_else(|| format!("http://{host} has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN).map_err(failed)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN)).map_err(failed)?;
    write!(stream, "GET /api/v1/status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").map_err(failed)?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).map_err(failed)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split_whitespace().nth(1) == Some("200") => Ok(body.into()),
        _ => Err(format!("http://{host} answers {:?}", answer.lines().next().unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(uptime_s: f64, received: u64) -> Value {
        json!({
            "uptime_s": uptime_s,
            "ledger": {"received": received},
            "sources": [{"devices": [{"car": "44", "device": "ecu"}, {"car": "44", "device": "ecu"}, {"car": "44", "device": "gps"}]}],
            "spill": {"written_bytes": 1_020_480, "commits": 10, "spilled_samples": 100_000, "disk_max_bytes": 4096,
                      "segment_bytes": 1024},
            "store": {"bytes_written": 900, "samples_written": 100},
            "deliver": {"durable_within_ms": 1_000, "flush_after_ms": 200},
        })
    }

    #[test]
    fn a_status_tells_what_the_agent_has_measured_and_two_tell_the_present_rate() {
        let measured = of(&status(10.0, 5_000), None).unwrap();
        assert_eq!(measured.rate_per_s, 500.0);
        assert_eq!(measured.spill_bytes_per_sample, Some(10.0));
        assert_eq!(measured.uplink_bytes_per_sample, Some(9.0));
        assert_eq!(measured.durable_within, Some(Duration::from_secs(1)));
        assert_eq!((measured.disk_max_bytes, measured.segment_bytes), (Some(4_096.0), Some(1_024.0)));
        let later = of(&status(12.0, 8_000), Some(&status(10.0, 5_000))).unwrap();
        assert_eq!(later.rate_per_s, 1_500.0);
    }

    #[test]
    fn what_has_not_been_measured_yet_is_not_made_up() {
        let mut fresh = status(10.0, 0);
        fresh["spill"]["spilled_samples"] = 0.into();
        fresh["store"]["samples_written"] = 0.into();
        let measured = of(&fresh, None).unwrap();
        assert_eq!((measured.spill_bytes_per_sample, measured.uplink_bytes_per_sample), (None, None));
        assert_eq!(of(&json!({"hello": 1}), None), None);
    }
}
