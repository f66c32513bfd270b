//! What a cache knows of an entry beside its key and value.

use std::time::Duration;

/// What is known of an entry: [`Cache::metadata`](crate::Cache::metadata).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// How long ago it was written. Known where the builder was told to [`record_ages`](crate::Builder::record_ages), or to
    /// [`refresh_after_write`](crate::Builder::refresh_after_write).
    pub age: Option<Duration>,
    /// How long it has to live, if nobody reads it before; `None` without end.
    pub remaining: Option<Duration>,
    /// How many reads it still answers; `None` without limit.
    pub reads_left: Option<u64>,
    /// What it weighs.
    pub weight: u64,
    /// Whether it is pinned.
    pub is_pinned: bool,
}
