//! Counters that many threads add to at once, each mostly on a line of its own.

use crate::parts::Apart;
use parking_lot::Mutex;
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// A small number that no other living thread has; `None` while the thread's locals are being destroyed.
pub(crate) fn thread_number() -> Option<usize> {
    match NUMBER.get() {
        UNSET => lease_number(),
        GONE => None,
        number => Some(number),
    }
}

const UNSET: usize = usize::MAX;
const GONE: usize = usize::MAX - 1;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(UNSET) };
    static LEASE: Lease = Lease::new();
}

/// Numbers that were leased and given back, the lowest on top, and the lowest that never was.
static NUMBERS: Mutex<(BinaryHeap<Reverse<usize>>, usize)> = Mutex::new((BinaryHeap::new(), 0));

/// Gives the thread's number back when the thread ends.
struct Lease(usize);

impl Lease {
    fn new() -> Self {
        let (returned, fresh) = &mut *NUMBERS.lock();
        Self(returned.pop().map_or_else(
            || {
                *fresh += 1;
                *fresh - 1
            },
            |Reverse(number)| number,
        ))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        NUMBER.set(GONE);
        NUMBERS.lock().0.push(Reverse(self.0));
    }
}

#[cold]
fn lease_number() -> Option<usize> {
    let number = LEASE.try_with(|lease| lease.0).ok();
    NUMBER.set(number.unwrap_or(GONE));
    number
}

/// `N` counters. Adding is a plain load and store in a stripe that belongs to the thread, exact all the same.
pub(crate) struct Striped<const N: usize> {
    /// By the number of the thread.
    own: Box<[Apart<[AtomicU64; N]>]>,
    /// For threads whose number is too large, or that have none.
    shared: Box<Apart<[AtomicU64; N]>>,
}

impl<const N: usize> Striped<N> {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(4, usize::from);
        let stripe = || Apart::new(std::array::from_fn(|_| AtomicU64::new(0)));
        Self { own: (0..(4 * cores).min(256)).map(|_| stripe()).collect(), shared: Box::new(stripe()) }
    }

    /// Adds, if the thread has a stripe of its own already; says whether it has.
    #[inline]
    fn add_at_once(&self, counter: usize, n: u64) -> bool {
        let Some(counter) = self.own.get(NUMBER.get()).and_then(|stripe| stripe.get(counter)) else {
            return false;
        };
        // Only this thread writes here. Relaxed: counters order nothing, and a number changes hands by a lock.
        counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
        true
    }

    pub(crate) fn add(&self, counter: usize, n: u64) {
        // It may get its number only now.
        thread_number();
        if !self.add_at_once(counter, n) {
            self.shared[counter].fetch_add(n, Relaxed);
        }
    }

    /// The sum over all threads; exact when they are quiet.
    pub(crate) fn sum(&self, counter: usize) -> u64 {
        self.own
            .iter()
            .chain([&*self.shared])
            .fold(0, |sum, stripe| sum.wrapping_add(stripe[counter].load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_count_is_lost_whatever_number_a_thread_gets() {
        let (threads, rounds) = if cfg!(miri) { (3, 20) } else { (64, 1000) };
        let counters = Striped::<2>::new();
        for _ in 0..3 {
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| (0..rounds).for_each(|_| counters.add(1, 2)));
                }
            });
        }
        assert_eq!((counters.sum(0), counters.sum(1)), (0, 3 * 2 * threads * rounds));
    }

    #[test]
    fn numbers_are_used_again() {
        let number = || std::thread::spawn(thread_number).join().unwrap().unwrap();
        // Other tests lease numbers at the same time, so only the order of magnitude is certain.
        assert!((0..100).all(|_| number() < 1000));
    }
}
