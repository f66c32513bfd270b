//! Caches of many configurations.

use crate::common::{Random, policies};
use crate::values::{Key, Value, stumble};
use larder::{Cache, Clock, EvictionPolicy, RandomState};
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

pub type Larder = Cache<Key, Value, Hashing>;

/// Gives keys random hashes, or the same one to all.
pub struct Hashing {
    random: RandomState,
    is_crowded: bool,
}

impl BuildHasher for Hashing {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher { random: self.random.build_hasher(), is_crowded: self.is_crowded }
    }
}

pub struct KeyHasher {
    random: <RandomState as BuildHasher>::Hasher,
    is_crowded: bool,
}

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        if self.is_crowded { 7 } else { self.random.finish() }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.random.write(bytes);
    }
}

/// Kinds of configurations, by the reasons for which an entry may leave by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// No entry leaves by itself.
    Roomy,
    /// Likewise, and the index grows.
    Growing,
    /// Likewise, and all keys have the same hash. A write makes the loads of all of them void, so there are none.
    Crowded,
    /// Entries are evicted.
    Tight,
    /// Entries end.
    Ending,
    /// Entries become due and stale before they go.
    Stale,
}

/// Configuration of a cache. Times are in units.
#[derive(Clone, Debug)]
pub struct Setup {
    pub family: Family,
    policy: EvictionPolicy,
    segments: usize,
    capacity: u64,
    /// Whether entries may be evicted.
    pub evicts: bool,
    pub unit: Duration,
    pub time_to_live: Option<u64>,
    pub refresh_after: Option<u64>,
    pub revalidate: u64,
    /// Whether values carry tags even where they are not inserted with some.
    pub is_tagged: bool,
    has_stats: bool,
    has_listener: bool,
    /// Whether a loader of many gets one key at a time.
    is_one_by_one: bool,
    /// Each chance to yield is taken once in so many times.
    pub odds: u64,
}

impl Setup {
    pub fn random(family: Family, random: &mut Random) -> Self {
        let policies = policies();
        let evicts = match family {
            Family::Tight => true,
            Family::Ending | Family::Stale => random.one_in(3),
            Family::Roomy | Family::Growing | Family::Crowded => false,
        };
        let is_crowded = family == Family::Crowded;
        let is_stale = family == Family::Stale;
        Self {
            family,
            policy: policies[random.below(policies.len() as u64) as usize].clone(),
            segments: if random.one_in(2) { 1 } else { 4 },
            capacity: match family {
                Family::Growing => 1 << 40,
                _ if evicts => 1 + random.below(4),
                _ => 1_000,
            },
            evicts,
            // Entries that have ended are swept soon, or not before the clock has gone on for a millisecond.
            unit: if random.one_in(2) { Duration::from_secs(10) } else { Duration::from_micros(1) },
            time_to_live: match family {
                Family::Ending if random.one_in(4) => None,
                Family::Ending | Family::Stale => Some(1 + random.below(3)),
                _ => None,
            },
            refresh_after: (is_stale && random.one_in(2)).then(|| 1 + random.below(2)),
            revalidate: if is_stale { 1 + random.below(3) } else { 0 },
            is_tagged: random.one_in(2),
            has_stats: random.one_in(4),
            has_listener: random.one_in(4),
            is_one_by_one: random.one_in(4),
            odds: if is_crowded { 2 } else { [0, 2, 4, 16][random.below(4) as usize] },
        }
    }

    /// Whether entries end.
    pub fn is_timed(&self) -> bool {
        matches!(self.family, Family::Ending | Family::Stale)
    }

    /// Whether callers with a loader may get entries that have ended.
    pub fn is_soft(&self) -> bool {
        self.family == Family::Stale
    }

    pub fn build(&self, clock: &Clock) -> Larder {
        let mut builder = Cache::<Key, Value>::builder()
            .max_capacity(self.capacity)
            .segments(self.segments)
            .eviction_policy(self.policy.clone())
            .clock(clock.clone())
            .stale_while_revalidate(self.unit * self.revalidate as u32);
        if let Some(time) = self.time_to_live {
            builder = builder.time_to_live(self.unit * time as u32);
        }
        if let Some(time) = self.refresh_after {
            builder = builder.refresh_after_write(self.unit * time as u32);
        }
        if self.is_tagged {
            builder = builder.tags(|_, value: &Value| value.tags());
        }
        if self.has_stats {
            builder = builder.record_stats();
        }
        if self.has_listener {
            builder = builder.eviction_listener(|_, _, _| stumble());
        }
        if self.is_one_by_one {
            builder = builder.max_batch(1);
        }
        let hasher = Hashing { random: RandomState::default(), is_crowded: self.family == Family::Crowded };
        builder.build_with_hasher(hasher).expect("all of this can be built")
    }
}
