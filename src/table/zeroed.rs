//! Zeroed memory that is taken when it is written to.
//!
//! For large blocks the system's allocator asks the operating system for fresh pages, which are zero and take memory
//! only once they are touched. But Rust asks it so (`calloc`) only for an alignment that every block has; for a larger
//! one it would clear the whole block at once. So here it is asked for a little more, and the alignment made by hand.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// What every block is aligned to.
const PLAIN: usize = 2 * size_of::<usize>();

/// What the allocator is asked for, where `layout` needs a larger alignment:
///
/// ```text
/// | up to align - PLAIN bytes | where the block begins | layout.size() bytes, aligned |
/// ```
fn padded(layout: Layout) -> Layout {
    let size = layout.size().checked_add(layout.align());
    let padded = size.and_then(|size| Layout::from_size_align(size, PLAIN).ok());
    padded.expect("a block larger than the address space")
}

/// Zeroed memory of this layout, whose size is not 0. To be freed by [`free`].
pub(super) fn allocate(layout: Layout) -> NonNull<u8> {
    assert!(layout.size() > 0);
    if layout.align() <= PLAIN {
        // SAFETY: the size is not 0.
        let block = unsafe { alloc_zeroed(layout) };
        return NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout));
    }
    let padded = padded(layout);
    // SAFETY: the size is not 0.
    let block = unsafe { alloc_zeroed(padded) };
    let block = NonNull::new(block).unwrap_or_else(|| handle_alloc_error(padded));
    // The block is aligned to `PLAIN`, so this is at least that and at most `align` from its beginning.
    let skipped = layout.align() - block.addr().get() % layout.align();
    // SAFETY: `skipped` is at most `align`, which is how much the block is longer than the layout.
    let start = unsafe { block.add(skipped) };
    // SAFETY: the pointer's place is in the block, of which at least `PLAIN` bytes stand before `start`, and is aligned,
    // as `start` is.
    unsafe { start.cast::<NonNull<u8>>().sub(1).write(block) };
    start
}

/// # Safety
///
/// `start` came from [`allocate`] for this layout, and is used no more.
pub(super) unsafe fn free(start: NonNull<u8>, layout: Layout) {
    if layout.align() <= PLAIN {
        // SAFETY: by the caller's promise, from `alloc_zeroed` with this layout.
        unsafe { dealloc(start.as_ptr(), layout) };
        return;
    }
    // SAFETY: `allocate` has written it there; it is no part of what its caller was given.
    let block = unsafe { start.cast::<NonNull<u8>>().sub(1).read() };
    // SAFETY: from `alloc_zeroed` with that layout.
    unsafe { dealloc(block.as_ptr(), padded(layout)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_zero() {
        for align in (0..13).map(|shift| 1 << shift) {
            for size in [1, 24, align, if cfg!(miri) { 100 } else { 100_000 }] {
                let layout = Layout::from_size_align(size, align).unwrap();
                let start = allocate(layout);
                assert_eq!(start.addr().get() % align, 0);
                // SAFETY: `size` bytes, all initialised.
                let bytes = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), size) };
                assert!(bytes.iter().all(|&byte| byte == 0));
                bytes.fill(1);
                // SAFETY: as it was allocated.
                unsafe { free(start, layout) };
            }
        }
    }
}
