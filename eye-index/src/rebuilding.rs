//! The thread that helps to grow shards back: it comes from the newest closed segment, the indexer from the oldest.
//!
//! What must stay true: a shard has one writer. Where the two meet, this one ends.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::closing::finish_shard;
use crate::error::IndexError;
use crate::indexer::Indexer;
use eye_log::priority::lower_priority;

/// Builds the shards that closed segments lack, newest first. Returns whether everything it made is synced.
fn run(indexer: &Indexer) -> Result<bool, IndexError> {
    lower_priority(indexer.config.nice);
    let bases = indexer.reader.segment_bases();
    for pair in bases.windows(2).rev() {
        let (base, end) = (pair[0], pair[1]);
        let shard = indexer.shards.get(base)?;
        if shard.view().end >= end {
            continue;
        }
        let Some(writer) = shard.writer()? else {
            return Ok(true);
        };
        let (written, writer) = finish_shard(indexer, base, end, writer);
        let Some(writer) = writer else {
            return Ok(written);
        };
        // Merged at once: the sealing thread would not come to it while the indexer is behind.
        writer.seal()?;
    }
    Ok(true)
}

/// Starts the thread. It says at its end whether everything it made is synced.
pub(crate) fn start(indexer: Arc<Indexer>) -> std::io::Result<JoinHandle<bool>> {
    std::thread::Builder::new()
        .name("eye-rebuilding".to_owned())
        .spawn(move || match run(&indexer) {
            Ok(synced) => synced,
            Err(error) => {
                // The indexer comes to what is not begun; what is not sealed is sealed after the next start.
                tracing::warn!(%error, "shards grow back without a helper");
                false
            }
        })
}
