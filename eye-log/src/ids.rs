//! Ids of events: made by the server from the offset, or derived from what the client sent.

use uuid::Uuid;

use crate::offset::Offset;
use crate::registry::ApplicationId;

/// The low bits of a server-made id that hold its offset.
const OFFSET_BITS: u32 = 62;

/// Returns the UUIDv7 of an event that brought no id: milliseconds of its arrival on top (RFC 9562), the rest of the
/// microseconds in `rand_a`, the offset in the 62 low bits, so that finding it needs no index.
pub fn server_made_id(received_at: i64, offset: Offset) -> Uuid {
    let micros = received_at.max(0).unsigned_abs();
    let (millis, rest) = (micros / 1000, micros % 1000);
    let high = (u128::from(millis) & 0xFFFF_FFFF_FFFF) << 16 | 0x7000 | u128::from(rest);
    let low = (0b10 << OFFSET_BITS) | (u128::from(offset) & ((1 << OFFSET_BITS) - 1));
    Uuid::from_u128(high << 64 | low)
}

/// Returns the offset that a server-made id would hold. A client may have made the same UUID: compare the event's id.
pub fn offset_of_server_made_id(id: Uuid) -> Option<Offset> {
    let low = id.as_u128() & ((1 << OFFSET_BITS) - 1);
    (id.get_version_num() == 7).then(|| u64::try_from(low).unwrap_or(u64::MAX))
}

/// Returns the id of an event whose client id is no UUID: UUIDv5 over the application and the id as sent.
pub(crate) fn id_from_client_key(application: ApplicationId, key: &str) -> Uuid {
    // A namespace of our own (RFC 9562, 5.5), drawn once.
    const NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_9a52_3d1e_4b57_8a4e_c1d2_77b0_95e3);
    let mut name = application.0.to_le_bytes().to_vec();
    name.extend_from_slice(key.as_bytes());
    Uuid::new_v5(&NAMESPACE, &name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_made_id_gives_its_offset_back() {
        for offset in [0, 1, 77, (1 << 62) - 1] {
            let id = server_made_id(1_609_492_527_243_860, offset);
            assert_eq!(offset_of_server_made_id(id), Some(offset));
            assert_eq!(id.get_version_num(), 7);
            assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        }
        assert_eq!(offset_of_server_made_id(Uuid::nil()), None);
    }

    #[test]
    fn later_arrivals_have_larger_ids() {
        assert!(server_made_id(1_000_000, 5) < server_made_id(1_000_001, 6));
    }
}
