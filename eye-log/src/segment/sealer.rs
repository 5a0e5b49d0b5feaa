//! Seals closed segments and prepares the next file, beside the writer.
//!
//! What must stay true: nothing waits for it. A segment without its footer is read frame by frame when it is opened,
//! and gets its footer then.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use crate::admission::table::SealedEntries;
use crate::appender::{Closed, SPARE};
use crate::format::footer;
use crate::log::Shared;
use crate::storage::write_zeros;

/// Something to be done beside the writer.
pub(crate) enum Chore {
    /// Writes a footer behind the frames of a closed segment.
    Seal(Closed, Arc<SealedEntries>),
    /// Prepares the file of the next segment.
    Spare,
}

/// Works until the writer is gone.
pub(crate) fn run(shared: &Shared, chores: &Receiver<Chore>, segment_max_bytes: u64) {
    for chore in chores {
        match chore {
            Chore::Seal(closed, entries) => {
                if let Err(error) = seal(&closed, &entries) {
                    tracing::warn!(segment = closed.segment.name, %error, "cannot seal; it will be tried at the next start");
                }
            }
            Chore::Spare => match prepare_spare(shared, segment_max_bytes) {
                Ok(file) => shared.put_spare(file, segment_max_bytes),
                Err(error) => tracing::warn!(%error, "cannot prepare the next segment's file"),
            },
        }
    }
}

/// Writes the footer, cuts the file behind it, and syncs. The trailer comes last, after a sync of its own, so that a
/// trailer that holds has its parts in front of it.
pub(crate) fn seal(closed: &Closed, entries: &SealedEntries) -> io::Result<()> {
    let Closed {
        segment,
        summary,
        controls,
    } = closed;
    let bytes = footer::encode(
        summary,
        &segment.index(),
        controls,
        entries,
        segment.header.salt,
    );
    let (parts, trailer) = bytes.split_at(bytes.len() - footer::TRAILER_BYTES);
    let trailer_at = summary.frames_end + parts.len() as u64;
    segment.file.write_at(parts, summary.frames_end)?;
    segment.file.set_size(trailer_at)?;
    segment.file.sync()?;
    segment.file.write_at(trailer, trailer_at)?;
    segment.file.sync()?;
    segment.set_sealed(*summary);
    Ok(())
}

fn prepare_spare(shared: &Shared, bytes: u64) -> io::Result<Arc<dyn crate::storage::StorageFile>> {
    let file = shared.storage.create(SPARE)?;
    write_zeros(file.as_ref(), 0..bytes)?;
    file.sync()?;
    Ok(file)
}
