//! The entries' memory: cells that never move and are freed with the table.
//!
//! ```text
//! first block: slots 0..first_len       far blocks: 64, 128, 256, ... slots, as they are needed
//! cell:        | header: hash, mark, state (8 bytes) | key, value |
//! ```
//!
//! Where it is known how many entries there will be they are all in the first block, so that a slot's cell is found
//! without another look at memory. Blocks come zeroed, and large ones take memory only when it is written to (`zeroed`).
//! Free cells of the first block are used before those of far blocks, so a burst that needed far blocks leaves them, and
//! [`Cells::trim`] gives back those at the end that are free.
//!
//! [`Cells`] know nothing of `K` and `V` but their layout, so that all that needs no more than headers is compiled once.
//!
//! # States of a cell
//!
//! | bits | key and value | in the index | access to them |
//! | --- | --- | --- | --- |
//! | none | none | no | none; after [`Cells::take`] the writer that fills the cell |
//! | `HELD` | there | on the way in: not yet, or just now | readers that found it in the index, shared |
//! | `HELD`, `LIVE` | there | yes | readers, shared |
//! | `HELD`, `ENDED` | there | on the way out: still, or no longer | readers with a hazard; when there is none, the thread that drops them |
//!
//! A cell is `LIVE` only while it is in the index: the bit comes after the cell has been put in, and goes before the cell
//! is taken out. So a reader that sees the bit knows that the entry can be found by others, too. Where nothing needs
//! dropping a cell that becomes free keeps its bits: there they decide nothing.
//!
//! A cell that is `ENDED` or free is always in exactly one chain: a free list, the departures of an operation, or one of
//! those in `limbo`. Chains are linked through the header's hash, which is no longer needed.

use super::zeroed;
use crate::parts::lists::MAX_SLOTS;
use crate::removal::RemovalCause;
use crate::sync::{AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64};
use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const LIVE: u8 = 1;
const HELD: u8 = 2;
const PINNED: u8 = 4;
const ENDED: u8 = 8;
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

/// An entry's hash, mark and state. All zero in fresh memory.
///
/// All but `mark` is written under the table's lock only. The hash is relaxed: the lock orders writers, and readers without it
/// decide nothing by it. `mark` is a hint, and a lost write of it is harmless.
#[cfg_attr(larder_loom, derive(Default))]
#[repr(C, align(8))]
pub(crate) struct Header {
    /// Bits 16..48 of the hash; `hash_high` has bits 48..64.
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

    /// Reports whether the entry can be found.
    ///
    /// Acquire; pairs with the Release in [`publish`](Self::publish): a reader that sees the bit sees the key and the value
    /// of the entry whose bit it is.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.state.load(Acquire) & LIVE != 0
    }

    /// Reports whether the entry has left: another one, or none, is there for its key.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.state.load(Relaxed) & ENDED != 0
    }

    fn is_held(&self) -> bool {
        self.state.load(Relaxed) & HELD != 0
    }

    #[inline]
    pub(crate) fn is_pinned(&self) -> bool {
        self.state.load(Relaxed) & PINNED != 0
    }

    /// Only under the table's lock, for an entry that has not ended.
    pub(crate) fn set_pinned(&self, pinned: bool) {
        let state = self.state.load(Relaxed);
        // Release, as in `publish`: the bit that `is_live` looks at may be in what this stores.
        self.state.store(if pinned { state | PINNED } else { state & !PINNED }, Release);
    }

    fn cause(&self) -> RemovalCause {
        CAUSES[usize::from(self.state.load(Relaxed) >> CAUSE_SHIFT)]
    }

    /// Writes the header of a new entry, which is held and not live yet.
    #[inline]
    fn fill(&self, hash: u64) {
        self.hash_low.store((hash >> 16) as u32, Relaxed);
        self.hash_high.store((hash >> 48) as u16, Relaxed);
        self.mark.store(0, Relaxed);
        self.state.store(HELD, Relaxed);
    }

    /// Makes an entry live that has been put into the index.
    #[inline]
    pub(super) fn publish(&self) {
        // Release; pairs with the Acquire in `is_live`.
        self.state.store(self.state.load(Relaxed) | LIVE, Release);
    }

    /// Ends an entry, which the caller then takes out of the index.
    #[inline]
    pub(super) fn end(&self, cause: RemovalCause) {
        // Relaxed: the Release store that takes the entry out of the index hands it on to readers that miss it, and
        // `Ticket::draw` to the heavy barrier.
        self.state.store(HELD | ENDED | (cause as u8) << CAUSE_SHIFT, Relaxed);
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
const FAR_SHIFT: u32 = if cfg!(larder_loom) { 2 } else { 6 };
/// Enough blocks for all slots.
pub(super) const FAR_BLOCKS: usize = (MAX_SLOTS >> FAR_SHIFT).ilog2() as usize + 2;
/// The first block takes at most so many bytes, since it is reserved before it is needed.
const MOST_FIRST: usize = 16 << 20;
/// The same where it is not known how many entries there will be.
const UNKNOWN_FIRST: usize = if cfg!(miri) {
    1 << 14
} else if cfg!(larder_loom) {
    1
} else {
    1 << 20
};

/// Where the cells are.
#[repr(C)]
pub(crate) struct Cells {
    first: ptr::NonNull<u8>,
    first_len: u32,
    /// Of a cell; its size is a multiple of its alignment.
    layout: Layout,
    /// The far blocks, each twice as long as the one before; null where there is none yet.
    far: Box<[AtomicPtr<u8>; FAR_BLOCKS]>,
    /// How often far blocks were given back.
    trims: AtomicU64,
}

/// The writer's side, kept under the table's lock.
pub(super) struct CellBooks {
    /// Free cells of the first block.
    free: Chain,
    /// Free cells of far blocks.
    free_far: Chain,
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

/// Returns the number of far cells before a far block.
fn far_begin(block: usize) -> u32 {
    far_len(block) - (1 << FAR_SHIFT)
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
        let books = CellBooks { free: Chain::new(), free_far: Chain::new(), fresh: 0, room: first_len };
        (Self { first, first_len, layout, far, trims: AtomicU64::new(0) }, books)
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

    /// Returns the address of a cell that is not in the first block; null if its block does not exist, or not any
    /// longer.
    #[inline]
    fn try_far_place(&self, slot: u32) -> *mut u8 {
        let (block, place) = far_place(slot - self.first_len);
        // Acquire; pairs with the Release in `add_block`: the block is zeroed.
        let start = self.far.get(block).map_or(ptr::null_mut(), |start| start.load(Acquire));
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

    /// Returns the address of a slot's cell; `None` if its block does not exist, or not any longer.
    #[inline]
    pub(crate) fn address(&self, slot: u32) -> Option<*const u8> {
        let place = if slot < self.first_len {
            self.place(slot, self.layout.size())
        } else {
            self.try_far_place(slot)
        };
        (!place.is_null()).then_some(place.cast_const())
    }

    /// Returns how often far blocks were given back. A reader that finds it, and an address of a far cell, unchanged after it has
    /// found the slot in the index, has the address of that slot's cell and not of another block at the same place: see
    /// `Table::look`.
    pub(super) fn trims(&self) -> u64 {
        self.trims.load(Acquire)
    }

    /// Returns the cell at an address.
    ///
    /// # Safety
    ///
    /// The caller keeps the promise of [`cell`](Self::cell), and has the address from [`address`](Self::address). It knows that a
    /// far block is not given back for the lifetime that it gives the reference.
    #[inline]
    pub(super) unsafe fn cell_at<K, V>(&self, address: *const u8) -> &Cell<K, V> {
        // SAFETY: by the caller's promise. A cell of zeros is valid: its entry may be uninitialised.
        unsafe { &*address.cast::<Cell<K, V>>() }
    }

    /// Returns the slot whose cell has this address, if it is a cell of this table.
    pub(super) fn slot_at(&self, address: usize) -> Option<u32> {
        let place_in = |start: *mut u8, len: u32| {
            let offset = address.checked_sub(start.addr())?;
            let place = offset / self.layout.size();
            (!start.is_null() && place < len as usize).then_some(place as u32)
        };
        if let Some(slot) = place_in(self.first.as_ptr(), self.first_len) {
            return Some(slot);
        }
        // Relaxed: a cell that is retired and named is in a block that exists since before it was named.
        let blocks = self.far.iter().enumerate().map(|(block, start)| (block, start.load(Relaxed)));
        blocks.take_while(|(_, start)| !start.is_null()).find_map(|(block, start)| {
            Some(self.first_len + far_begin(block) + place_in(start, far_len(block))?)
        })
    }

    /// Returns the header of a slot's cell, if its entry is live.
    #[inline]
    pub(super) fn live(&self, slot: u32) -> Option<&Header> {
        let place = self.address(slot)?;
        // SAFETY: as in `header`.
        let header = unsafe { &*place.cast::<Header>() };
        header.is_live().then_some(header)
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

    /// A free cell's slot, to be filled.
    #[inline]
    pub(super) fn take(&self, books: &mut CellBooks) -> u32 {
        if books.free.len > 0 {
            return self.pop_front(&mut books.free);
        }
        if books.fresh < self.first_len {
            books.fresh += 1;
            return books.fresh - 1;
        }
        self.take_far(books)
    }

    #[cold]
    fn take_far(&self, books: &mut CellBooks) -> u32 {
        if books.free_far.len > 0 {
            return self.pop_front(&mut books.free_far);
        }
        if books.fresh == books.room {
            self.add_block(books);
        }
        books.fresh += 1;
        books.fresh - 1
    }

    /// Takes the first slot of a chain that is not empty.
    #[inline]
    fn pop_front(&self, chain: &mut Chain) -> u32 {
        let slot = chain.head;
        chain.head = self.header(slot).hash_low.load(Relaxed);
        chain.len -= 1;
        slot
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

    /// Puts an entry into a cell that was taken, and returns its header. It is held, but neither in the index nor live yet.
    ///
    /// # Safety
    ///
    /// As for [`cell`](Self::cell); and `slot` has been taken since it was last filled.
    #[inline]
    pub(super) unsafe fn fill<'a, K: 'a, V: 'a>(&'a self, slot: u32, hash: u64, entry: (K, V)) -> &'a Header {
        // SAFETY: by the caller's promise.
        let cell = unsafe { self.cell::<K, V>(slot) };
        // SAFETY: taken, and not held since: by the table of states nobody else has access to the entry.
        unsafe { (*cell.entry.get()).write(entry) };
        cell.header.fill(hash);
        &cell.header
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
        if books.fresh <= self.first_len {
            // The latest goes first: its memory is the most likely to be in the processor's cache.
            self.append(&mut chain, books.free.take());
            books.free = chain;
            return;
        }
        while chain.len > 0 {
            let slot = self.pop_front(&mut chain);
            let free = if slot < self.first_len { &mut books.free } else { &mut books.free_far };
            self.push_front(free, slot, self.header(slot));
        }
    }

    /// Moves the slots of `chain` for which `goes` says so to the end of `into`.
    pub(super) fn divide(&self, chain: &mut Chain, into: &mut Chain, goes: impl Fn(u32) -> bool) {
        let mut rest = chain.take();
        while rest.len > 0 {
            let slot = self.pop_front(&mut rest);
            self.push_back(if goes(slot) { into } else { chain }, slot);
        }
    }

    /// Takes up to `n` slots from the front of `chain`.
    pub(super) fn split_front(&self, chain: &mut Chain, n: u32) -> Chain {
        if chain.len <= n {
            return chain.take();
        }
        let Some(last) = self.slots(chain).nth(n as usize - 1) else { return Chain::new() };
        let front = Chain { head: chain.head, tail: last, len: n };
        chain.head = self.header(last).hash_low.load(Relaxed);
        chain.len -= n;
        front
    }

    /// Takes out the far blocks at the end of which all cells are free, to be dropped without the lock.
    pub(super) fn trim(&self, books: &mut CellBooks) -> Vec<Block> {
        let mut free = [0; FAR_BLOCKS];
        self.slots(&books.free_far).for_each(|slot| free[far_place(slot - self.first_len).0] += 1);
        let begin = |block| self.first_len + far_begin(block);
        let blocks = (0..FAR_BLOCKS).take_while(|&block| begin(block) < books.room).count();
        let in_use =
            |&block: &usize| free[block] < books.fresh.saturating_sub(begin(block)).min(far_len(block));
        let kept = (0..blocks).rev().find(in_use).map_or(0, |last| last + 1);
        if kept == blocks {
            return Vec::new();
        }
        books.room = begin(kept);
        books.fresh = books.fresh.min(books.room);
        let mut gone = Chain::new();
        self.divide(&mut books.free_far, &mut gone, |slot| slot >= books.room);
        // Before the blocks go. Release pairs with the Acquire in `trims`.
        self.trims.fetch_add(1, Release);
        // Relaxed: no reader reads a cell of these blocks, see `Table::look`.
        let starts = (kept..blocks).map(|block| (block, self.far[block].swap(ptr::null_mut(), Relaxed)));
        let block = |(block, start)| {
            let start = ptr::NonNull::new(start)?;
            // SAFETY: from `add_block`, and just taken out. The books say from now on that there are no such slots.
            Some(unsafe { Block::new(start, self.layout, far_len(block)) })
        };
        starts.filter_map(block).collect()
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
        let free = (books.free.len + books.free_far.len) as usize;
        assert_eq!(books.fresh as usize, live + waiting + free, "a slot is lost");
        let mut free = self.slots(&books.free).chain(self.slots(&books.free_far));
        assert!(free.all(|slot| self.live(slot).is_none()), "a free slot is live");
        assert!(
            self.slots(&books.free_far).all(|slot| slot >= self.first_len),
            "a near slot among the far ones"
        );
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        // SAFETY: from `new`; the cells are gone.
        drop(unsafe { Block::new(self.first, self.layout, self.first_len) });
        for (block, start) in self.far.iter().enumerate() {
            // SAFETY: from `add_block`; the cells are gone.
            let block = |start| unsafe { Block::new(start, self.layout, far_len(block)) };
            drop(ptr::NonNull::new(start.load(Relaxed)).map(block));
        }
    }
}

/// A block of cells that is no longer used, and freed when this is dropped. Its entries are not dropped.
pub(crate) struct Block {
    start: ptr::NonNull<u8>,
    layout: Layout,
}

impl Block {
    /// # Safety
    ///
    /// `start` came from [`allocate`] with the same `cell` and `len`. The caller gives it up: it is neither used nor given
    /// to another `Block`.
    unsafe fn new(start: ptr::NonNull<u8>, cell: Layout, len: u32) -> Self {
        Self { start, layout: block_layout(cell, len) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: by the promise of `new`'s caller, from `allocate` with this layout, and used no more.
        unsafe { zeroed::free(self.start, self.layout) };
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
    let start = zeroed::allocate(block_layout(cell, len));
    #[cfg(larder_loom)]
    for place in 0..len as usize {
        // SAFETY: a cell of the block, which begins with a header. (loom's atomics are not valid as zeros.)
        unsafe { start.as_ptr().add(place * cell.size()).cast::<Header>().write(Header::default()) };
    }
    start
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
        self.cells.header(slot).publish();
    }
}
