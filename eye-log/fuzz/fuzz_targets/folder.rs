//! A folder of arbitrary bytes, and a sound one with arbitrary bytes written over it: opening, reading and verifying
//! answer or refuse, and what is served of a folder that opens can be read twice with the same result.
#![no_main]

use std::sync::Arc;

use eye_log::storage::faulty::Faulty;
use eye_log::{Log, LogConfig};
use libfuzzer_sys::fuzz_target;

/// The fixtures of all format versions: name and content of each file.
const FILES: [(&str, &[u8]); 6] = [
    (
        "00000000000000000000-00000000000000000069-2.sealed",
        include_bytes!("../../fixtures/v2/log/00000000000000000000-00000000000000000069-2.sealed"),
    ),
    (
        "00000000000000000069.seg",
        include_bytes!("../../fixtures/v2/log/00000000000000000069.seg"),
    ),
    ("manifest-0", include_bytes!("../../fixtures/v2/log/manifest-0")),
    ("manifest-1", include_bytes!("../../fixtures/v2/log/manifest-1")),
    (
        "00000000000000000000.seg",
        include_bytes!("../../fixtures/v1/log/00000000000000000000.seg"),
    ),
    (
        "00000000000000000000.seg",
        include_bytes!("../../fixtures/v3/log/00000000000000000000.seg"),
    ),
];

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    let disk = Faulty::default();
    if choice % 2 == 0 {
        // The bytes themselves, as one file of each kind in turn.
        let name = FILES[usize::from(choice / 2) % FILES.len()].0;
        disk.put(name, rest.to_vec());
    } else {
        let skip = usize::from(choice / 2 % 3);
        let mut files: Vec<(&str, Vec<u8>)> = FILES[..4]
            .iter()
            .map(|(name, bytes)| (*name, bytes.to_vec()))
            .collect();
        // Which file, where (a third of its length is hit by the sealed file's blocks), and what.
        for edit in rest.chunks_exact(6) {
            let (_, bytes) = &mut files[usize::from(edit[0]) % 4];
            let at = u32::from_le_bytes([edit[1], edit[2], edit[3], 0]) as usize % bytes.len();
            bytes[at] = edit[4];
            if edit[5] == 0 {
                bytes.truncate(at);
                if bytes.is_empty() {
                    bytes.push(0);
                }
            }
        }
        for (name, bytes) in files.into_iter().skip(skip) {
            disk.put(name, bytes);
        }
    }
    let Ok((log, _)) = Log::open_in(Arc::new(disk), LogConfig::default()) else {
        return;
    };
    let read = || {
        let reader = log.reader();
        let mut scan = reader.scan(0);
        let mut seen = Vec::new();
        loop {
            let before = scan.next_offset();
            match scan.read(|offset, record| seen.push((offset, format!("{record:?}")))) {
                Ok(0) => break seen,
                Ok(_) => {}
                Err(_) => scan.skip_to(before + 1),
            }
            assert!(scan.next_offset() > before, "a read that stands still");
        }
    };
    assert_eq!(read(), read());
    log.close();
});
