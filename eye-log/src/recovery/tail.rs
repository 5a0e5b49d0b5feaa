//! Judges what stands where no whole frame does: the clean end, a torn tail to be cut, or damage.

use crate::error::Damage;
use crate::offset::Offset;
use crate::recovery::{Failed, Mode};
use crate::segment::Segment;
use crate::segment::walk::Walk;
use crate::storage::{Storage, StorageFile, write_zeros};

/// The torn tail that was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The file it was cut from.
    pub file: String,
    /// Where it began.
    pub position: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The file in the log's folder that keeps them; empty when the log was opened to look only.
    pub kept_as: String,
}

/// Judges the place where `walk` stands. `what` says what was found there, `next` where the next segment begins,
/// `known_durable` up to where the manifest knows the log to be on the disk.
pub(super) fn judge(
    storage: &dyn Storage,
    segment: &Segment,
    mut walk: Walk<'_>,
    next: Option<Offset>,
    known_durable: Offset,
    what: String,
    mode: Mode,
) -> Result<Option<Cut>, Failed> {
    let (position, expected) = (walk.position, walk.next_offset);
    if let Some(next) = next {
        let what = format!("{what}, but the next segment begins with record {next}");
        return Err(Damage {
            last_offset: Some(next - 1),
            ..segment.damage(position, expected, what)
        }
        .into());
    }
    if expected < known_durable {
        let what = format!(
            "{what}, but the manifest says that everything below record {known_durable} was on the disk"
        );
        return Err(Damage {
            last_offset: Some(known_durable - 1),
            ..segment.damage(position, expected, what)
        }
        .into());
    }
    let Some(set) = walk.bytes_set()? else {
        return Ok(None);
    };
    if let Some((at, durable_end)) = walk.later_frame_says_durable(expected)? {
        let what = format!(
            "{what}, but the frame at byte {at} says that everything below record {durable_end} was on the disk"
        );
        return Err(Damage {
            last_offset: Some(durable_end - 1),
            ..segment.damage(position, expected, what)
        }
        .into());
    }
    let mut cut = Cut {
        file: segment.name.clone(),
        position,
        bytes: set.end - position,
        kept_as: String::new(),
    };
    if mode == Mode::Write {
        cut.kept_as = cut_tail(storage, segment, walk.source(), position, set.end)
            .map_err(|error| Failed::Io("cutting the torn tail of", segment.name.clone(), error))?;
        tracing::warn!(
            file = cut.file,
            position,
            bytes = cut.bytes,
            kept_as = cut.kept_as,
            "cut a torn write that was never acknowledged"
        );
    }
    Ok(Some(cut))
}

/// Keeps the bytes of a torn tail aside, then writes zeros over them and syncs. Returns the name that keeps them.
fn cut_tail(
    storage: &dyn Storage,
    segment: &Segment,
    source: &dyn StorageFile,
    position: u64,
    end: u64,
) -> std::io::Result<String> {
    const STEP: usize = 1 << 20;
    let kept_as = format!(
        "torn-{:020}-{position}-{}.cut",
        segment.header.base,
        crate::time::now()
    );
    let kept = storage.create(&kept_as)?;
    let mut at = position;
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(STEP).min(STEP);
        kept.write_at(
            &crate::storage::read_vec(source, at, length)?,
            at - position,
        )?;
        at += length as u64;
    }
    kept.sync()?;
    storage.sync_names()?;
    write_zeros(segment.file.as_ref(), position..end)?;
    segment.file.sync()?;
    Ok(kept_as)
}
