//! What it costs that entries end: larder with and without, beside moka.
//!
//! All take turns within each round, as in `loading`. No entry ends while hits and inserts are timed: what is measured is
//! what every operation pays.
//!
//! ```text
//! cargo bench --bench time -- [--quick] [--only PART] [--policy NAME] [--threads 1,2] [--rounds N]
//! ```

#![allow(missing_docs)]

mod common;

use common::bars::{Bar, print_bars, ratios, spread};
use common::heap::{Filled, Heap};
use common::keys::{Popularity, range_of, window};
use common::loaders::Loader;
use common::plan::Plan;
use common::rounds::{median, quantile, thread_time};
use common::subjects::{Cache, Larder, Lookup, Moka, Writes};
use common::turns::{Contestant, Measured, find, interleave, rows};
use common::{grouped, threads_of};
use larder::{Clock, InsertOptions};
use std::time::{Duration, Instant};

const USAGE: &str = "time [--quick] [--only PART] [--policy NAME] [--threads 1,2] [--rounds N]
PART is a part of: hits, inserts, due, memory";

#[global_allocator]
static HEAP: Heap = Heap;

const HOUR: Duration = Duration::from_secs(3600);
/// Where each insert evicts.
const CAPACITY: usize = 100_000;

const WITHOUT: &str = "without expiry";
const CLOCK: &str = "without expiry, but with a clock";
const TTL: &str = "time_to_live";
const TTI: &str = "time_to_idle";
const BOTH: &str = "time_to_live and time_to_idle";
const EXPIRY: &str = "an Expiry";
const PRECISE: &str = "time_to_live, precise clock";
const OWN: &str = "InsertOptions::ttl, of varied length";
const LOADED: &str = "without expiry, get_or_load";
const SOFT: &str = "refresh_after_write, get_or_load";
const JITTER: &str = "time_to_live, jitter of 0.1";

const HITS: &str = "hits, Zipf 0.99 over 100,000 resident keys";
const INSERTS: &str = "inserts of fresh keys, capacity 100,000";

fn main() {
    let started = Instant::now();
    let plan = Plan::from_arguments(&[1, 2], USAGE);
    println!(
        "larder's policy: {}; {} rounds of {} operations a thread, fewer with more than two{}\n",
        plan.policy,
        plan.rounds,
        grouped(plan.timed as u64),
        plan.caveat(),
    );
    let mut results = Vec::new();
    if plan.wants("hits") {
        results.extend(hits(&plan));
    }
    if plan.wants("inserts") {
        results.extend(inserts(&plan));
    }
    print_rows(&results);
    let mut bars = speed_bars(&results);
    if plan.wants("due") {
        bars.extend(due(&plan));
    }
    // Last: from here on the allocator counts, which takes time.
    if plan.wants("memory") {
        bars.extend(memory(&plan));
    }
    print_bars(&bars);
    eprintln!("took {} s", started.elapsed().as_secs());
}

/// Lives of some length for every entry, by what larder and moka call so.
struct Fixed(Duration);

impl larder::Expiry<u64, u64> for Fixed {
    fn after_create(&self, _: &u64, _: &u64) -> Option<Duration> {
        Some(self.0)
    }
}

impl moka::Expiry<u64, u64> for Fixed {
    fn expire_after_create(&self, _: &u64, _: &u64, _: Instant) -> Option<Duration> {
        Some(self.0)
    }
}

/// Larder with a life for each entry that is inserted.
struct OwnLives(Larder<u64>);

impl Lookup for OwnLives {
    type Value = u64;

    fn name(&self) -> &str {
        self.0.name()
    }

    #[inline]
    fn get(&self, key: u64) -> Option<u64> {
        self.0.get(key)
    }
}

impl Cache for OwnLives {
    #[inline]
    fn insert(&self, key: u64, value: u64) {
        self.0.insert_with(key, value, own_life(key));
    }

    fn settle(&self) {
        self.0.settle();
    }
}

/// From a second to 71 minutes, so that ends lie on several levels of a timing wheel, and in no order.
fn own_life(key: u64) -> InsertOptions {
    let scattered = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 42;
    InsertOptions::new().ttl(Duration::from_millis(1000 + scattered))
}

/// Larder, read by those who bring a loader. What is there needs none.
struct Loaded(Larder<u64>);

impl Lookup for Loaded {
    type Value = u64;

    fn name(&self) -> &str {
        self.0.name()
    }

    #[inline]
    fn get(&self, key: u64) -> Option<u64> {
        Some(self.0.get_or_load(key, || unreachable!("{key} is there, and not due")))
    }
}

impl Cache for Loaded {
    #[inline]
    fn insert(&self, key: u64, value: u64) {
        self.0.insert(key, value);
    }

    fn settle(&self) {
        self.0.settle();
    }
}

type Subject = Box<dyn Writes>;

fn builder(plan: &Plan, capacity: usize) -> larder::Builder<u64, u64> {
    larder::Cache::builder().max_capacity(capacity as u64).eviction_policy(plan.policy.clone())
}

fn larder(plan: &Plan, way: &str, capacity: usize) -> Subject {
    let plain = builder(plan, capacity);
    let builder = match way {
        WITHOUT => plain,
        CLOCK => plain.clock(Clock::precise()),
        TTL => plain.time_to_live(HOUR),
        TTI => plain.time_to_idle(HOUR),
        BOTH => plain.time_to_live(HOUR).time_to_idle(HOUR),
        EXPIRY => plain.expire_after(Fixed(HOUR)),
        PRECISE => plain.time_to_live(HOUR).clock(Clock::precise()),
        JITTER => plain.time_to_live(HOUR).time_to_live_jitter(0.1),
        LOADED => return Box::new(Loaded(Larder::built(plain))),
        SOFT => return Box::new(Loaded(Larder::built(plain.refresh_after_write(HOUR)))),
        OWN => return Box::new(OwnLives(Larder::built(plain))),
        _ => unreachable!("{way}"),
    };
    Box::new(Larder::built(builder))
}

fn moka(way: &str, capacity: usize) -> Subject {
    let plain = moka::sync::Cache::builder().max_capacity(capacity as u64);
    Box::new(Moka::built(match way {
        WITHOUT => plain,
        TTL => plain.time_to_live(HOUR),
        EXPIRY => plain.expire_after(Fixed(HOUR)),
        _ => unreachable!("{way}"),
    }))
}

/// All ways of larder's and of moka's.
fn subjects(
    plan: &Plan,
    capacity: usize,
    larders: &[&'static str],
    mokas: &[&'static str],
) -> Vec<(&'static str, Subject)> {
    let larders = larders.iter().map(|&way| (way, larder(plan, way, capacity)));
    larders.chain(mokas.iter().map(|&way| (way, moka(way, capacity)))).collect()
}

/// Measures them in turns. `run` is as for [`Contestant`].
fn compare(
    plan: &Plan,
    work: &str,
    subjects: &[(&'static str, Subject)],
    run: impl Fn(&dyn Writes, usize, usize, usize) -> usize + Sync,
) -> Vec<Measured> {
    let run = &run;
    let contestants: Vec<_> = subjects
        .iter()
        .map(|(way, subject)| Contestant {
            work: work.to_owned(),
            way,
            subject: subject.title().to_owned(),
            run: Box::new(move |thread, position, operations| run(&**subject, thread, position, operations)),
        })
        .collect();
    interleave(plan, usize::MAX, &contestants)
}

fn hits(plan: &Plan) -> Vec<Measured> {
    eprintln!("{HITS} ...");
    let keys = 100_000;
    let larders = [WITHOUT, TTL, TTI, BOTH, EXPIRY, PRECISE, LOADED, SOFT];
    let subjects = subjects(plan, 2 * keys as usize, &larders, &[WITHOUT, TTL, EXPIRY]);
    for (_, subject) in &subjects {
        subject.fill(0..keys.into());
    }
    let all: Vec<u32> = (0..keys).collect();
    let draws = plan.draws(Popularity::Zipf, keys);
    let check = || {
        for (way, subject) in &subjects {
            assert_eq!(subject.read(&all), all.len(), "{} {way} has not kept all keys", subject.title());
        }
    };
    check();
    let results = compare(plan, HITS, &subjects, |subject, thread, position, operations| {
        subject.read(window(&draws[thread], position, operations))
    });
    check();
    results
}

fn inserts(plan: &Plan) -> Vec<Measured> {
    eprintln!("{INSERTS} ...");
    let subjects = subjects(plan, CAPACITY, &[WITHOUT, TTL, OWN, JITTER], &[WITHOUT, TTL]);
    for (_, subject) in &subjects {
        subject.fill(range_of(plan.most_threads(), 0, 2 * CAPACITY));
    }
    compare(plan, INSERTS, &subjects, |subject, thread, position, operations| {
        subject.fill(range_of(thread, position, operations));
        0
    })
}

fn print_rows(results: &[Measured]) {
    if results.is_empty() {
        return;
    }
    println!(
        "Nanoseconds for one operation as a thread sees it; in brackets, as the median and the quartiles of the"
    );
    println!("rounds, times the same cache's without expiry:\n");
    println!("| work | way | threads | larder | moka | larder, times moka |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for &Measured { ref work, way, threads, .. } in rows(results) {
        let of = |way, subject| find(results, work, way, threads, subject);
        let cell = |subject| {
            let (Some(result), Some(plain)) = (of(way, subject), of(WITHOUT, subject)) else {
                return String::new();
            };
            let nanos = median(&result.nanos);
            let digits = if nanos < 100.0 { 1 } else { 0 };
            format!("{nanos:.digits$}, {}", spread(&ratios(&result.nanos, &plain.nanos)))
        };
        let beside = match (of(way, "larder"), of(way, "moka")) {
            (Some(larder), Some(moka)) => spread(&ratios(&larder.nanos, &moka.nanos)),
            _ => String::new(),
        };
        println!("| {work} | {way} | {threads} | {} | {} | {beside} |", cell("larder"), cell("moka"));
    }
    println!();
}

fn speed_bars(results: &[Measured]) -> Vec<Bar> {
    let mut bars = Vec::new();
    let ratio = |work, way: (&str, &str), base: (&str, &str), threads| {
        let of = |(way, subject)| find(results, work, way, threads, subject);
        Some(ratios(&of(way)?.nanos, &of(base)?.nanos))
    };
    let mut add = |what: String, allowed, measured: Option<Vec<f64>>| {
        bars.extend(measured.map(|measured| Bar { what, allowed, measured }));
    };
    for threads in [1, 2] {
        let with = threads_of(threads);
        let plain = (WITHOUT, "larder");
        let beyond = ratio(HITS, (TTL, "larder"), plain, threads);
        add(format!("a hit with time_to_live, times one without ({with})"), 1.45, beyond);
        let beside = ratio(HITS, (TTL, "larder"), (TTL, "moka"), threads);
        add(format!("a hit with time_to_live, times moka's ({with})"), 0.2, beside);
        for way in [TTL, OWN, JITTER] {
            let beyond = ratio(INSERTS, (way, "larder"), plain, threads);
            add(format!("an insert with {way}, times one without ({with})"), 1.25, beyond);
        }
    }
    let slowdown = |way| {
        let of = |threads| Some(&find(results, HITS, way, threads, "larder")?.nanos);
        Some(ratios(of(2)?, of(1)?))
    };
    let measured = slowdown(TTI).zip(slowdown(WITHOUT)).map(|(idle, plain)| ratios(&idle, &plain));
    add(
        "hits with time_to_idle, slowdown from 1 to 2 threads, times that without".to_owned(),
        1.15,
        measured,
    );
    bars
}

/// When entries end of which all are over together.
#[derive(Clone, Copy)]
enum Ends {
    /// At one moment: as neighbours in the wheel.
    Together,
    /// Each at its own: the clock leaps over all of them.
    Spread,
}

/// How long writes took while what was over went.
#[derive(Default)]
struct Cleared {
    /// For each repetition.
    calls: Vec<usize>,
    /// In nanoseconds.
    middle: Vec<u32>,
    tail: Vec<u32>,
    slowest: Vec<u32>,
    /// By the processor's time of the thread.
    busiest: Vec<u32>,
    /// Of one `run_pending_tasks` instead, in nanoseconds.
    pending: Vec<u64>,
}

/// Lets entries be over all at once, and times the writes that then remove them.
fn due(plan: &Plan) -> Vec<Bar> {
    let (entries, repeats) = if plan.quick { (50_000, 2) } else { (1_000_000, 7) };
    eprintln!("due ...");
    println!(
        "{} entries are over when a manual clock leaps. Fresh keys are written until all of these are gone, or",
        grouped(entries)
    );
    println!(
        "`run_pending_tasks` is called once instead. Nanoseconds for one write, the reading of the clock"
    );
    println!(
        "included, and for that call: medians of {repeats} repetitions, and the slowest write of all. The slowest by"
    );
    println!(
        "the thread's time is without the time in which other threads had the processor. Moka has no manual clock"
    );
    println!("that is public, and so takes no part:\n");
    let columns = [
        "ends",
        "segments",
        "writes until all are gone",
        "p50",
        "p99.9",
        "slowest",
        "slowest of all",
        "slowest by the thread's time",
        "run_pending_tasks",
    ];
    println!("| {} |\n|{}", columns.join(" | "), " --- |".repeat(columns.len()));
    let mut bars = Vec::new();
    for (ends, title) in [(Ends::Together, "at one moment"), (Ends::Spread, "spread over 71 minutes")] {
        for segments in [None, Some(1)] {
            let mut cleared = Cleared::default();
            for _ in 0..repeats {
                clear_by_writes(&over(plan, entries, ends, segments), entries, &mut cleared);
                cleared.pending.push(clear_at_once(&over(plan, entries, ends, segments)));
            }
            let segments = if segments.is_some() { "one segment" } else { "default segments" };
            let cells = [
                median(&cleared.calls) as u64,
                median(&cleared.middle).into(),
                median(&cleared.tail).into(),
                median(&cleared.slowest).into(),
                quantile(&cleared.slowest, 1.0).into(),
                median(&cleared.busiest).into(),
                median(&cleared.pending),
            ];
            println!("| {title} | {segments} | {} |", cells.map(grouped).join(" | "));
            bars.push(Bar {
                what: format!("the slowest write by the thread's time, in ms, {title}, {segments}"),
                allowed: 1.0,
                measured: cleared.busiest.iter().map(|&nanos| f64::from(nanos) / 1e6).collect(),
            });
        }
    }
    println!();
    bars
}

/// A cache in which everything is over and nothing has been removed. It has room for as much again, so that what goes is
/// not evicted.
fn over(plan: &Plan, entries: u64, ends: Ends, segments: Option<usize>) -> larder::Cache<u64, u64> {
    let clock = Clock::manual();
    let builder = builder(plan, 2 * entries as usize).time_to_live(HOUR).clock(clock.clone());
    let builder = match segments {
        Some(segments) => builder.segments(segments),
        None => builder,
    };
    let cache = builder.build().expect("good options");
    for key in 0..entries {
        match ends {
            Ends::Together => cache.insert(key, key),
            Ends::Spread => cache.insert_with(key, key, own_life(key)),
        }
    }
    assert_eq!(cache.len() as u64, entries, "there is room for all");
    clock.advance(2 * HOUR);
    cache
}

fn clear_by_writes(cache: &larder::Cache<u64, u64>, entries: u64, cleared: &mut Cleared) {
    // Written to beforehand: a page fault for every thousand figures is just what p99.9 would show.
    let mut times = vec![1; entries as usize];
    let mut calls = 0;
    let mut busiest = 0;
    while cache.len() > calls {
        assert!(calls < times.len(), "writes do not remove what is over");
        let key = entries + calls as u64;
        let (busy_before, before) = (thread_time(), Instant::now());
        cache.insert(key, key);
        let (time, busy) = (before.elapsed(), thread_time() - busy_before);
        times[calls] = time.as_nanos().try_into().unwrap_or(u32::MAX);
        busiest = busiest.max(busy.as_nanos().try_into().unwrap_or(u32::MAX));
        calls += 1;
    }
    // Else the number of entries would not tell how many of the old ones are left.
    assert!((entries..entries + calls as u64).all(|key| cache.contains_key(&key)), "a fresh entry is gone");
    times.truncate(calls);
    cleared.calls.push(calls);
    cleared.middle.push(median(&times));
    cleared.tail.push(quantile(&times, 0.999));
    cleared.slowest.push(quantile(&times, 1.0));
    cleared.busiest.push(busiest);
}

fn clear_at_once(cache: &larder::Cache<u64, u64>) -> u64 {
    let before = Instant::now();
    cache.run_pending_tasks();
    let time = before.elapsed();
    assert!(cache.is_empty(), "`run_pending_tasks` leaves some of what is over");
    time.as_nanos() as u64
}

/// Heap bytes for an entry, as `memory` measures them.
fn memory(plan: &Plan) -> Vec<Bar> {
    let (entries, repeats) = if plan.quick { (20_000, 2) } else { (1_000_000, 3) };
    eprintln!("memory ...");
    Heap::count();
    println!(
        "Heap bytes for one of {} resident entries, `u64` to `u64`: just full (and how much of the capacity is used),",
        grouped(entries)
    );
    println!(
        "and after three times as many keys; and how many more these are than `memory` counts for larder without"
    );
    println!("expiry, as it compares the larger of the two:\n");
    println!("| larder | bytes | more |\n| --- | --- | --- |");
    let measure = |make: &dyn Fn(usize) -> Box<dyn Cache<Value = u64>>| -> Vec<_> {
        (0..repeats).map(|_| Filled::measure(make, entries)).collect()
    };
    let plain = measure(&|capacity| Box::new(Larder::new(capacity, plan.policy.clone())));
    let mut bars = Vec::new();
    for way in [WITHOUT, CLOCK, TTL, TTI, BOTH, OWN] {
        let filled = measure(&|capacity| larder(plan, way, capacity));
        // To the digit that is printed: how many entries a segment gets depends on the hashes. (Adding 0 makes -0 a 0.)
        let beyond = |(with, without): (&Filled, &Filled)| {
            ((with.bytes() - without.bytes()) * 10.0).round() / 10.0 + 0.0
        };
        let measured: Vec<_> = filled.iter().zip(&plain).map(beyond).collect();
        println!("| {way} | {} | {:.1} |", filled[0], median(&measured));
        let allowed = match way {
            WITHOUT | CLOCK => 0.0,
            TTL => 16.0,
            _ => continue,
        };
        bars.push(Bar { what: format!("more bytes for an entry, {way}"), allowed, measured });
    }
    println!();
    bars
}
