//! What a write does while it holds the segment's lock: all that does not depend on the types of keys and values.

use super::loads::AnyLoads;
use super::room::{Amount, Bank, Carried, Room, Search};
use super::times::Times;
use super::{Arrival, Core, Outcome, Seen};
use crate::policy::{Chosen, Entries, Policy, Reads, Slot, policy_hash};
use crate::removal::RemovalCause;
use crate::table::{Left, Live, Unlinked, Writer};
use crate::tag::Tag;

/// One write operation, with the lock held.
///
/// The books are brought up to date before the policy is told, so that they are right even if it panics.
pub(super) struct Write<'a> {
    pub(super) writer: Writer<'a, Core>,
    /// What the segment knows of time, if anything ends in it.
    pub(super) times: Option<&'a Times>,
}

/// Where an arriving entry may go.
pub(super) enum Way {
    /// Into the table: there is room.
    In,
    /// Over the entry in this slot: there is room.
    Over(u32),
    /// Nowhere.
    Barred(Outcome),
}

impl<'a> Write<'a> {
    #[inline]
    pub(super) fn policy<R>(&mut self, ask: impl FnOnce(&mut Chosen, Entries<'_>) -> R) -> R {
        let (core, cells) = self.writer.split();
        ask(&mut core.policy, Entries::new(cells, &core.weights.0))
    }

    /// Returns what the policy may know of entries.
    pub(super) fn entries(&self) -> Entries<'_> {
        Entries::new(self.writer.cells(), &self.writer.weights.0)
    }

    /// The key of this hash has changed: what is being loaded for it is out of date.
    #[inline]
    pub(super) fn void_loads(&mut self, hash: u64) {
        if let Some(extras) = &mut self.writer.extras {
            extras.void_loads(hash);
        }
    }

    /// Finds the slots of some hashes from `cursor` on, makes the loads of those hashes void, and says where to go on.
    pub(super) fn invalidate_from(&mut self, cursor: u64, slots: &mut Vec<u32>) -> Option<u64> {
        let next = self.writer.entries_from(cursor, slots);
        if let Some(loads) = self.writer.extras.as_mut().and_then(|extras| extras.loads.as_mut()) {
            loads.void_range(cursor, next.unwrap_or(u64::MAX));
        }
        next
    }

    #[inline]
    fn loads(&self) -> Option<&dyn AnyLoads> {
        self.writer.extras.as_ref()?.loads.as_deref()
    }

    /// Whether the key of an arrival is as its bringer has seen it, when it stands in `current` now.
    #[inline]
    pub(super) fn is_as(&self, seen: Seen, arrival: &Arrival<'_>, current: Option<u32>) -> bool {
        match seen {
            Seen::Whatever => true,
            Seen::Nothing => current.is_none(),
            Seen::At(slot) => current == Some(slot),
            #[cfg(feature = "serde")]
            Seen::Before => {
                current.is_none() && !self.loads().is_some_and(|loads| loads.is_loading(arrival.hash))
            }
            Seen::Loading(id) => {
                self.loads().is_some_and(|loads| loads.may_land(arrival.hash, arrival.tags, id))
            }
        }
    }

    /// Makes room for an entry, whose key's current one stands in `current`.
    pub(super) fn make_way(&mut self, bank: &Bank, current: Option<u32>, arrival: &mut Arrival<'_>) -> Way {
        let capacity = bank.capacity();
        if arrival.weight > capacity || capacity == 0 {
            return Way::Barred(self.turn_away(current, arrival.hash, RemovalCause::Rejected));
        }
        match current {
            None => self.way_in(bank, arrival),
            Some(slot) => self.way_over(bank, slot, arrival),
        }
    }

    /// Refuses an entry that has expired already, or cannot fit. What stood there before must go all the same: it is out of date.
    pub(super) fn turn_away(&mut self, current: Option<u32>, hash: u64, cause: RemovalCause) -> Outcome {
        self.void_loads(hash);
        if let Some(slot) = current {
            self.take_out_slot(slot, RemovalCause::Replaced);
        }
        match cause {
            RemovalCause::Expired => self.writer.clockwork().expired += 1,
            _ => self.writer.counts.rejected += 1,
        }
        Outcome::Refused(cause)
    }

    #[inline(always)]
    fn way_in(&mut self, bank: &Bank, arrival: &mut Arrival<'_>) -> Way {
        let Arrival { hash, weight, .. } = *arrival;
        if !self.writer.makes_room(weight) {
            return Way::In;
        }
        let admit =
            |policy: &mut Chosen, entries: Entries<'_>| policy.admit(policy_hash(hash), weight, entries);
        if !arrival.is_pinned() && arrival.back.is_none() && !self.policy(admit) {
            return Way::Barred(self.turn_away(None, hash, RemovalCause::Rejected));
        }
        if self.writer.room.fits(weight) { Way::In } else { self.find_room(bank, arrival) }
    }

    /// Makes room for an entry that does not fit: what is spare comes first, then what is loose, then the policy's victims go.
    #[inline(always)]
    fn find_room(&mut self, bank: &Bank, arrival: &mut Arrival<'_>) -> Way {
        let Arrival { hash, weight, .. } = *arrival;
        if !bank.is_exhausted() || !self.writer.room.could_hold(weight) {
            let alone = Amount { weight, places: 1 };
            if self.lacks_room(bank, arrival, alone, alone) {
                return Way::Barred(Outcome::NoRoom);
            }
            if self.writer.room.fits(weight) {
                return Way::In;
            }
        }
        while !self.writer.room.fits(weight) {
            if !self.evict() {
                // Pinned entries take all the places, or the policy keeps its entries to itself.
                return Way::Barred(self.turn_away(None, hash, RemovalCause::Rejected));
            }
        }
        if !self.writer.room.is_balanced() {
            self.balance(bank, weight);
        }
        Way::In
    }

    /// Evicts one entry more than a newcomer of `weight` needs, if another segment needs the room.
    #[inline(never)]
    fn balance(&mut self, bank: &Bank, weight: u64) {
        if self.writer.room.should_feed(bank) && weight <= self.writer.room.weight.share && self.evict() {
            self.writer.room.feed(bank, weight);
            self.tell_capacity();
        }
    }

    /// Draws budget for `more` than is used. Reports whether other segments have to give some before anything is evicted here;
    /// `alone` is what the entry takes if all others leave.
    #[inline(never)]
    fn lacks_room(&mut self, bank: &Bank, arrival: &Arrival<'_>, more: Amount, alone: Amount) -> bool {
        let search = arrival.search;
        if bank.is_spare() && (!bank.is_moving() || search.is_some()) {
            self.draw(bank, more);
        }
        let (missing, lacking) = (self.writer.room.missing(more), self.writer.room.lacking(alone));
        if let Some(search) = search {
            search.missing.set(missing);
            search.lacking.set(lacking);
        }
        let may_collect = bank.is_loose(missing) && !search.is_some_and(|search| search.has_collected.get());
        // What is being moved may be spare in a moment.
        let may_come = !missing.is_nothing() && bank.is_moving() && search.is_none();
        !lacking.is_nothing() || may_collect || may_come
    }

    fn draw(&mut self, bank: &Bank, more: Amount) {
        let before = self.writer.room.for_policy();
        self.writer.room.draw(bank, more);
        if self.writer.room.for_policy() != before {
            self.tell_capacity();
        }
    }

    /// A new entry stands in `slot`.
    pub(super) fn settle_in(&mut self, slot: u32, arrival: &Arrival<'_>) {
        if self.writer.extras.is_some() || arrival.has_extras() {
            self.note_arrival(slot, arrival);
        }
        self.set_weight(slot, arrival.weight);
        let room = &mut self.writer.room;
        room.places.used += 1;
        room.weight.used += arrival.weight;
        if let Some(back) = arrival.back {
            self.mark_again(slot, back);
        }
        if arrival.is_pinned() {
            self.writer.header(slot).set_pinned(true);
            self.pin(Amount { weight: arrival.weight, places: 1 }, Amount::default());
            self.tell_capacity();
        } else if self.writer.makes_room(arrival.weight) {
            self.tell_places(slot);
            match arrival.back {
                None => self.policy(|policy, entries| policy.insert(Slot::new(slot), entries)),
                Some(back) => self.insert_again(slot, back),
            }
        }
    }

    /// Makes room for another value of the entry in `slot`, where that is heavier.
    #[inline(never)]
    fn way_over(&mut self, bank: &Bank, slot: u32, arrival: &mut Arrival<'_>) -> Way {
        let before = self.writer.weights.get(slot);
        let pinned = self.writer.header(slot).is_pinned();
        // Room from elsewhere comes first: until it is there the old value stays, so that whoever decided on it by
        // `compute` finds it unchanged.
        let beside_others = Amount::of_weight(arrival.weight.saturating_sub(if pinned { before } else { 0 }));
        let more = Amount::of_weight(arrival.weight.saturating_sub(before));
        if more.weight > 0 && self.lacks_room(bank, arrival, more, beside_others) {
            return Way::Barred(Outcome::NoRoom);
        }
        while !self.writer.room.missing(more).is_nothing() {
            let victim = self.victim();
            if let Some(victim) = victim.filter(|victim| victim.slot() != slot) {
                self.let_go(victim, RemovalCause::Size);
                continue;
            }
            // It would have to make room for itself: then it comes as a new one.
            arrival.pin = arrival.pin.or(Some(pinned));
            match victim {
                Some(current) => self.let_go(current, RemovalCause::Replaced),
                None => self.take_out_slot(slot, RemovalCause::Replaced),
            }
            // Not to be put off now: the old value is gone.
            let search = Search::default();
            search.has_collected.set(true);
            return self.way_in(bank, &mut Arrival { search: Some(&search), ..*arrival });
        }
        Way::Over(slot)
    }

    /// A new value of the entry in `old` stands in `new`.
    #[inline(never)]
    pub(super) fn settle_over(&mut self, old: u32, new: u32, unlinked: Unlinked, arrival: &Arrival<'_>) {
        if self.writer.extras.is_some() || arrival.has_extras() {
            self.writer.extras().tags.clear(old);
            self.note_arrival(new, arrival);
        }
        let before = self.writer.weights.get(old);
        self.set_weight(new, arrival.weight);
        let room = &mut self.writer.room;
        room.weight.used = room.weight.used - before + arrival.weight;
        if self.writer.header(new).is_pinned() {
            self.pin(Amount::of_weight(arrival.weight), Amount::of_weight(before));
            self.tell_capacity();
        } else {
            self.move_in_order(old, new, self.writer.makes_room(before));
        }
        self.writer.depart(unlinked, before);
        if let Some(pinned) = arrival.pin {
            self.set_pinned(new, pinned);
        }
    }

    /// Lets the policy have `new` in the place of `old`, as far as it orders them.
    #[inline]
    fn move_in_order(&mut self, old: u32, new: u32, was_ordered: bool) {
        if !self.writer.is_ordered(new) {
            if was_ordered {
                self.forget(old, RemovalCause::Explicit);
            }
            return;
        }
        self.tell_places(new);
        if was_ordered {
            self.policy(|policy, entries| policy.moved(Slot::new(old), Slot::new(new), entries));
        } else {
            self.policy(|policy, entries| policy.insert(Slot::new(new), entries));
        }
        self.read_by_update(new);
    }

    /// Takes an entry out of the policy's order.
    fn forget(&mut self, slot: u32, cause: RemovalCause) {
        self.policy(|policy, entries| policy.remove(Slot::new(slot), cause, entries));
    }

    /// An update counts as a read.
    fn read_by_update(&mut self, slot: u32) {
        if self.writer.policy.reads() == Reads::Recorded {
            self.policy(|policy, entries| policy.hit(Slot::new(slot), entries));
        } else {
            self.writer.mark(slot);
        }
    }

    /// Lets the policy choose an entry, and takes it out. Says whether there was one.
    #[inline(always)]
    fn evict(&mut self) -> bool {
        let victim = self.victim();
        if let Some(victim) = victim {
            self.let_go(victim, RemovalCause::Size);
        }
        victim.is_some()
    }

    /// The entry that the policy would have go, which the policy has forgotten. A policy that names none, or no entry,
    /// cannot make room.
    #[inline(always)]
    fn victim(&mut self) -> Option<Live<'a>> {
        let victim = self.policy(|policy, entries| policy.evict(entries))?;
        self.writer.live(victim.number()).filter(|live| self.writer.is_ordered(live.slot()))
    }

    /// Takes out an entry, of which the policy still knows if it orders it.
    pub(super) fn take_out(&mut self, live: Live<'a>, cause: RemovalCause) {
        if self.writer.is_ordered(live.slot()) {
            self.forget(live.slot(), cause);
        }
        self.let_go(live, cause);
    }

    /// The same for what stands in a slot, if anything does.
    pub(super) fn take_out_slot(&mut self, slot: u32, cause: RemovalCause) {
        if let Some(live) = self.writer.live(slot) {
            self.take_out(live, cause);
        }
    }

    /// Removes an entry, whatever the cause. No other function does.
    #[inline(always)]
    fn let_go(&mut self, live: Live<'a>, cause: RemovalCause) {
        match self.times {
            None => self.let_go_as(live, cause),
            Some(_) => self.let_go_in_time(live, cause),
        }
    }

    /// Removes an entry; as `Expired` instead of because of `cause` if it had already expired.
    #[inline(never)]
    fn let_go_in_time(&mut self, live: Live<'a>, cause: RemovalCause) {
        if cause == RemovalCause::Expired || self.is_over(live.slot()) {
            self.writer.clockwork().expired += 1;
            self.let_go_as(live, RemovalCause::Expired);
        } else {
            self.let_go_as(live, cause);
        }
    }

    #[inline(always)]
    fn let_go_as(&mut self, live: Live<'a>, cause: RemovalCause) {
        let pinned = live.header().is_pinned();
        let weight = self.writer.weights.get(live.slot());
        if let Some(extras) = &mut self.writer.extras {
            extras.tags.clear(live.slot());
            if !cause.was_evicted() {
                extras.void_loads(live.header().hash());
            }
        }
        self.writer.take_out(live, weight, cause);
        let Core { room, counts, .. } = &mut *self.writer;
        room.places.used -= 1;
        room.weight.used -= weight;
        if cause == RemovalCause::Size {
            counts.evicted += 1;
            counts.evicted_weight = counts.evicted_weight.saturating_add(weight);
        }
        if pinned {
            self.pin(Amount::default(), Amount { weight, places: 1 });
            self.tell_capacity();
        }
    }

    /// Reports whether entries may weigh something else than 1.
    #[inline]
    pub(super) fn has_weights(&self) -> bool {
        !self.writer.weights.0.is_empty()
    }

    /// Gives back what the segment has free and should not keep. Comes at the end of an operation: while it makes room, what
    /// is evicted must not be lost to others.
    #[inline]
    pub(super) fn return_surplus(&mut self, bank: &Bank) {
        if self.writer.room.has_surplus() {
            self.return_all_surplus(bank);
        }
    }

    #[inline(never)]
    fn return_all_surplus(&mut self, bank: &Bank) {
        self.writer.room.give_back(bank);
        self.tell_capacity();
    }

    pub(super) fn set_pinned(&mut self, slot: u32, pinned: bool) {
        if self.writer.header(slot).is_pinned() == pinned {
            return;
        }
        let weight = self.writer.weights.get(slot);
        self.writer.header(slot).set_pinned(pinned);
        let (its, nothing) = (Amount { weight, places: 1 }, Amount::default());
        if pinned {
            self.pin(its, nothing)
        } else {
            self.pin(nothing, its)
        }
        if !self.writer.makes_room(weight) {
            return;
        }
        if pinned {
            self.forget(slot, RemovalCause::Explicit);
            self.tell_capacity();
        } else {
            self.tell_capacity();
            self.tell_places(slot);
            self.policy(|policy, entries| policy.insert(Slot::new(slot), entries));
        }
    }

    #[inline(never)]
    fn note_arrival(&mut self, slot: u32, arrival: &Arrival<'_>) {
        let extras = self.writer.extras();
        extras.void_loads(arrival.hash);
        if !arrival.tags.is_empty() {
            extras.tags.add(slot, arrival.tags);
        }
        extras.note_given(slot, arrival.given);
    }

    /// What carries this tag is out of date.
    pub(super) fn void_tag(&mut self, tag: Tag) {
        if let Some(loads) = self.writer.extras.as_mut().and_then(|extras| extras.loads.as_mut()) {
            loads.void_tag(tag);
        }
    }

    /// How many entries carry a tag.
    pub(super) fn tagged(&self, tag: Tag) -> usize {
        self.writer.extras.as_ref().map_or(0, |extras| extras.tags.count(tag))
    }

    /// Takes out the entry that has carried a tag for longest. Says what was done; `None` if no entry carries the tag.
    pub(super) fn take_out_tagged(&mut self, tag: Tag) -> Option<RemovalCause> {
        let slot = self.writer.extras.as_ref()?.tags.oldest(tag)?;
        let cause = self.cause_of_invalidation(slot);
        self.take_out_slot(slot, cause);
        Some(cause)
    }

    /// Returns why the entry in `slot` leaves if its user removes it. An expired one is absent: it goes by itself, and loads of
    /// its key go on.
    pub(super) fn cause_of_invalidation(&self, slot: u32) -> RemovalCause {
        if self.is_over(slot) { RemovalCause::Expired } else { RemovalCause::Explicit }
    }

    fn pin(&mut self, more: Amount, less: Amount) {
        let pinned = &mut self.writer.room.pinned;
        pinned.weight = pinned.weight - less.weight + more.weight;
        pinned.places = pinned.places - less.places + more.places;
    }

    fn tell_capacity(&mut self) {
        let capacity = self.writer.room.for_policy();
        self.writer.policy.set_capacity(capacity);
    }

    pub(super) fn grant(&mut self, amount: Amount) {
        self.writer.room.places.budget += amount.places;
        if amount.weight > 0 {
            self.writer.room.weight.budget += amount.weight;
            self.tell_capacity();
        }
    }

    pub(super) fn set_share(&mut self, bank: &Bank, share: u64) {
        self.writer.room.set_share(bank, share);
        self.tell_capacity();
    }

    pub(super) fn collect(&mut self, bank: &Bank, wanted: Amount, carried: &mut Carried<'_>) {
        self.writer.room.collect(bank, wanted, carried);
        self.tell_capacity();
    }

    /// Gives up to `wanted` of the budget, but keeps at least `keep` of the weight.
    pub(super) fn give(&mut self, bank: &Bank, keep: u64, wanted: Amount, carried: &mut Carried<'_>) {
        let budget = self.writer.room.weight.budget;
        let target = budget - wanted.weight.min(budget.saturating_sub(keep));
        // First, so that the policy chooses who leaves by the shares that its queues are to have.
        let for_policy = target.saturating_sub(self.writer.room.pinned.weight);
        self.writer.policy.set_capacity(for_policy);
        let mut places = wanted.places.min(self.writer.room.places.budget);
        loop {
            let Room { weight, places: own, .. } = &mut self.writer.room;
            let now = weight.budget.saturating_sub(target.max(weight.used));
            weight.budget -= now;
            carried.amount.weight += now;
            let now = places.min(own.free());
            own.budget -= now;
            places -= now;
            carried.amount.places += now;
            if weight.budget <= target && places == 0 || !self.evict() {
                break;
            }
        }
        self.writer.room.expect(bank);
        self.tell_capacity();
    }

    #[inline]
    fn set_weight(&mut self, slot: u32, weight: u64) {
        if weight != 1 || !self.writer.weights.0.is_empty() {
            let slots = self.writer.foreseen();
            self.writer.weights.set(slot, weight, slots);
        }
    }

    /// Lets the policy have places for all slots before it hears of a new one.
    #[inline]
    fn tell_places(&mut self, slot: u32) {
        if slot as usize >= self.writer.told {
            let slots = self.writer.foreseen();
            self.writer.policy.reserve(slots);
            self.writer.told = slots;
        }
    }

    /// Ends the operation: the lock should be released now.
    #[inline]
    pub(super) fn close(mut self) -> Option<Left> {
        let heavy = self.writer.heavy();
        self.writer.close(heavy)
    }
}

impl Core {
    /// Whether an entry of this weight would make room by leaving. If not it is spared: the policy does not hear of it.
    #[inline]
    fn makes_room(&self, weight: u64) -> bool {
        weight != 0 || self.room.counts_entries
    }
}

impl Writer<'_, Core> {
    /// Whether the policy orders the entry in `slot`: not if it is pinned or spared.
    #[inline]
    pub(super) fn is_ordered(&self, slot: u32) -> bool {
        !self.header(slot).is_pinned() && self.makes_room(self.weights.get(slot))
    }

    /// A weight that should not wait long for its readers; where all weigh the same their number says it.
    #[inline]
    pub(super) fn heavy(&self) -> u64 {
        if self.weights.0.is_empty() { u64::MAX } else { self.room.weight.share / 16 }
    }
}
