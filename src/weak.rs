//! A handle that does not keep its cache alive.

use crate::cache::Cache;
use crate::hash::RandomState;
use crate::inner::Inner;
use std::fmt;
use std::sync::{Arc, Weak};

/// A handle that does not keep its cache alive: [`Cache::downgrade`].
///
/// For what a cache owns and what uses that cache: its listener, weigher, hooks and loaders that are stored, and its own keys
/// and values. If these held a [`Cache`], the last handle would never go, and neither would the entries: a leak. See
/// [`Builder::eviction_listener`](crate::Builder::eviction_listener) for an example.
///
/// ```
/// let cache = larder::Cache::new(10);
/// let weak = cache.downgrade();
/// cache.insert("a", 1);
/// assert_eq!(weak.upgrade().and_then(|cache| cache.get("a")), Some(1));
/// drop(cache);
/// assert!(weak.upgrade().is_none());
/// ```
pub struct WeakCache<K, V, S = RandomState> {
    inner: Weak<Inner<K, V, S>>,
}

impl<K, V, S> Cache<K, V, S> {
    /// Returns a handle that does not keep the cache alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakCache<K, V, S> {
        WeakCache { inner: Arc::downgrade(&self.inner) }
    }
}

impl<K, V, S> WeakCache<K, V, S> {
    /// Returns the cache, unless all its handles have been dropped.
    #[must_use]
    pub fn upgrade(&self) -> Option<Cache<K, V, S>> {
        self.inner.upgrade().map(|inner| Cache { inner })
    }
}

/// Another handle on the same cache.
impl<K, V, S> Clone for WeakCache<K, V, S> {
    fn clone(&self) -> Self {
        Self { inner: Weak::clone(&self.inner) }
    }
}

impl<K, V, S> fmt::Debug for WeakCache<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(WeakCache)")
    }
}
