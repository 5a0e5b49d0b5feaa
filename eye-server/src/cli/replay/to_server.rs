//! Events to another service, under their ids, resumable.

use super::{
    ReplayArgs,
    batches::{Batches, Due},
};
use crate::{
    cli::{
        Common, Failure, Outcome,
        log::records::Records,
        note, print,
        progress::Progress,
        send::{
            self,
            batch::Batch,
            delivery::{Delivery, Step, Undelivered, Verdict, stopped},
            position::{self, Position, PositionFile},
            summary::{REFUSED_SHOWN_MAX, Summary},
        },
    },
    client::{Client, MissingFolder, Target, encoded},
};
use axum::http::Method;
use chrono::{SecondsFormat, Utc};
use eye_log::Offset;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, time::Instant};
use tokio::sync::watch;

/// The service that events go to, as its token is known there.
struct Receiver {
    store: String,
    /// The one application of an application's token.
    application: Option<String>,
    /// Applications known to be there; only an admin asks.
    registered: BTreeSet<String>,
}

pub(super) async fn run(
    args: &ReplayArgs,
    url: &str,
    mut records: Records,
    common: &Common,
) -> Result<Outcome, Failure> {
    let client = Client::open(&Target {
        data: common.data.clone(),
        config: None,
        server: Some(url.to_owned()),
        token: common.token.clone(),
        missing_folder: MissingFolder::Refuse,
    })
    .await?;
    let receiver = Receiver::ask(&client, &records).await?;
    let only = wanted_application(args, &receiver, &records)?;
    let mut record = Kept::open(args, &receiver, &records, only.as_deref());
    if let Some(position) = record.found.as_ref().filter(|_| !args.again) {
        note(&format!(
            "going on at offset {}, where the run of {} ended; --again begins from the start",
            position.position, position.saved_at
        ));
        records.skip_to(position.position);
    }
    let (stopper, stop) = watch::channel(false);
    tokio::spawn(send::stop_on_signals(stopper));
    let mut replay = Replay {
        progress: Progress::counting("replaying", "records"),
        first: records.first(),
        all: records.count(),
        summary: Summary::start(),
        client: &client,
        receiver,
        stop,
        shown: 0,
    };
    let batches = Batches::start(records, only, args.pace())?;
    let result = replay.send_all(batches, &mut record).await;
    replay.progress.clear();
    let summary = replay.summary;
    if result.is_ok() || summary.sent() > 0 {
        print(&if common.json {
            let mut line = summary.json();
            line["next_offset"] = json!(record.position.position);
            line.to_string()
        } else {
            summary.text().replace(" lines ", " events ")
        })?;
    }
    result?;
    Ok(if summary.refused > 0 {
        Outcome::No
    } else {
        Outcome::Done
    })
}

impl Receiver {
    /// Asks who it is and what the token may do there. Replaying a log into itself would store all of it twice.
    async fn ask(client: &Client, records: &Records) -> Result<Self, Failure> {
        let me = send::who_am_i(client, &send::patience(true)).await?;
        let store = me["store"].as_str().unwrap_or(client.place()).to_owned();
        if store == records.store().to_string() {
            return Err(Failure::Usage(
                "the service at --to has this very log; replaying it there would store every event once more".to_owned(),
            ));
        }
        let application = me["application"].as_str().map(str::to_owned);
        let mut registered = BTreeSet::new();
        if application.is_none() {
            for known in client.list("/applications", "applications").await? {
                registered.extend(known["name"].as_str().map(str::to_owned));
            }
        }
        Ok(Receiver {
            store,
            application,
            registered,
        })
    }

    /// Returns the path that an application's events go to; registers the application where it is missing.
    async fn path_for(&mut self, client: &Client, application: &str) -> Result<String, Failure> {
        if self.application.is_some() {
            return Ok("/events".to_owned());
        }
        if !self.registered.contains(application) {
            let body = json!({ "name": application });
            client
                .call(Method::POST, "/applications", Some(&body))
                .await?;
            note(&format!(
                "registered application {application} there; `eye token create --app` makes a token of it"
            ));
            self.registered.insert(application.to_owned());
        }
        Ok(format!("/events?application={}", encoded(application)))
    }
}

/// Returns the application whose events are wanted; none: every one.
fn wanted_application(
    args: &ReplayArgs,
    receiver: &Receiver,
    records: &Records,
) -> Result<Option<String>, Failure> {
    match (&args.app, &receiver.application) {
        (Some(named), _) => Ok(Some(named.clone())),
        (None, Some(of_token)) if records.registry().application_named(of_token).is_some() => {
            Ok(Some(of_token.clone()))
        }
        (None, Some(of_token)) => Err(Failure::Usage(format!(
            "the token is of application {of_token}, which this log does not have; --app NAME says whose events to send"
        ))),
        (None, None) => Ok(None),
    }
}

/// How far this replay has got, kept between runs.
struct Kept {
    /// None without a home to keep it in, or once it could not be saved.
    file: Option<PositionFile>,
    found: Option<Position>,
    position: Position,
}

impl Kept {
    /// Positions are kept per source, target and selection. The end of the log is no part of it: a later run sends what
    /// came since.
    fn open(args: &ReplayArgs, receiver: &Receiver, records: &Records, only: Option<&str>) -> Self {
        let selection = format!(
            "replay {} {:?} {:?} {:?} {:?}",
            records.store(),
            args.from,
            args.until,
            args.since,
            args.segment
        );
        let file = position::folder().map(|folder| {
            let content = Sha256::digest(selection).into();
            PositionFile::new(&folder, &receiver.store, only.unwrap_or_default(), &content)
        });
        let found = file.as_ref().and_then(|file| file.load(Offset::MAX));
        let position = Position {
            file: format!("replay of {}", records.store()),
            of: Offset::MAX,
            ..found.clone().filter(|_| !args.again).unwrap_or_default()
        };
        Kept {
            file,
            found,
            position,
        }
    }

    fn save(&mut self, next: Offset, sent: u64, progress: &mut Progress) {
        self.position.position = next;
        self.position.line += sent;
        self.position.saved_at = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        if let Some(file) = &self.file
            && let Err(error) = file.save(&self.position)
        {
            progress.note(&format!(
                "cannot keep the position in {} ({error}): a next run starts from the beginning, where the ids make every \
                 event a duplicate",
                file.path().display()
            ));
            self.file = None;
        }
    }
}

struct Replay<'a> {
    client: &'a Client,
    receiver: Receiver,
    stop: watch::Receiver<bool>,
    summary: Summary,
    progress: Progress,
    first: Offset,
    all: u64,
    shown: u64,
}

impl Replay<'_> {
    async fn send_all(&mut self, mut batches: Batches, record: &mut Kept) -> Result<(), Failure> {
        let started = Instant::now();
        let mut stop = self.stop.clone();
        loop {
            let batch = tokio::select! {
                biased;
                () = stopped(&mut stop) => return Err(self.stopped(record)),
                batch = batches.next() => batch?,
            };
            let Some(Due {
                application,
                events,
                due,
            }) = batch
            else {
                return Ok(());
            };
            tokio::select! {
                biased;
                () = stopped(&mut stop) => return Err(self.stopped(record)),
                () = tokio::time::sleep_until((started + due).into()) => {}
            }
            let path = self.receiver.path_for(self.client, &application).await?;
            self.deliver(path, events, record).await?;
        }
    }

    fn stopped(&self, record: &Kept) -> Failure {
        let how = match &record.file {
            Some(_) => "the same command goes on there".to_owned(),
            None => format!("--from {} goes on there", record.position.position),
        };
        Failure::Failed(format!(
            "stopped before offset {}; {how}",
            record.position.position
        ))
    }

    /// Delivers a request, in halves of halves where the service finds it too large.
    async fn deliver(
        &mut self,
        path: String,
        events: Batch,
        record: &mut Kept,
    ) -> Result<(), Failure> {
        let mut delivery = Delivery {
            client: self.client,
            path,
            patience: send::patience(true),
            stop: self.stop.clone(),
        };
        let delivered = delivery
            .deliver_parts(events, &mut |step| match step {
                Step::Waits(why) => self.progress.note(why),
                Step::Counted(batch, verdict) => {
                    self.count(batch, verdict);
                    let next = batch.end.position;
                    record.save(next, batch.len() as u64, &mut self.progress);
                    let sent = self.summary.sent();
                    let done = next.saturating_sub(self.first).min(self.all);
                    self.progress
                        .tick(done, Some(self.all), Some((sent, "events")));
                }
            })
            .await;
        match delivered {
            Ok(()) => Ok(()),
            Err(Undelivered::Stopped) => Err(self.stopped(record)),
            Err(Undelivered::Failed(error)) => Err(error.into()),
            Err(Undelivered::OutOfPatience(reason)) => Err(Failure::Failed(reason)),
        }
    }

    fn count(&mut self, batch: &Batch, verdict: &Verdict) {
        self.summary.stored += verdict.accepted;
        self.summary.duplicates += verdict.duplicates;
        self.summary.refused += verdict.rejected;
        for refused in &verdict.errors {
            let offset = batch.line_number(refused.index).unwrap_or(batch.end.line);
            let said = self
                .summary
                .refuse("offset", offset, &refused.code, &refused.errors);
            if self.shown < REFUSED_SHOWN_MAX {
                self.shown += 1;
                self.progress.note(&harmless_lines(&said));
            }
        }
    }
}

/// What a service says is shown without control characters, which could move the terminal's cursor.
fn harmless_lines(text: &str) -> String {
    text.lines()
        .map(|line| crate::cli::table::harmless(line).into_owned())
        .collect::<Vec<_>>()
        .join("\n")
}
