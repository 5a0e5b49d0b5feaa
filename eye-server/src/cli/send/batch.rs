//! Lines gathered into the body of one request, prepared while the request before it is under way.

use super::{
    line_id::{LineIds, Shape, append_with_id, shape},
    source::{Lines, Next},
};
use axum::body::Bytes;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::mpsc;

/// What a body has at most, unless a single line is longer. A quarter of what a service takes by default.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Is a place between two lines of the content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::cli) struct Place {
    /// How many lines lie before it.
    pub(in crate::cli) line: u64,
    /// How many bytes lie before it.
    pub(in crate::cli) position: u64,
}

/// Holds the lines of one request, in their order.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Batch {
    pub(in crate::cli) body: Bytes,
    lines: Vec<Line>,
    /// Numbers of lines that were too long to be sent at all.
    pub(in crate::cli) too_long: Vec<u64>,
    /// Whether each event carries an id, so that sending it twice is harmless.
    pub(in crate::cli) has_ids: bool,
    /// Where the content goes on after this batch.
    pub(in crate::cli) end: Place,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    body_end: usize,
    end: Place,
}

impl Batch {
    /// Returns how many lines are sent.
    pub(in crate::cli) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Returns the number, in its file, of the line with an index in the request.
    pub(in crate::cli) fn line_number(&self, index: usize) -> Option<u64> {
        self.lines.get(index).map(|line| line.end.line)
    }

    /// Splits a batch of at least two lines into two, to be sent one after the other.
    pub(in crate::cli) fn halves(mut self) -> (Batch, Batch) {
        let mut second = self.lines.split_off(self.lines.len() / 2);
        let last = self.lines.last().map_or(
            Line {
                body_end: 0,
                end: Place::default(),
            },
            |line| *line,
        );
        for line in &mut second {
            line.body_end -= last.body_end;
        }
        let second = Batch {
            body: self.body.split_off(last.body_end),
            lines: second,
            too_long: Vec::new(),
            has_ids: self.has_ids,
            end: self.end,
        };
        (
            Batch {
                end: last.end,
                ..self
            },
            second,
        )
    }
}

/// Gathers events that come from elsewhere than a file, each on a line and with its id.
#[derive(Debug, Default)]
pub(in crate::cli) struct Gathering {
    body: Vec<u8>,
    lines: Vec<Line>,
}

impl Gathering {
    /// Adds an event; `end` names it and says where to go on behind it.
    pub(in crate::cli) fn push(&mut self, event: &[u8], end: Place) {
        self.body.extend_from_slice(event);
        self.body.push(b'\n');
        let body_end = self.body.len();
        self.lines.push(Line { body_end, end });
    }

    /// Says how many events there are.
    pub(in crate::cli) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Says whether another event of so many bytes belongs into the next request.
    pub(in crate::cli) fn is_full_for(&self, event_bytes: usize) -> bool {
        !self.lines.is_empty() && self.body.len() + event_bytes >= BODY_BYTES_MAX
    }

    /// Returns what was gathered, and begins anew.
    pub(in crate::cli) fn take(&mut self) -> Batch {
        let lines = std::mem::take(&mut self.lines);
        Batch {
            body: std::mem::take(&mut self.body).into(),
            end: lines.last().map_or(Place::default(), |line| line.end),
            lines,
            too_long: Vec::new(),
            has_ids: true,
        }
    }
}

/// Gathers batches from lines, in order.
pub(super) struct Preparer {
    lines: Lines,
    /// None: lines without an id go out without one.
    ids: Option<LineIds>,
    lines_max: usize,
    /// Set while the other side waits for a batch. Someone may be typing what is read once: then what is there goes out
    /// rather than waiting for a full batch.
    wanted: Option<Arc<AtomicBool>>,
    /// The line that did not fit into the batch before.
    held: Option<(Vec<u8>, Place, Shape)>,
    failed: Option<io::Error>,
}

impl Preparer {
    pub(super) fn new(
        lines: Lines,
        ids: Option<LineIds>,
        lines_max: usize,
        wanted: Option<Arc<AtomicBool>>,
    ) -> Self {
        Preparer {
            lines,
            ids,
            lines_max,
            wanted,
            held: None,
            failed: None,
        }
    }

    /// Sends every batch, then the error that ended the reading if there was one; ends early when nobody takes them.
    pub(super) fn run(mut self, batches: &mpsc::Sender<io::Result<Batch>>) {
        while let Some(batch) = self.next().transpose() {
            let failed = batch.is_err();
            if batches.blocking_send(batch).is_err() || failed {
                return;
            }
        }
    }

    /// Returns the next batch; none at the end. What was read before an error comes first, then the error.
    pub(super) fn next(&mut self) -> io::Result<Option<Batch>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut body = Vec::with_capacity(BODY_BYTES_MAX / 4);
        let mut batch = Batch {
            has_ids: true,
            end: self.place(),
            ..Batch::default()
        };
        if let Some((line, end, shape)) = self.held.take() {
            body.extend(line);
            batch.has_ids &= self.is_harmless(shape);
            batch.lines.push(Line {
                body_end: body.len(),
                end,
            });
            batch.end = end;
        }
        let mut line = Vec::new();
        while batch.lines.len() < self.lines_max
            && body.len() < BODY_BYTES_MAX
            && !self.is_awaited(&batch)
        {
            let next = match self.lines.next(&mut line) {
                Ok(next) => next,
                Err(error) if batch.lines.is_empty() => return Err(error),
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            };
            match next {
                Next::End => break,
                Next::TooLong => batch.too_long.push(self.lines.number),
                // An empty line is no event, and is not counted as one by the service.
                Next::Line if line.iter().all(u8::is_ascii_whitespace) => {}
                Next::Line => {
                    let shape = shape(&line);
                    let start = body.len();
                    match (&self.ids, shape) {
                        (Some(ids), Shape::WithoutId) => {
                            append_with_id(&line, ids.id_of(self.lines.number), &mut body);
                        }
                        _ => body.extend_from_slice(&line),
                    }
                    body.push(b'\n');
                    if body.len() > BODY_BYTES_MAX && start > 0 {
                        self.held = Some((body.split_off(start), self.place(), shape));
                        break;
                    }
                    batch.has_ids &= self.is_harmless(shape);
                    batch.lines.push(Line {
                        body_end: body.len(),
                        end: self.place(),
                    });
                }
            }
            batch.end = self.place();
        }
        batch.body = body.into();
        let is_empty = batch.lines.is_empty() && batch.too_long.is_empty();
        Ok((!is_empty).then_some(batch))
    }

    fn place(&self) -> Place {
        Place {
            line: self.lines.number,
            position: self.lines.position,
        }
    }

    /// Returns true if a line may be sent twice: it has an id, gets one, or is refused each time.
    fn is_harmless(&self, shape: Shape) -> bool {
        self.ids.is_some() || shape != Shape::WithoutId
    }

    fn is_awaited(&self, batch: &Batch) -> bool {
        let waited_for = self
            .wanted
            .as_ref()
            .is_some_and(|wanted| wanted.load(Ordering::Relaxed));
        waited_for && !batch.lines.is_empty() && self.lines.may_wait()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{BufReader, Cursor, Read};

    fn preparer(text: &str, ids: bool, lines_max: usize) -> Preparer {
        let content: Box<dyn Read + Send> = Box::new(Cursor::new(text.as_bytes().to_vec()));
        let ids = ids.then(|| LineIds::new("a", &[0; 32]));
        Preparer::new(
            Lines::new(BufReader::new(content), 0, 0, None),
            ids,
            lines_max,
            None,
        )
    }

    #[test]
    fn batches_hold_so_many_lines_and_know_their_numbers() {
        let mut preparer = preparer("{\"id\":1}\n\n{\"id\":2}\r\n{\"id\":3}\n  \n", false, 2);
        let first = preparer.next().unwrap().unwrap();
        assert_eq!(&first.body[..], b"{\"id\":1}\n{\"id\":2}\r\n");
        assert_eq!(
            [
                first.line_number(0),
                first.line_number(1),
                first.line_number(2)
            ],
            [Some(1), Some(3), None]
        );
        assert_eq!(
            first.end,
            Place {
                line: 3,
                position: 20
            }
        );
        assert!(first.has_ids);
        let second = preparer.next().unwrap().unwrap();
        assert_eq!(
            (second.len(), second.line_number(0), second.end.line),
            (1, Some(4), 5)
        );
        assert!(preparer.next().unwrap().is_none());
    }

    #[test]
    fn a_line_that_does_not_fit_opens_the_next_batch() {
        let long = format!("{{\"id\":1,\"a\":\"{}\"}}", "x".repeat(3 << 20));
        let mut preparer = preparer(&format!("{long}\n{long}\n{{\"id\":2}}\n"), false, 100);
        let first = preparer.next().unwrap().unwrap();
        assert_eq!((first.len(), first.end.line), (1, 1));
        let second = preparer.next().unwrap().unwrap();
        assert_eq!(
            (second.len(), second.line_number(0), second.end.line),
            (2, Some(2), 3)
        );
        assert!(first.body.len() < BODY_BYTES_MAX && second.body.len() < BODY_BYTES_MAX);
        assert!(preparer.next().unwrap().is_none());
    }

    #[test]
    fn lines_without_an_id_get_one_or_are_marked() {
        let without = preparer("{\"a\":1}\nnonsense\n", false, 9)
            .next()
            .unwrap()
            .unwrap();
        assert!(!without.has_ids);
        assert_eq!(&without.body[..], b"{\"a\":1}\nnonsense\n");
        let with = preparer("{\"a\":1}\nnonsense\n", true, 9)
            .next()
            .unwrap()
            .unwrap();
        assert!(with.has_ids);
        let text = String::from_utf8(with.body.to_vec()).unwrap();
        let id = LineIds::new("a", &[0; 32]).id_of(1);
        assert_eq!(text, format!("{{\"id\":\"{id}\",\"a\":1}}\nnonsense\n"));
    }

    #[test]
    fn halves_are_the_whole_in_order() {
        let batch = preparer("1\n22\n333\n4444\n55555\n", false, 9)
            .next()
            .unwrap()
            .unwrap();
        let (first, second) = batch.halves();
        assert_eq!(
            (&first.body[..], first.end),
            (
                &b"1\n22\n"[..],
                Place {
                    line: 2,
                    position: 5
                }
            )
        );
        assert_eq!(
            (&second.body[..], second.end.line),
            (&b"333\n4444\n55555\n"[..], 5)
        );
        let (first, second) = second.halves();
        assert_eq!(
            (&first.body[..], first.line_number(0)),
            (&b"333\n"[..], Some(3))
        );
        assert_eq!(
            (&second.body[..], second.line_number(1)),
            (&b"4444\n55555\n"[..], Some(5))
        );
    }

    #[test]
    fn what_was_read_before_an_error_is_sent_first() {
        struct Torn(bool);
        impl Read for Torn {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(io::Error::other("torn"));
                }
                buffer[..2].copy_from_slice(b"1\n");
                Ok(2)
            }
        }
        let content: Box<dyn Read + Send> = Box::new(Torn(false));
        let mut preparer = Preparer::new(
            Lines::new(BufReader::new(content), 0, 0, None),
            None,
            9,
            None,
        );
        assert_eq!(preparer.next().unwrap().unwrap().len(), 1);
        assert_eq!(preparer.next().unwrap_err().to_string(), "torn");
    }

    #[test]
    fn someone_typing_does_not_wait_for_a_full_batch() {
        let wanted = Arc::new(AtomicBool::new(true));
        let content: Box<dyn Read + Send> =
            Box::new(Cursor::new(b"1\n2\n".to_vec()).chain(Cursor::new(b"3\n".to_vec())));
        let lines = Lines::new(BufReader::new(content), 0, 0, None);
        let mut preparer = Preparer::new(lines, None, 100, Some(Arc::clone(&wanted)));
        assert_eq!(preparer.next().unwrap().unwrap().len(), 2);
        assert_eq!(preparer.next().unwrap().unwrap().len(), 1);
    }
}
