//! Calls for many keys: what is missing is loaded by one call of the loader, and what others load is waited for.
#![allow(missing_docs)]

mod common;

use common::loads::{Gate, Numbers, Task, counting, leader, valued};
use common::{ends, panics, size};
use larder::{BuildError, Cache, LoadError};
use std::collections::HashMap;
use std::future::{pending, ready};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::thread;

/// The loader gets, once each, the keys that nobody has or loads. What it gives can be read at once, while the call still
/// waits for what others load; the first of several values counts; keys that it adds are kept, too.
#[test]
fn one_call_for_what_is_missing() {
    let cache = counting().segments(4).build().unwrap();
    cache.insert(1, 1);
    let gate = Gate::default();
    let mut lead = leader(&cache, 2, &gate);
    let (asked, answer) = (AtomicUsize::new(0), Gate::default());
    let mut many = Task::new(cache.get_all_or_load_async([5, 1, 2, 3, 4, 3, 1], |keys| {
        assert_eq!(keys, [5, 3, 4]);
        asked.fetch_add(1, SeqCst);
        answer.get()
    }))
    .starts();
    let mut single = Task::new(cache.get_or_load_async(3, |_| pending())).starts();
    answer.give(vec![(5, 50), (3, 30), (9, 90), (3, 31)]);
    assert!(many.poll().is_pending(), "waits for 2");
    assert_eq!([3, 4, 5, 9].map(|key| cache.get(&key)), [Some(30), None, Some(50), Some(90)]);
    assert_eq!(single.ready(), 30);
    gate.give(20);
    assert_eq!(lead.ready(), 20);
    assert_eq!(many.ready(), HashMap::from([(1, 1), (2, 20), (3, 30), (5, 50)]), "4 was not given");
    assert_eq!(asked.load(SeqCst), 1);
    assert!(cache.get_all_or_load([], |_: &[u64]| -> Vec<(u64, u64)> { unreachable!() }).is_empty());
    cache.get_all_or_load([1, 9], |_: &[u64]| -> Vec<(u64, u64)> { unreachable!("all are there") });
    cache.validate();
}

/// The loader leaves a key out: other calls for many go without it, and a caller for that key alone loads it.
#[test]
fn what_a_call_for_many_does_not_bring() {
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

/// `max_batch` limits how many keys a loader gets at once.
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

/// A key that is made invalid before its turn has come is loaded by whoever asks next. The split call goes on with what it
/// began, and calls its loader for the key at the same time, but what it gets for it is not kept.
#[test]
fn a_key_made_invalid_before_its_turn_is_loaded_twice_and_kept_once() {
    let cache = counting().max_batch(1).build().unwrap();
    let gates: [Gate<Vec<(u64, u64)>>; 2] = Default::default();
    let mut split =
        Task::new(cache.get_all_or_load_async([1, 2], |keys| gates[keys[0] as usize - 1].get())).starts();
    cache.invalidate(&2);
    let gate = Gate::default();
    let mut next = leader(&cache, 2, &gate);
    gates[0].give(valued([1]));
    assert!(split.poll().is_pending(), "its loader runs for 2, too");
    gates[1].give(vec![(2, 22)]);
    assert_eq!(split.ready(), HashMap::from([(1, 101), (2, 22)]));
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(101), None));
    gate.give(2);
    assert_eq!((next.ready(), cache.get(&2)), (2, Some(2)));
}

/// Calls for the same keys in opposite orders wait for each other's keys, but never so that neither can go on.
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
    // As tasks of one thread: both wait for 1 and 2, and the second for 3, which the first loads. Then 1 and 2 are given up.
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
        // They load 3 and 4, and then, whichever comes first, 1 and 2.
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

/// A loader's error, or its panic, concerns all its keys: those who wait get the error, or load themselves.
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
