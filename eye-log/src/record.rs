//! What a record of the log can be.

use uuid::Uuid;

use crate::event;
use crate::offset::Offset;
use crate::registry::{ApplicationId, RegistryChange};

/// A record, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// An event.
    Event(EventRecord<'a>),
    /// A change to applications or tokens.
    Registry(RegistryRecord),
    /// What was done to the log.
    Maintenance(MaintenanceRecord),
    /// What was asked to be erased, or that it is.
    Erasure(ErasureRecord),
    /// Counts of requests that stored nothing.
    Tally(TallyRecord),
    /// There was an event, and it is gone.
    Gone(Reason),
}

/// Why an event is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Somebody asked for it.
    Erased,
    /// Its application's retention was over.
    Expired,
    /// Its bytes went bad.
    Lost,
}

impl Reason {
    /// Returns the number that stands for it in the log.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Erased => 1,
            Self::Expired => 2,
            Self::Lost => 3,
        }
    }

    pub(crate) fn of_code(code: u8) -> Option<Self> {
        [Self::Erased, Self::Expired, Self::Lost]
            .into_iter()
            .find(|reason| reason.code() == code)
    }
}

/// A record about the log itself, to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// What was done to the log.
    Maintenance(MaintenanceRecord),
    /// What was asked to be erased, or that it is.
    Erasure(ErasureRecord),
    /// Counts of requests that stored nothing.
    Tally(TallyRecord),
}

impl Note {
    /// Says when it is appended; the writer knows.
    pub(crate) fn stamp(&mut self, instant: i64) {
        match self {
            Self::Maintenance(record) => record.at = instant,
            Self::Erasure(record) => record.at = instant,
            Self::Tally(record) => record.at = instant,
        }
    }
}

/// What was done to blocks that had been sealed: it lets the chain of seals be verified afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaintenanceRecord {
    /// When, unix microseconds.
    pub at: i64,
    /// The acting token's id; nil for the owner of the folder.
    pub by: Uuid,
    /// The request that asked for it; nil for the log's own upkeep.
    pub request: Uuid,
    /// Why.
    pub reason: Reason,
    /// For which erasure.
    pub erasure: Option<Uuid>,
    /// How many events went.
    pub records: u64,
    /// Which blocks changed.
    pub blocks: Vec<BlockChange>,
}

/// A block before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockChange {
    /// The offset of its first record.
    pub first: Offset,
    /// Its hash before.
    pub old: [u8; 32],
    /// Its hash after; zeros when its whole range is gone.
    pub new: [u8; 32],
}

/// What was asked to be erased; when done, that it is. Neither says a session's id, or what was searched for, in clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureRecord {
    /// When, unix microseconds.
    pub at: i64,
    /// The acting token's id; nil for the owner of the folder.
    pub by: Uuid,
    /// The request that asked.
    pub request: Uuid,
    /// The erasure's id.
    pub id: Uuid,
    /// Asked for, or done.
    pub state: ErasureState,
    /// A keyed hash of what was asked.
    pub filter: [u8; 16],
    /// What stands for the sessions.
    pub sessions: Vec<[u8; 16]>,
    /// The events' offsets, as half-open ranges.
    pub ranges: Vec<(Offset, Offset)>,
    /// How many events.
    pub events: u64,
    /// JSON text that says what was done and checked; empty until then.
    pub certificate: String,
}

/// How far an erasure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErasureState {
    /// The events are hidden; their bytes go at the next compaction.
    Requested,
    /// No byte is left.
    Done,
}

/// Counts of requests that stored nothing, and made no frame of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TallyRecord {
    /// When, unix microseconds.
    pub at: i64,
    /// Whose requests; `None` where nobody was known.
    pub application: Option<ApplicationId>,
    /// Events that were there already.
    pub duplicates: u64,
    /// Events that were refused.
    pub rejected: u64,
    /// Requests without a token that holds.
    pub unauthenticated: u64,
}

/// An event as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord<'a> {
    /// The event's id.
    pub id: Uuid,
    /// When it arrived, unix microseconds; never before the record in front of it.
    pub received_at: i64,
    /// Whose it is.
    pub application: ApplicationId,
    /// Its session.
    pub session_id: Uuid,
    /// When it happened, unix microseconds.
    pub timestamp: i64,
    /// What the client brought as its id, if anything.
    pub client: Option<ClientKey<'a>>,
    /// Its category.
    pub category: &'a str,
    /// Its name.
    pub name: &'a str,
    /// JSON text the server added about its arrival; empty for nothing.
    pub meta: &'a str,
    /// JSON text of its data, as sent.
    pub data: &'a str,
}

/// The id a client brought, and what it was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientKey<'a> {
    /// The id as sent; empty when it was a UUID, which is the event's id then.
    pub key: &'a str,
    /// 128 bits over session, category, name, instant and data without insignificant white space; zeros where it is
    /// not kept because the event gives it back.
    pub content_hash: [u8; 16],
}

impl EventRecord<'_> {
    /// Returns the content hash, kept or made again.
    pub fn content_hash(&self) -> [u8; 16] {
        match &self.client {
            Some(client) if client.content_hash != [0; 16] => client.content_hash,
            _ => event::content_hash(
                self.session_id,
                self.timestamp,
                self.category,
                self.name,
                self.data,
            ),
        }
    }
}

/// A registry change as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryRecord {
    /// When, unix microseconds.
    pub at: i64,
    /// The acting token's id; nil for the owner of the folder.
    pub by: Uuid,
    /// The request that asked for it.
    pub request: Uuid,
    /// What changed.
    pub change: RegistryChange,
}
