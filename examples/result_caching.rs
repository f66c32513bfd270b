//! Ranked results for users: expensive to compute, asked for by many threads at once, out of date when the user acts.
//!
//! ```text
//! cargo run --release --example result_caching [requests of each thread]
//! ```
//!
//! Each thread asks for users' recommendations, a few users most of the time. Now and then a user acts, which is written to
//! the store of events, and then the user's results are invalidated by tag. Each request notes before it asks how many
//! actions of the user the cache has been told of; a result that was computed from fewer is stale.

#![allow(missing_docs)]

use larder::Cache;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

const THREADS: u64 = 8;
const USERS: u64 = 2_000;
const ITEMS: u32 = 400;
const SHELVES: u64 = 3;

/// What a user has done, in the order of time. The truth.
#[derive(Default)]
struct Events(Mutex<HashMap<u64, Vec<u32>>>);

impl Events {
    fn add(&self, user: u64, item: u32) {
        self.0.lock().unwrap().entry(user).or_default().push(item);
    }

    fn of(&self, user: u64) -> Vec<u32> {
        self.0.lock().unwrap().get(&user).cloned().unwrap_or_default()
    }
}

/// The items that a shelf of the user's page shows.
struct Ranking {
    items: Vec<u32>,
    /// How many of the user's actions it was computed from.
    actions: usize,
}

/// The expensive part: each item against each action.
fn rank(events: &Events, user: u64, shelf: u64) -> Arc<Ranking> {
    let actions = events.of(user);
    let score = |item: u32| {
        let like =
            |&seen: &u32| u64::from((item ^ seen).count_ones()) * (item.wrapping_mul(seen) % 7 + 1) as u64;
        actions.iter().map(like).sum::<u64>() + mix(u64::from(item) ^ user << 20 ^ shelf << 40) % 50
    };
    let mut scored: Vec<_> = (0..ITEMS).map(|item| (score(item), item)).collect();
    scored.sort_unstable_by(|a, b| b.cmp(a));
    let items = scored.into_iter().take(10).map(|(_, item)| item).collect();
    Arc::new(Ranking { items, actions: actions.len() })
}

fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 31).wrapping_mul(0x7fb5_d329_728e_a185);
    (number ^ number >> 27).wrapping_mul(0x81da_def4_bc2d_d44d)
}

/// Pseudo-random numbers, the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        mix(self.0)
    }

    /// Popular ones come first.
    fn user(&mut self) -> u64 {
        let part = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (part.powi(4) * USERS as f64) as u64
    }
}

fn main() {
    let requests = match std::env::args().nth(1).map(|argument| argument.parse()) {
        None => 30_000,
        Some(Ok(requests)) => requests,
        Some(Err(error)) => {
            eprintln!("requests of each thread: {error}");
            std::process::exit(2);
        }
    };
    let events = Events::default();
    let told: Vec<AtomicU64> = (0..USERS).map(|_| AtomicU64::new(0)).collect();
    let computed = AtomicU64::new(0);
    let actions = AtomicU64::new(0);
    let stale = AtomicU64::new(0);
    let results: Cache<(u64, u64), Arc<Ranking>> = Cache::builder()
        .name("results")
        .max_capacity(4_000)
        .tags(|&(user, _shelf), _| [user])
        .record_stats()
        .build()
        .expect("good options");

    let started = Instant::now();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (events, told, results) = (&events, &told, &results);
            let (computed, actions, stale) = (&computed, &actions, &stale);
            scope.spawn(move || {
                let mut random = Random(thread << 40);
                for _ in 0..requests {
                    let user = random.user();
                    if random.next().is_multiple_of(50) {
                        // The user acts: first the truth, then the cache, and then it counts.
                        events.add(user, (random.next() % u64::from(ITEMS)) as u32);
                        results.invalidate_tag(user);
                        told[user as usize].fetch_add(1, SeqCst);
                        actions.fetch_add(1, SeqCst);
                        continue;
                    }
                    let known = told[user as usize].load(SeqCst);
                    let shelf = random.next() % SHELVES;
                    let ranking = results.get_or_load((user, shelf), |&(user, shelf)| {
                        computed.fetch_add(1, SeqCst);
                        rank(events, user, shelf)
                    });
                    assert_eq!(ranking.items.len(), 10);
                    if (ranking.actions as u64) < known {
                        stale.fetch_add(1, SeqCst);
                    }
                }
            });
        }
    });

    let stats = results.stats();
    let (computed, stale) = (computed.into_inner(), stale.into_inner());
    let asked = THREADS * requests - actions.load(SeqCst);
    let percent = |part: u64| 100.0 * part as f64 / asked.max(1) as f64;
    println!(
        "{asked} requests by {THREADS} threads, {} actions of users, in {:.1?}",
        actions.into_inner(),
        started.elapsed()
    );
    println!(
        "  {} rankings computed, {:.1} µs each: {:.1} % of the requests were spared one",
        computed,
        stats.average_load_time().as_secs_f64() * 1e6,
        percent(asked - computed)
    );
    println!(
        "  {} requests waited for another's computation instead of doing it, too",
        stats.load_wait_count()
    );
    println!("  {} results were checked against what the cache had been told: {stale} stale", asked);
    if stale > 0 {
        std::process::exit(1);
    }
}
