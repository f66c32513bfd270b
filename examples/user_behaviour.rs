//! What users have done lately, kept beside the code that asks for it; a store on disk has the rest.
//!
//! ```text
//! cargo run --release --example user_behaviour [events]
//! ```
//!
//! A day of a shop, by a clock that is set by hand. Each event is appended to its user's behaviour atomically: recent events,
//! and counts by item. Users who do nothing for half an hour leave the cache, others when memory is short, and a listener adds
//! what is new of theirs to an embedded store, from which it comes back with them. At the end each event stands in the store
//! exactly once, whatever the threads did.

#![allow(missing_docs, clippy::result_large_err)]

use larder::{Cache, Clock, Computed, Op, RemovalCause};
use redb::{Database, ReadableTable, TableDefinition, backends::InMemoryBackend};
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const THREADS: u64 = 4;
const USERS: u64 = 20_000;
const ITEMS: u64 = 5_000;
/// Recent events that are kept for each user.
const RECENT: usize = 20;
/// Steps of ten minutes.
const STEPS: u64 = 24 * 6;

type Counts = HashMap<u32, u64>;

#[derive(Clone, Default)]
struct Behaviour {
    /// The last events, the newest last.
    recent: Vec<u32>,
    /// How often for each item, as the store had it when the user came.
    known: Arc<Counts>,
    /// The same since then.
    fresh: Counts,
}

impl Behaviour {
    fn with(&self, item: u32) -> Arc<Self> {
        let mut next = self.clone();
        if next.recent.len() == RECENT {
            next.recent.remove(0);
        }
        next.recent.push(item);
        *next.fresh.entry(item).or_default() += 1;
        Arc::new(next)
    }

    fn bytes(&self) -> u64 {
        (size_of::<Self>() + 4 * self.recent.len() + 16 * (self.known.len() + self.fresh.len())) as u64
    }
}

const COUNTS: TableDefinition<'_, (u64, u32), u64> = TableDefinition::new("counts");

/// What has left the cache. It adds counts up, so that it does not matter in which order they come.
struct Store {
    database: Database,
    /// One writer at a time, with many users at once: a transaction is dear.
    waiting: Mutex<Vec<(u64, Arc<Behaviour>)>>,
    transactions: AtomicU64,
}

impl Store {
    fn new() -> Result<Self, redb::Error> {
        // A file would do as well: `Database::create(path)`.
        let database = Database::builder().create_with_backend(InMemoryBackend::new())?;
        let begin = database.begin_write()?;
        begin.open_table(COUNTS)?;
        begin.commit()?;
        Ok(Self { database, waiting: Mutex::default(), transactions: AtomicU64::new(0) })
    }

    fn save(&self, user: u64, behaviour: &Arc<Behaviour>) {
        self.waiting.lock().unwrap().push((user, Arc::clone(behaviour)));
    }

    /// Writes what waits.
    fn flush(&self) -> Result<(), redb::Error> {
        let mut waiting = self.waiting.lock().unwrap();
        if waiting.is_empty() {
            return Ok(());
        }
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(COUNTS)?;
            for (user, behaviour) in waiting.iter() {
                for (&item, &count) in &behaviour.fresh {
                    let before = table.get((*user, item))?.map_or(0, |before| before.value());
                    table.insert((*user, item), before + count)?;
                }
            }
        }
        transaction.commit()?;
        // Only now, and still under the lock: who loads finds each user's counts in one of the two.
        waiting.clear();
        self.transactions.fetch_add(1, Relaxed);
        Ok(())
    }

    fn load(&self, user: u64) -> Result<Arc<Behaviour>, redb::Error> {
        let waiting = self.waiting.lock().unwrap();
        let table = self.database.begin_read()?.open_table(COUNTS)?;
        let mut known = Counts::new();
        for entry in table.range((user, 0)..=(user, u32::MAX))? {
            let (key, count) = entry?;
            known.insert(key.value().1, count.value());
        }
        let mut recent = Vec::new();
        for (_, behaviour) in waiting.iter().filter(|(other, _)| *other == user) {
            recent.clone_from(&behaviour.recent);
            behaviour.fresh.iter().for_each(|(&item, &count)| *known.entry(item).or_default() += count);
        }
        Ok(Arc::new(Behaviour { recent, known: Arc::new(known), fresh: Counts::new() }))
    }

    fn events(&self) -> Result<u64, redb::Error> {
        let table = self.database.begin_read()?.open_table(COUNTS)?;
        table.iter()?.map(|entry| Ok(entry?.1.value())).sum()
    }
}

/// Appends an event to a user's behaviour, which is brought in if it is not there.
fn append(
    cache: &Cache<u64, Arc<Behaviour>>,
    store: &Store,
    user: u64,
    item: u32,
) -> Result<(), redb::Error> {
    loop {
        cache.try_get_or_load(user, |&user| store.load(user)).map_err(|error| match error {
            larder::LoadError::Failed(error) => redb::Error::Corrupted(error.to_string()),
            _ => unreachable!("the loader asks for no other user"),
        })?;
        let computed = cache.compute(user, |current| match current {
            Some(behaviour) => Op::Insert(behaviour.with(item)),
            None => Op::Keep,
        });
        match computed {
            Computed::Replaced(_) => return Ok(()),
            // It has left again in between, or could not stay: then the listener had it.
            Computed::Rejected(_) => return Ok(()),
            _ => {}
        }
    }
}

fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 31).wrapping_mul(0x7fb5_d329_728e_a185);
    (number ^ number >> 27).wrapping_mul(0x81da_def4_bc2d_d44d)
}

/// Small numbers come more often.
fn skewed(random: u64, power: i32, of: u64) -> u64 {
    let part = (random >> 11) as f64 / (1_u64 << 53) as f64;
    (part.powi(power) * of as f64) as u64
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let events = match std::env::args().nth(1) {
        None => 200_000,
        Some(argument) => argument.parse().map_err(|error| format!("events, {argument:?}: {error}"))?,
    };
    let store = Arc::new(Store::new()?);
    let clock = Clock::manual();
    let (idle, squeezed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let cache: Cache<u64, Arc<Behaviour>> = Cache::builder()
        .name("behaviour")
        .max_capacity(1 << 20)
        .initial_capacity(1_000)
        .weigher(|_, behaviour: &Arc<Behaviour>| behaviour.bytes())
        .time_to_idle(Duration::from_secs(30 * 60))
        .clock(clock.clone())
        .record_stats()
        .eviction_listener({
            let (store, idle, squeezed) = (Arc::clone(&store), Arc::clone(&idle), Arc::clone(&squeezed));
            move |&user, behaviour, cause| {
                match cause {
                    // Its successor has all that it had.
                    RemovalCause::Replaced => return,
                    RemovalCause::Expired => idle.fetch_add(1, Relaxed),
                    RemovalCause::Size | RemovalCause::Rejected => squeezed.fetch_add(1, Relaxed),
                    _ => 0,
                };
                store.save(user, behaviour);
            }
        })
        .build()?;

    let started = Instant::now();
    let (mut appended, mut most) = (0, 0);
    for step in 0..STEPS {
        let share = events / STEPS / THREADS;
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (cache, store) = (&cache, &store);
                    scope.spawn(move || -> Result<(), redb::Error> {
                        for at in 0..share {
                            let random = mix((step * THREADS + thread) << 32 | at);
                            // Who is about changes with the hours, but for the most busy ones.
                            let user = match skewed(random, 4, USERS) {
                                busy if busy < 100 => busy,
                                other => (other + step * 150) % USERS,
                            };
                            append(cache, store, user, skewed(mix(random), 3, ITEMS) as u32)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("no panics"))
        })?;
        appended += THREADS * share;
        most = most.max(cache.len());
        store.flush()?;
        clock.advance(Duration::from_secs(600));
        cache.run_pending_tasks();
    }
    let took = started.elapsed();
    let (stats, there) = (cache.stats(), (0..100).filter(|user| cache.contains_key(user)).count());

    // The end of the service: what is still there is persisted, too.
    cache.drain().for_each(drop);
    store.flush()?;
    let stored = store.events()?;

    println!(
        "{appended} events by {THREADS} threads in {:.2} s, a day by the cache's clock",
        took.as_secs_f64()
    );
    println!(
        "{:.1} % of the users were there when they acted, {} were brought in from the store ({:.1} us each)",
        100.0 * stats.hit_rate(),
        stats.load_success_count(),
        stats.average_load_time().as_secs_f64() * 1e6,
    );
    println!(
        "{} left because they were idle, {} because memory was short; at most {most} were there",
        idle.load(Relaxed),
        squeezed.load(Relaxed),
    );
    println!("{there} of the 100 most active users were there at the end");
    println!(
        "the store has {stored} of {appended} events, written in {} transactions",
        store.transactions.load(Relaxed)
    );
    assert_eq!(stored, appended, "an event was lost, or stands in the store twice");
    Ok(())
}
