//! What one request brings, encoded, and what becomes of it.

use uuid::Uuid;

use crate::event::{ClientId, Event};
use crate::format::frame::record_checksum;
use crate::format::payload;
use crate::ids::id_from_client_key;
use crate::offset::Offset;
use crate::record::{ClientKey, EventRecord};
use crate::registry::ApplicationId;

/// The events of one request for one application, encoded; what is stored of them becomes one frame.
#[derive(Debug)]
pub struct Batch {
    pub(crate) application: ApplicationId,
    pub(crate) bytes: Vec<u8>,
    pub(crate) items: Vec<Item>,
    pub(crate) all_or_nothing: bool,
    pub(crate) refused_before: u32,
}

/// What the writer must know of an encoded event.
#[derive(Debug)]
pub(crate) struct Item {
    /// Where its record ends within the batch's bytes; it begins where the one before ends.
    pub(crate) end: usize,
    /// The record's checksum.
    pub(crate) checksum: u32,
    pub(crate) session: Uuid,
    /// The id the client made and the hash of the content it stands for.
    pub(crate) client: Option<(Uuid, [u8; 16])>,
    /// Whether it is refused unless it was stored before.
    pub(crate) only_if_known: bool,
}

impl Batch {
    /// Starts an empty batch.
    pub fn new(application: ApplicationId) -> Self {
        Self {
            application,
            bytes: Vec::new(),
            items: Vec::new(),
            all_or_nothing: false,
            refused_before: 0,
        }
    }

    /// Makes room for about `bytes` of records, so that they are not moved while they gather.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// Adds an event.
    pub fn push(&mut self, event: &Event<'_>) {
        self.add(event, false);
    }

    /// Adds an event that may not be stored any more, but may have been: where its id is in the log already it is a duplicate as
    /// any other, and else [`Exception::NotKnown`].
    pub fn push_if_known(&mut self, event: &Event<'_>) {
        self.add(event, true);
    }

    fn add(&mut self, event: &Event<'_>, only_if_known: bool) {
        let client = event.client_id.as_ref().map(|client| {
            let (id, key) = match client {
                ClientId::Uuid(id) => (*id, ""),
                ClientId::Key(key) => (id_from_client_key(self.application, key), key.as_ref()),
            };
            (
                id,
                ClientKey {
                    key,
                    content_hash: event.content_hash(),
                },
            )
        });
        let record = EventRecord {
            id: client.map_or(Uuid::nil(), |(id, _)| id),
            received_at: 0,
            application: self.application,
            session_id: event.session_id,
            timestamp: event.timestamp,
            client: client.map(|(_, key)| key),
            category: &event.category,
            name: &event.name,
            meta: &event.meta,
            data: event.data,
        };
        let start = self.bytes.len();
        payload::push_event(&mut self.bytes, &record);
        let client = client.map(|(id, key)| (id, key.content_hash));
        self.items.push(Item {
            end: self.bytes.len(),
            checksum: record_checksum(&self.bytes[start..]),
            session: event.session_id,
            client,
            only_if_known,
        });
    }

    /// Asks that nothing be stored unless everything can be.
    pub fn all_or_nothing(&mut self) {
        self.all_or_nothing = true;
    }

    /// Notes how many events of the request were refused before they came here; the frame counts them.
    pub fn note_refused(&mut self, count: usize) {
        self.refused_before = u32::try_from(count).unwrap_or(u32::MAX);
    }

    /// Returns how many events it holds.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Says whether it holds no event.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the bytes of its records.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// What became of a batch. Stored events have dense offsets from `first_offset` on, in the order they were pushed,
/// leaving out the exceptions.
#[derive(Debug, Clone, Default)]
pub struct Receipt {
    /// The offset of the first stored event.
    pub first_offset: Option<Offset>,
    /// How many were stored.
    pub stored: usize,
    /// Their arrival, unix microseconds.
    pub received_at: i64,
    /// The others: their place in the batch, and why.
    pub exceptions: Vec<(usize, Exception)>,
}

/// Why an event of a batch was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exception {
    /// The same id with the same content is in the log already.
    Duplicate {
        /// Where.
        offset: Offset,
        /// Its id.
        id: Uuid,
    },
    /// The session belongs to another application.
    SessionConflict,
    /// The same id is in the log already, with other content.
    IdConflict {
        /// Where.
        offset: Offset,
    },
    /// It may not be stored any more, and was not before.
    NotKnown,
    /// Nothing was wrong with it, but the batch was all or nothing.
    NotStored,
}
