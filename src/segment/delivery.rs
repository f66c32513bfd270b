//! Delivery: the listener is called for entries that have left, in the order in which they left.
//!
//! An entry that leaves is queued in its segment, under the segment's lock. The thread whose operation queued it takes the
//! segment's *turn* and delivers until the queue is empty. So one thread at a time delivers for a segment, and the values of a
//! key are notified in order. An operation that finds the turn taken returns at once: the thread that has it delivers for both.
//! Only if the queue is long the operation waits for the turn, so that writers cannot outrun the listener.
//!
//! A listener may change the cache. What its changes queue is delivered after it has returned: a thread delivers for a cache at
//! one place of its stack only, and visits the changed segments from there. So the depth of the stack is bounded, by one
//! delivery for each cache whose listener changes another cache. A thread that delivers never waits for a turn, since another
//! thread may wait for its own.
//!
//! When all operations have returned, all queues are empty. A turn ends under the segment's lock, with an empty queue; an entry
//! that is queued after that finds the turn free.

use super::{Listener, Panics, Segment};
use crate::table::Ticket;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};

/// The listener of a segment, and the turn to call it.
pub(crate) struct Delivery<K, V> {
    listener: Listener<K, V>,
    /// Held by the thread that delivers, while the listener runs. No operation waits for it but those that find the queue
    /// long.
    turn: Mutex<()>,
    /// Which of the cache's segments this is.
    index: usize,
    segments: OnceLock<Weak<[Segment<K, V>]>>,
}

impl<K, V> Delivery<K, V> {
    pub(crate) fn new(listener: Listener<K, V>, index: usize) -> Self {
        Self { listener, turn: Mutex::new(()), index, segments: OnceLock::new() }
    }
}

impl<K, V> Segment<K, V> {
    /// Tells the segments of a cache of each other.
    pub(crate) fn introduce(segments: &Arc<[Self]>) {
        for delivery in segments.iter().filter_map(|segment| segment.delivery.as_ref()) {
            _ = delivery.segments.set(Arc::downgrade(segments));
        }
    }

    /// Delivers what is queued, here and in the segments that the listener changes. Leaves that to the thread which has the
    /// turn, or to an outer call of the same thread.
    pub(super) fn deliver(&self, may_wait: bool, panics: &mut Panics) {
        let Some(delivery) = &self.delivery else { return };
        let cache = delivery.segments.get().map_or(0, |segments| segments.as_ptr().cast::<()>().addr());
        let Some(round) = Round::begin(cache, delivery.index) else { return };
        let ticket = self.deliver_own(may_wait && round.is_outermost, panics);
        let mut others = Vec::new();
        while let Some(index) = round.next() {
            let Some(segments) = delivery.segments.get().and_then(Weak::upgrade) else { break };
            if let Some(ticket) = segments[index].deliver_own(false, panics) {
                others.push((segments, index, ticket));
            }
        }
        // What is dropped may change the cache: not in the round, which would go on with that.
        drop(round);
        if let Some(ticket) = ticket {
            self.reclaim(ticket);
        }
        others.into_iter().for_each(|(segments, index, ticket)| segments[index].reclaim(ticket));
    }

    /// Delivers until the queue is empty. Returns the ticket up to which to reclaim.
    fn deliver_own(&self, may_wait: bool, panics: &mut Panics) -> Option<Ticket> {
        let Delivery { listener, turn, .. } = self.delivery.as_ref()?;
        let turn = if may_wait { turn.lock() } else { turn.try_lock()? };
        let mut ticket = None;
        let mut writer = self.table.lock();
        while let Some(departures) = writer.departures() {
            drop(writer);
            for (key, value, cause) in self.table.departed(&departures) {
                panics.catch(|| listener(key, value, cause));
            }
            writer = self.table.lock();
            let heavy = writer.heavy();
            ticket = writer.retire(departures, heavy).or(ticket);
        }
        // Before the lock is released: see the top of this module.
        drop(turn);
        ticket
    }
}

thread_local! {
    /// The deliveries of this thread, the innermost last: the address of the cache's segments, and those to be visited.
    static ROUNDS: RefCell<Vec<(usize, VecDeque<usize>)>> = const { RefCell::new(Vec::new()) };
}

/// A delivery of this thread for a cache.
struct Round {
    cache: usize,
    is_outermost: bool,
}

impl Round {
    /// Begins a delivery with the segment of this index. Returns `None` where the thread delivers for the cache already: that
    /// delivery will visit the segment, too.
    fn begin(cache: usize, index: usize) -> Option<Self> {
        let begin = |rounds: &RefCell<Vec<(usize, VecDeque<usize>)>>| {
            let mut rounds = rounds.borrow_mut();
            let is_outermost = rounds.is_empty();
            if let Some((_, waiting)) = rounds.iter_mut().find(|round| round.0 == cache) {
                if !waiting.contains(&index) {
                    waiting.push_back(index);
                }
                return None;
            }
            rounds.push((cache, VecDeque::new()));
            Some(Self { cache, is_outermost })
        };
        // A thread that is too near to its end for that delivers one inside another.
        ROUNDS.try_with(begin).unwrap_or_else(|_| Some(Self { cache, is_outermost: false }))
    }

    /// Returns the index of the segment to visit next.
    fn next(&self) -> Option<usize> {
        let next = |rounds: &RefCell<Vec<(usize, VecDeque<usize>)>>| {
            let mut rounds = rounds.borrow_mut();
            rounds.iter_mut().find(|round| round.0 == self.cache)?.1.pop_front()
        };
        ROUNDS.try_with(next).ok().flatten()
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        _ = ROUNDS.try_with(|rounds| rounds.borrow_mut().retain(|round| round.0 != self.cache));
    }
}
