//! What counts as a use of an entry, beside `get`: it is a read to the policy, the clock, the limit of reads and the statistics.
#![allow(missing_docs)]

mod common;

use common::loads::Task;
use common::time::secs;
use common::{Identity, for_all, policies};
use larder::{Cache, Clock, Computed, EvictionPolicy, Expiry, Op, RandomState};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

type Numbers<S = RandomState> = Cache<u64, u64, S>;
type Use<S> = fn(&Numbers<S>, u64) -> u64;

/// They give the value of a key, which is put in if there is none.
fn uses<S: BuildHasher + Send + Sync + 'static>() -> [(&'static str, Use<S>); 12] {
    [
        ("or_insert", |cache, key| cache.entry(key).or_insert(9)),
        ("or_insert_with", |cache, key| cache.entry(key).or_insert_with(|| 9)),
        ("or_default", |cache, key| match cache.entry(key).or_default() {
            0 => 9,
            value => value,
        }),
        ("compute", |cache, key| {
            let computed = cache.compute(key, |value| if value.is_some() { Op::Keep } else { Op::Insert(9) });
            computed.into_value().unwrap()
        }),
        ("get_or_load", |cache, key| cache.get_or_load(key, |_| 9)),
        ("try_get_or_load", |cache, key| cache.try_get_or_load(key, |_| Ok::<_, String>(9)).unwrap()),
        ("get_or_load_async", |cache, key| Task::new(cache.get_or_load_async(key, |_| async { 9 })).ready()),
        ("try_get_or_load_async", |cache, key| {
            Task::new(cache.try_get_or_load_async(key, |_| async { Ok::<_, String>(9) })).ready().unwrap()
        }),
        ("get_all_or_load", |cache, key| cache.get_all_or_load([key], |_| [(key, 9)])[&key]),
        ("try_get_all_or_load", |cache, key| {
            cache.try_get_all_or_load([key], |_| Ok::<_, String>([(key, 9)])).unwrap()[&key]
        }),
        ("get_all_or_load_async", |cache, key| {
            Task::new(cache.get_all_or_load_async([key], |_| async move { [(key, 9)] })).ready()[&key]
        }),
        ("get_many", |cache, key| cache.get_many(&[key])[0].unwrap_or_else(|| cache.entry(key).or_insert(9))),
    ]
}

#[test]
fn an_entry_that_is_used_stays() {
    for (name, use_it) in uses() {
        let cache = Cache::builder().max_capacity(3).eviction_policy(EvictionPolicy::lru()).build().unwrap();
        (0..3).for_each(|key| cache.insert(key, key + 1));
        assert_eq!(use_it(&cache, 0), 1, "{name}");
        cache.insert(3, 4);
        assert_eq!((cache.peek(&0), cache.peek(&1)), (Some(1), None), "{name}");
    }
}

/// The same entries stay as after reads by `get`.
#[test]
fn a_use_is_to_every_policy_what_a_get_is() {
    for policy in policies() {
        let kept_after = |use_it: Use<Identity>| {
            let cache = Cache::builder().max_capacity(64).segments(1).eviction_policy(policy.clone());
            let cache = cache.build_with_hasher(Identity).unwrap();
            (0..64).for_each(|key| cache.insert(key, 1));
            for key in (0..64).filter(|key| cache.contains_key(key)).step_by(5) {
                (0..=key % 3).for_each(|_| assert_eq!(use_it(&cache, key), 1));
            }
            (64..120).for_each(|key| cache.insert(key, 1));
            (0..120).filter(|key| cache.contains_key(key)).collect::<Vec<u64>>()
        };
        let expected = kept_after(|cache, key| cache.get(&key).unwrap());
        for (name, use_it) in uses() {
            assert_eq!(kept_after(use_it), expected, "{name}, {policy}");
        }
    }
}

#[test]
fn a_use_counts_a_hit_or_a_miss() {
    for_all(|policy, segments| {
        for (name, use_it) in uses() {
            let cache = Cache::builder()
                .max_capacity(100)
                .segments(segments)
                .eviction_policy(policy.clone())
                .record_stats()
                .build()
                .unwrap();
            // `get_many` has another look.
            let misses = if name == "get_many" { 2 } else { 1 };
            assert_eq!(use_it(&cache, 1), 9);
            assert_eq!((cache.stats().hit_count(), cache.stats().miss_count()), (0, misses), "{name}");
            use_it(&cache, 1);
            assert_eq!((cache.stats().hit_count(), cache.stats().miss_count()), (1, misses), "{name}");
        }
    });
}

#[test]
fn every_compute_counts_once() {
    let cache: Numbers = Cache::builder().max_capacity(100).record_stats().build().unwrap();
    let mut expected = (0, 0);
    let mut check = |computed: Computed<u64>, (hits, misses)| {
        expected = (expected.0 + hits, expected.1 + misses);
        assert_eq!((cache.stats().hit_count(), cache.stats().miss_count()), expected, "{computed:?}");
    };
    check(cache.compute(1, |_| Op::Keep), (0, 1));
    check(cache.compute(1, |_| Op::Remove), (0, 1));
    check(cache.compute(1, |_| Op::Insert(1)), (0, 1));
    check(cache.compute(1, |_| Op::Insert(2)), (1, 0));
    check(cache.compute(1, |_| Op::Keep), (1, 0));
    // A decision that is made twice is of one call.
    let mut is_first = true;
    let computed = cache.compute(1, |_| {
        if std::mem::take(&mut is_first) {
            cache.insert(1, 3);
        }
        Op::Insert(4)
    });
    check(computed, (1, 0));
    check(cache.compute(1, |_| Op::Remove), (1, 0));
    check(Computed::Inserted(cache.entry(1).and_upsert_with(|_| 5)), (0, 1));
    check(Computed::Replaced(cache.entry(1).and_upsert_with(|_| 6)), (1, 0));
}

#[test]
fn a_use_puts_off_the_end_of_idle_time() {
    for_all(|policy, segments| {
        for (name, use_it) in uses() {
            let clock = Clock::manual();
            let cache = Cache::builder()
                .max_capacity(100)
                .segments(segments)
                .eviction_policy(policy.clone())
                .time_to_idle(secs(10))
                .clock(clock.clone())
                .build()
                .unwrap();
            cache.insert(1, 2);
            for _ in 0..3 {
                clock.advance(secs(6));
                assert_eq!(use_it(&cache, 1), 2, "{name}");
            }
            clock.advance(secs(10));
            assert_eq!(use_it(&cache, 1), 9, "{name}");
        }
    });
}

#[test]
fn a_use_is_told_to_an_expiry() {
    struct Reads(Arc<AtomicUsize>);
    impl Expiry<u64, u64> for Reads {
        fn after_read(&self, _: &u64, _: &u64, _: Option<Duration>) -> Option<Duration> {
            self.0.fetch_add(1, Relaxed);
            Some(secs(5))
        }
    }
    for (name, use_it) in uses() {
        let (clock, reads) = (Clock::manual(), Arc::new(AtomicUsize::new(0)));
        let cache = Cache::builder()
            .max_capacity(100)
            .expire_after(Reads(Arc::clone(&reads)))
            .clock(clock.clone())
            .build()
            .unwrap();
        cache.insert(1, 2);
        assert_eq!((use_it(&cache, 1), reads.load(Relaxed)), (2, 1), "{name}");
        assert_eq!(cache.metadata(&1).unwrap().remaining, Some(secs(5)), "{name}");
        cache.entry(1).and_upsert_with(|_| 3);
        assert_eq!(reads.load(Relaxed), 1, "an update");
    }
}

#[test]
fn a_use_spends_a_read() {
    for_all(|policy, segments| {
        for (name, use_it) in uses() {
            let cache = Cache::builder()
                .max_capacity(100)
                .segments(segments)
                .eviction_policy(policy.clone())
                .max_reads(2)
                .build()
                .unwrap();
            cache.insert(1, 2);
            let values = [(); 3].map(|()| use_it(&cache, 1));
            assert_eq!(values, [2, 2, 9], "{name}");
            cache.validate();
        }
    });
}

/// An entry may come to its end while the closure decides.
#[test]
fn nothing_is_kept_that_has_expired_meanwhile() {
    let clock = Clock::manual();
    let cache: Numbers =
        Cache::builder().max_capacity(100).time_to_live(secs(10)).clock(clock.clone()).build().unwrap();
    cache.insert(1, 2);
    let mut seen = Vec::new();
    let computed = cache.compute(1, |value| {
        seen.push(value.copied());
        clock.advance(secs(10));
        Op::Keep
    });
    assert_eq!((computed, seen), (Computed::Absent, vec![Some(2), None]));
}
