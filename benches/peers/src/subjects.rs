//! The caches that are compared: default settings but for a weigher and, for foyer, the policy.

use ahash::RandomState;
use foyer_memory::{CacheBuilder, EvictionConfig, LfuConfig, S3FifoConfig};
use larder::BuildError;
use quick_cache::Weighter;
use quick_cache::sync::DefaultLifecycle;

/// A cache whose values are their own sizes.
pub(crate) trait Subject {
    fn name(&self) -> &str;
    fn get(&self, key: u64) -> bool;
    fn insert(&self, key: u64, size: u32);
}

/// One of each that may hold `bytes`. quick_cache and larder are told how many entries that may be, as they ask for; one
/// larder is not.
pub(crate) fn all(bytes: u64, entries: usize) -> Result<Vec<Box<dyn Subject>>, BuildError> {
    let larder = |name, entries| {
        let builder = larder::Cache::builder().max_capacity(bytes).weigher(|_, &size: &u32| u64::from(size));
        let cache = builder.initial_capacity(entries).build_with_hasher(hasher())?;
        Ok(Box::new(Larder { name, cache }) as Box<dyn Subject>)
    };
    let quick_cache =
        quick_cache::sync::Cache::with(entries, bytes, BySize, hasher(), DefaultLifecycle::default());
    let moka = moka::sync::Cache::builder().max_capacity(bytes).weigher(|_, &size: &u32| size);
    let foyer = |name, policy: EvictionConfig| {
        let builder = CacheBuilder::new(bytes as usize).with_weighter(|_: &u64, size: &u32| *size as usize);
        Foyer { name, cache: builder.with_eviction_config(policy).with_hash_builder(hasher()).build() }
    };
    Ok(vec![
        larder("larder", entries)?,
        larder("larder-untold", 0)?,
        Box::new(QuickCache(quick_cache)),
        Box::new(Moka(moka.build_with_hasher(hasher()))),
        Box::new(foyer("foyer-lfu", LfuConfig::default().into())),
        Box::new(foyer("foyer-s3fifo", S3FifoConfig::default().into())),
    ])
}

/// The same for all, and in each run.
fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}

struct Larder {
    name: &'static str,
    cache: larder::Cache<u64, u32, RandomState>,
}

impl Subject for Larder {
    fn name(&self) -> &str {
        self.name
    }
    fn get(&self, key: u64) -> bool {
        self.cache.get(&key).is_some()
    }
    fn insert(&self, key: u64, size: u32) {
        self.cache.insert(key, size);
    }
}

#[derive(Clone)]
struct BySize;

impl Weighter<u64, u32> for BySize {
    fn weight(&self, _: &u64, size: &u32) -> u64 {
        u64::from(*size)
    }
}

struct QuickCache(quick_cache::sync::Cache<u64, u32, BySize, RandomState>);

impl Subject for QuickCache {
    fn name(&self) -> &str {
        "quick_cache"
    }
    fn get(&self, key: u64) -> bool {
        self.0.get(&key).is_some()
    }
    fn insert(&self, key: u64, size: u32) {
        self.0.insert(key, size);
    }
}

struct Moka(moka::sync::Cache<u64, u32, RandomState>);

impl Subject for Moka {
    fn name(&self) -> &str {
        "moka"
    }
    fn get(&self, key: u64) -> bool {
        self.0.get(&key).is_some()
    }
    /// Without the maintenance it holds dozens of entries more than it may.
    fn insert(&self, key: u64, size: u32) {
        self.0.insert(key, size);
        self.0.run_pending_tasks();
    }
}

struct Foyer {
    name: &'static str,
    cache: foyer_memory::Cache<u64, u32, RandomState>,
}

impl Subject for Foyer {
    fn name(&self) -> &str {
        self.name
    }
    fn get(&self, key: u64) -> bool {
        self.cache.get(&key).is_some()
    }
    fn insert(&self, key: u64, size: u32) {
        self.cache.insert(key, size);
    }
}
