//! Caches of which a value or an iterator can be held, and values that count themselves.

use super::epoch_map::EpochMap;
use super::heap::Gauge;
use super::subjects::{Cache, Larder, Moka, QuickCache, Writes};
use larder::EvictionPolicy;

/// Values that live, of the kind that counts itself.
pub(crate) static VALUES: Gauge = Gauge::new();

/// A value that counts itself, as large as what it holds.
pub(crate) struct Live<T>(T);

impl<T> Live<T> {
    pub(crate) fn new(inner: T) -> Self {
        VALUES.add(1);
        Self(inner)
    }
}

impl<T: Clone> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl<T> Drop for Live<T> {
    fn drop(&mut self) {
        VALUES.subtract(1);
    }
}

/// A cache of which a value, or an iterator, can be held.
pub(crate) trait Holder: Cache {
    /// Calls `meanwhile` with a key's value in hand, by reference where the cache gives that, and says whether it was there.
    fn hold(&self, key: u64, meanwhile: &dyn Fn()) -> bool;

    /// Calls `meanwhile` with an iterator in hand that has taken one step.
    fn pause(&self, meanwhile: &dyn Fn());
}

/// Calls `meanwhile` with an iterator in hand, and with what its first step gave.
fn pause_in(mut entries: impl Iterator, meanwhile: &dyn Fn()) {
    let first = entries.next();
    meanwhile();
    drop((first, entries));
}

impl<V: Clone + Send + Sync + 'static> Holder for Larder<V> {
    fn hold(&self, key: u64, meanwhile: &dyn Fn()) -> bool {
        self.cache.with(&key, |_| meanwhile()).is_some()
    }

    fn pause(&self, meanwhile: &dyn Fn()) {
        pause_in(self.cache.iter(), meanwhile);
    }
}

impl<V: Clone + Send + Sync + 'static> Holder for QuickCache<V> {
    fn hold(&self, key: u64, meanwhile: &dyn Fn()) -> bool {
        self.0.get(&key).map(|_value| meanwhile()).is_some()
    }

    fn pause(&self, meanwhile: &dyn Fn()) {
        pause_in(self.0.iter(), meanwhile);
    }
}

impl<V: Clone + Send + Sync + 'static> Holder for Moka<V> {
    fn hold(&self, key: u64, meanwhile: &dyn Fn()) -> bool {
        self.0.get(&key).map(|_value| meanwhile()).is_some()
    }

    fn pause(&self, meanwhile: &dyn Fn()) {
        pause_in(self.0.iter(), meanwhile);
    }
}

impl<V: Clone + Send + Sync + 'static> Holder for EpochMap<V> {
    fn hold(&self, key: u64, meanwhile: &dyn Fn()) -> bool {
        self.with(key, meanwhile)
    }

    /// It has no iterator; one would have to keep its guard.
    fn pause(&self, meanwhile: &dyn Fn()) {
        let _guard = crossbeam_epoch::pin();
        meanwhile();
    }
}

/// A kind of cache, and how to make some of a capacity.
pub(crate) struct Kind<V> {
    pub(crate) name: &'static str,
    pub(super) make: fn(usize) -> Box<dyn Holder<Value = V>>,
    pub(super) make_other: fn(usize) -> Box<dyn Writes>,
}

impl<V: Clone + Send + Sync + 'static> Kind<V> {
    pub(crate) fn larder() -> Self {
        Self {
            name: "larder",
            make: |capacity| Box::new(Larder::new(capacity, EvictionPolicy::default())),
            make_other: |capacity| Box::new(Larder::new(capacity, EvictionPolicy::default())),
        }
    }

    pub(crate) fn quick_cache() -> Self {
        Self {
            name: "quick_cache",
            make: |capacity| Box::new(QuickCache::new(capacity)),
            make_other: |capacity| Box::new(QuickCache::new(capacity)),
        }
    }

    pub(crate) fn moka() -> Self {
        Self {
            name: "moka",
            make: |capacity| Box::new(Moka::new(capacity)),
            make_other: |capacity| Box::new(Moka::new(capacity)),
        }
    }

    pub(crate) fn epoch_map() -> Self {
        Self {
            name: "crossbeam-epoch",
            make: |capacity| Box::new(EpochMap::new(capacity)),
            make_other: |capacity| Box::new(EpochMap::new(capacity)),
        }
    }
}
