//! Larder beside quick_cache, moka and a read-only hash map: the bars that it has to meet.
//!
//! All of them take turns within each round, so that whatever else the machine does hits all alike. A figure is the
//! median over the rounds; a ratio is the median of the rounds' ratios, so the two need not divide exactly.
//!
//! ```text
//! cargo bench --bench versus -- [--quick] [--only PART] [--policy NAME] [--threads 1,2,4] [--rounds N] [--plot FILE]
//! ```

#![allow(missing_docs)]

mod common;

use common::bars::{Bar, print_bars, ratios};
use common::keys::{Popularity, range_of, window};
use common::plan::Plan;
use common::plot::{self, Group, Panel};
use common::rounds::{median, quantile, round};
use common::subjects::{Frozen, Larder, Moka, QuickCache, Reads, Writes};
use common::{grouped, threads_of};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

const USAGE: &str =
    "versus [--quick] [--only PART] [--policy NAME] [--threads 1,2,4] [--rounds N] [--plot FILE]
PART is a part of: hits, read-through, inserts, latency";

fn main() {
    let started = Instant::now();
    let plan = Plan::from_arguments(&[1, 2], USAGE);
    println!(
        "larder's policy: {}; {} rounds of {} operations a thread{}\n",
        plan.policy,
        plan.rounds,
        grouped(plan.timed as u64),
        plan.caveat(),
    );
    let mut rows = Vec::new();
    if plan.wants("hits") {
        rows.extend(hits(&plan, Popularity::Zipf, 100_000));
        rows.extend(hits(&plan, Popularity::Uniform, 100_000));
        rows.extend(hits(&plan, Popularity::Zipf, 1_000));
        rows.extend(hits(&plan, Popularity::Uniform, if plan.quick { 200_000 } else { 4_000_000 }));
    }
    if plan.wants("read-through") {
        rows.extend(read_through(&plan));
    }
    if plan.wants("inserts") {
        rows.extend(inserts(&plan));
    }
    print_rows(&rows);
    if let Some(path) = &plan.plot {
        draw(path, &rows).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let mut bars = throughput_bars(&rows);
    if plan.wants("latency") {
        let tails = latency(&plan);
        print_tails(&tails);
        bars.extend(tail_bars(&tails));
    }
    print_bars(&bars);
    eprintln!("took {} s", started.elapsed().as_secs());
}

const CACHES: [&str; 3] = ["larder", "quick_cache", "moka"];

fn caches(plan: &Plan, capacity: usize) -> Vec<Box<dyn Writes>> {
    vec![
        Box::new(Larder::new(capacity, plan.policy.clone())),
        Box::new(QuickCache::new(capacity)),
        Box::new(Moka::new(capacity)),
    ]
}

/// One kind of work with one number of threads.
struct Row {
    work: String,
    threads: usize,
    results: Vec<Measured>,
}

/// What one subject did, round by round.
struct Measured {
    subject: String,
    /// Nanoseconds that an operation took as its thread sees it.
    nanos: Vec<f64>,
    hit_ratio: f64,
}

impl Row {
    fn find(&self, subject: &str) -> Option<&Measured> {
        self.results.iter().find(|result| result.subject == subject)
    }

    /// Of all threads together; 0 where the subject was not there.
    fn millions_per_second(&self, subject: &str) -> f64 {
        self.find(subject).map_or(0.0, |result| self.threads as f64 * 1e3 / median(&result.nanos))
    }

    /// Round by round, how much longer larder took than another.
    fn larder_to(&self, subject: &str) -> Vec<f64> {
        match (self.find("larder"), self.find(subject)) {
            (Some(larder), Some(other)) => ratios(&larder.nanos, &other.nanos),
            _ => Vec::new(),
        }
    }
}

/// Measures all subjects with each number of threads, in turns.
///
/// `work(subject, thread, position, operations)` does that many operations and says how many hits there were. Positions
/// never come again.
fn interleave<S: Reads + ?Sized>(
    plan: &Plan,
    title: &str,
    subjects: &[Box<S>],
    work: impl Fn(&S, usize, usize, usize) -> usize + Sync,
) -> Vec<Row> {
    let row = |&threads: &usize| {
        let results = subjects.iter().map(|subject| Measured {
            subject: subject.title().to_owned(),
            nanos: Vec::new(),
            hit_ratio: 0.0,
        });
        Row { work: title.to_owned(), threads, results: results.collect() }
    };
    let mut rows: Vec<_> = plan.threads.iter().map(row).collect();
    let mut position = 0;
    for turn in 0..plan.rounds {
        for row in &mut rows {
            for place in 0..subjects.len() {
                // Nobody always runs behind the same other.
                let place = (place + turn) % subjects.len();
                let subject = &*subjects[place];
                let (wall, hits) = round(
                    row.threads,
                    |thread| _ = work(subject, thread, position, plan.warm),
                    |thread| work(subject, thread, position + plan.warm, plan.timed),
                );
                let result = &mut row.results[place];
                result.nanos.push(wall.as_nanos() as f64 / plan.timed as f64);
                let all = (row.threads * plan.timed * plan.rounds) as f64;
                result.hit_ratio += hits.iter().sum::<usize>() as f64 / all;
            }
            position += plan.warm + plan.timed;
        }
    }
    rows
}

fn hits(plan: &Plan, popularity: Popularity, keys: u32) -> Vec<Row> {
    let title = format!("hits, {} over {} resident keys", popularity.name(), grouped(keys.into()));
    eprintln!("{title} ...");
    let mut subjects: Vec<Box<dyn Reads>> = Vec::new();
    for cache in caches(plan, 2 * keys as usize) {
        cache.fill(0..keys.into());
        subjects.push(cache);
    }
    subjects.push(Box::new(Frozen::new(0..keys.into())));
    let all: Vec<u32> = (0..keys).collect();
    let draws = plan.draws(popularity, keys);
    let check = || {
        for subject in &subjects {
            assert_eq!(subject.read(&all), all.len(), "{} has not kept all keys", subject.title());
        }
    };
    check();
    let rows = interleave(plan, &title, &subjects, |subject, thread, position, operations| {
        subject.read(window(&draws[thread], position, operations))
    });
    check();
    rows
}

fn read_through(plan: &Plan) -> Vec<Row> {
    let (keys, capacity) = (1_000_000, 100_000);
    let title = "read-through, Zipf 0.99, 1,000,000 keys, capacity 100,000";
    eprintln!("{title} ...");
    let (subjects, draws) = (caches(plan, capacity), plan.draws(Popularity::Zipf, keys));
    for subject in &subjects {
        subject.read_through(&draws[0]);
    }
    interleave(plan, title, &subjects, |subject, thread, position, operations| {
        subject.read_through(window(&draws[thread], position, operations))
    })
}

fn inserts(plan: &Plan) -> Vec<Row> {
    let capacity = 100_000;
    let title = "inserts of fresh keys, capacity 100,000";
    eprintln!("{title} ...");
    let subjects = caches(plan, capacity);
    for subject in &subjects {
        subject.fill(range_of(plan.most_threads(), 0, 2 * capacity));
    }
    interleave(plan, title, &subjects, |subject, thread, position, operations| {
        subject.fill(range_of(thread, position, operations));
        0
    })
}

fn print_rows(rows: &[Row]) {
    let subjects = [&CACHES[..], &["hash map"]].concat();
    if rows.is_empty() {
        return;
    }
    println!("Nanoseconds for one operation as a thread sees it (times quick_cache's):\n");
    println!("| work | threads | {} | hit ratios |", subjects.join(" | "));
    println!("| --- | --- |{} --- |", " --- |".repeat(subjects.len()));
    for row in rows {
        let cell = |&subject: &&str| {
            let (Some(result), Some(rival)) = (row.find(subject), row.find("quick_cache")) else {
                return String::new();
            };
            let nanos = median(&result.nanos);
            let ratio = median(&ratios(&result.nanos, &rival.nanos));
            format!("{nanos:.*} ({ratio:.2})", if nanos < 100.0 { 1 } else { 0 })
        };
        let cells: Vec<_> = subjects.iter().map(cell).collect();
        let hit_ratios: Vec<_> =
            row.results.iter().map(|result| format!("{:.3}", result.hit_ratio)).collect();
        let hit_ratios =
            if row.work.starts_with("read-through") { hit_ratios.join(", ") } else { String::new() };
        println!("| {} | {} | {} | {hit_ratios} |", row.work, row.threads, cells.join(" | "));
    }
    println!();
}

/// The throughput of all threads together, of the caches.
fn draw(path: &Path, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    let works = [
        ("hits, Zipf 0.99 over 1,000 resident", "hits among 1,000 keys"),
        ("hits, Zipf 0.99 over 100,000 resident", "hits among 100,000 keys"),
        ("read-through", "read-through, four hits in five"),
        ("inserts", "inserts that evict"),
    ];
    let panel = |(work, title): (&str, &str)| {
        let group = |row: &Row| Group {
            name: threads_of(row.threads),
            values: CACHES.iter().map(|cache| row.millions_per_second(cache)).collect(),
        };
        let rows = rows.iter().filter(|row| row.work.starts_with(work));
        Panel { title: title.to_owned(), groups: rows.map(group).collect() }
    };
    let panels: Vec<_> = works.into_iter().map(panel).filter(|panel| !panel.groups.is_empty()).collect();
    plot::draw(path, "millions of operations per second, all threads together", &CACHES, &panels)
}

fn throughput_bars(rows: &[Row]) -> Vec<Bar> {
    let row =
        |work: &str, threads| rows.iter().find(|row| row.work.starts_with(work) && row.threads == threads);
    let hits = "hits, Zipf 0.99 over 100,000";
    let allowed = [
        (hits, 1, 0.7),
        (hits, 2, 0.35),
        ("read-through", 1, 1.0),
        ("read-through", 2, 0.6),
        ("inserts", 1, 1.0),
        ("inserts", 2, 0.8),
    ];
    let mut bars: Vec<_> = allowed
        .into_iter()
        .filter_map(|(work, threads, allowed)| {
            let what = format!("{work}, {threads} thread(s), times quick_cache");
            row(work, threads).map(|row| Bar { what, allowed, measured: row.larder_to("quick_cache") })
        })
        .collect();
    if let (Some(one), Some(two)) = (row(hits, 1), row(hits, 2)) {
        let what = "hits, slowdown from 1 to 2 threads, times the hash map's".to_owned();
        let measured = ratios(&two.larder_to("hash map"), &one.larder_to("hash map"));
        bars.push(Bar { what, allowed: 1.15, measured });
    }
    bars
}

#[derive(Clone, Copy, PartialEq)]
enum Work {
    Growing,
    Evicting,
}

/// How long single inserts took.
struct Tail {
    work: Work,
    threads: usize,
    /// For each subject and repetition: the median, p99, p99.9 and the longest, in nanoseconds.
    quantiles: BTreeMap<String, [Vec<f64>; 4]>,
}

impl Tail {
    fn all(threads: usize) -> [Self; 2] {
        [Work::Growing, Work::Evicting].map(|work| Self { work, threads, quantiles: BTreeMap::new() })
    }

    fn title(&self) -> &'static str {
        match self.work {
            Work::Growing => "from empty to 1,000,000",
            Work::Evicting => "evicting at a capacity of 100,000",
        }
    }

    fn add(&mut self, subject: &str, nanos: &[u32]) {
        let repeats = self.quantiles.entry(subject.to_owned()).or_default();
        for (repeats, part) in repeats.iter_mut().zip([0.5, 0.99, 0.999, 1.0]) {
            repeats.push(f64::from(quantile(nanos, part)));
        }
    }
}

fn latency(plan: &Plan) -> Vec<Tail> {
    let (repeats, most, each) = if plan.quick { (2, 100_000, 50_000) } else { (5, 1_000_000, 500_000) };
    eprintln!("latency of inserts ...");
    let mut tails: Vec<_> = plan.threads.iter().flat_map(|&threads| Tail::all(threads)).collect();
    for turn in 0..repeats {
        for tail in &mut tails {
            let (capacity, filled, each) = match tail.work {
                Work::Growing => (most, 0, most / tail.threads),
                Work::Evicting => (100_000, 200_000, each),
            };
            let mut subjects = caches(plan, capacity);
            subjects.rotate_left(turn % 3);
            for subject in subjects {
                let nanos = time_inserts(&*subject, tail.threads, filled, each);
                tail.add(subject.title(), &nanos);
            }
        }
    }
    tails
}

/// The time of every insert, of all threads together.
fn time_inserts(subject: &dyn Writes, threads: usize, filled: usize, each: usize) -> Vec<u32> {
    subject.fill(range_of(threads, 0, filled));
    let (_, times) = round(
        threads,
        |_| (),
        |thread| {
            // Written to beforehand: a page fault for every thousand figures is just what p99.9 would show.
            let mut times = vec![1; each];
            subject.fill_timed(range_of(thread, 0, each).start, &mut times);
            times
        },
    );
    times.concat()
}

fn print_tails(tails: &[Tail]) {
    println!("Nanoseconds for one insert of a fresh key, the reading of the clock included:\n");
    println!(
        "| inserts | threads | cache | p50 | p99 | p99.9 | longest |\n| --- | --- | --- | --- | --- | --- | --- |"
    );
    for tail in tails {
        for (subject, quantiles) in &tail.quantiles {
            let cells = quantiles.each_ref().map(|repeats| grouped(median(repeats) as u64));
            println!("| {} | {} | {subject} | {} |", tail.title(), tail.threads, cells.join(" | "));
        }
    }
    println!();
}

fn tail_bars(tails: &[Tail]) -> Vec<Bar> {
    let growing = tails.iter().filter(|tail| tail.work == Work::Growing);
    let bar = |tail: &Tail| Bar {
        what: format!("p99.9 of inserts {}, {} thread(s), times quick_cache", tail.title(), tail.threads),
        allowed: 1.0,
        measured: ratios(&tail.quantiles["larder"][2], &tail.quantiles["quick_cache"][2]),
    };
    growing.map(bar).collect()
}
