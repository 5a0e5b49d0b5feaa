//! `eye log dump`: every record as a line of JSON.

use super::records::{Records, Selection, application_name, time, written};
use crate::cli::{Failure, Outcome, note, progress::Progress, unprinted};
use eye_log::{
    Offset, Registry, TokenKind,
    record::{ErasureState, EventRecord, Reason, Record, RegistryRecord},
    registry::RegistryChange,
};
use eye_server::on_one_line;
use serde_json::{Value, json};
use std::{
    io::{self, BufWriter, IsTerminal as _, Write},
    ops::ControlFlow,
    path::Path,
};
use uuid::Uuid;

/// Print the log's records as NDJSON, oldest first
///
/// One line per record: {"offset", "kind", "received_at", …}. Kinds are event, application, token and, where there are
/// such records, schema, erasure, maintenance. Only events carry the key session_id; secrets of tokens are not in the
/// log. Reads the files only: takes no lock, writes nothing, works beside a running server (the last lines may be
/// records whose sync is still under way) and on a copy.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  eye log dump --from 120000 --to 120010\n  \
                        eye log dump --since now-1h | jq 'select(.kind == \"token\")'\n  \
                        eye log dump --data /backup/eye --segment 0 > first.ndjson")]
pub(crate) struct DumpArgs {
    /// Begin with this offset
    #[arg(long, value_name = "OFFSET")]
    from: Option<Offset>,
    /// End before this offset
    #[arg(long, value_name = "OFFSET", alias = "until")]
    to: Option<Offset>,
    /// Only records that arrived at this time or later (RFC 3339, a date, now-15m)
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<i64>,
    /// Only the segment that begins with this offset; may be repeated
    #[arg(long, value_name = "BASE")]
    segment: Vec<Offset>,
}

pub(super) fn run(args: &DumpArgs, folder: &Path) -> Result<Outcome, Failure> {
    let records = Records::open(
        folder,
        &Selection {
            from: args.from,
            until: args.to,
            since: args.since,
            segments: args.segment.clone(),
        },
    )?;
    if args.from.is_some_and(|from| from > records.end()) {
        note(&format!("the log ends at offset {}", records.end()));
    }
    let (registry, all) = (records.registry().clone(), records.count());
    // On a terminal the lines themselves show how far it is.
    let mut progress =
        (!io::stdout().is_terminal()).then(|| Progress::counting("dumping", "records"));
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut printed = Ok(());
    let mut done = 0;
    records.each(|offset, record| {
        printed = write_record(&mut out, offset, record, &registry);
        done += 1;
        if let Some(progress) = &mut progress {
            progress.tick(done, Some(all), None);
        }
        if printed.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    printed.and_then(|()| out.flush()).map_err(unprinted)?;
    Ok(Outcome::Done)
}

/// Writes one line.
fn write_record(
    out: &mut impl Write,
    offset: Offset,
    record: &Record<'_>,
    registry: &Registry,
) -> io::Result<()> {
    match record {
        Record::Event(event) => write_event(out, offset, event, registry),
        Record::Registry(record) => {
            let line = registry_line(offset, record, registry);
            writeln!(out, "{line}")
        }
        Record::Maintenance(record) => {
            let line = json!({
                "offset": offset, "kind": "maintenance", "received_at": written(record.at), "by": actor(record.by),
                "request": record.request, "reason": reason_name(record.reason), "erasure": record.erasure,
                "events": record.records, "blocks": record.blocks.len(),
            });
            writeln!(out, "{line}")
        }
        Record::Erasure(record) => {
            let line = json!({
                "offset": offset, "kind": "erasure", "received_at": written(record.at), "by": actor(record.by),
                "request": record.request, "id": record.id, "done": record.state == ErasureState::Done,
                "sessions": record.sessions.len(), "events": record.events, "ranges": record.ranges,
            });
            writeln!(out, "{line}")
        }
        Record::Tally(record) => {
            let line = json!({
                "offset": offset, "kind": "tally", "received_at": written(record.at),
                "application": record.application.map(|id| application_name(registry, id)),
                "duplicates": record.duplicates, "rejected": record.rejected,
                "unauthenticated": record.unauthenticated,
            });
            writeln!(out, "{line}")
        }
        // Its place is kept, so that whoever counts offsets finds none missing.
        Record::Gone(reason) => {
            let line = json!({"offset": offset, "kind": reason_name(*reason)});
            writeln!(out, "{line}")
        }
    }
}

/// Returns who acted; where nobody is named it was the owner of the folder.
fn actor(by: Uuid) -> Option<Uuid> {
    (!by.is_nil()).then_some(by)
}

fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Erased => "erased",
        Reason::Expired => "expired",
        Reason::Lost => "lost",
    }
}

/// Writes an event with its data as it was sent.
fn write_event(
    out: &mut impl Write,
    offset: Offset,
    event: &EventRecord<'_>,
    registry: &Registry,
) -> io::Result<()> {
    let text = |text: &str| Value::from(text).to_string();
    write!(
        out,
        "{{\"offset\":{offset},\"kind\":\"event\",\"received_at\":\"{}\",\"id\":\"{}\",\"application\":{},\
         \"session_id\":\"{}\",\"category\":{},\"name\":{},\"timestamp\":\"{}\",\"data\":{}",
        written(event.received_at),
        event.id,
        text(&application_name(registry, event.application)),
        event.session_id,
        text(event.category),
        text(event.name),
        written(event.timestamp),
        on_one_line(event.data),
    )?;
    if let Some(client) = event.client.filter(|client| !client.key.is_empty()) {
        write!(out, ",\"client_id\":{}", text(client.key))?;
    }
    if !event.meta.is_empty() {
        write!(out, ",\"meta\":{}", on_one_line(event.meta))?;
    }
    writeln!(out, "}}")
}

fn registry_line(offset: Offset, record: &RegistryRecord, registry: &Registry) -> Value {
    let name = |id| application_name(registry, id);
    let (kind, change) = match &record.change {
        RegistryChange::Registered { application, name } => (
            "application",
            json!({"change": "registered", "application": name, "number": application.0}),
        ),
        RegistryChange::SetActive {
            application,
            active,
        } => {
            let change = if *active { "enabled" } else { "disabled" };
            (
                "application",
                json!({"change": change, "application": name(*application)}),
            )
        }
        RegistryChange::SetLimits {
            application,
            limits,
        } => (
            "application",
            json!({"change": "limits", "application": name(*application), "retention_days": limits.retention_days,
                   "max_bytes": limits.max_bytes, "rate": limits.rate}),
        ),
        RegistryChange::Issued(token) => {
            let (token_kind, scopes) = match token.kind {
                TokenKind::Application { read, write } => {
                    let scopes = [("write", write), ("read", read)];
                    let scopes = scopes.into_iter().filter(|(_, may)| *may);
                    ("application", scopes.map(|(scope, _)| scope).collect())
                }
                TokenKind::Analyst => ("analyst", vec!["read"]),
                TokenKind::Admin => ("admin", vec!["read", "write"]),
            };
            (
                "token",
                json!({"change": "issued", "token": token.token, "token_kind": token_kind, "scopes": scopes,
                       "application": token.application.map(name)}),
            )
        }
        RegistryChange::Revoked { token } => {
            ("token", json!({"change": "revoked", "token": token}))
        }
    };
    let mut line = json!({
        "offset": offset, "kind": kind, "received_at": written(record.at), "by": actor(record.by), "request": record.request,
    });
    if let (Value::Object(line), Value::Object(change)) = (&mut line, change) {
        line.extend(change);
    }
    line
}
