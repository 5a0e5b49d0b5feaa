//! What is written and synced at once. Little is copied together; what is large stays where it is and is written from there.

use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::offset::Offset;
use crate::segment::Segment;

/// From so many bytes on, copying costs more than one part more of a write.
const LARGE_BYTES: usize = 64 << 10;

/// Frames that are synced together.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) segment: Arc<Segment>,
    /// How many of its bytes were written ahead; they end at `position`.
    pub(crate) ahead: usize,
    pub(crate) position: u64,
    /// What is still to be written.
    pub(crate) bytes: Gathered,
    /// One past its last record.
    pub(crate) end: Offset,
}

impl Group {
    /// Writes what is still to be written. Nothing is on the disk before the file is synced.
    pub(crate) fn write(&self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let file = &self.segment.file;
        file.write_parts_at(&mut self.bytes.parts(), self.position)
    }
}

/// Bytes in a row, in several places of memory.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// What was copied.
    little: Vec<u8>,
    /// What was not, and how much of `little` comes before it.
    large: Vec<(usize, Vec<u8>)>,
    large_bytes: usize,
}

impl Gathered {
    /// Starts empty; `buffer` is used again.
    pub(crate) fn in_buffer(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self {
            little: buffer,
            ..Self::default()
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.little.len() + self.large_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds bytes behind what is there.
    pub(crate) fn push(&mut self, bytes: Vec<u8>) {
        if bytes.len() < LARGE_BYTES {
            self.little.extend_from_slice(&bytes);
        } else {
            self.large_bytes += bytes.len();
            self.large.push((self.little.len(), bytes));
        }
    }

    /// Adds zeros behind what is there.
    pub(crate) fn push_zeros(&mut self, count: usize) {
        self.little.resize(self.little.len() + count, 0);
    }

    /// Where a little can be added behind what is there.
    pub(crate) fn little(&mut self) -> &mut Vec<u8> {
        &mut self.little
    }

    /// Returns the bytes, in order.
    pub(crate) fn parts(&self) -> Vec<IoSlice<'_>> {
        let mut parts = Vec::with_capacity(2 * self.large.len() + 1);
        let mut start = 0;
        for (end, large) in &self.large {
            parts.push(IoSlice::new(&self.little[start..*end]));
            parts.push(IoSlice::new(large));
            start = *end;
        }
        parts.push(IoSlice::new(&self.little[start..]));
        parts.retain(|part| !part.is_empty());
        parts
    }

    /// Returns the room for what is little, to be used again.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.little
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_is_not_copied_and_stands_where_it_was_added() {
        let mut gathered = Gathered::in_buffer(b"used".to_vec());
        assert!(gathered.is_empty() && gathered.parts().is_empty());
        let large = |byte| vec![byte; LARGE_BYTES];
        let mut expected = Vec::new();
        for bytes in [large(1), b"ab".to_vec(), b"c".to_vec(), large(2), large(3)] {
            expected.extend_from_slice(&bytes);
            let (place, is_large) = (bytes.as_ptr(), bytes.len() >= LARGE_BYTES);
            gathered.push(bytes);
            let last = gathered.large.last().map(|(_, bytes)| bytes.as_ptr());
            assert_eq!(last == Some(place), is_large);
        }
        gathered.push_zeros(5);
        gathered.little().extend_from_slice(b"end");
        expected.extend_from_slice(b"\0\0\0\0\0end");
        assert_eq!(gathered.len(), expected.len());
        assert_eq!(gathered.parts().len(), 5);
        let bytes: Vec<u8> = gathered
            .parts()
            .iter()
            .flat_map(|part| part.to_vec())
            .collect();
        assert!(bytes == expected);
        assert_eq!(gathered.into_buffer(), b"abc\0\0\0\0\0end");
    }
}
