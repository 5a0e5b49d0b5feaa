//! `/tokens` and `/applications/{name}/tokens`: secrets shown once, and their revocation. Admins only.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use eye_log::{
    ApplicationId, Change, Changed, NewToken, Registry, Token, TokenKind, format_timestamp,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::{self, Identity, kind_name, scopes};
use crate::envelope::RequestId;
use crate::error::{Code, Problem};
use crate::parameters::Parameters;
use crate::registrar::{Page, change};
use crate::routes::applications::{named, with_secret};
use crate::routes::json as answer;
use crate::state::AppState;
use crate::wire::Object;

/// Answers `POST /applications/{name}/tokens`.
pub(crate) async fn create_for_application(
    State(state): State<AppState>,
    identity: Identity,
    Extension(request_id): Extension<RequestId>,
    name: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    identity.admin()?;
    Parameters::from_query(query.as_deref(), &[])?;
    let application = named(&state, name)?;
    let body = Object::read(&state, body, &["scopes", "token"]).await?;
    let (kind, application_id) = (application_kind(&body)?, Some(application.id));
    let token = match body.text("token")? {
        Some(secret) => auth::take_over(secret, kind, application_id)?,
        None => auth::draw(kind, application_id)?,
    };
    issue(&state, identity, &request_id, token).await
}

/// Answers `POST /tokens`.
pub(crate) async fn create(
    State(state): State<AppState>,
    identity: Identity,
    Extension(request_id): Extension<RequestId>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    identity.admin()?;
    Parameters::from_query(query.as_deref(), &[])?;
    let body = Object::read(&state, body, &["kind", "scopes", "application"]).await?;
    let (kind, application) = match (body.text("kind")?, body.text("application")?) {
        (Some("analyst"), None) => (TokenKind::Analyst, None),
        (Some("admin"), None) => (TokenKind::Admin, None),
        (Some("analyst" | "admin"), Some(_)) => {
            return Err(Problem::parameter(
                "application",
                "Only a token of kind \"application\" has one.",
            ));
        }
        (None | Some("application"), Some(name)) => (
            application_kind(&body)?,
            Some(named(&state, Ok(Path(name.to_owned())))?),
        ),
        (None | Some("application"), None) => {
            return Err(Problem::parameter(
                "kind",
                "Give \"analyst\", \"admin\", or an application with scopes.",
            ));
        }
        (Some(_), _) => {
            return Err(Problem::parameter(
                "kind",
                "must be \"application\", \"analyst\" or \"admin\".",
            ));
        }
    };
    if !matches!(kind, TokenKind::Application { .. }) && body.has("scopes") {
        return Err(Problem::parameter(
            "scopes",
            "Only a token of kind \"application\" has them.",
        ));
    }
    let token = auth::draw(kind, application.map(|application| application.id))?;
    issue(&state, identity, &request_id, token).await
}

/// Answers `GET /tokens`.
pub(crate) async fn list(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    page(&state, "tokens".to_owned(), query.as_deref(), |_| true)
}

/// Answers `GET /applications/{name}/tokens`.
pub(crate) async fn list_of_application(
    State(state): State<AppState>,
    identity: Identity,
    name: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    let application = named(&state, name)?;
    let list = format!("tokens of {}", application.id.0);
    page(&state, list, query.as_deref(), |token| {
        token.application == Some(application.id)
    })
}

/// Answers `DELETE /tokens/{id}`.
pub(crate) async fn revoke(
    State(state): State<AppState>,
    identity: Identity,
    Extension(request_id): Extension<RequestId>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    Parameters::from_query(query.as_deref(), &[])?;
    let missing = || Problem::not_found("A token of this id");
    let id = id
        .ok()
        .and_then(|Path(id)| Uuid::try_parse(&id).ok())
        .ok_or_else(missing)?;
    change(
        &state,
        Change::RevokeToken { id },
        identity.actor(&request_id),
    )
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Returns a token without its secret.
pub(crate) fn shape(registry: &Registry, token: &Token) -> Value {
    described(
        Some(token.id),
        token.kind,
        name_of(registry, token.application),
        Some(token.created_at),
    )
}

/// Returns the shape of a token from its parts.
pub(crate) fn described(
    id: Option<Uuid>,
    kind: TokenKind,
    application: Option<&str>,
    created_at: Option<i64>,
) -> Value {
    json!({
        "id": id, "kind": kind_name(kind), "scopes": scopes(kind), "application": application,
        "created_at": created_at.map(format_timestamp), "last_used": null, "expires_at": null, "origins": [],
    })
}

/// Returns an application's name.
pub(crate) fn name_of(registry: &Registry, application: Option<ApplicationId>) -> Option<&str> {
    registry
        .application(application?)
        .map(|application| application.name.as_str())
}

/// Returns the answer to a change that led to something else than asked: a mistake of ours.
pub(crate) fn unexpected() -> Problem {
    Problem::new(Code::Damaged, "The log answered another question.").detail("Please report this.")
}

fn application_kind(body: &Object) -> Result<TokenKind, Problem> {
    let Some(scopes) = body.texts("scopes")? else {
        return Ok(TokenKind::Application {
            read: true,
            write: true,
        });
    };
    if scopes.is_empty()
        || scopes
            .iter()
            .any(|scope| !matches!(*scope, "read" | "write"))
    {
        return Err(Problem::parameter(
            "scopes",
            "must list \"write\", \"read\", or both.",
        ));
    }
    Ok(TokenKind::Application {
        read: scopes.contains(&"read"),
        write: scopes.contains(&"write"),
    })
}

async fn issue(
    state: &AppState,
    identity: Identity,
    request_id: &RequestId,
    (secret, token): (String, NewToken),
) -> Result<Response, Problem> {
    let Changed::Token(token) =
        change(state, Change::IssueToken(token), identity.actor(request_id)).await?
    else {
        return Err(unexpected());
    };
    let mut body = shape(&state.log().registry(), &token);
    if let Some(body) = body.as_object_mut() {
        body.insert("token".to_owned(), json!(secret));
    }
    Ok(with_secret(answer(StatusCode::CREATED, body.to_string())))
}

fn page(
    state: &AppState,
    list: String,
    query: Option<&str>,
    wanted: impl Fn(&Token) -> bool,
) -> Result<Response, Problem> {
    let page = Page::of(state, list, query)?;
    let registry = state.log().registry();
    let rows = registry
        .tokens()
        .filter(|token| wanted(token))
        .map(|token| {
            (
                format!("{:020}{}", token.created_at.max(0), token.id),
                shape(&registry, token),
            )
        })
        .collect();
    let (tokens, last) = page.cut(rows);
    Ok(page.answer(state, "tokens", &tokens, last))
}
