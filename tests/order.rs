//! The order of entries from the hottest to the coldest: what reads make of it, and what is kept by it.
#![allow(missing_docs)]

mod common;

use common::queue::Queue;
use common::{policies, size};
use larder::{Cache, EvictionPolicy};
use std::collections::HashSet;

type Numbers = Cache<u64, u64>;

const CAPACITY: u64 = 10_000;
const INSERTED: u64 = 5_000;
const READ: std::ops::Range<u64> = 5..105;
/// How many of those that were read have to be where they should be.
const NEARLY_ALL: usize = 85;

fn make(policy: &EvictionPolicy, segments: usize, capacity: u64) -> Numbers {
    let builder = Cache::builder().max_capacity(capacity).segments(segments);
    builder.eviction_policy(policy.clone()).build().unwrap()
}

/// For all policies whose order has to do with reads: that of `fifo` has not. With one segment and with eight.
fn for_all_that_note_reads(test: impl Fn(&EvictionPolicy, usize)) {
    for policy in policies().iter().filter(|policy| **policy != EvictionPolicy::fifo()) {
        [1, 8].into_iter().for_each(|segments| test(policy, segments));
    }
}

fn read(cache: &Numbers) {
    for key in READ {
        (0..size(1_000, 100)).for_each(|_| _ = cache.get(&key));
    }
}

fn half_full(policy: &EvictionPolicy, segments: usize) -> Numbers {
    let cache = make(policy, segments, CAPACITY);
    (0..INSERTED).for_each(|key| cache.insert(key, key));
    read(&cache);
    cache
}

/// A cache in which those keys were read again and again while others were evicted.
fn full(policy: &EvictionPolicy, segments: usize) -> Numbers {
    let cache = half_full(policy, segments);
    for key in INSERTED..3 * CAPACITY {
        cache.insert(key, key);
        if key % 64 == 0 {
            READ.for_each(|key| _ = cache.get(&key));
        }
    }
    read(&cache);
    cache
}

fn count(entries: impl IntoIterator<Item = (u64, u64)>) -> usize {
    entries.into_iter().filter(|(key, _)| READ.contains(key)).count()
}

#[test]
fn read_entries_are_the_hottest_and_not_the_coldest() {
    for_all_that_note_reads(|policy, segments| {
        for cache in [half_full(policy, segments), full(policy, segments)] {
            let (hot, cold) = (count(cache.hottest(100)), count(cache.coldest(100)));
            assert!(hot >= NEARLY_ALL, "{policy}, {segments}: {hot} of the hottest 100 were read");
            assert_eq!(cold, 0, "{policy}, {segments}: read entries are among the coldest 100");
        }
    });
}

/// Reads that a policy knows only by full marks are more than what its sketch knows of keys that come and go.
#[test]
fn a_few_entries_that_are_read_most_are_the_hottest_of_a_full_cache() {
    for_all_that_note_reads(|policy, segments| {
        let cache = make(policy, segments, 1_000);
        (0..10_000).for_each(|key| cache.insert(key, key));
        let read: HashSet<u64> = cache.keys().step_by(150).take(5).collect();
        for key in &read {
            (0..size(20_000, 1_000)).for_each(|_| _ = cache.get(key));
        }
        let hottest: HashSet<u64> = cache.hottest(10).into_iter().map(|(key, _)| key).collect();
        assert!(read.is_subset(&hottest), "{policy}, {segments}: {read:?} are not among {hottest:?}");
    });
}

#[test]
fn a_cache_that_is_made_smaller_keeps_what_was_read() {
    for_all_that_note_reads(|policy, segments| {
        let cache = half_full(policy, segments);
        cache.set_capacity(500);
        cache.validate();
        let kept = count(&cache);
        assert!(kept >= NEARLY_ALL, "{policy}, {segments}: {kept} of 100 are kept");
    });
}

#[test]
fn the_order_from_one_end_is_that_from_the_other_reversed() {
    for policy in policies() {
        let cache = make(&policy, 1, 300);
        (0..1_000_u64).for_each(|key| {
            cache.insert(key, key);
            cache.get(&(key / 3));
            cache.get(&(key * 7 % 300));
        });
        let mut coldest = cache.coldest(usize::MAX);
        coldest.reverse();
        assert_eq!(cache.hottest(usize::MAX), coldest, "{policy}");
        assert_eq!(cache.hottest(50), coldest[..50], "{policy}");
        assert_eq!(cache.hottest(0), [], "{policy}");
    }
}

#[test]
fn the_order_of_fifo_is_that_of_the_inserts_whatever_is_read() {
    let cache = half_full(&EvictionPolicy::fifo(), 1);
    assert!(cache.coldest(100).into_iter().map(|(key, _)| key).eq(0..100));
}

#[test]
fn a_policy_of_ones_own_is_ranked_by_its_marks() {
    let cache = make(&EvictionPolicy::custom(|_| Queue::default()), 1, 10);
    (0..6).for_each(|key| cache.insert(key, key));
    for key in [3, 1, 1, 4, 1] {
        cache.get(&key);
    }
    let keys: Vec<u64> = cache.coldest(9).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [0, 2, 5, 3, 4, 1]);
}

#[cfg(feature = "serde")]
mod snapshots {
    use super::*;

    fn saved(cache: &Numbers, max_bytes: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        cache.snapshot().max_bytes(max_bytes).save_to(&mut bytes).unwrap();
        bytes
    }

    fn loaded(into: Numbers, bytes: &[u8]) -> Numbers {
        into.snapshot().load_from(bytes).unwrap();
        into.validate();
        into
    }

    #[test]
    fn a_smaller_cache_and_a_shorter_snapshot_keep_what_was_read() {
        for_all_that_note_reads(|policy, segments| {
            for cache in [half_full(policy, segments), full(policy, segments)] {
                let bytes = saved(&cache, u64::MAX);
                let small = loaded(make(policy, segments, 500), &bytes);
                let kept = count(&small);
                assert!(kept >= NEARLY_ALL, "{policy}, {segments}: a cache of 500 has {kept} of 100");
                let short = saved(&cache, bytes.len() as u64 / 10);
                let again = loaded(make(policy, segments, CAPACITY), &short);
                assert!(again.len() < cache.len() / 4, "{policy}: {} of {}", again.len(), cache.len());
                let kept = count(&again);
                assert!(kept >= NEARLY_ALL, "{policy}, {segments}: a tenth has {kept} of 100");
            }
        });
    }

    /// It knows nothing of what the other policy knew but the order.
    #[test]
    fn another_policy_keeps_what_was_read() {
        for_all_that_note_reads(|policy, segments| {
            let bytes = saved(&half_full(policy, segments), u64::MAX);
            let lru = loaded(make(&EvictionPolicy::lru(), 1, CAPACITY), &bytes);
            let hot = count(lru.hottest(100));
            assert!(hot >= NEARLY_ALL, "{policy}, {segments}: {hot} of the hottest 100 were read");
        });
    }

    /// Entries come back in the order of the policy's queues, not in that of heat.
    #[test]
    fn a_restart_keeps_the_order() {
        for policy in policies() {
            let cache = half_full(&policy, 1);
            let again = loaded(make(&policy, 1, CAPACITY), &saved(&cache, u64::MAX));
            assert_eq!(again.len(), cache.len());
            if policy != EvictionPolicy::tiny_lfu() {
                // Its sketch is of other hashes.
                assert_eq!(again.hottest(usize::MAX), cache.hottest(usize::MAX), "{policy}");
            }
        }
    }
}
