//! The sorted tables of sessions and ids that a sealed segment carries in its footer.

use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

use super::filter::Filter;
use crate::error::{Damage, ReadError};
use crate::format::footer::{TRAILER_BYTES, Trailer};
use crate::offset::Offset;
use crate::registry::ApplicationId;
use crate::segment::Segment;

/// Session, then application.
pub(crate) const SESSION_ENTRY_BYTES: usize = 16 + 4;
const SESSION_KEY_BYTES: usize = 16;
/// Application (big-endian, so that bytes sort as numbers do) and id, then offset and content hash.
pub(crate) const ID_ENTRY_BYTES: usize = 4 + 16 + 8 + 16;
const ID_KEY_BYTES: usize = 4 + 16;
/// What a look-up reads at once in the end.
const WINDOW_BYTES: usize = 4096;

/// Where an id was used, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdEntry {
    pub(crate) offset: Offset,
    pub(crate) content_hash: [u8; 16],
}

/// The admission entries of a sealed segment: filters in memory, tables in memory until the footer is on the disk and
/// looked up in the file from then on.
#[derive(Debug, Default)]
pub(crate) struct SealedEntries {
    pub(crate) sessions: Vec<u8>,
    pub(crate) ids: Vec<u8>,
    pub(crate) session_filter: Filter,
    pub(crate) id_filter: Filter,
    /// Set for entries that lie in a footer.
    trailer: Option<Trailer>,
    checked: [AtomicBool; 2],
}

impl SealedEntries {
    /// Sorts entries into tables.
    pub(crate) fn build(
        sessions: impl Iterator<Item = (Uuid, ApplicationId)>,
        ids: impl Iterator<Item = (ApplicationId, Uuid, IdEntry)>,
    ) -> Self {
        let mut sessions: Vec<[u8; SESSION_ENTRY_BYTES]> = sessions
            .map(|(session, owner)| {
                let mut entry = [0; SESSION_ENTRY_BYTES];
                entry[..SESSION_KEY_BYTES].copy_from_slice(session.as_bytes());
                entry[SESSION_KEY_BYTES..].copy_from_slice(&owner.0.to_le_bytes());
                entry
            })
            .collect();
        sessions.sort_unstable();
        let mut ids: Vec<[u8; ID_ENTRY_BYTES]> = ids
            .map(|(application, id, used)| {
                let mut entry = [0; ID_ENTRY_BYTES];
                entry[..ID_KEY_BYTES].copy_from_slice(&id_key(application, id));
                entry[ID_KEY_BYTES..28].copy_from_slice(&used.offset.to_le_bytes());
                entry[28..].copy_from_slice(&used.content_hash);
                entry
            })
            .collect();
        ids.sort_unstable();
        let mut session_filter = Filter::with_room(sessions.len());
        for entry in &sessions {
            session_filter.insert(filter_key(&entry[..SESSION_KEY_BYTES]));
        }
        let mut id_filter = Filter::with_room(ids.len());
        for entry in &ids {
            id_filter.insert(filter_key(&entry[..ID_KEY_BYTES]));
        }
        let (sessions, ids) = (sessions.concat(), ids.concat());
        Self {
            sessions,
            ids,
            session_filter,
            id_filter,
            ..Self::default()
        }
    }

    /// Uses the tables of a footer.
    pub(crate) fn in_footer(trailer: Trailer, session_filter: Filter, id_filter: Filter) -> Self {
        Self {
            session_filter,
            id_filter,
            trailer: Some(trailer),
            ..Self::default()
        }
    }

    /// Returns the same entries without their tables, if these lie in the footer of `segment`.
    pub(crate) fn left_to_footer(&self, segment: &Segment) -> Option<Self> {
        if self.trailer.is_some() {
            return None;
        }
        let at = segment
            .file
            .size()
            .ok()?
            .checked_sub(TRAILER_BYTES as u64)?;
        let trailer = Trailer::decode(&segment.read(at, TRAILER_BYTES).ok()?, segment.header.salt)?;
        Some(Self::in_footer(
            trailer,
            self.session_filter.clone(),
            self.id_filter.clone(),
        ))
    }

    /// Returns who owns a session that was first seen in this segment.
    pub(crate) fn owner(
        &self,
        session: Uuid,
        segment: &Segment,
    ) -> Result<Option<ApplicationId>, ReadError> {
        let key = session.as_bytes();
        if !self.session_filter.may_hold(filter_key(key)) {
            return Ok(None);
        }
        let entry = self.find::<SESSION_ENTRY_BYTES>(0, &self.sessions, key, segment)?;
        Ok(entry.map(|entry| {
            ApplicationId(u32::from_le_bytes([
                entry[16], entry[17], entry[18], entry[19],
            ]))
        }))
    }

    /// Returns what an application used an id for in this segment.
    pub(crate) fn id(
        &self,
        application: ApplicationId,
        id: Uuid,
        segment: &Segment,
    ) -> Result<Option<IdEntry>, ReadError> {
        let key = id_key(application, id);
        if !self.id_filter.may_hold(filter_key(&key)) {
            return Ok(None);
        }
        let entry = self.find::<ID_ENTRY_BYTES>(1, &self.ids, &key, segment)?;
        Ok(entry.map(|entry| {
            let (mut offset, mut content_hash) = ([0; 8], [0; 16]);
            offset.copy_from_slice(&entry[20..28]);
            content_hash.copy_from_slice(&entry[28..]);
            IdEntry {
                offset: u64::from_le_bytes(offset),
                content_hash,
            }
        }))
    }

    /// Binary search for the entry that begins with `key`.
    fn find<const N: usize>(
        &self,
        which: usize,
        memory: &[u8],
        key: &[u8],
        segment: &Segment,
    ) -> Result<Option<[u8; N]>, ReadError> {
        let Some(trailer) = &self.trailer else {
            let (entries, _) = memory.as_chunks::<N>();
            let found = entries.binary_search_by(|entry| entry[..key.len()].cmp(key));
            return Ok(found.ok().map(|place| entries[place]));
        };
        let layout = trailer.layout();
        let (position, length) = [layout.sessions, layout.ids][which];
        if !self.checked[which].load(Ordering::Relaxed) {
            let part = segment.read(position, length)?;
            if !trailer.holds(2 + which, &part, segment.header.salt) {
                return Err(ReadError::Damaged(Damage {
                    file: segment.name.clone(),
                    position,
                    first_offset: segment.header.base,
                    last_offset: trailer.summary.end.checked_sub(1),
                    what: "the footer's table of sessions or ids does not match its checksum"
                        .to_owned(),
                }));
            }
            self.checked[which].store(true, Ordering::Relaxed);
        }
        // Whole entries are read one by one until what is left fits into one read.
        let (mut low, mut high) = (0, length / N);
        while (high - low) * N > WINDOW_BYTES {
            let middle = low + (high - low) / 2;
            let mut entry = [0; N];
            segment.read_into(&mut entry, position + (middle * N) as u64)?;
            match entry[..key.len()].cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(Some(entry)),
            }
        }
        let window = segment.read(position + (low * N) as u64, (high - low) * N)?;
        let (entries, _) = window.as_chunks::<N>();
        let found = entries.binary_search_by(|entry| entry[..key.len()].cmp(key));
        Ok(found.ok().map(|place| entries[place]))
    }
}

fn id_key(application: ApplicationId, id: Uuid) -> [u8; ID_KEY_BYTES] {
    let mut key = [0; ID_KEY_BYTES];
    key[..4].copy_from_slice(&application.0.to_be_bytes());
    key[4..].copy_from_slice(id.as_bytes());
    key
}

/// The 128 bits a filter works on: the last 16 bytes, with an application's number added in front.
fn filter_key(key: &[u8]) -> u128 {
    let (front, uuid) = key.split_at(key.len() - 16);
    let front = front
        .iter()
        .fold(0u128, |number, byte| number << 8 | u128::from(*byte));
    let uuid = uuid
        .iter()
        .fold(0u128, |number, byte| number << 8 | u128::from(*byte));
    uuid.wrapping_add(front.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}
