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
//! hash:   | segment: 16 bits | line: 32 bits, by multiplication | .. tag: 8 bits |
//! ```
//!
//! The line is chosen by multiplication, so the number of lines need not be a power of two and the lines stand in the
//! order of the hashes: a cursor over hashes survives growth ([`Index::entries_from`]).
//!
//! At eight entries to a line, replaced all the time, one in five lines has an entry that passed over it, and a search
//! in vain looks at 1.3 lines. With ten, or with six places to a bucket, it looks at many: entries that once passed keep
//! the path open for as long as they live.
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

use super::reclaim::{Guard, Ticket};
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

const PLACES: usize = 12;
const OVERFLOW_SHIFT: u32 = 32;
/// Entries to a line, of twelve places, at which the table grows.
const LINE_LOAD: usize = 8;

#[repr(C, align(64))]
struct Line {
    words: [AtomicU64; 2],
    slots: [AtomicU32; PLACES],
}

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
    /// Old tables that readers may still be looking at.
    retired: Vec<(Ticket, Box<Buckets>)>,
}

impl Line {
    /// A place's tag and slot; the slot first, so that the tag never shows an older one.
    fn fill(&self, place: usize, tag: u8, slot: u32) {
        self.slots[place].store(slot, Release);
        let word = &self.words[place / 8];
        word.store(word.load(Relaxed) | u64::from(tag) << (8 * (place % 8)), Release);
    }

    fn clear(&self, place: usize) {
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

    /// Acquire: an entry that passes is counted here before it is put in, and uncounted after it is taken out; and a
    /// place's slot is stored before its tag.
    #[inline]
    fn load(&self) -> Words {
        Words([self.words[0].load(Acquire), self.words[1].load(Acquire)])
    }

    /// The lowest of the `places`, which are not none and from `Words::places`, and its slot.
    #[inline]
    fn next_place(&self, places: &mut u32) -> (usize, u32) {
        let place = places.trailing_zeros() as usize;
        debug_assert!(place < PLACES);
        *places &= *places - 1;
        // SAFETY: `Words::places` has no bits from `PLACES` on.
        (place, unsafe { self.slots.get_unchecked(place) }.load(Acquire))
    }

    /// The slots of the places that are taken.
    fn taken(&self) -> impl Iterator<Item = u32> {
        let Words(words) = self.load();
        let is_taken = move |&place: &usize| words[place / 8] >> (8 * (place % 8)) & 0xff != 0;
        (0..PLACES).filter(is_taken).map(|place| self.slots[place].load(Relaxed))
    }
}

/// A line's tags and its counter, as they were at a moment.
#[derive(Clone, Copy)]
struct Words([u64; 2]);

impl Words {
    /// The places with this tag, a bit for each.
    #[inline]
    fn places(self, tag: u8) -> u32 {
        let all = (1 << PLACES) - 1;
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
            // SAFETY: they need SSE2, which every x86-64 processor has.
            let equal = unsafe {
                let words = _mm_set_epi64x(self.0[1].cast_signed(), self.0[0].cast_signed());
                _mm_movemask_epi8(_mm_cmpeq_epi8(words, _mm_set1_epi8(tag.cast_signed())))
            };
            equal as u32 & all
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        {
            (equal_bytes(self.0[0], tag) | equal_bytes(self.0[1], tag) << 8) & all
        }
    }

    #[inline]
    fn is_passed(self) -> bool {
        self.0[1] >> OVERFLOW_SHIFT != 0
    }
}

/// The bytes of a word that equal `byte`, a bit for each. Exact: an empty place must never pass for one with a tag.
#[cfg_attr(all(target_arch = "x86_64", not(miri)), allow(dead_code, reason = "for other processors"))]
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
    (hash as u8).max(1)
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
    fn home(&self, hash: u64) -> usize {
        (position(hash) * self.lines.len() as u64 >> 32) as usize
    }

    /// The first position whose home is `line` or a later one.
    fn first_position(&self, line: usize) -> u64 {
        ((line as u64) << 32).div_ceil(self.lines.len() as u64)
    }

    /// The lines in which entries with this home may stand, in order, each once.
    fn path(&self, home: usize) -> impl Iterator<Item = &Line> {
        self.lines[home..].iter().chain(&self.lines[..home])
    }

    /// What `matches` makes of the first slot, of those with the hash's tag on its path, of which it makes something.
    fn search<'a, R>(
        &'a self,
        hash: u64,
        mut matches: impl FnMut(&'a Line, usize, u32) -> Option<R>,
    ) -> Option<R> {
        let home = self.home(hash);
        let mut at = home;
        loop {
            let (line, words) = self.look(at);
            let mut places = words.places(tag(hash));
            while places != 0 {
                let (place, slot) = line.next_place(&mut places);
                let found = matches(line, place, slot);
                if found.is_some() {
                    return found;
                }
            }
            at = if at + 1 == self.lines.len() { 0 } else { at + 1 };
            if !words.is_passed() || at == home {
                return None;
            }
        }
    }

    /// The line `at`, which must be below their number, and what its words say.
    #[inline]
    fn look(&self, at: usize) -> (&Line, Words) {
        debug_assert!(at < self.lines.len());
        // SAFETY: `at` is from `home`, a 32-bit number times the length, shifted right by 32, thus less than the length;
        // or from `search`, which goes up from there to the length and starts again at 0.
        let line = unsafe { self.lines.get_unchecked(at) };
        (line, line.load())
    }

    /// Where `slot` stands.
    fn find(&self, hash: u64, slot: u32) -> Option<(&Line, usize)> {
        self.search(hash, |line, place, other| (other == slot).then_some((line, place)))
    }

    fn insert(&self, hash: u64, slot: u32) {
        for line in self.path(self.home(hash)) {
            let empty = line.load().places(0);
            if empty != 0 {
                return line.fill(empty.trailing_zeros() as usize, tag(hash), slot);
            }
            line.pass();
        }
        unreachable!("the index grows before it is full");
    }

    /// Takes `slot` out, if it stands here.
    fn remove(&self, hash: u64, slot: u32) -> bool {
        let Some((found, place)) = self.find(hash, slot) else { return false };
        found.clear(place);
        self.path(self.home(hash)).take_while(|line| !ptr::eq(*line, found)).for_each(Line::unpass);
        true
    }

    /// Adds to `out` the slots whose home is `home`.
    fn collect(&self, home: usize, out: &mut Vec<u32>, hash_of: &impl Fn(u32) -> u64) {
        for line in self.path(home) {
            out.extend(line.taken().filter(|&slot| self.home(hash_of(slot)) == home));
            if !line.load().is_passed() {
                break;
            }
        }
    }
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
        let books = IndexBooks { len: 0, moved: 0, expected_lines, retired: Vec::new() };
        let mut lines = 1;
        while lines * LINE_LOAD < initial {
            lines = books.lines_after(lines);
        }
        (Self { current: AtomicPtr::new(Box::into_raw(Buckets::new(lines))) }, books)
    }

    /// What `matches` makes of the first slot that may be of this hash and of which it makes something.
    #[inline(always)]
    pub(super) fn find<R>(&self, pinned: &Guard, hash: u64, matches: impl Fn(u32) -> Option<R>) -> Option<R> {
        let current = self.current.load(Acquire);
        // SAFETY: as in `find_anywhere`.
        let buckets = unsafe { &*current };
        // Nearly always there is no old table and the first line tells.
        if buckets.old.load(Acquire).is_null() {
            let (line, words) = buckets.look(buckets.home(hash));
            let mut places = words.places(tag(hash));
            while places != 0 {
                let (_, slot) = line.next_place(&mut places);
                let found = matches(slot);
                if found.is_some() {
                    return found;
                }
            }
            if !words.is_passed() && ptr::eq(self.current.load(Acquire), current) {
                return None;
            }
        }
        self.find_anywhere(pinned, hash, matches)
    }

    #[cold]
    #[inline(never)]
    fn find_anywhere<R>(&self, _pinned: &Guard, hash: u64, matches: impl Fn(u32) -> Option<R>) -> Option<R> {
        loop {
            let current = self.current.load(Acquire);
            // SAFETY: 1. A table is freed by nobody but `free_retired`, after all guards of its time, and by `drop`,
            // which has the index to itself. 2. The guard was made before `current` was loaded. So both tables live
            // while it does.
            let (buckets, old) = unsafe { (&*current, (*current).old.load(Acquire).as_ref()) };
            // Acquire: a null here is stored after everything has been moved, which must then be seen below.
            let found = old.and_then(|old| old.search(hash, |_, _, slot| matches(slot)));
            let found = found.or_else(|| buckets.search(hash, |_, _, slot| matches(slot)));
            if found.is_some() {
                return found;
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
        // SAFETY: only a holder of the lock frees a table (`free_retired`, which takes the books mutably), and
        // the books that are borrowed here stand behind that lock.
        unsafe {
            let current = &*self.current.load(Relaxed);
            (current.old.load(Relaxed).as_ref(), current)
        }
    }

    /// As [`find`](Self::find), for the holder of the table's lock.
    #[inline]
    pub(super) fn find_locked<R>(
        &self,
        books: &IndexBooks,
        hash: u64,
        mut matches: impl FnMut(u32) -> Option<R>,
    ) -> Option<R> {
        let (old, current) = self.tables(books);
        let found = old.and_then(|old| old.search(hash, |_, _, slot| matches(slot)));
        found.or_else(|| current.search(hash, |_, _, slot| matches(slot)))
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
        let found = moving.and_then(|table| table.find(hash, old));
        if let Some((line, place)) = found.or_else(|| current.find(hash, old)) {
            line.slots[place].store(new, Release);
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
        let line = current.home(cursor << 16);
        let end = current.first_position(line + 1);
        current.collect(line, out, &hash_of);
        if let Some(old) = old {
            for line in old.home(cursor << 16)..=old.home((end - 1) << 16) {
                old.collect(line, out, &hash_of);
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
            for slot in line.taken() {
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
        books.retired.push((Ticket::draw(), old));
    }

    /// Frees old tables that no reader looks at any more.
    pub(super) fn free_retired(&self, books: &mut IndexBooks) {
        if !books.retired.is_empty() {
            books.retired.retain(|(ticket, _)| !ticket.has_passed());
        }
    }

    /// Checks the counters against the places, and that every slot can be found.
    pub(super) fn validate(&self, books: &IndexBooks, hash_of: impl Fn(u32) -> u64) {
        let (old, current) = self.tables(books);
        let mut len = 0;
        for buckets in old.into_iter().chain([current]) {
            for slot in buckets.lines.iter().flat_map(Line::taken) {
                assert!(buckets.find(hash_of(slot), slot).is_some(), "slot {slot} cannot be found by its hash");
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
