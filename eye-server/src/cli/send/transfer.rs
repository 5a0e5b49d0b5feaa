//! One file, or standard input, on its way into the log: strictly in order, one request at a time. While a request is
//! under way a thread of its own reads and prepares the next ones.

use super::{
    Plan, Receiver,
    batch::{Batch, Place, Preparer},
    delivery::{Delivered, Delivery, Refused, Undelivered, Verdict, stopped},
    line_id::LineIds,
    position::{Position, PositionFile},
    source::{LINE_BYTES_MAX, Lines, Source, Survey, survey},
    summary::{REFUSED_SHOWN_MAX, Summary},
};
use crate::{
    cli::{Failure, figures, note, progress::Progress, table::harmless},
    client::{Client, encoded},
};
use chrono::{SecondsFormat, Utc};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{mpsc, watch};

/// How many batches lie ready at most; each holds up to 4 MiB.
const BATCHES_READY: usize = 2;

/// Sends one source.
pub(super) struct Transfer<'a> {
    source: &'a Source,
    name: String,
    plan: &'a Plan,
    receiver: &'a Receiver,
    delivery: Delivery<'a>,
    /// What is acknowledged so far, by earlier runs too.
    done: Place,
    /// Lines sent, refused and shown as refused by this run.
    sent: u64,
    refused: u64,
    shown: u64,
    record: Option<Record>,
    /// Whether every event so far carries an id.
    has_ids: bool,
}

/// Keeps the position of a source that can be resumed.
struct Record {
    file: PositionFile,
    position: Position,
    refused_before: u64,
    /// False once it could not be saved; then no more is tried.
    works: bool,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(
        source: &'a Source,
        plan: &'a Plan,
        receiver: &'a Receiver,
        client: &'a Client,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let path = match &plan.application {
            Some(application) => format!("/events?application={}", encoded(application)),
            None => "/events".to_owned(),
        };
        Transfer {
            source,
            name: source.name(),
            plan,
            receiver,
            delivery: Delivery {
                client,
                path,
                patience: plan.patience,
                stop,
            },
            done: Place::default(),
            sent: 0,
            refused: 0,
            shown: 0,
            record: None,
            has_ids: true,
        }
    }

    /// Sends the source to its end, from where an earlier run left off if there was one.
    pub(super) async fn run(mut self, summary: &mut Summary) -> Result<(), Failure> {
        let mut survey = None;
        if let (Source::File(path), false) = (self.source, self.plan.again) {
            let found = self.survey(path).await?;
            self.resume(&found, summary);
            if self.done.line > 0 && self.done.position == found.bytes {
                return Ok(());
            }
            survey = Some(found);
        }
        let ids = survey.map(|survey| LineIds::new(&self.receiver.application, &survey.sha256));
        let end = survey.map(|survey| survey.bytes);
        let content = self
            .source
            .open(self.done.position)
            .map_err(|error| self.unread(&error))?;
        let lines = Lines::new(content, self.done.line, self.done.position, end);
        let wanted =
            (!matches!(self.source, Source::File(_))).then(|| Arc::new(AtomicBool::new(false)));
        let preparer = Preparer::new(lines, ids, self.plan.batch_lines, wanted.clone());
        let (sender, mut batches) = mpsc::channel(BATCHES_READY);
        std::thread::Builder::new()
            .name("prepare".to_owned())
            .spawn(move || preparer.run(&sender))
            .map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))?;
        let mut progress = Progress::new(&self.name, self.done.position);
        while let Some(batch) = self.next_batch(&mut batches, wanted.as_deref()).await? {
            let batch = batch.map_err(|error| self.unread(&error))?;
            self.deliver(batch, summary, &mut progress).await?;
            progress.tick(self.done.position, end, Some((self.sent, "events")));
        }
        if let Some(end) = end {
            // Empty lines at the end are in no batch.
            self.done.position = end;
            self.save(&mut progress);
        }
        if self.refused > self.shown {
            let more = figures::count(self.refused - self.shown);
            progress.note(&format!("{}: {more} more lines were refused", self.name));
        }
        Ok(())
    }

    /// Reads the file once for its hash, on a thread of its own.
    async fn survey(&self, path: &Path) -> Result<Survey, Failure> {
        let name = &self.name;
        let (path, stop) = (path.to_owned(), self.delivery.stop.clone());
        let mut progress = Progress::new(&format!("{name} (reading it once for its ids)"), 0);
        let reading = tokio::task::spawn_blocking(move || {
            survey(&path, &mut |done, of| {
                progress.tick(done, Some(of), None);
                !*stop.borrow()
            })
        });
        match reading.await {
            Ok(Ok(Some(survey))) => Ok(survey),
            Ok(Ok(None)) => Err(Failure::Failed(format!(
                "stopped; nothing of {name} was sent in this run"
            ))),
            Ok(Err(error)) => Err(self.unread(&error)),
            Err(error) => Err(Failure::Failed(format!(
                "reading {name} broke off: {error}"
            ))),
        }
    }

    /// Finds out where to go on.
    fn resume(&mut self, survey: &Survey, summary: &mut Summary) {
        let name = &self.name;
        let Some(folder) = &self.plan.positions else {
            return;
        };
        let file = PositionFile::new(
            folder,
            &self.receiver.store,
            &self.receiver.application,
            &survey.sha256,
        );
        let found = file.load(survey.bytes);
        if let Some(position) = &found {
            self.done = Place {
                line: position.line,
                position: position.position,
            };
            summary.sent_before += position.line;
            summary.refused_before += position.refused;
            let path = file.path().display();
            let lines = figures::count(position.line);
            note(&if position.position == survey.bytes {
                format!(
                    "{name}: all {lines} lines were sent before (until {}). --again sends them as new events; to send \
                     them once more under the same ids, delete {path}",
                    position.saved_at
                )
            } else {
                format!(
                    "{name}: going on after line {lines}, where the run of {} ended",
                    position.saved_at
                )
            });
        }
        let position = found.unwrap_or_else(|| Position {
            file: name.clone(),
            of: survey.bytes,
            ..Position::default()
        });
        self.record = Some(Record {
            file,
            refused_before: position.refused,
            position,
            works: true,
        });
    }

    /// Waits for the next batch, or for the person to stop.
    async fn next_batch(
        &mut self,
        batches: &mut mpsc::Receiver<io::Result<Batch>>,
        wanted: Option<&AtomicBool>,
    ) -> Result<Option<io::Result<Batch>>, Failure> {
        let tell = |waiting| {
            wanted
                .iter()
                .for_each(|wanted| wanted.store(waiting, Ordering::Relaxed))
        };
        tell(true);
        let mut stop = self.delivery.stop.clone();
        let batch = tokio::select! {
            biased;
            () = stopped(&mut stop) => return Err(Failure::Failed(format!("stopped{}", self.left_behind()))),
            batch = batches.recv() => batch,
        };
        tell(false);
        Ok(batch)
    }

    /// Delivers a batch, in halves of halves where the service finds it too large.
    async fn deliver(
        &mut self,
        batch: Batch,
        summary: &mut Summary,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        if !batch.has_ids && std::mem::replace(&mut self.has_ids, false) && !self.plan.again {
            progress.note(&format!(
                "{}: events without an id: this can be resumed only with ids in every line; sent again, they are \
                 stored again",
                self.name
            ));
        }
        for line in &batch.too_long {
            let text = format!(
                "The line is longer than {} and was not sent.",
                figures::bytes(LINE_BYTES_MAX)
            );
            let errors = BTreeMap::from([("event".to_owned(), Value::String(text))]);
            self.refuse(*line, "too_large", &errors, summary, progress);
        }
        self.count(
            Verdict {
                rejected: batch.too_long.len() as u64,
                ..Verdict::default()
            },
            summary,
        );
        let mut waiting = vec![batch];
        while let Some(batch) = waiting.pop() {
            if batch.len() > 0 {
                let verdict = match self
                    .delivery
                    .deliver(&batch, &mut |text| progress.note(text))
                    .await
                {
                    Ok(Delivered::Counted(verdict)) => verdict,
                    Ok(Delivered::TooLarge(_)) if batch.len() > 1 => {
                        let (first, second) = batch.halves();
                        waiting.extend([second, first]);
                        continue;
                    }
                    Ok(Delivered::TooLarge(problem)) => Verdict::of_one_refused(*problem),
                    Err(undelivered) => return Err(self.undelivered(undelivered)),
                };
                for Refused {
                    index,
                    code,
                    errors,
                } in &verdict.errors
                {
                    let line = batch.line_number(*index).unwrap_or(batch.end.line);
                    self.refuse(line, code, errors, summary, progress);
                }
                self.count(verdict, summary);
            }
            self.done = batch.end;
            self.save(progress);
        }
        Ok(())
    }

    fn count(&mut self, verdict: Verdict, summary: &mut Summary) {
        summary.stored += verdict.accepted;
        summary.duplicates += verdict.duplicates;
        summary.refused += verdict.rejected;
        self.sent += verdict.accepted + verdict.duplicates + verdict.rejected;
        self.refused += verdict.rejected;
    }

    fn refuse(
        &mut self,
        line: u64,
        code: &str,
        errors: &BTreeMap<String, Value>,
        summary: &mut Summary,
        progress: &mut Progress,
    ) {
        if self.shown < REFUSED_SHOWN_MAX {
            self.shown += 1;
            progress.note(&harmless_lines(
                &summary.refuse(&self.name, line, code, errors),
            ));
        }
    }

    /// Saves what is acknowledged. Where that fails, it is said once: the ids make sending again harmless.
    fn save(&mut self, progress: &mut Progress) {
        let Some(record) = self.record.as_mut().filter(|record| record.works) else {
            return;
        };
        record.position.line = self.done.line;
        record.position.position = self.done.position;
        record.position.refused = record.refused_before + self.refused;
        record.position.saved_at = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        if let Err(error) = record.file.save(&record.position) {
            record.works = false;
            progress.note(&format!(
                "cannot keep the position in {} ({error}): a next run starts from the beginning, where the ids make \
                 every event a duplicate",
                record.file.path().display()
            ));
        }
    }

    fn unread(&self, error: &io::Error) -> Failure {
        Failure::Failed(format!(
            "cannot read {}: {error}{}",
            self.name,
            self.left_behind()
        ))
    }

    fn undelivered(&self, undelivered: Undelivered) -> Failure {
        let left_behind = self.left_behind();
        match undelivered {
            Undelivered::Stopped => Failure::Failed(format!("stopped{left_behind}")),
            Undelivered::OutOfPatience(reason) => Failure::Failed(format!("{reason}{left_behind}")),
            Undelivered::Failed(error) => match Failure::from(error) {
                Failure::Usage(text) if self.done == Place::default() => Failure::Usage(text),
                other => Failure::Failed(format!("{other}{left_behind}")),
            },
        }
    }

    /// Says what is safe and how to go on.
    fn left_behind(&self) -> String {
        let (name, line) = (&self.name, self.done.line);
        let acknowledged = format!(
            "\n{} lines of {name} were acknowledged in this run, up to line {}",
            figures::count(self.sent),
            figures::count(line)
        );
        let how = match (self.source, &self.record) {
            (Source::File(_), Some(Record { works: true, .. })) if line > 0 => {
                "run the same command again to go on after it".to_owned()
            }
            (Source::File(_), _) if !self.plan.again => {
                "run the same command again; what is stored already will not be stored twice"
                    .to_owned()
            }
            (Source::File(path), _) => {
                format!(
                    "--again keeps no position: `tail -n +{}` of the content of {} is left",
                    line + 1,
                    path.display()
                )
            }
            _ if self.has_ids => {
                "send all of it again: the ids keep events from being stored twice".to_owned()
            }
            _ => format!("its events carry no ids, so go on with line {}", line + 1),
        };
        format!("{acknowledged}; {how}")
    }
}

/// Takes out of messages, which quote what was sent, whatever could steer a terminal.
fn harmless_lines(text: &str) -> String {
    text.lines().map(harmless).collect::<Vec<_>>().join("\n")
}
