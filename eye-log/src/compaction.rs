//! Rewrites sealed files: takes out what was erased or has expired, and merges small neighbours.
//!
//! What must stay true: offsets never change; a block that changes is recorded in the log, with its hash before and
//! after, before the new file counts; and a crash at any instant leaves either the old file or the new one.

mod plan;
mod rewrite;

use std::ops::Range;
use std::sync::Arc;

use uuid::Uuid;

use crate::error::{AppendError, ReadError};
use crate::format::seal::Hash;
use crate::log::Log;
use crate::offset::Offset;
use crate::pieces::Piece;
use crate::ranges::OffsetRanges;
use crate::record::{BlockChange, MaintenanceRecord, Note, Reason, Record};
use crate::registry::Actor;
use crate::retention::{self, Cutoffs};
use crate::sealed::SealedFile;
use crate::sealing::{self, SealError};
use plan::Unit;
use rewrite::Rewritten;

/// Blocks named in one record at most.
const RECORD_BLOCKS: usize = 10_000;
/// A retention run that would take more than a tenth of all events wants to be confirmed if the clock has jumped by
/// more than this since the last record. Microseconds.
const CLOCK_JUMP_MICROS: i64 = 24 * retention::HOUR_MICROS;

/// What a compaction is to do.
#[derive(Debug, Clone, Default)]
pub struct Compaction {
    /// Closes the active segment first, so that everything gets sealed.
    pub seal_all: bool,
    /// Expires a large part of all events even though the clock seems to have jumped.
    pub confirmed: bool,
    /// Says what would be done and does nothing.
    pub dry_run: bool,
    /// Who asked for it.
    pub by: Actor,
}

/// What a compaction did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactReport {
    /// Files that were rewritten, each with what it was made of.
    pub rewritten: Vec<RewrittenFile>,
    /// Events that expired.
    pub expired: u64,
    /// Events that were erased.
    pub erased: u64,
    /// Bytes of the files before and after.
    pub bytes_before: u64,
    /// Bytes after; for a dry run, as before.
    pub bytes_after: u64,
    /// Offsets of the events that went.
    pub gone: OffsetRanges,
    /// Erasures of which no byte is left in the log now.
    pub erasures: Vec<ErasedFromLog>,
}

/// A file that was rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewrittenFile {
    /// Files it was made of.
    pub from: Vec<String>,
    /// Its name; empty for a dry run.
    pub to: String,
}

/// An erasure as far as the log is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasedFromLog {
    /// The erasure's id.
    pub id: Uuid,
    /// The files that held its events: first offset, hash over the blocks before and after.
    pub segments: Vec<(Offset, Hash, Hash)>,
    /// Events that are still found in its ranges: 0, or something is wrong.
    pub found: u64,
}

/// Why a compaction did not finish. What it did until then counts.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// A file could not be read or written.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// What was done could not be recorded.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Somebody asked to stop.
    #[error("stopped")]
    Stopped,
    /// A large part of all events would expire right after the clock jumped.
    #[error(
        "{events} of {all} events would expire, and the clock is {hours} h ahead of the last record: check the clock, then confirm"
    )]
    ClockJumped {
        /// Events that would go.
        events: u64,
        /// Events there are.
        all: u64,
        /// How far the clock is ahead.
        hours: i64,
    },
}

impl From<ReadError> for CompactError {
    fn from(error: ReadError) -> Self {
        Self::Seal(SealError::Read(error))
    }
}

impl From<std::io::Error> for CompactError {
    fn from(error: std::io::Error) -> Self {
        Self::Seal(SealError::Io(error))
    }
}

impl Log {
    /// Compacts the log: everything that is to be erased or has expired goes, small neighbours merge. `progress` hears
    /// of bytes done and to do, and answers whether to go on. What is appended meanwhile is not touched.
    pub fn compact(
        &self,
        what: &Compaction,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<CompactReport, CompactError> {
        let pending = self.pending_erasures();
        let hidden: OffsetRanges = pending
            .iter()
            .flat_map(|(_, ranges)| ranges.iter())
            .collect();
        if !what.dry_run && (what.seal_all || self.reaches_raw(&hidden)) {
            if what.seal_all {
                self.roll_small()?;
            } else {
                self.roll()?;
            }
            self.seal_closed()?;
        }
        let shared = self.shared();
        let _alone = shared.maintenance.begin();
        let files: Vec<Arc<SealedFile>> = shared
            .files
            .pieces()
            .iter()
            .filter_map(|piece| match piece {
                Piece::Sealed(file) => Some(file.clone()),
                Piece::Raw(_) | Piece::Damaged(..) => None,
            })
            .collect();
        let cutoffs = self.cutoffs(&files, what)?;
        let units = plan::units(&files, &hidden, &cutoffs)?;
        let all = units.iter().map(Unit::bytes).sum();
        let mut report = CompactReport::default();
        let mut segments: Vec<(Range<Offset>, Hash, Hash)> = Vec::new();
        let mut done = 0;
        for unit in units {
            if !progress(done, all) {
                return Err(CompactError::Stopped);
            }
            let bytes = unit.bytes();
            report.bytes_before += bytes;
            let from: Vec<String> = unit.files.iter().map(|file| file.name.clone()).collect();
            if what.dry_run {
                let (expired, erased) = rewrite::count(&unit, &hidden, &cutoffs)?;
                report.expired += expired;
                report.erased += erased;
                report.bytes_after += bytes;
                let to = String::new();
                report.rewritten.push(RewrittenFile { from, to });
            } else {
                let mut on = |more: u64| progress(done + more, all);
                let rewritten = rewrite::rewrite(shared, &unit, &hidden, &cutoffs, &mut on)?;
                let Some(rewritten) = rewritten else {
                    return Err(CompactError::Stopped);
                };
                let gone = (rewritten.expired, rewritten.erased);
                for file in &unit.files {
                    let (before, after) = rewritten.roots(file)?;
                    segments.push((file.range(), before, after));
                }
                for range in rewritten.gone.iter() {
                    report.gone.insert(range);
                }
                let file = self.finish(rewritten, &pending, what.by)?;
                report.expired += gone.0;
                report.erased += gone.1;
                report.bytes_after += file.file_bytes;
                let to = file.name.clone();
                report.rewritten.push(RewrittenFile { from, to });
                shared.files.replace(shared.storage.as_ref(), file)?;
            }
            done += bytes;
        }
        progress(all, all);
        if !what.dry_run && !pending.is_empty() {
            self.remove_cuttings()?;
            for (id, ranges) in pending {
                report.erasures.push(ErasedFromLog {
                    id,
                    segments: segments
                        .iter()
                        .filter(|(range, _, _)| ranges.touches(range))
                        .map(|(range, before, after)| (range.start, *before, *after))
                        .collect(),
                    found: self.found_in(&ranges)?,
                });
            }
        }
        Ok(report)
    }

    /// Records what changed, and ends the file with where that stands.
    fn finish(
        &self,
        mut rewritten: Rewritten<'_>,
        pending: &[(Uuid, OffsetRanges)],
        by: Actor,
    ) -> Result<SealedFile, CompactError> {
        for reason in [Reason::Erased, Reason::Expired] {
            let changes = rewritten.take_changes(reason);
            for part in changes.chunks(RECORD_BLOCKS) {
                let erasure = pending
                    .iter()
                    .find(|(_, ranges)| reason == Reason::Erased && touches(ranges, part))
                    .map(|(id, _)| *id);
                let record = MaintenanceRecord {
                    at: 0,
                    by: by.token,
                    request: by.request,
                    reason,
                    erasure,
                    records: match reason {
                        Reason::Erased => rewritten.erased,
                        Reason::Expired | Reason::Lost => rewritten.expired,
                    },
                    blocks: part.to_vec(),
                };
                let why = self.note(Note::Maintenance(record))?;
                rewritten.say_why(part, why);
            }
        }
        Ok(rewritten.finish()?)
    }

    /// Returns what expires, unless that looks like a wrong clock.
    fn cutoffs(
        &self,
        files: &[Arc<SealedFile>],
        what: &Compaction,
    ) -> Result<Cutoffs, CompactError> {
        let registry = self.registry();
        let limited = registry
            .applications()
            .any(|one| one.limits.retention_days.is_some() || one.limits.max_bytes.is_some());
        if !limited {
            return Ok(Cutoffs::new());
        }
        let mut ledger = Vec::new();
        for file in files {
            ledger.extend(file.ledger()?);
        }
        let now = crate::time::now();
        let cutoffs = retention::cutoffs(&registry, &ledger, now);
        let all: u64 = ledger.iter().map(|entry| entry.kept()).sum();
        let going = ledger.iter().filter(|entry| {
            cutoffs
                .get(&entry.application)
                .is_some_and(|hour| entry.hour < *hour)
        });
        let events: u64 = going.map(|entry| entry.kept()).sum();
        let last = files
            .last()
            .map_or(now, |file| file.trailer.summary.last_received_at);
        let ahead = now.saturating_sub(last);
        if !what.confirmed && events > all / 10 && ahead > CLOCK_JUMP_MICROS {
            return Err(CompactError::ClockJumped {
                events,
                all,
                hours: ahead / retention::HOUR_MICROS,
            });
        }
        Ok(cutoffs)
    }

    fn pending_erasures(&self) -> Vec<(Uuid, OffsetRanges)> {
        self.erasures()
            .into_iter()
            .filter(|erasure| erasure.certificate.is_none())
            .map(|erasure| (erasure.id, erasure.ranges.into_iter().collect()))
            .collect()
    }

    /// Says whether any of these offsets lies in a raw segment.
    fn reaches_raw(&self, ranges: &OffsetRanges) -> bool {
        let sealed_end = self
            .shared()
            .files
            .pieces()
            .iter()
            .find_map(|piece| match piece {
                Piece::Raw(segment) => Some(segment.header.base),
                Piece::Sealed(_) | Piece::Damaged(..) => None,
            })
            .unwrap_or(0);
        ranges.touches(&(sealed_end..Offset::MAX))
    }

    /// Seals what is closed and the keeper has not sealed yet.
    fn seal_closed(&self) -> Result<(), CompactError> {
        let alone = self.shared().maintenance.begin();
        for piece in self.shared().files.pieces().iter() {
            if let Piece::Raw(segment) = piece
                && segment.closed().is_some()
            {
                sealing::seal(self.shared(), &alone, segment)?;
            }
        }
        Ok(())
    }

    /// Takes away torn tails that were kept aside: they may hold what was erased.
    fn remove_cuttings(&self) -> Result<(), CompactError> {
        let storage = self.shared().storage.as_ref();
        let names = storage.list()?;
        let cuttings = names.iter().filter(|name| name.ends_with(".cut"));
        let mut any = false;
        for name in cuttings {
            storage.remove(name)?;
            any = true;
        }
        if any {
            storage.sync_names()?;
        }
        Ok(())
    }

    /// Counts the events that are still in these ranges, whatever hides them.
    fn found_in(&self, ranges: &OffsetRanges) -> Result<u64, CompactError> {
        let shared = self.shared();
        let nothing = Arc::new(OffsetRanges::default());
        let mut look = crate::reader::Lookup::new(shared.files.pieces(), Offset::MAX, nothing);
        let mut found = 0;
        for range in ranges.iter() {
            for offset in range {
                let is_event = look.record(offset, |record| matches!(record, Record::Event(_)))?;
                found += u64::from(is_event);
            }
        }
        Ok(found)
    }
}

fn touches(ranges: &OffsetRanges, blocks: &[BlockChange]) -> bool {
    let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
        return false;
    };
    ranges.touches(&(first.first..last.first + crate::format::FRAME_RECORDS_MAX as u64))
}
