//! From a hash to slot numbers: an open-addressed table that readers search without a lock.
//!
//! # Layout
//!
//! A line of the processor's cache holds two buckets of six places:
//!
//! ```text
//! bucket:  word  | tag 0 | tag 1 | tag 2 | tag 3 | tag 4 | tag 5 | overflow (16 bits) |
//!          slots | u32   | u32   | u32   | u32   | u32   | u32   |
//! tag:     0 = empty place, 1 = never, else 8 bits of the hash
//! ```
//!
//! A key's home bucket is a function of its hash. It stands there or, when that is full, in the first bucket with an
//! empty place on its *path*: the other half of the line, then the next line, and so on. Each bucket counts in
//! `overflow` the entries that passed over it, so that a search stops at the first bucket that nothing passed over, and
//! no tombstones are needed. (F14's scheme, by Bronson and Shi, 2019, on half a line.)
//!
//! ```text
//! hash:    | (not kept) 16 bits | line 32 bits, by multiplication | half 1 bit .. tag 8 bits |
//! ```
//!
//! The line is chosen by multiplication, so the number of lines need not be a power of two and the lines stand in the
//! order of the hashes: a cursor over hashes survives growth ([`Index::entries_from`]).
//!
//! # Growth
//!
//! A larger table is put before the old one; each insert then moves one line. A search looks into the old table first
//! and then into the new one: an entry is put into the new one before it is taken out of the old, so that whoever does
//! not find it in the old finds it in the new.
//!
//! # What readers may rely on
//!
//! Only one thread writes at a time (the table's lock). Within one `Buckets` an entry never moves; a new slot for the
//! same key is stored over the old number. So a reader that finds its key missing knows that it was missing at some
//! moment, unless its `Buckets` became the old one meanwhile: then it starts again.
//!
//! Orderings: a place's slot number is stored before the word that shows its tag (Release), and a reader loads the word
//! (Acquire) before the number. A number may be stored over another one, thus its own Release and Acquire: whatever
//! was written into the slot before is seen by the reader that found the number.

use super::reclaim::{self, Guard};
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

const PLACES: usize = 6;
const LOW_BITS: u64 = 0x0000_0101_0101_0101;
const HIGH_BITS: u64 = LOW_BITS << 7;
const OVERFLOW_SHIFT: u32 = 48;
const OVERFLOW_FULL: u64 = 0xffff;
/// Entries to a line, of twelve places, at which the table grows.
const LINE_LOAD: usize = 10;

#[repr(C)]
struct Bucket {
    word: AtomicU64,
    slots: [AtomicU32; PLACES],
}

#[repr(C, align(64))]
struct Line([Bucket; 2]);

struct Buckets {
    lines: Box<[Line]>,
    /// The table whose entries are being moved into this one, or null.
    old: AtomicPtr<Buckets>,
}

/// The readers' side. It owns the tables behind its pointers.
pub(super) struct Index {
    current: AtomicPtr<Buckets>,
}

/// The writer's side, kept under the table's lock.
pub(super) struct IndexBooks {
    /// Entries in the current and the old table together.
    len: usize,
    /// Lines of the old table that have been moved.
    moved: usize,
    /// Lines that the expected number of entries needs, for growth to land on.
    expected_lines: usize,
}

impl Bucket {
    /// A place's tag and slot; the slot first, so that the tag never shows an older one.
    fn fill(&self, place: usize, tag: u8, slot: u32) {
        self.slots[place].store(slot, Release);
        let word = self.word.load(Relaxed);
        self.word.store(word | u64::from(tag) << (8 * place), Release);
    }

    fn clear(&self, place: usize) {
        let word = self.word.load(Relaxed);
        self.word.store(word & !(0xff << (8 * place)), Release);
    }

    /// Counts an entry that passes over this bucket. A full counter stays full: searches get longer, never wrong.
    fn pass(&self) {
        let word = self.word.load(Relaxed);
        if word >> OVERFLOW_SHIFT < OVERFLOW_FULL {
            self.word.store(word + (1 << OVERFLOW_SHIFT), Release);
        }
    }

    fn unpass(&self) {
        let word = self.word.load(Relaxed);
        if word >> OVERFLOW_SHIFT < OVERFLOW_FULL {
            self.word.store(word - (1 << OVERFLOW_SHIFT), Release);
        }
    }

    fn empty_place(&self) -> Option<usize> {
        places(self.word.load(Relaxed), 0).next()
    }

    /// The slots of the places that are taken.
    fn taken(&self) -> impl Iterator<Item = u32> {
        let word = self.word.load(Relaxed);
        (0..PLACES).filter(move |place| word >> (8 * place) & 0xff != 0).map(|place| self.slots[place].load(Relaxed))
    }
}

/// The places of a word whose tag is `tag`. Above a true one, false ones may follow, whose tag differs in the lowest bit
/// only: the caller compares. So that these are never empty places, in which an old slot number may stand, no tag is 1.
#[inline]
fn places(word: u64, tag: u8) -> impl Iterator<Item = usize> {
    let differing = word ^ (LOW_BITS * u64::from(tag));
    let mut zeros = differing.wrapping_sub(LOW_BITS) & !differing & HIGH_BITS;
    std::iter::from_fn(move || {
        if zeros == 0 {
            return None;
        }
        let place = zeros.trailing_zeros() as usize / 8;
        zeros &= zeros - 1;
        Some(place)
    })
}

#[inline]
fn tag(hash: u64) -> u8 {
    (hash as u8).max(2)
}

/// The part of a hash that chooses the line.
#[inline]
fn position(hash: u64) -> u64 {
    hash >> 16 & 0xffff_ffff
}

impl Buckets {
    fn new(lines: usize) -> Box<Self> {
        let layout = Layout::array::<Line>(lines).expect("an index larger than the address space");
        // Zeroed by the allocator, which for large tables takes fresh pages: no pause to clear them.
        // SAFETY: 1. `lines` is at least 1 (`IndexBooks::lines_for`), so the layout is not empty. 2. All-zero bytes are
        // a valid `Line`: it holds nothing but atomic integers. 3. The slice is made of one allocation with the layout
        // that `Box<[Line]>` frees it with.
        let lines = unsafe {
            let memory = alloc_zeroed(layout).cast::<Line>();
            if memory.is_null() {
                handle_alloc_error(layout);
            }
            Box::from_raw(ptr::slice_from_raw_parts_mut(memory, lines))
        };
        Box::new(Self { lines, old: AtomicPtr::new(ptr::null_mut()) })
    }

    #[inline]
    fn home_line(&self, hash: u64) -> usize {
        (position(hash) * self.lines.len() as u64 >> 32) as usize
    }

    /// The first position that belongs to `line` or a later one.
    fn first_position(&self, line: usize) -> u64 {
        ((line as u64) << 32).div_ceil(self.lines.len() as u64)
    }

    /// The buckets in which an entry of this hash may stand, in order, each once.
    #[inline]
    fn path(&self, hash: u64) -> impl Iterator<Item = &Bucket> {
        self.path_from(self.home_line(hash), half(hash))
    }

    #[inline]
    fn path_from(&self, home: usize, half: usize) -> impl Iterator<Item = &Bucket> {
        let lines = self.lines.len();
        (0..2 * lines).map(move |step| {
            let line = home + step / 2;
            let line = if line < lines { line } else { line - lines };
            &self.lines[line].0[half ^ (step & 1)]
        })
    }

    /// The place, on the path of `hash`, of the first slot with the hash's tag that `matches`.
    #[inline]
    fn find(&self, hash: u64, mut matches: impl FnMut(u32) -> bool) -> Option<(&Bucket, usize, u32)> {
        for bucket in self.path(hash) {
            let word = bucket.word.load(Acquire);
            for place in places(word, tag(hash)) {
                let slot = bucket.slots[place].load(Acquire);
                if matches(slot) {
                    return Some((bucket, place, slot));
                }
            }
            if word >> OVERFLOW_SHIFT == 0 {
                return None;
            }
        }
        None
    }

    fn insert(&self, hash: u64, slot: u32) {
        for bucket in self.path(hash) {
            if let Some(place) = bucket.empty_place() {
                return bucket.fill(place, tag(hash), slot);
            }
            bucket.pass();
        }
        unreachable!("the index grows before it is full");
    }

    /// Takes `slot` out, if it stands here.
    fn remove(&self, hash: u64, slot: u32) -> bool {
        let Some((found, place, _)) = self.find(hash, |other| other == slot) else { return false };
        found.clear(place);
        self.path(hash).take_while(|bucket| !ptr::eq(*bucket, found)).for_each(Bucket::unpass);
        true
    }

    /// Adds to `out` the slots whose home is `line`.
    fn collect_line(&self, line: usize, out: &mut Vec<u32>, hash_of: &impl Fn(u32) -> u64) {
        for home_half in 0..2 {
            for bucket in self.path_from(line, home_half) {
                let is_home = |&slot: &u32| {
                    let hash = hash_of(slot);
                    self.home_line(hash) == line && half(hash) == home_half
                };
                out.extend(bucket.taken().filter(is_home));
                if bucket.word.load(Relaxed) >> OVERFLOW_SHIFT == 0 {
                    break;
                }
            }
        }
    }
}

#[inline]
fn half(hash: u64) -> usize {
    hash as usize >> 8 & 1
}

impl IndexBooks {
    fn lines_for(entries: usize) -> usize {
        entries.div_ceil(LINE_LOAD).max(1)
    }

    /// How many lines the table after one of `lines` lines has: about twice as many, and on the way to the expected
    /// number such that doubling lands on it.
    fn lines_after(&self, lines: usize) -> usize {
        if lines >= self.expected_lines {
            return lines * 2;
        }
        let mut next = self.expected_lines;
        while next / 2 > lines {
            next /= 2;
        }
        next
    }
}

impl Index {
    /// An index with room for `initial` entries, expected to hold `expected` in the end, 0 where that is not known.
    pub(super) fn new(initial: usize, expected: usize) -> (Self, IndexBooks) {
        let expected_lines = if expected == 0 { 0 } else { IndexBooks::lines_for(expected) };
        let books = IndexBooks { len: 0, moved: 0, expected_lines };
        let mut lines = 1;
        while lines * LINE_LOAD < initial {
            lines = books.lines_after(lines);
        }
        (Self { current: AtomicPtr::new(Box::into_raw(Buckets::new(lines))) }, books)
    }

    /// The slot on the path of `hash` that `matches`, if there is one; asked only for slots with the hash's tag.
    #[inline]
    pub(super) fn find(&self, _pinned: &Guard, hash: u64, mut matches: impl FnMut(u32) -> bool) -> Option<u32> {
        loop {
            let current = self.current.load(Acquire);
            // SAFETY: 1. A table is freed by nobody but `finish_move`, after all guards of its time, and by `drop`,
            // which has the index to itself. 2. The guard was made before `current` was loaded. So both tables live
            // while it does.
            let (buckets, old) = unsafe { (&*current, (*current).old.load(Acquire).as_ref()) };
            // Acquire: a null here is stored after everything has been moved, which must then be seen below.
            let found = match old {
                Some(old) => old.find(hash, &mut matches).or_else(|| buckets.find(hash, &mut matches)),
                None => buckets.find(hash, &mut matches),
            };
            if let Some((_, _, slot)) = found {
                return Some(slot);
            }
            // Moved away while we looked? Acquire pairs with the Release of `grow`: whoever misses an entry because it
            // has been taken out of `buckets` has seen that store, or one after `grow`.
            if ptr::eq(self.current.load(Acquire), current) {
                return None;
            }
        }
    }

    /// The tables, for the holder of the table's lock: the old one, if any, and the current one.
    fn tables<'a>(&'a self, _books: &'a IndexBooks) -> (Option<&'a Buckets>, &'a Buckets) {
        // Relaxed: the lock has ordered us behind whoever stored them.
        // SAFETY: only a holder of the lock frees a table (through `finish_move`, which takes the books mutably), and
        // the books that are borrowed here stand behind that lock.
        unsafe {
            let current = &*self.current.load(Relaxed);
            (current.old.load(Relaxed).as_ref(), current)
        }
    }

    /// As [`find`](Self::find), for the holder of the table's lock.
    #[inline]
    pub(super) fn find_locked(
        &self,
        books: &IndexBooks,
        hash: u64,
        mut matches: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let (old, current) = self.tables(books);
        let found = old.and_then(|old| old.find(hash, &mut matches));
        found.or_else(|| current.find(hash, &mut matches)).map(|(_, _, slot)| slot)
    }

    /// Adds a slot. `hash_of` gives the hash of the slots that are in already.
    pub(super) fn insert(&self, books: &mut IndexBooks, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let (old, current) = self.tables(books);
        if old.is_some() {
            self.move_lines(books, 1, &hash_of);
        } else if books.len >= current.lines.len() * LINE_LOAD {
            self.grow(books);
        }
        self.tables(books).1.insert(hash, slot);
        books.len += 1;
        if books.len > self.tables(books).1.lines.len() * LINE_LOAD {
            // Only if moving has not kept pace with inserts.
            self.move_lines(books, usize::MAX, &hash_of);
        }
    }

    /// Puts `new` where `old` stands.
    pub(super) fn replace(&self, books: &IndexBooks, hash: u64, old: u32, new: u32) {
        let (moving, current) = self.tables(books);
        let found = moving.and_then(|table| table.find(hash, |slot| slot == old));
        if let Some((bucket, place, _)) = found.or_else(|| current.find(hash, |slot| slot == old)) {
            bucket.slots[place].store(new, Release);
        }
    }

    /// Takes a slot out.
    pub(super) fn remove(&self, books: &mut IndexBooks, hash: u64, slot: u32) {
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
        let line = current.home_line(cursor << 16);
        let end = current.first_position(line + 1);
        current.collect_line(line, out, &hash_of);
        if let Some(old) = old {
            for line in old.home_line(cursor << 16)..=old.home_line((end - 1) << 16) {
                old.collect_line(line, out, &hash_of);
            }
        }
        out.retain(|&slot| (cursor..end).contains(&position(hash_of(slot))));
        (line + 1 < current.lines.len()).then_some(end)
    }

    /// Puts an empty, larger table before the current one.
    fn grow(&self, books: &mut IndexBooks) {
        let current = self.current.load(Relaxed);
        let next = Buckets::new(books.lines_after(self.tables(books).1.lines.len()));
        next.old.store(current, Relaxed);
        books.moved = 0;
        // Release: whoever sees the table sees its link to the old one.
        self.current.store(Box::into_raw(next), Release);
    }

    fn move_lines(&self, books: &mut IndexBooks, lines: usize, hash_of: &impl Fn(u32) -> u64) {
        let (Some(old), current) = self.tables(books) else { return };
        let end = books.moved.saturating_add(lines).min(old.lines.len());
        for line in &old.lines[books.moved..end] {
            for slot in line.0.iter().flat_map(Bucket::taken) {
                let hash = hash_of(slot);
                current.insert(hash, slot);
                old.remove(hash, slot);
            }
        }
        let done = end == old.lines.len();
        books.moved = end;
        if done {
            self.finish_move(books);
        }
    }

    fn finish_move(&self, books: &mut IndexBooks) {
        let old = {
            let (_, current) = self.tables(books);
            // Release: a reader that sees no old table sees all that came from it.
            current.old.swap(ptr::null_mut(), Release)
        };
        // SAFETY: 1. The pointer came from `Box::into_raw` in `grow` or `new` and is not null, as `move_lines` found
        // the table behind it. 2. It has just been taken out of the only place that led to it, under the lock, so it
        // becomes a box only once.
        let old = unsafe { Box::from_raw(old) };
        reclaim::pin().after_readers(move || drop(old));
    }

    /// Checks the counters against the places, and that every slot can be found.
    pub(super) fn validate(&self, books: &IndexBooks, hash_of: impl Fn(u32) -> u64) {
        let (old, current) = self.tables(books);
        let mut len = 0;
        for buckets in old.into_iter().chain([current]) {
            for slot in buckets.lines.iter().flat_map(|line| line.0.iter().flat_map(Bucket::taken)) {
                let found = buckets.find(hash_of(slot), |other| other == slot);
                assert!(found.is_some(), "slot {slot} cannot be found by its hash");
                len += 1;
            }
        }
        assert_eq!(len, books.len, "the index has lost count");
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let current = *self.current.get_mut();
        // SAFETY: 1. `current` came from `Box::into_raw`, likewise its `old` if it is not null. 2. `&mut self`: no
        // reader and no writer is left, and nothing else frees them.
        unsafe {
            let mut current = Box::from_raw(current);
            let old = *current.old.get_mut();
            if !old.is_null() {
                drop(Box::from_raw(old));
            }
        }
    }
}
