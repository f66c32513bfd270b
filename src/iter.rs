//! All entries: iterators, and what is built on the same scan.
//!
//! A scan follows the order of the hashes, a few entries at a time, which it finds under the segment's lock and reads
//! after it. It holds no lock and no memory between two steps. At each step it looks at the clock, so that what has expired
//! since it was found does not come.

use crate::cache::Cache;
use crate::hash::RandomState;
use crate::inner::{Batch, Inner, Place};
use crate::removal::RemovalCause;
use crate::segment::{Panics, Segment, Takes};
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
    /// removed meanwhile may come or not; one that expires before its turn does not come. It ends, whatever others insert. The
    /// policy and the statistics do not notice.
    pub fn iter(&self) -> Iter<K, V, S>
    where
        K: Clone,
        V: Clone,
    {
        Iter(Scan::new(
            self,
            |key, value| (key.clone(), value.clone()),
            |inner, (key, _)| find(inner, key, |key, value| (key.clone(), value.clone())),
        ))
    }

    /// All keys, cloned. See [`iter`](Self::iter).
    pub fn keys(&self) -> Keys<K, V, S>
    where
        K: Clone,
    {
        Keys(Scan::new(self, |key, _| key.clone(), |inner, key| find(inner, key, |key, _| key.clone())))
    }

    /// Calls `visit` for each entry, without clones. See [`iter`](Self::iter).
    ///
    /// Runs without a lock, so `visit` may use the cache.
    pub fn for_each(&self, mut visit: impl FnMut(&K, &V)) {
        let mut place = Place::default();
        while let Some((segment, batch)) = self.inner.scan(&mut place) {
            for found in batch {
                if let Some(found) = self.in_time(segment, found) {
                    let (key, value) = found.entry();
                    visit(key, value);
                }
            }
        }
    }

    /// Returns an entry of a batch when its turn comes, or its successor if it has been replaced; `None` if it has expired.
    fn in_time<'s>(&self, segment: &'s Segment<K, V>, found: Found<'s, K, V>) -> Option<Found<'s, K, V>> {
        if !segment.is_over(found.slot()) {
            return Some(found);
        }
        // One that was replaced may have been good until then.
        let key = &found.has_ended().then(|| found.entry())?.0;
        segment.find(self.inner.hash(key), |other| other == key)
    }

    /// Removes the entries for which `keep` says no. See [`iter`](Self::iter) for which entries it meets.
    ///
    /// An entry is removed only if it is the one that `keep` has seen: one that has replaced it since stays. Runs without a
    /// lock. A value that is being loaded for a key when its turn comes is not kept, since `keep` does not see it. The keys, and
    /// with them the calls of the listener, come in the order of their hashes.
    pub fn retain(&self, mut keep: impl FnMut(&K, &V) -> bool) {
        let mut place = Place::default();
        let mut panics = Panics::default();
        loop {
            let batch = self.inner.invalidate(&mut place, Takes::Expired, &mut panics);
            let Some((segment, batch)) = batch else { break };
            for found in batch {
                let Some(found) = self.in_time(segment, found) else { continue };
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
    /// being loaded for a key when its turn comes is not kept. An entry that expires between its removal and its turn is not
    /// given; it has left as [`Explicit`](RemovalCause::Explicit), like the others.
    pub fn drain(&self) -> Drain<K, V, S>
    where
        K: Clone,
        V: Clone,
    {
        let pick = |key: &K, value: &V| (key.clone(), value.clone());
        Drain(Scan { visit: take, again: None, ..Scan::new(self, pick, |_, _| None) })
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
    /// With when each of them ends.
    batch: std::vec::IntoIter<(u64, T)>,
    visit: Visit<K, V, S>,
    pick: fn(&K, &V) -> T,
    /// Picks from the entry of the same key that is there now. `None` if the visits have taken the entries out.
    again: Option<Again<K, V, S, T>>,
}

/// A look at the entry that gave a `T` before.
type Again<K, V, S, T> = fn(&Inner<K, V, S>, &T) -> Option<T>;

/// A step of a scan.
type Visit<K, V, S> = for<'s> fn(&'s Inner<K, V, S>, &mut Place, &mut Panics) -> Option<Batch<'s, K, V>>;

/// Returns what `pick` makes of the entry of a key.
fn find<K, V, S, T>(inner: &Inner<K, V, S>, key: &K, pick: impl Fn(&K, &V) -> T) -> Option<T>
where
    K: Hash + Eq,
    S: BuildHasher + 'static,
{
    let (hash, segment) = inner.locate(key);
    let found = segment.find(hash, |other| other == key)?;
    let (key, value) = found.entry();
    Some(pick(key, value))
}

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
    fn new(cache: &Cache<K, V, S>, pick: fn(&K, &V) -> T, again: Again<K, V, S, T>) -> Self {
        let (inner, batch) = (Arc::clone(&cache.inner), Vec::new().into_iter());
        Self { inner, place: Place::default(), batch, visit: read, pick, again: Some(again) }
    }

    fn next(&mut self) -> Option<T> {
        loop {
            while let Some((end, next)) = self.batch.next() {
                if let Some(next) = self.in_time(end, next) {
                    return Some(next);
                }
            }
            let mut panics = Panics::default();
            let (segment, found) = (self.visit)(&self.inner, &mut self.place, &mut panics)?;
            let pick = |found: Found<'_, K, V>| {
                let (key, value) = found.entry();
                (segment.deadline(found.slot()), (self.pick)(key, value))
            };
            self.batch = found.into_iter().map(pick).collect::<Vec<_>>().into_iter();
            panics.resume();
        }
    }

    /// Returns what was picked when its turn comes, unless its entry has expired.
    fn in_time(&self, end: u64, next: T) -> Option<T> {
        let rules = &self.inner.rules;
        let has_ended = end != u64::MAX && end <= rules.clock.now();
        match self.again {
            // Reads may have put off the end, or an `Expiry` has moved it nearer.
            Some(again) if has_ended || rules.is_asked => again(&self.inner, &next),
            None if has_ended => None,
            _ => Some(next),
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
