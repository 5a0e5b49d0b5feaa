//! A folder read as it lies there, with every change kept in memory.
//!
//! What must stay true: nothing in the folder is ever written, made, renamed or removed. So a log can be opened, torn
//! tail and all, beside a running server, on a copy, and on a medium that cannot be written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Storage, StorageFile};

/// A folder of the file system and what was changed since it was opened.
#[derive(Debug)]
pub(crate) struct Overlay {
    folder: PathBuf,
    /// Files that were opened or made; `None` where a name was taken away.
    files: Mutex<BTreeMap<String, Option<Arc<OverlayFile>>>>,
}

impl Overlay {
    /// Reads `folder`, which must be there.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            files: Mutex::default(),
        }
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&mut BTreeMap<String, Option<Arc<OverlayFile>>>) -> T,
    ) -> T {
        work(&mut self.files.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn file(&self, name: &str) -> io::Result<Arc<OverlayFile>> {
        self.with(|files| match files.get(name) {
            Some(Some(file)) => Ok(file.clone()),
            Some(None) => Err(io::ErrorKind::NotFound.into()),
            None => {
                let file = Arc::new(OverlayFile::of(File::open(self.folder.join(name))?));
                files.insert(name.to_owned(), Some(file.clone()));
                Ok(file)
            }
        })
    }
}

impl Storage for Overlay {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string().ok());
            }
        }
        self.with(|files| {
            names.retain(|name| !files.contains_key(name));
            names.extend(
                files
                    .iter()
                    .filter(|(_, file)| file.is_some())
                    .map(|(name, _)| name.clone()),
            );
        });
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.file(name)?)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let file = Arc::new(OverlayFile::default());
        self.with(|files| files.insert(name.to_owned(), Some(file.clone())));
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.file(from)?;
        self.with(|files| {
            files.insert(to.to_owned(), Some(file));
            files.insert(from.to_owned(), None);
        });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.with(|files| files.insert(name.to_owned(), None));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

/// A file as it is on the disk, below what was written over it.
#[derive(Debug, Default)]
struct OverlayFile {
    base: Option<File>,
    changes: Mutex<Changes>,
}

#[derive(Debug, Default)]
struct Changes {
    /// The length, once it was changed; until then it is the base's, which may still grow.
    bytes: Option<u64>,
    /// Where the base ends to count, once the file was cut or lengthened.
    base_bytes: Option<u64>,
    /// What was written, oldest first, with its position.
    written: Vec<(u64, Vec<u8>)>,
}

impl OverlayFile {
    fn of(base: File) -> Self {
        Self {
            base: Some(base),
            ..Self::default()
        }
    }

    fn base_length(&self) -> io::Result<u64> {
        self.base
            .as_ref()
            .map_or(Ok(0), |base| Ok(base.metadata()?.len()))
    }

    fn changes(&self) -> std::sync::MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageFile for OverlayFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let changes = self.changes();
        let there = self.base_length()?;
        let end = position.saturating_add(buffer.len() as u64);
        if end > changes.bytes.unwrap_or(there) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let base_end = changes.base_bytes.unwrap_or(there).min(there);
        let from_base = base_end.saturating_sub(position).min(buffer.len() as u64);
        let (below, beyond) = buffer.split_at_mut(usize::try_from(from_base).unwrap_or(usize::MAX));
        if let Some(base) = &self.base {
            base.read_exact_at(below, position)?;
        }
        beyond.fill(0);
        for (at, bytes) in &changes.written {
            let (first, last) = ((*at).max(position), (at + bytes.len() as u64).min(end));
            if first < last {
                let place = |from: u64| usize::try_from(from).unwrap_or(usize::MAX);
                buffer[place(first - position)..place(last - position)]
                    .copy_from_slice(&bytes[place(first - at)..place(last - at)]);
            }
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut changes = self.changes();
        let there = self.base_length()?;
        let length = changes.bytes.unwrap_or(there);
        let end = position.saturating_add(bytes.len() as u64);
        if end > length {
            changes.base_bytes.get_or_insert(there);
            changes.bytes = Some(end);
        }
        // Room prepared behind the end reads as zeros without being kept.
        if position >= length && bytes.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        match changes.written.last_mut() {
            Some((at, last)) if *at + last.len() as u64 == position => last.extend(bytes),
            _ => changes.written.push((position, bytes.to_vec())),
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let changed = self.changes().bytes;
        changed.map_or_else(|| self.base_length(), Ok)
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        let mut changes = self.changes();
        let base_bytes = changes.base_bytes.map_or_else(|| self.base_length(), Ok)?;
        changes.base_bytes = Some(base_bytes.min(bytes));
        changes.bytes = Some(bytes);
        changes.written.retain_mut(|(at, written)| {
            let kept = bytes.saturating_sub(*at).min(written.len() as u64);
            written.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
            kept > 0
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::storage::read_vec;

    #[test]
    fn changes_are_seen_and_the_folder_stays_as_it_was() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("a"), b"0123456789").unwrap();
        let overlay = Overlay::new(temp.path());
        let file = overlay.open("a").unwrap();
        file.write_at(b"xy", 8).unwrap();
        file.write_at(b"z", 12).unwrap();
        assert_eq!(read_vec(file.as_ref(), 6, 7).unwrap(), b"67xy\0\0z");
        file.set_size(9).unwrap();
        file.set_size(11).unwrap();
        assert_eq!(read_vec(file.as_ref(), 0, 11).unwrap(), b"01234567x\0\0");
        assert!(read_vec(file.as_ref(), 0, 12).is_err());
        overlay.rename("a", "b").unwrap();
        overlay.create("c").unwrap().write_at(&[0; 100], 0).unwrap();
        assert_eq!(overlay.open("c").unwrap().size().unwrap(), 100);
        overlay.remove("c").unwrap();
        assert_eq!(overlay.list().unwrap(), ["b"]);
        assert!(overlay.open("a").is_err());
        assert_eq!(std::fs::read(temp.path().join("a")).unwrap(), b"0123456789");
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_untouched_file_grows_with_the_one_on_the_disk() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a");
        std::fs::write(&path, b"01").unwrap();
        let overlay = Overlay::new(temp.path());
        let file = overlay.open("a").unwrap();
        std::fs::write(&path, b"0123").unwrap();
        assert_eq!(read_vec(file.as_ref(), 0, 4).unwrap(), b"0123");
    }
}
