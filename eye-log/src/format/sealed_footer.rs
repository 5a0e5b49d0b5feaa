//! The footer of a sealed file: what finds its records, who owns what was first seen in it, and its seals.

use std::fmt;
use std::io;

use super::filter::{self, FILTER_BLOCK_BYTES};
use super::keys::PRINT_BITS;
use super::seal::{Hash, Seal};
use super::segment_header::SEGMENT_HEADER_BYTES;
use super::{SEGMENT_RECORDS_MAX, aligned, bytes_at, checksum, i64_at, u32_at, u64_at};
use crate::offset::Offset;
use crate::record::Reason;
use crate::registry::ApplicationId;

/// Bytes of the trailer, the last of the file.
pub const TRAILER_BYTES: usize = 256;
const MAGIC: &[u8; 8] = b"EYESEAL2";
const CHECKSUM_AT: usize = TRAILER_BYTES - 4;
/// Low bits of an id's entry: its offset, from the file's base on.
const RELATIVE_BITS: u32 = u64::BITS - PRINT_BITS;

/// The parts of a footer, in the order in which they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// [`BlockEntry`]s.
    Blocks,
    /// Offsets of records that are neither events nor gone.
    Controls,
    /// [`SessionEntry`]s, sorted.
    Sessions,
    /// [`IdEntry`]s, sorted.
    Ids,
    /// The filter over the sessions.
    SessionFilter,
    /// The filter over the ids.
    IdFilter,
    /// [`Seal`]s.
    Seals,
    /// [`ChangeEntry`]s.
    Changes,
    /// [`LedgerEntry`]s, sorted.
    Ledger,
}

/// All parts, in order.
pub const PARTS: [Part; 9] = [
    Part::Blocks,
    Part::Controls,
    Part::Sessions,
    Part::Ids,
    Part::SessionFilter,
    Part::IdFilter,
    Part::Seals,
    Part::Changes,
    Part::Ledger,
];

impl Part {
    /// Returns the bytes of one entry.
    pub fn entry_bytes(self) -> usize {
        match self {
            Self::Blocks => BlockEntry::BYTES,
            Self::Controls => 8,
            Self::Sessions => SessionEntry::BYTES,
            Self::Ids => IdEntry::BYTES,
            Self::SessionFilter | Self::IdFilter => FILTER_BLOCK_BYTES,
            Self::Seals => Seal::BYTES,
            Self::Changes => ChangeEntry::BYTES,
            Self::Ledger => LedgerEntry::BYTES,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocks => "blocks",
            Self::Controls => "control records",
            Self::Sessions => "sessions",
            Self::Ids => "ids",
            Self::SessionFilter => "session filter's bytes",
            Self::IdFilter => "id filter's bytes",
            Self::Seals => "seals",
            Self::Changes => "changes",
            Self::Ledger => "ledger's entries",
        })
    }
}

/// A block, or a range of records that are all gone and have no block any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockEntry {
    /// The offset of its first record.
    pub first: Offset,
    /// Where it begins in the file.
    pub position: u64,
    /// Header and content, without padding; 0 for a range that is gone.
    pub bytes: u32,
    /// Bytes before compression.
    pub raw_bytes: u32,
    /// How many records.
    pub count: u32,
    /// Why a range without a block is gone.
    pub gone: Option<Reason>,
    /// The block's hash as it was first sealed; zeros for a range that is gone.
    pub hash: Hash,
}

impl BlockEntry {
    const BYTES: usize = 64;

    /// Returns one past the offset of its last record.
    pub fn end(&self) -> Offset {
        self.first + u64::from(self.count)
    }

    fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..8].copy_from_slice(&self.first.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.position.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.raw_bytes.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.count.to_le_bytes());
        let gone = self.gone.map_or(0, |reason| u32::from(reason.code()));
        bytes[28..32].copy_from_slice(&gone.to_le_bytes());
        bytes[32..64].copy_from_slice(&self.hash);
        bytes
    }

    /// Reads the list, which must cover the file's offsets, and its bytes up to the footer, without gaps.
    pub fn decode_all(bytes: &[u8], summary: &Summary) -> Result<Vec<Self>, String> {
        let (mut expected, mut position) = (summary.base, SEGMENT_HEADER_BYTES as u64);
        let entries: Result<Vec<Self>, String> = bytes
            .chunks_exact(Self::BYTES)
            .map(|bytes| {
                let reason = u32_at(bytes, 28);
                let entry = Self {
                    first: u64_at(bytes, 0),
                    position: u64_at(bytes, 8),
                    bytes: u32_at(bytes, 16),
                    raw_bytes: u32_at(bytes, 20),
                    count: u32_at(bytes, 24),
                    gone: u8::try_from(reason).ok().and_then(Reason::of_code),
                    hash: bytes_at(bytes, 32),
                };
                let end = entry.first.checked_add(u64::from(entry.count));
                let (true, Some(end)) = (entry.first == expected && entry.count > 0, end) else {
                    return Err(format!("the list of blocks does not go on at {expected}"));
                };
                let misplaced = entry.gone.is_none() && entry.position != position;
                if misplaced
                    || (entry.bytes == 0) != (reason != 0)
                    || (reason != 0) != entry.gone.is_some()
                {
                    return Err(format!("the list of blocks is wrong at {expected}"));
                }
                expected = end;
                position = position
                    .saturating_add(u64::from(entry.bytes))
                    .checked_next_multiple_of(8)
                    .unwrap_or(u64::MAX);
                Ok(entry)
            })
            .collect();
        let entries = entries?;
        if (expected, position) != (summary.end, summary.blocks_end) {
            return Err(format!("the list of blocks ends at {expected}"));
        }
        Ok(entries)
    }
}

/// Reads the offsets of control records.
pub fn decode_controls(bytes: &[u8]) -> Result<Vec<Offset>, String> {
    Ok(bytes
        .chunks_exact(8)
        .map(|entry| u64_at(entry, 0))
        .collect())
}

/// A session first seen in the file, as a keyed hash, and who owns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionEntry {
    /// What stands for the session.
    pub key: [u8; 16],
    /// Its owner.
    pub application: ApplicationId,
}

impl SessionEntry {
    /// Bytes of an entry.
    pub const BYTES: usize = 20;

    /// Reads an entry of [`Self::BYTES`] bytes.
    pub fn decode(bytes: &[u8]) -> Self {
        Self {
            key: bytes_at(bytes, 0),
            application: ApplicationId(u32_at(bytes, 16)),
        }
    }

    fn push(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&self.application.0.to_le_bytes());
    }

    /// Returns the table's bytes.
    pub fn encode_all(table: &[Self]) -> Vec<u8> {
        let mut out = Vec::with_capacity(table.len() * Self::BYTES);
        table.iter().for_each(|entry| entry.push(&mut out));
        out
    }

    /// Reads the table.
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, String> {
        Ok(bytes.chunks_exact(Self::BYTES).map(Self::decode).collect())
    }
}

/// What stands for an id a client made, and where it was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdEntry(u64);

impl IdEntry {
    /// Bytes of an entry.
    pub const BYTES: usize = 8;

    /// Puts an entry together; `relative` counts from the file's base and is below 2^22.
    pub fn new(print: u64, relative: u64) -> Self {
        debug_assert!(
            relative < 1 << RELATIVE_BITS,
            "a file holds at most 2^22 records"
        );
        Self(print << RELATIVE_BITS | relative)
    }

    /// Reads an entry of [`Self::BYTES`] bytes.
    pub fn decode(bytes: &[u8]) -> Self {
        Self(u64_at(bytes, 0))
    }

    /// Returns what stands for the id.
    pub fn print(self) -> u64 {
        self.0 >> RELATIVE_BITS
    }

    /// Returns the offset, counted from the file's base.
    pub fn relative(self) -> u64 {
        self.0 & ((1 << RELATIVE_BITS) - 1)
    }

    /// Returns the whole entry with its bits mixed, for sums in which no difference hides.
    pub fn mixed(self) -> u64 {
        filter::id_hash(self.0)
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "called through a list of entries, as its like is"
    )]
    fn push(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    /// Returns the table's bytes.
    pub fn encode_all(table: &[Self]) -> Vec<u8> {
        let mut out = Vec::with_capacity(table.len() * Self::BYTES);
        table.iter().for_each(|entry| entry.push(&mut out));
        out
    }
}

/// A block that is not as it was first sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeEntry {
    /// The offset of the block's first record.
    pub first: Offset,
    /// Its hash now; zeros for a range that is gone.
    pub hash: Hash,
    /// The offset of the record that says why.
    pub why: Offset,
}

impl ChangeEntry {
    const BYTES: usize = 48;

    /// Reads the list.
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, String> {
        Ok(bytes
            .chunks_exact(Self::BYTES)
            .map(|bytes| Self {
                first: u64_at(bytes, 0),
                hash: bytes_at(bytes, 8),
                why: u64_at(bytes, 40),
            })
            .collect())
    }
}

/// What arrived in an hour for an application, and what became of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The hour of arrival, counted from 1970.
    pub hour: u32,
    /// Whose.
    pub application: ApplicationId,
    /// Events that were stored.
    pub stored: u64,
    /// Events that were there already.
    pub duplicates: u64,
    /// Events that were refused, in requests that stored others.
    pub rejected: u64,
    /// Of those stored: how many were erased.
    pub erased: u64,
    /// Of those stored: how many expired.
    pub expired: u64,
    /// Of those stored: how many were lost to damage.
    pub lost: u64,
    /// Bytes of the records that are still there, before compression.
    pub bytes: u64,
}

impl LedgerEntry {
    const BYTES: usize = 64;

    fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..4].copy_from_slice(&self.hour.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.application.0.to_le_bytes());
        let counts = [
            self.stored,
            self.duplicates,
            self.rejected,
            self.erased,
            self.expired,
            self.lost,
            self.bytes,
        ];
        for (place, count) in counts.iter().enumerate() {
            bytes[8 + place * 8..16 + place * 8].copy_from_slice(&count.to_le_bytes());
        }
        bytes
    }

    /// Reads the ledger.
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, String> {
        Ok(bytes
            .chunks_exact(Self::BYTES)
            .map(|bytes| Self {
                hour: u32_at(bytes, 0),
                application: ApplicationId(u32_at(bytes, 4)),
                stored: u64_at(bytes, 8),
                duplicates: u64_at(bytes, 16),
                rejected: u64_at(bytes, 24),
                erased: u64_at(bytes, 32),
                expired: u64_at(bytes, 40),
                lost: u64_at(bytes, 48),
                bytes: u64_at(bytes, 56),
            })
            .collect())
    }

    /// Returns how many of its events are still there.
    pub fn kept(&self) -> u64 {
        self.stored
            .saturating_sub(self.erased)
            .saturating_sub(self.expired)
            .saturating_sub(self.lost)
    }
}

/// A sealed file in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// The offset of its first record.
    pub base: Offset,
    /// One past its last record.
    pub end: Offset,
    /// Where its last block ends and the footer begins.
    pub blocks_end: u64,
    /// Events that are still there.
    pub events: u64,
    /// Arrival of the first record, unix microseconds.
    pub first_received_at: i64,
    /// Arrival of the last record.
    pub last_received_at: i64,
    /// The least timestamp of its events; `i64::MAX` without one.
    pub min_timestamp: i64,
    /// The greatest; `i64::MIN` without one.
    pub max_timestamp: i64,
}

/// The content of a footer.
#[derive(Debug, Clone, Default)]
pub struct Footer {
    /// The blocks.
    pub blocks: Vec<BlockEntry>,
    /// Control records.
    pub controls: Vec<Offset>,
    /// Sessions, sorted.
    pub sessions: Vec<SessionEntry>,
    /// Ids, sorted.
    pub ids: Vec<IdEntry>,
    /// Seals.
    pub seals: Vec<Seal>,
    /// Changed blocks.
    pub changes: Vec<ChangeEntry>,
    /// The ledger, sorted by hour and application.
    pub ledger: Vec<LedgerEntry>,
}

impl Footer {
    /// Hands the footer's bytes, trailer included, to `out`, piece by piece, for a file whose blocks end at
    /// `summary.blocks_end`.
    pub fn write(
        &self,
        summary: &Summary,
        salt: u32,
        out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut trailer = [0; TRAILER_BYTES];
        trailer[0..8].copy_from_slice(MAGIC);
        let figures = [
            summary.base,
            summary.end,
            summary.blocks_end,
            summary.events,
            summary.first_received_at.cast_unsigned(),
            summary.last_received_at.cast_unsigned(),
            summary.min_timestamp.cast_unsigned(),
            summary.max_timestamp.cast_unsigned(),
        ];
        for (place, figure) in figures.iter().enumerate() {
            trailer[8 + place * 8..16 + place * 8].copy_from_slice(&figure.to_le_bytes());
        }
        let mut length = 0;
        for (place, part) in PARTS.into_iter().enumerate() {
            let mut sum = crc32fast::Hasher::new_with_initial(salt);
            let mut bytes = 0;
            self.write_part(part, &mut |piece| {
                sum.update(piece);
                bytes += piece.len();
                out(piece)
            })?;
            let count = u32::try_from(bytes / part.entry_bytes())
                .expect("a file holds fewer than 2^32 entries");
            trailer[72 + place * 4..76 + place * 4].copy_from_slice(&count.to_le_bytes());
            trailer[108 + place * 4..112 + place * 4]
                .copy_from_slice(&sum.finalize().to_le_bytes());
            length += bytes;
        }
        out(&[0; 8][..aligned(length) - length])?;
        let sum = checksum(salt, &trailer[..CHECKSUM_AT]);
        trailer[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
        out(&trailer)
    }

    fn write_part(
        &self,
        part: Part,
        out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match part {
            Part::Blocks => in_pieces(&self.blocks, out, |entry, piece| {
                piece.extend_from_slice(&entry.encode());
            }),
            Part::Controls => in_pieces(&self.controls, out, |offset, piece| {
                piece.extend_from_slice(&offset.to_le_bytes());
            }),
            Part::Sessions => in_pieces(&self.sessions, out, SessionEntry::push),
            Part::Ids => in_pieces(&self.ids, out, IdEntry::push),
            Part::SessionFilter => {
                let hashes = self.sessions.iter();
                out(&filter::build(
                    hashes.map(|entry| filter::session_hash(&entry.key)),
                ))
            }
            Part::IdFilter => {
                let hashes = self.ids.iter();
                out(&filter::build(
                    hashes.map(|entry| filter::id_hash(entry.print())),
                ))
            }
            Part::Seals => in_pieces(&self.seals, out, |seal, piece| {
                piece.extend_from_slice(&seal.encode());
            }),
            Part::Changes => in_pieces(&self.changes, out, |change, piece| {
                piece.extend_from_slice(&change.first.to_le_bytes());
                piece.extend_from_slice(&change.hash);
                piece.extend_from_slice(&change.why.to_le_bytes());
            }),
            Part::Ledger => in_pieces(&self.ledger, out, |entry, piece| {
                piece.extend_from_slice(&entry.encode());
            }),
        }
    }
}

/// Encodes so many entries at a time: a long table is not there twice.
const PIECE_ENTRIES: usize = 4096;

fn in_pieces<E>(
    entries: &[E],
    out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    push: impl Fn(&E, &mut Vec<u8>),
) -> io::Result<()> {
    let mut piece = Vec::new();
    for some in entries.chunks(PIECE_ENTRIES) {
        piece.clear();
        some.iter().for_each(|entry| push(entry, &mut piece));
        out(&piece)?;
    }
    Ok(())
}

/// The trailer: figures, and where the parts lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// The file in figures.
    pub summary: Summary,
    /// The trailer's own checksum, which the manifest repeats.
    pub checksum: u32,
    counts: [u32; PARTS.len()],
    sums: [u32; PARTS.len()],
}

impl Trailer {
    /// Reads the last [`TRAILER_BYTES`] of a file, or says what is wrong with them.
    pub fn decode(bytes: &[u8], salt: u32) -> Result<Self, String> {
        let Some(bytes) = bytes.get(..TRAILER_BYTES) else {
            return Err("the footer is cut short".to_owned());
        };
        let sum = u32_at(bytes, CHECKSUM_AT);
        if &bytes[0..8] != MAGIC || checksum(salt, &bytes[..CHECKSUM_AT]) != sum {
            return Err("no footer whose checksum holds".to_owned());
        }
        let summary = Summary {
            base: u64_at(bytes, 8),
            end: u64_at(bytes, 16),
            blocks_end: u64_at(bytes, 24),
            events: u64_at(bytes, 32),
            first_received_at: i64_at(bytes, 40),
            last_received_at: i64_at(bytes, 48),
            min_timestamp: i64_at(bytes, 56),
            max_timestamp: i64_at(bytes, 64),
        };
        let records = summary.end.checked_sub(summary.base);
        if !records.is_some_and(|records| (1..=SEGMENT_RECORDS_MAX).contains(&records))
            || summary.blocks_end < SEGMENT_HEADER_BYTES as u64
            || !summary.blocks_end.is_multiple_of(8)
        {
            return Err("a footer beyond the format's bounds".to_owned());
        }
        let nine = |at: usize| std::array::from_fn(|place| u32_at(bytes, at + place * 4));
        Ok(Self {
            summary,
            checksum: sum,
            counts: nine(72),
            sums: nine(108),
        })
    }

    /// Returns how many entries a part has.
    pub fn count(&self, part: Part) -> usize {
        self.counts[part as usize] as usize
    }

    /// Returns where a part begins, and its length.
    pub fn place(&self, part: Part) -> (u64, usize) {
        let mut at = self.summary.blocks_end;
        for before in PARTS.iter().take(part as usize) {
            at = at.saturating_add(self.bytes_of(*before) as u64);
        }
        (at, self.bytes_of(part))
    }

    fn bytes_of(&self, part: Part) -> usize {
        self.count(part).saturating_mul(part.entry_bytes())
    }

    /// Returns how long the whole file is; `None` when its parts add up to no length at all.
    pub fn file_bytes(&self) -> Option<u64> {
        let (at, length) = self.place(Part::Ledger);
        let parts_end = at.checked_add(length as u64)?.checked_next_multiple_of(8)?;
        parts_end.checked_add(TRAILER_BYTES as u64)
    }

    /// Says whether the bytes of a part are what was written.
    pub fn holds(&self, part: Part, bytes: &[u8], salt: u32) -> bool {
        self.sums[part as usize] == checksum(salt, bytes)
    }
}
