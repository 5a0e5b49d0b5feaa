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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::FileTypeExt;

    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpStream, UnixStream};
    use tokio::sync::oneshot;

    use super::*;
    use crate::{Settings, StartError, open};

    struct Running {
        folder: TempDir,
        address: std::net::SocketAddr,
        stop: oneshot::Sender<()>,
        over: tokio::task::JoinHandle<Result<(), StartError>>,
    }

    async fn start() -> Running {
        let folder = TempDir::new().unwrap();
        // A stale file is in the way.
        std::fs::write(folder.path().join("eye.sock"), "stale").unwrap();
        let settings = Settings {
            admin_token: "preset".into(),
            ..Settings::new(folder.path())
        };
        let app = open(&settings).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let over = tokio::spawn(app.serve_on(listener, async move {
            let _ = stopped.await;
        }));
        while UnixStream::connect(folder.path().join("eye.sock"))
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Running {
            folder,
            address,
            stop,
            over,
        }
    }

    async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_socket_in_the_folder_is_the_owners_and_goes_with_the_service() {
        let running = start().await;
        let path = running.folder.path().join("eye.sock");
        let facts = std::fs::metadata(&path).unwrap();
        assert!(facts.file_type().is_socket());
        assert_eq!(facts.permissions().mode() & 0o777, 0o600);
        let request = "GET /tokens HTTP/1.1\r\nhost: eye\r\nconnection: close\r\n\r\n";
        assert!(
            talk(UnixStream::connect(&path).await.unwrap(), request)
                .await
                .starts_with("HTTP/1.1 200")
        );
        assert!(
            talk(TcpStream::connect(running.address).await.unwrap(), request)
                .await
                .starts_with("HTTP/1.1 401")
        );
        running.stop.send(()).unwrap();
        running.over.await.unwrap().unwrap();
        assert!(!path.exists());
        assert!(TcpStream::connect(running.address).await.is_err());
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_hold_up_the_stop() {
        let running = start().await;
        let mut idle = TcpStream::connect(running.address).await.unwrap();
        idle.write_all(b"GET /health/live HTTP/1.1\r\nhost: eye\r\n\r\n")
            .await
            .unwrap();
        let mut some = [0; 12];
        idle.read_exact(&mut some).await.unwrap();
        running.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(5), running.over)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    #[tokio::test]
    async fn an_early_refusal_arrives_while_the_body_is_still_being_sent() {
        let running = start().await;
        let body = "x".repeat(900_000);
        let request = format!(
            "POST /events HTTP/1.1\r\nhost: eye\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = talk(TcpStream::connect(running.address).await.unwrap(), &request).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }

    #[tokio::test]
    async fn a_request_under_way_is_answered_before_the_end() {
        let running = start().await;
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(b"POST /applications HTTP/1.1\r\nhost: eye\r\nauthorization: Token preset\r\ncontent-length: 15\r\n\r\n{\"name\"").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        running.stop.send(()).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(b":\"shop\"").await.unwrap();
        stream.write_all(b"}").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        running.over.await.unwrap().unwrap();
    }
}
