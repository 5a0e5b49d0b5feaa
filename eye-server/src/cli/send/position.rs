//! How far a file has been sent, kept between runs.
//!
//! Losing such a file is harmless: the lines' ids make sending again store nothing new. So it is written whole and
//! renamed, but not synced.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// Says how far one file has got in one store for one application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cli) struct Position {
    /// For people: the path the file had.
    pub(in crate::cli) file: String,
    /// Lines that were acknowledged, refused ones included.
    pub(in crate::cli) line: u64,
    /// Bytes of decompressed content that were acknowledged.
    pub(in crate::cli) position: u64,
    /// All bytes of decompressed content.
    pub(in crate::cli) of: u64,
    /// Lines refused so far.
    pub(in crate::cli) refused: u64,
    pub(in crate::cli) saved_at: String,
}

/// Is the place where one file's position is kept.
#[derive(Debug, Clone)]
pub(in crate::cli) struct PositionFile(PathBuf);

impl PositionFile {
    /// Names the place for a store (its id, or its address if it tells none), an application and a file's content.
    pub(in crate::cli) fn new(
        folder: &Path,
        store: &str,
        application: &str,
        content: &[u8; 32],
    ) -> Self {
        let hash = Sha256::new()
            .chain_update(store)
            .chain_update([0])
            .chain_update(application)
            .chain_update([0])
            .chain_update(content)
            .finalize();
        PositionFile(folder.join(format!("{hash:x}.json")))
    }

    pub(in crate::cli) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns what was saved; nothing, or something that cannot be read or cannot be true, means from the start.
    pub(in crate::cli) fn load(&self, content_bytes: u64) -> Option<Position> {
        let position: Position = serde_json::from_slice(&fs::read(&self.0).ok()?).ok()?;
        (position.position <= content_bytes && position.of == content_bytes).then_some(position)
    }

    /// Replaces what was saved.
    pub(in crate::cli) fn save(&self, position: &Position) -> io::Result<()> {
        if let Some(folder) = self.0.parent() {
            fs::create_dir_all(folder)?;
        }
        // The process id keeps two senders of the same file from writing into each other's temporary file.
        let temporary = self.0.with_extension(format!("{}.tmp", std::process::id()));
        fs::write(&temporary, serde_json::to_vec(position)?)?;
        fs::rename(&temporary, &self.0)
    }
}

/// Returns where positions are kept: `$XDG_STATE_HOME/eye/send`, else `~/.local/state/eye/send`; none without a home.
pub(in crate::cli) fn folder() -> Option<PathBuf> {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("eye/send"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_position_is_found_again_only_for_the_same_store_application_and_content() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("not/yet/there");
        let file = PositionFile::new(&folder, "store", "shop", &[1; 32]);
        assert_eq!(file.load(50), None);
        let position = Position {
            line: 3,
            position: 40,
            of: 50,
            ..Position::default()
        };
        file.save(&position).unwrap();
        assert_eq!(
            PositionFile::new(&folder, "store", "shop", &[1; 32]).load(50),
            Some(position)
        );
        for other in [
            ("store", "shop", [2; 32]),
            ("store", "shop2", [1; 32]),
            ("stores", "hop", [1; 32]),
        ] {
            assert_eq!(
                PositionFile::new(&folder, other.0, other.1, &other.2).load(50),
                None
            );
        }
        assert_eq!(
            fs::read_dir(&folder).unwrap().count(),
            1,
            "no temporary file stays"
        );
    }

    #[test]
    fn nonsense_means_from_the_start() {
        let temp = tempfile::tempdir().unwrap();
        let file = PositionFile::new(temp.path(), "s", "a", &[1; 32]);
        fs::write(file.path(), "{\"line\":").unwrap();
        assert_eq!(file.load(50), None);
        file.save(&Position {
            position: 60,
            of: 60,
            ..Position::default()
        })
        .unwrap();
        assert_eq!(file.load(50), None, "more than there is");
    }
}
