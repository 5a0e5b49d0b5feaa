//! Who asks: tokens, how they are drawn, sent and looked up, and what each kind may do.
//!
//! What must stay true: a secret is shown once, when it is drawn, and is never stored, logged or compared in a time
//! that depends on it. A token that is unknown, revoked or of a disabled application gets the same answer.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use eye_log::{Actor, Application, ApplicationId, NewToken, TokenKind, TokenTerms};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::envelope::RequestId;
use crate::error::{Code, Problem};
use crate::state::AppState;

/// What a secret is drawn from, behind its prefix.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// How many characters follow the prefix: 238 bits.
const SECRET_CHARS: usize = 40;

/// What a secret from elsewhere must have at least, so that nobody guesses it …
pub(crate) const TAKEN_MIN_CHARS: usize = 20;
/// … and at most.
pub(crate) const TAKEN_MAX_CHARS: usize = 255;

/// Says who asks, found from the request's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The token's id; nil for the folder's owner and the token of the environment.
    pub(crate) token: Uuid,
    /// What it may do.
    pub(crate) kind: TokenKind,
    /// The application it acts for.
    pub(crate) application: Option<ApplicationId>,
}

/// Says what a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Everything,
    Own(ApplicationId),
}

impl Scope {
    /// Returns whether an event of this application may be seen.
    pub(crate) fn sees(self, application: ApplicationId) -> bool {
        match self {
            Self::Everything => true,
            Self::Own(own) => own == application,
        }
    }
}

impl Identity {
    /// Returns the folder's owner, who needs no token.
    pub(crate) fn owner() -> Self {
        Self {
            token: Uuid::nil(),
            kind: TokenKind::Admin,
            application: None,
        }
    }

    /// Returns what it may read, or that it may not.
    pub(crate) fn scope(&self) -> Result<Scope, Problem> {
        match (self.kind, self.application) {
            (TokenKind::Admin | TokenKind::Analyst, _) => Ok(Scope::Everything),
            (TokenKind::Application { read: true, .. }, Some(own)) => Ok(Scope::Own(own)),
            (TokenKind::Application { .. }, _) => Err(Problem::new(
                Code::Forbidden,
                "This token may send events and read nothing.",
            )
            .detail("Read with a token that has the scope `read`.")),
        }
    }

    /// Fails unless it is an admin.
    pub(crate) fn admin(&self) -> Result<(), Problem> {
        match self.kind {
            TokenKind::Admin => Ok(()),
            TokenKind::Analyst | TokenKind::Application { .. } => {
                Err(Problem::new(Code::Forbidden, "This needs an admin token."))
            }
        }
    }

    /// Returns the application it sends for; `named` is the request's `application=`.
    pub(crate) fn sends_for(
        &self,
        state: &AppState,
        named: Option<&str>,
    ) -> Result<ApplicationId, Problem> {
        match (self.kind, self.application) {
            (TokenKind::Application { write: true, .. }, Some(own)) => match named {
                None => Ok(own),
                Some(name)
                    if state
                        .log()
                        .registry()
                        .application_named(name)
                        .is_some_and(|named| named.id == own) =>
                {
                    Ok(own)
                }
                Some(_) => Err(Problem::new(
                    Code::Forbidden,
                    "This token sends for its own application only.",
                )
                .detail("Leave `application` out, or use a token of that application.")),
            },
            (TokenKind::Application { .. }, _) => Err(Problem::new(
                Code::Forbidden,
                "This token may not send events.",
            )
            .detail("Send with a token that has the scope `write`.")),
            (TokenKind::Analyst, _) => Err(Problem::new(
                Code::Forbidden,
                "An analyst's token reads and never sends.",
            )),
            (TokenKind::Admin, _) => {
                let Some(name) = named else {
                    return Err(Problem::parameter(
                        "application",
                        "An admin says for which application: ?application=NAME.",
                    ));
                };
                match state.log().registry().application_named(name) {
                    None => Err(
                        Problem::not_found(&format!("An application named {name:?}")).detail(
                            "GET /applications lists them; POST /applications registers one.",
                        ),
                    ),
                    Some(Application { active: false, .. }) => Err(Problem::new(
                        Code::Conflict,
                        format!("The application {name:?} is disabled."),
                    )
                    .detail("PATCH /applications/{name} {\"active\": true} enables it.")),
                    Some(application) => Ok(application.id),
                }
            }
        }
    }

    /// Returns who is noted in the log for a change that this identity asks for.
    pub(crate) fn actor(&self, request: &RequestId) -> Actor {
        Actor {
            token: self.token,
            request: request.id(),
        }
    }
}

impl FromRequestParts<AppState> for Identity {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        identify(state, &parts.headers, None)
    }
}

/// Finds who asks. `in_query` is the `?token=` of a sending path, where a write-only token may stand for want of a
/// header.
pub(crate) fn identify(
    state: &AppState,
    headers: &HeaderMap,
    in_query: Option<&str>,
) -> Result<Identity, Problem> {
    if state.is_owner() {
        return Ok(Identity::owner());
    }
    if let Some(header) = headers.get(header::AUTHORIZATION) {
        let secret = header
            .to_str()
            .ok()
            .and_then(secret_of)
            .ok_or_else(Problem::unauthorized)?;
        return look_up(state, &secret, headers)?.ok_or_else(Problem::unauthorized);
    }
    in_query
        .map_or(Ok(None), |secret| look_up(state, secret, headers))?
        .filter(|identity| {
            matches!(
                identity.kind,
                TokenKind::Application {
                    read: false,
                    write: true
                }
            )
        })
        .ok_or_else(Problem::unauthorized)
}

/// Takes the secret out of an `Authorization` header.
fn secret_of(header: &str) -> Option<String> {
    let (scheme, rest) = header.trim().split_once(' ')?;
    let rest = rest.trim();
    let secret = if scheme.eq_ignore_ascii_case("token") || scheme.eq_ignore_ascii_case("bearer") {
        rest.to_owned()
    } else if scheme.eq_ignore_ascii_case("basic") {
        let decoded = STANDARD
            .decode(rest)
            .or_else(|_| STANDARD_NO_PAD.decode(rest))
            .ok()?;
        let text = String::from_utf8(decoded).ok()?;
        text.split_once(':')
            .map_or(text.as_str(), |(user, _)| user)
            .to_owned()
    } else {
        return None;
    };
    (!secret.is_empty()).then_some(secret)
}

/// Both lookups are always made, so that the answer takes the same time whichever token it was. Fails for a token that is
/// used from a page it is not for.
fn look_up(
    state: &AppState,
    secret: &str,
    headers: &HeaderMap,
) -> Result<Option<Identity>, Problem> {
    let hash = hash(secret);
    let preset = state
        .admin_hash()
        .is_some_and(|admin| bool::from(admin.ct_eq(&hash)));
    let registry = state.log().registry();
    let now = eye_log::now();
    let known = registry.token_by_hash(&hash).filter(|token| {
        let expired = token.terms.expires_at.is_some_and(|end| end <= now);
        !expired
            && token.application.is_none_or(|id| {
                registry
                    .application(id)
                    .is_some_and(|application| application.active)
            })
    });
    if preset {
        return Ok(Some(Identity::owner()));
    }
    let Some(token) = known else {
        return Ok(None);
    };
    check_origin(&token.terms, headers)?;
    state.usage().note(token.id, now);
    Ok(Some(Identity {
        token: token.id,
        kind: token.kind,
        application: token.application,
    }))
}

/// Fails if a token is for pages of some origins and this request comes from elsewhere. It keeps honest browsers from
/// using it on other pages; who writes requests by hand can say any origin.
fn check_origin(terms: &TokenTerms, headers: &HeaderMap) -> Result<(), Problem> {
    let origin = headers
        .get(header::ORIGIN)
        .and_then(|origin| origin.to_str().ok());
    let allowed = |origin: &str| {
        let known = |one: &String| one.eq_ignore_ascii_case(origin);
        terms.origins.iter().any(known)
    };
    if terms.origins.is_empty() || origin.is_some_and(allowed) {
        return Ok(());
    }
    let from = origin.map_or_else(
        || "names no page it comes from".to_owned(),
        |origin| format!("comes from {origin:?}"),
    );
    let problem = Problem::new(
        Code::Forbidden,
        format!("This token is for other pages; the request {from}."),
    );
    Err(problem.detail("An admin sets the origins of a token when it is issued (`origins`)."))
}

/// Returns the SHA-256 of a secret: all that is ever stored.
pub(crate) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Draws a token. Returns the secret, to be shown once, and what the log stores.
pub(crate) fn draw(
    kind: TokenKind,
    application: Option<ApplicationId>,
    terms: TokenTerms,
) -> Result<(String, NewToken), Problem> {
    let prefix = match kind {
        TokenKind::Application { read: false, .. } => "eye_w_",
        TokenKind::Application { read: true, .. } => "eye_s_",
        TokenKind::Analyst => "eye_r_",
        TokenKind::Admin => "eye_a_",
    };
    let secret = draw_secret(prefix).map_err(|error| {
        tracing::error!(%error, "the system gives no random bytes");
        Problem::new(
            Code::Overloaded,
            "The system gives no random bytes for a token.",
        )
        .retry_after(1)
    })?;
    let token = NewToken {
        id: Uuid::new_v4(),
        kind,
        application,
        hash: hash(&secret),
        terms,
    };
    Ok((secret, token))
}

/// Takes a secret that is in use elsewhere for a token here. Returns it, and what the log stores.
pub(crate) fn take_over(
    secret: &str,
    kind: TokenKind,
    application: Option<ApplicationId>,
    terms: TokenTerms,
) -> Result<(String, NewToken), Problem> {
    let fits = (TAKEN_MIN_CHARS..=TAKEN_MAX_CHARS).contains(&secret.len())
        && secret.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits {
        // The secret stays out of the message.
        return Err(Problem::parameter(
            "token",
            format!(
                "must have {TAKEN_MIN_CHARS} to {TAKEN_MAX_CHARS} characters, all of them visible ASCII."
            ),
        ));
    }
    let token = NewToken {
        id: Uuid::new_v4(),
        kind,
        application,
        hash: hash(secret),
        terms,
    };
    Ok((secret.to_owned(), token))
}

/// Draws characters from the system's generator. Bytes that would favour some characters are thrown away.
fn draw_secret(prefix: &str) -> Result<String, getrandom::Error> {
    let whole = 256 / ALPHABET.len() * ALPHABET.len();
    let mut secret = String::with_capacity(prefix.len() + SECRET_CHARS);
    secret.push_str(prefix);
    let mut bytes = [0; 64];
    while secret.len() < prefix.len() + SECRET_CHARS {
        getrandom::fill(&mut bytes)?;
        let left = prefix.len() + SECRET_CHARS - secret.len();
        let fair = bytes
            .iter()
            .map(|byte| usize::from(*byte))
            .filter(|byte| *byte < whole);
        secret.extend(
            fair.take(left)
                .map(|byte| char::from(ALPHABET[byte % ALPHABET.len()])),
        );
    }
    Ok(secret)
}

/// Returns the kind of a token as clients see it.
pub(crate) fn kind_name(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Application { .. } => "application",
        TokenKind::Analyst => "analyst",
        TokenKind::Admin => "admin",
    }
}

/// Returns the scopes of a token as clients see them.
pub(crate) fn scopes(kind: TokenKind) -> Value {
    match kind {
        TokenKind::Application {
            read: true,
            write: true,
        } => json!(["write", "read"]),
        TokenKind::Application {
            read: false,
            write: true,
        } => json!(["write"]),
        TokenKind::Application {
            read: true,
            write: false,
        }
        | TokenKind::Analyst => json!(["read"]),
        TokenKind::Application {
            read: false,
            write: false,
        } => json!([]),
        TokenKind::Admin => json!(["write", "read", "admin"]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_secret_may_come_in_three_forms() {
        for header in [
            "Token eye_s_x",
            "token  eye_s_x",
            "Bearer eye_s_x",
            "BEARER eye_s_x ",
            "Basic ZXllX3NfeDo=",
            "Basic ZXllX3NfeA",
        ] {
            assert_eq!(secret_of(header).as_deref(), Some("eye_s_x"), "{header}");
        }
        // A password is not looked at.
        assert_eq!(
            secret_of("Basic ZXllX3NfeDpwdw==").as_deref(),
            Some("eye_s_x")
        );
    }

    #[test]
    fn other_headers_hold_no_secret() {
        for header in [
            "",
            "eye_s_x",
            "Token",
            "Token ",
            "Digest eye_s_x",
            "Basic ???",
            "Basic Og==",
        ] {
            assert_eq!(secret_of(header), None, "{header}");
        }
    }

    #[test]
    fn secrets_have_their_prefix_and_only_letters_and_digits() {
        let mut seen = [0u32; 128];
        for _ in 0..2000 {
            let secret = draw_secret("eye_s_").unwrap();
            let drawn = secret.strip_prefix("eye_s_").unwrap();
            assert_eq!(drawn.len(), SECRET_CHARS);
            for byte in drawn.bytes() {
                assert!(byte.is_ascii_alphanumeric());
                seen[usize::from(byte)] += 1;
            }
        }
        // 80,000 draws: 1,290 of each on average, standard deviation 36. Modulo bias would give the first eight 1,560.
        for byte in ALPHABET {
            assert!(
                (1_090..1_490).contains(&seen[usize::from(*byte)]),
                "{} times {byte}",
                seen[usize::from(*byte)]
            );
        }
    }

    #[test]
    fn each_kind_has_its_prefix() {
        for (kind, prefix) in [
            (
                TokenKind::Application {
                    read: true,
                    write: true,
                },
                "eye_s_",
            ),
            (
                TokenKind::Application {
                    read: false,
                    write: true,
                },
                "eye_w_",
            ),
            (TokenKind::Analyst, "eye_r_"),
            (TokenKind::Admin, "eye_a_"),
        ] {
            let (secret, token) = draw(kind, None, TokenTerms::default()).unwrap();
            assert!(secret.starts_with(prefix));
            assert_eq!(token.hash, hash(&secret));
        }
    }
}
