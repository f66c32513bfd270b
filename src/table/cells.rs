//! The entries' memory: cells that never move and are freed with the table.
//!
//! ```text
//! first block: slots 0..first_len       far blocks: 64, 128, 256, ... slots, as they are needed
//! cell:        | header: hash, mark, state (8 bytes) | key, value |
//! ```
//!
//! Where it is known how many entries there will be they all stand in the first block, so that a slot's cell is found
//! without another look at memory. Blocks come zeroed, and large ones take memory only when it is written to (`zeroed`).
//! What goes beyond the first block is found by a slot's highest bit.
//!
//! [`Cells`] know nothing of `K` and `V` but their layout, so that all that needs no more than headers is compiled once.
//!
//! # States of a cell
//!
//! | state | key and value | in the index | who may touch them |
//! | --- | --- | --- | --- |
//! | free | none | no | nobody; once it is taken, who fills it |
//! | held, live | there | yes | readers under a guard, shared |
//! | held, not live | there | no | readers whose guard is older; then only who frees it |
//!
//! Live cells are in the index except on the way there, between [`Cells::fill`] and `Writer::enlist`. Where nothing needs
//! dropping a cell that becomes free keeps saying that it is held: there what it says decides nothing.
//!
//! A cell that is not live is always in exactly one chain: the free list, the departures of an operation, or those
//! that wait for their readers; or it is being filled. Chains are linked through the header's hash, which nobody needs
//! any more.

use super::zeroed;
use crate::parts::lists::MAX_SLOTS;
use crate::removal::RemovalCause;
use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU16, AtomicU32};

const LIVE: u8 = 1;
const HELD: u8 = 2;
const PINNED: u8 = 4;
const CAUSE_SHIFT: u32 = 4;
/// In the order of their numbers.
const CAUSES: [RemovalCause; 5] = [
    RemovalCause::Explicit,
    RemovalCause::Replaced,
    RemovalCause::Expired,
    RemovalCause::Size,
    RemovalCause::Rejected,
];

/// No slot: the end of a chain.
const NONE: u32 = u32::MAX;

/// What is known of an entry beside its key and value. All zero in memory that is fresh.
///
/// All but `mark` is written under the table's lock only, and read under it or, as for `state`, not at all by readers:
/// thus relaxed. `mark` is a hint, and a lost write of it is harmless.
#[repr(C, align(8))]
pub(crate) struct Header {
    /// Of the hash's higher 48 bits the lower 32, and the 16 above.
    hash_low: AtomicU32,
    hash_high: AtomicU16,
    mark: AtomicU8,
    state: AtomicU8,
}

impl Header {
    /// The hash, without its lowest 16 bits.
    #[inline]
    pub(crate) fn hash(&self) -> u64 {
        u64::from(self.hash_low.load(Relaxed)) << 16 | u64::from(self.hash_high.load(Relaxed)) << 48
    }

    #[inline]
    pub(crate) fn mark(&self) -> u8 {
        self.mark.load(Relaxed)
    }

    #[inline]
    pub(crate) fn set_mark(&self, mark: u8) {
        self.mark.store(mark, Relaxed);
    }

    /// Counts a read, up to `most`. A full counter is not written, so that a hot entry's line stays shared.
    #[inline]
    pub(super) fn raise_mark(&self, most: u8) {
        let mark = self.mark();
        if mark < most {
            self.set_mark(mark + 1);
        }
    }

    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.state.load(Relaxed) & LIVE != 0
    }

    fn is_held(&self) -> bool {
        self.state.load(Relaxed) & HELD != 0
    }

    #[inline]
    pub(crate) fn is_pinned(&self) -> bool {
        self.state.load(Relaxed) & PINNED != 0
    }

    /// Only for a live entry, under the table's lock.
    pub(crate) fn set_pinned(&self, pinned: bool) {
        let state = self.state.load(Relaxed);
        self.state.store(if pinned { state | PINNED } else { state & !PINNED }, Relaxed);
    }

    fn cause(&self) -> RemovalCause {
        CAUSES[usize::from(self.state.load(Relaxed) >> CAUSE_SHIFT)]
    }

    /// What a new entry's header says. It is held from now on.
    #[inline]
    fn fill(&self, hash: u64) {
        self.hash_low.store((hash >> 16) as u32, Relaxed);
        self.hash_high.store((hash >> 48) as u16, Relaxed);
        self.mark.store(0, Relaxed);
        self.state.store(HELD | LIVE, Relaxed);
    }

    /// The entry is not live any more, and why.
    #[inline]
    pub(super) fn end(&self, cause: RemovalCause) {
        self.state.store(HELD | (cause as u8) << CAUSE_SHIFT, Relaxed);
    }
}

#[repr(C)]
pub(super) struct Cell<K, V> {
    header: Header,
    entry: UnsafeCell<MaybeUninit<(K, V)>>,
}

impl<K, V> Cell<K, V> {
    #[inline]
    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// The key and the value.
    ///
    /// # Safety
    ///
    /// The cell is held, and stays so for the lifetime that the caller gives the reference.
    #[inline]
    pub(super) unsafe fn entry(&self) -> &(K, V) {
        // SAFETY: a held cell is initialised and nobody writes to it: see the table of states.
        unsafe { (*self.entry.get()).assume_init_ref() }
    }
}

/// Slots that are not live, linked through their headers. Not `Clone`: a slot is in one chain.
pub(super) struct Chain {
    head: u32,
    tail: u32,
    pub(super) len: u32,
}

impl Chain {
    pub(super) const fn new() -> Self {
        Self { head: NONE, tail: NONE, len: 0 }
    }

    #[inline]
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new())
    }
}

/// Cells in the first far block, as a power of two.
const FAR_SHIFT: u32 = 6;
/// Enough blocks for all slots.
pub(super) const FAR_BLOCKS: usize = (MAX_SLOTS >> FAR_SHIFT).ilog2() as usize + 2;
/// The first block takes at most so many bytes, since it is reserved before it is needed.
const MOST_FIRST: usize = 16 << 20;
/// The same where it is not known how many entries there will be.
const UNKNOWN_FIRST: usize = if cfg!(miri) { 1 << 14 } else { 1 << 20 };

/// Where the cells are.
#[repr(C)]
pub(crate) struct Cells {
    first: ptr::NonNull<u8>,
    first_len: u32,
    /// Of a cell; its size is a multiple of its alignment.
    layout: Layout,
    /// The far blocks, each twice as long as the one before; null where there is none yet.
    far: Box<[AtomicPtr<u8>; FAR_BLOCKS]>,
}

/// The writer's side, kept under the table's lock.
pub(super) struct CellBooks {
    free: Chain,
    /// Slots below this have been given out.
    fresh: u32,
    /// Cells that there is memory for.
    room: u32,
}

/// The far block of a slot, counted from the end of the first block, and its place there.
#[inline]
pub(super) fn far_place(beyond: u32) -> (usize, usize) {
    let place = u64::from(beyond) + (1 << FAR_SHIFT);
    let block = place.ilog2() - FAR_SHIFT;
    (block as usize, (place - (1 << (FAR_SHIFT + block))) as usize)
}

/// How many cells a far block has.
pub(super) fn far_len(block: usize) -> u32 {
    1 << (FAR_SHIFT as usize + block)
}

impl Cells {
    /// Memory for cells of this layout, which begin with a [`Header`]; `expected` is how many there will be, 0 if that
    /// is not known.
    pub(super) fn new(layout: Layout, expected: usize) -> (Self, CellBooks) {
        assert!(layout.size() >= size_of::<Header>() && layout.align() >= align_of::<Header>());
        let layout = layout.pad_to_align();
        let most = if expected == 0 { UNKNOWN_FIRST } else { MOST_FIRST } / layout.size();
        let expected = if expected == 0 { most } else { expected.min(most) };
        let first_len = expected.clamp(1 << FAR_SHIFT, MAX_SLOTS) as u32;
        let first = allocate(layout, first_len);
        let far = Box::new(std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())));
        let books = CellBooks { free: Chain::new(), fresh: 0, room: first_len };
        (Self { first, first_len, layout, far }, books)
    }

    /// Where a slot's cell is, given the size of cells.
    ///
    /// # Panics
    ///
    /// If there never was such a slot.
    #[inline]
    fn place(&self, slot: u32, size: usize) -> *mut u8 {
        if slot < self.first_len {
            self.first.as_ptr().wrapping_add(slot as usize * size)
        } else {
            self.far_place(slot)
        }
    }

    #[inline(never)]
    fn far_place(&self, slot: u32) -> *mut u8 {
        let place = self.try_far_place(slot);
        assert!(!place.is_null(), "there never was a slot {slot}");
        place
    }

    /// Where the cell of a slot is that is not in the first block; null if there never was such a slot.
    #[inline]
    fn try_far_place(&self, slot: u32) -> *mut u8 {
        let (block, place) = far_place(slot - self.first_len);
        // Relaxed: whoever knows the slot has seen the block come, by the lock or by the index.
        let start = self.far.get(block).map_or(ptr::null_mut(), |start| start.load(Relaxed));
        if start.is_null() { start } else { start.wrapping_add(place * self.layout.size()) }
    }

    #[inline]
    pub(crate) fn prefetch(&self, slot: u32) {
        if slot < self.first_len {
            super::prefetch(self.place(slot, self.layout.size()));
        }
    }

    /// # Panics
    ///
    /// If there never was such a slot.
    #[inline]
    pub(crate) fn header(&self, slot: u32) -> &Header {
        // SAFETY: a cell within a block, which lives as long as `self`. It begins with a header, and all-zero bytes are a
        // valid one, since it consists of atomic integers.
        unsafe { &*self.place(slot, self.layout.size()).cast::<Header>() }
    }

    /// The header of a slot, if it is that of a live entry.
    #[inline]
    pub(super) fn live(&self, slot: u32) -> Option<&Header> {
        let place = if slot < self.first_len {
            self.place(slot, self.layout.size())
        } else {
            self.try_far_place(slot)
        };
        // SAFETY: as in `header`, or null.
        unsafe { place.cast::<Header>().as_ref() }.filter(|header| header.is_live())
    }

    /// The cell of a slot.
    ///
    /// # Safety
    ///
    /// These cells were made with the layout of `Cell<K, V>`, and are used for no other types.
    ///
    /// # Panics
    ///
    /// As [`header`](Self::header).
    #[inline]
    pub(super) unsafe fn cell<K, V>(&self, slot: u32) -> &Cell<K, V> {
        // SAFETY: as in `header`, and of these types by the caller's promise. A cell of zeros is valid: its entry may be
        // uninitialised.
        unsafe { &*self.place(slot, size_of::<Cell<K, V>>()).cast::<Cell<K, V>>() }
    }

    /// The cell of a slot, if it is in the first block.
    ///
    /// # Safety
    ///
    /// As for [`cell`](Self::cell).
    #[inline(always)]
    pub(super) unsafe fn near<K, V>(&self, slot: u32) -> Option<&Cell<K, V>> {
        // SAFETY: as in `cell`.
        (slot < self.first_len).then(|| unsafe { self.cell(slot) })
    }

    /// Slots that were ever given out are below this number.
    pub(super) fn given(&self, books: &CellBooks) -> usize {
        books.fresh as usize
    }

    /// Slots below this number stand in the first block.
    pub(super) fn first_room(&self) -> usize {
        self.first_len as usize
    }

    /// Slots below this number can be given out without more memory.
    pub(super) fn room(&self, books: &CellBooks) -> usize {
        books.room as usize
    }

    /// Whether [`take`](Self::take) can do without fresh memory.
    #[inline]
    pub(super) fn has_room(&self, books: &CellBooks) -> bool {
        books.free.len > 0 || books.fresh < books.room
    }

    /// A free cell's slot, to be filled.
    #[inline]
    pub(super) fn take(&self, books: &mut CellBooks) -> u32 {
        if books.free.len > 0 {
            let slot = books.free.head;
            books.free.head = self.header(slot).hash_low.load(Relaxed);
            books.free.len -= 1;
            return slot;
        }
        if books.fresh == books.room {
            self.add_block(books);
        }
        books.fresh += 1;
        books.fresh - 1
    }

    #[cold]
    fn add_block(&self, books: &mut CellBooks) {
        let (block, _) = far_place(books.room - self.first_len);
        assert!(
            books.room as usize + far_len(block) as usize <= MAX_SLOTS,
            "more than {} entries in one segment: use more segments",
            books.room
        );
        self.far[block].store(allocate(self.layout, far_len(block)).as_ptr(), Release);
        books.room += far_len(block);
    }

    /// Puts an entry into a cell that was taken. It is held and live, but not yet in the index.
    ///
    /// # Safety
    ///
    /// As for [`cell`](Self::cell); and `slot` has been taken since it was last filled.
    #[inline]
    pub(super) unsafe fn fill<K, V>(&self, slot: u32, hash: u64, entry: (K, V)) {
        // SAFETY: by the caller's promise.
        let cell = unsafe { self.cell::<K, V>(slot) };
        // SAFETY: taken, and not yet held: by the table of states nobody else has access to the entry.
        unsafe { (*cell.entry.get()).write(entry) };
        cell.header.fill(hash);
    }

    /// Adds a slot that has ended to the front of `chain`.
    #[inline]
    pub(super) fn push_front(&self, chain: &mut Chain, slot: u32, header: &Header) {
        header.hash_low.store(chain.head, Relaxed);
        chain.head = slot;
        if chain.len == 0 {
            chain.tail = slot;
        }
        chain.len += 1;
    }

    /// Adds a slot that has ended to the end of `chain`.
    pub(super) fn push_back(&self, chain: &mut Chain, slot: u32) {
        self.append(chain, Chain { head: slot, tail: slot, len: 1 });
    }

    /// Moves all of `from` behind `to`.
    #[inline]
    pub(super) fn append(&self, to: &mut Chain, from: Chain) {
        if from.len == 0 {
            return;
        }
        if to.len == 0 {
            *to = from;
        } else {
            self.header(to.tail).hash_low.store(from.head, Relaxed);
            to.tail = from.tail;
            to.len += from.len;
        }
    }

    /// Makes cells free whose entries have been dropped, or need no dropping.
    pub(super) fn release(&self, books: &mut CellBooks, mut chain: Chain) {
        // The latest goes first: its memory is the most likely to be in the processor's cache.
        self.append(&mut chain, books.free.take());
        books.free = chain;
    }

    /// The slots of a chain.
    pub(super) fn slots<'a>(&'a self, chain: &'a Chain) -> impl Iterator<Item = u32> + use<'a> {
        let mut next = chain.head;
        (0..chain.len).map(move |_| {
            let slot = next;
            next = self.header(slot).hash_low.load(Relaxed);
            slot
        })
    }

    /// The entries of a chain, with the causes of their departure.
    ///
    /// # Safety
    ///
    /// As for [`cell`](Self::cell). The chain is one of departures: its cells are held.
    pub(super) unsafe fn departed<'a, K: 'a, V: 'a>(
        &'a self,
        chain: &'a Chain,
    ) -> impl Iterator<Item = (&'a K, &'a V, RemovalCause)> {
        self.slots(chain).map(|slot| {
            // SAFETY: by the caller's promise.
            let cell = unsafe { self.cell::<K, V>(slot) };
            // SAFETY: held until the chain has been dropped by `drop_entries`, which takes it mutably.
            let (key, value) = unsafe { cell.entry() };
            (key, value, cell.header.cause())
        })
    }

    /// Drops the keys and values of a chain that are still held; a panic in one does not keep the others.
    ///
    /// # Safety
    ///
    /// As for [`cell`](Self::cell). No reader can see the chain's entries any more.
    pub(super) unsafe fn drop_entries<K, V>(&self, chain: &mut Chain) {
        for slot in self.slots(chain) {
            // SAFETY: the chain is ours alone; readers are gone by the caller's promise.
            unsafe { drop_entry(self.cell::<K, V>(slot)) };
        }
    }

    /// Drops all entries that are held.
    ///
    /// # Safety
    ///
    /// As for [`cell`](Self::cell). Nobody else uses the cells, now or later.
    pub(super) unsafe fn drop_all<K, V>(&self, books: &mut CellBooks) {
        if std::mem::needs_drop::<(K, V)>() {
            for slot in 0..std::mem::take(&mut books.fresh) {
                // SAFETY: by the caller's promise.
                unsafe { drop_entry(self.cell::<K, V>(slot)) };
            }
        }
    }

    /// Checks that every slot is live, free or one of the `waiting`; nothing may be under way.
    pub(super) fn validate(&self, books: &CellBooks, live: usize, waiting: usize) {
        let found = (0..books.fresh).filter(|&slot| self.live(slot).is_some()).count();
        assert_eq!(found, live, "live slots");
        assert_eq!(books.fresh as usize, live + waiting + books.free.len as usize, "a slot is lost");
        assert!(self.slots(&books.free).all(|slot| self.live(slot).is_none()), "a free slot is live");
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        let far = self.far.iter_mut().enumerate();
        let far =
            far.filter_map(|(block, start)| Some((ptr::NonNull::new(*start.get_mut())?, far_len(block))));
        for (start, len) in far.chain([(self.first, self.first_len)]) {
            // SAFETY: allocated by `allocate` with this layout, and nobody else has it any more.
            unsafe { zeroed::free(start, block_layout(self.layout, len)) };
        }
    }
}

// SAFETY: it owns the blocks, in which only headers can be reached safely: atomic integers. Whoever reaches entries has
// made promises about them.
unsafe impl Send for Cells {}
// SAFETY: as above.
unsafe impl Sync for Cells {}

fn block_layout(cell: Layout, len: u32) -> Layout {
    let size = cell.size().checked_mul(len as usize).expect("a block larger than the address space");
    Layout::from_size_align(size, cell.align()).expect("a block larger than the address space")
}

/// A block of cells, all zero.
fn allocate(cell: Layout, len: u32) -> ptr::NonNull<u8> {
    zeroed::allocate(block_layout(cell, len))
}

/// Drops a cell's entry, if it is held. A panic goes no further than the panic hook: the caller whose value it was is
/// long gone.
///
/// # Safety
///
/// Nobody else has access to the cell's entry.
unsafe fn drop_entry<K, V>(cell: &Cell<K, V>) {
    if !cell.header.is_held() {
        return;
    }
    cell.header.state.store(0, Relaxed);
    let entry = cell.entry.get().cast::<(K, V)>();
    // SAFETY: the caller's promise; and the state says from now on that it is gone, whatever `Drop` does.
    contain(|| unsafe { ptr::drop_in_place(&raw mut (*entry).0) });
    // SAFETY: likewise. Apart from the key, so that a panic of each does not abort the process.
    contain(|| unsafe { ptr::drop_in_place(&raw mut (*entry).1) });
}

/// Runs the drop of a value whose panic nobody is there to see.
fn contain(drop: impl FnOnce()) {
    if let Err(payload) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(drop)) {
        // The payload's own `Drop` could panic again.
        std::mem::forget(payload);
    }
}

/// Headers without entries, to test policies with.
#[cfg(test)]
pub(crate) struct Headers {
    pub(crate) cells: Cells,
    books: CellBooks,
}

#[cfg(test)]
impl Headers {
    pub(crate) fn new() -> Self {
        let (cells, books) = Cells::new(Layout::new::<Header>(), 0);
        Self { cells, books }
    }

    /// A slot that there was not before.
    pub(crate) fn add(&mut self) -> u32 {
        self.cells.take(&mut self.books)
    }

    /// Makes the slot one of a new entry.
    pub(crate) fn fill(&self, slot: u32, hash: u64) {
        self.cells.header(slot).fill(hash);
    }
}
