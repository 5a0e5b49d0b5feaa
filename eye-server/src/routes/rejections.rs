//! `/rejections`: what was refused, why, and sending it again.

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eye_log::{ApplicationId, Registry, format_timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::Identity;
use crate::error::{Code, FIELD_ERRORS, Problem};
use crate::ingest::{admit, read_body, store};
use crate::listing::narrow;
use crate::operation::{Answer, Component, Field, Operation, Shape};
use crate::parameters::{CURSOR, ID, LIMIT, Parameters};
use crate::question::{APPLICATION, FROM, TO};
use crate::registrar::Page;
use crate::rejections::{CannotRetry, Filter, Rejection, State as Fate};
use crate::routes::events::answer::STORED;
use crate::routes::events::{Judge, Single, answer, open_again};
use crate::routes::json as respond;
use crate::routes::tasks::accepted;
use crate::state::AppState;
use crate::tasks::{Pulse, TASK};
use crate::view;
use crate::wire::EVENT_DRAFT;

const SINCE: Field = FROM.about("Received then or later.");
const BEFORE: Field = TO.about("Received before.");

/// A rejection as it is answered.
pub(crate) static REJECTION: Component = Component::object(
    "Rejection",
    &[
        Field::uuid("id"),
        Field::text("application").or_null(),
        Field::time("received_at"),
        Field::text("path"),
        Field::whole("index").or_null(),
        Field::text("code"),
        Field::of("errors", &FIELD_ERRORS),
        Field::list("paths", &Shape::Text)
            .about("Where in the event, as JSON pointers; empty for all of it."),
        Field::whole("bytes").about("How long what was sent is."),
        Field::boolean("truncated"),
        Field::text("sha256")
            .optional()
            .about("Of all that was sent, where only a part is kept."),
        Field::text("user_agent").or_null(),
        Field::one_of("state", &["open", "retried"]),
        Field::uuid("event_id")
            .optional()
            .about("The event that it became."),
        Field::text("body")
            .optional()
            .about("What was sent, where it is UTF-8."),
        Field::text("body_base64")
            .optional()
            .about("What was sent, where it is not."),
    ],
);

/// What [`list`] takes and answers.
pub(crate) static LIST: Operation =
    Operation::reads("What was refused, newest first, or counted by application and reason")
        .query(&[
            APPLICATION,
            Field::text("reason")
                .optional()
                .about("A code, such as `invalid_event`."),
            SINCE,
            BEFORE,
            Field::one_of("state", &["open", "retried"])
                .optional()
                .about("What became of it."),
            Field::boolean("summary")
                .optional()
                .about("`true`: counts of the open ones."),
            LIMIT,
            CURSOR,
        ])
        .answers(&[Answer::json(
            200,
            "The rejections without their bodies, or the counts.",
            Shape::Either(&[
                Shape::Page("rejections", &Shape::Of(&REJECTION)),
                Shape::Object(&[Field::list(
                    "summary",
                    &Shape::Object(&[
                        Field::text("application").or_null(),
                        Field::text("reason"),
                        Field::whole("count"),
                        Field::time("first"),
                        Field::time("last"),
                    ]),
                )]),
            ]),
        )]);

/// Answers `GET /rejections`: newest first, without their bodies; with `summary=true` counts by application and reason.
pub(crate) async fn list(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let parameters = LIST.parameters(query.as_deref())?;
    let (page, parameters) = Page::of(&state, "rejections".to_owned(), parameters)?;
    let (application, nothing) = narrow(&state, scope, parameters.text("application"));
    let filter = filter(&state, &parameters, application)?;
    let summary = parameters.boolean("summary")?;
    let before = page.after().map_or(Ok(u64::MAX), |last| {
        last.parse()
            .map_err(|_| Problem::new(Code::BadCursor, "The cursor names no rejection."))
    })?;
    let inner = state.clone();
    let limit = page.limit();
    view::run(&state, move || {
        let registry = inner.log().registry();
        if summary {
            let rows = if nothing { Vec::new() } else { inner.rejections().summary(&filter) };
            let rows: Vec<Value> = rows
                .iter()
                .map(|row| {
                    json!({
                        "application": name_of(&registry, row.application), "reason": row.code, "count": row.count,
                        "first": format_timestamp(row.first), "last": format_timestamp(row.last),
                    })
                })
                .collect();
            return Ok(respond(StatusCode::OK, json!({ "summary": rows }).to_string()));
        }
        let (found, more) = if nothing {
            (Vec::new(), false)
        } else {
            let listed = inner.rejections().list(&filter, before, limit);
            listed.map_err(|error| unreadable(&error))?
        };
        let last = found.last().filter(|_| more);
        let last = last.map(|last| last.number.to_string());
        let rows: Vec<Value> = found.iter().map(|one| shape(&registry, one)).collect();
        Ok(page.answer(&inner, "rejections", &rows, last))
    })
    .await
}

/// What [`one`] takes and answers.
pub(crate) static ONE: Operation = Operation::reads("A rejection with what was sent")
    .path(&[ID])
    .answers(&[Answer::json(200, "The rejection.", Shape::Of(&REJECTION))]);

/// Answers `GET /rejections/{id}`: one, with its body.
pub(crate) async fn one(
    State(state): State<AppState>,
    identity: Identity,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    ONE.parameters(query.as_deref())?;
    let rejection = visible(&state, &identity, id).await?;
    let mut body = shape(&state.log().registry(), &rejection);
    match String::from_utf8(rejection.body) {
        Ok(text) => body["body"] = json!(text),
        Err(error) => body["body_base64"] = json!(STANDARD.encode(error.as_bytes())),
    }
    Ok(respond(StatusCode::OK, body.to_string()))
}

/// What [`retry`] takes and answers.
pub(crate) static RETRY: Operation =
    Operation::writes("Send a rejection again, as it was or corrected")
        .path(&[ID])
        .body(
            false,
            "The corrected event; without it, what was sent.",
            &[("application/json", Shape::Of(&EVENT_DRAFT))],
        )
        .answers(&[
            Answer::json(200, "Stored before.", Shape::Of(&STORED)),
            Answer::json(201, "Stored.", Shape::Of(&STORED)),
        ])
        .problems(&[409]);

/// Answers `POST /rejections/{id}/retry`: sends it again as it was, or as the body of the request says.
pub(crate) async fn retry(
    State(state): State<AppState>,
    identity: Identity,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    RETRY.parameters(query.as_deref())?;
    let rejection = visible(&state, &identity, id).await?;
    may_send(
        &state,
        &identity,
        ApplicationId(rejection.refused.application),
    )?;
    let mut charge = state.memory().account();
    let limit = state.settings().request_max_bytes;
    let corrected = read_body(body, limit, state.settings(), &mut charge).await?;
    let corrected = Some(corrected).filter(|body| !body.is_empty());
    send_again(&state, rejection, corrected).await
}

/// What [`retry_all`] takes and answers.
pub(crate) static RETRY_ALL: Operation =
    Operation::writes("Send every open rejection of a reason again")
        .query(&[
            Field::text("reason").about("A code, such as `invalid_event`."),
            APPLICATION,
            SINCE,
            BEFORE,
        ])
        .answers(&[Answer::json(
            202,
            "The task; its result counts `stored`, `duplicates` and `rejected`.",
            Shape::Of(&TASK),
        )])
        .problems(&[429]);

/// Answers `POST /rejections/retry?reason=`: 202 and the task that sends every open one with this reason again.
pub(crate) async fn retry_all(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let scope = identity.scope()?;
    let parameters = RETRY_ALL.parameters(query.as_deref())?;
    if parameters.text("reason").is_none() {
        let message = "is required: a code like rule_violation. GET /rejections?summary=true lists those there are.";
        return Err(Problem::parameter("reason", message));
    }
    let (application, nothing) = narrow(&state, scope, parameters.text("application"));
    if let Some(application) = application.or(identity.application) {
        may_send(&state, &identity, application)?;
    } else {
        identity.admin()?;
    }
    let filter = Filter {
        state: Some(Fate::Open),
        ..filter(&state, &parameters, application)?
    };
    let inner = state.clone();
    let task = state.tasks().start("retry", "rejections", move |pulse| {
        let ids = if nothing {
            Vec::new()
        } else {
            inner.rejections().ids(&filter)
        };
        tokio::runtime::Handle::current().block_on(send_all_again(&inner, &ids, pulse))
    });
    accepted(task)
}

async fn send_all_again(state: &AppState, ids: &[Uuid], pulse: &Pulse) -> Result<Value, Problem> {
    let (mut stored, mut duplicates, mut rejected) = (0u64, 0u64, 0u64);
    for (done, id) in ids.iter().enumerate() {
        pulse.tell(done as u64, ids.len() as u64);
        if pulse.is_cancelled() {
            break;
        }
        let Some(rejection) = state
            .rejections()
            .get(*id)
            .map_err(|error| unreadable(&error))?
        else {
            continue;
        };
        match send_again(state, rejection, None).await {
            Ok(response) if response.status() == StatusCode::CREATED => stored += 1,
            Ok(_) => duplicates += 1,
            // What refuses all alike is no verdict on this one.
            Err(problem) if problem.answered().is_server_error() => return Err(problem),
            Err(_) => rejected += 1,
        }
    }
    pulse.tell(ids.len() as u64, ids.len() as u64);
    Ok(json!({"stored": stored, "duplicates": duplicates, "rejected": rejected}))
}

/// Sends a rejection again. An event that brought no id gets the rejection's, so that doing it twice stores it once.
async fn send_again(
    state: &AppState,
    rejection: Rejection,
    corrected: Option<Bytes>,
) -> Result<Response, Problem> {
    let id = rejection.refused.id;
    if rejection.truncated && corrected.is_none() {
        return Err(Problem::new(
            Code::TooLarge,
            "Only the beginning of what was sent is kept, so it cannot be sent again as it was.",
        )
        .status(StatusCode::BAD_REQUEST)
        .detail("Send the corrected event in the body of the retry.")
        .with("rejection", json!(id)));
    }
    let body = corrected.unwrap_or_else(|| Bytes::from(rejection.body));
    admit(state, Some(body.len()))?;
    state
        .rejections()
        .begin_retry(id)
        .map_err(|refused| match refused {
            CannotRetry::Unknown => Problem::not_found("A rejection of this id"),
            CannotRetry::Retried => Problem::new(
                Code::Conflict,
                "This was sent again already, and is stored.",
            )
            .detail("GET /rejections/{id} names the event in event_id."),
            CannotRetry::Busy => {
                Problem::new(Code::Conflict, "This is being sent again at the moment.")
            }
        })?;
    let retrying = Retrying {
        state,
        id,
        over: false,
    };
    let application = ApplicationId(rejection.refused.application);
    let own_id = format!("\"{id}\"");
    let book = state.rule_book();
    let judge = Judge::new(state.settings(), &book, application);
    let judged = open_again(&body, &judge, &own_id);
    let Single {
        batch,
        id: client_id,
        broken,
    } = match judged {
        Ok(judged) => judged,
        Err(problem) => {
            // The writer, which counts what comes to nothing, never sees it.
            state.log().count_refused(Some(application), 0, 1);
            return Err(retrying.refused(problem));
        }
    };
    let mut charge = state.memory().account();
    charge.grow(batch.bytes())?;
    let receipt = store(state, batch, charge).await?;
    match answer::one(&receipt, client_id, broken, false) {
        Ok(response) => {
            retrying.stored(client_id.unwrap_or(id));
            Ok(response)
        }
        Err(problem) => Err(retrying.refused(problem)),
    }
}

/// Gives a rejection back however sending it again ends.
struct Retrying<'s> {
    state: &'s AppState,
    id: Uuid,
    over: bool,
}

impl Retrying<'_> {
    fn stored(mut self, event: Uuid) {
        self.over = true;
        self.state.rejections().end_retry(self.id, Some(Ok(event)));
    }

    fn refused(mut self, problem: Problem) -> Problem {
        self.over = true;
        let errors = problem.field_errors();
        let outcome = Err((problem.code().name(), &errors));
        self.state.rejections().end_retry(self.id, Some(outcome));
        problem.with("rejection", json!(self.id))
    }
}

impl Drop for Retrying<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.state.rejections().end_retry(self.id, None);
        }
    }
}

/// Returns a rejection that this token may see; others' are not there.
async fn visible(
    state: &AppState,
    identity: &Identity,
    id: Result<Path<String>, PathRejection>,
) -> Result<Rejection, Problem> {
    let scope = identity.scope()?;
    let missing = || Problem::not_found("A rejection of this id");
    let id = id
        .ok()
        .and_then(|Path(id)| Uuid::try_parse(&id).ok())
        .ok_or_else(missing)?;
    let inner = state.clone();
    let found = view::run(state, move || {
        inner
            .rejections()
            .get(id)
            .map_err(|error| unreadable(&error))
    });
    found
        .await?
        .filter(|found| scope.sees(ApplicationId(found.refused.application)))
        .ok_or_else(missing)
}

/// Fails unless this token may send for an application.
fn may_send(
    state: &AppState,
    identity: &Identity,
    application: ApplicationId,
) -> Result<(), Problem> {
    let registry = state.log().registry();
    let name = name_of(&registry, application);
    identity.sends_for(state, name.as_deref()).map(|_| ())
}

fn filter(
    state: &AppState,
    parameters: &Parameters,
    application: Option<ApplicationId>,
) -> Result<Filter, Problem> {
    let (now, zone) = (eye_log::now(), state.settings().default_timezone.0);
    let fate = match parameters.text("state") {
        None => None,
        Some("open") => Some(Fate::Open),
        Some("retried") => Some(Fate::Retried),
        Some(_) => return Err(Problem::parameter("state", "may be `open` or `retried`.")),
    };
    Ok(Filter {
        application,
        code: parameters.text("reason").map(str::to_owned),
        from: parameters.time("from", now, zone)?,
        to: parameters.time("to", now, zone)?,
        state: fate,
    })
}

fn shape(registry: &Registry, rejection: &Rejection) -> Value {
    let refused = &rejection.refused;
    let paths: Vec<String> = refused.errors.keys().map(|field| path_of(field)).collect();
    let mut shape = json!({
        "id": refused.id, "application": name_of(registry, ApplicationId(refused.application)),
        "received_at": format_timestamp(refused.at), "path": refused.path, "index": refused.index,
        "code": refused.code, "errors": refused.errors, "paths": paths, "bytes": refused.bytes,
        "truncated": rejection.truncated, "user_agent": refused.user_agent, "state": rejection.state.name(),
    });
    if let Some(sha256) = &refused.sha256 {
        shape["sha256"] = json!(sha256);
    }
    if let Some(event) = rejection.event_id {
        shape["event_id"] = json!(event);
    }
    shape
}

/// Returns where in the event a field is, as a JSON pointer (RFC 6901); what is wrong with all of it is at the root.
fn path_of(field: &str) -> String {
    match field {
        "event" | "body" => String::new(),
        field if field.starts_with('/') => field.to_owned(),
        field => format!("/{}", field.replace('~', "~0").replace('/', "~1")),
    }
}

fn name_of(registry: &Registry, application: ApplicationId) -> Option<String> {
    let known = registry.application(application);
    known.map(|application| application.name.clone())
}

fn unreadable(error: &std::io::Error) -> Problem {
    tracing::error!(%error, "rejections could not be read");
    Problem::new(
        Code::Damaged,
        format!("The rejections could not be read: {error}."),
    )
    .detail("The service's own log says more.")
}
