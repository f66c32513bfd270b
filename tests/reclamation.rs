//! Memory of removed entries: what waits for readers is bounded whatever the scheduler does, and a reader that stays keeps one
//! entry.
#![allow(missing_docs)]

mod common;

use common::{Census, Counted, for_all, size};
use larder::{Cache, EvictionPolicy, Op};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Barrier, OnceLock, Weak, mpsc};

type Values = Cache<u64, Counted<u64>>;

/// Returns how many entries may wait in a segment made for `capacity` entries, without those that threads hold: six batches, each
/// a 128th of the entries but at least 16, or one for each eight threads.
fn batches(capacity: u64, threads: u64) -> i64 {
    let batch = (capacity / 128).clamp(16, 128).max((threads / 8).min(capacity / 32));
    6 * batch as i64
}

/// The entries that a thread may hold: one that it looks at, one that it inserts, and those that it is dropping.
const HELD: i64 = 2 + 16;

fn fill(cache: &Values, census: &Census, keys: impl Iterator<Item = u64>) {
    keys.for_each(|key| cache.insert(key, census.count(key)));
}

/// Runs readers of another cache that never pause, while `work` runs.
fn beside_readers(readers: usize, work: impl FnOnce()) {
    let (other, done) = (Cache::new(100), AtomicBool::new(false));
    (0..100).for_each(|key: u64| other.insert(key, key));
    let started = Barrier::new(readers + 1);
    std::thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| {
                started.wait();
                while !done.load(SeqCst) {
                    assert_eq!((0..100).filter_map(|key| other.get(&key)).count(), 100);
                }
            });
        }
        started.wait();
        work();
        done.store(true, SeqCst);
    });
}

#[test]
fn readers_of_another_cache_keep_nothing() {
    let (inserts, readers) = (size(60_000, 300), size(17, 2));
    let (cache, census) = (Values::new(1_000), Census::default());
    let mut peak = 0;
    beside_readers(readers, || {
        for key in 0..inserts as u64 {
            cache.insert(key, census.count(key));
            peak = peak.max(census.living());
        }
    });
    assert!(peak <= 1_100, "{peak} values of 1,000 entries");
    cache.validate();
}

/// More threads than cores insert, and others are in the middle of a look.
#[test]
fn what_waits_is_bounded_with_more_threads_than_cores() {
    let (threads, inserts) = (size(32, 3) as u64, size(5_000, 100) as u64);
    let (cache, census) = (Values::new(1_000), Census::default());
    fill(&cache, &census, 0..1_000);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (cache, census) = (&cache, &census);
            // Other tests of this process have threads, too.
            let most = 1_000 + batches(1_000, 4 * threads) + threads as i64 * HELD;
            scope.spawn(move || {
                for key in 0..inserts {
                    let key = 1_000 + thread * inserts + key;
                    cache.insert(key, census.count(key));
                    assert!(census.living() <= most, "{} values, {most} at most", census.living());
                    cache.with(&key, |value| assert_eq!(*value.what, key));
                }
            });
        }
    });
    cache.run_pending_tasks();
    assert_eq!(census.living(), cache.len() as i64);
    cache.validate();
}

/// A thread that is stopped inside `with`, one inside `for_each` and one inside `compute`, while everything is replaced.
#[test]
fn a_stopped_reader_keeps_what_it_looks_at_and_no_more() {
    for_all(|policy, segments| {
        let census = Census::default();
        let cache: Values =
            Cache::builder().max_capacity(256).eviction_policy(policy).segments(segments).build().unwrap();
        fill(&cache, &census, 0..100);
        let (stop, is_stopped) = mpsc::channel();
        let (goes_on, rest) = (Barrier::new(4), size(5_000, 600) as u64);
        std::thread::scope(|scope| {
            let (cache, goes_on) = (&cache, &goes_on);
            let stay = move |value: &Counted<u64>| {
                let before = *value.what;
                stop.send(()).unwrap();
                goes_on.wait();
                assert_eq!(*value.what, before);
            };
            let (within, within_all, within_compute) = (stay.clone(), stay.clone(), stay);
            scope.spawn(move || cache.with(&1, within));
            scope.spawn(move || {
                let mut once = Some(within_all);
                cache.for_each(|_, value| once.take().into_iter().for_each(|stay| stay(value)));
            });
            scope.spawn(move || {
                let mut once = Some(within_compute);
                cache.compute(2, |value| {
                    once.take().into_iter().for_each(|stay| value.into_iter().for_each(stay));
                    Op::Keep
                })
            });
            (0..3).for_each(|_| is_stopped.recv().unwrap());
            cache.invalidate_all();
            fill(cache, &census, 1_000..1_000 + rest);
            cache.run_pending_tasks();
            // `for_each` takes the entries of a few lines of the index at once.
            let kept = census.living() - cache.len() as i64;
            assert!((2..=2 + 64).contains(&kept), "{kept} are kept");
            goes_on.wait();
        });
        cache.run_pending_tasks();
        assert_eq!(census.living(), cache.len() as i64);
        cache.validate();
    });
}

#[test]
fn an_iterator_that_is_held_keeps_nothing() {
    let (cache, census) = (Values::new(1_000), Census::default());
    fill(&cache, &census, 0..1_000);
    let mut keys = cache.keys();
    assert!(keys.next().is_some());
    cache.invalidate_all();
    cache.run_pending_tasks();
    assert_eq!(census.living(), 0);
    drop(keys);
}

/// A reader that looks at an entry may look at others of the same cache, to any depth, and change them.
#[test]
fn looks_nest() {
    fn look(cache: &Values, census: &Census, depth: u64) {
        cache.with(&depth, |value| {
            cache.insert(depth, census.count(1_000));
            if depth < 40 {
                look(cache, census, depth + 1);
            }
            cache.run_pending_tasks();
            assert_eq!(*value.what, depth);
        });
    }
    for_all(|policy, segments| {
        let census = Census::default();
        let cache: Values =
            Cache::builder().max_capacity(100).eviction_policy(policy).segments(segments).build().unwrap();
        fill(&cache, &census, 0..41);
        look(&cache, &census, 0);
        cache.run_pending_tasks();
        assert_eq!(census.living(), 41);
        cache.validate();
    });
}

/// A value that removes another entry when it is dropped.
struct Chained {
    cache: Weak<OnceLock<Cache<u64, Chained>>>,
    next: u64,
}

impl Drop for Chained {
    fn drop(&mut self) {
        let Some(cache) = self.cache.upgrade() else { return };
        cache.get().into_iter().for_each(|cache| _ = cache.invalidate(&self.next));
    }
}

/// Half of the entries are evicted at once, and each of them removes one of the others: on a small stack, so none of this may go
/// deeper with their number.
#[test]
fn drops_that_remove_others_do_not_nest() {
    let entries = size(40_000, 200) as u64;
    let run = move || {
        let holder = Arc::new(OnceLock::new());
        let cache: Cache<u64, Chained> = Cache::builder()
            .max_capacity(entries)
            .eviction_policy(EvictionPolicy::fifo())
            .segments(1)
            .build()
            .unwrap();
        assert!(holder.set(cache.clone()).is_ok());
        for key in 0..entries {
            cache
                .insert(key, Chained { cache: Arc::downgrade(&holder), next: (key + entries / 2) % entries });
        }
        cache.set_capacity(entries / 2);
        while !cache.is_empty() {
            cache.run_pending_tasks();
        }
        cache.validate();
    };
    let thread = std::thread::Builder::new().stack_size(128 << 10).spawn(run).unwrap();
    thread.join().unwrap();
}
