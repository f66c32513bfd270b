//! Loads, writes and invalidations in random order, against a store that knows the truth.
//!
//! One thread drives futures by hand, so that each schedule is a sequence of steps: a load begins, reads the store, hangs,
//! goes on, is dropped; the store changes and the cache is told. A value is the store's version when the loader began.
//! Once the cache has been told of a change, nothing older may be read from it. `LARDER_SCHEDULES` sets how many are tried.
#![allow(missing_docs)]

mod common;

use common::{Same, settle, size_from};
use larder::{Cache, Op};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

const KEYS: u64 = 5;

/// A version, and what tells whether it has been dropped.
type Value = (u64, Arc<()>);

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % n
    }
}

/// A load that somebody waits for.
struct Flight<'a> {
    future: Pin<Box<dyn Future<Output = ()> + 'a>>,
    /// Whether its loader, if it has one, may go on.
    gate: Rc<Cell<bool>>,
}

struct World {
    versions: [Cell<u64>; KEYS as usize],
    /// The versions of which the cache has been told: nothing older may be read.
    told: [Cell<u64>; KEYS as usize],
    alive: Arc<()>,
    loads: Cell<u64>,
}

impl World {
    fn value(&self, key: u64) -> Value {
        (self.versions[key as usize].get(), Arc::clone(&self.alive))
    }

    fn change(&self, key: u64) {
        let version = &self.versions[key as usize];
        version.set(version.get() + 1);
    }

    fn tell(&self, keys: impl IntoIterator<Item = u64>) {
        keys.into_iter().for_each(|key| self.told[key as usize].set(self.versions[key as usize].get()));
    }

    /// What a load gives is at least of the version of which the cache was told before it was asked.
    fn check(&self, key: u64, version: u64, told: u64) {
        assert!(version >= told, "key {key}: version {version} after {told} was told");
    }
}

fn begin<'a, S: BuildHasher + 'static>(
    cache: &'a Cache<u64, Value, S>,
    world: &'a World,
    random: &mut Random,
) -> Flight<'a> {
    let gate = Rc::new(Cell::new(false));
    let pass = Rc::clone(&gate);
    let key = random.below(KEYS);
    let told = world.told[key as usize].get();
    let load = move |&key: &u64| {
        let value = world.value(key);
        world.loads.set(world.loads.get() + 1);
        poll_fn(move |_| if pass.get() { Poll::Ready(value.clone()) } else { Poll::Pending })
    };
    let future: Pin<Box<dyn Future<Output = ()> + 'a>> = match random.below(5) {
        0 => Box::pin(async move { world.check(key, cache.refresh_async(key, load).await.0, 0) }),
        1 => {
            let fails = random.below(2) == 0;
            let load = move |key: &u64| {
                let loading = load(key);
                async move {
                    let value = loading.await;
                    if fails { Err("down") } else { Ok(value) }
                }
            };
            Box::pin(async move {
                if let Ok(value) = cache.try_get_or_load_async(key, load).await {
                    world.check(key, value.0, told);
                }
            })
        }
        2 => {
            let keys: Vec<u64> = (0..3).map(|_| random.below(KEYS)).collect();
            // One that it was not asked for, and not all that it was.
            let (extra, missing) = (random.below(KEYS), random.below(KEYS));
            let load = RefCell::new(load);
            let pass = Rc::clone(&gate);
            Box::pin(async move {
                let loader = |keys: Vec<u64>| {
                    let _ = &load;
                    let keys = keys.into_iter().filter(|&key| key != missing).chain([extra]);
                    let values: Vec<_> = keys.map(|key| (key, world.value(key))).collect();
                    let pass = Rc::clone(&pass);
                    poll_fn(move |_| if pass.get() { Poll::Ready(values.clone()) } else { Poll::Pending })
                };
                let told: HashMap<u64, u64> =
                    keys.iter().map(|&key| (key, world.told[key as usize].get())).collect();
                for (key, value) in cache.get_all_or_load_async(keys, loader).await {
                    world.check(key, value.0, told[&key]);
                }
            })
        }
        _ => Box::pin(async move { world.check(key, cache.get_or_load_async(key, load).await.0, told) }),
    };
    Flight { future, gate }
}

/// The store changes, and the cache is told.
fn invalidate<S: BuildHasher + 'static>(cache: &Cache<u64, Value, S>, world: &World, random: &mut Random) {
    let key = random.below(KEYS);
    let (all, tag) = (0..KEYS, key % 2);
    match random.below(10) {
        0 => {
            all.clone().for_each(|key| world.change(key));
            match random.below(3) {
                0 => cache.invalidate_all(),
                1 => cache.retain(|_, _| false),
                _ => drop(cache.drain()),
            }
            world.tell(all);
        }
        1 | 2 => {
            let tagged = all.filter(|key| key % 2 == tag);
            tagged.clone().for_each(|key| world.change(key));
            cache.invalidate_tag(tag);
            world.tell(tagged);
        }
        way => {
            world.change(key);
            match way {
                3 => cache.insert(key, world.value(key)),
                4 => _ = cache.compute(key, |_| Op::Remove),
                5 => _ = cache.compute(key, |_| Op::Insert(world.value(key))),
                6 => _ = cache.remove(&key),
                7 => _ = cache.remove_if(&key, |_, _| true),
                _ => _ = cache.invalidate(&key),
            }
            world.tell([key]);
        }
    }
}

fn schedule<S: BuildHasher + 'static>(cache: &Cache<u64, Value, S>, world: &World, random: &mut Random) {
    let mut flights: Vec<Flight<'_>> = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..30 {
        match random.below(10) {
            0..3 => flights.push(begin(cache, world, random)),
            3..6 if !flights.is_empty() => {
                let at = random.below(flights.len() as u64) as usize;
                let flight = &mut flights[at];
                flight.gate.set(flight.gate.get() || random.below(2) == 0);
                if flight.future.as_mut().poll(&mut context).is_ready() {
                    flights.swap_remove(at);
                }
            }
            6 if !flights.is_empty() => {
                let at = random.below(flights.len() as u64) as usize;
                drop(flights.swap_remove(at));
            }
            7 => cache.set_capacity(random.below(8)),
            _ => invalidate(cache, world, random),
        }
        for key in 0..KEYS {
            let told = world.told[key as usize].get();
            if let Some(value) = if random.below(2) == 0 { cache.get(&key) } else { cache.peek(&key) } {
                world.check(key, value.0, told);
            }
        }
        cache.iter().for_each(|(key, value)| world.check(key, value.0, world.told[key as usize].get()));
    }
    // When all loaders end all who wait get something.
    flights.iter().for_each(|flight| flight.gate.set(true));
    for _ in 0..flights.len() + 1 {
        flights.retain_mut(|flight| flight.future.as_mut().poll(&mut context).is_pending());
    }
    assert!(flights.is_empty(), "{} loads hang", flights.len());
    cache.validate();
}

fn schedules<S: BuildHasher + Send + Sync + 'static>(seed: u64, schedules: usize, hasher: impl Fn() -> S) {
    let mut random = Random(seed);
    let mut loads = 0;
    for at in 0..schedules {
        let world = World {
            versions: Default::default(),
            told: Default::default(),
            alive: Arc::new(()),
            loads: Cell::new(0),
        };
        let cache = Cache::builder()
            .max_capacity(KEYS * 2)
            .segments(if at % 2 == 0 { 1 } else { 4 })
            .tags(|&key: &u64, _: &Value| [key % 2])
            .build_with_hasher(hasher())
            .unwrap();
        schedule(&cache, &world, &mut random);
        settle(&cache);
        drop(cache);
        assert_eq!(Arc::strong_count(&world.alive), 1, "a value has leaked");
        loads += world.loads.get();
    }
    assert!(loads > schedules as u64, "hardly anything was loaded");
}

#[test]
fn no_stale_value_is_seen() {
    schedules(0x5eed, size_from("LARDER_SCHEDULES", 10_000, 5), ahash::RandomState::new);
}

#[test]
fn nor_where_all_keys_have_one_hash() {
    schedules(0xbad5eed, size_from("LARDER_SCHEDULES", 3_000, 5), || Same);
}
