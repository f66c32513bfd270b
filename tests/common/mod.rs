//! What the integration tests share: every policy by name, keys and values that count their drops, odd hashers.
#![allow(dead_code, unreachable_pub)]

pub mod time;

use larder::{Builder, Cache, EvictionPolicy, RemovalCause};
use std::hash::{BuildHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicI64, AtomicUsize};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, Once};
use std::task::{Context, Poll, Wake, Waker};
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

/// Runs a test that fails instead of waiting for ever.
pub fn ends(test: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        done.send(()).unwrap();
    });
    match is_done.recv_timeout(Duration::from_secs(if cfg!(miri) { 600 } else { 60 })) {
        Err(RecvTimeoutError::Timeout) => panic!("somebody waits for ever"),
        _ => thread.join().unwrap_or_else(|payload| resume_unwind(payload)),
    }
}

/// Gives other threads time until something is so.
pub fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

/// A waker that counts how often it is used.
#[derive(Default)]
pub struct Wakes(AtomicUsize);

impl Wakes {
    pub fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A future that a test polls by hand.
pub struct Task<'a, T> {
    future: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
    wakes: Arc<Wakes>,
}

impl<'a, T> Task<'a, T> {
    pub fn new(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self { future: Box::pin(future), wakes: Arc::default() }
    }

    pub fn poll(&mut self) -> Poll<T> {
        self.poll_with(&Waker::from(Arc::clone(&self.wakes)))
    }

    pub fn poll_with(&mut self, waker: &Waker) -> Poll<T> {
        self.future.as_mut().poll(&mut Context::from_waker(waker))
    }

    /// How often it was woken.
    pub fn wakes(&self) -> usize {
        self.wakes.count()
    }

    /// Polls it once, for nothing.
    pub fn starts(mut self) -> Self {
        assert!(self.poll().is_pending());
        self
    }

    /// Polls it, for its result.
    pub fn ready(&mut self) -> T {
        match self.poll() {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("it should be ready"),
        }
    }
}

/// Runs a future in this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// What a loader waits for until the test gives it.
pub struct Gate<T>(Arc<Mutex<(Option<T>, Option<Waker>)>>);

impl<T> Clone for Gate<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new((None, None))))
    }
}

impl<T> Gate<T> {
    pub fn give(&self, what: T) {
        let waker = {
            let mut inner = self.0.lock().unwrap();
            inner.0 = Some(what);
            inner.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    pub fn get(&self) -> impl Future<Output = T> + Send + use<T>
    where
        T: Send,
    {
        let gate = self.clone();
        std::future::poll_fn(move |context| {
            let mut inner = gate.0.lock().unwrap();
            match inner.0.take() {
                Some(what) => Poll::Ready(what),
                None => {
                    inner.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    }
}
