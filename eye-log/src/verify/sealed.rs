//! Verifies sealed files: every block, on as many threads as there are, and what the footers say of them.
//!
//! What must stay true: of a log of any size no more is in memory than the footers of a few files and some blocks.

mod counting;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::ReadError;
use crate::format::keys::Keys;
use crate::format::seal::Seal;
use crate::format::sealed_footer::{BlockEntry, ChangeEntry, LedgerEntry, SessionEntry};
use crate::offset::Offset;
use crate::record::Reason;
use crate::sealed::SealedFile;
use crate::verify::chain::{Chain, Changed};
use crate::verify::{VerifyReport, as_io};
use counting::{Counted, Counting, IdSum};

/// Neighbouring files are verified together up to so many bytes, so that small ones keep all processors busy.
const TOGETHER_BYTES: u64 = 64 << 20;
/// Neighbouring blocks are read and checked together up to so many bytes.
const STRETCH_BYTES: u64 = 1 << 20;

/// A file and what its footer says.
struct Footers<'f> {
    file: Arc<SealedFile>,
    /// The files before it.
    earlier: &'f [Arc<SealedFile>],
    /// Whether the tables of sessions up to its own may miss some: damage takes them away.
    misses_some: bool,
    list: Arc<Vec<BlockEntry>>,
    changes: BTreeMap<Offset, ChangeEntry>,
    sessions: Vec<SessionEntry>,
    ids: IdSum,
    controls: Vec<Offset>,
    ledger: Vec<LedgerEntry>,
    keys: Keys,
}

/// Verifies all files, which come in order; `progress` hears how many bytes are done.
pub(super) fn verify(
    files: &[Arc<SealedFile>],
    report: &mut VerifyReport,
    chain: &mut Chain,
    progress: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let (mut done, mut lost) = (0, false);
    while done < files.len() {
        let mut bytes = 0;
        let more = files[done..].iter().take_while(|file| {
            bytes += file.file_bytes;
            bytes <= TOGETHER_BYTES
        });
        let end = done + more.count().max(1);
        verify_together(files, done..end, &mut lost, report, chain, progress)?;
        done = end;
    }
    Ok(())
}

/// Verifies some of the files; `lost` says whether those before have lost records to damage, and then whether these have.
fn verify_together(
    files: &[Arc<SealedFile>],
    some: Range<usize>,
    lost: &mut bool,
    report: &mut VerifyReport,
    chain: &mut Chain,
    progress: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let mut footers = Vec::new();
    for (place, file) in some.clone().zip(&files[some.clone()]) {
        chain.store = file.header.store;
        match read_footers(&files[..place], file, chain) {
            Ok(mut read) => {
                *lost |= read
                    .list
                    .iter()
                    .any(|entry| entry.gone == Some(Reason::Lost));
                read.misses_some = *lost || !report.damage.is_empty();
                footers.push(read);
            }
            Err(ReadError::Damaged(damage)) => report.damage.push(damage.into()),
            Err(error) => return Err(as_io(error)),
        }
        report.end = file.header.end;
    }
    let stretches: Vec<(usize, Range<usize>)> = footers
        .iter()
        .enumerate()
        .flat_map(|(place, footer)| {
            stretches(&footer.list)
                .into_iter()
                .map(move |range| (place, range))
        })
        .collect();
    let before = report.bytes;
    let counted = count_all(&footers, &stretches, &mut |done| progress(before + done))?;
    let mut by_file: Vec<Counted> = footers.iter().map(|_| Counted::default()).collect();
    for ((place, _), counted) in stretches.iter().zip(counted) {
        by_file[*place].add(counted);
    }
    for (footer, counted) in footers.iter().zip(by_file) {
        conclude(footer, counted, report, chain);
    }
    report.bytes += files[some].iter().map(|file| file.file_bytes).sum::<u64>();
    Ok(())
}

fn read_footers<'f>(
    earlier: &'f [Arc<SealedFile>],
    file: &Arc<SealedFile>,
    chain: &mut Chain,
) -> Result<Footers<'f>, ReadError> {
    let seals = file.seals()?;
    chain
        .seals
        .extend(seals.iter().map(|seal| (file.name.clone(), *seal)));
    file.check_filters()?;
    let changes = file.changes()?;
    let mut ids = IdSum::default();
    let sorted = file.with_ids(|table| table.inspect(|entry| ids.add(*entry)).is_sorted())?;
    if !sorted {
        return Err(file.damage(file.header.base, "the footer's ids are not sorted"));
    }
    let sessions = file.session_entries()?;
    if !sessions.is_sorted() {
        return Err(file.damage(file.header.base, "the footer's sessions are not sorted"));
    }
    Ok(Footers {
        list: file.blocks()?,
        changes: changes
            .into_iter()
            .map(|change| (change.first, change))
            .collect(),
        sessions,
        ids,
        controls: file.controls()?,
        ledger: file.ledger()?,
        keys: Keys::of(file.header.store),
        file: file.clone(),
        earlier,
        misses_some: false,
    })
}

/// Cuts a file's blocks into stretches that are read in one go.
fn stretches(list: &[BlockEntry]) -> Vec<Range<usize>> {
    let (mut all, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (place, entry) in list.iter().enumerate() {
        if place > start && bytes + u64::from(entry.bytes) > STRETCH_BYTES {
            all.push(start..place);
            (start, bytes) = (place, 0);
        }
        bytes += u64::from(entry.bytes);
    }
    if start < list.len() {
        all.push(start..list.len());
    }
    all
}

/// Reads and counts all stretches, on all processors; answers in their order.
fn count_all(
    footers: &[Footers],
    stretches: &[(usize, Range<usize>)],
    progress: &mut dyn FnMut(u64),
) -> io::Result<Vec<Counted>> {
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    let results: Mutex<Vec<Option<io::Result<Counted>>>> =
        Mutex::new(stretches.iter().map(|_| None).collect());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = |tell: &mut dyn FnMut(u64)| {
        let mut counting = Counting::default();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some((file, range)) = stretches.get(place) else {
                return;
            };
            let counted = counting.count(&footers[*file], range.clone(), &done);
            results.lock().unwrap_or_else(PoisonError::into_inner)[place] = Some(counted);
            tell(done.load(Ordering::Relaxed));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(stretches.len()) {
            scope.spawn(|| work(&mut |_| ()));
        }
        work(progress);
    });
    results
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .into_iter()
        .map(|result| result.expect("every stretch was worked on"))
        .collect()
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
        // What a block that is gone said of its requests is gone with it.
        let whole = footer.list.iter().all(|entry| entry.gone.is_none());
        let came_to_nothing = footer.ledger.iter().fold((0, 0), |sum, entry| {
            (sum.0 + entry.duplicates, sum.1 + entry.rejected)
        });
        if whole && came_to_nothing != counted.came_to_nothing {
            wrong.push("the footer's ledger does not add up to what came to nothing".to_owned());
        }
        if counted.ids != footer.ids {
            wrong.push("the footer does not list the ids of the events".to_owned());
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
    if seal.is_lost() {
        return None;
    }
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
