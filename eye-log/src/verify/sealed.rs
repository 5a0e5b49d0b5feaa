//! Verifies sealed files: every block, on as many threads as there are, and what the footers say of them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::error::{Damage, ReadError};
use crate::format::block::Block;
use crate::format::keys::Keys;
use crate::format::payload;
use crate::format::seal::{Hash, Seal};
use crate::format::sealed_footer::{BlockEntry, ChangeEntry, IdEntry, LedgerEntry, SessionEntry};
use crate::offset::Offset;
use crate::record::{MaintenanceRecord, Reason, Record};
use crate::registry::ApplicationId;
use crate::retention::hour_of;
use crate::sealed::SealedFile;
use crate::storage::read_vec;
use crate::verify::chain::{Chain, Changed};
use crate::verify::{VerifyReport, as_io};

/// How many neighbouring blocks are read and checked at a time.
const STRETCH_BLOCKS: usize = 64;
/// How often progress is told, and the end noticed.
const TICK: Duration = Duration::from_millis(5);

/// A file and what its footer says.
struct Footers {
    file: Arc<SealedFile>,
    list: Arc<Vec<BlockEntry>>,
    changes: BTreeMap<Offset, ChangeEntry>,
    sessions: Vec<SessionEntry>,
    ids: Vec<IdEntry>,
    controls: Vec<Offset>,
    ledger: Vec<LedgerEntry>,
    keys: Keys,
}

/// What the blocks of a stretch came to.
#[derive(Default)]
struct Counted {
    events: u64,
    records: u64,
    min_timestamp: Option<i64>,
    max_timestamp: Option<i64>,
    controls: Vec<Offset>,
    ledger: BTreeMap<(u32, ApplicationId), (u64, u64)>,
    /// The hour and application counted now, its events and bytes.
    last_ledger: Option<((u32, ApplicationId), u64, u64)>,
    /// Sessions met, with their owner by the footer or, where that does not say, by their first event.
    owners: HashMap<Uuid, ApplicationId, foldhash::quality::RandomState>,
    maintenance: Vec<(Offset, MaintenanceRecord)>,
    /// Hashes of the blocks as they are, by place.
    hashes: Vec<(usize, Hash)>,
    damage: Vec<Damage>,
}

/// Verifies all files, which come in order; `progress` hears how many bytes are done.
pub(super) fn verify(
    files: &[Arc<SealedFile>],
    report: &mut VerifyReport,
    chain: &mut Chain,
    progress: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let mut footers = Vec::new();
    for file in files {
        chain.store = file.header.store;
        match read_footers(file, chain) {
            Ok(read) => footers.push(read),
            Err(ReadError::Damaged(damage)) => report.damage.push(damage.into()),
            Err(error) => return Err(as_io(error)),
        }
        report.end = file.header.end;
    }
    let stretches: Vec<(usize, std::ops::Range<usize>)> = footers
        .iter()
        .enumerate()
        .flat_map(|(place, footer)| {
            let blocks = footer.list.len();
            (0..blocks)
                .step_by(STRETCH_BLOCKS)
                .map(move |start| (place, start..(start + STRETCH_BLOCKS).min(blocks)))
        })
        .collect();
    let counted = count_all(&footers, &stretches, progress)?;
    let mut by_file: Vec<Counted> = footers.iter().map(|_| Counted::default()).collect();
    for ((place, _), counted) in stretches.iter().zip(counted) {
        by_file[*place].add(counted);
    }
    for (footer, counted) in footers.iter().zip(by_file) {
        conclude(footer, counted, report, chain);
    }
    report.bytes += files.iter().map(|file| file.file_bytes).sum::<u64>();
    Ok(())
}

fn read_footers(file: &Arc<SealedFile>, chain: &mut Chain) -> Result<Footers, ReadError> {
    let seals = file.seals()?;
    chain
        .seals
        .extend(seals.iter().map(|seal| (file.name.clone(), *seal)));
    file.check_filters()?;
    let changes = file.changes()?;
    Ok(Footers {
        list: file.blocks()?,
        changes: changes
            .into_iter()
            .map(|change| (change.first, change))
            .collect(),
        sessions: file.session_entries()?,
        ids: file.id_entries()?,
        controls: file.controls()?,
        ledger: file.ledger()?,
        keys: Keys::of(file.header.store),
        file: file.clone(),
    })
}

/// Reads and counts all stretches, on all processors; answers in their order.
fn count_all(
    footers: &[Footers],
    stretches: &[(usize, std::ops::Range<usize>)],
    progress: &mut dyn FnMut(u64),
) -> io::Result<Vec<Counted>> {
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    let results: Mutex<Vec<Option<io::Result<Counted>>>> =
        Mutex::new(stretches.iter().map(|_| None).collect());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some((file, range)) = stretches.get(place) else {
                    return;
                };
                let counted = count(&footers[*file], range.clone(), &done);
                results.lock().unwrap_or_else(PoisonError::into_inner)[place] = Some(counted);
            }
        };
        let workers: Vec<_> = (0..threads.min(stretches.len()))
            .map(|_| scope.spawn(work))
            .collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            progress(done.load(Ordering::Relaxed));
            std::thread::sleep(TICK);
        }
    });
    results
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .into_iter()
        .map(|result| result.expect("every stretch was worked on"))
        .collect()
}

/// Reads a stretch of blocks in one go and counts what is in them.
fn count(footer: &Footers, range: std::ops::Range<usize>, done: &AtomicU64) -> io::Result<Counted> {
    let file = &footer.file;
    let entries = &footer.list[range.clone()];
    let there = || entries.iter().filter(|entry| entry.gone.is_none());
    let start = there().map(|entry| entry.position).min().unwrap_or(0);
    let end = there()
        .map(|entry| entry.position + u64::from(entry.bytes))
        .max()
        .unwrap_or(0);
    let length = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
    let bytes = read_vec(file.file.as_ref(), start, length)?;
    done.fetch_add(length as u64, Ordering::Relaxed);
    let mut counted = Counted::default();
    for (place, entry) in range.zip(entries) {
        counted.records += u64::from(entry.count);
        if entry.gone.is_some() {
            counted.hashes.push((place, [0; 32]));
            continue;
        }
        let at = usize::try_from(entry.position - start).unwrap_or(usize::MAX);
        let decoded = Block::decode_hashed(&bytes[at..at + entry.bytes as usize], file.header.salt);
        let problem = match decoded {
            Err(what) => Some(what),
            Ok((block, _))
                if (block.first, block.count()) != (entry.first, entry.count as usize) =>
            {
                Some("another block than the footer names".to_owned())
            }
            Ok((block, hash)) => {
                counted.hashes.push((place, hash));
                counted.block(footer, &block).err()
            }
        };
        counted.damage.extend(problem.map(|what| Damage {
            file: file.name.clone(),
            position: entry.position,
            first_offset: entry.first,
            last_offset: Some(entry.end() - 1),
            what,
        }));
    }
    Ok(counted)
}

impl Counted {
    /// Counts a block's records, and compares them with the footer's tables. What a record holds is covered by the
    /// block's hash; only records that are no events are decoded.
    fn block(&mut self, footer: &Footers, block: &Block) -> Result<(), String> {
        let mut parts = block.frames.iter();
        let (mut hour, mut part_ends) = (0, 0);
        for (place, (offset, bytes)) in block.records().enumerate() {
            if place == part_ends
                && let Some((start, part)) = parts.next()
            {
                hour = hour_of(part.appended_at);
                part_ends = start + part.count as usize;
            }
            let Some(event) = payload::event_head(bytes) else {
                match payload::decode(bytes).map_err(|what| format!("record {offset}: {what}"))? {
                    Record::Gone(_) => {}
                    Record::Maintenance(record) => {
                        self.controls.push(offset);
                        self.maintenance.push((offset, record));
                    }
                    _ => self.controls.push(offset),
                }
                continue;
            };
            self.events += 1;
            let timestamp = event.timestamp;
            self.min_timestamp = Some(self.min_timestamp.map_or(timestamp, |t| t.min(timestamp)));
            self.max_timestamp = Some(self.max_timestamp.map_or(timestamp, |t| t.max(timestamp)));
            let key = (hour, event.application);
            if self.last_ledger.is_none_or(|(last, _, _)| last != key) {
                self.note_ledger();
                self.last_ledger = Some((key, 0, 0));
            }
            if let Some((_, events, sum)) = &mut self.last_ledger {
                *events += 1;
                *sum += bytes.len() as u64;
            }
            let owner = self.owners.entry(event.session_id).or_insert_with(|| {
                let key = footer.keys.session(event.session_id);
                let place = footer
                    .sessions
                    .binary_search_by(|entry| entry.key.cmp(&key));
                // One that came up in an earlier file is in that file's table.
                place.map_or(event.application, |place| {
                    footer.sessions[place].application
                })
            });
            if *owner != event.application {
                return Err(format!(
                    "record {offset}: the footer names another owner of its session"
                ));
            }
            if let Some(id) = event.client_made_id {
                let print = footer.keys.id_print(event.application, id);
                let entry = IdEntry::new(print, offset - footer.file.header.base);
                if footer.ids.binary_search(&entry).is_err() {
                    return Err(format!("record {offset}: the footer does not list its id"));
                }
            }
        }
        self.note_ledger();
        Ok(())
    }

    /// Adds up what was counted for one hour and application.
    fn note_ledger(&mut self) {
        if let Some((key, events, bytes)) = self.last_ledger.take() {
            let entry = self.ledger.entry(key).or_default();
            entry.0 += events;
            entry.1 += bytes;
        }
    }

    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.records += other.records;
        self.min_timestamp = [self.min_timestamp, other.min_timestamp]
            .into_iter()
            .flatten()
            .min();
        self.max_timestamp = self.max_timestamp.max(other.max_timestamp);
        self.controls.extend(other.controls);
        for (key, (events, bytes)) in other.ledger {
            let entry = self.ledger.entry(key).or_default();
            entry.0 += events;
            entry.1 += bytes;
        }
        self.maintenance.extend(other.maintenance);
        self.hashes.extend(other.hashes);
        self.damage.extend(other.damage);
    }
}

/// Compares what the blocks of a file came to with what its footer says.
fn conclude(footer: &Footers, counted: Counted, report: &mut VerifyReport, chain: &mut Chain) {
    let file = &footer.file;
    report.events += counted.events;
    report.records += counted.records;
    for (offset, record) in &counted.maintenance {
        chain.record(*offset, record);
    }
    let whole = counted.damage.is_empty();
    report
        .damage
        .extend(counted.damage.into_iter().map(Into::into));
    for (place, hash) in &counted.hashes {
        let entry = &footer.list[*place];
        let change = footer.changes.get(&entry.first);
        let expected = change.map_or(entry.hash, |change| change.hash);
        if *hash != expected {
            let what = "the block's hash is not the one in the footer";
            if let ReadError::Damaged(damage) = file.damage(entry.first, what) {
                report.damage.push(damage.into());
            }
        }
        chain.changed.extend(change.map(|change| Changed {
            file: file.name.clone(),
            position: entry.position,
            first: entry.first,
            end: entry.end(),
            sealed: entry.hash,
            now: change.hash,
            why: change.why,
        }));
    }
    let mut wrong: Vec<String> = Vec::new();
    if let Ok(seals) = file.seals() {
        wrong.extend(seals.iter().filter_map(|seal| wrong_root(footer, seal)));
    }
    if whole {
        let summary = &file.trailer.summary;
        let times = (
            counted.min_timestamp.unwrap_or(i64::MAX),
            counted.max_timestamp.unwrap_or(i64::MIN),
        );
        if counted.events != summary.events {
            wrong.push(format!(
                "the footer counts {} events, there are {}",
                summary.events, counted.events
            ));
        }
        if times != (summary.min_timestamp, summary.max_timestamp) {
            wrong.push("the footer's times are not those of the events".to_owned());
        }
        if counted.controls != footer.controls {
            wrong.push("the footer does not list the control records there are".to_owned());
        }
        let kept: BTreeMap<_, _> = footer
            .ledger
            .iter()
            .filter(|entry| entry.kept() > 0)
            .map(|entry| ((entry.hour, entry.application), (entry.kept(), entry.bytes)))
            .collect();
        // What was lost, nobody knows whose it was.
        let lost = footer
            .list
            .iter()
            .any(|entry| entry.gone == Some(Reason::Lost));
        if kept != counted.ledger && !lost {
            wrong.push("the footer's ledger does not add up to the events".to_owned());
        }
        if !footer.sessions.is_sorted() || !footer.ids.is_sorted() {
            wrong.push("the footer's tables are not sorted".to_owned());
        }
    }
    for what in wrong {
        if let ReadError::Damaged(damage) = file.damage(file.header.base, what) {
            report.damage.push(damage.into());
        }
    }
}

/// Says what is wrong with a seal's root, if anything. A range that is gone whole is attested by the record of its
/// change alone.
fn wrong_root(footer: &Footers, seal: &Seal) -> Option<String> {
    let blocks = footer
        .list
        .iter()
        .filter(|entry| (seal.first..seal.end).contains(&entry.first));
    if blocks.clone().any(|entry| entry.gone.is_some()) {
        return None;
    }
    (Seal::root_of(blocks.map(|entry| &entry.hash)) != seal.root).then(|| {
        format!(
            "the seal of records {} to {} is not the one of its blocks",
            seal.first,
            seal.end - 1
        )
    })
}
