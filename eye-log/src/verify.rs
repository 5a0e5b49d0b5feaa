//! Reads a log's folder from the first byte to the last and says what is wrong with it.
//!
//! What must stay true: it only reads, takes no lock, and works on a copy as well as beside a running server.

mod chain;
mod raw;
mod sealed;
mod stats;

use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::error::{Damage, ReadError};
use crate::format::file_name;
use crate::format::file_name::SealedName;
use crate::format::seal::Hash;
use crate::offset::Offset;
use crate::recovery::manifests;
use crate::recovery::{Failed, io_of, open_segment};
use crate::sealed::{SealedFile, SealedShared};
use crate::segment::Segment;
use crate::storage::{Disk, Storage};
use chain::Chain;

pub use stats::{LogStats, SegmentStats, stats};

/// How often a folder whose files are replaced meanwhile is listed anew.
const ATTEMPTS: u32 = 8;

/// What verifying found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VerifyReport {
    /// How many files hold records.
    pub segments: usize,
    /// How many events were read and found whole.
    pub events: u64,
    /// How many records, events among them.
    pub records: u64,
    /// How many bytes were read.
    pub bytes: u64,
    /// One past the last record.
    pub end: Offset,
    /// How many seals the chain has.
    pub seals: usize,
    /// How many of them stand in for seals that were lost to damage: they attest nothing.
    pub seals_lost: usize,
    /// The hash of the last seal, in hexadecimal: to be noted outside, so that a chain made anew is noticed.
    pub head: Option<String>,
    /// Bytes at the end that belong to a write that was never acknowledged, or is going on.
    pub torn_tail_bytes: u64,
    /// What is damaged; empty in a sound log.
    pub damage: Vec<DamageReport>,
}

/// One damaged place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamageReport {
    /// The file, within the log's folder.
    pub file: String,
    /// The byte where it begins.
    pub position: u64,
    /// The first offset that cannot be read.
    pub first_offset: Offset,
    /// The last offset known to be lost.
    pub last_offset: Option<Offset>,
    /// What was found, and what was expected.
    pub what: String,
}

impl From<Damage> for DamageReport {
    fn from(damage: Damage) -> Self {
        let Damage {
            file,
            position,
            first_offset,
            last_offset,
            what,
        } = damage;
        Self {
            file,
            position,
            first_offset,
            last_offset,
            what,
        }
    }
}

/// The files of a folder, all opened before any is read, so that none can be taken away meanwhile.
struct Opened {
    sealed: Vec<Arc<SealedFile>>,
    raw: Vec<Segment>,
    damage: Vec<Damage>,
    durable_end: Offset,
}

/// Reads everything in `folder`; `progress` hears of bytes read and bytes there are. `head`, if given, must be the hash
/// of one of the seals. Errors are those of the system.
pub fn verify(
    folder: &Path,
    head: Option<Hash>,
    progress: &mut dyn FnMut(u64, u64),
) -> io::Result<VerifyReport> {
    verify_in(&Disk::read_only(folder), head, progress)
}

/// Does what [`verify`] does, in a storage of one's own.
pub fn verify_in(
    storage: &dyn Storage,
    head: Option<Hash>,
    progress: &mut dyn FnMut(u64, u64),
) -> io::Result<VerifyReport> {
    let opened = open(storage)?;
    let mut report = VerifyReport {
        segments: opened.sealed.len() + opened.raw.len(),
        ..VerifyReport::default()
    };
    report
        .damage
        .extend(opened.damage.into_iter().map(DamageReport::from));
    let mut all: u64 = opened.sealed.iter().map(|file| file.file_bytes).sum();
    for segment in &opened.raw {
        all += segment.file.size()?;
    }
    let mut chain = Chain::default();
    sealed::verify(&opened.sealed, &mut report, &mut chain, &mut |done| {
        progress(done, all);
    })?;
    for (place, segment) in opened.raw.iter().enumerate() {
        let next = opened.raw.get(place + 1).map(|next| next.header.base);
        let before = report.bytes;
        raw::verify(segment, next, &mut report, &mut chain, &mut |done| {
            progress(before + done, all);
        })?;
    }
    progress(all, all);
    let named = |damage: &DamageReport| {
        damage.first_offset <= report.end
            && damage.last_offset.is_none_or(|last| last >= report.end)
    };
    if report.end < opened.durable_end && !report.damage.iter().any(named) {
        let what = format!(
            "the log ends here, but the manifest says that everything below record {} was on the disk",
            opened.durable_end
        );
        report.damage.push(DamageReport {
            file: file_name::segment(report.end),
            position: 0,
            first_offset: report.end,
            last_offset: Some(opened.durable_end - 1),
            what,
        });
    }
    chain.verify(head, &mut report);
    Ok(report)
}

/// Opens all files; what cannot be opened is damage. Files may be replaced meanwhile: then once more.
fn open(storage: &dyn Storage) -> io::Result<Opened> {
    let mut attempt = 1;
    loop {
        let opened = open_once(storage)?;
        let unsteady = opened
            .damage
            .iter()
            .any(|damage| damage.what == crate::sealed::MISSING);
        if !unsteady || attempt == ATTEMPTS {
            return Ok(opened);
        }
        attempt += 1;
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn open_once(storage: &dyn Storage) -> io::Result<Opened> {
    let names = storage.list()?;
    let mut opened = Opened {
        sealed: Vec::new(),
        raw: Vec::new(),
        damage: Vec::new(),
        durable_end: 0,
    };
    let manifest = match manifests::read(storage, &names) {
        Ok(found) => found.manifest,
        Err(Failed::Io(doing, name, error)) => return Err(io_of(doing, &name, &error)),
        Err(Failed::Damaged(damage)) => {
            opened.damage.push(damage);
            manifests::guess(storage, &names)?
        }
    };
    opened.durable_end = manifest.durable_end;
    let shared = Arc::new(SealedShared::default());
    let mut store = None;
    for entry in &manifest.files {
        let name = SealedName {
            base: entry.base,
            end: entry.end,
            generation: entry.generation,
        };
        match SealedFile::open(storage, &name, shared.clone()) {
            Ok(file) => {
                if *store.get_or_insert(file.header.store) != file.header.store
                    || file.trailer.checksum != entry.trailer_checksum
                {
                    let what = "another file than the manifest names";
                    if let ReadError::Damaged(damage) = file.damage(entry.base, what) {
                        opened.damage.push(damage);
                    }
                }
                opened.sealed.push(Arc::new(file));
            }
            Err(ReadError::Damaged(damage)) => opened.damage.push(damage),
            Err(error) => return Err(as_io(error)),
        }
    }
    let sealed_end = manifest.files.last().map_or(0, |entry| entry.end);
    let mut bases: Vec<Offset> = names
        .iter()
        .filter_map(|name| file_name::base_of(name))
        .filter(|base| *base >= sealed_end)
        .collect();
    bases.sort_unstable();
    let mut expected = sealed_end;
    for base in bases {
        if opened.raw.is_empty() && base != expected {
            opened.damage.push(Damage {
                file: file_name::segment(expected),
                position: 0,
                first_offset: expected,
                last_offset: Some(base - 1),
                what: format!("records {expected} to {} are in no file", base - 1),
            });
        }
        expected = base;
        match open_segment(storage, base) {
            Ok(segment) => {
                if *store.get_or_insert(segment.header.store) != segment.header.store {
                    let what = format!("a segment of another store, {}", segment.header.store);
                    opened.damage.push(segment.damage(0, base, what));
                }
                opened.raw.push(segment);
            }
            Err(Failed::Damaged(damage)) => opened.damage.push(damage),
            // A closed segment that was sealed since the listing: the manifest read next time names its file.
            Err(Failed::Io(_, name, error)) if error.kind() == io::ErrorKind::NotFound => {
                opened.damage.push(Damage {
                    file: name,
                    position: 0,
                    first_offset: base,
                    last_offset: None,
                    what: crate::sealed::MISSING.to_owned(),
                });
            }
            Err(Failed::Io(doing, name, error)) => return Err(io_of(doing, &name, &error)),
        }
    }
    if opened.raw.is_empty() && sealed_end > 0 {
        let what = "the segment that begins here is missing".to_owned();
        opened.damage.push(Damage {
            file: file_name::segment(sealed_end),
            position: 0,
            first_offset: sealed_end,
            last_offset: None,
            what,
        });
    }
    Ok(opened)
}

/// What the system said about reading, as an error of its own.
fn as_io(error: ReadError) -> io::Error {
    io::Error::other(error)
}
