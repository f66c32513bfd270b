//! How an entry is inserted.

use crate::tag::Tag;
use std::time::Duration;

/// How an entry is inserted, beside its key and value: [`Cache::insert_with`](crate::Cache::insert_with).
///
/// # Updates
///
/// Options make tags, times, a weight and a pin the entry's own. They stay with it when its value is updated: by
/// [`compute`](crate::Cache::compute) and [`entry`](crate::Cache::entry), by [`refresh`](crate::Cache::refresh), and by a load of
/// what was due or stale, or that brings a key nobody asked for. The new value has the same tags, weight and pin, and its times
/// begin again with the same lengths; the builder is not asked for them. Where an entry has none of its own, the builder's
/// weigher, tags and times decide again.
///
/// `insert` and `insert_with` make a new entry: it has what its own options say, and of the one that it replaces it keeps the pin
/// only. An expired entry is absent, and passes nothing on; but a refresh keeps what its entry was given if that expires, or is
/// evicted, while the value is being loaded. A pin ends with its entry's time, also if that is stale.
///
/// ```
/// use larder::{Cache, InsertOptions};
///
/// let cache = Cache::new(100);
/// cache.insert_with("model", 7, InsertOptions::new().weight(20).pinned(true));
/// assert_eq!(cache.weighted_size(), 20);
/// ```
#[derive(Clone, Debug, Default)]
pub struct InsertOptions {
    pub(crate) weight: Option<u64>,
    pub(crate) pinned: Option<bool>,
    pub(crate) tags: Option<Vec<Tag>>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) tti: Option<Duration>,
    /// How long it took to load, in nanoseconds.
    pub(crate) took: u64,
}

impl InsertOptions {
    /// No options: as [`Cache::insert`](crate::Cache::insert).
    #[must_use]
    pub const fn new() -> Self {
        Self { weight: None, pinned: None, tags: None, ttl: None, tti: None, took: 0 }
    }

    /// Returns whether there is anything that an update of the entry keeps, beside its pin.
    pub(crate) const fn is_any(&self) -> bool {
        self.weight.is_some() || self.tags.is_some() || self.ttl.is_some() || self.tti.is_some()
    }

    /// What the entry weighs, whatever the weigher says. In a cache without a weigher other entries weigh 1.
    #[must_use]
    pub const fn weight(mut self, weight: u64) -> Self {
        self.weight = Some(weight);
        self
    }

    /// Whether the entry is pinned: see [`Cache::pin`](crate::Cache::pin). Left out, an entry that is replaced keeps its pin.
    #[must_use]
    pub const fn pinned(mut self, pinned: bool) -> Self {
        self.pinned = Some(pinned);
        self
    }

    /// How long the entry lives, whatever the builder says of that; [`Duration::MAX`] is without end. Works in any cache: those
    /// to which nothing was said of time begin to look at it with the first such entry.
    ///
    /// ```
    /// use larder::{Cache, Clock, InsertOptions};
    /// use std::time::Duration;
    ///
    /// let clock = Clock::manual();
    /// let cache = Cache::builder().max_capacity(100).clock(clock.clone()).build()?;
    /// cache.insert_with("offer", 1, InsertOptions::new().ttl(Duration::from_secs(10)));
    /// clock.advance(Duration::from_secs(10));
    /// assert_eq!(cache.get("offer"), None);
    /// # Ok::<(), larder::BuildError>(())
    /// ```
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How long the entry lives after it was last read or written, whatever the builder says of that; [`Duration::MAX`] is
    /// without end. Its time to live counts, too: the earlier of both ends it.
    #[must_use]
    pub const fn tti(mut self, tti: Duration) -> Self {
        self.tti = Some(tti);
        self
    }

    /// The tags that the entry carries, whatever [`Builder::tags`](crate::Builder::tags) says: see [`Cache::invalidate_tag`](crate::Cache::invalidate_tag).
    #[must_use]
    pub fn tags<T: Into<Tag>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = Some(tags.into_iter().map(Into::into).collect());
        self
    }
}
