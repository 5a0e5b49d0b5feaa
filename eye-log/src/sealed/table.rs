//! The tables of a sealed file, sorted and with a filter each: whose session, where which id.
//!
//! What must stay true: nothing of a table is believed before it was read whole and its checksum held. Where it does not,
//! the table is made again from the blocks: a flipped bit must not give a session to a second owner.

use std::cmp::Ordering;
use std::sync::OnceLock;
use std::sync::atomic::Ordering as Memory;

use super::{Contents, SealedFile, SealedShared};
use crate::error::ReadError;
use crate::format::filter;
use crate::format::keys::Keys;
use crate::format::sealed_footer::{IdEntry, Part, SessionEntry};
use crate::offset::Offset;
use crate::registry::ApplicationId;

/// Bytes of filters kept in memory over all files; files beyond it are asked by reading.
const FILTERS_BYTES: u64 = 16 << 20;
/// What a look-up in a table reads at once in the end.
const WINDOW_BYTES: usize = 4096;

/// A table of a file, once it was asked for.
#[derive(Debug)]
pub(super) struct Table {
    part: Part,
    filter_part: Part,
    source: OnceLock<Source>,
}

/// Where a table is looked up.
#[derive(Debug)]
enum Source {
    /// On the disk, where it holds; the filter, if it found room in memory.
    Disk(Option<Vec<u8>>),
    /// The entries, made again.
    Again(Vec<u8>),
}

impl Table {
    pub(super) fn new(part: Part, filter_part: Part) -> Self {
        Self {
            part,
            filter_part,
            source: OnceLock::new(),
        }
    }

    /// Gives the room of its filter back.
    pub(super) fn close(&self, shared: &SealedShared) {
        if let Some(Source::Disk(Some(filter))) = self.source.get() {
            let bytes = filter.len() as u64;
            shared.filter_bytes.fetch_sub(bytes, Memory::Relaxed);
        }
    }
}

impl SealedFile {
    /// Returns who owns the session that `key` stands for, if it was first seen in this file.
    pub(crate) fn owner(&self, key: &[u8; 16]) -> Result<Option<ApplicationId>, ReadError> {
        let compare = |bytes: &[u8]| SessionEntry::decode(bytes).key.cmp(key);
        let hash = filter::session_hash(key);
        let found = self.find(&self.sessions, SessionEntry::BYTES, hash, compare)?;
        Ok(found
            .first()
            .map(|bytes| SessionEntry::decode(bytes).application))
    }

    /// Returns the offsets at which the id that `print` stands for may have been used in this file; each is to be
    /// verified by reading.
    pub(crate) fn id_candidates(&self, print: u64) -> Result<Vec<Offset>, ReadError> {
        let compare = |bytes: &[u8]| IdEntry::decode(bytes).print().cmp(&print);
        let found = self.find(&self.ids, IdEntry::BYTES, filter::id_hash(print), compare)?;
        Ok(found
            .iter()
            .map(|bytes| self.header.base + IdEntry::decode(bytes).relative())
            .collect())
    }

    /// Returns the entries of a table that compare as equal.
    fn find(
        &self,
        table: &Table,
        size: usize,
        hash: u64,
        compare: impl Fn(&[u8]) -> Ordering,
    ) -> Result<Vec<Vec<u8>>, ReadError> {
        match self.source(table)? {
            Source::Disk(filter) => {
                if !self.may_hold(table, filter.as_deref(), hash)? {
                    return Ok(Vec::new());
                }
                self.find_on_disk(table.part, size, compare)
            }
            Source::Again(bytes) => Ok(bytes
                .chunks_exact(size)
                .filter(|entry| compare(entry).is_eq())
                .map(<[u8]>::to_vec)
                .collect()),
        }
    }

    /// Returns where a table is looked up. The first time, reads it whole and checks it.
    fn source<'t>(&self, table: &'t Table) -> Result<&'t Source, ReadError> {
        if let Some(source) = table.source.get() {
            return Ok(source);
        }
        let read = self
            .part(table.part)
            .and_then(|_| self.part(table.filter_part));
        let source = match read {
            Ok(filter) => Source::Disk(self.make_room(filter)),
            Err(ReadError::Damaged(_)) => Source::Again(self.made_again(table.part)?),
            Err(error) => return Err(error),
        };
        if let Err(other) = table.source.set(source) {
            // Somebody else was faster.
            Table {
                source: OnceLock::from(other),
                ..Table::new(table.part, table.filter_part)
            }
            .close(&self.shared);
        }
        Ok(table.source.get().expect("it was just set"))
    }

    /// Keeps a filter in memory if there is room.
    fn make_room(&self, filter: Vec<u8>) -> Option<Vec<u8>> {
        let bytes = filter.len() as u64;
        let before = self.shared.filter_bytes.fetch_add(bytes, Memory::Relaxed);
        if before + bytes <= FILTERS_BYTES {
            return Some(filter);
        }
        self.shared.filter_bytes.fetch_sub(bytes, Memory::Relaxed);
        None
    }

    fn made_again(&self, part: Part) -> Result<Vec<u8>, ReadError> {
        let mut contents = Contents::new(self.header.base, Keys::of(self.header.store));
        contents.take_in_file(self)?;
        Ok(match part {
            Part::Sessions => SessionEntry::encode_all(&contents.sessions()),
            _ => IdEntry::encode_all(&contents.ids()),
        })
    }

    fn may_hold(&self, table: &Table, filter: Option<&[u8]>, hash: u64) -> Result<bool, ReadError> {
        let (position, length) = self.trailer.place(table.filter_part);
        if length == 0 {
            return Ok(false);
        }
        let range = filter::block_range(hash, length);
        if let Some(filter) = filter {
            return Ok(filter::may_hold(&filter[range], hash));
        }
        let bytes = self.read(position + range.start as u64, range.len())?;
        Ok(filter::may_hold(&bytes, hash))
    }

    fn find_on_disk(
        &self,
        part: Part,
        size: usize,
        compare: impl Fn(&[u8]) -> Ordering,
    ) -> Result<Vec<Vec<u8>>, ReadError> {
        let (position, length) = self.trailer.place(part);
        // Whole entries are read one by one until what is left fits into one read.
        let (mut low, mut high) = (0, length / size);
        while (high - low) * size > WINDOW_BYTES {
            let middle = low + (high - low) / 2;
            let entry = self.read(position + (middle * size) as u64, size)?;
            // Equal ones may stand in front: narrow to the first, and leave a window's room behind.
            if compare(&entry).is_lt() {
                low = middle + 1;
            } else {
                high = middle + 1;
            }
        }
        let room = WINDOW_BYTES / size;
        let high = (low + 2 * room).min(length / size).max(high);
        let window = self.read(position + (low * size) as u64, (high - low) * size)?;
        Ok(window
            .chunks_exact(size)
            .filter(|entry| compare(entry).is_eq())
            .map(<[u8]>::to_vec)
            .collect())
    }
}

impl Drop for SealedFile {
    fn drop(&mut self) {
        self.sessions.close(&self.shared);
        self.ids.close(&self.shared);
        self.shared.cache.close(self.number);
    }
}
