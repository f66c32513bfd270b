//! Tests of all policies: what comes back from a snapshot decides as what went into it, and nothing else does harm.

use super::sim::{Op, Saved, Sim, Snapshot, capacities, for_many, hash_of, ops, run, run_alike};
use super::{End, Entries, EvictionPolicy, Policy, Reads, Slot};
use crate::removal::RemovalCause;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::ops::ControlFlow;

const ALL: [&str; 7] = ["s3_lirs", "tiny_lfu", "s3_fifo", "sieve", "lru", "lfu", "fifo"];
/// How many random runs make a test of all policies.
const RUNS: u32 = 100;
/// Hashes differ.
const SALT: u64 = 1 << 40;

fn made(name: &str, capacity: u64) -> Box<dyn Policy> {
    Box::new(name.parse::<EvictionPolicy>().unwrap().make(capacity))
}

fn started(name: &str, capacity: u64) -> Sim {
    Sim::new(made(name, capacity), capacity)
}

/// The cache as it comes back in another process.
fn restarted(name: &str, old: &Sim, capacity: u64, salt: u64) -> Sim {
    let mut new = old.restarted(made(name, capacity), salt);
    new.restore(&old.save(), salt == 0);
    new.validate();
    new
}

#[test]
#[cfg_attr(miri, ignore = "too long for Miri")]
fn a_restart_changes_nothing() {
    for_many(RUNS, (capacities(), ops(), ops()), |(capacity, before, after)| {
        // What a ghost has grown to tells which capacities there were.
        let is_steady = |op: &Op| !matches!(op, Op::Pin(_) | Op::SetCapacity(_));
        let before: Vec<Op> = before.into_iter().filter(is_steady).collect();
        for name in ALL {
            let mut old = started(name, capacity);
            run(&mut old, &before);
            let mut new = restarted(name, &old, capacity, 0);
            assert_eq!(new.save(), old.save(), "{name}");
            run_alike(&mut old, &mut new, &after);
        }
    });
}

#[test]
#[cfg_attr(miri, ignore = "too long for Miri")]
fn a_restart_after_changes_of_the_capacity_keeps_the_entries() {
    for_many(RUNS, (capacities(), ops(), ops()), |(capacity, before, after)| {
        for name in ALL {
            let mut old = started(name, capacity);
            run(&mut old, &before);
            let mut new = restarted(name, &old, old.capacity(), 0);
            assert_eq!(new.save().entries, old.save().entries, "{name}");
            if new.save() == old.save() {
                run_alike(&mut old, &mut new, &after);
            } else {
                assert!(["s3_lirs", "s3_fifo"].contains(&name), "{name} has no ghost, but forgets");
                run(&mut new, &after);
            }
        }
    });
}

#[test]
#[cfg_attr(miri, ignore = "too long for Miri")]
fn other_hashes_leave_the_order() {
    for_many(RUNS, (capacities(), ops(), ops()), |(capacity, before, after)| {
        for name in ALL {
            let mut old = started(name, capacity);
            run(&mut old, &before);
            let mut new = restarted(name, &old, old.capacity(), SALT);
            assert_eq!(new.order(End::Coldest), old.order(End::Coldest), "{name}");
            run(&mut new, &after);
        }
    });
}

/// A popular few and a scan, as many times over as the cache holds; says what was hit.
fn busy(sim: &mut Sim, capacity: u64, from: u64, steps: u64) -> Vec<bool> {
    let mut ask = |key| {
        let hit = sim.get(key);
        if !hit {
            sim.insert(key, 1);
        }
        hit
    };
    let popular = |now| hash_of(now) % capacity * (hash_of(now ^ 1) % 1_000) / 1_000;
    (from..from + steps).flat_map(|now| [popular(now), popular(!now), capacity + now]).map(&mut ask).collect()
}

/// Large enough for clocks and sketches that count in more than one step.
#[test]
#[cfg_attr(miri, ignore = "too long for Miri")]
fn a_large_one_goes_on_too() {
    const CAPACITY: u64 = 10_000;
    for name in ALL {
        let mut old = started(name, CAPACITY);
        busy(&mut old, CAPACITY, 0, 12_345);
        let mut new = restarted(name, &old, CAPACITY, 0);
        assert_eq!(new.save(), old.save(), "{name}");
        let [expected, hits] = [&mut old, &mut new].map(|sim| busy(sim, CAPACITY, 12_345, 10_000));
        assert!(hits == expected, "{name} has other hits");
        assert_eq!(new.order(End::Coldest), old.order(End::Coldest), "{name}");
    }
}

/// What TinyLFU knows of its entries survives other hashes, and then they withstand a scan at once.
#[test]
#[cfg_attr(miri, ignore = "too long for Miri")]
fn frequencies_survive_other_hashes() {
    let mut old = started("tiny_lfu", 100);
    for _ in 0..8 {
        for key in 0..95 {
            if !old.get(key) {
                old.insert(key, 1);
            }
        }
        (0..15).for_each(|key| _ = old.insert(1_000 + key, 1));
    }
    let uses = |sim: &Sim| {
        let mut uses: Vec<_> = sim.save().entries.iter().map(|entry| (entry.key, entry.note >> 2)).collect();
        uses.sort_unstable();
        uses
    };
    let new = restarted("tiny_lfu", &old, 100, SALT);
    let exact = uses(&old).iter().zip(uses(&new)).filter(|&(before, after)| *before == after).count();
    assert!(uses(&old).iter().zip(uses(&new)).all(|(before, after)| after.1 >= before.1));
    assert!(exact > 90, "{exact} of 100 have the frequency that they had");
    assert!(uses(&old).iter().map(|entry| entry.1).sum::<u64>() > 200);
}

#[test]
#[cfg_attr(miri, ignore = "too long for Miri")]
fn a_smaller_cache_keeps_its_books_and_a_larger_one_all() {
    for name in ALL {
        for capacity in [100, 1_000] {
            let mut old = started(name, capacity);
            busy(&mut old, capacity, 0, 3 * capacity);
            let order = old.order(End::Hottest);
            for part in [0, 1, capacity / 3, capacity * 3 / 4, capacity * 3] {
                let mut new = Sim::new(made(name, part), part);
                new.restore(&old.save(), true);
                new.validate();
                let kept = order.len().min(part as usize);
                assert_eq!(new.order(End::Hottest).len(), kept);
                if part > capacity || ["lru", "lfu", "fifo"].contains(&name) {
                    assert_eq!(new.order(End::Hottest), order[..kept], "{name}");
                }
                busy(&mut new, part.max(1), 0, 2 * part);
                new.validate();
                assert_eq!(new.evict_all().len(), part as usize);
            }
        }
    }
}

/// A ghost that was made for another capacity still knows who comes back.
#[test]
#[cfg_attr(miri, ignore = "too long for Miri")]
fn ghosts_survive_another_size() {
    for (name, in_main) in [("s3_lirs", 1 << 32), ("s3_fifo", 1)] {
        let mut old = started(name, 100);
        busy(&mut old, 100, 0, 300);
        // These pass through, and leave.
        (5_000..5_100).for_each(|key| _ = old.insert(key, 1));
        let order = old.order(End::Hottest);
        let left: Vec<u64> = (5_000..5_100).rev().filter(|key| !order.contains(key)).take(10).collect();
        for capacity in [60, 100, 101, 300, 5_000] {
            let mut new = Sim::new(made(name, capacity), capacity);
            new.restore(&old.save(), true);
            order.iter().take(30).for_each(|&key| _ = new.remove(key, RemovalCause::Explicit));
            let mut find_place = |key| {
                new.insert(key, 1);
                let entry = new.save().entries.into_iter().find(|entry| entry.key == key);
                u64::from(entry.unwrap().note >= in_main)
            };
            let known: u64 = left.iter().copied().map(&mut find_place).sum();
            let unknown: u64 = (6_000..6_010).map(&mut find_place).sum();
            assert!(known >= 8 && unknown == 0, "{name}, {capacity}: {known} and {unknown} of 10 are known");
        }
    }
}

/// A note or a word that may mean something somewhere.
fn word() -> impl Strategy<Value = u64> {
    let share = (-1.5..1.5f64).prop_map(f64::to_bits);
    let queue_and_time = (0..3u64, 0..64u64).prop_map(|(queue, time)| queue << 32 | time);
    let known = [f64::NAN.to_bits(), f64::INFINITY.to_bits(), (-0.0f64).to_bits(), u64::MAX, u64::MAX >> 1];
    prop_oneof![any::<u64>(), 0..70u64, queue_and_time, share, prop::sample::select(known.to_vec())]
}

#[derive(Clone, Debug)]
enum Tampering {
    Nothing,
    Words(Vec<u64>),
    Change(Vec<(prop::sample::Index, u64)>),
    Cut(prop::sample::Index),
    Add(Vec<u64>),
}

fn tampering() -> impl Strategy<Value = Tampering> {
    let words = || prop::collection::vec(word(), 0..100);
    prop_oneof![
        Just(Tampering::Nothing),
        words().prop_map(Tampering::Words),
        prop::collection::vec((any::<prop::sample::Index>(), word()), 1..8).prop_map(Tampering::Change),
        any::<prop::sample::Index>().prop_map(Tampering::Cut),
        words().prop_map(Tampering::Add),
    ]
}

fn tamper(words: &mut Vec<u64>, tampering: &Tampering) {
    match tampering {
        Tampering::Nothing => {}
        Tampering::Words(others) => words.clone_from(others),
        Tampering::Change(changes) if !words.is_empty() => {
            for (at, word) in changes {
                let at = at.index(words.len());
                words[at] = *word;
            }
        }
        Tampering::Change(_) => {}
        Tampering::Cut(at) => words.truncate(at.index(words.len() + 1)),
        Tampering::Add(more) => words.extend(more),
    }
}

/// Any notes, words and marks, into a cache of any size that is in use: its books add up, and it goes on.
#[test]
#[cfg_attr(miri, ignore = "too long for Miri")]
fn no_snapshot_does_harm() {
    let saved = (0..40u64, 0..4u64, any::<u8>(), word());
    let entries = prop::collection::vec(saved, 0..30);
    let rest = (tampering(), any::<bool>(), prop::sample::select(ALL.to_vec()));
    for_many(RUNS, (capacities(), capacities(), ops(), ops(), entries, rest), |case| {
        let (capacity, other, before, after, entries, (tampering, same_hashes, from)) = case;
        let mut old = started(from, capacity);
        run(&mut old, &before);
        let Snapshot { entries: own, mut rest } = old.save();
        tamper(&mut rest, &tampering);
        let made_up = entries.iter().map(|&(key, weight, mark, note)| Saved { key, weight, mark, note });
        let entries: Vec<_> = own.into_iter().rev().chain(made_up).collect();
        for name in ALL {
            let mut new = started(name, other);
            let mut meanwhile = after.chunks(4);
            for saved in &entries {
                new.restore_entry(saved);
                new.validate();
                run(&mut new, meanwhile.next().unwrap_or_default());
            }
            new.restore_rest(&rest, same_hashes);
            new.validate();
            run(&mut new, &after);
            let len = new.order(End::Coldest).len();
            assert_eq!(new.evict_all().len(), len);
            // Empty, it goes on as well.
            run(&mut new, &before);
        }
    });
}

/// A queue that leaves all to the defaults.
#[derive(Default)]
struct Plain(VecDeque<Slot>);

impl Policy for Plain {
    fn reads(&self) -> Reads {
        Reads::Ignored
    }
    fn insert(&mut self, slot: Slot, _: Entries<'_>) {
        self.0.push_back(slot);
    }
    fn moved(&mut self, old: Slot, new: Slot, _: Entries<'_>) {
        for slot in self.0.iter_mut().filter(|slot| **slot == old) {
            *slot = new;
        }
    }
    fn evict(&mut self, _: Entries<'_>) -> Option<Slot> {
        self.0.pop_front()
    }
    fn remove(&mut self, slot: Slot, _: RemovalCause, _: Entries<'_>) {
        self.0.retain(|&other| other != slot);
    }
    fn walk(&self, from: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>) {
        let _ = match from {
            End::Coldest => self.0.iter().copied().try_for_each(visit),
            End::Hottest => self.0.iter().rev().copied().try_for_each(visit),
        };
    }
}

/// The example of the module: its newcomers leave first.
#[derive(Default)]
struct Mru(Plain);

impl Policy for Mru {
    fn reads(&self) -> Reads {
        Reads::Ignored
    }
    fn insert(&mut self, slot: Slot, entries: Entries<'_>) {
        self.0.insert(slot, entries);
    }
    fn moved(&mut self, old: Slot, new: Slot, entries: Entries<'_>) {
        self.0.moved(old, new, entries);
    }
    fn evict(&mut self, _: Entries<'_>) -> Option<Slot> {
        self.0.0.pop_back()
    }
    fn remove(&mut self, slot: Slot, cause: RemovalCause, entries: Entries<'_>) {
        self.0.remove(slot, cause, entries);
    }
    fn walk(&self, from: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>) {
        self.0.walk(if from == End::Coldest { End::Hottest } else { End::Coldest }, visit);
    }
    fn restore(&mut self, slot: Slot, _: u64, _: Entries<'_>) {
        self.0.0.push_front(slot);
    }
}

#[test]
fn the_defaults_keep_the_order() {
    let makes: [fn() -> Box<dyn Policy>; 2] = [|| Box::<Plain>::default(), || Box::<Mru>::default()];
    for_many(RUNS, (capacities(), ops(), ops()), |(capacity, before, after)| {
        for make in makes {
            let mut old = Sim::new(make(), capacity);
            run(&mut old, &before);
            let mut new = old.restarted(make(), SALT);
            new.restore(&old.save(), false);
            run_alike(&mut old, &mut new, &after);
        }
    });
}
