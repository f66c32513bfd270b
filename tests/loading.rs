//! One loader for each key, and its value for all who ask meanwhile: case 40 of ADVERSARIES.
//!
//! What becomes of a load that goes wrong is in `loading_fate.rs`; what writes and invalidations do to it, in
//! `stale_loads.rs`; calls for many keys are in `loading_many.rs`, and random schedules in `loading_model.rs`.
#![allow(missing_docs)]

mod common;

use common::loads::{Gate, Numbers, Task, block_on, counting, joiner, leader, numbers, until_waiting};
use common::{ends, panics, size, until};
use larder::{Cache, Clock};
use std::future::ready;
use std::sync::Barrier;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// Case 40: many threads ask for the same missing key at the same moment, and its loader runs once. Round after round, in a
/// cache too small for all, so that loads and evictions meet.
#[test]
fn one_loader_runs_for_64_threads() {
    ends(|| {
        let (threads, rounds) = (size(64, 4), size(1_000, 5) as u64);
        let cache = counting().max_capacity(100).segments(4).build().unwrap();
        let loads: Vec<_> = (0..rounds).map(|_| AtomicUsize::new(0)).collect();
        let start = Barrier::new(threads);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for round in 0..rounds {
                        start.wait();
                        let value = cache.get_or_load(round, |&key| {
                            loads[key as usize].fetch_add(1, SeqCst);
                            thread::yield_now();
                            key + 7
                        });
                        assert_eq!(value, round + 7);
                        // Nobody is at the next key, for which this one may be evicted, while somebody asks for this one.
                        start.wait();
                    }
                });
            }
        });
        assert!(loads.iter().all(|loads| loads.load(SeqCst) == 1), "{loads:?}");
        assert_eq!(cache.stats().load_success_count(), rounds);
        cache.validate();
    });
}

/// Case 40, where the cache keeps nothing: whoever comes after a load has ended loads anew, but never are there two loaders
/// of a key at the same time.
#[test]
fn loaders_of_a_key_do_not_overlap_where_nothing_is_kept() {
    let nothing = || Cache::<u64, u64>::builder().max_capacity(0);
    let heavy = || Cache::<u64, u64>::builder().max_capacity(10).weigher(|_, _| 11);
    for builder in [nothing, heavy] {
        ends(move || {
            let (threads, rounds) = (size(8, 3), size(500, 5) as u64);
            let cache = builder().build().unwrap();
            let (runs, loads) = (AtomicBool::new(false), AtomicUsize::new(0));
            let start = Barrier::new(threads);
            thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        for round in 0..rounds {
                            start.wait();
                            let value = cache.get_or_load(1, |key| {
                                assert!(!runs.swap(true, SeqCst), "two loaders at a time");
                                loads.fetch_add(1, SeqCst);
                                thread::yield_now();
                                runs.store(false, SeqCst);
                                *key
                            });
                            assert_eq!(value, 1, "round {round}");
                        }
                    });
                }
            });
            assert!(loads.into_inner() as u64 >= rounds);
            assert!(cache.is_empty());
            cache.validate();
        });
    }
}

/// The value reaches those who wait by way of the load, not of the cache.
#[test]
fn a_cache_that_keeps_nothing_serves_those_who_wait() {
    let cache = counting().max_capacity(0).build().unwrap();
    assert_eq!(cache.get_or_load(1, |_| 7), 7);
    assert_eq!(cache.get_or_load(1, |_| 8), 8);
    let gate = Gate::default();
    let mut lead = leader(&cache, 1, &gate);
    let mut wait = joiner(&cache, 1);
    gate.give(9);
    assert_eq!((lead.ready(), wait.ready(), cache.get(&1)), (9, 9, None));
}

#[test]
fn threads_and_tasks_wait_for_a_thread() {
    ends(|| {
        let cache = numbers();
        let (give, given) = channel();
        let (began, begins) = channel();
        let cache = &cache;
        thread::scope(|scope| {
            let lead = scope.spawn(move || {
                cache.get_or_load(1, |_| {
                    began.send(()).unwrap();
                    given.recv().unwrap()
                })
            });
            begins.recv().unwrap();
            let mut task = joiner(cache, 1);
            let wait = scope.spawn(|| cache.get_or_load(1, |_| unreachable!()));
            until_waiting(cache, 2);
            assert_eq!(task.wakes(), 0);
            give.send(5).unwrap();
            assert_eq!((lead.join().unwrap(), wait.join().unwrap()), (5, 5));
            assert_eq!((task.wakes(), task.ready()), (1, 5));
        });
        assert_eq!(cache.get(&1), Some(5));
    });
}

/// Also a task that sleeps in another thread until it is woken.
#[test]
fn threads_and_tasks_wait_for_a_task() {
    ends(|| {
        let cache = numbers();
        let gate = Gate::default();
        let mut lead = leader(&cache, 1, &gate);
        let mut task = joiner(&cache, 1);
        thread::scope(|scope| {
            let wait = scope.spawn(|| cache.get_or_load(1, |_| unreachable!()));
            let sleeps = scope.spawn(|| block_on(cache.get_or_load_async(1, |_| async { unreachable!() })));
            until_waiting(&cache, 3);
            gate.give(5);
            assert_eq!(lead.wakes(), 1);
            assert_eq!(lead.ready(), 5);
            assert_eq!((wait.join().unwrap(), sleeps.join().unwrap()), (5, 5));
            assert_eq!((task.wakes(), task.ready()), (1, 5));
        });
    });
}

#[test]
fn a_refresh_leaves_readers_the_value_before() {
    let cache = numbers();
    cache.insert(1, 5);
    let gate = Gate::default();
    let loading = gate.get();
    let mut refresh = Task::new(cache.refresh_async(1, |_| loading)).starts();
    assert_eq!(cache.get(&1), Some(5));
    assert_eq!(cache.get_or_load(1, |_| unreachable!("it is there")), 5);
    let mut joins =
        Task::new(cache.refresh_async(1, |_| async { unreachable!("it is being loaded") })).starts();
    gate.give(6);
    assert_eq!((refresh.ready(), joins.ready(), cache.get(&1)), (6, 6, Some(6)));
    assert!(cache.try_refresh(1, |_| Err("down")).is_err());
    assert_eq!(cache.get(&1), Some(6), "a failure leaves it, too");
    assert_eq!(block_on(cache.try_refresh_async(1, |_| ready(Ok::<_, ()>(8)))).unwrap(), 8);
    assert_eq!((cache.refresh(2, |_| 9), cache.get(&1), cache.get(&2)), (9, Some(8), Some(9)));
}

#[test]
fn absence_is_a_value() {
    let cache: Cache<u64, Option<u64>> = Cache::new(10);
    assert_eq!(cache.get_or_load(1, |_| None), None);
    assert_eq!(cache.get_or_load(1, |_| unreachable!("it is known that there is none")), None);
    assert_eq!(cache.get(&1), Some(None));
    cache.invalidate(&1);
    assert_eq!(cache.get_or_load(1, |_| Some(1)), Some(1));
}

#[test]
fn the_time_of_loads_is_real_under_a_manual_clock() {
    let cache = counting().clock(Clock::manual()).build().unwrap();
    let start = Instant::now();
    cache.get_or_load(1, |_| {
        until(|| !start.elapsed().is_zero());
        1
    });
    assert!(!cache.stats().average_load_time().is_zero());
}

#[test]
fn loads_are_counted() {
    ends(|| {
        let cache = numbers();
        let gate = Gate::default();
        let mut lead = leader(&cache, 1, &gate);
        let mut task = joiner(&cache, 1);
        gate.give(1);
        assert_eq!((lead.ready(), task.ready()), (1, 1));
        let mut took = Duration::ZERO;
        _ = cache.try_get_or_load(2, |_| {
            let start = Instant::now();
            until(|| !start.elapsed().is_zero());
            took = start.elapsed();
            Err::<u64, u8>(0)
        });
        assert!(panics(|| cache.get_or_load(3, |_| panic!("on purpose"))));
        cache.get_all_or_load([4, 5], |_| [(4, 4), (5, 5)]);
        cache.get_or_load(1, |_| unreachable!());
        let stats = cache.stats();
        let counts = (stats.load_success_count(), stats.load_failure_count(), stats.load_wait_count());
        assert_eq!(counts, (2, 1, 1), "the call for many counts once, the panic not at all");
        assert_eq!((stats.hit_count(), stats.miss_count()), (1, 6));
        assert!(stats.total_load_time() >= took);
        assert!(stats.average_load_time() * 3 <= stats.total_load_time());
        let plain = Numbers::new(1);
        plain.get_or_load(1, |_| 1);
        assert_eq!(plain.stats().load_success_count(), 0, "nobody asked for statistics");
    });
}

/// `get_or_load` alone counts one miss for a request, and refreshes an entry that is due.
#[test]
fn get_before_get_or_load_counts_two_misses_and_refreshes_nothing() {
    let clock = Clock::manual();
    let builder = Cache::builder().max_capacity(10).record_stats().clock(clock.clone());
    let cache: Cache<u32, u32> = builder.refresh_after_write(Duration::from_secs(1)).build().unwrap();
    assert_eq!(cache.get(&1).unwrap_or_else(|| cache.get_or_load(1, |_| 1)), 1);
    assert_eq!((cache.stats().miss_count(), cache.stats().hit_count()), (2, 0));
    assert_eq!(cache.get_or_load(2, |_| 1), 1);
    assert_eq!(cache.stats().miss_count(), 3);
    clock.advance(Duration::from_secs(2));
    assert_eq!(cache.get(&1).unwrap_or_else(|| cache.get_or_load(1, |_| 2)), 1);
    assert_eq!(cache.stats().refresh_count(), 0, "it is due");
    assert_eq!(cache.get_or_load(1, |_| 2), 2);
    assert_eq!(cache.stats().refresh_count(), 1);
}
