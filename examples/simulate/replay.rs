//! Runs traces through caches: every policy at every capacity, and Belady's optimum beside them.

use crate::belady::{Belady, Future};
use crate::trace::Trace;
use ahash::RandomState;
use indicatif::ProgressBar;
use larder::{BuildError, Cache, EvictionPolicy};
use std::num::{NonZeroUsize, ParseIntError};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Requests between two reports to the progress bar: seldom enough to cost nothing.
const STRIDE: usize = 1 << 16;

/// What to compare.
#[derive(Clone, Debug)]
pub(crate) struct Contest {
    pub(crate) policies: Vec<EvictionPolicy>,
    pub(crate) segments: Segments,
}

/// How many segments the caches have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segments {
    /// What the cache takes when nothing is said.
    Auto,
    Exactly(NonZeroUsize),
}

impl FromStr for Segments {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Exactly) }
    }
}

/// Hit ratios at one capacity, in percent.
#[derive(Clone, Debug)]
pub(crate) struct Ratios {
    pub(crate) capacity: u64,
    pub(crate) optimum: f64,
    /// In the order of [`Contest::policies`].
    pub(crate) policies: Vec<f64>,
}

impl Ratios {
    /// The best policy's.
    pub(crate) fn best(&self) -> f64 {
        self.policies.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// One cache to run the trace through.
enum Contestant<'a> {
    Optimum,
    Policy(&'a EvictionPolicy),
}

impl Contest {
    /// How many requests [`run`](Self::run) serves in all.
    pub(crate) fn work(&self, trace: &Trace, capacities: &[u64]) -> u64 {
        (trace.keys().len() * capacities.len() * (1 + self.policies.len())) as u64
    }

    /// Runs the trace at each capacity. As many caches live at once as the machine has cores.
    pub(crate) fn run(
        &self,
        trace: &Trace,
        capacities: &[u64],
        progress: &ProgressBar,
    ) -> Result<Vec<Ratios>, BuildError> {
        let future = Future::new(trace.keys(), trace.distinct());
        let width = 1 + self.policies.len();
        let results = parallel(capacities.len() * width, |job| {
            let capacity = capacities[job / width];
            match self.contestant(job % width) {
                Contestant::Optimum => Ok(optimum(trace, &future, capacity, progress)),
                Contestant::Policy(policy) => self.read_through(trace, policy, capacity, progress),
            }
        });
        let mut results = results.into_iter();
        let row = |&capacity| {
            let optimum = results.next().expect("one for each job")?;
            let policies = results.by_ref().take(self.policies.len()).collect::<Result<_, _>>()?;
            Ok(Ratios { capacity, optimum, policies })
        };
        capacities.iter().map(row).collect()
    }

    fn contestant(&self, column: usize) -> Contestant<'_> {
        column.checked_sub(1).map_or(Contestant::Optimum, |policy| Contestant::Policy(&self.policies[policy]))
    }

    fn read_through(
        &self,
        trace: &Trace,
        policy: &EvictionPolicy,
        capacity: u64,
        progress: &ProgressBar,
    ) -> Result<f64, BuildError> {
        let builder = Cache::<u64, ()>::builder().max_capacity(capacity).eviction_policy(policy.clone());
        let builder = match self.segments {
            Segments::Auto => builder,
            Segments::Exactly(segments) => builder.segments(segments.get()),
        };
        // Fixed seeds: the filters of some policies depend on the hashes, and two runs should agree.
        let cache = builder.build_with_hasher(RandomState::with_seeds(1, 2, 3, 4))?;
        Ok(hit_ratio(trace, progress, |key| {
            let key = u64::from(key);
            let hit = cache.get(&key).is_some();
            if !hit {
                cache.insert(key, ());
            }
            hit
        }))
    }
}

fn optimum(trace: &Trace, future: &Future, capacity: u64, progress: &ProgressBar) -> f64 {
    let mut belady = Belady::new(trace.keys(), future, capacity);
    hit_ratio(trace, progress, |_| belady.step())
}

fn hit_ratio(trace: &Trace, progress: &ProgressBar, mut serve: impl FnMut(u32) -> bool) -> f64 {
    let mut hits = 0;
    for keys in trace.keys().chunks(STRIDE) {
        hits += keys.iter().filter(|&&key| serve(key)).count();
        progress.inc(keys.len() as u64);
    }
    100.0 * hits as f64 / trace.keys().len() as f64
}

/// Runs the jobs `0..jobs` on all cores; the results come in the order of the jobs.
fn parallel<R: Send + Sync>(jobs: usize, run: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let results: Vec<OnceLock<R>> = (0..jobs).map(|_| OnceLock::new()).collect();
    let queue = AtomicUsize::new(0);
    let work = || {
        // Relaxed: the counter only deals out numbers; the scope's end publishes the results.
        let next = || Some(queue.fetch_add(1, Ordering::Relaxed)).filter(|&job| job < jobs);
        while let Some(job) = next() {
            results[job].get_or_init(|| run(job));
        }
    };
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(jobs);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    results.into_iter().map(|result| result.into_inner().expect("the scope waits for all jobs")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contest(policies: &[&str]) -> Contest {
        let policies = policies.iter().map(|name| name.parse().unwrap()).collect();
        Contest { policies, segments: "1".parse().unwrap() }
    }

    #[test]
    fn lru_misses_all_of_a_loop_and_the_optimum_does_not() {
        let trace = Trace::from_keys("loop", (0..100).cycle().take(10_000));
        let ratios = contest(&["lru"]).run(&trace, &[50, 100], &ProgressBar::hidden()).unwrap();
        assert_eq!(ratios[0].policies, [0.0]);
        assert_eq!(ratios[1].policies, [99.0]);
        assert!(ratios[0].optimum > 49.0 && ratios[0].optimum < 51.0);
        assert_eq!(ratios[1].optimum, 99.0);
    }

    #[test]
    fn no_policy_passes_the_optimum() {
        let contest = contest(crate::args::POLICIES);
        for workload in crate::workload::all() {
            for ratios in contest.run(&workload.trace, &[0, 300], &ProgressBar::hidden()).unwrap() {
                assert!(ratios.best() <= ratios.optimum, "{}: {ratios:?}", workload.trace.name());
            }
        }
    }

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        assert_eq!(parallel(100, |job| job * 2), (0..200).step_by(2).collect::<Vec<_>>());
        assert!(parallel(0, |job| job).is_empty());
    }

    #[test]
    fn segments_parse() {
        assert_eq!("auto".parse(), Ok(Segments::Auto));
        assert_eq!("4".parse(), Ok(Segments::Exactly(NonZeroUsize::new(4).unwrap())));
        assert!("0".parse::<Segments>().is_err());
    }
}
