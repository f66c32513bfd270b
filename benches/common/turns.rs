//! Contestants that take turns within each round, each with some work to do and a way to do it.

use super::plan::Plan;
use super::rounds::round;

/// A way to do some work, and who does it.
pub(crate) struct Contestant<'a> {
    pub(crate) work: String,
    pub(crate) way: &'static str,
    pub(crate) subject: String,
    pub(crate) run: Box<Run<'a>>,
}

/// `run(thread, position, operations)` does that many operations and counts something: loads, hits. Positions never come
/// again.
pub(crate) type Run<'a> = dyn Fn(usize, usize, usize) -> usize + Sync + 'a;

/// What one contestant did with a number of threads, round by round.
pub(crate) struct Measured {
    pub(crate) work: String,
    pub(crate) way: &'static str,
    pub(crate) subject: String,
    pub(crate) threads: usize,
    /// Nanoseconds that an operation took as its thread sees it.
    pub(crate) nanos: Vec<f64>,
    /// What `run` counted, for each operation.
    pub(crate) counted: f64,
}

/// Measures all contestants with each number of threads up to a `most`, in turns.
pub(crate) fn interleave(plan: &Plan, most: usize, contestants: &[Contestant<'_>]) -> Vec<Measured> {
    let threads: Vec<_> = plan.threads.iter().copied().filter(|&threads| threads <= most).collect();
    let measured = |threads| {
        contestants.iter().map(move |Contestant { work, way, subject, .. }| Measured {
            work: work.clone(),
            way,
            subject: subject.clone(),
            threads,
            nanos: Vec::new(),
            counted: 0.0,
        })
    };
    let mut results: Vec<_> = threads.iter().map(|&threads| measured(threads).collect::<Vec<_>>()).collect();
    let mut position = 0;
    for turn in 0..plan.rounds {
        for (&threads, results) in threads.iter().zip(&mut results) {
            // The more threads there are for a core, the longer each takes.
            let timed = plan.timed * 2 / threads.max(2);
            let warm = plan.warm * 2 / threads.max(2);
            for place in 0..contestants.len() {
                // Nobody always runs behind the same other.
                let place = (place + turn) % contestants.len();
                let place = if turn % 2 == 0 { place } else { contestants.len() - 1 - place };
                let run = &contestants[place].run;
                let (wall, counted) = round(
                    threads,
                    |thread| _ = run(thread, position, warm),
                    |thread| run(thread, position + warm, timed),
                );
                let result = &mut results[place];
                result.nanos.push(wall.as_nanos() as f64 / timed as f64);
                result.counted +=
                    counted.iter().sum::<usize>() as f64 / (threads * timed * plan.rounds) as f64;
                position += warm + timed;
            }
        }
    }
    results.into_iter().flatten().collect()
}

pub(crate) fn find<'a>(
    results: &'a [Measured],
    work: &str,
    way: &str,
    threads: usize,
    subject: &str,
) -> Option<&'a Measured> {
    results.iter().find(|result| {
        result.work == work && result.way == way && result.threads == threads && result.subject == subject
    })
}

/// Each kind of work, way and number of threads once, in order.
pub(crate) fn rows(results: &[Measured]) -> Vec<&Measured> {
    let mut rows: Vec<&Measured> = Vec::new();
    for result in results {
        let is_it = |row: &&Measured| {
            row.work == result.work && row.way == result.way && row.threads == result.threads
        };
        if !rows.iter().any(is_it) {
            rows.push(result);
        }
    }
    rows
}
