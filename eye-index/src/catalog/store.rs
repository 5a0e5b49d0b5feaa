//! The catalog's database: one sled folder per generation, since sled never gives back what it once wrote.
//!
//! What must stay true: `catalog.json` names the generation that counts; others are left over from a rewriting that
//! was broken off or has ended, and are removed when the catalog is opened.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

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
            self.store.db.apply_batch(std::mem::take(&mut self.batch))?;
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
        Ok(self.store.db.apply_batch(self.batch)?)
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
    // sled 0.34 panics on some damage that it should report.
    match std::panic::catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(opened) => opened.map_err(|error| error.to_string()),
        Err(_) => Err("sled panicked while opening it".to_owned()),
    }
}

fn key(session: Uuid, base: Offset) -> Vec<u8> {
    let mut key = Vec::with_capacity(25);
    key.push(SESSION_PREFIX);
    key.extend_from_slice(session.as_bytes());
    key.extend_from_slice(&base.to_be_bytes());
    key
}
