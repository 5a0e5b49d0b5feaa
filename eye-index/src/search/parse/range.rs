//! Comparisons `>10` and ranges `[10 TO 20}` after the name of a field.

use std::ops::Bound;

use super::{Parsed, Parser, QueryError};
use crate::search::query::{Field, Kind, Scalar, Span, Test, Value, quote};

/// The lower or upper end of a range as written, and whether it is inside.
pub(super) type End = Bound<(Value, Span)>;

impl Parser {
    /// Reads `>10`, `>=10`, `<10` or `<=10`.
    pub(super) fn comparison(&mut self, field: Field) -> Parsed<Kind> {
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
    pub(super) fn range(&mut self, field: Field) -> Parsed<Kind> {
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
                let error = |length| {
                    QueryError::new(self.span_of(length), message).expecting(["`]`", "`}`"])
                };
                return Err(match found {
                    // As mathematicians write it, unless the parenthesis belongs to another.
                    Some(')') if self.nesting == 0 => error(1).suggesting("}"),
                    None | Some(')') => error(0).suggesting("]"),
                    Some(_) => error(0),
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
}
