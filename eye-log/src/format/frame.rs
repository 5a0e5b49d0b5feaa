//! A frame: what one request appended, one or more records, all or nothing.
//!
//! What must stay true: a length is believed only after the header's checksum has been, and nothing outside the
//! slice is read whatever the bytes say.

use super::{FRAME_BODY_MAX_BYTES, FRAME_RECORDS_MAX, aligned, checksum, i64_at, u32_at, u64_at};
use crate::offset::Offset;

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 64;
/// Bytes that the table spends on each record: its length and its checksum.
pub const TABLE_ENTRY_BYTES: usize = 8;
/// The first bytes of every frame.
pub const MAGIC: u32 = u32::from_le_bytes(*b"EYEF");
/// The version that frames are written in: records are as blocks keep them, their checksums start from 0.
pub const FRAME_VERSION: u32 = 2;
/// The version before, which is read: records say their arrival and their id, and their checksums start from the salt.
pub const FRAME_VERSION_BEFORE: u32 = 1;

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Its version.
    pub version: u32,
    /// Bytes of table and records, without the padding behind them.
    pub body_bytes: u32,
    /// How many records it holds; 0 for a frame that only carries `durable_end`.
    pub count: u32,
    /// The offset of its first record.
    pub first_offset: Offset,
    /// When it was appended, unix microseconds; never before the frame in front of it.
    pub appended_at: i64,
    /// The log's durable end when this frame was written.
    pub durable_end: Offset,
    /// Checksum of the table.
    pub table_checksum: u32,
    /// The header checksum of the frame in front, or the segment's chain start.
    pub previous: u32,
    /// How many of the request's events were duplicates.
    pub duplicates: u32,
    /// How many of the request's events were refused.
    pub rejected: u32,
}

/// What stands where a frame may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A header whose checksum holds, and that checksum.
    Frame(FrameHeader, u32),
    /// Zero bytes: nothing was written here.
    Zeros,
    /// Neither.
    Broken,
}

impl FrameHeader {
    /// Returns the header's bytes and its checksum.
    pub fn encode(&self, salt: u32) -> ([u8; FRAME_HEADER_BYTES], u32) {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.count.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_offset.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.appended_at.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.durable_end.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.table_checksum.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.previous.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.duplicates.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.rejected.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.version.to_le_bytes());
        let sum = checksum(salt, &bytes[8..]);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        (bytes, sum)
    }

    /// Looks at the first 64 of `bytes`; fewer are broken.
    pub fn decode(bytes: &[u8], salt: u32) -> Found {
        let Some(bytes) = bytes.get(..FRAME_HEADER_BYTES) else {
            return Found::Broken;
        };
        if bytes.iter().all(|byte| *byte == 0) {
            return Found::Zeros;
        }
        let sum = u32_at(bytes, 4);
        let version = u32_at(bytes, 56);
        if u32_at(bytes, 0) != MAGIC
            || sum != checksum(salt, &bytes[8..])
            || ![FRAME_VERSION_BEFORE, FRAME_VERSION].contains(&version)
        {
            return Found::Broken;
        }
        let header = Self {
            version,
            body_bytes: u32_at(bytes, 8),
            count: u32_at(bytes, 12),
            first_offset: u64_at(bytes, 16),
            appended_at: i64_at(bytes, 24),
            durable_end: u64_at(bytes, 32),
            table_checksum: u32_at(bytes, 40),
            previous: u32_at(bytes, 44),
            duplicates: u32_at(bytes, 48),
            rejected: u32_at(bytes, 52),
        };
        let possible = header.body() <= FRAME_BODY_MAX_BYTES
            && header.records() <= FRAME_RECORDS_MAX
            && header.records() * TABLE_ENTRY_BYTES <= header.body()
            && header
                .first_offset
                .checked_add(u64::from(header.count))
                .is_some();
        if possible {
            Found::Frame(header, sum)
        } else {
            Found::Broken
        }
    }

    /// Returns the bytes of table and records.
    pub fn body(&self) -> usize {
        self.body_bytes as usize
    }

    /// Returns how many records it holds.
    pub fn records(&self) -> usize {
        self.count as usize
    }

    /// Returns one past the offset of its last record.
    pub fn end_offset(&self) -> Offset {
        self.first_offset + u64::from(self.count)
    }

    /// Returns how far the next frame lies behind the beginning of this one.
    pub fn stride(&self) -> usize {
        FRAME_HEADER_BYTES + aligned(self.body())
    }
}

/// The lengths and checksums of a frame's records, checked against the header.
#[derive(Debug, Clone)]
pub struct Table<'a> {
    entries: &'a [u8],
    /// What the records' checksums start from.
    seed: u32,
}

impl<'a> Table<'a> {
    /// Takes the table from the beginning of a body; `None` when it is not the one that was written.
    pub fn of(header: &FrameHeader, body: &'a [u8], salt: u32) -> Option<Self> {
        let entries = body.get(..header.records() * TABLE_ENTRY_BYTES)?;
        let seed = record_seed(header.version, salt);
        let table = Self { entries, seed };
        let sums = checksum(salt, entries) == header.table_checksum;
        (sums && entries.len() + table.lengths().sum::<usize>() == header.body()).then_some(table)
    }

    fn lengths(&self) -> impl Iterator<Item = usize> + use<'a> {
        self.entries
            .chunks_exact(TABLE_ENTRY_BYTES)
            .map(|entry| u32_at(entry, 0) as usize)
    }

    /// Returns where each record lies within the body.
    pub fn ranges(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<'a> {
        self.lengths().scan(self.entries.len(), |at, length| {
            let start = *at;
            *at += length;
            Some(start..*at)
        })
    }

    /// Says whether `record` is what was written as the record `index` of the frame.
    pub fn holds(&self, index: usize, record: &[u8]) -> bool {
        u32_at(self.entries, index * TABLE_ENTRY_BYTES + 4) == checksum(self.seed, record)
    }
}

/// Returns the checksum that the table of a frame as written now lists for a record. It depends on the record alone, so whoever
/// encodes one takes it, while the bytes are near: the table itself is checked by one that starts from the salt.
pub fn record_checksum(record: &[u8]) -> u32 {
    checksum(record_seed(FRAME_VERSION, 0), record)
}

/// Returns what the checksums of a frame's records start from.
fn record_seed(version: u32, salt: u32) -> u32 {
    if version == FRAME_VERSION_BEFORE {
        salt
    } else {
        0
    }
}

/// Appends the header and the table of a frame to `out`; the records themselves, and zeros up to a multiple of eight bytes,
/// follow. Returns the header's checksum. `header`'s body length, count and table checksum are filled in from the lengths and
/// checksums of the records.
pub fn push_head(
    out: &mut Vec<u8>,
    header: &mut FrameHeader,
    records: impl Iterator<Item = (usize, u32)>,
    salt: u32,
) -> u32 {
    let start = out.len();
    let table = start + FRAME_HEADER_BYTES;
    out.resize(table, 0);
    let (mut count, mut bytes) = (0u32, 0);
    for (length, sum) in records {
        bytes += length;
        let length = u32::try_from(length).expect("the writer keeps records under the cap");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&sum.to_le_bytes());
        count += 1;
    }
    let body = out.len() - table + bytes;
    header.table_checksum = checksum(salt, &out[table..]);
    header.count = count;
    header.body_bytes = u32::try_from(body).expect("the writer keeps bodies under the cap");
    let (bytes, sum) = header.encode(salt);
    out[start..table].copy_from_slice(&bytes);
    sum
}

/// Appends a whole frame to `out`, likewise.
#[cfg(test)]
pub(crate) fn push<'r>(
    out: &mut Vec<u8>,
    header: &mut FrameHeader,
    records: impl Iterator<Item = &'r [u8]> + Clone,
    salt: u32,
) -> u32 {
    let start = out.len();
    let seed = record_seed(header.version, salt);
    let table = records
        .clone()
        .map(|record| (record.len(), checksum(seed, record)));
    let sum = push_head(out, header, table, salt);
    records.for_each(|record| out.extend_from_slice(record));
    out.resize(start + header.stride(), 0);
    sum
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn header() -> FrameHeader {
        FrameHeader {
            version: FRAME_VERSION,
            body_bytes: 0,
            count: 0,
            first_offset: 7,
            appended_at: 99,
            durable_end: 5,
            table_checksum: 0,
            previous: 3,
            duplicates: 1,
            rejected: 2,
        }
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_noticed() {
        let mut bytes = Vec::new();
        let mut header = header();
        push(
            &mut bytes,
            &mut header,
            [b"first".as_slice(), b"", b"third record"].into_iter(),
            42,
        );
        assert_eq!(bytes.len() % 8, 0);
        let body_end = FRAME_HEADER_BYTES + header.body();
        let whole = |bytes: &[u8]| {
            let Found::Frame(header, _) = FrameHeader::decode(bytes, 42) else {
                return false;
            };
            let Some(body) = bytes.get(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + header.body())
            else {
                return false;
            };
            let Some(table) = Table::of(&header, body, 42) else {
                return false;
            };
            table
                .ranges()
                .enumerate()
                .all(|(index, range)| table.holds(index, &body[range]))
        };
        assert!(whole(&bytes));
        for bit in 0..body_end * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!whole(&bytes), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_frame_of_another_segment_is_no_frame() {
        let mut bytes = Vec::new();
        push(&mut bytes, &mut header(), [b"x".as_slice()].into_iter(), 42);
        assert_eq!(FrameHeader::decode(&bytes, 43), Found::Broken);
        assert_eq!(FrameHeader::decode(&[0; 64], 43), Found::Zeros);
        assert_eq!(FrameHeader::decode(&bytes[..63], 42), Found::Broken);
    }
}
