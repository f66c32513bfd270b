//! Wakes tasks at a time, without an executor: one thread for all, there while there is something to wake.

use super::wait::wake;
use parking_lot::{Condvar, Mutex};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::Waker;
use std::thread;
use std::time::Instant;

struct Timer {
    alarms: Mutex<Alarms>,
    changed: Condvar,
}

static TIMER: Timer = Timer { alarms: Mutex::new(Alarms::new()), changed: Condvar::new() };

/// (A `BTreeMap` would be shorter, and a tenth of what this crate takes to compile.)
struct Alarms {
    /// Each that is armed, the earliest on top, and some that were dropped.
    times: BinaryHeap<Reverse<(Instant, Name)>>,
    places: Vec<Armed>,
    free: Vec<u32>,
    armed: usize,
    last: u64,
    runs: bool,
}

/// An alarm's number, which no other has, and its place.
type Name = (u64, u32);

struct Armed {
    number: u64,
    waker: Option<Waker>,
}

impl Alarms {
    const fn new() -> Self {
        Self {
            times: BinaryHeap::new(),
            places: Vec::new(),
            free: Vec::new(),
            armed: 0,
            last: 0,
            runs: false,
        }
    }

    /// Whom to wake, if the alarm is armed. It is not any more.
    fn disarm(&mut self, (number, place): Name) -> Option<Waker> {
        let armed = &mut self.places[place as usize];
        let waker = armed.waker.take_if(|_| armed.number == number);
        self.armed -= usize::from(waker.is_some());
        waker
    }

    /// Forgets the times of those that were dropped, when they are more than the others.
    fn tidy(&mut self) {
        if self.times.len() > 64 + 2 * self.armed {
            let Self { times, places, .. } = self;
            times.retain(|Reverse((_, (number, place)))| {
                let armed = &places[*place as usize];
                armed.number == *number && armed.waker.is_some()
            });
        }
    }
}

/// Wakes a task at its time. Not after it was dropped.
pub(crate) struct Alarm {
    time: Instant,
    name: Name,
}

impl Alarm {
    pub(crate) fn new(time: Instant) -> Self {
        let mut alarms = TIMER.alarms.lock();
        alarms.last += 1;
        let number = alarms.last;
        let place = alarms.free.pop().unwrap_or_else(|| {
            alarms.places.push(Armed { number, waker: None });
            (alarms.places.len() - 1) as u32
        });
        alarms.places[place as usize].number = number;
        Self { time, name: (number, place) }
    }

    /// Whom to wake from now on.
    pub(crate) fn set(&mut self, waker: &Waker) {
        let waker = waker.clone();
        let mut alarms = TIMER.alarms.lock();
        let before = alarms.places[self.name.1 as usize].waker.replace(waker);
        if before.is_none() {
            alarms.armed += 1;
            let is_first = alarms.times.peek().is_none_or(|Reverse((first, _))| self.time < *first);
            alarms.times.push(Reverse((self.time, self.name)));
            if alarms.runs && is_first {
                TIMER.changed.notify_one();
            }
        }
        if !alarms.runs {
            alarms.runs = thread::Builder::new().name("larder timer".to_owned()).spawn(run).is_ok();
        }
        // Without a thread the task has to look at the time itself.
        let asks_again = if alarms.runs { None } else { alarms.disarm(self.name) };
        drop(alarms);
        drop(before);
        asks_again.into_iter().for_each(wake);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut alarms = TIMER.alarms.lock();
        let waker = alarms.disarm(self.name);
        alarms.free.push(self.name.1);
        alarms.tidy();
        // A waker is a stranger's code: no lock meanwhile.
        drop(alarms);
        drop(waker);
    }
}

fn run() {
    let mut alarms = TIMER.alarms.lock();
    while let Some(&Reverse((time, name))) = alarms.times.peek() {
        if time <= Instant::now() {
            alarms.times.pop();
            let waker = alarms.disarm(name);
            drop(alarms);
            waker.into_iter().for_each(wake);
            alarms = TIMER.alarms.lock();
        } else {
            TIMER.changed.wait_until(&mut alarms, time);
        }
    }
    alarms.runs = false;
}

#[cfg(test)]
mod tests {
    use super::super::wait::tests::Count;
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::Duration;

    /// Those of other tests are in the same books, a few.
    #[test]
    fn only_those_are_woken_that_are_still_there() {
        let (woken, dropped) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let alarms = |time: Duration, whom: &Arc<Count>| -> Vec<Alarm> {
            let mut alarms: Vec<_> = (0..200).map(|_| Alarm::new(Instant::now() + time)).collect();
            alarms.iter_mut().for_each(|alarm| alarm.set(&Waker::from(Arc::clone(whom))));
            alarms
        };
        drop(alarms(Duration::from_secs(3600), &dropped));
        let times = TIMER.alarms.lock().times.len();
        assert!(times < 150, "{times} are kept of 200 that were dropped");
        let early = alarms(Duration::from_millis(20), &woken);
        while woken.0.load(SeqCst) < 200 {
            thread::yield_now();
        }
        drop(early);
        assert_eq!((woken.0.load(SeqCst), dropped.0.load(SeqCst)), (200, 0));
        assert_eq!(Arc::strong_count(&dropped), 1);
    }
}
