//! CPU and memory of another process, read from `/proc` (Linux).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The kernel counts CPU time for `/proc` in hundredths of a second, on every architecture Linux runs on today.
const TICKS_PER_SECOND: f64 = 100.0;
const SAMPLING: Duration = Duration::from_millis(50);

/// Returns the CPU seconds, of user and kernel, that a process has used so far.
pub fn cpu_seconds(process: u32) -> f64 {
    let stat =
        std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the process is there");
    // The second field is a name in parentheses that may hold anything.
    let fields: Vec<&str> = stat[stat.rfind(')').expect("a name in parentheses") + 1..]
        .split_whitespace()
        .collect();
    let ticks = |field: usize| -> f64 { fields[field].parse().expect("a number of ticks") };
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}

/// Returns the bytes of anonymous memory that a process holds; files it maps are not among them.
pub fn anonymous_bytes(process: u32) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process is there");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .expect("the kernel tells RssAnon");
    let kibibytes: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number of kB");
    kibibytes * 1024
}

/// Returns how many files, sockets among them, a process has open.
pub fn open_files(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd"))
        .expect("the process is there")
        .count()
}

/// Returns how many sealed files of the log a process has open: one for each that there is.
pub fn sealed_files_open(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd"))
        .expect("the process is there")
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.extension().is_some_and(|it| it == "sealed"))
        .count()
}

/// Lets this process have as many files open as it may: 1,024 unless somebody asks for more, and the service does.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, all).expect("a process may go up to its own limit");
}

/// Returns the bytes that a folder takes on the disk (as allocated, as `du` counts).
pub fn bytes_on_disk(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_on_disk(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            // Merging removes files while we look.
            Err(_) => 0,
        })
        .sum()
}

/// Watches a process's memory until asked for the highest it saw.
#[derive(Debug)]
pub struct MemoryWatch {
    peak: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    watcher: JoinHandle<()>,
}

impl MemoryWatch {
    /// Begins to watch.
    pub fn begin(process: u32) -> MemoryWatch {
        let (peak, over) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let watcher = thread::spawn({
            let (peak, over) = (peak.clone(), over.clone());
            move || {
                while !over.load(Ordering::Relaxed) {
                    peak.fetch_max(anonymous_bytes(process), Ordering::Relaxed);
                    thread::sleep(SAMPLING);
                }
            }
        });
        MemoryWatch {
            peak,
            over,
            watcher,
        }
    }

    /// Ends the watch and returns the highest number of anonymous bytes seen, every 50 ms.
    pub fn peak(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.watcher.join().expect("the watcher does not panic");
        self.peak.load(Ordering::Relaxed)
    }
}
