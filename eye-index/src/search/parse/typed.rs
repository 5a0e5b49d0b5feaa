//! The built-in fields that hold ids, offsets and times: what is written there must be one.

use std::ops::Bound;

use uuid::Uuid;

use super::range::End;
use super::{Parsed, Parser, QueryError};
use crate::search::query::{Field, Kind, OffsetRange, Span, Test, TimeRange, Value, quote};
use crate::search::time::parse_time;

impl Parser {
    /// Makes the test that a field of ids, offsets or times equals `value`; a mistake is noted.
    pub(super) fn typed_is(&mut self, field: Field, value: Value, span: Span) -> Kind {
        let test = match field {
            Field::Id | Field::SessionId => id(&value, span).map(Test::Id),
            Field::Offset => offset(&value, span).map(|at| {
                Test::Offset(OffsetRange {
                    start: Some(at),
                    end: Some(at + 1),
                })
            }),
            _ => time(&value, span).map(Test::Time),
        };
        match test {
            Ok(test) => Kind::Field { field, test },
            Err(error) => self.note(error),
        }
    }

    /// Makes the test that a field of offsets or times is in a range; a mistake is noted.
    pub(super) fn typed_between(&mut self, field: Field, lower: End, upper: End) -> Kind {
        let test = match field {
            Field::Offset => bounds(lower, upper, offset, |at| Some(*at), |at| Some(*at + 1))
                .map(|(start, end)| Test::Offset(OffsetRange { start, end })),
            Field::Timestamp | Field::ReceivedAt => {
                bounds(lower, upper, time, |time| time.start, |time| time.end)
                    .map(|(start, end)| Test::Time(TimeRange { start, end }))
            }
            _ => Err(no_order(&field, lower, upper)),
        };
        match test {
            Ok(test) => Kind::Field { field, test },
            Err(error) => self.note(error),
        }
    }

    /// Refuses `timestamp:2021-01-01 10:00`, where the time of day would be taken for words.
    pub(super) fn no_clock_behind(
        &mut self,
        field: &Field,
        value: &Value,
        start: usize,
    ) -> Parsed<()> {
        if !matches!(field, Field::Timestamp | Field::ReceivedAt) || value.quoted {
            return Ok(());
        }
        let space = self
            .chars
            .iter()
            .skip(self.at)
            .take_while(|c| c.is_whitespace())
            .count();
        let clock: String = self
            .chars
            .iter()
            .skip(self.at + space)
            .take_while(|c| is_of_clock(**c))
            .collect();
        let meant = format!("{} {clock}", value.text);
        if space == 0 || parse_time(&value.text).is_none() || parse_time(&meant).is_none() {
            return Ok(());
        }
        self.at += space + clock.chars().count();
        let error = QueryError::new(
            self.span_from(start),
            "A time with a space in it goes in quotes.",
        );
        Err(error
            .expecting(["a time in quotes"])
            .suggesting(quote(&meant)))
    }
}

fn is_of_clock(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, ':' | '.' | '+' | '-' | 'Z' | 'z')
}

fn id(value: &Value, span: Span) -> Result<Uuid, QueryError> {
    Uuid::try_parse(&value.text).map_err(|_| {
        let error = QueryError::new(span, "This is no UUID.")
            .expecting(["a UUID", "the beginning of one and `*`"]);
        let begins_one = !value.text.is_empty()
            && value.text.len() < 36
            && value
                .text
                .chars()
                .all(|c| c.is_ascii_hexdigit() || c == '-');
        if begins_one {
            error.suggesting(format!("{}*", value.text))
        } else {
            error
        }
    })
}

/// Reads an offset that has one after it.
fn offset(value: &Value, span: Span) -> Result<u64, QueryError> {
    let is_plain =
        |number: &u64| *number < u64::MAX && value.text.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.text.parse::<u64>().ok().filter(is_plain);
    match number {
        Some(number) if !value.quoted => Ok(number),
        found => {
            let error =
                QueryError::new(span, "An offset is a whole number from 0, without quotes.");
            let error = error.expecting(["a whole number"]);
            Err(match found {
                Some(number) => error.suggesting(number.to_string()),
                None => error,
            })
        }
    }
}

fn time(value: &Value, span: Span) -> Result<TimeRange, QueryError> {
    parse_time(&value.text).ok_or_else(|| {
        let message = "This is no time. A day is `2021-01-31`, an instant `2021-01-31T10:30:00Z` or \
                       `\"2021-01-31 10:30\"`.";
        QueryError::new(span, message).expecting(["a date", "a time"])
    })
}

/// Makes a half-open range of values that each have a start and an end of their own, as a day has.
fn bounds<V, T>(
    lower: End,
    upper: End,
    read: fn(&Value, Span) -> Result<V, QueryError>,
    start_of: fn(&V) -> Option<T>,
    end_of: fn(&V) -> Option<T>,
) -> Result<(Option<T>, Option<T>), QueryError> {
    let start = match lower {
        Bound::Unbounded => None,
        Bound::Included((value, span)) => start_of(&read(&value, span)?),
        Bound::Excluded((value, span)) => end_of(&read(&value, span)?),
    };
    let end = match upper {
        Bound::Unbounded => None,
        Bound::Included((value, span)) => end_of(&read(&value, span)?),
        Bound::Excluded((value, span)) => start_of(&read(&value, span)?),
    };
    Ok((start, end))
}

fn no_order(field: &Field, lower: End, upper: End) -> QueryError {
    let span = [lower, upper].into_iter().find_map(|end| match end {
        Bound::Included((_, span)) | Bound::Excluded((_, span)) => Some(span),
        Bound::Unbounded => None,
    });
    let error = QueryError::new(
        span.unwrap_or_default(),
        format!("`{field}` has no order to compare by."),
    );
    error.expecting(["a UUID", "the beginning of one and `*`", "`IN [`"])
}
