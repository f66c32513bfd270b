//! Entries that are invalidated together.
#![allow(missing_docs)]

mod common;

use common::loads::{Gate, Task};
use common::{for_all, logged, settle, size};
use larder::{Cache, Computed, InsertOptions, Op, RemovalCause, Tag};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::future::{pending, ready};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;

const KEYS: u64 = 20;
const TAGS: u64 = 6;

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, Vec<u64>),
    /// With the tags that the builder says.
    Plain(u64),
    Compute(u64),
    Remove(u64),
    InvalidateTag(u64),
    SetCapacity(u64),
    InvalidateAll,
    Pin(u64, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let tags = || prop::collection::vec(0..TAGS, 0..4);
    let step = prop_oneof![
        10 => (0..KEYS, tags()).prop_map(|(key, tags)| Step::Insert(key, tags)),
        3 => (0..KEYS).prop_map(Step::Plain),
        2 => (0..KEYS).prop_map(Step::Compute),
        3 => (0..KEYS).prop_map(Step::Remove),
        4 => (0..TAGS + 1).prop_map(Step::InvalidateTag),
        1 => (0..30u64).prop_map(Step::SetCapacity),
        1 => Just(Step::InvalidateAll),
        2 => (0..KEYS, any::<bool>()).prop_map(|(key, pinned)| Step::Pin(key, pinned)),
    ];
    prop::collection::vec(step, 0..120)
}

/// What the builder says of a key.
fn tags_of(key: u64) -> Vec<u64> {
    (0..key % 3).map(|n| (key + n) % TAGS).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: size(150, 2) as u32, failure_persistence: None, ..ProptestConfig::default() })]
    /// A model that knows each key's tags, and is told by a look at the cache what was evicted.
    #[test]
    fn a_tag_takes_its_entries_and_no_others(steps in steps(), capacity in 0..30u64) {
        for_all(|policy, segments| {
            let cache = Cache::builder()
                .max_capacity(capacity)
                .segments(segments)
                .eviction_policy(policy)
                .tags(|&key: &u64, _: &u64| tags_of(key))
                .build()
                .unwrap();
            // With whether they are the entry's own.
            let mut model: Vec<Option<(bool, BTreeSet<u64>)>> = vec![None; KEYS as usize];
            let by_rule = |key| Some((false, tags_of(key).into_iter().collect()));
            for (at, step) in steps.iter().cloned().enumerate() {
                let value = at as u64;
                match step {
                    Step::Insert(key, tags) => {
                        cache.insert_with(key, value, InsertOptions::new().tags(tags.clone()));
                        model[key as usize] = Some((true, tags.into_iter().collect()));
                    }
                    Step::Plain(key) => {
                        cache.insert(key, value);
                        model[key as usize] = by_rule(key);
                    }
                    Step::Compute(key) => {
                        let computed = cache.compute(key, |_| Op::Insert(value));
                        let keeps = matches!(model[key as usize], Some((true, _)));
                        if !keeps && !matches!(computed, Computed::Rejected(_)) {
                            model[key as usize] = by_rule(key);
                        }
                    }
                    Step::Remove(key) => {
                        cache.invalidate(&key);
                        model[key as usize] = None;
                    }
                    Step::InvalidateTag(tag) => {
                        let removed = cache.invalidate_tag(tag);
                        let carries = |entry: &Option<(bool, BTreeSet<u64>)>| {
                            entry.as_ref().is_some_and(|(_, tags)| tags.contains(&tag))
                        };
                        assert_eq!(removed, model.iter().filter(|tags| carries(tags)).count());
                        model.iter_mut().filter(|tags| carries(tags)).for_each(|tags| *tags = None);
                    }
                    Step::SetCapacity(capacity) => cache.set_capacity(capacity),
                    Step::InvalidateAll => {
                        cache.invalidate_all();
                        model.fill(None);
                    }
                    Step::Pin(key, pinned) => _ = if pinned { cache.pin(&key) } else { cache.unpin(&key) },
                }
                // What was evicted the model cannot know; nothing may be there that it has not.
                for key in 0..KEYS {
                    let there = cache.contains_key(&key);
                    assert!(!there || model[key as usize].is_some(), "{key} is there again");
                    if !there {
                        model[key as usize] = None;
                    }
                }
                cache.validate();
            }
        });
    }
}

/// More entries than are removed by one hold of the lock; the listener hears of each.
#[test]
fn a_tag_may_have_many_entries() {
    for segments in [1, 4] {
        let (builder, log) = logged(Cache::builder().max_capacity(2_000).segments(segments));
        let cache = builder.tags(|&key: &u64, _: &u64| [key % 2]).build().unwrap();
        let keys = size(1_000, 200) as u64;
        (0..keys).for_each(|key| cache.insert(key, key));
        assert_eq!(cache.invalidate_tag(1), keys as usize / 2);
        assert!(cache.iter().all(|(key, _)| key % 2 == 0));
        assert_eq!(cache.len(), keys as usize / 2);
        let log = log.lock().unwrap();
        assert_eq!(log.len(), keys as usize / 2);
        assert!(log.iter().all(|event| event.0 % 2 == 1 && event.2 == RemovalCause::Explicit));
    }
}

#[test]
fn a_listener_may_tag_anew_what_an_invalidation_removes() {
    let handle = Arc::new(OnceLock::<Cache<u64, u64>>::new());
    let again = Arc::clone(&handle);
    let cache = Cache::builder()
        .max_capacity(500)
        .tags(|_: &u64, _: &u64| [1])
        .eviction_listener(move |&key: &u64, &value: &u64, cause| {
            if cause == RemovalCause::Explicit {
                again.get().unwrap().insert(key, value + 1);
            }
        })
        .build()
        .unwrap();
    assert!(handle.set(cache.clone()).is_ok());
    let keys = size(200, 70) as u64;
    (0..keys).for_each(|key| cache.insert(key, 0));
    // It ends, and what came meanwhile stays.
    assert_eq!(cache.invalidate_tag(1), keys as usize);
    assert!(cache.iter().all(|(_, value)| value == 1));
    assert_eq!(cache.len(), keys as usize);
}

/// A load whose value carries a tag that was invalidated meanwhile is not kept; one with other tags is.
#[test]
fn an_invalidation_reaches_what_is_being_loaded() {
    for segments in [1, 4] {
        let cache = Cache::builder()
            .max_capacity(100)
            .segments(segments)
            .tags(|_: &u64, &value: &u64| [value % 10])
            .build()
            .unwrap();
        let load = |key, value, tag: u64| {
            cache.get_or_load(key, |_| {
                cache.invalidate_tag(tag);
                value
            })
        };
        assert_eq!(load(1, 13, 3), 13);
        assert_eq!(cache.get(&1), None, "it carries the tag");
        assert_eq!(load(1, 13, 4), 13);
        assert_eq!(cache.get(&1), Some(13), "it carries another");
        // Before the load began.
        cache.invalidate_tag(5);
        assert_eq!(cache.get_or_load(2, |_| 25), 25);
        assert_eq!(cache.get(&2), Some(25));
        // Of many keys, each for itself, those that nobody has asked for, too.
        let found = cache.get_all_or_load([11, 12], |_: &[u64]| {
            cache.invalidate_tag(7);
            [(11, 7), (12, 8), (13, 17), (14, 18)]
        });
        assert_eq!(found.len(), 2);
        assert_eq!([11, 12, 13, 14].map(|key| cache.get(&key)), [None, Some(8), None, Some(18)]);
        // More than is remembered: nothing with a tag is kept then, to be sure.
        let many = |key, value| {
            cache.get_or_load(key, |_| {
                (100..2_000).for_each(|tag| _ = cache.invalidate_tag(tag));
                value
            })
        };
        assert_eq!(many(3, 36), 36);
        assert_eq!(cache.get(&3), None);
        cache.validate();
    }
}

/// Of those who wait for a load, only who asked before the tag was invalidated gets a value that carries it. Whoever asked
/// since loads anew, once the load has shown that it does.
#[test]
fn who_asks_after_an_invalidation_gets_nothing_loaded_before_it() {
    let cache =
        Cache::builder().max_capacity(100).tags(|_: &u64, &value: &u64| [value % 10]).build().unwrap();
    for (value, after, loads_anew) in [(13, 23, true), (14, 14, false)] {
        cache.invalidate(&1);
        let gate = Gate::default();
        let loading = gate.get();
        let mut lead = Task::new(cache.get_or_load_async(1, |_| loading)).starts();
        let mut before = Task::new(cache.get_or_load_async(1, |_| pending())).starts();
        let mut many = Task::new(cache.get_all_or_load_async([1], |_| pending::<[_; 1]>())).starts();
        cache.invalidate_tag(3);
        let loads = AtomicUsize::new(0);
        let load = |_: &u64| {
            loads.fetch_add(1, Relaxed);
            ready(23)
        };
        let mut since = [load, load].map(|load| Task::new(cache.get_or_load_async(1, load)).starts());
        let load_many = |keys: Vec<u64>| ready(keys.into_iter().map(|key| (key, 23)).collect::<Vec<_>>());
        let mut many_since = Task::new(cache.get_all_or_load_async([1], load_many)).starts();
        gate.give(value);
        assert_eq!((lead.ready(), before.ready(), many.ready()[&1]), (value, value, value));
        assert_eq!(cache.get(&1), (!loads_anew).then_some(value));
        assert_eq!(since.each_mut().map(Task::ready), [after, after]);
        assert_eq!(many_since.ready()[&1], after);
        assert_eq!((loads.load(Relaxed), cache.get(&1)), (usize::from(loads_anew), Some(after)));
    }
}

/// Writers that put tagged entries in, and one that invalidates: what it has seen before is gone after.
#[test]
fn nothing_that_carried_the_tag_is_seen_afterwards() {
    let cache: Cache<u64, u64> =
        Cache::builder().max_capacity(10_000).segments(4).tags(|&key, _| [key % 4]).build().unwrap();
    let rounds = size(300, 3) as u64;
    let keys = size(64, 8) as u64;
    let over = AtomicBool::new(false);
    let start = Barrier::new(3);
    thread::scope(|scope| {
        for writer in 0..2 {
            let (cache, over, start) = (&cache, &over, &start);
            scope.spawn(move || {
                start.wait();
                let mut value = writer;
                while !over.load(Relaxed) {
                    (0..keys).for_each(|key| cache.insert(key, value));
                    // Values only grow, by the writer.
                    value += 2;
                }
            });
        }
        start.wait();
        for round in 0..rounds {
            let tag = round % 4;
            let before: Vec<_> = (0..keys).map(|key| cache.get(&key)).collect();
            cache.invalidate_tag(Tag::from(tag));
            for key in (0..keys).filter(|key| key % 4 == tag) {
                let (before, after) = (before[key as usize], cache.get(&key));
                if let (Some(before), Some(after)) = (before, after) {
                    assert!(after != before, "{key} has its old value {before}");
                }
            }
        }
        over.store(true, Relaxed);
    });
    settle(&cache);
    cache.validate();
}
