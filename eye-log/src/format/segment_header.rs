//! The first 4,096 bytes of a segment file.

use uuid::Uuid;

use super::{FORMAT_VERSION, FORMAT_VERSION_BEFORE, bytes_at, checksum, i64_at, u32_at, u64_at};
use crate::offset::Offset;

/// Where the first frame begins.
pub const SEGMENT_HEADER_BYTES: usize = 4096;
pub(super) const MAGIC: &[u8; 8] = b"EYELOG\r\n";
const CHECKSUM_AT: usize = SEGMENT_HEADER_BYTES - 4;

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The format version of what follows.
    pub version: u32,
    /// The store it belongs to.
    pub store: Uuid,
    /// The offset of its first record.
    pub base: Offset,
    /// When it was begun, unix microseconds.
    pub created_at: i64,
    /// Seeds every checksum in the file, so that bytes of another file or of a client never pass for a frame.
    pub salt: u32,
}

impl SegmentHeader {
    /// Returns the header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[16..32].copy_from_slice(self.store.as_bytes());
        bytes[32..40].copy_from_slice(&self.base.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.created_at.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.salt.to_le_bytes());
        let sum = checksum(0, &bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads a header, or says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() < SEGMENT_HEADER_BYTES {
            return Err(format!(
                "a segment header has {SEGMENT_HEADER_BYTES} bytes, found {}",
                bytes.len()
            ));
        }
        if &bytes[0..8] != MAGIC {
            return Err(format!(
                "expected a segment header, found {:02x?}",
                &bytes[0..8]
            ));
        }
        let (expected, found) = (
            checksum(0, &bytes[..CHECKSUM_AT]),
            u32_at(bytes, CHECKSUM_AT),
        );
        if expected != found {
            return Err(format!(
                "segment header checksum {found:08x}, expected {expected:08x}"
            ));
        }
        let version = u32_at(bytes, 8);
        if ![FORMAT_VERSION_BEFORE, FORMAT_VERSION].contains(&version) {
            return Err(format!(
                "format version {version}; this program reads the versions {FORMAT_VERSION_BEFORE} and {FORMAT_VERSION} of raw segments"
            ));
        }
        Ok(Self {
            version,
            store: Uuid::from_bytes(bytes_at(bytes, 16)),
            base: u64_at(bytes, 32),
            created_at: i64_at(bytes, 40),
            salt: u32_at(bytes, 48),
        })
    }

    /// Returns what the first frame names as its predecessor's checksum.
    pub fn chain_start(&self) -> u32 {
        checksum(self.salt, &self.base.to_le_bytes())
    }
}

/// Says so where a header, of a segment or of a sealed file, is one that a later program wrote: of those, too, magic, version and
/// checksum are where they are in this one. Such a file is not damaged, and repairing it would give up what is in order.
pub(crate) fn of_a_later_program(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.get(..SEGMENT_HEADER_BYTES)?;
    let holds =
        &bytes[0..8] == MAGIC && checksum(0, &bytes[..CHECKSUM_AT]) == u32_at(bytes, CHECKSUM_AT);
    let version = Some(u32_at(bytes, 8)).filter(|version| holds && *version > FORMAT_VERSION)?;
    Some(format!(
        "it has format version {version}, which a later program wrote; this one reads up to {FORMAT_VERSION}. Use that program, or \
         restore a backup from before"
    ))
}
