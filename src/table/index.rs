//! From a hash to slot numbers: an open-addressed table that readers search without a lock.
//!
//! # Layout
//!
//! A line of the processor's cache holds twelve places, and all that a search needs to know of them:
//!
//! ```text
//! words:  | tag 0 .. tag 7 |   | tag 8 .. tag 11 | overflow (32 bits) |
//! slots:  | u32 for each of the twelve places |
//! tag:    0 = empty place, else 8 bits of the hash
//! ```
//!
//! A key's home line is a function of its hash. It stands there or, when the line is full, in the first line behind it
//! that has an empty place. Each line counts in `overflow` the entries that passed over it, so that a search stops at
//! the first line that nothing passed over, and no tombstones are needed. (F14's scheme, by Bronson and Shi, 2019.)
//!
//! ```text
//! hash:   | position: 32 bits, whose highest choose the line | .. tag: 8 bits | not for the table: 16 bits |
//! ```
//!
//! The lines stand in the order of the positions, however many there are: a cursor over positions survives growth
//! ([`Index::entries_from`]).
//!
//! Under churn, entries that once passed over a line keep the path open for as long as they live. In a simulation a
//! search in vain looks at 1.6 lines where there are eight entries to a line, at 3 with nine and at 16 with ten; with
//! places in groups of six rather than twelve at more.
//!
//! A table is known by one word, the [`Root`], so that a search needs but one load to get to its line: the address of
//! the first line with, in its low bits, how many there are. A quick look ([`Index::glance`]) follows a root of its own,
//! which leads to the current table or, while that does not have all entries, to one that knows nothing and says so.
//!
//! # Growth
//!
//! A larger table takes the place of the current one, which becomes the old one; each insert then moves one line. A
//! search looks into the old table first and then into the new one: an entry is put into the new one before it is taken
//! out of the old, so that whoever does not find it in the old finds it in the new.
//!
//! No insert does more than this. The new table need not be cleared, since it takes fresh pages when they are written to
//! (`zeroed`), as long as the allocator has no old block of that size to clear and give; freeing the old one is the
//! operating system's work, O(its pages).
//!
//! The old tables stay in memory until the index is dropped, so no reader needs to be waited for: together they are smaller
//! than the current one, and where the number of entries is known from the start there are none.
//!
//! # What readers may rely on
//!
//! Only one thread writes at a time (the table's lock). Within one table an entry never moves; a new slot for the same
//! key is stored over the old number. So a reader that finds its key missing knows that it was missing at some moment,
//! unless its table became the old one meanwhile: then it starts again.
//!
//! A reader loads a tag, then a slot number, and both may be those of another entry by the time it looks at the cell. So
//! it *validates* what it found, after it has stored a hazard:
//!
//! - A [`Spot`] is unchanged if its place shows the tag, and then the slot number, once more. Then the slot was in the index
//!   after the hazard was stored. In that order: a place that was cleared and filled again shows its new tag after its new
//!   slot, and so not its new tag with its old slot.
//! - A quick look leaves that out for a cell that is live and has the key. Another key says nothing: the slot may have been used
//!   again since its number was loaded.
//!
//! Orderings: a place's slot number is stored before the word that shows its tag (Release), and a reader loads the word
//! (Acquire) before the number. A number may be stored over another one, thus its own Release and Acquire: the reader that
//! found the number sees the entry that was written into the slot before.

use super::zeroed;
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, array, constant, statics};
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::{ptr, slice};

const PLACES: usize = 12;
const OVERFLOW_SHIFT: u32 = 32;
/// Entries to a line, of twelve places, at which the table grows.
const LINE_LOAD: usize = if cfg!(larder_loom) { 1 } else { 8 };
/// Entries to a line at which the first table grows: it holds the expected number, and a little more.
const FIRST_LINE_LOAD: usize = if cfg!(larder_loom) { LINE_LOAD } else { LINE_LOAD + 1 };

#[repr(C, align(64))]
struct Line {
    words: [AtomicU64; 2],
    slots: [AtomicU32; PLACES],
}

/// A table: its first line, and in the address's low bits what else there is to know.
///
/// ```text
/// | address of the first line | shift (6 bits) |
/// ```
///
/// There are `2^(64 - shift)` lines, at least two, so a hash's line is `hash >> shift`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Root(*mut Line);

const SHIFT_MASK: usize = 63;

statics! {
    /// A table that knows nothing: whatever is looked for may stand behind its lines. Never written to.
    static NOWHERE: [Line; 2] = array![Line::nothing(); 2];
}

/// Places of a line, a bit for each; none from [`PLACES`] on.
#[derive(Clone, Copy)]
struct Places(u32);

/// A place of a line: less than [`PLACES`]. From [`Places`] only.
#[derive(Clone, Copy)]
struct Place(usize);

/// A table's lines.
#[derive(Clone, Copy)]
struct Lines<'a>(&'a [Line]);

/// The readers' side. It owns the tables behind `current` and `old`.
#[repr(C)]
pub(super) struct Index {
    /// The `Root` for quick looks: `current`, or that of [`NOWHERE`].
    quick: AtomicPtr<Line>,
    /// A `Root`; never null.
    current: AtomicPtr<Line>,
    /// The `Root` of the table whose entries are being moved into the current one, or null.
    old: AtomicPtr<Line>,
}

/// The writer's side, kept under the table's lock.
pub(super) struct IndexBooks {
    /// Entries in the current and the old table together.
    len: usize,
    /// Entries at which the current table grows.
    limit: usize,
    /// Lines of the old table that have been moved.
    moved: usize,
    /// Whether quick looks are to find anything.
    has_quick: bool,
    /// Tables that readers may still be looking at. Kept until the index is dropped.
    retired: Vec<OldTable>,
}

/// A quick look was not enough.
pub(crate) struct Unsure;

/// A slot number that a search has met, and where.
pub(super) struct Spot<'a> {
    line: &'a Line,
    place: Place,
    tag: u8,
    pub(super) slot: u32,
}

/// The next step of a search, after a [`Spot`].
pub(super) enum Look<R> {
    /// It ends with this.
    Found(R),
    /// It goes on: this is another key's.
    Another,
    /// It looks at the line once more.
    Changed,
}

impl Spot<'_> {
    /// Reports whether the slot is in the index, at the same place.
    pub(super) fn is_unchanged(&self) -> bool {
        // Both Acquire, in this order: see "What readers may rely on".
        self.line.tag(self.place) == self.tag && self.line.slot(self.place).load(Acquire) == self.slot
    }
}

/// A table that has been taken out of the index, to be freed.
struct OldTable(Root);

impl Places {
    #[inline(always)]
    fn new(bits: u32) -> Self {
        Self(bits & ((1 << PLACES) - 1))
    }

    #[inline(always)]
    fn first(self) -> Option<Place> {
        (self.0 != 0).then(|| Place(self.0.trailing_zeros() as usize))
    }

    #[inline(always)]
    fn drop_first(&mut self) {
        self.0 &= self.0.wrapping_sub(1);
    }

    fn but(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }
}

/// The lowest first.
impl Iterator for Places {
    type Item = Place;

    #[inline(always)]
    fn next(&mut self) -> Option<Place> {
        let first = self.first()?;
        self.drop_first();
        Some(first)
    }
}

impl Line {
    constant! {
        fn nothing() -> Self {
            let words = [AtomicU64::new(0), AtomicU64::new(1 << OVERFLOW_SHIFT)];
            Self { words, slots: array![AtomicU32::new(0); PLACES] }
        }
    }

    /// A place's tag and slot; the slot first, so that the tag never shows an older one.
    ///
    /// Release, the slot, too: a reader that has loaded the word when another entry with this tag stood here may load this
    /// number behind it. Then nothing but the number itself leads from what was written into the slot to the reader.
    #[inline]
    fn fill(&self, place: Place, tag: u8, slot: u32) {
        self.slot(place).store(slot, Release);
        let Place(place) = place;
        let word = &self.words[place / 8];
        word.store(word.load(Relaxed) | u64::from(tag) << (8 * (place % 8)), Release);
    }

    /// Returns a place's tag; 0 if it is empty. Acquire; pairs with the Release in `fill`.
    fn tag(&self, Place(place): Place) -> u8 {
        (self.words[place / 8].load(Acquire) >> (8 * (place % 8))) as u8
    }

    fn clear(&self, Place(place): Place) {
        let word = &self.words[place / 8];
        word.store(word.load(Relaxed) & !(0xff << (8 * (place % 8))), Release);
    }

    /// Counts an entry that passes over this line. There are fewer than 2^32 slots, so it cannot overflow.
    fn pass(&self) {
        self.words[1].store(self.words[1].load(Relaxed) + (1 << OVERFLOW_SHIFT), Release);
    }

    fn unpass(&self) {
        self.words[1].store(self.words[1].load(Relaxed) - (1 << OVERFLOW_SHIFT), Release);
    }

    /// The places with this tag; with 0, the empty ones.
    ///
    /// Whoever finds a tag finds the slot that was stored before it, or a later one.
    #[inline(always)]
    fn places(&self, tag: u8) -> Places {
        #[cfg(all(target_arch = "x86_64", not(miri), not(larder_loom)))]
        {
            use std::arch::x86_64::{__m128i, _mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set1_epi8};
            let words: __m128i;
            // SAFETY: 1. It loads the 16 bytes of `words`, which are aligned to that, and does nothing else. 2. Others may
            // store to them meanwhile, by atomic operations only. The processor makes of the instruction what two atomic
            // loads with Acquire are on x86-64: each aligned half of eight bytes is loaded at once, and no later load
            // overtakes it. (That of the halves is what all x86-64 processors do. In writing Intel and AMD have it, and for
            // all 16 bytes, only for those with AVX.) In which order the halves are loaded does not matter: a place's tag
            // is in one of them, and the overflow is loaded again, later, by `is_passed`. Nor does the compiler move a load
            // before it, since it must take it for one that writes memory.
            // 3. SSE2 is there on every x86-64 processor.
            let equal = unsafe {
                std::arch::asm!(
                    "movdqa {words}, [{line}]",
                    words = out(xmm_reg) words,
                    line = in(reg) &raw const self.words,
                    options(nostack, preserves_flags),
                );
                _mm_movemask_epi8(_mm_cmpeq_epi8(words, _mm_set1_epi8(tag.cast_signed())))
            };
            Places::new(equal as u32)
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri), not(larder_loom))))]
        {
            let words = [self.words[0].load(Acquire), self.words[1].load(Acquire)];
            Places::new(equal_bytes(words[0], tag) | equal_bytes(words[1], tag) << 8)
        }
    }

    /// Whether an entry whose home is this line, or one before it, may stand behind it.
    ///
    /// Acquire: an entry is counted before it is put in and uncounted after it is taken out, so one that is there all the
    /// while is always counted.
    #[inline]
    fn is_passed(&self) -> bool {
        self.words[1].load(Acquire) >> OVERFLOW_SHIFT != 0
    }

    /// The number in a place, to be loaded with Acquire by readers.
    #[inline(always)]
    fn slot(&self, Place(place): Place) -> &AtomicU32 {
        // SAFETY: a `Place` is less than `PLACES`.
        unsafe { self.slots.get_unchecked(place) }
    }

    /// The slots of the places that are taken.
    fn taken(&self) -> impl Iterator<Item = u32> {
        Places::new(u32::MAX).but(self.places(0)).map(|place| self.slot(place).load(Relaxed))
    }
}

/// The bytes of a word that equal `byte`, a bit for each. Exact: an empty place must never pass for one with a tag.
#[cfg_attr(
    all(target_arch = "x86_64", not(miri), not(larder_loom)),
    allow(dead_code, reason = "for other processors")
)]
fn equal_bytes(word: u64, byte: u8) -> u32 {
    let ones = u64::MAX / 0xff;
    let differing = word ^ (ones * u64::from(byte));
    let low = ones * 0x7f;
    let zeros = !(((differing & low) + low) | differing | low);
    // Gathers the highest bits of the bytes in the highest byte.
    ((zeros >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
}

#[inline]
fn tag(hash: u64) -> u8 {
    ((hash >> 16) as u8).max(1)
}

/// The part of a hash that chooses the line.
#[inline]
fn position(hash: u64) -> u64 {
    hash >> 32
}

impl Root {
    /// A new table, empty.
    fn new(lines: usize) -> Self {
        let lines = lines.max(2);
        debug_assert!(lines.is_power_of_two());
        // No pause to clear a large one: see there.
        let memory = zeroed::allocate(Self::layout(lines)).cast::<Line>().as_ptr();
        #[cfg(larder_loom)]
        for line in 0..lines {
            let words = [AtomicU64::new(0), AtomicU64::new(0)];
            // SAFETY: one of the lines. (loom's atomics are not valid as zeros.)
            unsafe { memory.add(line).write(Line { words, slots: array![AtomicU32::new(0); PLACES] }) };
        }
        Self(memory.map_addr(|address| address | (64 - lines.ilog2() as usize)))
    }

    fn layout(lines: usize) -> Layout {
        Layout::array::<Line>(lines).expect("an index larger than the address space")
    }

    fn len(self) -> usize {
        1 << (64 - (self.0.addr() & SHIFT_MASK))
    }

    fn first(self) -> *mut Line {
        self.0.map_addr(|address| address & !SHIFT_MASK)
    }

    /// The root of [`NOWHERE`].
    fn nowhere() -> Self {
        let first = NOWHERE.as_ptr().cast_mut();
        Self(first.map_addr(|address| address | (64 - NOWHERE.len().ilog2() as usize)))
    }

    /// # Safety
    ///
    /// The table lives as long as the lifetime that the caller gives it.
    unsafe fn lines<'a>(self) -> Lines<'a> {
        // SAFETY: 1. `first` is an allocation of `len` lines. 2. All-zero bytes are a valid `Line`: it holds nothing but
        // atomic integers. 3. It lives, by the caller's promise.
        Lines(unsafe { slice::from_raw_parts(self.first(), self.len()) })
    }

    /// The home line of a hash.
    ///
    /// # Safety
    ///
    /// As for [`lines`](Self::lines).
    #[inline]
    unsafe fn home_line<'a>(self, hash: u64) -> &'a Line {
        // As `first().add(home)`. With the low bits cleared last it takes one register less.
        let line = self.0.wrapping_add(self.home(hash)).map_addr(|address| address & !SHIFT_MASK);
        // SAFETY: `home` is below the number of lines; the rest as in `lines`.
        unsafe { &*line }
    }

    /// The number of the home line of a hash.
    #[inline]
    fn home(self, hash: u64) -> usize {
        // The shift takes only its low six bits from the address: the others do not matter to it.
        hash.wrapping_shr(self.0.addr() as u32) as usize
    }
}

impl Drop for OldTable {
    fn drop(&mut self) {
        let first = NonNull::new(self.0.first()).expect("a root is not null");
        // SAFETY: allocated by `Root::new` with this layout; whoever made the `OldTable` gave it up.
        unsafe { zeroed::free(first.cast(), Root::layout(self.0.len())) };
    }
}

impl<'a> Lines<'a> {
    fn home(self, hash: u64) -> usize {
        ((position(hash) * self.0.len() as u64) >> 32) as usize
    }

    /// The first position whose home is `line` or a later one.
    fn first_position(self, line: usize) -> u64 {
        ((line as u64) << 32) / self.0.len() as u64
    }

    /// The lines in which entries with this home may stand, in order, each once.
    fn path(self, home: usize) -> impl Iterator<Item = &'a Line> {
        self.0[home..].iter().chain(&self.0[..home])
    }

    /// Returns what `look` finds among the spots with the hash's tag on its path.
    fn search<R>(self, hash: u64, mut look: impl FnMut(&Spot<'a>) -> Look<R>) -> Option<R> {
        let tag = tag(hash);
        for line in self.path(self.home(hash)) {
            let mut places = line.places(tag);
            while let Some(place) = places.next() {
                let spot = Spot { line, place, tag, slot: line.slot(place).load(Acquire) };
                match look(&spot) {
                    Look::Found(found) => return Some(found),
                    Look::Another => {}
                    Look::Changed => places = line.places(tag),
                }
            }
            if !line.is_passed() {
                break;
            }
        }
        None
    }

    /// Returns what `matches` makes of the first slot of which it makes something, for the holder of the table's lock.
    fn search_locked<R>(self, hash: u64, mut matches: impl FnMut(u32) -> Option<R>) -> Option<R> {
        self.search(hash, |spot| matches(spot.slot).map_or(Look::Another, Look::Found))
    }

    /// Where `slot` stands.
    fn find(self, hash: u64, slot: u32) -> Option<(&'a Line, Place)> {
        self.search(hash, |spot| {
            if spot.slot == slot { Look::Found((spot.line, spot.place)) } else { Look::Another }
        })
    }

    fn insert(self, hash: u64, slot: u32) {
        for line in self.path(self.home(hash)) {
            if let Some(place) = line.places(0).first() {
                return line.fill(place, tag(hash), slot);
            }
            line.pass();
        }
        unreachable!("the index grows before it is full");
    }

    /// Takes `slot` out, if it stands here.
    fn remove(self, hash: u64, slot: u32) -> bool {
        let Some((found, place)) = self.find(hash, slot) else { return false };
        found.clear(place);
        self.path(self.home(hash)).take_while(|line| !ptr::eq(*line, found)).for_each(Line::unpass);
        true
    }

    /// Adds to `out` the slots whose home is `home`.
    fn collect(self, home: usize, out: &mut Vec<u32>, hash_of: &impl Fn(u32) -> u64) {
        for line in self.path(home) {
            out.extend(line.taken().filter(|&slot| self.home(hash_of(slot)) == home));
            if !line.is_passed() {
                break;
            }
        }
    }
}

impl Index {
    /// An index with room for `initial` entries, with or without quick looks.
    pub(super) fn new(initial: usize, has_quick: bool) -> (Self, IndexBooks) {
        let root = Root::new(initial.div_ceil(LINE_LOAD).next_power_of_two());
        let books = IndexBooks {
            len: 0,
            limit: root.len() * FIRST_LINE_LOAD,
            moved: 0,
            has_quick,
            retired: Vec::new(),
        };
        let index = Self {
            quick: AtomicPtr::new(if has_quick { root } else { Root::nowhere() }.0),
            current: AtomicPtr::new(root.0),
            old: AtomicPtr::new(ptr::null_mut()),
        };
        (index, books)
    }

    /// Returns what [`find`](Self::find) does, if there are quick looks and the first place with the hash's tag tells: nearly
    /// always, unless there is an old table. `take` validates the slot and its key, or gives up.
    #[inline(always)]
    pub(super) fn glance<R>(
        &self,
        hash: u64,
        take: impl FnOnce(u32) -> Result<R, Unsure>,
    ) -> Result<Option<R>, Unsure> {
        let root = Root(self.quick.load(Acquire));
        // SAFETY: as in `find`; or `NOWHERE`, which is never freed.
        let line = unsafe { root.home_line(hash) };
        if let Some(place) = line.places(tag(hash)).first() {
            return take(line.slot(place).load(Acquire)).map(Some);
        }
        // Moved away while we looked? As in `find`.
        if line.is_passed() || self.quick.load(Acquire) != root.0 { Err(Unsure) } else { Ok(None) }
    }

    /// Lets the processor fetch the line that a search looks at first.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        let root = Root(self.current.load(Relaxed));
        super::prefetch(root.first().wrapping_add(root.home(hash)));
    }

    /// The home line of a hash; `None` while there is an old table, too. For the holder of the lock.
    #[inline]
    fn home_line<'a>(&'a self, _books: &'a IndexBooks, hash: u64) -> Option<&'a Line> {
        let root = Root(self.current.load(Relaxed));
        // SAFETY: as in `tables`.
        self.old.load(Relaxed).is_null().then(|| unsafe { root.home_line(hash) })
    }

    /// Returns what `look` finds among the spots that may be of this hash. It validates those that it does not find changed.
    pub(super) fn find<R>(&self, hash: u64, look: impl Fn(&Spot<'_>) -> Look<R>) -> Option<R> {
        loop {
            let root = Root(self.current.load(Acquire));
            // Acquire: no old table, or a later one, is stored after everything has been moved from the one before.
            let old = Root(self.old.load(Acquire));
            if !old.0.is_null() {
                // SAFETY: tables are freed by `drop` only, which has the index to itself.
                let found = unsafe { old.lines() }.search(hash, &look);
                if found.is_some() {
                    return found;
                }
            }
            // SAFETY: as for the old one.
            let found = unsafe { root.lines() }.search(hash, &look);
            if found.is_some() {
                return found;
            }
            // Moved away while we looked? Acquire pairs with the Release of `grow`: a reader that misses an entry because
            // it has been taken out of this table sees that store, or a later one. No other table has the same address.
            if self.current.load(Acquire) == root.0 {
                return None;
            }
        }
    }

    /// The tables, for the holder of the table's lock: the old one, if any, and the current one.
    fn tables<'a>(&'a self, _books: &'a IndexBooks) -> (Option<Lines<'a>>, Lines<'a>) {
        // Relaxed: the lock has ordered us behind whoever stored them.
        let (old, current) = (Root(self.old.load(Relaxed)), Root(self.current.load(Relaxed)));
        // SAFETY: tables are freed by `drop` only, which has the index to itself.
        unsafe { ((!old.0.is_null()).then(|| old.lines()), current.lines()) }
    }

    /// As [`find`](Self::find), for the holder of the table's lock.
    #[inline(always)]
    pub(super) fn find_locked<R>(
        &self,
        books: &IndexBooks,
        hash: u64,
        mut matches: impl FnMut(u32) -> Option<R>,
    ) -> Option<R> {
        if let Some(line) = self.home_line(books, hash) {
            let mut places = line.places(tag(hash));
            while let Some(place) = places.first() {
                let found = matches(line.slot(place).load(Acquire));
                if found.is_some() {
                    return found;
                }
                places.drop_first();
            }
            if !line.is_passed() {
                return None;
            }
        }
        let (old, current) = self.tables(books);
        let found = old.and_then(|old| old.search_locked(hash, &mut matches));
        found.or_else(|| current.search_locked(hash, matches))
    }

    /// Adds a slot. `hash_of` gives the hash of the slots that are in already.
    #[inline(always)]
    pub(super) fn insert(&self, books: &mut IndexBooks, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        if let Some(line) = self.home_line(books, hash)
            && let Some(place) = line.places(0).first()
            && books.len < books.limit
        {
            line.fill(place, tag(hash), slot);
            books.len += 1;
            return;
        }
        self.insert_anywhere(books, hash, slot, hash_of);
    }

    #[cold]
    fn insert_anywhere(&self, books: &mut IndexBooks, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        if self.tables(books).0.is_some() {
            self.move_lines(books, 1, &hash_of);
        } else if books.len >= books.limit {
            self.grow(books);
        }
        // While lines are being moved there is room: they are all moved when an eighth of the new places is taken.
        self.tables(books).1.insert(hash, slot);
        books.len += 1;
    }

    /// Puts `new` in the place of `old`.
    ///
    /// # Panics
    ///
    /// If `old` is not in.
    pub(super) fn replace(&self, books: &IndexBooks, hash: u64, old: u32, new: u32) {
        let (moving, current) = self.tables(books);
        let found = moving.and_then(|table| table.find(hash, old));
        let (line, place) = found.or_else(|| current.find(hash, old)).expect("a live entry is in the index");
        line.slot(place).store(new, Release);
    }

    /// Takes a slot out.
    #[inline(always)]
    pub(super) fn remove(&self, books: &mut IndexBooks, hash: u64, slot: u32) {
        if let Some(line) = self.home_line(books, hash) {
            let mut places = line.places(tag(hash));
            while let Some(place) = places.first() {
                if line.slot(place).load(Acquire) == slot {
                    line.clear(place);
                    books.len -= 1;
                    return;
                }
                places.drop_first();
            }
        }
        self.remove_anywhere(books, hash, slot);
    }

    #[cold]
    fn remove_anywhere(&self, books: &mut IndexBooks, hash: u64, slot: u32) {
        let (old, current) = self.tables(books);
        if old.is_some_and(|old| old.remove(hash, slot)) || current.remove(hash, slot) {
            books.len -= 1;
        }
    }

    /// Adds to `out` the slots of some hashes from `cursor` on, and says where to go on, if there is more.
    ///
    /// Following the cursor from 0 meets every slot that is in all the while exactly once, whatever grows between.
    pub(super) fn entries_from(
        &self,
        books: &IndexBooks,
        cursor: u64,
        out: &mut Vec<u32>,
        hash_of: impl Fn(u32) -> u64,
    ) -> Option<u64> {
        let (old, current) = self.tables(books);
        let line = current.home(cursor << 32);
        let end = current.first_position(line + 1);
        current.collect(line, out, &hash_of);
        if let Some(old) = old {
            for line in old.home(cursor << 32)..=old.home((end - 1) << 32) {
                old.collect(line, out, &hash_of);
            }
        }
        out.retain(|&slot| (cursor..end).contains(&position(hash_of(slot))));
        (line + 1 < current.0.len()).then_some(end)
    }

    /// Puts an empty table of twice the size in the place of the current one.
    fn grow(&self, books: &mut IndexBooks) {
        let current = Root(self.current.load(Relaxed));
        let next = Root::new(current.len() * 2);
        books.moved = 0;
        books.limit = next.len() * LINE_LOAD;
        // Release, all: whoever sees a store sees those before it, and whoever misses an entry that has been taken out of
        // the table sees them all.
        self.quick.store(Root::nowhere().0, Release);
        self.old.store(current.0, Release);
        self.current.store(next.0, Release);
    }

    /// Moves some lines from the old table to the current one.
    fn move_lines(&self, books: &mut IndexBooks, lines: usize, hash_of: &impl Fn(u32) -> u64) {
        let (Some(old), current) = self.tables(books) else { return };
        let end = (books.moved + lines).min(old.0.len());
        for line in &old.0[books.moved..end] {
            for slot in line.taken() {
                let hash = hash_of(slot);
                current.insert(hash, slot);
                old.remove(hash, slot);
            }
        }
        let done = end == old.0.len();
        books.moved = end;
        if done {
            self.finish_move(books);
        }
    }

    fn finish_move(&self, books: &mut IndexBooks) {
        // Release, both: a reader that sees no old table, or a table for quick looks, sees all that came from the old one.
        let old = self.old.swap(ptr::null_mut(), Release);
        if books.has_quick {
            self.quick.store(self.current.load(Relaxed), Release);
        }
        books.retired.push(OldTable(Root(old)));
    }

    /// Checks the counters against the places, and that every slot can be found.
    pub(super) fn validate(&self, books: &IndexBooks, hash_of: impl Fn(u32) -> u64) {
        let (old, current) = self.tables(books);
        let mut len = 0;
        for lines in old.into_iter().chain([current]) {
            for slot in lines.0.iter().flat_map(Line::taken) {
                assert!(lines.find(hash_of(slot), slot).is_some(), "slot {slot} cannot be found by its hash");
                len += 1;
            }
        }
        assert_eq!(len, books.len, "the index has lost count");
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        // Relaxed: `&mut self`.
        drop(OldTable(Root(self.current.load(Relaxed))));
        let old = self.old.load(Relaxed);
        if !old.is_null() {
            drop(OldTable(Root(old)));
        }
    }
}

// SAFETY: it owns its lines, which are but atomic integers.
unsafe impl Send for OldTable {}
