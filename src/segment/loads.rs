//! The loads of a segment that are under way, and whether what comes of them may be kept.
//!
//! A load is *registered* under the segment's lock, before the loader runs. Whoever changes the key, or makes it invalid,
//! takes the registration out, under the same lock as the change; and what was loaded gets in, under that lock again, only
//! if it is still registered. So after an invalidation nobody sees a value whose load began before it.
//!
//! Registrations are by hash. A change of another key with the same hash takes them out, too, which costs a load.

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

/// What those who want the same key share; the typed side knows what it is.
pub(crate) type AnyFlight = Arc<dyn Any + Send + Sync>;

#[derive(Default)]
pub(crate) struct Loads {
    /// One of the loads: most often there is no other, and no need for a map.
    lone: Option<Load>,
    /// Further loads by hash, of one key next to always.
    by_hash: HashMap<u64, Load, BuildHasherDefault<AsIs>>,
    /// Loads of many keys, of which nobody knows what other keys they will bring.
    open: Vec<OpenLoad>,
    /// What has happened since the oldest load began, or some time later.
    events: VecDeque<Event>,
    /// How many events came before those.
    forgotten: u64,
    /// How many came up to the last invalidation of a tag that is forgotten.
    tags_forgotten: u64,
}

struct Load {
    hash: u64,
    flight: AnyFlight,
    /// The flight's.
    number: u64,
    /// Events before this do not concern it.
    since: u64,
    others: Vec<Load>,
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
    /// That with the flight of this number.
    Of(u64),
    /// A load of many keys, of one that it was not asked for.
    Open(u64),
}

impl Loads {
    fn is_empty(&self) -> bool {
        self.lone.is_none() && self.by_hash.is_empty() && self.open.is_empty()
    }

    #[inline]
    fn load_of(&self, hash: u64, is_it: impl Fn(&Load) -> bool) -> Option<&Load> {
        let hash = policy_hash(hash);
        if let Some(load) = self.lone.as_ref().filter(|load| load.hash == hash && is_it(load)) {
            return Some(load);
        }
        if self.by_hash.is_empty() {
            return None;
        }
        let first = self.by_hash.get(&hash)?;
        std::iter::once(first).chain(&first.others).find(|load| is_it(load))
    }

    /// The flight of this hash that `is_it`, and the tags that were invalidated since it began: what carries one of them is
    /// too old for who comes now. None if those are not known.
    pub(super) fn find(
        &self,
        hash: u64,
        is_it: impl Fn(&AnyFlight) -> bool,
    ) -> Option<(&AnyFlight, Vec<Tag>)> {
        let load = self.load_of(hash, |load| load.since >= self.tags_forgotten && is_it(&load.flight))?;
        let tags = self.since(load.since).filter_map(|event| match event {
            Event::Invalidated(tag) => Some(tag),
            Event::Changed(_) => None,
        });
        Some((&load.flight, tags.collect()))
    }

    pub(super) fn register(&mut self, hash: u64, flight: AnyFlight, number: u64) {
        let hash = policy_hash(hash);
        let load = Load { hash, flight, number, since: self.now(), others: Vec::new() };
        if self.lone.is_none() {
            self.lone = Some(load);
            return;
        }
        match self.by_hash.entry(hash) {
            Entry::Occupied(mut first) => first.get_mut().others.push(load),
            Entry::Vacant(entry) => _ = entry.insert(load),
        }
    }

    /// Whether what a load has brought for this hash, with these tags, may be kept.
    pub(super) fn may_land(&self, hash: u64, tags: &[Tag], id: LoadId) -> bool {
        match id {
            LoadId::Of(number) => self.load_of(hash, |load| load.number == number).is_some_and(|load| {
                let is_too_old = || self.since(load.since).any(|event| is_one_of(event, tags));
                tags.is_empty() || load.since >= self.tags_forgotten && !is_too_old()
            }),
            LoadId::Open(id) => self.open.iter().find(|load| load.id == id).is_some_and(|load| {
                let changed = Event::Changed(policy_hash(hash));
                let mut since = self.since(load.since);
                load.since >= self.forgotten && !since.any(|event| event == changed || is_one_of(event, tags))
            }),
        }
    }

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

    /// Takes one load out, if it is still registered.
    pub(super) fn end(&mut self, hash: u64, number: u64) {
        if self.lone.as_ref().is_some_and(|load| load.number == number) {
            self.lone = None;
        } else if let Entry::Occupied(mut entry) = self.by_hash.entry(policy_hash(hash)) {
            let first = entry.get_mut();
            first.others.retain(|load| load.number != number);
            if first.number == number {
                match first.others.pop() {
                    Some(other) => {
                        let others = std::mem::take(&mut first.others);
                        *first = Load { others, ..other };
                    }
                    None => _ = entry.remove(),
                }
            }
        }
        self.forget_all_if_empty();
    }

    /// The key of this hash has changed.
    #[inline]
    pub(super) fn void(&mut self, hash: u64) {
        let hash = policy_hash(hash);
        if self.lone.as_ref().is_some_and(|load| load.hash == hash) {
            self.lone = None;
        }
        if !(self.by_hash.is_empty() && self.open.is_empty()) {
            self.void_further(hash);
        }
        self.forget_all_if_empty();
    }

    #[inline(never)]
    fn void_further(&mut self, hash: u64) {
        self.by_hash.remove(&hash);
        if !self.open.is_empty() {
            self.note(Event::Changed(hash));
        }
    }

    /// All keys may have changed.
    pub(super) fn void_all(&mut self) {
        self.lone = None;
        self.by_hash.clear();
        // As if so much had happened that nobody remembers.
        self.forget(self.events.len());
        self.forgotten += 1;
    }

    /// What carries this tag is out of date.
    pub(super) fn void_tag(&mut self, tag: Tag) {
        if !self.is_empty() {
            self.note(Event::Invalidated(tag));
        }
    }

    pub(super) fn open(&mut self, id: u64) {
        self.open.push(OpenLoad { id, since: self.now() });
    }

    pub(super) fn close(&mut self, id: u64) {
        self.open.retain(|load| load.id != id);
        self.forget_all_if_empty();
    }

    fn forget_all_if_empty(&mut self) {
        if !self.events.is_empty() && self.is_empty() {
            self.forget(self.events.len());
        }
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
