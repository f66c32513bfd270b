//! The loads of a segment that are under way, and whether what comes of them may be kept.
//!
//! A load is *registered* under the segment's lock, before the loader runs. Whoever changes the key, or makes it invalid,
//! makes the registration void, under the same lock as the change; and what was loaded gets in, under that lock again, only
//! if it is not void. So after an invalidation nobody sees a value whose load began before it.
//!
//! Registrations are by hash. A change of another key with the same hash makes them void, too, which costs a load.
//!
//! Most loads have nobody who waits for them: the first who does makes the place to wait at.

use super::flight::Flight;
use crate::policy::policy_hash;
use crate::tag::Tag;
use std::any::Any;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// Events that are remembered for the loads that are under way. When there are more, the older half is forgotten, and loads
/// from before that bring nothing that would have to be compared with it.
const MOST_EVENTS: usize = 1024;

pub(super) struct Loads<K, V> {
    /// One of the loads: most often there is no other, and no need for a map.
    lone: Option<Load<K, V>>,
    /// Further loads by hash.
    by_hash: HashMap<u64, Bunch<K, V>, BuildHasherDefault<AsIs>>,
    /// How many of them are not void.
    good: usize,
    log: Log,
}

/// A load of one key. Only who leads it takes it out of the books, so no key is dropped by others, under their lock.
struct Load<K, V> {
    hash: u64,
    key: K,
    /// No other load of the process has it, now or later.
    number: u64,
    /// Events before this do not concern it.
    since: u64,
    /// Nobody joins it any more, and what comes of it is not kept.
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

/// What happens while something is being loaded, as far as it cannot be told at once whom it concerns.
#[derive(Default)]
struct Log {
    /// Loads of many keys, of which nobody knows what other keys they will bring.
    open: Vec<OpenLoad>,
    /// What has happened since the oldest load began, or some time later.
    events: VecDeque<Event>,
    /// How many events came before those.
    forgotten: u64,
    /// How many came up to the last invalidation of a tag that is forgotten.
    tags_forgotten: u64,
}

struct OpenLoad {
    id: u64,
    since: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    /// The key of this hash has changed.
    Changed(u64),
    Invalidated(Tag),
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

    /// All keys may have changed.
    fn void_all(&mut self);

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
                let load = self.load_of(hash, |load| load.number == number && !load.is_void);
                load.is_some_and(|load| tags.is_empty() || self.log.is_clear(load.since, tags))
            }
            LoadId::Open(id) => self.log.may_land(policy_hash(hash), tags, id),
        }
    }

    #[cfg(feature = "serde")]
    fn is_loading(&self, hash: u64) -> bool {
        self.load_of(hash, |load| !load.is_void).is_some()
    }

    #[inline]
    fn void(&mut self, hash: u64) {
        let hash = policy_hash(hash);
        if let Some(load) = self.lone.as_mut().filter(|load| load.hash == hash) {
            self.good -= load.void();
        }
        if !(self.by_hash.is_empty() && self.log.open.is_empty()) {
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

    fn void_all(&mut self) {
        let further = self.by_hash.values_mut().flat_map(Bunch::iter_mut);
        self.lone.iter_mut().chain(further).for_each(|load| _ = load.void());
        self.good = 0;
        // As if so much had happened that nobody remembers.
        self.log.forget_all();
        self.log.forgotten += 1;
    }

    fn void_tag(&mut self, tag: Tag) {
        if !self.is_idle() {
            self.log.note(Event::Invalidated(tag));
        }
    }

    fn close(&mut self, id: u64) {
        self.log.open.retain(|load| load.id != id);
        self.forget_all_if_empty();
    }

    fn validate(&self) {
        let further = self.by_hash.iter().flat_map(|(&hash, bunch)| {
            bunch.iter().inspect(move |load| assert_eq!(load.hash, hash, "the hash of a load"))
        });
        let good = self.lone.iter().chain(further).filter(|load| !load.is_void).count();
        assert_eq!(self.good, good, "loads that are not void");
        assert!(!self.is_idle() || self.log.events.is_empty(), "events that concern nobody");
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
        Self { lone: None, by_hash: HashMap::default(), good: 0, log: Log::default() }
    }

    fn is_idle(&self) -> bool {
        self.good == 0 && self.log.open.is_empty()
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

    /// The flight that brings a key, and the tags that were invalidated since it began: what carries one of them is too old
    /// for who comes now. None if those are not known.
    #[inline]
    pub(super) fn join(&mut self, hash: u64, key: &K) -> Option<(Arc<Flight<V>>, Vec<Tag>)>
    where
        K: Eq,
    {
        let known = self.log.tags_forgotten;
        let is_it = |load: &Load<K, V>| !load.is_void && load.since >= known && load.key == *key;
        let load = self.load_mut(hash, is_it)?;
        let flight = load.flight.get_or_insert_with(|| Arc::new(Flight::new(load.number)));
        let (flight, since) = (Arc::clone(flight), load.since);
        let tags = self.log.since(since).filter_map(|event| match event {
            Event::Invalidated(tag) => Some(tag),
            Event::Changed(_) => None,
        });
        Some((flight, tags.collect()))
    }

    #[inline]
    pub(super) fn register(&mut self, hash: u64, key: K, number: u64) {
        let hash = policy_hash(hash);
        let load = Load { hash, key, number, since: self.log.now(), is_void: false, flight: None };
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
        if !self.log.open.is_empty() {
            self.log.note(Event::Changed(hash));
        }
    }

    /// Begins to watch which keys change, for [`LoadId::Open`].
    pub(super) fn open(&mut self, id: u64) {
        self.log.open.push(OpenLoad { id, since: self.log.now() });
    }

    #[inline]
    fn forget_all_if_empty(&mut self) {
        if !self.log.events.is_empty() && self.is_idle() {
            self.log.forget_all();
        }
    }
}

impl Log {
    /// The events since some moment, as far as they are remembered.
    fn since(&self, moment: u64) -> impl Iterator<Item = Event> {
        self.events.iter().copied().skip(moment.saturating_sub(self.forgotten) as usize)
    }

    fn now(&self) -> u64 {
        self.forgotten + self.events.len() as u64
    }

    fn note(&mut self, event: Event) {
        if self.events.len() >= MOST_EVENTS {
            self.forget(MOST_EVENTS / 2);
        }
        self.events.push_back(event);
    }

    fn forget(&mut self, events: usize) {
        let is_tag = |event: &Event| matches!(event, Event::Invalidated(_));
        if let Some(last) = self.events.iter().take(events).rposition(is_tag) {
            self.tags_forgotten = self.forgotten + last as u64 + 1;
        }
        self.events.drain(..events);
        self.forgotten += events as u64;
    }

    #[cold]
    fn forget_all(&mut self) {
        self.forget(self.events.len());
    }

    /// Whether no event since some moment concerns these tags.
    fn is_clear(&self, since: u64, tags: &[Tag]) -> bool {
        since >= self.tags_forgotten && !self.since(since).any(|event| is_one_of(event, tags))
    }

    fn may_land(&self, hash: u64, tags: &[Tag], id: u64) -> bool {
        self.open.iter().find(|load| load.id == id).is_some_and(|load| {
            let changed = Event::Changed(hash);
            let mut since = self.since(load.since);
            load.since >= self.forgotten && !since.any(|event| event == changed || is_one_of(event, tags))
        })
    }
}

fn is_one_of(event: Event, tags: &[Tag]) -> bool {
    matches!(event, Event::Invalidated(tag) if tags.contains(&tag))
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
