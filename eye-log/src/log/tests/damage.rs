//! Stories of damage in files that are open: what goes on beside it.

use super::*;

/// Flips a bit of the first sealed file: at `place` of its length and of where its blocks end.
fn damaged(folder: &Path, place: impl Fn(u64, u64) -> u64) -> verify::SegmentStats {
    let first = sealed(folder)[0].clone();
    let path = folder.join(&first.file);
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 256 + 24;
    let blocks_end = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    flip(&path, place(bytes.len() as u64, blocks_end));
    first
}

/// Sends events with ids over several sealed files.
fn with_ids(folder: &Path) {
    let (log, _) = Log::open(folder, small()).unwrap();
    for number in 0..400u128 {
        let data = format!("{{\"n\":{number},\"x\":\"{}\"}}", "y".repeat(300));
        send(&log, 1, number, Some(1000 + number), &data);
    }
}

fn data(number: u128) -> String {
    format!("{{\"n\":{number},\"x\":\"{}\"}}", "y".repeat(300))
}

/// A flipped bit in a table used to stop the whole service, again after every restart.
#[test]
fn a_damaged_table_is_made_again_from_the_blocks_and_sessions_keep_their_owner() {
    let folder = tempfile::tempdir().unwrap();
    with_ids(folder.path());
    // Sessions and ids stand behind the list of blocks, which has one entry or two.
    damaged(folder.path(), |_, blocks_end| blocks_end + 200);
    let (log, report) = Log::open(folder.path(), small()).unwrap();
    assert_eq!(report.damage, []);
    let conflict = send(&log, 2, 7, None, "{}");
    assert_eq!(conflict.exceptions, [(0, Exception::SessionConflict)]);
    let again = send(&log, 1, 7, Some(1007), &data(7));
    assert!(matches!(
        again.exceptions[..],
        [(0, Exception::Duplicate { offset: 7, .. })]
    ));
    assert_eq!(send(&log, 2, 5000, Some(1007), "{}").stored, 1);
    assert_eq!(log.health(), LogHealth::Ok);
    assert_eq!(log.damage().len(), 1, "and it is told");
}

#[test]
fn an_event_whose_first_copy_is_damaged_is_stored_anew_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    with_ids(folder.path());
    let first = damaged(folder.path(), |_, _| 4096 + 100);
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    let anew = send(&log, 1, 7, Some(1007), &data(7));
    assert_eq!(anew.stored, 1);
    let beside = u128::from(first.end);
    let known = send(&log, 1, beside, Some(1000 + beside), &data(beside));
    assert!(matches!(
        known.exceptions[..],
        [(0, Exception::Duplicate { .. })]
    ));
    assert_eq!(log.health(), LogHealth::Ok);
    assert_eq!(log.damage().len(), 1);
}

/// A closed segment whose bytes went bad before it was sealed stays what it is, and health says so.
#[test]
fn a_segment_that_cannot_be_sealed_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    send(&log, 1, 1, None, &data(1));
    // A reader without the lock sees the same; the sealer reads the file when the segment is closed.
    flip(
        &folder.path().join(crate::format::file_name::segment(0)),
        4096 + 100,
    );
    log.roll().unwrap();
    let began = std::time::Instant::now();
    while log.damage().is_empty() {
        assert!(began.elapsed().as_secs() < 20, "nobody was told");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(send(&log, 1, 2, None, "{}").stored, 1);
}
