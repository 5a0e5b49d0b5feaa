//! From the text of a query to its tree. This file has the grammar of AND, OR, NOT and parentheses; `term` has what
//! stands between them, `value`, `range` and `list` what follows a field's name, `typed` the fields that hold no text.
//!
//! Nothing is guessed and nothing dropped: whatever cannot be read whole is an error with its place.

use super::query::{Clause, Kind, Span};

mod error;
mod list;
mod range;
mod scan;
mod term;
mod typed;
mod value;

#[cfg(test)]
mod tests;

pub use error::QueryError;

/// The longest query taken, in bytes of UTF-8.
pub const QUERY_BYTES_MAX: usize = 16 * 1024;

/// How deep parentheses, NOT and `-` may stand inside each other.
pub const NESTING_MAX: usize = 64;

/// Reads a query. An empty one matches everything.
///
/// # Errors
/// Returns at least one mistake; several where reading could go on behind the first. In the order of their positions.
pub fn parse(q: &str) -> Result<Clause, Vec<QueryError>> {
    if q.len() > QUERY_BYTES_MAX {
        let position = q[..q.floor_char_boundary(QUERY_BYTES_MAX)].chars().count();
        let span = Span {
            position,
            length: q.chars().count() - position,
        };
        return Err(vec![QueryError::new(
            span,
            format!("A query is at most {QUERY_BYTES_MAX} bytes long."),
        )]);
    }
    let mut parser = Parser {
        chars: q.chars().collect(),
        at: 0,
        nesting: 0,
        operand_end: 0,
        errors: Vec::new(),
    };
    let parsed = parser.query();
    let mut errors = parser.errors;
    match parsed {
        Ok(clause) if errors.is_empty() => return Ok(clause),
        Ok(_) => {}
        Err(error) => errors.push(error),
    }
    errors.sort_by_key(|error| error.position);
    Err(errors)
}

/// A mistake after which nothing that follows can be understood is returned as an error; others are noted in `errors`
/// and reading goes on.
type Parsed<T> = Result<T, QueryError>;

struct Parser {
    chars: Vec<char>,
    at: usize,
    nesting: usize,
    /// Where the last operand ended, without the white space that may have been skipped behind it.
    operand_end: usize,
    errors: Vec<QueryError>,
}

const OPERANDS: [&str; 4] = ["a word", "a \"phrase\"", "field:value", "("];

impl Parser {
    fn query(&mut self) -> Parsed<Clause> {
        self.skip_space();
        if self.peek().is_none() {
            return Ok(self.clause(0, Kind::All));
        }
        let clause = self.any_of()?;
        match self.peek() {
            None => Ok(clause),
            Some(_) => Err(QueryError::new(self.span_of(1), "This `)` closes nothing.")
                .expecting(["the end of the query"])
                .suggesting("")),
        }
    }

    /// Reads `a OR b OR c`.
    fn any_of(&mut self) -> Parsed<Clause> {
        let (start, mut clauses) = (self.at_next(), vec![self.all_of()?]);
        while self.take_operator("OR") {
            clauses.push(self.all_of()?);
        }
        Ok(self.one_or_many(start, clauses, Kind::Or))
    }

    /// Reads `a AND b c`, where AND may be left out.
    fn all_of(&mut self) -> Parsed<Clause> {
        let (start, mut clauses) = (self.at_next(), vec![self.maybe_not()?]);
        loop {
            self.skip_space();
            if matches!(self.peek(), None | Some(')')) || self.operator() == Some("OR") {
                return Ok(self.one_or_many(start, clauses, Kind::And));
            }
            self.take_operator("AND");
            clauses.push(self.maybe_not()?);
        }
    }

    fn one_or_many(
        &self,
        start: usize,
        mut clauses: Vec<Clause>,
        many: fn(Vec<Clause>) -> Kind,
    ) -> Clause {
        match clauses.pop() {
            Some(only) if clauses.is_empty() => only,
            last => {
                clauses.extend(last);
                Clause {
                    kind: many(clauses),
                    span: Span {
                        position: start,
                        length: self.operand_end - start,
                    },
                }
            }
        }
    }

    /// Reads an operand with any number of `NOT` and `-` before it.
    fn maybe_not(&mut self) -> Parsed<Clause> {
        let mut starts = Vec::new();
        loop {
            self.skip_space();
            let start = self.at;
            if self.take_operator("NOT") {
                starts.push(start);
            } else if self.peek() == Some('-') {
                self.at += 1;
                if self.peek().is_none_or(|c| c.is_whitespace() || c == ')') {
                    let message =
                        "A `-` alone leaves nothing out; it belongs before a word without a space.";
                    return Err(QueryError::new(self.span_from(start), message)
                        .expecting(["a word after `-`"]));
                }
                starts.push(start);
            } else {
                break;
            }
            if self.nesting + starts.len() > NESTING_MAX {
                return Err(too_deep(self.span_from(start)));
            }
        }
        self.nesting += starts.len();
        let mut clause = self.operand()?;
        self.nesting -= starts.len();
        self.operand_end = self.at;
        for start in starts.into_iter().rev() {
            clause = self.clause(start, Kind::Not(Box::new(clause)));
        }
        Ok(clause)
    }

    fn operand(&mut self) -> Parsed<Clause> {
        if let Some(operator) = self.operator() {
            return Err(self.misplaced(operator));
        }
        match self.peek() {
            None => Err(QueryError::new(
                self.span_of(0),
                "The query ends where something to look for was expected.",
            )
            .expecting(OPERANDS)),
            Some(')') => {
                let message = "There is nothing to look for before this `)`.";
                Err(QueryError::new(self.span_of(1), message).expecting(OPERANDS))
            }
            Some('(') => self.group(),
            Some('"') => self.phrase(),
            Some(_) => self.term(),
        }
    }

    fn group(&mut self) -> Parsed<Clause> {
        let open = self.at;
        if self.nesting == NESTING_MAX {
            return Err(too_deep(self.span_of(1)));
        }
        self.at += 1;
        self.nesting += 1;
        let clause = self.any_of()?;
        self.nesting -= 1;
        if self.peek() != Some(')') {
            let message = format!("The `(` at position {open} is not closed.");
            return Err(QueryError::new(self.span_of(0), message)
                .expecting(["`)`"])
                .suggesting(")"));
        }
        self.at += 1;
        if self.peek().is_some_and(|c| !c.is_whitespace() && c != ')') {
            return Err(
                QueryError::new(self.span_of(0), "A space is missing after `)`.")
                    .expecting(["a space"])
                    .suggesting(" "),
            );
        }
        Ok(clause)
    }

    /// Explains an operator where an operand should be.
    fn misplaced(&self, operator: &str) -> QueryError {
        let message = match operator {
            "AND" | "OR" => format!("`{operator}` needs something to look for on both sides."),
            "IN" => "`IN` belongs after a field: `field:IN [a, b]`.".to_owned(),
            _ => "`TO` belongs in a range: `field:[10 TO 20]`.".to_owned(),
        };
        let message = format!("{message} The word itself is written in lower case or quotes.");
        QueryError::new(self.span_of(operator.len()), message)
            .expecting(OPERANDS)
            .suggesting(operator.to_lowercase())
    }

    /// Makes a clause that was written from `start` to here.
    fn clause(&self, start: usize, kind: Kind) -> Clause {
        Clause {
            kind,
            span: self.span_from(start),
        }
    }

    /// Notes a mistake behind which reading can go on; what it stands for does not matter, for the query is refused.
    fn note(&mut self, error: QueryError) -> Kind {
        self.errors.push(error);
        Kind::All
    }
}

fn too_deep(span: Span) -> QueryError {
    QueryError::new(
        span,
        format!(
            "Parentheses, `NOT` and `-` may stand at most {NESTING_MAX} deep inside each other."
        ),
    )
}
