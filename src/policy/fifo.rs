//! FIFO: entries leave in the order in which they came.
//!
//! A read changes nothing and costs nothing, which is all that speaks for it.
//!
//! **When not to use it:** nearly always. It forgets the most popular key as soon as the least popular one, and over
//! many traces it loses about two points of hit ratio to LRU. It suits entries that are all read about equally often,
//! or values that should simply be renewed in turn.
//!
//! A new value for a key leaves the entry at its place; an entry that comes back from being pinned is the newest.
//!
//! A snapshot keeps the order, which is all that there is.

use super::{End, Entries, Policy, Reads, Slot, walk};
use crate::parts::lists::Lists;
use crate::removal::RemovalCause;
use std::ops::ControlFlow;

const QUEUE: usize = 0;

/// First in, first out. The front of the queue is the oldest entry.
pub(crate) struct Fifo {
    queue: Lists<1>,
}

impl Fifo {
    pub(crate) fn new() -> Self {
        Self { queue: Lists::new() }
    }
}

impl Policy for Fifo {
    fn reads(&self) -> Reads {
        Reads::Ignored
    }

    fn reserve(&mut self, slots: usize) {
        self.queue.reserve(slots);
    }

    fn insert(&mut self, slot: Slot, _: Entries<'_>) {
        self.queue.push_back(QUEUE, slot.number());
    }

    fn moved(&mut self, old: Slot, new: Slot, _: Entries<'_>) {
        self.queue.replace(old.number(), new.number());
    }

    fn evict(&mut self, _: Entries<'_>) -> Option<Slot> {
        self.queue.pop_front(QUEUE).map(Slot::new)
    }

    fn remove(&mut self, slot: Slot, _: RemovalCause, _: Entries<'_>) {
        self.queue.remove(slot.number());
    }

    fn walk(&self, from: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>) {
        walk(&self.queue, &[QUEUE], from, visit);
    }

    fn validate(&self, len: usize, _: Entries<'_>) {
        self.queue.validate();
        assert_eq!(self.queue.len(QUEUE), len, "the queue has lost track of entries");
    }
}

#[cfg(test)]
mod tests {
    use super::super::sim::{Oracle, check_against};
    use super::*;

    /// Keys, oldest first.
    struct Naive(Vec<u64>);

    impl Oracle for Naive {
        fn insert(&mut self, key: u64) {
            self.0.push(key);
        }
        fn read(&mut self, _: u64) {}
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
    fn is_exactly_fifo() {
        check_against(|_| Box::new(Fifo::new()), |_| Box::new(Naive(Vec::new())));
    }
}
