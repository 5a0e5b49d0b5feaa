//! The first 4,096 bytes of a sealed file.

use uuid::Uuid;

use super::segment_header::{MAGIC, SEGMENT_HEADER_BYTES};
use super::{bytes_at, checksum, i64_at, u32_at, u64_at};
use crate::offset::Offset;

/// The format version of sealed files.
pub const SEALED_VERSION: u32 = 2;
const CHECKSUM_AT: usize = SEGMENT_HEADER_BYTES - 4;

/// What a sealed file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedHeader {
    /// The store it belongs to.
    pub store: Uuid,
    /// The offset of its first record.
    pub base: Offset,
    /// One past its last record.
    pub end: Offset,
    /// How often its range was rewritten.
    pub generation: u32,
    /// When it was written, unix microseconds.
    pub created_at: i64,
    /// Seeds every checksum in the file.
    pub salt: u32,
}

impl SealedHeader {
    /// Returns the header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&SEALED_VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(self.store.as_bytes());
        bytes[32..40].copy_from_slice(&self.base.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.created_at.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.salt.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.generation.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.end.to_le_bytes());
        let sum = checksum(0, &bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads a header, or says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() < SEGMENT_HEADER_BYTES || &bytes[0..8] != MAGIC {
            return Err("it does not begin with the header of a sealed file".to_owned());
        }
        if checksum(0, &bytes[..CHECKSUM_AT]) != u32_at(bytes, CHECKSUM_AT) {
            return Err("the header does not match its checksum".to_owned());
        }
        let version = u32_at(bytes, 8);
        if version != SEALED_VERSION {
            return Err(format!(
                "format version {version}; sealed files are of version {SEALED_VERSION}"
            ));
        }
        Ok(Self {
            store: Uuid::from_bytes(bytes_at(bytes, 16)),
            base: u64_at(bytes, 32),
            created_at: i64_at(bytes, 40),
            salt: u32_at(bytes, 48),
            generation: u32_at(bytes, 52),
            end: u64_at(bytes, 56),
        })
    }
}
