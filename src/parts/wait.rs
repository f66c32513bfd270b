//! Something that comes once, and that threads and tasks wait for side by side.
//!
//! A thread waits as a task does: it polls, with a waker that unparks it. So there is one way to wait, and one to wake.

use super::timer;
use crate::sync::thread::{self, Thread};
use crate::sync::{Mutex, OnceLock};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

/// Room for a `T` to come.
pub(crate) struct Wait<T> {
    landed: OnceLock<T>,
    wakers: Mutex<Wakers>,
}

/// Who waits: by ticket, so that a waiter that gives up can be forgotten.
#[derive(Default)]
struct Wakers {
    by_ticket: Vec<Option<Waker>>,
    /// Tickets of those who gave up, for those who come: what is slow to land may see many come and go.
    free: Vec<usize>,
}

/// Wakes a task. A waker is a stranger's code: what it panics with keeps nobody else asleep.
pub(super) fn wake(waker: Waker) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        // Its own `Drop` could panic.
        std::mem::forget(payload);
    }
}

impl<T> Wait<T> {
    pub(crate) fn new() -> Self {
        Self { landed: OnceLock::new(), wakers: Mutex::default() }
    }

    /// Here it is. Only the first counts.
    pub(crate) fn land(&self, value: T) {
        // First the value: whoever registers after the wakers are taken sees it. See `poll`.
        if self.landed.set(value).is_ok() {
            let wakers = std::mem::take(&mut *self.wakers.lock());
            wakers.by_ticket.into_iter().flatten().for_each(wake);
        }
    }

    /// What has come, if it has.
    pub(crate) fn landed(&self) -> Option<&T> {
        self.landed.get()
    }

    /// Waits for it, until the deadline if there is one; `None` if that passes first.
    ///
    /// The future may be dropped at any time.
    pub(crate) async fn wait(&self, deadline: Option<Instant>) -> Option<&T> {
        let mut waiter = Waiter { wait: self, ticket: None };
        let mut alarm = None;
        poll_fn(|context| {
            if let Poll::Ready(value) = waiter.poll(context) {
                return Poll::Ready(Some(value));
            }
            if let Some(deadline) = deadline {
                if deadline <= Instant::now() {
                    return Poll::Ready(None);
                }
                alarm.get_or_insert_with(|| timer::Alarm::new(deadline)).set(context.waker());
            }
            Poll::Pending
        })
        .await
    }

    /// The same for a thread, which sleeps meanwhile.
    pub(crate) fn block(&self, deadline: Option<Instant>) -> Option<&T> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut waiter = Waiter { wait: self, ticket: None };
        loop {
            if let Poll::Ready(value) = waiter.poll(&Context::from_waker(&waker)) {
                return Some(value);
            }
            match deadline {
                None => thread::park(),
                Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => thread::park_timeout(left),
                    _ => return None,
                },
            }
        }
    }
}

/// One who waits.
struct Waiter<'a, T> {
    wait: &'a Wait<T>,
    ticket: Option<usize>,
}

impl<'a, T> Waiter<'a, T> {
    fn poll(&mut self, context: &Context<'_>) -> Poll<&'a T> {
        if let Some(value) = self.wait.landed() {
            return Poll::Ready(value);
        }
        // Cloned before the lock: a waker is a stranger's code. Each time anew: a future may go from task to task.
        let waker = context.waker().clone();
        let mut wakers = self.wait.wakers.lock();
        if let Some(value) = self.wait.landed() {
            return Poll::Ready(value);
        }
        let ticket = *self.ticket.get_or_insert_with(|| {
            wakers.free.pop().unwrap_or_else(|| {
                wakers.by_ticket.push(None);
                wakers.by_ticket.len() - 1
            })
        });
        let before = wakers.by_ticket[ticket].replace(waker);
        drop(wakers);
        drop(before);
        Poll::Pending
    }
}

impl<T> Drop for Waiter<'_, T> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut wakers = self.wait.wakers.lock();
        // Not there any more, if it has landed.
        let waker = wakers.by_ticket.get_mut(ticket).and_then(Option::take);
        if waker.is_some() {
            wakers.free.push(ticket);
        }
        drop(wakers);
        drop(waker);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(all(test, larder_loom))]
mod model {
    use super::*;
    use crate::sync::model::check;
    use std::future::Future;
    use std::pin::pin;

    /// Threads sleep until it lands, and are woken: loom says so if one sleeps in the end.
    #[test]
    fn all_who_wait_are_woken() {
        check("wait", 3, || {
            let wait = Arc::new(Wait::new());
            let threads = [0, 1].map(|_| {
                let wait = Arc::clone(&wait);
                loom::thread::spawn(move || assert_eq!(wait.block(None), Some(&7)))
            });
            wait.land(7);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    /// A waiter that gives up takes its waker out, while it may land or another may come.
    #[test]
    fn a_waiter_that_gives_up_is_forgotten() {
        check("wait, given up", 3, || {
            let wait = Arc::new(Wait::new());
            let (gives_up, stays) = (Arc::clone(&wait), Arc::clone(&wait));
            let first = loom::thread::spawn(move || {
                let mut task = pin!(gives_up.wait(None));
                _ = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            });
            let second = loom::thread::spawn(move || assert_eq!(stays.block(None), Some(&7)));
            wait.land(7);
            first.join().unwrap();
            second.join().unwrap();
        });
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::SeqCst;
    use std::thread;
    use std::time::Duration;

    /// How often it was woken.
    #[derive(Default)]
    pub(in crate::parts) struct Count(pub(in crate::parts) AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn threads_and_tasks_get_the_first_that_lands() {
        let wait = Wait::new();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        let mut task = Box::pin(wait.wait(None));
        assert!(task.as_mut().poll(&mut context).is_pending());
        thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| *wait.block(None).unwrap())).collect();
            wait.land(7);
            wait.land(8);
            threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), 7));
        });
        assert_eq!(count.0.load(SeqCst), 1);
        assert_eq!(task.as_mut().poll(&mut context), Poll::Ready(Some(&7)));
    }

    /// The waker of the last poll is the one that counts, and none of a future that was dropped.
    #[test]
    fn wakers_are_those_of_the_last_poll() {
        let wait = Wait::new();
        let counts: Vec<_> = (0..3).map(|_| Arc::new(Count::default())).collect();
        let wakers: Vec<_> = counts.iter().map(|count| Waker::from(Arc::clone(count))).collect();
        let mut task = Box::pin(wait.wait(None));
        let mut dropped = Box::pin(wait.wait(None));
        assert!(task.as_mut().poll(&mut Context::from_waker(&wakers[0])).is_pending());
        assert!(task.as_mut().poll(&mut Context::from_waker(&wakers[1])).is_pending());
        assert!(dropped.as_mut().poll(&mut Context::from_waker(&wakers[2])).is_pending());
        drop(dropped);
        wait.land(());
        let woken: Vec<_> = counts.iter().map(|count| count.0.load(SeqCst)).collect();
        assert_eq!(woken, [0, 1, 0]);
        drop(wakers);
        drop(task);
        assert!(counts.iter().all(|count| Arc::strong_count(count) == 1), "a waker was kept");
    }

    /// What lands is woken for all, whatever a stranger's waker does, and the leader hears nothing of it.
    #[test]
    fn a_waker_that_panics_keeps_nobody_asleep() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
        }
        let wait = Wait::new();
        let count = Arc::new(Count::default());
        let wakers = [Waker::from(Arc::new(Panics)), Waker::from(Arc::clone(&count))];
        let mut tasks = [Box::pin(wait.wait(None)), Box::pin(wait.wait(None))];
        for (task, waker) in tasks.iter_mut().zip(&wakers) {
            assert!(task.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        }
        wait.land(());
        assert_eq!(count.0.load(SeqCst), 1);
    }

    /// The memory for waiters goes with their number at a time, not with how many have come and gone.
    #[test]
    fn those_who_gave_up_leave_their_places() {
        let wait = Wait::<()>::new();
        let mut context = Context::from_waker(Waker::noop());
        let mut stays = Box::pin(wait.wait(None));
        for _ in 0..100 {
            let mut tasks = [Box::pin(wait.wait(None)), Box::pin(wait.wait(None))];
            for task in &mut tasks {
                assert!(task.as_mut().poll(&mut context).is_pending());
            }
            assert!(stays.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(wait.wakers.lock().by_ticket.len(), 3);
    }

    #[test]
    fn a_deadline_that_has_passed_is_not_waited_for() {
        let wait = Wait::<()>::new();
        let passed = Some(Instant::now());
        assert_eq!(wait.block(passed), None);
        let waker = Waker::noop();
        let mut task = Box::pin(wait.wait(passed));
        assert_eq!(task.as_mut().poll(&mut Context::from_waker(waker)), Poll::Ready(None));
    }

    #[test]
    fn a_task_is_woken_at_its_deadline() {
        let wait = Wait::<()>::new();
        let deadline = Instant::now() + Duration::from_millis(20);
        let waker = Waker::from(Arc::new(Unpark(super::thread::current())));
        let mut task = Box::pin(wait.wait(Some(deadline)));
        while task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            thread::park();
        }
        assert!(Instant::now() >= deadline);
    }
}
