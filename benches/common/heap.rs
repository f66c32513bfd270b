//! Heap bytes for an entry: what the caches ask the allocator for, without what that adds itself.

// A global allocator cannot be had without.
#![allow(unsafe_code)]

use super::subjects::Cache;
use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};

static BYTES: Gauge = Gauge::new();
static COUNTS: AtomicBool = AtomicBool::new(false);

/// How much there is of something, and how much there has been at most.
pub(crate) struct Gauge {
    live: AtomicUsize,
    peak: AtomicUsize,
}

impl Gauge {
    pub(crate) const fn new() -> Self {
        Self { live: AtomicUsize::new(0), peak: AtomicUsize::new(0) }
    }

    pub(crate) fn live(&self) -> usize {
        self.live.load(Relaxed)
    }

    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Relaxed)
    }

    pub(crate) fn forget_peak(&self) {
        self.peak.store(self.live(), Relaxed);
    }

    pub(crate) fn add(&self, amount: usize) {
        let live = self.live.fetch_add(amount, Relaxed).wrapping_add(amount);
        self.peak.fetch_max(live, Relaxed);
    }

    pub(crate) fn subtract(&self, amount: usize) {
        self.live.fetch_sub(amount, Relaxed);
    }
}

/// The system's allocator, with the live bytes counted from [`count`](Self::count) on. Until then it costs next to nothing:
/// a bench may measure time before it.
pub(crate) struct Heap;

impl Heap {
    pub(crate) fn count() {
        COUNTS.store(true, Relaxed);
    }

    /// Bytes that live beyond those before. What was allocated before counting may have gone meanwhile, so only
    /// differences say something.
    pub(crate) fn grown_since(before: usize) -> usize {
        Self::live().wrapping_sub(before)
    }

    pub(crate) fn live() -> usize {
        BYTES.live()
    }

    fn add(size: usize) {
        if COUNTS.load(Relaxed) {
            BYTES.add(size);
        }
    }

    fn subtract(size: usize) {
        if COUNTS.load(Relaxed) {
            BYTES.subtract(size);
        }
    }
}

// SAFETY: every call goes on to the system's allocator with the caller's own arguments, and what that gives goes back;
// the counters touch no memory that is handed out.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size());
        // SAFETY: the caller keeps the contract of this very function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::add(size);
        Self::subtract(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        Self::subtract(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// What is behind the freed caches' last deferred work goes now, rather than in somebody else's measurement.
pub(crate) fn let_go() {
    for _ in 0..1000 {
        crossbeam_epoch::pin().flush();
    }
}

/// What a cache of some capacity needs for a resident entry.
pub(crate) struct Filled {
    /// Bytes when it has just been filled.
    pub(crate) full: f64,
    /// The part of the capacity that is resident then, in percent.
    pub(crate) usable: f64,
    /// Bytes when it has evicted twice its capacity.
    pub(crate) later: f64,
}

impl Filled {
    /// Fills a cache with as many fresh keys as it is to hold at most, and then with twice as many more.
    pub(crate) fn measure(make: &dyn Fn(usize) -> Box<dyn Cache<Value = u64>>, size: u64) -> Self {
        let_go();
        let before = Heap::live();
        let cache = make(size as usize);
        let measure = |keys: Range<u64>| {
            keys.clone().for_each(|key| cache.insert(key, key));
            cache.settle();
            let bytes = Heap::grown_since(before);
            // Counted by looking, for a cache may count more than can be found.
            let resident = (0..keys.end).filter(|&key| cache.get(key).is_some()).count() as f64;
            (bytes as f64 / resident, 100.0 * resident / size as f64)
        };
        let (full, usable) = measure(0..size);
        let (later, _) = measure(size..3 * size);
        Self { full, usable, later }
    }

    pub(crate) fn bytes(&self) -> f64 {
        self.full.max(self.later)
    }
}

impl fmt::Display for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ({:.1} %), {:.1}", self.full, self.usable, self.later)
    }
}
