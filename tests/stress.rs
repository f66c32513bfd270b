//! What must hold while threads race. Made for ThreadSanitizer, AddressSanitizer and Miri; `LARDER_STRESS` multiplies the
//! rounds (10 by default).
//!
//! ```text
//! RUSTFLAGS="-Zsanitizer=thread" cargo +nightly test -Zbuild-std --target x86_64-unknown-linux-gnu --test stress
//! RUSTFLAGS="-Zsanitizer=address" cargo +nightly test --target x86_64-unknown-linux-gnu --test stress
//! MIRIFLAGS="-Zmiri-tree-borrows -Zmiri-ignore-leaks -Zmiri-permissive-provenance" cargo +nightly miri test --test stress
//! ```
#![allow(missing_docs)]

mod common;

use common::{Random, policies, size, size_from};
use larder::{Cache, EvictionPolicy, InsertOptions, Op, RemovalCause};
use std::sync::Barrier;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::task::{Context, Poll, Waker};

/// Rounds: `n` tenths of what the environment says; `few` under Miri.
fn rounds(n: usize, few: usize) -> u64 {
    (size_from("LARDER_STRESS", 10, 0) * n / 10).max(size(1, few)) as u64
}

/// A value that says whose it is, on the heap in pieces: memory that is used too early or too late shows.
#[derive(Clone)]
struct Signed {
    text: String,
    numbers: Vec<u64>,
    version: Box<u64>,
}

impl Signed {
    fn new(key: u64, version: u64) -> Self {
        Self {
            text: format!("{key}/{version}"),
            numbers: vec![key, version, key ^ version, !key],
            version: Box::new(version),
        }
    }

    /// Checks that it belongs to `key`, and gives its version.
    fn check(&self, key: u64) -> u64 {
        let version = *self.version;
        assert_eq!(
            self.numbers,
            [key, version, key ^ version, !key],
            "a value of another key, or no value at all"
        );
        assert_eq!(self.text, format!("{key}/{version}"));
        version
    }
}

/// Both kinds of reads leave different traces; one policy for each, and the rest in the long run.
fn some_policies() -> Vec<EvictionPolicy> {
    if cfg!(miri) { vec![EvictionPolicy::lru()] } else { policies() }
}

/// (a) A key that is there all the while is always found: while the index grows from nothing, other keys come and go, and
/// its own value is replaced.
#[test]
fn get_never_misses_a_key_that_is_there() {
    for segments in [1, 4] {
        let cache: Cache<u64, Signed> =
            Cache::builder().max_capacity(10_000_000).segments(segments).build().unwrap();
        let stable = size(64, 6) as u64;
        (0..stable).for_each(|key| cache.insert(key, Signed::new(key, 0)));
        let done = AtomicBool::new(false);
        let reads = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for seed in 1..3 {
                let (cache, done, reads) = (&cache, &done, &reads);
                scope.spawn(move || {
                    let mut random = Random::new(seed);
                    let mut n = 0;
                    while !done.load(Relaxed) || n < 100 {
                        let key = random.below(stable);
                        let version = cache.with(&key, |value| value.check(key));
                        assert!(version.is_some(), "{key} was there all the while");
                        let many = cache.get_many(&[key, (key + 1) % stable]);
                        assert!(many.iter().all(Option::is_some), "{key} was there all the while");
                        n += 1;
                    }
                    reads.fetch_add(n, Relaxed);
                });
            }
            scope.spawn(|| {
                let mut random = Random::new(77);
                for round in 0..rounds(100_000, 90) {
                    cache.insert(1_000 + round, Signed::new(1_000 + round, 0));
                    match round % 4 {
                        0 => {
                            let key = random.below(stable);
                            cache.insert(key, Signed::new(key, round));
                        }
                        1 => {
                            let key = 1_000 + random.below(round + 1);
                            cache.remove(&key);
                        }
                        _ => {}
                    }
                }
                done.store(true, Relaxed);
            });
        });
        cache.validate();
        assert!(reads.into_inner() > 0);
    }
}

/// (b) A value read is the key's own, whole, however fast entries are evicted, replaced, removed and cleared.
#[test]
fn values_belong_to_their_keys() {
    for policy in some_policies() {
        for segments in [1, 4] {
            let cache: Cache<u64, Signed> = Cache::builder()
                .max_capacity(48)
                .segments(segments)
                .eviction_policy(policy.clone())
                .build()
                .unwrap();
            let start = Barrier::new(3);
            std::thread::scope(|scope| {
                for thread in 0..3u64 {
                    let (cache, start) = (&cache, &start);
                    scope.spawn(move || {
                        let mut random = Random::new(thread + 1);
                        start.wait();
                        for round in 0..rounds(3_000, 60) {
                            let key = random.below(96);
                            match random.below(24) {
                                0..8 => drop(cache.with(&key, |value| value.check(key))),
                                8..10 => drop(cache.get(&key).map(|value| value.check(key))),
                                10..18 => cache.insert(key, Signed::new(key, round)),
                                18..20 => drop(cache.remove(&key).map(|value| value.check(key))),
                                20 => {
                                    cache.entry(key).and_upsert_with(|now| {
                                        now.map(|value| value.check(key));
                                        Signed::new(key, round)
                                    });
                                }
                                21 => cache.for_each(|key, value| assert!(value.check(*key) < u64::MAX)),
                                22 if round % 8 == 0 => cache.invalidate_all(),
                                22 => cache
                                    .iter()
                                    .take(9)
                                    .for_each(|(key, value)| assert!(value.check(key) < u64::MAX)),
                                _ if round % 4 == 0 => cache.run_pending_tasks(),
                                _ => drop(
                                    cache
                                        .hottest(4)
                                        .iter()
                                        .map(|(key, value)| value.check(*key))
                                        .sum::<u64>(),
                                ),
                            }
                        }
                    });
                }
            });
            cache.validate();
        }
    }
}

/// (b) The same in two caches of a few entries: what one finds out of its readers the other makes use of. So small that
/// Miri sees it all.
#[test]
fn caches_share_what_is_known_of_readers() {
    let caches: [Cache<u64, Box<u64>>; 2] = std::array::from_fn(|_| {
        Cache::builder().max_capacity(3).segments(1).eviction_policy(EvictionPolicy::fifo()).build().unwrap()
    });
    std::thread::scope(|scope| {
        for cache in &caches {
            scope.spawn(move || {
                for key in (0..rounds(20_000, 60)).map(|round| round % 5) {
                    cache.with(&key, |value| assert_eq!(**value % 10, key));
                }
            });
            scope.spawn(move || {
                for round in 0..rounds(20_000, 60) {
                    let key = round * 2 % 5;
                    cache.insert(key, Box::new(10 * round + key));
                }
            });
        }
    });
    caches.iter().for_each(Cache::validate);
}

/// (b) The same through a growing index that shrinks never, with borrowed keys on the heap.
#[test]
fn keys_on_the_heap() {
    let cache: Cache<String, String> = Cache::builder().max_capacity(500).segments(2).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let cache = &cache;
            scope.spawn(move || {
                let mut random = Random::new(thread + 9);
                for _ in 0..rounds(10_000, 80) {
                    let key = random.below(900).to_string();
                    match cache.get(key.as_str()) {
                        Some(value) if random.below(4) == 0 => {
                            assert_eq!(value, key.repeat(3));
                            cache.invalidate(key.as_str());
                        }
                        Some(value) => assert_eq!(value, key.repeat(3)),
                        None => cache.insert(key.clone(), key.repeat(3)),
                    }
                }
            });
        }
    });
    cache.validate();
}

/// (c) The weight is within the capacity whenever anybody looks. One segment: over several a sum is no moment's picture.
#[test]
fn the_bound_holds_at_every_moment() {
    for policy in some_policies() {
        let cache: Cache<u64, u64> = Cache::builder()
            .max_capacity(200)
            .max_entries(40)
            .segments(1)
            .weigher(|_, value| value % 50)
            .eviction_policy(policy)
            .build()
            .unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Acquire) {
                    assert!(cache.weighted_size() <= 200);
                    assert!(cache.len() <= 40);
                }
            });
            let writers = (0..2).map(|thread| {
                let cache = &cache;
                scope.spawn(move || {
                    let mut random = Random::new(thread + 5);
                    for _ in 0..rounds(5_000, 60) {
                        cache.insert(random.below(120), random.below(1_000));
                        if random.below(9) == 0 {
                            let pinned = random.below(40) == 0;
                            let options = InsertOptions::new().weight(random.below(260)).pinned(pinned);
                            cache.insert_with(random.below(5), 0, options);
                        }
                    }
                })
            });
            let writers: Vec<_> = writers.collect();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            done.store(true, Release);
        });
        cache.validate();
    }
}

/// (d) For one writer of a key: no reader sees its versions go backwards, nor an older one than the writer had finished
/// before the read began; and none is there after its removal has returned.
#[test]
fn versions_never_go_backwards() {
    for policy in some_policies() {
        for segments in [1, 4] {
            let keys = 4;
            let cache: Cache<u64, Signed> = Cache::builder()
                .max_capacity(64)
                .segments(segments)
                .eviction_policy(policy.clone())
                .build()
                .unwrap();
            // Versions that have been removed, and that must not be seen any more, by key.
            let removed: Vec<AtomicU64> = (0..keys).map(|_| AtomicU64::new(0)).collect();
            // Versions that are in, if nothing was evicted.
            let written: Vec<AtomicU64> = (0..keys).map(|_| AtomicU64::new(0)).collect();
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for reader in 0..2 {
                    let (cache, removed, written, done) = (&cache, &removed, &written, &done);
                    scope.spawn(move || {
                        let mut random = Random::new(reader + 3);
                        let mut latest = vec![0; keys as usize];
                        while !done.load(Relaxed) {
                            let key = random.below(keys);
                            let at = key as usize;
                            let (gone, before) = (removed[at].load(SeqCst), written[at].load(SeqCst));
                            let Some(version) = cache.with(&key, |value| value.check(key)) else { continue };
                            assert!(version >= latest[at], "{key}: {version} after {}", latest[at]);
                            assert!(version > gone, "{key}: {version} was removed");
                            assert!(version >= before, "{key}: {version} was replaced by {before}");
                            latest[at] = version;
                        }
                    });
                }
                let writers = (0..2).map(|writer| {
                    let (cache, removed, written) = (&cache, &removed, &written);
                    scope.spawn(move || {
                        let mut random = Random::new(writer + 11);
                        for version in 1..=rounds(4_000, 60) {
                            // Each writer has keys of its own.
                            let key = random.below(keys / 2) * 2 + writer;
                            let at = key as usize;
                            cache.insert(key, Signed::new(key, version));
                            written[at].store(version, SeqCst);
                            if let Some(found) = cache.with(&key, |value| value.check(key)) {
                                assert_eq!(found, version, "its writer reads what it wrote");
                            }
                            match random.below(6) {
                                0 => {
                                    cache.remove(&key);
                                    assert!(!cache.contains_key(&key), "{key} was removed");
                                    removed[at].store(version, SeqCst);
                                }
                                1 => {
                                    if let Some(found) =
                                        cache.remove_if(&key, |_, value| value.check(key) == version)
                                    {
                                        assert_eq!(found.check(key), version);
                                    }
                                    assert!(cache.get(&key).is_none());
                                    removed[at].store(version, SeqCst);
                                }
                                // Others come and evict.
                                _ => {
                                    let other = 100 + random.below(200);
                                    cache.insert(other, Signed::new(other, version));
                                }
                            }
                        }
                    })
                });
                let writers: Vec<_> = writers.collect();
                writers.into_iter().for_each(|writer| writer.join().unwrap());
                done.store(true, Relaxed);
            });
            cache.validate();
        }
    }
}

/// (e) The capacity changes while light and heavy entries come: all of it ends, and the bound holds when it is quiet.
#[test]
fn capacity_changes_race_with_inserts() {
    for policy in some_policies() {
        for segments in [1, 4, 16] {
            let cache: Cache<u64, u64> = Cache::builder()
                .max_capacity(256)
                .segments(segments)
                .weigher(|_, value| *value)
                .eviction_policy(policy.clone())
                .build()
                .unwrap();
            let rounds = rounds(600, 30);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut random = Random::new(1);
                    for round in 0..rounds {
                        cache.set_capacity([256, 10, 0, 90, 1_000, 1][round as usize % 6]);
                        cache.insert(random.below(60), random.below(12));
                    }
                });
                for thread in 0..2u64 {
                    let cache = &cache;
                    scope.spawn(move || {
                        let mut random = Random::new(thread + 4);
                        for _ in 0..2 * rounds {
                            match random.below(8) {
                                0 => cache.insert(random.below(60), random.below(1_100)),
                                1 => cache.insert(random.below(60), cache.capacity()),
                                2 => drop(cache.remove(&random.below(60))),
                                3 => drop(cache.pin(&random.below(60))),
                                4 => drop(cache.unpin(&random.below(60))),
                                _ => cache.insert(random.below(60), random.below(12)),
                            }
                        }
                    });
                }
            });
            cache.validate();
            assert!(cache.weighted_size() <= cache.capacity());
            cache.set_capacity(0);
            assert!(cache.is_empty());
            cache.set_capacity(100);
            cache.insert(1, 100);
            assert!(cache.contains_key(&1));
            cache.validate();
        }
    }
}

/// Listeners in several threads: what they are given is still whole while they look at it.
#[test]
fn listeners_see_whole_entries() {
    let seen = std::sync::Arc::new(AtomicU64::new(0));
    let counter = std::sync::Arc::clone(&seen);
    let cache: Cache<u64, Signed> = Cache::builder()
        .max_capacity(32)
        .segments(2)
        .eviction_listener(move |key: &u64, value: &Signed, cause| {
            value.check(*key);
            if cause != RemovalCause::Rejected {
                counter.fetch_add(1, Relaxed);
            }
        })
        .build()
        .unwrap();
    let inserts = rounds(5_000, 60);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let cache = &cache;
            scope.spawn(move || {
                let mut random = Random::new(thread + 21);
                for round in 0..inserts {
                    let key = random.below(64);
                    cache.insert(key, Signed::new(key, round));
                    cache.with(&random.below(64), |value| value.text.len());
                    if random.below(8) == 0 {
                        cache.invalidate(&random.below(64));
                    }
                }
            });
        }
    });
    cache.validate();
    assert_eq!(seen.load(Relaxed) + cache.stats().rejection_count() + cache.len() as u64, 3 * inserts);
}

/// (f) Loads by threads and tasks, given up anywhere, between writes and invalidations: nobody waits for ever, and after an
/// invalidation nobody sees what was loaded before it.
#[test]
fn loads_race_with_everything() {
    for segments in [1, 4] {
        let keys = 3;
        let builder = Cache::builder().max_capacity(64).segments(segments);
        let cache = builder.tags(|&key: &u64, _: &Signed| [key]).build().unwrap();
        let store: Vec<AtomicU64> = (0..keys).map(|_| AtomicU64::new(1)).collect();
        let valid: Vec<AtomicU64> = (0..keys).map(|_| AtomicU64::new(0)).collect();
        let start = Barrier::new(3);
        let load = |key: &u64| Signed::new(*key, store[*key as usize].load(SeqCst));
        let load_many = |asked: &[u64]| {
            // Also those that it was not asked for.
            let keys = asked.iter().copied().chain(0..keys);
            keys.map(|key| (key, load(&key))).collect::<Vec<_>>()
        };
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (cache, store, valid, start) = (&cache, &store, &valid, &start);
                let (load, load_many) = (&load, &load_many);
                scope.spawn(move || {
                    let mut random = Random::new(thread + 31);
                    start.wait();
                    for _ in 0..rounds(3_000, 25) {
                        let key = random.below(keys);
                        let least = valid[key as usize].load(SeqCst);
                        let polls = random.below(4);
                        // Pending once, so that it can be given up while it loads.
                        let slow = |key: &u64| {
                            let key = *key;
                            async move {
                                yield_once().await;
                                load(&key)
                            }
                        };
                        let version = match random.below(8) {
                            0 => Some(cache.get_or_load(key, load)),
                            1 => Some(cache.refresh(key, load)),
                            2 => cache.get_all_or_load([key, 0, 1], load_many).remove(&key),
                            3 => give_up(cache.get_or_load_async(key, slow), polls),
                            4 => give_up(cache.refresh_async(key, slow), polls),
                            5 => {
                                let loader = |asked: Vec<u64>| async move {
                                    yield_once().await;
                                    load_many(&asked)
                                };
                                give_up(cache.get_all_or_load_async([2, key], loader), polls)
                                    .and_then(|mut found| found.remove(&key))
                            }
                            6 => cache.get(&key),
                            _ => {
                                let version = store[key as usize].fetch_add(1, SeqCst) + 1;
                                match random.below(5) {
                                    0 => cache.invalidate_all(),
                                    1 => cache.retain(|&other, _| other != key),
                                    2 => drop(cache.compute(key, |_| Op::Remove)),
                                    3 => _ = cache.invalidate_tag(key),
                                    _ => _ = cache.invalidate(&key),
                                }
                                valid[key as usize].fetch_max(version, SeqCst);
                                cache.get(&key)
                            }
                        };
                        if let Some(version) = version.map(|value| value.check(key)) {
                            assert!(version >= least, "{key}: {version} was made invalid by {least}");
                        }
                    }
                });
            }
        });
        cache.validate();
    }
}

/// Polls a future a few times, and drops it if it has not ended then.
fn give_up<T>(future: impl Future<Output = T>, polls: u64) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    (0..polls).find_map(|_| match future.as_mut().poll(&mut context) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => {
            std::thread::yield_now();
            None
        }
    })
}

async fn yield_once() {
    let mut is_first = true;
    std::future::poll_fn(|_| match std::mem::take(&mut is_first) {
        true => Poll::Pending,
        false => Poll::Ready(()),
    })
    .await;
}
