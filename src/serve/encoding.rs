//! Content codings of bodies, both ways. In: bytes; out: bytes.
//! <https://clickhouse.com/docs/interfaces/http#compression>

use std::io::{self, Read, Write};

use super::native_blocks::{BlockReader, BlockWriter};

/// A coding that HTTP names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
    Lz4,
}

impl Coding {
    /// The coding of this name; `None` for one that is not known.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "br" => Some(Self::Brotli),
            "zstd" => Some(Self::Zstd),
            "lz4" => Some(Self::Lz4),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }

    /// The one that a server takes of an Accept-Encoding header. Its order is ClickHouse's, in
    /// `chooseHTTPCompressionMethod`.
    pub(super) fn accepted(header: &str) -> Option<Self> {
        let offered = |wanted: Self| {
            header.split(',').any(|part| {
                let mut parts = part.split(';');
                let name = parts.next().unwrap_or_default();
                let refused = parts.any(|part| matches!(part.trim(), "q=0" | "q=0.0"));
                !refused && Self::from_name(name) == Some(wanted)
            })
        };
        [Self::Brotli, Self::Lz4, Self::Gzip, Self::Deflate, Self::Zstd].into_iter().find(|&coding| offered(coding))
    }

    /// A reader of what is coded in `input`.
    pub(super) fn reader<'a>(self, input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(input)),
            Self::Deflate => Box::new(flate2::read::ZlibDecoder::new(input)),
            Self::Brotli => Box::new(brotli::Decompressor::new(input, 1 << 16)),
            Self::Zstd => Box::new(zstd::Decoder::new(input)?),
            Self::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(input)),
        })
    }
}

/// A reader of ClickHouse's own blocks.
pub(super) fn native_reader<'a>(input: impl Read + 'a) -> Box<dyn Read + 'a> {
    Box::new(BlockReader::new(input))
}

/// What bytes go through on their way to the client.
pub(super) enum Encoder<W: Write> {
    Plain(W),
    Native(BlockWriter<W>),
    Gzip(flate2::write::GzEncoder<W>),
    Deflate(flate2::write::ZlibEncoder<W>),
    Brotli(Box<brotli::CompressorWriter<W>>),
    Zstd(zstd::Encoder<'static, W>),
    Lz4(Box<lz4_flex::frame::FrameEncoder<W>>),
}

impl<W: Write> Encoder<W> {
    /// ClickHouse's `http_zlib_compression_level`, and its like for the others: fast ones.
    pub(super) fn new(coding: Option<Coding>, native: bool, output: W) -> io::Result<Self> {
        Ok(match coding {
            _ if native => Self::Native(BlockWriter::new(output)),
            None => Self::Plain(output),
            Some(Coding::Gzip) => Self::Gzip(flate2::write::GzEncoder::new(output, flate2::Compression::new(3))),
            Some(Coding::Deflate) => {
                Self::Deflate(flate2::write::ZlibEncoder::new(output, flate2::Compression::new(3)))
            }
            Some(Coding::Brotli) => Self::Brotli(Box::new(brotli::CompressorWriter::new(output, 1 << 16, 1, 22))),
            Some(Coding::Zstd) => Self::Zstd(zstd::Encoder::new(output, 1)?),
            Some(Coding::Lz4) => Self::Lz4(Box::new(lz4_flex::frame::FrameEncoder::new(output))),
        })
    }

    /// The output, past the coding.
    pub(super) fn output(&mut self) -> &mut W {
        match self {
            Self::Plain(output) => output,
            Self::Native(writer) => writer.get_mut(),
            Self::Gzip(writer) => writer.get_mut(),
            Self::Deflate(writer) => writer.get_mut(),
            Self::Brotli(writer) => writer.get_mut(),
            Self::Zstd(writer) => writer.get_mut(),
            Self::Lz4(writer) => writer.get_mut(),
        }
    }

    /// Ends the coding and gives the output back.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(output) => Ok(output),
            Self::Native(writer) => writer.finish(),
            Self::Gzip(writer) => writer.finish(),
            Self::Deflate(writer) => writer.finish(),
            Self::Brotli(writer) => Ok(writer.into_inner()),
            Self::Zstd(writer) => writer.finish(),
            Self::Lz4(writer) => writer.finish().map_err(io::Error::other),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(output) => output.write(bytes),
            Self::Native(writer) => writer.write(bytes),
            Self::Gzip(writer) => writer.write(bytes),
            Self::Deflate(writer) => writer.write(bytes),
            Self::Brotli(writer) => writer.write(bytes),
            Self::Zstd(writer) => writer.write(bytes),
            Self::Lz4(writer) => writer.write(bytes),
        }
    }

    /// Does nothing: a coding is flushed at its end, or every block of rows would cost its own frame.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_coding_comes_back() {
        let data = b"some rows\n".repeat(20_000);
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd, Coding::Lz4] {
            let mut encoder = Encoder::new(Some(coding), false, Vec::new()).unwrap();
            encoder.write_all(&data).unwrap();
            let encoded = encoder.finish().unwrap();
            let mut decoded = Vec::new();
            coding.reader(&encoded[..]).unwrap().read_to_end(&mut decoded).unwrap();
            assert!(decoded == data, "{coding:?}");
        }
    }

    #[test]
    fn the_servers_order_decides() {
        assert_eq!(Coding::accepted("gzip, deflate, br;q=0"), Some(Coding::Gzip));
        assert_eq!(Coding::accepted("zstd, lz4"), Some(Coding::Lz4));
        assert_eq!(Coding::accepted("identity"), None);
    }
}
