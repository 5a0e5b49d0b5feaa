//! `GET /ledger`: what arrived and what became of it, in sums that have to come out even.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use eye_index::Needs;
use eye_log::record::Record;
use eye_log::{ApplicationId, Balance, Ledger, Offset};
use serde_json::{Value, json};

use crate::auth::Identity;
use crate::error::Problem;
use crate::listing::{every_event, narrow};
use crate::operation::{Answer, Component, Field, Operation, Shape};
use crate::question::{APPLICATION, FROM, TO};
use crate::routes::json as respond;
use crate::state::AppState;
use crate::view;

const HOUR_MICROS: i64 = 3_600_000_000;
/// While files are being replaced, what the log has dropped the index may still have, for a moment.
const TRIES: u32 = 20;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);

const SUMS: [Field; 11] = [
    Field::whole("received"),
    Field::whole("stored"),
    Field::whole("duplicate"),
    Field::whole("rejected"),
    Field::whole("indexed"),
    Field::whole("pending"),
    Field::whole("erased"),
    Field::whole("expired"),
    Field::whole("lost"),
    Field::whole("rejections_kept"),
    Field::whole("rejections_dropped"),
];
/// The sums of all applications.
pub(crate) static LEDGER_SUMS: Component = Component::object("LedgerSums", &SUMS);

/// What of an application can be found, and what not yet.
#[derive(Debug, Default, Clone, Copy)]
struct Found {
    indexed: u64,
    pending: u64,
}

/// What [`ledger`] takes and answers.
pub(crate) static LEDGER: Operation = Operation::reads(
    "What arrived and what became of it: received = stored + \
     duplicate + rejected; stored = indexed + pending + erased + \
     expired + lost",
)
.query(&[
    APPLICATION,
    FROM.about("Arrived in the hour of this time or later."),
    TO.about("Arrived before; an hour that is begun counts whole."),
])
.answers(&[Answer::json(
    200,
    "The sums, per application and in total.",
    Shape::Object(&[
        Field::whole("as_of"),
        Field::list(
            "applications",
            &Shape::Both(&[Field::text("application")], &SUMS),
        ),
        Field::of("total", &LEDGER_SUMS),
        Field::whole("unauthenticated_requests").optional().about(
            "For whoever sees all applications: requests to send without a \
             token that holds.",
        ),
    ]),
)]);

/// Answers `GET /ledger`: per application and in total, of whole hours of arrival.
pub(crate) async fn ledger(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(given): RawQuery,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let parameters = LEDGER.parameters(given.as_deref())?;
    let (application, nothing) = narrow(&state, scope, parameters.text("application"));
    let (now, zone) = (eye_log::now(), state.settings().default_timezone.0);
    let hour = |instant: i64| u32::try_from(instant.div_euclid(HOUR_MICROS)).unwrap_or(0);
    let from = parameters.time("from", now, zone)?.map_or(0, hour);
    // An hour that is begun is counted whole.
    let to = parameters.time("to", now, zone)?;
    let to = to.map_or(u32::MAX, |to| hour(to.saturating_add(HOUR_MICROS - 1)));
    let inner = state.clone();
    let body = view::run(&state, move || {
        let apps: Vec<(ApplicationId, String)> = inner
            .log()
            .registry()
            .applications()
            .filter(|known| !nothing && application.is_none_or(|own| own == known.id))
            .map(|known| (known.id, known.name.clone()))
            .collect();
        let (ledger, found) = balanced(&inner, &(from..to), &apps)?;
        Ok(shape(&inner, &ledger, &found, &apps, application.is_none()))
    })
    .await?;
    Ok(respond(StatusCode::OK, body.to_string()))
}

/// Takes the sums until they come out even.
fn balanced(
    state: &AppState,
    hours: &Range<u32>,
    apps: &[(ApplicationId, String)],
) -> Result<(Ledger, BTreeMap<ApplicationId, Found>), Problem> {
    let mut tried = 1;
    loop {
        let ledger = state.reader().ledger(hours.clone())?;
        let found = found(state, hours, apps, ledger.end)?;
        let even = apps.iter().all(|(id, _)| {
            let balance = ledger.applications.get(id).copied().unwrap_or_default();
            let found = found.get(id).copied().unwrap_or_default();
            is_even(&balance, found)
        });
        if even || tried == TRIES {
            if !even {
                tracing::error!(?ledger, ?found, "the ledger does not come out even");
            }
            return Ok((ledger, found));
        }
        tried += 1;
        std::thread::sleep(TRY_AGAIN_AFTER);
    }
}

fn is_even(balance: &Balance, found: Found) -> bool {
    let gone = balance.erased + balance.expired + balance.lost;
    balance.stored == found.indexed + found.pending + gone
}

/// Counts what the index finds, and what it does not have yet.
fn found(
    state: &AppState,
    hours: &Range<u32>,
    apps: &[(ApplicationId, String)],
    end: Offset,
) -> Result<BTreeMap<ApplicationId, Found>, Problem> {
    let through = state.index().through(Needs::Search).min(end);
    let mut found: BTreeMap<ApplicationId, Found> = BTreeMap::new();
    let mut scan = state.reader().scan(through);
    while scan.next_offset() < end {
        let read = scan.read(|offset, record| {
            if let Record::Event(event) = record
                && offset < end
                && within(hours, event.received_at)
            {
                found.entry(event.application).or_default().pending += 1;
            }
        })?;
        if read == 0 {
            break;
        }
    }
    // Arrivals never go backwards: a range of hours is one of offsets.
    let mut lookup = state.reader().lookup();
    let mut first_of = |hour: u32| match hour {
        0 => Ok(0),
        u32::MAX => Ok(Offset::MAX),
        hour => lookup.first_arrived_at(i64::from(hour) * HOUR_MICROS),
    };
    let (first, behind) = (first_of(hours.start)?, first_of(hours.end)?);
    for (id, _) in apps {
        let count_below = |as_of: Offset| {
            let all = every_event(state, Some(*id), as_of)?;
            state.index().count(&all).map_err(Problem::from)
        };
        let below = count_below(behind.min(through))?;
        let before = count_below(first.min(through))?;
        found.entry(*id).or_default().indexed = below.saturating_sub(before);
    }
    Ok(found)
}

fn within(hours: &Range<u32>, instant: i64) -> bool {
    let hour = u32::try_from(instant.div_euclid(HOUR_MICROS)).unwrap_or(0);
    hours.contains(&hour)
}

fn shape(
    state: &AppState,
    ledger: &Ledger,
    found: &BTreeMap<ApplicationId, Found>,
    apps: &[(ApplicationId, String)],
    everything: bool,
) -> Value {
    let mut total = [0u64; 10];
    let mut rows = Vec::new();
    let rejections = state.rejections().counts();
    for (id, name) in apps {
        let balance = ledger.applications.get(id).copied().unwrap_or_default();
        let found = found.get(id).copied().unwrap_or_default();
        let refused = rejections.get(id).copied().unwrap_or_default();
        let counts = [
            balance.stored,
            balance.duplicates,
            balance.rejected,
            found.indexed,
            found.pending,
            balance.erased,
            balance.expired,
            balance.lost,
            refused.kept,
            refused.dropped,
        ];
        for (sum, count) in total.iter_mut().zip(counts) {
            *sum += count;
        }
        rows.push(row(Some(name), counts));
    }
    let mut body = json!({ "as_of": ledger.end, "applications": rows, "total": row(None, total) });
    if everything {
        body["unauthenticated_requests"] = json!(ledger.unauthenticated);
    }
    body
}

fn row(name: Option<&str>, counts: [u64; 10]) -> Value {
    let [
        stored,
        duplicate,
        rejected,
        indexed,
        pending,
        erased,
        expired,
        lost,
        kept,
        dropped,
    ] = counts;
    let mut row = json!({
        "received": stored + duplicate + rejected, "stored": stored, "duplicate": duplicate, "rejected": rejected,
        "indexed": indexed, "pending": pending, "erased": erased, "expired": expired, "lost": lost,
        "rejections_kept": kept, "rejections_dropped": dropped,
    });
    if let Some(name) = name {
        row["application"] = json!(name);
    }
    row
}
