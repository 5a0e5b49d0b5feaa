//! `eye log dump`: every record as a line of JSON.

use super::records::{Records, Selection, application_name, time, written};
use crate::cli::{Failure, Outcome, note, progress::Progress, unprinted};
use eye_log::{
    Offset, Registry,
    record::{EventRecord, Record},
};
use eye_server::{control_line, on_one_line};
use serde_json::Value;
use std::{
    io::{self, BufWriter, IsTerminal as _, Write},
    ops::ControlFlow,
    path::Path,
};

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
        other => match control_line(offset, other, registry) {
            Some(line) => writeln!(out, "{line}"),
            None => Ok(()),
        },
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
