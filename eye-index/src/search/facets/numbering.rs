//! The strings of fields, each with one number in all parts, so that what was counted in parts is added up without their dictionaries.
//!
//! What must stay true: an answer is the same with it and without. What it holds is bounded, and forgotten once events were purged.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use foldhash::fast::RandomState;
use indexmap::IndexSet;
use tantivy::columnar::BytesColumn;
use tantivy::index::SegmentId;

use crate::error::SearchError;
use crate::search::part::Part;

/// What the numberings of all fields take at most.
const HELD_MAX_BYTES: usize = 8 << 20;
/// What a string takes beside its bytes: a pointer with a length, a hash, a place in a table half empty, the allocator's share.
const STRING_BYTES: usize = 48;
/// What a field takes beside its strings and numbers.
const FIELD_BYTES: usize = 512;

/// How often the strings of a part's dictionary were counted, by their places in it.
pub(super) struct PartStrings {
    pub(super) part: Arc<Part>,
    pub(super) column: BytesColumn,
    pub(super) counts: Vec<u32>,
}

/// The numberings of the fields that were asked for last.
pub(crate) struct Numberings {
    held: Mutex<Held>,
}

struct Held {
    fields: HashMap<String, Numbering>,
    max_bytes: usize,
    /// How often a numbering was asked for.
    asked: u64,
}

/// The numbers of a field's strings.
#[derive(Default)]
struct Numbering {
    strings: IndexSet<Box<[u8]>, RandomState>,
    /// Of every string in a part's dictionary.
    parts: HashMap<SegmentId, (Weak<Part>, Vec<u32>)>,
    bytes: usize,
    asked: u64,
    /// Dictionaries with so many strings together held too many.
    too_many: Option<usize>,
}

impl Default for Numberings {
    fn default() -> Self {
        Self::bounded(HELD_MAX_BYTES)
    }
}

impl Numberings {
    /// Holds no more than `max_bytes`.
    pub(crate) fn bounded(max_bytes: usize) -> Self {
        Self {
            held: Mutex::new(Held {
                fields: HashMap::new(),
                max_bytes,
                asked: 0,
            }),
        }
    }

    /// Hands every string of a field that was counted in parts or in `more` to `see`, once and in no order, with how often it was
    /// counted in all. Returns false, and does nothing, where there are too many strings.
    pub(super) fn add_up(
        &self,
        field: &str,
        parts: &[PartStrings],
        more: &BTreeMap<String, u64>,
        mut see: impl FnMut(&[u8], u64),
    ) -> Result<bool, SearchError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(numbering) = held.numbering(field, parts)? else {
            return Ok(false);
        };
        let mut sums = vec![0u64; numbering.strings.len()];
        for part in parts {
            let numbers = numbering.parts.get(&part.part.id());
            let numbers = numbers.map_or(&[][..], |(_, numbers)| numbers);
            for (number, count) in numbers.iter().zip(&part.counts) {
                sums[*number as usize] += u64::from(*count);
            }
        }
        for (text, count) in more {
            match numbering.strings.get_index_of(text.as_bytes()) {
                Some(number) => sums[number] += count,
                None => see(text.as_bytes(), *count),
            }
        }
        for (string, sum) in numbering.strings.iter().zip(sums) {
            if sum > 0 {
                see(string, sum);
            }
        }
        Ok(true)
    }

    /// Forgets all of them.
    pub(crate) fn forget(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.fields = HashMap::new();
    }
}

impl Held {
    /// Returns the numbering of a field with all strings of these parts in it; `None` where those are too many.
    fn numbering(
        &mut self,
        field: &str,
        parts: &[PartStrings],
    ) -> Result<Option<&Numbering>, SearchError> {
        if parts.is_empty() {
            return Ok(None);
        }
        self.asked += 1;
        let all = parts.iter().map(|part| part.counts.len()).sum();
        let max_bytes = self.max_bytes;
        let numbering = self.fields.entry(field.to_owned()).or_default();
        numbering.asked = self.asked;
        if numbering.too_many.is_some_and(|too_many| all >= too_many) {
            return Ok(None);
        }
        if !numbering.take_in(parts, max_bytes)? {
            // Strings of parts that are gone may have been what was too much.
            *numbering = Numbering::default();
            let fits = numbering.take_in(parts, max_bytes)?;
            if !fits {
                *numbering = Numbering::default();
                numbering.bytes = FIELD_BYTES;
                numbering.too_many = Some(all);
            }
            numbering.asked = self.asked;
            if !fits {
                return Ok(None);
            }
        }
        self.make_room();
        Ok(self.fields.get(field))
    }

    /// Lets go of the fields that were not asked for the longest.
    fn make_room(&mut self) {
        let mut bytes: usize = self.fields.values().map(|numbering| numbering.bytes).sum();
        while bytes > self.max_bytes {
            let oldest = self.fields.iter().min_by_key(|(_, field)| field.asked);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else {
                return;
            };
            bytes -= self.fields.remove(&oldest).map_or(0, |field| field.bytes);
        }
    }
}

impl Numbering {
    /// Gives a number to every string of these parts that has none. Returns false where that takes too much.
    fn take_in(&mut self, parts: &[PartStrings], max_bytes: usize) -> Result<bool, SearchError> {
        let mut freed = 0;
        self.parts.retain(|_, (part, numbers)| {
            let is_there = part.strong_count() > 0;
            freed += if is_there {
                0
            } else {
                size_of_val(&numbers[..])
            };
            is_there
        });
        self.bytes = (self.bytes - freed).max(FIELD_BYTES);
        for PartStrings { part, column, .. } in parts {
            if self.parts.contains_key(&part.id()) {
                continue;
            }
            let mut numbers = Vec::with_capacity(column.num_terms());
            self.bytes += numbers.capacity() * size_of::<u32>();
            let mut strings = column.dictionary().stream()?;
            while strings.advance() {
                let string = strings.key();
                let number = match self.strings.get_index_of(string) {
                    Some(number) => number,
                    None => {
                        self.bytes += STRING_BYTES + string.len();
                        self.strings.insert_full(string.into()).0
                    }
                };
                if self.bytes > max_bytes {
                    return Ok(false);
                }
                numbers.push(u32::try_from(number).unwrap_or(u32::MAX));
            }
            self.parts
                .insert(part.id(), (Arc::downgrade(part), numbers));
        }
        Ok(true)
    }
}

#[cfg(test)]
impl Numberings {
    /// Returns how many fields have numbers now.
    pub(crate) fn numbered(&self) -> usize {
        let held = self.held.lock().expect("nothing panics with it");
        let numbered = |field: &&Numbering| field.too_many.is_none();
        held.fields.values().filter(numbered).count()
    }

    /// Says whether what is held keeps within the bound, as reckoned anew.
    pub(crate) fn is_bounded(&self) -> bool {
        let held = self.held.lock().expect("nothing panics with it");
        let bytes = held.fields.values().map(|field| {
            let strings = field
                .strings
                .iter()
                .map(|string| STRING_BYTES + string.len());
            let numbers = field.parts.values().map(|(_, numbers)| numbers.len() * 4);
            strings.chain(numbers).sum::<usize>()
        });
        bytes.sum::<usize>() <= held.max_bytes
    }
}
