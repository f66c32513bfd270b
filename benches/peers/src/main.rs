//! Object and byte hit ratios of caches that are bounded by the weight of their entries.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- traces/
//! ```
//!
//! Each request is a get and, on a miss, an insert. The traces tell no sizes, so each key is given one: lognormal, drawn from
//! its number, the same for all caches. A cache may hold a part of what all keys of the trace weigh together.

// The simulator's: they know more than is needed here.
#[allow(dead_code)]
#[path = "../../../examples/simulate/fault.rs"]
mod fault;
#[path = "../../../examples/simulate/input.rs"]
mod input;
#[allow(dead_code)]
#[path = "../../../examples/simulate/random.rs"]
mod random;
mod subjects;
#[allow(dead_code)]
#[path = "../../../examples/simulate/trace.rs"]
mod trace;
#[path = "../../../examples/simulate/zstd.rs"]
mod zstd;

use clap::Parser;
use random::Random;
use std::error::Error;
use std::f64::consts::TAU;
use std::path::PathBuf;
use subjects::Subject;
use trace::Trace;

/// Object and byte hit ratios of larder and others with a weigher, as a Markdown table.
#[derive(Parser)]
struct Args {
    /// Traces, or folders of them, in the formats of larder's simulator.
    #[arg(required = true)]
    traces: Vec<PathBuf>,

    /// Capacities, in percent of what all keys of a trace weigh.
    #[arg(long, value_name = "PERCENT,..", value_delimiter = ',', default_value = "5,20", value_parser = clap::value_parser!(u64).range(1..=100))]
    capacities: Vec<u64>,

    /// The caches to run [default: all].
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    only: Vec<String>,

    /// The width of the distribution of sizes: the standard deviation of their logarithms.
    #[arg(long, value_name = "SIGMA", default_value = "1.5")]
    sigma: f64,
}

/// The size in the middle of all.
const MEDIAN_SIZE: f64 = 4096.0;

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut rows = 0_u32;
    let mut sums: Vec<Ratios> = Vec::new();
    for path in &args.traces {
        for file in trace::files(path)? {
            let trace = Trace::read(&file, None)?;
            let sizes: Vec<u32> = (0..trace.distinct() as u64).map(|key| size(key, args.sigma)).collect();
            let total: u64 = sizes.iter().map(|&size| u64::from(size)).sum();
            for percent in &args.capacities {
                let mut subjects =
                    subjects::all(total * percent / 100, sizes.len() * *percent as usize / 100)?;
                subjects.retain(|subject| {
                    args.only.is_empty() || args.only.iter().any(|name| name == subject.name())
                });
                if rows == 0 {
                    header(&subjects);
                    sums = vec![Ratios::default(); subjects.len()];
                }
                let ratios: Vec<Ratios> =
                    subjects.iter().map(|subject| read_through(&**subject, &trace, &sizes)).collect();
                show(&format!("{}: {percent} %", trace.name()), &ratios);
                for (sum, ratios) in sums.iter_mut().zip(&ratios) {
                    *sum = Ratios { objects: sum.objects + ratios.objects, bytes: sum.bytes + ratios.bytes };
                }
                rows += 1;
            }
        }
    }
    let count = f64::from(rows);
    let means = sums.iter().map(|sum| Ratios { objects: sum.objects / count, bytes: sum.bytes / count });
    show("mean", &means.collect::<Vec<_>>());
    Ok(())
}

/// Hit ratios in percent.
#[derive(Clone, Copy, Default)]
struct Ratios {
    objects: f64,
    bytes: f64,
}

fn read_through(subject: &dyn Subject, trace: &Trace, sizes: &[u32]) -> Ratios {
    let (mut hits, mut hit_bytes, mut bytes) = (0_u64, 0_u64, 0_u64);
    for &key in trace.keys() {
        let size = sizes[key as usize];
        bytes += u64::from(size);
        if subject.get(u64::from(key)) {
            hits += 1;
            hit_bytes += u64::from(size);
        } else {
            subject.insert(u64::from(key), size);
        }
    }
    let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole as f64;
    Ratios { objects: percent(hits, trace.keys().len() as u64), bytes: percent(hit_bytes, bytes) }
}

/// Box and Muller's normal distribution, as an exponent.
fn size(key: u64, sigma: f64) -> u32 {
    let mut random = Random::new(key);
    let (radius, angle) = ((-2.0 * (1.0 - random.fraction()).ln()).sqrt(), TAU * random.fraction());
    (MEDIAN_SIZE * (sigma * radius * angle.cos()).exp()).clamp(1.0, f64::from(u32::MAX)) as u32
}

fn header(subjects: &[Box<dyn Subject>]) {
    let names: Vec<&str> = subjects.iter().map(|subject| subject.name()).collect();
    println!("| trace: capacity | objects: {0} | bytes: {0} |", names.join(" | "));
    println!("|{}", " --- |".repeat(1 + 2 * names.len()));
}

fn show(name: &str, ratios: &[Ratios]) {
    let side = |of: fn(&Ratios) -> f64| {
        let best = ratios.iter().map(of).fold(0.0, f64::max);
        let mark = |ratio: f64| if ratio < best { format!("{ratio:.2}") } else { format!("**{ratio:.2}**") };
        ratios.iter().map(|ratios| mark(of(ratios))).collect::<Vec<_>>().join(" | ")
    };
    println!("| {name} | {} | {} |", side(|ratios| ratios.objects), side(|ratios| ratios.bytes));
}
