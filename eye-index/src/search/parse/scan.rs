//! The characters of a query: white space, operators, quoted strings, and text without quotes.

use super::{Parsed, Parser, QueryError};
use crate::search::query::{Place, Span, Value, escape, quote};

/// A character of text without quotes; an escaped one never means anything but itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Glyph {
    pub(super) c: char,
    pub(super) escaped: bool,
}

impl Glyph {
    pub(super) fn is_bare(self, c: char) -> bool {
        self.c == c && !self.escaped
    }
}

/// Text as it stands in the query.
pub(super) enum Written {
    Quoted { text: String, slop: Option<u32> },
    Unquoted(Vec<Glyph>),
}

pub(super) fn text_of(glyphs: &[Glyph]) -> String {
    glyphs.iter().map(|glyph| glyph.c).collect()
}

impl Parser {
    pub(super) fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    pub(super) fn take(&mut self, text: &str) -> bool {
        let found = text.chars().eq(self
            .chars
            .iter()
            .skip(self.at)
            .take(text.chars().count())
            .copied());
        if found {
            self.at += text.chars().count();
        }
        found
    }

    pub(super) fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    /// Skips white space and returns where it ends.
    pub(super) fn at_next(&mut self) -> usize {
        self.skip_space();
        self.at
    }

    pub(super) fn span_from(&self, start: usize) -> Span {
        Span {
            position: start,
            length: self.at - start,
        }
    }

    pub(super) fn span_of(&self, length: usize) -> Span {
        Span {
            position: self.at,
            length,
        }
    }

    pub(super) fn raw(&self, start: usize, end: usize) -> String {
        self.chars[start..end].iter().collect()
    }

    /// Returns the characters from here to the next white space, parenthesis, quote or one of `stops`.
    fn bare_token(&self, stops: &[char]) -> String {
        let ends =
            |c: &char| c.is_whitespace() || matches!(c, '(' | ')' | '"') || stops.contains(c);
        self.chars
            .iter()
            .skip(self.at)
            .take_while(|c| !ends(c))
            .collect()
    }

    /// Returns the operator that stands here, if one does.
    pub(super) fn operator(&self) -> Option<&'static str> {
        self.operator_before(&[])
    }

    pub(super) fn operator_before(&self, stops: &[char]) -> Option<&'static str> {
        let token = self.bare_token(stops);
        ["AND", "OR", "NOT", "IN", "TO"]
            .into_iter()
            .find(|operator| *operator == token)
    }

    pub(super) fn take_operator(&mut self, operator: &str) -> bool {
        self.skip_space();
        self.operator() == Some(operator) && self.take(operator)
    }

    /// Returns where the text that hangs together from here ends: at white space, or at the end.
    pub(super) fn end_of_lump(&self) -> usize {
        let is_space = |c: &char| c.is_whitespace();
        self.chars
            .iter()
            .skip(self.at)
            .position(is_space)
            .map_or(self.chars.len(), |length| self.at + length)
    }

    /// Reads a quoted string, with the `~N` that may follow it, or text without quotes up to white space, a parenthesis
    /// or one of `stops`.
    pub(super) fn written(&mut self, stops: &[char]) -> Parsed<Written> {
        let start = self.at;
        let written = match self.peek() {
            Some('"') => {
                let text = self.quoted()?;
                let slop = if self.peek() == Some('~') {
                    Some(self.slop()?)
                } else {
                    None
                };
                Written::Quoted { text, slop }
            }
            _ => Written::Unquoted(self.unquoted(stops)?),
        };
        match self.peek() {
            None | Some(')') => Ok(written),
            Some(c) if c.is_whitespace() || stops.contains(&c) => Ok(written),
            Some(c) => Err(self.stuck_together(start, c, &written)),
        }
    }

    fn stuck_together(&mut self, start: usize, c: char, written: &Written) -> QueryError {
        if let (Written::Quoted { text, slop: None }, ':' | '=') = (written, c) {
            let message = "The name of a field stands without quotes.";
            return QueryError::new(self.span_from(start), message)
                .expecting(["a field without quotes"])
                .suggesting(escape(text, Place::Key));
        }
        if matches!(written, Written::Quoted { .. }) {
            let error = QueryError::new(self.span_of(0), "A space is missing after the quotes.");
            return error.expecting(["a space"]).suggesting(" ");
        }
        let message = format!(
            "`{c}` stands inside a word. Quotes make it part of the text, a space begins something new."
        );
        self.at = self.end_of_lump();
        let error = QueryError::new(self.span_from(start), message).expecting(["a space"]);
        error.suggesting(quote(&self.raw(start, self.at)))
    }

    fn quoted(&mut self) -> Parsed<String> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        while let Some(c) = self.peek() {
            self.at += 1;
            match (c, self.peek()) {
                ('"', _) => return Ok(text),
                ('\\', Some(escaped @ ('"' | '\\'))) => {
                    self.at += 1;
                    text.push(escaped);
                }
                _ => text.push(c),
            }
        }
        let error = QueryError::new(self.span_from(start), "This quote is not closed.");
        Err(error.expecting(["`\"`"]).suggesting(quote(&text)))
    }

    fn slop(&mut self) -> Parsed<u32> {
        let start = self.at;
        self.at += 1;
        let digits = self.bare_token(&[',', ']', '}']);
        let length = digits.chars().count();
        match digits.parse() {
            Ok(slop) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.at += length;
                Ok(slop)
            }
            _ => {
                self.at += length;
                let message =
                    "After a phrase, `~` says how many other words may stand between its words.";
                Err(QueryError::new(self.span_from(start), message)
                    .expecting(["`~` and a number"])
                    .suggesting("~1"))
            }
        }
    }

    fn unquoted(&mut self, stops: &[char]) -> Parsed<Vec<Glyph>> {
        let mut glyphs = Vec::new();
        while let Some(c) = self.peek() {
            if c.is_whitespace() || matches!(c, '(' | ')' | '"') || stops.contains(&c) {
                break;
            }
            self.at += 1;
            if c != '\\' {
                glyphs.push(Glyph { c, escaped: false });
            } else if let Some(c) = self.peek() {
                self.at += 1;
                glyphs.push(Glyph { c, escaped: true });
            } else {
                let span = Span {
                    position: self.at - 1,
                    length: 1,
                };
                let message = "A `\\` makes the next character part of the text, and here is none.";
                return Err(QueryError::new(span, message)
                    .expecting(["a character after `\\`"])
                    .suggesting("\\\\"));
            }
        }
        Ok(glyphs)
    }

    /// Returns what stands here as a value, for the ends of ranges and the items of lists, which are plain.
    pub(super) fn plain_value(&mut self, stops: &[char]) -> Parsed<Value> {
        let start = self.at;
        if let Some(operator) = self.operator_before(stops) {
            let error = QueryError::new(
                self.span_of(operator.len()),
                format!("`{operator}` in capitals is no value."),
            );
            return Err(error.expecting(["a value"]).suggesting(quote(operator)));
        }
        match self.written(stops)? {
            Written::Quoted { text, slop: None } => Ok(Value { text, quoted: true }),
            Written::Unquoted(glyphs) if glyphs.is_empty() => {
                Err(QueryError::new(self.span_of(0), "A value is missing here.")
                    .expecting(["a value"]))
            }
            Written::Unquoted(glyphs)
                if !glyphs
                    .iter()
                    .any(|glyph| glyph.is_bare('*') || glyph.is_bare('?')) =>
            {
                Ok(Value {
                    text: text_of(&glyphs),
                    quoted: false,
                })
            }
            Written::Unquoted(glyphs) => {
                let message = "A pattern cannot stand here. In quotes, `*` and `?` are themselves.";
                let error = QueryError::new(self.span_from(start), message)
                    .expecting(["a value without `*` and `?`"]);
                Err(error.suggesting(quote(&text_of(&glyphs))))
            }
            Written::Quoted {
                text,
                slop: Some(_),
            } => {
                let error = QueryError::new(
                    self.span_from(start),
                    "A phrase with `~` cannot stand here.",
                );
                Err(error.expecting(["a value"]).suggesting(quote(&text)))
            }
        }
    }
}
