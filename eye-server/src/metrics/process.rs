//! What the system says about this process.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// Figures of a process; 0 where the system does not say.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Process {
    /// Memory of its own, bytes: what no file can give back.
    pub(super) anonymous_bytes: u64,
    /// All its memory, pages of files included, bytes.
    pub(super) resident_bytes: u64,
    pub(super) threads: u64,
    pub(super) open_files: u64,
    pub(super) cpu_seconds: f64,
}

impl Process {
    /// Asks the system about this process.
    pub(super) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.unwrap_or(0u64)
        };
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            anonymous_bytes: field("RssAnon:") * 1024,
            resident_bytes: field("VmRSS:") * 1024,
            threads: field("Threads:"),
            open_files: fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        }
    }
}
