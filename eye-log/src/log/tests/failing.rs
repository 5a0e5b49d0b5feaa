//! Disks that lose what was written, and say so once, or never.

use super::*;
use crate::appender::{Appender, begin_segment};
use crate::format::file_name::SealedName;
use crate::queue::Next;
use crate::sealing::{SEALING, SealedWriter};
use crate::storage::faulty::Faulty;

/// Zeros were filled in ahead, with a sync of their own, while a group was on its way; the system told that sync that the
/// group was lost, and the group's own sync nothing.
#[test]
fn that_a_group_is_lost_is_not_told_to_the_filling_instead() {
    let disk = Faulty::default();
    let (log, _) = Log::open_in(Arc::new(disk.clone()), small()).unwrap();
    let shared = log.shared().clone();
    let tail = begin_segment(&shared, 1_000, Next::Spare).unwrap();
    let mut appender = Appender::new(shared, 8 << 20, tail);
    let mut push = |bytes: usize| {
        let pushed = appender.push_records(vec![7; bytes], &[bytes], 1);
        (pushed, appender.take_group(Vec::new()))
    };
    let group = push(1_000).1.unwrap();
    let file = &group.segment.file;
    file.write_parts_at(&mut group.bytes.parts(), group.position)
        .unwrap();
    disk.write_back_fails(&group.segment.name);
    let filled = push(2 << 20).0;
    assert!(
        matches!(filled, Err(AppendError::Poisoned(_))),
        "{filled:?}"
    );
    file.sync().unwrap_err();
}

/// A sealed file is the only copy once the segment is gone. A disk that dropped some of it without a word was believed.
#[test]
fn a_sealed_file_that_the_disk_did_not_keep_is_never_given_its_name() {
    let disk = Faulty::default();
    let (log, _) = Log::open_in(Arc::new(disk.clone()), small()).unwrap();
    let name = SealedName {
        base: 1_000,
        end: 1_000,
        generation: 0,
    };
    for dropped in [true, false] {
        let writer = SealedWriter::begin(log.shared(), name).unwrap();
        if dropped {
            disk.drops_next_write_of(SEALING);
        }
        // A file without records cannot be opened; here it is enough that it gets as far.
        let refused = writer.finish().err().map(|error| error.to_string());
        let unkept = refused.is_some_and(|error| error.contains("did not keep"));
        assert_eq!(unkept, dropped);
        assert_eq!(disk.bytes(&name.to_string()).is_none(), dropped);
    }
}
