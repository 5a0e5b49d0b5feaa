//! A sealed file's header, trailer and parts of arbitrary bytes.
#![no_main]

use eye_log::format::checksum;
use eye_log::format::seal::Seal;
use eye_log::format::sealed_footer::{
    BlockEntry, ChangeEntry, LedgerEntry, PARTS, SessionEntry, TRAILER_BYTES, Trailer,
    decode_controls,
};
use eye_log::format::sealed_header::SealedHeader;
use libfuzzer_sys::fuzz_target;

const SALT: u32 = 7;

fuzz_target!(|input: &[u8]| {
    let _ = SealedHeader::decode(input);
    let _ = Trailer::decode(input, SALT);
    if input.len() < TRAILER_BYTES {
        return;
    }
    let (trailer, parts) = input.split_at(TRAILER_BYTES);
    let mut trailer = trailer.to_vec();
    trailer[0..8].copy_from_slice(b"EYESEAL2");
    let sum = checksum(SALT, &trailer[..TRAILER_BYTES - 4]);
    trailer[TRAILER_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
    let Ok(trailer) = Trailer::decode(&trailer, SALT) else {
        return;
    };
    let _ = trailer.file_bytes();
    for part in PARTS {
        let (_, length) = trailer.place(part);
        trailer.holds(part, &parts[..length.min(parts.len())], SALT);
    }
    let _ = BlockEntry::decode_all(parts, &trailer.summary);
    let _ = decode_controls(parts);
    let _ = SessionEntry::decode_all(parts);
    let _ = ChangeEntry::decode_all(parts);
    let _ = LedgerEntry::decode_all(parts);
    let _ = Seal::decode_all(parts);
});
