//! Copies a log to another folder and back: consistent beside a running server, incremental, checked afterwards.
//!
//! What must stay true: the log that is copied is only read, without its lock. The copy becomes the new one in one
//! short step: until then what was there before is whole, while that step runs a marker says so, and files that
//! are no longer wanted go last. A folder that holds something else is never written over.
//!
//! A copy is laid out as a data folder is: the files lie in `DIR/log`, so that every command that reads a data folder
//! reads the copy.

mod copy;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use uuid::Uuid;

use crate::error::OpenError;
use crate::format::file_name;
use crate::log::lock;
use crate::offset::Offset;
use crate::storage::make_private_folder;
use crate::verify::{DamageReport, VerifyReport, verify};
use copy::{Copied, copy_file, copy_frames, link_or_copy, write_whole};

/// Stands in a backup's folder while its files are exchanged for newer ones.
const UNFINISHED: &str = "unfinished";
/// Begins the names of files that are being copied.
const INCOMING: &str = "incoming-";
/// What a log is copied into before it takes its place.
const RESTORING: &str = "restoring";
const LOG: &str = "log";
const MANIFESTS: [&str; 2] = ["manifest-0", "manifest-1"];
/// How often a log whose files are replaced meanwhile is listed anew.
const ATTEMPTS: u32 = 10;

/// What the work is at, for whoever watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Copying files.
    Copying,
    /// Reading the copy and checking it.
    Verifying,
}

/// What a copy came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BackupReport {
    /// The store's id.
    pub store: Option<Uuid>,
    /// One past the last record of the copy.
    pub end: Offset,
    /// How many events are in it.
    pub events: u64,
    /// How many files of records are in it.
    pub files: usize,
    /// How many bytes they have together.
    pub bytes: u64,
    /// How many of them were copied byte by byte …
    pub copied: usize,
    /// … with so many bytes.
    pub copied_bytes: u64,
    /// How many share their bytes with the original (hard links).
    pub linked: usize,
    /// How many were there already.
    pub kept: usize,
    /// How many files of an earlier backup were taken away because the log no longer has them.
    pub removed: usize,
}

/// Why a log was not copied.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The target holds something that must not be written over, or the source is no finished copy.
    #[error("{0}")]
    Refused(String),
    /// Another process works on the folder.
    #[error(transparent)]
    Busy(OpenError),
    /// What was copied is damaged.
    #[error("{file}, byte {position}: {what}", file = .0.file, position = .0.position, what = .0.what)]
    Damaged(DamageReport),
    /// Files went on being replaced while they were copied.
    #[error("the files of {} went on changing while they were copied; try again", .0.display())]
    Unsteady(PathBuf),
    /// The system refused a file operation.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl BackupError {
    pub(crate) fn io<'p>(
        doing: &'static str,
        path: &'p Path,
    ) -> impl FnOnce(io::Error) -> Self + 'p {
        move |source| Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }

    fn is_gone(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// How sealed files, which never change, come into a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// By hard link where the file system can, else as a copy.
    Linked,
    /// Always as a copy of their bytes.
    Copied,
}

/// Copies the log in the folder `log` to `to/log`: everything that was on the disk when it began is in it, synced and
/// read back. What an earlier backup left there is used again; what the log no longer has is taken away.
pub fn backup(
    log: &Path,
    to: &Path,
    sealed: Sealed,
    progress: &mut dyn FnMut(Stage, u64, u64),
) -> Result<BackupReport, BackupError> {
    let target = to.join(LOG);
    refuse_the_log_itself(log, &target)?;
    make_private_folder(to).map_err(BackupError::io("making", to))?;
    make_private_folder(&target).map_err(BackupError::io("making", &target))?;
    // Two backups into one folder, or a server on it, would take each other's files away.
    let _lock = lock(&target).map_err(BackupError::Busy)?;
    let marker = to.join(UNFINISHED);
    // The first backup is none before it is finished; later ones leave the one before whole until the exchange.
    if Listing::of(&target)?.is_empty() {
        mark_unfinished(to, &marker)?;
    }
    let mut attempt = 1;
    let (listing, mut report) = loop {
        let listing = Listing::of(log)?;
        listing.refuse_another_log(&target)?;
        match bring(log, &target, &listing, sealed, progress) {
            Ok(report) => break (listing, report),
            Err(error) if error.is_gone() && attempt < ATTEMPTS => attempt += 1,
            Err(error) if error.is_gone() => return Err(BackupError::Unsteady(log.to_owned())),
            Err(error) => return Err(error),
        }
    };
    mark_unfinished(to, &marker)?;
    report.removed = exchange(&target, &listing)?;
    let verified = verified(&target, progress)?;
    std::fs::remove_file(&marker).map_err(BackupError::io("removing", &marker))?;
    sync_folder(to)?;
    Ok(BackupReport {
        store: listing.store,
        end: verified.end,
        events: verified.events,
        files: listing.sealed.len() + listing.raw.len(),
        ..report
    })
}

fn mark_unfinished(to: &Path, marker: &Path) -> Result<(), BackupError> {
    write_whole(marker, b"eye backup is exchanging files\n")?;
    sync_folder(to)
}

/// Copies the log in `from/log` to `data/log`, which must not be there or hold nothing. It takes its place only once it
/// is synced and was read back whole.
pub fn restore(
    from: &Path,
    data: &Path,
    progress: &mut dyn FnMut(Stage, u64, u64),
) -> Result<BackupReport, BackupError> {
    let source = from.join(LOG);
    if !source.is_dir() {
        return Err(BackupError::Refused(format!(
            "{} holds no backup: there is no folder log in it",
            from.display()
        )));
    }
    if from.join(UNFINISHED).exists() {
        return Err(BackupError::Refused(format!(
            "the last backup to {} was not finished; run `eye backup` to it once more, or restore another one",
            from.display()
        )));
    }
    refuse_what_is_there(data)?;
    make_private_folder(data).map_err(BackupError::io("making", data))?;
    // What a restore that was cut off has left is nobody's.
    let (staged, target) = (data.join(RESTORING), data.join(LOG));
    let _ = std::fs::remove_dir_all(&staged);
    make_private_folder(&staged).map_err(BackupError::io("making", &staged))?;
    let listing = Listing::of(&source)?;
    if listing.is_empty() {
        return Err(BackupError::Refused(format!(
            "{} holds no files of a log",
            source.display()
        )));
    }
    let report = bring(&source, &staged, &listing, Sealed::Copied, progress)?;
    exchange(&staged, &listing)?;
    let verified = verified(&staged, progress)?;
    // An empty folder may stand in the way; one that is not empty was refused, and is refused again here.
    std::fs::rename(&staged, &target).map_err(BackupError::io("putting in its place", &target))?;
    sync_folder(data)?;
    Ok(BackupReport {
        store: listing.store,
        end: verified.end,
        events: verified.events,
        files: listing.sealed.len() + listing.raw.len(),
        ..report
    })
}

/// The files of a log at one instant.
#[derive(Debug, PartialEq, Eq)]
struct Listing {
    store: Option<Uuid>,
    sealed: Vec<String>,
    raw: Vec<Offset>,
    /// The bytes of those copies of the manifest that are there.
    manifests: Vec<(&'static str, Vec<u8>)>,
}

impl Listing {
    /// Says whether there is no file of records.
    fn is_empty(&self) -> bool {
        self.raw.is_empty() && self.sealed.is_empty()
    }

    /// Lists a folder between two looks at its manifest that show the same: then every file the manifest names, and
    /// every raw segment behind them, was there.
    fn of(log: &Path) -> Result<Self, BackupError> {
        for _ in 0..ATTEMPTS {
            let manifests = manifests(log)?;
            let (mut sealed, mut raw) = (Vec::new(), Vec::new());
            let entries = std::fs::read_dir(log).map_err(BackupError::io("listing", log))?;
            for entry in entries {
                let name = entry.map_err(BackupError::io("listing", log))?.file_name();
                let Some(name) = name.to_str() else { continue };
                raw.extend(file_name::base_of(name));
                sealed.extend(name.ends_with(".sealed").then(|| name.to_owned()));
            }
            if manifests != self::manifests(log)? {
                continue;
            }
            sealed.sort_unstable();
            raw.sort_unstable();
            let first = sealed
                .first()
                .cloned()
                .or_else(|| raw.first().map(|base| file_name::segment(*base)));
            let store = match first.map(|name| copy::store_of(&log.join(name))) {
                Some(Err(error)) if error.is_gone() => continue,
                Some(store) => Some(store?),
                None => None,
            };
            return Ok(Self {
                store,
                sealed,
                raw,
                manifests,
            });
        }
        Err(BackupError::Unsteady(log.to_owned()))
    }

    /// Refuses a target that holds another store's log, or more of this one than is here: that would be lost.
    fn refuse_another_log(&self, target: &Path) -> Result<(), BackupError> {
        let there = Listing::of(target)?;
        let folder = target.parent().unwrap_or(target).display();
        if there.store.is_some() && there.store != self.store {
            return Err(BackupError::Refused(format!(
                "{folder} holds the backup of another store; choose another folder"
            )));
        }
        if there.last_base() > self.last_base() {
            return Err(goes_further(target));
        }
        Ok(())
    }

    fn last_base(&self) -> Offset {
        self.raw.last().copied().unwrap_or(0)
    }
}

fn goes_further(target: &Path) -> BackupError {
    BackupError::Refused(format!(
        "the backup in {} goes further than this log, which may have been restored from an older one; choose another \
         folder, so that nothing is lost",
        target.parent().unwrap_or(target).display()
    ))
}

fn manifests(log: &Path) -> Result<Vec<(&'static str, Vec<u8>)>, BackupError> {
    let mut found = Vec::new();
    for name in MANIFESTS {
        let path = log.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => found.push((name, bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(BackupError::io("reading", &path)(error)),
        }
    }
    Ok(found)
}

/// Brings every file beside those of an earlier copy: sealed ones under their names, which nothing there names yet,
/// raw ones under names of their own. Synced when this returns.
fn bring(
    log: &Path,
    target: &Path,
    listing: &Listing,
    sealed: Sealed,
    progress: &mut dyn FnMut(Stage, u64, u64),
) -> Result<BackupReport, BackupError> {
    clear_incoming(target)?;
    let mut total = 0;
    let raw = listing.raw.iter().map(|base| file_name::segment(*base));
    for name in listing.sealed.iter().cloned().chain(raw) {
        let path = log.join(name);
        total += path
            .metadata()
            .map_err(BackupError::io("reading", &path))?
            .len();
    }
    let mut report = BackupReport::default();
    let mut passed = 0;
    for name in &listing.sealed {
        let (from, to) = (log.join(name), target.join(name));
        let length = from
            .metadata()
            .map_err(BackupError::io("reading", &from))?
            .len();
        if copy::is_same_sealed(&from, &to)? {
            report.kept += 1;
        } else {
            let incoming = target.join(format!("{INCOMING}{name}"));
            let copied = match sealed {
                Sealed::Linked => link_or_copy(&from, &incoming)?,
                Sealed::Copied => copy_file(&from, &incoming)?,
            };
            report.count(copied, length);
            std::fs::rename(&incoming, &to).map_err(BackupError::io("naming", &to))?;
        }
        report.bytes += length;
        passed += length;
        progress(Stage::Copying, passed, total);
    }
    for (place, base) in listing.raw.iter().enumerate() {
        let name = file_name::segment(*base);
        let next = listing.raw.get(place + 1).copied();
        let incoming = target.join(format!("{INCOMING}{name}"));
        let length = copy_frames(log, *base, next, &incoming)?;
        let there = target.join(&name).metadata().map_or(0, |facts| facts.len());
        if there > length {
            return Err(goes_further(target));
        }
        report.count(Copied::Bytes, length);
        report.bytes += length;
        let whole = log.join(&name);
        passed += whole.metadata().map_or(length, |facts| facts.len());
        progress(Stage::Copying, passed.min(total), total);
    }
    sync_folder(target)?;
    Ok(report)
}

impl BackupReport {
    fn count(&mut self, copied: Copied, bytes: u64) {
        match copied {
            Copied::Linked => self.linked += 1,
            Copied::Bytes => {
                self.copied += 1;
                self.copied_bytes += bytes;
            }
        }
    }
}

/// Gives the raw segments their names, writes the manifest, then takes away what is no longer wanted; says how many
/// files that were.
fn exchange(target: &Path, listing: &Listing) -> Result<usize, BackupError> {
    for base in &listing.raw {
        let name = file_name::segment(*base);
        let (from, to) = (target.join(format!("{INCOMING}{name}")), target.join(name));
        std::fs::rename(&from, &to).map_err(BackupError::io("naming", &to))?;
    }
    sync_folder(target)?;
    for (name, bytes) in &listing.manifests {
        let incoming = target.join(format!("{INCOMING}{name}"));
        write_whole(&incoming, bytes)?;
        let to = target.join(name);
        std::fs::rename(&incoming, &to).map_err(BackupError::io("naming", &to))?;
        sync_folder(target)?;
    }
    let mut wanted: BTreeSet<String> = listing.sealed.iter().cloned().collect();
    wanted.extend(listing.raw.iter().map(|base| file_name::segment(*base)));
    wanted.extend(listing.manifests.iter().map(|(name, _)| (*name).to_owned()));
    let mut removed = 0;
    for name in names(target)? {
        let is_ours = file_name::base_of(&name).is_some()
            || name.ends_with(".sealed")
            || MANIFESTS.contains(&name.as_str());
        if is_ours && !wanted.contains(&name) {
            let path = target.join(&name);
            std::fs::remove_file(&path).map_err(BackupError::io("removing", &path))?;
            removed += 1;
        }
    }
    sync_folder(target)?;
    Ok(removed)
}

fn verified(
    folder: &Path,
    progress: &mut dyn FnMut(Stage, u64, u64),
) -> Result<VerifyReport, BackupError> {
    let mut report = verify(folder, None, &mut |done, of| {
        progress(Stage::Verifying, done, of)
    })
    .map_err(BackupError::io("reading", folder))?;
    if report.damage.is_empty() {
        return Ok(report);
    }
    Err(BackupError::Damaged(report.damage.swap_remove(0)))
}

/// Takes away what an earlier run was copying when it was cut off.
fn clear_incoming(target: &Path) -> Result<(), BackupError> {
    for name in names(target)? {
        if name.starts_with(INCOMING) {
            let path = target.join(name);
            std::fs::remove_file(&path).map_err(BackupError::io("removing", &path))?;
        }
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>, BackupError> {
    let entries = std::fs::read_dir(folder).map_err(BackupError::io("listing", folder))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(BackupError::io("listing", folder))?;
        names.extend(entry.file_name().into_string().ok());
    }
    Ok(names)
}

fn sync_folder(folder: &Path) -> Result<(), BackupError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(BackupError::io("syncing", folder))
}

fn refuse_the_log_itself(log: &Path, target: &Path) -> Result<(), BackupError> {
    let there = |path: &Path| path.canonicalize().ok();
    let (log, target) = (there(log), there(target));
    if log.is_some() && log == target {
        return Err(BackupError::Refused(
            "a backup cannot go into the data folder itself".to_owned(),
        ));
    }
    Ok(())
}

/// Refuses a data folder that holds anything but settings, an empty log, or what a restore left that was cut off.
fn refuse_what_is_there(data: &Path) -> Result<(), BackupError> {
    if !data.exists() {
        return Ok(());
    }
    let refused = |name: &str| {
        BackupError::Refused(format!(
            "{} is not empty ({name}); a restore writes over nothing. Move it away, or name a new folder with --data",
            data.display()
        ))
    };
    for name in names(data)? {
        match name.as_str() {
            "eye.toml" | RESTORING => {}
            LOG => {
                let log = data.join(LOG);
                if let Some(first) = names(&log)?.first() {
                    return Err(refused(&format!("{LOG}/{first}")));
                }
            }
            other => return Err(refused(other)),
        }
    }
    Ok(())
}
