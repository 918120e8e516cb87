//! Writing an index file.

use std::io;
use std::sync::Arc;

use super::bloom::Bloom;
use super::{Block, CHUNK_BYTES, Covers, HEADER_BYTES, MAGIC, VERSION};
use crate::journal::files::{File, Files};
use crate::journal::index::TopicIndex;

/// A block of topics is closed once it is this long.
const BLOCK_BYTES: usize = 4096;

/// Writes the index file and makes it durable; a file that a power cut left half written is recognized by its header,
/// which is written last.
pub(in crate::journal) fn write(
    files: &dyn Files,
    name: &str,
    covers: Covers,
    index: &TopicIndex,
) -> io::Result<()> {
    let mut out = Sink::create(files, name)?;
    for position in index.offsets() {
        out.put(&position.to_le_bytes())?;
    }
    let mut topics = 0u64;
    for (_, positions) in index.topics() {
        topics += 1;
        for position in positions {
            out.put(&position.to_le_bytes())?;
        }
    }
    let mut bloom = Bloom::with_topics(topics);
    let mut blocks: Vec<Block> = Vec::new();
    let mut block = Vec::with_capacity(2 * BLOCK_BYTES);
    let mut first_topic: Option<Box<str>> = None;
    let mut postings = 0u32;
    for (topic, positions) in index.topics() {
        bloom.insert(topic);
        first_topic.get_or_insert_with(|| Box::from(topic));
        let (length, count) = (long(topic.len())?, long(positions.len())?);
        block.extend_from_slice(&length.to_le_bytes());
        block.extend_from_slice(topic.as_bytes());
        block.extend_from_slice(&postings.to_le_bytes());
        block.extend_from_slice(&count.to_le_bytes());
        postings += count;
        if block.len() >= BLOCK_BYTES {
            blocks.extend(out.put_block(&mut first_topic, &mut block)?);
        }
    }
    blocks.extend(out.put_block(&mut first_topic, &mut block)?);
    out.flush()?;
    let (meta_at, body_crc) = (out.written, out.crc);
    let meta = encode_meta(&bloom, &blocks)?;
    out.put(&meta)?;
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&covers.bytes.to_le_bytes());
    header.extend_from_slice(&covers.segment.to_le_bytes());
    header.extend_from_slice(&covers.first.0.to_le_bytes());
    header.extend_from_slice(&long(index.offsets().len())?.to_le_bytes());
    header.extend_from_slice(&postings.to_le_bytes());
    header.extend_from_slice(&meta_at.to_le_bytes());
    header.extend_from_slice(&long(meta.len())?.to_le_bytes());
    header.extend_from_slice(&body_crc.to_le_bytes());
    header.extend_from_slice(&crc32c::crc32c(&meta).to_le_bytes());
    header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
    out.finish(&header)
}

/// Buffers what goes to the file behind the header.
struct Sink {
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    written: u64,
    crc: u32,
}

impl Sink {
    fn create(files: &dyn Files, name: &str) -> io::Result<Self> {
        Ok(Self {
            file: files.create(name)?,
            buffer: Vec::with_capacity(CHUNK_BYTES),
            written: HEADER_BYTES as u64,
            crc: 0,
        })
    }

    fn at(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        match self.buffer.len() >= CHUNK_BYTES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer);
        self.buffer.clear();
        Ok(())
    }

    fn put_block(
        &mut self,
        first_topic: &mut Option<Box<str>>,
        bytes: &mut Vec<u8>,
    ) -> io::Result<Option<Block>> {
        let Some(first_topic) = first_topic.take() else {
            return Ok(None);
        };
        let block = Block {
            first_topic,
            at: self.at(),
            bytes: long(bytes.len())?,
        };
        self.put(bytes)?;
        bytes.clear();
        Ok(Some(block))
    }

    fn finish(mut self, header: &[u8]) -> io::Result<()> {
        self.flush()?;
        self.file.sync()?;
        self.file.write_all_at(header, 0)?;
        self.file.sync()
    }
}

fn encode_meta(bloom: &Bloom, blocks: &[Block]) -> io::Result<Vec<u8>> {
    let mut meta = Vec::with_capacity(bloom.words.len() * 8 + blocks.len() * 48 + 4);
    meta.extend_from_slice(&long(bloom.words.len())?.to_le_bytes());
    for word in &bloom.words {
        meta.extend_from_slice(&word.to_le_bytes());
    }
    for block in blocks {
        meta.extend_from_slice(&block.at.to_le_bytes());
        meta.extend_from_slice(&block.bytes.to_le_bytes());
        meta.extend_from_slice(&long(block.first_topic.len())?.to_le_bytes());
        meta.extend_from_slice(block.first_topic.as_bytes());
    }
    Ok(meta)
}

fn long(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(io::Error::other)
}
