//! The thread that finishes what a closed segment leaves behind: its shard's last commit and its catalog blocks.
//!
//! What must stay true: the indexer goes on with the next segment meanwhile, but never more than [`CLOSING_MAX`]
//! segments ahead, since what is not written is in memory. A step that fails is tried again until it succeeds or
//! everything stops; what was not written then grows back from the log.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use eye_log::Offset;

use crate::error::IndexError;
use crate::indexer::Indexer;
use crate::progress::Worker;
use crate::search::shard::ShardWriter;
use eye_log::priority::{IDLE_POLICY, lower_priority};

/// So many closed segments may wait to be written.
const CLOSING_MAX: usize = 2;
/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How much further than the indexer this thread stands back.
const NICER: i32 = 5;

/// A closed segment.
pub(crate) struct Closed {
    /// Where it began.
    pub(crate) base: Offset,
    /// Where it ended.
    pub(crate) end: Offset,
    /// Its shard's writer, which may hold what is not committed; `None` where somebody else has the shard.
    pub(crate) writer: Option<ShardWriter>,
}

/// Closed segments on their way to the disk.
#[derive(Default)]
pub(crate) struct CloseQueue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Closed>,
    /// Whether one is being worked on.
    busy: bool,
    ended: bool,
}

impl CloseQueue {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(
        &self,
        state: std::sync::MutexGuard<'s, State>,
    ) -> std::sync::MutexGuard<'s, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks while too many wait.
    pub(crate) fn wait_for_room(&self) {
        let mut state = self.state();
        while state.waiting.len() + usize::from(state.busy) >= CLOSING_MAX && !state.ended {
            state = self.wait(state);
        }
    }

    /// Hands a closed segment over.
    pub(crate) fn push(&self, closed: Closed) {
        self.state().waiting.push_back(closed);
        self.changed.notify_all();
    }

    /// Lets the thread end once everything waiting is done.
    pub(crate) fn close(&self) {
        self.state().ended = true;
        self.changed.notify_all();
    }

    fn next(&self) -> Option<Closed> {
        let mut state = self.state();
        state.busy = false;
        self.changed.notify_all();
        loop {
            if let Some(closed) = state.waiting.pop_front() {
                state.busy = true;
                return Some(closed);
            }
            if state.ended {
                return None;
            }
            state = self.wait(state);
        }
    }

    /// Works until it is told to end. Returns whether everything was written.
    pub(crate) fn run(&self, indexer: &Indexer) -> bool {
        let nice = indexer.config.nice;
        lower_priority(if nice >= IDLE_POLICY {
            nice
        } else {
            (nice + NICER).min(IDLE_POLICY - 1)
        });
        let mut written = true;
        while let Some(Closed { base, end, writer }) = self.next() {
            let (finished, writer) = match writer {
                Some(writer) => finish_shard(indexer, base, end, writer),
                None => (true, None),
            };
            written &= finished;
            written &= keep_trying(indexer, || indexer.catalog.write_closed().map(drop));
            if let Some(writer) = writer {
                match writer.rest() {
                    Ok(resting) => indexer.to_seal.push(resting, &indexer.progress),
                    Err(error) => {
                        written = false;
                        // The shard stays as its last commit has it, and is sealed after the next start.
                        tracing::warn!(%error, "cannot end the writing of a search shard");
                    }
                }
            }
        }
        written
    }
}

/// Brings the shard of a closed segment to its end. Returns whether what it holds is written, and its writer, unless it
/// is time to stop.
pub(crate) fn finish_shard(
    indexer: &Indexer,
    base: Offset,
    end: Offset,
    writer: ShardWriter,
) -> (bool, Option<ShardWriter>) {
    let mut held = Some(writer);
    let mut finished = None;
    let written = keep_trying(indexer, || {
        let mut writer = match held.take() {
            Some(writer) => writer,
            None => {
                // What the failed writer left is dropped; the shard goes on from its last commit.
                indexer.shards.reopen(base)?;
                let Some(writer) = indexer.shards.get(base)?.writer()? else {
                    return Ok(());
                };
                writer
            }
        };
        if !indexer.fill_shard(&mut writer, end)? {
            return writer.close();
        }
        writer.commit()?;
        indexer.publish_search();
        finished = Some(writer);
        Ok(())
    });
    (written, finished)
}

/// Does something until it succeeds or everything stops; returns whether it did.
fn keep_trying(indexer: &Indexer, mut work: impl FnMut() -> Result<(), IndexError>) -> bool {
    let mut failed = false;
    loop {
        // sled and tantivy panic where they should report.
        let outcome = catch_unwind(AssertUnwindSafe(&mut work))
            .unwrap_or_else(|_| Err(IndexError::Shard("closing a segment panicked".to_owned())));
        let Err(error) = outcome else {
            if failed {
                indexer.progress.set_trouble(Worker::Closing, None);
            }
            return true;
        };
        tracing::error!(%error, "a closed segment cannot be indexed for good; trying again");
        failed = true;
        indexer
            .progress
            .set_trouble(Worker::Closing, Some(error.to_string()));
        indexer.progress.pause(RETRY);
        if indexer.progress.stopping() {
            return false;
        }
    }
}

/// Starts the thread.
pub(crate) fn start(indexer: Arc<Indexer>) -> std::io::Result<std::thread::JoinHandle<bool>> {
    std::thread::Builder::new()
        .name("eye-closing".to_owned())
        .spawn(move || indexer.closed.run(&indexer))
}
