//! The names of states.

use serde::Serialize;

use crate::monitor::status::*;

fn json(value: impl Serialize) -> String {
    serde_json::to_string(&value).unwrap()
}

#[test]
fn names_of_states_are_the_same_in_json_and_in_metrics() {
    for state in SpillState::ALL {
        assert_eq!(json(state), format!("\"{}\"", state.as_str()));
    }
    for state in StoreState::ALL {
        assert_eq!(json(state), format!("\"{}\"", state.as_str()));
    }
    for mode in DeliverMode::ALL {
        assert_eq!(json(mode), format!("\"{}\"", mode.as_str()));
    }
    for (policy, name) in POLICIES {
        assert_eq!(json(policy), format!("\"{name}\""));
    }
}
