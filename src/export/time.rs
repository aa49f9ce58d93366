//! Times as people write them, and as files hold them.

use std::time::UNIX_EPOCH;

use crate::sample::UnixMicros;

/// Why a text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "time `{text}` is not understood ({reason}); write 2026-05-01T14:03:00Z, µs since 1970, or -10m for ten minutes ago"
)]
pub struct TimeError {
    text: String,
    reason: String,
}

/// A time as RFC 3339 (`2026-05-01T14:03:00.5Z`, `…+02:00`; without a zone it is UTC), as µs since 1970,
/// or relative to `now` (`-10m`, `-1h 30s`).
///
/// # Errors
/// If it is none of them, with what is wrong.
pub fn parse_time(text: &str, now: UnixMicros) -> Result<UnixMicros, TimeError> {
    let trimmed = text.trim();
    let wrong = |reason: String| TimeError { text: text.to_owned(), reason };
    if let Some(ago) = trimmed.strip_prefix('-')
        && ago.contains(|c: char| c.is_ascii_alphabetic())
    {
        let ago = humantime::parse_duration(ago).map_err(|error| wrong(error.to_string()))?;
        let ago = i64::try_from(ago.as_micros()).ok().and_then(|ago| now.0.checked_sub(ago));
        return ago.map(UnixMicros).ok_or_else(|| wrong("too long ago".into()));
    }
    if trimmed.strip_prefix('-').unwrap_or(trimmed).bytes().all(|b| b.is_ascii_digit()) {
        return trimmed.parse().map(UnixMicros).map_err(|error| wrong(error.to_string()));
    }
    let (date, ahead_us) = split_zone(trimmed).ok_or_else(|| wrong("its zone is not ±HH:MM".into()))?;
    let time = humantime::parse_rfc3339_weak(date).map_err(|error| wrong(error.to_string()))?;
    let us = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).ok(),
        Err(before) => i64::try_from(before.duration().as_micros()).ok().map(|us| -us),
    };
    us.and_then(|us| us.checked_sub(ahead_us)).map(UnixMicros).ok_or_else(|| wrong("out of range".into()))
}

/// The text without its zone, and by how many µs the zone is ahead of UTC.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    // Only after the time of day is `-` a zone's sign.
    let Some(clock) = text.find(['T', 't', ' ']) else { return Some((text, 0)) };
    let Some(sign) = text[clock..].find(['+', '-']).map(|at| at + clock) else {
        return Some((text.strip_suffix('z').unwrap_or(text), 0));
    };
    let (hours, minutes) = text[sign + 1..].split_once(':')?;
    let two = |digits: &str| (digits.len() == 2).then(|| digits.parse::<u8>().ok()).flatten();
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    let ahead_us = (i64::from(hours) * 3600 + i64::from(minutes) * 60) * 1_000_000;
    (hours < 24 && minutes < 60)
        .then(|| (&text[..sign], if text[sign..].starts_with('-') { -ahead_us } else { ahead_us }))
}

/// A time as RFC 3339 with µs, in UTC: `2026-05-01T14:03:00.000000Z`.
#[must_use]
pub fn time_text(t_us: i64) -> String {
    let mut out = Vec::new();
    Rfc3339::default().write(t_us, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Writes times as RFC 3339 with µs, keeping the second that consecutive samples share.
#[derive(Debug, Default)]
pub(super) struct Rfc3339 {
    second: Option<i64>,
    /// `2026-05-01T14:03:00.`
    text: String,
}

impl Rfc3339 {
    pub(super) fn write(&mut self, t_us: i64, out: &mut Vec<u8>) {
        let second = t_us.div_euclid(1_000_000);
        if self.second != Some(second) {
            self.second = Some(second);
            let (year, month, day) = civil(second.div_euclid(86_400));
            let of_day = second.rem_euclid(86_400);
            let (h, m, s) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
            self.text = format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.");
        }
        out.extend_from_slice(self.text.as_bytes());
        let mut us = t_us.rem_euclid(1_000_000);
        let mut digits = *b"000000Z";
        for digit in digits[..6].iter_mut().rev() {
            *digit = b'0' + (us % 10) as u8;
            us /= 10;
        }
        out.extend_from_slice(&digits);
    }
}

/// Year, month and day of a day since 1970: the calendar repeats every 400 years (146,097 days), and years
/// are counted from March, so that the leap day is the last.
fn civil(days: i64) -> (i64, i64, i64) {
    let from_march_of_0 = days + 719_468;
    let era = from_march_of_0.div_euclid(146_097);
    let day_of_era = from_march_of_0.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMicros = UnixMicros(1_777_644_180_000_000);

    #[test]
    fn times_are_understood_in_every_form_that_is_documented() {
        for (given, expected) in [
            ("2026-05-01T14:03:00Z", NOW.0),
            ("2026-05-01T14:03:00.000001Z", NOW.0 + 1),
            ("2026-05-01 14:03:00", NOW.0),
            ("2026-05-01T16:03:00+02:00", NOW.0),
            ("2026-05-01T09:33:00-04:30", NOW.0),
            ("1777644180000000", NOW.0),
            ("0", 0),
            ("-5", -5),
            ("-10m", NOW.0 - 600_000_000),
            ("-1h 30s", NOW.0 - 3_630_000_000),
        ] {
            assert_eq!(parse_time(given, NOW), Ok(UnixMicros(expected)), "{given}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_to_write() {
        for given in [
            "",
            "yesterday",
            "10m",
            "-10 parsecs",
            "2026-13-01T00:00:00Z",
            "2026-05-01T00:00:00+2",
            "9".repeat(30).as_str(),
        ] {
            let error = parse_time(given, NOW).unwrap_err().to_string();
            assert!(error.contains(&format!("`{given}`")) && error.contains("write 2026-05-01"), "{error}");
        }
    }

    #[test]
    fn microseconds_are_written_as_rfc_3339() {
        assert_eq!(time_text(NOW.0 + 42), "2026-05-01T14:03:00.000042Z");
        assert_eq!(time_text(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(time_text(951_782_400_000_000), "2000-02-29T00:00:00.000000Z");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(t_us in 0i64..200_000_000_000_000_000) {
            prop_assert_eq!(parse_time(&time_text(t_us), NOW), Ok(UnixMicros(t_us)));
        }
    }
}
