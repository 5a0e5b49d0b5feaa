//! A frame of arbitrary bytes whose header checksum holds: header, table of records and records answer or refuse.
#![no_main]

use eye_log::format::checksum;
use eye_log::format::frame::{FRAME_HEADER_BYTES, Found, FrameHeader, Table};
use eye_log::format::payload;
use libfuzzer_sys::fuzz_target;

const SALT: u32 = 7;

fuzz_target!(|input: &[u8]| {
    // Any bytes at all.
    FrameHeader::decode(input, SALT);
    let _ = payload::decode(input);
    let _ = payload::event_head(input);
    // Bytes that a broken writer would have given checksums that hold.
    if input.len() < FRAME_HEADER_BYTES {
        return;
    }
    let (head, body) = input.split_at(FRAME_HEADER_BYTES);
    let mut head = head.to_vec();
    head[0..4].copy_from_slice(b"EYEF");
    // Frames of either version.
    head[56..60].copy_from_slice(&(1 + u32::from(input[56] % 2)).to_le_bytes());
    if let Found::Frame(header, _) = sealed(&mut head)
        && header.body() <= body.len()
        && let Some(table) = Table::of(&header, &body[..header.body()], SALT)
    {
        for (offset, range) in (header.first_offset..).zip(table.ranges()) {
            let _ = payload::decode_arrived(&body[range], header.appended_at, offset);
        }
    }
});

fn sealed(head: &mut [u8]) -> Found {
    let sum = checksum(SALT, &head[8..]);
    head[4..8].copy_from_slice(&sum.to_le_bytes());
    FrameHeader::decode(head, SALT)
}
