//! What is found in each file of a damaged log: what can be saved of it, and what is lost.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use uuid::Uuid;

use super::RepairError;
use crate::error::ReadError;
use crate::format::block::{BLOCK_HEADER_BYTES, Block, BlockHeader};
use crate::format::file_name::{self, SealedName};
use crate::format::frame::{FRAME_HEADER_BYTES, Found, FrameHeader, Table};
use crate::format::manifest::Manifest;
use crate::format::segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::format::{FORMAT_VERSION, aligned, salt_in};
use crate::offset::Offset;
use crate::recovery::{Failed, io_of, open_segment};
use crate::sealed::{SealedFile, SealedShared};
use crate::sealing::SealError;
use crate::segment::Segment;
use crate::segment::walk::{Step, Walk};
use crate::storage::{Storage, StorageFile, read_vec};

/// How much is looked through at a time.
const STEP_BYTES: usize = 1 << 20;

/// A file as it was found.
pub(super) enum Finding {
    /// A sealed file in order.
    Whole(SealedFile),
    /// A sealed file whose list of blocks, seals and changes hold; these blocks do not, or its tables do not.
    Holes(SealedFile, Vec<Range<Offset>>),
    /// A sealed file of which the blocks alone can be believed.
    Blocks(Blocks),
    /// A raw segment.
    Raw(Frames),
    /// A file of which nothing can be read.
    Gone(Range<Offset>, String),
}

/// The blocks of a sealed file that hold, found without its footer.
pub(super) struct Blocks {
    pub(super) name: SealedName,
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) store: Uuid,
    pub(super) salt: u32,
    /// Where each stands, in order.
    pub(super) found: Vec<(u64, BlockHeader)>,
}

/// The frames of a raw segment whose header and table of records hold.
pub(super) struct Frames {
    pub(super) segment: Segment,
    /// Where each stands, in order.
    pub(super) found: Vec<(u64, FrameHeader)>,
    /// Records that are in none of them, or do not hold there.
    pub(super) lost: Vec<Range<Offset>>,
    /// One past the last record.
    pub(super) end: Offset,
    /// Whether the segment's own header is damaged.
    pub(super) headless: bool,
}

impl Finding {
    pub(super) fn base(&self) -> Offset {
        match self {
            Self::Whole(file) | Self::Holes(file, _) => file.header.base,
            Self::Blocks(blocks) => blocks.name.base,
            Self::Raw(frames) => frames.segment.header.base,
            Self::Gone(range, _) => range.start,
        }
    }

    pub(super) fn end(&self) -> Offset {
        match self {
            Self::Whole(file) | Self::Holes(file, _) => file.header.end,
            Self::Blocks(blocks) => blocks.name.end,
            Self::Raw(frames) => frames.end,
            Self::Gone(range, _) => range.end,
        }
    }

    pub(super) fn is_damaged(&self) -> bool {
        match self {
            Self::Whole(_) => false,
            Self::Raw(frames) => frames.headless || !frames.lost.is_empty(),
            Self::Holes(..) | Self::Blocks(_) | Self::Gone(..) => true,
        }
    }

    /// Returns what is lost, in order.
    pub(super) fn lost(&self) -> Vec<Range<Offset>> {
        match self {
            Self::Whole(_) => Vec::new(),
            Self::Holes(_, lost) => lost.clone(),
            Self::Raw(frames) => frames.lost.clone(),
            Self::Gone(range, _) => vec![range.clone()],
            Self::Blocks(blocks) => {
                let mut expected = blocks.name.base;
                let mut lost = Vec::new();
                for (_, header) in &blocks.found {
                    lost.extend(gap(expected, header.first));
                    expected = header.first + u64::from(header.count);
                }
                lost.extend(gap(expected, blocks.name.end));
                lost
            }
        }
    }

    /// Returns the name of the file that another takes the place of.
    pub(super) fn replaced(&self) -> Option<String> {
        match self {
            Self::Whole(_) => None,
            Self::Holes(file, _) => Some(file.name.clone()),
            Self::Blocks(blocks) => Some(blocks.name.to_string()),
            Self::Raw(frames) => Some(frames.segment.name.clone()),
            Self::Gone(_, name) => Some(name.clone()),
        }
    }
}

/// Returns the records from `from` to before `to`, if there are any.
pub(super) fn gap(from: Offset, to: Offset) -> Option<Range<Offset>> {
    (from < to).then_some(from..to)
}

/// Looks at every file, in order.
pub(super) fn look(
    storage: &dyn Storage,
    sealed: &Arc<SealedShared>,
    names: &[String],
    manifest: &Manifest,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Finding>, RepairError> {
    let mut findings = Vec::new();
    for entry in &manifest.files {
        progress(&format!("reading records {} to {}", entry.base, entry.end));
        let name = SealedName {
            base: entry.base,
            end: entry.end,
            generation: entry.generation,
        };
        let opened = match SealedFile::open(storage, &name, sealed.clone()) {
            Ok(file) if file.trailer.checksum == entry.trailer_checksum => Some(file),
            Ok(_) | Err(ReadError::Damaged(_)) => None,
            Err(error) => return Err(SealError::Read(error).into()),
        };
        findings.push(match opened {
            Some(file) => look_into(file)?,
            None => match storage.open(&name.to_string()) {
                Ok(file) => blocks(file, name, manifest.store)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Finding::Gone(name.base..name.end, name.to_string())
                }
                Err(error) => return Err(error.into()),
            },
        });
    }
    let sealed_end = manifest.files.last().map_or(0, |entry| entry.end);
    let mut bases: Vec<Offset> = names
        .iter()
        .filter_map(|name| file_name::base_of(name))
        .filter(|base| *base >= sealed_end)
        .collect();
    bases.sort_unstable();
    let mut expected = sealed_end;
    for (place, base) in bases.iter().copied().enumerate() {
        progress(&format!("reading from record {base} on"));
        findings.extend(missing(expected, base));
        let next = bases.get(place + 1).copied();
        let (segment, headless) = match open_segment(storage, base) {
            Ok(segment) => (Some(segment), false),
            Err(Failed::Io(doing, name, error)) => return Err(io_of(doing, &name, &error).into()),
            Err(Failed::Damaged(_)) => (without_header(storage, base, manifest.store)?, true),
        };
        let finding = match segment {
            Some(segment) => frames(segment, headless, next, manifest.durable_end)?,
            None => {
                let end = next.unwrap_or(manifest.durable_end.max(base));
                Finding::Gone(base..end, file_name::segment(base))
            }
        };
        expected = finding.end();
        findings.push(finding);
    }
    findings.extend(missing(expected, manifest.durable_end));
    Ok(findings)
}

/// A stretch of which there is no file.
fn missing(from: Offset, to: Offset) -> Option<Finding> {
    gap(from, to).map(|range| Finding::Gone(range, file_name::segment(from)))
}

/// Returns the store that the files belong to.
pub(super) fn store_of(manifest: &Manifest, findings: &[Finding]) -> Option<Uuid> {
    let said = findings.iter().find_map(|finding| match finding {
        Finding::Whole(file) | Finding::Holes(file, _) => Some(file.header.store),
        Finding::Raw(frames) if !frames.headless => Some(frames.segment.header.store),
        Finding::Raw(_) | Finding::Blocks(_) | Finding::Gone(..) => None,
    });
    let guessed = || {
        findings.iter().find_map(|finding| match finding {
            Finding::Blocks(blocks) => Some(blocks.store),
            Finding::Raw(frames) => Some(frames.segment.header.store),
            _ => None,
        })
    };
    said.or((!manifest.store.is_nil()).then_some(manifest.store))
        .or_else(guessed)
}

/// Looks into a sealed file whose header and trailer hold.
fn look_into(file: SealedFile) -> Result<Finding, RepairError> {
    let lists = file
        .seals()
        .and_then(|_| file.changes())
        .and_then(|_| file.blocks());
    let list = match lists {
        Ok(list) => list,
        Err(ReadError::Damaged(_)) => {
            let name = SealedName {
                base: file.header.base,
                end: file.header.end,
                generation: file.header.generation,
            };
            return blocks(file.opened()?, name, file.header.store);
        }
        Err(error) => return Err(SealError::Read(error).into()),
    };
    let mut holes: Vec<Range<Offset>> = Vec::new();
    for (place, entry) in list.iter().enumerate() {
        if entry.gone.is_some() {
            continue;
        }
        match file.read_block(&list, place) {
            Ok(_) => {}
            Err(ReadError::Damaged(_)) => match holes.last_mut() {
                Some(hole) if hole.end == entry.first => hole.end = entry.end(),
                _ => holes.push(entry.first..entry.end()),
            },
            Err(error) => return Err(SealError::Read(error).into()),
        }
    }
    let tables = file
        .session_entries()
        .and_then(|_| file.with_ids(|_| ()))
        .and_then(|_| file.controls())
        .and_then(|_| file.ledger())
        .and_then(|_| file.check_filters());
    match tables {
        Ok(()) if holes.is_empty() => Ok(Finding::Whole(file)),
        Ok(()) | Err(ReadError::Damaged(_)) => Ok(Finding::Holes(file, holes)),
        Err(error) => Err(SealError::Read(error).into()),
    }
}

/// Finds the blocks of a sealed file that hold, whatever is wrong with its header and its footer.
fn blocks(
    file: Arc<dyn StorageFile>,
    name: SealedName,
    store: Uuid,
) -> Result<Finding, RepairError> {
    let size = file.size()?;
    let gone = || Finding::Gone(name.base..name.end, name.to_string());
    if size < SEGMENT_HEADER_BYTES as u64 {
        return Ok(gone());
    }
    let head = read_vec(file.as_ref(), 0, SEGMENT_HEADER_BYTES)?;
    let mut salts = salts(&head);
    let mut salt = salt_in(&head);
    let mut found: Vec<(u64, BlockHeader)> = Vec::new();
    let mut expected = name.base;
    let mut at = SEGMENT_HEADER_BYTES as u64;
    while at + BLOCK_HEADER_BYTES as u64 <= size {
        let step = usize::try_from(size - at)
            .unwrap_or(STEP_BYTES)
            .min(STEP_BYTES);
        let chunk = read_vec(file.as_ref(), at, step)?;
        let mut place = 0;
        while place + BLOCK_HEADER_BYTES <= chunk.len() {
            let bytes = &chunk[place..place + BLOCK_HEADER_BYTES];
            if found.is_empty()
                && bytes.starts_with(b"EYEB")
                && let Some(fits) = salts.find(|salt| BlockHeader::decode(bytes, *salt).is_ok())
            {
                salt = fits;
            }
            let position = at + place as u64;
            let header = BlockHeader::decode(bytes, salt).ok().filter(|header| {
                header.first >= expected && header.first + u64::from(header.count) <= name.end
            });
            if let Some(header) = header
                && position + header.bytes() as u64 <= size
                && Block::decode(&read_vec(file.as_ref(), position, header.bytes())?, salt).is_ok()
            {
                expected = header.first + u64::from(header.count);
                found.push((position, header));
                place += aligned(header.bytes());
            } else {
                place += 8;
            }
        }
        at += place as u64;
    }
    if found.is_empty() {
        return Ok(gone());
    }
    let store = if store.is_nil() {
        crate::format::store_in(&head)
    } else {
        store
    };
    Ok(Finding::Blocks(Blocks {
        name,
        file,
        store,
        salt,
        found,
    }))
}

/// The salt of a damaged header, and those that differ from it in a bit.
fn salts(header: &[u8]) -> impl Iterator<Item = u32> + use<> {
    let read = salt_in(header);
    std::iter::once(read).chain((0..u32::BITS).map(move |bit| read ^ 1 << bit))
}

/// Opens a raw segment whose header is damaged, if the frame that follows it shows which salt it had.
fn without_header(
    storage: &dyn Storage,
    base: Offset,
    store: Uuid,
) -> Result<Option<Segment>, RepairError> {
    let name = file_name::segment(base);
    let file = storage.open(&name)?;
    let first = SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES;
    if file.size()? < first as u64 {
        return Ok(None);
    }
    let bytes = read_vec(file.as_ref(), 0, first)?;
    let fits = |salt: &u32| {
        let frame = FrameHeader::decode(&bytes[SEGMENT_HEADER_BYTES..], *salt);
        matches!(frame, Found::Frame(header, _) if header.first_offset == base)
    };
    Ok(salts(&bytes).find(fits).map(|salt| {
        let store = if store.is_nil() {
            crate::format::store_in(&bytes)
        } else {
            store
        };
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            store,
            base,
            created_at: 0,
            salt,
        };
        Segment::new(name, header, file)
    }))
}

/// Finds the frames of a raw segment, over whatever lies between them, and the records in them that hold.
fn frames(
    segment: Segment,
    headless: bool,
    next: Option<Offset>,
    durable_end: Offset,
) -> Result<Finding, RepairError> {
    let mut found = Vec::new();
    let mut lost: Vec<Range<Offset>> = Vec::new();
    let end = {
        let mut walk = Walk::new(&segment).map_err(SealError::Read)?;
        loop {
            let (position, expected) = (walk.position, walk.next_offset);
            if next == Some(expected) {
                break expected;
            }
            if let Step::Frame(header, _) = walk.step().map_err(SealError::Read)? {
                found.push((position, header));
                continue;
            }
            let behind = next_frame(&segment, position, expected)?
                .filter(|behind| next.is_none_or(|next| behind.header.end_offset() <= next));
            if let Some(behind) = behind {
                lost.extend(gap(expected, behind.header.first_offset));
                lost.extend(behind.broken);
                walk.position = behind.position + behind.header.stride() as u64;
                walk.next_offset = behind.header.end_offset();
                walk.previous = behind.sum;
                found.push((behind.position, behind.header));
                continue;
            }
            walk.position = position;
            let said = walk
                .later_frame_says_durable(expected)
                .map_err(SealError::Read)?;
            let known = said.map_or(expected, |(_, said)| said).max(durable_end);
            let end = next.unwrap_or(known.max(expected));
            lost.extend(gap(expected, end));
            break end;
        }
    };
    Ok(Finding::Raw(Frames {
        segment,
        found,
        lost,
        end,
        headless,
    }))
}

/// A frame behind a broken place.
struct Behind {
    position: u64,
    header: FrameHeader,
    /// Its header's checksum.
    sum: u32,
    /// Its records that do not hold.
    broken: Vec<Range<Offset>>,
}

/// Looks from a broken place on for a frame whose header and table of records hold.
fn next_frame(
    segment: &Segment,
    broken: u64,
    expected: Offset,
) -> Result<Option<Behind>, RepairError> {
    let (size, salt) = (segment.file.size()?, segment.header.salt);
    let mut at = broken;
    while at + FRAME_HEADER_BYTES as u64 <= size {
        let step = usize::try_from(size - at)
            .unwrap_or(STEP_BYTES)
            .min(STEP_BYTES);
        let chunk = read_vec(segment.file.as_ref(), at, step)?;
        let mut place = 0;
        while place + FRAME_HEADER_BYTES <= chunk.len() {
            let bytes = &chunk[place..place + FRAME_HEADER_BYTES];
            let position = at + place as u64;
            if let Found::Frame(header, sum) = FrameHeader::decode(bytes, salt)
                && header.first_offset >= expected
                && position + (FRAME_HEADER_BYTES + header.body()) as u64 <= size
            {
                let body_at = position + FRAME_HEADER_BYTES as u64;
                let body = read_vec(segment.file.as_ref(), body_at, header.body())?;
                if let Some(table) = Table::of(&header, &body, salt) {
                    let broken = table
                        .ranges()
                        .enumerate()
                        .filter(|(index, range)| !table.holds(*index, &body[range.clone()]))
                        .map(|(index, _)| header.first_offset + index as u64)
                        .map(|offset| offset..offset + 1)
                        .collect();
                    return Ok(Some(Behind {
                        position,
                        header,
                        sum,
                        broken,
                    }));
                }
            }
            place += 8;
        }
        at += place as u64;
    }
    Ok(None)
}
