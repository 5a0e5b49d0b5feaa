//! Lists `IN [a, "b"]` after the name of a field.

use super::{Parsed, Parser, QueryError};
use crate::search::query::{Clause, Field, Kind, Span, Test, Value};

impl Parser {
    /// Reads `IN [a, "b"]`.
    pub(super) fn list(&mut self, field: Field) -> Parsed<Kind> {
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
            return Err(if at_end { text } else { here });
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
}
