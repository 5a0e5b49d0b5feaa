//! One door to a service, whichever way it is reached: the socket of the server that runs on a folder, a server's
//! address, or the folder itself, opened in this process. Every command is written once, against the HTTP contract.

mod problem;
mod tls;
mod wire;

pub(crate) use problem::Problem;

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header},
};
use eye_server::config::Given;
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use std::{
    fmt, io,
    path::{Path, PathBuf},
};
use tower::ServiceExt;
use wire::{Address, Wire};

/// Says what to open, as the command line gave it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) data: PathBuf,
    pub(crate) config: Option<PathBuf>,
    pub(crate) server: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) missing_folder: MissingFolder,
}

/// Says what a command does about a data folder that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissingFolder {
    Make,
    Refuse,
}

/// Sends requests to one service and reads whole answers.
pub(crate) struct Client {
    door: Door,
    authorization: Option<HeaderValue>,
    /// What to call this service when talking to a person.
    place: String,
}

enum Door {
    Wire(Wire),
    /// The router works only as long as the app behind it is open.
    InProcess {
        router: Router,
        app: Option<eye_server::App>,
    },
}

impl Client {
    /// Opens a target: its server if one is given, else the server that runs on its folder, else the folder.
    pub(crate) async fn open(target: &Target) -> Result<Self, ClientError> {
        if let Some(client) = Self::of_running(target).await? {
            return Ok(client);
        }
        require_folder(&target.data, target.missing_folder)?;
        let given = Given {
            data: Some(target.data.clone()),
            config: target.config.clone(),
            flags: Vec::new(),
        };
        let settings = eye_server::Settings::load(&given).map_err(ClientError::Folder)?;
        let app = eye_server::open(&settings)
            .await
            .map_err(|error| ClientError::Folder(error.to_string()))?;
        let door = Door::InProcess {
            router: app.router_as_owner(),
            app: Some(app),
        };
        Ok(Client {
            door,
            authorization: target.token.as_deref().map(authorization).transpose()?,
            place: target.data.display().to_string(),
        })
    }

    /// Opens a target's server if one is given, else the one that runs on its folder, if one does.
    pub(crate) async fn of_running(target: &Target) -> Result<Option<Self>, ClientError> {
        let authorization = target.token.as_deref().map(authorization).transpose()?;
        if let Some(server) = &target.server {
            let wire = Wire::new(Address::parse_http(server).map_err(ClientError::Usage)?);
            return Ok(Some(Client {
                place: wire.place(),
                door: Door::Wire(wire),
                authorization,
            }));
        }
        let socket = target.data.join("eye.sock");
        let wire = Wire::new(Address::Unix(socket.clone()));
        let opened = wire.connect_now().await;
        match opened {
            Ok(()) => Ok(Some(Client {
                place: wire.place(),
                door: Door::Wire(wire),
                authorization,
            })),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(ClientError::Folder(format!(
                    "a server runs on {}, but its socket {} is not yours to open: run this as the user who runs \
                     the server, or use --server http://HOST:PORT --token T",
                    target.data.display(),
                    socket.display()
                )))
            }
            // No socket, or one left behind by a server that is gone: then the folder is free, or its lock tells.
            Err(_) => Ok(None),
        }
    }

    /// Uses a router of this process.
    #[cfg(test)]
    pub(crate) fn of_router(router: Router) -> Self {
        Client {
            door: Door::InProcess { router, app: None },
            authorization: None,
            place: "the test".to_owned(),
        }
    }

    /// Returns the name of the service for people: an address, a socket's path or a folder.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Returns why a folder opened in this process takes nothing more, if so. A server is asked, and may be restarted;
    /// nobody restarts this process.
    pub(crate) fn stopped_log(&self) -> Option<String> {
        match &self.door {
            Door::InProcess { app: Some(app), .. } => app.stopped_log(),
            _ => None,
        }
    }

    /// Returns true if requests go out under a token rather than as the folder's owner.
    pub(crate) fn has_token(&self) -> bool {
        self.authorization.is_some()
    }

    /// Sends one request and reads the whole answer, whatever its status.
    ///
    /// A connection is kept for the next request and opened again when it was closed. A request that may have reached
    /// the server is never repeated here.
    pub(crate) async fn request(
        &self,
        method: Method,
        path_and_query: &str,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        if let Some(value) = &self.authorization {
            headers.insert(header::AUTHORIZATION, value.clone());
        }
        match &self.door {
            Door::Wire(wire) => wire.request(method, path_and_query, headers, body).await,
            Door::InProcess { router, .. } => {
                let mut request = Request::builder()
                    .method(method)
                    .uri(path_and_query)
                    .body(Body::new(Full::new(body)))
                    .map_err(|error| {
                        ClientError::Usage(format!("{path_and_query} is no path: {error}"))
                    })?;
                request.headers_mut().extend(headers);
                let (parts, body) = match router.clone().oneshot(request).await {
                    Ok(response) => response.into_parts(),
                    Err(never) => match never {},
                };
                let body = body.collect().await.map_err(|error| ClientError::Lost {
                    place: self.place.clone(),
                    cause: error.to_string(),
                    may_have_arrived: true,
                })?;
                Ok(Answer {
                    status: parts.status,
                    headers: parts.headers,
                    body: body.to_bytes(),
                })
            }
        }
    }

    /// Gets a path; an answer of 400 and above is an error.
    pub(crate) async fn get(&self, path_and_query: &str) -> Result<Answer, ClientError> {
        self.request(Method::GET, path_and_query, HeaderMap::new(), Bytes::new())
            .await?
            .or_problem()
    }

    /// Gets a path whose answer goes on and on, on a connection of its own; an answer of 400 and above is an error.
    pub(crate) async fn open_stream(
        &self,
        path_and_query: &str,
        mut headers: HeaderMap,
    ) -> Result<Streamed, ClientError> {
        if let Some(value) = &self.authorization {
            headers.insert(header::AUTHORIZATION, value.clone());
        }
        let response = match &self.door {
            Door::Wire(wire) => wire.open_stream(path_and_query, headers).await?,
            Door::InProcess { router, .. } => {
                let mut request = Request::builder()
                    .uri(path_and_query)
                    .body(Body::empty())
                    .map_err(|error| {
                        ClientError::Usage(format!("{path_and_query} is no path: {error}"))
                    })?;
                request.headers_mut().extend(headers);
                match router.clone().oneshot(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            }
        };
        let (parts, body) = response.into_parts();
        let mut streamed = Streamed {
            place: self.place.clone(),
            body,
        };
        if parts.status.as_u16() >= 400 {
            let mut whole = Vec::new();
            while let Some(piece) = streamed.next().await? {
                whole.extend_from_slice(&piece);
            }
            let answer = Answer {
                status: parts.status,
                headers: parts.headers,
                body: whole.into(),
            };
            answer.or_problem()?;
        }
        Ok(streamed)
    }

    /// Sends a JSON value, or nothing; an answer of 400 and above is an error.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        value: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        let mut headers = HeaderMap::new();
        let mut body = Bytes::new();
        if let Some(value) = value {
            headers.insert(
                HeaderName::from_static("content-type"),
                HeaderValue::from_static("application/json"),
            );
            body = value.to_string().into();
        }
        self.request(method, path, headers, body)
            .await?
            .or_problem()
    }

    /// Gets every page of a list; `key` is the list's name in the answer.
    pub(crate) async fn list(&self, path: &str, key: &str) -> Result<Vec<Value>, ClientError> {
        let mut rows = Vec::new();
        let mut page = path.to_owned();
        loop {
            let mut answer: Value = self.get(&page).await?.json()?;
            let list = match &mut answer {
                Value::Array(list) => std::mem::take(list),
                other => match other.get_mut(key).map(Value::take) {
                    Some(Value::Array(list)) => list,
                    _ => {
                        return Err(ClientError::Garbled(format!(
                            "{path} answered without a list of {key}"
                        )));
                    }
                },
            };
            rows.extend(list);
            match answer.get("next").and_then(Value::as_str) {
                Some(cursor) => page = format!("{path}?cursor={}", encoded(cursor)),
                None => return Ok(rows),
            }
        }
    }

    /// Ends the connection, or closes the folder so that the next process can open it.
    pub(crate) async fn close(self) {
        if let Door::InProcess {
            app: Some(app),
            router,
        } = self.door
        {
            drop(router);
            app.close().await;
        }
    }
}

/// Is an answer that goes on and on.
pub(crate) struct Streamed {
    place: String,
    body: Body,
}

impl Streamed {
    /// Returns the next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        return Ok(Some(piece));
                    }
                }
                Some(Err(error)) => {
                    return Err(ClientError::Lost {
                        place: self.place.clone(),
                        cause: error.to_string(),
                        may_have_arrived: true,
                    });
                }
            }
        }
    }
}

/// Is what a service answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// Returns the answer if its status is below 400, else the problem it tells of.
    pub(crate) fn or_problem(self) -> Result<Answer, ClientError> {
        if self.status.is_client_error() || self.status.is_server_error() {
            return Err(ClientError::Refused(Box::new(Problem::of(&self))));
        }
        Ok(self)
    }

    /// Reads the body as JSON.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            ClientError::Garbled(format!(
                "the answer ({}) was not understood: {error}",
                self.status
            ))
        })
    }
}

/// Says why there is no answer to work with.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// The address or the token cannot be right.
    Usage(String),
    /// The data folder is missing, locked or broken.
    Folder(String),
    /// Nobody listens there; the request has not been sent.
    NoServer { place: String, cause: String },
    /// The connection broke before the answer was whole.
    Lost {
        place: String,
        cause: String,
        may_have_arrived: bool,
    },
    /// The service said no.
    Refused(Box<Problem>),
    /// The service answered something else than the contract says.
    Garbled(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Usage(text) | ClientError::Folder(text) | ClientError::Garbled(text) => {
                f.write_str(text)
            }
            ClientError::NoServer { place, cause } => write!(
                f,
                "no server answers on {place} ({cause}); start one with `eye serve`, or leave --server out to work \
                 on the folder given with --data"
            ),
            ClientError::Lost { place, cause, .. } => {
                write!(
                    f,
                    "the connection to {place} was lost before the answer came ({cause})"
                )
            }
            ClientError::Refused(problem) => problem.fmt(f),
        }
    }
}

/// Percent-encodes a text for one segment of a path or one value of a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte))
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// Fails on a data folder that is not there, unless the command makes it.
pub(crate) fn require_folder(data: &Path, missing: MissingFolder) -> Result<(), ClientError> {
    if missing == MissingFolder::Make || data.is_dir() {
        return Ok(());
    }
    Err(ClientError::Folder(if data.exists() {
        format!("{} is not a folder", data.display())
    } else {
        format!(
            "there is no data folder {}; `eye serve`, `eye app create` and `eye send` make one, and --data DIR (or \
             EYE_DATA) names another",
            data.display()
        )
    }))
}

fn authorization(token: &str) -> Result<HeaderValue, ClientError> {
    let mut value = HeaderValue::try_from(format!("Token {}", token.trim())).map_err(|_| {
        ClientError::Usage("the token holds characters that no token has".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_query_survives_its_encoding() {
        assert_eq!(
            encoded("category:page AND a+b/ü"),
            "category%3Apage%20AND%20a%2Bb%2F%C3%BC"
        );
    }

    #[tokio::test]
    async fn a_missing_folder_is_refused_and_not_made() {
        let temp = tempfile::tempdir().unwrap();
        let data = temp.path().join("nowhere");
        let target = Target {
            data: data.clone(),
            config: None,
            server: None,
            token: None,
            missing_folder: MissingFolder::Refuse,
        };
        let error = Client::open(&target).await.err().unwrap();
        assert!(
            error.to_string().contains("there is no data folder"),
            "{error}"
        );
        assert!(!data.exists());
    }

    #[tokio::test]
    async fn a_socket_in_the_folder_is_preferred() {
        let temp = tempfile::tempdir().unwrap();
        let listener = tokio::net::UnixListener::bind(temp.path().join("eye.sock")).unwrap();
        let router =
            Router::new().route("/me", axum::routing::get(|| async { "{\"store\":\"s\"}" }));
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let target = Target {
            data: temp.path().to_owned(),
            config: None,
            server: None,
            token: None,
            missing_folder: MissingFolder::Refuse,
        };
        let client = Client::open(&target).await.unwrap();
        for _ in 0..2 {
            let me: Value = client.get("/me").await.unwrap().json().unwrap();
            assert_eq!(me["store"], "s");
        }
        assert!(client.place().contains("eye.sock"));
        let missing = client.get("/nothing").await.unwrap_err();
        assert!(missing.to_string().contains("404"), "{missing}");
        server.abort();
    }
}
