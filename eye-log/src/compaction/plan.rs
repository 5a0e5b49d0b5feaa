//! Which files are rewritten, and which of them together.

use std::sync::Arc;

use crate::error::ReadError;
use crate::format::SEGMENT_RECORDS_MAX;
use crate::format::sealed_footer::Part;
use crate::ranges::OffsetRanges;
use crate::retention::Cutoffs;
use crate::sealed::SealedFile;

/// Files merge up to this length.
const MERGED_MAX_BYTES: u64 = 1 << 30;
/// … and as long as their tables, which are in memory while they merge, have no more than this together. Bytes.
const MERGED_TABLES_MAX_BYTES: usize = 8 << 20;
/// Few files merge only where none of them makes up more than half of the whole: else it would be copied again and
/// again for every small one that joins it.
const FEW: usize = 4;

/// Neighbouring files that become one.
pub(super) struct Unit {
    pub(super) files: Vec<Arc<SealedFile>>,
    /// Whether events in them may have to go.
    pub(super) loses: bool,
}

impl Unit {
    /// Returns the bytes of its files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.file_bytes).sum()
    }

    fn records(&self) -> u64 {
        self.files
            .iter()
            .map(|file| file.header.end - file.header.base)
            .sum()
    }

    fn table_bytes(&self) -> usize {
        let tables = |file: &Arc<SealedFile>| {
            let of = |part: Part| file.trailer.count(part) * part.entry_bytes();
            of(Part::Blocks) + of(Part::Sessions) + of(Part::Ids)
        };
        self.files.iter().map(tables).sum()
    }

    fn is_worth_it(&self) -> bool {
        let largest = self
            .files
            .iter()
            .map(|file| file.file_bytes)
            .max()
            .unwrap_or(0);
        self.loses
            || self.files.len() >= FEW
            || (self.files.len() > 1 && largest <= self.bytes() / 2)
    }
}

/// Returns what is to be rewritten, in order: files that lose events, and small ones that lie side by side.
pub(super) fn units(
    files: &[Arc<SealedFile>],
    hidden: &OffsetRanges,
    cutoffs: &Cutoffs,
) -> Result<Vec<Unit>, ReadError> {
    let mut units: Vec<Unit> = Vec::new();
    for file in files {
        let loses = hidden.touches(&file.range()) || expires(file, cutoffs)?;
        let one = Unit {
            files: vec![file.clone()],
            loses,
        };
        match units.last_mut() {
            // A damaged file lies between files that do not follow one another.
            Some(unit)
                if unit
                    .files
                    .last()
                    .is_some_and(|last| last.header.end == file.header.base)
                    && unit.bytes() + one.bytes() <= MERGED_MAX_BYTES
                    && unit.records() + one.records() <= SEGMENT_RECORDS_MAX
                    && unit.table_bytes() + one.table_bytes() <= MERGED_TABLES_MAX_BYTES =>
            {
                unit.files.push(file.clone());
                unit.loses |= loses;
            }
            _ => units.push(one),
        }
    }
    Ok(units.into_iter().filter(Unit::is_worth_it).collect())
}

fn expires(file: &SealedFile, cutoffs: &Cutoffs) -> Result<bool, ReadError> {
    if cutoffs.is_empty() {
        return Ok(false);
    }
    let ledger = file.ledger()?;
    Ok(ledger.iter().any(|entry| {
        entry.kept() > 0
            && cutoffs
                .get(&entry.application)
                .is_some_and(|hour| entry.hour < *hour)
    }))
}
