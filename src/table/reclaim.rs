//! When memory that readers may still be looking at can be used again.
//!
//! A reader holds a [`Guard`]. A writer makes something unreachable, then draws a [`Ticket`]; once the ticket
//! [has passed](Ticket::has_passed), every guard that might have seen the thing is gone.
//!
//! # How
//!
//! Epochs, with the price on the side of those who remove. Each thread has a record. A guard writes the number of the
//! next ticket into it, and [`press`] reads them all:
//!
//! ```text
//! reader:  a  epoch = NEXT                   writer:  1  make it unreachable
//!          b  record.epoch = epoch                    2  n = NEXT, NEXT += 1       (seal)
//!          c  light barrier                  press:   3  heavy barrier
//!          d  look for things                         4  read all records:
//!          e  record.epoch = idle                        tickets below all their epochs have passed
//! ```
//!
//! A record has two such epochs. One is for the guard of a quick look ([`try_pin`]), which nearly all guards are and of
//! which there is one at a time; the other is for any number of others, and the first of them sets it.
//!
//! On Linux the light barrier keeps but the compiler from reordering, and the heavy one makes the kernel put a full
//! barrier into every running thread (`membarrier`). So a guard costs two plain stores to a line of the thread's own,
//! where a full barrier (crossbeam-epoch's way, and the fallback here wherever `membarrier` is not to be had) would keep
//! the processor from looking up several keys at once. Hits are many, and presses few: one for some hundred to some
//! thousand removals. (The technique: user-space RCU by Desnoyers and others, IEEE TPDS 2012; Goldblatt, "Asymmetric
//! fences", WG21 P1202.)
//!
//! # Why that is enough
//!
//! Let a reader look at `d` for what was made unreachable at 1 with the ticket `n`. The heavy barrier falls somewhere
//! into the reader's course; or both barriers are full ones and stand in some order.
//!
//! 1. It falls before `d`, and `b` is not seen at 4. Then `d` comes after 1 in all respects and finds nothing.
//! 2. `b` is seen at 4, and so is `e`: then what was done between them is done, and seen by who sees `n` pass.
//! 3. `b` is seen at 4, without `e`. If the epoch is larger than `n` then `a` has seen 2 and thus 1, and `d` finds
//!    nothing. If not, `n` does not pass.
//!
//! A record that is not yet in the list at 4 belongs to 1: it is put there before `b`. A thread that does not run at 3
//! has been through a full barrier in the kernel.
//!
//! One number says it for all tickets: whoever pinned after `n` was drawn has seen everything leave that earlier tickets
//! are for, since drawing is a locked instruction that hands on what came before it. So `PASSED` is only ever raised.

use super::kernel;
use crate::parts::Apart;
use parking_lot::{Mutex, MutexGuard};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, compiler_fence, fence};

/// The next ticket.
static NEXT: AtomicU64 = AtomicU64::new(1);
/// Tickets below this have passed.
static PASSED: AtomicU64 = AtomicU64::new(0);

/// A moment after which nobody can come to see what was made unreachable before it.
#[derive(Clone, Copy)]
pub(crate) struct Ticket(u64);

impl Ticket {
    /// Draws a ticket for what has been made unreachable.
    pub(crate) fn draw() -> Self {
        // Release hands on what was made unreachable, to 3. at the top; Acquire what earlier tickets are for.
        Self(NEXT.fetch_add(1, AcqRel))
    }

    /// Whether every guard is gone that lived when the ticket was drawn. What was done under them has then been seen.
    pub(crate) fn has_passed(self) -> bool {
        // Acquire pairs with the Release in `press`.
        self.0 < PASSED.load(Acquire)
    }
}

/// A thread's announcement. Records are never freed: there are as many as threads ever used caches at once.
struct Record {
    /// What `NEXT` was when the guard of [`try_pin`] was made, [`IDLE`] while there is none, or [`CLOSED`]. Written by its
    /// thread only.
    quick_epoch: AtomicU64,
    /// What `NEXT` was when the first of the other guards was made; [`IDLE`] while there is none. Written by its thread only.
    epoch: AtomicU64,
    /// How many other guards there are. Used by its thread only.
    guards: AtomicU32,
    /// Whether a thread has it.
    taken: AtomicBool,
    /// The record that was made before, or null. Set before it is in the list.
    older: AtomicPtr<Apart<Record>>,
}

/// No guard. Larger than any ticket, so it keeps none from passing.
const IDLE: u64 = u64::MAX;
/// Not to be had by [`try_pin`], for good: there is no record, or the kernel does no heavy barriers, so that light ones are
/// not enough. No ticket is as large, either.
const CLOSED: u64 = u64::MAX - 1;

/// The record made last. The list only grows.
static RECORDS: AtomicPtr<Apart<Record>> = AtomicPtr::new(ptr::null_mut());

/// Stands for the record of a thread that has none. Not in the list, and never written to.
static NO_RECORD: Record = Record::new(CLOSED);

thread_local! {
    /// This thread's record. Has no destructor, so that it can be used in those of others; but where the system's own
    /// locals of threads are used even what has none goes away some time when the thread ends, thus `try_with`.
    static RECORD: Cell<&'static Record> = const { Cell::new(&NO_RECORD) };
    static LEASE: Lease = const { Lease(Cell::new(None)) };
}

/// Gives the thread's record back when the thread ends.
struct Lease(Cell<Option<&'static Record>>);

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = RECORD.try_with(|record| record.set(&NO_RECORD));
        // A guard that stands in another of the thread's locals outlives the lease: its record is nobody else's, ever.
        if let Some(record) = self.0.get().filter(|record| record.guards.load(Relaxed) == 0) {
            record.taken.store(false, Release);
        }
    }
}

/// While it lives, nothing that could be reached when it was made is freed or used again.
pub(crate) struct Guard {
    record: &'static Record,
    kind: Kind,
    /// Not `Send`: only its thread may write to the record.
    _stays: PhantomData<*const ()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Of [`try_pin`].
    Quick,
    Counted,
    /// The record goes back with the guard, since its thread is ending.
    Fleeting,
}

#[inline(always)]
fn own_record() -> &'static Record {
    RECORD.try_with(Cell::get).unwrap_or(&NO_RECORD)
}

/// Announces a reader, where that is simple: if it is the thread's only one of this kind, the thread has had others, and the
/// kernel helps.
#[inline(always)]
pub(crate) fn try_pin() -> Option<Guard> {
    let record = own_record();
    if record.quick_epoch.load(Relaxed) != IDLE {
        return None;
    }
    announce(&record.quick_epoch);
    compiler_fence(SeqCst);
    Some(Guard { record, kind: Kind::Quick, _stays: PhantomData })
}

/// Announces a reader.
pub(crate) fn pin() -> Guard {
    let (record, kind) = match own_record() {
        record if ptr::eq(record, &NO_RECORD) => join(),
        record => (record, Kind::Counted),
    };
    let guards = record.guards.load(Relaxed);
    if guards == 0 {
        announce(&record.epoch);
        if record.quick_epoch.load(Relaxed) == CLOSED {
            fence(SeqCst);
        } else {
            compiler_fence(SeqCst);
        }
    }
    record.guards.store(guards + 1, Relaxed);
    Guard { record, kind, _stays: PhantomData }
}

#[inline(always)]
fn announce(epoch: &AtomicU64) {
    // Acquire: see 3. at the top. Release: who sees this guard, and not the end of the one before, sees what was done under
    // that one, too.
    epoch.store(NEXT.load(Acquire), Release);
}

impl Drop for Guard {
    #[inline(always)]
    fn drop(&mut self) {
        if self.kind == Kind::Quick {
            // Release pairs with the Acquire of `press`: what was done under the guard is done.
            self.record.quick_epoch.store(IDLE, Release);
        } else {
            self.unpin();
        }
    }
}

impl Guard {
    fn unpin(&self) {
        let guards = self.record.guards.load(Relaxed) - 1;
        self.record.guards.store(guards, Relaxed);
        if guards == 0 {
            // As for a quick one.
            self.record.epoch.store(IDLE, Release);
        }
        if self.kind == Kind::Fleeting {
            self.record.taken.store(false, Release);
        }
    }
}

/// A record for this thread, or only for one guard.
#[cold]
fn join() -> (&'static Record, Kind) {
    let record = Record::acquire();
    let keep = |own: &Cell<_>| {
        LEASE.try_with(|lease| {
            lease.0.set(Some(record));
            own.set(record);
        })
    };
    let is_kept = matches!(RECORD.try_with(keep), Ok(Ok(())));
    (record, if is_kept { Kind::Counted } else { Kind::Fleeting })
}

impl Record {
    const fn new(quick_epoch: u64) -> Self {
        Self {
            quick_epoch: AtomicU64::new(quick_epoch),
            epoch: AtomicU64::new(IDLE),
            guards: AtomicU32::new(0),
            taken: AtomicBool::new(true),
            older: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// A record that no thread has: an old one, or a new one in the list.
    fn acquire() -> &'static Self {
        // Acquire pairs with the Release that gave it back.
        let is_free = |record: &&Self| record.taken.compare_exchange(false, true, Acquire, Relaxed).is_ok();
        if let Some(record) = records().find(is_free) {
            return record;
        }
        let quick_epoch = if kernel_helps() { IDLE } else { CLOSED };
        let record: &'static Apart<Self> = Box::leak(Box::new(Apart::new(Self::new(quick_epoch))));
        let mut older = RECORDS.load(Relaxed);
        loop {
            record.older.store(older, Relaxed);
            // Release: who finds the record finds it filled in.
            match RECORDS.compare_exchange_weak(older, ptr::from_ref(record).cast_mut(), Release, Relaxed) {
                Ok(_) => return record,
                Err(current) => older = current,
            }
        }
    }
}

/// All records, the newest first.
fn records() -> impl Iterator<Item = &'static Record> {
    // SAFETY: null, or a record that was leaked in `acquire`; never written through.
    let at = |pointer: &AtomicPtr<Apart<Record>>| unsafe { pointer.load(Acquire).as_ref() };
    std::iter::successors(at(&RECORDS), move |record| at(&record.older)).map(|record| &**record)
}

/// One thread at a time finds out which tickets have passed.
static PRESSING: Mutex<()> = Mutex::new(());

/// Finds out which tickets have passed by now, unless another thread is at it. Not cheap: some microseconds where
/// several threads run.
#[cold]
pub(crate) fn press() {
    if let Some(pressing) = PRESSING.try_lock() {
        find_passed(&pressing);
    }
}

/// As [`press`], but waits for another thread that is at it.
#[cold]
pub(crate) fn press_in_turn() {
    find_passed(&PRESSING.lock());
}

fn find_passed(_pressing: &MutexGuard<'_, ()>) {
    // Tickets below this were drawn, and what they are for made unreachable, before the barrier.
    let drawn = NEXT.load(Acquire);
    if !heavy_barrier() {
        return;
    }
    // Acquire pairs with the Release in `Guard::drop`.
    let epochs = records().flat_map(|record| [&record.quick_epoch, &record.epoch]);
    let passed = epochs.map(|epoch| epoch.load(Acquire)).fold(drawn, u64::min);
    // Only raised, and by one thread at a time. (Not `fetch_max`: ThreadSanitizer does not see it.)
    if passed > PASSED.load(Relaxed) {
        // Release: what was done under the guards that are gone is handed on to whoever sees the tickets pass.
        PASSED.store(passed, Release);
    }
}

/// Says whether it could be done. If the kernel has promised it and refuses now, nothing ever passes again: the light
/// barriers of guards that live already cannot be made full ones.
fn heavy_barrier() -> bool {
    fence(SeqCst);
    !kernel_helps() || kernel::barrier()
}

/// Whether the kernel does the heavy barriers. Settled once, before there is any record.
fn kernel_helps() -> bool {
    static HELPS: OnceLock<bool> = OnceLock::new();
    *HELPS.get_or_init(kernel::register)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(ticket: Ticket) -> bool {
        // Other tests of this process have guards of their own, and press at the same time.
        (0..10_000).any(|_| {
            press();
            std::thread::yield_now();
            ticket.has_passed()
        })
    }

    #[test]
    fn a_ticket_waits_for_guards_that_were_there_before() {
        let guard = pin();
        let ticket = Ticket::draw();
        press();
        assert!(!ticket.has_passed());
        drop(guard);
        assert!(passes(ticket));
    }

    #[test]
    fn a_ticket_does_not_wait_for_guards_that_came_after() {
        let ticket = Ticket::draw();
        let _guard = pin();
        assert!(passes(ticket));
    }

    #[test]
    fn guards_may_nest_and_end_in_any_order() {
        let (outer, inner) = (pin(), pin());
        let ticket = Ticket::draw();
        drop(outer);
        press();
        assert!(!ticket.has_passed());
        drop(inner);
        assert!(passes(ticket));
    }

    #[test]
    fn records_are_used_again() {
        let before = records().count();
        for _ in 0..50 {
            std::thread::spawn(|| drop(pin())).join().unwrap();
        }
        // Other tests start threads at the same time.
        assert!(records().count() < before + 40);
    }

    #[test]
    fn a_guard_that_outlives_its_threads_lease_keeps_its_record() {
        struct Late(Cell<Option<Guard>>);
        impl Drop for Late {
            fn drop(&mut self) {
                let guard = self.0.take().unwrap();
                assert!(ptr::eq(RECORD.get(), &NO_RECORD), "the lease has ended");
                let other = std::thread::spawn(|| ptr::from_ref(pin().record).addr());
                assert_ne!(other.join().unwrap(), ptr::from_ref(guard.record).addr());
            }
        }
        // Its destructor is known before that of the lease, and runs after it.
        thread_local!(static LATE: Late = const { Late(Cell::new(None)) });
        let thread = std::thread::spawn(|| LATE.with(|late| late.0.set(Some(pin()))));
        thread.join().unwrap();
        assert!(passes(Ticket::draw()));
    }

    #[test]
    fn a_guard_can_be_had_while_the_thread_ends() {
        struct Late;
        impl Drop for Late {
            fn drop(&mut self) {
                let (_outer, _inner) = (pin(), pin());
                let ticket = Ticket::draw();
                press();
                assert!(!ticket.has_passed());
            }
        }
        thread_local!(static LATE: Late = const { Late });
        let thread = std::thread::spawn(|| {
            LATE.with(|_| ());
            drop(pin());
        });
        thread.join().unwrap();
        assert!(passes(Ticket::draw()));
    }
}
