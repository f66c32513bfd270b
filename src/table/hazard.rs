//! Reclamation: when the memory of a removed entry may be used again.
//!
//! A reader names the cell that it looks at in a [`Hazard`], a word of its own. A writer makes an entry unreachable and
//! draws a [`Ticket`]; once the ticket [has passed](Ticket::has_passed), the cell may be used again unless a hazard
//! [names](named) it. A reader that the scheduler stops thus keeps one cell, and no reader of another cache keeps any.
//!
//! # How
//!
//! Hazard pointers (Michael, IEEE TPDS 2004), with the price of the barrier on the side of the writers:
//!
//! ```text
//! reader:  a  find the cell in the index      writer:   1  make the entry unreachable
//!          b  hazard = cell                             2  n = NEXT, NEXT += 1          (ticket n)
//!          c  light barrier                   anybody:  3  d = NEXT
//!          d  is the entry still reachable?             4  heavy barrier
//!             no: begin again                           5  PASSED = max(PASSED, d)
//!          e  read the entry                  reclaim:  6  n < PASSED?
//!          f  hazard = none                             7  does a hazard name the cell? yes: look again another time
//!                                                       8  drop the entry, use the cell again
//! ```
//!
//! On Linux the light barrier is one for the compiler only, and for the heavy one the kernel puts a full barrier into
//! every running thread (`membarrier`). So a hit costs two plain stores to a line of the thread's own. Elsewhere, and
//! where a sandbox forbids `membarrier`, both are sequentially consistent fences. Hits are many, and heavy barriers few: one
//! for some dozens to some hundreds of removals, whatever segment or cache they are in. (The technique: user-space RCU
//! by Desnoyers and others, IEEE TPDS 2012; Goldblatt, "Asymmetric fences", WG21 P1202.)
//!
//! # Why a cell is not used again too early
//!
//! Let a reader look at `e` into the cell that the writer reclaims at 8. Premises:
//!
//! - **P1.** 1 happens before 4. The ticket has passed at 6, so 3 has read a value from 2 or later: 2 is a release and 3
//!   an acquire operation.
//! - **P2.** 5 happens before 6, a release store read by an acquire load, and 4 is sequenced before 5.
//! - **P3.** c and 4 are ordered: both are sequentially consistent fences, or the kernel's barrier falls before or after
//!   the compiler's. A thread that does not run at 4 has been through a full barrier in the kernel since it last ran, and goes
//!   through one before it runs again.
//! - **P4.** A hazard's word is written by one thread at a time, and each store to it is a release store or, where a word of a
//!   shared record is claimed, a compare-and-swap, which continues what the release store before it began.
//! - **P5.** Each word that a thread may use is in a list before `b`, and never leaves it.
//!
//! If 4 comes before c: by P1 the reader's loads at d see 1, or something later, so the reader begins again (`Table` says
//! what it looks at). If c comes before 4: by P2 the load at 7 sees the store of b, or a later one to the same word. If it
//! sees b, the cell waits. If it sees a later store, by P4 that happens after e, and 8 happens after both. The list that 7
//! walks holds the word by P5: it was put there before b, and thus before 4.
//!
//! # What waits
//!
//! A hazard names one cell at a time, and a thread has as many hazards as entries that it looks at. A thread that is
//! killed or forked away in the middle of a look keeps one cell for as long as the process lives. `limbo` bounds the rest.
//!
//! If the kernel has promised barriers and refuses them later (a sandbox that is put up while the process runs), no ticket
//! passes from then on, since the light barriers of readers that look already cannot be made full ones.

use super::kernel;
use crate::parts::Apart;
use crate::sync::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, array, constant, fence, locals, statics};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::compiler_fence;

/// The state that all threads of the process share.
struct Domain {
    /// The next ticket.
    next: AtomicU64,
    /// Tickets below this have passed.
    passed: AtomicU64,
    /// The newest record. The list only grows.
    newest: AtomicPtr<Apart<Record>>,
    /// The number of records.
    records: AtomicUsize,
}

statics! {
    static DOMAIN: Domain = Domain {
        next: AtomicU64::new(1),
        passed: AtomicU64::new(0),
        newest: AtomicPtr::new(ptr::null_mut()),
        records: AtomicUsize::new(0),
    };
}

/// A moment between two heavy barriers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

impl Ticket {
    /// Draws a ticket for entries that have been made unreachable.
    pub(super) fn draw() -> Self {
        // Release hands on that they are unreachable, to the Acquire load in `pass_all`; Acquire hands on the same of
        // earlier tickets.
        Self(DOMAIN.next.fetch_add(1, AcqRel))
    }

    /// Reports whether a heavy barrier that began after the ticket was drawn is complete.
    pub(super) fn has_passed(self) -> bool {
        // Acquire pairs with the Release in `pass_all` (P2).
        self.0 < DOMAIN.passed.load(Acquire)
    }

    /// Lets the ticket pass, with a heavy barrier if no other thread has made one: 0.2 to some microseconds. Any number
    /// of threads may do so at the same time, and none waits for another. Reports whether it has passed: not if the kernel
    /// refuses.
    pub(super) fn pass(self) -> bool {
        self.has_passed() || {
            pass_all();
            self.has_passed()
        }
    }
}

#[cold]
fn pass_all() {
    // Acquire pairs with the Release of `draw` (P1).
    let drawn = DOMAIN.next.load(Acquire);
    if !heavy_barrier() {
        return;
    }
    let mut passed = DOMAIN.passed.load(Relaxed);
    // Only raised. (Not `fetch_max`, which ThreadSanitizer does not see.)
    while passed < drawn {
        // Release pairs with the Acquire of `has_passed` (P2).
        match DOMAIN.passed.compare_exchange_weak(passed, drawn, Release, Relaxed) {
            Ok(_) => return,
            Err(current) => passed = current,
        }
    }
}

/// A word in which a thread names the cell that it looks at: its address, or [`FREE`], or [`CLAIMED`].
type Word = AtomicUsize;

/// The value of a word that nobody uses.
const FREE: usize = 0;
/// The value of a word that is in use and names no cell. No cell has this address.
const CLAIMED: usize = 1;

/// Words of a record: as many as fill it up to 128 bytes. The scan of a line of the index seldom needs more.
const WORDS: usize = if cfg!(larder_loom) { 2 } else { 13 };

/// The words of a thread, or of nobody for a while. Never freed, so there are as many as threads ever used caches at
/// once, and a few more where threads look at many entries at a time.
struct Record {
    /// The first is for quick looks, which nearly all looks are.
    words: [Word; WORDS],
    /// Whether no thread can have the record: it belongs to one, or is shared.
    taken: AtomicBool,
    /// Whether threads claim single words of it.
    is_shared: bool,
    /// The record that was made before, or null. Set before the record is in the list.
    older: AtomicPtr<Apart<Record>>,
}

#[derive(Clone, Copy)]
enum Owner {
    Thread,
    /// For threads that look at more entries at a time than a record has words, and for those that are ending.
    Shared,
}

impl Record {
    constant! {
        fn new(words: [Word; WORDS], owner: Owner) -> Self {
            Self {
                words,
                taken: AtomicBool::new(true),
                is_shared: matches!(owner, Owner::Shared),
                older: AtomicPtr::new(ptr::null_mut()),
            }
        }
    }

    /// Returns a record that belongs to no thread: an old one, or a new one that is in the list.
    fn acquire() -> &'static Self {
        // Acquire pairs with the Release of `Lease::drop`: the words are written by one thread at a time (P4).
        let take = |record: &&Self| {
            !record.taken.load(Relaxed)
                && record.taken.compare_exchange(false, true, Acquire, Relaxed).is_ok()
        };
        records().find(take).unwrap_or_else(|| Self::allocate(Owner::Thread))
    }

    /// Returns a new record that is in the list, and taken.
    fn allocate(owner: Owner) -> &'static Self {
        let words = array![Word::new(FREE); WORDS];
        let record: &'static Apart<Self> = Box::leak(Box::new(Apart::new(Self::new(words, owner))));
        if kernel::COULD_HELP && !kernel_helps() {
            // No quick looks: they rely on heavy barriers. The others do as `light_barrier` says.
            record.words[0].store(CLAIMED, Relaxed);
        }
        DOMAIN.records.fetch_add(1, Relaxed);
        let mut older = DOMAIN.newest.load(Relaxed);
        loop {
            record.older.store(older, Relaxed);
            // Release pairs with the Acquire in `records`: the record is filled in. It is in the list before the thread
            // stores a hazard (P5).
            match DOMAIN.newest.compare_exchange_weak(
                older,
                ptr::from_ref(record).cast_mut(),
                Release,
                Relaxed,
            ) {
                Ok(_) => return record,
                Err(current) => older = current,
            }
        }
    }
}

/// Returns all records, the newest first.
fn records() -> impl Iterator<Item = &'static Record> {
    // SAFETY: null, or a record that was leaked in `allocate`; never written through. Acquire pairs with the Release there.
    let at = |pointer: &AtomicPtr<Apart<Record>>| unsafe { pointer.load(Acquire).as_ref() };
    std::iter::successors(at(&DOMAIN.newest), move |record| at(&record.older)).map(|record| &**record)
}

/// Returns how many records there are: about the number of threads that use caches.
pub(super) fn threads() -> usize {
    DOMAIN.records.load(Relaxed)
}

statics! {
    /// Stands for the record of a thread that has none. Not in the list; no word of it is ever free.
    static NO_RECORD: Record = Record::new(array![Word::new(CLAIMED); WORDS], Owner::Shared);
}

locals! {
    /// This thread's record. It has no destructor, so it can be used in those of others; but where the system's own
    /// thread locals are used even such a value is gone at some point of the thread's end, thus `try_with`.
    static RECORD: Cell<&'static Record> = const { Cell::new(&NO_RECORD) };
    static LEASE: Lease = const { Lease(Cell::new(None)) };
}

/// Gives the thread's record back when the thread ends.
struct Lease(Cell<Option<&'static Record>>);

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = RECORD.try_with(|record| record.set(&NO_RECORD));
        if let Some(record) = self.0.get() {
            record.taken.store(false, Release);
        }
    }
}

#[inline(always)]
fn own_record() -> &'static Record {
    RECORD.try_with(Cell::get).unwrap_or(&NO_RECORD)
}

fn has_record() -> bool {
    let none: &Record = &NO_RECORD;
    !ptr::eq(own_record(), none)
}

/// Gives the thread a record, unless it is ending.
#[cold]
fn join() {
    let _ = LEASE.try_with(|lease| {
        let record = Record::acquire();
        lease.0.set(Some(record));
        if RECORD.try_with(|own| own.set(record)).is_err() {
            record.taken.store(false, Release);
        }
    });
}

/// Names one cell at a time, which is not used again meanwhile if it was validated after it was named.
pub(super) struct Hazard {
    word: &'static Word,
    /// Not `Send`: a word is written by one thread at a time.
    _stays: PhantomData<*const ()>,
}

/// The record of a thread whose word for quick looks is free.
pub(super) struct Quick(&'static Record);

impl Quick {
    /// Returns this thread's; `None` if the thread is in the middle of a quick look, or has no record yet.
    #[inline(always)]
    pub(super) fn get() -> Option<Self> {
        let record = own_record();
        if record.words[0].load(Relaxed) == FREE { Some(Self(record)) } else { None }
    }

    /// Returns a hazard that names `cell`, to be validated.
    ///
    /// No other hazard of the same `Quick` may live. A signal handler that looks at a cache between `get` and this uses the
    /// word and leaves it free.
    #[inline(always)]
    pub(super) fn protect(&self, cell: *const u8) -> Hazard {
        // Release: as in `Hazard::protect`.
        self.0.words[0].store(cell.addr(), Release);
        if kernel::COULD_HELP {
            // It helps: see `Record::allocate`.
            compiler_fence(SeqCst);
        } else {
            fence(SeqCst);
        }
        Hazard { word: &self.0.words[0], _stays: PhantomData }
    }
}

impl Hazard {
    /// Returns a hazard that names nothing yet.
    #[inline]
    pub(super) fn claim() -> Self {
        let mut words = own_record().words[1..].iter();
        match words.find(|word| word.load(Relaxed) == FREE) {
            Some(word) => {
                word.store(CLAIMED, Release);
                Self { word, _stays: PhantomData }
            }
            None => Self::claim_elsewhere(),
        }
    }

    /// Returns a hazard of a thread that has no record yet, has used up its own, or is ending.
    #[cold]
    fn claim_elsewhere() -> Self {
        if !has_record() {
            join();
            if has_record() {
                return Self::claim();
            }
        }
        let claim = |word: &&'static Word| {
            // Acquire pairs with the Release of `drop`: one thread at a time writes the word (P4).
            word.load(Relaxed) == FREE && word.compare_exchange(FREE, CLAIMED, Acquire, Relaxed).is_ok()
        };
        loop {
            let mut words = records().filter(|record| record.is_shared).flat_map(|record| &record.words);
            if let Some(word) = words.find(claim) {
                return Self { word, _stays: PhantomData };
            }
            Record::allocate(Owner::Shared);
        }
    }

    /// Names `cell`, to be validated.
    pub(super) fn protect(&self, cell: *const u8) {
        // Release pairs with the Acquire in `named`: whatever the word named before has been read (P4).
        self.word.store(cell.addr(), Release);
        light_barrier();
    }
}

impl Drop for Hazard {
    #[inline(always)]
    fn drop(&mut self) {
        // Release pairs with the Acquire in `named`: the look has ended (P4).
        self.word.store(FREE, Release);
    }
}

/// Returns what `pick` makes of the addresses that hazards name, as far as it makes something.
///
/// Complete for cells whose ticket had passed before the call.
pub(super) fn named<T>(pick: impl Fn(usize) -> Option<T>) -> Vec<T> {
    let words = records().flat_map(|record| &record.words);
    // Acquire pairs with the Release stores of `Hazard` (P4).
    words.map(|word| word.load(Acquire)).filter(|&cell| cell > CLAIMED).filter_map(pick).collect()
}

/// Keeps the compiler, and where the kernel does not help the processor, too, from validating a hazard before it is stored.
fn light_barrier() {
    if kernel_helps() {
        compiler_fence(SeqCst);
    } else {
        fence(SeqCst);
    }
}

/// Makes a full barrier in all threads that look at cells (P3). Reports whether it could be done.
fn heavy_barrier() -> bool {
    fence(SeqCst);
    !kernel_helps() || kernel::barrier()
}

/// Reports whether the kernel makes the heavy barriers. Settled once, before there is any record.
fn kernel_helps() -> bool {
    static HELPS: OnceLock<bool> = OnceLock::new();
    *HELPS.get_or_init(kernel::register)
}

#[cfg(all(test, not(larder_loom)))]
mod tests {
    use super::*;

    fn cell() -> Box<u64> {
        Box::new(0)
    }

    fn is_named(cell: &u64) -> bool {
        let address = ptr::from_ref(cell).addr();
        !named(|other| (other == address).then_some(())).is_empty()
    }

    fn at(cell: &u64) -> *const u8 {
        ptr::from_ref(cell).cast()
    }

    #[test]
    fn a_ticket_passes_by_its_own_barrier_whatever_others_do() {
        let cell = cell();
        let hazard = Hazard::claim();
        hazard.protect(at(&cell));
        let ticket = Ticket::draw();
        assert!(!ticket.has_passed() || Ticket::draw() > ticket);
        assert!(ticket.pass() && ticket.has_passed() && is_named(&cell));
    }

    #[test]
    fn a_hazard_names_its_cell_until_it_is_dropped() {
        let [one, other] = [cell(), cell()];
        let hazard = Hazard::claim();
        assert!(!is_named(&one));
        hazard.protect(at(&one));
        assert!(is_named(&one) && !is_named(&other));
        hazard.protect(at(&other));
        assert!(!is_named(&one) && is_named(&other));
        drop(hazard);
        assert!(!is_named(&other));
    }

    /// More than a record has words, dropped in any order, and with a quick look in between.
    #[test]
    fn a_thread_may_have_many_hazards() {
        let cells: Vec<_> = (0..3 * WORDS).map(|_| cell()).collect();
        let mut hazards: Vec<_> = cells.iter().map(|_| Hazard::claim()).collect();
        hazards.iter().zip(&cells).for_each(|(hazard, cell)| hazard.protect(at(cell)));
        assert!(cells.iter().all(|cell| is_named(cell)));
        drop(hazards.remove(0));
        assert!(!is_named(&cells[0]) && cells[1..].iter().all(|cell| is_named(cell)));
        let quick = Quick::get().unwrap().protect(at(&cells[0]));
        assert!(is_named(&cells[0]) && Quick::get().is_none(), "its word is in use");
        drop((quick, hazards));
        assert!(!cells.iter().any(|cell| is_named(cell)));
    }

    #[test]
    fn records_are_used_again() {
        let before = threads();
        for _ in 0..50 {
            std::thread::spawn(|| drop(Hazard::claim())).join().unwrap();
        }
        // Other tests start threads at the same time.
        assert!(threads() < before + 40);
    }

    #[test]
    fn a_hazard_can_be_had_while_the_thread_ends() {
        struct Late;
        impl Drop for Late {
            fn drop(&mut self) {
                assert!(!has_record(), "the lease has ended");
                let (one, other) = (cell(), cell());
                let hazards = [Hazard::claim(), Hazard::claim()];
                hazards[0].protect(at(&one));
                hazards[1].protect(at(&other));
                assert!(is_named(&one) && is_named(&other) && Quick::get().is_none());
            }
        }
        // Its destructor is known before that of the lease, and runs after it.
        thread_local!(static LATE: Late = const { Late });
        let thread = std::thread::spawn(|| {
            LATE.with(|_| ());
            drop(Hazard::claim());
        });
        thread.join().unwrap();
    }
}
