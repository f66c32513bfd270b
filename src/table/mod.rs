//! The table: entries that are found without a lock and written under one. The only room with unsafe code.
//!
//! # The pieces
//!
//! [`cells`] holds the entries in cells that never move, [`index`] leads from a hash to a cell, [`reclaim`] says when
//! a cell that was taken out may be used again. This module puts a safe face on them, in two parts: a [`Table`] knows
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
//! the readers. Only a reader that stays under its guard keeps more waiting.

#![allow(unsafe_code)]

mod cells;
mod index;
mod reclaim;

#[cfg(test)]
pub(crate) use cells::Headers;
pub(crate) use cells::{Cells, Header};
pub(crate) use index::Unsure;
pub(crate) use reclaim::{Guard, pin, press, press_in_turn, try_pin};

use crate::removal::RemovalCause;
use cells::{Cell, CellBooks, Chain};
use crossbeam_utils::CachePadded;
use index::{Index, IndexBooks};
use parking_lot::{Mutex, MutexGuard};
use reclaim::Ticket;
use std::alloc::Layout;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// What a table is expected to hold, so that its memory can grow in fitting steps.
#[derive(Clone, Copy)]
pub(crate) struct Sizing {
    /// Entries to have room for from the start.
    pub(crate) initial: usize,
    /// Entries in the end; 0 if that is not known.
    pub(crate) expected: usize,
}

/// The index is made for at most so many entries before there are any: 16 MiB.
const MOST_RESERVED: usize = 1 << 21;

/// Entries with keys `K` and values `V`; `X` is what else the lock guards.
pub(crate) struct Table<K, V, X> {
    store: Store<X>,
    /// It drops entries, and gives references to them to any thread.
    _entries: PhantomData<(K, V)>,
}

/// A table as far as the types of its entries do not matter.
#[repr(C)]
struct Store<X> {
    // What a search needs stands together.
    index: Index,
    cells: Cells,
    /// Whether entries that leave are handed out, for a listener, before they wait for their readers.
    is_heard: bool,
    needs_drop: bool,
    waiting: Waiting,
    /// Slots to have before more are taken from fresh memory without looking hard for spent ones.
    expected_slots: usize,
    books: CachePadded<Mutex<Books<X>>>,
}

struct Books<X> {
    guarded: X,
    index: IndexBooks,
    cells: CellBooks,
    /// Entries that have left and were not handed out yet.
    departing: Departures,
    /// The batch that is being filled.
    open: Departures,
    /// A table of the index has been replaced, and waits.
    index_waits: bool,
    sealed: VecDeque<Batch>,
    /// Slots and weight in the sealed batches.
    sealed_slots: u32,
    sealed_weight: u64,
    /// Sealed slots at which it is time to press again.
    next_press: u32,
}

struct Batch {
    ticket: Ticket,
    slots: Departures,
}

/// How much may wait for its readers before something is done about it.
#[derive(Clone, Copy)]
struct Waiting {
    /// Slots in a batch.
    batch: u32,
    /// Slots in all batches.
    most: u32,
}

impl Waiting {
    /// A small part of the table, so that what waits hardly counts beside what lives, but enough to share the price of
    /// asking for readers among many.
    fn new(expected: usize) -> Self {
        let most =
            if expected == 0 { 128 } else { (expected / 4).min((expected / 32).clamp(64, 512)).max(4) };
        Self { batch: most as u32 / 4, most: most as u32 }
    }
}

/// A slot whose entry can be found, as it was when this was made.
#[derive(Clone, Copy)]
pub(crate) struct Live<'a> {
    slot: u32,
    header: &'a Header,
    store: *const (),
}

impl Live<'_> {
    #[inline]
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        self.header
    }
}

/// A slot that is not in the index any more.
#[must_use]
pub(crate) struct Unlinked {
    slot: u32,
    store: *const (),
}

/// Entries that have left the table.
#[must_use]
pub(crate) struct Departures {
    chain: Chain,
    /// What they weigh together.
    weight: u64,
    store: *const (),
}

/// Entries that nobody can see any more and whose keys and values wait to be dropped, outside the lock.
#[must_use]
pub(crate) struct Spent {
    chain: Chain,
    store: *const (),
}

/// What is due once the lock is released.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    Nothing,
    /// [`Writer::spent`], since its readers may have gone.
    Collect,
    /// The same after [`press`], since too much waits.
    Press,
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
    /// [`Writer::retire`]. If it `has_glances`, not all of [`glance`](Self::glance)'s answers are [`Unsure`].
    pub(crate) fn new(sizing: Sizing, is_heard: bool, has_glances: bool, guarded: X) -> Self {
        let Sizing { initial, expected } = sizing;
        let waiting = Waiting::new(expected);
        let expected_slots =
            if expected == 0 { 0 } else { expected + (waiting.most + 3 * waiting.batch) as usize };
        // As for the cells: what is known to be needed in the end is reserved at once, and taken when it is used.
        let (index, index_books) = Index::new(initial.max(expected.min(MOST_RESERVED)), has_glances);
        let (cells, cell_books) = Cells::new(Layout::new::<Cell<K, V>>(), expected_slots);
        let books = Books {
            guarded,
            index: index_books,
            cells: cell_books,
            departing: Departures::none(),
            open: Departures::none(),
            index_waits: false,
            sealed: VecDeque::new(),
            sealed_slots: 0,
            sealed_weight: 0,
            next_press: 0,
        };
        let store = Store {
            index,
            cells,
            is_heard,
            needs_drop: std::mem::needs_drop::<(K, V)>(),
            waiting,
            expected_slots,
            books: CachePadded::new(Mutex::new(books)),
        };
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

    /// Adds an entry whose key is not in the table.
    #[inline(always)]
    pub(crate) fn publish(&self, writer: &mut Writer<'_, X>, hash: u64, entry: (K, V)) -> u32 {
        self.store.check(writer.store.id());
        let slot = writer.take();
        // SAFETY: just taken; and as in `cell`.
        unsafe { self.store.cells.fill(slot, hash, entry) };
        writer.enlist(hash, slot);
        slot
    }

    /// Puts a new entry in the place of the live `old`. The mark and the pin go with the place.
    pub(crate) fn replace(&self, writer: &mut Writer<'_, X>, old: u32, entry: (K, V)) -> (u32, Unlinked) {
        self.store.check(writer.store.id());
        let before = writer.header(old);
        assert!(before.is_live(), "slot {old} has no entry");
        let slot = writer.take();
        // SAFETY: as in `publish`.
        unsafe { self.store.cells.fill(slot, before.hash(), entry) };
        let header = writer.header(slot);
        header.set_mark(before.mark());
        header.set_pinned(before.is_pinned());
        self.store.index.replace(&writer.books.index, before.hash(), old, slot);
        before.end(RemovalCause::Replaced);
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
        // For what `Found` promises: the slot is in the index while the guard exists.
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
        // top of this module.
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

impl<X> Store<X> {
    fn id(&self) -> *const () {
        std::ptr::from_ref(self).cast()
    }

    /// That a token or a writer is this store's.
    #[inline]
    fn check(&self, owner: *const ()) {
        assert!(std::ptr::eq(owner, self.id()), "of another table");
    }

    fn check_departures(&self, departures: &Departures) {
        assert!(departures.chain.len == 0 || std::ptr::eq(departures.store, self.id()), "of another table");
    }
}

impl Departures {
    const fn none() -> Self {
        Self { chain: Chain::new(), weight: 0, store: std::ptr::null() }
    }

    #[inline]
    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::none())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chain.len == 0
    }
}

impl<K, V> Found<'_, K, V> {
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        self.cell.header()
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

/// The one writer of a table, as long as it lives.
pub(crate) struct Writer<'a, X> {
    store: &'a Store<X>,
    books: MutexGuard<'a, Books<X>>,
}

impl<X> Deref for Writer<'_, X> {
    type Target = X;

    #[inline]
    fn deref(&self) -> &X {
        &self.books.guarded
    }
}

impl<X> DerefMut for Writer<'_, X> {
    #[inline]
    fn deref_mut(&mut self) -> &mut X {
        &mut self.books.guarded
    }
}

impl<'a, X> Writer<'a, X> {
    /// What the lock guards, and the headers.
    #[inline]
    pub(crate) fn split(&mut self) -> (&mut X, &'a Cells) {
        (&mut self.books.guarded, &self.store.cells)
    }

    #[inline]
    pub(crate) fn header(&self, slot: u32) -> &'a Header {
        self.store.cells.header(slot)
    }

    /// The entry that stands in `slot`, if it can be found.
    #[inline]
    pub(crate) fn live(&self, slot: u32) -> Option<Live<'a>> {
        self.store.cells.live(slot).map(|header| Live { slot, header, store: self.store.id() })
    }

    /// Slots that were ever given out are below this number.
    pub(crate) fn given(&self) -> usize {
        self.store.cells.given(&self.books.cells)
    }

    /// Slots for which to have places: all that are expected, if that is known, else up to twice those given out.
    pub(crate) fn foreseen(&self) -> usize {
        let room = self.store.cells.room(&self.books.cells);
        if self.store.expected_slots > 0 { room } else { self.given().next_power_of_two().clamp(64, room) }
    }

    /// Takes a live entry out.
    #[inline(always)]
    pub(crate) fn take_out(&mut self, live: Live<'a>, weight: u64, cause: RemovalCause) {
        let Live { slot, header, store } = live;
        self.store.check(store);
        assert!(header.is_live(), "slot {slot} has no entry");
        self.store.index.remove(&mut self.books.index, header.hash(), slot);
        header.end(cause);
        self.push_departed(slot, header, weight);
    }

    /// Lets go of an entry that has been replaced.
    pub(crate) fn depart(&mut self, unlinked: Unlinked, weight: u64) {
        self.store.check(unlinked.store);
        self.push_departed(unlinked.slot, self.header(unlinked.slot), weight);
    }

    #[inline]
    fn push_departed(&mut self, slot: u32, header: &Header, weight: u64) {
        let Books { departing, open, .. } = &mut *self.books;
        if self.store.is_heard {
            // The listener hears of them in their order.
            self.store.cells.push_back(&mut departing.chain, slot);
            departing.weight = departing.weight.saturating_add(weight);
        } else {
            self.store.cells.push_front(&mut open.chain, slot, header);
            open.weight = open.weight.saturating_add(weight);
        }
    }

    /// The slots of some hashes from `cursor` on, in the empty `out`, and where to go on. See [`Index::entries_from`].
    pub(crate) fn entries_from(&self, cursor: u64, out: &mut Vec<u32>) -> Option<u64> {
        self.store.index.entries_from(&self.books.index, cursor, out, |slot| self.header(slot).hash())
    }

    /// What is to be done when the lock is released, which it should be now: the entries for the listener, and what is
    /// due. More than the weight `heavy` should not wait long.
    #[inline]
    pub(crate) fn close(&mut self, heavy: u64) -> Option<(Departures, Due)> {
        let books = &*self.books;
        let is_full = books.open.chain.len >= self.store.waiting.batch || books.open.weight > heavy;
        if books.departing.is_empty() && !is_full && !books.index_waits {
            return None;
        }
        Some(self.hand_out(heavy))
    }

    #[cold]
    fn hand_out(&mut self, heavy: u64) -> (Departures, Due) {
        let mut departures = self.books.departing.take();
        departures.store = self.store.id();
        (departures, self.news(heavy))
    }

    /// Hands over entries that the listener has seen, to wait for their readers.
    pub(crate) fn retire(&mut self, departures: Departures, heavy: u64) -> Due {
        self.store.check_departures(&departures);
        let open = &mut self.books.open;
        self.store.cells.append(&mut open.chain, departures.chain);
        open.weight = open.weight.saturating_add(departures.weight);
        self.news(heavy)
    }

    /// Seals the open batch if it is full, and says what is due then.
    fn news(&mut self, heavy: u64) -> Due {
        let Waiting { batch, most } = self.store.waiting;
        let books = &mut *self.books;
        if std::mem::take(&mut books.index_waits) {
            return Due::Press;
        }
        if books.open.chain.len < batch && books.open.weight <= heavy {
            return Due::Nothing;
        }
        self.seal();
        let books = &mut *self.books;
        // Another segment's pressing may have helped this one, too.
        let has_passed = books.sealed.front().is_some_and(|batch| batch.ticket.has_passed());
        if has_passed || (books.sealed_slots <= most && books.sealed_weight <= heavy) {
            books.next_press = 0;
            return Due::Collect;
        }
        // If pressing does not help, because a reader stays, the next time is after another batch.
        if books.sealed_slots < books.next_press {
            return Due::Collect;
        }
        books.next_press = books.sealed_slots + batch;
        Due::Press
    }

    /// Lets the open batch wait for its readers, if there is anything in it.
    pub(crate) fn seal(&mut self) {
        let books = &mut *self.books;
        if books.open.is_empty() {
            return;
        }
        let slots = books.open.take();
        books.sealed_slots += slots.chain.len;
        books.sealed_weight = books.sealed_weight.saturating_add(slots.weight);
        books.sealed.push_back(Batch { ticket: Ticket::draw(), slots });
    }

    /// Whether anything waits for its readers.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.books.sealed.is_empty() || self.store.index.is_waiting(&self.books.index)
    }

    /// The batches whose readers have gone. Where nothing needs dropping they are recycled at once.
    pub(crate) fn spent(&mut self) -> Option<Spent> {
        let books = &mut *self.books;
        self.store.index.free_retired(&mut books.index);
        let mut chain = Chain::new();
        while books.sealed.front().is_some_and(|batch| batch.ticket.has_passed()) {
            let Batch { slots, .. } = books.sealed.pop_front().expect("there is a front");
            books.sealed_slots -= slots.chain.len;
            books.sealed_weight = books.sealed_weight.saturating_sub(slots.weight);
            self.store.cells.append(&mut chain, slots.chain);
        }
        if self.store.needs_drop && chain.len > 0 {
            return Some(Spent { chain, store: self.store.id() });
        }
        self.store.cells.release(&mut books.cells, chain);
        None
    }

    /// Makes slots free whose entries have been dropped.
    pub(crate) fn recycle(&mut self, spent: Spent) {
        self.store.check(spent.store);
        self.store.cells.release(&mut self.books.cells, spent.chain);
    }

    /// A slot to be filled.
    #[inline]
    fn take(&mut self) -> u32 {
        if !self.store.cells.has_room(&self.books.cells) && self.given() >= self.store.expected_slots {
            self.press_for_slots();
        }
        self.store.cells.take(&mut self.books.cells)
    }

    /// Tries to get spent slots rather than fresh memory.
    #[cold]
    fn press_for_slots(&mut self) {
        self.seal();
        press();
        if !self.store.needs_drop {
            // Nothing needs dropping: it is recycled.
            let _ = self.spent();
        }
    }

    /// Puts a filled slot into the index.
    #[inline]
    fn enlist(&mut self, hash: u64, slot: u32) {
        let Books { index, index_waits, .. } = &mut *self.books;
        let hash_of = |slot| self.store.cells.header(slot).hash();
        *index_waits |= self.store.index.insert(index, hash, slot, hash_of);
    }

    /// Checks the index and the slots, of which `len` should be live. Nothing may be under way elsewhere.
    pub(crate) fn validate(&self, len: usize) {
        let books = &*self.books;
        self.store.index.validate(&books.index, |slot| self.header(slot).hash());
        let sealed = books.sealed.iter().map(|batch| batch.slots.chain.len).sum::<u32>();
        let waiting = sealed + books.open.chain.len + books.departing.chain.len;
        self.store.cells.validate(&books.cells, len, waiting as usize);
    }
}
