//! The cache against models: random operations by one thread, over all policies, few and many segments, with and without
//! weigher, bound on entries and listener.
//!
//! The general model does not know which entries the policy will evict. It is told, by the listener or by a look at what
//! is left, and then everything must add up: each departure has its one right cause, what is left is what was written
//! last, and all views of the cache agree. For FIFO, LRU and SIEVE with one segment further models know exactly what is
//! left. `LARDER_CASES` sets how many cases are tried.
#![allow(missing_docs)]

mod common;

use common::{Census, Counted, policies, settle, size_from};
use larder::{Cache, Computed, EvictionPolicy, InsertOptions, Op, RemovalCause};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

const KEYS: u64 = 24;

#[derive(Clone, Debug)]
struct Setup {
    policy: EvictionPolicy,
    segments: usize,
    capacity: u64,
    max_entries: Option<u64>,
    weighed: bool,
    listening: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u64),
    InsertWith(u64, u64, Option<u64>, Option<bool>),
    Get(u64),
    With(u64),
    Peek(u64),
    Contains(u64),
    GetMany(u64, u64),
    Remove(u64),
    Invalidate(u64),
    RemoveIf(u64, bool),
    Retain(u64),
    Drain(usize),
    OrInsert(u64, u64),
    Upsert(u64, u64),
    ComputeInsert(u64, u64),
    ComputeRemove(u64),
    ComputeKeep(u64),
    SetCapacity(u64),
    InvalidateAll,
    Pin(u64),
    Unpin(u64),
    Iterate,
    RunPendingTasks,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || 0..KEYS;
    let weight = || prop_oneof![20 => 0..12u64, 3 => 12..60u64, 1 => Just(u64::MAX)];
    let step = prop_oneof![
        12 => (key(), weight()).prop_map(|(k, w)| Step::Insert(k, w)),
        3 => (key(), weight(), prop::option::of(weight()), prop::option::of(any::<bool>()))
            .prop_map(|(k, w, o, p)| Step::InsertWith(k, w, o, p)),
        6 => key().prop_map(Step::Get),
        1 => key().prop_map(Step::With),
        1 => key().prop_map(Step::Peek),
        1 => key().prop_map(Step::Contains),
        1 => (key(), key()).prop_map(|(a, b)| Step::GetMany(a, b)),
        2 => key().prop_map(Step::Remove),
        1 => key().prop_map(Step::Invalidate),
        1 => (key(), any::<bool>()).prop_map(|(k, yes)| Step::RemoveIf(k, yes)),
        1 => (2..5u64).prop_map(Step::Retain),
        1 => (0..6usize).prop_map(Step::Drain),
        2 => (key(), weight()).prop_map(|(k, w)| Step::OrInsert(k, w)),
        2 => (key(), weight()).prop_map(|(k, w)| Step::Upsert(k, w)),
        2 => (key(), weight()).prop_map(|(k, w)| Step::ComputeInsert(k, w)),
        1 => key().prop_map(Step::ComputeRemove),
        1 => key().prop_map(Step::ComputeKeep),
        2 => prop_oneof![10 => 0..60u64, 1 => Just(u64::MAX)].prop_map(Step::SetCapacity),
        1 => Just(Step::InvalidateAll),
        2 => key().prop_map(Step::Pin),
        2 => key().prop_map(Step::Unpin),
        1 => Just(Step::Iterate),
        1 => Just(Step::RunPendingTasks),
    ];
    prop::collection::vec(step, 1..90)
}

fn setups() -> impl Strategy<Value = Setup> {
    let bound = prop_oneof![3 => 4..50u64, 1 => 0..4u64];
    (
        prop::sample::select(policies()),
        prop::sample::select(vec![1, 4]),
        bound,
        prop::option::of(1..20u64),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(policy, segments, capacity, max_entries, weighed, listening)| Setup {
            policy,
            segments,
            capacity,
            max_entries,
            weighed,
            listening,
        })
}

/// A value: an identity that no other insert has, and what the weigher makes of it.
type Value = Counted<(u64, u64)>;
type Events = Arc<Mutex<Vec<(u64, u64, RemovalCause)>>>;

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    id: u64,
    weight: u64,
    /// Whether options gave the weight, so that updates keep it.
    own: bool,
    pinned: bool,
}

struct Model {
    setup: Setup,
    cache: Cache<u64, Value>,
    census: Census,
    events: Events,
    /// What is in the cache.
    entries: BTreeMap<u64, Entry>,
    next: u64,
    rejected: u64,
    evicted: u64,
}

/// What a step may make leave.
#[derive(Default)]
struct Allowed {
    /// Entries that must leave because of the user.
    explicit: BTreeSet<u64>,
    /// The one entry that is replaced, if it is there.
    replaced: Option<u64>,
    /// The entry that comes.
    arrival: Option<(u64, Entry)>,
    /// Whether the policy may evict.
    evict: bool,
    /// Whether even pinned entries may go.
    pins_too: bool,
}

impl Model {
    fn new(setup: Setup) -> Self {
        let events: Events = Arc::default();
        let mut builder = Cache::builder()
            .max_capacity(setup.capacity)
            .segments(setup.segments)
            .eviction_policy(setup.policy.clone())
            .record_stats();
        if setup.weighed {
            builder = builder.weigher(|_, value: &Value| value.what.1);
        }
        if let Some(entries) = setup.max_entries {
            builder = builder.max_entries(entries);
        }
        if setup.listening {
            let log = Arc::clone(&events);
            builder = builder.eviction_listener(move |key: &u64, value: &Value, cause| {
                log.lock().unwrap().push((*key, value.what.0, cause));
            });
        }
        let cache = builder.build().unwrap();
        let census = Census::default();
        Self { setup, cache, census, events, entries: BTreeMap::new(), next: 0, rejected: 0, evicted: 0 }
    }

    fn value(&mut self, weight: u64) -> Value {
        self.next += 1;
        self.census.count((self.next, weight))
    }

    fn id_of(&self, key: u64) -> Option<u64> {
        self.entries.get(&key).map(|entry| entry.id)
    }

    /// What a write of `key` allows.
    fn arrival(&self, key: u64, weight: u64, option: Option<u64>, pin: Option<bool>) -> Allowed {
        let by_weigher = if self.setup.weighed { weight } else { 1 };
        let pinned = pin.unwrap_or_else(|| self.entries.get(&key).is_some_and(|entry| entry.pinned));
        let entry =
            Entry { id: self.next, weight: option.unwrap_or(by_weigher), own: option.is_some(), pinned };
        Allowed { replaced: self.id_of(key), arrival: Some((key, entry)), evict: true, ..Allowed::default() }
    }

    fn updated(&self, key: u64, weight: u64) -> Allowed {
        let own = self.entries.get(&key).and_then(|entry| entry.own.then_some(entry.weight));
        self.arrival(key, weight, own, None)
    }

    fn explicit(&self, keys: impl IntoIterator<Item = u64>) -> Allowed {
        Allowed {
            explicit: keys.into_iter().filter_map(|key| self.id_of(key)).collect(),
            ..Allowed::default()
        }
    }

    fn run(&mut self, step: &Step) {
        let cache = self.cache.clone();
        let id = |value: Option<Value>| value.map(|value| value.what.0);
        let allowed = match *step {
            Step::Insert(key, weight) => {
                let value = self.value(weight);
                cache.insert(key, value);
                self.arrival(key, weight, None, None)
            }
            Step::InsertWith(key, weight, option, pin) => {
                let value = self.value(weight);
                let mut options = InsertOptions::new();
                if let Some(weight) = option {
                    options = options.weight(weight);
                }
                if let Some(pinned) = pin {
                    options = options.pinned(pinned);
                }
                cache.insert_with(key, value, options);
                self.arrival(key, weight, option, pin)
            }
            Step::Get(key) => {
                assert_eq!(id(cache.get(&key)), self.id_of(key));
                Allowed::default()
            }
            Step::With(key) => {
                assert_eq!(cache.with(&key, |value| value.what.0), self.id_of(key));
                Allowed::default()
            }
            Step::Peek(key) => {
                assert_eq!(id(cache.peek(&key)), self.id_of(key));
                Allowed::default()
            }
            Step::Contains(key) => {
                assert_eq!(cache.contains_key(&key), self.id_of(key).is_some());
                Allowed::default()
            }
            Step::GetMany(a, b) => {
                let found: Vec<_> = cache.get_many(&[a, b, a]).into_iter().map(id).collect();
                assert_eq!(found, [self.id_of(a), self.id_of(b), self.id_of(a)]);
                Allowed::default()
            }
            Step::Remove(key) => {
                assert_eq!(id(cache.remove(&key)), self.id_of(key));
                self.explicit([key])
            }
            Step::Invalidate(key) => {
                assert_eq!(cache.invalidate(&key), self.id_of(key).is_some());
                self.explicit([key])
            }
            Step::RemoveIf(key, yes) => {
                assert_eq!(id(cache.remove_if(&key, |_, _| yes)), self.id_of(key).filter(|_| yes));
                self.explicit(yes.then_some(key))
            }
            Step::Retain(n) => {
                cache.retain(|key, _| key % n == 0);
                self.explicit((0..KEYS).filter(|key| key % n != 0))
            }
            Step::Drain(n) => {
                let drained: BTreeMap<_, _> = cache.drain().take(n).map(|(k, v)| (k, v.what.0)).collect();
                assert_eq!(drained.len(), n.min(self.entries.len()));
                assert!(drained.into_iter().all(|(key, id)| self.id_of(key) == Some(id)));
                self.explicit(0..KEYS)
            }
            Step::OrInsert(key, weight) => {
                let value = self.value(weight);
                let given = cache.entry(key).or_insert(value);
                assert_eq!(given.what.0, self.id_of(key).unwrap_or(self.next));
                match self.id_of(key) {
                    Some(_) => Allowed::default(),
                    None => self.arrival(key, weight, None, None),
                }
            }
            Step::Upsert(key, weight) => {
                let value = self.value(weight);
                let mut seen = Vec::new();
                let given = cache.entry(key).and_upsert_with(|now| {
                    seen.push(now.map(|value| value.what.0));
                    value.clone()
                });
                assert_eq!((seen, given.what.0), (vec![self.id_of(key)], self.next));
                self.updated(key, weight)
            }
            Step::ComputeInsert(key, weight) => {
                let value = self.value(weight);
                let mut seen = Vec::new();
                let computed = cache.compute(key, |now| {
                    seen.push(now.map(|value| value.what.0));
                    Op::Insert(value.clone())
                });
                assert_eq!(seen, [self.id_of(key)]);
                let allowed = self.updated(key, weight);
                match computed {
                    Computed::Inserted(value) => {
                        assert_eq!((value.what.0, self.id_of(key)), (self.next, None));
                    }
                    Computed::Replaced(value) => {
                        assert_eq!(value.what.0, self.next);
                        assert!(self.id_of(key).is_some());
                    }
                    Computed::Rejected(value) => {
                        assert_eq!((value.what.0, cache.contains_key(&key)), (self.next, false));
                    }
                    other => panic!("{other:?}"),
                }
                allowed
            }
            Step::ComputeRemove(key) => {
                let computed = cache.compute(key, |_| Op::Remove);
                match (computed, self.id_of(key)) {
                    (Computed::Removed(value), Some(id)) => assert_eq!(value.what.0, id),
                    (Computed::Absent, None) => {}
                    other => panic!("{other:?}"),
                }
                self.explicit([key])
            }
            Step::ComputeKeep(key) => {
                assert_eq!(id(cache.compute(key, |_| Op::Keep).into_value()), self.id_of(key));
                Allowed::default()
            }
            Step::SetCapacity(capacity) => {
                cache.set_capacity(capacity);
                self.setup.capacity = capacity;
                Allowed {
                    evict: true,
                    pins_too: self.pinned_weight() > capacity || capacity == 0,
                    ..Allowed::default()
                }
            }
            Step::InvalidateAll => {
                cache.invalidate_all();
                self.explicit(0..KEYS)
            }
            Step::Pin(key) | Step::Unpin(key) => {
                let pinned = matches!(step, Step::Pin(_));
                let found = if pinned { cache.pin(&key) } else { cache.unpin(&key) };
                assert_eq!(found, self.id_of(key).is_some());
                if let Some(entry) = self.entries.get_mut(&key) {
                    entry.pinned = pinned;
                }
                Allowed::default()
            }
            Step::Iterate => Allowed::default(),
            Step::RunPendingTasks => {
                cache.run_pending_tasks();
                Allowed::default()
            }
        };
        self.account(allowed);
        self.check();
    }

    fn pinned_weight(&self) -> u64 {
        self.entries
            .values()
            .filter(|entry| entry.pinned)
            .fold(0, |sum, entry| sum.saturating_add(entry.weight))
    }

    /// Works out what has left, and checks that it was allowed to, for the cause that was given.
    fn account(&mut self, allowed: Allowed) {
        let before = self.entries.clone();
        let mut all: BTreeMap<u64, (u64, Entry)> =
            before.iter().map(|(key, entry)| (entry.id, (*key, entry.clone()))).collect();
        if let Some((key, entry)) = &allowed.arrival {
            all.insert(entry.id, (*key, entry.clone()));
        }
        let left = if self.setup.listening {
            std::mem::take(&mut *self.events.lock().unwrap())
        } else {
            self.guess(&all, &allowed)
        };
        for (key, id, cause) in left {
            let (known, entry) =
                all.remove(&id).unwrap_or_else(|| panic!("{id} of {key} leaves a second time"));
            assert_eq!(known, key);
            let is_arrival = allowed.arrival.as_ref().is_some_and(|(_, arrival)| arrival.id == id);
            match cause {
                RemovalCause::Explicit => assert!(allowed.explicit.contains(&id), "nobody removed {key}"),
                RemovalCause::Replaced => assert_eq!(allowed.replaced, Some(id), "nobody replaced {key}"),
                RemovalCause::Size => {
                    self.evicted += 1;
                    assert!(allowed.evict, "this evicts nothing");
                    assert!(allowed.replaced != Some(id), "{key} was replaced, not evicted");
                    assert!(allowed.pins_too || !entry.pinned, "{key} was pinned");
                    assert!(self.makes_room(&entry), "{key} went in vain");
                }
                RemovalCause::Rejected => {
                    self.rejected += 1;
                    assert!(is_arrival, "{key} was in");
                    self.check_refusal(&entry, &before);
                }
                other => panic!("{other}"),
            }
        }
        let kept = |id: &u64| all.contains_key(id);
        assert!(!allowed.explicit.iter().any(kept), "what was removed is still there");
        assert!(!allowed.replaced.iter().any(kept), "what was replaced is still there");
        self.entries = all.into_values().collect();
        if let Some((_, entry)) = &allowed.arrival {
            let is_in = self.entries.values().any(|other| other.id == entry.id);
            assert!(!is_in || entry.weight <= self.setup.capacity && self.setup.capacity > 0);
        }
    }

    /// Whether an entry may be evicted: by its weight, for its place, or because nothing is kept.
    fn makes_room(&self, entry: &Entry) -> bool {
        entry.weight > 0 || self.setup.max_entries.is_some() || self.setup.capacity == 0
    }

    /// Without a listener: what is not there any more has left, for the only cause there can be.
    fn guess(&self, all: &BTreeMap<u64, (u64, Entry)>, allowed: &Allowed) -> Vec<(u64, u64, RemovalCause)> {
        let left: BTreeMap<u64, u64> = self.cache.iter().map(|(key, value)| (value.what.0, key)).collect();
        let stats = self.cache.stats();
        assert!(
            left.iter().all(|(id, key)| all.get(id).is_some_and(|(known, _)| known == key)),
            "out of nothing"
        );
        let gone = all.iter().filter(|(id, _)| !left.contains_key(id));
        gone.map(|(&id, &(key, _))| {
            let cause = if allowed.explicit.contains(&id) {
                RemovalCause::Explicit
            } else if allowed.replaced == Some(id) {
                RemovalCause::Replaced
            } else if allowed.arrival.as_ref().is_some_and(|(_, arrival)| arrival.id == id)
                && stats.rejection_count() > self.rejected
            {
                RemovalCause::Rejected
            } else {
                RemovalCause::Size
            };
            (key, id, cause)
        })
        .collect()
    }

    /// An entry may be refused only if it cannot fit.
    fn check_refusal(&self, entry: &Entry, before: &BTreeMap<u64, Entry>) {
        let capacity = self.setup.capacity;
        let pins = before.values().any(|entry| entry.pinned);
        let beside_pins = capacity.saturating_sub(self.pinned_weight());
        assert!(
            entry.weight > beside_pins || capacity == 0 || self.setup.max_entries.is_some() || pins,
            "{entry:?} fits into {capacity}"
        );
    }

    fn check(&self) {
        let cache = &self.cache;
        cache.validate();
        let expected: BTreeMap<u64, u64> = self.entries.iter().map(|(key, entry)| (*key, entry.id)).collect();
        let mut seen = BTreeMap::new();
        for (key, value) in cache.iter() {
            assert_eq!(seen.insert(key, value.what.0), None, "{key} came twice");
        }
        assert_eq!(seen, expected, "iter");
        let mut keys: Vec<u64> = cache.keys().collect();
        keys.sort_unstable();
        assert!(keys.iter().eq(expected.keys()), "keys");
        for key in 0..KEYS {
            assert_eq!(cache.peek(&key).map(|value| value.what.0), expected.get(&key).copied(), "peek");
        }
        let weight: u64 = self.entries.values().map(|entry| entry.weight).sum();
        assert_eq!((cache.len(), cache.weighted_size()), (expected.len(), weight));
        assert_eq!((cache.capacity(), cache.is_empty()), (self.setup.capacity, expected.is_empty()));
        assert!(weight <= self.setup.capacity);
        assert!(self.setup.max_entries.is_none_or(|most| expected.len() as u64 <= most));
        let is_ordered = |entry: &Entry| !entry.pinned && self.makes_room(entry);
        let ordered: BTreeSet<u64> =
            self.entries.iter().filter(|(_, entry)| is_ordered(entry)).map(|(key, _)| *key).collect();
        for walked in [cache.coldest(usize::MAX), cache.hottest(usize::MAX)] {
            assert_eq!(walked.len(), ordered.len(), "the policy's order has each entry once");
            assert!(walked.iter().all(|(key, _)| ordered.contains(key)), "the policy's order");
        }
        let stats = cache.stats();
        assert_eq!((stats.eviction_count(), stats.rejection_count()), (self.evicted, self.rejected));
    }

    fn finish(self) {
        let Self { cache, census, entries, .. } = self;
        settle(&cache);
        let len = entries.len() as i64;
        // Other cases of this process may be held up by readers of theirs, this one has none; but it may be their turn.
        assert!(census.living() >= len);
        drop(cache);
        assert_eq!(census.living(), 0, "each value is dropped once");
    }
}

/// `ProptestConfig` with the number of cases that the environment asks for.
fn config(cases: usize) -> ProptestConfig {
    let cases = size_from("LARDER_CASES", cases, 3) as u32;
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(1_500))]

    #[test]
    fn any_cache_is_a_map_that_forgets(setup in setups(), steps in steps()) {
        let mut model = Model::new(setup);
        for step in &steps {
            model.run(step);
        }
        model.finish();
    }
}

/// Knows exactly what a policy keeps: keys in the order of the policy's queue.
#[derive(Clone, Debug)]
struct Exact {
    name: &'static str,
    capacity: usize,
    /// Keys, the mark of SIEVE.
    queue: Vec<(u64, bool)>,
    hand: usize,
}

impl Exact {
    fn position(&self, key: u64) -> Option<usize> {
        self.queue.iter().position(|entry| entry.0 == key)
    }

    fn read(&mut self, key: u64) {
        let Some(at) = self.position(key) else { return };
        match self.name {
            "lru" => {
                let entry = self.queue.remove(at);
                self.queue.push(entry);
            }
            "sieve" => self.queue[at].1 = true,
            _ => {}
        }
    }

    fn insert(&mut self, key: u64) {
        if self.position(key).is_some() {
            return self.read(key);
        }
        if self.capacity == 0 {
            return;
        }
        while self.queue.len() >= self.capacity {
            self.evict();
        }
        // A hand that has run past the newest entry starts again at the oldest.
        if self.hand >= self.queue.len() {
            self.hand = 0;
        }
        self.queue.push((key, false));
    }

    fn evict(&mut self) {
        if self.name != "sieve" {
            self.queue.remove(0);
            return;
        }
        loop {
            if self.hand >= self.queue.len() {
                self.hand = 0;
            }
            if !self.queue[self.hand].1 {
                self.queue.remove(self.hand);
                return;
            }
            self.queue[self.hand].1 = false;
            self.hand += 1;
        }
    }

    fn remove(&mut self, key: u64) {
        if let Some(at) = self.position(key) {
            self.queue.remove(at);
            if at < self.hand {
                self.hand -= 1;
            }
        }
    }

    fn resize(&mut self, capacity: usize) {
        self.capacity = capacity;
        while self.queue.len() > capacity {
            self.evict();
        }
    }

    /// The keys that would leave next, if nobody reads.
    fn coldest(&self) -> Vec<u64> {
        let mut entries = self.queue.clone();
        if !entries.is_empty() {
            let start = self.hand % entries.len();
            entries.rotate_left(start);
        }
        entries.sort_by_key(|entry| entry.1);
        entries.iter().map(|entry| entry.0).collect()
    }
}

#[derive(Clone, Debug)]
enum ExactStep {
    Insert(u64),
    Get(u64),
    Peek(u64),
    GetMany(u64, u64),
    Remove(u64),
    Upsert(u64),
    OrInsert(u64),
    Retain(u64),
    Resize(u64),
    Clear,
}

fn exact_steps() -> impl Strategy<Value = Vec<ExactStep>> {
    let key = || 0..20u64;
    let step = prop_oneof![
        12 => key().prop_map(ExactStep::Insert),
        12 => key().prop_map(ExactStep::Get),
        2 => key().prop_map(ExactStep::Peek),
        1 => (key(), key()).prop_map(|(a, b)| ExactStep::GetMany(a, b)),
        3 => key().prop_map(ExactStep::Remove),
        2 => key().prop_map(ExactStep::Upsert),
        2 => key().prop_map(ExactStep::OrInsert),
        1 => (2..9u64).prop_map(ExactStep::Retain),
        1 => (0..16u64).prop_map(ExactStep::Resize),
        1 => Just(ExactStep::Clear),
    ];
    prop::collection::vec(step, 1..160)
}

proptest! {
    #![proptest_config(config(1_000))]

    #[test]
    fn fifo_lru_and_sieve_keep_exactly_what_they_should(
        name in prop::sample::select(vec!["fifo", "lru", "sieve"]),
        capacity in 1..14u64,
        steps in exact_steps(),
    ) {
        let cache: Cache<u64, u64> = Cache::builder()
            .max_capacity(capacity)
            .segments(1)
            .eviction_policy(name.parse().unwrap())
            .build()
            .unwrap();
        let mut model = Exact { name, capacity: capacity as usize, queue: Vec::new(), hand: 0 };
        for (value, step) in steps.into_iter().enumerate() {
            let value = value as u64;
            match step {
                ExactStep::Insert(key) => {
                    cache.insert(key, value);
                    model.insert(key);
                }
                ExactStep::Get(key) => {
                    prop_assert_eq!(cache.get(&key).is_some(), model.position(key).is_some());
                    model.read(key);
                }
                ExactStep::Peek(key) => {
                    prop_assert_eq!(cache.peek(&key).is_some(), model.position(key).is_some());
                }
                ExactStep::GetMany(a, b) => {
                    cache.get_many(&[a, b]);
                    model.read(a);
                    model.read(b);
                }
                ExactStep::Remove(key) => {
                    prop_assert_eq!(cache.remove(&key).is_some(), model.position(key).is_some());
                    model.remove(key);
                }
                ExactStep::Upsert(key) => {
                    cache.entry(key).and_upsert_with(|_| value);
                    model.insert(key);
                }
                ExactStep::OrInsert(key) => {
                    cache.entry(key).or_insert(value);
                    // A read, if it is there.
                    model.insert(key);
                }
                ExactStep::Retain(n) => {
                    cache.retain(|key, _| key % n != 0);
                    (0..20).filter(|key| key % n == 0).for_each(|key| model.remove(key));
                }
                ExactStep::Resize(capacity) => {
                    cache.set_capacity(capacity);
                    model.resize(capacity as usize);
                }
                ExactStep::Clear => {
                    cache.invalidate_all();
                    // The hand's place is of no matter when nothing is left.
                    (0..20).for_each(|key| model.remove(key));
                }
            }
            cache.validate();
            let order: Vec<u64> = cache.coldest(usize::MAX).into_iter().map(|(key, _)| key).collect();
            prop_assert_eq!(order, model.coldest());
            prop_assert_eq!(cache.len(), model.queue.len());
        }
    }
}
