//! The caches that load what is missing, each key once at a time: for threads, and for tasks.

use super::subjects::{Cache, Hasher, Larder, Lookup, Moka, QuickCache};
use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;

pub(crate) trait Loader: Cache<Value = u64> {
    /// The key's value, from `load` if it is missing.
    fn get_or_load(&self, key: u64, load: impl FnOnce() -> u64) -> u64;
}

impl Loader for Larder<u64> {
    #[inline]
    fn get_or_load(&self, key: u64, load: impl FnOnce() -> u64) -> u64 {
        self.cache.get_or_load(key, |_| load())
    }
}

impl Loader for QuickCache<u64> {
    #[inline]
    fn get_or_load(&self, key: u64, load: impl FnOnce() -> u64) -> u64 {
        let Ok(value) = self.0.get_or_insert_with(&key, || Ok::<_, Infallible>(load()));
        value
    }
}

impl Loader for Moka<u64> {
    #[inline]
    fn get_or_load(&self, key: u64, load: impl FnOnce() -> u64) -> u64 {
        self.0.get_with(key, load)
    }
}

impl Larder<u64> {
    /// In one call.
    #[inline]
    pub(crate) fn get_all_or_load(&self, keys: &[u64], mut load: impl FnMut(u64) -> u64) -> u64 {
        let load_all = |missing: &[u64]| missing.iter().map(|&key| (key, load(key))).collect::<Vec<_>>();
        self.cache.get_all_or_load(keys.iter().copied(), load_all).into_values().fold(0, u64::wrapping_add)
    }
}

/// A cache whose loads are futures. Its `get` is the one for threads.
pub(crate) struct Polled<T>(pub(crate) T);

impl<T: Lookup> Lookup for Polled<T> {
    type Value = T::Value;

    fn name(&self) -> &str {
        self.0.name()
    }

    #[inline]
    fn get(&self, key: u64) -> Option<T::Value> {
        self.0.get(key)
    }
}

impl<T: Cache> Cache for Polled<T> {
    #[inline]
    fn insert(&self, key: u64, value: T::Value) {
        self.0.insert(key, value);
    }
}

impl Loader for Polled<Larder<u64>> {
    #[inline]
    fn get_or_load(&self, key: u64, load: impl FnOnce() -> u64) -> u64 {
        block_on(self.0.cache.get_or_load_async(key, |_| async { load() }))
    }
}

impl Loader for Polled<QuickCache<u64>> {
    #[inline]
    fn get_or_load(&self, key: u64, load: impl FnOnce() -> u64) -> u64 {
        let Ok(value) = block_on(self.0.0.get_or_insert_async(&key, async { Ok::<_, Infallible>(load()) }));
        value
    }
}

/// Moka's other cache, which also reads by futures.
pub(crate) struct MokaFuture(moka::future::Cache<u64, u64, Hasher>);

impl MokaFuture {
    pub(crate) fn new(capacity: usize) -> Self {
        let builder = moka::future::Cache::builder().max_capacity(capacity as u64);
        Self(builder.build_with_hasher(Hasher::new()))
    }
}

impl Lookup for MokaFuture {
    type Value = u64;

    fn name(&self) -> &str {
        "moka"
    }

    #[inline]
    fn get(&self, key: u64) -> Option<u64> {
        block_on(self.0.get(&key))
    }
}

impl Cache for MokaFuture {
    #[inline]
    fn insert(&self, key: u64, value: u64) {
        block_on(self.0.insert(key, value));
    }
}

impl Loader for MokaFuture {
    #[inline]
    fn get_or_load(&self, key: u64, load: impl FnOnce() -> u64) -> u64 {
        block_on(self.0.get_with(key, async { load() }))
    }
}

/// The least that runs a future: what is measured is ready at the first poll, but for a lock that another thread has.
#[inline]
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::yield_now(),
        }
    }
}
