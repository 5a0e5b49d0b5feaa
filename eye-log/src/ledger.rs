//! What arrived and what became of it, counted: the sums of all footers' ledgers, of what is not sealed yet, and of what is
//! not written yet.
//!
//! What must stay true: every event that is stored is counted once, and every one that is refused or was there already; a
//! range of hours asks only for what arrived in it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{AppendError, ReadError};
use crate::format::frame::{FrameHeader, Table};
use crate::format::payload;
use crate::format::sealed_footer::LedgerEntry;
use crate::log::{Log, Shared};
use crate::offset::Offset;
use crate::pieces::Piece;
use crate::ranges::OffsetRanges;
use crate::reader::{Lookup, Reader};
use crate::record::{Note, Record, TallyRecord};
use crate::registry::ApplicationId;
use crate::retention::hour_of;
use crate::segment::Segment;
use crate::segment::walk::{Step, Walk};

/// Stands in a ledger for requests of which nobody knows whose they are; they count as rejected there.
pub(crate) const NOBODY: ApplicationId = ApplicationId(u32::MAX);

/// Ledger entries by hour of arrival and application.
pub(crate) type Entries = BTreeMap<(u32, ApplicationId), LedgerEntry>;

/// Returns the entry of an hour and application.
pub(crate) fn entry_of(
    entries: &mut Entries,
    hour: u32,
    application: ApplicationId,
) -> &mut LedgerEntry {
    entries
        .entry((hour, application))
        .or_insert_with(|| LedgerEntry {
            hour,
            application,
            ..LedgerEntry::default()
        })
}

/// Adds what a tally says to the entry of its hour.
pub(crate) fn add_tally(entry: &mut LedgerEntry, tally: &TallyRecord) {
    entry.duplicates += tally.duplicates;
    entry.rejected += tally.rejected + tally.unauthenticated;
}

/// What became of the events of an application, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    /// Events that were stored.
    pub stored: u64,
    /// Events that were there already.
    pub duplicates: u64,
    /// Events that were refused.
    pub rejected: u64,
    /// Of those stored: how many were erased, or are to be and are hidden.
    pub erased: u64,
    /// Of those stored: how many expired.
    pub expired: u64,
    /// Of those stored: how many were lost to damage.
    pub lost: u64,
}

/// The ledger of a range of hours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// One past the last record that is counted.
    pub end: Offset,
    /// What became of each application's events.
    pub applications: BTreeMap<ApplicationId, Balance>,
    /// Requests without a token that holds.
    pub unauthenticated: u64,
}

/// Counts of requests that stored nothing and are in no record yet.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: Mutex<BTreeMap<ApplicationId, TallyRecord>>,
    /// Held while counts are on their way into records, and by whoever adds up both.
    on_the_way: Mutex<()>,
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ApplicationId, TallyRecord>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self) -> MutexGuard<'_, ()> {
        self.on_the_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts events of an application that were there already or refused, or a request of nobody.
    pub(crate) fn count(&self, whose: Option<ApplicationId>, duplicates: u64, rejected: u64) {
        if duplicates == 0 && rejected == 0 {
            return;
        }
        let mut all = self.lock();
        let tally = all.entry(whose.unwrap_or(NOBODY)).or_insert(TallyRecord {
            at: 0,
            application: whose,
            duplicates: 0,
            rejected: 0,
            unauthenticated: 0,
        });
        tally.duplicates += duplicates;
        match whose {
            Some(_) => tally.rejected += rejected,
            None => tally.unauthenticated += rejected,
        }
    }
}

/// What was counted of the files, so that it is counted once.
#[derive(Debug, Default)]
pub(crate) struct Book {
    sealed: HashMap<String, Arc<Vec<LedgerEntry>>>,
    raw: HashMap<Offset, Raw>,
}

/// What was counted of a segment that is not sealed, and where to go on.
#[derive(Debug)]
struct Raw {
    position: u64,
    next_offset: Offset,
    previous: u32,
    entries: Entries,
}

impl Book {
    /// Hands the entries of all files to `see`, up to `end`.
    fn read(
        &mut self,
        pieces: &[Piece],
        end: Offset,
        see: &mut dyn FnMut(&LedgerEntry),
    ) -> Result<(), ReadError> {
        let (mut sealed, mut raw) = (HashMap::new(), HashMap::new());
        for piece in pieces {
            match piece {
                Piece::Sealed(file) => {
                    let entries = match self.sealed.remove(&file.name) {
                        Some(known) => known,
                        None => Arc::new(file.ledger()?),
                    };
                    entries.iter().for_each(&mut *see);
                    sealed.insert(file.name.clone(), entries);
                }
                Piece::Raw(segment) => {
                    let base = segment.header.base;
                    let known = self.raw.remove(&base);
                    let counted = count_on(segment, known, end)?;
                    counted.entries.values().for_each(&mut *see);
                    raw.insert(base, counted);
                }
                Piece::Damaged(_, damage) => {
                    return Err(ReadError::Damaged(damage.as_ref().clone()));
                }
            }
        }
        // Files that are gone are forgotten.
        (self.sealed, self.raw) = (sealed, raw);
        Ok(())
    }
}

/// Counts a segment's frames, from where it was left, as far as they are durable.
fn count_on(segment: &Segment, known: Option<Raw>, end: Offset) -> Result<Raw, ReadError> {
    let mut walk = Walk::new(segment)?;
    let mut entries = Entries::new();
    if let Some(known) = known {
        walk.position = known.position;
        walk.next_offset = known.next_offset;
        walk.previous = known.previous;
        entries = known.entries;
    }
    while walk.next_offset < end {
        let position = walk.position;
        match walk.step()? {
            Step::Frame(header, body) => {
                count_frame(&header, body, segment.header.salt, &mut entries);
            }
            Step::End => break,
            Step::Broken(what) => {
                return Err(ReadError::Damaged(segment.damage(
                    position,
                    segment.header.base,
                    &what,
                )));
            }
        }
    }
    Ok(Raw {
        position: walk.position,
        next_offset: walk.next_offset,
        previous: walk.previous,
        entries,
    })
}

fn count_frame(header: &FrameHeader, body: &[u8], salt: u32, entries: &mut Entries) {
    let Some(table) = Table::of(header, body, salt).filter(|_| header.count > 0) else {
        return;
    };
    let hour = hour_of(header.appended_at);
    let mut counted = false;
    for range in table.ranges() {
        let record = &body[range];
        if let Some(event) = payload::event_head(record) {
            let entry = entry_of(entries, hour, event.application);
            entry.stored += 1;
            // A frame is one request of one application.
            if !std::mem::replace(&mut counted, true) {
                entry.duplicates += u64::from(header.duplicates);
                entry.rejected += u64::from(header.rejected);
            }
        } else if let Ok(Record::Tally(tally)) = payload::decode(record) {
            let entry = entry_of(entries, hour, tally.application.unwrap_or(NOBODY));
            add_tally(entry, &tally);
        }
    }
}

impl Log {
    /// Counts events that came to nothing before they came here: of `application`, there already or refused; or, without one,
    /// requests without a token that holds. On the disk with the next [`Self::write_tally`].
    pub fn count_refused(
        &self,
        application: Option<ApplicationId>,
        duplicates: u64,
        rejected: u64,
    ) {
        self.shared().tally.count(application, duplicates, rejected);
    }

    /// Puts the counts of requests that stored nothing into records. On the disk when this returns. Blocks.
    pub fn write_tally(&self) -> Result<(), AppendError> {
        let _held = self.shared().tally.hold();
        let counted = std::mem::take(&mut *self.shared().tally.lock());
        let mut failed = None;
        for tally in counted.into_values() {
            // Once one was not written, the others wait with it.
            let written = match failed {
                None => self.note(Note::Tally(tally)).map(|_| ()),
                Some(_) => Err(AppendError::Closed),
            };
            if let Err(error) = written {
                failed.get_or_insert(error);
                let rejected = tally.rejected + tally.unauthenticated;
                let tallies = &self.shared().tally;
                tallies.count(tally.application, tally.duplicates, rejected);
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

impl Reader {
    /// Counts what arrived in a range of hours since 1970 and what became of it. What is sealed is summed from the footers, the
    /// rest read through once. Blocks.
    pub fn ledger(&self, hours: Range<u32>) -> Result<Ledger, ReadError> {
        let shared: &Shared = &self.shared;
        let mut book = shared.book.lock().unwrap_or_else(PoisonError::into_inner);
        // What came to nothing is counted in memory or in a record before the end, and never in both.
        let held = shared.tally.hold();
        // What is hidden is counted as erased once: by its file, or here. It is asked first: compaction changes the files before
        // it says that an erasure is done, so that nothing is missed between the two.
        let hidden = shared.erased();
        let pieces = shared.files.pieces();
        let end = self.durable_end();
        let mut ledger = Ledger {
            end,
            ..Ledger::default()
        };
        book.read(&pieces, end, &mut |entry| {
            if hours.contains(&entry.hour) {
                ledger.add(entry);
            }
        })?;
        drop(book);
        let now = hour_of(crate::time::now());
        if hours.contains(&now) {
            for (whose, tally) in shared.tally.lock().iter() {
                let mut entry = LedgerEntry {
                    application: *whose,
                    ..LedgerEntry::default()
                };
                add_tally(&mut entry, tally);
                ledger.add(&entry);
            }
        }
        drop(held);
        let mut look = Lookup::new(pieces, end, Arc::new(OffsetRanges::default()));
        for offset in hidden.iter().flatten() {
            look.event(offset, |event| {
                if hours.contains(&hour_of(event.received_at)) {
                    let balance = ledger.applications.entry(event.application).or_default();
                    balance.erased += 1;
                }
            })?;
        }
        Ok(ledger)
    }
}

impl Ledger {
    fn add(&mut self, entry: &LedgerEntry) {
        if entry.application == NOBODY {
            self.unauthenticated += entry.rejected;
            return;
        }
        let balance = self.applications.entry(entry.application).or_default();
        balance.stored += entry.stored;
        balance.duplicates += entry.duplicates;
        balance.rejected += entry.rejected;
        balance.erased += entry.erased;
        balance.expired += entry.expired;
        balance.lost += entry.lost;
    }
}
