//! What each of larder's policies costs, beside quick_cache and moka, one thread.
//!
//! ```text
//! cargo bench --bench policies
//! ```

#![allow(missing_docs)]

mod common;

use common::POLICIES;
use common::keys::{Generator, Popularity, window};
use common::subjects::{Larder, Moka, QuickCache, Writes};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::time::Duration;

/// Operations that criterion sees as one, so that its own work does not show.
const BLOCK: usize = 4096;
const CAPACITY: usize = 100_000;

fn subjects(capacity: usize) -> Vec<Box<dyn Writes>> {
    let larder = |policy| Box::new(Larder::of(policy, capacity)) as Box<dyn Writes>;
    let mut subjects = Vec::from(POLICIES.map(larder));
    subjects.push(Box::new(QuickCache::new(capacity)));
    subjects.push(Box::new(Moka::new(capacity)));
    subjects
}

/// Measures `work(subject, position)`, which does a block of operations, for all subjects.
fn group(
    criterion: &mut Criterion,
    name: &str,
    subjects: Vec<Box<dyn Writes>>,
    work: impl Fn(&dyn Writes, usize) -> usize,
) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(BLOCK as u64));
    for subject in subjects {
        let mut position = 0;
        group.bench_function(subject.title(), |bencher| {
            bencher.iter(|| {
                position += BLOCK;
                work(&*subject, position)
            });
        });
    }
    group.finish();
}

fn hits(criterion: &mut Criterion) {
    let subjects = subjects(2 * CAPACITY);
    subjects.iter().for_each(|subject| subject.fill(0..CAPACITY as u64));
    let draws = Generator::new(Popularity::Zipf, CAPACITY as u32).draw(1 << 20, 1);
    group(criterion, "hit", subjects, |subject, position| subject.read(window(&draws, position, BLOCK)));
}

fn inserts(criterion: &mut Criterion) {
    let subjects = subjects(CAPACITY);
    subjects.iter().for_each(|subject| subject.fill(0..CAPACITY as u64));
    group(criterion, "insert with eviction", subjects, |subject, position| {
        let first = (CAPACITY + position) as u64;
        subject.fill(first..first + BLOCK as u64);
        0
    });
}

fn read_through(criterion: &mut Criterion) {
    let subjects = subjects(CAPACITY);
    let draws = Generator::new(Popularity::Zipf, 10 * CAPACITY as u32).draw(1 << 20, 1);
    for subject in &subjects {
        subject.read_through(window(&draws, 0, 4 * CAPACITY));
    }
    group(criterion, "read-through", subjects, |subject, position| {
        subject.read_through(window(&draws, 4 * CAPACITY + position, BLOCK))
    });
}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
}

criterion_group! { name = benches; config = short(); targets = hits, inserts, read_through }
criterion_main!(benches);
