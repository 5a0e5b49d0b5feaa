//! What only one place may decide, in log order: whose session is this, and was this id here before.
//!
//! What must stay true: the answers depend on the log alone. Raw segments' part is in memory and grows back from their
//! frames; sealed files carry theirs in their footers. The catalog is never asked.

mod batch;
mod entries;
mod owners;

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::quality::RandomState;
use uuid::Uuid;

pub(crate) use batch::Item;
pub use batch::{Batch, Exception, Receipt};
pub(crate) use entries::Entries;
use owners::Owners;

use crate::error::ReadError;
use crate::format::keys::Keys;
use crate::log::Shared;
use crate::offset::Offset;
use crate::pieces::{Piece, Pieces};
use crate::ranges::OffsetRanges;
use crate::reader::Lookup;
use crate::record::EventRecord;
use crate::registry::ApplicationId;

/// Ownership of sessions and client-made ids, over the whole log.
#[derive(Debug)]
pub(crate) struct Admission {
    active: Entries,
    /// Whose the sessions are that came up lately: most of them go on for longer than a segment does.
    owners: Owners,
    /// Ids of events that are not known to be on the disk yet, and so cannot be read.
    on_their_way: HashMap<(ApplicationId, Uuid), OnItsWay, RandomState>,
    /// All files, the active segment among them, and the version they were taken at.
    pieces: Pieces,
    version: u64,
    look: Lookup,
    /// What is being erased; its ids may be used again.
    erased: Arc<OffsetRanges>,
    keys: Keys,
    idempotency_window: i64,
}

/// Where an id was used, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    offset: Offset,
    content_hash: [u8; 16],
}

#[derive(Debug)]
struct OnItsWay {
    known: Known,
    /// What stands for the id.
    print: u64,
}

/// What a request added, so that it can be taken back when it could not be stored.
#[derive(Debug, Default)]
pub(crate) struct Added {
    sessions: Vec<Uuid>,
    ids: Vec<(ApplicationId, Uuid)>,
}

impl Admission {
    pub(crate) fn new(keys: Keys, idempotency_window: i64) -> Self {
        let pieces = Pieces::default();
        Self {
            active: Entries::new(0),
            owners: Owners::default(),
            on_their_way: HashMap::default(),
            look: look_at(&pieces),
            pieces,
            version: 0,
            erased: Arc::default(),
            keys,
            idempotency_window,
        }
    }

    /// Takes note of what was synced, closed, sealed, merged or rewritten since it last looked. Returns the files it
    /// looked at until now: letting go of a file that was removed frees its room on the disk, which takes tens of
    /// milliseconds.
    pub(crate) fn refresh(&mut self, shared: &Shared) -> Option<Pieces> {
        self.erased = shared.erased();
        let durable = shared.durable.get();
        let active = &mut self.active;
        self.on_their_way.retain(|_, id| {
            let arrived = id.known.offset < durable;
            if arrived {
                active.use_id(id.print, id.known.offset);
            }
            !arrived
        });
        let version = shared.files.version();
        let before = (version != self.version).then(|| {
            self.version = version;
            std::mem::replace(&mut self.pieces, shared.files.pieces())
        });
        // A new one: what the old one has read of the active segment ends where that ended.
        self.look = look_at(&self.pieces);
        before
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
        let mut print = 0;
        if let Some((id, content_hash)) = item.client {
            print = self.keys.id_print(application, id);
            if let Some(known) = self.known(application, id, print, now)? {
                let offset = known.offset;
                return Ok(Some(if known.content_hash == content_hash {
                    Exception::Duplicate { offset, id }
                } else {
                    Exception::IdConflict { offset }
                }));
            }
        }
        if item.only_if_known {
            return Ok(Some(Exception::NotKnown));
        }
        match self.owner(item.session)? {
            Some(owner) if owner != application => return Ok(Some(Exception::SessionConflict)),
            Some(_) => {}
            None => {
                self.active.own(item.session, application);
                self.owners.insert(item.session, application);
                added.sessions.push(item.session);
            }
        }
        if let Some((id, content_hash)) = item.client {
            let known = Known {
                offset,
                content_hash,
            };
            self.on_their_way
                .insert((application, id), OnItsWay { known, print });
            added.ids.push((application, id));
        }
        Ok(None)
    }

    /// Forgets what a request added that was not stored.
    pub(crate) fn take_back(&mut self, added: Added) {
        for session in added.sessions {
            self.active.disown(session);
            self.owners.remove(session);
        }
        for id in added.ids {
            self.on_their_way.remove(&id);
        }
    }

    fn owner(&mut self, session: Uuid) -> Result<Option<ApplicationId>, ReadError> {
        if let Some(owner) = self.owners.get(session) {
            return Ok(Some(owner));
        }
        let found = self.find_owner(session)?;
        if let Some(owner) = found {
            self.owners.insert(session, owner);
        }
        Ok(found)
    }

    fn find_owner(&self, session: Uuid) -> Result<Option<ApplicationId>, ReadError> {
        if let Some(owner) = self.active.owner(session) {
            return Ok(Some(owner));
        }
        let mut key = None;
        for piece in self.pieces.iter().rev() {
            let owner = match piece {
                Piece::Raw(segment) => segment
                    .closed()
                    .and_then(|closed| closed.entries.owner(session)),
                Piece::Sealed(file) => {
                    let key = key.get_or_insert_with(|| self.keys.session(session));
                    unless_damaged(file.owner(key))?.flatten()
                }
                Piece::Damaged(..) => None,
            };
            if let Some(owner) = owner {
                return Ok(Some(owner));
            }
        }
        Ok(None)
    }

    /// Looks an id up, newest first, as far back as ids are remembered.
    fn known(
        &mut self,
        application: ApplicationId,
        id: Uuid,
        print: u64,
        now: i64,
    ) -> Result<Option<Known>, ReadError> {
        if let Some(id) = self.on_their_way.get(&(application, id)) {
            return Ok(Some(id.known));
        }
        let oldest = now.saturating_sub(self.idempotency_window);
        let pieces = self.pieces.clone();
        for piece in pieces.iter().rev() {
            let candidates: Vec<Offset> = match piece {
                Piece::Raw(segment) if segment.header.base == self.active.base() => {
                    self.active.id_candidates(print).collect()
                }
                Piece::Raw(segment) => segment.closed().map_or_else(Vec::new, |closed| {
                    closed.entries.id_candidates(print).collect()
                }),
                Piece::Sealed(file) if file.trailer.summary.last_received_at < oldest => break,
                Piece::Sealed(file) => {
                    unless_damaged(file.id_candidates(print))?.unwrap_or_default()
                }
                Piece::Damaged(..) => Vec::new(),
            };
            for offset in candidates {
                // What is being erased may lie in front of the event that took its id over.
                if self.erased.contains(offset) {
                    continue;
                }
                let is_the_one = |event: &EventRecord<'_>| {
                    (event.application == application && event.id == id).then(|| Known {
                        offset,
                        content_hash: event.content_hash(),
                    })
                };
                let read = unless_damaged(self.look.event(offset, is_the_one))?;
                if let Some(known) = read.flatten().flatten() {
                    return Ok(Some(known));
                }
            }
        }
        Ok(None)
    }

    /// Begins a raw segment that recovery found.
    pub(crate) fn begin_segment(&mut self, base: Offset) {
        self.active = Entries::new(base);
    }

    /// Takes in an event that recovery found in a raw segment. The first owner of a session stays.
    pub(crate) fn replay(
        &mut self,
        event: &EventRecord<'_>,
        offset: Offset,
    ) -> Result<(), ReadError> {
        if self.owner(event.session_id)?.is_none() {
            self.active.own(event.session_id, event.application);
        }
        if event.client.is_some() {
            let print = self.keys.id_print(event.application, event.id);
            self.active.use_id(print, offset);
        }
        Ok(())
    }

    /// Ends the active segment's part, all of which is on the disk, and hands it over; whoever gets it keeps it with the
    /// closed segment, where it is asked from the next [`Self::refresh`] on. The next segment begins at `next`.
    pub(crate) fn close_segment(&mut self, next: Offset) -> Entries {
        for (_, id) in self.on_their_way.drain() {
            self.active.use_id(id.print, id.known.offset);
        }
        let next = self.active.next(next);
        std::mem::replace(&mut self.active, next)
    }
}

/// Returns what was read; `None` where it is damaged. What a damaged file knew is lost with it, is reported where it was
/// found, and keeps nobody from sending: an event whose first copy is damaged is stored anew.
fn unless_damaged<T>(read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(ReadError::Damaged(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Looks at everything there is: what may be seen is for the caller to say.
fn look_at(pieces: &Pieces) -> Lookup {
    Lookup::new(pieces.clone(), Offset::MAX, Arc::default())
}
