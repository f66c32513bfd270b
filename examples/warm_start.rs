//! A service that is restarted, and whose cache is warm at once.
//!
//! ```text
//! cargo run --release --features serde --example warm_start [requests of each process]
//! cargo run --release --features serde --example warm_start serve FILE        # one process, until Ctrl-C or SIGTERM
//! ```
//!
//! The service answers requests from a cache before a slow store. When it is told to stop, by SIGINT or SIGTERM, it saves
//! the cache to a file, which the next process loads. What users ask for changes all the time.
//!
//! Without `serve` the program starts itself as three processes, one after the other: one that begins cold and is stopped
//! by a signal, one that goes on warm, and for comparison one that goes on cold.

#![allow(missing_docs)]

use larder::{Cache, SnapshotError};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

const CAPACITY: u64 = 20_000;
const USERS: u64 = 200_000;
/// After so many requests somebody new becomes the most popular.
const DRIFT: u64 = 20;
/// Lines of the table.
const LINES: u64 = 10;
/// It is added up, not waited for.
const STORE_TAKES: Duration = Duration::from_millis(2);

#[derive(Clone, Serialize, Deserialize)]
struct Profile {
    user: u64,
    name: String,
    items: Vec<u32>,
}

/// The slow store.
fn look_up(user: u64) -> Profile {
    let items = (0..16).map(|item| mix(user << 8 | item) as u32).collect();
    Profile { user, name: format!("user {user}"), items }
}

fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 31).wrapping_mul(0x7fb5_d329_728e_a185);
    (number ^ number >> 27).wrapping_mul(0x81da_def4_bc2d_d44d)
}

/// Who is asked for: about Zipf with an exponent of 1, from those who are popular at the time.
fn user_of(request: u64) -> u64 {
    let part = (mix(request + 1) >> 11) as f64 / (1_u64 << 53) as f64;
    let rank = (USERS as f64).powf(part) as u64;
    (request / DRIFT).wrapping_sub(rank)
}

/// Sets a flag when the process is told to stop.
fn stop_flag() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// One process of the service, from some request on: until it is told to stop, which it does itself after `most`.
fn serve(file: &Path, first: u64, most: u64) -> Result<(), Box<dyn Error>> {
    let stop = stop_flag()?;
    let cache: Cache<u64, Profile> = Cache::new(CAPACITY);
    let begun = Instant::now();
    match cache.snapshot().types("profiles, version 1").load(file) {
        Ok(report) => eprintln!("  warm: {} entries, loaded in {:.1?}", report.entries, begun.elapsed()),
        Err(SnapshotError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
            eprintln!("  cold: there is no snapshot")
        }
        // A file that cannot be used is no reason not to start.
        Err(error) => {
            let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
            eprintln!("  cold: {error}{cause}");
        }
    }
    let line = (most / LINES).max(1);
    let (mut hits, mut asked) = (0, 0);
    for request in first.. {
        if stop.load(Relaxed) {
            break;
        }
        let mut is_hit = true;
        let user = user_of(request);
        let profile = cache.get_or_load(user, |&user| {
            is_hit = false;
            look_up(user)
        });
        assert_eq!(profile.user, user);
        (hits, asked) = (hits + u64::from(is_hit), asked + 1);
        if asked % line == 0 {
            println!("{hits}");
            hits = 0;
        }
        if asked == most {
            // As whoever runs the service would.
            signal_hook::low_level::raise(SIGTERM)?;
        }
    }
    let begun = Instant::now();
    let report = cache.snapshot().types("profiles, version 1").save(file)?;
    eprintln!(
        "  stopped after {asked} requests: {} entries, saved in {:.1?}, {} KiB",
        report.entries,
        begun.elapsed(),
        report.bytes >> 10
    );
    Ok(())
}

/// A folder that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("larder-warm-start-{}", process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Starts the service as a process of its own, and gives the hits of each line of the table.
fn process(what: &str, file: &Path, first: u64, most: u64) -> Result<Vec<u64>, Box<dyn Error>> {
    eprintln!("{what}");
    let [first, most] = [first, most].map(|number| number.to_string());
    let mut service = Command::new(std::env::current_exe()?);
    service.arg("serve").arg(file).args([first, most]).stderr(process::Stdio::inherit());
    let output = service.output()?;
    if !output.status.success() {
        return Err(format!("the service has ended with {}", output.status).into());
    }
    let hits = String::from_utf8(output.stdout)?;
    Ok(hits.lines().map(str::parse).collect::<Result<_, _>>()?)
}

/// All three processes.
fn compare(requests: u64) -> Result<(), Box<dyn Error>> {
    // Ctrl-C goes to the service, too, which saves and ends.
    let _stop = stop_flag()?;
    let scratch = Scratch::new()?;
    let file = scratch.0.join("profiles.larder");
    let before = process("the first process", &file, 0, requests)?;
    let warm = process("the second one, with the snapshot", &file, requests, requests)?;
    let cold = process("the second one, without", &scratch.0.join("none"), requests, requests)?;

    let line = (requests / LINES).max(1);
    let percent = |hits: u64| 100.0 * hits as f64 / line as f64;
    let bar = |hits: u64| "#".repeat((percent(hits) / 4.0).round() as usize);
    println!("\nHits in percent, of {line} requests each:\n");
    println!("{:>10}  {:31}  {:31}", "requests", "warm", "cold");
    for (at, hits) in (1..).zip(&before) {
        let hits = *hits;
        println!("{:>10}  {:31}  {:4.1} {:25}", at * line, "", percent(hits), bar(hits));
    }
    println!("{:>10}  restart", "");
    for (at, (&warm, &cold)) in (1 + before.len() as u64..).zip(warm.iter().zip(&cold)) {
        let [with, without] = [warm, cold].map(|hits| format!("{:4.1} {:25}", percent(hits), bar(hits)));
        println!("{:>10}  {with:31}  {without:31}", at * line);
    }
    let [warm, cold] = [warm, cold].map(|hits| hits.iter().sum::<u64>());
    let spared = warm.saturating_sub(cold);
    println!(
        "\nThe snapshot has spared the store {spared} look-ups: {:.0} s, at {STORE_TAKES:?} each",
        spared as f64 * STORE_TAKES.as_secs_f64()
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", file] => serve(Path::new(file), 0, u64::MAX),
        ["serve", file, first, most] => serve(Path::new(file), first.parse()?, most.parse()?),
        [] => compare(100_000),
        [requests] => compare(requests.parse()?),
        _ => Err("too many arguments".into()),
    }
}
