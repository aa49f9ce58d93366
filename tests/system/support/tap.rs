//! A wire to a broker that writes down what passes, and can be cut.
//!
//! What a side sends is written down before the other side gets it: so no acknowledgement stands there before its
//! message, and what stands there may have left.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::signal;

/// What passed, by connection.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// A message at QoS 1, to the client.
    Publish { connection: usize, id: u16, payload: Vec<u8> },
    /// Its acknowledgement.
    Puback { connection: usize, id: u16 },
}

/// What a record says of acknowledgements.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// Messages that were sent to the client, repetitions too.
    pub(crate) messages: usize,
    /// What the acknowledged ones held.
    pub(crate) acknowledged: Vec<Vec<u8>>,
    /// Acknowledgements of nothing that the same connection brought: which, and what it had brought.
    pub(crate) stale: Vec<String>,
    /// Acknowledgements before that of an earlier message.
    pub(crate) out_of_order: usize,
}

impl Judged {
    /// Each acknowledgement was of what its connection had brought, in the order of the messages.
    #[track_caller]
    pub(crate) fn assert_in_order(&self) {
        assert!(self.stale.is_empty() && self.out_of_order == 0, "{self}; stale: {:?}", self.stale);
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, acknowledged, stale, out_of_order } = self;
        let (acknowledged, stale) = (acknowledged.len(), stale.len());
        write!(
            f,
            "{messages} sent to the agent, {acknowledged} acknowledged, {stale} stale, {out_of_order} out of order"
        )
    }
}

/// Ends a process when so many acknowledgements have passed.
struct Trap {
    pid: u32,
    left: usize,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    streams: Mutex<Vec<TcpStream>>,
    trap: Mutex<Option<Trap>>,
    ended: AtomicBool,
}

/// One connection.
#[derive(Default)]
struct Link {
    connection: usize,
    /// The protocol's level: 4 is 3.1.1.
    level: AtomicU8,
    window: usize,
    outstanding: AtomicUsize,
}

pub(crate) struct Tap {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Tap {
    pub(crate) fn to(port: u16) -> Self {
        Self::with_window(port, usize::MAX)
    }

    /// One that lets no more than `window` messages through ahead of their acknowledgements: a mosquitto does not
    /// always keep to its own.
    pub(crate) fn with_window(port: u16, window: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::<Shared>::default());
        let all = shared.clone();
        std::thread::spawn(move || {
            for (connection, near) in listener.incoming().enumerate() {
                if all.ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(near) = near else { continue };
                // A broker that is away: the client sees its connection end.
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                all.streams.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                let link = Arc::new(Link { connection, window, ..Link::default() });
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let (all, link) = (all.clone(), link.clone());
                    std::thread::spawn(move || pump(from, to, &all, &link));
                }
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Kills `pid` outright at the acknowledgement after so many.
    pub(crate) fn kill_after(&self, acknowledgements: usize, pid: u32) {
        *self.shared.trap.lock().unwrap() = Some(Trap { pid, left: acknowledgements });
    }

    /// Whether that has happened.
    pub(crate) fn has_killed(&self) -> bool {
        self.shared.trap.lock().unwrap().is_none()
    }

    pub(crate) fn judge(&self) -> Judged {
        let mut outstanding: HashMap<usize, VecDeque<(u16, Vec<u8>)>> = HashMap::new();
        let mut judged = Judged::default();
        for seen in self.shared.seen.lock().unwrap().iter().cloned() {
            match seen {
                Seen::Publish { connection, id, payload } => {
                    judged.messages += 1;
                    outstanding.entry(connection).or_default().push_back((id, payload));
                }
                Seen::Puback { connection, id } => {
                    let waiting = outstanding.entry(connection).or_default();
                    match waiting.iter().position(|(waits, _)| *waits == id) {
                        None => judged.stale.push(format!("{id} on {connection}, waiting there: {waiting:?}")),
                        Some(place) => {
                            judged.out_of_order += usize::from(place > 0);
                            judged.acknowledged.extend(waiting.remove(place).map(|(_, payload)| payload));
                        }
                    }
                }
            }
        }
        judged
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.cut();
        let _ = TcpStream::connect(self.address);
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, shared: &Shared, link: &Link) {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..count]);
        while let Some((packet, head_bytes)) = take_packet(&mut bytes) {
            note(&packet, head_bytes, shared, link);
            // What the client sends may have left, also if nobody takes it: it is written down to its end.
            let _ = to.write_all(&packet);
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn note(packet: &[u8], head_bytes: usize, shared: &Shared, link: &Link) {
    let body = &packet[head_bytes..];
    if packet[0] >> 4 == 1 {
        // CONNECT: after the name of the protocol comes its level.
        link.level.store(body[6], Ordering::SeqCst);
    }
    let Some(seen) = understand(link.connection, packet[0], body, link.level.load(Ordering::SeqCst)) else { return };
    let is_ack = matches!(seen, Seen::Puback { .. });
    if is_ack {
        let _ = link.outstanding.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |all| all.checked_sub(1));
    } else {
        while link.outstanding.load(Ordering::SeqCst) >= link.window && !shared.ended.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_micros(100));
        }
        link.outstanding.fetch_add(1, Ordering::SeqCst);
    }
    shared.seen.lock().unwrap().push(seen);
    if is_ack {
        spring(&mut shared.trap.lock().unwrap());
    }
}

fn spring(trap: &mut Option<Trap>) {
    if let Some(Trap { pid, left }) = trap {
        if *left > 0 {
            *left -= 1;
            return;
        }
        signal("KILL", *pid);
        *trap = None;
    }
}

/// A packet, once it is complete, and where its body begins.
fn take_packet(bytes: &mut Vec<u8>) -> Option<(Vec<u8>, usize)> {
    let (length, digits) = number(bytes.get(1..)?)?;
    let end = 1 + digits + length;
    (bytes.len() >= end).then(|| (bytes.drain(..end).collect(), 1 + digits))
}

/// A number of variable length, and how many bytes it took.
fn number(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

fn understand(connection: usize, head: u8, body: &[u8], level: u8) -> Option<Seen> {
    let word = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    match head >> 4 {
        3 if (head >> 1) & 3 == 1 => {
            let after_topic = 2 + usize::from(word(0));
            let properties = after_topic + 2;
            let skipped =
                if level == 5 { number(&body[properties..]).map_or(0, |(length, digits)| length + digits) } else { 0 };
            let payload = body[properties + skipped..].to_vec();
            Some(Seen::Publish { connection, id: word(after_topic), payload })
        }
        4 => Some(Seen::Puback { connection, id: word(0) }),
        _ => None,
    }
}
