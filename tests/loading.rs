//! One loader a key, and what becomes of its load.
#![allow(missing_docs)]

mod common;

use common::{panics, quiet, size};
use larder::{BuildError, Cache, LoadError, Op};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// Polls once, with nobody to wake.
fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// A future that is ready when the channel has something.
async fn receive<T>(from: Receiver<T>) -> T {
    poll_fn(|_| from.try_recv().map_or(Poll::Pending, Poll::Ready)).await
}

/// Waits until so many others wait for a load.
fn await_waits(cache: &Cache<u64, u64>, waits: u64) {
    while cache.stats().load_wait_count() < waits {
        thread::yield_now();
    }
}

fn counting(capacity: u64, segments: usize) -> Cache<u64, u64> {
    Cache::builder().max_capacity(capacity).segments(segments).record_stats().build().unwrap()
}

/// Many threads, each time on the same missing key. They meet at the moment of completion, too.
#[test]
fn one_loads_and_the_others_wait() {
    let (threads, rounds) = (size(64, 3), size(1_000, 3) as u64);
    let cache = counting(100, 4);
    let loads = AtomicUsize::new(0);
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for key in 0..rounds {
                    start.wait();
                    let value = cache.get_or_load(key, |&key| {
                        loads.fetch_add(1, SeqCst);
                        key + 1
                    });
                    assert_eq!(value, key + 1);
                    // Nobody is at the next key while another is at this one, which then could be evicted.
                    start.wait();
                }
            });
        }
    });
    assert_eq!(loads.load(SeqCst), rounds as usize);
    assert_eq!(cache.stats().load_success_count(), rounds);
    cache.validate();
}

/// Whatever makes the key invalid during its load: the caller gets the value, the cache does not keep it, the next caller
/// loads anew.
#[test]
fn a_load_cannot_undo_an_invalidation() {
    type Act = fn(&Cache<u64, u64>);
    let acts: [(&str, Act); 10] = [
        ("invalidate", |cache| _ = cache.invalidate(&1)),
        ("remove", |cache| _ = cache.remove(&1)),
        ("remove_if", |cache| _ = cache.remove_if(&1, |_, _| false)),
        ("invalidate_all", Cache::invalidate_all),
        ("retain", |cache| cache.retain(|_, _| true)),
        ("drain", |cache| drop(cache.drain())),
        ("compute, to remove", |cache| _ = cache.compute(1, |_| Op::Remove)),
        ("insert and remove", |cache| {
            cache.insert(1, 5);
            cache.remove(&1);
        }),
        ("from another thread", |cache| {
            thread::scope(|scope| {
                scope.spawn(|| cache.invalidate(&1));
            });
        }),
        ("refused", |cache| {
            cache.insert_with(1, 5, larder::InsertOptions::new().weight(1_000));
        }),
    ];
    for (name, act) in acts {
        for segments in [1, 4] {
            let cache = counting(100, segments);
            let value = cache.get_or_load(1, |_| {
                act(&cache);
                7
            });
            assert_eq!((value, cache.get(&1)), (7, None), "{name}");
            assert_eq!(cache.get_or_load(1, |_| 8), 8, "{name}: who comes later loads");
            assert_eq!(cache.get(&1), Some(8), "{name}: and that is kept");
            // As a refresh of what is there.
            let value = cache.refresh(1, |_| {
                act(&cache);
                9
            });
            assert_eq!(value, 9, "{name}");
            assert_ne!(cache.get(&1), Some(9), "{name}");
            // Of many keys, those that nobody asked for, too.
            cache.invalidate_all();
            let found = cache.get_all_or_load([0, 2], |_: &[u64]| {
                act(&cache);
                [(0, 10), (1, 11), (2, 12)]
            });
            assert_eq!(found.len(), 2, "{name}");
            assert_eq!(cache.get(&1), None, "{name}");
            cache.validate();
        }
    }
}

#[test]
fn what_is_written_during_a_load_stays() {
    type Act = fn(&Cache<u64, u64>);
    let acts: [Act; 4] = [
        |cache| cache.insert(1, 5),
        |cache| _ = cache.compute(1, |_| Op::Insert(5)),
        |cache| _ = cache.entry(1).or_insert(5),
        |cache| _ = cache.entry(1).and_upsert_with(|_| 5),
    ];
    for act in acts {
        let cache = counting(100, 1);
        let value = cache.get_or_load(1, |_| {
            act(&cache);
            7
        });
        assert_eq!((value, cache.get(&1)), (7, Some(5)));
    }
}

/// To make room is no invalidation.
#[test]
fn evictions_leave_loads_alone() {
    let cache = counting(10, 1);
    let value = cache.get_or_load(1, |_| {
        (100..200).for_each(|key| cache.insert(key, key));
        7
    });
    assert_eq!((value, cache.get(&1)), (7, Some(7)));
}

/// An invalidated load that comes to its end late must not touch the one that has begun since.
#[test]
fn a_late_load_leaves_its_successor_alone() {
    let cache = counting(100, 1);
    let (first_sender, first) = mpsc::channel();
    let (second_sender, second) = mpsc::channel();
    let mut late = Box::pin(cache.get_or_load_async(1, |_| receive(first)));
    assert!(poll(&mut late).is_pending());
    cache.invalidate(&1);
    let mut next = Box::pin(cache.get_or_load_async(1, |_| receive(second)));
    assert!(poll(&mut next).is_pending());
    first_sender.send(7).unwrap();
    assert_eq!(poll(&mut late), Poll::Ready(7));
    assert_eq!(cache.get(&1), None);
    // Joins the second, and so does not load.
    let mut joined = Box::pin(cache.get_or_load_async(1, |_| async { unreachable!("it is being loaded") }));
    assert!(poll(&mut joined).is_pending());
    second_sender.send(8).unwrap();
    assert_eq!(poll(&mut next), Poll::Ready(8));
    assert_eq!(poll(&mut joined), Poll::Ready(8));
    assert_eq!(cache.get(&1), Some(8));
}

#[test]
fn threads_and_tasks_wait_for_each_other() {
    let cache = counting(100, 1);
    let (sender, value) = mpsc::channel();
    let mut task = Box::pin(cache.get_or_load_async(1, |_| receive(value)));
    assert!(poll(&mut task).is_pending());
    thread::scope(|scope| {
        let thread = scope.spawn(|| cache.get_or_load(1, |_| unreachable!("it is being loaded")));
        let other = scope.spawn(|| block_on(cache.get_or_load_async(1, |_| async { unreachable!() })));
        await_waits(&cache, 2);
        sender.send(7).unwrap();
        assert_eq!(poll(&mut task), Poll::Ready(7));
        assert_eq!((thread.join().unwrap(), other.join().unwrap()), (7, 7));
    });
    // And the other way round.
    thread::scope(|scope| {
        let (sender, value) = mpsc::channel();
        let (begins, begun) = mpsc::channel();
        let cache = &cache;
        let thread = scope.spawn(move || {
            cache.get_or_load(2, |_| {
                begins.send(()).unwrap();
                value.recv().unwrap()
            })
        });
        begun.recv().unwrap();
        let mut task = Box::pin(cache.get_or_load_async(2, |_| async { unreachable!("it is being loaded") }));
        assert!(poll(&mut task).is_pending());
        sender.send(8).unwrap();
        assert_eq!((thread.join().unwrap(), block_on(task)), (8, 8));
    });
}

#[test]
fn an_error_reaches_who_waits_and_is_not_kept() {
    let cache = counting(100, 1);
    let (sender, value) = mpsc::channel::<Result<u64, String>>();
    let mut leader = Box::pin(cache.try_get_or_load_async(1, |_| receive(value)));
    assert!(poll(&mut leader).is_pending());
    thread::scope(|scope| {
        let same = scope.spawn(|| cache.try_get_or_load(1, |_| -> Result<u64, String> { unreachable!() }));
        await_waits(&cache, 1);
        sender.send(Err("down".to_owned())).unwrap();
        let Poll::Ready(Err(LoadError::Failed(mine))) = poll(&mut leader) else { panic!("it failed") };
        let Err(LoadError::Failed(theirs)) = same.join().unwrap() else { panic!("it failed") };
        assert!(Arc::ptr_eq(&mine, &theirs));
    });
    assert_eq!(cache.get(&1), None);
    assert_eq!(cache.try_get_or_load::<String>(1, |_| Ok(7)).unwrap(), 7);
    let stats = cache.stats();
    assert_eq!((stats.load_success_count(), stats.load_failure_count()), (1, 1));
}

/// Who cannot take the error, being of another type or unable to fail, loads.
#[test]
fn an_error_of_another_type_makes_the_waiter_load() {
    let cache = counting(100, 1);
    let (sender, value) = mpsc::channel::<Result<u64, String>>();
    let mut leader = Box::pin(cache.try_get_or_load_async(1, |_| receive(value)));
    assert!(poll(&mut leader).is_pending());
    let mut sure = Box::pin(cache.get_or_load_async(1, |_| async { 7 }));
    assert!(poll(&mut sure).is_pending());
    sender.send(Err("down".to_owned())).unwrap();
    assert!(matches!(poll(&mut leader), Poll::Ready(Err(LoadError::Failed(_)))));
    assert_eq!(poll(&mut sure), Poll::Ready(7));
}

#[test]
fn when_the_leader_panics_another_takes_over() {
    quiet();
    let cache = counting(100, 1);
    let rounds = size(50, 2) as u64;
    for key in 0..rounds {
        let joined = Barrier::new(2);
        thread::scope(|scope| {
            let (cache, joined) = (&cache, &joined);
            scope.spawn(move || {
                assert!(panics(|| cache.get_or_load(key, |_| {
                    joined.wait();
                    await_waits(cache, key + 1);
                    panic!("on purpose")
                })));
            });
            joined.wait();
            assert_eq!(cache.get_or_load(key, |_| 7), 7);
        });
        assert_eq!(cache.get(&key), Some(7));
    }
    assert_eq!(cache.stats().load_success_count(), rounds);
}

#[test]
fn when_the_leaders_future_is_dropped_another_takes_over() {
    let cache = counting(100, 1);
    let mut leader = Box::pin(cache.get_or_load_async(1, |_| std::future::pending()));
    assert!(poll(&mut leader).is_pending());
    thread::scope(|scope| {
        let thread = scope.spawn(|| cache.get_or_load(1, |_| 7));
        let mut task = Box::pin(cache.get_or_load_async(1, |_| async { 7 }));
        assert!(poll(&mut task).is_pending());
        await_waits(&cache, 2);
        drop(leader);
        assert_eq!(thread.join().unwrap(), 7);
        assert_eq!(block_on(task), 7);
    });
    assert_eq!(cache.stats().load_success_count(), 1);
}

/// A leader that nobody polls or drops: with a limit the others go their own way, and what it brings late is not kept.
#[test]
fn a_limit_frees_those_who_wait() {
    let cache: Cache<u64, u64> =
        Cache::builder().max_capacity(100).load_timeout(Duration::from_millis(20)).build().unwrap();
    let (sender, value) = mpsc::channel();
    let mut stuck = Box::pin(cache.get_or_load_async(1, |_| receive(value)));
    assert!(poll(&mut stuck).is_pending());
    assert_eq!(cache.get_or_load(1, |_| 7), 7);
    assert_eq!(cache.get(&1), Some(7));
    sender.send(8).unwrap();
    assert_eq!(poll(&mut stuck), Poll::Ready(8));
    assert_eq!(cache.get(&1), Some(7));
    // The same for a task, which nobody but larder's timer wakes.
    cache.invalidate(&1);
    let mut stuck = Box::pin(cache.get_or_load_async(1, |_| std::future::pending()));
    assert!(poll(&mut stuck).is_pending());
    assert_eq!(block_on(cache.get_or_load_async(1, |_| async { 9 })), 9);
}

#[test]
fn a_loader_that_would_wait_for_itself_is_told() {
    quiet();
    let cache: Cache<u64, u64> = Cache::new(100);
    let inner = cache.try_get_or_load(1, |_| {
        let own = cache.try_get_or_load::<()>(1, |_| unreachable!());
        assert!(matches!(own, Err(LoadError::Recursive)));
        // Others by way of a third.
        cache.try_get_or_load(2, |_| match cache.try_get_or_load::<()>(1, |_| unreachable!()) {
            Err(LoadError::Recursive) => Err("ring"),
            _ => unreachable!(),
        })
    });
    let Err(LoadError::Failed(error)) = inner else { panic!("it fails") };
    assert!(matches!(&*error, LoadError::Failed(ring) if **ring == "ring"));
    assert!(panics(|| cache.get_or_load(1, |_| cache.get_or_load(1, |_| unreachable!()))));
    assert!(panics(|| cache.get_or_load(1, |_| cache.refresh(1, |_| unreachable!()))));
    // Nothing is left behind.
    assert_eq!(cache.get_or_load(1, |_| 7), 7);
    // Tasks.
    let ring = block_on(cache.try_get_or_load_async::<(), _>(3, |_| async {
        match cache.try_get_or_load_async::<(), _>(3, |_| async { unreachable!() }).await {
            Err(LoadError::Recursive) => Ok(3),
            _ => unreachable!(),
        }
    }));
    assert_eq!(ring.unwrap(), 3);
    // Of many keys.
    let found = cache.get_all_or_load([4, 5], |_: &[u64]| {
        let own = cache.try_get_all_or_load([5, 6], |_: &[u64]| Ok::<_, ()>([(6, 6)]));
        assert!(matches!(own, Err(LoadError::Recursive)));
        [(4, 4), (5, 5)]
    });
    assert_eq!(found, HashMap::from([(4, 4), (5, 5)]));
}

/// Loaders of two threads that want each other's keys.
#[test]
fn a_ring_of_threads_is_told() {
    for round in 0..size(50, 2) {
        let cache: Cache<u64, u64> = Cache::new(100);
        let both = Barrier::new(2);
        let load = |mine: u64, other: u64| {
            cache.try_get_or_load::<()>(mine, |_| {
                both.wait();
                match cache.try_get_or_load::<()>(other, |_| Ok(1)) {
                    Ok(value) => Ok(value + 1),
                    Err(LoadError::Recursive) => Ok(10),
                    Err(error) => panic!("{error:?}"),
                }
            })
        };
        let (a, b) = thread::scope(|scope| {
            let a = scope.spawn(|| load(1, 2).unwrap());
            let b = scope.spawn(|| load(2, 1).unwrap());
            (a.join().unwrap(), b.join().unwrap())
        });
        // One of them is told, and the other gets what that makes of it.
        assert!((a, b) == (10, 11) || (a, b) == (11, 10), "{a} {b} in round {round}");
    }
}

#[test]
fn a_refresh_leaves_readers_the_value_before() {
    let cache = counting(100, 1);
    cache.insert(1, 5);
    let (sender, value) = mpsc::channel();
    let mut refresh = Box::pin(cache.refresh_async(1, |_| receive(value)));
    assert!(poll(&mut refresh).is_pending());
    assert_eq!(cache.get_or_load(1, |_| unreachable!()), 5);
    let mut joined = Box::pin(cache.refresh_async(1, |_| async { unreachable!() }));
    assert!(poll(&mut joined).is_pending());
    sender.send(6).unwrap();
    assert_eq!(poll(&mut refresh), Poll::Ready(6));
    assert_eq!(poll(&mut joined), Poll::Ready(6));
    assert_eq!(cache.get(&1), Some(6));
    assert!(cache.try_refresh(1, |_| Err("down")).is_err());
    assert_eq!(cache.get(&1), Some(6));
    assert_eq!(block_on(cache.try_refresh_async::<(), _>(1, |_| async { Ok(8) })).unwrap(), 8);
}

#[test]
fn many_keys_take_one_loader() {
    let cache = counting(100, 4);
    cache.insert(1, 10);
    let (sender, value) = mpsc::channel();
    let mut other = Box::pin(cache.get_or_load_async(2, |_| receive(value)));
    assert!(poll(&mut other).is_pending());
    let mut calls = Vec::new();
    let mut all = Box::pin(cache.get_all_or_load_async([5, 1, 2, 3, 3, 4, 1], |keys: Vec<u64>| {
        calls.push(keys);
        async { vec![(3, 30), (9, 90), (5, 50), (3, 31)] }
    }));
    // All but what the other brings.
    assert!(poll(&mut all).is_pending());
    assert_eq!([3, 5, 9].map(|key| cache.get(&key)), [Some(30), Some(50), Some(90)]);
    sender.send(20).unwrap();
    assert_eq!(poll(&mut other), Poll::Ready(20));
    let Poll::Ready(found) = poll(&mut all) else { panic!("all have landed") };
    drop(all);
    assert_eq!(found, HashMap::from([(1, 10), (2, 20), (3, 30), (5, 50)]));
    assert_eq!(calls, [vec![5, 3, 4]]);
    cache.validate();
}

#[test]
fn large_calls_are_split() {
    let cache: Cache<u64, u64> = Cache::builder().max_capacity(100).max_batch(3).build().unwrap();
    let mut calls = Vec::new();
    let found = cache.get_all_or_load(0..8, |keys: &[u64]| {
        calls.push(keys.to_vec());
        keys.iter().map(|&key| (key, key)).collect::<Vec<_>>()
    });
    assert_eq!(found.len(), 8);
    assert_eq!(calls, [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]);
    let none = Cache::<u64, u64>::builder().max_capacity(1).max_batch(0).build();
    assert!(matches!(none, Err(BuildError::MaxBatch)));
}

/// One who waits for a key that a call for many has not got loads it; a call for many leaves it out.
#[test]
fn what_a_call_for_many_does_not_bring() {
    let cache = counting(100, 1);
    let (sender, value) = mpsc::channel();
    let mut value = Some(value);
    let mut many =
        Box::pin(cache.get_all_or_load_async([1, 2], |_| receive(value.take().expect("one call"))));
    assert!(poll(&mut many).is_pending());
    let mut single = Box::pin(cache.get_or_load_async(1, |_| async { 7 }));
    let mut other = Box::pin(
        cache.get_all_or_load_async([1, 2], |_: Vec<u64>| receive(mpsc::channel::<Vec<(u64, u64)>>().1)),
    );
    assert!(poll(&mut single).is_pending());
    assert!(poll(&mut other).is_pending());
    sender.send(vec![(2, 20)]).unwrap();
    assert_eq!(poll(&mut many), Poll::Ready(HashMap::from([(2, 20)])));
    assert_eq!(poll(&mut other), Poll::Ready(HashMap::from([(2, 20)])));
    assert_eq!(poll(&mut single), Poll::Ready(7));
}

#[test]
fn calls_for_the_same_keys_in_opposite_order_end() {
    let cache = counting(1_000, 4);
    let rounds = size(300, 2) as u64;
    thread::scope(|scope| {
        for turned in [false, true] {
            let cache = &cache;
            scope.spawn(move || {
                for round in 0..rounds {
                    let mut keys: Vec<_> = (round * 8..round * 8 + 8).collect();
                    if turned {
                        keys.reverse();
                    }
                    let load = |keys: &[u64]| keys.iter().map(|&key| (key, key)).collect::<Vec<_>>();
                    assert_eq!(cache.get_all_or_load(keys, load).len(), 8);
                }
            });
        }
    });
}

#[test]
fn a_call_for_many_that_fails_or_panics_leaves_nothing() {
    quiet();
    let cache = counting(100, 1);
    let failed = cache.try_get_all_or_load([1, 2], |_: &[u64]| Err::<Vec<_>, _>("down"));
    assert!(matches!(failed, Err(LoadError::Failed(error)) if *error == "down"));
    assert!(
        panics(|| cache.get_all_or_load([1, 2], |_: &[u64]| -> Vec<(u64, u64)> { panic!("on purpose") }))
    );
    assert_eq!(cache.get_or_load(1, |_| 7), 7);
    assert_eq!(cache.get_all_or_load([1, 2], |keys: &[u64]| [(keys[0], 8)]).len(), 2);
}

/// A cache that keeps nothing still lets those wait who come during the load.
#[test]
fn nothing_need_be_kept() {
    let cache = counting(0, 1);
    assert_eq!(cache.get_or_load(1, |_| 7), 7);
    assert_eq!(cache.get_or_load(1, |_| 8), 8);
    let (sender, value) = mpsc::channel();
    let mut leader = Box::pin(cache.get_or_load_async(1, |_| receive(value)));
    let mut joined = Box::pin(cache.get_or_load_async(1, |_| async { unreachable!("it is being loaded") }));
    assert!(poll(&mut leader).is_pending());
    assert!(poll(&mut joined).is_pending());
    sender.send(9).unwrap();
    assert_eq!(poll(&mut leader), Poll::Ready(9));
    assert_eq!(poll(&mut joined), Poll::Ready(9));
}

/// The listener panics, or the weigher: who waits gets the value all the same.
#[test]
fn a_panic_while_the_value_lands_keeps_nobody_waiting() {
    quiet();
    let cache: Cache<u64, u64> = Cache::builder()
        .max_capacity(100)
        .weigher(|_, &value| if value == 13 { panic!("on purpose") } else { 1 })
        .build()
        .unwrap();
    let (sender, value) = mpsc::channel();
    let mut leader = Box::pin(cache.get_or_load_async(1, |_| receive(value)));
    let mut joined = Box::pin(cache.get_or_load_async(1, |_| async { unreachable!("it is being loaded") }));
    assert!(poll(&mut leader).is_pending());
    assert!(poll(&mut joined).is_pending());
    sender.send(13).unwrap();
    assert!(panics(|| _ = poll(&mut leader)));
    drop(leader);
    assert_eq!(poll(&mut joined), Poll::Ready(13));
    assert_eq!(cache.get_or_load(1, |_| 7), 7);
    cache.validate();
}

/// The `Clone` of keys and values uses the cache: no lock is held then.
#[test]
fn keys_and_values_may_use_the_cache() {
    #[derive(PartialEq, Eq, Hash, Debug)]
    struct Key(u64);
    static CACHE: std::sync::LazyLock<Cache<Key, Value>> = std::sync::LazyLock::new(|| Cache::new(100));
    fn use_it() {
        CACHE.contains_key(&Key(99));
        CACHE.invalidate(&Key(98));
    }
    impl Clone for Key {
        fn clone(&self) -> Self {
            use_it();
            Self(self.0)
        }
    }
    #[derive(Debug)]
    struct Value(u64);
    impl Clone for Value {
        fn clone(&self) -> Self {
            use_it();
            Self(self.0)
        }
    }
    impl Drop for Value {
        fn drop(&mut self) {
            use_it();
        }
    }
    let (sender, value) = mpsc::channel();
    let mut leader = Box::pin(CACHE.get_or_load_async(Key(1), |_| receive(value)));
    let mut joined = Box::pin(CACHE.get_or_load_async(Key(1), |_| async { unreachable!() }));
    assert!(poll(&mut leader).is_pending());
    assert!(poll(&mut joined).is_pending());
    sender.send(Value(7)).unwrap();
    assert!(poll(&mut leader).is_ready());
    assert!(poll(&mut joined).is_ready());
    assert_eq!(CACHE.get_all_or_load([Key(1), Key(2)], |_: &[Key]| [(Key(2), Value(2))]).len(), 2);
}

/// Futures are `Send`, and not much larger than what they were given: the loader's own stands in a box.
#[test]
fn futures_are_small() {
    fn size_of_sent<T: Send>(value: T) -> usize {
        size_of_val(&value)
    }
    let cache: Cache<u64, u64> = Cache::new(1);
    let large = |_: &u64| {
        let block = [1_u8; 4_000];
        async move {
            poll_fn(|_| Poll::Ready(())).await;
            u64::from(block[7])
        }
    };
    let one = size_of_sent(cache.get_or_load_async(1, large));
    let many = size_of_sent(cache.get_all_or_load_async([1], |_| async { [(1, 1)] }));
    assert!(one <= 512 && many <= 640, "{one} and {many} bytes");
}

/// What else of its user's runs during a load may ask for the key, too: it is told, rather than kept waiting.
#[test]
fn weighers_iterators_and_later_batches_are_part_of_the_load() {
    use std::sync::OnceLock;
    static CACHE: OnceLock<Cache<u64, u64>> = OnceLock::new();
    let is_told = |key| {
        matches!(
            CACHE.get().unwrap().try_get_or_load::<()>(key, |_| unreachable!()),
            Err(LoadError::Recursive)
        )
    };
    let weigher = move |&key: &u64, _: &u64| {
        assert!(is_told(key));
        1
    };
    let cache = Cache::builder().max_capacity(100).max_batch(1).weigher(weigher).build().unwrap();
    let cache = CACHE.get_or_init(|| cache);
    assert_eq!(cache.get_or_load(1, |_| 7), 7);
    let found = cache.get_all_or_load([2, 3], |keys: &[u64]| {
        let key = keys[0];
        // The third is led by this call, and its turn comes after the second's.
        assert!(key == 3 || is_told(3));
        std::iter::from_fn(move || {
            assert!(is_told(key));
            None
        })
    });
    assert!(found.is_empty());
}
