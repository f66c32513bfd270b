//! What becomes of a load that fails, panics, is dropped or takes too long, and of those who wait for it: cases 43 to 45, 49
//! and 50 of ADVERSARIES.
#![allow(missing_docs)]

mod common;

use common::loads::{Gate, Task, block_on, counting, joiner, leader, numbers, until_waiting, valued};
use common::{ends, panics, size, until};
use larder::{Cache, LoadError};
use std::future::{pending, ready};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::channel;
use std::task::Poll;
use std::thread;
use std::time::Duration;

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
        let mut sure = Task::new(cache.get_or_load_async(1, |_| ready(9))).starts();
        thread::scope(|scope| {
            let wait = scope.spawn(|| cache.try_get_or_load(1, |_| Err::<u64, String>("mine".into())));
            until_waiting(&cache, 4);
            gate.give(Err("broken".into()));
            let LoadError::Failed(first) = lead.ready().unwrap_err() else { panic!("it failed") };
            assert_eq!(*first, "broken");
            for result in [same.ready(), wait.join().unwrap()] {
                assert!(matches!(result, Err(LoadError::Failed(error)) if Arc::ptr_eq(&error, &first)));
            }
        });
        assert_eq!(cache.get(&1), None, "an error is not kept");
        assert!(other.poll().is_pending(), "expects another type of error, so it loads");
        assert!(sure.poll().is_pending(), "waits for `other`");
        drop(other);
        assert_eq!((sure.wakes(), sure.ready()), (2, 9));
        assert_eq!(cache.get(&1), Some(9));
    });
}

/// Case 43, for threads and for tasks: the panic is its caller's, and one of those who wait loads.
#[test]
fn a_leader_panics() {
    ends(|| {
        let cache = numbers();
        thread::scope(|scope| {
            let (began, begins) = channel();
            let cache = &cache;
            let lead = scope.spawn(move || {
                panics(|| {
                    cache.get_or_load(1, |_| {
                        began.send(()).unwrap();
                        until_waiting(cache, 2);
                        panic!("on purpose")
                    })
                })
            });
            begins.recv().unwrap();
            let mut task = Task::new(cache.get_or_load_async(1, |_| pending())).starts();
            let wait = scope.spawn(|| cache.get_or_load(1, |_| 6));
            assert!(lead.join().unwrap());
            // Whoever of the two comes first loads. If it is the task, it gives up.
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
        assert_eq!(cache.stats().load_success_count(), 3);
    });
}

/// Case 44: those who wait take over in turn.
#[test]
fn leaders_are_dropped() {
    ends(|| {
        let cache = numbers();
        let lead = leader(&cache, 1, &Gate::default());
        let mut second = Task::new(cache.get_or_load_async(1, |_| pending())).starts();
        let mut third = Task::new(cache.get_or_load_async(1, |_| ready(3))).starts();
        thread::scope(|scope| {
            drop(lead);
            assert_eq!((second.wakes(), third.wakes()), (1, 1));
            assert!(second.poll().is_pending(), "loads");
            let wait = scope.spawn(|| cache.get_or_load(1, |_| 3));
            until_waiting(&cache, 3);
            drop(second);
            // Whoever of the two comes first loads, and the other gets what that brings.
            let third_result = third.poll();
            assert_eq!(wait.join().unwrap(), 3);
            assert_eq!(if third_result.is_ready() { third_result } else { third.poll() }, Poll::Ready(3));
        });
        assert_eq!(cache.stats().load_success_count(), 1);
    });
}

/// Case 50: wherever a future is dropped, what it left in the cache can be evicted, and the next caller is served.
#[test]
fn futures_are_dropped_anywhere() {
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
        let is_kept = polls == 3;
        assert_eq!(cache.len(), usize::from(is_kept));
        assert_eq!(cache.get_or_load(1, |_| 3), if is_kept { 2 } else { 3 });
        cache.set_capacity(0);
        assert!(cache.is_empty());
        cache.validate();
    }
}

/// Cases 45 and 49: with a limit to waiting nobody depends on a leader that is neither polled nor dropped, or that never
/// ends. What such a leader brings later is not kept, and whoever loads after it (case 42) is left alone.
#[test]
fn those_who_wait_too_long_load_themselves() {
    ends(|| {
        let cache = counting().load_timeout(Duration::from_millis(100)).build().unwrap();
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
            let (gate, loads) = (Gate::default(), AtomicBool::new(false));
            let mut next = Task::new(cache.get_or_load_async(5, |_| {
                loads.store(true, SeqCst);
                gate.get()
            }));
            until(|| {
                assert!(next.poll().is_pending());
                loads.load(SeqCst)
            });
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
fn a_call_for_many_waits_for_one_limit() {
    let stuck = |limit, keys| {
        let cache = counting().load_timeout(limit).build().unwrap();
        let held = cache.clone();
        let lead = async move { held.get_all_or_load_async(0..keys, |_| pending::<Vec<_>>()).await };
        (cache, Task::new(lead).starts())
    };
    ends(move || {
        // A task is woken once, when the limit is over, and then waits for none of the other keys.
        let (cache, _lead) = stuck(Duration::from_millis(10), 10);
        let mut many = Task::new(cache.get_all_or_load_async(0..10, |keys| ready(valued(keys))));
        if many.poll().is_pending() {
            until(|| many.wakes() == 1);
            assert_eq!(many.ready().len(), 10);
        }
    });
    ends(move || {
        // With a limit for each key, a thread would wait for longer than `ends` does.
        let keys = size(1_000, 10) as u64;
        let (cache, _lead) = stuck(Duration::from_millis(200), keys);
        let found = cache.get_all_or_load(0..keys, |keys| valued(keys.iter().copied()));
        assert_eq!(found.len() as u64, keys);
    });
}

/// A panic in the `Drop` of the key that was registered is the leader's, whatever becomes of the load. It keeps nobody waiting.
#[test]
fn a_registered_key_panics_when_it_is_dropped() {
    /// Whether it panics when it is dropped is no part of the key.
    #[derive(Debug)]
    struct Fragile(u64, bool);
    impl PartialEq for Fragile {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Fragile {}
    impl Hash for Fragile {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }
    static NEXT_IS_FRAGILE: AtomicBool = AtomicBool::new(false);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            Self(self.0, NEXT_IS_FRAGILE.swap(false, SeqCst))
        }
    }
    impl Drop for Fragile {
        fn drop(&mut self) {
            if self.1 && !thread::panicking() {
                panic!("on purpose");
            }
        }
    }
    for end in [Some(Ok(5)), Some(Err(5)), None] {
        let cache = Cache::<Fragile, u64>::new(10);
        let gate: Gate<Result<u64, u64>> = Gate::default();
        let loading = gate.get();
        let mut lead = Task::new(cache.try_get_or_load_async(Fragile(1, false), |_| loading));
        // The first clone is the one that is registered.
        NEXT_IS_FRAGILE.store(true, SeqCst);
        assert!(lead.poll().is_pending());
        assert!(!NEXT_IS_FRAGILE.load(SeqCst));
        let mut wait = Task::new(cache.try_get_or_load_async(Fragile(1, false), |_| ready(Err(7)))).starts();
        if let Some(end) = end {
            gate.give(end);
            assert!(panics(|| drop(lead.poll())), "{end:?}");
            drop(lead);
        } else {
            assert!(panics(|| drop(lead)));
        }
        assert_eq!(wait.wakes(), 1, "{end:?}");
        match wait.ready() {
            Ok(value) => assert_eq!(end, Some(Ok(value))),
            Err(LoadError::Failed(error)) => assert_eq!(end.unwrap_or(Err(7)), Err(*error)),
            Err(error) => panic!("{error:?}"),
        }
        cache.validate();
    }
}

/// A panic of `Clone`, the weigher or the listener, while a value lands, is the leader's. Those who wait get the value, and
/// the key can be loaded again.
#[test]
fn panics_while_a_value_lands() {
    #[derive(Debug)]
    struct Fragile(u64);
    /// How many clones succeed before one panics.
    static CLONES: AtomicUsize = AtomicUsize::new(usize::MAX);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            if CLONES.fetch_sub(1, SeqCst) == 0 {
                panic!("on purpose");
            }
            Self(self.0)
        }
    }
    let plain = || Cache::<u64, Fragile>::builder().max_capacity(1);
    let weigher = plain().weigher(|_, value| if value.0 == 5 { panic!("on purpose") } else { 1 });
    let listener = plain().eviction_listener(|_, _, _| panic!("on purpose"));
    for (builder, clones) in [(plain(), 0), (plain(), 1), (weigher, 99), (listener, 99)] {
        CLONES.store(usize::MAX, SeqCst);
        let cache = builder.build().unwrap();
        cache.insert(7, Fragile(7));
        let gate = Gate::default();
        let (loading, opened) = (gate.get(), Gate::default());
        let mut lead = Task::new(cache.get_or_load_async(1, |_| loading)).starts();
        let mut waits: Vec<_> =
            (0..3).map(|_| Task::new(cache.get_or_load_async(1, |_| opened.get())).starts()).collect();
        CLONES.store(clones, SeqCst);
        gate.give(Fragile(5));
        assert!(panics(|| drop(lead.poll())), "{clones}");
        CLONES.store(usize::MAX, SeqCst);
        opened.give(Fragile(6));
        for wait in &mut waits {
            assert_eq!(wait.wakes(), 1);
            assert_eq!(wait.ready().0, 5, "what was loaded");
        }
        cache.validate();
        let gate = Gate::default();
        let mut many = Task::new(cache.get_all_or_load_async([11, 12], |_| gate.get())).starts();
        let mut waits: Vec<_> =
            [12, 11].map(|key| Task::new(cache.get_or_load_async(key, |_| pending())).starts()).into();
        CLONES.store(clones, SeqCst);
        gate.give(vec![(11, Fragile(5)), (12, Fragile(5))]);
        assert!(panics(|| drop(many.poll())), "{clones}");
        CLONES.store(usize::MAX, SeqCst);
        waits.iter_mut().for_each(|wait| assert_eq!(wait.ready().0, 5));
        cache.validate();
        for key in [1, 11, 12] {
            let leads = AtomicBool::new(false);
            let loader = |_: &u64| {
                leads.store(true, SeqCst);
                pending()
            };
            drop(Task::new(cache.refresh_async(key, loader)).starts());
            assert!(leads.into_inner(), "{key} is still taken for being loaded");
        }
    }
}
