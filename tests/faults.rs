//! Faults that users met, topic by topic: each test asserts the right behaviour.
//! Written from the documentation alone.

use larder::{
    Cache, Clock, EvictionPolicy, Expiry, InsertOptions, LoadError, Op, Refresh, RemovalCause, WarmUp,
};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fmt;
use std::hint;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

/// All policies.
const ALL: [&str; 7] = ["s3_lirs", "tiny_lfu", "s3_fifo", "sieve", "lru", "lfu", "fifo"];
/// Those to which a read means something.
const READING: [&str; 6] = ["s3_lirs", "tiny_lfu", "s3_fifo", "sieve", "lru", "lfu"];

fn policy(name: &str) -> EvictionPolicy {
    name.parse().unwrap()
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// For results that do not matter.
fn ignore<T>(_: T) {}

/// Runs a future that waits for nobody else.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
        thread::yield_now();
    }
}

/// Numbers that look random and are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Collects what did not hold, so that one run tells of all policies.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(what());
        }
    }

    fn assert_none(self) {
        assert!(self.0.is_empty(), "{} faults:\n{}", self.0.len(), self.0.join("\n"));
    }
}

// -----------------------------------------------------------------------------------------------------------
// Hotness goes by reads
// -----------------------------------------------------------------------------------------------------------

/// A cache of 10,000 with 5,000 entries, of which the keys 5..105 were read `times` times each.
fn half_full(name: &str, segments: usize, times: u32) -> Cache<u32, String> {
    let cache = Cache::builder()
        .max_capacity(10_000)
        .eviction_policy(policy(name))
        .segments(segments)
        .build()
        .unwrap();
    for key in 0..5_000 {
        cache.insert(key, format!("the value of the key {key:05} is of some length"));
    }
    for _ in 0..times {
        for key in 5..105 {
            assert!(cache.with(&key, |_| ()).is_some());
        }
    }
    cache
}

fn is_hot(key: u32) -> bool {
    (5..105).contains(&key)
}

fn hot_among<V>(entries: &[(u32, V)]) -> usize {
    entries.iter().filter(|(key, _)| is_hot(*key)).count()
}

fn hot_in<V: Send + Sync + 'static>(cache: &Cache<u32, V>) -> usize {
    (5..105).filter(|key| cache.contains_key(key)).count()
}

fn reads_make_entries_hot(names: &[&str], times: u32) {
    let mut faults = Faults::default();
    for name in names {
        for segments in [1, 8] {
            let cache = half_full(name, segments, times);
            let (hot, cold) = (hot_among(&cache.hottest(100)), hot_among(&cache.coldest(100)));
            faults
                .check(hot >= 85, || format!("{name}, {segments} segments: {hot} of 100 among the hottest"));
            faults
                .check(cold == 0, || format!("{name}, {segments} segments: {cold} of 100 among the coldest"));
        }
    }
    faults.assert_none();
}

#[test]
fn what_was_read_is_hottest_and_not_coldest_in_s3_lirs_and_tiny_lfu() {
    reads_make_entries_hot(&["s3_lirs", "tiny_lfu"], 1_000);
}

#[test]
fn what_was_read_is_hottest_and_not_coldest_in_s3_fifo_and_sieve() {
    reads_make_entries_hot(&["s3_fifo", "sieve"], 1_000);
}

#[test]
fn what_was_read_is_hottest_and_not_coldest_in_lru_and_lfu() {
    reads_make_entries_hot(&["lru", "lfu"], 1_000);
}

#[test]
fn a_few_reads_make_an_entry_hotter_than_none() {
    reads_make_entries_hot(&READING, 3);
}

#[test]
fn the_hottest_of_eight_segments_are_the_hottest_of_all() {
    let mut faults = Faults::default();
    for name in READING {
        let mut found = 0;
        for from in 0..10 {
            let cache = Cache::builder().max_capacity(2_000).eviction_policy(policy(name)).segments(8);
            let cache = cache.build().unwrap();
            (0..1_000_u32).for_each(|key| cache.insert(key, key));
            let read = from * 50..from * 50 + 16;
            for _ in 0..20 {
                read.clone().for_each(|key| ignore(cache.get(&key)));
            }
            found += cache.hottest(16).iter().filter(|(key, _)| read.contains(key)).count();
        }
        faults.check(found >= 136, || format!("{name}: {found} of 160"));
    }
    faults.assert_none();
}

#[test]
fn what_was_read_is_hottest_and_not_coldest_after_evictions() {
    let mut faults = Faults::default();
    for name in READING {
        for segments in [1, 8] {
            let cache = Cache::builder()
                .max_capacity(2_000)
                .eviction_policy(policy(name))
                .segments(segments)
                .build()
                .unwrap();
            for key in 0..6_000_u32 {
                cache.insert(key, key);
            }
            // Those that were read are from everywhere in the order.
            let mut there: Vec<u32> = cache.keys().collect();
            there.sort_unstable();
            let read: HashSet<u32> = there.iter().copied().step_by(there.len() / 100).take(100).collect();
            for key in &read {
                for _ in 0..200 {
                    cache.get(key);
                }
            }
            let count = |of: Vec<(u32, u32)>| of.iter().filter(|(key, _)| read.contains(key)).count();
            let (hot, cold) = (count(cache.hottest(100)), count(cache.coldest(100)));
            faults
                .check(hot >= 85, || format!("{name}, {segments} segments: {hot} of 100 among the hottest"));
            faults
                .check(cold == 0, || format!("{name}, {segments} segments: {cold} of 100 among the coldest"));
        }
    }
    faults.assert_none();
}

#[test]
fn five_keys_that_were_read_20_000_times_are_among_the_ten_hottest_of_a_full_cache() {
    let mut faults = Faults::default();
    for (name, segments) in [("tiny_lfu", 1), ("tiny_lfu", 8), ("s3_lirs", 1), ("lfu", 8)] {
        let cache = Cache::builder()
            .max_capacity(1_000)
            .eviction_policy(policy(name))
            .segments(segments)
            .build()
            .unwrap();
        for key in 0..3_000_u32 {
            cache.insert(key, key);
        }
        // The coldest of all, so that reads alone can have made them hot.
        let read: Vec<u32> = cache.coldest(5).into_iter().map(|(key, _)| key).collect();
        for _ in 0..20_000 {
            for key in &read {
                cache.get(key);
            }
        }
        let hottest = cache.hottest(10);
        let found = read.iter().filter(|key| hottest.iter().any(|(hot, _)| hot == *key)).count();
        faults.check(found == 5, || format!("{name}, {segments} segments: {found} of 5"));
    }
    faults.assert_none();
}

#[test]
fn whatever_reads_makes_hot() {
    type Read = fn(&Cache<u32, u32>, u32);
    let ways: [(&str, Read); 6] = [
        ("get", |cache, key| ignore(cache.get(&key))),
        ("with", |cache, key| ignore(cache.with(&key, |value| *value))),
        ("get_many", |cache, key| ignore(cache.get_many(&[key]))),
        ("get_or_load", |cache, key| assert_eq!(cache.get_or_load(key, |_| unreachable!()), key)),
        ("get_or_load_async", |cache, key| {
            assert_eq!(block_on(cache.get_or_load_async(key, |_| async { unreachable!() })), key);
        }),
        ("get_all_or_load", |cache, key| {
            cache.get_all_or_load([key], |_: &[u32]| -> Vec<(u32, u32)> { unreachable!() });
        }),
    ];
    let mut faults = Faults::default();
    for name in READING {
        for (way, read) in ways {
            let cache = Cache::builder().max_capacity(1_000).eviction_policy(policy(name)).segments(1);
            let cache: Cache<u32, u32> = cache.build().unwrap();
            for key in 0..500 {
                cache.insert(key, key);
            }
            for _ in 0..20 {
                for key in 5..15 {
                    read(&cache, key);
                }
            }
            let found = cache.hottest(10).iter().filter(|(key, _)| (5..15).contains(key)).count();
            faults.check(found >= 9, || format!("{name}, {way}: {found} of 10"));
        }
    }
    faults.assert_none();
}

#[test]
fn a_smaller_capacity_keeps_what_was_read() {
    let mut faults = Faults::default();
    for name in READING {
        for segments in [1, 8] {
            let cache = half_full(name, segments, 50);
            cache.set_capacity(500);
            let kept = hot_in(&cache);
            faults.check(kept >= 85, || format!("{name}, {segments} segments: {kept} of 100"));
            assert!(cache.len() <= 500);
        }
    }
    faults.assert_none();
}

#[cfg(feature = "serde")]
#[test]
fn a_snapshot_of_fewer_bytes_has_what_was_read() {
    let mut faults = Faults::default();
    for name in READING {
        for segments in [1, 8] {
            let cache = half_full(name, segments, 100);
            let mut bytes = Vec::new();
            let all = cache.snapshot().save_to(&mut bytes).unwrap();
            assert_eq!(all.entries, 5_000);
            let mut bytes = Vec::new();
            cache.snapshot().max_bytes(all.bytes / 4).save_to(&mut bytes).unwrap();
            assert!(bytes.len() as u64 <= all.bytes / 4);
            let again: Cache<u32, String> = Cache::new(10_000);
            again.snapshot().load_from(&bytes[..]).unwrap();
            let kept = hot_in(&again);
            faults.check(kept >= 85, || format!("{name}, {segments} segments: {kept} of 100"));
        }
    }
    faults.assert_none();
}

#[cfg(feature = "serde")]
#[test]
fn a_snapshot_loaded_into_a_smaller_cache_keeps_what_was_read() {
    let mut faults = Faults::default();
    for name in READING {
        for segments in [1, 8] {
            let mut bytes = Vec::new();
            half_full(name, segments, 30).snapshot().save_to(&mut bytes).unwrap();
            for (to, into) in [(name, 1), (name, 8), ("lru", 8)] {
                let small: Cache<u32, String> = Cache::builder()
                    .max_capacity(500)
                    .eviction_policy(policy(to))
                    .segments(into)
                    .build()
                    .unwrap();
                small.snapshot().load_from(&bytes[..]).unwrap();
                let kept = hot_in(&small);
                let case = || format!("{name}, {segments} segments, into {to}, {into}: {kept} of 100");
                faults.check(kept >= 85, case);
                assert!(small.len() <= 500);
            }
        }
    }
    faults.assert_none();
}

#[cfg(feature = "serde")]
#[test]
fn a_snapshot_of_a_full_cache_loaded_into_a_smaller_one_keeps_what_was_read() {
    let mut faults = Faults::default();
    for name in READING {
        for segments in [1, 8] {
            let build = |capacity| {
                let cache =
                    Cache::builder().max_capacity(capacity).eviction_policy(policy(name)).segments(segments);
                cache.build().unwrap()
            };
            let cache: Cache<u32, u32> = build(2_000);
            for key in 0..6_000 {
                cache.insert(key, key);
            }
            let read: Vec<u32> = cache.keys().take(100).collect();
            for _ in 0..50 {
                for key in &read {
                    cache.get(key);
                }
            }
            let mut bytes = Vec::new();
            cache.snapshot().save_to(&mut bytes).unwrap();
            let small: Cache<u32, u32> = build(500);
            small.snapshot().load_from(&bytes[..]).unwrap();
            let kept = read.iter().filter(|key| small.contains_key(*key)).count();
            faults.check(kept >= 85, || format!("{name}, {segments} segments: {kept} of 100"));
        }
    }
    faults.assert_none();
}

// -----------------------------------------------------------------------------------------------------------
// To get by `entry` or `compute` is to use the entry
// -----------------------------------------------------------------------------------------------------------

type Use = fn(&Cache<u32, u32>, u32) -> u32;

/// What finds an entry, gives its value and leaves it as it is.
const USES: [(&str, Use); 4] = [
    ("or_insert", |cache, key| cache.entry(key).or_insert(999)),
    ("or_insert_with", |cache, key| cache.entry(key).or_insert_with(|| 999)),
    ("or_default", |cache, key| cache.entry(key).or_default()),
    ("compute", |cache, key| cache.compute(key, |_| Op::Keep).into_value().unwrap()),
];

#[test]
fn an_entry_that_was_there_for_entry_or_compute_was_used_last() {
    for (way, use_it) in USES {
        let lru = Cache::builder().max_capacity(3).eviction_policy(EvictionPolicy::lru()).segments(1);
        let cache = lru.build().unwrap();
        for key in 0..3 {
            cache.insert(key, key + 10);
        }
        assert_eq!(use_it(&cache, 0), 10);
        cache.insert(3, 13);
        assert_eq!(cache.peek(&0), Some(10), "{way}");
        assert!(!cache.contains_key(&1), "{way}");
    }
}

#[test]
fn entry_and_compute_make_hot_under_every_policy() {
    let mut faults = Faults::default();
    for name in READING {
        for segments in [1, 8] {
            for (way, use_it) in USES {
                let cache =
                    Cache::builder().max_capacity(1_000).eviction_policy(policy(name)).segments(segments);
                let cache = cache.build().unwrap();
                for key in 0..400 {
                    cache.insert(key, key);
                }
                for _ in 0..20 {
                    for key in 50..60 {
                        assert_eq!(use_it(&cache, key), key);
                    }
                }
                cache.set_capacity(100);
                let kept = (50..60).filter(|key| cache.contains_key(key)).count();
                faults.check(kept >= 9, || format!("{name}, {segments} segments, {way}: {kept} of 10"));
            }
        }
    }
    faults.assert_none();
}

#[test]
fn entry_and_compute_move_the_time_to_idle() {
    for (way, use_it) in USES {
        for of_its_own in [false, true] {
            let clock = Clock::manual();
            let builder = Cache::builder().max_capacity(100).clock(clock.clone());
            let cache = if of_its_own { builder } else { builder.time_to_idle(secs(10)) }.build().unwrap();
            let tti = if of_its_own { InsertOptions::new().tti(secs(10)) } else { InsertOptions::new() };
            cache.insert_with(1, 11, tti);
            for _ in 0..5 {
                clock.advance(secs(6));
                assert!(cache.contains_key(&1), "{way}, tti of its own: {of_its_own}");
                assert_eq!(use_it(&cache, 1), 11);
            }
            clock.advance(secs(10));
            assert!(!cache.contains_key(&1), "{way}");
        }
    }
}

/// Ten seconds from the last write or read, and counts what it is asked.
#[derive(Clone, Default)]
struct Asked {
    read: Arc<AtomicU32>,
    updated: Arc<AtomicU32>,
}

impl Expiry<u32, u32> for Asked {
    fn after_create(&self, _: &u32, _: &u32) -> Option<Duration> {
        Some(secs(10))
    }

    fn after_update(&self, _: &u32, _: &u32, _: Option<Duration>) -> Option<Duration> {
        self.updated.fetch_add(1, Relaxed);
        Some(secs(10))
    }

    fn after_read(&self, key: &u32, value: &u32, _: Option<Duration>) -> Option<Duration> {
        assert_eq!((*key, *value), (1, 11));
        self.read.fetch_add(1, Relaxed);
        Some(secs(10))
    }
}

#[test]
fn entry_and_compute_call_after_read() {
    for (way, use_it) in USES {
        let (clock, asked) = (Clock::manual(), Asked::default());
        let builder = Cache::builder().max_capacity(100).expire_after(asked.clone()).clock(clock.clone());
        let cache = builder.build().unwrap();
        cache.insert(1, 11);
        for _ in 0..3 {
            clock.advance(secs(6));
            assert!(cache.contains_key(&1), "{way}");
            assert_eq!(use_it(&cache, 1), 11);
        }
        assert_eq!((asked.read.load(Relaxed), asked.updated.load(Relaxed)), (3, 0), "{way}");
        clock.advance(secs(10));
        assert!(!cache.contains_key(&1), "{way}");
    }
}

#[test]
fn entry_and_compute_count_a_hit() {
    for (way, use_it) in USES {
        for segments in [1, 8] {
            let cache =
                Cache::builder().max_capacity(10_000).segments(segments).record_stats().build().unwrap();
            for key in 0..100 {
                cache.insert(key, key);
            }
            for key in 0..100 {
                assert_eq!(use_it(&cache, key), key);
            }
            assert_eq!((cache.stats().hit_count(), cache.stats().miss_count()), (100, 0), "{way}");
        }
    }
}

#[test]
fn what_entry_puts_in_is_no_hit() {
    let cache = Cache::builder().max_capacity(100).record_stats().build().unwrap();
    assert_eq!(cache.entry(1).or_insert(7), 7);
    assert_eq!(cache.entry(2).or_insert_with(|| 8), 8);
    assert_eq!(cache.entry(3).or_default(), 0);
    assert_eq!(cache.stats().hit_count(), 0);
}

// -----------------------------------------------------------------------------------------------------------
// Entries of weight 0 make no room
// -----------------------------------------------------------------------------------------------------------

/// A cache of weight 100 whose entries weigh their value, and the keys of weight 0 that have left it.
fn by_value(name: &str, segments: usize) -> (Cache<u32, u64>, Arc<Mutex<Vec<u32>>>) {
    let lost = Arc::new(Mutex::new(Vec::new()));
    let heard = lost.clone();
    let cache = Cache::builder()
        .max_capacity(100)
        .weigher(|_, weight: &u64| *weight)
        .eviction_policy(policy(name))
        .segments(segments)
        .eviction_listener(move |key, weight, _| {
            if *weight == 0 {
                heard.lock().unwrap().push(*key);
            }
        })
        .build()
        .unwrap();
    (cache, lost)
}

fn weightless_stay(name: &str, segments: usize, entries: u32, faults: &mut Faults) {
    let (cache, lost) = by_value(name, segments);
    for key in 0..entries {
        cache.insert(key, 0);
    }
    for key in entries..entries + 101 {
        cache.insert(key, 1);
        assert!(cache.weighted_size() <= 100);
    }
    let (gone, there) =
        (lost.lock().unwrap().len(), (0..entries).filter(|key| cache.contains_key(key)).count());
    faults.check(gone == 0 && there == entries as usize, || {
        format!("{name}, {segments} segments: {gone} of weight 0 have gone, {there} of {entries} are there")
    });
    let weight = cache.weighted_size();
    faults.check(weight >= 99, || format!("{name}, {segments} segments: holds a weight of {weight} only"));
}

#[test]
fn a_hundred_thousand_entries_of_weight_0_are_not_evicted_for_room() {
    let mut faults = Faults::default();
    weightless_stay("s3_lirs", 1, 100_000, &mut faults);
    faults.assert_none();
}

#[test]
fn entries_of_weight_0_are_not_evicted_for_room_under_any_policy() {
    let mut faults = Faults::default();
    for name in ALL {
        for segments in [1, 8] {
            weightless_stay(name, segments, 3_000, &mut faults);
        }
    }
    faults.assert_none();
}

#[test]
fn entries_of_weight_0_stay_when_a_heavy_one_comes_or_is_refused_or_the_capacity_shrinks() {
    let mut faults = Faults::default();
    for name in ALL {
        for segments in [1, 4] {
            let (cache, lost) = by_value(name, segments);
            for key in 0..1_000 {
                cache.insert(key, u64::from(key % 20 == 0));
            }
            let mut check = |when: &str| {
                let lost = lost.lock().unwrap().len();
                faults.check(lost == 0, || format!("{name}, {segments} segments, {when}: {lost} have gone"));
            };
            check("filled");
            cache.set_capacity(30);
            assert!(cache.weighted_size() <= 30);
            check("smaller");
            cache.set_capacity(100);
            cache.insert(5_000, 100); // all that there is
            check("a heavy one");
            cache.insert(5_001, 101); // too much
            assert!(!cache.contains_key(&5_001));
            check("one too heavy");
            cache.insert_with(5_002, 7, InsertOptions::new().weight(60));
            check("a weight of its own");
        }
    }
    faults.assert_none();
}

#[test]
fn entries_of_weight_0_count_for_max_entries() {
    for name in ALL {
        let builder = Cache::builder().max_capacity(100).max_entries(50).weigher(|_, weight: &u64| *weight);
        let cache = builder.eviction_policy(policy(name)).segments(1).build().unwrap();
        for key in 0..200_u32 {
            cache.insert(key, 0);
            assert!(cache.len() <= 50, "{name}");
        }
        assert_eq!(cache.len(), 50, "{name}");
        cache.insert(1_000, 1);
        assert!(cache.len() <= 50, "{name}");
    }
}

// -----------------------------------------------------------------------------------------------------------
// What is dead on arrival evicts nobody
// -----------------------------------------------------------------------------------------------------------

/// Says of some values that their time is over at once.
struct ZeroIsOver;

impl Expiry<u32, Option<u32>> for ZeroIsOver {
    fn after_create(&self, _: &u32, value: &Option<u32>) -> Option<Duration> {
        value.is_none().then_some(Duration::ZERO)
    }
}

/// Fills a cache with entries that were read twice; then come many that are over. None of the living may go.
fn the_living_stay(
    case: &str,
    cache: &Cache<u32, Option<u32>>,
    dead: u32,
    put: impl Fn(&Cache<u32, Option<u32>>, u32),
    faults: &mut Faults,
) {
    for key in 0..1_000 {
        cache.insert(key, Some(key));
    }
    let living: Vec<u32> = (0..1_000).filter(|key| cache.contains_key(key)).collect();
    for _ in 0..2 {
        for key in &living {
            cache.get(key);
        }
    }
    let mut most = 0;
    for key in 1_000..1_000 + dead {
        put(cache, key);
        assert!(!cache.contains_key(&key), "{case}");
        if key % 64 == 0 {
            most = most.max(cache.len());
        }
    }
    let lost = living.iter().filter(|key| !cache.contains_key(*key)).count();
    faults.check(lost == 0, || format!("{case}: {lost} of the {} that live have gone", living.len()));
    faults.check(most <= living.len(), || format!("{case}: the dead took room, {most} entries"));
}

const DEAD: InsertOptions = InsertOptions::new().ttl(Duration::ZERO);

fn of_1_000(name: &str, segments: usize) -> larder::Builder<u32, Option<u32>> {
    let builder = Cache::builder().max_capacity(1_000).eviction_policy(policy(name)).segments(segments);
    builder.clock(Clock::manual())
}

#[test]
fn twenty_thousand_inserts_that_are_over_at_once_evict_nobody() {
    let mut faults = Faults::default();
    for name in ["s3_lirs", "lru"] {
        let put = |cache: &Cache<u32, Option<u32>>, key| cache.insert_with(key, Some(key), DEAD);
        the_living_stay(name, &of_1_000(name, 1).build().unwrap(), 20_000, put, &mut faults);
    }
    faults.assert_none();
}

#[test]
fn inserts_that_are_over_at_once_evict_nobody_under_any_policy() {
    let mut faults = Faults::default();
    for name in ALL {
        for segments in [1, 8] {
            for (way, options) in [("ttl", DEAD), ("tti", InsertOptions::new().tti(Duration::ZERO))] {
                let case = format!("{name}, {segments} segments, {way}");
                let cache = of_1_000(name, segments).build().unwrap();
                let put =
                    |cache: &Cache<u32, Option<u32>>, key| cache.insert_with(key, Some(key), options.clone());
                the_living_stay(&case, &cache, 1_500, put, &mut faults);
            }
        }
    }
    faults.assert_none();
}

#[test]
fn values_whose_expiry_or_negative_life_is_zero_evict_nobody() {
    type Put = fn(&Cache<u32, Option<u32>>, u32);
    let ways: [(&str, Put); 6] = [
        ("insert", |cache, key| cache.insert(key, None)),
        ("compute", |cache, key| ignore(cache.compute(key, |_| Op::Insert(None)))),
        ("or_insert", |cache, key| ignore(cache.entry(key).or_insert(None))),
        ("and_upsert_with", |cache, key| ignore(cache.entry(key).and_upsert_with(|_| None))),
        ("get_or_load", |cache, key| ignore(cache.get_or_load(key, |_| None))),
        ("get_all_or_load", |cache, key| ignore(cache.get_all_or_load([key], |_: &[u32]| [(key, None)]))),
    ];
    let mut faults = Faults::default();
    for name in ["s3_lirs", "tiny_lfu", "lru", "sieve"] {
        for (way, put) in ways {
            let case = format!("{name}, negative_time_to_live, {way}");
            let cache = of_1_000(name, 1).negative_time_to_live(Duration::ZERO).build().unwrap();
            the_living_stay(&case, &cache, 1_200, put, &mut faults);
            let case = format!("{name}, expire_after, {way}");
            let cache = of_1_000(name, 1).expire_after(ZeroIsOver).build().unwrap();
            the_living_stay(&case, &cache, 1_200, put, &mut faults);
        }
    }
    faults.assert_none();
}

#[test]
fn an_insert_that_is_over_at_once_removes_what_its_key_had_and_notifies() {
    for name in ALL {
        for segments in [1, 8] {
            let heard = Arc::new(Mutex::new(Vec::new()));
            let hears = heard.clone();
            let listener = move |key: &u32, value: &u64, _| hears.lock().unwrap().push((*key, *value));
            let cache = Cache::builder().max_capacity(100).eviction_policy(policy(name)).segments(segments);
            let cache = cache.clock(Clock::manual()).eviction_listener(listener).build().unwrap();
            cache.insert(1, 10);
            cache.insert(2, 20);
            cache.insert_with(1, 11, DEAD); // over an entry
            cache.insert_with(3, 31, DEAD.weight(7)); // over none
            assert_eq!((cache.get(&1), cache.get(&2), cache.get(&3)), (None, Some(20), None), "{name}");
            assert_eq!((cache.len(), cache.weighted_size()), (1, 1), "{name}");
            assert_eq!(*heard.lock().unwrap(), [(1, 10), (1, 11), (3, 31)], "{name}");
            cache.run_pending_tasks();
            assert_eq!(heard.lock().unwrap().len(), 3, "{name}: notified once");
        }
    }
}

#[test]
fn what_is_over_at_once_but_good_while_it_is_revalidated_is_kept() {
    let clock = Clock::manual();
    let cache =
        Cache::builder().max_capacity(100).stale_if_error(secs(60)).clock(clock.clone()).build().unwrap();
    cache.insert_with(1, 10, DEAD);
    assert_eq!(cache.get(&1), None);
    assert_eq!(cache.try_get_or_load(1, |_| Err("closed")).unwrap(), 10);
}

// -----------------------------------------------------------------------------------------------------------
// Scans look at the clock at each step
// -----------------------------------------------------------------------------------------------------------

/// Entries whose values are the seconds that each lives, from 1 to 300, in a cache that is nearly full, and
/// a clock for them.
fn of_many_lives(segments: usize) -> (Cache<u32, u64>, Clock) {
    let clock = Clock::manual();
    let cache = Cache::builder().max_capacity(1_200).segments(segments).clock(clock.clone()).build().unwrap();
    for key in 0..1_000 {
        let life = u64::from(key) % 300 + 1;
        cache.insert_with(key, life, InsertOptions::new().ttl(secs(life)));
    }
    (cache, clock)
}

/// Counts what was seen of entries that were over, where each step takes a second.
struct Steps {
    clock: Clock,
    now: u64,
    over: usize,
}

impl Steps {
    fn new(clock: Clock) -> Self {
        Self { clock, now: 0, over: 0 }
    }

    fn step(&mut self, life: u64) {
        self.over += usize::from(life <= self.now);
        self.now += 1;
        self.clock.advance(secs(1));
    }
}

#[test]
fn iter_and_keys_give_nothing_that_is_over_at_their_step() {
    for segments in [1, 8] {
        let (cache, clock) = of_many_lives(segments);
        let mut steps = Steps::new(clock);
        for (_, life) in &cache {
            steps.step(life);
        }
        assert_eq!(steps.over, 0, "iter, {segments} segments");
        let (cache, clock) = of_many_lives(segments);
        let mut steps = Steps::new(clock);
        for key in cache.keys() {
            steps.step(u64::from(key) % 300 + 1);
        }
        assert_eq!(steps.over, 0, "keys, {segments} segments");
    }
}

#[test]
fn for_each_and_retain_show_nothing_that_is_over_at_their_step() {
    for segments in [1, 8] {
        let (cache, clock) = of_many_lives(segments);
        let mut steps = Steps::new(clock);
        cache.for_each(|_, life| steps.step(*life));
        assert_eq!(steps.over, 0, "for_each, {segments} segments");
        for keep in [true, false] {
            let (cache, clock) = of_many_lives(segments);
            let mut steps = Steps::new(clock);
            cache.retain(|_, life| {
                steps.step(*life);
                keep
            });
            assert_eq!(steps.over, 0, "retain, {segments} segments, {keep}");
        }
    }
}

#[test]
fn drain_gives_nothing_that_is_over_at_its_step_and_leaves_nothing() {
    for segments in [1, 8] {
        let (cache, clock) = of_many_lives(segments);
        let mut steps = Steps::new(clock);
        for (_, life) in cache.drain() {
            steps.step(life);
        }
        assert_eq!(steps.over, 0, "{segments} segments");
        assert_eq!(cache.iter().count(), 0);
    }
}

#[test]
fn a_scan_ends_where_all_that_is_left_is_over() {
    for segments in [1, 8] {
        let build = || {
            let clock = Clock::manual();
            let cache = Cache::builder().max_capacity(600).time_to_live(secs(10)).segments(segments);
            let cache = cache.clock(clock.clone()).build().unwrap();
            (0..500).for_each(|key: u32| cache.insert(key, key));
            (cache, clock)
        };
        let (cache, clock) = build();
        let (mut iter, mut keys) = (cache.iter(), cache.keys());
        assert!(iter.next().is_some() && keys.next().is_some());
        clock.advance(secs(10));
        assert_eq!((iter.count(), keys.count()), (0, 0), "{segments} segments");
        let (cache, clock) = build();
        let mut drain = cache.drain();
        assert!(drain.next().is_some());
        clock.advance(secs(10));
        assert_eq!(drain.count(), 0, "{segments} segments");
        let (cache, clock) = build();
        let mut seen = 0;
        cache.for_each(|_, _| {
            seen += 1;
            clock.advance(secs(10));
        });
        assert_eq!(seen, 1, "for_each, {segments} segments");
        let (cache, clock) = build();
        let mut seen = 0;
        cache.retain(|_, _| {
            seen += 1;
            clock.advance(secs(10));
            true
        });
        assert_eq!(seen, 1, "retain, {segments} segments");
    }
}

/// A value that takes ten seconds to clone, once, when its cache is armed.
struct Slow {
    old: bool,
    clock: Clock,
    armed: Arc<AtomicBool>,
}

impl Clone for Slow {
    fn clone(&self) -> Self {
        if self.armed.swap(false, Relaxed) {
            self.clock.advance(secs(10));
        }
        Self { old: self.old, clock: self.clock.clone(), armed: self.armed.clone() }
    }
}

/// How the entries are told to live ten seconds.
const LIVES: [&str; 4] = ["time_to_live", "time_to_idle", "expire_after", "ttl"];

struct Ten;

impl Expiry<u32, Slow> for Ten {
    fn after_create(&self, _: &u32, _: &Slow) -> Option<Duration> {
        Some(secs(10))
    }
}

/// Thirty entries that live ten seconds, and what makes a new value. The next clone takes those ten seconds.
fn with_a_slow_clone(lives: &str, segments: usize) -> (Cache<u32, Slow>, impl Fn() -> Slow + use<>) {
    let (clock, armed) = (Clock::manual(), Arc::new(AtomicBool::new(false)));
    let builder = Cache::builder().max_capacity(10_000).segments(segments).clock(clock.clone());
    let builder = match lives {
        "time_to_live" => builder.time_to_live(secs(10)),
        "time_to_idle" => builder.time_to_idle(secs(10)),
        "expire_after" => builder.expire_after(Ten),
        _ => builder,
    };
    let options = if lives == "ttl" { InsertOptions::new().ttl(secs(10)) } else { InsertOptions::new() };
    let cache = builder.build().unwrap();
    for key in 0..30 {
        let value = Slow { old: true, clock: clock.clone(), armed: armed.clone() };
        cache.insert_with(key, value, options.clone());
    }
    armed.store(true, Relaxed);
    (cache, move || Slow { old: false, clock: clock.clone(), armed: armed.clone() })
}

#[test]
fn get_many_looks_at_the_clock_for_each_key() {
    let keys: Vec<u32> = (0..30).collect();
    for segments in [1, 8] {
        for lives in LIVES {
            let (cache, _) = with_a_slow_clone(lives, segments);
            let found = cache.get_many(&keys).into_iter().flatten().count();
            assert_eq!(found, 1, "a slow clone, {lives}, {segments} segments");

            let (cache, make) = with_a_slow_clone(lives, segments);
            let Slow { clock, armed, .. } = make();
            armed.store(false, Relaxed);
            let slow = keys.iter().inspect(|key| {
                if **key == 20 {
                    clock.advance(secs(10))
                }
            });
            let found = cache.get_many(slow);
            assert!(found[20..].iter().all(Option::is_none), "slow keys, {lives}, {segments} segments");
        }
    }
}

#[test]
fn loads_of_many_keys_look_at_the_clock_for_each_key() {
    type Load = fn(&Cache<u32, Slow>, &dyn Fn() -> Slow) -> HashMap<u32, Slow>;
    fn give(keys: &[u32], make: &dyn Fn() -> Slow) -> Vec<(u32, Slow)> {
        keys.iter().map(|key| (*key, make())).collect()
    }
    let ways: [(&str, Load); 4] = [
        ("get_all_or_load", |cache, make| cache.get_all_or_load(0..30, |keys| give(keys, make))),
        ("try_get_all_or_load", |cache, make| {
            let loaded = cache.try_get_all_or_load(0..30, |keys| Ok::<_, fmt::Error>(give(keys, make)));
            loaded.unwrap_or_else(|_| unreachable!())
        }),
        ("get_all_or_load_async", |cache, make| {
            block_on(cache.get_all_or_load_async(0..30, |keys| async move { give(&keys, make) }))
        }),
        ("try_get_all_or_load_async", |cache, make| {
            let load = |keys: Vec<u32>| async move { Ok::<_, fmt::Error>(give(&keys, make)) };
            block_on(cache.try_get_all_or_load_async(0..30, load)).unwrap_or_else(|_| unreachable!())
        }),
    ];
    for segments in [1, 8] {
        for (way, load) in ways {
            for lives in LIVES {
                let (cache, make) = with_a_slow_clone(lives, segments);
                let all = load(&cache, &make);
                assert_eq!(all.len(), 30, "{way}, {lives}");
                let old = all.values().filter(|value| value.old).count();
                assert!(old <= 1, "{way}, {lives}, {segments} segments: {old} were over");
            }
        }
    }
}

#[test]
fn warm_loads_what_is_over_when_its_key_comes() {
    for lives in LIVES {
        let (cache, make) = with_a_slow_clone(lives, 1);
        let clock = make().clock;
        let keys = (0..30).inspect(|key| {
            if *key == 3 {
                clock.advance(secs(10))
            }
        });
        let load = |keys: &[u32]| keys.iter().map(|key| (*key, make())).collect::<Vec<_>>();
        let done = cache.warm(keys, WarmUp::new(), load);
        assert!(done.loaded >= 27, "{lives}: {}", done.loaded);
    }
}

#[test]
fn hottest_and_coldest_give_nothing_that_is_over_at_their_step() {
    for segments in [1, 8] {
        for lives in LIVES {
            let (cache, _) = with_a_slow_clone(lives, segments);
            let found = cache.hottest(30).len();
            assert!(found <= 1, "hottest, {lives}, {segments} segments: {found}");
            let (cache, _) = with_a_slow_clone(lives, segments);
            let found = cache.coldest(30).len();
            assert!(found <= 1, "coldest, {lives}, {segments} segments: {found}");
        }
    }
}

// -----------------------------------------------------------------------------------------------------------
// An update keeps what its entry was given
// -----------------------------------------------------------------------------------------------------------

type Update = fn(&Cache<u32, u64>);

/// All that gives key 1 the value 2. Those that load need it to be due.
const UPDATES: [(&str, Update); 10] = [
    ("compute", |cache| ignore(cache.compute(1, |_| Op::Insert(2)))),
    ("and_upsert_with", |cache| ignore(cache.entry(1).and_upsert_with(|_| 2))),
    ("refresh", |cache| ignore(cache.refresh(1, |_| 2))),
    ("try_refresh", |cache| ignore(cache.try_refresh(1, |_| Ok::<_, fmt::Error>(2)))),
    ("refresh_async", |cache| ignore(block_on(cache.refresh_async(1, |_| async { 2 })))),
    ("get_or_load", |cache| ignore(cache.get_or_load(1, |_| 2))),
    ("try_get_or_load", |cache| ignore(cache.try_get_or_load(1, |_| Ok::<_, fmt::Error>(2)))),
    ("get_or_load_async", |cache| ignore(block_on(cache.get_or_load_async(1, |_| async { 2 })))),
    ("get_all_or_load", |cache| ignore(cache.get_all_or_load([1], |_: &[u32]| [(1, 2)]))),
    ("get_all_or_load_async", |cache| {
        ignore(block_on(cache.get_all_or_load_async([1], |_: Vec<u32>| async { [(1, 2)] })));
    }),
];

/// Calls `check` for each update, with a cache in which key 1 got `options` four seconds ago, then a value.
fn after_each_update(
    options: impl Fn() -> InsertOptions,
    with: impl Fn(larder::Builder<u32, u64>) -> larder::Builder<u32, u64>,
    mut check: impl FnMut(&str, &Cache<u32, u64>, &Clock),
) {
    let build = |builder: larder::Builder<u32, u64>| {
        let clock = Clock::manual();
        let builder = with(builder).max_capacity(1_000).refresh_after_write(secs(3)).clock(clock.clone());
        let cache = builder.build().unwrap();
        cache.insert_with(1, 1, options());
        clock.advance(secs(4));
        (cache, clock)
    };
    for (way, update) in UPDATES {
        let (cache, clock) = build(Cache::builder());
        update(&cache);
        assert_eq!(cache.peek(&1), Some(2), "{way}");
        check(way, &cache, &clock);
    }
    // What is refreshed elsewhere.
    let (cache, clock) =
        build(Cache::builder().refresh_with(|refresh: Refresh<u32, u64>| refresh.complete(2)));
    assert_eq!(cache.get_or_load(1, |_| unreachable!()), 1);
    assert_eq!(cache.peek(&1), Some(2), "refresh_with");
    check("refresh_with", &cache, &clock);
}

#[test]
fn an_update_keeps_the_tags_of_its_entry() {
    let options = || InsertOptions::new().tags(["own", "user:7"]);
    let mut faults = Faults::default();
    after_each_update(
        options,
        |builder| builder,
        |way, cache, _| {
            faults.check(cache.invalidate_tag("own") == 1, || format!("{way}: untagged"));
            faults.check(cache.get(&1).is_none(), || format!("{way}: served after its tag was invalidated"));
        },
    );
    after_each_update(
        options,
        |builder| builder.tags(|_, _| ["all"]),
        |way, cache, _| {
            faults.check(cache.invalidate_tag("all") == 0, || format!("{way}: has got the builder's tags"));
            faults.check(cache.invalidate_tag("user:7") == 1, || format!("{way}: has lost its own tags"));
        },
    );
    faults.assert_none();
}

#[test]
fn an_update_keeps_the_time_to_live_of_its_entry_which_starts_again() {
    let options = || InsertOptions::new().ttl(secs(10));
    let mut faults = Faults::default();
    let mut check = |way: &str, cache: &Cache<u32, u64>, clock: &Clock| {
        let left = cache.metadata(&1).unwrap().remaining;
        faults.check(left == Some(secs(10)), || format!("{way}: has {left:?} left"));
        clock.advance(secs(9));
        faults.check(cache.contains_key(&1), || format!("{way}: over too early"));
        clock.advance(secs(1));
        faults.check(!cache.contains_key(&1), || format!("{way}: lives too long"));
    };
    after_each_update(options, |builder| builder, &mut check);
    after_each_update(options, |builder| builder.time_to_live(secs(5)), &mut check);
    after_each_update(options, |builder| builder.time_to_live(secs(3_600)), &mut check);
    faults.assert_none();
}

/// All live for five seconds.
struct Five;

impl Expiry<u32, u64> for Five {
    fn after_create(&self, _: &u32, _: &u64) -> Option<Duration> {
        Some(secs(5))
    }
}

#[test]
fn an_update_keeps_the_life_of_its_entry_beside_an_expiry() {
    let mut faults = Faults::default();
    let options = || InsertOptions::new().ttl(secs(10));
    after_each_update(
        options,
        |builder| builder.expire_after(Five),
        |way, cache, _| {
            let left = cache.metadata(&1).map(|metadata| metadata.remaining);
            faults.check(left == Some(Some(secs(10))), || format!("{way}: has {left:?} left"));
        },
    );
    faults.assert_none();
}

#[test]
fn an_update_keeps_an_entry_endless_that_was_to_be() {
    let mut faults = Faults::default();
    let options = || InsertOptions::new().ttl(Duration::MAX);
    after_each_update(
        options,
        |builder| builder.time_to_live(secs(10)),
        |way, cache, clock| {
            clock.advance(secs(1_000_000));
            faults.check(cache.contains_key(&1), || format!("{way}: has ended"));
        },
    );
    faults.assert_none();
}

#[test]
fn an_update_keeps_the_time_to_idle_of_its_entry() {
    let mut faults = Faults::default();
    let options = || InsertOptions::new().tti(secs(10));
    let mut check = |way: &str, cache: &Cache<u32, u64>, clock: &Clock| {
        for _ in 0..3 {
            clock.advance(secs(6));
            faults.check(cache.get(&1).is_some(), || format!("{way}: over too early"));
        }
        clock.advance(secs(10));
        faults.check(!cache.contains_key(&1), || format!("{way}: lives too long"));
    };
    after_each_update(options, |builder| builder, &mut check);
    after_each_update(options, |builder| builder.time_to_idle(secs(5)), &mut check);
    faults.assert_none();
}

#[test]
fn an_update_keeps_the_weight_of_its_entry() {
    let mut faults = Faults::default();
    for segments in [1, 8] {
        let options = || InsertOptions::new().weight(7);
        let mut check = |way: &str, cache: &Cache<u32, u64>, _: &Clock| {
            let weight = (cache.metadata(&1).unwrap().weight, cache.weighted_size());
            faults.check(weight == (7, 7), || format!("{way}, {segments} segments: weighs {weight:?}"));
        };
        after_each_update(options, |builder| builder.segments(segments), &mut check);
        after_each_update(options, |builder| builder.segments(segments).weigher(|_, _| 3), &mut check);
    }
    faults.assert_none();
}

#[test]
fn an_update_keeps_the_pin_of_its_entry() {
    let mut faults = Faults::default();
    after_each_update(
        || InsertOptions::new().pinned(true),
        |builder| builder.segments(1),
        |way, cache, _| {
            faults.check(cache.metadata(&1).unwrap().is_pinned, || format!("{way}: not pinned any more"));
            (10..3_000).for_each(|key| cache.insert(key, 0));
            faults.check(cache.contains_key(&1), || format!("{way}: evicted"));
        },
    );
    faults.assert_none();
}

#[test]
fn several_updates_in_a_row_keep_what_the_entry_was_given() {
    let clock = Clock::manual();
    let cache = Cache::builder().max_capacity(100).weigher(|_, _| 1).clock(clock.clone()).build().unwrap();
    let options = InsertOptions::new().ttl(secs(10)).tags(["own"]).weight(7).pinned(true);
    cache.insert_with(1, 0_u64, options);
    for n in 1..50 {
        clock.advance(secs(9));
        match n % 3 {
            0 => ignore(cache.compute(1, |old| Op::Insert(old.unwrap() + 1))),
            1 => ignore(cache.entry(1).and_upsert_with(|old| old.unwrap() + 1)),
            _ => ignore(cache.refresh(1, |_| n)),
        }
        assert_eq!(cache.peek(&1), Some(n));
    }
    let metadata = cache.metadata(&1).unwrap();
    assert_eq!((metadata.remaining, metadata.weight, metadata.is_pinned), (Some(secs(10)), 7, true));
    assert_eq!(cache.invalidate_tag("own"), 1);
}

#[test]
fn what_an_entry_was_given_goes_with_it() {
    type Remove = fn(&Cache<u32, u64>);
    let ways: [(&str, Remove); 3] = [
        ("compute", |cache| ignore(cache.compute(1, |_| Op::Remove))),
        ("remove", |cache| ignore(cache.remove(&1))),
        ("invalidate_all", |cache| cache.invalidate_all()),
    ];
    for (way, remove) in ways {
        let cache: Cache<u32, u64> = Cache::new(100);
        cache.insert_with(1, 1, InsertOptions::new().ttl(secs(10)).tags(["own"]).weight(7).pinned(true));
        remove(&cache);
        cache.compute(1, |old| {
            assert_eq!(old, None);
            Op::Insert(2)
        });
        let metadata = cache.metadata(&1).unwrap();
        assert_eq!((metadata.remaining, metadata.weight, metadata.is_pinned), (None, 1, false), "{way}");
        assert_eq!(cache.invalidate_tag("own"), 0, "{way}");
    }
}

// -----------------------------------------------------------------------------------------------------------
// Load times are real time
// -----------------------------------------------------------------------------------------------------------

#[test]
fn load_times_are_real_time_whatever_the_clock_of_the_cache_says() {
    const LONG: Duration = Duration::from_millis(5);
    type Load = fn(&Cache<u32, u32>, &dyn Fn() -> u32);
    let ways: [(&str, Load); 6] = [
        ("get_or_load", |cache, load| ignore(cache.get_or_load(1, |_| load()))),
        ("try_get_or_load", |cache, load| {
            cache.try_get_or_load(1, |_| Ok::<_, fmt::Error>(load())).unwrap();
        }),
        ("failing", |cache, load| {
            cache.try_get_or_load(1, |_| if load() == 7 { Err(fmt::Error) } else { Ok(1) }).unwrap_err();
        }),
        ("get_or_load_async", |cache, load| {
            block_on(cache.get_or_load_async(1, |_| async { load() }));
        }),
        ("get_all_or_load", |cache, load| ignore(cache.get_all_or_load([1], |_: &[u32]| [(1, load())]))),
        ("refresh", |cache, load| ignore(cache.refresh(1, |_| load()))),
    ];
    for (way, load) in ways {
        for time_matters in [false, true] {
            let clock = Clock::manual();
            let builder = Cache::builder().max_capacity(100).record_stats().clock(clock.clone());
            let builder = if time_matters { builder.time_to_live(secs(1_000_000)) } else { builder };
            let cache = builder.build().unwrap();
            load(&cache, &|| {
                thread::sleep(LONG);
                clock.advance(secs(100_000)); // which is no time that the loader took
                7
            });
            let stats = cache.stats();
            assert_eq!(stats.load_success_count() + stats.load_failure_count(), 1, "{way}");
            assert!(stats.total_load_time() >= LONG, "{way}: {:?}", stats.total_load_time());
            assert!(stats.average_load_time() >= LONG, "{way}: {:?}", stats.average_load_time());
            assert!(stats.total_load_time() < secs(100_000), "{way}: {:?}", stats.total_load_time());
        }
    }
}

// -----------------------------------------------------------------------------------------------------------
// Notifications of one key come in the order in which its values left
// -----------------------------------------------------------------------------------------------------------

type Log = Arc<Mutex<Vec<(u32, u64)>>>;

/// A builder whose listener takes more or less time before it notes key and value.
fn noting(log: &Log) -> larder::Builder<u32, u64> {
    let log = log.clone();
    Cache::builder().eviction_listener(move |key: &u32, value: &u64, _| {
        match value % 64 {
            0 => thread::yield_now(),
            n if n % 2 == 0 => (0..n * 8).for_each(|_| hint::spin_loop()),
            _ => {}
        }
        log.lock().unwrap().push((*key, *value));
    })
}

/// Asserts that the values of each key only grow.
fn assert_in_order(case: &str, log: &Log) {
    let mut last: HashMap<u32, u64> = HashMap::new();
    let mut wrong = Vec::new();
    for (key, value) in log.lock().unwrap().iter() {
        if let Some(before) = last.insert(*key, *value)
            && before >= *value
        {
            wrong.push((*key, before, *value));
        }
    }
    assert!(
        wrong.is_empty(),
        "{case}: {} out of order, such as {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
}

/// Runs both at the same time, in threads of their own.
fn together(one: impl FnOnce() + Send, other: impl FnOnce() + Send) {
    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            one();
        });
        start.wait();
        other();
    });
}

#[test]
fn values_that_two_threads_replace_are_notified_in_their_order() {
    const EACH: u64 = 15_000;
    for segments in [1, 8] {
        let log = Log::default();
        let cache = noting(&log).max_capacity(10_000).segments(segments).build().unwrap();
        let count = || {
            for _ in 0..EACH {
                cache.compute(7, |version| Op::Insert(version.map_or(0, |version| version + 1)));
            }
        };
        together(count, count);
        assert_in_order("compute", &log);
        // Each version but the last has left, and was notified once, by now.
        assert_eq!(cache.peek(&7), Some(2 * EACH - 1));
        assert_eq!(log.lock().unwrap().len() as u64, 2 * EACH - 1);
    }
}

#[test]
fn values_that_two_threads_replace_and_remove_are_notified_in_their_order() {
    const EACH: u64 = 10_000;
    let log = Log::default();
    let cache = noting(&log).max_capacity(100).build().unwrap();
    let last = AtomicU64::new(0);
    // One thread alone puts in what is absent: another could be overtaken while it goes by what was last.
    let change = |puts_in: bool| {
        for _ in 0..EACH {
            cache.compute(7, |version| match version {
                Some(version) => {
                    last.fetch_max(*version, Relaxed);
                    if version % 3 == 0 { Op::Remove } else { Op::Insert(version + 1) }
                }
                None if puts_in => Op::Insert(last.load(Relaxed) + 1),
                None => Op::Keep,
            });
        }
    };
    together(|| change(true), || change(false));
    assert_in_order("compute", &log);
    let newest = cache.peek(&7).unwrap_or_else(|| last.load(Relaxed) + 1);
    assert_eq!(log.lock().unwrap().len() as u64, newest - 1, "each once");
}

#[test]
fn values_that_one_thread_writes_and_another_evicts_are_notified_in_their_order() {
    const EACH: u64 = 4_000;
    for name in ["s3_lirs", "lru", "fifo"] {
        for capacity in [1, 3] {
            let log = Log::default();
            let cache = noting(&log).max_capacity(capacity).eviction_policy(policy(name)).segments(1);
            let cache = cache.build().unwrap();
            let write = |keys: [u32; 3]| {
                for n in 0..EACH {
                    cache.insert(keys[n as usize % 3], n);
                }
            };
            together(|| write([0, 0, 1]), || write([2, 3, 4]));
            assert_in_order(name, &log);
            assert_eq!(log.lock().unwrap().len() + cache.len(), 2 * EACH as usize, "{name}: each once");
        }
    }
}

#[test]
fn values_that_one_thread_writes_and_another_removes_are_notified_in_their_order() {
    const EACH: u64 = 2_000;
    type Remove = fn(&Cache<u32, u64>, &Clock);
    let ways: [(&str, Remove); 8] = [
        ("invalidate", |cache, _| ignore(cache.invalidate(&7))),
        ("remove", |cache, _| ignore(cache.remove(&7))),
        ("remove_if", |cache, _| ignore(cache.remove_if(&7, |_, _| true))),
        ("retain", |cache, _| cache.retain(|_, _| false)),
        ("drain", |cache, _| cache.drain().for_each(ignore)),
        ("invalidate_all", |cache, _| cache.invalidate_all()),
        ("invalidate_tag", |cache, _| ignore(cache.invalidate_tag("all"))),
        ("run_pending_tasks", |cache, clock| {
            clock.advance(secs(10));
            cache.run_pending_tasks();
        }),
    ];
    for (way, remove) in ways {
        let (log, clock) = (Log::default(), Clock::manual());
        let cache = noting(&log).max_capacity(100).segments(1).tags(|_, _| ["all"]).time_to_live(secs(10));
        let cache = cache.clock(clock.clone()).build().unwrap();
        let done = AtomicBool::new(false);
        together(
            || {
                (0..EACH).for_each(|n| cache.insert(7, n));
                done.store(true, Relaxed);
            },
            || {
                while !done.load(Relaxed) {
                    remove(&cache, &clock);
                }
            },
        );
        assert_in_order(way, &log);
        assert_eq!(log.lock().unwrap().len() + cache.len(), EACH as usize, "{way}: each once");
    }
}

// -----------------------------------------------------------------------------------------------------------
// A listener that writes does not nest
// -----------------------------------------------------------------------------------------------------------

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// What a listener of one cache may do, and has seen.
struct Nest {
    cache: OnceLock<Cache<u32, u64>>,
    deepest: AtomicU32,
    heard: AtomicU64,
    wrote: AtomicU64,
    most: u64,
}

impl Nest {
    /// Deeper than this it writes no more, so that a fault is no stack overflow.
    const TOO_DEEP: u32 = 64;
    /// How deep it may get.
    const DEEP: u32 = 8;

    /// A cache whose listener calls `act` up to `most` times.
    fn build(
        most: u64,
        with: impl FnOnce(larder::Builder<u32, u64>) -> larder::Builder<u32, u64>,
        act: impl Fn(&Cache<u32, u64>, u32, u64, RemovalCause) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (cache, zero) = (OnceLock::new(), || AtomicU64::new(0));
        let nest = Arc::new(Self { cache, deepest: AtomicU32::new(0), heard: zero(), wrote: zero(), most });
        let seen = nest.clone();
        let listener = move |key: &u32, value: &u64, cause| {
            let depth = DEPTH.get() + 1;
            DEPTH.set(depth);
            seen.deepest.fetch_max(depth, Relaxed);
            seen.heard.fetch_add(1, Relaxed);
            let may = depth < Self::TOO_DEEP
                && seen.wrote.fetch_update(Relaxed, Relaxed, |n| (n < seen.most).then_some(n + 1)).is_ok();
            if may {
                act(seen.cache.get().unwrap(), *key, *value, cause);
            }
            DEPTH.set(depth - 1);
        };
        let cache = with(Cache::builder()).eviction_listener(listener).build().unwrap();
        assert!(nest.cache.set(cache).is_ok());
        nest
    }

    fn cache(&self) -> &Cache<u32, u64> {
        self.cache.get().unwrap()
    }

    fn check(&self, case: &str, heard: u64, faults: &mut Faults) {
        let deepest = self.deepest.load(Relaxed);
        faults.check(deepest <= Self::DEEP, || format!("{case}: {deepest} deep"));
        let has = self.heard.load(Relaxed);
        faults.check(has == heard, || format!("{case}: {has} notifications of {heard}"));
    }
}

#[test]
fn a_listener_that_puts_entries_back_does_not_nest_and_hears_of_each() {
    let mut faults = Faults::default();
    for name in ALL {
        for segments in [1, 4, 16] {
            let with = |builder: larder::Builder<u32, u64>| {
                builder.max_capacity(1_000).eviction_policy(policy(name)).segments(segments)
            };
            let nest = Nest::build(5_000, with, |cache, key, value, _| cache.insert(key, value));
            (0..2_000).for_each(|key| nest.cache().insert(key, 0));
            let inserted = 2_000 + nest.wrote.load(Relaxed);
            let case = format!("{name}, {segments} segments");
            nest.check(&case, inserted - nest.cache().len() as u64, &mut faults);
            let stats = nest.cache().stats();
            faults
                .check(stats.eviction_count() + stats.rejection_count() == nest.heard.load(Relaxed), || {
                    format!("{case}: {stats}")
                });
            faults.check(nest.wrote.load(Relaxed) == 5_000, || format!("{case}: ended before its time"));
        }
    }
    faults.assert_none();
}

#[test]
fn a_listener_that_puts_entries_back_does_not_nest_in_several_threads() {
    let mut faults = Faults::default();
    for segments in [1, 4] {
        let with = |builder: larder::Builder<u32, u64>| {
            builder.max_capacity(1_000).eviction_policy(EvictionPolicy::lru()).segments(segments)
        };
        let nest = Nest::build(10_000, with, |cache, key, value, _| cache.insert(key, value));
        thread::scope(|scope| {
            for thread in 0..4 {
                let nest = &nest;
                scope.spawn(move || (0..1_500).for_each(|n| nest.cache().insert(thread * 1_500 + n, 0)));
            }
        });
        // All have come back, so all is delivered.
        let inserted = 6_000 + nest.wrote.load(Relaxed);
        nest.check(&format!("{segments} segments"), inserted - nest.cache().len() as u64, &mut faults);
    }
    faults.assert_none();
}

#[test]
fn a_listener_that_writes_the_key_again_does_not_nest() {
    let mut faults = Faults::default();
    type Write = fn(&Cache<u32, u64>, u32, u64);
    let ways: [(&str, Write); 4] = [
        ("insert", |cache, key, value| cache.insert(key, value + 1)),
        ("insert_with", |cache, key, value| {
            cache.insert_with(key, value + 1, InsertOptions::new().weight(2))
        }),
        ("compute", |cache, key, value| ignore(cache.compute(key, |_| Op::Insert(value + 1)))),
        ("refresh", |cache, key, value| ignore(cache.refresh(key, |_| value + 1))),
    ];
    for (way, write) in ways {
        let with = |builder: larder::Builder<u32, u64>| builder.max_capacity(100);
        let nest = Nest::build(1_000, with, move |cache, key, value, _| write(cache, key, value));
        nest.cache().insert(1, 0);
        nest.cache().insert(1, 0);
        nest.check(way, 1_001, &mut faults);
    }
    faults.assert_none();
}

#[test]
fn a_listener_that_removes_other_keys_does_not_nest() {
    let mut faults = Faults::default();
    type Remove = fn(&Cache<u32, u64>, u32);
    let ways: [(&str, Remove); 4] = [
        ("invalidate", |cache, key| ignore(cache.invalidate(&key))),
        ("remove", |cache, key| ignore(cache.remove(&key))),
        ("compute", |cache, key| ignore(cache.compute(key, |_| Op::Remove))),
        ("invalidate_tag", |cache, key| ignore(cache.invalidate_tag(u64::from(key)))),
    ];
    for (way, remove) in ways {
        for segments in [1, 8] {
            let with = |builder: larder::Builder<u32, u64>| {
                builder.max_capacity(100_000).segments(segments).tags(|key, _| [u64::from(*key)])
            };
            let nest = Nest::build(u64::MAX, with, move |cache, key, _, _| remove(cache, key + 1));
            (0..1_000).for_each(|key| nest.cache().insert(key, 0));
            remove(nest.cache(), 0);
            let case = format!("{way}, {segments} segments");
            nest.check(&case, 1_000, &mut faults);
            faults.check(nest.cache().is_empty(), || format!("{case}: {} are left", nest.cache().len()));
        }
    }
    faults.assert_none();
}

// -----------------------------------------------------------------------------------------------------------
// Nothing is evicted before the cache is full
// -----------------------------------------------------------------------------------------------------------

/// 0.999 of the capacity.
fn nearly(capacity: u64) -> u64 {
    (capacity * 999).div_ceil(1_000)
}

/// Fills a cache of `n` with as many keys, and with as many again.
fn fills(case: &str, cache: &Cache<u64, u64>, n: u64, faults: &mut Faults) {
    (0..nearly(n)).for_each(|key| cache.insert(key, key));
    let (there, stats) = (cache.len() as u64, cache.stats());
    faults.check(there == nearly(n) && stats.eviction_count() + stats.rejection_count() == 0, || {
        format!("{case}: {there} of {} are there; {stats}", nearly(n))
    });
    (nearly(n)..n).for_each(|key| cache.insert(key, key));
    let there = cache.len() as u64;
    faults.check(there >= nearly(n), || format!("{case}: {there} of {n} are there"));
    assert!(there <= n, "{case}: {there} are more than {n}");
    for key in n..n + n.min(20_000) {
        cache.insert(key, key);
        if key % 64 == 0 {
            assert!(cache.len() as u64 <= n, "{case}: {} are more than {n}", cache.len());
        }
    }
    let there = cache.len() as u64;
    faults.check(there >= nearly(n), || format!("{case}: {there} of {n} are there when it is in use"));
    assert!(there <= n && cache.weighted_size() <= n, "{case}");
}

#[test]
fn a_new_cache_holds_as_many_entries_as_it_was_made_for() {
    let mut faults = Faults::default();
    for n in [10, 11, 31, 64, 100, 999, 1_000, 2_048, 4_096, 10_000, 33_333, 100_000] {
        fills(&format!("new({n})"), &Cache::new(n), n, &mut faults);
    }
    faults.assert_none();
}

#[test]
fn a_cache_of_few_entries_holds_them_all_however_many_segments() {
    let mut faults = Faults::default();
    for n in [10, 11, 16, 17, 33, 64, 100, 255, 999, 1_000, 4_096] {
        for segments in [1, 4, 16, 64] {
            let cache = Cache::builder().max_capacity(n).segments(segments).build().unwrap();
            fills(&format!("{n}, {segments} segments"), &cache, n, &mut faults);
        }
    }
    faults.assert_none();
}

#[test]
fn a_cache_of_many_entries_holds_them_all_however_many_segments() {
    let mut faults = Faults::default();
    for (n, segments) in [(10_000, 4), (10_000, 16), (10_000, 64), (50_000, 64), (100_000, 4), (100_000, 16)]
    {
        let cache = Cache::builder().max_capacity(n).segments(segments).build().unwrap();
        fills(&format!("{n}, {segments} segments"), &cache, n, &mut faults);
    }
    faults.assert_none();
}

#[test]
fn a_cache_fills_under_every_policy() {
    let mut faults = Faults::default();
    for name in ALL {
        for (n, segments) in [(50, 4), (1_000, 16), (4_096, 8)] {
            let cache = Cache::builder().max_capacity(n).eviction_policy(policy(name)).segments(segments);
            fills(&format!("{name}, {n}, {segments} segments"), &cache.build().unwrap(), n, &mut faults);
        }
    }
    faults.assert_none();
}

#[test]
fn a_cache_bounded_by_entries_alone_or_beside_weight_fills() {
    let mut faults = Faults::default();
    for n in [10, 100, 1_000, 5_000] {
        for segments in [1, 4, 16] {
            let cache = Cache::builder().max_entries(n).segments(segments).build().unwrap();
            let case = format!("max_entries({n}), {segments} segments");
            // `weighted_size` is their number here, too.
            fills(&case, &cache, n, &mut faults);
            let cache = Cache::builder().max_capacity(n * 1_000).weigher(|_, _| 2).max_entries(n);
            let cache = cache.segments(segments).build().unwrap();
            (0..nearly(n)).for_each(|key: u64| cache.insert(key, key));
            let there = cache.len() as u64;
            faults.check(there == nearly(n), || format!("{case}, of weight 2: {there} are there"));
            (n..2 * n).for_each(|key| cache.insert(key, key));
            let there = cache.len() as u64;
            faults
                .check(there >= nearly(n), || format!("{case}, of weight 2: {there} are there when in use"));
            assert!(there <= n);
        }
    }
    faults.assert_none();
}

#[test]
fn three_entries_of_ten_in_four_segments_stay() {
    let mut lost = 0;
    for _ in 0..500 {
        let cache = Cache::builder().max_capacity(10).segments(4).build().unwrap();
        (0..3).for_each(|key| cache.insert(key, key));
        lost += 3 - cache.len();
    }
    assert_eq!(lost, 0);
}

#[test]
fn ten_entries_of_ten_in_four_segments_stay() {
    let mut lost = 0;
    for _ in 0..300 {
        let cache = Cache::builder().max_capacity(10).segments(4).build().unwrap();
        (0..10).for_each(|key| cache.insert(key, key));
        lost += 10 - cache.len();
    }
    assert_eq!(lost, 0);
}

#[test]
fn a_cache_by_weight_evicts_nothing_while_there_is_room() {
    let mut faults = Faults::default();
    for name in ["s3_lirs", "tiny_lfu", "lru"] {
        for segments in [1, 4, 16, 64] {
            for (capacity, heaviest) in [(1_000, 10), (50_000, 50), (100_000, 2_000), (100_000, 25_000)] {
                let case = format!("{name}, {segments} segments, {capacity}, up to {heaviest}");
                let cache = Cache::builder().max_capacity(capacity).weigher(|_, weight: &u64| *weight);
                let cache = cache.eviction_policy(policy(name)).segments(segments).build().unwrap();
                let (mut random, mut weight, mut key) = (Random(segments as u64), 0, 0_u64);
                loop {
                    let next = random.below(heaviest) + 1;
                    if weight + next > nearly(capacity) {
                        break;
                    }
                    cache.insert(key, next);
                    (weight, key) = (weight + next, key + 1);
                }
                // What is left, to the last.
                cache.insert(key, nearly(capacity) - weight);
                let (has, stats) = (cache.weighted_size(), cache.stats());
                faults.check(has == nearly(capacity) && cache.len() as u64 == key + 1, || {
                    format!("{case}: holds {has}; {stats}")
                });
                for key in key + 1..key + 200 {
                    cache.insert(key, random.below(heaviest) + 1);
                    assert!(cache.weighted_size() <= capacity, "{case}");
                }
            }
        }
    }
    faults.assert_none();
}

#[test]
fn room_that_was_given_back_is_used_by_whoever_needs_it() {
    let mut faults = Faults::default();
    const N: u64 = 2_000;
    for name in ["s3_lirs", "lru", "tiny_lfu"] {
        for segments in [4, 16, 64] {
            let case = format!("{name}, {segments} segments");
            let builder =
                || Cache::builder().max_capacity(N).eviction_policy(policy(name)).segments(segments);
            // All go, others come.
            let cache: Cache<u64, u64> = builder().build().unwrap();
            (0..N).for_each(|key| cache.insert(key, key));
            cache.invalidate_all();
            let before = cache.stats();
            (N..N + nearly(N)).for_each(|key| cache.insert(key, key));
            let evicted = (cache.stats() - before).eviction_count();
            faults.check(evicted == 0 && cache.len() as u64 == nearly(N), || {
                format!("{case}: {evicted} evicted after invalidate_all")
            });
            // A hundred go, a little less come.
            let cache: Cache<u64, u64> = builder().build().unwrap();
            (0..N).for_each(|key| cache.insert(key, key));
            let gone: Vec<u64> = cache.keys().take(100).collect();
            gone.iter().for_each(|key| ignore(cache.remove(key)));
            let room = nearly(N) - cache.len() as u64;
            let before = cache.stats();
            (5_000..5_000 + room).for_each(|key| cache.insert(key, key));
            let evicted = (cache.stats() - before).eviction_count();
            faults.check(evicted == 0, || format!("{case}: {evicted} evicted where {room} had room"));
            // It grows.
            let cache: Cache<u64, u64> = builder().build().unwrap();
            (0..N).for_each(|key| cache.insert(key, key));
            cache.set_capacity(2 * N);
            let before = cache.stats();
            (N..2 * N - 4).for_each(|key| cache.insert(key, key));
            let evicted = (cache.stats() - before).eviction_count();
            faults.check(evicted == 0, || format!("{case}: {evicted} evicted after it grew"));
        }
    }
    faults.assert_none();
}

#[test]
fn the_bound_holds_whenever_the_listener_looks() {
    for name in ALL {
        for segments in [1, 4, 16] {
            let cache: Arc<OnceLock<Cache<u64, u64>>> = Arc::default();
            let (looks, most) = (cache.clone(), Arc::new(AtomicU64::new(0)));
            let seen = most.clone();
            let built = Cache::builder().max_capacity(50).eviction_policy(policy(name)).segments(segments);
            let built = built.eviction_listener(move |_, _, _| {
                seen.fetch_max(looks.get().unwrap().len() as u64, Relaxed);
            });
            let cache = cache.get_or_init(|| built.build().unwrap());
            for key in 0..300 {
                cache.insert(key, key);
                assert!(cache.len() <= 50, "{name}, {segments} segments");
            }
            assert!(most.load(Relaxed) <= 50, "{name}, {segments} segments");
        }
    }
}

#[test]
fn threads_that_fill_a_cache_together_find_its_room_and_keep_its_bound() {
    const N: u64 = 4_000;
    for segments in [4, 16] {
        let cache: Cache<u64, u64> = Cache::builder().max_capacity(N).segments(segments).build().unwrap();
        let fill = |from: u64, each: u64| {
            thread::scope(|scope| {
                for thread in 0..4 {
                    let (cache, from) = (&cache, from + thread * each);
                    scope.spawn(move || (from..from + each).for_each(|key| cache.insert(key, key)));
                }
            });
        };
        fill(0, nearly(N) / 4);
        assert_eq!(
            (cache.stats().eviction_count(), cache.len() as u64),
            (0, nearly(N)),
            "{segments} segments"
        );
        for round in 1..10 {
            fill(round * N, N / 4);
            let there = cache.len() as u64;
            assert!((nearly(N)..=N).contains(&there), "{segments} segments: {there}");
        }
    }
}

// -----------------------------------------------------------------------------------------------------------
// More segments than entries
// -----------------------------------------------------------------------------------------------------------

#[test]
fn a_cache_of_three_entries_keeps_any_three_keys_however_many_segments() {
    let mut faults = Faults::default();
    for name in ALL {
        for segments in [2, 16, 64] {
            for by_weight in [false, true] {
                let builder =
                    Cache::builder().max_entries(3).eviction_policy(policy(name)).segments(segments);
                let builder = if by_weight { builder.max_capacity(1_000).weigher(|_, _| 1) } else { builder };
                let cache = builder.build().unwrap();
                let mut refused = 0;
                for key in 0..150_u32 {
                    cache.insert(key, key);
                    assert!(cache.len() <= 3);
                    cache.invalidate_all();
                    (0..3).for_each(|n| cache.insert(key * 3 + n, key));
                    refused += (0..3).filter(|n| !cache.contains_key(&(key * 3 + n))).count();
                    assert!(cache.len() <= 3);
                }
                let rejected = cache.stats().rejection_count();
                faults.check(refused == 0 && rejected == 0, || {
                    format!("{name}, {segments} segments: {refused} of 450 absent, {rejected} rejected")
                });
            }
        }
    }
    faults.assert_none();
}

#[test]
fn none_of_two_thousand_keys_is_refused_by_three_entries_in_sixteen_segments() {
    let cache =
        Cache::builder().max_entries(3).segments(16).eviction_policy(EvictionPolicy::lru()).build().unwrap();
    let refused = (0..2_000_u32)
        .filter(|key| {
            cache.insert(*key, *key);
            !cache.contains_key(key)
        })
        .count();
    assert_eq!((refused, cache.stats().rejection_count(), cache.len()), (0, 0, 3));
}

#[test]
fn the_smallest_caches_keep_what_they_may_however_many_segments() {
    for capacity in 1..=20 {
        for segments in [4, 16, 64] {
            for entries in [false, true] {
                let builder = Cache::builder().segments(segments);
                let builder =
                    if entries { builder.max_entries(capacity) } else { builder.max_capacity(capacity) };
                let cache = builder.build().unwrap();
                for from in (0..50).map(|n| n * 1_000) {
                    cache.invalidate_all();
                    (from..from + capacity).for_each(|key| cache.insert(key, key));
                    assert_eq!(cache.len() as u64, capacity, "{segments} segments, max_entries: {entries}");
                }
                assert_eq!(cache.stats().rejection_count(), 0);
            }
        }
    }
}

// -----------------------------------------------------------------------------------------------------------
// A save leaves what is no regular file alone
// -----------------------------------------------------------------------------------------------------------

#[cfg(all(feature = "serde", unix))]
mod saves {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::{Path, PathBuf};
    use std::process::{self, Command};

    /// A folder of its own, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("larder-faults-{}-{name}", process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort_unstable();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn filled() -> Cache<u32, u32> {
        let cache = Cache::new(100);
        (0..10).for_each(|key| cache.insert(key, key));
        cache
    }

    fn loads(path: &Path) {
        let cache: Cache<u32, u32> = Cache::new(100);
        assert_eq!(cache.snapshot().load(path).unwrap().entries, 10);
    }

    /// All that an error and its sources say.
    fn text(error: &dyn Error) -> String {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(source) = next {
            text = format!("{text}: {source}");
            next = source.source();
        }
        text
    }

    /// Saves to something that must stay as it is.
    fn refuses(folder: &Folder, path: &Path, is_still: impl Fn(&fs::FileType) -> bool) {
        let before = folder.names();
        let saved = filled().snapshot().save(path);
        assert!(
            is_still(&fs::symlink_metadata(path).unwrap().file_type()),
            "{} was replaced",
            path.display()
        );
        let text = text(&saved.expect_err("it is no regular file"));
        assert!(text.contains(path.to_str().unwrap()), "does not name the path: {text}");
        assert_eq!(folder.names(), before, "something is left over");
    }

    #[test]
    fn a_save_to_a_fifo_is_an_error_that_names_it() {
        let folder = Folder::new("fifo");
        let path = folder.at("snapshot");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        refuses(&folder, &path, fs::FileType::is_fifo);
    }

    #[test]
    fn a_save_to_a_socket_is_an_error_that_names_it() {
        let folder = Folder::new("socket");
        let path = folder.at("snapshot");
        let _listener = UnixListener::bind(&path).unwrap();
        refuses(&folder, &path, fs::FileType::is_socket);
    }

    #[test]
    fn a_save_to_a_device_is_an_error_that_names_it() {
        let folder = Folder::new("device");
        let path = folder.at("snapshot");
        // One of its own, like /dev/null, where that may be made.
        let made = Command::new("mknod").arg(&path).args(["c", "1", "3"]).output();
        if made.is_ok_and(|made| made.status.success()) {
            refuses(&folder, &path, fs::FileType::is_char_device);
        }
    }

    #[test]
    fn a_save_to_a_folder_is_an_error_that_names_it() {
        let folder = Folder::new("folder");
        let path = folder.at("snapshot");
        fs::create_dir(&path).unwrap();
        refuses(&folder, &path, fs::FileType::is_dir);
    }

    #[test]
    fn a_save_to_a_link_to_a_fifo_leaves_both_alone() {
        let folder = Folder::new("link-to-fifo");
        let (path, fifo) = (folder.at("snapshot"), folder.at("fifo"));
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        symlink(&fifo, &path).unwrap();
        refuses(&folder, &path, fs::FileType::is_symlink);
        assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
    }

    #[test]
    fn a_save_to_a_link_follows_it_or_refuses_but_leaves_it_a_link() {
        for (target_is_there, relative) in [(true, false), (false, false), (true, true), (false, true)] {
            let folder = Folder::new(&format!("link-{target_is_there}-{relative}"));
            let (path, target) = (folder.at("snapshot"), folder.at("target"));
            if target_is_there {
                filled().snapshot().save(&target).unwrap();
                fs::write(&target, "before").unwrap();
            }
            let to = if relative { PathBuf::from("target") } else { target.clone() };
            symlink(&to, &path).unwrap();
            let saved = filled().snapshot().save(&path);
            assert!(fs::symlink_metadata(&path).unwrap().file_type().is_symlink(), "the link was replaced");
            assert_eq!(fs::read_link(&path).unwrap(), to);
            match saved {
                Ok(_) => {
                    loads(&target);
                    loads(&path);
                }
                Err(error) => {
                    let text = text(&error);
                    assert!(text.contains(path.to_str().unwrap()), "does not name the path: {text}");
                    assert_eq!(fs::read(&target).ok(), target_is_there.then(|| b"before".to_vec()));
                }
            }
            // Nothing is left beside the two.
            assert!(folder.names().iter().all(|name| name == "snapshot" || name == "target"));
        }
    }

    #[test]
    fn a_save_that_fails_names_its_path() {
        let folder = Folder::new("absent");
        let path = folder.at("no such folder").join("snapshot");
        let text = text(&filled().snapshot().save(&path).unwrap_err());
        assert!(text.contains(path.to_str().unwrap()), "{text}");
    }

    #[test]
    fn a_save_makes_or_replaces_a_regular_file() {
        let folder = Folder::new("regular");
        let path = folder.at("snapshot");
        filled().snapshot().save(&path).unwrap();
        loads(&path);
        fs::write(&path, "something else").unwrap();
        filled().snapshot().save(&path).unwrap();
        loads(&path);
        assert_eq!(folder.names(), ["snapshot"]);
    }
}

// -----------------------------------------------------------------------------------------------------------
// An error says what failed, its source says why, and neither says both
// -----------------------------------------------------------------------------------------------------------

#[derive(Debug)]
struct Why;

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cable was cut")
    }
}

impl Error for Why {}

#[derive(Debug)]
struct DbDown(Why);

impl fmt::Display for DbDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("db down")
    }
}

impl Error for DbDown {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// Asserts that no text has one that follows; gives them all.
fn assert_each_says_its_own(error: &dyn Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(source) = next {
        texts.push(source.to_string());
        next = source.source();
    }
    for (n, text) in texts.iter().enumerate() {
        assert!(!text.is_empty());
        for why in &texts[n + 1..] {
            assert!(!text.contains(why.as_str()), "{text:?} has {why:?}");
        }
    }
    texts
}

#[test]
fn a_load_error_leaves_the_reason_to_its_source() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let errors = [
        cache.try_get_or_load(1, |_| Err(DbDown(Why))).unwrap_err(),
        cache.try_refresh(1, |_| Err(DbDown(Why))).unwrap_err(),
        block_on(cache.try_get_or_load_async(1, |_| async { Err(DbDown(Why)) })).unwrap_err(),
        cache.try_get_all_or_load([1], |_: &[u32]| Err::<Vec<(u32, u32)>, _>(DbDown(Why))).unwrap_err(),
    ];
    for error in errors {
        let texts = assert_each_says_its_own(&error);
        assert_eq!(texts[1..], ["db down", "the cable was cut"]);
    }
    let recursive = cache.try_get_or_load(1, |_| match cache.try_get_or_load(1, |_| Err(DbDown(Why))) {
        Err(error @ LoadError::Recursive) => {
            assert_eq!(assert_each_says_its_own(&error).len(), 1);
            Err(DbDown(Why))
        }
        _ => Ok(1),
    });
    assert!(recursive.is_err());
}

#[test]
fn a_warm_error_leaves_the_reason_to_its_source() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let load = |_: &[u32]| Err::<Vec<(u32, u32)>, _>(DbDown(Why));
    let error = cache.try_warm(0..5, WarmUp::new(), load).unwrap_err();
    let texts = assert_each_says_its_own(&error);
    assert_eq!(texts[texts.len() - 2..], ["db down", "the cable was cut"]);
    let load = |_: Vec<u32>| async { Err::<Vec<(u32, u32)>, _>(DbDown(Why)) };
    let error = block_on(cache.try_warm_async(0..5, WarmUp::new(), load)).unwrap_err();
    assert_each_says_its_own(&error);
}

#[test]
fn the_text_of_an_error_and_its_sources_says_each_thing_once() {
    let cache: Cache<u32, u32> = Cache::new(10);
    let error = cache.try_get_or_load(1, |_| Err(DbDown(Why))).unwrap_err();
    let text = assert_each_says_its_own(&error).join(": ");
    assert_eq!(
        (text.matches("db down").count(), text.matches("the cable was cut").count()),
        (1, 1),
        "{text}"
    );
    assert!(text.ends_with(": db down: the cable was cut"), "{text}");
}

#[cfg(feature = "serde")]
mod snapshot_errors {
    use super::*;
    use larder::SnapshotError;
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::io::{self, Read, Write};

    /// Cannot be encoded when it is 1, nor decoded when it is 2.
    #[derive(Clone)]
    struct Odd(u8);

    impl Serialize for Odd {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if self.0 == 1 {
                return Err(S::Error::custom("one is too odd to be written"));
            }
            self.0.serialize(serializer)
        }
    }

    impl<'de> Deserialize<'de> for Odd {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            match u8::deserialize(deserializer)? {
                2 => Err(D::Error::custom("two is too odd to be read")),
                n => Ok(Self(n)),
            }
        }
    }

    fn of(value: u8) -> Cache<u32, Odd> {
        let cache = Cache::new(10);
        cache.insert(1, Odd(value));
        cache
    }

    /// A disk that is full, and cannot be read.
    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other(DbDown(Why)))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other(DbDown(Why)))
        }
    }

    #[test]
    fn a_snapshot_error_of_the_codec_leaves_the_reason_to_its_source() {
        let error = of(1).snapshot().save_to(Vec::new()).unwrap_err();
        assert!(matches!(error, SnapshotError::Encode { .. }));
        let texts = assert_each_says_its_own(&error);
        assert!(texts[1..].join(": ").contains("one is too odd to be written"), "{texts:?}");

        let mut bytes = Vec::new();
        of(2).snapshot().save_to(&mut bytes).unwrap();
        let error = of(0).snapshot().load_from(&bytes[..]).unwrap_err();
        assert!(matches!(error, SnapshotError::Decode { .. }));
        let texts = assert_each_says_its_own(&error);
        assert!(texts[1..].join(": ").contains("two is too odd to be read"), "{texts:?}");
    }

    #[test]
    fn a_snapshot_error_of_the_system_leaves_the_reason_to_its_source() {
        let gone = std::env::temp_dir().join(format!("larder-faults-{}-gone", std::process::id()));
        let errors = [
            of(0).snapshot().save_to(Broken).unwrap_err(),
            of(0).snapshot().load_from(Broken).unwrap_err(),
            of(0).snapshot().load(gone.join("snapshot")).unwrap_err(),
            of(0).snapshot().save(gone.join("snapshot")).unwrap_err(),
        ];
        for error in errors {
            let texts = assert_each_says_its_own(&error);
            assert!(texts.len() > 1, "no source: {texts:?}");
        }
    }

    #[test]
    fn a_snapshot_error_without_a_reason_says_all_itself() {
        let mut bytes = Vec::new();
        of(0).snapshot().save_to(&mut bytes).unwrap();
        let foreign: Cache<u32, String> = Cache::new(10);
        let errors = [
            of(0).snapshot().load_from(&b"something else that is no snapshot at all"[..]).unwrap_err(),
            of(0).snapshot().load_from(&bytes[..bytes.len() - 1]).unwrap_err(),
            foreign.snapshot().load_from(&bytes[..]).unwrap_err(),
        ];
        for error in errors {
            assert_each_says_its_own(&error);
        }
    }
}

// -----------------------------------------------------------------------------------------------------------
// A cache goes into `catch_unwind`
// -----------------------------------------------------------------------------------------------------------

const _: () = {
    const fn is_unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}
    is_unwind_safe::<Cache<u32, String>>();
    is_unwind_safe::<Cache<String, Arc<[u8]>>>();
    is_unwind_safe::<Cache<u64, Arc<Mutex<Vec<u8>>>, std::hash::RandomState>>();
};

#[test]
fn a_closure_for_catch_unwind_may_have_a_cache() {
    let cache: Cache<u32, String> = Cache::new(10);
    cache.insert(1, "one".to_owned());
    assert_eq!(catch_unwind(|| cache.get(&1)).unwrap().as_deref(), Some("one"));
    let borrowed = &cache;
    assert_eq!(catch_unwind(move || borrowed.len()).unwrap(), 1);
    let owned = cache.clone();
    assert_eq!(catch_unwind(move || owned.remove(&1)).unwrap().as_deref(), Some("one"));
}

#[test]
fn a_cache_is_as_good_as_before_after_a_panic_that_was_caught() {
    let cache: Cache<u32, u32> = Cache::builder().max_capacity(10).build().unwrap();
    cache.insert(1, 1);
    assert!(catch_unwind(|| cache.get_or_load(2, |_| panic!("a loader that panics"))).is_err());
    assert!(catch_unwind(|| cache.compute(1, |_| panic!("a closure that panics"))).is_err());
    assert!(catch_unwind(|| cache.for_each(|_, _| panic!("a closure that panics"))).is_err());
    assert_eq!((cache.get(&1), cache.get_or_load(2, |_| 2), cache.len()), (Some(1), 2, 2));
}

#[test]
fn a_cache_with_a_listener_and_a_weigher_goes_into_catch_unwind() {
    let armed = Arc::new(AtomicBool::new(true));
    let panics = armed.clone();
    let cache: Cache<u32, u32> = Cache::builder()
        .max_capacity(10)
        .weigher(|_, _| 1)
        .eviction_listener(move |_, _, _| assert!(!panics.load(Relaxed), "a listener that panics"))
        .build()
        .unwrap();
    cache.insert(1, 1);
    assert!(catch_unwind(|| cache.insert(1, 2)).is_err());
    armed.store(false, Relaxed);
    assert_eq!(cache.get(&1), Some(2));
    // As without the traits, until now.
    assert!(catch_unwind(AssertUnwindSafe(|| cache.insert(1, 3))).is_ok());
}
