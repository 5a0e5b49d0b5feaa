//! Reads the two copies of the manifest and decides which one counts.

use std::io;
use std::sync::Arc;

use crate::error::{Damage, ReadError};
use crate::files::MANIFESTS;
use crate::format::file_name;
use crate::format::manifest::Manifest;
use crate::recovery::Failed;
use crate::sealed::{SealedFile, SealedShared};
use crate::storage::{Storage, read_vec};

/// No log has so many files that its manifest would be larger. Bytes.
const MANIFEST_MAX_BYTES: u64 = 256 << 20;

/// What the copies say.
pub(crate) struct Found {
    pub(crate) manifest: Manifest,
    /// The copy to be overwritten first: not the one that counts.
    pub(crate) next: usize,
    /// Whether a copy is missing or unreadable.
    pub(crate) mend: bool,
    /// Copies that are there and cannot be read.
    pub(crate) unreadable: Vec<String>,
}

/// Reads the copies among `names`. A log without one is a new one, or one from before there were manifests; a log whose
/// copies can both not be read is damaged, never new.
pub(crate) fn read(storage: &dyn Storage, names: &[String]) -> Result<Found, Failed> {
    let mut best: Option<(usize, Manifest)> = None;
    let mut unreadable = Vec::new();
    let mut there = 0;
    for (place, name) in MANIFESTS.iter().enumerate() {
        if !names.iter().any(|other| other == name) {
            continue;
        }
        there += 1;
        match read_copy(storage, name)? {
            Ok(manifest) => {
                let newer = best
                    .as_ref()
                    .is_none_or(|(_, other)| manifest.sequence > other.sequence);
                if newer {
                    best = Some((place, manifest));
                }
            }
            Err(what) => {
                tracing::warn!(name, what, "a copy of the manifest cannot be read");
                unreadable.push(format!("{name}: {what}"));
            }
        }
    }
    let mend = there < MANIFESTS.len() || !unreadable.is_empty();
    if let Some((place, manifest)) = best {
        return Ok(Found {
            manifest,
            next: (place + 1) % MANIFESTS.len(),
            mend,
            unreadable,
        });
    }
    // The very first copy may have been torn. Then nothing was sealed yet, and the first segment is there.
    let first_segment = file_name::segment(0);
    let fresh = !names
        .iter()
        .any(|name| file_name::sealed_of(name).is_some())
        && (there == 0 || names.contains(&first_segment))
        && there < MANIFESTS.len();
    if !fresh {
        let what = if there == 0 {
            "there are sealed files, but no manifest".to_owned()
        } else {
            format!(
                "no copy of the manifest can be read ({})",
                unreadable.join("; ")
            )
        };
        return Err(Damage {
            file: MANIFESTS[0].to_owned(),
            position: 0,
            first_offset: 0,
            last_offset: None,
            what,
        }
        .into());
    }
    Ok(Found {
        manifest: Manifest::default(),
        next: 0,
        mend,
        unreadable,
    })
}

/// Puts together, from the names of the sealed files, what the manifest may have said: of files for the same range the
/// latest generation, as far as they follow one another. For looking at a log whose manifest is lost, and for repair. Fails where
/// a file is there and cannot be read, for which no other one may be taken.
pub(crate) fn guess(storage: &dyn Storage, names: &[String]) -> io::Result<Manifest> {
    let mut sealed: Vec<_> = names
        .iter()
        .filter_map(|name| file_name::sealed_of(name))
        .collect();
    // At the same place the longest range, then the latest generation: merging and rewriting end with these.
    sealed.sort_by_key(|name| (name.base, std::cmp::Reverse((name.end, name.generation))));
    let mut manifest = Manifest::default();
    let shared = Arc::new(SealedShared::default());
    let mut expected = 0;
    for name in sealed {
        if name.base != expected {
            continue;
        }
        let file = match SealedFile::open(storage, &name, shared.clone()) {
            Ok(file) => file,
            Err(ReadError::Damaged(_)) => continue,
            Err(error) => return Err(io::Error::other(error)),
        };
        manifest.store = file.header.store;
        manifest.files.push(file.manifest_entry());
        expected = name.end;
    }
    manifest.durable_end = expected;
    Ok(manifest)
}

fn read_copy(storage: &dyn Storage, name: &str) -> Result<Result<Manifest, String>, Failed> {
    let reading = |error| Failed::Io("reading", name.to_owned(), error);
    let file = storage.open(name).map_err(reading)?;
    let size = file.size().map_err(reading)?;
    if size > MANIFEST_MAX_BYTES {
        return Ok(Err(format!("{size} bytes")));
    }
    let length = usize::try_from(size).unwrap_or(usize::MAX);
    let bytes = read_vec(file.as_ref(), 0, length).map_err(reading)?;
    Ok(Manifest::decode(&bytes))
}
