//! The side of a table that does not know the types of its entries: most of what is done under the lock.

use super::cells::{Block, CellBooks, Cells, Chain, Header};
use super::hazard::Ticket;
use super::index::{Index, IndexBooks};
use super::limbo::{Limbo, Limits, Retired, Scan};
use crate::parts::Apart;
use crate::parts::lists::MAX_SLOTS;
use crate::removal::RemovalCause;
use crate::sync::{AtomicU8, Mutex, MutexGuard};
use std::alloc::Layout;
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

/// More than any mark: reads have more to do than to raise it.
pub(super) const NOTED: u8 = u8::MAX;

/// A table as far as the types of its entries do not matter.
#[repr(C)]
pub(super) struct Store<X> {
    // What a read needs stands together.
    pub(super) index: Index,
    /// Up to where a read raises an entry's mark.
    pub(super) mark_limit: u8,
    /// The mark from which on a read has nothing to do: the limit, or [`NOTED`].
    pub(super) read_from: AtomicU8,
    pub(super) cells: Cells,
    /// Whether entries that leave are handed out, for a listener, before they wait for their readers.
    is_heard: bool,
    needs_drop: bool,
    /// Slots in use in the end, as far as that is known: for entries, and for what waits most often. 0 if it is not known.
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
        let limits = Limits::new(expected);
        // Some segments come to hold a little more than others.
        let more = 4 * expected.isqrt();
        let expected_slots = if expected == 0 { 0 } else { expected + more + limits.usual() };
        // As for the cells: what is known to be needed in the end is reserved at once, and taken when it is used.
        let (index, index_books) = Index::new(initial.max(expected.min(MOST_RESERVED)), mark_limit.is_some());
        let (cells, cell_books) = Cells::new(cell, expected_slots);
        let books = Books {
            guarded,
            index: index_books,
            cells: cell_books,
            departing: Retired::none(),
            limbo: Limbo::new(limits),
        };
        Self {
            index,
            mark_limit: mark_limit.unwrap_or(0),
            read_from: AtomicU8::new(mark_limit.unwrap_or(NOTED)),
            cells,
            is_heard,
            needs_drop,
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
        self.check(departures.store);
    }
}

/// What the lock guards.
pub(super) struct Books<X> {
    guarded: X,
    pub(super) index: IndexBooks,
    pub(super) cells: CellBooks,
    /// Entries that have left and were not handed out yet.
    departing: Retired,
    limbo: Limbo,
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

/// Work that an operation leaves for the time after the lock.
pub(crate) struct Left {
    pub(crate) queue: Queue,
    /// The ticket up to which to [reclaim](super::Table::scan).
    pub(crate) reclaim: Option<Ticket>,
}

/// How many entries that have left wait for the listener.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    Empty,
    Short,
    /// So many that the operation, which has queued some of them, should not return before they are fewer.
    Long,
}

/// Entries that have left the table, for the listener, in their order.
#[must_use]
pub(crate) struct Departures {
    pub(super) slots: Retired,
    store: *const (),
}

/// Entries that no reader can look at any longer and whose keys and values wait to be dropped, outside the lock.
#[must_use]
pub(super) struct Spent {
    pub(super) chain: Chain,
    pub(super) store: *const (),
}

/// The one writer of a table, as long as it lives.
pub(crate) struct Writer<'a, X> {
    pub(super) store: &'a Store<X>,
    pub(super) books: MutexGuard<'a, Books<X>>,
    /// Whether it has queued an entry for the listener.
    pub(super) has_queued: bool,
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

    pub(crate) fn cells(&self) -> &'a Cells {
        &self.store.cells
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
        // In this order: a live entry is in the index.
        let hash = header.hash();
        header.end(cause);
        self.store.index.remove(&mut self.books.index, hash, slot);
        self.push_departed(slot, header, weight);
    }

    /// Lets go of an entry that has been replaced.
    pub(crate) fn depart(&mut self, unlinked: Unlinked, weight: u64) {
        self.store.check(unlinked.store);
        self.push_departed(unlinked.slot, self.header(unlinked.slot), weight);
    }

    #[inline]
    pub(super) fn push_departed(&mut self, slot: u32, header: &Header, weight: u64) {
        let Books { departing, limbo, .. } = &mut *self.books;
        if self.store.is_heard {
            self.has_queued = true;
            // The listener hears of them in their order.
            self.store.cells.push_back(&mut departing.chain, slot);
            departing.weight = departing.weight.saturating_add(weight);
        } else {
            let open = limbo.open();
            self.store.cells.push_front(&mut open.chain, slot, header);
            open.weight = open.weight.saturating_add(weight);
        }
    }

    /// The slots of some hashes from `cursor` on, in the empty `out`, and where to go on. See [`Index::entries_from`].
    pub(crate) fn entries_from(&self, cursor: u64, out: &mut Vec<u32>) -> Option<u64> {
        self.store.index.entries_from(&self.books.index, cursor, out, |slot| self.header(slot).hash())
    }

    /// Returns what is to be done when the lock is released, which it should be now. More than the weight `heavy` does not
    /// wait.
    #[inline]
    pub(crate) fn close(&mut self, heavy: u64) -> Option<Left> {
        let books = &*self.books;
        if books.departing.chain.len == 0 && !books.limbo.is_due(heavy) {
            return None;
        }
        Some(self.leave(heavy))
    }

    #[cold]
    fn leave(&mut self, heavy: u64) -> Left {
        let Books { departing, limbo, .. } = &mut *self.books;
        let queue = match departing.chain.len {
            0 => Queue::Empty,
            _ if self.has_queued && limbo.is_much(departing, heavy) => Queue::Long,
            _ => Queue::Short,
        };
        Left { queue, reclaim: limbo.due(heavy) }
    }

    /// Takes the entries that wait for the listener; `None` if there are none.
    pub(crate) fn departures(&mut self) -> Option<Departures> {
        let slots = self.books.departing.take();
        (slots.chain.len > 0).then(|| Departures { slots, store: self.store.id() })
    }

    /// Hands over entries that the listener has seen, to wait until no reader looks at them. Returns the same ticket as
    /// [`close`](Self::close).
    pub(crate) fn retire(&mut self, departures: Departures, heavy: u64) -> Option<Ticket> {
        self.store.check_departures(&departures);
        let limbo = &mut self.books.limbo;
        limbo.retire(&self.store.cells, departures.slots);
        limbo.due(heavy)
    }

    /// Returns the ticket up to which to reclaim so that nothing waits that need not; `None` if nothing waits.
    pub(crate) fn seal(&mut self) -> Option<Ticket> {
        self.books.limbo.seal()
    }

    /// Sorts out the entries that a scan shows to be of no reader.
    pub(super) fn sort_out(&mut self, scan: &Scan) {
        self.books.limbo.sort_out(&self.store.cells, scan);
    }

    /// Takes some entries to be dropped that are of no reader; `None` if there are none left. Where nothing needs dropping their
    /// slots are free at once.
    pub(super) fn spent(&mut self) -> Option<Spent> {
        let Books { limbo, cells, .. } = &mut *self.books;
        if !self.store.needs_drop {
            limbo.release_unnamed(&self.store.cells, cells);
            return None;
        }
        let chain = limbo.take_unnamed(&self.store.cells);
        (chain.len > 0).then(|| Spent { chain, store: self.store.id() })
    }

    /// Makes slots free whose entries have been dropped.
    pub(super) fn recycle(&mut self, spent: Spent) {
        self.store.check(spent.store);
        self.store.cells.release(&mut self.books.cells, spent.chain);
    }

    /// Takes out the memory of cells that nobody uses, to be freed without the lock.
    pub(crate) fn trim(&mut self) -> Vec<Block> {
        self.store.cells.trim(&mut self.books.cells)
    }

    /// A slot to be filled.
    #[inline]
    pub(super) fn take(&mut self) -> u32 {
        self.store.cells.take(&mut self.books.cells)
    }

    /// Puts a filled slot into the index.
    #[inline]
    pub(super) fn enlist(&mut self, hash: u64, slot: u32) {
        let hash_of = |slot| self.store.cells.header(slot).hash();
        self.store.index.insert(&mut self.books.index, hash, slot, hash_of);
    }

    /// Checks the index and the slots, of which `len` should be live. Nothing may be under way elsewhere.
    pub(crate) fn validate(&self, len: usize) {
        let books = &*self.books;
        self.store.index.validate(&books.index, |slot| self.header(slot).hash());
        let waiting = books.limbo.len() + books.departing.chain.len;
        self.store.cells.validate(&books.cells, len, waiting as usize);
    }
}
