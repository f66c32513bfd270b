//! How much a segment may hold, and how room moves between segments.
//!
//! The cache is bounded by weight, and perhaps by a number of entries. Each segment has a budget of each, within which it keeps
//! the bound alone. Nobody has any at first: segments draw from what is [spare](Pool) as they fill, in portions that get
//! smaller as the pool runs dry. Always, of both:
//!
//! ```text
//! sum of the segments' budgets + what is spare + what is Carried = the bound
//! ```
//!
//! # Nothing is evicted while there is room
//!
//! Budget that a segment has drawn and does not use yet is *loose*. When a segment finds the pool dry, the loose budget of the
//! others is [collected](Moving::end_collection) before the segment evicts. Portions are so small that this happens a few times while a
//! cache fills, and then no more. In a full cache only a thousandth is loose, which segments keep [in
//! hand](Allowance::in_hand): so an entry that takes the place of a removed one seldom needs the pool.
//!
//! # When all is given out
//!
//! A segment that has much less than its *share*, an equal part of the bound, and has to evict, reports that it is hungry. A
//! segment that has much more then evicts one entry more than its newcomer needs, and gives up the room. So budget that heavy
//! entries have moved comes back, one entry at a time. Differences that random hashes explain start no such transfer.
//!
//! An entry that does not fit into its segment even if all others left takes budget from the other segments at once
//! ([`Bank::move_budget`]).

use parking_lot::{Mutex, MutexGuard};
use std::cell::Cell;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU8, AtomicU64};

/// A bound, and the part of it that no segment has. Amounts only: nothing else is ordered by them, so relaxed.
pub(crate) struct Pool {
    bound: AtomicU64,
    spare: AtomicU64,
    segments: u64,
}

impl Pool {
    fn new(bound: u64, segments: usize) -> Self {
        Self { bound: AtomicU64::new(bound), spare: AtomicU64::new(bound), segments: segments as u64 }
    }

    pub(crate) fn bound(&self) -> u64 {
        self.bound.load(Relaxed)
    }

    pub(crate) fn spare(&self) -> u64 {
        self.spare.load(Relaxed)
    }

    /// Returns how much a segment draws at once beside what it needs: so little that the others get their parts.
    fn portion(&self) -> u64 {
        self.spare() / (4 * self.segments)
    }

    /// Takes as much as there is, at most `amount`.
    pub(crate) fn take(&self, amount: u64) -> u64 {
        if self.spare() == 0 {
            return 0;
        }
        let rest = |spare: u64| Some(spare.saturating_sub(amount));
        let spare = self.spare.fetch_update(Relaxed, Relaxed, rest).unwrap_or_else(|spare| spare);
        spare.min(amount)
    }
}

/// The bounds of a cache.
pub(crate) struct Bank {
    pub(crate) weight: Pool,
    /// The number of entries; nothing is spare where it is not bounded.
    pub(crate) places: Pool,
    /// Held while budget moves between segments, so that two heavy entries do not take it from each other endlessly. Taken
    /// before segments' locks, so what user code runs under those, `Eq` of keys and policies, runs under it, too.
    moving: Mutex<()>,
    /// Which of these hold: [`SPARE`], [`MOVING`], [`LOOSE_WEIGHT`], [`LOOSE_PLACES`], [`HUNGRY`]. In one word, since in a full
    /// cache none does.
    state: AtomicU8,
}

/// Something may be spare. Held wherever something is, but for the moment between the two steps of [`Bank::put`].
const SPARE: u8 = 16;
/// Somebody holds `moving`.
const MOVING: u8 = 1;
/// Segments may have drawn more weight than they use. Reset by a collection, while nobody draws.
const LOOSE_WEIGHT: u8 = 2;
/// Segments may have drawn more places than they use.
const LOOSE_PLACES: u8 = 4;
/// A segment with much less than its share has had to evict.
const HUNGRY: u8 = 8;

/// The right to move budget between segments.
///
/// While it is held no segment draws by itself. So budget goes only towards its holder: what a segment does not have when
/// its lock has been taken once it will not get, and what it gives up is spare.
pub(crate) struct Moving<'a> {
    bank: &'a Bank,
    _lock: MutexGuard<'a, ()>,
}

impl Moving<'_> {
    /// Notes that nothing of what was `wanted` is loose, after all segments have given it up.
    pub(crate) fn end_collection(&self, wanted: Amount) {
        self.bank.reset(loose(wanted));
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.bank.reset(MOVING);
    }
}

impl Bank {
    pub(crate) fn new(weight: u64, places: Option<u64>, segments: usize) -> Self {
        Self {
            weight: Pool::new(weight, segments),
            places: Pool::new(places.unwrap_or(0), segments),
            moving: Mutex::new(()),
            state: AtomicU8::new(SPARE),
        }
    }

    #[inline]
    fn is(&self, bits: u8) -> bool {
        self.state.load(Relaxed) & bits != 0
    }

    /// The line stays shared where that is nothing new.
    fn set(&self, bits: u8) {
        if self.state.load(Relaxed) & bits != bits {
            self.state.fetch_or(bits, Relaxed);
        }
    }

    fn reset(&self, bits: u8) {
        self.state.fetch_and(!bits, Relaxed);
    }

    /// Makes some budget spare.
    pub(crate) fn put(&self, amount: Amount) {
        if amount.is_nothing() {
            return;
        }
        // SeqCst, as the two steps of `is_spare`: either this finds that the bit has been reset, or that finds what this adds.
        self.weight.spare.fetch_add(amount.weight, SeqCst);
        self.places.spare.fetch_add(amount.places, SeqCst);
        if self.state.load(SeqCst) & SPARE == 0 {
            self.state.fetch_or(SPARE, SeqCst);
        }
    }

    /// Reports whether something is spare.
    pub(crate) fn is_spare(&self) -> bool {
        let look = || self.weight.spare.load(SeqCst) > 0 || self.places.spare.load(SeqCst) > 0;
        if look() {
            return true;
        }
        self.state.fetch_and(!SPARE, SeqCst);
        let is_spare = look();
        if is_spare {
            self.state.fetch_or(SPARE, SeqCst);
        }
        is_spare
    }

    /// Reports whether no segment can get budget without taking it from others' entries: all of it is in use.
    #[inline]
    pub(crate) fn is_exhausted(&self) -> bool {
        !self.is(!HUNGRY)
    }

    /// Reports whether budget is being moved. Then only its mover draws: it would be taken from the mover otherwise.
    pub(crate) fn is_moving(&self) -> bool {
        self.is(MOVING)
    }

    /// Reports whether other segments may have some of what is missing, and do not use it.
    pub(crate) fn is_loose(&self, missing: Amount) -> bool {
        self.is(loose(missing))
    }

    /// Waits for the right to move budget.
    pub(crate) fn move_budget(&self) -> Moving<'_> {
        let lock = self.moving.lock();
        // Relaxed: a segment that does not see this yet sees it after its lock has been taken by the holder.
        self.set(MOVING);
        Moving { bank: self, _lock: lock }
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.weight.bound()
    }

    /// Sets the capacity. The caller holds the right to move budget, and sees to the budgets.
    pub(crate) fn set_capacity(&self, capacity: u64) {
        self.weight.bound.store(capacity, Relaxed);
    }

    /// Empty hands, to carry budget in.
    pub(crate) fn carry(&self) -> Carried<'_> {
        Carried { bank: self, amount: Amount::default() }
    }
}

/// Some of both budgets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) weight: u64,
    pub(crate) places: u64,
}

impl Amount {
    pub(crate) fn of_weight(weight: u64) -> Self {
        Self { weight, places: 0 }
    }

    pub(crate) fn is_nothing(self) -> bool {
        self == Self::default()
    }

    pub(crate) fn covers(self, wanted: Self) -> bool {
        self.weight >= wanted.weight && self.places >= wanted.places
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            weight: self.weight.saturating_add(other.weight),
            places: self.places.saturating_add(other.places),
        }
    }
}

/// The bits that say that some of an amount is loose.
fn loose(amount: Amount) -> u8 {
    (if amount.weight > 0 { LOOSE_WEIGHT } else { 0 }) | if amount.places > 0 { LOOSE_PLACES } else { 0 }
}

/// A search for room in all segments. Its thread has the right to move budget.
#[derive(Default)]
pub(crate) struct Search {
    /// Whether what was loose has been collected.
    pub(crate) has_collected: Cell<bool>,
    /// Missing budget, if all entries of the segment stay.
    pub(crate) missing: Cell<Amount>,
    /// Missing budget, if all of them leave that may.
    pub(crate) lacking: Cell<Amount>,
}

/// Budget on its way between segments. If it does not arrive, since a policy panics, it is spare.
pub(crate) struct Carried<'a> {
    bank: &'a Bank,
    pub(crate) amount: Amount,
}

impl Carried<'_> {
    /// Takes from what is spare until it has what is `wanted`.
    pub(crate) fn fill(&mut self, wanted: Amount) {
        let Self { bank, amount } = self;
        amount.weight += bank.weight.take(wanted.weight.saturating_sub(amount.weight));
        amount.places += bank.places.take(wanted.places.saturating_sub(amount.places));
    }

    /// Returns what is carried, and what is spare.
    pub(crate) fn with_spare(&self) -> Amount {
        self.amount.plus(Amount { weight: self.bank.weight.spare(), places: self.bank.places.spare() })
    }

    /// Puts down what is more than `wanted`.
    pub(crate) fn put_down(&mut self, wanted: Amount) {
        let Amount { weight, places } = self.amount;
        self.amount = Amount { weight: weight.min(wanted.weight), places: places.min(wanted.places) };
        self.bank.put(Amount { weight: weight - self.amount.weight, places: places - self.amount.places });
    }

    /// Hands it all over.
    pub(crate) fn hand_over(&mut self) -> Amount {
        std::mem::take(&mut self.amount)
    }
}

impl Drop for Carried<'_> {
    fn drop(&mut self) {
        self.put_down(Amount::default());
    }
}

/// A segment's part of a bound.
pub(crate) struct Allowance {
    /// An equal part of the bound.
    pub(crate) share: u64,
    /// The bound of the segment now. Never less than `used`.
    pub(crate) budget: u64,
    pub(crate) used: u64,
    /// The most that may be free at the end of an operation: the portion that was drawn last, or a thousandth of the share,
    /// so that an entry that takes the place of a removed one seldom needs the pool.
    in_hand: u64,
    /// Beyond these the budget is much less or more than the share: four deviations of what random keys make of it.
    poor: u64,
    rich: u64,
}

impl Allowance {
    const UNBOUNDED: Self =
        Self { share: u64::MAX, budget: u64::MAX, used: 0, in_hand: u64::MAX, poor: 0, rich: u64::MAX };

    fn new(share: u64) -> Self {
        let mut new = Self { share: 0, budget: 0, used: 0, in_hand: 0, poor: 0, rich: 0 };
        new.set_share(share);
        new
    }

    fn set_share(&mut self, share: u64) {
        self.share = share;
        self.in_hand = share >> 10;
        let tolerance = (share / 16).max(4 * share.isqrt());
        (self.poor, self.rich) = (share.saturating_sub(tolerance), share.saturating_add(tolerance));
    }

    #[inline]
    pub(crate) fn free(&self) -> u64 {
        self.budget - self.used
    }

    fn take_free(&mut self) -> u64 {
        let free = self.free();
        self.budget = self.used;
        self.in_hand = self.share >> 10;
        free
    }

    /// Draws what `wanted` more needs, and a portion beside it. Takes less if there is less. Reports whether some of it is
    /// loose.
    fn draw(&mut self, pool: &Pool, wanted: u64) -> bool {
        let (missing, portion) = (wanted.saturating_sub(self.free()), pool.portion());
        if missing == 0 {
            return false;
        }
        self.budget += pool.take(missing.saturating_add(portion));
        self.in_hand = portion.max(self.share >> 10);
        self.free() > wanted
    }

    #[inline]
    fn has_surplus(&self) -> bool {
        self.free() > self.in_hand
    }

    #[inline]
    fn is_balanced(&self) -> bool {
        self.budget.wrapping_sub(self.poor) <= self.rich - self.poor
    }

    /// Reports whether it is much less than the share, and cannot be more.
    fn is_hungry(&self, pool: &Pool) -> bool {
        self.budget < self.poor && pool.spare() == 0
    }

    /// Takes what is free and should not be kept in hand.
    fn take_surplus(&mut self, pool: &Pool) -> u64 {
        self.in_hand = pool.portion().max(self.share >> 10);
        self.take_beside(self.in_hand)
    }

    /// Takes what is free beside `kept`.
    fn take_beside(&mut self, kept: u64) -> u64 {
        let surplus = self.free().saturating_sub(kept);
        self.budget -= surplus;
        surplus
    }
}

/// One segment's room, kept under its lock.
pub(crate) struct Room {
    pub(crate) weight: Allowance,
    pub(crate) places: Allowance,
    /// Whether the number of entries is bounded.
    pub(crate) counts_entries: bool,
    /// The part of both that is pinned.
    pub(crate) pinned: Amount,
    /// The budget that the segment has or will have when it is full, for the policy.
    expected: u64,
}

impl Room {
    pub(crate) fn new(weight: u64, places: Option<u64>) -> Self {
        Self {
            weight: Allowance::new(weight),
            places: places.map_or(Allowance::UNBOUNDED, Allowance::new),
            counts_entries: places.is_some(),
            pinned: Amount::default(),
            expected: weight,
        }
    }

    fn bounded_places(&mut self) -> Option<&mut Allowance> {
        self.counts_entries.then_some(&mut self.places)
    }

    /// Whether one more entry fits.
    #[inline]
    pub(crate) fn fits(&self, weight: u64) -> bool {
        weight <= self.weight.free() && (!self.counts_entries || self.places.free() > 0)
    }

    /// Draws what one more entry needs, as far as it is spare.
    pub(crate) fn draw(&mut self, bank: &Bank, wanted: Amount) {
        if self.weight.draw(&bank.weight, wanted.weight) {
            bank.set(LOOSE_WEIGHT);
        }
        if self.bounded_places().is_some_and(|own| own.draw(&bank.places, wanted.places)) {
            bank.set(LOOSE_PLACES);
        }
        self.expect(bank);
    }

    /// Changes the share of the weight.
    pub(crate) fn set_share(&mut self, bank: &Bank, share: u64) {
        self.weight.set_share(share);
        self.expect(bank);
    }

    /// Gives up what is free of what is `wanted`.
    pub(crate) fn collect(&mut self, bank: &Bank, wanted: Amount, carried: &mut Carried<'_>) {
        if wanted.weight > 0 {
            carried.amount.weight += self.weight.take_free();
            self.expect(bank);
        }
        if wanted.places > 0 {
            carried.amount.places += self.places.take_free();
        }
    }

    /// Adapts what the policy may expect.
    pub(crate) fn expect(&mut self, bank: &Bank) {
        self.expected = self.weight.share.min(self.weight.budget.saturating_add(bank.weight.spare()));
    }

    /// Returns what is missing for `more` than is used.
    pub(crate) fn missing(&self, more: Amount) -> Amount {
        Amount {
            weight: more.weight.saturating_sub(self.weight.free()),
            places: more.places.saturating_sub(self.places.free()),
        }
    }

    /// Returns what is missing for an entry if all others leave that may.
    pub(crate) fn lacking(&self, alone: Amount) -> Amount {
        Amount {
            weight: alone.weight.saturating_sub(self.weight.budget - self.pinned.weight),
            places: alone.places.saturating_sub(self.places.budget - self.pinned.places),
        }
    }

    /// Returns what could be given up if all entries left that may.
    pub(crate) fn can_give(&self) -> Amount {
        let places = if self.counts_entries { self.places.budget - self.pinned.places } else { 0 };
        Amount { weight: self.weight.budget - self.pinned.weight, places }
    }

    /// What the policy may fill.
    pub(crate) fn for_policy(&self) -> u64 {
        self.expected.max(self.weight.budget) - self.pinned.weight
    }

    /// Reports whether an entry of `weight` fits if all others leave that may.
    #[inline]
    pub(crate) fn could_hold(&self, weight: u64) -> bool {
        let has_place = !self.counts_entries || self.pinned.places < self.places.budget;
        has_place && weight <= self.weight.budget - self.pinned.weight
    }

    /// Reports whether the segment has about its share.
    #[inline]
    pub(crate) fn is_balanced(&self) -> bool {
        self.weight.is_balanced() && (!self.counts_entries || self.places.is_balanced())
    }

    /// Tells the others if this segment should have more. Reports whether another one needs what this one has more than its share.
    pub(crate) fn should_feed(&self, bank: &Bank) -> bool {
        if self.weight.is_hungry(&bank.weight) || self.places.is_hungry(&bank.places) {
            bank.set(HUNGRY);
        }
        bank.is(HUNGRY) && (self.weight.budget > self.weight.rich || self.places.budget > self.places.rich)
    }

    /// Gives up what is free, but for the room of an entry of `weight` that is about to come.
    pub(crate) fn feed(&mut self, bank: &Bank, weight: u64) {
        let weight = self.weight.take_beside(weight);
        bank.put(Amount { weight, places: self.bounded_places().map_or(0, |own| own.take_beside(1)) });
        bank.reset(HUNGRY);
    }

    #[inline]
    pub(crate) fn has_surplus(&self) -> bool {
        self.weight.has_surplus() || self.places.has_surplus()
    }

    pub(crate) fn give_back(&mut self, bank: &Bank) {
        let weight = self.weight.take_surplus(&bank.weight);
        let places = self.bounded_places().map_or(0, |own| own.take_surplus(&bank.places));
        bank.put(Amount { weight, places });
    }
}

/// The part of `total` for segment `index` of `segments`.
pub(crate) fn share(total: u64, index: usize, segments: usize) -> u64 {
    let (index, segments) = (index as u64, segments as u64);
    total / segments + u64::from(index < total % segments)
}
