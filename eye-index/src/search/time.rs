//! Times as people write them in a query. A date alone is its whole day; with a time of day it is one instant.

use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta};

use super::query::TimeRange;

/// Reads `YYYY-MM-DD`, alone or with `HH:MM[:SS[.f]]` after a space or `T` and then perhaps `Z` or `+HH:MM`; without an
/// offset it is UTC. Digits beyond microseconds are dropped. `None` for anything else and outside years 0 to 9999.
pub(super) fn parse_time(text: &str) -> Option<TimeRange> {
    let mut rest = text;
    let (year, month, day) = (
        digits(&mut rest, 4)?,
        literal(&mut rest, "-", 2)?,
        literal(&mut rest, "-", 2)?,
    );
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    let midnight = date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros();
    if rest.is_empty() {
        return Some(TimeRange {
            start: Some(midnight),
            end: Some(midnight + DAY),
        });
    }
    rest = rest.strip_prefix(['T', 't', ' '])?;
    let (hour, minute) = (digits(&mut rest, 2)?, literal(&mut rest, ":", 2)?);
    let (mut second, mut micros) = (0, 0);
    if rest.starts_with(':') {
        second = literal(&mut rest, ":", 2)?;
        if let Some(fraction) = rest.strip_prefix('.') {
            let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
            micros = format!(
                "{:0<6.6}",
                fraction.get(..length).filter(|digits| !digits.is_empty())?
            )
            .parse()
            .ok()?;
            rest = &fraction[length..];
        }
    }
    // RFC 3339 allows second 60, a leap second; it counts as the second after.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let local = midnight
        + (i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second)) * SECOND
        + micros;
    let instant = local - offset_seconds(rest)? * SECOND;
    (EARLIEST..=LATEST).contains(&instant).then_some(TimeRange {
        start: Some(instant),
        end: Some(instant + 1),
    })
}

/// Writes an instant as a query takes it, in quotes; outside the years that can be written, the nearest that can.
pub(super) fn write_time(micros: i64) -> String {
    let time = DateTime::UNIX_EPOCH + TimeDelta::microseconds(micros.clamp(EARLIEST, LATEST));
    format!("\"{}\"", time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// 0000-01-01T00:00:00Z.
const EARLIEST: i64 = -62_167_219_200 * SECOND;
/// 9999-12-31T23:59:59.999999Z.
pub(super) const LATEST: i64 = 253_402_300_800 * SECOND - 1;

fn digits(rest: &mut &str, count: usize) -> Option<u32> {
    let (number, after) = rest.split_at_checked(count)?;
    *rest = after;
    number
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| number.parse().ok())?
}

fn literal(rest: &mut &str, prefix: &str, count: usize) -> Option<u32> {
    *rest = rest.strip_prefix(prefix)?;
    digits(rest, count)
}

fn offset_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "Z" | "z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let mut rest = zone.strip_prefix(['+', '-'])?;
    let (hours, minutes) = (digits(&mut rest, 2)?, literal(&mut rest, ":", 2)?);
    (rest.is_empty() && hours < 24 && minutes < 60)
        .then(|| sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW_YEAR: i64 = 1_609_459_200 * SECOND;

    fn instant(text: &str) -> Option<i64> {
        let range = parse_time(text)?;
        assert_eq!(
            range.end,
            range.start.map(|start| start + 1),
            "{text} is one instant"
        );
        range.start
    }

    #[test]
    fn a_date_is_its_whole_day() {
        assert_eq!(
            parse_time("2021-01-01"),
            Some(TimeRange {
                start: Some(NEW_YEAR),
                end: Some(NEW_YEAR + DAY)
            })
        );
    }

    #[test]
    fn a_time_is_an_instant_however_it_is_written() {
        for text in [
            "2021-01-01T00:00:00Z",
            "2021-01-01 00:00",
            "2021-01-01T00:00:00",
            "2021-01-01 00:00:00.000",
            "2021-01-01t01:00:00+01:00",
            "2020-12-31T18:30:00-05:30",
            "2020-12-31T23:59:60Z",
        ] {
            assert_eq!(instant(text), Some(NEW_YEAR), "{text}");
        }
        assert_eq!(instant("2021-01-01 00:00:00.5"), Some(NEW_YEAR + 500_000));
        assert_eq!(
            instant("2021-01-01T00:00:00.123456789Z"),
            Some(NEW_YEAR + 123_456)
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2021",
            "2021-1-1",
            "2021-02-29",
            "2021-13-01",
            "2021-01-01T",
            "2021-01-01T24:00",
            "2021-01-01T10",
            "2021-01-01 10:60",
            "2021-01-01T10:00:61Z",
            "2021-01-01T10:00:00.Z",
            "2021-01-01T10:00:00+0100",
            "2021-01-01T10:00:00 Z",
            "+021-01-01",
            "２０２１-01-01",
            "0000-01-01T00:00:00+01:00",
            "now-1h",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for micros in [NEW_YEAR, NEW_YEAR - 1, EARLIEST, LATEST] {
            assert_eq!(instant(write_time(micros).trim_matches('"')), Some(micros));
        }
    }
}
