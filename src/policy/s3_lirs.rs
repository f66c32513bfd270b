//! S3-LIRS: S3-FIFO's window for newcomers, and a main part that a key enters by the test of LIRS.
//!
//! J. Yang, Y. Zhang, Z. Qiu, Y. Yue, K. V. Rashmi: "FIFO queues are all you need for cache eviction", SOSP 2023. S. Jiang,
//! X. Zhang: "LIRS: an efficient low inter-reference recency set replacement policy to improve buffer cache performance",
//! SIGMETRICS 2002. The young half is that of Clock2Q+ (VLDB 2026).
//!
//! # How it works
//!
//! A newcomer enters the *window*, a queue. What was read at least twice by the time it comes to the window's front goes on
//! to *main*, what was read once goes through the window again, and what was not read leaves; a *ghost* remembers for a
//! while when that was last used. So a scan passes through the window. Main is a CLOCK whose *hand* passes over entries that
//! have lives: a read is a life, one is spent in each round, and a few can be saved up.
//!
//! **Who gets into main.** A key that the ghost remembers has come back after so many misses. The entry that main would give
//! up has been idle for so many. The key takes its place if it came back *sooner* than that: if both go on as they did it will
//! be back first. That compares like with like and has no parameter. In a loop over more than the cache holds each key comes
//! back later than any entry of main has been idle, since those are hit once a round, so main keeps what it has; when main
//! holds what nobody wants any more its entries grow idle, and whatever comes back replaces them.
//!
//! **Reads of the young.** One use of a key often is several reads in a row, which say nothing of the time after. So reads
//! do not count in the *young* half of the window, those of the entries that came last.
//!
//! **How large the window is.** Each event moves its target by what a little more room would have been worth there. A key
//! that comes back, and was out of the window for only a short while, would have been a hit in a larger window: wider. The
//! longer it was out, the more room that would have taken, and the less of it a little more is worth. An entry of main that
//! got through a round of the hand by a single read or by its last life would have been lost from a smaller main: narrower.
//! An event counts as a part of the space that it speaks for, so the target comes to rest where both sides gain
//! alike. No periods, no samples of the hit ratio. What users remove themselves says nothing of room, and moves nothing.
//!
//! **Room that is free.** While the cache fills for the first time the window keeps to its target, and what is over it goes to
//! main. Later, room comes from removals; then who has come back goes to main and all others to the window.
//!
//! All shares are by weight, and the clock counts misses. One heavy key against several light victims must have come back sooner
//! than each of them has been idle. A read of a light entry is worth more lives, by as much as the mean entry is heavier: what
//! it costs to keep is less. That is 0.6 to 2.2 points of objects for 0.1 of bytes at most, with lognormal sizes over twelve
//! traces. Weighing the LIRS test by size as well is up to 0.9 more of objects, but takes up to 0.5 of bytes.
//!
//! A slot costs 8 bytes of links, 4 for time and lives and 8 of ghost. A miss looks at one of the ghost's buckets, and at the
//! headers of the entries that leave and that grow old.
//!
//! **When not to use it:** where a few entries are much more popular than others, and the cache holds some dozens of them:
//! `tiny_lfu` counts how often, this one does not. Where the working set slides on and nothing else happens, or a phase
//! begins whose keys all fit, `lru` is at its best at once; here new keys must come back to be believed.
//!
//! # What did not help
//!
//! In points of hit ratio: the mean over the 33 rows of the field's traces, which must not fall, and a sliding set of uniform
//! keys that just fits, one of twelve made-up workloads that no constant was chosen by; there `lru` is 7 ahead.
//!
//! | what was tried | mean | sliding |
//! | --- | --- | --- |
//! | returns that are not sooner widen the window as well | -0.06 (one loop -2.0) | +2.3 |
//! | the same for a quarter of the gain | -0.01 (one loop -0.5) | +0.7 |
//! | only reads narrow the window, not the last life of an entry | -0.06 | +3.0 |
//! | an entry that was not read loses half of its lives | -0.06 | +1.6 |
//! | three lives at most | -0.03 | +0.5 |
//! | an entry of main counts as used in the middle of the round that it was read in | -0.27 | +0.7 |
//!
//! A phase that would fit loses its first returns, since main keeps what went before until then. That could end only by letting
//! entries go that have been idle for long: for as many misses as there are entries, and twelve traces in turn lose 0.0 to 0.3
//! points to fresh caches and not 2.5, but the mean falls by 9; for four times as many, 1.0 to 2.9, and it falls by 0.3.
//! Nothing tells such a phase from a scan but waiting.
//!
//! A new value for a key leaves the entry at its place; an entry that comes back from being pinned enters as a newcomer.
//!
//! A snapshot keeps the queues, their order, times and lives, the window's share, the peak, the clock and the ghost; nothing
//! is lost. Into a cache of another size records of the ghost may come in duplicate, be less exact in time, or not all fit.

use super::{End, Entries, Policy, Reads, Slot, ghosts, most_ghosts, walk};
use crate::parts::extend_zeroed;
use crate::parts::ghost::{Ghost, Record};
use crate::parts::lists::Lists;
use crate::removal::RemovalCause;
use std::ops::ControlFlow;

const WINDOW: usize = 0;
const MAIN: usize = 1;

// What halving or doubling costs is in points of hit ratio, the mean over 33 rows of the field's traces.

/// The window's share of the capacity at first. Half or twice: 0.02 at most.
const FIRST_SHARE: f64 = 0.03;
/// A window larger by this part of the capacity is what a key that comes back is measured against. Half or twice, the step
/// unchanged: 0.2.
const NEAR_SHARE: f64 = 0.05;
/// How much of that part the target moves for a hit that the larger window would have had.
const WINDOW_GAIN: f64 = 0.1;
/// How much of main the target moves for an entry that a smaller main would have lost. Half or twice either gain: 0.3; both
/// together: 0.05 at most, so it is their balance that matters.
const MAIN_GAIN: f64 = 0.2;
/// Reads up to which an entry is counted: enough to tell one from more.
const MOST_READS: u8 = 2;
/// Lives that an entry can save up: what fits beside its time. Half: 0.03.
const MOST_LIVES: u32 = 7;
/// Entries that one call may pass over before it takes what is there: it bounds the longest pause. Half: 0.03; twice: none.
const MOST_STEPS: usize = 32;
/// Entries that may grow old with one insert: one in the normal course, more after the window has shrunk or a heavy entry
/// has come.
const MOST_AGED: usize = 4;

/// The clock's step: times stand above three bits for something else. A time of 29 bits repeats after 500 million misses; an
/// entry that main has kept idle so long looks fresh once more.
const MISS: u32 = MOST_LIVES + 1;
/// What stands there while an entry is in the young half of the window. In the old half nothing does.
const YOUNG: u32 = 1;

/// Records of the ghost for each entry. One: 0.18; three: 0.07.
const RECORDS_PER_ENTRY: usize = 2;
/// A tick of the ghost's clock is the least power of two by which there are at most so many ticks to a miss for each entry:
/// that is fine enough, and at least sixteen such rounds until the 16 bits of a record repeat.
const GHOST_TICKS: usize = 4096;
/// Ticks are at most this wide, so that all bits of their count come from the clock.
const MOST_TICK_BITS: u32 = u32::BITS - u16::BITS;

/// A note is how long the entry has been idle with what stands below [`MISS`], and here the queue.
const NOTE_QUEUE: u32 = u32::BITS;

/// The entry that has asked to be let in and was not inserted yet.
struct Arrival {
    hash: u64,
    weight: u64,
    place: Place,
    /// Whether the ghost remembered it; if so, how long it had been idle, and whether its user had removed it.
    returns: bool,
    idle: u32,
    removed: bool,
}

/// Where an arrival goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Not known: no room had to be made for it so far.
    Open,
    Window,
    Main,
}

impl Arrival {
    /// A hash has 48 bits, so none is this one's.
    const NOBODY: Self =
        Self { hash: u64::MAX, weight: 0, place: Place::Open, returns: false, idle: 0, removed: false };

    fn save(&self) -> [u64; 3] {
        let flags = u64::from(self.returns) | u64::from(self.removed) << 1 | (self.place as u64) << 2;
        [self.hash, self.weight, u64::from(self.idle) << 32 | flags]
    }

    fn restored([hash, weight, rest]: [u64; 3]) -> Self {
        let place = match rest >> 2 & 3 {
            1 => Place::Window,
            2 => Place::Main,
            _ => Place::Open,
        };
        let (returns, removed) = (rest & 1 != 0, rest & 2 != 0);
        Self { hash, weight, place, returns, idle: (rest >> 32) as u32, removed }
    }
}

/// S3-LIRS. The fronts of the queues are the oldest entries.
pub(crate) struct S3Lirs {
    queues: Lists<2>,
    /// The weight in each queue.
    weights: [u64; 2],
    /// The first of the window's young half, which reaches to the window's back. None while there is no such entry.
    young: Option<u32>,
    young_weight: u64,
    /// By slot: when the entry was last known to be used, and in the bits below [`MISS`] its lives in main, or [`YOUNG`].
    stamps: Vec<u32>,
    /// The clock: a `MISS` for each key that asked to be let in.
    now: u32,
    arrival: Arrival,
    capacity: u64,
    /// The most that the entries ever weighed: below it room was made by removals.
    peak: u64,
    /// The window's share of the capacity, 0 to 1.
    share: f64,
    /// What that comes to in weight, at least 1, and what half of it does.
    window_target: u64,
    young_target: u64,
    ghost: Ghost,
    /// Two to this many of the clock's units make a tick of the ghost's.
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

    /// A hit was missed that a window holding the last `distance` misses more would have had.
    fn widen_window(&mut self, distance: u32, weight: u64) {
        let mean_weight = (self.weights[WINDOW] + self.weights[MAIN]) as f64 / self.len().max(1) as f64;
        let near = (self.capacity as f64 * NEAR_SHARE).max(1.0);
        // A window larger by `near` would have had this part of such hits, and that part of its room has to do with them.
        let part = near / (f64::from(distance) * mean_weight).max(near);
        self.set_share(self.share + WINDOW_GAIN * weight as f64 / near * part * part);
    }

    /// An entry was kept that a smaller main part would have lost.
    fn narrow_window(&mut self, weight: u64) {
        let main_target = self.capacity.saturating_sub(self.window_target).max(1);
        self.set_share(self.share - MAIN_GAIN * weight as f64 / main_target as f64);
    }

    fn len(&self) -> usize {
        self.queues.len(WINDOW) + self.queues.len(MAIN)
    }

    /// How long ago the entry was last known to be used.
    fn idle(&self, slot: Slot) -> u32 {
        self.now.wrapping_sub(self.stamps[slot.index()] & !MOST_LIVES)
    }

    /// One life, and more for an entry of which several weigh as much as others do.
    #[inline]
    fn lives_per_read(&self, weight: u64) -> u32 {
        let total = self.weights[WINDOW] + self.weights[MAIN];
        let all_like_it = weight.max(1).saturating_mul(self.len() as u64);
        // Where all weigh the same there is nothing to divide.
        if all_like_it >= total { 1 } else { (total / all_like_it).clamp(1, u64::from(MOST_LIVES)) as u32 }
    }

    /// Takes the mark of an entry: its reads since the last time.
    #[inline]
    fn take_mark(slot: Slot, entries: Entries<'_>) -> u8 {
        let reads = entries.mark(slot);
        if reads > 0 {
            entries.set_mark(slot, 0);
        }
        reads
    }

    /// What would leave the window, with the reads that count.
    #[inline(always)]
    fn window_front(&self, entries: Entries<'_>) -> Option<(Slot, u8)> {
        let front = self.queues.front(WINDOW)?;
        let reads = if self.young == Some(front) { 0 } else { entries.mark(Slot::new(front)) };
        Some((Slot::new(front), reads))
    }

    #[inline(always)]
    fn pop_window(&mut self, front: Slot, entries: Entries<'_>) {
        let weight = entries.weight(front);
        self.queues.pop_front(WINDOW);
        self.weights[WINDOW] -= weight;
        if self.young == Some(front.number()) {
            self.young = self.queues.front(WINDOW);
            self.young_weight -= weight;
        }
    }

    #[inline(always)]
    fn evict_from_window(&mut self, front: Slot, entries: Entries<'_>) -> Slot {
        let hash = entries.hash(front);
        self.pop_window(front, entries);
        self.remember(front, hash, false);
        front
    }

    #[inline]
    fn remember(&mut self, slot: Slot, hash: u64, removed: bool) {
        let time = (self.stamps[slot.index()] >> self.tick_bits) as u16;
        self.ghost.put(hash, Record { time, flag: removed });
    }

    #[inline(never)]
    fn enter_main(&mut self, slot: Slot, entries: Entries<'_>) {
        Self::take_mark(slot, entries);
        self.stamps[slot.index()] = self.now;
        self.queues.push_back(MAIN, slot.number());
        self.weights[MAIN] += entries.weight(slot);
    }

    #[inline(always)]
    fn enter_window(&mut self, slot: Slot, entries: Entries<'_>) {
        let weight = entries.weight(slot);
        self.stamps[slot.index()] = self.now | YOUNG;
        self.queues.push_back(WINDOW, slot.number());
        self.weights[WINDOW] += weight;
        self.young_weight += weight;
        let mut young = self.young.unwrap_or(slot.number());
        for _ in 0..MOST_AGED {
            if self.young_weight <= self.young_target {
                break;
            }
            let Some(next) = self.queues.next(young) else { break };
            let aged = Slot::new(young);
            Self::take_mark(aged, entries);
            self.stamps[aged.index()] -= YOUNG;
            self.young_weight -= entries.weight(aged);
            young = next;
        }
        self.young = Some(young);
    }

    /// Turns the hand up to what main would give up, the front then. None if there is none, or it is too far.
    #[inline(never)]
    fn hand(&mut self, entries: Entries<'_>) -> Option<Slot> {
        for _ in 0..MOST_STEPS {
            let slot = Slot::new(self.queues.front(MAIN)?);
            let reads = Self::take_mark(slot, entries);
            let stamp = self.stamps[slot.index()];
            let gained = u32::from(reads) * self.lives_per_read(entries.weight(slot));
            let lives = ((stamp & MOST_LIVES) + gained).min(MOST_LIVES);
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

    fn pop_main(&mut self, entries: Entries<'_>) -> Option<Slot> {
        let slot = Slot::new(self.queues.pop_front(MAIN)?);
        self.weights[MAIN] -= entries.weight(slot);
        Some(slot)
    }

    /// Evicts from the window while that has its share, else from main.
    #[inline(never)]
    fn evict_in_turn(&mut self, entries: Entries<'_>) -> Option<Slot> {
        for _ in 0..MOST_STEPS {
            if self.weights[WINDOW] < self.window_target && self.queues.len(MAIN) > 0 {
                break;
            }
            let Some((front, reads)) = self.window_front(entries) else { break };
            if reads == 0 {
                return Some(self.evict_from_window(front, entries));
            }
            self.pop_window(front, entries);
            if reads == 1 {
                entries.set_mark(front, 0);
                self.enter_window(front, entries);
            } else {
                self.enter_main(front, entries);
            }
        }
        if self.hand(entries).is_none()
            && let Some((front, _)) = self.window_front(entries)
        {
            return Some(self.evict_from_window(front, entries));
        }
        self.pop_main(entries)
    }

    /// Makes room for a key that comes back, and decides where it goes.
    #[inline(never)]
    fn evict_for_return(&mut self, entries: Entries<'_>) -> Option<Slot> {
        let Arrival { idle, weight, place, removed, .. } = self.arrival;
        let victim = self.hand(entries);
        let is_sooner = match victim {
            Some(victim) => idle < self.idle(victim),
            None => self.queues.len(MAIN) == 0,
        };
        if is_sooner && !removed && place == Place::Open {
            let oldest = self.queues.front(WINDOW).map(Slot::new);
            let distance = idle.saturating_sub(oldest.map_or(0, |oldest| self.idle(oldest)));
            self.widen_window(distance / MISS, weight);
        }
        let is_over = self.weights[WINDOW] > self.window_target;
        // Where all of main is in use, and the window has more than its share, it is main that needs room.
        let to_main = is_sooner || is_over && victim.is_none();
        // Each victim must agree.
        self.arrival.place = if to_main && place != Place::Window { Place::Main } else { Place::Window };
        if to_main && !is_over && victim.is_some() {
            self.pop_main(entries)
        } else {
            self.evict_in_turn(entries)
        }
    }

    /// Lets an entry in for which no room had to be made.
    #[inline(never)]
    fn insert_freely(&mut self, slot: Slot, entries: Entries<'_>) {
        let total = self.weights[WINDOW] + self.weights[MAIN] + entries.weight(slot);
        if total > self.peak {
            self.peak = total;
            if self.weights[WINDOW] >= self.window_target
                && let Some((front, _)) = self.window_front(entries)
            {
                self.pop_window(front, entries);
                self.enter_main(front, entries);
            }
        } else if self.arrival.returns {
            return self.enter_main(slot, entries);
        }
        self.enter_window(slot, entries);
    }

    /// Whether a slot that stands in `queue` is in the window's young half.
    fn is_young(&self, queue: usize, slot: Slot) -> bool {
        queue == WINDOW && self.stamps[slot.index()] & YOUNG != 0
    }

    /// Links an entry of a snapshot behind the other ones of its kind.
    fn link(&mut self, slot: Slot, queue: usize, entries: Entries<'_>) {
        let weight = entries.weight(slot);
        self.weights[queue] += weight;
        match self.young {
            Some(young) if queue == WINDOW && !self.is_young(queue, slot) => {
                self.queues.insert_after(WINDOW, self.queues.prev(young), slot.number());
                return;
            }
            _ => self.queues.push_back(queue, slot.number()),
        }
        if self.is_young(queue, slot) {
            self.young_weight += weight;
            self.young = self.young.or(Some(slot.number()));
        }
    }

    /// Sets the clock. All entries stay as idle as they are.
    fn set_clock(&mut self, now: u32) {
        let step = (now & !MOST_LIVES).wrapping_sub(self.now);
        self.now = self.now.wrapping_add(step);
        for stamp in &mut self.stamps {
            *stamp = stamp.wrapping_add(step);
        }
    }

    fn restore_ghost(&mut self, words: &[u64]) {
        let saved = Ghost::restored(words);
        let (now, from, to) = (self.now, tick_bits(&saved), self.tick_bits);
        let retime = |time: u16| {
            let used = used(now, from, time);
            let ticks_ago = (now >> to).wrapping_sub(used >> to) & (u32::MAX >> to);
            u16::try_from(ticks_ago).ok().map(|_| (used >> to) as u16)
        };
        let most = most_ghosts(self.stamps.len(), self.capacity) * RECORDS_PER_ENTRY;
        self.ghost.take_over(saved, most, &retime);
        self.tick_bits = tick_bits(&self.ghost);
    }
}

/// Two to this many of the clock's units make a tick of that ghost's.
fn tick_bits(ghost: &Ghost) -> u32 {
    let misses_per_tick = ghost.records().div_ceil(RECORDS_PER_ENTRY * GHOST_TICKS);
    (MISS.ilog2() + misses_per_tick.next_power_of_two().ilog2()).min(MOST_TICK_BITS)
}

/// When the clock stood at the last tick of which the ghost knows `time`.
#[inline(always)]
fn used(now: u32, tick_bits: u32, time: u16) -> u32 {
    let tick = now >> tick_bits;
    let ticks_ago = u32::from((tick as u16).wrapping_sub(time));
    tick.wrapping_sub(ticks_ago) << tick_bits
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
        extend_zeroed(&mut self.stamps, slots);
        self.ghost.reserve(ghosts(slots, self.capacity) * RECORDS_PER_ENTRY);
        self.tick_bits = tick_bits(&self.ghost);
    }

    #[inline(always)]
    fn admit(&mut self, hash: u64, weight: u64, _: Entries<'_>) -> bool {
        // Asked again for the same entry: its record has been taken already.
        if self.arrival.hash == hash {
            return true;
        }
        self.now = self.now.wrapping_add(MISS);
        self.arrival = Arrival { hash, weight, ..Arrival::NOBODY };
        if let Some(record) = self.ghost.take(hash) {
            self.arrival.returns = true;
            self.arrival.idle = self.now.wrapping_sub(used(self.now, self.tick_bits, record.time));
            self.arrival.removed = record.flag;
        }
        true
    }

    #[inline(always)]
    fn insert(&mut self, slot: Slot, entries: Entries<'_>) {
        // An entry that did not ask takes what an arrival has left that was refused: that is rare, and does no harm.
        match self.arrival.place {
            Place::Open => self.insert_freely(slot, entries),
            Place::Window => self.enter_window(slot, entries),
            Place::Main => self.enter_main(slot, entries),
        }
        self.arrival = Arrival::NOBODY;
    }

    fn moved(&mut self, old: Slot, new: Slot, entries: Entries<'_>) {
        let Some(queue) = self.queues.list_of(old.number()) else { return };
        let (before, after) = (entries.weight(old), entries.weight(new));
        self.queues.replace(old.number(), new.number());
        self.stamps[new.index()] = self.stamps[old.index()];
        self.weights[queue] = self.weights[queue] - before + after;
        if self.is_young(queue, new) {
            self.young_weight = self.young_weight - before + after;
            self.young = self.young.map(|young| if young == old.number() { new.number() } else { young });
        }
    }

    #[inline(always)]
    fn evict(&mut self, entries: Entries<'_>) -> Option<Slot> {
        if self.arrival.returns {
            return self.evict_for_return(entries);
        }
        self.arrival.place = Place::Window;
        // Most often this is all that there is to it.
        if self.weights[WINDOW] >= self.window_target
            && let Some((front, 0)) = self.window_front(entries)
        {
            return Some(self.evict_from_window(front, entries));
        }
        self.evict_in_turn(entries)
    }

    /// Whatever the cause, the key may come back, and then it counts how soon.
    fn remove(&mut self, slot: Slot, _: RemovalCause, entries: Entries<'_>) {
        let Some(queue) = self.queues.list_of(slot.number()) else { return };
        let weight = entries.weight(slot);
        self.weights[queue] -= weight;
        if self.is_young(queue, slot) {
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

    /// In main how many rounds of the hand the entry lasts, in the window its reads.
    fn heat(&self, slot: Slot, entries: Entries<'_>) -> u64 {
        let reads = u32::from(entries.mark(slot));
        let heat = match self.queues.list_of(slot.number()) {
            Some(MAIN) => {
                (self.stamps[slot.index()] & MOST_LIVES) + reads * self.lives_per_read(entries.weight(slot))
            }
            _ => reads,
        };
        u64::from(heat)
    }

    /// The order of `walk`.
    fn save(&self, _: Entries<'_>, visit: &mut dyn FnMut(Slot, u64)) {
        for queue in [MAIN, WINDOW] {
            for slot in self.queues.iter_back(queue).map(Slot::new) {
                let below = self.stamps[slot.index()] & MOST_LIVES;
                visit(slot, (queue as u64) << NOTE_QUEUE | u64::from(self.idle(slot) | below));
            }
        }
    }

    fn save_rest(&self) -> Vec<u64> {
        let mut words = vec![self.share.to_bits(), self.peak, u64::from(self.now)];
        words.extend(self.arrival.save());
        self.ghost.save(&mut words);
        words
    }

    fn restore(&mut self, slot: Slot, note: u64, entries: Entries<'_>) {
        let queue = if note >> NOTE_QUEUE == MAIN as u64 { MAIN } else { WINDOW };
        let below = note as u32 & if queue == MAIN { MOST_LIVES } else { YOUNG };
        self.stamps[slot.index()] = self.now.wrapping_sub(note as u32 & !MOST_LIVES) | below;
        self.link(slot, queue, entries);
    }

    fn restore_rest(&mut self, words: &[u64], same_hashes: bool) {
        let Some((&[share, peak, now], words)) = words.split_first_chunk() else { return };
        let share = f64::from_bits(share);
        if (0.0..=1.0).contains(&share) {
            self.set_share(share);
        }
        self.peak = self.peak.max(peak);
        let Some((&arrival, ghost)) = words.split_first_chunk() else { return };
        if same_hashes {
            // The ghost counts in ticks of the clock, and these go on where they were.
            self.set_clock(now as u32);
            self.restore_ghost(ghost);
            if self.arrival.hash == Arrival::NOBODY.hash {
                self.arrival = Arrival::restored(arrival);
            }
        }
    }

    fn validate(&self, len: usize, entries: Entries<'_>) {
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
        /// The weight of all and their number.
        fn total(&self) -> (u64, u64) {
            let all = [self.window(), self.main.clone()].concat();
            (self.weigh_all(&all), all.len() as u64)
        }
        fn window_target(&self) -> u64 {
            ((self.capacity as f64 * self.share) as u64).max(1)
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
            let Some(bucket) = self.bucket(key) else { return };
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
        fn enter_main(&mut self, key: u64) {
            self.forget(key);
            let now = self.now;
            *self.know(key) = Known { hits: 0, lives: 0, used: now, ..self.known[&key] };
            self.main.push(key);
        }
        fn enter_window(&mut self, key: u64) {
            self.forget(key);
            let now = self.now;
            *self.know(key) = Known { hits: 0, lives: 0, used: now, ..self.known[&key] };
            self.young.push(key);
            let target = (self.window_target() / 2).max(1);
            for _ in 0..MOST_AGED {
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
                let (total, count) = self.total();
                let worth = (total / (count * weight.max(1))).clamp(1, 7);
                let lives = (lives + hits * worth as u8).min(7);
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
            for _ in 0..MOST_STEPS {
                if self.window_weight() < self.window_target() && !self.main.is_empty() {
                    break;
                }
                match self.window_front() {
                    None => break,
                    Some((key, 0)) => return Some(self.drop_from_window(key)),
                    Some((key, 1)) => self.enter_window(key),
                    Some((key, _)) => self.enter_main(key),
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
            let (total, count) = self.total();
            let distance = distance as f64 * total as f64 / count.max(1) as f64;
            let near = (self.capacity as f64 * NEAR_SHARE).max(1.0);
            let part = if distance <= near { 1.0 } else { near / distance };
            self.share += WINDOW_GAIN * weight as f64 / near * part * part;
            self.share = self.share.min(1.0);
        }
    }

    impl Oracle for Naive {
        fn set_capacity(&mut self, capacity: u64) {
            self.capacity = capacity;
        }
        fn reserve(&mut self, slots: usize) {
            let records = ghosts(slots, self.capacity) * RECORDS_PER_ENTRY;
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
            // Whoever comes next without asking takes the place of what leaves when nobody has asked.
            let nobody = Asking { weight: 0, past: None, goes_to: None };
            let Asking { weight, past, goes_to } = self.asking.take().unwrap_or(nobody);
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
            let admit = closer || window > target && victim.is_none();
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
                Some(Place::Main) => return self.enter_main(key),
                None if total > self.peak => {
                    self.peak = total;
                    if self.window_weight() >= self.window_target()
                        && let Some((front, _)) = self.window_front()
                    {
                        self.enter_main(front);
                    }
                }
                None if past.is_some() => return self.enter_main(key),
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

    /// Into ticks that are wider or narrower, and while the clock wraps.
    #[test]
    #[cfg_attr(miri, ignore = "too long for Miri")]
    fn a_ghost_of_another_size_knows_the_time() {
        let sizes = [10, 5_000, 40_000];
        for (from, to) in sizes.into_iter().flat_map(|from| sizes.map(|to| (from, to))) {
            for now in [0, 1_000 * MISS, 12_345_678 * MISS] {
                let [mut old, mut new] = [from, to].map(|slots| {
                    let mut policy = S3Lirs::new(slots as u64);
                    policy.reserve(slots);
                    policy
                });
                let misses = [0, 1, 7, 100, 5_000, 30_000, 600_000];
                old.now = now;
                for (key, misses) in (0..).zip(misses) {
                    let time = now.wrapping_sub(misses * MISS) >> old.tick_bits;
                    old.ghost.put(hash_of(key), Record { time: time as u16, flag: false });
                }
                new.restore_rest(&old.save_rest(), true);
                assert_eq!((new.now, new.ghost.records() >= 2 * to), (now, true));
                for (key, misses) in (0..).zip(misses) {
                    let Some(record) = new.ghost.take(hash_of(key)) else {
                        // Beyond what the narrower ticks can count.
                        assert!(misses > 60_000 && to < from, "{misses}: {from} to {to}");
                        continue;
                    };
                    let idle = now.wrapping_sub(used(now, new.tick_bits, record.time));
                    let tick = MISS << (old.tick_bits.max(new.tick_bits) - MISS.ilog2() + 1);
                    let is_near = idle.abs_diff(misses * MISS) <= tick;
                    assert!(is_near || misses > 60_000, "{misses} misses became {}", idle / MISS);
                }
            }
        }
    }

    fn sim(capacity: u64) -> Sim {
        Sim::new(Box::new(S3Lirs::new(capacity)), capacity)
    }

    /// Read-through: says whether it was a hit.
    fn ask(sim: &mut Sim, key: u64) -> bool {
        let hit = sim.get(key);
        if !hit {
            sim.insert(key, 1);
        }
        hit
    }

    #[test]
    #[cfg_attr(miri, ignore = "too long for Miri")]
    fn a_scan_passes_through_the_window() {
        let mut sim = sim(100);
        for _ in 0..4 {
            for key in 0..80 {
                ask(&mut sim, key);
            }
        }
        for key in 1_000..3_000 {
            ask(&mut sim, key);
        }
        let kept = (0..80).filter(|&key| sim.get(key)).count();
        assert!(kept >= 78, "a scan has pushed out {} of 80 popular keys", 80 - kept);
    }

    /// The best that there is for 120 keys in turn and 100 places: all but a few of those stay for ever.
    #[test]
    #[cfg_attr(miri, ignore = "too long for Miri")]
    fn a_loop_keeps_what_fits() {
        let mut sim = sim(100);
        let hits = (0..12_000).filter(|round| ask(&mut sim, round % 120)).count();
        assert!(hits > 9_000, "{hits} hits of 12,000");
    }

    /// Each key is asked for once more, after up to 60 others: far beyond the window's first size.
    #[test]
    #[cfg_attr(miri, ignore = "too long for Miri")]
    fn recency_is_learnt() {
        let mut sim = sim(100);
        let mut hits = 0;
        for now in 0..20_000u64 {
            ask(&mut sim, now);
            let back = now * 7_919 % 60;
            hits += u64::from(now >= 60 && ask(&mut sim, now - back));
        }
        assert!(hits > 18_000, "{hits} hits of 20,000");
    }

    /// A popular set gives way to another: main lets go of what has grown idle.
    #[test]
    #[cfg_attr(miri, ignore = "too long for Miri")]
    fn another_popular_set_takes_over() {
        let mut sim = sim(100);
        for set in 0..3 {
            for round in 0..40 {
                let hits = (0..90).filter(|key| ask(&mut sim, set * 1_000 + key)).count();
                assert!(round < 20 || hits >= 88, "{hits} hits of 90 in round {round} of set {set}");
            }
        }
    }

    /// Beside a scan, popular keys are removed by their user and asked for again at once: no reason for a wider window.
    #[test]
    #[cfg_attr(miri, ignore = "too long for Miri")]
    fn removals_do_not_move_the_window() {
        let mut sim = sim(100);
        let mut hits = 0;
        for now in 0..40_000u64 {
            let key = now * 7_919 % 80;
            if now % 8 == 0 {
                sim.remove(key, RemovalCause::Explicit);
            }
            hits += u64::from(ask(&mut sim, key));
            ask(&mut sim, 1_000 + now);
        }
        assert!(hits > 34_000, "{hits} hits of 35,000");
    }

    #[test]
    #[cfg_attr(miri, ignore = "too long for Miri")]
    fn a_loop_goes_on_after_a_resize() {
        let mut sim = sim(100);
        for capacity in [100, 30, 0, 60, 100] {
            sim.set_capacity(capacity);
            for round in 0..3_000 {
                ask(&mut sim, round % 120);
            }
            sim.validate();
            let hits = (0..1_200).filter(|round| ask(&mut sim, round % 120)).count() as u64;
            assert!(hits * 10 >= capacity * 8, "{hits} hits of 1,200 with a capacity of {capacity}");
        }
    }
}
