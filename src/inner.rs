//! What the handles of a cache share: how keys find their segment, what reads and writes do beside that, and how room moves
//! between segments.

use crate::clock::{Moment, nanos};
use crate::expiry::Expiry;
use crate::hash::RandomState;
use crate::options::InsertOptions;
use crate::parts::folded;
use crate::parts::keeper::Kept;
use crate::policy::{End, EvictionPolicy};
use crate::refresh::Refresh;
use crate::removal::RemovalCause;
use crate::segment::{
    Amount, Arrival, Bank, Carried, Leaving, Life, Moving, Offer, Outcome, Panics, Rules, Search, Segment,
    Spent, Takes, Visited, share, span,
};
use crate::stats::Reads;
use crate::table::{Found, Spread};
use crate::tag::Tag;
use std::any::TypeId;
use std::hash::{BuildHasher, Hash};
use std::panic::RefUnwindSafe;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, fence};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub(crate) type Weigher<K, V> = Arc<dyn Fn(&K, &V) -> u64 + Send + Sync>;
pub(crate) type Tagger<K, V> = Arc<dyn Fn(&K, &V) -> Vec<Tag> + Send + Sync>;
pub(crate) type Refresher<K, V> = Arc<dyn Fn(Refresh<K, V>) + Send + Sync>;

/// What the handles of a cache share.
pub(crate) struct Inner<K, V, S> {
    pub(crate) segments: Spread<Segment<K, V>>,
    pub(crate) hasher: S,
    /// Whether reads that are not plain most often have no more to do than to look at the time.
    pub(crate) is_eager: bool,
    /// Whether who brings a loader may be asked to load what is there.
    pub(crate) is_soft: bool,
    /// Whether entries may be loaded anew before it is time.
    pub(crate) is_early: bool,
    pub(crate) reads: Option<Reads>,
    pub(crate) bank: Bank,
    pub(crate) max_entries: Option<u64>,
    pub(crate) loading: Loading<K, V>,
    /// Whether an entry was ever given options that its updates keep.
    pub(crate) has_given: AtomicBool,
    pub(crate) weigher: Option<Weigher<K, V>>,
    pub(crate) tagger: Option<Tagger<K, V>>,
    /// Whether the rules say anything of time.
    pub(crate) is_timed: bool,
    /// Whether lives depend on the entry.
    pub(crate) has_varied_lives: bool,
    pub(crate) rules: Arc<Rules>,
    pub(crate) expiry: Option<Arc<dyn Expiry<K, V> + Send + Sync>>,
    pub(crate) negative: Option<Negative<V>>,
    pub(crate) policy: EvictionPolicy,
    pub(crate) name: Option<String>,
    /// There with housekeeping.
    pub(crate) kept: OnceLock<Kept>,
}

/// Panics of user code leave it whole, of whatever types keys, values and closures are: `catch_unwind` may be given a cache.
impl<K, V, S> RefUnwindSafe for Inner<K, V, S> {}

/// States of [`Loading`]. That loads are [`BEGUN`] is known to all who ought to know once they are [`IN_USE`].
const UNUSED: u8 = 0;
const BEGUN: u8 = 1;
const IN_USE: u8 = 2;

/// What the cache knows of loads.
pub(crate) struct Loading<K, V> {
    /// Whether anything was ever loaded: if not, nothing needs to be voided.
    state: AtomicU8,
    /// How long a caller waits for another one's load.
    pub(crate) timeout: Option<Duration>,
    /// How many keys a loader of many gets at once.
    pub(crate) most_at_once: usize,
    /// Who makes refreshes, if not the caller who finds them due.
    pub(crate) refresher: Option<Refresher<K, V>>,
}

impl<K, V> Loading<K, V> {
    pub(crate) fn new(
        timeout: Option<Duration>,
        most_at_once: usize,
        refresher: Option<Refresher<K, V>>,
    ) -> Self {
        Self { state: AtomicU8::new(UNUSED), timeout, most_at_once, refresher }
    }
}

/// Values that stand for none, and how long such an entry lives.
pub(crate) struct Negative<V> {
    pub(crate) is_it: fn(&V) -> bool,
    pub(crate) ttl: u64,
}

impl<K, V, S> Inner<K, V, S> {
    /// The hash of a key, mixed so that a weak hasher does no harm: each bit of it depends on all that it gives.
    #[inline]
    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64
    where
        S: BuildHasher + 'static,
    {
        let hash = self.hasher.hash_one(key);
        // All of its bits are good already: see the tests there. (Settled when the crate is compiled.)
        if TypeId::of::<S>() == TypeId::of::<RandomState>() {
            return hash;
        }
        folded(hash)
    }

    /// The hash of a key, and where it belongs.
    #[inline]
    pub(crate) fn locate<Q: Hash + ?Sized>(&self, key: &Q) -> (u64, &Segment<K, V>)
    where
        S: BuildHasher + 'static,
    {
        let hash = self.hash(key);
        (hash, self.segment(hash))
    }

    /// The tags that an entry carries where nothing else was said.
    #[inline]
    pub(crate) fn tags_of(&self, key: &K, value: &V) -> Vec<Tag> {
        self.tagger.as_ref().map_or(Vec::new(), |tagger| tagger(key, value))
    }

    /// How long an entry is to live, if that is not what the rules say.
    #[inline]
    pub(crate) fn own_life(
        &self,
        hash: u64,
        key: &K,
        value: &V,
        ttl: Option<Duration>,
        tti: Option<Duration>,
        took: u64,
    ) -> Option<Life>
    where
        K: Eq,
    {
        let is_own = self.has_varied_lives || ttl.is_some() || tti.is_some() || took != 0;
        is_own.then(|| Life { took, ..self.make_life(hash, key, value, ttl, tti) })
    }

    #[inline(never)]
    fn make_life(&self, hash: u64, key: &K, value: &V, ttl: Option<Duration>, tti: Option<Duration>) -> Life
    where
        K: Eq,
    {
        let mut life = self.rules.life;
        match (&self.negative, ttl) {
            (_, Some(ttl)) => (life.ttl, life.given) = (nanos(ttl), nanos(ttl).max(1)),
            (Some(negative), None) if (negative.is_it)(value) => life.ttl = negative.ttl,
            _ => {}
        }
        if let Some(expiry) = self.expiry.as_ref().filter(|_| ttl.is_none()) {
            life.own = self.ask(&**expiry, hash, key, value);
        }
        if let Some(tti) = tti {
            life.tti = nanos(tti);
        }
        life
    }

    #[inline(never)]
    fn ask(&self, expiry: &dyn Expiry<K, V>, hash: u64, key: &K, value: &V) -> u64
    where
        K: Eq,
    {
        let segment = self.segment(hash);
        span(match segment.find(hash, |other| other == key) {
            Some(found) => expiry.after_update(key, value, segment.remaining(found.slot())),
            None => expiry.after_create(key, value),
        })
    }

    /// An entry is given options that its updates keep: to be called before it is stored.
    #[inline]
    pub(crate) fn note_given(&self) {
        // Relaxed, also in `given_to`: a thread that finds the entry there sees all that came before its publication.
        if !self.has_given.load(Relaxed) {
            self.has_given.store(true, Relaxed);
        }
    }

    /// Returns the options that an entry that was found was given, for its next value.
    pub(crate) fn given_to(
        &self,
        segment: &Segment<K, V>,
        found: &Found<'_, K, V>,
    ) -> Option<Box<InsertOptions>> {
        if self.has_given.load(Relaxed) { segment.given_to(found.slot()) } else { None }
    }

    /// What a read does beside giving the value. Says whether it may give it: the entry may have no reads left.
    pub(crate) fn note_read(&self, segment: &Segment<K, V>, found: &Found<'_, K, V>) -> bool {
        match self.spend_read(segment, found) {
            Spent::No => {}
            Spent::Last => return true,
            Spent::Over => return false,
        }
        if let Some(expiry) = self.expiry.as_ref().filter(|_| segment.asks_after_read(found.slot())) {
            let remaining = segment.remaining(found.slot());
            let (key, value) = found.entry();
            let next = expiry.after_read(key, value, remaining);
            if next != remaining {
                segment.put_off(found.slot(), span(next));
            }
        }
        true
    }

    /// The same for an entry that may be over, so that it does not matter how long it lives.
    pub(crate) fn spend_read(&self, segment: &Segment<K, V>, found: &Found<'_, K, V>) -> Spent {
        let spent = segment.spend(found.slot());
        match spent {
            Spent::No => segment.touch(found),
            Spent::Last => {
                let leaving = segment.remove(&self.bank, found.slot(), RemovalCause::Expired);
                leaving.into_iter().for_each(Leaving::settle);
            }
            Spent::Over => {}
        }
        spent
    }

    /// The time, for [`note_load`](Self::note_load), if anybody wants to know how long loads take.
    pub(crate) fn load_starts(&self) -> Option<Moment> {
        (self.reads.is_some() || self.is_early).then(|| self.rules.clock.moment())
    }

    /// Counts a load. Gives how long it took, in nanoseconds, if that is to be kept with the entry.
    pub(crate) fn note_load(&self, has_succeeded: bool, started: Option<Moment>) -> u64 {
        let Some(started) = started else { return 0 };
        let took = self.rules.clock.since(started);
        if let Some(reads) = &self.reads {
            reads.count_load(has_succeeded, took.real);
        }
        if self.is_early { took.shown } else { 0 }
    }

    pub(crate) fn count_stale(&self) {
        if let Some(reads) = &self.reads {
            reads.count_stale();
        }
    }

    pub(crate) fn count_refresh(&self, has_succeeded: bool) {
        if let Some(reads) = &self.reads {
            reads.count_refresh(has_succeeded);
        }
    }

    #[inline]
    pub(crate) fn count_read(&self, hit: bool) {
        if let Some(reads) = &self.reads {
            reads.count(hit);
        }
    }

    pub(crate) fn count_wait(&self) {
        if let Some(reads) = &self.reads {
            reads.count_wait();
        }
    }

    /// Loads are begun from now on.
    pub(crate) fn begin_loading(&self) {
        // Acquire: who finds it in use comes after the fence below.
        if self.loading.state.load(Acquire) != IN_USE {
            self.loading.state.store(BEGUN, Relaxed);
            // Pairs with the fence in `voids`: a caller that still reads `UNUSED` has read before this fence what it has read
            // until then, so no load had begun.
            fence(SeqCst);
            self.loading.state.store(IN_USE, Release);
        }
    }

    /// Returns whether there may be loads to make void. If not, none had begun when the caller read what it has read so far.
    pub(crate) fn voids(&self) -> bool {
        fence(SeqCst);
        self.loading.state.load(Relaxed) != UNUSED
    }

    /// The segment is chosen by the hash's lowest bits, which the segment does not use.
    #[inline]
    pub(crate) fn segment(&self, hash: u64) -> &Segment<K, V> {
        self.segments.of(hash)
    }

    /// Moves budget to the segment until the entry fits or nothing can be had.
    pub(crate) fn store_with_more_room(
        &self,
        arrival: &mut Arrival<'_>,
        offer: &mut Offer<'_, K, V>,
    ) -> (Outcome, Vec<Leaving<'_, K, V>>)
    where
        K: Eq + 'static,
        V: 'static,
    {
        let index = self.segments.index(arrival.hash);
        let segment = &self.segments[index];
        let mut left = Vec::new();
        let moving = self.bank.move_budget();
        let search = Search::default();
        let mut arrival = Arrival { search: Some(&search), ..*arrival };
        let mut carried = self.bank.carry();
        // Most often one round does. Other writes to the segment may give back what it was granted.
        let mut rounds = 16_u32;
        loop {
            // First without more: while this waited for the right to move budget, others may have moved some here.
            let (outcome, leaving) = segment.insert_with_more(&self.bank, &mut arrival, offer, &mut carried);
            left.push(leaving);
            if outcome != Outcome::NoRoom {
                return (outcome, left);
            }
            let (missing, lacking) = (search.missing.get(), search.lacking.get());
            let takes_others = !lacking.is_nothing();
            let mut is_hopeless = takes_others && (rounds == 0 || !self.can_give(index, lacking, &carried));
            if !is_hopeless {
                self.collect(index, missing, &moving, &mut carried, &mut left);
                self.gather(index, lacking, &mut carried, &mut left);
                search.has_collected.set(true);
                // Policies may keep their entries to themselves.
                is_hopeless = takes_others && carried.amount.is_nothing();
            }
            if is_hopeless {
                let (outcome, leaving) = segment.refuse(&self.bank, arrival, offer);
                left.push(leaving);
                return (outcome, left);
            }
            rounds = rounds.saturating_sub(1);
        }
    }

    /// Returns all segments but one.
    fn others(&self, but: usize) -> impl Iterator<Item = &Segment<K, V>> {
        self.segments.iter().enumerate().filter(move |&(index, _)| index != but).map(|(_, segment)| segment)
    }

    /// Reports whether all segments but one, if all entries left that may, and what is spare could give as much as is `wanted`. It
    /// becomes no more while the caller holds the right to move budget, unless pinned entries leave.
    fn can_give(&self, but: usize, wanted: Amount, carried: &Carried<'_>) -> bool {
        let most = self.others(but).fold(Amount::default(), |sum, segment| sum.plus(segment.can_give()));
        // Last: what a segment gives back meanwhile counts twice rather than not at all.
        most.plus(carried.with_spare()).covers(wanted)
    }

    /// Collects what is loose in all segments but one, and takes up to `wanted` of it.
    fn collect<'a>(
        &'a self,
        but: usize,
        wanted: Amount,
        moving: &Moving<'_>,
        carried: &mut Carried<'_>,
        left: &mut Vec<Leaving<'a, K, V>>,
    ) {
        for segment in self.others(but) {
            left.push(segment.collect(&self.bank, wanted, carried));
        }
        moving.end_collection(wanted);
        carried.put_down(wanted);
        carried.fill(wanted);
    }

    /// Takes up to `wanted` of budget from all segments but one, whose entries go for it: first evenly, then the rest. The
    /// caller holds the right to move it, so if this takes nothing there is none to be had.
    fn gather<'a>(
        &'a self,
        but: usize,
        wanted: Amount,
        carried: &mut Carried<'_>,
        left: &mut Vec<Leaving<'a, K, V>>,
    ) {
        let others = self.segments.len() as u64;
        for at_most in [(wanted.weight / others).saturating_add(1), wanted.weight] {
            for segment in self.others(but) {
                if !carried.amount.covers(wanted) {
                    let weight = at_most.min(wanted.weight.saturating_sub(carried.amount.weight));
                    let places = wanted.places.saturating_sub(carried.amount.places);
                    left.push(segment.give(&self.bank, Amount { weight, places }, carried));
                }
            }
        }
        // What segments have given back meanwhile.
        carried.fill(wanted);
    }

    pub(crate) fn set_capacity(&self, capacity: u64) {
        let mut left = Vec::new();
        {
            let _moving = self.bank.move_budget();
            let before = self.bank.capacity();
            let shares = (0..).map(|index| share(capacity, index, self.segments.len()));
            if capacity >= before {
                self.bank.set_capacity(capacity);
                self.bank.put(Amount::of_weight(capacity - before));
                for (segment, share) in self.segments.iter().zip(shares) {
                    left.push(segment.widen(&self.bank, share));
                }
            } else {
                let excess = before - capacity;
                let mut carried = self.bank.carry();
                carried.fill(Amount::of_weight(excess));
                for (segment, share) in self.segments.iter().zip(shares) {
                    left.push(segment.shrink(
                        &self.bank,
                        share,
                        excess - carried.amount.weight,
                        &mut carried,
                    ));
                }
                self.withdraw(excess, &mut carried, &mut left);
                // And so the excess is gone.
                self.bank.set_capacity(capacity);
                carried.hand_over();
            }
        }
        let mut panics = Panics::default();
        left.into_iter().for_each(|leaving| leaving.settle_but(&mut panics));
        if capacity == 0 && self.bank.capacity() == 0 {
            // Entries without weight, too.
            self.remove_all(RemovalCause::Size, &mut panics);
        }
        panics.resume();
    }

    /// Takes out all entries that are there when it is called.
    pub(crate) fn remove_all(&self, cause: RemovalCause, panics: &mut Panics) {
        self.remove_rest(&mut Place::default(), cause, panics);
    }

    /// Takes out all entries that a scan at `place` has not visited yet.
    pub(crate) fn remove_rest(&self, place: &mut Place, cause: RemovalCause, panics: &mut Panics) {
        while let Some(segment) = self.segments.get(place.segment) {
            let (next, leaving) = segment.remove_from(&self.bank, place.cursor, cause);
            place.move_to(next);
            leaving.settle_but(panics);
        }
    }

    /// Takes `excess` out of the budgets, wherever it is. Terminates: together they have more than that.
    fn withdraw<'a>(&'a self, excess: u64, carried: &mut Carried<'_>, left: &mut Vec<Leaving<'a, K, V>>) {
        for segment in self.segments.iter() {
            carried.fill(Amount::of_weight(excess));
            let wanted = Amount::of_weight(excess - carried.amount.weight);
            left.push(segment.give(&self.bank, wanted, carried));
        }
        // Pinned entries go only if they alone are too much.
        while carried.amount.weight < excess {
            for segment in self.segments.iter() {
                carried.fill(Amount::of_weight(excess));
                left.push(segment.unpin_and_give(&self.bank, excess - carried.amount.weight, carried));
            }
        }
    }

    pub(crate) fn walk(&self, from: End, n: usize) -> Vec<(K, V)>
    where
        K: Clone,
        V: Clone,
    {
        let mut places = Vec::new();
        for segment in self.segments.iter() {
            let order = segment.walk(from, n).into_iter().enumerate();
            places.extend(order.map(|(at, (rank, location))| ((rank, at), segment, location)));
        }
        // Entries of equal heat come from all segments in turn.
        places.sort_by_key(|&(rank, ..)| rank);
        let found = places.into_iter().filter_map(|(_, segment, location)| segment.find_at(location));
        let entry = |found: Found<'_, K, V>| (found.entry().0.clone(), found.entry().1.clone());
        found.map(entry).take(n).collect()
    }

    /// The entries at `place`, which moves on; `None` at the end. Following it from the start meets every entry that is
    /// there all the while exactly once.
    pub(crate) fn scan(&self, place: &mut Place) -> Option<Batch<'_, K, V>> {
        let segment = self.segments.get(place.segment)?;
        let mut found = Vec::new();
        place.move_to(segment.entries_from(place.cursor, &mut found));
        Some((segment, found))
    }

    /// Makes the keys at `place` invalid, but for those of their entries that `takes` leaves; otherwise like [`scan`](Self::scan).
    pub(crate) fn invalidate(
        &self,
        place: &mut Place,
        takes: Takes,
        panics: &mut Panics,
    ) -> Option<Batch<'_, K, V>> {
        let segment = self.segments.get(place.segment)?;
        let Visited { next, found, leaving } = segment.invalidate_from(&self.bank, place.cursor, takes);
        place.move_to(next);
        leaving.settle_but(panics);
        Some((segment, found))
    }
}

/// A few entries, and the segment they are in.
pub(crate) type Batch<'s, K, V> = (&'s Segment<K, V>, Vec<Found<'s, K, V>>);

/// How far a scan has come.
#[derive(Default)]
pub(crate) struct Place {
    segment: usize,
    cursor: u64,
}

impl Place {
    /// Goes on at `next`, or in the next segment.
    fn move_to(&mut self, next: Option<u64>) {
        *self = match next {
            Some(cursor) => Self { cursor, ..*self },
            None => Self { segment: self.segment + 1, cursor: 0 },
        };
    }
}
