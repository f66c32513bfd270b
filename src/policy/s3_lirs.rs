//! S3-LIRS
use super::{End, Entries, Policy, Reads, Slot, walk};
use crate::parts::ghost::{Ghost, Record};
use crate::parts::lists::Lists;
use crate::removal::RemovalCause;
use std::ops::ControlFlow;

/// The half of the window that newcomers enter, where reads do not count.
const YOUNG: usize = 0;
/// The half of the window that entries leave from.
const OLD: usize = 1;
const MAIN: usize = 2;

/// The window's share of the capacity at first.
const FIRST_SHARE: f64 = 0.03;
/// A window larger by this part of the capacity is what a key that comes back is measured against.
const NEAR_SHARE: f64 = 0.05;
/// How much of that part the window's target moves for a hit that the larger window would have had.
const WINDOW_GAIN: f64 = 0.1;
/// The same for an entry that a smaller main part would have lost, as a part of main.
const MAIN_GAIN: f64 = 0.2;
/// Reads up to which an entry is counted.
const MOST_READS: u8 = 2;
/// Rounds of the hand that an entry can have in store.
const MOST_LIVES: u32 = 7;
const LIVES_BITS: u32 = 3;
/// Entries that the hand may pass over in one call.
const MOST_STEPS: usize = 32;
/// Entries with one read that one call may send through the window again.
const MOST_RETURNS: u32 = 4;
/// Entries that one insert may move from the young half to the old one.
const MOST_SHIFTS: usize = 4;
/// The ghost's clock counts in units of so many parts of its size.
const GHOST_TICKS: usize = 8192;
const RECORDS_PER_SLOT: usize = 2;

/// What is known of the entry that asked last to be let in.
#[derive(Clone, Copy)]
struct Arrival {
    hash: u64,
    weight: u64,
    /// If the ghost remembered it: how long ago it was used, and whether its user had removed it.
    returns: Option<(u32, bool)>,
    made_room: bool,
    /// Whether it goes to main, once room was made.
    to_main: bool,
}

/// S3-LIRS. The fronts of the queues are the oldest entries.
pub(crate) struct S3Lirs {
    queues: Lists<3>,
    /// The weight in each queue.
    weights: [u64; 3],
    /// By slot: when the entry was last known to be used, and its lives.
    stamps: Vec<u32>,
    capacity: u64,
    /// The most that the entries ever weighed.
    peak: u64,
    share: f64,
    window_target: u64,
    /// Entries that asked to be let in so far: the clock.
    now: u32,
    ghost: Ghost,
    tick_shift: u32,
    arrival: Option<Arrival>,
}

impl S3Lirs {
    pub(crate) fn new(capacity: u64) -> Self {
        let mut policy = Self {
            queues: Lists::new(),
            weights: [0; 3],
            stamps: Vec::new(),
            capacity,
            peak: 0,
            share: FIRST_SHARE,
            window_target: 1,
            now: 0,
            ghost: Ghost::new(),
            tick_shift: 0,
            arrival: None,
        };
        policy.set_share(FIRST_SHARE);
        policy
    }

    fn set_share(&mut self, share: f64) {
        self.share = share.clamp(0.0, 1.0);
        self.window_target = ((self.capacity as f64 * self.share) as u64).max(1);
    }

    fn near(&self) -> f64 {
        (self.capacity as f64 * NEAR_SHARE).max(1.0)
    }

    /// A hit was missed that a window larger by `distance` misses would have had.
    fn widen_window(&mut self, distance: u32, weight: u64) {
        let len = self.len().max(1) as f64;
        let mean_weight = if self.total() as f64 == len { 1.0 } else { self.total() as f64 / len };
        let distance = f64::from(distance) * mean_weight;
        let near = self.near();
        let gain = WINDOW_GAIN / near * weight as f64;
        if distance <= near {
            self.set_share(self.share + gain);
        } else if distance + self.window_target as f64 <= self.capacity as f64 {
            self.set_share(self.share + gain * (near / distance) * (near / distance));
        }
    }

    /// An entry was kept that a smaller main part would have lost.
    fn narrow_window(&mut self, weight: u64) {
        let main_target = self.capacity.saturating_sub(self.window_target).max(1);
        self.set_share(self.share - MAIN_GAIN * weight as f64 / main_target as f64);
    }

    fn len(&self) -> usize {
        [YOUNG, OLD, MAIN].into_iter().map(|queue| self.queues.len(queue)).sum()
    }

    fn total(&self) -> u64 {
        self.window_weight() + self.weights[MAIN]
    }

    fn window_weight(&self) -> u64 {
        self.weights[YOUNG] + self.weights[OLD]
    }

    /// Misses since the entry was last known to be used.
    fn idle(&self, slot: Slot) -> u32 {
        (self.now << LIVES_BITS).wrapping_sub(self.stamps[slot.index()] & !MOST_LIVES) >> LIVES_BITS
    }

    fn stamp(&mut self, slot: Slot, lives: u32) {
        self.stamps[slot.index()] = self.now << LIVES_BITS | lives;
    }

    fn link(&mut self, queue: usize, slot: Slot, entries: &Entries<'_>) {
        self.queues.push_back(queue, slot.number());
        self.weights[queue] += entries.weight(slot);
    }

    fn unlink(&mut self, slot: Slot, entries: &Entries<'_>) -> bool {
        let queue = self.queues.remove(slot.number());
        if let Some(queue) = queue {
            self.weights[queue] -= entries.weight(slot);
        }
        queue.is_some()
    }

    fn take_mark(slot: Slot, entries: &Entries<'_>) -> u8 {
        let reads = entries.mark(slot);
        if reads > 0 {
            entries.set_mark(slot, 0);
        }
        reads
    }

    fn remember(&mut self, slot: Slot, removed: bool, entries: &Entries<'_>) {
        let used = self.now.wrapping_sub(self.idle(slot));
        let time = (used >> self.tick_shift) as u16;
        self.ghost.put(entries.hash(slot), Record { time, flag: removed });
    }

    /// Takes out what stands at the window's front, with the reads that count.
    fn leave_window(&mut self, entries: &Entries<'_>) -> Option<(Slot, u8)> {
        let queue = if self.queues.len(OLD) > 0 { OLD } else { YOUNG };
        let slot = Slot::new(self.queues.pop_front(queue)?);
        self.weights[queue] -= entries.weight(slot);
        let reads = Self::take_mark(slot, entries);
        Some((slot, if queue == OLD { reads } else { 0 }))
    }

    fn enter_main(&mut self, slot: Slot, lives: u32, entries: &Entries<'_>) {
        self.stamp(slot, lives);
        self.link(MAIN, slot, entries);
    }

    fn enter_window(&mut self, slot: Slot, entries: &Entries<'_>) {
        self.stamp(slot, 0);
        self.link(YOUNG, slot, entries);
        for _ in 0..MOST_SHIFTS {
            if self.weights[YOUNG] <= (self.window_target / 2).max(1) {
                break;
            }
            let Some(front) = self.queues.pop_front(YOUNG) else { break };
            let front = Slot::new(front);
            let weight = entries.weight(front);
            Self::take_mark(front, entries);
            self.weights[YOUNG] -= weight;
            self.weights[OLD] += weight;
            self.queues.push_back(OLD, front.number());
        }
    }

    /// What main would give up; it stays at the front.
    fn hand(&mut self, entries: &Entries<'_>) -> Option<Slot> {
        for _ in 0..MOST_STEPS {
            let slot = Slot::new(self.queues.front(MAIN)?);
            let reads = Self::take_mark(slot, entries);
            let stamp = self.stamps[slot.index()];
            let lives = ((stamp & MOST_LIVES) + u32::from(reads)).min(MOST_LIVES);
            if lives == 0 {
                return Some(slot);
            }
            let used = if reads > 0 { self.now << LIVES_BITS } else { stamp & !MOST_LIVES };
            self.stamps[slot.index()] = used | (lives - 1);
            self.queues.move_to_back(MAIN, slot.number());
            if reads == 1 || lives == 1 {
                self.narrow_window(entries.weight(slot));
            }
        }
        None
    }

    /// Without regard to who comes.
    fn evict_any(&mut self, entries: &Entries<'_>) -> Option<Slot> {
        if self.window_weight() >= self.window_target || self.queues.len(MAIN) == 0 {
            let mut chances = MOST_RETURNS;
            for _ in 0..MOST_STEPS {
                let Some((slot, reads)) = self.leave_window(entries) else { break };
                if reads >= 2 && self.weights[MAIN] + 1 < self.capacity {
                    self.enter_main(slot, 0, entries);
                    if self.window_weight() < self.window_target {
                        break;
                    }
                } else if reads == 1 && chances > 0 {
                    chances -= 1;
                    self.enter_window(slot, entries);
                } else {
                    self.remember(slot, false, entries);
                    return Some(slot);
                }
            }
        }
        if let Some(slot) = self.hand(entries) {
            self.unlink(slot, entries);
            return Some(slot);
        }
        if let Some((slot, _)) = self.leave_window(entries) {
            self.remember(slot, false, entries);
            return Some(slot);
        }
        let slot = Slot::new(self.queues.front(MAIN)?);
        self.unlink(slot, entries);
        Some(slot)
    }

    fn evict_for_returning(
        &mut self,
        mut arrival: Arrival,
        age: u32,
        removed: bool,
        entries: &Entries<'_>,
    ) -> Option<Slot> {
        let first = !arrival.made_room;
        let victim = self.hand(entries);
        let closer = match victim {
            Some(victim) => age < self.idle(victim),
            None => self.queues.len(MAIN) == 0,
        };
        if first && closer && !removed {
            let oldest = self.queues.front(OLD).or(self.queues.front(YOUNG));
            let reach = oldest.map_or(0, |oldest| self.idle(Slot::new(oldest)));
            self.widen_window(age.saturating_sub(reach), arrival.weight);
        }
        let window = self.window_weight();
        let admit = closer
            || window as f64 > self.window_target as f64 + self.near()
            || (window > self.window_target && victim.is_none());
        arrival.made_room = true;
        arrival.to_main = admit && (first || arrival.to_main);
        self.arrival = Some(arrival);
        match victim {
            Some(victim) if admit && window <= self.window_target => {
                self.unlink(victim, entries);
                Some(victim)
            }
            _ => self.evict_any(entries),
        }
    }
}

impl Policy for S3Lirs {
    fn reads(&self) -> Reads {
        Reads::Marked(MOST_READS)
    }

    fn set_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
        self.set_share(self.share);
    }

    fn reserve(&mut self, slots: usize) {
        self.queues.reserve(slots);
        if slots > self.stamps.len() {
            let mut stamps = vec![0; slots];
            stamps[..self.stamps.len()].copy_from_slice(&self.stamps);
            self.stamps = stamps;
        }
        self.ghost.reserve(slots * RECORDS_PER_SLOT);
        let ticks = self.ghost.records().div_ceil(GHOST_TICKS).max(1);
        self.tick_shift = ticks.next_power_of_two().trailing_zeros().min(16);
    }

    fn admit(&mut self, hash: u64, weight: u64, _: &Entries<'_>) -> bool {
        if self.arrival.is_some_and(|arrival| arrival.hash == hash) {
            return true;
        }
        self.now = self.now.wrapping_add(1);
        let returns = self.ghost.take(hash).map(|record| {
            let tick = self.now >> self.tick_shift;
            let ago = u32::from((tick as u16).wrapping_sub(record.time));
            (self.now.wrapping_sub(tick.wrapping_sub(ago) << self.tick_shift), record.flag)
        });
        self.arrival = Some(Arrival { hash, weight, returns, made_room: false, to_main: false });
        true
    }

    fn insert(&mut self, slot: Slot, entries: &Entries<'_>) {
        let arrival = self.arrival.take().filter(|arrival| arrival.hash == entries.hash(slot));
        let made_room = arrival.is_some_and(|arrival| arrival.made_room);
        let mut to_main = arrival.is_some_and(|arrival| arrival.to_main);
        if !made_room {
            let total = self.total() + entries.weight(slot);
            if total > self.peak {
                self.peak = total;
                if self.window_weight() >= self.window_target
                    && let Some((front, reads)) = self.leave_window(entries)
                {
                    self.enter_main(front, u32::from(reads), entries);
                }
            } else {
                to_main = arrival.is_some_and(|arrival| arrival.returns.is_some());
            }
        }
        if to_main {
            self.enter_main(slot, 0, entries);
        } else {
            self.enter_window(slot, entries);
        }
    }

    fn moved(&mut self, old: Slot, new: Slot, entries: &Entries<'_>) {
        let Some(queue) = self.queues.list_of(old.number()) else { return };
        self.queues.replace(old.number(), new.number());
        self.stamps[new.index()] = self.stamps[old.index()];
        self.weights[queue] = self.weights[queue] - entries.weight(old) + entries.weight(new);
    }

    fn evict(&mut self, entries: &Entries<'_>) -> Option<Slot> {
        if let Some(arrival) = &mut self.arrival {
            if let Some((age, removed)) = arrival.returns {
                let arrival = *arrival;
                return self.evict_for_returning(arrival, age, removed, entries);
            }
            arrival.made_room = true;
        }
        self.evict_any(entries)
    }

    fn remove(&mut self, slot: Slot, _: RemovalCause, entries: &Entries<'_>) {
        if self.unlink(slot, entries) {
            self.remember(slot, true, entries);
        }
    }

    /// The window comes before main, each in its own order.
    fn walk(&self, from: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>) {
        walk(&self.queues, &[OLD, YOUNG, MAIN], from, visit);
    }

    fn validate(&self, len: usize, entries: &Entries<'_>) {
        self.queues.validate();
        assert_eq!(self.len(), len, "the queues have lost track of entries");
        for queue in [YOUNG, OLD, MAIN] {
            let weight: u64 = self.queues.iter(queue).map(|slot| entries.weight(Slot::new(slot))).sum();
            assert_eq!(self.weights[queue], weight, "queue {queue} has a wrong weight");
        }
        assert!((0.0..=1.0).contains(&self.share), "the window's share is {}", self.share);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sim::check;
    use super::*;

    #[test]
    fn keeps_its_books() {
        check(|capacity| Box::new(S3Lirs::new(capacity)));
    }
}
