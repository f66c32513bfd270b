//! W-TinyLFU on marks: a window for newcomers, and a main part that is entered by being used more often than its victim.
//!
//! G. Einziger, R. Friedman, B. Manes: "TinyLFU: a highly efficient cache admission policy", ACM Transactions on Storage,
//! 2017. G. Einziger, O. Eytan, R. Friedman, B. Manes: "Adaptive software cache management", Middleware 2018.
//!
//! # How it works
//!
//! A newcomer enters the *window*, a queue. Whatever comes to its front when room is needed is the *candidate*. It is
//! compared with the *victim* that the main part offers, by how often both were used lately as a frequency sketch
//! knows it (`parts/sketch.rs`, which outlives entries). The one used more often stays, in main; of equals the victim stays.
//! So a scan passes through the window, and a key that keeps coming back gets in by its history.
//!
//! Two things differ from the paper. First, reads are not recorded: a read only bumps a small mark in the entry. The mark is
//! moved into the sketch when the policy looks at the entry, which is when it matters; the insert is counted when the entry
//! is about to leave the window. Main is a CLOCK for that reason,
//! not a segmented LRU: its hand goes over the front entries, and those with a mark go round again.
//!
//! Second, the window's share moves by events, not by sampling the hit ratio from time to time. The window is in two
//! halves, *young* and *old*; an entry's mark is cleared between them. A candidate with a mark was thus read in the old
//! half: a smaller window would have missed that read, so the share grows. An entry of main that was read exactly once
//! in a round of the hand would have been lost by a much smaller main, so the share shrinks. Each event counts by the
//! entry's weight as a part of the space that it speaks for, and the share comes to rest where both sides gain alike. Reads
//! in the young half, which are often just one use of a key in several steps, count neither here nor in the sketch.
//!
//! All shares are by weight. A slot costs 8 bytes of links and 5 to 11 of sketch.
//!
//! **When not to use it:** where keys come back once, after a time that the window does not span: no read ever shows that
//! a larger one would help, since nothing remembers what has left but the sketch, which does not know when. `lru` and
//! `s3_fifo` serve such traffic. Where the working set moves quickly `lru` follows at once.
//!
//! A new value for a key leaves the entry at its place; an entry that comes back from being pinned enters as a newcomer.
//!
//! A snapshot keeps the queues, their order, the window's share and the sketch; nothing is lost. Each note has the entry's
//! estimate as well, to which a sketch is brought up for which that of the snapshot is of no use.

use super::{End, Entries, Policy, Reads, Slot, slots_before, walk};
use crate::parts::lists::Lists;
use crate::parts::sketch::{self, Sketch};
use crate::removal::RemovalCause;
use std::ops::ControlFlow;

/// The half of the window that newcomers enter.
const YOUNG: usize = 0;
/// The half of the window that candidates leave from.
const OLD: usize = 1;
const MAIN: usize = 2;

/// A note is the queue, and above these bits what the sketch said.
const QUEUE_BITS: u32 = 2;

/// The window's share of the capacity at first. From 3 to 20 % it makes a difference of 0.2 points of hit ratio.
const FIRST_SHARE: f64 = 0.1;
/// How much of itself the share moves for a read that a smaller window would have missed.
const WINDOW_GAIN: f64 = 0.1;
/// The same for an entry that a smaller main part would have lost. Half or twice either gain: 0.1 points.
const MAIN_GAIN: f64 = 0.2;
/// Reads up to which an entry is counted: enough to tell one from more. More bits gain nothing.
const MOST_READS: u8 = 2;
/// The heat of a read that the sketch does not know yet. So a full mark, which may stand for many reads, is more than the sketch
/// can know.
const HEAT_OF_READ: u64 = 8;
/// Entries that the hand may pass over in one call before it takes what is there. 8 to 64 do equally well.
const MOST_STEPS: usize = 16;
/// Entries that one insert may move out of each half of the window: one in the normal course, more after the window has
/// shrunk or a heavy entry has come.
const MOST_SHIFTS: usize = 4;

/// W-TinyLFU. The fronts of the queues are the oldest entries.
pub(crate) struct TinyLfu {
    queues: Lists<3>,
    /// The weight in each queue.
    weights: [u64; 3],
    capacity: u64,
    /// The window's share of the capacity, 0 to 1.
    share: f64,
    /// What the share comes to in weight, at least 1.
    window_target: u64,
    sketch: Sketch,
}

impl TinyLfu {
    pub(crate) fn new(capacity: u64) -> Self {
        let mut policy = Self {
            queues: Lists::new(),
            weights: [0; 3],
            capacity,
            share: FIRST_SHARE,
            window_target: 1,
            sketch: Sketch::new(),
        };
        policy.set_share(FIRST_SHARE);
        policy
    }

    fn set_share(&mut self, share: f64) {
        self.share = share.clamp(0.0, 1.0);
        self.window_target = ((self.capacity as f64 * self.share) as u64).max(1);
    }

    /// A read has come that a smaller window would have missed.
    fn widen_window(&mut self, weight: u64) {
        let step = WINDOW_GAIN * weight as f64 / self.window_target as f64;
        self.set_share(self.share + step);
    }

    /// An entry was kept that a smaller main part would have lost.
    fn narrow_window(&mut self, weight: u64) {
        let main_target = self.capacity.saturating_sub(self.window_target).max(1);
        let step = MAIN_GAIN * weight as f64 / main_target as f64;
        self.set_share(self.share - step);
    }

    fn window_weight(&self) -> u64 {
        self.weights[YOUNG] + self.weights[OLD]
    }

    fn window_front(&self) -> Option<Slot> {
        self.queues.front(OLD).or(self.queues.front(YOUNG)).map(Slot::new)
    }

    fn len(&self) -> usize {
        [YOUNG, OLD, MAIN].into_iter().map(|queue| self.queues.len(queue)).sum()
    }

    /// Moves a linked entry to the back of `queue`, which is not its own.
    fn transfer(&mut self, slot: Slot, queue: usize, entries: Entries<'_>) {
        let weight = entries.weight(slot);
        if let Some(from) = self.queues.remove(slot.number()) {
            self.weights[from] -= weight;
            self.queues.push_back(queue, slot.number());
            self.weights[queue] += weight;
        }
    }

    /// Takes the mark of an entry: its reads since the last time.
    fn take_mark(slot: Slot, entries: Entries<'_>) -> u8 {
        let reads = entries.mark(slot);
        if reads > 0 {
            entries.set_mark(slot, 0);
        }
        reads
    }

    /// Counts an entry that is about to leave the window: its insert, put off until now so that this touches its block of
    /// the sketch for the first and only time, and its `reads`. Says how often it was used lately.
    fn count_newcomer(&mut self, slot: Slot, reads: u8, entries: Entries<'_>) -> u8 {
        self.sketch.add(entries.hash(slot), 1 + reads, self.len())
    }

    /// What main would give up: the next entry without a mark.
    fn hand(&mut self, entries: Entries<'_>) -> Option<Slot> {
        for _ in 0..MOST_STEPS {
            let slot = Slot::new(self.queues.front(MAIN)?);
            let reads = Self::take_mark(slot, entries);
            if reads == 0 {
                return Some(slot);
            }
            self.sketch.add(entries.hash(slot), reads, self.len());
            if reads == 1 {
                self.narrow_window(entries.weight(slot));
            }
            self.queues.move_to_back(MAIN, slot.number());
        }
        self.queues.front(MAIN).map(Slot::new)
    }

    /// What the window would give up, and how often it was used lately.
    fn candidate(&mut self, entries: Entries<'_>) -> Option<(Slot, u8)> {
        let slot = self.window_front()?;
        let reads = Self::take_mark(slot, entries);
        // A window too small to have an old half speaks with the young one: else it could never grow again.
        if reads > 0 && (self.queues.len(OLD) > 0 || self.queues.len(YOUNG) == 1) {
            self.widen_window(entries.weight(slot));
        }
        Some((slot, self.count_newcomer(slot, reads, entries)))
    }

    /// Moves on what has grown too old for its half of the window.
    fn age_window(&mut self, entries: Entries<'_>) {
        for _ in 0..MOST_SHIFTS {
            let Some(front) = self.queues.front(YOUNG) else { break };
            if self.weights[YOUNG] <= (self.window_target / 2).max(1) {
                break;
            }
            entries.set_mark(Slot::new(front), 0);
            self.transfer(Slot::new(front), OLD, entries);
        }
        // Room has been made, so that what is over the target may go to main unchallenged.
        for _ in 0..MOST_SHIFTS {
            let Some(front) = self.window_front() else { break };
            if self.window_weight() <= self.window_target {
                break;
            }
            let reads = Self::take_mark(front, entries);
            self.count_newcomer(front, reads, entries);
            self.transfer(front, MAIN, entries);
        }
    }

    /// Takes an entry out of its queue, if it stands in one.
    fn unlink(&mut self, slot: Slot, entries: Entries<'_>) {
        if let Some(queue) = self.queues.remove(slot.number()) {
            self.weights[queue] -= entries.weight(slot);
        }
    }

    /// The entry that should leave next.
    fn victim(&mut self, entries: Entries<'_>) -> Option<Slot> {
        if self.window_weight() < self.window_target
            && let Some(victim) = self.hand(entries)
        {
            return Some(victim);
        }
        let candidate = self.candidate(entries);
        let victim = self.hand(entries);
        let (Some((candidate, uses)), Some(victim)) = (candidate, victim) else {
            return candidate.map(|(slot, _)| slot).or(victim);
        };
        if uses <= self.sketch.estimate(entries.hash(victim)) {
            return Some(candidate);
        }
        self.transfer(candidate, MAIN, entries);
        Some(victim)
    }
}

impl Policy for TinyLfu {
    fn reads(&self) -> Reads {
        Reads::Marked(MOST_READS)
    }

    fn set_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
        self.set_share(self.share);
    }

    fn reserve(&mut self, slots: usize) {
        self.queues.reserve(slots);
        self.sketch.reserve(slots);
    }

    fn insert(&mut self, slot: Slot, entries: Entries<'_>) {
        self.queues.push_back(YOUNG, slot.number());
        self.weights[YOUNG] += entries.weight(slot);
        self.age_window(entries);
    }

    fn moved(&mut self, old: Slot, new: Slot, entries: Entries<'_>) {
        let Some(queue) = self.queues.list_of(old.number()) else { return };
        self.queues.replace(old.number(), new.number());
        self.weights[queue] = self.weights[queue] - entries.weight(old) + entries.weight(new);
    }

    fn evict(&mut self, entries: Entries<'_>) -> Option<Slot> {
        let victim = self.victim(entries)?;
        self.unlink(victim, entries);
        Some(victim)
    }
    fn remove(&mut self, slot: Slot, _: RemovalCause, entries: Entries<'_>) {
        self.unlink(slot, entries);
    }

    /// The window comes before main, each in its own order.
    fn walk(&self, from: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>) {
        walk(&self.queues, &[OLD, YOUNG, MAIN], from, visit);
    }

    /// How often the entry was used lately.
    fn heat(&self, slot: Slot, entries: Entries<'_>) -> u64 {
        u64::from(self.sketch.peek(entries.hash(slot))) + HEAT_OF_READ * u64::from(entries.mark(slot))
    }

    /// The order of `walk`.
    fn save(&self, entries: Entries<'_>, visit: &mut dyn FnMut(Slot, u64)) {
        for queue in [MAIN, YOUNG, OLD] {
            for slot in self.queues.iter_back(queue).map(Slot::new) {
                let uses = self.sketch.peek(entries.hash(slot));
                visit(slot, u64::from(uses) << QUEUE_BITS | queue as u64);
            }
        }
    }

    fn save_rest(&self) -> Vec<u64> {
        let mut words = vec![self.share.to_bits()];
        self.sketch.save(&mut words);
        words
    }

    fn restore(&mut self, slot: Slot, note: u64, entries: Entries<'_>) {
        let queue = (note as usize & ((1 << QUEUE_BITS) - 1)).min(MAIN);
        self.queues.push_back(queue, slot.number());
        self.weights[queue] += entries.weight(slot);
        let uses = (note >> QUEUE_BITS).min(u64::from(sketch::MAX));
        self.sketch.raise(entries.hash(slot), uses as u8);
    }

    /// The sketch takes the place of the one that the notes have filled, so nothing counts twice.
    fn restore_rest(&mut self, words: &[u64], same_hashes: bool) {
        let Some((&share, sketch)) = words.split_first() else { return };
        let share = f64::from_bits(share);
        if (0.0..=1.0).contains(&share) {
            self.set_share(share);
        }
        if same_hashes {
            self.sketch.restore(sketch, slots_before(self.queues.slots()));
        }
    }

    fn validate(&self, len: usize, entries: Entries<'_>) {
        self.queues.validate();
        assert_eq!(self.len(), len, "the queues have lost track of entries");
        for queue in [YOUNG, OLD, MAIN] {
            let weight: u64 = self.queues.iter(queue).map(|slot| entries.weight(Slot::new(slot))).sum();
            assert_eq!(self.weights[queue], weight, "queue {queue} has a wrong weight");
        }
        assert!((0.0..=1.0).contains(&self.share), "the window's share is {}", self.share);
        assert!(self.window_target >= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sim::{Sim, check};
    use super::*;

    #[test]
    fn keeps_its_books() {
        check(|capacity| Box::new(TinyLfu::new(capacity)));
    }

    #[test]
    #[cfg_attr(miri, ignore = "too long for Miri")]
    fn a_scan_passes_through_the_window() {
        let mut sim = Sim::new(Box::new(TinyLfu::new(100)), 100);
        for _ in 0..4 {
            for key in 0..80 {
                sim.get(key);
                sim.insert(key, 1);
            }
        }
        for key in 1_000..1_500 {
            sim.insert(key, 1);
        }
        let kept = (0..80).filter(|&key| sim.get(key)).count();
        assert!(kept >= 70, "a scan has pushed out {} of 80 popular keys", 80 - kept);
    }

    #[test]
    fn the_window_widens_for_recency_and_narrows_for_loops() {
        let mut policy = TinyLfu::new(100);
        policy.set_share(0.0);
        for _ in 0..200 {
            policy.widen_window(1);
        }
        assert!(policy.window_target > 20, "{}", policy.window_target);
        for _ in 0..2_000 {
            policy.narrow_window(1);
        }
        assert_eq!(policy.window_target, 1);
        policy.set_capacity(u64::MAX);
        policy.widen_window(u64::MAX);
        assert!(policy.window_target > u64::MAX / 2);
        policy.narrow_window(u64::MAX);
        policy.set_capacity(0);
        assert_eq!(policy.window_target, 1);
    }

    /// Each key is asked for once more, after up to 60 others: most of that is beyond a window of a tenth.
    #[test]
    #[cfg_attr(miri, ignore = "too long for Miri")]
    fn recency_is_learnt() {
        let mut sim = Sim::new(Box::new(TinyLfu::new(100)), 100);
        let mut hits = 0;
        for now in 0..20_000u64 {
            sim.insert(now, 1);
            let back = now * 7_919 % 60;
            hits += u64::from(now >= 60 && sim.get(now - back));
        }
        assert!(hits > 18_000, "{hits} hits of 20,000");
    }
}
