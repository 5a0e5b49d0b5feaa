//! Opens a log: locks the folder, recovers it, starts the writer, hands out readers.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use uuid::Uuid;

use crate::admission::{Batch, Receipt};
use crate::appender::{Appender, begin_segment};
use crate::config::LogConfig;
use crate::disk_floor::DiskFloor;
use crate::error::{AppendError, ChangeError, OpenError, QueueFull};
use crate::offset::DurableEnd;
use crate::reader::Reader;
use crate::recovery::{self, OpenReport};
use crate::registry::{Actor, Change, Changed, Registry};
use crate::segment::Segment;
use crate::storage::{Disk, PRIVATE_FILE, Storage, StorageFile, make_private_folder};
use crate::writer::{Queue, Refused, Request, Writer, start_sealer};

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
    pub(crate) floor: DiskFloor,
    segments: RwLock<Vec<Arc<Segment>>>,
    registry: RwLock<Arc<Registry>>,
    health: Mutex<LogHealth>,
    spare: Mutex<Option<(Arc<dyn StorageFile>, u64)>>,
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
        let mut found =
            recovery::recover(storage.as_ref(), window).map_err(|failed| failed.within(folder))?;
        let store = found
            .segments
            .first()
            .map_or_else(Uuid::new_v4, |segment| segment.header.store);
        let shared = Arc::new(Shared {
            store,
            storage,
            durable: DurableEnd::new(found.report.end),
            floor: DiskFloor::new(config.disk_reserve),
            segments: RwLock::new(found.segments),
            registry: RwLock::new(Arc::new(found.registry.clone())),
            health: Mutex::new(LogHealth::Ok),
            spare: Mutex::default(),
        });
        let tail = match found.tail.take() {
            Some(tail) => {
                // After a crash of the process the tail may be in the page cache alone. Nothing of it is shown, or
                // counted as stored, before the disk has it.
                tail.segment
                    .file
                    .sync()
                    .map_err(io("syncing the last segment of"))?;
                tail
            }
            None => {
                let tail = begin_segment(&shared, found.report.end)
                    .map_err(io("beginning a segment in"))?;
                shared.add_segment(tail.segment.clone());
                found.report.segments += 1;
                tail
            }
        };
        let mut appender = Appender::new(shared.clone(), config.segment_max_bytes, tail);
        appender.not_before(found.last_received_at);
        let (chores, sealer) = start_sealer(shared.clone(), config.segment_max_bytes)
            .map_err(io("starting a thread for"))?;
        let queue = Arc::new(Queue::default());
        let writer = Writer {
            shared: shared.clone(),
            config: config.clone(),
            appender,
            admission: found.admission,
            registry: found.registry,
            chores,
        };
        let writer = writer
            .start(queue.clone())
            .map_err(io("starting a thread for"))?;
        let threads = Mutex::new(vec![writer, sealer]);
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
            found.report,
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
        self.inner
            .shared
            .registry
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
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

    /// Queues a batch. `reply` runs on the writer's thread once what was accepted is on the disk, or with the reason
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
        }
        Ok(())
    }

    /// Stops taking requests, writes and answers what waits, syncs, and ends the threads. Closing twice is harmless.
    pub fn close(&self) {
        self.inner.close();
    }
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
    /// Returns the segments, oldest first.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn add_segment(&self, segment: Arc<Segment>) {
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(segment);
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

    pub(crate) fn put_spare(&self, file: Arc<dyn StorageFile>, filled: u64) {
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some((file, filled));
    }

    pub(crate) fn take_spare(&self) -> Option<(Arc<dyn StorageFile>, u64)> {
        self.spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;

    use super::*;
    use crate::event::{EventDraft, EventRules};
    use crate::registry::{ApplicationId, NewToken, TokenKind};
    use crate::{Exception, Offset, verify};

    fn rules() -> EventRules {
        EventRules {
            now: i64::MAX / 2,
            future_tolerance: 0,
            default_offset_seconds: 0,
            event_max_bytes: 1 << 18,
            depth_max: 64,
        }
    }

    fn push(batch: &mut Batch, session: u128, id: Option<u128>, data: &str) {
        let session = format!("\"{}\"", Uuid::from_u128(session));
        let id = id.map(|id| format!("\"{}\"", Uuid::from_u128(id)));
        let draft = EventDraft {
            session_id: Some(&session),
            category: Some("\"c\""),
            name: Some("\"n\""),
            data: Some(data),
            timestamp: Some("\"2021-01-01 00:00:00\""),
            id: id.as_deref(),
            ..EventDraft::default()
        };
        batch.push(&draft.validate(&rules()).unwrap());
    }

    fn append(log: &Log, batch: Batch) -> Result<Receipt, AppendError> {
        let (sender, receiver) = mpsc::channel();
        log.append(batch, move |receipt| sender.send(receipt).unwrap())
            .unwrap();
        receiver.recv().unwrap()
    }

    fn send(log: &Log, application: u32, session: u128, id: Option<u128>, data: &str) -> Receipt {
        let mut batch = Batch::new(ApplicationId(application));
        push(&mut batch, session, id, data);
        append(log, batch).unwrap()
    }

    fn change(log: &Log, change: Change) -> Result<Changed, ChangeError> {
        let (sender, receiver) = mpsc::channel();
        log.change(change, Actor::default(), move |changed| {
            sender.send(changed).unwrap()
        })
        .unwrap();
        receiver.recv().unwrap()
    }

    fn small() -> LogConfig {
        LogConfig {
            segment_max_bytes: 32 << 10,
            ..LogConfig::default()
        }
    }

    fn data_of(log: &Log, end: Offset) -> Vec<String> {
        let offsets: Vec<_> = (0..end).collect();
        let events = log.reader().read_many(&offsets).unwrap();
        events
            .into_iter()
            .flatten()
            .map(|event| event.data)
            .collect()
    }

    #[test]
    fn what_was_appended_is_there_after_a_restart_across_segments() {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(folder.path(), small()).unwrap();
        let mut expected = Vec::new();
        for number in 0..300u128 {
            let mut batch = Batch::new(ApplicationId(0));
            for part in 0..3u128 {
                let data = format!(
                    "{{\"n\":{number},\"p\":{part},\"x\":\"{}\"}}",
                    "y".repeat(100)
                );
                push(&mut batch, number % 7, None, &data);
                expected.push(data);
            }
            let receipt = append(&log, batch).unwrap();
            assert_eq!(
                receipt.first_offset,
                Some(u64::try_from(number).unwrap() * 3)
            );
        }
        assert_eq!(data_of(&log, 900), expected);
        let store = log.store_id();
        log.close();
        drop(log);
        let report = verify::verify(folder.path(), &mut |_, _| ()).unwrap();
        assert_eq!(
            (report.events, report.end, report.damage.len()),
            (900, 900, 0),
            "{report:?}"
        );
        assert!(report.segments > 3);

        let (log, report) = Log::open(folder.path(), small()).unwrap();
        assert_eq!((report.end, report.cut), (900, None));
        assert_eq!(log.store_id(), store);
        assert_eq!(data_of(&log, 900), expected);
        let mut scanned = Vec::new();
        let mut scan = log.reader().scan(450);
        while scan.read(|offset, _| scanned.push(offset)).unwrap() > 0 {}
        assert_eq!(scanned, (450..900).collect::<Vec<_>>());
        assert_eq!(send(&log, 0, 1, None, "{}").first_offset, Some(900));
    }

    #[test]
    fn a_session_has_one_owner_for_ever_also_after_its_segment_was_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(folder.path(), small()).unwrap();
        assert_eq!(send(&log, 1, 77, Some(5), "{\"a\":1}").stored, 1);
        let conflict = |log: &Log| {
            let receipt = send(log, 2, 77, None, "{}");
            assert_eq!(
                (receipt.stored, receipt.exceptions),
                (0, vec![(0, Exception::SessionConflict)])
            );
        };
        let duplicate = |log: &Log| {
            let receipt = send(log, 1, 77, Some(5), "{ \"a\" : 1 }");
            let duplicate = Exception::Duplicate {
                offset: 0,
                id: Uuid::from_u128(5),
            };
            assert_eq!(receipt.exceptions, vec![(0, duplicate)]);
            let receipt = send(log, 1, 77, Some(5), "{\"a\":2}");
            assert_eq!(
                receipt.exceptions,
                vec![(0, Exception::IdConflict { offset: 0 })]
            );
        };
        conflict(&log);
        duplicate(&log);
        for number in 0..400u128 {
            send(
                &log,
                1,
                1000 + number,
                Some(10_000 + number),
                &format!("{{\"x\":\"{}\"}}", "y".repeat(300)),
            );
        }
        conflict(&log);
        duplicate(&log);
        drop(log);
        let (log, _) = Log::open(folder.path(), small()).unwrap();
        assert!(log.reader().segment_bases().len() > 3);
        conflict(&log);
        duplicate(&log);
        assert_eq!(
            send(&log, 2, 1200, None, "{}").exceptions[0].1,
            Exception::SessionConflict
        );
    }

    #[test]
    fn the_same_id_of_two_applications_is_two_events() {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(folder.path(), small()).unwrap();
        assert_eq!(send(&log, 1, 1, Some(5), "{}").stored, 1);
        assert_eq!(send(&log, 2, 2, Some(5), "{}").stored, 1);
    }

    #[test]
    fn all_or_nothing_stores_nothing_and_owns_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(folder.path(), small()).unwrap();
        send(&log, 1, 1, None, "{}");
        let mut batch = Batch::new(ApplicationId(2));
        push(&mut batch, 9, None, "{}");
        push(&mut batch, 1, None, "{}");
        batch.all_or_nothing();
        let receipt = append(&log, batch).unwrap();
        assert_eq!(
            receipt.exceptions,
            vec![(0, Exception::NotStored), (1, Exception::SessionConflict)]
        );
        assert_eq!(
            send(&log, 3, 9, None, "{}").stored,
            1,
            "session 9 is still free"
        );
    }

    #[test]
    fn two_items_with_one_id_are_one_event() {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(folder.path(), small()).unwrap();
        let mut batch = Batch::new(ApplicationId(2));
        push(&mut batch, 9, Some(1), "{}");
        push(&mut batch, 9, Some(1), "{ }");
        push(&mut batch, 9, Some(2), "{}");
        let receipt = append(&log, batch).unwrap();
        assert_eq!((receipt.stored, receipt.exceptions.len()), (2, 1));
        assert_eq!(data_of(&log, 10).len(), 2);
    }

    #[test]
    fn names_are_unique_and_tokens_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(folder.path(), small()).unwrap();
        let register = || {
            let kind = TokenKind::Application {
                read: true,
                write: true,
            };
            let token = Some(NewToken {
                id: Uuid::from_u128(3),
                kind,
                application: None,
                hash: [7; 32],
            });
            Change::RegisterApplication {
                name: "shop".into(),
                token,
            }
        };
        assert!(
            matches!(change(&log, register()), Ok(Changed::Application(application)) if application.name == "shop")
        );
        assert_eq!(
            change(&log, register()).unwrap_err(),
            ChangeError::NameTaken
        );
        for number in 0..400u128 {
            send(
                &log,
                0,
                number,
                None,
                &format!("{{\"x\":\"{}\"}}", "y".repeat(300)),
            );
        }
        drop(log);
        let (log, _) = Log::open(folder.path(), small()).unwrap();
        let registry = log.registry();
        assert_eq!(
            registry.token_by_hash(&[7; 32]).unwrap().application,
            Some(ApplicationId(0))
        );
        assert!(matches!(
            change(
                &log,
                Change::RevokeToken {
                    id: Uuid::from_u128(3)
                }
            ),
            Ok(Changed::Revoked)
        ));
        assert!(log.registry().token_by_hash(&[7; 32]).is_none());
    }

    #[test]
    fn a_second_process_is_told_who_has_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let (_log, _) = Log::open(folder.path(), small()).unwrap();
        let error = Log::open(folder.path(), small()).unwrap_err();
        assert!(
            error.to_string().contains(&std::process::id().to_string()),
            "{error}"
        );
    }

    /// The last segment file, and where its frames end.
    fn tail_of(folder: &Path) -> (std::path::PathBuf, u64) {
        let stats = verify::stats(folder).unwrap();
        let last = stats.segments.last().unwrap();
        (folder.join(&last.file), last.bytes)
    }

    fn flip(path: &Path, position: u64) {
        use std::os::unix::fs::FileExt as _;
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, position).unwrap();
        file.write_all_at(&[byte[0] ^ 4], position).unwrap();
    }

    #[test]
    fn a_torn_last_frame_is_cut_and_reported_and_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(folder.path(), small()).unwrap();
        for number in 0..5 {
            send(&log, 0, number, None, "{\"a\":1}");
        }
        let shared = log.inner.shared.clone();
        drop(log);
        let (path, end) = tail_of(folder.path());
        // What a crash within an unacknowledged group leaves: the beginning of a frame.
        let mut frame = Vec::new();
        let salt = shared.segments()[0].header.salt;
        let mut header = crate::format::frame::FrameHeader {
            body_bytes: 0,
            count: 0,
            first_offset: 5,
            appended_at: 0,
            durable_end: 5,
            table_checksum: 0,
            previous: 0,
            duplicates: 0,
            rejected: 0,
        };
        crate::format::frame::push(
            &mut frame,
            &mut header,
            [[1u8; 500].as_slice()].into_iter(),
            salt,
        );
        {
            use std::os::unix::fs::FileExt as _;
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(&frame[..300], end).unwrap();
        }
        let (log, report) = Log::open(folder.path(), small()).unwrap();
        let cut = report.cut.unwrap();
        assert_eq!((report.end, cut.position, cut.bytes), (5, end, 300));
        let kept = std::fs::read(folder.path().join(cut.kept_as)).unwrap();
        assert_eq!(kept, &frame[..300]);
        assert_eq!(send(&log, 0, 1, None, "{\"b\":1}").first_offset, Some(5));
        drop(log);
        assert!(
            verify::verify(folder.path(), &mut |_, _| ())
                .unwrap()
                .damage
                .is_empty()
        );
    }

    #[test]
    fn damage_below_the_durable_end_is_named_and_nothing_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(folder.path(), small()).unwrap();
        for number in 0..5 {
            send(&log, 0, number, None, "{\"a\":1}");
        }
        drop(log);
        let (path, _) = tail_of(folder.path());
        let sound = std::fs::read(&path).unwrap();
        // The very last acknowledged record too: a frame behind it says that it was durable.
        let frames: Vec<u64> = (4096..sound.len() as u64 - 4)
            .step_by(8)
            .filter(|at| {
                let at = usize::try_from(*at).unwrap();
                sound[at..at + 4] == *b"EYEF"
            })
            .collect();
        for (record, frame) in frames.iter().take(5).enumerate() {
            flip(&path, frame + 80);
            let before = std::fs::read(&path).unwrap();
            let error = Log::open(folder.path(), small()).unwrap_err();
            let OpenError::Damaged { damage } = error else {
                panic!("{error}")
            };
            assert_eq!(
                (damage.position, damage.first_offset),
                (*frame, record as u64)
            );
            assert_eq!(std::fs::read(&path).unwrap(), before, "nothing was changed");
            let report = verify::verify(folder.path(), &mut |_, _| ()).unwrap();
            assert_eq!(report.damage.len(), 1);
            assert_eq!(report.damage[0].last_offset, Some(4));
            flip(&path, frame + 80);
        }
        Log::open(folder.path(), small()).unwrap();
    }

    #[test]
    fn a_missing_segment_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(folder.path(), small()).unwrap();
        for number in 0..400u128 {
            send(
                &log,
                0,
                number,
                None,
                &format!("{{\"x\":\"{}\"}}", "y".repeat(300)),
            );
        }
        let bases = log.reader().segment_bases();
        drop(log);
        std::fs::remove_file(
            folder
                .path()
                .join(crate::format::file_name::segment(bases[1])),
        )
        .unwrap();
        let OpenError::Damaged { damage } = Log::open(folder.path(), small()).unwrap_err() else {
            panic!()
        };
        assert_eq!(
            (damage.first_offset, damage.last_offset),
            (bases[1], Some(bases[2] - 1))
        );
        assert_eq!(
            verify::verify(folder.path(), &mut |_, _| ())
                .unwrap()
                .damage
                .len(),
            1
        );
    }

    /// A folder whose syncs fail while `broken` is set, and which counts writes.
    #[derive(Debug)]
    struct FailingDisk {
        disk: Disk,
        broken: Arc<std::sync::atomic::AtomicBool>,
    }

    #[derive(Debug)]
    struct FailingFile {
        file: Arc<dyn StorageFile>,
        broken: Arc<std::sync::atomic::AtomicBool>,
    }

    impl Storage for FailingDisk {
        fn list(&self) -> std::io::Result<Vec<String>> {
            self.disk.list()
        }
        fn open(&self, name: &str) -> std::io::Result<Arc<dyn StorageFile>> {
            Ok(Arc::new(FailingFile {
                file: self.disk.open(name)?,
                broken: self.broken.clone(),
            }))
        }
        fn create(&self, name: &str) -> std::io::Result<Arc<dyn StorageFile>> {
            Ok(Arc::new(FailingFile {
                file: self.disk.create(name)?,
                broken: self.broken.clone(),
            }))
        }
        fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
            self.disk.rename(from, to)
        }
        fn remove(&self, name: &str) -> std::io::Result<()> {
            self.disk.remove(name)
        }
        fn sync_names(&self) -> std::io::Result<()> {
            self.disk.sync_names()
        }
        fn free_bytes(&self) -> std::io::Result<u64> {
            self.disk.free_bytes()
        }
    }

    impl StorageFile for FailingFile {
        fn read_at(&self, buffer: &mut [u8], position: u64) -> std::io::Result<()> {
            self.file.read_at(buffer, position)
        }
        fn write_at(&self, bytes: &[u8], position: u64) -> std::io::Result<()> {
            self.file.write_at(bytes, position)
        }
        fn sync(&self) -> std::io::Result<()> {
            if self.broken.load(std::sync::atomic::Ordering::SeqCst) {
                return Err(std::io::Error::other("the disk failed"));
            }
            self.file.sync()
        }
        fn size(&self) -> std::io::Result<u64> {
            self.file.size()
        }
        fn set_size(&self, bytes: u64) -> std::io::Result<()> {
            self.file.set_size(bytes)
        }
    }

    /// Once a sync failed, nobody knows what the disk holds; a second later the idle marker used to write the failed
    /// group again and published it.
    #[test]
    fn after_a_failed_sync_nothing_is_written_or_shown_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let broken = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let disk = FailingDisk {
            disk: Disk::new(folder.path()),
            broken: broken.clone(),
        };
        let (log, _) = Log::open_in(Arc::new(disk), small()).unwrap();
        send(&log, 0, 1, None, "{}");
        broken.store(true, std::sync::atomic::Ordering::SeqCst);
        let mut batch = Batch::new(ApplicationId(0));
        push(&mut batch, 2, None, "{}");
        assert!(matches!(append(&log, batch), Err(AppendError::Poisoned(_))));
        broken.store(false, std::sync::atomic::Ordering::SeqCst);
        let written =
            || std::fs::read(folder.path().join(crate::format::file_name::segment(0))).unwrap();
        let before = written();
        std::thread::sleep(std::time::Duration::from_millis(1500));
        let mut batch = Batch::new(ApplicationId(0));
        push(&mut batch, 3, None, "{}");
        assert!(matches!(append(&log, batch), Err(AppendError::Poisoned(_))));
        assert_eq!(log.reader().durable_end(), 1);
        log.close();
        assert!(written() == before, "nothing was written after the failure");
        assert!(matches!(log.health(), LogHealth::Poisoned(_)));
    }

    /// The format holds 100,000 records a frame; one more used to be acknowledged and could not be read again.
    #[test]
    fn more_records_than_a_frame_holds_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(folder.path(), LogConfig::default()).unwrap();
        let mut batch = Batch::new(ApplicationId(0));
        for _ in 0..=crate::format::FRAME_RECORDS_MAX {
            push(&mut batch, 1, None, "{}");
        }
        assert!(matches!(
            append(&log, batch),
            Err(AppendError::TooLarge { .. })
        ));
        assert_eq!(
            send(&log, 7, 1, None, "{}").stored,
            1,
            "the refused batch owns nothing"
        );
    }

    fn rolled(folder: &Path) -> Vec<Offset> {
        let (log, _) = Log::open(folder, small()).unwrap();
        for number in 0..400u128 {
            send(
                &log,
                1,
                number % 50,
                None,
                &format!("{{\"x\":\"{}\"}}", "y".repeat(300)),
            );
        }
        log.reader().segment_bases()
    }

    #[test]
    fn a_footer_that_does_not_hold_is_written_again_from_the_frames() {
        let folder = tempfile::tempdir().unwrap();
        let bases = rolled(folder.path());
        let path = folder
            .path()
            .join(crate::format::file_name::segment(bases[1]));
        let sound = std::fs::read(&path).unwrap();
        let frames_end = {
            let at = sound.len() - crate::format::footer::TRAILER_BYTES + 24;
            u64::from_le_bytes(sound[at..at + 8].try_into().unwrap())
        };
        flip(&path, frames_end + 3);
        let (log, report) = Log::open(folder.path(), small()).unwrap();
        assert_eq!(report.cut, None);
        assert_eq!(
            send(&log, 2, 7, None, "{}").exceptions[0].1,
            Exception::SessionConflict
        );
        drop(log);
        assert_eq!(std::fs::read(&path).unwrap(), sound);
    }

    #[test]
    fn a_missing_newest_segment_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let bases = rolled(folder.path());
        let last = *bases.last().unwrap();
        std::fs::remove_file(folder.path().join(crate::format::file_name::segment(last))).unwrap();
        let OpenError::Damaged { damage } = Log::open(folder.path(), small()).unwrap_err() else {
            panic!()
        };
        assert_eq!(damage.first_offset, last);
        assert_eq!(
            verify::verify(folder.path(), &mut |_, _| ())
                .unwrap()
                .damage
                .len(),
            1
        );
    }

    #[test]
    fn a_missing_first_segment_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        rolled(folder.path());
        std::fs::remove_file(folder.path().join(crate::format::file_name::segment(0))).unwrap();
        assert!(matches!(
            Log::open(folder.path(), small()).unwrap_err(),
            OpenError::Damaged { .. }
        ));
        assert_eq!(
            verify::verify(folder.path(), &mut |_, _| ())
                .unwrap()
                .damage
                .len(),
            1
        );
    }
}
