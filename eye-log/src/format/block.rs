//! Blocks: whole records, compressed together, of a sealed file.
//!
//! What must stay true: no length is believed before the checksum that covers it held, and no more memory is taken
//! than the format allows, whatever the bytes say.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use zstd::stream::raw::{CParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::seal::Hash;
use super::{FRAME_BODY_MAX_BYTES, FRAME_RECORDS_MAX, checksum, i64_at, payload, u32_at, u64_at};
use crate::ids::server_made_id;
use crate::offset::Offset;
use crate::record::Reason;

/// Bytes of a block's header.
pub const BLOCK_HEADER_BYTES: usize = 64;
/// A block is ended by the record that brings its raw records to this many bytes.
pub const BLOCK_TARGET_BYTES: usize = 128 << 10;
/// The longest raw content: a record as long as a frame's body, and the tables.
const RAW_MAX_BYTES: usize = FRAME_BODY_MAX_BYTES + FRAME_RECORDS_MAX * (FRAME_ENTRY_BYTES + 4);
const MAGIC: &[u8; 4] = b"EYEB";
const FRAME_ENTRY_BYTES: usize = 24;
/// zstd ends a part of a block, up to which it can be unpacked alone, after about so many packed bytes. At 6,000 blocks are 0.3 % larger,
/// and the way to a record takes two thirds of the time (docs/decisions/sealed-files.md).
const PART_STORED_BYTES: u32 = 6_000;
/// How many unpackers are kept for the next block.
const UNPACKERS_KEPT: usize = 8;
const GOES_ON: u32 = 1;
const CODEC_PLAIN: u32 = 0;
const CODEC_ZSTD: u32 = 1;

/// How hard a block is compressed. Readers see no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// While others wait: zstd's level 1.
    Quick,
    /// With time that nobody else wants: level 6, an eighth smaller for four times the time
    /// (docs/decisions/sealed-files.md).
    Thorough,
}

impl Effort {
    const fn level(self) -> i32 {
        match self {
            Self::Quick => 1,
            Self::Thorough => 6,
        }
    }
}

/// A frame, or the part of one that lies in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramePart {
    /// How many records of it are in the block.
    pub count: u32,
    /// Duplicates of its request; 0 unless the frame begins here.
    pub duplicates: u32,
    /// Refused events of its request; 0 unless the frame begins here.
    pub rejected: u32,
    /// Whether the frame began in the block before.
    pub goes_on: bool,
    /// When it arrived, unix microseconds.
    pub appended_at: i64,
}

/// Gathers records and makes blocks of them.
pub struct BlockBuilder {
    first: Offset,
    frames: Vec<FramePart>,
    lengths: Vec<u32>,
    records: Vec<u8>,
    raw: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
    stored: Vec<u8>,
}

/// A block as bytes.
#[derive(Debug)]
pub struct Encoded<'b> {
    /// The header.
    pub header: [u8; BLOCK_HEADER_BYTES],
    /// What follows it.
    pub stored: &'b [u8],
    /// The block's hash.
    pub hash: Hash,
    /// The offset of its first record.
    pub first: Offset,
    /// How many records.
    pub count: u32,
    /// Bytes before compression.
    pub raw_bytes: u32,
}

impl std::fmt::Debug for BlockBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockBuilder")
            .field("first", &self.first)
            .field("records", &self.lengths.len())
            .finish_non_exhaustive()
    }
}

impl BlockBuilder {
    /// Starts with a record that gets offset `first`.
    pub fn new(first: Offset, effort: Effort) -> std::io::Result<Self> {
        let mut compressor = zstd::bulk::Compressor::new(effort.level())?;
        compressor.set_parameter(CParameter::TargetCBlockSize(PART_STORED_BYTES))?;
        Ok(Self {
            first,
            frames: Vec::new(),
            lengths: Vec::new(),
            records: Vec::new(),
            raw: Vec::new(),
            compressor,
            stored: Vec::new(),
        })
    }

    /// Says that the next records belong to this frame; its `count` is counted here.
    pub fn begin_frame(&mut self, frame: FramePart) {
        self.frames.push(FramePart { count: 0, ..frame });
    }

    /// Adds a record of the frame that was begun last; what can be derived is left out of it.
    pub fn push(&mut self, record: &[u8]) {
        let start = self.records.len();
        let offset = self.first + self.lengths.len() as u64;
        let appended_at = self.frames.last().map_or(0, |frame| frame.appended_at);
        let server_made = server_made_id(appended_at, offset);
        payload::push_stripped(&mut self.records, record, appended_at, server_made);
        self.count_record(start);
    }

    /// Adds what stands in for a record that is gone.
    pub fn push_gone(&mut self, reason: Reason) {
        let start = self.records.len();
        payload::push_gone(&mut self.records, reason);
        self.count_record(start);
    }

    fn count_record(&mut self, start: usize) {
        let length = self.records.len() - start;
        self.lengths
            .push(u32::try_from(length).expect("a record fits into a frame"));
        self.frames
            .last_mut()
            .expect("a frame was begun before its records")
            .count += 1;
    }

    /// Says whether the block is as large as it should become.
    pub fn is_full(&self) -> bool {
        self.records.len() >= BLOCK_TARGET_BYTES || self.lengths.len() >= FRAME_RECORDS_MAX
    }

    /// Says whether it holds no record.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Makes a block of what was gathered, and starts the next one: where a frame goes on, it goes on there.
    pub fn finish(&mut self, salt: u32, frame_goes_on: bool) -> std::io::Result<Encoded<'_>> {
        self.raw.clear();
        for frame in &self.frames {
            self.raw.extend_from_slice(&frame.count.to_le_bytes());
            self.raw.extend_from_slice(&frame.duplicates.to_le_bytes());
            self.raw.extend_from_slice(&frame.rejected.to_le_bytes());
            let flags = if frame.goes_on { GOES_ON } else { 0 };
            self.raw.extend_from_slice(&flags.to_le_bytes());
            self.raw.extend_from_slice(&frame.appended_at.to_le_bytes());
        }
        for length in &self.lengths {
            self.raw.extend_from_slice(&length.to_le_bytes());
        }
        self.raw.extend_from_slice(&self.records);
        let (first, frames, count) = (self.first, self.frames.len(), self.lengths.len());
        let last = self.frames.last().copied();
        self.first += count as u64;
        self.frames.clear();
        self.lengths.clear();
        self.records.clear();
        if let Some(last) = last.filter(|_| frame_goes_on) {
            self.begin_frame(FramePart {
                duplicates: 0,
                rejected: 0,
                goes_on: true,
                ..last
            });
        }
        self.stored.clear();
        self.stored
            .reserve(zstd::zstd_safe::compress_bound(self.raw.len()));
        self.compressor
            .compress_to_buffer(&self.raw, &mut self.stored)?;
        let (codec, stored) = if self.stored.len() < self.raw.len() {
            (CODEC_ZSTD, self.stored.as_slice())
        } else {
            (CODEC_PLAIN, self.raw.as_slice())
        };
        let narrow = |n: usize| u32::try_from(n).expect("a block is smaller than 4 GiB");
        let head = BlockHeader {
            stored_bytes: narrow(stored.len()),
            raw_bytes: narrow(self.raw.len()),
            count: narrow(count),
            frames: narrow(frames),
            first,
            codec,
            stored_checksum: checksum(salt, stored),
        };
        Ok(Encoded {
            header: head.encode(salt),
            stored,
            hash: hash_of(first, &self.raw),
            first,
            count: head.count,
            raw_bytes: head.raw_bytes,
        })
    }
}

/// Returns the hash of a block: BLAKE3 over its first offset and its raw content.
fn hash_of(first: Offset, raw: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&first.to_le_bytes());
    hasher.update(raw);
    *hasher.finalize().as_bytes()
}

/// A block's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// Bytes behind the header.
    pub stored_bytes: u32,
    /// Bytes they decompress to.
    pub raw_bytes: u32,
    /// Records.
    pub count: u32,
    /// Frames and parts of frames.
    pub frames: u32,
    /// The offset of the first record.
    pub first: Offset,
    codec: u32,
    stored_checksum: u32,
}

impl BlockHeader {
    fn encode(&self, salt: u32) -> [u8; BLOCK_HEADER_BYTES] {
        let mut bytes = [0; BLOCK_HEADER_BYTES];
        bytes[0..4].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&self.stored_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.raw_bytes.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.count.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.frames.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.codec.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.stored_checksum.to_le_bytes());
        let sum = checksum(salt, &bytes[8..]);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads a header, or says what is wrong with it.
    pub fn decode(bytes: &[u8], salt: u32) -> Result<Self, String> {
        let Some(bytes) = bytes.get(..BLOCK_HEADER_BYTES) else {
            return Err("a block's header is cut short".to_owned());
        };
        if &bytes[0..4] != MAGIC || checksum(salt, &bytes[8..]) != u32_at(bytes, 4) {
            return Err("no block header whose checksum holds".to_owned());
        }
        let header = Self {
            stored_bytes: u32_at(bytes, 8),
            raw_bytes: u32_at(bytes, 12),
            count: u32_at(bytes, 16),
            frames: u32_at(bytes, 20),
            first: u64_at(bytes, 24),
            codec: u32_at(bytes, 32),
            stored_checksum: u32_at(bytes, 36),
        };
        let most = FRAME_RECORDS_MAX;
        if header.raw_bytes as usize > RAW_MAX_BYTES
            || header.stored_bytes > header.raw_bytes
            || !(1..=most).contains(&(header.count as usize))
            || header.frames > header.count
            || header.first.checked_add(u64::from(header.count)).is_none()
        {
            return Err("a block beyond the format's bounds".to_owned());
        }
        Ok(header)
    }

    /// Returns how many bytes header and content take, without padding.
    pub fn bytes(&self) -> usize {
        BLOCK_HEADER_BYTES + self.stored_bytes as usize
    }

    /// Says whether the bytes behind the header are what was written.
    pub fn holds(&self, stored: &[u8], salt: u32) -> bool {
        stored.len() == self.stored_bytes as usize && checksum(salt, stored) == self.stored_checksum
    }

    /// Returns the header for the same content in a file of another salt.
    pub fn moved(&self, stored: &[u8], salt: u32) -> [u8; BLOCK_HEADER_BYTES] {
        Self {
            stored_checksum: checksum(salt, stored),
            ..*self
        }
        .encode(salt)
    }
}

/// The memory of a decoded block, to be used again for the next one.
#[derive(Debug, Default)]
pub struct Room {
    raw: Vec<u8>,
    ends: Vec<u32>,
    frames: Vec<(usize, FramePart)>,
}

/// A block, decompressed and checked: all of it, or its records up to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The offset of the first record.
    pub first: Offset,
    /// Its frames, with the place of each one's first record.
    pub frames: Vec<(usize, FramePart)>,
    raw: Vec<u8>,
    /// Where each record ends in `raw`; the first begins at `records_at`.
    ends: Vec<u32>,
    records_at: u32,
}

impl Block {
    /// Decodes the bytes of a block, header included. Records are as the block keeps them: [`payload::decode_arrived`] gives them
    /// what was left out.
    pub fn decode(bytes: &[u8], salt: u32) -> Result<Self, String> {
        Self::decode_through(bytes, salt, Offset::MAX)
    }

    /// Does what [`Self::decode`] does for the records up to and with the one at `last`, and not for many more. The checksum of the
    /// whole block is looked at all the same.
    pub fn decode_through(bytes: &[u8], salt: u32, last: Offset) -> Result<Self, String> {
        Self::decode_raw(bytes, salt, last, Room::default())
    }

    /// Does what [`Self::decode`] does; also returns the block's hash.
    pub fn decode_hashed(bytes: &[u8], salt: u32) -> Result<(Self, Hash), String> {
        Self::decode_hashed_into(bytes, salt, Room::default())
    }

    /// Does what [`Self::decode_hashed`] does, in the room of another block.
    pub fn decode_hashed_into(bytes: &[u8], salt: u32, room: Room) -> Result<(Self, Hash), String> {
        let block = Self::decode_raw(bytes, salt, Offset::MAX, room)?;
        let hash = hash_of(block.first, &block.raw);
        Ok((block, hash))
    }

    /// Hands over its room.
    pub fn into_room(self) -> Room {
        Room {
            raw: self.raw,
            ends: self.ends,
            frames: self.frames,
        }
    }

    fn decode_raw(bytes: &[u8], salt: u32, last: Offset, room: Room) -> Result<Self, String> {
        let header = BlockHeader::decode(bytes, salt)?;
        let stored = bytes
            .get(BLOCK_HEADER_BYTES..header.bytes())
            .ok_or("a block that is cut short")?;
        if !header.holds(stored, salt) {
            return Err("the block's content does not match its checksum".to_owned());
        }
        let raw_bytes = header.raw_bytes as usize;
        let (frames, count) = (header.frames as usize, header.count as usize);
        let (lengths_at, records_at) = (
            frames * FRAME_ENTRY_BYTES,
            frames * FRAME_ENTRY_BYTES + count * 4,
        );
        if records_at > raw_bytes {
            return Err("the block's tables do not fit into it".to_owned());
        }
        let Room {
            mut raw,
            mut ends,
            frames: mut parts,
        } = room;
        raw.clear();
        ends.clear();
        parts.clear();
        let wanted = last.saturating_sub(header.first).saturating_add(1);
        let in_part = wanted < count as u64 && header.codec == CODEC_ZSTD;
        match header.codec {
            CODEC_PLAIN => raw.extend_from_slice(stored),
            CODEC_ZSTD if in_part => unpack_part(stored, &mut raw, records_at, |tables| {
                let lengths = tables[lengths_at..].chunks_exact(4);
                let lengths = lengths.take(usize::try_from(wanted).unwrap_or(usize::MAX));
                lengths
                    .fold(records_at, |end, length| {
                        end.saturating_add(u32_at(length, 0) as usize)
                    })
                    .min(raw_bytes)
            })
            .map_err(|error| format!("the block does not decompress: {error}"))?,
            CODEC_ZSTD => unpack(stored, raw_bytes, &mut raw)
                .map_err(|error| format!("the block does not decompress: {error}"))?,
            other => return Err(format!("a block of unknown codec {other}")),
        }
        if !in_part && raw.len() != raw_bytes {
            return Err("the block decompresses to another length".to_owned());
        }
        let mut place = 0usize;
        parts.reserve(frames);
        for entry in raw[..lengths_at].chunks_exact(FRAME_ENTRY_BYTES) {
            let part = FramePart {
                count: u32_at(entry, 0),
                duplicates: u32_at(entry, 4),
                rejected: u32_at(entry, 8),
                goes_on: u32_at(entry, 12) & GOES_ON != 0,
                appended_at: i64_at(entry, 16),
            };
            if part.count == 0 || part.goes_on && !parts.is_empty() {
                return Err("the block's frames cannot follow one another like that".to_owned());
            }
            parts.push((place, part));
            place = place.saturating_add(part.count as usize);
        }
        if place != count {
            return Err("the block's frames do not add up to its records".to_owned());
        }
        let mut end = records_at as u64;
        ends.reserve(count);
        for length in raw[lengths_at..records_at].chunks_exact(4) {
            end += u64::from(u32_at(length, 0));
            ends.push(u32::try_from(end).unwrap_or(u32::MAX));
        }
        if end != raw_bytes as u64 {
            return Err("the block's records do not add up to its length".to_owned());
        }
        let records_at = u32::try_from(records_at).unwrap_or(u32::MAX);
        Ok(Self {
            first: header.first,
            frames: parts,
            raw,
            ends,
            records_at,
        })
    }

    /// Returns how many records are decompressed: all, unless it was asked for in part.
    fn unpacked(&self) -> usize {
        self.ends
            .partition_point(|end| *end as usize <= self.raw.len())
    }

    /// Returns how many records it has.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Returns one past the offset of the last record.
    pub fn end(&self) -> Offset {
        self.first + self.ends.len() as u64
    }

    /// Says whether it has the record at `offset`, decompressed or not.
    pub fn has(&self, offset: Offset) -> bool {
        (self.first..self.end()).contains(&offset)
    }

    /// Says whether it has the record at `offset`, and has it decompressed.
    pub fn holds(&self, offset: Offset) -> bool {
        let place = usize::try_from(offset.wrapping_sub(self.first)).unwrap_or(usize::MAX);
        let end = self.ends.get(place);
        end.is_some_and(|end| *end as usize <= self.raw.len())
    }

    /// Returns the bytes of the record at `offset`, which the block [holds](Self::holds).
    pub fn record_at(&self, offset: Offset) -> &[u8] {
        let place = usize::try_from(offset - self.first).unwrap_or(usize::MAX);
        &self.raw[range_of(&self.ends, self.records_at, place)]
    }

    /// Returns its records with their offsets.
    pub fn records(&self) -> impl Iterator<Item = (Offset, &[u8])> {
        (0..self.unpacked()).map(|place| {
            let range = range_of(&self.ends, self.records_at, place);
            (self.first + place as u64, &self.raw[range])
        })
    }

    /// Returns when the record at `offset` arrived, unix microseconds.
    pub fn arrived_at(&self, offset: Offset) -> i64 {
        let place = usize::try_from(offset - self.first).unwrap_or(usize::MAX);
        let behind = self.frames.partition_point(|(start, _)| *start <= place);
        behind
            .checked_sub(1)
            .map_or(0, |frame| self.frames[frame].1.appended_at)
    }

    /// Returns about how much memory it takes. Bytes.
    pub fn memory_bytes(&self) -> usize {
        self.raw.len()
            + self.ends.len() * 4
            + self.frames.len() * size_of::<(usize, FramePart)>()
            + size_of::<Self>()
    }
}

/// Unpacks everything, which is to be so many bytes.
fn unpack(stored: &[u8], raw_bytes: usize, raw: &mut Vec<u8>) -> std::io::Result<()> {
    raw.reserve_exact(raw_bytes);
    with_decoder(|decoder| {
        let mut input = InBuffer::around(stored);
        // Room for the whole, so that zstd writes straight into it.
        let left = decoder.run(&mut input, &mut OutBuffer::around(raw))?;
        if left > 0 || input.pos() < stored.len() {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        Ok(())
    })
}

/// Unpacks the tables, which are so many bytes, and then up to where they say.
fn unpack_part(
    stored: &[u8],
    raw: &mut Vec<u8>,
    tables_bytes: usize,
    end_of: impl FnOnce(&[u8]) -> usize,
) -> std::io::Result<()> {
    with_decoder(|decoder| {
        let mut stored = InBuffer::around(stored);
        let mut unpack_to = |raw: &mut Vec<u8>, end: usize| {
            let start = raw.len();
            raw.reserve_exact(end.saturating_sub(start));
            let mut room = OutBuffer::around_pos(raw, start);
            while room.pos() < end {
                let before = (stored.pos(), room.pos());
                decoder.run(&mut stored, &mut room)?;
                if before == (stored.pos(), room.pos()) {
                    return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
                }
            }
            Ok(())
        };
        unpack_to(raw, tables_bytes)?;
        let end = end_of(raw);
        unpack_to(raw, end)
    })
}

/// Lends what unpacks, of which a few are kept: making one takes as long as a small block.
fn with_decoder<T>(
    unpack: impl FnOnce(&mut Decoder<'static>) -> std::io::Result<T>,
) -> std::io::Result<T> {
    static KEPT: Mutex<Vec<Decoder<'static>>> = Mutex::new(Vec::new());
    let kept = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let one = kept().pop();
    let mut decoder = match one {
        Some(decoder) => decoder,
        None => Decoder::new()?,
    };
    decoder.reinit()?;
    let unpacked = unpack(&mut decoder);
    let mut kept = kept();
    if kept.len() < UNPACKERS_KEPT {
        kept.push(decoder);
    }
    unpacked
}

fn range_of(ends: &[u32], records_at: u32, place: usize) -> Range<usize> {
    let start = place
        .checked_sub(1)
        .map_or(records_at, |before| ends[before]);
    start as usize..ends[place] as usize
}
