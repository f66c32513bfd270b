//! User code that runs as part of a load and asks the same cache for keys: what would wait for itself is told, and no lock is
//! held. Case 48 of ADVERSARIES.
#![allow(missing_docs)]

mod common;

use common::loads::{Gate, Numbers, Task, block_on, counting, numbers};
use common::{ends, panics, size};
use larder::{Cache, LoadError};
use std::collections::HashMap;
use std::future::{pending, ready};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Barrier, OnceLock};
use std::task::{Wake, Waker};
use std::thread;

/// Asks for a key that is being loaded by whoever asks.
fn is_told(cache: &Numbers, key: u64) -> bool {
    let asked = cache.try_get_or_load(key, |_| -> Result<u64, u8> { unreachable!("it is being loaded") });
    matches!(asked, Err(LoadError::Recursive))
}

/// Case 48: a loader that would wait for itself is told, directly and by way of other keys, in a thread and in a task.
#[test]
fn a_loader_that_would_wait_for_itself_is_told() {
    ends(|| {
        let cache = &numbers();
        let asks = |key: u64| {
            assert!(is_told(cache, key), "{key}");
            7
        };
        assert_eq!(cache.get_or_load(1, |&key| asks(key)), 7);
        let refreshes = |key: &u64| cache.try_refresh(*key, |_| Ok::<u64, u8>(0));
        let refreshed = cache.refresh(1, |key| {
            assert!(matches!(refreshes(key), Err(LoadError::Recursive)));
            8
        });
        assert_eq!(refreshed, 8);
        // By way of two more, and then with errors all the way.
        assert_eq!(cache.get_or_load(2, |_| cache.get_or_load(3, |_| cache.get_or_load(4, |_| asks(2)))), 7);
        let ring = cache.try_get_or_load(5, |_| {
            cache.try_get_or_load(6, |_| if is_told(cache, 5) { Err("ring") } else { Ok(0) })
        });
        let Err(LoadError::Failed(error)) = ring else { panic!("it fails") };
        assert!(matches!(&*error, LoadError::Failed(ring) if **ring == "ring"));
        // By way of a call for many.
        cache.get_or_load(5, |_| {
            let many = cache.try_get_all_or_load([6, 5], |_| Ok::<Vec<_>, u8>(Vec::new()));
            assert!(matches!(many, Err(LoadError::Recursive)));
            7
        });
        assert_eq!(cache.get(&6), None);
        assert_eq!(cache.get_or_load(6, |_| 1), 1, "nobody is taken for loading it");
        // Tasks.
        let outermost = |_: &u64| async {
            let asked = cache.try_get_or_load_async(10, |_| ready(Ok::<_, u8>(0))).await;
            assert!(matches!(asked, Err(LoadError::Recursive)));
            7
        };
        let asked = cache.get_or_load_async(10, |_| cache.get_or_load_async(11, outermost));
        assert_eq!(block_on(asked), 7);
    });
}

/// Case 48: where there is no `Result` to tell it by, it is a panic, and the key can be loaded afterwards.
#[test]
fn a_loader_that_would_wait_for_itself_and_cannot_fail_panics() {
    ends(|| {
        let cache = &numbers();
        let own: [&dyn Fn() -> u64; 2] =
            [&|| cache.get_or_load(1, |_| unreachable!()), &|| cache.refresh(1, |_| unreachable!())];
        for own in own {
            assert!(panics(|| {
                cache.get_or_load(1, |_| {
                    assert!(!panics(own), "on purpose");
                    0
                })
            }));
        }
        assert_eq!(cache.get_or_load(1, |_| 7), 7);
    });
}

/// A loader whose own load is out of date does not wait for it, so it may ask.
#[test]
fn a_loader_that_has_made_its_key_invalid_may_ask_for_it() {
    let cache = numbers();
    let again = |key: &u64| {
        cache.invalidate(key);
        cache.get_or_load(*key, |_| 1) + 1
    };
    assert_eq!((cache.get_or_load(30, again), cache.get(&30)), (2, Some(1)));
}

/// Case 48: loaders of two threads that want each other's keys. One is told, and the other gets what that makes of it.
#[test]
fn a_ring_of_threads_is_told() {
    ends(|| {
        for round in 0..size(50, 2) {
            let cache: Numbers = Cache::new(100);
            let both = Barrier::new(2);
            let load = |mine: u64, other: u64| {
                cache.get_or_load(mine, |_| {
                    both.wait();
                    match cache.try_get_or_load::<()>(other, |_| Ok(1)) {
                        Ok(value) => value + 1,
                        Err(LoadError::Recursive) => 10,
                        Err(error) => panic!("{error:?}"),
                    }
                })
            };
            let (a, b) = thread::scope(|scope| {
                let a = scope.spawn(|| load(1, 2));
                let b = scope.spawn(|| load(2, 1));
                (a.join().unwrap(), b.join().unwrap())
            });
            assert!((a, b) == (10, 11) || (a, b) == (11, 10), "{a} {b} in round {round}");
        }
    });
}

/// Case 48 in calls for many keys: keys whose turn is yet to come count as well, and so does work that the loader left to its
/// iterator.
#[test]
fn a_loader_of_many_that_would_wait_for_itself_is_told() {
    ends(|| {
        let cache = &counting().max_batch(1).build().unwrap();
        let asks = |key: u64| assert!(is_told(cache, key), "{key}");
        let found = cache.get_all_or_load([1, 2], |keys| {
            let key = keys[0];
            asks(key);
            if key == 1 {
                asks(2);
            }
            let many = cache.try_get_all_or_load([9, key], |_| Ok::<_, u8>([(9, 9)]));
            assert!(matches!(many, Err(LoadError::Recursive)));
            std::iter::once_with(move || {
                asks(key);
                (key, 0)
            })
        });
        assert_eq!(found.len(), 2);
        let lazily = block_on(cache.get_all_or_load_async([3], |keys| {
            ready(keys.into_iter().map(|key| {
                asks(key);
                (key, 0)
            }))
        }));
        assert_eq!(lazily.len(), 1);
    });
}

/// Case 48: the weigher and the listener that run while a value lands are part of the load.
#[test]
fn weighers_and_listeners_that_would_wait_for_a_load_are_told() {
    ends(|| {
        let own = Arc::new(OnceLock::<Numbers>::new());
        let weighed = Arc::clone(&own);
        let cache = Cache::builder().max_capacity(10).weigher(move |&key: &u64, _: &u64| {
            assert!(is_told(weighed.get().unwrap(), key));
            1
        });
        let cache = own.get_or_init(|| cache.build().unwrap());
        assert_eq!(cache.get_or_load(1, |_| 7), 7);
        assert_eq!(cache.get_all_or_load([2, 3], |_| [(2, 2), (3, 3)]).len(), 2);
    });
    ends(|| {
        let own = Arc::new(OnceLock::<Numbers>::new());
        let (cache, told) = (Arc::clone(&own), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&told);
        let built = Cache::builder().max_capacity(1).eviction_listener(move |_: &u64, _: &u64, _| {
            let asked = cache.get().unwrap().try_get_or_load(2, |_| Ok::<u64, u8>(9));
            counted.fetch_add(usize::from(matches!(asked, Err(LoadError::Recursive))), SeqCst);
        });
        let cache = own.get_or_init(|| built.build().unwrap());
        cache.insert(7, 7);
        let found = cache.get_all_or_load([1, 2], |_| [(1, 1), (2, 2)]);
        assert_eq!(found, HashMap::from([(1, 1), (2, 2)]));
        assert!(told.load(SeqCst) > 0, "1 displaces 7, and the listener then asks for 2");
    });
}

/// Whatever user code runs while a key is loaded (`Clone` and `Drop` of keys and values, wakers, the weigher, the listener)
/// may use the cache, in ways that take every lock: none is held.
#[test]
fn user_code_may_use_the_cache_during_a_load() {
    static CACHE: OnceLock<Cache<Busy, Busy>> = OnceLock::new();
    static HEARD: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static IS_BUSY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
    fn use_it() {
        if !IS_BUSY.replace(true) {
            let cache = CACHE.get().unwrap();
            for key in [100, 101] {
                cache.invalidate(&Busy(key));
                cache.get_or_load(Busy(key), |_| Busy(1));
                cache.insert(Busy(key), Busy(2));
            }
            cache.get_all_or_load([Busy(102)], |_| []);
            IS_BUSY.set(false);
        }
    }
    #[derive(Debug, PartialEq, Eq, Hash)]
    struct Busy(u64);
    impl Clone for Busy {
        fn clone(&self) -> Self {
            use_it();
            Self(self.0)
        }
    }
    impl Drop for Busy {
        fn drop(&mut self) {
            use_it();
        }
    }
    struct BusyWaker;
    impl Wake for BusyWaker {
        fn wake(self: Arc<Self>) {
            use_it();
        }
    }
    impl Drop for BusyWaker {
        fn drop(&mut self) {
            use_it();
        }
    }
    // Whoever waits holds the only handle to it, so it is dropped wherever that is.
    let waker = || Waker::from(Arc::new(BusyWaker));
    ends(move || {
        CACHE.get_or_init(|| {
            let builder = Cache::builder().max_capacity(4).segments(1);
            // Not always: each of its calls makes entries leave.
            let listener = |_: &Busy, _: &Busy, _| {
                if HEARD.fetch_add(1, SeqCst) < size(500, 20) {
                    use_it();
                }
            };
            builder.weigher(|_, _| 1).eviction_listener(listener).build().unwrap()
        });
        let cache = CACHE.get().unwrap();
        for key in 0..size(6, 1) as u64 {
            let gate = Gate::default();
            let loading = gate.get();
            let mut lead = Task::new(cache.get_or_load_async(Busy(key), |_| loading)).starts();
            let mut many = Task::new(cache.get_all_or_load_async([Busy(key), Busy(key + 50)], |keys| {
                ready(keys.into_iter().map(|key| (key, Busy(4))))
            }));
            let mut wait = Task::new(cache.get_or_load_async(Busy(key), |_| pending()));
            let mut dropped = Task::new(cache.get_or_load_async(Busy(key), |_| pending()));
            for _ in 0..2 {
                assert!(many.poll_with(&waker()).is_pending());
                assert!(wait.poll_with(&waker()).is_pending());
                assert!(dropped.poll_with(&waker()).is_pending());
            }
            drop(dropped);
            if key % 2 == 0 {
                cache.invalidate(&Busy(key));
            }
            gate.give(Busy(3));
            assert_eq!(lead.ready(), Busy(3));
            assert_eq!((wait.ready(), many.ready().len()), (Busy(3), 2));
        }
        cache.refresh(Busy(1), |_| Busy(1));
        assert!(cache.try_refresh(Busy(1), |_| Err::<Busy, _>(Arc::new(Busy(0)))).is_err());
        drop(Task::new(cache.get_or_load_async(Busy(9), |_| pending())).starts());
        cache.invalidate_all();
        cache.validate();
    });
}
