//! `eye export`: everything that matches, to a file or standard output, counted and checked.

use super::{
    Common, Failure, Outcome, note, print, progress::Progress, search::explained, unprinted,
};
use crate::client::{Client, MissingFolder, encoded};
use axum::http::HeaderMap;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;

/// Export events
///
/// Everything that matches, in the order of the log, as NDJSON: one whole event per line. What was received is counted and hashed,
/// and compared with what the service says it sent: exit status 3 if it was cut short. A file appears only when it is whole.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  eye export > everything.ndjson\n  eye export 'name:error' --from now-7d --to-file errors.ndjson\n  \
                        eye export --csv timestamp,name,data.path | less"
)]
pub(crate) struct ExportArgs {
    /// The query; without it, everything
    #[arg(value_name = "Q", default_value = "")]
    query: String,
    /// Only events of this application
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// Only from this time on (RFC 3339, or now-15m, now-7d)
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only before this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// CSV with these columns instead: names and paths in data, with commas between
    #[arg(long, value_name = "FIELDS")]
    csv: Option<String>,
    /// In CSV, leave cells as they are that a spreadsheet takes for formulas
    #[arg(long, requires = "csv")]
    raw: bool,
    /// Write to this file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    to_file: Option<PathBuf>,
}

pub(crate) async fn run(args: &ExportArgs, common: &Common) -> Result<Outcome, Failure> {
    let client = common.client(MissingFolder::Refuse).await?;
    let result = match &args.to_file {
        None => {
            let mut out = io::stdout().lock();
            export(&client, args, &mut out).await
        }
        Some(path) => export_to(&client, args, path).await,
    };
    client.close().await;
    let exported = result?;
    if let Some(path) = &args.to_file {
        let path = path.display().to_string();
        print(&if common.json {
            json!({"file": path, "events": exported.count, "sha256": exported.sha256}).to_string()
        } else {
            format!(
                "{path}: {} events, SHA-256 {}",
                exported.count, exported.sha256
            )
        })?;
    }
    Ok(Outcome::Done)
}

struct Exported {
    count: u64,
    sha256: String,
}

async fn export_to(
    client: &Client,
    args: &ExportArgs,
    path: &PathBuf,
) -> Result<Exported, Failure> {
    let failed = |error: io::Error| Failure::Failed(format!("{}: {error}", path.display()));
    if path.exists() {
        return Err(Failure::Usage(format!(
            "{} is there already; name another file",
            path.display()
        )));
    }
    let mut part = path.clone().into_os_string();
    part.push(".part");
    let mut file = File::create(&part).map_err(failed)?;
    let exported = export(client, args, &mut file).await;
    let whole = exported.and_then(|exported| {
        file.sync_all().map_err(failed)?;
        std::fs::rename(&part, path).map_err(failed)?;
        Ok(exported)
    });
    if whole.is_err() {
        // It is no use to anybody.
        drop(std::fs::remove_file(&part));
    }
    whole
}

fn target(args: &ExportArgs) -> String {
    let mut path = format!("/export?q={}", encoded(&args.query));
    for (name, value) in [
        ("application", &args.app),
        ("from", &args.from),
        ("to", &args.to),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encoded(value)));
        }
    }
    if let Some(fields) = &args.csv {
        path.push_str(&format!("&format=csv&fields={}", encoded(fields)));
        if args.raw {
            path.push_str("&raw=true");
        }
    }
    path
}

/// Writes what comes, but for the last line, which says what it must have been. CSV has no such line: a connection that is lost is
/// all that can be known there.
async fn export(
    client: &Client,
    args: &ExportArgs,
    out: &mut impl Write,
) -> Result<Exported, Failure> {
    let opened = client.open_stream(&target(args), HeaderMap::new()).await;
    let mut answer = opened.map_err(|error| explained(&args.query, error))?;
    let mut progress = (!io::stdout().is_terminal()).then(|| Progress::new("exporting", 0));
    let (mut hash, mut bytes, mut lines) = (Sha256::new(), 0u64, 0u64);
    // The last line, as far as it has come: it may be the end.
    let mut held: Vec<u8> = Vec::new();
    while let Some(piece) = answer.next().await? {
        bytes += piece.len() as u64;
        if let Some(progress) = &mut progress {
            progress.tick(bytes, None, None);
        }
        held.extend_from_slice(&piece);
        let keep = if args.csv.is_some() {
            held.len()
        } else {
            // Everything in front of the last whole line.
            let end = held.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
            held[..end]
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |end| end + 1)
        };
        hash.update(&held[..keep]);
        lines += held[..keep].iter().filter(|byte| **byte == b'\n').count() as u64;
        out.write_all(&held[..keep]).map_err(unprinted)?;
        held.drain(..keep);
    }
    out.flush().map_err(unprinted)?;
    let sha256: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if args.csv.is_some() {
        return Ok(Exported {
            count: lines.saturating_sub(1),
            sha256,
        });
    }
    let end: Value = serde_json::from_slice(&held).unwrap_or_default();
    let end = &end["export"];
    if end["count"] != lines || end["sha256"] != sha256.as_str() {
        return Err(Failure::Failed(format!(
            "the export was cut short behind {lines} events; what was printed is not whole"
        )));
    }
    if end["exact"] == false {
        note("the index lags behind the log: the latest events are missing from this export");
    }
    Ok(Exported {
        count: lines,
        sha256,
    })
}
