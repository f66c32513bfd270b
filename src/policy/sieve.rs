//! SIEVE: one queue, one bit an entry, and a hand that sifts.
//!
//! Yazhuo Zhang, Juncheng Yang, Yao Yue, Ymir Vigfusson, K. V. Rashmi: "SIEVE is simpler than LRU: an efficient
//! turn-key eviction algorithm for web caches", NSDI 2024.
//!
//! Entries stand in the order in which they came and are never moved. A read sets the entry's bit. To evict, the hand
//! goes from where it stopped towards the newest entry, clearing bits as it passes, and takes the first entry without
//! one; at the newest it wraps to the oldest. Survivors stay where they are, so newcomers, which arrive at the far end,
//! are told apart from old favourites that the hand has seen already: that is the whole difference to CLOCK.
//!
//! This is the paper's algorithm exactly, so an eviction may pass over many entries: no more than have been read since
//! the hand was last there, and never more than one whole round.
//!
//! **When not to use it:** for scans and loops, which it resists no better than LRU (block storage, indexes, joins),
//! and for recency: behind a hand that has reached the newest entries newcomers have no time to be read. Where every key
//! is asked for twice and no more it may hit hardly at all (0.4 % on the trace `corda`, where FIFO has 33.3 %).
//!
//! A new value for a key leaves the entry at its place, marked; an entry that comes back from being pinned is the
//! newest.
//!
//! A snapshot keeps the order and the hand, which with the bits is all that there is.

use super::{End, Entries, Policy, Reads, Slot};
use crate::parts::lists::Lists;
use crate::removal::RemovalCause;
use std::ops::ControlFlow;

const QUEUE: usize = 0;

/// The note of an entry that the hand has passed in its round; all others have 0.
const PASSED: u64 = 1;

/// SIEVE. The front of the queue is the oldest entry.
pub(crate) struct Sieve {
    queue: Lists<1>,
    /// Where the hand goes on; none: at the oldest entry. Always a linked slot.
    hand: Option<u32>,
}

impl Sieve {
    pub(crate) fn new() -> Self {
        Self { queue: Lists::new(), hand: None }
    }
}

impl Policy for Sieve {
    fn reads(&self) -> Reads {
        Reads::Marked(1)
    }

    fn reserve(&mut self, slots: usize) {
        self.queue.reserve(slots);
    }

    fn insert(&mut self, slot: Slot, _: Entries<'_>) {
        self.queue.push_back(QUEUE, slot.number());
    }

    fn moved(&mut self, old: Slot, new: Slot, _: Entries<'_>) {
        self.queue.replace(old.number(), new.number());
        if self.hand == Some(old.number()) {
            self.hand = Some(new.number());
        }
    }

    fn evict(&mut self, entries: Entries<'_>) -> Option<Slot> {
        let oldest = self.queue.front(QUEUE)?;
        let mut at = self.hand.unwrap_or(oldest);
        // After one round all bits are cleared, unless readers set them again meanwhile: that must not keep us here.
        for _ in 0..self.queue.len(QUEUE) {
            let slot = Slot::new(at);
            if entries.mark(slot) == 0 {
                break;
            }
            entries.set_mark(slot, 0);
            at = self.queue.next(at).unwrap_or(oldest);
        }
        self.hand = self.queue.next(at);
        self.queue.remove(at);
        if let Some(next) = self.hand {
            entries.prefetch(Slot::new(next));
        }
        Some(Slot::new(at))
    }

    fn remove(&mut self, slot: Slot, _: RemovalCause, _: Entries<'_>) {
        if self.hand == Some(slot.number()) {
            self.hand = self.queue.next(slot.number());
        }
        self.queue.remove(slot.number());
    }

    /// From the hand once around. With the bit for heat, which the trait has by default, that is the order of eviction.
    fn walk(&self, from: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>) {
        let Some(start) = self.hand.or(self.queue.front(QUEUE)) else { return };
        let len = self.queue.len(QUEUE);
        let _ = match from {
            End::Coldest => {
                let next = |&slot: &u32| self.queue.next(slot).or(self.queue.front(QUEUE));
                std::iter::successors(Some(start), next).take(len).map(Slot::new).try_for_each(visit)
            }
            End::Hottest => {
                let prev = |&slot: &u32| self.queue.prev(slot).or(self.queue.back(QUEUE));
                std::iter::successors(prev(&start), prev).take(len).map(Slot::new).try_for_each(visit)
            }
        };
    }

    /// The order of `walk`.
    fn save(&self, _: Entries<'_>, visit: &mut dyn FnMut(Slot, u64)) {
        let passed = self.hand.and_then(|hand| self.queue.prev(hand));
        for slot in std::iter::successors(passed, |&slot| self.queue.prev(slot)) {
            visit(Slot::new(slot), PASSED);
        }
        for slot in self.queue.iter_back(QUEUE) {
            visit(Slot::new(slot), 0);
            if self.hand == Some(slot) {
                break;
            }
        }
    }

    /// Nothing is lost. The first that the hand has passed finds it at the oldest of the others, and there it stays.
    fn restore(&mut self, slot: Slot, note: u64, _: Entries<'_>) {
        if note & PASSED != 0 {
            self.hand = self.hand.or(self.queue.front(QUEUE));
        }
        match self.hand {
            Some(hand) if note & PASSED != 0 => {
                self.queue.insert_after(QUEUE, self.queue.prev(hand), slot.number());
            }
            _ => self.queue.push_back(QUEUE, slot.number()),
        }
    }

    fn validate(&self, len: usize, _: Entries<'_>) {
        self.queue.validate();
        assert_eq!(self.queue.len(QUEUE), len, "the queue has lost track of entries");
        let linked = self.hand.is_none_or(|slot| self.queue.list_of(slot).is_some());
        assert!(linked, "the hand stands at a slot that has left");
    }
}

#[cfg(test)]
mod tests {
    use super::super::sim::{Oracle, check_against};
    use super::*;

    /// Keys and bits, oldest first, and the hand as an index; the queue's length: wrap.
    struct Naive {
        queue: Vec<(u64, bool)>,
        hand: usize,
    }

    impl Oracle for Naive {
        fn insert(&mut self, key: u64) {
            // A hand that has run out at the newest entry wraps: it does not wait for the next one.
            if self.hand == self.queue.len() {
                self.hand = 0;
            }
            self.queue.push((key, false));
        }
        fn read(&mut self, key: u64) {
            for entry in self.queue.iter_mut().filter(|entry| entry.0 == key) {
                entry.1 = true;
            }
        }
        fn victim(&mut self) -> Option<u64> {
            if self.queue.is_empty() {
                return None;
            }
            loop {
                self.hand %= self.queue.len();
                if !self.queue[self.hand].1 {
                    return Some(self.queue[self.hand].0);
                }
                self.queue[self.hand].1 = false;
                self.hand += 1;
            }
        }
        fn remove(&mut self, key: u64, _: RemovalCause) {
            let at = self.queue.iter().position(|entry| entry.0 == key).unwrap();
            self.queue.remove(at);
            if at < self.hand {
                self.hand -= 1;
            }
        }
        fn order(&self) -> Option<Vec<u64>> {
            let mut keys: Vec<_> = self.queue.iter().map(|entry| entry.0).collect();
            if !keys.is_empty() {
                let start = self.hand % keys.len();
                keys.rotate_left(start);
            }
            Some(keys)
        }
    }

    #[test]
    fn is_exactly_sieve() {
        check_against(|_| Box::new(Sieve::new()), |_| Box::new(Naive { queue: Vec::new(), hand: 0 }));
    }
}
