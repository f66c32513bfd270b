//! The ways to read from larder, one thread: 100,000 resident keys, Zipf 0.99.
//!
//! ```text
//! cargo bench --bench reads
//! ```

#![allow(missing_docs)]

mod common;

use common::keys::{Generator, Popularity};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use larder::{Builder, Cache};
use std::hash::Hash;
use std::time::Duration;

const KEYS: u32 = 100_000;
/// Operations that criterion sees as one, so that its own work does not show.
const BLOCK: usize = 4096;
/// Keys in one call of `get_many`.
const MANY: usize = 64;

fn filled<K: Hash + Eq + Send + Sync + 'static>(
    builder: Builder<K, u64>,
    key: impl Fn(u32) -> K,
) -> Cache<K, u64> {
    let cache = builder.max_capacity(2 * u64::from(KEYS)).build().expect("a good capacity");
    (0..KEYS).for_each(|number| cache.insert(key(number), number.into()));
    cache
}

/// Measures `sum`, which reads a block of keys and adds up what it finds.
fn bench<K>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, draws: &[K], sum: impl Fn(&[K]) -> u64) {
    let blocks = draws.chunks_exact(BLOCK);
    let mut next = blocks.clone().cycle();
    group.bench_function(name, |bencher| bencher.iter(|| sum(next.next().expect("it goes around"))));
}

fn reads(criterion: &mut Criterion) {
    let draws = Generator::new(Popularity::Zipf, KEYS).draw(1 << 20, 1);
    let numbers: Vec<u64> = draws.iter().copied().map(u64::from).collect();
    let cache = filled(Cache::builder(), u64::from);
    let counting = filled(Cache::builder().record_stats(), u64::from);

    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Elements(BLOCK as u64));
    bench(&mut group, "get", &numbers, |keys| keys.iter().filter_map(|key| cache.get(key)).sum());
    bench(&mut group, "get, statistics on", &numbers, |keys| {
        keys.iter().filter_map(|key| counting.get(key)).sum()
    });
    bench(&mut group, "with", &numbers, |keys| {
        keys.iter().filter_map(|key| cache.with(key, |&value| value)).sum()
    });
    bench(&mut group, "peek", &numbers, |keys| keys.iter().filter_map(|key| cache.peek(key)).sum());
    bench(&mut group, "contains_key", &numbers, |keys| {
        keys.iter().map(|key| u64::from(cache.contains_key(key))).sum()
    });
    bench(&mut group, &format!("get_many of {MANY}"), &numbers, |keys| {
        keys.chunks(MANY).flat_map(|keys| cache.get_many(keys)).flatten().sum()
    });
    bench(&mut group, "get of a key that is not there", &numbers, |keys| {
        keys.iter().filter_map(|key| cache.get(&(key + (1 << 32)))).sum()
    });
    group.finish();
}

fn reads_by_text(criterion: &mut Criterion) {
    let text = |number: u32| format!("/articles/{number:06}");
    let cache = filled(Cache::builder(), text);
    let draws = Generator::new(Popularity::Zipf, KEYS).draw(1 << 18, 1);
    let texts: Vec<String> = draws.iter().map(|&number| text(number)).collect();

    let mut group = criterion.benchmark_group("read, String keys");
    group.throughput(Throughput::Elements(BLOCK as u64));
    bench(&mut group, "get by &str", &texts, |keys| {
        keys.iter().filter_map(|key| cache.get(key.as_str())).sum()
    });
    group.finish();
}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = short(); targets = reads, reads_by_text }
criterion_main!(benches);
