//! What can be wrong with what a user asks for.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
#[cfg(feature = "serde")]
use std::{io, path::Path, path::PathBuf};

/// The names that an eviction policy is parsed from and printed as.
pub(crate) const POLICY_NAMES: [&str; 7] = ["s3_lirs", "tiny_lfu", "s3_fifo", "sieve", "lru", "lfu", "fifo"];

/// A name that stands for no eviction policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsePolicyError {
    pub(crate) name: String,
}

impl fmt::Display for ParsePolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = POLICY_NAMES.join(", ");
        write!(f, "unknown eviction policy {:?}: expected one of {known}", self.name)
    }
}

impl Error for ParsePolicyError {}

/// Options with which no cache can be built.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum BuildError {
    /// Neither `max_capacity` nor `max_entries` was given.
    NoBound,
    /// `segments` was out of range.
    Segments {
        /// What was asked for.
        given: usize,
        /// The most there can be.
        most: usize,
    },
    /// `max_batch` was 0: a loader would get no keys.
    MaxBatch,
    /// `max_reads` was 0: an entry would answer none.
    MaxReads,
    /// `time_to_live_jitter` was no part of a time to live.
    TimeToLiveJitter {
        /// What was asked for.
        given: f64,
    },
    /// `refresh_early` was no factor.
    RefreshEarly {
        /// What was asked for.
        given: f64,
    },
    /// `refresh_with` was given, but nothing after which an entry would be refreshed.
    NothingToRefresh,
    /// Both `time_to_idle` and `expire_after` were given.
    IdleAndExpiry,
    /// No thread could be started for `housekeeping`.
    Housekeeping {
        /// What the system said.
        reason: String,
    },
    /// `initial_capacity` was more than the segments can hold.
    InitialCapacity {
        /// What was asked for.
        given: usize,
        /// The most there can be with this many segments.
        most: usize,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBound => f.write_str(
                "the cache has no bound: set `max_capacity` or `max_entries` (u64::MAX if it really has none)",
            ),
            Self::Segments { given, most } => {
                write!(f, "`segments({given})` is out of range: give 1 to {most}, or leave it out")
            }
            Self::MaxBatch => f.write_str("`max_batch(0)` would load nothing: give at least 1, or leave it out"),
            Self::MaxReads => f.write_str("`max_reads(0)` would answer no read: give at least 1, or leave it out"),
            Self::TimeToLiveJitter { given } => {
                write!(f, "`time_to_live_jitter({given})` is out of range: give the part of a time to live, 0 to 1")
            }
            Self::RefreshEarly { given } => {
                write!(f, "`refresh_early({given})` is out of range: give a finite number from 0 on, such as 1")
            }
            Self::NothingToRefresh => f.write_str(
                "`refresh_with` would never be called: say when by `refresh_after_write`, `stale_while_revalidate` or \
                 `refresh_early`",
            ),
            Self::IdleAndExpiry => f.write_str(
                "`time_to_idle` and `expire_after` both say what a read does: let `Expiry::after_read` do it",
            ),
            Self::Housekeeping { reason } => {
                write!(f, "no thread could be started for `housekeeping`: {reason}")
            }
            Self::InitialCapacity { given, most } => {
                write!(f, "`initial_capacity({given})` is out of range: these segments hold up to {most} entries")
            }
        }
    }
}

impl Error for BuildError {}

/// A value that could not be loaded.
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader gave this error: one's own, or that of another caller who was loading the key.
    Failed(Arc<E>),
    /// The loader asked for a key that it is loading itself, or whose loader waits for it. To wait for that would be for
    /// ever.
    Recursive,
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(Arc::clone(error)),
            Self::Recursive => Self::Recursive,
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Self::Recursive => f.write_str("Recursive"),
        }
    }
}

/// Does not repeat the loader's error, which is the [source](Error::source).
impl<E> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(_) => f.write_str("loading failed"),
            Self::Recursive => {
                f.write_str("a loader asked for a key that is being loaded for it: it would wait for itself")
            }
        }
    }
}

impl<E: Error + 'static> Error for LoadError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            Self::Recursive => None,
        }
    }
}

/// Why a snapshot was not written or not read.
///
/// What is there on disk is only replaced by a snapshot that was written as a whole.
#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
#[derive(Debug)]
#[non_exhaustive]
pub enum SnapshotError {
    /// A file could not be read or written.
    File {
        /// The path as it was given.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A reader or writer has failed.
    Io(io::Error),
    /// These bytes do not begin like a snapshot.
    NotASnapshot,
    /// The snapshot has another format, maybe of a newer version of this crate.
    Version {
        /// The format's version.
        found: u16,
        /// The version that can be read.
        supported: u16,
    },
    /// The snapshot has keys or values of another type.
    Types {
        /// What the snapshot names.
        found: String,
        /// What the cache has.
        expected: String,
    },
    /// The keys or values were encoded by another codec.
    Codec {
        /// What the snapshot names.
        found: String,
        /// What the given codec is called.
        expected: String,
    },
    /// The snapshot is not as it was written, or was not written to its end.
    Damaged {
        /// Where, in bytes from the beginning.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// Something follows after the end of the snapshot.
    Trailing {
        /// Where it begins, in bytes from the beginning.
        offset: u64,
    },
    /// The snapshot has more bytes than were allowed, or would have.
    TooLarge {
        /// How many were allowed.
        limit: u64,
    },
    /// A part of the snapshot has more bytes than its format allows.
    TooLong {
        /// Which.
        what: &'static str,
        /// How many are allowed.
        most: u64,
    },
    /// The codec has failed to encode a key or a value.
    Encode {
        /// Of which record, counted from 0.
        record: u64,
        /// What the codec said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The codec has failed to decode a key or a value.
    Decode {
        /// Of which record, counted from 0.
        record: u64,
        /// What the codec said.
        source: Box<dyn Error + Send + Sync>,
    },
}

#[cfg(feature = "serde")]
impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => {
                write!(f, "the snapshot {} could not be read or written", path.display())
            }
            Self::Io(_) => f.write_str("the snapshot could not be read or written"),
            Self::NotASnapshot => f.write_str(
                "this is no snapshot, or one that was copied as text: give a file that a cache has written",
            ),
            Self::Version { found, supported } => write!(
                f,
                "the snapshot has format {found}, but this version of larder reads format {supported}: write it anew"
            ),
            Self::Types { found, expected } => {
                write!(
                    f,
                    "the snapshot is of {found}, but the cache of {expected}: read it into a cache of its types"
                )
            }
            Self::Codec { found, expected } => {
                write!(
                    f,
                    "the snapshot was encoded by {found:?}, not {expected:?}: give the codec that wrote it"
                )
            }
            Self::Damaged { offset, what } => {
                write!(
                    f,
                    "the snapshot is damaged at byte {offset}: {what}; take another one, or begin without"
                )
            }
            Self::Trailing { offset } => write!(
                f,
                "the snapshot ends at byte {offset}, but more follows: there should be nothing else in its file"
            ),
            Self::TooLarge { limit } => {
                write!(f, "the snapshot has more than {limit} bytes: allow more, or keep less")
            }
            Self::TooLong { what, most } => {
                write!(f, "{what} has more than the {most} bytes that a snapshot can hold: make it shorter")
            }
            Self::Encode { record, .. } => write!(
                f,
                "record {record} could not be encoded: the codec has to know all values that the cache holds"
            ),
            Self::Decode { record, .. } => write!(
                f,
                "record {record} could not be decoded: it may have been written with other types or by another codec"
            ),
        }
    }
}

#[cfg(feature = "serde")]
impl Error for SnapshotError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(source) | Self::File { source, .. } => Some(source),
            Self::Encode { source, .. } | Self::Decode { source, .. } => Some(&**source),
            _ => None,
        }
    }
}

#[cfg(feature = "serde")]
impl SnapshotError {
    /// Adds the path of the file that was read or written.
    pub(crate) fn at(self, path: &Path) -> Self {
        match self {
            Self::Io(source) => Self::File { path: path.to_owned(), source },
            other => other,
        }
    }
}

#[cfg(feature = "serde")]
impl From<io::Error> for SnapshotError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::*;

    #[test]
    fn snapshot_errors_name_what_was_found() {
        let source = || Box::<dyn Error + Send + Sync>::from("no such thing");
        let (found, expected) = (|| "u64".to_owned(), || "u32".to_owned());
        let cases: [(SnapshotError, &[&str]); 8] = [
            (SnapshotError::Version { found: 7, supported: 1 }, &["format 7", "format 1"]),
            (SnapshotError::Types { found: found(), expected: expected() }, &["u64", "u32"]),
            (SnapshotError::Codec { found: found(), expected: expected() }, &["\"u64\"", "\"u32\""]),
            (SnapshotError::Damaged { offset: 12, what: "torn" }, &["byte 12", "torn"]),
            (SnapshotError::Trailing { offset: 12 }, &["byte 12"]),
            (SnapshotError::TooLarge { limit: 99 }, &["99 bytes"]),
            (SnapshotError::TooLong { what: "a record", most: 99 }, &["a record", "99 bytes"]),
            (SnapshotError::Decode { record: 3, source: source() }, &["record 3", "other types"]),
        ];
        for (error, parts) in cases {
            let text = error.to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
        assert_eq!(
            SnapshotError::Encode { record: 3, source: source() }.source().unwrap().to_string(),
            "no such thing"
        );
        assert!(SnapshotError::from(io::Error::other("broken")).source().is_some());
    }
}
