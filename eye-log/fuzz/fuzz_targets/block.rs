//! A block of arbitrary bytes, and arbitrary content behind checksums that hold.
#![no_main]

use eye_log::format::block::{BLOCK_HEADER_BYTES, Block};
use eye_log::format::{checksum, payload};
use libfuzzer_sys::fuzz_target;

const SALT: u32 = 7;

fuzz_target!(|input: &[u8]| {
    look(input);
    if input.len() < BLOCK_HEADER_BYTES {
        return;
    }
    let mut bytes = input.to_vec();
    let (head, content) = bytes.split_at_mut(BLOCK_HEADER_BYTES);
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    head[0..4].copy_from_slice(b"EYEB");
    head[8..12].copy_from_slice(&length.to_le_bytes());
    // Codec 0 is plain content, as long as it says.
    if head[32..36] == [0; 4] {
        head[12..16].copy_from_slice(&length.to_le_bytes());
    }
    head[36..40].copy_from_slice(&checksum(SALT, content).to_le_bytes());
    let sum = checksum(SALT, &head[8..]);
    head[4..8].copy_from_slice(&sum.to_le_bytes());
    look(&bytes);
});

fn look(bytes: &[u8]) {
    let _ = Block::decode_hashed(bytes, SALT);
    if let Ok(block) = Block::decode(bytes, SALT) {
        for (offset, record) in block.records() {
            let _ = payload::decode_arrived(record, block.arrived_at(offset), offset);
            let _ = payload::event_head(record);
        }
    }
}
