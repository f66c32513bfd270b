//! The side of a table that does not know the types of its entries: most of what is done under the lock.

use super::cells::{CellBooks, Cells, Chain, Header};
use super::index::{Index, IndexBooks};
use super::reclaim::{Ticket, press};
use crate::parts::Apart;
use crate::parts::lists::MAX_SLOTS;
use crate::removal::RemovalCause;
use parking_lot::{Mutex, MutexGuard};
use std::alloc::Layout;
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

/// The index is made for at most so many entries before there are any: 16 MiB of addresses, and of memory what is written
/// to.
const MOST_RESERVED: usize = 1 << 21;

/// A table as far as the types of its entries do not matter.
#[repr(C)]
pub(super) struct Store<X> {
    // What a read needs stands together.
    pub(super) index: Index,
    /// Up to where a read raises an entry's mark.
    pub(super) mark_limit: u8,
    pub(super) cells: Cells,
    /// Whether entries that leave are handed out, for a listener, before they wait for their readers.
    is_heard: bool,
    needs_drop: bool,
    waiting: Waiting,
    /// Slots to have before more are taken from fresh memory without looking hard for spent ones.
    expected_slots: usize,
    /// Apart, so that what readers need of all tables takes few lines of the processor's cache, which are not written to.
    pub(super) books: Box<Apart<Mutex<Books<X>>>>,
}

impl<X> Store<X> {
    /// For cells of this layout. See [`Table::new`](super::Table::new) for the rest.
    pub(super) fn new(
        cell: Layout,
        needs_drop: bool,
        sizing: Sizing,
        is_heard: bool,
        mark_limit: Option<u8>,
        guarded: X,
    ) -> Self {
        let Sizing { initial, expected } = sizing;
        let waiting = Waiting::new(expected);
        let expected_slots =
            if expected == 0 { 0 } else { expected + (waiting.most + 3 * waiting.batch) as usize };
        // As for the cells: what is known to be needed in the end is reserved at once, and taken when it is used.
        let (index, index_books) = Index::new(initial.max(expected.min(MOST_RESERVED)), mark_limit.is_some());
        let (cells, cell_books) = Cells::new(cell, expected_slots);
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
        Self {
            index,
            mark_limit: mark_limit.unwrap_or(0),
            cells,
            is_heard,
            needs_drop,
            waiting,
            expected_slots,
            books: Box::new(Apart::new(Mutex::new(books))),
        }
    }

    pub(super) fn id(&self) -> *const () {
        std::ptr::from_ref(self).cast()
    }

    /// That a token or a writer is this store's.
    #[inline]
    pub(super) fn check(&self, owner: *const ()) {
        assert!(std::ptr::eq(owner, self.id()), "of another table");
    }

    pub(super) fn check_departures(&self, departures: &Departures) {
        assert!(departures.chain.len == 0 || std::ptr::eq(departures.store, self.id()), "of another table");
    }
}

/// What the lock guards.
pub(super) struct Books<X> {
    guarded: X,
    pub(super) index: IndexBooks,
    pub(super) cells: CellBooks,
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
    pub(super) slot: u32,
    pub(super) store: *const (),
}

/// Entries that have left the table.
#[must_use]
pub(crate) struct Departures {
    pub(super) chain: Chain,
    /// What they weigh together.
    weight: u64,
    store: *const (),
}

/// Entries that nobody can see any more and whose keys and values wait to be dropped, outside the lock.
#[must_use]
pub(crate) struct Spent {
    pub(super) chain: Chain,
    pub(super) store: *const (),
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

/// The one writer of a table, as long as it lives.
pub(crate) struct Writer<'a, X> {
    pub(super) store: &'a Store<X>,
    pub(super) books: MutexGuard<'a, Books<X>>,
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

    /// Marks an entry as a read does.
    pub(crate) fn mark(&self, slot: u32) {
        self.header(slot).raise_mark(self.store.mark_limit);
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

    /// Slots for which to have places: those of the first block, if it is known how many there will be, and from there on
    /// up to twice those given out, so that who keeps the places in one array copies it once for each doubling.
    pub(crate) fn foreseen(&self) -> usize {
        let (cells, expected) = (&self.store.cells, self.store.expected_slots);
        let room = cells.room(&self.books.cells);
        let (least, most) =
            if expected > 0 { (cells.first_room(), room.max(expected)) } else { (1 << 6, MAX_SLOTS) };
        self.given().next_power_of_two().clamp(least, most)
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
    pub(super) fn take(&mut self) -> u32 {
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
    pub(super) fn enlist(&mut self, hash: u64, slot: u32) {
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
