//! Chores that are to be done every now and then, by one thread for all, which is there as long as there are any.

use parking_lot::{Condvar, Mutex};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// More often is not asked for by anybody who knows what it costs.
const LEAST_PERIOD: Duration = Duration::from_millis(1);

struct Keeper {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    chores: Vec<Chore>,
    last_number: u64,
    runs: bool,
}

struct Chore {
    number: u64,
    next: Instant,
    period: Duration,
    work: Arc<dyn Fn() + Send + Sync>,
}

static KEEPER: Keeper = Keeper {
    state: Mutex::new(State { chores: Vec::new(), last_number: 0, runs: false }),
    changed: Condvar::new(),
};

/// A chore is done as long as this lives.
pub(crate) struct Kept(u64);

/// Does `work` once in every `period`. It should keep nothing alive. What it panics with goes no further than the panic hook.
pub(crate) fn keep(period: Duration, work: impl Fn() + Send + Sync + 'static) -> io::Result<Kept> {
    let period = period.max(LEAST_PERIOD);
    let mut state = KEEPER.state.lock();
    if !state.runs {
        thread::Builder::new().name("larder housekeeping".to_owned()).spawn(run)?;
        state.runs = true;
    }
    state.last_number += 1;
    let number = state.last_number;
    // A period that no clock will ever show to be over is never over.
    if let Some(next) = Instant::now().checked_add(period) {
        state.chores.push(Chore { number, next, period, work: Arc::new(work) });
    }
    drop(state);
    KEEPER.changed.notify_one();
    Ok(Kept(number))
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut state = KEEPER.state.lock();
        let place = state.chores.iter().position(|chore| chore.number == self.0);
        let chore = place.map(|place| state.chores.swap_remove(place));
        drop(state);
        drop(chore);
        KEEPER.changed.notify_one();
    }
}

fn run() {
    let mut state = KEEPER.state.lock();
    while let Some(chore) = state.chores.iter_mut().min_by_key(|chore| chore.next) {
        let now = Instant::now();
        if chore.next > now {
            let next = chore.next;
            KEEPER.changed.wait_until(&mut state, next);
            continue;
        }
        // By the time at which it was due, so that it does not drift; but what was missed is not made up for.
        chore.next += chore.period;
        if chore.next <= now {
            chore.next = now + chore.period;
        }
        let work = Arc::clone(&chore.work);
        drop(state);
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| work())) {
            // Its own `Drop` could panic.
            std::mem::forget(payload);
        }
        drop(work);
        state = KEEPER.state.lock();
    }
    state.runs = false;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::SeqCst;

    #[test]
    fn chores_are_done_until_they_are_dropped_and_the_thread_ends_with_the_last() {
        let done = Arc::new(AtomicUsize::new(0));
        let kept = [(), ()].map(|()| {
            let done = Arc::clone(&done);
            keep(Duration::ZERO, move || {
                done.fetch_add(1, SeqCst);
                std::panic::resume_unwind(Box::new("a chore that fails is done again"));
            })
            .unwrap()
        });
        let never = keep(Duration::MAX, || unreachable!("it is never due")).unwrap();
        while done.load(SeqCst) < 5 {
            thread::yield_now();
        }
        drop((kept, never));
        while KEEPER.state.lock().runs {
            thread::yield_now();
        }
        assert_eq!(Arc::strong_count(&done), 1, "a chore is kept");
        let done_by_then = done.load(SeqCst);
        thread::yield_now();
        assert_eq!(done.load(SeqCst), done_by_then);
    }
}
