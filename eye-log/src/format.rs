#![doc = include_str!("../../docs/log-format.md")]

pub mod block;
pub mod file_name;
pub mod filter;
pub mod frame;
pub mod keys;
pub mod manifest;
pub mod payload;
pub mod seal;
pub mod sealed_footer;
pub mod sealed_header;
pub mod segment_header;
pub mod siphash;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_sealed;

/// The most records in a file, so that an offset within it fits 22 bits.
pub const SEGMENT_RECORDS_MAX: u64 = 1 << 22;
/// The format version that raw segments are written in.
pub const FORMAT_VERSION: u32 = 3;
/// The format version of raw segments before, which are read, and closed when the log is opened.
pub const FORMAT_VERSION_BEFORE: u32 = 1;
/// The smallest segment file that can be asked for.
pub const SEGMENT_MIN_BYTES: u64 = 16 << 10;
/// The largest segment file that can be asked for; positions inside a segment fit 32 bits.
pub const SEGMENT_MAX_BYTES: u64 = 1 << 30;
/// The longest body of a frame.
pub const FRAME_BODY_MAX_BYTES: usize = 64 << 20;
/// The most records in a frame.
pub const FRAME_RECORDS_MAX: usize = 100_000;

/// Returns `length` rounded up to the 8 bytes that frames are aligned to.
pub const fn aligned(length: usize) -> usize {
    length.next_multiple_of(8)
}

/// CRC-32 (IEEE 802.3, what zlib and crc32fast compute) of `bytes`, starting from `seed`.
pub fn checksum(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

/// Returns the salt that the first bytes of a file say, whether they hold or not. They are at least as long as a header.
pub(crate) fn salt_in(header: &[u8]) -> u32 {
    u32_at(header, 48)
}

/// Returns the store that the first bytes of a file say, likewise.
pub(crate) fn store_in(header: &[u8]) -> uuid::Uuid {
    uuid::Uuid::from_bytes(bytes_at(header, 16))
}

/// Reads `N` bytes at `at`. Callers have counted the bytes; a miscount is a broken promise of ours.
fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, at))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(bytes_at(bytes, at))
}
