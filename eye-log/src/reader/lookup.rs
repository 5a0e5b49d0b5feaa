//! Finds single records.

use std::sync::Arc;

use crate::error::ReadError;
use crate::format::block::Block;
use crate::format::frame::{FRAME_HEADER_BYTES, Found, FrameHeader, TABLE_ENTRY_BYTES, Table};
use crate::format::payload;
use crate::format::segment_header::SEGMENT_HEADER_BYTES;
use crate::offset::Offset;
use crate::pieces::{Piece, Pieces, holding};
use crate::ranges::OffsetRanges;
use crate::record::{EventRecord, Record};
use crate::sealed::SealedFile;
use crate::segment::Segment;

/// How much is read at once when looking for a record.
const LOOK_BYTES: usize = 20 << 10;

/// Finds single records, remembering where it looked last. It knows the files there were when it was made.
#[derive(Debug)]
pub struct Lookup {
    end: Offset,
    pieces: Pieces,
    erased: Arc<OffsetRanges>,
    /// The segment, the position and the bytes that were read last.
    window: Option<(Arc<Segment>, u64, Vec<u8>)>,
    frame: Option<FoundFrame>,
    block: Option<(Arc<SealedFile>, Arc<Block>)>,
    /// Which records will be asked for, in order.
    expected: Vec<Offset>,
}

#[derive(Debug)]
pub(super) struct FoundFrame {
    pub(super) position: u64,
    header: FrameHeader,
    table: Vec<u8>,
}

impl Lookup {
    pub(crate) fn new(pieces: Pieces, end: Offset, erased: Arc<OffsetRanges>) -> Self {
        Self {
            end,
            pieces,
            erased,
            window: None,
            frame: None,
            block: None,
            expected: Vec::new(),
        }
    }

    /// Says which records will be asked for, in order, so that a block is unpacked once and no further than they lie.
    #[must_use]
    pub(super) fn expecting(mut self, offsets: Vec<Offset>) -> Self {
        self.expected = offsets;
        self
    }

    /// Hands the event at `offset` to `see`; returns `None` where there is no event, none any more, or nothing yet.
    pub fn event<T>(
        &mut self,
        offset: Offset,
        see: impl FnOnce(&EventRecord<'_>) -> T,
    ) -> Result<Option<T>, ReadError> {
        let mut seen = None;
        if offset < self.end && !self.erased.contains(offset) {
            self.record(offset, |record| {
                if let Record::Event(event) = record {
                    seen = Some(see(&event));
                }
            })?;
        }
        Ok(seen)
    }

    /// Returns the first offset whose record arrived at `instant` or later; the end of the log if there is none.
    pub fn first_arrived_at(&mut self, instant: i64) -> Result<Offset, ReadError> {
        // Files first, by what their footers say, so that only one is looked into.
        let (mut low, mut high) = (self.pieces.first().map_or(0, Piece::base), self.end);
        for piece in self.pieces.iter() {
            if let Piece::Sealed(file) = piece {
                if file.trailer.summary.last_received_at < instant {
                    low = file.header.end;
                } else {
                    high = high.min(file.header.end);
                    break;
                }
            }
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if self.arrived_at(middle)? < instant {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Returns when the record at `offset`, which lies below the end, arrived.
    pub fn arrived_at(&mut self, offset: Offset) -> Result<i64, ReadError> {
        match self.piece(offset)? {
            Piece::Raw(segment) => Ok(self.find_frame(&segment, offset)?.header.appended_at),
            Piece::Sealed(file) => file.arrived_at(offset),
            Piece::Damaged(_, damage) => Err(ReadError::Damaged(damage.as_ref().clone())),
        }
    }

    fn piece(&self, offset: Offset) -> Result<Piece, ReadError> {
        Ok(self.pieces[holding(&self.pieces, offset)?].clone())
    }

    /// Hands the record at `offset` to `see`, once its checksum was found to hold.
    pub(crate) fn record<T>(
        &mut self,
        offset: Offset,
        see: impl FnOnce(Record<'_>) -> T,
    ) -> Result<T, ReadError> {
        match self.piece(offset)? {
            Piece::Raw(segment) => self.raw_record(&segment, offset, see),
            Piece::Sealed(file) => {
                if let Some(reason) = file.gone(offset)? {
                    return Ok(see(Record::Gone(reason)));
                }
                let block = self.find_block(&file, offset)?;
                let bytes = block.record_at(offset);
                let record = payload::decode_arrived(bytes, block.arrived_at(offset), offset)
                    .map_err(|what| file.damage(block.first, format!("record {offset}: {what}")))?;
                Ok(see(record))
            }
            Piece::Damaged(_, damage) => Err(ReadError::Damaged(damage.as_ref().clone())),
        }
    }

    fn find_block(
        &mut self,
        file: &Arc<SealedFile>,
        offset: Offset,
    ) -> Result<Arc<Block>, ReadError> {
        let the_last;
        let mut expected = self.expected.as_slice();
        if let Some((there, block)) = &self.block
            && Arc::ptr_eq(there, file)
            && block.has(offset)
        {
            if block.holds(offset) {
                return Ok(block.clone());
            }
            // Who asks for a second record may ask for all, one after the other.
            the_last = [block.end() - 1];
            expected = &the_last;
        }
        let block = file.block_of(offset, expected)?;
        self.block = Some((file.clone(), block.clone()));
        Ok(block)
    }

    /// Returns `length` bytes of a segment, from the window where they are in it.
    fn bytes(
        &mut self,
        segment: &Arc<Segment>,
        position: u64,
        length: usize,
    ) -> Result<&[u8], ReadError> {
        let inside = self.window.as_ref().is_some_and(|(there, start, bytes)| {
            Arc::ptr_eq(there, segment)
                && position >= *start
                && position + length as u64 <= start + bytes.len() as u64
        });
        if !inside {
            let bytes = segment.read_ahead(position, length, length.max(LOOK_BYTES))?;
            self.window = Some((segment.clone(), position, bytes));
        }
        let (_, start, bytes) = self.window.as_ref().expect("the window was just filled");
        let from = usize::try_from(position - start).unwrap_or(usize::MAX);
        Ok(&bytes[from..from + length])
    }

    /// Finds the frame of a raw segment that holds `offset`.
    pub(super) fn find_frame(
        &mut self,
        segment: &Arc<Segment>,
        offset: Offset,
    ) -> Result<&FoundFrame, ReadError> {
        let found = self.frame.as_ref().is_some_and(|frame| {
            (frame.header.first_offset..frame.header.end_offset()).contains(&offset)
        });
        if !found {
            self.frame = Some(self.walk_to(segment, offset)?);
        }
        Ok(self.frame.as_ref().expect("the frame was just found"))
    }

    fn walk_to(&mut self, segment: &Arc<Segment>, offset: Offset) -> Result<FoundFrame, ReadError> {
        let mut position = segment
            .indexed_frame(offset)
            .map_or(SEGMENT_HEADER_BYTES as u64, |(_, position)| position);
        loop {
            let bytes = self.bytes(segment, position, FRAME_HEADER_BYTES)?;
            let Found::Frame(header, _) = FrameHeader::decode(bytes, segment.header.salt) else {
                let what = "no frame header whose checksum holds";
                return Err(segment.damage(position, offset, what).into());
            };
            if header.first_offset > offset {
                let what = format!("a frame of record {}", header.first_offset);
                return Err(segment.damage(position, offset, what).into());
            }
            if offset < header.end_offset() {
                let length = header.records() * TABLE_ENTRY_BYTES;
                let table = self
                    .bytes(segment, position + FRAME_HEADER_BYTES as u64, length)?
                    .to_vec();
                return Ok(FoundFrame {
                    position,
                    header,
                    table,
                });
            }
            position += header.stride() as u64;
        }
    }

    fn raw_record<T>(
        &mut self,
        segment: &Arc<Segment>,
        offset: Offset,
        see: impl FnOnce(Record<'_>) -> T,
    ) -> Result<T, ReadError> {
        self.find_frame(segment, offset)?;
        let frame = self.frame.take().expect("the frame was just found");
        let FoundFrame {
            position,
            header,
            table,
            ..
        } = &frame;
        let damage = |what: String| ReadError::from(segment.damage(*position, offset, what));
        let checked = Table::of(header, table, segment.header.salt).ok_or_else(|| {
            damage("the frame's table of records does not match its checksum".to_owned())
        })?;
        let index = usize::try_from(offset - header.first_offset).unwrap_or(usize::MAX);
        let range = checked
            .ranges()
            .nth(index)
            .expect("the offset lies within the frame");
        let at = position + (FRAME_HEADER_BYTES + range.start) as u64;
        let bytes = self.bytes(segment, at, range.len())?;
        if !checked.holds(index, bytes) {
            return Err(damage(format!(
                "record {offset} does not match its checksum"
            )));
        }
        let record = payload::decode_arrived(bytes, header.appended_at, offset);
        let seen = see(record.map_err(damage)?);
        self.frame = Some(frame);
        Ok(seen)
    }
}

/// Reads one record of one file, for opening, before there is a log to read from.
pub(crate) fn control_of<T>(
    piece: &Piece,
    offset: Offset,
    see: impl FnOnce(Record<'_>) -> T,
) -> Result<T, ReadError> {
    Lookup::new(
        Arc::new(vec![piece.clone()]),
        Offset::MAX,
        Arc::new(OffsetRanges::default()),
    )
    .record(offset, see)
}
