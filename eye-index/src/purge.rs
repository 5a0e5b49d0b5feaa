//! Makes anew what knows of events that are to leave no trace: shards from the log, the catalog from itself.
//!
//! What must stay true: the old ones answer until the new ones are whole and synced; then their files go. tantivy and
//! sled both keep deleted values in their files, so nothing less would do.

use std::time::Duration;

use eye_log::{Offset, OffsetRanges};

use crate::error::IndexError;
use crate::indexer::Indexer;
use crate::search::shard::{Shard, Taken};

/// How long to wait before looking again whether a shard is free.
const LOOKING: Duration = Duration::from_millis(20);

/// What a purge did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many shards were made anew.
    pub shards: usize,
    /// How many segments' shards were looked at in all.
    pub segments: usize,
}

impl Indexer {
    /// Makes every shard anew whose segment touches `gone`, and the catalog.
    pub(crate) fn purge(&self, gone: &OffsetRanges) -> Result<Purged, IndexError> {
        let mut purged = Purged::default();
        if gone.is_empty() {
            return Ok(purged);
        }
        let _purging = self.progress.purge();
        self.shards.remove_strays()?;
        let bases = self.reader.segment_bases();
        let ends = bases.iter().copied().skip(1).map(Some).chain([None]);
        let mut through = 0;
        for (base, end) in bases.iter().copied().zip(ends) {
            purged.segments += 1;
            // A shard that has several segments is made anew once.
            if base < through || !gone.touches(&(base..end.unwrap_or(Offset::MAX))) {
                continue;
            }
            let Some(end) = end else {
                return Err(IndexError::Shard(format!(
                    "the segment at {base} is still being written; what is in it cannot be purged"
                )));
            };
            through = self.purge_shard(base, end)?;
            purged.shards += 1;
        }
        self.catalog
            .rewrite_without(gone, &|| self.progress.stopping())?;
        Ok(purged)
    }

    /// Makes the shard anew that has the segment from `base` to `end`; returns its end.
    fn purge_shard(&self, base: Offset, end: Offset) -> Result<Offset, IndexError> {
        let (old, taken) = self.take_shard(base, end)?;
        let end = old.view().end;
        let new = self.shards.begin_anew(&old)?;
        let built = || {
            let mut writer = new
                .writer()?
                .expect("nobody else knows of a generation that was just begun");
            if !self.fill_shard(&mut writer, end)? {
                return Err(IndexError::Shard(
                    "stopped while it was made anew".to_owned(),
                ));
            }
            writer.seal().map(drop)
        };
        if let Err(error) = built() {
            // What is left of it goes at the next start if not now.
            let _ = new.remove();
            return Err(error);
        }
        self.shards.exchange(new)?;
        // Whoever still holds the old shard never gets to write it.
        std::mem::forget(taken);
        self.publish_search();
        Ok(end)
    }

    /// Waits until nothing of a closed segment is on its way into an index, and nobody writes its shard any more.
    fn take_shard(&self, base: Offset, end: Offset) -> Result<(Shard, Taken), IndexError> {
        loop {
            let shard = self.shards.get(base)?;
            let through = shard.view().end;
            if through >= end && self.catalog.end() >= through {
                // The sealing thread may be long in coming to it, and what it would make is not wanted.
                drop(self.to_seal.withdraw(base, &self.progress));
                if let Some(taken) = shard.take() {
                    return Ok((shard, taken));
                }
            }
            if self.progress.stopping() {
                return Err(IndexError::Shard(
                    "stopped while it was waited for".to_owned(),
                ));
            }
            self.progress.pause(LOOKING);
        }
    }
}

#[cfg(test)]
mod tests;
