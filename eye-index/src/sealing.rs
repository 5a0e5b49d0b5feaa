//! The thread that merges and seals the shards of closed segments, when nothing else wants to run.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use eye_log::Offset;

use crate::error::IndexError;
use crate::indexer::Indexer;
use crate::merging;
use crate::progress::{Needs, Progress};
use crate::search::shard::Resting;
use eye_log::priority::{IDLE_POLICY, lower_priority};

/// The nice value of the thread that looks after the queue, whose lock others wait for.
const NICE: i32 = 10;
/// Shards that may wait to be sealed while the indexer is behind; a waiting one costs files.
const UNSEALED_MAX: usize = 4;
/// How often to look for neighbours to merge where no shard was sealed: every look asks the file system about each.
const LOOKING: Duration = Duration::from_secs(30);
/// How long to wait after merging has failed: it writes as much again.
const MERGE_RETRY: Duration = Duration::from_secs(600);
/// The indexer counts as behind from so many records on.
const BEHIND: u64 = 20_000;

/// Shards that are complete and wait to be merged and sealed, beside the indexer.
#[derive(Default)]
pub(crate) struct SealQueue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    shards: VecDeque<Resting>,
    closed: bool,
}

impl SealQueue {
    pub(crate) fn push(&self, shard: Resting, progress: &Progress) {
        progress.sealing_begins();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .shards
            .push_back(shard);
        self.changed.notify_all();
    }

    /// Takes back the shard at `base`, if it waits.
    pub(crate) fn withdraw(&self, base: Offset, progress: &Progress) -> Option<Resting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let place = waiting
            .shards
            .iter()
            .position(|resting| resting.shard().base == base)?;
        progress.sealing_ends();
        waiting.shards.remove(place)
    }

    /// Lets the sealing thread end.
    pub(crate) fn close(&self) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closed = true;
        self.changed.notify_all();
    }

    /// Seals what comes, when the indexer is not behind, and has neighbours merged when nothing comes. At the end, what was not
    /// sealed is synced as it is. Returns whether everything was sealed or synced.
    pub(crate) fn run(&self, indexer: &Arc<Indexer>) -> bool {
        lower_priority(NICE);
        let (progress, reader) = (&indexer.progress, &indexer.reader);
        let mut synced = true;
        let mut merging: Option<JoinHandle<bool>> = None;
        // Neighbours are looked for now and then, at once when a shard was sealed, and not for a while after merging has failed.
        let (mut look_from, mut merge_from) = (Instant::now(), Instant::now());
        loop {
            let shard = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                loop {
                    if waiting.closed && waiting.shards.is_empty() {
                        // It is told to stop, and stops soon.
                        drop(waiting);
                        merging.into_iter().for_each(|merging| drop(merging.join()));
                        return synced;
                    }
                    let through = progress.through(Needs::Both);
                    let behind = reader.durable_end().saturating_sub(through) > BEHIND;
                    let pressed = waiting.closed || waiting.shards.len() > UNSEALED_MAX;
                    if !waiting.shards.is_empty() && (!behind || pressed) {
                        break;
                    }
                    if let Some(ended) = merging.take_if(|merging| merging.is_finished())
                        && !ended.join().unwrap_or(false)
                    {
                        merge_from = Instant::now() + MERGE_RETRY;
                    }
                    let free = merging.is_none() && !behind && !waiting.closed;
                    if free && Instant::now() >= look_from.max(merge_from) {
                        drop(waiting);
                        look_from = Instant::now() + LOOKING;
                        merging = merging::start(indexer);
                        waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                        continue;
                    }
                    let pause = Duration::from_millis(100);
                    waiting = self
                        .changed
                        .wait_timeout(waiting, pause)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
                let closed = waiting.closed;
                waiting.shards.pop_front().map(|shard| (shard, closed))
            };
            let Some((shard, closed)) = shard else {
                continue;
            };
            let outcome = if closed {
                shard.sync()
            } else {
                seal_aside(shard)
            };
            if let Err(error) = outcome {
                synced = false;
                // The shard stays as its last commit has it, and is sealed after the next start.
                tracing::warn!(%error, "cannot seal a search shard");
            }
            look_from = Instant::now();
            progress.sealing_ends();
        }
    }
}

/// Seals a shard on a thread that runs when nothing else wants to: merging holds no lock that others wait for.
fn seal_aside(shard: Resting) -> Result<(), IndexError> {
    let work = || {
        lower_priority(IDLE_POLICY);
        shard.seal().map(drop)
    };
    let thread = Builder::new().name("eye-merge".to_owned()).spawn(work);
    let thread = thread.map_err(|error| IndexError::Shard(format!("no thread: {error}")))?;
    let panicked = |_| Err(IndexError::Shard("sealing panicked".to_owned()));
    thread.join().unwrap_or_else(panicked)
}
