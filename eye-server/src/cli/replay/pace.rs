//! How fast events are replayed.

use std::time::Duration;

/// A request holds at most the events of so long a time, so that pace shows between requests and not only over many.
const IN_ONE_REQUEST: Duration = Duration::from_millis(200);

/// Says when an event is due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// As fast as it goes.
    Unbound,
    /// So many a second.
    Rate(f64),
    /// As they arrived, so many times as fast.
    Speed(f64),
}

impl Pace {
    /// Returns when an event is due, from the start of the run: the `number`th of it, which arrived `arrived`
    /// microseconds after the first.
    pub(super) fn due(self, number: u64, arrived: i64) -> Duration {
        let seconds = match self {
            Pace::Unbound => 0.0,
            Pace::Rate(rate) => number as f64 / rate,
            Pace::Speed(speed) => arrived.max(0) as f64 / 1e6 / speed,
        };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Says whether an event due at `due` belongs into another request than one due at `first`.
    pub(super) fn parts(self, first: Duration, due: Duration) -> bool {
        due.saturating_sub(first) >= IN_ONE_REQUEST
    }
}

/// Reads `500` or `500/s`.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let number = text.trim().strip_suffix("/s").unwrap_or(text.trim());
    positive(number).ok_or_else(|| "write it as 500/s: events per second".to_owned())
}

/// Reads `10` or `10x`.
pub(super) fn speed(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches(['x', 'X', '×']);
    positive(number)
        .ok_or_else(|| "write it as 10x: ten times as fast as the events arrived".to_owned())
}

fn positive(text: &str) -> Option<f64> {
    let number: f64 = text.trim().parse().ok()?;
    (number.is_finite() && number > 0.0).then_some(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn events_are_due_by_their_number_or_their_arrival() {
        assert_eq!(Pace::Unbound.due(1_000_000, 5), Duration::ZERO);
        assert_eq!(Pace::Rate(500.0).due(250, 0), Duration::from_millis(500));
        assert_eq!(Pace::Speed(10.0).due(3, 20_000_000), Duration::from_secs(2));
    }

    #[test]
    fn rates_and_speeds_are_positive_numbers() {
        assert_eq!((rate("500/s"), rate(" 0.5")), (Ok(500.0), Ok(0.5)));
        assert_eq!((speed("10x"), speed("2")), (Ok(10.0), Ok(2.0)));
        for wrong in ["", "0", "-1", "inf", "NaN", "ten", "5/m"] {
            assert!(rate(wrong).is_err() && speed(wrong).is_err(), "{wrong}");
        }
    }
}
