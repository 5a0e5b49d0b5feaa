//! The bytes of sealed files and manifests, pinned, and looked at with every bit flipped.
//!
//! What must stay true: when a hash here fails, the code is wrong, not the hash (`docs/log-format.md`, "Versions").

#![allow(clippy::unwrap_used)]

use uuid::Uuid;

use super::block::{BLOCK_HEADER_BYTES, Block, BlockBuilder, BlockHeader, Effort, FramePart};
use super::filter::{self, block_range, may_hold};
use super::keys::Keys;
use super::manifest::{Manifest, ManifestEntry};
use super::payload;
use super::seal::Seal;
use super::sealed_footer::{
    BlockEntry, ChangeEntry, Footer, IdEntry, LedgerEntry, PARTS, Part, SessionEntry, Summary,
    TRAILER_BYTES, Trailer,
};
use super::sealed_header::SealedHeader;
use super::{aligned, checksum};
use crate::ids::server_made_id;
use crate::record::{
    BlockChange, ClientKey, ErasureRecord, ErasureState, EventRecord, MaintenanceRecord, Note,
    Reason, Record, RegistryRecord, TallyRecord,
};
use crate::registry::{ApplicationId, Limits, RegistryChange};

const SALT: u32 = 0x1234_5678;
const BASE: u64 = 42;
const ARRIVAL: i64 = 1_609_492_527_243_860;
const STORE: Uuid = Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef);
const SESSION: Uuid = Uuid::from_u128(0xe208_5be5_9137_4e4e_80b5_f1ff_ddc2_5423);

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn event(offset: u64) -> EventRecord<'static> {
    EventRecord {
        id: server_made_id(ARRIVAL, offset),
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

fn keyed(id: u128, key: &'static str) -> EventRecord<'static> {
    let mut keyed = EventRecord {
        id: Uuid::from_u128(id),
        ..event(0)
    };
    let content_hash = keyed.content_hash();
    keyed.client = Some(ClientKey { key, content_hash });
    keyed
}

fn encoded(event: &EventRecord<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    payload::push_event(&mut bytes, event);
    bytes
}

fn notes() -> Vec<Note> {
    let (by, request, id) = (
        Uuid::from_u128(8),
        Uuid::from_u128(1),
        Uuid::from_u128(0xe1),
    );
    let maintenance = MaintenanceRecord {
        at: ARRIVAL,
        by,
        request,
        reason: Reason::Erased,
        erasure: Some(id),
        records: 3,
        blocks: vec![BlockChange {
            first: BASE,
            old: [1; 32],
            new: [2; 32],
        }],
    };
    let erasure = ErasureRecord {
        at: ARRIVAL,
        by,
        request,
        id,
        state: ErasureState::Requested,
        filter: [3; 16],
        sessions: vec![[4; 16], [5; 16]],
        ranges: vec![(42, 44), (50, 51)],
        events: 3,
        certificate: String::new(),
    };
    let done = ErasureRecord {
        state: ErasureState::Done,
        sessions: Vec::new(),
        ranges: Vec::new(),
        certificate: "{\"events\":3}".into(),
        ..erasure.clone()
    };
    let tally = |application| {
        Note::Tally(TallyRecord {
            at: ARRIVAL,
            application,
            duplicates: 1,
            rejected: 2,
            unauthenticated: 3,
        })
    };
    vec![
        Note::Maintenance(maintenance.clone()),
        Note::Maintenance(MaintenanceRecord {
            reason: Reason::Expired,
            erasure: None,
            blocks: Vec::new(),
            ..maintenance
        }),
        Note::Erasure(erasure),
        Note::Erasure(done),
        tally(Some(ApplicationId(7))),
        tally(None),
    ]
}

fn note_bytes() -> Vec<Vec<u8>> {
    let encoded = |note: &Note| {
        let mut bytes = Vec::new();
        payload::push_note(&mut bytes, note);
        bytes
    };
    notes().iter().map(encoded).collect()
}

fn limits() -> RegistryRecord {
    RegistryRecord {
        at: ARRIVAL,
        by: Uuid::from_u128(8),
        request: Uuid::from_u128(1),
        change: RegistryChange::SetLimits {
            application: ApplicationId(7),
            limits: Limits {
                retention_days: Some(30),
                max_bytes: None,
                rate: Some(1000),
            },
        },
    }
}

fn frame(goes_on: bool, refused: u32) -> FramePart {
    FramePart {
        count: 0,
        duplicates: refused,
        rejected: 2 * refused,
        goes_on,
        appended_at: ARRIVAL,
    }
}

/// What the frames of a raw segment gave, and what a block of them must give back.
fn records() -> Vec<Vec<u8>> {
    let mut records = vec![
        encoded(&event(BASE)),
        encoded(&keyed(5, "")),
        encoded(&keyed(6, "order-1")),
    ];
    records.push(note_bytes().swap_remove(4));
    records
}

/// A block that compresses, as bytes with its header, and its hash.
fn block() -> (Vec<u8>, [u8; 32]) {
    let mut builder = BlockBuilder::new(BASE, Effort::Quick).unwrap();
    builder.begin_frame(frame(true, 0));
    let records = records();
    builder.push(&records[0]);
    builder.begin_frame(frame(false, 1));
    records[1..].iter().for_each(|record| builder.push(record));
    builder.push_gone(Reason::Erased);
    let encoded = builder.finish(SALT, false).unwrap();
    assert_eq!((encoded.first, encoded.count), (BASE, 5));
    ([&encoded.header, encoded.stored].concat(), encoded.hash)
}

/// A block of one record that does not compress: its bytes depend on no version of zstd.
fn plain_block() -> Vec<u8> {
    let mut builder = BlockBuilder::new(BASE + 5, Effort::Quick).unwrap();
    builder.begin_frame(frame(false, 0));
    builder.push_gone(Reason::Expired);
    let encoded = builder.finish(SALT, false).unwrap();
    [&encoded.header, encoded.stored].concat()
}

fn footer() -> (Footer, Summary) {
    let keys = Keys::of(STORE);
    let print = |id| keys.id_print(ApplicationId(7), Uuid::from_u128(id));
    let mut ids = vec![IdEntry::new(print(5), 1), IdEntry::new(print(6), 2)];
    ids.sort_unstable();
    let entry = |first, position, bytes, count, gone| BlockEntry {
        first,
        position,
        bytes,
        raw_bytes: 500,
        count,
        gone,
        hash: [9; 32],
    };
    let footer = Footer {
        blocks: vec![
            entry(BASE, 4096, 300, 5, None),
            entry(BASE + 5, 0, 0, 100, Some(Reason::Expired)),
            entry(BASE + 105, 4400, 94, 1, None),
        ],
        controls: vec![45],
        sessions: vec![SessionEntry {
            key: keys.session(SESSION),
            application: ApplicationId(7),
        }],
        ids,
        seals: vec![Seal {
            first: BASE,
            end: BASE + 106,
            root: [7; 32],
            previous: Seal::BEFORE_THE_FIRST,
        }],
        changes: vec![ChangeEntry {
            first: BASE,
            hash: [8; 32],
            why: 200,
        }],
        ledger: vec![LedgerEntry {
            hour: 447_081,
            application: ApplicationId(7),
            stored: 104,
            duplicates: 1,
            rejected: 2,
            erased: 1,
            expired: 100,
            lost: 0,
            bytes: 321,
        }],
    };
    let summary = Summary {
        base: BASE,
        end: BASE + 106,
        blocks_end: 4496,
        events: 3,
        first_received_at: ARRIVAL,
        last_received_at: ARRIVAL,
        min_timestamp: event(0).timestamp,
        max_timestamp: event(0).timestamp,
    };
    (footer, summary)
}

fn header() -> SealedHeader {
    SealedHeader {
        store: STORE,
        base: BASE,
        end: BASE + 106,
        generation: 3,
        created_at: ARRIVAL - 1,
        salt: SALT,
    }
}

fn manifest() -> Manifest {
    Manifest {
        sequence: 9,
        store: STORE,
        durable_end: 200,
        files: vec![ManifestEntry {
            base: 0,
            end: 148,
            file_bytes: 5000,
            generation: 3,
            trailer_checksum: 0xabcd,
            controls: None,
        }],
    }
}

fn bytes_of(footer: &Footer, summary: &Summary) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut out = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    footer.write(summary, SALT, &mut out).unwrap();
    bytes
}

#[test]
fn the_bytes_of_sealed_files_never_change() {
    let (footer, summary) = footer();
    let mut registry = Vec::new();
    payload::push_registry(&mut registry, &limits());
    let written = [
        ("header", hash(&header().encode())),
        (
            "block",
            Uuid::from_slice(&block().1[..16])
                .unwrap()
                .simple()
                .to_string(),
        ),
        ("plain block", hash(&plain_block())),
        ("footer", hash(&bytes_of(&footer, &summary))),
        ("manifest", hash(&manifest().encode())),
        ("notes", hash(&note_bytes().concat())),
        ("limits", hash(&registry)),
        ("seal", hash(&footer.seals[0].hash(STORE))),
    ];
    let pinned = [
        (
            "header",
            "b6b69933a167af20b7ed312d1d7657819cf8ff09de6149e98312a432bfc8c1a7",
        ),
        ("block", "ce6c8868b43ae55a3f0fdb22eb722ee3"),
        (
            "plain block",
            "c73784e6d6b7e3ccc025b9aa081fe634c584888527953f4589f87449907cecf3",
        ),
        (
            "footer",
            "e701095d491d854cfb98aea9ed8202869324f0b29efad25c33ea778cedb7cc63",
        ),
        (
            "manifest",
            "89b2ccdc6863aebec76b53c5373715f41ed021382f602999620dad35dc4611db",
        ),
        (
            "notes",
            "f894bfec846a7d7b47773413553641d5209be4e040974febf4e31b94c98c2306",
        ),
        (
            "limits",
            "6cbdbec8a0035afb5969fdf7ae9cb4b0bc2891c7fb0f92d10ad28f6870990e0a",
        ),
        (
            "seal",
            "f375ae9b72c0ad8c618aad4f3b97dd29768112872a3ffef94de9061e3bff7e28",
        ),
    ];
    assert_eq!(
        written,
        pinned.map(|(what, hash)| (what, hash.to_owned())),
        "the bytes drifted; old logs would be read wrong"
    );
}

/// The figures that `docs/log-format.md` gives to whoever writes a reader.
#[test]
fn the_examples_of_the_document_hold() {
    let keys = Keys::of(STORE);
    let hexadecimal = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let key = keys.session(SESSION);
    assert_eq!(hexadecimal(&key), "7bd11ff07d59e76fdf1ffd129fa9ef3a");
    let print = keys.id_print(ApplicationId(7), SESSION);
    assert_eq!(format!("{print:011x}"), "3718d7a6631");
    let bits = |hash: u64| {
        let filter = filter::build([hash].into_iter());
        (0..512usize)
            .filter(move |bit| filter[bit / 8] & 1 << (bit % 8) != 0)
            .collect::<Vec<_>>()
    };
    let (session, id) = (filter::session_hash(&key), filter::id_hash(print));
    assert_eq!(
        (block_range(session, 640).start, block_range(id, 640).start),
        (256, 512)
    );
    assert_eq!(bits(session), [139, 275, 324, 335, 340, 459]);
    assert_eq!(bits(id), [202, 336, 356, 375, 484, 505]);
}

#[test]
fn a_block_gives_back_what_its_frames_said() {
    let (bytes, hash) = block();
    let block = Block::decode(&bytes, SALT).unwrap();
    let read: Vec<_> = block.records().collect();
    for ((offset, record), expected) in read.iter().zip((BASE..).zip(records())) {
        let arrived = block.arrived_at(*offset);
        let decoded = payload::decode_arrived(record, arrived, *offset).unwrap();
        assert_eq!(*offset, expected.0);
        match (decoded, payload::decode(&expected.1).unwrap()) {
            (Record::Event(read), Record::Event(written)) => {
                assert_eq!(read.content_hash(), written.content_hash());
                let client = read.client.map(|client| client.key);
                assert_eq!(client, written.client.map(|client| client.key));
                let client = written.client;
                assert_eq!(EventRecord { client, ..read }, written);
            }
            (read, written) => assert_eq!(read, written),
        }
    }
    assert_eq!(
        payload::decode(read[4].1).unwrap(),
        Record::Gone(Reason::Erased)
    );
    let frames: Vec<_> = block
        .frames
        .iter()
        .map(|(start, part)| (*start, part.count, part.goes_on, part.rejected))
        .collect();
    assert_eq!(frames, [(0, 1, true, 0), (1, 4, false, 2)]);
    assert_eq!(Block::decode_hashed(&bytes, SALT).unwrap().1, hash);

    // Made again from what it gave back, it is the same block: rewriting changes nothing that stays.
    let mut builder = BlockBuilder::new(BASE, Effort::Quick).unwrap();
    for (place, (_, record)) in read.iter().enumerate() {
        if let Some((_, part)) = block.frames.iter().find(|(start, _)| *start == place) {
            builder.begin_frame(*part);
        }
        builder.push(record);
    }
    assert_eq!(builder.finish(SALT, false).unwrap().hash, hash);
}

#[test]
fn a_frame_that_does_not_fit_goes_on_in_the_next_block() {
    let mut builder = BlockBuilder::new(BASE, Effort::Quick).unwrap();
    builder.begin_frame(frame(false, 1));
    builder.push(&encoded(&event(BASE)));
    let first = builder.finish(SALT, true).unwrap();
    let first = [&first.header, first.stored].concat();
    builder.push(&encoded(&event(BASE + 1)));
    let second = builder.finish(SALT, false).unwrap();
    let second = [&second.header, second.stored].concat();
    let part = |bytes: &[u8]| Block::decode(bytes, SALT).unwrap().frames[0].1;
    assert_eq!(
        part(&first),
        FramePart {
            count: 1,
            ..frame(false, 1)
        }
    );
    assert_eq!(
        part(&second),
        FramePart {
            count: 1,
            ..frame(true, 0)
        }
    );
    let second = Block::decode(&second, SALT).unwrap();
    let record = second.record_at(BASE + 1);
    let arrived = second.arrived_at(BASE + 1);
    assert_eq!(
        payload::decode_arrived(record, arrived, BASE + 1).unwrap(),
        Record::Event(event(BASE + 1))
    );
    assert!(second.holds(BASE + 1) && !second.holds(BASE));
}

#[test]
fn a_block_is_decoded_as_far_as_a_record_and_no_further() {
    let mut builder = BlockBuilder::new(BASE, Effort::Thorough).unwrap();
    let mut dice = Dice(1);
    let mut end = BASE;
    while !builder.is_full() {
        if (end - BASE).is_multiple_of(7) {
            builder.begin_frame(frame(false, 0));
        }
        let text: String = (0..dice.roll(60))
            .map(|_| ["one ", "two ", "three ", "4711 ", "é "][dice.roll(5)])
            .collect();
        let record = event(end);
        let data = format!("{{\"text\":\"{text}{}\"}}", dice.roll(1 << 20));
        builder.push(&encoded(&EventRecord {
            data: &data,
            ..record
        }));
        end += 1;
    }
    let encoded = builder.finish(SALT, false).unwrap();
    let bytes = [&encoded.header, encoded.stored].concat();
    let whole = Block::decode(&bytes, SALT).unwrap();
    assert!(whole.holds(end - 1) && whole.end() == end);
    for last in (BASE..end).chain([BASE - 1, end, u64::MAX]) {
        let part = Block::decode_through(&bytes, SALT, last).unwrap();
        assert_eq!((part.count(), part.end()), (whole.count(), end));
        assert_eq!(part.frames, whole.frames);
        assert_eq!(part.arrived_at(end - 1), whole.arrived_at(end - 1));
        let records: Vec<_> = part.records().collect();
        let there: Vec<_> = whole.records().take(records.len()).collect();
        assert!(records == there, "through {last}");
        for offset in BASE..end {
            let held = offset < BASE + records.len() as u64;
            assert!(part.has(offset) && part.holds(offset) == held, "{offset}");
        }
        assert!(last >= end || last < BASE || part.holds(last), "{last}");
        if last < BASE + whole.count() as u64 / 2 {
            assert!(!part.holds(end - 1), "through {last}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_block_is_noticed() {
    for mut bytes in [block().0, plain_block()] {
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Block::decode(&bytes, SALT).is_err(), "bit {bit}");
            assert!(
                Block::decode_through(&bytes, SALT, BASE).is_err(),
                "bit {bit}"
            );
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for length in 0..bytes.len() {
            assert!(
                Block::decode(&bytes[..length], SALT).is_err(),
                "{length} bytes"
            );
        }
        assert!(Block::decode(&bytes, SALT + 1).is_err(), "another file's");
    }
}

/// Everything that a footer's bytes say, each part checked as a reader does.
fn read_footer(bytes: &[u8], blocks_end: u64) -> Result<String, String> {
    let at = bytes.len().checked_sub(TRAILER_BYTES).ok_or("short")?;
    let trailer = Trailer::decode(&bytes[at..], SALT)?;
    if trailer.file_bytes() != Some(blocks_end + bytes.len() as u64) {
        return Err("another length".into());
    }
    let mut said = format!("{:?}", trailer.summary);
    for part in PARTS {
        let (position, length) = trailer.place(part);
        let start = usize::try_from(position - blocks_end).unwrap();
        let part_bytes = bytes.get(start..start + length).ok_or("beyond the end")?;
        if !trailer.holds(part, part_bytes, SALT) {
            return Err(format!("{part}"));
        }
        said += &match part {
            Part::Blocks => format!(
                "{:?}",
                BlockEntry::decode_all(part_bytes, &trailer.summary)?
            ),
            Part::Controls => format!("{:?}", super::sealed_footer::decode_controls(part_bytes)?),
            Part::Sessions => format!("{:?}", SessionEntry::decode_all(part_bytes)?),
            Part::Ids => {
                let ids = part_bytes.chunks_exact(IdEntry::BYTES).map(IdEntry::decode);
                format!("{:?}", ids.collect::<Vec<_>>())
            }
            Part::SessionFilter | Part::IdFilter => format!("{part_bytes:?}"),
            Part::Seals => format!("{:?}", Seal::decode_all(part_bytes)?),
            Part::Changes => format!("{:?}", ChangeEntry::decode_all(part_bytes)?),
            Part::Ledger => format!("{:?}", LedgerEntry::decode_all(part_bytes)?),
        };
    }
    Ok(said)
}

#[test]
fn a_footer_comes_back_and_every_flipped_bit_is_noticed_or_in_its_padding() {
    let (footer, summary) = footer();
    let mut bytes = bytes_of(&footer, &summary);
    let sound = read_footer(&bytes, summary.blocks_end).unwrap();
    let lists = format!(
        "{summary:?}{:?}{:?}{:?}{:?}",
        footer.blocks, footer.controls, footer.sessions, footer.ids
    );
    assert!(sound.starts_with(&lists));
    let rest = format!("{:?}{:?}{:?}", footer.seals, footer.changes, footer.ledger);
    assert!(sound.ends_with(&rest));

    let trailer = Trailer::decode(&bytes[bytes.len() - TRAILER_BYTES..], SALT).unwrap();
    let (position, length) = trailer.place(Part::Ledger);
    let parts_end = usize::try_from(position - summary.blocks_end).unwrap() + length;
    let padding = parts_end..aligned(parts_end);
    assert_eq!(padding.len(), 4, "the example has some");
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let read = read_footer(&bytes, summary.blocks_end);
        assert_eq!(read.is_ok(), padding.contains(&(bit / 8)), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    for length in 0..bytes.len() {
        assert!(read_footer(&bytes[..length], summary.blocks_end).is_err());
    }
}

#[test]
fn the_filters_of_a_footer_hold_its_tables() {
    let (footer, summary) = footer();
    let bytes = bytes_of(&footer, &summary);
    let trailer = Trailer::decode(&bytes[bytes.len() - TRAILER_BYTES..], SALT).unwrap();
    let filter = |part| {
        let (position, length) = trailer.place(part);
        let start = usize::try_from(position - summary.blocks_end).unwrap();
        &bytes[start..start + length]
    };
    let key = Keys::of(STORE).session(SESSION);
    let (sessions, ids) = (filter(Part::SessionFilter), filter(Part::IdFilter));
    assert!(may_hold(sessions, filter::session_hash(&key)));
    assert!(
        footer
            .ids
            .iter()
            .all(|id| may_hold(ids, filter::id_hash(id.print())))
    );
    assert!(!may_hold(sessions, filter::session_hash(&[0; 16])));
}

#[test]
fn every_flipped_bit_of_a_sealed_header_is_noticed() {
    let mut bytes = header().encode();
    assert_eq!(SealedHeader::decode(&bytes).unwrap(), header());
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(SealedHeader::decode(&bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(SealedHeader::decode(&bytes[..4095]).is_err());
}

#[test]
fn notes_and_limits_come_back_and_broken_ones_are_errors() {
    for (note, bytes) in notes().into_iter().zip(note_bytes()) {
        let expected = match note {
            Note::Maintenance(record) => Record::Maintenance(record),
            Note::Erasure(record) => Record::Erasure(record),
            Note::Tally(record) => Record::Tally(record),
        };
        assert_eq!(payload::decode(&bytes).unwrap(), expected);
        survives_changes(&bytes);
    }
    let mut bytes = Vec::new();
    payload::push_registry(&mut bytes, &limits());
    assert_eq!(payload::decode(&bytes).unwrap(), Record::Registry(limits()));
    survives_changes(&bytes);
    for reason in [Reason::Erased, Reason::Expired, Reason::Lost] {
        let mut bytes = Vec::new();
        payload::push_gone(&mut bytes, reason);
        assert_eq!(payload::decode(&bytes).unwrap(), Record::Gone(reason));
    }
    for wrong in [&[0, 0][..], &[0, 4], &[0, 1, 0], &[0], &[6, 1]] {
        assert!(payload::decode(wrong).is_err(), "{wrong:?}");
    }
}

/// No prefix is a record, and no changed byte a panic.
fn survives_changes(bytes: &[u8]) {
    for at in 0..bytes.len() {
        assert!(payload::decode(&bytes[..at]).is_err(), "{at} bytes");
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = bytes.to_vec();
            changed[at] = value;
            let _ = payload::decode(&changed);
        }
    }
}

/// SplitMix64, so that a failure can be seen again from its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((x ^ (x >> 31)) % below as u64).unwrap()
    }

    /// Overwrites some fields of 1, 4 or 8 bytes with numbers that are often at an edge.
    fn spoil(&mut self, bytes: &mut [u8]) {
        for _ in 0..=self.roll(3) {
            let width = [1, 4, 8][self.roll(3)];
            let at = self.roll(bytes.len() / width) * width;
            let value = [
                0,
                1,
                2,
                0xff,
                u64::from(u32::MAX),
                u64::MAX,
                u64::MAX - 1,
                1 << 32,
            ][self.roll(8)];
            bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
    }
}

/// Whoever can write to the folder can make any checksum hold; then bytes are wrong, and still no panic and no abort.
#[test]
fn wrong_bytes_whose_checksums_hold_are_answers_or_errors_and_never_panic() {
    let (sound_footer, summary) = footer();
    let (block, manifest) = (block().0, manifest().encode());
    let footer = bytes_of(&sound_footer, &summary);
    for seed in 0..20_000 {
        let mut dice = Dice(seed);
        // A block: a wrong header around sound content, and sound bounds around wrong content.
        let mut bytes = block.clone();
        dice.spoil(&mut bytes[8..BLOCK_HEADER_BYTES]);
        repair_block(&mut bytes);
        look_through(&bytes);
        let mut raw = zstd::bulk::decompress(&block[BLOCK_HEADER_BYTES..], 1 << 16).unwrap();
        dice.spoil(&mut raw);
        let mut bytes = block[..BLOCK_HEADER_BYTES].to_vec();
        bytes[8..12].copy_from_slice(&u32::try_from(raw.len()).unwrap().to_le_bytes());
        bytes[32..36].fill(0);
        bytes.extend_from_slice(&raw);
        let sum = checksum(SALT, &raw);
        bytes[36..40].copy_from_slice(&sum.to_le_bytes());
        repair_block(&mut bytes);
        look_through(&bytes);
        // A footer.
        let mut bytes = footer.clone();
        let at = bytes.len() - TRAILER_BYTES;
        dice.spoil(&mut bytes[at..]);
        let sum = checksum(SALT, &bytes[at..at + TRAILER_BYTES - 4]);
        bytes[at + TRAILER_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        if let Ok(trailer) = Trailer::decode(&bytes[at..], SALT) {
            let _ = trailer.file_bytes();
            PARTS
                .iter()
                .for_each(|part| assert!(trailer.place(*part).0 >= 4096));
        }
        let mut bytes = footer[..3 * 64].to_vec();
        dice.spoil(&mut bytes);
        if let Ok(entries) = BlockEntry::decode_all(&bytes, &summary) {
            assert_eq!(entries.last().unwrap().end(), summary.end, "seed {seed}");
        }
        // A manifest.
        let mut bytes = manifest.clone();
        let at = bytes.len() - 4;
        dice.spoil(&mut bytes[..at]);
        let sum = checksum(0, &bytes[..at]);
        bytes[at..].copy_from_slice(&sum.to_le_bytes());
        let _ = Manifest::decode(&bytes);
        // Anything at all.
        let mut bytes = vec![0; dice.roll(300)];
        bytes
            .iter_mut()
            .for_each(|byte| *byte = u8::try_from(dice.roll(256)).unwrap());
        let _ = Manifest::decode(&bytes);
        let _ = payload::decode(&bytes);
        look_through(&bytes);
    }
}

fn repair_block(bytes: &mut [u8]) {
    let sum = checksum(SALT, &bytes[8..BLOCK_HEADER_BYTES]);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
}

fn look_through(bytes: &[u8]) {
    let _ = BlockHeader::decode(bytes, SALT);
    if let Ok(block) = Block::decode_through(bytes, SALT, BASE + 1) {
        let _ = block.holds(BASE + 1).then(|| block.record_at(BASE + 1));
    }
    let Ok(block) = Block::decode(bytes, SALT) else {
        return;
    };
    for (offset, record) in block.records() {
        let _ = payload::decode(record);
        let _ = (block.arrived_at(offset), block.record_at(offset));
    }
}
