//! A number for each slot, beside the cells: for what only some caches know of an entry.
//!
//! Read without a lock, and never moved. Its blocks are as the cells' (`cells`), so that what is known to be needed is
//! asked for at once, and takes memory when it is written to.

use super::cells::{FAR_BLOCKS, far_len, far_place};
use super::zeroed;
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

/// Numbers by slot; 0 where nothing else was ever said.
pub(crate) struct Column {
    first: Block,
    far: Box<[OnceLock<Block>; FAR_BLOCKS]>,
}

impl Column {
    /// For as many slots as the first block of the cells has.
    pub(super) fn new(first_len: u32) -> Self {
        Self { first: Block::new(first_len), far: Box::new([const { OnceLock::new() }; FAR_BLOCKS]) }
    }

    /// Another for the same slots, all 0.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.first.len)
    }

    /// The number of a slot, if one was ever written.
    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&AtomicU64> {
        match self.first.numbers().get(slot as usize) {
            Some(number) => Some(number),
            None => {
                let (block, place) = far_place(slot - self.first.len);
                self.far.get(block)?.get()?.numbers().get(place)
            }
        }
    }

    /// The number of a slot, to write to.
    #[inline]
    pub(crate) fn at(&self, slot: u32) -> &AtomicU64 {
        match self.first.numbers().get(slot as usize) {
            Some(number) => number,
            None => {
                let (block, place) = far_place(slot - self.first.len);
                &self.far[block].get_or_init(|| Block::new(far_len(block))).numbers()[place]
            }
        }
    }
}

/// Zeroed numbers on the heap.
struct Block {
    start: NonNull<AtomicU64>,
    len: u32,
}

// SAFETY: it owns its numbers, which are atomic.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    fn layout(len: u32) -> Layout {
        Layout::array::<AtomicU64>(len as usize).expect("a block larger than the address space")
    }

    fn new(len: u32) -> Self {
        assert!(len > 0);
        Self { start: zeroed::allocate(Self::layout(len)).cast(), len }
    }

    #[inline]
    fn numbers(&self) -> &[AtomicU64] {
        // SAFETY: allocated in `new` for `len` of them, aligned for them, and freed in `drop` only. Zero bytes are valid.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len as usize) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; `&mut self`: nobody uses it.
        unsafe { zeroed::free(self.start.cast(), Self::layout(self.len)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn every_slot_has_a_number_of_its_own() {
        let column = Column::new(3);
        assert_eq!(column.get(2).map(|number| number.load(Relaxed)), Some(0));
        assert!(column.get(3).is_none() && column.get(u32::MAX).is_none());
        for slot in 0..1_000 {
            column.at(slot).store(u64::from(slot) + 1, Relaxed);
        }
        for slot in 0..1_000 {
            assert_eq!(column.get(slot).unwrap().load(Relaxed), u64::from(slot) + 1);
        }
    }
}
