//! The log of invalidations: those that cannot be matched to the loads under way when they happen.
//!
//! Nobody knows which tags a load will bring, nor which keys a load of many; and to look for all loads in a range of hashes at each
//! step of a scan would take long. So these become events, and a load is compared with the events since it began: when a caller
//! wants to join it, and when its value is to be kept.

use crate::tag::Tag;
use std::collections::VecDeque;

/// Events that are remembered for the loads that are under way. When there are more, the older half is forgotten, and loads
/// from before that bring nothing that would have to be compared with it.
pub(super) const MOST_EVENTS: usize = 1024;

/// Events while something is being loaded.
#[derive(Default)]
pub(super) struct Log {
    /// Loads of many keys, of which nobody knows what other keys they will bring.
    open: Vec<OpenLoad>,
    /// The events since the oldest load began, or since some time later.
    pub(super) events: VecDeque<Event>,
    /// How many events came before those.
    pub(super) forgotten: u64,
    /// How many came up to the last invalidation of a tag that is forgotten.
    pub(super) tags_forgotten: u64,
    /// How many came up to the last visit of a scan that is forgotten.
    visits_forgotten: u64,
    /// How many came up to the last visit of a scan. Loads that began later need not look for one.
    visited: u64,
    /// How many came before the latest load began. Later events concern all loads alike.
    latest: u64,
}

struct OpenLoad {
    id: u64,
    since: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The key of this hash has changed.
    Changed(u64),
    Invalidated(Tag),
    /// A scan has invalidated all keys of these hashes.
    Visited(Span),
}

/// A range of hashes, by [`position`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// Returns where a scan meets a hash as the policy sees it: by the upper half of the whole hash, as in the table's index.
fn position(hash: u64) -> u64 {
    hash >> 16
}

impl Log {
    /// The events since some moment, as far as they are remembered.
    pub(super) fn since(&self, moment: u64) -> impl Iterator<Item = Event> {
        self.events.iter().copied().skip(moment.saturating_sub(self.forgotten) as usize)
    }

    pub(super) fn now(&self) -> u64 {
        self.forgotten + self.events.len() as u64
    }

    /// Begins a load: returns from when on events concern it.
    #[inline]
    pub(super) fn begin(&mut self) -> u64 {
        self.latest = self.now();
        self.latest
    }

    /// Begins a load of many keys.
    pub(super) fn open(&mut self, id: u64) {
        let since = self.begin();
        self.open.push(OpenLoad { id, since });
    }

    pub(super) fn close(&mut self, id: u64) {
        self.open.retain(|load| load.id != id);
    }

    /// Returns whether a load of many keys is under way.
    #[inline]
    pub(super) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    pub(super) fn note(&mut self, event: Event) {
        if self.events.len() >= MOST_EVENTS {
            self.forget(MOST_EVENTS / 2);
        }
        self.events.push_back(event);
    }

    /// Returns the events since the latest load began: what is added to one of them concerns the same loads as a new one.
    fn latest_events(&mut self) -> impl DoubleEndedIterator<Item = &mut Event> {
        self.events.iter_mut().skip(self.latest.saturating_sub(self.forgotten) as usize)
    }

    pub(super) fn note_tag(&mut self, tag: Tag) {
        let event = Event::Invalidated(tag);
        if self.latest_events().next_back().is_none_or(|last| *last != event) {
            self.note(event);
        }
    }

    /// Notes a step of a scan. As long as no load begins, the steps of a scan are one event.
    pub(super) fn note_visit(&mut self, span: Span) {
        let before = self.latest_events().rev().find_map(|event| match event {
            Event::Visited(before) if before.to == span.from => Some(before),
            _ => None,
        });
        match before {
            Some(before) => before.to = span.to,
            None => {
                self.note(Event::Visited(span));
                self.visited = self.now();
            }
        }
    }

    fn forget(&mut self, events: usize) {
        for event in self.events.drain(..events) {
            self.forgotten += 1;
            match event {
                Event::Changed(_) => {}
                Event::Invalidated(_) => self.tags_forgotten = self.forgotten,
                Event::Visited(_) => self.visits_forgotten = self.forgotten,
            }
        }
    }

    #[cold]
    pub(super) fn forget_all(&mut self) {
        self.forget(self.events.len());
    }

    /// Checks what is kept twice.
    pub(super) fn validate(&self) {
        let visited = self.visited.max(self.latest);
        assert!(self.visits_forgotten <= self.visited && visited <= self.now(), "visits by scans");
    }

    /// Returns whether no event since some moment concerns these tags.
    pub(super) fn is_clear(&self, since: u64, tags: &[Tag]) -> bool {
        since >= self.tags_forgotten && !self.since(since).any(|event| event.is_of(tags))
    }

    /// Returns whether a scan may have visited a hash since some moment.
    #[inline]
    pub(super) fn is_visited(&self, since: u64, hash: u64) -> bool {
        since < self.visited && self.may_be_visited(since, hash)
    }

    #[cold]
    fn may_be_visited(&self, since: u64, hash: u64) -> bool {
        since < self.visits_forgotten || self.since(since).any(|event| event.has_visited(hash))
    }

    pub(super) fn may_land(&self, hash: u64, tags: &[Tag], id: u64) -> bool {
        self.open.iter().find(|load| load.id == id).is_some_and(|load| {
            let changed = Event::Changed(hash);
            let concerns = |event: Event| event == changed || event.is_of(tags) || event.has_visited(hash);
            load.since >= self.forgotten && !self.since(load.since).any(concerns)
        })
    }
}

impl Event {
    /// Returns whether one of these tags was invalidated.
    fn is_of(self, tags: &[Tag]) -> bool {
        matches!(self, Self::Invalidated(tag) if tags.contains(&tag))
    }

    /// Returns whether a scan came by this hash.
    fn has_visited(self, hash: u64) -> bool {
        matches!(self, Self::Visited(Span { from, to }) if (from..to).contains(&position(hash)))
    }
}
