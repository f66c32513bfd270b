//! Snapshots through the cache: what comes back, and what does not.
#![cfg(feature = "serde")]
#![allow(missing_docs)]

use larder::{Cache, Clock, EvictionPolicy, InsertOptions, SnapshotError};
use std::time::Duration;

const POLICIES: [&str; 7] = ["s3_lirs", "tiny_lfu", "s3_fifo", "sieve", "lru", "lfu", "fifo"];

fn saved<V: Send + Sync + serde::Serialize + serde::de::DeserializeOwned + 'static>(
    cache: &Cache<u64, V>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let report = cache.snapshot().save_to(&mut bytes).unwrap();
    assert_eq!(report.bytes, bytes.len() as u64);
    bytes
}

#[test]
fn everything_comes_back() {
    for policy in POLICIES {
        for segments in [1, 8] {
            let make = || {
                let policy: EvictionPolicy = policy.parse().unwrap();
                Cache::builder()
                    .max_capacity(4_000)
                    .segments(segments)
                    .eviction_policy(policy)
                    .build()
                    .unwrap()
            };
            let cache: Cache<u64, String> = make();
            for key in 0..900 {
                cache.insert(key, format!("value {key}"));
            }
            for key in (0..900).step_by(7) {
                cache.get(&key);
            }
            let again: Cache<u64, String> = make();
            let report = again.snapshot().load_from(&saved(&cache)[..]).unwrap();
            again.validate();
            assert_eq!(report.entries, 900, "{policy}: {report:?}");
            let there = (0..900).filter(|key| again.get(key) == Some(format!("value {key}"))).count() as u64;
            assert_eq!(there, again.len() as u64);
            assert_eq!(there, 900, "{policy}");
        }
    }
}

#[test]
fn an_update_after_a_restart_keeps_what_its_entry_was_given() {
    let clock = Clock::manual();
    let make = || {
        Cache::<u64, u64>::builder()
            .max_capacity(100)
            .clock(clock.clone())
            .weigher(|_: &u64, _: &u64| 3)
            .tags(|_: &u64, _: &u64| ["rule"])
            .build()
            .unwrap()
    };
    let seconds = Duration::from_secs;
    let cache = make();
    let options = InsertOptions::new().weight(9).tags(["own"]).ttl(seconds(100)).tti(seconds(60));
    cache.insert_with(1, 1, options);
    cache.insert(2, 2);
    clock.advance(seconds(50));
    let again = make();
    again.snapshot().load_from(&saved(&cache)[..]).unwrap();
    for key in [1, 2] {
        assert_eq!(again.entry(key).and_upsert_with(|value| value.unwrap() + 10), key + 10);
    }
    let known = |key| again.metadata(&key).map(|metadata| (metadata.weight, metadata.remaining));
    assert_eq!((known(1), known(2)), (Some((9, Some(seconds(60)))), Some((3, None))));
    clock.advance(seconds(50));
    assert_eq!(again.get(&1), Some(11));
    assert_eq!(known(1), Some((9, Some(seconds(50)))));
    assert_eq!((again.invalidate_tag("rule"), again.invalidate_tag("own")), (1, 1));
}

#[test]
fn what_is_known_of_an_entry_comes_back() {
    let make = || {
        Cache::<u64, u64>::builder()
            .max_capacity(100)
            .clock(Clock::manual())
            .time_to_live(Duration::from_secs(60))
            .max_reads(5)
            .record_ages()
            .build()
            .unwrap()
    };
    let clock = Clock::manual();
    let cache = Cache::<u64, u64>::builder()
        .max_capacity(100)
        .clock(clock.clone())
        .time_to_live(Duration::from_secs(60))
        .max_reads(5)
        .record_ages()
        .build()
        .unwrap();
    cache.insert_with(1, 10, InsertOptions::new().weight(7).pinned(true).tags(["a", "b"]));
    clock.advance(Duration::from_secs(20));
    cache.insert(2, 20);
    cache.get(&2);
    let bytes = saved(&cache);

    let again = make();
    again.snapshot().load_from(&bytes[..]).unwrap();
    assert_eq!(again.metadata(&1), cache.metadata(&1));
    assert_eq!(again.metadata(&2), cache.metadata(&2));
    assert_eq!(again.invalidate_tag("a"), 1);
    assert_eq!(again.len(), 1);
    again.validate();

    // The first one's time is over meanwhile.
    let again = make();
    let report = again.snapshot().downtime(Duration::from_secs(40)).load_from(&bytes[..]).unwrap();
    assert_eq!((report.entries, report.left_out), (1, 1));
    assert_eq!(again.metadata(&2).unwrap().remaining, Some(Duration::from_secs(20)));
    assert_eq!(again.metadata(&2).unwrap().age, Some(Duration::from_secs(40)));
}

#[test]
fn other_types_are_refused() {
    let cache: Cache<u64, u64> = Cache::new(10);
    cache.insert(1, 1);
    let bytes = saved(&cache);
    let other: Cache<u64, i64> = Cache::new(10);
    let error = other.snapshot().load_from(&bytes[..]).unwrap_err();
    assert!(matches!(&error, SnapshotError::Types { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "the snapshot is of u64 to u64, but the cache of u64 to i64: read it into a cache of its types"
    );
}
