//! What only one place may decide, in log order: whose session is this, and was this id here before.
//!
//! What must stay true: the answers depend on the log alone. Raw segments' part is in memory and grows back from their
//! frames; sealed files carry theirs in their footers. The catalog is never asked.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::quality::RandomState;
use uuid::Uuid;

use crate::error::ReadError;
use crate::event::{ClientId, Event};
use crate::files::Files;
use crate::format::keys::Keys;
use crate::format::payload;
use crate::ids::id_from_client_key;
use crate::offset::Offset;
use crate::pieces::{Piece, Pieces};
use crate::ranges::OffsetRanges;
use crate::reader::Lookup;
use crate::record::{ClientKey, EventRecord};
use crate::registry::ApplicationId;
use crate::sealed::SealedFile;

/// The events of one request for one application, encoded; what is stored of them becomes one frame.
#[derive(Debug)]
pub struct Batch {
    pub(crate) application: ApplicationId,
    pub(crate) bytes: Vec<u8>,
    pub(crate) items: Vec<Item>,
    pub(crate) all_or_nothing: bool,
    pub(crate) refused_before: u32,
}

/// What the writer must know of an encoded event.
#[derive(Debug)]
pub(crate) struct Item {
    /// Where its record ends within the batch's bytes; it begins where the one before ends.
    pub(crate) end: usize,
    pub(crate) session: Uuid,
    /// The id the client made and the hash of the content it stands for.
    pub(crate) client: Option<(Uuid, [u8; 16])>,
}

impl Batch {
    /// Starts an empty batch.
    pub fn new(application: ApplicationId) -> Self {
        Self {
            application,
            bytes: Vec::new(),
            items: Vec::new(),
            all_or_nothing: false,
            refused_before: 0,
        }
    }

    /// Makes room for about `bytes` of records, so that they are not moved while they gather.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// Adds an event.
    pub fn push(&mut self, event: &Event<'_>) {
        let client = event.client_id.as_ref().map(|client| {
            let (id, key) = match client {
                ClientId::Uuid(id) => (*id, ""),
                ClientId::Key(key) => (id_from_client_key(self.application, key), key.as_ref()),
            };
            (
                id,
                ClientKey {
                    key,
                    content_hash: event.content_hash(),
                },
            )
        });
        let record = EventRecord {
            id: client.map_or(Uuid::nil(), |(id, _)| id),
            received_at: 0,
            application: self.application,
            session_id: event.session_id,
            timestamp: event.timestamp,
            client: client.map(|(_, key)| key),
            category: &event.category,
            name: &event.name,
            meta: "",
            data: event.data,
        };
        payload::push_event(&mut self.bytes, &record);
        let client = client.map(|(id, key)| (id, key.content_hash));
        self.items.push(Item {
            end: self.bytes.len(),
            session: event.session_id,
            client,
        });
    }

    /// Asks that nothing be stored unless everything can be.
    pub fn all_or_nothing(&mut self) {
        self.all_or_nothing = true;
    }

    /// Notes how many events of the request were refused before they came here; the frame counts them.
    pub fn note_refused(&mut self, count: usize) {
        self.refused_before = u32::try_from(count).unwrap_or(u32::MAX);
    }

    /// Returns how many events it holds.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Says whether it holds no event.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the bytes of its records.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// What became of a batch. Stored events have dense offsets from `first_offset` on, in the order they were pushed,
/// leaving out the exceptions.
#[derive(Debug, Clone, Default)]
pub struct Receipt {
    /// The offset of the first stored event.
    pub first_offset: Option<Offset>,
    /// How many were stored.
    pub stored: usize,
    /// Their arrival, unix microseconds.
    pub received_at: i64,
    /// The others: their place in the batch, and why.
    pub exceptions: Vec<(usize, Exception)>,
}

/// Why an event of a batch was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exception {
    /// The same id with the same content is in the log already.
    Duplicate {
        /// Where.
        offset: Offset,
        /// Its id.
        id: Uuid,
    },
    /// The session belongs to another application.
    SessionConflict,
    /// The same id is in the log already, with other content.
    IdConflict {
        /// Where.
        offset: Offset,
    },
    /// Nothing was wrong with it, but the batch was all or nothing.
    NotStored,
}

/// Ownership of sessions and client-made ids, over the whole log.
#[derive(Debug)]
pub(crate) struct Admission {
    active: Entries,
    /// The files in front of the active segment, oldest first, and the version they were taken at.
    pieces: Pieces,
    version: u64,
    /// What is being erased; its ids may be used again.
    erased: Arc<OffsetRanges>,
    keys: Keys,
    idempotency_window: i64,
}

/// What a raw segment adds: sessions first seen in it and ids used in it.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    sessions: HashMap<Uuid, SessionEntry, RandomState>,
    ids: HashMap<(ApplicationId, Uuid), IdEntry, RandomState>,
}

/// Where an id was used, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdEntry {
    pub(crate) offset: Offset,
    pub(crate) content_hash: [u8; 16],
}

#[derive(Debug, Clone, Copy)]
struct SessionEntry {
    owner: ApplicationId,
    /// Whether the session was first seen in this segment; otherwise this only spares a look at the others.
    first_here: bool,
}

impl Entries {
    /// Returns how many sessions and ids it holds.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len() + self.ids.len()
    }

    /// Returns the sessions that were first seen here, with their owners.
    pub(crate) fn first_seen(&self) -> impl Iterator<Item = (Uuid, ApplicationId)> {
        self.sessions
            .iter()
            .filter(|(_, entry)| entry.first_here)
            .map(|(session, entry)| (*session, entry.owner))
    }

    /// Returns the ids that clients made, and where they were used.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (ApplicationId, Uuid, Offset)> {
        self.ids
            .iter()
            .map(|((application, id), entry)| (*application, *id, entry.offset))
    }
}

/// What a request added, so that it can be taken back when it could not be stored.
#[derive(Debug, Default)]
pub(crate) struct Added {
    sessions: Vec<Uuid>,
    ids: Vec<(ApplicationId, Uuid)>,
}

impl Admission {
    pub(crate) fn new(keys: Keys, idempotency_window: i64) -> Self {
        Self {
            active: Entries::default(),
            pieces: Pieces::default(),
            version: 0,
            erased: Arc::default(),
            keys,
            idempotency_window,
        }
    }

    /// Takes note of files that were closed, sealed, merged or rewritten since it last looked. Returns those it looked
    /// at until now: letting go of a file that was removed frees its room on the disk, which takes tens of milliseconds.
    pub(crate) fn refresh(&mut self, files: &Files, erased: Arc<OffsetRanges>) -> Option<Pieces> {
        self.erased = erased;
        let version = files.version();
        if version == self.version {
            return None;
        }
        self.version = version;
        Some(std::mem::replace(&mut self.pieces, files.pieces()))
    }

    /// Uses these files, while the log is being opened.
    pub(crate) fn use_pieces(&mut self, pieces: Vec<Piece>) {
        self.pieces = Arc::new(pieces);
    }

    /// Decides about an event that would get `offset`; remembers it if it may be stored.
    pub(crate) fn admit(
        &mut self,
        application: ApplicationId,
        item: &Item,
        offset: Offset,
        now: i64,
        added: &mut Added,
    ) -> Result<Option<Exception>, ReadError> {
        // The id first: a repeat is a repeat even if it says so about somebody else's session.
        if let Some((id, content_hash)) = item.client
            && let Some(entry) = self.id_entry(application, id, now)?
        {
            return Ok(Some(if entry.content_hash == content_hash {
                Exception::Duplicate {
                    offset: entry.offset,
                    id,
                }
            } else {
                Exception::IdConflict {
                    offset: entry.offset,
                }
            }));
        }
        match self.owner(item.session)? {
            Some(owner) if owner != application => return Ok(Some(Exception::SessionConflict)),
            Some(_) => {}
            None => {
                self.active.sessions.insert(
                    item.session,
                    SessionEntry {
                        owner: application,
                        first_here: true,
                    },
                );
                added.sessions.push(item.session);
            }
        }
        if let Some((id, content_hash)) = item.client {
            self.active.ids.insert(
                (application, id),
                IdEntry {
                    offset,
                    content_hash,
                },
            );
            added.ids.push((application, id));
        }
        Ok(None)
    }

    /// Forgets what a request added that was not stored.
    pub(crate) fn take_back(&mut self, added: Added) {
        for session in added.sessions {
            self.active.sessions.remove(&session);
        }
        for id in added.ids {
            self.active.ids.remove(&id);
        }
    }

    fn owner(&mut self, session: Uuid) -> Result<Option<ApplicationId>, ReadError> {
        if let Some(entry) = self.active.sessions.get(&session) {
            return Ok(Some(entry.owner));
        }
        for piece in self.pieces.iter().rev() {
            let owner = match piece {
                Piece::Raw(segment) => segment
                    .closed()
                    .and_then(|closed| closed.entries.sessions.get(&session))
                    .map(|entry| entry.owner),
                Piece::Sealed(file) => file.owner(&self.keys, session)?,
                // What it knew is lost with it; the damage is reported where it was found.
                Piece::Damaged(..) => None,
            };
            if let Some(owner) = owner {
                let entry = SessionEntry {
                    owner,
                    first_here: false,
                };
                self.active.sessions.insert(session, entry);
                return Ok(Some(owner));
            }
        }
        Ok(None)
    }

    fn id_entry(
        &self,
        application: ApplicationId,
        id: Uuid,
        now: i64,
    ) -> Result<Option<IdEntry>, ReadError> {
        if let Some(entry) = self.active.ids.get(&(application, id)) {
            return Ok((!self.erased.contains(entry.offset)).then_some(*entry));
        }
        let oldest = now.saturating_sub(self.idempotency_window);
        for piece in self.pieces.iter().rev() {
            let entry = match piece {
                Piece::Raw(segment) => segment
                    .closed()
                    .and_then(|closed| closed.entries.ids.get(&(application, id)).copied()),
                Piece::Sealed(file) if file.trailer.summary.last_received_at < oldest => break,
                Piece::Sealed(file) => self.id_in_file(file, application, id)?,
                Piece::Damaged(..) => None,
            };
            if let Some(entry) = entry.filter(|entry| !self.erased.contains(entry.offset)) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Looks an id up in a sealed file. Its table says where to look; the event there says whether it is the one.
    fn id_in_file(
        &self,
        file: &Arc<SealedFile>,
        application: ApplicationId,
        id: Uuid,
    ) -> Result<Option<IdEntry>, ReadError> {
        let candidates = file.id_candidates(&self.keys, application, id)?;
        if candidates.is_empty() {
            return Ok(None);
        }
        let pieces = Arc::new(vec![Piece::Sealed(file.clone())]);
        let mut look = Lookup::new(pieces, Offset::MAX, Arc::new(OffsetRanges::default()));
        for offset in candidates {
            let found = look.event(offset, |event| {
                (event.application == application && event.id == id).then(|| IdEntry {
                    offset,
                    content_hash: event.content_hash(),
                })
            })?;
            if let Some(entry) = found.flatten() {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Takes in an event that recovery found in a raw segment. The first owner of a session stays.
    pub(crate) fn replay(
        &mut self,
        event: &EventRecord<'_>,
        offset: Offset,
    ) -> Result<(), ReadError> {
        if self.owner(event.session_id)?.is_none() {
            let entry = SessionEntry {
                owner: event.application,
                first_here: true,
            };
            self.active.sessions.insert(event.session_id, entry);
        }
        if event.client.is_some() {
            let entry = IdEntry {
                offset,
                content_hash: event.content_hash(),
            };
            self.active.ids.insert((event.application, event.id), entry);
        }
        Ok(())
    }

    /// Ends the active segment's part and hands it over; whoever gets it keeps it with the closed segment, where it is
    /// asked from the next [`Self::refresh`] on.
    pub(crate) fn close_segment(&mut self) -> Entries {
        std::mem::take(&mut self.active)
    }
}
