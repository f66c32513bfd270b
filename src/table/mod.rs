//! The table: entries that are found without a lock and written under one. The only room with unsafe code.
//!
//! # The pieces
//!
//! [`cells`] holds the entries in cells that never move, [`index`] leads from a hash to a cell, [`hazard`] and [`limbo`]
//! say when a cell that was taken out may be used again. A [`column`] holds one more number for each slot. This module puts a
//! safe face on them, in two parts: a [`Table`] knows the types of keys and values and does what needs them; a [`Writer`],
//! which holds the lock, does all else and is compiled once for all types.
//!
//! # The life of an entry
//!
//! ```text
//! Table::publish ──> in the index ──> Writer::take_out ──> departing ──> Writer::retire ──> limbo
//!                    readers find it  Table::replace       the listener                     (if there is no listener, at once)
//! free <── Writer::recycle <── Table::drop_spent <── Spent <── Writer::spent <── Table::scan: no hazard names it
//!          under the lock      outside the lock
//! ```
//!
//! Slots on their way out are owned by a token when the lock is not held ([`Departures`], [`Spent`]). A token that is
//! lost (a panic) leaks its slots until the table is dropped, which drops their entries: nothing is freed twice or unseen.
//!
//! # Why a reader is safe
//!
//! A reader that looks at an entry holds a [`Found`], and thus a hazard that names its cell.
//!
//! 1. It stores the hazard, and then validates that the entry has not been made unreachable: the cell is live
//!    ([`Table::glance`]), or its slot is in the index ([`Table::find`]). A writer ends both before it draws the ticket (`hazard`: 1).
//!    The holder of the lock need not validate: the entry is live, and leaves under the same lock, later ([`Table::found`]).
//! 2. So the cell is not used again, nor its entry dropped, until the hazard is gone (`hazard`).
//! 3. The entry is written before the slot's number is stored in the index, and before the cell is made live, both Release;
//!    the reader has loaded one of these, Acquire. After that nobody writes to the entry until it is dropped.
//! 4. The memory is there. Cells of the first block stay as long as the table. A far block is given back when all its cells are
//!    free, and another block may come for the same slots, at the same address or not. So the reader of a far cell loads the
//!    number of [trims](Cells::trims) (a), the cell's address (b), stores the hazard, finds the slot in the index (c), and then
//!    finds the address (d) and the number of trims (e) as they were. Let `B` be the block of the entry found at c. Its pointer
//!    was stored before the entry was put in, so d reads that pointer, and the hazard names the entry's cell; or a later one at
//!    the same address. Then e sees the trim of `B`, which came before that block, and so did a, which read the same number; but
//!    a reader that has seen the trim of `B` does not find an entry of `B` at c, since all had left before. (Each of the five
//!    is an Acquire load, in this order.)
//!
//! # What a reader sees
//!
//! An entry is in the index before it is live, and is not live before it leaves. So a [`glance`](Table::glance) that finds a
//! live entry finds what was in the index at that moment, although it may have followed a slot number that was stale; and no
//! later reader misses an entry that an earlier one has found, unless it was removed in between.

#![allow(unsafe_code)]

mod cells;
mod column;
mod hazard;
mod index;
mod kernel;
mod limbo;
#[cfg(all(test, larder_loom))]
mod model;
mod spread;
mod writer;
mod zeroed;

pub(crate) use cells::Cells;
#[cfg(test)]
pub(crate) use cells::Headers;
pub(crate) use column::Column;
pub(crate) use hazard::Ticket;
pub(crate) use index::Unsure;
pub(crate) use kernel::coarse_nanos;
pub(crate) use limbo::Scan;
pub(crate) use spread::Spread;
pub(crate) use writer::{Left, Live, Queue, Sizing, Unlinked, Writer};

use crate::removal::RemovalCause;
use cells::Cell;
use hazard::{Hazard, Quick};
use index::Look;
use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::Relaxed;
use writer::{Departures, NOTED, Spent, Store};

/// Entries with keys `K` and values `V`; `X` is what else the lock guards.
pub(crate) struct Table<K, V, X> {
    store: Store<X>,
    /// It drops entries, gives references to them to any thread, and takes in new ones through `&self`: so it must not be
    /// one of any other types.
    _entries: PhantomData<UnsafeCell<(K, V)>>,
}

/// An entry that was found. As long as this lives, the slot is not used for another one.
pub(crate) struct Found<'t, K, V> {
    slot: u32,
    held: Held<'t, K, V>,
}

/// The cell of an entry that was found, in two words, so that a function can be given it in registers.
pub(crate) struct Held<'t, K, V> {
    cell: &'t Cell<K, V>,
    _hazard: Hazard,
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

    /// Returns the entry whose key has this hash and `matches`.
    pub(crate) fn find(&self, hash: u64, matches: impl Fn(&K) -> bool) -> Option<Found<'_, K, V>> {
        match self.glance(hash, &matches) {
            Ok(found) => found,
            Err(Unsure) => self.look(hash, matches),
        }
    }

    /// Returns what [`find`](Self::find) does, where a [`glance`](Self::glance) has given up.
    #[inline(never)]
    pub(crate) fn look(&self, hash: u64, matches: impl Fn(&K) -> bool) -> Option<Found<'_, K, V>> {
        let cells = &self.store.cells;
        let hazard = Hazard::claim();
        let (slot, cell) = self.store.index.find(hash, |spot| {
            let trims = cells.trims();
            let Some(address) = cells.address(spot.slot) else { return Look::Changed };
            hazard.protect(address);
            // In this order: see 4. at the top of this module.
            if !spot.is_unchanged() || cells.address(spot.slot) != Some(address) || cells.trims() != trims {
                return Look::Changed;
            }
            // SAFETY: as in `cell`; the hazard names the cell, so it is not free, nor is its block given back: 4. at the top.
            let cell = unsafe { cells.cell_at(address) };
            // SAFETY: held, and not dropped as long as the hazard names it: 1. to 4. at the top of this module.
            let (key, _): &(K, V) = unsafe { cell.entry() };
            if matches(key) { Look::Found((spot.slot, cell)) } else { Look::Another }
        })?;
        Some(Found::new(slot, cell, hazard))
    }

    /// As [`find`](Self::find), but gives up where that would take longer than usual.
    #[inline(always)]
    pub(crate) fn glance(
        &self,
        hash: u64,
        matches: impl Fn(&K) -> bool,
    ) -> Result<Option<Found<'_, K, V>>, Unsure> {
        let quick = Quick::get().ok_or(Unsure)?;
        self.store.index.glance(hash, |slot| {
            // SAFETY: as in `cell`.
            let cell = unsafe { self.store.cells.near(slot) }.ok_or(Unsure)?;
            let hazard = quick.protect(std::ptr::from_ref(cell).cast());
            if !cell.header().is_live() {
                return Err(Unsure);
            }
            let found = Found::new(slot, cell, hazard);
            if matches(&found.entry().0) { Ok(found) } else { Err(Unsure) }
        })
    }

    /// Numbers for the slots, all 0.
    pub(crate) fn column(&self) -> Column {
        Column::new(self.store.cells.first_room() as u32)
    }

    /// Reports whether a read of the entry leaves nothing to do: its mark is as high as reads raise it, and
    /// [`note_reads`](Self::note_reads) was not called before the entry was added.
    #[inline(always)]
    pub(crate) fn is_read(&self, found: &Found<'_, K, V>) -> bool {
        found.held.cell.header().mark() >= self.store.read_from.load(Relaxed)
    }

    /// Reports whether a read of an entry does more than to raise its mark.
    #[inline(always)]
    pub(crate) fn notes_reads(&self) -> bool {
        self.store.read_from.load(Relaxed) == NOTED
    }

    /// From now on reads of entries that are added do more than to raise marks.
    pub(crate) fn note_reads(&self) {
        // Relaxed: a reader that finds an entry sees what was stored before the entry was added.
        self.store.read_from.store(NOTED, Relaxed);
    }

    /// Marks an entry as read.
    #[inline(always)]
    pub(crate) fn mark(&self, found: &Found<'_, K, V>) {
        found.held.cell.header().raise_mark(self.store.mark_limit);
    }

    /// Lets the processor fetch what a search for this hash looks at first.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        self.store.index.prefetch(hash);
    }

    #[inline]
    pub(crate) fn lock(&self) -> Writer<'_, X> {
        Writer { store: &self.store, books: self.store.books.lock(), has_queued: false }
    }

    pub(crate) fn try_lock(&self) -> Option<Writer<'_, X>> {
        Some(Writer { store: &self.store, books: self.store.books.try_lock()?, has_queued: false })
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
        let header = unsafe { self.store.cells.fill(slot, hash, entry()) };
        // In this order: a live entry is in the index.
        writer.enlist(hash, slot);
        header.publish();
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
        let header = unsafe { self.store.cells.fill(slot, before.hash(), entry()) };
        header.set_mark(before.mark());
        header.set_pinned(before.is_pinned());
        // In this order, as for one that comes and one that leaves.
        let hash = before.hash();
        before.end(cause);
        self.store.index.replace(&writer.books.index, hash, old, slot);
        header.publish();
        (slot, Unlinked { slot: old, store: self.store.id() })
    }

    /// Lets the listener hear of an entry that does not get in, after those that have left. For `entry` see
    /// [`publish`](Self::publish).
    pub(crate) fn refuse(
        &self,
        writer: &mut Writer<'_, X>,
        entry: impl FnOnce() -> (K, V),
        weight: u64,
        cause: RemovalCause,
    ) {
        self.store.check(writer.store.id());
        let slot = writer.take();
        // SAFETY: as in `publish`.
        let header = unsafe { self.store.cells.fill(slot, 0, entry()) };
        header.end(cause);
        writer.push_departed(slot, header, weight);
    }

    /// Returns the entry of a slot, if it is live. It can be read after the lock is released.
    pub(crate) fn found(&self, writer: &Writer<'_, X>, slot: u32) -> Option<Found<'_, K, V>> {
        self.store.check(writer.store.id());
        writer.live(slot)?;
        let (hazard, cell) = (Hazard::claim(), self.cell(slot));
        hazard.protect(std::ptr::from_ref(cell).cast());
        Some(Found::new(slot, cell, hazard))
    }

    /// Lets the ticket pass up to which an operation has to reclaim, and looks at which entries readers are looking. Call it
    /// without the lock. `None` if the ticket cannot pass.
    pub(crate) fn scan(&self, ticket: Ticket) -> Option<Scan> {
        Scan::after(ticket, &self.store.cells)
    }

    /// The entries that have left, for the listener.
    pub(crate) fn departed<'a>(
        &'a self,
        departures: &'a Departures,
    ) -> impl Iterator<Item = (&'a K, &'a V, RemovalCause)> {
        self.store.check_departures(departures);
        // SAFETY: as in `cell`; the chain is one of departures.
        unsafe { self.store.cells.departed(&departures.slots.chain) }
    }

    /// Drops the entries that a scan shows to be of no reader, and makes their slots free. Call it without the lock.
    pub(crate) fn reclaim(&self, scan: &Scan) {
        let mut writer = self.lock();
        writer.sort_out(scan);
        // A few at a time: they are out of the reach of others while they are dropped.
        while let Some(mut spent) = writer.spent() {
            drop(writer);
            self.drop_spent(&mut spent);
            writer = self.lock();
            writer.recycle(spent);
        }
    }

    /// Drops keys and values. Panics of their `Drop` are contained.
    fn drop_spent(&self, spent: &mut Spent) {
        self.store.check(spent.store);
        // SAFETY: as in `cell`. A `Spent` is made by `Writer::spent` only, of slots whose ticket has passed and that no
        // hazard named after that: 2. at the top of this module.
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

impl<'t, K, V> Found<'t, K, V> {
    #[inline(always)]
    fn new(slot: u32, cell: &'t Cell<K, V>, hazard: Hazard) -> Self {
        Self { slot, held: Held { cell, _hazard: hazard } }
    }

    /// Takes it apart, to be [joined](Self::join) again on the other side of a call.
    #[inline(always)]
    pub(crate) fn split(self) -> (u32, Held<'t, K, V>) {
        (self.slot, self.held)
    }

    /// Undoes [`split`](Self::split).
    #[inline(always)]
    pub(crate) fn join(slot: u32, held: Held<'t, K, V>) -> Self {
        Self { slot, held }
    }

    #[inline]
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }

    /// Reports whether the entry can be found, as far as what its writers did before is seen.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.held.cell.header().is_live()
    }

    /// Reports whether the entry has left.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.held.cell.header().has_ended()
    }

    #[inline]
    pub(crate) fn entry(&self) -> &(K, V) {
        // SAFETY: found, and the hazard lives: 1. to 4. at the top of this module.
        unsafe { self.held.cell.entry() }
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

#[cfg(all(test, not(larder_loom)))]
mod tests {
    use super::*;

    /// Miri, too, runs the code of a quick look: there its barrier is a fence.
    #[test]
    fn a_quick_look_finds_what_is_there() {
        let table = Table::new(Sizing { initial: 1, expected: 0 }, false, Some(0), ());
        let hash = 7 << 16;
        table.publish(&mut table.lock(), hash, || (1, String::from("one")), |_, _| ());
        let matches = |key: &i32| *key == 1;
        assert_eq!(table.find(hash, matches).map(|found| found.entry().1.len()), Some(3));
        // The thread has a record now.
        match table.glance(hash, matches) {
            // A sandbox may forbid barriers, and then there are no quick looks.
            Err(Unsure) if kernel::COULD_HELP => return,
            found => assert_eq!(found.ok().flatten().map(|found| found.entry().1.len()), Some(3)),
        }
        assert!(matches!(table.glance(9 << 16, matches), Ok(None)));
        assert!(table.glance(hash, |_| false).is_err(), "another key says nothing");
    }
}
