//! The two servers that are compared, each a process of its own on a port of its own.

use super::noop;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use support::{ADMIN_TOKEN, App, Eye, Launch};
use tempfile::TempDir;

/// The real one, on a new folder.
pub(crate) struct RealServer {
    pub(crate) eye: Eye,
    pub(crate) app: App,
    // Dropped after the process has been ended.
    _folder: TempDir,
}

impl RealServer {
    /// Starts it with settings of its own, `EYE_…` names and values.
    pub(crate) fn start(settings: &[(&str, &str)]) -> RealServer {
        let folder =
            TempDir::with_prefix_in("eye-bench-", data_folder()).expect("a folder for the data");
        let mut launch = Launch::new().data(&folder.path().join("data"));
        for (name, value) in settings {
            launch = launch.variable(name, value);
        }
        let eye = launch.start();
        let app = eye.application("bench");
        RealServer {
            eye,
            app,
            _folder: folder,
        }
    }

    /// How many records the index has covered: one past the last.
    pub(crate) fn indexed_through(&self) -> u64 {
        let request = self
            .eye
            .get("/search?q=*&limit=1&stale=ok")
            .token(ADMIN_TOKEN);
        request.send().expect(200).json()["indexed_through"]
            .as_u64()
            .expect("every list says `indexed_through`")
    }

    /// How many records the index is behind, as the server says.
    pub(crate) fn lag(&self) -> f64 {
        self.eye.get("/health/ready").send().json()["lag"]
            .as_f64()
            .expect("/health/ready says `lag`")
    }

    /// Whether the index still merges; `None` where the server does not say.
    pub(crate) fn is_merging(&self) -> Option<bool> {
        let answer = self.eye.get("/admin/status").token(ADMIN_TOKEN).send();
        let status: Value = serde_json::from_slice(&answer.body).ok()?;
        status["index"]["merging"].as_bool()
    }
}

/// Where data folders are made: a temporary folder may lie in memory, where a sync costs nothing.
fn data_folder() -> PathBuf {
    std::env::var_os("EYE_BENCH_DATA").map_or_else(
        || support::binary::eye().parent().unwrap().to_owned(),
        PathBuf::from,
    )
}

/// The one that stores nothing.
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
            .arg(noop::COMMAND)
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
