//! The cost of keeping what is read from being freed, to a read and to memory: larder beside a map under crossbeam-epoch.
//!
//! ```text
//! cargo bench --bench reclamation -- [--quick] [--only PART] [--threads 1,2,4] [--rounds N]
//! ```

#![allow(missing_docs)]

mod common;

use common::bars::{ratios, spread};
use common::epoch_map::{EpochMap, Unpinned};
use common::holders::{Kind, Live};
use common::keys::{Popularity, window};
use common::peaks::{Beside, Setting};
use common::plan::Plan;
use common::rounds::median;
use common::subjects::{Frozen, Larder, Reads, Writes};
use common::turns::{Contestant, Measured, find, interleave};
use common::{grouped, listed};
use std::hint::black_box;

const USAGE: &str = "reclamation [--quick] [--only PART] [--threads 1,2,4] [--rounds N]
PART is a part of: reads, peaks";
const KEYS: u32 = 100_000;
const WORK: &str = "hits, Zipf 0.99 over 100,000 resident keys";

fn main() {
    let plan = Plan::from_arguments(&[1, 2], USAGE);
    if plan.wants("reads") {
        reads(&plan);
    }
    if plan.wants("peaks") {
        peaks(&plan);
    }
}

/// Pins, and looks nothing up.
struct PinAlone;

impl Reads for PinAlone {
    fn title(&self) -> &str {
        "a pin alone"
    }

    fn read(&self, keys: &[u32]) -> usize {
        keys.iter().for_each(|_| _ = black_box(&crossbeam_epoch::pin()));
        keys.len()
    }
}

/// Everything that is read from, with all keys in it.
fn subjects(plan: &Plan) -> Vec<(&'static str, Box<dyn Reads>)> {
    let larder = Larder::new(2 * KEYS as usize, plan.policy.clone());
    let [pinned, unpinned] = [(); 2].map(|()| EpochMap::new(2 * KEYS as usize));
    for map in [&pinned, &unpinned] {
        map.fill(0..KEYS.into());
    }
    larder.fill(0..KEYS.into());
    vec![
        ("larder", Box::new(larder)),
        ("crossbeam-epoch", Box::new(pinned)),
        ("the same map without a pin", Box::new(Unpinned::new(unpinned))),
        ("a pin alone", Box::new(PinAlone)),
        ("hash map", Box::new(Frozen::new(0..KEYS.into()))),
    ]
}

fn contestant<'a>(name: &str, subject: &'a dyn Reads, draws: &'a [Vec<u32>]) -> Contestant<'a> {
    Contestant {
        work: WORK.to_owned(),
        way: "get",
        subject: name.to_owned(),
        run: Box::new(|thread, position, operations| {
            subject.read(window(&draws[thread], position, operations))
        }),
    }
}

fn reads(plan: &Plan) {
    let subjects = subjects(plan);
    let all: Vec<u32> = (0..KEYS).collect();
    let check = || {
        for (name, subject) in &subjects {
            assert_eq!(subject.read(&all), all.len(), "{name} has not kept all keys");
        }
    };
    let draws = plan.draws(Popularity::Zipf, KEYS);
    check();
    let contestants: Vec<_> =
        subjects.iter().map(|(name, subject)| contestant(name, &**subject, &draws)).collect();
    let results = interleave(plan, plan.most_threads(), &contestants);
    check();
    print_reads(plan, &results, &subjects.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}

fn print_reads(plan: &Plan, results: &[Measured], names: &[&str]) {
    println!("{WORK}: nanoseconds for a read as a thread sees it, and as the median and the");
    println!("quartiles of {} rounds{}, times larder's:\n", plan.rounds, plan.caveat());
    println!("| threads | {} |\n| --- |{}", names.join(" | "), " --- |".repeat(names.len()));
    for &threads in &plan.threads {
        let result = |name: &str| find(results, WORK, "get", threads, name).expect("all were measured");
        let larder = &result("larder").nanos;
        let cell = |&name: &&str| {
            let nanos = &result(name).nanos;
            let ratio = spread(&ratios(nanos, larder));
            if name == "larder" {
                format!("{:.1}", median(nanos))
            } else {
                format!("{:.1}, {ratio}", median(nanos))
            }
        };
        println!("| {threads} | {} |", names.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }
    println!();
}

/// Inserts with more threads than there are processors, and counts the nodes that live at most.
fn peaks(plan: &Plan) {
    let threads = [1, 2, 8, 32];
    let (runs, inserts) = if plan.quick { (1, 10_000) } else { (5, 50_000) };
    let setting = |threads: &[usize], inserts, besides: &[Beside]| Setting {
        capacity: 1_000,
        value: || Live::new(0_u64),
        threads: threads.to_vec(),
        inserts,
        runs,
        besides: besides.to_vec(),
    };
    println!(
        "Entries that live at most, times the capacity of 1,000, while threads insert fresh keys, which they share:"
    );
    println!("with {} threads; the largest of {runs} runs{}:\n", listed(&threads), plan.caveat());
    println!("| inserts | beside | larder | crossbeam-epoch |\n| --- | --- | --- | --- |");
    print_peaks(&setting(&threads, inserts, &[Beside::Nothing, Beside::Readers(8), Beside::Stranger]));
    print_peaks(&setting(&[1], 6 * inserts, &[Beside::Readers(17)]));
}

/// Prints a setting's rows.
fn print_peaks(setting: &Setting<Live<u64>>) {
    for cells in setting.rows(&[Kind::larder(), Kind::epoch_map()]) {
        println!("| {} | {} |", grouped(setting.inserts), cells.join(" | "));
    }
}
