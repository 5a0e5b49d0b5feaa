//! `eye compact` (also `eye log compact`): old segments sealed, merged, and rid of what expired or was erased.

use super::{Common, Failure, Outcome, figures, print, task};
use crate::client::MissingFolder;
use serde_json::{Value, json};

/// Seal and compress, merge small files, drop what retention and erasure allow
///
/// Runs as a task of the service where one runs on the folder (or at --server), else on the folder itself. Offsets never
/// change, what was done is a record in the log, and the log's seals still verify. Safe against a crash at any instant;
/// Ctrl-C ends it between two files. What an erasure hid is gone from every file when this is done.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  eye compact --dry-run\n  eye compact --data /srv/eye --json")]
pub(crate) struct CompactArgs {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Expire a large part of all events even though the clock seems to have jumped
    #[arg(long)]
    confirm: bool,
}

pub(crate) async fn run(args: &CompactArgs, common: &Common) -> Result<Outcome, Failure> {
    let client = common.client(MissingFolder::Refuse).await?;
    let wanted = json!({"kind": "compact", "dry_run": args.dry_run, "confirm": args.confirm});
    let compacted = task::run(&client, &wanted, "compacting").await;
    client.close().await;
    let report = compacted?;
    print(&if common.json {
        report.to_string()
    } else {
        in_words(&report, args.dry_run)
    })?;
    Ok(Outcome::Done)
}

fn in_words(report: &Value, dry_run: bool) -> String {
    let number = |name: &str| report[name].as_u64().unwrap_or(0);
    let count = |name: &str| figures::count(number(name));
    let (merge, expire, erase) = if dry_run {
        ("would merge", "would expire", "would be erased")
    } else {
        ("merged", "expired", "were erased")
    };
    format!(
        "{merge} {} files; {} events {expire}, {} {erase}; {} to {} files, {} to {}",
        count("merged"),
        count("expired"),
        count("erased"),
        count("files_before"),
        count("files_after"),
        figures::bytes(number("bytes_before")),
        figures::bytes(number("bytes_after")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_can_be_told_from_what_would_be() {
        let report = json!({"merged": 3, "expired": 1200, "erased": 7, "files_before": 9, "files_after": 5,
                            "bytes_before": 4096, "bytes_after": 1024});
        assert_eq!(
            in_words(&report, false),
            "merged 3 files; 1,200 events expired, 7 were erased; 9 to 5 files, 4.0 KiB to 1.0 KiB"
        );
        assert!(
            in_words(&report, true).starts_with("would merge 3 files; 1,200 events would expire")
        );
    }
}
