//! Warming up: keys are loaded batch by batch before anybody asks for them.
#![allow(missing_docs)]

mod common;

use common::loads::{Gate, Numbers, Task, block_on, counting, leader, numbers, valued};
use common::time::for_some;
use common::{Census, ends, panics, quiet};
use larder::{Cache, Clock, LoadError, WarmError, WarmProgress, WarmUp};
use std::collections::HashMap;
use std::error::Error;
use std::future::{pending, ready};
use std::io;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

fn all(keys: &[u64]) -> Vec<(u64, u64)> {
    valued(keys.iter().copied())
}

fn nobody(_: &[u64]) -> Vec<(u64, u64)> {
    unreachable!("nothing is missing")
}

/// Seen, loaded, present, absent.
fn counts(progress: &WarmProgress) -> (u64, u64, u64, u64) {
    assert_eq!(progress.seen, progress.loaded + progress.present + progress.absent);
    (progress.seen, progress.loaded, progress.present, progress.absent)
}

/// The keys come in their order, so many at a time, and the callback after each batch.
#[test]
fn batches() {
    let cache = numbers();
    let (mut asked, mut told) = (Vec::new(), Vec::new());
    let how = WarmUp::new().batch(4).progress(|so_far| {
        told.push(*so_far);
        ControlFlow::Continue(())
    });
    let done = cache.warm((0..10).rev(), how, |keys| {
        asked.push(keys.to_vec());
        all(keys)
    });
    assert_eq!(asked, [vec![9, 8, 7, 6], vec![5, 4, 3, 2], vec![1, 0]]);
    let seen: Vec<_> = told.iter().map(counts).collect();
    assert_eq!(seen, [(4, 4, 0, 0), (8, 8, 0, 0), (10, 10, 0, 0)]);
    assert_eq!(counts(&done), (10, 10, 0, 0));
    assert!(told.is_sorted_by_key(|so_far| so_far.elapsed) && done.elapsed >= told[2].elapsed);
    assert!((0..10).all(|key| cache.peek(&key) == Some(key + 100)) && !done.is_full);
    assert_eq!(cache.warm([], WarmUp::new(), nobody).seen, 0);
    cache.validate();
}

/// What is there is not loaded again, a key that comes twice is loaded once, and what the loader leaves out is absent. Keys
/// that it adds are kept.
#[test]
fn what_becomes_of_keys() {
    let cache = numbers();
    cache.insert(2, 7);
    let done = cache.warm([1, 2, 3, 1, 4], WarmUp::new(), |keys| {
        assert_eq!(keys, [1, 3, 4]);
        vec![(4, 40), (9, 90), (1, 10), (4, 41)]
    });
    assert_eq!(counts(&done), (5, 2, 2, 1));
    assert_eq!([1, 2, 3, 4, 9].map(|key| cache.get(&key)), [Some(10), Some(7), None, Some(40), Some(90)]);
    // The one that was absent is asked for again.
    let done = cache.warm(1..5, WarmUp::new(), |keys| {
        assert_eq!(keys, [3]);
        all(keys)
    });
    assert_eq!(counts(&done), (4, 1, 3, 0));
}

/// Keys are taken when their turn has come: there may be no end to them.
#[test]
fn keys_without_end() {
    let cache = numbers();
    let taken = AtomicU64::new(0);
    let keys = (0..).inspect(|_| _ = taken.fetch_add(1, SeqCst));
    let stop = |so_far: &WarmProgress| match so_far.seen {
        30 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let done = cache.warm(keys, WarmUp::new().batch(10).progress(stop), |keys| {
        assert_eq!(taken.load(SeqCst), keys[0] + 10, "no more than this batch");
        all(keys)
    });
    assert_eq!((counts(&done), cache.len(), taken.into_inner()), ((30, 30, 0, 0), 30, 30));
    // Also where all are there, and without a call of the loader.
    let done = cache.warm((0..).map(|key| key % 30), WarmUp::new().batch(10).progress(stop), nobody);
    assert_eq!(counts(&done), (30, 0, 30, 0));
    // An iterator that has ended is not asked again.
    let mut ends = 0;
    let keys = std::iter::from_fn(|| {
        ends += 1;
        assert_ne!(ends, 4, "it has ended");
        (ends < 3).then_some(1_000 + ends)
    });
    assert_eq!(cache.warm(keys, WarmUp::new(), all).loaded, 2);
}

/// Warming up leaves no trace on what is there, and counts as no traffic.
#[test]
fn what_is_there_is_not_read() {
    let clock = Clock::manual();
    let idle = Duration::from_secs(10);
    let cache = counting().time_to_idle(idle).max_reads(2).clock(clock.clone()).build().unwrap();
    cache.insert(1, 1);
    clock.advance(idle / 2);
    for _ in 0..5 {
        assert_eq!(counts(&cache.warm([1, 2], WarmUp::new(), all)).3, 0);
    }
    let stats = cache.stats();
    assert_eq!((stats.hit_count(), stats.miss_count(), stats.load_wait_count()), (0, 0, 0));
    assert_eq!((stats.load_success_count(), stats.load_failure_count()), (1, 0), "of the loader");
    assert!([1, 2].iter().all(|key| cache.metadata(key).unwrap().reads_left == Some(2)));
    clock.advance(idle / 2);
    assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(102)));
}

/// One loader a key: callers wait for the batch that brings theirs.
#[test]
fn callers_wait_for_the_batch() {
    ends(|| {
        let cache = &numbers();
        let (began, begins) = channel();
        let (give, given) = channel();
        thread::scope(|scope| {
            let warming = scope.spawn(move || {
                cache.warm([1, 2], WarmUp::new(), |keys| {
                    began.send(()).unwrap();
                    given.recv().unwrap();
                    all(keys)
                })
            });
            begins.recv().unwrap();
            let caller = scope.spawn(|| cache.get_or_load(1, |_| unreachable!("it is being loaded")));
            let mut task = Task::new(cache.get_or_load_async(2, |_| pending())).starts();
            common::loads::until_waiting(cache, 2);
            give.send(()).unwrap();
            assert_eq!(caller.join().unwrap(), 101);
            assert_eq!(counts(&warming.join().unwrap()), (2, 2, 0, 0));
            assert_eq!(task.ready(), 102);
        });
    });
}

/// What a caller is loading is left to that one, and not waited for.
#[test]
fn callers_are_not_waited_for() {
    let cache = numbers();
    let gate = Gate::default();
    let mut lead = leader(&cache, 1, &gate);
    let done = cache.warm([1, 2], WarmUp::new(), |keys| {
        assert_eq!(keys, [2]);
        all(keys)
    });
    assert_eq!((counts(&done), cache.stats().load_wait_count()), ((2, 1, 1, 0), 0));
    let other = cache.warm([1], WarmUp::new(), nobody);
    assert_eq!(counts(&other), (1, 0, 1, 0));
    gate.give(7);
    assert_eq!((lead.ready(), cache.get(&1)), (7, Some(7)));
}

/// A warm-up cannot undo an invalidation.
#[test]
fn what_is_made_invalid_meanwhile_is_not_kept() {
    let cache = counting().tags(|key, _| [key % 3]).build().unwrap();
    let done = cache.warm(0..6, WarmUp::new(), |keys| {
        cache.invalidate(&1);
        cache.insert(2, 0);
        // 0 and 3.
        cache.invalidate_tag(0_u64);
        // One that was not asked for.
        cache.invalidate(&8);
        [all(keys), vec![(8, 8), (10, 10)]].concat()
    });
    assert_eq!(counts(&done), (6, 6, 0, 0), "loaded, not kept");
    let kept: Vec<_> = (0..11).map(|key| cache.get(&key)).collect();
    let [no, four, five, ten] = [None, Some(104), Some(105), Some(10)];
    assert_eq!(kept, [no, no, Some(0), no, four, five, no, no, no, no, ten]);
    // What was warmed up in earlier batches goes as anything does.
    let how = WarmUp::new().batch(1).progress(|_| {
        cache.invalidate_all();
        ControlFlow::Continue(())
    });
    assert_eq!((cache.warm(0..6, how, all).loaded, cache.len()), (6, 0));
}

/// The first error ends it. What was loaded until then is kept, and the progress says where to go on.
#[test]
fn an_error_ends_it() {
    let cache = numbers();
    cache.insert(12, 12);
    let mut told = 0;
    let how = WarmUp::new().batch(5).progress(|_| {
        told += 1;
        ControlFlow::Continue(())
    });
    let stopped = cache
        .try_warm(0..100, how, |keys| {
            if keys.contains(&13) { Err(io::Error::other("no connection")) } else { Ok(all(keys)) }
        })
        .unwrap_err();
    assert_eq!((counts(&stopped.progress), told), ((10, 10, 0, 0), 2));
    assert!(matches!(&stopped.error, LoadError::Failed(error) if error.to_string() == "no connection"));
    assert_eq!(stopped.to_string(), "warm-up stopped after 10 keys");
    let failed = stopped.source().unwrap();
    assert_eq!(
        (failed.to_string(), failed.source().unwrap().to_string()),
        ("loading failed".into(), "no connection".into())
    );
    assert_eq!((cache.len(), cache.stats().load_failure_count()), (11, 1));
    let rest = (0..100).skip(stopped.progress.seen as usize);
    let done = cache.try_warm(rest, WarmUp::new(), |keys| Ok::<_, u8>(all(keys))).unwrap();
    assert_eq!((counts(&done), cache.len()), ((90, 89, 1, 0), 100));
    cache.validate();
}

/// Who waits for a key of the batch gets the error, or loads.
#[test]
fn callers_get_the_error() {
    let cache = numbers();
    let gate: Gate<Result<Vec<(u64, u64)>, String>> = Gate::default();
    let mut warming = Task::new(cache.try_warm_async([1, 2], WarmUp::new(), |_| gate.get())).starts();
    let mut fails = Task::new(cache.try_get_or_load_async(1, |_| pending::<Result<u64, String>>())).starts();
    let mut loads = Task::new(cache.get_or_load_async(2, |_| ready(7))).starts();
    gate.give(Err("broken".into()));
    let LoadError::Failed(error) = warming.ready().unwrap_err().error else { panic!("it failed") };
    assert!(matches!(fails.ready(), Err(LoadError::Failed(same)) if same == error));
    assert_eq!((loads.ready(), cache.get(&1), cache.get(&2)), (7, None, Some(7)));
}

/// An old value that would do instead of an error does not do for a warm-up, and nobody is said to have got it.
#[test]
fn old_values_do_not_hide_an_error() {
    let clock = Clock::manual();
    let second = Duration::from_secs(1);
    let cache = counting().time_to_live(second).stale_if_error(second * 60).clock(clock.clone());
    let cache = cache.build().unwrap();
    cache.insert(1, 1);
    clock.advance(second * 2);
    let fails = |_: &[u64]| Err::<Vec<_>, _>("broken");
    assert!(cache.try_warm([1], WarmUp::new(), fails).is_err());
    assert_eq!(cache.stats().stale_count(), 0);
    assert_eq!(cache.try_get_or_load(1, |_| Err("broken")).unwrap(), 1, "it is still there");
    assert_eq!((cache.warm([1], WarmUp::new(), all).loaded, cache.get(&1)), (1, Some(101)));
}

/// What is due is not loaded, and what is stale is.
#[test]
fn due_and_stale_entries() {
    let (clock, cache) = common::soft::with_one(Duration::from_secs(15));
    assert_eq!(counts(&cache.warm([1], WarmUp::new(), nobody)), (1, 0, 1, 0), "due");
    clock.advance(Duration::from_secs(20));
    assert_eq!(counts(&cache.warm([1], WarmUp::new(), all)), (1, 1, 0, 0), "stale");
    assert_eq!(cache.stats().stale_count(), 0);
    assert_eq!(cache.get(&1), Some(101));
}

/// A panic, of whatever belongs to the user, leaves nobody waiting and nothing half done.
#[test]
fn panics_leave_the_cache_whole() {
    quiet();
    let census = Census::default();
    let cache: Cache<u64, common::Counted<u64>> =
        Cache::builder().max_capacity(1_000).weigher(weigher).build().unwrap();
    fn weigher(_: &u64, value: &common::Counted<u64>) -> u64 {
        assert_ne!(*value.what, 666, "on purpose");
        1
    }
    let load = |keys: &[u64]| keys.iter().map(|&key| (key, census.count(key))).collect::<Vec<_>>();
    let batch = || WarmUp::new().batch(10);
    assert!(panics(|| cache.warm(0..100, batch(), |keys| {
        assert!(keys[0] < 10, "on purpose");
        load(keys)
    })));
    assert_eq!(cache.len(), 10);
    // The iterator that the loader gives.
    assert!(panics(|| cache.warm(0..100, batch(), |keys| {
        let keys = keys.to_vec();
        keys.into_iter().map(|key| {
            assert_ne!(key, 15, "on purpose");
            (key, census.count(key))
        })
    })));
    assert_eq!(cache.len(), 10);
    let stop = batch().progress(|so_far| panic!("on purpose, after {}", so_far.seen));
    assert!(panics(|| cache.warm(0..100, stop, load)));
    assert_eq!(cache.len(), 10, "all of the first batch were there");
    let keys = (0..).inspect(|&key| assert_ne!(key, 25, "on purpose"));
    assert!(panics(|| cache.warm(keys, batch(), load)));
    assert_eq!(cache.len(), 20);
    // Those before the one that cannot be weighed are in.
    assert!(panics(|| cache.warm(660..670, batch(), load)));
    assert_eq!(cache.len(), 26);
    assert_eq!(*cache.get_or_load(666, |_| census.count(0)).what, 0, "nobody is taken for loading it");
    assert_eq!(cache.warm(0..100, batch(), load).loaded, 80);
    cache.validate();
    drop(cache);
    assert_eq!(census.living(), 0);
}

/// A loader that wants its own keys warmed up is told, as by other calls; for others' keys it may.
#[test]
fn a_loader_that_warms_up() {
    ends(|| {
        let cache = &numbers();
        let done = cache.warm([1, 2], WarmUp::new().batch(1), |keys| {
            let own = cache.try_warm([10, keys[0]], WarmUp::new(), |_| Ok::<Vec<_>, u8>(Vec::new()));
            let Err(WarmError { error: LoadError::Recursive, progress, .. }) = own else {
                panic!("it is being loaded")
            };
            assert_eq!(progress.seen, 0);
            assert_eq!(cache.warm([keys[0] + 20], WarmUp::new(), all).loaded, 1);
            all(keys)
        });
        assert_eq!(counts(&done), (2, 2, 0, 0));
        assert_eq!([1, 2, 10, 21, 22].map(|key| cache.contains_key(&key)), [true, true, false, true, true]);
        assert!(panics(|| cache.warm([5], WarmUp::new(), |keys| {
            let own = keys[0];
            assert!(!panics(|| cache.warm([own], WarmUp::new(), nobody)), "on purpose");
            all(keys)
        })));
        assert_eq!(cache.get_or_load(5, |_| 1), 1);
        // The callback is no loader: it may ask for anything.
        let how = WarmUp::new().progress(|_| {
            assert_eq!(cache.get_or_load(30, |_| unreachable!()), 130);
            ControlFlow::Continue(())
        });
        cache.warm([30], how, all);
        // Tasks.
        let own = |keys: Vec<u64>| async move {
            let own =
                cache.try_warm_async(keys, WarmUp::new(), |_| ready(Ok::<Vec<_>, u8>(Vec::new()))).await;
            assert!(matches!(own, Err(WarmError { error: LoadError::Recursive, .. })));
            vec![(40, 40)]
        };
        assert_eq!(block_on(cache.warm_async([40], WarmUp::new(), own)).loaded, 1);
    });
}

/// Batches are no larger than loaders of the cache want them.
#[test]
fn max_batch() {
    let cache: Numbers = counting().max_batch(3).build().unwrap();
    let mut asked = Vec::new();
    let how = WarmUp::new().batch(5);
    cache.warm(0..7, how, |keys| {
        asked.push(keys.len());
        all(keys)
    });
    assert_eq!(asked, [3, 3, 1]);
    assert_eq!(cache.warm(0..7, WarmUp::new().batch(usize::MAX), nobody).present, 7);
}

#[test]
#[should_panic = "`batch(0)` would load nothing"]
fn no_batch() {
    _ = WarmUp::new().batch(0);
}

#[test]
#[should_panic = "`rate(0)` would never end"]
fn no_rate() {
    _ = WarmUp::new().rate(0);
}

#[test]
#[should_panic = "a task cannot keep a `rate` without `sleep_with`"]
fn a_rate_for_a_task_that_cannot_sleep() {
    block_on(numbers().warm_async([1], WarmUp::new().rate(1), |_| pending::<Vec<_>>()));
}

#[test]
fn options_can_be_printed() {
    let debug = format!("{:?}", WarmUp::default().rate(7));
    assert_eq!(debug, "WarmUp { batch: 500, rate: Some(7), stop_when_full: true, .. }");
}

/// It stops when what it loads only takes the place of what it has loaded.
#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn a_full_cache_ends_it() {
    for_some(|policy, segments| {
        let builder = || counting().segments(segments).eviction_policy(policy.clone());
        let cache = builder().build().unwrap();
        let done = cache.warm(0.., WarmUp::new().batch(50), all);
        assert!(done.is_full && done.loaded == done.seen, "{policy}: {done:?}");
        // Several segments are not full at the same time.
        assert!((850..=1_250).contains(&done.seen), "{policy}, {segments} segments: {done:?}");
        assert!(segments > 1 || done.seen == 1_050, "{policy}: {done:?}");
        // A cache that is full is told by the first batches that load anything.
        let there: Vec<_> = cache.keys().collect();
        assert_eq!(cache.warm(there.iter().copied(), WarmUp::new(), nobody).seen, there.len() as u64);
        let more = cache.warm(there.into_iter().chain(5_000..), WarmUp::new().batch(50), all);
        assert!(more.loaded <= 300 && more.is_full, "{policy}: {more:?}");
        // Who wants that goes on, and is told.
        let mut told = 0;
        let how = WarmUp::new().stop_when_full(false).progress(|so_far| {
            told += u64::from(so_far.is_full);
            ControlFlow::Continue(())
        });
        let done = cache.warm(10_000..12_000, how, all);
        assert_eq!((done.seen, told), (2_000, 4), "{policy}");
        // Nothing gets into these.
        for builder in [builder().max_capacity(0), builder().weigher(|_, _| u64::MAX)] {
            let cache = builder.build().unwrap();
            let done = cache.warm(0.., WarmUp::new(), all);
            assert!(done.seen == 500 && done.is_full && cache.is_empty());
        }
        // One that is too heavy is no sign.
        let cache = builder().weigher(|_, value| if *value == 105 { 10_000 } else { 1 }).build().unwrap();
        let done = cache.warm(0..100, WarmUp::new().batch(10), all);
        assert_eq!((counts(&done), cache.len()), ((100, 100, 0, 0), 99));
        cache.validate();
    });
}

/// Entries whose time is over make room, and are no sign of a full cache.
#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn entries_that_are_over_make_room() {
    let clock = Clock::manual();
    let life = Duration::from_secs(60);
    let cache = counting().time_to_live(life).clock(clock.clone()).build().unwrap();
    assert!(cache.warm(0.., WarmUp::new().batch(10), all).is_full);
    clock.advance(life * 2);
    let done = cache.warm(0..900, WarmUp::new().batch(10), all);
    assert!(done.seen == 900 && done.loaded == 900 && !done.is_full, "{done:?}");
    assert!((0..900).all(|key| cache.contains_key(&key)));
}

/// Tasks: the same, with futures; what rests is what the user gave for it.
#[test]
fn tasks() {
    let cache = numbers();
    cache.insert(0, 0);
    let (asked, rests) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let mut told = 0;
    let how = WarmUp::new()
        .batch(100)
        // So slow that loading takes no time beside it.
        .rate(1)
        .sleep_with(|rest| {
            rests.lock().unwrap().push(rest);
            ready(())
        })
        .progress(|so_far| {
            told += 1;
            if so_far.seen >= 300 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    let done = block_on(sent(cache.warm_async(0.., how, async |keys| {
        asked.lock().unwrap().extend_from_slice(&keys);
        valued(keys)
    })));
    assert_eq!((counts(&done), told), ((300, 299, 1, 0), 3));
    assert!(asked.into_inner().unwrap().into_iter().eq(1..300));
    // Nobody slept indeed: the last one waits for all before it.
    let rests = rests.into_inner().unwrap();
    let seconds = Duration::from_secs;
    assert!(rests.len() == 2 && rests[0] <= seconds(99), "{rests:?}");
    assert!(rests[0] < rests[1] && rests[1] <= seconds(199), "{rests:?}");
    let load = |keys: Vec<u64>| ready(if keys.contains(&425) { Err("broken") } else { Ok(valued(keys)) });
    let stopped = block_on(sent(cache.try_warm_async(0..500, WarmUp::new().batch(100), load))).unwrap_err();
    assert_eq!(counts(&stopped.progress), (400, 100, 300, 0));
    assert_eq!(block_on(cache.try_warm_async(0..20, WarmUp::new(), load)).unwrap().present, 20);
}

fn sent<F: Future + Send>(future: F) -> F {
    future
}

/// A future that is dropped, or that rests, keeps nobody waiting.
#[test]
fn tasks_that_stop_half_way() {
    let cache = numbers();
    let gate = Gate::default();
    let load = |keys: Vec<u64>| {
        let opened = gate.get();
        async move {
            let () = opened.await;
            valued(keys)
        }
    };
    let mut warming = Task::new(cache.warm_async(0..4, WarmUp::new().batch(2), load)).starts();
    gate.give(());
    assert!(warming.poll().is_pending(), "in its second batch");
    let mut caller = Task::new(cache.get_or_load_async(2, |_| ready(7))).starts();
    drop(warming);
    assert_eq!((caller.ready(), cache.len()), (7, 3));
    let how = WarmUp::new().batch(1).rate(1).sleep_with(|_| pending());
    let resting = Task::new(cache.warm_async(10..12, how, |keys| ready(valued(keys)))).starts();
    assert_eq!((cache.get(&10), cache.get_or_load(11, |_| 1)), (Some(110), 1));
    drop(resting);
    cache.validate();
}

/// Several warm-ups and callers for the same keys: each is loaded once.
#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn beside_traffic() {
    ends(|| {
        let cache: Numbers = Cache::builder().max_capacity(100_000).segments(4).build().unwrap();
        let keys = 5_000;
        let loads = Mutex::new(HashMap::<u64, u32>::new());
        let loaded = AtomicU64::new(0);
        let count = |keys: &[u64]| {
            keys.iter().for_each(|&key| *loads.lock().unwrap().entry(key).or_default() += 1);
            all(keys)
        };
        thread::scope(|scope| {
            for batch in [7, 30] {
                let (cache, count, loaded) = (&cache, &count, &loaded);
                scope.spawn(move || {
                    let done = cache.warm(0..keys, WarmUp::new().batch(batch), count);
                    loaded.fetch_add(counts(&done).1, SeqCst);
                });
            }
            let asked = scope.spawn(|| {
                let mut own = 0;
                for key in (0..keys).rev() {
                    let value = cache.get_or_load(key, |&key| {
                        own += 1;
                        count(&[key])[0].1
                    });
                    assert_eq!(value, key + 100);
                }
                own
            });
            let own: u64 = asked.join().unwrap();
            loaded.fetch_add(own, SeqCst);
        });
        assert_eq!(loaded.into_inner(), keys);
        assert!(loads.into_inner().unwrap().values().all(|&times| times == 1));
        assert_eq!(cache.len() as u64, keys);
        cache.validate();
    });
}
