//! Loading: what becomes of a flight, whatever its leader does; and that no invalidation is undone by a load. Cases 40 to
//! 52 of ADVERSARIES, with `loading_many.rs` and `loading_model.rs`.
//!
//! No test waits for time to pass, but where a time limit itself is tested.
#![allow(missing_docs)]

mod common;

use common::{Gate, Task, Wakes, block_on, ends, panics, size, until};
use larder::{Builder, Cache, LoadError, Op};
use std::collections::HashMap;
use std::future::{pending, ready};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

type Numbers = Cache<u64, u64>;

fn counting() -> Builder<u64, u64> {
    Cache::builder().max_capacity(1_000).record_stats()
}

fn numbers() -> Numbers {
    counting().build().unwrap()
}

fn waits(cache: &Numbers, n: u64) {
    until(|| cache.stats().load_wait_count() >= n);
}

/// A task that leads the flight of a key, and waits for what the test gives.
fn leader<'a>(cache: &'a Numbers, key: u64, gate: &Gate<u64>) -> Task<'a, u64> {
    let loading = gate.get();
    Task::new(cache.get_or_load_async(key, |_| loading)).starts()
}

fn joiner(cache: &Numbers, key: u64) -> Task<'_, u64> {
    Task::new(cache.get_or_load_async(key, |_| async { panic!("somebody else loads it") })).starts()
}

/// Case 40: the bar of the issue.
#[test]
fn case_40_one_load_for_64_threads() {
    ends(|| {
        let (threads, rounds) = (size(64, 4), size(1_000, 5) as u64);
        let cache: Numbers = Cache::new(2_000);
        let loads: Vec<_> = (0..rounds).map(|_| AtomicUsize::new(0)).collect();
        let start = Barrier::new(threads);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for round in 0..rounds {
                        start.wait();
                        let value = cache.get_or_load(round, |&key| {
                            loads[key as usize].fetch_add(1, SeqCst);
                            thread::yield_now();
                            key + 7
                        });
                        assert_eq!(value, round + 7);
                    }
                });
            }
        });
        assert!(loads.iter().all(|loads| loads.load(SeqCst) == 1), "{loads:?}");
        cache.validate();
    });
}

/// Case 40, where the cache keeps nothing: who comes after a load has ended loads anew, but no two loaders of a key run at
/// the same time, and those who wait are served.
#[test]
fn case_40_refused_values_are_loaded_one_at_a_time() {
    let nothing = || Cache::<u64, u64>::builder().max_capacity(0);
    let heavy = || Cache::<u64, u64>::builder().max_capacity(10).weigher(|_, _| 11);
    for builder in [nothing, heavy] {
        ends(move || {
            let (threads, rounds) = (size(8, 3), size(500, 5) as u64);
            let cache = builder().build().unwrap();
            let (runs, loads) = (AtomicBool::new(false), AtomicUsize::new(0));
            let start = Barrier::new(threads);
            thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        for round in 0..rounds {
                            start.wait();
                            let value = cache.get_or_load(1, |key| {
                                assert!(!runs.swap(true, SeqCst), "two loaders at a time");
                                loads.fetch_add(1, SeqCst);
                                thread::yield_now();
                                runs.store(false, SeqCst);
                                *key
                            });
                            assert_eq!(value, 1, "round {round}");
                        }
                    });
                }
            });
            assert!(loads.into_inner() as u64 >= rounds);
            assert!(cache.is_empty());
            cache.validate();
        });
    }
}

#[test]
fn threads_and_tasks_wait_for_a_thread() {
    ends(|| {
        let cache = numbers();
        let (give, given) = channel();
        let (began, begins) = channel();
        let cache = &cache;
        thread::scope(|scope| {
            let lead = scope.spawn(move || {
                cache.get_or_load(1, |_| {
                    began.send(()).unwrap();
                    given.recv().unwrap()
                })
            });
            begins.recv().unwrap();
            let mut task = joiner(cache, 1);
            let wait = scope.spawn(|| cache.get_or_load(1, |_| unreachable!()));
            waits(cache, 2);
            assert_eq!(task.wakes(), 0);
            give.send(5).unwrap();
            assert_eq!((lead.join().unwrap(), wait.join().unwrap()), (5, 5));
            assert_eq!((task.wakes(), task.ready()), (1, 5));
        });
        assert_eq!(cache.get(&1), Some(5));
    });
}

#[test]
fn threads_and_tasks_wait_for_a_task() {
    ends(|| {
        let cache = numbers();
        let gate = Gate::default();
        let mut lead = leader(&cache, 1, &gate);
        let mut task = joiner(&cache, 1);
        thread::scope(|scope| {
            let wait = scope.spawn(|| cache.get_or_load(1, |_| unreachable!()));
            waits(&cache, 2);
            gate.give(5);
            assert_eq!(lead.wakes(), 1);
            assert_eq!(lead.ready(), 5);
            assert_eq!((wait.join().unwrap(), task.wakes(), task.ready()), (5, 1, 5));
        });
    });
}

/// An error reaches those who wait for one of its type, and is the same for all. Others load themselves. It is not kept.
#[test]
fn errors_reach_those_who_wait_and_are_not_kept() {
    ends(|| {
        let cache = numbers();
        let gate: Gate<Result<u64, String>> = Gate::default();
        let loading = gate.get();
        let mut lead = Task::new(cache.try_get_or_load_async(1, |_| loading)).starts();
        let mut same =
            Task::new(cache.try_get_or_load_async(1, |_| pending::<Result<u64, String>>())).starts();
        let mut other = Task::new(cache.try_get_or_load_async(1, |_| pending::<Result<u64, u8>>())).starts();
        let mut sure = Task::new(cache.get_or_load_async(1, |_| async { 9 })).starts();
        thread::scope(|scope| {
            let wait = scope.spawn(|| cache.try_get_or_load(1, |_| Err::<u64, String>("mine".into())));
            waits(&cache, 4);
            gate.give(Err("broken".into()));
            let LoadError::Failed(first) = lead.ready().unwrap_err() else { panic!("it failed") };
            assert_eq!(*first, "broken");
            for result in [same.ready(), wait.join().unwrap()] {
                assert!(matches!(result, Err(LoadError::Failed(error)) if Arc::ptr_eq(&error, &first)));
            }
        });
        assert_eq!(cache.get(&1), None, "an error is not kept");
        assert!(other.poll().is_pending(), "leads now");
        assert!(sure.poll().is_pending(), "waits for `other`");
        drop(other);
        assert_eq!((sure.wakes(), sure.ready()), (2, 9));
        assert_eq!(cache.get(&1), Some(9));
        let LoadError::Failed(error) = cache.try_refresh(1, |_| Err::<u64, u8>(3)).unwrap_err() else {
            panic!()
        };
        assert_eq!((*error, cache.get(&1)), (3, Some(9)), "what was there stays");
    });
}

/// Case 43, for threads and for tasks.
#[test]
fn case_43_a_leader_panics() {
    ends(|| {
        let cache = numbers();
        thread::scope(|scope| {
            let (began, begins) = channel();
            let cache = &cache;
            let lead = scope.spawn(move || {
                panics(|| {
                    cache.get_or_load(1, |_| {
                        began.send(()).unwrap();
                        waits(cache, 2);
                        panic!("on purpose")
                    })
                })
            });
            begins.recv().unwrap();
            let mut task = Task::new(cache.get_or_load_async(1, |_| pending())).starts();
            let wait = scope.spawn(|| cache.get_or_load(1, |_| 6));
            assert!(lead.join().unwrap(), "the panic is its caller's");
            // Whoever comes first takes over.
            until(|| task.wakes() == 1);
            if task.poll().is_pending() {
                drop(task);
            }
            assert_eq!(wait.join().unwrap(), 6);
        });
        let gate = Gate::<()>::default();
        let opened = gate.get();
        let mut lead = Task::new(cache.get_or_load_async(2, |_| async {
            opened.await;
            panic!("on purpose")
        }))
        .starts();
        let mut next = Task::new(cache.get_or_load_async(2, |_| ready(3))).starts();
        gate.give(());
        assert!(panics(|| lead.poll()));
        assert_eq!((next.wakes(), next.ready()), (1, 3));
        // In the loader itself, before there is a future.
        assert!(panics(|| block_on(
            cache.get_or_load_async(4, |_| -> std::future::Ready<u64> { panic!("on purpose") })
        )));
        assert_eq!(cache.get_or_load(4, |_| 8), 8);
    });
}

/// Case 44: those who wait take over in turn.
#[test]
fn case_44_leaders_are_dropped() {
    ends(|| {
        let cache = numbers();
        let lead = leader(&cache, 1, &Gate::default());
        let mut second = Task::new(cache.get_or_load_async(1, |_| pending())).starts();
        let mut third = Task::new(cache.get_or_load_async(1, |_| ready(3))).starts();
        thread::scope(|scope| {
            drop(lead);
            assert_eq!((second.wakes(), third.wakes()), (1, 1));
            assert!(second.poll().is_pending(), "leads");
            let wait = scope.spawn(|| cache.get_or_load(1, |_| 3));
            waits(&cache, 3);
            drop(second);
            assert_eq!(third.ready(), 3);
            assert_eq!(wait.join().unwrap(), 3);
        });
    });
}

/// Cases 45 and 49: a leader that is neither polled nor dropped, and one that never ends. What they bring later is not
/// kept, and its successor (case 42) knows nothing of it.
#[test]
fn case_45_and_49_a_limit_to_waiting() {
    ends(|| {
        let cache = counting().load_timeout(Duration::from_millis(10)).build().unwrap();
        let gate = Gate::default();
        let mut stuck = leader(&cache, 1, &gate);
        assert_eq!(cache.get_or_load(1, |_| 2), 2, "a thread");
        gate.give(1);
        assert_eq!((stuck.ready(), cache.get(&1)), (1, Some(2)));

        let stuck = leader(&cache, 3, &Gate::default());
        assert_eq!(block_on(cache.get_or_load_async(3, |_| ready(4))), 4, "a task");
        drop(stuck);
        assert_eq!(cache.get(&3), Some(4));

        let (end, ending) = channel::<()>();
        thread::scope(|scope| {
            let (began, begins) = channel();
            let cache = &cache;
            let endless = scope.spawn(move || {
                cache.get_or_load(5, |_| {
                    began.send(()).unwrap();
                    ending.recv().unwrap_err();
                    5
                })
            });
            begins.recv().unwrap();
            let gate = Gate::default();
            // Waits out the limit, and leads then.
            let loading = gate.get();
            let mut next = Task::new(cache.get_or_load_async(5, |_| loading)).starts();
            until(|| next.wakes() == 1);
            assert!(next.poll().is_pending());
            drop(end);
            assert_eq!(endless.join().unwrap(), 5);
            assert_eq!(cache.get(&5), None);
            let mut third = joiner(cache, 5);
            gate.give(6);
            assert_eq!((next.ready(), third.ready(), cache.get(&5)), (6, 6, Some(6)));
        });
    });
}

/// The limit is one for all keys that a call waits for, not one for each.
#[test]
fn a_call_for_many_waits_once() {
    ends(|| {
        let limit = Duration::from_millis(200);
        let cache: Numbers = Cache::builder().max_capacity(1_000).load_timeout(limit).build().unwrap();
        let _stuck = Task::new(cache.get_all_or_load_async(0..100, |_| pending::<Vec<_>>())).starts();
        let start = std::time::Instant::now();
        let found =
            cache.get_all_or_load(0..100, |keys| keys.iter().map(|&key| (key, key)).collect::<Vec<_>>());
        assert_eq!(found.len(), 100);
        // 20 s otherwise.
        assert!(start.elapsed() < Duration::from_secs(10));
    });
}

/// Case 47: the waker of the last poll is woken.
#[test]
fn case_47_wakers_change() {
    let cache = numbers();
    let gate = Gate::default();
    let mut lead = leader(&cache, 1, &gate);
    let mut task = joiner(&cache, 1);
    let wakes: [Arc<Wakes>; 2] = Default::default();
    for wakes in &wakes {
        assert!(task.poll_with(&Waker::from(Arc::clone(wakes))).is_pending());
    }
    gate.give(1);
    assert_eq!(lead.ready(), 1);
    assert_eq!((task.wakes(), wakes[0].count(), wakes[1].count()), (0, 0, 1));
    drop(task);
    assert!(wakes.iter().all(|wakes| Arc::strong_count(wakes) == 1), "a waker was kept");
}

/// A task goes on in another thread than it began in: what it leads is known where it is polled, and nowhere else.
#[test]
fn tasks_go_from_thread_to_thread() {
    ends(|| {
        let cache = numbers();
        let gate = Gate::default();
        let (inner, opened) = (&cache, gate.get());
        let mut lead = Task::new(inner.get_or_load_async(1, move |_| async move {
            opened.await;
            let own = inner.try_get_or_load(1, |_| Ok::<u64, u8>(0));
            assert!(matches!(own, Err(LoadError::Recursive)));
            1
        }))
        .starts();
        // This thread polled it, but may wait for it.
        let mut task = joiner(&cache, 1);
        gate.give(());
        thread::scope(|scope| assert_eq!(scope.spawn(move || lead.ready()).join().unwrap(), 1));
        assert_eq!(task.ready(), 1);
    });
}

/// Case 48: a loader that would wait for itself is told, in a thread and in a task, directly and by way of other keys.
#[test]
fn case_48_recursion() {
    ends(|| {
        let cache = &numbers();
        let is_told = |result: Result<u64, LoadError<u8>>| {
            assert!(matches!(result, Err(LoadError::Recursive)), "{result:?}");
            7
        };
        let own = |key: &u64| is_told(cache.try_get_or_load(*key, |_| Ok(0)));
        assert_eq!(cache.get_or_load(1, own), 7);
        assert_eq!(cache.refresh(1, |key| is_told(cache.try_refresh(*key, |_| Ok(0)))), 7);
        // By way of two more.
        let third = |_: &u64| is_told(cache.try_get_or_load(2, |_| Ok(0)));
        assert_eq!(cache.get_or_load(2, |_| cache.get_or_load(3, |_| cache.get_or_load(4, third))), 7);
        let many = |keys: Vec<u64>| cache.try_get_all_or_load(keys, |_| Ok::<Vec<_>, u8>(Vec::new()));
        cache.get_or_load(5, |_| is_told(many(vec![6, 5]).map(|_| 0)));
        assert_eq!(cache.get(&6), None);
        assert_eq!(cache.get_or_load(6, |_| 1), 1, "nobody loads it");

        let outermost = |_: &u64| async { is_told(cache.try_get_or_load_async(10, |_| ready(Ok(0))).await) };
        let asked = cache.get_or_load_async(10, |_| cache.get_or_load_async(11, outermost));
        assert_eq!(block_on(asked), 7);
        let asks_itself =
            |_: &u64| if panics(|| cache.get_or_load(20, |_| 0)) { panic!("on purpose") } else { 0 };
        assert!(panics(|| cache.get_or_load(20, asks_itself)));
        // The loader makes its own flight void: then it may ask.
        let again = |key: &u64| {
            cache.invalidate(key);
            cache.get_or_load(*key, |_| 1) + 1
        };
        assert_eq!((cache.get_or_load(30, again), cache.get(&30)), (2, Some(1)));
    });
}

/// Case 48 for calls for many keys: those that wait for their turn, work that the loader left to its iterator, and a
/// listener, count as well.
#[test]
fn case_48_recursion_among_many() {
    ends(|| {
        let cache = &counting().max_batch(1).build().unwrap();
        let asks = |key: u64| {
            let told = cache.try_get_or_load(key, |_| Ok::<u64, u8>(0));
            assert!(matches!(told, Err(LoadError::Recursive)), "{told:?}");
        };
        let found = cache.get_all_or_load([1, 2], |keys| {
            let key = keys[0];
            asks(1 + u64::from(cache.contains_key(&1)));
            // 1 asks for 2, whose turn comes later.
            (key == 1).then(|| asks(2));
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
    ends(|| {
        let own = Arc::new(std::sync::OnceLock::<Numbers>::new());
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
        assert!(told.load(SeqCst) > 0, "the one that 1 displaces leads to the question");
    });
}

/// Case 50: wherever a caller is dropped, what it left in the cache can be evicted, and the next one is served.
#[test]
fn case_50_dropped_anywhere() {
    for polls in 0..4 {
        let cache = numbers();
        let gate: [Gate<u64>; 2] = Default::default();
        let opened = gate.each_ref().map(Gate::get);
        let mut task = Task::new(cache.get_or_load_async(1, |_| async {
            let [first, second] = opened;
            first.await + second.await
        }));
        for (poll, gate) in (0..polls).zip([None, Some(&gate[0]), Some(&gate[1])]) {
            gate.into_iter().for_each(|gate| gate.give(1));
            assert_eq!(task.poll(), if poll == 2 { Poll::Ready(2) } else { Poll::Pending });
        }
        drop(task);
        let kept = polls == 3;
        assert_eq!(cache.len(), usize::from(kept));
        assert_eq!(cache.get_or_load(1, |_| 3), if kept { 2 } else { 3 });
        cache.set_capacity(0);
        assert!(cache.is_empty());
        cache.validate();
    }
}

/// Case 51: loads beside `compute` lose no update.
#[test]
fn case_51_loads_beside_compute() {
    ends(|| {
        let rounds = size(5_000, 30) as u64;
        let cache = numbers();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let raise = || {
                (0..rounds).for_each(|_| _ = cache.compute(1, |now| Op::Insert(now.map_or(1, |n| n + 1))));
            };
            let raises = [scope.spawn(raise), scope.spawn(raise)];
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    // What was there, or nothing: either is out of date as soon as it is written.
                    cache.refresh(1, |key| {
                        let now = cache.peek(key).unwrap_or(0);
                        thread::yield_now();
                        now
                    });
                }
            });
            raises.into_iter().for_each(|thread| thread.join().unwrap());
            done.store(true, SeqCst);
        });
        assert_eq!(cache.get(&1), Some(2 * rounds));
        cache.validate();
    });
}

/// Case 52: futures are `Send`, and hold little but what they are given. Here, without the loaders' futures: 336 bytes
/// for one key and some 600 for many.
#[test]
fn case_52_sizes_of_futures() {
    fn sent<F: Future + Send>(future: F) -> usize {
        size_of_val(&future)
    }
    let cache = numbers();
    let sizes = [
        sent(cache.get_or_load_async(1, |_| ready(1))),
        sent(cache.try_get_or_load_async(1, |_| ready(Ok::<u64, u8>(1)))),
        sent(cache.refresh_async(1, |_| ready(1))),
        sent(cache.try_refresh_async(1, |_| ready(Ok::<u64, u8>(1)))),
    ];
    assert!(sizes.iter().all(|&size| size <= 512), "{sizes:?}");
    let many = sent(cache.get_all_or_load_async([1], |_| ready([(1, 1)])));
    assert!(many <= 1024, "{many}");
    // A large loader's future is in there once.
    let large = async || {
        let ballast = [0_u8; 4096];
        pending::<()>().await;
        u64::from(ballast[0])
    };
    let bare = size_of_val(&large());
    for size in [
        sent(cache.get_or_load_async(1, |_| large())),
        sent(cache.get_all_or_load_async([1], |_| async { [(1, large().await)] })),
    ] {
        assert!(size <= bare + 1024, "{size} bytes with a loader of {bare}");
    }
    println!("{sizes:?} bytes for one key, {many} for many");
}

#[test]
fn absence_is_a_value() {
    let cache: Cache<u64, Option<u64>> = Cache::new(10);
    assert_eq!(cache.get_or_load(1, |_| None), None);
    assert_eq!(cache.get_or_load(1, |_| unreachable!("it is known that there is none")), None);
    assert_eq!(cache.get(&1), Some(None));
    cache.invalidate(&1);
    assert_eq!(cache.get_or_load(1, |_| Some(1)), Some(1));
}

#[test]
fn loads_are_counted() {
    ends(|| {
        let cache = numbers();
        let gate = Gate::default();
        let mut lead = leader(&cache, 1, &gate);
        let mut task = joiner(&cache, 1);
        gate.give(1);
        lead.ready();
        task.ready();
        _ = cache.try_get_or_load(2, |_| {
            thread::sleep(Duration::from_millis(2));
            Err::<u64, u8>(0)
        });
        assert!(panics(|| cache.get_or_load(3, |_| panic!("on purpose"))));
        cache.get_all_or_load([4, 5], |_| [(4, 4), (5, 5)]);
        cache.get_or_load(1, |_| unreachable!());
        let stats = cache.stats();
        let counts = (stats.load_success_count(), stats.load_failure_count(), stats.load_wait_count());
        assert_eq!(counts, (2, 1, 1));
        assert_eq!((stats.hit_count(), stats.miss_count()), (1, 6));
        assert!(stats.total_load_time() >= Duration::from_millis(2));
        assert!(stats.average_load_time() * 3 <= stats.total_load_time());
        let none = Numbers::new(1);
        none.get_or_load(1, |_| 1);
        assert_eq!(none.stats().load_success_count(), 0, "not asked for");
    });
}
