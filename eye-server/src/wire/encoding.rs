//! Compressed bodies, unpacked with a hard limit on what comes out.

use std::io::{self, Read};

use axum::body::Bytes;
use axum::http::{HeaderMap, header};

use crate::error::{Code, Problem};
use crate::ingest::{Charge, request_too_large};

/// How much is unpacked between two looks at the limits.
const STEP_BYTES: usize = 64 << 10;
/// The largest window a zstd frame may ask for, as a power of two: 16 MiB, what a whole request may be.
const ZSTD_WINDOW_LOG_MAX: u32 = 24;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Encoding {
    /// Reads `Content-Encoding`; `None` is a plain body.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else {
            return Ok(None);
        };
        let text = value.to_str().unwrap_or("?");
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(None),
            "gzip" | "x-gzip" => Ok(Some(Self::Gzip)),
            "deflate" => Ok(Some(Self::Deflate)),
            "br" => Ok(Some(Self::Brotli)),
            "zstd" => Ok(Some(Self::Zstd)),
            _ => Err(Problem::new(
                Code::UnsupportedType,
                format!("The content encoding {text:?} cannot be read."),
            )
            .detail("Send gzip, deflate, br, zstd, or no Content-Encoding.")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// Unpacks a body to at most `limit` bytes, charging what comes out. Blocks for as long as that takes.
    pub(crate) fn unpack(
        self,
        packed: &[u8],
        limit: usize,
        charge: &mut Charge,
    ) -> Result<Bytes, Problem> {
        let unpacked = match self {
            Self::Gzip => self.drain(flate2::read::MultiGzDecoder::new(packed), limit, charge),
            // The name says zlib (RFC 9110), and yet some clients send the bare stream.
            Self::Deflate if is_zlib(packed) => {
                self.drain(flate2::read::ZlibDecoder::new(packed), limit, charge)
            }
            Self::Deflate => self.drain(flate2::read::DeflateDecoder::new(packed), limit, charge),
            Self::Brotli => {
                self.drain(brotli::Decompressor::new(packed, STEP_BYTES), limit, charge)
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)
                    .map_err(|error| self.broken(&error))?;
                decoder
                    .window_log_max(ZSTD_WINDOW_LOG_MAX)
                    .map_err(|error| self.broken(&error))?;
                self.drain(decoder, limit, charge)
            }
        }?;
        Ok(Bytes::from(unpacked))
    }

    fn drain(
        self,
        mut decoder: impl Read,
        limit: usize,
        charge: &mut Charge,
    ) -> Result<Vec<u8>, Problem> {
        let mut unpacked = Vec::new();
        loop {
            let before = unpacked.len();
            let step = STEP_BYTES.min(limit + 1 - before);
            // The buffer is charged before it grows, so that a bomb finds no memory to fill.
            charge.grow(step)?;
            let read = decoder
                .by_ref()
                .take(step as u64)
                .read_to_end(&mut unpacked);
            read.map_err(|error| self.broken(&error))?;
            if unpacked.len() > limit {
                return Err(request_too_large(limit));
            }
            if unpacked.len() - before < step {
                return Ok(unpacked);
            }
        }
    }

    fn broken(self, error: &io::Error) -> Problem {
        Problem::new(Code::MalformedJson, format!("The body is not valid {}: {error}.", self.name()))
            .detail("Nothing of this request was stored. Check Content-Encoding, and that the body was sent whole.")
    }
}

/// Whether the two bytes of a zlib header are in front (RFC 1950, 2.2).
fn is_zlib(packed: &[u8]) -> bool {
    matches!(packed, [first, second, ..] if first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)) % 31 == 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use flate2::Compression;

    use super::*;
    use crate::ingest::Memory;

    const ALL: [Encoding; 4] = [
        Encoding::Gzip,
        Encoding::Deflate,
        Encoding::Brotli,
        Encoding::Zstd,
    ];

    fn pack(encoding: Encoding, plain: &[u8]) -> Vec<u8> {
        match encoding {
            Encoding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::best());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::best());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Brotli => {
                let mut packed = Vec::new();
                brotli::CompressorWriter::new(&mut packed, 4096, 5, 22)
                    .write_all(plain)
                    .unwrap();
                packed
            }
            Encoding::Zstd => zstd::stream::encode_all(plain, 3).unwrap(),
        }
    }

    #[test]
    fn what_was_packed_comes_out() {
        let plain = br#"{"a":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#.repeat(10_000);
        for encoding in ALL {
            let memory = Memory::new(1 << 20);
            let mut charge = memory.account();
            let unpacked = encoding
                .unpack(&pack(encoding, &plain), plain.len(), &mut charge)
                .unwrap();
            assert!(unpacked == plain, "{encoding:?}");
            assert!(memory.used() >= plain.len());
        }
    }

    #[test]
    fn a_bomb_is_refused_and_takes_no_more_than_its_limit() {
        let plain = vec![b' '; 64 << 20];
        for encoding in ALL {
            let packed = pack(encoding, &plain);
            let memory = Memory::new(8 << 20);
            let refused = encoding
                .unpack(&packed, 1 << 20, &mut memory.account())
                .unwrap_err();
            assert_eq!(refused.code(), Code::TooLarge, "{encoding:?}");
            let refused = encoding
                .unpack(&packed, 32 << 20, &mut memory.account())
                .unwrap_err();
            assert_eq!(refused.code(), Code::Overloaded, "{encoding:?}");
            assert_eq!(memory.used(), 0);
        }
    }

    #[test]
    fn broken_bodies_are_refused() {
        let memory = Memory::new(8 << 20);
        for encoding in ALL {
            let packed = pack(encoding, b"{\"a\":1}");
            for broken in [&b"no such thing"[..], &packed[..packed.len() / 2]] {
                let refused = encoding
                    .unpack(broken, 1 << 20, &mut memory.account())
                    .map(|bytes| bytes.len());
                assert_eq!(
                    refused.unwrap_err().code(),
                    Code::MalformedJson,
                    "{encoding:?}"
                );
            }
        }
    }

    #[test]
    fn a_bare_deflate_stream_is_read_too() {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(b"{}").unwrap();
        let packed = encoder.finish().unwrap();
        let memory = Memory::new(1 << 20);
        assert_eq!(
            &Encoding::Deflate
                .unpack(&packed, 10, &mut memory.account())
                .unwrap()[..],
            b"{}"
        );
    }
}
