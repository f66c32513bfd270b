//! Warming up: keys are loaded batch by batch before anybody asks for them.
//!
//! A batch is boarded and landed as a call for many keys, but nobody wants its values: what is there is looked at without a
//! trace, and what others are loading is left to them. So a warm-up waits for nobody, and cannot be part of a ring of loads
//! that wait for each other.
//!
//! While it rests, by its rate, or in the iterator or in the callback, it has no flights: nobody waits for a warm-up that
//! does nothing.

use super::led::{leading, leading_async};
use super::many::{Batch, Many, collected};
use super::{Lead, Place, Want, sure};
use crate::cache::Cache;
use crate::error::LoadError;
use std::error::Error;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::thread;
use std::time::{Duration, Instant};

type Callback<'a> = Box<dyn FnMut(&WarmProgress) -> ControlFlow<()> + Send + 'a>;
type Sleeping<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
type Sleeper<'a> = Box<dyn FnMut(Duration) -> Sleeping<'a> + Send + 'a>;

/// How a cache is warmed up: [`Cache::warm`].
#[must_use = "it does nothing until it is given to `warm`"]
pub struct WarmUp<'a> {
    batch: usize,
    rate: Option<u64>,
    stops_when_full: bool,
    progress: Option<Callback<'a>>,
    sleep: Option<Sleeper<'a>>,
}

impl<'a> WarmUp<'a> {
    /// Batches of 500 keys, as fast as the loader is, until the cache is full.
    pub fn new() -> Self {
        Self { batch: 500, rate: None, stops_when_full: true, progress: None, sleep: None }
    }

    /// How many keys are taken from the iterator at a time; no more than [`max_batch`](crate::Builder::max_batch) allows. The
    /// loader is called once for those of them that are missing.
    ///
    /// Who asks for a key while it is being loaded waits for its whole batch.
    ///
    /// # Panics
    ///
    /// If it is 0: that would load nothing.
    #[track_caller]
    pub fn batch(mut self, keys: usize) -> Self {
        assert!(keys > 0, "`batch(0)` would load nothing: give at least 1, or leave it out");
        self.batch = keys;
        self
    }

    /// How many keys the loader is given in a second, at most. Keys that it is not asked for do not count. By default
    /// without limit.
    ///
    /// It is kept by rests between batches: at 10,000 keys a second a batch may begin 50 ms after one of 500 keys did. What a
    /// slow loader has missed is not caught up with, but for one batch that comes early. Threads sleep; tasks have to be told
    /// how, by [`sleep_with`](Self::sleep_with).
    ///
    /// # Panics
    ///
    /// If it is 0: that would never end.
    #[track_caller]
    pub fn rate(mut self, keys_per_second: u64) -> Self {
        assert!(keys_per_second > 0, "`rate(0)` would never end: give at least 1, or leave it out");
        self.rate = Some(keys_per_second);
        self
    }

    /// How a task rests where there is a [`rate`](Self::rate): what the executor has for that. Threads have no use for it.
    pub fn sleep_with<F>(mut self, mut sleep: impl FnMut(Duration) -> F + Send + 'a) -> Self
    where
        F: Future<Output = ()> + Send + 'a,
    {
        self.sleep = Some(Box::new(move |time| Box::pin(sleep(time))));
        self
    }

    /// Whether it stops when the cache [is full](WarmProgress::is_full), which it does if nothing else is said: to go on would
    /// mostly push out what has just been warmed up.
    pub fn stop_when_full(mut self, stop: bool) -> Self {
        self.stops_when_full = stop;
        self
    }

    /// What is called after each batch. With [`ControlFlow::Break`] the warm-up ends.
    pub fn progress(mut self, call: impl FnMut(&WarmProgress) -> ControlFlow<()> + Send + 'a) -> Self {
        self.progress = Some(Box::new(call));
        self
    }
}

impl Default for WarmUp<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WarmUp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WarmUp")
            .field("batch", &self.batch)
            .field("rate", &self.rate)
            .field("stop_when_full", &self.stops_when_full)
            .finish_non_exhaustive()
    }
}

/// How far a warm-up has come: [`Cache::warm`].
///
/// Each key that was taken from the iterator is one of `loaded`, `present` and `absent`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WarmProgress {
    /// Keys that were taken from the iterator, in batches that are done.
    pub seen: u64,
    /// Keys that the loader brought a value for. The cache may not have kept it: if the key was made invalid meanwhile, or the
    /// entry was evicted or refused.
    pub loaded: u64,
    /// Keys that were there, or were being loaded by others, or came twice in a batch.
    pub present: u64,
    /// Keys that the loader brought nothing for.
    pub absent: u64,
    /// The time since the beginning.
    pub elapsed: Duration,
    /// Whether the cache is full: during the last batch half as many entries or more were evicted or refused as were loaded.
    /// Where there are several [segments](crate::Builder::segments) some of them are full before others.
    pub is_full: bool,
}

/// A warm-up whose loader failed: [`Cache::try_warm`].
#[derive(Debug)]
#[non_exhaustive]
pub struct WarmError<E> {
    /// How far it came. The batch that failed does not count, so that who passes over [`seen`](WarmProgress::seen) keys goes on
    /// with that one.
    pub progress: WarmProgress,
    /// Why it stopped.
    pub error: LoadError<E>,
}

impl<E> fmt::Display for WarmError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "warm-up stopped after {} keys", self.progress.seen)
    }
}

impl<E: Error + 'static> Error for WarmError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Loads many keys before anybody asks for them, batch by batch, and says what became of them.
    ///
    /// The keys may be endless: a batch is taken from the iterator when its turn has come. Those that are missing, and that
    /// nobody else is loading, are given to `loader` as by [`get_all_or_load`](Self::get_all_or_load): who asks for one of
    /// them meanwhile waits for it, further keys that the loader gives are kept, too, and what is made invalid meanwhile is
    /// not kept. For keys that others are loading it does not wait.
    ///
    /// It ends with the keys, when the [callback](WarmUp::progress) says so, or when the cache
    /// [is full](WarmUp::stop_when_full).
    ///
    /// It is no traffic: neither hits nor misses are counted, and entries that are there are not read, so that neither the
    /// policy nor their time to idle nor [`max_reads`](crate::Builder::max_reads) notices. What it loads comes in as by any
    /// load, and the calls of the loader are counted as such. Entries that are [due](crate#time) stay as they are; those
    /// that are stale are loaded.
    ///
    /// ```
    /// use larder::{Cache, WarmUp};
    /// use std::ops::ControlFlow;
    ///
    /// let cache = Cache::new(10_000);
    /// cache.insert(3, "three".to_owned());
    /// let how = WarmUp::new().batch(100).rate(100_000).progress(|so_far| {
    ///     println!("{} keys, {:.1?}", so_far.seen, so_far.elapsed);
    ///     ControlFlow::Continue(())
    /// });
    /// let done = cache.warm(0..1_000, how, |missing: &[u32]| {
    ///     missing.iter().map(|&key| (key, key.to_string())).collect::<Vec<_>>()
    /// });
    /// assert_eq!((done.seen, done.loaded, done.present), (1_000, 999, 1));
    /// assert_eq!(cache.get(&7).as_deref(), Some("7"));
    /// ```
    ///
    /// It runs in the thread that calls it. To have it run beside others, start one:
    ///
    /// ```
    /// use larder::{Cache, WarmUp};
    /// use std::thread;
    ///
    /// let cache: Cache<u32, u32> = Cache::new(10_000);
    /// let warmed = cache.clone();
    /// let warming = thread::spawn(move || {
    ///     warmed.warm(0..1_000, WarmUp::new(), |missing| missing.iter().map(|&key| (key, key)).collect::<Vec<_>>())
    /// });
    /// // Serve here; what is asked for before it is warm is loaded at once, and once.
    /// assert_eq!(cache.get_or_load(999, |&key| key), 999);
    /// warming.join().unwrap();
    /// ```
    ///
    /// # Panics
    ///
    /// If the loader or the callback does, or if a loader asks for keys that it is loading itself. What was loaded until then is
    /// kept, and nobody is left waiting.
    pub fn warm<I>(
        &self,
        keys: impl IntoIterator<Item = K>,
        how: WarmUp<'_>,
        mut loader: impl FnMut(&[K]) -> I,
    ) -> WarmProgress
    where
        I: IntoIterator<Item = (K, V)>,
    {
        certain(self.warm_up(keys, how, thread::sleep, |keys| Ok(loader(keys))))
    }

    /// As [`warm`](Self::warm), with a loader that may fail: then it stops.
    ///
    /// ```
    /// use larder::{Cache, LoadError, WarmUp};
    ///
    /// let cache = Cache::new(1_000);
    /// let load = |missing: &[u32]| {
    ///     if missing.contains(&25) { Err("no connection") } else { Ok(missing.iter().map(|&key| (key, key)).collect::<Vec<_>>()) }
    /// };
    /// let stopped = cache.try_warm(0..100, WarmUp::new().batch(10), load).unwrap_err();
    /// assert_eq!(stopped.to_string(), "warm-up stopped after 20 keys");
    /// assert!(matches!(stopped.error, LoadError::Failed(error) if *error == "no connection"));
    /// assert_eq!((stopped.progress.seen, cache.len()), (20, 20));
    /// ```
    ///
    /// # Errors
    ///
    /// [`WarmError`] has the first error that the loader gave, or [`LoadError::Recursive`] where `warm` panics because a loader
    /// asks for its own keys, and says how far it came. Old values that are [still good](crate::Builder::stale_if_error)
    /// do not hide an error here.
    ///
    /// # Panics
    ///
    /// If the loader or the callback does.
    pub fn try_warm<I, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        how: WarmUp<'_>,
        loader: impl FnMut(&[K]) -> Result<I, E>,
    ) -> Result<WarmProgress, WarmError<E>>
    where
        I: IntoIterator<Item = (K, V)>,
        E: Send + Sync + 'static,
    {
        self.warm_up(keys, how, thread::sleep, loader)
    }

    /// As [`warm`](Self::warm), for a task, whose loader gets the keys to keep: see
    /// [`get_or_load_async`](Self::get_or_load_async).
    ///
    /// If the future is dropped, the batches until then are kept.
    ///
    /// ```
    /// use larder::{Cache, WarmUp};
    /// # mod tokio { pub mod time { pub async fn sleep(_: std::time::Duration) {} } }
    ///
    /// async fn warm_up(cache: &Cache<u32, String>) {
    ///     let how = WarmUp::new().rate(10_000).sleep_with(tokio::time::sleep);
    ///     let load = async |missing: Vec<u32>| {
    ///         missing.into_iter().map(|key| (key, key.to_string())).collect::<Vec<_>>()
    ///     };
    ///     cache.warm_async(0..1_000, how, load).await;
    /// }
    /// # fn sent(cache: Cache<u32, String>) -> impl Send { async move { warm_up(&cache).await } }
    /// ```
    ///
    /// # Panics
    ///
    /// As `warm`, and if there is a [`rate`](WarmUp::rate) but nothing to [sleep with](WarmUp::sleep_with).
    pub async fn warm_async<I, F>(
        &self,
        keys: impl IntoIterator<Item = K>,
        how: WarmUp<'_>,
        loader: impl FnMut(Vec<K>) -> F,
    ) -> WarmProgress
    where
        I: IntoIterator<Item = (K, V)>,
        F: Future<Output = I>,
    {
        certain(self.warm_up_async(keys, how, loader, Ok).await)
    }

    /// As [`try_warm`](Self::try_warm), for a task: see [`warm_async`](Self::warm_async).
    ///
    /// # Errors
    ///
    /// As `try_warm`.
    ///
    /// # Panics
    ///
    /// If the loader or the callback does, and if there is a [`rate`](WarmUp::rate) but nothing to
    /// [sleep with](WarmUp::sleep_with).
    pub async fn try_warm_async<I, E, F>(
        &self,
        keys: impl IntoIterator<Item = K>,
        how: WarmUp<'_>,
        loader: impl FnMut(Vec<K>) -> F,
    ) -> Result<WarmProgress, WarmError<E>>
    where
        I: IntoIterator<Item = (K, V)>,
        E: Send + Sync + 'static,
        F: Future<Output = Result<I, E>>,
    {
        self.warm_up_async(keys, how, loader, |result| result).await
    }

    fn warm_up<I, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        how: WarmUp<'_>,
        mut sleep: impl FnMut(Duration),
        mut loader: impl FnMut(&[K]) -> Result<I, E>,
    ) -> Result<WarmProgress, WarmError<E>>
    where
        I: IntoIterator<Item = (K, V)>,
        E: Send + Sync + 'static,
    {
        let mut warming = Warming::new(self, how);
        let mut keys = keys.into_iter().fuse();
        while let Some(missing) = warming.draw(&mut keys) {
            if let Some(rest) = warming.rest(missing.len()) {
                sleep(rest);
            }
            let mut many = warming.board(missing)?;
            if let Some(batch) = many.next_batch() {
                let ids = many.ids(&batch);
                leading(&ids, || {
                    let loaded = loader(&batch.keys).map(collected);
                    warming.land(&mut many, batch, loaded)
                })?;
            }
            if warming.finish_batch().is_break() {
                break;
            }
        }
        Ok(warming.so_far())
    }

    async fn warm_up_async<T, I, E, F>(
        &self,
        keys: impl IntoIterator<Item = K>,
        mut how: WarmUp<'_>,
        mut loader: impl FnMut(Vec<K>) -> F,
        mut result: impl FnMut(T) -> Result<I, E>,
    ) -> Result<WarmProgress, WarmError<E>>
    where
        I: IntoIterator<Item = (K, V)>,
        E: Send + Sync + 'static,
        F: Future<Output = T>,
    {
        let mut sleep = how.sleep.take();
        assert!(
            how.rate.is_none() || sleep.is_some(),
            "a task cannot keep a `rate` without `sleep_with`: it must not block its thread"
        );
        let mut warming = Warming::new(self, how);
        let mut keys = keys.into_iter().fuse();
        while let Some(missing) = warming.draw(&mut keys) {
            if let (Some(rest), Some(sleep)) = (warming.rest(missing.len()), &mut sleep) {
                sleep(rest).await;
            }
            let mut many = warming.board(missing)?;
            if let Some(batch) = many.next_batch() {
                let ids = many.ids(&batch);
                let loading = Box::pin(leading(&ids, || loader(batch.keys.clone())));
                let loaded = leading_async(&ids, loading).await;
                leading(&ids, || warming.land(&mut many, batch, result(loaded).map(collected)))?;
            }
            if warming.finish_batch().is_break() {
                break;
            }
        }
        Ok(warming.so_far())
    }
}

/// Of a loader that cannot fail.
fn certain(warmed: Result<WarmProgress, WarmError<std::convert::Infallible>>) -> WarmProgress {
    sure(warmed.map_err(|stopped| stopped.error))
}

/// A warm-up on its way.
struct Warming<'a, 'w, K, V, S> {
    cache: &'a Cache<K, V, S>,
    how: WarmUp<'w>,
    started: Instant,
    pace: Option<Pace>,
    /// Up to the last batch that is done.
    progress: WarmProgress,
    current: Current,
}

/// The batch that is being loaded.
#[derive(Default)]
struct Current {
    drawn: u64,
    /// Those for which the loader is asked.
    asked: u64,
    loaded: u64,
    /// Entries that had been evicted or refused before.
    turned_out: u64,
}

impl<'a, K, V, S> Warming<'a, '_, K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Takes a batch of keys, and gives those that are missing; none at the end.
    fn draw(&mut self, keys: &mut impl Iterator<Item = K>) -> Option<Vec<K>> {
        let most = self.how.batch.min(self.cache.inner.loading.most_at_once);
        let mut drawn = 0;
        let keys = keys.take(most).inspect(|_| drawn += 1);
        let missing = keys.filter(|key| !self.cache.contains_key(key)).collect();
        self.current = Current { drawn, ..Current::default() };
        (drawn > 0).then_some(missing)
    }

    /// Leads the load of what is still missing.
    fn board<E>(&mut self, missing: Vec<K>) -> Result<Many<'a, K, V, S>, WarmError<E>> {
        let mut led = Vec::with_capacity(missing.len());
        for key in missing {
            let hash = self.cache.inner.hash(&key);
            let place = self.cache.board(hash, &key, &mut Want::Missing);
            match place.map_err(|error| self.stopped(error))? {
                Place::Leads(number, given) => {
                    led.push((key, Lead::new(self.cache, hash, number, false, given)));
                }
                Place::Led(lead) => led.push((key, *lead)),
                // Somebody has brought it meanwhile (then this was a read, but of an entry just written), or is about to; or it
                // came twice.
                Place::There(_) | Place::Joins(_) => {}
            }
        }
        self.current.asked = led.len() as u64;
        self.current.turned_out = self.turned_out();
        Ok(Many::of(self.cache, led))
    }

    /// What the loader gave goes where it belongs.
    fn land<E: Send + Sync + 'static>(
        &mut self,
        many: &mut Many<'a, K, V, S>,
        batch: Batch<'a, K, V, S>,
        loaded: Result<Vec<(K, V)>, E>,
    ) -> Result<(), WarmError<E>> {
        let landed = match loaded {
            Ok(values) => many.land(batch, Ok(values)),
            Err(error) => Err(batch.fail(error)),
        };
        self.current.loaded = many.found.len() as u64;
        landed.map_err(|error| self.stopped(error))
    }

    fn turned_out(&self) -> u64 {
        let stats = self.cache.stats();
        stats.eviction_count() + stats.rejection_count()
    }

    /// Adds the batch to what is done. Says whether to go on.
    fn finish_batch(&mut self) -> ControlFlow<()> {
        let Current { drawn, asked, loaded, turned_out } = self.current;
        let progress = &mut self.progress;
        progress.seen += drawn;
        progress.loaded += loaded;
        progress.present += drawn - asked;
        progress.absent += asked - loaded;
        self.progress.is_full = loaded > 0 && is_full(loaded, self.turned_out() - turned_out);
        self.progress = self.so_far();
        if let Some(call) = &mut self.how.progress {
            call(&self.progress)?;
        }
        if self.progress.is_full && self.how.stops_when_full {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

impl<'a, 'w, K, V, S> Warming<'a, 'w, K, V, S> {
    fn new(cache: &'a Cache<K, V, S>, how: WarmUp<'w>) -> Self {
        let pace = how.rate.map(Pace::new);
        let (progress, current) = Default::default();
        Self { cache, how, started: Instant::now(), pace, progress, current }
    }

    /// How long to rest before the loader is asked for so many keys.
    fn rest(&mut self, keys: usize) -> Option<Duration> {
        if keys == 0 {
            return None;
        }
        let rest = self.pace.as_mut()?.turn(self.started.elapsed(), keys as u64);
        (!rest.is_zero()).then_some(rest)
    }

    fn so_far(&self) -> WarmProgress {
        WarmProgress { elapsed: self.started.elapsed(), ..self.progress }
    }

    fn stopped<E>(&self, error: LoadError<E>) -> WarmError<E> {
        WarmError { progress: self.so_far(), error }
    }
}

/// Whether a cache is full that turned so many entries out while others were loaded. Not with the first of them: of several
/// segments one is full before the others are.
fn is_full(loaded: u64, turned_out: u64) -> bool {
    turned_out >= loaded.div_ceil(2)
}

/// When batches may begin. All times are since the warm-up began.
struct Pace {
    rate: u64,
    /// When the next batch may.
    next: Duration,
}

impl Pace {
    fn new(rate: u64) -> Self {
        Self { rate, next: Duration::ZERO }
    }

    /// How long a batch has to wait at `now`. One that is late lets the next begin early, up to at once: so whoever sleeps a
    /// little too long keeps the rate, and whoever is slow does not run after it.
    fn turn(&mut self, now: Duration, keys: u64) -> Duration {
        let rest = self.next.saturating_sub(now);
        self.next = self.next.saturating_add(self.span(keys)).max(now);
        rest
    }

    /// How long so many keys take.
    fn span(&self, keys: u64) -> Duration {
        let rest = u128::from(keys % self.rate) * 1_000_000_000;
        let nanos = rest.div_ceil(u128::from(self.rate)) as u64;
        Duration::from_secs(keys / self.rate).saturating_add(Duration::from_nanos(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn turns(rate: u64, keys: u64, begins: &[u32]) -> Vec<u128> {
        let mut pace = Pace::new(rate);
        begins.iter().map(|&now| pace.turn(MS * now, keys).as_millis()).collect()
    }

    #[test]
    fn batches_wait_for_their_turn() {
        // Each asks as soon as the one before has slept; loading takes no time.
        assert_eq!(turns(10_000, 500, &[0, 0, 50, 100, 150]), [0, 50, 50, 50, 50]);
        // Loading takes 20 ms.
        assert_eq!(turns(10_000, 500, &[0, 20, 70, 120]), [0, 30, 30, 30]);
        // Sleep takes 10 ms longer than it should: the rate is kept.
        assert_eq!(turns(10_000, 500, &[0, 0, 60, 110, 160]), [0, 50, 40, 40, 40]);
    }

    #[test]
    fn a_slow_loader_is_one_batch_ahead_at_most() {
        assert_eq!(turns(10_000, 500, &[0, 60, 120, 180]), [0, 0, 0, 0]);
        // After a stall of a second: one that is late, one early, then in turns.
        assert_eq!(turns(10_000, 500, &[0, 1_000, 1_000, 1_000, 1_050]), [0, 0, 0, 50, 50]);
    }

    #[test]
    fn odd_rates() {
        assert_eq!(Pace::new(3).span(1), Duration::from_nanos(333_333_334));
        assert_eq!(Pace::new(3).span(7), Duration::from_nanos(2_333_333_334));
        assert_eq!(Pace::new(u64::MAX).span(u64::MAX), Duration::from_secs(1));
        assert_eq!(Pace::new(u64::MAX).span(1), Duration::from_nanos(1));
        assert_eq!(Pace::new(1).span(0), Duration::ZERO);
        let mut pace = Pace::new(1);
        for _ in 0..3 {
            pace.turn(Duration::ZERO, u64::MAX);
        }
        assert_eq!(pace.next, Duration::MAX);
    }

    #[test]
    fn full_is_when_half_of_it_only_takes_the_place_of_others() {
        assert!(!is_full(10, 4) && is_full(10, 5) && is_full(1, 1) && !is_full(1, 0));
    }

    /// Sleep comes before a batch for which the loader is asked, never before the first, and while nobody waits.
    #[test]
    fn a_thread_rests_between_batches() {
        let cache: Cache<u64, u64> = Cache::new(100);
        (10..20).for_each(|key| cache.insert(key, key));
        let mut rests = Vec::new();
        let sleep = |rest| {
            // What would be warmed up next can be had at once.
            assert_eq!(cache.get_or_load(20, |_| 1), 1);
            rests.push(rest);
        };
        // So slow that loading takes no time beside it.
        let how = WarmUp::new().batch(10).rate(1);
        let load = |keys: &[u64]| Ok(keys.iter().map(|&key| (key, 0)).collect::<Vec<_>>());
        let done = certain(cache.warm_up(0..40, how, sleep, load));
        assert_eq!((done.loaded, done.present), (29, 11));
        // Nobody slept indeed: the last one waits for all before it. The batch that is there takes no time.
        let seconds = Duration::from_secs;
        assert!(rests.len() == 2 && rests[0] <= seconds(10), "{rests:?}");
        assert!(rests[0] < rests[1] && rests[1] <= seconds(20), "{rests:?}");
    }
}
