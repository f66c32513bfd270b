//! What the integration tests share: every policy by name, keys and values that count their drops, odd hashers, random
//! numbers that can be repeated, and in `loads` what tests of loading need, in `time` and `soft` those of time, in `queue` a policy of one's own.
#![allow(dead_code, unreachable_pub)]

pub mod loads;
pub mod queue;
pub mod soft;
pub mod time;

use larder::{Builder, Cache, EvictionPolicy, RemovalCause};
use std::hash::{BuildHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

/// All policies that have a name. The list is read from the error for a wrong one, so it is never out of date.
pub fn policies() -> Vec<EvictionPolicy> {
    let error = "?".parse::<EvictionPolicy>().unwrap_err().to_string();
    let names = error.split("expected one of ").nth(1).expect("the error lists the names");
    names.split(", ").map(|name| name.parse().expect("a listed name parses")).collect()
}

/// Runs a test for all policies, each with one segment and with several.
pub fn for_all(test: impl Fn(EvictionPolicy, usize)) {
    for policy in policies() {
        for segments in [1, 4] {
            test(policy.clone(), segments);
        }
    }
}

/// `most`, or `few` where every step is slow: under Miri.
pub const fn size(most: usize, few: usize) -> usize {
    if cfg!(miri) { few } else { most }
}

/// `most`, or what the environment variable says, or `few` under Miri.
pub fn size_from(variable: &str, most: usize, few: usize) -> usize {
    match std::env::var(variable) {
        Ok(number) => number.parse().expect("a number"),
        Err(_) => size(most, few),
    }
}

/// A small generator of random numbers, the same ones for the same seed, so that a failure can be repeated.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Seeds that differ by one give unlike sequences; 0 would give nothing but 0.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % n
    }

    /// Says yes once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Some of the numbers below `n`, maybe none, in order.
    pub fn subset(&mut self, n: u64) -> Vec<u64> {
        (0..n).filter(|_| self.one_in(2)).collect()
    }
}

/// What a listener was told.
pub type Log<K, V> = Arc<Mutex<Vec<(K, V, RemovalCause)>>>;

/// A listener that writes everything down.
pub fn logged<K, V>(builder: Builder<K, V>) -> (Builder<K, V>, Log<K, V>)
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let log: Log<K, V> = Arc::default();
    let written = Arc::clone(&log);
    let builder = builder.eviction_listener(move |key: &K, value: &V, cause| {
        written.lock().unwrap().push((key.clone(), value.clone(), cause));
    });
    (builder, log)
}

pub fn causes<K, V>(log: &Log<K, V>, cause: RemovalCause) -> usize {
    log.lock().unwrap().iter().filter(|event| event.2 == cause).count()
}

/// Runs code that is to panic, and says whether it did. The panics of these tests say "on purpose" and are not printed.
pub fn panics<R>(code: impl FnOnce() -> R) -> bool {
    quiet();
    catch_unwind(AssertUnwindSafe(code)).is_err()
}

/// Keeps panics "on purpose" off the terminal.
pub fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let expected =
                info.payload().downcast_ref::<&str>().is_some_and(|text| text.contains("on purpose"));
            if !expected {
                loud(info);
            }
        }));
    });
}

/// How many `Counted` there are.
#[derive(Clone, Default)]
pub struct Census(Arc<AtomicI64>);

impl Census {
    pub fn living(&self) -> i64 {
        self.0.load(SeqCst)
    }

    pub fn count<T>(&self, what: T) -> Counted<T> {
        self.0.fetch_add(1, SeqCst);
        Counted { what: Box::new(what), census: self.clone() }
    }
}

/// Something on the heap that a census counts: one use after free, leak or second drop shows, in the count or under a
/// sanitizer.
pub struct Counted<T> {
    pub what: Box<T>,
    census: Census,
}

impl<T: Clone> Clone for Counted<T> {
    fn clone(&self) -> Self {
        self.census.count((*self.what).clone())
    }
}

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        self.census.0.fetch_sub(1, SeqCst);
    }
}

impl<T: PartialEq> PartialEq for Counted<T> {
    fn eq(&self, other: &Self) -> bool {
        self.what == other.what
    }
}

impl<T: Eq> Eq for Counted<T> {}

impl<T: Hash> Hash for Counted<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.what.hash(state);
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Counted<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.what.fmt(f)
    }
}

/// Gives an integer key as its own hash.
#[derive(Clone, Copy, Default)]
pub struct Identity;

impl BuildHasher for Identity {
    type Hasher = IdentityHasher;

    fn build_hasher(&self) -> IdentityHasher {
        IdentityHasher(0)
    }
}

pub struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0 << 8 | u64::from(byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// Gives every key the same hash.
#[derive(Clone, Copy, Default)]
pub struct Same;

impl BuildHasher for Same {
    type Hasher = SameHasher;

    fn build_hasher(&self) -> SameHasher {
        SameHasher
    }
}

pub struct SameHasher;

impl Hasher for SameHasher {
    fn finish(&self) -> u64 {
        0x1234_5678_9abc_def1
    }

    fn write(&mut self, _: &[u8]) {}
}

/// Lets the cache free what it can: enough rounds for anything that no reader holds.
pub fn settle<K, V, S>(cache: &Cache<K, V, S>) {
    for _ in 0..4 {
        cache.run_pending_tasks();
    }
}

/// Runs a test that fails if it hangs.
pub fn ends(test: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        done.send(()).unwrap();
    });
    match is_done.recv_timeout(Duration::from_secs(if cfg!(miri) { 600 } else { 120 })) {
        Err(RecvTimeoutError::Timeout) => panic!("the test hangs"),
        _ => thread.join().unwrap_or_else(|payload| resume_unwind(payload)),
    }
}

/// Lets other threads run until a condition holds.
pub fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}
