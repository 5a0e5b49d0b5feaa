//! The whole log through the indexer once more: the index is made anew.

use crate::cli::{Common, Failure, Outcome, figures, print, progress::Progress};
use serde_json::json;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Takes the folder, removes the index, and waits until it has grown back.
pub(super) async fn run(common: &Common) -> Result<Outcome, Failure> {
    let settings = common.settings(Vec::new())?;
    let started = Instant::now();
    let app = eye_server::open_with_new_index(&settings)
        .await
        .map_err(|error| match error {
            eye_server::StartError::Log(eye_log::OpenError::Locked { holder, .. }) => Failure::Failed(format!(
                "process {holder} has {}: stop that server first. Its index cannot be made anew while it answers from it",
                common.data.display()
            )),
            other => Failure::Failed(other.to_string()),
        })?;
    let mut progress = Progress::counting("indexing", "records");
    let mut trouble = None;
    let records = loop {
        let state = app.index_progress();
        progress.tick(state.through, Some(state.end), None);
        if state.through >= state.end {
            break state.end;
        }
        if trouble != state.trouble {
            if let Some(trouble) = &state.trouble {
                progress.note(&format!(
                    "the index does not go on: {trouble}; trying again"
                ));
            }
            trouble = state.trouble;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    progress.clear();
    app.close().await;
    let elapsed = started.elapsed();
    print(&if common.json {
        json!({"records": records, "seconds": elapsed.as_secs_f64()}).to_string()
    } else {
        format!(
            "the index was made anew: {} records in {:.1} s ({}/s)",
            figures::count(records),
            elapsed.as_secs_f64(),
            figures::count(figures::per_second(records, elapsed)),
        )
    })?;
    Ok(Outcome::Done)
}
