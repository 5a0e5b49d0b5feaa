//! The product, as a process of its own on a port of its own.

use serde_json::Value;
use std::path::PathBuf;
use support::{ADMIN_TOKEN, App, Eye, Launch};
use tempfile::TempDir;

/// A server on a new folder.
#[derive(Debug)]
pub struct RealServer {
    /// The process.
    pub eye: Eye,
    /// The application that sends.
    pub app: App,
    // Dropped after the process has been ended.
    _folder: TempDir,
}

impl RealServer {
    /// Starts it with settings of its own, `EYE_…` names and values.
    pub fn start(settings: &[(&str, &str)]) -> RealServer {
        let folder =
            TempDir::with_prefix_in("eye-bench-", data_folder()).expect("a folder for the data");
        let mut launch = Launch::new()
            .data(&folder.path().join("data"))
            .undocumented();
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
    pub fn indexed_through(&self) -> u64 {
        let request = self
            .eye
            .get("/search?q=*&limit=1&stale=ok")
            .token(ADMIN_TOKEN);
        request.send().expect(200).json()["indexed_through"]
            .as_u64()
            .expect("every list says `indexed_through`")
    }

    /// How many records the index is behind, as the server says.
    pub fn lag(&self) -> f64 {
        self.eye.get("/health/ready").send().json()["lag"]
            .as_f64()
            .expect("/health/ready says `lag`")
    }

    /// Whether the index still merges; `None` where the server does not say.
    pub fn is_merging(&self) -> Option<bool> {
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
