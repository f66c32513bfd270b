//! Scans look at the clock at each step: what expires before its turn does not come, and what reads keep alive does.
#![allow(missing_docs)]

mod common;

use common::time::{builder, for_some, secs, ttl};
use common::{logged, size};
use larder::{Cache, Clock, Expiry, RemovalCause};
use std::cell::Cell;
use std::time::Duration;

type Numbers = Cache<u64, u64>;
/// Scans that call a function for each key that they meet.
type Scan = fn(&Numbers, &mut dyn FnMut(u64));

const SCANS: [(&str, Scan); 6] = [
    ("iter", |cache, visit| cache.iter().for_each(|(key, _)| visit(key))),
    ("for", |cache, visit| {
        for (key, _) in cache {
            visit(key);
        }
    }),
    ("keys", |cache, visit| cache.keys().for_each(visit)),
    ("for_each", |cache, visit| cache.for_each(|&key, _| visit(key))),
    ("retain", |cache, visit| {
        cache.retain(|&key, _| {
            visit(key);
            true
        });
    }),
    ("drain", |cache, visit| cache.drain().for_each(|(key, _)| visit(key))),
];

/// The entry of each key ends at that second, and each step takes one.
#[test]
fn what_expires_before_its_turn_does_not_come() {
    let keys = size(300, 40) as u64;
    for_some(|policy, segments| {
        for (name, scan) in SCANS {
            let clock = Clock::manual();
            let cache = builder(&clock).segments(segments).eviction_policy(policy.clone()).build().unwrap();
            (1..=keys).for_each(|key| cache.insert_with(key, key, ttl(secs(key))));
            let (mut now, mut met) = (0, Vec::new());
            scan(&cache, &mut |key| {
                assert!(key > now, "{name} gives {key} at {now}");
                met.push(key);
                clock.advance(secs(1));
                now += 1;
            });
            assert!((now + 1..=keys).all(|key| met.contains(&key)), "{name} leaves one out");
            met.sort_unstable();
            assert!(met.windows(2).all(|pair| pair[0] < pair[1]), "{name} gives one twice");
            cache.validate();
        }
    });
}

#[test]
fn what_reads_keep_alive_comes() {
    let keys = size(100, 30) as u64;
    for_some(|policy, segments| {
        // What `drain` has taken out nobody reads any more.
        for (name, scan) in &SCANS[..5] {
            let clock = Clock::manual();
            let cache = builder(&clock)
                .segments(segments)
                .eviction_policy(policy.clone())
                .time_to_idle(secs(2))
                .build()
                .unwrap();
            (0..keys).for_each(|key| cache.insert(key, key));
            let mut met = Vec::new();
            scan(&cache, &mut |key| {
                met.push(key);
                clock.advance(secs(1));
                (0..keys).for_each(|key| assert!(cache.get(&key).is_some()));
            });
            met.sort_unstable();
            assert!(met.into_iter().eq(0..keys), "{name}");
        }
    });
}

/// The end of the value that was met first has passed; the key was there all the while.
#[test]
fn what_is_replaced_in_time_comes() {
    let keys = size(100, 30) as u64;
    for (name, scan) in &SCANS[..5] {
        let clock = Clock::manual();
        let cache = builder(&clock).segments(1).time_to_live(secs(2)).build().unwrap();
        (0..keys).for_each(|key| cache.insert(key, key));
        let mut met = Vec::new();
        scan(&cache, &mut |key| {
            met.push(key);
            clock.advance(secs(1));
            (0..keys).for_each(|key| cache.insert(key, key));
        });
        met.sort_unstable();
        assert!(met.into_iter().eq(0..keys), "{name}");
    }
}

/// An `Expiry` moves the end nearer while a scan is under way.
#[test]
fn an_end_that_a_read_moves_nearer_counts() {
    struct Once;
    impl Expiry<u64, u64> for Once {
        fn after_read(&self, _: &u64, _: &u64, _: Option<Duration>) -> Option<Duration> {
            Some(secs(1))
        }
    }
    for (name, scan) in &SCANS[..5] {
        let clock = Clock::manual();
        let cache = builder(&clock).segments(1).expire_after(Once).build().unwrap();
        (0..40).for_each(|key| cache.insert(key, key));
        let mut met = 0;
        scan(&cache, &mut |_| {
            met += 1;
            (0..40).for_each(|key| _ = cache.get(&key));
            clock.advance(secs(1));
        });
        assert_eq!(met, 1, "{name}");
    }
}

/// A drain takes them out in time, and they have left as the others have; what it has not come to yet leaves as expired.
#[test]
fn what_expires_in_a_drain_is_not_given_and_leaves_once() {
    let keys = size(300, 40) as u64;
    let clock = Clock::manual();
    let (builder, log) = logged(builder(&clock).segments(1).time_to_live(secs(10)));
    let cache = builder.build().unwrap();
    (0..keys).for_each(|key| cache.insert(key, key));
    let mut drain = cache.drain();
    assert!(drain.next().is_some());
    clock.advance(secs(10));
    assert_eq!(drain.next(), None);
    drop(drain);
    cache.run_pending_tasks();
    let log = log.lock().unwrap();
    let explicit = log.iter().filter(|event| event.2 == RemovalCause::Explicit).count() as u64;
    assert_eq!(log.len() as u64, keys);
    assert!((1..keys).contains(&explicit), "{explicit}");
    assert!(log.iter().all(|event| matches!(event.2, RemovalCause::Explicit | RemovalCause::Expired)));
    assert!(cache.is_empty());
}

#[test]
fn retain_is_not_asked_about_what_has_expired() {
    let clock = Clock::manual();
    let (builder, log) = logged(builder(&clock).segments(1).time_to_live(secs(10)));
    let cache = builder.build().unwrap();
    (0..100).for_each(|key| cache.insert(key, key));
    let asked = Cell::new(0);
    cache.retain(|_, _| {
        asked.set(asked.get() + 1);
        clock.advance(secs(10));
        false
    });
    cache.run_pending_tasks();
    clock.advance(secs(1));
    cache.run_pending_tasks();
    assert_eq!((asked.get(), cache.len()), (1, 0));
    assert!(log.lock().unwrap().iter().all(|event| event.2 == RemovalCause::Expired));
}

/// Each key is looked up when the iterator gives it.
#[test]
fn reads_of_many_keys_look_at_the_clock_for_each() {
    let clock = Clock::manual();
    let tick = |_: &&u64| clock.advance(secs(6));
    let keys = [1, 2, 3];
    for is_soft in [false, true] {
        let mut builder = builder(&clock).time_to_live(secs(10));
        if is_soft {
            builder = builder.refresh_after_write(secs(100));
        }
        let cache = builder.build().unwrap();
        keys.iter().for_each(|&key| cache.insert(key, key));
        assert_eq!(cache.get_many(keys.iter().inspect(tick)), [Some(1), None, None]);
        keys.iter().for_each(|&key| cache.insert(key, key));
        clock.advance(secs(9));
        // The loader of the first takes until the second has ended, which was given before.
        cache.invalidate(&1);
        let found = cache.get_all_or_load(keys, |missing| {
            clock.advance(secs(1));
            missing.iter().map(|&key| (key, key + 10)).collect::<Vec<_>>()
        });
        assert_eq!((found[&1], found[&2], cache.get(&2)), (11, 2, None));
    }
}
