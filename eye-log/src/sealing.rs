//! Writes sealed files: from a raw segment, or from sealed files that are merged, expired or erased.
//!
//! What must stay true: a file is whole and synced under its final name before anything refers to it, and the seal of
//! a range is made once, from its blocks as they were first sealed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::error::ReadError;
use crate::format::aligned;
use crate::format::block::{BlockBuilder, Effort, Encoded, FramePart};
use crate::format::file_name::SealedName;
use crate::format::frame::{FrameHeader, Table};
use crate::format::keys::Keys;
use crate::format::payload;
use crate::format::seal::Seal;
use crate::format::sealed_footer::{
    BlockEntry, ChangeEntry, Footer, IdEntry, LedgerEntry, SessionEntry, Summary,
};
use crate::format::sealed_header::SealedHeader;
use crate::format::segment_header::SEGMENT_HEADER_BYTES;
use crate::ledger;
use crate::log::Shared;
use crate::maintenance::Turn;
use crate::offset::Offset;
use crate::pieces::Piece;
use crate::record::{Reason, Record};
use crate::registry::ApplicationId;
use crate::retention::hour_of;
use crate::sealed::SealedFile;
use crate::segment::walk::{Step, Walk};
use crate::segment::{Closed, Segment};
use crate::storage::StorageFile;

/// The hash that stands for a range without a block.
pub(crate) const NO_BLOCK: [u8; 32] = [0; 32];
/// The name of a sealed file that is being written.
pub(crate) const SEALING: &str = "sealing";
/// How much is gathered before it is written. Bytes.
const WRITE_BYTES: usize = 1 << 20;

/// A sealed file being written.
pub(crate) struct SealedWriter<'s> {
    shared: &'s Shared,
    file: Arc<dyn StorageFile>,
    pub(crate) header: SealedHeader,
    /// Where what is pending goes.
    position: u64,
    /// Of everything written so far.
    checksum: crc32fast::Hasher,
    pending: Vec<u8>,
    pub(crate) footer: Footer,
    pub(crate) summary: Summary,
    ledger: ledger::Entries,
}

impl<'s> SealedWriter<'s> {
    /// Begins a file for the records of `name`.
    pub(crate) fn begin(shared: &'s Shared, name: SealedName) -> io::Result<Self> {
        let header = SealedHeader {
            store: shared.store,
            base: name.base,
            end: name.end,
            generation: name.generation,
            created_at: crate::time::now(),
            salt: uuid::Uuid::new_v4().as_fields().0,
        };
        let file = shared.storage.create(SEALING)?;
        let written = header.encode();
        file.write_at(&written, 0)?;
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&written);
        Ok(Self {
            shared,
            file,
            header,
            checksum,
            position: SEGMENT_HEADER_BYTES as u64,
            pending: Vec::new(),
            footer: Footer::default(),
            summary: Summary {
                base: name.base,
                end: name.end,
                min_timestamp: i64::MAX,
                max_timestamp: i64::MIN,
                ..Summary::default()
            },
            ledger: BTreeMap::new(),
        })
    }

    /// Adds a block's bytes. `hash` is the one it was first sealed with.
    pub(crate) fn push_block(
        &mut self,
        header: &[u8],
        stored: &[u8],
        entry: BlockEntry,
    ) -> io::Result<()> {
        let length = header.len() + stored.len();
        self.footer.blocks.push(BlockEntry {
            position: self.position + self.pending.len() as u64,
            bytes: u32::try_from(length).expect("a block is smaller than 4 GiB"),
            ..entry
        });
        self.pending.extend_from_slice(header);
        self.pending.extend_from_slice(stored);
        self.pending.resize(aligned(self.pending.len()), 0);
        if self.pending.len() >= WRITE_BYTES {
            self.write_pending()?;
        }
        Ok(())
    }

    /// Adds a block just made, which is as it is first sealed unless `first_hash` says otherwise.
    pub(crate) fn push_encoded(
        &mut self,
        block: &Encoded<'_>,
        first_hash: Option<[u8; 32]>,
    ) -> io::Result<()> {
        let entry = BlockEntry {
            first: block.first,
            position: 0,
            bytes: 0,
            raw_bytes: block.raw_bytes,
            count: block.count,
            gone: None,
            hash: first_hash.unwrap_or(block.hash),
        };
        self.push_block(&block.header, block.stored, entry)
    }

    /// Adds a range of records that are lost, as the record at `why` says.
    pub(crate) fn push_lost(&mut self, range: &std::ops::Range<Offset>, why: Offset) {
        let count =
            u32::try_from(range.end - range.start).expect("a file holds at most 2^22 records");
        self.footer.blocks.push(BlockEntry {
            first: range.start,
            position: 0,
            bytes: 0,
            raw_bytes: 0,
            count,
            gone: Some(Reason::Lost),
            hash: NO_BLOCK,
        });
        self.footer
            .changes
            .retain(|change| change.first != range.start);
        self.footer.changes.push(ChangeEntry {
            first: range.start,
            hash: NO_BLOCK,
            why,
        });
    }

    fn write_pending(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.file.write_at(&self.pending, self.position)?;
        self.checksum.update(&self.pending);
        self.position += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Counts an event that is in the file.
    pub(crate) fn count_event(&mut self, timestamp: i64) {
        self.summary.events += 1;
        self.summary.min_timestamp = self.summary.min_timestamp.min(timestamp);
        self.summary.max_timestamp = self.summary.max_timestamp.max(timestamp);
    }

    /// Returns the ledger's entry for what arrived at an instant.
    pub(crate) fn ledger(&mut self, instant: i64, application: ApplicationId) -> &mut LedgerEntry {
        self.ledger_of_hour(hour_of(instant), application)
    }

    /// Returns the ledger's entry of an hour.
    pub(crate) fn ledger_of_hour(
        &mut self,
        hour: u32,
        application: ApplicationId,
    ) -> &mut LedgerEntry {
        ledger::entry_of(&mut self.ledger, hour, application)
    }

    /// Reads the file past the cache: what is in it exists nowhere else once the files before are removed, and there are disks
    /// that drop writes without a word (a loop device does when the file behind it takes only some of a write).
    fn read_back(&self) -> io::Result<()> {
        let disk = self.shared.storage.open_direct(SEALING)?;
        let mut buffer = vec![0; WRITE_BYTES];
        let mut checksum = crc32fast::Hasher::new();
        let mut at = 0;
        while at < self.position {
            let left = usize::try_from(self.position - at).unwrap_or(usize::MAX);
            let length = buffer.len().min(left);
            disk.read_at(&mut buffer[..length], at)?;
            checksum.update(&buffer[..length]);
            at += length as u64;
        }
        if checksum.finalize() != self.checksum.clone().finalize() {
            return Err(io::Error::other(
                "the disk did not keep what was written and synced; the files that were to be replaced are kept",
            ));
        }
        Ok(())
    }

    /// Writes the footer, syncs, looks whether the disk has it all, gives the file its name, syncs that, and opens it. Nothing
    /// refers to it yet.
    pub(crate) fn finish(mut self) -> Result<SealedFile, SealError> {
        self.write_pending()?;
        self.summary.blocks_end = self.position;
        self.footer.sessions.sort_unstable();
        self.footer.ids.sort_unstable();
        self.footer.ledger = std::mem::take(&mut self.ledger).into_values().collect();
        let (footer, summary) = (std::mem::take(&mut self.footer), self.summary);
        footer.write(&summary, self.header.salt, &mut |piece| {
            self.pending.extend_from_slice(piece);
            if self.pending.len() >= WRITE_BYTES {
                self.write_pending()?;
            }
            Ok(())
        })?;
        self.write_pending()?;
        self.file.sync()?;
        self.read_back()?;
        let name = SealedName {
            base: self.header.base,
            end: self.header.end,
            generation: self.header.generation,
        };
        let storage = self.shared.storage.as_ref();
        storage.rename(SEALING, &name.to_string())?;
        storage.sync_names()?;
        Ok(SealedFile::open(
            storage,
            &name,
            self.shared.sealed.clone(),
        )?)
    }
}

/// Why a file was not sealed or rewritten. What was there before still is.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The system refused a file operation.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What was to be rewritten cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What became of a closed segment that was to be rewritten.
pub(crate) enum Rewritten {
    /// It is in this file, which nothing refers to yet.
    To(Box<SealedFile>),
    /// Somebody has done that already.
    Before,
    /// Nothing: it was stopped.
    Stopped,
}

/// Rewrites a closed segment as a sealed file, and takes the segment away. The ones before it are sealed.
pub(crate) fn seal(shared: &Shared, alone: &Turn<'_>, segment: &Segment) -> Result<(), SealError> {
    if let Rewritten::To(file) = rewrite(shared, alone, segment, Effort::Thorough, &mut || false)? {
        shared.files.replace(shared.storage.as_ref(), *file)?;
    }
    Ok(())
}

/// Rewrites a closed segment as a sealed file, for [`Files::replace`](crate::files::Files::replace). Asks `stops` frame by
/// frame. Holds nothing that others wait for but the turn, so that it may step back as far as it likes.
pub(crate) fn rewrite(
    shared: &Shared,
    _alone: &Turn<'_>,
    segment: &Segment,
    effort: Effort,
    stops: &mut dyn FnMut() -> bool,
) -> Result<Rewritten, SealError> {
    let base = segment.header.base;
    let there = shared
        .files
        .pieces()
        .iter()
        .any(|piece| matches!(piece, Piece::Raw(other) if other.header.base == base));
    if !there {
        return Ok(Rewritten::Before);
    }
    let closed = segment.closed().expect("only closed segments are sealed");
    let written = write(shared, segment, closed, effort, stops)?;
    Ok(written.map_or(Rewritten::Stopped, |file| Rewritten::To(Box::new(file))))
}

fn write(
    shared: &Shared,
    segment: &Segment,
    closed: &Closed,
    effort: Effort,
    stops: &mut dyn FnMut() -> bool,
) -> Result<Option<SealedFile>, SealError> {
    let summary = &closed.summary;
    let name = SealedName {
        base: summary.base,
        end: summary.end,
        generation: 0,
    };
    let mut frames = FrameSealer::begin(shared, name, effort)?;
    frames.writer.footer.ids.reserve_exact(closed.entries.ids());
    let mut walk = Walk::new(segment)?;
    while walk.next_offset < summary.end {
        if stops() {
            return Ok(None);
        }
        let position = walk.position;
        match walk.step()? {
            Step::Frame(header, body) => frames.frame(&header, body, segment.header.salt)?,
            Step::End => {
                let what = "zeros within a closed segment";
                return Err(damaged(segment, position, summary.end, what));
            }
            Step::Broken(what) => return Err(damaged(segment, position, summary.end, &what)),
        }
    }
    frames.writer.footer.sessions = closed
        .entries
        .first_seen()
        .map(|(session, application)| SessionEntry {
            key: frames.keys.session(session),
            application,
        })
        .collect();
    frames.finish(shared).map(Some)
}

/// Makes a sealed file of frames.
pub(crate) struct FrameSealer<'s> {
    pub(crate) writer: SealedWriter<'s>,
    builder: BlockBuilder,
    effort: Effort,
    keys: Keys,
}

impl<'s> FrameSealer<'s> {
    /// Begins a file for the records of `name`.
    pub(crate) fn begin(shared: &'s Shared, name: SealedName, effort: Effort) -> io::Result<Self> {
        Ok(Self {
            writer: SealedWriter::begin(shared, name)?,
            builder: BlockBuilder::new(name.base, effort)?,
            effort,
            keys: Keys::of(shared.store),
        })
    }

    /// Adds a frame whose header and table held. A record that does not hold becomes one that is lost.
    pub(crate) fn frame(&mut self, header: &FrameHeader, body: &[u8], salt: u32) -> io::Result<()> {
        let Some(table) = Table::of(header, body, salt).filter(|_| header.count > 0) else {
            return Ok(());
        };
        let writer = &mut self.writer;
        if writer.summary.first_received_at == 0 {
            writer.summary.first_received_at = header.appended_at;
        }
        writer.summary.last_received_at = header.appended_at;
        self.builder.begin_frame(FramePart {
            count: 0,
            duplicates: header.duplicates,
            rejected: header.rejected,
            goes_on: false,
            appended_at: header.appended_at,
        });
        let mut counted = false;
        let mut lost = 0;
        let mut application = None;
        for (index, (offset, range)) in (header.first_offset..).zip(table.ranges()).enumerate() {
            let record = &body[range];
            let holds = table.holds(index, record);
            if holds {
                self.builder.push(record);
            } else {
                self.builder.push_gone(Reason::Lost);
                lost += 1;
            }
            match payload::event_head(record).filter(|_| holds) {
                Some(event) => {
                    writer.count_event(event.timestamp);
                    if let Some(id) = event.client_made_id {
                        let print = self.keys.id_print(event.application, id);
                        let entry = IdEntry::new(print, offset - writer.summary.base);
                        writer.footer.ids.push(entry);
                    }
                    application = Some(event.application);
                    let entry = writer.ledger(header.appended_at, event.application);
                    entry.stored += 1;
                    entry.bytes += record.len() as u64;
                    // A frame is one request of one application.
                    if !std::mem::replace(&mut counted, true) {
                        entry.duplicates += u64::from(header.duplicates);
                        entry.rejected += u64::from(header.rejected);
                    }
                }
                None if holds => {
                    writer.footer.controls.push(offset);
                    if let Ok(Record::Tally(tally)) = payload::decode(record) {
                        let whose = tally.application.unwrap_or(ledger::NOBODY);
                        let entry = writer.ledger(header.appended_at, whose);
                        ledger::add_tally(entry, &tally);
                    }
                }
                None => {}
            }
            if self.builder.is_full() {
                let goes_on = offset + 1 < header.end_offset();
                writer.push_encoded(&self.builder.finish(writer.header.salt, goes_on)?, None)?;
            }
        }
        // What was lost beside events of an application was its event: a frame is one request.
        if let Some(application) = application.filter(|_| lost > 0) {
            let entry = writer.ledger(header.appended_at, application);
            entry.stored += lost;
            entry.lost += lost;
        }
        Ok(())
    }

    /// Says that the records of a range are lost, as the record at `why` says.
    pub(crate) fn lost(&mut self, range: std::ops::Range<Offset>, why: Offset) -> io::Result<()> {
        self.end_block()?;
        self.writer.push_lost(&range, why);
        self.builder = BlockBuilder::new(range.end, self.effort)?;
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        if !self.builder.is_empty() {
            let block = self.builder.finish(self.writer.header.salt, false)?;
            self.writer.push_encoded(&block, None)?;
        }
        Ok(())
    }

    /// Makes the seal, and ends the file. The table of sessions was filled in.
    pub(crate) fn finish(mut self, shared: &Shared) -> Result<SealedFile, SealError> {
        self.end_block()?;
        let root = Seal::root_of(self.writer.footer.blocks.iter().map(|block| &block.hash));
        self.writer.footer.seals = vec![Seal {
            first: self.writer.summary.base,
            end: self.writer.summary.end,
            root,
            previous: shared.last_seal()?,
        }];
        self.writer.finish()
    }
}

fn damaged(segment: &Segment, position: u64, end: Offset, what: &str) -> SealError {
    let damage = segment.damage(position, segment.header.base, what);
    SealError::Read(ReadError::Damaged(crate::error::Damage {
        last_offset: end.checked_sub(1),
        ..damage
    }))
}
