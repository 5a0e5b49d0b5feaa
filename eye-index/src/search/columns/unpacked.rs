//! Strings of columns, kept as they are once they were unpacked: a dictionary packs about a hundred together, and a question for one value
//! may have to look at hundreds of others.
//!
//! What must stay true: an answer is the same with it and without. What it holds is bounded, and forgotten once events were purged.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tantivy::columnar::StrColumn;
use tantivy::index::SegmentId;

/// What is held takes so much at most.
const HELD_MAX_BYTES: usize = 16 << 20;
/// Of a dictionary larger than this, packed, nothing is held: one question would drive out all others, and few ask for a value twice.
const DICTIONARY_MAX_BYTES: u64 = 1 << 20;
/// So many strings that follow one another in a dictionary are unpacked and kept together.
const PAGE_STRINGS: u64 = 128;
/// What a page takes beside its strings, and a column beside its pages: pointers, lengths, their places in tables half empty.
const PAGE_BYTES: usize = 128;
const COLUMN_BYTES: usize = 512;

/// The strings of the columns that were asked for last.
pub(crate) struct Unpacked {
    held: Mutex<Held>,
    dictionary_max_bytes: u64,
}

struct Held {
    columns: HashMap<(SegmentId, String), Pages>,
    bytes: usize,
    max_bytes: usize,
    /// How often strings were asked for.
    asked: u64,
}

/// What is held of a column.
#[derive(Default)]
struct Pages {
    pages: HashMap<u64, Arc<Page>>,
    bytes: usize,
    asked: u64,
}

/// Some strings of a dictionary, in its order.
#[derive(Default)]
struct Page {
    strings: Vec<u8>,
    /// Where each ends.
    ends: Vec<u32>,
}

impl std::fmt::Debug for Unpacked {
    /// Without the strings: they are people's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacked").finish_non_exhaustive()
    }
}

impl Default for Unpacked {
    fn default() -> Self {
        Self::bounded(HELD_MAX_BYTES, DICTIONARY_MAX_BYTES)
    }
}

impl Unpacked {
    /// Holds no more than `max_bytes`, and nothing of a dictionary that takes more than `dictionary_max_bytes`, packed.
    pub(crate) fn bounded(max_bytes: usize, dictionary_max_bytes: u64) -> Self {
        Self {
            held: Mutex::new(Held {
                columns: HashMap::new(),
                bytes: 0,
                max_bytes,
                asked: 0,
            }),
            dictionary_max_bytes,
        }
    }

    /// Hands strings of a segment's column, by name, to `see` with their places in the dictionary: those at `ords`, which ascend. Strings
    /// that the dictionary does not have are left out.
    pub(crate) fn each(
        &self,
        segment: SegmentId,
        name: &str,
        column: &StrColumn,
        ords: &[u64],
        mut see: impl FnMut(u64, &[u8]),
    ) -> io::Result<()> {
        let dictionary = column.dictionary();
        if dictionary.num_bytes().get_bytes() > self.dictionary_max_bytes {
            let mut at = ords.iter();
            dictionary.sorted_ords_to_term_cb(ords, |string| {
                if let Some(ord) = at.next() {
                    see(*ord, string);
                }
            })?;
            return Ok(());
        }
        let mut wanted: Vec<u64> = ords.iter().map(|ord| ord / PAGE_STRINGS).collect();
        wanted.dedup();
        let mut pages = self.known(segment, name, &wanted);
        let missing = wanted.iter().zip(&pages).filter(|(_, page)| page.is_none());
        let missing: Vec<u64> = missing.map(|(number, _)| *number).collect();
        if !missing.is_empty() {
            let unpacked = unpack(column, &missing)?;
            let unknown = pages.iter_mut().filter(|page| page.is_none());
            for (page, unpacked) in unknown.zip(&unpacked) {
                *page = Some(unpacked.clone());
            }
            self.keep(segment, name, missing.into_iter().zip(unpacked));
        }
        let of_pages = ords.chunk_by(|a, b| a / PAGE_STRINGS == b / PAGE_STRINGS);
        for (ords, page) in of_pages.zip(pages.iter().flatten()) {
            for ord in ords {
                if let Some(string) = page.string(ord % PAGE_STRINGS) {
                    see(*ord, string);
                }
            }
        }
        Ok(())
    }

    /// Forgets all of them.
    pub(crate) fn forget(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.columns = HashMap::new();
        held.bytes = 0;
    }

    fn known(&self, segment: SegmentId, name: &str, wanted: &[u64]) -> Vec<Option<Arc<Page>>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.asked += 1;
        let asked = held.asked;
        let Some(column) = held.columns.get_mut(&(segment, name.to_owned())) else {
            return vec![None; wanted.len()];
        };
        column.asked = asked;
        let page = |number| column.pages.get(number).cloned();
        wanted.iter().map(page).collect()
    }

    /// Keeps pages of a column, and lets go of the columns that were not asked for the longest where that is too much.
    fn keep(&self, segment: SegmentId, name: &str, pages: impl Iterator<Item = (u64, Arc<Page>)>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = &mut *held;
        let column = held.columns.entry((segment, name.to_owned()));
        let column = column.or_insert_with(|| {
            held.bytes += COLUMN_BYTES;
            Pages {
                bytes: COLUMN_BYTES,
                ..Pages::default()
            }
        });
        column.asked = held.asked;
        for (number, page) in pages {
            let bytes = page.bytes();
            if column.pages.insert(number, page).is_none() {
                column.bytes += bytes;
                held.bytes += bytes;
            }
        }
        while held.bytes > held.max_bytes {
            let oldest = held.columns.iter().min_by_key(|(_, column)| column.asked);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            held.bytes -= held
                .columns
                .remove(&oldest)
                .map_or(0, |column| column.bytes);
        }
    }
}

impl Page {
    fn string(&self, place: u64) -> Option<&[u8]> {
        let place = usize::try_from(place).ok()?;
        let start = match place.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        let end = *self.ends.get(place)?;
        self.strings.get(start as usize..end as usize)
    }

    fn bytes(&self) -> usize {
        PAGE_BYTES + self.strings.capacity() + self.ends.capacity() * size_of::<u32>()
    }
}

/// Unpacks pages of a column whose numbers ascend.
fn unpack(column: &StrColumn, numbers: &[u64]) -> io::Result<Vec<Arc<Page>>> {
    let all = column.num_terms() as u64;
    let of_page = |number: u64| {
        let start = number.saturating_mul(PAGE_STRINGS).min(all);
        start..start.saturating_add(PAGE_STRINGS).min(all)
    };
    let ords: Vec<u64> = numbers.iter().copied().flat_map(of_page).collect();
    let mut pages: Vec<Page> = numbers.iter().map(|_| Page::default()).collect();
    let (mut at, mut ord) = (0, ords.iter());
    let dictionary = column.dictionary();
    dictionary.sorted_ords_to_term_cb(&ords, |string| {
        let Some(ord) = ord.next() else { return };
        while numbers
            .get(at)
            .is_some_and(|number| of_page(*number).end <= *ord)
        {
            at += 1;
        }
        if let Some(page) = pages.get_mut(at) {
            page.strings.extend_from_slice(string);
            page.ends
                .push(u32::try_from(page.strings.len()).unwrap_or(u32::MAX));
        }
    })?;
    let close = |mut page: Page| {
        page.strings.shrink_to_fit();
        page.ends.shrink_to_fit();
        Arc::new(page)
    };
    Ok(pages.into_iter().map(close).collect())
}

#[cfg(test)]
impl Unpacked {
    /// Returns how many bytes are held, as reckoned anew.
    pub(crate) fn held_bytes(&self) -> usize {
        let held = self.held.lock().expect("nothing panics with it");
        let columns = held.columns.values();
        let bytes = columns.map(|column| {
            let pages = column.pages.values().map(|page| page.bytes());
            COLUMN_BYTES + pages.sum::<usize>()
        });
        let bytes = bytes.sum();
        assert_eq!(held.bytes, bytes);
        assert!(bytes <= held.max_bytes);
        bytes
    }
}
