//! The futures of loads: whom they wake, where they may be polled, and how large they are. Cases 47 and 52 of ADVERSARIES.
#![allow(missing_docs)]

mod common;

use common::ends;
use common::loads::{Gate, Task, Wakes, joiner, leader, numbers};
use larder::LoadError;
use std::future::{pending, ready};
use std::sync::Arc;
use std::task::Waker;
use std::thread;

/// Case 47: the waker of the last poll is woken, and none is kept.
#[test]
fn the_waker_of_the_last_poll_is_woken() {
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

/// A task may go on in another thread than it began in: what it loads is known where it is polled, and nowhere else.
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
        // This thread has polled it, and still may wait for it.
        let mut task = joiner(&cache, 1);
        gate.give(());
        thread::scope(|scope| assert_eq!(scope.spawn(move || lead.ready()).join().unwrap(), 1));
        assert_eq!(task.ready(), 1);
    });
}

/// Case 52: futures are `Send`, and hold little but what they are given. The loader's own future stands in a box, so however
/// large it is, the future of a load, which most often is one of a hit, is not.
#[test]
fn futures_are_small() {
    fn sent<F: Future + Send>(future: F) -> usize {
        size_of_val(&future)
    }
    let cache = numbers();
    let large = async || {
        let ballast = [0_u8; 4096];
        pending::<()>().await;
        u64::from(ballast[0])
    };
    assert!(size_of_val(&large()) >= 4096);
    let one = [
        sent(cache.get_or_load_async(1, |_| ready(1))),
        sent(cache.try_get_or_load_async(1, |_| ready(Ok::<u64, u8>(1)))),
        sent(cache.refresh_async(1, |_| ready(1))),
        sent(cache.try_refresh_async(1, |_| ready(Ok::<u64, u8>(1)))),
        sent(cache.get_or_load_async(1, |_| large())),
        sent(cache.refresh_async(1, |_| large())),
    ];
    assert!(one.iter().all(|&size| size <= 512), "{one:?}");
    let many = [
        sent(cache.get_all_or_load_async([1], |_| ready([(1, 1)]))),
        sent(cache.get_all_or_load_async([1], |_| async { [(1, large().await)] })),
    ];
    assert!(many.iter().all(|&size| size <= 640), "{many:?}");
    println!("{one:?} bytes for one key, {many:?} for many");
}
