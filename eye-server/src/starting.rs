//! What is answered while the log is being opened: that it lives, and that it is not ready.

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use serde_json::json;

use crate::envelope::{Wrapping, envelope};
use crate::error::{Code, Problem};
use crate::routes::{health, json as answer};

/// Builds the router that answers until the store is open. No connection outlives its first answer, so that the next
/// request finds the routes.
pub(crate) fn router() -> Router {
    Router::new()
        .route("/health/live", get(health::live))
        .route("/health/live/", get(health::live))
        .route("/health/ready", get(ready))
        .route("/health/ready/", get(ready))
        .fallback(not_yet)
        .layer(from_fn_with_state(Wrapping::default(), envelope))
        .layer(from_fn(close_after))
}

async fn ready() -> Response {
    let body = json!({
        "ready": false, "state": "recovering", "lag": null, "indexed_through": null, "durable_end": null,
        "detail": "The log is being opened and checked.",
    });
    answer(StatusCode::SERVICE_UNAVAILABLE, body.to_string())
}

async fn not_yet() -> Problem {
    Problem::new(Code::Recovering, "The service is starting.")
        .detail("The log is being opened and checked; try again in a moment.")
        .retry_after(1)
}

async fn close_after(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::body::Body;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn a_service_that_starts_lives_and_is_not_ready() {
        for (path, status) in [
            ("/health/live", 200),
            ("/health/ready", 503),
            ("/events", 503),
        ] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let answer = router().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), status, "{path}");
            assert_eq!(answer.headers()[header::CONNECTION], "close", "{path}");
            let body = axum::body::to_bytes(answer.into_body(), 10_000)
                .await
                .unwrap();
            if status == 503 {
                let text = String::from_utf8_lossy(&body);
                assert!(text.contains("\"recovering\""), "{text}");
            }
        }
    }
}
