//! The catalog's database: one sled folder per generation, since sled never gives back what it once wrote.
//!
//! What must stay true: `catalog.json` names the generation that counts; others are left over from a rewriting that
//! was broken off or has ended, and are removed when the catalog is opened.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use eye_log::Offset;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Block;
use crate::checkpoint::{sync_files, write_synced};
use crate::error::IndexError;

const CHECKPOINT_KEY: &[u8] = b"c";
const SESSION_PREFIX: u8 = b's';
/// As sled counts, which is by what nodes take in the file: unpacked they take three times as much.
const CACHE_BYTES: u64 = 8 << 20;
/// So many blocks go into one batch: readers wait while one is applied.
pub(super) const BATCH_BLOCKS: usize = 1_000;
/// How often sled is made to let go of nodes after a batch: each time frees what some five hundred changes have replaced, once nobody
/// reads it any more.
const LETTING_GO: usize = 8;
/// So long sled's threads may take to end after a database was closed; nobody else opens one, as the log has a lock of its own.
const CLOSING_TIME: Duration = Duration::from_secs(10);
const CURRENT_FILE: &str = "catalog.json";

#[derive(Debug, Serialize, Deserialize)]
struct Current {
    generation: u32,
}

/// One generation of the database.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) generation: u32,
    folder: PathBuf,
    db: sled::Db,
}

impl Store {
    /// Opens the generation that counts, in the index folder, and removes all others; one that cannot be opened is
    /// begun anew.
    pub(super) fn open(index: &Path) -> Result<Self, IndexError> {
        let current: Option<Current> = std::fs::read(index.join(CURRENT_FILE))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let generation = current.map_or(0, |current| current.generation);
        let folder = folder_of(index, generation);
        for other in folders(index)? {
            if other != folder {
                std::fs::remove_dir_all(&other).map_err(IndexError::io("removing", &other))?;
            }
        }
        match try_open(&folder) {
            Ok(db) => Ok(Self {
                generation,
                folder,
                db,
            }),
            Err(error) => {
                tracing::warn!(%error, "the catalog cannot be opened; it is built again from the log");
                Self::create(index, generation)
            }
        }
    }

    /// Begins a generation with nothing in it.
    pub(super) fn create(index: &Path, generation: u32) -> Result<Self, IndexError> {
        let folder = folder_of(index, generation);
        remove(&folder)?;
        let db = try_open(&folder).map_err(IndexError::Catalog)?;
        Ok(Self {
            generation,
            folder,
            db,
        })
    }

    /// Makes this the generation that counts, from the next opening on.
    pub(super) fn make_current(&self, index: &Path) -> Result<(), IndexError> {
        let current = Current {
            generation: self.generation,
        };
        let bytes = serde_json::to_vec(&current).expect("a flat struct always encodes");
        write_synced(index, CURRENT_FILE, &bytes)
    }

    /// Removes every generation.
    pub(super) fn remove_all(index: &Path) -> Result<(), IndexError> {
        for folder in folders(index)? {
            remove(&folder)?;
        }
        let current = index.join(CURRENT_FILE);
        match std::fs::remove_file(&current) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(IndexError::io("removing", &current)(error))
            }
            _ => Ok(()),
        }
    }

    /// Closes the database and removes its files.
    pub(super) fn remove(self) -> Result<(), IndexError> {
        let folder = self.folder.clone();
        drop(self);
        remove(&folder)
    }

    /// Returns one past the last offset whose blocks are all here.
    pub(super) fn checkpoint(&self) -> Result<Offset, IndexError> {
        let value = self.db.get(CHECKPOINT_KEY)?;
        let end = value.and_then(|value| value.as_ref().try_into().ok().map(u64::from_be_bytes));
        Ok(end.unwrap_or(0))
    }

    /// Writes blocks of one segment, and last the checkpoint: what is beyond it counts for nothing.
    pub(super) fn write<'b>(
        &self,
        base: Offset,
        blocks: impl Iterator<Item = (Uuid, &'b Block)>,
        checkpoint: Offset,
    ) -> Result<(), IndexError> {
        let mut writer = Writer::new(self);
        for (session, block) in blocks {
            writer.push(session, base, block)?;
        }
        writer.finish(Some(checkpoint))
    }

    /// Returns a session's blocks of segments that begin below `below`, oldest first.
    pub(super) fn blocks(
        &self,
        session: Uuid,
        below: Offset,
    ) -> impl Iterator<Item = Result<Block, IndexError>> {
        self.db
            .range(key(session, 0)..key(session, below))
            .map(|pair| Block::decode(&pair?.1).ok_or_else(unreadable))
    }

    /// Returns every block: session, segment, block. A session's stand together.
    pub(super) fn all(&self) -> impl Iterator<Item = Result<(Uuid, Offset, Block), IndexError>> {
        self.db.scan_prefix([SESSION_PREFIX]).map(|pair| {
            let (key, value) = pair?;
            let session = key.get(1..17).and_then(|id| Uuid::from_slice(id).ok());
            let base = key.get(17..).and_then(|base| base.try_into().ok());
            let block = Block::decode(&value);
            match (session, base, block) {
                (Some(session), Some(base), Some(block)) => {
                    Ok((session, Offset::from_be_bytes(base), block))
                }
                _ => Err(unreadable()),
            }
        })
    }

    /// Applies a batch, and frees what it has replaced. sled leaves that to its collector, which works a little each time that somebody
    /// begins to read or write; a batch begins once and replaces a thousand nodes, so that they would gather without bound.
    fn apply(&self, batch: sled::Batch) -> Result<(), IndexError> {
        self.db.apply_batch(batch)?;
        for _ in 0..LETTING_GO {
            crossbeam_epoch::pin().flush();
        }
        Ok(())
    }

    /// Syncs everything written.
    pub(super) fn sync(&self) -> Result<(), IndexError> {
        // sled's flush is no fsync on Linux, so its files are synced from outside.
        self.db.flush()?;
        sync_files(&self.folder)?;
        let blobs = self.folder.join("blobs");
        if blobs.is_dir() {
            sync_files(&blobs)
        } else {
            Ok(())
        }
    }
}

/// Puts blocks into batches.
pub(super) struct Writer<'s> {
    store: &'s Store,
    batch: sled::Batch,
    blocks: usize,
}

impl<'s> Writer<'s> {
    pub(super) fn new(store: &'s Store) -> Self {
        Self {
            store,
            batch: sled::Batch::default(),
            blocks: 0,
        }
    }

    pub(super) fn push(
        &mut self,
        session: Uuid,
        base: Offset,
        block: &Block,
    ) -> Result<(), IndexError> {
        self.batch
            .insert(key(session, base).as_slice(), block.encode());
        self.blocks += 1;
        if self.blocks == BATCH_BLOCKS {
            self.store.apply(std::mem::take(&mut self.batch))?;
            self.blocks = 0;
        }
        Ok(())
    }

    /// Writes the last batch, with the checkpoint, if there is one.
    pub(super) fn finish(mut self, checkpoint: Option<Offset>) -> Result<(), IndexError> {
        if let Some(checkpoint) = checkpoint {
            self.batch
                .insert(CHECKPOINT_KEY, checkpoint.to_be_bytes().as_slice());
        }
        self.store.apply(self.batch)
    }
}

fn unreadable() -> IndexError {
    IndexError::Catalog(
        "a posting block cannot be read; remove the index folder and restart".to_owned(),
    )
}

fn folder_of(index: &Path, generation: u32) -> PathBuf {
    index.join(match generation {
        0 => "catalog".to_owned(),
        generation => format!("catalog-{generation}"),
    })
}

fn folders(index: &Path) -> Result<Vec<PathBuf>, IndexError> {
    let listing = IndexError::io("listing", index);
    let list = || -> std::io::Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        for entry in std::fs::read_dir(index)? {
            let entry = entry?;
            let name = entry.file_name();
            let ours = name.to_str().is_some_and(|name| {
                name == "catalog"
                    || name
                        .strip_prefix("catalog-")
                        .is_some_and(|generation| generation.parse::<u32>().is_ok())
            });
            if ours && entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
        Ok(folders)
    };
    list().map_err(listing)
}

fn remove(folder: &Path) -> Result<(), IndexError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(IndexError::io("removing", folder)(error))
        }
        _ => Ok(()),
    }
}

fn try_open(folder: &Path) -> Result<sled::Db, String> {
    let config = sled::Config::new()
        .path(folder)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None);
    let begun = Instant::now();
    loop {
        // sled 0.34 panics on some damage that it should report.
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| config.open()));
        match opened {
            Ok(Ok(db)) => return Ok(db),
            // A database that was closed here a moment ago: its threads end by themselves, and the lock goes with the last.
            Ok(Err(error)) if is_locked(&error) && begun.elapsed() < CLOSING_TIME => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("sled panicked while opening it".to_owned()),
        }
    }
}

/// Says whether a database cannot be opened because it is open.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

fn key(session: Uuid, base: Offset) -> Vec<u8> {
    let mut key = Vec::with_capacity(25);
    key.push(SESSION_PREFIX);
    key.extend_from_slice(session.as_bytes());
    key.extend_from_slice(&base.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn what_a_batch_has_replaced_is_freed_within_the_next_ones() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path(), 0).unwrap();
        let block = Block {
            application: eye_log::ApplicationId(1),
            entries: Vec::new(),
        };
        let (deferred, freed) = (15_000, Arc::new(AtomicUsize::new(0)));
        {
            // They go the way of the nodes that sled replaces.
            let guard = crossbeam_epoch::pin();
            for _ in 0..deferred {
                let freed = freed.clone();
                guard.defer(move || freed.fetch_add(1, Ordering::Relaxed));
            }
        }
        // Far fewer than the times that sled's collector lets pass before it frees something by itself.
        for round in 0..6 {
            let blocks = std::iter::once((Uuid::from_u128(round), &block));
            store.write(0, blocks, 0).unwrap();
            if freed.load(Ordering::Relaxed) == deferred {
                break;
            }
            // Another test may be reading, in which case nothing is freed.
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(freed.load(Ordering::Relaxed), deferred);
    }
}
