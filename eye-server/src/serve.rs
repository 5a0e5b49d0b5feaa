//! Connections: accepting them on TCP and on the folder's socket, and letting them finish.
//!
//! What must stay true: a request that was read is answered, even while stopping; nothing new is accepted then.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};

/// How long a connection may take for a request's head, idle time included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How long to wait when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Keeps track of connections, and ends them.
pub(crate) struct Connections {
    stop: watch::Sender<bool>,
    /// Closed once every connection has dropped its sender.
    open: mpsc::Sender<()>,
    all_closed: mpsc::Receiver<()>,
}

impl Connections {
    pub(crate) fn new() -> Self {
        let (open, all_closed) = mpsc::channel(1);
        Self {
            stop: watch::Sender::new(false),
            open,
            all_closed,
        }
    }

    /// Accepts on a TCP listener until told to stop.
    pub(crate) fn accept_tcp(&self, listener: TcpListener, router: Router) {
        let (mut stop, watching, open) =
            (self.stop.subscribe(), self.stop.clone(), self.open.clone());
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = stop.changed() => return,
                };
                match accepted {
                    Ok((stream, _)) => {
                        // An answer is written at once; waiting for more to send would only delay it.
                        let _ = stream.set_nodelay(true);
                        tokio::spawn(connection(
                            stream,
                            router.clone(),
                            watching.subscribe(),
                            open.clone(),
                        ));
                    }
                    Err(error) => pause(&error).await,
                }
            }
        });
    }

    /// Accepts on a Unix socket until told to stop.
    pub(crate) fn accept_unix(&self, listener: UnixListener, router: Router) {
        let (mut stop, watching, open) =
            (self.stop.subscribe(), self.stop.clone(), self.open.clone());
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = stop.changed() => return,
                };
                match accepted {
                    Ok((stream, _)) => {
                        tokio::spawn(connection(
                            stream,
                            router.clone(),
                            watching.subscribe(),
                            open.clone(),
                        ));
                    }
                    Err(error) => pause(&error).await,
                }
            }
        });
    }

    /// Stops accepting, lets requests finish, and returns once all connections are closed.
    pub(crate) async fn finish(mut self) {
        self.stop.send_replace(true);
        drop(self.open);
        // Nothing is ever sent: this returns when the last sender is gone.
        let _ = self.all_closed.recv().await;
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    mut stop: watch::Receiver<bool>,
    open: mpsc::Sender<()>,
) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
    drop(open);
}

/// Waits until connections are told to end.
async fn told(stop: &mut watch::Receiver<bool>) {
    // Without a sender the service is gone, which is the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "no connection could be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// The socket in a data folder, through which whoever may open it is admin. Removed when dropped.
pub(crate) struct Socket {
    path: PathBuf,
}

impl Socket {
    /// Listens on `DATA/eye.sock`, mode 0600; a stale file of that name is replaced. The folder's lock sees to it
    /// that no other process listens there.
    pub(crate) fn bind(data: &Path) -> io::Result<(Self, UnixListener)> {
        let path = data.join("eye.sock");
        // Made in a folder that nobody else can enter, so that there is no instant at which another could connect.
        let folder = data.join(".s");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder)?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
        let bound = (|| -> io::Result<UnixListener> {
            let made = folder.join("s");
            let listener = UnixListener::bind(&made)?;
            std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600))?;
            std::fs::rename(&made, &path)?;
            Ok(listener)
        })();
        let _ = std::fs::remove_dir_all(&folder);
        Ok((Self { path }, bound?))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
