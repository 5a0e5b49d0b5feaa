//! What a record of the log can be.

use uuid::Uuid;

use crate::registry::{ApplicationId, RegistryChange};

/// A record, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// An event.
    Event(EventRecord<'a>),
    /// A change to applications or tokens.
    Registry(RegistryRecord),
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
    /// 128 bits over session, category, name, instant and data without insignificant white space.
    pub content_hash: [u8; 16],
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
