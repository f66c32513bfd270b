//! LFU with ageing: the entry of the lowest priority leaves first, among equals the least recently used.
//!
//! An entry's priority is a count of its uses that starts above zero: a newcomer starts one above the priority at which
//! the last victim left (at 1 as long as there was none), and each use adds 1. So counts earned long ago are worth less
//! and less, as the level at which newcomers start rises with every eviction; plain LFU would keep yesterday's favourites
//! for ever. This ageing is that of LFU-DA: Arlitt, Cherkasova, Dilley, Friedrich, Jin: "Evaluating content management
//! techniques for web proxy caches", 1999. It is exact while one thread drives the cache; under contention the buffer
//! between readers and policy may lose some uses.
//!
//! A new value for a key is a use of it. An entry that comes back from being pinned starts as a newcomer. Entries that
//! leave for other reasons than size leave the level as it is. A snapshot keeps the order, the priorities and the level,
//! which is all that there is.
//!
//! # How it works in O(1)
//!
//! All entries stand in one list, by priority and then by last use. Entries of equal priority, neighbours in it, share
//! a *group*, which knows the last of them. A used entry goes right behind the last of the next higher group, or opens
//! one there. The front is the victim. No entry's priority is below the level, so a newcomer's place is at most one
//! group away from the front. A slot costs twelve bytes, a group sixteen; there are as many groups as there are
//! different priorities.
//!
//! **When not to use it:** where what is popular changes quickly: an entry with 1,000 uses leaves only when the level
//! has risen by as much. Also where reads of hot keys must scale with the cores to the last, since reads are
//! recorded. `tiny_lfu` takes frequency into account without either cost.

use super::{End, Entries, Policy, Reads, Slot};
use crate::parts::lists::Lists;
use crate::removal::RemovalCause;
use std::ops::ControlFlow;

const QUEUE: usize = 0;
const NO_GROUP: u32 = u32::MAX;
/// The highest priority that is believed of a snapshot: from there uses cannot count up to an overflow.
const MOST_PRIORITY: u64 = u64::MAX >> 1;

/// The entries of one priority: a stretch of the list.
#[derive(Clone, Copy)]
struct Group {
    priority: u64,
    /// The most recently used of them; for a free group, the next free one.
    last: u32,
    /// How many they are; 0 for a free group.
    len: u32,
}

/// Least frequently used, with ageing.
pub(crate) struct Lfu {
    /// By priority, then by last use; the front is the next victim.
    by_priority: Lists<1>,
    /// For each linked slot its group.
    group_of: Vec<u32>,
    groups: Vec<Group>,
    free_group: u32,
    /// The priority at which the last victim left; none of the entries is below it.
    level: u64,
    /// The last entry that came from a snapshot: its priority, and below which entry of a lower one it was put. That one may
    /// have left or risen since.
    restored: (u64, Option<u32>),
}

impl Lfu {
    pub(crate) fn new() -> Self {
        Self {
            by_priority: Lists::new(),
            group_of: Vec::new(),
            groups: Vec::new(),
            free_group: NO_GROUP,
            level: 0,
            restored: (0, None),
        }
    }

    fn group(&self, slot: u32) -> Group {
        self.groups[self.group_of[slot as usize] as usize]
    }

    /// Links `slot` at `priority`, given the last entry of a lower priority and of the next lower one at that.
    fn link(&mut self, slot: u32, priority: u64, below: Option<u32>) {
        let above = match below {
            Some(below) => self.by_priority.next(below),
            None => self.by_priority.front(QUEUE),
        };
        match above.filter(|&above| self.group(above).priority == priority) {
            Some(peer) => {
                let id = self.group_of[peer as usize];
                let group = &mut self.groups[id as usize];
                self.by_priority.insert_after(QUEUE, Some(group.last), slot);
                group.last = slot;
                group.len += 1;
                self.group_of[slot as usize] = id;
            }
            None => {
                self.by_priority.insert_after(QUEUE, below, slot);
                self.group_of[slot as usize] = self.open(Group { priority, last: slot, len: 1 });
            }
        }
    }

    /// Takes a linked slot out; its group closes when it was the only one there.
    fn unlink(&mut self, slot: u32) {
        let id = self.group_of[slot as usize];
        let group = &mut self.groups[id as usize];
        group.len -= 1;
        if group.len == 0 {
            group.last = self.free_group;
            self.free_group = id;
        } else if group.last == slot {
            group.last = self.by_priority.prev(slot).expect("others of the group stand before its last");
        }
        self.by_priority.remove(slot);
    }

    fn open(&mut self, group: Group) -> u32 {
        if self.free_group == NO_GROUP {
            self.groups.push(group);
            return self.groups.len() as u32 - 1;
        }
        let id = self.free_group;
        self.free_group = self.groups[id as usize].last;
        self.groups[id as usize] = group;
        id
    }

    fn is_linked(&self, slot: u32) -> bool {
        self.by_priority.list_of(slot).is_some()
    }

    /// The last entry of a lower priority, sought group by group from that of `from` upwards, or from the front.
    fn below(&self, priority: u64, from: Option<u32>) -> Option<u32> {
        let is_below = |&slot: &u32| self.is_linked(slot) && self.group(slot).priority < priority;
        let lowest = || self.by_priority.front(QUEUE).filter(is_below);
        let first = from.filter(is_below).or_else(lowest).map(|slot| self.group(slot).last);
        let next =
            |&last: &u32| self.by_priority.next(last).filter(is_below).map(|slot| self.group(slot).last);
        std::iter::successors(first, next).last()
    }

    /// Raises the level, and all that is below it up to it.
    fn raise_level(&mut self, level: u64) {
        let last_below = self.below(level, None);
        self.level = level.max(self.level);
        let Some(last) = last_below else { return };
        while let Some(front) = self.by_priority.front(QUEUE) {
            self.unlink(front);
            self.link(front, level, (front != last).then_some(last));
            if front == last {
                break;
            }
        }
    }
}

impl Policy for Lfu {
    fn reads(&self) -> Reads {
        Reads::Recorded
    }

    fn reserve(&mut self, slots: usize) {
        self.by_priority.reserve(slots);
        if slots > self.group_of.len() {
            self.group_of.reserve_exact(slots - self.group_of.len());
            self.group_of.resize(slots, NO_GROUP);
        }
    }

    fn insert(&mut self, slot: Slot, _: Entries<'_>) {
        let lowest = self.by_priority.front(QUEUE).map(|front| self.group(front));
        // Nothing is below the level, so at most one group is below a newcomer.
        let below = lowest.filter(|lowest| lowest.priority <= self.level).map(|lowest| lowest.last);
        self.link(slot.number(), self.level + 1, below);
    }

    fn hit(&mut self, slot: Slot, _: Entries<'_>) {
        let slot = slot.number();
        if !self.is_linked(slot) {
            return;
        }
        let group = self.group(slot);
        let priority = group.priority + 1;
        if group.len == 1 {
            let next = self.by_priority.next(slot);
            if next.is_none_or(|next| self.group(next).priority > priority) {
                self.groups[self.group_of[slot as usize] as usize].priority = priority;
                return;
            }
        }
        let below = if group.last == slot { self.by_priority.prev(slot) } else { Some(group.last) };
        self.unlink(slot);
        self.link(slot, priority, below);
    }

    fn moved(&mut self, old: Slot, new: Slot, _: Entries<'_>) {
        let (old, new) = (old.number(), new.number());
        if !self.is_linked(old) {
            return;
        }
        self.by_priority.replace(old, new);
        let id = self.group_of[old as usize];
        self.group_of[new as usize] = id;
        let last = &mut self.groups[id as usize].last;
        if *last == old {
            *last = new;
        }
    }

    fn evict(&mut self, _: Entries<'_>) -> Option<Slot> {
        let victim = self.by_priority.front(QUEUE)?;
        self.level = self.group(victim).priority;
        self.unlink(victim);
        Some(Slot::new(victim))
    }

    fn remove(&mut self, slot: Slot, _: RemovalCause, _: Entries<'_>) {
        if self.is_linked(slot.number()) {
            self.unlink(slot.number());
        }
    }

    fn walk(&self, from: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>) {
        let _ = match from {
            End::Coldest => self.by_priority.iter(QUEUE).map(Slot::new).try_for_each(visit),
            End::Hottest => self.by_priority.iter_back(QUEUE).map(Slot::new).try_for_each(visit),
        };
    }

    /// The uses by which the entry is above the level, which is another one in each segment.
    fn heat(&self, slot: Slot, _: Entries<'_>) -> u64 {
        if self.is_linked(slot.number()) { self.group(slot.number()).priority - self.level } else { 0 }
    }

    /// The order of `walk`; the note is the priority.
    fn save(&self, _: Entries<'_>, visit: &mut dyn FnMut(Slot, u64)) {
        for slot in self.by_priority.iter_back(QUEUE) {
            visit(Slot::new(slot), self.group(slot).priority);
        }
    }

    fn save_rest(&self) -> Vec<u64> {
        vec![self.level]
    }

    /// Nothing is lost. Priorities only rise from entry to entry, so that all together pass each group once.
    fn restore(&mut self, slot: Slot, note: u64, _: Entries<'_>) {
        let (before, below) = self.restored;
        let priority = note.min(MOST_PRIORITY).max(before).max(self.level);
        let below = self.below(priority, below);
        self.link(slot.number(), priority, below);
        self.restored = (priority, below);
    }

    /// Who came meanwhile had started from a level that was too low, and is raised.
    fn restore_rest(&mut self, words: &[u64], _: bool) {
        self.restored = (0, None);
        if let Some(&level) = words.first() {
            self.raise_level(level.min(MOST_PRIORITY));
        }
    }

    fn validate(&self, len: usize, _: Entries<'_>) {
        self.by_priority.validate();
        assert_eq!(self.by_priority.len(QUEUE), len, "the list has lost track of entries");
        let mut members = vec![0; self.groups.len()];
        let mut before = self.level;
        for slot in self.by_priority.iter(QUEUE) {
            let group = self.group(slot);
            assert!(
                group.priority >= before,
                "slot {slot} stands behind a higher priority, or below the level"
            );
            before = group.priority;
            members[self.group_of[slot as usize] as usize] += 1;
            let next = self.by_priority.next(slot).map(|next| self.group(next).priority);
            assert_eq!(group.last == slot, next != Some(group.priority), "a group has a wrong last entry");
        }
        let counted = self.groups.iter().map(|group| group.len);
        assert!(counted.eq(members), "a group miscounts its entries");
        let some = |id: u32| (id != NO_GROUP).then_some(id);
        let free = std::iter::successors(some(self.free_group), |&id| some(self.groups[id as usize].last));
        let free = free.count();
        let closed = self.groups.iter().filter(|group| group.len == 0).count();
        assert_eq!(free, closed, "a closed group cannot be opened again");
    }
}

#[cfg(test)]
mod tests {
    use super::super::sim::{Oracle, Sim, check_against};
    use super::*;

    /// Key, priority and time of last use.
    #[derive(Default)]
    struct Naive {
        entries: Vec<(u64, u64, u64)>,
        now: u64,
        level: u64,
    }

    impl Oracle for Naive {
        fn insert(&mut self, key: u64) {
            self.now += 1;
            self.entries.push((key, self.level + 1, self.now));
        }
        fn read(&mut self, key: u64) {
            self.now += 1;
            for entry in self.entries.iter_mut().filter(|entry| entry.0 == key) {
                entry.1 += 1;
                entry.2 = self.now;
            }
        }
        fn victim(&mut self) -> Option<u64> {
            self.order()?.first().copied()
        }
        fn remove(&mut self, key: u64, cause: RemovalCause) {
            let at = self.entries.iter().position(|entry| entry.0 == key).unwrap();
            let left = self.entries.remove(at);
            if cause == RemovalCause::Size {
                self.level = left.1;
            }
        }
        fn order(&self) -> Option<Vec<u64>> {
            let mut entries = self.entries.clone();
            entries.sort_by_key(|entry| (entry.1, entry.2));
            Some(entries.iter().map(|entry| entry.0).collect())
        }
    }

    #[test]
    fn is_exactly_its_definition() {
        check_against(|_| Box::new(Lfu::new()), |_| Box::new(Naive::default()));
    }

    #[test]
    #[cfg_attr(miri, ignore = "too long for Miri")]
    fn groups_are_used_again() {
        let mut sim = Sim::new(Box::new(Lfu::new()), 4);
        for key in 0..2_000 {
            sim.insert(key, 1);
            for _ in 0..key % 7 {
                assert!(sim.get(key));
            }
        }
        sim.validate();
    }
}
