//! Snapshots while other threads use the cache, and while user code panics.
#![cfg(feature = "serde")]
#![allow(missing_docs)]

mod common;

use common::{Random, for_all, panics, size};
use larder::{Cache, Codec, EvictionPolicy, InsertOptions, RemovalCause};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::thread;
use std::time::{Duration, Instant};

const KEYS: u64 = 64;

/// Tells of which key it is, which of its values, and both once more where a torn one would show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    key: u64,
    number: u64,
    text: String,
}

impl Stamp {
    fn new(key: u64, number: u64) -> Self {
        Self { key, number, text: format!("{key}:{number}") }
    }

    fn check(&self, key: u64) {
        assert_eq!(self.key, key, "another key's value");
        assert_eq!(self.text, format!("{key}:{}", self.number), "a torn value");
    }
}

type Stamps = Cache<u64, Stamp>;

fn stamps(policy: &EvictionPolicy, segments: usize, capacity: u64) -> Stamps {
    Cache::builder()
        .max_capacity(capacity)
        .segments(segments)
        .eviction_policy(policy.clone())
        .build()
        .unwrap()
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("larder-races-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Does something for a while in some threads, until the work of this one is done.
fn meanwhile<R>(threads: u64, other: impl Fn(u64, &mut Random) + Sync, work: impl FnOnce() -> R) -> R {
    let is_done = std::sync::atomic::AtomicBool::new(false);
    struct Done<'a>(&'a std::sync::atomic::AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    thread::scope(|scope| {
        for thread in 0..threads {
            let (is_done, other) = (&is_done, &other);
            scope.spawn(move || {
                let mut random = Random::new(thread + 1);
                while !is_done.load(SeqCst) {
                    other(thread, &mut random);
                }
            });
        }
        // Also if it panics, or the scope would wait for ever.
        let _done = Done(&is_done);
        work()
    })
}

fn bytes_of(cache: &Stamps) -> Vec<u8> {
    let mut bytes = Vec::new();
    cache.snapshot().types("stamps").save_to(&mut bytes).unwrap();
    bytes
}

/// What is saved was there at some moment while it was: no value that had been replaced or removed before, and none of
/// another key.
#[test]
fn what_is_saved_was_there_meanwhile() {
    for_all(|policy, segments| {
        let cache = stamps(&policy, segments, KEYS / 2);
        let deadline = Instant::now() + Duration::from_millis(size(250, 50) as u64);
        // Of each key the numbers that were begun to be written, and those that have gone for sure: all below.
        let begun: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
        let gone: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
        let other = |thread: u64, random: &mut Random| {
            // Each key has one writer.
            let key = random.below(KEYS / 3) * 3 + thread % 3;
            match random.below(10) {
                0..4 => {
                    let number = begun[key as usize].fetch_add(1, SeqCst) + 1;
                    let options = InsertOptions::new().pinned(random.one_in(9)).weight(random.below(3));
                    cache.insert_with(key, Stamp::new(key, number), options);
                    gone[key as usize].store(number, SeqCst);
                }
                4 => {
                    cache.remove(&key);
                    let number = begun[key as usize].load(SeqCst);
                    gone[key as usize].store(number + 1, SeqCst);
                }
                5 if random.one_in(50) => cache.invalidate_all(),
                _ => {
                    if let Some(value) = cache.get(&random.below(KEYS)) {
                        assert!(value.number > 0);
                    }
                }
            }
        };
        meanwhile(3, other, || {
            while Instant::now() < deadline {
                let least: Vec<_> = gone.iter().map(|number| number.load(SeqCst)).collect();
                let bytes = bytes_of(&cache);
                let most: Vec<_> = begun.iter().map(|number| number.load(SeqCst)).collect();
                let again = stamps(&policy, segments, 2 * KEYS);
                let report = again.snapshot().types("stamps").load_from(&bytes[..]).unwrap();
                again.validate();
                assert_eq!(report.entries, again.len() as u64);
                for (key, value) in again.iter() {
                    value.check(key);
                    let (least, most) = (least[key as usize], most[key as usize]);
                    assert!(
                        (least..=most).contains(&value.number),
                        "{policy}: {value:?} was not there between {least} and {most}"
                    );
                }
            }
        });
        cache.validate();
    });
}

/// Entries that nobody touches are all saved, whatever happens to others.
#[test]
fn entries_at_rest_are_all_saved() {
    for_all(|policy, segments| {
        let cache = stamps(&policy, segments, 8 * KEYS);
        (0..KEYS).for_each(|key| cache.insert(key, Stamp::new(key, 1)));
        let other = |thread: u64, random: &mut Random| {
            let key = 1_000 + thread * KEYS + random.below(KEYS);
            if random.one_in(3) {
                cache.invalidate(&key);
            } else {
                cache.insert(key, Stamp::new(key, 1));
            }
        };
        meanwhile(2, other, || {
            for _ in 0..size(20, 2) {
                let again = stamps(&policy, 1, 8 * KEYS);
                again.snapshot().types("stamps").load_from(&bytes_of(&cache)[..]).unwrap();
                assert!((0..KEYS).all(|key| again.contains_key(&key)), "{policy}, {segments}");
            }
        });
        cache.validate();
    });
}

#[test]
fn loading_does_no_harm_to_what_others_do() {
    for capacity in [KEYS / 2, 16 * KEYS] {
        for_all(|policy, segments| load_meanwhile(&policy, segments, capacity));
    }
}

fn load_meanwhile(policy: &EvictionPolicy, segments: usize, capacity: u64) {
    // Otherwise what a thread has put in may be evicted, and the snapshot's come in.
    let has_room = capacity > KEYS;
    let old = stamps(policy, segments, 16 * KEYS);
    (0..KEYS).for_each(|key| old.insert(key, Stamp::new(key, 0)));
    let bytes = bytes_of(&old);
    let cache = stamps(policy, segments, capacity);
    let next = AtomicU64::new(1);
    let other = |thread: u64, random: &mut Random| {
        // Each thread has keys of its own.
        let key = random.below(KEYS / 4) * 4 + thread;
        let number = next.fetch_add(1, Relaxed);
        let is_loaded = random.one_in(4);
        let number = if is_loaded {
            let value = cache.get_or_load(key, |_| {
                thread::yield_now();
                Stamp::new(key, number)
            });
            value.check(key);
            // The loaded one, or the snapshot's if that came first.
            value.number
        } else {
            cache.insert(key, Stamp::new(key, number));
            number
        };
        let now = cache.get(&key);
        if has_room {
            assert_eq!(now, Some(Stamp::new(key, number)), "{policy}: loaded: {is_loaded}");
        }
        cache.invalidate(&key);
        assert!(cache.weighted_size() <= capacity);
    };
    meanwhile(4, other, || {
        for _ in 0..size(15, 2) {
            cache.snapshot().types("stamps").load_from(&bytes[..]).unwrap();
            assert!(cache.weighted_size() <= capacity);
        }
    });
    cache.validate();
    cache.iter().for_each(|(key, value)| value.check(key));
}

/// A key in flight: the loaded value counts, not the snapshot's.
#[test]
fn what_is_being_loaded_is_not_answered_by_the_snapshot() {
    for_all(|policy, segments| {
        let old = stamps(&policy, segments, KEYS);
        (0..3).for_each(|key| old.insert(key, Stamp::new(key, 0)));
        let bytes = bytes_of(&old);
        let cache = stamps(&policy, segments, KEYS);
        let load = || cache.snapshot().types("stamps").load_from(&bytes[..]).unwrap();
        let value = cache.get_or_load(1, |_| {
            let report = load();
            assert_eq!((report.entries, report.left_out), (2, 1));
            assert_eq!(cache.get(&1), None);
            Stamp::new(1, 1)
        });
        assert_eq!((value.number, cache.get(&1).unwrap().number), (1, 1));
        assert_eq!(load().entries, 0);
        assert_eq!(cache.get(&1).unwrap().number, 1);
        // Many at once.
        cache.invalidate_all();
        let values = cache.get_all_or_load([1, 2, 9], |keys| {
            assert_eq!(load().entries, 1);
            keys.iter().map(|&key| (key, Stamp::new(key, 2))).collect::<Vec<_>>()
        });
        assert_eq!(values.len(), 3);
        assert!([1, 2, 9].iter().all(|key| cache.get(key).unwrap().number == 2));
        assert_eq!(cache.get(&0).unwrap().number, 0);
        // One that fails leaves the key absent, and the next snapshot may bring it.
        cache.invalidate_all();
        assert!(
            cache
                .try_get_or_load(1, |_| {
                    load();
                    Err::<Stamp, _>("on purpose")
                })
                .is_err()
        );
        assert_eq!(cache.get(&1), None);
        assert_eq!(load().entries, 1);
        cache.validate();
    });
}

#[test]
fn two_saves_to_one_path_do_not_mix() {
    let folder = folder("two");
    let path = folder.join("cache");
    let caches: Vec<_> = (1..=3_u64)
        .map(|number| {
            let cache = stamps(&EvictionPolicy::default(), 1, 1_000);
            (0..100 * number).for_each(|key| cache.insert(key, Stamp::new(key, number)));
            cache
        })
        .collect();
    thread::scope(|scope| {
        for cache in &caches {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..size(20, 2) {
                    cache.snapshot().types("stamps").save(path).unwrap();
                    let again = stamps(&EvictionPolicy::default(), 1, 1_000);
                    again.snapshot().types("stamps").load(path).unwrap();
                    let number = again.iter().next().unwrap().1.number;
                    assert_eq!(again.len() as u64, 100 * number);
                    assert!(again.iter().all(|(_, value)| value.number == number));
                }
            });
        }
    });
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "no temporary file is left");
    std::fs::remove_dir_all(folder).unwrap();
}

/// A codec that uses the cache whose entries it encodes and decodes, and panics or fails on some.
struct Troubled<'a> {
    cache: &'a Cache<u64, u64>,
    bad: u64,
    panics: bool,
}

impl Troubled<'_> {
    fn trouble(&self, number: u64) -> Result<(), Box<dyn Error + Send + Sync>> {
        // No lock is held meanwhile.
        self.cache.insert(7_777, 0);
        let _ = self.cache.get(&number);
        self.cache.invalidate(&7_777);
        let _ = self.cache.hottest(1);
        if number != self.bad {
            return Ok(());
        }
        if self.panics {
            panic!("on purpose");
        }
        Err("on purpose".into())
    }
}

impl Codec<u64> for Troubled<'_> {
    fn name(&self) -> &str {
        "troubled"
    }
    fn encode(&self, value: &u64, into: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
        into.extend(value.to_le_bytes());
        self.trouble(*value)
    }
    fn decode(&self, bytes: &[u8]) -> Result<u64, Box<dyn Error + Send + Sync>> {
        let value = u64::from_le_bytes(bytes.try_into()?);
        self.trouble(value)?;
        Ok(value)
    }
}

#[test]
fn codecs_that_fail_or_panic_leave_the_cache_whole() {
    let folder = folder("codec");
    let path = folder.join("cache");
    for_all(|policy, segments| {
        let make = || {
            let builder = Cache::<u64, u64>::builder().max_capacity(1_000);
            builder.segments(segments).eviction_policy(policy.clone()).build().unwrap()
        };
        let cache = make();
        // Keys below 1000, values above.
        (0..300).for_each(|key| cache.insert(key, 1_000 + key));
        cache.snapshot().codec(codec(&cache, u64::MAX, false)).save(&path).unwrap();
        let good = std::fs::read(&path).unwrap();
        for bad in [150, 1_150] {
            assert!(panics(|| cache.snapshot().codec(codec(&cache, bad, true)).save(&path)));
            assert!(cache.snapshot().codec(codec(&cache, bad, false)).save(&path).is_err());
            assert_eq!(std::fs::read(&path).unwrap(), good, "the old file stays");
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "no temporary file is left");
            cache.validate();
            let again = make();
            again.insert(1, 1);
            assert!(panics(|| again.snapshot().codec(codec(&again, bad, true)).load(&path)));
            assert!(again.snapshot().codec(codec(&again, bad, false)).load(&path).is_err());
            again.validate();
            assert_eq!(again.iter().collect::<Vec<_>>(), [(1, 1)]);
        }
        assert_eq!(cache.len(), 300);
        std::fs::remove_file(&path).unwrap();
    });
    std::fs::remove_dir_all(folder).unwrap();
}

fn codec(cache: &Cache<u64, u64>, bad: u64, panics: bool) -> Troubled<'_> {
    Troubled { cache, bad, panics }
}

/// A value that cannot be written, and one that cannot be read, by serde.
#[derive(Clone, Debug)]
struct Unwilling(u64);

impl Serialize for Unwilling {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(self.0 != 13, "on purpose");
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Unwilling {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        assert!(number != 14, "on purpose");
        Ok(Self(number))
    }
}

#[test]
fn values_that_panic_leave_the_cache_whole() {
    for_all(|policy, segments| {
        let make = || {
            let builder = Cache::<u64, Unwilling>::builder().max_capacity(100);
            builder.segments(segments).eviction_policy(policy.clone()).build().unwrap()
        };
        let cache = make();
        (0..20).for_each(|key| cache.insert(key, Unwilling(key)));
        assert!(panics(|| cache.snapshot().save_to(Vec::new())));
        cache.validate();
        cache.invalidate(&13);
        let mut bytes = Vec::new();
        cache.snapshot().save_to(&mut bytes).unwrap();
        let again = make();
        assert!(panics(|| again.snapshot().load_from(&bytes[..])));
        again.validate();
        assert!(again.is_empty());
        (0..200).for_each(|key| again.insert(key, Unwilling(key)));
        again.validate();
    });
}

#[test]
fn listeners_that_panic_leave_the_cache_whole() {
    for_all(|policy, segments| {
        let old = Cache::<u64, u64>::builder().max_capacity(200).build().unwrap();
        (0..200).for_each(|key| old.insert(key, key));
        let mut bytes = Vec::new();
        old.snapshot().save_to(&mut bytes).unwrap();
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        let cache = Cache::<u64, u64>::builder()
            .max_capacity(200)
            .segments(segments)
            .eviction_policy(policy.clone())
            .eviction_listener(move |_: &u64, _: &u64, _: RemovalCause| {
                if counted.fetch_add(1, SeqCst).is_multiple_of(3) {
                    panic!("on purpose");
                }
            })
            .build()
            .unwrap();
        for key in 500..600 {
            panics(|| cache.insert_with(key, key, InsertOptions::new().weight(2).pinned(key % 2 == 0)));
        }
        for _ in 0..5 {
            panics(|| cache.snapshot().load_from(&bytes[..]));
            cache.validate();
            assert!(cache.weighted_size() <= 200);
        }
        assert!(count.load(SeqCst) > 0);
        panics(|| cache.invalidate_all());
        cache.validate();
        assert!(cache.is_empty());
    });
}

/// Takes so many bytes, in pieces of any size, and no more.
struct Full {
    room: usize,
    taken: Vec<u8>,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.taken.len() == self.room {
            return Err(std::io::Error::other("on purpose"));
        }
        let some = bytes.len().min(self.room - self.taken.len()).min(7);
        self.taken.extend(&bytes[..some]);
        Ok(some)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_may_fail_anywhere() {
    for_all(|policy, segments| {
        let cache = stamps(&policy, segments, 8 * KEYS);
        (0..KEYS).for_each(|key| cache.insert(key, Stamp::new(key, 1)));
        // The time in the header is another each time, but as long.
        let len = bytes_of(&cache).len();
        for room in (0..len).step_by(size(1 + len / 150, 101)) {
            let mut writer = Full { room, taken: Vec::new() };
            assert!(cache.snapshot().types("stamps").save_to(&mut writer).is_err(), "{room} of {len} bytes");
            let again = stamps(&policy, segments, 8 * KEYS);
            assert!(again.snapshot().types("stamps").load_from(&writer.taken[..]).is_err());
        }
        let mut writer = Full { room: len, taken: Vec::new() };
        cache.snapshot().types("stamps").save_to(&mut writer).unwrap();
        let again = stamps(&policy, segments, 8 * KEYS);
        again.snapshot().types("stamps").load_from(&writer.taken[..]).unwrap();
        assert_eq!(again.len(), cache.len());
        cache.validate();
    });
}

/// A save that stands still in the middle holds no lock, and what leaves the cache meanwhile does not upset it.
#[test]
fn a_slow_save_holds_nobody_up() {
    struct Slow<'a>(&'a Stamps, u64);
    impl Write for Slow<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1 += 1;
            let number = self.1;
            (0..10 * KEYS).for_each(|key| self.0.insert(key, Stamp::new(key, number)));
            self.0.invalidate_all();
            self.0.validate();
            Ok(bytes.len().min(1 << 12))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    for_all(|policy, segments| {
        let cache = stamps(&policy, segments, 4 * KEYS);
        (0..4 * KEYS).for_each(|key| cache.insert(key, Stamp::new(key, 1)));
        cache.snapshot().types("stamps").save_to(Slow(&cache, 1)).unwrap();
        cache.validate();
    });
}

/// A codec that replaces all values when it encodes the first one.
struct Replacing<'a> {
    cache: &'a Cache<u64, u64>,
    keys: u64,
    is_done: std::cell::Cell<bool>,
}

impl Codec<u64> for Replacing<'_> {
    fn name(&self) -> &str {
        "replacing"
    }
    fn encode(&self, value: &u64, into: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
        if !self.is_done.replace(true) {
            // Twice, so that they do not stand where they did before.
            for number in [1, 2] {
                (0..self.keys).rev().for_each(|key| self.cache.insert(key, number));
                self.cache.run_pending_tasks();
            }
        }
        into.extend(value.to_le_bytes());
        Ok(())
    }
    fn decode(&self, bytes: &[u8]) -> Result<u64, Box<dyn Error + Send + Sync>> {
        Ok(u64::from_le_bytes(bytes.try_into()?))
    }
}

/// A key that was there all the while is saved once, although its value was replaced meanwhile.
#[test]
fn entries_that_are_replaced_meanwhile_are_saved() {
    for_all(|policy, segments| {
        let make = || {
            let builder = Cache::<u64, u64>::builder().max_capacity(2_000);
            builder.segments(segments).eviction_policy(policy.clone()).build().unwrap()
        };
        let (cache, keys) = (make(), 1_000);
        (0..keys).for_each(|key| cache.insert(key, 0));
        let codec = || Replacing { cache: &cache, keys, is_done: false.into() };
        let mut bytes = Vec::new();
        let report = cache.snapshot().codec(codec()).save_to(&mut bytes).unwrap();
        assert_eq!((report.entries, report.left_out), (keys, 0), "{policy}, {segments}");
        let again = make();
        let report = again.snapshot().codec(codec()).load_from(&bytes[..]).unwrap();
        assert_eq!((report.entries, again.len() as u64), (keys, keys), "{policy}, {segments}");
    });
}

/// The same while threads replace them all the time.
#[test]
fn entries_that_threads_replace_are_saved() {
    for_all(|policy, segments| {
        let cache = stamps(&policy, segments, 8 * KEYS);
        let keys = 4 * KEYS;
        (0..keys).for_each(|key| cache.insert(key, Stamp::new(key, 0)));
        let other = |_: u64, random: &mut Random| {
            let key = random.below(keys);
            cache.insert(key, Stamp::new(key, 1));
        };
        meanwhile(2, other, || {
            for _ in 0..size(10, 2) {
                let again = stamps(&policy, 1, 8 * KEYS);
                again.snapshot().types("stamps").load_from(&bytes_of(&cache)[..]).unwrap();
                assert_eq!(again.len() as u64, keys, "{policy}, {segments}");
            }
        });
        cache.validate();
    });
}
