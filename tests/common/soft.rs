//! What the tests of entries share that are loaded anew, or are good for something after their end.

use super::loads::Numbers;
use super::time::{builder, secs};
use larder::{Builder, Clock};
use std::time::Duration;

/// Entries are fresh for 10 seconds, due for 20 more, then stale for 30 and, if loads fail, good for 60.
pub fn soft(clock: &Clock) -> Builder<u64, u64> {
    builder(clock)
        .refresh_after_write(secs(10))
        .time_to_live(secs(30))
        .stale_while_revalidate(secs(30))
        .stale_if_error(secs(60))
        .record_stats()
}

/// A cache with key 1, and its clock.
pub fn with_one(age: Duration) -> (Clock, Numbers) {
    let clock = Clock::manual();
    let cache = soft(&clock).build().unwrap();
    cache.insert(1, 1);
    clock.advance(age);
    (clock, cache)
}

pub fn old(cache: &Numbers) -> u64 {
    old_of(cache, 1)
}

pub fn old_of(cache: &Numbers, key: u64) -> u64 {
    cache.get_or_load(key, |_| panic!("it is there"))
}

pub fn fails(cache: &Numbers) -> Option<u64> {
    cache.try_get_or_load(1, |_| Err("on purpose")).ok()
}

pub fn stale_refreshes_failures(cache: &Numbers) -> (u64, u64, u64) {
    let stats = cache.stats();
    (stats.stale_count(), stats.refresh_count(), stats.refresh_failure_count())
}
