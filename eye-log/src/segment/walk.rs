//! Walks the frames of a segment from its beginning, checking everything.
//!
//! What must stay true: it reads only, and it has three outcomes: a whole frame, the end, or bytes that are neither.

use crate::error::ReadError;
use crate::format::frame::{FRAME_HEADER_BYTES, Found, FrameHeader, Table};
use crate::format::segment_header::SEGMENT_HEADER_BYTES;
use crate::offset::Offset;
use crate::segment::Segment;
use crate::storage::StorageFile;
use std::sync::Arc;

const CHUNK_BYTES: usize = 1 << 20;

/// Reads a segment frame by frame.
pub(crate) struct Walk<'s> {
    segment: &'s Segment,
    /// What the bytes are read from: the segment's file, or the same past the page cache.
    source: Arc<dyn StorageFile>,
    file_bytes: u64,
    buffer: Vec<u8>,
    buffer_start: u64,
    /// Where the next frame is expected.
    pub(crate) position: u64,
    /// The offset its first record must have.
    pub(crate) next_offset: Offset,
    /// Header checksum of the frame before it.
    pub(crate) previous: u32,
}

/// What was found at a position.
pub(crate) enum Step<'w> {
    /// A whole frame, and its body.
    Frame(FrameHeader, &'w [u8]),
    /// Zeros, or the end of the file.
    End,
    /// Something else.
    Broken(String),
}

impl<'s> Walk<'s> {
    pub(crate) fn new(segment: &'s Segment) -> Result<Self, ReadError> {
        Self::through(segment, segment.file.clone())
    }

    /// Reads the segment's bytes from another handle to its file.
    pub(crate) fn through(
        segment: &'s Segment,
        source: Arc<dyn StorageFile>,
    ) -> Result<Self, ReadError> {
        let file_bytes = source.size().map_err(|error| ReadError::Io {
            file: segment.name.clone(),
            message: error.to_string(),
        })?;
        Ok(Self {
            segment,
            source,
            file_bytes,
            buffer: Vec::new(),
            buffer_start: 0,
            position: SEGMENT_HEADER_BYTES as u64,
            next_offset: segment.header.base,
            previous: segment.header.chain_start(),
        })
    }

    /// Returns what the bytes are read from.
    pub(crate) fn source(&self) -> &dyn StorageFile {
        self.source.as_ref()
    }

    fn read_into(&self, bytes: &mut [u8], position: u64) -> Result<(), ReadError> {
        self.source
            .read_at(bytes, position)
            .map_err(|error| ReadError::Io {
                file: self.segment.name.clone(),
                message: error.to_string(),
            })
    }

    /// Returns `length` bytes from the current position, fewer where the file ends.
    fn bytes(&mut self, length: usize) -> Result<&[u8], ReadError> {
        let there =
            usize::try_from(self.file_bytes.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let length = length.min(there);
        let start =
            usize::try_from(self.position.wrapping_sub(self.buffer_start)).unwrap_or(usize::MAX);
        if start.saturating_add(length) > self.buffer.len() {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize(length.max(CHUNK_BYTES).min(there), 0);
            self.read_into(&mut buffer, self.position)?;
            self.buffer = buffer;
            self.buffer_start = self.position;
            return Ok(&self.buffer[..length]);
        }
        Ok(&self.buffer[start..start + length])
    }

    /// Looks at the current position and, if a whole frame stands there, moves behind it.
    pub(crate) fn step(&mut self) -> Result<Step<'_>, ReadError> {
        let salt = self.segment.header.salt;
        let (previous, next_offset) = (self.previous, self.next_offset);
        let bytes = self.bytes(FRAME_HEADER_BYTES)?;
        if bytes.is_empty() {
            return Ok(Step::End);
        }
        let (header, sum) = match FrameHeader::decode(bytes, salt) {
            Found::Frame(header, sum) => (header, sum),
            Found::Zeros => return Ok(Step::End),
            Found::Broken => {
                return Ok(Step::Broken(
                    "the bytes are no frame header whose checksum holds".to_owned(),
                ));
            }
        };
        if header.first_offset != next_offset {
            let what = format!("a frame that begins with record {}", header.first_offset);
            return Ok(Step::Broken(what));
        }
        if header.previous != previous {
            return Ok(Step::Broken(
                "a frame that follows another frame than the one in front".to_owned(),
            ));
        }
        let whole = FRAME_HEADER_BYTES + header.body();
        let bytes = self.bytes(whole)?;
        if bytes.len() < whole {
            return Ok(Step::Broken(format!(
                "a frame of {whole} bytes in the last {} of the file",
                bytes.len()
            )));
        }
        if let Some(what) = broken_body(&header, &bytes[FRAME_HEADER_BYTES..], salt) {
            return Ok(Step::Broken(what));
        }
        let start = usize::try_from(self.position - self.buffer_start).unwrap_or(usize::MAX);
        self.position += header.stride() as u64;
        self.next_offset = header.end_offset();
        self.previous = sum;
        Ok(Step::Frame(
            header,
            &self.buffer[start + FRAME_HEADER_BYTES..start + whole],
        ))
    }

    /// Returns the range from the first to the last byte, at or behind the current position, that is not zero.
    pub(crate) fn bytes_set(&mut self) -> Result<Option<std::ops::Range<u64>>, ReadError> {
        let mut set: Option<std::ops::Range<u64>> = None;
        let mut at = self.position;
        while at < self.file_bytes {
            let length = usize::try_from(self.file_bytes - at)
                .unwrap_or(CHUNK_BYTES)
                .min(CHUNK_BYTES);
            let mut chunk = vec![0; length];
            self.read_into(&mut chunk, at)?;
            if let Some(first) = chunk.iter().position(|byte| *byte != 0) {
                let last = chunk.iter().rposition(|byte| *byte != 0).unwrap_or(first);
                let start = set.map_or(at + first as u64, |set| set.start);
                set = Some(start..at + last as u64 + 1);
            }
            at += length as u64;
        }
        Ok(set)
    }

    /// Looks from the current position on, at every place a frame could stand, for one that says the log had been
    /// durable beyond `offset` when it was written. Returns where the one is that says most.
    pub(crate) fn later_frame_says_durable(
        &mut self,
        offset: Offset,
    ) -> Result<Option<(u64, Offset)>, ReadError> {
        let mut found: Option<(u64, Offset)> = None;
        let mut at = self.position;
        while at + FRAME_HEADER_BYTES as u64 <= self.file_bytes {
            let length = usize::try_from(self.file_bytes - at)
                .unwrap_or(CHUNK_BYTES)
                .min(CHUNK_BYTES);
            let mut chunk = vec![0; length];
            self.read_into(&mut chunk, at)?;
            let mut place = 0;
            while place + FRAME_HEADER_BYTES <= chunk.len() {
                let bytes = &chunk[place..place + FRAME_HEADER_BYTES];
                if bytes[..4] == *b"EYEF"
                    && let Found::Frame(header, _) =
                        FrameHeader::decode(bytes, self.segment.header.salt)
                    && header.durable_end > found.map_or(offset, |(_, most)| most)
                {
                    found = Some((at + place as u64, header.durable_end));
                }
                place += 8;
            }
            at += place as u64;
        }
        Ok(found)
    }
}

/// Returns what is wrong with a frame's body, if anything.
pub(crate) fn broken_body(header: &FrameHeader, body: &[u8], salt: u32) -> Option<String> {
    let Some(table) = Table::of(header, body, salt) else {
        return Some("the frame's table of records does not match its checksum".to_owned());
    };
    let broken = table
        .ranges()
        .enumerate()
        .find(|(index, range)| !table.holds(*index, &body[range.clone()]));
    broken.map(|(index, _)| {
        let offset = header.first_offset + index as u64;
        format!("record {offset} does not match its checksum")
    })
}
