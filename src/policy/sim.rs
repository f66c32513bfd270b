//! A cache without keys' and values' types, threads or time, to drive a policy as the trait's contract says.

use super::{End, Entries, Policy, Reads, Slot};
use crate::removal::RemovalCause;
use crate::table::Headers;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::HashMap;
use std::ops::ControlFlow;

/// A policy written naively, over keys. It need not bound its work.
pub(super) trait Oracle {
    fn set_capacity(&mut self, _capacity: u64) {}
    fn reserve(&mut self, _slots: usize) {}
    fn admit(&mut self, _key: u64, _weight: u64) {}
    /// Told before `insert` and whenever a key's weight changes.
    fn weigh(&mut self, _key: u64, _weight: u64) {}
    fn insert(&mut self, key: u64);
    fn read(&mut self, key: u64);
    fn victim(&mut self) -> Option<u64>;
    fn remove(&mut self, key: u64, cause: RemovalCause);
    /// All keys, the coldest first, if the oracle says.
    fn order(&self) -> Option<Vec<u64>>;
}

/// The hash that a cache would give: 48 well-mixed bits.
pub(super) fn hash_of(key: u64) -> u64 {
    let mut x = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) & ((1 << 48) - 1)
}

/// By slot: keys, weights, and the headers that a table would have.
struct Book {
    keys: Vec<u64>,
    weights: Vec<u64>,
    headers: Headers,
}

impl Book {
    fn entries(&self) -> Entries<'_> {
        Entries::new(&self.headers.cells, &self.weights)
    }

    fn key(&self, slot: Slot) -> u64 {
        self.keys[slot.index()]
    }

    fn weight(&self, slot: Slot) -> u64 {
        self.weights[slot.index()]
    }
}

/// An entry in a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Saved {
    pub(super) key: u64,
    pub(super) weight: u64,
    pub(super) mark: u8,
    pub(super) note: u64,
}

/// What a cache would keep of itself: entries, the hottest first, and the rest.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Snapshot {
    pub(super) entries: Vec<Saved>,
    pub(super) rest: Vec<u64>,
}

/// How many slots are reserved at a time.
const CHUNK: usize = 16;

pub(super) struct Sim {
    policy: Box<dyn Policy>,
    oracle: Option<Box<dyn Oracle>>,
    reads: Reads,
    /// Another one makes other hashes.
    salt: u64,
    book: Book,
    index: HashMap<u64, Slot>,
    pinned: HashMap<u64, Slot>,
    free: Vec<Slot>,
    reserved: usize,
    capacity: u64,
    weight: u64,
    pinned_weight: u64,
}

impl Sim {
    pub(super) fn new(policy: Box<dyn Policy>, capacity: u64) -> Self {
        Self {
            reads: policy.reads(),
            policy,
            oracle: None,
            salt: 0,
            book: Book { keys: Vec::new(), weights: Vec::new(), headers: Headers::new() },
            index: HashMap::new(),
            pinned: HashMap::new(),
            free: Vec::new(),
            reserved: 0,
            capacity,
            weight: 0,
            pinned_weight: 0,
        }
    }

    fn hash(&self, key: u64) -> u64 {
        hash_of(key ^ self.salt)
    }

    fn tell(&mut self, tell: impl FnOnce(&mut dyn Oracle)) {
        if let Some(oracle) = &mut self.oracle {
            tell(&mut **oracle);
        }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(super) fn get(&mut self, key: u64) -> bool {
        if let Some(&slot) = self.pinned.get(&key) {
            // Its slot has left the policy: that a read of it is told means nothing.
            self.read(slot);
            return true;
        }
        let Some(&slot) = self.index.get(&key) else { return false };
        self.read(slot);
        self.tell(|oracle| oracle.read(key));
        true
    }

    fn read(&mut self, slot: Slot) {
        match self.reads {
            Reads::Ignored => {}
            Reads::Marked(most) => {
                let mark = self.book.entries().mark(slot);
                self.book.entries().set_mark(slot, (mark + 1).min(most));
            }
            Reads::Recorded => self.policy.hit(slot, self.book.entries()),
        }
    }

    /// Says whether the entry is in the cache.
    pub(super) fn insert(&mut self, key: u64, weight: u64) -> bool {
        if let Some(&slot) = self.pinned.get(&key) {
            let new = self.take_slot(key, self.book.weight(slot));
            self.policy.moved(slot, new, self.book.entries());
            self.free.push(slot);
            self.pinned.insert(key, new);
            return true;
        }
        if self.index.contains_key(&key) {
            return self.update(key, weight);
        }
        let hash = self.hash(key);
        if weight > self.capacity || !self.policy.admit(hash, weight, self.book.entries()) {
            return false;
        }
        // The cache may ask twice.
        if key.is_multiple_of(3) && !self.policy.admit(hash, weight, self.book.entries()) {
            return false;
        }
        self.tell(|oracle| oracle.admit(key, weight));
        if !self.make_room(weight) {
            return false;
        }
        let slot = self.take_slot(key, weight);
        self.weight += weight;
        self.index.insert(key, slot);
        self.tell(|oracle| {
            oracle.weigh(key, weight);
            oracle.insert(key);
        });
        self.policy.insert(slot, self.book.entries());
        true
    }

    fn update(&mut self, key: u64, weight: u64) -> bool {
        let old = self.index[&key];
        if weight > self.capacity {
            self.remove(key, RemovalCause::Rejected);
            return false;
        }
        let new = self.take_slot(key, weight);
        let entries = self.book.entries();
        entries.set_mark(new, entries.mark(old));
        self.weight = self.weight - self.book.weight(old) + weight;
        self.policy.moved(old, new, self.book.entries());
        self.index.insert(key, new);
        self.free.push(old);
        self.tell(|oracle| oracle.weigh(key, weight));
        self.get(key);
        self.make_room(0);
        self.index.contains_key(&key)
    }

    fn make_room(&mut self, weight: u64) -> bool {
        while self.weight.saturating_add(weight) > self.capacity {
            let victim = self.policy.evict(self.book.entries());
            let key = victim.map(|slot| self.book.key(slot));
            if let Some(oracle) = &mut self.oracle {
                assert_eq!(key, oracle.victim(), "another victim than the definition's");
            }
            let (Some(key), Some(slot)) = (key, victim) else {
                assert!(self.index.is_empty(), "no victim, though there are entries");
                return false;
            };
            assert_eq!(self.index.remove(&key), Some(slot), "the victim has left already");
            self.tell(|oracle| oracle.remove(key, RemovalCause::Size));
            self.weight -= self.book.weight(slot);
            self.free.push(slot);
        }
        true
    }

    pub(super) fn remove(&mut self, key: u64, cause: RemovalCause) -> bool {
        let Some(slot) = self.index.remove(&key) else { return false };
        self.tell(|oracle| oracle.remove(key, cause));
        self.policy.remove(slot, cause, self.book.entries());
        // What has left means nothing any more.
        self.policy.remove(slot, cause, self.book.entries());
        self.weight -= self.book.weight(slot);
        self.free.push(slot);
        true
    }

    /// Pins an entry, or lets a pinned one go.
    pub(super) fn pin(&mut self, key: u64) {
        if let Some(slot) = self.pinned.remove(&key) {
            self.index.insert(key, slot);
            self.weight += self.book.weight(slot);
            self.pinned_weight -= self.book.weight(slot);
            self.book.entries().set_mark(slot, 0);
            self.set_capacity(self.capacity + self.book.weight(slot));
            let weight = self.book.weight(slot);
            self.tell(|oracle| {
                oracle.weigh(key, weight);
                oracle.insert(key);
            });
            self.policy.insert(slot, self.book.entries());
        } else if let Some(slot) = self.index.remove(&key) {
            self.tell(|oracle| oracle.remove(key, RemovalCause::Explicit));
            self.policy.remove(slot, RemovalCause::Explicit, self.book.entries());
            self.weight -= self.book.weight(slot);
            self.pinned.insert(key, slot);
            self.pinned_weight += self.book.weight(slot);
            self.set_capacity(self.capacity - self.book.weight(slot));
        }
    }

    /// Changes what remains beside the pinned entries.
    pub(super) fn set_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
        self.policy.set_capacity(capacity);
        self.tell(|oracle| oracle.set_capacity(capacity));
        self.make_room(0);
    }

    fn take_slot(&mut self, key: u64, weight: u64) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.book.keys.push(0);
            self.book.weights.push(0);
            Slot::new(self.book.headers.add())
        });
        if self.book.keys.len() > self.reserved {
            self.reserved += CHUNK.max(self.reserved / 4);
            let reserved = self.reserved;
            self.policy.reserve(reserved);
            self.tell(|oracle| oracle.reserve(reserved));
        }
        self.book.keys[slot.index()] = key;
        self.book.weights[slot.index()] = weight;
        self.book.headers.fill(slot.number(), self.hash(key) << 16);
        slot
    }

    pub(super) fn save(&self) -> Snapshot {
        let (mut entries, view) = (Vec::new(), self.book.entries());
        self.policy.save(view, &mut |slot, note| {
            let (key, weight) = (self.book.key(slot), self.book.weight(slot));
            entries.push(Saved { key, weight, mark: view.mark(slot), note });
        });
        Snapshot { entries, rest: self.policy.save_rest() }
    }

    /// The cache after a restart, without its entries yet: as many slots, in a mixed order, and what was pinned.
    pub(super) fn restarted(&self, policy: Box<dyn Policy>, salt: u64) -> Self {
        let mut sim = Self { salt, ..Self::new(policy, self.capacity) };
        sim.free = (0..self.book.keys.len()).map(|_| sim.take_slot(0, 0)).collect();
        sim.free.sort_by_key(|slot| hash_of(u64::from(slot.number())));
        for (&key, &slot) in &self.pinned {
            let slot = sim.take_slot(key, self.book.weight(slot));
            sim.pinned.insert(key, slot);
        }
        sim.pinned_weight = self.pinned_weight;
        sim
    }

    pub(super) fn restore(&mut self, snapshot: &Snapshot, same_hashes: bool) {
        for saved in snapshot.entries.iter().rev() {
            self.restore_entry(saved);
        }
        self.restore_rest(&snapshot.rest, same_hashes);
    }

    /// What was written meanwhile stays as it is.
    pub(super) fn restore_entry(&mut self, saved: &Saved) {
        let &Saved { key, weight, mark, note } = saved;
        let is_known = self.index.contains_key(&key) || self.pinned.contains_key(&key);
        if is_known || weight > self.capacity || !self.make_room(weight) {
            return;
        }
        let slot = self.take_slot(key, weight);
        self.weight += weight;
        self.index.insert(key, slot);
        if let Reads::Marked(most) = self.reads {
            self.book.entries().set_mark(slot, mark.min(most));
        }
        self.policy.restore(slot, note, self.book.entries());
    }

    pub(super) fn restore_rest(&mut self, rest: &[u64], same_hashes: bool) {
        self.policy.restore_rest(rest, same_hashes);
    }

    /// Evicts entry by entry, and says in which order.
    pub(super) fn evict_all(&mut self) -> Vec<u64> {
        let mut keys = Vec::new();
        while let Some(slot) = self.policy.evict(self.book.entries()) {
            let key = self.book.key(slot);
            assert_eq!(self.index.remove(&key), Some(slot), "the victim has left already");
            self.weight -= self.book.weight(slot);
            self.free.push(slot);
            keys.push(key);
        }
        assert!(self.index.is_empty(), "no victim, though there are entries");
        keys
    }

    pub(super) fn order(&self, from: End) -> Vec<u64> {
        let mut keys = Vec::new();
        self.policy.walk(from, &mut |slot| {
            keys.push(self.book.key(slot));
            ControlFlow::Continue(())
        });
        keys
    }

    pub(super) fn validate(&self) {
        self.policy.validate(self.index.len(), self.book.entries());
        assert!(self.weight <= self.capacity);
        let order = self.order(End::Coldest);
        assert_eq!(order.len(), self.index.len(), "a walk visits each entry once");
        assert!(order.iter().all(|key| self.index.contains_key(key)), "a walk visits entries that have left");
        let mut reversed = self.order(End::Hottest);
        reversed.reverse();
        assert_eq!(order, reversed, "the two walks disagree");
        if !matches!(self.reads, Reads::Marked(_)) {
            let mut heats = Vec::new();
            self.policy.walk(End::Coldest, &mut |slot| {
                heats.push(self.policy.heat(slot, self.book.entries()));
                ControlFlow::Continue(())
            });
            assert!(heats.is_sorted(), "heat falls along the walk");
        }
        if let Some(expected) = self.oracle.as_ref().and_then(|oracle| oracle.order()) {
            assert_eq!(order, expected, "another order than the definition's");
        }
        let mut visits = 0;
        self.policy.walk(End::Coldest, &mut |_| {
            visits += 1;
            ControlFlow::Break(())
        });
        assert_eq!(visits, self.index.len().min(1), "a walk stops when told to");
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// A read, and on a miss an insert.
    ReadThrough(u64, u64),
    Insert(u64, u64),
    Remove(u64),
    Expire(u64),
    Pin(u64),
    SetCapacity(u64),
}

pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    // Skewed, so that some keys are read often.
    let key = || (0..20u64, 0..20u64).prop_map(|(a, b)| a.min(b));
    let weight = || prop_oneof![6 => Just(1u64), 3 => 0..4u64, 1 => 4..30u64];
    let op = prop_oneof![
        30 => (key(), weight()).prop_map(|(key, weight)| Op::ReadThrough(key, weight)),
        4 => (key(), weight()).prop_map(|(key, weight)| Op::Insert(key, weight)),
        2 => key().prop_map(Op::Remove),
        1 => key().prop_map(Op::Expire),
        1 => key().prop_map(Op::Pin),
        1 => prop_oneof![Just(0u64), Just(1), 2..24u64].prop_map(Op::SetCapacity),
    ];
    prop::collection::vec(op, 0..if cfg!(miri) { 40 } else { 250 })
}

/// Says what came of it, if anything.
fn step(sim: &mut Sim, op: Op) -> bool {
    match op {
        Op::ReadThrough(key, weight) => sim.get(key) || !sim.insert(key, weight),
        Op::Insert(key, weight) => sim.insert(key, weight),
        Op::Remove(key) => sim.remove(key, RemovalCause::Explicit),
        Op::Expire(key) => sim.remove(key, RemovalCause::Expired),
        Op::Pin(key) => {
            sim.pin(key);
            true
        }
        Op::SetCapacity(capacity) => {
            sim.set_capacity(capacity);
            true
        }
    }
}

pub(super) fn run(sim: &mut Sim, ops: &[Op]) {
    for &op in ops {
        step(sim, op);
        sim.validate();
    }
}

/// Whatever is done to both, the same comes of it.
pub(super) fn run_alike(a: &mut Sim, b: &mut Sim, ops: &[Op]) {
    for &op in ops {
        assert_eq!(step(a, op), step(b, op), "{op:?} has another outcome");
        assert_eq!(a.order(End::Coldest), b.order(End::Coldest), "another order after {op:?}");
        b.validate();
    }
    assert_eq!(a.save(), b.save());
}

/// How many random runs make a test of one policy.
const RUNS: u32 = 300;

pub(super) fn capacities() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0u64), 1 => Just(1), 8 => 2..20u64, 1 => Just(u64::MAX >> 1)]
}

pub(super) fn for_many<S: Strategy>(number: u32, cases: S, test: impl Fn(S::Value)) {
    let config = ProptestConfig {
        // Policies have no unsafe code: Miri is to see that they run, not that they are right.
        cases: if cfg!(miri) { 1 } else { number },
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let result = TestRunner::new(config).run(&cases, |case| {
        test(case);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Drives the policy and its definition side by side: same victims, same order, and books that add up after every step.
pub(super) fn check_against(policy: fn(u64) -> Box<dyn Policy>, oracle: fn(u64) -> Box<dyn Oracle>) {
    for_many(RUNS, (capacities(), ops()), |(capacity, ops)| {
        let mut sim = Sim::new(policy(capacity), capacity);
        sim.oracle = Some(oracle(capacity));
        run(&mut sim, &ops);
    });
}

/// Drives the policy alone: books that add up after every step, and a victim whenever there are entries.
pub(super) fn check(policy: fn(u64) -> Box<dyn Policy>) {
    for_many(RUNS, (capacities(), ops()), |(capacity, ops)| {
        run(&mut Sim::new(policy(capacity), capacity), &ops)
    });
}
