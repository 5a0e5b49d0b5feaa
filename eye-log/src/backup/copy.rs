//! Single files of a backup: linked, copied whole, or copied frame by frame while they grow.
//!
//! What must stay true: a file is synced before its name says that it is whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::BackupError;
use crate::error::{Damage, ReadError};
use crate::format::file_name;
use crate::format::segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::offset::Offset;
use crate::segment::Segment;
use crate::segment::walk::{Step, Walk};
use crate::storage::PRIVATE_FILE;

/// Every file of a log says which store it belongs to in these bytes of its header.
const STORE_AT: u64 = 16;
/// A sealed file ends with a trailer of so many bytes that covers everything in front of it.
const SEALED_TRAILER_BYTES: u64 = 256;
/// How often, and how long apart, bytes behind the last whole frame are looked at again before they count as damage.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// How a file came to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copied {
    /// It shares its bytes with the original.
    Linked,
    /// Its bytes were copied.
    Bytes,
}

/// Returns the store that a file of a log belongs to.
pub(super) fn store_of(path: &Path) -> Result<Uuid, BackupError> {
    let mut bytes = [0; 16];
    File::open(path)
        .and_then(|file| file.read_exact_at(&mut bytes, STORE_AT))
        .map_err(BackupError::io("reading", path))?;
    Ok(Uuid::from_bytes(bytes))
}

/// Says whether `there` is the sealed file `here`: as long, with the same trailer.
pub(super) fn is_same_sealed(here: &Path, there: &Path) -> Result<bool, BackupError> {
    let Ok(copy) = File::open(there) else {
        return Ok(false);
    };
    let original = File::open(here).map_err(BackupError::io("opening", here))?;
    let read = |file: &File| -> io::Result<(u64, Vec<u8>)> {
        let length = file.metadata()?.len();
        let mut trailer = vec![0; 256];
        file.read_exact_at(&mut trailer, length.saturating_sub(SEALED_TRAILER_BYTES))?;
        Ok((length, trailer))
    };
    let original = read(&original).map_err(BackupError::io("reading", here))?;
    Ok(read(&copy).is_ok_and(|copy| copy == original))
}

/// Links a file that never changes; copies it where the file system cannot link.
pub(super) fn link_or_copy(from: &Path, to: &Path) -> Result<Copied, BackupError> {
    match std::fs::hard_link(from, to) {
        Ok(()) => Ok(Copied::Linked),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(BackupError::io("linking", from)(error))
        }
        Err(_) => copy_file(from, to),
    }
}

/// Copies a whole file and syncs it.
pub(super) fn copy_file(from: &Path, to: &Path) -> Result<Copied, BackupError> {
    let mut source = File::open(from).map_err(BackupError::io("opening", from))?;
    let mut copy = new_file(to)?;
    io::copy(&mut source, &mut copy)
        .and_then(|_| copy.sync_all())
        .map_err(BackupError::io("copying to", to))?;
    Ok(Copied::Bytes)
}

/// Writes a small file and syncs it.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    let mut file = new_file(path)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(BackupError::io("writing", path))
}

fn new_file(path: &Path) -> Result<File, BackupError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    options
        .mode(PRIVATE_FILE)
        .open(path)
        .map_err(BackupError::io("making", path))
}

/// Copies the header and every whole frame of a raw segment, and syncs; returns the bytes of the copy. Where `next` is
/// the base of the following segment, the frames must reach it. The last segment ends where whole frames do: what was
/// durable at the start lies in front of that.
pub(super) fn copy_frames(
    log: &Path,
    base: Offset,
    next: Option<Offset>,
    to: &Path,
) -> Result<u64, BackupError> {
    let segment = open(log, base)?;
    let end = frames_end(&segment, next).map_err(|error| match error {
        ReadError::Damaged(damage) => BackupError::Damaged(damage.into()),
        ReadError::Io { file, message } => {
            BackupError::io("reading", &log.join(file))(io::Error::other(message))
        }
    })?;
    let from = log.join(&segment.name);
    let source = File::open(&from).map_err(BackupError::io("opening", &from))?;
    let mut copy = new_file(to)?;
    let copied = io::copy(&mut source.take(end), &mut copy)
        .and_then(|copied| copy.sync_all().map(|()| copied))
        .map_err(BackupError::io("copying to", to))?;
    if copied < end {
        return Err(BackupError::io("reading", &from)(
            io::ErrorKind::UnexpectedEof.into(),
        ));
    }
    Ok(end)
}

fn open(log: &Path, base: Offset) -> Result<Segment, BackupError> {
    let name = file_name::segment(base);
    let path = log.join(&name);
    let file = File::open(&path).map_err(BackupError::io("opening", &path))?;
    let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
    (&file)
        .take(SEGMENT_HEADER_BYTES as u64)
        .read_to_end(&mut bytes)
        .map_err(BackupError::io("reading", &path))?;
    let header = SegmentHeader::decode(&bytes).map_err(|what| {
        let damage = Damage {
            file: name.clone(),
            position: 0,
            first_offset: base,
            last_offset: None,
            what,
        };
        BackupError::Damaged(damage.into())
    })?;
    Ok(Segment::new(name, header, Arc::new(file)))
}

/// Returns where the whole frames of a segment end.
fn frames_end(segment: &Segment, next: Option<Offset>) -> Result<u64, ReadError> {
    let mut reached = 0;
    let mut looks = 0;
    loop {
        let mut walk = Walk::new(segment)?;
        let found = loop {
            if next == Some(walk.next_offset) {
                return Ok(walk.position);
            }
            match walk.step()? {
                Step::Frame(..) => {}
                Step::End => break "zeros".to_owned(),
                Step::Broken(what) => break what,
            }
        };
        let (position, expected) = (walk.position, walk.next_offset);
        let says_durable = walk.later_frame_says_durable(expected)?;
        let wrong = match (next, says_durable) {
            (None, None) => return Ok(position),
            (Some(next), _) => format!("{found}, but the next segment begins with record {next}"),
            (None, Some((at, end))) => format!(
                "{found}, but the frame at byte {at} says that everything below record {end} was on the disk"
            ),
        };
        // Beside a running server a frame may have been half written when it was read, and whole when the one behind it
        // was. Looked at again it is whole; damage stays where it is.
        looks = if position > reached { 0 } else { looks + 1 };
        reached = position;
        if looks >= LOOKS {
            return Err(segment.damage(position, expected, wrong).into());
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_sealed_file_is_known_by_its_length_and_trailer() {
        let temp = tempfile::tempdir().unwrap();
        let (a, b) = (temp.path().join("a"), temp.path().join("b"));
        std::fs::write(&a, vec![7; 1000]).unwrap();
        assert!(!is_same_sealed(&a, &b).unwrap());
        assert_eq!(copy_file(&a, &b).unwrap(), Copied::Bytes);
        assert!(is_same_sealed(&a, &b).unwrap());
        let mut bytes = vec![7; 1000];
        bytes[999] = 8;
        std::fs::write(&b, &bytes).unwrap();
        assert!(!is_same_sealed(&a, &b).unwrap());
        std::fs::write(&b, vec![7; 1001]).unwrap();
        assert!(!is_same_sealed(&a, &b).unwrap());
    }

    #[test]
    fn a_link_shares_its_bytes_and_a_missing_file_is_told_apart() {
        use std::os::unix::fs::MetadataExt as _;
        let temp = tempfile::tempdir().unwrap();
        let (a, b) = (temp.path().join("a"), temp.path().join("b"));
        assert!(link_or_copy(&a, &b).unwrap_err().is_gone());
        std::fs::write(&a, "x").unwrap();
        assert_eq!(link_or_copy(&a, &b).unwrap(), Copied::Linked);
        assert_eq!(a.metadata().unwrap().ino(), b.metadata().unwrap().ino());
    }
}
