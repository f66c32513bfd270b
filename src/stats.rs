//! What a cache has counted.

use crate::parts::striped::Striped;
use crate::segment::Counts;
use std::fmt;
use std::ops::Sub;
use std::time::Duration;

const HITS: usize = 0;
const MISSES: usize = 1;
const LOADS: usize = 2;
const FAILURES: usize = 3;
const LOAD_NANOS: usize = 4;
const WAITS: usize = 5;
const STALE: usize = 6;
const REFRESHES: usize = 7;
const REFRESH_FAILURES: usize = 8;

/// Reads and loads, counted by many threads at once.
pub(crate) struct Reads(Striped<9>);

impl Reads {
    pub(crate) fn new() -> Self {
        Self(Striped::new())
    }

    pub(crate) fn count(&self, hit: bool) {
        self.0.add(counter_of(hit), 1);
    }

    pub(crate) fn count_load(&self, has_succeeded: bool, nanos: u64) {
        self.0.add(if has_succeeded { LOADS } else { FAILURES }, 1);
        self.0.add(LOAD_NANOS, nanos);
    }

    pub(crate) fn count_stale(&self) {
        self.0.add(STALE, 1);
    }

    pub(crate) fn count_refresh(&self, has_succeeded: bool) {
        self.0.add(if has_succeeded { REFRESHES } else { REFRESH_FAILURES }, 1);
    }

    pub(crate) fn count_wait(&self) {
        self.0.add(WAITS, 1);
    }
}

#[inline]
fn counter_of(hit: bool) -> usize {
    if hit { HITS } else { MISSES }
}

/// A snapshot of a cache's counters, all since the cache was built.
///
/// Subtract an earlier snapshot to see a window. Counters are exact when no other thread is using the cache, and each
/// only ever grows. Reads and loads are counted only if the builder was told to
/// [`record_stats`](crate::Builder::record_stats); the others always are.
///
/// ```
/// use larder::Cache;
///
/// let cache = Cache::builder().max_capacity(100).record_stats().build()?;
/// cache.insert("a", 1);
/// cache.get("a");
/// let before = cache.stats();
/// cache.get("a");
/// cache.get("b");
/// let window = cache.stats() - before;
/// assert_eq!((window.hit_count(), window.miss_count()), (1, 1));
/// assert_eq!(window.hit_rate(), 0.5);
/// assert_eq!(window.to_string(), "1 hits, 1 misses (50.00 % hits), 0 evicted (weight 0), 0 rejected, 0 expired");
/// # Ok::<(), larder::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    hits: u64,
    misses: u64,
    evicted: u64,
    evicted_weight: u64,
    rejected: u64,
    expired: u64,
    loads: u64,
    load_failures: u64,
    load_waits: u64,
    load_time: Duration,
    stale: u64,
    refreshes: u64,
    refresh_failures: u64,
}

impl Stats {
    pub(crate) fn new(reads: Option<&Reads>, segments: impl Iterator<Item = (Counts, u64)>) -> Self {
        let mut stats = Self::default();
        if let Some(Reads(reads)) = reads {
            stats.hits = reads.sum(HITS);
            stats.misses = reads.sum(MISSES);
            stats.loads = reads.sum(LOADS);
            stats.load_failures = reads.sum(FAILURES);
            stats.load_waits = reads.sum(WAITS);
            stats.load_time = Duration::from_nanos(reads.sum(LOAD_NANOS));
            stats.stale = reads.sum(STALE);
            stats.refreshes = reads.sum(REFRESHES);
            stats.refresh_failures = reads.sum(REFRESH_FAILURES);
        }
        for (counts, expired) in segments {
            stats.expired += expired;
            stats.evicted += counts.evicted;
            stats.evicted_weight = stats.evicted_weight.saturating_add(counts.evicted_weight);
            stats.rejected += counts.rejected;
        }
        stats
    }

    /// Reads that found their key. Loads of what was due are among them, and calls of `compute` and of the methods of `entry`.
    #[must_use]
    pub fn hit_count(&self) -> u64 {
        self.hits
    }

    /// Reads that did not.
    #[must_use]
    pub fn miss_count(&self) -> u64 {
        self.misses
    }

    /// Entries that the policy chose to go.
    #[must_use]
    pub fn eviction_count(&self) -> u64 {
        self.evicted
    }

    /// What those entries weighed together, at most `u64::MAX`.
    #[must_use]
    pub fn eviction_weight(&self) -> u64 {
        self.evicted_weight
    }

    /// Entries that were never let in: see [`RemovalCause::Rejected`](crate::RemovalCause::Rejected).
    #[must_use]
    pub fn rejection_count(&self) -> u64 {
        self.rejected
    }

    /// Entries whose time was over, or whose reads: see [`RemovalCause::Expired`](crate::RemovalCause::Expired). Counted when
    /// they are removed, or when they come if their life is zero.
    #[must_use]
    pub fn expiration_count(&self) -> u64 {
        self.expired
    }

    /// Loader calls that gave a value. A call for many keys counts once.
    #[must_use]
    pub fn load_success_count(&self) -> u64 {
        self.loads
    }

    /// Loader calls that gave an error. Those that panicked or were given up are not counted.
    #[must_use]
    pub fn load_failure_count(&self) -> u64 {
        self.load_failures
    }

    /// How often somebody waited for another one's load of a key instead of loading it.
    #[must_use]
    pub fn load_wait_count(&self) -> u64 {
        self.load_waits
    }

    /// The time of all loader calls that were counted, together: real time, whatever the cache's [`Clock`](crate::Clock).
    #[must_use]
    pub fn total_load_time(&self) -> Duration {
        self.load_time
    }

    /// The mean time of a loader call, as [`total_load_time`](Self::total_load_time) counts it; zero if there was none.
    #[must_use]
    pub fn average_load_time(&self) -> Duration {
        let calls = u128::from(self.loads + self.load_failures).max(1);
        Duration::from_nanos((self.load_time.as_nanos() / calls).try_into().unwrap_or(u64::MAX))
    }

    /// Values given after the life of their entry was over: see
    /// [`stale_while_revalidate`](crate::Builder::stale_while_revalidate) and
    /// [`stale_if_error`](crate::Builder::stale_if_error).
    #[must_use]
    pub fn stale_count(&self) -> u64 {
        self.stale
    }

    /// Loads of keys that gave a value where there was one, or was asked to be: by [`refresh`](crate::Cache::refresh), and of
    /// entries that were due.
    #[must_use]
    pub fn refresh_count(&self) -> u64 {
        self.refreshes
    }

    /// Such loads that gave none: by an error, a panic, or because they were given up.
    #[must_use]
    pub fn refresh_failure_count(&self) -> u64 {
        self.refresh_failures
    }

    /// The part of reads that were hits, from 0 to 1; 1 if there were none.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        1.0 - self.miss_rate()
    }

    /// The part of reads that were misses, from 0 to 1; 0 if there were none.
    #[must_use]
    pub fn miss_rate(&self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            reads => self.misses as f64 / reads as f64,
        }
    }
}

/// What has been counted since `earlier`; 0 where `earlier` has more, as with snapshots of different caches.
impl Sub for Stats {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            hits: self.hits.saturating_sub(earlier.hits),
            misses: self.misses.saturating_sub(earlier.misses),
            evicted: self.evicted.saturating_sub(earlier.evicted),
            evicted_weight: self.evicted_weight.saturating_sub(earlier.evicted_weight),
            rejected: self.rejected.saturating_sub(earlier.rejected),
            expired: self.expired.saturating_sub(earlier.expired),
            loads: self.loads.saturating_sub(earlier.loads),
            load_failures: self.load_failures.saturating_sub(earlier.load_failures),
            load_waits: self.load_waits.saturating_sub(earlier.load_waits),
            load_time: self.load_time.saturating_sub(earlier.load_time),
            stale: self.stale.saturating_sub(earlier.stale),
            refreshes: self.refreshes.saturating_sub(earlier.refreshes),
            refresh_failures: self.refresh_failures.saturating_sub(earlier.refresh_failures),
        }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} hits, {} misses ({:.2} % hits), {} evicted (weight {}), {} rejected, {} expired",
            self.hits,
            self.misses,
            100.0 * self.hit_rate(),
            self.evicted,
            self.evicted_weight,
            self.rejected,
            self.expired
        )
    }
}
