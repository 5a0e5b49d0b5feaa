//! Records inside a frame: kind, version, and one flat struct in bincode 1.3.3's fixed little-endian layout.
//!
//! What must stay true: a published struct is never edited, only followed by the next version. Decoding takes bytes
//! whose checksum held, with a limit and no trailing bytes.

use bincode::Options as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::FRAME_BODY_MAX_BYTES;
use crate::record::{ClientKey, EventRecord, Record, RegistryRecord};
use crate::registry::{ApplicationId, NewTokenRecord, RegistryChange, TokenKind};

const KIND_EVENT: u8 = 1;
const KIND_REGISTRY: u8 = 2;
const VERSION: u8 = 1;

/// Where the writer stamps the id of an event record; 16 bytes.
const STAMP_ID_AT: usize = 2;
/// Where the writer stamps the arrival of an event record; 8 bytes.
const STAMP_RECEIVED_AT: usize = STAMP_ID_AT + 16;

/// Sixteen bytes as two little-endian integers: the same bytes, which bincode then moves in two steps, not sixteen.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Sixteen(u64, u64);

impl From<[u8; 16]> for Sixteen {
    fn from(bytes: [u8; 16]) -> Self {
        Self(super::u64_at(&bytes, 0), super::u64_at(&bytes, 8))
    }
}

impl From<Sixteen> for [u8; 16] {
    fn from(halves: Sixteen) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&halves.0.to_le_bytes());
        bytes[8..].copy_from_slice(&halves.1.to_le_bytes());
        bytes
    }
}

#[derive(Serialize, Deserialize)]
struct EventV1<'a> {
    id: Sixteen,
    received_at: i64,
    application: u32,
    session_id: Sixteen,
    timestamp: i64,
    #[serde(borrow)]
    client: Option<ClientV1<'a>>,
    category: &'a str,
    name: &'a str,
    meta: &'a str,
    data: &'a str,
}

#[derive(Serialize, Deserialize)]
struct ClientV1<'a> {
    key: &'a str,
    content_hash: Sixteen,
}

#[derive(Serialize, Deserialize)]
struct RegistryV1<'a> {
    at: i64,
    by: [u8; 16],
    request: [u8; 16],
    #[serde(borrow)]
    change: ChangeV1<'a>,
}

#[derive(Serialize, Deserialize)]
enum ChangeV1<'a> {
    Registered {
        application: u32,
        name: &'a str,
    },
    SetActive {
        application: u32,
        active: bool,
    },
    Issued {
        token: [u8; 16],
        kind: u8,
        application: Option<u32>,
        hash: [u8; 32],
    },
    Revoked {
        token: [u8; 16],
    },
}

/// Kinds of tokens as kept: 0 admin, 1 analyst, 4 to 7 an application's with bit 0 read and bit 1 write.
fn kind_code(kind: TokenKind) -> u8 {
    match kind {
        TokenKind::Admin => 0,
        TokenKind::Analyst => 1,
        TokenKind::Application { read, write } => 4 | u8::from(read) | u8::from(write) << 1,
    }
}

fn kind_of_code(code: u8) -> Option<TokenKind> {
    match code {
        0 => Some(TokenKind::Admin),
        1 => Some(TokenKind::Analyst),
        4..=7 => Some(TokenKind::Application {
            read: code & 1 != 0,
            write: code & 2 != 0,
        }),
        _ => None,
    }
}

fn options() -> impl bincode::Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .with_limit(FRAME_BODY_MAX_BYTES as u64)
        .reject_trailing_bytes()
}

fn push(out: &mut Vec<u8>, kind: u8, value: &impl Serialize) {
    out.extend_from_slice(&[kind, VERSION]);
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .serialize_into(&mut *out, value)
        .expect("flat structs of numbers and strings always encode into memory");
}

/// Appends an event record.
pub fn push_event(out: &mut Vec<u8>, event: &EventRecord<'_>) {
    let client = event.client.as_ref().map(|client| ClientV1 {
        key: client.key,
        content_hash: client.content_hash.into(),
    });
    let value = EventV1 {
        id: event.id.into_bytes().into(),
        received_at: event.received_at,
        application: event.application.0,
        session_id: event.session_id.into_bytes().into(),
        timestamp: event.timestamp,
        client,
        category: event.category,
        name: event.name,
        meta: event.meta,
        data: event.data,
    };
    push(out, KIND_EVENT, &value);
}

/// Writes what only the writer knows into an encoded event record: its arrival and, unless the client made one, its id.
pub fn stamp_event(record: &mut [u8], id: Option<Uuid>, received_at: i64) {
    if let Some(id) = id {
        record[STAMP_ID_AT..STAMP_RECEIVED_AT].copy_from_slice(id.as_bytes());
    }
    record[STAMP_RECEIVED_AT..STAMP_RECEIVED_AT + 8].copy_from_slice(&received_at.to_le_bytes());
}

/// Returns the timestamp of an encoded event record.
pub fn timestamp_of_event(record: &[u8]) -> i64 {
    const AT: usize = STAMP_RECEIVED_AT + 8 + 4 + 16;
    super::i64_at(record, AT)
}

/// Appends a registry record.
pub fn push_registry(out: &mut Vec<u8>, record: &RegistryRecord) {
    let change = match &record.change {
        RegistryChange::Registered { application, name } => ChangeV1::Registered {
            application: application.0,
            name,
        },
        RegistryChange::SetActive {
            application,
            active,
        } => ChangeV1::SetActive {
            application: application.0,
            active: *active,
        },
        RegistryChange::Issued(issued) => ChangeV1::Issued {
            token: issued.token.into_bytes(),
            kind: kind_code(issued.kind),
            application: issued.application.map(|application| application.0),
            hash: issued.hash,
        },
        RegistryChange::Revoked { token } => ChangeV1::Revoked {
            token: token.into_bytes(),
        },
    };
    let value = RegistryV1 {
        at: record.at,
        by: record.by.into_bytes(),
        request: record.request.into_bytes(),
        change,
    };
    push(out, KIND_REGISTRY, &value);
}

/// Says whether a record is an event, without decoding it.
pub fn is_event(record: &[u8]) -> bool {
    record.first() == Some(&KIND_EVENT)
}

/// Decodes a record, or says what is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, String> {
    let [kind, version, body @ ..] = bytes else {
        return Err("a record without kind and version".to_owned());
    };
    match (*kind, *version) {
        (KIND_EVENT, 1) => {
            let event: EventV1<'_> = options()
                .deserialize(body)
                .map_err(|e| format!("an event record: {e}"))?;
            Ok(Record::Event(EventRecord {
                id: Uuid::from_bytes(event.id.into()),
                received_at: event.received_at,
                application: ApplicationId(event.application),
                session_id: Uuid::from_bytes(event.session_id.into()),
                timestamp: event.timestamp,
                client: event.client.map(|client| ClientKey {
                    key: client.key,
                    content_hash: client.content_hash.into(),
                }),
                category: event.category,
                name: event.name,
                meta: event.meta,
                data: event.data,
            }))
        }
        (KIND_REGISTRY, 1) => {
            let record: RegistryV1<'_> = options()
                .deserialize(body)
                .map_err(|e| format!("a registry record: {e}"))?;
            let change = match record.change {
                ChangeV1::Registered { application, name } => RegistryChange::Registered {
                    application: ApplicationId(application),
                    name: name.to_owned(),
                },
                ChangeV1::SetActive {
                    application,
                    active,
                } => RegistryChange::SetActive {
                    application: ApplicationId(application),
                    active,
                },
                ChangeV1::Issued {
                    token,
                    kind,
                    application,
                    hash,
                } => RegistryChange::Issued(NewTokenRecord {
                    token: Uuid::from_bytes(token),
                    kind: kind_of_code(kind)
                        .ok_or_else(|| format!("a token of unknown kind {kind}"))?,
                    application: application.map(ApplicationId),
                    hash,
                }),
                ChangeV1::Revoked { token } => RegistryChange::Revoked {
                    token: Uuid::from_bytes(token),
                },
            };
            let (by, request) = (
                Uuid::from_bytes(record.by),
                Uuid::from_bytes(record.request),
            );
            Ok(Record::Registry(RegistryRecord {
                at: record.at,
                by,
                request,
                change,
            }))
        }
        (kind, version) => Err(format!(
            "a record of kind {kind}, version {version}, which this program does not know"
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event() -> EventRecord<'static> {
        EventRecord {
            id: Uuid::from_u128(1),
            received_at: 2,
            application: ApplicationId(3),
            session_id: Uuid::from_u128(4),
            timestamp: -5,
            client: Some(ClientKey {
                key: "k",
                content_hash: [6; 16],
            }),
            category: "c",
            name: "n",
            meta: "",
            data: "{\"a\":1}",
        }
    }

    #[test]
    fn an_event_comes_back_as_it_was_and_the_stamp_hits_its_place() {
        let mut bytes = Vec::new();
        push_event(&mut bytes, &event());
        assert_eq!(decode(&bytes).unwrap(), Record::Event(event()));
        assert_eq!(timestamp_of_event(&bytes), -5);
        stamp_event(&mut bytes, Some(Uuid::from_u128(77)), 88);
        let stamped = EventRecord {
            id: Uuid::from_u128(77),
            received_at: 88,
            ..event()
        };
        assert_eq!(decode(&bytes).unwrap(), Record::Event(stamped));
    }

    #[test]
    fn hostile_bytes_are_errors_not_aborts() {
        let mut bytes = Vec::new();
        push_event(&mut bytes, &event());
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let _ = decode(&changed);
            }
            assert!(decode(&bytes[..at]).is_err());
        }
        bytes.push(0);
        assert!(decode(&bytes).is_err(), "trailing bytes");
    }

    #[test]
    fn registry_records_come_back_as_they_were() {
        let issued = NewTokenRecord {
            token: Uuid::from_u128(1),
            kind: TokenKind::Application {
                read: false,
                write: true,
            },
            application: Some(ApplicationId(4)),
            hash: [5; 32],
        };
        for change in [
            RegistryChange::Registered {
                application: ApplicationId(1),
                name: "é".into(),
            },
            RegistryChange::SetActive {
                application: ApplicationId(1),
                active: false,
            },
            RegistryChange::Issued(issued),
            RegistryChange::Revoked {
                token: Uuid::from_u128(9),
            },
        ] {
            let record = RegistryRecord {
                at: 1,
                by: Uuid::nil(),
                request: Uuid::from_u128(2),
                change,
            };
            let mut bytes = Vec::new();
            push_registry(&mut bytes, &record);
            assert_eq!(decode(&bytes).unwrap(), Record::Registry(record));
        }
    }
}
