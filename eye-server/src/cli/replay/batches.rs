//! Events read from the log on a thread of their own and gathered into requests: one application each, in the order of
//! the log, with the time each is due.

use super::pace::Pace;
use crate::cli::{
    Failure,
    log::records::{Records, application_name},
    send::batch::{Batch, Gathering, Place},
};
use eye_log::{
    ApplicationId, Offset, format_timestamp,
    record::{EventRecord, Record},
};
use eye_server::on_one_line;
use serde_json::Value;
use std::{ops::ControlFlow, time::Duration};
use tokio::sync::mpsc;

/// How many requests lie ready at most.
const READY: usize = 2;
/// How many events go into one request at most; half of what a service takes by default.
const EVENTS_MAX: usize = 5_000;

/// The events of one request. The number of a line is its event's offset.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) application: String,
    pub(super) events: Batch,
    /// When it is due, from the start of the run.
    pub(super) due: Duration,
}

/// Hands out requests until the records wanted are over.
#[derive(Debug)]
pub(super) struct Batches {
    ready: mpsc::Receiver<Result<Due, Failure>>,
}

impl Batches {
    /// Begins to read; `only` names the one application that is wanted.
    pub(super) fn start(
        records: Records,
        only: Option<String>,
        pace: Pace,
    ) -> Result<Self, Failure> {
        let (sender, ready) = mpsc::channel(READY);
        std::thread::Builder::new()
            .name("replay".to_owned())
            .spawn(move || read(records, only.as_deref(), pace, &sender))
            .map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))?;
        Ok(Batches { ready })
    }

    /// Returns the next request; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Due>, Failure> {
        self.ready.recv().await.transpose()
    }
}

/// The request that is being gathered.
struct Gatherer<'a> {
    ready: &'a mpsc::Sender<Result<Due, Failure>>,
    pace: Pace,
    gathering: Gathering,
    application: Option<(ApplicationId, String)>,
    due: Duration,
    number: u64,
    first_arrival: Option<i64>,
}

fn read(
    records: Records,
    only: Option<&str>,
    pace: Pace,
    ready: &mpsc::Sender<Result<Due, Failure>>,
) {
    let registry = records.registry().clone();
    let mut gatherer = Gatherer {
        ready,
        pace,
        gathering: Gathering::default(),
        application: None,
        due: Duration::ZERO,
        number: 0,
        first_arrival: None,
    };
    let mut line = Vec::new();
    let read = records.each(|offset, record| {
        let Record::Event(event) = record else {
            return ControlFlow::Continue(());
        };
        let name = || application_name(&registry, event.application);
        if only.is_some_and(|only| only != name()) {
            return ControlFlow::Continue(());
        }
        line.clear();
        write_event(&mut line, event);
        gatherer.add(offset, event, name, &line)
    });
    // When nobody takes the requests any more the run is over anyway.
    let _ = gatherer.hand_over();
    if let Err(failed) = read {
        let _ = ready.blocking_send(Err(failed));
    }
}

impl Gatherer<'_> {
    fn add(
        &mut self,
        offset: Offset,
        event: &EventRecord<'_>,
        name: impl FnOnce() -> String,
        line: &[u8],
    ) -> ControlFlow<()> {
        let first = *self.first_arrival.get_or_insert(event.received_at);
        let due = self.pace.due(self.number, event.received_at - first);
        self.number += 1;
        let another = self
            .application
            .as_ref()
            .is_none_or(|(id, _)| *id != event.application);
        if another
            || self.gathering.len() >= EVENTS_MAX
            || self.gathering.is_full_for(line.len())
            || self.pace.parts(self.due, due)
        {
            self.hand_over()?;
            if another {
                self.application = Some((event.application, name()));
            }
        }
        if self.gathering.len() == 0 {
            self.due = due;
        }
        let end = Place {
            line: offset,
            position: offset + 1,
        };
        self.gathering.push(line, end);
        ControlFlow::Continue(())
    }

    /// Hands over what was gathered; breaks off when nobody takes it.
    fn hand_over(&mut self) -> ControlFlow<()> {
        let Some((_, application)) = self
            .application
            .as_ref()
            .filter(|_| self.gathering.len() > 0)
        else {
            return ControlFlow::Continue(());
        };
        let due = Due {
            application: application.clone(),
            events: self.gathering.take(),
            due: self.due,
        };
        match self.ready.blocking_send(Ok(due)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

/// Writes an event as it is sent, under the id it has.
fn write_event(out: &mut Vec<u8>, event: &EventRecord<'_>) {
    let text = |text: &str| Value::from(text).to_string();
    let client_key = event
        .client
        .map(|client| client.key)
        .filter(|key| !key.is_empty());
    let id = client_key.map_or_else(|| format!("\"{}\"", event.id), text);
    let line = format!(
        "{{\"id\":{id},\"session_id\":\"{}\",\"category\":{},\"name\":{},\"timestamp\":\"{}\",\"data\":{}}}",
        event.session_id,
        text(event.category),
        text(event.name),
        format_timestamp(event.timestamp),
        on_one_line(event.data),
    );
    out.extend_from_slice(line.as_bytes());
}
