//! Merges small shards of neighbouring segments into one, when nothing else wants to run: every question looks at every shard.
//!
//! What must stay true: the old ones answer until the merged one is whole and synced; then their files go. Merging waits for
//! nobody and nobody for it: it is broken off where something is to be purged, or everything stops.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crate::error::IndexError;
use crate::indexer::Indexer;
use crate::progress::Progress;
use crate::search::SHARD_PATHS_MAX;
use crate::search::shard::Shard;
use eye_log::priority::{IDLE_POLICY, lower_priority};

/// So many events at most are in a merged shard, about as many as in a whole segment: the newest of a phrase are found by way of
/// everything in front of them in their shard (`docs/decisions/shards-of-segments.md`).
const EVENTS_MAX: u64 = 1 << 18;
/// So many columns at most have the shards that are merged, together: one may have a few for each of its paths.
const COLUMNS_MAX: usize = 4 * SHARD_PATHS_MAX;

/// Starts merging neighbours, as long as some are worth it, on a thread of its own, which says whether it failed at none; `None` where
/// none are.
pub(crate) fn start(indexer: &Arc<Indexer>) -> Option<JoinHandle<bool>> {
    let first = worth_merging(indexer)?;
    let indexer = indexer.clone();
    let work = move || {
        lower_priority(IDLE_POLICY);
        let _counted = Counted::begin(&indexer.progress);
        let mut next = Some(first);
        while let Some(run) = next.take() {
            let (first, count) = (run[0].base, run.len());
            match indexer.merge(&run) {
                Ok(true) => {
                    tracing::info!(first, count, "merged small search shards");
                    next = worth_merging(&indexer).filter(|_| !indexer.is_merging_unwanted());
                }
                // Somebody has one of them. They are merged later.
                Ok(false) => {}
                Err(error) if indexer.is_merging_unwanted() => {
                    tracing::debug!(first, %error, "broke off merging search shards");
                }
                Err(error) => {
                    tracing::warn!(first, %error, "cannot merge search shards");
                    return false;
                }
            }
        }
        true
    };
    let thread = Builder::new().name("eye-merging".to_owned()).spawn(work);
    thread
        .inspect_err(|error| tracing::warn!(%error, "no thread to merge search shards"))
        .ok()
}

/// Counts as a shard that waits to be merged.
struct Counted<'p>(&'p Progress);

impl<'p> Counted<'p> {
    fn begin(progress: &'p Progress) -> Self {
        progress.sealing_begins();
        Self(progress)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.sealing_ends();
    }
}

impl Indexer {
    /// Says whether merging has to make way.
    fn is_merging_unwanted(&self) -> bool {
        self.progress.stopping() || self.progress.purging()
    }

    /// Merges sealed neighbours, unless somebody else has one of them; returns whether it did.
    fn merge(self: &Arc<Self>, run: &[Shard]) -> Result<bool, IndexError> {
        let taken: Option<Vec<_>> = run.iter().map(Shard::take).collect();
        let Some(taken) = taken else {
            return Ok(false);
        };
        let indexer = self.clone();
        let stop = move || indexer.is_merging_unwanted();
        self.shards.merge(run, Arc::new(stop))?;
        // Whoever still holds one of the old shards never gets to write it.
        taken.into_iter().for_each(std::mem::forget);
        Ok(true)
    }
}

/// Finds the first neighbours that are worth merging among runs of sealed shards, each of which follows the one before.
fn worth_merging(indexer: &Indexer) -> Option<Vec<Shard>> {
    indexer.shards.sealed().iter().find_map(|run| {
        let sizes: Vec<u64> = run.iter().map(Shard::events).collect();
        let run = &run[worthy(&sizes, indexer.config.merge_neighbours)?];
        let columns: usize = run.iter().map(Shard::columns).sum();
        (columns <= COLUMNS_MAX).then(|| run.to_vec())
    })
}

/// Finds the first of these sizes, neighbours, that are worth merging: so many at least, not too large together, and none as large as all others
/// together, which would be written again for little.
fn worthy(sizes: &[u64], least: usize) -> Option<std::ops::Range<usize>> {
    (0..sizes.len()).find_map(|first| {
        let mut together = 0;
        let fits = sizes[first..].iter().take_while(|size| {
            together += **size;
            together <= EVENTS_MAX
        });
        let range = first..first + fits.count();
        let sizes = &sizes[range.clone()];
        let largest = sizes.iter().copied().max().unwrap_or(0);
        let worth_it = largest > 0 && largest * 2 <= sizes.iter().sum();
        (range.len() >= least && worth_it).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_of_about_one_size_are_worth_merging() {
        let sixteenth = EVENTS_MAX / 16;
        let worthy = |sizes: &[u64]| super::worthy(sizes, 8);
        assert_eq!(worthy(&[]), None);
        assert_eq!(worthy(&[sixteenth; 7]), None);
        assert_eq!(worthy(&[sixteenth; 8]), Some(0..8));
        assert_eq!(worthy(&[sixteenth; 40]), Some(0..16));
        // What was merged is not written again for a few small ones, and no shard grows too large.
        assert_eq!(
            worthy(&[[8 * sixteenth].as_slice(), &[sixteenth; 7]].concat()),
            None
        );
        assert_eq!(
            worthy(&[[8 * sixteenth].as_slice(), &[sixteenth; 8]].concat()),
            Some(0..9)
        );
        assert_eq!(
            worthy(&[[15 * sixteenth].as_slice(), &[sixteenth; 9]].concat()),
            Some(1..10)
        );
        // Shards without an event go with their neighbours.
        assert_eq!(worthy(&[0; 20]), None);
        assert_eq!(worthy(&[0, 0, 0, 3, 3, 0, 0, 0]), Some(0..8));
        assert_eq!(worthy(&[0, 0, 0, 3, 0, 0, 0, 0]), None);
    }
}
