//! What stands after the name of a field: a value, a pattern, a comparison, a range, a list, a regular expression.

use std::ops::Bound;

use super::scan::Written;
use super::term::{Asked, Form};
use super::{Parsed, Parser, QueryError};
use crate::search::query::{Clause, Field, Kind, Scalar, Span, Test, Value, meant_field, quote};
use crate::search::words::words;

/// The lower or upper end of a range, and whether it is inside.
pub(super) type End = Bound<(Value, Span)>;

const VALUES: [&str; 5] = ["a value", "`*`", "`>` or `<`", "`[` or `{`", "`IN [`"];

impl Field {
    /// Tells whether values are text, or whatever JSON holds.
    fn is_typed(&self) -> bool {
        matches!(
            self,
            Field::Id | Field::SessionId | Field::Offset | Field::Timestamp | Field::ReceivedAt
        )
    }
}

impl Parser {
    /// Reads the test of a field whose clause began at `start`, from behind its `:`, `==` or `=~`.
    pub(super) fn test(&mut self, start: usize, field: Field, asked: Asked) -> Parsed<Kind> {
        let sign_end = self.at;
        self.skip_space();
        let spaced = self.at > sign_end;
        match (self.peek(), self.operator_before(&['['])) {
            (None | Some(')'), _) => return Err(self.missing_value(start, sign_end, &field)),
            (_, Some("IN")) if asked == Asked::Is => return self.list(field),
            (_, Some(_)) if spaced => return Err(self.missing_value(start, sign_end, &field)),
            (_, Some(operator)) => {
                let message = format!(
                    "`{operator}` in capitals is an operator; the text is written in quotes."
                );
                let error = QueryError::new(self.span_of(operator.len()), message);
                return Err(error.expecting(VALUES).suggesting(quote(operator)));
            }
            _ => {}
        }
        match (asked, self.peek()) {
            (Asked::Regex, _) => self.regex(field),
            (Asked::Exactly, _) => self.exactly(field),
            (Asked::Is, Some('[' | '{')) => self.range(field),
            (Asked::Is, Some('<' | '>')) => self.comparison(field),
            (Asked::Is, Some('(')) => {
                let message = "A field has one value; for several, `field:IN [a, b]` or `(field:a OR field:b)`.";
                Err(QueryError::new(self.span_of(1), message).expecting(VALUES))
            }
            (Asked::Is, _) => self.value(field),
        }
    }

    fn missing_value(&mut self, start: usize, sign_end: usize, field: &Field) -> QueryError {
        if let Field::Data(path) = field
            && let Some(meant) = meant_field(&path.joined())
        {
            let span = Span {
                position: start,
                length: sign_end - start,
            };
            let sign = self.raw(sign_end - 1, sign_end);
            let sign = if sign == ":" {
                ":".to_owned()
            } else {
                self.raw(sign_end - 2, sign_end)
            };
            let message = format!("Was the field `{meant}` meant?");
            self.note(
                QueryError::new(span, message)
                    .expecting(["a field"])
                    .suggesting(format!("{meant}{sign}")),
            );
        }
        let span = Span {
            position: sign_end,
            length: 0,
        };
        QueryError::new(span, format!("A value for `{field}` is missing.")).expecting(VALUES)
    }

    fn value(&mut self, field: Field) -> Parsed<Kind> {
        let start = self.at;
        let written = self.written(&[])?;
        let span = self.span_from(start);
        let form = match written {
            Written::Quoted { text, slop: None } => {
                return self.is(field, Value { text, quoted: true }, span);
            }
            Written::Quoted {
                text,
                slop: Some(slop),
            } => {
                if field.is_typed() {
                    return Ok(self.note(not_for(&field, span)));
                }
                let words = words(&text);
                if words.is_empty() {
                    let message = "`~` allows gaps between words, and here are none.";
                    let error = QueryError::new(span, message)
                        .expecting(["a phrase before `~`"])
                        .suggesting(quote(&text));
                    return Ok(self.note(error));
                }
                return Ok(Kind::Field {
                    field,
                    test: Test::Near { words, slop },
                });
            }
            Written::Unquoted(glyphs) => match self.form(start, &glyphs) {
                Some(form) => form,
                None => return Ok(Kind::All),
            },
        };
        let test = match form {
            Form::Text(text) => {
                return self.is(
                    field,
                    Value {
                        text,
                        quoted: false,
                    },
                    span,
                );
            }
            Form::Anything => Test::Exists,
            Form::Pattern(pattern) if matches!(field, Field::Id | Field::SessionId) => {
                Test::Pattern(pattern.on_whole())
            }
            _ if field.is_typed() => return Ok(self.note(not_for(&field, span))),
            Form::Pattern(pattern) => Test::Pattern(pattern),
            Form::Row(words) => Test::Near { words, slop: 0 },
            Form::Fuzzy(fuzzy) => Test::Fuzzy(fuzzy),
        };
        Ok(Kind::Field { field, test })
    }

    fn is(&mut self, field: Field, value: Value, span: Span) -> Parsed<Kind> {
        if field.is_typed() {
            self.no_clock_behind(&field, &value, span.position)?;
            return Ok(self.typed_is(field, value, span));
        }
        Ok(Kind::Field {
            field,
            test: Test::Is(value),
        })
    }

    fn exactly(&mut self, field: Field) -> Parsed<Kind> {
        let start = self.at;
        if self.peek() == Some('(') {
            return Err(
                QueryError::new(self.span_of(1), "A value is missing here.").expecting(["a value"])
            );
        }
        let value = self.plain_value(&[])?;
        let span = self.span_from(start);
        if field.is_typed() {
            self.no_clock_behind(&field, &value, start)?;
            return Ok(self.typed_is(field, value, span));
        }
        let literal = value.literal().filter(|_| matches!(field, Field::Data(_)));
        let test = match (literal, value) {
            (Some(literal), _) => Test::Exactly(literal),
            (None, Value { text, quoted: true }) => Test::Exactly(Scalar::Text(text)),
            (
                None,
                Value {
                    text,
                    quoted: false,
                },
            ) => {
                let message = "After `==`, text stands in quotes; without them, a number, `true`, `false` or `null`.";
                let error = QueryError::new(span, message)
                    .expecting(["\"text\"", "a number", "true", "false", "null"]);
                return Ok(self.note(error.suggesting(quote(&text))));
            }
        };
        Ok(Kind::Field { field, test })
    }

    fn regex(&mut self, field: Field) -> Parsed<Kind> {
        let start = self.at;
        if self.peek() != Some('"') {
            let message = "A regular expression stands in quotes, without `/` around it.";
            self.at = self.end_of_lump();
            let raw = self.raw(start, self.at);
            let inner = raw
                .strip_prefix('/')
                .and_then(|raw| raw.strip_suffix('/'))
                .unwrap_or(&raw);
            let error = QueryError::new(self.span_from(start), message).expecting(["`\"`"]);
            return Err(error.suggesting(quote(inner)));
        }
        let value = self.plain_value(&[])?;
        if field.is_typed() {
            return Ok(self.note(not_for(&field, self.span_from(start))));
        }
        Ok(Kind::Field {
            field,
            test: Test::Regex(value.text),
        })
    }

    /// Reads `>10`, `>=10`, `<10` or `<=10`.
    fn comparison(&mut self, field: Field) -> Parsed<Kind> {
        let is_lower = self.peek() == Some('>');
        self.at += 1;
        let inclusive = self.take("=");
        let start = self.at_next();
        if matches!(self.peek(), None | Some(')' | '(')) {
            return Err(
                QueryError::new(self.span_of(0), "A value to compare with is missing.")
                    .expecting(["a value"]),
            );
        }
        if matches!(self.peek(), Some('<' | '>' | '=')) {
            let message =
                "Comparisons are `:>`, `:>=`, `:<` and `:<=`; not equal is `-field:value`.";
            return Err(QueryError::new(self.span_of(1), message).expecting(["a value"]));
        }
        let value = self.plain_value(&[])?;
        let operand = (value, self.span_from(start));
        self.no_clock_behind(&field, &operand.0, start)?;
        let end = if inclusive {
            Bound::Included(operand)
        } else {
            Bound::Excluded(operand)
        };
        match is_lower {
            true => self.between(field, end, Bound::Unbounded),
            false => self.between(field, Bound::Unbounded, end),
        }
    }

    /// Reads `[10 TO 20}`.
    fn range(&mut self, field: Field) -> Parsed<Kind> {
        let open = self.at;
        let lower_inside = self.peek() == Some('[');
        self.at += 1;
        let lower = self.end_of_range(&field)?;
        self.skip_space();
        if self.operator_before(&[']', '}']) != Some("TO") {
            return Err(self.missing_to());
        }
        self.take("TO");
        let upper = self.end_of_range(&field)?;
        self.skip_space();
        let upper_inside = match self.peek() {
            Some(']') => true,
            Some('}') => false,
            found => {
                let message =
                    format!("The range that begins at position {open} is not closed here.");
                let error = QueryError::new(self.span_of(0), message).expecting(["`]`", "`}`"]);
                return Err(if found.is_none_or(|c| c == ')') {
                    error.suggesting("]")
                } else {
                    error
                });
            }
        };
        self.at += 1;
        self.expect_space()?;
        let end = |operand: Option<(Value, Span)>, inside| match operand {
            None => Bound::Unbounded,
            Some(operand) if inside => Bound::Included(operand),
            Some(operand) => Bound::Excluded(operand),
        };
        self.between(field, end(lower, lower_inside), end(upper, upper_inside))
    }

    fn missing_to(&self) -> QueryError {
        let end = self
            .chars
            .iter()
            .skip(self.at)
            .position(|c| c.is_whitespace() || matches!(c, ']' | '}' | ')' | '"'));
        let length = end.unwrap_or(self.chars.len().saturating_sub(self.at));
        let found = self.raw(self.at, self.at + length);
        let message = "A range is written `[10 TO 20]`, a list `IN [10, 20]`; times with a space go in quotes.";
        let (length, suggestion) = match found.as_str() {
            "to" | "To" | "-" | ".." | "," => (length, Some("TO".to_owned())),
            "" if self.peek().is_none() => (0, Some(" TO *]".to_owned())),
            "" if self.peek() != Some('"') => (0, Some(" TO *".to_owned())),
            _ => (0, Some("TO ".to_owned())),
        };
        QueryError {
            suggestion,
            ..QueryError::new(self.span_of(length), message).expecting(["`TO`"])
        }
    }

    /// Reads one end of a range; `*` is `None`.
    fn end_of_range(&mut self, field: &Field) -> Parsed<Option<(Value, Span)>> {
        let start = self.at_next();
        if self.peek() == Some('*')
            && self
                .chars
                .get(start + 1)
                .is_none_or(|c| c.is_whitespace() || matches!(c, ']' | '}' | ')'))
        {
            self.at += 1;
            return Ok(None);
        }
        let value = self.plain_value(&[']', '}'])?;
        let span = self.span_from(start);
        self.no_clock_behind(field, &value, start)?;
        Ok(Some((value, span)))
    }

    fn between(&mut self, field: Field, lower: End, upper: End) -> Parsed<Kind> {
        if let (Bound::Unbounded, Bound::Unbounded) = (&lower, &upper) {
            return Ok(Kind::Field {
                field,
                test: Test::Exists,
            });
        }
        if field.is_typed() {
            return Ok(self.typed_between(field, lower, upper));
        }
        let spans = [&lower, &upper].map(|end| match end {
            Bound::Included((_, span)) | Bound::Excluded((_, span)) => Some(*span),
            Bound::Unbounded => None,
        });
        let test = match (
            self.scalar_end(&field, lower),
            self.scalar_end(&field, upper),
        ) {
            (Some(lower), Some(upper)) => Test::Range { lower, upper },
            _ => return Ok(Kind::All),
        };
        if let Test::Range {
            lower: Bound::Included(low) | Bound::Excluded(low),
            upper: Bound::Included(high) | Bound::Excluded(high),
        } = &test
            && std::mem::discriminant(low) != std::mem::discriminant(high)
        {
            let span = spans[1].unwrap_or_default();
            let message = "One end of this range is a number and the other is text, and no value is between them.";
            let error = QueryError::new(span, message);
            return Ok(self.note(match low {
                Scalar::Number(_) => error.expecting(["a number", "`*`"]),
                _ => error
                    .expecting(["\"text\"", "`*`"])
                    .suggesting(quote(&high.to_string())),
            }));
        }
        Ok(Kind::Field { field, test })
    }

    /// Makes the end of a range over text or numbers; a mistake is noted and gives `None`.
    fn scalar_end(&mut self, field: &Field, end: End) -> Option<Bound<Scalar>> {
        let mut scalar = |(value, span): (Value, Span)| match value.literal() {
            None => Some(Scalar::Text(value.text)),
            Some(number @ Scalar::Number(_)) if matches!(field, Field::Data(_)) => Some(number),
            Some(literal) => {
                let message = match literal {
                    Scalar::Number(_) => {
                        format!("`{field}` is always text; in quotes this is compared as text.")
                    }
                    _ => "Booleans and null have no order; in quotes this is text.".to_owned(),
                };
                self.note(
                    QueryError::new(span, message)
                        .expecting(["\"text\""])
                        .suggesting(quote(&value.text)),
                );
                None
            }
        };
        Some(match end {
            Bound::Unbounded => Bound::Unbounded,
            Bound::Included(operand) => Bound::Included(scalar(operand)?),
            Bound::Excluded(operand) => Bound::Excluded(scalar(operand)?),
        })
    }

    /// Reads `IN [a, "b"]`.
    fn list(&mut self, field: Field) -> Parsed<Kind> {
        let start = self.at;
        self.take("IN");
        let after = self.span_from(start);
        self.skip_space();
        if !self.take("[") {
            let message =
                "After `IN` stands a list: `IN [a, b]`. The text `IN` is written in quotes.";
            let at_end = matches!(self.peek(), None | Some(')'));
            let here =
                QueryError::new(self.span_of(usize::from(self.peek() == Some('('))), message)
                    .expecting(["`[`"]);
            let text = QueryError::new(after, message)
                .expecting(["`IN [`"])
                .suggesting("\"IN\"");
            return Err(if at_end { text } else { here.suggesting("[") });
        }
        let mut items: Vec<(Value, Span)> = Vec::new();
        loop {
            let start = self.at_next();
            if self.peek().is_none() {
                return Err(self.open_list());
            }
            let value = self.plain_value(&[',', ']'])?;
            let span = self.span_from(start);
            self.no_clock_behind(&field, &value, start)?;
            items.push((value, span));
            self.skip_space();
            match self.peek() {
                Some(',') => self.at += 1,
                Some(']') => break,
                None | Some(')') => return Err(self.open_list()),
                Some(_) => {
                    let error = QueryError::new(
                        self.span_of(0),
                        "A comma is missing between two values of a list.",
                    );
                    return Err(error.expecting(["`,`", "`]`"]).suggesting(", "));
                }
            }
        }
        self.at += 1;
        self.expect_space()?;
        if !field.is_typed() {
            return Ok(Kind::Field {
                field,
                test: Test::In(items.into_iter().map(|(value, _)| value).collect()),
            });
        }
        let mut clauses = Vec::new();
        for (value, span) in items {
            clauses.push(Clause {
                kind: self.typed_is(field.clone(), value, span),
                span,
            });
        }
        Ok(match clauses.len() {
            1 => clauses.remove(0).kind,
            _ => Kind::Or(clauses),
        })
    }

    fn open_list(&self) -> QueryError {
        QueryError::new(self.span_of(0), "This list is not closed.")
            .expecting(["`,`", "`]`"])
            .suggesting("]")
    }

    fn expect_space(&self) -> Parsed<()> {
        match self.peek() {
            Some(c) if !c.is_whitespace() && c != ')' => {
                let error =
                    QueryError::new(self.span_of(0), "A space is missing after the bracket.");
                Err(error.expecting(["a space"]).suggesting(" "))
            }
            _ => Ok(()),
        }
    }
}

/// Explains a kind of test that a field of ids, offsets or times does not take.
fn not_for(field: &Field, span: Span) -> QueryError {
    let error = QueryError::new(
        span,
        format!("`{field}` holds no text, so this does not go with it."),
    );
    match field {
        Field::Id | Field::SessionId => {
            error.expecting(["a UUID", "the beginning of one and `*`", "`IN [`"])
        }
        Field::Offset => error.expecting(["a number", "`>` or `<`", "`[` or `{`", "`IN [`"]),
        _ => error.expecting(["a time", "`>` or `<`", "`[` or `{`", "`IN [`"]),
    }
}
