//! Reads the sealed files past the page cache, so that a disk that forgets is noticed before somebody needs the bytes.
//!
//! What must stay true: it changes nothing, and what it finds is remembered as damage like what a read finds.

use std::sync::Arc;

use crate::error::ReadError;
use crate::files::Files;
use crate::format::sealed_footer::{BlockEntry, PARTS, Part, TRAILER_BYTES, Trailer};
use crate::format::sealed_header::SealedHeader;
use crate::format::segment_header::SEGMENT_HEADER_BYTES;
use crate::log::Log;
use crate::offset::Offset;
use crate::pieces::Piece;
use crate::sealed::SealedFile;
use crate::storage::{Storage, StorageFile, read_vec};

/// What one pass over the sealed files came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Files that were read to their end.
    pub files: usize,
    /// Bytes that were read from the disk.
    pub bytes: u64,
    /// Whether it ended because it was asked to.
    pub stopped: bool,
}

impl Log {
    /// Reads every sealed file there is now, from the disk, and checks header, blocks and footer. `go_on` is called
    /// with the bytes of each read; it may sleep, for a pass that nobody feels, and ends the pass by returning false.
    /// Damage is remembered, see [`Log::damage`]; an error is a disk that refused to read.
    pub fn scrub(&self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<ScrubReport, ReadError> {
        let shared = self.shared();
        let pieces = shared.files.pieces();
        let mut report = ScrubReport::default();
        // Not always from the first on: a process that is restarted often would never see the last.
        let count = pieces.len().max(1);
        let first = usize::try_from(crate::time::now().unsigned_abs()).unwrap_or(0) % count;
        for place in 0..pieces.len() {
            let Piece::Sealed(file) = &pieces[(first + place) % count] else {
                continue;
            };
            let mut read = |bytes: u64| {
                report.bytes += bytes;
                go_on(bytes)
            };
            match look_at(shared.storage.as_ref(), &shared.files, file, &mut read) {
                Ok(true) => report.files += 1,
                Ok(false) => {
                    report.stopped = true;
                    break;
                }
                // It is known now; the other files are still to be looked at.
                Err(ReadError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(report)
    }
}

/// Reads one file from the disk. Returns false if it was stopped.
fn look_at(
    storage: &dyn Storage,
    files: &Files,
    file: &Arc<SealedFile>,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<bool, ReadError> {
    let failed = |error: std::io::Error| ReadError::Io {
        file: file.name.clone(),
        message: error.to_string(),
    };
    let disk = match storage.open_direct(&file.name) {
        Ok(disk) => disk,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let replaced = !files
                .pieces()
                .iter()
                .any(|piece| matches!(piece, Piece::Sealed(there) if there.name == file.name));
            return match replaced {
                true => Ok(true),
                false => Err(file.damage(file.header.base, crate::sealed::MISSING)),
            };
        }
        Err(error) => return Err(failed(error)),
    };
    let disk: &dyn StorageFile = disk.as_ref();
    let read = |position, length| read_vec(disk, position, length).map_err(failed);
    let wrong = |what: String| file.damage(file.header.base, format!("on the disk: {what}"));
    let size = disk.size().map_err(failed)?;
    if size != file.file_bytes {
        return Err(wrong(format!(
            "{size} bytes instead of {}",
            file.file_bytes
        )));
    }
    let header = SealedHeader::decode(&read(0, SEGMENT_HEADER_BYTES)?).map_err(&wrong)?;
    let trailer = read(size - TRAILER_BYTES as u64, TRAILER_BYTES)?;
    let trailer = Trailer::decode(&trailer, header.salt).map_err(&wrong)?;
    if header != file.header || trailer.checksum != file.trailer.checksum {
        return Err(wrong(
            "another file than the one that was opened".to_owned(),
        ));
    }
    let mut blocks = Vec::new();
    for part in PARTS {
        let (position, length) = trailer.place(part);
        let bytes = read(position, length)?;
        if !trailer.holds(part, &bytes, header.salt) {
            return Err(wrong(format!(
                "the footer's {part} do not match their checksum"
            )));
        }
        if part == Part::Blocks {
            blocks = BlockEntry::decode_all(&bytes, &trailer.summary).map_err(&wrong)?;
        }
        if !go_on(length as u64) {
            return Ok(false);
        }
    }
    let mut damaged = None;
    for entry in blocks.iter().filter(|entry| entry.gone.is_none()) {
        let bytes = read(entry.position, entry.bytes as usize)?;
        if let Err(error) = file.decode_block(entry, &bytes, Offset::MAX) {
            damaged = Some(error);
        }
        if !go_on(u64::from(entry.bytes)) {
            return Ok(false);
        }
    }
    damaged.map_or(Ok(true), Err)
}
