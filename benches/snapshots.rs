//! What snapshots cost, and what they are worth: larder beside a plain dump by bincode, and a warm cache beside one that
//! never stopped.
//!
//! All take turns within each round, as in `versus`.
//!
//! ```text
//! cargo bench --features serde --bench snapshots -- [--quick] [--only PART] [--policy NAME] [--rounds N] [--traces FOLDER]
//! ```

#![allow(missing_docs)]

mod common;

// The simulator's way to read traces; it is the root's for it.
#[allow(dead_code)]
#[path = "../examples/simulate/fault.rs"]
mod fault;
#[allow(dead_code)]
#[path = "../examples/simulate/input.rs"]
mod input;
#[allow(dead_code, unreachable_pub)]
#[path = "../examples/simulate/trace/mod.rs"]
mod trace;
#[allow(dead_code)]
#[path = "../examples/simulate/zstd.rs"]
mod zstd;

use ahash::RandomState;
use bincode::config::standard;
use common::bars::{Bar, print_bars, ratios, spread};
use common::keys::{Generator, Popularity, Random, window};
use common::plan::Plan;
use common::rounds::{median, thread_time};
use common::{POLICIES, grouped};
use larder::{Cache, EvictionPolicy};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::hash::Hash;
use std::hint::black_box;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};
use trace::Trace;

const USAGE: &str = "snapshots [--quick] [--only PART] [--policy NAME] [--rounds N] [--traces FOLDER]
PART is a part of: speed, readers, warm; FOLDER has traces as the simulator reads them, or is one";

fn main() {
    let started = Instant::now();
    let plan = Plan::from_arguments(&[1], USAGE);
    println!("larder's policy: {}; {} rounds{}\n", plan.policy, plan.rounds, plan.caveat());
    let mut bars = Vec::new();
    if plan.wants("speed") {
        bars.extend(speed(&plan));
    }
    if plan.wants("readers") {
        bars.extend(readers(&plan));
    }
    if plan.wants("warm") {
        bars.extend(warm(&plan));
    }
    print_bars(&bars);
    eprintln!("took {} s", started.elapsed().as_secs());
}

/// A value as services have them.
#[derive(Clone, Serialize, Deserialize)]
struct Profile {
    id: u64,
    score: f64,
    visits: u32,
    name: String,
    items: Vec<u32>,
}

fn number(key: u64) -> (u64, u64) {
    (scattered(key), key)
}

fn profile(key: u64) -> (String, Profile) {
    let items = (0..16).map(|item| scattered(key + item) as u32 % 1_000_000).collect();
    let name = format!("the name of user {key}");
    let profile = Profile { id: key, score: key as f64 / 7.0, visits: key as u32 % 1_000, name, items };
    (format!("user:{key:06}"), profile)
}

fn scattered(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A folder that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("larder-snapshots-{}", process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        Self(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

trait Data: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Data for T {}

fn filled<K: Data + Hash + Eq, V: Data>(
    policy: &EvictionPolicy,
    capacity: u64,
    pairs: &[(K, V)],
) -> Cache<K, V> {
    let cache = empty(policy, capacity);
    pairs.iter().for_each(|(key, value)| cache.insert(key.clone(), value.clone()));
    cache
}

fn empty<K: Data + Hash + Eq, V: Data>(policy: &EvictionPolicy, capacity: u64) -> Cache<K, V> {
    let builder = Cache::builder().max_capacity(capacity).eviction_policy(policy.clone());
    builder.build().expect("good options")
}

/// Nanoseconds for an entry, round by round, and the bytes of one.
#[derive(Default)]
struct Speeds {
    larder: Vec<f64>,
    plain: Vec<f64>,
    /// The plain dump from a cache, and back into one.
    by_hand: Vec<f64>,
    /// Larder's and the plain dump's.
    bytes: [f64; 2],
}

const WORKS: [&str; 4] = ["save to memory", "load from memory", "save to a file", "load from a file"];

fn speed(plan: &Plan) -> Vec<Bar> {
    let entries = if plan.quick { 20_000 } else { 1_000_000 };
    println!(
        "Nanoseconds for one of {} entries. The plain dump is bincode's, in its standard configuration, of a vector of",
        grouped(entries)
    );
    println!("pairs, which is read back into a vector; a file is on the disk in the end (`sync_all`).");
    println!("By hand, the entries are collected from the cache and dumped; read back, and inserted.\n");
    println!(
        "| entries | work | larder | plain | larder, times plain | by hand | larder, times by hand | bytes | plain |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut bars = speed_of(plan, "u64 to u64", entries, number);
    bars.extend(speed_of(plan, "string to struct", entries, profile));
    println!();
    bars
}

fn speed_of<K: Data + Hash + Eq, V: Data>(
    plan: &Plan,
    what: &str,
    entries: u64,
    pair: fn(u64) -> (K, V),
) -> Vec<Bar> {
    eprintln!("{what} ...");
    let scratch = Scratch::new();
    let pairs: Vec<_> = (0..entries).map(pair).collect();
    let cache = filled(&plan.policy, entries + entries / 8, &pairs);
    assert_eq!(cache.len() as u64, entries, "there is room for all");
    let mut speeds: [Speeds; 4] = Default::default();
    for round in 0..plan.rounds {
        // Nobody always runs behind the same other.
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => larder_round(&cache, &plan.policy, &scratch.0, entries, &mut speeds),
                1 => plain_round(&pairs, &scratch.0, entries, &mut speeds),
                _ => by_hand_round(&cache, &plan.policy, entries, &mut speeds),
            }
        }
    }
    let mut bars = Vec::new();
    for (work, Speeds { larder, plain, by_hand, bytes }) in WORKS.iter().zip(speeds) {
        let measured = ratios(&larder, &plain);
        println!(
            "| {what} | {work} | {:.1} | {:.1} | {} | {} | {} | {:.1} | {:.1} |",
            median(&larder),
            median(&plain),
            spread(&measured),
            if by_hand.is_empty() { String::new() } else { format!("{:.1}", median(&by_hand)) },
            if by_hand.is_empty() { String::new() } else { spread(&ratios(&larder, &by_hand)) },
            bytes[0],
            bytes[1]
        );
        bars.push(Bar { what: format!("{work}, {what}, times a plain dump"), allowed: 2.0, measured });
    }
    bars
}

/// The time that it takes, for each entry.
fn time<R>(entries: u64, run: impl FnOnce() -> R) -> (R, f64) {
    let before = Instant::now();
    let result = run();
    (result, before.elapsed().as_nanos() as f64 / entries as f64)
}

fn larder_round<K: Data + Hash + Eq, V: Data>(
    cache: &Cache<K, V>,
    policy: &EvictionPolicy,
    folder: &Path,
    entries: u64,
    speeds: &mut [Speeds; 4],
) {
    let check = |again: Cache<K, V>| assert_eq!(again.len() as u64, entries, "all are back");
    let capacity = cache.capacity();
    let mut bytes = Vec::new();
    let (report, nanos) = time(entries, || cache.snapshot().save_to(&mut bytes).expect("memory takes all"));
    assert_eq!(report.entries, entries);
    speeds[0].larder.push(nanos);
    speeds[0].bytes[0] = bytes.len() as f64 / entries as f64;
    let (again, nanos) = time(entries, || {
        let again = empty(policy, capacity);
        again.snapshot().load_from(&bytes[..]).expect("it was just saved");
        again
    });
    speeds[1].larder.push(nanos);
    speeds[1].bytes[0] = speeds[0].bytes[0];
    drop(bytes);
    check(again);
    let path = folder.join("larder");
    let (report, nanos) = time(entries, || cache.snapshot().save(&path).expect("the disk has room"));
    speeds[2].larder.push(nanos);
    speeds[2].bytes[0] = report.bytes as f64 / entries as f64;
    let (again, nanos) = time(entries, || {
        let again = empty(policy, capacity);
        again.snapshot().load(&path).expect("it was just saved");
        again
    });
    speeds[3].larder.push(nanos);
    speeds[3].bytes[0] = speeds[2].bytes[0];
    check(again);
}

fn plain_round<K: Data, V: Data>(pairs: &Vec<(K, V)>, folder: &Path, entries: u64, speeds: &mut [Speeds; 4]) {
    let check = |again: Vec<(K, V)>| assert_eq!(again.len() as u64, entries, "all are back");
    let (bytes, nanos) =
        time(entries, || bincode::serde::encode_to_vec(pairs, standard()).expect("memory takes all"));
    let per_entry = bytes.len() as f64 / entries as f64;
    speeds[0].plain.push(nanos);
    let (again, nanos) =
        time(entries, || bincode::serde::decode_from_slice(&bytes, standard()).expect("it was just saved").0);
    speeds[1].plain.push(nanos);
    drop(bytes);
    check(again);
    let path = folder.join("plain");
    let ((), nanos) = time(entries, || {
        let mut file = BufWriter::with_capacity(1 << 16, File::create(&path).expect("a file"));
        bincode::serde::encode_into_std_write(pairs, &mut file, standard()).expect("the disk has room");
        file.flush().expect("the disk has room");
        file.get_ref().sync_all().expect("the disk has room");
    });
    speeds[2].plain.push(nanos);
    let (again, nanos) = time(entries, || {
        let mut file = BufReader::with_capacity(1 << 16, File::open(&path).expect("a file"));
        bincode::serde::decode_from_std_read(&mut file, standard()).expect("it was just saved")
    });
    speeds[3].plain.push(nanos);
    check(again);
    speeds.iter_mut().for_each(|speeds| speeds.bytes[1] = per_entry);
}

fn by_hand_round<K: Data + Hash + Eq, V: Data>(
    cache: &Cache<K, V>,
    policy: &EvictionPolicy,
    entries: u64,
    speeds: &mut [Speeds; 4],
) {
    let (bytes, nanos) = time(entries, || {
        let pairs: Vec<_> = cache.iter().collect();
        bincode::serde::encode_to_vec(&pairs, standard()).expect("memory takes all")
    });
    speeds[0].by_hand.push(nanos);
    let (again, nanos) = time(entries, || {
        let pairs: Vec<(K, V)> =
            bincode::serde::decode_from_slice(&bytes, standard()).expect("it was just saved").0;
        let again = empty(policy, cache.capacity());
        pairs.into_iter().for_each(|(key, value)| again.insert(key, value));
        again
    });
    speeds[1].by_hand.push(nanos);
    assert_eq!(again.len() as u64, entries, "all are back");
}

/// What another thread does while one reads.
const OTHERS: [&str; 3] = ["nothing", "plain dumps", "snapshots"];

fn readers(plan: &Plan) -> Vec<Bar> {
    eprintln!("readers ...");
    let (entries, span) = if plan.quick { (20_000, 20) } else { (1_000_000, 1_000) };
    let hot = 10_000.min(entries as u32);
    let pairs: Vec<_> = (0..entries).map(|key| (key, key)).collect();
    let cache = filled(&plan.policy, entries + entries / 8, &pairs);
    let draws = Generator::new(Popularity::Zipf, hot).draw(1 << 21, 1);
    // In no order of popularity, and from all over the cache.
    let keys: Vec<u32> = draws.into_iter().map(|key| key * (entries as u32 / hot)).collect();
    // By the clock, and by the time of the thread, which leaves out other programs, and waiting, too.
    let mut wall: [Vec<f64>; 3] = Default::default();
    let mut busy: [Vec<f64>; 3] = Default::default();
    let mut done = [0; 3];
    for round in 0..plan.rounds {
        for place in 0..OTHERS.len() {
            let other = (round + place) % OTHERS.len();
            let is_over = AtomicBool::new(false);
            let runs = AtomicBool::new(other == 0);
            thread::scope(|scope| {
                let worker = scope.spawn(|| {
                    let mut bytes = vec![0; 32 * entries as usize];
                    let mut times = 0;
                    while other != 0 && !is_over.load(Relaxed) {
                        // The memory is there: it is not the system's pages that are measured.
                        if other == 1 {
                            let written = bincode::serde::encode_into_slice(&pairs, &mut bytes, standard());
                            black_box(written.expect("there is room"));
                        } else {
                            let report = cache.snapshot().save_to(&mut bytes[..]);
                            assert_eq!(report.expect("there is room").entries, entries);
                        }
                        black_box(&mut bytes);
                        runs.store(true, Relaxed);
                        times += 1;
                    }
                    times
                });
                while !runs.load(Relaxed) {
                    thread::yield_now();
                }
                let (elapsed, used, hits) = read(&cache, &keys, Duration::from_millis(span));
                is_over.store(true, Relaxed);
                wall[other].push(elapsed.as_nanos() as f64 / hits as f64);
                busy[other].push(used.as_nanos() as f64 / hits as f64);
                done[other] += worker.join().expect("the other thread");
            });
        }
    }
    println!(
        "A thread reads, Zipf 0.99 over {} of {} resident keys, while another does something, again and again.",
        grouped(hot.into()),
        grouped(entries)
    );
    println!("Nanoseconds for a hit:\n");
    println!(
        "| the other | times | by the clock | beside plain dumps | by the thread's time | beside plain dumps |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for (other, name) in OTHERS.iter().enumerate() {
        println!(
            "| {name} | {} | {:.1} | {} | {:.1} | {} |",
            done[other],
            median(&wall[other]),
            spread(&ratios(&wall[other], &wall[1])),
            median(&busy[other]),
            spread(&ratios(&busy[other], &busy[1]))
        );
    }
    println!();
    let bar = |what: &str, measured| Bar { what: what.to_owned(), allowed: 1.2, measured };
    vec![
        bar("a hit while the cache is saved, times one beside plain dumps", ratios(&wall[2], &wall[1])),
        bar("the same by the thread's time", ratios(&busy[2], &busy[1])),
    ]
}

/// Reads for some time: how long it was by the clock and by the thread's, and how many hits there were.
fn read(cache: &Cache<u64, u64>, keys: &[u32], span: Duration) -> (Duration, Duration, usize) {
    const AT_ONCE: usize = 10_000;
    let once = |position| {
        let mut sum = 0_u64;
        for &key in window(keys, position, AT_ONCE) {
            sum = sum.wrapping_add(cache.get(&u64::from(key)).expect("it is resident"));
        }
        black_box(sum);
    };
    once(0);
    let (started, used) = (Instant::now(), thread_time());
    let mut hits = 0;
    while started.elapsed() < span {
        once(hits);
        hits += AT_ONCE;
    }
    (started.elapsed(), thread_time() - used, hits)
}

/// Requests after a restart that count.
const AFTER: usize = 100_000;

fn warm(plan: &Plan) -> Vec<Bar> {
    let seeds = if plan.quick { 1 } else { 5 };
    println!(
        "Percent of the {} requests after the first half of a trace that are hits: of a process that never stopped, of",
        grouped(AFTER as u64)
    );
    println!(
        "one that has loaded a snapshot, with another seed of its hasher and with the same, and of one that began"
    );
    println!("with nothing. Means over {seeds} seed(s); in brackets the points that are lost:\n");
    let (traces, capacity) = match &plan.traces {
        Some(path) => (traces_in(path), 10_000),
        None => {
            println!(
                "There is no folder with traces (`--traces FOLDER`), so that they are made up: about Zipf over 100,000 keys,"
            );
            println!("every 20 requests something new becomes the most popular.\n");
            (vec![drifting(if plan.quick { 50_000 } else { 1_000_000 })], 10_000)
        }
    };
    println!("| trace | capacity | policy | never stopped | warm | warm, same seed | cold |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mut bars = Vec::new();
    for trace in traces {
        // Small traces fit.
        let capacity = capacity.min(trace.distinct() as u64 / 10).max(16);
        let mut lost = f64::MIN;
        for policy in POLICIES {
            let policy: EvictionPolicy = policy.parse().expect("one of larder's");
            let runs: Vec<_> = (0..seeds).map(|seed| restart(&trace, capacity, &policy, seed)).collect();
            let [kept, warm, same, cold] = std::array::from_fn(|at| {
                runs.iter().map(|run: &[f64; 4]| run[at]).sum::<f64>() / runs.len() as f64
            });
            println!(
                "| {} | {} | {policy} | {kept:.2} | {warm:.2} ({:.2}) | {same:.2} ({:.2}) | {cold:.2} ({:.2}) |",
                trace.name(),
                grouped(capacity),
                kept - warm,
                kept - same,
                kept - cold
            );
            lost = f64::max(lost, kept - warm);
        }
        bars.push(Bar {
            what: format!("points that a policy loses by a restart, at most, {}", trace.name()),
            allowed: 1.0,
            measured: vec![lost],
        });
    }
    println!();
    bars
}

fn traces_in(path: &Path) -> Vec<Trace> {
    let traces = trace::files(path).and_then(|files| {
        files.traces.iter().map(|file| Trace::read(file, None, None)).collect::<Result<Vec<_>, _>>()
    });
    traces.unwrap_or_else(|fault| {
        eprintln!("{fault}");
        process::exit(2);
    })
}

/// What is popular changes all the time.
fn drifting(requests: usize) -> Trace {
    let mut random = Random::new(1);
    // About Zipf with an exponent of 1.
    let mut rank = || 100_000_f64.powf(random.unit()) as u64;
    Trace::from_keys("made up", (0..requests as u64).map(|at| (at / 20).wrapping_sub(rank())))
}

/// Hits in percent: never stopped, warm, warm with the same hasher, cold.
fn restart(trace: &Trace, capacity: u64, policy: &EvictionPolicy, seed: u64) -> [f64; 4] {
    let make = |seed| -> Cache<u32, u32, RandomState> {
        let builder = Cache::builder().max_capacity(capacity).eviction_policy(policy.clone());
        builder.build_with_hasher(RandomState::with_seeds(seed, 1, 2, 3)).expect("good options")
    };
    let (before, after) = trace.keys().split_at(trace.keys().len() / 2);
    let after = &after[..after.len().min(AFTER)];
    let never_stopped = make(seed);
    replay(&never_stopped, before);
    let mut bytes = Vec::new();
    never_stopped.snapshot().save_to(&mut bytes).expect("memory takes all");
    let [warm, same, cold] = [make(seed + 1_000), make(seed), make(seed)];
    for cache in [&warm, &same] {
        cache.snapshot().load_from(&bytes[..]).expect("it was just saved");
    }
    [never_stopped, warm, same, cold].map(|cache| 100.0 * replay(&cache, after) as f64 / after.len() as f64)
}

/// Says how many requests were hits.
fn replay(cache: &Cache<u32, u32, RandomState>, requests: &[u32]) -> usize {
    let is_hit = |key: &&u32| {
        let is_there = cache.get(*key).is_some();
        if !is_there {
            cache.insert(**key, **key);
        }
        is_there
    };
    requests.iter().filter(is_hit).count()
}
