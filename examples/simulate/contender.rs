//! The caches that can be compared: larder with each of its policies, and others with their default settings.

use crate::random::Random;
use crate::replay::Segments;
use ahash::RandomState;
use larder::{BuildError, Cache, EvictionPolicy};
use quick_cache::UnitWeighter;
use quick_cache::sync::DefaultLifecycle;
use std::fmt;
use std::str::FromStr;

/// One of them.
#[derive(Clone, Debug)]
pub(crate) enum Contender {
    Larder(EvictionPolicy),
    QuickCache,
    Moka,
}

/// Their names.
pub(crate) const POLICIES: &[&str] = &["s3_lirs", "tiny_lfu", "s3_fifo", "sieve", "lru", "lfu", "fifo"];
pub(crate) const PEERS: &[&str] = &["quick_cache", "moka"];

impl FromStr for Contender {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "quick_cache" => Ok(Self::QuickCache),
            "moka" => Ok(Self::Moka),
            policy => {
                policy.parse().map(Self::Larder).map_err(|error| format!("{error}, {}", PEERS.join(", ")))
            }
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Larder(policy) => policy.fmt(f),
            Self::QuickCache => f.write_str("quick_cache"),
            Self::Moka => f.write_str("moka"),
        }
    }
}

/// A cache that is asked for keys.
pub(crate) trait ReadThrough {
    fn has(&self, key: u64) -> bool;
    fn insert(&self, key: u64);

    /// Gets a key, inserts it on a miss, and says whether it was a hit.
    fn serve(&self, key: u64) -> bool {
        let hit = self.has(key);
        if !hit {
            self.insert(key);
        }
        hit
    }
}

impl Contender {
    /// A cache of that many entries. The same seed gives the same hashes.
    pub(crate) fn cache(
        &self,
        capacity: u64,
        segments: Segments,
        seed: u64,
    ) -> Result<Box<dyn ReadThrough>, BuildError> {
        // Not random: the filters of some policies depend on the hashes, and two runs should agree.
        let mut random = Random::new(seed);
        let [a, b, c, d] = std::array::from_fn(|_| random.next());
        let hasher = RandomState::with_seeds(a, b, c, d);
        Ok(match self {
            Self::Larder(policy) => {
                let builder = Cache::builder().max_capacity(capacity).eviction_policy(policy.clone());
                let builder = match segments {
                    Segments::Auto => builder,
                    Segments::Exactly(segments) => builder.segments(segments.get()),
                };
                Box::new(Larder(builder.build_with_hasher(hasher)?))
            }
            Self::QuickCache => {
                let (entries, lifecycle) = (capacity as usize, DefaultLifecycle::default());
                Box::new(QuickCache(quick_cache::sync::Cache::with(
                    entries,
                    capacity,
                    UnitWeighter,
                    hasher,
                    lifecycle,
                )))
            }
            Self::Moka => {
                Box::new(Moka(moka::sync::Cache::builder().max_capacity(capacity).build_with_hasher(hasher)))
            }
        })
    }
}

struct Larder(Cache<u64, (), RandomState>);

impl ReadThrough for Larder {
    fn has(&self, key: u64) -> bool {
        self.0.get(&key).is_some()
    }

    fn insert(&self, key: u64) {
        self.0.insert(key, ());
    }
}

struct QuickCache(quick_cache::sync::Cache<u64, (), UnitWeighter, RandomState>);

impl ReadThrough for QuickCache {
    fn has(&self, key: u64) -> bool {
        self.0.get(&key).is_some()
    }

    fn insert(&self, key: u64) {
        self.0.insert(key, ());
    }
}

struct Moka(moka::sync::Cache<u64, (), RandomState>);

impl ReadThrough for Moka {
    fn has(&self, key: u64) -> bool {
        self.0.get(&key).is_some()
    }

    /// Without the maintenance it holds dozens of entries more than it may.
    fn insert(&self, key: u64) {
        self.0.insert(key, ());
        self.0.run_pending_tasks();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_that_is_read_again() {
        for name in POLICIES.iter().chain(PEERS) {
            assert_eq!(name.parse::<Contender>().unwrap().to_string(), *name);
        }
    }

    /// The crate's own list is in what it says of a wrong name.
    #[test]
    fn no_policy_is_forgotten() {
        let error = "nonesuch".parse::<EvictionPolicy>().unwrap_err().to_string();
        assert!(error.ends_with(&format!("expected one of {}", POLICIES.join(", "))), "{error}");
    }

    #[test]
    fn a_key_is_a_hit_once_it_was_asked_for() {
        for name in POLICIES.iter().chain(PEERS) {
            let cache = name.parse::<Contender>().unwrap().cache(100, Segments::Auto, 1).unwrap();
            assert_eq!([cache.serve(7), cache.serve(7), cache.serve(8)], [false, true, false], "{name}");
        }
    }
}
