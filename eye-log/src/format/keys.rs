//! What stands in a sealed file's tables for sessions and ids: keyed hashes, so that none is there in clear.

use uuid::Uuid;

use super::siphash::siphash;
use crate::registry::ApplicationId;

const SESSIONS_CONTEXT: &str = "the-eye 2026 session owners";
const IDS_CONTEXT: &str = "the-eye 2026 client ids";

/// The part of an id's hash that a table entry keeps; its low bits hold the offset.
pub const PRINT_BITS: u32 = 42;

/// The keys of a store, derived from its id (BLAKE3 `derive_key`).
#[derive(Debug, Clone)]
pub struct Keys {
    sessions: [u8; 32],
    ids: [u64; 2],
}

impl Keys {
    /// Returns the keys of a store.
    pub fn of(store: Uuid) -> Self {
        let ids = blake3::derive_key(IDS_CONTEXT, store.as_bytes());
        Self {
            sessions: blake3::derive_key(SESSIONS_CONTEXT, store.as_bytes()),
            ids: [super::u64_at(&ids, 0), super::u64_at(&ids, 8)],
        }
    }

    /// Returns what stands for a session: 16 bytes.
    pub fn session(&self, session: Uuid) -> [u8; 16] {
        super::bytes_at(
            blake3::keyed_hash(&self.sessions, session.as_bytes()).as_bytes(),
            0,
        )
    }

    /// Returns what stands for a request to erase: 16 bytes.
    pub fn erasure(&self, request: &str) -> [u8; 16] {
        super::bytes_at(
            blake3::keyed_hash(&self.sessions, request.as_bytes()).as_bytes(),
            0,
        )
    }

    /// Returns what stands for an application's id: 42 bits. It is asked for with every event that has an id, and need not
    /// be exact, as a session's must: an event that looks the same is read and compared.
    pub fn id_print(&self, application: ApplicationId, id: Uuid) -> u64 {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&application.0.to_le_bytes());
        bytes[4..].copy_from_slice(id.as_bytes());
        siphash(self.ids, &bytes) >> (u64::BITS - PRINT_BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_depend_on_the_store_the_application_and_the_id() {
        let (store, id) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let keys = Keys::of(store);
        assert_ne!(keys.session(id), Keys::of(id).session(id));
        assert_ne!(
            keys.id_print(ApplicationId(0), id),
            keys.id_print(ApplicationId(1), id)
        );
        assert!(keys.id_print(ApplicationId(0), id) < 1 << PRINT_BITS);
    }
}
