//! What stands after the name of a field: a value, a pattern, a regular expression. (`range` and `list` have files.)

use super::scan::Written;
use super::term::{Asked, Form};
use super::{Parsed, Parser, QueryError};
use crate::search::query::{Field, Kind, Scalar, Span, Test, Value, meant_field, quote};
use crate::search::words::words;

const VALUES: [&str; 5] = ["a value", "`*`", "`>` or `<`", "`[` or `{`", "`IN [`"];

impl Field {
    /// Tells whether values are text, or whatever JSON holds.
    pub(super) fn is_typed(&self) -> bool {
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

    pub(super) fn expect_space(&self) -> Parsed<()> {
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
