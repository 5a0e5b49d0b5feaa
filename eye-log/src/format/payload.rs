//! Records inside a frame: kind, version, and one flat struct in bincode 1.3.3's fixed little-endian layout.
//!
//! What must stay true: a published struct is never edited, only followed by the next version. Decoding takes bytes
//! whose checksum held, with a limit and no trailing bytes.

use bincode::Options as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::FRAME_BODY_MAX_BYTES;
use crate::ids::server_made_id;
use crate::offset::Offset;
use crate::record::{
    BlockChange, ClientKey, ErasureRecord, ErasureState, EventRecord, MaintenanceRecord, Note,
    Reason, Record, RegistryRecord, TallyRecord,
};
use crate::registry::{
    ApplicationId, Limits, NewTokenRecord, RegistryChange, RuleMode, RuleTarget, TokenKind,
    TokenTerms,
};

const KIND_GONE: u8 = 0;
const KIND_EVENT: u8 = 1;
const KIND_REGISTRY: u8 = 2;
const KIND_MAINTENANCE: u8 = 3;
const KIND_ERASURE: u8 = 4;
const KIND_TALLY: u8 = 5;
const VERSION: u8 = 1;
/// Limits of an application came with a second layout of registry records.
const LIMITS_VERSION: u8 = 2;
/// The terms of a token came with a third.
const TERMS_VERSION: u8 = 3;
/// Rules came with a fourth.
const RULES_VERSION: u8 = 4;

/// Where an event record says its id; 16 bytes.
const ID_AT: usize = 2;
/// Where an event record says its arrival; 8 bytes.
const RECEIVED_AT: usize = ID_AT + 16;

/// Where an event record says its session; 16 bytes, behind arrival and application.
const SESSION_AT: usize = RECEIVED_AT + 8 + 4;
/// Where an event record says, in one byte, whether its client made an id; the key's length and the key follow, then
/// the content hash.
const CLIENT_AT: usize = SESSION_AT + 16 + 8;

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

#[derive(Serialize, Deserialize)]
struct RegistryV2 {
    at: i64,
    by: [u8; 16],
    request: [u8; 16],
    change: ChangeV2,
}

#[derive(Serialize, Deserialize)]
enum ChangeV2 {
    SetLimits {
        application: u32,
        retention_days: Option<u32>,
        max_bytes: Option<u64>,
        rate: Option<u32>,
    },
}

#[derive(Serialize, Deserialize)]
struct RegistryV3<'a> {
    at: i64,
    by: [u8; 16],
    request: [u8; 16],
    #[serde(borrow)]
    change: ChangeV3<'a>,
}

#[derive(Serialize, Deserialize)]
enum ChangeV3<'a> {
    Issued {
        token: [u8; 16],
        kind: u8,
        application: Option<u32>,
        hash: [u8; 32],
        expires_at: Option<i64>,
        #[serde(borrow)]
        origins: Vec<&'a str>,
    },
}

#[derive(Serialize, Deserialize)]
struct RegistryV4<'a> {
    at: i64,
    by: [u8; 16],
    request: [u8; 16],
    category: &'a str,
    name: &'a str,
    application: Option<u32>,
    #[serde(borrow)]
    change: ChangeV4<'a>,
}

#[derive(Serialize, Deserialize)]
enum ChangeV4<'a> {
    RuleSet { enforce: bool, schema: &'a str },
    RuleRemoved,
}

#[derive(Serialize, Deserialize)]
struct MaintenanceV1 {
    at: i64,
    by: [u8; 16],
    request: [u8; 16],
    reason: u8,
    erasure: Option<[u8; 16]>,
    records: u64,
    blocks: Vec<(u64, [u8; 32], [u8; 32])>,
}

#[derive(Serialize, Deserialize)]
struct ErasureV1<'a> {
    at: i64,
    by: [u8; 16],
    request: [u8; 16],
    id: [u8; 16],
    done: bool,
    filter: [u8; 16],
    sessions: Vec<[u8; 16]>,
    ranges: Vec<(u64, u64)>,
    events: u64,
    certificate: &'a str,
}

#[derive(Serialize, Deserialize)]
struct TallyV1 {
    at: i64,
    application: Option<u32>,
    duplicates: u64,
    rejected: u64,
    unauthenticated: u64,
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
    push_versioned(out, kind, VERSION, value);
}

fn push_versioned(out: &mut Vec<u8>, kind: u8, version: u8, value: &impl Serialize) {
    out.extend_from_slice(&[kind, version]);
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

/// Appends what stands in for a record that is gone.
pub fn push_gone(out: &mut Vec<u8>, reason: Reason) {
    out.extend_from_slice(&[KIND_GONE, reason.code()]);
}

/// Appends a record as a block keeps it: in an event record of the frame that arrived at `appended_at`, zeros stand
/// for the arrival, for an id that the server made, and for the content hash, which [`decode_arrived`] or the event itself
/// give back. What could not be given back stays.
pub fn push_stripped(out: &mut Vec<u8>, record: &[u8], appended_at: i64, server_made: Uuid) {
    let start = out.len();
    out.extend_from_slice(record);
    let record = &mut out[start..];
    if !is_event(record) || record.len() <= CLIENT_AT {
        return;
    }
    if super::i64_at(record, RECEIVED_AT) == appended_at {
        record[RECEIVED_AT..RECEIVED_AT + 8].fill(0);
    }
    if record[CLIENT_AT] == 0 {
        if record[ID_AT..RECEIVED_AT] == *server_made.as_bytes() {
            record[ID_AT..RECEIVED_AT].fill(0);
        }
        return;
    }
    let key_at = CLIENT_AT + 1 + 8;
    if record.len() >= key_at {
        let key = usize::try_from(super::u64_at(record, CLIENT_AT + 1)).unwrap_or(usize::MAX);
        let hash = key_at.saturating_add(key)..key_at.saturating_add(key).saturating_add(16);
        if let Some(hash) = record.get_mut(hash) {
            hash.fill(0);
        }
    }
}

/// What an encoded event record says at fixed places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventHead {
    /// Whose it is.
    pub application: ApplicationId,
    /// Its session.
    pub session_id: Uuid,
    /// When it happened, unix microseconds.
    pub timestamp: i64,
    /// Its id, where the client made one.
    pub client_made_id: Option<Uuid>,
}

/// Returns what an event record says at fixed places, without decoding the rest; `None` for other records.
pub fn event_head(record: &[u8]) -> Option<EventHead> {
    if !is_event(record) || record.len() <= CLIENT_AT {
        return None;
    }
    Some(EventHead {
        application: ApplicationId(super::u32_at(record, RECEIVED_AT + 8)),
        session_id: Uuid::from_bytes(super::bytes_at(record, SESSION_AT)),
        timestamp: super::i64_at(record, SESSION_AT + 16),
        client_made_id: (record[CLIENT_AT] != 0)
            .then(|| Uuid::from_bytes(super::bytes_at(record, ID_AT))),
    })
}

/// Appends a record about the log itself.
pub fn push_note(out: &mut Vec<u8>, note: &Note) {
    match note {
        Note::Maintenance(record) => {
            let value = MaintenanceV1 {
                at: record.at,
                by: record.by.into_bytes(),
                request: record.request.into_bytes(),
                reason: record.reason.code(),
                erasure: record.erasure.map(Uuid::into_bytes),
                records: record.records,
                blocks: record
                    .blocks
                    .iter()
                    .map(|block| (block.first, block.old, block.new))
                    .collect(),
            };
            push(out, KIND_MAINTENANCE, &value);
        }
        Note::Erasure(record) => {
            let value = ErasureV1 {
                at: record.at,
                by: record.by.into_bytes(),
                request: record.request.into_bytes(),
                id: record.id.into_bytes(),
                done: record.state == ErasureState::Done,
                filter: record.filter,
                sessions: record.sessions.clone(),
                ranges: record.ranges.clone(),
                events: record.events,
                certificate: &record.certificate,
            };
            push(out, KIND_ERASURE, &value);
        }
        Note::Tally(record) => {
            let value = TallyV1 {
                at: record.at,
                application: record.application.map(|application| application.0),
                duplicates: record.duplicates,
                rejected: record.rejected,
                unauthenticated: record.unauthenticated,
            };
            push(out, KIND_TALLY, &value);
        }
    }
}

/// Appends a registry record.
pub fn push_registry(out: &mut Vec<u8>, record: &RegistryRecord) {
    let (by, request) = (record.by.into_bytes(), record.request.into_bytes());
    let change = match &record.change {
        RegistryChange::SetLimits {
            application,
            limits,
        } => {
            let value = RegistryV2 {
                at: record.at,
                by,
                request,
                change: ChangeV2::SetLimits {
                    application: application.0,
                    retention_days: limits.retention_days,
                    max_bytes: limits.max_bytes,
                    rate: limits.rate,
                },
            };
            return push_versioned(out, KIND_REGISTRY, LIMITS_VERSION, &value);
        }
        RegistryChange::RuleSet { target, .. } | RegistryChange::RuleRemoved { target } => {
            let value = RegistryV4 {
                at: record.at,
                by,
                request,
                category: &target.category,
                name: &target.name,
                application: target.application.map(|application| application.0),
                change: match &record.change {
                    RegistryChange::RuleSet { mode, schema, .. } => ChangeV4::RuleSet {
                        enforce: *mode == RuleMode::Enforce,
                        schema,
                    },
                    _ => ChangeV4::RuleRemoved,
                },
            };
            return push_versioned(out, KIND_REGISTRY, RULES_VERSION, &value);
        }
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
        RegistryChange::Issued(issued) if issued.terms != TokenTerms::default() => {
            let value = RegistryV3 {
                at: record.at,
                by,
                request,
                change: ChangeV3::Issued {
                    token: issued.token.into_bytes(),
                    kind: kind_code(issued.kind),
                    application: issued.application.map(|application| application.0),
                    hash: issued.hash,
                    expires_at: issued.terms.expires_at,
                    origins: issued.terms.origins.iter().map(String::as_str).collect(),
                },
            };
            return push_versioned(out, KIND_REGISTRY, TERMS_VERSION, &value);
        }
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
        by,
        request,
        change,
    };
    push(out, KIND_REGISTRY, &value);
}

/// Says whether a record is an event, without decoding it.
pub fn is_event(record: &[u8]) -> bool {
    record.first() == Some(&KIND_EVENT)
}

/// Decodes a record of a frame that arrived at `appended_at`, and gives an event what zeros stand for: its arrival, and the
/// id that the server made of that and its offset.
pub fn decode_arrived(
    bytes: &[u8],
    appended_at: i64,
    offset: Offset,
) -> Result<Record<'_>, String> {
    let mut record = decode(bytes)?;
    if let Record::Event(event) = &mut record {
        if event.received_at == 0 {
            event.received_at = appended_at;
        }
        if event.client.is_none() && event.id.is_nil() {
            event.id = server_made_id(appended_at, offset);
        }
    }
    Ok(record)
}

/// Decodes a record as it is encoded, or says what is wrong with it.
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
                    terms: TokenTerms::default(),
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
        (KIND_REGISTRY, LIMITS_VERSION) => {
            let record: RegistryV2 = options()
                .deserialize(body)
                .map_err(|e| format!("a registry record: {e}"))?;
            let ChangeV2::SetLimits {
                application,
                retention_days,
                max_bytes,
                rate,
            } = record.change;
            Ok(Record::Registry(RegistryRecord {
                at: record.at,
                by: Uuid::from_bytes(record.by),
                request: Uuid::from_bytes(record.request),
                change: RegistryChange::SetLimits {
                    application: ApplicationId(application),
                    limits: Limits {
                        retention_days,
                        max_bytes,
                        rate,
                    },
                },
            }))
        }
        (KIND_REGISTRY, TERMS_VERSION) => {
            let record: RegistryV3<'_> = options()
                .deserialize(body)
                .map_err(|e| format!("a registry record: {e}"))?;
            let ChangeV3::Issued {
                token,
                kind,
                application,
                hash,
                expires_at,
                origins,
            } = record.change;
            Ok(Record::Registry(RegistryRecord {
                at: record.at,
                by: Uuid::from_bytes(record.by),
                request: Uuid::from_bytes(record.request),
                change: RegistryChange::Issued(NewTokenRecord {
                    token: Uuid::from_bytes(token),
                    kind: kind_of_code(kind)
                        .ok_or_else(|| format!("a token of unknown kind {kind}"))?,
                    application: application.map(ApplicationId),
                    hash,
                    terms: TokenTerms {
                        expires_at,
                        origins: origins.into_iter().map(str::to_owned).collect(),
                    },
                }),
            }))
        }
        (KIND_REGISTRY, RULES_VERSION) => {
            let record: RegistryV4<'_> = options()
                .deserialize(body)
                .map_err(|e| format!("a registry record: {e}"))?;
            let target = RuleTarget {
                category: record.category.to_owned(),
                name: record.name.to_owned(),
                application: record.application.map(ApplicationId),
            };
            let change = match record.change {
                ChangeV4::RuleSet { enforce, schema } => RegistryChange::RuleSet {
                    target,
                    mode: if enforce {
                        RuleMode::Enforce
                    } else {
                        RuleMode::Warn
                    },
                    schema: schema.to_owned(),
                },
                ChangeV4::RuleRemoved => RegistryChange::RuleRemoved { target },
            };
            Ok(Record::Registry(RegistryRecord {
                at: record.at,
                by: Uuid::from_bytes(record.by),
                request: Uuid::from_bytes(record.request),
                change,
            }))
        }
        (KIND_GONE, code) if body.is_empty() => Reason::of_code(code)
            .map(Record::Gone)
            .ok_or_else(|| format!("a record that is gone for unknown reason {code}")),
        (KIND_MAINTENANCE, 1) => maintenance(body).map(Record::Maintenance),
        (KIND_ERASURE, 1) => erasure(body).map(Record::Erasure),
        (KIND_TALLY, 1) => {
            let record: TallyV1 = options()
                .deserialize(body)
                .map_err(|e| format!("a tally record: {e}"))?;
            Ok(Record::Tally(TallyRecord {
                at: record.at,
                application: record.application.map(ApplicationId),
                duplicates: record.duplicates,
                rejected: record.rejected,
                unauthenticated: record.unauthenticated,
            }))
        }
        (kind, version) => Err(format!(
            "a record of kind {kind}, version {version}, which this program does not know"
        )),
    }
}

fn maintenance(body: &[u8]) -> Result<MaintenanceRecord, String> {
    let record: MaintenanceV1 = options()
        .deserialize(body)
        .map_err(|e| format!("a maintenance record: {e}"))?;
    let reason = Reason::of_code(record.reason)
        .ok_or_else(|| format!("a maintenance record of unknown reason {}", record.reason))?;
    Ok(MaintenanceRecord {
        at: record.at,
        by: Uuid::from_bytes(record.by),
        request: Uuid::from_bytes(record.request),
        reason,
        erasure: record.erasure.map(Uuid::from_bytes),
        records: record.records,
        blocks: record
            .blocks
            .into_iter()
            .map(|(first, old, new)| BlockChange { first, old, new })
            .collect(),
    })
}

fn erasure(body: &[u8]) -> Result<ErasureRecord, String> {
    let record: ErasureV1<'_> = options()
        .deserialize(body)
        .map_err(|e| format!("an erasure record: {e}"))?;
    Ok(ErasureRecord {
        at: record.at,
        by: Uuid::from_bytes(record.by),
        request: Uuid::from_bytes(record.request),
        id: Uuid::from_bytes(record.id),
        state: if record.done {
            ErasureState::Done
        } else {
            ErasureState::Requested
        },
        filter: record.filter,
        sessions: record.sessions,
        ranges: record.ranges,
        events: record.events,
        certificate: record.certificate.to_owned(),
    })
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
    fn an_event_comes_back_as_it_was_and_gets_what_its_frame_says() {
        let encoded = |event: &EventRecord<'_>| {
            let mut bytes = Vec::new();
            push_event(&mut bytes, event);
            bytes
        };
        let bytes = encoded(&event());
        assert_eq!(decode(&bytes).unwrap(), Record::Event(event()));
        assert_eq!(event_head(&bytes).unwrap().timestamp, -5);
        // What it says itself stays, and so does a client's id of zeros.
        let said = decode_arrived(&bytes, 88, 7).unwrap();
        assert_eq!(said, Record::Event(event()));
        let zeros = EventRecord {
            id: Uuid::nil(),
            received_at: 0,
            ..event()
        };
        let arrived = EventRecord {
            received_at: 88,
            ..zeros
        };
        let bytes = encoded(&zeros);
        let said = decode_arrived(&bytes, 88, 7).unwrap();
        assert_eq!(said, Record::Event(arrived));
        let made = EventRecord {
            client: None,
            ..zeros
        };
        let arrived = EventRecord {
            id: server_made_id(88, 7),
            received_at: 88,
            ..made
        };
        let bytes = encoded(&made);
        let said = decode_arrived(&bytes, 88, 7).unwrap();
        assert_eq!(said, Record::Event(arrived));
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

    /// What stands in the log may not change with the program that reads it.
    #[test]
    fn a_rule_has_the_bytes_that_the_format_says() {
        let record = RegistryRecord {
            at: 1,
            by: Uuid::from_u128(2),
            request: Uuid::from_u128(3),
            change: RegistryChange::RuleSet {
                target: RuleTarget {
                    category: "c".into(),
                    name: "nn".into(),
                    application: Some(ApplicationId(4)),
                },
                mode: RuleMode::Enforce,
                schema: "{}".into(),
            },
        };
        let mut bytes = Vec::new();
        push_registry(&mut bytes, &record);
        let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
        let expected = [
            &[2, 4][..],
            &1i64.to_le_bytes(),
            &2u128.to_be_bytes(),
            &3u128.to_be_bytes(),
            &text("c"),
            &text("nn"),
            &[1],
            &4u32.to_le_bytes(),
            &0u32.to_le_bytes(),
            &[1],
            &text("{}"),
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn registry_records_come_back_as_they_were() {
        let issued = |terms| NewTokenRecord {
            token: Uuid::from_u128(1),
            kind: TokenKind::Application {
                read: false,
                write: true,
            },
            application: Some(ApplicationId(4)),
            hash: [5; 32],
            terms,
        };
        let target = |application| RuleTarget {
            category: "c".into(),
            name: "n/é".into(),
            application,
        };
        let terms = TokenTerms {
            expires_at: Some(-7),
            origins: vec!["https://é.example".into(), String::new()],
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
            RegistryChange::Issued(issued(TokenTerms::default())),
            RegistryChange::Issued(issued(terms)),
            RegistryChange::Revoked {
                token: Uuid::from_u128(9),
            },
            RegistryChange::RuleSet {
                target: target(None),
                mode: RuleMode::Enforce,
                schema: "{\"é\":1}".into(),
            },
            RegistryChange::RuleSet {
                target: target(Some(ApplicationId(7))),
                mode: RuleMode::Warn,
                schema: "true".into(),
            },
            RegistryChange::RuleRemoved {
                target: target(None),
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
