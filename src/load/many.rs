//! Many keys in one call: one loader call for those that nobody has or is loading.
//!
//! A call boards all its keys first, and waits for none of them meanwhile. Then it loads those that it leads, and only
//! then waits for those that others lead. So two calls that want each other's keys never wait for each other.

use super::led::{leading, leading_async};
use super::{Joined, Lead, Place, Want, sure};
use crate::cache::Cache;
use crate::clock::Moment;
use crate::error::LoadError;
use crate::segment::{Landing, LoadId, Offer, Seen};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// The values of many keys. What is missing, or [due](crate::Builder::refresh_after_write), and is not being loaded by
    /// others, is given to one call of `loader`.
    ///
    /// Each key has a flight of its own, so others can wait for single ones, and this call waits for those that others
    /// load. A key for which the loader gives nothing is left out, here and for those who wait for it in calls like this
    /// one; who wants it alone runs its own loader. Further keys that the loader gives are kept, too, unless they were
    /// written or made invalid meanwhile. Of several values for one key the first counts. A value that is there is read before the
    /// loader runs, and given also if it ends while that does.
    ///
    /// The loader may be called more than once: for parts of the keys, where the builder set
    /// [`max_batch`](crate::Builder::max_batch), and when another caller gave up who was loading some of them.
    ///
    /// ```
    /// use larder::Cache;
    ///
    /// let cache = Cache::new(100);
    /// cache.insert(1, "one");
    /// let found = cache.get_all_or_load([1, 2, 3], |missing: &[u32]| {
    ///     assert_eq!(missing, [2, 3]);
    ///     vec![(2, "two"), (4, "four")]
    /// });
    /// assert_eq!(found.len(), 2);
    /// assert_eq!((found[&1], found[&2]), ("one", "two"));
    /// assert_eq!(cache.get(&4), Some("four"));
    /// ```
    ///
    /// # Panics
    ///
    /// As [`get_or_load`](Self::get_or_load).
    pub fn get_all_or_load<I>(
        &self,
        keys: impl IntoIterator<Item = K>,
        mut loader: impl FnMut(&[K]) -> I,
    ) -> HashMap<K, V>
    where
        I: IntoIterator<Item = (K, V)>,
    {
        sure(self.load_all(keys, |keys| Ok(loader(keys))))
    }

    /// As [`get_all_or_load`](Self::get_all_or_load), with a loader that may fail.
    ///
    /// # Errors
    ///
    /// The first that the loader of this call gave, or one of another's for which this call waited, unless there are old values
    /// that are still good for all its keys. What was loaded until then is kept.
    ///
    /// # Panics
    ///
    /// If the loader does.
    pub fn try_get_all_or_load<I, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        loader: impl FnMut(&[K]) -> Result<I, E>,
    ) -> Result<HashMap<K, V>, LoadError<E>>
    where
        I: IntoIterator<Item = (K, V)>,
        E: Send + Sync + 'static,
    {
        self.load_all(keys, loader)
    }

    /// As [`get_all_or_load`](Self::get_all_or_load), for a task, whose loader gets the keys to keep: see
    /// [`get_or_load_async`](Self::get_or_load_async).
    ///
    /// # Panics
    ///
    /// As `get_or_load`.
    pub async fn get_all_or_load_async<I, F>(
        &self,
        keys: impl IntoIterator<Item = K>,
        loader: impl FnMut(Vec<K>) -> F,
    ) -> HashMap<K, V>
    where
        I: IntoIterator<Item = (K, V)>,
        F: Future<Output = I>,
    {
        sure(self.load_all_async(keys, loader, Ok).await)
    }

    /// As [`try_get_all_or_load`](Self::try_get_all_or_load), for a task: see
    /// [`get_all_or_load_async`](Self::get_all_or_load_async).
    ///
    /// # Errors
    ///
    /// As `try_get_all_or_load`.
    ///
    /// # Panics
    ///
    /// If the loader does.
    pub async fn try_get_all_or_load_async<I, E, F>(
        &self,
        keys: impl IntoIterator<Item = K>,
        loader: impl FnMut(Vec<K>) -> F,
    ) -> Result<HashMap<K, V>, LoadError<E>>
    where
        I: IntoIterator<Item = (K, V)>,
        E: Send + Sync + 'static,
        F: Future<Output = Result<I, E>>,
    {
        self.load_all_async(keys, loader, |result| result).await
    }

    fn load_all<I, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        mut loader: impl FnMut(&[K]) -> Result<I, E>,
    ) -> Result<HashMap<K, V>, LoadError<E>>
    where
        I: IntoIterator<Item = (K, V)>,
        E: Send + Sync + 'static,
    {
        let mut many = Many::new(self, keys);
        while many.board()? {
            while let Some(batch) = many.next_batch() {
                let ids = many.ids(&batch);
                leading(&ids, || {
                    let loaded = loader(&batch.keys).map(collected);
                    many.land(batch, loaded)
                })?;
            }
            let deadline = self.deadline();
            while let Some((key, joined)) = many.joined.pop() {
                let landing = self.wait_for(&joined, deadline)?;
                many.arrive(key, &joined, landing)?;
            }
        }
        Ok(many.found)
    }

    async fn load_all_async<T, I, E, F>(
        &self,
        keys: impl IntoIterator<Item = K>,
        mut loader: impl FnMut(Vec<K>) -> F,
        mut result: impl FnMut(T) -> Result<I, E>,
    ) -> Result<HashMap<K, V>, LoadError<E>>
    where
        I: IntoIterator<Item = (K, V)>,
        E: Send + Sync + 'static,
        F: Future<Output = T>,
    {
        let mut many = Many::new(self, keys);
        while many.board()? {
            while let Some(batch) = many.next_batch() {
                let ids = many.ids(&batch);
                let loading = Box::pin(leading(&ids, || loader(batch.keys.clone())));
                let loaded = leading_async(&ids, loading).await;
                leading(&ids, || many.land(batch, result(loaded).map(collected)))?;
            }
            let deadline = self.deadline();
            while let Some((key, joined)) = many.joined.pop() {
                let landing = joined.flight.wait.wait(deadline).await;
                many.arrive(key, &joined, landing)?;
            }
        }
        Ok(many.found)
    }
}

/// A call for many keys on its way.
pub(super) struct Many<'a, K: 'static, V: 'static, S> {
    cache: &'a Cache<K, V, S>,
    pub(super) found: HashMap<K, V>,
    /// Keys that are to board.
    wanted: Vec<K>,
    led: Vec<(K, Lead<'a, K, V, S>)>,
    joined: Vec<(K, Joined<V>)>,
}

impl<'a, K, V, S> Many<'a, K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    fn new(cache: &'a Cache<K, V, S>, keys: impl IntoIterator<Item = K>) -> Self {
        let mut wanted: Vec<K> = keys.into_iter().collect();
        let mut found = HashMap::with_capacity(wanted.len());
        let mut led = Vec::new();
        if cache.inner.is_soft {
            wanted.retain(|key| {
                match cache.look(key).1 {
                    Ok(value) => _ = found.insert(key.clone(), value),
                    Err(Want::Renewal(lead)) => led.extend(lead.map(|lead| (key.clone(), *lead))),
                    Err(Want::Missing | Want::Anew) => return true,
                }
                false
            });
        } else {
            let values = cache.get_many(&wanted);
            let mut values = values.into_iter();
            wanted.retain(|key| match values.next().flatten() {
                Some(value) => {
                    found.insert(key.clone(), value);
                    false
                }
                None => true,
            });
        }
        Self { cache, found, wanted, led, joined: Vec::new() }
    }

    /// One that wants only what it leads already, in this order.
    pub(super) fn of(cache: &'a Cache<K, V, S>, mut led: Vec<(K, Lead<'a, K, V, S>)>) -> Self {
        led.reverse();
        Self { cache, found: HashMap::with_capacity(led.len()), wanted: Vec::new(), led, joined: Vec::new() }
    }

    /// Boards what is wanted. Says whether there is anything to load or to wait for.
    fn board<E>(&mut self) -> Result<bool, LoadError<E>> {
        for key in std::mem::take(&mut self.wanted) {
            let hash = self.cache.inner.hash(&key);
            match self.cache.board(hash, &key, &mut Want::Missing)? {
                Place::There(value) => _ = self.found.insert(key, value),
                Place::Leads(number, given) => {
                    let lead = Lead::new(self.cache, hash, number, false, given);
                    self.led.push((key, lead));
                }
                Place::Led(lead) => self.led.push((key, *lead)),
                // A key that was asked for twice finds itself on the way.
                Place::Joins(joined) if self.leads(&joined) => {}
                Place::Joins(joined) => {
                    self.cache.inner.count_wait();
                    self.joined.push((key, joined));
                }
            }
        }
        // The first comes out first.
        self.led.reverse();
        Ok(!self.led.is_empty() || !self.joined.is_empty())
    }

    /// Whether a flight is one of those that this call has just begun, one after another.
    fn leads(&self, joined: &Joined<V>) -> bool {
        self.led.binary_search_by_key(&joined.flight.number, |(_, lead)| lead.number).is_ok()
    }

    /// The next keys for the loader.
    pub(super) fn next_batch(&mut self) -> Option<Batch<'a, K, V, S>> {
        let most = self.cache.inner.loading.most_at_once.min(self.led.len());
        let (keys, led): (Vec<_>, Vec<_>) = (0..most).filter_map(|_| self.led.pop()).unzip();
        let started = led.first()?.started;
        Some(Batch { keys, led, others: Others::new(self.cache), started })
    }

    /// The loads that a loader must not wait for while it loads this batch: those whose turn is yet to come, too.
    pub(super) fn ids(&self, batch: &Batch<'a, K, V, S>) -> Vec<u64> {
        let further = self.led.iter().map(|(_, lead)| lead.number);
        batch.led.iter().map(|lead| lead.number).chain(further).collect()
    }

    /// What the loader gave goes where it belongs.
    pub(super) fn land<E: Send + Sync + 'static>(
        &mut self,
        mut batch: Batch<'a, K, V, S>,
        loaded: Result<Vec<(K, V)>, E>,
    ) -> Result<(), LoadError<E>> {
        let values = match loaded {
            Ok(values) => values,
            Err(error) => {
                let were: Vec<_> = batch.led.iter().map(|lead| (lead.hash, lead.claim.is_some())).collect();
                let keys = std::mem::take(&mut batch.keys);
                let failed = batch.fail(error);
                let mut are_all_there = true;
                for (key, (hash, is_renewal)) in keys.into_iter().zip(were) {
                    are_all_there &= self.keep_old(hash, key, is_renewal);
                }
                return if are_all_there { Ok(()) } else { Err(failed) };
            }
        };
        let Batch { keys, mut led, others, started } = batch;
        let took = self.cache.inner.note_load(true, started);
        // All are ready to land before the first does, which may panic.
        let mut places = Places { keys: &keys, next: 0, all: None };
        led.iter_mut().for_each(|lead| lead.landing = Landing::Absent);
        let mut unasked = Vec::new();
        for (key, value) in values {
            match places.of(&key).map(|place| &mut led[place].landing) {
                Some(landing @ Landing::Absent) => *landing = Landing::Loaded(value),
                // Of several values the first counts.
                Some(_) => {}
                None => unasked.push((key, value)),
            }
        }
        for (key, mut lead) in keys.into_iter().zip(led) {
            let (hash, is_renewal) = (lead.hash, lead.claim.is_some());
            if matches!(lead.landing, Landing::Loaded(_)) {
                let value = lead.land_value(key.clone(), took);
                self.found.insert(key, value);
            } else if is_renewal {
                drop(lead);
                self.keep_old(hash, key, true);
            }
        }
        unasked.into_iter().for_each(|(key, value)| others.land(key, value));
        Ok(())
    }

    /// Gives an old value for a key that was not loaded, if there is one.
    fn keep_old(&mut self, hash: u64, key: K, is_renewal: bool) -> bool {
        if self.found.contains_key(&key) {
            return true;
        }
        let want = if is_renewal { Want::Renewal(None) } else { Want::Missing };
        let old = self.cache.rescue(hash, &key, &want, true);
        old.map(|old| self.found.insert(key, old)).is_some()
    }

    /// As [`Cache::arrive`]; what has to board again is wanted again.
    fn arrive<E: Send + Sync + 'static>(
        &mut self,
        key: K,
        joined: &Joined<V>,
        landing: Option<&Landing<V>>,
    ) -> Result<(), LoadError<E>> {
        if matches!(landing, Some(Landing::Absent)) {
            return Ok(());
        }
        let hash = self.cache.inner.hash(&key);
        match self.cache.arrive_softly(hash, &key, joined, landing, &Want::Missing) {
            Some(arrived) => _ = self.found.insert(key, arrived?),
            None => self.wanted.push(key),
        }
        Ok(())
    }
}

/// Where keys stand among others. Looks first behind the one it found last: loaders mostly keep the order.
struct Places<'k, K> {
    keys: &'k [K],
    next: usize,
    all: Option<HashMap<&'k K, usize>>,
}

impl<K: Hash + Eq> Places<'_, K> {
    fn of(&mut self, key: &K) -> Option<usize> {
        if self.keys.get(self.next) != Some(key) {
            let all = self.all.get_or_insert_with(|| self.keys.iter().zip(0..).collect());
            self.next = *all.get(key)?;
        }
        self.next += 1;
        Some(self.next - 1)
    }
}

/// What one call of the loader is for.
pub(super) struct Batch<'a, K: 'static, V: 'static, S> {
    pub(super) keys: Vec<K>,
    led: Vec<Lead<'a, K, V, S>>,
    others: Others<'a, K, V, S>,
    started: Option<Moment>,
}

impl<K, V, S> Batch<'_, K, V, S> {
    /// Gives the loader's error to all who wait.
    pub(super) fn fail<E: Send + Sync + 'static>(self, error: E) -> LoadError<E> {
        let Batch { mut led, others, started, .. } = self;
        others.cache.inner.note_load(false, started);
        let error = Arc::new(error);
        led.iter_mut().for_each(|lead| _ = lead.land_error(Arc::clone(&error)));
        LoadError::Failed(error)
    }
}

/// An iterator may do the loader's work only now: it belongs to the load.
pub(super) fn collected<T>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    values.into_iter().collect()
}

/// Keys that a loader brings without having been asked for them. As long as this lives all segments note which keys are
/// changed, since nobody knows before which these will be.
struct Others<'a, K, V, S> {
    cache: &'a Cache<K, V, S>,
    id: u64,
}

impl<'a, K, V, S> Others<'a, K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    fn new(cache: &'a Cache<K, V, S>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Relaxed);
        cache.inner.segments.iter().for_each(|segment| segment.open_load(id));
        Self { cache, id }
    }

    fn land(&self, key: K, value: V) {
        let (hash, segment) = self.cache.inner.locate(&key);
        // If the entry is replaced after this the load is void.
        let given = segment
            .find(hash, |other| *other == key)
            .and_then(|found| self.cache.inner.given_to(segment, &found));
        let seen = Seen::Loading(LoadId::Open(self.id));
        let _ = self.cache.update_at(hash, Offer::new(key, value, seen), given, 0);
    }
}

impl<K, V, S> Drop for Others<'_, K, V, S> {
    fn drop(&mut self) {
        self.cache.inner.segments.iter().for_each(|segment| segment.close_load(self.id));
    }
}
