//! What is wrong with a file, and where.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

/// A fault in an input file: prints as file, place and reason in one line.
#[derive(Debug)]
pub(crate) struct Fault {
    path: PathBuf,
    found: Found,
}

/// A fault in a file whose name the caller knows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) reason: String,
}

/// Where in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The file as a whole.
    File,
    Byte(Offset),
    /// A line, counted from 1, and the byte in the file, not in the line.
    Line(u64, Offset),
}

/// How many bytes stand before a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offset {
    /// In the file as it lies on the disk.
    OfFile(u64),
    /// In what the compressed file holds.
    OfContent(u64),
}

impl Found {
    pub(crate) fn new(place: Place, reason: impl fmt::Display) -> Self {
        Self { place, reason: reason.to_string() }
    }

    pub(crate) fn in_file(self, path: &Path) -> Fault {
        Fault { path: path.to_owned(), found: self }
    }
}

impl Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = &self.found.reason;
        write!(f, "{}: ", self.path.display())?;
        match self.found.place {
            Place::File => f.write_str(reason),
            Place::Byte(offset) => write!(f, "{offset}: {reason}"),
            Place::Line(line, offset) => write!(f, "line {line}, {offset}: {reason}"),
        }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfFile(bytes) => write!(f, "byte {bytes}"),
            Self::OfContent(bytes) => write!(f, "byte {bytes} of the decompressed data"),
        }
    }
}
