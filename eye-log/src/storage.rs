//! The few file operations the log needs, so that tests can put a disk behind it that loses power, tears and fills up.

mod disk;
#[cfg(any(test, feature = "testing"))]
pub mod faulty;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::sync::Arc;

pub(crate) use disk::PRIVATE_FILE;
pub use disk::{Disk, make_private_folder};

/// A folder of files.
pub trait Storage: Send + Sync + Debug + 'static {
    /// Returns the names of the folder's files, in no order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file that is there, for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;
    /// Opens a file for reading what the disk holds, past the page cache where the file system can do that.
    fn open_direct(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.open(name)
    }
    /// Makes an empty file, replacing one of the same name. Its name is on the disk only after [`Self::sync_names`].
    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;
    /// Makes a file of so many zeros, replacing one of the same name. The zeros are synced when this returns, its name as
    /// with [`Self::create`].
    fn create_filled(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StorageFile>> {
        let file = self.create(name)?;
        write_zeros(file.as_ref(), 0..bytes)?;
        file.sync()?;
        Ok(file)
    }
    /// Gives a file another name. On the disk only after [`Self::sync_names`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a file away. On the disk only after [`Self::sync_names`].
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Syncs the folder itself: which names there are.
    fn sync_names(&self) -> io::Result<()>;
    /// Returns how many bytes the file system still has for whoever is not root.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file, read and written at positions.
pub trait StorageFile: Send + Sync + Debug {
    /// Fills `buffer` from `position` on; fewer bytes are an error of kind `UnexpectedEof`.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `position`. Not on the disk before [`Self::sync`].
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Writes all of `parts`, one behind the other, as [`Self::write_at`] would write them in one piece.
    fn write_parts_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        self.write_at(&bytes, position)
    }
    /// Returns once everything written is on the disk (fdatasync). An error means that nobody knows what is.
    fn sync(&self) -> io::Result<()>;
    /// Returns the file's length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Cuts the file, or lengthens it with zeros.
    fn set_size(&self, bytes: u64) -> io::Result<()>;
}

/// Reads `length` bytes at `position`.
pub(crate) fn read_vec(
    file: &dyn StorageFile,
    position: u64,
    length: usize,
) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_at(&mut bytes, position)?;
    Ok(bytes)
}

/// Writes zeros over a range, in steps, without syncing.
pub(crate) fn write_zeros(file: &dyn StorageFile, range: std::ops::Range<u64>) -> io::Result<()> {
    const STEP: usize = 1 << 20;
    let zeros = vec![0; STEP];
    let mut at = range.start;
    while at < range.end {
        let length = usize::try_from(range.end - at).unwrap_or(STEP).min(STEP);
        file.write_at(&zeros[..length], at)?;
        at += length as u64;
    }
    Ok(())
}
