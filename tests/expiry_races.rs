//! What must hold of time while threads race, by the manual clock: nobody gets what was over before, what is over stays so, and
//! reads are counted exactly. As in `stress.rs` `LARDER_STRESS` multiplies the rounds (10 by default).
#![allow(missing_docs)]

mod common;

use common::{Census, Counted, Random, policies, size, size_from, until};
use larder::{Cache, Clock, EvictionPolicy, InsertOptions, RemovalCause};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};
use std::time::Duration;

/// Rounds: `n` tenths of what the environment says; `few` under Miri.
fn rounds(n: usize, few: usize) -> u64 {
    (size_from("LARDER_STRESS", 10, 0) * n / 10).max(size(1, few)) as u64
}

fn some_policies() -> Vec<EvictionPolicy> {
    // One whose reads are marks, and one whose reads are recorded.
    if cfg!(miri) { vec![EvictionPolicy::fifo(), EvictionPolicy::lru()] } else { policies() }
}

/// A manual clock, and between which times it is.
struct Time {
    clock: Clock,
    behind: AtomicU64,
    ahead: AtomicU64,
}

impl Time {
    fn new() -> Self {
        Self { clock: Clock::manual(), behind: AtomicU64::new(1), ahead: AtomicU64::new(1) }
    }

    fn advance(&self, nanos: u64) {
        self.ahead.fetch_add(nanos, SeqCst);
        fence(SeqCst);
        self.clock.advance(Duration::from_nanos(nanos));
        self.behind.fetch_add(nanos, SeqCst);
    }

    /// Not later than what the clock shows to whoever looks from now on.
    fn least(&self) -> u64 {
        self.behind.load(SeqCst)
    }

    /// Not earlier than what the clock has shown to whoever has looked.
    fn most(&self) -> u64 {
        fence(SeqCst);
        self.ahead.load(SeqCst)
    }
}

/// The latest time at which an entry ends; 0 until that is known.
type End = Arc<AtomicU64>;

/// Guarantee 1, and its other side. Entries know when they end: readers get none that was over before they began, and miss none
/// that is there when they have ended. The first entry that ends comes while others are being read. All are dropped once.
#[test]
fn readers_get_what_lives_and_nothing_else() {
    const KEYS: u64 = 4;
    for policy in some_policies() {
        for segments in [1, 4] {
            let (time, census) = (Time::new(), Census::default());
            let cache = Cache::builder()
                .max_capacity(1_000)
                .segments(segments)
                .eviction_policy(policy.clone())
                .clock(time.clock.clone())
                .build()
                .unwrap();
            // By key: until when the entry lives at least, and the round, so that no two are the same; 0 if nothing is known.
            let known: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for reader in 0..2 {
                    let (cache, time, known, done) = (&cache, &time, &known, &done);
                    scope.spawn(move || {
                        let mut random = Random::new(reader + 3);
                        let mut reads = 0;
                        while !done.load(Relaxed) || reads < 20 {
                            reads += 1;
                            let key = random.below(KEYS);
                            let lives = known[key as usize].load(SeqCst);
                            let began = time.least();
                            let found: Option<Counted<(u64, End)>> = match random.below(4) {
                                0 => cache.get_many(&[key]).pop().flatten(),
                                1 => cache.peek(&key),
                                2 => cache.iter().find(|entry| entry.0 == key).map(|entry| entry.1),
                                _ => cache.get(&key),
                            };
                            let ended = time.most();
                            match found {
                                Some(value) => {
                                    let (whose, end) = &*value.what;
                                    assert_eq!(*whose, key);
                                    let end = end.load(SeqCst);
                                    assert!(end == 0 || began < end, "{key} ended at {end}, read at {began}");
                                }
                                None if known[key as usize].load(SeqCst) == lives => {
                                    let lives = lives >> 16;
                                    assert!(ended >= lives, "{key} lives until {lives}, missed by {ended}");
                                }
                                None => {}
                            }
                            if random.below(4) == 0 {
                                time.advance(random.below(6));
                            }
                        }
                    });
                }
                let writers = (0..2).map(|writer| {
                    let (cache, time, known, census) = (&cache, &time, &known, &census);
                    scope.spawn(move || {
                        let mut random = Random::new(writer + 11);
                        for round in 0..rounds(500, 50) {
                            // Each writer has keys of its own.
                            let key = random.below(KEYS / 2) * 2 + writer;
                            let end = End::default();
                            let value = census.count((key, Arc::clone(&end)));
                            let ttl = random.below(40);
                            let began = time.least();
                            known[key as usize].store(0, SeqCst);
                            match random.below(8) {
                                0 => drop(cache.remove(&key)),
                                1 => time.advance(1 << random.below(30)),
                                2 => cache.run_pending_tasks(),
                                3 => cache.insert(key, value),
                                _ => {
                                    let options = InsertOptions::new().ttl(Duration::from_nanos(ttl));
                                    cache.insert_with(key, value, options.pinned(round % 7 == 0));
                                    end.store(time.most() + ttl, SeqCst);
                                    known[key as usize].store((began + ttl) << 16 | round & 0xffff, SeqCst);
                                }
                            }
                        }
                    })
                });
                let writers: Vec<_> = writers.collect();
                writers.into_iter().for_each(|writer| writer.join().unwrap());
                done.store(true, Relaxed);
            });
            cache.validate();
            drop(cache);
            assert_eq!(census.living(), 0);
        }
    }
}

/// Entries with a time to idle: once somebody has found one to be gone, or has removed it, no read that began before brings it
/// back for those that begin afterwards.
#[test]
fn what_was_found_to_be_over_never_comes_back() {
    const KEYS: u64 = 2;
    for policy in some_policies() {
        for own in [false, true] {
            let time = Time::new();
            let mut builder = Cache::builder()
                .max_capacity(100)
                .segments(1)
                .eviction_policy(policy.clone())
                .clock(time.clock.clone());
            let mut options = InsertOptions::new();
            if own {
                options = options.tti(Duration::from_nanos(10));
            } else {
                builder = builder.time_to_idle(Duration::from_nanos(10));
            }
            let cache: Cache<u64, u64> = builder.build().unwrap();
            // By key: versions whose insert has returned, and those that are gone.
            let written: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
            let gone: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for reader in 0..3 {
                    let (cache, time, written, gone, done) = (&cache, &time, &written, &gone, &done);
                    scope.spawn(move || {
                        let mut random = Random::new(reader + 5);
                        let mut reads = 0;
                        while !done.load(Relaxed) || reads < 20 {
                            reads += 1;
                            let key = random.below(KEYS);
                            let before = written[key as usize].load(SeqCst);
                            let over = gone[key as usize].load(SeqCst);
                            let found = match random.below(8) {
                                0 => cache.peek(&key),
                                1 => cache.remove(&key),
                                2 => cache.get_many(&[key])[0],
                                _ => cache.get(&key),
                            };
                            match found {
                                Some(version) => assert!(version > over, "{key}: {version} was gone"),
                                None => _ = gone[key as usize].fetch_max(before, SeqCst),
                            }
                            if random.below(3) == 0 {
                                time.advance(random.below(8));
                            }
                        }
                    });
                }
                for version in 1..=rounds(1_000, 60) {
                    for key in 0..KEYS {
                        cache.insert_with(key, version, options.clone());
                        written[key as usize].store(version, SeqCst);
                    }
                    if version % 16 == 0 {
                        std::thread::yield_now();
                    }
                }
                done.store(true, Relaxed);
            });
            cache.validate();
        }
    }
}

/// Of many threads that read an entry as often as they can, exactly so many get it as reads were allowed, by all methods
/// together; and it is heard of once.
#[test]
fn reads_are_limited_exactly_among_threads() {
    for policy in some_policies() {
        for most in if cfg!(miri) { vec![2] } else { vec![1, 2, 9] } {
            let (threads, keys) = (3, rounds(400, 2));
            let expired = Arc::new(AtomicU64::new(0));
            let heard = Arc::clone(&expired);
            let cache: Cache<u64, u64> = Cache::builder()
                .max_capacity(10_000)
                .segments(2)
                .eviction_policy(policy.clone())
                .max_reads(most)
                .eviction_listener(move |_: &u64, _: &u64, cause| {
                    assert_eq!(cause, RemovalCause::Expired);
                    heard.fetch_add(1, Relaxed);
                })
                .build()
                .unwrap();
            let got: Vec<AtomicUsize> = (0..keys).map(|_| AtomicUsize::new(0)).collect();
            (0..keys).for_each(|key| cache.insert(key, key));
            // So that all come to a key at the same time.
            let come: Vec<AtomicUsize> = (0..keys).map(|_| AtomicUsize::new(0)).collect();
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    let (cache, got, come) = (&cache, &got, &come);
                    scope.spawn(move || {
                        for key in 0..keys {
                            let here = &come[key as usize];
                            here.fetch_add(1, SeqCst);
                            until(|| here.load(SeqCst) == threads as usize);
                            for read in 0..=most {
                                let found = match (read + thread + key) % 5 {
                                    0 => cache.get(&key),
                                    1 => cache.with(&key, |value| *value),
                                    2 => cache.get_many(&[key])[0],
                                    3 => cache.try_get_or_load(key, |_| Err(())).ok(),
                                    _ => cache
                                        .try_get_all_or_load([key], |_| Err::<[(u64, u64); 0], ()>(()))
                                        .ok()
                                        .and_then(|all| all.get(&key).copied()),
                                };
                                if let Some(value) = found {
                                    assert_eq!(value, key);
                                    got[key as usize].fetch_add(1, Relaxed);
                                }
                            }
                        }
                    });
                }
            });
            // Only one who waits for another's load can have had fewer tries than it made.
            let all = got.iter().map(|count| count.load(Relaxed) as u64).collect::<Vec<_>>();
            assert_eq!(all, vec![most; keys as usize], "{policy}");
            assert_eq!((cache.len(), expired.load(Relaxed)), (0, keys));
            cache.validate();
        }
    }
}
