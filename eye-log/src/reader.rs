//! Reads records back: a few by offset, or all from an offset on.
//!
//! What must stay true: nothing at or beyond the durable end is ever shown, and nothing is shown whose checksums do
//! not hold.

use std::sync::Arc;

use uuid::Uuid;

use crate::error::{Damage, ReadError};
use crate::format::frame::{FRAME_HEADER_BYTES, Found, FrameHeader, TABLE_ENTRY_BYTES, Table};
use crate::format::payload;
use crate::format::segment_header::SEGMENT_HEADER_BYTES;
use crate::log::Shared;
use crate::offset::{DurableEnd, Offset};
use crate::record::{EventRecord, Record};
use crate::registry::ApplicationId;
use crate::segment::Segment;
use crate::segment::walk::broken_body;

/// How much is read at once when looking for a record.
const LOOK_BYTES: usize = 20 << 10;
/// How much is read at once when reading on and on.
const SCAN_BYTES: usize = 1 << 20;

/// Reads the log; cheap to clone, and many may read at once.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(crate) shared: Arc<Shared>,
}

/// An event as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its offset.
    pub offset: Offset,
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub application: ApplicationId,
    /// Its session.
    pub session_id: Uuid,
    /// Its category.
    pub category: String,
    /// Its name.
    pub name: String,
    /// When it happened, unix microseconds.
    pub timestamp: i64,
    /// When it arrived, unix microseconds.
    pub received_at: i64,
    /// Its data, the JSON text as sent.
    pub data: String,
    /// JSON text the server added about its arrival.
    pub meta: Option<String>,
    /// The id the client sent, where that was no UUID.
    pub client_id: Option<String>,
}

impl StoredEvent {
    fn of(offset: Offset, event: &EventRecord<'_>) -> Self {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            offset,
            id: event.id,
            application: event.application,
            session_id: event.session_id,
            category: event.category.to_owned(),
            name: event.name.to_owned(),
            timestamp: event.timestamp,
            received_at: event.received_at,
            data: event.data.to_owned(),
            meta: some(event.meta),
            client_id: event.client.and_then(|client| some(client.key)),
        }
    }
}

impl Reader {
    /// Returns one past the last offset that can be read.
    pub fn durable_end(&self) -> Offset {
        self.shared.durable.get()
    }

    /// Returns what says when the durable end moves.
    pub fn durable(&self) -> &DurableEnd {
        &self.shared.durable
    }

    /// Returns the store's id, drawn when its folder was new.
    pub fn store_id(&self) -> Uuid {
        self.shared.store
    }

    /// Returns the first offsets of all segments, oldest first; the last one is active.
    pub fn segment_bases(&self) -> Vec<Offset> {
        self.shared
            .segments()
            .iter()
            .map(|segment| segment.header.base)
            .collect()
    }

    /// Reads the events at `offsets`, in that order; `None` where there is no event or nothing yet.
    pub fn read_many(&self, offsets: &[Offset]) -> Result<Vec<Option<StoredEvent>>, ReadError> {
        let mut events = vec![None; offsets.len()];
        self.visit(offsets, |place, offset, event| {
            events[place] = Some(StoredEvent::of(offset, event))
        })?;
        Ok(events)
    }

    /// Hands the events at `offsets` to `see`, with their places in `offsets`, without copying them. They come in
    /// offset order; offsets without an event are left out.
    pub fn visit(
        &self,
        offsets: &[Offset],
        mut see: impl FnMut(usize, Offset, &EventRecord<'_>),
    ) -> Result<(), ReadError> {
        let end = self.durable_end();
        let mut order: Vec<usize> = (0..offsets.len())
            .filter(|place| offsets[*place] < end)
            .collect();
        order.sort_unstable_by_key(|place| offsets[*place]);
        let mut look = self.lookup();
        for place in order {
            let offset = offsets[place];
            look.record(offset, |bytes| {
                if let Record::Event(event) = payload::decode(bytes)? {
                    see(place, offset, &event);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Returns what finds single events.
    pub fn lookup(&self) -> Lookup {
        // The end first: segments that come later hold nothing below it.
        let end = self.durable_end();
        Lookup::new(self.shared.segments(), end)
    }

    /// Reads on and on from `offset`.
    pub fn scan(&self, offset: Offset) -> Scan {
        Scan {
            reader: self.clone(),
            next: offset,
            place: None,
            bytes: Vec::new(),
        }
    }
}

/// Finds single records, remembering where it looked last. It knows the segments there were when it was made.
#[derive(Debug)]
pub struct Lookup {
    end: Offset,
    segments: Vec<Arc<Segment>>,
    /// The segment, the position and the bytes that were read last.
    window: Option<(Arc<Segment>, u64, Vec<u8>)>,
    frame: Option<FoundFrame>,
}

#[derive(Debug)]
struct FoundFrame {
    segment: Arc<Segment>,
    position: u64,
    header: FrameHeader,
    table: Vec<u8>,
}

impl Lookup {
    fn new(segments: Vec<Arc<Segment>>, end: Offset) -> Self {
        Self {
            end,
            segments,
            window: None,
            frame: None,
        }
    }

    /// Hands the event at `offset` to `see`; returns `None` where there is no event, or nothing yet.
    pub fn event<T>(
        &mut self,
        offset: Offset,
        see: impl FnOnce(&EventRecord<'_>) -> T,
    ) -> Result<Option<T>, ReadError> {
        let mut seen = None;
        if offset < self.end {
            self.record(offset, |bytes| {
                if let Record::Event(event) = payload::decode(bytes)? {
                    seen = Some(see(&event));
                }
                Ok(())
            })?;
        }
        Ok(seen)
    }

    /// Returns the first offset whose record arrived at `instant` or later; the end of the log if there is none.
    pub fn first_arrived_at(&mut self, instant: i64) -> Result<Offset, ReadError> {
        let (mut low, mut high) = (
            self.segments.first().map_or(0, |first| first.header.base),
            self.end,
        );
        while low < high {
            let middle = low + (high - low) / 2;
            self.find_frame(middle)?;
            let arrived = self
                .frame
                .as_ref()
                .map_or(i64::MAX, |frame| frame.header.appended_at);
            if arrived < instant {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
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

    /// Finds the frame that holds `offset`.
    fn find_frame(&mut self, offset: Offset) -> Result<(), ReadError> {
        if self.frame.as_ref().is_some_and(|frame| {
            (frame.header.first_offset..frame.header.end_offset()).contains(&offset)
        }) {
            return Ok(());
        }
        let behind = self
            .segments
            .partition_point(|segment| segment.header.base <= offset);
        let Some(segment) = behind
            .checked_sub(1)
            .map(|place| self.segments[place].clone())
        else {
            return Err(ReadError::Damaged(Damage {
                file: "the log".to_owned(),
                position: 0,
                first_offset: offset,
                last_offset: None,
                what: "no segment holds this record".to_owned(),
            }));
        };
        let mut position = segment
            .indexed_frame(offset)
            .map_or(SEGMENT_HEADER_BYTES as u64, |(_, position)| position);
        loop {
            let bytes = self.bytes(&segment, position, FRAME_HEADER_BYTES)?;
            let Found::Frame(header, _) = FrameHeader::decode(bytes, segment.header.salt) else {
                return Err(segment
                    .damage(position, offset, "no frame header whose checksum holds")
                    .into());
            };
            if header.first_offset > offset {
                return Err(segment
                    .damage(
                        position,
                        offset,
                        format!("a frame of record {}", header.first_offset),
                    )
                    .into());
            }
            if offset < header.end_offset() {
                let length = header.records() * TABLE_ENTRY_BYTES;
                let table = self
                    .bytes(&segment, position + FRAME_HEADER_BYTES as u64, length)?
                    .to_vec();
                self.frame = Some(FoundFrame {
                    segment,
                    position,
                    header,
                    table,
                });
                return Ok(());
            }
            position += header.stride() as u64;
        }
    }

    /// Hands the bytes of a record to `see`, once their checksum was found to hold.
    fn record(
        &mut self,
        offset: Offset,
        see: impl FnOnce(&[u8]) -> Result<(), String>,
    ) -> Result<(), ReadError> {
        self.find_frame(offset)?;
        let frame = self.frame.take().expect("the frame was just found");
        let FoundFrame {
            segment,
            position,
            header,
            table,
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
        see(bytes).map_err(damage)?;
        self.frame = Some(frame);
        Ok(())
    }
}

/// Reads the log from an offset on, in pieces of whole frames.
#[derive(Debug)]
pub struct Scan {
    reader: Reader,
    next: Offset,
    /// Where the frame of `next` begins, once known.
    place: Option<(Arc<Segment>, u64)>,
    bytes: Vec<u8>,
}

impl Scan {
    /// Returns the offset of the next record.
    pub fn next_offset(&self) -> Offset {
        self.next
    }

    /// Hands the next records, about a megabyte of them, to `see`, with their offsets; never crosses into another
    /// segment within one call. Returns how many records there were: 0 at the durable end.
    pub fn read(&mut self, mut see: impl FnMut(Offset, Record<'_>)) -> Result<usize, ReadError> {
        let end = self.reader.durable_end();
        if self.next >= end {
            return Ok(0);
        }
        let (segment, position) = self.position()?;
        let segment_end = self.segment_end(&segment).min(end);
        self.bytes = segment.read_ahead(position, FRAME_HEADER_BYTES, SCAN_BYTES)?;
        let salt = segment.header.salt;
        let (mut at, mut count) = (0usize, 0usize);
        while self.next < segment_end {
            let damage = |at: usize, offset, what: String| {
                ReadError::from(segment.damage(position + at as u64, offset, what))
            };
            let Some(header_bytes) = self.bytes.get(at..at + FRAME_HEADER_BYTES) else {
                break;
            };
            let Found::Frame(header, _) = FrameHeader::decode(header_bytes, salt) else {
                return Err(damage(
                    at,
                    self.next,
                    "no frame header whose checksum holds".to_owned(),
                ));
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
                return Err(damage(
                    at,
                    self.next,
                    format!("a frame of record {}", header.first_offset),
                ));
            }
            if let Some(what) = broken_body(&header, body, salt) {
                return Err(damage(at, header.first_offset, what));
            }
            let table = Table::of(&header, body, salt).expect("the body was just checked");
            for (offset, range) in (header.first_offset..).zip(table.ranges()) {
                if offset >= self.next {
                    let record =
                        payload::decode(&body[range]).map_err(|what| damage(at, offset, what))?;
                    see(offset, record);
                    count += 1;
                }
            }
            self.next = self.next.max(header.end_offset());
            at += header.stride();
        }
        self.place =
            (self.next < self.segment_end(&segment)).then_some((segment, position + at as u64));
        Ok(count)
    }

    fn segment_end(&self, segment: &Segment) -> Offset {
        let segments = self.reader.shared.segments();
        let behind = segments.partition_point(|other| other.header.base <= segment.header.base);
        segments
            .get(behind)
            .map_or(Offset::MAX, |next| next.header.base)
    }

    fn position(&mut self) -> Result<(Arc<Segment>, u64), ReadError> {
        if let Some(place) = self.place.take() {
            return Ok(place);
        }
        let mut look = self.reader.lookup();
        look.find_frame(self.next)?;
        let frame = look.frame.expect("the frame was just found");
        Ok((frame.segment, frame.position))
    }
}

/// Reads one record of one segment, for recovery, before there is a log to read from.
pub(crate) fn record_of(
    segment: &Arc<Segment>,
    offset: Offset,
    see: impl FnOnce(Record<'_>),
) -> Result<(), ReadError> {
    Lookup::new(vec![segment.clone()], Offset::MAX).record(offset, |bytes| {
        see(payload::decode(bytes)?);
        Ok(())
    })
}
