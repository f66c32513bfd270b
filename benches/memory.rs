//! Heap bytes for an entry, and how much evicted values hold on to while they wait to be dropped: on a quiet machine, and on
//! one with more threads than processors.
//!
//! ```text
//! cargo bench --bench memory -- [--quick] [--only PART] [--threads 1,2,8,32]
//! ```
//!
//! What is counted is what the caches ask the allocator for; what the allocator adds (some 8 bytes for each
//! allocation) is not.

#![allow(missing_docs)]

mod common;

use common::heap::{Filled, Heap, let_go};
use common::holders::{Kind, Live, VALUES};
use common::peaks::{Beside, Setting};
use common::plan::Plan;
use common::rounds::round;
use common::subjects::{Cache, Frozen, Larder, Moka, QuickCache};
use common::{POLICIES, grouped, listed};
use larder::EvictionPolicy;

#[global_allocator]
static HEAP: Heap = Heap;

/// A value of 1 KiB that counts itself.
type Counted = Live<Vec<u8>>;

const USAGE: &str = "memory [--quick] [--only PART] [--threads 1,2,8,32]
PART is a part of: entries, waiting, peaks";

fn main() {
    Heap::count();
    let plan = Plan::from_arguments(&[1, 2, 8, 32], USAGE);
    let (most, sizes): (_, &[u64]) =
        if plan.quick { (20_000, &[20_000]) } else { (1_000_000, &[10_000, 100_000, 1_000_000]) };
    if plan.wants("entries") {
        entries(sizes, most);
        println!();
    }
    if plan.wants("waiting") {
        waiting(if plan.quick { 20_000 } else { 500_000 });
        println!();
    }
    if plan.wants("peaks") {
        peaks(&plan);
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
        let filled: Vec<_> = sizes.iter().map(|&size| Filled::measure(&*make, size)).collect();
        println!("| {name} | {} |", filled.iter().map(Filled::to_string).collect::<Vec<_>>().join(" | "));
        let last = filled.last().expect("a size");
        if name.starts_with("larder") {
            bar.push(format!("| {name} | {:.1} | {:.1} % | {} |", last.bytes(), last.usable, verdict(last)));
        }
    }
    let map: Vec<_> = sizes.iter().map(|&size| format!("{:.1}", hash_map(size))).collect();
    println!("| hash map | {} |", map.join(" | "));
    println!("\n| bar: at {} entries | bytes, at most 56 | usable, at least 97 % | met? |", grouped(most));
    println!("| --- | --- | --- | --- |\n{}", bar.join("\n"));
}

fn verdict(filled: &Filled) -> &'static str {
    if filled.bytes() <= 56.0 && filled.usable >= 97.0 { "yes" } else { "**no**" }
}

fn hash_map(size: u64) -> f64 {
    let_go();
    let before = Heap::live();
    let _map = Frozen::new(0..size);
    Heap::grown_since(before) as f64 / size as f64
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
            let insert = |first: u64, count| {
                (first..first + count).for_each(|key| cache.insert(key, Live::new(vec![0; 1024])))
            };
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

fn kinds<V: Clone + Send + Sync + 'static>() -> [Kind<V>; 4] {
    [Kind::larder(), Kind::quick_cache(), Kind::moka(), Kind::epoch_map()]
}

/// Inserts beside threads that keep others waiting, and counts the values that live at most.
fn peaks(plan: &Plan) {
    // A smoke run takes a tenth of the inserts, and of what takes long to fill.
    let scaled = |number| if plan.quick { number / 10 } else { number };
    let runs = if plan.quick { 1 } else { 2 };
    let besides =
        [Beside::Nothing, Beside::Readers(2), Beside::Readers(8), Beside::Closure, Beside::Iterator];
    println!(
        "Values that live at most, times the capacity, while threads insert fresh keys, which they share, beside"
    );
    println!(
        "something else that runs all the while: with {} threads; the largest of {runs} runs{}:\n",
        listed(&plan.threads),
        plan.caveat()
    );
    println!("| entries | values of | inserts | beside | larder | quick_cache | moka | crossbeam-epoch |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let small = |capacity, inserts| Setting {
        capacity,
        value: || Live::new(0_u64),
        threads: plan.threads.clone(),
        inserts: scaled(inserts),
        runs,
        besides: besides.to_vec(),
    };
    print_peaks("8 bytes", &small(1_000, 50_000));
    let crowd = vec![Beside::Readers(17)];
    let crowded = Setting { threads: vec![1], runs: 1, besides: crowd, ..small(1_000, 300_000) };
    print_peaks("8 bytes", &crowded);
    print_peaks("8 bytes", &small(scaled(100_000), 50_000));
    let large = Setting {
        capacity: 1_000,
        value: || Live::new(vec![1; 64 << 10]),
        threads: plan.threads.clone(),
        inserts: scaled(5_000),
        runs,
        besides: besides.to_vec(),
    };
    print_peaks("64 KiB", &large);
}

/// Prints a setting's rows.
fn print_peaks<V: Clone + Send + Sync + 'static>(size: &str, setting: &Setting<V>) {
    for cells in setting.rows(&kinds()) {
        let (capacity, inserts) = (grouped(setting.capacity), grouped(setting.inserts));
        println!("| {capacity} | {size} | {inserts} | {} |", cells.join(" | "));
    }
}
