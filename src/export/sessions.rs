//! A car's sessions and laps, from the events in the store: what a person asks for by number or name instead of a time.
//!
//! A session lasts until the next one begins. A `lap` event says which lap begins; it lasts until the next one of the same
//! device, or as long as its session. Times are those at which the events were placed when they were written.
//!
//! Deliberately absent: laps computed from positions, which is a matter for `[[preprocess.derive]]`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::row::{EventRow, SessionRow};
use crate::store::{Store, StoreError};

/// A lap of a car.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lap {
    /// As the device counts.
    pub number: i64,
    /// Its begin, UTC µs.
    pub from_us: i64,
    /// Its end, UTC µs; absent while nothing tells.
    pub to_us: Option<i64>,
    /// Who counts.
    pub device: String,
}

/// A session of a car.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Session {
    /// As the device counts; absent for what came before any session.
    pub number: Option<i64>,
    /// Its name.
    pub name: String,
    /// Its begin, UTC µs.
    pub from_us: Option<i64>,
    /// Where the next one begins, UTC µs; absent for the last.
    pub to_us: Option<i64>,
    /// By time.
    pub laps: Vec<Lap>,
}

/// Every session of `car` with its laps, by time. Laps before the first session are in one without a number.
///
/// # Errors
/// As the store says.
pub async fn sessions(store: &dyn Store, car: &str) -> Result<Vec<Session>, StoreError> {
    let mut laps = Vec::new();
    for day in store.days(car).await? {
        laps.extend(store.events(car, day).await?.into_iter().filter(|event| event.kind == "lap"));
    }
    Ok(joined(store.sessions(car).await?, laps))
}

fn joined(mut rows: Vec<SessionRow>, mut events: Vec<EventRow>) -> Vec<Session> {
    rows.sort_by_key(|row| row.start);
    events.sort_by(|a, b| (a.t, &a.device, a.number).cmp(&(b.t, &b.device, b.number)));
    let before = Session { number: None, name: String::new(), from_us: None, to_us: None, laps: Vec::new() };
    let mut all = vec![before];
    for SessionRow { start, number, name, .. } in rows {
        if let Some(last) = all.last_mut() {
            last.to_us = Some(start);
        }
        all.push(Session { number: Some(number), name, from_us: Some(start), to_us: None, laps: Vec::new() });
    }
    for session in &mut all {
        // By device, the place of its last lap.
        let mut last: BTreeMap<&str, usize> = BTreeMap::new();
        let within = |t: i64| session.from_us.is_none_or(|from| t >= from) && session.to_us.is_none_or(|to| t < to);
        for event in events.iter().filter(|event| within(event.t)) {
            if let Some(before) = last.insert(&event.device, session.laps.len()) {
                session.laps[before].to_us = Some(event.t);
            }
            let (number, from_us, to_us, device) = (event.number, event.t, session.to_us, event.device.clone());
            session.laps.push(Lap { number, from_us, to_us, device });
        }
    }
    all.retain(|session| session.number.is_some() || !session.laps.is_empty());
    all
}

/// What a person asks for: a session by number or name, a lap by number, or a lap of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Number or name, whatever its case.
    pub session: Option<String>,
    /// Number.
    pub lap: Option<i64>,
}

/// The time of what is wanted, from (UTC µs, included) to (not included); of several the last.
///
/// # Errors
/// In words, if there is none.
pub fn time_of(sessions: &[Session], wanted: &Wanted) -> Result<(Option<i64>, Option<i64>), String> {
    let named = |session: &&Session| {
        wanted.session.as_deref().is_none_or(|text| {
            session.name.to_lowercase() == text.to_lowercase()
                || session.number.is_some_and(|number| number.to_string() == text)
        })
    };
    let found: Vec<&Session> = sessions.iter().filter(named).collect();
    let Some(last) = found.last() else {
        let text = wanted.session.as_deref().unwrap_or_default();
        let known: Vec<String> = sessions.iter().filter_map(|s| Some(format!("{} ({})", s.number?, s.name))).collect();
        return Err(match known.is_empty() {
            true => "the store knows no session of this car".into(),
            false => format!("no session {text:?}; there are: {}", known.join(", ")),
        });
    };
    let Some(number) = wanted.lap else { return Ok((last.from_us, last.to_us)) };
    let laps = || found.iter().flat_map(|session| &session.laps);
    match laps().rfind(|lap| lap.number == number) {
        Some(lap) => Ok((Some(lap.from_us), lap.to_us)),
        None => {
            let (first, last) = (laps().map(|lap| lap.number).min(), laps().map(|lap| lap.number).max());
            let known = first.zip(last).map_or_else(|| "no lap at all".into(), |(a, b)| format!("{a} to {b}"));
            Err(format!("no lap {number}; there are: {known}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(start: i64, number: i64, name: &str) -> SessionRow {
        SessionRow { car: "44".into(), start, number, name: name.into() }
    }

    fn lap(t: i64, number: i64, device: &str) -> EventRow {
        let (car, kind) = ("44".into(), "lap".into());
        EventRow {
            car,
            day: 0,
            t,
            device: device.into(),
            boot: 1,
            sequence: number,
            d: t,
            kind,
            number,
            text: String::new(),
        }
    }

    fn wanted(session: Option<&str>, lap: Option<i64>) -> Wanted {
        Wanted { session: session.map(str::to_owned), lap }
    }

    #[test]
    fn a_lap_lasts_until_the_next_of_its_device_or_as_long_as_its_session() {
        let rows = vec![session(1_000, 2, "Race"), session(100, 1, "Practice")];
        let laps = [(150, 1, "ecu"), (50, 9, "ecu"), (250, 2, "ecu"), (260, 2, "timing"), (1_080, 1, "ecu")];
        let all = joined(rows, laps.map(|(t, number, device)| lap(t, number, device)).to_vec());
        let seen: Vec<_> = all
            .iter()
            .map(|s| {
                let laps: Vec<_> = s.laps.iter().map(|l| (l.number, l.from_us, l.to_us)).collect();
                (s.number, s.from_us, s.to_us, laps)
            })
            .collect();
        assert_eq!(
            seen,
            [
                (None, None, Some(100), vec![(9, 50, Some(100))]),
                (
                    Some(1),
                    Some(100),
                    Some(1_000),
                    vec![(1, 150, Some(250)), (2, 250, Some(1_000)), (2, 260, Some(1_000))]
                ),
                (Some(2), Some(1_000), None, vec![(1, 1_080, None)]),
            ]
        );
        let time = |session, lap| time_of(&all, &wanted(session, lap));
        assert_eq!(time(Some("race"), None), Ok((Some(1_000), None)));
        assert_eq!(time(Some("1"), None), Ok((Some(100), Some(1_000))));
        assert_eq!(time(Some("practice"), Some(1)), Ok((Some(150), Some(250))));
        assert_eq!(time(None, Some(1)), Ok((Some(1_080), None)), "the last one");
        assert_eq!(time(None, Some(9)), Ok((Some(50), Some(100))));
        assert_eq!(time(Some("Q3"), None).unwrap_err(), "no session \"Q3\"; there are: 1 (Practice), 2 (Race)");
        assert_eq!(time(Some("race"), Some(7)).unwrap_err(), "no lap 7; there are: 1 to 1");
        assert_eq!(time_of(&[], &wanted(None, Some(1))).unwrap_err(), "the store knows no session of this car");
    }
}
