//! Appending on the disk, beside a bare writer of the same groups.

use super::{BATCH, batches, median, onto_a_spare, send};
use eye_log::storage::{Storage, StorageFile};
use eye_log::{Log, LogConfig};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use workload::Events;

/// Appends on the disk, beside a bare writer of groups of the same sizes into a zero-filled file.
pub(crate) fn measure(events: &Events) {
    let mut ratios = Vec::new();
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let groups = Arc::new(Mutex::new(Vec::new()));
        let watched = Watched {
            disk: Arc::new(eye_log::storage::Disk::new(folder.path())),
            groups: groups.clone(),
        };
        let config = LogConfig {
            segment_max_bytes: SEGMENT,
            ..LogConfig::default()
        };
        let (log, _) = Log::open_in(Arc::new(watched), config).unwrap();
        let disk = eye_log::storage::Disk::new(folder.path());
        onto_a_spare(&log, &disk, events, SEGMENT);
        groups.lock().unwrap().clear();
        let batches = batches(events, BATCH);
        let count = batches.len() * BATCH;
        let ours = send(&log, batches);
        log.close();
        drop(log);
        let groups = groups.lock().unwrap().clone();
        let bytes: usize = groups.iter().sum();
        let bare = bare(folder.path(), &groups);
        ratios.push(bare / ours);
        println!(
            "disk: log {:.0} events/s, {:.0} MB/s; bare writer of the same {} groups {:.0} MB/s; ratio {:.2}",
            count as f64 / ours,
            bytes as f64 / ours / 1e6,
            groups.len(),
            bytes as f64 / bare / 1e6,
            bare / ours
        );
    }
    println!("disk: median ratio {:.2}; asked: 0.8", median(&mut ratios));
}

/// Room for all events in one segment.
const SEGMENT: u64 = 700 << 20;

/// Writes groups of these sizes into a file filled with zeros, one write and one sync each.
fn bare(folder: &Path, groups: &[usize]) -> f64 {
    let path = folder.join("bare");
    let file = File::create(&path).unwrap();
    let all: usize = groups.iter().sum();
    let zeros = vec![0; 1 << 20];
    for at in (0..all).step_by(zeros.len()) {
        file.write_all_at(&zeros, at as u64).unwrap();
    }
    file.sync_all().unwrap();
    let bytes = vec![7; groups.iter().copied().max().unwrap_or(0)];
    let began = Instant::now();
    let mut at = 0;
    for group in groups {
        file.write_all_at(&bytes[..*group], at).unwrap();
        file.sync_data().unwrap();
        at += *group as u64;
    }
    let took = began.elapsed().as_secs_f64();
    std::fs::remove_file(path).unwrap();
    took
}

/// A disk that notes how much each sync of groups covers.
#[derive(Debug)]
struct Watched {
    disk: Arc<eye_log::storage::Disk>,
    groups: Arc<Mutex<Vec<usize>>>,
}

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn StorageFile>,
    /// Bytes of groups that were written since a sync began.
    unsynced: AtomicUsize,
    groups: Arc<Mutex<Vec<usize>>>,
}

impl Watched {
    fn watch(&self, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(WatchedFile {
            file,
            unsynced: AtomicUsize::new(0),
            groups: self.groups.clone(),
        })
    }
}

impl Storage for Watched {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.watch(self.disk.open(name)?))
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.watch(self.disk.create(name)?))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_names()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

impl StorageFile for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.file.read_at(buffer, position)
    }
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.file.write_at(bytes, position)
    }
    fn write_parts_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        // Only groups are written in parts.
        let bytes = parts.iter().map(|part| part.len()).sum();
        self.unsynced.fetch_add(bytes, Ordering::Relaxed);
        self.file.write_parts_at(parts, position)
    }
    fn sync(&self) -> io::Result<()> {
        let bytes = self.unsynced.swap(0, Ordering::Relaxed);
        if bytes > 0 {
            self.groups.lock().unwrap().push(bytes);
        }
        self.file.sync()
    }
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.file.set_size(bytes)
    }
}
