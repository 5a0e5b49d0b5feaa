//! Writes sealed files with everything that was saved of damaged ones.

use std::collections::BTreeMap;
use std::ops::Range;

use super::finding::{Blocks, Finding, Frames, gap};
use crate::error::ReadError;
use crate::format::block::{BLOCK_HEADER_BYTES, Block, BlockHeader, Effort};
use crate::format::file_name::SealedName;
use crate::format::frame::{FRAME_HEADER_BYTES, Table};
use crate::format::keys::Keys;
use crate::format::payload;
use crate::format::seal::Seal;
use crate::format::sealed_footer::{BlockEntry, SessionEntry};
use crate::log::Shared;
use crate::offset::Offset;
use crate::pieces::Piece;
use crate::sealed::{Contents, SealedFile};
use crate::sealing::{FrameSealer, NO_BLOCK, SealError, SealedWriter};
use crate::storage::read_vec;

/// Returns a sealed file with everything that was saved; the record at `why` will say what was not.
pub(super) fn save(
    finding: Finding,
    shared: &Shared,
    why: Offset,
) -> Result<SealedFile, SealError> {
    Ok(match finding {
        Finding::Whole(file) => file,
        Finding::Holes(file, holes) => patched(shared, &file, &holes, why)?,
        Finding::Blocks(blocks) => of_blocks(shared, &blocks, why)?,
        Finding::Raw(frames) => of_frames(shared, &frames, why)?,
        Finding::Gone(range, name) => {
            let generation =
                crate::format::file_name::sealed_of(&name).map_or(0, |name| name.generation + 1);
            let name = SealedName {
                base: range.start,
                end: range.end,
                generation,
            };
            let mut writer = SealedWriter::begin(shared, name)?;
            writer.push_lost(&range, why);
            writer.footer.seals = vec![lost_seal(shared, name)?];
            writer.finish()?
        }
    })
}

/// What stands in for seals that are lost: the root is zeros.
fn lost_seal(shared: &Shared, name: SealedName) -> Result<Seal, ReadError> {
    Ok(Seal {
        first: name.base,
        end: name.end,
        root: NO_BLOCK,
        previous: shared.last_seal()?,
    })
}

/// A file of the frames of a raw segment.
fn of_frames(shared: &Shared, frames: &Frames, why: Offset) -> Result<SealedFile, SealError> {
    let segment = &frames.segment;
    let name = SealedName {
        base: segment.header.base,
        end: frames.end,
        generation: 0,
    };
    let keys = Keys::of(shared.store);
    let mut sealer = FrameSealer::begin(shared, name, Effort::Thorough)?;
    let mut sessions = BTreeMap::new();
    let mut expected = name.base;
    for (position, header) in &frames.found {
        if let Some(lost) = gap(expected, header.first_offset) {
            sealer.lost(lost, why)?;
        }
        expected = header.end_offset();
        let body = segment.read(position + FRAME_HEADER_BYTES as u64, header.body())?;
        sealer.frame(header, &body, segment.header.salt)?;
        let Some(table) = Table::of(header, &body, segment.header.salt) else {
            continue;
        };
        for (index, range) in table.ranges().enumerate() {
            let record = &body[range];
            if table.holds(index, record)
                && let Some(event) = payload::event_head(record)
            {
                sessions
                    .entry(keys.session(event.session_id))
                    .or_insert(event.application);
            }
        }
    }
    if let Some(lost) = gap(expected, name.end) {
        sealer.lost(lost, why)?;
    }
    let sessions = sessions
        .into_iter()
        .map(|(key, application)| SessionEntry { key, application });
    sealer.writer.footer.sessions = first_seen(shared, sessions)?;
    sealer.finish(shared)
}

/// A file of the blocks of one whose footer cannot be believed. Their seals are lost, and what had been erased or had
/// expired without leaving a block counts as lost, too.
fn of_blocks(shared: &Shared, blocks: &Blocks, why: Offset) -> Result<SealedFile, SealError> {
    let name = SealedName {
        generation: blocks.name.generation + 1,
        ..blocks.name
    };
    let mut writer = SealedWriter::begin(shared, name)?;
    let mut contents = Contents::new(name.base, Keys::of(shared.store));
    let mut expected = name.base;
    for (position, header) in &blocks.found {
        if let Some(lost) = gap(expected, header.first) {
            writer.push_lost(&lost, why);
        }
        expected = header.first + u64::from(header.count);
        let mut bytes = read_vec(blocks.file.as_ref(), *position, header.bytes())?;
        let (block, hash) = Block::decode_hashed(&bytes, blocks.salt)
            .map_err(|what| std::io::Error::new(std::io::ErrorKind::InvalidData, what))?;
        contents.take_in(&block);
        let stored = bytes.split_off(BLOCK_HEADER_BYTES);
        let entry = BlockEntry {
            first: header.first,
            position: 0,
            bytes: 0,
            raw_bytes: header.raw_bytes,
            count: header.count,
            gone: None,
            hash,
        };
        let moved = header.moved(&stored, writer.header.salt);
        writer.push_block(&moved, &stored, entry)?;
    }
    if let Some(lost) = gap(expected, name.end) {
        writer.push_lost(&lost, why);
    }
    let (first, last) = contents.arrivals().unwrap_or_default();
    writer.summary.first_received_at = first;
    writer.summary.last_received_at = last;
    contents
        .timestamps()
        .iter()
        .for_each(|timestamp| writer.count_event(*timestamp));
    writer.footer.sessions = first_seen(shared, contents.sessions().into_iter())?;
    writer.footer.ids = contents.ids();
    writer.footer.controls = contents.controls().to_vec();
    for entry in contents.ledger() {
        *writer.ledger_of_hour(entry.hour, entry.application) = *entry;
    }
    writer.footer.seals = vec![lost_seal(shared, name)?];
    writer.finish()
}

/// A sealed file again, without the blocks that do not hold. Of a table that does not hold, what the blocks say.
fn patched(
    shared: &Shared,
    file: &SealedFile,
    holes: &[Range<Offset>],
    why: Offset,
) -> Result<SealedFile, SealError> {
    let name = SealedName {
        base: file.header.base,
        end: file.header.end,
        generation: file.header.generation + 1,
    };
    let in_hole = |offset: Offset| holes.iter().any(|hole| hole.contains(&offset));
    let mut writer = SealedWriter::begin(shared, name)?;
    writer.footer.changes = file.changes()?;
    writer.summary.first_received_at = file.trailer.summary.first_received_at;
    writer.summary.last_received_at = file.trailer.summary.last_received_at;
    let mut contents = Contents::new(name.base, Keys::of(shared.store));
    let mut rest = holes.iter().peekable();
    for entry in file.blocks()?.iter() {
        if let Some(hole) = rest.next_if(|hole| hole.start == entry.first) {
            writer.push_lost(hole, why);
        }
        if in_hole(entry.first) {
            continue;
        }
        if entry.gone.is_some() {
            writer.footer.blocks.push(*entry);
            continue;
        }
        let mut bytes = file.read_bytes(entry.position, entry.bytes as usize)?;
        let damage = |what| file.damage(entry.first, what);
        let (block, _) = Block::decode_hashed(&bytes, file.header.salt).map_err(damage)?;
        contents.take_in(&block);
        let header = BlockHeader::decode(&bytes, file.header.salt).map_err(damage)?;
        let stored = bytes.split_off(BLOCK_HEADER_BYTES);
        let moved = header.moved(&stored, writer.header.salt);
        writer.push_block(&moved, &stored, *entry)?;
    }
    contents
        .timestamps()
        .iter()
        .for_each(|timestamp| writer.count_event(*timestamp));
    writer.footer.sessions = match readable(file.session_entries())? {
        Some(sessions) => sessions,
        None => first_seen(shared, contents.sessions().into_iter())?,
    };
    writer.footer.ids = contents.ids();
    writer.footer.controls = contents.controls().to_vec();
    writer.footer.seals = file.seals()?;
    let ledger = readable(file.ledger())?.unwrap_or_else(|| contents.ledger().copied().collect());
    for entry in ledger {
        *writer.ledger_of_hour(entry.hour, entry.application) = entry;
    }
    writer
        .footer
        .changes
        .sort_unstable_by_key(|change| change.first);
    writer.finish()
}

/// Leaves out the sessions that an earlier file has seen; those were saved before.
fn first_seen(
    shared: &Shared,
    sessions: impl Iterator<Item = SessionEntry>,
) -> Result<Vec<SessionEntry>, ReadError> {
    let earlier = shared.files.pieces();
    let mut first = Vec::new();
    'sessions: for session in sessions {
        for piece in earlier.iter() {
            if let Piece::Sealed(file) = piece
                && file.owner(&session.key)?.is_some()
            {
                continue 'sessions;
            }
        }
        first.push(session);
    }
    Ok(first)
}

/// What could be read; `None` where it is damaged.
fn readable<T>(read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(ReadError::Damaged(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
