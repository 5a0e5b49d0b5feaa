//! The old service's events: rows into lines of NDJSON, sent in the order of the file, resumable.

use super::Refusals;
use super::applications::Applications;
use super::dump::{Cells, Dump, Row};
use super::sessions::Sessions;
use crate::cli::{
    Failure,
    progress::Progress,
    send::{
        self,
        batch::{Gathering, Place},
        delivery::{Delivery, Step, Undelivered, stopped},
        position::{Position, PositionFile},
        source::{Source, Survey, survey},
        summary::Summary,
    },
};
use crate::client::{Client, encoded};
use chrono::{SecondsFormat, Utc};
use eye_server::on_one_line;
use serde_json::{json, value::RawValue};
use std::collections::BTreeMap;
use tokio::sync::watch;
use uuid::Uuid;

/// How many rows are sent before the position is kept. Each application's go into requests of their own.
const WINDOW_ROWS: usize = 5_000;
const WINDOW_BYTES: usize = 4 << 20;

/// Sends the events of one file.
pub(super) struct Events<'a> {
    pub(super) client: &'a Client,
    pub(super) dump: &'a Dump,
    pub(super) applications: &'a Applications,
    pub(super) sessions: &'a Sessions,
    pub(super) stop: watch::Receiver<bool>,
    /// Where the position is kept; none: nowhere.
    pub(super) kept: Option<PositionFile>,
}

impl<'a> Events<'a> {
    /// Reads the file once for its hash, by which its position is found again.
    pub(super) fn survey(dump: &Dump) -> Result<Survey, Failure> {
        let Source::File(path) = &dump.source else {
            return Err(Failure::Failed(format!("{} is no file", dump.name)));
        };
        let mut progress = Progress::new(&format!("{} (reading it once)", dump.name), 0);
        let read = survey(path, &mut |done, of| {
            progress.tick(done, Some(of), None);
            true
        });
        read.map_err(|error| dump.unread(&error))?
            .ok_or_else(|| Failure::Failed(format!("{} was not read to its end", dump.name)))
    }

    /// Sends from a place on; `of` is the length of the content.
    pub(super) async fn send(
        &mut self,
        from: Place,
        of: u64,
        summary: &mut Summary,
        refusals: &mut Refusals,
    ) -> Result<(), Failure> {
        let dump = self.dump;
        let mut rows = dump.rows(from).map_err(|error| dump.unread(&error))?;
        let mut progress = Progress::new(&dump.name, from.position);
        let mut stop = self.stop.clone();
        loop {
            let mut window: BTreeMap<u32, Gathering> = BTreeMap::new();
            let (mut count, mut bytes, mut is_over) = (0, 0, false);
            while count < WINDOW_ROWS && bytes < WINDOW_BYTES {
                let (line, cells) = match rows.next().map_err(|error| dump.unread(&error))? {
                    Row::End => {
                        is_over = true;
                        break;
                    }
                    Row::Broken(line, why) => {
                        refusals.note(&dump.name, line, "row", &why);
                        continue;
                    }
                    Row::Cells(line, cells) => (line, cells),
                };
                count += 1;
                match self.event(&cells) {
                    Ok((application, _)) if !self.applications.get(application).takes_events => {
                        refusals.left_out += 1;
                    }
                    Ok((application, event)) => {
                        bytes += event.len();
                        let Place { position, .. } = rows.place();
                        let gathering = window.entry(application).or_default();
                        gathering.push(event.as_bytes(), Place { line, position });
                    }
                    Err((field, why)) => refusals.note(&dump.name, line, field, &why),
                }
            }
            for (application, mut gathering) in window {
                self.deliver(
                    application,
                    gathering.take(),
                    summary,
                    refusals,
                    &mut progress,
                )
                .await?;
            }
            let place = rows.place();
            self.keep(place, of, refusals, &mut progress);
            progress.tick(place.position, Some(of), Some((summary.sent(), "events")));
            if is_over {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = stopped(&mut stop) => return Err(self.stopped(place)),
                () = std::future::ready(()) => {}
            }
        }
    }

    /// Returns whose event a row is, and the line to send; or which column is wrong, and how.
    fn event(&self, cells: &Cells) -> Result<(u32, String), (&'static str, String)> {
        let cell = |place: usize, name: &'static str| {
            cells[place]
                .as_deref()
                .ok_or_else(|| (name, "This field is required.".to_owned()))
        };
        let session = cell(1, "session_id")?;
        let session = Uuid::try_parse(session.trim())
            .map_err(|_| ("session_id", "Not a valid UUID.".to_owned()))?;
        let application = self.sessions.application(session).ok_or_else(|| {
            (
                "session_id",
                "No session that was read has this id.".to_owned(),
            )
        })?;
        let id = cell(0, "id")?.trim();
        // A number is no id here; the same number of the same session always gives the same one.
        let id = Uuid::try_parse(id).unwrap_or_else(|_| Uuid::new_v5(&session, id.as_bytes()));
        let data = cell(4, "data")?;
        let is_object = data.trim_start().starts_with('{');
        if !is_object || serde_json::from_str::<&RawValue>(data).is_err() {
            return Err(("data", "Not a JSON object.".to_owned()));
        }
        let event = format!(
            "{{\"id\":\"{id}\",\"session_id\":\"{session}\",\"category\":{},\"name\":{},\"timestamp\":{},\"data\":{}}}",
            json!(cell(2, "category")?),
            json!(cell(3, "name")?),
            json!(instant(cell(5, "timestamp")?)),
            on_one_line(data),
        );
        Ok((application, event))
    }

    async fn deliver(
        &mut self,
        application: u32,
        events: send::batch::Batch,
        summary: &mut Summary,
        refusals: &mut Refusals,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        if events.len() == 0 {
            return Ok(());
        }
        let name = &self.applications.get(application).name;
        let mut delivery = Delivery {
            client: self.client,
            path: format!("/events?application={}", encoded(name)),
            patience: send::patience(true),
            stop: self.stop.clone(),
        };
        let delivered = delivery
            .deliver_parts(events, &mut |step| match step {
                Step::Waits(why) => progress.note(why),
                Step::Counted(batch, verdict) => {
                    summary.stored += verdict.accepted;
                    summary.duplicates += verdict.duplicates;
                    for refused in &verdict.errors {
                        let line = batch.line_number(refused.index).unwrap_or(batch.end.line);
                        refusals.add(&self.dump.name, line, &refused.code, &refused.errors);
                    }
                    // Beyond a thousand the service counts without saying why.
                    refusals.count(verdict.rejected - verdict.errors.len() as u64);
                }
            })
            .await;
        match delivered {
            Ok(()) => Ok(()),
            Err(Undelivered::Stopped) => Err(Failure::Failed(format!(
                "{}: stopped; the same command goes on there",
                self.dump.name
            ))),
            Err(Undelivered::Failed(error)) => Err(error.into()),
            Err(Undelivered::OutOfPatience(reason)) => Err(Failure::Failed(reason)),
        }
    }

    fn stopped(&self, place: Place) -> Failure {
        Failure::Failed(format!(
            "{}: stopped behind line {}; the same command goes on there",
            self.dump.name, place.line
        ))
    }

    /// Keeps how far the file is. Where that fails, it is said once: the ids make sending again harmless.
    fn keep(&mut self, place: Place, of: u64, refusals: &Refusals, progress: &mut Progress) {
        let Some(file) = &self.kept else { return };
        let position = Position {
            file: self.dump.name.clone(),
            line: place.line,
            position: place.position,
            of,
            refused: refusals.of(&self.dump.name),
            saved_at: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
        };
        if let Err(error) = file.save(&position) {
            progress.note(&format!(
                "cannot keep the position in {} ({error}): a next run starts from the beginning, where the ids make every \
                 event a duplicate",
                file.path().display()
            ));
            self.kept = None;
        }
    }
}

/// PostgreSQL writes `+00` where RFC 3339 has `+00:00`.
fn instant(text: &str) -> String {
    let text = text.trim();
    let short = text.len() > 19
        && text.as_bytes()[text.len() - 3..]
            .iter()
            .enumerate()
            .all(|(at, byte)| match at {
                0 => matches!(byte, b'+' | b'-'),
                _ => byte.is_ascii_digit(),
            });
    if short {
        format!("{text}:00")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_the_service_reads_them() {
        for (text, expected) in [
            (
                "2021-01-01 09:15:27.24386+00",
                "2021-01-01 09:15:27.24386+00:00",
            ),
            ("2021-01-01 09:15:27-03", "2021-01-01 09:15:27-03:00"),
            ("2021-01-01 09:15:27+05:30", "2021-01-01 09:15:27+05:30"),
            ("2021-01-01 09:15:27.24386", "2021-01-01 09:15:27.24386"),
            ("2021-01-01", "2021-01-01"),
            ("2021-01-01T09:15:27Z", "2021-01-01T09:15:27Z"),
        ] {
            assert_eq!(instant(text), expected);
        }
    }
}
