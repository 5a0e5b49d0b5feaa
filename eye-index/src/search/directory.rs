//! A folder that tantivy writes without syncing.
//!
//! What must stay true: nothing here promises anything about the disk. The log holds the truth; a shard's files are
//! synced once, when it is sealed, and after a crash of the machine those that were not are built again.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tantivy::Directory;
use tantivy::directory::error::{
    DeleteError, LockError, OpenDirectoryError, OpenReadError, OpenWriteError,
};
use tantivy::directory::{
    AntiCallToken, DirectoryLock, FileHandle, Lock, MmapDirectory, TerminatingWrite, WatchCallback,
    WatchHandle, WritePtr,
};

/// Says whether what is being written is not wanted any more.
pub(crate) type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// A folder whose files are read through memory maps and written to the page cache.
#[derive(Clone)]
pub(crate) struct PageCacheDirectory {
    folder: PathBuf,
    mapped: MmapDirectory,
    stop: Option<Stop>,
}

impl std::fmt::Debug for PageCacheDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageCacheDirectory")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl PageCacheDirectory {
    /// Uses `folder`, which must be there.
    pub(crate) fn open(folder: &Path) -> Result<Self, OpenDirectoryError> {
        Ok(Self {
            folder: folder.to_owned(),
            mapped: MmapDirectory::open(folder)?,
            stop: None,
        })
    }

    /// Fails writes from when `stop` says so: tantivy cannot be told to break off merging.
    pub(crate) fn stopped_by(self, stop: Stop) -> Self {
        Self {
            stop: Some(stop),
            ..self
        }
    }
}

struct PageCacheFile(File, Option<Stop>);

impl Write for PageCacheFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.1.as_ref().is_some_and(|stop| stop()) {
            return Err(io::Error::other("it is not wanted any more"));
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TerminatingWrite for PageCacheFile {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        Ok(())
    }
}

impl Directory for PageCacheDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.mapped.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.mapped.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.mapped.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(self.folder.join(path));
        match created {
            Ok(file) => Ok(BufWriter::with_capacity(
                1 << 16,
                Box::new(PageCacheFile(file, self.stop.clone())),
            )),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(OpenWriteError::FileAlreadyExists(path.to_owned()))
            }
            Err(error) => Err(OpenWriteError::wrap_io_error(error, path.to_owned())),
        }
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        self.mapped.atomic_read(path)
    }

    fn atomic_write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let path = self.folder.join(path);
        let temporary = path.with_extension("new");
        std::fs::write(&temporary, bytes)?;
        std::fs::rename(temporary, path)
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    /// The log's lock guards the whole data folder; a second one here could only go stale.
    fn acquire_lock(&self, _: &Lock) -> Result<DirectoryLock, LockError> {
        Ok(DirectoryLock::from(Box::new(())))
    }

    /// Readers are told of commits by whoever commits.
    fn watch(&self, _: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}
