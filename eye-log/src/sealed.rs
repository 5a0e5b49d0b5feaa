//! A sealed file: compressed blocks of records, and a footer with what finds them.
//!
//! What must stay true: nothing of a file is believed before its checksum held; the file is never edited.

mod contents;
mod table;

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub(crate) use contents::Contents;

use crate::cache::Cache;
use crate::error::{Damage, ReadError};
use crate::format::block::{BLOCK_HEADER_BYTES, Block};
use crate::format::file_name::SealedName;
use crate::format::manifest::ManifestEntry;
use crate::format::seal::Seal;
use crate::format::sealed_footer::{
    BlockEntry, ChangeEntry, IdEntry, LedgerEntry, Part, SessionEntry, TRAILER_BYTES, Trailer,
};
use crate::format::sealed_header::SealedHeader;
use crate::format::segment_header::{SEGMENT_HEADER_BYTES, of_a_later_program};
use crate::offset::Offset;
use crate::record::Reason;
use crate::storage::{Storage, StorageFile, read_vec};
use table::Table;

/// What is said of a file that is not there.
pub(crate) const MISSING: &str = "the file is missing";

/// What all sealed files of a log share.
#[derive(Debug, Default)]
pub(crate) struct SealedShared {
    /// Where files are opened again; without it every file stays open, since another process may take it away.
    storage: Option<Arc<dyn Storage>>,
    cache: Cache,
    /// What was found damaged, until it is repaired.
    damage: Mutex<Vec<Damage>>,
    filter_bytes: AtomicU64,
    next_number: AtomicU64,
}

/// How many damaged places are remembered.
const DAMAGE_KEPT: usize = 1000;

impl SealedShared {
    /// For the process that alone replaces files in this folder: but for those that were read last, they need not stay
    /// open.
    pub(crate) fn of_owner(storage: Arc<dyn Storage>) -> Self {
        Self {
            storage: Some(storage),
            ..Self::default()
        }
    }

    /// Remembers damage; health shows it.
    pub(crate) fn note(&self, damage: &Damage) {
        let mut known = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(damage) && known.len() < DAMAGE_KEPT {
            tracing::error!(%damage, "damage in the log");
            known.push(damage.clone());
        }
    }

    /// Returns what is known to be damaged.
    pub(crate) fn damage(&self) -> Vec<Damage> {
        let known = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }
}

/// A sealed file whose header and trailer hold.
#[derive(Debug)]
pub(crate) struct SealedFile {
    pub(crate) name: String,
    pub(crate) header: SealedHeader,
    pub(crate) trailer: Trailer,
    pub(crate) file_bytes: u64,
    /// The file, if it is to stay open as long as somebody may read it.
    kept: OnceLock<Arc<dyn StorageFile>>,
    number: u64,
    shared: Arc<SealedShared>,
    sessions: Table,
    ids: Table,
}

impl SealedFile {
    /// Opens a file: reads its header and its trailer, and nothing else.
    pub(crate) fn open(
        storage: &dyn Storage,
        name: &SealedName,
        shared: Arc<SealedShared>,
    ) -> Result<Self, ReadError> {
        let text = name.to_string();
        let failed = |error: io::Error| ReadError::Io {
            file: text.clone(),
            message: error.to_string(),
        };
        let damage = |position: u64, what: String| {
            ReadError::Damaged(Damage {
                file: text.clone(),
                position,
                first_offset: name.base,
                last_offset: name.end.checked_sub(1),
                what,
            })
        };
        let file = match storage.open(&text) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damage(0, MISSING.to_owned()));
            }
            Err(error) => return Err(failed(error)),
        };
        let file_bytes = file.size().map_err(failed)?;
        let least = (SEGMENT_HEADER_BYTES + TRAILER_BYTES) as u64;
        if file_bytes < least {
            return Err(damage(file_bytes, format!("a file of {file_bytes} bytes")));
        }
        let bytes = read_vec(file.as_ref(), 0, SEGMENT_HEADER_BYTES).map_err(failed)?;
        if let Some(what) = of_a_later_program(&bytes) {
            return Err(failed(io::Error::other(what)));
        }
        let header = SealedHeader::decode(&bytes).map_err(|what| damage(0, what))?;
        if (header.base, header.end, header.generation) != (name.base, name.end, name.generation) {
            let what = format!(
                "its header is that of records {} to {}, generation {}",
                header.base, header.end, header.generation
            );
            return Err(damage(0, what));
        }
        let trailer_at = file_bytes - TRAILER_BYTES as u64;
        let bytes = read_vec(file.as_ref(), trailer_at, TRAILER_BYTES).map_err(failed)?;
        let trailer =
            Trailer::decode(&bytes, header.salt).map_err(|what| damage(trailer_at, what))?;
        let same_range = (trailer.summary.base, trailer.summary.end) == (header.base, header.end);
        if !same_range || trailer.file_bytes() != Some(file_bytes) {
            let what = "the footer is not the one of this file".to_owned();
            return Err(damage(trailer_at, what));
        }
        let number = shared.next_number.fetch_add(1, Ordering::Relaxed);
        let kept = OnceLock::new();
        if shared.storage.is_none() {
            kept.get_or_init(|| file);
        }
        Ok(Self {
            name: text,
            header,
            trailer,
            file_bytes,
            kept,
            number,
            shared,
            sessions: Table::new(Part::Sessions, Part::SessionFilter),
            ids: Table::new(Part::Ids, Part::IdFilter),
        })
    }

    /// Returns the file, opened again if it was not read for a while.
    pub(crate) fn opened(&self) -> io::Result<Arc<dyn StorageFile>> {
        let kept = || self.kept.get().cloned();
        let again = || {
            let storage = self.shared.storage.as_ref();
            let open = || storage.ok_or(io::ErrorKind::NotFound)?.open(&self.name);
            self.shared.cache.file(self.number, open)
        };
        // One that was replaced just now is gone, but was kept open before.
        kept()
            .map_or_else(again, Ok)
            .or_else(|error| kept().ok_or(error))
    }

    /// Keeps the file open from now on. To be called before its name goes: who has it goes on reading it.
    pub(crate) fn keep_open(&self) -> io::Result<()> {
        let file = self.opened()?;
        self.kept.get_or_init(|| file);
        Ok(())
    }

    /// Reads so many bytes of the file.
    pub(crate) fn read_bytes(&self, position: u64, length: usize) -> io::Result<Vec<u8>> {
        read_vec(self.opened()?.as_ref(), position, length)
    }

    /// Returns the range of its offsets.
    pub(crate) fn range(&self) -> Range<Offset> {
        self.header.base..self.header.end
    }

    /// Says that the block whose first record is `first` does not hold.
    pub(crate) fn damage(&self, first: Offset, what: impl Into<String>) -> ReadError {
        let list = self.blocks().ok();
        let entry = list
            .as_ref()
            .and_then(|list| list.iter().find(|entry| entry.first == first));
        self.damage_at(
            entry.map_or(0, |entry| entry.position),
            first..entry.map_or(self.header.end, BlockEntry::end),
            what.into(),
        )
    }

    fn damage_at(&self, position: u64, range: Range<Offset>, what: String) -> ReadError {
        let damage = Damage {
            file: self.name.clone(),
            position,
            first_offset: range.start,
            last_offset: range.end.checked_sub(1),
            what,
        };
        self.shared.note(&damage);
        ReadError::Damaged(damage)
    }

    fn read(&self, position: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        self.read_bytes(position, length).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                return self.damage_at(0, self.range(), MISSING.to_owned());
            }
            ReadError::Io {
                file: self.name.clone(),
                message: error.to_string(),
            }
        })
    }

    /// Reads a part of the footer and checks it.
    fn part(&self, part: Part) -> Result<Vec<u8>, ReadError> {
        let (position, length) = self.trailer.place(part);
        let bytes = self.read(position, length)?;
        if self.trailer.holds(part, &bytes, self.header.salt) {
            return Ok(bytes);
        }
        let what = format!("the footer's {part} do not match their checksum");
        Err(self.damage_at(position, self.range(), what))
    }

    fn entries<E>(
        &self,
        part: Part,
        decode: impl FnOnce(&[u8]) -> Result<Vec<E>, String>,
    ) -> Result<Vec<E>, ReadError> {
        let bytes = self.part(part)?;
        decode(&bytes).map_err(|what| self.damage(self.header.base, what))
    }

    /// Returns the list of its blocks.
    pub(crate) fn blocks(&self) -> Result<Arc<Vec<BlockEntry>>, ReadError> {
        self.shared.cache.list(self.number, || {
            let bytes = self.part(Part::Blocks)?;
            BlockEntry::decode_all(&bytes, &self.trailer.summary).map_err(|what| {
                self.damage_at(self.trailer.place(Part::Blocks).0, self.range(), what)
            })
        })
    }

    /// Returns the place, in the list of blocks, of the one that holds `offset`.
    fn place_of(&self, list: &[BlockEntry], offset: Offset) -> Result<usize, ReadError> {
        let behind = list.partition_point(|entry| entry.first <= offset);
        behind
            .checked_sub(1)
            .filter(|place| offset < list[*place].end())
            .ok_or_else(|| self.damage(self.header.base, format!("no block holds {offset}")))
    }

    /// Returns why `offset` is gone, if it lies in a range that has no block any more.
    pub(crate) fn gone(&self, offset: Offset) -> Result<Option<Reason>, ReadError> {
        let list = self.blocks()?;
        Ok(list[self.place_of(&list, offset)?].gone)
    }

    /// Returns the block that has `offset`, from memory if it was read lately, with its records up to there and up to those of `also`, which
    /// is in order.
    pub(crate) fn block_of(
        &self,
        offset: Offset,
        also: &[Offset],
    ) -> Result<Arc<Block>, ReadError> {
        let list = self.blocks()?;
        let place = self.place_of(&list, offset)?;
        let entry = &list[place];
        let within = &also[..also.partition_point(|also| *also < entry.end())];
        let last = within.last().map_or(offset, |also| offset.max(*also));
        self.shared
            .cache
            .block(self.number, place, last, |last| self.read_to(entry, last))
    }

    /// Returns when the record at `offset` arrived; where its range is gone, when the last one before it that is not
    /// did, so that arrivals never go backwards.
    pub(crate) fn arrived_at(&self, offset: Offset) -> Result<i64, ReadError> {
        let list = self.blocks()?;
        let place = self.place_of(&list, offset)?;
        let there = list[..=place]
            .iter()
            .rev()
            .find(|entry| entry.gone.is_none());
        match there {
            None => Ok(self.trailer.summary.first_received_at),
            Some(entry) => {
                let offset = offset.min(entry.end() - 1);
                Ok(self.block_of(offset, &[])?.arrived_at(offset))
            }
        }
    }

    /// Reads a block past the memory of blocks.
    pub(crate) fn read_block(&self, list: &[BlockEntry], place: usize) -> Result<Block, ReadError> {
        self.read_to(&list[place], Offset::MAX)
    }

    fn read_to(&self, entry: &BlockEntry, last: Offset) -> Result<Block, ReadError> {
        let bytes = self.read(entry.position, entry.bytes as usize)?;
        self.decode_block(entry, &bytes, last)
    }

    /// Decodes the bytes of a block, which must be the one of `entry`, with its records up to `last`.
    pub(crate) fn decode_block(
        &self,
        entry: &BlockEntry,
        bytes: &[u8],
        last: Offset,
    ) -> Result<Block, ReadError> {
        debug_assert!(bytes.len() >= BLOCK_HEADER_BYTES || entry.bytes == 0);
        let block = Block::decode_through(bytes, self.header.salt, last)
            .map_err(|what| self.damage(entry.first, what))?;
        if (block.first, block.count()) != (entry.first, entry.count as usize) {
            return Err(self.damage(entry.first, "another block than the footer names"));
        }
        Ok(block)
    }

    /// Returns what the manifest says of this file.
    pub(crate) fn manifest_entry(&self) -> ManifestEntry {
        ManifestEntry {
            base: self.header.base,
            end: self.header.end,
            file_bytes: self.file_bytes,
            generation: self.header.generation,
            trailer_checksum: self.trailer.checksum,
            controls: Some(u32::try_from(self.trailer.count(Part::Controls)).unwrap_or(u32::MAX)),
        }
    }

    /// Returns the offsets of records that are neither events nor gone.
    pub(crate) fn controls(&self) -> Result<Vec<Offset>, ReadError> {
        if self.trailer.count(Part::Controls) == 0 {
            return Ok(Vec::new());
        }
        self.entries(
            Part::Controls,
            crate::format::sealed_footer::decode_controls,
        )
    }

    /// Returns the table of the sessions first seen here.
    pub(crate) fn session_entries(&self) -> Result<Vec<SessionEntry>, ReadError> {
        self.entries(Part::Sessions, SessionEntry::decode_all)
    }

    /// Hands the table of client-made ids to `see`, entry by entry: decoded whole it would be there twice.
    pub(crate) fn with_ids<T>(
        &self,
        see: impl FnOnce(&mut dyn Iterator<Item = IdEntry>) -> T,
    ) -> Result<T, ReadError> {
        let bytes = self.part(Part::Ids)?;
        Ok(see(&mut bytes
            .chunks_exact(IdEntry::BYTES)
            .map(IdEntry::decode)))
    }

    /// Reads the filters whole and checks them.
    pub(crate) fn check_filters(&self) -> Result<(), ReadError> {
        self.part(Part::SessionFilter)?;
        self.part(Part::IdFilter)?;
        Ok(())
    }

    /// Returns the seals of the segments that this file holds.
    pub(crate) fn seals(&self) -> Result<Vec<Seal>, ReadError> {
        self.entries(Part::Seals, Seal::decode_all)
    }

    /// Returns which blocks are not as they were first sealed.
    pub(crate) fn changes(&self) -> Result<Vec<ChangeEntry>, ReadError> {
        self.entries(Part::Changes, ChangeEntry::decode_all)
    }

    /// Returns what was counted by hour and application.
    pub(crate) fn ledger(&self) -> Result<Vec<LedgerEntry>, ReadError> {
        self.entries(Part::Ledger, LedgerEntry::decode_all)
    }
}
