//! Runs traces through caches: every contender at every capacity, and Belady's optimum beside them.

use crate::belady::{Belady, Future};
use crate::contender::{Contender, ReadThrough};
use crate::trace::Trace;
use indicatif::ProgressBar;
use larder::BuildError;
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
    pub(crate) contenders: Vec<Contender>,
    pub(crate) segments: Segments,
    /// How many times each cache is tried, each time with other hashes.
    pub(crate) seeds: u64,
}

/// How many segments larder's caches have.
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
    /// In the order of [`Contest::contenders`]: the mean over the seeds.
    pub(crate) reached: Vec<f64>,
    /// The same, with the seed that it does worst with.
    pub(crate) unlucky: Vec<f64>,
}

impl Ratios {
    /// From what each contender reaches with each seed.
    fn new(capacity: u64, optimum: f64, seeds: &[Vec<f64>]) -> Self {
        let mean = |ratios: &Vec<f64>| ratios.iter().sum::<f64>() / ratios.len() as f64;
        let least = |ratios: &Vec<f64>| ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let (reached, unlucky) = (seeds.iter().map(mean).collect(), seeds.iter().map(least).collect());
        Self { capacity, optimum, reached, unlucky }
    }

    /// The best contender's.
    pub(crate) fn best(&self) -> f64 {
        self.reached.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// Hit ratios of several traces, in percent: by contender, and by trace.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    pub(crate) capacity: u64,
    /// Each trace in a cache of its own.
    pub(crate) fresh: Vec<Vec<f64>>,
    /// All in one cache, one after another.
    pub(crate) in_turn: Vec<Vec<f64>>,
}

/// One run of the trace.
enum Run<'a> {
    Optimum,
    Cache(&'a Contender, u64),
}

impl Contest {
    /// How many requests [`run`](Self::run) serves in all.
    pub(crate) fn work(&self, trace: &Trace, capacities: &[u64]) -> u64 {
        (trace.keys().len() * capacities.len() * self.width()) as u64
    }

    /// Runs the trace at each capacity. As many caches live at once as the machine has cores.
    pub(crate) fn run(
        &self,
        trace: &Trace,
        capacities: &[u64],
        progress: &ProgressBar,
    ) -> Result<Vec<Ratios>, BuildError> {
        let future = Future::new(trace.keys(), trace.distinct());
        let width = self.width();
        let results = parallel(capacities.len() * width, |job| {
            let capacity = capacities[job / width];
            match self.run_of(job % width) {
                Run::Optimum => Ok(optimum(trace, &future, capacity, progress)),
                Run::Cache(contender, seed) => {
                    let cache = contender.cache(capacity, self.segments, seed)?;
                    Ok(read_through(&*cache, trace, 0, progress))
                }
            }
        });
        let mut results = results.into_iter();
        let row = |&capacity| {
            let optimum = results.next().expect("one for each job")?;
            let seeds = |_| results.by_ref().take(self.seeds as usize).collect::<Result<_, _>>();
            let seeds = self.contenders.iter().map(seeds).collect::<Result<Vec<_>, _>>()?;
            Ok(Ratios::new(capacity, optimum, &seeds))
        };
        capacities.iter().map(row).collect()
    }

    /// How many requests [`run_in_turn`](Self::run_in_turn) serves in all.
    pub(crate) fn work_in_turn(&self, traces: &[Trace], capacities: &[u64]) -> u64 {
        let requests: usize = traces.iter().map(|trace| trace.keys().len()).sum();
        (2 * requests * capacities.len() * self.contenders.len()) as u64 * self.seeds
    }

    /// Runs the traces one after another in one cache, and each in a fresh one. No two of them share a key.
    pub(crate) fn run_in_turn(
        &self,
        traces: &[Trace],
        capacities: &[u64],
        progress: &ProgressBar,
    ) -> Result<Vec<Relay>, BuildError> {
        let width = self.width() - 1;
        let results = parallel(capacities.len() * width, |job| {
            let Run::Cache(contender, seed) = self.run_of(1 + job % width) else { unreachable!() };
            let cache = || contender.cache(capacities[job / width], self.segments, seed);
            let (used, mut first) = (cache()?, 0);
            let both = |trace: &Trace| {
                let start = first;
                first += trace.distinct() as u64;
                let fresh = read_through(&*cache()?, trace, start, progress);
                Ok([fresh, read_through(&*used, trace, start, progress)])
            };
            traces.iter().map(both).collect::<Result<Vec<_>, _>>()
        });
        let results = results.into_iter().collect::<Result<Vec<_>, _>>()?;
        let means = |seeds: &[Vec<[f64; 2]>], side: usize| -> Vec<f64> {
            let sum = |trace: usize| seeds.iter().map(|ratios| ratios[trace][side]).sum::<f64>();
            (0..traces.len()).map(|trace| sum(trace) / seeds.len() as f64).collect()
        };
        let relay = |(&capacity, results): (&u64, &[Vec<[f64; 2]>])| {
            let by_contender =
                |side| results.chunks(self.seeds as usize).map(|seeds| means(seeds, side)).collect();
            Relay { capacity, fresh: by_contender(0), in_turn: by_contender(1) }
        };
        Ok(capacities.iter().zip(results.chunks(width)).map(relay).collect())
    }

    fn run_of(&self, column: usize) -> Run<'_> {
        let Some(column) = column.checked_sub(1) else { return Run::Optimum };
        let seeds = self.seeds as usize;
        Run::Cache(&self.contenders[column / seeds], (column % seeds) as u64)
    }

    /// How many runs each capacity takes.
    fn width(&self) -> usize {
        1 + self.contenders.len() * self.seeds as usize
    }
}

/// The hit ratio of a trace, its keys counted from `first` on.
fn read_through(cache: &dyn ReadThrough, trace: &Trace, first: u64, progress: &ProgressBar) -> f64 {
    hit_ratio(trace, progress, |key| cache.serve(first + u64::from(key)))
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
    use crate::contender::{PEERS, POLICIES};

    fn contest(names: &[&str]) -> Contest {
        let contenders = names.iter().map(|name| name.parse().unwrap()).collect();
        Contest { contenders, segments: "1".parse().unwrap(), seeds: 1 }
    }

    #[test]
    fn lru_misses_all_of_a_loop_and_the_optimum_does_not() {
        let trace = Trace::from_keys("loop", (0..100).cycle().take(10_000));
        let ratios = contest(&["lru"]).run(&trace, &[50, 100], &ProgressBar::hidden()).unwrap();
        assert_eq!(ratios[0].reached, [0.0]);
        assert_eq!(ratios[1].reached, [99.0]);
        assert!(ratios[0].optimum > 49.0 && ratios[0].optimum < 51.0);
        assert_eq!(ratios[1].optimum, 99.0);
    }

    #[test]
    fn nobody_passes_the_optimum() {
        let contest = contest(&[POLICIES, PEERS].concat());
        for workload in crate::workload::all() {
            for ratios in contest.run(&workload.trace, &[0, 300], &ProgressBar::hidden()).unwrap() {
                assert!(ratios.best() <= ratios.optimum, "{}: {ratios:?}", workload.trace.name());
            }
        }
    }

    #[test]
    fn only_what_remembers_suffers_from_another_trace_before() {
        let traces = [Trace::from_keys("loop", (0..100).cycle().take(5_000)), Trace::from_keys("few", 0..10)];
        let relay =
            contest(&["lru", "s3_lirs"]).run_in_turn(&traces, &[200], &ProgressBar::hidden()).unwrap();
        assert_eq!(relay[0].fresh, [[98.0, 0.0], [98.0, 0.0]]);
        assert_eq!(relay[0].in_turn, relay[0].fresh);
        let traces = [0, 1].map(|_| Trace::from_keys("loop", (0..100).cycle().take(5_000)));
        let relay =
            contest(&["lru", "s3_lirs"]).run_in_turn(&traces, &[100], &ProgressBar::hidden()).unwrap();
        assert_eq!(relay[0].in_turn[0], [98.0, 98.0]);
        assert!(relay[0].in_turn[1][1] < relay[0].fresh[1][1], "{relay:?}");
    }

    #[test]
    fn each_seed_counts() {
        let ratios = Ratios::new(1, 9.0, &[vec![1.0, 2.0, 6.0], vec![4.0]]);
        assert_eq!(ratios.reached, [3.0, 4.0]);
        assert_eq!(ratios.unlucky, [1.0, 4.0]);
        let zipf = crate::workload::all().next().unwrap().trace;
        let run = |seeds| {
            let contest = Contest { seeds, ..contest(&["lru", "s3_lirs"]) };
            contest.run(&zipf, &[100], &ProgressBar::hidden()).unwrap().remove(0)
        };
        let (one, three) = (run(1), run(3));
        assert_ne!(three.reached[1], three.unlucky[1]);
        assert_eq!(one.reached, one.unlucky);
        // The order of use knows nothing of hashes.
        assert_eq!(three.reached[0], one.reached[0]);
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
