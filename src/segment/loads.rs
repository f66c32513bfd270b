//! The loads of a segment that are under way, and whether what comes of them may be kept.
//!
//! A load is *registered* under the segment's lock, before the loader runs. Whoever changes the key, or makes it invalid,
//! makes the registration void, under the same lock as the change; and what was loaded gets in, under that lock again, only
//! if it is not void. So after an invalidation nobody sees a value whose load began before it.
//!
//! Registrations are by hash. A change of another key with the same hash makes them void, too, which costs a load.
//!
//! A scan that invalidates what it visits ([`AnyLoads::void_range`]) makes void the loads of a range of hashes, in the hold of
//! the lock in which it finds the entries of that range. It does not look for those loads: it leaves an event, and a load
//! whose range was visited after it began is as good as void. So a step of a scan costs the same however many loads are
//! under way.
//!
//! Most loads have no waiters: the first one makes the place to wait at.

use super::flight::Flight;
use super::load_log::{Event, Log, Span};
use crate::policy::policy_hash;
use crate::tag::Tag;
use std::any::Any;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

pub(super) struct Loads<K, V> {
    /// One of the loads: most often there is no other, and no need for a map.
    lone: Option<Load<K, V>>,
    /// Further loads by hash.
    by_hash: HashMap<u64, Bunch<K, V>, BuildHasherDefault<AsIs>>,
    /// The number of those with [`Load::is_void`] unset.
    good: usize,
    log: Log,
    /// Tags that the values of some loads will carry, by the loads' numbers: their entries' own. Apart, so that most loads, which
    /// have none, are small.
    tags: HashMap<u64, Box<[Tag]>, BuildHasherDefault<AsIs>>,
}

/// A load of one key. Only who leads it takes it out of the books, so no key is dropped by others, under their lock.
struct Load<K, V> {
    hash: u64,
    key: K,
    /// No other load of the process has it, now or later.
    number: u64,
    /// Events before this do not concern it.
    since: u64,
    /// Set if no caller may join it and its value is not kept. Events may say so, too: see [`Loads::is_good`].
    is_void: bool,
    /// For those who wait, if anybody does.
    flight: Option<Arc<Flight<V>>>,
}

/// The loads of a hash: of one key next to always.
struct Bunch<K, V> {
    first: Load<K, V>,
    others: Vec<Load<K, V>>,
}

/// What is left of a load that has been taken out.
pub(crate) struct Ended<K, V> {
    _key: K,
    /// Where others wait for it, if any do.
    pub(crate) flight: Option<Arc<Flight<V>>>,
}

/// Which load an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoadId {
    /// That of one key, with this number.
    Of(u64),
    /// A load of many keys, of one that it was not asked for.
    Open(u64),
}

/// What writes need to know of loads, whatever the types of keys and values.
pub(super) trait AnyLoads: Any + Send {
    /// Whether what a load has brought for this hash, with these tags, may be kept.
    fn may_land(&self, hash: u64, tags: &[Tag], id: LoadId) -> bool;

    #[cfg(feature = "serde")]
    /// Whether a key of this hash is being loaded, so that what comes of it is kept.
    fn is_loading(&self, hash: u64) -> bool;

    /// The key of this hash has changed.
    fn void(&mut self, hash: u64);

    /// The same for one load.
    fn void_one(&mut self, hash: u64, number: u64);

    /// Makes void the loads of the keys that a scan visits: those whose hashes have the positions from `from` to before `to`.
    fn void_range(&mut self, from: u64, to: u64);

    /// What carries this tag is out of date.
    fn void_tag(&mut self, tag: Tag);

    /// Ends what [`Loads::open`] has begun.
    fn close(&mut self, id: u64);

    /// Checks what is kept twice.
    fn validate(&self);
}

impl<K: Send + 'static, V: Send + Sync + 'static> AnyLoads for Loads<K, V> {
    fn may_land(&self, hash: u64, tags: &[Tag], id: LoadId) -> bool {
        match id {
            LoadId::Of(number) => {
                let load = self.load_of(hash, |load| load.number == number && self.is_good(load));
                load.is_some_and(|load| tags.is_empty() || self.log.is_clear(load.since, tags))
            }
            LoadId::Open(id) => self.log.may_land(policy_hash(hash), tags, id),
        }
    }

    #[cfg(feature = "serde")]
    fn is_loading(&self, hash: u64) -> bool {
        self.load_of(hash, |load| self.is_good(load)).is_some()
    }

    #[inline]
    fn void(&mut self, hash: u64) {
        let hash = policy_hash(hash);
        if let Some(load) = self.lone.as_mut().filter(|load| load.hash == hash) {
            self.good -= load.void();
        }
        if !self.by_hash.is_empty() || self.log.has_open() {
            self.void_further(hash);
        }
        self.forget_all_if_empty();
    }

    fn void_one(&mut self, hash: u64, number: u64) {
        if let Some(load) = self.load_mut(hash, |load| load.number == number) {
            let were_good = load.void();
            self.good -= were_good;
        }
        self.forget_all_if_empty();
    }

    fn void_range(&mut self, from: u64, to: u64) {
        if !self.is_idle() {
            self.log.note_visit(Span { from, to });
        }
    }

    fn void_tag(&mut self, tag: Tag) {
        if !self.is_idle() {
            self.log.note_tag(tag);
        }
    }

    fn close(&mut self, id: u64) {
        self.log.close(id);
        self.forget_all_if_empty();
    }

    fn validate(&self) {
        let further = self.by_hash.iter().flat_map(|(&hash, bunch)| {
            bunch.iter().inspect(move |load| assert_eq!(load.hash, hash, "the hash of a load"))
        });
        let good = self.lone.iter().chain(further).filter(|load| !load.is_void).count();
        assert_eq!(self.good, good, "loads that are not void");
        assert!(!self.is_idle() || self.log.events.is_empty(), "events that concern nobody");
        let all = self.lone.iter().chain(self.by_hash.values().flat_map(Bunch::iter));
        let tagged = all.filter(|load| self.tags.contains_key(&load.number)).count();
        assert_eq!(self.tags.len(), tagged, "tags of loads that have ended");
        self.log.validate();
    }
}

impl<K, V> Load<K, V> {
    /// Says how many were good until now: 1 or none.
    fn void(&mut self) -> usize {
        usize::from(!std::mem::replace(&mut self.is_void, true))
    }
}

impl<K, V> Bunch<K, V> {
    fn iter(&self) -> impl Iterator<Item = &Load<K, V>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Load<K, V>> {
        std::iter::once(&mut self.first).chain(&mut self.others)
    }
}

impl<K, V> Loads<K, V> {
    pub(super) fn new() -> Self {
        let (by_hash, tags) = Default::default();
        Self { lone: None, by_hash, good: 0, log: Log::default(), tags }
    }

    fn is_idle(&self) -> bool {
        self.good == 0 && !self.log.has_open()
    }

    /// Returns whether callers may join a load and its value may be kept.
    #[inline]
    fn is_good(&self, load: &Load<K, V>) -> bool {
        !load.is_void
            && !self.log.is_visited(load.since, load.hash)
            && (self.tags.is_empty() || self.is_untouched(load))
    }

    #[cold]
    fn note_tags(&mut self, number: u64, tags: &[Tag]) {
        self.tags.insert(number, tags.into());
    }

    #[cold]
    fn forget_tags(&mut self, number: u64) {
        self.tags.remove(&number);
    }

    /// Returns whether none of the tags of a load was invalidated since it began.
    #[cold]
    fn is_untouched(&self, load: &Load<K, V>) -> bool {
        self.tags.get(&load.number).is_none_or(|tags| self.log.is_clear(load.since, tags))
    }

    #[inline]
    fn load_of(&self, hash: u64, is_it: impl Fn(&Load<K, V>) -> bool) -> Option<&Load<K, V>> {
        let hash = policy_hash(hash);
        if let Some(load) = self.lone.as_ref().filter(|load| load.hash == hash && is_it(load)) {
            return Some(load);
        }
        if self.by_hash.is_empty() {
            return None;
        }
        self.by_hash.get(&hash)?.iter().find(|load| is_it(load))
    }

    #[inline]
    fn load_mut(&mut self, hash: u64, is_it: impl Fn(&Load<K, V>) -> bool) -> Option<&mut Load<K, V>> {
        let hash = policy_hash(hash);
        if let Some(load) = self.lone.as_mut().filter(|load| load.hash == hash && is_it(load)) {
            return Some(load);
        }
        if self.by_hash.is_empty() {
            return None;
        }
        self.by_hash.get_mut(&hash)?.iter_mut().find(|load| is_it(load))
    }

    /// Returns the flight that brings a key, and the tags that were invalidated since it began: a value that carries one of them
    /// is too old for a caller that joins now. `None` if those are not known.
    #[inline]
    pub(super) fn join(&mut self, hash: u64, key: &K) -> Option<(Arc<Flight<V>>, Vec<Tag>)>
    where
        K: Eq,
    {
        let known = self.log.tags_forgotten;
        let is_it = |load: &Load<K, V>| self.is_good(load) && load.since >= known && load.key == *key;
        let number = self.load_of(hash, is_it)?.number;
        let load = self.load_mut(hash, |load| load.number == number)?;
        let flight = load.flight.get_or_insert_with(|| Arc::new(Flight::new(number)));
        let (flight, since) = (Arc::clone(flight), load.since);
        let tags = self.log.since(since).filter_map(|event| match event {
            Event::Invalidated(tag) => Some(tag),
            Event::Changed(_) | Event::Visited(_) => None,
        });
        Some((flight, tags.collect()))
    }

    #[inline]
    pub(super) fn register(&mut self, hash: u64, key: K, number: u64, tags: &[Tag]) {
        let hash = policy_hash(hash);
        let load = Load { hash, key, number, since: self.log.begin(), is_void: false, flight: None };
        if !tags.is_empty() {
            self.note_tags(number, tags);
        }
        self.good += 1;
        if self.lone.is_none() {
            self.lone = Some(load);
            return;
        }
        match self.by_hash.entry(hash) {
            Entry::Occupied(mut bunch) => bunch.get_mut().others.push(load),
            Entry::Vacant(entry) => _ = entry.insert(Bunch { first: load, others: Vec::new() }),
        }
    }

    /// Takes a load out: nobody joins it from now on.
    #[inline]
    pub(super) fn end(&mut self, hash: u64, number: u64) -> Option<Ended<K, V>> {
        let is_lone = self.lone.as_ref().is_some_and(|load| load.number == number);
        let load = if is_lone { self.lone.take() } else { self.end_further(hash, number) };
        let Load { key, flight, is_void, .. } = load?;
        self.good -= usize::from(!is_void);
        if !self.tags.is_empty() {
            self.forget_tags(number);
        }
        self.forget_all_if_empty();
        Some(Ended { _key: key, flight })
    }

    #[inline(never)]
    fn end_further(&mut self, hash: u64, number: u64) -> Option<Load<K, V>> {
        let Entry::Occupied(mut entry) = self.by_hash.entry(policy_hash(hash)) else { return None };
        let Bunch { first, others } = entry.get_mut();
        if let Some(place) = others.iter().position(|load| load.number == number) {
            return Some(others.swap_remove(place));
        }
        if first.number != number {
            return None;
        }
        match others.pop() {
            Some(other) => Some(std::mem::replace(first, other)),
            None => Some(entry.remove().first),
        }
    }

    #[inline(never)]
    fn void_further(&mut self, hash: u64) {
        if let Some(bunch) = self.by_hash.get_mut(&hash) {
            self.good -= bunch.iter_mut().map(Load::void).sum::<usize>();
        }
        if self.log.has_open() {
            self.log.note(Event::Changed(hash));
        }
    }

    /// Begins to watch which keys change, for [`LoadId::Open`].
    pub(super) fn open(&mut self, id: u64) {
        self.log.open(id);
    }

    #[inline]
    fn forget_all_if_empty(&mut self) {
        if !self.log.events.is_empty() && self.is_idle() {
            self.log.forget_all();
        }
    }
}

/// Hashes need no hashing.
#[derive(Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a hash is a u64");
    }

    fn write_u64(&mut self, hash: u64) {
        // The highest bits, which a map wants to differ, too, are 0.
        self.0 = hash.rotate_left(32) ^ hash;
    }
}

#[cfg(test)]
mod tests {
    use super::super::load_log::MOST_EVENTS;
    use super::*;
    use proptest::prelude::*;

    const POSITIONS: u64 = 12;
    const SCANS: usize = 3;

    #[derive(Clone, Debug)]
    enum Step {
        /// If there is a second number, the load is a refresh of an entry with that tag.
        Register(u64, Option<u64>),
        Open,
        /// Ends one of the loads under way.
        End(usize),
        Void(u64),
        VoidOne(usize),
        VoidTag(u64),
        /// One of several scans visits so many positions; from the last one it goes back to the first.
        Scan(usize, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..POSITIONS, prop::option::weighted(0.3, 0..3_u64))
                .prop_map(|(position, tag)| Step::Register(position, tag)),
            1 => Just(Step::Open),
            5 => (0..100_usize).prop_map(Step::End),
            2 => (0..POSITIONS).prop_map(Step::Void),
            1 => (0..100_usize).prop_map(Step::VoidOne),
            2 => (0..3_u64).prop_map(Step::VoidTag),
            6 => (0..SCANS, 1..4_u64).prop_map(|(scan, visited)| Step::Scan(scan, visited)),
        ]
    }

    /// A load, and all that has become invalid since it began.
    struct Naive {
        id: LoadId,
        hash: u64,
        is_void: bool,
        /// Its entry's tags. Here and below a bit each.
        own: u64,
        /// Positions and tags.
        hashes: u64,
        tags: u64,
    }

    impl Naive {
        fn is_good(&self, position: u64) -> bool {
            !self.is_void && self.hashes & 1 << position == 0 && self.tags & self.own == 0
        }
    }

    struct Both {
        loads: Loads<u64, u64>,
        naive: Vec<Naive>,
        scans: [u64; SCANS],
        next: u64,
    }

    fn hash_at(position: u64) -> u64 {
        position << 32
    }

    impl Both {
        fn begin(&mut self, id: LoadId, hash: u64, own: u64) {
            self.naive.push(Naive { id, hash, is_void: false, own, hashes: 0, tags: 0 });
            self.next += 1;
        }

        fn take(&mut self, step: &Step) {
            match *step {
                Step::Register(position, tag) => {
                    let (hash, number) = (hash_at(position), self.next);
                    let tags: Vec<_> = tag.into_iter().map(Tag::from).collect();
                    self.loads.register(hash, position, number, &tags);
                    self.begin(LoadId::Of(number), hash, tag.map_or(0, |tag| 1 << tag));
                }
                Step::Open => {
                    self.loads.open(self.next);
                    self.begin(LoadId::Open(self.next), 0, 0);
                }
                Step::End(_) if self.naive.is_empty() => {}
                Step::End(which) => {
                    let load = self.naive.swap_remove(which % self.naive.len());
                    match load.id {
                        LoadId::Of(number) => assert!(self.loads.end(load.hash, number).is_some()),
                        LoadId::Open(id) => self.loads.close(id),
                    }
                }
                Step::Void(position) => {
                    self.loads.void(hash_at(position));
                    self.naive.iter_mut().for_each(|load| load.hashes |= 1 << position);
                }
                Step::VoidOne(which) => {
                    let count = self.naive.len().max(1);
                    let one = self.naive.get_mut(which % count);
                    if let Some(Naive { id: LoadId::Of(number), hash, is_void, .. }) = one {
                        self.loads.void_one(*hash, *number);
                        *is_void = true;
                    }
                }
                Step::VoidTag(tag) => {
                    self.loads.void_tag(Tag::from(tag));
                    self.naive.iter_mut().for_each(|load| load.tags |= 1 << tag);
                }
                Step::Scan(scan, visited) => {
                    let (from, to) = (self.scans[scan], self.scans[scan] + visited);
                    self.loads.void_range(from, if to < POSITIONS { to } else { u64::MAX });
                    let visited = (from..to).fold(0, |visited, position| visited | 1 << position);
                    self.naive.iter_mut().for_each(|load| load.hashes |= visited);
                    self.scans[scan] = if to < POSITIONS { to } else { 0 };
                }
            }
            self.loads.validate();
        }

        /// Compares what may land and be joined.
        fn check(&mut self) {
            for load in &self.naive {
                let positions = match load.id {
                    LoadId::Of(_) => load.hash >> 32..(load.hash >> 32) + 1,
                    LoadId::Open(_) => 0..POSITIONS,
                };
                for position in positions {
                    for (tags, bits) in
                        [(&[][..], 0), (&[Tag::from(0)], 1), (&[Tag::from(1), Tag::from(2)], 6)]
                    {
                        let expected = load.is_good(position) && load.tags & bits == 0;
                        let may_land = self.loads.may_land(hash_at(position), tags, load.id);
                        assert_eq!(may_land, expected, "{:?} at {position}", load.id);
                    }
                }
            }
            for position in 0..POSITIONS {
                let hash = hash_at(position);
                let good = |load: &Naive| {
                    matches!(load.id, LoadId::Of(_)) && load.hash == hash && load.is_good(position)
                };
                let joined = self.loads.join(hash, &position).map(|(flight, _)| LoadId::Of(flight.number));
                let is_any = self.naive.iter().any(good);
                assert_eq!(joined.is_some(), is_any, "to join");
                let led = joined.and_then(|id| self.naive.iter().find(|load| load.id == id));
                assert!(led.is_none_or(good), "a void load was joined");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// Against a list of all that has become invalid since each load began.
        #[test]
        #[cfg_attr(miri, ignore = "too long for Miri")]
        fn agrees_with_lists(steps in prop::collection::vec(step(), 1..200)) {
            let mut both = Both { loads: Loads::new(), naive: Vec::new(), scans: [0; SCANS], next: 0 };
            for step in &steps {
                both.take(step);
                both.check();
            }
        }
    }

    /// However many steps a scan takes, it is remembered as a whole.
    #[test]
    fn the_steps_of_a_scan_are_one_event() {
        let mut loads: Loads<u64, u64> = Loads::new();
        loads.register(hash_at(5), 5, 0, &[]);
        loads.open(1);
        let steps = 10 * MOST_EVENTS as u64;
        for step in 0..steps {
            loads.void_range(10 + step, 11 + step);
            loads.void_tag(Tag::from(1));
        }
        assert_eq!(loads.log.events.len(), 2);
    }

    /// Loads from before are taken for visited.
    #[test]
    fn a_visit_that_is_forgotten_counts() {
        let mut loads: Loads<u64, u64> = Loads::new();
        loads.register(hash_at(5), 5, 0, &[]);
        loads.open(1);
        loads.void_range(5, 6);
        loads.register(hash_at(7), 7, 2, &[]);
        (0..2 * MOST_EVENTS as u64).for_each(|tag| loads.void_tag(Tag::from(tag)));
        assert!(loads.log.forgotten > 0);
        assert!(!loads.may_land(hash_at(5), &[], LoadId::Of(0)) && loads.join(hash_at(5), &5).is_none());
        assert!(!loads.may_land(hash_at(5), &[], LoadId::Open(1)));
        assert!(loads.may_land(hash_at(7), &[], LoadId::Of(2)), "it began later");
    }
}
