//! Records: kinds 0 to 5, as lines of JSON and as what the rest is compared with.

use serde_json::{Value, json};

use super::bytes::{Fields, Read, hex, uuid};
use super::seals::Step;

/// A record, and what of it other parts of the log repeat.
pub(crate) struct Decoded {
    pub(crate) line: Value,
    pub(crate) what: What,
}

pub(crate) enum What {
    Event {
        application: u32,
        id: [u8; 16],
        session: [u8; 16],
        timestamp: i64,
        client: bool,
    },
    Gone(u8),
    Maintenance {
        blocks: Vec<Step>,
    },
    Erasure {
        id: [u8; 16],
        ranges: Vec<(u64, u64)>,
    },
    Other,
}

/// Decodes a record. In a block, `appended_at` is given and what was left out is put back.
pub(crate) fn decode(bytes: &[u8], offset: u64, appended_at: Option<i64>) -> Read<Decoded> {
    let mut fields = Fields(bytes);
    let (mut line, what) = match (fields.u8()?, fields.u8()?) {
        (0, reason @ 1..=3) if appended_at.is_some() => (
            json!({"kind": "gone", "reason": reason}),
            What::Gone(reason),
        ),
        (1, 1) => event(&mut fields, offset, appended_at)?,
        (2, version @ 1..=3) => (registry(&mut fields, version)?, What::Other),
        (3, 1) => maintenance(&mut fields)?,
        (4, 1) => erasure(&mut fields)?,
        (5, 1) => (tally(&mut fields)?, What::Other),
        (kind, version) => return Err(format!("a record of kind {kind}, version {version}")),
    };
    if !fields.0.is_empty() {
        return Err(format!("record {offset} has bytes behind its last field"));
    }
    line["offset"] = offset.into();
    Ok(Decoded { line, what })
}

fn event(fields: &mut Fields<'_>, offset: u64, appended_at: Option<i64>) -> Read<(Value, What)> {
    let mut id = fields.array()?;
    let mut received_at = fields.i64()?;
    let application = fields.u32()?;
    let session: [u8; 16] = fields.array()?;
    let timestamp = fields.i64()?;
    let client = fields.optional(|fields| Ok((fields.string()?, fields.array::<16>()?)))?;
    let (category, name) = (fields.string()?, fields.string()?);
    let (meta, data) = (fields.string()?, fields.string()?);
    if let Some(appended_at) = appended_at {
        if received_at == 0 {
            received_at = appended_at;
        }
        if client.is_none() && id == [0; 16] {
            id = server_made_id(received_at, offset);
        }
    }
    let what = What::Event {
        application,
        id,
        session,
        timestamp,
        client: client.is_some(),
    };
    let client = client.map(|(key, kept)| {
        let left_out = appended_at.is_some() && kept == [0; 16];
        let content_hash = match left_out {
            true => content_hash(&session, timestamp, &category, &name, &data),
            false => kept,
        };
        json!({"key": key, "content_hash": hex(&content_hash)})
    });
    let line = json!({
        "kind": "event",
        "id": uuid(&id),
        "received_at": received_at,
        "application": application,
        "session_id": uuid(&session),
        "timestamp": timestamp,
        "client": client,
        "category": category,
        "name": name,
        "meta": meta,
        "data": data,
    });
    Ok((line, what))
}

pub(crate) fn server_made_id(received_at: i64, offset: u64) -> [u8; 16] {
    let micros = u128::try_from(received_at).unwrap_or(0);
    let high = ((micros / 1000) << 16) | 0x7000 | (micros % 1000);
    let low = (0b10 << 62) | u128::from(offset);
    (high << 64 | low).to_be_bytes()
}

pub(crate) fn content_hash(
    session: &[u8; 16],
    timestamp: i64,
    category: &str,
    name: &str,
    data: &str,
) -> [u8; 16] {
    let mut hashed = session.to_vec();
    hashed.extend(timestamp.to_le_bytes());
    for label in [category, name] {
        hashed.extend((label.len() as u64).to_le_bytes());
        hashed.extend(label.as_bytes());
    }
    let (mut inside, mut escaped) = (false, false);
    for byte in data.bytes() {
        if inside || !b" \t\n\r".contains(&byte) {
            hashed.push(byte);
        }
        (inside, escaped) = match byte {
            _ if escaped => (inside, false),
            b'"' => (!inside, false),
            b'\\' => (inside, true),
            _ => (inside, false),
        };
    }
    Fields(blake3::hash(&hashed).as_bytes()).array().unwrap()
}

/// The fields that most records begin with.
fn head(fields: &mut Fields<'_>) -> Read<Value> {
    let at = fields.i64()?;
    let by = uuid(&fields.array()?);
    Ok(json!({"at": at, "by": by, "request": uuid(&fields.array()?)}))
}

fn registry(fields: &mut Fields<'_>, version: u8) -> Read<Value> {
    let mut line = head(fields)?;
    let change = match (version, fields.u32()?) {
        (1, 0) => json!({"registered": {"application": fields.u32()?, "name": fields.string()?}}),
        (1, 1) => {
            json!({"set_active": {"application": fields.u32()?, "active": fields.is_there()?}})
        }
        (1, 2) => json!({"issued": issued(fields)?}),
        (1, 3) => json!({"revoked": {"token": uuid(&fields.array()?)}}),
        (2, 0) => json!({"set_limits": {
            "application": fields.u32()?,
            "retention_days": fields.optional(Fields::u32)?,
            "max_bytes": fields.optional(Fields::u64)?,
            "rate": fields.optional(Fields::u32)?,
        }}),
        (3, 0) => {
            let mut issued = issued(fields)?;
            issued["expires_at"] = fields.optional(Fields::i64)?.into();
            issued["origins"] = fields.list(Fields::string)?.into();
            json!({"issued": issued})
        }
        (_, other) => return Err(format!("a change of number {other}")),
    };
    line["kind"] = "registry".into();
    line["change"] = change;
    Ok(line)
}

/// What every version says of a token that was issued.
fn issued(fields: &mut Fields<'_>) -> Read<Value> {
    let token = fields.array()?;
    let kind = fields.u8()?;
    let application = fields.optional(Fields::u32)?;
    let hash = fields.array::<32>()?;
    let kind = match kind {
        0 => "admin".to_owned(),
        1 => "analyst".to_owned(),
        4..=7 => {
            let (read, write) = (kind & 1 != 0, kind & 2 != 0);
            format!("application, read {read}, write {write}")
        }
        _ => return Err(format!("a token of kind {kind}")),
    };
    Ok(json!({
        "token": uuid(&token),
        "token_kind": kind,
        "application": application,
        "hash": hex(&hash),
    }))
}

fn maintenance(fields: &mut Fields<'_>) -> Read<(Value, What)> {
    let mut line = head(fields)?;
    let reason = fields.u8()?;
    if !(1..=3).contains(&reason) {
        return Err(format!("reason {reason}"));
    }
    let erasure = fields.optional(Fields::array::<16>)?;
    line["kind"] = "maintenance".into();
    line["reason"] = reason.into();
    line["erasure"] = erasure.map(|id| uuid(&id)).into();
    line["records"] = fields.u64()?.into();
    let blocks = fields.list(|fields| Ok((fields.u64()?, fields.array()?, fields.array()?)))?;
    line["blocks"] = blocks
        .iter()
        .map(|(first, old, new): &Step| json!({"first": first, "old": hex(old), "new": hex(new)}))
        .collect();
    Ok((line, What::Maintenance { blocks }))
}

fn erasure(fields: &mut Fields<'_>) -> Read<(Value, What)> {
    let mut line = head(fields)?;
    line["kind"] = "erasure".into();
    let id = fields.array()?;
    line["id"] = uuid(&id).into();
    line["done"] = fields.is_there()?.into();
    line["filter"] = hex(&fields.array::<16>()?).into();
    let sessions = fields.list(Fields::array::<16>)?;
    line["sessions"] = sessions.iter().map(|key| hex(key)).collect();
    let ranges = fields.list(|fields| Ok((fields.u64()?, fields.u64()?)))?;
    line["ranges"] = json!(ranges);
    line["events"] = fields.u64()?.into();
    line["certificate"] = fields.string()?.into();
    Ok((line, What::Erasure { id, ranges }))
}

fn tally(fields: &mut Fields<'_>) -> Read<Value> {
    Ok(json!({
        "kind": "tally",
        "at": fields.i64()?,
        "application": fields.optional(Fields::u32)?,
        "duplicates": fields.u64()?,
        "rejected": fields.u64()?,
        "unauthenticated": fields.u64()?,
    }))
}
