//! Makes the frames at the end of the log, and groups of them that are written and synced at once.
//!
//! What must stay true: after the first failed write or sync nothing is written any more, because nobody knows what
//! the disk holds; and a frame is only written into bytes that were filled with zeros before, so that a full disk
//! never tears one.

use std::io;
use std::sync::Arc;

use crate::admission::Item;
use crate::error::AppendError;
use crate::format::frame::{
    self, FRAME_HEADER_BYTES, FRAME_VERSION, FrameHeader, TABLE_ENTRY_BYTES, record_checksum,
};
use crate::format::segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::format::{
    FORMAT_VERSION, FRAME_BODY_MAX_BYTES, FRAME_RECORDS_MAX, SEGMENT_RECORDS_MAX, aligned,
    file_name,
};
use crate::group::{Gathered, Group};
use crate::log::Shared;
use crate::offset::Offset;
use crate::queue::Next;
use crate::segment::{Segment, Summary};
use crate::storage::{StorageFile, write_zeros};

/// How much is filled with zeros ahead of the frames, at first and at most.
const FILL_FIRST_BYTES: u64 = 1 << 20;
const FILL_MOST_BYTES: u64 = 32 << 20;

/// What the system reads and writes files in.
const PAGE_BYTES: u64 = 4096;

/// Makes frames for the end of the log. `&mut self` is the single-writer rule.
#[derive(Debug)]
pub(crate) struct Appender {
    shared: Arc<Shared>,
    segment_max_bytes: u64,
    active: Tail,
    group: Gathered,
    /// How much of the group was written ahead.
    ahead: usize,
    last_received_at: i64,
    /// The durable end that the last frame says.
    said_durable: Offset,
}

/// The end of the active segment.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) segment: Arc<Segment>,
    /// The same file opened once more, to fill it: Linux tells each handle once that what was written is lost, and the syncer
    /// must not miss it because the sync of zeros was told.
    filler: Option<Arc<dyn StorageFile>>,
    /// Where the next group goes; what is collected in the group lies behind it.
    pub(crate) position: u64,
    /// Up to where the file was filled with zeros or holds frames.
    pub(crate) filled: u64,
    pub(crate) previous: u32,
    pub(crate) summary: Summary,
}

impl Tail {
    /// The end of a segment that holds nothing yet.
    pub(crate) fn empty(segment: Arc<Segment>, filled: u64) -> Self {
        let summary = Summary::empty(&segment.header);
        let (position, previous) = (summary.frames_end, summary.last_frame);
        Self {
            segment,
            filler: None,
            position,
            filled,
            previous,
            summary,
        }
    }

    fn filler(&mut self, shared: &Shared) -> io::Result<Arc<dyn StorageFile>> {
        if let Some(file) = &self.filler {
            return Ok(file.clone());
        }
        let file = shared.storage.open(&self.segment.name)?;
        Ok(self.filler.insert(file).clone())
    }

    /// Counts a frame that begins at `position` and holds so many events.
    pub(crate) fn note(&mut self, header: &FrameHeader, events: usize, sum: u32, position: u64) {
        if header.count > 0 {
            self.summary.last_received_at = header.appended_at;
            self.segment.note_frame(header.first_offset, position);
        }
        self.summary.events += events as u64;
        self.summary.end = header.end_offset();
        self.summary.frames_end = position + header.stride() as u64;
        self.summary.last_frame = sum;
        self.previous = sum;
    }
}

impl Appender {
    pub(crate) fn new(shared: Arc<Shared>, segment_max_bytes: u64, active: Tail) -> Self {
        let last_received_at = active.summary.last_received_at;
        Self {
            shared,
            segment_max_bytes,
            active,
            group: Gathered::default(),
            ahead: 0,
            last_received_at,
            said_durable: 0,
        }
    }

    /// Returns the offset that the next record gets.
    pub(crate) fn next_offset(&self) -> Offset {
        self.active.summary.end
    }

    /// Returns when what is appended now arrives: the later of now and the last record's arrival.
    pub(crate) fn arrival(&mut self) -> i64 {
        self.last_received_at = self.last_received_at.max(crate::time::now());
        self.last_received_at
    }

    /// Keeps arrivals from going backwards over a restart.
    pub(crate) fn not_before(&mut self, received_at: i64) {
        self.last_received_at = self.last_received_at.max(received_at);
    }

    /// Returns how many bytes gathered that are not written.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.group.len()
    }

    /// Returns how many bytes gathered, written or not.
    pub(crate) fn unsynced_bytes(&self) -> usize {
        self.ahead + self.group.len()
    }

    /// Returns how many bytes of frame `records` records of `bytes` bytes make, or why they cannot be one.
    fn frame_bytes(records: usize, bytes: usize) -> Result<usize, AppendError> {
        let body = records * TABLE_ENTRY_BYTES + bytes;
        if records > FRAME_RECORDS_MAX || body > FRAME_BODY_MAX_BYTES {
            return Err(AppendError::TooLarge {
                bytes: body,
                limit: FRAME_BODY_MAX_BYTES,
            });
        }
        Ok(FRAME_HEADER_BYTES + aligned(body))
    }

    /// Says whether a frame of so many records and bytes would have to go into another segment.
    pub(crate) fn wants_roll(&self, records: usize, bytes: usize) -> Result<bool, AppendError> {
        let end =
            self.active.position + (self.group.len() + Self::frame_bytes(records, bytes)?) as u64;
        let full = end > self.segment_max_bytes
            || self.held_records() + records as u64 > SEGMENT_RECORDS_MAX;
        Ok(full && self.held_records() > 0)
    }

    /// Says whether the active segment is so full that the file of the next one should be prepared.
    pub(crate) fn is_half_full(&self) -> bool {
        self.active.position + self.group.len() as u64 > self.segment_max_bytes / 2
    }

    /// Returns how many records the active segment holds.
    pub(crate) fn held_records(&self) -> u64 {
        self.active.summary.end - self.active.summary.base
    }

    /// Adds a frame of a request's events, encoded in a row, to the group. [`Self::wants_roll`] was asked
    /// and acted upon. Nothing is on the disk before the group is taken and synced; when this fails, nothing was added.
    pub(crate) fn push_events(
        &mut self,
        bytes: Vec<u8>,
        items: &[Item],
        received_at: i64,
        duplicates: u32,
        rejected: u32,
    ) -> Result<(), AppendError> {
        let header = FrameHeader {
            duplicates,
            rejected,
            ..self.next_header(received_at)
        };
        let mut start = 0;
        let records = items.iter().map(|item| {
            let length = item.end - std::mem::replace(&mut start, item.end);
            (length, item.checksum)
        });
        self.push(bytes, records, header, items.len())
    }

    /// Adds a frame of records that are no events, which lie in a row and end at `ends`, likewise.
    pub(crate) fn push_records(
        &mut self,
        bytes: Vec<u8>,
        ends: &[usize],
        at: i64,
    ) -> Result<(), AppendError> {
        let header = self.next_header(at);
        let mut start = 0;
        let records: Vec<_> = ends
            .iter()
            .map(|end| &bytes[std::mem::replace(&mut start, *end)..*end])
            .map(|record| (record.len(), record_checksum(record)))
            .collect();
        self.push(bytes, records.into_iter(), header, 0)
    }

    /// Returns the header of the next frame, without what depends on its records.
    fn next_header(&self, appended_at: i64) -> FrameHeader {
        FrameHeader {
            version: FRAME_VERSION,
            body_bytes: 0,
            count: 0,
            first_offset: self.active.summary.end,
            appended_at,
            durable_end: self.shared.durable.get(),
            table_checksum: 0,
            previous: self.active.previous,
            duplicates: 0,
            rejected: 0,
        }
    }

    fn push(
        &mut self,
        bytes: Vec<u8>,
        records: impl ExactSizeIterator<Item = (usize, u32)>,
        mut header: FrameHeader,
        events: usize,
    ) -> Result<(), AppendError> {
        let length = Self::frame_bytes(records.len(), bytes.len())?;
        self.refuse_if_poisoned()?;
        let position = self.active.position + self.group.len() as u64;
        self.fill(position + length as u64)?;
        let salt = self.active.segment.header.salt;
        let sum = frame::push_head(self.group.little(), &mut header, records, salt);
        self.group.push(bytes);
        self.group
            .push_zeros(aligned(header.body()) - header.body());
        self.said_durable = header.durable_end;
        self.active.note(&header, events, sum, position);
        Ok(())
    }

    /// Makes sure that the active file is filled up to `end`. A full disk shows here, before anything was written.
    fn fill(&mut self, end: u64) -> Result<(), AppendError> {
        if end <= self.active.filled {
            return Ok(());
        }
        let step = self.active.filled.clamp(FILL_FIRST_BYTES, FILL_MOST_BYTES);
        let target = end.max((self.active.filled + step).min(self.segment_max_bytes));
        let filled = self.active.filler(&self.shared).and_then(|file| {
            write_zeros(file.as_ref(), self.active.filled..target)?;
            file.sync()
        });
        match filled {
            Ok(()) => {
                self.active.filled = target;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Err(self.disk_full()),
            Err(error) => Err(self.poison("filling", &error)),
        }
    }

    /// Writes what gathered so far, while the group before is synced. It is on the disk with the rest of its group.
    pub(crate) fn write_ahead(&mut self) -> Result<(), AppendError> {
        let Some(group) = self.take_group(Vec::new()) else {
            return Ok(());
        };
        self.refuse_if_poisoned()?;
        group
            .write()
            .map_err(|error| self.poison("writing", &error))?;
        self.ahead = group.ahead + group.bytes.len();
        self.group = Gathered::in_buffer(group.bytes.into_buffer());
        Ok(())
    }

    /// Takes the group that gathered, to be written and synced; the next one gathers in `buffer`.
    pub(crate) fn take_group(&mut self, buffer: Vec<u8>) -> Option<Group> {
        let ahead = std::mem::take(&mut self.ahead);
        if ahead == 0 && self.group.is_empty() {
            return None;
        }
        let mut bytes = std::mem::replace(&mut self.group, Gathered::in_buffer(buffer));
        let position = self.active.position;
        let end = position + bytes.len() as u64;
        // With the zeros that stand there already, the last page is written whole: the system would read it first.
        if !bytes.is_empty() {
            let whole = end.next_multiple_of(PAGE_BYTES).min(self.active.filled);
            bytes.push_zeros(usize::try_from(whole - end).expect("less than a page"));
        }
        self.active.position = end;
        Some(Group {
            segment: self.active.segment.clone(),
            ahead,
            position,
            bytes,
            end: self.active.summary.end,
        })
    }

    /// Begins a new segment. What gathered must be on the disk. Returns the old one and what it came to.
    pub(crate) fn roll(&mut self, next: Next) -> Result<(Arc<Segment>, Summary), AppendError> {
        debug_assert_eq!(self.unsynced_bytes(), 0, "a roll follows the last sync");
        let base = self.active.summary.end;
        let tail = match begin_segment(&self.shared, base, next) {
            Ok(tail) => tail,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                return Err(self.disk_full());
            }
            Err(error) => return Err(self.poison("beginning a segment", &error)),
        };
        let old = std::mem::replace(&mut self.active, tail);
        Ok((old.segment, old.summary))
    }

    /// Returns the active segment.
    pub(crate) fn active_segment(&self) -> &Arc<Segment> {
        &self.active.segment
    }

    /// Adds a frame without records that says how far the log is durable, unless the last frame says it already.
    /// Once it is synced, damage to any record can be told from a torn tail.
    pub(crate) fn mark_durable(&mut self) -> Result<(), AppendError> {
        if self.said_durable == self.next_offset() {
            return Ok(());
        }
        let now = self.arrival();
        self.push_records(Vec::new(), &[], now)
    }

    fn disk_full(&self) -> AppendError {
        self.shared.note_disk_full();
        AppendError::DiskFull
    }

    fn refuse_if_poisoned(&self) -> Result<(), AppendError> {
        self.shared
            .poisoned()
            .map_or(Ok(()), |message| Err(AppendError::Poisoned(message)))
    }

    fn poison(&self, doing: &str, error: &io::Error) -> AppendError {
        let message = format!("{doing} {}: {error}", self.active.segment.name);
        self.shared.poison(&message);
        AppendError::Poisoned(message)
    }
}

/// Makes the file of a segment that begins at `base`. Its header and its name are on the disk when this returns.
pub(crate) fn begin_segment(shared: &Shared, base: Offset, next: Next) -> io::Result<Tail> {
    let name = file_name::segment(base);
    let header = SegmentHeader {
        version: FORMAT_VERSION,
        store: shared.store,
        base,
        created_at: crate::time::now(),
        salt: uuid::Uuid::new_v4().as_fields().0,
    };
    let spare = match next {
        Next::Spare => shared.take_spare(),
        Next::Small => None,
    };
    let temporary = if spare.is_some() { SPARE } else { BEGINNING };
    let (file, filled) = match spare {
        Some(spare) => spare,
        None => (shared.storage.create(BEGINNING)?, 0),
    };
    file.write_at(&header.encode(), 0)?;
    file.sync()?;
    shared.storage.rename(temporary, &name)?;
    shared.storage.sync_names()?;
    shared.spare_is_renamed();
    let segment = Arc::new(Segment::new(name, header, file));
    Ok(Tail::empty(
        segment,
        filled.max(SEGMENT_HEADER_BYTES as u64),
    ))
}

/// The name of the zero-filled file that becomes the next segment.
pub(crate) const SPARE: &str = "spare";
/// The name of a segment file whose header is not on the disk yet.
pub(crate) const BEGINNING: &str = "beginning";
