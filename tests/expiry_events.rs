//! What ends goes, once, as `Expired`, and is heard of once: whoever comes across it, whatever the clock does meanwhile.
#![allow(missing_docs)]

mod common;

use common::time::{NS, TICK, builder, for_some, secs, tti, ttl};
use common::{Census, Counted, causes, logged, panics, settle, size};
use larder::{Cache, Clock, Computed, Expiry, InsertOptions, Op, RemovalCause};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

type Act = fn(&Cache<u64, u64>);

/// Frees what can be freed, until so many are left. Not at once where another test's reader is just busy.
fn frees<K, V>(cache: &Cache<K, V>, census: &Census, expected: i64) {
    for _ in 0..10_000 {
        cache.run_pending_tasks();
        if census.living() == expected {
            return;
        }
    }
    assert_eq!(census.living(), expected);
}

/// What may happen to the ended entry of key 1 in a cache of four, which is full.
const ACTS: [(&str, Act); 25] = [
    ("nothing", |_| {}),
    ("insert", |cache| cache.insert(1, 5)),
    ("insert, pinned", |cache| cache.insert_with(1, 5, InsertOptions::new().pinned(true))),
    ("insert that is refused", |cache| cache.insert_with(1, 5, InsertOptions::new().weight(100))),
    ("insert that needs more room", |cache| cache.insert_with(1, 5, InsertOptions::new().weight(4))),
    ("compute", |cache| assert_eq!(cache.compute(1, |_| Op::Insert(5)), Computed::Inserted(5))),
    ("compute, remove", |cache| assert_eq!(cache.compute(1, |_| Op::Remove), Computed::Absent)),
    ("or_insert", |cache| assert_eq!(cache.entry(1).or_insert(5), 5)),
    ("get_or_load", |cache| assert_eq!(cache.get_or_load(1, |_| 5), 5)),
    ("refresh", |cache| assert_eq!(cache.refresh(1, |_| 5), 5)),
    ("get_all_or_load", |cache| assert_eq!(cache.get_all_or_load([1], |_| [(1, 5), (9, 9)]).len(), 1)),
    ("get", |cache| assert_eq!(cache.get(&1), None)),
    ("remove", |cache| assert_eq!(cache.remove(&1), None)),
    ("remove after a load", |cache| {
        cache.get_or_load(7, |_| 7);
        assert_eq!(cache.remove(&1), None);
    }),
    ("remove_if", |cache| assert_eq!(cache.remove_if(&1, |_, _| unreachable!()), None)),
    ("pin", |cache| assert!(!cache.pin(&1))),
    ("retain", |cache| cache.retain(|_, _| false)),
    ("drain", |cache| assert!(cache.drain().all(|(key, _)| key != 1))),
    ("drain, dropped", |cache| drop(cache.drain())),
    ("invalidate_all", Cache::invalidate_all),
    ("invalidate_tag", |cache| _ = cache.invalidate_tag(1)),
    ("eviction", |cache| (10..30).for_each(|key| cache.insert(key, key))),
    ("a smaller capacity", |cache| cache.set_capacity(1)),
    ("no capacity", |cache| cache.set_capacity(0)),
    ("hottest", |cache| _ = cache.hottest(9)),
];

/// Case 56.
#[test]
fn what_ended_is_heard_of_once_and_as_expired_whatever_comes_then() {
    for_some(|policy, segments| {
        for (name, act) in ACTS {
            for pinned in [false, true] {
                // Not swept, since its tick is not over; in time to be swept by the next write; long since.
                for later in [Duration::ZERO, TICK, secs(1_000)] {
                    let clock = Clock::manual();
                    let builder = builder(&clock)
                        .max_capacity(4)
                        .segments(segments)
                        .eviction_policy(policy.clone())
                        .tags(|key: &u64, _: &u64| [*key]);
                    let (builder, log) = logged(builder);
                    let cache = builder.build().unwrap();
                    cache.insert_with(1, 10, ttl(secs(1)).pinned(pinned));
                    (2..5).for_each(|key| cache.insert(key, key));
                    // With several segments it may have been evicted for the others.
                    let there = cache.contains_key(&1);
                    clock.advance(secs(1) - NS);
                    // The wheel has it in its last tick from now on.
                    cache.run_pending_tasks();
                    clock.advance(NS + later);
                    act(&cache);
                    cache.validate();
                    clock.advance(TICK);
                    settle(&cache);
                    let of_it: Vec<_> =
                        log.lock().unwrap().iter().copied().filter(|e| (e.0, e.1) == (1, 10)).collect();
                    let cause = if there { RemovalCause::Expired } else { RemovalCause::Size };
                    assert_eq!(of_it, [(1, 10, cause)], "{name}, {policy}, {segments}, {later:?}");
                    assert_eq!(cache.stats().expiration_count(), u64::from(there), "{name}, {policy}");
                    assert_eq!(cache.stats().eviction_count(), causes(&log, RemovalCause::Size) as u64);
                    cache.validate();
                }
            }
        }
    });
}

/// A listener has heard of whatever is not there any more when the operation returns that removed it: also where that found
/// nothing to do for itself.
#[test]
fn who_sweeps_tells_the_listener_before_it_returns() {
    let acts: [Act; 8] = [
        |cache| _ = cache.remove(&99),
        |cache| _ = cache.invalidate(&99),
        |cache| _ = cache.compute(99, |_| Op::Remove),
        |cache| _ = cache.hottest(1),
        |cache| cache.insert(1, 1),
        |cache| cache.insert_with(1, 1, InsertOptions::new().weight(10_000)),
        |cache| _ = cache.invalidate_tag(99),
        |cache| _ = cache.get_or_load(8, |_| 8),
    ];
    for act in acts {
        for with_load in [false, true] {
            let clock = Clock::manual();
            let (builder, log) = logged(builder(&clock).segments(1));
            let cache = builder.build().unwrap();
            if with_load {
                cache.get_or_load(1, |_| 1);
                cache.remove(&1);
            }
            (10..15).for_each(|key| cache.insert_with(key, key, ttl(secs(1))));
            clock.advance(secs(2));
            act(&cache);
            let heard = log.lock().unwrap().iter().filter(|event| event.0 >= 10).count();
            let there = cache.len() - cache.keys().count();
            assert_eq!(heard + there, 5, "some have left unheard");
            cache.validate();
        }
    }
}

/// All that is over is gone after [`Cache::run_pending_tasks`], however much it is, but for what ended in this tick.
#[test]
fn pending_tasks_remove_all_that_is_over() {
    for_some(|policy, segments| {
        let (clock, census) = (Clock::manual(), Census::default());
        let cache = Cache::builder()
            .max_capacity(10_000)
            .clock(clock.clone())
            .segments(segments)
            .eviction_policy(policy)
            .build()
            .unwrap();
        let keys = size(2_000, 60) as u64;
        for key in 0..keys {
            let options = match key % 4 {
                0 => ttl(secs(key)),
                1 => tti(secs(key)).pinned(true),
                2 => ttl(Duration::from_nanos(key * 40_000)),
                _ => InsertOptions::new(),
            };
            cache.insert_with(census.count(key), census.count(key), options);
        }
        clock.advance(secs(keys / 2) + TICK);
        cache.run_pending_tasks();
        let expected = (0..keys).filter(|key| key % 4 == 3 || key % 4 < 2 && key * 2 > keys).count() as u64;
        assert_eq!(cache.len() as u64, expected);
        frees(&cache, &census, 2 * expected as i64);
        assert_eq!(cache.stats().expiration_count(), keys - expected);
        cache.validate();
        clock.advance(secs(keys) + TICK);
        cache.run_pending_tasks();
        assert_eq!(cache.len() as u64, keys / 4);
        frees(&cache, &census, 2 * (keys / 4) as i64);
    });
}

/// Case 18: keys that never come again, in a cache that is never full.
#[test]
fn memory_levels_off_where_all_keys_are_new() {
    let (clock, census) = (Clock::manual(), Census::default());
    let cache = Cache::builder()
        .max_capacity(u64::MAX)
        .clock(clock.clone())
        .segments(1)
        .time_to_live(secs(1))
        .build()
        .unwrap();
    let mut most = 0;
    for key in 0..size(100_000, 600) as u64 {
        cache.insert(key, census.count(key));
        if key % 10 == 0 {
            clock.advance(secs(1) / 20);
        }
        most = most.max(cache.len());
    }
    // Two hundred live at a time; some more wait for the next write.
    assert!(most < 250, "{most} at once");
    cache.validate();
    frees(&cache, &census, cache.len() as i64);
    drop(cache);
    assert_eq!(census.living(), 0);
}

/// Case 38: of those that end together one cannot go, and the others go all the same.
#[test]
fn what_cannot_go_does_not_keep_the_others() {
    let clock = Clock::manual();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&heard);
    let cache = builder(&clock)
        .segments(1)
        .eviction_listener(move |&key: &u64, _: &u64, cause| {
            list.lock().unwrap().push((key, cause));
            assert!(key != 3, "on purpose");
        })
        .build()
        .unwrap();
    (0..600).for_each(|key| cache.insert_with(key, key, ttl(secs(1)).pinned(key % 5 == 0)));
    clock.advance(secs(2));
    assert!(panics(|| cache.run_pending_tasks()));
    settle(&cache);
    assert_eq!(cache.len(), 0);
    let mut heard = heard.lock().unwrap().clone();
    heard.sort_unstable_by_key(|event| event.0);
    assert_eq!(heard, (0..600).map(|key| (key, RemovalCause::Expired)).collect::<Vec<_>>());
}

/// Case 38, with a reader that stays in an entry that ends.
#[test]
fn a_reader_may_be_in_an_entry_while_it_ends() {
    let (clock, census) = (Clock::manual(), Census::default());
    let cache = Cache::builder().max_capacity(100).clock(clock.clone()).segments(1).build().unwrap();
    (0..50_u64).for_each(|key| cache.insert_with(key, census.count(key), ttl(secs(1))));
    cache.with(&7, |value| {
        clock.advance(secs(2));
        cache.run_pending_tasks();
        assert_eq!(cache.len(), 0);
        assert!(cache.get(&7).is_none());
        (0..50).for_each(|key| cache.insert(key, census.count(key + 100)));
        assert_eq!(*value.what, 7);
    });
    frees(&cache, &census, 50);
    cache.validate();
}

/// Case 35: the time counts at which the lock was got, not that at which the caller came.
#[test]
fn a_life_begins_when_the_entry_gets_in() {
    let clock = Clock::manual();
    let slow = clock.clone();
    let weigher = move |_: &u64, value: &u64| {
        slow.advance(secs(*value));
        1
    };
    let cache = builder(&clock).weigher(weigher).time_to_live(secs(10)).build().unwrap();
    cache.insert(1, 8);
    clock.advance(secs(10) - NS);
    assert!(cache.contains_key(&1));
    clock.advance(NS);
    assert!(!cache.contains_key(&1));
}

/// Case 35, with a thread that waits for the lock. Its turn comes after the clock has moved.
#[test]
fn a_writer_that_waited_looks_at_the_clock_again() {
    let (come, has_come) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let may_go = Mutex::new(may_go);
    // `Eq` runs under the lock: key 1 holds it until it may go.
    struct Slow(u64, Option<Arc<dyn Fn() + Send + Sync>>);
    impl PartialEq for Slow {
        fn eq(&self, other: &Self) -> bool {
            [self, other].iter().for_each(|key| key.1.iter().for_each(|wait| wait()));
            self.0 == other.0
        }
    }
    impl Eq for Slow {}
    impl std::hash::Hash for Slow {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }
    let clock = Clock::manual();
    let begun = come.clone();
    let cache = Cache::builder()
        .max_capacity(10)
        .clock(clock.clone())
        .segments(1)
        .weigher(move |key: &Slow, _: &u64| {
            if key.0 == 2 {
                begun.send(()).unwrap();
            }
            1
        })
        .build()
        .unwrap();
    cache.insert(Slow(1, None), 1);
    let is_first = AtomicBool::new(true);
    let wait = Arc::new(move || {
        if is_first.swap(false, SeqCst) {
            come.send(()).unwrap();
            may_go.lock().unwrap().recv().unwrap();
        }
    });
    std::thread::scope(|scope| {
        scope.spawn(|| cache.insert(Slow(1, Some(wait)), 2));
        has_come.recv().unwrap();
        scope.spawn(|| cache.insert_with(Slow(2, None), 2, ttl(secs(10))));
        has_come.recv().unwrap();
        clock.advance(secs(100));
        go.send(()).unwrap();
    });
    assert!(cache.contains_key(&Slow(2, None)));
    clock.advance(secs(10) - NS);
    assert!(cache.contains_key(&Slow(2, None)));
    clock.advance(NS);
    assert!(!cache.contains_key(&Slow(2, None)));
    cache.validate();
}

/// Case 35: what ends while its user decides about it has ended.
#[test]
fn an_entry_that_ends_during_an_operation_has_ended() {
    for_some(|policy, segments| {
        let clock = Clock::manual();
        let late = clock.clone();
        let weigher = move |_: &u64, &value: &u64| {
            if value == 77 {
                late.advance(secs(10));
            }
            1
        };
        let builder = builder(&clock).eviction_policy(policy.clone()).segments(segments).weigher(weigher);
        let (builder, log) = logged(builder);
        let cache = builder.time_to_live(secs(10)).build().unwrap();
        let heard = |what| assert_eq!(std::mem::take(&mut *log.lock().unwrap()), what, "{policy}");
        let mut seen = Vec::new();
        cache.insert(1, 1);
        let computed = cache.compute(1, |now| {
            seen.push(now.copied());
            clock.advance(secs(10));
            Op::Insert(2)
        });
        assert_eq!((computed, seen), (Computed::Inserted(2), vec![Some(1), None]));
        heard(vec![(1, 1, RemovalCause::Expired)]);
        let mut seen = Vec::new();
        let computed = cache.compute(1, |now| {
            seen.push(now.copied());
            clock.advance(secs(10));
            Op::Remove
        });
        assert_eq!((computed, seen), (Computed::Absent, vec![Some(2), None]));
        heard(vec![(1, 2, RemovalCause::Expired)]);
        // The same where the time passes in the weigher, after the decision.
        cache.insert(1, 3);
        let mut seen = Vec::new();
        let computed = cache.compute(1, |now| {
            seen.push(now.copied());
            Op::Insert(if seen.len() == 1 { 77 } else { 4 })
        });
        assert_eq!((computed, seen), (Computed::Inserted(4), vec![Some(3), None]));
        heard(vec![(1, 3, RemovalCause::Expired)]);
        cache.insert(1, 77);
        heard(vec![(1, 4, RemovalCause::Expired)]);
        // The same where it is not swept on the way, since its tick is not over.
        let last = || {
            clock.advance(secs(10) - NS);
            cache.run_pending_tasks();
        };
        last();
        let removed = cache.remove_if(&1, |_, _| {
            clock.advance(NS);
            true
        });
        assert_eq!(removed, None);
        heard(vec![(1, 77, RemovalCause::Expired)]);
        cache.insert(1, 5);
        last();
        let mut seen = Vec::new();
        let computed = cache.compute(1, |now| {
            seen.push(now.copied());
            clock.advance(NS);
            Op::Remove
        });
        assert_eq!((computed, seen), (Computed::Absent, vec![Some(5), None]));
        heard(vec![(1, 5, RemovalCause::Expired)]);
        cache.insert(1, 6);
        last();
        let computed = cache.compute(1, |_| {
            clock.advance(NS);
            Op::Insert(7)
        });
        assert_eq!(computed, Computed::Inserted(7));
        heard(vec![(1, 6, RemovalCause::Expired)]);
        cache.invalidate_all();
        log.lock().unwrap().clear();
        (1..4).for_each(|key| cache.insert(key, key));
        cache.retain(|_, _| {
            clock.advance(secs(10));
            false
        });
        assert_eq!(causes(&log, RemovalCause::Expired), log.lock().unwrap().len());
        cache.validate();
    });
}

/// Case 27: where an `Expiry` panics the cache is as it was.
#[test]
fn an_expiry_that_panics_leaves_the_entry_as_it_was() {
    struct Picky;
    impl Expiry<u64, Counted<u64>> for Picky {
        fn after_create(&self, _: &u64, value: &Counted<u64>) -> Option<Duration> {
            assert!(*value.what != 13, "on purpose");
            Some(secs(10))
        }
        fn after_read(&self, _: &u64, value: &Counted<u64>, _: Option<Duration>) -> Option<Duration> {
            assert!(*value.what != 14, "on purpose");
            Some(secs(10))
        }
    }
    for_some(|policy, segments| {
        let (clock, census) = (Clock::manual(), Census::default());
        let cache = Cache::builder()
            .max_capacity(100)
            .clock(clock.clone())
            .eviction_policy(policy)
            .segments(segments)
            .expire_after(Picky)
            .build()
            .unwrap();
        for key in 0..20 {
            cache.insert(key, census.count(14));
            assert!(panics(|| cache.insert(key, census.count(13))));
            assert!(panics(|| cache.insert(key + 100, census.count(13))));
            assert!(panics(|| cache.compute(key, |_| Op::Insert(census.count(13)))));
            assert!(panics(|| cache.get_or_load(key + 100, |_| census.count(13))));
            assert!(panics(|| cache.get(&key)));
            assert!(panics(|| cache.with(&key, |_| ())));
            assert!(panics(|| cache.get_many(&[key])));
            assert_eq!(cache.peek(&key).map(|value| *value.what), Some(14));
            assert!(!cache.contains_key(&(key + 100)));
            cache.validate();
        }
        // The reads have not put the end off, and loads are begun anew.
        clock.advance(secs(10));
        assert_eq!(*cache.get_or_load(100, |_| census.count(1)).what, 1);
        clock.advance(TICK);
        frees(&cache, &census, 1);
        assert_eq!(cache.len(), 1);
        drop(cache);
        assert_eq!(census.living(), 0);
    });
}

/// Where nobody knows how many entries there will be, what is known of their lives grows with them; and it may be needed only
/// when many are there already.
#[test]
fn lives_are_known_of_any_number_of_entries() {
    for segments in [1, 4] {
        for with_reads in [false, true] {
            let clock = Clock::manual();
            let mut builder = Cache::builder()
                .max_capacity(u64::MAX)
                .clock(clock.clone())
                .segments(segments)
                .weigher(|_: &u64, _: &[u64; 512]| 1);
            if with_reads {
                builder = builder.max_reads(3);
            }
            let cache = builder.build().unwrap();
            let keys = size(6_000, 300) as u64;
            let reads = |key: u64| (0..4).filter(|_| cache.get(&key).is_some()).count();
            let plain = |key: u64| key < keys / 2 || key % 4 == 3;
            for key in 0..keys {
                let options = match key % 4 {
                    _ if plain(key) => InsertOptions::new(),
                    0 => ttl(secs(10)),
                    1 => tti(secs(10)),
                    _ => tti(secs(10)).ttl(secs(15)),
                };
                cache.insert_with(key, [key; 512], options);
            }
            let all =
                |lives: &dyn Fn(u64) -> bool| (0..keys).all(|key| cache.contains_key(&key) == lives(key));
            clock.advance(secs(9));
            (0..keys).for_each(|key| assert_eq!(cache.with(&key, |value| value[9]), Some(key)));
            clock.advance(secs(5));
            assert!(all(&|key| plain(key) || key % 4 != 0));
            clock.advance(secs(1));
            assert!(all(&|key| plain(key) || key % 4 == 1));
            cache.validate();
            clock.advance(secs(4));
            assert!(all(&|key| plain(key)));
            assert!((0..keys).all(|key| reads(key)
                == if !plain(key) {
                    0
                } else if with_reads {
                    2
                } else {
                    4
                }));
            clock.advance(TICK);
            cache.run_pending_tasks();
            assert_eq!(cache.len(), if with_reads { 0 } else { (0..keys).filter(|&key| plain(key)).count() });
            cache.validate();
        }
    }
}
