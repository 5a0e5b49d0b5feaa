//! `eye log`: the log's files, read without locking, changing or serving anything.

mod dump;
pub(crate) mod records;
mod remote;

use super::{
    Common, Failure, Outcome, compact, figures, note, print,
    progress::Progress,
    replay,
    table::{Align, Table},
};
use crate::client::{MissingFolder, require_folder};
use chrono::{DateTime, SecondsFormat};
use eye_log::repair::{RepairReport, repair};
use eye_log::verify::{LogStats, SegmentStats, VerifyReport, stats, verify};
use serde_json::{Value, json};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Look at the log's files: works beside a running server and on a copy, and changes nothing there
#[derive(Debug, clap::Subcommand)]
pub(crate) enum LogCommand {
    /// Read every byte and check it; exit status 1 if anything is damaged
    #[command(
        after_help = "Examples:\n  eye log verify\n  eye log verify --data /backup/eye --json\n  \
                      eye log verify --server http://10.0.0.5:8001 --token eye_a_…   the service checks its own"
    )]
    Verify {
        /// The hash of a seal, as `eye log stats` printed it once: the chain must still have it
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
    },
    /// Segments, events, bytes and time ranges
    Stats,
    Dump(dump::DumpArgs),
    Replay(replay::ReplayArgs),
    Compact(compact::CompactArgs),
    /// Save what can be saved of a damaged log: never runs on its own
    #[command(
        long_about = "Save what can be saved of a damaged log, which no server may have open.\n\n\
                      Every whole record is kept; the damaged files are kept aside under another name; what is lost \
                      becomes a range that says so, with a record of it in the log. Exit status 1 if records are lost.",
        after_help = "Examples:\n  eye log repair\n  eye log repair --data /backup/eye --json"
    )]
    Repair,
}

pub(crate) async fn run(command: &LogCommand, common: &Common) -> Result<Outcome, Failure> {
    if matches!(command, LogCommand::Verify { head: None }) && common.server.is_some() {
        return remote::verify(common).await;
    }
    if let LogCommand::Compact(args) = command {
        return compact::run(args, common).await;
    }
    let name = match command {
        LogCommand::Verify { .. } => "log verify",
        LogCommand::Stats => "log stats",
        LogCommand::Dump(_) => "log dump",
        LogCommand::Replay(_) => "log replay",
        LogCommand::Repair => "log repair",
        LogCommand::Compact(_) => "log compact",
    };
    common.folder_only(name)?;
    let folder = log_folder(common)?;
    let unread =
        |error: io::Error| Failure::Failed(format!("cannot read {}: {error}", folder.display()));
    match command {
        LogCommand::Verify { head } => {
            let head = head.as_deref().map(seal_hash).transpose()?;
            let mut progress = Progress::new("verifying", 0);
            let report = verify(&folder, head, &mut |done, of| {
                progress.tick(done, Some(of), None);
            })
            .map_err(unread)?;
            progress.clear();
            let ok = report.damage.is_empty();
            print(&if common.json {
                verified_json(&report).to_string()
            } else {
                verified_text(&report)
            })?;
            Ok(if ok { Outcome::Done } else { Outcome::No })
        }
        LogCommand::Stats => {
            let stats = stats(&folder).map_err(unread)?;
            if common.json {
                print(&stats_json(&stats).to_string())?;
            } else {
                print_stats(&stats, &folder)?;
            }
            Ok(Outcome::Done)
        }
        LogCommand::Dump(args) => dump::run(args, &folder),
        LogCommand::Replay(args) => replay::run(args, common).await,
        LogCommand::Repair => repaired(&folder, common.json),
        LogCommand::Compact(args) => compact::run(args, common).await,
    }
}

/// Repairs a folder and says what came of it.
fn repaired(folder: &Path, in_json: bool) -> Result<Outcome, Failure> {
    let quiet = in_json;
    let report = repair(folder, &mut |doing| {
        if !quiet {
            note(doing);
        }
    })
    .map_err(|error| Failure::Failed(error.to_string()))?;
    print(&if in_json {
        serde_json::to_value(&report)
            .unwrap_or_default()
            .to_string()
    } else if report == RepairReport::default() {
        "nothing is damaged; nothing was changed".to_owned()
    } else {
        repaired_text(&report)
    })?;
    Ok(if report.lost.is_empty() {
        Outcome::Done
    } else {
        Outcome::No
    })
}

fn repaired_text(report: &RepairReport) -> String {
    let mut lines = Vec::new();
    for (first, end) in &report.lost {
        lines.push(format!("lost: records {first} to {}", end - 1));
    }
    if report.lost.is_empty() {
        lines.push("nothing is lost".to_owned());
    }
    if report.manifest {
        lines.push("the manifest was put together again from the files".to_owned());
    }
    for name in &report.unnamed {
        lines.push(format!(
            "an application lost its name; it is called {name} now, is disabled, and its events are there"
        ));
    }
    for name in &report.kept_aside {
        lines.push(format!("kept aside: {name}"));
    }
    if !report.lost.is_empty() {
        lines.push(
            "if a token was revoked, a session erased or a limit set in what is lost, do it again; `eye token list` \
             and `eye app list` show what holds now"
                .to_owned(),
        );
    }
    lines.join("\n")
}

/// Reads the hash of a seal.
fn seal_hash(text: &str) -> Result<[u8; 32], Failure> {
    let wrong = || {
        Failure::Usage(format!(
            "--head: {text:?} is no hash of a seal: 64 hexadecimal digits, as `eye log stats` prints them"
        ))
    };
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    let mut hash = [0; 32];
    for (place, byte) in hash.iter_mut().enumerate() {
        let digits = &text[place * 2..place * 2 + 2];
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(hash)
}

/// Returns the folder of the log's files, which must be there.
pub(crate) fn log_folder(common: &Common) -> Result<PathBuf, Failure> {
    require_folder(&common.data, MissingFolder::Refuse)?;
    let folder = common.data.join("log");
    if folder.is_dir() {
        return Ok(folder);
    }
    Err(Failure::Failed(format!(
        "{} holds no log: there is no folder log in it",
        common.data.display()
    )))
}

fn verified_json(report: &VerifyReport) -> Value {
    let damage: Vec<Value> = report
        .damage
        .iter()
        .map(|damage| {
            json!({
                "file": damage.file,
                "position": damage.position,
                "first_offset": damage.first_offset,
                "last_offset": damage.last_offset,
                "what": damage.what,
            })
        })
        .collect();
    json!({
        "ok": report.damage.is_empty(),
        "segments": report.segments,
        "events": report.events,
        "records": report.records,
        "bytes": report.bytes,
        "end": report.end,
        "torn_tail_bytes": report.torn_tail_bytes,
        "damage": damage,
    })
}

fn verified_text(report: &VerifyReport) -> String {
    let mut lines = Vec::new();
    for damage in &report.damage {
        let lost = match damage.last_offset {
            Some(last) if last == damage.first_offset => format!("offset {last}"),
            Some(last) => format!("offsets {} to {last}", damage.first_offset),
            None => format!("offsets from {} on", damage.first_offset),
        };
        lines.push(format!(
            "{}, byte {}: {} ({lost})",
            damage.file, damage.position, damage.what
        ));
    }
    if report.torn_tail_bytes > 0 {
        lines.push(format!(
            "{} at the end were never acknowledged whole; the next start cuts them off: no damage",
            figures::bytes(report.torn_tail_bytes)
        ));
    }
    let read = format!(
        "{} segments, {} records, {} events, {} read",
        figures::count(report.segments as u64),
        figures::count(report.records),
        figures::count(report.events),
        figures::bytes(report.bytes),
    );
    lines.push(match report.damage.len() {
        0 => format!("ok: {read}"),
        1 => format!("DAMAGED in 1 place: {read}"),
        places => format!("DAMAGED in {places} places: {read}"),
    });
    lines.join("\n")
}

fn time(micros: Option<i64>) -> Option<String> {
    let time = DateTime::from_timestamp_micros(micros?)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// Is what all segments hold together.
struct Totals {
    events: u64,
    bytes: u64,
    file_bytes: u64,
    end: u64,
    first_received_at: Option<i64>,
    last_received_at: Option<i64>,
}

fn totals(segments: &[SegmentStats]) -> Totals {
    Totals {
        events: segments.iter().map(|segment| segment.events).sum(),
        bytes: segments.iter().map(|segment| segment.bytes).sum(),
        file_bytes: segments.iter().map(|segment| segment.file_bytes).sum(),
        end: segments
            .iter()
            .map(|segment| segment.end)
            .max()
            .unwrap_or(0),
        first_received_at: segments
            .iter()
            .filter_map(|segment| segment.first_received_at)
            .min(),
        last_received_at: segments
            .iter()
            .filter_map(|segment| segment.last_received_at)
            .max(),
    }
}

fn stats_json(stats: &LogStats) -> Value {
    let segments: Vec<Value> = stats
        .segments
        .iter()
        .map(|segment| {
            json!({
                "file": segment.file,
                "base": segment.base,
                "end": segment.end,
                "bytes": segment.bytes,
                "file_bytes": segment.file_bytes,
                "events": segment.events,
                "first_received_at": time(segment.first_received_at),
                "last_received_at": time(segment.last_received_at),
                "sealed": segment.sealed,
                "generation": segment.generation,
                "record_bytes": segment.record_bytes,
                "gone": segment.gone,
                "first_timestamp": time(segment.first_timestamp),
                "last_timestamp": time(segment.last_timestamp),
                "seal": segment.seal,
            })
        })
        .collect();
    let total = totals(&stats.segments);
    json!({
        "store": stats.store_id,
        "head": stats.head,
        "segments": segments,
        "events": total.events,
        "bytes": total.bytes,
        "file_bytes": total.file_bytes,
        "end": total.end,
        "first_received_at": time(total.first_received_at),
        "last_received_at": time(total.last_received_at),
    })
}

fn print_stats(stats: &LogStats, folder: &Path) -> Result<(), Failure> {
    let mut table = Table::new(&[
        ("segment", Align::Left),
        ("offsets", Align::Right),
        ("events", Align::Right),
        ("in use", Align::Right),
        ("on disk", Align::Right),
        ("bytes/event", Align::Right),
        ("of plain", Align::Right),
        ("state", Align::Left),
        ("first received", Align::Left),
        ("last received", Align::Left),
    ]);
    let per_event = |bytes: u64, events: u64| {
        bytes
            .checked_div(events)
            .map_or_else(|| "-".to_owned(), figures::count)
    };
    // Compared with the records before compression, in thousandths so that no figure is lost on the way.
    let ratio = |bytes: u64, plain: u64| {
        (bytes * 1000).checked_div(plain).map_or_else(
            || "-".to_owned(),
            |of| format!("{}.{:03}", of / 1000, of % 1000),
        )
    };
    let shown = |micros| time(micros).unwrap_or_else(|| "-".to_owned());
    for segment in &stats.segments {
        table.push([
            segment.file.clone(),
            format!("{}..{}", segment.base, segment.end),
            figures::count(segment.events),
            figures::bytes(segment.bytes),
            figures::bytes(segment.file_bytes),
            per_event(segment.bytes, segment.events),
            ratio(segment.bytes, segment.record_bytes),
            if segment.sealed { "sealed" } else { "active" }.to_owned(),
            shown(segment.first_received_at),
            shown(segment.last_received_at),
        ]);
    }
    let total = totals(&stats.segments);
    table.push([
        format!("{} in all", figures::count(stats.segments.len() as u64)),
        format!("..{}", total.end),
        figures::count(total.events),
        figures::bytes(total.bytes),
        figures::bytes(total.file_bytes),
        per_event(total.bytes, total.events),
        ratio(
            total.bytes,
            stats
                .segments
                .iter()
                .map(|segment| segment.record_bytes)
                .sum(),
        ),
        String::new(),
        shown(total.first_received_at),
        shown(total.last_received_at),
    ]);
    match stats.store_id {
        Some(store) => {
            note(&format!("store {store} in {}", folder.display()));
            if let Some(head) = &stats.head {
                note(&format!(
                    "last seal {head}: note it elsewhere, and `eye log verify --head` checks that the chain still has it"
                ));
            }
        }
        None => note(&format!("no segments in {}", folder.display())),
    }
    table.print()
}

#[cfg(test)]
mod tests {
    use super::*;
    use eye_log::verify::DamageReport as Damage;

    #[test]
    fn damage_is_named_with_its_place_and_what_is_lost() {
        let damage = Damage {
            file: "00000000000000000000.log".to_owned(),
            position: 4096,
            first_offset: 7,
            last_offset: Some(9),
            what: "checksum of the body".to_owned(),
        };
        let report = VerifyReport {
            segments: 1,
            events: 12,
            damage: vec![damage],
            ..VerifyReport::default()
        };
        let text = verified_text(&report);
        assert!(text.starts_with(
            "00000000000000000000.log, byte 4096: checksum of the body (offsets 7 to 9)\n"
        ));
        assert!(text.contains("DAMAGED in 1 place: 1 segments"), "{text}");
        let json = verified_json(&report);
        assert_eq!(json["ok"], false);
        assert_eq!(json["damage"][0]["last_offset"], 9);
    }

    #[test]
    fn totals_span_all_segments() {
        let segment = |base, end, first| SegmentStats {
            base,
            end,
            events: end - base,
            bytes: 100,
            first_received_at: Some(first),
            last_received_at: Some(first + 5),
            ..SegmentStats::default()
        };
        let stats = LogStats {
            segments: vec![segment(0, 4, 1_000_000), segment(4, 9, 2_000_000)],
            ..LogStats::default()
        };
        let json = stats_json(&stats);
        assert_eq!(
            (&json["events"], &json["end"], &json["bytes"]),
            (&json!(9), &json!(9), &json!(200))
        );
        assert_eq!(json["first_received_at"], "1970-01-01T00:00:01.000000Z");
    }
}
