//! The file's format: records in blocks with checksums. What records are, others know.
//!
//! ```text
//! file     magic (8 bytes)  version (u16)  header block  data block ..  end block
//! block    kind (u8)  length of the payload (u32)  payload  checksum (u32)
//! payload  of data: records, each with its length before it (varint); of the end: blocks (u64)  records (u64)
//! ```
//!
//! Numbers are little-endian. A block holds records of one kind.
//!
//! The checksum is a CRC-32 of the block, and of the checksum of the block before it, or of magic and version if it is
//! the first. So one finds not only each damage of up to 32 bits in a row in a payload, and others but one in four
//! billions, but also blocks that are missing, swapped, repeated or another file's. It is no protection against somebody
//! who wants to deceive. Nothing follows the end block, and without one the file is not whole.
//!
//! A reader gives a record only after the checksum of its block was right, and allocates memory only for bytes that have
//! been read.

use super::fields::{Fields, put_u64, put_varint, varint_len};
use crate::error::SnapshotError;
use crc32fast::Hasher;
use std::io::{ErrorKind, Read, Write};

/// A byte that is no text, a name, and line ends that do not survive being copied as text.
const MAGIC: [u8; 8] = *b"\x89LDR\r\n\x1a\n";
/// The format's version: a reader reads no other.
pub(crate) const VERSION: u16 = 1;
const PREAMBLE: usize = MAGIC.len() + 2;

const HEADER: u8 = 0;
const END: u8 = 0xff;

/// Bytes of a block beside its payload: kind and length before it, the checksum after it.
const HEAD: usize = 5;
const CHECKSUM: usize = 4;
const AROUND: u64 = (HEAD + CHECKSUM) as u64;
/// Bytes of an end block.
const CLOSING: u64 = AROUND + 16;
/// Bytes of a payload, unless a record alone has more. Small enough to stay in a processor's cache.
const BLOCK: usize = 1 << 17;
/// Bytes of a header at most.
const MOST_HEADER: usize = 1 << 20;
/// Bytes of a record at most, so that the length of its block fits.
const MOST_RECORD: u64 = u32::MAX as u64 - 16;
/// Bytes for which a reader makes room at a time.
const STEP: usize = 1 << 16;

fn preamble() -> [u8; PREAMBLE] {
    let mut bytes = [0; PREAMBLE];
    bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
    bytes[MAGIC.len()..].copy_from_slice(&VERSION.to_le_bytes());
    bytes
}

/// The checksum of a block that comes after another one, or after the preamble.
fn checksum(before: u32, head: &[u8; HEAD], payload: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&before.to_le_bytes());
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

/// Writes a file: [`header`](Self::header), then [`put`](Self::put), then [`finish`](Self::finish). It is of no use any
/// more once one of them has failed.
pub(crate) struct Writer<W> {
    to: W,
    limit: u64,
    /// Bytes written.
    written: u64,
    /// The checksum of the block before.
    chain: u32,
    blocks: u64,
    records: u64,
    /// The block that is being filled.
    kind: u8,
    payload: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// The file will have no more bytes than `limit`.
    pub(crate) fn new(to: W, limit: Option<u64>) -> Self {
        let limit = limit.unwrap_or(u64::MAX);
        let chain = crc32fast::hash(&preamble());
        Self { to, limit, written: 0, chain, blocks: 0, records: 0, kind: HEADER, payload: Vec::new() }
    }

    /// Begins the file.
    pub(crate) fn header(&mut self, header: &[u8]) -> Result<(), SnapshotError> {
        debug_assert_eq!(self.written, 0, "one header, before all else");
        if header.len() > MOST_HEADER {
            return Err(SnapshotError::TooLong { what: "the header", most: MOST_HEADER as u64 });
        }
        if PREAMBLE as u64 + AROUND + header.len() as u64 + CLOSING > self.limit {
            return Err(SnapshotError::TooLarge { limit: self.limit });
        }
        self.to.write_all(&preamble())?;
        self.written = PREAMBLE as u64;
        self.block(HEADER, header)
    }

    /// Adds a record of a kind from 1 to 254, of which it may be the first. Says false, and adds nothing, if the file
    /// would become too long; a shorter one may still fit.
    ///
    /// Kinds should not alternate much, since each change begins a new block.
    #[inline]
    pub(crate) fn put(&mut self, kind: u8, record: &[u8]) -> Result<bool, SnapshotError> {
        debug_assert!(kind != HEADER && kind != END, "this kind is taken");
        debug_assert!(self.written > 0, "the header comes first");
        if record.len() as u64 > MOST_RECORD {
            return Err(SnapshotError::TooLong { what: "a record", most: MOST_RECORD });
        }
        let len = varint_len(record.len() as u64) + record.len();
        let begins = self.payload.is_empty() || kind != self.kind || self.payload.len() + len > BLOCK;
        if !self.fits(len as u64, begins) {
            return Ok(false);
        }
        if begins {
            self.block_of_records()?;
            self.kind = kind;
        }
        put_varint(&mut self.payload, record.len() as u64);
        self.payload.extend_from_slice(record);
        self.records += 1;
        Ok(true)
    }

    /// Ends the file. Says how many bytes it has.
    pub(crate) fn finish(mut self) -> Result<u64, SnapshotError> {
        self.block_of_records()?;
        let mut totals = Vec::with_capacity(16);
        put_u64(&mut totals, self.blocks);
        put_u64(&mut totals, self.records);
        self.block(END, &totals)?;
        self.to.flush()?;
        Ok(self.written)
    }

    /// Whether so many bytes of a record fit, in a block of their own or not.
    #[inline]
    fn fits(&self, len: u64, begins: bool) -> bool {
        let pending = if self.payload.is_empty() { 0 } else { AROUND + self.payload.len() as u64 };
        let own = if begins { AROUND } else { 0 };
        self.written + pending + own + len + CLOSING <= self.limit
    }

    /// Writes the records that were collected, if there are any.
    fn block_of_records(&mut self) -> Result<(), SnapshotError> {
        if !self.payload.is_empty() {
            let mut payload = std::mem::take(&mut self.payload);
            self.block(self.kind, &payload)?;
            payload.clear();
            self.payload = payload;
        }
        Ok(())
    }

    fn block(&mut self, kind: u8, payload: &[u8]) -> Result<(), SnapshotError> {
        let mut head = [kind, 0, 0, 0, 0];
        head[1..].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        self.chain = checksum(self.chain, &head, payload);
        self.to.write_all(&head)?;
        self.to.write_all(payload)?;
        self.to.write_all(&self.chain.to_le_bytes())?;
        self.written += AROUND + payload.len() as u64;
        self.blocks += 1;
        Ok(())
    }
}

/// Reads a file: [`header`](Self::header), then [`next`](Self::next) until there is none. It is of no use any more once
/// one of them has failed.
///
/// It reads in small pieces: what it reads from should have a buffer.
pub(crate) struct Reader<R> {
    from: R,
    limit: u64,
    /// Bytes read.
    offset: u64,
    /// The checksum of the block before.
    chain: u32,
    blocks: u64,
    records: u64,
    ended: bool,
    kind: u8,
    /// The payload is its first `len` bytes, of which `at` have been given out. Longer, so that not every block is zeroed
    /// before it is read.
    payload: Vec<u8>,
    len: usize,
    at: usize,
}

impl<R: Read> Reader<R> {
    /// Refuses files with more bytes than `limit`.
    pub(crate) fn new(from: R, limit: u64) -> Self {
        Self {
            from,
            limit,
            offset: 0,
            chain: 0,
            blocks: 0,
            records: 0,
            ended: false,
            kind: HEADER,
            payload: Vec::new(),
            len: 0,
            at: 0,
        }
    }

    /// Reads the beginning of the file.
    pub(crate) fn header(&mut self) -> Result<Vec<u8>, SnapshotError> {
        let mut bytes = [0; PREAMBLE];
        let read = self.fill(&mut bytes)?;
        if bytes[..MAGIC.len()] != MAGIC {
            return Err(SnapshotError::NotASnapshot);
        }
        if read < PREAMBLE {
            return Err(self.damaged("the version is missing"));
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(SnapshotError::Version { found: version, supported: VERSION });
        }
        self.chain = crc32fast::hash(&bytes);
        self.block()?;
        if self.kind != HEADER {
            return Err(self.damaged("the first block is no header"));
        }
        self.at = self.len;
        Ok(self.payload[..self.len].to_vec())
    }

    /// The next record and its kind, and none after the end, once it is sure that the file is whole and nothing follows.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u8, &[u8])>, SnapshotError> {
        if self.at == self.len {
            self.block_of_records()?;
            if self.ended {
                return Ok(None);
            }
        }
        let mut fields = Fields::new(&self.payload[self.at..self.len]);
        let Some(record) = fields.bytes() else {
            return Err(self.damaged("a record is longer than its block"));
        };
        self.at = self.len - fields.rest().len();
        self.records += 1;
        Ok(Some((self.kind, record)))
    }

    /// Where the reader is, in bytes from the beginning: after the block of the record that was given last.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads a block of records, or the end.
    #[inline(never)]
    fn block_of_records(&mut self) -> Result<(), SnapshotError> {
        if self.ended {
            return Ok(());
        }
        let blocks = self.blocks;
        self.block()?;
        match self.kind {
            HEADER => Err(self.damaged("a second header")),
            END => self.end(blocks),
            _ if self.len == 0 => Err(self.damaged("a block without records")),
            _ => Ok(()),
        }
    }

    /// Reads an end block, after so many others, and sees that nothing follows.
    fn end(&mut self, blocks: u64) -> Result<(), SnapshotError> {
        let mut fields = Fields::new(&self.payload[..self.len]);
        let totals = (fields.u64(), fields.u64(), fields.end());
        if totals != (Some(blocks), Some(self.records), Some(())) {
            return Err(self.damaged("the end block counts other blocks or records"));
        }
        let offset = self.offset;
        if self.fill(&mut [0])? > 0 {
            return Err(SnapshotError::Trailing { offset });
        }
        self.at = self.len;
        self.ended = true;
        Ok(())
    }

    /// Reads a block. There is nothing in it until its checksum was right.
    fn block(&mut self) -> Result<(), SnapshotError> {
        (self.len, self.at) = (0, 0);
        let mut head = [0; HEAD];
        let start = self.offset;
        if self.fill(&mut head)? < HEAD {
            return Err(self.damaged("the file ends where a block was expected"));
        }
        let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        if self.offset + u64::from(len) + CHECKSUM as u64 > self.limit {
            return Err(SnapshotError::TooLarge { limit: self.limit });
        }
        let len = len as usize;
        if head[0] == HEADER && len > MOST_HEADER {
            return Err(self.damaged("the header is too long"));
        }
        self.fill_payload(len)?;
        let mut sum = [0; CHECKSUM];
        if self.fill(&mut sum)? < CHECKSUM {
            return Err(self.damaged("the file ends where a checksum was expected"));
        }
        let chain = checksum(self.chain, &head, &self.payload[..len]);
        if chain != u32::from_le_bytes(sum) {
            return Err(SnapshotError::Damaged { offset: start, what: "the checksum of a block is wrong" });
        }
        self.chain = chain;
        self.blocks += 1;
        (self.kind, self.len) = (head[0], len);
        Ok(())
    }

    /// Reads a payload, with room only for what is there.
    fn fill_payload(&mut self, len: usize) -> Result<(), SnapshotError> {
        let mut payload = std::mem::take(&mut self.payload);
        for from in (0..len).step_by(STEP) {
            let to = len.min(from + STEP);
            if payload.len() < to {
                payload.resize(to, 0);
            }
            if self.fill(&mut payload[from..to])? < to - from {
                return Err(self.damaged("the file ends within a block"));
            }
        }
        self.payload = payload;
        Ok(())
    }

    /// Reads until the buffer is full or the file ends. Says how many bytes there were.
    fn fill(&mut self, into: &mut [u8]) -> Result<usize, SnapshotError> {
        let mut filled = 0;
        while filled < into.len() {
            match self.from.read(&mut into[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    fn damaged(&self, what: &'static str) -> SnapshotError {
        SnapshotError::Damaged { offset: self.offset, what }
    }
}
