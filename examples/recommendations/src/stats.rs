//! `/stats.json`: the same figures for the page, and what the caches hold.

use crate::caches::Caches;
use crate::metrics::{Histogram, Requests};
use crate::service::Service;
use larder::{Cache, Metadata, Stats};
use serde_json::{Value, json};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

/// Entries of each cache that the page shows.
const SHOWN: usize = 5;

/// One cache, whatever its types are.
pub struct CacheStats {
    pub name: String,
    pub policy: String,
    /// What weights are: bytes or entries.
    pub unit: &'static str,
    pub entries: usize,
    pub weight: u64,
    pub capacity: u64,
    pub stats: Stats,
    pub hottest: Vec<Held>,
}

/// An entry, in words.
pub struct Held {
    key: String,
    value: String,
    metadata: Option<Metadata>,
}

/// All caches, each with some of its hottest entries.
pub fn all_caches(caches: &Caches, hottest: usize) -> Vec<CacheStats> {
    let Caches { users, behaviour, tastes, items, models, results, sessions } = caches;
    vec![
        describe(results, "bytes", hottest, |key, ranking| {
            let shelf = key.shelf.map_or(String::new(), |shelf| format!(", shelf {shelf}"));
            let best = ranking.items.first().map_or("nothing", |item| &item.title);
            (format!("user {}{shelf}", key.user), format!("{} items, first {best}", ranking.items.len()))
        }),
        describe(behaviour, "bytes", hottest, |user, behaviour| {
            let (recent, settled) = (behaviour.recent.len(), behaviour.settled.len());
            (format!("user {user}"), format!("{recent} recent events, {settled} items settled"))
        }),
        describe(tastes, "entries", hottest, |user, taste| {
            let [first, second, ..] = taste;
            (format!("user {user}"), format!("({first:.2}, {second:.2}, ..)"))
        }),
        describe(items, "entries", hottest, |item, value| (format!("item {item}"), value.title.to_string())),
        describe(users, "entries", hottest, |user, value| {
            (
                format!("user {user}"),
                value.as_ref().map_or("does not exist".to_owned(), |user| user.name.clone()),
            )
        }),
        describe(models, "bytes", hottest, |name, model| {
            (name.clone(), format!("version {}, {} items", model.version, model.neighbours.len()))
        }),
        describe(sessions, "entries", hottest, |id, session| {
            // Who sees all of it could use it.
            let start = id.get(..4).unwrap_or_default();
            (format!("{start}.."), format!("user {}, {} events", session.user, session.events))
        }),
    ]
}

fn describe<K, V>(
    cache: &Cache<K, V>,
    unit: &'static str,
    hottest: usize,
    words: impl Fn(&K, &V) -> (String, String),
) -> CacheStats
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let held = |(key, value): (K, V)| {
        let metadata = cache.metadata(&key);
        let (key, value) = words(&key, &value);
        Held { key, value, metadata }
    };
    CacheStats {
        name: cache.name().unwrap_or_default().to_owned(),
        policy: cache.policy().to_string(),
        unit,
        entries: cache.len(),
        weight: cache.weighted_size(),
        capacity: cache.capacity(),
        stats: cache.stats(),
        hottest: cache.hottest(hottest).into_iter().map(held).collect(),
    }
}

pub fn stats(service: &Service, requests: &Requests) -> Value {
    let caches: Vec<_> = all_caches(&service.caches, SHOWN).iter().map(cache_json).collect();
    let request = |(route, status, times): (String, u16, Arc<Histogram>)| {
        let below = times.filled();
        json!({ "route": route, "status": status, "below_micros": below })
    };
    json!({
        "uptime_seconds": service.started.elapsed().as_secs_f64(),
        "users": service.shape.users,
        "items": service.shape.items,
        "is_caching": service.is_caching(),
        "model": service.model_version(),
        "is_training": service.is_training(),
        "caches": caches,
        "requests": requests.all().into_iter().map(request).collect::<Vec<_>>(),
    })
}

fn cache_json(cache: &CacheStats) -> Value {
    let CacheStats { name, policy, unit, entries, weight, capacity, stats, hottest } = cache;
    json!({
        "name": name,
        "policy": policy,
        "unit": unit,
        "entries": entries,
        "weight": weight,
        "capacity": capacity,
        "hits": stats.hit_count(),
        "misses": stats.miss_count(),
        "loads": stats.load_success_count() + stats.load_failure_count(),
        "load_failures": stats.load_failure_count(),
        "load_waits": stats.load_wait_count(),
        "load_seconds": stats.total_load_time().as_secs_f64(),
        "evictions": stats.eviction_count(),
        "expirations": stats.expiration_count(),
        "stale": stats.stale_count(),
        "refreshes": stats.refresh_count(),
        "hottest": hottest.iter().map(held_json).collect::<Vec<_>>(),
    })
}

fn held_json(held: &Held) -> Value {
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    json!({
        "key": held.key,
        "value": held.value,
        "age_seconds": seconds(held.metadata.and_then(|metadata| metadata.age)),
        "remaining_seconds": seconds(held.metadata.and_then(|metadata| metadata.remaining)),
        "weight": held.metadata.map(|metadata| metadata.weight),
    })
}
