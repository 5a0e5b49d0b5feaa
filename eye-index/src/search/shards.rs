//! All shards of a store: one per log segment, or per several neighbours whose shards were merged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use eye_log::Offset;

use super::directory::Stop;
use super::part::Parts;
use super::schema::Fields;
use super::shard::Shard;
use crate::error::IndexError;

/// The shards, in log order.
#[derive(Debug)]
pub(crate) struct Shards {
    folder: PathBuf,
    fields: Arc<Fields>,
    /// Every question takes it, so nothing slow is done while it is held for writing.
    shards: RwLock<Vec<Shard>>,
    /// Held by whoever opens or exchanges one, which may take as long as the disk likes.
    opening: Mutex<()>,
    /// Held while some are merged, whose folder nobody knows yet.
    merging: Mutex<()>,
}

impl Shards {
    /// Opens the shards of the log's segments, given by their first offsets and ends; others are removed, and so are
    /// those that know of more than the log. `trusted` says whether shards that were not synced can be used.
    pub(crate) fn open(
        folder: &Path,
        fields: Arc<Fields>,
        segments: &[(Offset, Offset)],
        trusted: bool,
    ) -> Result<Self, IndexError> {
        std::fs::create_dir_all(folder).map_err(IndexError::io("making", folder))?;
        let mut there: BTreeMap<Offset, Vec<u32>> = BTreeMap::new();
        for entry in std::fs::read_dir(folder).map_err(IndexError::io("listing", folder))? {
            let entry = entry.map_err(IndexError::io("listing", folder))?;
            let place = entry.file_name().to_str().and_then(Shard::of_name);
            match place.filter(|(base, _)| segments.iter().any(|(segment, _)| segment == base)) {
                Some((base, generation)) => there.entry(base).or_default().push(generation),
                None if entry.path().is_dir() => remove(&entry.path())?,
                // A file is none of ours.
                None => {}
            }
        }
        let log_end = segments.last().map_or(0, |(_, end)| *end);
        let mut shards: Vec<Shard> = Vec::new();
        for (base, mut generations) in there {
            // What was merged into the one before, and was not removed yet.
            if covering(&shards, base).is_some() {
                for generation in generations {
                    remove(&Shard::folder_of(folder, base, generation))?;
                }
                continue;
            }
            // A new generation is sealed before it counts, and the old one goes then.
            generations.sort_unstable();
            let sealed = generations.iter().rev().find(|generation| {
                Shard::is_sealed_in(&Shard::folder_of(folder, base, **generation))
            });
            let generation = sealed.or(generations.first()).copied().unwrap_or(0);
            for other in generations.iter().filter(|other| **other != generation) {
                remove(&Shard::folder_of(folder, base, *other))?;
            }
            let shard = Shard::open(folder, (base, generation), &fields, trusted)?;
            let end = shard.view().end;
            let own_end = segments.iter().find(|(segment, _)| *segment == base);
            let merged = shard.is_sealed() && segments.iter().any(|(_, other)| *other == end);
            if end <= log_end && (merged || own_end.is_some_and(|(_, own)| end <= *own)) {
                shards.push(shard);
            } else {
                tracing::warn!(
                    base,
                    end,
                    "a search shard knows of more than the log holds; it is built again"
                );
                shard.remove()?;
                shards.push(Shard::open(folder, (base, generation), &fields, false)?);
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            fields,
            shards: RwLock::new(shards),
            opening: Mutex::default(),
            merging: Mutex::default(),
        })
    }

    /// Returns the fields of every shard.
    pub(crate) fn fields(&self) -> &Arc<Fields> {
        &self.fields
    }

    /// Returns the shard that has the segment at `base`, begun if there is none.
    pub(crate) fn get(&self, base: Offset) -> Result<Shard, IndexError> {
        if let Some(shard) = self.known(base) {
            return Ok(shard);
        }
        let _alone = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shard) = self.known(base) {
            return Ok(shard);
        }
        let shard = Shard::open(&self.folder, (base, 0), &self.fields, true)?;
        let mut shards = self.shards.write().unwrap_or_else(PoisonError::into_inner);
        let place = shards.partition_point(|other| other.base < base);
        shards.insert(place, shard.clone());
        Ok(shard)
    }

    fn known(&self, base: Offset) -> Option<Shard> {
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
        covering(&shards, base).cloned()
    }

    /// Returns the shards that are sealed, in runs of neighbours.
    pub(crate) fn sealed(&self) -> Vec<Vec<Shard>> {
        let shards = {
            let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
            shards.clone()
        };
        let follows = |before: &Shard, shard: &Shard| {
            before.is_sealed() && shard.is_sealed() && before.view().end == shard.base
        };
        shards.chunk_by(follows).map(<[_]>::to_vec).collect()
    }

    /// Merges sealed neighbours into one that takes their place, until `stop`.
    pub(crate) fn merge(&self, run: &[Shard], stop: Stop) -> Result<(), IndexError> {
        let _alone = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        match Shard::merged(&self.folder, run, stop) {
            Ok(merged) => self.exchange(merged),
            Err(error) => {
                // What is left of it goes with the next purge or start if not now.
                let left = run[0].generation.wrapping_add(1);
                let _ = remove(&Shard::folder_of(&self.folder, run[0].base, left));
                Err(error)
            }
        }
    }

    /// Removes what is left of shards that were merged or made anew, where that failed before: it may know of what is to leave no trace.
    /// To be called while nobody makes one anew; waits for who merges.
    pub(crate) fn remove_strays(&self) -> Result<(), IndexError> {
        let _nobody_merges = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let _alone = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let known: Vec<(Offset, u32)> = {
            let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
            let places = shards.iter().map(|shard| (shard.base, shard.generation));
            places.collect()
        };
        let entries = std::fs::read_dir(&self.folder);
        for entry in entries.map_err(IndexError::io("listing", &self.folder))? {
            let entry = entry.map_err(IndexError::io("listing", &self.folder))?;
            let place = entry.file_name().to_str().and_then(Shard::of_name);
            if place.is_some_and(|place| !known.contains(&place)) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Opens the shard of the segment at `base` anew, as of its last commit; one that cannot be opened is begun again.
    pub(crate) fn reopen(&self, base: Offset) -> Result<(), IndexError> {
        let _alone = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = self.known(base) else {
            return Ok(());
        };
        // Readers keep the old one until the new one is there.
        let opened = Shard::open(&self.folder, (base, known.generation), &self.fields, true)?;
        let opened = opened.with_taken(known.taken());
        let mut shards = self.shards.write().unwrap_or_else(PoisonError::into_inner);
        if let Ok(place) = shards.binary_search_by_key(&base, |shard| shard.base) {
            shards[place] = opened;
        }
        Ok(())
    }

    /// Begins the generation after `shard`'s, beside it; nobody sees it yet.
    pub(crate) fn begin_anew(&self, shard: &Shard) -> Result<Shard, IndexError> {
        let place = (shard.base, shard.generation.wrapping_add(1));
        let left = Shard::folder_of(&self.folder, place.0, place.1);
        if left.is_dir() {
            remove(&left)?;
        }
        Shard::open(&self.folder, place, &self.fields, false)
    }

    /// Puts a sealed shard in the place of those of its range, whose files go; whoever reads those goes on.
    pub(crate) fn exchange(&self, new: Shard) -> Result<(), IndexError> {
        let _alone = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let old: Vec<Shard> = {
            let mut shards = self.shards.write().unwrap_or_else(PoisonError::into_inner);
            let end = new.view().end;
            let first = shards.partition_point(|shard| shard.base < new.base);
            let behind = shards.partition_point(|shard| shard.base <= new.base || shard.base < end);
            shards.splice(first..behind, [new]).collect()
        };
        // Each, whatever becomes of the others.
        let removed: Vec<_> = old.iter().map(Shard::remove).collect();
        removed.into_iter().collect()
    }

    /// Returns one past the last offset below which everything can be searched, given where the log's segments begin.
    pub(crate) fn through(&self, bases: &[Offset]) -> Offset {
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
        let mut through = bases.first().copied().unwrap_or(0);
        for (place, base) in bases.iter().enumerate() {
            let Some(shard) = covering(&shards, *base) else {
                break;
            };
            through = shard.view().end;
            if bases.get(place + 1).is_none_or(|next| through < *next) {
                break;
            }
        }
        through
    }

    /// Returns everything that can be searched now.
    pub(crate) fn parts(&self) -> Parts {
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
        shards
            .iter()
            .flat_map(|shard| shard.view().parts.clone())
            .collect()
    }
}

/// Finds the shard that has the segment at `base`, among shards in log order.
fn covering(shards: &[Shard], base: Offset) -> Option<&Shard> {
    let behind = shards.partition_point(|shard| shard.base <= base);
    let shard = &shards[behind.checked_sub(1)?];
    (shard.base == base || shard.view().end > base).then_some(shard)
}

fn remove(folder: &Path) -> Result<(), IndexError> {
    std::fs::remove_dir_all(folder).map_err(IndexError::io("removing", folder))
}
