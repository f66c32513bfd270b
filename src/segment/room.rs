//! How much a segment may hold, and how room moves between segments.
//!
//! The capacity is split into equal shares, so that a segment can keep its bound alone. Only what does not fit into a
//! segment's share needs more: then other segments give up budget. Always:
//!
//! ```text
//! sum of the segments' budgets + Bank::spare + all that is Carried = capacity
//! ```
//!
//! A segment with more than its share gives the surplus back as entries leave it, and one with less takes from the
//! spare before it evicts.

use parking_lot::{Mutex, MutexGuard};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// The capacity, and the part of it that no segment has. Amounts only: nothing else is ordered by them, so relaxed.
pub(crate) struct Bank {
    capacity: AtomicU64,
    spare: AtomicU64,
    /// Held while budget moves between segments, so that two heavy entries do not take it from each other endlessly. Taken
    /// before segments' locks, so what user code runs under those, `Eq` of keys and policies, runs under it, too.
    moving: Mutex<()>,
    /// Whether somebody holds `moving`.
    is_moving: AtomicBool,
}

/// The right to move budget between segments.
///
/// While it is held no segment takes from the spare by itself. So budget goes only towards its holder: what a segment does
/// not have when its lock has been taken once it will not get, and what it gives up is in the spare.
pub(crate) struct Moving<'a> {
    bank: &'a Bank,
    _lock: MutexGuard<'a, ()>,
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.bank.is_moving.store(false, Relaxed);
    }
}

impl Bank {
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            capacity: AtomicU64::new(capacity),
            spare: AtomicU64::new(0),
            moving: Mutex::new(()),
            is_moving: AtomicBool::new(false),
        }
    }

    /// Waits for the right to move budget.
    pub(crate) fn move_budget(&self) -> Moving<'_> {
        let lock = self.moving.lock();
        // Relaxed: a segment that does not see this yet sees it after its lock has been taken by the holder.
        self.is_moving.store(true, Relaxed);
        Moving { bank: self, _lock: lock }
    }

    /// Reports whether budget is being moved, so that segments take none by themselves.
    pub(crate) fn is_moving(&self) -> bool {
        self.is_moving.load(Relaxed)
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity.load(Relaxed)
    }

    /// Sets the capacity. The caller holds the right to move budget, and sees to the budgets.
    pub(crate) fn set_capacity(&self, capacity: u64) {
        self.capacity.store(capacity, Relaxed);
    }

    pub(crate) fn put(&self, amount: u64) {
        self.spare.fetch_add(amount, Relaxed);
    }

    /// Takes as much as there is, at most `amount`.
    pub(crate) fn take(&self, amount: u64) -> u64 {
        if self.spare.load(Relaxed) == 0 {
            return 0;
        }
        let rest = |spare: u64| Some(spare.saturating_sub(amount));
        let spare = self.spare.fetch_update(Relaxed, Relaxed, rest).unwrap_or_else(|spare| spare);
        spare.min(amount)
    }

    pub(crate) fn spare(&self) -> u64 {
        self.spare.load(Relaxed)
    }

    /// Empty hands, to carry budget in.
    pub(crate) fn carry(&self) -> Carried<'_> {
        Carried { bank: self, amount: 0 }
    }
}

/// Budget on its way between segments. If it does not arrive, since a policy panics, it goes to the spare.
pub(crate) struct Carried<'a> {
    bank: &'a Bank,
    pub(crate) amount: u64,
}

impl Carried<'_> {
    /// Takes from the spare until it has `wanted`.
    pub(crate) fn fill(&mut self, wanted: u64) {
        self.amount += self.bank.take(wanted - self.amount);
    }

    /// Hands it all over.
    pub(crate) fn hand_over(&mut self) -> u64 {
        std::mem::take(&mut self.amount)
    }
}

impl Drop for Carried<'_> {
    fn drop(&mut self) {
        self.bank.put(self.amount);
    }
}

/// One segment's room, kept under its lock.
pub(crate) struct Room {
    /// What the segment is entitled to.
    pub(crate) share: u64,
    /// What its entries may weigh together now. Never less than `weight`.
    pub(crate) budget: u64,
    pub(crate) weight: u64,
    /// The part of `weight` that is pinned.
    pub(crate) pinned: u64,
    pub(crate) len: usize,
    pub(crate) max_len: usize,
}

impl Room {
    pub(crate) fn new(share: u64, max_len: usize) -> Self {
        Self { share, budget: share, weight: 0, pinned: 0, len: 0, max_len }
    }

    /// Whether one more entry fits.
    #[inline]
    pub(crate) fn fits(&self, weight: u64) -> bool {
        weight <= self.budget - self.weight && self.len < self.max_len
    }

    /// What is missing for `weight` more.
    pub(crate) fn missing(&self, weight: u64) -> u64 {
        weight.saturating_sub(self.budget - self.weight)
    }

    /// What is missing for an entry of `weight` even if all others left that may.
    pub(crate) fn lacking(&self, weight: u64) -> u64 {
        weight.saturating_sub(self.for_policy())
    }

    /// What the policy may fill.
    pub(crate) fn for_policy(&self) -> u64 {
        self.budget - self.pinned
    }
}

/// The part of `total` for segment `index` of `segments`.
pub(crate) fn share(total: u64, index: usize, segments: usize) -> u64 {
    let (index, segments) = (index as u64, segments as u64);
    total / segments + u64::from(index < total % segments)
}
