//! Belady's clairvoyant optimum, with bypass: the ceiling that no policy can pass.
//!
//! L. A. Belady, *A study of replacement algorithms for a virtual-storage computer*, IBM Systems Journal 5 (2), 1966:
//! evict what is used again latest. With bypass, the newcomer stands among the candidates: if it is the one that is
//! used again latest, it is not admitted. A read-through cache with an admission filter can do that, so a ceiling
//! without bypass could be passed.
//!
//! # One heap of positions
//!
//! A position in the trace names its key, and no two keys are asked for at one position. So the cache's content can be
//! kept as the positions at which each of its keys is asked for next, in a max-heap, and the top is the victim. A hit
//! leaves the key's former position behind in the heap. It is never looked for: it lies in the past, all live ones lie
//! in the future, so it cannot rise to the top while the cache holds anything. Sweeping the past out when it has come
//! to fill half the heap keeps the memory in proportion to the cache; the whole is O(n log n).

use std::collections::BinaryHeap;

/// The position of a key that is not asked for again.
const NEVER: u32 = u32::MAX;

/// For each request, where its key is asked for next. One serves all capacities.
pub(crate) struct Future {
    next: Vec<u32>,
    distinct: usize,
}

impl Future {
    /// Reads the trace backwards; its keys are dense: below `distinct`.
    pub(crate) fn new(keys: &[u32], distinct: usize) -> Self {
        assert!(keys.len() < NEVER as usize, "positions fit in 32 bits");
        let mut upcoming = vec![NEVER; distinct];
        let mut next = vec![NEVER; keys.len()];
        for (position, &key) in keys.iter().enumerate().rev() {
            next[position] = upcoming[key as usize];
            upcoming[key as usize] = position as u32;
        }
        Self { next, distinct }
    }
}

/// A cache that knows the future.
pub(crate) struct Belady<'a> {
    keys: &'a [u32],
    future: &'a Future,
    capacity: usize,
    now: usize,
    len: usize,
    cached: Vec<bool>,
    /// Where the cached keys are asked for next, and positions in the past.
    upcoming: BinaryHeap<u32>,
}

impl<'a> Belady<'a> {
    /// `future` must be that of `keys`.
    pub(crate) fn new(keys: &'a [u32], future: &'a Future, capacity: u64) -> Self {
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        let cached = vec![false; future.distinct];
        Self { keys, future, capacity, now: 0, len: 0, cached, upcoming: BinaryHeap::new() }
    }

    /// Serves the next request and tells whether it was a hit.
    pub(crate) fn step(&mut self) -> bool {
        let key = self.keys[self.now] as usize;
        let next = self.future.next[self.now];
        self.now += 1;
        let hit = self.cached[key];
        if hit {
            self.len -= 1;
            self.cached[key] = false;
        }
        if next != NEVER && (self.len < self.capacity || self.evict_later_than(next)) {
            self.cached[key] = true;
            self.len += 1;
            self.upcoming.push(next);
            self.sweep();
        }
        hit
    }

    /// Makes room for a key asked for at `next`, unless all cached keys are asked for sooner.
    fn evict_later_than(&mut self, next: u32) -> bool {
        if self.upcoming.peek().is_none_or(|&latest| latest < next) {
            return false;
        }
        let latest = self.upcoming.pop().expect("peeked at above");
        self.cached[self.keys[latest as usize] as usize] = false;
        self.len -= 1;
        true
    }

    fn sweep(&mut self) {
        if self.upcoming.len() > 2 * self.len + 64 {
            let now = self.now;
            self.upcoming.retain(|&position| position as usize >= now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::collections::{BTreeSet, HashMap};

    fn hits(keys: &[u32], capacity: u64) -> usize {
        let distinct = keys.iter().max().map_or(0, |&key| key as usize + 1);
        let future = Future::new(keys, distinct);
        let mut belady = Belady::new(keys, &future, capacity);
        keys.iter().filter(|_| belady.step()).count()
    }

    /// The most hits that any sequence of decisions can reach, by trying them all.
    fn best(keys: &[u32], capacity: usize) -> usize {
        let mut reached: HashMap<BTreeSet<u32>, usize> = HashMap::from([(BTreeSet::new(), 0)]);
        for &key in keys {
            let mut after: HashMap<BTreeSet<u32>, usize> = HashMap::new();
            for (content, hits) in reached {
                let hits = hits + usize::from(content.contains(&key));
                for next in choices(content, key, capacity) {
                    let best = after.entry(next).or_default();
                    *best = hits.max(*best);
                }
            }
            reached = after;
        }
        reached.into_values().max().unwrap_or(0)
    }

    /// What the cache may hold after a request: as before, or with the key added and, if need be, another out.
    fn choices(content: BTreeSet<u32>, key: u32, capacity: usize) -> Vec<BTreeSet<u32>> {
        let mut all = vec![content.clone()];
        let mut with = content.clone();
        with.insert(key);
        if with.len() <= capacity {
            all.push(with);
        } else {
            all.extend(content.iter().map(|out| with.iter().copied().filter(|other| other != out).collect()));
        }
        all
    }

    #[test]
    fn no_decisions_do_better() {
        let mut random = Random::new(1);
        for _ in 0..300 {
            let len = random.below(16);
            let span = 1 + random.below(6);
            let keys: Vec<u32> = (0..len).map(|_| random.below(span) as u32).collect();
            for capacity in 0..5 {
                assert_eq!(
                    hits(&keys, capacity as u64),
                    best(&keys, capacity),
                    "{keys:?}, capacity {capacity}"
                );
            }
        }
    }

    #[test]
    fn a_loop_keeps_a_part_of_it() {
        let keys: Vec<u32> = (0..10).flat_map(|_| 0..10).collect();
        assert_eq!(hits(&keys, 4), 4 * 9);
        assert_eq!(hits(&keys, 10), 10 * 9);
    }

    #[test]
    fn bypass_protects_what_is_needed_sooner() {
        assert_eq!(hits(&[0, 1, 2, 0, 1], 2), 2);
        assert_eq!(hits(&[0, 1, 0, 1, 0], 1), 2);
    }

    #[test]
    fn the_heap_stays_in_proportion_to_the_cache() {
        let keys: Vec<u32> = (0..10_000).map(|i| i % 8).collect();
        let future = Future::new(&keys, 8);
        let mut belady = Belady::new(&keys, &future, 4);
        for _ in &keys {
            belady.step();
            assert!(belady.upcoming.len() <= 2 * 4 + 64);
        }
    }
}
