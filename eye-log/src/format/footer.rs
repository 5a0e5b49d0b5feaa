//! What is written behind the last frame of a sealed segment, so that opening it reads no frame.
//!
//! What must stay true: everything here can be computed from the frames again; `eye log verify` does.

use super::{bytes_at, checksum, i64_at, u32_at, u64_at};
use crate::admission::table::{ID_ENTRY_BYTES, SESSION_ENTRY_BYTES, SealedEntries};
use crate::offset::Offset;

/// Bytes of the trailer at the very end of a sealed file.
pub const TRAILER_BYTES: usize = 160;
const MAGIC: &[u8; 8] = b"EYEFOOT1";
const INDEX_ENTRY_BYTES: usize = 16;
const PARTS: usize = 6;
const SIZES: [usize; PARTS] = [
    INDEX_ENTRY_BYTES,
    8,
    SESSION_ENTRY_BYTES,
    ID_ENTRY_BYTES,
    1,
    1,
];

/// The summary of a sealed segment, kept in the trailer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// The offset of the first record.
    pub base: Offset,
    /// One past the offset of the last record.
    pub end: Offset,
    /// Where the frames end and the footer begins.
    pub frames_end: u64,
    /// How many of the records are events.
    pub events: u64,
    /// Arrival of the first record, unix microseconds; 0 when there is none.
    pub first_received_at: i64,
    /// Arrival of the last record, unix microseconds.
    pub last_received_at: i64,
    /// Earliest timestamp of an event, unix microseconds; `i64::MAX` when there is none.
    pub min_timestamp: i64,
    /// Latest timestamp of an event, unix microseconds; `i64::MIN` when there is none.
    pub max_timestamp: i64,
    /// Header checksum of the last frame.
    pub last_frame: u32,
}

/// Where the parts of a footer lie: bytes from the beginning of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Sparse index: `offset u64, position u64` each.
    pub index: (u64, usize),
    /// Offsets of registry records: `u64` each.
    pub controls: (u64, usize),
    /// Sessions first seen in the segment, sorted.
    pub sessions: (u64, usize),
    /// Client-made ids, sorted.
    pub ids: (u64, usize),
    /// Bloom filter over the sessions.
    pub session_filter: (u64, usize),
    /// Bloom filter over the ids.
    pub id_filter: (u64, usize),
}

/// A footer taken apart: what it says, where its parts lie, and their checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// The summary.
    pub summary: Summary,
    counts: [u32; PARTS],
    sums: [u32; PARTS],
}

/// Returns the bytes to append behind the frames of a segment.
pub(crate) fn encode(
    summary: &Summary,
    index: &[(Offset, u64)],
    controls: &[Offset],
    entries: &SealedEntries,
    salt: u32,
) -> Vec<u8> {
    let index_bytes: Vec<u8> = index
        .iter()
        .flat_map(|(offset, at)| [offset.to_le_bytes(), at.to_le_bytes()].concat())
        .collect();
    let control_bytes: Vec<u8> = controls
        .iter()
        .flat_map(|offset| offset.to_le_bytes())
        .collect();
    let parts: [&[u8]; PARTS] = [
        &index_bytes,
        &control_bytes,
        &entries.sessions,
        &entries.ids,
        entries.session_filter.bytes(),
        entries.id_filter.bytes(),
    ];

    let mut out = parts.concat();
    out.resize(super::aligned(out.len()), 0);
    let start = out.len();
    out.resize(start + TRAILER_BYTES, 0);
    let trailer = &mut out[start..];
    trailer[0..8].copy_from_slice(MAGIC);
    trailer[8..16].copy_from_slice(&summary.base.to_le_bytes());
    trailer[16..24].copy_from_slice(&summary.end.to_le_bytes());
    trailer[24..32].copy_from_slice(&summary.frames_end.to_le_bytes());
    trailer[32..40].copy_from_slice(&summary.events.to_le_bytes());
    trailer[40..48].copy_from_slice(&summary.first_received_at.to_le_bytes());
    trailer[48..56].copy_from_slice(&summary.last_received_at.to_le_bytes());
    trailer[56..64].copy_from_slice(&summary.min_timestamp.to_le_bytes());
    trailer[64..72].copy_from_slice(&summary.max_timestamp.to_le_bytes());
    trailer[72..76].copy_from_slice(&summary.last_frame.to_le_bytes());
    for (place, (part, size)) in parts.iter().zip(SIZES).enumerate() {
        let count =
            u32::try_from(part.len() / size).expect("a segment holds fewer than 2^32 entries");
        trailer[80 + place * 4..84 + place * 4].copy_from_slice(&count.to_le_bytes());
        trailer[104 + place * 4..108 + place * 4]
            .copy_from_slice(&checksum(salt, part).to_le_bytes());
    }
    let sum = checksum(salt, &trailer[..TRAILER_BYTES - 4]);
    trailer[TRAILER_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
    out
}

impl Trailer {
    /// Reads the last [`TRAILER_BYTES`] of a file; `None` when they are no trailer whose checksum holds.
    pub fn decode(bytes: &[u8], salt: u32) -> Option<Self> {
        let bytes = bytes.get(..TRAILER_BYTES)?;
        if &bytes[0..8] != MAGIC
            || u32_at(bytes, TRAILER_BYTES - 4) != checksum(salt, &bytes[..TRAILER_BYTES - 4])
        {
            return None;
        }
        let summary = Summary {
            base: u64_at(bytes, 8),
            end: u64_at(bytes, 16),
            frames_end: u64_at(bytes, 24),
            events: u64_at(bytes, 32),
            first_received_at: i64_at(bytes, 40),
            last_received_at: i64_at(bytes, 48),
            min_timestamp: i64_at(bytes, 56),
            max_timestamp: i64_at(bytes, 64),
            last_frame: u32_at(bytes, 72),
        };
        let six = |at: usize| [0, 1, 2, 3, 4, 5].map(|place| u32_at(bytes, at + place * 4));
        Some(Self {
            summary,
            counts: six(80),
            sums: six(104),
        })
    }

    /// Returns where the parts lie.
    pub fn layout(&self) -> Layout {
        let mut at = self.summary.frames_end;
        let mut part = |place: usize| {
            let part = (at, self.counts[place] as usize * SIZES[place]);
            at += part.1 as u64;
            part
        };
        Layout {
            index: part(0),
            controls: part(1),
            sessions: part(2),
            ids: part(3),
            session_filter: part(4),
            id_filter: part(5),
        }
    }

    /// Returns how long the whole file is.
    pub fn file_bytes(&self) -> u64 {
        let (at, length) = self.layout().id_filter;
        (at + length as u64).next_multiple_of(8) + TRAILER_BYTES as u64
    }

    /// Says whether a part, counted in the order of [`Layout`], is what was written.
    pub fn holds(&self, place: usize, part: &[u8], salt: u32) -> bool {
        self.sums.get(place) == Some(&checksum(salt, part))
    }
}

/// Reads the sparse index.
pub fn decode_index(bytes: &[u8]) -> Vec<(Offset, u64)> {
    bytes
        .chunks_exact(INDEX_ENTRY_BYTES)
        .map(|entry| (u64_at(entry, 0), u64_at(entry, 8)))
        .collect()
}

/// Reads the offsets of registry records.
pub fn decode_controls(bytes: &[u8]) -> Vec<Offset> {
    bytes
        .chunks_exact(8)
        .map(|entry| u64::from_le_bytes(bytes_at(entry, 0)))
        .collect()
}
