//! What a raw segment adds: sessions first seen in it, and ids used in it, in as little memory as they can be found in.

use std::collections::HashMap;

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use uuid::Uuid;

use crate::format::filter;
use crate::format::sealed_footer::IdEntry;
use crate::offset::Offset;
use crate::registry::ApplicationId;

/// The sessions and ids of one raw segment.
#[derive(Debug)]
pub(crate) struct Entries {
    /// The offset of the segment's first record.
    base: Offset,
    /// Who owns the sessions that were first seen in it.
    sessions: HashMap<Uuid, ApplicationId, RandomState>,
    /// What stands for each id, and where it was used: eight bytes. The events there say whether it is the one.
    ids: HashTable<IdEntry>,
}

impl Entries {
    /// Starts with a segment that begins at `base`.
    pub(crate) fn new(base: Offset) -> Self {
        Self {
            base,
            sessions: HashMap::default(),
            ids: HashTable::new(),
        }
    }

    /// Starts the segment that follows at `base`, with room for as many ids as this one has: a table that grows moves, and
    /// leaves its room behind.
    pub(crate) fn next(&self, base: Offset) -> Self {
        Self {
            ids: HashTable::with_capacity(self.ids.len()),
            ..Self::new(base)
        }
    }

    /// Returns how many ids it holds.
    pub(crate) fn ids(&self) -> usize {
        self.ids.len()
    }

    /// Returns the offset of the segment's first record.
    pub(crate) fn base(&self) -> Offset {
        self.base
    }

    /// Returns how many sessions and ids it holds.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len() + self.ids.len()
    }

    /// Returns who owns a session, if it was first seen here.
    pub(crate) fn owner(&self, session: Uuid) -> Option<ApplicationId> {
        self.sessions.get(&session).copied()
    }

    /// Notes that a session is first seen here.
    pub(crate) fn own(&mut self, session: Uuid, owner: ApplicationId) {
        self.sessions.insert(session, owner);
    }

    /// Takes back what [`Self::own`] noted.
    pub(crate) fn disown(&mut self, session: Uuid) {
        self.sessions.remove(&session);
    }

    /// Returns the sessions that were first seen here, with their owners.
    pub(crate) fn first_seen(&self) -> impl Iterator<Item = (Uuid, ApplicationId)> {
        self.sessions
            .iter()
            .map(|(session, owner)| (*session, *owner))
    }

    /// Notes that the event at `offset` has the id that `print` stands for.
    pub(crate) fn use_id(&mut self, print: u64, offset: Offset) {
        let entry = IdEntry::new(print, offset - self.base);
        self.ids
            .insert_unique(filter::id_hash(print), entry, |entry| {
                filter::id_hash(entry.print())
            });
    }

    /// Returns the offsets of events that may have the id that `print` stands for; each is to be verified by reading.
    pub(crate) fn id_candidates(&self, print: u64) -> impl Iterator<Item = Offset> {
        self.ids
            .iter_hash(filter::id_hash(print))
            .filter(move |entry| entry.print() == print)
            .map(|entry| self.base + entry.relative())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_several_ids_names_all_their_places() {
        let mut entries = Entries::new(100);
        for number in 0..1000 {
            entries.use_id(number % 400, 100 + number);
        }
        let mut found: Vec<_> = entries.id_candidates(7).collect();
        found.sort_unstable();
        assert_eq!(found, [107, 507, 907]);
        assert_eq!(entries.id_candidates(400).count(), 0);
        assert_eq!(entries.len(), 1000);
    }
}
