//! Memory safety and leaks, in the face of user code that panics: cases 1 to 5, 11 and 13 to 16 of ADVERSARIES.
#![allow(missing_docs)]

mod common;

use common::{Census, Counted, Identity, Random, for_all, panics, policies, quiet, settle, size};
use larder::{Cache, EvictionPolicy, InsertOptions, Op, Refresh, WeakCache};
use std::cell::RefCell;
use std::hash::{BuildHasher, Hash, Hasher};
use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// These tests count what is alive. Readers of one cache hold back the memory of all, so they run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// Per thread, as tests run side by side.
    static ARMED: RefCell<Option<u64>> = const { RefCell::new(None) };
}

/// Lets the `n`th next chance to panic, counted from 0, be taken.
fn arm(n: u64) {
    quiet();
    ARMED.set(Some(n));
}

fn disarm() {
    ARMED.set(None);
}

/// Panics if it is time. The fuse burns once.
fn tick() {
    let left = ARMED.with(|armed| *armed.borrow());
    match left {
        None => {}
        Some(0) => {
            disarm();
            if !std::thread::panicking() {
                panic!("on purpose");
            }
        }
        Some(n) => ARMED.set(Some(n - 1)),
    }
}

/// A key or value whose `Drop`, `Eq`, `Hash` and `Clone` tick.
#[derive(Debug)]
struct Ticking(Counted<u64>);

impl Clone for Ticking {
    fn clone(&self) -> Self {
        tick();
        Self(self.0.clone())
    }
}

impl PartialEq for Ticking {
    fn eq(&self, other: &Self) -> bool {
        tick();
        self.0 == other.0
    }
}

impl Eq for Ticking {}

impl Hash for Ticking {
    fn hash<H: Hasher>(&self, state: &mut H) {
        tick();
        self.0.what.hash(state);
    }
}

/// Ticks when it is dropped.
#[derive(Clone, Debug)]
struct Fused(#[allow(dead_code)] Counted<u64>);

impl Drop for Fused {
    fn drop(&mut self) {
        tick();
    }
}

fn small<K, V>(policy: EvictionPolicy, segments: usize) -> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    Cache::builder().max_capacity(16).segments(segments).eviction_policy(policy).build().unwrap()
}

/// Cases 1, 2 and 14: a `Drop` that panics, at every point of a run of operations: the cache goes on, and every value is
/// dropped exactly once.
#[test]
fn cases_1_2_drop_panics() {
    let _alone = alone();
    for_all(|policy, segments| {
        for n in 0..size(40, 6) as u64 {
            let census = Census::default();
            {
                let cache: Cache<u64, Fused> = small(policy.clone(), segments);
                arm(n * 2);
                for step in 0..60 {
                    panics(|| match step % 6 {
                        0 => drop(cache.remove(&(step % 20))),
                        1 => cache.insert(step % 7, Fused(census.count(step))),
                        5 if step % 29 == 0 => cache.invalidate_all(),
                        5 if step % 23 == 0 => cache.retain(|key, _| key % 2 == 0),
                        _ => cache.insert(step % 40, Fused(census.count(step))),
                    });
                    if step % 10 == 0 {
                        panics(|| settle(&cache));
                    }
                }
                panics(|| cache.drain().for_each(drop));
                cache.validate();
                assert!(cache.is_empty());
                cache.insert(1, Fused(census.count(1)));
                assert_eq!(cache.with(&1, |value| *value.0.what), Some(1));
            }
            disarm();
            assert_eq!(census.living(), 0);
        }
    });
}

/// Case 1: the same for keys, and for key and value of one entry.
#[test]
fn case_1_key_and_value_drop_panic() {
    let _alone = alone();
    struct Key(u64);
    struct Value(#[allow(dead_code)] Counted<u64>);
    thread_local! { static ON: RefCell<bool> = const { RefCell::new(false) } }
    impl Drop for Key {
        fn drop(&mut self) {
            if ON.with(|on| *on.borrow()) && !std::thread::panicking() {
                panic!("on purpose");
            }
        }
    }
    impl Drop for Value {
        fn drop(&mut self) {
            if ON.with(|on| *on.borrow()) && !std::thread::panicking() {
                panic!("on purpose");
            }
        }
    }
    impl PartialEq for Key {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Key {}
    impl Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }
    struct Number(u64);
    impl Hash for Number {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }
    impl larder::Equivalent<Key> for Number {
        fn equivalent(&self, key: &Key) -> bool {
            self.0 == key.0
        }
    }
    quiet();
    let census = Census::default();
    {
        let cache: Cache<Key, Value> = small(EvictionPolicy::lru(), 1);
        ON.set(true);
        for step in 0..size(500, 60) as u64 {
            cache.insert(Key(step % 40), Value(census.count(step)));
            if step % 5 == 0 {
                cache.invalidate(&Number(step % 7));
            }
        }
        settle(&cache);
        cache.validate();
        assert_eq!(cache.len(), 16);
        assert_eq!(census.living(), 16, "the values of the others are gone, and none twice");
        cache.invalidate_all();
        settle(&cache);
        assert_eq!(census.living(), 0);
        cache.insert(Key(1), Value(census.count(1)));
    }
    ON.set(false);
    assert_eq!(census.living(), 0, "dropped with the cache");
}

/// Case 3: a hasher whose `Drop` panics: the entries are dropped all the same.
#[test]
fn case_3_hasher_drop_panics() {
    let _alone = alone();
    struct Bad(std::collections::hash_map::RandomState);
    impl BuildHasher for Bad {
        type Hasher = std::collections::hash_map::DefaultHasher;
        fn build_hasher(&self) -> Self::Hasher {
            self.0.build_hasher()
        }
    }
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    let census = Census::default();
    let cache = Cache::<u64, Counted<u64>>::builder()
        .max_capacity(10)
        .build_with_hasher(Bad(std::collections::hash_map::RandomState::new()))
        .unwrap();
    (0..30).for_each(|key| cache.insert(key, census.count(key)));
    assert!(panics(|| drop(cache)));
    assert_eq!(census.living(), 0);
}

/// Cases 4, 5: `Hash`, `Eq` and `Clone` that panic at every point of a run of operations, growth included.
#[test]
fn cases_4_5_hash_eq_and_clone_panic() {
    let _alone = alone();
    for_all(|policy, segments| {
        for n in 0..size(120, 8) as u64 {
            let census = Census::default();
            {
                let cache: Cache<Ticking, Ticking> = Cache::builder()
                    .max_capacity(60)
                    .segments(segments)
                    .eviction_policy(policy.clone())
                    .build()
                    .unwrap();
                let key = |number: u64| Ticking(census.count(number));
                arm(n * 3);
                for step in 0..90 {
                    panics(|| match step % 9 {
                        0 => drop(cache.remove(&key(step))),
                        1 => drop(cache.get(&key(step - 1))),
                        2 => drop(cache.compute(key(step - 2), |now| match now {
                            Some(_) => Op::Remove,
                            None => Op::Insert(key(step)),
                        })),
                        3 => drop(cache.entry(key(step / 2)).or_insert_with(|| key(step))),
                        4 if step % 4 == 0 => drop(cache.iter().take(5).collect::<Vec<_>>()),
                        4 => drop(cache.hottest(3)),
                        5 if step > 70 => drop(cache.drain().take(3).collect::<Vec<_>>()),
                        6 => cache.insert(key(step % 4), key(step)),
                        _ => cache.insert(key(step), key(step)),
                    });
                }
                disarm();
                cache.validate();
                assert_eq!(cache.iter().count(), cache.len());
                cache.insert(key(5_000), key(1));
                assert_eq!(cache.with(&key(5_000), |value| *value.0.what), Some(1));
            }
            assert_eq!(census.living(), 0);
        }
    });
}

/// A policy of one's own that panics, at each of its methods: the cache neither hangs nor panics later on its own, the
/// bound holds, and every value is dropped once.
#[test]
fn custom_policy_panics() {
    let _alone = alone();
    use larder::RemovalCause;
    use larder::policy::{End, Entries, Policy, Reads, Slot};
    use std::ops::ControlFlow;

    #[derive(Default)]
    struct Queue(Vec<Slot>);
    impl Policy for Queue {
        fn reads(&self) -> Reads {
            Reads::Recorded
        }
        fn set_capacity(&mut self, _: u64) {
            tick();
        }
        fn reserve(&mut self, _: usize) {
            tick();
        }
        fn admit(&mut self, _: u64, _: u64, _: Entries<'_>) -> bool {
            tick();
            true
        }
        fn insert(&mut self, slot: Slot, _: Entries<'_>) {
            tick();
            self.0.push(slot);
        }
        fn hit(&mut self, _: Slot, _: Entries<'_>) {
            tick();
        }
        fn moved(&mut self, old: Slot, new: Slot, _: Entries<'_>) {
            tick();
            self.0.iter_mut().filter(|slot| **slot == old).for_each(|slot| *slot = new);
        }
        fn evict(&mut self, _: Entries<'_>) -> Option<Slot> {
            tick();
            (!self.0.is_empty()).then(|| self.0.remove(0))
        }
        fn remove(&mut self, slot: Slot, _: RemovalCause, _: Entries<'_>) {
            tick();
            self.0.retain(|&other| other != slot);
        }
        fn walk(&self, _: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>) {
            tick();
            let _ = self.0.iter().copied().try_for_each(visit);
        }
    }

    for segments in [1, 3] {
        for n in 0..size(400, 20) as u64 {
            let census = Census::default();
            {
                let cache: Cache<u64, Counted<u64>> = Cache::builder()
                    .max_capacity(30)
                    .segments(segments)
                    .eviction_policy(EvictionPolicy::custom(|_| Queue::default()))
                    .build()
                    .unwrap();
                let work = |step: u64| match step % 8 {
                    0 => drop(cache.remove(&(step % 30))),
                    1 => drop(cache.get(&(step % 20))),
                    2 => drop(cache.compute(step % 30, |_| Op::Insert(census.count(step)))),
                    3 => {
                        cache.pin(&(step % 9));
                        cache.unpin(&((step + 4) % 9));
                    }
                    4 => cache.insert_with(
                        step % 50,
                        census.count(step),
                        InsertOptions::new().weight(step % 25),
                    ),
                    5 if step.is_multiple_of(3) => cache.set_capacity(10 + step % 25),
                    5 => drop(cache.coldest(3)),
                    _ => cache.insert(step % 60, census.count(step)),
                };
                (0..40).for_each(work);
                arm(n);
                for step in 40..160 {
                    panics(|| work(step));
                }
                disarm();
                // No panic from here on.
                (160..400).for_each(work);
                cache.set_capacity(20);
                (400..480).for_each(|key| cache.insert(key, census.count(key)));
                assert!(cache.weighted_size() <= cache.capacity(), "panic {n}: over capacity");
                assert_eq!(cache.iter().count(), cache.len(), "panic {n}: the count is wrong");
                cache.set_capacity(0);
                assert_eq!((cache.len(), cache.weighted_size()), (0, 0), "panic {n}");
                cache.set_capacity(30);
                cache.insert(1, census.count(1));
                assert!(cache.contains_key(&1), "panic {n}: the capacity is lost");
            }
            assert_eq!(census.living(), 0, "panic {n}");
        }
    }
}

/// A policy that answers nonsense harms neither memory nor the bound.
#[test]
fn custom_policy_talks_nonsense() {
    let _alone = alone();
    use larder::RemovalCause;
    use larder::policy::{End, Entries, Policy, Reads, Slot};
    use std::ops::ControlFlow;

    struct Nonsense(Random);
    impl Policy for Nonsense {
        fn reads(&self) -> Reads {
            Reads::Marked(200)
        }
        fn insert(&mut self, _: Slot, _: Entries<'_>) {}
        fn moved(&mut self, _: Slot, _: Slot, _: Entries<'_>) {}
        fn evict(&mut self, _: Entries<'_>) -> Option<Slot> {
            match self.0.below(5) {
                0 => None,
                1 => Some(Slot::new(self.0.below(1 << 32) as u32)),
                2 => Some(Slot::new(u32::MAX)),
                _ => Some(Slot::new(self.0.below(40) as u32)),
            }
        }
        fn remove(&mut self, _: Slot, _: RemovalCause, _: Entries<'_>) {}
        fn walk(&self, _: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>) {
            let _ = [0, 0, u32::MAX, 7, 1 << 20].into_iter().map(Slot::new).try_for_each(visit);
        }
    }
    let census = Census::default();
    {
        let cache: Cache<u64, Counted<u64>> = Cache::builder()
            .max_capacity(20)
            .segments(2)
            .eviction_policy(EvictionPolicy::custom(|_| Nonsense(Random::new(1))))
            .build()
            .unwrap();
        for step in 0..size(3_000, 100) as u64 {
            cache.insert(step % 97, census.count(step));
            cache.get(&(step % 13));
            if step % 50 == 0 {
                cache.set_capacity(step % 31);
                let _ = cache.hottest(9);
            }
            assert!(cache.weighted_size() <= cache.capacity());
            cache.validate();
        }
    }
    assert_eq!(census.living(), 0);
}

/// Case 11: types of any alignment and of no size.
#[test]
fn case_11_alignments_and_zero_sized_types() {
    let _alone = alone();
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    #[repr(align(128))]
    struct Wide(u8);
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    #[repr(align(4))]
    struct Four([u8; 3]);

    fn try_all<T: Clone + Hash + Eq + Send + Sync + std::fmt::Debug + 'static>(make: impl Fn(u8) -> T) {
        for_all(|policy, segments| {
            let cache: Cache<T, (T, u8)> = small(policy, segments);
            for step in 0..size(200, 40) as u8 {
                cache.insert(make(step), (make(step), step));
                let found = cache.with(&make(step), |value| {
                    assert_eq!(std::ptr::from_ref(value).align_offset(align_of::<(T, u8)>()), 0);
                    value.clone()
                });
                assert_eq!(found, Some((make(step), step)));
            }
            cache.iter().for_each(|(key, value)| assert_eq!(key, value.0));
            cache.validate();
        });
    }
    try_all(|n| n);
    try_all(|n| Four([n, 1, 2]));
    try_all(Wide);
    try_all(|n| (n, Wide(n)));

    // One key only, as keys without a size are all equal.
    for_all(|policy, segments| {
        let cache: Cache<(), ()> = small(policy, segments);
        assert_eq!(cache.get(&()), None);
        cache.insert((), ());
        cache.insert((), ());
        assert_eq!((cache.get(&()), cache.len()), (Some(()), 1));
        cache.validate();
        assert_eq!(cache.remove(&()), Some(()));
        assert!(cache.is_empty());
    });
    // Values without a size that are dropped.
    thread_local! { static DROPS: RefCell<usize> = const { RefCell::new(0) } }
    struct Nothing;
    impl Drop for Nothing {
        fn drop(&mut self) {
            DROPS.with(|drops| *drops.borrow_mut() += 1);
        }
    }
    let cache: Cache<u64, Nothing> = small(EvictionPolicy::default(), 1);
    (0..100).for_each(|key| cache.insert(key, Nothing));
    drop(cache);
    assert_eq!(DROPS.take(), 100);
}

/// Case 13: a cache that is used from the destructors of thread locals, after those of the cache's own.
#[test]
fn case_13_use_from_thread_local_destructors() {
    let _alone = alone();
    struct Last(RefCell<Option<Cache<u64, String>>>);
    impl Drop for Last {
        fn drop(&mut self) {
            let Some(cache) = self.0.take() else { return };
            for key in 0..300 {
                cache.insert(key, key.to_string());
                assert_eq!(cache.get(&key), Some(key.to_string()));
            }
            cache.remove(&299);
            cache.run_pending_tasks();
            assert_eq!(cache.iter().count(), cache.len());
        }
    }
    thread_local! { static LAST: Last = const { Last(RefCell::new(None)) } }
    for policy in policies() {
        let cache: Cache<u64, String> = Cache::builder()
            .max_capacity(100)
            .segments(2)
            .eviction_policy(policy)
            .record_stats()
            .build()
            .unwrap();
        for first in [true, false] {
            let cache = cache.clone();
            // Registered before the cache's thread locals, its destructor runs after theirs, or the other way round.
            std::thread::spawn(move || {
                if first {
                    LAST.with(|_| ());
                }
                cache.insert(1, String::new());
                cache.get(&1);
                LAST.with(|last| *last.0.borrow_mut() = Some(cache));
            })
            .join()
            .unwrap();
        }
        cache.validate();
        assert_eq!(cache.stats().hit_count(), 602, "no hit goes uncounted");
    }
}

/// Case 13: threads that come and go leave nothing behind that holds memory back.
#[test]
fn case_13_threads_come_and_go() {
    let _alone = alone();
    let census = Census::default();
    let cache: Cache<u64, Counted<u64>> = Cache::builder().max_capacity(50).segments(2).build().unwrap();
    for round in 0..size(100, 6) as u64 {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..60).for_each(|key| cache.insert(key + round * 13, census.count(key)));
                // It ends with what it removed last still waiting, and right after a read.
                cache.with(&(round * 13 + 1), |_| ());
            });
        });
    }
    settle(&cache);
    assert_eq!(census.living(), cache.len() as i64);
    cache.validate();
}

/// Case 14: every key and every value is dropped exactly once, over evictions, replacements, removals, refusals, clear,
/// retain, drain and the cache's end, with and without a listener.
#[test]
fn case_14_everything_is_dropped_once() {
    let _alone = alone();
    for_all(|policy, segments| {
        for listening in [false, true] {
            let census = Census::default();
            {
                let mut builder =
                    Cache::builder().max_capacity(40).segments(segments).eviction_policy(policy.clone());
                if listening {
                    builder = builder.eviction_listener(|_, _, _| ());
                }
                let cache: Cache<Counted<u64>, Counted<u64>> = builder.build().unwrap();
                let one = |number: u64| census.count(number);
                for step in 0..size(1_500, 60) as u64 {
                    cache.insert(one(step % 71), one(step));
                    match step % 50 {
                        1 => drop(cache.remove(&one(step % 71))),
                        2 => drop(cache.invalidate(&one(step % 71))),
                        3 => cache.retain(|key, _| *key.what % 3 != 0),
                        4 => cache.drain().take(2).for_each(drop),
                        5 => cache.invalidate_all(),
                        6 => cache.insert_with(one(1), one(1), InsertOptions::new().weight(41)),
                        7 => cache.insert_with(one(2), one(2), InsertOptions::new().weight(39)),
                        8 => drop(cache.compute(one(step % 71), |_| Op::Insert(one(9)))),
                        9 => drop(cache.get_many(&[one(1), one(2)])),
                        10 => cache.set_capacity(step % 60),
                        11 => cache.set_capacity(40),
                        12 => drop(cache.entry(one(80)).or_insert_with(|| one(8))),
                        13 => drop(cache.remove_if(&one(80), |_, _| true)),
                        _ => {}
                    }
                }
                settle(&cache);
                cache.validate();
                assert_eq!(census.living(), 2 * cache.len() as i64);
                let iterator = cache.iter();
                drop(cache);
                drop(iterator);
            }
            assert_eq!(census.living(), 0);
        }
    });
}

/// Case 15: values are freed within a bounded number of later operations, without anybody asking.
#[test]
fn case_15_values_are_freed_soon() {
    let _alone = alone();
    for_all(|policy, segments| {
        let census = Census::default();
        let cache: Cache<u64, Counted<u64>> =
            Cache::builder().max_capacity(1_000).segments(segments).eviction_policy(policy).build().unwrap();
        let mut most = 0;
        for step in 0..size(20_000, 1_500) as u64 {
            cache.insert(step, census.count(step));
            most = most.max(census.living());
        }
        assert!(most < 1_000 + 300, "{most} values for 1,000 entries");
        for step in 0..size(20_000, 500) as u64 {
            cache.insert(step % 10, census.count(step));
            most = most.max(census.living());
        }
        assert!(most < 1_000 + 300, "{most} values for 1,000 entries after replacements");
        cache.invalidate_all();
        settle(&cache);
        assert_eq!(census.living(), 0, "an idle cache lets go when asked to");
    });
}

/// Case 16: a reader parked in the middle of `with` keeps its value, and readers after it find the new one; what it holds
/// back is freed when it goes.
#[test]
fn case_16_a_parked_reader() {
    let _alone = alone();
    for_all(|policy, segments| {
        let census = Census::default();
        let cache: Cache<u64, Counted<u64>> =
            Cache::builder().max_capacity(50).segments(segments).eviction_policy(policy).build().unwrap();
        cache.insert(1, census.count(1));
        let (parked, at) = channel();
        let (resume, go) = channel::<()>();
        std::thread::scope(|scope| {
            let cache = &cache;
            // Moved here, so that a failure lets the reader go.
            let resume = resume;
            scope.spawn(move || {
                cache.with(&1, |value| {
                    parked.send(()).unwrap();
                    assert!(go.recv().is_err());
                    assert_eq!(*value.what, 1, "the value under a reader stays");
                })
            });
            at.recv().unwrap();
            for step in 0..size(2_000, 200) as u64 {
                cache.insert(step % 90, census.count(step + 10));
            }
            cache.invalidate_all();
            (0..8).for_each(|key| cache.insert(key, census.count(key)));
            assert_eq!(cache.get(&2).map(|value| *value.what), Some(2));
            cache.validate();
            drop(resume);
        });
        settle(&cache);
        assert_eq!(census.living(), cache.len() as i64, "what the reader held back is freed");
        cache.validate();
    });
}

/// Case 16: an iterator parked between two steps holds nothing back; one parked inside `for_each` holds what it sees.
#[test]
fn case_16_a_parked_iterator() {
    let _alone = alone();
    for_all(|policy, segments| {
        let census = Census::default();
        let cache: Cache<u64, Counted<u64>> =
            Cache::builder().max_capacity(500).segments(segments).eviction_policy(policy).build().unwrap();
        (0..100).for_each(|key| cache.insert(key, census.count(key)));
        let mut parked = cache.iter();
        parked.next();
        cache.invalidate_all();
        settle(&cache);
        // A few clones are in the iterator itself.
        assert!(census.living() < 40, "{} values", census.living());
        parked.for_each(drop);
        assert_eq!(census.living(), 0);

        (0..100).for_each(|key| cache.insert(key, census.count(key)));
        let (at, go) = (channel::<()>(), channel::<()>());
        let parked = cache.clone();
        let reader = std::thread::spawn(move || {
            let mut seen = 0;
            parked.for_each(|key, value| {
                if seen == 0 {
                    at.0.send(()).unwrap();
                    go.1.recv().unwrap();
                }
                seen += 1;
                assert_eq!(key, &*value.what);
            });
        });
        at.1.recv().unwrap();
        cache.invalidate_all();
        (0..size(1_000, 100) as u64).for_each(|key| cache.insert(key, census.count(key)));
        go.0.send(()).unwrap();
        reader.join().unwrap();
        settle(&cache);
        assert_eq!(census.living(), cache.len() as i64);
        cache.validate();
    });
}

/// Removing and clearing inside of `with`, `for_each` and `retain`, under the feet of a reader.
#[test]
fn removal_under_the_reader_itself() {
    let _alone = alone();
    for_all(|policy, segments| {
        let census = Census::default();
        let cache = Cache::<u64, Counted<u64>>::builder()
            .max_capacity(100)
            .segments(segments)
            .eviction_policy(policy)
            .build_with_hasher(Identity)
            .unwrap();
        for round in 0..size(30, 4) as u64 {
            (0..100).for_each(|key| cache.insert(key, census.count(key * round)));
            cache.with(&1, |value| {
                cache.invalidate_all();
                (0..100).for_each(|key| cache.insert(key, census.count(key)));
                cache.run_pending_tasks();
                assert_eq!(*value.what, round);
            });
            cache.for_each(|key, value| {
                cache.invalidate(key);
                cache.insert(*key + 200, value.clone());
                cache.run_pending_tasks();
                assert!(*value.what <= 99 * round.max(1));
            });
            cache.retain(|key, value| {
                cache.insert(*key, value.clone());
                cache.invalidate(&(key + 1));
                key % 2 == 0
            });
            cache.invalidate_all();
        }
        settle(&cache);
        assert_eq!(census.living(), 0);
        cache.validate();
    });
}

/// Another user of crossbeam-epoch in the same program: its deferred functions must not run inside of the cache, where a
/// lock may be held, and its guards must not hold the cache's memory back.
#[test]
#[cfg_attr(miri, ignore = "other users' garbage takes too many rounds")]
fn other_users_of_epochs_are_left_alone() {
    let _alone = alone();
    thread_local! { static INSIDE: RefCell<bool> = const { RefCell::new(false) } }
    static SURPRISED: AtomicBool = AtomicBool::new(false);
    let census = Census::default();
    let cache: Cache<u64, Counted<u64>> = Cache::builder().max_capacity(100).segments(1).build().unwrap();
    for step in 0..5_000 {
        {
            let guard = crossbeam_epoch::pin();
            guard.defer(|| {
                if INSIDE.with(|inside| *inside.borrow()) {
                    SURPRISED.store(true, SeqCst);
                }
            });
            guard.flush();
        }
        INSIDE.set(true);
        cache.insert(step, census.count(step));
        INSIDE.set(false);
    }
    assert!(!SURPRISED.load(SeqCst), "a stranger's function ran inside of `insert`");
    let stranger = crossbeam_epoch::pin();
    cache.invalidate_all();
    settle(&cache);
    assert_eq!(census.living(), 0, "a stranger's guard holds values back");
    drop(stranger);
}

/// Whatever keys, values and hashers are: no bound on `K`, `V` or `S`.
const fn handles_are_unwind_safe<K, V, S>() {
    const fn check<T: UnwindSafe + RefUnwindSafe>() {}
    check::<Cache<K, V, S>>();
    check::<WeakCache<K, V, S>>();
    check::<Refresh<K, V>>();
}
const _: () = handles_are_unwind_safe::<RefCell<u8>, Box<dyn Fn()>, RefCell<u8>>();

/// A closure for `catch_unwind` may use a cache of anything.
#[test]
fn catch_unwind_takes_a_cache() {
    type Job = Box<dyn Fn() -> u64 + Send + Sync>;
    quiet();
    let cache: Cache<u64, Job> = Cache::new(10);
    cache.insert(1, Box::new(|| panic!("on purpose")));
    assert!(catch_unwind(|| cache.with(&1, |job| job())).is_err());
    cache.insert(1, Box::new(|| 7));
    assert_eq!(cache.with(&1, |job| job()), Some(7));
}
