use std::fmt;

/// A name that stands for no eviction policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub(crate) name: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown eviction policy {:?}: expected one of {}",
            self.name,
            crate::error::POLICY_NAMES.join(", ")
        )
    }
}

impl std::error::Error for ParseError {}

/// The names that `EvictionPolicy` is parsed from and printed as.
pub(crate) const POLICY_NAMES: [&str; 6] = ["tiny_lfu", "s3_fifo", "sieve", "lru", "lfu", "fifo"];
