//! What browsers get: the page that tries the API, and the client for other pages.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::operation::{Answer, Field, Operation, Shape};
use crate::routes::json as answer;

const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
/// A version of the service has one of each, which a browser asks for again.
const ASK_AGAIN: &str = "no-cache";
/// Pages elsewhere may keep the client for an hour.
const AN_HOUR: &str = "public, max-age=3600";

/// What [`root`] takes and answers.
pub(crate) static ROOT: Operation = Operation::open("What answers here").answers(&[Answer::of(
    200,
    "Name and version; the page of `/api/docs` for browsers.",
    &[
        (
            "application/json",
            Shape::Object(&[
                Field::text("service"),
                Field::text("version"),
                Field::text("schema"),
                Field::text("docs"),
            ]),
        ),
        ("text/html", Shape::Text),
    ],
)]);

/// Answers `GET /`: the page to browsers, a few facts to everybody else.
pub(crate) async fn root(headers: HeaderMap) -> Response {
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|accepted| accepted.to_str().ok());
    let mut response = if accepted.is_some_and(|accepted| accepted.contains("text/html")) {
        docs().await
    } else {
        let body = json!({
            "service": "The Eye", "version": env!("CARGO_PKG_VERSION"), "schema": "/api/schema", "docs": "/api/docs",
        });
        answer(StatusCode::OK, body.to_string())
    };
    response
        .headers_mut()
        .append(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// What [`docs`] takes and answers.
pub(crate) static DOCS: Operation =
    Operation::open("A page that tries this API").answers(&[Answer::of(
        200,
        "A page that tries this API",
        &[("text/html", Shape::Text)],
    )]);

/// Answers `GET /api/docs`.
pub(crate) async fn docs() -> Response {
    asset(HTML, ASK_AGAIN, include_str!("../../assets/docs.html"))
}

/// What [`docs_script`] takes and answers.
pub(crate) static DOCS_SCRIPT: Operation = Operation::open("Its script").answers(&[Answer::of(
    200,
    "Its script",
    &[("text/javascript", Shape::Text)],
)]);

/// Answers `GET /api/docs/page.js`.
pub(crate) async fn docs_script() -> Response {
    asset(JAVASCRIPT, ASK_AGAIN, include_str!("../../assets/docs.js"))
}

/// What [`docs_style`] takes and answers.
pub(crate) static DOCS_STYLE: Operation = Operation::open("Its style").answers(&[Answer::of(
    200,
    "Its style",
    &[("text/css", Shape::Text)],
)]);

/// Answers `GET /api/docs/page.css`.
pub(crate) async fn docs_style() -> Response {
    asset(CSS, ASK_AGAIN, include_str!("../../assets/docs.css"))
}

/// What [`client`] takes and answers.
pub(crate) static CLIENT: Operation =
    Operation::open("The client for web pages").answers(&[Answer::of(
        200,
        "The client for web pages",
        &[("text/javascript", Shape::Text)],
    )]);

/// Answers `GET /eye.js`.
pub(crate) async fn client() -> Response {
    asset(JAVASCRIPT, AN_HOUR, include_str!("../../assets/eye.js"))
}

fn asset(media_type: &'static str, kept: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CACHE_CONTROL, kept),
    ];
    (headers, text).into_response()
}
