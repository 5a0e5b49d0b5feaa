//! Stories of a log of more sealed files than stay open.

use super::*;
use crate::pieces::Piece;
use crate::sealed::MISSING;

const EVENTS: u64 = 1_600;
/// As many as stay open.
const MOST: usize = 16;

/// A log of many sealed files, opened again.
fn log_of_many(folder: &Path) -> Log {
    let (log, _) = Log::open(folder, small()).unwrap();
    for number in 0..EVENTS {
        let data = format!("{{\"n\":{number},\"x\":\"{}\"}}", "y".repeat(600));
        send(&log, 1, number.into(), None, &data);
    }
    drop(log);
    let (log, _) = Log::open(folder, small()).unwrap();
    assert!(log.reader().sealed_files().len() > 2 * MOST);
    log
}

/// The folder's sealed files that this process has open; of those whose name is gone the system says so behind it.
fn open_in(folder: &Path) -> Vec<String> {
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter_map(|path| Some(path.strip_prefix(folder).ok()?.to_str()?.to_owned()))
        .filter(|name| name.contains(".sealed"))
        .collect()
}

#[test]
fn files_that_are_not_read_are_closed_and_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_of_many(folder.path());
    assert!(open_in(folder.path()).len() <= MOST);
    for _ in 0..2 {
        let data = data_of(&log, EVENTS);
        assert_eq!(data.len() as u64, EVENTS);
        assert!(data[700].starts_with("{\"n\":700,"));
        assert_eq!(open_in(folder.path()).len(), MOST);
    }
    drop(log);
    assert!(open_in(folder.path()).is_empty());
}

#[test]
fn files_that_were_replaced_are_read_to_the_end_by_who_has_them_and_then_closed() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_of_many(folder.path());
    let before = log.inner.shared.files.pieces();
    log.compact(&crate::compaction::Compaction::default(), &mut |_, _| true)
        .unwrap();
    let files = log.reader().sealed_files();
    assert!(files.len() < before.len() / 2);
    let mut read = 0;
    for piece in before.iter() {
        if let Piece::Sealed(file) = piece {
            let name = folder.path().join(&file.name);
            assert!(!name.exists() || files.iter().any(|there| there.file == file.name));
            let blocks = file.blocks().unwrap();
            for place in 0..blocks.len() {
                read += file.read_block(&blocks, place).unwrap().count();
            }
        }
    }
    assert!(read as u64 > EVENTS / 2);
    drop(before);
    // The writer lets go of them when it next has something to write.
    send(&log, 1, 1, None, "{}");
    let began = std::time::Instant::now();
    loop {
        let open = open_in(folder.path());
        if open.len() <= MOST && !open.iter().any(|name| name.ends_with(" (deleted)")) {
            break;
        }
        assert!(began.elapsed().as_secs() < 30, "{open:?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_file_that_vanished_while_it_was_closed_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_of_many(folder.path());
    let open = open_in(folder.path());
    let mut files = log.reader().sealed_files().into_iter();
    let closed = |file: &crate::SealedInfo| !open.iter().any(|name| name.ends_with(&file.file));
    let file = files.find(closed).unwrap();
    std::fs::remove_file(folder.path().join(&file.file)).unwrap();
    let Err(ReadError::Damaged(damage)) = log.reader().read_many(&[file.base]) else {
        panic!("a file that is not there was read")
    };
    assert_eq!((&damage.file, damage.what.as_str()), (&file.file, MISSING));
    assert_eq!(log.damage(), [damage]);
    assert!(log.reader().read_many(&[file.end]).unwrap()[0].is_some());
}
