//! The events to send: a file where `EYE_BENCH_EVENTS` names one, else made from a seed. They lie in memory as one text,
//! so that any run of lines is a request's body without copying.

use crate::web_events;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use support::Random;

/// Events as NDJSON.
#[derive(Debug)]
pub struct Events {
    name: String,
    text: Vec<u8>,
    /// Where each line begins, and where the last one ends.
    bounds: Vec<usize>,
}

impl Events {
    /// Returns `count` events: the first of the file in `EYE_BENCH_EVENTS`, else as many made from seed 42. Panics where the
    /// file holds fewer, so that nobody quotes a million that were less.
    pub fn of_the_environment(count: usize) -> Events {
        match std::env::var("EYE_BENCH_EVENTS") {
            Ok(path) => {
                let events = Events::of_file(Path::new(&path), count);
                assert_eq!(
                    events.len(),
                    count,
                    "{path} holds fewer events than asked for"
                );
                events
            }
            Err(_) => Events::made(count, web_events::SEED),
        }
    }

    /// Returns events made like those of `web_events.py`, from a seed.
    pub fn made(count: usize, seed: u64) -> Events {
        let name = format!("made like web_events.py, seed {seed}");
        Events::new(name, web_events::text(count, seed), count)
    }

    /// Returns the events of an NDJSON file, the first `most` of them.
    pub fn of_file(path: &Path, most: usize) -> Events {
        let mut text = Vec::new();
        let mut file =
            std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        file.read_to_end(&mut text).unwrap();
        Events::new(path.display().to_string(), text, most)
    }

    fn new(name: String, mut text: Vec<u8>, count: usize) -> Events {
        if text.last().is_some_and(|&byte| byte != b'\n') {
            text.push(b'\n');
        }
        let ends = text
            .iter()
            .enumerate()
            .filter(|&(_, &byte)| byte == b'\n')
            .map(|(position, _)| position + 1);
        let bounds: Vec<usize> = std::iter::once(0).chain(ends.take(count)).collect();
        text.truncate(*bounds.last().expect("there is a first bound"));
        Events { name, text, bounds }
    }

    /// Returns the same events in another order.
    pub fn shuffled(&self, random: &mut Random) -> Events {
        let mut order: Vec<usize> = (0..self.len()).collect();
        for place in (1..order.len()).rev() {
            order.swap(place, random.index(place + 1));
        }
        let mut text = Vec::with_capacity(self.bytes());
        for event in order {
            text.extend_from_slice(self.lines(event..event + 1));
        }
        Events::new(format!("{}, shuffled", self.name), text, self.len())
    }

    /// Returns what the events are, for the record.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns how many events there are.
    pub fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many bytes they take, ends of line included.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Returns the lines of these events.
    pub fn lines(&self, events: Range<usize>) -> &[u8] {
        &self.text[self.bounds[events.start]..self.bounds[events.end]]
    }

    /// Returns the `number`-th batch of `size` events; beyond the last event it begins again at the first.
    pub fn batch(&self, number: usize, size: usize) -> &[u8] {
        let batches = (self.len() / size).max(1);
        let start = number % batches * size;
        self.lines(start..self.len().min(start + size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_runs_of_lines_and_begin_again() {
        let events = Events::new("five".into(), b"1\n22\n333\n4444\n5".to_vec(), 4);
        assert_eq!((events.len(), events.bytes()), (4, 14));
        assert_eq!(events.batch(0, 2), b"1\n22\n");
        assert_eq!(events.batch(1, 2), b"333\n4444\n");
        assert_eq!(events.batch(2, 2), b"1\n22\n");
    }

    #[test]
    fn made_events_are_json_and_the_same_every_time() {
        let text = web_events::text(2_000, web_events::SEED);
        assert_eq!(text, web_events::text(2_000, web_events::SEED));
        let events = Events::new(String::new(), text, 2_000);
        assert_eq!(events.len(), 2_000);
        for number in 0..events.len() {
            let event: serde_json::Value = serde_json::from_slice(events.batch(number, 1)).unwrap();
            assert!(
                event["data"].is_object()
                    && event["timestamp"]
                        .as_str()
                        .is_some_and(|time| time.starts_with("2021-"))
            );
        }
        // The original has 465 bytes an event.
        assert!(
            (380..550).contains(&(events.bytes() / events.len())),
            "{} bytes an event",
            events.bytes() / events.len()
        );
    }
}
