//! Where events are read from: files and standard input, plain or compressed, line by line in constant memory.

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// What a line may have at most; far above what a service takes as one event, and what bounds the memory used here.
pub(in crate::cli) const LINE_BYTES_MAX: u64 = 16 << 20;
const BUFFER_BYTES: usize = 256 << 10;
/// The largest window zstd knows (`--long=31`). Memory is used as the file asks for it, 128 MiB for `--long=27`.
const ZSTD_WINDOW_LOG_MAX: u32 = 31;

/// Is decompressed content.
pub(in crate::cli) type Content = BufReader<Box<dyn Read + Send>>;

/// Names something to read events from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Source {
    File(PathBuf),
    /// A pipe by name (`<(…)`, /dev/stdin): read once, like standard input.
    Pipe(PathBuf),
    StandardInput,
}

impl Source {
    /// Tells what a path names; `-` is standard input.
    pub(in crate::cli) fn of(path: &Path) -> io::Result<Source> {
        if path == Path::new("-") {
            return Ok(Source::StandardInput);
        }
        let kind = std::fs::metadata(path)?;
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        // Opened once here so that a file that may not be read is noticed before anything is sent.
        if kind.is_file() {
            File::open(path)?;
            return Ok(Source::File(path.to_owned()));
        }
        Ok(Source::Pipe(path.to_owned()))
    }

    /// Returns the name for people.
    pub(in crate::cli) fn name(&self) -> String {
        match self {
            Source::File(path) | Source::Pipe(path) => path.display().to_string(),
            Source::StandardInput => "standard input".to_owned(),
        }
    }

    /// Opens the decompressed content from a byte on; only a file can be opened elsewhere than at 0.
    pub(in crate::cli) fn open(&self, position: u64) -> io::Result<Content> {
        let raw: Box<dyn Read + Send> = match self {
            Source::File(path) => {
                let mut file = File::open(path)?;
                if compression(&first_bytes(&mut file)?).is_none() {
                    file.seek(SeekFrom::Start(position))?;
                    return Ok(buffered(Box::new(file)));
                }
                file.rewind()?;
                Box::new(file)
            }
            Source::Pipe(path) => Box::new(File::open(path)?),
            Source::StandardInput => Box::new(io::stdin()),
        };
        let mut content = decompressed(raw)?;
        if io::copy(&mut (&mut content).take(position), &mut io::sink())? < position {
            return Err(shorter());
        }
        Ok(content)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    Gzip,
    Zstd,
}

/// Tells the compression by the first bytes: RFC 1952, and RFC 8878 with its skippable frames.
fn compression(start: &[u8]) -> Option<Compression> {
    match start {
        [0x1f, 0x8b, ..] => Some(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Some(Compression::Zstd)
        }
        _ => None,
    }
}

fn first_bytes(reader: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(4);
    reader.take(4).read_to_end(&mut start)?;
    Ok(start)
}

fn decompressed(mut raw: Box<dyn Read + Send>) -> io::Result<Content> {
    let start = first_bytes(&mut raw)?;
    let kind = compression(&start);
    let whole = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(start).chain(raw));
    Ok(buffered(match kind {
        None => Box::new(whole),
        Some(Compression::Gzip) => Box::new(MultiGzDecoder::new(whole)),
        Some(Compression::Zstd) => {
            let mut decoder = zstd::Decoder::with_buffer(whole)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    }))
}

fn buffered(reader: Box<dyn Read + Send>) -> Content {
    BufReader::with_capacity(BUFFER_BYTES, reader)
}

fn shorter() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the file became shorter while it was read",
    )
}

/// Says what a first reading of a file found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Survey {
    /// Of the decompressed content, so that a file compressed anew is still the same.
    pub(in crate::cli) sha256: [u8; 32],
    /// Of decompressed content.
    pub(in crate::cli) bytes: u64,
}

/// Reads a file once; `go_on` is told the bytes of the file read so far and in all, and ends the reading with `false`.
pub(in crate::cli) fn survey(
    path: &Path,
    go_on: &mut dyn FnMut(u64, u64) -> bool,
) -> io::Result<Option<Survey>> {
    let file = File::open(path)?;
    let file_bytes = file.metadata()?.len();
    let read = Arc::new(AtomicU64::new(0));
    let mut content = decompressed(Box::new(Counted {
        file,
        read: Arc::clone(&read),
    }))?;
    let mut hash = Sha256::new();
    let mut bytes = 0;
    loop {
        let piece = content.fill_buf()?;
        if piece.is_empty() {
            return Ok(Some(Survey {
                sha256: hash.finalize().into(),
                bytes,
            }));
        }
        hash.update(piece);
        let length = piece.len();
        bytes += length as u64;
        content.consume(length);
        if !go_on(read.load(Ordering::Relaxed), file_bytes) {
            return Ok(None);
        }
    }
}

struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// Reads content line by line, and knows where it is.
pub(in crate::cli) struct Lines {
    content: Content,
    /// How many lines are read.
    pub(in crate::cli) number: u64,
    /// How many bytes of content are read.
    pub(in crate::cli) position: u64,
    /// Where to stop, although a growing file may have more by now; none for what is read once.
    end: Option<u64>,
}

/// Says what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Next {
    /// A line, without its line feed.
    Line,
    /// A line that is too long to keep; it was read over.
    TooLong,
    End,
}

impl Lines {
    pub(in crate::cli) fn new(
        content: Content,
        number: u64,
        position: u64,
        end: Option<u64>,
    ) -> Self {
        Lines {
            content,
            number,
            position,
            end,
        }
    }

    /// Reads the next line into `line`.
    pub(in crate::cli) fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Next> {
        line.clear();
        let left = self.end.map_or(u64::MAX, |end| end - self.position);
        if left == 0 {
            return Ok(Next::End);
        }
        let length = (&mut self.content)
            .take(left.min(LINE_BYTES_MAX + 1))
            .read_until(b'\n', line)? as u64;
        if length == 0 {
            return if self.end.is_some() {
                Err(shorter())
            } else {
                Ok(Next::End)
            };
        }
        self.number += 1;
        self.position += length;
        if line.last() == Some(&b'\n') {
            line.pop();
            return Ok(Next::Line);
        }
        if length <= LINE_BYTES_MAX {
            // The last line may do without a line feed.
            return Ok(Next::Line);
        }
        line.clear();
        self.position += (&mut self.content).take(left - length).skip_until(b'\n')? as u64;
        Ok(Next::TooLong)
    }

    /// Returns true if the next line is not there yet and reading it may wait for whoever writes it.
    pub(in crate::cli) fn may_wait(&self) -> bool {
        !self.content.buffer().contains(&b'\n')
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    fn file(bytes: &[u8]) -> (tempfile::NamedTempFile, Source) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let source = Source::of(file.path()).unwrap();
        (file, source)
    }

    fn lines(
        source: &Source,
        number: u64,
        position: u64,
        end: Option<u64>,
    ) -> Vec<(u64, u64, String)> {
        let mut lines = Lines::new(source.open(position).unwrap(), number, position, end);
        let (mut line, mut out) = (Vec::new(), Vec::new());
        while lines.next(&mut line).unwrap() == Next::Line {
            out.push((
                lines.number,
                lines.position,
                String::from_utf8(line.clone()).unwrap(),
            ));
        }
        out
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_gzip_and_zstd_read_the_same_and_hash_the_same() {
        let text = b"one\n\ntwo\nthree";
        let mut members = gzip(&text[..6]);
        members.extend(gzip(&text[6..]));
        let mut long = zstd::Encoder::new(Vec::new(), 3).unwrap();
        long.window_log(28).unwrap();
        long.include_contentsize(false).unwrap();
        long.write_all(text).unwrap();
        for bytes in [
            text.to_vec(),
            members,
            zstd::encode_all(&text[..], 3).unwrap(),
            long.finish().unwrap(),
        ] {
            let (file, source) = file(&bytes);
            let row = |number, position, text: &str| (number, position, text.to_owned());
            let all = [
                row(1, 4, "one"),
                row(2, 5, ""),
                row(3, 9, "two"),
                row(4, 14, "three"),
            ];
            assert_eq!(lines(&source, 0, 0, Some(14)), all);
            assert_eq!(lines(&source, 2, 5, Some(14)), all[2..]);
            let survey = survey(file.path(), &mut |_, _| true).unwrap().unwrap();
            assert_eq!(
                survey,
                Survey {
                    sha256: Sha256::digest(text).into(),
                    bytes: 14
                }
            );
        }
    }

    #[test]
    fn what_is_appended_meanwhile_waits_for_the_next_run() {
        let (_file, source) = file(b"one\ntwo\nlater\n");
        assert_eq!(lines(&source, 0, 0, Some(8)).len(), 2);
    }

    #[test]
    fn a_line_beyond_the_bound_is_read_over() {
        let mut bytes = vec![b'x'; usize::try_from(LINE_BYTES_MAX).unwrap() + 5];
        bytes.extend(b"\nnext\n");
        let (_file, source) = file(&bytes);
        let mut lines = Lines::new(source.open(0).unwrap(), 0, 0, Some(bytes.len() as u64));
        let mut line = Vec::new();
        assert_eq!(lines.next(&mut line).unwrap(), Next::TooLong);
        assert_eq!(lines.next(&mut line).unwrap(), Next::Line);
        assert_eq!(
            (line.as_slice(), lines.number, lines.position),
            (&b"next"[..], 2, bytes.len() as u64)
        );
        assert_eq!(lines.next(&mut line).unwrap(), Next::End);
    }

    #[test]
    fn a_compressed_file_that_was_cut_short_is_an_error_before_anything_is_sent() {
        let whole = gzip(&b"a line of text that repeats\n".repeat(1000));
        let (file, _) = file(&whole[..whole.len() - 12]);
        assert!(survey(file.path(), &mut |_, _| true).is_err());
    }
}
