//! `eye index status` and `eye index rebuild`: how the indexes are, and the indexes made anew from the log.

use super::table::{Align, Table};
use super::{Common, Failure, Outcome, figures, print, task};
use crate::client::MissingFolder;
use serde_json::{Value, json};

/// The indexes, which grow from the log
#[derive(Debug, clap::Subcommand)]
pub(crate) enum IndexCommand {
    Status(StatusArgs),
    Rebuild(RebuildArgs),
}

/// How far the indexes are, what they hold, and what keeps them from going on
///
/// Exit status 1 where something keeps them from going on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  eye index status\n  eye index status --data /srv/eye --json")]
pub(crate) struct StatusArgs {}

/// Make the indexes anew from the log, and say what they count now and counted before
///
/// They are made beside the live ones, which answer until the new ones have everything; then those take their place at
/// once. Runs as a task of the service where one runs on the folder (or at --server), else on the folder itself. Needs the
/// room of the indexes once more meanwhile. Ctrl-C leaves the old ones as they are.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  eye index rebuild\n  eye index rebuild --data /srv/eye --json"
)]
pub(crate) struct RebuildArgs {}

pub(crate) async fn run(command: &IndexCommand, common: &Common) -> Result<Outcome, Failure> {
    match command {
        IndexCommand::Status(_) => status(common).await,
        IndexCommand::Rebuild(_) => rebuild(common).await,
    }
}

async fn status(common: &Common) -> Result<Outcome, Failure> {
    let client = common.client(MissingFolder::Refuse).await?;
    let answer = client.get("/admin/status").await;
    client.close().await;
    let status: Value = answer?.json()?;
    let index = &status["index"];
    print(&if common.json {
        index.to_string()
    } else {
        status_in_words(index)
    })?;
    Ok(if index["trouble"].is_null() {
        Outcome::Done
    } else {
        Outcome::No
    })
}

fn status_in_words(index: &Value) -> String {
    let count = |name: &str| figures::count(index[name].as_u64().unwrap_or(0));
    let state = match (index["trouble"].as_str(), index["lag"].as_u64()) {
        (Some(trouble), _) => format!("it does not go on: {trouble}"),
        (None, Some(0)) => "in step with the log".to_owned(),
        (None, _) => format!("{} records behind the log", count("lag")),
    };
    format!(
        "{state}\n{} events, indexed through {} (search {}, sessions {})\n{} search segments, {} shards wait to be sealed",
        count("events"),
        count("indexed_through"),
        count("search_through"),
        count("catalog_through"),
        count("parts"),
        count("sealing"),
    )
}

async fn rebuild(common: &Common) -> Result<Outcome, Failure> {
    let client = common.client(MissingFolder::Refuse).await?;
    let rebuilt = task::run(&client, &json!({"kind": "reindex"}), "indexing").await;
    client.close().await;
    let report = rebuilt?;
    if common.json {
        print(&report.to_string())?;
        return Ok(Outcome::Done);
    }
    let records = report["records"].as_u64().unwrap_or(0);
    print(&format!(
        "the indexes were made anew: {} records in {:.1} s; {}\n",
        figures::count(records),
        report["seconds"].as_f64().unwrap_or(0.0),
        if report["same"] == true {
            "they count what the old ones counted"
        } else {
            "they count something else than the old ones"
        },
    ))?;
    let mut table = Table::new(&[
        ("application", Align::Left),
        ("events before", Align::Right),
        ("now", Align::Right),
        ("sessions before", Align::Right),
        ("now", Align::Right),
        ("", Align::Left),
    ]);
    let applications = report["applications"].as_array().into_iter().flatten();
    for row in applications.chain([&report["total"]]) {
        let cell = |what: &str, when: &str| match row[what][when].as_u64() {
            Some(number) => figures::count(number),
            None => "?".to_owned(),
        };
        let differs = ["events", "sessions"]
            .iter()
            .any(|what| row[*what]["old"] != row[*what]["new"]);
        table.push([
            row["name"].as_str().unwrap_or("all").to_owned(),
            cell("events", "old"),
            cell("events", "new"),
            cell("sessions", "old"),
            cell("sessions", "new"),
            if differs { "differs" } else { "" }.to_owned(),
        ]);
    }
    table.print()?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_the_index_from_going_on_comes_first() {
        let well = json!({"trouble": null, "lag": 0, "events": 1200, "indexed_through": 1203, "search_through": 1203,
                          "catalog_through": 1203, "parts": 2, "sealing": 0});
        assert!(
            status_in_words(&well)
                .starts_with("in step with the log\n1,200 events, indexed through 1,203")
        );
        let mut ill = well;
        ill["trouble"] = json!("no space");
        assert!(status_in_words(&ill).starts_with("it does not go on: no space\n"));
        ill["trouble"] = Value::Null;
        ill["lag"] = json!(3000);
        assert!(status_in_words(&ill).starts_with("3,000 records behind the log\n"));
    }
}
