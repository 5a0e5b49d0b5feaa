//! Works beside the writer: seals closed segments, prepares the next file, notes how far the log is on the disk.
//!
//! What must stay true: nothing that is sent waits for it, and it works in the order of offsets, because each seal
//! names the one before.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::appender::SPARE;
use crate::log::Shared;
use crate::sealing;
use crate::segment::Segment;
use crate::storage::{StorageFile, write_zeros};

/// The keeper's nice value.
const NICE: i32 = 10;
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
pub(crate) fn run(shared: &Shared, chores: &Receiver<Chore>, segment_max_bytes: u64) {
    // Compressing a segment takes a second of a processor; whoever sends or asks goes first.
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::warn!(%error, "cannot lower the keeper's priority");
    }
    let mut waiting: Vec<Arc<Segment>> = Vec::new();
    loop {
        let patience = if waiting.is_empty() {
            Duration::MAX
        } else {
            RETRY
        };
        match chores.recv_timeout(patience) {
            Ok(Chore::Seal(segment)) => waiting.push(segment),
            Ok(Chore::Spare) => {
                if shared.begin_spare() {
                    let made = prepare_spare(shared, segment_max_bytes);
                    if let Err(error) = &made {
                        tracing::warn!(%error, "cannot prepare the next segment's file");
                    }
                    shared.put_spare(made.ok().map(|file| (file, segment_max_bytes)));
                }
            }
            Ok(Chore::NoteDurable) => note_durable(shared),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if let Some(segment) = waiting.first() {
            match sealing::seal(shared, segment) {
                Ok(()) => {
                    waiting.remove(0);
                }
                Err(error) => {
                    tracing::warn!(segment = segment.name, %error, "cannot seal; it will be tried again");
                }
            }
        }
    }
    for segment in waiting {
        if let Err(error) = sealing::seal(shared, &segment) {
            tracing::warn!(segment = segment.name, %error, "cannot seal; the next start will try again");
            break;
        }
    }
    // Closed: the log is synced to its end unless it was poisoned.
    if shared.poisoned().is_none() {
        note_durable(shared);
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
