//! W-TinyLFU (first version).

use super::{End, Entries, Policy, Reads, Slot};
use crate::parts::lists::Lists;
use crate::parts::sketch::Sketch;
use crate::removal::RemovalCause;
use std::ops::ControlFlow;

const WINDOW: usize = 0;
const MAIN: usize = 1;

const WINDOW_PART: u64 = 10;
const MOST_READS: u8 = 3;
const MOST_STEPS: usize = 32;
const MOST_SHIFTS: usize = 4;

/// W-TinyLFU on marks.
pub(crate) struct TinyLfu {
    queues: Lists<2>,
    weights: [u64; 2],
    window_share: u64,
    capacity: u64,
    sketch: Sketch,
}

impl TinyLfu {
    pub(crate) fn new(capacity: u64) -> Self {
        let mut new =
            Self { queues: Lists::new(), weights: [0; 2], window_share: 1, capacity, sketch: Sketch::new() };
        new.set_capacity(capacity);
        new
    }

    fn to_main(&mut self, slot: Slot, entries: &dyn Entries) {
        let weight = entries.weight(slot);
        self.weights[WINDOW] -= weight;
        self.weights[MAIN] += weight;
        self.queues.move_to_back(MAIN, slot.number());
    }

    /// Moves an entry's reads into the sketch.
    fn harvest(&mut self, slot: Slot, entries: &dyn Entries) -> u8 {
        let reads = entries.mark(slot);
        if reads > 0 {
            entries.set_mark(slot, 0);
            self.sketch.add(entries.hash(slot), reads);
        }
        reads
    }

    fn hand(&mut self, entries: &dyn Entries) -> Option<Slot> {
        for _ in 0..MOST_STEPS {
            let slot = Slot::new(self.queues.front(MAIN)?);
            if self.harvest(slot, entries) == 0 {
                return Some(slot);
            }
            self.queues.move_to_back(MAIN, slot.number());
        }
        self.queues.front(MAIN).map(Slot::new)
    }
}

impl Policy for TinyLfu {
    fn reads(&self) -> Reads {
        Reads::Marked(MOST_READS)
    }

    fn set_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
        self.window_share = (capacity / WINDOW_PART).max(1);
    }

    fn reserve(&mut self, slots: usize) {
        self.queues.reserve(slots);
        self.sketch.reserve(slots);
    }

    fn insert(&mut self, slot: Slot, entries: &dyn Entries) {
        self.sketch.add(entries.hash(slot), 1);
        self.queues.push_back(WINDOW, slot.number());
        self.weights[WINDOW] += entries.weight(slot);
        for _ in 0..MOST_SHIFTS {
            if self.weights[WINDOW] <= self.window_share {
                break;
            }
            let Some(front) = self.queues.front(WINDOW).map(Slot::new) else { break };
            self.harvest(front, entries);
            self.to_main(front, entries);
        }
    }

    fn moved(&mut self, old: Slot, new: Slot, entries: &dyn Entries) {
        let Some(queue) = self.queues.list_of(old.number()) else { return };
        self.queues.replace(old.number(), new.number());
        self.weights[queue] = self.weights[queue] - entries.weight(old) + entries.weight(new);
    }

    fn victim(&mut self, entries: &dyn Entries) -> Option<Slot> {
        let victim = self.hand(entries);
        let candidate = self.queues.front(WINDOW).map(Slot::new);
        let (Some(victim), Some(candidate)) = (victim, candidate) else { return candidate.or(victim) };
        if self.weights[WINDOW] < self.window_share {
            return Some(victim);
        }
        self.harvest(candidate, entries);
        if self.sketch.estimate(entries.hash(candidate)) > self.sketch.estimate(entries.hash(victim)) {
            self.to_main(candidate, entries);
            Some(victim)
        } else {
            Some(candidate)
        }
    }

    fn remove(&mut self, slot: Slot, _: RemovalCause, entries: &dyn Entries) {
        let Some(queue) = self.queues.remove(slot.number()) else { return };
        self.weights[queue] -= entries.weight(slot);
    }

    /// The window comes before main, each in its own order.
    fn walk(&self, from: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>) {
        let queues = &self.queues;
        let _ = match from {
            End::Coldest => queues.iter(WINDOW).chain(queues.iter(MAIN)).map(Slot::new).try_for_each(visit),
            End::Hottest => {
                queues.iter_back(MAIN).chain(queues.iter_back(WINDOW)).map(Slot::new).try_for_each(visit)
            }
        };
    }

    fn validate(&self, len: usize, entries: &dyn Entries) {
        self.queues.validate();
        assert_eq!(
            self.queues.len(WINDOW) + self.queues.len(MAIN),
            len,
            "the queues have lost track of entries"
        );
        for queue in [WINDOW, MAIN] {
            let weight: u64 = self.queues.iter(queue).map(|slot| entries.weight(Slot::new(slot))).sum();
            assert_eq!(self.weights[queue], weight, "queue {queue} has a wrong weight");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sim::check;
    use super::*;

    #[test]
    fn keeps_its_books() {
        check(|capacity| Box::new(TinyLfu::new(capacity)));
    }
}
