//! How room moves between segments, and who waits for the listener: interleavings that once went wrong.
#![allow(missing_docs)]

mod common;

use common::queue::{hooked, keys_of_segments};
use common::{Identity, ends};
use larder::{Builder, Cache, Clock, EvictionPolicy, InsertOptions, WeakCache};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

type Plain = Cache<u64, u64, Identity>;
/// `count` keys of each of two segments.
fn keys(count: usize) -> [Vec<u64>; 2] {
    keys_of_segments(2, count).try_into().unwrap()
}

fn two(builder: Builder<u64, u64>) -> Plain {
    builder.segments(2).eviction_policy(EvictionPolicy::fifo()).build_with_hasher(Identity).unwrap()
}

/// Pinned entries expire while the capacity shrinks: the sweep removes them before the shrink does.
#[test]
fn a_shrink_ends_where_pinned_entries_expire_meanwhile() {
    for pinned in [1, 20, 33, 40, 48, 60] {
        for to in [0, 3] {
            ends(move || {
                let clock = Clock::manual();
                let cache: Cache<u64, u64> =
                    Cache::builder().max_capacity(1_000).segments(1).clock(clock.clone()).build().unwrap();
                let options = || InsertOptions::new().pinned(true).ttl(Duration::from_secs(1));
                (0..pinned).for_each(|key| cache.insert_with(key, key, options()));
                clock.advance(Duration::from_secs(10));
                cache.set_capacity(to);
                cache.validate();
            });
        }
    }
}

/// Pinned entries take all the places of one segment: a newcomer gets one of another segment.
#[test]
fn pins_that_fill_the_places_of_a_segment_refuse_nobody() {
    let [a, b] = keys(10);
    for by_entries in [false, true] {
        let builder = Cache::builder();
        let cache = two(if by_entries { builder.max_entries(8) } else { builder.max_capacity(8) });
        for at in 0..4 {
            cache.insert(a[at], 0);
            cache.insert(b[at], 0);
            cache.pin(&a[at]);
        }
        assert_eq!(cache.len(), 8);
        cache.insert(a[5], 0);
        assert!(cache.contains_key(&a[5]), "four entries may go for it; by entries: {by_entries}");
        cache.validate();
    }
}

/// A segment drew a large portion early, and its entries are removed: others get the room.
#[test]
fn what_is_collected_is_not_kept_again_in_large_portions() {
    let [a, b] = keys(2_000);
    let cache = two(Cache::builder().max_capacity(1_000));
    a[..120].iter().for_each(|&key| cache.insert(key, 0));
    b[..880].iter().for_each(|&key| cache.insert(key, 0));
    assert_eq!((cache.len(), cache.stats().eviction_count()), (1_000, 0));
    a[..115].iter().for_each(|key| assert!(cache.invalidate(key)));
    b[1_000..1_110].iter().for_each(|&key| cache.insert(key, 0));
    let evicted = cache.stats().eviction_count();
    assert_eq!(evicted, 0, "{} of 1000 entries", cache.len());
}

/// The same after the capacity has shrunk: the portion may be all of it.
#[test]
fn a_smaller_capacity_makes_smaller_portions() {
    let [a, b] = keys(2_000);
    let cache = two(Cache::builder().max_capacity(1 << 20));
    a[..490].iter().for_each(|&key| cache.insert(key, 0));
    b[..490].iter().for_each(|&key| cache.insert(key, 0));
    cache.set_capacity(1_000);
    b[490..510].iter().for_each(|&key| cache.insert(key, 0));
    assert_eq!((cache.len(), cache.stats().eviction_count()), (1_000, 0));
    // Full: this has to evict, and finds that nothing is loose.
    b[510..512].iter().for_each(|&key| cache.insert(key, 0));
    let before = cache.stats().eviction_count();
    assert_eq!(before, 2);
    a[..490].iter().for_each(|key| assert!(cache.invalidate(key)));
    b[1_000..1_400].iter().for_each(|&key| cache.insert(key, 0));
    let evicted = cache.stats().eviction_count() - before;
    assert_eq!(evicted, 0, "{} of 1000 entries", cache.len());
}

/// Pending tasks remove what has expired: others get the room.
#[test]
fn what_expires_by_itself_is_given_back() {
    let [a, b] = keys(2_000);
    let clock = Clock::manual();
    let cache = two(Cache::builder().max_capacity(1_000).clock(clock.clone()));
    let options = || InsertOptions::new().ttl(Duration::from_secs(1));
    for at in 0..500 {
        cache.insert_with(a[at], 0, options());
        cache.insert(b[at], 0);
    }
    (500..510).for_each(|at| cache.insert(b[at], 0));
    assert_eq!(cache.len(), 1_000);
    let before = cache.stats().eviction_count();
    assert_eq!(before, 10);
    clock.advance(Duration::from_secs(10));
    cache.run_pending_tasks();
    assert_eq!(cache.len(), 500);
    b[600..1_000].iter().for_each(|&key| cache.insert(key, 0));
    let evicted = cache.stats().eviction_count() - before;
    assert_eq!(evicted, 0, "{} of 1000 entries", cache.len());
}

/// A thread collects loose budget: others wait for it rather than evict.
#[test]
fn nothing_is_evicted_while_another_thread_collects() {
    let [a, b] = keys(2_000);
    let (armed, admitted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (at_it, is_at_it) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let channels = Mutex::new((at_it, goes_on));
    let (is_armed, count) = (Arc::clone(&armed), Arc::clone(&admitted));
    let on_admit = move |index: usize| {
        // The third time: after what was loose has been collected.
        if index == 0 && is_armed.load(SeqCst) == 1 && count.fetch_add(1, SeqCst) == 2 {
            let channels = channels.lock().unwrap();
            channels.0.send(()).unwrap();
            let _ = channels.1.recv_timeout(Duration::from_secs(3));
        }
    };
    let cache: Plain = Cache::builder()
        .max_capacity(1_000)
        .segments(2)
        .eviction_policy(hooked(Arc::new(on_admit), Arc::new(|_| ()), Arc::new(|_| ())))
        .build_with_hasher(Identity)
        .unwrap();
    b[..10].iter().for_each(|&key| cache.insert(key, 0));
    // B has drawn about an eighth; A takes the rest.
    let mut next = 0;
    while cache.len() < 870 {
        cache.insert(a[next], 0);
        next += 1;
    }
    armed.store(1, SeqCst);
    thread::scope(|scope| {
        let (cache, a) = (&cache, &a);
        scope.spawn(move || {
            for &key in &a[next..next + 40] {
                admitted.store(0, SeqCst);
                cache.insert(key, 0);
            }
        });
        is_at_it.recv_timeout(Duration::from_secs(3)).expect("A has to collect");
        // A fix may let this wait until the other is done.
        let (done, is_done) = mpsc::channel();
        let b = &b;
        scope.spawn(move || {
            b[100..110].iter().for_each(|&key| cache.insert(key, 0));
            let _ = done.send(());
        });
        let _ = is_done.recv_timeout(Duration::from_millis(300));
        armed.store(0, SeqCst);
        go_on.send(()).unwrap();
    });
    let evicted = cache.stats().eviction_count();
    assert_eq!(evicted, 0, "{} of 1000 entries", cache.len());
}

/// Another thread is in the listener, and the queue is long.
#[test]
fn pending_tasks_do_not_wait_for_the_listener() {
    let clock = Clock::manual();
    let (stop, stopped) = mpsc::channel::<()>();
    let (inside, is_inside) = mpsc::channel();
    let channels = Mutex::new((inside, stopped));
    let cache: Cache<u64, u64> = Cache::builder()
        .max_capacity(100_000)
        .segments(1)
        .time_to_live(Duration::from_secs(1))
        .clock(clock.clone())
        .eviction_listener(move |key, _, _| {
            if *key == 0 {
                let channels = channels.lock().unwrap();
                channels.0.send(()).unwrap();
                let _ = channels.1.recv();
            }
        })
        .build()
        .unwrap();
    (0..1_000).for_each(|key| cache.insert(key, 0));
    let first = cache.clone();
    let slow = thread::spawn(move || first.invalidate(&0));
    is_inside.recv().unwrap();
    clock.advance(Duration::from_secs(10));
    let other = cache.clone();
    ends(move || other.run_pending_tasks());
    stop.send(()).unwrap();
    slow.join().unwrap();
}

/// The listener joins a load; its leader's insert queues an entry for the same listener, and lands the value all the same.
#[test]
fn a_listener_may_wait_for_a_load_whose_value_makes_entries_leave() {
    ends(|| {
        let handle: Arc<OnceLock<WeakCache<u64, u64>>> = Arc::default();
        let inside = Arc::clone(&handle);
        let (at_it, is_at_it) = mpsc::channel();
        let at_it = Mutex::new(at_it);
        let cache: Cache<u64, u64> = Cache::builder()
            .max_capacity(16)
            .segments(1)
            .eviction_policy(EvictionPolicy::fifo())
            .eviction_listener(move |key: &u64, _: &u64, _| {
                if *key == 0 {
                    let cache = inside.get().unwrap().upgrade().unwrap();
                    let _ = at_it.lock().unwrap().send(());
                    cache.get_or_load(1_000, |_| 7);
                }
            })
            .build()
            .unwrap();
        handle.set(cache.downgrade()).unwrap();
        cache.insert(0, 0);
        let other = cache.clone();
        let (loads, is_loading) = mpsc::channel();
        let leader = thread::spawn(move || {
            other.get_or_load(1_000, |_| {
                loads.send(()).unwrap();
                is_at_it.recv().unwrap();
                // The listener waits for this load now.
                thread::sleep(Duration::from_millis(300));
                7
            })
        });
        is_loading.recv().unwrap();
        let third = cache.clone();
        let deliverer = thread::spawn(move || third.invalidate(&0));
        thread::sleep(Duration::from_millis(100));
        // Enough is queued for the next one to wait. Here nobody waits, since each entry queues few: so from one that may not.
        (1..17).for_each(|key| cache.insert(key, key));
        let fourth = cache.clone();
        let queueing = thread::spawn(move || fourth.invalidate_all());
        leader.join().unwrap();
        deliverer.join().unwrap();
        queueing.join().unwrap();
    });
}

/// Entries that come at the next capacity stay, pinned ones, too.
#[test]
fn a_capacity_of_0_that_is_overtaken_removes_nothing() {
    let (inside, is_inside) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    let channels = Mutex::new((inside, goes_on));
    let cache: Cache<u64, u64> = Cache::builder()
        .max_capacity(100)
        .segments(1)
        .eviction_listener(move |key, _, _| {
            if *key == 0 {
                let channels = channels.lock().unwrap();
                channels.0.send(()).unwrap();
                let _ = channels.1.recv();
            }
        })
        .build()
        .unwrap();
    cache.insert(0, 0);
    let first = cache.clone();
    let zero = thread::spawn(move || first.set_capacity(0));
    is_inside.recv().unwrap();
    cache.set_capacity(100);
    cache.insert_with(1, 1, InsertOptions::new().pinned(true));
    go_on.send(()).unwrap();
    zero.join().unwrap();
    assert_eq!((cache.capacity(), cache.get(&1)), (100, Some(1)), "it was pinned, and there is room");
}

/// Pinned entries leave too little room for an entry: it is refused before anything is evicted.
#[test]
fn an_entry_that_is_refused_for_pins_harms_no_other() {
    let [a, b] = keys(200);
    let cache = two(Cache::builder().max_capacity(1_000).weigher(|_, value| *value));
    (0..60).for_each(|at| cache.insert_with(b[at], 10, InsertOptions::new().pinned(true)));
    (60..90).for_each(|at| cache.insert(b[at], 10));
    assert_eq!((cache.weighted_size(), cache.stats().eviction_count()), (900, 0));
    cache.insert(a[0], 500);
    assert_eq!(cache.get(&a[0]), None, "600 of 1000 are pinned");
    assert_eq!(cache.stats().eviction_count(), 0, "in vain: {} is left", cache.weighted_size());
}

/// The same in a segment to which another thread writes, once for each round of the search for room.
#[test]
fn refusal_comes_soon_where_others_write_to_the_segment() {
    thread_local! { static ROUNDS: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) } }
    let [a, b] = keys(400);
    let (ask, asked) = mpsc::channel();
    let (done, is_done) = mpsc::channel();
    let channels = Mutex::new((ask, is_done));
    // In the thread that inserts: lets another write to segment 0 while this one has the lock of segment 1.
    let on_capacity = move |index| {
        if let Some(rounds) = ROUNDS.get().filter(|rounds| index == 1 && *rounds < 500) {
            ROUNDS.set(Some(rounds + 1));
            let channels = channels.lock().unwrap();
            channels.0.send(()).unwrap();
            channels.1.recv().unwrap();
        }
    };
    let cache: Plain = Cache::builder()
        .max_capacity(1_000)
        .segments(2)
        .weigher(|_, value| *value)
        .eviction_policy(hooked(Arc::new(|_| ()), Arc::new(|_| ()), Arc::new(on_capacity)))
        .build_with_hasher(Identity)
        .unwrap();
    (0..60).for_each(|at| cache.insert_with(b[at], 10, InsertOptions::new().pinned(true)));
    let (other, keys) = (cache.clone(), a.clone());
    let writer = thread::spawn(move || {
        for (at, ()) in asked.iter().enumerate() {
            other.insert(keys[1 + at % 300], 1);
            done.send(()).unwrap();
            if at == 499 {
                break;
            }
        }
    });
    ROUNDS.set(Some(0));
    cache.insert(a[0], 500);
    let rounds = ROUNDS.replace(None).unwrap();
    drop(cache);
    drop(writer);
    assert!(rounds < 30, "{rounds} calls in the other segment for one insert that is refused");
}
