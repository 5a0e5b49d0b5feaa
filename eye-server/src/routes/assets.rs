//! What browsers get: the page that tries the API, and the client for other pages.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::routes::json as answer;

const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
/// A version of the service has one of each, which a browser asks for again.
const ASK_AGAIN: &str = "no-cache";
/// Pages elsewhere may keep the client for an hour.
const AN_HOUR: &str = "public, max-age=3600";

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

/// Answers `GET /api/docs`.
pub(crate) async fn docs() -> Response {
    asset(HTML, ASK_AGAIN, include_str!("../../assets/docs.html"))
}

/// Answers `GET /api/docs/page.js`.
pub(crate) async fn docs_script() -> Response {
    asset(JAVASCRIPT, ASK_AGAIN, include_str!("../../assets/docs.js"))
}

/// Answers `GET /api/docs/page.css`.
pub(crate) async fn docs_style() -> Response {
    asset(CSS, ASK_AGAIN, include_str!("../../assets/docs.css"))
}

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
