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
//! A snapshot keeps the order, which is all that there is.

use super::{End, Entries, Policy, Reads, Slot, walk};
use crate::parts::lists::Lists;
use crate::removal::RemovalCause;
use std::ops::ControlFlow;

const QUEUE: usize = 0;

/// Least recently used. The front of the list is the entry whose last use is the longest ago.
pub(crate) struct Lru {
    by_use: Lists<1>,
}

impl Lru {
    pub(crate) fn new() -> Self {
        Self { by_use: Lists::new() }
    }
}

impl Policy for Lru {
    fn reads(&self) -> Reads {
        Reads::Recorded
    }

    fn reserve(&mut self, slots: usize) {
        self.by_use.reserve(slots);
    }

    fn insert(&mut self, slot: Slot, _: Entries<'_>) {
        self.by_use.push_back(QUEUE, slot.number());
    }

    fn hit(&mut self, slot: Slot, _: Entries<'_>) {
        if self.by_use.list_of(slot.number()).is_some() {
            self.by_use.move_to_back(QUEUE, slot.number());
        }
    }

    fn moved(&mut self, old: Slot, new: Slot, _: Entries<'_>) {
        self.by_use.replace(old.number(), new.number());
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
