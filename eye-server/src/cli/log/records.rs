//! The records a command reads out of a log: from an offset, from a time, of some segments; beside a running server and
//! on a copy, read-only.

use crate::cli::Failure;
use eye_log::{Offset, ReadError, ReadOnly, Registry, format_timestamp, record::Record};
use std::{
    ops::{ControlFlow, Range},
    path::{Path, PathBuf},
    sync::Arc,
};

/// How often reading goes on after a file was replaced under it.
const REOPENED_MAX: u32 = 5;

/// Says which records are wanted; nothing said means all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    pub(crate) from: Option<Offset>,
    /// One past the last.
    pub(crate) until: Option<Offset>,
    /// Those that arrived at this instant or later, unix microseconds.
    pub(crate) since: Option<i64>,
    /// First offsets of segments.
    pub(crate) segments: Vec<Offset>,
}

/// Reads a time of arrival from the command line.
pub(crate) fn time(text: &str) -> Result<i64, String> {
    eye_server::instant(text, eye_log::now(), 0)
        .ok_or_else(|| "write it as 2021-01-01T09:15:27Z, 2021-01-01 (UTC) or now-15m".to_owned())
}

/// Is an open log and the records wanted of it.
#[derive(Debug)]
pub(crate) struct Records {
    folder: PathBuf,
    log: ReadOnly,
    registry: Arc<Registry>,
    wanted: Vec<Range<Offset>>,
}

impl Records {
    /// Opens the log in `folder` and finds what is wanted. Nothing in the folder is changed or locked.
    pub(crate) fn open(folder: &Path, selection: &Selection) -> Result<Self, Failure> {
        let log = open(folder)?;
        let mut wanted = segments(&log, &selection.segments)?;
        let mut first = selection.from.unwrap_or(0);
        if let Some(since) = selection.since {
            let arrived = log.reader().lookup().first_arrived_at(since);
            first = first.max(arrived.map_err(unread)?);
        }
        let end = selection.until.unwrap_or(Offset::MAX);
        for range in &mut wanted {
            *range = range.start.max(first)..range.end.min(end);
        }
        wanted.retain(|range| range.start < range.end);
        Ok(Records {
            folder: folder.to_owned(),
            registry: log.registry(),
            log,
            wanted,
        })
    }

    /// Returns how many records are wanted.
    pub(crate) fn count(&self) -> u64 {
        self.wanted
            .iter()
            .map(|range| range.end - range.start)
            .sum()
    }

    /// Returns the first offset that is wanted; 0 if there is none.
    pub(crate) fn first(&self) -> Offset {
        self.wanted.first().map_or(0, |range| range.start)
    }

    /// Returns one past the last record of the log.
    pub(crate) fn end(&self) -> Offset {
        self.log.reader().durable_end()
    }

    /// Returns the id of the log's store.
    pub(crate) fn store(&self) -> uuid::Uuid {
        self.log.reader().store_id()
    }

    /// Returns the applications and tokens as of the end of the log.
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Leaves out what lies below `offset`.
    pub(crate) fn skip_to(&mut self, offset: Offset) {
        for range in &mut self.wanted {
            range.start = range.start.max(offset).min(range.end);
        }
        self.wanted.retain(|range| range.start < range.end);
    }

    /// Hands every wanted record to `see`, in the order of the log, until it breaks off.
    pub(crate) fn each(
        mut self,
        mut see: impl FnMut(Offset, &Record<'_>) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        for range in std::mem::take(&mut self.wanted) {
            if self.each_of(range, &mut see)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn each_of(
        &mut self,
        range: Range<Offset>,
        see: &mut dyn FnMut(Offset, &Record<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Failure> {
        let mut next = range.start;
        let mut reopened = 0;
        let mut scan = self.log.reader().scan(next);
        while next < range.end {
            let mut flow = ControlFlow::Continue(());
            let read = scan.read(|offset, record| {
                if flow.is_continue() && range.contains(&offset) && offset >= next {
                    flow = see(offset, &record);
                    next = offset + 1;
                }
            });
            if flow.is_break() {
                return Ok(flow);
            }
            match read {
                Ok(0) => break,
                Ok(_) => next = next.max(scan.next_offset()),
                // Compaction beside this may have replaced a file; what stands in its place is read instead.
                Err(ReadError::Io { .. }) if reopened < REOPENED_MAX => {
                    reopened += 1;
                    self.log = open(&self.folder)?;
                    scan = self.log.reader().scan(next);
                }
                Err(error) => return Err(unread(error)),
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn open(folder: &Path) -> Result<ReadOnly, Failure> {
    ReadOnly::open(folder).map_err(|error| Failure::Failed(error.to_string()))
}

fn unread(error: ReadError) -> Failure {
    Failure::Failed(format!("{error}. `eye log verify` says what can be read"))
}

/// Returns the offsets of the named segments, or of the whole log.
fn segments(log: &ReadOnly, named: &[Offset]) -> Result<Vec<Range<Offset>>, Failure> {
    let reader = log.reader();
    let end = reader.durable_end();
    if named.is_empty() {
        return Ok(std::iter::once(0..end).collect());
    }
    let bases = reader.segment_bases();
    let mut ranges = Vec::new();
    for base in named {
        let Ok(place) = bases.binary_search(base) else {
            return Err(Failure::Usage(format!(
                "no segment begins with record {base}; `eye log stats` lists them"
            )));
        };
        ranges.push(*base..bases.get(place + 1).copied().unwrap_or(end));
    }
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup();
    Ok(ranges)
}

/// Names an application; one that the log does not know is shown by its number.
pub(crate) fn application_name(registry: &Registry, id: eye_log::ApplicationId) -> String {
    registry.application(id).map_or_else(
        || format!("#{}", id.0),
        |application| application.name.clone(),
    )
}

/// Writes a time as the API does.
pub(crate) fn written(instant: i64) -> String {
    format_timestamp(instant)
}
