//! LRU: the entry that was not read or written for the longest time leaves first.
//!
//! One list in the order of last use. It is *exactly* LRU while one thread drives the cache: reads are recorded, and
//! replayed before any decision. Under contention the buffer between readers and policy may lose some.
//!
//! **When not to use it:** where the keys of a scan, or of a loop over more than the cache holds, push out the ones
//! that come back: LRU has no defence against either and may not hit at all. Also where reads of hot keys must scale
//! with the cores to the last: recording a read costs more than marking an entry. It is right where keys are asked for
//! again soon or not at all, and where its plain definition is itself what is wanted.
//!
//! A new value for a key is a use of it; an entry that comes back from being pinned is the most recent.
//!
//! Beside the list it knows how many entries came since each was used: that tells which of two segments has the entry that
//! was idle for longer. Uses would not: the segment with more hot keys has more of them. A slot costs 12 bytes.
//!
//! A snapshot keeps the order and these ages, which is all that there is.

use super::{End, Entries, Policy, Reads, Slot, walk};
use crate::parts::extend_zeroed;
use crate::parts::lists::Lists;
use crate::removal::RemovalCause;
use std::ops::ControlFlow;

const QUEUE: usize = 0;
/// The highest age that is believed of a snapshot.
const MOST_AGE: u32 = u32::MAX >> 1;

/// Least recently used. The front of the list is the entry whose last use is the longest ago.
pub(crate) struct Lru {
    by_use: Lists<1>,
    /// By slot: how many entries had come when it was last used.
    used: Vec<u32>,
    /// How many entries have come.
    now: u32,
}

impl Lru {
    pub(crate) fn new() -> Self {
        Self { by_use: Lists::new(), used: Vec::new(), now: 0 }
    }

    /// How many entries came since the entry was used, itself included.
    fn age(&self, slot: Slot) -> u32 {
        self.now.wrapping_sub(self.used[slot.index()])
    }
}

impl Policy for Lru {
    fn reads(&self) -> Reads {
        Reads::Recorded
    }

    fn reserve(&mut self, slots: usize) {
        self.by_use.reserve(slots);
        extend_zeroed(&mut self.used, slots);
    }

    fn insert(&mut self, slot: Slot, _: Entries<'_>) {
        self.by_use.push_back(QUEUE, slot.number());
        self.used[slot.index()] = self.now;
        self.now = self.now.wrapping_add(1);
    }

    fn hit(&mut self, slot: Slot, _: Entries<'_>) {
        if self.by_use.list_of(slot.number()).is_some() {
            self.by_use.move_to_back(QUEUE, slot.number());
            // While nothing comes hits write nothing here.
            let used = &mut self.used[slot.index()];
            if *used != self.now {
                *used = self.now;
            }
        }
    }

    fn moved(&mut self, old: Slot, new: Slot, _: Entries<'_>) {
        if self.by_use.list_of(old.number()).is_some() {
            self.by_use.replace(old.number(), new.number());
            self.used[new.index()] = self.used[old.index()];
        }
    }

    fn evict(&mut self, _: Entries<'_>) -> Option<Slot> {
        self.by_use.pop_front(QUEUE).map(Slot::new)
    }

    fn remove(&mut self, slot: Slot, _: RemovalCause, _: Entries<'_>) {
        self.by_use.remove(slot.number());
    }

    fn walk(&self, from: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>) {
        walk(&self.by_use, &[QUEUE], from, visit);
    }

    fn heat(&self, slot: Slot, _: Entries<'_>) -> u64 {
        u64::from(u32::MAX - self.age(slot))
    }

    /// The order of `walk`; the note is the age.
    fn save(&self, _: Entries<'_>, visit: &mut dyn FnMut(Slot, u64)) {
        for slot in self.by_use.iter_back(QUEUE).map(Slot::new) {
            visit(slot, u64::from(self.age(slot)));
        }
    }

    fn restore(&mut self, slot: Slot, note: u64, _: Entries<'_>) {
        // Whatever the note says: no older than the entry that it stands behind, and not about to wrap.
        let most = self.by_use.back(QUEUE).map_or(MOST_AGE, |last| self.age(Slot::new(last)));
        let age = u32::try_from(note).map_or(most, |age| age.min(most));
        self.by_use.push_back(QUEUE, slot.number());
        self.used[slot.index()] = self.now.wrapping_sub(age);
    }

    fn validate(&self, len: usize, _: Entries<'_>) {
        self.by_use.validate();
        assert_eq!(self.by_use.len(QUEUE), len, "the list has lost track of entries");
    }
}

#[cfg(test)]
mod tests {
    use super::super::sim::{Oracle, check_against};
    use super::*;

    /// Keys, least recently used first.
    struct Naive(Vec<u64>);

    impl Oracle for Naive {
        fn insert(&mut self, key: u64) {
            self.0.push(key);
        }
        fn read(&mut self, key: u64) {
            self.0.retain(|&other| other != key);
            self.0.push(key);
        }
        fn victim(&mut self) -> Option<u64> {
            self.0.first().copied()
        }
        fn remove(&mut self, key: u64, _: RemovalCause) {
            self.0.retain(|&other| other != key);
        }
        fn order(&self) -> Option<Vec<u64>> {
            Some(self.0.clone())
        }
    }

    #[test]
    fn is_exactly_lru() {
        check_against(|_| Box::new(Lru::new()), |_| Box::new(Naive(Vec::new())));
    }
}
