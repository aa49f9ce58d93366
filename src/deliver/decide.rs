//! What to do about a store's error: decided here, done elsewhere.

use std::time::Duration;

use crate::store::StoreError;

/// Shortest pause before the store is asked again.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(50);
/// Longest pause: an outage that ends is noticed within it.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(2);
/// Pause while a person has to act.
const HOLD_FOR: Duration = Duration::from_secs(5);

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Ask again after this pause, for ever.
    Retry(Duration),
    /// A person has to act; ask again after this pause. Nothing is dropped.
    Hold(Duration),
    /// These rows can never be stored: find the guilty ones and quarantine them.
    Poison,
}

/// What to do after `error`, the `attempt`-th in a row (from 0). `jitter` is a random number in 0..1, so
/// that many agents do not come back at the same moment.
#[must_use]
pub fn decide(error: &StoreError, attempt: u32, jitter: f64) -> Decision {
    match error {
        StoreError::Unavailable { .. } => Decision::Retry(backoff(attempt, jitter)),
        StoreError::Hold { .. } => Decision::Hold(HOLD_FOR),
        StoreError::Rejected { .. } => Decision::Poison,
    }
}

/// The pause before the `attempt`-th retry (from 0): doubled each time up to 2 s, and by `jitter` up to a
/// half shorter.
#[must_use]
pub fn backoff(attempt: u32, jitter: f64) -> Duration {
    let doubled = RETRY_AFTER_MIN.saturating_mul(1 << attempt.min(16)).min(RETRY_AFTER_MAX);
    doubled.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_decision() {
        let unavailable = StoreError::Unavailable { what: "write".into(), reason: "timed out".into() };
        let hold = StoreError::Hold { reason: "no table".into(), remedy: "apply".into() };
        let rejected = StoreError::Rejected { reason: "too large".into() };
        let ms = Duration::from_millis;
        let table = [
            (&unavailable, 0, 1.0, Decision::Retry(ms(50))),
            (&unavailable, 0, 0.0, Decision::Retry(ms(25))),
            (&unavailable, 3, 1.0, Decision::Retry(ms(400))),
            (&unavailable, 99, 1.0, Decision::Retry(ms(2000))),
            (&hold, 0, 0.5, Decision::Hold(ms(5000))),
            (&hold, 99, 0.5, Decision::Hold(ms(5000))),
            (&rejected, 0, 0.5, Decision::Poison),
        ];
        for (error, attempt, jitter, expected) in table {
            assert_eq!(decide(error, attempt, jitter), expected, "{error} attempt {attempt}");
        }
    }
}
