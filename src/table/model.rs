//! The table's lock-free steps under loom, which tries schedules, and the stale values that the memory model allows.
//!
//! ```text
//! RUSTFLAGS="--cfg larder_loom" cargo test --release --lib model:: -- --nocapture
//! ```
//!
//! There the kernel does not help, so that light and heavy barriers are sequentially consistent fences: this is what is
//! checked. Lines, blocks and records are smaller.
//!
//! Keys and values are a [`Canary`] each, so that a look at one that has been dropped, or is being dropped, fails. The
//! main thread of a model only writes: loom ends the statics before the thread locals of that thread.

use super::hazard::{Hazard, Quick, Ticket, named};
use super::*;
use crate::sync::AtomicBool;
use crate::sync::model::check;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool as Plain, AtomicUsize as Count};

/// A number that can be read until it is dropped.
struct Canary {
    /// For loom, which wants reads and the drop in an order.
    number: loom::cell::UnsafeCell<u32>,
    /// For a read that comes after the drop. loom sees nothing of it.
    is_alive: Plain,
}

impl Canary {
    fn new(number: u32) -> Self {
        Self { number: loom::cell::UnsafeCell::new(number), is_alive: Plain::new(true) }
    }

    fn read(&self) -> u32 {
        assert!(self.is_alive.load(Relaxed), "it has been dropped");
        // SAFETY: written by `drop` only; loom checks the order.
        self.number.with(|number| unsafe { *number })
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        assert!(self.is_alive.swap(false, Relaxed), "it has been dropped before");
        // SAFETY: `&mut self`; loom checks the order.
        self.number.with_mut(|number| unsafe { *number = u32::MAX });
    }
}

type Cache = Table<Canary, Canary, ()>;

fn cache() -> Arc<Cache> {
    Arc::new(Table::new(Sizing { initial: 1, expected: 0 }, false, Some(0), ()))
}

/// Returns a hash with the same tag and the same line for all keys. Where there are four lines, odd keys have another.
fn hash(key: u32) -> u64 {
    1 << 16 | u64::from(key) << 24 | u64::from(key & 1) << 62
}

fn insert(cache: &Cache, key: u32, value: u32) -> u32 {
    let entry = || (Canary::new(key), Canary::new(value));
    cache.publish(&mut cache.lock(), hash(key), entry, |_, _| ())
}

/// Takes a key's entry out, to wait for its readers.
fn remove(cache: &Cache, key: u32) {
    let mut writer = cache.lock();
    let slot = cache.find_locked(&writer, hash(key), |other| other.read() == key).unwrap();
    let live = writer.live(slot).unwrap();
    writer.take_out(live, 1, RemovalCause::Explicit);
}

fn replace(cache: &Cache, key: u32, value: u32) {
    let mut writer = cache.lock();
    let old = cache.find_locked(&writer, hash(key), |other| other.read() == key).unwrap();
    let entry = || (Canary::new(key), Canary::new(value));
    let (_, unlinked) = cache.replace(&mut writer, old, RemovalCause::Replaced, entry, |_, _| ());
    writer.depart(unlinked, 1);
}

/// Drops what no reader looks at, as a segment does.
fn reclaim(cache: &Cache) {
    let ticket = cache.lock().seal();
    if let Some(ticket) = ticket {
        cache.reclaim(&cache.scan(ticket).unwrap());
    }
}

/// Gives the thread a record, so that quick looks find one.
fn join() {
    drop(Hazard::claim());
}

/// Returns a key's value.
fn get(cache: &Cache, key: u32) -> Option<u32> {
    cache.find(hash(key), |other| other.read() == key).map(|found| value(&found, key))
}

fn value(found: &Found<'_, Canary, Canary>, key: u32) -> u32 {
    let (its, value) = found.entry();
    assert_eq!(its.read(), key, "another key's entry");
    value.read()
}

/// Runs `read` in a thread, on a cache that `write` changes meanwhile. All threads should have ended before the cache is
/// dropped: loom sees nothing of the order that an `Arc` makes.
fn read_beside(
    cache: &Arc<Cache>,
    read: impl Fn(&Cache) + Send + Sync + 'static,
    write: impl FnOnce(&Cache),
) {
    let shared = Arc::clone(cache);
    let reader = loom::thread::spawn(move || read(&shared));
    write(cache);
    reader.join().unwrap();
}

/// A model in which a key leaves, and its cell is used for another one, beside a reader.
fn reuse(name: &str, preemptions: usize, read: fn(&Cache) -> Option<u32>) {
    let (seen, missed, reused) = (Arc::new(Count::new(0)), Arc::new(Count::new(0)), Arc::new(Count::new(0)));
    let counts = [Arc::clone(&seen), Arc::clone(&missed), Arc::clone(&reused)];
    check(name, preemptions, move || {
        let cache = cache();
        let slot = insert(&cache, 1, 10);
        let (seen, missed) = (Arc::clone(&seen), Arc::clone(&missed));
        let look = move |cache: &Cache| match read(cache) {
            Some(value) => {
                assert_eq!(value, 10);
                seen.fetch_add(1, Relaxed);
            }
            None => _ = missed.fetch_add(1, Relaxed),
        };
        read_beside(&cache, look, |cache| {
            remove(cache, 1);
            reclaim(cache);
            if insert(cache, 2, 20) == slot {
                reused.fetch_add(1, Relaxed);
            }
        });
    });
    assert!(counts.iter().all(|count| count.load(Relaxed) > 0), "the model does not meet its cases");
}

fn glance(cache: &Cache) -> Option<u32> {
    join();
    let found = cache.glance(hash(1), |key| key.read() == 1).ok()??;
    Some(value(&found, 1))
}

#[test]
fn a_quick_look_sees_no_entry_that_was_dropped() {
    reuse("reuse, quick look", 3, glance);
}

#[test]
fn a_look_sees_no_entry_that_was_dropped() {
    reuse("reuse, look", 3, |cache| {
        let found = cache.look(hash(1), |key| key.read() == 1)?;
        Some(value(&found, 1))
    });
}

#[test]
fn a_replaced_key_is_never_missing() {
    check("replace", 3, || {
        let cache = cache();
        insert(&cache, 1, 10);
        let look = |cache: &Cache| {
            join();
            let first = get(cache, 1).expect("it is always there");
            let second = get(cache, 1).expect("it is always there");
            assert!([10, 11].contains(&first) && (first..=11).contains(&second));
        };
        read_beside(&cache, look, |cache| {
            replace(cache, 1, 11);
            reclaim(cache);
            insert(cache, 2, 20);
        });
    });
}

/// The new key stands at the place of another with its tag, and in its cell.
fn change(cache: &Cache) {
    remove(cache, 1);
    reclaim(cache);
    insert(cache, 2, 20);
}

#[test]
fn what_was_seen_is_seen_again() {
    check("seen again", 3, || {
        let cache = cache();
        insert(&cache, 1, 10);
        let look = |cache: &Cache| {
            join();
            let seen = get(cache, 2);
            assert!(seen.is_none() || get(cache, 2) == Some(20), "seen, then gone");
        };
        read_beside(&cache, look, change);
    });
}

/// The place held the number of a cell that is free now.
#[test]
fn a_place_that_is_filled_again_shows_its_new_slot() {
    check("place filled again", 3, || {
        let cache = cache();
        let slots = [1, 2].map(|key| insert(&cache, key, 10 * key));
        for key in [1, 2] {
            remove(&cache, key);
            reclaim(&cache);
        }
        let look = |cache: &Cache| assert!([None, Some(30)].contains(&get(cache, 3)));
        read_beside(&cache, look, |cache| assert_eq!(insert(cache, 3, 30), slots[1]));
    });
}

#[test]
fn what_one_saw_another_sees() {
    check("seen by another", 3, || {
        let cache = cache();
        insert(&cache, 1, 10);
        let told = Arc::new(AtomicBool::new(false));
        let (shared, tell) = (Arc::clone(&cache), Arc::clone(&told));
        let first = loom::thread::spawn(move || tell.store(get(&shared, 2).is_some(), Release));
        let look = move |cache: &Cache| {
            if told.load(Acquire) {
                assert_eq!(get(cache, 2), Some(20), "seen, then gone");
            }
        };
        read_beside(&cache, look, change);
        first.join().unwrap();
    });
}

/// The index grows with the third entry, and is moved by the two after that.
#[test]
fn a_key_is_found_while_the_index_grows() {
    check("growth", 2, || {
        let cache = cache();
        insert(&cache, 1, 10);
        insert(&cache, 2, 20);
        let look = |cache: &Cache| {
            join();
            assert_eq!(get(cache, 1), Some(10), "it is always there");
            assert_eq!(get(cache, 9), None);
        };
        read_beside(&cache, look, |cache| _ = [3, 4, 5].map(|key| insert(cache, key, 10 * key)));
    });
}

/// A thread has scanned, and uses what it knows after another has found an entry named.
#[test]
fn a_stale_scan_frees_nothing() {
    check("stale scan", 3, || {
        let cache = cache();
        insert(&cache, 1, 10);
        insert(&cache, 2, 20);
        remove(&cache, 2);
        let ticket = cache.lock().seal().unwrap();
        let (scan, shared) = (cache.scan(ticket).unwrap(), Arc::clone(&cache));
        let stale = loom::thread::spawn(move || shared.reclaim(&scan));
        let look = |cache: &Cache| {
            if let Some(found) = cache.look(hash(1), |key| key.read() == 1) {
                assert_eq!(value(&found, 1), 10);
            }
        };
        read_beside(&cache, look, |cache| {
            remove(cache, 1);
            reclaim(cache);
        });
        stale.join().unwrap();
    });
}

/// Something that can be reached until it is unlinked, without a table.
struct Linked {
    is_linked: AtomicBool,
    canary: Box<loom::cell::UnsafeCell<u32>>,
}

impl Linked {
    fn new() -> Self {
        Self { is_linked: AtomicBool::new(true), canary: Box::new(loom::cell::UnsafeCell::new(0)) }
    }

    fn address(&self) -> *const u8 {
        ptr::from_ref(&*self.canary).cast()
    }

    /// Reads it, if it is linked after a hazard names it.
    fn read(&self, hazard: &Hazard) {
        let _ = hazard;
        if self.is_linked.load(Acquire) {
            self.canary.with(|_| ());
        }
    }

    /// Writes to it, if no reader can look at it after it was unlinked.
    fn free(&self) {
        self.is_linked.store(false, Release);
        let ticket = Ticket::draw();
        assert!(ticket.pass());
        assert!(ticket.has_passed());
        if named(|address| (address == self.address().addr()).then_some(())).is_empty() {
            self.canary.with_mut(|_| ());
        }
    }
}

/// Two make barriers, each for its own, and perhaps one for both.
#[test]
fn a_hazard_keeps_what_it_names() {
    for is_quick in [false, true] {
        check(if is_quick { "hazards, quick" } else { "hazards" }, 3, move || {
            let both = Arc::new([Linked::new(), Linked::new()]);
            let (one, other) = (Arc::clone(&both), Arc::clone(&both));
            let reader = loom::thread::spawn(move || {
                let hazard = Hazard::claim();
                if is_quick {
                    drop(hazard);
                    let quick = Quick::get().expect("it has a record");
                    one[0].read(&quick.protect(one[0].address()));
                } else {
                    hazard.protect(one[0].address());
                    one[0].read(&hazard);
                }
            });
            let writer = loom::thread::spawn(move || other[1].free());
            both[0].free();
            writer.join().unwrap();
            reader.join().unwrap();
        });
    }
}

/// A record goes from thread to thread.
#[test]
fn records_change_hands() {
    check("records", 3, || {
        let looked = Arc::new(Linked::new());
        let threads = [0, 1].map(|_| {
            let looked = Arc::clone(&looked);
            loom::thread::spawn(move || {
                let hazard = Hazard::claim();
                hazard.protect(looked.address());
                looked.read(&hazard);
            })
        });
        looked.free();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!((1..3).contains(&super::hazard::threads()));
    });
}
