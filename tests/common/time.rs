//! What the tests of time share.

use super::for_all;
use larder::{Builder, Cache, Clock, EvictionPolicy, InsertOptions};
use std::time::Duration;

pub const NS: Duration = Duration::from_nanos(1);
/// A tick of the wheel: an entry may stay so long after it has ended.
pub const TICK: Duration = Duration::from_nanos(1 << 20);
/// Where the clock stops.
pub const END: Duration = Duration::from_nanos(i64::MAX as u64);

pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn builder(clock: &Clock) -> Builder<u64, u64> {
    Cache::builder().max_capacity(1_000).clock(clock.clone())
}

pub const fn ttl(time: Duration) -> InsertOptions {
    InsertOptions::new().ttl(time)
}

pub const fn tti(time: Duration) -> InsertOptions {
    InsertOptions::new().tti(time)
}

/// Policies and segments; few under Miri, where each takes long.
pub fn for_some(test: impl Fn(EvictionPolicy, usize)) {
    if cfg!(miri) {
        test(EvictionPolicy::lru(), 1);
        test(EvictionPolicy::default(), 4);
    } else {
        for_all(test);
    }
}
