//! Loading: a value that is missing is made by one caller, and the others who want it wait for that.
//!
//! # A flight
//!
//! Who misses a key *boards*: under the segment's lock it finds the entry after all, joins the flight that brings it, or
//! registers a load and leads it. The leader runs its loader without any lock. What it brings *lands*: in the cache, if
//! the load is not void, and in any case with those who wait.
//!
//! ```text
//! get ── miss ──> board ──> there: done
//!                   │
//!                   ├─────> leads ──> loader ──> value ──> into the cache, if not made void ─────> to all who wait
//!                   │                   │
//!                   │                   ├──> error ──────> the load is out ───────────────────────> to all who wait
//!                   │                   └──> panic, drop > the load is out ───────> all who wait board again
//!                   └─────> joins ──> waits ──> value or error: done
//!                                       └─────> nothing, or its time is over: boards again
//! ```
//!
//! Whoever changes the key or makes it invalid makes the load void (`segment/loads.rs`), so that who comes later begins
//! a new one, and what the old one brings is given to those who wait for it but not kept.
//!
//! When a tag is invalidated nobody knows whether what is being loaded will carry it. So the flight stays, and what it
//! brings is looked at: by the cache, which does not keep it if it does, and by those who joined after the invalidation, who
//! then board again.
//!
//! Threads and tasks differ in how they wait and run their loaders, in nothing else.

mod led;
mod many;
mod renewal;
mod warm;

pub use warm::{WarmError, WarmProgress, WarmUp};

use crate::cache::{Cache, Stored};
use crate::clock::Moment;
use crate::error::LoadError;
use crate::options::InsertOptions;
use crate::segment::{Boarding, Claim, Ended, Flight, Landing, LoadId, Offer, Reason, Seen};
use crate::tag::Tag;
use std::convert::Infallible;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Instant;

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// The value of `key`, cloned; what `loader` gives for it, if there is none, which is then kept.
    ///
    /// Of all who want a missing key at the same time one runs its loader, and the others wait for its value, threads and
    /// tasks alike. No lock is held meanwhile. If the loader panics, so does its caller, and one of those who wait runs its
    /// own. When the key is written or made invalid while it is being loaded, those who wait get the loaded value, but the
    /// cache does not keep it, and who comes later loads anew: see the [guarantees](crate#guarantees). Where the builder was told
    /// to [`refresh_after_write`](crate::Builder::refresh_after_write) or the like, a value that is there may be loaded anew.
    ///
    /// Do not call [`get`](Self::get) first: a request that misses then counts two misses in the [statistics](crate::Stats), and
    /// one that hits never refreshes an entry that is due. Only where an owned key costs too much is `get(&borrowed)` worth both.
    ///
    /// To remember that there is *no* value, let `V` be an `Option`:
    ///
    /// ```
    /// use larder::Cache;
    ///
    /// let users: Cache<u32, Option<&str>> = Cache::new(1_000);
    /// let find = |id: &u32| if *id == 7 { Some("Ada") } else { None };
    /// assert_eq!(users.get_or_load(7, find), Some("Ada"));
    /// assert_eq!(users.get_or_load(8, find), None);
    /// // Nobody is asked for the unknown user again.
    /// assert_eq!(users.get_or_load(8, |_| unreachable!()), None);
    /// ```
    ///
    /// # Panics
    ///
    /// If the loader panics, or if to wait for the key would be to wait for ever: when the loader asks for `key` itself, or
    /// for one whose loader waits for this one, in the same thread or, as long as all of them are threads, in others. (Tasks
    /// that wait for each other's keys are not noticed: see [`load_timeout`](crate::Builder::load_timeout).)
    ///
    /// What a loader runs while it blocks counts as its own work: a loader that blocks on an executor, which then polls
    /// another task that wants `key`, makes that task panic, since the loader might be waiting for just that task.
    pub fn get_or_load(&self, key: K, loader: impl FnOnce(&K) -> V) -> V {
        let (hash, there) = self.look(&key);
        match there {
            Ok(value) => value,
            Err(want) => sure(self.load(hash, key, want, |key| Ok(loader(key)))),
        }
    }

    /// As [`get_or_load`](Self::get_or_load), with a loader that may fail.
    ///
    /// An error is not kept: the next caller loads again. It goes to all who wait for it in a call with the same type of
    /// error; one who waits with another type, or cannot fail, runs its own loader. Where there is an old value that is
    /// [still good](crate::Builder::stale_if_error), callers get that instead.
    ///
    /// ```
    /// use larder::{Cache, LoadError};
    /// use std::error::Error;
    ///
    /// let ages: Cache<&str, u32> = Cache::new(100);
    /// let error = ages.try_get_or_load("Ada", |_| "many".parse::<u32>()).unwrap_err();
    /// assert_eq!(error.to_string(), "loading failed");
    /// assert_eq!(error.source().unwrap().to_string(), "invalid digit found in string");
    /// assert_eq!(ages.try_get_or_load("Ada", |_| "36".parse::<u32>()).unwrap(), 36);
    /// # assert!(matches!(error, LoadError::Failed(_)));
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoadError::Failed`] with what the loader gave, and [`LoadError::Recursive`] where `get_or_load` panics because a
    /// loader would wait for itself.
    ///
    /// # Panics
    ///
    /// If the loader does.
    pub fn try_get_or_load<E: Send + Sync + 'static>(
        &self,
        key: K,
        loader: impl FnOnce(&K) -> Result<V, E>,
    ) -> Result<V, LoadError<E>> {
        let (hash, there) = self.look(&key);
        match there {
            Ok(value) => Ok(value),
            Err(want) => self.load(hash, key, want, loader),
        }
    }

    /// As [`get_or_load`](Self::get_or_load), for a task.
    ///
    /// Needs no executor, and runs on any. The future is `Send` if the loader's is, and may be dropped at any point: then
    /// one of those who wait runs its own loader. One that leads and is neither polled nor dropped keeps the others
    /// waiting, or the entry from being refreshed, unless there is a [`load_timeout`](crate::Builder::load_timeout); so does one
    /// whose own `Drop` asks for the key, for ever.
    ///
    /// The loader's future cannot borrow the key: take what it needs out first, as in `|&key| async move { .. }`.
    ///
    /// # Panics
    ///
    /// As `get_or_load`.
    pub async fn get_or_load_async<F>(&self, key: K, loader: impl FnOnce(&K) -> F) -> V
    where
        F: Future<Output = V>,
    {
        let (hash, there) = self.look(&key);
        match there {
            Ok(value) => value,
            Err(want) => sure(self.load_async(hash, key, want, loader, Ok).await),
        }
    }

    /// As [`try_get_or_load`](Self::try_get_or_load), for a task: see [`get_or_load_async`](Self::get_or_load_async).
    ///
    /// # Errors
    ///
    /// As `try_get_or_load`.
    ///
    /// # Panics
    ///
    /// If the loader does.
    pub async fn try_get_or_load_async<E, F>(
        &self,
        key: K,
        loader: impl FnOnce(&K) -> F,
    ) -> Result<V, LoadError<E>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>>,
    {
        let (hash, there) = self.look(&key);
        match there {
            Ok(value) => Ok(value),
            Err(want) => self.load_async(hash, key, want, loader, |result| result).await,
        }
    }

    /// Loads the value of `key` anew, whether it is there or not, and gives it. Readers see the one before meanwhile.
    ///
    /// The new value keeps what its entry was given by options: see [`InsertOptions`](crate::InsertOptions#updates).
    ///
    /// Joins a load of the key that is under way, which may have read what was there before you called: where that matters,
    /// load elsewhere and [`insert`](Self::insert). A write or an invalidation of the key meanwhile has the last word: then the
    /// loaded value is given but not kept. Otherwise as [`get_or_load`](Self::get_or_load).
    ///
    /// ```
    /// let cache = larder::Cache::new(10);
    /// cache.insert("model", 1);
    /// let new = cache.refresh("model", |key| {
    ///     assert_eq!(cache.get(key), Some(1));
    ///     2
    /// });
    /// assert_eq!((new, cache.get("model")), (2, Some(2)));
    /// ```
    ///
    /// # Panics
    ///
    /// As `get_or_load`.
    pub fn refresh(&self, key: K, loader: impl FnOnce(&K) -> V) -> V {
        sure(self.load(self.inner.hash(&key), key, Want::Anew, |key| Ok(loader(key))))
    }

    /// As [`refresh`](Self::refresh), with a loader that may fail; then what was there stays.
    ///
    /// # Errors
    ///
    /// As [`try_get_or_load`](Self::try_get_or_load).
    ///
    /// # Panics
    ///
    /// If the loader does.
    pub fn try_refresh<E: Send + Sync + 'static>(
        &self,
        key: K,
        loader: impl FnOnce(&K) -> Result<V, E>,
    ) -> Result<V, LoadError<E>> {
        self.load(self.inner.hash(&key), key, Want::Anew, loader)
    }

    /// As [`refresh`](Self::refresh), for a task: see [`get_or_load_async`](Self::get_or_load_async).
    ///
    /// # Panics
    ///
    /// As `get_or_load`.
    pub async fn refresh_async<F>(&self, key: K, loader: impl FnOnce(&K) -> F) -> V
    where
        F: Future<Output = V>,
    {
        sure(self.load_async(self.inner.hash(&key), key, Want::Anew, loader, Ok).await)
    }

    /// As [`try_refresh`](Self::try_refresh), for a task: see [`get_or_load_async`](Self::get_or_load_async).
    ///
    /// # Errors
    ///
    /// As `try_get_or_load`.
    ///
    /// # Panics
    ///
    /// If the loader does.
    pub async fn try_refresh_async<E, F>(
        &self,
        key: K,
        loader: impl FnOnce(&K) -> F,
    ) -> Result<V, LoadError<E>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>>,
    {
        self.load_async(self.inner.hash(&key), key, Want::Anew, loader, |result| result).await
    }

    /// As [`get`](Self::get), with the hash for what follows, and what that is.
    #[inline]
    fn look(&self, key: &K) -> (u64, Result<V, Want<'_, K, V, S>>) {
        let (hash, segment) = self.inner.locate(key);
        if self.inner.is_soft {
            return (hash, self.look_softly(hash, segment, key));
        }
        (hash, self.with_at((hash, segment), key, V::clone).ok_or(Want::Missing))
    }

    #[inline(never)]
    fn load<'a, E: Send + Sync + 'static>(
        &'a self,
        hash: u64,
        key: K,
        mut want: Want<'a, K, V, S>,
        loader: impl FnOnce(&K) -> Result<V, E>,
    ) -> Result<V, LoadError<E>> {
        let mut lead = loop {
            match self.board(hash, &key, &mut want)? {
                Place::There(value) => return Ok(value),
                Place::Leads(number, given) => break Lead::new(self, hash, number, want.is_refresh(), given),
                Place::Led(lead) => break *lead,
                Place::Joins(joined) => {
                    self.inner.count_wait();
                    let landing = self.wait_for(&joined, self.deadline())?;
                    if let Some(arrived) = self.arrive_softly(hash, &key, &joined, landing, &want) {
                        return arrived;
                    }
                }
            }
        };
        let loaded = led::leading(&[lead.number], || lead.land(&key, loader(&key)));
        loaded.or_else(|error| self.rescue(hash, &key, &want, true).ok_or(error))
    }

    #[allow(clippy::manual_async_fn, reason = "the future of an `async fn` keeps its arguments twice")]
    fn load_async<'a, T, E, F>(
        &'a self,
        hash: u64,
        key: K,
        mut want: Want<'a, K, V, S>,
        loader: impl FnOnce(&K) -> F,
        result: impl FnOnce(T) -> Result<V, E>,
    ) -> impl Future<Output = Result<V, LoadError<E>>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = T>,
    {
        async move {
            let mut lead = loop {
                match self.board(hash, &key, &mut want)? {
                    Place::There(value) => return Ok(value),
                    Place::Leads(number, given) => {
                        break Lead::new(self, hash, number, want.is_refresh(), given);
                    }
                    Place::Led(lead) => break *lead,
                    Place::Joins(joined) => {
                        self.inner.count_wait();
                        let landing = joined.flight.wait.wait(self.deadline()).await;
                        if let Some(arrived) = self.arrive_softly(hash, &key, &joined, landing, &want) {
                            return arrived;
                        }
                    }
                }
            };
            let led = [lead.number];
            // Boxed, so that the future of a load, which most often is one of a hit, is not several times as large as the
            // loader's.
            let loading = Box::pin(led::leading(&led, || loader(&key)));
            let loaded = led::leading_async(&led, loading).await;
            let loaded = led::leading(&led, || lead.land(&key, result(loaded)));
            loaded.or_else(|error| self.rescue(hash, &key, &want, true).ok_or(error))
        }
    }

    fn deadline(&self) -> Option<Instant> {
        // A time that no clock will show is none.
        Instant::now().checked_add(self.inner.loading.timeout?)
    }

    /// Blocks until a flight of others has landed; `None` if that takes too long.
    fn wait_for<'j, E>(
        &self,
        joined: &'j Joined<V>,
        deadline: Option<Instant>,
    ) -> Result<Option<&'j Landing<V>>, LoadError<E>> {
        let _blocked = led::block_on(joined.flight.number).ok_or(LoadError::Recursive)?;
        Ok(joined.flight.wait.block(deadline))
    }

    fn board<'a, E>(
        &'a self,
        hash: u64,
        key: &K,
        want: &mut Want<'a, K, V, S>,
    ) -> Result<Place<'a, K, V, S>, LoadError<E>> {
        if let Want::Renewal(lead) = want
            && let Some(lead) = lead.take()
        {
            return Ok(Place::Led(lead));
        }
        let reason = if want.is_refresh() { Reason::Anew } else { Reason::Missing };
        self.inner.begin_loading();
        let segment = self.inner.segment(hash);
        loop {
            return match segment.board(hash, key.clone(), reason) {
                Boarding::There => {
                    let found = segment.find_to_read(hash, |other| other == key);
                    let Some(found) = found.filter(|found| self.inner.note_read(segment, found)) else {
                        // It has left again.
                        continue;
                    };
                    Ok(Place::There(found.entry().1.clone()))
                }
                Boarding::Joins(flight, _) if led::is_led_here(flight.number) => Err(LoadError::Recursive),
                Boarding::Joins(flight, too_old) => Ok(Place::Joins(Joined { flight, too_old })),
                Boarding::Leads(number, given) => Ok(Place::Leads(number, given)),
            };
        }
    }

    /// What the end of another's flight means for one who waited; `None` if it has to board again.
    fn arrive<E: Send + Sync + 'static>(
        &self,
        hash: u64,
        key: &K,
        Joined { flight, too_old }: &Joined<V>,
        landing: Option<&Landing<V>>,
    ) -> Option<Result<V, LoadError<E>>> {
        match landing {
            Some(Landing::Loaded(value)) => {
                let carries = |tag| too_old.contains(tag);
                let is_too_old = !too_old.is_empty() && self.inner.tags_of(key, value).iter().any(carries);
                (!is_too_old).then(|| Ok(value.clone()))
            }
            Some(Landing::Failed(error)) => {
                Arc::clone(error).downcast().ok().map(|error| Err(LoadError::Failed(error)))
            }
            Some(Landing::Abandoned | Landing::Absent) => None,
            // It took too long: nobody else is to wait for it.
            None => {
                self.inner.segment(hash).void_load(hash, flight.number);
                None
            }
        }
    }
}

/// Of a loader that cannot fail.
fn sure<V>(loaded: Result<V, LoadError<Infallible>>) -> V {
    loaded.unwrap_or_else(|error| panic!("{error}"))
}

/// What a caller wants who did not find all it wanted.
enum Want<'a, K: 'static, V: 'static, S> {
    Missing,
    /// A new value, whether there is one or not.
    Anew,
    /// A new value in place of one that is due, in a load that is led already. Taken when it is boarded.
    Renewal(Option<Box<Lead<'a, K, V, S>>>),
}

enum Place<'a, K: 'static, V: 'static, S> {
    There(V),
    Joins(Joined<V>),
    /// The load of this number, of a value that has these options.
    Leads(u64, Option<Box<InsertOptions>>),
    Led(Box<Lead<'a, K, V, S>>),
}

impl<K, V, S> Want<'_, K, V, S> {
    fn is_refresh(&self) -> bool {
        matches!(self, Want::Anew)
    }
}

/// What becomes of a load.
#[derive(Clone, Copy)]
enum Fate {
    /// There is a new value, and what was there before has gone.
    Kept,
    /// There is a new value for those who wait.
    NotKept,
    Failed,
    /// It was dropped, or something panicked.
    GivenUp,
}

/// A flight that others lead.
struct Joined<V> {
    flight: Arc<Flight<V>>,
    /// What carries one of these tags was out of date already when it was joined.
    too_old: Vec<Tag>,
}

/// A load that the owner of this leads. Dropped before it has landed, it lets those who wait go on.
struct Lead<'a, K: 'static, V: 'static, S> {
    cache: &'a Cache<K, V, S>,
    hash: u64,
    number: u64,
    /// There if it matters how long it takes.
    started: Option<Moment>,
    /// Whether it is a refresh of which it is not known yet how it ends.
    is_refresh: bool,
    /// The options that a refreshed entry was given.
    given: Option<Box<InsertOptions>>,
    /// On the entry that was found due; only a refresh has one.
    claim: Option<Claim>,
    /// What those who wait get when this is dropped.
    landing: Landing<V>,
    /// Whether those who wait are yet to be told.
    is_under_way: bool,
    /// What was registered, once it is not any more. Its key is dropped with this, when those who wait have been told: its
    /// `Drop` could panic.
    ended: Option<Ended<K, V>>,
}

impl<K, V, S> Lead<'_, K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// What the loader gave goes where it belongs. The load should still be led here: the weigher and the listener run, and
    /// may ask for keys, too.
    #[inline]
    fn land<E: Send + Sync + 'static>(&mut self, key: &K, loaded: Result<V, E>) -> Result<V, LoadError<E>> {
        let took = self.cache.inner.note_load(loaded.is_ok(), self.started);
        match loaded {
            Ok(value) => {
                self.landing = Landing::Loaded(value);
                Ok(self.land_value(key.clone(), took))
            }
            Err(error) => Err(self.land_error(Arc::new(error))),
        }
    }

    /// The value that is to land goes into the cache, if it may be kept, and to all who wait. A panic, of its `Clone`, the
    /// weigher or the listener, does not keep them from it. Loading it `took` so many nanoseconds, if that is to be kept.
    #[inline]
    fn land_value(&mut self, key: K, took: u64) -> V {
        let Landing::Loaded(value) = &self.landing else { unreachable!("nothing was loaded") };
        let mut offer = Offer::new(key, value.clone(), Seen::Loading(LoadId::Of(self.number)));
        offer.ended = Some(&mut self.ended);
        let stored = self.cache.update_at(self.hash, offer, self.given.take(), took);
        self.settle(if matches!(stored, Stored::Changed(_)) { Fate::NotKept } else { Fate::Kept });
        let flight = self.end();
        let landing = std::mem::replace(&mut self.landing, Landing::Abandoned);
        match (flight, landing) {
            (None, Landing::Loaded(value)) => value,
            (Some(flight), landing) => {
                flight.wait.land(landing);
                let Some(Landing::Loaded(value)) = flight.wait.landed() else { unreachable!("it landed") };
                value.clone()
            }
            _ => unreachable!("it was loaded"),
        }
    }
}

impl<'a, K, V, S> Lead<'a, K, V, S> {
    fn new(
        cache: &'a Cache<K, V, S>,
        hash: u64,
        number: u64,
        is_refresh: bool,
        given: Option<Box<InsertOptions>>,
    ) -> Self {
        Self {
            cache,
            hash,
            number,
            started: cache.inner.load_starts(),
            is_refresh,
            given,
            claim: None,
            landing: Landing::Abandoned,
            is_under_way: true,
            ended: None,
        }
    }

    /// What has become of it is known.
    #[inline]
    fn settle(&mut self, fate: Fate) {
        if self.is_refresh {
            self.settle_refresh(fate);
        }
    }

    #[cold]
    fn settle_refresh(&mut self, fate: Fate) {
        self.is_refresh = false;
        self.cache.inner.count_refresh(matches!(fate, Fate::Kept | Fate::NotKept));
        let segment = self.cache.inner.segment(self.hash);
        match (self.claim.take(), fate) {
            // Nobody comes any more to what was claimed.
            (None, _) | (_, Fate::Kept) => {}
            (Some(claim), Fate::NotKept | Fate::GivenUp) => segment.give_back(claim),
            (Some(claim), Fate::Failed) => segment.fail(claim),
        }
    }

    fn land_error<E: Send + Sync + 'static>(&mut self, error: Arc<E>) -> LoadError<E> {
        self.landing = Landing::Failed(error.clone());
        self.land_without_value();
        LoadError::Failed(error)
    }

    /// From now on nobody joins. Gives where those wait who have, if there are any.
    #[inline]
    fn end(&mut self) -> Option<Arc<Flight<V>>> {
        self.is_under_way = false;
        let (cache, hash, number) = (self.cache, self.hash, self.number);
        if self.ended.is_none() {
            self.ended = cache.inner.segment(hash).end_load(hash, number);
        }
        self.ended.as_mut()?.flight.take()
    }

    #[cold]
    fn land_without_value(&mut self) {
        self.settle(match self.landing {
            Landing::Loaded(_) | Landing::Abandoned => Fate::GivenUp,
            Landing::Failed(_) | Landing::Absent => Fate::Failed,
        });
        if let Some(flight) = self.end() {
            flight.wait.land(std::mem::replace(&mut self.landing, Landing::Abandoned));
        }
    }
}

impl<K, V, S> Drop for Lead<'_, K, V, S> {
    #[inline]
    fn drop(&mut self) {
        if self.is_under_way {
            self.land_without_value();
        }
    }
}
