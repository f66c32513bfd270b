//! Entries that end, by the manual clock: that all see the same, and when, from the shortest time to the longest.
//!
//! How long a life is decided to be: `expiry_lives.rs`. What ends is heard of, and goes: `expiry_events.rs`. Against a model:
//! `expiry_model.rs`. With threads: `expiry_races.rs`.
#![allow(missing_docs)]

mod common;

use common::loads::block_on;
use common::time::{END, NS, TICK, builder, for_some, secs, tti, ttl};
use common::{ends, size};
use larder::{Cache, Clock, Computed, EvictionPolicy, Expiry, InsertOptions, Op};
use std::time::Duration;

/// Says how long a value lives by the value, in seconds.
struct ByValue;

impl Expiry<u64, u64> for ByValue {
    fn after_create(&self, _: &u64, value: &u64) -> Option<Duration> {
        Some(secs(*value))
    }
}

/// The ways in which an entry can get ten seconds to live.
#[derive(Clone, Copy, Debug)]
enum Way {
    Ttl,
    Tti,
    OwnTtl,
    OwnTti,
    Expiry,
}

const WAYS: [Way; 5] = [Way::Ttl, Way::Tti, Way::OwnTtl, Way::OwnTti, Way::Expiry];

/// A cache with key 1, which ends after ten seconds, and key 2, which does not.
fn ten_seconds(way: Way, clock: &Clock, policy: EvictionPolicy, segments: usize) -> Cache<u64, u64> {
    let builder = builder(clock).eviction_policy(policy).segments(segments);
    let (builder, options) = match way {
        Way::Ttl => (builder.time_to_live(secs(10)), InsertOptions::new()),
        Way::Tti => (builder.time_to_idle(secs(10)), InsertOptions::new()),
        Way::OwnTtl => (builder, ttl(secs(10))),
        Way::OwnTti => (builder, tti(secs(10))),
        Way::Expiry => (builder.expire_after(ByValue), InsertOptions::new()),
    };
    let cache = builder.build().unwrap();
    cache.insert_with(1, 10, options);
    cache.insert_with(2, 1_000_000, ttl(Duration::MAX).tti(Duration::MAX));
    cache
}

type View = fn(&Cache<u64, u64>) -> bool;

/// All ways to see whether key 1 is there.
const VIEWS: [(&str, View); 29] = [
    ("get", |cache| cache.get(&1).is_some()),
    ("with", |cache| cache.with(&1, |_| ()).is_some()),
    ("get_many", |cache| cache.get_many(&[2, 1])[1].is_some()),
    ("peek", |cache| cache.peek(&1).is_some()),
    ("contains_key", |cache| cache.contains_key(&1)),
    ("iter", |cache| cache.iter().any(|(key, _)| key == 1)),
    ("keys", |cache| cache.keys().any(|key| key == 1)),
    ("for_each", |cache| {
        let mut met = false;
        cache.for_each(|&key, _| met |= key == 1);
        met
    }),
    ("retain", |cache| {
        let mut met = false;
        cache.retain(|&key, _| {
            met |= key == 1;
            true
        });
        met
    }),
    ("drain", |cache| cache.drain().any(|(key, _)| key == 1)),
    ("hottest", |cache| cache.hottest(9).iter().any(|entry| entry.0 == 1)),
    ("coldest", |cache| cache.coldest(9).iter().any(|entry| entry.0 == 1)),
    ("compute, kept", |cache| matches!(cache.compute(1, |_| Op::Keep), Computed::Kept(_))),
    ("compute, what it sees", |cache| {
        let mut seen = false;
        cache.compute(1, |now| {
            seen |= now.is_some();
            Op::Insert(10)
        });
        seen
    }),
    ("compute, replaced", |cache| matches!(cache.compute(1, |_| Op::Insert(10)), Computed::Replaced(_))),
    ("compute, removed", |cache| matches!(cache.compute(1, |_| Op::Remove), Computed::Removed(_))),
    ("or_insert", |cache| cache.entry(1).or_insert(9) == 10),
    ("and_upsert_with", |cache| cache.entry(1).and_upsert_with(|now| now.map_or(9, |_| 10)) == 10),
    ("remove", |cache| cache.remove(&1).is_some()),
    ("invalidate", |cache| cache.invalidate(&1)),
    ("remove_if, what it sees", |cache| {
        let mut seen = false;
        cache.remove_if(&1, |_, _| {
            seen = true;
            false
        });
        seen
    }),
    ("pin", |cache| cache.pin(&1)),
    ("unpin", |cache| cache.unpin(&1)),
    ("get_or_load", |cache| cache.get_or_load(1, |_| 9) == 10),
    ("try_get_or_load", |cache| cache.try_get_or_load(1, |_| Err(())).is_ok()),
    ("get_or_load_async", |cache| block_on(cache.get_or_load_async(1, |_| async { 9 })) == 10),
    ("get_all_or_load", |cache| cache.get_all_or_load([2, 1], |_| [(1, 9)])[&1] == 10),
    ("refresh, meanwhile", |cache| {
        let mut there = false;
        cache.refresh(1, |_| {
            there = cache.contains_key(&1);
            9
        });
        there
    }),
    ("try_refresh that fails", |cache| {
        cache.try_refresh(1, |_| Err(())).unwrap_err();
        cache.contains_key(&1)
    }),
];

/// Case 34. At its last nanosecond all see an entry, and from its deadline on nobody does: as long as nothing can have swept it,
/// since the wheel has it in a tick that is not over, and later.
#[test]
fn all_methods_agree_on_when_an_entry_ends() {
    for_some(|policy, segments| {
        for way in WAYS {
            for (name, sees) in VIEWS {
                let at = |time: Duration, cascaded: bool| {
                    let clock = Clock::manual();
                    let cache = ten_seconds(way, &clock, policy.clone(), segments);
                    let before = time.min(secs(10) - NS);
                    clock.advance(before);
                    if cascaded {
                        cache.run_pending_tasks();
                    }
                    clock.advance(time - before);
                    let saw = sees(&cache);
                    cache.validate();
                    saw
                };
                assert!(at(secs(10) - NS, true), "{name}, {way:?}, {policy}: 1 ns before its end");
                for later in [Duration::ZERO, NS, TICK, secs(1_000)] {
                    assert!(
                        !at(secs(10) + later, later < TICK),
                        "{name}, {way:?}, {policy}: {later:?} after its end"
                    );
                }
            }
        }
    });
}

/// What counts as a read begins the time to idle anew, before any maintenance, and nothing else does. (Case 37.)
#[test]
fn reads_and_only_reads_begin_the_time_to_idle_anew() {
    let reads = [
        "get",
        "with",
        "get_many",
        "get_or_load",
        "try_get_or_load",
        "get_or_load_async",
        "get_all_or_load",
        "compute, kept",
        "or_insert",
    ];
    let writes = ["compute, what it sees", "compute, replaced", "and_upsert_with", "refresh, meanwhile"];
    let ending = ["drain", "compute, removed", "remove", "invalidate"];
    for_some(|policy, segments| {
        for way in [Way::Tti, Way::OwnTti] {
            for (name, sees) in VIEWS {
                if ending.contains(&name) {
                    continue;
                }
                let clock = Clock::manual();
                let cache = ten_seconds(way, &clock, policy.clone(), segments);
                clock.advance(secs(9));
                assert!(sees(&cache));
                clock.advance(secs(9));
                // An updated entry begins its own time to idle again, or has the builder's.
                let lives = reads.contains(&name) || writes.contains(&name);
                assert_eq!(cache.contains_key(&1), lives, "{name}, {way:?}, {policy}");
                cache.validate();
            }
        }
    });
}

/// Case 37: a read just before the end counts, though the wheel has the entry where it was first due.
#[test]
fn an_entry_that_is_read_in_time_never_idles() {
    for_some(|policy, segments| {
        let clock = Clock::manual();
        let cache = builder(&clock)
            .eviction_policy(policy)
            .segments(segments)
            .time_to_idle(secs(10))
            .build()
            .unwrap();
        (0..50).for_each(|key| cache.insert(key, key));
        for round in 0..size(200, 10) as u64 {
            clock.advance(secs(10) - NS);
            assert!((0..40).all(|key| cache.get(&key) == Some(key)));
            if round % 3 == 0 {
                cache.run_pending_tasks();
            }
            cache.validate();
        }
        assert_eq!(cache.iter().count(), 40);
        clock.advance(secs(10));
        assert_eq!(cache.iter().count(), 0);
        clock.advance(TICK);
        cache.run_pending_tasks();
        assert!(cache.is_empty());
    });
}

/// Case 30.
#[test]
fn the_longest_time_never_wraps() {
    let never = [Duration::MAX, END, END - NS, Duration::from_secs(u64::MAX)];
    for start in [Duration::ZERO, secs(1), END / 2, END - secs(1)] {
        for time in never {
            let clock = Clock::manual_at(start);
            let options = [ttl(time), tti(time), ttl(time).tti(time)];
            let caches = [
                builder(&clock).build().unwrap(),
                builder(&clock).time_to_live(secs(5)).time_to_idle(secs(5)).build().unwrap(),
                builder(&clock).time_to_live(time).time_to_idle(time).build().unwrap(),
                builder(&clock).time_to_live(time).time_to_live_jitter(1e-12).build().unwrap(),
            ];
            for (at, cache) in caches.iter().enumerate() {
                for (key, options) in (0..).zip(options.clone()) {
                    // Here the builder's other time is to be out of the way.
                    let options = if at == 1 { options.ttl(time).tti(time) } else { options };
                    cache.insert_with(key, key, options);
                }
                for step in [NS, secs(1), secs(1 << 30)] {
                    clock.advance(step);
                    cache.run_pending_tasks();
                    assert_eq!(
                        cache.get_many(&[0, 1, 2]),
                        [Some(0), Some(1), Some(2)],
                        "{start:?}, {time:?}"
                    );
                    cache.validate();
                }
            }
        }
    }
}

/// Case 30, by an `Expiry`, which can say it for each kind of event.
#[test]
fn an_expiry_may_say_the_longest_time() {
    struct Longest;
    impl Expiry<u64, u64> for Longest {
        fn after_create(&self, _: &u64, _: &u64) -> Option<Duration> {
            Some(Duration::MAX)
        }
        fn after_read(&self, _: &u64, _: &u64, _: Option<Duration>) -> Option<Duration> {
            Some(END - NS)
        }
    }
    let clock = Clock::manual_at(END / 2);
    let cache = builder(&clock).expire_after(Longest).build().unwrap();
    cache.insert(1, 1);
    for _ in 0..4 {
        assert_eq!(cache.get(&1), Some(1));
        clock.advance(END / 8);
        cache.insert(1, 1);
        cache.validate();
    }
    assert_eq!(cache.get(&1), Some(1));
}

/// Case 31.
#[test]
fn no_time_and_one_nanosecond() {
    for_some(|policy, segments| {
        for by_builder in [true, false] {
            for time in [Duration::ZERO, NS] {
                let clock = Clock::manual();
                let plain = builder(&clock).eviction_policy(policy.clone()).segments(segments);
                let caches = if by_builder {
                    [plain.time_to_live(time).build(), builder(&clock).time_to_idle(time).build()]
                } else {
                    [plain.build(), builder(&clock).build()]
                };
                let options = [ttl(time), tti(time)];
                for (cache, options) in caches.into_iter().zip(options) {
                    let cache = cache.unwrap();
                    let options = if by_builder { InsertOptions::new() } else { options };
                    for round in 0..50 {
                        cache.insert_with(round % 5, round, options.clone());
                        let lives = time > Duration::ZERO;
                        assert_eq!(cache.contains_key(&(round % 5)), lives);
                        assert_eq!(cache.get(&(round % 5)).is_some(), lives);
                        cache.validate();
                        clock.advance(NS);
                        assert_eq!(cache.peek(&(round % 5)), None);
                        assert_eq!(cache.iter().count(), 0);
                    }
                    assert_eq!(cache.get_or_load(7, |_| 3), 3);
                    clock.advance(TICK);
                    cache.run_pending_tasks();
                    assert_eq!(cache.is_empty(), by_builder);
                    cache.validate();
                }
            }
        }
    });
}

/// Case 33: wherever the clock starts, and however far it jumps, entries of all spans end, in time and not before.
#[test]
fn the_clock_may_start_late_and_jump_far() {
    let spans: Vec<u64> = (0..64).step_by(size(3, 13)).map(|shift| 1 << shift).collect();
    // As larder has it: counted from here, time ends with what 64 bits tell.
    let epoch: u64 = 1 << 63;
    for start in [0, 1, 1 << 20, (1 << 26) - 1, 1 << 44, epoch / 2, epoch - (1 << 45), epoch - 1_001] {
        for jump in spans.iter().copied().chain([(1 << 26) - 1, (1 << 32) + 1, u64::MAX]) {
            for segments in [1, 4] {
                let clock = Clock::manual_at(Duration::from_nanos(start));
                let cache = builder(&clock).segments(segments).build().unwrap();
                let mut now = epoch + start.max(1);
                for _ in 0..3 {
                    for (key, span) in (0..).zip(&spans) {
                        cache.insert_with(key, *span, ttl(Duration::from_nanos(*span)));
                    }
                    clock.advance(Duration::from_nanos(jump));
                    let before = now;
                    now = now.saturating_add(jump);
                    cache.run_pending_tasks();
                    let deadline =
                        |span: u64| Some(before.saturating_add(span)).filter(|&end| end < u64::MAX);
                    for (key, &span) in (0..).zip(&spans) {
                        let lives = deadline(span).is_none_or(|end| now < end);
                        assert_eq!(cache.peek(&key).is_some(), lives, "{span} ns from {before}, then {jump}");
                    }
                    let stays = |span: &&u64| deadline(**span).is_none_or(|end| now >> 20 <= end >> 20);
                    let most = spans.iter().filter(stays).count();
                    assert!(cache.len() <= most, "{} of {most} from {before}, then {jump}", cache.len());
                    cache.validate();
                }
            }
        }
    }
}

/// Case 33: at the very end of time what has no end goes on, for all methods.
#[test]
fn what_never_ends_is_there_when_the_clock_has_stopped() {
    ends(|| {
        for_some(|policy, segments| {
            for (name, sees) in VIEWS {
                let clock = Clock::manual_at(END - secs(1));
                let cache =
                    builder(&clock).eviction_policy(policy.clone()).segments(segments).build().unwrap();
                cache.insert_with(1, 10, InsertOptions::new());
                cache.insert_with(3, 10, ttl(NS));
                clock.advance(Duration::MAX);
                assert!(sees(&cache), "{name}, {policy}");
                assert_eq!(cache.get(&3), None);
                cache.validate();
            }
        });
    });
}

/// Case 36; and an entry that was not to end may get an end, by each way to write it.
#[test]
fn an_update_decides_anew_when_an_entry_ends() {
    for_some(|policy, segments| {
        for swept in [false, true] {
            let clock = Clock::manual();
            let cache = builder(&clock).eviction_policy(policy.clone()).segments(segments).build().unwrap();
            for key in 0..40 {
                cache.insert_with(key, 0, ttl(secs(1)));
            }
            clock.advance(if swept { secs(2) } else { secs(1) });
            (0..10).for_each(|key| cache.insert(key, 1));
            (10..20).for_each(|key| _ = cache.compute(key, |_| Op::Insert(1)));
            (20..30).for_each(|key| _ = cache.get_or_load(key, |_| 1));
            (30..40).for_each(|key| cache.insert_with(key, 1, tti(Duration::MAX)));
            for _ in 0..5 {
                clock.advance(secs(1_000_000));
                cache.run_pending_tasks();
                assert_eq!(cache.len(), 40);
                assert_eq!(cache.get_many(&(0..40).collect::<Vec<_>>()), vec![Some(1); 40]);
                cache.validate();
            }
            (0..40).for_each(|key| cache.insert_with(key, 2, ttl(secs(key))));
            clock.advance(secs(20));
            assert_eq!(cache.iter().count(), 19);
            clock.advance(TICK);
            cache.run_pending_tasks();
            assert_eq!(cache.len(), 19);
            cache.validate();
        }
    });
}

/// The builder's times are for entries of which nothing is said; what is said of one leaves the others as they are, also when
/// a later entry has its place.
#[test]
fn an_entry_has_its_own_times_and_leaves_none_behind() {
    for_some(|policy, segments| {
        for (default_ttl, default_tti) in
            [(None, None), (Some(50), None), (None, Some(30)), (Some(50), Some(30))]
        {
            let clock = Clock::manual();
            let mut builder =
                builder(&clock).max_capacity(16).eviction_policy(policy.clone()).segments(segments);
            if let Some(time) = default_ttl {
                builder = builder.time_to_live(secs(time));
            }
            if let Some(time) = default_tti {
                builder = builder.time_to_idle(secs(time));
            }
            let cache = builder.build().unwrap();
            let long = 1_000_000;
            for round in 0..size(300, 12) as u64 {
                // Each kind comes after each other kind sooner or later, in the same slots.
                let own_ttl = [None, Some(20), Some(long), None, Some(70)][round as usize % 5];
                let own_tti = [None, Some(7), None, Some(long), Some(60), None][round as usize / 5 % 6];
                let mut options = InsertOptions::new();
                if let Some(time) = own_ttl {
                    options = options.ttl(secs(time));
                }
                if let Some(time) = own_tti {
                    options = options.tti(secs(time));
                }
                let (life, idle) = (own_ttl.or(default_ttl), own_tti.or(default_tti));
                cache.insert_with(1, round, options);
                let first = idle.unwrap_or(long).min(life.unwrap_or(long));
                clock.advance(secs(first - 1));
                assert_eq!(cache.get(&1), Some(round));
                // The read has put the end off by the time to idle, as far as the time to live goes.
                let left = idle.unwrap_or(long).min(life.map_or(long, |life| life - (first - 1)));
                clock.advance(secs(left) - NS);
                assert_eq!(cache.peek(&1), Some(round), "ttl {life:?}, tti {idle:?}, {policy}");
                clock.advance(NS);
                let ends = left < long || life == Some(long) || idle == Some(long);
                assert_eq!(cache.peek(&1).is_none(), ends, "ttl {life:?}, tti {idle:?}, {policy}");
                if round % 3 == 0 {
                    cache.remove(&1);
                }
                cache.validate();
            }
        }
    });
}

/// The first entry that ends comes into a cache of which nothing was said of time, in the middle of a call for many keys.
#[test]
fn a_call_for_many_keys_sees_nothing_that_ended_while_it_ran() {
    let clock = Clock::manual();
    let cache = Cache::builder().max_capacity(10).clock(clock.clone()).build().unwrap();
    let key = std::iter::once_with(|| {
        cache.insert_with(1, "short", InsertOptions::new().ttl(Duration::from_secs(1)));
        clock.advance(Duration::from_secs(2));
        &1
    });
    assert_eq!(cache.get_many(key), [None]);
}
