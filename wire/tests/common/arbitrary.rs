//! Frames of every kind for property tests.

use pitwire_wire::{
    Burst, ChannelEntry, ClockBase, Describe, DeviceName, Event, EventKind, Header, Payload, Scan, Status, ValueKind,
    Values, encode,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// A payload that owns what it says.
#[derive(Debug, Clone)]
pub(crate) enum Owned {
    Describe(u8, u8, ClockBase, Vec<Channel>),
    BurstI16(u16, u32, Vec<i16>),
    BurstI32(u16, u32, Vec<i32>),
    BurstF32(u16, u32, Vec<u32>),
    Scan(u8, u32, u16, Vec<u8>),
    Event(EventKind, i64, String),
    Status(Status),
}

#[derive(Debug, Clone)]
pub(crate) struct Channel {
    kind: ValueKind,
    group: u8,
    scale: f64,
    offset: f64,
    rate_mhz: u32,
    name: String,
    unit: String,
}

impl Owned {
    /// Lends the payload.
    pub(crate) fn with<R>(&self, f: impl FnOnce(Payload<'_>) -> R) -> R {
        let burst = |channel: u16, period_ns: u32, values| Payload::Burst(Burst { channel, period_ns, values });
        match self {
            Self::Describe(part, parts, clock_base, channels) => {
                let entries: Vec<_> = channels
                    .iter()
                    .enumerate()
                    .map(|(i, c)| ChannelEntry {
                        id: i as u16 * 3,
                        kind: c.kind,
                        group: c.group,
                        scale: c.scale,
                        offset: c.offset,
                        rate_mhz: c.rate_mhz,
                        name: &c.name,
                        unit: &c.unit,
                    })
                    .collect();
                let total = entries.len() as u16 + 5;
                f(Payload::Describe(Describe::new(*part, *parts, *clock_base, total, &entries)))
            }
            Self::BurstI16(c, p, v) => f(burst(*c, *p, Values::I16(v))),
            Self::BurstI32(c, p, v) => f(burst(*c, *p, Values::I32(v))),
            Self::BurstF32(c, p, bits) => {
                let v: Vec<_> = bits.iter().copied().map(f32::from_bits).collect();
                f(burst(*c, *p, Values::F32(&v)))
            }
            Self::Scan(group, period_ns, count, data) => {
                f(Payload::Scan(Scan { group: *group, period_ns: *period_ns, count: *count, data }))
            }
            Self::Event(kind, number, text) => f(Payload::Event(Event { kind: *kind, number: *number, text })),
            Self::Status(status) => f(Payload::Status(*status)),
        }
    }
}

fn value_kind() -> impl Strategy<Value = ValueKind> {
    prop_oneof![Just(ValueKind::I16), Just(ValueKind::I32), Just(ValueKind::F32)]
}

/// `bytes_max` bytes of the characters a name may have, at least one.
fn name(bytes_max: usize) -> impl Strategy<Value = String> {
    let characters: Vec<char> = ('a'..='z').chain('0'..='9').chain("._-".chars()).collect();
    vec(prop::sample::select(characters), 1..=bytes_max).prop_map(|c| c.into_iter().collect())
}

/// UTF-8 of at most `bytes_max` bytes.
fn text(bytes_max: usize) -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..=bytes_max / 4).prop_map(|c| c.into_iter().collect())
}

fn finite() -> impl Strategy<Value = f64> {
    any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |v| v.is_finite())
}

fn channel() -> impl Strategy<Value = Channel> {
    (value_kind(), any::<u8>(), finite(), finite(), any::<u32>(), name(48), text(16)).prop_map(
        |(kind, group, scale, offset, rate_mhz, name, unit)| Channel {
            kind,
            group,
            scale,
            offset,
            rate_mhz,
            name,
            unit,
        },
    )
}

/// Any payload that may be sent.
pub(crate) fn payload() -> impl Strategy<Value = Owned> {
    let period = 1_000..=u32::MAX;
    let describe = (
        0..=u8::MAX - 1,
        any::<u8>(),
        prop_oneof![Just(ClockBase::Utc), Just(ClockBase::Boot)],
        vec(channel(), 0..=30),
    )
        .prop_map(|(part, more, base, channels)| {
            Owned::Describe(part, part.saturating_add(more).max(part + 1), base, channels)
        });
    let i16s =
        (any::<u16>(), period.clone(), vec(any::<i16>(), 0..=2000)).prop_map(|(c, p, v)| Owned::BurstI16(c, p, v));
    let i32s =
        (any::<u16>(), period.clone(), vec(any::<i32>(), 0..=1000)).prop_map(|(c, p, v)| Owned::BurstI32(c, p, v));
    let f32s =
        (any::<u16>(), period.clone(), vec(any::<u32>(), 0..=1000)).prop_map(|(c, p, v)| Owned::BurstF32(c, p, v));
    let scan =
        (1..=u8::MAX, period, 1..=40_u16, 1..=100_usize, any::<u8>()).prop_map(|(group, period, count, row, first)| {
            let bytes = usize::from(count) * row;
            let data = (0..bytes).map(|i| first.wrapping_mul(i as u8)).collect();
            Owned::Scan(group, period, count, data)
        });
    let kind =
        prop_oneof![Just(EventKind::Lap), Just(EventKind::Session), Just(EventKind::Marker), Just(EventKind::Text)];
    let event = (kind, any::<i64>(), text(255)).prop_map(|(k, n, t)| Owned::Event(k, n, t));
    let status = (any::<u64>(), any::<u64>(), any::<u32>()).prop_map(|(a, b, resets)| {
        Owned::Status(Status { samples_before: a.max(b), samples_dropped: a.min(b), resets })
    });
    prop_oneof![describe, i16s, i32s, f32s, scan, event, status]
}

/// Any header; its time leaves room for the longest payload.
pub(crate) fn header() -> impl Strategy<Value = Header> {
    (any::<u32>(), any::<u32>(), any::<u32>(), i64::MIN..=i64::MAX / 2, name(16)).prop_map(
        |(catalogue, boot, sequence, t0_us, device)| Header {
            catalogue,
            boot,
            sequence,
            t0_us,
            device: DeviceName::new(&device).unwrap(),
        },
    )
}

/// A header and payload with the frame they make.
pub(crate) fn frame() -> impl Strategy<Value = (Header, Owned, Vec<u8>)> {
    (header(), payload()).prop_map(|(header, owned)| {
        let mut out = vec![0; pitwire_wire::FRAME_BYTES_MAX];
        let len = owned.with(|payload| encode(&header, &payload, &mut out).unwrap());
        out.truncate(len);
        (header, owned, out)
    })
}
