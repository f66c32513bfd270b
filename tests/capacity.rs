//! The bounds on weight and entries: cases 7 and 19 to 29 of ADVERSARIES.
#![allow(missing_docs)]

mod common;

use common::queue::keys_of_segments;
use common::{Identity, causes, for_all, logged, panics, policies, size};
use larder::{BuildError, Cache, EvictionPolicy, InsertOptions, RemovalCause};
use std::sync::Barrier;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};

fn weighed(capacity: u64, segments: usize, policy: EvictionPolicy) -> larder::Builder<u64, u64> {
    Cache::builder()
        .max_capacity(capacity)
        .segments(segments)
        .weigher(|_, value| *value)
        .eviction_policy(policy)
}

/// Case 7: a tiny weighted capacity, odd weights, keys used again and again.
#[test]
fn case_7_tiny_weighted_capacity() {
    for_all(|policy, segments| {
        for capacity in 1..8 {
            let cache = weighed(capacity, segments, policy.clone()).build().unwrap();
            for step in 0..size(300, 40) as u64 {
                cache.insert(step % 5, (step * 7 + step / 5) % 6);
                cache.get(&(step % 3));
                assert!(cache.weighted_size() <= capacity);
                cache.validate();
            }
        }
    });
}

/// Case 19: hot keys written by many threads: weight and entries are within their bounds at every look, and the books
/// agree when it is quiet. Weights stay below a segment's share, so no budget moves while segments are summed up.
#[test]
fn case_19_hot_keys_stay_within_capacity() {
    for_all(|policy, segments| {
        let cache = weighed(400, segments, policy).max_entries(60).build().unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..2u64)
                .map(|thread| {
                    let cache = &cache;
                    scope.spawn(move || {
                        for round in 0..size(3_000, 40) as u64 {
                            cache.insert(round % 7 + thread, round % 23);
                            cache.insert(round % 211, round % 5);
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    assert!(cache.weighted_size() <= 400);
                    assert!(cache.len() <= 60);
                    std::hint::spin_loop();
                }
            });
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            done.store(true, Relaxed);
        });
        cache.validate();
        assert!(cache.weighted_size() <= 400 && cache.len() <= 60);
    });
}

/// Case 20: a cache of capacity 0 keeps nothing, and says so to the listener.
#[test]
fn case_20_capacity_zero() {
    for_all(|policy, segments| {
        let builder = Cache::builder().max_capacity(0).segments(segments).eviction_policy(policy);
        let (builder, log) = logged(builder);
        let cache: Cache<u64, u64> = builder.build().unwrap();
        for key in 0..20 {
            cache.insert(key, key);
            cache.insert_with(key, key, InsertOptions::new().weight(0));
            cache.insert_with(key, key, InsertOptions::new().pinned(true));
            assert_eq!(cache.get(&key), None);
            assert_eq!(cache.entry(key).or_insert(5), 5);
            assert!(cache.is_empty());
            cache.validate();
        }
        assert_eq!(causes(&log, RemovalCause::Rejected), 80);
        assert_eq!(log.lock().unwrap().len(), 80);
        assert_eq!(cache.stats().rejection_count(), 80);
    });
}

/// Case 20, by entries.
#[test]
fn case_20_no_entries() {
    for_all(|policy, segments| {
        let builder = Cache::builder().max_entries(0).segments(segments).eviction_policy(policy);
        let (builder, log) = logged(builder);
        let cache: Cache<u64, u64> = builder.build().unwrap();
        for key in 0..20 {
            cache.insert(key, key);
            assert!(cache.is_empty());
            cache.validate();
        }
        assert_eq!(causes(&log, RemovalCause::Rejected), 20);
    });
}

/// Case 21: capacity 1 keeps one entry, in whatever segment it falls.
#[test]
fn case_21_capacity_one() {
    for_all(|policy, segments| {
        let cache: Cache<u64, u64> =
            Cache::builder().max_capacity(1).segments(segments).eviction_policy(policy).build().unwrap();
        for key in 0..100 {
            cache.insert(key, key);
            assert_eq!(cache.len(), 1);
            cache.validate();
        }
        cache.insert(7, 1);
        cache.insert(7, 2);
        assert_eq!(cache.len(), 1);
    });
}

/// Case 22: resize 0, N, 0, with entries, with pinned ones and with ones that weigh nothing.
#[test]
fn case_22_resize_to_nothing_and_back() {
    for_all(|policy, segments| {
        let cache: Cache<u64, u64> =
            Cache::builder().max_capacity(100).segments(segments).eviction_policy(policy).build().unwrap();
        for round in 0..3 {
            for key in 0..150 {
                cache.insert(key, key);
            }
            cache.pin(&149);
            cache.insert_with(1_000, 0, InsertOptions::new().pinned(true));
            cache.insert_with(1_001, 0, InsertOptions::new().weight(0));
            assert!(cache.len() > 50);
            cache.validate();
            cache.set_capacity(0);
            assert_eq!((cache.len(), cache.weighted_size(), cache.capacity()), (0, 0, 0), "round {round}");
            cache.validate();
            cache.insert(1, 1);
            assert!(cache.is_empty());
            cache.set_capacity(100);
            cache.validate();
        }
        for key in 0..1_000 {
            cache.insert(key, key);
        }
        assert!(cache.len() > 80, "the room is all of use again: {}", cache.len());
    });
}

/// Case 22, in small steps up and down.
#[test]
fn case_22_resize_step_by_step() {
    for_all(|policy, segments| {
        let cache: Cache<u64, u64> =
            Cache::builder().max_capacity(64).segments(segments).eviction_policy(policy).build().unwrap();
        for step in 0..size(200, 30) as u64 {
            let capacity = [64, 3, 17, 0, 1, 200, 5, 64][step as usize % 8];
            cache.set_capacity(capacity);
            assert_eq!(cache.capacity(), capacity);
            assert!(cache.weighted_size() <= capacity);
            cache.validate();
            for key in 0..40 {
                cache.insert(key + step, key);
                assert!(cache.weighted_size() <= capacity);
            }
            cache.validate();
        }
    });
}

/// A shrink takes no more than it must: also of pinned entries, when they alone are too much.
#[test]
fn shrinking_takes_no_more_than_it_must() {
    for_all(|policy, segments| {
        for pinned in [false, true] {
            let cache: Cache<u64, u64> = Cache::builder()
                .max_capacity(40)
                .segments(segments)
                .eviction_policy(policy.clone())
                .build()
                .unwrap();
            for key in 0..400 {
                cache.insert_with(key, key, InsertOptions::new().pinned(pinned));
            }
            assert_eq!(cache.len(), 40);
            for capacity in [30, 29, 12, 4, 1] {
                cache.set_capacity(capacity);
                assert_eq!(cache.len() as u64, capacity, "{} entries, pinned: {pinned}", cache.policy());
                cache.validate();
            }
        }
    });
}

/// Unpinned entries go before pinned ones.
#[test]
fn shrinking_takes_pinned_entries_last() {
    for_all(|policy, segments| {
        let cache: Cache<u64, u64> =
            Cache::builder().max_capacity(100).segments(segments).eviction_policy(policy).build().unwrap();
        for key in 0..10 {
            cache.insert_with(key, key, InsertOptions::new().pinned(true));
        }
        (10..500).for_each(|key| cache.insert(key, key));
        cache.set_capacity(10);
        cache.validate();
        assert!((0..10).all(|key| cache.contains_key(&key)), "{} pinned entries", cache.len());
    });
}

/// Case 23: a capacity of `u64::MAX`: no overflow, and no memory for entries that may never come.
#[test]
fn case_23_the_largest_capacity() {
    for_all(|policy, segments| {
        let cache: Cache<u64, u64> = Cache::builder()
            .max_capacity(u64::MAX)
            .max_entries(u64::MAX)
            .segments(segments)
            .eviction_policy(policy.clone())
            .build()
            .unwrap();
        (0..1_000).for_each(|key| cache.insert(key, key));
        assert_eq!(cache.len(), 1_000);
        cache.validate();
        cache.set_capacity(10);
        assert_eq!(cache.len(), 10);
        cache.validate();
        cache.set_capacity(u64::MAX);
        (0..1_000).for_each(|key| cache.insert(key, key));
        assert_eq!(cache.len(), 1_000);
        cache.validate();

        let cache = weighed(u64::MAX, segments, policy).build().unwrap();
        for key in 0..100 {
            cache.insert(key, u64::MAX);
            assert_eq!((cache.len(), cache.weighted_size()), (1, u64::MAX));
            cache.insert(key + 1_000, u64::MAX / 2);
            cache.insert(key + 2_000, u64::MAX - 1);
            cache.validate();
        }
        assert!(cache.stats().eviction_weight() > 0, "saturated, not wrapped");
    });
}

#[test]
fn case_23_default_segments_and_policy_for_any_capacity() {
    for capacity in [0, 1, 2, 1 << 20, 1 << 40, u64::MAX] {
        let cache: Cache<u64, u64> = Cache::new(capacity);
        (0..100).for_each(|key| cache.insert(key, key));
        assert!(cache.weighted_size() <= capacity);
        cache.validate();
    }
}

/// Case 24: nothing weighs anything: only `max_entries` bounds the cache.
#[test]
fn case_24_all_weights_zero() {
    for_all(|policy, segments| {
        let cache = weighed(10, segments, policy.clone()).build().unwrap();
        (0..500).for_each(|key| cache.insert(key, 0));
        assert_eq!((cache.len(), cache.weighted_size()), (500, 0));
        cache.insert(1_000, 10);
        assert!(cache.contains_key(&1_000));
        cache.validate();
        cache.set_capacity(1);
        assert!(cache.weighted_size() <= 1);
        cache.validate();

        let cache = weighed(10, segments, policy).max_entries(50).build().unwrap();
        for key in 0..500 {
            cache.insert(key, 0);
            assert!(cache.len() <= 50);
        }
        assert!(cache.len() >= 40);
        cache.validate();
    });
}

/// Case 24: an entry as heavy as the whole capacity is taken, in whatever segment it falls, a heavier one refused and
/// the key absent afterwards.
#[test]
fn case_24_as_heavy_as_the_capacity_and_heavier() {
    for policy in policies() {
        for segments in [1, 16] {
            for capacity in [1, 15, 16, 1_000, u64::MAX - 1] {
                let (builder, log) = logged(weighed(capacity, segments, policy.clone()));
                let cache = builder.build().unwrap();
                for key in 0..size(60, 20) as u64 {
                    cache.insert(key, capacity);
                    assert_eq!(cache.get(&key), Some(capacity), "{policy}, {segments} segments");
                    assert_eq!(cache.weighted_size(), capacity);
                    cache.validate();
                    // Over a key that is there, and over one that is not.
                    log.lock().unwrap().clear();
                    cache.insert(key, capacity + 1);
                    assert_eq!(cache.get(&key), None);
                    let events = log.lock().unwrap().clone();
                    assert_eq!(events.len(), 2);
                    assert!(events.contains(&(key, capacity, RemovalCause::Replaced)));
                    assert!(events.contains(&(key, capacity + 1, RemovalCause::Rejected)));
                    log.lock().unwrap().clear();
                    cache.insert(key, u64::MAX);
                    assert_eq!(*log.lock().unwrap(), [(key, u64::MAX, RemovalCause::Rejected)]);
                    assert!(cache.is_empty());
                    cache.validate();
                    cache.insert(key + 1_000, 1);
                }
            }
        }
    }
}

/// Case 24: a refused entry does not push out the others.
#[test]
fn case_24_a_refused_entry_harms_no_other() {
    for_all(|policy, segments| {
        let cache = weighed(100, segments, policy).build().unwrap();
        (0..20).for_each(|key| cache.insert(key, 1));
        cache.insert(50, 101);
        assert_eq!(cache.len(), 20);
        cache.validate();
    });
}

/// Case 24: heavy and light entries in turn: heavy ones take room from all segments and give it back.
#[test]
fn case_24_heavy_and_light_in_turn() {
    for_all(|policy, segments| {
        let cache = weighed(200, segments, policy).build().unwrap();
        for step in 0..size(400, 50) as u64 {
            match step % 5 {
                0 => cache.insert(step % 37, 200),
                1 => cache.insert(step % 31, 90),
                2 => drop(cache.remove(&(step % 37))),
                _ => (0..30).for_each(|key| cache.insert(key * 3, 1 + key % 3)),
            }
            assert!(cache.weighted_size() <= 200);
            cache.validate();
        }
        cache.invalidate_all();
        (0..2_000).for_each(|key| cache.insert(key, 1));
        cache.validate();
        assert!(cache.len() > 150, "the room came back: {} of 200", cache.len());
    });
}

/// Two threads insert entries as heavy as the capacity into different segments. It ends, the bound holds, nothing that
/// fits is refused.
#[test]
fn heaviest_entries_from_two_threads() {
    for policy in policies() {
        for segments in [2, 16] {
            let keys: Vec<u64> = keys_of_segments(segments, 1).into_iter().flatten().take(2).collect();
            let (builder, log) = logged(weighed(64, segments, policy.clone()));
            let cache = builder.build_with_hasher(Identity).unwrap();
            let start = Barrier::new(3);
            std::thread::scope(|scope| {
                for key in keys.iter().copied() {
                    let (cache, start) = (&cache, &start);
                    scope.spawn(move || {
                        start.wait();
                        for round in 0..size(500, 20) as u64 {
                            cache.insert(key, 64 - round % 2);
                        }
                    });
                }
                start.wait();
                for key in 0..size(500, 20) as u64 {
                    cache.insert(1_000 + key % 90, 1);
                }
            });
            cache.validate();
            assert!(cache.weighted_size() <= 64);
            assert_eq!(causes(&log, RemovalCause::Rejected), 0, "{policy}: what fits was refused");
        }
    }
}

/// The same at the end of the number range: sums over segments that are looked at one after another.
#[test]
fn heaviest_weights_under_a_sampler() {
    let cache = weighed(u64::MAX, 4, EvictionPolicy::fifo()).build().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            while !done.load(Relaxed) {
                let _ = cache.weighted_size();
                let _ = cache.stats();
            }
        });
        for key in 0..size(4_000, 50) as u64 {
            cache.insert(key, u64::MAX);
        }
        done.store(true, Relaxed);
        sampler.join().unwrap();
    });
    cache.validate();
}

/// Case 25: a weight that changes when a value is replaced: the total is always what a recount gives.
#[test]
fn case_25_weights_change_on_replace() {
    for_all(|policy, segments| {
        let cache = weighed(1_000, segments, policy).build().unwrap();
        for step in 0..size(1_500, 80) as u64 {
            cache.insert(step * 31 % 41, step * step % 113);
            let recount: u64 = cache.iter().map(|(_, weight)| weight).sum();
            assert_eq!(cache.weighted_size(), recount);
            assert!(recount <= 1_000);
            if step % 10 == 0 {
                cache.validate();
            }
        }
    });
}

/// Case 26: a weigher that answers differently each time is asked once for each insert, and its answer kept.
#[test]
fn case_26_a_weigher_that_changes_its_mind() {
    for_all(|policy, segments| {
        let asked = std::sync::Arc::new(AtomicU64::new(0));
        let counter = std::sync::Arc::clone(&asked);
        let cache: Cache<u64, u64> = Cache::builder()
            .max_capacity(300)
            .segments(segments)
            .weigher(move |_, _| (counter.fetch_add(1, SeqCst) * 7919) % 13)
            .eviction_policy(policy)
            .build()
            .unwrap();
        for step in 0..600 {
            cache.insert(step % 90, step);
            assert_eq!(asked.load(SeqCst), step + 1);
            assert!(cache.weighted_size() <= 300);
        }
        cache.validate();
        cache.invalidate_all();
        assert_eq!(cache.weighted_size(), 0);
        cache.validate();
    });
}

/// Case 27: a weigher that panics leaves the old entry and every lock alone.
#[test]
fn case_27_a_panicking_weigher() {
    for_all(|policy, segments| {
        let cache: Cache<u64, u64> = Cache::builder()
            .max_capacity(300)
            .segments(segments)
            .weigher(|_, value| if *value == 13 { panic!("on purpose") } else { *value })
            .eviction_policy(policy)
            .build()
            .unwrap();
        cache.insert(1, 10);
        assert!(panics(|| cache.insert(1, 13)));
        assert!(panics(|| cache.entry(1).and_upsert_with(|_| 13)));
        assert!(panics(|| cache.entry(2).or_insert(13)));
        assert_eq!((cache.get(&1), cache.len(), cache.weighted_size()), (Some(10), 1, 10));
        cache.insert(1, 11);
        assert_eq!(cache.get(&1), Some(11));
        cache.validate();
    });
}

/// Case 28: while threads pin and unpin, eviction goes on, and the books agree afterwards.
#[test]
fn case_28_pins_race_with_evictions() {
    for_all(|policy, segments| {
        let cache: Cache<u64, u64> =
            Cache::builder().max_capacity(30).segments(segments).eviction_policy(policy).build().unwrap();
        let rounds = size(1_500, 40) as u64;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..rounds {
                    cache.pin(&(round % 50));
                    cache.unpin(&((round + 25) % 50));
                }
            });
            scope.spawn(|| {
                for round in 0..rounds {
                    cache.insert(round % 50, round);
                    cache.insert_with(
                        round * 7 % 50,
                        round,
                        InsertOptions::new().pinned(round % 2 == 0).weight(round % 4),
                    );
                }
            });
        });
        cache.validate();
        for key in 0..50 {
            cache.unpin(&key);
        }
        cache.validate();
        // All can go: a whole new set of keys gets in.
        (100..400).for_each(|key| cache.insert(key, key));
        assert!((0..50).filter(|key| cache.contains_key(key)).count() < 30);
        cache.validate();
    });
}

/// Pinned entries fill the cache: others are refused and reported; when one is unpinned they get in again.
#[test]
fn case_28_pinned_to_the_brim() {
    for_all(|policy, segments| {
        let builder = Cache::builder().max_capacity(20).segments(segments).eviction_policy(policy);
        let (builder, log) = logged(builder);
        let cache: Cache<u64, u64> = builder.build().unwrap();
        (0..20).for_each(|key| cache.insert_with(key, key, InsertOptions::new().pinned(true)));
        assert_eq!(cache.len(), 20);
        cache.validate();
        for key in 100..140 {
            cache.insert(key, key);
            assert!(!cache.contains_key(&key));
        }
        assert_eq!(causes(&log, RemovalCause::Rejected), 40);
        assert_eq!(log.lock().unwrap().len(), 40);
        assert!((0..20).all(|key| cache.contains_key(&key)));
        // A pinned entry can still be replaced, and keeps its pin.
        (0..20).for_each(|key| cache.insert(key, key + 1));
        cache.insert(200, 0);
        assert!((0..20).all(|key| cache.get(&key) == Some(key + 1)));
        cache.validate();
        cache.unpin(&3);
        cache.insert(201, 0);
        assert!(cache.contains_key(&201) && !cache.contains_key(&3));
        cache.validate();
    });
}

/// A pinned entry that grows heavier than its segment's part keeps its pin.
#[test]
fn case_28_a_pin_outlives_a_heavier_value() {
    for_all(|policy, segments| {
        let cache = weighed(100, segments, policy).build().unwrap();
        cache.insert_with(1, 5, InsertOptions::new().pinned(true));
        (2..50).for_each(|key| cache.insert(key, 2));
        for weight in [30, 70, 80] {
            cache.insert(1, weight);
            cache.validate();
            (100..400).for_each(|key| cache.insert(key, 3));
            assert_eq!(cache.get(&1), Some(weight), "it was pinned");
        }
        assert!(cache.coldest(usize::MAX).iter().all(|(key, _)| *key != 1));
    });
}

/// Pinned weights at the end of the number range.
#[test]
fn case_28_pinned_with_the_largest_weight() {
    for_all(|policy, segments| {
        let cache = weighed(u64::MAX, segments, policy).build().unwrap();
        cache.insert_with(1, u64::MAX, InsertOptions::new().pinned(true));
        cache.insert(2, u64::MAX);
        cache.insert(3, 1);
        assert_eq!((cache.get(&1), cache.get(&2), cache.get(&3)), (Some(u64::MAX), None, None));
        cache.validate();
        cache.unpin(&1);
        cache.insert(2, u64::MAX);
        assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(u64::MAX)));
        cache.validate();
    });
}

/// To evict an entry of weight 0 would make no room: whatever comes, none goes.
#[test]
fn an_entry_of_weight_0_is_not_evicted_for_weight() {
    for_all(|policy, segments| {
        let (builder, log) = logged(weighed(100, segments, policy));
        let cache = builder.build().unwrap();
        let weightless = size(100_000, 400) as u64;
        (0..weightless).for_each(|key| cache.insert(key, 0));
        (0..101).for_each(|key| cache.insert(weightless + key, 1));
        assert!((0..weightless).all(|key| cache.get(&key) == Some(0)));
        assert!(!log.lock().unwrap().is_empty() && log.lock().unwrap().iter().all(|event| event.1 == 1));
        cache.validate();
        // Nor when there is less room, until there is none at all.
        cache.set_capacity(7);
        assert!((0..weightless).all(|key| cache.contains_key(&key)));
        cache.insert(weightless, 7);
        assert_eq!((cache.len() as u64, cache.weighted_size()), (weightless + 1, 7));
        cache.validate();
        cache.set_capacity(0);
        assert!(cache.is_empty());
        cache.validate();
    });
}

/// An update decides again whether the entry can be evicted. A pin makes no difference to that.
#[test]
fn an_update_from_or_to_weight_0_lets_the_policy_know() {
    for_all(|policy, segments| {
        let cache = weighed(20, segments, policy).build().unwrap();
        let is_ordered = |key| cache.coldest(usize::MAX).iter().any(|entry| entry.0 == key);
        cache.insert(1, 0);
        assert!(!is_ordered(1));
        cache.insert(1, 2);
        assert!(is_ordered(1));
        cache.validate();
        cache.insert(1, 0);
        assert!(!is_ordered(1));
        assert!(cache.pin(&1));
        cache.insert(1, 3);
        assert!(!is_ordered(1));
        cache.insert(1, 0);
        assert!(cache.unpin(&1));
        assert!(!is_ordered(1));
        cache.validate();
        (100..200).for_each(|key| cache.insert(key, 1));
        assert_eq!(cache.get(&1), Some(0));
        // As heavy as the cache: it needs all the room that there is.
        cache.insert(1, 20);
        assert_eq!((cache.get(&1), cache.len()), (Some(20), 1));
        cache.validate();
        cache.insert(2, 20);
        assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(20)));
        assert!(cache.remove(&2).is_some());
        cache.validate();
    });
}

/// Where pinned entries must go, since they alone are too much, those go that weigh something.
#[test]
fn a_pinned_entry_of_weight_0_is_not_in_the_way() {
    for_all(|policy, segments| {
        let cache = weighed(40, segments, policy).build().unwrap();
        for key in 0..40 {
            cache.insert_with(key, key % 2, InsertOptions::new().pinned(true));
        }
        cache.set_capacity(5);
        assert!((0..40).step_by(2).all(|key| cache.contains_key(&key)));
        assert_eq!((cache.len(), cache.weighted_size()), (25, 5));
        cache.validate();
    });
}

/// Where the number of entries is bounded, too, it takes a place, and is evicted for that.
#[test]
fn an_entry_of_weight_0_takes_a_place_where_there_is_a_bound_on_entries() {
    for_all(|policy, segments| {
        let cache = weighed(100, segments, policy).max_entries(50).build().unwrap();
        for key in 0..size(1_000, 200) as u64 {
            cache.insert(key, 0);
            assert_eq!(cache.get(&key), Some(0));
        }
        assert!(cache.len() <= 50 && !cache.coldest(1).is_empty());
        cache.validate();
    });
}

/// Case 29: counters of policies saturate instead of overflowing. `LARDER_MANY=50000000` for the whole of it.
#[test]
fn case_29_counters_saturate() {
    let rounds = common::size_from("LARDER_MANY", 60_000, 200) as u64;
    for policy in policies() {
        let cache: Cache<u64, u64> =
            Cache::builder().max_capacity(64).segments(1).eviction_policy(policy).build().unwrap();
        cache.insert(0, 0);
        for round in 0..rounds {
            cache.get(&0);
            cache.insert(round % 3, round);
            if round % 4 == 0 {
                cache.insert(round, round);
            }
        }
        cache.validate();
    }
}

/// No segment is without a part of the bounds, where it would refuse its keys.
#[test]
fn every_key_finds_room_with_more_segments_than_entries() {
    for policy in policies() {
        let plain = || Cache::<u64, u64>::builder().segments(16).eviction_policy(policy.clone());
        let weighed = || plain().weigher(|_, _| 1);
        for builder in [
            plain().max_entries(3),
            plain().max_capacity(3),
            plain().max_capacity(1),
            weighed().max_capacity(3),
            weighed().max_capacity(1_000).max_entries(3),
        ] {
            let (builder, log) = logged(builder);
            let cache = builder.build().unwrap();
            for key in 0..size(2_000, 100) as u64 {
                cache.insert(key, key);
                assert_eq!(cache.get(&key), Some(key));
            }
            assert_eq!(causes(&log, RemovalCause::Rejected), 0);
            cache.validate();
        }
    }
}

/// What cannot be built is named.
#[test]
fn builders_refuse_what_makes_no_sense() {
    let build = |segments| Cache::<u64, u64>::builder().max_capacity(10).segments(segments).build();
    assert!(matches!(build(0), Err(BuildError::Segments { given: 0, .. })));
    assert!(matches!(build(usize::MAX), Err(BuildError::Segments { given: usize::MAX, .. })));
    assert_eq!(Cache::<u64, u64>::builder().build().unwrap_err(), BuildError::NoBound);
    let huge = Cache::<u64, u64>::builder().max_capacity(10).initial_capacity(usize::MAX).build();
    assert!(matches!(huge, Err(BuildError::InitialCapacity { given: usize::MAX, .. })));
    assert!(build(0).unwrap_err().to_string().contains("segments(0)"));
    assert!("lfru".parse::<EvictionPolicy>().unwrap_err().to_string().contains("lfru"));
}

/// Bounds on weight and on entries: what is free of one is not collected for the other, so that a full cache asks no other segment.
#[test]
fn a_cache_full_of_entries_keeps_its_weight_where_it_is() {
    for_all(|policy, segments| {
        let cache = weighed(u64::MAX, segments, policy).max_entries(40).build().unwrap();
        for key in 0..size(500, 100) as u64 {
            cache.insert(key, key % 7);
            cache.validate();
        }
        assert!(cache.len() >= 39, "{}", cache.len());
    });
}
