//! All shards of a store, one per log segment.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use eye_log::Offset;

use super::part::Part;
use super::schema::Fields;
use super::shard::Shard;
use crate::error::IndexError;

/// The shards, in log order.
#[derive(Debug)]
pub(crate) struct Shards {
    folder: PathBuf,
    fields: Arc<Fields>,
    shards: RwLock<Vec<Shard>>,
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
        let mut there = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(IndexError::io("listing", folder))? {
            let entry = entry.map_err(IndexError::io("listing", folder))?;
            let base = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<Offset>().ok());
            match base.filter(|base| segments.iter().any(|(segment, _)| segment == base)) {
                Some(base) => there.push(base),
                None if entry.path().is_dir() => {
                    std::fs::remove_dir_all(entry.path())
                        .map_err(IndexError::io("removing", &entry.path()))?;
                }
                // A file is none of ours.
                None => {}
            }
        }
        there.sort_unstable();
        let mut shards = Vec::new();
        for base in there {
            let shard = Shard::open(folder, base, &fields, trusted)?;
            let end = shard.view().end;
            if segments
                .iter()
                .any(|(segment, segment_end)| *segment == base && end <= *segment_end)
            {
                shards.push(shard);
            } else {
                tracing::warn!(
                    base,
                    end,
                    "a search shard knows of more than the log holds; it is built again"
                );
                drop(shard);
                let stale = Shard::folder_of(folder, base);
                std::fs::remove_dir_all(&stale).map_err(IndexError::io("removing", &stale))?;
                shards.push(Shard::open(folder, base, &fields, false)?);
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            fields,
            shards: RwLock::new(shards),
        })
    }

    /// Returns the fields of every shard.
    pub(crate) fn fields(&self) -> &Arc<Fields> {
        &self.fields
    }

    /// Returns the shard of the segment at `base`, begun if there is none.
    pub(crate) fn get(&self, base: Offset) -> Result<Shard, IndexError> {
        let mut shards = self.shards.write().unwrap_or_else(PoisonError::into_inner);
        match shards.binary_search_by_key(&base, |shard| shard.base) {
            Ok(place) => Ok(shards[place].clone()),
            Err(place) => {
                let shard = Shard::open(&self.folder, base, &self.fields, true)?;
                shards.insert(place, shard.clone());
                Ok(shard)
            }
        }
    }

    /// Opens the shard of the segment at `base` anew, as of its last commit; one that cannot be opened is begun again.
    pub(crate) fn reopen(&self, base: Offset) -> Result<(), IndexError> {
        let mut shards = self.shards.write().unwrap_or_else(PoisonError::into_inner);
        if let Ok(place) = shards.binary_search_by_key(&base, |shard| shard.base) {
            // Readers keep the old one until the new one is there.
            let taken = shards[place].taken();
            shards[place] = Shard::open(&self.folder, base, &self.fields, true)?.with_taken(taken);
        }
        Ok(())
    }

    /// Returns one past the last offset below which everything can be searched, given where the log's segments begin.
    pub(crate) fn through(&self, bases: &[Offset]) -> Offset {
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
        let mut through = bases.first().copied().unwrap_or(0);
        for (place, base) in bases.iter().enumerate() {
            let Ok(found) = shards.binary_search_by_key(base, |shard| shard.base) else {
                break;
            };
            through = shards[found].view().end;
            if bases.get(place + 1).is_none_or(|next| through < *next) {
                break;
            }
        }
        through
    }

    /// Returns everything that can be searched now.
    pub(crate) fn parts(&self) -> Vec<Arc<Part>> {
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
        shards
            .iter()
            .flat_map(|shard| shard.view().parts.clone())
            .collect()
    }
}
