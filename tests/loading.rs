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
