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
pub(crate) const VERSION: u16 = 2;
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io;

    /// Reads without a limit.
    const ANY: u64 = u64::MAX;

    type Records = Vec<(u8, Vec<u8>)>;
    /// Kinds and payloads.
    type Blocks<'a> = &'a [(u8, &'a [u8])];

    fn cases(number: u32) -> ProptestConfig {
        let cases = if cfg!(miri) { 4 } else { number };
        ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
    }

    fn written(header: &[u8], records: &Records) -> Vec<u8> {
        let mut bytes = Vec::new();
        let len = write_to(&mut bytes, header, records).unwrap();
        assert_eq!(len, bytes.len() as u64);
        bytes
    }

    fn write_to(to: impl Write, header: &[u8], records: &Records) -> Result<u64, SnapshotError> {
        let mut writer = Writer::new(to, None);
        writer.header(header)?;
        for (kind, record) in records {
            assert!(writer.put(*kind, record)?);
        }
        writer.finish()
    }

    fn read(from: impl Read, limit: u64) -> Result<(Vec<u8>, Records), SnapshotError> {
        let mut reader = Reader::new(from, limit);
        let header = reader.header()?;
        let mut records = Records::new();
        while let Some((kind, record)) = reader.next()? {
            records.push((kind, record.to_vec()));
        }
        assert!(matches!(reader.next(), Ok(None)), "an end stays one");
        Ok((header, records))
    }

    /// A file of several blocks with few bytes.
    fn small() -> (Vec<u8>, Records) {
        let records = vec![
            (1, b"tea".to_vec()),
            (1, vec![]),
            (2, vec![0; 5]),
            (2, vec![0xff; 3]),
            (1, b"tea".to_vec()),
            (3, vec![]),
        ];
        (b"header".to_vec(), records)
    }

    fn small_bytes() -> Vec<u8> {
        let (header, records) = small();
        written(&header, &records)
    }

    /// A file of these blocks, with checksums that are right.
    fn crafted(blocks: Blocks<'_>) -> Vec<u8> {
        let mut bytes = preamble().to_vec();
        let mut chain = crc32fast::hash(&bytes);
        for (kind, payload) in blocks {
            let mut head = [*kind, 0, 0, 0, 0];
            head[1..].copy_from_slice(&(payload.len() as u32).to_le_bytes());
            chain = checksum(chain, &head, payload);
            bytes.extend_from_slice(&head);
            bytes.extend_from_slice(payload);
            bytes.extend_from_slice(&chain.to_le_bytes());
        }
        bytes
    }

    fn totals(blocks: u64, records: u64) -> Vec<u8> {
        [blocks.to_le_bytes(), records.to_le_bytes()].concat()
    }

    /// The bytes of each block of a file.
    fn blocks(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut rest = &bytes[PREAMBLE..];
        let mut blocks = Vec::new();
        while !rest.is_empty() {
            let len = u32::from_le_bytes(rest[1..HEAD].try_into().unwrap()) as usize;
            let (block, after) = rest.split_at(HEAD + len + CHECKSUM);
            blocks.push(block.to_vec());
            rest = after;
        }
        blocks
    }

    fn damage(bytes: &[u8]) -> (u64, &'static str) {
        match read(bytes, ANY) {
            Err(SnapshotError::Damaged { offset, what }) => (offset, what),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn records_come_back_in_order() {
        let (header, records) = small();
        assert_eq!(read(&small_bytes()[..], ANY).unwrap(), (header, records));
        assert_eq!(blocks(&small_bytes()).len(), 6, "the header, four of records, the end");
        let nothing = written(&[], &Records::new());
        assert_eq!(nothing.len() as u64, PREAMBLE as u64 + AROUND + CLOSING);
        assert_eq!(read(&nothing[..], ANY).unwrap(), (vec![], vec![]));
    }

    #[test]
    fn the_format_is_what_it_was() {
        // Made by another program, with another implementation of the checksum.
        let expected = [
            b"\x89LDR\r\n\x1a\n\x02\0".as_slice(),
            b"\0\x02\0\0\0hi\xe3\xe4\x42\xb9",
            b"\x07\x05\0\0\0\x01a\x02bc\x28\xca\x8f\xa2",
            b"\xff\x10\0\0\0\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x9d\x3e\x27\xf2",
        ];
        let records = vec![(7, b"a".to_vec()), (7, b"bc".to_vec())];
        assert_eq!(written(b"hi", &records), expected.concat());
        assert_eq!(read(&expected.concat()[..], ANY).unwrap(), (b"hi".to_vec(), records));
    }

    #[test]
    fn large_records_have_blocks_of_their_own() {
        if cfg!(miri) {
            return;
        }
        for len in [BLOCK - 4, BLOCK - 3, BLOCK - 2, BLOCK, BLOCK + 1, 3 * BLOCK + 7] {
            let records = vec![(1, vec![1; 9]), (1, vec![7; len]), (1, vec![2; 9]), (2, vec![])];
            let bytes = written(&[], &records);
            assert_eq!(read(&bytes[..], ANY).unwrap().1, records);
            for block in blocks(&bytes) {
                let payload = block.len() - AROUND as usize;
                assert!(payload <= BLOCK || payload == len + varint_len(len as u64), "{payload} of {len}");
            }
        }
    }

    #[test]
    fn every_truncation_is_found() {
        let bytes = small_bytes();
        for len in 0..bytes.len() {
            let error = read(&bytes[..len], ANY).unwrap_err();
            match len {
                0..8 => assert!(matches!(error, SnapshotError::NotASnapshot), "{len}: {error}"),
                _ => assert!(
                    matches!(error, SnapshotError::Damaged { offset, .. } if offset == len as u64),
                    "{len}: {error}"
                ),
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = small_bytes();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let error = read(&flipped[..], ANY).unwrap_err();
                match at {
                    0..8 => assert!(matches!(error, SnapshotError::NotASnapshot), "{at}: {error}"),
                    8..10 => assert!(matches!(error, SnapshotError::Version { .. }), "{at}: {error}"),
                    _ => assert!(matches!(error, SnapshotError::Damaged { .. }), "{at}: {error}"),
                }
            }
        }
    }

    #[test]
    fn what_follows_the_end_is_found() {
        let bytes = small_bytes();
        for more in [&b"\0"[..], b"\xff", &bytes] {
            let error = read(&*[&bytes, more].concat(), ANY).unwrap_err();
            assert!(
                matches!(error, SnapshotError::Trailing { offset } if offset == bytes.len() as u64),
                "{error}"
            );
        }
    }

    #[test]
    fn other_blocks_are_found() {
        let bytes = small_bytes();
        let right = blocks(&bytes);
        let with = |blocks: &[Vec<u8>]| [&bytes[..PREAMBLE], &blocks.concat()].concat();
        assert_eq!(with(&right), bytes);
        let wrong = "the checksum of a block is wrong";
        for one in 0..right.len() {
            let mut missing = right.clone();
            missing.remove(one);
            let whole = one + 1 < right.len();
            let expected = if whole { wrong } else { "the file ends where a block was expected" };
            assert_eq!(damage(&with(&missing)).1, expected);
            for other in 0..right.len() {
                let mut swapped = right.clone();
                swapped.swap(one, other);
                let mut repeated = right.clone();
                repeated.insert(other, right[one].clone());
                assert!(one == other || damage(&with(&swapped)).1 == wrong);
                if one < right.len() - 1 {
                    assert_eq!(damage(&with(&repeated)).1, wrong);
                } else {
                    // The end where it should not be, or twice.
                    read(&with(&repeated)[..], ANY).unwrap_err();
                }
            }
        }
        // The same block at the same place of another file.
        let (_, records) = small();
        let mut mixed = right.clone();
        mixed[2] = blocks(&written(b"Header", &records))[2].clone();
        assert_eq!(damage(&with(&mixed)).1, wrong);
    }

    #[test]
    fn other_files_are_told() {
        for bytes in
            [&b""[..], b"{}", b"\x89PNG\r\n\x1a\n............", b"\x89LDR\n\x1a\n\x01\0................"]
        {
            assert!(matches!(read(bytes, ANY), Err(SnapshotError::NotASnapshot)));
        }
        let mut newer = small_bytes();
        newer[8..10].copy_from_slice(&513_u16.to_le_bytes());
        let error = read(&newer[..], ANY).unwrap_err();
        assert!(matches!(error, SnapshotError::Version { found: 513, supported: VERSION }), "{error}");
    }

    #[test]
    fn blocks_that_make_no_file_are_found() {
        let header = (HEADER, &b"h"[..]);
        let fine = crafted(&[header, (1, b"\x01a"), (END, &totals(2, 1))]);
        assert_eq!(read(&fine[..], ANY).unwrap().1, [(1, b"a".to_vec())]);
        let cases: [(Blocks<'_>, &str); 9] = [
            (&[(1, b"\x01a"), (END, &totals(1, 1))], "the first block is no header"),
            (&[(END, &totals(0, 0))], "the first block is no header"),
            (&[header, header, (END, &totals(2, 0))], "a second header"),
            (&[header, (1, b""), (END, &totals(2, 0))], "a block without records"),
            (&[header, (1, b"\x02a"), (END, &totals(2, 1))], "a record is longer than its block"),
            (&[header, (1, b"\x01a\x80"), (END, &totals(2, 1))], "a record is longer than its block"),
            (&[header, (END, &totals(2, 0))], "the end block counts other blocks or records"),
            (&[header, (END, &totals(1, 1))], "the end block counts other blocks or records"),
            (&[header, (END, &[])], "the end block counts other blocks or records"),
        ];
        for (blocks, expected) in cases {
            assert_eq!(damage(&crafted(blocks)).1, expected, "{blocks:?}");
        }
        let varint = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(damage(&crafted(&[header, (1, &varint)])).1, "a record is longer than its block");
    }

    #[test]
    fn room_is_made_only_for_what_is_there() {
        let there = if cfg!(miri) { 10 } else { 3 * STEP };
        for kind in [HEADER, 1, END] {
            for len in [u32::MAX, u32::MAX - 3, 1 << 31, (there + 1) as u32] {
                let mut bytes = crafted(&[(HEADER, b"h")]);
                if kind == HEADER {
                    bytes.truncate(PREAMBLE);
                }
                bytes.push(kind);
                bytes.extend_from_slice(&len.to_le_bytes());
                bytes.resize(bytes.len() + there, 7);
                let mut reader = Reader::new(&bytes[..], ANY);
                let error = match reader.header() {
                    Ok(_) => reader.next().unwrap_err(),
                    Err(error) => error,
                };
                assert!(matches!(error, SnapshotError::Damaged { .. }), "{error}");
                assert!(reader.payload.capacity() <= 2 * there + STEP, "{}", reader.payload.capacity());
                // With a limit nothing of it is read.
                let error = read(&bytes[..], bytes.len() as u64).unwrap_err();
                assert!(matches!(error, SnapshotError::TooLarge { .. }), "{error}");
            }
        }
    }

    /// Gives one byte at a time, and is interrupted before each.
    struct Haltingly<'a> {
        bytes: &'a [u8],
        interrupted: bool,
    }

    impl Read for Haltingly<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.interrupted = !self.interrupted;
            if self.interrupted {
                return Err(ErrorKind::Interrupted.into());
            }
            let len = into.len().min(1);
            self.bytes.read(&mut into[..len])
        }
    }

    #[test]
    fn slow_and_interrupted_reads_are_as_good() {
        let bytes = small_bytes();
        let slow = |bytes| read(Haltingly { bytes, interrupted: false }, ANY);
        assert_eq!(slow(&bytes).unwrap(), small());
        for len in 0..bytes.len() {
            assert_eq!(
                slow(&bytes[..len]).unwrap_err().to_string(),
                read(&bytes[..len], ANY).unwrap_err().to_string()
            );
        }
    }

    /// Fails at a byte: when reading, writing, or flushing after it.
    struct FailsAt(usize);

    impl FailsAt {
        fn pass(&mut self, wanted: usize) -> io::Result<usize> {
            if self.0 == 0 && wanted > 0 {
                return Err(io::Error::other("broken"));
            }
            let passed = wanted.min(self.0);
            self.0 -= passed;
            Ok(passed)
        }
    }

    impl Write for FailsAt {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.pass(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.pass(1).map(drop)
        }
    }

    #[test]
    fn failures_of_the_writer_come_through() {
        let (header, records) = small();
        let len = small_bytes().len();
        for at in 0..=len {
            let error = write_to(FailsAt(at), &header, &records).unwrap_err();
            assert!(matches!(&error, SnapshotError::Io(io) if io.to_string() == "broken"), "{at}: {error}");
        }
        assert_eq!(write_to(FailsAt(len + 1), &header, &records).unwrap(), len as u64);
    }

    #[test]
    fn failures_of_the_reader_come_through() {
        struct Broken<'a>(&'a [u8], FailsAt);
        impl Read for Broken<'_> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                let len = self.1.pass(into.len())?;
                self.0.read(&mut into[..len])
            }
        }
        let bytes = small_bytes();
        for at in 0..=bytes.len() {
            let error = read(Broken(&bytes, FailsAt(at)), ANY).unwrap_err();
            assert!(matches!(error, SnapshotError::Io(_)), "{at}: {error}");
        }
    }

    #[test]
    fn readers_keep_their_limit() {
        let bytes = small_bytes();
        let len = bytes.len() as u64;
        assert_eq!(read(&bytes[..], len).unwrap(), small());
        for limit in 0..len {
            let error = read(&bytes[..], limit).unwrap_err();
            assert!(matches!(error, SnapshotError::TooLarge { limit: found } if found == limit), "{error}");
        }
    }

    /// Writes what fits and says how many bytes that were.
    fn limited(limit: u64, header: &[u8], records: &Records) -> Result<(Vec<u8>, Vec<bool>), SnapshotError> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, Some(limit));
        writer.header(header)?;
        let mut fit = Vec::new();
        for (kind, record) in records {
            fit.push(writer.put(*kind, record)?);
        }
        let len = writer.finish()?;
        assert_eq!(len, bytes.len() as u64);
        Ok((bytes, fit))
    }

    #[test]
    fn writers_keep_their_limit_and_use_it_up() {
        let (header, records) = small();
        let len = small_bytes().len() as u64;
        let least = written(&header, &Records::new()).len() as u64;
        for limit in 0..least {
            let error = limited(limit, &header, &records).unwrap_err();
            assert!(matches!(error, SnapshotError::TooLarge { limit: found } if found == limit), "{error}");
        }
        for limit in least..=len {
            let (bytes, fit) = limited(limit, &header, &records).unwrap();
            assert!(bytes.len() as u64 <= limit);
            assert_eq!(fit.iter().all(|fit| *fit), limit == len);
            let fitting: Records =
                records.iter().zip(&fit).filter(|(_, fit)| **fit).map(|(record, _)| record.clone()).collect();
            assert_eq!(read(&bytes[..], limit).unwrap(), (header.clone(), fitting));
            // Those up to the first that did not fit would have been too long with it.
            let first = fit.iter().position(|fit| !fit).unwrap_or(records.len() - 1);
            let with = written(&header, &records[..=first].to_vec());
            assert_eq!(with.len() as u64 > limit, !fit[first], "limit {limit}");
        }
    }

    #[test]
    fn headers_have_a_limit() {
        if cfg!(miri) {
            return;
        }
        let most = vec![7; MOST_HEADER];
        assert_eq!(read(&written(&most, &Records::new())[..], ANY).unwrap().0, most);
        let error = write_to(io::sink(), &vec![7; MOST_HEADER + 1], &Records::new()).unwrap_err();
        assert!(matches!(error, SnapshotError::TooLong { .. }), "{error}");
        let longer = crafted(&[(HEADER, &vec![7; MOST_HEADER + 1]), (END, &totals(1, 0))]);
        assert_eq!(damage(&longer).1, "the header is too long");
    }

    #[test]
    fn the_offset_is_that_of_what_was_read() {
        let bytes = small_bytes();
        let mut reader = Reader::new(&bytes[..], ANY);
        assert_eq!(reader.offset(), 0);
        reader.header().unwrap();
        assert_eq!(reader.offset(), PREAMBLE as u64 + AROUND + 6);
        while reader.next().unwrap().is_some() {}
        assert_eq!(reader.offset(), bytes.len() as u64);
    }

    fn any_records() -> impl Strategy<Value = Records> {
        let most = if cfg!(miri) { 300_usize } else { 20_000 };
        let len = prop_oneof![8 => 0..40_usize, 2 => 100..300_usize, 1 => 0..most];
        let record = (1..=3_u8, len, any::<u8>()).prop_map(|(kind, len, byte)| (kind, vec![byte; len]));
        prop::collection::vec(record, 0..30)
    }

    proptest! {
        #![proptest_config(cases(128))]

        #[test]
        fn any_records_come_back(records in any_records(), limit in 0..100_000_u64) {
            let bytes = written(b"header", &records);
            let (header, back) = read(&bytes[..], bytes.len() as u64).unwrap();
            prop_assert_eq!(header, b"header");
            prop_assert!(back == records);
            if let Ok((bytes, fit)) = limited(limit, b"header", &records) {
                prop_assert!(bytes.len() as u64 <= limit);
                let fitting = fit.iter().filter(|fit| **fit).count();
                prop_assert_eq!(read(&bytes[..], limit).unwrap().1.len(), fitting);
            }
        }

        #[test]
        fn any_payloads_are_read_without_panic(
            blocks in prop::collection::vec((0..4_u8, prop::collection::vec(0..5_u8, 0..9)), 0..5),
            blocks_said in 0..5_u64,
            records_said in 0..5_u64,
        ) {
            let end = totals(blocks_said, records_said);
            let mut all: Vec<(u8, &[u8])> = vec![(HEADER, b"h")];
            all.extend(blocks.iter().map(|(kind, payload)| (*kind, &payload[..])));
            all.push((END, &end));
            if let Ok((_, records)) = read(&crafted(&all)[..], ANY) {
                prop_assert_eq!(records.len() as u64, records_said);
            }
        }

        #[test]
        fn any_damage_is_found(
            at in any::<prop::sample::Index>(),
            bytes in prop::collection::vec(any::<u8>(), 1..20),
            insert in any::<bool>(),
        ) {
            let right = small_bytes();
            let at = at.index(right.len());
            let mut wrong = right.clone();
            let until = if insert { at } else { right.len().min(at + bytes.len()) };
            wrong.splice(at..until, bytes);
            prop_assert!(wrong == right || read(&wrong[..], ANY).is_err());
        }
    }
}
