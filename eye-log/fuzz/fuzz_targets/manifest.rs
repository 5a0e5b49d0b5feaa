//! A manifest of arbitrary bytes, and of arbitrary entries behind a checksum that holds.
#![no_main]

use eye_log::format::checksum;
use eye_log::format::manifest::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = Manifest::decode(input);
    let mut bytes = input.to_vec();
    if bytes.len() < 48 {
        return;
    }
    bytes[0..8].copy_from_slice(b"EYEMANI1");
    let count = u32::try_from((bytes.len() - 48) / 40).unwrap_or(0);
    bytes.truncate(48 + count as usize * 40);
    bytes[40..44].copy_from_slice(&count.to_le_bytes());
    let sum = checksum(0, &bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    if let Ok(manifest) = Manifest::decode(&bytes) {
        let again = Manifest::decode(&manifest.encode());
        assert_eq!(again.as_ref(), Ok(&manifest));
    }
});
