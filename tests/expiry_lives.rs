//! How long entries live, by the manual clock: what bounds it, what an `Expiry` is told, jitter, limited reads, and what is
//! refused.
#![allow(missing_docs)]

mod common;

use common::time::{END, NS, TICK, builder, for_some, secs, tti, ttl};
use common::{Log, causes, ends, logged, panics, settle, size};
use larder::{
    BuildError, Builder, Cache, Clock, Computed, EvictionPolicy, Expiry, InsertOptions, Op, RemovalCause,
};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// For code that is given to the cache and uses it.
type Handle = Arc<OnceLock<Cache<u64, u64>>>;

/// Says how long a value lives by the value, in seconds.
struct ByValue;

impl Expiry<u64, u64> for ByValue {
    fn after_create(&self, _: &u64, value: &u64) -> Option<Duration> {
        Some(secs(*value))
    }
}

/// The time to live is the outer bound: neither reads nor an `Expiry` get beyond it.
#[test]
fn reads_never_extend_beyond_the_time_to_live() {
    struct Generous;
    impl Expiry<u64, u64> for Generous {
        fn after_create(&self, _: &u64, _: &u64) -> Option<Duration> {
            Some(secs(1_000))
        }
        fn after_read(&self, _: &u64, _: &u64, _: Option<Duration>) -> Option<Duration> {
            None
        }
    }
    for_some(|policy, segments| {
        let clock = Clock::manual();
        let plain = || builder(&clock).eviction_policy(policy.clone()).segments(segments);
        let caches = [
            plain().time_to_live(secs(10)).time_to_idle(secs(4)).build().unwrap(),
            plain().time_to_live(secs(10)).expire_after(Generous).build().unwrap(),
            plain().expire_after(Generous).build().unwrap(),
            plain().build().unwrap(),
        ];
        let options = [InsertOptions::new(), InsertOptions::new(), ttl(secs(10)), ttl(secs(10)).tti(secs(4))];
        for (cache, options) in caches.into_iter().zip(options) {
            cache.insert_with(1, 1, options);
            for _ in 0..5 {
                assert_eq!(cache.get(&1), Some(1));
                clock.advance(secs(2) - NS);
            }
            assert_eq!(cache.get(&1), Some(1));
            clock.advance(5 * NS);
            assert_eq!(cache.get(&1), None);
            cache.validate();
        }
    });
}

/// An entry that has expired when it comes evicts none that lives.
#[test]
fn an_entry_without_a_life_takes_no_room() {
    for_some(|policy, segments| {
        let clock = Clock::manual();
        let builder = builder(&clock).eviction_policy(policy).segments(segments).max_capacity(2_000);
        let (builder, log) = logged(builder);
        let cache = builder.build().unwrap();
        let living = size(1_000, 100) as u64;
        (0..living).for_each(|key| cache.insert(key, key));
        (0..living).for_each(|key| assert!((cache.get(&key), cache.get(&key)) == (Some(key), Some(key))));
        cache.set_capacity(living);
        let before = cache.len();
        log.lock().unwrap().clear();
        let dead = size(20_000, 300) as u64;
        for key in living..living + dead {
            cache.insert_with(key, key, ttl(Duration::ZERO));
        }
        assert_eq!(cache.len(), before);
        assert_eq!(
            (causes(&log, RemovalCause::Expired), log.lock().unwrap().len()),
            (dead as usize, dead as usize)
        );
        assert_eq!(cache.stats().expiration_count(), dead);
        cache.validate();
    });
}

/// A rule that a builder gets.
type Rule = fn(Builder<u64, u64>) -> Builder<u64, u64>;

/// By whatever rule its life is zero, it removes what its key had, and is told after that.
#[test]
fn an_entry_without_a_life_removes_what_its_key_had() {
    for_some(|policy, segments| {
        let plain = |clock: &Clock| logged(builder(clock).eviction_policy(policy.clone()).segments(segments));
        let none = InsertOptions::new;
        let rules: [(Rule, InsertOptions); 6] = [
            (|builder| builder, ttl(Duration::ZERO)),
            (|builder| builder, tti(Duration::ZERO)),
            (|builder| builder.time_to_live(Duration::ZERO), none()),
            (|builder| builder.time_to_idle(Duration::ZERO), none()),
            (|builder| builder.time_to_live(secs(1)).time_to_live_jitter(1.0), ttl(Duration::ZERO)),
            (|builder| builder.expire_after(ByValue), none()),
        ];
        for (rule, options) in rules {
            let clock = Clock::manual();
            let (builder, log) = plain(&clock);
            let cache = rule(builder).build().unwrap();
            let take = || std::mem::take(&mut *log.lock().unwrap());
            cache.insert_with(1, 7, ttl(secs(9)).tti(secs(9)).tags(["a"]).pinned(true));
            assert!(cache.contains_key(&1));
            cache.insert_with(1, 0, options.clone().tags(["b"]).pinned(true));
            assert_eq!(take(), [(1, 7, RemovalCause::Replaced), (1, 0, RemovalCause::Expired)]);
            assert!(cache.is_empty() && cache.get(&1).is_none());
            // What has ended before has ended by itself.
            cache.insert_with(1, 7, ttl(secs(9)).tti(secs(9)));
            clock.advance(secs(9));
            cache.insert_with(1, 0, options);
            assert_eq!(take(), [(1, 7, RemovalCause::Expired), (1, 0, RemovalCause::Expired)]);
            assert_eq!((cache.len(), cache.invalidate_tag("b")), (0, 0));
            assert_eq!((cache.stats().expiration_count(), cache.stats().rejection_count()), (3, 0));
            cache.validate();
        }
    });
}

/// Callers that load or compute it get it all the same, and what is being loaded meanwhile is not kept.
#[test]
fn a_value_without_a_life_is_given_but_not_kept() {
    for_some(|policy, segments| {
        let clock = Clock::manual();
        let plain = || builder(&clock).eviction_policy(policy.clone()).segments(segments);
        let cache = plain().expire_after(ByValue).build().unwrap();
        assert_eq!(cache.get_or_load(1, |_| 0), 0);
        assert_eq!(cache.get_all_or_load([1, 2], |keys| [(keys[0], 0), (keys[1], 5)]).len(), 2);
        assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(5)));
        assert_eq!(cache.refresh(2, |_| 0), 0);
        assert!(cache.is_empty());
        assert_eq!(cache.compute(1, |_| Op::Insert(0)), Computed::Rejected(0));
        assert_eq!(cache.entry(1).or_insert(0), 0);
        assert_eq!(
            cache.get_or_load(3, |_| {
                cache.insert(3, 0);
                9
            }),
            9
        );
        assert!(cache.is_empty());
        cache.validate();
        // Where it may be served stale it gets in.
        let cache = plain().stale_while_revalidate(secs(5)).build().unwrap();
        cache.insert_with(1, 1, ttl(Duration::ZERO));
        assert_eq!((cache.get(&1), cache.get_or_load(1, |_| 2), cache.len()), (None, 2, 1));
    });
}

/// What an `Expiry` is told, and that it gets what it says.
#[test]
fn an_expiry_is_told_what_remains() {
    type Told = Arc<Mutex<Vec<(&'static str, u64, u64, Option<Duration>)>>>;
    struct Teller(Told);
    impl Expiry<u64, u64> for Teller {
        fn after_create(&self, &key: &u64, &value: &u64) -> Option<Duration> {
            self.0.lock().unwrap().push(("create", key, value, None));
            (value < 100).then(|| secs(value))
        }
        fn after_update(&self, &key: &u64, &value: &u64, remaining: Option<Duration>) -> Option<Duration> {
            self.0.lock().unwrap().push(("update", key, value, remaining));
            remaining.map(|time| time + secs(value))
        }
        fn after_read(&self, &key: &u64, &value: &u64, remaining: Option<Duration>) -> Option<Duration> {
            self.0.lock().unwrap().push(("read", key, value, remaining));
            if value == 7 { Some(secs(2)) } else { remaining }
        }
    }
    for_some(|policy, segments| {
        let told = Told::default();
        let clock = Clock::manual();
        let cache = builder(&clock)
            .eviction_policy(policy)
            .segments(segments)
            .expire_after(Teller(Arc::clone(&told)))
            .build()
            .unwrap();
        let take = || std::mem::take(&mut *told.lock().unwrap());
        cache.insert(1, 10);
        assert_eq!(take(), [("create", 1, 10, None)]);
        clock.advance(secs(4));
        assert_eq!(cache.get(&1), Some(10));
        assert_eq!(cache.get_many(&[1, 2]), [Some(10), None]);
        assert_eq!(cache.get_or_load(1, |_| unreachable!()), 10);
        assert_eq!(take(), vec![("read", 1, 10, Some(secs(6))); 3]);
        assert_eq!(cache.entry(1).or_insert(0), 10);
        let _ = cache.compute(1, |_| Op::Keep);
        assert_eq!(take(), vec![("read", 1, 10, Some(secs(6))); 2]);
        // None of these is a read.
        let _ =
            (cache.peek(&1), cache.contains_key(&1), cache.iter().count(), cache.hottest(5), cache.pin(&1));
        let _ = (cache.get(&2), cache.remove(&2), cache.unpin(&1), cache.compute(2, |_| Op::Keep));
        assert_eq!(take(), []);
        cache.insert(1, 7);
        assert_eq!(take(), [("update", 1, 7, Some(secs(6)))]);
        clock.advance(secs(12));
        // The read makes it shorter than it was, and the next one finds that.
        assert_eq!(cache.get(&1), Some(7));
        clock.advance(secs(2) - NS);
        assert_eq!(cache.get(&1), Some(7));
        assert_eq!(take(), [("read", 1, 7, Some(secs(1))), ("read", 1, 7, Some(NS))]);
        clock.advance(secs(2));
        assert_eq!(cache.get(&1), None);
        // Over: so it is created, not updated. What has no end is told as such.
        cache.insert(1, 100);
        assert_eq!(cache.get(&1), Some(100));
        cache.insert(1, 101);
        assert_eq!(take(), [("create", 1, 100, None), ("read", 1, 100, None), ("update", 1, 101, None)]);
        // A time to live of its own: nobody is asked at the write.
        cache.insert_with(1, 5, ttl(secs(3)));
        cache.insert_with(2, 5, tti(secs(3)));
        assert_eq!(take(), [("create", 2, 5, None)]);
        clock.advance(secs(1));
        assert_eq!(cache.get_many(&[1, 2]), [Some(5), Some(5)]);
        assert_eq!(take(), [("read", 1, 5, Some(secs(2)))]);
        cache.validate();
    });
}

/// Shorter by no more than the part, never longer, and spread over all of that.
#[test]
fn jitter_only_shortens_and_spreads() {
    for (part, own) in [(0.1, false), (0.1, true), (1.0, false), (0.0, false)] {
        let clock = Clock::manual();
        let plain = builder(&clock).max_capacity(100_000).time_to_live_jitter(part);
        let cache = if own { plain } else { plain.time_to_live(secs(1_000)) }.build().unwrap();
        let keys = size(2_000, 60) as u64;
        for key in 0..keys {
            cache.insert_with(key, key, if own { ttl(secs(1_000)) } else { InsertOptions::new() });
        }
        let least = secs(1_000).mul_f64(1.0 - part);
        clock.advance(least.saturating_sub(NS));
        let there = || cache.keys().collect::<BTreeSet<_>>();
        assert!(part == 1.0 || there().len() as u64 == keys, "{part}: none ends before");
        let parts = 10;
        for tenth in 1..=parts {
            let expected = if part == 0.0 { keys } else { keys * (parts - tenth) / parts };
            clock.advance((secs(1_000) - least) / parts as u32);
            // Five standard deviations, and that of the last is nothing.
            let off = there().len().abs_diff(expected as usize);
            assert!(off <= 5 * (keys as f64 / 4.0).sqrt() as usize, "{part}: {off} off after {tenth} tenths");
        }
        clock.advance(NS);
        assert_eq!(there().len(), 0, "none is longer");
        cache.validate();
    }
}

#[test]
fn jitter_is_not_for_times_to_idle_nor_for_what_never_ends() {
    let clock = Clock::manual();
    let cache = builder(&clock).time_to_idle(secs(10)).time_to_live_jitter(1.0).build().unwrap();
    (0..100).for_each(|key| cache.insert(key, key));
    clock.advance(secs(10) - NS);
    assert_eq!(cache.iter().count(), 100);
    (100..200).for_each(|key| cache.insert_with(key, key, ttl(Duration::MAX).tti(Duration::MAX)));
    clock.advance(END / 2);
    assert_eq!(cache.iter().count(), 100);
}

/// `None` has a time of its own, and one that was said for the entry goes before.
#[test]
fn what_does_not_exist_is_remembered_for_another_time() {
    for_some(|policy, segments| {
        for with_default in [false, true] {
            let clock = Clock::manual();
            let mut builder = Cache::builder()
                .max_capacity(100)
                .clock(clock.clone())
                .eviction_policy(policy.clone())
                .segments(segments)
                .negative_time_to_live(secs(5));
            if with_default {
                builder = builder.time_to_live(secs(50));
            }
            let cache: Cache<u64, Option<u64>> = builder.build().unwrap();
            cache.insert(1, None);
            cache.insert(2, Some(2));
            cache.insert_with(3, None, ttl(secs(9)));
            cache.insert(4, Some(4));
            cache.insert(4, None);
            cache.insert(5, None);
            cache.insert(5, Some(5));
            assert_eq!(cache.get_all_or_load([6, 7], |_| [(6, None), (7, Some(7))]).len(), 2);
            clock.advance(secs(5) - NS);
            assert_eq!(cache.iter().count(), 7);
            clock.advance(NS);
            assert_eq!(cache.keys().collect::<BTreeSet<_>>(), BTreeSet::from([2, 3, 5, 7]));
            clock.advance(secs(4));
            assert_eq!(cache.keys().collect::<BTreeSet<_>>(), BTreeSet::from([2, 5, 7]));
            clock.advance(secs(41));
            assert_eq!(cache.iter().count(), if with_default { 0 } else { 3 });
            cache.validate();
        }
    });
}

/// Guarantee 1, where an `Expiry` takes its time: what has been found to be over, and not to be there to remove, never
/// comes back.
#[test]
fn what_has_ended_is_not_brought_back_by_a_read_that_began_before() {
    struct Slow(Clock, Handle);
    impl Expiry<u64, u64> for Slow {
        fn after_create(&self, _: &u64, _: &u64) -> Option<Duration> {
            Some(secs(10))
        }
        fn after_read(&self, key: &u64, _: &u64, _: Option<Duration>) -> Option<Duration> {
            self.0.advance(secs(20));
            let cache = self.1.get().unwrap();
            assert_eq!(cache.peek(key), None);
            assert_eq!(cache.remove(key), None);
            Some(secs(100))
        }
    }
    for_some(|policy, segments| {
        let clock = Clock::manual();
        let handle = Handle::default();
        let builder = builder(&clock).eviction_policy(policy).segments(segments);
        let cache = builder.expire_after(Slow(clock.clone(), Arc::clone(&handle))).build().unwrap();
        assert!(handle.set(cache.clone()).is_ok());
        cache.insert(1, 1);
        assert_eq!(cache.get(&1), Some(1));
        assert_eq!(cache.get(&1), None, "it was removed, and found to be over before that");
        assert!(!cache.contains_key(&1));
        cache.validate();
    });
}

/// A read that shortens the life of an entry which leaves meanwhile does not keep what has its place later.
#[test]
fn a_life_that_is_shortened_too_late_harms_nobody() {
    struct Remover(Handle);
    impl Expiry<u64, u64> for Remover {
        fn after_create(&self, _: &u64, &value: &u64) -> Option<Duration> {
            Some(secs(value))
        }
        fn after_read(&self, key: &u64, _: &u64, _: Option<Duration>) -> Option<Duration> {
            self.0.get().unwrap().remove(key);
            Some(secs(1))
        }
    }
    for_some(|policy, segments| {
        let clock = Clock::manual();
        let handle = Handle::default();
        let builder = builder(&clock).max_capacity(8).segments(segments).eviction_policy(policy);
        let cache = builder.expire_after(Remover(Arc::clone(&handle))).build().unwrap();
        assert!(handle.set(cache.clone()).is_ok());
        for _ in 0..100 {
            cache.insert(1, 1_000);
            assert_eq!(cache.get(&1), Some(1_000));
            assert_eq!(cache.len(), 0);
        }
        settle(&cache);
        (0..4).for_each(|key| cache.insert(key, 20));
        clock.advance(secs(20) + TICK);
        cache.run_pending_tasks();
        assert_eq!(cache.len(), 0, "over, and not swept");
        cache.validate();
    });
}

/// Each read counts, by whatever method; what is no read does not; and a new value has all its reads again.
#[test]
fn an_entry_answers_so_many_reads_and_no_more() {
    type Read = fn(&Cache<u64, u64>) -> Option<u64>;
    let reads: [Read; 5] = [
        |cache| cache.get(&1),
        |cache| cache.with(&1, |value| *value),
        |cache| cache.get_many(&[1])[0],
        |cache| cache.try_get_or_load(1, |_| Err(())).ok(),
        |cache| cache.try_get_all_or_load([1], |_| Err::<[(u64, u64); 0], ()>(())).ok().map(|all| all[&1]),
    ];
    for_some(|policy, segments| {
        for most in [1, 2, 7] {
            for pinned in [false, true] {
                let clock = Clock::manual();
                let builder = builder(&clock)
                    .max_capacity(8)
                    .max_reads(most)
                    .segments(segments)
                    .eviction_policy(policy.clone());
                let (builder, log): (_, Log<u64, u64>) = logged(builder.record_stats());
                let cache = builder.build().unwrap();
                // More than there are slots.
                let rounds = size(60, 6) as u64;
                for round in 0..rounds {
                    cache.insert_with(1, round, InsertOptions::new().pinned(pinned));
                    if round % 2 == 1 {
                        // An update in between, after all reads but one.
                        (1..most).for_each(|_| assert!(cache.get(&1).is_some()));
                        cache.compute(1, |_| Op::Insert(round));
                    }
                    for read in 0..most {
                        assert_eq!(cache.peek(&1), Some(round));
                        assert!(cache.contains_key(&1) && cache.iter().count() == 1);
                        assert_eq!(reads[(round + read) as usize % 5](&cache), Some(round));
                    }
                    assert!(reads.iter().all(|read| read(&cache).is_none()));
                    assert_eq!((cache.len(), cache.iter().count(), cache.peek(&1)), (0, 0, None));
                    cache.validate();
                }
                assert_eq!(causes(&log, RemovalCause::Expired) as u64, rounds);
                assert_eq!(log.lock().unwrap().len() as u64, rounds / 2 * 3);
                assert_eq!(cache.stats().expiration_count(), rounds);
                assert_eq!(cache.stats().hit_count(), rounds / 2 * 3 * most, "the update is one");
            }
        }
    });
}

/// Who asks for a value that it may load does not wait for one to go that has no reads left, and cannot.
#[test]
fn an_entry_without_reads_is_not_waited_for() {
    use larder::policy::{End, Entries, Policy, Reads, Slot};
    use std::ops::ControlFlow;
    struct Clinging;
    impl Policy for Clinging {
        fn reads(&self) -> Reads {
            Reads::Ignored
        }
        fn insert(&mut self, _: Slot, _: Entries<'_>) {}
        fn moved(&mut self, _: Slot, _: Slot, _: Entries<'_>) {}
        fn evict(&mut self, _: Entries<'_>) -> Option<Slot> {
            None
        }
        fn remove(&mut self, _: Slot, _: RemovalCause, _: Entries<'_>) {
            panic!("on purpose");
        }
        fn walk(&self, _: End, _: &mut dyn FnMut(Slot) -> ControlFlow<()>) {}
    }
    ends(|| {
        let policy = EvictionPolicy::custom(|_| Clinging);
        let cache = Cache::builder().max_capacity(9).max_reads(1).eviction_policy(policy).build().unwrap();
        cache.insert(1, 1);
        assert!(panics(|| cache.get(&1)));
        assert_eq!(cache.get(&1), None);
        assert_eq!((cache.peek(&1), cache.contains_key(&1), cache.iter().count()), (None, false, 0));
        // It may bring the value or panic like the policy, but it comes to an end.
        assert!(panics(|| assert_eq!(cache.get_or_load(1, |_| 2), 2)));
    });
}

#[test]
fn options_that_make_no_sense_are_refused_with_a_reason() {
    let clock = Clock::manual();
    let error = |builder: Builder<u64, u64>| builder.build().map(drop).unwrap_err();
    let refused = error(builder(&clock).max_reads(0));
    assert_eq!(refused, BuildError::MaxReads);
    assert_eq!(refused.to_string(), "`max_reads(0)` would answer no read: give at least 1, or leave it out");
    for given in [-0.1, 1.000_001, f64::INFINITY, -f64::INFINITY] {
        let refused = error(builder(&clock).time_to_live_jitter(given));
        assert_eq!(refused, BuildError::TimeToLiveJitter { given });
        let expected = format!(
            "`time_to_live_jitter({given})` is out of range: give the part of a time to live, 0 to 1"
        );
        assert_eq!(refused.to_string(), expected);
    }
    assert!(matches!(
        error(builder(&clock).time_to_live_jitter(f64::NAN)),
        BuildError::TimeToLiveJitter { .. }
    ));
    let refused = error(builder(&clock).time_to_idle(secs(1)).expire_after(ByValue));
    assert_eq!(refused, BuildError::IdleAndExpiry);
    assert_eq!(
        refused.to_string(),
        "`time_to_idle` and `expire_after` both say what a read does: let `Expiry::after_read` do it"
    );
    for jitter in [0.0, -0.0, 1.0] {
        assert!(builder(&clock).time_to_live_jitter(jitter).build().is_ok());
    }
    assert!(builder(&clock).max_reads(u64::MAX).time_to_live(secs(1)).expire_after(ByValue).build().is_ok());
}

#[test]
#[should_panic(expected = "not manual")]
fn only_a_manual_clock_is_advanced_by_hand() {
    Clock::coarse().advance(NS);
}

/// The first entry of a cache, before there is any place for what is its own.
#[test]
fn a_time_to_idle_without_end_of_the_first_entry_is_its_own() {
    let clock = Clock::manual();
    let cache = builder(&clock).time_to_idle(secs(2)).segments(1).build().unwrap();
    cache.insert_with(1, 1, InsertOptions::new().ttl(secs(10)).tti(Duration::MAX));
    clock.advance(secs(9));
    assert_eq!(cache.get(&1), Some(1));
    assert_eq!(cache.metadata(&1).unwrap().remaining, Some(secs(1)), "its time to live goes on");
    clock.advance(secs(1));
    assert_eq!(cache.get(&1), None);
    cache.validate();
}
