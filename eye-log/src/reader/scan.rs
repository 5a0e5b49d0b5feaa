//! Reads on and on.

use std::sync::Arc;

use crate::error::ReadError;
use crate::format::frame::{FRAME_HEADER_BYTES, Found, FrameHeader, Table};
use crate::format::payload;
use crate::offset::Offset;
use crate::pieces::{Piece, holding};
use crate::reader::Reader;
use crate::record::{Reason, Record};
use crate::sealed::SealedFile;
use crate::segment::Segment;
use crate::segment::walk::broken_body;

/// How much is read at once.
const SCAN_BYTES: usize = 1 << 20;

/// Reads the log from an offset on, in pieces of whole frames or blocks.
#[derive(Debug)]
pub struct Scan {
    reader: Reader,
    next: Offset,
    /// Where the frame of `next` begins in a raw segment, once known, and as of which set of files.
    place: Option<(u64, Arc<Segment>, u64)>,
    bytes: Vec<u8>,
}

impl Scan {
    pub(super) fn new(reader: Reader, next: Offset) -> Self {
        Self {
            reader,
            next,
            place: None,
            bytes: Vec::new(),
        }
    }

    /// Returns the offset of the next record.
    pub fn next_offset(&self) -> Offset {
        self.next
    }

    /// Hands the next records, about a megabyte of them, to `see`, with their offsets; never crosses one of
    /// [`Reader::segment_bases`] within one call. What somebody asked to erase comes as [`Record::Gone`]. Returns how
    /// many records there were: 0 at the durable end.
    pub fn read(&mut self, mut see: impl FnMut(Offset, Record<'_>)) -> Result<usize, ReadError> {
        // The bases before the durable end: a segment is begun before anything in it is durable, never after.
        let end = self.reader.durable_end();
        if self.next >= end {
            return Ok(0);
        }
        let bases = self.reader.shared.files.bases();
        let behind = bases.partition_point(|base| *base <= self.next);
        let end = bases.get(behind).map_or(end, |base| end.min(*base));
        let erased = self.reader.erased();
        let mut see = |offset, record: Record<'_>| {
            see(
                offset,
                match record {
                    Record::Event(_) if erased.contains(offset) => Record::Gone(Reason::Erased),
                    record => record,
                },
            )
        };
        let version = self.reader.shared.files.version();
        if let Some((known, segment, position)) = self.place.take()
            && known == version
        {
            return self.read_raw(&segment, position, end, &mut see);
        }
        let pieces = self.reader.shared.files.pieces();
        match &pieces[holding(&pieces, self.next)?] {
            Piece::Sealed(file) => self.read_sealed(file, end, &mut see),
            Piece::Damaged(_, damage) => Err(ReadError::Damaged(damage.as_ref().clone())),
            Piece::Raw(segment) => {
                let mut look = self.reader.lookup();
                let position = look.find_frame(segment, self.next)?.position;
                self.read_raw(segment, position, end, &mut see)
            }
        }
    }

    /// Steps over what cannot be read: the next call goes on at `offset`. For whoever copes with damage.
    pub fn skip_to(&mut self, offset: Offset) {
        self.next = self.next.max(offset);
        self.place = None;
    }

    fn read_sealed(
        &mut self,
        file: &SealedFile,
        end: Offset,
        see: &mut dyn FnMut(Offset, Record<'_>),
    ) -> Result<usize, ReadError> {
        let list = file.blocks()?;
        let first = list.partition_point(|entry| entry.first <= self.next);
        let (mut count, mut bytes) = (0, 0);
        for place in first.saturating_sub(1)..list.len() {
            if self.next >= end || bytes >= SCAN_BYTES {
                break;
            }
            let entry = &list[place];
            if let Some(reason) = entry.gone {
                // A range that is gone may be long: some of it now, the rest at the next call.
                let until = entry.end().min(self.next + SCAN_BYTES as u64).min(end);
                for offset in self.next..until {
                    see(offset, Record::Gone(reason));
                    count += 1;
                }
                self.next = until;
                break;
            }
            let block = file.read_block(&list, place)?;
            bytes += block.memory_bytes();
            for (offset, record) in block.records() {
                if offset < self.next {
                    continue;
                }
                let record = payload::decode_arrived(record, block.arrived_at(offset), offset)
                    .map_err(|what| file.damage(block.first, format!("record {offset}: {what}")))?;
                see(offset, record);
                count += 1;
            }
            self.next = self.next.max(block.end());
        }
        Ok(count)
    }

    fn read_raw(
        &mut self,
        segment: &Arc<Segment>,
        position: u64,
        end: Offset,
        see: &mut dyn FnMut(Offset, Record<'_>),
    ) -> Result<usize, ReadError> {
        self.bytes = segment.read_ahead(position, FRAME_HEADER_BYTES, SCAN_BYTES)?;
        let salt = segment.header.salt;
        let (mut at, mut count) = (0usize, 0usize);
        while self.next < end {
            let damage = |at: usize, offset, what: String| {
                ReadError::from(segment.damage(position + at as u64, offset, what))
            };
            let Some(header_bytes) = self.bytes.get(at..at + FRAME_HEADER_BYTES) else {
                break;
            };
            let Found::Frame(header, _) = FrameHeader::decode(header_bytes, salt) else {
                let what = "no frame header whose checksum holds".to_owned();
                return Err(damage(at, self.next, what));
            };
            let whole = FRAME_HEADER_BYTES + header.body();
            if at + whole > self.bytes.len() {
                if at > 0 {
                    break;
                }
                // A frame larger than a piece is read whole.
                self.bytes = segment.read(position, whole)?;
            }
            let body = &self.bytes[at + FRAME_HEADER_BYTES..at + whole];
            if header.first_offset > self.next {
                let what = format!("a frame of record {}", header.first_offset);
                return Err(damage(at, self.next, what));
            }
            if let Some(what) = broken_body(&header, body, salt) {
                return Err(damage(at, header.first_offset, what));
            }
            let table = Table::of(&header, body, salt).expect("the body was just checked");
            for (offset, range) in (header.first_offset..).zip(table.ranges()) {
                if offset >= self.next {
                    let record = payload::decode_arrived(&body[range], header.appended_at, offset)
                        .map_err(|what| damage(at, offset, what))?;
                    see(offset, record);
                    count += 1;
                }
            }
            self.next = self.next.max(header.end_offset());
            at += header.stride();
        }
        // Only within the segment: where it ends, the next call looks for the file that goes on.
        let files = &self.reader.shared.files;
        self.place = (count > 0 && !files.begins(self.next))
            .then(|| (files.version(), segment.clone(), position + at as u64));
        Ok(count)
    }
}
