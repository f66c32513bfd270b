//! S3-LIRS
use super::{End, Entries, Policy, Reads, Slot, walk};
use crate::parts::ghost::{Ghost, Record};
use crate::parts::lists::Lists;
use crate::removal::RemovalCause;
use std::ops::ControlFlow;

const WINDOW: usize = 0;
const MAIN: usize = 1;

/// The window's share of the capacity at first.
const FIRST_SHARE: f64 = 0.03;
/// A window larger by one part in so many of the capacity is what a key that comes back is measured against.
const NEAR_PART: u64 = 20;
/// How much of that part the window's target moves for a hit that the larger window would have had.
const WINDOW_GAIN: f64 = 0.1;
/// The same for an entry that a smaller main part would have lost, as a part of main.
const MAIN_GAIN: f64 = 0.2;
/// Reads up to which an entry is counted.
const MOST_READS: u8 = 2;
/// Rounds of the hand that an entry can have in store: what fits beside its time.
const MOST_LIVES: u32 = 7;
/// Entries that one call may pass over.
const MOST_STEPS: usize = 32;
/// Entries with one read that one call may send through the window again.
const MOST_RETURNS: u32 = 4;
/// Entries that one insert may move from the young half to the old one.
const MOST_SHIFTS: usize = 4;

/// A time takes 29 bits, above three for something else.
const MISS: u32 = MOST_LIVES + 1;
/// What stands there while an entry is in the window's young half. In the old half nothing does.
const YOUNG: u32 = 1;

/// Records of the ghost for each slot.
const RECORDS_PER_SLOT: usize = 2;
/// The ghost's clock counts in units of so many parts of its size.
const GHOST_TICKS: usize = 8192;
/// A tick is at most this many bits: its count must fit into the 16 bits of a record, and no bit of a time be left over.
const MOST_TICK_BITS: u32 = 16;

/// No hash: they have 48 bits.
const NOBODY: u64 = u64::MAX;

/// The entry that asked last to be let in.
struct Arrival {
    hash: u64,
    weight: u64,
    place: Place,
    /// Whether the ghost remembered it, how long ago it was used then, and whether its user had removed it.
    returns: bool,
    idle: u32,
    removed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// No room had to be made so far.
    Free,
    Window,
    Main,
}

impl Arrival {
    const NOBODY: Self =
        Self { hash: NOBODY, weight: 0, place: Place::Free, returns: false, idle: 0, removed: false };
}

/// S3-LIRS. The fronts of the queues are the oldest entries.
pub(crate) struct S3Lirs {
    queues: Lists<2>,
    /// The weight in each queue.
    weights: [u64; 2],
    /// The oldest entry of the window's young half, which reaches to the window's back, and the weight of that half.
    young: Option<u32>,
    young_weight: u64,
    /// By slot: when the entry was last known to be used, in `MISS`es, and below that its lives, or [`YOUNG`].
    stamps: Vec<u32>,
    now: u32,
    arrival: Arrival,
    capacity: u64,
    /// The most that the entries ever weighed.
    peak: u64,
    share: f64,
    /// What the share comes to in weight, at least 1.
    window_target: u64,
    young_target: u64,
    ghost: Ghost,
    tick_bits: u32,
}

impl S3Lirs {
    pub(crate) fn new(capacity: u64) -> Self {
        let mut policy = Self {
            queues: Lists::new(),
            weights: [0; 2],
            young: None,
            young_weight: 0,
            stamps: Vec::new(),
            now: 0,
            arrival: Arrival::NOBODY,
            capacity,
            peak: 0,
            share: FIRST_SHARE,
            window_target: 1,
            young_target: 1,
            ghost: Ghost::new(),
            tick_bits: MISS.ilog2(),
        };
        policy.set_share(FIRST_SHARE);
        policy
    }

    fn set_share(&mut self, share: f64) {
        self.share = share.clamp(0.0, 1.0);
        self.window_target = ((self.capacity as f64 * self.share) as u64).max(1);
        self.young_target = (self.window_target / 2).max(1);
    }

    fn near(&self) -> u64 {
        (self.capacity / NEAR_PART).max(1)
    }

    /// A hit was missed that a window larger by `distance` misses would have had.
    fn widen_window(&mut self, distance: u32, weight: u64) {
        let len = self.len().max(1) as f64;
        let mean_weight = (self.weights[WINDOW] + self.weights[MAIN]) as f64 / len;
        let distance = f64::from(distance) * mean_weight;
        let near = self.near() as f64;
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
        self.queues.len(WINDOW) + self.queues.len(MAIN)
    }

    /// Since when the entry was not known to be used, in `MISS`es.
    fn idle(&self, slot: Slot) -> u32 {
        self.now.wrapping_sub(self.stamps[slot.index()] & !MOST_LIVES)
    }

    #[inline]
    fn take_mark(slot: Slot, entries: &Entries<'_>) -> u8 {
        let reads = entries.mark(slot);
        if reads > 0 {
            entries.set_mark(slot, 0);
        }
        reads
    }

    #[inline]
    fn remember(&mut self, slot: Slot, hash: u64, removed: bool) {
        let time = (self.stamps[slot.index()] >> self.tick_bits) as u16;
        self.ghost.put(hash, Record { time, flag: removed });
    }

    /// The entry at the window's front, with the reads of it that count.
    #[inline(always)]
    fn window_front(&self, entries: &Entries<'_>) -> Option<(Slot, u8)> {
        let front = self.queues.front(WINDOW)?;
        let reads = if self.young == Some(front) { 0 } else { entries.mark(Slot::new(front)) };
        Some((Slot::new(front), reads))
    }

    /// Takes that entry out.
    #[inline(always)]
    fn leave_window(&mut self, slot: Slot, entries: &Entries<'_>) {
        let weight = entries.weight(slot);
        self.queues.pop_front(WINDOW);
        self.weights[WINDOW] -= weight;
        if self.young == Some(slot.number()) {
            self.young = self.queues.front(WINDOW);
            self.young_weight -= weight;
        }
    }

    /// The same when it leaves the cache.
    #[inline(always)]
    fn evict_from_window(&mut self, slot: Slot, entries: &Entries<'_>) -> Slot {
        let hash = entries.hash(slot);
        self.leave_window(slot, entries);
        self.remember(slot, hash, false);
        slot
    }

    #[inline(never)]
    fn enter_main(&mut self, slot: Slot, lives: u32, entries: &Entries<'_>) {
        entries.set_mark(slot, 0);
        self.stamps[slot.index()] = self.now | lives;
        self.queues.push_back(MAIN, slot.number());
        self.weights[MAIN] += entries.weight(slot);
    }

    #[inline(always)]
    fn enter_window(&mut self, slot: Slot, entries: &Entries<'_>) {
        let weight = entries.weight(slot);
        self.stamps[slot.index()] = self.now | YOUNG;
        self.queues.push_back(WINDOW, slot.number());
        self.weights[WINDOW] += weight;
        self.young_weight += weight;
        let mut young = self.young.unwrap_or(slot.number());
        for _ in 0..MOST_SHIFTS {
            if self.young_weight <= self.young_target {
                break;
            }
            let front = Slot::new(young);
            let Some(next) = self.queues.next(young) else { break };
            young = next;
            Self::take_mark(front, entries);
            self.stamps[front.index()] -= YOUNG;
            self.young_weight -= entries.weight(front);
        }
        self.young = Some(young);
    }

    /// What main would give up; it stays at the front.
    #[inline(never)]
    fn hand(&mut self, entries: &Entries<'_>) -> Option<Slot> {
        for _ in 0..MOST_STEPS {
            let slot = Slot::new(self.queues.front(MAIN)?);
            let reads = Self::take_mark(slot, entries);
            let stamp = self.stamps[slot.index()];
            let lives = ((stamp & MOST_LIVES) + u32::from(reads)).min(MOST_LIVES);
            if lives == 0 {
                return Some(slot);
            }
            let used = if reads > 0 { self.now } else { stamp & !MOST_LIVES };
            self.stamps[slot.index()] = used | (lives - 1);
            self.queues.move_to_back(MAIN, slot.number());
            if reads == 1 || lives == 1 {
                self.narrow_window(entries.weight(slot));
            }
        }
        None
    }

    fn leave_main(&mut self, entries: &Entries<'_>) -> Option<Slot> {
        let slot = Slot::new(self.queues.pop_front(MAIN)?);
        self.weights[MAIN] -= entries.weight(slot);
        Some(slot)
    }

    /// Without regard to who comes.
    #[inline(always)]
    fn evict_any(&mut self, entries: &Entries<'_>) -> Option<Slot> {
        if self.weights[WINDOW] >= self.window_target
            && let Some((slot, 0)) = self.window_front(entries)
        {
            return Some(self.evict_from_window(slot, entries));
        }
        self.evict_in_turn(entries)
    }

    #[inline(never)]
    fn evict_in_turn(&mut self, entries: &Entries<'_>) -> Option<Slot> {
        let mut chances = MOST_RETURNS;
        for _ in 0..MOST_STEPS {
            if self.weights[WINDOW] < self.window_target && self.queues.len(MAIN) > 0 {
                break;
            }
            let Some((slot, reads)) = self.window_front(entries) else { break };
            if reads >= 2 && self.weights[MAIN] + 1 < self.capacity {
                self.leave_window(slot, entries);
                self.enter_main(slot, 0, entries);
            } else if reads == 1 && chances > 0 {
                chances -= 1;
                self.leave_window(slot, entries);
                entries.set_mark(slot, 0);
                self.enter_window(slot, entries);
            } else {
                return Some(self.evict_from_window(slot, entries));
            }
        }
        if self.hand(entries).is_none()
            && let Some((slot, _)) = self.window_front(entries)
        {
            return Some(self.evict_from_window(slot, entries));
        }
        self.leave_main(entries)
    }

    #[inline(never)]
    fn evict_for_returning(&mut self, entries: &Entries<'_>) -> Option<Slot> {
        let Arrival { idle, weight, place, removed, .. } = self.arrival;
        let victim = self.hand(entries);
        let closer = match victim {
            Some(victim) => idle < self.idle(victim),
            None => self.queues.len(MAIN) == 0,
        };
        if place == Place::Free && closer && !removed {
            let oldest = self.queues.front(WINDOW);
            let reach = oldest.map_or(0, |oldest| self.idle(Slot::new(oldest)));
            self.widen_window(idle.saturating_sub(reach) / MISS, weight);
        }
        let excess = self.weights[WINDOW].saturating_sub(self.window_target);
        let admit = closer || excess > self.near() || (excess > 0 && victim.is_none());
        self.arrival.place = if admit && place != Place::Window { Place::Main } else { Place::Window };
        if victim.is_some() && admit && excess == 0 {
            self.leave_main(entries)
        } else {
            self.evict_in_turn(entries)
        }
    }

    /// Lets an entry in for which no room had to be made.
    #[inline(never)]
    fn insert_freely(&mut self, slot: Slot, entries: &Entries<'_>) {
        let total = self.weights[WINDOW] + self.weights[MAIN] + entries.weight(slot);
        if total > self.peak {
            self.peak = total;
            if self.weights[WINDOW] >= self.window_target
                && let Some((front, reads)) = self.window_front(entries)
            {
                self.leave_window(front, entries);
                self.enter_main(front, u32::from(reads), entries);
            }
        } else if self.arrival.returns {
            return self.enter_main(slot, 0, entries);
        }
        self.enter_window(slot, entries);
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
        let ticks = self.ghost.records().div_ceil(GHOST_TICKS);
        self.tick_bits = (MISS.ilog2() + ticks.next_power_of_two().ilog2()).min(MOST_TICK_BITS);
    }

    fn admit(&mut self, hash: u64, weight: u64, _: &Entries<'_>) -> bool {
        // Asked again for the same entry: its record has been taken already.
        if self.arrival.hash == hash {
            return true;
        }
        self.now = self.now.wrapping_add(MISS);
        self.arrival = Arrival { hash, weight, ..Arrival::NOBODY };
        if let Some(record) = self.ghost.take(hash) {
            let tick = self.now >> self.tick_bits;
            let ticks = u32::from((tick as u16).wrapping_sub(record.time));
            self.arrival.returns = true;
            self.arrival.idle = self.now.wrapping_sub(tick.wrapping_sub(ticks) << self.tick_bits);
            self.arrival.removed = record.flag;
        }
        true
    }

    fn insert(&mut self, slot: Slot, entries: &Entries<'_>) {
        match self.arrival.place {
            Place::Free => self.insert_freely(slot, entries),
            Place::Window => self.enter_window(slot, entries),
            Place::Main => self.enter_main(slot, 0, entries),
        }
        self.arrival = Arrival::NOBODY;
    }

    fn moved(&mut self, old: Slot, new: Slot, entries: &Entries<'_>) {
        let Some(queue) = self.queues.list_of(old.number()) else { return };
        self.queues.replace(old.number(), new.number());
        self.stamps[new.index()] = self.stamps[old.index()];
        self.weights[queue] = self.weights[queue] - entries.weight(old) + entries.weight(new);
        if queue == WINDOW && self.stamps[new.index()] & YOUNG != 0 {
            self.young_weight = self.young_weight - entries.weight(old) + entries.weight(new);
            if self.young == Some(old.number()) {
                self.young = Some(new.number());
            }
        }
    }

    fn evict(&mut self, entries: &Entries<'_>) -> Option<Slot> {
        if self.arrival.returns {
            return self.evict_for_returning(entries);
        }
        self.arrival.place = Place::Window;
        self.evict_any(entries)
    }

    fn remove(&mut self, slot: Slot, _: RemovalCause, entries: &Entries<'_>) {
        let Some(queue) = self.queues.list_of(slot.number()) else { return };
        let weight = entries.weight(slot);
        self.weights[queue] -= weight;
        if queue == WINDOW && self.stamps[slot.index()] & YOUNG != 0 {
            self.young_weight -= weight;
            if self.young == Some(slot.number()) {
                self.young = self.queues.next(slot.number());
            }
        }
        self.queues.remove(slot.number());
        self.remember(slot, entries.hash(slot), true);
    }

    /// The window comes before main, each in its own order.
    fn walk(&self, from: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>) {
        walk(&self.queues, &[WINDOW, MAIN], from, visit);
    }

    fn validate(&self, len: usize, entries: &Entries<'_>) {
        self.queues.validate();
        assert_eq!(self.len(), len, "the queues have lost track of entries");
        let weigh = |slots: &mut dyn Iterator<Item = u32>| -> u64 {
            slots.map(|slot| entries.weight(Slot::new(slot))).sum()
        };
        for queue in [WINDOW, MAIN] {
            let weight = weigh(&mut self.queues.iter(queue));
            assert_eq!(self.weights[queue], weight, "queue {queue} has a wrong weight");
        }
        let is_young = |slot: &u32| self.stamps[*slot as usize] & YOUNG != 0;
        let mut young = self.queues.iter(WINDOW).skip_while(|slot| !is_young(slot)).peekable();
        assert_eq!(self.young, young.peek().copied(), "the young half begins elsewhere");
        let young: Vec<u32> = young.collect();
        assert!(young.iter().all(is_young), "the young half is not in one piece");
        assert_eq!(self.young_weight, weigh(&mut young.into_iter()), "the young half has a wrong weight");
        assert!((0.0..=1.0).contains(&self.share), "the window's share is {}", self.share);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sim::{Oracle, Sim, check, check_against, hash_of};
    use super::*;
    use std::collections::HashMap;

    #[derive(Clone, Copy, Default)]
    struct Known {
        weight: u64,
        hits: u8,
        lives: u8,
        used: u64,
    }

    /// What became known of a key that asked to be let in.
    struct Asking {
        weight: u64,
        /// When it was last used and whether it was removed by its user.
        past: Option<(u64, bool)>,
        goes_to: Option<Place>,
    }

    /// Queues of keys, oldest first, a clock that does not wrap, and a ghost of whole keys in buckets of eight.
    struct Naive {
        young: Vec<u64>,
        old: Vec<u64>,
        main: Vec<u64>,
        known: HashMap<u64, Known>,
        ghost: Vec<Vec<(u64, u64, bool)>>,
        now: u64,
        capacity: u64,
        peak: u64,
        share: f64,
        asking: Option<Asking>,
    }

    impl Naive {
        fn new(capacity: u64) -> Self {
            let (young, old, main, ghost) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            let (known, share) = (HashMap::new(), FIRST_SHARE);
            Self { young, old, main, known, ghost, now: 0, capacity, peak: 0, share, asking: None }
        }
        fn weigh_all(&self, keys: &[u64]) -> u64 {
            keys.iter().map(|key| self.known[key].weight).sum()
        }
        fn window(&self) -> Vec<u64> {
            [&self.old[..], &self.young].concat()
        }
        fn window_weight(&self) -> u64 {
            self.weigh_all(&self.window())
        }
        fn window_target(&self) -> u64 {
            ((self.capacity as f64 * self.share) as u64).max(1)
        }
        fn near(&self) -> u64 {
            (self.capacity / NEAR_PART).max(1)
        }
        fn know(&mut self, key: u64) -> &mut Known {
            self.known.get_mut(&key).unwrap()
        }
        fn bucket(&mut self, key: u64) -> Option<&mut Vec<(u64, u64, bool)>> {
            let all = self.ghost.len() as u64;
            self.ghost.get_mut((((hash_of(key) >> 16) * all) >> 32) as usize)
        }
        fn remember(&mut self, key: u64, removed: bool) {
            let used = self.known[&key].used;
            let bucket = self.bucket(key).unwrap();
            bucket.push((key, used, removed));
            if bucket.len() > 8 {
                bucket.remove(0);
            }
        }
        fn forget(&mut self, key: u64) {
            for queue in [&mut self.young, &mut self.old, &mut self.main] {
                queue.retain(|&other| other != key);
            }
        }
        fn enter_main(&mut self, key: u64, lives: u8) {
            self.forget(key);
            let now = self.now;
            *self.know(key) = Known { hits: 0, lives, used: now, ..self.known[&key] };
            self.main.push(key);
        }
        fn enter_window(&mut self, key: u64) {
            self.forget(key);
            let now = self.now;
            *self.know(key) = Known { hits: 0, lives: 0, used: now, ..self.known[&key] };
            self.young.push(key);
            let target = (self.window_target() / 2).max(1);
            for _ in 0..MOST_SHIFTS {
                if self.weigh_all(&self.young) > target && self.young.len() > 1 {
                    let key = self.young.remove(0);
                    self.know(key).hits = 0;
                    self.old.push(key);
                }
            }
        }
        /// What would leave the window, with the hits that count.
        fn window_front(&self) -> Option<(u64, u8)> {
            let old = self.old.first().map(|&key| (key, self.known[&key].hits));
            old.or(self.young.first().map(|&key| (key, 0)))
        }
        fn hand(&mut self) -> Option<u64> {
            for _ in 0..MOST_STEPS {
                let key = *self.main.first()?;
                let Known { hits, lives, weight, .. } = self.known[&key];
                let lives = (lives + hits).min(7);
                if lives == 0 {
                    return Some(key);
                }
                let now = self.now;
                let known = self.know(key);
                known.hits = 0;
                known.lives = lives - 1;
                if hits > 0 {
                    known.used = now;
                }
                self.main.rotate_left(1);
                if hits == 1 || lives == 1 {
                    let rest = self.capacity.saturating_sub(self.window_target()).max(1);
                    self.share = (self.share - MAIN_GAIN * weight as f64 / rest as f64).max(0.0);
                }
            }
            None
        }
        fn drop_from_window(&mut self, key: u64) -> u64 {
            self.remember(key, false);
            key
        }
        fn evict(&mut self) -> Option<u64> {
            let mut second_chances = 0;
            for _ in 0..MOST_STEPS {
                if self.window_weight() < self.window_target() && !self.main.is_empty() {
                    break;
                }
                match self.window_front() {
                    None => break,
                    Some((key, 2)) if self.weigh_all(&self.main) + 1 < self.capacity => {
                        self.enter_main(key, 0);
                    }
                    Some((key, 1)) if second_chances < 4 => {
                        second_chances += 1;
                        self.enter_window(key);
                    }
                    Some((key, _)) => return Some(self.drop_from_window(key)),
                }
            }
            if let Some(key) = self.hand() {
                return Some(key);
            }
            match self.window_front() {
                Some((key, _)) => Some(self.drop_from_window(key)),
                None => self.main.first().copied(),
            }
        }
        fn widen(&mut self, distance: u64, weight: u64) {
            let all = [self.window(), self.main.clone()].concat();
            let mean = self.weigh_all(&all) as f64 / all.len().max(1) as f64;
            let (distance, near) = (distance as f64 * mean, self.near() as f64);
            let step = WINDOW_GAIN / near * weight as f64;
            if distance <= near {
                self.share += step;
            } else if distance + self.window_target() as f64 <= self.capacity as f64 {
                self.share += step * (near / distance) * (near / distance);
            }
            self.share = self.share.min(1.0);
        }
    }

    impl Oracle for Naive {
        fn set_capacity(&mut self, capacity: u64) {
            self.capacity = capacity;
        }
        fn reserve(&mut self, slots: usize) {
            let records = slots * RECORDS_PER_SLOT;
            if records > self.ghost.len() * 8 {
                let records = if self.ghost.is_empty() { records } else { records + records / 8 };
                self.ghost = vec![Vec::new(); records.div_ceil(8)];
            }
        }
        fn admit(&mut self, key: u64, weight: u64) {
            self.now += 1;
            let mut past = None;
            if let Some(bucket) = self.bucket(key)
                && let Some(at) = bucket.iter().rposition(|&(ghost, ..)| ghost == key)
            {
                let (_, used, removed) = bucket.remove(at);
                past = Some((used, removed));
            }
            self.asking = Some(Asking { weight, past, goes_to: None });
        }
        fn weigh(&mut self, key: u64, weight: u64) {
            self.known.entry(key).or_default().weight = weight;
        }
        fn read(&mut self, key: u64) {
            let known = self.know(key);
            known.hits = (known.hits + 1).min(2);
        }
        fn victim(&mut self) -> Option<u64> {
            let Some(Asking { weight, past, goes_to }) = self.asking.take() else { return self.evict() };
            let Some((t0, removed)) = past else {
                self.asking = Some(Asking { weight, past, goes_to: Some(Place::Window) });
                return self.evict();
            };
            let victim = self.hand();
            let closer = victim.map_or(self.main.is_empty(), |victim| t0 > self.known[&victim].used);
            if closer && !removed && goes_to.is_none() {
                let oldest = self.window_front().map_or(self.now, |(key, _)| self.known[&key].used);
                self.widen(oldest.saturating_sub(t0), weight);
            }
            let (window, target) = (self.window_weight(), self.window_target());
            let admit = closer || window > target + self.near() || window > target && victim.is_none();
            let place = if admit && goes_to != Some(Place::Window) { Place::Main } else { Place::Window };
            self.asking = Some(Asking { weight, past, goes_to: Some(place) });
            if admit && window <= target && victim.is_some() { victim } else { self.evict() }
        }
        fn insert(&mut self, key: u64) {
            let (past, goes_to) =
                self.asking.take().map_or((None, None), |asking| (asking.past, asking.goes_to));
            let all = [self.window(), self.main.clone()].concat();
            let total = self.weigh_all(&all) + self.known[&key].weight;
            match goes_to {
                Some(Place::Main) => return self.enter_main(key, 0),
                None if total > self.peak => {
                    self.peak = total;
                    if self.window_weight() >= self.window_target()
                        && let Some((front, hits)) = self.window_front()
                    {
                        self.enter_main(front, hits);
                    }
                }
                None if past.is_some() => return self.enter_main(key, 0),
                _ => {}
            }
            self.enter_window(key);
        }
        fn remove(&mut self, key: u64, cause: RemovalCause) {
            if cause != RemovalCause::Size {
                self.remember(key, true);
            }
            self.forget(key);
            self.known.remove(&key);
        }
        fn order(&self) -> Option<Vec<u64>> {
            Some([self.window(), self.main.clone()].concat())
        }
    }

    #[test]
    fn is_exactly_its_definition() {
        check_against(|capacity| Box::new(S3Lirs::new(capacity)), |capacity| Box::new(Naive::new(capacity)));
    }

    #[test]
    fn keeps_its_books() {
        check(|capacity| Box::new(S3Lirs::new(capacity)));
    }
}
