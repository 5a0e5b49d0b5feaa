//! The ceiling: the product's own service, its router, its way in and its parse of the raw JSON, with one channel send
//! in place of the log. A process of its own, so that it is measured as the real one is.

use axum::body::Body;
use axum::http::Request;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use tower::ServiceExt as _;

/// The argument that makes this program the no-op server.
pub(crate) const COMMAND: &str = "serve-noop";

/// Serves until the process is ended; prints the address and a token on standard output first, a line each.
pub(crate) fn serve() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().expect("a folder for the registry");
        let settings = eye_server::Settings::new(folder.path());
        let app = eye_server::open(&settings)
            .await
            .expect("an empty store opens");
        let register = Request::post("/applications")
            .header("content-type", "application/json")
            .body(Body::from(r#"{"name":"bench"}"#))
            .unwrap();
        let answer = app.router_as_owner().oneshot(register).await.unwrap();
        let answer = axum::body::to_bytes(answer.into_body(), 1 << 16)
            .await
            .unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        println!(
            "{}",
            listener
                .local_addr()
                .expect("a bound socket has an address")
        );
        println!(
            "{}",
            answer["token"].as_str().expect("the application's token")
        );
        app.serve_to_nowhere(listener).await;
    });
}

/// The running one.
pub(crate) struct NoopServer {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

impl NoopServer {
    /// Starts this very program again as the no-op server.
    pub(crate) fn start() -> NoopServer {
        let program = std::env::current_exe().expect("the running program has a path");
        let mut child = Command::new(program)
            .arg(COMMAND)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be started");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut line = || lines.next().expect("a line").expect("text");
        let address = line();
        let address = address
            .parse()
            .unwrap_or_else(|_| panic!("no address: {address:?}"));
        let token = line();
        NoopServer {
            child,
            address,
            token,
        }
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for NoopServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
