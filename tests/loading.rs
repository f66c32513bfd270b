//! Smoke.
#![allow(missing_docs)]
use larder::*;
use std::sync::atomic::*;
use std::thread;
#[test]
fn one_load() {
    let cache: Cache<u64, u64> = Cache::builder().max_capacity(10000).record_stats().build().unwrap();
    let n = AtomicUsize::new(0);
    for round in 0..200 {
        thread::scope(|s| {
            for _ in 0..64 {
                s.spawn(|| {
                    assert_eq!(
                        cache.get_or_load(round, |k| {
                            n.fetch_add(1, Ordering::SeqCst);
                            thread::yield_now();
                            *k
                        }),
                        round
                    )
                });
            }
        });
    }
    assert_eq!(n.load(Ordering::SeqCst), 200);
    println!("{:?}", cache.stats());
    fn send<T: Send>(t: T) -> T {
        t
    }
    let f = send(cache.get_or_load_async(7000, |k| {
        let k = *k;
        async move { k }
    }));
    println!("{}", size_of_val(&f));
    let f =
        send(cache.get_all_or_load_async([7000], |k| async move {
            k.into_iter().map(|k| (k, k)).collect::<Vec<_>>()
        }));
    println!("{}", size_of_val(&f));
}

/// Loaders of two threads that want each other's keys.
#[test]
fn a_ring_of_threads_is_told() {
    let rounds = if cfg!(miri) { 2 } else { 50 };
    for round in 0..rounds {
        let cache: Cache<u64, u64> = Cache::new(100);
        let both = std::sync::Barrier::new(2);
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
