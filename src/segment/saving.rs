//! What a snapshot needs of a segment: its entries in the policy's order, with what is known of each, and the way back.

use super::times::{Extra, FOREVER, Times, coded};
use super::write::Write;
use super::{Core, Given, Location, Segment};
use crate::policy::{Policy, Reads, Slot};
use crate::table::{Found, Writer};
use crate::tag::Tag;
use std::cmp::Reverse;

/// The entries of a segment as its policy has them, and what the policy knows beside.
pub(crate) struct Order {
    /// First the pinned ones, then the others, the hottest first; last those that weigh nothing and have no place in the order.
    pub(crate) places: Vec<Place>,
    pub(crate) rest: Vec<u64>,
}

/// Where an entry stood when it was asked for the order.
pub(crate) struct Place {
    location: Location,
    /// The policy's.
    note: u64,
    /// The greatest there is, if the entry is pinned.
    pub(crate) heat: u64,
    /// How many were before it in the policy's own order.
    turn: u32,
}

/// What is known of an entry beside its key and value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) weight: u64,
    pub(crate) is_pinned: bool,
    pub(crate) tags: Vec<Tag>,
    pub(crate) given: Given,
    pub(crate) back: Back,
}

/// What an entry that comes back from a snapshot is to be again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Back {
    /// The policy's, if it is that which made it.
    pub(crate) note: Option<u64>,
    pub(crate) mark: u8,
    /// How many were before it in the policy's order: entries come back the last first.
    pub(crate) turn: u32,
    pub(crate) rest: Rest,
}

/// What is left of an entry's life, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    /// Until its deadline.
    pub(crate) deadline: u64,
    /// Until what reads do not put off.
    pub(crate) end: u64,
    /// Its time to idle, if it has one of its own.
    pub(crate) idle: Option<u64>,
    /// Its time to live from its next write on, if it has one of its own.
    pub(crate) ttl: Option<u64>,
    pub(crate) reads: Option<u64>,
    pub(crate) age: Option<u64>,
    /// How long it took to load; 0 if that is not known.
    pub(crate) took: u64,
}

impl Rest {
    pub(crate) const ENDLESS: Self =
        Self { deadline: FOREVER, end: FOREVER, idle: None, ttl: None, reads: None, age: None, took: 0 };

    /// Lets time pass. Says whether anything is left.
    pub(crate) fn pass(&mut self, time: u64) -> bool {
        for left in [&mut self.deadline, &mut self.end].into_iter().filter(|left| **left != FOREVER) {
            *left = left.saturating_sub(time);
        }
        self.age = self.age.map(|age| age.saturating_add(time));
        self.deadline > 0 && self.reads != Some(0)
    }

    /// Whether it cannot be by this rule that it ends then, or not.
    pub(crate) fn is_own(&self, time_to_live: u64) -> bool {
        if time_to_live == FOREVER { self.end != FOREVER } else { self.end > time_to_live }
    }

    /// Whether there is anything to be kept of it in a cache whose entries do not end.
    pub(crate) fn is_limited(&self) -> bool {
        self.deadline != FOREVER || self.idle.is_some()
    }
}

impl<K, V> Segment<K, V> {
    /// Entries may come and go while those of the order are [looked up](Self::look_up).
    pub(crate) fn order(&self) -> Order {
        let write = self.write();
        let given = write.writer.given();
        let mut places = Vec::new();
        let (policy, entries) = (&write.writer.policy, write.entries());
        let mut turn = 0;
        policy.save(entries, &mut |slot, note| {
            // A policy may name what never was a slot.
            if slot.index() < given {
                let location = Location { slot: slot.number(), hash: entries.header_hash(slot) };
                places.push(Place { location, note, heat: policy.heat(slot, entries), turn });
                turn += 1;
            }
        });
        let rest = policy.save_rest();
        // Last: among entries without heat those that weigh nothing come last.
        places.extend(write.unordered());
        self.close(write).settle();
        places.sort_by_key(|place| Reverse(place.heat));
        Order { places, rest }
    }

    /// Those of the entries that had these places that are still there, also if their values have been replaced.
    pub(crate) fn look_up<'s>(&'s self, places: &[Place], into: &mut Vec<(Found<'s, K, V>, Kept)>) {
        let writer = self.table.lock();
        let times = self.times().map(|times| (times, times.now()));
        for place in places {
            let Some(slot) = self.slot_at(&writer, place.location) else { continue };
            let Some(found) = self.table.found(&writer, slot) else { continue };
            let rest = times.map_or(Some(Rest::ENDLESS), |(times, now)| times.rest(slot, now));
            let Some(rest) = rest else { continue };
            let header = writer.header(slot);
            let extras = writer.extras.as_ref();
            let tags = extras.map(|extras| extras.tags.of(slot).collect());
            let kept = Kept {
                weight: writer.weights.get(slot),
                is_pinned: header.is_pinned(),
                tags: tags.unwrap_or_default(),
                given: extras.map_or(Given::NOTHING, |extras| extras.given(slot)),
                back: Back { note: Some(place.note), mark: header.mark(), turn: place.turn, rest },
            };
            into.push((found, kept));
        }
    }

    /// What the policy knew beside the entries, after those have come back.
    pub(crate) fn restore_rest(&self, words: &[u64], same_hashes: bool) {
        let mut write = self.write();
        write.writer.policy.restore_rest(words, same_hashes);
        self.close(write).settle();
    }
}

impl Write<'_> {
    /// Returns the entries that the policy does not order: pinned ones, and those that weigh nothing.
    fn unordered(&self) -> impl Iterator<Item = Place> {
        (0..self.writer.given() as u32).filter_map(|slot| {
            let live = self.writer.live(slot)?;
            let header = live.header();
            let location = Location { slot, hash: header.hash() };
            let heat = if header.is_pinned() { u64::MAX } else { 0 };
            (!self.writer.is_ordered(slot)).then_some(Place { location, note: 0, heat, turn: 0 })
        })
    }

    /// Gives an entry that comes back the mark that it had, pinned or not.
    #[cold]
    pub(super) fn mark_again(&mut self, slot: u32, back: &Back) {
        let most = match self.writer.policy.reads() {
            Reads::Marked(most) => most,
            Reads::Ignored | Reads::Recorded => 0,
        };
        self.writer.header(slot).set_mark(back.mark.min(most));
    }

    /// Tells the policy of an entry that has come back.
    #[cold]
    pub(super) fn insert_again(&mut self, slot: u32, back: &Back) {
        self.policy(|policy, entries| match back.note {
            Some(note) => policy.restore(Slot::new(slot), note, entries),
            None => policy.insert(Slot::new(slot), entries),
        });
    }
}

impl Times {
    /// What is left of the life of the entry in `slot`; `None` if that is over.
    fn rest(&self, slot: u32, now: u64) -> Option<Rest> {
        let left = |time: u64| if time == FOREVER { FOREVER } else { time.saturating_sub(now) };
        let deadline = self.deadline(slot);
        if self.is_used_up(slot) || self.has_ended(slot, deadline, now) {
            return None;
        }
        let end = match self.extra(Extra::End, slot) {
            0 if self.moves(slot) => FOREVER,
            0 => deadline,
            end => end,
        };
        let limits_reads = self.rules.max_reads.is_some();
        let (ttl, idle) = self.given(slot);
        Some(Rest {
            deadline: left(deadline),
            end: left(end),
            idle,
            ttl,
            reads: limits_reads.then(|| self.extra(Extra::Reads, slot)),
            age: self.written(slot).map(|written| now.saturating_sub(written)),
            took: self.extra(Extra::Took, slot),
        })
    }

    /// Makes the life that has [begun](Self::begin) for an entry that comes back what was left of it, where that is less.
    pub(super) fn go_on(&self, writer: &mut Writer<'_, Core>, slot: u32, rest: &Rest) {
        let now = writer.now();
        let end = match self.extra(Extra::End, slot) {
            0 => FOREVER,
            end => end,
        };
        if self.moves(slot) {
            self.note(Extra::End, slot, coded(end.min(now.saturating_add(rest.end))));
        }
        self.note(Extra::Reads, slot, self.extra(Extra::Reads, slot).min(rest.reads.unwrap_or(u64::MAX)));
        if let (true, Some(age)) = (self.rules.has_ages, rest.age) {
            self.note(Extra::Written, slot, now.saturating_sub(age));
        }
        self.end_by(writer, slot, now.saturating_add(rest.deadline));
    }
}
