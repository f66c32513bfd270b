//! All entries: iterators, and what is built on the same scan.
//!
//! A scan follows the order of the hashes, a few entries at a time, which it finds under the segment's lock and reads
//! after it. It holds no lock and no memory between two steps.

use crate::cache::Cache;
use crate::hash::RandomState;
use crate::inner::{Batch, Inner, Place};
use crate::removal::RemovalCause;
use crate::segment::{Panics, Takes};
use crate::table::Found;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + 'static,
{
    /// All entries, cloned, in no particular order.
    ///
    /// Weakly consistent: an entry that is there all the while comes exactly once, with a value that it had meanwhile;
    /// no key comes twice; nothing comes that was removed before the iterator was made. Entries that are inserted or
    /// removed meanwhile may come or not. It ends, whatever others insert. The policy and the statistics do not notice.
    pub fn iter(&self) -> Iter<K, V, S>
    where
        K: Clone,
        V: Clone,
    {
        Iter(Scan::new(self, |key, value| (key.clone(), value.clone())))
    }

    /// All keys, cloned. See [`iter`](Self::iter).
    pub fn keys(&self) -> Keys<K, V, S>
    where
        K: Clone,
    {
        Keys(Scan::new(self, |key, _| key.clone()))
    }

    /// Calls `visit` for each entry, without clones. See [`iter`](Self::iter).
    ///
    /// Runs without a lock, so `visit` may use the cache.
    pub fn for_each(&self, mut visit: impl FnMut(&K, &V)) {
        let mut place = Place::default();
        loop {
            let Some((_, batch)) = self.inner.scan(&mut place) else { return };
            for found in batch {
                let (key, value) = found.entry();
                visit(key, value);
            }
        }
    }

    /// Removes the entries for which `keep` says no. See [`iter`](Self::iter) for which entries it meets.
    ///
    /// An entry is removed only if it is the one that `keep` has seen: one that has replaced it since stays. Runs without a
    /// lock. A value that is being loaded for a key when its turn comes is not kept, since `keep` does not see it.
    pub fn retain(&self, mut keep: impl FnMut(&K, &V) -> bool) {
        let mut place = Place::default();
        let mut panics = Panics::default();
        loop {
            let batch = self.inner.invalidate(&mut place, Takes::Expired, &mut panics);
            let Some((segment, batch)) = batch else { break };
            for found in batch {
                let (key, value) = found.entry();
                if keep(key, value) {
                    continue;
                }
                match segment.remove(&self.inner.bank, found.slot(), RemovalCause::Explicit) {
                    Some(leaving) => leaving.settle_but(&mut panics),
                    // It has left by itself, and a load may have begun before.
                    None => segment.void_loads(self.inner.hash(key), &mut panics),
                }
            }
        }
        panics.resume();
    }

    /// Removes all entries and gives them, cloned. See [`iter`](Self::iter) for which entries it meets.
    ///
    /// Entries are removed as the iterator goes on, a few at a time; when it is dropped the rest of them are. A value that is
    /// being loaded for a key when its turn comes is not kept.
    pub fn drain(&self) -> Drain<K, V, S>
    where
        K: Clone,
        V: Clone,
    {
        let pick = |key: &K, value: &V| (key.clone(), value.clone());
        Drain(Scan { visit: take, ..Scan::new(self, pick) })
    }
}

/// All entries of a cache: [`Cache::iter`].
pub struct Iter<K, V, S = RandomState>(Scan<K, V, S, (K, V)>);

/// All keys of a cache: [`Cache::keys`].
pub struct Keys<K, V, S = RandomState>(Scan<K, V, S, K>);

/// Entries on their way out of a cache: [`Cache::drain`].
pub struct Drain<K, V, S = RandomState>(Scan<K, V, S, (K, V)>);

/// A scan that gives `T`s, which it picks from a few entries at a time.
struct Scan<K, V, S, T> {
    inner: Arc<Inner<K, V, S>>,
    place: Place,
    batch: std::vec::IntoIter<T>,
    visit: Visit<K, V, S>,
    pick: fn(&K, &V) -> T,
}

/// A step of a scan.
type Visit<K, V, S> = for<'s> fn(&'s Inner<K, V, S>, &mut Place, &mut Panics) -> Option<Batch<'s, K, V>>;

/// Reads the next entries.
fn read<'s, K, V, S>(
    inner: &'s Inner<K, V, S>,
    place: &mut Place,
    _: &mut Panics,
) -> Option<Batch<'s, K, V>> {
    inner.scan(place)
}

/// Takes the next entries out.
fn take<'s, K, V, S>(
    inner: &'s Inner<K, V, S>,
    place: &mut Place,
    panics: &mut Panics,
) -> Option<Batch<'s, K, V>> {
    inner.invalidate(place, Takes::All, panics)
}

impl<K, V, S, T> Scan<K, V, S, T> {
    fn new(cache: &Cache<K, V, S>, pick: fn(&K, &V) -> T) -> Self {
        let inner = Arc::clone(&cache.inner);
        Self { inner, place: Place::default(), batch: Vec::new().into_iter(), visit: read, pick }
    }

    fn next(&mut self) -> Option<T> {
        loop {
            if let Some(next) = self.batch.next() {
                return Some(next);
            }
            let mut panics = Panics::default();
            let (_, found) = (self.visit)(&self.inner, &mut self.place, &mut panics)?;
            let pick = |found: Found<'_, K, V>| {
                let (key, value) = found.entry();
                (self.pick)(key, value)
            };
            self.batch = found.into_iter().map(pick).collect::<Vec<_>>().into_iter();
            panics.resume();
        }
    }
}

/// As [`Cache::iter`].
///
/// ```
/// let cache = larder::Cache::new(10);
/// cache.insert("tea", 3);
/// for (name, price) in &cache {
///     assert_eq!((name, price), ("tea", 3));
/// }
/// ```
impl<K, V, S> IntoIterator for &Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + 'static,
{
    type Item = (K, V);
    type IntoIter = Iter<K, V, S>;

    fn into_iter(self) -> Iter<K, V, S> {
        self.iter()
    }
}

impl<K, V, S> Iterator for Iter<K, V, S> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        self.0.next()
    }
}

impl<K, V, S> Iterator for Keys<K, V, S> {
    type Item = K;

    fn next(&mut self) -> Option<K> {
        self.0.next()
    }
}

impl<K, V, S> Iterator for Drain<K, V, S> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        self.0.next()
    }
}

impl<K, V, S> Drop for Drain<K, V, S> {
    fn drop(&mut self) {
        let Scan { inner, place, .. } = &mut self.0;
        let mut panics = Panics::default();
        inner.remove_rest(place, RemovalCause::Explicit, &mut panics);
        panics.resume();
    }
}

impl<K, V, S> fmt::Debug for Iter<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}

impl<K, V, S> fmt::Debug for Keys<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl<K, V, S> fmt::Debug for Drain<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").finish_non_exhaustive()
    }
}
