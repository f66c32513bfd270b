//! The table: entries that are found without a lock and written under one. The only room with unsafe code.
//!
//! # The pieces
//!
//! [`cells`] holds the entries in cells that never move, [`index`] leads from a hash to a cell, [`reclaim`] says when
//! a cell that was taken out may be used again. A [`column`] holds one more number for each. This module puts a safe face on them, in two parts: a [`Table`] knows
//! the types of keys and values and does what needs them; a [`Writer`], which holds the lock, does all else and is
//! compiled once for all types.
//!
//! # The life of an entry
//!
//! ```text
//! Table::publish ──> in the index ──> Writer::take_out ──> departing ──> Writer::retire ──> open batch ──> sealed
//!                    readers find it  Table::replace       the listener                     (if there is no listener,
//!                                                                                            at once)
//! free <── Writer::recycle <── Table::drop_spent <── Spent <── Writer::spent <── its readers have gone
//!          under the lock      outside the lock
//! ```
//!
//! Slots on their way out are owned by a token when the lock is not held ([`Departures`], [`Spent`]). A token that is
//! lost (a panic) leaks its slots until the table is dropped, which drops their entries: nothing is freed twice or unseen.
//!
//! # Why a reader is safe
//!
//! 1. It finds a slot's number in the index, under a guard. Whatever was written into the cell before the number was
//!    stored is seen (`index`: orderings).
//! 2. The cell's entry is neither moved nor written while its number is in the index.
//! 3. Once the number is out of the index the slot waits in a batch, and a batch is spent only after all guards that
//!    existed when it was sealed are gone. A guard made later cannot find the number.
//!
//! How many slots wait is bounded by [`Waiting`]: when they are too many, the operation that noticed presses for news of
//! the readers. Only a reader that stays under its guard keeps more waiting; and a sandbox that forbids `membarrier` once
//! it has been used (`reclaim`): from then on no batch is ever spent.

#![allow(unsafe_code)]

mod cells;
mod column;
mod index;
mod kernel;
mod reclaim;
mod writer;
mod zeroed;

pub(crate) use cells::Cells;
#[cfg(test)]
pub(crate) use cells::Headers;
pub(crate) use column::Column;
pub(crate) use index::Unsure;
pub(crate) use kernel::coarse_nanos;
pub(crate) use reclaim::{Guard, pin, press, press_in_turn, try_pin};
pub(crate) use writer::{Departures, Due, Live, Sizing, Spent, Unlinked, Writer};

use crate::removal::RemovalCause;
use cells::Cell;
use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use writer::Store;

/// Entries with keys `K` and values `V`; `X` is what else the lock guards.
pub(crate) struct Table<K, V, X> {
    store: Store<X>,
    /// It drops entries, gives references to them to any thread, and takes in new ones through `&self`: so it must not be
    /// one of any other types.
    _entries: PhantomData<UnsafeCell<(K, V)>>,
}

/// An entry found under a guard.
pub(crate) struct Found<'g, K, V> {
    slot: u32,
    cell: &'g Cell<K, V>,
}

// SAFETY: 1. `&Table` gives `&K` and `&V` to any thread, and drops in one thread what another has put in: both are
// Send and Sync. 2. `X` is reached under the lock only: Send is enough. 3. The raw pointers inside are names of the
// store, never followed.
unsafe impl<K: Send + Sync, V: Send + Sync, X: Send> Sync for Table<K, V, X> {}
// SAFETY: as above; moving the table moves no cell.
unsafe impl<K: Send + Sync, V: Send + Sync, X: Send> Send for Table<K, V, X> {}

impl<K, V, X> Table<K, V, X> {
    /// If it `is_heard`, entries that leave are handed out by [`Writer::close`] and come back with
    /// [`Writer::retire`]. A read raises an entry's mark up to `mark_limit`; `None` if to read takes more than that, so that
    /// all of [`glance`](Self::glance)'s answers are [`Unsure`].
    pub(crate) fn new(sizing: Sizing, is_heard: bool, mark_limit: Option<u8>, guarded: X) -> Self {
        let needs_drop = std::mem::needs_drop::<(K, V)>();
        let store =
            Store::new(Layout::new::<Cell<K, V>>(), needs_drop, sizing, is_heard, mark_limit, guarded);
        Self { store, _entries: PhantomData }
    }

    #[inline(always)]
    fn cell(&self, slot: u32) -> &Cell<K, V> {
        // SAFETY: this table's cells were made in `new` for these types.
        unsafe { self.store.cells.cell(slot) }
    }

    /// The entry whose key is `hash`ed so and `matches`.
    pub(crate) fn find<'g>(
        &'g self,
        guard: &'g Guard,
        hash: u64,
        matches: impl Fn(&K) -> bool,
    ) -> Option<Found<'g, K, V>> {
        self.store.index.find(guard, hash, |slot| {
            let found = Found { slot, cell: self.cell(slot) };
            matches(&found.entry().0).then_some(found)
        })
    }

    /// As [`find`](Self::find), but gives up where that would take longer than usual.
    #[inline(always)]
    pub(crate) fn glance<'g>(
        &'g self,
        guard: &'g Guard,
        hash: u64,
        matches: impl Fn(&K) -> bool,
    ) -> Result<Option<Found<'g, K, V>>, Unsure> {
        self.store.index.glance(guard, hash, move |slot| {
            // SAFETY: as in `cell`.
            let cell = unsafe { self.store.cells.near(slot) }.ok_or(Unsure)?;
            let found = Found { slot, cell };
            Ok(matches(&found.entry().0).then_some(found))
        })
    }

    /// Numbers for the slots, all 0.
    pub(crate) fn column(&self) -> Column {
        Column::new(self.store.cells.first_room() as u32)
    }

    /// Marks an entry as read.
    #[inline(always)]
    pub(crate) fn mark(&self, found: &Found<'_, K, V>) {
        found.cell.header().raise_mark(self.store.mark_limit);
    }

    /// Lets the processor fetch what a search for this hash looks at first.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        self.store.index.prefetch(hash);
    }

    #[inline]
    pub(crate) fn lock(&self) -> Writer<'_, X> {
        Writer { store: &self.store, books: self.store.books.lock() }
    }

    pub(crate) fn try_lock(&self) -> Option<Writer<'_, X>> {
        Some(Writer { store: &self.store, books: self.store.books.try_lock()? })
    }

    /// As [`find`](Self::find), for the holder of this table's lock.
    #[inline(always)]
    pub(crate) fn find_locked(
        &self,
        writer: &Writer<'_, X>,
        hash: u64,
        matches: impl Fn(&K) -> bool,
    ) -> Option<u32> {
        self.store.check(writer.store.id());
        // SAFETY: found in the index: held. It leaves the index under the lock, which the caller has.
        let is_match = |slot| matches(&unsafe { self.cell(slot).entry() }.0);
        self.store.index.find_locked(&writer.books.index, hash, |slot| is_match(slot).then_some(slot))
    }

    /// The slot of an entry whose header has this hash, for the holder of this table's lock.
    #[cfg_attr(not(feature = "serde"), allow(dead_code, reason = "only snapshots need it"))]
    pub(crate) fn find_by_hash(&self, writer: &Writer<'_, X>, hash: u64) -> Option<u32> {
        self.store.check(writer.store.id());
        let is_it = |slot| writer.live(slot).is_some_and(|live| live.header().hash() == hash);
        self.store.index.find_locked(&writer.books.index, hash, |slot| is_it(slot).then_some(slot))
    }

    /// Adds an entry whose key is not in the table.
    ///
    /// It is asked for when there is a place for it, so that it is not dropped here, under the lock, if there is none.
    /// `entry` must not panic: that would lose the place. `prepare` sees the slot before readers can.
    #[inline(always)]
    pub(crate) fn publish(
        &self,
        writer: &mut Writer<'_, X>,
        hash: u64,
        entry: impl FnOnce() -> (K, V),
        prepare: impl FnOnce(&mut Writer<'_, X>, u32),
    ) -> u32 {
        self.store.check(writer.store.id());
        let slot = writer.take();
        prepare(writer, slot);
        // SAFETY: just taken; and as in `cell`.
        unsafe { self.store.cells.fill(slot, hash, entry()) };
        writer.enlist(hash, slot);
        slot
    }

    /// Puts a new entry in the place of the live `old`, which leaves because of `cause`. The mark and the pin go with the place.
    /// For `entry` and `prepare` see [`publish`](Self::publish).
    pub(crate) fn replace(
        &self,
        writer: &mut Writer<'_, X>,
        old: u32,
        cause: RemovalCause,
        entry: impl FnOnce() -> (K, V),
        prepare: impl FnOnce(&mut Writer<'_, X>, u32),
    ) -> (u32, Unlinked) {
        self.store.check(writer.store.id());
        let before = writer.header(old);
        assert!(before.is_live(), "slot {old} has no entry");
        let slot = writer.take();
        prepare(writer, slot);
        // SAFETY: as in `publish`.
        unsafe { self.store.cells.fill(slot, before.hash(), entry()) };
        let header = writer.header(slot);
        header.set_mark(before.mark());
        header.set_pinned(before.is_pinned());
        self.store.index.replace(&writer.books.index, before.hash(), old, slot);
        before.end(cause);
        (slot, Unlinked { slot: old, store: self.store.id() })
    }

    /// The entry of a slot that is live. It can be read after the lock is released, as long as the guard lives.
    pub(crate) fn found<'g>(
        &'g self,
        _pinned: &'g Guard,
        writer: &Writer<'_, X>,
        slot: u32,
    ) -> Option<Found<'g, K, V>> {
        self.store.check(writer.store.id());
        // For what `Found` promises: what is live now is retired later than now, so its batch waits for the guard.
        writer.live(slot).map(|_| Found { slot, cell: self.cell(slot) })
    }

    /// The entries that have left, for the listener.
    pub(crate) fn departed<'a>(
        &'a self,
        departures: &'a Departures,
    ) -> impl Iterator<Item = (&'a K, &'a V, RemovalCause)> {
        self.store.check_departures(departures);
        // SAFETY: as in `cell`; the chain is one of departures.
        unsafe { self.store.cells.departed(&departures.chain) }
    }

    /// Drops keys and values. Panics of their `Drop` are contained.
    pub(crate) fn drop_spent(&self, spent: &mut Spent) {
        self.store.check(spent.store);
        // SAFETY: as in `cell`. A `Spent` is made by `Writer::spent` only, from batches whose readers have gone: 3. at the
        // top of this module. What is live is in the index, but for the time between `fill` and `enlist`. Should a panic
        // there leave it so, then readers can have it from `found` only, whose guards the batch has waited for, too.
        unsafe { self.store.cells.drop_entries::<K, V>(&mut spent.chain) };
    }
}

impl<K, V, X> Drop for Table<K, V, X> {
    fn drop(&mut self) {
        let books = self.store.books.get_mut();
        // SAFETY: as in `cell`. `&mut self`: no reader and no writer is left.
        unsafe { self.store.cells.drop_all::<K, V>(&mut books.cells) };
    }
}

impl<K, V> Found<'_, K, V> {
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }

    /// Whether the entry has not left, as far as what its writers did before is seen.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.cell.header().is_live()
    }
}

impl<'g, K, V> Found<'g, K, V> {
    #[inline]
    pub(crate) fn entry(&self) -> &'g (K, V) {
        // SAFETY: found under a guard that outlives 'g: 1. to 3. at the top of this module.
        unsafe { self.cell.entry() }
    }
}

/// Lets the processor fetch the line that a pointer leads to. Does nothing else, whatever the pointer.
#[inline]
fn prefetch<T>(pointer: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: it needs SSE, which every x86-64 processor has, and never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(pointer.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = pointer;
}
