//! Settling: calls of the listener (`delivery`) and drops, after a segment's lock is released.

use super::Segment;
use crate::table::{Left, Queue, Ticket};
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What an operation has left behind for the time after the lock: entries to tell the listener of, memory to free.
#[must_use = "entries must be settled, or the listener and the memory wait for the next operation"]
pub(crate) struct Leaving<'a, K, V> {
    pub(super) segment: &'a Segment<K, V>,
    pub(super) left: Option<Left>,
}

impl<K, V> Leaving<'_, K, V> {
    /// Runs the listener and drops what can be dropped. Call it with no lock held.
    ///
    /// # Panics
    ///
    /// With the first panic of the listener, after everything has been done.
    #[inline]
    pub(crate) fn settle(self) {
        let mut panics = Panics::default();
        self.settle_but(&mut panics);
        panics.resume();
    }

    /// Settles without waiting for another thread that is calling the listener, however long the queue.
    pub(crate) fn settle_without_waiting(self) {
        let mut panics = Panics::default();
        if let Some(left) = self.left {
            self.segment.settle(&left, false, &mut panics);
        }
        panics.resume();
    }

    /// As [`settle`](Self::settle), but leaves a panic of the listener for later.
    #[inline]
    pub(crate) fn settle_but(self, panics: &mut Panics) {
        if let Some(left) = self.left {
            self.segment.settle(&left, true, panics);
        }
    }
}

impl<K, V> Segment<K, V> {
    /// Calls the listener, for which it `may_wait`, and drops what can be dropped.
    #[cold]
    pub(super) fn settle(&self, left: &Left, may_wait: bool, panics: &mut Panics) {
        if left.queue != Queue::Empty {
            self.deliver(may_wait && left.queue == Queue::Long, panics);
        }
        if let Some(ticket) = left.reclaim {
            self.reclaim(ticket);
        }
    }

    /// Drops the entries that left before the ticket was drawn and at which no reader looks, and makes their memory free.
    ///
    /// Does nothing in a thread that is at it already: a `Drop` may change the cache, and would go on with the entries behind its
    /// own, and so on, to any depth of the stack. The next operation does what is left then.
    pub(super) fn reclaim(&self, ticket: Ticket) {
        let Some(_reclaiming) = Reclaiming::begin() else { return };
        if let Some(scan) = self.table.scan(ticket) {
            self.table.reclaim(&scan);
        }
    }
}

thread_local! {
    static IS_RECLAIMING: Cell<bool> = const { Cell::new(false) };
}

/// The mark of a thread that drops removed entries.
struct Reclaiming;

impl Reclaiming {
    /// Returns `None` if the thread has the mark, or is too near to its end for one.
    fn begin() -> Option<Self> {
        let was_reclaiming = IS_RECLAIMING.try_with(|is_reclaiming| is_reclaiming.replace(true));
        if was_reclaiming == Ok(false) { Some(Self) } else { None }
    }
}

impl Drop for Reclaiming {
    fn drop(&mut self) {
        let _ = IS_RECLAIMING.try_with(|is_reclaiming| is_reclaiming.set(false));
    }
}

/// The first panic of the listener in an operation, kept until everything else has been done.
#[derive(Default)]
#[must_use = "a panic reaches its caller"]
pub(crate) struct Panics(Option<Box<dyn Any + Send>>);

impl Panics {
    pub(super) fn catch(&mut self, code: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(code)) {
            match self.0 {
                None => self.0 = Some(payload),
                // The payload's own `Drop` could panic.
                Some(_) => std::mem::forget(payload),
            }
        }
    }

    /// Goes on with the panic, if there was one; not while another is under way, which would abort.
    #[inline]
    pub(crate) fn resume(self) {
        if let Some(payload) = self.0 {
            if std::thread::panicking() {
                std::mem::forget(payload);
            } else {
                resume_unwind(payload);
            }
        }
    }
}
