//! Opens a log: locks the folder, recovers it, starts the writer, hands out readers.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use uuid::Uuid;

use crate::admission::{Admission, Batch, Receipt};
use crate::appender::{Appender, SPARE, begin_segment};
use crate::config::LogConfig;
use crate::disk_floor::DiskFloor;
use crate::erasures::{Erasure, Erasures};
use crate::error::{AppendError, ChangeError, Damage, OpenError, QueueFull, ReadError};
use crate::figures::Groups;
use crate::files::{Files, MANIFESTS};
use crate::format::FORMAT_VERSION;
use crate::format::seal::Seal;
use crate::keeper::Chore;
use crate::ledger::{Book, Tally};
use crate::maintenance::Maintenance;
use crate::offset::{DurableEnd, Offset};
use crate::pieces::Piece;
use crate::queue::{Next, Queue, Refused, Request};
use crate::ranges::OffsetRanges;
use crate::reader::Reader;
use crate::record::Note;
use crate::recovery::{self, Mode, OpenReport, Recovered};
use crate::registry::{Actor, Change, Changed, Registry};
use crate::sealed::SealedShared;
use crate::segment::Closed;
use crate::storage::{Disk, PRIVATE_FILE, Storage, StorageFile, make_private_folder};
use crate::syncer;
use crate::writer::{Writer, start_keeper};

/// The file whose lock says that a process has the folder.
const LOCK_FILE: &str = "lock";

/// An open log. Clones are the same log.
#[derive(Clone, Debug)]
pub struct Log {
    inner: Arc<Inner>,
}

/// What the writer, the sealer and the readers share.
pub(crate) struct Shared {
    pub(crate) store: Uuid,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) durable: DurableEnd,
    pub(crate) files: Files,
    pub(crate) sealed: Arc<SealedShared>,
    /// Held by whoever seals, merges, expires or erases: one at a time.
    pub(crate) maintenance: Maintenance,
    erasures: RwLock<(Erasures, Arc<OffsetRanges>)>,
    pub(crate) floor: DiskFloor,
    pub(crate) groups: Groups,
    /// What came to nothing and is in no record yet.
    pub(crate) tally: Tally,
    /// What was counted for the ledger.
    pub(crate) book: Mutex<Book>,
    registry: RwLock<Arc<Registry>>,
    health: Mutex<LogHealth>,
    spare: Mutex<Spare>,
}

/// The file of the next segment. Its name is in one pair of hands at a time: while the keeper fills it the writer does
/// not take it, and until the writer has given it its name the keeper makes no new one of the old name.
#[derive(Default)]
enum Spare {
    /// There is none.
    #[default]
    None,
    /// The keeper is filling it.
    Filling,
    /// It is full of zeros, so many bytes, and synced.
    Ready(Arc<dyn StorageFile>, u64),
    /// The writer is making a segment of it.
    Taken,
}

/// What recovery found that only the writer owns.
pub(crate) struct WriterParts {
    admission: Admission,
    registry: Registry,
    last_received_at: i64,
}

/// How the log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogHealth {
    /// Appends are stored.
    Ok,
    /// A write or sync failed; nothing is stored until a restart.
    Poisoned(String),
    /// The disk has less room than the reserve, or there was none at the last append. Appends are stored again as soon
    /// as there is more.
    DiskFull,
}

struct Inner {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    config: LogConfig,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held as long as the log is open.
    _lock: Option<File>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("store", &self.store)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log in `folder`, which is made if it is missing, and locks it against other processes.
    pub fn open(folder: &Path, config: LogConfig) -> Result<(Self, OpenReport), OpenError> {
        let io = |doing| {
            move |source| OpenError::Io {
                doing,
                path: folder.to_owned(),
                source,
            }
        };
        make_private_folder(folder).map_err(io("making"))?;
        if let Some(parent) = folder
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            // The folder's own name must survive a power cut as its files do.
            File::open(parent)
                .and_then(|parent| parent.sync_all())
                .map_err(io("syncing the folder of"))?;
        }
        let lock = lock(folder)?;
        Self::open_storage(Arc::new(Disk::new(folder)), folder, config, Some(lock))
    }

    /// Opens the log in a storage of one's own, for tests that break disks. Takes no lock.
    pub fn open_in(
        storage: Arc<dyn Storage>,
        config: LogConfig,
    ) -> Result<(Self, OpenReport), OpenError> {
        Self::open_storage(storage, Path::new(""), config, None)
    }

    pub(crate) fn open_storage(
        storage: Arc<dyn Storage>,
        folder: &Path,
        config: LogConfig,
        lock: Option<File>,
    ) -> Result<(Self, OpenReport), OpenError> {
        config.check().map_err(OpenError::Setting)?;
        let io = |doing| {
            move |source| OpenError::Io {
                doing,
                path: folder.to_owned(),
                source,
            }
        };
        let window = i64::try_from(config.idempotency_window.as_micros()).unwrap_or(i64::MAX);
        let sealed = Arc::new(SealedShared::of_owner(storage.clone()));
        settle(storage.as_ref()).map_err(io("syncing what the last process left in"))?;
        let mut found = recovery::recover(storage.as_ref(), &sealed, window, Mode::Write)
            .map_err(|failed| failed.within(folder))?;
        let tail = found.tail.take();
        let mut report = std::mem::take(&mut found.report);
        let mend = found.mend_manifest;
        let (shared, mut parts) = Shared::new(storage, sealed, found, &report, config.disk_reserve);
        let shared = Arc::new(shared);
        if let Some(tail) = &tail {
            // After a crash of the process the tail may be in the page cache alone. Nothing of it is shown, or
            // counted as stored, before the disk has it.
            tail.segment
                .file
                .sync()
                .map_err(io("syncing the last segment of"))?;
        }
        let tail = match tail {
            Some(tail) if tail.segment.header.version == FORMAT_VERSION => tail,
            // One of an older format is not written on: a program that knows only that must not take what it cannot read for
            // a torn write.
            before => {
                let tail = begin_segment(&shared, report.end, Next::Small)
                    .map_err(io("beginning a segment in"))?;
                if let Some(before) = before {
                    let entries = parts.admission.close_segment(before.summary.end);
                    let summary = before.summary;
                    before.segment.close(Closed { summary, entries });
                }
                shared.files.push_active(tail.segment.clone());
                report.segments = shared.files.pieces().len();
                tail
            }
        };
        if mend {
            shared
                .files
                .refresh(shared.storage.as_ref())
                .map_err(io("writing the manifest of"))?;
        }
        let mut appender = Appender::new(shared.clone(), config.segment_max_bytes, tail);
        appender.not_before(parts.last_received_at);
        let (chores, keeper) = start_keeper(shared.clone(), config.segment_max_bytes)
            .map_err(io("starting a thread for"))?;
        for piece in shared.files.pieces().iter() {
            if let Piece::Raw(segment) = piece
                && segment.closed().is_some()
            {
                let _ = chores.send(Chore::Seal(segment.clone()));
            }
        }
        let queue = Queue::new(&config);
        let (jobs, syncer) =
            syncer::start(shared.clone(), queue.clone()).map_err(io("starting a thread for"))?;
        let writer = Writer {
            shared: shared.clone(),
            config: config.clone(),
            appender,
            admission: parts.admission,
            registry: parts.registry,
            chores,
            queue: queue.clone(),
            syncer: jobs,
            answers: Vec::new(),
            registry_changed: false,
            spare_asked_for: false,
        };
        let writer = writer.start().map_err(io("starting a thread for"))?;
        let threads = Mutex::new(vec![writer, syncer, keeper]);
        Ok((
            Self {
                inner: Arc::new(Inner {
                    shared,
                    queue,
                    config,
                    threads,
                    _lock: lock,
                }),
            },
            report,
        ))
    }

    /// Returns the id drawn when the store was new.
    pub fn store_id(&self) -> Uuid {
        self.inner.shared.store
    }

    /// Returns a reader.
    pub fn reader(&self) -> Reader {
        Reader {
            shared: self.inner.shared.clone(),
        }
    }

    /// Returns the applications and tokens as of the last synced change.
    pub fn registry(&self) -> Arc<Registry> {
        self.inner.shared.registry()
    }

    /// Returns how the log is. May ask the file system for its free room, every 500 ms at most.
    pub fn health(&self) -> LogHealth {
        let shared = &self.inner.shared;
        let noted = shared
            .health
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if noted == LogHealth::Ok && shared.floor.is_reached(shared.storage.as_ref()) {
            return LogHealth::DiskFull;
        }
        noted
    }

    /// Queues a batch. `reply` runs on a thread of the log once what was accepted is on the disk, or with the reason
    /// why nothing is. Never blocks.
    pub fn append(
        &self,
        batch: Batch,
        reply: impl FnOnce(Result<Receipt, AppendError>) + Send + 'static,
    ) -> Result<(), QueueFull> {
        let bytes = batch.bytes();
        self.push(Request::Append(batch, Box::new(reply)), bytes)
    }

    /// Queues a change to applications or tokens. `reply` runs as for [`Self::append`].
    pub fn change(
        &self,
        change: Change,
        by: Actor,
        reply: impl FnOnce(Result<Changed, ChangeError>) + Send + 'static,
    ) -> Result<(), QueueFull> {
        self.push(Request::Change(change, by, Box::new(reply)), 0)
    }

    /// Appends a record about the log itself, and waits until it is on the disk. Returns its offset.
    pub(crate) fn note(&self, note: Note) -> Result<Offset, AppendError> {
        self.wait_for(|reply| Request::Note(note, reply))
    }

    /// Closes the active segment, if it holds anything, so that it is sealed soon.
    pub fn roll(&self) -> Result<(), AppendError> {
        self.wait_for(|reply| Request::Roll(Next::Spare, reply))
    }

    /// Does what [`Self::roll`] does, and leaves next to nothing on the disk that was only prepared.
    pub(crate) fn roll_small(&self) -> Result<(), AppendError> {
        self.wait_for(|reply| Request::Roll(Next::Small, reply))
    }

    /// Queues a request and waits for its answer; a queue that is full is waited for, too.
    fn wait_for<T: Send + 'static>(
        &self,
        request: impl FnOnce(Box<dyn FnOnce(Result<T, AppendError>) + Send>) -> Request,
    ) -> Result<T, AppendError> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let request = request(Box::new(move |answer| {
            // Whoever asked waits for it below.
            let _ = sender.send(answer);
        }));
        self.inner.queue.push_unbounded(request);
        receiver.recv().unwrap_or(Err(AppendError::Closed))
    }

    /// Returns what is known to be damaged, found when the log was opened or since.
    pub fn damage(&self) -> Vec<Damage> {
        self.inner.shared.sealed.damage()
    }

    /// Returns every erasure that was asked for, oldest first.
    pub fn erasures(&self) -> Vec<Erasure> {
        self.inner.shared.with_erasures(Erasures::all)
    }

    /// Returns how many requests wait for the writer, and the bytes of their records.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        self.inner.queue.waiting()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    fn push(&self, request: Request, bytes: usize) -> Result<(), QueueFull> {
        let Err(refused) = self.inner.queue.push(request, bytes, &self.inner.config) else {
            return Ok(());
        };
        match *refused {
            (_, Refused::Full(full)) => return Err(full),
            (Request::Append(_, reply), Refused::Closed) => reply(Err(AppendError::Closed)),
            (Request::Change(_, _, reply), Refused::Closed) => {
                reply(Err(AppendError::Closed.into()))
            }
            (Request::Note(_, reply), Refused::Closed) => reply(Err(AppendError::Closed)),
            (Request::Roll(_, reply), Refused::Closed) => reply(Err(AppendError::Closed)),
        }
        Ok(())
    }

    /// Stops taking requests, writes and answers what waits, syncs, and ends the threads. Closing twice is harmless.
    pub fn close(&self) {
        if let Err(error) = self.write_tally()
            && !matches!(error, AppendError::Closed)
        {
            tracing::warn!(%error, "how many events came to nothing in the last second could not be noted");
        }
        self.inner.close();
    }
}

/// Puts on the disk what opening is going to believe. A process that was killed may have left names and a copy of the
/// manifest in the page cache alone; whoever relies on them, takes away what they replace, or overwrites the other copy,
/// would lose the log to a power cut.
fn settle(storage: &dyn Storage) -> std::io::Result<()> {
    let names = storage.list()?;
    for name in MANIFESTS {
        if names.iter().any(|other| other == name) {
            storage.open(name)?.sync()?;
            // After a failed sync the cache shows a copy that the disk does not have, and syncing again says that all is
            // well. Opening past the cache drops such pages, so that recovery reads what the disk holds.
            drop(storage.open_direct(name)?);
        }
    }
    storage.sync_names()
}

impl Inner {
    fn close(&self) {
        self.queue.close();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A writer that panicked has answered nobody; their channels close.
            let _ = thread.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// Makes what the threads share of what recovery found; hands back what the writer owns.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        sealed: Arc<SealedShared>,
        found: Recovered,
        report: &OpenReport,
        disk_reserve: u64,
    ) -> (Self, WriterParts) {
        let files = Files::new(
            found.pieces,
            found.bases,
            found.manifest,
            found.next_manifest,
        );
        let hidden = Arc::new(found.erasures.hidden());
        let shared = Self {
            store: found.store,
            storage,
            durable: DurableEnd::new(report.end),
            files,
            sealed,
            maintenance: Maintenance::default(),
            erasures: RwLock::new((found.erasures, hidden)),
            floor: DiskFloor::new(disk_reserve),
            groups: Groups::default(),
            tally: Tally::default(),
            book: Mutex::default(),
            registry: RwLock::new(Arc::new(found.registry.clone())),
            health: Mutex::new(LogHealth::Ok),
            spare: Mutex::default(),
        };
        let parts = WriterParts {
            admission: found.admission,
            registry: found.registry,
            last_received_at: found.last_received_at,
        };
        (shared, parts)
    }

    /// Returns the offsets that are hidden: their erasure was asked for and is not done.
    pub(crate) fn erased(&self) -> Arc<OffsetRanges> {
        let both = self.erasures.read().unwrap_or_else(PoisonError::into_inner);
        both.1.clone()
    }

    pub(crate) fn with_erasures<T>(&self, see: impl FnOnce(&Erasures) -> T) -> T {
        see(&self
            .erasures
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .0)
    }

    /// Does what a record that is on the disk now says about the log.
    pub(crate) fn act_on(&self, note: &Note) {
        if let Note::Erasure(erasure) = note {
            let mut both = self
                .erasures
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            both.0.apply(erasure);
            both.1 = Arc::new(both.0.hidden());
        }
    }

    /// Returns the hash that the next seal names as its predecessor's.
    pub(crate) fn last_seal(&self) -> Result<[u8; 32], ReadError> {
        for piece in self.files.pieces().iter().rev() {
            if let Piece::Sealed(file) = piece
                && let Some(seal) = file.seals()?.last()
            {
                return Ok(seal.hash(self.store));
            }
        }
        Ok(Seal::BEFORE_THE_FIRST)
    }

    /// Returns the applications and tokens as of the last synced change.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        self.registry
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn publish(&self, registry: Registry) {
        *self
            .registry
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(registry);
    }

    /// Notes the first failure; later ones follow from it.
    pub(crate) fn poison(&self, message: &str) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*health, LogHealth::Poisoned(_)) {
            tracing::error!(
                message,
                "the log stops: what the disk holds is not known after a failed write"
            );
            *health = LogHealth::Poisoned(message.to_owned());
        }
    }

    /// Returns the first failure, if there was one.
    pub(crate) fn poisoned(&self) -> Option<String> {
        match &*self.health.lock().unwrap_or_else(PoisonError::into_inner) {
            LogHealth::Poisoned(message) => Some(message.clone()),
            LogHealth::Ok | LogHealth::DiskFull => None,
        }
    }

    /// Notes that there is room again: something was stored.
    pub(crate) fn note_room(&self) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if *health == LogHealth::DiskFull {
            *health = LogHealth::Ok;
        }
    }

    /// Notes that there was no room.
    pub(crate) fn note_disk_full(&self) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if *health == LogHealth::Ok {
            *health = LogHealth::DiskFull;
        }
    }

    /// Says whether the keeper is to make a spare now; it must then call [`Self::put_spare`], whatever comes of it.
    pub(crate) fn begin_spare(&self) -> bool {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = matches!(*spare, Spare::None);
        if wanted {
            *spare = Spare::Filling;
        }
        wanted
    }

    /// Hands over the spare, or says that none could be made.
    pub(crate) fn put_spare(&self, made: Option<(Arc<dyn StorageFile>, u64)>) {
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) =
            made.map_or(Spare::None, |(file, bytes)| Spare::Ready(file, bytes));
    }

    /// Takes the spare if there is one; [`Self::spare_is_renamed`] must follow.
    pub(crate) fn take_spare(&self) -> Option<(Arc<dyn StorageFile>, u64)> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*spare, Spare::Ready(..)) {
            return None;
        }
        match std::mem::replace(&mut *spare, Spare::Taken) {
            Spare::Ready(file, bytes) => Some((file, bytes)),
            Spare::None | Spare::Filling | Spare::Taken => None,
        }
    }

    /// Removes the spare if there is one.
    pub(crate) fn remove_spare(&self) -> std::io::Result<()> {
        if let Some(spare) = self.take_spare() {
            // Closed before it is removed, so that its room is free at once.
            drop(spare);
            let removed = self.storage.remove(SPARE);
            self.spare_is_renamed();
            removed?;
            self.storage.sync_names()?;
        }
        Ok(())
    }

    /// Says that the spare that was taken has another name by now, or none.
    pub(crate) fn spare_is_renamed(&self) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*spare, Spare::Taken) {
            *spare = Spare::None;
        }
    }
}

/// Locks the folder, and writes this process into the lock file for whoever comes second.
pub(crate) fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(LOCK_FILE);
    let io = |doing| {
        let path = path.clone();
        move |source| OpenError::Io {
            doing,
            path,
            source,
        }
    };
    let mut options = File::options();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE_FILE)
        .open(&path)
        .map_err(io("opening"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() {
                "unknown".to_owned()
            } else {
                holder.trim().to_owned()
            };
            return Err(OpenError::Locked {
                folder: folder.to_owned(),
                holder,
            });
        }
        Err(TryLockError::Error(error)) => return Err(io("locking")(error)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .map_err(io("writing"))?;
    writeln!(file, "{}", std::process::id()).map_err(io("writing"))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
