//! Stories of a log on a real folder.
#![allow(clippy::unwrap_used)]

mod compacting;
mod damage;
mod failing;
mod forging;
mod open_files;
mod repairing;

use std::sync::mpsc;

use super::*;
use crate::event::{EventDraft, EventRules};
use crate::format::segment_header::SegmentHeader;
use crate::format::{FORMAT_VERSION_BEFORE, file_name};
use crate::registry::{ApplicationId, NewToken, TokenKind, TokenTerms};
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
    let report = verify::verify(folder.path(), None, &mut |_, _| ()).unwrap();
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
    let terms = || TokenTerms {
        expires_at: Some(1_900_000_000_000_000),
        origins: vec!["https://shop.example".to_owned()],
    };
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
            terms: terms(),
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
    let token = registry.token_by_hash(&[7; 32]).unwrap();
    assert_eq!(token.application, Some(ApplicationId(0)));
    assert_eq!(token.terms, terms());
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

/// Large batches are written from where they lie, small ones are copied; of both something is left out. Small ones may
/// go before large ones that wait, so each batch is looked for where its receipt says.
#[test]
fn batches_large_and_small_are_stored_in_order_without_what_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig {
        segment_max_bytes: 8 << 20,
        ..LogConfig::default()
    };
    let (log, _) = Log::open(folder.path(), config.clone()).unwrap();
    send(&log, 1, 7, None, "{}");
    let mut batches = vec![(0, vec!["{}".to_owned()])];
    let (sender, answers) = mpsc::channel();
    for (number, bytes) in [5, 9_000, 1, 9_000, 12_000, 3].into_iter().enumerate() {
        let mut batch = Batch::new(ApplicationId(0));
        let mut stored = Vec::new();
        for item in 0..10 {
            let data = format!(
                "{{\"a\":\"{}\"}}",
                format!("{number}{item}").repeat(bytes / 2)
            );
            // The session of another application, and an id that came up in the batch itself.
            let session = if item == 3 { 7 } else { 100 };
            let id = number as u128 * 10 + item.min(8);
            push(&mut batch, session, Some(1_000 + id), &data);
            if item != 3 && item != 9 {
                stored.push(data);
            }
        }
        let sender = sender.clone();
        log.append(batch, move |answer| {
            sender.send((answer.unwrap(), stored)).unwrap();
        })
        .unwrap();
    }
    for (receipt, stored) in answers.iter().take(6) {
        assert_eq!((receipt.stored, receipt.exceptions.len()), (8, 2));
        batches.push((receipt.first_offset.unwrap(), stored));
    }
    batches.sort_unstable();
    let expected: Vec<String> = batches.into_iter().flat_map(|(_, stored)| stored).collect();
    let end = expected.len() as u64;
    assert!(data_of(&log, end) == expected);
    drop(log);
    let report = crate::verify::verify(folder.path(), None, &mut |_, _| ()).unwrap();
    assert_eq!((report.events, report.damage.len()), (end, 0));
    let (log, report) = Log::open(folder.path(), config).unwrap();
    assert_eq!((report.end, report.cut.is_none()), (end, true));
    assert!(data_of(&log, end) == expected);
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
    let salt = match &shared.files.pieces()[0] {
        Piece::Raw(segment) => segment.header.salt,
        other => panic!("{other:?}"),
    };
    let mut header = crate::format::frame::FrameHeader {
        version: crate::format::frame::FRAME_VERSION,
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
        verify::verify(folder.path(), None, &mut |_, _| ())
            .unwrap()
            .damage
            .is_empty()
    );
}

#[test]
fn a_segment_of_an_older_format_that_holds_nothing_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    log.close();
    drop(log);
    let path = folder.path().join(file_name::segment(0));
    let version = || SegmentHeader::decode(&std::fs::read(&path).unwrap()).unwrap();
    let before = SegmentHeader {
        version: FORMAT_VERSION_BEFORE,
        ..version()
    };
    std::fs::write(&path, before.encode()).unwrap();
    let (log, report) = Log::open(folder.path(), small()).unwrap();
    assert_eq!((report.segments, report.end), (1, 0));
    assert_eq!(version().version, FORMAT_VERSION);
    assert_eq!(version().store, before.store);
    assert_eq!(send(&log, 0, 1, None, "{\"a\":1}").first_offset, Some(0));
    assert_eq!(log.reader().read_many(&[0]).unwrap().len(), 1);
    drop(log);
    let (log, report) = Log::open(folder.path(), small()).unwrap();
    assert_eq!((report.segments, report.end), (1, 1));
    drop(log);
    let verified = verify::verify(folder.path(), None, &mut |_, _| ()).unwrap();
    assert_eq!((verified.damage.len(), verified.events), (0, 1));
}

/// Of a later program's log nothing is damaged, and nothing may be taken for lost: neither in a raw segment nor in a sealed file.
#[test]
fn a_file_of_a_later_format_is_left_alone_by_opening_and_by_repair() {
    let folder = tempfile::tempdir().unwrap();
    let raw = file_name::segment(*rolled(folder.path()).last().unwrap());
    let sealed = &sealed(folder.path())[0].file;
    for name in [&raw, sealed] {
        refused_of_a_later_format(folder.path(), name, false);
    }
    // Nor where the files have to be guessed from their names.
    for manifest in crate::files::MANIFESTS {
        std::fs::write(folder.path().join(manifest), "torn").unwrap();
    }
    refused_of_a_later_format(folder.path(), sealed, true);
}

/// Gives a file the version after this one's, tries what reads it, and puts it back.
fn refused_of_a_later_format(folder: &Path, name: &str, without_manifest: bool) {
    let path = &folder.join(name);
    let whole = std::fs::read(path).unwrap();
    let mut later = whole.clone();
    later[8..12].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
    let sum = crate::format::checksum(0, &later[..4092]);
    later[4092..4096].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(path, &later).unwrap();
    let opened = Log::open(folder, small()).map(|_| ()).unwrap_err();
    let repaired = crate::repair::repair(folder, &mut |_| ()).unwrap_err();
    let verified = verify::verify(folder, None, &mut |_, _| ()).unwrap_err();
    let mut errors = vec![repaired.to_string(), verified.to_string()];
    // Without a manifest opening does not come as far as the files.
    if !without_manifest {
        errors.push(opened.to_string());
    }
    for error in errors {
        assert!(error.contains("a later program wrote"), "{error}");
        assert!(error.contains(name), "{error}");
        assert!(!error.contains("damage"), "{error}");
    }
    assert!(std::fs::read(path).unwrap() == later);
    std::fs::write(path, &whole).unwrap();
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
        let report = verify::verify(folder.path(), None, &mut |_, _| ()).unwrap();
        assert_eq!(report.damage.len(), 1);
        assert_eq!(report.damage[0].last_offset, Some(4));
        flip(&path, frame + 80);
    }
    Log::open(folder.path(), small()).unwrap();
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

/// The sealed files of a log that is closed.
fn sealed(folder: &Path) -> Vec<crate::verify::SegmentStats> {
    let stats = verify::stats(folder).unwrap();
    let sealed = stats.segments.into_iter().filter(|segment| segment.sealed);
    sealed.collect()
}

#[test]
fn closed_segments_are_sealed_and_nothing_else_is_left_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let bases = rolled(folder.path());
    let sealed = sealed(folder.path());
    assert!(bases.len() > 3 && sealed.len() == bases.len() - 1);
    let names = std::fs::read_dir(folder.path()).unwrap();
    let raw = names.filter(|name| {
        let name = name.as_ref().unwrap().file_name();
        name.to_str().unwrap().ends_with(".seg")
    });
    assert_eq!(raw.count(), 1);
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    assert_eq!(log.reader().segment_bases(), bases);
    assert_eq!(data_of(&log, 400).len(), 400);
    let mut scan = log.reader().scan(0);
    let mut seen = 0;
    while scan
        .read(|offset, _| assert_eq!(offset, seen_next(&mut seen)))
        .unwrap()
        > 0
    {}
    assert_eq!(seen, 400);
    let report = verify::verify(folder.path(), None, &mut |_, _| ()).unwrap();
    assert_eq!(report.damage, []);
    assert_eq!(report.seals, bases.len() - 1);
}

fn seen_next(seen: &mut Offset) -> Offset {
    *seen += 1;
    *seen - 1
}

#[test]
fn a_damaged_block_is_an_error_for_its_range_and_the_rest_serves_on() {
    let folder = tempfile::tempdir().unwrap();
    rolled(folder.path());
    let second = &sealed(folder.path())[1];
    flip(&folder.path().join(&second.file), 4096 + 100);
    let (log, report) = Log::open(folder.path(), small()).unwrap();
    assert_eq!(
        report.damage,
        [],
        "blocks are not read when a log is opened"
    );
    let read = |offset| log.reader().read_many(&[offset]);
    assert!(read(second.base - 1).unwrap()[0].is_some());
    assert!(matches!(read(second.base), Err(ReadError::Damaged(_))));
    assert!(read(second.end).unwrap()[0].is_some());
    assert_eq!(log.damage().len(), 1);
    assert_eq!(send(&log, 1, 7, None, "{}").stored, 1);
    drop(log);
    let report = verify::verify(folder.path(), None, &mut |_, _| ()).unwrap();
    assert_eq!(report.damage.len(), 1);
    assert_eq!(report.damage[0].file, second.file);
}

#[test]
fn a_scrub_names_what_no_read_has_met() {
    let folder = tempfile::tempdir().unwrap();
    rolled(folder.path());
    let files = sealed(folder.path());
    let (log, report) = Log::open(folder.path(), small()).unwrap();
    assert_eq!(report.damage, []);
    let clean = log.scrub(&mut |_| true).unwrap();
    assert_eq!((clean.files, clean.stopped), (files.len(), false));
    let sizes: u64 = files
        .iter()
        .map(|file| folder.path().join(&file.file).metadata().unwrap().len())
        .sum();
    // All but the padding and the trailer, which is read beside the parts.
    assert!(clean.bytes > 0 && clean.bytes < sizes);
    assert_eq!(log.damage(), []);
    flip(&folder.path().join(&files[1].file), 4096 + 100);
    let told = log.scrub(&mut |_| true).unwrap();
    assert_eq!(told.files, files.len() - 1);
    let damage = log.damage();
    assert_eq!(damage.len(), 1);
    assert_eq!(
        (damage[0].file.as_str(), damage[0].first_offset),
        (files[1].file.as_str(), files[1].base)
    );
    std::fs::remove_file(folder.path().join(&files[0].file)).unwrap();
    log.scrub(&mut |_| true).unwrap();
    assert!(
        log.damage()
            .iter()
            .any(|damage| damage.file == files[0].file)
    );
    assert!(log.scrub(&mut |_| false).unwrap().stopped);
}

#[test]
fn a_missing_sealed_file_is_reported_and_the_rest_serves_on() {
    let folder = tempfile::tempdir().unwrap();
    rolled(folder.path());
    let first = &sealed(folder.path())[0];
    std::fs::remove_file(folder.path().join(&first.file)).unwrap();
    let (log, report) = Log::open(folder.path(), small()).unwrap();
    assert_eq!(report.damage.len(), 1);
    let read = |offset| log.reader().read_many(&[offset]);
    assert!(matches!(read(0), Err(ReadError::Damaged(_))));
    assert!(read(first.end).unwrap()[0].is_some());
    drop(log);
    let report = verify::verify(folder.path(), None, &mut |_, _| ()).unwrap();
    assert!(report.damage.iter().any(|damage| damage.file == first.file));
}

#[test]
fn one_unreadable_manifest_is_mended_and_two_are_damage() {
    let folder = tempfile::tempdir().unwrap();
    rolled(folder.path());
    let copies = crate::files::MANIFESTS.map(|name| folder.path().join(name));
    flip(&copies[0], 20);
    let (log, report) = Log::open(folder.path(), small()).unwrap();
    assert_eq!(report.manifests_mended.len(), 1);
    drop(log);
    let (log, report) = Log::open(folder.path(), small()).unwrap();
    assert_eq!(report.manifests_mended.len(), 0);
    drop(log);
    for copy in &copies {
        flip(copy, 20);
    }
    let before = std::fs::read_dir(folder.path()).unwrap().count();
    assert!(matches!(
        Log::open(folder.path(), small()).unwrap_err(),
        OpenError::Damaged { .. }
    ));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), before);
    let report = verify::verify(folder.path(), None, &mut |_, _| ()).unwrap();
    assert!(!report.damage.is_empty());
    for copy in &copies {
        std::fs::remove_file(copy).unwrap();
    }
    assert!(matches!(
        Log::open(folder.path(), small()).unwrap_err(),
        OpenError::Damaged { .. }
    ));
}

#[test]
fn ids_and_sessions_are_known_from_sealed_files() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    let data = |number: u128| format!("{{\"n\":{number},\"x\":\"{}\"}}", "y".repeat(300));
    for number in 0..400u128 {
        send(&log, 1, number, Some(1000 + number), &data(number));
    }
    let check = |log: &Log| {
        for number in [0, 7, 200, 399] {
            let again = send(log, 1, number, Some(1000 + number), &data(number));
            let offset = u64::try_from(number).unwrap();
            assert!(
                matches!(again.exceptions[0].1, Exception::Duplicate { offset: at, .. } if at == offset),
                "{:?}",
                again.exceptions
            );
            let other = send(log, 1, number, Some(1000 + number), "{}");
            assert_eq!(other.exceptions[0].1, Exception::IdConflict { offset });
            let foreign = send(log, 2, number, None, "{}");
            assert_eq!(foreign.exceptions[0].1, Exception::SessionConflict);
        }
    };
    check(&log);
    drop(log);
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    check(&log);
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
        verify::verify(folder.path(), None, &mut |_, _| ())
            .unwrap()
            .damage
            .len(),
        1
    );
}

fn verified(folder: &Path) -> verify::VerifyReport {
    verify::verify(folder, None, &mut |_, _| ()).unwrap()
}

fn no_damage(folder: &Path) -> verify::VerifyReport {
    let report = verified(folder);
    assert_eq!(report.damage, []);
    report
}

/// What the manifest knows to have been on the disk is damage when it cannot be read, even with nothing behind it that
/// says so; the tail used to be cut before the manifest was asked.
#[test]
fn a_log_that_ends_below_what_the_manifest_knows_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    send(&log, 0, 1, None, "{}");
    log.close();
    drop(log);
    let path = folder.path().join(crate::format::file_name::segment(0));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4104..].fill(7);
    std::fs::write(&path, &bytes).unwrap();
    let refused = Log::open(folder.path(), small()).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn what_came_to_nothing_is_counted_while_it_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    let (reader, whose) = (log.reader(), ApplicationId(0));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (0..100).for_each(|_| log.write_tally().unwrap()));
        let mut refused = 0;
        while !writer.is_finished() || refused == 0 {
            log.count_refused(Some(whose), 0, 1);
            refused += 1;
            let ledger = reader.ledger(0..u32::MAX).unwrap();
            assert_eq!(ledger.applications[&whose].rejected, refused);
        }
    });
}

#[test]
fn scattered_events_are_read_as_they_were_asked_for() {
    const EVENTS: u64 = 6_000;
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig {
        segment_max_bytes: 512 << 10,
        ..LogConfig::default()
    };
    // Long enough for blocks that are unpacked in parts; no two are alike.
    let data = |number: u64| {
        let words = (0..30).map(|word| number.wrapping_mul(word * word + 7) % 8_191);
        let words: Vec<String> = words.map(|word| word.to_string()).collect();
        format!("{{\"n\":{number},\"text\":\"{}\"}}", words.join(" "))
    };
    {
        let (log, _) = Log::open(folder.path(), config.clone()).unwrap();
        for first in (0..EVENTS).step_by(500) {
            let mut batch = Batch::new(ApplicationId(1));
            (first..first + 500).for_each(|number| push(&mut batch, 1, None, &data(number)));
            append(&log, batch).unwrap();
        }
    }
    assert!(sealed(folder.path()).len() >= 2);
    let (log, _) = Log::open(folder.path(), config).unwrap();
    // In no order: jumps over blocks, neighbours, one twice, and some behind the end; a few of them, and one by one backwards.
    let scattered = (0..40).flat_map(|place| [place * 3_701 % (EVENTS + 100), place * 151]);
    let scattered: Vec<Offset> = scattered.chain([7, 7, 8, EVENTS]).collect();
    let backwards = (0..EVENTS).rev().step_by(97);
    let each = scattered.chunks(5).map(<[Offset]>::to_vec);
    let each = each.chain(backwards.map(|offset| vec![offset]));
    for offsets in each.chain([scattered.clone()]) {
        let read = log.reader().read_many(&offsets).unwrap();
        assert_eq!(read.len(), offsets.len());
        for (offset, event) in offsets.iter().zip(read) {
            let found = event.map(|event| (event.offset, event.data));
            let expected = (*offset < EVENTS).then(|| (*offset, data(*offset)));
            assert_eq!(found, expected);
        }
    }
}
