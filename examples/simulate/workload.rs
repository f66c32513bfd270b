//! Made-up traces, for a first look without any file. Real traces tell more.

use crate::random::Random;
use crate::trace::Trace;

const REQUESTS: usize = 200_000;

/// A trace and the capacities that show what is in it.
pub(crate) struct Workload {
    pub(crate) trace: Trace,
    pub(crate) capacities: Vec<u64>,
}

/// A made-up trace: its name, its requests, and the capacities to run it at.
type Recipe = (&'static str, fn() -> Vec<u64>, &'static [u64]);

const RECIPES: [Recipe; 4] = [
    ("zipf", zipf, &[100, 250, 500, 1_000, 2_500, 5_000]),
    ("zipf-scans", zipf_with_scans, &[100, 250, 500, 1_000, 2_500, 5_000]),
    ("loop", a_loop, &[250, 500, 750, 900, 975]),
    ("shifting", shifting_hot_set, &[100, 250, 500, 1_000, 2_500]),
];

/// All of them, the same ones every time.
pub(crate) fn all() -> impl Iterator<Item = Workload> {
    RECIPES.iter().map(|(name, keys, capacities)| Workload {
        trace: Trace::from_keys(name, keys()),
        capacities: capacities.to_vec(),
    })
}

/// Web traffic as it is usually drawn: the n-th most wanted of 20,000 keys is wanted n^0.9 times less than the first.
fn zipf() -> Vec<u64> {
    let mut keys = Zipf::new(20_000, 0.9, 1);
    (0..REQUESTS).map(|_| keys.next()).collect()
}

/// The same, and every 10,000 requests somebody reads 2,500 keys that nobody asks for again.
fn zipf_with_scans() -> Vec<u64> {
    let mut keys = Zipf::new(20_000, 0.9, 2);
    let mut fresh = 20_000..;
    let request = |i: usize| match i % 10_000 {
        0..7_500 => keys.next(),
        _ => fresh.next().expect("endless"),
    };
    (0..REQUESTS).map(request).collect()
}

/// Round and round over 1,000 keys: LRU misses every one of them unless it can hold all.
fn a_loop() -> Vec<u64> {
    (0..1_000).cycle().take(REQUESTS).collect()
}

/// Nine requests in ten go to 500 hot keys among 50,000, and every 20,000 requests other keys are hot.
fn shifting_hot_set() -> Vec<u64> {
    let mut random = Random::new(3);
    let request = |i: usize| {
        let hot = (i / 20_000 * 500) as u64;
        if random.below(10) < 9 { hot + random.below(500) } else { random.below(50_000) }
    };
    (0..REQUESTS).map(request).collect()
}

/// Ranks drawn with a probability that falls with a power of the rank.
struct Zipf {
    random: Random,
    /// The probability of each rank or a lower one, up to a factor.
    cumulative: Vec<f64>,
}

impl Zipf {
    fn new(keys: u32, exponent: f64, seed: u64) -> Self {
        let weights = (1..=keys).map(|rank| f64::from(rank).powf(-exponent));
        let cumulative = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { random: Random::new(seed), cumulative: cumulative.collect() }
    }

    fn next(&mut self) -> u64 {
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        let point = self.random.fraction() * total;
        self.cumulative.partition_point(|&upto| upto <= point) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_sees_the_same_requests() {
        for (first, second) in all().zip(all()) {
            assert_eq!(first.trace.keys(), second.trace.keys());
            assert_eq!(first.trace.keys().len(), REQUESTS);
        }
    }

    #[test]
    fn zipf_wants_low_ranks_more() {
        let keys = zipf();
        let count = |rank| keys.iter().filter(|&&key| key == rank).count();
        assert!(count(0) > count(1) && count(1) > count(10) && count(10) > count(1_000));
        assert!(keys.iter().all(|&key| key < 20_000));
    }
}
