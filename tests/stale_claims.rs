//! Claims come back, whoever loses them: who finds an entry due, or stale, and is to load it anew for all, may be given up,
//! panic, be too late or meet others. The next one loads all the same; and it has to wait only where a load has failed.
#![allow(missing_docs)]

mod common;

use common::loads::{Gate, Numbers, Task, leader, valued};
use common::soft::{fails, old, old_of, soft, stale_refreshes_failures, with_one};
use common::time::{NS, secs};
use common::{ends, panics, settle, size};
use larder::{Builder, Cache, Clock, EvictionPolicy, LoadError, Refresh};
use std::cell::Cell;
use std::future::{pending, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A cache with these keys, which are due.
fn due(builder: Builder<u64, u64>, clock: &Clock, keys: &[u64]) -> Numbers {
    let cache = builder.build().unwrap();
    keys.iter().for_each(|&key| cache.insert(key, key));
    clock.advance(secs(10));
    cache
}

/// Nobody has to wait: the next to come loads.
fn are_loaded_at_once(cache: &Numbers, keys: &[u64]) {
    for &key in keys {
        assert_eq!(cache.get_or_load(key, |_| 99), 99, "{key}");
    }
}

/// What a caller does who finds key 1 due, but brings no new value and no error.
type GivesUp = (&'static str, fn(&Numbers));

const GIVE_UP: [GivesUp; 3] = [
    ("a panic", |cache| assert!(panics(|| cache.get_or_load(1, |_| panic!("on purpose"))))),
    ("a future that was dropped", |cache| drop(leader(cache, 1, &Gate::default()))),
    // It has no need to load, and that other one is no more a failure than its own would have been.
    ("a refresh that was met, and dropped", |cache| {
        let refresh = Task::new(cache.refresh_async(1, |_| pending())).starts();
        assert_eq!(old(cache), 1);
        drop(refresh);
    }),
];

#[test]
fn who_gives_up_leaves_the_refresh_to_others() {
    for (name, gives_up) in GIVE_UP {
        for age in [secs(10), secs(30)] {
            let (_, cache) = with_one(age);
            gives_up(&cache);
            let (stale, ..) = stale_refreshes_failures(&cache);
            assert_eq!(cache.get_or_load(1, |_| 2), 2, "{name}");
            assert_eq!(stale_refreshes_failures(&cache), (stale, 1, 1), "{name}");
        }
        // Nor is an error to be made good for when the stale period has ended.
        let (clock, cache) = with_one(secs(60) - NS);
        gives_up(&cache);
        clock.advance(NS);
        assert_eq!(cache.get_or_load(1, |_| 2), 2, "{name}");
    }
}

/// It is no failure, so that the waits grow no longer; and no success, so that they grow no shorter either.
#[test]
fn what_is_given_up_has_no_place_in_a_row_of_failures() {
    for (name, gives_up) in GIVE_UP {
        let (clock, cache) = with_one(secs(10));
        assert_eq!(fails(&cache), Some(1));
        clock.advance(secs(1));
        (0..5).for_each(|_| gives_up(&cache));
        assert_eq!((fails(&cache), cache.stats().load_failure_count()), (Some(1), 2), "{name}");
        clock.advance(secs(2) - Duration::from_micros(1));
        assert_eq!(old(&cache), 1, "{name}");
        clock.advance(Duration::from_micros(1));
        assert_eq!(cache.get_or_load(1, |_| 2), 2, "{name}");
    }
}

/// Where what was loaded is out of date, but the old value is not.
#[test]
fn what_was_not_kept_is_loaded_again() {
    type Change = fn(&Numbers);
    let changes: [(&str, Duration, Change); 4] = [
        ("remove_if", secs(10), |cache| assert_eq!(cache.remove_if(&1, |_, _| false), None)),
        ("retain", secs(10), |cache| cache.retain(|_, _| true)),
        // Of the new value.
        ("invalidate_tag", secs(10), |cache| assert_eq!(cache.invalidate_tag(2), 0)),
        ("invalidate_tag", secs(30), |cache| assert_eq!(cache.invalidate_tag(2), 0)),
    ];
    for (name, age, change) in changes {
        let clock = Clock::manual();
        let cache = soft(&clock).tags(|_, &value| [value]).build().unwrap();
        cache.insert(1, 1);
        clock.advance(age);
        let loaded = cache.get_or_load(1, |_| {
            change(&cache);
            assert_eq!(old(&cache), 1, "{name}: one loads");
            2
        });
        assert_eq!((loaded, cache.peek(&1)), (2, (age == secs(10)).then_some(1)), "{name}");
        are_loaded_at_once(&cache, &[1]);
    }
}

/// If a load of the key is under way already there is no need for another.
#[test]
fn who_meets_a_refresh_leaves_it_to_that() {
    let (clock, cache) = with_one(secs(5));
    let gate = Gate::default();
    let opened = gate.get();
    let mut refresh = Task::new(cache.refresh_async(1, |_| opened)).starts();
    // However many come.
    for _ in 0..5 {
        clock.advance(secs(5));
        assert_eq!(old(&cache), 1);
    }
    gate.give(2);
    assert_eq!((refresh.ready(), old(&cache)), (2, 2));
}

#[test]
fn a_panic_of_the_weigher_takes_no_claim_along() {
    let clock = Clock::manual();
    let builder = soft(&clock).weigher(|_, &value| if value == 2 { panic!("on purpose") } else { 1 });
    let cache = due(builder, &clock, &[1]);
    assert!(panics(|| cache.get_or_load(1, |_| 2)));
    assert_eq!(cache.get(&1), Some(1));
    are_loaded_at_once(&cache, &[1]);
}

/// What is due is claimed before anything is loaded, and may then be in the way of none.
#[test]
fn a_call_for_many_that_comes_to_nothing_keeps_no_claim() {
    let all = [1, 2, 3];
    let nothing = |_: &[u64]| Vec::new();

    // It would wait for itself.
    let clock = Clock::manual();
    let cache = due(soft(&clock), &clock, &all);
    cache.get_or_load(4, |_| {
        let inner = cache.try_get_all_or_load([1, 2, 3, 4], |_: &[u64]| Ok::<_, ()>(Vec::new()));
        assert!(matches!(inner, Err(LoadError::Recursive)));
        4
    });
    are_loaded_at_once(&cache, &all);

    // The loader panics, or fails for a key of which there is nothing any more: two batches are not even begun.
    for panics_first in [true, false] {
        let clock = Clock::manual();
        let cache = due(soft(&clock).max_batch(1), &clock, &all);
        let loaded = || {
            cache.try_get_all_or_load(all, |keys: &[u64]| {
                assert_eq!(keys, [1], "one batch");
                assert!(!panics_first, "on purpose");
                cache.invalidate(&1);
                Err::<Vec<_>, _>(())
            })
        };
        if panics_first {
            assert!(panics(|| drop(loaded())));
        } else {
            assert!(loaded().is_err());
        }
        assert_eq!(stale_refreshes_failures(&cache), (0, 0, 3));
        are_loaded_at_once(&cache, &all);
    }

    // The hook panics over one: only that one has failed.
    let clock = Clock::manual();
    let hook = |refresh: Refresh<u64, u64>| {
        assert!(*refresh.key() != 2, "on purpose");
        let (_, new) = valued([*refresh.key()])[0];
        refresh.complete(new);
    };
    let cache = due(soft(&clock).refresh_with(hook), &clock, &all);
    assert!(panics(|| cache.get_all_or_load(all, nothing)));
    assert_eq!((cache.get(&1), old_of(&cache, 2), old_of(&cache, 3)), (Some(101), 2, 3));
    assert_eq!((cache.get(&3), stale_refreshes_failures(&cache)), (Some(103), (0, 2, 1)));
}

/// A key whose clone panics is looked at when others of the call have been claimed.
#[test]
fn a_panic_of_a_key_takes_no_claim_along() {
    thread_local! {
        static PANICS: Cell<bool> = const { Cell::new(false) };
    }
    #[derive(PartialEq, Eq, Hash, Debug)]
    struct Touchy(u64);
    impl Clone for Touchy {
        fn clone(&self) -> Self {
            assert!(self.0 != 2 || !PANICS.get(), "on purpose");
            Self(self.0)
        }
    }
    let clock = Clock::manual();
    let cache: Cache<Touchy, u64> = Cache::builder()
        .max_capacity(100)
        .refresh_after_write(secs(10))
        .clock(clock.clone())
        .build()
        .unwrap();
    (1..4).for_each(|key| cache.insert(Touchy(key), key));
    clock.advance(secs(10));
    PANICS.set(true);
    assert!(panics(|| cache.get_all_or_load((1..4).map(Touchy), |_: &[Touchy]| Vec::new())));
    PANICS.set(false);
    for key in 1..4 {
        assert_eq!(cache.get_or_load(Touchy(key), |_| 99), 99, "{key}");
    }
}

/// What a call for many asked for has failed if it did not come, whatever has come of the others.
#[test]
fn keys_that_a_call_for_many_did_not_get_wait() {
    let outcomes: [Result<Vec<(u64, u64)>, ()>; 2] = [Ok(vec![(2, 99)]), Err(())];
    for outcome in outcomes {
        let clock = Clock::manual();
        let cache = due(soft(&clock), &clock, &[1, 2]);
        let found = cache.try_get_all_or_load([1, 2], |_: &[u64]| outcome.clone()).unwrap();
        assert_eq!((found[&1], found[&2]), (1, if outcome.is_ok() { 99 } else { 2 }));
        assert_eq!((old(&cache), old_of(&cache, 2)), (1, found[&2]));
        clock.advance(secs(1));
        are_loaded_at_once(&cache, &[1]);
    }
}

/// Entries may have the place in memory of one that was claimed; the claims differ.
#[test]
fn a_claim_that_is_late_does_not_end_that_of_another_entry() {
    let clock = Clock::manual();
    let cache = due(soft(&clock).segments(1).eviction_policy(EvictionPolicy::lru()), &clock, &[1]);
    let gate = Gate::default();
    let failing = gate.get();
    let mut first = Task::new(cache.try_get_or_load_async(1, |_| failing)).starts();
    cache.invalidate(&1);
    settle(&cache);
    let others: Vec<u64> = (100..100 + size(100, 10) as u64).collect();
    for &key in &others {
        cache.insert(key, key);
        settle(&cache);
    }
    clock.advance(secs(10));
    let tasks: Vec<_> = others.iter().map(|&key| leader(&cache, key, &Gate::default())).collect();
    gate.give(Err(()));
    assert!(first.ready().is_err(), "it was made invalid");
    clock.advance(secs(5));
    others.iter().for_each(|&key| assert_eq!(old_of(&cache, key), key, "somebody loads it"));
    drop(tasks);
    are_loaded_at_once(&cache, &others);
}

/// One that is neither polled nor dropped, where a limit is set to that. Its value is not kept.
#[test]
fn who_is_stuck_is_replaced() {
    let clock = Clock::manual();
    let cache = due(soft(&clock).load_timeout(secs(5)), &clock, &[1]);
    let gate = Gate::default();
    let mut stuck = leader(&cache, 1, &gate);
    clock.advance(secs(5) - NS * (1 << 24));
    assert_eq!(old(&cache), 1);
    clock.advance(NS * (1 << 24));
    assert_eq!(cache.get_or_load(1, |_| 2), 2);
    gate.give(3);
    assert_eq!((stuck.ready(), cache.get(&1)), (3, Some(2)));
}

/// Each second somebody comes, and each load takes one more than the limit: with the same limit for all none would ever be kept.
#[test]
fn a_loader_slower_than_the_limit_lands_in_the_end() {
    let clock = Clock::manual();
    let cache = due(soft(&clock).time_to_live(secs(1_000)).load_timeout(secs(5)), &clock, &[1]);
    let mut under_way = Vec::new();
    let is_kept = (0..60).any(|second| {
        under_way.retain_mut(|(end, gate, task): &mut (u64, Gate<u64>, Task<'_, u64>)| {
            let goes_on = *end > second;
            if !goes_on {
                gate.give(2);
                assert_eq!(task.ready(), 2);
            }
            goes_on
        });
        let gate = Gate::default();
        let loading = gate.get();
        let mut task = Task::new(cache.get_or_load_async(1, |_| loading));
        if task.poll().is_pending() {
            under_way.push((second + 6, gate, task));
        }
        clock.advance(secs(1));
        cache.get(&1) == Some(2)
    });
    assert!(is_kept);
}

/// It holds the refresh that it would wait for.
#[test]
fn a_hook_that_refreshes_by_the_cache_is_told() {
    ends(|| {
        let (clock, handle) = (Clock::manual(), Arc::new(Mutex::new(None::<Numbers>)));
        let inner = Arc::clone(&handle);
        let hook = move |refresh: Refresh<u64, u64>| {
            let cache = inner.lock().unwrap().clone().unwrap();
            let loaded = cache.try_refresh(*refresh.key(), |_| Ok::<_, ()>(5));
            assert!(matches!(loaded, Err(LoadError::Recursive)));
        };
        let cache = due(soft(&clock).refresh_with(hook), &clock, &[1]);
        *handle.lock().unwrap() = Some(cache.clone());
        assert_eq!((old(&cache), stale_refreshes_failures(&cache)), (1, (0, 0, 1)));
        *handle.lock().unwrap() = None;
    });
}

/// Its error is of a kind that nobody expects: who waited for it loads, unless the old value is still good.
#[test]
fn who_waits_for_a_refresh_that_is_dropped_goes_on() {
    for (age, expected) in [(secs(60), 1), (secs(90), 9)] {
        let clock = Clock::manual();
        let handed = Arc::new(Mutex::new(None));
        let hook = Arc::clone(&handed);
        let builder = soft(&clock).refresh_with(move |refresh| *hook.lock().unwrap() = Some(refresh));
        let cache = due(builder, &clock, &[1]);
        assert_eq!(old(&cache), 1);
        clock.advance(age - secs(10));
        let mut sure = Task::new(cache.get_or_load_async(1, |_| ready(9))).starts();
        let mut unsure = Task::new(cache.try_get_or_load_async(1, |_| ready(Ok::<u64, ()>(9)))).starts();
        drop(handed.lock().unwrap().take());
        assert_eq!((sure.ready(), unsure.ready().unwrap()), (expected, expected));
        assert_eq!(stale_refreshes_failures(&cache).2, 1);
        assert_eq!(cache.stats().load_failure_count(), 1);
        assert_eq!(old(&cache), expected, "it waits, or is new");
    }
}

/// The cache looks again for what there is by then.
#[test]
fn a_loader_that_fails_gives_what_is_good_by_then() {
    type Meanwhile = fn(&Clock, &Numbers);
    let nothing: Meanwhile = |_, _| {};
    let invalidated: Meanwhile = |_, cache| _ = cache.invalidate(&1);
    let written: Meanwhile = |_, cache| cache.insert(1, 5);
    let [stale, failing, over]: [Meanwhile; 3] = [
        |clock, _| clock.advance(secs(20)),
        |clock, _| clock.advance(secs(50)),
        |clock, _| clock.advance(secs(80)),
    ];
    let table = [
        // Who found it due had a value to begin with.
        ("due", secs(10), nothing, Some(1)),
        ("due, then stale", secs(10), stale, Some(1)),
        ("due, then failing", secs(10), failing, Some(1)),
        ("due, then over", secs(10), over, None),
        ("due, then invalidated", secs(10), invalidated, None),
        ("due, then written", secs(10), written, Some(5)),
        ("stale, then over", secs(30), over, None),
        ("stale, then invalidated", secs(30), invalidated, None),
        ("stale, then written", secs(30), written, Some(5)),
        // Who missed it gets an old value only, as in a cache without refreshes.
        ("failing", secs(60), nothing, Some(1)),
        ("failing, then over", secs(60), over, None),
        ("failing, then invalidated", secs(60), invalidated, None),
        ("failing, then written", secs(60), written, None),
        ("over, then written", secs(90), written, None),
    ];
    for (name, age, meanwhile, expected) in table {
        let (clock, cache) = with_one(age);
        let loaded = cache.try_get_or_load(1, |_| {
            meanwhile(&clock, &cache);
            Err("on purpose")
        });
        assert_eq!(loaded.ok(), expected, "{name}");
        cache.validate();
    }
}
