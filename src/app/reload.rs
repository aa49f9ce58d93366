//! A new configuration for a running agent: its steps are exchanged between two batches, or it is refused as a
//! whole and the agent goes on as before.
//!
//! What else a configuration says holds from the start to the end of a process: which ports are open and what
//! lies in the spill cannot change under the data. A file that differs there is refused, naming what needs a
//! restart: half of a file applied would be a configuration that nobody has written.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::{Config, ConfigError};
use crate::preprocess::Swap;
use crate::sample::UnixMicros;

/// The configuration that holds now, and how it came to hold.
pub(super) struct Reload {
    swap: Swap,
    state: Mutex<State>,
}

struct State {
    config: Config,
    shown: Reloads,
}

/// What became of the configurations so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloads {
    /// Configurations that came to hold: 1 from the start.
    pub revision: u64,
    /// When the present one came to hold, UTC µs.
    pub since_us: i64,
    /// Configurations that were refused.
    pub refused: u64,
    /// Why the last one was, if it was: what is wrong, where, and what would be right.
    pub refusal: String,
}

impl Reload {
    pub(super) fn new(config: Config, swap: Swap, now: UnixMicros) -> Self {
        let shown = Reloads { revision: 1, since_us: now.0, ..Reloads::default() };
        Self { swap, state: Mutex::new(State { config, shown }) }
    }

    /// Takes over the steps of `loaded`, and says what changed.
    ///
    /// # Errors
    /// Why it is refused; nothing has changed then.
    pub(super) fn take(&self, loaded: Result<Config, ConfigError>, now: UnixMicros) -> Result<String, String> {
        let mut state = self.lock();
        let outcome = loaded.map_err(|error| error.to_string()).and_then(|config| {
            let fixed = needs_restart(&state.config, &config);
            if !fixed.is_empty() {
                let sections = fixed.join(", ");
                return Err(format!("{sections} changed, which takes a restart; only [preprocess] can be reloaded"));
            }
            self.swap.put(&config.preprocess).map_err(|faults| {
                faults.iter().map(|(key, what)| format!("{key}: {what}")).collect::<Vec<_>>().join("\n")
            })?;
            Ok(config)
        });
        match outcome {
            Ok(config) => {
                let same = config == state.config;
                state.config = config;
                state.shown.revision += 1;
                state.shown.since_us = now.0;
                state.shown.refusal.clear();
                let what = if same { "nothing has changed" } else { "the steps are exchanged before the next batch" };
                Ok(format!("revision {}: {what}", state.shown.revision))
            }
            Err(refusal) => {
                state.shown.refused += 1;
                state.shown.refusal.clone_from(&refusal);
                Err(refusal)
            }
        }
    }

    pub(super) fn shown(&self) -> Reloads {
        self.lock().shown.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys at the top of the file whose values differ and hold for a whole run.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    // Taken apart, so that a section that is added cannot be forgotten here.
    let Config {
        car,
        agent,
        state_dir,
        runtime_dir,
        store,
        spill,
        priority,
        layout,
        quarantine,
        deliver,
        preprocess: _,
        monitor,
        clock,
        source,
    } = old;
    let compared = [
        ("car", *car == new.car),
        ("agent", *agent == new.agent),
        ("state_dir", *state_dir == new.state_dir),
        ("runtime_dir", *runtime_dir == new.runtime_dir),
        ("[store]", *store == new.store),
        ("[spill]", *spill == new.spill),
        ("[priority]", *priority == new.priority),
        ("[layout]", *layout == new.layout),
        ("[quarantine]", *quarantine == new.quarantine),
        ("[deliver]", *deliver == new.deliver),
        ("[monitor]", *monitor == new.monitor),
        ("[clock]", *clock == new.clock),
        ("[[source]]", *source == new.source),
    ];
    compared.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "car = \"44\"\n[[source.serial]]\nname = \"ecu\"\npath = \"/dev/ecu\"\n";

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text).map_err(|faults| ConfigError { path: "pitwire.toml".into(), faults })
    }

    fn reload() -> (Reload, Swap) {
        let swap = Swap::default();
        (Reload::new(parse(GOOD).unwrap(), swap.clone(), UnixMicros(1)), swap)
    }

    #[test]
    fn new_steps_are_taken_over_and_counted_as_a_revision() {
        let (reload, swap) = reload();
        let text = format!("{GOOD}[[preprocess.validate]]\nchannel = \"*\"\nmax = 3\n");
        assert!(reload.take(parse(&text), UnixMicros(2)).unwrap().contains("revision 2"));
        assert!(reload.take(parse(&text), UnixMicros(3)).unwrap().contains("nothing has changed"));
        assert_eq!(reload.shown(), Reloads { revision: 3, since_us: 3, ..Reloads::default() });
        assert_eq!(swap.applied(), 0, "no batch has come yet");
    }

    #[test]
    fn a_faulty_one_is_refused_with_its_line_and_the_next_good_one_clears_that() {
        let (reload, _) = reload();
        let text = format!("{GOOD}[[preprocess.validate]]\nchannel = \"*\"\nmin = 4\nmax = 3\n");
        let refusal = reload.take(parse(&text), UnixMicros(2)).unwrap_err();
        assert!(refusal.contains("pitwire.toml:7: preprocess.validate[0].min"), "{refusal}");
        let shown = reload.shown();
        assert_eq!((shown.revision, shown.refused, shown.refusal), (1, 1, refusal));
        reload.take(parse(GOOD), UnixMicros(3)).unwrap();
        let shown = reload.shown();
        assert_eq!((shown.revision, shown.refused, shown.refusal.as_str()), (2, 1, ""));
    }

    #[test]
    fn what_takes_a_restart_is_named_and_the_steps_beside_it_are_not_taken_over() {
        let (reload, swap) = reload();
        let text = GOOD.replace("/dev/ecu", "/dev/other").replace("44", "45")
            + "[deliver]\ndurable_within = \"2s\"\n[[preprocess.validate]]\nchannel = \"*\"\nmax = 3\n";
        let refusal = reload.take(parse(&text), UnixMicros(2)).unwrap_err();
        assert!(refusal.starts_with("car, [deliver], [[source]] changed, which takes a restart"), "{refusal}");
        assert!(swap.is_empty(), "nothing was handed in");
    }
}
