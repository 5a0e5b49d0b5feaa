//! The files that rejections are kept in: records one after the other, each with its lengths and a checksum.
//!
//! ```text
//! u32 LE  bytes of the head (JSON)
//! u32 LE  bytes of the body
//! u32 LE  CRC-32 of head and body
//! head, body
//! ```
//!
//! What must stay true: a record that does not hold is never read as one; what follows it in its file is lost with it, and
//! said to be.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Head;

const PREFIX_BYTES: usize = 12;
/// What neither a head nor a body is longer than.
const PART_MAX_BYTES: usize = 16 << 20;
const SUFFIX: &str = ".rejections";

/// One file, to read and to append.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
    pub(super) length: u64,
}

/// Where a record lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The number of its file.
    pub(super) file: u64,
    pub(super) position: u64,
}

impl Place {
    /// Returns a number that grows from record to record.
    pub(super) fn number(self) -> u64 {
        (self.file << 32) | self.position
    }
}

impl Records {
    /// Makes the file with this number.
    pub(super) fn create(folder: &Path, number: u64) -> io::Result<Self> {
        let path = path_of(folder, number);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = Arc::new(options.open(&path)?);
        File::open(folder)?.sync_all()?;
        Ok(Self {
            path,
            file,
            length: 0,
        })
    }

    /// Opens a file and shows every record with its place. Cuts what does not hold off its end.
    pub(super) fn open(
        folder: &Path,
        number: u64,
        see: &mut dyn FnMut(Place, Head, u64),
    ) -> io::Result<Self> {
        let path = path_of(folder, number);
        let file = Arc::new(OpenOptions::new().read(true).write(true).open(&path)?);
        let mut records = Self {
            path,
            file,
            length: 0,
        };
        let whole = records.file.metadata()?.len();
        while let Some((head, _, bytes)) = records.read(records.length, whole)? {
            let place = Place {
                file: number,
                position: records.length,
            };
            records.length += bytes;
            see(place, head, bytes);
        }
        if records.length < whole {
            tracing::warn!(
                file = %records.path.display(), position = records.length, bytes = whole - records.length,
                "what was kept of rejections here cannot be read, and is dropped"
            );
            records.file.set_len(records.length)?;
        }
        Ok(records)
    }

    /// Appends a record; returns where it is and how long.
    pub(super) fn append(&mut self, head: &Head, body: &[u8]) -> io::Result<(u64, u64)> {
        let record = encode(head, body)?;
        let position = self.length;
        if let Err(error) = self.file.write_all_at(&record, position) {
            // A part of a record would hide what comes behind it.
            let _ = self.file.set_len(position);
            return Err(error);
        }
        self.length += record.len() as u64;
        Ok((position, record.len() as u64))
    }

    /// Returns what reads the record at a position.
    pub(super) fn spot(&self, position: u64) -> Spot {
        Spot {
            file: Arc::clone(&self.file),
            position,
        }
    }

    /// Returns the head, the body and the length of the record, or nothing where no record holds.
    fn read(&self, position: u64, end: u64) -> io::Result<Option<(Head, Vec<u8>, u64)>> {
        if position + PREFIX_BYTES as u64 > end {
            return Ok(None);
        }
        let (head, body, sum) = prefix_at(&self.file, position)?;
        let rest = end - position - PREFIX_BYTES as u64;
        if head > PART_MAX_BYTES || body > PART_MAX_BYTES || (head + body) as u64 > rest {
            return Ok(None);
        }
        let mut bytes = vec![0; head + body];
        self.file
            .read_exact_at(&mut bytes, position + PREFIX_BYTES as u64)?;
        if crc32fast::hash(&bytes) != sum {
            return Ok(None);
        }
        let length = (PREFIX_BYTES + bytes.len()) as u64;
        let body = bytes.split_off(head);
        // A record that holds and cannot be read is another version's: cutting it off would lose what is whole.
        let head = serde_json::from_slice(&bytes).map_err(io::Error::from)?;
        Ok(Some((head, body, length)))
    }

    /// Says whether all records pass a test; tries every one.
    pub(super) fn all(&self, passes: &mut dyn FnMut(&Head, &[u8]) -> bool) -> io::Result<bool> {
        let (mut all, mut position) = (true, 0);
        while let Some((head, body, bytes)) = self.read(position, self.length)? {
            position += bytes;
            all &= passes(&head, &body);
        }
        Ok(all)
    }

    /// Writes the file anew with the records that `keep` lets stay. Nothing of the others is left once this returns.
    pub(super) fn rewrite(&mut self, keep: &mut dyn FnMut(&Head, &[u8]) -> bool) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = Arc::new(options.mode(0o600).open(&new)?);
        let mut kept = Self {
            path: self.path.clone(),
            file,
            length: 0,
        };
        let mut position = 0;
        while let Some((head, body, bytes)) = self.read(position, self.length)? {
            position += bytes;
            if keep(&head, &body) {
                kept.append(&head, &body)?;
            }
        }
        kept.file.sync_data()?;
        std::fs::rename(&new, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        *self = kept;
        Ok(())
    }
}

/// Where one record is, and what reads it.
pub(super) struct Spot {
    file: Arc<File>,
    position: u64,
}

impl Spot {
    /// Returns the head, the body where it is wanted, and how long that is. A record read without its body is not held
    /// against its checksum, which it was when it was written or its file was opened.
    pub(super) fn read(&self, with_body: bool) -> io::Result<(Head, Vec<u8>, u64)> {
        let (head, body, sum) = prefix_at(&self.file, self.position)?;
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "a rejection is damaged");
        if head > PART_MAX_BYTES || body > PART_MAX_BYTES {
            return Err(wrong());
        }
        let mut bytes = vec![0; if with_body { head + body } else { head }];
        self.file
            .read_exact_at(&mut bytes, self.position + PREFIX_BYTES as u64)?;
        if with_body && crc32fast::hash(&bytes) != sum {
            return Err(wrong());
        }
        let kept = bytes.split_off(head);
        Ok((serde_json::from_slice(&bytes)?, kept, body as u64))
    }
}

/// Returns the lengths of a record's head and body and its checksum.
fn prefix_at(file: &File, position: u64) -> io::Result<(usize, usize, u32)> {
    let mut prefix = [0; PREFIX_BYTES];
    file.read_exact_at(&mut prefix, position)?;
    let number = |at: usize| {
        u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]])
    };
    Ok((number(0) as usize, number(4) as usize, number(8)))
}

fn encode(head: &Head, body: &[u8]) -> io::Result<Vec<u8>> {
    let head = serde_json::to_vec(head)?;
    if head.len() > PART_MAX_BYTES || body.len() > PART_MAX_BYTES {
        // It would be taken for damage when it is read.
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too long to be kept",
        ));
    }
    let mut record = vec![0; PREFIX_BYTES];
    record.extend_from_slice(&head);
    record.extend_from_slice(body);
    let length = |part: usize| {
        u32::try_from(part)
            .map(u32::to_le_bytes)
            .map_err(io::Error::other)
    };
    record[..4].copy_from_slice(&length(head.len())?);
    record[4..8].copy_from_slice(&length(body.len())?);
    let sum = crc32fast::hash(&record[PREFIX_BYTES..]);
    record[8..12].copy_from_slice(&sum.to_le_bytes());
    Ok(record)
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}{SUFFIX}"))
}

/// Returns the numbers of the files in a folder, ascending. What an interrupted rewriting left is removed.
pub(super) fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|suffix| suffix == "new") {
            std::fs::remove_file(&path)?;
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_suffix(SUFFIX)?.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Looks for a text in a file, in any case of letters.
#[cfg(test)]
pub(super) fn holds(path: &Path, text: &str) -> bool {
    let bytes = std::fs::read(path).unwrap_or_default().to_ascii_lowercase();
    memchr::memmem::find(&bytes, text.to_ascii_lowercase().as_bytes()).is_some()
}
