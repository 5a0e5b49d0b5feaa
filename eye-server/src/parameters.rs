//! The parameters of a request, from its query or its body: each known by name, given once, and of a type.

use std::collections::BTreeMap;

use eye_log::{Offset, parse_timestamp};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::{Code, Problem};
use crate::operation::{Field, Shape};

/// How many rows a page has at most.
pub(crate) const PAGE_MAX: usize = 1000;
/// How many rows a page has where nobody said.
const PAGE_DEFAULT: usize = 100;
/// The parameters that come up again and again.
pub(crate) const ID: Field = Field::uuid("id").about("Its id.");
pub(crate) const LIMIT: Field = Field::new("limit", Shape::Between(1, PAGE_MAX as i64))
    .optional()
    .about("Rows on a page, 1 to 1000; 100 where it is not given.");
pub(crate) const LIMIT_OR_NONE: Field = Field::new("limit", Shape::Between(0, PAGE_MAX as i64))
    .optional()
    .about("Rows on a page, 0 to 1000; 100 where it is not given.");
pub(crate) const CURSOR: Field = Field::text("cursor")
    .optional()
    .about("`next` of the page before. Keeps what was asked, the order, as_of and times.");
pub(crate) const COUNT: Field = Field::boolean("count")
    .optional()
    .about("`true` counts every match.");
/// The parameters that are numbers, and those that are true or false, where they stand in a JSON body.
const NUMBERS: [&str; 2] = ["limit", "as_of"];
const BOOLEANS: [&str; 3] = ["count", "highlight", "explain"];

/// Holds what was given, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// Reads a query string. A name that is not among `known`, or that is given twice, is refused.
    pub(crate) fn from_query(query: Option<&str>, known: &[&[Field]]) -> Result<Self, Problem> {
        Ok(Self::with_list(query, known, "")?.0)
    }

    /// Does the same where the parameter `list` may be given again and again; also returns its values, in order.
    pub(crate) fn with_list(
        query: Option<&str>,
        known: &[&[Field]],
        list: &str,
    ) -> Result<(Self, Vec<String>), Problem> {
        let known = names(known);
        let mut given = BTreeMap::new();
        let mut listed = Vec::new();
        for pair in query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or_else(|| {
                Problem::new(Code::BadParameter, "The query string is not UTF-8.")
            })?;
            let value = decode(value).ok_or_else(|| Problem::parameter(&name, "is not UTF-8."))?;
            if !known.contains(&name.as_str()) {
                let message = format!("unknown parameter.{}", guess(&name, &known));
                return Err(Problem::parameter(&name, message));
            }
            if name == list {
                listed.push(value);
            } else if given.insert(name.clone(), value).is_some() {
                return Err(Problem::parameter(&name, "is given twice."));
            }
        }
        Ok((Self(given), listed))
    }

    /// Returns the `token` of a query string, whatever else stands there: who asks is settled before anything else.
    pub(crate) fn token_in(query: Option<&str>) -> Option<String> {
        let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(name, _)| *name == "token")
            .and_then(|(_, value)| decode(value))
    }

    /// Takes the fields of a JSON body for parameters: each of its own type, null as if it were not there.
    pub(crate) fn from_fields(fields: Map<String, Value>) -> Result<Self, Problem> {
        let mut given = BTreeMap::new();
        for (name, value) in fields {
            let (is_number, is_boolean) = (
                NUMBERS.contains(&name.as_str()),
                BOOLEANS.contains(&name.as_str()),
            );
            let text = match value {
                Value::Null => continue,
                Value::Number(number) if is_number => number.to_string(),
                Value::Bool(boolean) if is_boolean => boolean.to_string(),
                Value::String(text) if !is_number && !is_boolean => text,
                _ if is_number => return Err(Problem::parameter(&name, "must be a number.")),
                _ if is_boolean => return Err(Problem::parameter(&name, "must be true or false.")),
                _ => return Err(Problem::parameter(&name, "must be a string.")),
            };
            given.insert(name, text);
        }
        Ok(Self(given))
    }

    /// Takes a parameter away.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// Puts a parameter in.
    pub(crate) fn put(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    /// Returns all, by name.
    pub(crate) fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Returns the text of a parameter.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns whether a parameter is `true`; absent is `false`.
    pub(crate) fn boolean(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Problem::parameter(name, "must be true or false.")),
        }
    }

    /// Returns whether the answer may be stale: `stale=ok`.
    pub(crate) fn stale(&self) -> Result<bool, Problem> {
        match self.text("stale") {
            None => Ok(false),
            Some("ok") => Ok(true),
            Some(_) => Err(Problem::parameter("stale", "may only be `ok`.")),
        }
    }

    /// Returns the page's size, from `least` to [`PAGE_MAX`].
    pub(crate) fn limit(&self, least: usize) -> Result<usize, Problem> {
        let Some(text) = self.text("limit") else {
            return Ok(PAGE_DEFAULT);
        };
        let limit = text
            .parse()
            .ok()
            .filter(|limit| (least..=PAGE_MAX).contains(limit));
        limit.ok_or_else(|| {
            Problem::parameter(
                "limit",
                format!("must be a whole number from {least} to {PAGE_MAX}."),
            )
            .limit(PAGE_MAX)
        })
    }

    /// Returns an offset.
    pub(crate) fn offset(&self, name: &str) -> Result<Option<Offset>, Problem> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| Problem::parameter(name, "must be an offset, a whole number."))
        };
        self.text(name).map(parse).transpose()
    }

    /// Returns a UUID.
    pub(crate) fn uuid(&self, name: &str) -> Result<Option<Uuid>, Problem> {
        let parse = |text: &str| {
            Uuid::try_parse(text).map_err(|_| Problem::parameter(name, "Must be a valid UUID."))
        };
        self.text(name).map(parse).transpose()
    }

    /// Returns an instant, seen from `now`, with times that name no offset taken to be `zone` seconds east of UTC.
    pub(crate) fn time(&self, name: &str, now: i64, zone: i32) -> Result<Option<i64>, Problem> {
        let parse = |text: &str| {
            instant(text, now, zone).ok_or_else(|| {
                Problem::parameter(
                    name,
                    "must be a time: RFC 3339 (2021-01-01T09:15:27Z), a date, now, or now-15m with one of s m h d w.",
                )
            })
        };
        self.text(name).map(parse).transpose()
    }
}

/// Undoes percent-encoding, with `+` for a space.
fn decode(text: &str) -> Option<String> {
    if !text.contains(['%', '+']) {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                // What is no escape stands for itself, as browsers read it.
                let mut ahead = rest.clone();
                let digits = (ahead.next().and_then(hex), ahead.next().and_then(hex));
                if let (Some(high), Some(low)) = digits {
                    bytes.push(high << 4 | low);
                    rest = ahead;
                } else {
                    bytes.push(b'%');
                }
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// Returns a time as a query or a command line may give it (RFC 3339, a date, `now-15m`, `now+90d`), in unix microseconds. Times
/// without an offset are taken as `zone`, seconds east of UTC.
pub fn instant(text: &str, now: i64, zone: i32) -> Option<i64> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix("now") {
        if rest.is_empty() {
            return Some(now);
        }
        let (ahead, rest) = match rest.strip_prefix('-') {
            Some(rest) => (false, rest),
            None => (true, rest.strip_prefix('+')?),
        };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let seconds = match &rest[digits..] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 24 * 3600,
            "w" => 7 * 24 * 3600,
            _ => return None,
        };
        let away = rest[..digits]
            .parse::<i64>()
            .ok()?
            .checked_mul(seconds)?
            .checked_mul(1_000_000)?;
        return if ahead {
            now.checked_add(away)
        } else {
            now.checked_sub(away)
        };
    }
    if text.len() == 10 {
        return parse_timestamp(&format!("{text}T00:00:00"), zone);
    }
    parse_timestamp(text, zone).or_else(|| parse_timestamp(&with_plus(text)?, zone))
}

/// Returns a length of time as a query or a body may give it (`30m`, `2h`, `7d`), in microseconds.
pub(crate) fn duration(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit: i64 = match &text[digits..] {
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 24 * 3_600_000_000,
        "w" => 7 * 24 * 3_600_000_000,
        _ => return None,
    };
    text[..digits].parse::<i64>().ok()?.checked_mul(unit)
}

/// In a query string `+` means a space: `…T09:00:00 02:00` was `…T09:00:00+02:00`.
fn with_plus(text: &str) -> Option<String> {
    let (time, zone) = text.rsplit_once(' ')?;
    (time.contains(':') && zone.len() == 5).then(|| format!("{time}+{zone}"))
}

/// Returns what the fields are called.
pub(crate) fn names(fields: &[&[Field]]) -> Vec<&'static str> {
    fields
        .iter()
        .copied()
        .flatten()
        .map(|field| field.name)
        .collect()
}

/// Returns ` Did you mean …?` for a name that is close to a known one, else what is known.
pub(crate) fn guess(name: &str, known: &[&str]) -> String {
    let short: String = name.chars().take(64).collect();
    let nearest = known
        .iter()
        .map(|known| (distance(&short, known), known))
        .min();
    match nearest {
        Some((distance, known)) if distance <= 1 + known.len() / 4 => {
            format!(" Did you mean {known:?}?")
        }
        _ if known.is_empty() => " None is taken here.".to_owned(),
        _ => format!(" Known here: {}.", known.join(", ")),
    }
}

/// Counts the insertions, deletions, substitutions and swaps of neighbours between two names (restricted
/// Damerau-Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substituted = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = substituted.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: i64 = 1_609_492_527_000_000;

    fn at(text: &str) -> i64 {
        parse_timestamp(text, 0).unwrap()
    }

    #[test]
    fn a_query_string_is_decoded() {
        let parameters = Parameters::from_query(
            Some("q=caf%C3%A9+au%20lait&&name=100%&x"),
            &[
                &[Field::text("q"), Field::text("name")],
                &[Field::text("x")],
            ],
        )
        .unwrap();
        assert_eq!(parameters.text("q"), Some("café au lait"));
        assert_eq!(parameters.text("name"), Some("100%"));
        assert_eq!(parameters.text("x"), Some(""));
    }

    #[test]
    fn unknown_names_are_refused_with_a_guess() {
        let known = ["session_id", "category", "timestamp_after", "limit"].map(Field::text);
        for (name, meant) in [
            ("sesion_id", "session_id"),
            ("catgeory", "category"),
            ("timestamp_afer", "timestamp_after"),
            ("limt", "limit"),
        ] {
            let refused =
                Parameters::from_query(Some(&format!("{name}=1")), &[&known]).unwrap_err();
            let body: Value = serde_json::from_slice(&refused.body("")).unwrap();
            assert_eq!(
                body["message"],
                format!("{name}: unknown parameter. Did you mean {meant:?}?")
            );
            assert!(body["errors"][name][0].is_string());
        }
        assert!(guess("zzzzzz", &["a", "b"]).starts_with(" Known here"));
        assert!(Parameters::from_query(Some("limit=1&limit=2"), &[&known]).is_err());
        assert!(Parameters::from_query(Some("limit=%ff"), &[&known]).is_err());
    }

    #[test]
    fn limits_are_not_clamped() {
        let limit = |text: &str, least| {
            Parameters::from_query(Some(text), &[&[LIMIT]])
                .unwrap()
                .limit(least)
                .ok()
        };
        assert_eq!(limit("", 1), Some(100));
        assert_eq!(limit("limit=1000", 1), Some(1000));
        assert_eq!(limit("limit=0", 0), Some(0));
        for wrong in ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit="] {
            assert_eq!(limit(wrong, 1), None, "{wrong}");
        }
    }

    #[test]
    fn times_come_in_many_forms() {
        for (text, expected) in [
            ("2021-01-01T09:15:27.5Z", at("2021-01-01 09:15:27.5")),
            ("2021-01-01T09:15:27 02:00", at("2021-01-01 07:15:27")),
            ("2021-01-01 09:15:27 02:00", at("2021-01-01 07:15:27")),
            ("2021-01-01 09:15:27", at("2021-01-01 09:15:27")),
            ("2021-01-01", at("2021-01-01 00:00:00")),
            ("now", NOW),
            ("now-15m", NOW - 900_000_000),
            ("now-7d", NOW - 7 * 86_400_000_000),
            ("now-2w", NOW - 14 * 86_400_000_000),
        ] {
            assert_eq!(instant(text, NOW, 0), Some(expected), "{text}");
        }
        assert_eq!(
            instant("2021-01-01", NOW, 3600),
            Some(at("2020-12-31 23:00:00"))
        );
        for wrong in [
            "",
            "yesterday",
            "now-",
            "now-5",
            "now-5y",
            "now-99999999999999w",
            "2021-1-1",
            "2021-01-01 09:15",
            "1609492527",
        ] {
            assert_eq!(instant(wrong, NOW, 0), None, "{wrong}");
        }
    }

    #[test]
    fn the_fields_of_a_body_are_parameters_too() {
        let fields: Value = serde_json::json!({"q": "a", "limit": 5, "count": true, "from": null});
        let parameters = Parameters::from_fields(fields.as_object().unwrap().clone()).unwrap();
        assert_eq!(
            (
                parameters.text("limit"),
                parameters.boolean("count").unwrap()
            ),
            (Some("5"), true)
        );
        assert_eq!(parameters.text("from"), None);
        let list: Value = serde_json::json!({"q": []});
        assert!(Parameters::from_fields(list.as_object().unwrap().clone()).is_err());
    }
}
