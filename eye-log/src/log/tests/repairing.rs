//! Stories of repair.

use super::*;

/// Repairs a folder, and looks whether the log is sound, holds everything but what is said to be lost, and goes on.
fn repaired(folder: &Path, events: u64) -> Vec<(Offset, Offset)> {
    let report = crate::repair::repair(folder, &mut |_| ()).unwrap();
    no_damage(folder);
    let (log, opened) = Log::open(folder, small()).unwrap();
    assert_eq!(opened.damage, []);
    let all: Vec<Offset> = (0..events).collect();
    for (offset, event) in (0..).zip(log.reader().read_many(&all).unwrap()) {
        let lost = report
            .lost
            .iter()
            .any(|(first, end)| (*first..*end).contains(&offset));
        assert_eq!(
            event.is_none(),
            lost,
            "offset {offset}, lost {:?}",
            report.lost
        );
    }
    assert_eq!(send(&log, 1, 7, None, "{\"after\":1}").stored, 1);
    drop(log);
    no_damage(folder);
    let again = crate::repair::repair(folder, &mut |_| ()).unwrap();
    assert_eq!(
        again,
        crate::repair::RepairReport::default(),
        "nothing is left to repair"
    );
    report.lost
}

#[test]
fn repair_saves_what_lies_behind_a_damaged_frame() {
    let folder = tempfile::tempdir().unwrap();
    rolled(folder.path());
    let stats = verify::stats(folder.path()).unwrap();
    let active = stats.segments.last().unwrap();
    assert!(active.end - active.base > 4 && !active.sealed);
    flip(&folder.path().join(&active.file), 4096 + 70);
    assert!(matches!(
        Log::open(folder.path(), small()).unwrap_err(),
        OpenError::Damaged { .. }
    ));
    assert_eq!(
        repaired(folder.path(), 400),
        [(active.base, active.base + 1)]
    );
}

#[test]
fn repair_saves_what_lies_beside_a_damaged_block() {
    let folder = tempfile::tempdir().unwrap();
    rolled(folder.path());
    let second = sealed(folder.path())[1].clone();
    flip(&folder.path().join(&second.file), 4096 + 100);
    let lost = repaired(folder.path(), 400);
    assert_eq!(lost.len(), 1);
    assert!(
        lost[0].0 == second.base && lost[0].1 <= second.end,
        "{lost:?}"
    );
    let names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .flatten()
        .collect();
    let kept =
        |name: &std::fs::DirEntry| name.file_name().to_str().unwrap().starts_with("damaged-");
    assert!(names.iter().any(kept), "the damaged file is kept aside");
}

#[test]
fn repair_names_what_went_with_a_missing_file() {
    let folder = tempfile::tempdir().unwrap();
    rolled(folder.path());
    let second = sealed(folder.path())[1].clone();
    std::fs::remove_file(folder.path().join(&second.file)).unwrap();
    assert_eq!(repaired(folder.path(), 400), [(second.base, second.end)]);
}

#[test]
fn repair_puts_the_manifest_together_again() {
    let folder = tempfile::tempdir().unwrap();
    rolled(folder.path());
    for copy in crate::files::MANIFESTS {
        flip(&folder.path().join(copy), 20);
    }
    assert_eq!(repaired(folder.path(), 400), []);
}

#[test]
fn repair_leaves_a_sound_log_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    rolled(folder.path());
    assert_eq!(repaired(folder.path(), 400), []);
}

/// A flipped bit in a footer costs nothing: every block is there, and what the footer said is made again from them.
#[test]
fn repair_saves_every_record_of_a_file_with_a_damaged_footer() {
    let folder = tempfile::tempdir().unwrap();
    rolled(folder.path());
    let first = sealed(folder.path())[0].clone();
    let path = folder.path().join(&first.file);
    let trailer = first.file_bytes - 256;
    let bytes = std::fs::read(&path).unwrap();
    let at = usize::try_from(trailer).unwrap() + 24;
    let blocks_end = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert!(
        trailer - blocks_end > 64 + 50 * 20,
        "blocks and sessions at least"
    );
    // Something of every part: blocks, sessions, their filter, seals, ledger, and the trailer.
    for position in (blocks_end + 3..first.file_bytes).step_by(57) {
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        flip(&copy.path().join(&first.file), position);
        if verified(copy.path()).damage.is_empty() {
            continue;
        }
        assert_eq!(repaired(copy.path(), 400), [], "byte {position}");
        let (log, _) = Log::open(copy.path(), small()).unwrap();
        let conflict = send(&log, 2, 7, None, "{}");
        assert_eq!(conflict.exceptions, [(0, Exception::SessionConflict)]);
    }
}

/// The same for the salt, which every checksum of the file starts from, and for the rest of a header.
#[test]
fn repair_saves_every_record_of_a_file_with_a_damaged_header() {
    for position in [8, 33, 50, 57, 4000] {
        let folder = tempfile::tempdir().unwrap();
        rolled(folder.path());
        let stats = verify::stats(folder.path()).unwrap();
        for file in [&stats.segments[1], stats.segments.last().unwrap()] {
            flip(&folder.path().join(&file.file), position);
        }
        assert_eq!(repaired(folder.path(), 400), [], "position {position}");
    }
}

/// A record has its own checksum: those beside it in the frame are saved.
#[test]
fn repair_saves_the_records_beside_a_damaged_one() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(folder.path(), LogConfig::default()).unwrap();
    let mut batch = Batch::new(ApplicationId(1));
    for number in 0..10u128 {
        push(
            &mut batch,
            7,
            Some(100 + number),
            &format!("{{\"n\":{number}}}"),
        );
    }
    append(&log, batch).unwrap();
    drop(log);
    let path = folder.path().join(crate::format::file_name::segment(0));
    let bytes = std::fs::read(&path).unwrap();
    let place = bytes
        .windows(7)
        .position(|window| window == b"{\"n\":4}")
        .unwrap();
    flip(&path, place as u64 + 5);
    assert_eq!(repaired(folder.path(), 10), [(4, 5)]);
    let (log, _) = Log::open(folder.path(), small()).unwrap();
    let again = send(&log, 1, 7, Some(105), "{\"n\":5}");
    assert!(matches!(
        again.exceptions[..],
        [(0, Exception::Duplicate { offset: 5, .. })]
    ));
    assert_eq!(send(&log, 1, 7, Some(104), "{\"n\":4}").stored, 1);
    let conflict = send(&log, 2, 7, None, "{}");
    assert_eq!(conflict.exceptions, [(0, Exception::SessionConflict)]);
}
