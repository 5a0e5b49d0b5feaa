//! A shard: the search index of one log segment, or of several neighbours.
//!
//! What must stay true: documents are in log order, also after merges; every commit carries the offset it reaches; a
//! shard that says it is sealed was synced before it said so.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use eye_log::Offset;
use serde::{Deserialize, Serialize};
use tantivy::index::SegmentId;
use tantivy::indexer::{IndexWriterOptions, NoMergePolicy, UserOperation, merge_filtered_segments};
use tantivy::store::{Compressor, ZstdCompressor};
use tantivy::{Index, IndexSettings, IndexWriter};

use super::directory::{PageCacheDirectory, Stop};
use super::document::EventDocument;
use super::part::Part;
use super::schema::{Fields, WORDS_TOKENIZER, WordsTokenizer};
use crate::checkpoint::{INDEX_FORMAT, sync_files, write_synced};
use crate::error::IndexError;
use eye_log::priority::lower_threads;

/// What tantivy may hold in memory before it writes a search segment.
const WRITER_BYTES: usize = 96 << 20;
/// The least that tantivy takes, where nothing is added.
const SEALING_BYTES: usize = 15_000_000;
/// So many search segments of about one size are merged into one. Under a steady load a commit holds some thousand
/// documents, and every level of merging is as much work again as indexing has left.
const MERGE_FACTOR: usize = 16;
/// What tantivy calls the threads that merge, and how far they stand back.
const MERGE_THREADS: &str = "merge_thread_";
const MERGE_NICE: i32 = 15;
const SEALED_FILE: &str = "sealed.json";

/// What a shard says of itself in every commit.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Payload {
    format: u32,
    end: Offset,
}

/// What readers see of a shard.
#[derive(Debug, Clone)]
pub(crate) struct Shard {
    pub(crate) base: Offset,
    /// How often it was made anew, to be rid of something or with neighbours.
    pub(crate) generation: u32,
    folder: PathBuf,
    index: Arc<Mutex<Index>>,
    view: Arc<RwLock<Arc<View>>>,
    /// Whether it has a writer.
    taken: Arc<AtomicBool>,
}

/// A shard as of a commit.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// One past the last offset that can be found.
    pub(crate) end: Offset,
    /// The search segments, in log order.
    pub(crate) parts: Vec<Arc<Part>>,
}

impl Shard {
    /// Opens or begins a generation of the shard of the segment at `base`, within `shards`. `trusted` says whether what
    /// was not synced can be used. What cannot be used is removed and begun anew.
    pub(crate) fn open(
        shards: &Path,
        (base, generation): (Offset, u32),
        fields: &Arc<Fields>,
        trusted: bool,
    ) -> Result<Self, IndexError> {
        let folder = Self::folder_of(shards, base, generation);
        if folder.is_dir() {
            if trusted || folder.join(SEALED_FILE).is_file() {
                match Self::open_existing(&folder, (base, generation), fields) {
                    Ok(shard) => return Ok(shard),
                    // What the system refuses now may be sound, and is tried again.
                    Err(error @ IndexError::Io { .. }) => return Err(error),
                    Err(error) => {
                        tracing::warn!(base, %error, "a search shard cannot be opened; it is built again")
                    }
                }
            }
            std::fs::remove_dir_all(&folder).map_err(IndexError::io("removing", &folder))?;
        }
        std::fs::create_dir_all(&folder).map_err(IndexError::io("making", &folder))?;
        let directory = PageCacheDirectory::open(&folder)
            .map_err(|error| IndexError::Shard(error.to_string()))?;
        let index = Index::create(directory, fields.schema.clone(), settings())?;
        Ok(Self::of(folder, (base, generation), index))
    }

    /// Returns where a generation of the shard of the segment at `base` lies.
    pub(crate) fn folder_of(shards: &Path, base: Offset, generation: u32) -> PathBuf {
        shards.join(match generation {
            0 => format!("{base:020}"),
            generation => format!("{base:020}-{generation}"),
        })
    }

    /// Reads the name of a shard's folder: base and generation.
    pub(crate) fn of_name(name: &str) -> Option<(Offset, u32)> {
        let (base, generation) = name.split_once('-').unwrap_or((name, "0"));
        Some((base.parse().ok()?, generation.parse().ok()?))
    }

    /// Says whether the shard in `folder` was synced and is complete.
    pub(crate) fn is_sealed_in(folder: &Path) -> bool {
        folder.join(SEALED_FILE).is_file()
    }

    fn open_existing(
        folder: &Path,
        place: (Offset, u32),
        fields: &Arc<Fields>,
    ) -> Result<Self, IndexError> {
        let index = open_index(folder)?;
        if index.schema() != fields.schema {
            return Err(IndexError::Shard("its fields are other ones".to_owned()));
        }
        let shard = Self::of(folder.to_owned(), place, index);
        shard.refresh()?;
        Ok(shard)
    }

    fn of(folder: PathBuf, (base, generation): (Offset, u32), index: Index) -> Self {
        let index = with_tokenizer(index);
        let view = View {
            end: base,
            parts: Vec::new(),
        };
        Self {
            base,
            generation,
            folder,
            index: Arc::new(Mutex::new(index)),
            view: Arc::new(RwLock::new(Arc::new(view))),
            taken: Arc::default(),
        }
    }

    /// Returns what can be found now.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Merges sealed neighbours, which hold an event at least, into the generation of the first one that comes next, until `stop`. What it
    /// returns is sealed; where it fails, some of it may be left, which nobody takes for anything.
    pub(crate) fn merged(shards: &Path, run: &[Self], stop: Stop) -> Result<Self, IndexError> {
        let (first, last) = (&run[0], &run[run.len() - 1]);
        let (base, generation) = (first.base, first.generation.wrapping_add(1));
        let folder = Self::folder_of(shards, base, generation);
        if folder.is_dir() {
            std::fs::remove_dir_all(&folder).map_err(IndexError::io("removing", &folder))?;
        }
        std::fs::create_dir_all(&folder).map_err(IndexError::io("making", &folder))?;
        let directory = PageCacheDirectory::open(&folder)
            .map_err(|error| IndexError::Shard(error.to_string()))?;
        let mut segments = Vec::new();
        for shard in run {
            let there = shard.index().searchable_segments()?;
            let of_part = |part: &Arc<Part>| {
                let segment = there.iter().find(|segment| segment.id() == part.id());
                segment.cloned()
            };
            segments.extend(shard.view().parts.iter().filter_map(of_part));
        }
        let unfiltered = vec![None; segments.len()];
        merge_filtered_segments(
            &segments,
            settings(),
            unfiltered,
            directory.stopped_by(stop),
        )?;
        let index = open_index(&folder)?;
        let shard = Self::of(folder, (base, generation), index);
        let mut writer = shard.tantivy_writer(SEALING_BYTES)?;
        commit_through(&mut writer, last.view().end)?;
        writer.wait_merging_threads()?;
        shard.refresh()?;
        if shard.events() != run.iter().map(Self::events).sum::<u64>() {
            return Err(IndexError::Shard(
                "merging shards did not keep every event".to_owned(),
            ));
        }
        shard.mark_sealed()?;
        Ok(shard)
    }

    /// Returns how many events can be found in it.
    pub(crate) fn events(&self) -> u64 {
        let view = self.view();
        view.parts.iter().map(|part| u64::from(part.docs())).sum()
    }

    /// Returns how many columns it has, search segment by search segment.
    pub(crate) fn columns(&self) -> usize {
        let view = self.view();
        view.parts
            .iter()
            .map(|part| part.columns().num_columns())
            .sum()
    }

    /// Syncs the files, and says that they are complete.
    fn mark_sealed(&self) -> Result<(), IndexError> {
        sync_files(&self.folder)?;
        write_synced(&self.folder, SEALED_FILE, b"{}")
    }

    /// Says whether the shard was synced and is complete.
    pub(crate) fn is_sealed(&self) -> bool {
        Self::is_sealed_in(&self.folder)
    }

    /// Removes the shard's files. Whoever reads them goes on.
    pub(crate) fn remove(&self) -> Result<(), IndexError> {
        std::fs::remove_dir_all(&self.folder).map_err(IndexError::io("removing", &self.folder))
    }

    /// Takes the right to write; `None` while somebody else has it.
    pub(crate) fn take(&self) -> Option<Taken> {
        Taken::of(&self.taken)
    }

    fn index(&self) -> Index {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.clone()
    }

    /// Opens the files anew: tantivy remembers the name of every file that it ever opened, of those that merging removed too.
    fn open_anew(&self) -> Result<(), IndexError> {
        let index = with_tokenizer(open_index(&self.folder)?);
        *self.index.lock().unwrap_or_else(PoisonError::into_inner) = index;
        self.take_in(&View::default()).map(drop)
    }

    /// Takes in the last commit: search segments that are known stay open.
    fn refresh(&self) -> Result<Arc<View>, IndexError> {
        self.take_in(&self.view())
    }

    fn take_in(&self, known: &View) -> Result<Arc<View>, IndexError> {
        let index = self.index();
        let metas = index.load_metas()?;
        let payload = metas
            .payload
            .as_deref()
            .and_then(|payload| serde_json::from_str::<Payload>(payload).ok());
        let end = match payload {
            Some(Payload {
                format: INDEX_FORMAT,
                end,
            }) => end,
            // A shard without a commit of ours holds nothing.
            None if metas.segments.is_empty() => self.base,
            _ => {
                return Err(IndexError::Shard(
                    "its last commit does not say how far it reaches".to_owned(),
                ));
            }
        };
        let mut parts = Vec::with_capacity(metas.segments.len());
        for meta in metas.segments {
            let id = meta.id();
            match known.parts.iter().find(|part| part.id() == id) {
                Some(part) => parts.push(part.clone()),
                None => parts.push(Arc::new(Part::open(&index.segment(meta))?)),
            }
        }
        parts.retain(|part| part.docs() > 0);
        parts.sort_by_key(|part| part.first_offset());
        let view = Arc::new(View { end, parts });
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view.clone();
        Ok(view)
    }

    /// Starts writing behind what the shard holds; `None` while it has another writer.
    pub(crate) fn writer(&self) -> Result<Option<ShardWriter>, IndexError> {
        let Some(taken) = self.take() else {
            return Ok(None);
        };
        let writer = self.tantivy_writer(WRITER_BYTES)?;
        let end = self.view().end;
        Ok(Some(ShardWriter {
            shard: self.clone(),
            writer,
            end,
            uncommitted: 0,
            merging: Vec::new(),
            _taken: taken,
        }))
    }

    /// One thread that indexes, so that documents stay in log order, and one that merges, so that indexing has a core
    /// left.
    fn tantivy_writer(&self, bytes: usize) -> Result<IndexWriter<EventDocument>, IndexError> {
        let options = IndexWriterOptions::builder()
            .num_worker_threads(1)
            .num_merge_threads(1)
            .memory_budget_per_thread(bytes)
            .build();
        let writer = self.index().writer_with_options(options)?;
        writer.set_merge_policy(Box::new(NoMergePolicy));
        Ok(writer)
    }

    /// Returns what says whether the shard has a writer.
    pub(crate) fn taken(&self) -> Arc<AtomicBool> {
        self.taken.clone()
    }

    /// Returns the shard as the same one as another that was opened before.
    pub(crate) fn with_taken(self, taken: Arc<AtomicBool>) -> Self {
        Self { taken, ..self }
    }
}

/// Commits what a writer was given, which reaches up to `end`.
fn commit_through(writer: &mut IndexWriter<EventDocument>, end: Offset) -> Result<(), IndexError> {
    let payload = Payload {
        format: INDEX_FORMAT,
        end,
    };
    let payload = serde_json::to_string(&payload).expect("a flat struct always encodes");
    let mut commit = writer.prepare_commit()?;
    commit.set_payload(&payload);
    commit.commit()?;
    Ok(())
}

fn settings() -> IndexSettings {
    IndexSettings {
        docstore_compress_dedicated_thread: false,
        // Documents are stored empty, which leaves next to nothing once compressed.
        docstore_compression: Compressor::Zstd(ZstdCompressor::default()),
        ..IndexSettings::default()
    }
}

fn open_index(folder: &Path) -> Result<Index, IndexError> {
    let directory =
        PageCacheDirectory::open(folder).map_err(|error| IndexError::Shard(error.to_string()))?;
    Ok(Index::open(directory)?)
}

fn with_tokenizer(index: Index) -> Index {
    index
        .tokenizers()
        .register(WORDS_TOKENIZER, WordsTokenizer::default());
    index
}

/// The right to write a shard.
#[derive(Debug)]
pub(crate) struct Taken(Arc<AtomicBool>);

impl Taken {
    fn of(taken: &Arc<AtomicBool>) -> Option<Self> {
        (!taken.swap(true, Ordering::AcqRel)).then(|| Self(taken.clone()))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The only writer of a shard.
pub(crate) struct ShardWriter {
    shard: Shard,
    writer: IndexWriter<EventDocument>,
    end: Offset,
    uncommitted: usize,
    merging: Vec<SegmentId>,
    /// Given back after the writer has ended, whose fields are dropped in order.
    _taken: Taken,
}

impl ShardWriter {
    /// Returns the shard.
    pub(crate) fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Returns one past the last offset added.
    pub(crate) fn end(&self) -> Offset {
        self.end
    }

    /// Returns how many documents wait for a commit.
    pub(crate) fn uncommitted(&self) -> usize {
        self.uncommitted
    }

    /// Adds documents, which reach up to `end`.
    pub(crate) fn add(
        &mut self,
        documents: Vec<EventDocument>,
        end: Offset,
    ) -> Result<(), IndexError> {
        self.uncommitted += documents.len();
        self.end = end;
        if !documents.is_empty() {
            self.writer.run(
                documents
                    .into_iter()
                    .map(UserOperation::Add)
                    .collect::<Vec<_>>(),
            )?;
        }
        Ok(())
    }

    /// Makes what was added findable. Nothing is synced.
    pub(crate) fn commit(&mut self) -> Result<(), IndexError> {
        commit_through(&mut self.writer, self.end)?;
        self.uncommitted = 0;
        let view = self.shard.refresh()?;
        self.merge_small(&view);
        Ok(())
    }

    /// Starts merging the newest search segments when many of about one size have gathered. Neighbours only, so that
    /// documents stay in log order.
    fn merge_small(&mut self, view: &View) {
        self.merging
            .retain(|id| view.parts.iter().any(|part| part.id() == *id));
        let free = view
            .parts
            .iter()
            .rev()
            .take_while(|part| !self.merging.contains(&part.id()));
        let sizes: Vec<(SegmentId, u32)> = free.map(|part| (part.id(), part.docs())).collect();
        let Some(run) = run_to_merge(&sizes.iter().map(|(_, docs)| *docs).collect::<Vec<_>>())
        else {
            return;
        };
        let mut ids: Vec<SegmentId> = sizes[..run].iter().map(|(id, _)| *id).collect();
        ids.reverse();
        self.merging.extend(&ids);
        // Merging can wait; what is being indexed has somebody waiting for it.
        lower_threads(MERGE_THREADS, MERGE_NICE);
        // Its outcome shows in the next commit; a failed merge leaves the segments as they are.
        drop(self.writer.merge(&ids));
    }

    /// Commits and ends the writer, its threads and its memory; nobody else may write yet.
    pub(crate) fn rest(mut self) -> Result<Resting, IndexError> {
        if self.uncommitted > 0 || self.shard.view().end != self.end {
            self.commit()?;
        }
        // Merges that are under way end first.
        self.writer.wait_merging_threads()?;
        self.shard.refresh()?;
        Ok(Resting {
            shard: self.shard,
            _taken: self._taken,
        })
    }

    /// Does as [`Self::rest`] and [`Resting::seal`].
    pub(crate) fn seal(self) -> Result<Shard, IndexError> {
        self.rest()?.seal()
    }

    /// Does as [`Self::rest`] and [`Resting::sync`].
    pub(crate) fn close(self) -> Result<(), IndexError> {
        self.rest()?.sync()
    }
}

/// A shard that is committed and that nobody else may write.
pub(crate) struct Resting {
    shard: Shard,
    _taken: Taken,
}

impl Resting {
    /// Returns the shard.
    pub(crate) fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Merges everything into one search segment, syncs it, and marks the shard as sealed. Takes its time; the shard
    /// can be read meanwhile.
    pub(crate) fn seal(self) -> Result<Shard, IndexError> {
        let shard = self.shard;
        let view = shard.view();
        let mut writer = shard.tantivy_writer(SEALING_BYTES)?;
        if view.parts.len() > 1 {
            let ids: Vec<SegmentId> = view.parts.iter().map(|part| part.id()).collect();
            writer.merge(&ids).wait()?;
        }
        shard.refresh()?;
        writer.garbage_collect_files().wait()?;
        writer.wait_merging_threads()?;
        shard.mark_sealed()?;
        shard.open_anew()?;
        Ok(shard)
    }

    /// Syncs the shard's files, so that they can be trusted after any stop.
    pub(crate) fn sync(&self) -> Result<(), IndexError> {
        sync_files(&self.shard.folder)
    }
}

/// Given sizes from the newest segment backwards, returns how many of them to merge: the longest run of at least
/// [`MERGE_FACTOR`] none of which is much larger than all before it together.
fn run_to_merge(sizes: &[u32]) -> Option<usize> {
    let mut together = 0u64;
    let mut run = 0;
    for (count, size) in sizes.iter().enumerate() {
        if count >= MERGE_FACTOR && u64::from(*size) > together {
            break;
        }
        together += u64::from(*size);
        run = count + 1;
    }
    // A large old segment is not rewritten for a few small new ones.
    let largest = sizes[..run].iter().copied().max().unwrap_or(0);
    (run >= MERGE_FACTOR && u64::from(largest) * 2 <= together).then_some(run)
}
