//! What can be wrong with what a user asks for.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The names that an eviction policy is parsed from and printed as.
pub(crate) const POLICY_NAMES: [&str; 7] = ["s3_lirs", "tiny_lfu", "s3_fifo", "sieve", "lru", "lfu", "fifo"];

/// A name that stands for no eviction policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub(crate) name: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = POLICY_NAMES.join(", ");
        write!(f, "unknown eviction policy {:?}: expected one of {known}", self.name)
    }
}

impl Error for ParseError {}

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
    /// `ttl_jitter` was no part of a time to live.
    TtlJitter {
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
            Self::TtlJitter { given } => {
                write!(f, "`ttl_jitter({given})` is out of range: give the part of a time to live, 0 to 1")
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

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "loading failed: {error}"),
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
