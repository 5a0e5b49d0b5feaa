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
        // So little that groups are written while the one before is synced.
        prepare_bytes: 300,
        write_ahead_bytes: 300,
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
    seed: u64,
    /// How often power went, a call failed, a sync lied or the disk was full.
    crashes: u64,
    log: Option<Log>,
    dice: Dice,
    next_number: u64,
    /// By offset.
    acknowledged: BTreeMap<u64, Sent>,
    /// Batches without an answer: there whole, or not at all.
    unknown: Vec<Vec<Sent>>,
    erased: BTreeSet<u64>,
    /// Erasures without an answer.
    maybe_erased: BTreeSet<u64>,
}

impl Story {
    pub(crate) fn on(disk: Faulty, seed: u64) -> Self {
        Self {
            disk,
            seed,
            crashes: 0,
            log: None,
            dice: Dice::new(seed),
            next_number: 0,
            acknowledged: BTreeMap::new(),
            unknown: Vec::new(),
            erased: BTreeSet::new(),
            maybe_erased: BTreeSet::new(),
        }
    }

    /// Returns a story that went as this one, told of another disk; this one's log must be closed.
    pub(crate) fn clone_on(&self, disk: Faulty) -> Self {
        assert!(self.log.is_none());
        Self {
            disk,
            log: None,
            dice: self.dice.clone(),
            unknown: self.unknown.clone(),
            acknowledged: self.acknowledged.clone(),
            erased: self.erased.clone(),
            maybe_erased: self.maybe_erased.clone(),
            ..*self
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
        }
    }

    /// Asks what must be refused, and what was sent before.
    fn ask_again(&mut self) {
        if !self.open() {
            return;
        }
        let Some((offset, one)) = self.one_known() else {
            return;
        };
        let log = self.log.as_ref().unwrap();
        if one.with_id
            && let Ok(receipt) = send(log, repeated(&one))
        {
            assert_eq!(receipt.exceptions, [(0, duplicate(offset, &one))]);
        }
        if let Ok(receipt) = send(log, stolen(&one)) {
            assert_eq!(receipt.exceptions, [(0, Exception::SessionConflict)]);
        }
    }

    /// After a crash the log must still know whose each session is, and which ids it has: on a sound disk, with no
    /// way out.
    fn check_decisions(&mut self, log: &Log, when: &str) {
        for _ in 0..3 {
            let Some((offset, one)) = self.one_known() else {
                return;
            };
            let receipt = send(log, stolen(&one)).unwrap();
            assert_eq!(
                receipt.exceptions,
                [(0, Exception::SessionConflict)],
                "{when}: whose the session of {offset} is"
            );
            if one.with_id {
                let receipt = send(log, repeated(&one)).unwrap();
                assert_eq!(
                    receipt.exceptions,
                    [(0, duplicate(offset, &one))],
                    "{when}: that {offset} is known"
                );
            }
        }
    }

    /// Returns one of the events that are there for certain.
    fn one_known(&mut self) -> Option<(u64, Sent)> {
        let known: Vec<(u64, Sent)> = self
            .acknowledged
            .iter()
            .filter(|(offset, _)| {
                !self.erased.contains(offset) && !self.maybe_erased.contains(offset)
            })
            .map(|(offset, sent)| (*offset, *sent))
            .collect();
        let count = u64::try_from(known.len()).unwrap();
        (count > 0).then(|| known[usize::try_from(self.dice.below(count)).unwrap()])
    }

    pub(crate) fn erase(&mut self) {
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

    /// Ends the active segment and waits, by closing, until it is sealed.
    pub(crate) fn roll_and_close(&mut self) {
        if self.open() {
            self.log.as_ref().unwrap().roll().unwrap();
        }
        self.close();
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

    /// Changes applications, and waits until that is done or refused.
    fn change(&mut self, change: Change) {
        if !self.open() {
            return;
        }
        let (sender, receiver) = mpsc::channel();
        let log = self.log.as_ref().unwrap();
        log.change(change, Actor::default(), move |changed| {
            let _ = sender.send(changed.is_ok());
        })
        .unwrap();
        let _ = receiver.recv_timeout(Duration::from_secs(20));
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
                let name = format!("application {}", self.dice.below(u64::MAX));
                self.change(Change::RegisterApplication { name, token: None });
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
        for name in ["zero", "one"] {
            self.change(Change::RegisterApplication {
                name: name.to_owned(),
                token: None,
            });
        }
        self.send_some(12);
        self.change(Change::SetApplicationActive {
            name: "one".to_owned(),
            active: false,
        });
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
    /// Says whether the power went in the midst of something; otherwise the process was killed, the log was closed
    /// in order, or it had failed.
    pub(crate) fn live_and_crash(&mut self) -> bool {
        self.crashes += 1;
        let calls = self.disk.calls();
        let fault = self.dice.below(20);
        let at = calls + 1 + self.dice.below(40);
        match fault {
            0..=15 => self.disk.power_goes_at(at),
            16 => self.disk.fails_at(at),
            17 => self.disk.next_sync_lies(),
            18 => {
                let room = self.dice.below(60_000);
                self.disk.set_capacity(Some(self.disk.used_bytes() + room));
            }
            _ => {}
        }
        // Until the power goes; some faults show late or never, and one end in twenty is in order.
        let steps = if fault <= 15 {
            60
        } else {
            self.dice.below(8) + 1
        };
        for _ in 0..steps {
            self.step();
            if self.disk.power_is_gone() {
                break;
            }
        }
        // With the power gone, closing writes nothing; it only ends the threads before the next ones begin.
        self.close();
        let power_went = self.disk.power_is_gone();
        self.disk.set_capacity(None);
        // A process that is killed in the midst of a call leaves what it wrote in the page cache: the next one sees it,
        // and a power cut after that may still take it.
        let only_the_process = self.dice.one_in(if power_went { 4 } else { 2 });
        let retention = Retention::ALL[usize::try_from(self.dice.below(3)).unwrap()];
        if only_the_process {
            self.disk.process_ends();
        } else {
            let seed = self.dice.below(u64::MAX);
            self.disk.power_cut(seed, retention);
        }
        self.check(&format!(
            "EYE_STORY={} crash {}, fault {fault}, {retention:?}, process only: {only_the_process}",
            self.seed, self.crashes
        ));
        power_went && !only_the_process
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
            assert!(
                found.windows(2).all(|pair| pair[1] == pair[0] + 1),
                "{when}: a batch is spread over {found:?}"
            );
            for (offset, one) in found.iter().zip(&sent) {
                strangers.remove(offset);
                self.acknowledged.insert(*offset, *one);
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
        assert_eq!(
            verified.records, end,
            "{when}: every offset below the end is a record"
        );
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
        self.check_decisions(&again, when);
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

/// What was stored, sent again.
fn repeated(sent: &Sent) -> Batch {
    let mut batch = Batch::new(ApplicationId(sent.application));
    push(&mut batch, sent);
    batch
}

fn duplicate(offset: u64, sent: &Sent) -> Exception {
    Exception::Duplicate {
        offset,
        id: sent.id(),
    }
}

/// An event for a session that belongs to another application.
fn stolen(sent: &Sent) -> Batch {
    let mut batch = Batch::new(ApplicationId(sent.application ^ 1));
    let without_id = Sent {
        with_id: false,
        ..*sent
    };
    push(&mut batch, &without_id);
    batch
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
