//! What it costs to load what is missing, each key once at a time: larder beside quick_cache and moka.
//!
//! All take turns within each round, as in `versus`. The loaders are trivial: what is measured is what a cache adds.
//!
//! ```text
//! cargo bench --bench loading -- [--quick] [--only PART] [--policy NAME] [--threads 1,2,8] [--rounds N]
//! ```

#![allow(missing_docs)]

mod common;

use common::bars::{Bar, print_bars, ratios};
use common::keys::{Popularity, range_of, window};
use common::loaders::{Loader, MokaFuture, Polled};
use common::plan::Plan;
use common::rounds::median;
use common::subjects::{Larder, Moka, QuickCache};
use common::turns::{Contestant, Measured, find, interleave, rows};
use common::{grouped, threads_of};
use std::hint::black_box;
use std::time::Instant;

const USAGE: &str = "loading [--quick] [--only PART] [--policy NAME] [--threads 1,2,8] [--rounds N]
PART is a part of: hits, misses, async, bulk";

const SUBJECTS: [&str; 3] = ["larder", "quick_cache", "moka"];
/// Where keys are missed. All inserts of a run together are many times that.
const CAPACITY: usize = 100_000;
/// Keys in one call for many.
const MANY: usize = 32;

const GET: &str = "get";
const LOAD: &str = "get or load";
const LOAD_ASYNC: &str = "get or load, async";

fn main() {
    let started = Instant::now();
    let plan = Plan::from_arguments(&[1, 2, 8], USAGE);
    println!(
        "larder's policy: {}; {} rounds of {} operations a thread, fewer with more than two{}\n",
        plan.policy,
        plan.rounds,
        grouped(plan.timed as u64),
        plan.caveat(),
    );
    let mut results = Vec::new();
    if plan.wants("hits") {
        results.extend(hits(&plan, 100_000));
        results.extend(hits(&plan, 1_000));
    }
    if plan.wants("misses") {
        results.extend(misses(&plan));
    }
    if plan.wants("async") {
        results.extend(hits_async(&plan));
        results.extend(misses_async(&plan));
    }
    if plan.wants("bulk") {
        results.extend(bulk(&plan));
    }
    print_rows(&results);
    print_overheads(&results);
    print_bars(&bars(&results));
    eprintln!("took {} s", started.elapsed().as_secs());
}

/// A contestant with a cache that somebody else may use, too.
fn contestant<'a, T: Loader>(
    work: &str,
    way: &'static str,
    cache: &'a T,
    run: impl Fn(&T, usize, usize, usize) -> usize + Sync + 'a,
) -> Contestant<'a> {
    Contestant {
        work: work.to_owned(),
        way,
        subject: cache.name().to_owned(),
        run: Box::new(move |thread, position, operations| run(cache, thread, position, operations)),
    }
}

/// Gets all keys, loads what is missing, and says how much that was.
fn load_all<T: Loader>(cache: &T, keys: impl Iterator<Item = u64>) -> usize {
    let (mut loads, mut sum) = (0, 0_u64);
    for key in keys {
        let value = cache.get_or_load(key, || {
            loads += 1;
            key
        });
        sum = sum.wrapping_add(value);
    }
    black_box(sum);
    loads
}

/// The same without single flight.
fn get_then_insert<T: Loader>(cache: &T, keys: impl Iterator<Item = u64>) -> usize {
    let (mut loads, mut sum) = (0, 0_u64);
    for key in keys {
        let value = cache.get(key).unwrap_or_else(|| {
            loads += 1;
            cache.insert(key, key);
            key
        });
        sum = sum.wrapping_add(value);
    }
    black_box(sum);
    loads
}

/// Each cache by `get` and by its way to load.
fn compare_hits<'a, T: Loader>(
    work: &str,
    load: &'static str,
    cache: &'a T,
    draws: &'a [Vec<u32>],
) -> [Contestant<'a>; 2] {
    let get = |cache: &T, thread: usize, position, operations| {
        let mut sum = 0_u64;
        for &key in window(&draws[thread], position, operations) {
            sum = sum.wrapping_add(cache.get(u64::from(key)).expect("it is resident"));
        }
        black_box(sum);
        0
    };
    let get_or_load = |cache: &T, thread: usize, position, operations| {
        let keys = window(&draws[thread], position, operations);
        load_all(cache, keys.iter().map(|&key| u64::from(key)))
    };
    [contestant(work, GET, cache, get), contestant(work, load, cache, get_or_load)]
}

fn hits_of(keys: u32) -> String {
    format!("hits, Zipf 0.99 over {} resident keys", grouped(keys.into()))
}

/// Fills a cache, and checks that it keeps all keys.
fn filled<T: Loader>(cache: T, keys: u32) -> T {
    load_all(&cache, 0..keys.into());
    assert_eq!(load_all(&cache, 0..keys.into()), 0, "{} has not kept all keys", cache.name());
    cache
}

fn hits(plan: &Plan, keys: u32) -> Vec<Measured> {
    let work = hits_of(keys);
    eprintln!("{work} ...");
    let draws = plan.draws(Popularity::Zipf, keys);
    let capacity = 2 * keys as usize;
    let larder = filled(Larder::new(capacity, plan.policy.clone()), keys);
    let quick = filled(QuickCache::new(capacity), keys);
    let moka = filled(Moka::new(capacity), keys);
    let contestants = [
        compare_hits(&work, LOAD, &larder, &draws),
        compare_hits(&work, LOAD, &quick, &draws),
        compare_hits(&work, LOAD, &moka, &draws),
    ];
    interleave(plan, 2, contestants.as_flattened())
}

fn hits_async(plan: &Plan) -> Vec<Measured> {
    let keys = 100_000;
    let work = hits_of(keys);
    eprintln!("{work}, async ...");
    let draws = plan.draws(Popularity::Zipf, keys);
    let capacity = 2 * keys as usize;
    let larder = filled(Polled(Larder::new(capacity, plan.policy.clone())), keys);
    let quick = filled(Polled(QuickCache::new(capacity)), keys);
    let moka = filled(MokaFuture::new(capacity), keys);
    let [[_, larder], [_, quick], [_, moka]] = [
        compare_hits(&work, LOAD_ASYNC, &larder, &draws),
        compare_hits(&work, LOAD_ASYNC, &quick, &draws),
        compare_hits(&work, LOAD_ASYNC, &moka, &draws),
    ];
    interleave(plan, 2, &[larder, quick, moka])
}

const DIFFERENT: &str = "misses, each thread its own keys";
const SAME: &str = "misses, all threads the same keys";

fn own_keys<'a, T: Loader>(way: &'static str, cache: &'a T) -> Contestant<'a> {
    contestant(DIFFERENT, way, cache, |cache, thread, position, operations| {
        load_all(cache, range_of(thread, position, operations))
    })
}

fn compare_misses<T: Loader>(cache: &T) -> [Contestant<'_>; 3] {
    let by_hand = |cache: &T, thread, position, operations| {
        get_then_insert(cache, range_of(thread, position, operations))
    };
    let same = |cache: &T, _, position, operations| load_all(cache, range_of(0, position, operations));
    [
        contestant(DIFFERENT, "get, then insert", cache, by_hand),
        own_keys(LOAD, cache),
        contestant(SAME, LOAD, cache, same),
    ]
}

/// With more keys than it keeps, so that each insert evicts.
fn full<T: Loader>(cache: T) -> T {
    let beyond_all_threads = 1 << 20;
    range_of(beyond_all_threads, 0, 2 * CAPACITY).for_each(|key| cache.insert(key, key));
    cache
}

fn misses(plan: &Plan) -> Vec<Measured> {
    eprintln!("misses ...");
    let larder = full(Larder::new(CAPACITY, plan.policy.clone()));
    let quick = full(QuickCache::new(CAPACITY));
    let moka = full(Moka::new(CAPACITY));
    let contestants = [compare_misses(&larder), compare_misses(&quick), compare_misses(&moka)];
    interleave(plan, usize::MAX, contestants.as_flattened())
}

fn misses_async(plan: &Plan) -> Vec<Measured> {
    eprintln!("misses, async ...");
    let larder = full(Polled(Larder::new(CAPACITY, plan.policy.clone())));
    let quick = full(Polled(QuickCache::new(CAPACITY)));
    let moka = full(MokaFuture::new(CAPACITY));
    interleave(
        plan,
        2,
        &[own_keys(LOAD_ASYNC, &larder), own_keys(LOAD_ASYNC, &quick), own_keys(LOAD_ASYNC, &moka)],
    )
}

/// Calls for keys of which the second half is fresh, and the first half that of the call before.
fn bulk(plan: &Plan) -> Vec<Measured> {
    eprintln!("bulk ...");
    let work = format!("{MANY} keys, half of them missing");
    let groups = |thread, position, operations| {
        let keys = range_of(thread, position, operations).step_by(MANY / 2);
        keys.map(|first| std::array::from_fn::<u64, MANY, _>(|at| first + at as u64))
    };
    let one_by_one = |cache: &Larder<u64>, thread, position, operations| {
        groups(thread, position, operations / 2).map(|keys| load_all(cache, keys.into_iter())).sum::<usize>()
    };
    let in_one_call = |cache: &Larder<u64>, thread, position, operations| {
        let mut loads = 0;
        for keys in groups(thread, position, operations / 2) {
            let sum = cache.get_all_or_load(&keys, |key| {
                loads += 1;
                key
            });
            black_box(sum);
        }
        loads
    };
    let larder = full(Larder::new(CAPACITY, plan.policy.clone()));
    let contestants = [
        contestant(&work, "one by one", &larder, one_by_one),
        contestant(&work, "in one call", &larder, in_one_call),
    ];
    interleave(plan, 2, &contestants)
}

fn print_rows(results: &[Measured]) {
    println!("Nanoseconds for one key as a thread sees it (times quick_cache's):\n");
    println!("| work | way | threads | {} | loads for a key |", SUBJECTS.join(" | "));
    println!("| --- | --- | --- |{} --- |", " --- |".repeat(SUBJECTS.len()));
    for &Measured { ref work, way, threads, .. } in rows(results) {
        let found = SUBJECTS.map(|subject| find(results, work, way, threads, subject));
        let cells = found.map(|result| {
            let Some(result) = result else { return String::new() };
            let nanos = median(&result.nanos);
            let digits = if nanos < 100.0 { 1 } else { 0 };
            match found[1] {
                Some(rival) => {
                    format!("{nanos:.digits$} ({:.2})", median(&ratios(&result.nanos, &rival.nanos)))
                }
                None => format!("{nanos:.digits$}"),
            }
        });
        let loads: Vec<_> =
            found.iter().flatten().map(|result| format!("{:.*}", 3, result.counted)).collect();
        println!("| {work} | {way} | {threads} | {} | {} |", cells.join(" | "), loads.join(", "));
    }
    println!();
}

/// What each cache takes beyond what it would without single flight.
fn print_overheads(results: &[Measured]) {
    let pairs = [(LOAD, GET), (LOAD, "get, then insert"), ("in one call", "one by one")];
    println!("Each cache beside itself, within the same rounds:\n");
    println!("| work | way, times that of another | threads | {} |", SUBJECTS.join(" | "));
    println!("| --- | --- | --- |{}", " --- |".repeat(SUBJECTS.len()));
    for &Measured { ref work, way, threads, .. } in rows(results) {
        for (_, base) in pairs.iter().filter(|(compared, _)| *compared == way) {
            let cells = SUBJECTS.map(|subject| {
                let of = |way| find(results, work, way, threads, subject);
                match (of(way), of(base)) {
                    (Some(above), Some(below)) => {
                        format!("{:.2}", median(&ratios(&above.nanos, &below.nanos)))
                    }
                    _ => String::new(),
                }
            });
            if cells.iter().any(|cell| !cell.is_empty()) {
                println!("| {work} | {way}, times {base} | {threads} | {} |", cells.join(" | "));
            }
        }
    }
    println!();
}

fn bars(results: &[Measured]) -> Vec<Bar> {
    let mut bars = Vec::new();
    for threads in [1, 2] {
        let mut add = |what, allowed, above: Option<&Measured>, below: Option<&Measured>| {
            if let (Some(above), Some(below)) = (above, below) {
                let what = format!("{what} ({})", threads_of(threads));
                bars.push(Bar { what, allowed, measured: ratios(&above.nanos, &below.nanos) });
            }
        };
        for keys in [100_000, 1_000] {
            let work = hits_of(keys);
            let of = |way| find(results, &work, way, threads, "larder");
            let what = format!("a hit by `get_or_load` among {} keys, times `get`", grouped(keys.into()));
            add(what, 1.1, of(LOAD), of(GET));
        }
        let of = |subject| find(results, DIFFERENT, LOAD, threads, subject);
        let what = "an uncontended miss, times quick_cache".to_owned();
        add(what, 0.8, of("larder"), of("quick_cache"));
    }
    bars
}
