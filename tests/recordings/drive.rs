//! A recording through the stage, as a device would send it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pitwire::item::{Batch, Item};
use pitwire::ledger::{Fate, Ledger};
use pitwire::pipeline::Stage as _;
use pitwire::preprocess::{Config, Preprocess, Setup, Swap};
use pitwire::receipt::{Custody, Receipt};
use pitwire::sample::{
    ChannelMeta, ClockBase, Column, Flags, Origin, Quality, Scaling, Times, UnixMicros, ValueKind, Values,
};

use crate::read::Recording;

/// What comes at once, µs.
pub(crate) const BATCH_US: i64 = 200_000;

/// A stretch of samples with one flag.
#[derive(Debug, Clone)]
pub(crate) struct Episode {
    pub(crate) channel: String,
    pub(crate) quality: Quality,
    /// µs, of its first and last sample.
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) samples: u64,
    pub(crate) value: f64,
}

/// What the step said to a recording.
pub(crate) struct Verdicts {
    pub(crate) episodes: Vec<Episode>,
    /// Device time and text.
    pub(crate) events: Vec<(i64, String)>,
    /// Of the stage alone.
    pub(crate) took: Duration,
    pub(crate) samples: u64,
}

impl Verdicts {
    pub(crate) fn of(&self, quality: Quality) -> impl Iterator<Item = &Episode> {
        self.episodes.iter().filter(move |episode| episode.quality == quality)
    }
}

/// `recording` in batches of `batch_us` through a stage with the steps of `config`.
pub(crate) fn drive(recording: &Recording, config: &str, batch_us: i64) -> Verdicts {
    let config: Config = toml::from_str(config).expect("a configuration");
    assert!(config.faults().is_empty());
    let ledger = Ledger::new();
    let setup = Setup { ledger: ledger.clone(), counts: Arc::default(), lag: Arc::new(|| Duration::ZERO) };
    let mut stage = Preprocess::new(&config, setup, Swap::default());
    let origin = Arc::new(Origin { car: "44".into(), device: "logger".into(), boot: 1, base: ClockBase::Boot });
    let describe = |name: &str| {
        let (name, unit, kind, scaling) = (name.into(), "".into(), ValueKind::F64, Scaling::IDENTITY);
        Arc::new(ChannelMeta { name, unit, kind, scaling, rate_mhz: 0, derived: false })
    };
    let metas: Vec<_> = recording.channels.iter().map(|channel| describe(&channel.name)).collect();
    let mut at = vec![0; metas.len()];
    let mut verdicts = Verdicts { episodes: Vec::new(), events: Vec::new(), took: Duration::ZERO, samples: 0 };
    let mut open = BTreeMap::new();
    let starts = recording.channels.iter().filter_map(|channel| channel.times.first());
    let mut until = starts.min().copied().unwrap_or(0);
    while recording.channels.iter().zip(&at).any(|(channel, &at)| at < channel.times.len()) {
        until += batch_us;
        let mut columns = Vec::new();
        for ((channel, at), meta) in recording.channels.iter().zip(&mut at).zip(&metas) {
            let from = *at;
            *at += channel.times[from..].iter().take_while(|t| **t < until).count();
            if *at > from {
                let times = Times::Explicit(channel.times[from..*at].to_vec());
                let values = Values::F64(channel.values[from..*at].to_vec());
                columns.push(Column { channel: meta.clone(), times, values, flags: Flags::default() });
            }
        }
        let samples = columns.iter().map(|column| column.len() as u64).sum();
        verdicts.samples += samples;
        let tally = ledger.receive(ledger.source("s"), samples);
        let custody = Custody { receipt: Receipt::none(), tally };
        let (accepted_at, received) = (Instant::now(), UnixMicros(0));
        let (mut out, began) = (Vec::new(), Instant::now());
        stage.process(Item::Batch(Batch { origin: origin.clone(), columns, accepted_at, received, custody }), &mut out);
        verdicts.took += began.elapsed();
        for item in out {
            match item {
                Item::Batch(batch) => {
                    batch.columns.iter().for_each(|column| episodes(column, &mut open, &mut verdicts.episodes));
                    batch.custody.tally.settle(Fate::Stored);
                }
                Item::Event(event) => {
                    verdicts.events.push((event.t.0, event.text));
                    event.receipt.settle();
                }
                other => panic!("{other:?}"),
            }
        }
    }
    verdicts
}

fn episodes(column: &Column, open: &mut BTreeMap<(String, u16), Option<usize>>, episodes: &mut Vec<Episode>) {
    let count = column.len();
    for (index, flags) in column.flags.iter(count).enumerate() {
        for quality in [Quality::SPIKE, Quality::FLATLINE, Quality::DRIFT, Quality::RATE_DROP] {
            if column.flags.runs().is_empty() && open.is_empty() {
                continue;
            }
            let slot = open.entry((column.channel.name.to_string(), quality.0)).or_default();
            if flags.0 & quality.0 == 0 {
                *slot = None;
                continue;
            }
            let (channel, t, value) = (column.channel.name.to_string(), column.times.at(index), column.physical(index));
            let at = *slot.get_or_insert_with(|| {
                episodes.push(Episode { channel, quality, from: t, to: t, samples: 0, value });
                episodes.len() - 1
            });
            episodes[at].to = t;
            episodes[at].samples += 1;
        }
    }
}
