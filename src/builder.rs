//! How a cache is set up.

use crate::cache::Cache;
use crate::clock::{Clock, nanos};
use crate::error::BuildError;
use crate::expiry::Expiry;
use crate::hash::RandomState;
use crate::inner::{Negative, Refresher, Tagger, Weigher};
use crate::parts::lists::MAX_SLOTS;
use crate::policy::EvictionPolicy;
use crate::refresh::Refresh;
use crate::removal::RemovalCause;
use crate::segment::{Delivery, Life, Listener, Plan, Rules, Segment, Soft, share, span};
use crate::table::Sizing;
use crate::tag::Tag;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

/// Entries that a segment has at least, unless the user says how many segments there are: below that a policy sees
/// too little of the traffic.
const LEAST_SHARE: u64 = 1024;
const MOST_SEGMENTS: usize = 1 << 14;

/// Builds a [`Cache`]. Made by [`Cache::builder`].
///
/// The cache owns the closures, the [`Expiry`] and the policy that it is given. One of them that used the same cache would keep
/// it alive if it held a [`Cache`]: see [`eviction_listener`](Self::eviction_listener) for how it holds a
/// [`WeakCache`](crate::WeakCache).
///
/// ```
/// use larder::{Cache, EvictionPolicy, RemovalCause};
///
/// let cache: Cache<String, Vec<u8>> = Cache::builder()
///     .name("thumbnails")
///     .max_capacity(64 << 20)
///     .weigher(|key: &String, value: &Vec<u8>| (key.len() + value.len()) as u64)
///     .max_entries(100_000)
///     .eviction_policy(EvictionPolicy::s3_fifo())
///     .eviction_listener(|key, _value, cause| {
///         if cause == RemovalCause::Size {
///             println!("{key} had to go");
///         }
///     })
///     .record_stats()
///     .build()?;
/// # Ok::<(), larder::BuildError>(())
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct Builder<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) max_capacity: Option<u64>,
    pub(crate) max_entries: Option<u64>,
    initial_capacity: usize,
    segments: Option<usize>,
    pub(crate) tagger: Option<Tagger<K, V>>,
    pub(crate) load_timeout: Option<Duration>,
    pub(crate) max_batch: usize,
    pub(crate) weigher: Option<Weigher<K, V>>,
    time_to_live: Option<Duration>,
    time_to_idle: Option<Duration>,
    time_to_live_jitter: f64,
    max_reads: Option<u64>,
    clock: Clock,
    housekeeping: Option<Duration>,
    pub(crate) expiry: Option<Arc<dyn Expiry<K, V> + Send + Sync>>,
    pub(crate) negative: Option<Negative<V>>,
    refresh_after: Option<Duration>,
    revalidate: Duration,
    on_error: Duration,
    refresh_early: f64,
    refresh_backoff: Duration,
    record_ages: bool,
    pub(crate) refresher: Option<Refresher<K, V>>,
    pub(crate) policy: EvictionPolicy,
    pub(crate) listener: Option<Listener<K, V>>,
    pub(crate) record_stats: bool,
}

impl<K, V> Default for Builder<K, V> {
    fn default() -> Self {
        Self {
            name: None,
            max_capacity: None,
            max_entries: None,
            initial_capacity: 0,
            segments: None,
            tagger: None,
            load_timeout: None,
            max_batch: usize::MAX,
            weigher: None,
            time_to_live: None,
            time_to_idle: None,
            time_to_live_jitter: 0.0,
            max_reads: None,
            clock: Clock::default(),
            housekeeping: None,
            expiry: None,
            negative: None,
            refresh_after: None,
            revalidate: Duration::ZERO,
            on_error: Duration::ZERO,
            refresh_early: 0.0,
            refresh_backoff: Duration::from_secs(1),
            record_ages: false,
            refresher: None,
            policy: EvictionPolicy::default(),
            listener: None,
            record_stats: false,
        }
    }
}

impl<K, V> Builder<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// A name for logs and metrics: [`Cache::name`].
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How much the cache holds at most: entries or, once there is a [`weigher`](Self::weigher), their total weight.
    ///
    /// The bound holds at every moment, across all threads. With 0 the cache keeps nothing.
    pub fn max_capacity(mut self, capacity: u64) -> Self {
        self.max_capacity = Some(capacity);
        self
    }

    /// How many entries the cache holds at most, beside the bound on weight.
    ///
    /// Nothing is evicted for this bound while the whole cache has a place, as for the capacity.
    ///
    /// With this bound an entry of [weight](Self::weigher) 0 takes a place, so it is evicted like any other: also in vain,
    /// when its turn comes while weight is short.
    pub fn max_entries(mut self, entries: u64) -> Self {
        self.max_entries = Some(entries);
        self
    }

    /// Entries for which the index has room from the start. It grows as needed, a few entries with each insert, so this
    /// rarely matters. It is for the index only: for the other pause of a cache that grows see
    /// [Costs](crate#costs), and [`max_entries`](Self::max_entries), which avoids it.
    ///
    /// With a [`weigher`](Self::weigher) and no `max_entries` it does matter where a few thousand entries fill the cache: it
    /// then tells how many [`segments`](Self::segments) they are enough for.
    pub fn initial_capacity(mut self, entries: usize) -> Self {
        self.initial_capacity = entries;
        self
    }

    /// Into how many parts the cache is divided, each with a lock for its writers and a policy of its own.
    ///
    /// Readers need no lock, so this is about writers only. The number is rounded up to a power of two, but there are never
    /// more segments than the bounds allow entries, or weight, so that each has a part of them: with `max_entries(3)` two. By
    /// default there are eight for each core, but with a thousand entries or more in each. [`Cache::set_capacity`] does not
    /// change their number.
    pub fn segments(mut self, segments: usize) -> Self {
        self.segments = Some(segments);
        self
    }

    /// The tags that an entry carries: what [`Cache::invalidate_tag`] removes together. Asked once for each insert, before
    /// any lock is taken, with the same promises as a weigher. A new value has its own tags, unless its entry was
    /// [given](crate::InsertOptions#updates) some. Numbers of several kinds need their kinds beside them, or they are one
    /// [`Tag`]: `("user", 7)`.
    ///
    /// ```
    /// let results = larder::Cache::builder()
    ///     .max_capacity(1_000)
    ///     .tags(|&(user, _page): &(u32, u32), _: &Vec<u64>| [format!("user:{user}")])
    ///     .build()?;
    /// results.insert((7, 1), vec![11, 12]);
    /// results.insert((7, 2), vec![13, 14]);
    /// assert_eq!(results.invalidate_tag("user:7"), 2);
    /// # Ok::<(), larder::BuildError>(())
    /// ```
    pub fn tags<I>(mut self, tags: impl Fn(&K, &V) -> I + Send + Sync + 'static) -> Self
    where
        I: IntoIterator<Item: Into<Tag>>,
    {
        self.tagger =
            Some(Arc::new(move |key, value| tags(key, value).into_iter().map(Into::into).collect()));
        self
    }

    /// How long a caller of [`get_or_load`](Cache::get_or_load) and its like waits for another one's loader. After that it
    /// runs its own, and the cache keeps nothing of what the other may still bring.
    ///
    /// The first caller who finds an entry [due](Self::refresh_after_write) for this long while another is loading it takes over
    /// from that one, too; for the next time the limit for that entry is twice as long.
    ///
    /// By default there is no limit. Needed where a loader may never end, or a future that leads may be kept without being
    /// polled or dropped. A task is woken at the limit by a thread that larder starts when it is first needed, and that ends
    /// when nothing is left to wait for.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.load_timeout = Some(timeout);
        self
    }

    /// How many keys a loader of [`get_all_or_load`](Cache::get_all_or_load) and its like gets at once; a call that misses
    /// more of them runs it several times. By default there is no limit.
    pub fn max_batch(mut self, keys: usize) -> Self {
        self.max_batch = keys;
        self
    }

    /// What an entry weighs. Asked once for each insert, before any lock is taken; a panic leaves the cache as it was.
    ///
    /// A weight may be 0: the entry then counts only for [`max_entries`](Self::max_entries). Without that bound it is not
    /// evicted, since that would make no room, and nothing limits how many such entries there are.
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Arc::new(weigher));
        self
    }

    /// How long an entry lives after it was written: by an insert or update, or by a load. By default without end.
    ///
    /// An expired entry is not seen by any method but those that count entries without looking at them: [`Cache::len`] and
    /// [`Cache::weighted_size`] count it until it is removed, with the cause [`Expired`](RemovalCause::Expired). Each write to
    /// a segment removes some of its expired entries; [`Cache::run_pending_tasks`] removes all of them. Pinned entries end,
    /// too. With zero, an entry expires at once: it removes what its key had, takes no room, and the listener gets it as
    /// `Expired`; but where it could still be served [stale](Self::stale_while_revalidate) it gets in.
    ///
    /// Where there is a [`time_to_idle`](Self::time_to_idle), too, the earlier of both ends counts; the same goes for
    /// [`expire_after`](Self::expire_after). [`InsertOptions::ttl`](crate::InsertOptions::ttl) is for single entries.
    /// See [`Clock`] for how exact this is.
    pub fn time_to_live(mut self, time: Duration) -> Self {
        self.time_to_live = Some(time);
        self
    }

    /// How long an entry lives after it was last written or read by a method that counts as a read: `get`, `with`,
    /// `get_many`, a hit of `get_or_load` and its like, and a `compute` or a method of `entry` that keeps the entry. By default
    /// without end. See
    /// [`time_to_live`](Self::time_to_live).
    ///
    /// A read notes the time in the entry's deadline, without a lock, at most once for each tick of a coarse clock.
    pub fn time_to_idle(mut self, time: Duration) -> Self {
        self.time_to_idle = Some(time);
        self
    }

    /// Makes times to live shorter by a random part, from 0 to `part` of them, so that entries that were written together
    /// do not end together. By default 0.
    ///
    /// This is for [`time_to_live`](Self::time_to_live) and [`InsertOptions::ttl`](crate::InsertOptions::ttl). With 0.1 and a
    /// minute entries live for 54 to 60 seconds.
    pub fn time_to_live_jitter(mut self, part: f64) -> Self {
        self.time_to_live_jitter = part;
        self
    }

    /// Decides for each entry how long it lives: see [`Expiry`].
    pub fn expire_after(mut self, expiry: impl Expiry<K, V> + Send + Sync + 'static) -> Self {
        self.expiry = Some(Arc::new(expiry));
        self
    }

    /// How many reads an entry answers; with the last of them it is gone, as [`Expired`](RemovalCause::Expired). By
    /// default without limit. For what must not be shown too often. For what counts as a read see
    /// [`time_to_idle`](Self::time_to_idle). A new value has all its reads again.
    ///
    /// The number is exact, however many threads read. Reads of such a cache take longer than others, and the last read of
    /// an entry takes the segment's lock.
    ///
    /// ```
    /// let offers = larder::Cache::builder().max_capacity(100).max_reads(2).build()?;
    /// offers.insert("coupon", 5);
    /// assert_eq!(offers.get("coupon"), Some(5));
    /// assert_eq!(offers.get("coupon"), Some(5));
    /// assert_eq!(offers.get("coupon"), None);
    /// # Ok::<(), larder::BuildError>(())
    /// ```
    pub fn max_reads(mut self, reads: u64) -> Self {
        self.max_reads = Some(reads);
        self
    }

    /// After how long an entry is *due*: of the callers who bring a loader and find it due, by
    /// [`get_or_load`](Cache::get_or_load) or another method that loads, one loads it anew, and the others get the value that is
    /// there, at once. By default entries are not loaded anew before they end.
    ///
    /// The one who loads gets the new value. If its loader fails it gets the old one, as long as that is good for anything, and
    /// the next attempt waits for the [`refresh_backoff`](Self::refresh_backoff). With [`refresh_with`](Self::refresh_with) no caller loads itself. Reads
    /// without a loader, such as [`get`](Cache::get), see the entry as before, and refresh nothing.
    ///
    /// ```
    /// use larder::{Cache, Clock};
    /// use std::time::Duration;
    ///
    /// let clock = Clock::manual();
    /// let prices = Cache::builder()
    ///     .max_capacity(1_000)
    ///     .refresh_after_write(Duration::from_secs(30))
    ///     .time_to_live(Duration::from_secs(60))
    ///     .clock(clock.clone())
    ///     .build()?;
    /// assert_eq!(prices.get_or_load("tea", |_| 3), 3);
    /// clock.advance(Duration::from_secs(30));
    /// // While this caller loads the price anew another one gets the old one.
    /// let new = prices.get_or_load("tea", |_| {
    ///     assert_eq!(prices.get_or_load("tea", |_| unreachable!()), 3);
    ///     4
    /// });
    /// assert_eq!((new, prices.get("tea")), (4, Some(4)));
    /// # Ok::<(), larder::BuildError>(())
    /// ```
    pub fn refresh_after_write(mut self, time: Duration) -> Self {
        self.refresh_after = Some(time);
        self
    }

    /// How long an entry that is over is still given to callers who bring a loader, while one of them loads it anew, as in
    /// [`refresh_after_write`](Self::refresh_after_write). By default zero: they wait for the value.
    ///
    /// This is the `stale-while-revalidate` of RFC 5861. For reads without a loader, and all other operations, an entry that is
    /// over is not there. It counts in [`Cache::len`] and may be evicted as long as it stays. To be removed or made invalid
    /// ends it at once, also by [`retain`](Cache::retain) and [`remove_if`](Cache::remove_if), which do not see it.
    pub fn stale_while_revalidate(mut self, time: Duration) -> Self {
        self.revalidate = time;
        self
    }

    /// How long an entry that is over is still given to callers whose loader failed, or who waited for one that did. By default
    /// zero: they get the error.
    ///
    /// After a failure all callers get the old value, without their loaders being called, for the
    /// [`refresh_backoff`](Self::refresh_backoff). This is the `stale-if-error` of RFC 5861; what else is said of
    /// [`stale_while_revalidate`](Self::stale_while_revalidate) goes for it, too. Both begin with the end of the entry. Neither a
    /// panic nor a future that is dropped is an error.
    ///
    /// ```
    /// use larder::{Cache, Clock};
    /// use std::time::Duration;
    ///
    /// let clock = Clock::manual();
    /// let prices = Cache::builder()
    ///     .max_capacity(1_000)
    ///     .time_to_live(Duration::from_secs(60))
    ///     .stale_if_error(Duration::from_secs(3_600))
    ///     .clock(clock.clone())
    ///     .build()?;
    /// prices.insert("tea", 3);
    /// clock.advance(Duration::from_secs(60));
    /// assert_eq!(prices.get("tea"), None);
    /// assert_eq!(prices.try_get_or_load("tea", |_| Err("the shop is closed")).unwrap(), 3);
    /// # Ok::<(), larder::BuildError>(())
    /// ```
    pub fn stale_if_error(mut self, time: Duration) -> Self {
        self.on_error = time;
        self
    }

    /// How long it takes after the refresh of an entry that was due, or over, has failed until the next is tried; after each further failure in a row twice as long,
    /// up to 64 times. By default a second.
    pub fn refresh_backoff(mut self, time: Duration) -> Self {
        self.refresh_backoff = time;
        self
    }

    /// Makes entries due before it is time, at random, the sooner the longer they took to load: XFetch, of A. Vattani,
    /// F. Chierichetti and K. Lowenstein, "Optimal probabilistic cache stampede prevention" (2015). By default 0: never.
    ///
    /// This is for many processes with a cache each that would otherwise all load at once: within one cache there is one loader
    /// anyway. The authors find 1 to do for most; more is earlier. What counts as time here is
    /// [`refresh_after_write`](Self::refresh_after_write), or the end of the entry. Entries that were inserted are not loaded
    /// early. How long a load took is measured by the [`clock`](Self::clock): under a manual one what it was advanced meanwhile. Takes
    /// 8 bytes an entry.
    ///
    /// What is not a finite number from 0 on is a [`BuildError`].
    pub fn refresh_early(mut self, beta: f64) -> Self {
        self.refresh_early = beta;
        self
    }

    /// Moves refreshes of entries that are due or stale off the callers who find them so: one of these calls `hook`, and all of
    /// them get the old value at once. The hook sees to it that the value is loaded somewhere and given to the [`Refresh`]; it
    /// should not do so itself. A miss is still loaded by its caller. A hook needs no handle on the cache; one that uses it all
    /// the same should hold a [`WeakCache`](crate::WeakCache).
    ///
    /// The hook runs in the thread of that caller, which need not belong to an executor: `tokio::spawn` panics in a plain
    /// thread, and the panic reaches the caller. So take a `Handle` of the runtime along:
    ///
    /// ```
    /// use larder::{Cache, Refresh};
    /// use std::time::Duration;
    /// use tokio::runtime::Handle;
    /// # mod tokio {
    /// #     pub mod runtime {
    /// #         pub struct Handle;
    /// #         impl Handle {
    /// #             pub fn current() -> Self { Self }
    /// #             pub fn spawn<F: Future + Send + 'static>(&self, _: F) where F::Output: Send + 'static {}
    /// #         }
    /// #     }
    /// # }
    ///
    /// async fn load(key: u32) -> String {
    ///     key.to_string()
    /// }
    ///
    /// // In a thread of the runtime, when the service starts.
    /// let runtime = Handle::current();
    /// let cache = Cache::builder()
    ///     .max_capacity(100)
    ///     .refresh_after_write(Duration::from_secs(60))
    ///     .refresh_with(move |refresh: Refresh<u32, String>| {
    ///         runtime.spawn(async move {
    ///             let value = load(*refresh.key()).await;
    ///             refresh.complete(value);
    ///         });
    ///     })
    ///     .build()?;
    /// // A plain thread finds entries due as a task does.
    /// std::thread::spawn(move || cache.get_or_load(7, u32::to_string)).join().unwrap();
    /// # Ok::<(), larder::BuildError>(())
    /// ```
    ///
    /// Without an executor `std::thread::spawn` does, or a channel to a thread that loads.
    pub fn refresh_with(mut self, hook: impl Fn(Refresh<K, V>) + Send + Sync + 'static) -> Self {
        self.refresher = Some(Arc::new(hook));
        self
    }

    /// Keeps when entries were written, for [`Metadata::age`](crate::Metadata::age). Takes 8 bytes an entry. Not needed with
    /// [`refresh_after_write`](Self::refresh_after_write).
    pub fn record_ages(mut self) -> Self {
        self.record_ages = true;
        self
    }

    /// Calls [`run_pending_tasks`](Cache::run_pending_tasks) once in every `period`, so that entries whose time is over go,
    /// and the listener hears of it, even if nobody uses the cache.
    ///
    /// One thread serves all caches that ask for this. It is started with the first of them, ends with the last, and keeps
    /// no cache alive. In it the listener runs, and keys and values are dropped; what those panic with goes no further than
    /// the panic hook. The shortest period is a millisecond.
    pub fn housekeeping(mut self, period: Duration) -> Self {
        self.housekeeping = Some(period);
        self
    }

    /// What time it is. By default [`Clock::coarse`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Which entries go first. See [`EvictionPolicy`].
    pub fn eviction_policy(mut self, policy: EvictionPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Called once for each entry that leaves or is refused, with the cause. Dropping the cache does not call it.
    ///
    /// # Order
    ///
    /// The values of a key are notified in the order in which they left. So only one thread at a time calls the listener for
    /// the keys of a segment: usually the thread whose operation made the entry leave, before that operation returns. If
    /// another thread is calling it for that segment already, that thread goes on with the entry, and the operation returns;
    /// it waits for its turn only if many entries are queued. When all operations on the cache have returned, every
    /// notification has been delivered.
    ///
    /// Operations on many entries, such as [`invalidate_all`](Cache::invalidate_all) and [`retain`](Cache::retain), visit
    /// the keys in the order of their hashes, and so does the listener.
    ///
    /// # What it may do
    ///
    /// No lock of the cache is held, so it may use the cache. What its own changes make leave is notified after it has
    /// returned, so that the stack does not grow; a listener whose every call makes an entry leave is called without end. It
    /// must not wait for another thread that changes the cache, for a lock that such a thread holds, or for a load whose loader
    /// changes the cache: the other thread may be waiting for the listener. What it changes in another cache does not wait for
    /// that cache's listener, however long the queue; that listener has to keep up.
    ///
    /// If it panics, the other notifications are delivered, and then the panic reaches the caller of the operation in whose
    /// thread it ran.
    ///
    /// # Its own cache
    ///
    /// The cache owns its listener. So a listener that owned a [`Cache`] that it listens to would keep it alive for as long as
    /// the process runs. Give it a [`WeakCache`](crate::WeakCache):
    ///
    /// ```
    /// use larder::{Cache, WeakCache};
    /// use std::sync::{Arc, OnceLock};
    ///
    /// let itself = Arc::new(OnceLock::<WeakCache<String, u64>>::new());
    /// let for_listener = Arc::clone(&itself);
    /// let sizes: Cache<String, u64> = Cache::builder()
    ///     .max_capacity(100)
    ///     // With a page goes its preview.
    ///     .eviction_listener(move |page: &String, _size, _cause| {
    ///         if let Some(sizes) = for_listener.get().and_then(WeakCache::upgrade) {
    ///             sizes.invalidate(&format!("{page}/preview"));
    ///         }
    ///     })
    ///     .build()?;
    /// itself.set(sizes.downgrade()).unwrap();
    ///
    /// sizes.insert("/ada".to_owned(), 700);
    /// sizes.insert("/ada/preview".to_owned(), 20);
    /// sizes.invalidate("/ada");
    /// assert!(sizes.is_empty());
    /// # Ok::<(), larder::BuildError>(())
    /// ```
    pub fn eviction_listener(
        mut self,
        listener: impl Fn(&K, &V, RemovalCause) + Send + Sync + 'static,
    ) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Counts hits and misses: see [`Cache::stats`].
    pub fn record_stats(mut self) -> Self {
        self.record_stats = true;
        self
    }

    /// Builds the cache with the default hasher, seeded at random.
    ///
    /// # Errors
    ///
    /// [`BuildError`] says which option is wrong and why.
    pub fn build(self) -> Result<Cache<K, V>, BuildError> {
        self.build_with_hasher(RandomState::new())
    }

    /// Builds the cache with another hasher.
    ///
    /// It need not be a strong one: larder mixes what it gives. With a hasher that is known to attackers they can choose
    /// keys that collide, and make the cache slow.
    ///
    /// ```
    /// use larder::Cache;
    ///
    /// // SipHash, which withstands those who choose keys and measure how long operations take.
    /// type Careful = Cache<String, u64, std::hash::RandomState>;
    /// let visits: Careful = Cache::builder().max_capacity(1_000).build_with_hasher(std::hash::RandomState::new())?;
    /// visits.insert("/about".to_owned(), 1);
    /// assert_eq!(visits.get("/about"), Some(1));
    /// # Ok::<(), larder::BuildError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`BuildError`] says which option is wrong and why.
    pub fn build_with_hasher<S: BuildHasher + Send + Sync + 'static>(
        self,
        hasher: S,
    ) -> Result<Cache<K, V, S>, BuildError> {
        if self.max_capacity.is_none() && self.max_entries.is_none() {
            return Err(BuildError::NoBound);
        }
        if self.max_batch == 0 {
            return Err(BuildError::MaxBatch);
        }
        if self.max_reads == Some(0) {
            return Err(BuildError::MaxReads);
        }
        if !(0.0..=1.0).contains(&self.time_to_live_jitter) {
            return Err(BuildError::TimeToLiveJitter { given: self.time_to_live_jitter });
        }
        if !(0.0..f64::INFINITY).contains(&self.refresh_early) {
            return Err(BuildError::RefreshEarly { given: self.refresh_early });
        }
        if self.refresher.is_some() && !self.is_soft() {
            return Err(BuildError::NothingToRefresh);
        }
        if self.time_to_idle.is_some() && self.expiry.is_some() {
            return Err(BuildError::IdleAndExpiry);
        }
        let rules = Arc::new(self.rules());
        let segments = self.segment_count()?;
        let most = MAX_SLOTS / 2 * segments;
        if self.initial_capacity > most {
            return Err(BuildError::InitialCapacity { given: self.initial_capacity, most });
        }
        let segments = (0..segments)
            .map(|index| {
                let plan = self.plan(index, segments);
                let policy = self.policy.make(plan.weight);
                let delivery = self.listener.clone().map(|listener| Delivery::new(listener, index));
                Segment::new(&plan, policy, &rules, delivery)
            })
            .collect();
        let housekeeping = self.housekeeping;
        let cache = Cache::from_parts(self, hasher, rules, segments);
        if let Some(period) = housekeeping {
            let kept = cache.keep_house(period);
            kept.map_err(|error| BuildError::Housekeeping { reason: error.to_string() })?;
        }
        Ok(cache)
    }

    fn rules(&self) -> Rules {
        Rules {
            clock: self.clock.clone(),
            life: Life { ttl: span(self.time_to_live), tti: span(self.time_to_idle), ..Life::ENDLESS },
            jitter: (self.time_to_live_jitter * (1_u64 << 32) as f64) as u64,
            max_reads: self.max_reads,
            is_asked: self.expiry.is_some(),
            has_ages: self.record_ages || self.refresh_after.is_some(),
            soft: self.is_soft().then(|| Soft {
                refresh_after: span(self.refresh_after),
                revalidate: nanos(self.revalidate),
                on_error: nanos(self.on_error),
                early: self.refresh_early,
                backoff: nanos(self.refresh_backoff),
                patience: span(self.load_timeout),
            }),
        }
    }

    fn is_soft(&self) -> bool {
        self.refresh_after.is_some()
            || self.revalidate.max(self.on_error) > Duration::ZERO
            || self.refresh_early > 0.0
    }

    /// The most entries that there can be, if that is known.
    fn entries(&self) -> Option<u64> {
        let by_weight = if self.weigher.is_none() { self.max_capacity } else { None };
        let entries = by_weight.unwrap_or(u64::MAX).min(self.max_entries.unwrap_or(u64::MAX));
        (entries < u64::MAX).then_some(entries)
    }

    fn segment_count(&self) -> Result<usize, BuildError> {
        // Weights do not tell how many entries there will be; who expects so many says so.
        let expected =
            (self.weigher.is_some() && self.initial_capacity > 0).then_some(self.initial_capacity as u64);
        let entries = self.entries().or(expected).unwrap_or(u64::MAX);
        let weight = self.max_capacity.unwrap_or(u64::MAX);
        let most = match self.segments {
            // None without a part of the bounds: it would refuse all that comes.
            Some(given @ 1..=MOST_SEGMENTS) => {
                let bound = weight.min(self.max_entries.unwrap_or(u64::MAX));
                bound.min(given.next_power_of_two() as u64)
            }
            Some(given) => return Err(BuildError::Segments { given, most: MOST_SEGMENTS }),
            None => {
                let cores = std::thread::available_parallelism().map_or(4, usize::from);
                (entries.min(weight) / LEAST_SHARE).min(8 * cores as u64).min(1024)
            }
        };
        Ok(1 << most.max(1).ilog2())
    }

    fn plan(&self, index: usize, segments: usize) -> Plan {
        let capacity = self.max_capacity.unwrap_or(u64::MAX);
        let expected = self.entries().map(|entries| share(entries, index, segments));
        // Beyond this the number says "no bound" rather than what to prepare for.
        let expected = expected.filter(|&entries| entries <= MAX_SLOTS as u64 / 2).unwrap_or(0) as usize;
        let initial = self.initial_capacity.div_ceil(segments);
        Plan {
            weight: share(capacity, index, segments),
            places: self.max_entries.map(|entries| share(entries, index, segments)),
            sizing: Sizing { initial: if expected > 0 { initial.min(expected) } else { initial }, expected },
        }
    }
}

impl<K, T> Builder<K, Option<T>> {
    /// How long an entry lives whose value is `None`: that something does *not* exist is often to be remembered, but not for
    /// as long as what does. Takes the place of [`time_to_live`](Self::time_to_live) for such entries.
    ///
    /// ```
    /// use larder::{Cache, Clock};
    /// use std::time::Duration;
    ///
    /// let clock = Clock::manual();
    /// let users: Cache<u32, Option<&str>> = Cache::builder()
    ///     .max_capacity(1_000)
    ///     .time_to_live(Duration::from_secs(600))
    ///     .negative_time_to_live(Duration::from_secs(5))
    ///     .clock(clock.clone())
    ///     .build()?;
    /// assert_eq!(users.get_or_load(8, |_| None), None);
    /// assert_eq!(users.get_or_load(8, |_| unreachable!()), None);
    /// clock.advance(Duration::from_secs(5));
    /// assert_eq!(users.get_or_load(8, |_| Some("Bob")), Some("Bob"));
    /// # Ok::<(), larder::BuildError>(())
    /// ```
    pub fn negative_time_to_live(mut self, time: Duration) -> Self {
        self.negative = Some(Negative { is_it: Option::is_none, ttl: nanos(time) });
        self
    }
}

impl<K, V> fmt::Debug for Builder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("max_capacity", &self.max_capacity)
            .field("max_entries", &self.max_entries)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_entries_are_not_spread_over_segments() {
        let count = |builder: Builder<u64, u64>| builder.segment_count().unwrap();
        let weighed = || Cache::builder().max_capacity(1 << 40).weigher(|_, &weight| weight);
        assert!(count(weighed()) >= 8);
        assert_eq!(count(weighed().initial_capacity(1_000)), 1);
        assert_eq!(count(weighed().max_entries(1_000)), 1);
        assert_eq!(count(weighed().initial_capacity(1_000).segments(4)), 4);
        // Each has a part of the bounds.
        assert_eq!(count(weighed().max_entries(3).segments(16)), 2);
        assert_eq!(count(weighed().max_capacity(7).segments(16)), 4);
        assert_eq!(count(Cache::builder().max_capacity(5).segments(16)), 4);
        assert_eq!(count(Cache::builder().max_capacity(0).segments(16)), 1);
        assert_eq!(count(weighed().max_entries(16).segments(16)), 16);
        // Without a weigher the capacity says how many entries there will be.
        assert!(count(Cache::builder().max_capacity(1 << 40).initial_capacity(1_000)) >= 8);
    }
}
