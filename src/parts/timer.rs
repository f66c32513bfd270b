//! Wakes tasks at a time, without an executor: one thread for all, there while there is something to wake.

use super::wait::wake;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::task::Waker;
use std::thread;
use std::time::Instant;

/// By time, and a number that tells those of one time apart.
type Alarms = BTreeMap<(Instant, u64), Waker>;

struct Timer {
    alarms: Mutex<State>,
    changed: Condvar,
}

struct State {
    alarms: Alarms,
    next: u64,
    runs: bool,
}

static TIMER: Timer = Timer {
    alarms: Mutex::new(State { alarms: Alarms::new(), next: 0, runs: false }),
    changed: Condvar::new(),
};

/// Wakes a task at its time. Not after it was dropped.
pub(crate) struct Alarm {
    key: (Instant, u64),
}

impl Alarm {
    pub(crate) fn new(time: Instant) -> Self {
        let mut state = TIMER.alarms.lock();
        state.next += 1;
        Self { key: (time, state.next) }
    }

    /// Whom to wake from now on.
    pub(crate) fn set(&mut self, waker: &Waker) {
        let waker = waker.clone();
        let mut state = TIMER.alarms.lock();
        let is_first = state.alarms.keys().next().is_none_or(|first| self.key < *first);
        let before = state.alarms.insert(self.key, waker);
        if state.runs {
            if is_first {
                TIMER.changed.notify_one();
            }
        } else {
            state.runs = thread::Builder::new().name("larder timer".to_owned()).spawn(run).is_ok();
        }
        // Without a thread the task has to look at the time itself.
        let asks_again = if state.runs { None } else { state.alarms.remove(&self.key) };
        drop(state);
        drop(before);
        asks_again.into_iter().for_each(wake);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let waker = TIMER.alarms.lock().alarms.remove(&self.key);
        drop(waker);
    }
}

fn run() {
    let mut state = TIMER.alarms.lock();
    while let Some((&key, _)) = state.alarms.first_key_value() {
        if key.0 <= Instant::now() {
            let waker = state.alarms.remove(&key);
            // A waker is a stranger's code: no lock meanwhile.
            drop(state);
            waker.into_iter().for_each(wake);
            state = TIMER.alarms.lock();
        } else {
            TIMER.changed.wait_until(&mut state, key.0);
        }
    }
    state.runs = false;
}
