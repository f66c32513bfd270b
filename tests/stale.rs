//! Entries that are loaded anew before they end, and those that are good for something after.
#![allow(missing_docs)]

mod common;

use common::loads::{Gate, Numbers, Task, leader};
use common::soft::{fails, old, old_of, soft, stale_refreshes_failures, with_one};
use common::time::{NS, TICK, builder, for_some, secs, tti, ttl};
use common::{causes, ends, logged, panics, settle, size, until};
use larder::{Cache, Clock, Expiry, Op, Refresh, RemovalCause};
use std::collections::HashMap;
use std::future::ready;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

#[test]
fn what_an_entry_is_good_for_depends_on_its_age() {
    for_some(|policy, segments| {
        let clock = Clock::manual();
        let cache = soft(&clock).eviction_policy(policy).segments(segments).build().unwrap();
        // Age, what reads see, whether a loader is asked, what its failure gives.
        let table = [
            (Duration::ZERO, Some(1), false, Some(1)),
            (secs(10) - NS, Some(1), false, Some(1)),
            (secs(10), Some(1), true, Some(1)),
            (secs(30) - NS, Some(1), true, Some(1)),
            (secs(30), None, true, Some(1)),
            (secs(60) - NS, None, true, Some(1)),
            (secs(60), None, true, Some(1)),
            (secs(90) - NS, None, true, Some(1)),
            (secs(90), None, true, None),
        ];
        for (age, seen, asks, after_failure) in table {
            cache.insert(1, 1);
            clock.advance(age);
            assert_eq!((cache.peek(&1), cache.contains_key(&1)), (seen, seen.is_some()), "{age:?}");
            assert_eq!((cache.iter().next(), cache.get_many([&1])), (seen.map(|one| (1, one)), vec![seen]));
            assert_eq!(cache.metadata(&1).map(|data| data.age), seen.map(|_| Some(age)));
            let mut asked = false;
            let loaded = cache.try_get_or_load(1, |_| {
                asked = true;
                Err::<u64, _>("on purpose")
            });
            assert_eq!((loaded.ok(), asked), (after_failure, asks), "{age:?}");
            cache.insert(1, 1);
            clock.advance(age);
            assert_eq!(cache.get_or_load(1, |_| 2), if asks { 2 } else { 1 }, "{age:?}");
            assert_eq!(cache.get(&1), Some(if asks { 2 } else { 1 }));
            cache.validate();
        }
    });
}

/// Whatever their number: the loader of one goes on only when all others have their value.
#[test]
fn one_caller_refreshes_and_the_others_get_the_old_value_at_once() {
    for age in [secs(10), secs(30)] {
        ends(move || {
            let (_, cache) = with_one(age);
            let (loads, served) = (AtomicU64::new(0), AtomicU64::new(0));
            let others = size(15, 3) as u64;
            thread::scope(|scope| {
                for _ in 0..=others {
                    scope.spawn(|| {
                        let value = cache.get_or_load(1, |_| {
                            loads.fetch_add(1, SeqCst);
                            until(|| served.load(SeqCst) == others);
                            2
                        });
                        if value == 1 {
                            served.fetch_add(1, SeqCst);
                        }
                    });
                }
            });
            assert_eq!((loads.load(SeqCst), served.load(SeqCst), cache.get(&1)), (1, others, Some(2)));
            let stale = if age == secs(30) { others } else { 0 };
            assert_eq!(stale_refreshes_failures(&cache), (stale, 1, 0));
            assert_eq!(cache.stats().load_wait_count(), 0);
        });
    }
}

#[test]
fn a_task_refreshes_as_well_as_a_thread() {
    let (_, cache) = with_one(secs(10));
    let gate = Gate::default();
    let mut lead = leader(&cache, 1, &gate);
    assert_eq!(old(&cache), 1);
    assert_eq!(Task::new(cache.get_or_load_async(1, |_| ready(9))).ready(), 1);
    gate.give(2);
    assert_eq!((lead.ready(), cache.get(&1)), (2, Some(2)));
}

/// Also if the one who refreshes asks for its own key.
#[test]
fn a_refreshing_loader_sees_the_old_value() {
    let (_, cache) = with_one(secs(30));
    let loaded = cache.get_or_load(1, |_| {
        assert_eq!(cache.get(&1), None);
        old(&cache) + 1
    });
    assert_eq!((loaded, cache.get(&1)), (2, Some(2)));
}

#[test]
fn after_a_failure_the_next_attempt_waits_and_longer_each_time() {
    let (clock, cache) = with_one(secs(10));
    // Seconds until the next, which fails again.
    for wait in [1, 2, 4, 8] {
        assert_eq!(fails(&cache), Some(1));
        clock.advance(secs(wait) - Duration::from_micros(1));
        assert_eq!((old(&cache), fails(&cache)), (1, Some(1)));
        clock.advance(Duration::from_micros(1));
    }
    assert_eq!(cache.stats().load_failure_count(), 4);
    // It is 25 seconds old by now. A value that comes ends that.
    assert_eq!(cache.get_or_load(1, |_| 2), 2);
    clock.advance(secs(10));
    assert_eq!((fails(&cache), old(&cache)), (Some(2), 2));
    clock.advance(secs(1));
    assert_eq!(cache.get_or_load(1, |_| 3), 3);
    assert_eq!(stale_refreshes_failures(&cache), (0, 2, 5));

    // A stop is put to the doubling; and the builder says where it begins.
    let clock = Clock::manual();
    let cache = soft(&clock).time_to_live(secs(1_000_000)).refresh_backoff(secs(10)).build().unwrap();
    cache.insert(1, 1);
    clock.advance(secs(10));
    let mut waited = 0;
    for failures in 0..10 {
        fails(&cache);
        assert_eq!(cache.stats().load_failure_count(), failures + 1);
        waited += 10 << failures.min(6);
        clock.advance(secs(10 << failures.min(6)));
    }
    assert_eq!(cache.metadata(&1).unwrap().age, Some(secs(10 + waited)));
}

#[test]
fn an_old_value_is_better_than_an_error() {
    let (clock, cache) = with_one(secs(60));
    assert_eq!(fails(&cache), Some(1));
    // It was a miss, and nobody is asked again for a while.
    assert_eq!((cache.stats().miss_count(), old(&cache)), (1, 1));
    clock.advance(secs(1));
    assert_eq!((fails(&cache), old(&cache)), (Some(1), 1));
    clock.advance(secs(1));
    assert_eq!(old(&cache), 1);
    clock.advance(secs(1));
    // Whoever waits for somebody else's failure is no worse off.
    let gate = Gate::<u64>::default();
    let opened = gate.get();
    let mut lead =
        Task::new(cache.try_get_or_load_async(1, |_| async { Err::<u64, _>(opened.await) })).starts();
    let mut wait = Task::new(cache.try_get_or_load_async(1, |_| ready(Err::<u64, u64>(0)))).starts();
    let mut many = Task::new(cache.try_get_all_or_load_async([1], |_| ready(Err::<[_; 0], u64>(0)))).starts();
    let mut sure = Task::new(cache.get_or_load_async(1, |_| ready(0))).starts();
    gate.give(9);
    assert_eq!(lead.ready().unwrap(), 1);
    assert_eq!((wait.ready().unwrap(), many.ready().unwrap()), (1, HashMap::from([(1, 1)])));
    assert_eq!(sure.ready(), 1);
    assert_eq!(cache.stats().load_failure_count(), 3);
    // What was asked for anew comes or does not.
    assert!(cache.try_refresh(1, |_| Err("on purpose")).is_err());
    clock.advance(secs(30));
    assert_eq!(fails(&cache), None);
}

/// Whatever ends a key ends it for those as well who bring a loader.
#[test]
fn what_was_removed_is_not_served_however_stale() {
    type Act = fn(&Cache<u64, u64>);
    let acts: [(&str, Act); 10] = [
        ("invalidate", |cache| assert!(!cache.invalidate(&1))),
        ("remove", |cache| assert_eq!(cache.remove(&1), None)),
        ("remove_if", |cache| assert_eq!(cache.remove_if(&1, |_, _| unreachable!()), None)),
        ("compute", |cache| _ = cache.compute(1, |_| Op::Remove)),
        ("retain", |cache| cache.retain(|_, _| unreachable!())),
        ("drain", |cache| assert_eq!(cache.drain().count(), 0)),
        ("drain, dropped", |cache| drop(cache.drain())),
        ("invalidate_all", Cache::invalidate_all),
        ("invalidate_tag", |cache| _ = cache.invalidate_tag("one")),
        ("no capacity", |cache| {
            cache.set_capacity(0);
            cache.set_capacity(100);
        }),
    ];
    for age in [secs(30), secs(60)] {
        for segments in [1, 8].into_iter().take(size(2, 1)) {
            for (name, act) in acts {
                let clock = Clock::manual();
                let (builder, log) = logged(soft(&clock).segments(segments).tags(|_, _| ["one"]));
                let cache = builder.build().unwrap();
                cache.insert(1, 1);
                clock.advance(age);
                act(&cache);
                assert_eq!(fails(&cache), None, "{name}");
                assert_eq!(
                    (causes(&log, RemovalCause::Expired), log.lock().unwrap().len()),
                    (1, 1),
                    "{name}"
                );
                cache.validate();
            }
        }
    }
}

#[test]
fn what_is_over_goes_when_it_is_good_for_nothing() {
    for_some(|policy, segments| {
        let clock = Clock::manual();
        let (builder, log) = logged(soft(&clock).eviction_policy(policy).segments(segments));
        let cache = builder.build().unwrap();
        (0..20).for_each(|key| cache.insert(key, key));
        cache.insert_with(20, 20, ttl(Duration::MAX));
        clock.advance(secs(90) - NS);
        cache.run_pending_tasks();
        assert_eq!(cache.len(), 21);
        cache.validate();
        // Whatever takes its place, it was its time that was over.
        assert_eq!(cache.try_get_or_load(0, |_| Ok::<_, ()>(100)).unwrap(), 100);
        assert_eq!((causes(&log, RemovalCause::Replaced), causes(&log, RemovalCause::Expired)), (0, 1));
        cache.insert(1, 101);
        assert_eq!((causes(&log, RemovalCause::Replaced), causes(&log, RemovalCause::Expired)), (0, 2));
        clock.advance(TICK);
        cache.run_pending_tasks();
        assert_eq!((cache.len(), causes(&log, RemovalCause::Expired)), (3, 20));
        assert_eq!(cache.stats().expiration_count(), 20);
        cache.validate();
    });
}

/// However long it was good for something, and whether reads had put off its end.
#[test]
fn what_is_over_goes_in_the_end() {
    for grace in [NS, secs(1), secs(5_000_000_000), Duration::MAX].into_iter().step_by(size(1, 3)) {
        for life in [ttl(secs(10)), tti(secs(10))] {
            let clock = Clock::manual();
            let cache = builder(&clock).stale_if_error(grace).build().unwrap();
            let keys = size(50, 10) as u64;
            for key in 0..keys {
                cache.insert_with(key, key, life.clone());
                clock.advance(Duration::from_millis(7));
                cache.get(&0);
            }
            clock.advance(secs(10));
            assert!((0..keys).all(|key| cache.get(&key).is_none()));
            cache.run_pending_tasks();
            cache.validate();
            if grace > NS {
                assert_eq!(cache.len() as u64, keys);
            }
            clock.advance(grace);
            clock.advance(TICK * 2);
            cache.run_pending_tasks();
            cache.validate();
            assert_eq!(cache.len(), 0, "{grace:?}");
        }
    }
}

/// What is loaded in the place of what is over is an entry of its own.
#[test]
fn a_pin_ends_with_its_entry() {
    let (clock, cache) = with_one(secs(10));
    assert!(cache.pin(&1));
    assert_eq!(cache.get_or_load(1, |_| 2), 2);
    assert!(cache.metadata(&1).unwrap().is_pinned, "it was not over");
    clock.advance(secs(30));
    assert!(!cache.unpin(&1), "it is not there");
    assert_eq!(cache.get_or_load(1, |_| 3), 3);
    assert!(!cache.metadata(&1).unwrap().is_pinned);
}

/// Those whose reads are used up are gone, whatever their age.
#[test]
fn stale_reads_are_counted() {
    let clock = Clock::manual();
    let cache = soft(&clock).max_reads(2).build().unwrap();
    cache.insert(1, 1);
    clock.advance(secs(30));
    let gate = Gate::default();
    let mut lead = leader(&cache, 1, &gate);
    assert_eq!(old(&cache), 1);
    let mut wait = Task::new(cache.get_or_load_async(1, |_| ready(9))).starts();
    gate.give(2);
    assert_eq!((lead.ready(), wait.ready(), cache.get(&1)), (2, 2, Some(2)));

    // One's own failure is a read as well, but not a second one for who found the entry due.
    for age in [secs(10), secs(30), secs(60)] {
        cache.insert(1, 3);
        clock.advance(age);
        assert_eq!((fails(&cache), fails(&cache), fails(&cache)), (Some(3), Some(3), None), "{age:?}");
        assert_eq!(cache.len(), 0);
    }
    cache.validate();
}

/// The stale period begins with the end of the entry, whatever brings that about.
#[test]
fn all_lives_have_their_stale_period() {
    struct ByValue;
    impl Expiry<u64, u64> for ByValue {
        fn after_create(&self, _: &u64, &value: &u64) -> Option<Duration> {
            Some(secs(value))
        }

        fn after_read(&self, _: &u64, _: &u64, remaining: Option<Duration>) -> Option<Duration> {
            assert_ne!(remaining, Some(Duration::ZERO), "that of an entry that is over");
            remaining
        }
    }
    let clock = Clock::manual();
    let builder = || {
        Cache::<u64, u64>::builder().max_capacity(100).stale_while_revalidate(secs(10)).clock(clock.clone())
    };
    let idle = builder().time_to_idle(secs(5)).build().unwrap();
    let varied = builder().expire_after(ByValue).build().unwrap();
    let own = builder().build().unwrap();
    idle.insert(1, 5);
    varied.insert(1, 5);
    own.insert_with(1, 5, ttl(secs(5)));
    clock.advance(secs(3));
    assert_eq!((idle.get(&1), varied.get(&1), own.get(&1)), (Some(5), Some(5), Some(5)));
    clock.advance(secs(5));
    for cache in [&idle, &varied, &own] {
        assert_eq!(cache.get(&1), None);
        let loaded = cache.get_or_load(1, |_| {
            // No read brings it back.
            assert_eq!((old(cache), cache.get(&1)), (5, None));
            7
        });
        assert_eq!((loaded, cache.get(&1)), (7, Some(7)));
    }
    clock.advance(secs(15));
    assert_eq!(varied.get_or_load(1, |_| 6), 6);
    clock.advance(secs(16));
    assert_eq!(fails(&idle), None);
    assert_eq!(fails(&varied), None);
}

#[test]
fn a_hook_has_refreshes_made_elsewhere() {
    let clock = Clock::manual();
    let tasks = Arc::new(Mutex::new(Vec::<Refresh<u64, u64>>::new()));
    let hook = Arc::clone(&tasks);
    let build = || {
        let hook = Arc::clone(&hook);
        soft(&clock).refresh_with(move |refresh| hook.lock().unwrap().push(refresh)).build().unwrap()
    };
    let next = || tasks.lock().unwrap().remove(0);
    let cache = build();
    cache.insert(1, 1);
    clock.advance(secs(10));
    assert_eq!((old(&cache), old(&cache), tasks.lock().unwrap().len()), (1, 1, 1));
    let refresh = next();
    assert_eq!((refresh.key(), format!("{refresh:?}").as_str()), (&1, "Refresh { key: 1, .. }"));
    // In a task, which may go from thread to thread.
    let mut task = Task::new(async move {
        let new = ready(refresh.key()).await + 1;
        refresh.complete(new);
    });
    thread::scope(|scope| _ = scope.spawn(|| task.ready()));
    assert_eq!((cache.get(&1), old(&cache)), (Some(2), 2));
    assert_eq!(stale_refreshes_failures(&cache), (0, 1, 0));

    // Dropped, it failed.
    clock.advance(secs(30));
    assert_eq!((old(&cache), old(&cache)), (2, 2));
    drop(next());
    assert_eq!((old(&cache), tasks.lock().unwrap().len()), (2, 0));
    assert_eq!(stale_refreshes_failures(&cache), (3, 1, 1));
    assert_eq!(cache.stats().load_failure_count(), 1);
    clock.advance(secs(1));
    assert_eq!(old(&cache), 2);

    // Changed meanwhile: it has no say.
    cache.insert(1, 5);
    next().complete(3);
    assert_eq!(cache.get(&1), Some(5));
    clock.advance(secs(10));
    assert_eq!(old(&cache), 5);
    cache.invalidate(&1);
    next().complete(3);
    assert_eq!(cache.get(&1), None);

    // Evicted meanwhile: who misses it waits for it.
    cache.insert(1, 6);
    clock.advance(secs(10));
    assert_eq!(old(&cache), 6);
    cache.set_capacity(0);
    cache.set_capacity(100);
    let mut wait = Task::new(cache.get_or_load_async(1, |_| ready(9))).starts();
    next().complete(7);
    assert_eq!(wait.ready(), 7);

    // It keeps the cache; and a miss is its caller's.
    let other = build();
    assert_eq!(other.get_or_load(1, |_| 1), 1);
    clock.advance(secs(10));
    assert_eq!(other.get_all_or_load([1], |_| -> [_; 0] { unreachable!() }), HashMap::from([(1, 1)]));
    drop(other);
    next().complete(2);
}

/// At once, in the hook itself, or by a panic in it.
#[test]
fn a_hook_may_do_what_it_likes() {
    let clock = Clock::manual();
    let handle = Arc::new(Mutex::new(None::<Numbers>));
    let inner = Arc::clone(&handle);
    let cache = soft(&clock)
        .refresh_with(move |refresh| {
            let cache = inner.lock().unwrap().clone().unwrap();
            assert_eq!(cache.get_or_load(1, |_| unreachable!()), 1);
            refresh.complete(2);
            assert_eq!(cache.get(&1), Some(2));
            panic!("on purpose");
        })
        .build()
        .unwrap();
    *handle.lock().unwrap() = Some(cache.clone());
    cache.insert(1, 1);
    clock.advance(secs(10));
    assert!(panics(|| cache.get_or_load(1, |_| unreachable!())));
    assert_eq!((old(&cache), stale_refreshes_failures(&cache)), (2, (0, 1, 0)));
    *handle.lock().unwrap() = None;
}

#[test]
fn many_keys_are_refreshed_with_those_that_are_missing() {
    let clock = Clock::manual();
    let cache = soft(&clock).build().unwrap();
    cache.insert(1, 1);
    clock.advance(secs(20));
    cache.insert(2, 2);
    clock.advance(secs(10));
    cache.insert(3, 3);
    // 1 is stale, 2 is due, 3 is fresh, 4 is missing. 1 is asked for twice.
    let all = |outcome: Result<Vec<(u64, u64)>, &'static str>| {
        let mut asked = Vec::new();
        let found = cache.try_get_all_or_load([1, 2, 3, 4, 1], |keys: &[u64]| {
            asked = keys.to_vec();
            outcome.clone()
        });
        asked.sort_unstable();
        (asked, found.ok())
    };
    // Nothing is known of 4.
    assert_eq!(all(Err("on purpose")), (vec![1, 2, 4], None));
    assert_eq!(stale_refreshes_failures(&cache).2, 2);
    // 1 and 2 wait now.
    let found = HashMap::from([(1, 1), (2, 2), (3, 3), (4, 40)]);
    assert_eq!(all(Ok(vec![(4, 40)])), (vec![4], Some(found.clone())));
    clock.advance(secs(1));
    // What fails for those that are there fails for nobody.
    assert_eq!(all(Err("on purpose")), (vec![1, 2], Some(found.clone())));
    clock.advance(secs(2));
    // What is left out stays as it is.
    let found = HashMap::from([(1, 1), (2, 20), (3, 3), (4, 40)]);
    assert_eq!(all(Ok(vec![(2, 20)])), (vec![1, 2], Some(found)));
    assert_eq!(stale_refreshes_failures(&cache), (5, 1, 5));
}

/// Case 40: as in the model, with threads: one load each time that it is due, and nobody sees a value go back.
#[test]
fn threads_refresh_once_each_time() {
    ends(|| {
        let clock = Clock::manual();
        let cache = soft(&clock).build().unwrap();
        let loads = AtomicU64::new(0);
        let load = |_: &u64| loads.fetch_add(1, SeqCst) + 1;
        assert_eq!(cache.get_or_load(1, load), 1);
        let rounds = size(300, 5) as u64;
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut last = 0;
                    while last <= rounds {
                        let value = cache.get_or_load(1, load);
                        assert!(value >= last, "{value} after {last}");
                        last = value;
                    }
                });
            }
            for round in 1..=rounds {
                // Due or stale, in turn.
                clock.advance(secs(if round % 2 == 0 { 10 } else { 30 }));
                until(|| loads.load(SeqCst) > round);
                until(|| cache.peek(&1) == Some(round + 1));
            }
        });
        assert_eq!((loads.load(SeqCst), cache.stats().refresh_count()), (rounds + 1, rounds));
        settle(&cache);
    });
}

/// Guarantee 9, of what is due, stale or failing: no call that begins after an invalidation has returned gives what was loaded
/// before.
#[test]
fn nothing_from_before_an_invalidation_is_served() {
    type Act = fn(&Numbers);
    let acts: [Act; 7] = [
        |cache| _ = cache.invalidate(&1),
        |cache| _ = cache.remove_if(&1, |_, _| true),
        |cache| cache.retain(|_, _| false),
        |cache| cache.drain().for_each(drop),
        Cache::invalidate_all,
        |cache| _ = cache.invalidate_tag("one"),
        |cache| _ = cache.compute(1, |_| Op::Remove),
    ];
    for (name, act) in acts.into_iter().enumerate().step_by(size(1, 5)) {
        for has_hook in [false, true] {
            ends(move || invalidates_beside_loads(name, act, has_hook));
        }
    }
}

fn invalidates_beside_loads(name: usize, invalidate: fn(&Numbers), has_hook: bool) {
    let nanos = Duration::from_nanos;
    let (clock, store) = (Clock::manual(), Arc::new(AtomicU64::new(0)));
    let mut builder = soft(&clock)
        .segments(1)
        .refresh_after_write(nanos(50))
        .time_to_live(nanos(100))
        .stale_while_revalidate(nanos(100))
        .stale_if_error(nanos(300))
        .refresh_backoff(nanos(300))
        .tags(|_, _| ["one"]);
    if has_hook {
        let store = Arc::clone(&store);
        builder = builder.refresh_with(move |refresh| {
            let value = store.load(SeqCst);
            if value % 3 != 0 {
                refresh.complete(value);
            }
        });
    }
    let cache = builder.build().unwrap();
    let (valid, reads, is_done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let read = |n: u64| {
        let least = valid.load(SeqCst);
        let load = || if n.is_multiple_of(3) { Err(()) } else { Ok(store.load(SeqCst)) };
        let value = match n % 5 {
            0 => cache.try_get_all_or_load([1], |_| load().map(|value| [(1, value)])).map(|all| all[&1]),
            _ => cache.try_get_or_load(1, |_| load()),
        };
        if let Ok(value) = value {
            assert!(value >= least, "{name}: {value} was made invalid before {least}");
        }
        clock.advance(nanos(n % 40));
        reads.fetch_add(1, SeqCst);
    };
    thread::scope(|scope| {
        for first in 0..2 {
            let (read, is_done) = (&read, &is_done);
            scope.spawn(move || (first..).take_while(|_| !is_done.load(SeqCst)).for_each(read));
        }
        for _ in 0..size(25, 1) {
            let before = reads.load(SeqCst);
            for _ in 0..size(16, 4) {
                let version = store.fetch_add(1, SeqCst) + 1;
                invalidate(&cache);
                valid.store(version, SeqCst);
            }
            until(|| reads.load(SeqCst) > before);
        }
        is_done.store(true, SeqCst);
    });
    cache.validate();
}

/// XFetch: what took long to load is loaded anew sooner, at random times; what was inserted is not.
#[test]
fn refreshes_come_early_by_chance() {
    // The mean time from the refresh to the end, in seconds, where it is asked for once a second.
    let mean_gap = |took: u64, beta: f64| {
        let entries = size(300, 1) as u64;
        let steps = size(500, 50) as u64;
        let mut gaps = 0;
        for key in 0..entries {
            let clock = Clock::manual();
            let cache = Cache::builder()
                .max_capacity(10)
                .time_to_live(secs(1_000))
                .refresh_early(beta)
                .clock(clock.clone())
                .build()
                .unwrap();
            cache.get_or_load(key, |_| {
                clock.advance(secs(took));
                0
            });
            cache.insert(entries, 0);
            clock.advance(secs(1_000 - steps));
            gaps += (0..steps)
                .rev()
                .find(|_| {
                    clock.advance(secs(1));
                    assert_eq!(cache.peek(&entries).map_or(0, |_| old_of(&cache, entries)), 0);
                    cache.get_or_load(key, |_| 1) == 1
                })
                .unwrap();
        }
        gaps as f64 / entries as f64
    };
    // A step that comes `left` seconds before the end refreshes with the probability exp(-left / (took * beta)).
    let table = [(10, 1.0, 28.4), (10, 2.0, 70.7), (20, 1.0, 70.7), (0, 1.0, 0.0)];
    for (took, beta, expected) in table.into_iter().take(size(4, 1)) {
        let mean = mean_gap(took, beta);
        // So few as there are under Miri have no mean to speak of.
        let is_so = cfg!(miri) || (mean - expected).abs() <= expected * 0.15;
        assert!(is_so, "{mean} for {took} times {beta}, not {expected}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    for beta in [-1.0, f64::NAN, f64::INFINITY] {
        let error = Cache::<u64, u64>::builder().max_capacity(1).refresh_early(beta).build().unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("`refresh_early({beta})` is out of range")),
            "{error}"
        );
    }
    // The longest times do no harm.
    let clock = Clock::manual();
    let cache = Cache::<u64, u64>::builder()
        .max_capacity(1)
        .time_to_live(secs(1))
        .refresh_after_write(Duration::MAX)
        .stale_while_revalidate(Duration::MAX)
        .stale_if_error(Duration::MAX)
        .refresh_backoff(Duration::MAX)
        .refresh_early(f64::MAX)
        .clock(clock.clone())
        .build()
        .unwrap();
    cache.insert(1, 1);
    clock.advance(secs(1_000_000_000));
    cache.run_pending_tasks();
    assert_eq!((cache.get(&1), fails(&cache), old(&cache)), (None, Some(1), 1));
    cache.validate();
    // And with none an entry is due at once, but each load counts.
    let cache =
        soft(&clock).refresh_after_write(Duration::ZERO).refresh_backoff(Duration::ZERO).build().unwrap();
    for round in 0..5 {
        assert_eq!(cache.get_or_load(1, |_| round), round);
    }
}
