//! The manifest: which sealed files there are, and how far the log is known to be on the disk.

use uuid::Uuid;

use super::{bytes_at, checksum, u32_at, u64_at};
use crate::offset::Offset;

const MAGIC: &[u8; 8] = b"EYEMANI1";
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 40;

/// One copy of the manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Of two copies that hold, the one with the higher sequence counts.
    pub sequence: u64,
    /// The store.
    pub store: Uuid,
    /// Everything below this offset was on the disk when this was written.
    pub durable_end: Offset,
    /// The sealed files, in order, without gaps, from offset 0 on.
    pub files: Vec<ManifestEntry>,
}

/// A sealed file as the manifest names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManifestEntry {
    /// The offset of its first record.
    pub base: Offset,
    /// One past its last record.
    pub end: Offset,
    /// Its length.
    pub file_bytes: u64,
    /// How often its range was rewritten.
    pub generation: u32,
    /// The checksum at the end of its trailer.
    pub trailer_checksum: u32,
    /// How many records in it are no events, so that a file which cannot be opened is known to hold no registry change
    /// and no erasure; `None` in a manifest that did not say.
    pub controls: Option<u32>,
}

impl Manifest {
    /// Returns the copy's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let count = u32::try_from(self.files.len()).expect("a log has fewer than 2^32 files");
        let mut out = Vec::with_capacity(HEADER_BYTES + self.files.len() * ENTRY_BYTES + 4);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(self.store.as_bytes());
        out.extend_from_slice(&self.durable_end.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for file in &self.files {
            out.extend_from_slice(&file.base.to_le_bytes());
            out.extend_from_slice(&file.end.to_le_bytes());
            out.extend_from_slice(&file.file_bytes.to_le_bytes());
            out.extend_from_slice(&file.generation.to_le_bytes());
            out.extend_from_slice(&file.trailer_checksum.to_le_bytes());
            let controls = file.controls.map_or(0, |count| count.saturating_add(1));
            out.extend_from_slice(&controls.to_le_bytes());
            out.extend_from_slice(&[0; 4]);
        }
        let sum = checksum(0, &out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads a copy, or says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() < HEADER_BYTES + 4 || &bytes[0..8] != MAGIC {
            return Err(format!("{} bytes that are no manifest", bytes.len()));
        }
        let (content, sum) = bytes.split_at(bytes.len() - 4);
        if checksum(0, content) != u32_at(sum, 0) {
            return Err("it does not match its checksum".to_owned());
        }
        let (entries, rest) = content[HEADER_BYTES..].as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() || entries.len() != u32_at(content, 40) as usize {
            return Err("it does not hold as many files as it says".to_owned());
        }
        let files: Vec<ManifestEntry> = entries
            .iter()
            .map(|entry| ManifestEntry {
                base: u64_at(entry, 0),
                end: u64_at(entry, 8),
                file_bytes: u64_at(entry, 16),
                generation: u32_at(entry, 24),
                trailer_checksum: u32_at(entry, 28),
                controls: u32_at(entry, 32).checked_sub(1),
            })
            .collect();
        let mut expected = 0;
        for file in &files {
            if file.base != expected || file.end <= file.base {
                return Err(format!("its files do not go on at record {expected}"));
            }
            expected = file.end;
        }
        Ok(Self {
            sequence: u64_at(content, 8),
            store: Uuid::from_bytes(bytes_at(content, 16)),
            durable_end: u64_at(content, 32),
            files,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_manifest_comes_back_and_every_flipped_bit_is_noticed() {
        let file = |base, end| ManifestEntry {
            base,
            end,
            file_bytes: 9000 + base,
            generation: 2,
            trailer_checksum: 77,
            controls: (base > 0).then_some(3),
        };
        let manifest = Manifest {
            sequence: 12,
            store: Uuid::from_u128(5),
            durable_end: 40,
            files: vec![file(0, 10), file(10, 33)],
        };
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(
                Manifest::decode(&bytes[..length]).is_err(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn files_with_a_gap_are_refused() {
        let mut manifest = Manifest::default();
        manifest.files.push(ManifestEntry {
            base: 1,
            end: 2,
            file_bytes: 1,
            generation: 0,
            trailer_checksum: 0,
            controls: None,
        });
        assert!(Manifest::decode(&manifest.encode()).is_err());
    }
}
