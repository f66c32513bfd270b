//! S3-FIFO: a small queue that filters, a main queue that keeps, and a ghost of what the small one dropped.
//!
//! Juncheng Yang, Yazhuo Zhang, Ziyue Qiu, Yao Yue, K. V. Rashmi: "FIFO queues are all you need for cache eviction",
//! SOSP 2023.
//!
//! A newcomer enters the small queue. Most keys are not asked for again soon, and leave from there after a tenth of the
//! time that they would have had in one queue for all; the ghost remembers them a while by their fingerprints. A key
//! that was read more than once while it stood in the small queue goes on to the main one, and so does a key that is
//! inserted while the ghost remembers it. The main queue is a CLOCK with a counter of two bits: an entry at its front
//! that was read goes round again with one read less. A read writes nothing but that counter, and nothing when it
//! is full.
//!
//! All shares are by weight. The ghost has about as many records as there are entries, in buckets (`parts/ghost.rs`),
//! so it is not exactly the queue of the paper.
//!
//! **When not to use it:** where keys come back just after the small queue has dropped them, and only then; for block
//! storage with large caches; for a few dozen entries. Loops over more than the cache holds defeat it.
//!
//! A new value for a key leaves the entry at its place; an entry that comes back from being pinned enters as a newcomer.
//!
//! A snapshot keeps the queues, their order and the ghost; nothing is lost. Into a cache of another size records of the ghost
//! may come in duplicate, or not all fit.

use super::{End, Entries, Policy, Reads, Slot, ghosts, most_ghosts, walk};
use crate::parts::ghost::{Ghost, Record};
use crate::parts::lists::Lists;
use crate::removal::RemovalCause;
use std::ops::ControlFlow;

const SMALL: usize = 0;
const MAIN: usize = 1;

/// In a snapshot: nobody is between being admitted and being inserted. A hash has 48 bits, so none is this.
const NOBODY: u64 = u64::MAX;

/// The small queue's share of the capacity is one part in this many.
const SMALL_PART: u64 = 10;
/// Reads up to which an entry is counted: the paper's two bits.
const MOST_READS: u8 = 3;
/// Reads from which an entry goes on from the small queue to the main one.
const READS_TO_STAY: u8 = 2;
/// Entries that one call may pass over before it takes what is there. Each was paid for by a read or an insert, so the
/// average is far below; this bounds the longest pause.
const MOST_STEPS: usize = 64;

/// S3-FIFO. The fronts of the queues are the oldest entries.
pub(crate) struct S3Fifo {
    queues: Lists<2>,
    /// The weight in each queue.
    weights: [u64; 2],
    capacity: u64,
    small_share: u64,
    ghost: Ghost,
    /// The hash of the entry that was found in the ghost when it was admitted, until it is inserted.
    returning: Option<u64>,
}

impl S3Fifo {
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            queues: Lists::new(),
            weights: [0; 2],
            capacity,
            small_share: small_share(capacity),
            ghost: Ghost::new(),
            returning: None,
        }
    }

    fn link(&mut self, queue: usize, slot: Slot, entries: Entries<'_>) {
        self.queues.push_back(queue, slot.number());
        self.weights[queue] += entries.weight(slot);
    }

    /// Moves the front of the small queue to the back of the main one.
    fn promote(&mut self, slot: Slot, entries: Entries<'_>) {
        entries.set_mark(slot, 0);
        let weight = entries.weight(slot);
        self.weights[SMALL] -= weight;
        self.weights[MAIN] += weight;
        self.queues.move_to_back(MAIN, slot.number());
    }

    /// The queue that has to give up an entry.
    fn donor(&self) -> usize {
        let small_is_full = self.weights[SMALL] >= self.small_share && self.queues.len(SMALL) > 0;
        if small_is_full || self.queues.len(MAIN) == 0 { SMALL } else { MAIN }
    }
}

/// At least 1: else a cache of a few entries would have no small queue.
fn small_share(capacity: u64) -> u64 {
    (capacity / SMALL_PART).max(1)
}

impl Policy for S3Fifo {
    fn reads(&self) -> Reads {
        Reads::Marked(MOST_READS)
    }

    fn set_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
        self.small_share = small_share(capacity);
    }

    fn reserve(&mut self, slots: usize) {
        self.queues.reserve(slots);
        self.ghost.reserve(ghosts(slots, self.capacity));
    }

    fn admit(&mut self, hash: u64, _: u64, _: Entries<'_>) -> bool {
        // Asked again for the same entry: its record has been taken already.
        if self.returning != Some(hash) {
            self.returning = self.ghost.take(hash).map(|_| hash);
        }
        true
    }

    fn insert(&mut self, slot: Slot, entries: Entries<'_>) {
        // Taken in any case: an entry may have been admitted and then refused, and this one may never have been asked for.
        let returning = self.returning.take();
        let queue = if returning.is_some_and(|hash| hash == entries.hash(slot)) { MAIN } else { SMALL };
        self.link(queue, slot, entries);
    }

    fn moved(&mut self, old: Slot, new: Slot, entries: Entries<'_>) {
        let Some(queue) = self.queues.list_of(old.number()) else { return };
        self.queues.replace(old.number(), new.number());
        self.weights[queue] = self.weights[queue] - entries.weight(old) + entries.weight(new);
    }

    fn evict(&mut self, entries: Entries<'_>) -> Option<Slot> {
        for _ in 0..MOST_STEPS {
            let donor = self.donor();
            let slot = Slot::new(self.queues.front(donor)?);
            let reads = entries.mark(slot);
            match donor {
                SMALL if reads >= READS_TO_STAY => self.promote(slot, entries),
                MAIN if reads > 0 => {
                    entries.set_mark(slot, reads - 1);
                    self.queues.move_to_back(MAIN, slot.number());
                }
                _ => break,
            }
        }
        let donor = self.donor();
        let slot = Slot::new(self.queues.pop_front(donor)?);
        self.weights[donor] -= entries.weight(slot);
        if donor == SMALL {
            self.ghost.put(entries.hash(slot), Record { time: 0, flag: false });
        }
        Some(slot)
    }

    fn remove(&mut self, slot: Slot, _: RemovalCause, entries: Entries<'_>) {
        if let Some(queue) = self.queues.remove(slot.number()) {
            self.weights[queue] -= entries.weight(slot);
        }
    }

    /// The small queue comes before the main one, each in its own order.
    fn walk(&self, from: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>) {
        walk(&self.queues, &[SMALL, MAIN], from, visit);
    }

    /// Twice the reads. An entry of main is hotter by two, since it got there, and one of the small queue colder by one: with
    /// a single read it will leave before any of main.
    fn heat(&self, slot: Slot, entries: Entries<'_>) -> u64 {
        let reads = u64::from(entries.mark(slot));
        match self.queues.list_of(slot.number()) {
            Some(MAIN) => 2 * reads + 2,
            _ => (2 * reads).saturating_sub(1),
        }
    }

    /// The order of `walk`; the note is the queue.
    fn save(&self, _: Entries<'_>, visit: &mut dyn FnMut(Slot, u64)) {
        for queue in [MAIN, SMALL] {
            self.queues.iter_back(queue).for_each(|slot| visit(Slot::new(slot), queue as u64));
        }
    }

    fn save_rest(&self) -> Vec<u64> {
        let mut words = vec![self.returning.unwrap_or(NOBODY)];
        self.ghost.save(&mut words);
        words
    }

    fn restore(&mut self, slot: Slot, note: u64, entries: Entries<'_>) {
        self.link(if note == MAIN as u64 { MAIN } else { SMALL }, slot, entries);
    }

    fn restore_rest(&mut self, words: &[u64], same_hashes: bool) {
        let Some((&returning, ghost)) = words.split_first() else { return };
        if same_hashes {
            self.returning = self.returning.or(Some(returning).filter(|&hash| hash != NOBODY));
            let most = most_ghosts(self.queues.slots(), self.capacity);
            self.ghost.take_over(Ghost::restored(ghost), most, &Some);
        }
    }

    fn validate(&self, len: usize, entries: Entries<'_>) {
        self.queues.validate();
        assert_eq!(
            self.queues.len(SMALL) + self.queues.len(MAIN),
            len,
            "the queues have lost track of entries"
        );
        for queue in [SMALL, MAIN] {
            let weight: u64 = self.queues.iter(queue).map(|slot| entries.weight(Slot::new(slot))).sum();
            assert_eq!(self.weights[queue], weight, "queue {queue} has a wrong weight");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sim::{Oracle, Sim, check, check_against, hash_of};
    use super::*;

    /// Two queues of keys, oldest first, and a ghost of whole keys in buckets of eight.
    #[derive(Default)]
    struct Naive {
        small: Vec<u64>,
        main: Vec<u64>,
        /// By key: weight and reads.
        known: std::collections::HashMap<u64, (u64, u8)>,
        ghost: Vec<Vec<u64>>,
        capacity: u64,
        returning: Option<u64>,
    }

    impl Naive {
        fn bucket(&mut self, key: u64) -> Option<&mut Vec<u64>> {
            let all = self.ghost.len() as u64;
            self.ghost.get_mut((((hash_of(key) >> 16) * all) >> 32) as usize)
        }
        fn small_weight(&self) -> u64 {
            self.small.iter().map(|key| self.known[key].0).sum()
        }
    }

    impl Oracle for Naive {
        fn set_capacity(&mut self, capacity: u64) {
            self.capacity = capacity;
        }
        fn reserve(&mut self, slots: usize) {
            let slots = ghosts(slots, self.capacity);
            if slots > self.ghost.len() * 8 {
                let slots = if self.ghost.is_empty() { slots } else { slots * 9 / 8 };
                self.ghost = vec![Vec::new(); slots.div_ceil(8)];
            }
        }
        fn admit(&mut self, key: u64, _: u64) {
            self.returning = None;
            let Some(bucket) = self.bucket(key) else { return };
            if let Some(at) = bucket.iter().rposition(|&ghost| ghost == key) {
                bucket.remove(at);
                self.returning = Some(key);
            }
        }
        fn weigh(&mut self, key: u64, weight: u64) {
            self.known.entry(key).or_insert((0, 0)).0 = weight;
        }
        fn insert(&mut self, key: u64) {
            let queue = if self.returning.take() == Some(key) { &mut self.main } else { &mut self.small };
            queue.push(key);
        }
        fn read(&mut self, key: u64) {
            let reads = &mut self.known.get_mut(&key).unwrap().1;
            *reads = (*reads + 1).min(3);
        }
        fn victim(&mut self) -> Option<u64> {
            loop {
                let small_is_full = self.small_weight() >= (self.capacity / 10).max(1);
                if !self.small.is_empty() && (small_is_full || self.main.is_empty()) {
                    let key = self.small[0];
                    if self.known[&key].1 < 2 {
                        return Some(key);
                    }
                    self.known.get_mut(&key).unwrap().1 = 0;
                    self.small.remove(0);
                    self.main.push(key);
                } else {
                    let key = *self.main.first()?;
                    if self.known[&key].1 == 0 {
                        return Some(key);
                    }
                    self.known.get_mut(&key).unwrap().1 -= 1;
                    self.main.remove(0);
                    self.main.push(key);
                }
            }
        }
        fn remove(&mut self, key: u64, cause: RemovalCause) {
            let was_small = self.small.contains(&key);
            self.small.retain(|&other| other != key);
            self.main.retain(|&other| other != key);
            self.known.remove(&key);
            if was_small && cause == RemovalCause::Size {
                let Some(bucket) = self.bucket(key) else { return };
                bucket.push(key);
                if bucket.len() > 8 {
                    bucket.remove(0);
                }
            }
        }
        fn order(&self) -> Option<Vec<u64>> {
            Some([&self.small[..], &self.main[..]].concat())
        }
    }

    /// Twenty entries of three reads each take up to 80 steps; the property's caches hold fewer that are so hot.
    #[test]
    fn is_exactly_its_definition() {
        check_against(
            |capacity| Box::new(S3Fifo::new(capacity)),
            |capacity| Box::new(Naive { capacity, ..Naive::default() }),
        );
    }

    #[test]
    fn keeps_its_books() {
        check(|capacity| Box::new(S3Fifo::new(capacity)));
    }

    #[test]
    fn who_was_admitted_still_is_after_a_restart() {
        let mut old = S3Fifo::new(10);
        for returning in [None, Some(7)] {
            old.returning = returning;
            for (same_hashes, expected) in [(true, returning), (false, None)] {
                let mut new = S3Fifo::new(10);
                new.restore_rest(&old.save_rest(), same_hashes);
                assert_eq!(new.returning, expected);
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too long for Miri")]
    fn a_scan_passes_through_the_small_queue() {
        let mut sim = Sim::new(Box::new(S3Fifo::new(100)), 100);
        for round in 0..4 {
            for key in 0..80 {
                assert_eq!(sim.get(key), round > 0);
                sim.insert(key, 1);
            }
        }
        for key in 1_000..2_000 {
            sim.insert(key, 1);
        }
        let kept = (0..80).filter(|&key| sim.get(key)).count();
        assert!(kept >= 75, "a scan has pushed out {} of 80 popular keys", 80 - kept);
    }
}
