//! The table: entries that are found without a lock and written under one. The only room with unsafe code.
//!
//! # The pieces
//!
//! [`slots`] holds the entries in cells that never move, [`index`] leads from a hash to a cell, [`reclaim`] says when
//! a cell that was taken out may be used again. This module puts a safe face on them.
//!
//! # The life of an entry
//!
//! ```text
//! Writer::publish ──> in the index ──> Writer::unlink or replace ──> Departures ──> Writer::retire ──> batch
//!                     readers find it                                the listener                      waits for readers
//! free <── Writer::recycle <── Table::drop_spent <── Spent <── Writer::spent <──────────────────────────────┘
//!          under the lock      outside the lock                under the lock
//! ```
//!
//! Slots on their way out are owned by a token ([`Departures`], then a batch, then [`Spent`]). A token that is lost
//! (a panic) leaks its slots until the table is dropped, which drops their entries: nothing is freed twice or unseen.
//!
//! # Why a reader is safe
//!
//! 1. It finds a slot's number in the index, under a guard. Whatever was written into the cell before the number was
//!    stored is seen (`index`: orderings).
//! 2. The cell's entry is neither moved nor written while its number is in the index.
//! 3. Once the number is out of the index the slot waits in a batch, and a batch is spent only after all guards that
//!    existed when it was sealed are gone. A guard made later cannot find the number.
//!
//! How many slots wait is bounded by [`Waiting`]: when they are too many, the next operation presses for news of the
//! readers. Only a reader that stays under its guard keeps more waiting.

#![allow(unsafe_code)]

mod index;
mod reclaim;
mod slots;

pub(crate) use reclaim::{Guard, pin, press, press_in_turn};
pub(crate) use slots::Header;

use crate::removal::RemovalCause;
use crossbeam_utils::CachePadded;
use index::{Index, IndexBooks};
use parking_lot::{Mutex, MutexGuard};
use reclaim::Ticket;
use slots::{Chain, SlotBooks, Slots};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

/// What a table is expected to hold, so that its memory can grow in fitting steps.
#[derive(Clone, Copy)]
pub(crate) struct Sizing {
    /// Entries to have room for from the start.
    pub(crate) initial: usize,
    /// Entries in the end; 0 if that is not known.
    pub(crate) expected: usize,
}

/// Entries with keys `K` and values `V`; `X` is what else the lock guards.
pub(crate) struct Table<K, V, X> {
    index: Index,
    slots: Slots<K, V>,
    waiting: Waiting,
    /// Slots to have before more are taken from fresh memory without looking hard for spent ones.
    expected_slots: usize,
    books: CachePadded<Mutex<Books<X>>>,
}

struct Books<X> {
    index: IndexBooks,
    slots: SlotBooks,
    /// The batch that is being filled, and the weight in it.
    open: Chain,
    open_weight: u64,
    sealed: VecDeque<Batch>,
    /// Slots and weight in the sealed batches.
    sealed_slots: u32,
    sealed_weight: u64,
    /// Sealed slots at which it is time to press again.
    next_press: u32,
    guarded: X,
}

struct Batch {
    ticket: Ticket,
    chain: Chain,
    weight: u64,
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

/// A slot that is not in the index any more.
#[must_use]
pub(crate) struct Unlinked {
    slot: u32,
    table: *const (),
}

/// Entries that have left the table and wait for the listener.
#[must_use]
pub(crate) struct Departures {
    chain: Chain,
    /// What they weigh together.
    pub(crate) weight: u64,
    table: *const (),
}

/// Entries that nobody can see any more and whose keys and values wait to be dropped, outside the lock.
#[must_use]
pub(crate) struct Spent {
    chain: Chain,
    table: *const (),
}

/// An entry found under a guard.
pub(crate) struct Found<'g, K, V> {
    slot: u32,
    cell: &'g slots::Cell<K, V>,
}

// SAFETY: 1. `&Table` gives `&K` and `&V` to any thread, and drops in one thread what another has put in: both are
// Send and Sync. 2. `X` is reached under the lock only: Send is enough. 3. The raw pointers inside lead to memory that
// the table owns.
unsafe impl<K: Send + Sync, V: Send + Sync, X: Send> Sync for Table<K, V, X> {}
// SAFETY: as above; moving the table moves no cell.
unsafe impl<K: Send + Sync, V: Send + Sync, X: Send> Send for Table<K, V, X> {}

impl<K, V, X> Table<K, V, X> {
    pub(crate) fn new(sizing: Sizing, guarded: X) -> Self {
        let Sizing { initial, expected } = sizing;
        let waiting = Waiting::new(expected);
        let expected_slots =
            if expected == 0 { 0 } else { expected + (waiting.most + 2 * waiting.batch) as usize };
        let (index, index_books) = Index::new(initial);
        let (slots, slot_books) = Slots::new(expected_slots);
        let books = Books {
            index: index_books,
            slots: slot_books,
            open: Chain::new(),
            open_weight: 0,
            sealed: VecDeque::new(),
            sealed_slots: 0,
            sealed_weight: 0,
            next_press: 0,
            guarded,
        };
        Self { index, slots, waiting, expected_slots, books: CachePadded::new(Mutex::new(books)) }
    }

    /// The entry whose key is `hash`ed so and `matches`.
    #[inline(always)]
    pub(crate) fn find<'g>(
        &'g self,
        guard: &'g Guard,
        hash: u64,
        matches: impl Fn(&K) -> bool,
    ) -> Option<Found<'g, K, V>> {
        self.index.find(guard, hash, |slot| {
            // SAFETY: found in the index.
            let found = Found { slot, cell: unsafe { self.slots.cell(slot) } };
            matches(&found.entry().0).then_some(found)
        })
    }

    /// Lets the processor fetch what a search for this hash looks at first.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    pub(crate) fn lock(&self) -> Writer<'_, K, V, X> {
        Writer { table: self, books: self.books.lock() }
    }

    pub(crate) fn try_lock(&self) -> Option<Writer<'_, K, V, X>> {
        Some(Writer { table: self, books: self.books.try_lock()? })
    }

    /// The entries that have left, for the listener.
    pub(crate) fn departed<'a>(
        &'a self,
        departures: &'a Departures,
    ) -> impl Iterator<Item = (&'a K, &'a V, RemovalCause)> {
        self.check_owner(departures.table);
        self.slots.departed(&departures.chain)
    }

    /// Drops keys and values. Panics of their `Drop` are contained.
    pub(crate) fn drop_spent(&self, spent: &mut Spent) {
        self.check_owner(spent.table);
        // SAFETY: a `Spent` is made by `Writer::spent` only, from batches whose readers have gone: 3. at the top of this
        // module.
        unsafe { self.slots.drop_entries(&mut spent.chain) };
    }

    fn check_owner(&self, owner: *const ()) {
        assert!(std::ptr::eq(owner, self.id()), "a token of another table");
    }

    fn id(&self) -> *const () {
        std::ptr::from_ref(self).cast()
    }
}

impl<K, V, X> Drop for Table<K, V, X> {
    fn drop(&mut self) {
        // SAFETY: `&mut self`: no reader and no writer is left. Closures that still wait have only `passed`.
        unsafe { self.slots.free_all(&mut self.books.get_mut().slots) };
    }
}

impl<K, V> Found<'_, K, V> {
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        &self.cell.header
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
pub(crate) struct Writer<'a, K, V, X> {
    table: &'a Table<K, V, X>,
    books: MutexGuard<'a, Books<X>>,
}

/// The headers of a table's slots, beside a mutable borrow of what the lock guards.
pub(crate) struct Headers<'a, K, V> {
    slots: &'a Slots<K, V>,
    books: &'a SlotBooks,
}

impl<K, V> Headers<'_, K, V> {
    /// # Panics
    ///
    /// If there never was such a slot.
    #[inline]
    pub(crate) fn get(&self, slot: u32) -> &Header {
        self.slots.header_of(self.books, slot)
    }
}

impl<K, V, X> Deref for Writer<'_, K, V, X> {
    type Target = X;

    fn deref(&self) -> &X {
        &self.books.guarded
    }
}

impl<K, V, X> DerefMut for Writer<'_, K, V, X> {
    fn deref_mut(&mut self) -> &mut X {
        &mut self.books.guarded
    }
}

impl<'a, K, V, X> Writer<'a, K, V, X> {
    /// What the lock guards, and the headers.
    pub(crate) fn split(&mut self) -> (&mut X, Headers<'_, K, V>) {
        let books = &mut *self.books;
        (&mut books.guarded, Headers { slots: &self.table.slots, books: &books.slots })
    }

    pub(crate) fn header(&self, slot: u32) -> &Header {
        self.table.slots.header_of(&self.books.slots, slot)
    }

    /// Whether `slot` is that of an entry that can be found.
    pub(crate) fn is_live(&self, slot: u32) -> bool {
        self.table.slots.is_live(&self.books.slots, slot)
    }

    /// Slots are below this number.
    pub(crate) fn slots(&self) -> usize {
        self.table.slots.room(&self.books.slots)
    }

    pub(crate) fn find(&self, hash: u64, matches: impl Fn(&K) -> bool) -> Option<u32> {
        let slots = &self.table.slots;
        // SAFETY: of `cell`: the lock is held. Of `entry`: what is in the index is held, and leaves it under the lock.
        let is_match = |slot| matches(&unsafe { slots.cell(slot).entry() }.0);
        self.table.index.find_locked(&self.books.index, hash, |slot| is_match(slot).then_some(slot))
    }

    /// Adds an entry whose key is not in the table.
    pub(crate) fn publish(&mut self, hash: u64, entry: (K, V)) -> u32 {
        let slot = self.take(hash, entry);
        let Books { index, slots, .. } = &mut *self.books;
        let hash_of = |slot| self.table.slots.header_of(slots, slot).hash();
        self.table.index.insert(index, hash, slot, hash_of);
        slot
    }

    /// Puts a new entry in the place of the live `old`. The mark and the pin go with the place.
    pub(crate) fn replace(&mut self, old: u32, entry: (K, V)) -> (u32, Unlinked) {
        assert!(self.is_live(old), "slot {old} has no entry");
        let (hash, mark, pinned) = {
            let header = self.header(old);
            (header.hash(), header.mark(), header.is_pinned())
        };
        let new = self.take(hash, entry);
        self.header(new).set_mark(mark);
        self.header(new).set_pinned(pinned);
        self.table.index.replace(&self.books.index, hash, old, new);
        self.table.slots.end(&self.books.slots, old);
        (new, Unlinked { slot: old, table: self.table.id() })
    }

    /// Takes a live entry out of the index.
    #[inline]
    pub(crate) fn unlink(&mut self, slot: u32) -> Unlinked {
        let header = self.header(slot);
        assert!(header.is_live(), "slot {slot} has no entry");
        let hash = header.hash();
        self.table.index.remove(&mut self.books.index, hash, slot);
        self.table.slots.end(&self.books.slots, slot);
        Unlinked { slot, table: self.table.id() }
    }

    /// Ends an entry that is not in the index any more. Its header's hash is lost.
    #[inline]
    pub(crate) fn depart(&mut self, unlinked: Unlinked, cause: RemovalCause, departures: &mut Departures) {
        self.table.check_owner(unlinked.table);
        self.table.check_owner(departures.table);
        self.table.slots.depart(&self.books.slots, unlinked.slot, cause, &mut departures.chain);
    }

    /// The entry of a slot that is live. It can be read after the lock is released, as long as the guard lives.
    pub(crate) fn found<'g>(&self, _pinned: &'g Guard, slot: u32) -> Option<Found<'g, K, V>>
    where
        'a: 'g,
    {
        // SAFETY: live, thus given out. For what `Found` promises: the slot is in the index while the guard exists.
        self.is_live(slot).then(|| Found { slot, cell: unsafe { self.table.slots.cell(slot) } })
    }

    /// The slots of some hashes from `cursor` on, in the empty `out`, and where to go on. See [`Index::entries_from`].
    pub(crate) fn entries_from(&self, cursor: u64, out: &mut Vec<u32>) -> Option<u64> {
        let hash_of = |slot| self.header(slot).hash();
        self.table.index.entries_from(&self.books.index, cursor, out, hash_of)
    }

    pub(crate) fn no_departures(&self) -> Departures {
        Departures { chain: Chain::new(), weight: 0, table: self.table.id() }
    }

    /// Hands over entries that the listener has seen, to wait for their readers. More than the weight `heavy` should not
    /// wait long.
    pub(crate) fn retire(&mut self, departures: Departures, heavy: u64) {
        self.table.check_owner(departures.table);
        let books = &mut *self.books;
        self.table.slots.append(&books.slots, &mut books.open, departures.chain);
        books.open_weight = books.open_weight.saturating_add(departures.weight);
        if books.open.len >= self.table.waiting.batch || books.open_weight > heavy {
            self.seal();
        }
    }

    /// Lets the open batch wait for its readers, if there is anything in it.
    pub(crate) fn seal(&mut self) {
        let books = &mut *self.books;
        if books.open.len == 0 {
            return;
        }
        let chain = std::mem::replace(&mut books.open, Chain::new());
        let weight = std::mem::take(&mut books.open_weight);
        books.sealed_slots += chain.len;
        books.sealed_weight = books.sealed_weight.saturating_add(weight);
        books.sealed.push_back(Batch { ticket: Ticket::draw(), chain, weight });
    }

    /// Whether anything waits for its readers.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.books.sealed.is_empty() || self.table.index.is_waiting(&self.books.index)
    }

    /// Whether more waits than should: then [`press`] helps, better without the lock. If it does not, because a reader
    /// stays, the next time is after another batch.
    pub(crate) fn is_pressed(&mut self, heavy: u64) -> bool {
        let Waiting { batch, most } = self.table.waiting;
        let books = &mut *self.books;
        if books.sealed_slots <= most && books.sealed_weight <= heavy {
            books.next_press = 0;
            return false;
        }
        let is_time = books.sealed_slots >= books.next_press;
        if is_time {
            books.next_press = books.sealed_slots + batch;
        }
        is_time
    }

    /// The batches whose readers have gone. Where nothing needs dropping they are recycled at once.
    #[inline]
    pub(crate) fn spent(&mut self) -> Option<Spent> {
        self.table.index.free_retired(&mut self.books.index);
        match self.books.sealed.front() {
            Some(batch) if batch.ticket.has_passed() => self.passed_batches(),
            _ => None,
        }
    }

    #[cold]
    fn passed_batches(&mut self) -> Option<Spent> {
        let books = &mut *self.books;
        let mut spent = Chain::new();
        while books.sealed.front().is_some_and(|batch| batch.ticket.has_passed()) {
            let batch = books.sealed.pop_front().expect("there is a front");
            books.sealed_slots -= batch.chain.len;
            books.sealed_weight = books.sealed_weight.saturating_sub(batch.weight);
            self.table.slots.append(&books.slots, &mut spent, batch.chain);
        }
        if std::mem::needs_drop::<(K, V)>() {
            return Some(Spent { chain: spent, table: self.table.id() });
        }
        self.table.slots.release(&mut books.slots, spent);
        None
    }

    /// Makes slots free whose entries have been dropped.
    pub(crate) fn recycle(&mut self, spent: Spent) {
        self.table.check_owner(spent.table);
        self.table.slots.release(&mut self.books.slots, spent.chain);
    }

    fn take(&mut self, hash: u64, entry: (K, V)) -> u32 {
        if !self.table.slots.has_room(&self.books.slots) && self.slots() >= self.table.expected_slots {
            self.press_for_slots();
        }
        self.table.slots.take(&mut self.books.slots, hash, entry)
    }

    /// Tries to get spent slots rather than fresh memory.
    #[cold]
    fn press_for_slots(&mut self) {
        self.seal();
        press();
        if !std::mem::needs_drop::<(K, V)>() {
            self.spent();
        }
    }

    /// Checks the index and the slots, of which `len` should be live. Nothing may be under way elsewhere.
    pub(crate) fn validate(&self, len: usize) {
        self.table.index.validate(&self.books.index, |slot| self.header(slot).hash());
        let waiting =
            self.books.sealed.iter().map(|batch| batch.chain.len).sum::<u32>() + self.books.open.len;
        self.table.slots.validate(&self.books.slots, len, waiting as usize);
    }
}
