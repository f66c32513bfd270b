//! The system's allocator, which knows how much lives, and how much did at most.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static COLUMNS: AtomicUsize = AtomicUsize::new(0);

/// Bytes of a table's column at most, as segments ask for at once, by what they expect to need. They ask for them zeroed, and
/// write to few of them.
const MOST_COLUMN: usize = 400_000;

pub struct Heap;

impl Heap {
    /// Bytes that lived at most while something ran, beyond those before, without columns.
    pub fn peak_of<R>(run: impl FnOnce() -> R) -> (R, usize) {
        let before = LIVE.load(Relaxed);
        PEAK.store(before, Relaxed);
        COLUMNS.store(0, Relaxed);
        let result = run();
        (result, PEAK.load(Relaxed).saturating_sub(before + COLUMNS.load(Relaxed)))
    }
}

fn add(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(live, Relaxed);
}

// SAFETY: all is passed on as it came.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as for this call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        if layout.size() <= MOST_COLUMN {
            COLUMNS.fetch_add(layout.size(), Relaxed);
        }
        // SAFETY: as for this call.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as for this call.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may be there for a moment.
        add(size);
        // SAFETY: as for this call.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        LIVE.fetch_sub(layout.size(), Relaxed);
        moved
    }
}
