//! Appending into storage that is memory: what the log itself costs. The segment was filled ahead, as it is in service.

use super::{BATCH, batches, median, onto_a_spare, send};
use eye_log::storage::{Storage, StorageFile};
use eye_log::{Log, LogConfig};
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;
use workload::Events;

/// Appends all events, in batches, five times over.
pub(crate) fn measure(events: &Events) {
    let (mut rates, mut made) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let began = Instant::now();
        let batches = batches(events, BATCH);
        let count = batches.len() * BATCH;
        made.push(began.elapsed().as_secs_f64() / count as f64);
        let config = LogConfig {
            // One segment, so that sealing, which is measured apart, does not run beside.
            segment_max_bytes: 700 << 20,
            ..LogConfig::default()
        };
        let memory = Arc::new(Memory::default());
        let segment_bytes = config.segment_max_bytes;
        let (log, _) = Log::open_in(memory.clone(), config).unwrap();
        onto_a_spare(&log, memory.as_ref(), events, segment_bytes);
        rates.push(count as f64 / send(&log, batches));
        log.close();
    }
    println!(
        "memory: batches of {BATCH}: {:.2} million events/s (median of {}; best {:.2}); asked: 5",
        median(&mut rates) / 1e6,
        rates.len(),
        rates[rates.len() - 1] / 1e6
    );
    println!(
        "memory: making the batches beforehand, from JSON, on one thread: {:.2} µs an event",
        median(&mut made) * 1e6
    );
}

/// A folder in memory.
#[derive(Debug, Default)]
struct Memory {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
}

#[derive(Debug, Default)]
struct MemoryFile {
    bytes: RwLock<Vec<u8>>,
}

impl Storage for Memory {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().unwrap().keys().cloned().collect())
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let files = self.files.lock().unwrap();
        Ok(files.get(name).ok_or(io::ErrorKind::NotFound)?.clone())
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let file = Arc::new(MemoryFile::default());
        self.files
            .lock()
            .unwrap()
            .insert(name.to_owned(), file.clone());
        Ok(file)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.lock().unwrap();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().unwrap().remove(name);
        Ok(())
    }
    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl StorageFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let bytes = self.bytes.read().unwrap();
        let at = position as usize;
        buffer.copy_from_slice(
            bytes
                .get(at..at + buffer.len())
                .ok_or(io::ErrorKind::UnexpectedEof)?,
        );
        Ok(())
    }
    fn write_at(&self, written: &[u8], position: u64) -> io::Result<()> {
        self.write_parts_at(&mut [IoSlice::new(written)], position)
    }
    fn write_parts_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut bytes = self.bytes.write().unwrap();
        let mut at = position as usize;
        let end = at + parts.iter().map(|part| part.len()).sum::<usize>();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        for part in parts {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.read().unwrap().len() as u64)
    }
    fn set_size(&self, length: u64) -> io::Result<()> {
        self.bytes.write().unwrap().resize(length as usize, 0);
        Ok(())
    }
}
