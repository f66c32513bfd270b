//! The listener and other user code that calls the cache back: cases 53 to 57 and 59 of ADVERSARIES.
#![allow(missing_docs)]

mod common;

use common::{Census, Counted, for_all, logged, panics, settle, size};
use larder::{Cache, Computed, EvictionPolicy, InsertOptions, Op, RemovalCause};
use std::cell::Cell;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, Weak};

/// A cache whose listener can reach it.
type Shared = Cache<u64, u64>;

fn with_listener(
    capacity: u64,
    segments: usize,
    policy: EvictionPolicy,
    listener: impl Fn(&Shared, u64, u64, RemovalCause) + Send + Sync + 'static,
) -> Shared {
    let handle: Arc<OnceLock<Mutex<Shared>>> = Arc::default();
    let inside = Arc::clone(&handle);
    let cache = Cache::builder()
        .max_capacity(capacity)
        .segments(segments)
        .eviction_policy(policy)
        .eviction_listener(move |key: &u64, value: &u64, cause| {
            let cache =
                inside.get().expect("nothing leaves before the handle is set").lock().unwrap().clone();
            listener(&cache, *key, *value, cause);
        })
        .build()
        .unwrap();
    // A circle, which leaks: a listener that owns its cache is wrong outside of tests.
    assert!(handle.set(Mutex::new(cache.clone())).is_ok());
    cache
}

/// Case 53: a listener that uses the cache in every way, on its own and on other segments.
#[test]
fn case_53_a_listener_uses_the_cache() {
    thread_local! { static DEPTH: Cell<usize> = const { Cell::new(0) } }
    for_all(|policy, segments| {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let cache = with_listener(20, segments, policy, move |cache, key, value, _| {
            counter.fetch_add(1, SeqCst);
            if DEPTH.get() > 2 {
                return;
            }
            DEPTH.set(DEPTH.get() + 1);
            for other in [key, key + 1, key * 7 % 64] {
                match value % 9 {
                    0 => drop(cache.get(&other)),
                    1 => cache.insert(other, value + 1),
                    2 => drop(cache.remove(&other)),
                    3 => cache.invalidate_all(),
                    4 => drop(cache.compute(other, |_| Op::Insert(value + 1))),
                    5 => cache.retain(|key, _| key % 5 != 0),
                    6 => cache.set_capacity(15 + value % 7),
                    7 => {
                        cache.pin(&other);
                        cache.unpin(&other);
                        cache.run_pending_tasks();
                    }
                    _ => cache.drain().take(1).for_each(drop),
                }
                assert!(cache.weighted_size() <= cache.capacity());
                let _ = (cache.len(), cache.stats(), cache.coldest(3), cache.iter().count());
            }
            DEPTH.set(DEPTH.get() - 1);
        });
        for step in 0..size(400, 25) as u64 {
            cache.insert(step * 3 % 61, step);
            if step % 5 == 0 {
                cache.remove(&(step % 61));
            }
            cache.validate();
        }
        assert!(calls.load(SeqCst) > 20);
    });
}

/// Case 53: the entry is out of sight when the listener hears of it, the new value in sight.
#[test]
fn case_53_the_listener_sees_the_state_afterwards() {
    for_all(|policy, segments| {
        let cache = with_listener(10, segments, policy, |cache, key, value, cause| {
            match cause {
                RemovalCause::Replaced => assert_eq!(cache.get(&key), Some(value + 1)),
                _ => assert_eq!(cache.get(&key), None, "{cause}"),
            };
        });
        for key in 0..50 {
            cache.insert(key, 0);
            cache.insert(key, 1);
            if key % 3 == 0 {
                cache.remove(&key);
            }
            cache.insert_with(key + 1_000, 0, InsertOptions::new().weight(11));
        }
        cache.invalidate_all();
        cache.validate();
    });
}

/// Case 54: a listener that puts back what is cleared: clear and drain end all the same.
#[test]
fn case_54_a_listener_inserts_again_during_clear() {
    for_all(|policy, segments| {
        let fresh = AtomicU64::new(1_000_000);
        let cache = with_listener(1_000, segments, policy, move |cache, key, value, cause| {
            if cause == RemovalCause::Explicit && value < 1_000 {
                cache.insert(key, value + 1);
                cache.insert(fresh.fetch_add(1, Relaxed), 1_000);
            }
        });
        (0..size(200, 20) as u64).for_each(|key| cache.insert(key, 0));
        cache.invalidate_all();
        cache.validate();
        cache.retain(|_, _| false);
        cache.validate();
        cache.drain().for_each(drop);
        cache.validate();
        drop(cache.drain());
        cache.validate();
    });
}

/// Case 55: a listener that panics. The panic reaches the caller; everything else has been done by then: all the other
/// entries are reported, the new value is in, nothing waits for ever.
#[test]
fn case_55_a_listener_panics() {
    for_all(|policy, segments| {
        let census = Census::default();
        {
            let heard = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&heard);
            let cache: Cache<u64, Counted<u64>> = Cache::builder()
                .max_capacity(40)
                .segments(segments)
                .eviction_policy(policy)
                .eviction_listener(move |_: &u64, _: &Counted<u64>, _| {
                    counter.fetch_add(1, SeqCst);
                    panic!("on purpose");
                })
                .build()
                .unwrap();
            let fill = || {
                for key in 0..40 {
                    panics(|| cache.insert(key, census.count(key)));
                }
                heard.store(0, SeqCst);
                cache.len()
            };
            let check = |left: usize, what: &str| {
                assert_eq!(heard.load(SeqCst), left, "{what}: each departure is reported");
                cache.validate();
            };

            fill();
            assert!(panics(|| cache.insert(1, census.count(100))));
            assert_eq!(cache.get(&1).map(|value| *value.what), Some(100), "the new value is in");
            check(1, "replace");

            assert!(panics(|| cache.remove(&1)));
            assert!(!cache.contains_key(&1));
            check(2, "remove");

            let len = fill();
            assert!(panics(|| cache.invalidate_all()));
            assert_eq!(cache.len(), 0, "all went");
            check(len, "invalidate_all");

            let len = fill();
            assert!(panics(|| cache.retain(|_, _| false)));
            assert_eq!(cache.len(), 0, "all went");
            check(len, "retain");

            let len = fill();
            assert!(panics(|| cache.set_capacity(3)));
            assert_eq!(cache.len(), 3);
            check(len - 3, "set_capacity");
            cache.set_capacity(40);

            let len = fill();
            assert!(panics(|| drop(cache.drain())));
            assert_eq!(cache.len(), 0, "all went");
            check(len, "drain, dropped");

            let len = fill();
            let mut drain = cache.drain();
            let (mut more, mut given) = (true, 0);
            while more {
                panics(|| {
                    more = drain.next().is_some();
                    given += usize::from(more);
                });
            }
            drop(drain);
            assert_eq!((cache.len(), given), (0, len), "all went, and were given");
            check(len, "drain, step by step");

            // The panic of `next` unwinds through the iterator, whose `Drop` goes on and panics again: no abort.
            let len = fill();
            assert!(panics(|| cache.drain().for_each(drop)));
            assert_eq!(cache.len(), 0, "all went");
            check(len, "drain, unwound");

            // A heavy entry takes room from all segments, in place of its own lighter self.
            let len = fill();
            assert!(panics(|| cache.insert_with(7, census.count(7), InsertOptions::new().weight(40))));
            assert_eq!(cache.len(), 1);
            assert!(cache.contains_key(&7));
            check(len, "heavy");

            assert!(panics(|| cache.insert_with(7, census.count(7), InsertOptions::new().weight(41))));
            assert_eq!(cache.len(), 0);
            check(len + 2, "too heavy");

            cache.insert(1, census.count(1));
            assert!(panics(|| cache.compute(1, |_| Op::Remove)));
            assert!(cache.is_empty());
            check(len + 3, "compute");
        }
        assert_eq!(census.living(), 0);
    });
}

/// Case 56: exactly one notification for each entry, with its cause, over all operations.
#[test]
fn case_56_one_notification_with_the_right_cause() {
    for_all(|policy, segments| {
        let builder = Cache::builder().max_capacity(100).segments(segments).eviction_policy(policy);
        let (builder, log) = logged(builder);
        let cache: Cache<u64, u64> = builder.build().unwrap();
        let told = || std::mem::take(&mut *log.lock().unwrap());
        let explicit = |key, value| vec![(key, value, RemovalCause::Explicit)];

        cache.insert(1, 10);
        assert_eq!(told(), []);
        cache.insert(1, 11);
        assert_eq!(told(), [(1, 10, RemovalCause::Replaced)]);
        cache.remove(&1);
        assert_eq!(told(), explicit(1, 11));
        cache.remove(&1);
        assert_eq!(told(), []);
        cache.insert(1, 12);
        assert!(cache.invalidate(&1));
        assert_eq!(told(), explicit(1, 12));
        cache.insert(1, 13);
        assert_eq!(cache.remove_if(&1, |_, value| *value == 12), None);
        assert_eq!(told(), []);
        assert_eq!(cache.remove_if(&1, |_, value| *value == 13), Some(13));
        assert_eq!(told(), explicit(1, 13));
        cache.insert(1, 14);
        cache.retain(|_, _| false);
        assert_eq!(told(), explicit(1, 14));
        cache.insert(1, 15);
        assert_eq!(cache.drain().collect::<Vec<_>>(), [(1, 15)]);
        assert_eq!(told(), explicit(1, 15));
        cache.insert(1, 16);
        cache.invalidate_all();
        assert_eq!(told(), explicit(1, 16));
        assert_eq!(cache.compute(1, |_| Op::Insert(17)), Computed::Inserted(17));
        assert_eq!(cache.compute(1, |_| Op::Keep), Computed::Kept(17));
        assert_eq!(told(), []);
        assert_eq!(cache.compute(1, |_| Op::Insert(18)), Computed::Replaced(18));
        assert_eq!(told(), [(1, 17, RemovalCause::Replaced)]);
        assert_eq!(cache.compute(1, |_| Op::Remove), Computed::Removed(18));
        assert_eq!(told(), explicit(1, 18));
        assert_eq!(cache.compute(1, |_| Op::Remove), Computed::Absent);
        assert_eq!(cache.entry(1).or_insert(19), 19);
        assert_eq!(cache.entry(1).or_insert(20), 19);
        assert_eq!(told(), []);
        cache.insert_with(2, 0, InsertOptions::new().weight(101));
        assert_eq!(told(), [(2, 0, RemovalCause::Rejected)]);
        cache.pin(&1);
        cache.unpin(&1);
        assert_eq!(told(), []);
        cache.set_capacity(0);
        assert_eq!(told(), [(1, 19, RemovalCause::Size)]);
        cache.set_capacity(1);
        cache.insert(5, 5);
        drop(cache);
        assert_eq!(told(), [], "dropping the cache does not notify");
    });
}

/// Case 56, by many threads: what was inserted is what was reported and what is still there, each once.
#[test]
fn case_56_notifications_add_up_under_contention() {
    for_all(|policy, segments| {
        let builder = Cache::builder().max_capacity(60).segments(segments).eviction_policy(policy);
        let (builder, log) = logged(builder);
        let cache: Cache<u64, u64> = builder.build().unwrap();
        let (rounds, threads) = (size(2_000, 40) as u64, 3);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let cache = &cache;
                scope.spawn(move || {
                    for round in 0..rounds {
                        let id = thread * rounds + round;
                        cache.insert(id * 7 % 130, id);
                        match round % 16 {
                            3 => drop(cache.remove(&(id % 130))),
                            7 => drop(cache.compute(id % 130, |_| Op::Remove)),
                            9 if thread == 0 && round % 128 == 9 => cache.invalidate_all(),
                            11 if round % 64 == 11 => drop(cache.drain().next()),
                            13 if round % 64 == 13 => cache.retain(|key, _| key % 3 != 0),
                            _ => {}
                        }
                    }
                });
            }
        });
        cache.validate();
        let mut ids: Vec<u64> = log.lock().unwrap().iter().map(|event| event.1).collect();
        ids.extend(cache.iter().map(|(_, id)| id));
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..threads * rounds), "each value left once or is there");
    });
}

/// Case 57: the `Drop` of a value uses the cache that held it.
#[test]
fn case_57_a_drop_uses_the_cache() {
    struct Caller {
        cache: Weak<OnceLock<Cache<u64, Caller>>>,
        key: u64,
        calls: Arc<AtomicUsize>,
    }
    impl Drop for Caller {
        fn drop(&mut self) {
            self.calls.fetch_add(1, SeqCst);
            let Some(cell) = self.cache.upgrade() else { return };
            let Some(cache) = cell.get() else { return };
            cache.with(&self.key, |_| ());
            cache.invalidate(&(self.key + 1));
            assert!(cache.len() <= 20);
            if self.key.is_multiple_of(5) && self.key < 1_000 {
                cache.insert(
                    self.key + 1_001,
                    Self { cache: self.cache.clone(), key: self.key + 1_001, calls: Arc::clone(&self.calls) },
                );
            }
            cache.run_pending_tasks();
        }
    }
    for_all(|policy, segments| {
        let calls = Arc::new(AtomicUsize::new(0));
        let cell: Arc<OnceLock<Cache<u64, Caller>>> = Arc::default();
        let cache =
            Cache::builder().max_capacity(20).segments(segments).eviction_policy(policy).build().unwrap();
        assert!(cell.set(cache.clone()).is_ok());
        for step in 0..size(300, 30) as u64 {
            let key = step % 60;
            cache.insert(key, Caller { cache: Arc::downgrade(&cell), key, calls: Arc::clone(&calls) });
            if step % 7 == 0 {
                cache.invalidate(&key);
            }
        }
        settle(&cache);
        cache.validate();
        cache.invalidate_all();
        settle(&cache);
        // The values that are left are dropped when the cache is gone.
        drop(cell);
        drop(cache);
        assert!(calls.load(SeqCst) >= size(300, 30), "each of them was dropped");
    });
}

/// Case 59: a writer beside one that never rests gets its turns. Counted in rounds, not in time.
#[test]
#[cfg_attr(miri, ignore = "spins")]
fn case_59_no_writer_starves() {
    let cache: Cache<u64, u64> = Cache::builder()
        .max_capacity(100)
        .segments(1)
        .eviction_policy(EvictionPolicy::lru())
        .build()
        .unwrap();
    let done = AtomicBool::new(false);
    let restless = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut step = 0;
            // Bounded, so that a failure is one and not a hang.
            while !done.load(Relaxed) && step < 20_000_000 {
                cache.insert(step % 300, step);
                step += 1;
            }
            restless.store(step, SeqCst);
        });
        for step in 0..2_000 {
            cache.insert(step % 300, step);
        }
        done.store(true, Relaxed);
    });
    assert!(
        restless.load(SeqCst) < 20_000_000,
        "2,000 inserts took longer than 20 million of another thread"
    );
    cache.validate();
}

/// Writers beside each other change the same keys: of each key the listener hears in the order in which its values left.
#[test]
fn of_each_key_the_listener_hears_in_order() {
    for_all(|policy, segments| {
        let last: Arc<Mutex<std::collections::HashMap<u64, u64>>> = Arc::default();
        let heard = Arc::clone(&last);
        let cache: Cache<u64, u64> = Cache::builder()
            .max_capacity(40)
            .segments(segments)
            .eviction_policy(policy)
            .eviction_listener(move |key: &u64, version: &u64, _| {
                // Lets others overtake.
                std::thread::yield_now();
                let before = heard.lock().unwrap().insert(*key, *version);
                assert!(before.is_none_or(|before| before < *version), "{key}: {before:?}, then {version}");
            })
            .build()
            .unwrap();
        // A key's versions come in order, and so they leave.
        let versions: Vec<Mutex<u64>> = (0..60).map(|_| Mutex::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (cache, versions) = (&cache, &versions);
                scope.spawn(move || {
                    for round in 0..size(1_500, 20) as u64 {
                        let key = (round * 7 + thread) % 60;
                        if round % 8 == 5 {
                            cache.invalidate(&key);
                            continue;
                        }
                        let mut version = versions[key as usize].lock().unwrap();
                        *version += 1;
                        cache.insert(key, *version);
                    }
                });
            }
        });
        cache.validate();
    });
}

/// Entries that are evicted in use come back by the listener: not from within itself, and none is lost.
#[test]
fn a_listener_that_writes_does_not_nest() {
    thread_local! { static DEPTH: Cell<usize> = const { Cell::new(0) } }
    for_all(|policy, segments| {
        let (calls, returned) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counter, returns) = (Arc::clone(&calls), Arc::clone(&returned));
        let cache = with_listener(100, segments, policy, move |cache, key, value, cause| {
            DEPTH.set(DEPTH.get() + 1);
            assert_eq!(DEPTH.get(), 1);
            counter.fetch_add(1, SeqCst);
            if cause == RemovalCause::Size && value < 5 {
                returns.fetch_add(1, SeqCst);
                cache.insert(key, value + 1);
            }
            DEPTH.set(DEPTH.get() - 1);
        });
        let inserts = size(1_000, 200);
        (0..inserts as u64).for_each(|key| cache.insert(key, 0));
        let inserts = inserts + returned.load(SeqCst);
        assert_eq!(calls.load(SeqCst) + cache.len(), inserts, "each left once or is there");
        assert!(returned.load(SeqCst) > 0);
        cache.validate();
    });
}

/// The queue of one segment is long, and its writers wait: nothing is lost, and nothing grows without bound.
#[test]
fn writers_wait_for_a_slow_listener() {
    let (queued, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let heard = Arc::clone(&queued);
    let cache: Cache<u64, u64> = Cache::builder()
        .max_capacity(100)
        .segments(1)
        .eviction_listener(move |_, _, _| {
            (0..20).for_each(|_| std::thread::yield_now());
            heard.fetch_sub(1, SeqCst);
        })
        .build()
        .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (cache, queued, most) = (&cache, &queued, &most);
            scope.spawn(move || {
                for round in 0..size(1_000, 40) as u64 {
                    most.fetch_max(queued.fetch_add(1, SeqCst), SeqCst);
                    cache.insert(round * 4 + thread, round);
                }
            });
        }
    });
    assert_eq!(queued.load(SeqCst), cache.len(), "each entry left once or is there");
    // The capacity, and a batch that waits beside one that is being delivered.
    assert!(most.load(SeqCst) < 200, "{}", most.load(SeqCst));
}
