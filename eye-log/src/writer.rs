//! The one thread that decides: drains what waits, decides, makes a group of it, and hands it to the syncer.
//!
//! What must stay true: nothing is answered before the sync that covers it, and everything that waited gets an answer.
//! While one group syncs, the next one gathers, and where it is large it is prepared and written; where it is small it gathers until
//! its senders rest ([`crate::LogConfig::senders`]).

use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::admission::{Added, Admission, Batch, Exception, Item, Receipt};
use crate::appender::Appender;
use crate::config::LogConfig;
use crate::error::{AppendError, ChangeError};
use crate::format::payload;
use crate::keeper::{self, Chore};
use crate::log::Shared;
use crate::offset::Offset;
use crate::queue::{Next, Prepared, Queue, Request, Taken};
use crate::record::{Note, RegistryRecord};
use crate::registry::{
    Actor, Change, Changed, NewToken, NewTokenRecord, RULES_MAX, Registry, RegistryChange,
};
use crate::segment::Closed;
use crate::syncer::{Answer, Job};

/// After so long without anything to write, a frame says how far the log is durable.
const IDLE: Duration = Duration::from_secs(1);

/// Everything the writing thread owns.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: LogConfig,
    pub(crate) appender: Appender,
    pub(crate) admission: Admission,
    pub(crate) registry: Registry,
    pub(crate) chores: mpsc::Sender<Chore>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) syncer: mpsc::Sender<Job>,
    /// Who waits for the group that gathers.
    pub(crate) answers: Vec<Answer>,
    /// Whether that group changes applications or tokens.
    pub(crate) registry_changed: bool,
    /// Whether the keeper was asked for the file of the segment behind the active one.
    pub(crate) spare_asked_for: bool,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(mut self) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new()
            .name("eye-writer".to_owned())
            .spawn(move || self.run())
    }

    fn run(&mut self) {
        let mut marked = true;
        loop {
            let prepared = Prepared {
                group: self.is_ready(),
                bytes: self.appender.pending_bytes(),
            };
            match self.queue.take(prepared, (!marked).then_some(IDLE)) {
                Taken::Some(requests) => {
                    self.take_in(requests);
                    marked = false;
                }
                Taken::Synced => self.hand_over(),
                Taken::Written => {
                    // A failure has poisoned the log, which who waits hears from the syncer.
                    let _ = self.appender.write_ahead();
                }
                Taken::Idle => {
                    // A failure has poisoned the log, which the next append and the health report say.
                    let _ = self.appender.mark_durable();
                    let _ = self.chores.send(Chore::NoteDurable);
                    marked = true;
                }
                Taken::Closed => {
                    if !marked {
                        let _ = self.appender.mark_durable();
                        self.settle();
                    }
                    return;
                }
            }
        }
    }

    /// Says whether there is something to hand to the syncer.
    fn is_ready(&self) -> bool {
        self.appender.unsynced_bytes() > 0 || !self.answers.is_empty()
    }

    /// Hands the group that gathered to the syncer, once that is done with the one before.
    fn hand_over(&mut self) {
        let buffer = self.queue.begin_sync();
        let changed = std::mem::take(&mut self.registry_changed);
        let job = Job {
            group: self.appender.take_group(buffer),
            answers: std::mem::take(&mut self.answers),
            registry: changed.then(|| self.registry.clone()),
        };
        if self.syncer.send(job).is_err() {
            // It panicked. Nobody can say what of the last group is on the disk; who waits learns that nobody answers.
            self.shared.poison("the thread that syncs is gone");
            self.queue.note_synced();
        }
    }

    /// Returns once everything that gathered is on the disk and answered, or the log is poisoned.
    fn settle(&mut self) {
        if self.is_ready() {
            self.hand_over();
        }
        self.queue.wait_synced();
    }

    fn take_in(&mut self, requests: VecDeque<Request>) {
        self.refresh_admission();
        for request in requests {
            if self.appender.unsynced_bytes() > self.config.group_max_bytes {
                self.hand_over();
            }
            match request {
                Request::Append(batch, reply) => match self.append(batch) {
                    Ok(receipt) => self.answers.push(Box::new(move |failed| {
                        reply(failed.map_or(Ok(receipt), Err))
                    })),
                    Err(error) => reply(Err(error)),
                },
                Request::Change(change, by, reply) => match self.change(&change, by) {
                    Ok(changed) => self.answers.push(Box::new(move |failed| {
                        reply(failed.map_or(Ok(changed), |error| Err(error.into())))
                    })),
                    Err(error) => reply(Err(error)),
                },
                Request::Note(mut note, reply) => match self.note(&mut note) {
                    Ok(offset) => {
                        let shared = self.shared.clone();
                        self.answers.push(Box::new(move |failed| {
                            if failed.is_none() {
                                shared.act_on(&note);
                            }
                            reply(failed.map_or(Ok(offset), Err))
                        }));
                    }
                    Err(error) => reply(Err(error)),
                },
                Request::Roll(next, reply) => {
                    self.settle();
                    let rolled = if self.appender.held_records() == 0 {
                        Ok(())
                    } else {
                        self.roll(next)
                    };
                    reply(rolled);
                }
            }
        }
        if !self.spare_asked_for && self.appender.is_half_full() {
            self.spare_asked_for = true;
            let _ = self.chores.send(Chore::Spare);
        }
    }

    /// Appends a record about the log itself; returns its offset.
    fn note(&mut self, note: &mut Note) -> Result<Offset, AppendError> {
        let at = self.appender.arrival();
        note.stamp(at);
        let mut bytes = Vec::new();
        payload::push_note(&mut bytes, note);
        self.make_room(1, bytes.len())?;
        let offset = self.appender.next_offset();
        let end = bytes.len();
        self.appender.push_records(bytes, &[end], at)?;
        Ok(offset)
    }

    /// Begins a new segment, and has the old one sealed. What gathered is settled.
    fn roll(&mut self, next: Next) -> Result<(), AppendError> {
        if let Some(message) = self.shared.poisoned() {
            return Err(AppendError::Poisoned(message));
        }
        let (segment, summary) = self.appender.roll(next)?;
        let entries = self.admission.close_segment(summary.end);
        segment.close(Closed { summary, entries });
        self.shared
            .files
            .push_active(self.appender.active_segment().clone());
        self.refresh_admission();
        // The spare first: the next roll may want it. The keeper only goes with the log; then the next start seals.
        self.spare_asked_for = next == Next::Spare;
        let _ = self.chores.send(match next {
            Next::Spare => Chore::Spare,
            Next::Small => Chore::NoSpare,
        });
        let _ = self.chores.send(Chore::Seal(segment));
        Ok(())
    }

    fn refresh_admission(&mut self) {
        if let Some(before) = self.admission.refresh(&self.shared) {
            let _ = self.chores.send(Chore::LetGo(before));
        }
    }

    /// Makes room: rolls where the frame would not fit into the active segment.
    fn make_room(&mut self, records: usize, bytes: usize) -> Result<(), AppendError> {
        if let Some(message) = self.shared.poisoned() {
            return Err(AppendError::Poisoned(message));
        }
        if !self.appender.wants_roll(records, bytes)? {
            return Ok(());
        }
        self.settle();
        self.roll(Next::Spare)
    }

    fn append(&mut self, mut batch: Batch) -> Result<Receipt, AppendError> {
        if let Some(message) = self.shared.poisoned() {
            return Err(AppendError::Poisoned(message));
        }
        let storage = self.shared.storage.as_ref();
        if self.shared.floor.refuses(storage, batch.bytes()) {
            return Err(AppendError::DiskFull);
        }
        self.make_room(batch.len(), batch.bytes())?;
        let received_at = self.appender.arrival();
        let first = self.appender.next_offset();
        let mut added = Added::default();
        let mut exceptions = Vec::new();
        let mut stored = 0u64;
        let mut items = std::mem::take(&mut batch.items);
        for (index, item) in items.iter().enumerate() {
            let judged = self.admission.admit(
                batch.application,
                item,
                first + stored,
                received_at,
                &mut added,
            );
            match judged {
                Ok(None) => stored += 1,
                Ok(Some(exception)) => exceptions.push((index, exception)),
                Err(error) => {
                    // A guess could give a session to a second owner.
                    self.admission.take_back(added);
                    return Err(AppendError::Undecided(error.to_string()));
                }
            }
        }
        let refused = exceptions
            .iter()
            .filter(|(_, why)| !matches!(why, Exception::Duplicate { .. }))
            .count();
        let duplicates = exceptions.len() - refused;
        if batch.all_or_nothing && refused > 0 {
            self.admission.take_back(added);
            let rejected = (items.len() - duplicates) as u64 + u64::from(batch.refused_before);
            let tally = &self.shared.tally;
            tally.count(Some(batch.application), duplicates as u64, rejected);
            return Ok(nothing_stored(items.len(), exceptions, received_at));
        }
        let counted = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let rejected = batch.refused_before.saturating_add(counted(refused));
        if stored > 0 {
            if !exceptions.is_empty() {
                leave_out(&exceptions, &mut batch.bytes, &mut items);
            }
            let pushed = self.appender.push_events(
                batch.bytes,
                &items,
                received_at,
                counted(duplicates),
                rejected,
            );
            if let Err(error) = pushed {
                self.admission.take_back(added);
                return Err(error);
            }
        } else {
            let tally = &self.shared.tally;
            tally.count(Some(batch.application), duplicates as u64, rejected.into());
        }
        let stored_count = usize::try_from(stored).unwrap_or(usize::MAX);
        Ok(Receipt {
            first_offset: (stored > 0).then_some(first),
            stored: stored_count,
            received_at,
            exceptions,
        })
    }

    fn change(&mut self, change: &Change, by: Actor) -> Result<Changed, ChangeError> {
        let (changes, changed) = self.decide(change)?;
        let at = self.appender.arrival();
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for change in &changes {
            let record = RegistryRecord {
                at,
                by: by.token,
                request: by.request,
                change: change.clone(),
            };
            payload::push_registry(&mut bytes, &record);
            ends.push(bytes.len());
        }
        self.make_room(ends.len(), bytes.len())?;
        self.appender.push_records(bytes, &ends, at)?;
        for change in &changes {
            self.registry.apply(change, at);
        }
        self.registry_changed = true;
        Ok(changed(&self.registry))
    }

    /// A secret that somebody brings may be known already; one that was drawn is not.
    fn refuse_taken(&self, token: &NewToken) -> Result<(), ChangeError> {
        match self.registry.token_by_hash(&token.hash) {
            Some(_) => Err(ChangeError::TokenTaken),
            None => Ok(()),
        }
    }

    /// Says which records a change makes, and how to find what it led to once they are applied.
    #[expect(
        clippy::type_complexity,
        reason = "a list and a look-up, named by the function"
    )]
    fn decide(
        &self,
        change: &Change,
    ) -> Result<(Vec<RegistryChange>, Box<dyn Fn(&Registry) -> Changed>), ChangeError> {
        match change {
            Change::RegisterApplication { name, token } => {
                if self.registry.application_named(name).is_some() {
                    return Err(ChangeError::NameTaken);
                }
                token
                    .as_ref()
                    .map_or(Ok(()), |token| self.refuse_taken(token))?;
                let application = self.registry.next_application();
                let mut changes = vec![RegistryChange::Registered {
                    application,
                    name: name.clone(),
                }];
                changes.extend(token.as_ref().map(|token| {
                    RegistryChange::Issued(NewTokenRecord {
                        token: token.id,
                        kind: token.kind,
                        application: Some(application),
                        hash: token.hash,
                        terms: token.terms.clone(),
                    })
                }));
                Ok((changes, application_as_changed(application)))
            }
            Change::SetApplicationActive { name, active } => {
                let Some(application) = self.registry.application_named(name) else {
                    return Err(ChangeError::UnknownApplication);
                };
                let changes = vec![RegistryChange::SetActive {
                    application: application.id,
                    active: *active,
                }];
                Ok((changes, application_as_changed(application.id)))
            }
            Change::SetLimits { name, limits } => {
                let Some(application) = self.registry.application_named(name) else {
                    return Err(ChangeError::UnknownApplication);
                };
                let changes = vec![RegistryChange::SetLimits {
                    application: application.id,
                    limits: *limits,
                }];
                Ok((changes, application_as_changed(application.id)))
            }
            Change::IssueToken(token) => {
                if token
                    .application
                    .is_some_and(|id| self.registry.application(id).is_none())
                {
                    return Err(ChangeError::UnknownApplication);
                }
                self.refuse_taken(token)?;
                let record = NewTokenRecord {
                    token: token.id,
                    kind: token.kind,
                    application: token.application,
                    hash: token.hash,
                    terms: token.terms.clone(),
                };
                let id = token.id;
                let changed = move |registry: &Registry| {
                    Changed::Token(
                        registry
                            .token(id)
                            .cloned()
                            .expect("the token was just issued"),
                    )
                };
                Ok((vec![RegistryChange::Issued(record)], Box::new(changed)))
            }
            Change::RevokeToken { id } => {
                if self.registry.token(*id).is_none() {
                    return Err(ChangeError::UnknownToken);
                }
                Ok((
                    vec![RegistryChange::Revoked { token: *id }],
                    Box::new(|_| Changed::Revoked),
                ))
            }
            Change::SetRule {
                target,
                mode,
                schema,
            } => {
                let application = target.application;
                if application.is_some_and(|id| self.registry.application(id).is_none()) {
                    return Err(ChangeError::UnknownApplication);
                }
                let rules = self.registry.rules();
                if rules.len() >= RULES_MAX && !rules.contains_key(target) {
                    return Err(ChangeError::TooManyRules { limit: RULES_MAX });
                }
                let change = RegistryChange::RuleSet {
                    target: target.clone(),
                    mode: *mode,
                    schema: schema.clone(),
                };
                let target = target.clone();
                let changed = move |registry: &Registry| {
                    let rule = registry.rules().get(&target);
                    Changed::Rule(rule.cloned().expect("the rule was just set"))
                };
                Ok((vec![change], Box::new(changed)))
            }
            Change::RemoveRule { target } => {
                if !self.registry.rules().contains_key(target) {
                    return Err(ChangeError::UnknownRule);
                }
                let target = target.clone();
                Ok((
                    vec![RegistryChange::RuleRemoved { target }],
                    Box::new(|_| Changed::RuleRemoved),
                ))
            }
        }
    }
}

fn application_as_changed(id: crate::registry::ApplicationId) -> Box<dyn Fn(&Registry) -> Changed> {
    Box::new(move |registry| {
        Changed::Application(
            registry
                .application(id)
                .cloned()
                .expect("the application was just registered"),
        )
    })
}

/// The receipt of an all-or-nothing batch of which something was refused: duplicates are what they are, the rest was
/// not stored.
fn nothing_stored(count: usize, exceptions: Vec<(usize, Exception)>, received_at: i64) -> Receipt {
    let mut why = exceptions.into_iter().peekable();
    let exceptions = (0..count)
        .map(|index| {
            (
                index,
                why.next_if(|(at, _)| *at == index)
                    .map_or(Exception::NotStored, |(_, why)| why),
            )
        })
        .collect();
    Receipt {
        first_offset: None,
        stored: 0,
        received_at,
        exceptions,
    }
}

/// Takes out of a batch what is not stored.
fn leave_out(exceptions: &[(usize, Exception)], bytes: &mut Vec<u8>, items: &mut Vec<Item>) {
    let mut exceptions = exceptions.iter().map(|(index, _)| *index).peekable();
    let (mut index, mut start, mut kept) = (0, 0, 0);
    items.retain_mut(|item| {
        let record = std::mem::replace(&mut start, item.end)..item.end;
        index += 1;
        if exceptions.next_if_eq(&(index - 1)).is_some() {
            return false;
        }
        bytes.copy_within(record.clone(), kept);
        kept += record.len();
        item.end = kept;
        true
    });
    bytes.truncate(kept);
}

/// Starts the thread that seals segments and prepares the spare.
pub(crate) fn start_keeper(
    shared: Arc<Shared>,
    segment_max_bytes: u64,
) -> std::io::Result<(mpsc::Sender<Chore>, JoinHandle<()>)> {
    let (sender, chores) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("eye-keeper".to_owned())
        .spawn(move || keeper::run(&shared, &chores, segment_max_bytes))?;
    Ok((sender, thread))
}
