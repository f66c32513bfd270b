//! A load cannot undo a write or an invalidation that came after it began: cases 41, 42, 46, 51 and 60 of ADVERSARIES.
//!
//! What is said here case by case, `loading_model.rs` tries in random order. For tags, see `tags.rs`, too.
#![allow(missing_docs)]

mod common;

use common::loads::{Gate, Numbers, Task, counting, leader, numbers, until_waiting, valued};
use common::{Same, ends, size};
use larder::{InsertOptions, Op};
use std::collections::HashMap;
use std::future::pending;
use std::hash::BuildHasher;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;

/// Something that makes what is being loaded for key 1 out of date.
struct Change<S> {
    name: &'static str,
    act: fn(&Numbers<S>),
    /// The value of the key afterwards, from the one before.
    after: fn(Option<u64>) -> Option<u64>,
    /// Whether it concerns all keys.
    concerns_all: bool,
}

/// All of them; a few under Miri.
fn changes<S: BuildHasher + Send + Sync + 'static>() -> impl Iterator<Item = Change<S>> {
    let one = |name, act, after| Change { name, act, after, concerns_all: false };
    let all = |name, act, after| Change { name, act, after, concerns_all: true };
    let changes = vec![
        one("invalidate", |cache| _ = cache.invalidate(&1), |_| None),
        one("remove", |cache| _ = cache.remove(&1), |_| None),
        one("remove_if, yes", |cache| _ = cache.remove_if(&1, |_, _| true), |_| None),
        one("remove_if, no", |cache| _ = cache.remove_if(&1, |_, _| false), |before| before),
        one("insert", |cache| cache.insert(1, 5), |_| Some(5)),
        one("an insert that is refused", insert_too_heavy, |_| None),
        one("insert and remove", insert_and_remove, |_| None),
        one("compute, insert", |cache| _ = cache.compute(1, |_| Op::Insert(5)), |_| Some(5)),
        one("compute, remove", |cache| _ = cache.compute(1, |_| Op::Remove), |_| None),
        one("entry", |cache| _ = cache.entry(1).and_upsert_with(|_| 5), |_| Some(5)),
        one("invalidate in another thread", invalidate_elsewhere, |_| None),
        all("invalidate_all", |cache| cache.invalidate_all(), |_| None),
        all("retain, without it", |cache| cache.retain(|&key, _| key != 1), |_| None),
        all("retain, with all", |cache| cache.retain(|_, _| true), |before| before),
        all("drain", |cache| cache.drain().for_each(drop), |_| None),
        all("a drain that is dropped", |cache| drop(cache.drain()), |_| None),
    ];
    changes.into_iter().step_by(size(1, 5))
}

fn insert_too_heavy<S: BuildHasher + Send + Sync + 'static>(cache: &Numbers<S>) {
    cache.insert_with(1, 5, InsertOptions::new().weight(1_000_000));
}

fn insert_and_remove<S: BuildHasher + Send + Sync + 'static>(cache: &Numbers<S>) {
    cache.insert(1, 5);
    cache.remove(&1);
}

fn invalidate_elsewhere<S: BuildHasher + Send + Sync + 'static>(cache: &Numbers<S>) {
    thread::scope(|scope| assert!(scope.spawn(|| cache.invalidate(&1)).join().is_ok()));
}

/// Runs a test with caches of one and several segments, and where all keys have one hash.
macro_rules! for_all_caches {
    ($test:ident) => {
        for segments in [1, 4].into_iter().take(size(2, 1)) {
            ends(move || $test(&|| counting().segments(segments).build().unwrap()));
            ends(move || $test(&|| counting().segments(segments).build_with_hasher(Same).unwrap()));
        }
    };
}

/// Whoever comes afterwards finds `expected`, or loads anew, which is kept. Gives what is there then.
fn comes_later<S: BuildHasher + Send + Sync + 'static>(
    cache: &Numbers<S>,
    name: &str,
    expected: Option<u64>,
) -> u64 {
    // Walks through the whole cache take seconds under Miri.
    let walks = !cfg!(miri);
    assert_eq!(cache.get(&1), expected, "{name}");
    if walks {
        let found = cache.iter().find(|(key, _)| *key == 1);
        assert_eq!(found.map(|(_, value)| value), expected, "{name}");
    }
    let now = expected.unwrap_or(8);
    assert_eq!(cache.get_or_load(1, |_| 8), now, "{name}: loaded anew");
    assert_eq!(cache.get(&1), Some(now), "{name}: and kept");
    if walks {
        cache.validate();
    }
    now
}

/// Cases 41, 46 and 60: the caller gets what its loader gave, and the cache does not keep it. For a missing key, for a
/// refresh of one that is there, in a call for many keys, and for a key that such a call brings without being asked.
#[test]
fn changes_from_inside_the_loader() {
    fn test<S: BuildHasher + Send + Sync + 'static>(make: &dyn Fn() -> Numbers<S>) {
        for Change { name, act, after, .. } in changes::<S>() {
            let cache = make();
            let loader = |_: &u64| {
                act(&cache);
                3
            };
            assert_eq!(cache.get_or_load(1, loader), 3, "{name}");
            let before = comes_later(&cache, name, after(None));
            assert_eq!(cache.refresh(1, loader), 3, "{name}");
            comes_later(&cache, name, after(Some(before)));
            cache.invalidate(&1);
            let many = cache.get_all_or_load([1], |_| {
                act(&cache);
                [(1, 3), (1, 4)]
            });
            assert_eq!(many, HashMap::from([(1, 3)]), "{name}");
            comes_later(&cache, name, after(None));
            cache.invalidate(&1);
            cache.get_all_or_load([2], |_| {
                act(&cache);
                [(2, 2), (1, 3)]
            });
            comes_later(&cache, name, after(None));
        }
    }
    for_all_caches!(test);
}

/// Cases 41 and 42: those who wait get what was loaded, and however a load ends that is out of date (with a value, with an
/// error, or dropped), the one that has begun since is left alone: it is joined, and what it brings is kept.
#[test]
fn changes_from_outside_leave_the_next_load_alone() {
    fn test<S: BuildHasher + Send + Sync + 'static>(make: &dyn Fn() -> Numbers<S>) {
        for Change { name, act, after, .. } in changes::<S>() {
            let (cache, expected) = (&make(), after(None));
            let (gate, next): (Gate<u64>, Gate<u64>) = Default::default();
            let (loading, loading_next) = (gate.get(), next.get());
            let mut lead = Task::new(cache.get_or_load_async(1, |_| loading)).starts();
            let mut task = Task::new(cache.get_or_load_async(1, |_| pending())).starts();
            thread::scope(|scope| {
                let wait = scope.spawn(|| cache.get_or_load(1, |_| unreachable!()));
                until_waiting(cache, 2);
                scope.spawn(|| act(cache)).join().unwrap();
                let mut later = Task::new(cache.get_or_load_async(1, |_| loading_next));
                if expected.is_none() {
                    later = later.starts();
                }
                gate.give(3);
                assert_eq!((lead.ready(), task.ready(), wait.join().unwrap()), (3, 3, 3), "{name}");
                assert_eq!(cache.get(&1), expected, "{name}");
                if expected.is_none() {
                    let mut joins = Task::new(cache.get_or_load_async(1, |_| pending())).starts();
                    assert_eq!(later.wakes(), 0, "{name}");
                    next.give(4);
                    assert_eq!((later.ready(), joins.ready(), cache.get(&1)), (4, 4, Some(4)), "{name}");
                }
            });
            if expected.is_none() {
                cache.invalidate(&1);
                let error: Gate<Result<u64, u8>> = Gate::default();
                let (loading, last) = (error.get(), Gate::default());
                let loading_last = last.get();
                let mut fails = Task::new(cache.try_get_or_load_async(1, |_| loading)).starts();
                act(cache);
                let dropped = Task::new(cache.get_or_load_async(1, |_| pending())).starts();
                act(cache);
                let mut later = Task::new(cache.get_or_load_async(1, |_| loading_last)).starts();
                error.give(Err(1));
                assert!(fails.ready().is_err());
                drop(dropped);
                let mut joins = Task::new(cache.get_or_load_async(1, |_| pending())).starts();
                last.give(6);
                assert_eq!((later.ready(), joins.ready(), cache.get(&1)), (6, 6, Some(6)), "{name}");
            }
        }
    }
    for_all_caches!(test);
}

/// Case 41 in calls for many keys: only what has changed is not kept.
#[test]
fn changes_of_one_of_many() {
    for Change { name, act, after, concerns_all } in changes() {
        for segments in [1, 4] {
            let cache: Numbers = counting().segments(segments).build().unwrap();
            let gate = Gate::default();
            let mut many = Task::new(cache.get_all_or_load_async([1, 2], |_| gate.get())).starts();
            let mut single = Task::new(cache.get_or_load_async(1, |_| pending())).starts();
            act(&cache);
            gate.give(valued([1, 2, 3]));
            assert_eq!(many.ready(), HashMap::from([(1, 101), (2, 102)]), "{name}");
            assert_eq!(single.ready(), 101, "{name}");
            assert_eq!(cache.get(&2), (!concerns_all).then_some(102), "{name}");
            assert_eq!(cache.get(&3), (!concerns_all).then_some(103), "{name}");
            comes_later(&cache, name, after(None));
        }
    }
}

/// An entry that is made where there was none is a write, too; one that is only looked at is none.
#[test]
fn an_entry_that_was_filled_meanwhile_stays() {
    let cache = numbers();
    let fills = |_: &u64| {
        cache.entry(1).or_insert(5);
        7
    };
    assert_eq!((cache.get_or_load(1, fills), cache.get(&1)), (7, Some(5)));
    assert_eq!((cache.refresh(1, fills), cache.get(&1)), (7, Some(7)));
}

/// What a call for many brings without being asked is a write of that key: a load of it that began before is out of date.
#[test]
fn what_a_call_for_many_adds_ends_older_loads() {
    let cache = numbers();
    let (gate, next) = (Gate::default(), Gate::default());
    let mut older = leader(&cache, 1, &gate);
    cache.get_all_or_load([2], |_| valued([2, 1]));
    let mut newer = Task::new(cache.refresh_async(1, |_| next.get())).starts();
    gate.give(3);
    assert_eq!((older.ready(), cache.get(&1)), (3, Some(101)));
    next.give(4);
    assert_eq!((newer.ready(), cache.get(&1)), (4, Some(4)));
}

/// More changes than a call for many remembers: what it was not asked for is not kept, rather than kept wrongly.
#[test]
#[cfg_attr(miri, ignore = "too long for Miri")]
fn keys_that_nobody_asked_for_after_very_many_changes() {
    let cache = counting().segments(1).build().unwrap();
    cache.get_all_or_load([1], |_| {
        (0..3_000).for_each(|key| cache.insert(10_000 + key, 0));
        cache.insert(2, 2);
        cache.remove(&2);
        valued([1, 2, 3])
    });
    assert_eq!((cache.get(&1), cache.get(&2), cache.get(&3)), (Some(101), None, None));
    cache.get_all_or_load([4], |_| valued([4, 5]));
    assert_eq!(cache.get(&5), Some(105), "the next call begins anew");
}

/// An eviction is no invalidation: what was loaded is as good as before.
#[test]
fn evictions_leave_loads_alone() {
    for segments in [1, 4] {
        let cache = counting().max_capacity(10).segments(segments).build().unwrap();
        let fills = |_: &u64| {
            (100..200).for_each(|key| cache.insert(key, key));
            7
        };
        assert_eq!((cache.get_or_load(1, fills), cache.get(&1)), (7, Some(7)));
        let evicts = |_: &u64| {
            cache.set_capacity(0);
            assert_eq!(cache.get(&1), None);
            cache.set_capacity(100);
            2
        };
        assert_eq!((cache.refresh(1, evicts), cache.get(&1)), (2, Some(2)));
    }
}

/// Case 51: a refresh beside `compute`s loses none of their updates.
#[test]
fn loads_beside_compute() {
    ends(|| {
        let rounds = size(5_000, 30) as u64;
        let cache = numbers();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let raise = || {
                (0..rounds).for_each(|_| _ = cache.compute(1, |now| Op::Insert(now.map_or(1, |n| n + 1))));
            };
            let raises = [scope.spawn(raise), scope.spawn(raise)];
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    // What was there, or nothing: out of date as soon as a `compute` has returned.
                    cache.refresh(1, |key| {
                        let now = cache.peek(key).unwrap_or(0);
                        thread::yield_now();
                        now
                    });
                }
            });
            raises.into_iter().for_each(|thread| thread.join().unwrap());
            done.store(true, SeqCst);
        });
        assert_eq!(cache.get(&1), Some(2 * rounds));
        cache.validate();
    });
}

/// Case 60, with threads: after an invalidation nobody sees what the store had before.
#[test]
#[cfg_attr(miri, ignore = "too long for Miri")]
fn no_value_from_before_an_invalidation() {
    for segments in [1, 4] {
        ends(move || {
            let cache = counting().segments(segments).build().unwrap();
            let (store, valid) = (AtomicU64::new(1), AtomicU64::new(0));
            let done = AtomicBool::new(false);
            let load = |_: &u64| {
                let version = store.load(SeqCst);
                thread::yield_now();
                version
            };
            thread::scope(|scope| {
                for thread in 0..3 {
                    let (cache, done, valid) = (&cache, &done, &valid);
                    scope.spawn(move || {
                        while !done.load(Relaxed) {
                            let least = valid.load(SeqCst);
                            let version = match thread {
                                0 => cache.get_or_load(1, load),
                                1 => cache.refresh(1, load),
                                _ => cache.get_all_or_load([2], |_| [(2, load(&2)), (1, load(&1))])[&2],
                            };
                            assert!(version >= least, "{version} was made invalid by {least}");
                            if let Some(version) = cache.get(&1) {
                                assert!(version >= least, "{version} is there, after {least}");
                            }
                        }
                    });
                }
                for round in 0..2_000 {
                    let version = store.fetch_add(1, SeqCst) + 1;
                    match round % 4 {
                        0 => cache.invalidate_all(),
                        1 => cache.retain(|_, _| false),
                        2 => cache.drain().for_each(drop),
                        _ => _ = (cache.invalidate(&1), cache.remove(&2)),
                    }
                    valid.store(version, SeqCst);
                    for key in [1, 2] {
                        assert!(cache.get(&key).is_none_or(|found| found >= version), "{key} is out of date");
                    }
                }
                done.store(true, Relaxed);
            });
            cache.validate();
        });
    }
}
