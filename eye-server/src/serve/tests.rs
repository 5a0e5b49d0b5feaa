#![allow(clippy::unwrap_used)]
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::oneshot;

use super::*;
use crate::{Doors, Settings, StartError, open};

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
    let doors = Doors {
        public: Listener::Tcp(listener, None),
        metrics: None,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let over = tokio::spawn(app.serve_on(doors, async move {
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
