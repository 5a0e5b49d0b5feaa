//! Instants as microseconds since 1970-01-01T00:00:00Z, read and written as the HTTP contract says.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Datelike, SecondsFormat, Utc};

/// Returns the present instant in unix microseconds.
pub fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Reads RFC 3339, or `YYYY-MM-DD HH:MM:SS[.ffffff]` (a space or `T` between) which is taken to be
/// `default_offset_seconds` east of UTC. Digits past microseconds are cut. Years 1 to 9999.
pub fn parse_timestamp(text: &str, default_offset_seconds: i32) -> Option<i64> {
    // A fixed shape first, so that "2021-1-1 9:5:7" and other half-dates are refused alike.
    let bytes = text.as_bytes();
    let shape = bytes.len() >= 19
        && bytes[..19].iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            10 => matches!(byte, b' ' | b'T' | b't'),
            13 | 16 => *byte == b':',
            _ => byte.is_ascii_digit(),
        });
    if !shape {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        bytes[range]
            .iter()
            .fold(0u32, |number, digit| number * 10 + u32::from(digit - b'0'))
    };
    let mut rest = &text[19..];
    let mut micros = 0u32;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        let cut = digits.min(6);
        micros = fraction[..cut].parse::<u32>().ok()? * 10u32.pow(6 - u32::try_from(cut).ok()?);
        rest = &fraction[digits..];
    }
    let offset = offset_seconds(rest, default_offset_seconds)?;
    let year = i32::try_from(number(0..4)).ok()?;
    // RFC 3339 allows a leap second; it is counted as the last microsecond-second of its minute.
    let second = number(17..19);
    if year < 1 || second > 60 {
        return None;
    }
    let date = chrono::NaiveDate::from_ymd_opt(year, number(5..7), number(8..10))?;
    let time = date.and_hms_micro_opt(number(11..13), number(14..16), second.min(59), micros)?;
    let instant = time.and_utc().timestamp_micros() - i64::from(offset) * 1_000_000;
    // An offset is less than a day: only in the first and the last year it can lead out of the range.
    if (2..=9998).contains(&year) {
        return Some(instant);
    }
    let year = DateTime::from_timestamp_micros(instant)?.year();
    (1..=9999).contains(&year).then_some(instant)
}

fn offset_seconds(text: &str, default_offset_seconds: i32) -> Option<i32> {
    match text.as_bytes() {
        [] => Some(default_offset_seconds),
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2]
            if [h1, h2, m1, m2].iter().all(|d| d.is_ascii_digit()) =>
        {
            let hours = i32::from(h1 - b'0') * 10 + i32::from(h2 - b'0');
            let minutes = i32::from(m1 - b'0') * 10 + i32::from(m2 - b'0');
            let seconds = hours * 3600 + minutes * 60;
            (hours < 24 && minutes < 60).then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

/// Writes an instant as RFC 3339 in UTC with six digits: `2021-01-01T09:15:27.243860Z`.
pub fn format_timestamp(instant: i64) -> String {
    DateTime::<Utc>::from_timestamp_micros(instant)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn naive_times_are_utc_unless_told_otherwise() {
        let expected = parse_timestamp("2021-01-01T09:15:27.243860Z", 0).unwrap();
        assert_eq!(
            parse_timestamp("2021-01-01 09:15:27.243860", 0),
            Some(expected)
        );
        assert_eq!(
            parse_timestamp("2021-01-01T10:15:27.2438609", 3600),
            Some(expected)
        );
        assert_eq!(
            parse_timestamp("2021-01-01T11:45:27.24386+02:30", 0),
            Some(expected)
        );
        assert_eq!(format_timestamp(expected), "2021-01-01T09:15:27.243860Z");
        assert_eq!(
            format_timestamp(parse_timestamp("0001-01-01 00:00:00", 0).unwrap()),
            "0001-01-01T00:00:00.000000Z"
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2021-01-01",
            "2021-13-01 00:00:00",
            "2021-02-30 00:00:00",
            "2021-01-01 24:00:00",
            "0000-01-01 00:00:00",
            "2021-01-01 00:00:00.",
            "2021-01-01 00:00:00 Z",
            "2021-01-01 00:00:00+0200",
            "2021-01-01 00:00:61",
            "2021-1-1 0:0:0",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
            "٢٠٢١-01-01 00:00:00",
            "é021-01-01 00:00:00",
        ] {
            assert_eq!(parse_timestamp(text, 0), None, "{text}");
        }
    }
}
