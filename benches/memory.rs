//! Heap bytes for an entry, and how much evicted values hold on to while they wait to be dropped.
//!
//! ```text
//! cargo bench --bench memory -- [--quick]
//! ```
//!
//! What is counted is what the caches ask the allocator for; what the allocator adds (some 8 bytes for each
//! allocation) is not.

#![allow(missing_docs)]
// A global allocator cannot be had without.
#![allow(unsafe_code)]

mod common;

use common::rounds::round;
use common::subjects::{Cache, Frozen, Larder, Moka, QuickCache};
use common::{POLICIES, grouped};
use larder::EvictionPolicy;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::Range;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

#[global_allocator]
static HEAP: Heap = Heap(Gauge::new());
/// Values that live, of the kind that counts itself.
static VALUES: Gauge = Gauge::new();

/// How much there is of something, and how much there has been at most.
struct Gauge {
    live: AtomicUsize,
    peak: AtomicUsize,
}

impl Gauge {
    const fn new() -> Self {
        Self { live: AtomicUsize::new(0), peak: AtomicUsize::new(0) }
    }

    fn live(&self) -> usize {
        self.live.load(Relaxed)
    }

    fn peak(&self) -> usize {
        self.peak.load(Relaxed)
    }

    fn forget_peak(&self) {
        self.peak.store(self.live(), Relaxed);
    }

    fn add(&self, amount: usize) {
        let live = self.live.fetch_add(amount, Relaxed) + amount;
        self.peak.fetch_max(live, Relaxed);
    }

    fn subtract(&self, amount: usize) {
        self.live.fetch_sub(amount, Relaxed);
    }
}

/// A value of 1 KiB that counts itself.
struct Counted(Vec<u8>);

impl Counted {
    fn new() -> Self {
        VALUES.add(1);
        Self(vec![0; 1024])
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        VALUES.add(1);
        Self(self.0.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        VALUES.subtract(1);
    }
}

/// The system's allocator, with the live bytes counted.
struct Heap(Gauge);

// SAFETY: every call goes on to the system's allocator with the caller's own arguments, and what that gives goes back;
// the counters touch no memory that is handed out.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.add(layout.size());
        // SAFETY: the caller keeps the contract of this very function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.0.add(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.0.add(size);
        self.0.subtract(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        self.0.subtract(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn main() {
    // Without `--bench` it is `cargo test --all-targets` that runs this.
    let quick = std::env::args().any(|word| word == "--quick" || word == "--test")
        || !std::env::args().any(|word| word == "--bench");
    let (most, sizes): (_, &[u64]) =
        if quick { (20_000, &[20_000]) } else { (1_000_000, &[10_000, 100_000, 1_000_000]) };
    entries(sizes, most);
    println!();
    waiting(if quick { 20_000 } else { 500_000 });
}

/// What is behind the freed caches' last deferred work goes now, rather than in somebody else's measurement.
fn let_go() {
    for _ in 0..1000 {
        crossbeam_epoch::pin().flush();
    }
}

type Small = Box<dyn Cache<Value = u64>>;
type Large = Box<dyn Cache<Value = Counted>>;
type MakeSmall = Box<dyn Fn(usize) -> Small>;
type MakeLarge = fn(usize) -> Large;

/// How to make each cache, of a capacity.
fn small() -> Vec<(String, MakeSmall)> {
    let larder = |policy| {
        let make: MakeSmall = Box::new(move |capacity| Box::new(Larder::of(policy, capacity)));
        (format!("larder {policy}"), make)
    };
    let mut caches = Vec::from(POLICIES.map(larder));
    caches.push(("quick_cache".to_owned(), Box::new(|capacity| Box::new(QuickCache::new(capacity)))));
    caches.push(("moka".to_owned(), Box::new(|capacity| Box::new(Moka::new(capacity)))));
    caches
}

fn large() -> [(&'static str, MakeLarge); 3] {
    [
        ("larder", |capacity| Box::new(Larder::new(capacity, EvictionPolicy::default()))),
        ("quick_cache", |capacity| Box::new(QuickCache::new(capacity))),
        ("moka", |capacity| Box::new(Moka::new(capacity))),
    ]
}

/// Fills caches with as many fresh keys as they are to hold at most, and then with many more.
fn entries(sizes: &[u64], most: u64) {
    println!(
        "Heap bytes for one resident entry, `u64` to `u64`: just full (and how much of the capacity is used), and"
    );
    println!("after three times as many keys, when what a policy remembers of evicted keys is there, too:\n");
    let sizes_row: Vec<_> = sizes.iter().map(|&size| grouped(size)).collect();
    println!("| entries | {} |\n| --- |{}", sizes_row.join(" | "), " --- |".repeat(sizes.len()));
    let mut bar = Vec::new();
    for (name, make) in small() {
        let filled: Vec<_> = sizes.iter().map(|&size| fill(&*make, size)).collect();
        let cell =
            |filled: &Filled| format!("{:.1} ({:.1} %), {:.1}", filled.full, filled.usable, filled.later);
        println!("| {name} | {} |", filled.iter().map(cell).collect::<Vec<_>>().join(" | "));
        let last = filled.last().expect("a size");
        if name.starts_with("larder") {
            bar.push(format!("| {name} | {:.1} | {:.1} % | {} |", last.bytes(), last.usable, last.verdict()));
        }
    }
    let map: Vec<_> = sizes.iter().map(|&size| format!("{:.1}", hash_map(size))).collect();
    println!("| hash map | {} |", map.join(" | "));
    println!("\n| bar: at {} entries | bytes, at most 56 | usable, at least 97 % | met? |", grouped(most));
    println!("| --- | --- | --- | --- |\n{}", bar.join("\n"));
}

/// What a cache of some capacity needs for a resident entry.
struct Filled {
    /// Bytes when it has just been filled.
    full: f64,
    /// The part of the capacity that is resident then, in percent.
    usable: f64,
    /// Bytes when it has evicted twice its capacity.
    later: f64,
}

impl Filled {
    fn bytes(&self) -> f64 {
        self.full.max(self.later)
    }

    fn verdict(&self) -> &'static str {
        if self.bytes() <= 56.0 && self.usable >= 97.0 { "yes" } else { "**no**" }
    }
}

fn fill(make: &dyn Fn(usize) -> Small, size: u64) -> Filled {
    let_go();
    let before = HEAP.0.live();
    let cache = make(size as usize);
    let measure = |keys: Range<u64>| {
        keys.clone().for_each(|key| cache.insert(key, key));
        cache.settle();
        let bytes = HEAP.0.live() - before;
        // Counted by looking, for a cache may count more than can be found.
        let resident = (0..keys.end).filter(|&key| cache.get(key).is_some()).count() as f64;
        (bytes as f64 / resident, 100.0 * resident / size as f64)
    };
    let (full, usable) = measure(0..size);
    let (later, _) = measure(size..3 * size);
    Filled { full, usable, later }
}

fn hash_map(size: u64) -> f64 {
    let_go();
    let before = HEAP.0.live();
    let _map = Frozen::new(0..size);
    (HEAP.0.live() - before) as f64 / size as f64
}

/// Evicts values and looks how many more there are at most than the cache may hold.
fn waiting(inserts: u64) {
    let capacity: u64 = 10_000;
    println!(
        "Values of 1 KiB that are alive beyond the capacity of {}: at most, while each",
        grouped(capacity)
    );
    println!("thread inserts {}; and those still there when all is quiet:\n", grouped(inserts));
    println!("| cache | 1 thread | 2 threads | left |\n| --- | --- | --- | --- |");
    for (name, make) in large() {
        let [(one, _), (two, left)] = [1, 2].map(|threads| {
            let cache = make(capacity as usize);
            let insert =
                |first: u64, count| (first..first + count).for_each(|key| cache.insert(key, Counted::new()));
            insert(0, 2 * capacity);
            cache.settle();
            let_go();
            VALUES.forget_peak();
            round(threads, |_| (), |thread| insert((thread as u64 + 1) << 32, inserts));
            let most = VALUES.peak();
            cache.settle();
            let_go();
            let beyond = |values: usize| grouped((values as u64).saturating_sub(capacity));
            (beyond(most), beyond(VALUES.live()))
        });
        let_go();
        println!("| {name} | {one} | {two} | {left} |");
    }
}
