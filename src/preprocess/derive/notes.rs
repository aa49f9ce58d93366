//! What was done about one column of times, and why.

use super::{ChannelId, Entry, Plan};
use crate::preprocess::{Reason, StepCounts, StepName};

/// The names of the channels, by their ids.
pub(super) fn names(plan: &Plan) -> Vec<&str> {
    let mut names = vec![""; plan.channels.len()];
    plan.channels.iter().for_each(|(name, &id)| names[id] = name);
    names
}

/// What is counted of one column, with the last case of each reason.
#[derive(Default)]
pub(super) struct Notes(Vec<Note>);

struct Note {
    reason: Reason,
    samples: u64,
    t: i64,
    input: ChannelId,
    us: i64,
}

impl Notes {
    pub(super) fn note(&mut self, reason: Reason, t: i64, input: ChannelId, us: i64) {
        match self.0.iter_mut().find(|note| note.reason == reason) {
            Some(note) => (note.samples, note.t, note.input, note.us) = (note.samples + 1, t, input, us),
            None => self.0.push(Note { reason, samples: 1, t, input, us }),
        }
    }

    pub(super) fn count(self, entry: &Entry, plan: &Plan, counts: &StepCounts) {
        for Note { reason, samples, t, input, us } in self.0 {
            let tell = || {
                let input = names(plan)[input];
                match reason {
                    Reason::MissingInput => format!("at {t} µs: no `{input}` so early"),
                    Reason::StaleInput => format!("at {t} µs: the last `{input}` is {us} µs old"),
                    Reason::DoubtfulInput => format!("at {t} µs: `{input}` has a flag"),
                    Reason::Late => format!("at {t} µs: after {us} µs was computed"),
                    _ => format!("at {t} µs"),
                }
            };
            counts.add(StepName::Derive, &entry.rule, reason, samples, tell);
        }
    }
}
