//! `eye log verify --server`: the service reads and checks its own log.

use crate::cli::{Common, Failure, Outcome, figures, print, task};
use crate::client::MissingFolder;
use serde_json::{Value, json};

/// Has the service verify its log; prints what it found as a verification here would.
pub(super) async fn verify(common: &Common) -> Result<Outcome, Failure> {
    let client = common.client(MissingFolder::Refuse).await?;
    let verified = task::run(&client, &json!({"kind": "verify"}), "verifying").await;
    client.close().await;
    let report = verified?;
    print(&if common.json {
        report.to_string()
    } else {
        in_words(&report)
    })?;
    Ok(if report["ok"] == true {
        Outcome::Done
    } else {
        Outcome::No
    })
}

fn in_words(report: &Value) -> String {
    let mut lines = Vec::new();
    for damage in report["damage"].as_array().into_iter().flatten() {
        lines.push(format!(
            "{}, byte {}: {} (from offset {} on)",
            damage["file"].as_str().unwrap_or("?"),
            damage["position"],
            damage["what"].as_str().unwrap_or("?"),
            damage["first_offset"],
        ));
    }
    let count = |name: &str| figures::count(report[name].as_u64().unwrap_or(0));
    lines.push(format!(
        "{}: {} segments, {} records, {} events, {} read",
        if lines.is_empty() { "ok" } else { "DAMAGED" },
        count("segments"),
        count("records"),
        count("events"),
        figures::bytes(report["bytes"].as_u64().unwrap_or(0)),
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_named_with_its_place() {
        let report = json!({"ok": false, "segments": 2, "records": 1200, "events": 1199, "bytes": 2048, "damage": [
            {"file": "a.seg", "position": 7216, "what": "a hole", "first_offset": 19, "last_offset": null}]});
        assert_eq!(
            in_words(&report),
            "a.seg, byte 7216: a hole (from offset 19 on)\n\
             DAMAGED: 2 segments, 1,200 records, 1,199 events, 2.0 KiB read"
        );
    }
}
