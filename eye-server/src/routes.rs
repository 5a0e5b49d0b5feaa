//! The handlers, one file per resource.

pub(crate) mod admin;
pub(crate) mod applications;
pub(crate) mod assets;
pub(crate) mod audit;
pub(crate) mod erasures;
pub(crate) mod events;
pub(crate) mod export;
pub(crate) mod facets;
pub(crate) mod funnel;
pub(crate) mod health;
pub(crate) mod histogram;
pub(crate) mod ledger;
pub(crate) mod me;
pub(crate) mod metrics;
pub(crate) mod rejections;
pub(crate) mod schemas;
pub(crate) mod search;
pub(crate) mod sessions;
pub(crate) mod tail;
pub(crate) mod tasks;
pub(crate) mod tokens;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

/// Answers JSON bytes.
pub(crate) fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}
