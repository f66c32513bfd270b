//! A segment: a table, a policy and the books of both, behind one lock; and the read path, which takes none.
//!
//! # Writes
//!
//! An operation locks the segment, tells the policy which reads it has missed, does its work and closes. What left
//! the table meanwhile comes back as [`Leaving`], to be settled when the lock is gone: the listener runs, values are
//! dropped. So no user code runs under the lock, but for `Eq` of the keys that a probe meets.
//!
//! Room is made before an entry is put in, so the bound holds at every moment.
//!
//! # One way out
//!
//! Entries leave through [`Write::let_go`], whatever the cause; only a replaced value leaves its place to another
//! ([`Write::settle_over`]). So index, policy, weight and listener cannot drift apart.
//!
//! # Types
//!
//! What does not depend on the types of keys and values, which is nearly all that a write does, is in `write.rs`,
//! compiled once with this crate. Here is the rest: to find a key, to fill a cell, to call the listener, to drop.

mod delivery;
mod flight;
mod given;
mod invalidation;
mod leaving;
mod load_log;
mod loads;
#[cfg(all(test, larder_loom))]
mod model;
mod room;
#[cfg_attr(not(feature = "serde"), allow(dead_code, reason = "only snapshots need it"))]
mod saving;
mod soft;
mod tags;
mod times;
mod write;

pub(crate) use delivery::Delivery;
pub(crate) use flight::{Boarding, Flight, Landing, Reason};
pub(crate) use given::Given;
pub(crate) use invalidation::{Takes, Visited};
pub(crate) use leaving::{Leaving, Panics};
pub(crate) use loads::{Ended, LoadId};
pub(crate) use room::{Amount, Bank, Carried, Moving, Search, share};
#[cfg(feature = "serde")]
pub(crate) use saving::{Back, Kept, Order, Place, Rest};
pub(crate) use soft::{Claim, Soft, Stage};
pub(crate) use times::{Life, Rules, Spent, span};

use crate::metadata::Metadata;
use crate::parts::read_buffer::{ReadBuffer, Recorded};
use crate::policy::{Chosen, End, Entries, Policy, Reads, Slot};
use crate::removal::RemovalCause;
use crate::table::{Found, Sizing, Table, Unsure, Writer};
use crate::tag::Tag;
use loads::{AnyLoads, Loads};
use room::Room;
#[cfg(not(feature = "serde"))]
use saving::Back;
use std::any::Any;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};
use tags::TagIndex;
use times::{Clockwork, Times};
use write::{Way, Write};

pub(crate) type Listener<K, V> = Arc<dyn Fn(&K, &V, RemovalCause) + Send + Sync>;

/// Aligned so that what a read needs stands in one line of the processor's cache.
#[repr(C, align(128))]
pub(crate) struct Segment<K, V> {
    table: Table<K, V, Core>,
    /// There if anything ends.
    times: OnceLock<Box<Times>>,
    /// Where reads are recorded, if the policy wants more than marks.
    recorded: Option<ReadBuffer>,
    rules: Arc<Rules>,
    delivery: Option<Delivery<K, V>>,
}

/// What the lock guards beside the table.
struct Core {
    policy: Chosen,
    weights: Weights,
    room: Room,
    /// Slots for which the policy has places.
    told: usize,
    counts: Counts,
    /// None as long as nothing ends.
    clockwork: Option<Box<Clockwork>>,
    /// None until something is loaded or an entry has tags.
    extras: Option<Box<Extras>>,
}

/// What not every cache has. All together, so that the others look once.
#[derive(Default)]
struct Extras {
    /// None until something is loaded.
    loads: Option<Box<dyn AnyLoads>>,
    tags: TagIndex,
    /// By slot. Empty until an entry has a weight or tags of its own.
    given: Vec<Given>,
}

impl Core {
    #[inline]
    fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_with(Extras::boxed)
    }

    /// Takes a load out: nobody joins it from now on.
    #[inline(always)]
    fn end_load<K: 'static, V: 'static>(&mut self, hash: u64, number: u64) -> Option<Ended<K, V>> {
        let loads = self.extras.as_mut()?.loads.as_mut()?;
        known(&mut **loads).end(hash, number)
    }
}

impl Extras {
    #[cold]
    fn boxed() -> Box<Self> {
        Box::default()
    }

    #[inline]
    fn void_loads(&mut self, hash: u64) {
        if let Some(loads) = &mut self.loads {
            loads.void(hash);
        }
    }

    /// The types are those of the segment's keys and values.
    #[inline]
    fn loads<K: Send + 'static, V: Send + Sync + 'static>(&mut self) -> &mut Loads<K, V> {
        let loads = self.loads.get_or_insert_with(|| Box::new(Loads::<K, V>::new()));
        known(&mut **loads)
    }
}

#[inline]
fn known<K: 'static, V: 'static>(loads: &mut dyn AnyLoads) -> &mut Loads<K, V> {
    let loads: &mut dyn Any = loads;
    loads.downcast_mut().unwrap_or_else(|| unreachable!("a segment has one type of keys, and one of values"))
}

/// What a segment has counted under its lock.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) evicted: u64,
    pub(crate) evicted_weight: u64,
    pub(crate) rejected: u64,
}

/// What is needed to set up a segment.
pub(crate) struct Plan {
    /// Equal parts of the bounds.
    pub(crate) weight: u64,
    pub(crate) places: Option<u64>,
    pub(crate) sizing: Sizing,
}

/// What is known of an entry that wants to be in the cache, beside key and value.
#[derive(Clone, Copy)]
pub(crate) struct Arrival<'a> {
    pub(crate) hash: u64,
    pub(crate) weight: u64,
    /// Whether it is to be pinned; `None` keeps what the entry was that it replaces.
    pub(crate) pin: Option<bool>,
    /// There if its bringer moves budget for it: after a first try without.
    pub(crate) search: Option<&'a Search>,
    /// None without end.
    pub(crate) life: Option<&'a Life>,
    pub(crate) tags: &'a [Tag],
    /// Which of weight and tags options gave.
    pub(crate) given: Given,
    /// There if it comes from a snapshot.
    pub(crate) back: Option<&'a Back>,
}

impl Arrival<'_> {
    fn is_pinned(&self) -> bool {
        self.pin == Some(true)
    }

    /// Returns whether there is anything to note in [`Extras`].
    #[inline]
    fn has_extras(&self) -> bool {
        !self.tags.is_empty() || self.given != Given::NOTHING
    }
}

/// What the caller of a write has seen before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It does not matter.
    Whatever,
    /// The key was absent.
    Nothing,
    /// The key's entry was in this slot: the [`Found`] still lives.
    At(u32),
    #[cfg(feature = "serde")]
    /// The key was not there when a snapshot was being loaded that has it, and nobody was loading it.
    Before,
    /// This load was registered, and the key has not been changed since.
    Loading(LoadId),
}

/// An entry that wants to be in the cache.
pub(crate) struct Offer<'a, K, V> {
    /// None once it is stored.
    pub(crate) entry: Option<(K, V)>,
    pub(crate) seen: Seen,
    /// Where the load of one key is put that brings it: that ends with this, whatever becomes of the entry.
    pub(crate) ended: Option<&'a mut Option<Ended<K, V>>>,
    /// The entry that was [`Seen::At`] a slot: held until that has been looked at under the lock, and no longer, so that it does
    /// not wait for its own successor's insert.
    pub(crate) held: Option<Found<'a, K, V>>,
}

impl<K, V> Offer<'_, K, V> {
    pub(crate) fn new(key: K, value: V, seen: Seen) -> Self {
        Self { entry: Some((key, value)), seen, ended: None, held: None }
    }
}

/// Where an entry was at some moment.
#[derive(Clone, Copy)]
pub(crate) struct Location {
    slot: u32,
    /// The part of the hash that the header has: a new value is in another slot, and is found by this.
    hash: u64,
}

/// What came of a write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Stored,
    /// `Rejected`: it is heavier than the whole capacity, the policy does not want it, or nothing may go to make room.
    /// `Expired`: its life is zero.
    Refused(RemovalCause),
    /// More budget is needed than the segment has: see [`Arrival::missing`].
    NoRoom,
    /// The key is not any more as it was seen.
    Changed,
}

/// Weights by slot. Takes no memory while all are 1.
#[derive(Default)]
struct Weights(Vec<u64>);

impl Weights {
    #[inline]
    fn get(&self, slot: u32) -> u64 {
        self.0.get(slot as usize).copied().unwrap_or(1)
    }

    fn set(&mut self, slot: u32, weight: u64, slots: usize) {
        if self.0.len() < slots {
            self.0.reserve_exact(slots - self.0.len());
            self.0.resize(slots, 1);
        }
        self.0[slot as usize] = weight;
    }
}

impl<K, V> Segment<K, V> {
    pub(crate) fn new(
        plan: &Plan,
        policy: Chosen,
        rules: &Arc<Rules>,
        delivery: Option<Delivery<K, V>>,
    ) -> Self {
        let mark_limit = match policy.reads() {
            Reads::Ignored => Some(0),
            Reads::Marked(most) => Some(most),
            Reads::Recorded => None,
        };
        let recorded = mark_limit.is_none().then(ReadBuffer::new);
        let core = Core {
            policy,
            weights: Weights::default(),
            room: Room::new(plan.weight, plan.places),
            told: 0,
            counts: Counts::default(),
            clockwork: None,
            extras: None,
        };
        let table = Table::new(plan.sizing, delivery.is_some(), mark_limit, core);
        let rules = Arc::clone(rules);
        let segment = Self { table, recorded, times: OnceLock::new(), rules, delivery };
        if segment.rules.is_any() {
            segment.begin_times();
        }
        segment
    }

    /// Returns the entry whose key `matches`, if it has not expired, without a trace.
    pub(crate) fn find(&self, hash: u64, matches: impl Fn(&K) -> bool) -> Option<Found<'_, K, V>> {
        let find = || self.table.find(hash, &matches);
        self.find_good(find, |found| (!self.is_over(found.slot())).then_some(())).map(|(found, ())| found)
    }

    /// Returns the entry that `find` finds, and what it is `good` for. If that is nothing, but the entry has been replaced
    /// since it was found, it may have been good until then: then its successor counts.
    pub(super) fn find_good<'s, T>(
        &self,
        find: impl Fn() -> Option<Found<'s, K, V>>,
        good: impl Fn(&Found<'_, K, V>) -> Option<T>,
    ) -> Option<(Found<'s, K, V>, T)> {
        loop {
            let found = find()?;
            match good(&found) {
                Some(good) => return Some((found, good)),
                None if !found.has_ended() => return None,
                None => {}
            }
        }
    }

    /// Returns the entry whose key `matches`, if it has not expired, for a read whose [`glance`](Self::glance) has given up. The
    /// entry's time to idle begins again.
    #[inline]
    pub(crate) fn find_to_read(&self, hash: u64, matches: impl Fn(&K) -> bool) -> Option<Found<'_, K, V>> {
        let good = |found: &Found<'_, K, V>| self.renew(found).then_some(());
        self.find_good(|| self.table.look(hash, &matches), good).map(|(found, ())| found)
    }

    /// Reports whether an entry that was found, and is read, has not expired; its time to idle begins again then.
    #[inline]
    pub(crate) fn renew(&self, found: &Found<'_, K, V>) -> bool {
        self.times().is_none_or(|times| times.note_read(found.slot()))
    }

    /// Leaves behind what the policy wants to know of a read.
    pub(crate) fn touch(&self, found: &Found<'_, K, V>) {
        if let Some(reads) = &self.recorded {
            self.record(reads, found.slot());
        } else {
            self.mark(found);
        }
    }

    /// An entry that was perhaps over already. Gives up where to find it, or to [`touch`](Self::touch) it, would take longer
    /// than usual.
    #[inline(always)]
    pub(crate) fn glance(
        &self,
        hash: u64,
        matches: impl Fn(&K) -> bool,
    ) -> Result<Option<Found<'_, K, V>>, Unsure> {
        self.table.glance(hash, matches)
    }

    /// Reports whether a read of an entry that a [`glance`](Self::glance) found leaves nothing to do.
    #[inline(always)]
    pub(crate) fn is_read(&self, found: &Found<'_, K, V>) -> bool {
        self.table.is_read(found)
    }

    /// Reports whether reads do more than to raise marks: look at the time, or count.
    #[inline(always)]
    pub(crate) fn notes_reads(&self) -> bool {
        self.table.notes_reads()
    }

    /// From now on reads of entries that are put in are noted.
    pub(crate) fn note_reads(&self) {
        self.table.note_reads();
    }

    /// [`touch`](Self::touch) after a [`glance`](Self::glance).
    #[inline(always)]
    pub(crate) fn mark(&self, found: &Found<'_, K, V>) {
        self.table.mark(found);
    }

    fn record(&self, reads: &ReadBuffer, slot: u32) {
        if reads.record(slot) == Recorded::Full {
            // When another has the lock it empties the buffer itself; until then reads are lost.
            if let Some(mut writer) = self.table.try_lock() {
                replay(reads, &mut writer);
                drop(writer);
                reads.record(slot);
            }
        }
    }

    fn write(&self) -> Write<'_> {
        let mut write = self.lock();
        write.begin();
        write
    }

    /// The same, to be followed by [`Write::begin`]: what has begun is not moved, where it must be quick.
    #[inline(always)]
    fn lock(&self) -> Write<'_> {
        let mut writer = self.table.lock();
        if let Some(reads) = &self.recorded {
            replay(reads, &mut writer);
        }
        Write { writer, times: self.times() }
    }

    #[inline]
    fn close(&self, write: Write<'_>) -> Leaving<'_, K, V> {
        Leaving { segment: self, left: write.close() }
    }

    /// A hint that a key of this hash is about to be looked for.
    #[cfg(feature = "serde")]
    pub(crate) fn prefetch(&self, hash: u64) {
        self.table.prefetch(hash);
    }

    /// Puts an entry in, over the key's current one or after making room, and leaves `None` behind if it was stored.
    pub(crate) fn insert(
        &self,
        bank: &Bank,
        arrival: &mut Arrival<'_>,
        offer: &mut Offer<'_, K, V>,
        panics: &mut Panics,
    ) -> Outcome
    where
        K: Eq + 'static,
        V: 'static,
    {
        self.table.prefetch(arrival.hash);
        self.expect(arrival.life);
        let mut write = self.lock();
        write.begin();
        let outcome = self.put(&mut write, bank, arrival, offer);
        if outcome != Outcome::NoRoom {
            offer.held = None;
        }
        if let Some(left) = write.close() {
            // A listener may wait for the load.
            self.settle(&left, offer.ended.is_none(), panics);
        }
        outcome
    }

    /// The same with budget from elsewhere, and with what is to be settled left to the caller.
    pub(crate) fn insert_with_more(
        &self,
        bank: &Bank,
        arrival: &mut Arrival<'_>,
        offer: &mut Offer<'_, K, V>,
        carried: &mut Carried<'_>,
    ) -> (Outcome, Leaving<'_, K, V>)
    where
        K: Eq + 'static,
        V: 'static,
    {
        let mut write = self.write();
        write.grant(carried.hand_over());
        let outcome = self.put(&mut write, bank, arrival, offer);
        (outcome, self.close(write))
    }

    #[inline(always)]
    fn put(
        &self,
        write: &mut Write<'_>,
        bank: &Bank,
        arrival: &mut Arrival<'_>,
        offer: &mut Offer<'_, K, V>,
    ) -> Outcome
    where
        K: Eq + 'static,
        V: 'static,
    {
        let mut current = self.find_locked(write, arrival.hash, offer);
        let mut is_dead = false;
        if let Some(times) = write.times {
            current = write.unless_over(current, offer.seen, arrival);
            is_dead = times.is_dead(arrival, write.writer.now());
        }
        let way = if !write.is_as(offer.seen, arrival, current) {
            Way::Barred(Outcome::Changed)
        } else if is_dead {
            Way::Barred(write.turn_away(current, arrival.hash, RemovalCause::Expired))
        } else {
            write.make_way(bank, current, arrival)
        };
        let times = write.times;
        let begin_life = |writer: &mut Writer<'_, Core>, slot| {
            if let Some(times) = times {
                times.begin(writer, slot, arrival.hash, arrival.life);
                if let Some(back) = arrival.back {
                    times.go_on(writer, slot, &back.rest);
                }
            }
        };
        let outcome = match way {
            Way::Barred(outcome) => outcome,
            Way::In => {
                let writer = &mut write.writer;
                let slot = self.table.publish(writer, arrival.hash, || take(&mut offer.entry), begin_life);
                write.settle_in(slot, arrival);
                Outcome::Stored
            }
            Way::Over(old) => {
                let cause = write.cause_over(old);
                let writer = &mut write.writer;
                let (new, unlinked) =
                    self.table.replace(writer, old, cause, || take(&mut offer.entry), begin_life);
                write.settle_over(old, new, unlinked, arrival);
                Outcome::Stored
            }
        };
        if outcome != Outcome::NoRoom {
            self.end(write, bank, arrival, offer, outcome);
        }
        outcome
    }

    /// Ends an operation that has brought an entry: a load ends with it, and the listener hears of it if it was refused.
    #[inline(always)]
    fn end(
        &self,
        write: &mut Write<'_>,
        bank: &Bank,
        arrival: &Arrival<'_>,
        offer: &mut Offer<'_, K, V>,
        outcome: Outcome,
    ) where
        K: 'static,
        V: 'static,
    {
        if let Outcome::Refused(cause) = outcome
            && self.delivery.is_some()
        {
            let entry = || take(&mut offer.entry);
            self.table.refuse(&mut write.writer, entry, arrival.weight, cause);
        }
        if let (Some(ended), Seen::Loading(LoadId::Of(number))) = (&mut offer.ended, offer.seen) {
            **ended = write.writer.end_load(arrival.hash, number);
        }
        // Where all weigh the same and nothing ends, an entry that gets in leaves nothing over.
        if outcome != Outcome::Stored || write.times.is_some() || write.has_weights() {
            write.return_surplus(bank);
        }
    }

    #[inline]
    fn find_locked(&self, write: &Write<'_>, hash: u64, offer: &Offer<'_, K, V>) -> Option<u32>
    where
        K: Eq,
    {
        let (key, _) = offer.entry.as_ref()?;
        self.table.find_locked(&write.writer, hash, |other| other == key)
    }

    /// Refuses an entry for which nowhere is room.
    pub(crate) fn refuse(
        &self,
        bank: &Bank,
        arrival: Arrival<'_>,
        offer: &mut Offer<'_, K, V>,
    ) -> (Outcome, Leaving<'_, K, V>)
    where
        K: Eq + 'static,
        V: 'static,
    {
        let mut write = self.write();
        let current = self.find_locked(&write, arrival.hash, offer);
        let is_as_seen = write.is_as(offer.seen, &arrival, current);
        let outcome = if is_as_seen {
            write.turn_away(current, arrival.hash, RemovalCause::Rejected)
        } else {
            Outcome::Changed
        };
        self.end(&mut write, bank, &arrival, offer, outcome);
        (outcome, self.close(write))
    }

    /// Removes an entry that was found, as long as the [`Found`] lives; `None` if it has left or expired since. Then loads of its
    /// key go on: to the caller the key is absent, which has a step of its own.
    pub(crate) fn remove(&self, bank: &Bank, slot: u32, cause: RemovalCause) -> Option<Leaving<'_, K, V>> {
        let mut write = self.write();
        let live = write.writer.live(slot);
        let expired = write.writer.expired();
        if let Some(live) = live {
            write.take_out(live, cause);
            write.return_surplus(bank);
        }
        // As the listener is told.
        let is_removed = live.is_some() && write.writer.expired() == expired;
        let leaving = self.close(write);
        if is_removed {
            return Some(leaving);
        }
        leaving.settle();
        None
    }

    /// Returns what is known of an entry that was found, as long as the [`Found`] lives; `None` if it has left.
    pub(crate) fn metadata(&self, slot: u32) -> Option<Metadata> {
        let (weight, is_pinned) = {
            // What was found is still the key's if it has not left.
            let writer = self.table.lock();
            let live = writer.live(slot)?;
            (writer.weights.get(slot), live.header().is_pinned())
        };
        let (age, remaining, reads_left) = (self.age(slot), self.remaining(slot), self.reads_left(slot));
        Some(Metadata { age, remaining, reads_left, weight, is_pinned })
    }

    /// Pins or unpins an entry that was found, as long as the [`Found`] lives. Reports whether it was still there.
    pub(crate) fn set_pinned(&self, slot: u32, pinned: bool) -> bool {
        let mut write = self.write();
        let live = write.writer.live(slot).is_some() && !write.is_over(slot);
        if live {
            write.set_pinned(slot, pinned);
        }
        self.close(write).settle();
        live
    }

    /// The entries of some hashes from `cursor` on, added to `found`, and where to go on.
    pub(crate) fn entries_from<'s>(&'s self, cursor: u64, found: &mut Vec<Found<'s, K, V>>) -> Option<u64> {
        let mut slots = Vec::new();
        let writer = self.table.lock();
        let next = writer.entries_from(cursor, &mut slots);
        found.extend(slots.into_iter().filter_map(|slot| self.table.found(&writer, slot)));
        found.retain(|found| !self.is_over(found.slot()));
        next
    }

    /// Returns where the first `n` entries from one end are, by heat and then by the policy's order, each with its
    /// [rank](End::rank).
    pub(crate) fn walk(&self, from: End, n: usize) -> Vec<(u64, Location)> {
        let write = self.write();
        let (policy, entries) = (&write.writer.policy, write.entries());
        let is_sorted = !matches!(policy.reads(), Reads::Marked(_));
        let mut ranked = Vec::new();
        if n > 0 {
            policy.walk(from, &mut |slot| {
                let number = slot.number();
                if let Some(live) = write.writer.live(number).filter(|_| !write.is_over(number)) {
                    let location = Location { slot: number, hash: live.header().hash() };
                    ranked.push((from.rank(policy.heat(slot, entries)), location));
                }
                let is_done = is_sorted && ranked.len() >= n;
                if is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        }
        self.close(write).settle();
        if !is_sorted {
            ranked.sort_by_key(|&(rank, _)| rank);
            ranked.truncate(n);
        }
        ranked
    }

    /// Reports whether the policy's order knows of all reads.
    #[cfg(feature = "serde")]
    pub(crate) fn records_reads(&self) -> bool {
        self.recorded.is_some()
    }

    /// Returns the entry that was at a location, also if its value has been replaced since.
    pub(crate) fn find_at(&self, location: Location) -> Option<Found<'_, K, V>> {
        let writer = self.table.lock();
        let found = self.table.found(&writer, self.slot_at(&writer, location)?)?;
        drop(writer);
        (!self.is_over(found.slot())).then_some(found)
    }

    /// Returns the slot that now has the entry that was at a location.
    fn slot_at(&self, writer: &Writer<'_, Core>, Location { slot, hash }: Location) -> Option<u32> {
        match writer.live(slot).filter(|live| live.header().hash() == hash) {
            Some(_) => Some(slot),
            None => self.table.find_by_hash(writer, hash),
        }
    }

    /// Changes the share to `share`. Gives up to `wanted` of its budget, above the new share.
    pub(crate) fn shrink(
        &self,
        bank: &Bank,
        share: u64,
        wanted: u64,
        carried: &mut Carried<'_>,
    ) -> Leaving<'_, K, V> {
        let mut write = self.write();
        write.set_share(bank, share);
        write.give(bank, share, Amount::of_weight(wanted), carried);
        write.return_surplus(bank);
        self.close(write)
    }

    /// Lets pinned entries go, too, until the budget is down by `wanted` or nothing is left.
    pub(crate) fn unpin_and_give(
        &self,
        bank: &Bank,
        wanted: u64,
        carried: &mut Carried<'_>,
    ) -> Leaving<'_, K, V> {
        let mut write = self.write();
        let enough = carried.amount.weight + wanted;
        // Also what pinned entries leave that have gone by themselves meanwhile.
        write.give(bank, 0, Amount::of_weight(wanted), carried);
        let slots = 0..write.writer.given() as u32;
        for slot in slots {
            if carried.amount.weight == enough {
                break;
            }
            let weighs = write.writer.weights.get(slot) > 0;
            if let Some(live) = write.writer.live(slot).filter(|_| weighs) {
                write.take_out(live, RemovalCause::Size);
                write.give(bank, 0, Amount::of_weight(enough - carried.amount.weight), carried);
            }
        }
        write.return_surplus(bank);
        self.close(write)
    }

    /// Changes the share to `share`, which is more than before: there is something to draw.
    pub(crate) fn widen(&self, bank: &Bank, share: u64) -> Leaving<'_, K, V> {
        let mut write = self.write();
        write.set_share(bank, share);
        self.close(write)
    }

    /// Returns what the segment could give up if all entries left that may.
    pub(crate) fn can_give(&self) -> Amount {
        self.table.lock().room.can_give()
    }

    /// Gives up what is free of what is `wanted`.
    pub(crate) fn collect(
        &self,
        bank: &Bank,
        wanted: Amount,
        carried: &mut Carried<'_>,
    ) -> Leaving<'_, K, V> {
        let mut write = self.write();
        write.collect(bank, wanted, carried);
        self.close(write)
    }

    /// Gives up to `wanted` of its budget, evicting what does not fit any more.
    pub(crate) fn give(&self, bank: &Bank, wanted: Amount, carried: &mut Carried<'_>) -> Leaving<'_, K, V> {
        let mut write = self.write();
        write.give(bank, 0, wanted, carried);
        write.return_surplus(bank);
        self.close(write)
    }

    /// Replays reads, removes expired entries, drops removed ones, and gives back memory that nobody uses.
    pub(crate) fn run_pending_tasks(&self, bank: &Bank) {
        self.sweep();
        let mut write = self.write();
        write.return_surplus(bank);
        self.close(write).settle_without_waiting();
        let ticket = self.table.lock().seal();
        if let Some(ticket) = ticket {
            self.reclaim(ticket);
        }
        let trimmed = self.table.lock().trim();
        drop(trimmed);
    }

    pub(crate) fn len(&self) -> usize {
        self.table.lock().room.places.used as usize
    }

    pub(crate) fn weight(&self) -> u64 {
        self.table.lock().room.weight.used
    }

    pub(crate) fn counts(&self) -> Counts {
        self.table.lock().counts
    }

    /// Entries that were over when they left.
    pub(crate) fn expired(&self) -> u64 {
        self.table.lock().expired()
    }

    /// Checks everything that is kept twice. No other thread may be using the segment; gives its budgets.
    pub(crate) fn validate(&self) -> Amount {
        let mut write = self.write();
        let len = write.writer.room.places.used as usize;
        write.writer.validate(len);
        let (mut weight, mut pinned, mut ordered) = (0, Amount::default(), 0);
        for slot in (0..write.writer.given() as u32).filter(|&slot| write.writer.live(slot).is_some()) {
            weight += write.writer.weights.get(slot);
            if write.writer.header(slot).is_pinned() {
                pinned = pinned.plus(Amount { weight: write.writer.weights.get(slot), places: 1 });
            }
            ordered += usize::from(write.writer.is_ordered(slot));
        }
        let room = &write.writer.room;
        assert_eq!(room.weight.used, weight, "the weight of the entries");
        assert_eq!(room.pinned, pinned, "what the pinned entries use");
        assert!(room.weight.used <= room.weight.budget, "{weight} of {} used", room.weight.budget);
        assert!(room.places.used <= room.places.budget, "{len} of {} entries", room.places.budget);
        let places = if room.counts_entries { room.places.budget } else { 0 };
        let budgets = Amount { weight: room.weight.budget, places };
        if let Some(extras) = &write.writer.extras {
            extras.tags.validate(|slot| write.writer.live(slot).is_some());
            extras.loads.iter().for_each(|loads| loads.validate());
        }
        if let (Some(clockwork), Some(times)) = (&write.writer.clockwork, write.times) {
            clockwork.validate();
            let slots = (0..write.writer.given() as u32).filter(|&slot| write.writer.live(slot).is_some());
            slots.for_each(|slot| {
                assert!(!times.is_limited(slot) || clockwork.watches(slot), "{slot} is not watched")
            });
        }
        write.policy(|policy, view| policy.validate(ordered, view));
        self.close(write).settle();
        budgets
    }
}

/// Takes the entry that an operation was given to store.
#[inline]
fn take<T>(entry: &mut Option<T>) -> T {
    entry.take().expect("an operation stores one entry")
}

/// Tells the policy which entries were read.
fn replay(reads: &ReadBuffer, writer: &mut Writer<'_, Core>) {
    let (core, cells) = writer.split();
    let entries = Entries::new(cells, &core.weights.0);
    reads.empty(|slot| {
        // What was recorded of an entry may come after its memory was given back.
        if cells.address(slot).is_some() {
            core.policy.hit(Slot::new(slot), entries);
        }
    });
}
