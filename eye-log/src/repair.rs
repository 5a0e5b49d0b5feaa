//! Saves what can be saved of a damaged log, and says what is lost.
//!
//! What must stay true: the damaged bytes are kept aside, nothing that can be read is given up, and what is lost is a
//! range in the log with a record that says so. It runs only when somebody asks.

mod finding;
mod saving;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use crate::admission::Admission;
use crate::config::LogConfig;
use crate::erasures::Erasures;
use crate::error::{AppendError, OpenError};
use crate::format::file_name;
use crate::format::keys::Keys;
use crate::format::manifest::{Manifest, ManifestEntry};
use crate::log::{Log, Shared, lock};
use crate::offset::Offset;
use crate::pieces::Piece;
use crate::queue::Next;
use crate::record::{BlockChange, MaintenanceRecord, Note, Reason, Record};
use crate::recovery::{Failed, OpenReport, Recovered, io_of, manifests};
use crate::registry::{Actor, Change, Registry};
use crate::sealed::SealedShared;
use crate::sealing::{NO_BLOCK, SealError};
use crate::storage::{Disk, Storage};
use finding::Finding;

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
        Err(Failed::Io(doing, name, error)) => return Err(io_of(doing, &name, &error).into()),
        Err(Failed::Damaged(_)) => {
            report.manifest = true;
            manifests::guess(storage.as_ref(), &names)?
        }
    };
    let sealed = Arc::new(SealedShared::default());
    let findings = finding::look(storage.as_ref(), &sealed, &names, &manifest, progress)?;
    let end = findings.last().map_or(0, Finding::end);
    let damaged = findings.iter().rposition(Finding::is_damaged);
    if damaged.is_none() && !report.manifest {
        return Ok(report);
    }
    let store = finding::store_of(&manifest, &findings).ok_or(RepairError::Nothing)?;
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
        let file = saving::save(finding, &shared, end)?;
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
        crate::appender::begin_segment(&shared, sealed_end, Next::Small)?;
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
