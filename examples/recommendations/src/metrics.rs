//! `/metrics`: what the caches and the server have counted, as text for Prometheus (exposition format 0.0.4).

use crate::caches::Caches;
use crate::stats::{CacheStats, all_caches};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Buckets between a time and twice that.
const STEPS: u64 = 8;
const BUCKETS: usize = 192;
/// What `/metrics` shows of them: 2^6 microseconds, twice that, .. up to four seconds.
const SHOWN: std::ops::RangeInclusive<u32> = 6..=22;

/// How long requests took. A bucket is an eighth as wide as its time is long, at most.
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), micros: AtomicU64::new(0) }
    }
}

impl Histogram {
    fn count(&self, took: Duration) {
        let micros = took.as_micros() as u64;
        self.buckets[bucket_of(micros)].fetch_add(1, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
    }

    /// The buckets that are not empty: what all in it are below, in microseconds, and how many they are.
    pub fn filled(&self) -> Vec<(u64, u64)> {
        let counted = self.buckets.iter().enumerate().map(|(at, count)| (end_of(at), count.load(Relaxed)));
        counted.filter(|&(_, count)| count > 0).collect()
    }
}

fn bucket_of(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let octave = u64::from(micros.ilog2() - STEPS.ilog2());
    let step = (micros >> octave) - STEPS;
    ((octave + 1) * STEPS + step).min(BUCKETS as u64 - 1) as usize
}

fn end_of(bucket: usize) -> u64 {
    let (octave, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    if octave == 0 { step + 1 } else { (STEPS + step + 1) << (octave - 1) }
}

/// Requests by status and route.
#[derive(Default)]
pub struct Requests(RwLock<BTreeMap<u16, BTreeMap<String, Arc<Histogram>>>>);

impl Requests {
    pub fn count(&self, route: &str, status: u16, took: Duration) {
        let known = {
            let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
            all.get(&status).and_then(|routes| routes.get(route)).cloned()
        };
        let histogram = known.unwrap_or_else(|| {
            let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(status).or_default().entry(route.to_owned()).or_default())
        });
        histogram.count(took);
    }

    /// Route, status and times.
    pub fn all(&self) -> Vec<(String, u16, Arc<Histogram>)> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let routes = |(&status, routes): (&u16, &BTreeMap<String, Arc<Histogram>>)| {
            let one = |(route, times): (&String, &Arc<_>)| (route.clone(), status, Arc::clone(times));
            routes.iter().map(one).collect::<Vec<_>>()
        };
        all.iter().flat_map(routes).collect()
    }
}

/// Labels of a sample: names and values.
type Labels<'a> = &'a [(&'a str, &'a str)];

/// Writes families of samples, each with its help and type once, before its first sample.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let _ = writeln!(self.0, "{name}{{{}}} {value}", labels.join(","));
    }
}

fn escape(label: &str) -> String {
    label.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

type Column = (&'static str, &'static str, &'static str, fn(&CacheStats) -> f64);

const OF_CACHES: [Column; 15] = [
    ("entries", "gauge", "Entries in the cache.", |c| c.entries as f64),
    ("weight", "gauge", "Total weight of the entries: bytes, or their number.", |c| c.weight as f64),
    ("capacity", "gauge", "Highest total weight of the entries.", |c| c.capacity as f64),
    ("hits_total", "counter", "Reads that found an entry.", |c| c.stats.hit_count() as f64),
    ("misses_total", "counter", "Reads that found no entry.", |c| c.stats.miss_count() as f64),
    ("loads_total", "counter", "Loads of entries that succeeded.", |c| c.stats.load_success_count() as f64),
    ("load_failures_total", "counter", "Loads of entries that failed or timed out.", |c| {
        c.stats.load_failure_count() as f64
    }),
    ("load_waits_total", "counter", "Reads that waited for a load that another read had begun.", |c| {
        c.stats.load_wait_count() as f64
    }),
    ("load_seconds_total", "counter", "Total time of all loads, in seconds.", |c| {
        c.stats.total_load_time().as_secs_f64()
    }),
    ("evictions_total", "counter", "Entries removed to make room for others.", |c| {
        c.stats.eviction_count() as f64
    }),
    ("rejections_total", "counter", "New entries that the eviction policy did not admit.", |c| {
        c.stats.rejection_count() as f64
    }),
    (
        "expirations_total",
        "counter",
        "Entries removed because their time to live or to idle had passed.",
        |c| c.stats.expiration_count() as f64,
    ),
    ("stale_total", "counter", "Reads that got an expired value, for want of a newer one.", |c| {
        c.stats.stale_count() as f64
    }),
    ("refreshes_total", "counter", "Values replaced by a refresh.", |c| c.stats.refresh_count() as f64),
    (
        "refresh_failures_total",
        "counter",
        "Refreshes that failed and left the old value in the cache.",
        |c| c.stats.refresh_failure_count() as f64,
    ),
];

pub fn exposition(caches: &Caches, requests: &Requests) -> String {
    let mut text = Exposition::default();
    let caches = all_caches(caches, 0);
    for (name, kind, help, value) in OF_CACHES {
        let name = format!("larder_cache_{name}");
        text.family(&name, kind, help);
        caches.iter().for_each(|cache| text.sample(&name, &[("cache", &cache.name)], value(cache)));
    }
    text.family(
        "http_request_seconds",
        "histogram",
        "Time to answer a request, in seconds, by route and status.",
    );
    for (route, status, times) in requests.all() {
        write_times(&mut text, &route, &status.to_string(), &times);
    }
    text.0
}

fn write_times(text: &mut Exposition, route: &str, status: &str, times: &Histogram) {
    let filled = times.filled();
    let below = |micros: u64| -> u64 {
        filled.iter().filter(|&&(end, _)| end <= micros).map(|&(_, count)| count).sum()
    };
    for power in SHOWN {
        let micros = 1_u64 << power;
        let end = (micros as f64 / 1e6).to_string();
        let labels = [("route", route), ("status", status), ("le", end.as_str())];
        text.sample("http_request_seconds_bucket", &labels, below(micros));
    }
    let all = below(u64::MAX);
    let labels = [("route", route), ("status", status), ("le", "+Inf")];
    text.sample("http_request_seconds_bucket", &labels, all);
    let sum = times.micros.load(Relaxed) as f64 / 1e6;
    text.sample("http_request_seconds_sum", &labels[..2], sum);
    text.sample("http_request_seconds_count", &labels[..2], all);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_they_say() {
        let mut before = 0;
        for micros in (0..5_000).chain([1 << 20, (1 << 20) + 1, 20_000_000]) {
            let bucket = bucket_of(micros);
            assert!(bucket >= before && end_of(bucket) > micros, "{micros}");
            assert!(bucket == 0 || end_of(bucket - 1) <= micros, "{micros}");
            before = bucket;
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert!(SHOWN.into_iter().all(|power| end_of(bucket_of((1 << power) - 1)) == 1 << power));
    }

    #[test]
    fn labels_and_help_are_escaped() {
        let mut text = Exposition::default();
        text.family("a", "gauge", "back\\slash\nline");
        text.sample("a", &[("b", "say \"hi\"\\\n")], 1);
        assert_eq!(
            text.0,
            "# HELP a back\\\\slash\\nline\n# TYPE a gauge\na{b=\"say \\\"hi\\\"\\\\\\n\"} 1\n"
        );
    }
}
