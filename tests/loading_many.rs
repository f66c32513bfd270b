//! Loading: invalidations during a load, for one key and for many; calls for many keys; and what strangers' code may do
//! meanwhile. Cases 41, 42, 46 and 60 of ADVERSARIES, beside `loading.rs`.
#![allow(missing_docs)]

mod common;

use common::{Gate, Same, Task, ends, panics, size, until};
use larder::{BuildError, Builder, Cache, LoadError, Op};
use std::collections::HashMap;
use std::future::{pending, ready};
use std::hash::BuildHasher;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Barrier, OnceLock};
use std::task::{Poll, Wake, Waker};
use std::thread;

type Numbers<S = ahash::RandomState> = Cache<u64, u64, S>;

fn counting() -> Builder<u64, u64> {
    Cache::builder().max_capacity(1_000).record_stats()
}

/// Each key with a value of its own.
fn valued(keys: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
    keys.into_iter().map(|key| (key, key + 100)).collect()
}

/// All that makes key 1 out of date, and what it has afterwards.
type Voiding<S> = (&'static str, fn(&Numbers<S>), Option<u64>);

fn voidings<S: BuildHasher + Send + Sync + 'static>() -> Vec<Voiding<S>> {
    vec![
        ("invalidate", |cache| _ = cache.invalidate(&1), None),
        ("remove", |cache| _ = cache.remove(&1), None),
        ("remove_if", |cache| _ = cache.remove_if(&1, |_, _| true), None),
        ("insert", |cache| cache.insert(1, 5), Some(5)),
        ("compute, insert", |cache| _ = cache.compute(1, |_| Op::Insert(5)), Some(5)),
        ("compute, remove", |cache| _ = cache.compute(1, |_| Op::Remove), None),
        ("entry", |cache| _ = cache.entry(1).and_upsert_with(|_| 5), Some(5)),
        ("invalidate_all", |cache| cache.invalidate_all(), None),
        ("retain", |cache| cache.retain(|&key, _| key != 1), None),
        ("drain", |cache| cache.drain().for_each(drop), None),
        ("a drain that is dropped", |cache| drop(cache.drain()), None),
    ]
}

/// Tries something on caches of one and several segments, and where all keys have one hash.
macro_rules! for_all_caches {
    ($test:ident) => {
        for segments in [1, 4] {
            ends(move || $test(&|| counting().segments(segments).build().unwrap()));
            ends(move || $test(&|| counting().segments(segments).build_with_hasher(Same).unwrap()));
        }
    };
}

/// Who comes after it: gets what there is, or loads anew.
fn later<S: BuildHasher + 'static>(cache: &Numbers<S>, what: &str, expected: Option<u64>) {
    assert_eq!(cache.get(&1), expected, "{what}");
    assert_eq!(cache.iter().find(|(key, _)| *key == 1).map(|(_, value)| value), expected, "{what}");
    assert_eq!(cache.get_or_load(1, |_| 8), expected.unwrap_or(8), "{what}: loaded anew");
    assert_eq!(cache.get(&1), Some(expected.unwrap_or(8)), "{what}: and kept");
    cache.validate();
}

/// Cases 41, 46 and 60: those who wait get what was loaded, which is not kept.
#[test]
fn case_41_invalidation_from_inside_the_loader() {
    fn test<S: BuildHasher + Send + Sync + 'static>(make: &dyn Fn() -> Numbers<S>) {
        for (what, void, expected) in voidings::<S>() {
            let cache = make();
            let loader = |_: &u64| {
                void(&cache);
                3
            };
            assert_eq!(cache.get_or_load(1, loader), 3, "{what}");
            later(&cache, what, expected);
            // And where there is one already.
            assert_eq!(cache.refresh(1, loader), 3, "{what}");
            later(&cache, what, expected);
            cache.invalidate(&1);
            let many = cache.get_all_or_load([1], |_| {
                void(&cache);
                [(1, 3), (1, 4)]
            });
            assert_eq!(many, HashMap::from([(1, 3)]), "{what}");
            later(&cache, what, expected);
            // One that was not asked for.
            cache.invalidate(&1);
            cache.get_all_or_load([2], |_| {
                void(&cache);
                [(2, 2), (1, 3)]
            });
            later(&cache, what, expected);
        }
    }
    for_all_caches!(test);
}

/// The same from outside, with threads and tasks that wait; and case 42: what comes late does not touch its successor.
#[test]
fn case_41_and_42_invalidation_from_another_thread() {
    fn test<S: BuildHasher + Send + Sync + 'static>(make: &dyn Fn() -> Numbers<S>) {
        for (what, void, expected) in voidings::<S>() {
            let cache = &make();
            let (gate, next): (Gate<u64>, Gate<u64>) = Default::default();
            let (loading, loading_next) = (gate.get(), next.get());
            let mut lead = Task::new(cache.get_or_load_async(1, |_| loading)).starts();
            let mut task = Task::new(cache.get_or_load_async(1, |_| pending())).starts();
            thread::scope(|scope| {
                let wait = scope.spawn(|| cache.get_or_load(1, |_| unreachable!()));
                until(|| cache.stats().load_wait_count() == 2);
                scope.spawn(|| void(cache)).join().unwrap();
                // Its successor begins before it ends.
                let mut later = Task::new(cache.get_or_load_async(1, |_| loading_next));
                if expected.is_none() {
                    later = later.starts();
                }
                gate.give(3);
                assert_eq!((lead.ready(), task.ready(), wait.join().unwrap()), (3, 3, 3), "{what}");
                assert_eq!(cache.get(&1), expected, "{what}");
                if expected.is_none() {
                    let mut joins = Task::new(cache.get_or_load_async(1, |_| pending())).starts();
                    assert_eq!(later.wakes(), 0, "{what}");
                    next.give(4);
                    assert_eq!((later.ready(), joins.ready(), cache.get(&1)), (4, 4, Some(4)), "{what}");
                }
            });
            // An error, a panic and the end of a leader that is void leave the successor alone, too.
            if expected.is_none() {
                void(cache);
                let error: Gate<Result<u64, u8>> = Gate::default();
                let (loading, last) = (error.get(), Gate::default());
                let loading_last = last.get();
                let mut fails = Task::new(cache.try_get_or_load_async(1, |_| loading)).starts();
                void(cache);
                let dropped = Task::new(cache.get_or_load_async(1, |_| pending())).starts();
                void(cache);
                let mut later = Task::new(cache.get_or_load_async(1, |_| loading_last)).starts();
                error.give(Err(1));
                assert!(fails.ready().is_err());
                drop(dropped);
                let mut joins = Task::new(cache.get_or_load_async(1, |_| pending())).starts();
                last.give(6);
                assert_eq!((later.ready(), joins.ready(), cache.get(&1)), (6, 6, Some(6)), "{what}");
            }
        }
    }
    for_all_caches!(test);
}

/// The same for calls for many keys, as tasks: only the key that was changed is not kept; with all of them changed none.
#[test]
fn case_41_invalidation_of_one_of_many() {
    for (what, void, expected) in voidings() {
        for segments in [1, 4] {
            let cache: Numbers = counting().segments(segments).build().unwrap();
            let gate = Gate::default();
            let mut many = Task::new(cache.get_all_or_load_async([1, 2], |_| gate.get())).starts();
            let mut single = Task::new(cache.get_or_load_async(1, |_| pending())).starts();
            void(&cache);
            gate.give(valued([1, 2, 3]));
            assert_eq!(many.ready(), HashMap::from([(1, 101), (2, 102)]), "{what}");
            assert_eq!(single.ready(), 101, "{what}");
            let all = ["invalidate_all", "retain", "drain", "a drain that is dropped"].contains(&what);
            assert_eq!(cache.get(&2), (!all).then_some(102), "{what}");
            assert_eq!(cache.get(&3), (!all).then_some(103), "{what}");
            later(&cache, what, expected);
        }
    }
}

/// More changes than a call for many remembers: what it was not asked for is not kept, rather than kept wrongly.
#[test]
fn others_after_very_many_changes() {
    let cache: Numbers = counting().segments(1).build().unwrap();
    cache.get_all_or_load([1], |_| {
        (0..size(3_000, 1_100) as u64).for_each(|key| cache.insert(10_000 + key, 0));
        cache.insert(2, 2);
        cache.remove(&2);
        valued([1, 2, 3])
    });
    assert_eq!((cache.get(&1), cache.get(&2), cache.get(&3)), (Some(101), None, None));
    cache.get_all_or_load([4], |_| valued([4, 5]));
    assert_eq!(cache.get(&5), Some(105), "the next call begins anew");
}

/// Eviction is no invalidation: what was loaded is as good as before.
#[test]
fn evictions_do_not_make_loads_void() {
    for segments in [1, 4] {
        let cache: Numbers = counting().segments(segments).build().unwrap();
        cache.insert(1, 1);
        let evicts = |_: &u64| {
            cache.set_capacity(0);
            assert_eq!(cache.get(&1), None);
            cache.set_capacity(100);
            2
        };
        assert_eq!((cache.refresh(1, evicts), cache.get(&1)), (2, Some(2)));
    }
}

/// Case 60, with threads: after an invalidation nobody sees what the store had before.
#[test]
fn case_60_no_value_from_before_an_invalidation() {
    for segments in [1, 4] {
        ends(move || {
            let cache: Numbers = counting().segments(segments).build().unwrap();
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
                for round in 0..size(5_000, 30) {
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

#[test]
fn one_call_for_what_is_missing() {
    let cache: Numbers = counting().build().unwrap();
    cache.insert(1, 1);
    let gate = Gate::default();
    let loading = gate.get();
    let mut lead = Task::new(cache.get_or_load_async(2, |_| loading)).starts();
    let asked = AtomicUsize::new(0);
    let (answer, answered) = (Gate::default(), Gate::default());
    answered.give(());
    let mut many = Task::new(cache.get_all_or_load_async([1, 2, 3, 4, 3, 1, 5], |keys| {
        assert_eq!(keys, [3, 4, 5], "nobody has or loads these; none twice");
        asked.fetch_add(1, SeqCst);
        answer.get()
    }))
    .starts();
    let mut single = Task::new(cache.get_or_load_async(3, |_| pending())).starts();
    answer.give(valued([5, 3, 6, 3]));
    assert!(many.poll().is_pending(), "waits for 2");
    assert_eq!(single.ready(), 103, "as soon as it is there");
    gate.give(2);
    assert_eq!(lead.ready(), 2);
    assert_eq!(many.ready(), HashMap::from([(1, 1), (2, 2), (3, 103), (5, 105)]), "4 was not given");
    assert_eq!((asked.load(SeqCst), cache.get(&4), cache.get(&6)), (1, None, Some(106)));
    assert!(cache.get_all_or_load([], |_: &[u64]| -> Vec<(u64, u64)> { unreachable!() }).is_empty());
    cache.get_all_or_load([1, 6], |_: &[u64]| -> Vec<(u64, u64)> { unreachable!("all are there") });
    cache.validate();
}

/// A missing answer: a call for many goes without, a single caller asks for itself.
#[test]
fn those_who_wait_for_a_missing_answer() {
    let cache: Numbers = counting().build().unwrap();
    let gate = Gate::default();
    let mut lead = Task::new(cache.get_all_or_load_async([1, 2], |_| gate.get())).starts();
    let mut many = Task::new(cache.get_all_or_load_async([2, 1], |_| pending::<Vec<_>>())).starts();
    let mut single = Task::new(cache.get_or_load_async(2, |_| ready(9))).starts();
    gate.give(valued([1]));
    assert_eq!(lead.ready(), HashMap::from([(1, 101)]));
    assert_eq!(many.ready(), HashMap::from([(1, 101)]));
    assert_eq!((single.ready(), cache.get(&2)), (9, Some(9)));
}

#[test]
fn large_calls_are_split() {
    let cache: Numbers = counting().max_batch(3).build().unwrap();
    let mut batches = Vec::new();
    let found = cache.get_all_or_load(0..8, |keys| {
        batches.push(keys.to_vec());
        valued(keys.iter().copied())
    });
    assert_eq!(batches, [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]);
    assert_eq!(found, valued(0..8).into_iter().collect());
    assert_eq!(cache.stats().load_success_count(), 3);
    // What was loaded until an error is kept, and nobody is left waiting.
    let result = cache.try_get_all_or_load(10..16, |keys| {
        if keys.contains(&13) { Err("broken") } else { Ok(valued(keys.iter().copied())) }
    });
    assert!(matches!(result, Err(LoadError::Failed(error)) if *error == "broken"));
    assert_eq!((cache.get(&12), cache.get(&13)), (Some(112), None));
    assert_eq!(cache.get_all_or_load(10..16, |keys| valued(keys.iter().copied())).len(), 6);
    let error = Cache::<u64, u64>::builder().max_capacity(1).max_batch(0).build().unwrap_err();
    assert_eq!(error, BuildError::MaxBatch);
    assert!(error.to_string().contains("max_batch(0)"));
}

/// Calls for the same keys in opposite orders wait for each other, but never both.
#[test]
fn overlapping_calls_in_opposite_order() {
    for segments in [1, 4] {
        ends(move || {
            let rounds = size(2_000, 10) as u64;
            let cache: Numbers =
                Cache::builder().max_capacity(100_000).segments(segments).max_batch(3).build().unwrap();
            let loads = AtomicUsize::new(0);
            let start = Barrier::new(2);
            let ask = |keys: Vec<u64>| {
                let found = cache.get_all_or_load(keys.iter().copied(), |keys| {
                    loads.fetch_add(keys.len(), SeqCst);
                    thread::yield_now();
                    valued(keys.iter().copied())
                });
                assert_eq!(found, valued(keys).into_iter().collect());
            };
            thread::scope(|scope| {
                scope.spawn(|| {
                    for round in 0..rounds {
                        start.wait();
                        ask((8 * round..8 * round + 8).collect());
                    }
                });
                for round in 0..rounds {
                    start.wait();
                    ask((8 * round..8 * round + 8).rev().collect());
                }
            });
            assert_eq!(loads.into_inner() as u64, 8 * rounds, "each key once");
        });
    }
    // As tasks of one thread: both wait for 1 and 2, and one for what the other leads, when 1 and 2 are given up.
    for turn in [0, 1] {
        let cache: Numbers = counting().build().unwrap();
        let singles = [1, 2].map(|key| Task::new(cache.get_or_load_async(key, |_| pending())).starts());
        let gates: [Gate<()>; 2] = Default::default();
        let [mut first, mut second] =
            [(vec![1, 2, 3], &gates[0]), (vec![4, 3, 2, 1], &gates[1])].map(|(keys, gate)| {
                Task::new(cache.get_all_or_load_async(keys, |keys| {
                    let opened = gate.get();
                    async move {
                        opened.await;
                        valued(keys)
                    }
                }))
                .starts()
            });
        drop(singles);
        // 3 and 4, and then 1 and 2, by whoever comes first.
        let mut found = [None, None];
        for round in 0..4 {
            gates.iter().for_each(|gate| gate.give(()));
            for at in [(turn + round) % 2, (turn + round + 1) % 2] {
                let task = if at == 0 { &mut first } else { &mut second };
                if found[at].is_none()
                    && let Poll::Ready(values) = task.poll()
                {
                    found[at] = Some(values);
                }
            }
        }
        assert_eq!(found, [1..4, 1..5].map(|keys| Some(valued(keys).into_iter().collect())));
    }
}

/// A loader's error and its panic end all its flights: those who wait get the error, or load themselves.
#[test]
fn a_call_for_many_fails() {
    let cache: Numbers = counting().build().unwrap();
    let gate: Gate<Result<Vec<(u64, u64)>, String>> = Gate::default();
    let mut lead = Task::new(cache.try_get_all_or_load_async([1, 2], |_| gate.get())).starts();
    let mut many = Task::new(cache.try_get_all_or_load_async([2, 3], |keys| {
        assert_eq!(keys, [3]);
        ready(Ok::<_, String>(valued(keys)))
    }))
    .starts();
    let mut single = Task::new(cache.try_get_or_load_async(1, |_| pending::<Result<u64, String>>())).starts();
    let mut sure = Task::new(cache.get_or_load_async(1, |_| ready(5))).starts();
    gate.give(Err("broken".into()));
    let LoadError::Failed(error) = lead.ready().unwrap_err() else { panic!("it failed") };
    assert!(matches!(many.ready(), Err(LoadError::Failed(same)) if Arc::ptr_eq(&same, &error)));
    assert!(matches!(single.ready(), Err(LoadError::Failed(same)) if Arc::ptr_eq(&same, &error)));
    assert_eq!((cache.get(&2), cache.get(&3)), (None, Some(103)));
    assert_eq!(sure.ready(), 5);

    assert!(panics(|| cache.get_all_or_load([11, 12], |_| -> Vec<(u64, u64)> { panic!("on purpose") })));
    assert_eq!(cache.get_all_or_load([11, 12], |keys| valued(keys.iter().copied())).len(), 2);
    // Half-way through the answer.
    let half = |keys: &[u64]| {
        let keys = keys.to_vec();
        keys.into_iter().map(|key| if key == 22 { panic!("on purpose") } else { (key, 0) })
    };
    assert!(panics(|| cache.get_all_or_load([21, 22], half)));
    assert_eq!(cache.get_all_or_load([21, 22], |keys| valued(keys.iter().copied())).len(), 2);
    cache.validate();
}

/// Panics while a value lands are the leader's; those who wait are served.
#[test]
fn panics_while_a_value_lands() {
    #[derive(Debug)]
    struct Fragile(u64);
    static CLONES: AtomicUsize = AtomicUsize::new(usize::MAX);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            if CLONES.fetch_sub(1, SeqCst) == 0 {
                panic!("on purpose");
            }
            Self(self.0)
        }
    }
    let plain = || Cache::<u64, Fragile>::builder().max_capacity(1);
    let weigher = || plain().weigher(|_, value| if value.0 == 5 { panic!("on purpose") } else { 1 });
    let listener = || plain().eviction_listener(|_, _, _| panic!("on purpose"));
    for (make, clones) in [(&plain as &dyn Fn() -> _, 0), (&plain, 1), (&weigher, 99), (&listener, 99)] {
        CLONES.store(usize::MAX, SeqCst);
        let cache = make().build().unwrap();
        cache.insert(7, Fragile(7));
        let gate = Gate::default();
        let (loading, opened) = (gate.get(), Gate::default());
        let mut lead = Task::new(cache.get_or_load_async(1, |_| loading)).starts();
        let mut waits: Vec<_> =
            (0..3).map(|_| Task::new(cache.get_or_load_async(1, |_| opened.get())).starts()).collect();
        CLONES.store(clones, SeqCst);
        gate.give(Fragile(5));
        assert!(panics(|| drop(lead.poll())), "{clones}");
        CLONES.store(usize::MAX, SeqCst);
        opened.give(Fragile(6));
        for wait in &mut waits {
            assert_eq!(wait.wakes(), 1);
            let value = wait.ready().0;
            assert_eq!(value, 5, "what was loaded");
        }
        cache.validate();
        let gate = Gate::default();
        let mut many = Task::new(cache.get_all_or_load_async([11, 12], |_| gate.get())).starts();
        let mut waits: Vec<_> =
            [12, 11].map(|key| Task::new(cache.get_or_load_async(key, |_| pending())).starts()).into();
        CLONES.store(clones, SeqCst);
        gate.give(vec![(11, Fragile(5)), (12, Fragile(5))]);
        assert!(panics(|| drop(many.poll())), "{clones}");
        CLONES.store(usize::MAX, SeqCst);
        waits.iter_mut().for_each(|wait| assert_eq!(wait.ready().0, 5));
        cache.validate();
    }
}

/// Strangers' code that runs while a key is loaded, and that uses the same cache each time: it finds no lock held.
#[test]
fn strangers_code_may_use_the_cache() {
    static CACHE: OnceLock<Cache<Busy, Busy>> = OnceLock::new();
    thread_local!(static IS_BUSY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
    /// Uses the cache, in all ways that take a lock, also that of the segment's loads.
    fn use_it() {
        if !IS_BUSY.replace(true) {
            let cache = CACHE.get().unwrap();
            for key in [100, 101] {
                cache.invalidate(&Busy(key));
                cache.get_or_load(Busy(key), |_| Busy(1));
                cache.insert(Busy(key), Busy(2));
            }
            cache.get_all_or_load([Busy(102)], |_| []);
            IS_BUSY.set(false);
        }
    }
    #[derive(Debug, PartialEq, Eq, Hash)]
    struct Busy(u64);
    impl Clone for Busy {
        fn clone(&self) -> Self {
            use_it();
            Self(self.0)
        }
    }
    impl Drop for Busy {
        fn drop(&mut self) {
            use_it();
        }
    }
    /// Who waits holds the only handle.
    struct BusyWaker;
    impl Wake for BusyWaker {
        fn wake(self: Arc<Self>) {
            use_it();
        }
    }
    impl Drop for BusyWaker {
        fn drop(&mut self) {
            use_it();
        }
    }
    let waker = || Waker::from(Arc::new(BusyWaker));
    ends(move || {
        CACHE.get_or_init(|| {
            let builder = Cache::builder().max_capacity(4).segments(1);
            builder.weigher(|_, _| 1).eviction_listener(|_, _, _| use_it()).build().unwrap()
        });
        IS_BUSY.set(false);
        let cache = CACHE.get().unwrap();
        for key in 0..6 {
            let gate = Gate::default();
            let loading = gate.get();
            let mut lead = Task::new(cache.get_or_load_async(Busy(key), |_| loading)).starts();
            let mut many = Task::new(cache.get_all_or_load_async([Busy(key), Busy(key + 50)], |keys| {
                ready(keys.into_iter().map(|key| (key, Busy(4))))
            }));
            let mut wait = Task::new(cache.get_or_load_async(Busy(key), |_| pending()));
            let mut dropped = Task::new(cache.get_or_load_async(Busy(key), |_| pending()));
            for _ in 0..2 {
                assert!(many.poll_with(&waker()).is_pending());
                assert!(wait.poll_with(&waker()).is_pending());
                assert!(dropped.poll_with(&waker()).is_pending());
            }
            drop(dropped);
            if key % 2 == 0 {
                cache.invalidate(&Busy(key));
            }
            gate.give(Busy(3));
            assert_eq!(lead.ready(), Busy(3));
            assert_eq!((wait.ready(), many.ready().len()), (Busy(3), 2));
        }
        cache.refresh(Busy(1), |_| Busy(1));
        assert!(cache.try_refresh(Busy(1), |_| Err::<Busy, _>(Arc::new(Busy(0)))).is_err());
        drop(Task::new(cache.get_or_load_async(Busy(9), |_| pending())).starts());
        cache.invalidate_all();
        cache.validate();
        IS_BUSY.set(true);
    });
}
