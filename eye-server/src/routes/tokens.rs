//! `/tokens` and `/applications/{name}/tokens`: secrets shown once, and their revocation. Admins only.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use eye_log::{
    ApplicationId, Change, Changed, NewToken, Registry, Token, TokenKind, TokenTerms,
    format_timestamp,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::{self, Identity, kind_name, scopes};
use crate::config::origin;
use crate::envelope::RequestId;
use crate::error::{Code, Problem};
use crate::operation::{Answer, Component, Field, Operation, Shape};
use crate::parameters::{CURSOR, ID, LIMIT, Parameters, instant};
use crate::question::APPLICATION;
use crate::registrar::{Page, change};
use crate::routes::applications::{named, with_secret};
use crate::routes::json as answer;
use crate::state::AppState;
use crate::wire::Object;

/// Pages that may use one token.
const ORIGINS_MAX: usize = 100;

const KINDS: [&str; 3] = ["application", "analyst", "admin"];
const SCOPES: Field = Field::list("scopes", &Shape::OneOf(&["read", "write"])).optional();
const EXPIRES_AT: Field = Field::text("expires_at")
    .optional()
    .about("From then on it is refused: RFC 3339, a date, or now+90d.");
const ORIGINS: Field = Field::new("origins", Shape::ListOf(&Shape::Text, 0, ORIGINS_MAX))
    .optional()
    .about("Pages of these origins alone may use it, https://shop.example each.");

const FIELDS: [Field; 8] = [
    Field::uuid("id").or_null(),
    Field::one_of("kind", &KINDS),
    Field::list("scopes", &Shape::Text),
    Field::text("application").or_null(),
    Field::text("created_at").or_null(),
    Field::text("last_used").or_null(),
    Field::text("expires_at").or_null(),
    Field::list("origins", &Shape::Text),
];
/// A token without its secret.
pub(crate) static TOKEN: Component = Component::new(
    "Token",
    "",
    Shape::Both(&FIELDS, &[Field::uuid("store").optional()]),
);

/// A token that was just issued.
pub(crate) static NEW_TOKEN: Component = Component::new(
    "NewToken",
    "",
    Shape::Both(&FIELDS, &[Field::text("token")]),
);

/// What [`create_for_application`] takes and answers.
pub(crate) static CREATE_FOR_APPLICATION: Operation =
    Operation::writes("Issue a token for an application")
        .path(&[Field::text("name").about("Its name.")])
        .fields(&[
            SCOPES,
            Field::new(
                "token",
                Shape::TextOf(auth::TAKEN_MIN_CHARS, auth::TAKEN_MAX_CHARS),
            )
            .optional()
            .about("A secret that clients have already; without it one is drawn."),
            EXPIRES_AT,
            ORIGINS,
        ])
        .answers(&[Answer::json(
            201,
            "The token is shown this once.",
            Shape::Of(&NEW_TOKEN),
        )])
        .problems(&[409]);

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
    CREATE_FOR_APPLICATION.parameters(query.as_deref())?;
    let application = named(&state, name)?;
    let body = CREATE_FOR_APPLICATION.object(&state, body).await?;
    let (kind, application_id) = (application_kind(&body)?, Some(application.id));
    let terms = terms(&state, &body, kind)?;
    let token = match body.text("token")? {
        Some(secret) => auth::take_over(secret, kind, application_id, terms)?,
        None => auth::draw(kind, application_id, terms)?,
    };
    issue(&state, identity, &request_id, token).await
}

/// What [`create`] takes and answers.
pub(crate) static CREATE: Operation = Operation::writes("Issue a token")
    .fields(&[
        Field::one_of("kind", &KINDS).optional(),
        APPLICATION.about("Whose it is, for a token of an application."),
        SCOPES,
        EXPIRES_AT,
        ORIGINS,
    ])
    .answers(&[Answer::json(
        201,
        "The token is shown this once.",
        Shape::Of(&NEW_TOKEN),
    )])
    .problems(&[404, 409]);

/// Answers `POST /tokens`.
pub(crate) async fn create(
    State(state): State<AppState>,
    identity: Identity,
    Extension(request_id): Extension<RequestId>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    identity.admin()?;
    CREATE.parameters(query.as_deref())?;
    let body = CREATE.object(&state, body).await?;
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
    let terms = terms(&state, &body, kind)?;
    let token = auth::draw(kind, application.map(|application| application.id), terms)?;
    issue(&state, identity, &request_id, token).await
}

/// What [`list`] takes and answers.
pub(crate) static LIST: Operation = Operation::reads("List tokens")
    .query(&[LIMIT, CURSOR])
    .answers(&[Answer::json(
        200,
        "A page of tokens.",
        Shape::Page("tokens", &Shape::Of(&TOKEN)),
    )]);

/// Answers `GET /tokens`.
pub(crate) async fn list(
    State(state): State<AppState>,
    identity: Identity,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    let parameters = LIST.parameters(query.as_deref())?;
    page(&state, "tokens".to_owned(), parameters, |_| true)
}

/// What [`list_of_application`] takes and answers.
pub(crate) static LIST_OF_APPLICATION: Operation = Operation::reads("List an application's tokens")
    .path(&[Field::text("name").about("Its name.")])
    .query(&[LIMIT, CURSOR])
    .answers(&[Answer::json(
        200,
        "A page of its tokens.",
        Shape::Page("tokens", &Shape::Of(&TOKEN)),
    )]);

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
    let parameters = LIST_OF_APPLICATION.parameters(query.as_deref())?;
    page(&state, list, parameters, |token| {
        token.application == Some(application.id)
    })
}

/// What [`revoke`] takes and answers.
pub(crate) static REVOKE: Operation = Operation::writes("Revoke a token")
    .path(&[ID])
    .answers(&[Answer::empty(204, "Done.")]);

/// Answers `DELETE /tokens/{id}`.
pub(crate) async fn revoke(
    State(state): State<AppState>,
    identity: Identity,
    Extension(request_id): Extension<RequestId>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    identity.admin()?;
    REVOKE.parameters(query.as_deref())?;
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
pub(crate) fn shape(state: &AppState, registry: &Registry, token: &Token) -> Value {
    json!({
        "id": token.id, "kind": kind_name(token.kind), "scopes": scopes(token.kind),
        "application": name_of(registry, token.application), "created_at": format_timestamp(token.created_at),
        "last_used": state.usage().last(token.id).map(format_timestamp),
        "expires_at": token.terms.expires_at.map(format_timestamp), "origins": token.terms.origins,
    })
}

/// Returns the shape of what is an admin and no token of the registry: the folder's owner, and `EYE_ADMIN_TOKEN`.
pub(crate) fn shape_of_owner() -> Value {
    json!({
        "id": null, "kind": kind_name(TokenKind::Admin), "scopes": scopes(TokenKind::Admin), "application": null,
        "created_at": null, "last_used": null, "expires_at": null, "origins": [],
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

/// Reads until when and from where a new token is accepted.
fn terms(state: &AppState, body: &Object, kind: TokenKind) -> Result<TokenTerms, Problem> {
    let now = eye_log::now();
    let zone = state.settings().default_timezone.0;
    let expires_at = body.text("expires_at")?.map(|text| {
        let wrong = || {
            let message =
                "Must be a time that is still to come: RFC 3339, a date, or now+90d with one of s m h d w.";
            Problem::parameter("expires_at", message)
        };
        let instant = instant(text, now, zone);
        instant.filter(|instant| *instant > now).ok_or_else(wrong)
    });
    let origins = body.texts("origins")?.unwrap_or_default();
    if !origins.is_empty() && !matches!(kind, TokenKind::Application { .. }) {
        return Err(Problem::parameter(
            "origins",
            "Only a token of an application has them.",
        ));
    }
    if origins.len() > ORIGINS_MAX {
        return Err(Problem::parameter(
            "origins",
            format!("At most {ORIGINS_MAX} can be kept."),
        ));
    }
    Ok(TokenTerms {
        expires_at: expires_at.transpose()?,
        origins: origins
            .into_iter()
            .map(|text| {
                origin(text.trim()).ok_or_else(|| {
                    let message = format!(
                        "{text:?} is no origin; write https://shop.example, without a path."
                    );
                    Problem::parameter("origins", message)
                })
            })
            .collect::<Result<_, _>>()?,
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
    let mut body = shape(state, &state.log().registry(), &token);
    if let Some(body) = body.as_object_mut() {
        body.insert("token".to_owned(), json!(secret));
    }
    Ok(with_secret(answer(StatusCode::CREATED, body.to_string())))
}

fn page(
    state: &AppState,
    list: String,
    parameters: Parameters,
    wanted: impl Fn(&Token) -> bool,
) -> Result<Response, Problem> {
    let (page, _) = Page::of(state, list, parameters)?;
    let registry = state.log().registry();
    let rows = registry
        .tokens()
        .filter(|token| wanted(token))
        .map(|token| {
            (
                format!("{:020}{}", token.created_at.max(0), token.id),
                shape(state, &registry, token),
            )
        })
        .collect();
    let (tokens, last) = page.cut(rows);
    Ok(page.answer(state, "tokens", &tokens, last))
}
