//! Invalidations that other threads get in between: what is removed, or found absent, leaves no load behind.
//!
//! Each test lets a load begin, and the key's entry leave by itself, at a chosen point inside an operation: where it calls the
//! `Eq`, `Hash` or `Clone` of a key, a predicate or the listener, without a lock. All of it runs in one thread, since a load
//! can be a future that the test polls by hand. Readers saw the entry until it left; so an operation that finds nothing takes
//! effect after that, and the load, which began before, must not be kept.
#![allow(missing_docs)]

mod common;

use common::loads::{Gate, Task};
use common::time::{TICK, for_some, secs};
use common::{for_all, logged};
use larder::{Cache, Clock, Computed, EvictionPolicy, InsertOptions, Op, RemovalCause};
use std::cell::{Cell, RefCell};
use std::future::ready;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

/// A key whose methods run what a test has put [there](arm).
#[derive(Debug)]
struct Key(u64);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Eq,
    Hash,
    Clone,
    Listener,
}

type Hook = (Call, usize, Box<dyn FnOnce()>);

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// Lets the `nth` of these calls in this thread, counted from 0, run a hook before it does its work.
fn arm(call: Call, nth: usize, hook: impl FnOnce() + 'static) {
    HOOK.set(Some((call, nth, Box::new(hook))));
}

/// Returns whether the hook is still waiting for its call, and lets it do so no longer.
fn disarm() -> bool {
    HOOK.take().is_some()
}

fn called(call: Call) {
    let due = HOOK.with_borrow_mut(|hook| match hook {
        Some((expected, 0, _)) if *expected == call => hook.take(),
        Some((expected, left, _)) if *expected == call => {
            *left -= 1;
            None
        }
        _ => None,
    });
    if let Some((.., hook)) = due {
        hook();
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        called(Call::Eq);
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        called(Call::Hash);
        self.0.hash(state);
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        called(Call::Clone);
        Self(self.0)
    }
}

type Keyed = Cache<Key, u64>;

/// Keys from here on are those that loads ask for which bring another one.
const OTHERS: u64 = 1_000_000;

/// Entries live for so long, but for those with [`LASTING`].
const LIFE: Duration = secs(10);
const LASTING: InsertOptions = InsertOptions::new().ttl(secs(1_000_000));

/// A load that brings a key.
#[derive(Clone, Copy, Debug)]
enum Brings {
    /// Because it was asked for a new value.
    Asked,
    /// Although it was asked for another key.
    Unasked,
}

/// How an entry leaves by itself.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// It expires, but nobody has removed it yet.
    Expires,
    IsSwept,
    IsEvicted,
}

/// Which caches there are for a test.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain,
    /// Expired entries are served while one caller loads.
    Soft,
}

/// All that may vary between two runs of a test.
#[derive(Clone, Debug)]
struct Case {
    policy: EvictionPolicy,
    segments: usize,
    kind: Kind,
    brings: Brings,
    leaves: Leaves,
}

fn for_cases(test: impl Fn(&Case)) {
    for_some(|policy, segments| {
        for kind in [Kind::Plain, Kind::Soft] {
            for brings in [Brings::Asked, Brings::Unasked] {
                for leaves in [Leaves::Expires, Leaves::IsSwept, Leaves::IsEvicted] {
                    test(&Case { policy: policy.clone(), segments, kind, brings, leaves });
                }
            }
        }
    });
}

/// A cache, its clock, and the load that begins inside an operation.
#[derive(Clone)]
struct World {
    cache: Keyed,
    clock: Clock,
    case: Case,
    load: Rc<RefCell<Option<Loading>>>,
    /// How many loads have begun.
    begun: Rc<Cell<u64>>,
}

/// A load under way, and what it waits for.
struct Loading {
    gate: Gate<()>,
    task: Task<'static, ()>,
}

impl World {
    fn new(case: &Case) -> Self {
        let clock = Clock::manual();
        let builder = Cache::builder()
            .max_capacity(1_000)
            .eviction_policy(case.policy.clone())
            .segments(case.segments)
            .time_to_live(LIFE)
            .clock(clock.clone())
            .eviction_listener(|_: &Key, _: &u64, _| called(Call::Listener));
        let builder = match case.kind {
            Kind::Plain => builder,
            Kind::Soft => builder.stale_while_revalidate(secs(1_000)).stale_if_error(secs(1_000)),
        };
        let cache = builder.build().unwrap();
        Self { cache, clock, case: case.clone(), load: Rc::default(), begun: Rc::default() }
    }

    /// Begins to load a key.
    fn begin(&self, key: u64) {
        let gate = Gate::default();
        let (cache, opened, brings) = (self.cache.clone(), gate.get(), self.case.brings);
        let other = OTHERS + self.begun.replace(self.begun.get() + 1);
        let load = async move {
            match brings {
                Brings::Asked => {
                    let loading = async {
                        opened.await;
                        2
                    };
                    cache.refresh_async(Key(key), |_| loading).await;
                }
                Brings::Unasked => {
                    let mut opened = Some(opened);
                    let loader = |asked: Vec<Key>| {
                        let opened = opened.take();
                        async move {
                            opened.expect("it is asked once").await;
                            asked.into_iter().chain([Key(key)]).map(|key| (key, 2)).collect::<Vec<_>>()
                        }
                    };
                    cache.get_all_or_load_async([Key(other)], loader).await;
                }
            }
        };
        let task = Task::new(load).starts();
        assert!(self.load.replace(Some(Loading { gate, task })).is_none(), "one load at a time");
    }

    /// Lets the load end that was begun. Returns whether there was one.
    fn end(&self) -> bool {
        let load = self.load.take();
        load.map(|Loading { gate, mut task }| {
            gate.give(());
            task.ready();
        })
        .is_some()
    }

    /// Lets entries leave: those that live for [`LIFE`], or all.
    fn leave(&self) {
        match self.case.leaves {
            Leaves::Expires => self.clock.advance(LIFE),
            Leaves::IsSwept => {
                self.clock.advance(secs(2_000) + TICK * 2);
                self.cache.run_pending_tasks();
            }
            Leaves::IsEvicted => {
                self.cache.set_capacity(0);
                self.cache.set_capacity(1_000);
            }
        }
    }

    /// Begins to load a key, and lets its entry leave.
    fn interfere(&self, key: u64) {
        self.begin(key);
        assert!(self.cache.contains_key(&Key(key)), "it is there until now");
        self.leave();
        assert_eq!(self.cache.peek(&Key(key)), None, "{:?}", self.case);
    }

    /// Checks that nothing comes of the load that was begun, nor is an expired value served.
    fn is_invalid(&self, key: u64, name: &str) {
        assert!(self.end(), "{name}: no load was begun, {:?}", self.case);
        self.stays_absent(key, name);
    }

    fn stays_absent(&self, key: u64, name: &str) {
        assert_eq!(self.cache.peek(&Key(key)), None, "{name}: a load has survived, {:?}", self.case);
        assert_eq!(self.cache.get_or_load(Key(key), |_| 3), 3, "{name}: a stale value, {:?}", self.case);
        self.cache.validate();
    }
}

/// Operations that remove key 1, or find nothing; they return whether they did remove it.
type Removal = (&'static str, fn(&Keyed) -> bool);

const REMOVALS: [Removal; 4] = [
    ("remove", |cache| cache.remove(&Key(1)).is_some()),
    ("invalidate", |cache| cache.invalidate(&Key(1))),
    ("remove_if", |cache| cache.remove_if(&Key(1), |_, _| true).is_some()),
    ("compute", |cache| matches!(cache.compute(Key(1), |_| Op::Remove), Computed::Removed(_))),
];

/// The first `Eq` is called while the key is looked up without a lock.
#[test]
fn a_removal_that_finds_nothing_leaves_no_load_behind() {
    for_cases(|case| {
        for (name, remove) in REMOVALS {
            let world = World::new(case);
            world.cache.insert(Key(1), 1);
            let hook = world.clone();
            arm(Call::Eq, 0, move || hook.interfere(1));
            let removed = remove(&world.cache);
            assert!(!disarm() && !removed, "{name}");
            world.is_invalid(1, name);
        }
    });
}

#[test]
fn an_entry_that_leaves_while_a_predicate_looks_at_it_leaves_no_load_behind() {
    for_cases(|case| {
        let world = World::new(case);
        world.cache.insert(Key(1), 1);
        let mut asked = 0;
        let removed = world.cache.remove_if(&Key(1), |_, _| {
            asked += 1;
            world.interfere(1);
            true
        });
        assert_eq!((removed, asked), (None, 1));
        world.is_invalid(1, "remove_if");
    });
}

/// A predicate that says no has not seen what is being loaded.
#[test]
fn a_removal_that_is_declined_leaves_the_entry_but_no_load() {
    for_cases(|case| {
        let world = World::new(case);
        world.cache.insert(Key(1), 1);
        let hook = world.clone();
        arm(Call::Eq, 0, move || hook.begin(1));
        assert_eq!(world.cache.remove_if(&Key(1), |_, &value| value == 2), None);
        assert!(!disarm() && world.end());
        assert_eq!(world.cache.peek(&Key(1)), Some(1), "a load has survived, {case:?}");
        world.cache.validate();
    });
}

/// A predicate that says no is asked again about an entry that has replaced the one it saw.
#[test]
fn a_predicate_that_declines_has_seen_the_last_entry() {
    for_cases(|case| {
        let world = World::new(case);
        world.begin(2);
        world.cache.insert(Key(1), 1);
        let mut seen = Vec::new();
        let removed = world.cache.remove_if(&Key(1), |_, &value| {
            seen.push(value);
            if value == 1 {
                world.cache.insert(Key(1), 2);
            }
            false
        });
        assert_eq!((removed, seen, world.cache.peek(&Key(1))), (None, vec![1, 2], Some(2)));
    });
}

/// `decide` sees no entry. Then one is there, which a load has brought that began before: it is removed. Or it has left again, after
/// another load has begun: then nothing comes of that.
#[test]
fn a_computed_removal_that_finds_nothing_leaves_no_load_behind() {
    for_cases(|case| {
        for leaves in [false, true] {
            let world = World::new(case);
            world.begin(1);
            let mut has_decided = false;
            let computed = world.cache.compute(Key(1), |current| {
                if !std::mem::replace(&mut has_decided, true) {
                    assert_eq!(current, None);
                    assert!(world.end());
                    assert_eq!(world.cache.peek(&Key(1)), Some(2));
                    if leaves {
                        world.interfere(1);
                    }
                }
                Op::Remove
            });
            if leaves {
                assert_eq!(computed, Computed::Absent);
                world.is_invalid(1, "compute");
            } else {
                assert_eq!(computed, Computed::Removed(2));
            }
        }
    });
}

/// Operations that visit all entries, and remove none or all of them. They get the hook, if it is not for the listener, and call
/// it when they have visited the first entries, but not all.
type Sweep = (&'static str, fn(&Keyed, &mut dyn FnMut()));

const SWEEPS: [Sweep; 4] = [
    ("retain, all", |cache, hook| {
        cache.retain(|_, _| {
            hook();
            true
        });
    }),
    ("retain, none", |cache, hook| {
        cache.retain(|_, _| {
            hook();
            false
        });
    }),
    ("drain", |cache, hook| cache.drain().for_each(|_| hook())),
    ("drain, dropped", |cache, hook| {
        let mut drain = cache.drain();
        drain.next();
        hook();
    }),
];

/// Fills a cache, and returns the first key that a scan visits and the last one.
fn fill(world: &World) -> [u64; 2] {
    let keys = 200;
    (0..keys).for_each(|key| world.cache.insert_with(Key(key), 1, LASTING));
    let mut scan = world.cache.keys().map(|key| key.0);
    let ends = [scan.next().unwrap(), scan.last().unwrap()];
    // A scan visits an entry at the place of its key, whatever the value.
    ends.iter().for_each(|&key| world.cache.insert(Key(key), 1));
    ends
}

#[test]
fn a_scan_leaves_no_load_ahead_of_it() {
    for_cases(|case| {
        for (name, sweep) in SWEEPS {
            let world = World::new(case);
            let [_, last] = fill(&world);
            let mut has_begun = false;
            sweep(&world.cache, &mut || {
                if !std::mem::replace(&mut has_begun, true) {
                    world.interfere(last);
                }
            });
            world.is_invalid(last, name);
        }
    });
}

/// The listener is called while others are still to be visited.
#[test]
fn an_invalidation_of_all_leaves_no_load_ahead_of_it() {
    for_cases(|case| {
        let world = World::new(case);
        let [_, last] = fill(&world);
        let hook = world.clone();
        arm(Call::Listener, 0, move || hook.interfere(last));
        world.cache.invalidate_all();
        assert!(!disarm());
        world.is_invalid(last, "invalidate_all");
    });
}

/// A scan is past the key: the load that begins then is newer than what the scan removes.
#[test]
fn a_load_behind_a_scan_is_kept() {
    for_cases(|case| {
        for (name, sweep) in SWEEPS {
            let world = World::new(case);
            let [first, last] = fill(&world);
            let (mut visited, mut loads) = (0, 0);
            sweep(&world.cache, &mut || {
                // Some steps later; the iterator that is dropped has only one.
                visited += 1;
                if visited == if name == "drain, dropped" { 1 } else { 100 } {
                    world.begin(first);
                    loads += 1;
                }
            });
            assert_eq!((loads, world.end()), (1, true), "{name}");
            assert_eq!(world.cache.peek(&Key(first)), Some(2), "{name}: {case:?}");
            assert_eq!(
                world.cache.peek(&Key(last)),
                (name == "retain, all").then_some(1),
                "{name}: {case:?}"
            );
            world.cache.validate();
        }
    });
}

#[test]
fn an_entry_that_leaves_while_retain_looks_at_it_leaves_no_load_behind() {
    for_cases(|case| {
        let world = World::new(case);
        world.cache.insert(Key(1), 1);
        world.cache.retain(|key, _| {
            world.interfere(key.0);
            false
        });
        world.is_invalid(1, "retain");
    });
}

/// `retain` does not remove an entry that its closure has not seen.
#[test]
fn an_entry_that_is_replaced_while_retain_looks_at_it_stays() {
    for_cases(|case| {
        let world = World::new(case);
        world.cache.insert(Key(1), 1);
        let mut asked = 0;
        world.cache.retain(|key, _| {
            if key.0 == 1 {
                asked += 1;
                world.begin(1);
                world.end();
            }
            false
        });
        assert_eq!((asked, world.cache.peek(&Key(1))), (1, Some(2)));
    });
}

/// An entry that the iterator does not give was not there, and then no load of it may be kept.
#[test]
fn a_drain_gives_an_entry_or_leaves_no_load_of_it_behind() {
    for_cases(|case| {
        let ways = (0..).find(|&nth| {
            let world = World::new(case);
            world.cache.insert(Key(1), 1);
            let (hook, was_there) = (world.clone(), Rc::new(RefCell::new(None)));
            let seen = Rc::clone(&was_there);
            arm(Call::Clone, nth, move || {
                *seen.borrow_mut() = Some(hook.cache.peek(&Key(1)).is_some());
                hook.begin(1);
                hook.leave();
            });
            let drained = world.cache.drain().count();
            let is_last = disarm();
            let is_there = *was_there.borrow();
            match is_there {
                Some(true) if drained == 0 => world.is_invalid(1, "drain"),
                // One that it had taken out, and that expires before its turn.
                Some(false) if drained == 0 => assert!(!matches!(case.leaves, Leaves::IsEvicted)),
                _ => assert_eq!(drained, 1),
            }
            is_last
        });
        assert!(ways > Some(0), "a key is cloned");
    });
}

/// An expired entry that carries the tag is absent. Its removal is no invalidation of the key, and is not counted.
#[test]
fn a_tag_of_an_expired_entry_leaves_loads_alone() {
    for_all(|policy, segments| {
        for is_soft in [false, true] {
            let clock = Clock::manual();
            let (builder, log) =
                logged(Cache::<u64, u64>::builder().max_capacity(1_000).clock(clock.clone()));
            let builder = builder.eviction_policy(policy.clone()).segments(segments);
            let builder = builder.tags(|_, &value| if value == 1 { vec!["tag"] } else { Vec::new() });
            let builder = if is_soft { builder.stale_while_revalidate(secs(100)) } else { builder };
            let cache = builder.build().unwrap();
            cache.insert(0, 1);
            cache.insert_with(1, 1, InsertOptions::new().ttl(LIFE));
            clock.advance(LIFE);
            let gate = Gate::default();
            let loading = gate.get();
            let mut load = Task::new(cache.refresh_async(1, |_| loading)).starts();
            let removed = cache.invalidate_tag("tag");
            let mut events = std::mem::take(&mut *log.lock().unwrap());
            events.sort_by_key(|event| event.0);
            assert_eq!(events, [(0, 1, RemovalCause::Explicit), (1, 1, RemovalCause::Expired)]);
            assert_eq!((cache.len(), cache.stats().expiration_count()), (0, 1));
            let mut joins = Task::new(cache.get_or_load_async(1, |_| async { panic!("one loads") })).starts();
            gate.give(2);
            assert_eq!((load.ready(), joins.ready(), cache.get(&1)), (2, 2, Some(2)), "{policy} {segments}");
            assert_eq!(removed, 1, "the one that had not expired");
            cache.validate();
        }
    });
}

/// The value that a load brings carries the tag, like the entry that expired.
#[test]
fn a_tag_of_an_expired_entry_stops_a_load_that_brings_it() {
    for_all(|policy, segments| {
        let clock = Clock::manual();
        let builder = Cache::<u64, u64>::builder().max_capacity(1_000).clock(clock.clone());
        let builder = builder.eviction_policy(policy).segments(segments).tags(|_, _| ["tag"]);
        let cache = builder.stale_while_revalidate(secs(100)).build().unwrap();
        cache.insert_with(1, 1, InsertOptions::new().ttl(LIFE));
        clock.advance(LIFE);
        let gate = Gate::default();
        let loading = gate.get();
        let mut load = Task::new(cache.refresh_async(1, |_| loading)).starts();
        assert_eq!(cache.invalidate_tag("tag"), 0);
        gate.give(2);
        assert_eq!((load.ready(), cache.get(&1)), (2, None));
        let mut again = Task::new(cache.get_or_load_async(1, |_| ready(3)));
        assert_eq!((again.ready(), cache.get(&1)), (3, Some(3)));
        cache.validate();
    });
}

/// The entries of a tag are removed a few at a time. The later ones are evicted in between, after loads of their keys have begun.
#[test]
fn a_tag_stops_a_load_that_begins_while_its_entries_are_removed() {
    for_some(|policy, segments| {
        let cache = Cache::builder()
            .max_capacity(10_000)
            .eviction_policy(policy.clone())
            .segments(segments)
            .tags(|_: &u64, _: &u64| ["tag"])
            .eviction_listener(|_, _, _| called(Call::Listener))
            .build()
            .unwrap();
        let keys = 400 * segments as u64;
        (0..keys).for_each(|key| cache.insert(key, 1));
        let loads = Rc::new(RefCell::new(Vec::new()));
        let (begun, hook) = (Rc::clone(&loads), cache.clone());
        arm(Call::Listener, 0, move || {
            for key in (0..keys).filter(|key| hook.contains_key(key)) {
                let (gate, cache) = (Gate::default(), hook.clone());
                let loading = gate.get();
                let load = async move { cache.refresh_async(key, |_| loading).await };
                begun.borrow_mut().push((key, gate, Task::new(load).starts()));
            }
            hook.set_capacity(0);
            hook.set_capacity(10_000);
        });
        cache.invalidate_tag("tag");
        assert!(!disarm());
        let loads = loads.take();
        assert!(loads.len() as u64 > keys / 2, "{policy} {segments}: {}", loads.len());
        for (key, gate, mut load) in loads {
            gate.give(2);
            assert_eq!((load.ready(), cache.get(&key)), (2, None), "{policy} {segments}: {key}");
        }
        cache.validate();
    });
}
