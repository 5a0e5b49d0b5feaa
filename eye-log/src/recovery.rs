//! Opens the segments of a folder: reads footers, walks what was never sealed, cuts a torn tail, refuses damage.
//!
//! What must stay true: bytes below a point that any frame says was durable are never cut. A frame carries the durable
//! end as known when it was written, so what follows a hole tells whether the hole had been acknowledged.

use std::sync::Arc;

use crate::admission::Admission;
use crate::admission::filter::Filter;
use crate::admission::table::SealedEntries;
use crate::appender::{BEGINNING, Closed, SPARE, Tail};
use crate::error::{Damage, OpenError, ReadError};
use crate::format::footer::{self, TRAILER_BYTES, Trailer};
use crate::format::frame::Table;
use crate::format::segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::format::{file_name, payload};
use crate::offset::Offset;
use crate::record::Record;
use crate::registry::Registry;
use crate::segment::walk::{Step, Walk};
use crate::segment::{Segment, sealer};
use crate::storage::{Storage, write_zeros};

/// What opening a log found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// How many segments there are.
    pub segments: usize,
    /// One past the last record.
    pub end: Offset,
    /// What was cut from the end, if the last write had been torn. Nothing of it was ever acknowledged.
    pub cut: Option<Cut>,
}

/// The torn tail that was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The file it was cut from.
    pub file: String,
    /// Where it began.
    pub position: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The file in the log's folder that keeps them.
    pub kept_as: String,
}

/// Everything that opening makes of the folder.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) segments: Vec<Arc<Segment>>,
    /// The active segment's end; `None` in a folder without segments.
    pub(crate) tail: Option<Tail>,
    pub(crate) admission: Admission,
    pub(crate) registry: Registry,
    pub(crate) last_received_at: i64,
    pub(crate) report: OpenReport,
}

/// Reads the folder. Writes only to cut a torn tail and to seal what should have been sealed.
pub(crate) fn recover(storage: &dyn Storage, idempotency_window: i64) -> Result<Recovered, Failed> {
    let mut recovered = Recovered {
        segments: Vec::new(),
        tail: None,
        admission: Admission::new(idempotency_window),
        registry: Registry::default(),
        last_received_at: 0,
        report: OpenReport::default(),
    };
    let names = storage
        .list()
        .map_err(|error| Failed::Io("listing", String::new(), error))?;
    let mut bases: Vec<Offset> = names
        .iter()
        .filter_map(|name| file_name::base_of(name))
        .collect();
    bases.sort_unstable();
    for (place, base) in bases.iter().enumerate() {
        let next = bases.get(place + 1).copied();
        let segment = open_segment(storage, *base)?;
        if let Some(first) = recovered.segments.first()
            && first.header.store != segment.header.store
        {
            let what = format!(
                "a segment of store {}, not {}",
                segment.header.store, first.header.store
            );
            return Err(segment.damage(0, *base, what).into());
        }
        if recovered.report.end != *base {
            let what = format!(
                "records {} to {} are in no segment",
                recovered.report.end,
                base - 1
            );
            return Err(Damage {
                last_offset: Some(base - 1),
                ..segment.damage(0, recovered.report.end, what)
            }
            .into());
        }
        recovered.take_in(storage, segment, next)?;
    }
    // Only now that nothing is damaged: a log that does not open is not touched.
    for name in names
        .iter()
        .filter(|name| *name == SPARE || *name == BEGINNING)
    {
        storage
            .remove(name)
            .map_err(|error| Failed::Io("removing", name.clone(), error))?;
    }
    recovered.report.segments = bases.len();
    Ok(recovered)
}

/// Why a folder was not opened.
pub(crate) enum Failed {
    Damaged(Damage),
    Io(&'static str, String, std::io::Error),
}

impl From<Damage> for Failed {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl From<ReadError> for Failed {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(damage) => Self::Damaged(damage),
            ReadError::Io { file, message } => {
                Self::Io("reading", file, std::io::Error::other(message))
            }
        }
    }
}

impl Failed {
    /// Names the folder.
    pub(crate) fn within(self, folder: &std::path::Path) -> OpenError {
        match self {
            Self::Damaged(damage) => OpenError::Damaged { damage },
            Self::Io(doing, file, source) => OpenError::Io {
                doing,
                path: folder.join(file),
                source,
            },
        }
    }
}

/// Opens a segment's file and reads its header.
fn open_segment(storage: &dyn Storage, base: Offset) -> Result<Segment, Failed> {
    let name = file_name::segment(base);
    let file = storage
        .open(&name)
        .map_err(|error| Failed::Io("opening", name.clone(), error))?;
    let size = file
        .size()
        .map_err(|error| Failed::Io("reading", name.clone(), error))?;
    let length = usize::try_from(size)
        .unwrap_or(usize::MAX)
        .min(SEGMENT_HEADER_BYTES);
    let bytes = crate::storage::read_vec(file.as_ref(), 0, length)
        .map_err(|error| Failed::Io("reading", name.clone(), error))?;
    // The header and then the name were synced before the first record: a wrong header is damage, never a torn tail.
    let damage = |what| Damage {
        file: name.clone(),
        position: 0,
        first_offset: base,
        last_offset: None,
        what,
    };
    let header = SegmentHeader::decode(&bytes).map_err(damage)?;
    if header.base != base {
        return Err(damage(format!(
            "its header says that it begins with record {}",
            header.base
        ))
        .into());
    }
    Ok(Segment::new(name, header, file))
}

/// Reads a segment's trailer; `None` when it was never sealed.
pub(crate) fn trailer_of(segment: &Segment) -> Result<Option<Trailer>, ReadError> {
    let size = segment.file.size().map_err(|error| ReadError::Io {
        file: segment.name.clone(),
        message: error.to_string(),
    })?;
    let Some(at) = size.checked_sub(TRAILER_BYTES as u64) else {
        return Ok(None);
    };
    let trailer = Trailer::decode(&segment.read(at, TRAILER_BYTES)?, segment.header.salt);
    Ok(trailer.filter(|trailer| {
        trailer.summary.base == segment.header.base && trailer.file_bytes() == size
    }))
}

/// The parts of a footer that opening reads; the tables stay where they are until they are asked.
struct Footer {
    index: Vec<(Offset, u64)>,
    controls: Vec<Offset>,
    session_filter: Filter,
    id_filter: Filter,
}

impl Footer {
    /// Reads the parts; `None` when one of them is not what was written.
    fn read(segment: &Segment, trailer: Trailer) -> Result<Option<Self>, ReadError> {
        let layout = trailer.layout();
        let part = |place: usize,
                    (position, length): (u64, usize)|
         -> Result<Option<Vec<u8>>, ReadError> {
            let bytes = segment.read(position, length)?;
            Ok(trailer
                .holds(place, &bytes, segment.header.salt)
                .then_some(bytes))
        };
        let parts = [part(0, layout.index)?, part(1, layout.controls)?];
        let filters = [part(4, layout.session_filter)?, part(5, layout.id_filter)?];
        let ([Some(index), Some(controls)], [Some(sessions), Some(ids)]) = (parts, filters) else {
            return Ok(None);
        };
        Ok(Some(Self {
            index: footer::decode_index(&index),
            controls: footer::decode_controls(&controls),
            session_filter: Filter::from_bytes(sessions),
            id_filter: Filter::from_bytes(ids),
        }))
    }
}

impl Recovered {
    fn take_in(
        &mut self,
        storage: &dyn Storage,
        segment: Segment,
        next: Option<Offset>,
    ) -> Result<(), Failed> {
        let Some(trailer) = trailer_of(&segment)? else {
            return self.take_in_unsealed(storage, segment, next);
        };
        let Some(next) = next else {
            // A segment is sealed after its successor was begun, and the successor's name was synced before.
            let what = "this segment was closed, but the one that follows it is missing";
            return Err(segment.damage(0, trailer.summary.end, what).into());
        };
        // A footer that ends elsewhere than the next segment begins, or whose parts do not hold, is judged by the
        // frames, and written again from them.
        match Footer::read(&segment, trailer)? {
            Some(footer) if next == trailer.summary.end => {
                self.take_in_sealed(segment, trailer, footer)
            }
            _ => self.take_in_unsealed(storage, segment, Some(next)),
        }
    }

    fn take_in_sealed(
        &mut self,
        segment: Segment,
        trailer: Trailer,
        footer: Footer,
    ) -> Result<(), Failed> {
        let entries = SealedEntries::in_footer(trailer, footer.session_filter, footer.id_filter);
        let segment = Arc::new(segment.sealed_with(trailer.summary, footer.index));
        for offset in footer.controls {
            let registry = &mut self.registry;
            crate::reader::record_of(&segment, offset, |record| {
                if let Record::Registry(record) = record {
                    registry.apply(&record.change, record.at);
                }
            })?;
        }
        self.last_received_at = self.last_received_at.max(trailer.summary.last_received_at);
        self.report.end = trailer.summary.end;
        self.admission
            .add_sealed(segment.clone(), trailer.summary.last_received_at, entries);
        self.segments.push(segment);
        Ok(())
    }

    fn take_in_unsealed(
        &mut self,
        storage: &dyn Storage,
        segment: Segment,
        next: Option<Offset>,
    ) -> Result<(), Failed> {
        let segment = Arc::new(segment);
        let mut tail = Tail::empty(segment.clone(), 0);
        let mut walk = Walk::new(&segment)?;
        loop {
            let position = walk.position;
            if next == Some(walk.next_offset) {
                // The next segment goes on from here; what follows is at most a footer that was being written.
                break;
            }
            match walk.step()? {
                Step::Frame(header, body) => {
                    let table = Table::of(&header, body, segment.header.salt)
                        .expect("the walk checked the table");
                    for (offset, range) in (header.first_offset..).zip(table.ranges()) {
                        let record = payload::decode(&body[range])
                            .map_err(|what| segment.damage(position, offset, what))?;
                        match record {
                            Record::Event(event) => {
                                tail.note_event(event.timestamp);
                                self.admission.replay(&event, offset)?;
                            }
                            Record::Registry(record) => {
                                tail.controls.push(offset);
                                self.registry.apply(&record.change, record.at);
                            }
                        }
                    }
                    tail.note(&header, walk.previous, position);
                }
                Step::End => {
                    self.end_of_walk(storage, &segment, walk, next, "zeros".to_owned())?;
                    break;
                }
                Step::Broken(what) => {
                    self.end_of_walk(storage, &segment, walk, next, what)?;
                    break;
                }
            }
        }
        tail.position = tail.summary.frames_end;
        tail.filled = segment
            .file
            .size()
            .map_err(|error| Failed::Io("reading", segment.name.clone(), error))?;
        self.last_received_at = self.last_received_at.max(tail.summary.last_received_at);
        self.report.end = tail.summary.end;
        self.segments.push(segment.clone());
        if next.is_some() {
            let entries = self
                .admission
                .seal(segment.clone(), tail.summary.last_received_at);
            let closed = Closed {
                segment: segment.clone(),
                summary: tail.summary,
                controls: tail.controls,
            };
            sealer::seal(&closed, &entries)
                .map_err(|error| Failed::Io("sealing", segment.name.clone(), error))?;
        } else {
            self.tail = Some(tail);
        }
        Ok(())
    }

    /// Judges what stands where no frame does: the clean end, a torn tail to be cut, or damage.
    fn end_of_walk(
        &mut self,
        storage: &dyn Storage,
        segment: &Segment,
        mut walk: Walk<'_>,
        next: Option<Offset>,
        what: String,
    ) -> Result<(), Failed> {
        let (position, expected) = (walk.position, walk.next_offset);
        if let Some(next) = next {
            let what = format!("{what}, but the next segment begins with record {next}");
            return Err(Damage {
                last_offset: Some(next - 1),
                ..segment.damage(position, expected, what)
            }
            .into());
        }
        let Some(set) = walk.bytes_set()? else {
            return Ok(());
        };
        if let Some((at, durable_end)) = walk.later_frame_says_durable(expected)? {
            let what = format!(
                "{what}, but the frame at byte {at} says that everything below record {durable_end} was on the disk"
            );
            return Err(Damage {
                last_offset: Some(durable_end - 1),
                ..segment.damage(position, expected, what)
            }
            .into());
        }
        let cut = cut_tail(storage, segment, position, set.end)
            .map_err(|error| Failed::Io("cutting the torn tail of", segment.name.clone(), error))?;
        tracing::warn!(
            file = cut.file,
            position,
            bytes = cut.bytes,
            kept_as = cut.kept_as,
            "cut a torn write that was never acknowledged"
        );
        self.report.cut = Some(cut);
        Ok(())
    }
}

/// Keeps the bytes of a torn tail aside, then writes zeros over them and syncs.
fn cut_tail(
    storage: &dyn Storage,
    segment: &Segment,
    position: u64,
    end: u64,
) -> std::io::Result<Cut> {
    const STEP: usize = 1 << 20;
    let kept_as = format!(
        "torn-{:020}-{position}-{}.cut",
        segment.header.base,
        crate::time::now()
    );
    let kept = storage.create(&kept_as)?;
    let mut at = position;
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(STEP).min(STEP);
        kept.write_at(
            &crate::storage::read_vec(segment.file.as_ref(), at, length)?,
            at - position,
        )?;
        at += length as u64;
    }
    kept.sync()?;
    storage.sync_names()?;
    write_zeros(segment.file.as_ref(), position..end)?;
    segment.file.sync()?;
    Ok(Cut {
        file: segment.name.clone(),
        position,
        bytes: end - position,
        kept_as,
    })
}
