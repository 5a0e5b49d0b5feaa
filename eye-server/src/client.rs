//! One door to a service, whichever way it is reached: the socket of the server that runs on a folder, a server's
//! address, or the folder itself, opened in this process. Every command is written once, against the HTTP contract.

pub(crate) use eye_client::{Answer, ClientError, Problem, encoded};

use axum::body::Body;
use eye_server::config::Given;
use http_body_util::BodyExt as _;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use tower::ServiceExt as _;

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

/// A client, and the folder behind it where that was opened in this process.
pub(crate) struct Client {
    client: eye_client::Client,
    /// The router works only as long as the app is open.
    app: Option<eye_server::App>,
}

impl Deref for Client {
    type Target = eye_client::Client;

    fn deref(&self) -> &eye_client::Client {
        &self.client
    }
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
        let settings = eye_server::Settings::load(&given).map_err(ClientError::Unusable)?;
        let app = eye_server::open(&settings)
            .await
            .map_err(|error| ClientError::Unusable(error.to_string()))?;
        let router = app.router_as_owner();
        let place = target.data.display().to_string();
        Ok(Client {
            client: under_token(target, of_router(place, router))?,
            app: Some(app),
        })
    }

    /// Opens a target's server if one is given, else the one that runs on its folder, if one does.
    pub(crate) async fn of_running(target: &Target) -> Result<Option<Self>, ClientError> {
        let of_client = |client| {
            Ok(Some(Client {
                client: under_token(target, client)?,
                app: None,
            }))
        };
        if let Some(server) = &target.server {
            return of_client(eye_client::Client::of_server(server)?);
        }
        let socket = target.data.join("eye.sock");
        let client = eye_client::Client::of_socket(&socket);
        match client.connect_now().await {
            Ok(()) => of_client(client),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(ClientError::Unusable(format!(
                    "a server runs on {}, but its socket {} is not yours to open: run this as the user who runs \
                     the server, or use --server http://HOST:PORT --token T",
                    target.data.display(),
                    socket.display()
                )))
            }
            // No socket, or one left behind by a server that is gone: then the folder is free, or its lock tells.
            Err(_) => {
                under_token(target, client)?;
                Ok(None)
            }
        }
    }

    /// Uses a router of this process.
    #[cfg(test)]
    pub(crate) fn of_router(router: axum::Router) -> Self {
        Client {
            client: of_router("the test".to_owned(), router),
            app: None,
        }
    }

    /// Returns why a folder opened in this process takes nothing more, if so. A server is asked, and may be restarted;
    /// nobody restarts this process.
    pub(crate) fn stopped_log(&self) -> Option<String> {
        self.app.as_ref().and_then(eye_server::App::stopped_log)
    }

    /// Ends the connection, or closes the folder so that the next process can open it.
    pub(crate) async fn close(self) {
        drop(self.client);
        if let Some(app) = self.app {
            app.close().await;
        }
    }
}

fn under_token(
    target: &Target,
    client: eye_client::Client,
) -> Result<eye_client::Client, ClientError> {
    match &target.token {
        Some(token) => client.with_token(token),
        None => Ok(client),
    }
}

/// Answers requests by a router of this process.
fn of_router(place: String, router: axum::Router) -> eye_client::Client {
    eye_client::Client::of_handler(place, move |request| {
        let answering = router.clone().oneshot(request.map(Body::new));
        async move {
            match answering.await {
                Ok(response) => response.map(|body| body.map_err(Into::into).boxed_unsync()),
                Err(never) => match never {},
            }
        }
    })
}

/// Fails on a data folder that is not there, unless the command makes it.
pub(crate) fn require_folder(data: &Path, missing: MissingFolder) -> Result<(), ClientError> {
    if missing == MissingFolder::Make || data.is_dir() {
        return Ok(());
    }
    Err(ClientError::Unusable(if data.exists() {
        format!("{} is not a folder", data.display())
    } else {
        format!(
            "there is no data folder {}; `eye serve`, `eye app create` and `eye send` make one, and --data DIR (or \
             EYE_DATA) names another",
            data.display()
        )
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use axum::Router;
    use serde_json::Value;

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
