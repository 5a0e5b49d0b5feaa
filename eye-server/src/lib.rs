//! The Eye's HTTP service: an open store ([`App`]), its routes, and the process around them.

mod access;
mod auth;
mod calendar;
mod caretaker;
pub mod config;
mod cursor;
mod envelope;
pub mod error;
mod explain;
mod ingest;
mod listing;
pub mod logging;
mod metrics;
mod operation;
mod parameters;
mod question;
mod registrar;
mod reindexing;
mod rejections;
mod router;
mod routes;
mod schemas;
mod serve;
mod shutdown;
mod starting;
mod state;
mod stream;
mod tasks;
mod usage;
mod view;
mod welcome;
mod wire;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use eye_index::{Index, IndexError};
use eye_log::storage::make_private_folder;
use eye_log::{Log, LogConfig, LogHealth, Offset, OpenError, Senders};
use tokio::net::TcpListener;

pub use crate::config::Settings;
use crate::metrics::Door;
pub use crate::parameters::instant;
use crate::rejections::Rejections;
use crate::serve::{Connections, Listener, Socket, Tls, keep_current};
use crate::shutdown::{Hangups, Signals};
use crate::state::AppState;
use crate::welcome::Welcome;
pub use crate::wire::{control_line, on_one_line};

/// Says why a service could not be started or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder, or the index's within it, cannot be made or emptied.
    #[error("making the folder {folder}: {source}", folder = folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The index cannot be opened.
    #[error("the index: {0}")]
    Index(#[from] IndexError),
    /// The address cannot be listened on.
    #[error(
        "listening on {listen}: {source}. Choose another with --listen or EYE_LISTEN; port 0 picks one"
    )]
    Listen {
        /// The address as given.
        listen: String,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// The system gives no signals.
    #[error("listening for signals: {0}")]
    Signals(io::Error),
    /// A first admin token could not be made.
    #[error("making the first admin token: {0}")]
    AdminToken(String),
    /// A write or sync of the log failed while serving. Nothing was taken since; what was acknowledged before stays so.
    #[error(
        "the log stopped after a failed write: {0}. What was acknowledged is kept. Look at the disk, then start again: \
         the start reads what the disk really holds"
    )]
    Poisoned(String),
    /// A thread that opened the store died; its message is in the log.
    #[error("opening the store stopped on a mistake of this service")]
    Broken,
}

/// How far the index is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexProgress {
    /// One past the last record that can be found.
    pub through: Offset,
    /// One past the last record of the log.
    pub end: Offset,
    /// What keeps the indexer from going on.
    pub trouble: Option<String>,
}

/// How often a serving process looks whether its log still takes events.
const HEALTH_INTERVAL: Duration = Duration::from_millis(100);
/// How long a service whose log has stopped still says so, to whoever asks for its health.
const SAY_SO: Duration = Duration::from_millis(500);
/// What requests, and then the index, get of a service whose log has stopped: whoever restarts it waits for that.
const STOPPED_LOG_TIMEOUT: Duration = Duration::from_secs(1);

/// Holds an open store, ready to be asked in process or to be served.
#[derive(Clone)]
pub struct App {
    state: AppState,
}

/// Opens `DATA/log` and `DATA/index`, making what is missing. Nothing listens yet. The log's lock keeps other
/// processes out until [`App::close`].
pub async fn open(settings: &Settings) -> Result<App, StartError> {
    open_after(settings, None, |_| Ok(())).await
}

/// Opens as [`open`] does, with an index that is made anew from the whole log. That goes on after this returns; see
/// [`App::index_progress`].
pub async fn open_with_new_index(settings: &Settings) -> Result<App, StartError> {
    open_after(settings, None, |index| {
        match std::fs::remove_dir_all(index) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    })
    .await
}

/// Opens the store and serves it until SIGTERM or Ctrl-C, then answers what was accepted, syncs and closes, within
/// `shutdown_timeout`. A second signal ends the process at once, and so does the first while the store is being opened.
/// Until it is open every request gets 503 `recovering`. Prints where it listens and, in a new store, the admin token
/// and what to try first. Ends with [`StartError::Poisoned`] soon after a write or sync of the log has failed.
///
/// The runtime's threads tell `senders` whenever they rest, so that requests that come together are stored together.
pub async fn serve(settings: &Settings, senders: Senders) -> Result<(), StartError> {
    let mut signals = Signals::new().map_err(StartError::Signals)?;
    let hangups = Hangups::new().map_err(StartError::Signals)?;
    let tls = Tls::of(settings).map_err(StartError::Tls)?;
    let doors = Doors::bind(settings, tls.clone()).await?;
    let starting = Connections::new(settings, Arc::default());
    let waiting = starting.accept(doors.public, Door::Public, starting::router());
    let opened = tokio::select! {
        opened = open_after(settings, Some(senders), |_| Ok(())) => opened,
        status = signals.next() => std::process::exit(status),
    };
    // Whoever still waits for an answer gets it; connections that come meanwhile wait for the routes.
    starting.finish().await;
    let public = waiting.await.map_err(|_| StartError::Broken)?;
    let doors = Doors { public, ..doors };
    let app = opened?;
    tokio::spawn(keep_current(tls, hangups, app.state.shared_metrics()));
    app.serve_on(doors, async move {
        signals.next().await;
        tracing::info!("stopping; a second signal does not wait");
        tokio::spawn(async move { std::process::exit(signals.next().await) });
    })
    .await
}

/// What a service listens on beside the owner's socket.
struct Doors {
    public: Listener,
    metrics: Option<Listener>,
}

impl Doors {
    async fn bind(settings: &Settings, tls: Option<Arc<Tls>>) -> Result<Self, StartError> {
        let bind = async |listen: &str, tls| {
            Listener::bind(listen, tls)
                .await
                .map_err(|source| StartError::Listen {
                    listen: listen.to_owned(),
                    source,
                })
        };
        let metrics = match settings.metrics_listen.as_str() {
            "" => None,
            listen => Some(bind(listen, None).await?),
        };
        let public = bind(&settings.listen, tls).await?;
        Ok(Self { public, metrics })
    }
}

/// Opens the log, whose lock keeps other processes away from the index too, then does `first` to the index's folder.
async fn open_after(
    settings: &Settings,
    senders: Option<Senders>,
    first: impl FnOnce(&Path) -> io::Result<()> + Send + 'static,
) -> Result<App, StartError> {
    let settings = settings.clone();
    let opening = tokio::task::spawn_blocking(move || {
        let folder_error = |source| StartError::Folder {
            folder: settings.data.clone(),
            source,
        };
        make_private_folder(&settings.data).map_err(folder_error)?;
        let (log, report) = {
            let segment_max_bytes = u64::try_from(settings.segment_max_bytes).unwrap_or(u64::MAX);
            let config = LogConfig {
                segment_max_bytes,
                disk_reserve: u64::try_from(settings.disk_reserve).unwrap_or(u64::MAX),
                senders,
                ..LogConfig::default()
            };
            Log::open(&settings.data.join("log"), config)?
        };
        tracing::info!(?report, "the log is open");
        let folder = settings.data.join("index");
        reindexing::remove_leftovers(&settings.data).map_err(folder_error)?;
        first(&folder).map_err(|source| StartError::Folder {
            folder: folder.clone(),
            source,
        })?;
        let index = Index::open(&folder, &log, settings.index_config())?;
        let rejections = Rejections::open(
            &settings.data.join("rejections"),
            settings.rejections_max_bytes,
            settings.rejections_max_age,
        )
        .map_err(|source| StartError::Folder {
            folder: settings.data.join("rejections"),
            source,
        })?;
        Ok(App {
            state: AppState::new(settings, log, index, rejections),
        })
    });
    opening.await.unwrap_or(Err(StartError::Broken))
}

impl App {
    /// Returns the service's routes, for requests that bring tokens.
    pub fn router(&self) -> Router {
        router::router(self.state.clone())
    }

    /// Returns the same routes for the folder's owner: every request is an admin's. For the socket in the folder, and
    /// for commands that open the store themselves.
    pub fn router_as_owner(&self) -> Router {
        router::router(self.state.as_owner())
    }

    /// Serves until `stop` is over, then answers what was accepted, syncs and closes, within `shutdown_timeout`. Ends
    /// with [`StartError::Poisoned`] soon after a write or sync of the log has failed.
    async fn serve_on(
        self,
        doors: Doors,
        stop: impl Future<Output = ()>,
    ) -> Result<(), StartError> {
        let settings = self.state.settings();
        let place = doors.public.place().map_err(|source| StartError::Listen {
            listen: settings.listen.clone(),
            source,
        })?;
        let owner = match Socket::bind_owner(&settings.data) {
            Ok((socket, listener)) => Some(Listener::Unix(listener, socket)),
            Err(error) => {
                tracing::warn!(%error, "no eye.sock in the data folder: commands need --server and --token");
                None
            }
        };
        let welcome = Welcome::prepare(&self.state).await?;
        // It ends when the service stops, at its next look.
        tokio::spawn(caretaker::run(self.state.clone()));

        let connections = Connections::new(settings, self.state.shared_metrics());
        let accepting: Vec<_> = [
            owner.map(|listener| (listener, Door::Owner, self.router_as_owner())),
            doors.metrics.map(|listener| {
                let router = router::router_for_metrics(self.state.clone());
                (listener, Door::Metrics, router)
            }),
            Some((doors.public, Door::Public, self.router())),
        ]
        .into_iter()
        .flatten()
        .map(|(listener, door, router)| connections.accept(listener, door, router))
        .collect();
        welcome.print(&place);

        let stopped_log = tokio::select! {
            () = stop => None,
            cause = self.log_stops() => Some(cause),
        };
        // What hangs must not keep the store from being closed well.
        let (answering, closing) = if stopped_log.is_some() {
            // Every waiter has its answer by now. A process that is gone is noticed and restarted; one that can only say
            // no is not.
            tokio::time::sleep(SAY_SO).await;
            (STOPPED_LOG_TIMEOUT, STOPPED_LOG_TIMEOUT)
        } else {
            (
                settings.shutdown_timeout * 3 / 4,
                settings.shutdown_timeout / 4,
            )
        };
        self.state.set_stopping();
        connections.stop();
        let finishing = async {
            for listener in accepting {
                // Nobody is to connect any more; the file of a socket goes as well.
                drop(listener.await);
            }
            connections.finish().await;
        };
        if tokio::time::timeout(answering, finishing).await.is_err() {
            // What was acknowledged is on the disk; what still runs is cut off with the process.
            tracing::warn!(?answering, "stopped with requests still open");
        }
        if tokio::time::timeout(closing, self.close()).await.is_err() {
            tracing::warn!(
                ?closing,
                "stopped before the index was closed; it is checked at the next start"
            );
        }
        stopped_log.map_or(Ok(()), |cause| Err(StartError::Poisoned(cause)))
    }

    /// Returns how far the index is behind the log.
    pub fn index_progress(&self) -> IndexProgress {
        IndexProgress {
            end: self.state.reader().durable_end(),
            through: self.state.index().indexed_through(),
            trouble: self.state.index().status().trouble,
        }
    }

    /// Returns why the log takes nothing until a restart, if so.
    pub fn stopped_log(&self) -> Option<String> {
        match self.state.log().health() {
            LogHealth::Poisoned(cause) => Some(cause),
            LogHealth::Ok | LogHealth::DiskFull => None,
        }
    }

    /// Waits until a write or sync of the log has failed; returns the cause.
    async fn log_stops(&self) -> String {
        loop {
            if let Some(cause) = self.stopped_log() {
                return cause;
            }
            tokio::time::sleep(HEALTH_INTERVAL).await;
        }
    }

    /// Serves on a listener, for ever, a service whose `POST /events` stores nothing: the same routes, the same parse of
    /// the raw JSON, the same answers, and one message to nowhere in place of the log. The ceiling that benches
    /// compare with.
    pub async fn serve_to_nowhere(self, listener: TcpListener) {
        const QUEUE: usize = 1024;
        let (nowhere, mut queue) = tokio::sync::mpsc::channel(QUEUE);
        let connections = Connections::new(self.state.settings(), self.state.shared_metrics());
        let router = router::router_to_nowhere(self.state.clone(), nowhere);
        connections.accept(Listener::Tcp(listener, None), Door::Public, router);
        while queue.recv().await.is_some() {}
    }

    /// Stops the index and the log: what was accepted is stored and synced. Later requests that send are refused.
    pub async fn close(&self) {
        let state = self.state.clone();
        let closing = tokio::task::spawn_blocking(move || {
            state.log().close();
            caretaker::note_usage(&state);
            state.rejections().sync();
            state.index().close();
        });
        if let Err(error) = closing.await {
            tracing::error!(%error, "closing the store stopped");
        }
    }
}
