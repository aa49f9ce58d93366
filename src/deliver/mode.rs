//! Which way the data takes: told by two facts, and nothing else. Pure.

use super::link::LinkState;

/// What delivery does; the drawing stands in the module's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Straight to the store.
    #[default]
    Direct,
    /// To the spill: the store does not take writes.
    Spilling,
    /// To the store, and the backlog as well.
    Draining,
}

impl Mode {
    /// As the API and the table `agents` say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Spilling => "spilling",
            Self::Draining => "draining",
        }
    }
}

/// The mode while the uplink is in `link` and the spill has a `backlog` that can be written, or none.
#[must_use]
pub const fn mode(link: LinkState, backlog: bool) -> Mode {
    match (link, backlog) {
        (LinkState::Up, false) => Mode::Direct,
        (LinkState::Up, true) => Mode::Draining,
        (LinkState::Connecting | LinkState::Stalled | LinkState::Down | LinkState::Holding, _) => Mode::Spilling,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_of_facts_has_its_mode() {
        let table = [
            (LinkState::Up, false, Mode::Direct),
            (LinkState::Up, true, Mode::Draining),
            (LinkState::Connecting, false, Mode::Spilling),
            (LinkState::Connecting, true, Mode::Spilling),
            (LinkState::Stalled, false, Mode::Spilling),
            (LinkState::Stalled, true, Mode::Spilling),
            (LinkState::Down, false, Mode::Spilling),
            (LinkState::Down, true, Mode::Spilling),
            (LinkState::Holding, false, Mode::Spilling),
            (LinkState::Holding, true, Mode::Spilling),
        ];
        for (link, backlog, expected) in table {
            assert_eq!(mode(link, backlog), expected, "{link:?}, backlog {backlog}");
        }
    }
}
