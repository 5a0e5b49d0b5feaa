//! Every route on one screen.

use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Extension, Router};

use crate::access::note;
use crate::envelope::{Wrapping, envelope, other_method, unknown_path};
use crate::routes::{
    admin, applications, assets, audit, erasures, events, export, facets, funnel, health,
    histogram, ledger, me, metrics, rejections, schemas, search, sessions, tail, tasks, tokens,
};
use crate::state::AppState;

/// Returns every path with its methods. HEAD comes with GET, OPTIONS with everything.
fn routes() -> Vec<(&'static str, MethodRouter<AppState>)> {
    vec![
        ("/", get(assets::root)),
        ("/events", post(events::send).get(events::list)),
        ("/events/{id}", get(events::one)),
        ("/events/{id}/context", get(events::context)),
        ("/sessions", get(sessions::list)),
        (
            "/sessions/{id}",
            get(sessions::one).delete(erasures::session),
        ),
        ("/sessions/{id}/events", get(sessions::events)),
        ("/search", get(search::search).post(search::search)),
        ("/histogram", get(histogram::histogram)),
        ("/facets", get(facets::facets)),
        ("/fields", get(facets::fields)),
        ("/funnel", post(funnel::funnel)),
        ("/funnel/sessions", post(funnel::sessions)),
        ("/sequences", post(funnel::sequences)),
        ("/tail", get(tail::tail)),
        ("/export", get(export::export)),
        ("/erasures", post(erasures::create).get(erasures::list)),
        ("/erasures/{id}", get(erasures::one)),
        ("/ledger", get(ledger::ledger)),
        ("/rejections", get(rejections::list)),
        ("/rejections/retry", post(rejections::retry_all)),
        ("/rejections/{id}", get(rejections::one)),
        ("/rejections/{id}/retry", post(rejections::retry)),
        ("/schemas", get(schemas::list)),
        (
            "/schemas/{category}/{name}",
            get(schemas::one).put(schemas::set).delete(schemas::remove),
        ),
        ("/schemas/{category}/{name}/check", post(schemas::check)),
        ("/me", get(me::me)),
        ("/limits", get(me::limits)),
        (
            "/applications",
            post(applications::create).get(applications::list),
        ),
        (
            "/applications/{name}",
            get(applications::one).patch(applications::update),
        ),
        (
            "/applications/{name}/tokens",
            post(tokens::create_for_application).get(tokens::list_of_application),
        ),
        ("/tokens", post(tokens::create).get(tokens::list)),
        ("/tokens/{id}", delete(tokens::revoke)),
        ("/admin/status", get(admin::status)),
        ("/admin/settings", get(admin::settings)),
        ("/admin/audit", get(audit::list)),
        ("/admin/tasks", post(tasks::start).get(tasks::list)),
        ("/admin/tasks/{id}", get(tasks::one).delete(tasks::cancel)),
        ("/health/live", get(health::live)),
        ("/health/ready", get(health::ready)),
        ("/metrics", get(metrics::for_admins)),
        ("/api/schema", get(admin::schema)),
        ("/api/docs", get(assets::docs)),
        ("/api/docs/page.js", get(assets::docs_script)),
        ("/api/docs/page.css", get(assets::docs_style)),
        ("/eye.js", get(assets::client)),
    ]
}

/// Returns the paths of all routes.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    routes().into_iter().map(|(path, _)| path)
}

/// Builds the router of a listener that only those reach who watch the service: no token is asked for.
pub(crate) fn router_for_metrics(state: AppState) -> Router {
    let routes = vec![
        ("/metrics", get(metrics::for_all)),
        ("/health/live", get(health::live)),
        ("/health/ready", get(health::ready)),
    ];
    router_of(routes, state)
}

/// Builds the router. Every path answers with and without a slash at its end.
pub(crate) fn router(state: AppState) -> Router {
    router_of(routes(), state)
}

/// Builds the router whose `POST /events` stores nothing; see [`events::send_to_nowhere`].
pub(crate) fn router_to_nowhere(state: AppState, nowhere: events::Nowhere) -> Router {
    let mut routes = routes();
    for (path, methods) in &mut routes {
        if *path == "/events" {
            *methods = post(events::send_to_nowhere).layer(Extension(nowhere.clone()));
        }
    }
    router_of(routes, state)
}

fn router_of(routes: Vec<(&'static str, MethodRouter<AppState>)>, state: AppState) -> Router {
    let mut router = Router::new();
    for (path, methods) in routes {
        if path != "/" {
            router = router.route(&format!("{path}/"), methods.clone());
        }
        router = router.route(path, methods);
    }
    router
        .method_not_allowed_fallback(other_method)
        .fallback(unknown_path)
        .layer(from_fn_with_state(Wrapping::of(state.settings()), envelope))
        .layer(from_fn_with_state(state.clone(), note))
        .with_state(state)
}

#[cfg(test)]
mod tests;
