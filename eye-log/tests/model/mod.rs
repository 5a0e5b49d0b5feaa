//! A model of a log: what was acknowledged, what may or may not have arrived, what was erased.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::time::Duration;

use eye_log::compaction::Compaction;
use eye_log::storage::faulty::{Dice, Faulty, Retention};
use eye_log::{
    Actor, AppendError, ApplicationId, Batch, Change, EraseRequest, EventDraft, EventRules,
    Exception, Log, LogConfig, OpenError, OpenReport, Receipt, verify,
};
use std::sync::Arc;
use uuid::Uuid;

pub(crate) fn config() -> LogConfig {
    LogConfig {
        segment_max_bytes: 16 << 10,
        ..LogConfig::default()
    }
}

pub(crate) fn open(disk: &Faulty) -> Result<(Log, OpenReport), OpenError> {
    Log::open_in(Arc::new(disk.clone()), config())
}

/// The answer to a batch, when it comes.
type Answer = mpsc::Receiver<Result<Receipt, AppendError>>;

/// An event of the model, by which it is known again: what it says follows from its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    number: u64,
    application: u32,
    session: u128,
    with_id: bool,
}

impl Sent {
    fn data(&self) -> String {
        let filler = usize::try_from(self.number * 37 % 400).unwrap();
        format!(
            "{{\"number\":{},\"filler\":\"{}\"}}",
            self.number,
            "x".repeat(filler)
        )
    }

    fn id(&self) -> Uuid {
        Uuid::from_u128(0x1d00_0000_0000_4000_8000_0000_0000_0000 + u128::from(self.number))
    }
}

pub(crate) struct Story {
    disk: Faulty,
    log: Option<Log>,
    dice: Dice,
    next_number: u64,
    /// By offset.
    acknowledged: BTreeMap<u64, Sent>,
    /// Batches without an answer: there whole, or not at all.
    unknown: Vec<Vec<Sent>>,
    owners: BTreeMap<u128, u32>,
    erased: BTreeSet<u64>,
    /// Erasures without an answer.
    maybe_erased: BTreeSet<u64>,
}

impl Story {
    pub(crate) fn new(seed: u64) -> Self {
        Self::on(Faulty::default(), seed)
    }

    pub(crate) fn on(disk: Faulty, seed: u64) -> Self {
        Self {
            disk,
            log: None,
            dice: Dice::new(seed),
            next_number: 0,
            acknowledged: BTreeMap::new(),
            unknown: Vec::new(),
            owners: BTreeMap::new(),
            erased: BTreeSet::new(),
            maybe_erased: BTreeSet::new(),
        }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    pub(crate) fn close(&mut self) {
        if let Some(log) = self.log.take() {
            log.close();
        }
    }

    fn open(&mut self) -> bool {
        if self.log.is_none() {
            self.log = open(&self.disk).ok().map(|(log, _)| log);
        }
        self.log.is_some()
    }

    /// Sends batches, waiting for the answers of some at once, as senders side by side do.
    pub(crate) fn send_some(&mut self, batches: u64) {
        if !self.open() {
            return;
        }
        let mut waiting = Vec::new();
        for _ in 0..batches {
            let application = u32::try_from(self.dice.below(2)).unwrap();
            let count = match self.dice.below(4) {
                0 => 1,
                1 => self.dice.below(40) + 1,
                _ => self.dice.below(4) + 1,
            };
            let mut batch = Batch::new(ApplicationId(application));
            let mut sent = Vec::new();
            for _ in 0..count {
                let one = Sent {
                    number: self.next_number,
                    application,
                    // Sessions of one application; now and then one of the other's.
                    session: u128::from(self.dice.below(12)) * 2 + u128::from(application),
                    with_id: self.dice.one_in(2),
                };
                self.next_number += 1;
                push(&mut batch, &one);
                sent.push(one);
            }
            let (sender, receiver) = mpsc::channel();
            let log = self.log.as_ref().unwrap();
            let queued = log.append(batch, move |answer| {
                let _ = sender.send(answer);
            });
            queued.unwrap();
            waiting.push((sent, receiver));
            if self.dice.one_in(3) {
                self.answers(&mut waiting);
            }
        }
        self.answers(&mut waiting);
    }

    fn answers(&mut self, waiting: &mut Vec<(Vec<Sent>, Answer)>) {
        for (sent, receiver) in waiting.drain(..) {
            match receiver.recv_timeout(Duration::from_secs(20)) {
                Ok(Ok(receipt)) => self.receipt(&sent, &receipt),
                // Nothing was stored, or nobody knows.
                Ok(Err(AppendError::DiskFull)) => {}
                Ok(Err(_)) | Err(_) => self.unknown.push(sent),
            }
        }
    }

    fn receipt(&mut self, sent: &[Sent], receipt: &Receipt) {
        assert_eq!(
            receipt.exceptions,
            [],
            "sessions and ids of the model are its own"
        );
        let first = receipt.first_offset.unwrap();
        assert_eq!(receipt.stored, sent.len());
        for (offset, one) in (first..).zip(sent) {
            assert_eq!(
                self.acknowledged.insert(offset, *one),
                None,
                "offset {offset} twice"
            );
            self.owners.insert(one.session, one.application);
        }
    }

    /// Asks what must be refused, and what was sent before.
    fn ask_again(&mut self) {
        if !self.open() {
            return;
        }
        let known: Vec<(u64, Sent)> = self
            .acknowledged
            .iter()
            .filter(|(offset, _)| {
                !self.erased.contains(offset) && !self.maybe_erased.contains(offset)
            })
            .map(|(offset, sent)| (*offset, *sent))
            .collect();
        if known.is_empty() {
            return;
        }
        let (offset, one) = known[usize::try_from(self.dice.below(known.len() as u64)).unwrap()];
        let log = self.log.as_ref().unwrap();
        if one.with_id {
            let mut batch = Batch::new(ApplicationId(one.application));
            push(&mut batch, &one);
            if let Ok(receipt) = send(log, batch) {
                let expected = Exception::Duplicate {
                    offset,
                    id: one.id(),
                };
                assert_eq!(receipt.exceptions, [(0, expected)]);
            }
        }
        let mut batch = Batch::new(ApplicationId(one.application ^ 1));
        push(
            &mut batch,
            &Sent {
                with_id: false,
                ..one
            },
        );
        if let Ok(receipt) = send(log, batch) {
            assert_eq!(receipt.exceptions, [(0, Exception::SessionConflict)]);
        }
    }

    fn erase(&mut self) {
        if !self.open() || self.acknowledged.is_empty() {
            return;
        }
        let session = self
            .acknowledged
            .values()
            .nth(usize::try_from(self.dice.below(self.acknowledged.len() as u64)).unwrap())
            .unwrap()
            .session;
        let offsets: Vec<u64> = self
            .acknowledged
            .iter()
            .filter(|(_, sent)| sent.session == session)
            .map(|(offset, _)| *offset)
            .collect();
        let log = self.log.as_ref().unwrap();
        let id = Uuid::from_u128(u128::from(self.dice.below(u64::MAX)));
        let asked = log.erase(EraseRequest {
            id,
            by: Actor::default(),
            filter: [0; 16],
            sessions: vec![Uuid::from_u128(session)],
            ranges: offsets.iter().map(|offset| *offset..offset + 1).collect(),
        });
        match asked {
            Ok(_) => self.erased.extend(&offsets),
            Err(_) => self.maybe_erased.extend(&offsets),
        }
    }

    fn compact(&mut self) {
        if !self.open() {
            return;
        }
        let log = self.log.as_ref().unwrap();
        let what = Compaction {
            seal_all: self.dice.one_in(2),
            ..Compaction::default()
        };
        let Ok(report) = log.compact(&what, &mut |_, _| true) else {
            return;
        };
        for erasure in report.erasures {
            assert_eq!(erasure.found, 0);
            let _ = log.complete_erasure(erasure.id, Actor::default(), "{}".to_owned());
        }
    }

    /// Something a log goes through.
    fn step(&mut self) {
        match self.dice.below(24) {
            0..=12 => {
                let batches = self.dice.below(6) + 1;
                self.send_some(batches);
            }
            13..=16 => self.ask_again(),
            17 => {
                if self.open() {
                    let (sender, receiver) = mpsc::channel();
                    let name = format!("application {}", self.dice.below(u64::MAX));
                    let change = Change::RegisterApplication { name, token: None };
                    let log = self.log.as_ref().unwrap();
                    let queued = log.change(change, Actor::default(), move |changed| {
                        let _ = sender.send(changed.is_ok());
                    });
                    queued.unwrap();
                    let _ = receiver.recv_timeout(Duration::from_secs(20));
                }
            }
            18 => self.close(),
            19 => {
                if self.open() {
                    let _ = self.log.as_ref().unwrap().roll();
                }
            }
            20 => self.erase(),
            _ => self.compact(),
        }
    }

    /// Everything a log can go through, in order, the same every time.
    pub(crate) fn one_life(&mut self) {
        self.send_some(12);
        self.ask_again();
        self.erase();
        self.send_some(6);
        self.compact();
        self.close();
        self.send_some(6);
        self.compact();
        self.ask_again();
        self.close();
    }

    /// Lives for a while with the power going at some call, or another fault; then looks at what is left.
    pub(crate) fn live_and_crash(&mut self) {
        let calls = self.disk.calls();
        let fault = self.dice.below(10);
        let at = calls + 1 + self.dice.below(60);
        match fault {
            0..=6 => self.disk.power_goes_at(at),
            7 => self.disk.fails_at(at),
            8 => self.disk.next_sync_lies(),
            _ => {}
        }
        for _ in 0..self.dice.below(8) + 1 {
            self.step();
            if self.disk.power_is_gone() {
                break;
            }
        }
        // The process is killed: nothing is closed in order, but its threads must end before the next one begins.
        self.close();
        if fault == 7 && self.dice.one_in(2) {
            self.disk.process_ends();
        } else {
            let retention = if self.dice.one_in(2) {
                Retention::Prefix
            } else {
                Retention::Subset
            };
            let seed = self.dice.below(u64::MAX);
            self.disk.power_cut(seed, retention);
        }
        self.check("a crash");
    }

    /// Opens what is left and compares it with what was acknowledged. What nobody knows is known afterwards.
    pub(crate) fn check(&mut self, when: &str) {
        self.close();
        let (log, report) = open(&self.disk).unwrap_or_else(|error| panic!("{when}: {error}"));
        assert_eq!(report.damage, [], "{when}");
        let end = log.reader().durable_end();
        let read = events_of(&log);
        for (offset, sent) in &self.acknowledged {
            let shown = read.get(offset);
            if self.erased.contains(offset) {
                assert_eq!(shown, None, "{when}: offset {offset} was erased");
            } else if !(self.maybe_erased.contains(offset) && shown.is_none()) {
                let shown = shown.unwrap_or_else(|| {
                    panic!("{when}: offset {offset} of {end} was acknowledged and is gone")
                });
                assert_eq!(shown, &describe(sent), "{when}: offset {offset}");
            }
        }
        self.maybe_erased
            .retain(|offset| read.contains_key(offset) || !self.erased.contains(offset));
        let now_gone: Vec<u64> = self
            .maybe_erased
            .iter()
            .copied()
            .filter(|offset| !read.contains_key(offset))
            .collect();
        for offset in now_gone {
            self.maybe_erased.remove(&offset);
            self.erased.insert(offset);
        }
        let mut strangers: BTreeMap<u64, &(u32, u128, String)> = read
            .iter()
            .filter(|(offset, _)| !self.acknowledged.contains_key(offset))
            .map(|(offset, event)| (*offset, event))
            .collect();
        for sent in std::mem::take(&mut self.unknown) {
            let found: Vec<u64> = sent
                .iter()
                .filter_map(|one| {
                    let described = describe(one);
                    strangers
                        .iter()
                        .find(|(_, event)| ***event == described)
                        .map(|(offset, _)| *offset)
                })
                .collect();
            assert!(
                found.is_empty() || found.len() == sent.len(),
                "{when}: {} of {} events of a batch",
                found.len(),
                sent.len()
            );
            for (offset, one) in found.iter().zip(&sent) {
                strangers.remove(offset);
                self.acknowledged.insert(*offset, *one);
                self.owners.insert(one.session, one.application);
            }
        }
        assert!(
            strangers.is_empty(),
            "{when}: {strangers:?} were never sent"
        );
        log.close();
        drop(log);
        let verified = verify::verify_in(&self.disk, None, &mut |_, _| ()).unwrap();
        assert_eq!(verified.damage, [], "{when}");
        assert_eq!(verified.end, end, "{when}");
        let (again, report) =
            open(&self.disk).unwrap_or_else(|error| panic!("{when}, again: {error}"));
        assert_eq!(
            report.cut, None,
            "{when}: a second opening finds nothing to do"
        );
        assert_eq!(
            events_of(&again),
            read,
            "{when}: a second opening shows the same"
        );
        again.close();
    }
}

fn push(batch: &mut Batch, sent: &Sent) {
    let session = format!("\"{}\"", Uuid::from_u128(sent.session));
    let id = format!("\"{}\"", sent.id());
    let data = sent.data();
    let draft = EventDraft {
        session_id: Some(&session),
        category: Some("\"c\""),
        name: Some("\"n\""),
        data: Some(&data),
        timestamp: Some("\"2021-01-01 00:00:00\""),
        id: sent.with_id.then_some(&id),
        ..EventDraft::default()
    };
    let rules = EventRules {
        now: i64::MAX / 2,
        future_tolerance: 0,
        default_offset_seconds: 0,
        event_max_bytes: 1 << 18,
        depth_max: 64,
    };
    batch.push(&draft.validate(&rules).unwrap());
}

fn send(log: &Log, batch: Batch) -> Result<Receipt, AppendError> {
    let (sender, receiver) = mpsc::channel();
    let queued = log.append(batch, move |answer| {
        let _ = sender.send(answer);
    });
    queued.unwrap();
    receiver
        .recv_timeout(Duration::from_secs(20))
        .unwrap_or(Err(AppendError::Closed))
}

fn describe(sent: &Sent) -> (u32, u128, String) {
    (sent.application, sent.session, sent.data())
}

/// All events of a log, by offset: application, session, data.
pub(crate) fn events_of(log: &Log) -> BTreeMap<u64, (u32, u128, String)> {
    events_or_errors(log)
        .into_iter()
        .filter_map(|(offset, event)| Some((offset, event.unwrap()?)))
        .collect()
}

type Shown = Result<Option<(u32, u128, String)>, String>;

/// What reading each offset gives.
pub(crate) fn events_or_errors(log: &Log) -> BTreeMap<u64, Shown> {
    let reader = log.reader();
    let all: Vec<u64> = (0..reader.durable_end()).collect();
    let event =
        |event: eye_log::StoredEvent| (event.application.0, event.session_id.as_u128(), event.data);
    match reader.read_many(&all) {
        Ok(events) => all
            .into_iter()
            .zip(events.into_iter().map(|one| Ok(one.map(event))))
            .collect(),
        Err(_) => all
            .into_iter()
            .map(|offset| {
                let read = reader
                    .read_many(&[offset])
                    .map_err(|error| error.to_string());
                (
                    offset,
                    read.map(|events| events.into_iter().next().flatten().map(event)),
                )
            })
            .collect(),
    }
}

/// Says whether the document lists a byte as free: what nothing checks because nothing means anything by it.
pub(crate) fn is_free(name: &str, bytes: &[u8], at: usize) -> bool {
    if name.ends_with(".sealed") {
        return sealed_padding(bytes)
            .iter()
            .any(|range| range.contains(&at));
    }
    // Up to seven zeros behind the body of a frame.
    name.ends_with(".seg") && frame_padding(bytes).iter().any(|range| range.contains(&at))
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn frame_padding(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut padding = Vec::new();
    let mut at = 4096;
    while at + 64 <= bytes.len() && &bytes[at..at + 4] == b"EYEF" {
        let end = at + 64 + u32_at(bytes, at + 8);
        at = end.next_multiple_of(8);
        padding.push(end..at);
    }
    padding
}

fn sealed_padding(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut padding = Vec::new();
    let mut at = 4096;
    while &bytes[at..at + 4] == b"EYEB" {
        let end = at + 64 + u32_at(bytes, at + 8);
        at = end.next_multiple_of(8);
        padding.push(end..at);
    }
    // Between the last part of the footer and the trailer.
    let trailer = bytes.len() - 256;
    padding.push(trailer - 7..trailer);
    padding
}
