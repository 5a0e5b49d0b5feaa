//! `/search`: what an analyst types, as a page of events.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use eye_index::Order;

use crate::auth::Identity;
use crate::error::Problem;
use crate::explain::explain;
use crate::listing::{Kind, Listing};
use crate::parameters::Parameters;
use crate::routes::json;
use crate::state::AppState;
use crate::view;
use crate::wire::{Object, write_number};

const SEARCH: Kind = Kind {
    list: "search",
    times: ("from", "to"),
    orders: &[
        ("-timestamp", Order::NewestFirst),
        ("timestamp", Order::OldestFirst),
        ("-score", Order::BestFirst),
    ],
    limit_least: 0,
};
const PARAMETERS: [&str; 13] = [
    "q",
    "from",
    "to",
    "application",
    "order",
    "limit",
    "cursor",
    "count",
    "as_of",
    "stale",
    "highlight",
    "aggs",
    "explain",
];
/// What the contract has and this version has not.
const LATER: [&str; 1] = ["aggs"];

/// Answers `GET /search` and `POST /search`, the same names in the query or in a JSON object.
pub(crate) async fn search(
    State(state): State<AppState>,
    identity: Identity,
    request: Request,
) -> Result<Response, Problem> {
    let started = Instant::now();
    let scope = identity.scope()?;
    let (parts, body) = request.into_parts();
    let mut parameters = if parts.method == Method::POST {
        Parameters::from_query(parts.uri.query(), &[])?;
        let mut fields = Object::read(&state, body, &PARAMETERS).await?.into_fields();
        if fields.remove("aggs").is_some_and(|aggs| !aggs.is_null()) {
            return Err(later("aggs"));
        }
        Parameters::from_fields(fields)?
    } else {
        Parameters::from_query(parts.uri.query(), &PARAMETERS)?
    };
    for name in LATER {
        if parameters.take(name).is_some_and(|value| value != "false") {
            return Err(later(name));
        }
    }
    let explains = parameters.boolean("explain")?;
    let highlight = parameters.boolean("highlight")?;
    // They belong to the page, not to the list.
    parameters.take("explain");
    parameters.take("highlight");
    let listing = Listing::of(&state, scope, &SEARCH, parameters)?;
    let body = view::read(&state, listing.wanted, move |state, view| {
        let mut out = listing.write(state, view, highlight)?;
        listing.write_times(&mut out);
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

fn later(name: &str) -> Problem {
    Problem::parameter(name, "is not available in this version.")
}
