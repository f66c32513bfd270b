//! What a new value of an entry keeps of what the entry was given by options.
#![allow(missing_docs)]

mod common;

use common::loads::Task;
use common::time::secs;
use common::{for_all, until};
use larder::{Builder, Cache, Clock, EvictionPolicy, Expiry, InsertOptions, Metadata, Op};
use std::time::Duration;

type Numbers = Cache<u64, u64>;

const KEY: u64 = 7;
const TAG: u64 = 1;
/// What the builder's rules give.
const RULE: u64 = 2;

fn builder(policy: EvictionPolicy, segments: usize, clock: &Clock) -> Builder<u64, u64> {
    Cache::builder()
        .max_capacity(10_000)
        .segments(segments)
        .eviction_policy(policy)
        .weigher(|_: &u64, value: &u64| *value)
        .tags(|_: &u64, _: &u64| [RULE])
        .time_to_live(secs(1_000))
        .time_to_idle(secs(900))
        .refresh_after_write(secs(10))
        .clock(clock.clone())
}

fn options() -> InsertOptions {
    InsertOptions::new().weight(50).tags([TAG]).ttl(secs(100)).tti(secs(60)).pinned(true)
}

fn metadata(cache: &Numbers) -> Metadata {
    cache.metadata(&KEY).unwrap()
}

type Update = fn(&Numbers);

/// Ways to give the entry of [`KEY`] the value 5, once it is due.
const UPDATES: [(&str, Update); 9] = [
    ("compute", |cache| _ = cache.compute(KEY, |_| Op::Insert(5))),
    ("and_upsert_with", |cache| _ = cache.entry(KEY).and_upsert_with(|_| 5)),
    ("refresh", |cache| _ = cache.refresh(KEY, |_| 5)),
    ("try_refresh", |cache| _ = cache.try_refresh(KEY, |_| Ok::<_, String>(5))),
    ("refresh_async", |cache| _ = Task::new(cache.refresh_async(KEY, |_| async { 5 })).ready()),
    ("get_or_load", |cache| _ = cache.get_or_load(KEY, |_| 5)),
    ("get_or_load_async", |cache| _ = Task::new(cache.get_or_load_async(KEY, |_| async { 5 })).ready()),
    ("get_all_or_load", |cache| _ = cache.get_all_or_load([KEY], |_| [(KEY, 5)])),
    ("a key nobody asked for", |cache| _ = cache.get_all_or_load([8], |_| [(8, 1), (KEY, 5)])),
];

#[test]
fn an_update_keeps_what_its_entry_was_given() {
    for_all(|policy, segments| {
        for (name, update) in UPDATES {
            let clock = Clock::manual();
            let cache = builder(policy.clone(), segments, &clock).build().unwrap();
            cache.insert_with(KEY, 3, options());
            // Twice: the second update finds what the first has kept.
            for _ in 0..2 {
                clock.advance(secs(30));
                update(&cache);
                assert_eq!(cache.peek(&KEY), Some(5), "{name}");
                let Metadata { remaining, weight, is_pinned, .. } = metadata(&cache);
                assert_eq!((weight, is_pinned, remaining), (50, true, Some(secs(60))), "{name}, {policy}");
            }
            // Reads put off no more than the time to live.
            for (time, left) in [(50, 50), (30, 20)] {
                clock.advance(secs(time));
                assert_eq!(cache.get(&KEY), Some(5), "{name}");
                assert_eq!(metadata(&cache).remaining, Some(secs(left)), "{name}");
            }
            cache.validate();
            assert_eq!(
                (cache.invalidate_tag(RULE), cache.get(&KEY)),
                (usize::from(name.contains("asked")), Some(5))
            );
            assert_eq!((cache.invalidate_tag(TAG), cache.get(&KEY)), (1, None), "{name}");
        }
    });
}

/// The hook's thread lands the value.
#[test]
fn a_refresh_elsewhere_keeps_what_its_entry_was_given() {
    let clock = Clock::manual();
    let cache = builder(EvictionPolicy::default(), 1, &clock)
        .refresh_with(|refresh| drop(std::thread::spawn(move || refresh.complete(5))))
        .build()
        .unwrap();
    cache.insert_with(KEY, 3, options());
    clock.advance(secs(30));
    assert_eq!(cache.get_or_load(KEY, |_| unreachable!()), 3);
    until(|| cache.peek(&KEY) == Some(5));
    assert_eq!((metadata(&cache).weight, metadata(&cache).remaining), (50, Some(secs(60))));
    assert_eq!(cache.invalidate_tag(TAG), 1);
}

#[test]
fn an_update_asks_the_rules_for_what_its_entry_was_not_given() {
    for (name, update) in UPDATES {
        let clock = Clock::manual();
        let cache = builder(EvictionPolicy::default(), 1, &clock).build().unwrap();
        cache.insert_with(KEY, 3, InsertOptions::new().tti(secs(60)));
        clock.advance(secs(30));
        update(&cache);
        assert_eq!((metadata(&cache).weight, metadata(&cache).remaining), (5, Some(secs(60))), "{name}");
        assert_eq!(cache.invalidate_tag(RULE), 1 + usize::from(name.contains("asked")), "{name}");
    }
}

#[test]
fn an_own_time_to_live_beats_what_an_expiry_says_of_an_update() {
    struct Short;
    impl Expiry<u64, u64> for Short {
        fn after_create(&self, _: &u64, _: &u64) -> Option<Duration> {
            Some(secs(15))
        }
    }
    for (name, update) in UPDATES {
        let clock = Clock::manual();
        let own = |clock: &Clock| {
            Cache::builder()
                .max_capacity(100)
                .expire_after(Short)
                .refresh_after_write(secs(10))
                .clock(clock.clone())
        };
        let cache = own(&clock).build().unwrap();
        cache.insert_with(KEY, 3, InsertOptions::new().ttl(secs(100)));
        clock.advance(secs(12));
        update(&cache);
        assert_eq!(metadata(&cache).remaining, Some(secs(100)), "{name}");
        cache.insert(KEY, 3);
        clock.advance(secs(12));
        update(&cache);
        assert_eq!(metadata(&cache).remaining, Some(secs(15)), "{name}");
    }
}

/// In a cache to which nothing was said of time, tags and weights.
#[test]
fn a_plain_cache_keeps_what_single_entries_were_given() {
    for_all(|policy, segments| {
        let clock = Clock::manual();
        let cache = Cache::builder()
            .max_capacity(1_000)
            .segments(segments)
            .eviction_policy(policy)
            .clock(clock.clone())
            .build()
            .unwrap();
        (0..100).for_each(|key| cache.insert(key, 0));
        cache.insert_with(KEY, 3, InsertOptions::new().weight(20).tags([TAG]).ttl(secs(100)));
        (0..100).for_each(|key| _ = cache.compute(key, |_| Op::Insert(5)));
        assert_eq!((metadata(&cache).weight, cache.weighted_size()), (20, 119));
        assert_eq!(cache.metadata(&8).unwrap().weight, 1);
        clock.advance(secs(100));
        assert_eq!((cache.get(&KEY), cache.get(&8)), (None, Some(5)));
        cache.validate();
    });
}

#[test]
fn an_insert_keeps_nothing_but_the_pin() {
    for_all(|policy, segments| {
        let clock = Clock::manual();
        let cache = builder(policy, segments, &clock).build().unwrap();
        cache.insert_with(KEY, 3, options());
        cache.insert(KEY, 4);
        let Metadata { remaining, weight, is_pinned, .. } = metadata(&cache);
        assert_eq!((weight, is_pinned, remaining), (4, true, Some(secs(900))));
        assert_eq!((cache.invalidate_tag(TAG), cache.invalidate_tag(RULE)), (0, 1));
    });
}

#[test]
fn an_expired_entry_passes_nothing_on() {
    for (name, update) in UPDATES {
        let clock = Clock::manual();
        let cache = builder(EvictionPolicy::default(), 1, &clock).build().unwrap();
        cache.insert_with(KEY, 3, options());
        clock.advance(secs(60));
        update(&cache);
        let Metadata { remaining, weight, is_pinned, .. } = metadata(&cache);
        assert_eq!((weight, is_pinned, remaining), (5, false, Some(secs(900))), "{name}");
        assert_eq!(cache.invalidate_tag(TAG), 0, "{name}");
    }
}

/// It is served all the while, so its value goes on.
#[test]
fn a_stale_entry_is_renewed_with_what_it_was_given() {
    let clock = Clock::manual();
    let cache =
        builder(EvictionPolicy::default(), 1, &clock).stale_while_revalidate(secs(100)).build().unwrap();
    cache.insert_with(KEY, 3, options());
    clock.advance(secs(70));
    let renewed = cache.get_or_load(KEY, |_| {
        assert_eq!(cache.get_or_load(KEY, |_| unreachable!()), 3);
        5
    });
    assert_eq!((renewed, metadata(&cache).weight, metadata(&cache).remaining), (5, 50, Some(secs(60))));
    assert_eq!(cache.invalidate_tag(TAG), 1);
}

/// Whether the entry is still there or not when that happens, and when the value comes.
#[test]
fn a_refresh_does_not_outlive_the_invalidation_of_a_tag_that_its_entry_was_given() {
    type Meanwhile = fn(&Numbers, &Clock);
    let meanwhile: [(&str, Meanwhile); 3] = [
        ("there", |_, _| ()),
        ("evicted", |cache, _| {
            cache.set_capacity(0);
            cache.set_capacity(10_000);
        }),
        ("expired", |_, clock| clock.advance(secs(60))),
    ];
    for (name, meanwhile) in meanwhile {
        for is_due in [false, true] {
            let clock = Clock::manual();
            let cache = builder(EvictionPolicy::default(), 1, &clock).build().unwrap();
            cache.insert_with(KEY, 3, options());
            clock.advance(secs(30));
            let old = |_: &u64| {
                meanwhile(&cache, &clock);
                cache.invalidate_tag(TAG);
                // Who asks now must not get the old value.
                assert_eq!(cache.get_or_load(KEY, |_| 6), 6, "{name}");
                5
            };
            let given = if is_due { cache.get_or_load(KEY, old) } else { cache.refresh(KEY, old) };
            assert_eq!((given, cache.get(&KEY)), (5, Some(6)), "{name}");
        }
    }
}

/// As an update of the entry that was there when the load began.
#[test]
fn a_refresh_keeps_what_an_entry_was_given_that_leaves_by_itself_meanwhile() {
    let clock = Clock::manual();
    let cache = builder(EvictionPolicy::default(), 1, &clock).build().unwrap();
    cache.insert_with(KEY, 3, options());
    clock.advance(secs(30));
    cache.refresh(KEY, |_| {
        clock.advance(secs(30));
        assert_eq!(cache.peek(&KEY), None);
        5
    });
    assert_eq!((metadata(&cache).weight, metadata(&cache).remaining), (50, Some(secs(60))));
    assert_eq!(cache.invalidate_tag(TAG), 1);
}

/// Threads that compute and threads that insert with options: what an entry carries is its value's.
#[test]
fn updates_mix_no_two_entries() {
    let cache: Numbers = Cache::builder().max_capacity(10_000).build().unwrap();
    let rounds = common::size(2_000, 20) as u64;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..rounds).for_each(|round| {
                let weight = 1 + round % 100;
                cache.insert_with(KEY, weight, InsertOptions::new().weight(weight).tags([weight]));
            })
        });
        for _ in 0..2 {
            // The value stays the weight that its entry was given.
            scope.spawn(|| {
                (0..rounds).for_each(|_| {
                    _ = cache.compute(KEY, |value| value.map_or(Op::Keep, |&value| Op::Insert(value)))
                })
            });
        }
    });
    let value = cache.peek(&KEY).unwrap();

    assert_eq!(metadata(&cache).weight, value);
    assert_eq!(cache.invalidate_tag(value), 1);
    cache.validate();
}
