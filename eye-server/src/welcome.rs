//! What a starting service says on standard output: where it listens and, in a new store, how to begin.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use eye_log::{Actor, Change, TokenKind, TokenTerms, format_timestamp};
use uuid::Uuid;

use crate::StartError;
use crate::auth::draw;
use crate::registrar::change;
use crate::serve::Place;
use crate::state::AppState;

/// How a new store is begun with.
pub(crate) enum Welcome {
    /// The store is in use: only where it listens.
    Back,
    /// The admin token that was just made; shown this once.
    NewToken(String),
    /// A new store whose admin token is `EYE_ADMIN_TOKEN`.
    PresetToken,
}

impl Welcome {
    /// Makes an admin token where nobody could be admin otherwise. That is done when serving and not on opening, so
    /// that a command on a folder does not make one that nobody gets to see.
    pub(crate) async fn prepare(state: &AppState) -> Result<Self, StartError> {
        let registry = state.log().registry();
        if registry
            .tokens()
            .any(|token| token.kind == TokenKind::Admin)
        {
            return Ok(Self::Back);
        }
        if state.admin_hash().is_some() {
            let new = registry.applications().next().is_none();
            return Ok(if new { Self::PresetToken } else { Self::Back });
        }
        let failed = |problem: crate::error::Problem| {
            StartError::AdminToken(String::from_utf8_lossy(&problem.body("start")).into_owned())
        };
        let (secret, token) =
            draw(TokenKind::Admin, None, TokenTerms::default()).map_err(failed)?;
        change(state, Change::IssueToken(token), Actor::default())
            .await
            .map_err(failed)?;
        Ok(Self::NewToken(secret))
    }

    /// Prints it. A closed standard output is no reason not to serve.
    pub(crate) fn print(&self, place: &Place) {
        let at = At::of(place);
        let mut text = format!("listening on {}\n", at.shown);
        match self {
            Self::Back => {}
            Self::NewToken(secret) => {
                let _ = writeln!(
                    text,
                    "\nThe admin token of this new store, shown this once:\n\n  {secret}\n"
                );
                try_it(&mut text, &at, secret);
            }
            Self::PresetToken => try_it(&mut text, &at, "$EYE_ADMIN_TOKEN"),
        }
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// How a place is written, and reached by curl.
struct At {
    shown: String,
    url: String,
    curl: String,
}

impl At {
    fn of(place: &Place) -> Self {
        match place {
            Place::Address { address, tls } => {
                let scheme = if *tls { "https" } else { "http" };
                let reachable = if address.ip().is_unspecified() {
                    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port())
                } else {
                    *address
                };
                Self {
                    shown: format!("{scheme}://{address}"),
                    url: format!("{scheme}://{reachable}"),
                    curl: "curl -s".to_owned(),
                }
            }
            Place::Socket(path) => Self {
                shown: format!("unix:{}", path.display()),
                url: "http://localhost".to_owned(),
                curl: format!("curl -s --unix-socket '{}'", path.display()),
            },
        }
    }
}

/// Lines that work when pasted one after another: register an application, send an event, find it.
fn try_it(text: &mut String, At { url, curl, .. }: &At, admin: &str) {
    let (session, now) = (Uuid::new_v4(), format_timestamp(eye_log::now()));
    let _ = write!(
        text,
        r#"Try it, line by line:

EYE={url} ADMIN="{admin}"
TOKEN=$({curl} "$EYE/applications" -H "Authorization: Token $ADMIN" -d '{{"name": "demo"}}' | sed 's/.*"token":"\([^"]*\)".*/\1/'); echo "$TOKEN"
{curl} "$EYE/events" -H "Authorization: Token $TOKEN" -d '{{"session_id": "{session}", "category": "demo", "name": "first event", "timestamp": "{now}", "data": {{"text": "hello world"}}}}'; echo
{curl} "$EYE/search?q=hello" -H "Authorization: Token $TOKEN"; echo
"#
    );
}
