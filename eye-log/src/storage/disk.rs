//! A real folder.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt as _, FileExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::{Storage, StorageFile, write_zeros};

/// The mode of every file in a log's folder.
pub(crate) const PRIVATE_FILE: u32 = 0o600;
/// The mode of a log's folder.
const PRIVATE_FOLDER: u32 = 0o700;

/// Makes `folder`, for its owner alone, where it is missing; folders above it get the usual mode.
pub fn make_private_folder(folder: &Path) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::DirBuilder::new()
        .mode(PRIVATE_FOLDER)
        .create(folder)
    {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        made => made,
    }
}

/// A folder of the file system.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    /// Whether files are opened to be read only.
    read_only: bool,
}

impl Disk {
    /// Uses `folder`, which must be there.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            read_only: false,
        }
    }

    /// Uses `folder` to look only: its files need not be writable, and writing to them is an error.
    pub fn read_only(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            read_only: true,
        }
    }
}

impl Storage for Disk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                // A name that is no text is none of ours.
                names.extend(entry.file_name().into_string().ok());
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(
            OpenOptions::new()
                .read(true)
                .write(!self.read_only)
                .open(self.folder.join(name))?,
        ))
    }

    fn open_direct(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let path = self.folder.join(name);
        let cached = File::open(&path)?;
        // After a failed sync, clean pages show what the disk does not have. Without them everybody reads the disk.
        let _ = rustix::fs::fadvise(&cached, 0, None, rustix::fs::Advice::DontNeed);
        let direct = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::DIRECT.bits().cast_signed())
            .open(&path);
        match direct {
            Ok(file) => Ok(Arc::new(Direct { file })),
            // Not every file system can do it (EINVAL); then the pages just dropped must do.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(Arc::new(cached)),
            Err(error) => Err(error),
        }
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        // Events may be anybody's secrets: the owner's alone, from the first instant.
        options.mode(PRIVATE_FILE);
        Ok(Arc::new(options.open(self.folder.join(name))?))
    }

    fn create_filled(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn StorageFile>> {
        let file = self.create(name)?;
        let direct = fill_directly(&self.folder.join(name), bytes)?;
        write_zeros(file.as_ref(), direct..bytes)?;
        file.sync()?;
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.folder.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all().map_err(failed_sync)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let facts = rustix::fs::statvfs(&self.folder)?;
        Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
    }
}

/// What reads past the page cache must be aligned to: no disk asks for more.
const DIRECT_ALIGNMENT: usize = 4096;

/// Fills a file with zeros from its beginning, past the page cache; returns up to where, which is 0 where the file system
/// cannot do that. The zeros of a whole segment on their way through the cache would push out what is read, cost a
/// processor more than writing the segment itself, and hold up the writer's sync.
fn fill_directly(path: &Path, bytes: u64) -> io::Result<u64> {
    const STEP: usize = 1 << 20;
    let direct = OpenOptions::new()
        .write(true)
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open(path);
    let file = match direct {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(0),
        Err(error) => return Err(error),
    };
    let end = bytes / DIRECT_ALIGNMENT as u64 * DIRECT_ALIGNMENT as u64;
    let buffer = vec![0; STEP + DIRECT_ALIGNMENT];
    let from = buffer.as_ptr().align_offset(DIRECT_ALIGNMENT);
    let zeros = &buffer[from..from + STEP];
    let mut at = 0;
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(STEP).min(STEP);
        match FileExt::write_at(&file, &zeros[..length], at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => at += written as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Some file systems take the flag and refuse the writes.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(at),
            Err(error) => return Err(error),
        }
    }
    Ok(at)
}

/// A file read past the page cache.
#[derive(Debug)]
struct Direct {
    file: File,
}

impl StorageFile for Direct {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let alignment = DIRECT_ALIGNMENT as u64;
        let start = position / alignment * alignment;
        let skip = usize::try_from(position - start).unwrap_or(0);
        let wanted = skip + buffer.len();
        let span = wanted.next_multiple_of(DIRECT_ALIGNMENT);
        // The buffer must be aligned as well: a little more than needed, from the first aligned byte on.
        let mut bytes = vec![0; span + DIRECT_ALIGNMENT];
        let from = bytes.as_ptr().align_offset(DIRECT_ALIGNMENT);
        let aligned = &mut bytes[from..from + span];
        let mut read = 0;
        while read < wanted {
            match FileExt::read_at(&self.file, &mut aligned[read..], start + read as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                // Only the end of the file leaves a part of a page; reading on from there would not be aligned.
                Ok(more) if more % DIRECT_ALIGNMENT != 0 && read + more < wanted => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.copy_from_slice(&aligned[skip..wanted]);
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_size(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// A write that finds no room has changed nothing that matters; a sync that finds none has lost what was written. So that
/// nobody takes the one for the other, no failed sync says that the disk is full.
fn failed_sync(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::StorageFull => io::Error::other(format!("syncing: {error}")),
        _ => error,
    }
}

impl StorageFile for File {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.read_exact_at(buffer, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.write_all_at(bytes, position)
    }

    fn write_parts_at(&self, mut parts: &mut [IoSlice<'_>], mut position: u64) -> io::Result<()> {
        while !parts.is_empty() {
            // Of more parts than the system takes in one write (1,024), rustix hands it the first.
            match rustix::io::pwritev(self, parts, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    IoSlice::advance_slices(&mut parts, written);
                    position += written as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data().map_err(failed_sync)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_filled_file_is_zeros_to_its_last_byte_and_nothing_more() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path());
        for bytes in [0, 1, 4096, 4097, (1 << 20) + 4095] {
            disk.create("one").unwrap().write_at(&[7; 9000], 0).unwrap();
            let file = disk.create_filled("one", bytes).unwrap();
            assert_eq!(file.size().unwrap(), bytes);
            let mut read = vec![1; usize::try_from(bytes).unwrap()];
            file.read_at(&mut read, 0).unwrap();
            assert!(read.iter().all(|byte| *byte == 0), "{bytes} bytes");
        }
    }

    #[test]
    fn parts_are_written_one_behind_the_other_however_many() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path());
        let file = disk.create("one").unwrap();
        let parts: Vec<Vec<u8>> = (0..3_000)
            .map(|number| vec![u8::try_from(number % 251).unwrap(); number % 5])
            .collect();
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        file.write_parts_at(&mut slices, 3).unwrap();
        let mut read = vec![0; parts.iter().map(Vec::len).sum()];
        file.read_at(&mut read, 3).unwrap();
        assert!(read == parts.concat());
        assert_eq!(file.size().unwrap(), 3 + read.len() as u64);
    }

    #[test]
    fn reading_past_the_cache_gives_the_same_bytes_at_every_position() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path());
        let bytes: Vec<u8> = (0..20_000u32).flat_map(u32::to_le_bytes).collect();
        let file = disk.create("one").unwrap();
        file.write_at(&bytes, 0).unwrap();
        let direct = disk.open_direct("one").unwrap();
        assert_eq!(direct.size().unwrap(), bytes.len() as u64);
        for (at, length) in [
            (0, 10),
            (1, 4096),
            (4095, 2),
            (4096, 4096),
            (70_000, 10_000),
            (79_999, 1),
        ] {
            let mut read = vec![0; length];
            direct.read_at(&mut read, at as u64).unwrap();
            assert_eq!(read, bytes[at..at + length], "{length} bytes at {at}");
        }
        let beyond = direct.read_at(&mut [0; 2], 79_999).unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
    }
}
