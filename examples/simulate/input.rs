//! A file's bytes, decompressed if need be, with every fault's place.

use crate::fault::{Found, Offset, Place};
use crate::zstd::Zstd;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

const BUFFER: usize = 1 << 16;

/// How the bytes of a file stand for its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Zstd,
    Gzip,
    Xz,
}

impl Compression {
    /// The last extension of a compressed file, with the dot.
    pub(crate) const ENDINGS: [(&str, Self); 3] =
        [(".zst", Self::Zstd), (".gz", Self::Gzip), (".xz", Self::Xz)];

    /// Returns the compression whose first bytes these are.
    fn of(start: &[u8]) -> Self {
        match start {
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::None,
        }
    }
}

/// The content of a file, read front to back.
pub(crate) struct Input {
    content: Box<dyn BufRead>,
    compression: Compression,
    /// Bytes of the content that have been handed out.
    position: u64,
    /// Bytes of the file that have been used.
    used: Rc<Cell<u64>>,
}

impl Input {
    /// Opens a file that is compressed as its name tells, or else as its first bytes do.
    pub(crate) fn open(path: &Path, named: Compression) -> Result<Self, Found> {
        let unreadable = |error| Found::new(Place::File, error);
        let mut file = BufReader::with_capacity(BUFFER, File::open(path).map_err(unreadable)?);
        let compression = match named {
            Compression::None => Compression::of(file.fill_buf().map_err(unreadable)?),
            named => named,
        };
        Ok(Self::new(file, compression))
    }

    pub(crate) fn new(source: impl BufRead + 'static, compression: Compression) -> Self {
        let used = Rc::new(Cell::new(0));
        let counted = Counted { source, used: Rc::clone(&used) };
        let content: Box<dyn BufRead> = match compression {
            Compression::None => Box::new(counted),
            Compression::Zstd => buffered(Zstd::new(counted)),
            Compression::Gzip => buffered(MultiGzDecoder::new(counted)),
            Compression::Xz => buffered(XzReader::new(counted, true)),
        };
        Self { content, compression, position: 0, used }
    }

    /// Fills the buffer as far as the content goes, and tells how far that is.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Found> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.content.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unreadable(&error)),
            }
        }
        self.position += filled as u64;
        Ok(filled)
    }

    /// Replaces what is in `line` by the next line, with its end, or by nothing at the end of the content.
    pub(crate) fn line(&mut self, line: &mut Vec<u8>) -> Result<(), Found> {
        line.clear();
        let read = self.content.read_until(b'\n', line).map_err(|error| self.unreadable(&error))?;
        self.position += read as u64;
        Ok(())
    }

    /// Bytes of the content that have been handed out.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// A place in the content.
    pub(crate) fn offset(&self, bytes: u64) -> Offset {
        match self.compression {
            Compression::None => Offset::OfFile(bytes),
            Compression::Zstd | Compression::Gzip | Compression::Xz => Offset::OfContent(bytes),
        }
    }

    fn unreadable(&self, error: &io::Error) -> Found {
        let place = Place::Byte(Offset::OfFile(self.used.get()));
        match self.compression {
            Compression::Gzip => Found::new(place, format!("broken gzip: {error}")),
            Compression::Xz => Found::new(place, format!("broken xz: {error}")),
            Compression::None | Compression::Zstd => Found::new(place, error),
        }
    }
}

fn buffered(source: impl Read + 'static) -> Box<dyn BufRead> {
    Box::new(BufReader::with_capacity(BUFFER, source))
}

/// Counts what is taken out of a buffer, not what is read ahead into it.
struct Counted<R> {
    source: R,
    used: Rc<Cell<u64>>,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.used.set(self.used.get() + read as u64);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.source.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.used.set(self.used.get() + amount as u64);
        self.source.consume(amount);
    }
}
