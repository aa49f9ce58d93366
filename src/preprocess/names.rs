//! The steps and their reasons, as the API and the metrics call them.

use serde::Serialize;

/// A step, in the order in which they apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    /// Repetitions.
    Dedup,
    /// Corrections.
    Calibrate,
    /// Plausibility.
    Validate,
    /// New channels.
    Derive,
    /// Unusual behaviour.
    Anomaly,
    /// Thinning.
    Decimate,
}

impl StepName {
    /// All of them.
    pub(super) const ALL: [Self; 6] =
        [Self::Dedup, Self::Calibrate, Self::Validate, Self::Derive, Self::Anomaly, Self::Decimate];

    /// As the API and the metrics say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dedup => "dedup",
            Self::Calibrate => "calibrate",
            Self::Validate => "validate",
            Self::Derive => "derive",
            Self::Anomaly => "anomaly",
            Self::Decimate => "decimate",
        }
    }
}

/// Why a step did what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Dedup: the same sample came before.
    Duplicate,
    /// Dedup: another value came before with the same time; both are kept.
    Conflict,
    /// Dedup: forgotten before the window's end, as memory was short; if these come again, they count as new.
    Forgotten,
    /// Calibrate: the device's unit cannot be converted; the channel is left as it is.
    UnitUnknown,
    /// Calibrate: outside the points of the table.
    OutsideTable,
    /// Validate: outside the declared range.
    OutOfRange,
    /// Validate, derive: not a number, or infinite.
    NotFinite,
    /// Validate: changed faster than declared possible.
    RateOfChange,
    /// Validate: unchanged for longer than declared possible.
    Stuck,
    /// Validate: the first after samples that never came.
    AfterGap,
    /// Validate: never came; counted, as there is nothing to flag.
    Missing,
    /// Validate: older than the one before it.
    TimeBackwards,
    /// Validate: too far ahead of the gateway's clock.
    TimeAhead,
    /// Validate: too far behind the gateway's clock.
    TimeBehind,
    /// Derive: computed.
    Computed,
    /// Derive: computed when the wait was over, though an input could still have come.
    WaitOver,
    /// Derive: computed early, as too much was held.
    HeldTooMuch,
    /// Derive: computed from an input that has a flag.
    DoubtfulInput,
    /// Derive: not computed, an input has no sample so early.
    MissingInput,
    /// Derive: not computed, an input is too old.
    StaleInput,
    /// Derive: not computed, as the time is not after the one before.
    Late,
    /// Derive: not computed, as the device sends a channel of this name.
    NameTaken,
    /// Decimate: not an n-th.
    Every,
    /// Decimate: nothing that is kept of its window.
    Window,
    /// Decimate: within the band around the last one kept.
    Deadband,
    /// Decimate: a mean, made of a window.
    Mean,
    /// Decimate: thinning began, as the uplink lags.
    LagBegan,
    /// Decimate: thinning ended.
    LagEnded,
    /// Anomaly: far from the level before it.
    Spike,
    /// Anomaly: stands still though it usually moves.
    Flatline,
    /// Anomaly: its level has moved.
    Drift,
    /// Anomaly: comes much slower than usual.
    RateDrop,
    /// Anomaly: a channel stopped while its device goes on; counted once.
    Silence,
    /// Anomaly: an event beyond what a device may have in a minute.
    EventWithheld,
}

impl Reason {
    /// As the API and the metrics say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Conflict => "conflict",
            Self::Forgotten => "forgotten",
            Self::UnitUnknown => "unit_unknown",
            Self::OutsideTable => "outside_table",
            Self::OutOfRange => "out_of_range",
            Self::NotFinite => "not_finite",
            Self::RateOfChange => "rate_of_change",
            Self::Stuck => "stuck",
            Self::AfterGap => "after_gap",
            Self::Missing => "missing",
            Self::TimeBackwards => "time_backwards",
            Self::TimeAhead => "time_ahead",
            Self::TimeBehind => "time_behind",
            Self::Computed => "computed",
            Self::WaitOver => "wait_over",
            Self::HeldTooMuch => "held_too_much",
            Self::DoubtfulInput => "doubtful_input",
            Self::MissingInput => "missing_input",
            Self::StaleInput => "stale_input",
            Self::Late => "late",
            Self::NameTaken => "name_taken",
            Self::Every => "every",
            Self::Window => "window",
            Self::Deadband => "deadband",
            Self::Mean => "mean",
            Self::LagBegan => "lag_began",
            Self::LagEnded => "lag_ended",
            Self::Spike => "spike",
            Self::Flatline => "flatline",
            Self::Drift => "drift",
            Self::RateDrop => "rate_drop",
            Self::Silence => "silence",
            Self::EventWithheld => "event_withheld",
        }
    }
}
