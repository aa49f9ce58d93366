//! How good a sample is, as flags.

/// Quality flags of a sample; 0 is good. They are or-ed when readers merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Quality(pub u16);

impl Quality {
    /// Nothing to complain about.
    pub const GOOD: Self = Self(0);
    /// Outside the range that the configuration declares for the channel.
    pub const OUT_OF_RANGE: Self = Self(1);
    /// Not a number, or infinite.
    pub const NOT_FINITE: Self = Self(1 << 1);
    /// The sample's time is the gateway's time of receipt: the source sent none.
    pub const RECEIVE_TIME: Self = Self(1 << 2);
    /// Another value exists for the same identity (set by readers).
    pub const CONFLICT: Self = Self(1 << 3);
    /// Its UTC rests on a gateway clock that was not known to be right.
    pub const PROVISIONAL_TIME: Self = Self(1 << 4);
    /// It changed faster than the configuration declares possible.
    pub const RATE_OF_CHANGE: Self = Self(1 << 5);
    /// It has not changed for longer than the configuration declares possible.
    pub const STUCK: Self = Self(1 << 6);
    /// The first of its channel after samples that never came.
    pub const AFTER_GAP: Self = Self(1 << 7);
    /// Its time cannot be: backwards, or far from the gateway's clock.
    pub const IMPLAUSIBLE_TIME: Self = Self(1 << 8);
    /// Anomaly: far outside the channel's recent spread.
    pub const SPIKE: Self = Self(1 << 9);
    /// Anomaly: the channel's level has moved away from its usual one.
    pub const DRIFT: Self = Self(1 << 10);
    /// Anomaly: the channel stands still though it usually moves.
    pub const FLATLINE: Self = Self(1 << 11);
    /// Anomaly: the channel comes much slower than usual.
    pub const RATE_DROP: Self = Self(1 << 12);
    /// Derived from an input that carries a flag of its own.
    pub const DOUBTFUL_INPUT: Self = Self(1 << 13);

    /// Every flag with its name in APIs and on pages.
    pub const NAMES: [(Self, &'static str); 14] = [
        (Self::OUT_OF_RANGE, "out_of_range"),
        (Self::NOT_FINITE, "not_finite"),
        (Self::RECEIVE_TIME, "receive_time"),
        (Self::CONFLICT, "conflict"),
        (Self::PROVISIONAL_TIME, "provisional_time"),
        (Self::RATE_OF_CHANGE, "rate_of_change"),
        (Self::STUCK, "stuck"),
        (Self::AFTER_GAP, "after_gap"),
        (Self::IMPLAUSIBLE_TIME, "implausible_time"),
        (Self::SPIKE, "spike"),
        (Self::DRIFT, "drift"),
        (Self::FLATLINE, "flatline"),
        (Self::RATE_DROP, "rate_drop"),
        (Self::DOUBTFUL_INPUT, "doubtful_input"),
    ];

    /// Both sets of flags.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Quality flags of a column, run-length coded; an empty list means that every sample is good.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flags(Vec<(u32, Quality)>);

impl Flags {
    /// The same flags for `count` samples.
    #[must_use]
    pub fn all(quality: Quality, count: usize) -> Self {
        let mut flags = Self::default();
        if quality != Quality::GOOD {
            flags.push(quality, count, 0);
        }
        flags
    }

    /// The runs as (samples, flags); empty if all are good.
    #[must_use]
    pub fn runs(&self) -> &[(u32, Quality)] {
        &self.0
    }

    /// Appends flags for `count` samples to a column that held `already` samples before.
    pub fn push(&mut self, quality: Quality, count: usize, already: usize) {
        if count == 0 || (self.0.is_empty() && quality == Quality::GOOD) {
            return;
        }
        if self.0.is_empty() && already > 0 {
            self.0.push((u32::try_from(already).unwrap_or(u32::MAX), Quality::GOOD));
        }
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        match self.0.last_mut() {
            Some((run, last)) if *last == quality => *run = run.saturating_add(count),
            _ => self.0.push((count, quality)),
        }
    }

    /// The flags of each of `count` samples.
    pub fn iter(&self, count: usize) -> impl Iterator<Item = Quality> + '_ {
        let runs = self.0.iter().flat_map(|&(run, quality)| std::iter::repeat_n(quality, run as usize));
        runs.chain(std::iter::repeat(Quality::GOOD)).take(count)
    }

    /// All flags that occur, or-ed.
    #[must_use]
    pub fn union(&self) -> Quality {
        self.0.iter().fold(Quality::GOOD, |all, (_, quality)| all.with(*quality))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_is_a_bit_of_its_own_and_documented_with_its_name() {
        let page = include_str!("../../docs/configuration.md");
        let mut seen = 0;
        for (flag, name) in Quality::NAMES {
            assert_eq!((flag.0.count_ones(), seen & flag.0), (1, 0), "{name}");
            seen |= flag.0;
            assert!(page.contains(&format!("| `{name}` | {} |", flag.0)), "{name} is not in docs/configuration.md");
        }
    }

    #[test]
    fn flags_of_good_samples_cost_nothing_and_later_ones_keep_their_place() {
        let mut flags = Flags::default();
        flags.push(Quality::GOOD, 3, 0);
        assert!(flags.runs().is_empty());
        flags.push(Quality::OUT_OF_RANGE, 2, 3);
        flags.push(Quality::GOOD, 1, 5);
        let each: Vec<u16> = flags.iter(7).map(|q| q.0).collect();
        assert_eq!(each, [0, 0, 0, 1, 1, 0, 0]);
        assert_eq!(flags.union(), Quality::OUT_OF_RANGE);
    }
}
