//! What a write does while it holds the segment's lock.

use super::leaving::Leaving;
use super::room::{Bank, Carried};
use super::{Arrival, Core, HASH_BITS, Outcome, Segment, View};
use crate::policy::{Entries, Policy, Slot};
use crate::removal::RemovalCause;
use crate::table::{Departures, Unlinked, Writer};

/// One write operation, with the lock held.
///
/// The books are brought up to date before the policy is told, so that they are right even if it panics.
pub(super) struct Write<'a, K, V> {
    pub(super) segment: &'a Segment<K, V>,
    pub(super) writer: Writer<'a, K, V, Core>,
    pub(super) departures: Departures,
}

impl<'a, K, V> Write<'a, K, V> {
    pub(super) fn policy<R>(&mut self, ask: impl FnOnce(&mut dyn Policy, &dyn Entries) -> R) -> R {
        let (core, headers) = self.writer.split();
        ask(&mut *core.policy, &View { headers, weights: &core.weights })
    }

    /// Refuses an entry that cannot fit. What stood there before must go all the same: it is out of date.
    pub(super) fn turn_away(&mut self, current: Option<u32>, arrival: Arrival<K, V>) -> Outcome<K, V> {
        if let Some(slot) = current {
            self.take_out(slot, RemovalCause::Replaced);
        }
        self.refuse(arrival)
    }

    /// Puts a new key in.
    pub(super) fn add(&mut self, bank: &Bank, arrival: Arrival<K, V>) -> Outcome<K, V> {
        let (hash, weight) = (arrival.hash, arrival.weight);
        let pinned = arrival.pin == Some(true);
        if !pinned && !self.policy(|policy, view| policy.admit(hash & HASH_BITS, weight, view)) {
            return self.refuse(arrival);
        }
        let lacking = self.lacking(bank, weight);
        if lacking > 0 {
            return Outcome::NoRoom(arrival, lacking);
        }
        let mut evicted = false;
        while self.writer.room.missing(weight) > 0 || self.writer.room.len >= self.writer.room.max_len {
            if self.top_up(bank) {
                continue;
            }
            let Some(victim) = self.victim() else {
                // Pinned entries take all the places, or the policy keeps its entries to itself.
                return self.refuse(arrival);
            };
            self.take_out(victim, RemovalCause::Size);
            evicted = true;
        }
        if evicted && weight <= self.writer.room.share {
            self.let_one_more_go();
        }
        let slot = self.writer.publish(hash, (arrival.key, arrival.value));
        self.count_in(slot, weight);
        if pinned {
            self.writer.header(slot).set_pinned(true);
            self.pin_weight(weight, 0);
            self.tell_capacity();
        } else {
            self.tell_places();
            self.policy(|policy, view| policy.insert(Slot::new(slot), view));
        }
        Outcome::Stored
    }

    /// A segment that has more than its share, from heavy entries, comes back to it by one entry for each newcomer.
    fn let_one_more_go(&mut self) {
        if self.writer.room.budget > self.writer.room.share
            && let Some(victim) = self.victim()
        {
            self.take_out(victim, RemovalCause::Size);
        }
    }

    /// Gives a key that is there another value, after making room where that is heavier.
    pub(super) fn update(&mut self, bank: &Bank, slot: u32, mut arrival: Arrival<K, V>) -> Outcome<K, V> {
        let before = self.writer.weights.get(slot);
        let pinned = self.writer.header(slot).is_pinned();
        // Room from elsewhere comes first: until it is there the old value stays, so that whoever decided on it by
        // `compute` finds it unchanged.
        let beside_others = arrival.weight.saturating_sub(if pinned { before } else { 0 });
        let lacking = self.lacking(bank, beside_others);
        if lacking > 0 {
            return Outcome::NoRoom(arrival, lacking);
        }
        let more = arrival.weight.saturating_sub(before);
        while self.writer.room.missing(more) > 0 {
            if self.top_up(bank) {
                continue;
            }
            match self.victim() {
                Some(victim) if victim != slot => self.take_out(victim, RemovalCause::Size),
                // It would have to make room for itself: then it comes as a new one.
                _ => {
                    arrival.pin = arrival.pin.or(Some(pinned));
                    self.take_out(slot, RemovalCause::Replaced);
                    return self.add(bank, arrival);
                }
            }
        }
        self.put_over(slot, arrival);
        Outcome::Stored
    }

    fn put_over(&mut self, old: u32, arrival: Arrival<K, V>) {
        let before = self.writer.weights.get(old);
        let (new, unlinked) = self.writer.replace(old, (arrival.key, arrival.value));
        self.set_weight(new, arrival.weight);
        let room = &mut self.writer.room;
        room.weight = room.weight - before + arrival.weight;
        if self.writer.header(new).is_pinned() {
            self.pin_weight(arrival.weight, before);
            self.tell_capacity();
        } else {
            self.tell_places();
            self.policy(|policy, view| policy.moved(Slot::new(old), Slot::new(new), view));
            self.read_by_update(new);
        }
        self.depart(unlinked, before, RemovalCause::Replaced);
        if let Some(pinned) = arrival.pin {
            self.set_pinned(new, pinned);
        }
    }

    /// An update counts as a read.
    fn read_by_update(&mut self, slot: u32) {
        if self.segment.mark_limit > 0 {
            self.writer.header(slot).raise_mark(self.segment.mark_limit);
        } else if self.segment.reads.is_some() {
            self.policy(|policy, view| policy.hit(Slot::new(slot), view));
        }
    }

    /// The one way out, whatever the cause.
    pub(super) fn take_out(&mut self, slot: u32, cause: RemovalCause) {
        let weight = self.writer.weights.get(slot);
        let pinned = self.writer.header(slot).is_pinned();
        if pinned {
            self.pin_weight(0, weight);
        } else {
            self.policy(|policy, view| policy.remove(Slot::new(slot), cause, view));
        }
        let unlinked = self.writer.unlink(slot);
        self.depart(unlinked, weight, cause);
        let Core { room, counts, .. } = &mut *self.writer;
        room.len -= 1;
        room.weight -= weight;
        if cause.was_evicted() {
            counts.evicted += 1;
            counts.evicted_weight = counts.evicted_weight.saturating_add(weight);
        }
        if pinned {
            self.tell_capacity();
        }
    }

    /// Gives back what the segment has more than its share and does not use. Comes at the end of an operation: while it
    /// makes room, what is evicted must not be lost to others.
    pub(super) fn return_surplus(&mut self, bank: &Bank) {
        let room = &mut self.writer.room;
        if room.budget > room.share {
            let surplus = (room.budget - room.share).min(room.budget - room.weight);
            room.budget -= surplus;
            bank.put(surplus);
            self.tell_capacity();
        }
    }

    fn depart(&mut self, unlinked: Unlinked, weight: u64, cause: RemovalCause) {
        self.writer.depart(unlinked, cause, &mut self.departures);
        self.departures.weight = self.departures.weight.saturating_add(weight);
    }

    fn refuse(&mut self, arrival: Arrival<K, V>) -> Outcome<K, V> {
        self.writer.counts.rejected += 1;
        Outcome::Refused(arrival)
    }

    /// The entry that the policy would have go. A policy that names none, or no entry, cannot make room.
    fn victim(&mut self) -> Option<u32> {
        let victim = self.policy(|policy, view| policy.victim(view))?.number();
        (self.writer.is_live(victim) && !self.writer.header(victim).is_pinned()).then_some(victim)
    }

    pub(super) fn set_pinned(&mut self, slot: u32, pinned: bool) {
        if self.writer.header(slot).is_pinned() == pinned {
            return;
        }
        let weight = self.writer.weights.get(slot);
        self.writer.header(slot).set_pinned(pinned);
        if pinned {
            self.pin_weight(weight, 0);
            self.policy(|policy, view| policy.remove(Slot::new(slot), RemovalCause::Explicit, view));
            self.tell_capacity();
        } else {
            self.pin_weight(0, weight);
            self.tell_capacity();
            self.tell_places();
            self.policy(|policy, view| policy.insert(Slot::new(slot), view));
        }
    }

    fn pin_weight(&mut self, more: u64, less: u64) {
        let room = &mut self.writer.room;
        room.pinned = room.pinned - less + more;
    }

    fn tell_capacity(&mut self) {
        let capacity = self.writer.room.for_policy();
        self.writer.policy.set_capacity(capacity);
    }

    pub(super) fn grant(&mut self, amount: u64) {
        if amount > 0 {
            self.writer.room.budget += amount;
            self.tell_capacity();
        }
    }

    /// What is missing for an entry of `weight` even if all others left that may, after taking back what there is.
    fn lacking(&mut self, bank: &Bank, weight: u64) -> u64 {
        loop {
            let lacking = self.writer.room.lacking(weight);
            if lacking == 0 || !self.top_up(bank) {
                return lacking;
            }
        }
    }

    /// Takes back from the spare what the segment has given away.
    pub(super) fn top_up(&mut self, bank: &Bank) -> bool {
        let room = &self.writer.room;
        if room.budget >= room.share {
            return false;
        }
        let got = bank.take(room.share - room.budget);
        self.grant(got);
        got > 0
    }

    /// Gives up to `wanted` of the budget, but keeps at least `keep`.
    pub(super) fn give(&mut self, keep: u64, wanted: u64, carried: &mut Carried<'_>) {
        let target = self.writer.room.budget - wanted.min(self.writer.room.budget.saturating_sub(keep));
        loop {
            let room = &mut self.writer.room;
            let now = room.budget.saturating_sub(target.max(room.weight));
            room.budget -= now;
            carried.amount += now;
            if room.budget <= target {
                break;
            }
            let Some(victim) = self.victim() else { break };
            self.take_out(victim, RemovalCause::Size);
        }
        self.tell_capacity();
    }

    fn set_weight(&mut self, slot: u32, weight: u64) {
        if slot as usize >= self.writer.reserved {
            self.grow(slot as usize + 1);
        }
        let core = &mut *self.writer;
        core.weights.set(slot, weight, core.reserved);
    }

    #[cold]
    fn grow(&mut self, least: usize) {
        let core = &mut *self.writer;
        // Doubling, on the way to what is expected; beyond that (a reader that holds things up) in small steps.
        let doubled = (2 * core.reserved).max(64);
        let expected = core.expected + core.expected / 64 + 64;
        let next = if core.expected == 0 || doubled <= expected { doubled } else { expected };
        core.reserved = next.max(least + least / 16);
    }

    /// Lets the policy have places for all slots, before it hears of a new one.
    fn tell_places(&mut self) {
        let core = &mut *self.writer;
        if core.told < core.reserved {
            core.policy.reserve(core.reserved);
            core.told = core.reserved;
        }
    }

    fn count_in(&mut self, slot: u32, weight: u64) {
        self.set_weight(slot, weight);
        let room = &mut self.writer.room;
        room.len += 1;
        room.weight += weight;
    }

    /// Ends the operation and releases the lock.
    pub(super) fn close(mut self) -> Leaving<'a, K, V> {
        let segment = self.segment;
        let departures = if segment.listener.is_none() {
            self.writer.retire_all(self.departures);
            None
        } else {
            Some(self.departures)
        };
        let spent = self.writer.spent();
        let heavy = self.writer.heavy();
        let is_pressed = self.writer.is_pressed(heavy);
        Leaving { segment, departures, spent, is_pressed }
    }
}

impl<K, V> Writer<'_, K, V, Core> {
    /// Hands departures over to wait for their readers; not for long if they weigh much.
    pub(super) fn retire_all(&mut self, departures: Departures) {
        let heavy = self.heavy();
        self.retire(departures, heavy);
    }

    /// A weight that should not wait long for its readers; where all weigh the same their number says it.
    fn heavy(&self) -> u64 {
        if self.weights.0.is_empty() { u64::MAX } else { self.room.share / 16 }
    }
}
