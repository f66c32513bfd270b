//! The entries' memory: cells that never move, in chunks that are never freed while the table lives.
//!
//! ```text
//! chunk 0: slots 0..64     chunk 1: slots 64..128     chunk 2: slots 128..256     chunk 3: slots 256..512   ...
//! cell:    | header: hash, mark, state (8 bytes) | key, value |
//! ```
//!
//! Each chunk doubles what there is, so that a slot's chunk is known from its highest bit, and the few pointers to
//! chunks stay close to the processor. The chunk in which the expected number of slots falls ends there: should more be
//! needed after all, the numbers go on with the next chunk. Chunks come zeroed from the allocator: large ones take no
//! memory until they are used.
//!
//! # States of a cell
//!
//! | state | key and value | in the index | who may touch them |
//! | --- | --- | --- | --- |
//! | free | none | no | nobody |
//! | held, live | there | yes | readers under a guard, shared |
//! | held, not live | there | no | readers whose guard is older; then only who frees it |
//!
//! A cell that is not live is always in exactly one chain: the free list, the departures of an operation, or those
//! that wait for their readers. Chains are linked through the header's hash, which nobody needs any more.

use crate::parts::lists::MAX_SLOTS;
use crate::removal::RemovalCause;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ops::Range;
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
#[repr(C)]
pub(crate) struct Header {
    hash_low: AtomicU32,
    hash_high: AtomicU16,
    mark: AtomicU8,
    state: AtomicU8,
}

impl Header {
    pub(crate) fn hash(&self) -> u64 {
        u64::from(self.hash_low.load(Relaxed)) | u64::from(self.hash_high.load(Relaxed)) << 32
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
    pub(crate) fn raise_mark(&self, most: u8) {
        let mark = self.mark();
        if mark < most {
            self.set_mark(mark + 1);
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state.load(Relaxed) & LIVE != 0
    }

    fn is_held(&self) -> bool {
        self.state.load(Relaxed) & HELD != 0
    }

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
}

#[repr(C)]
pub(super) struct Cell<K, V> {
    pub(super) header: Header,
    entry: UnsafeCell<MaybeUninit<(K, V)>>,
}

impl<K, V> Cell<K, V> {
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
}

/// Slots in the first chunk, as a power of two.
const FIRST_SHIFT: u32 = 6;
const CHUNKS: usize = (MAX_SLOTS >> FIRST_SHIFT).ilog2() as usize + 2;

/// The readers' side: where the cells are.
pub(super) struct Slots<K, V> {
    /// For each chunk, where slot 0 would be if the chunk reached down to it; null for a chunk that is not there.
    chunks: [AtomicPtr<Cell<K, V>>; CHUNKS],
}

/// The writer's side, kept under the table's lock.
pub(super) struct SlotBooks {
    free: Chain,
    /// Slots below this have been given out, or belong to no chunk.
    fresh: u32,
    /// The end of the last chunk.
    room: u32,
    /// Slots that are expected to be enough; 0 if that is not known.
    expected: u32,
    /// Slots that belong to no chunk.
    skipped: u32,
}

/// The chunk of a slot.
#[inline]
fn chunk_of(slot: u32) -> usize {
    ((slot | ((1 << FIRST_SHIFT) - 1)).ilog2() - (FIRST_SHIFT - 1)) as usize
}

/// The slots of a chunk, with its full length.
fn slots_of(chunk: usize) -> Range<u32> {
    match chunk {
        0 => 0..1 << FIRST_SHIFT,
        _ => 1 << (FIRST_SHIFT as usize + chunk - 1)..1 << (FIRST_SHIFT as usize + chunk),
    }
}

impl<K, V> Slots<K, V> {
    /// Room for cells, of which some `expected` are enough, 0 if that is not known.
    pub(super) fn new(expected: usize) -> (Self, SlotBooks) {
        let expected = u32::try_from(expected).unwrap_or(0);
        let books = SlotBooks { free: Chain::new(), fresh: 0, room: 0, expected, skipped: 0 };
        (Self { chunks: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())) }, books)
    }

    /// # Safety
    ///
    /// `slot` was given out by [`take`](Self::take), and the caller has seen what happened before: it holds the lock,
    /// or it found the number in the index.
    #[inline]
    pub(super) unsafe fn cell(&self, slot: u32) -> &Cell<K, V> {
        // SAFETY: 1. A slot is below `MAX_SLOTS`, so its chunk is below `CHUNKS`. 2. The chunk's pointer was stored
        // before the slot was given out, which the caller has seen (thus relaxed), and never changes. 3. The slot lies
        // within the chunk, which is not freed while the table lives and whose headers are initialised.
        unsafe {
            let chunk = self.chunks.get_unchecked(chunk_of(slot)).load(Relaxed);
            &*chunk.wrapping_add(slot as usize)
        }
    }

    #[inline]
    pub(super) fn header_of(&self, books: &SlotBooks, slot: u32) -> &Header {
        assert!(self.was_given(books, slot), "there never was a slot {slot}");
        // SAFETY: by the assertion; the books are under the lock.
        unsafe { &self.cell(slot).header }
    }

    #[inline]
    pub(super) fn was_given(&self, books: &SlotBooks, slot: u32) -> bool {
        slot < books.fresh && (books.skipped == 0 || Self::is_in_chunk(books, slot))
    }

    #[cold]
    fn is_in_chunk(books: &SlotBooks, slot: u32) -> bool {
        Self::ends(chunk_of(slot), books.expected).contains(&slot)
    }

    /// All slots that were ever given out are below this number.
    pub(super) fn room(&self, books: &SlotBooks) -> usize {
        books.room as usize
    }

    /// Whether [`take`](Self::take) can do without fresh memory.
    pub(super) fn has_room(&self, books: &SlotBooks) -> bool {
        books.free.len > 0 || books.fresh < books.room
    }

    /// Puts an entry into a free cell and says which. It is held and live, but not yet in the index.
    pub(super) fn take(&self, books: &mut SlotBooks, hash: u64, entry: (K, V)) -> u32 {
        let slot = self.pop(books).unwrap_or_else(|| {
            if books.fresh == books.room {
                self.add_chunk(books);
            }
            books.fresh += 1;
            books.fresh - 1
        });
        // SAFETY: `slot` has just been given out, under the lock.
        let cell = unsafe { self.cell(slot) };
        // SAFETY: the cell is free and in no chain: by the table of states nobody else has access.
        unsafe { (*cell.entry.get()).write(entry) };
        cell.header.hash_low.store(hash as u32, Relaxed);
        cell.header.hash_high.store((hash >> 32) as u16, Relaxed);
        cell.header.set_mark(0);
        cell.header.state.store(HELD | LIVE, Relaxed);
        slot
    }

    fn pop(&self, books: &mut SlotBooks) -> Option<u32> {
        if books.free.len == 0 {
            return None;
        }
        let slot = books.free.head;
        books.free.head = self.next(books, slot);
        books.free.len -= 1;
        Some(slot)
    }

    fn next(&self, books: &SlotBooks, slot: u32) -> u32 {
        self.header_of(books, slot).hash_low.load(Relaxed)
    }

    /// Ends a live slot that has been taken out of the index. What is left of it until it departs is for readers.
    #[inline]
    pub(super) fn end(&self, books: &SlotBooks, slot: u32) {
        self.header_of(books, slot).state.store(HELD, Relaxed);
    }

    /// Adds a slot that has ended to `chain`.
    #[inline]
    pub(super) fn depart(&self, books: &SlotBooks, slot: u32, cause: RemovalCause, chain: &mut Chain) {
        let header = self.header_of(books, slot);
        assert!(!header.is_live(), "slot {slot} departs before its end");
        header.state.store(HELD | (cause as u8) << CAUSE_SHIFT, Relaxed);
        self.append(books, chain, Chain { head: slot, tail: slot, len: 1 });
    }

    /// Moves all of `from` behind `to`.
    #[inline]
    pub(super) fn append(&self, books: &SlotBooks, to: &mut Chain, from: Chain) {
        if from.len == 0 {
            return;
        }
        if to.len == 0 {
            *to = from;
        } else {
            self.header_of(books, to.tail).hash_low.store(from.head, Relaxed);
            to.tail = from.tail;
            to.len += from.len;
        }
    }

    /// Makes cells free whose entries have been dropped, or need no dropping.
    pub(super) fn release(&self, books: &mut SlotBooks, chain: Chain) {
        // The latest goes first: its memory is the most likely to be in the processor's cache.
        let mut free = chain;
        let rest = std::mem::replace(&mut books.free, Chain::new());
        self.append(books, &mut free, rest);
        books.free = free;
    }

    /// The entries of a chain, with the causes of their departure.
    pub(super) fn departed<'a>(
        &'a self,
        chain: &'a Chain,
    ) -> impl Iterator<Item = (&'a K, &'a V, RemovalCause)> {
        self.cells(chain).map(|cell| {
            // SAFETY: a cell in a chain of departures is held until the chain has been dropped by `drop_entries`,
            // which takes it mutably.
            let (key, value) = unsafe { cell.entry() };
            (key, value, cell.header.cause())
        })
    }

    fn cells<'a>(&'a self, chain: &'a Chain) -> impl Iterator<Item = &'a Cell<K, V>> {
        let mut slot = chain.head;
        (0..chain.len).map(move |_| {
            // SAFETY: slots in a chain have been given out, under a lock that whoever has the chain has held.
            let cell = unsafe { self.cell(slot) };
            slot = cell.header.hash_low.load(Relaxed);
            cell
        })
    }

    /// Drops the keys and values of a chain that are still held; a panic in one does not keep the others.
    ///
    /// # Safety
    ///
    /// No reader can see the chain's entries any more.
    pub(super) unsafe fn drop_entries(&self, chain: &mut Chain) {
        for cell in self.cells(chain) {
            if cell.header.is_held() {
                // SAFETY: held, and the chain is ours alone; readers are gone by the caller's promise.
                unsafe { drop_entry(cell) };
            }
        }
    }

    fn add_chunk(&self, books: &mut SlotBooks) {
        let chunk = if books.room == 0 { 0 } else { chunk_of(books.room - 1) + 1 };
        assert!(chunk < CHUNKS, "more than {MAX_SLOTS} entries in one segment: use more segments");
        let slots = Self::ends(chunk, books.expected);
        let layout = Self::layout(&slots);
        // SAFETY: the layout is not empty: a cell has a header. All-zero bytes are a valid cell: the header consists of
        // atomic integers and the entry may be uninitialised.
        let memory = unsafe { alloc_zeroed(layout) }.cast::<Cell<K, V>>();
        if memory.is_null() {
            handle_alloc_error(layout);
        }
        self.chunks[chunk].store(memory.wrapping_sub(slots.start as usize), Release);
        books.skipped += slots.start - books.room;
        books.fresh = slots.start;
        books.room = slots.end;
    }

    /// The slots of a chunk, cut off where no more are expected.
    fn ends(chunk: usize, expected: u32) -> Range<u32> {
        let slots = slots_of(chunk);
        let end = if slots.contains(&expected) && expected > slots.start { expected } else { slots.end };
        slots.start..end
    }

    fn layout(slots: &Range<u32>) -> Layout {
        Layout::array::<Cell<K, V>>(slots.len()).expect("a chunk larger than the address space")
    }

    /// Drops what is held and frees all memory.
    ///
    /// # Safety
    ///
    /// Nobody else uses the cells, now or later.
    pub(super) unsafe fn free_all(&self, books: &mut SlotBooks) {
        for chunk in 0..CHUNKS {
            let slots = Self::ends(chunk, books.expected);
            let memory = self.chunks[chunk].swap(ptr::null_mut(), Relaxed);
            if memory.is_null() {
                break;
            }
            for slot in slots.start..slots.end.min(books.fresh) {
                // SAFETY: within the chunk, whose headers are initialised; to ourselves alone, by the caller's promise.
                unsafe {
                    let cell = &*memory.wrapping_add(slot as usize);
                    if cell.header.is_held() {
                        drop_entry(cell);
                    }
                }
            }
            let start = memory.wrapping_add(slots.start as usize);
            // SAFETY: allocated by `add_chunk` with this layout, and taken out of the only place that leads to it.
            unsafe { dealloc(start.cast(), Self::layout(&slots)) };
        }
        *books = SlotBooks { free: Chain::new(), fresh: 0, room: 0, expected: books.expected, skipped: 0 };
    }

    pub(super) fn is_live(&self, books: &SlotBooks, slot: u32) -> bool {
        self.was_given(books, slot) && self.header_of(books, slot).is_live()
    }

    /// Checks that every slot is live, free or one of the `waiting`; nothing may be under way.
    pub(super) fn validate(&self, books: &SlotBooks, live: usize, waiting: usize) {
        let found = (0..books.fresh).filter(|&slot| self.is_live(books, slot)).count();
        assert_eq!(found, live, "live slots");
        assert_eq!(
            (books.fresh - books.skipped) as usize,
            live + waiting + books.free.len as usize,
            "a slot is lost"
        );
        assert_eq!(
            self.cells(&books.free).filter(|cell| cell.header.is_live()).count(),
            0,
            "a free slot is live"
        );
    }
}

/// Drops a held cell's entry. A panic goes no further than the panic hook: the caller whose value it was is long gone.
///
/// # Safety
///
/// The cell is held and nobody else has access to its entry.
unsafe fn drop_entry<K, V>(cell: &Cell<K, V>) {
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
