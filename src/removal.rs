use std::fmt;

/// Why an entry left the cache, or never got in.
///
/// Given to the eviction listener, and to a [`Policy`](crate::policy::Policy) when one of its entries leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RemovalCause {
    /// Its user removed it: `remove`, `invalidate`, `retain`, `drain`, `compute` and their like.
    Explicit,
    /// A new value took its place.
    Replaced,
    /// It had expired, maybe already when it came: with a life of zero it is never let in.
    Expired,
    /// The cache was over its capacity and the policy chose this entry.
    Size,
    /// It was never let in: heavier than the whole capacity, refused by the policy, or no room beside pinned entries.
    Rejected,
}

impl RemovalCause {
    /// Whether the cache, rather than its user, decided that the entry goes: `Expired`, `Size` or `Rejected`.
    #[must_use]
    pub const fn was_evicted(self) -> bool {
        matches!(self, Self::Expired | Self::Size | Self::Rejected)
    }
}

impl fmt::Display for RemovalCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Explicit => "explicit",
            Self::Replaced => "replaced",
            Self::Expired => "expired",
            Self::Size => "size",
            Self::Rejected => "rejected",
        })
    }
}
