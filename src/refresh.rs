//! Refreshes that are made elsewhere than in the call that found them due.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

type Finish<V> = Box<dyn FnOnce(Option<V>) + Send + Sync>;

/// An entry that is to be loaded anew: what [`Builder::refresh_with`](crate::Builder::refresh_with) is given.
///
/// Dropped without a value it is a load that failed: the old value stays for as long as it is good, and the next attempt
/// [waits](crate::Builder::refresh_backoff). As long as it lives the cache lives, and nobody else loads the key: who comes when
/// the old value is no good any more, or was evicted, waits for this one. So whoever holds it must not ask for the key by
/// [`refresh`](crate::Cache::refresh) or `get_or_load`: in the hook itself that is noticed, in another thread it may wait for
/// ever, unless there is a [`load_timeout`](crate::Builder::load_timeout).
///
/// The load that it stands for begins when it is made. If the key is written or made invalid before it is completed, its value
/// is not kept.
#[must_use = "dropped without a value it is a refresh that failed"]
pub struct Refresh<K, V> {
    key: K,
    finish: Option<Finish<V>>,
}

impl<K, V> Refresh<K, V> {
    pub(crate) fn new(key: K, finish: Finish<V>) -> Self {
        Self { key, finish: Some(finish) }
    }

    /// Whose value is wanted.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Puts the new value in the place of the old one.
    ///
    /// # Panics
    ///
    /// As an insert: if the weigher or the listener does.
    pub fn complete(mut self, value: V) {
        if let Some(finish) = self.finish.take() {
            finish(Some(value));
        }
    }
}

impl<K, V> Drop for Refresh<K, V> {
    fn drop(&mut self) {
        if let Some(finish) = self.finish.take() {
            finish(None);
        }
    }
}

/// A panic while it is held is a refresh that failed: the cache stays whole.
impl<K, V> UnwindSafe for Refresh<K, V> {}
impl<K, V> RefUnwindSafe for Refresh<K, V> {}

impl<K: fmt::Debug, V> fmt::Debug for Refresh<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresh").field("key", &self.key).finish_non_exhaustive()
    }
}
