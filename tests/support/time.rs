//! Times as the contract writes them: RFC 3339, UTC, microseconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Returns the time now, moved by `seconds`, as `2021-01-01T09:15:27.243860Z`.
pub fn from_now(seconds: i64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    utc(i64::try_from(now.as_micros()).expect("a time of this age") + seconds * 1_000_000)
}

/// Returns a time given in microseconds since 1970 as `2021-01-01T09:15:27.243860Z`.
pub fn utc(microseconds: i64) -> String {
    let (seconds, fraction) = (
        microseconds.div_euclid(1_000_000),
        microseconds.rem_euclid(1_000_000),
    );
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
}

/// Returns the microseconds since 1970 of a time like `2021-01-01T09:15:27.243860Z`, with or without a fraction.
pub fn microseconds(text: &str) -> i64 {
    let number = |range: std::ops::Range<usize>| -> i64 { text[range].parse().expect("digits") };
    let (year, month) = (number(0..4), number(5..7));
    // The days of `civil`, counted the other way.
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + number(8..10) - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + number(11..13) * 3_600 + number(14..16) * 60 + number(17..19);
    let fraction = text[19..].trim_start_matches('.').trim_end_matches('Z');
    seconds * 1_000_000 + format!("{fraction:0<6}").parse::<i64>().expect("digits")
}

/// Howard Hinnant's `civil_from_days`.
fn civil(days_since_1970: i64) -> (i64, i64, i64) {
    let days = days_since_1970 + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Asks `done` every few milliseconds until it says yes, and panics with `what` when `patience` is over.
pub fn wait_until(what: &str, patience: Duration, mut done: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !done() {
        assert!(
            began.elapsed() < patience,
            "waited {patience:?} in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::{microseconds, utc};

    #[test]
    fn known_instants_are_written_as_the_contract_writes_them() {
        assert_eq!(utc(1_609_492_527_243_860), "2021-01-01T09:15:27.243860Z");
        assert_eq!(utc(951_782_400_000_000), "2000-02-29T00:00:00.000000Z");
        assert_eq!(utc(-1), "1969-12-31T23:59:59.999999Z");
        for instant in [
            0,
            -1,
            1_609_492_527_243_860,
            951_782_400_000_000,
            -62_135_596_800_000_000,
        ] {
            assert_eq!(microseconds(&utc(instant)), instant);
        }
        assert_eq!(microseconds("1970-01-01T00:00:01.5Z"), 1_500_000);
    }
}
