//! Rows of CSV as PostgreSQL's `\copy` writes them (RFC 4180: quotes are doubled, a quoted field may hold line feeds).
//!
//! What must stay true: a row's length has a bound, so that a quote that is never closed cannot fill the memory.

use crate::cli::send::{batch::Place, source::Content};
use std::io::{self, BufRead};

/// What a row may have at most; far above what a service takes as one event.
const ROW_BYTES_MAX: usize = 16 << 20;

/// Reads rows, and knows where it is.
pub(super) struct CsvRows {
    content: Content,
    /// Where the next row begins.
    pub(super) place: Place,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// Where in a field a byte stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Plain,
    Quoted,
    /// Behind a quote within quotes: the end of the field, or the first of two.
    Quote,
}

impl CsvRows {
    /// Reads on at a place between two rows.
    pub(super) fn new(content: Content, place: Place) -> Self {
        Self {
            content,
            place,
            bytes: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Reads the next row; false at the end. An error of kind `InvalidData` says which line cannot be read on from.
    pub(super) fn next(&mut self) -> io::Result<bool> {
        self.bytes.clear();
        self.ends.clear();
        let begin = self.place.line + 1;
        let mut state = State::Start;
        loop {
            let buffer = self.content.fill_buf()?;
            if buffer.is_empty() {
                if state == State::Quoted {
                    return Err(broken(begin, "a quote in this row is never closed"));
                }
                let is_row = state != State::Start || !self.ends.is_empty();
                if is_row {
                    self.ends.push(self.bytes.len());
                }
                return Ok(is_row);
            }
            let mut used = 0;
            let mut is_over = false;
            for byte in buffer {
                used += 1;
                self.place.line += u64::from(*byte == b'\n');
                state = match (state, byte) {
                    (State::Quoted, b'"') => State::Quote,
                    (State::Quoted, byte) => {
                        self.bytes.push(*byte);
                        State::Quoted
                    }
                    (State::Quote, b'"') => {
                        self.bytes.push(b'"');
                        State::Quoted
                    }
                    (State::Start, b'"') => State::Quoted,
                    (_, b',') => {
                        self.ends.push(self.bytes.len());
                        State::Start
                    }
                    (_, b'\n') => {
                        is_over = true;
                        break;
                    }
                    // Before a line feed it belongs to that, and nobody misses one anywhere else outside of quotes.
                    (state, b'\r') => state,
                    (State::Quote, _) => {
                        return Err(broken(begin, "something stands behind a closing quote"));
                    }
                    (_, byte) => {
                        self.bytes.push(*byte);
                        State::Plain
                    }
                };
            }
            self.content.consume(used);
            self.place.position += used as u64;
            if self.bytes.len() > ROW_BYTES_MAX {
                return Err(broken(
                    begin,
                    "this row is longer than 16 MiB; is a quote in it not closed?",
                ));
            }
            if is_over {
                self.ends.push(self.bytes.len());
                return Ok(true);
            }
        }
    }

    /// Returns the fields of the row that was read.
    pub(super) fn fields(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(&0).chain(&self.ends);
        begins
            .zip(&self.ends)
            .map(|(begin, end)| &self.bytes[*begin..*end])
    }
}

fn broken(line: u64, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("line {line}: {what}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{BufReader, Read};

    fn content(text: &str, buffer: usize) -> Content {
        let text: Box<dyn Read + Send> = Box::new(io::Cursor::new(text.as_bytes().to_vec()));
        BufReader::with_capacity(buffer, text)
    }

    fn rows(text: &str, buffer: usize) -> Vec<(u64, u64, Vec<String>)> {
        let mut rows = CsvRows::new(content(text, buffer), Place::default());
        let mut read = Vec::new();
        while rows.next().unwrap() {
            let fields = rows
                .fields()
                .map(|field| String::from_utf8(field.to_vec()).unwrap());
            read.push((rows.place.line, rows.place.position, fields.collect()));
        }
        read
    }

    #[test]
    fn quotes_commas_and_line_feeds_are_kept_wherever_the_buffer_ends() {
        let text = "id,data\r\n1,\"{\"\"a\"\": \"\"b,\nc\"\"}\"\n2,\n,\"\"\n3,x";
        let row = |line, position, fields: [&str; 2]| {
            (line, position, fields.map(str::to_owned).to_vec())
        };
        for buffer in [1, 2, 3, 7, 100] {
            assert_eq!(
                rows(text, buffer),
                [
                    row(1, 9, ["id", "data"]),
                    row(3, 31, ["1", "{\"a\": \"b,\nc\"}"]),
                    row(4, 34, ["2", ""]),
                    row(5, 38, ["", ""]),
                    row(5, 41, ["3", "x"]),
                ],
                "a buffer of {buffer}"
            );
        }
    }

    #[test]
    fn reading_goes_on_at_any_row() {
        let text = "a,b\n1,\"x\ny\"\n2,z\n";
        for (line, position, fields) in rows(text, 10).windows(2).map(|pair| {
            let (line, position, _) = pair[0];
            (line, position, pair[1].2.clone())
        }) {
            let rest = &text[usize::try_from(position).unwrap()..];
            let mut rows = CsvRows::new(content(rest, 10), Place { line, position });
            assert!(rows.next().unwrap());
            let again: Vec<_> = rows
                .fields()
                .map(|field| String::from_utf8_lossy(field))
                .collect();
            assert_eq!(again, fields);
        }
    }

    #[test]
    fn what_cannot_be_a_row_is_named_with_its_line() {
        for (text, line) in [("a,b\n1,\"x\n\n", "line 2"), ("a,\"b\"c\n", "line 1")] {
            let mut rows = CsvRows::new(content(text, 4), Place::default());
            let error = loop {
                match rows.next() {
                    Ok(more) => assert!(more, "{text}"),
                    Err(error) => break error,
                }
            };
            assert!(error.to_string().starts_with(line), "{error}");
        }
    }
}
