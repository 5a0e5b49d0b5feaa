//! The bytes of raw segments, pinned: fixed inputs must give the hashes below for ever.
//!
//! What must stay true: when a test here fails, the code is wrong, not the hash. New bytes are a new version, beside
//! these (`docs/log-format.md`, "Versions").

#![allow(clippy::unwrap_used)]

use uuid::Uuid;

use super::frame::{self, FrameHeader};
use super::segment_header::SegmentHeader;
use super::{aligned, checksum, file_name, payload};
use crate::event::{EventDraft, EventRules};
use crate::ids::{id_from_client_key, server_made_id};
use crate::record::{ClientKey, EventRecord, RegistryRecord};
use crate::registry::{ApplicationId, NewTokenRecord, RegistryChange, TokenKind, TokenTerms};

const SALT: u32 = 0x1234_5678;
const BASE: u64 = 42;
const ARRIVAL: i64 = 1_609_492_527_243_860;
const SESSION: Uuid = Uuid::from_u128(0xe208_5be5_9137_4e4e_80b5_f1ff_ddc2_5423);

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn segment_header(version: u32) -> SegmentHeader {
    SegmentHeader {
        version,
        store: Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef),
        base: BASE,
        created_at: ARRIVAL - 1,
        salt: SALT,
    }
}

fn event() -> EventRecord<'static> {
    EventRecord {
        id: server_made_id(ARRIVAL, BASE),
        received_at: ARRIVAL,
        application: ApplicationId(7),
        session_id: SESSION,
        timestamp: -62_135_596_800_000_000,
        client: None,
        category: "c",
        name: "é",
        meta: "",
        data: "{\"a\": 1e400}",
    }
}

/// As frames of a version hold them.
fn events(frame_version: u32) -> Vec<Vec<u8>> {
    let keyed = EventRecord {
        id: id_from_client_key(ApplicationId(7), "order-1"),
        client: Some(ClientKey {
            key: "order-1",
            content_hash: [0xa5; 16],
        }),
        meta: "{\"protocol\":\"x\"}",
        ..event()
    };
    let brought = EventRecord {
        id: Uuid::from_u128(5),
        client: Some(ClientKey {
            key: "",
            content_hash: [0x5a; 16],
        }),
        ..event()
    };
    let encoded = |mut event: EventRecord<'_>| {
        if frame_version == 2 {
            event.received_at = 0;
            if event.client.is_none() {
                event.id = Uuid::nil();
            }
        }
        let mut bytes = Vec::new();
        payload::push_event(&mut bytes, &event);
        bytes
    };
    [event(), keyed, brought].map(encoded).into()
}

fn registry_changes() -> Vec<Vec<u8>> {
    let application = ApplicationId(0);
    let issued = |kind, application| {
        RegistryChange::Issued(NewTokenRecord {
            token: Uuid::from_u128(9),
            kind,
            application,
            hash: [3; 32],
            terms: TokenTerms::default(),
        })
    };
    let of_application = |read, write| {
        issued(
            TokenKind::Application { read, write },
            Some(ApplicationId(0)),
        )
    };
    let changes = [
        RegistryChange::Registered {
            application,
            name: "Café".into(),
        },
        RegistryChange::SetActive {
            application,
            active: false,
        },
        RegistryChange::SetActive {
            application,
            active: true,
        },
        issued(TokenKind::Admin, None),
        issued(TokenKind::Analyst, None),
        of_application(false, false),
        of_application(true, false),
        of_application(false, true),
        of_application(true, true),
        RegistryChange::Revoked {
            token: Uuid::from_u128(9),
        },
    ];
    let encoded = |change: RegistryChange| {
        let mut bytes = Vec::new();
        let record = RegistryRecord {
            at: ARRIVAL,
            by: Uuid::from_u128(8),
            request: Uuid::from_u128(1),
            change,
        };
        payload::push_registry(&mut bytes, &record);
        bytes
    };
    changes.into_iter().map(encoded).collect()
}

/// Three frames in a row: events, registry changes, nothing. Returns where each begins, and the last checksum.
fn frames(version: u32) -> (Vec<u8>, Vec<(u64, u64)>, u32) {
    let (mut out, mut starts) = (Vec::new(), Vec::new());
    let (mut previous, mut first_offset) = (segment_header(1).chain_start(), BASE);
    for records in [events(version), registry_changes(), Vec::new()] {
        starts.push((first_offset, 4096 + out.len() as u64));
        let mut header = FrameHeader {
            version,
            body_bytes: 0,
            count: 0,
            first_offset,
            appended_at: ARRIVAL,
            durable_end: BASE,
            table_checksum: 0,
            previous,
            duplicates: 2,
            rejected: 1,
        };
        let records = records.iter().map(Vec::as_slice);
        previous = frame::push(&mut out, &mut header, records, SALT);
        first_offset = header.end_offset();
        assert_eq!(out.len(), aligned(out.len()));
    }
    (out, starts, previous)
}

#[test]
fn the_bytes_of_version_1_never_change() {
    let written = [
        ("segment header", hash(&segment_header(1).encode())),
        ("event records", hash(&events(1).concat())),
        ("registry records", hash(&registry_changes().concat())),
        ("frames", hash(&frames(1).0)),
    ];
    let pinned = [
        (
            "segment header",
            "d67eceda86495a3273334a605c5f9dc2e8d4d163c09cbb885002b1203b836725",
        ),
        (
            "event records",
            "158959186c0dae0a4f7fa24de815903c713ae95e8d175740e261e0428147029f",
        ),
        (
            "registry records",
            "5c424c6c1d3f191a9c6418e8f82abf3bde0903ec17f92999f07d50a69a9878da",
        ),
        (
            "frames",
            "715e50658c1a9e985b27c6c60fe906156ff90921732c679fde571765d686a519",
        ),
    ];
    assert_eq!(
        written,
        pinned.map(|(what, hash)| (what, hash.to_owned())),
        "the bytes of version 1 drifted; old logs would be read wrong"
    );
    assert_eq!(file_name::segment(BASE), "00000000000000000042.seg");
}

#[test]
fn the_bytes_of_version_3_never_change() {
    let written = [
        hash(&segment_header(3).encode()),
        hash(&events(2).concat()),
        hash(&frames(2).0),
    ];
    assert_eq!(
        written,
        [
            "5cb0d9328ca013715703b2b786ddb751dc42ee2b2fa3dba746cceea3831dc4d3",
            "84adbf50d2256eeea3138a2a093690964b0bed686b8724143b8e8f6fecca2730",
            "6585b6578da4f61c1358a73277b4003cc9ce0ee9c8e65ba193f88b629a87ce8a",
        ],
        "the bytes of version 3 drifted; logs would be read wrong"
    );
}

/// The figures that `docs/log-format.md` gives to whoever writes a reader.
#[test]
fn the_examples_of_the_document_hold() {
    assert_eq!(checksum(0, b"123456789"), 0xcbf4_3926);
    assert_eq!(checksum(SALT, b"123456789"), 0x01f4_807b);
    assert_eq!(checksum(SALT, b""), SALT);
    assert_eq!(segment_header(3).chain_start(), 0xb7ef_7606);
    assert_eq!(
        server_made_id(ARRIVAL, 77).to_string(),
        "0176bd3a-f88b-735c-8000-00000000004d"
    );
    assert_eq!(
        id_from_client_key(ApplicationId(7), "order-1").to_string(),
        "93352319-5fd5-56ad-b7b4-e41864ebbd9e"
    );
    let rules = EventRules {
        now: i64::MAX,
        future_tolerance: 0,
        default_offset_seconds: 0,
        event_max_bytes: 100,
        depth_max: 3,
    };
    let draft = EventDraft {
        session_id: Some("\"e2085be5-9137-4e4e-80b5-f1ffddc25423\""),
        category: Some("\"c\""),
        name: Some("\"é\""),
        data: Some("{\"a\": 1}"),
        timestamp: Some("\"2021-01-01 09:15:27.243860\""),
        ..EventDraft::default()
    };
    let content_hash = draft.validate(&rules).unwrap().content_hash();
    assert_eq!(
        Uuid::from_bytes(content_hash).simple().to_string(),
        "1bfcd59785bdfb8a3a5cd81a0d6f8000"
    );
}
