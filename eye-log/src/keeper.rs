//! Works beside the writer: seals closed segments, prepares the next file, notes how far the log is on the disk.
//!
//! What must stay true: nothing that is sent waits for it, and it works in the order of offsets, because each seal
//! names the one before.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::appender::SPARE;
use crate::log::Shared;
use crate::sealing;
use crate::segment::Segment;
use crate::storage::{StorageFile, write_zeros};

/// The keeper's nice value: a roll wants its spare soon.
const NICE: i32 = 10;
/// The sealer's: compressing takes as much of a processor as sending does, and nobody waits for it.
const SEALER_NICE: i32 = 19;
/// How long after a failure sealing is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// Something to be done beside the writer.
pub(crate) enum Chore {
    /// Rewrites a closed segment as a sealed file.
    Seal(Arc<Segment>),
    /// Prepares the file of the next segment.
    Spare,
    /// Notes in the manifest how far the log is on the disk.
    NoteDurable,
}

/// Works until the writer is gone.
pub(crate) fn run(shared: &Arc<Shared>, chores: &Receiver<Chore>, segment_max_bytes: u64) {
    stand_back(NICE);
    let (to_seal, closed) = mpsc::channel();
    let sealer = {
        let shared = shared.clone();
        std::thread::Builder::new()
            .name("eye-sealer".to_owned())
            .spawn(move || seal_all(&shared, &closed))
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
                    let made = prepare_spare(shared, segment_max_bytes);
                    if let Err(error) = &made {
                        tracing::warn!(%error, "cannot prepare the next segment's file");
                    }
                    shared.put_spare(made.ok().map(|file| (file, segment_max_bytes)));
                }
            }
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

/// Seals what comes, in order, until nothing more can come.
fn seal_all(shared: &Shared, closed: &Receiver<Arc<Segment>>) {
    stand_back(SEALER_NICE);
    let mut waiting: VecDeque<Arc<Segment>> = VecDeque::new();
    loop {
        let patience = if waiting.is_empty() {
            Duration::MAX
        } else {
            RETRY
        };
        match closed.recv_timeout(patience) {
            Ok(segment) => waiting.push_back(segment),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        waiting.extend(closed.try_iter());
        seal_waiting(shared, &mut waiting);
    }
    seal_waiting(shared, &mut waiting);
}

/// Seals until one cannot be sealed: the ones behind it name it.
fn seal_waiting(shared: &Shared, waiting: &mut VecDeque<Arc<Segment>>) {
    while let Some(segment) = waiting.front() {
        if let Err(error) = sealing::seal(shared, segment) {
            tracing::warn!(segment = segment.name, %error, "cannot seal; it will be tried again");
            return;
        }
        waiting.pop_front();
    }
}

/// Lets whoever sends or asks go first.
fn stand_back(nice: i32) {
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice) {
        tracing::warn!(%error, "cannot lower a thread's priority");
    }
}

fn note_durable(shared: &Shared) {
    let end = shared.durable.get();
    if let Err(error) = shared.files.note_durable(shared.storage.as_ref(), end) {
        tracing::warn!(%error, "cannot note in the manifest how far the log is on the disk");
    }
}

fn prepare_spare(shared: &Shared, bytes: u64) -> io::Result<Arc<dyn StorageFile>> {
    let file = shared.storage.create(SPARE)?;
    write_zeros(file.as_ref(), 0..bytes)?;
    file.sync()?;
    Ok(file)
}
