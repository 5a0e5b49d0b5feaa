//! What a tortured writer writes, and how it is known again: every event follows from its run, batch and place.

use crate::cli::Outcome;
use eye_log::record::Record;
use eye_log::{ApplicationId, Batch, EventDraft, EventRules, Log, LogConfig, ReadError, Receipt};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Senders side by side.
const SENDERS: usize = 4;

/// An event: run, batch, place in the batch.
type Name = (u64, u64, u64);

fn data(name: Name) -> String {
    let (run, batch, place) = name;
    let filler = usize::try_from((batch * 31 + place * 7) % 300).unwrap_or(0);
    format!(
        "{{\"run\":{run},\"batch\":{batch},\"place\":{place},\"filler\":\"{}\"}}",
        "x".repeat(filler)
    )
}

fn push(batch: &mut Batch, name: Name) {
    let (run, number, place) = name;
    let session = format!("\"{}\"", Uuid::from_u128(u128::from(number % 97 + 1)));
    let id = format!("\"run {run}, batch {number}, place {place}\"");
    let data = data(name);
    let rules = EventRules {
        now: i64::MAX / 2,
        future_tolerance: 0,
        default_offset_seconds: 0,
        event_max_bytes: 1 << 18,
        depth_max: 64,
    };
    let draft = EventDraft {
        session_id: Some(&session),
        category: Some("\"torture\""),
        name: Some("\"deed\""),
        data: Some(&data),
        timestamp: Some("\"2021-01-01T00:00:00Z\""),
        ..EventDraft::default()
    };
    let event = draft
        .validate(&rules)
        .expect("an event of its own making is valid");
    // Every other one has an id of the client.
    if place.is_multiple_of(2) {
        let keyed = event.with_client_key(id.into()).expect("a short key");
        batch.push(&keyed);
    } else {
        batch.push(&event);
    }
}

fn send(log: &Log, batch: Batch) -> Result<Receipt, String> {
    let (sender, receiver) = mpsc::channel();
    let queued = log.append(batch, move |answer| {
        let _ = sender.send(answer);
    });
    queued.map_err(|error| error.to_string())?;
    receiver
        .recv()
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

/// Writes until it is killed; says a line for each batch that was acknowledged: run, batch, first offset, count.
pub(super) fn write(folder: &Path, config: &LogConfig, run: u64) -> Result<Outcome, String> {
    let (log, _) = Log::open(folder, config.clone()).map_err(|error| error.to_string())?;
    let next = AtomicU64::new(0);
    let said = Mutex::new(());
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let count = [1, 2, 7, 60, 500][usize::try_from(number % 5).unwrap_or(0)];
                    let mut batch = Batch::new(ApplicationId(0));
                    (0..count).for_each(|place| push(&mut batch, (run, number, place)));
                    let sent = send(&log, batch).and_then(|receipt| {
                        let first = receipt
                            .first_offset
                            .filter(|_| receipt.exceptions.is_empty());
                        let first = first.ok_or("events of its own making were refused")?;
                        let _one = said.lock().unwrap_or_else(PoisonError::into_inner);
                        let mut out = std::io::stdout().lock();
                        writeln!(out, "{run} {number} {first} {count}")
                            .and_then(|()| out.flush())
                            .map_err(|error| error.to_string())
                    });
                    if let Err(error) = sent {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        return;
                    }
                }
            });
        }
    });
    let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    Err(failure.unwrap_or_default())
}

/// What writers said.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    /// First offset and count, by run and batch.
    batches: BTreeMap<(u64, u64), (u64, u64)>,
    before: u64,
}

impl Acknowledged {
    /// Takes in a line; one that was cut short by the kill says nothing.
    pub(super) fn note(&mut self, line: &str) {
        let numbers: Vec<u64> = line
            .split(' ')
            .filter_map(|number| number.parse().ok())
            .collect();
        if let [run, batch, first, count] = numbers[..] {
            self.batches.insert((run, batch), (first, count));
        }
    }

    /// Returns how many events they are.
    pub(super) fn events(&self) -> u64 {
        self.batches.values().map(|(_, count)| count).sum()
    }

    /// Returns how many events there were, those forgotten included.
    pub(super) fn total(&self) -> u64 {
        self.before + self.events()
    }

    /// Forgets all of it: its folder is gone.
    pub(super) fn forget(&mut self) {
        self.before = self.total();
        self.batches.clear();
    }

    /// Returns what is wrong with what is there.
    pub(super) fn compare(&self, deeds: &Deeds) -> Vec<String> {
        let mut wrong = deeds.wrong.clone();
        for ((run, batch), (first, count)) in &self.batches {
            for place in 0..*count {
                let offset = first + place;
                if deeds.by_offset.get(&offset) != Some(&(*run, *batch, place)) {
                    wrong.push(format!(
                        "event {place} of batch {batch} of run {run} was acknowledged at offset {offset} and is not there"
                    ));
                }
            }
        }
        // What was not acknowledged is there whole, or not at all.
        let mut whole: BTreeMap<(u64, u64), BTreeSet<u64>> = BTreeMap::new();
        for (run, batch, place) in deeds.by_offset.values() {
            whole.entry((*run, *batch)).or_default().insert(*place);
        }
        for ((run, batch), places) in whole {
            let count = [1, 2, 7, 60, 500][usize::try_from(batch % 5).unwrap_or(0)];
            if places.len() as u64 != count {
                wrong.push(format!(
                    "of batch {batch} of run {run}, {} of {count} events are there",
                    places.len()
                ));
            }
        }
        wrong
    }
}

/// What a log holds.
#[derive(Debug, Default)]
pub(super) struct Deeds {
    by_offset: BTreeMap<u64, Name>,
    wrong: Vec<String>,
}

impl Deeds {
    /// Reads all of a log.
    pub(super) fn of(log: &Log) -> Result<Self, ReadError> {
        let mut deeds = Self::default();
        let mut names = BTreeSet::new();
        let mut scan = log.reader().scan(0);
        let mut next = 0;
        loop {
            let read = scan.read(|offset, record| {
                if offset != next {
                    deeds.wrong.push(format!("offset {offset} follows {next}"));
                }
                next = offset + 1;
                let Record::Event(event) = record else {
                    return;
                };
                let value: serde_json::Value = serde_json::from_str(event.data).unwrap_or_default();
                let number = |field: &str| value[field].as_u64().unwrap_or(u64::MAX);
                let name = (number("run"), number("batch"), number("place"));
                if data(name) != event.data {
                    deeds.wrong.push(format!(
                        "the event at offset {offset} is not as it was sent"
                    ));
                } else if !names.insert(name) {
                    deeds
                        .wrong
                        .push(format!("the event at offset {offset} is there twice"));
                }
                deeds.by_offset.insert(offset, name);
            })?;
            if read == 0 {
                return Ok(deeds);
            }
        }
    }

    pub(super) fn events(&self) -> u64 {
        self.by_offset.len() as u64
    }
}

/// How fast this disk is, one sender at a time. Times in milliseconds.
pub(super) struct Rates {
    pub(super) sync_p50: f64,
    pub(super) sync_p99: f64,
    pub(super) sync_max: f64,
    pub(super) singles: u64,
    pub(super) batches: u64,
}

/// Appends single events, and then batches of 500, one after the other.
pub(super) fn rates(folder: &Path, each: Duration) -> Result<Rates, String> {
    let (log, _) = Log::open(folder, LogConfig::default()).map_err(|error| error.to_string())?;
    let mut number = 0;
    let mut measure = |count: u64| -> Result<Vec<f64>, String> {
        let (began, mut times) = (Instant::now(), Vec::new());
        while began.elapsed() < each {
            number += 1;
            let mut batch = Batch::new(ApplicationId(0));
            (0..count).for_each(|place| push(&mut batch, (0, number, place)));
            let one = Instant::now();
            send(&log, batch)?;
            times.push(one.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    };
    let mut singles = measure(1)?;
    let batches = measure(500)?;
    log.close();
    singles.sort_by(f64::total_cmp);
    let at = |share: usize| singles[(singles.len() - 1) * share / 100];
    let per_second = |events: u64| events * 1000 / u64::try_from(each.as_millis()).unwrap_or(1);
    Ok(Rates {
        sync_p50: at(50),
        sync_p99: at(99),
        sync_max: at(100),
        singles: per_second(singles.len() as u64),
        batches: per_second(batches.len() as u64 * 500),
    })
}
