//! What can be wrong with what a user asks for.

use std::fmt;

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

impl std::error::Error for ParseError {}

/// Options with which no cache can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
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
            Self::InitialCapacity { given, most } => {
                write!(f, "`initial_capacity({given})` is out of range: these segments hold up to {most} entries")
            }
        }
    }
}

impl std::error::Error for BuildError {}
