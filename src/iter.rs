//! All entries: iterators, and what is built on the same scan.
//!
//! A scan follows the order of the hashes, a few entries at a time, which it finds under the segment's lock and reads
//! after it. It holds no lock and no memory between two steps.

use crate::cache::Cache;
use crate::hash::RandomState;
use crate::inner::{Inner, Place};
use crate::removal::RemovalCause;
use crate::segment::{Bank, Panics, Segment};
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
    /// What is removed is what `keep` has seen: an entry replaced since then stays. Runs without a lock.
    /// What is being loaded when it begins is not kept, since `keep` does not see it.
    pub fn retain(&self, mut keep: impl FnMut(&K, &V) -> bool) {
        let mut place = Place::default();
        let mut panics = Panics::default();
        self.inner.void_all_loads();
        loop {
            let Some((segment, batch)) = self.inner.scan(&mut place) else { break };
            for found in batch {
                let (key, value) = found.entry();
                if !keep(key, value) {
                    remove(segment, &self.inner.bank, found.slot(), &mut panics);
                }
            }
        }
        self.inner.remove_over(&mut panics);
        panics.resume();
    }

    /// Removes all entries and gives them, cloned. See [`iter`](Self::iter) for which entries it meets.
    ///
    /// Entries are removed as the iterator goes on; when it is dropped the rest of them are.
    pub fn drain(&self) -> Drain<K, V, S>
    where
        K: Clone,
        V: Clone,
    {
        self.inner.void_all_loads();
        Drain(Scan::new(self, |key, value| (key.clone(), value.clone())))
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
    pick: fn(&K, &V) -> T,
}

impl<K, V, S, T> Scan<K, V, S, T> {
    fn new(cache: &Cache<K, V, S>, pick: fn(&K, &V) -> T) -> Self {
        Self { inner: Arc::clone(&cache.inner), place: Place::default(), batch: Vec::new().into_iter(), pick }
    }

    /// The next one, picked from entries that `take` says yes to.
    fn next(&mut self, take: impl Fn(&Segment<K, V>, &Bank, u32, &mut Panics) -> bool) -> Option<T> {
        loop {
            if let Some(next) = self.batch.next() {
                return Some(next);
            }
            let (segment, found) = self.inner.scan(&mut self.place)?;
            let mut panics = Panics::default();
            let mut batch = Vec::with_capacity(found.len());
            for found in found {
                let (key, value) = found.entry();
                let picked = (self.pick)(key, value);
                if take(segment, &self.inner.bank, found.slot(), &mut panics) {
                    batch.push(picked);
                }
            }
            self.batch = batch.into_iter();
            panics.resume();
        }
    }
}

/// Takes the entry of `slot` out, if it is still there.
fn remove<K, V>(segment: &Segment<K, V>, bank: &Bank, slot: u32, panics: &mut Panics) -> bool {
    segment.remove(bank, slot, RemovalCause::Explicit).map(|leaving| leaving.settle_but(panics)).is_some()
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
        self.0.next(|_, _, _, _| true)
    }
}

impl<K, V, S> Iterator for Keys<K, V, S> {
    type Item = K;

    fn next(&mut self) -> Option<K> {
        self.0.next(|_, _, _, _| true)
    }
}

impl<K, V, S> Iterator for Drain<K, V, S> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        self.0.next(remove)
    }
}

impl<K, V, S> Drop for Drain<K, V, S> {
    fn drop(&mut self) {
        let Scan { inner, place, .. } = &mut self.0;
        let mut panics = Panics::default();
        loop {
            let Some((segment, found)) = inner.scan(place) else { break };
            found.iter().for_each(|found| {
                remove(segment, &inner.bank, found.slot(), &mut panics);
            });
        }
        inner.remove_over(&mut panics);
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
