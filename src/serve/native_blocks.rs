//! ClickHouse's own compressed blocks, which `compress=1` and `decompress=1` mean: a checksum, a method, two sizes and the
//! data. In: bytes; out: bytes.
//! <https://clickhouse.com/docs/native-protocol/basics> and ClickHouse: src/Compression/CompressedReadBufferBase.cpp

use std::io::{self, Read, Write};

const HEADER: usize = 9;
const CHECKSUM: usize = 16;
const NONE: u8 = 0x02;
const LZ4: u8 = 0x82;
const ZSTD: u8 = 0x90;
/// ClickHouse's `max_compress_block_size`.
const BLOCK: usize = 1 << 20;
/// ClickHouse refuses larger ones too.
const MAX_SIZE: usize = 1 << 30;

/// Reads blocks as one stream of bytes.
pub(super) struct BlockReader<R> {
    input: R,
    block: Vec<u8>,
    position: usize,
}

impl<R: Read> BlockReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, block: Vec::new(), position: 0 }
    }

    /// Reads the next block; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let mut head = [0; CHECKSUM + HEADER];
        let mut filled = 0;
        while filled < head.len() {
            match self.input.read(&mut head[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|index| head[at + index])) as usize;
        let (compressed, uncompressed) = (number(CHECKSUM + 1), number(CHECKSUM + 5));
        if !(HEADER..=MAX_SIZE).contains(&compressed) || uncompressed > MAX_SIZE {
            return Err(invalid("its size cannot be"));
        }
        let mut body = head[CHECKSUM..].to_vec();
        body.resize(compressed, 0);
        self.input.read_exact(&mut body[HEADER..])?;
        if cityhash_rs::cityhash_102_128(&body).to_le_bytes() != swapped(&head[..CHECKSUM]) {
            return Err(invalid("its checksum does not match"));
        }
        let data = &body[HEADER..];
        self.block = match body[0] {
            NONE => data.to_vec(),
            LZ4 => lz4_flex::block::decompress(data, uncompressed).map_err(|_| invalid("it is no LZ4"))?,
            ZSTD => zstd::bulk::decompress(data, uncompressed).map_err(|_| invalid("it is no ZSTD"))?,
            method => return Err(invalid(&format!("its method 0x{method:02x} is not known"))),
        };
        if self.block.len() != uncompressed {
            return Err(invalid("its size is another than it says"));
        }
        self.position = 0;
        Ok(true)
    }
}

impl<R: Read> Read for BlockReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.block.len() {
            if !self.fill()? {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.block.len() - self.position);
        buffer[..count].copy_from_slice(&self.block[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }
}

/// Writes bytes as LZ4 blocks.
pub(super) struct BlockWriter<W> {
    output: W,
    pending: Vec<u8>,
}

impl<W: Write> BlockWriter<W> {
    pub(super) fn new(output: W) -> Self {
        Self { output, pending: Vec::new() }
    }

    pub(super) fn get_mut(&mut self) -> &mut W {
        &mut self.output
    }

    /// Writes what is pending and gives the output back.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.write_block()?;
        Ok(self.output)
    }

    fn write_block(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let data = lz4_flex::block::compress(&self.pending);
        let too_large = |_| invalid("it is too large");
        let mut block = Vec::with_capacity(HEADER + data.len());
        block.push(LZ4);
        block.extend_from_slice(&u32::try_from(HEADER + data.len()).map_err(too_large)?.to_le_bytes());
        block.extend_from_slice(&u32::try_from(self.pending.len()).map_err(too_large)?.to_le_bytes());
        block.extend_from_slice(&data);
        self.output.write_all(&swapped(&cityhash_rs::cityhash_102_128(&block).to_le_bytes()))?;
        self.output.write_all(&block)?;
        self.pending.clear();
        Ok(())
    }
}

impl<W: Write> Write for BlockWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BLOCK - self.pending.len());
        self.pending.extend_from_slice(&bytes[..count]);
        if self.pending.len() == BLOCK {
            self.write_block()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_block()?;
        self.output.flush()
    }
}

/// The hash's halves as ClickHouse stores them: the first one first.
fn swapped(hash: &[u8]) -> [u8; CHECKSUM] {
    std::array::from_fn(|index| hash[(index + 8) % CHECKSUM])
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a compressed block is not valid: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back() {
        let data: Vec<u8> = (0..3_000_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        let mut writer = BlockWriter::new(Vec::new());
        writer.write_all(&data).unwrap();
        writer.flush().unwrap();
        let mut read = Vec::new();
        BlockReader::new(&writer.output[..]).read_to_end(&mut read).unwrap();
        assert!(read == data);
        let mut broken = writer.output.clone();
        broken[40] ^= 1;
        assert!(BlockReader::new(&broken[..]).read_to_end(&mut Vec::new()).is_err());
    }
}
