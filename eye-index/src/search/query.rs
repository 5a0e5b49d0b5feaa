//! A query as a tree. It says what was asked and nothing about how it is answered; whatever [`parse`] accepts is
//! written back by `Display` as a query that means the same.
//!
//! [`parse`]: super::parse::parse

use std::ops::Bound;

use uuid::Uuid;

use super::words::{fold, words};

mod meant;
mod write;

pub(super) use meant::meant_field;
pub use meant::{Misspelling, closest, did_you_mean};
pub(super) use write::{Place, escape, quote};

/// Where something stands in the text of a query, in Unicode scalar values from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// Counts the characters before it.
    pub position: usize,
    /// Counts its own characters.
    pub length: usize,
}

/// One condition on an event, which may be made of others.
#[derive(Clone, PartialEq, Debug)]
pub struct Clause {
    /// Says what must hold.
    pub kind: Kind,
    /// Says where it was written.
    pub span: Span,
}

/// What a clause asks of an event.
#[derive(Clone, PartialEq, Debug)]
pub enum Kind {
    /// Holds for every event: `*`, or an empty query.
    All,
    /// Holds where every one holds; two or more.
    And(Vec<Clause>),
    /// Holds where any holds; two or more.
    Or(Vec<Clause>),
    /// Holds where the other does not.
    Not(Box<Clause>),
    /// Holds where any string of the event passes the test.
    Word(WordTest),
    /// Holds where one string of the event has these words in this order, with at most `slop` others between.
    Phrase {
        /// Lists the words, folded; two or more.
        words: Vec<String>,
        /// Counts the other words allowed between the first and the last.
        slop: u32,
    },
    /// Holds where a value of the field passes the test.
    Field {
        /// Names the field.
        field: Field,
        /// Says what its value must be.
        test: Test,
    },
}

/// A test on the strings of an event, wherever they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WordTest {
    /// The string has this word (folded).
    Is(String),
    /// The string, or a word of it, fits the pattern.
    Pattern(Pattern),
    /// The string has a word at most so many edits away.
    Fuzzy(Fuzzy),
}

/// What can be asked for by name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Field {
    /// `category`
    Category,
    /// `name`
    Name,
    /// `session_id`
    SessionId,
    /// `id`
    Id,
    /// `application`
    Application,
    /// `offset`
    Offset,
    /// `timestamp`
    Timestamp,
    /// `received_at`
    ReceivedAt,
    /// A path inside `data`; it passes through arrays.
    Data(DataPath),
}

impl Field {
    /// Lists the built-in fields with the names they are written by.
    pub const BUILT_IN: [(&'static str, Field); 8] = [
        ("category", Field::Category),
        ("name", Field::Name),
        ("session_id", Field::SessionId),
        ("id", Field::Id),
        ("application", Field::Application),
        ("offset", Field::Offset),
        ("timestamp", Field::Timestamp),
        ("received_at", Field::ReceivedAt),
    ];

    /// Returns the built-in field of that name.
    pub fn built_in(name: &str) -> Option<Field> {
        Self::BUILT_IN
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, field)| field)
    }
}

/// A path inside `data`, without the leading `data.`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DataPath {
    /// Lists the keys as far as the query tells them apart: `a.b` is two and `a\.b` is one. As neighbours may also be
    /// one key that holds the dot, `a.b` reaches `{"a": {"b": 1}}` and `{"a.b": 1}`, but `a\.b` only the latter.
    pub segments: Vec<String>,
}

impl DataPath {
    /// Returns the keys joined with dots, which is the same for every way to read the path.
    pub fn joined(&self) -> String {
        self.segments.join(".")
    }
}

/// A test on the value of a field; where there are several values (arrays), on any of them.
///
/// `category`, `name`, `application` are tested with the ones on text; ids, offsets and times with their own,
/// [`Test::Pattern`] on ids, and [`Test::Exists`]; paths in `data` with all but [`Test::Id`], [`Test::Offset`] and
/// [`Test::Time`].
#[derive(Clone, PartialEq, Debug)]
pub enum Test {
    /// `field:value`. Equals it, case folded; in `data` a string may also contain it as words in a row.
    Is(Value),
    /// `field==value`. Equals it, every character.
    Exactly(Scalar),
    /// `field:val*`
    Pattern(Pattern),
    /// `field:*`. Is there, and not null.
    Exists,
    /// `field:>10`, `field:[10 TO 20}`. The operands are numbers or texts, both alike, and one bound is set.
    Range {
        /// Bounds it from below.
        lower: Bound<Scalar>,
        /// Bounds it from above.
        upper: Bound<Scalar>,
    },
    /// `field:IN [a, "b"]`. Passes [`Test::Is`] with any; never empty.
    In(Vec<Value>),
    /// `field=~"regex"`. The whole value as sent matches; the expression has not been looked at yet.
    Regex(String),
    /// `field:word~1`. Has a word at most so many edits away.
    Fuzzy(Fuzzy),
    /// `field:"some words"~2`. Has these folded words in this order, with at most `slop` others between.
    Near {
        /// Lists the words; never empty.
        words: Vec<String>,
        /// Counts the other words allowed between the first and the last.
        slop: u32,
    },
    /// Is this id.
    Id(Uuid),
    /// Is an offset in the range.
    Offset(OffsetRange),
    /// Is a time in the range.
    Time(TimeRange),
}

/// A value as written after `:`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    /// Holds the text, escapes undone, not folded.
    pub text: String,
    /// Tells whether it was in quotes, and so matches strings only.
    pub quoted: bool,
}

impl Value {
    /// Returns what it matches besides strings: a number, boolean or null, if it was written as one without quotes.
    pub fn literal(&self) -> Option<Scalar> {
        match self.text.as_str() {
            _ if self.quoted => None,
            "true" => Some(Scalar::Bool(true)),
            "false" => Some(Scalar::Bool(false)),
            "null" => Some(Scalar::Null),
            text => Number::parse(text).map(Scalar::Number),
        }
    }

    /// Returns the text folded, to compare with folded values.
    pub fn folded(&self) -> String {
        fold(&self.text)
    }

    /// Returns the words of the text, which a longer value may contain in a row; there may be none.
    pub fn words(&self) -> Vec<String> {
        words(&self.text)
    }
}

/// A value of a JSON document that is neither an array nor an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scalar {
    /// A string, not folded.
    Text(String),
    /// A number.
    Number(Number),
    /// A boolean.
    Bool(bool),
    /// `null`
    Null,
}

/// A number of JSON's grammar, with the digits it was written with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Number {
    text: String,
}

impl Number {
    /// Reads a number as JSON writes it: no `+`, no leading zeros, no bare dot.
    pub fn parse(text: &str) -> Option<Number> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (
                mantissa,
                Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
            ),
            None => (unsigned, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let digits =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let valid = digits(whole)
            && (whole == "0" || !whole.starts_with('0'))
            && fraction.is_none_or(digits)
            && exponent.is_none_or(digits);
        valid.then(|| Number {
            text: text.to_owned(),
        })
    }

    /// Returns the digits as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the value where it is written as an integer that fits 64 bits, signed or unsigned; those compare exactly.
    pub fn integer(&self) -> Option<i128> {
        let integer = self.text.parse().ok()?;
        (i128::from(i64::MIN)..=i128::from(u64::MAX))
            .contains(&integer)
            .then_some(integer)
    }

    /// Returns the nearest double; beyond the range of doubles, infinity.
    pub fn double(&self) -> f64 {
        self.text.parse().unwrap_or(f64::NAN)
    }
}

/// Text with holes in it, folded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    /// Lists texts and holes in order; no two texts and no two [`Part::Many`] are neighbours.
    pub parts: Vec<Part>,
    /// Says what has to fit.
    pub on: PatternOn,
}

impl Pattern {
    /// Returns the same pattern for whole values.
    pub(super) fn on_whole(self) -> Pattern {
        Pattern {
            on: PatternOn::Whole,
            ..self
        }
    }
}

/// A piece of a pattern.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// This text, folded; never empty.
    Text(String),
    /// `*`: any number of characters, none included.
    Many,
    /// `?`: one character of the folded text.
    One,
}

/// What a pattern has to fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PatternOn {
    /// A word: the pattern has no character that would end one.
    Word,
    /// The whole folded value: the pattern has punctuation or characters of a script without spaces, or the field
    /// holds ids.
    Whole,
}

/// A word and how far off another may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fuzzy {
    /// Holds the word, folded.
    pub word: String,
    /// Counts the edits allowed, 1 or 2.
    pub distance: u8,
}

/// Offsets from `start` to before `end`; `None` is open. It may be empty. One of them is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OffsetRange {
    /// Is the first inside.
    pub start: Option<u64>,
    /// Is the first after.
    pub end: Option<u64>,
}

/// Times from `start` to before `end`, in Unix microseconds; `None` is open. It may be empty. One of them is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeRange {
    /// Is the first inside.
    pub start: Option<i64>,
    /// Is the first after.
    pub end: Option<i64>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn unquoted(text: &str) -> Option<Scalar> {
        Value {
            text: text.to_owned(),
            quoted: false,
        }
        .literal()
    }

    #[test]
    fn an_unquoted_value_may_also_be_a_number_a_boolean_or_null() {
        assert_eq!(unquoted("true"), Some(Scalar::Bool(true)));
        assert_eq!(unquoted("null"), Some(Scalar::Null));
        for text in [
            "0",
            "-5",
            "1e-05",
            "12.50E+3",
            "-0.0",
            "99999999999999999999",
        ] {
            assert_eq!(unquoted(text), Number::parse(text).map(Scalar::Number));
            assert!(unquoted(text).is_some(), "{text}");
        }
        for text in [
            "00501", "+5", ".5", "5.", "1e", "-", "0x1", "True", "1_000", "１", "NaN",
        ] {
            assert_eq!(unquoted(text), None, "{text}");
        }
        assert_eq!(
            Value {
                text: "5".to_owned(),
                quoted: true
            }
            .literal(),
            None
        );
    }

    #[test]
    fn integers_are_exact_within_64_bits_and_everything_is_a_double() {
        let number = |text| Number::parse(text).unwrap();
        assert_eq!(
            number("18446744073709551615").integer(),
            Some(i128::from(u64::MAX))
        );
        assert_eq!(number("18446744073709551616").integer(), None);
        assert_eq!(
            number("-9223372036854775808").integer(),
            Some(i128::from(i64::MIN))
        );
        assert_eq!(number("5.0").integer(), None);
        assert_eq!(number("1e999").double(), f64::INFINITY);
    }

    #[test]
    fn a_path_keeps_which_dots_were_part_of_a_key() {
        let path = DataPath {
            segments: vec!["a.b".to_owned(), "c".to_owned()],
        };
        assert_eq!(path.joined(), "a.b.c");
    }
}
