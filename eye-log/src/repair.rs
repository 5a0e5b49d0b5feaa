//! Saves what can be saved of a damaged log, and says what is lost.
//!
//! What must stay true: the damaged bytes are kept aside, nothing that can be read is given up, and what is lost is a
//! range in the log with a record that says so. It runs only when somebody asks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use crate::admission::Admission;
use crate::config::LogConfig;
use crate::erasures::Erasures;
use crate::error::{AppendError, OpenError};
use crate::format::block::{BLOCK_HEADER_BYTES, Block, BlockHeader};
use crate::format::file_name::{self, SealedName};
use crate::format::frame::{FRAME_HEADER_BYTES, Found, FrameHeader, Table};
use crate::format::keys::Keys;
use crate::format::manifest::{Manifest, ManifestEntry};
use crate::format::payload;
use crate::format::seal::Seal;
use crate::format::sealed_footer::{IdEntry, SessionEntry};
use crate::log::{Log, Shared, lock};
use crate::offset::Offset;
use crate::pieces::Piece;
use crate::record::{BlockChange, MaintenanceRecord, Note, Reason, Record};
use crate::recovery::{Failed, OpenReport, Recovered, manifests, open_segment};
use crate::registry::{Actor, Change, Registry};
use crate::sealed::{SealedFile, SealedShared};
use crate::sealing::{FrameSealer, NO_BLOCK, SealError, SealedWriter};
use crate::segment::Segment;
use crate::segment::walk::{Step, Walk};
use crate::storage::{Disk, Storage, read_vec};

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// Files that were rewritten: those before, kept aside under these names.
    pub kept_aside: Vec<String>,
    /// Ranges of offsets that are lost: first, and one past the last.
    pub lost: Vec<(Offset, Offset)>,
    /// Whether the manifest was put together anew.
    pub manifest: bool,
    /// Names that applications got whose registration is lost while events of them are there. They are disabled.
    pub unnamed: Vec<String>,
}

/// Why a log was not repaired. What was there before still is.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// It cannot be locked, or does not open even now.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The system refused a file operation.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file could not be rewritten.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// What is lost could not be recorded.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// An application whose registration is lost could not be registered again.
    #[error("an application whose registration is lost could not be registered again: {0}")]
    Unnamed(String),
    /// No file says which store this is.
    #[error("no file of this log has a header that can be read: nothing can be saved")]
    Nothing,
}

/// A file as it was found, and what becomes of it.
enum Finding {
    /// A sealed file in order.
    Whole(SealedFile),
    /// A sealed file of which these blocks cannot be read.
    Holes(SealedFile, Vec<Range<Offset>>),
    /// A sealed file that cannot be opened.
    Gone(SealedName),
    /// A raw segment: where its whole frames begin, what is lost between them, and where it ends.
    Raw(Segment, Vec<(u64, FrameHeader)>, Vec<Range<Offset>>, Offset),
    /// A raw segment whose header cannot be read.
    Blind(Offset, Offset),
}

/// Repairs the log in `folder`, which no process may have open. Saves every whole record; what is lost becomes ranges
/// that say so, and a record in the log. A log in order is left as it is.
pub fn repair(folder: &Path, progress: &mut dyn FnMut(&str)) -> Result<RepairReport, RepairError> {
    let held = lock(folder)?;
    let storage = Arc::new(Disk::new(folder));
    repair_in(storage, folder, Some(held), progress)
}

/// Does what [`repair`] does, in a storage of one's own.
pub(crate) fn repair_in(
    storage: Arc<dyn Storage>,
    folder: &Path,
    held: Option<File>,
    progress: &mut dyn FnMut(&str),
) -> Result<RepairReport, RepairError> {
    let names = storage.list()?;
    let mut report = RepairReport::default();
    let manifest = match manifests::read(storage.as_ref(), &names) {
        Ok(found) => found.manifest,
        Err(Failed::Io(_, _, error)) => return Err(error.into()),
        Err(Failed::Damaged(_)) => {
            report.manifest = true;
            manifests::guess(storage.as_ref(), &names)
        }
    };
    let sealed = Arc::new(SealedShared::default());
    let findings = look(storage.as_ref(), &sealed, &names, &manifest, progress)?;
    let end = findings.last().map_or(0, Finding::end);
    let damaged = findings.iter().rposition(Finding::is_damaged);
    if damaged.is_none() && !report.manifest {
        return Ok(report);
    }
    let store = store_of(&manifest, &findings).ok_or(RepairError::Nothing)?;
    let shared = empty_shared(storage.clone(), sealed, store, &manifest, end);
    let mut changes = Vec::new();
    let mut rewritten = Vec::new();
    let mut entries: Vec<ManifestEntry> = Vec::new();
    for (place, finding) in findings.into_iter().enumerate() {
        // Raw segments behind the last damage stay what they are; those in front are sealed, for the chain.
        let stays = damaged.is_none_or(|last| place > last);
        if stays && matches!(finding, Finding::Raw(..)) {
            break;
        }
        for range in finding.lost() {
            changes.push(BlockChange {
                first: range.start,
                old: NO_BLOCK,
                new: NO_BLOCK,
            });
            report.lost.push((range.start, range.end));
        }
        progress(&format!(
            "saving records {} to {}",
            finding.base(),
            finding.end()
        ));
        rewritten.extend(finding.replaced());
        let file = finding.save(&shared, end)?;
        entries.push(file.manifest_entry());
        shared.files.adopt(file);
    }
    let sealed_end = entries.last().map_or(0, |entry| entry.end);
    // Where the last segment was sealed, a new one must follow before the manifest says so.
    let raw_follows = names
        .iter()
        .filter_map(|name| file_name::base_of(name))
        .any(|base| base >= sealed_end && !rewritten.contains(&file_name::segment(base)));
    let aside = |name: &String| format!("damaged-{}-{name}", crate::time::now());
    for name in rewritten.iter().filter(|name| names.contains(name)) {
        let kept = aside(name);
        storage.rename(name, &kept)?;
        report.kept_aside.push(kept);
    }
    storage.sync_names()?;
    if !raw_follows {
        crate::appender::begin_segment(&shared, sealed_end)?;
    }
    shared.files.put_manifest(
        storage.as_ref(),
        Manifest {
            sequence: manifest.sequence + 1,
            store,
            durable_end: sealed_end.max(manifest.durable_end.min(end)),
            files: entries,
        },
    )?;
    drop(shared);
    let (log, _) = Log::open_storage(storage, folder, LogConfig::default(), held)?;
    if !changes.is_empty() {
        let lost: u64 = report.lost.iter().map(|(first, end)| end - first).sum();
        log.note(Note::Maintenance(MaintenanceRecord {
            at: 0,
            by: Uuid::nil(),
            request: Uuid::nil(),
            reason: Reason::Lost,
            erasure: None,
            records: lost,
            blocks: changes,
        }))?;
    }
    // Behind the record of what was lost, whose offset the files carry.
    report.unnamed = name_unknown_applications(&log, sealed_end)?;
    log.close();
    Ok(report)
}

/// Registers, disabled, the applications that events name and no record that was saved does: without that their numbers
/// would be given again, and their events with them.
fn name_unknown_applications(log: &Log, sealed_end: Offset) -> Result<Vec<String>, RepairError> {
    let mut highest = None;
    for piece in log.shared().files.pieces().iter() {
        if let Piece::Sealed(file) = piece {
            let owners = file.session_entries().map_err(SealError::Read)?;
            highest = highest.max(owners.iter().map(|entry| entry.application).max());
        }
    }
    let mut scan = log.reader().scan(sealed_end);
    let mut see = |_, record: Record<'_>| {
        if let Record::Event(event) = record {
            highest = highest.max(Some(event.application));
        }
    };
    while scan.read(&mut see).map_err(SealError::Read)? > 0 {}
    let mut unnamed = Vec::new();
    while let Some(next) = highest.map(|_| log.registry().next_application())
        && Some(next) <= highest
    {
        let name = format!("lost-{}-{}", next.0, crate::time::now());
        for change in [
            Change::RegisterApplication {
                name: name.clone(),
                token: None,
            },
            Change::SetApplicationActive {
                name: name.clone(),
                active: false,
            },
        ] {
            let (reply, answer) = std::sync::mpsc::sync_channel(1);
            let sent = log.change(change, Actor::default(), move |changed| {
                drop(reply.send(changed))
            });
            sent.map_err(|full| RepairError::Unnamed(full.to_string()))?;
            match answer.recv() {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(RepairError::Unnamed(error.to_string())),
                Err(error) => return Err(RepairError::Unnamed(error.to_string())),
            }
        }
        unnamed.push(name);
    }
    Ok(unnamed)
}

/// Looks at every file, in order.
fn look(
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
        findings.push(match SealedFile::open(storage, &name, sealed.clone()) {
            Ok(file) if file.trailer.checksum == entry.trailer_checksum => match holes(&file)? {
                Some(holes) if holes.is_empty() => Finding::Whole(file),
                Some(holes) => Finding::Holes(file, holes),
                None => Finding::Gone(name),
            },
            _ => Finding::Gone(name),
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
        if base > expected {
            findings.push(Finding::Blind(expected, base));
        }
        let next = bases.get(place + 1).copied();
        let finding = match open_segment(storage, base) {
            Ok(segment) => frames(segment, next, manifest.durable_end)?,
            Err(Failed::Io(_, _, error)) => return Err(error.into()),
            Err(Failed::Damaged(_)) => {
                Finding::Blind(base, next.unwrap_or(manifest.durable_end.max(base)))
            }
        };
        expected = finding.end();
        findings.push(finding);
    }
    if expected < manifest.durable_end {
        findings.push(Finding::Blind(expected, manifest.durable_end));
    }
    Ok(findings)
}

/// Returns the ranges of a sealed file whose blocks cannot be read; `None` when its footer cannot.
fn holes(file: &SealedFile) -> Result<Option<Vec<Range<Offset>>>, RepairError> {
    let tables = file
        .session_entries()
        .and_then(|_| file.id_entries())
        .and_then(|_| file.controls())
        .and_then(|_| file.seals())
        .and_then(|_| file.changes())
        .and_then(|_| file.ledger())
        .and_then(|_| file.check_filters());
    let (Ok(list), Ok(())) = (file.blocks(), tables) else {
        return Ok(None);
    };
    let mut holes: Vec<Range<Offset>> = Vec::new();
    for entry in list.iter().filter(|entry| entry.gone.is_none()) {
        let bytes = read_vec(file.file.as_ref(), entry.position, entry.bytes as usize)?;
        let whole = Block::decode(&bytes, file.header.salt)
            .is_ok_and(|block| (block.first, block.count()) == (entry.first, entry.count as usize));
        if !whole {
            match holes.last_mut().filter(|hole| hole.end == entry.first) {
                Some(hole) => hole.end = entry.end(),
                None => holes.push(entry.first..entry.end()),
            }
        }
    }
    Ok(Some(holes))
}

/// Finds the whole frames of a raw segment, over whatever lies between them.
fn frames(
    segment: Segment,
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
            let behind = next_frame(&segment, position, expected)?;
            let behind =
                behind.filter(|(_, header)| next.is_none_or(|next| header.end_offset() <= next));
            if let Some((at, header)) = behind {
                if header.first_offset > expected {
                    lost.push(expected..header.first_offset);
                }
                walk.position = at;
                walk.next_offset = header.first_offset;
                walk.previous = header.previous;
                continue;
            }
            walk.position = position;
            let said = walk
                .later_frame_says_durable(expected)
                .map_err(SealError::Read)?;
            let known = said.map_or(expected, |(_, said)| said).max(durable_end);
            let end = next.unwrap_or(known.max(expected));
            if end > expected {
                lost.push(expected..end);
            }
            break end;
        }
    };
    Ok(Finding::Raw(segment, found, lost, end))
}

/// Looks behind a broken place for the next frame that is whole.
fn next_frame(
    segment: &Segment,
    broken: u64,
    expected: Offset,
) -> Result<Option<(u64, FrameHeader)>, RepairError> {
    const STEP: usize = 1 << 20;
    let size = segment.file.size()?;
    let mut at = broken + 8;
    while at + FRAME_HEADER_BYTES as u64 <= size {
        let length = usize::try_from(size - at).unwrap_or(STEP).min(STEP);
        let chunk = read_vec(segment.file.as_ref(), at, length)?;
        let mut place = 0;
        while place + FRAME_HEADER_BYTES <= chunk.len() {
            let bytes = &chunk[place..place + FRAME_HEADER_BYTES];
            if let Found::Frame(header, _) = FrameHeader::decode(bytes, segment.header.salt)
                && header.first_offset >= expected
            {
                let position = at + place as u64;
                let mut walk = Walk::new(segment).map_err(SealError::Read)?;
                walk.position = position;
                walk.next_offset = header.first_offset;
                walk.previous = header.previous;
                if matches!(walk.step(), Ok(Step::Frame(..))) {
                    return Ok(Some((position, header)));
                }
            }
            place += 8;
        }
        at += place as u64;
    }
    Ok(None)
}

fn store_of(manifest: &Manifest, findings: &[Finding]) -> Option<Uuid> {
    findings
        .iter()
        .find_map(|finding| match finding {
            Finding::Whole(file) | Finding::Holes(file, _) => Some(file.header.store),
            Finding::Raw(segment, ..) => Some(segment.header.store),
            Finding::Gone(_) | Finding::Blind(..) => None,
        })
        .or((!manifest.store.is_nil()).then_some(manifest.store))
}

/// What sealed files are written with, before there is a log that opens.
fn empty_shared(
    storage: Arc<dyn Storage>,
    sealed: Arc<SealedShared>,
    store: Uuid,
    manifest: &Manifest,
    end: Offset,
) -> Shared {
    let report = OpenReport {
        end,
        ..OpenReport::default()
    };
    let found = Recovered {
        store,
        pieces: Vec::new(),
        bases: Vec::new(),
        manifest: Manifest {
            files: Vec::new(),
            ..manifest.clone()
        },
        next_manifest: 0,
        mend_manifest: true,
        tail: None,
        admission: Admission::new(Keys::of(store), 0),
        registry: Registry::default(),
        erasures: Erasures::default(),
        last_received_at: 0,
        report: OpenReport::default(),
    };
    Shared::new(storage, sealed, found, &report, 0).0
}

impl Finding {
    fn base(&self) -> Offset {
        match self {
            Self::Whole(file) | Self::Holes(file, _) => file.header.base,
            Self::Gone(name) => name.base,
            Self::Raw(segment, ..) => segment.header.base,
            Self::Blind(base, _) => *base,
        }
    }

    fn end(&self) -> Offset {
        match self {
            Self::Whole(file) | Self::Holes(file, _) => file.header.end,
            Self::Gone(name) => name.end,
            Self::Raw(_, _, _, end) | Self::Blind(_, end) => *end,
        }
    }

    fn is_damaged(&self) -> bool {
        match self {
            Self::Whole(_) => false,
            Self::Raw(_, _, lost, _) => !lost.is_empty(),
            Self::Holes(..) | Self::Gone(_) | Self::Blind(..) => true,
        }
    }

    fn lost(&self) -> Vec<Range<Offset>> {
        match self {
            Self::Whole(_) => Vec::new(),
            Self::Holes(_, lost) | Self::Raw(_, _, lost, _) => lost.clone(),
            Self::Gone(_) | Self::Blind(..) => std::iter::once(self.base()..self.end()).collect(),
        }
    }

    /// Returns the name of the file that another takes the place of.
    fn replaced(&self) -> Option<String> {
        match self {
            Self::Whole(_) => None,
            Self::Holes(file, _) => Some(file.name.clone()),
            Self::Gone(name) => Some(name.to_string()),
            Self::Raw(..) | Self::Blind(..) => Some(file_name::segment(self.base())),
        }
    }

    /// Returns a sealed file with everything that was saved.
    fn save(self, shared: &Shared, why: Offset) -> Result<SealedFile, RepairError> {
        let name = |generation| SealedName {
            base: self.base(),
            end: self.end(),
            generation,
        };
        match &self {
            Self::Holes(file, holes) => Ok(patch(shared, file, holes, why)?),
            Self::Gone(SealedName { generation, .. }) => {
                Ok(nothing(shared, name(generation + 1), why)?)
            }
            Self::Blind(..) => Ok(nothing(shared, name(0), why)?),
            Self::Raw(segment, found, lost, _) => {
                Ok(saved(shared, segment, name(0), found, lost, why)?)
            }
            Self::Whole(_) => match self {
                Self::Whole(file) => Ok(file),
                _ => Err(RepairError::Nothing),
            },
        }
    }
}

/// A file of a range of which nothing is left; its seal is lost with it.
fn nothing(shared: &Shared, name: SealedName, why: Offset) -> Result<SealedFile, SealError> {
    let mut writer = SealedWriter::begin(shared, name)?;
    writer.push_lost(&(name.base..name.end), why);
    writer.footer.seals = vec![Seal {
        first: name.base,
        end: name.end,
        root: NO_BLOCK,
        previous: shared.last_seal()?,
    }];
    writer.finish()
}

/// A file of the whole frames of a raw segment.
fn saved(
    shared: &Shared,
    segment: &Segment,
    name: SealedName,
    found: &[(u64, FrameHeader)],
    lost: &[Range<Offset>],
    why: Offset,
) -> Result<SealedFile, SealError> {
    let keys = Keys::of(shared.store);
    let mut frames = FrameSealer::begin(shared, name)?;
    let mut sessions = BTreeMap::new();
    let mut ids = Vec::new();
    let mut lost = lost.iter().peekable();
    for (position, header) in found {
        while let Some(range) = lost.next_if(|range| range.start < header.first_offset) {
            frames.lost(range.clone(), why)?;
        }
        let body = segment.read(position + FRAME_HEADER_BYTES as u64, header.body())?;
        frames.frame(header, &body, segment.header.salt)?;
        let Some(table) = Table::of(header, &body, segment.header.salt) else {
            continue;
        };
        for (offset, range) in (header.first_offset..).zip(table.ranges()) {
            if let Some(event) = payload::event_head(&body[range]) {
                sessions
                    .entry(keys.session(event.session_id))
                    .or_insert(event.application);
                ids.extend(event.client_made_id.map(|id| {
                    IdEntry::new(keys.id_print(event.application, id), offset - name.base)
                }));
            }
        }
    }
    for range in lost {
        frames.lost(range.clone(), why)?;
    }
    frames.writer.footer.sessions = sessions
        .into_iter()
        .map(|(key, application)| SessionEntry { key, application })
        .collect();
    frames.writer.footer.ids = ids;
    frames.finish(shared)
}

/// A sealed file again, without the blocks that cannot be read.
fn patch(
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
    let mut holes = holes.iter().peekable();
    for entry in file.blocks()?.iter() {
        if let Some(hole) = holes.next_if(|hole| hole.start == entry.first) {
            writer.push_lost(hole, why);
        }
        if in_hole(entry.first) {
            continue;
        }
        if entry.gone.is_some() {
            writer.footer.blocks.push(*entry);
            continue;
        }
        let mut bytes = read_vec(file.file.as_ref(), entry.position, entry.bytes as usize)?;
        let block = Block::decode(&bytes, file.header.salt)
            .map_err(|what| file.damage(entry.first, what))?;
        for (_, record) in block.records() {
            if let Some(event) = payload::event_head(record) {
                writer.count_event(event.timestamp);
            }
        }
        let header = BlockHeader::decode(&bytes, file.header.salt)
            .map_err(|what| file.damage(entry.first, what))?;
        let stored = bytes.split_off(BLOCK_HEADER_BYTES);
        let moved = header.moved(&stored, writer.header.salt);
        writer.push_block(&moved, &stored, *entry)?;
    }
    writer.footer.sessions = file.session_entries()?;
    let base = file.header.base;
    writer.footer.ids = file.id_entries()?;
    writer
        .footer
        .ids
        .retain(|id| !in_hole(base + id.relative()));
    writer.footer.controls = file.controls()?;
    writer.footer.controls.retain(|offset| !in_hole(*offset));
    writer.footer.seals = file.seals()?;
    for entry in file.ledger()? {
        *writer.ledger_of_hour(entry.hour, entry.application) = entry;
    }
    writer
        .footer
        .changes
        .sort_unstable_by_key(|change| change.first);
    writer.finish()
}
