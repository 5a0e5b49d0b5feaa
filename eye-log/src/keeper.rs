//! Works beside the writer: seals closed segments, prepares the next file, notes how far the log is on the disk.
//!
//! What must stay true: nothing that is sent waits for it, and it works in the order of offsets, because each seal
//! names the one before.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::appender::SPARE;
use crate::error::ReadError;
use crate::format::block::Effort;
use crate::log::Shared;
use crate::pieces::Pieces;
use crate::priority::{IDLE_POLICY, lower_priority};
use crate::sealing::{self, Rewritten, SealError};
use crate::segment::Segment;

/// The keeper's nice value: a roll wants its spare soon.
const NICE: i32 = 10;
/// The sealer's, where it cannot wait any longer.
const LATE_NICE: i32 = 19;
/// So long a closed segment waits for a moment in which nothing else wants to run: compressing takes as much of a processor
/// as sending does.
const WAITING_TIME: Duration = Duration::from_secs(15);
/// So many sessions and ids may such segments hold in memory, about 64 bytes each.
const WAITING_ENTRIES: usize = 200_000;
/// So many segments are still sealed when the log is closed.
const SEALED_AT_STOP: usize = 4;
/// How long after a failure sealing is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// Something to be done beside the writer.
pub(crate) enum Chore {
    /// Rewrites a closed segment as a sealed file.
    Seal(Arc<Segment>),
    /// Prepares the file of the next segment.
    Spare,
    /// Removes what was prepared, until much is sent again.
    NoSpare,
    /// Lets go of files that may have been removed.
    LetGo(Pieces),
    /// Notes in the manifest how far the log is on the disk.
    NoteDurable,
}

/// Works until the writer is gone.
pub(crate) fn run(shared: &Arc<Shared>, chores: &Receiver<Chore>, segment_max_bytes: u64) {
    lower_priority(NICE);
    let (to_seal, closed) = mpsc::channel();
    let sealer = {
        let shared = shared.clone();
        std::thread::Builder::new()
            .name("eye-sealing".to_owned())
            .spawn(move || seal_all(&shared, closed))
    };
    if let Err(error) = &sealer {
        tracing::warn!(%error, "cannot start sealing; the next start will try again");
    }
    for chore in chores {
        match chore {
            // The sealer only goes when it could not be started; then the next start seals.
            Chore::Seal(segment) => drop(to_seal.send(segment)),
            Chore::Spare => {
                if shared.begin_spare() {
                    let made = shared.storage.create_filled(SPARE, segment_max_bytes);
                    if let Err(error) = &made {
                        tracing::warn!(%error, "cannot prepare the next segment's file");
                    }
                    shared.put_spare(made.ok().map(|file| (file, segment_max_bytes)));
                }
            }
            Chore::NoSpare => {
                if let Err(error) = shared.remove_spare() {
                    tracing::warn!(%error, "cannot remove the file prepared for the next segment");
                }
            }
            Chore::LetGo(files) => drop(files),
            Chore::NoteDurable => note_durable(shared),
        }
    }
    drop(to_seal);
    if let Ok(sealer) = sealer {
        // One that panicked has left its segments to the next start.
        let _ = sealer.join();
    }
    // Closed: the log is synced to its end unless it was poisoned.
    if shared.poisoned().is_none() {
        note_durable(shared);
    }
}

/// Closed segments on their way to being sealed, oldest first.
struct Backlog {
    /// Each with the moment it was closed.
    waiting: VecDeque<(Arc<Segment>, Instant)>,
    closed: Receiver<Arc<Segment>>,
    /// Somebody waits for the log to be closed.
    stopping: bool,
}

/// Seals what comes, in order, until nothing more can come.
fn seal_all(shared: &Shared, closed: Receiver<Arc<Segment>>) {
    let waiting = VecDeque::new();
    let mut backlog = Backlog {
        waiting,
        closed,
        stopping: false,
    };
    loop {
        let patience = if backlog.waiting.is_empty() {
            Duration::MAX
        } else {
            RETRY
        };
        match backlog.closed.recv_timeout(patience) {
            Ok(segment) => backlog.waiting.push_back((segment, Instant::now())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        backlog.seal(shared);
    }
    // Stopping does not wait for many: the next start seals them.
    backlog.waiting.truncate(SEALED_AT_STOP);
    backlog.stopping = true;
    backlog.seal(shared);
}

impl Backlog {
    /// Seals until one cannot be sealed: the ones behind it name it. Works only when nothing else wants to run, unless it
    /// is late.
    fn seal(&mut self, shared: &Shared) {
        while let Some((segment, _)) = self.waiting.front().cloned() {
            match self.rewrite(shared, &segment) {
                Ok(true) => drop(self.waiting.pop_front()),
                Ok(false) => {}
                Err(error) => {
                    if let SealError::Read(ReadError::Damaged(damage)) = &error {
                        shared.sealed.note(damage);
                    }
                    tracing::warn!(segment = segment.name, %error, "cannot seal; it will be tried again");
                    return;
                }
            }
        }
    }

    /// Rewrites a segment as a sealed file and puts that in its place; returns whether it came to that.
    fn rewrite(&mut self, shared: &Shared, segment: &Segment) -> Result<bool, SealError> {
        let alone = shared.maintenance.begin_sealing();
        let late = self.is_late(shared);
        // A thread of its own: one that has stepped back needs rights to step forward again, and what others wait for is
        // done by one that has not.
        let thread = std::thread::Builder::new().name("eye-sealer".to_owned());
        let rewritten = std::thread::scope(|scope| {
            let (alone, backlog) = (&alone, &mut *self);
            let work = move || {
                lower_priority(if late { LATE_NICE } else { IDLE_POLICY });
                let effort = if late {
                    Effort::Quick
                } else {
                    Effort::Thorough
                };
                let mut stops = || !late && backlog.is_late(shared);
                sealing::rewrite(shared, alone, segment, effort, &mut stops)
            };
            let working = thread.spawn_scoped(scope, work)?;
            working.join().unwrap_or_else(|panic| resume_unwind(panic))
        })?;
        match rewritten {
            Rewritten::To(file) => shared.files.replace(shared.storage.as_ref(), *file)?,
            Rewritten::Before => {}
            Rewritten::Stopped => return Ok(false),
        }
        Ok(true)
    }

    /// Says whether sealing cannot wait until there is nothing else to do: what closed segments hold in memory and on the
    /// disk has its bound, and so has the patience of who maintains the log.
    fn is_late(&mut self, shared: &Shared) -> bool {
        let now = Instant::now();
        let closed = self.closed.try_iter().map(|segment| (segment, now));
        self.waiting.extend(closed);
        let entries = |segment: &Segment| segment.closed().map_or(0, |it| it.entries.len());
        let entries = self.waiting.iter().map(|(segment, _)| entries(segment));
        let oldest = self.waiting.front();
        oldest.is_some_and(|(_, closed)| now - *closed > WAITING_TIME)
            || entries.sum::<usize>() > WAITING_ENTRIES
            || shared.maintenance.is_wanted()
            || self.stopping
    }
}

fn note_durable(shared: &Shared) {
    let end = shared.durable.get();
    if let Err(error) = shared.files.note_durable(shared.storage.as_ref(), end) {
        tracing::warn!(%error, "cannot note in the manifest how far the log is on the disk");
    }
}
