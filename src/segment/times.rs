//! When the entries of a segment end: one deadline each, which readers look at without a lock.
//!
//! An entry gets a [`Life`] when it is written. From that come its deadline, and what a later read may make of it:
//!
//! ```text
//! deadline = min(written + time to live, last read + time to idle, what an `Expiry` said last)
//! ```
//!
//! Deadlines are in a column beside the cells, from before the entry can be found until its slot is used again. So
//! a reader that finds an entry finds its deadline, and all readers pass over an expired entry, swept or not.
//! What is kept beyond the deadline has columns of its own, which are there only where some entry needs them.
//!
//! That an entry is over is for good: who finds it so writes that down before acting on it, by taking from the deadline the
//! bit that all times have ([`EPOCH`]), and a read that began while it was not over does not put off what lacks it.
//!
//! The wheel, under the lock, is told when an entry is written, and looks at the deadline when it comes by.

use super::soft::Soft;
use super::write::Write;
use super::{Arrival, Core, Seen, Segment};
use crate::clock::{Clock, EPOCH, nanos};
use crate::parts::folded;
use crate::parts::wheel::Wheel;
use crate::removal::RemovalCause;
use crate::table::{Column, Found, Unsure, Writer};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// No end, in nanoseconds.
pub(super) const FOREVER: u64 = u64::MAX;

/// Entries that a write looks at, at most, for being over. Some more than one, so that it comes to an end with them.
const SWEPT_BY_WRITE: usize = 16;
/// The same where there is nothing else to do.
const SWEPT_AT_ONCE: usize = 256;

/// How long entries live if nothing else is said, the same for all segments.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) clock: Clock,
    pub(crate) life: Life,
    /// The part of a time to live by which it may be shorter, of 2^32.
    pub(crate) jitter: u64,
    /// How many reads an entry answers, if that is limited.
    pub(crate) max_reads: Option<u64>,
    /// Whether reads are asked for a new deadline.
    pub(crate) is_asked: bool,
    /// Whether it is kept when entries were written.
    pub(crate) has_ages: bool,
    pub(crate) soft: Option<Soft>,
}

impl Rules {
    /// Whether entries may end of which nothing special was said.
    pub(crate) fn is_any(&self) -> bool {
        self.life.is_limited()
            || self.max_reads.is_some()
            || self.is_asked
            || self.has_ages
            || self.soft.is_some()
    }

    /// Whether more is kept of each entry than its deadline.
    fn keeps_more(&self) -> bool {
        self.max_reads.is_some() || self.has_ages
    }

    /// Whether a read has something to write down.
    pub(crate) fn notes_reads(&self) -> bool {
        self.life.tti != FOREVER || self.does_more()
    }

    /// Whether a read does more than to look at the time, and to note when it was.
    pub(super) fn does_more(&self) -> bool {
        self.is_asked || self.max_reads.is_some()
    }
}

/// How long an entry is to live, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// From when it is written.
    pub(crate) ttl: u64,
    /// From its last read.
    pub(crate) tti: u64,
    /// From now, by what an `Expiry` said.
    pub(crate) own: u64,
    /// The time to live that options gave, at least 1; 0 for none.
    pub(crate) given: u64,
    /// How long it took to load the value; 0 if that is not known.
    pub(crate) took: u64,
}

impl Life {
    pub(crate) const ENDLESS: Self = Self { ttl: FOREVER, tti: FOREVER, own: FOREVER, given: 0, took: 0 };

    fn is_limited(self) -> bool {
        self != Self::ENDLESS
    }
}

/// A span of time as a [`Life`] has it.
pub(crate) fn span(time: Option<Duration>) -> u64 {
    time.map_or(FOREVER, nanos)
}

/// What a read finds in a cache that limits them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spent {
    /// There are more.
    No,
    /// It was the last.
    Last,
    /// There was none left.
    Over,
}

/// What the lock guards where entries end.
pub(super) struct Clockwork {
    /// When the operation that holds the lock got it.
    now: u64,
    /// Entries that were over when they left.
    pub(super) expired: u64,
    /// When entries are to be looked at for being over.
    wheel: Wheel,
}

impl Clockwork {
    fn new(now: u64) -> Self {
        Self { now, expired: 0, wheel: Wheel::new(now) }
    }

    /// Whether an entry is to be looked at.
    pub(super) fn watches(&self, slot: u32) -> bool {
        self.wheel.contains(slot)
    }

    pub(super) fn validate(&self) {
        self.wheel.validate();
    }
}

impl Core {
    /// There in all operations that know of time: see [`Write::begin`].
    pub(super) fn clockwork(&mut self) -> &mut Clockwork {
        self.clockwork.as_mut().expect("it is there when an operation has begun")
    }

    pub(super) fn now(&self) -> u64 {
        self.clockwork.as_ref().map_or(0, |clockwork| clockwork.now)
    }

    pub(super) fn expired(&self) -> u64 {
        self.clockwork.as_ref().map_or(0, |clockwork| clockwork.expired)
    }
}

/// What a segment knows of time.
pub(super) struct Times {
    pub(super) rules: Arc<Rules>,
    clock: Clock,
    /// No entry that can be found is over before this time, whatever its deadline, and no read has more to do than to see that.
    /// 0 where that is not so.
    soonest: AtomicU64,
    /// How long entries stay that are over.
    pub(super) grace: u64,
    /// In nanoseconds; 0 for none.
    deadlines: Column,
    /// What not all entries need. There once one does.
    extras: OnceLock<Box<Extras>>,
    /// How many claims there were.
    pub(super) claims: AtomicU64,
}

/// What is kept of an entry beside its deadline. Of each kind there is a column once an entry has such a number; 0 is for none.
#[derive(Clone, Copy)]
pub(super) enum Extra {
    /// Beyond which reads do not move the deadline.
    End,
    /// The time to idle, if not that of the rules.
    Idle,
    /// The time to live, if options gave it.
    Given,
    /// Reads that are left, in a cache that limits them.
    Reads,
    /// When it was written, in a cache that keeps that.
    Written,
    /// How long it took to load, if that is known.
    Took,
    /// Who loads it anew when: see `soft.rs`.
    Turn,
}

type Extras = [OnceLock<Column>; 7];

impl Times {
    fn new(rules: Arc<Rules>, deadlines: Column) -> Self {
        Self {
            clock: rules.clock.clone(),
            soonest: AtomicU64::new(0),
            grace: rules.soft.as_ref().map_or(0, Soft::grace),
            rules,
            deadlines,
            extras: OnceLock::new(),
            claims: AtomicU64::new(0),
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Relaxed, here and elsewhere: what is written before an entry can be found is seen by who finds it; and later changes
    /// order nothing else.
    #[inline]
    pub(super) fn read(column: &Column, slot: u32) -> u64 {
        column.get(slot).map_or(0, |number| number.load(Relaxed))
    }

    /// When the entry in `slot` ends.
    #[inline]
    pub(super) fn deadline(&self, slot: u32) -> u64 {
        match Self::read(&self.deadlines, slot) {
            0 => FOREVER,
            deadline => deadline,
        }
    }

    #[inline]
    pub(super) fn extra(&self, extra: Extra, slot: u32) -> u64 {
        self.extras
            .get()
            .map_or(0, |extras| extras[extra as usize].get().map_or(0, |column| Self::read(column, slot)))
    }

    /// The same, to write to.
    pub(super) fn extra_at(&self, extra: Extra, slot: u32) -> &AtomicU64 {
        self.extras.get_or_init(Box::default)[extra as usize]
            .get_or_init(|| self.deadlines.another())
            .at(slot)
    }

    fn is_any(&self, extra: Extra) -> bool {
        self.extras.get().is_some_and(|extras| extras[extra as usize].get().is_some())
    }

    /// Writes to a column that is not there as long as all is 0.
    pub(super) fn note(&self, extra: Extra, slot: u32, number: u64) {
        if number != 0 || self.is_any(extra) {
            self.extra_at(extra, slot).store(number, Relaxed);
        }
    }

    /// When the entry in `slot` was written, if that is kept.
    #[inline]
    pub(super) fn written(&self, slot: u32) -> Option<u64> {
        self.rules.has_ages.then(|| self.extra(Extra::Written, slot))
    }

    /// Whether the entry in `slot` ends.
    pub(super) fn is_limited(&self, slot: u32) -> bool {
        self.deadline(slot) != FOREVER
    }

    /// Whether the entry in `slot` has ended, by a time that is asked for if that depends on it.
    #[inline]
    fn is_over_at(&self, slot: u32, now: impl FnOnce() -> u64) -> bool {
        let deadline = self.deadline(slot);
        self.is_used_up(slot) || deadline != FOREVER && self.has_ended(slot, deadline, now())
    }

    /// Whether the entry in `slot` has no reads left: whoever had the last one is about to remove it.
    #[inline]
    pub(super) fn is_used_up(&self, slot: u32) -> bool {
        self.rules.max_reads.is_some() && self.extra(Extra::Reads, slot) == 0
    }

    /// Whether the entry in `slot` has ended at a time, when its deadline was seen to be `deadline`. If so, for good: no read
    /// puts it off any more.
    #[inline]
    pub(super) fn has_ended(&self, slot: u32, deadline: u64, now: u64) -> bool {
        // What has no end has not ended where the clock stops either.
        deadline <= now && deadline != FOREVER && self.end(slot, deadline, now)
    }

    #[cold]
    fn end(&self, slot: u32, mut deadline: u64, now: u64) -> bool {
        while deadline <= now && deadline != FOREVER {
            if deadline & EPOCH == 0 {
                return true;
            }
            match self.change(slot, deadline, deadline & !EPOCH) {
                Ok(()) => return true,
                Err(other) => deadline = other,
            }
        }
        false
    }

    /// Changes the deadline of the entry in `slot` from `before`; gives it, if it is another one by now.
    #[inline]
    fn change(&self, slot: u32, before: u64, next: u64) -> Result<(), u64> {
        let number = self.deadlines.at(slot);
        match number.compare_exchange(coded(before), coded(next), Relaxed, Relaxed) {
            Ok(_) => Ok(()),
            Err(0) => Err(FOREVER),
            Err(other) => Err(other),
        }
    }

    /// Gives the entry that is about to stand in `slot` its life, and sees to it that it goes when that is over.
    #[inline(never)]
    pub(super) fn begin(&self, writer: &mut Writer<'_, Core>, slot: u32, hash: u64, life: Option<&Life>) {
        let (life, now) = (*life.unwrap_or(&Life::ENDLESS), writer.now());
        let mut end = now.saturating_add(self.shortened(life.ttl, hash, now));
        let own = now.saturating_add(life.own);
        if life.tti != FOREVER {
            // Reads ask for no other.
            end = end.min(own);
        }
        let deadline = end.min(now.saturating_add(life.tti)).min(own);
        let before = self.deadline(slot);
        self.deadlines.at(slot).store(coded(deadline), Relaxed);
        let moves = life.tti != FOREVER || self.rules.is_asked;
        // Also one without end, which the rule's must not take the place of.
        let is_own = life.tti != self.rules.life.tti;
        let has_more = is_own || life.given != 0 || life.took != 0;
        if moves || has_more || self.rules.keeps_more() || self.extras.get().is_some() {
            self.begin_more(slot, if moves { coded(end) } else { 0 }, &life, now);
        }
        if deadline != FOREVER {
            schedule(writer, slot, self.watched(deadline), self.watched(before));
            if moves || deadline < self.soonest.load(Relaxed) {
                self.see_soonest(writer);
            }
        }
    }

    /// What not all entries have.
    #[inline(never)]
    fn begin_more(&self, slot: u32, end: u64, life: &Life, now: u64) {
        self.note(Extra::End, slot, end);
        self.note(Extra::Idle, slot, if life.tti == self.rules.life.tti { 0 } else { life.tti.max(1) });
        self.note(Extra::Given, slot, life.given);
        self.note(Extra::Reads, slot, self.rules.max_reads.unwrap_or(0));
        self.note(Extra::Written, slot, if self.rules.has_ages { now } else { 0 });
        self.note(Extra::Took, slot, life.took);
        self.note(Extra::Turn, slot, 0);
    }

    /// Returns whether an entry has expired when it comes, and may not be served stale. (Jitter makes no life zero.)
    #[inline]
    pub(super) fn is_dead(&self, arrival: &Arrival<'_>, now: u64) -> bool {
        let is_zero = arrival.life.is_some_and(|life| life.ttl.min(life.tti).min(life.own) == 0);
        // Where the clock stops nothing ends.
        is_zero && self.grace == 0 && now != FOREVER
    }

    /// Returns the time to live and the time to idle that are the own ones of the entry in `slot`.
    pub(super) fn given(&self, slot: u32) -> (Option<u64>, Option<u64>) {
        let own = |extra| Some(self.extra(extra, slot)).filter(|span| *span != 0);
        (own(Extra::Given), own(Extra::Idle))
    }

    /// Whether reads put off the deadline of the entry in `slot`.
    pub(super) fn moves(&self, slot: u32) -> bool {
        self.rules.is_asked || self.idle(slot) != FOREVER
    }

    /// Lets the entry that is about to stand in `slot` end earlier than it would.
    pub(super) fn end_by(&self, writer: &mut Writer<'_, Core>, slot: u32, deadline: u64) {
        let before = self.deadline(slot);
        if deadline < before {
            self.deadlines.at(slot).store(coded(deadline), Relaxed);
            schedule(writer, slot, self.watched(deadline), self.watched(before));
            self.see_soonest(writer);
        }
    }

    /// Lets readers know when the first entry may be over.
    #[inline(never)]
    fn see_soonest(&self, writer: &mut Writer<'_, Core>) {
        let is_plain = !self.is_any(Extra::Idle) && !self.rules.notes_reads();
        let soonest = match writer.clockwork().wheel.soonest() {
            _ if !is_plain => 0,
            FOREVER => FOREVER,
            soonest => soonest.saturating_sub(self.grace),
        };
        // Seldom anything new: the line stays shared.
        if self.soonest.load(Relaxed) != soonest {
            // Release: whoever sees it sees that what was over before has left.
            self.soonest.store(soonest, Release);
        }
    }

    /// A time to live with jitter: never longer, so that it remains a promise.
    fn shortened(&self, ttl: u64, hash: u64, now: u64) -> u64 {
        if self.rules.jitter == 0 || ttl == FOREVER {
            return ttl;
        }
        // By the key and the moment: evenly spread from 0 to 2^32.
        let random = u128::from(folded(hash ^ now) >> 32);
        ttl - ((u128::from(ttl) * u128::from(self.rules.jitter) * random) >> 64) as u64
    }

    /// Whether the entry in `slot`, which is read, has not ended; its time to idle begins anew then.
    #[inline]
    pub(super) fn note_read(&self, slot: u32) -> bool {
        let deadline = self.deadline(slot);
        if deadline == FOREVER {
            return true;
        }
        let now = self.now();
        if now < deadline {
            self.renew(slot, deadline, now);
            return true;
        }
        // Otherwise another read has just put it off.
        !self.has_ended(slot, deadline, now)
    }

    /// Whether a read has nothing to look at, since nothing in the segment is over yet, nor to write down.
    #[inline]
    fn is_early<K, V>(&self, found: &Found<'_, K, V>) -> bool {
        // Acquire: an entry that is live after this had not left when that was written, so that it counted for it; or it came
        // later, and was not over when this read began.
        let soonest = self.soonest.load(Acquire);
        soonest != 0 && found.is_live() && self.now() < soonest
    }

    /// After a read: the time to idle begins anew. Most often that is no news, by a coarse clock.
    #[inline]
    pub(super) fn renew(&self, slot: u32, deadline: u64, now: u64) {
        let idle = self.idle(slot);
        if idle == FOREVER {
            return;
        }
        let next = self.next(slot, now, idle);
        if deadline < next {
            self.renew_from(slot, deadline, now, next);
        }
    }

    /// A later read may have been faster.
    #[inline(never)]
    fn renew_from(&self, slot: u32, mut deadline: u64, now: u64, next: u64) {
        while now < deadline && deadline < next {
            match self.change(slot, deadline, next) {
                Ok(()) => return,
                Err(other) => deadline = other,
            }
        }
    }

    #[inline]
    fn idle(&self, slot: u32) -> u64 {
        match self.extra(Extra::Idle, slot) {
            0 => self.rules.life.tti,
            idle => idle,
        }
    }

    /// When the entry in `slot` ends if it lives for `span` from now on. Most often that is nothing new, and then not written,
    /// so that the line of an entry that is read all the time stays shared while a coarse clock does not move.
    #[inline]
    fn next(&self, slot: u32, now: u64, span: u64) -> u64 {
        let end = match self.extra(Extra::End, slot) {
            0 => FOREVER,
            end => end,
        };
        now.saturating_add(span).min(end)
    }

    /// The entry in `slot` is to live for `span` from now on, unless it has ended. Says whether it ends earlier by that.
    fn put_off(&self, slot: u32, span: u64) -> bool {
        let now = self.now();
        let next = self.next(slot, now, span);
        let mut deadline = self.deadline(slot);
        while deadline != next && (now < deadline || deadline == FOREVER) {
            match self.change(slot, deadline, next) {
                Ok(()) => return next < deadline,
                Err(other) => deadline = other,
            }
        }
        false
    }

    /// Counts a read of the entry in `slot`.
    fn spend(&self, slot: u32) -> Spent {
        if self.rules.max_reads.is_none() {
            return Spent::No;
        }
        let left =
            self.extra_at(Extra::Reads, slot).fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        match left {
            Err(_) => Spent::Over,
            Ok(1) => Spent::Last,
            Ok(_) => Spent::No,
        }
    }
}

/// How a deadline stands in a column.
pub(super) fn coded(deadline: u64) -> u64 {
    if deadline == FOREVER { 0 } else { deadline }
}

impl<K, V> Segment<K, V> {
    /// What the segment knows of time, if anything ends in it.
    #[inline]
    pub(super) fn times(&self) -> Option<&Times> {
        self.times.get().map(|times| &**times)
    }

    /// Prepares for an entry that may end.
    #[inline]
    pub(super) fn expect(&self, life: Option<&Life>) {
        if life.is_some() && self.times.get().is_none() {
            self.begin_times();
        }
    }

    #[cold]
    pub(super) fn begin_times(&self) {
        self.times.get_or_init(|| {
            // First: a thread that sees `times` may add an entry that expires, and a reader that finds the entry has to see this.
            self.note_reads();
            Box::new(Times::new(Arc::clone(&self.rules), self.table.column()))
        });
    }

    /// Whether an entry that was found has ended.
    #[inline]
    pub(crate) fn is_over(&self, slot: u32) -> bool {
        self.times().is_some_and(|times| times.is_over_at(slot, || times.now()))
    }

    /// Whether what a glance has found may be read without any further step. If not, that is not known.
    #[inline]
    pub(crate) fn is_early(&self, found: &Found<'_, K, V>) -> bool {
        self.times().is_none_or(|times| times.is_early(found))
    }

    /// As [`find_to_read`](Self::find_to_read) for what a glance has found: whether it may be read. Gives up where a read does
    /// more than to look at the time.
    #[inline]
    pub(crate) fn note_glance(&self, found: &Found<'_, K, V>) -> Result<bool, Unsure> {
        match self.times() {
            Some(times) if times.rules.does_more() => Err(Unsure),
            Some(times) if times.note_read(found.slot()) => Ok(true),
            // Otherwise its successor counts: see `find_good`.
            Some(_) if !found.has_ended() => Ok(false),
            Some(_) => Err(Unsure),
            None => Ok(true),
        }
    }

    /// Returns when an entry that was found ends, by the clock; `u64::MAX` without end.
    pub(crate) fn deadline(&self, slot: u32) -> u64 {
        self.times().map_or(FOREVER, |times| times.deadline(slot))
    }

    /// What is left of the life of an entry that was found.
    pub(crate) fn remaining(&self, slot: u32) -> Option<Duration> {
        let times = self.times()?;
        let deadline = times.deadline(slot);
        (deadline != FOREVER).then(|| Duration::from_nanos(deadline.saturating_sub(times.now())))
    }

    /// How long ago an entry that was found was written, if that is kept.
    pub(crate) fn age(&self, slot: u32) -> Option<Duration> {
        let times = self.times()?;
        times.written(slot).map(|written| Duration::from_nanos(times.now().saturating_sub(written)))
    }

    /// How many reads an entry that was found still answers, if that is limited.
    pub(crate) fn reads_left(&self, slot: u32) -> Option<u64> {
        let times = self.times()?;
        times.rules.max_reads.map(|_| times.extra(Extra::Reads, slot))
    }

    /// Whether a read of this entry asks for a new deadline: not if it has a time to idle of its own.
    pub(crate) fn asks_after_read(&self, slot: u32) -> bool {
        self.times().is_some_and(|times| times.idle(slot) == FOREVER)
    }

    /// An entry that was found is to live for `span` from now on, as far as its time to live goes.
    pub(crate) fn put_off(&self, slot: u32, span: u64) {
        let Some(times) = self.times() else { return };
        if times.put_off(slot, span) {
            // The wheel knows of the later one only. It is told even if the entry has left: of the slot's next one it is said
            // that the wheel knows of this.
            let mut write = self.write();
            // What it is now: another read may have made it shorter still, and been here before.
            schedule(&mut write.writer, slot, times.watched(times.deadline(slot)), FOREVER);
            self.close(write).settle_without_waiting();
        }
    }

    /// Counts a read of an entry that was found.
    pub(crate) fn spend(&self, slot: u32) -> Spent {
        self.times().map_or(Spent::No, |times| times.spend(slot))
    }

    /// Removes entries that are over, a few at a time, and lets `settle` do what is due then, until none is left.
    pub(super) fn sweep(&self) {
        while self.times().is_some() {
            let mut write = self.write();
            let is_done = write.sweep(SWEPT_AT_ONCE);
            self.close(write).settle_without_waiting();
            if is_done {
                break;
            }
        }
    }
}

impl Write<'_> {
    /// Sees what time it is, now that it has the lock, and removes some of the entries that are over.
    #[inline]
    pub(super) fn begin(&mut self) {
        if let Some(times) = self.times {
            self.begin_in_time(times);
        }
    }

    #[inline(never)]
    fn begin_in_time(&mut self, times: &Times) {
        let now = times.now();
        match &mut self.writer.clockwork {
            Some(clockwork) => clockwork.now = now,
            None => {
                self.writer.clockwork = Some(Box::new(Clockwork::new(now)));
                times.see_soonest(&mut self.writer);
            }
        }
        if self.writer.clockwork().wheel.may_be_due(now) {
            self.sweep(SWEPT_BY_WRITE);
        }
    }

    /// Removes entries that are over, but looks at `most` at most. Says whether that was all.
    #[inline(never)]
    fn sweep(&mut self, most: usize) -> bool {
        let (Some(times), now) = (self.times, self.writer.now()) else { return true };
        for _ in 0..most {
            let Some(slot) = self.writer.clockwork().wheel.next_due(now) else {
                times.see_soonest(&mut self.writer);
                return true;
            };
            if self.writer.live(slot).is_none() {
                continue;
            }
            let deadline = times.deadline(slot);
            if times.has_ended(slot, deadline, now) && times.is_gone(slot, now) {
                self.take_out_slot(slot, RemovalCause::Expired);
            } else if deadline != FOREVER {
                // One that has just become later is looked at again by the earlier one.
                schedule(&mut self.writer, slot, times.watched(deadline), 0);
            }
        }
        false
    }

    /// The entry in `slot`, if there is one and it is not over; else it goes. What is loaded takes the place of an entry also
    /// if that is over but still good for something.
    #[inline(never)]
    pub(super) fn unless_over(
        &mut self,
        slot: Option<u32>,
        seen: Seen,
        arrival: &mut Arrival<'_>,
    ) -> Option<u32> {
        let slot = slot?;
        if !self.is_over(slot) {
            return Some(slot);
        }
        if matches!(seen, Seen::Loading(_))
            && self.times.is_some_and(|times| !times.is_gone(slot, self.writer.now()))
        {
            // As it is not there for others its pin is not either.
            arrival.pin.get_or_insert(false);
            return Some(slot);
        }
        self.take_out_slot(slot, RemovalCause::Expired);
        None
    }

    /// Why the entry in `slot` leaves if another takes its place now.
    #[inline]
    pub(super) fn cause_over(&mut self, slot: u32) -> RemovalCause {
        if self.times.is_some() && self.is_over(slot) {
            self.writer.clockwork().expired += 1;
            return RemovalCause::Expired;
        }
        RemovalCause::Replaced
    }

    /// Whether the entry in `slot` is over.
    #[inline]
    pub(super) fn is_over(&self, slot: u32) -> bool {
        self.times.is_some_and(|times| {
            // Most often none is, and nobody need look at the deadline.
            let is_early = self.writer.now() < times.soonest.load(Relaxed);
            !is_early && times.is_over_at(slot, || self.writer.now())
        })
    }
}

/// Lets the wheel look at a slot by `deadline`. It did so by `before` or earlier, if at all.
#[inline]
fn schedule(writer: &mut Writer<'_, Core>, slot: u32, deadline: u64, before: u64) {
    if !writer.clockwork().wheel.has_room(slot) {
        make_room_in_wheel(writer);
    }
    writer.clockwork().wheel.schedule(slot, deadline, before);
}

#[cold]
fn make_room_in_wheel(writer: &mut Writer<'_, Core>) {
    let slots = writer.foreseen();
    writer.clockwork().wheel.reserve(slots);
}
