//! What was refused, kept: the bytes as they were sent, why, and what became of them since.
//!
//! What must stay true: nothing that an authenticated application sends is thrown away silently, and nothing here outgrows its
//! bound. A rejection is on the disk within a second and shares no sync with the log; what falls out of the bound, or cannot
//! be kept, is counted.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use eye_log::ApplicationId;
use eye_log::storage::make_private_folder;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::error::FieldErrors;

mod file;

use file::{Place, Records, Spot};

/// Bodies up to this are kept whole …
const WHOLE_MAX_BYTES: usize = 1 << 20;
/// … and of longer ones this much, with their length and hash.
const PART_BYTES: usize = 64 << 10;
/// A rejection counts for at least so much against the bound: it is also known in memory.
const LEAST_BYTES: u64 = 1 << 10;
/// How often what was written is synced.
const SYNC_EVERY: Duration = Duration::from_millis(500);
/// What is kept of a client's name.
const USER_AGENT_MAX_CHARS: usize = 200;

/// What is to be kept of a refused event or request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal<'r> {
    pub(crate) application: ApplicationId,
    /// The path it was sent to.
    pub(crate) path: &'r str,
    /// Which item of the request it was; `None` for an event sent alone or a request as a whole.
    pub(crate) index: Option<usize>,
    pub(crate) code: &'static str,
    pub(crate) errors: &'r FieldErrors,
    /// The bytes as sent, as far as they were read.
    pub(crate) body: &'r [u8],
    /// Whether there were more.
    pub(crate) cut: bool,
    pub(crate) user_agent: Option<&'r str>,
}

/// The head of a record in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Head {
    /// Something was refused; the body is what was sent.
    Refused(Refused),
    /// What became of it since.
    Changed {
        id: Uuid,
        state: State,
        event_id: Option<Uuid>,
        code: String,
        errors: FieldErrors,
    },
    /// How many of each application are not kept any more, or never were, up to here.
    Dropped { counts: Vec<(u32, u64)> },
}

/// A refused event or request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) id: Uuid,
    /// Unix microseconds.
    pub(crate) at: i64,
    pub(crate) application: u32,
    pub(crate) path: String,
    pub(crate) index: Option<usize>,
    pub(crate) code: String,
    pub(crate) errors: FieldErrors,
    /// How long what was sent is, as far as it was read.
    pub(crate) bytes: u64,
    /// Whether not all of it was read.
    pub(crate) cut: bool,
    /// Its SHA-256, where not all of it is kept.
    pub(crate) sha256: Option<String>,
    pub(crate) user_agent: Option<String>,
}

/// What became of a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Nothing yet.
    Open,
    /// It was sent again, and stored.
    Retried,
}

impl State {
    /// Returns its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Retried => "retried",
        }
    }
}

/// A rejection as it is now.
#[derive(Debug, Clone)]
pub(crate) struct Rejection {
    /// Its place among all, for cursors.
    pub(crate) number: u64,
    pub(crate) refused: Refused,
    pub(crate) state: State,
    /// The event that it became.
    pub(crate) event_id: Option<Uuid>,
    /// Whether some of the body is not kept.
    pub(crate) truncated: bool,
    pub(crate) body: Vec<u8>,
}

/// Which rejections are meant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) application: Option<ApplicationId>,
    pub(crate) code: Option<String>,
    /// Unix microseconds, inclusive.
    pub(crate) from: Option<i64>,
    /// Unix microseconds, exclusive.
    pub(crate) to: Option<i64>,
    pub(crate) state: Option<State>,
}

/// How many rejections of one application and reason are open.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    pub(crate) application: ApplicationId,
    pub(crate) code: String,
    pub(crate) count: u64,
    pub(crate) first: i64,
    pub(crate) last: i64,
}

/// How many rejections of an application there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) kept: u64,
    /// Not any more, or never: beyond the bound, or what could not be written.
    pub(crate) dropped: u64,
}

/// What is known of a rejection without reading it.
#[derive(Debug)]
struct Entry {
    number: u64,
    id: Uuid,
    at: i64,
    application: ApplicationId,
    code: Arc<str>,
    state: State,
    retrying: bool,
    place: Place,
    /// Where its last change is.
    changed: Option<Place>,
}

/// The rejections of a store.
#[derive(Debug)]
pub(crate) struct Rejections {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    max_bytes: u64,
    max_age: i64,
    /// By number, ascending; the last one is appended to.
    files: BTreeMap<u64, Kept>,
    entries: VecDeque<Entry>,
    /// The number of each, by its id.
    numbers: HashMap<Uuid, u64>,
    codes: BTreeSet<Arc<str>>,
    dropped: BTreeMap<u32, u64>,
    /// Files with something that is not synced.
    unsynced: Vec<Arc<File>>,
    /// There are counts that no file has.
    uncounted: bool,
}

#[derive(Debug)]
struct Kept {
    records: Records,
    /// What it counts against the bound.
    charged: u64,
    newest: i64,
}

/// Why a rejection cannot be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CannotRetry {
    /// It is not there.
    Unknown,
    /// It was stored before.
    Retried,
    /// Somebody else is at it.
    Busy,
}

impl Rejections {
    /// Opens the rejections in `folder`, which is made where it is missing. They take `max_bytes` at most and are kept for
    /// `max_age`. A thread of their own syncs them until this is dropped. Blocks.
    pub(crate) fn open(folder: &Path, max_bytes: usize, max_age: Duration) -> io::Result<Self> {
        make_private_folder(folder)?;
        let mut inner = Inner {
            folder: folder.to_owned(),
            max_bytes: max_bytes as u64,
            max_age: i64::try_from(max_age.as_micros()).unwrap_or(i64::MAX),
            files: BTreeMap::new(),
            entries: VecDeque::new(),
            numbers: HashMap::new(),
            codes: BTreeSet::new(),
            dropped: BTreeMap::new(),
            unsynced: Vec::new(),
            uncounted: false,
        };
        for number in file::numbers(folder)? {
            inner.load(number)?;
        }
        let inner = Arc::new(Mutex::new(inner));
        let weak = Arc::downgrade(&inner);
        std::thread::Builder::new()
            .name("eye-rejections".to_owned())
            .spawn(move || look_after(&weak))?;
        Ok(Self { inner })
    }

    /// Keeps what was refused and returns its id; counts it where that cannot be. Writes to the page cache only.
    pub(crate) fn keep(&self, refusal: Refusal<'_>) -> Option<Uuid> {
        let mut inner = self.lock();
        match inner.keep(refusal) {
            Ok(id) => Some(id),
            Err(error) => {
                tracing::warn!(%error, "a rejection could not be kept");
                inner.drop_one(refusal.application);
                None
            }
        }
    }

    /// Counts what was refused and is not kept.
    pub(crate) fn count_only(&self, application: ApplicationId) {
        self.lock().drop_one(application);
    }

    /// Returns those that are meant and have a smaller number than `before`, newest first, without their bodies; also whether
    /// there are more. Blocks.
    pub(crate) fn list(
        &self,
        filter: &Filter,
        before: u64,
        limit: usize,
    ) -> io::Result<(Vec<Rejection>, bool)> {
        let mut found = {
            let inner = self.lock();
            let end = inner.entries.partition_point(|entry| entry.number < before);
            let meant = inner.entries.range(..end).rev();
            let meant = meant.filter(|entry| filter.takes(entry)).take(limit + 1);
            meant
                .map(|entry| inner.locate(entry))
                .collect::<io::Result<Vec<Located>>>()?
        };
        // Without the lock: whoever is refused meanwhile does not wait for a page.
        let more = found.len() > limit;
        found.truncate(limit);
        let read = found.iter().map(|located| located.read(false));
        Ok((read.collect::<io::Result<Vec<Rejection>>>()?, more))
    }

    /// Counts those that are open and meant, by application and reason.
    pub(crate) fn summary(&self, filter: &Filter) -> Vec<Summary> {
        let inner = self.lock();
        let mut by: BTreeMap<(ApplicationId, Arc<str>), Summary> = BTreeMap::new();
        let open = |entry: &&Entry| entry.state == State::Open && filter.takes(entry);
        for entry in inner.entries.iter().filter(open) {
            let summary = by
                .entry((entry.application, entry.code.clone()))
                .or_insert_with(|| Summary {
                    application: entry.application,
                    code: entry.code.to_string(),
                    count: 0,
                    first: entry.at,
                    last: entry.at,
                });
            summary.count += 1;
            summary.first = summary.first.min(entry.at);
            summary.last = summary.last.max(entry.at);
        }
        by.into_values().collect()
    }

    /// Returns the ids of those that are meant, oldest first.
    pub(crate) fn ids(&self, filter: &Filter) -> Vec<Uuid> {
        let inner = self.lock();
        let meant = inner.entries.iter().filter(|entry| filter.takes(entry));
        meant.map(|entry| entry.id).collect()
    }

    /// Returns for each application how many are kept, and how many are not any more or never were, whenever they came.
    pub(crate) fn counts(&self) -> HashMap<ApplicationId, Counts> {
        let inner = self.lock();
        let mut all: HashMap<ApplicationId, Counts> = HashMap::new();
        for entry in &inner.entries {
            all.entry(entry.application).or_default().kept += 1;
        }
        for (application, dropped) in &inner.dropped {
            let counts = all.entry(ApplicationId(*application)).or_default();
            counts.dropped = *dropped;
        }
        all
    }

    /// Returns a rejection with its body. Blocks.
    pub(crate) fn get(&self, id: Uuid) -> io::Result<Option<Rejection>> {
        let located = {
            let inner = self.lock();
            let place = inner.place_of(id);
            place.map(|place| inner.locate(&inner.entries[place]))
        };
        located.map(|located| located?.read(true)).transpose()
    }

    /// Takes a rejection to send it again; [`Self::end_retry`] gives it back.
    pub(crate) fn begin_retry(&self, id: Uuid) -> Result<(), CannotRetry> {
        let mut inner = self.lock();
        let place = inner.place_of(id).ok_or(CannotRetry::Unknown)?;
        let entry = &mut inner.entries[place];
        if entry.state == State::Retried {
            return Err(CannotRetry::Retried);
        }
        if std::mem::replace(&mut entry.retrying, true) {
            return Err(CannotRetry::Busy);
        }
        Ok(())
    }

    /// Says what came of sending a rejection again: the event that it became, or why it was refused once more; nothing where
    /// nothing came of it.
    pub(crate) fn end_retry(
        &self,
        id: Uuid,
        outcome: Option<Result<Uuid, (&'static str, &FieldErrors)>>,
    ) {
        let mut inner = self.lock();
        let Some(place) = inner.place_of(id) else {
            return;
        };
        inner.entries[place].retrying = false;
        let head = match outcome {
            None => return,
            Some(Ok(event_id)) => Head::Changed {
                id,
                state: State::Retried,
                event_id: Some(event_id),
                code: inner.entries[place].code.to_string(),
                errors: FieldErrors::new(),
            },
            Some(Err((code, errors))) => Head::Changed {
                id,
                state: State::Open,
                event_id: None,
                code: code.to_owned(),
                errors: errors.clone(),
            },
        };
        match inner.append(&head, &[], 0) {
            Ok(place) => inner.apply(place, &head),
            Err(error) => tracing::warn!(%error, "what became of a rejection could not be noted"),
        }
    }

    /// Removes every rejection (of an application, or of all) whose bytes name one of these sessions; nothing of them is left
    /// in the files once this returns. Returns how many. Blocks.
    pub(crate) fn purge(
        &self,
        sessions: &[Uuid],
        application: Option<ApplicationId>,
    ) -> io::Result<u64> {
        let texts: Vec<String> = sessions
            .iter()
            .flat_map(|session| [session.to_string(), session.simple().to_string()])
            .collect();
        let finders: Vec<_> = texts.iter().map(memchr::memmem::Finder::new).collect();
        let names_one = |bytes: &[u8]| {
            let lower = bytes.to_ascii_lowercase();
            finders.iter().any(|finder| finder.find(&lower).is_some())
        };
        self.lock().purge(&names_one, application)
    }

    /// Syncs what is not synced. Blocks.
    pub(crate) fn sync(&self) {
        sync(&self.inner);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look_after(weak: &Weak<Mutex<Inner>>) {
    loop {
        std::thread::sleep(SYNC_EVERY);
        let Some(inner) = weak.upgrade() else {
            return;
        };
        sync(&inner);
        let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = inner.keep_bounds() {
            tracing::warn!(%error, "old rejections could not be removed");
        }
    }
}

/// Syncs what is not synced; whoever keeps a rejection meanwhile does not wait for the disk.
fn sync(inner: &Mutex<Inner>) {
    let unsynced = {
        let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = inner.write_counts() {
            tracing::warn!(%error, "how many rejections are not kept could not be noted");
        }
        std::mem::take(&mut inner.unsynced)
    };
    for file in unsynced {
        if let Err(error) = file.sync_data() {
            tracing::warn!(%error, "rejections could not be synced");
        }
    }
}

impl Filter {
    fn takes(&self, entry: &Entry) -> bool {
        self.application.is_none_or(|own| entry.application == own)
            && self.code.as_deref().is_none_or(|code| *entry.code == *code)
            && self.from.is_none_or(|from| entry.at >= from)
            && self.to.is_none_or(|to| entry.at < to)
            && self.state.is_none_or(|state| entry.state == state)
    }
}

impl Inner {
    fn load(&mut self, number: u64) -> io::Result<()> {
        let mut seen = Vec::new();
        let records = Records::open(&self.folder, number, &mut |place, head, bytes| {
            seen.push((place, head, bytes));
        })?;
        self.files.insert(
            number,
            Kept {
                records,
                charged: 0,
                newest: 0,
            },
        );
        for (place, head, bytes) in seen {
            self.charge(number, bytes, head.at());
            self.apply(place, &head);
        }
        Ok(())
    }

    fn charge(&mut self, number: u64, bytes: u64, at: i64) {
        if let Some(kept) = self.files.get_mut(&number) {
            kept.charged += bytes.max(LEAST_BYTES);
            kept.newest = kept.newest.max(at);
        }
    }

    /// Takes in what a record says.
    fn apply(&mut self, place: Place, head: &Head) {
        match head {
            Head::Refused(refused) => {
                let entry = Entry {
                    number: place.number(),
                    id: refused.id,
                    at: refused.at,
                    application: ApplicationId(refused.application),
                    code: self.code(&refused.code),
                    state: State::Open,
                    retrying: false,
                    place,
                    changed: None,
                };
                self.numbers.insert(entry.id, entry.number);
                self.entries.push_back(entry);
            }
            Head::Changed {
                id, state, code, ..
            } => {
                let code = self.code(code);
                if let Some(found) = self.place_of(*id) {
                    let entry = &mut self.entries[found];
                    (entry.state, entry.code, entry.changed) = (*state, code, Some(place));
                }
            }
            Head::Dropped { counts } => self.dropped = counts.iter().copied().collect(),
        }
    }

    /// Returns the one copy of a code's name that all entries share.
    fn code(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.codes.get(name) {
            return known.clone();
        }
        let code: Arc<str> = name.into();
        self.codes.insert(code.clone());
        code
    }

    fn keep(&mut self, refusal: Refusal<'_>) -> io::Result<Uuid> {
        let whole = refusal.body.len() <= WHOLE_MAX_BYTES;
        let body = if whole {
            refusal.body
        } else {
            &refusal.body[..PART_BYTES]
        };
        let refused = Refused {
            id: Uuid::new_v4(),
            at: eye_log::now(),
            application: refusal.application.0,
            path: refusal.path.to_owned(),
            index: refusal.index,
            code: refusal.code.to_owned(),
            errors: refusal.errors.clone(),
            bytes: refusal.body.len() as u64,
            cut: refusal.cut,
            sha256: (!whole && !refusal.cut).then(|| format!("{:x}", Sha256::digest(refusal.body))),
            user_agent: refusal
                .user_agent
                .map(|name| name.chars().take(USER_AGENT_MAX_CHARS).collect()),
        };
        let (id, at) = (refused.id, refused.at);
        let head = Head::Refused(refused);
        let place = self.append(&head, body, at)?;
        self.apply(place, &head);
        self.keep_bounds()?;
        Ok(id)
    }

    fn append(&mut self, head: &Head, body: &[u8], at: i64) -> io::Result<Place> {
        let full = (self.max_bytes / 16).clamp(64 << 10, 8 << 20);
        let last = self.files.last_key_value();
        if last.is_none_or(|(_, kept)| kept.charged >= full) {
            let number = last.map_or(0, |(number, _)| number + 1);
            let records = Records::create(&self.folder, number)?;
            self.files.insert(
                number,
                Kept {
                    records,
                    charged: 0,
                    newest: 0,
                },
            );
            if !self.dropped.is_empty() {
                // The file that said so may be the next one to go.
                self.uncounted = true;
                self.write_counts()?;
            }
        }
        let (number, position, bytes) = {
            let mut last = self.files.last_entry().ok_or(io::ErrorKind::NotFound)?;
            let (position, bytes) = last.get_mut().records.append(head, body)?;
            let file = &last.get().records.file;
            if !self.unsynced.iter().any(|other| Arc::ptr_eq(other, file)) {
                self.unsynced.push(Arc::clone(file));
            }
            (*last.key(), position, bytes)
        };
        self.charge(number, bytes, at);
        Ok(Place {
            file: number,
            position,
        })
    }

    fn write_counts(&mut self) -> io::Result<()> {
        if self.uncounted {
            self.uncounted = false;
            let counts = self
                .dropped
                .iter()
                .map(|(own, count)| (*own, *count))
                .collect();
            let written = self.append(&Head::Dropped { counts }, &[], 0);
            self.uncounted |= written.is_err();
            written?;
        }
        Ok(())
    }

    fn drop_one(&mut self, application: ApplicationId) {
        *self.dropped.entry(application.0).or_default() += 1;
        self.uncounted = true;
    }

    /// Removes the oldest files while there is too much, and those of which all is too old.
    fn keep_bounds(&mut self) -> io::Result<()> {
        let mut charged: u64 = self.files.values().map(|kept| kept.charged).sum();
        let too_old = eye_log::now().saturating_sub(self.max_age);
        loop {
            let files = self.files.len();
            let Some(oldest) = self.files.first_entry() else {
                break;
            };
            let expired = (1..too_old).contains(&oldest.get().newest);
            if !expired && (charged <= self.max_bytes || files == 1) {
                break;
            }
            let (number, kept) = oldest.remove_entry();
            charged -= kept.charged;
            // The counts it held are written again.
            self.uncounted |= !self.dropped.is_empty();
            while self
                .entries
                .front()
                .is_some_and(|entry| entry.place.file <= number)
            {
                let Some(gone) = self.entries.pop_front() else {
                    break;
                };
                self.numbers.remove(&gone.id);
                if gone.state == State::Open {
                    self.drop_one(gone.application);
                }
            }
            std::fs::remove_file(&kept.records.path)?;
        }
        self.write_counts()
    }

    /// Returns which of the entries a rejection is.
    fn place_of(&self, id: Uuid) -> Option<usize> {
        let number = *self.numbers.get(&id)?;
        self.entries
            .binary_search_by_key(&number, |entry| entry.number)
            .ok()
    }

    fn locate(&self, entry: &Entry) -> io::Result<Located> {
        let at = |place: Place| -> io::Result<Spot> {
            let kept = self.files.get(&place.file).ok_or(io::ErrorKind::NotFound)?;
            Ok(kept.records.spot(place.position))
        };
        Ok(Located {
            number: entry.number,
            state: entry.state,
            refused: at(entry.place)?,
            changed: entry.changed.map(at).transpose()?,
        })
    }

    fn purge(
        &mut self,
        names_one: &dyn Fn(&[u8]) -> bool,
        application: Option<ApplicationId>,
    ) -> io::Result<u64> {
        let numbers: Vec<u64> = self.files.keys().copied().collect();
        let mut gone = BTreeSet::new();
        let before = self.entries.len();
        let mut stays = |head: &Head, body: &[u8]| match head {
            Head::Refused(refused) => {
                let theirs = application.is_none_or(|own| own.0 == refused.application);
                let errors = format!("{:?}", refused.errors);
                let goes = theirs && (names_one(body) || names_one(errors.as_bytes()));
                if goes {
                    gone.insert(refused.id);
                }
                !goes
            }
            Head::Changed { id, .. } => !gone.contains(id),
            Head::Dropped { .. } => true,
        };
        let mut purged = Ok(());
        for kept in self.files.values_mut() {
            // Most files have none; those are only read.
            purged = kept.records.all(&mut stays).and_then(|all| match all {
                true => Ok(()),
                false => kept.records.rewrite(&mut stays),
            });
            if purged.is_err() {
                break;
            }
        }
        // Everything behind what went has moved, also where it did not go to the end.
        if !gone.is_empty() {
            self.files.clear();
            self.entries.clear();
            self.numbers.clear();
            for number in numbers {
                self.load(number)?;
            }
        }
        purged.map(|()| (before - self.entries.len()) as u64)
    }
}

/// Where a rejection is, to be read without holding anybody up.
struct Located {
    number: u64,
    state: State,
    refused: Spot,
    changed: Option<Spot>,
}

impl Located {
    /// Reads it, its body only where that is wanted.
    fn read(&self, with_body: bool) -> io::Result<Rejection> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "a rejection is damaged");
        let (head, body, body_bytes) = self.refused.read(with_body)?;
        let Head::Refused(mut refused) = head else {
            return Err(wrong());
        };
        let mut event = None;
        if let Some(changed) = &self.changed {
            let (
                Head::Changed {
                    code,
                    errors,
                    event_id,
                    ..
                },
                _,
                _,
            ) = changed.read(false)?
            else {
                return Err(wrong());
            };
            event = event_id;
            if self.state == State::Open {
                (refused.code, refused.errors) = (code, errors);
            }
        }
        Ok(Rejection {
            number: self.number,
            truncated: refused.cut || body_bytes != refused.bytes,
            refused,
            state: self.state,
            event_id: event,
            body,
        })
    }
}

impl Head {
    fn at(&self) -> i64 {
        match self {
            Self::Refused(refused) => refused.at,
            Self::Changed { .. } | Self::Dropped { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests;
