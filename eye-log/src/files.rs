//! Which files make up the log: the manifest on the disk, and the list that readers go by.
//!
//! What must stay true: a file counts once both copies of the manifest name it and are synced; only then is what it
//! replaces taken away. So whatever instant the power goes at, one of the two sets of files is whole.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::format::file_name;
use crate::format::manifest::Manifest;
use crate::format::sealed_footer::Part;
use crate::offset::Offset;
use crate::pieces::{Piece, Pieces};
use crate::sealed::SealedFile;
use crate::segment::Segment;
use crate::storage::Storage;

/// The two copies of the manifest.
pub(crate) const MANIFESTS: [&str; 2] = ["manifest-0", "manifest-1"];

/// A sealed file in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedInfo {
    /// Its name, within the log's folder.
    pub file: String,
    /// The offset of its first record.
    pub base: Offset,
    /// One past its last record.
    pub end: Offset,
    /// How often its range was rewritten.
    pub generation: u32,
    /// Its length.
    pub bytes: u64,
    /// Events that are still there.
    pub events: u64,
}

impl SealedInfo {
    pub(crate) fn of(file: &SealedFile) -> Self {
        Self {
            file: file.name.clone(),
            base: file.header.base,
            end: file.header.end,
            generation: file.header.generation,
            bytes: file.file_bytes,
            events: file.trailer.summary.events,
        }
    }
}

/// The files of an open log.
#[derive(Debug)]
pub(crate) struct Files {
    pieces: RwLock<(Pieces, Arc<Vec<Offset>>)>,
    version: AtomicU64,
    manifest: Mutex<Copies>,
}

/// The manifest as it is on the disk.
#[derive(Debug)]
struct Copies {
    manifest: Manifest,
    /// The copy to be written next.
    next: usize,
}

impl Files {
    /// `bases` are the first offsets of the segments as first written; `next` is the copy to be overwritten first.
    pub(crate) fn new(
        pieces: Vec<Piece>,
        bases: Vec<Offset>,
        manifest: Manifest,
        next: usize,
    ) -> Self {
        Self {
            pieces: RwLock::new((Arc::new(pieces), Arc::new(bases))),
            version: AtomicU64::new(1),
            manifest: Mutex::new(Copies { manifest, next }),
        }
    }

    /// Returns the files as they are now.
    pub(crate) fn pieces(&self) -> Pieces {
        let both = self.pieces.read().unwrap_or_else(PoisonError::into_inner);
        both.0.clone()
    }

    /// Returns the first offsets of the segments as first written; the last one is the active one's.
    pub(crate) fn bases(&self) -> Arc<Vec<Offset>> {
        let both = self.pieces.read().unwrap_or_else(PoisonError::into_inner);
        both.1.clone()
    }

    /// Says whether a segment begins with `offset`.
    pub(crate) fn begins(&self, offset: Offset) -> bool {
        self.bases().binary_search(&offset).is_ok()
    }

    /// Returns a number that changes with the files.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Piece>, &mut Vec<Offset>)) {
        let mut both = self.pieces.write().unwrap_or_else(PoisonError::into_inner);
        let (mut pieces, mut bases) = (both.0.as_ref().clone(), both.1.as_ref().clone());
        change(&mut pieces, &mut bases);
        *both = (Arc::new(pieces), Arc::new(bases));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Adds the segment that is active from now on. One that holds nothing and begins there, too, is replaced.
    pub(crate) fn push_active(&self, segment: Arc<Segment>) {
        self.change(|pieces, bases| {
            bases.pop_if(|base| *base == segment.header.base);
            pieces.pop_if(|piece| piece.base() == segment.header.base);
            bases.push(segment.header.base);
            pieces.push(Piece::Raw(segment));
        });
    }

    /// Puts a sealed file, which is on the disk under its name, in the place of the files of its range: enters it in
    /// the manifest, then takes the replaced files away, which stay open for those who have them. The new file counts
    /// once this has returned.
    pub(crate) fn replace(&self, storage: &dyn Storage, file: SealedFile) -> io::Result<()> {
        let range = file.range();
        let inside = |base: Offset| range.contains(&base);
        let entry = file.manifest_entry();
        for piece in self.pieces().iter().filter(|piece| inside(piece.base())) {
            if let Piece::Sealed(file) = piece {
                file.keep_open()?;
            }
        }
        self.write(storage, MANIFESTS.len(), |manifest| {
            manifest.files.retain(|old| !inside(old.base));
            let place = manifest.files.partition_point(|old| old.base < entry.base);
            manifest.files.insert(place, entry);
            manifest.durable_end = manifest.durable_end.max(range.end);
        })?;
        let mut replaced = Vec::new();
        let file = Arc::new(file);
        self.change(|pieces, _| {
            let first = pieces.partition_point(|piece| piece.base() < range.start);
            let last = pieces.partition_point(|piece| piece.base() < range.end);
            let old = pieces.splice(first..last, [Piece::Sealed(file)]);
            replaced.extend(old.filter_map(|piece| match piece {
                Piece::Raw(segment) => Some(segment.name.clone()),
                Piece::Sealed(file) => Some(file.name.clone()),
                Piece::Damaged(..) => None,
            }));
        });
        for name in &replaced {
            storage.remove(name)?;
        }
        storage.sync_names()
    }

    /// Adds a file to the list that readers go by; the manifest is written by [`Self::put_manifest`]. For repair.
    pub(crate) fn adopt(&self, file: SealedFile) {
        self.change(|pieces, bases| {
            bases.push(file.header.base);
            pieces.push(Piece::Sealed(Arc::new(file)));
        });
    }

    /// Writes both copies of a manifest that was put together anew. For repair.
    pub(crate) fn put_manifest(&self, storage: &dyn Storage, manifest: Manifest) -> io::Result<()> {
        self.write(storage, MANIFESTS.len(), |old| {
            let sequence = old.sequence.max(manifest.sequence);
            *old = Manifest {
                sequence,
                ..manifest
            };
        })
    }

    /// Notes in one copy of the manifest that everything below `end` is on the disk, unless it says so already.
    pub(crate) fn note_durable(&self, storage: &dyn Storage, end: Offset) -> io::Result<()> {
        let known = self
            .manifest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .manifest
            .durable_end;
        if known >= end {
            return Ok(());
        }
        self.write(storage, 1, |manifest| manifest.durable_end = end)
    }

    /// Writes the manifest as it is, both copies: after opening found one of them missing or unreadable.
    pub(crate) fn refresh(&self, storage: &dyn Storage) -> io::Result<()> {
        self.write(storage, MANIFESTS.len(), |_| ())
    }

    /// Changes the manifest, and writes and syncs so many copies of it. When this fails nothing counts as changed, and
    /// the next write has a higher sequence than what may have reached the disk.
    fn write(
        &self,
        storage: &dyn Storage,
        copies: usize,
        change: impl FnOnce(&mut Manifest),
    ) -> io::Result<()> {
        let mut state = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut manifest = state.manifest.clone();
        change(&mut manifest);
        for _ in 0..copies {
            state.manifest.sequence += 1;
            manifest.sequence = state.manifest.sequence;
            let name = MANIFESTS[state.next];
            write_copy(storage, name, &manifest.encode())?;
            state.next = (state.next + 1) % MANIFESTS.len();
        }
        state.manifest = manifest;
        Ok(())
    }
}

/// Overwrites a copy in place: the other one holds while this one is torn.
fn write_copy(storage: &dyn Storage, name: &str, bytes: &[u8]) -> io::Result<()> {
    let (file, new) = match storage.open(name) {
        Ok(file) => (file, false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (storage.create(name)?, true),
        Err(error) => return Err(error),
    };
    file.write_at(bytes, 0)?;
    file.set_size(bytes.len() as u64)?;
    file.sync()?;
    if new {
        storage.sync_names()?;
    }
    Ok(())
}

/// Says whether a name is one the log uses for files that opening may take away: what was being written when a process
/// ended, and sealed files that the manifest does not name.
pub(crate) fn is_leftover(name: &str, named: &Manifest) -> bool {
    match file_name::sealed_of(name) {
        Some(sealed) => !named.files.iter().any(|entry| {
            (entry.base, entry.end, entry.generation)
                == (sealed.base, sealed.end, sealed.generation)
        }),
        None => file_name::base_of(name).is_some_and(|base| {
            named
                .files
                .iter()
                .any(|entry| (entry.base..entry.end).contains(&base))
        }),
    }
}

/// Returns the first offsets of the segments that a sealed file holds.
pub(crate) fn bases_of(file: &SealedFile) -> Result<Vec<Offset>, crate::error::ReadError> {
    if file.trailer.count(Part::Seals) == 1 {
        return Ok(vec![file.header.base]);
    }
    Ok(file.seals()?.iter().map(|seal| seal.first).collect())
}
