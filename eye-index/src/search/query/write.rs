//! Writes a query tree as text that parses to the same tree. (Words are written folded. The one thing folding does not
//! leave alone a second time, an `æ` or `ø` that came from `ǽ` or `ǿ`, is therefore not found again.)

use std::fmt::{self, Display, Formatter, Write};
use std::ops::Bound;

use super::{
    Clause, DataPath, Field, Fuzzy, Kind, OffsetRange, Part, Pattern, Scalar, Test, TimeRange,
    Value, WordTest,
};
use crate::search::time::{LATEST, write_time};

/// Where unquoted text is going to stand, which decides what must be escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::search) enum Place {
    Bare,
    Key,
    Value,
}

/// Writes text without quotes, so that it is read back as itself.
pub(in crate::search) fn escape(text: &str, place: Place) -> String {
    let mut escaped = String::with_capacity(text.len());
    let is_operator = matches!(text, "AND" | "OR" | "NOT" | "IN" | "TO");
    for (index, c) in text.chars().enumerate() {
        let needed = match c {
            '\\' | '"' | '(' | ')' | '*' | '?' | '~' | '[' | ']' | '{' | '}' | ',' => true,
            '<' | '>' => index == 0 || place != Place::Value,
            ':' | '=' => place != Place::Value,
            '.' => place == Place::Key,
            '!' if place == Place::Key => true,
            '-' | '!' => index == 0 && place == Place::Bare,
            c => c.is_whitespace() || (index == 0 && is_operator),
        };
        if needed {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Writes text in quotes.
pub(in crate::search) fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl Display for Clause {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Kind::All => f.write_char('*'),
            Kind::And(clauses) => join(f, clauses, " AND ", |kind| {
                matches!(kind, Kind::And(_) | Kind::Or(_))
            }),
            Kind::Or(clauses) => join(f, clauses, " OR ", |kind| matches!(kind, Kind::Or(_))),
            Kind::Not(inner) if matches!(inner.kind, Kind::And(_) | Kind::Or(_)) => {
                write!(f, "NOT ({inner})")
            }
            Kind::Not(inner) => write!(f, "NOT {inner}"),
            Kind::Word(WordTest::Is(word)) => f.write_str(word),
            Kind::Word(WordTest::Pattern(pattern)) => write_pattern(f, pattern, Place::Bare),
            Kind::Word(WordTest::Fuzzy(fuzzy)) => fuzzy.fmt(f),
            Kind::Phrase { words, slop } => write_phrase(f, words, (*slop > 0).then_some(*slop)),
            Kind::Field { field, test } => write!(f, "{field}{test}"),
        }
    }
}

fn join(
    f: &mut Formatter<'_>,
    clauses: &[Clause],
    between: &str,
    in_parentheses: fn(&Kind) -> bool,
) -> fmt::Result {
    for (index, clause) in clauses.iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        if in_parentheses(&clause.kind) {
            write!(f, "({clause})")
        } else {
            clause.fmt(f)
        }?;
    }
    Ok(())
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Category => "category",
            Field::Name => "name",
            Field::SessionId => "session_id",
            Field::Id => "id",
            Field::Application => "application",
            Field::Offset => "offset",
            Field::Timestamp => "timestamp",
            Field::ReceivedAt => "received_at",
            Field::Data(path) => return path.fmt(f),
        })
    }
}

impl Display for DataPath {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("data")?;
        self.segments
            .iter()
            .try_for_each(|key| write!(f, ".{}", escape(key, Place::Key)))
    }
}

impl Display for Test {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Test::Is(value) => write!(f, ":{value}"),
            Test::Exactly(scalar) => write!(f, "=={scalar}"),
            Test::Pattern(pattern) => {
                f.write_char(':')?;
                write_pattern(f, pattern, Place::Value)
            }
            Test::Exists => f.write_str(":*"),
            Test::Range { lower, upper } => write_range(f, lower.as_ref(), upper.as_ref()),
            Test::In(values) => {
                let values: Vec<String> = values.iter().map(Value::to_string).collect();
                write!(f, ":IN [{}]", values.join(", "))
            }
            Test::Regex(regex) => write!(f, "=~{}", quote(regex)),
            Test::Fuzzy(fuzzy) => write!(f, ":{fuzzy}"),
            Test::Near { words, slop } => {
                f.write_char(':')?;
                write_phrase(f, words, Some(*slop))
            }
            Test::Id(id) => write!(f, ":{id}"),
            Test::Offset(range) => range.fmt(f),
            Test::Time(range) => range.fmt(f),
        }
    }
}

impl Display for OffsetRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.start, self.end) {
            (Some(start), Some(end)) if start.checked_add(1) == Some(end) => write!(f, ":{start}"),
            (start, end) => write_range(f, lower(start), upper(end)),
        }
    }
}

impl Display for TimeRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.start, self.end) {
            (Some(start), Some(end)) if start + 1 == end => write!(f, ":{}", write_time(start)),
            // The year 10000 cannot be written.
            (start, Some(end)) if end > LATEST => write_range(
                f,
                lower(start.map(write_time)),
                Bound::Included(write_time(end - 1)),
            ),
            (start, end) => {
                write_range(f, lower(start.map(write_time)), upper(end.map(write_time)))
            }
        }
    }
}

fn lower<T>(start: Option<T>) -> Bound<T> {
    start.map_or(Bound::Unbounded, Bound::Included)
}

fn upper<T>(end: Option<T>) -> Bound<T> {
    end.map_or(Bound::Unbounded, Bound::Excluded)
}

fn write_range<T: Display>(f: &mut Formatter<'_>, lower: Bound<T>, upper: Bound<T>) -> fmt::Result {
    use Bound::{Excluded, Included, Unbounded};
    match (lower, upper) {
        (Unbounded, Unbounded) => f.write_str(":*"),
        (Included(low), Unbounded) => write!(f, ":>={low}"),
        (Excluded(low), Unbounded) => write!(f, ":>{low}"),
        (Unbounded, Included(high)) => write!(f, ":<={high}"),
        (Unbounded, Excluded(high)) => write!(f, ":<{high}"),
        (Included(low), Included(high)) => write!(f, ":[{low} TO {high}]"),
        (Included(low), Excluded(high)) => write!(f, ":[{low} TO {high}}}"),
        (Excluded(low), Included(high)) => write!(f, ":{{{low} TO {high}]"),
        (Excluded(low), Excluded(high)) => write!(f, ":{{{low} TO {high}}}"),
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&if self.quoted {
            quote(&self.text)
        } else {
            escape(&self.text, Place::Value)
        })
    }
}

impl Display for Scalar {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Text(text) => f.write_str(&quote(text)),
            Scalar::Number(number) => f.write_str(number.text()),
            Scalar::Bool(value) => value.fmt(f),
            Scalar::Null => f.write_str("null"),
        }
    }
}

impl Display for Fuzzy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{}", self.word, self.distance)
    }
}

fn write_phrase(f: &mut Formatter<'_>, words: &[String], slop: Option<u32>) -> fmt::Result {
    write!(f, "\"{}\"", words.join(" "))?;
    slop.map_or(Ok(()), |slop| write!(f, "~{slop}"))
}

fn write_pattern(f: &mut Formatter<'_>, pattern: &Pattern, place: Place) -> fmt::Result {
    for (index, part) in pattern.parts.iter().enumerate() {
        match part {
            Part::Text(text) if index == 0 => f.write_str(&escape(text, place))?,
            // What is special at the start only is no longer at the start.
            Part::Text(text) => f.write_str(
                escape(&format!("_{text}"), place)
                    .strip_prefix('_')
                    .unwrap_or(text),
            )?,
            Part::Many => f.write_char('*')?,
            Part::One => f.write_char('?')?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::search::parse::parse;

    #[test]
    fn signs_that_would_mean_something_are_escaped() {
        for q in [
            r"data.a\>b:1",
            r"name\>x*",
            r"data.a\!==5",
            r"x:\>5",
            r"x:a\~1",
            r"\-a*",
            r"data.\*:\**",
        ] {
            let clause = parse(q).unwrap();
            assert_eq!(
                parse(&clause.to_string()).unwrap().kind,
                clause.kind,
                "{q} as {clause}"
            );
        }
    }

    #[test]
    fn a_query_is_written_back_readably() {
        for (written, shown) in [
            ("", "*"),
            ("Refund  delivery", "refund AND delivery"),
            ("a OR b c", "a OR b AND c"),
            ("(a OR b) -c", "(a OR b) AND NOT c"),
            ("-(a b)", "NOT (a AND b)"),
            ("page-view", "\"page view\""),
            ("\"late delivery\"~2", "\"late delivery\"~2"),
            ("categ* delivry~1", "categ* AND delivry~1"),
            ("path:/reviews/*", "data.path:/reviews/*"),
            ("data.a\\.b:1", "data.a\\.b:1"),
            (
                "category:\"page interaction\"",
                "category:\"page interaction\"",
            ),
            ("x:[10 TO 20}", "data.x:[10 TO 20}"),
            ("x:>abc", "data.x:>\"abc\""),
            (
                "timestamp:2021-01-01",
                "timestamp:[\"2021-01-01T00:00:00.000000Z\" TO \"2021-01-02T00:00:00.000000Z\"}",
            ),
            (
                "timestamp:<=9999-12-31",
                "timestamp:<=\"9999-12-31T23:59:59.999999Z\"",
            ),
            ("offset:IN [1, 2]", "offset:1 OR offset:2"),
            ("x:IN [a, \"b\"]", "data.x:IN [a, \"b\"]"),
            ("x=~\"a\\\"b\\d\"", "data.x=~\"a\\\"b\\\\d\""),
        ] {
            assert_eq!(parse(written).unwrap().to_string(), shown, "{written}");
        }
    }
}
