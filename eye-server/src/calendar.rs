//! Bars of time: minutes to months, in a place's own days.

use std::str::FromStr;

use chrono::{
    DateTime, Datelike, Days, FixedOffset, Months, NaiveDate, NaiveDateTime, Offset as _, TimeZone,
    Utc,
};
use chrono_tz::Tz;

/// Where days begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zone {
    /// A place whose clocks may change, by its IANA name.
    Named(Tz),
    /// Always as far from UTC.
    Fixed(FixedOffset),
}

impl Zone {
    /// Reads `Europe/Berlin`, `UTC` or `+02:00`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        // In a query string `+` means a space.
        if let Some(offset) = text.strip_prefix(' ') {
            return Self::parse(&format!("+{offset}"));
        }
        if text.starts_with(['+', '-']) {
            return FixedOffset::from_str(text).ok().map(Self::Fixed);
        }
        Tz::from_str(text).ok().map(Self::Named)
    }

    /// Returns its name.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Named(zone) => zone.name().to_owned(),
            Self::Fixed(offset) => offset.to_string(),
        }
    }

    fn local(self, at: DateTime<Utc>) -> NaiveDateTime {
        match self {
            Self::Named(zone) => at.with_timezone(&zone).naive_local(),
            Self::Fixed(offset) => at.with_timezone(&offset).naive_local(),
        }
    }

    /// Returns how many seconds it is ahead of UTC.
    fn ahead(self, at: DateTime<Utc>) -> i64 {
        let offset = match self {
            Self::Named(zone) => at.with_timezone(&zone).offset().fix(),
            Self::Fixed(offset) => offset,
        };
        offset.local_minus_utc().into()
    }

    /// Returns when a day begins there: where clocks leap over midnight, at the first moment after.
    fn day_begins(self, day: NaiveDate) -> Option<DateTime<Utc>> {
        let midnight = day.and_hms_opt(0, 0, 0)?;
        (0..=24).find_map(|quarters| {
            let local = midnight + chrono::TimeDelta::minutes(15 * quarters);
            match self {
                Self::Named(zone) => zone
                    .from_local_datetime(&local)
                    .earliest()
                    .map(|at| at.to_utc()),
                Self::Fixed(offset) => offset
                    .from_local_datetime(&local)
                    .earliest()
                    .map(|at| at.to_utc()),
            }
        })
    }
}

/// How long a bar is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interval {
    /// So many seconds: less than a day.
    Seconds(i64),
    Days(u32),
    /// From Monday.
    Weeks(u32),
    Months(u32),
}

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// What `auto` chooses from, with about how many seconds each has.
const CHOICES: [(Interval, i64); 22] = [
    (Interval::Seconds(1), 1),
    (Interval::Seconds(5), 5),
    (Interval::Seconds(10), 10),
    (Interval::Seconds(30), 30),
    (Interval::Seconds(MINUTE), MINUTE),
    (Interval::Seconds(5 * MINUTE), 5 * MINUTE),
    (Interval::Seconds(10 * MINUTE), 10 * MINUTE),
    (Interval::Seconds(30 * MINUTE), 30 * MINUTE),
    (Interval::Seconds(HOUR), HOUR),
    (Interval::Seconds(3 * HOUR), 3 * HOUR),
    (Interval::Seconds(6 * HOUR), 6 * HOUR),
    (Interval::Seconds(12 * HOUR), 12 * HOUR),
    (Interval::Days(1), DAY),
    (Interval::Weeks(1), 7 * DAY),
    (Interval::Months(1), 30 * DAY),
    (Interval::Months(3), 91 * DAY),
    (Interval::Months(12), 365 * DAY),
    (Interval::Months(60), 5 * 365 * DAY),
    (Interval::Months(120), 10 * 365 * DAY),
    (Interval::Months(600), 50 * 365 * DAY),
    (Interval::Months(1200), 100 * 365 * DAY),
    (Interval::Months(6000), 500 * 365 * DAY),
];
/// How many bars `auto` makes at most.
const AUTO_BARS: i64 = 60;

impl Interval {
    /// Reads `5m`, `1h`, `1d`, `1w`, `1M`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u32 = text[..digits].parse().ok().filter(|number| *number > 0)?;
        let seconds = |unit: i64| {
            let all = i64::from(number).checked_mul(unit)?;
            // Longer ones are days, which are not always as long.
            (all < DAY || all % DAY != 0).then_some(Self::Seconds(all))
        };
        match &text[digits..] {
            "s" => {
                seconds(1).or_else(|| u32::try_from(i64::from(number) / DAY).ok().map(Self::Days))
            }
            "m" => seconds(MINUTE).or_else(|| {
                u32::try_from(i64::from(number) * MINUTE / DAY)
                    .ok()
                    .map(Self::Days)
            }),
            "h" => seconds(HOUR).or_else(|| {
                u32::try_from(i64::from(number) * HOUR / DAY)
                    .ok()
                    .map(Self::Days)
            }),
            "d" => Some(Self::Days(number)),
            "w" => Some(Self::Weeks(number)),
            "M" => Some(Self::Months(number)),
            _ => None,
        }
    }

    /// Chooses one that makes about sixty bars, at most, of the time between two instants. Unix microseconds.
    pub(crate) fn auto(from: i64, to: i64) -> Self {
        let seconds = to.saturating_sub(from) / 1_000_000;
        let fits = |(_, length): &&(Self, i64)| seconds <= length * AUTO_BARS;
        CHOICES
            .iter()
            .find(fits)
            .map_or(Self::Months(6000), |(interval, _)| *interval)
    }

    /// Returns it as it is written.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Seconds(seconds) if seconds % HOUR == 0 => format!("{}h", seconds / HOUR),
            Self::Seconds(seconds) if seconds % MINUTE == 0 => format!("{}m", seconds / MINUTE),
            Self::Seconds(seconds) => format!("{seconds}s"),
            Self::Days(days) => format!("{days}d"),
            Self::Weeks(weeks) => format!("{weeks}w"),
            Self::Months(months) => format!("{months}M"),
        }
    }

    /// Returns where bars begin, from the one that holds `from` to the end of the one before `to`; `None` where there would be
    /// more than `most`. Unix microseconds.
    pub(crate) fn bounds(self, from: i64, to: i64, zone: Zone, most: usize) -> Option<Vec<i64>> {
        let first = DateTime::from_timestamp_micros(from)?;
        let mut bounds = Vec::new();
        match self {
            Self::Seconds(seconds) => {
                let (length, ahead) = (seconds * 1_000_000, zone.ahead(first) * 1_000_000);
                let start = (from + ahead).div_euclid(length) * length - ahead;
                let bars = to.saturating_sub(start).max(1).div_euclid(length)
                    + i64::from(to.saturating_sub(start).max(1).rem_euclid(length) > 0);
                let bars = usize::try_from(bars).ok().filter(|bars| *bars <= most)?;
                bounds.extend((0..=bars).map(|bar| {
                    start.saturating_add(
                        length.saturating_mul(i64::try_from(bar).unwrap_or(i64::MAX)),
                    )
                }));
            }
            Self::Days(_) | Self::Weeks(_) | Self::Months(_) => {
                let mut day = self.begins(zone.local(first).date())?;
                loop {
                    let at = zone.day_begins(day)?.timestamp_micros();
                    bounds.push(at);
                    if at >= to && bounds.len() > 1 {
                        break;
                    }
                    if bounds.len() > most {
                        return None;
                    }
                    day = match self {
                        Self::Days(days) => day.checked_add_days(Days::new(days.into()))?,
                        Self::Weeks(weeks) => {
                            day.checked_add_days(Days::new(u64::from(weeks) * 7))?
                        }
                        Self::Months(months) => day.checked_add_months(Months::new(months))?,
                        Self::Seconds(_) => return None,
                    };
                }
            }
        }
        Some(bounds)
    }

    /// Returns the day on which the bar begins that holds `day`.
    fn begins(self, day: NaiveDate) -> Option<NaiveDate> {
        match self {
            Self::Seconds(_) | Self::Days(1) => Some(day),
            // Counted from 1970-01-01, and weeks from the Monday before.
            Self::Days(days) => back(day, days, 0),
            Self::Weeks(weeks) => back(day, weeks.checked_mul(7)?, 3),
            Self::Months(months) => {
                let all = day.year() * 12 + i32::try_from(day.month0()).ok()?;
                let first =
                    all.div_euclid(i32::try_from(months).ok()?) * i32::try_from(months).ok()?;
                let month = u32::try_from(first.rem_euclid(12)).ok()? + 1;
                NaiveDate::from_ymd_opt(first.div_euclid(12), month, 1)
            }
        }
    }
}

fn back(day: NaiveDate, length: u32, shift: i64) -> Option<NaiveDate> {
    let since = day
        .signed_duration_since(NaiveDate::from_ymd_opt(1970, 1, 1)?)
        .num_days();
    let into = (since + shift).rem_euclid(length.into());
    day.checked_sub_days(Days::new(into.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> i64 {
        eye_log::parse_timestamp(text, 0).unwrap()
    }

    fn bounds(interval: &str, from: &str, to: &str, zone: &str) -> Vec<String> {
        let zone = Zone::parse(zone).unwrap();
        let bounds = Interval::parse(interval)
            .unwrap()
            .bounds(at(from), at(to), zone, 100);
        bounds
            .unwrap()
            .into_iter()
            .map(|at| eye_log::format_timestamp(at)[..16].to_owned())
            .collect()
    }

    #[test]
    fn days_are_those_of_the_place_also_when_clocks_change() {
        assert_eq!(
            bounds(
                "1d",
                "2021-03-27T12:00:00Z",
                "2021-03-29T00:00:00Z",
                "Europe/Berlin"
            ),
            [
                "2021-03-26T23:00",
                "2021-03-27T23:00",
                "2021-03-28T22:00",
                "2021-03-29T22:00"
            ]
        );
        // In Beirut clocks leap over midnight.
        assert_eq!(
            bounds(
                "1d",
                "2021-03-27T23:00:00Z",
                "2021-03-28T10:00:00Z",
                "Asia/Beirut"
            ),
            ["2021-03-27T22:00", "2021-03-28T21:00"]
        );
    }

    #[test]
    fn weeks_begin_on_monday_and_months_with_their_first_day() {
        // 2021-01-01 was a Friday.
        assert_eq!(
            bounds("1w", "2021-01-01T00:00:00Z", "2021-01-05T00:00:00Z", "UTC"),
            ["2020-12-28T00:00", "2021-01-04T00:00", "2021-01-11T00:00"]
        );
        assert_eq!(
            bounds(
                "1M",
                "2020-12-31T23:30:00Z",
                "2021-02-01T00:00:00Z",
                "+01:00"
            ),
            ["2020-12-31T23:00", "2021-01-31T23:00", "2021-02-28T23:00"]
        );
        assert_eq!(
            bounds("3M", "1969-11-05T00:00:00Z", "1970-01-01T00:00:00Z", "UTC"),
            ["1969-10-01T00:00", "1970-01-01T00:00"]
        );
    }

    #[test]
    fn hours_begin_with_those_of_the_place() {
        assert_eq!(
            bounds(
                "1h",
                "2021-01-01T09:15:00Z",
                "2021-01-01T10:30:00Z",
                "Asia/Kolkata"
            ),
            ["2021-01-01T08:30", "2021-01-01T09:30", "2021-01-01T10:30"]
        );
        assert_eq!(
            bounds("5m", "1960-01-01T00:01:00Z", "1960-01-01T00:01:00Z", "UTC"),
            ["1960-01-01T00:00", "1960-01-01T00:05"]
        );
    }

    #[test]
    fn too_many_bars_are_none_and_auto_makes_few() {
        let (from, to) = (at("0001-01-01T00:00:00Z"), at("9999-12-31T23:59:59Z"));
        let utc = Zone::parse("UTC").unwrap();
        assert_eq!(
            Interval::parse("1m").unwrap().bounds(from, to, utc, 10_000),
            None
        );
        assert_eq!(
            Interval::parse("1d").unwrap().bounds(from, to, utc, 10_000),
            None
        );
        for (from, to) in [
            (from, to),
            (at("2021-01-01T00:00:00Z"), at("2021-01-30T00:00:00Z")),
            (to, to),
        ] {
            let auto = Interval::auto(from, to);
            let bars = auto
                .bounds(from, to, utc, 10_000)
                .map_or(0, |bounds| bounds.len() - 1);
            assert!((1..=62).contains(&bars), "{bars} of {auto:?}");
        }
        for wrong in ["", "0m", "m", "1y", "-1d", "1.5h", "99999999999d"] {
            assert_eq!(Interval::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Interval::parse("24h"), Some(Interval::Days(1)));
        assert_eq!(Interval::parse("1440m"), Some(Interval::Days(1)));
    }
}
