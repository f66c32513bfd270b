//! The hit ratios of all policies over real traces, beside those of the peers: a measurement, not a test.
//!
//! ```text
//! LARDER_TRACES=traces cargo test --release --lib policy::traces -- --ignored --nocapture
//! ```
//!
//! The folder holds `NAME.u64.zst` (little-endian keys, read through the `zstd` program) and `field.tsv` (hit ratios in
//! percent by trace and capacity, one column a peer). `LARDER_TRACES_ONLY` names the policies to run, by commas.

use super::EvictionPolicy;
use super::sim::Sim;
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

fn keys(file: &Path) -> Vec<u64> {
    let out = Command::new("zstd").arg("-dcq").arg(file).output().expect("the program zstd is installed");
    assert!(out.status.success(), "cannot read {}", file.display());
    out.stdout.chunks_exact(8).map(|key| u64::from_le_bytes(key.try_into().unwrap())).collect()
}

/// Read-through: a read, and on a miss an insert.
fn hit_ratio(policy: &EvictionPolicy, capacity: u64, keys: &[u64]) -> f64 {
    let mut sim = Sim::new(Box::new(policy.make(capacity)), capacity);
    let mut hits = 0;
    for &key in keys {
        if sim.get(key) {
            hits += 1;
        } else {
            sim.insert(key, 1);
        }
    }
    100.0 * f64::from(hits) / keys.len() as f64
}

#[test]
#[ignore = "measures hit ratios over the traces in the folder LARDER_TRACES; takes a minute"]
fn hit_ratios() {
    let Some(folder) = std::env::var_os("LARDER_TRACES") else {
        println!("LARDER_TRACES is not set: give it the folder of the traces");
        return;
    };
    let folder = Path::new(&folder);
    let names =
        std::env::var("LARDER_TRACES_ONLY").unwrap_or("fifo,lru,lfu,sieve,s3_fifo,tiny_lfu,s3_lirs".into());
    let names: Vec<&str> = names.split(',').collect();
    let table = std::fs::read_to_string(folder.join("field.tsv")).expect("field.tsv is there");
    let mut traces: HashMap<&str, Vec<u64>> = HashMap::new();
    let mut behind = vec![0.0; names.len() + 1];
    let mut rows = 0;
    println!(
        "{:<16} {:>8} {:>6} {}",
        "trace",
        "capacity",
        "best",
        names.iter().map(|n| format!("{n:>9}")).collect::<String>()
    );
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let (trace, capacity) = (fields[0], fields[1].parse().unwrap());
        // Column 2 is Belady's optimum, no peer.
        let best = fields[3..].iter().map(|field| field.parse().unwrap()).fold(0.0, f64::max);
        let keys = traces.entry(trace).or_insert_with(|| keys(&folder.join(format!("{trace}.u64.zst"))));
        let ratios: Vec<f64> =
            names.iter().map(|name| hit_ratio(&name.parse().unwrap(), capacity, keys)).collect();
        let nearest = ratios.iter().copied().fold(0.0, f64::max);
        for (sum, ratio) in behind.iter_mut().zip(ratios.iter().chain([&nearest])) {
            *sum += best - ratio;
        }
        rows += 1;
        println!(
            "{trace:<16} {capacity:>8} {best:>6.2} {}",
            ratios.iter().map(|r| format!("{r:>9.2}")).collect::<String>()
        );
    }
    let means = behind.iter().map(|sum| format!("{:>9.2}", sum / f64::from(rows))).collect::<String>();
    println!("{:<16} {:>8} {:>6} {means} (the last: nearest of all)", "mean behind", "", "");
}
