//! Names of segment files: the base offset in 20 digits, so that a listing is in log order.

use crate::offset::Offset;

const SUFFIX: &str = ".seg";

/// Returns the file name of the segment whose first record is `base`.
pub fn segment(base: Offset) -> String {
    format!("{base:020}{SUFFIX}")
}

/// Returns the base offset a segment's file name says, `None` for other files.
pub fn base_of(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_their_base_back_and_nothing_else_does() {
        assert_eq!(base_of(&segment(42)), Some(42));
        for other in [
            "42.seg",
            "0000000000000000004x.seg",
            "99999999999999999999.seg",
            "spare",
            "",
        ] {
            assert_eq!(base_of(other), None, "{other}");
        }
    }
}
