//! Every route on one screen.

use std::sync::LazyLock;

use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};

use crate::access::note;
use crate::envelope::{Wrapping, envelope, other_method, unknown_path};
use crate::operation::{Operation, document};
use crate::routes::{
    admin, applications, assets, audit, erasures, events, export, facets, funnel, health,
    histogram, ledger, me, metrics, rejections, schemas, search, sessions, tail, tasks, tokens,
};
use crate::state::AppState;

/// A path with its methods: of each who answers it, and what it takes and answers.
struct Route {
    path: &'static str,
    methods: MethodRouter<AppState>,
    operations: Vec<(&'static str, &'static Operation)>,
}

impl Route {
    fn at(path: &'static str) -> Self {
        Self {
            path,
            methods: MethodRouter::new(),
            operations: Vec::new(),
        }
    }

    fn with(
        mut self,
        method: &'static str,
        operation: &'static Operation,
        add: impl FnOnce(MethodRouter<AppState>) -> MethodRouter<AppState>,
    ) -> Self {
        self.operations.push((method, operation));
        self.methods = add(self.methods);
        self
    }

    fn get<T: 'static>(self, answer: impl Handler<T, AppState>, what: &'static Operation) -> Self {
        self.with("get", what, |methods| methods.get(answer))
    }

    fn post<T: 'static>(self, answer: impl Handler<T, AppState>, what: &'static Operation) -> Self {
        self.with("post", what, |methods| methods.post(answer))
    }

    fn put<T: 'static>(self, answer: impl Handler<T, AppState>, what: &'static Operation) -> Self {
        self.with("put", what, |methods| methods.put(answer))
    }

    fn patch<T: 'static>(
        self,
        answer: impl Handler<T, AppState>,
        what: &'static Operation,
    ) -> Self {
        self.with("patch", what, |methods| methods.patch(answer))
    }

    fn delete<T: 'static>(
        self,
        answer: impl Handler<T, AppState>,
        what: &'static Operation,
    ) -> Self {
        self.with("delete", what, |methods| methods.delete(answer))
    }
}

/// The OpenAPI document of all routes.
pub(crate) static OPENAPI: LazyLock<String> = LazyLock::new(|| {
    let routes = routes().into_iter();
    document(routes.map(|route| (route.path, route.operations)))
});

/// Returns every path with its methods. HEAD comes with GET, OPTIONS with everything.
fn routes() -> Vec<Route> {
    vec![
        Route::at("/").get(assets::root, &assets::ROOT),
        Route::at("/events")
            .post(events::send, &events::SEND)
            .get(events::list, &events::LIST),
        Route::at("/events/{id}").get(events::one, &events::ONE),
        Route::at("/events/{id}/context").get(events::context, &events::CONTEXT),
        Route::at("/sessions").get(sessions::list, &sessions::LIST),
        Route::at("/sessions/{id}")
            .get(sessions::one, &sessions::ONE)
            .delete(erasures::session, &erasures::SESSION),
        Route::at("/sessions/{id}/events").get(sessions::events, &sessions::EVENTS_OF),
        Route::at("/search")
            .get(search::search, &search::SEARCH)
            .post(search::search, &search::SEARCH_IN_BODY),
        Route::at("/histogram").get(histogram::histogram, &histogram::HISTOGRAM),
        Route::at("/facets").get(facets::facets, &facets::FACETS),
        Route::at("/fields").get(facets::fields, &facets::FIELDS),
        Route::at("/funnel").post(funnel::funnel, &funnel::FUNNEL),
        Route::at("/funnel/sessions").post(funnel::sessions, &funnel::SESSIONS),
        Route::at("/sequences").post(funnel::sequences, &funnel::SEQUENCES),
        Route::at("/tail").get(tail::tail, &tail::TAIL),
        Route::at("/export").get(export::export, &export::EXPORT),
        Route::at("/erasures")
            .post(erasures::create, &erasures::CREATE)
            .get(erasures::list, &erasures::LIST),
        Route::at("/erasures/{id}").get(erasures::one, &erasures::ONE),
        Route::at("/ledger").get(ledger::ledger, &ledger::LEDGER),
        Route::at("/rejections").get(rejections::list, &rejections::LIST),
        Route::at("/rejections/retry").post(rejections::retry_all, &rejections::RETRY_ALL),
        Route::at("/rejections/{id}").get(rejections::one, &rejections::ONE),
        Route::at("/rejections/{id}/retry").post(rejections::retry, &rejections::RETRY),
        Route::at("/schemas").get(schemas::list, &schemas::LIST),
        Route::at("/schemas/{category}/{name}")
            .get(schemas::one, &schemas::ONE)
            .put(schemas::set, &schemas::SET)
            .delete(schemas::remove, &schemas::REMOVE),
        Route::at("/schemas/{category}/{name}/check").post(schemas::check, &schemas::CHECK),
        Route::at("/me").get(me::me, &me::ME),
        Route::at("/limits").get(me::limits, &me::LIMITS),
        Route::at("/applications")
            .post(applications::create, &applications::CREATE)
            .get(applications::list, &applications::LIST),
        Route::at("/applications/{name}")
            .get(applications::one, &applications::ONE)
            .patch(applications::update, &applications::UPDATE),
        Route::at("/applications/{name}/tokens")
            .post(
                tokens::create_for_application,
                &tokens::CREATE_FOR_APPLICATION,
            )
            .get(tokens::list_of_application, &tokens::LIST_OF_APPLICATION),
        Route::at("/tokens")
            .post(tokens::create, &tokens::CREATE)
            .get(tokens::list, &tokens::LIST),
        Route::at("/tokens/{id}").delete(tokens::revoke, &tokens::REVOKE),
        Route::at("/admin/status").get(admin::status, &admin::STATUS),
        Route::at("/admin/settings").get(admin::settings, &admin::SETTINGS),
        Route::at("/admin/audit").get(audit::list, &audit::LIST),
        Route::at("/admin/tasks")
            .post(tasks::start, &tasks::START)
            .get(tasks::list, &tasks::LIST),
        Route::at("/admin/tasks/{id}")
            .get(tasks::one, &tasks::ONE)
            .delete(tasks::cancel, &tasks::CANCEL),
        Route::at("/health/live").get(health::live, &health::LIVE),
        Route::at("/health/ready").get(health::ready, &health::READY),
        Route::at("/metrics").get(metrics::for_admins, &metrics::FOR_ADMINS),
        Route::at("/api/schema").get(admin::schema, &admin::SCHEMA),
        Route::at("/api/docs").get(assets::docs, &assets::DOCS),
        Route::at("/api/docs/page.js").get(assets::docs_script, &assets::DOCS_SCRIPT),
        Route::at("/api/docs/page.css").get(assets::docs_style, &assets::DOCS_STYLE),
        Route::at("/eye.js").get(assets::client, &assets::CLIENT),
    ]
}

/// Returns the paths of all routes.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    routes().into_iter().map(|route| route.path)
}

/// Builds the router of a listener that only those reach who watch the service: no token is asked for.
pub(crate) fn router_for_metrics(state: AppState) -> Router {
    let routes = [
        ("/metrics", get(metrics::for_all)),
        ("/health/live", get(health::live)),
        ("/health/ready", get(health::ready)),
    ];
    router_of(routes.into_iter(), state)
}

/// Builds the router. Every path answers with and without a slash at its end.
pub(crate) fn router(state: AppState) -> Router {
    let routes = routes().into_iter();
    router_of(routes.map(|route| (route.path, route.methods)), state)
}

/// Builds the router whose `POST /events` stores nothing; see [`events::send_to_nowhere`].
pub(crate) fn router_to_nowhere(state: AppState, nowhere: events::Nowhere) -> Router {
    let routes = routes().into_iter().map(|route| {
        if route.path == "/events" {
            let methods = post(events::send_to_nowhere).layer(Extension(nowhere.clone()));
            (route.path, methods)
        } else {
            (route.path, route.methods)
        }
    });
    router_of(routes, state)
}

fn router_of(
    routes: impl Iterator<Item = (&'static str, MethodRouter<AppState>)>,
    state: AppState,
) -> Router {
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
