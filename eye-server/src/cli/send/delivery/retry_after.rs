//! How long a service asks to wait.

use crate::client::Answer;
use axum::http::header::RETRY_AFTER;
use chrono::{DateTime, Utc};
use std::time::Duration;

const UNSAID: Duration = Duration::from_secs(1);
/// Keeps a service that says 0 from being asked without a pause.
const SHORTEST: Duration = Duration::from_millis(50);

/// Returns the wait of an answer: its header, else its body's `retry_after` in seconds, else a second.
pub(super) fn wait_of(answer: &Answer, in_body: Option<f64>) -> Duration {
    let header = answer
        .headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    header
        .and_then(|value| retry_after(value, Utc::now()))
        .or_else(|| in_body.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
        .unwrap_or(UNSAID)
        .max(SHORTEST)
}

/// Reads `Retry-After` (RFC 9110, 10.2.3): seconds, or a date.
fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let date = DateTime::parse_from_rfc2822(value).ok()?;
    Some(date.signed_duration_since(now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use axum::{
        body::Bytes,
        http::{HeaderMap, HeaderValue, StatusCode},
    };

    #[test]
    fn seconds_and_dates_are_read() {
        let now = DateTime::parse_from_rfc3339("2015-10-21T07:28:00Z")
            .unwrap()
            .to_utc();
        assert_eq!(retry_after(" 120 ", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("0", now), Some(Duration::ZERO));
        assert_eq!(
            retry_after("Wed, 21 Oct 2015 07:28:30 GMT", now),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            retry_after("Wed, 21 Oct 2015 07:20:00 GMT", now),
            Some(Duration::ZERO)
        );
        for nonsense in ["", "-1", "soon", "1.5", "99999999999999999999"] {
            assert_eq!(retry_after(nonsense, now), None, "{nonsense}");
        }
    }

    #[test]
    fn the_header_wins_then_the_body_then_a_second() {
        let mut answer = Answer {
            status: StatusCode::SERVICE_UNAVAILABLE,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        assert_eq!(wait_of(&answer, None), Duration::from_secs(1));
        assert_eq!(wait_of(&answer, Some(2.5)), Duration::from_millis(2500));
        assert_eq!(wait_of(&answer, Some(-3.0)), Duration::from_secs(1));
        answer
            .headers
            .insert(RETRY_AFTER, HeaderValue::from_static("7"));
        assert_eq!(wait_of(&answer, Some(2.5)), Duration::from_secs(7));
        answer
            .headers
            .insert(RETRY_AFTER, HeaderValue::from_static("0"));
        assert_eq!(wait_of(&answer, None), SHORTEST);
    }
}
