//! Whether what lies in the index folder can be trusted.
//!
//! What must stay true: the indexes are written to the page cache, not to the disk. After a crash of the process the
//! page cache is whole; after a crash of the machine only what was synced is. The kernel's boot id tells which it was.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::IndexError;

/// Raised whenever the meaning of anything in the folder changes.
pub(crate) const INDEX_FORMAT: u32 = 3;
const FILE: &str = "state.json";

#[derive(Debug, Serialize, Deserialize)]
struct State {
    format: u32,
    store: Uuid,
    boot: String,
    /// Set when everything was synced at a stop.
    clean: bool,
}

/// What can be trusted of an index folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// All of it.
    Everything,
    /// What says of itself that it was synced: sealed shards.
    Synced,
    /// Nothing: another store's, another format's, or unreadable.
    Nothing,
}

/// The state file of an index folder.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    folder: PathBuf,
    store: Uuid,
}

impl Checkpoint {
    /// Reads the state file.
    pub(crate) fn open(folder: &Path, store: Uuid) -> Result<(Self, Trust), IndexError> {
        let state = std::fs::read(folder.join(FILE)).ok();
        let trust = match state
            .as_deref()
            .and_then(|bytes| serde_json::from_slice(bytes).ok())
        {
            Some(State {
                format: INDEX_FORMAT,
                store: of,
                boot,
                clean,
            }) if of == store => {
                if clean || (!boot.is_empty() && boot == boot_id()) {
                    Trust::Everything
                } else {
                    Trust::Synced
                }
            }
            _ => Trust::Nothing,
        };
        match trust {
            Trust::Nothing if state.is_some() => tracing::info!(
                "the index is another version's or another log's; it grows back from the log"
            ),
            Trust::Synced => tracing::info!(
                "the machine went down with the index open; what of it was not synced grows back from the log"
            ),
            _ => (),
        }
        let checkpoint = Self {
            folder: folder.to_owned(),
            store,
        };
        Ok((checkpoint, trust))
    }

    /// Notes that the folder is in use, in this boot. To be called once nothing is left in it that cannot be trusted:
    /// until then the state file goes on saying what it said.
    pub(crate) fn mark_open(&self) -> Result<(), IndexError> {
        self.write(false)
    }

    /// Notes that everything in the folder is synced.
    pub(crate) fn mark_clean(&self) -> Result<(), IndexError> {
        self.write(true)
    }

    fn write(&self, clean: bool) -> Result<(), IndexError> {
        let state = State {
            format: INDEX_FORMAT,
            store: self.store,
            boot: boot_id(),
            clean,
        };
        let bytes = serde_json::to_vec(&state).expect("a flat struct always encodes");
        write_synced(&self.folder, FILE, &bytes)
    }
}

/// Returns what the kernel drew at boot; empty where it does not say, which is then no boot anything is trusted from.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Replaces a file of `folder` so that after a power cut either the old or the new one is there, whole.
pub(crate) fn write_synced(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), IndexError> {
    let temporary = folder.join(format!("{name}.new"));
    let path = folder.join(name);
    File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&temporary, &path))
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(IndexError::io("writing", &path))
}

/// Syncs every file directly in `folder`, and the folder.
pub(crate) fn sync_files(folder: &Path) -> Result<(), IndexError> {
    let sync = || -> std::io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                File::open(entry.path())?.sync_all()?;
            }
        }
        File::open(folder)?.sync_all()
    };
    sync().map_err(IndexError::io("syncing", folder))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_is_trusted_within_a_boot_or_after_a_clean_stop_and_for_its_own_store_only() {
        let folder = tempfile::tempdir().unwrap();
        let (store, path) = (Uuid::from_u128(1), folder.path());
        assert_eq!(
            Checkpoint::open(path, store).unwrap().1,
            Trust::Nothing,
            "a new folder"
        );
        assert_eq!(
            Checkpoint::open(path, store).unwrap().1,
            Trust::Nothing,
            "killed before it was cleared"
        );
        Checkpoint::open(path, store)
            .unwrap()
            .0
            .mark_open()
            .unwrap();
        assert_eq!(
            Checkpoint::open(path, store).unwrap().1,
            Trust::Everything,
            "a crash within this boot"
        );
        let of_another_boot = |clean| {
            let state = State {
                format: INDEX_FORMAT,
                store,
                boot: "another".into(),
                clean,
            };
            std::fs::write(path.join(FILE), serde_json::to_vec(&state).unwrap()).unwrap();
        };
        of_another_boot(false);
        assert_eq!(Checkpoint::open(path, store).unwrap().1, Trust::Synced);
        of_another_boot(true);
        assert_eq!(Checkpoint::open(path, store).unwrap().1, Trust::Everything);
        assert_eq!(
            Checkpoint::open(path, Uuid::from_u128(2)).unwrap().1,
            Trust::Nothing
        );
        std::fs::write(path.join(FILE), b"{").unwrap();
        assert_eq!(Checkpoint::open(path, store).unwrap().1, Trust::Nothing);
    }
}
