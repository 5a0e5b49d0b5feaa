//! `eye backup` and `eye restore`: a checked copy of the log elsewhere, and back.

use super::{Common, Failure, Outcome, figures, log::log_folder, note, print, progress::Progress};
use eye_log::backup::{
    BackupError, BackupReport, Sealed, Stage, backup as copy, restore as bring_back,
};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

/// Copy the log to another folder, beside a running service, and check the copy
///
/// Everything that was acknowledged before the command began is in the copy. Applications and tokens are in the log and
/// come along; the index does not, it grows back. The same command with the same DIR again copies only what is new and
/// takes away what the log no longer has (erased events among it). Files that never change are linked where DIR is on
/// the same file system (--copy copies them): such a copy is safe from commands, not from the disk. Reads every byte of the
/// copy at the end; exit status 1 if any of it is damaged. DIR is laid out as a data folder: `eye log verify --data DIR`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  eye backup /backup/eye\n  eye backup /mnt/usb/eye --copy --data /srv/eye --json"
)]
pub(crate) struct BackupArgs {
    /// Where the copy goes; made if it is missing
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Copy every byte, even where files could be linked
    #[arg(long)]
    copy: bool,
}

/// Bring a backup back into an empty data folder, and check it
///
/// The log takes its place only after every byte of it was read and found whole; a restore that is cut off leaves nothing
/// that could be taken for a log. Writes over nothing: a --data folder that holds anything but eye.toml is refused.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  eye restore /backup/eye --data /srv/eye && eye serve --data /srv/eye"
)]
pub(crate) struct RestoreArgs {
    /// What `eye backup` wrote
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(crate) fn backup(args: &BackupArgs, common: &Common) -> Result<Outcome, Failure> {
    common.folder_only("backup")?;
    let log = log_folder(common)?;
    let sealed = if args.copy {
        Sealed::Copied
    } else {
        Sealed::Linked
    };
    let work = |progress: &mut dyn FnMut(Stage, u64, u64)| copy(&log, &args.dir, sealed, progress);
    run(work, &args.dir, common)
}

pub(crate) fn restore(args: &RestoreArgs, common: &Common) -> Result<Outcome, Failure> {
    common.folder_only("restore")?;
    let data = &common.data;
    let work = |progress: &mut dyn FnMut(Stage, u64, u64)| bring_back(&args.dir, data, progress);
    run(work, data, common)
}

/// Does the work and says how far it is and what came of it.
fn run(
    work: impl FnOnce(&mut dyn FnMut(Stage, u64, u64)) -> Result<BackupReport, BackupError>,
    to: &Path,
    common: &Common,
) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let mut shown: Option<(Stage, Progress)> = None;
    let done = work(&mut |stage, done, of| {
        if shown.as_ref().is_none_or(|(shown, _)| *shown != stage) {
            let label = match stage {
                Stage::Copying => "copying",
                Stage::Verifying => "verifying the copy",
            };
            shown = Some((stage, Progress::new(label, 0)));
        }
        if let Some((_, progress)) = &mut shown {
            progress.tick(done, Some(of), None);
        }
    });
    drop(shown);
    match done {
        Ok(report) => {
            print(&if common.json {
                in_json(&report, to, started.elapsed().as_secs_f64()).to_string()
            } else {
                in_words(&report, to)
            })?;
            Ok(Outcome::Done)
        }
        Err(BackupError::Damaged(damage)) => {
            if common.json {
                print(&json!({"ok": false, "damage": [damage]}).to_string())?;
            }
            note(&format!(
                "eye: DAMAGED: {}, byte {}: {}. `eye log verify` on the log and on {} says more",
                damage.file,
                damage.position,
                damage.what,
                to.display()
            ));
            Ok(Outcome::No)
        }
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}

fn in_json(report: &BackupReport, to: &Path, seconds: f64) -> Value {
    json!({
        "ok": true, "to": to.display().to_string(), "store": report.store, "end": report.end, "events": report.events,
        "files": report.files, "bytes": report.bytes, "copied": report.copied, "copied_bytes": report.copied_bytes,
        "linked": report.linked, "kept": report.kept, "removed": report.removed, "seconds": seconds,
    })
}

fn in_words(report: &BackupReport, to: &Path) -> String {
    format!(
        "ok: {} events up to offset {} in {}, every byte checked: {} files, {} ({} copied with {}, {} linked, {} there \
         before, {} taken away)",
        figures::count(report.events),
        report.end,
        to.display(),
        report.files,
        figures::bytes(report.bytes),
        report.copied,
        figures::bytes(report.copied_bytes),
        report.linked,
        report.kept,
        report.removed,
    )
}
