//! The catalog's database: one sled folder per generation, since sled never gives back what it once wrote.
//!
//! What must stay true: `catalog.json` names the generation that counts; others are left over from a rewriting that
//! was broken off or has ended, and are removed when the catalog is opened. What sessions of one partition have in one
//! segment is one entry: sled takes some 250 bytes of memory for every sixteen entries at most, however long they are.
//! The generations have one seed in common, so that a partition is copied as a whole.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use eye_log::Offset;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Block;
use super::partition::{self, Blocks, Partition, Seed, Sessions};
use crate::checkpoint::{sync_files, write_synced};
use crate::error::IndexError;

const CHECKPOINT_KEY: &[u8] = b"c";
const SEED_KEY: &[u8] = b"s";
const PARTITION_PREFIX: u8 = b'p';
/// Prefix, partition, segment.
const KEY_LENGTH: usize = 1 + 2 + 8;
/// As sled counts, which is by what nodes take in the file: unpacked they take three times as much.
const CACHE_BYTES: u64 = 8 << 20;
/// A batch has so many blocks, and those of one partition more at most: readers wait while one is applied.
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
    seed: Seed,
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
        if !folder.exists() {
            return Self::create(index, generation, Seed::new());
        }
        match try_open(&folder).and_then(|db| Ok((seed_in(&db)?, db))) {
            Ok((seed, db)) => Ok(Self {
                generation,
                folder,
                db,
                seed,
            }),
            Err(error) => {
                tracing::warn!(%error, "the catalog cannot be opened; it is built again from the log");
                Self::create(index, generation, Seed::new())
            }
        }
    }

    fn create(index: &Path, generation: u32, seed: Seed) -> Result<Self, IndexError> {
        let folder = folder_of(index, generation);
        remove(&folder)?;
        let db = try_open(&folder).map_err(IndexError::Catalog)?;
        db.insert(SEED_KEY, seed.as_bytes())?;
        db.flush()?;
        Ok(Self {
            generation,
            folder,
            db,
            seed,
        })
    }

    /// Begins the next generation, with nothing in it.
    pub(super) fn create_next(&self, index: &Path) -> Result<Self, IndexError> {
        Self::create(index, self.generation.wrapping_add(1), self.seed)
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

    /// Returns the partition that a session is in.
    pub(super) fn partition(&self, session: Uuid) -> Partition {
        self.seed.partition(session)
    }

    /// Writes all blocks of one segment, and last the checkpoint: what is beyond it counts for nothing.
    pub(super) fn write<'b>(
        &self,
        base: Offset,
        blocks: impl Iterator<Item = (Uuid, &'b Block)>,
        checkpoint: Offset,
    ) -> Result<(), IndexError> {
        let mut blocks: Vec<(Partition, Uuid, &Block)> = blocks
            .map(|(session, block)| (self.partition(session), session, block))
            .collect();
        blocks.sort_unstable_by_key(|(partition, session, _)| (*partition, *session));
        let mut writer = Writer::new(self);
        for blocks in blocks.chunk_by(|one, next| one.0 == next.0) {
            let sessions = blocks.iter().map(|(_, session, block)| (*session, *block));
            writer.push(blocks[0].0, base, sessions)?;
        }
        writer.finish(Some(checkpoint))
    }

    /// Returns a session's blocks of segments that begin below `below`, oldest first.
    pub(super) fn blocks(
        &self,
        session: Uuid,
        below: Offset,
    ) -> impl Iterator<Item = Result<Block, IndexError>> {
        let partition = self.partition(session);
        let entries = self.db.range(key(partition, 0)..key(partition, below));
        entries.filter_map(move |entry| match entry {
            Ok((_, value)) => Blocks(&value)
                .find(|entry| entry.is_none_or(|(id, _)| id == session))
                .map(|entry| {
                    entry
                        .and_then(|(_, block)| Block::decode(block))
                        .ok_or_else(unreadable)
                }),
            Err(error) => Some(Err(error.into())),
        })
    }

    /// Returns everything: partition, segment, and the sessions' blocks.
    pub(super) fn all(
        &self,
    ) -> impl Iterator<Item = Result<(Partition, Offset, Sessions), IndexError>> {
        self.db.scan_prefix([PARTITION_PREFIX]).map(|entry| {
            let (key, value) = entry?;
            let (partition, base) = of_key(&key).ok_or_else(unreadable)?;
            let blocks = Blocks(&value)
                .map(|entry| {
                    entry.and_then(|(session, block)| Some((session, Block::decode(block)?)))
                })
                .collect::<Option<_>>()
                .ok_or_else(unreadable)?;
            Ok((partition, base, blocks))
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

    /// Puts down what the sessions of one partition have in one segment, all of it.
    pub(super) fn push<'b>(
        &mut self,
        partition: Partition,
        base: Offset,
        blocks: impl Iterator<Item = (Uuid, &'b Block)>,
    ) -> Result<(), IndexError> {
        let blocks = blocks.inspect(|_| self.blocks += 1);
        let value = partition::encode(blocks);
        self.batch.insert(key(partition, base).as_slice(), value);
        if self.blocks >= BATCH_BLOCKS {
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

fn seed_in(db: &sled::Db) -> Result<Seed, String> {
    let bytes = db.get(SEED_KEY).map_err(|error| error.to_string())?;
    bytes
        .and_then(|bytes| Seed::from_bytes(&bytes))
        .ok_or_else(|| "it does not say how its sessions are spread".to_owned())
}

fn key(partition: Partition, base: Offset) -> [u8; KEY_LENGTH] {
    let mut key = [PARTITION_PREFIX; KEY_LENGTH];
    key[1..3].copy_from_slice(&partition.0.to_be_bytes());
    key[3..].copy_from_slice(&base.to_be_bytes());
    key
}

fn of_key(key: &[u8]) -> Option<(Partition, Offset)> {
    let (partition, base) = key.strip_prefix(&[PARTITION_PREFIX])?.split_first_chunk()?;
    let base = base.try_into().ok()?;
    Some((
        Partition(u16::from_be_bytes(*partition)),
        Offset::from_be_bytes(base),
    ))
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
        let store = Store::open(folder.path()).unwrap();
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

    #[test]
    fn a_database_that_does_not_say_how_its_sessions_are_spread_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let block = Block {
            application: eye_log::ApplicationId(1),
            entries: vec![super::super::Entry {
                timestamp: 0,
                offset: 3,
            }],
        };
        let session = Uuid::from_u128(7);
        let found = |store: &Store| store.blocks(session, 9).map(Result::unwrap).count();
        let store = Store::open(folder.path()).unwrap();
        let blocks = std::iter::once((session, &block));
        store.write(0, blocks, 4).unwrap();
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!((store.checkpoint().unwrap(), found(&store)), (4, 1));
        store.db.remove(SEED_KEY).unwrap();
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!((store.checkpoint().unwrap(), found(&store)), (0, 0));
    }
}
