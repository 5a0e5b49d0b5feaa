//! `/search`: what an analyst types, as a page of events.

pub(crate) mod aggregations;

use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use eye_index::Order;
use eye_index::search::aggs::Aggs;

use crate::auth::Identity;
use crate::error::Problem;
use crate::explain::explain;
use crate::listing::{EVENTS, Kind, Listing};
use crate::operation::{Answer, Field, Operation, Shape};
use crate::parameters::{COUNT, CURSOR, LIMIT_OR_NONE, Parameters};
use crate::question::{APPLICATION, AS_OF, FROM, Q, STALE, TO};
use crate::routes::json;
use crate::state::AppState;
use crate::view;
use crate::wire::write_number;
use aggregations::AGGREGATION_REQUESTS;

const KIND: Kind = Kind {
    list: "search",
    times: ("from", "to"),
    orders: &[
        ("-timestamp", Order::NewestFirst),
        ("timestamp", Order::OldestFirst),
        ("-score", Order::BestFirst),
    ],
    limit_least: 0,
};

const ORDER: Field = Field::one_of("order", &["-timestamp", "timestamp", "-score"])
    .optional()
    .about(
        "`-timestamp` where it is not given; `-score` answers at most \
         the best 1,000, without a next page.",
    );
const HIGHLIGHT: Field = Field::boolean("highlight")
    .optional()
    .about("`true`: where in each event stands what `q` asks for.");
const EXPLAIN: Field = Field::boolean("explain")
    .optional()
    .about("`true`: hits of each clause, and which one leaves nothing.");

/// What a search takes wherever it stands.
const SHARED: [Field; 12] = [
    Q,
    FROM,
    TO,
    APPLICATION,
    ORDER,
    LIMIT_OR_NONE,
    CURSOR,
    COUNT,
    AS_OF,
    STALE,
    HIGHLIGHT,
    EXPLAIN,
];

/// What [`search`] takes and answers.
pub(crate) static SEARCH: Operation = Operation::reads("Search")
    .shares(&SHARED)
    .query(&[Field::text("aggs").optional().about(
        "Aggregations over every match, as JSON text: `{NAME: {KIND: \
             {\"field\": …}}}`.",
    )])
    .answers(&[Answer::json(
        200,
        "A page of events, with from, to and took_ms, and count where \
         it was asked for.",
        Shape::Of(&EVENTS),
    )]);

/// What [`search`] takes and answers where all is in the body.
pub(crate) static SEARCH_IN_BODY: Operation =
    Operation::reads("Search, the same names in a JSON object")
        .shares(&SHARED)
        .fields(&[Field::of("aggs", &AGGREGATION_REQUESTS).optional()])
        .answers(&[Answer::json(200, "A page of events.", Shape::Of(&EVENTS))]);

/// Answers `GET /search` and `POST /search`, the same names in the query or in a JSON object.
pub(crate) async fn search(
    State(state): State<AppState>,
    identity: Identity,
    request: Request,
) -> Result<Response, Problem> {
    let started = Instant::now();
    let scope = identity.scope()?;
    let (parts, body) = request.into_parts();
    let (aggs, mut parameters) = if parts.method == Method::POST {
        SEARCH_IN_BODY.parameters(parts.uri.query())?;
        let mut fields = SEARCH_IN_BODY.object(&state, body).await?.into_fields();
        let aggs = fields.remove("aggs");
        (aggs, Parameters::from_fields(fields)?)
    } else {
        let mut parameters = SEARCH.parameters(parts.uri.query())?;
        let read = |text: String| {
            serde_json::from_str(&text)
                .map_err(|error| Problem::parameter("aggs", format!("must be JSON: {error}.")))
        };
        (parameters.take("aggs").map(read).transpose()?, parameters)
    };
    let aggs = aggs
        .filter(|aggs| !aggs.is_null())
        .map(|aggs| Aggs::read(&aggs))
        .transpose()
        .map_err(|what| Problem::parameter("aggs", what))?;
    let explains = parameters.boolean("explain")?;
    let highlight = parameters.boolean("highlight")?;
    // They belong to the page, not to the list.
    parameters.take("explain");
    parameters.take("highlight");
    let listing = Listing::of(&state, scope, &KIND, parameters)?;
    let body = view::read(&state, listing.wanted, move |state, view| {
        let mut out = listing.write(state, view, highlight)?;
        listing.write_times(&mut out);
        if let Some(aggs) = &aggs {
            // Of the whole list, whichever page this is; of nothing where no application is meant.
            let mut request = listing.request(view.as_of);
            request.after = None;
            if listing.is_nothing() {
                request.as_of = 0;
            }
            let told = state.index().aggregate(&request, aggs)?;
            out.extend_from_slice(b",\"aggs\":");
            out.extend_from_slice(told.aggs.to_string().as_bytes());
            if told.unseen > 0 {
                out.extend_from_slice(b",\"aggs_unseen\":");
                write_number(&mut out, told.unseen);
            }
        }
        if explains && !listing.is_nothing() {
            let told = explain(state, &listing.request(view.as_of))?;
            out.extend_from_slice(b",\"explain\":");
            out.extend_from_slice(told.to_string().as_bytes());
        }
        out.extend_from_slice(b",\"took_ms\":");
        write_number(
            &mut out,
            u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        );
        out.push(b'}');
        Ok(out)
    })
    .await?;
    Ok(json(StatusCode::OK, body))
}
