//! Names of the log's files.

use std::fmt;

use crate::offset::Offset;

const OFFSET_DIGITS: usize = 20;
const EXTENSION: &str = ".seg";
const SEALED_EXTENSION: &str = ".sealed";

/// Returns the name of the raw segment that begins with offset `base`: 20 digits, so that names sort as offsets do.
pub fn segment(base: Offset) -> String {
    format!("{base:0OFFSET_DIGITS$}{EXTENSION}")
}

/// Returns the first offset of the raw segment of this name; `None` when the name is none of a raw segment.
pub fn base_of(name: &str) -> Option<Offset> {
    offset_of(name.strip_suffix(EXTENSION)?)
}

/// What the name of a sealed file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedName {
    /// The offset of its first record.
    pub base: Offset,
    /// One past its last record.
    pub end: Offset,
    /// How often its range was rewritten.
    pub generation: u32,
}

impl fmt::Display for SealedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            base,
            end,
            generation,
        } = self;
        write!(
            f,
            "{base:0OFFSET_DIGITS$}-{end:0OFFSET_DIGITS$}-{generation}{SEALED_EXTENSION}"
        )
    }
}

/// Reads the name of a sealed file; `None` when it is none.
pub fn sealed_of(name: &str) -> Option<SealedName> {
    let mut parts = name.strip_suffix(SEALED_EXTENSION)?.split('-');
    let read = SealedName {
        base: offset_of(parts.next()?)?,
        end: offset_of(parts.next()?)?,
        generation: parts.next()?.parse().ok()?,
    };
    // Only the one way to write it, so that two names are never the same file.
    (parts.next().is_none() && read.to_string() == name).then_some(read)
}

fn offset_of(digits: &str) -> Option<Offset> {
    let plain = digits.len() == OFFSET_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_sort_as_offsets_do_and_give_them_back() {
        assert!(segment(9) < segment(10));
        for base in [0, 9, u64::MAX] {
            assert_eq!(base_of(&segment(base)), Some(base));
        }
        for name in [
            "1.seg",
            "spare",
            "0000000000000000000x.seg",
            "99999999999999999999.seg",
        ] {
            assert_eq!(base_of(name), None, "{name}");
        }
    }

    #[test]
    fn a_sealed_name_gives_its_range_and_generation_back() {
        let name = SealedName {
            base: 5,
            end: 77,
            generation: 3,
        };
        let text = "00000000000000000005-00000000000000000077-3.sealed";
        assert_eq!(name.to_string(), text);
        assert_eq!(sealed_of(text), Some(name));
        for other in [
            "00000000000000000005-00000000000000000077-03.sealed",
            "00000000000000000005-00000000000000000077.sealed",
            "5-77-3.sealed",
            "00000000000000000005-00000000000000000077-3-1.sealed",
        ] {
            assert_eq!(sealed_of(other), None, "{other}");
        }
    }
}
