//! What the steps did and why, for whoever looks on.
//!
//! One count for each rule of the configuration and reason, with the last case in words. Bounded: rules are
//! few (`limits::RULES_PER_STEP_MAX`), reasons are an enum, and lines of rules that no longer exist go with them. Deliberately absent: counts per channel.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Reason, StepName};

/// The rule of a step: its channel pattern, or the name of the channel that it makes.
pub type Rule = std::sync::Arc<str>;

/// One line of what the steps did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Deed {
    /// Which step.
    pub step: StepName,
    /// Which of its rules; empty for what holds without one.
    pub rule: String,
    /// Why.
    pub reason: Reason,
    /// Samples concerned.
    pub samples: u64,
    /// The last case, in words; empty where there is nothing to tell.
    pub last: String,
}

type Lines = BTreeMap<(StepName, Rule, Reason), (u64, String)>;

/// Counts of all steps. Shared; its lock is held for one addition.
#[derive(Debug, Default)]
pub struct StepCounts(Mutex<Lines>);

impl StepCounts {
    /// Counts `samples`; `tell` words the last case. Steps call it once for a column, not for a sample.
    pub fn add(&self, step: StepName, rule: &Rule, reason: Reason, samples: u64, tell: impl FnOnce() -> String) {
        if samples == 0 {
            return;
        }
        let mut counts = self.lock();
        let (count, last) = counts.entry((step, rule.clone(), reason)).or_default();
        *count += samples;
        *last = tell();
    }

    /// Forgets the rules that are not among `present`: a configuration that is exchanged often would grow it.
    pub(super) fn keep_rules(&self, present: &std::collections::HashSet<(StepName, Rule)>) {
        self.lock().retain(|(step, rule, _), _| present.contains(&(*step, rule.clone())));
    }

    /// All counts, by step, rule and reason.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Deed> {
        let counts = self.lock();
        let deed = |((step, rule, reason), (samples, last)): (&(StepName, Rule, Reason), &(u64, String))| Deed {
            step: *step,
            rule: rule.to_string(),
            reason: *reason,
            samples: *samples,
            last: last.clone(),
        };
        counts.iter().map(deed).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_counted_by_rule_and_reason_with_the_last_case() {
        let counts = StepCounts::default();
        let rule: Rule = "brake.*".into();
        counts.add(StepName::Validate, &rule, Reason::OutOfRange, 2, || "brake.front 9 bar".into());
        counts.add(StepName::Validate, &rule, Reason::OutOfRange, 1, || "brake.rear -1 bar".into());
        counts.add(StepName::Validate, &rule, Reason::OutOfRange, 0, || "nothing".into());
        let all = counts.snapshot();
        assert_eq!((all.len(), all[0].samples, all[0].last.as_str()), (1, 3, "brake.rear -1 bar"));
        let json = serde_json::to_string(&all[0]).unwrap();
        assert!(json.contains(r#""step":"validate","rule":"brake.*","reason":"out_of_range""#), "{json}");
    }
}
