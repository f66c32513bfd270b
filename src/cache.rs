//! The cache: hashes once, chooses the segment, and calls the user's code where no lock is held.

use crate::builder::Builder;
use crate::hash::RandomState;
use crate::inner::{Inner, Loading};
use crate::metadata::Metadata;
use crate::options::InsertOptions;
use crate::parts::keeper::keep;
use crate::policy::{End, EvictionPolicy};
use crate::removal::RemovalCause;
use crate::segment::{Arrival, Bank, Given, Leaving, Offer, Outcome, Panics, Rules, Seen, Segment};
use crate::stats::{Reads, Stats};
use crate::table::{Found, Held, Spread, Unsure};
use crate::tag::Tag;
use equivalent::Equivalent;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A bounded map that many threads share, from which the least useful entries are evicted.
///
/// See the [crate](crate) for what it guarantees. A `Cache` is a handle: clones of it are the same cache, and the last
/// of them drops the entries; a [`WeakCache`](crate::WeakCache) does not count. Methods that give a value clone it; store an `Arc` where that is expensive, or use
/// [`with`](Self::with), which does not clone.
///
/// Keys are looked up by anything that is [`Equivalent`] to them: a `Cache<String, V>` by `&str`.
///
/// ```
/// use larder::Cache;
///
/// let cache: Cache<String, u32> = Cache::new(10_000);
/// cache.insert("apples".to_owned(), 3);
/// assert_eq!(cache.get("apples"), Some(3));
/// assert_eq!(cache.remove("apples"), Some(3));
/// assert_eq!(cache.get("apples"), None);
/// ```
pub struct Cache<K, V, S = RandomState> {
    pub(crate) inner: Arc<Inner<K, V, S>>,
}

/// What came of trying to store an entry.
pub(crate) enum Stored<K> {
    Yes,
    Refused,
    /// Not as it was seen; here is the key again.
    Changed(K),
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// A cache of at most `capacity` entries with the default policy.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self::builder().max_capacity(capacity).build().expect("a capacity is all that a cache needs")
    }

    /// Options for a cache.
    pub fn builder() -> Builder<K, V> {
        Builder::default()
    }
}

impl<K, V, S> Cache<K, V, S> {
    pub(crate) fn from_parts(
        builder: Builder<K, V>,
        hasher: S,
        rules: Arc<Rules>,
        segments: Arc<[Segment<K, V>]>,
    ) -> Self {
        Segment::introduce(&segments);
        if builder.record_stats {
            segments.iter().for_each(Segment::note_reads);
        }
        let capacity = builder.max_capacity.unwrap_or(u64::MAX);
        let bank = Bank::new(capacity, builder.max_entries, segments.len());
        let inner = Inner {
            segments: Spread::new(segments),
            hasher,
            is_eager: !builder.record_stats && !rules.notes_reads(),
            is_soft: rules.soft.is_some(),
            is_early: rules.soft.as_ref().is_some_and(|soft| soft.early > 0.0),
            reads: builder.record_stats.then(Reads::new),
            bank,
            max_entries: builder.max_entries,
            loading: Loading::new(builder.load_timeout, builder.max_batch, builder.refresher),
            has_given: AtomicBool::new(false),
            weigher: builder.weigher,
            tagger: builder.tagger,
            is_timed: rules.is_any(),
            has_varied_lives: builder.expiry.is_some() || builder.negative.is_some(),
            rules,
            expiry: builder.expiry,
            negative: builder.negative,
            policy: builder.policy,
            name: builder.name,
            kept: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Does what is pending every now and then, as long as there is a handle.
    pub(crate) fn keep_house(&self, period: Duration) -> io::Result<()>
    where
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
        S: Send + Sync + 'static,
    {
        let cache = self.downgrade();
        let kept = keep(period, move || {
            if let Some(cache) = cache.upgrade() {
                cache.run_pending_tasks();
            }
        })?;
        // Nobody else has the handle yet: it is the first.
        let _ = self.inner.kept.set(kept);
        Ok(())
    }

    /// Returns how many entries there are: exact if no other thread is writing. Takes each segment's lock in turn.
    #[must_use]
    pub fn len(&self) -> usize {
        let sum = self.inner.segments.iter().map(Segment::len).sum();
        // Room may move between segments while these are summed. There are never more than the bound.
        self.inner.max_entries.and_then(|most| usize::try_from(most).ok()).map_or(sum, |most| most.min(sum))
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns what the entries weigh together: exact if no other thread is writing. Takes each segment's lock in turn.
    #[must_use]
    pub fn weighted_size(&self) -> u64 {
        // As in `len`.
        let sum = self.inner.segments.iter().map(Segment::weight).fold(0, u64::saturating_add);
        sum.min(self.capacity())
    }

    /// The bound on [`weighted_size`](Self::weighted_size).
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.inner.bank.capacity()
    }

    /// The eviction policy.
    #[must_use]
    pub fn policy(&self) -> &EvictionPolicy {
        &self.inner.policy
    }

    /// The name given to the builder.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.inner.name.as_deref()
    }

    /// What has been counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let segments = self.inner.segments.iter();
        Stats::new(self.inner.reads.as_ref(), segments.map(|segment| (segment.counts(), segment.expired())))
    }

    /// Does now what otherwise waits for later operations: removes entries whose time is over, tells the policy of recent
    /// reads, and drops removed values that no reader holds any more. Delivers queued notifications to the listener,
    /// unless another thread delivers them. Does not wait for that thread.
    ///
    /// A cache needs no such call; it serves one that is idle and should let go of what it removed last.
    pub fn run_pending_tasks(&self) {
        self.inner.segments.iter().for_each(|segment| segment.run_pending_tasks(&self.inner.bank));
    }

    /// Changes the capacity. Entries that do not fit any more have been evicted when it returns.
    ///
    /// Pinned entries go last, but they go if they alone are over the capacity.
    pub fn set_capacity(&self, capacity: u64) {
        self.inner.set_capacity(capacity);
    }

    /// Checks everything that the cache keeps twice, and panics if it does not agree.
    ///
    /// For tests. No other thread may be using the cache.
    #[doc(hidden)]
    pub fn validate(&self) {
        let bank = &self.inner.bank;
        let [mut weight, mut places] = [bank.weight.spare(), bank.places.spare()];
        for budgets in self.inner.segments.iter().map(Segment::validate) {
            weight += budgets.weight;
            places += budgets.places;
        }
        assert_eq!(weight, self.capacity(), "budgets and spare");
        assert_eq!(places, bank.places.bound(), "places and spare");
    }
}

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + 'static,
{
    /// The value of `key`, cloned.
    ///
    /// Takes no lock and does not wait for writers. Counts a hit or a miss and tells the policy.
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
        V: Clone,
    {
        self.with(key, V::clone)
    }

    /// What `read` makes of the value of `key`, without a clone of it.
    ///
    /// Otherwise as [`get`](Self::get). While `read` runs the entry stays in memory, also if it is removed meanwhile; no other
    /// entry does. `read` may use the cache.
    #[inline]
    pub fn with<Q, R>(&self, key: &Q, read: impl FnOnce(&V) -> R) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.with_at(self.inner.locate(key), key, read)
    }

    #[inline(always)]
    pub(crate) fn with_at<Q, R>(
        &self,
        place: (u64, &Segment<K, V>),
        key: &Q,
        read: impl FnOnce(&V) -> R,
    ) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        match self.glance(place, key) {
            Ok(Some(found)) if place.1.is_read(&found) => Some(read(&found.entry().1)),
            Ok(Some(found)) => {
                let (slot, held) = found.split();
                self.with_noted(place.1, slot, held, key, read)
            }
            Ok(None) => {
                self.inner.count_read(false);
                None
            }
            Err(Unsure) => self.read_anyhow(key, read),
        }
    }

    /// The values of many keys, in their order.
    ///
    /// Equals a [`get`](Self::get) of each key, one after another.
    pub fn get_many<'q, Q>(&self, keys: impl IntoIterator<Item = &'q Q>) -> Vec<Option<V>>
    where
        Q: Hash + Equivalent<K> + ?Sized + 'q,
        V: Clone,
    {
        keys.into_iter().map(|key| self.with_at(self.inner.locate(key), key, V::clone)).collect()
    }

    /// An entry that is perhaps over. Gives up where to find it would take longer than usual: short enough to be inlined, it
    /// calls nothing.
    #[inline(always)]
    fn glance<'s, Q>(
        &'s self,
        (hash, segment): (u64, &'s Segment<K, V>),
        key: &Q,
    ) -> Result<Option<Found<'s, K, V>>, Unsure>
    where
        Q: Equivalent<K> + ?Sized,
    {
        segment.glance(hash, |other| key.equivalent(other))
    }

    /// Does the rest of a read that a glance has not ended. Not inlined, and given the entry in parts, which fit into registers,
    /// so that it costs nothing where it is not taken.
    #[inline(never)]
    fn with_noted<'s, Q, R>(
        &'s self,
        segment: &'s Segment<K, V>,
        slot: u32,
        held: Held<'s, K, V>,
        key: &Q,
        read: impl FnOnce(&V) -> R,
    ) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let found = Found::join(slot, held);
        if segment.notes_reads() && !(self.inner.is_eager && segment.is_early(&found)) {
            match segment.note_glance(&found) {
                Ok(is_good) => {
                    self.inner.count_read(is_good);
                    if !is_good {
                        return None;
                    }
                }
                Err(Unsure) => return self.read_anyhow(key, read),
            }
        }
        segment.mark(&found);
        Some(read(&found.entry().1))
    }

    /// A read when a glance did not do. Not inlined, and told nothing that would have to be kept for it, so that it costs
    /// nothing where it is not taken.
    #[inline(never)]
    fn read_anyhow<Q, R>(&self, key: &Q, read: impl FnOnce(&V) -> R) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.read(self.inner.locate(key), key, read)
    }

    fn read<Q, R>(
        &self,
        (hash, segment): (u64, &Segment<K, V>),
        key: &Q,
        read: impl FnOnce(&V) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let found = segment.find_to_read(hash, |other| key.equivalent(other));
        let found = found.filter(|found| self.inner.note_read(segment, found));
        self.inner.count_read(found.is_some());
        found.map(|found| read(&found.entry().1))
    }

    /// The value of `key`, cloned, leaving no trace: neither the policy nor the statistics notice.
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
        V: Clone,
    {
        self.find(key).map(|found| found.entry().1.clone())
    }

    /// Whether there is an entry for `key`, leaving no trace.
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.find(key).is_some()
    }

    /// What is known of the entry of `key` beside its value, leaving no trace. Takes the segment's lock for a moment.
    ///
    /// ```
    /// use larder::{Cache, Clock};
    /// use std::time::Duration;
    ///
    /// let clock = Clock::manual();
    /// let cache = Cache::builder()
    ///     .max_capacity(100)
    ///     .time_to_live(Duration::from_secs(60))
    ///     .record_ages()
    ///     .clock(clock.clone())
    ///     .build()?;
    /// cache.insert("key", 1);
    /// clock.advance(Duration::from_secs(20));
    /// let metadata = cache.metadata("key").unwrap();
    /// assert_eq!(metadata.age, Some(Duration::from_secs(20)));
    /// assert_eq!(metadata.remaining, Some(Duration::from_secs(40)));
    /// assert_eq!((metadata.reads_left, metadata.weight), (None, 1));
    /// # Ok::<(), larder::BuildError>(())
    /// ```
    pub fn metadata<Q>(&self, key: &Q) -> Option<Metadata>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let (hash, segment) = self.inner.locate(key);
        loop {
            let found = segment.find(hash, |other| key.equivalent(other))?;
            if let Some(metadata) = segment.metadata(found.slot()) {
                return Some(metadata);
            }
        }
    }

    /// Puts an entry in, in place of the one with this key, if there is one. Evicts what does not fit any more.
    ///
    /// An entry that is heavier than the whole capacity is refused: the listener gets it as
    /// [`Rejected`](RemovalCause::Rejected), and the key is absent afterwards. The same goes for one whose life is zero, as
    /// [`Expired`](RemovalCause::Expired). An entry may be evicted at any time, even the one just inserted.
    ///
    /// The new entry has nothing of the options that the one before was given, but for its pin: to keep them, update it, as by
    /// [`compute`](Self::compute).
    pub fn insert(&self, key: K, value: V) {
        self.insert_with(key, value, InsertOptions::new());
    }

    /// As [`insert`](Self::insert), with options for this entry.
    pub fn insert_with(&self, key: K, value: V, options: InsertOptions) {
        self.store(key, value, options, Seen::Whatever);
    }

    /// Removes the entry of `key` and gives its value, cloned.
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
        V: Clone,
    {
        self.remove_if(key, |_, _| true)
    }

    /// Removes the entry of `key` and says whether there was one.
    pub fn invalidate<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.take_out(self.inner.locate(key), key, |_| Verdict::Goes)
    }

    /// Removes the entry of `key` if `predicate` says so, and gives its value, cloned.
    ///
    /// The entry removed is the one that the predicate last saw. The predicate runs without a lock, and again if the entry was
    /// replaced meanwhile: so it must not replace the entry itself whenever it is called. Whatever it says, a value that is
    /// being loaded for the key at that moment is not kept, since the predicate has not seen it.
    pub fn remove_if<Q>(&self, key: &Q, mut predicate: impl FnMut(&K, &V) -> bool) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
        V: Clone,
    {
        let mut value = None;
        let (hash, segment) = self.inner.locate(key);
        let removed = self.take_out((hash, segment), key, |found| {
            let (key, current) = found.entry();
            let goes = predicate(key, current);
            value = goes.then(|| current.clone());
            if goes {
                Verdict::Goes
            } else if self.inner.voids() && !segment.invalidate_beside(found.slot(), hash) {
                // Asked after the entry was found.
                Verdict::Changed
            } else {
                Verdict::Stays
            }
        });
        value.filter(|_| removed)
    }

    /// Keeps the entry of `key` from being evicted, and says whether there is one.
    ///
    /// A pinned entry leaves only when it is removed or replaced, or when the capacity shrinks below what is pinned. Its
    /// weight counts; when pinned entries leave no room, new ones are [`Rejected`](RemovalCause::Rejected).
    pub fn pin<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.set_pinned(key, true)
    }

    /// Lets the entry of `key` be evicted again, and says whether there is one.
    ///
    /// The policy does not know where the entry stood before it was pinned: it comes back as if it had just been inserted, with
    /// the mark that reads left. So [`pin`](Self::pin) and `unpin` make a cold entry hotter, above all under `lru` and `fifo`,
    /// and take from a popular one what `lfu` or `s3_lirs` knew of it.
    pub fn unpin<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.set_pinned(key, false)
    }

    fn set_pinned<Q>(&self, key: &Q, pinned: bool) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        while let Some(found) = self.find(key) {
            if self.inner.segment(self.inner.hash(key)).set_pinned(found.slot(), pinned) {
                return true;
            }
        }
        false
    }

    /// Removes all entries that were there when it was called. Entries inserted meanwhile may stay or go.
    ///
    /// Goes from key to key in the order of their hashes, a few at a time, and so the listener is called. A value that is being
    /// loaded for a key when its turn comes is not kept.
    pub fn invalidate_all(&self) {
        let mut panics = Panics::default();
        self.inner.remove_all(RemovalCause::Explicit, &mut panics);
        panics.resume();
    }

    /// Removes all entries that carry a tag, and returns how many there were. A value that was being loaded and carries it is
    /// given to its callers, but not kept. An expired entry goes, too, without being counted.
    ///
    /// Entries get their tags from [`Builder::tags`] or [`InsertOptions::tags`]. Takes each segment's lock in turn, and a
    /// time proportional to the number of those entries, however many others there are.
    ///
    /// ```
    /// use larder::{Cache, InsertOptions};
    ///
    /// let pages = Cache::new(100);
    /// pages.insert_with("/ada", "Hello Ada!", InsertOptions::new().tags(["user:1", "greeting"]));
    /// pages.insert_with("/bob", "Hello Bob!", InsertOptions::new().tags(["user:2", "greeting"]));
    /// assert_eq!(pages.invalidate_tag("user:1"), 1);
    /// assert_eq!(pages.get("/ada"), None);
    /// assert_eq!(pages.invalidate_tag("greeting"), 1);
    /// assert!(pages.is_empty());
    /// ```
    pub fn invalidate_tag(&self, tag: impl Into<Tag>) -> usize {
        let tag = tag.into();
        let mut panics = Panics::default();
        let segments = self.inner.segments.iter();
        let removed =
            segments.map(|segment| segment.invalidate_tag(&self.inner.bank, tag, &mut panics)).sum();
        panics.resume();
        removed
    }

    /// Up to `n` entries that the policy would keep longest, cloned, the hottest first.
    ///
    /// First counts the entry's [`heat`](crate::policy::Policy::heat), which is what the policy knows of its reads, then its place
    /// in the policy's queues. A mark may be full after one to three reads: entries that were read more often are equally hot,
    /// unless evictions came between the reads. Under `fifo` reads do not count. Entries of several segments are ranked
    /// by heat, and taken in turn where that is the same. Entries that the policy does not evict are not among them: pinned ones
    /// and, without [`max_entries`](Builder::max_entries), those of weight 0.
    ///
    /// Takes O(entries) for each segment under its lock, and O(`n`) with `lru`, `lfu` and `fifo`.
    #[must_use]
    pub fn hottest(&self, n: usize) -> Vec<(K, V)>
    where
        K: Clone,
        V: Clone,
    {
        self.inner.walk(End::Hottest, n)
    }

    /// Up to `n` entries that the policy would evict first, cloned, the coldest first. See [`hottest`](Self::hottest).
    #[must_use]
    pub fn coldest(&self, n: usize) -> Vec<(K, V)>
    where
        K: Clone,
        V: Clone,
    {
        self.inner.walk(End::Coldest, n)
    }

    #[inline]
    pub(crate) fn find<Q>(&self, key: &Q) -> Option<Found<'_, K, V>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = self.inner.hash(key);
        self.inner.segment(hash).find(hash, |other| key.equivalent(other))
    }

    /// Stores an entry if its key is still as `seen`.
    #[inline]
    pub(crate) fn store(&self, key: K, value: V, options: InsertOptions, seen: Seen) -> Stored<K> {
        self.store_at(self.inner.hash(&key), Offer::new(key, value, seen), options)
    }

    /// The same for a key whose hash is known.
    // So that options that are not given cost nothing.
    #[inline(always)]
    pub(crate) fn store_at(&self, hash: u64, offer: Offer<'_, K, V>, options: InsertOptions) -> Stored<K> {
        let Some((key, value)) = &offer.entry else { unreachable!("an offer is of an entry") };
        let given = Given { weight: options.weight.is_some(), tags: options.tags.is_some() };
        if options.is_any() {
            self.inner.note_given();
        }
        let by_weigher = || self.inner.weigher.as_ref().map_or(1, |weigher| weigher(key, value));
        let weight = options.weight.unwrap_or_else(by_weigher);
        let tags = options.tags.unwrap_or_else(|| self.inner.tags_of(key, value));
        let own = self.inner.own_life(hash, key, value, options.ttl, options.tti, options.took);
        let life = own.as_ref().or(self.inner.is_timed.then_some(&self.inner.rules.life));
        let pin = options.pinned;
        let mut arrival = Arrival { hash, weight, pin, search: None, life, tags: &tags, given, back: None };
        self.store_ready(&mut arrival, offer)
    }

    /// Stores the next value of an entry that was `given` these options. Loading it `took` so many nanoseconds, if that is to be
    /// kept.
    #[inline(always)]
    pub(crate) fn update_at(
        &self,
        hash: u64,
        offer: Offer<'_, K, V>,
        given: Option<Box<InsertOptions>>,
        took: u64,
    ) -> Stored<K> {
        match given {
            None => self.store_at(hash, offer, InsertOptions { took, ..InsertOptions::new() }),
            Some(given) => self.store_as_given(hash, offer, InsertOptions { took, ..*given }),
        }
    }

    #[cold]
    fn store_as_given(&self, hash: u64, offer: Offer<'_, K, V>, options: InsertOptions) -> Stored<K> {
        self.store_at(hash, offer, options)
    }

    /// The same for an arrival that is ready.
    #[inline(always)]
    pub(crate) fn store_ready(&self, arrival: &mut Arrival<'_>, mut offer: Offer<'_, K, V>) -> Stored<K> {
        let mut panics = Panics::default();
        let segment = self.inner.segment(arrival.hash);
        let outcome = segment.insert(&self.inner.bank, arrival, &mut offer, &mut panics);
        if outcome == Outcome::Stored {
            panics.resume();
            return Stored::Yes;
        }
        self.store_otherwise(arrival, offer, outcome, panics)
    }

    #[cold]
    fn store_otherwise(
        &self,
        arrival: &mut Arrival<'_>,
        mut offer: Offer<'_, K, V>,
        mut outcome: Outcome,
        mut panics: Panics,
    ) -> Stored<K> {
        if outcome == Outcome::NoRoom {
            let left;
            (outcome, left) = self.inner.store_with_more_room(arrival, &mut offer);
            left.into_iter().for_each(|leaving| leaving.settle_but(&mut panics));
        }
        let stored = match (outcome, offer.entry) {
            (Outcome::Stored, _) => Stored::Yes,
            (Outcome::Changed, Some((key, _))) => Stored::Changed(key),
            _ => Stored::Refused,
        };
        panics.resume();
        stored
    }

    /// Removes the entry of `key` if that is the `verdict` on it. Makes an absent key invalid.
    fn take_out<Q>(
        &self,
        (hash, segment): (u64, &Segment<K, V>),
        key: &Q,
        mut verdict: impl FnMut(&Found<'_, K, V>) -> Verdict,
    ) -> bool
    where
        Q: Equivalent<K> + ?Sized,
    {
        loop {
            let Some(found) = segment.find(hash, |other| key.equivalent(other)) else {
                if self.confirm_absent((hash, segment), key) {
                    return false;
                }
                continue;
            };
            match verdict(&found) {
                Verdict::Goes => {}
                Verdict::Stays => return false,
                Verdict::Changed => continue,
            }
            let removed = segment.remove(&self.inner.bank, found.slot(), RemovalCause::Explicit);
            if let Some(leaving) = removed {
                drop(found);
                leaving.settle();
                return true;
            }
        }
    }

    /// Makes `key`, which was found absent, invalid: what is being loaded for it is not kept, and no loader is given its expired
    /// value. Returns whether it was absent then.
    pub(crate) fn confirm_absent<Q>(&self, (hash, segment): (u64, &Segment<K, V>), key: &Q) -> bool
    where
        Q: Equivalent<K> + ?Sized,
    {
        // Asked after the key was found absent.
        if !self.inner.is_soft && !self.inner.voids() {
            return true;
        }
        let leaving = segment.invalidate_absent(&self.inner.bank, hash, |other| key.equivalent(other));
        leaving.map(Leaving::settle).is_some()
    }
}

/// A decision on an entry that was found.
enum Verdict {
    /// It is removed, unless it has changed since.
    Goes,
    Stays,
    /// The key has another entry by now, or none: it is looked up again.
    Changed,
}

/// Another handle on the same cache.
impl<K, V, S> Clone for Cache<K, V, S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K, V, S> fmt::Debug for Cache<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("name", &self.name())
            .field("policy", self.policy())
            .field("len", &self.len())
            .field("weighted_size", &self.weighted_size())
            .field("capacity", &self.capacity())
            .field("segments", &self.inner.segments.len())
            .finish()
    }
}
