//! Opens the files of a folder: believes the manifest, walks the raw segments, cuts a torn tail, refuses damage.
//!
//! What must stay true: bytes below a point that any frame or the manifest says was durable are never cut. A frame
//! carries the durable end as known when it was written, so what follows a hole tells whether it had been acknowledged.

pub(crate) mod manifests;
mod tail;

use std::sync::Arc;

use uuid::Uuid;

use crate::admission::Admission;
use crate::appender::{BEGINNING, SPARE, Tail};
use crate::erasures::Erasures;
use crate::error::{Damage, OpenError, ReadError};
use crate::files::{bases_of, is_leftover};
use crate::format::file_name::{self, SealedName};
use crate::format::frame::Table;
use crate::format::keys::Keys;
use crate::format::manifest::{Manifest, ManifestEntry};
use crate::format::payload;
use crate::format::segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader, of_a_later_program};
use crate::offset::Offset;
use crate::pieces::Piece;
use crate::reader::control_of;
use crate::record::Record;
use crate::registry::Registry;
use crate::sealed::{SealedFile, SealedShared};
use crate::sealing::SEALING;
use crate::segment::walk::{Step, Walk};
use crate::segment::{Closed, Segment};
use crate::storage::Storage;

pub use tail::Cut;

/// What opening a log found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// How many files hold records.
    pub segments: usize,
    /// One past the last record.
    pub end: Offset,
    /// What was cut from the end, if the last write had been torn. Nothing of it was ever acknowledged.
    pub cut: Option<Cut>,
    /// Sealed files that cannot be read; the rest serves on.
    pub damage: Vec<Damage>,
    /// Copies of the manifest that could not be read; the other one held.
    pub manifests_mended: Vec<String>,
}

/// How to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// To write: cuts a torn tail, takes leftovers away, mends the manifest.
    Write,
    /// To look: changes nothing.
    Read,
}

/// Everything that opening makes of the folder.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) store: Uuid,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) bases: Vec<Offset>,
    pub(crate) manifest: Manifest,
    /// The copy of the manifest to be overwritten first.
    pub(crate) next_manifest: usize,
    /// Whether a copy of the manifest wants to be written again.
    pub(crate) mend_manifest: bool,
    /// The active segment's end; `None` in a folder without segments.
    pub(crate) tail: Option<Tail>,
    pub(crate) admission: Admission,
    pub(crate) registry: Registry,
    pub(crate) erasures: Erasures,
    pub(crate) last_received_at: i64,
    pub(crate) report: OpenReport,
}

/// Reads the folder.
pub(crate) fn recover(
    storage: &dyn Storage,
    sealed: &Arc<SealedShared>,
    idempotency_window: i64,
    mode: Mode,
) -> Result<Recovered, Failed> {
    let names = storage
        .list()
        .map_err(|error| Failed::Io("listing", String::new(), error))?;
    let found = manifests::read(storage, &names)?;
    let sealed_end = found.manifest.files.last().map_or(0, |entry| entry.end);
    let mut raw: Vec<Offset> = names
        .iter()
        .filter_map(|name| file_name::base_of(name))
        .filter(|base| *base >= sealed_end)
        .collect();
    raw.sort_unstable();
    let store = match (found.manifest.files.first(), raw.first()) {
        (None, None) if found.manifest.durable_end == 0 => Uuid::new_v4(),
        (None, None) => {
            let what = "the log held records, but there is no file of it";
            return Err(missing(0, found.manifest.durable_end, what).into());
        }
        (Some(_), _) => found.manifest.store,
        (None, Some(base)) => open_segment(storage, *base)?.header.store,
    };
    let mut recovered = Recovered {
        store,
        pieces: Vec::new(),
        bases: Vec::new(),
        manifest: Manifest {
            store,
            ..found.manifest
        },
        next_manifest: found.next,
        mend_manifest: found.mend,
        tail: None,
        admission: Admission::new(Keys::of(store), idempotency_window),
        registry: Registry::default(),
        erasures: Erasures::default(),
        last_received_at: 0,
        report: OpenReport {
            manifests_mended: found.unreadable,
            ..OpenReport::default()
        },
    };
    for entry in recovered.manifest.files.clone() {
        recovered.take_in_sealed(storage, sealed, &entry)?;
    }
    recovered.admission.use_pieces(recovered.pieces.clone());
    if raw.is_empty() && sealed_end > 0 {
        let what = format!("the segment that begins with record {sealed_end} is missing");
        return Err(missing(sealed_end, recovered.manifest.durable_end, &what).into());
    }
    for (place, base) in raw.iter().enumerate() {
        recovered.take_in_raw(storage, *base, raw.get(place + 1).copied(), mode)?;
    }
    let (end, durable) = (recovered.report.end, recovered.manifest.durable_end);
    if end < durable {
        let what = format!(
            "the log ends with record {end}, but the manifest says that everything below {durable} was on the disk"
        );
        return Err(missing(end, durable, &what).into());
    }
    // Only now that nothing is damaged: a log that does not open is not touched.
    if mode == Mode::Write {
        let leftover = |name: &&String| {
            [SPARE, BEGINNING, SEALING].contains(&name.as_str())
                || is_leftover(name, &recovered.manifest)
        };
        for name in names.iter().filter(leftover) {
            storage
                .remove(name)
                .map_err(|error| Failed::Io("removing", name.clone(), error))?;
        }
    }
    recovered.report.segments = recovered.pieces.len();
    Ok(recovered)
}

/// Records that were there and are not.
fn missing(first: Offset, end: Offset, what: &str) -> Damage {
    Damage {
        file: file_name::segment(first),
        position: 0,
        first_offset: first,
        last_offset: end.checked_sub(1).filter(|last| *last >= first),
        what: what.to_owned(),
    }
}

/// Why a folder was not opened.
#[derive(Debug)]
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

/// Names what was being done to which file.
pub(crate) fn io_of(doing: &str, name: &str, error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("{doing} {name}: {error}"))
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

/// Opens a raw segment's file, past the page cache where the disk can, and reads its header.
pub(crate) fn open_segment(storage: &dyn Storage, base: Offset) -> Result<Segment, Failed> {
    let name = file_name::segment(base);
    let file = storage
        .open(&name)
        .map_err(|error| Failed::Io("opening", name.clone(), error))?;
    let reading = |error| Failed::Io("reading", name.clone(), error);
    let size = file.size().map_err(reading)?;
    let length = usize::try_from(size)
        .unwrap_or(usize::MAX)
        .min(SEGMENT_HEADER_BYTES);
    let bytes = crate::storage::read_vec(file.as_ref(), 0, length).map_err(reading)?;
    if let Some(what) = of_a_later_program(&bytes) {
        let error = std::io::Error::new(std::io::ErrorKind::Unsupported, what);
        return Err(Failed::Io("opening", name, error));
    }
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
        let what = format!("its header says that it begins with record {}", header.base);
        return Err(damage(what).into());
    }
    Ok(Segment::new(name, header, file))
}

impl Recovered {
    fn take_in_sealed(
        &mut self,
        storage: &dyn Storage,
        sealed: &Arc<SealedShared>,
        entry: &ManifestEntry,
    ) -> Result<(), Failed> {
        if entry.base != self.report.end {
            let what = format!(
                "the manifest names no file for records {} to {}",
                self.report.end,
                entry.base.saturating_sub(1)
            );
            return Err(missing(self.report.end, entry.base, &what).into());
        }
        self.report.end = entry.end;
        let name = SealedName {
            base: entry.base,
            end: entry.end,
            generation: entry.generation,
        };
        let opened = SealedFile::open(storage, &name, sealed.clone()).and_then(|file| {
            if file.header.store != self.store || file.trailer.checksum != entry.trailer_checksum {
                return Err(file.damage(entry.base, "another file than the manifest names"));
            }
            Ok((bases_of(&file)?, file.controls()?, file))
        });
        let (bases, controls, file) = match opened {
            Ok(opened) => opened,
            Err(ReadError::Damaged(mut damage)) => {
                // A token that was taken back, or an erased event, must not be back because of a broken file.
                if entry.controls != Some(0) {
                    damage.what += "; the file holds changes of applications and tokens, or erasures, without which \
                                    nobody may be let in";
                    return Err(damage.into());
                }
                sealed.note(&damage);
                self.pieces.push(Piece::Damaged(
                    entry.base..entry.end,
                    Arc::new(damage.clone()),
                ));
                self.bases.push(entry.base);
                self.report.damage.push(damage);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.last_received_at = self
            .last_received_at
            .max(file.trailer.summary.last_received_at);
        let piece = Piece::Sealed(Arc::new(file));
        for offset in controls {
            // A record that cannot be read could be the one that takes a token back: no guessing here.
            control_of(&piece, offset, |record| {
                apply(&mut self.registry, &mut self.erasures, &record);
            })?;
        }
        self.bases.extend(bases);
        self.pieces.push(piece);
        Ok(())
    }

    fn take_in_raw(
        &mut self,
        storage: &dyn Storage,
        base: Offset,
        next: Option<Offset>,
        mode: Mode,
    ) -> Result<(), Failed> {
        let segment = Arc::new(open_segment(storage, base)?);
        if segment.header.store != self.store {
            let what = format!(
                "a segment of store {}, not {}",
                segment.header.store, self.store
            );
            return Err(segment.damage(0, base, what).into());
        }
        if self.report.end != base {
            let what = format!(
                "records {} to {} are in no segment",
                self.report.end,
                base - 1
            );
            return Err(Damage {
                last_offset: Some(base - 1),
                ..segment.damage(0, self.report.end, what)
            }
            .into());
        }
        let mut tail = Tail::empty(segment.clone(), 0);
        let known_durable = self.manifest.durable_end;
        // After a failed sync the page cache may show what the disk does not have; only the disk counts.
        let direct = storage
            .open_direct(&segment.name)
            .map_err(|error| Failed::Io("opening", segment.name.clone(), error))?;
        let mut walk = Walk::through(&segment, direct)?;
        self.admission.begin_segment(base);
        loop {
            let position = walk.position;
            if next == Some(walk.next_offset) {
                // The next segment goes on from here; what follows says nothing.
                break;
            }
            match walk.step()? {
                Step::Frame(header, body) => {
                    let table = Table::of(&header, body, segment.header.salt)
                        .expect("the walk checked the table");
                    let mut events = 0;
                    for (offset, range) in (header.first_offset..).zip(table.ranges()) {
                        let record = payload::decode(&body[range])
                            .map_err(|what| segment.damage(position, offset, what))?;
                        if let Record::Event(event) = &record {
                            events += 1;
                            self.admission.replay(event, offset)?;
                        }
                        apply(&mut self.registry, &mut self.erasures, &record);
                    }
                    tail.note(&header, events, walk.previous, position);
                }
                Step::End => {
                    self.report.cut = tail::judge(
                        storage,
                        &segment,
                        walk,
                        next,
                        known_durable,
                        "zeros".to_owned(),
                        mode,
                    )?;
                    break;
                }
                Step::Broken(what) => {
                    self.report.cut =
                        tail::judge(storage, &segment, walk, next, known_durable, what, mode)?;
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
        self.bases.push(base);
        self.pieces.push(Piece::Raw(segment.clone()));
        if next.is_some() {
            let entries = self.admission.close_segment(tail.summary.end);
            segment.close(Closed {
                summary: tail.summary,
                entries,
            });
            self.admission.use_pieces(self.pieces.clone());
        } else {
            self.tail = Some(tail);
        }
        Ok(())
    }
}

/// Takes in what a record that is no event says.
fn apply(registry: &mut Registry, erasures: &mut Erasures, record: &Record<'_>) {
    match record {
        Record::Registry(record) => registry.apply(&record.change, record.at),
        Record::Erasure(erasure) => erasures.apply(erasure),
        Record::Event(_) | Record::Maintenance(_) | Record::Tally(_) | Record::Gone(_) => {}
    }
}
