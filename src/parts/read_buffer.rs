//! A lossy buffer of slots that were read, for policies that need to know the order of reads.
//!
//! Each thread adds to one of a few rings; the holder of the segment's lock empties them. A ring that is full or
//! contended loses events, but never while one thread alone uses the cache: then the buffer says `Full` and the thread
//! can empty it. (Caffeine's read buffer, after BP-Wrapper by Ding, Jiang and Zhang, ICDE 2009.)

use super::striped::thread_number;
use crate::parts::Apart;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const RING: u32 = 32;

struct Ring {
    /// Events that were emptied; only the holder of the lock writes it.
    head: AtomicU32,
    /// Events that were claimed.
    tail: AtomicU32,
    /// A slot's number plus one; 0 where nothing stands, or not yet.
    events: [AtomicU32; RING as usize],
}

pub(crate) struct ReadBuffer {
    rings: Box<[Apart<Ring>]>,
}

/// What came of an event.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Recorded {
    /// It was kept, or lost to another thread at the same moment.
    Done,
    /// It was not: the buffer must be emptied first.
    Full,
}

impl ReadBuffer {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(4, usize::from);
        let ring = || Ring {
            head: AtomicU32::new(0),
            tail: AtomicU32::new(0),
            events: std::array::from_fn(|_| AtomicU32::new(0)),
        };
        Self { rings: (0..cores.min(16)).map(|_| Apart::new(ring())).collect() }
    }

    pub(crate) fn record(&self, slot: u32) -> Recorded {
        let ring = &self.rings[thread_number().unwrap_or(0) % self.rings.len()];
        let tail = ring.tail.load(Relaxed);
        // Acquire pairs with the Release in `empty`: the place has been cleared.
        if tail.wrapping_sub(ring.head.load(Acquire)) >= RING {
            return Recorded::Full;
        }
        if ring.tail.compare_exchange(tail, tail.wrapping_add(1), Relaxed, Relaxed).is_ok() {
            // Release pairs with the Acquire in `empty`: the reader found the slot before.
            ring.events[(tail % RING) as usize].store(slot + 1, Release);
        }
        Recorded::Done
    }

    /// Gives all events to `replay`, of each thread in their order. Only one thread at a time may call this.
    pub(crate) fn empty(&self, mut replay: impl FnMut(u32)) {
        for ring in &self.rings {
            let mut head = ring.head.load(Relaxed);
            while head != ring.tail.load(Relaxed) {
                let event = ring.events[(head % RING) as usize].swap(0, Acquire);
                if event == 0 {
                    // Claimed, but not yet written: it comes next time.
                    break;
                }
                head = head.wrapping_add(1);
                ring.head.store(head, Release);
                replay(event - 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_loses_nothing() {
        let buffer = ReadBuffer::new();
        let mut seen = Vec::new();
        for slot in 0..1000 {
            if buffer.record(slot) == Recorded::Full {
                buffer.empty(|slot| seen.push(slot));
                assert_eq!(buffer.record(slot), Recorded::Done);
            }
        }
        buffer.empty(|slot| seen.push(slot));
        assert!(seen.into_iter().eq(0..1000));
    }

    #[test]
    fn many_threads_invent_nothing() {
        let buffer = ReadBuffer::new();
        let mut seen = vec![0; 64];
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let buffer = &buffer;
                scope.spawn(move || {
                    for i in 0..16 {
                        buffer.record(thread * 16 + i);
                    }
                });
            }
            for _ in 0..100 {
                buffer.empty(|slot| seen[slot as usize] += 1);
            }
        });
        buffer.empty(|slot| seen[slot as usize] += 1);
        assert!(seen.into_iter().all(|times| times <= 1));
    }
}
