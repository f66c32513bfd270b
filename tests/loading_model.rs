//! Random schedules of loads, against a store that knows the truth. `LARDER_SCHEDULES` sets how many are tried.
//!
//! One thread drives futures by hand, so each schedule is a sequence of steps: a call begins, a loader ends, a future is
//! polled or dropped, the capacity changes, somebody reads, or the store changes. The store has a version for each key. When
//! it has changed, the cache is told: by an invalidation of some kind, or by an insert of the new version. Loaders read the
//! store when they are called, and end when the schedule says so. What must hold:
//!
//! - No read, and no load that begins after the cache was told, gives an older version than the store had then.
//! - No two loaders of a key run at the same time, unless what one of them brings is out of date already.
//! - No loader is called for a key that is in the cache, unless that is a refresh.
//! - When all loaders have ended, so have all futures. From then on only those that were woken are polled, and every poll has
//!   a waker of its own, so a wake-up that is lost, or goes to the waker before, shows.
//! - Nothing leaks: when the cache is empty, all keys and values have been dropped, and so have the loads, which hold keys.
#![allow(missing_docs)]

mod common;

use common::loads::{Gate, Wakes};
use common::{Census, Counted, Random, Same, ends, quiet, size, size_from, until};
use larder::{Cache, LoadError, Op};
use std::collections::HashSet;
use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

const KEYS: u64 = 4;

/// Each key carries one of these.
const TAGS: u64 = 2;

type Key = Counted<u64>;
/// The key and the version.
type Value = Counted<(u64, u64)>;
/// A number for each key.
type PerKey = [u64; KEYS as usize];

fn keys_with(tag: u64) -> impl Iterator<Item = u64> {
    (0..KEYS).filter(move |key| key % TAGS == tag)
}

/// The truth, and what the loaders do.
#[derive(Default)]
struct Store {
    versions: PerKey,
    /// The versions of which the cache was told: nothing older may be seen.
    told: PerKey,
    /// How often the key has changed in the cache, or may have: a load that began before may be out of date.
    epochs: PerKey,
    /// How often the key was made invalid: a load that began before is out of date, and brings nothing into the cache.
    invalidations: PerKey,
    /// The loaders that run: keys, each with its epoch when the loader was called.
    running: HashSet<(u64, u64)>,
    /// What they wait for. It says whether they are to succeed.
    gates: Vec<Gate<bool>>,
    /// From now on loaders end at once.
    ends: bool,
    one_hash: bool,
}

impl Store {
    /// The key changes in the cache, which takes keys with the same hash for changed, too.
    fn next_epoch(&mut self, key: u64) {
        let keys = if self.one_hash { 0..KEYS } else { key..key + 1 };
        keys.for_each(|key| self.epochs[key as usize] += 1);
    }
}

/// A loader, from its call to its end.
struct Loading {
    store: Arc<Mutex<Store>>,
    running: Vec<(u64, u64)>,
    /// What it read for the keys that it will give, and how often they had been made invalid then.
    read: Vec<(u64, u64)>,
    invalidations: PerKey,
    gate: Gate<bool>,
}

impl Loading {
    /// For the keys that it was asked for, and those that it will give. `epochs` are those of the moment when its caller was
    /// found to be the one who loads.
    fn new(store: &Arc<Mutex<Store>>, asked: &[u64], given: &[u64], epochs: Option<PerKey>) -> Self {
        let mut inner = store.lock().unwrap();
        let gate = Gate::default();
        if inner.ends {
            gate.give(true);
        } else {
            inner.gates.push(gate.clone());
        }
        let now = inner.epochs;
        let epochs = epochs.unwrap_or(now);
        // Where the key has changed since, this load is out of date before it begins.
        let current = asked.iter().filter(|&&key| epochs[key as usize] == now[key as usize]);
        let running: Vec<_> = current.map(|&key| (key, now[key as usize])).collect();
        for &loader in &running {
            assert!(inner.running.insert(loader), "two loaders of {} at a time", loader.0);
        }
        let read = given.iter().map(|&key| (key, inner.versions[key as usize])).collect();
        Self { store: Arc::clone(store), running, read, invalidations: inner.invalidations, gate }
    }

    async fn end(self) -> Option<Vec<(u64, u64)>> {
        if !self.gate.get().await {
            return None;
        }
        let mut store = self.store.lock().unwrap();
        for &(key, _) in &self.read {
            // What is out of date does not get in, and so ends no other load of the key.
            if self.invalidations[key as usize] == store.invalidations[key as usize] {
                store.next_epoch(key);
            }
        }
        Some(self.read.clone())
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        let mut store = self.store.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.running.iter().for_each(|loader| _ = store.running.remove(loader));
    }
}

/// A call that is under way, as a future.
struct Caller<'a> {
    future: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
    /// Those of the last poll; none before the first.
    wakes: Option<Arc<Wakes>>,
}

impl Caller<'_> {
    fn is_woken(&self) -> bool {
        self.wakes.as_ref().is_none_or(|wakes| wakes.count() > 0)
    }

    /// Says whether it has ended, maybe by a panic of its loader.
    fn poll(&mut self) -> bool {
        let wakes = Arc::default();
        let waker = Waker::from(Arc::clone(&wakes));
        self.wakes = Some(wakes);
        let poll = || self.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        catch_unwind(AssertUnwindSafe(poll)).unwrap_or_else(|payload| {
            if payload.downcast_ref::<&str>() != Some(&"on purpose") {
                resume_unwind(payload);
            }
            true
        })
    }
}

struct World<S> {
    cache: Cache<Key, Value, S>,
    census: Census,
    store: Arc<Mutex<Store>>,
    /// Whether calls for many keys are split.
    splits: bool,
}

impl<S: BuildHasher + Send + Sync + 'static> World<S> {
    fn key(&self, key: u64) -> Key {
        self.census.count(key)
    }

    fn told(&self) -> PerKey {
        self.store.lock().unwrap().told
    }

    /// A call for one key, or for many, that checks what it gets.
    fn caller(&self, random: &mut Random) -> Caller<'_> {
        let key = random.below(KEYS);
        Caller {
            future: match random.below(8) {
                0..3 => Box::pin(self.load_one(key, false)),
                3 => Box::pin(self.load_one(key, true)),
                4 => Box::pin(self.try_load_one(key, false)),
                5 => Box::pin(self.try_load_one(key, true)),
                _ => {
                    let [wanted, others] = [random.subset(KEYS), random.subset(KEYS)];
                    Box::pin(self.load_many(wanted, others, random.one_in(4)))
                }
            },
            wakes: None,
        }
    }

    /// A loader of one key. It gives what it has read, or nothing if it is to fail.
    fn loading<'a>(
        &'a self,
        key: &Key,
        refresh: bool,
    ) -> impl Future<Output = Option<Value>> + Send + use<'a, S> {
        assert!(refresh || !self.cache.contains_key(key), "{key:?} is there, and loaded");
        let loading = Loading::new(&self.store, &[*key.what], &[*key.what], None);
        async { loading.end().await.map(|read| self.census.count(read[0])) }
    }

    async fn load_one(&self, key: u64, refresh: bool) {
        let told = self.told();
        let loader = |key: &Key| {
            let loading = self.loading(key, refresh);
            async move { loading.await.unwrap_or_else(|| panic!("on purpose")) }
        };
        let value = match refresh {
            false => self.cache.get_or_load_async(self.key(key), loader).await,
            true => self.cache.refresh_async(self.key(key), loader).await,
        };
        check(key, &value, &told);
    }

    async fn try_load_one(&self, key: u64, refresh: bool) {
        let told = self.told();
        let loader = |key: &Key| {
            let loading = self.loading(key, refresh);
            async move { loading.await.ok_or("down") }
        };
        let result = match refresh {
            false => self.cache.try_get_or_load_async(self.key(key), loader).await,
            true => self.cache.try_refresh_async(self.key(key), loader).await,
        };
        match result {
            Ok(value) => check(key, &value, &told),
            Err(LoadError::Failed(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    /// The loader gives `others`, too, and maybe leaves out one of the keys that it was asked for.
    async fn load_many(&self, wanted: Vec<u64>, others: Vec<u64>, leaves_one_out: bool) {
        let (told, epochs) = (self.told(), self.store.lock().unwrap().epochs);
        let loader = |asked: Vec<Key>| {
            // Split calls find out at their beginning what they are to load, and load it later.
            let is_there = |key: &Key| self.cache.contains_key(key);
            assert!(self.splits || !asked.iter().any(is_there), "one of {asked:?} is there, and loaded");
            let asked: Vec<_> = asked.iter().map(|key| *key.what).collect();
            let mut given = asked.clone();
            if leaves_one_out {
                given.pop();
            }
            given.extend(others.iter().filter(|key| !asked.contains(key)));
            let loading = Loading::new(&self.store, &asked, &given, self.splits.then_some(epochs)).end();
            async move {
                let read = loading.await.ok_or("down")?;
                let entry = |read: (u64, u64)| (self.key(read.0), self.census.count(read));
                Ok::<Vec<_>, &str>(read.into_iter().map(entry).collect())
            }
        };
        let keys: Vec<_> = wanted.iter().map(|&key| self.key(key)).collect();
        match self.cache.try_get_all_or_load_async(keys, loader).await {
            Ok(found) => found.iter().for_each(|(key, value)| {
                assert!(wanted.contains(&key.what), "{key:?} was not asked for");
                check(*key.what, value, &told);
            }),
            Err(LoadError::Failed(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    /// The store changes, and the cache is told.
    fn change(&self, random: &mut Random) {
        let (kind, key) = (random.below(13), random.below(KEYS));
        let tag = key % TAGS;
        let changed: Vec<u64> = match kind {
            0 | 1 => (0..KEYS).collect(),
            2 => random.subset(KEYS),
            3 | 4 => keys_with(tag).collect(),
            _ => vec![key],
        };
        let versions = {
            let mut store = self.store.lock().unwrap();
            changed.iter().for_each(|&key| store.versions[key as usize] += 1);
            store.versions
        };
        // Whatever a drain, or a `retain`, was asked to look at is taken for changed.
        let void: Vec<u64> = if kind < 3 { (0..KEYS).collect() } else { changed.clone() };
        // A tag ends only loads of what is there with it: nobody knows the tags of what is to come.
        let is_there = |&key: &u64| self.cache.contains_key(&self.key(key));
        let ended: Vec<u64> = match kind {
            3 | 4 => changed.iter().copied().filter(is_there).collect(),
            _ => void.clone(),
        };
        let (key, new) = (self.key(key), self.census.count((key, versions[key as usize])));
        match kind {
            0 => self.cache.invalidate_all(),
            1 => drop(self.cache.drain()),
            2 => self.cache.retain(|key, _| !changed.contains(&key.what)),
            3 | 4 => _ = self.cache.invalidate_tag(tag),
            5 | 6 => _ = self.cache.invalidate(&key),
            7 => drop(self.cache.remove(&key)),
            8 => drop(self.cache.remove_if(&key, |_, _| true)),
            9 => self.cache.insert(key, new),
            10 => drop(self.cache.compute(key, |_| Op::Insert(new.clone()))),
            11 => drop(self.cache.compute(key, |_| Op::Remove)),
            _ => drop(self.cache.entry(key).and_upsert_with(|_| new.clone())),
        }
        let mut store = self.store.lock().unwrap();
        void.iter().for_each(|&key| store.invalidations[key as usize] += 1);
        ended.iter().for_each(|&key| store.next_epoch(key));
        changed.iter().for_each(|&key| store.told[key as usize] = versions[key as usize]);
    }

    /// Whatever can be read is new enough.
    fn look(&self, random: &mut Random) {
        let told = self.told();
        for key in 0..KEYS {
            let wanted = self.key(key);
            let found = if random.one_in(2) { self.cache.get(&wanted) } else { self.cache.peek(&wanted) };
            found.iter().for_each(|value| check(key, value, &told));
        }
        // A walk takes long under Miri.
        if random.one_in(size(1, 10) as u64) {
            self.cache.iter().for_each(|(key, value)| check(*key.what, &value, &told));
        }
    }

    fn run(&self, random: &mut Random, steps: usize) {
        let mut callers: Vec<Caller<'_>> = Vec::new();
        for _ in 0..steps {
            let at = random.below(callers.len().max(1) as u64) as usize;
            match random.below(16) {
                0..5 if callers.len() < 8 => callers.push(self.caller(random)),
                // Now and then without need.
                0..8 if !callers.is_empty() && (callers[at].is_woken() || random.one_in(4)) => {
                    poll(&mut callers, at);
                }
                8 if !callers.is_empty() => drop(callers.swap_remove(at)),
                9..12 => {
                    let gate = {
                        let gates = &mut self.store.lock().unwrap().gates;
                        let at = random.below(gates.len().max(1) as u64) as usize;
                        (!gates.is_empty()).then(|| gates.swap_remove(at))
                    };
                    gate.into_iter().for_each(|gate| gate.give(!random.one_in(5)));
                }
                12..14 => self.change(random),
                14 if random.one_in(3) => self.cache.set_capacity(random.below(8)),
                _ => {}
            }
            self.look(random);
        }
        // With loads under way, void and good ones.
        self.cache.validate();
        // All loaders end. So do all callers, and nobody is polled who was not woken.
        let gates = {
            let mut store = self.store.lock().unwrap();
            store.ends = true;
            std::mem::take(&mut store.gates)
        };
        gates.iter().for_each(|gate| gate.give(true));
        while let Some(at) = callers.iter().position(Caller::is_woken) {
            poll(&mut callers, at);
        }
        assert!(callers.is_empty(), "{} callers wait for ever", callers.len());
        // Every key can still be loaded.
        for key in 0..KEYS {
            let version = self.store.lock().unwrap().versions[key as usize];
            let value = self.cache.refresh(self.key(key), |_| self.census.count((key, version)));
            assert_eq!(value.what.1, version, "{key}");
        }
        self.look(random);
        self.cache.validate();
    }
}

/// Polls one of these, which is forgotten if it has ended.
fn poll(callers: &mut Vec<Caller<'_>>, at: usize) {
    if callers[at].poll() {
        drop(callers.swap_remove(at));
    }
}

/// A value of the key that is not older than what the cache was told.
fn check(key: u64, value: &Value, told: &PerKey) {
    let (of, version) = *value.what;
    assert_eq!(of, key, "a value of another key");
    assert!(version >= told[key as usize], "{key}: version {version} after {}", told[key as usize]);
}

/// Tries one schedule. Says how many loads succeeded in it, and how often a call joined one of another.
fn schedule<S: BuildHasher + Send + Sync + 'static>(hasher: S, one_hash: bool, seed: u64) -> (u64, u64) {
    let census = Census::default();
    // Some caches have room for all keys, and some have not.
    let (segments, capacity) = ([1, 4][seed as usize % 2], [100, 3][seed as usize / 2 % 2]);
    let splits = seed / 4 % 2 == 1;
    let cache = Cache::builder()
        .max_capacity(capacity)
        .segments(segments)
        .max_batch(if splits { 2 } else { usize::MAX })
        .tags(|key: &Key, _: &Value| [*key.what % TAGS])
        .record_stats()
        .build_with_hasher(hasher)
        .unwrap();
    let store = Arc::new(Mutex::new(Store { one_hash, ..Store::default() }));
    let world = World { cache, census: census.clone(), store, splits };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| world.run(&mut Random::new(seed), 50))) {
        eprintln!("with seed {seed}");
        resume_unwind(payload);
    }
    // Readers in the other test's thread may hold the last ones up for a while.
    world.cache.invalidate_all();
    until(|| {
        world.cache.run_pending_tasks();
        census.living() == 0
    });
    let stats = world.cache.stats();
    (stats.load_success_count(), stats.load_wait_count())
}

fn schedules<S: BuildHasher + Clone + Send + Sync + 'static>(hasher: S, one_hash: bool, first: u64) {
    quiet();
    let seeds: Vec<u64> = (first..).take(size_from("LARDER_SCHEDULES", 14_000, 8) / 2).collect();
    for seeds in seeds.chunks(1_000) {
        let (hasher, seeds) = (hasher.clone(), seeds.to_vec());
        ends(move || {
            let (mut loads, mut waits) = (0, 0);
            for &seed in &seeds {
                let (succeeded, joined) = schedule(hasher.clone(), one_hash, seed);
                loads += succeeded;
                waits += joined;
            }
            // Beside those at the end of each.
            let schedules = seeds.len() as u64;
            assert!(loads > (KEYS + 1) * schedules && waits > schedules, "hardly anything is tested");
        });
    }
}

#[test]
fn random_schedules() {
    schedules(ahash::RandomState::with_seeds(1, 2, 3, 4), false, 0);
}

/// Loads are told apart by hash first, so here each change of a key ends the loads of all.
#[test]
fn random_schedules_with_one_hash_for_all_keys() {
    schedules(Same, true, 1_000_000_000);
}
