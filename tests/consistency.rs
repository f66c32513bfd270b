//! Right values, whatever the hashes, the growth and the other threads: cases 12, 51, 58 and 60 to 62 of ADVERSARIES.
#![allow(missing_docs)]

mod common;

use common::{Identity, Same, for_all, policies, size};
use larder::{Cache, Computed, Equivalent, EvictionPolicy, Op};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Barrier;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;

/// Keys below 100 share one hash.
#[derive(Clone, Default)]
struct Crowd(u64);

impl BuildHasher for Crowd {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for Crowd {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are numbers");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = if key < 100 { 7 } else { key.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
    }
}

/// Looks for `key`, and inserts others each of the first times that it is compared.
struct Meddler<'a> {
    cache: &'a Cache<u64, u64, Crowd>,
    key: u64,
    times: std::cell::Cell<u64>,
    inserts: u64,
}

impl Hash for Meddler<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl Equivalent<u64> for Meddler<'_> {
    fn equivalent(&self, key: &u64) -> bool {
        if let Some(times) = self.times.get().checked_sub(1) {
            self.times.set(times);
            (0..self.inserts).for_each(|n| self.cache.insert((times + 1) * 1000 + n, 0));
        }
        *key == self.key
    }
}

/// Growth in the middle of a search, once or more or in part, does not hide what is there all the while: neither in the
/// line of its hash nor behind it, since that is full.
#[test]
fn the_index_grows_during_a_search() {
    for before in (0..64).step_by(size(3, 33)) {
        for inserts in (1..24).step_by(size(1, 16)) {
            for (times, key) in [(1, 0), (1, 12), (2, 11), (12, 12)] {
                let build = || {
                    let cache = Cache::builder()
                        .max_capacity(1 << 40)
                        .segments(1)
                        .eviction_policy(EvictionPolicy::fifo())
                        .build_with_hasher(Crowd::default())
                        .unwrap();
                    (0..13).for_each(|key| cache.insert(key, key));
                    (0..before).for_each(|key| cache.insert(500 + key, key));
                    cache
                };
                let case = format!("{before} before, {inserts} inserts, {times} times, key {key}");
                let cache = build();
                let meddler = |cache| Meddler { cache, key, times: times.into(), inserts };
                assert_eq!(cache.with(&meddler(&cache), |&value| value), Some(key), "{case}");
                let cache = build();
                assert_eq!(cache.peek(&meddler(&cache)), Some(key), "{case}");
            }
        }
    }
}

/// A key that was removed is absent at once, whatever else stands in its bucket. With this many keys there are buckets
/// with every combination of tags beside empty places.
#[test]
fn removed_keys_are_absent() {
    let keys = size(120_000, 2_000) as u64;
    for segments in [1, 4] {
        let cache: Cache<String, String> =
            Cache::builder().max_capacity(keys * 2).segments(segments).build().unwrap();
        for key in 0..keys {
            cache.insert(key.to_string(), key.to_string());
        }
        for key in (0..keys).filter(|key| key % 3 != 0) {
            assert_eq!(cache.remove(&key.to_string()), Some(key.to_string()));
            assert_eq!(cache.get(&key.to_string()), None, "{key} was removed");
        }
        for key in 0..keys {
            let expected = (key % 3 == 0).then(|| key.to_string());
            assert_eq!(cache.get(&key.to_string()), expected);
        }
        for key in 0..keys {
            cache.insert(key.to_string(), String::new());
        }
        assert_eq!(cache.len() as u64, keys);
        cache.validate();
    }
}

/// The same with plain keys, whose bytes outlive their removal: a probe that looks at an empty place would find them.
#[test]
fn removed_plain_keys_are_absent() {
    let keys = size(200_000, 2_000) as u64;
    let cache: Cache<u64, u64> = Cache::builder().max_capacity(keys * 2).segments(1).build().unwrap();
    (0..keys).for_each(|key| cache.insert(key, key));
    for key in 0..keys {
        assert!(cache.invalidate(&key));
        assert!(!cache.contains_key(&key), "{key} was removed");
    }
    assert!(cache.is_empty());
    cache.validate();
}

/// Case 61: all keys share one hash, and still every key has its own value.
#[test]
fn case_61_all_keys_share_one_hash() {
    let keys = size(3_000, 60) as u64;
    for segments in [1, 4] {
        let cache = Cache::<u64, String>::builder()
            .max_capacity(keys * 4)
            .segments(segments)
            .build_with_hasher(Same)
            .unwrap();
        (0..keys).for_each(|key| cache.insert(key, key.to_string()));
        cache.validate();
        for key in 0..keys {
            assert_eq!(cache.get(&key), Some(key.to_string()));
        }
        assert_eq!(cache.iter().map(|(key, _)| key).collect::<HashSet<_>>().len() as u64, keys);
        for key in (0..keys).step_by(2) {
            assert_eq!(cache.remove(&key), Some(key.to_string()));
        }
        for key in 0..keys {
            assert_eq!(cache.get(&key), (key % 2 == 1).then(|| key.to_string()));
        }
        cache.validate();
        cache.invalidate_all();
        assert!(cache.is_empty());
        cache.validate();
    }
}

/// Case 61, with evictions: every policy works over keys that it cannot tell apart by hash.
#[test]
fn case_61_one_hash_under_eviction() {
    for_all(|policy, segments| {
        let cache = Cache::<u64, u64>::builder()
            .max_capacity(50)
            .segments(segments)
            .eviction_policy(policy)
            .build_with_hasher(Same)
            .unwrap();
        for step in 0..size(2_000, 120) as u64 {
            let key = step * 7 % 130;
            match cache.get(&key) {
                Some(value) => assert_eq!(value, key * 3),
                None => cache.insert(key, key * 3),
            }
            if step % 16 == 0 {
                cache.validate();
            }
        }
    });
}

/// More keys of one hash than a bucket's overflow counter can count.
#[test]
#[cfg_attr(miri, ignore = "too many keys")]
fn case_61_overflow_counters_saturate() {
    // Sixteen places of one line's path are passed by all later keys; a few lines hold all the hash's keys of a small
    // index, so repeated growth and removal wears the counters out sooner than 65,536 keys of one hash would.
    let cache = Cache::<u64, u64>::builder().max_capacity(400).segments(1).build_with_hasher(Same).unwrap();
    for round in 0..300u64 {
        (0..300).for_each(|key| cache.insert(key, round));
        (0..300).for_each(|key| assert_eq!(cache.remove(&key), Some(round)));
    }
    cache.validate();
}

/// An identity hasher and keys in sequence, or in steps: all segments and the whole capacity are of use.
#[test]
fn identity_hashes_spread_over_segments_and_lines() {
    let capacity = size(8_192, 512) as u64;
    for step in [1, 64, 1 << 16, 1 << 32, 1 << 48] {
        if (u64::MAX / step) < capacity {
            continue;
        }
        let cache = Cache::<u64, u64>::builder()
            .max_capacity(capacity)
            .segments(16)
            .build_with_hasher(Identity)
            .unwrap();
        for key in 0..capacity {
            cache.insert(key * step, key);
        }
        for key in 0..capacity {
            assert!(cache.get(&(key * step)).is_none_or(|value| value == key));
        }
        // Random hashes would leave some 3 % unused here: segments fill unevenly.
        assert!(
            cache.len() as u64 > capacity * 8 / 10,
            "steps of {step}: only {} of {capacity}",
            cache.len()
        );
        cache.validate();
    }
}

/// Case 51: counters that many threads raise by `compute` and `entry` lose no update, and labels are true.
#[test]
fn case_51_compute_loses_no_update() {
    let (threads, rounds, keys) = (4, size(2_000, 20) as u64, 5);
    for policy in policies() {
        let cache: Cache<u64, u64> =
            Cache::builder().max_capacity(100).segments(4).eviction_policy(policy).build().unwrap();
        let inserted = AtomicU64::new(0);
        let start = Barrier::new(threads as usize);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (cache, inserted, start) = (&cache, &inserted, &start);
                scope.spawn(move || {
                    start.wait();
                    for round in 0..rounds {
                        let key = (round + thread) % keys;
                        let raise = |now: Option<&u64>| now.map_or(1, |n| n + 1);
                        if round % 2 == 0 {
                            cache.entry(key).and_upsert_with(raise);
                            continue;
                        }
                        match cache.compute(key, |now| Op::Insert(raise(now))) {
                            Computed::Inserted(value) => {
                                assert_eq!(value, 1, "inserted, thus the first");
                                inserted.fetch_add(1, SeqCst);
                            }
                            Computed::Replaced(value) => assert!(value > 1, "replaced {}", value - 1),
                            other => panic!("{other:?}"),
                        }
                    }
                });
            }
        });
        let sum: u64 = (0..keys).map(|key| cache.get(&key).unwrap()).sum();
        assert_eq!(sum, threads * rounds);
        assert!(inserted.load(SeqCst) <= keys);
        cache.validate();
    }
}

/// Case 51: removals by `compute` hand each value to exactly one thread.
#[test]
fn case_51_compute_removes_once() {
    let rounds = size(3_000, 40) as u64;
    let cache: Cache<u64, u64> = Cache::builder().max_capacity(64).segments(1).build().unwrap();
    let (given, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..rounds {
                    // Adds one, or takes all.
                    if let Computed::Inserted(_) | Computed::Replaced(_) =
                        cache.compute(1, |now| Op::Insert(now.copied().unwrap_or(0) + 1))
                    {
                        given.fetch_add(1, SeqCst);
                    }
                    if let Computed::Removed(value) = cache.compute(1, |_| Op::Remove) {
                        taken.fetch_add(value, SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!(given.into_inner(), taken.into_inner());
    assert!(cache.is_empty());
}

/// `compute` runs once where nobody interferes, also when its value needs room from other segments, or all of it.
#[test]
fn compute_sees_the_value_it_replaces_when_it_grows_heavy() {
    for_all(|policy, segments| {
        let cache: Cache<u64, u64> = Cache::builder()
            .max_capacity(100)
            .segments(segments)
            .weigher(|_, value| *value)
            .eviction_policy(policy)
            .build()
            .unwrap();
        cache.insert(1, 10);
        for weight in [20, 40, 80, 100] {
            let mut seen = Vec::new();
            let computed = cache.compute(1, |now| {
                seen.push(now.copied());
                Op::Insert(weight)
            });
            assert_eq!(seen.len(), 1, "{weight}: nobody else changed the key: {seen:?}");
            assert!(seen[0].is_some(), "{weight}: it was there");
            assert_eq!(computed, Computed::Replaced(weight));
            assert_eq!(cache.get(&1), Some(weight));
            cache.validate();
        }
        assert_eq!(cache.compute(1, |_| Op::Insert(101)), Computed::Rejected(101));
        assert_eq!(cache.get(&1), None, "what was refused must not leave the old value");
        cache.validate();
    });
}

/// `or_insert_with` runs its closure at most once, and all callers get the value that got in.
#[test]
fn entry_or_insert_with_agrees() {
    let threads = 4;
    for round in 0..size(300, 5) as u64 {
        let cache: Cache<u64, u64> = Cache::builder().max_capacity(10).segments(1).build().unwrap();
        let start = Barrier::new(threads);
        let results: Vec<u64> = std::thread::scope(|scope| {
            let spawn = |thread: usize| {
                let (cache, start) = (&cache, &start);
                scope.spawn(move || {
                    start.wait();
                    cache.entry(round).or_insert_with(|| thread as u64)
                })
            };
            let handles: Vec<_> = (0..threads).map(spawn).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect()
        });
        assert!(results.iter().all(|&value| Some(value) == cache.get(&round)), "{results:?}");
    }
}

/// Case 58: one thread holds k1 and inserts k2, the other the reverse. Holding takes no lock, so nobody waits.
#[test]
fn case_58_crosswise_use_ends() {
    let cache: Cache<u64, u64> = Cache::builder().max_capacity(100).segments(2).build().unwrap();
    cache.insert(1, 0);
    cache.insert(2, 0);
    std::thread::scope(|scope| {
        for (mine, other) in [(1, 2), (2, 1)] {
            let cache = &cache;
            scope.spawn(move || {
                for round in 0..size(2_000, 30) as u64 {
                    cache.with(&mine, |_| cache.insert(other, round)).unwrap();
                    cache.entry(mine).and_upsert_with(|now| {
                        cache.insert(other, round);
                        now.map_or(0, |n| n + 1)
                    });
                    cache.for_each(|key, _| {
                        cache.contains_key(key);
                    });
                }
            });
        }
    });
    cache.validate();
}

/// Case 60: what was there before `invalidate_all` is gone when it returns, whatever other threads write meanwhile.
#[test]
fn case_60_invalidate_all_hides_everything_before_it() {
    for_all(|policy, segments| {
        let keys = size(500, 20) as u64;
        let cache: Cache<u64, u64> =
            Cache::builder().max_capacity(10_000).segments(segments).eviction_policy(policy).build().unwrap();
        let done = AtomicBool::new(false);
        let started = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Fresh keys only, so that the index grows under the cursor.
                for step in 0..size(20_000, 100) as u64 {
                    if done.load(SeqCst) {
                        break;
                    }
                    cache.insert(keys + step, step);
                    if step == 10 {
                        started.wait();
                    }
                }
            });
            started.wait();
            for generation in 0..size(20, 2) as u64 {
                (0..keys).for_each(|key| cache.insert(key, generation));
                cache.invalidate_all();
                for key in 0..keys {
                    assert_eq!(cache.get(&key), None, "in generation {generation}");
                }
            }
            done.store(true, SeqCst);
        });
        cache.validate();
    });
}

/// Case 62: events of reads that come late, for slots that have another entry by now, leave nothing behind.
#[test]
fn case_62_late_reads_leave_no_zombies() {
    for_all(|policy, segments| {
        let cache: Cache<u64, u64> =
            Cache::builder().max_capacity(40).segments(segments).eviction_policy(policy).build().unwrap();
        let rounds = size(4_000, 60) as u64;
        std::thread::scope(|scope| {
            for thread in 0..3u64 {
                let cache = &cache;
                scope.spawn(move || {
                    for round in 0..rounds {
                        let key = (round * (thread + 3)) % 90;
                        match thread {
                            0 => drop(cache.get(&key)),
                            1 => cache.insert(key, key),
                            _ if round % 3 == 0 => drop(cache.remove(&key)),
                            _ => cache.insert(key, key),
                        }
                    }
                });
            }
        });
        cache.run_pending_tasks();
        cache.validate();
        let coldest: HashSet<u64> = cache.coldest(usize::MAX).into_iter().map(|(key, _)| key).collect();
        let iterated: HashSet<u64> = cache.keys().collect();
        assert_eq!(coldest, iterated, "policy and table know the same entries");
        assert_eq!(iterated.len(), cache.len());
        cache.set_capacity(0);
        assert_eq!(cache.len(), 0, "the policy let everything go");
        cache.validate();
    });
}

/// Case 12: iteration under updates, inserts and evictions: no key twice, no value of another key, and it ends.
#[test]
fn case_12_iterators_under_churn() {
    for_all(|policy, segments| {
        let stable = size(300, 20) as u64;
        let cache: Cache<u64, String> = Cache::builder()
            .max_capacity(1_000_000)
            .segments(segments)
            .eviction_policy(policy)
            .build()
            .unwrap();
        (0..stable).for_each(|key| cache.insert(key, format!("{key}:0")));
        for key in stable..2 * stable {
            cache.insert(key, format!("{key}:0"));
            cache.invalidate(&key);
        }
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..size(15_000, 300) as u64 {
                    if done.load(Relaxed) && round > 100 {
                        break;
                    }
                    let key = round % stable;
                    cache.insert(key, format!("{key}:{round}"));
                    // Fresh keys: the index grows while it is walked.
                    let fresh = 2 * stable + round;
                    cache.insert(fresh, format!("{fresh}:0"));
                }
            });
            for _ in 0..size(4, 2) {
                let mut seen = HashMap::new();
                for (key, value) in cache.iter() {
                    assert!(value.starts_with(&format!("{key}:")), "{key} has {value}");
                    assert!(!(stable..2 * stable).contains(&key), "{key} was removed before");
                    assert_eq!(seen.insert(key, value), None, "{key} came twice");
                }
                assert!((0..stable).all(|key| seen.contains_key(&key)), "all that stay are met");
                let mut keys = HashSet::new();
                cache.keys().for_each(|key| assert!(keys.insert(key), "{key} came twice"));
                let mut visited = HashSet::new();
                cache.for_each(|key, _| assert!(visited.insert(*key), "{key} came twice"));
            }
            done.store(true, Relaxed);
        });
        cache.validate();
    });
}

/// A snapshot that is taken step by step while the same thread grows the index between the steps.
#[test]
fn case_12_one_pass_over_growth() {
    let cache: Cache<u64, u64> = Cache::builder().max_capacity(1_000_000).segments(2).build().unwrap();
    let before = size(100, 30) as u64;
    (0..before).for_each(|key| cache.insert(key, key));
    let mut fresh = 1_000;
    let mut seen = HashSet::new();
    for (key, value) in cache.iter() {
        assert_eq!(key, value);
        assert!(seen.insert(key), "{key} came twice");
        if seen.len() as u64 <= before {
            for _ in 0..size(50, 5) {
                cache.insert(fresh, fresh);
                fresh += 1;
            }
        }
        if seen.len() > 1_000_000 {
            panic!("the iterator does not end");
        }
    }
    assert!((0..before).all(|key| seen.contains(&key)));
    cache.validate();
}

/// Retain and drain under churn end, and take every entry that was there.
#[test]
fn retain_and_drain_under_churn() {
    for segments in [1, 4] {
        let stable = size(400, 20) as u64;
        let cache: Cache<u64, u64> = Cache::builder()
            .max_capacity(1_000_000)
            .segments(segments)
            .eviction_policy(EvictionPolicy::lru())
            .build()
            .unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..size(30_000, 200) as u64 {
                    if done.load(Relaxed) {
                        break;
                    }
                    cache.insert(1_000_000 + round, 0);
                }
            });
            for round in 0..size(10, 2) {
                (0..stable).for_each(|key| cache.insert(key, key));
                cache.retain(|key, _| key % 2 == 0 || *key >= 1_000_000);
                assert!((0..stable).all(|key| cache.contains_key(&key) == (key % 2 == 0)), "round {round}");
                let mut drained = HashSet::new();
                cache.drain().for_each(|(key, _)| assert!(drained.insert(key), "{key} came twice"));
                assert!((0..stable).all(|key| drained.contains(&key) == (key % 2 == 0)));
                assert!((0..stable).all(|key| !cache.contains_key(&key)));
            }
            done.store(true, Relaxed);
        });
        cache.validate();
    }
}

/// One removal, one winner: of threads that remove the same key at once, exactly one gets its value.
#[test]
fn a_value_is_removed_by_one_thread_only() {
    let cache: Cache<u64, u64> = Cache::new(100);
    for round in 0..size(3_000, 5) as u64 {
        cache.insert(1, round);
        let start = std::sync::Barrier::new(2);
        let remove = || {
            start.wait();
            cache.remove(&1)
        };
        let won = std::thread::scope(|scope| {
            let threads = [scope.spawn(remove), scope.spawn(remove)];
            threads.map(|thread| thread.join().unwrap()).iter().flatten().count()
        });
        assert_eq!(won, 1, "round {round}");
    }
}

/// The metadata of an entry that is replaced meanwhile is that of the new one.
#[test]
fn metadata_is_there_throughout_replacements() {
    let cache = Cache::new(100);
    cache.insert(1, 0);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Relaxed) {
                cache.insert(1, 1);
            }
        });
        let missed = (0..size(30_000, 50)).filter(|_| cache.metadata(&1).is_none()).count();
        is_done.store(true, Relaxed);
        assert_eq!(missed, 0);
    });
}
