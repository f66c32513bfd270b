//! The caches that are compared, all with the same hasher, behind traits small enough to add another.

use larder::{EvictionPolicy, InsertOptions};
use quick_cache::UnitWeighter;
use quick_cache::sync::DefaultLifecycle;
use std::collections::HashMap;
use std::hint::black_box;
use std::ops::Range;
use std::time::Instant;

pub(super) type Hasher = larder::RandomState;

/// Something to look keys up in.
pub(crate) trait Lookup: Send + Sync {
    type Value;

    fn name(&self) -> &str;
    fn get(&self, key: u64) -> Option<Self::Value>;
}

/// A cache.
pub(crate) trait Cache: Lookup {
    fn insert(&self, key: u64, value: Self::Value);

    /// Does what otherwise waits for later operations, if it has such things.
    fn settle(&self) {}
}

/// Many reads in one virtual call, so that the call costs nothing and the reads are inlined.
pub(crate) trait Reads: Send + Sync {
    fn title(&self) -> &str;

    /// Says how many hits there were.
    fn read(&self, keys: &[u32]) -> usize;
}

/// Many writes in one virtual call.
pub(crate) trait Writes: Reads + Cache<Value = u64> {
    /// Gets each key, inserts it on a miss, and says how many hits there were.
    fn read_through(&self, keys: &[u32]) -> usize;

    /// Inserts all of these keys.
    fn fill(&self, keys: Range<u64>);

    /// Inserts keys from `first` on and writes down how many nanoseconds each took, with one reading of the clock.
    fn fill_timed(&self, first: u64, times: &mut [u32]);
}

impl<T: Lookup<Value = u64>> Reads for T {
    fn title(&self) -> &str {
        self.name()
    }

    fn read(&self, keys: &[u32]) -> usize {
        let (mut hits, mut sum) = (0, 0_u64);
        for &key in keys {
            if let Some(value) = self.get(u64::from(key)) {
                hits += 1;
                sum = sum.wrapping_add(value);
            }
        }
        black_box(sum);
        hits
    }
}

impl<T: Cache<Value = u64>> Writes for T {
    fn read_through(&self, keys: &[u32]) -> usize {
        let (mut hits, mut sum) = (0, 0_u64);
        for &key in keys {
            let key = u64::from(key);
            if let Some(value) = self.get(key) {
                hits += 1;
                sum = sum.wrapping_add(value);
            } else {
                self.insert(key, key);
            }
        }
        black_box(sum);
        hits
    }

    fn fill(&self, keys: Range<u64>) {
        keys.for_each(|key| self.insert(key, key));
    }

    fn fill_timed(&self, first: u64, times: &mut [u32]) {
        let mut before = Instant::now();
        for (key, time) in (first..).zip(times) {
            self.insert(key, key);
            let now = Instant::now();
            *time = now.duration_since(before).as_nanos().try_into().unwrap_or(u32::MAX);
            before = now;
        }
    }
}

pub(crate) struct Larder<V> {
    pub(super) cache: larder::Cache<u64, V>,
    name: String,
}

impl<V: Clone + Send + Sync + 'static> Larder<V> {
    pub(crate) fn new(capacity: usize, policy: EvictionPolicy) -> Self {
        Self::built(larder::Cache::builder().max_capacity(capacity as u64).eviction_policy(policy))
    }

    pub(crate) fn built(builder: larder::Builder<u64, V>) -> Self {
        Self { cache: builder.build().expect("good options"), name: "larder".to_owned() }
    }

    /// Named after its policy, which is to be one of [`POLICIES`](super::POLICIES).
    pub(crate) fn of(policy: &str, capacity: usize) -> Self {
        let name = format!("larder {policy}");
        Self { name, ..Self::new(capacity, policy.parse().expect("a policy")) }
    }

    #[inline]
    pub(crate) fn insert_with(&self, key: u64, value: V, options: InsertOptions) {
        self.cache.insert_with(key, value, options);
    }
}

impl<V: Clone + Send + Sync + 'static> Lookup for Larder<V> {
    type Value = V;

    fn name(&self) -> &str {
        &self.name
    }

    #[inline]
    fn get(&self, key: u64) -> Option<V> {
        self.cache.get(&key)
    }
}

impl<V: Clone + Send + Sync + 'static> Cache for Larder<V> {
    #[inline]
    fn insert(&self, key: u64, value: V) {
        self.cache.insert(key, value);
    }

    fn settle(&self) {
        self.cache.run_pending_tasks();
    }
}

pub(crate) struct QuickCache<V>(pub(super) quick_cache::sync::Cache<u64, V, UnitWeighter, Hasher>);

impl<V: Clone + Send + Sync + 'static> QuickCache<V> {
    pub(crate) fn new(capacity: usize) -> Self {
        let (weight, lifecycle) = (capacity as u64, DefaultLifecycle::default());
        Self(quick_cache::sync::Cache::with(capacity, weight, UnitWeighter, Hasher::new(), lifecycle))
    }
}

impl<V: Clone + Send + Sync + 'static> Lookup for QuickCache<V> {
    type Value = V;

    fn name(&self) -> &str {
        "quick_cache"
    }

    #[inline]
    fn get(&self, key: u64) -> Option<V> {
        self.0.get(&key)
    }
}

impl<V: Clone + Send + Sync + 'static> Cache for QuickCache<V> {
    #[inline]
    fn insert(&self, key: u64, value: V) {
        self.0.insert(key, value);
    }
}

pub(crate) struct Moka<V: Send + Sync + 'static>(pub(super) moka::sync::Cache<u64, V, Hasher>);

impl<V: Clone + Send + Sync + 'static> Moka<V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self::built(moka::sync::Cache::builder().max_capacity(capacity as u64))
    }

    pub(crate) fn built(builder: moka::sync::CacheBuilder<u64, V, moka::sync::Cache<u64, V>>) -> Self {
        Self(builder.build_with_hasher(Hasher::new()))
    }
}

impl<V: Clone + Send + Sync + 'static> Lookup for Moka<V> {
    type Value = V;

    fn name(&self) -> &str {
        "moka"
    }

    #[inline]
    fn get(&self, key: u64) -> Option<V> {
        self.0.get(&key)
    }
}

impl<V: Clone + Send + Sync + 'static> Cache for Moka<V> {
    #[inline]
    fn insert(&self, key: u64, value: V) {
        self.0.insert(key, value);
    }

    fn settle(&self) {
        self.0.run_pending_tasks();
    }
}

/// The floor: a hash map that nobody may write to any more.
pub(crate) struct Frozen(HashMap<u64, u64, Hasher>);

impl Frozen {
    pub(crate) fn new(keys: Range<u64>) -> Self {
        let mut map = HashMap::with_hasher(Hasher::new());
        map.extend(keys.map(|key| (key, key)));
        Self(map)
    }
}

impl Lookup for Frozen {
    type Value = u64;

    fn name(&self) -> &str {
        "hash map"
    }

    #[inline]
    fn get(&self, key: u64) -> Option<u64> {
        self.0.get(&key).copied()
    }
}
