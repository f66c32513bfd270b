//! Removed entries whose cells readers may still name: the way from the index to a free cell.
//!
//! ```text
//! retire ──> open ── seal ──> sealed, with a ticket ── ticket passed ──┬─ no hazard names it ──> unnamed ──> Spent ──> free
//!                                                                      └─ named ──> named (looked at again) ──┘
//! ```
//!
//! # The bound
//!
//! The number of slots that wait is bounded, whatever the scheduler does. `B` is the length of a [batch](Limits::batch_now).
//!
//! 1. An operation that finds `B` slots open seals them. Tickets pass by any barrier in the process, most often one that another
//!    segment needs. An operation that finds [`WITHOUT_BARRIER`] times `B` slots waiting, and no ticket passed, makes one, and
//!    reclaims before it returns.
//! 2. While it does so others may go on. Should the scheduler have stopped it, then from [`AT_MOST`] times `B` on each operation
//!    that adds a slot reclaims before it returns: it lets the tickets pass by a barrier of its own, and waits for nobody.
//! 3. A slot that was scanned stays only if a hazard names it: one for each entry that a reader looks at in this very moment.
//! 4. A thread that drops entries has at most [`Limits::chunk`] of them out of the lock's reach.
//!
//! So `AT_MOST` times `B` and, for each thread, a few. Weight is bounded likewise: one batch may weigh as much as the caller says.
//!
//! On top of that comes what a single operation takes out at once, for an entry that needs the room of many or a smaller capacity,
//! until that operation has dropped it; what the listener has not heard of yet; and what a `Drop` removes while its thread
//! reclaims. Nothing is freed any longer once the kernel refuses barriers that it has promised (`hazard`).

use super::cells::{CellBooks, Cells, Chain};
use super::hazard::{self, Ticket};
use std::collections::VecDeque;

/// Batches that may wait for a barrier that somebody else makes.
const WITHOUT_BARRIER: u32 = 4;
/// Batches that may wait while an operation reclaims.
const AT_MOST: u32 = 6;

/// The bounds on what waits.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Slots in a batch.
    batch: u32,
    /// Slots in a batch where a scan of the hazards takes long.
    longest: u32,
}

impl Limits {
    /// For a table of so many entries in the end, 0 if that is not known: a small part of it, so that what waits hardly
    /// counts beside what lives, but enough to share the price of a barrier and a scan among many.
    pub(super) fn new(expected: usize) -> Self {
        let waiting =
            if expected == 0 { 128 } else { (expected / 4).min((expected / 32).clamp(64, 512)).max(4) };
        let batch = waiting as u32 / WITHOUT_BARRIER;
        let longest = if expected == 0 { 512 } else { u32::try_from(expected / 32).unwrap_or(u32::MAX / 8) };
        Self { batch, longest: longest.max(batch) }
    }

    /// Slots that one thread takes to drop their entries.
    fn chunk(self) -> u32 {
        (self.batch / 4).clamp(1, 16)
    }

    /// Slots that wait at most, as long as there are not too many threads, with some to spare.
    pub(super) fn usual(self) -> usize {
        self.batch as usize * (AT_MOST as usize + 2)
    }

    /// The length of a batch now: within limits, so that a scan looks at the hazards of two threads at most for each slot.
    fn batch_now(self) -> u32 {
        (hazard::threads() as u32 / 8).clamp(self.batch, self.longest)
    }
}

/// Slots that have left the index, and what their entries weigh together.
pub(super) struct Retired {
    pub(super) chain: Chain,
    pub(super) weight: u64,
}

impl Retired {
    pub(super) const fn none() -> Self {
        Self { chain: Chain::new(), weight: 0 }
    }

    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::none())
    }
}

struct Batch {
    ticket: Ticket,
    slots: Retired,
}

/// The hazards that name cells of a table, as seen after some tickets had passed.
pub(crate) struct Scan {
    /// The last of the tickets that had passed.
    ticket: Ticket,
    named: Vec<u32>,
}

impl Scan {
    /// Lets `ticket` and those before it pass, and looks at the hazards. `None` if they cannot pass.
    pub(super) fn after(ticket: Ticket, cells: &Cells) -> Option<Self> {
        ticket.pass().then(|| Self { ticket, named: hazard::named(|address| cells.slot_at(address)) })
    }
}

/// The slots on their way. Kept under the table's lock.
pub(super) struct Limbo {
    limits: Limits,
    /// The batch that is being filled.
    open: Retired,
    /// The length of `open` at which something is due.
    due_at: u32,
    sealed: VecDeque<Batch>,
    /// The ticket of the batch that was sealed last.
    latest: Option<Ticket>,
    /// Slots and weight in the sealed batches.
    sealed_len: u32,
    sealed_weight: u64,
    /// Slots that wait at which they are reclaimed.
    reclaim_at: u32,
    /// Slots that a hazard named at a scan after their tickets had passed.
    named: Chain,
    /// The last of their tickets. An older scan of another thread says nothing about them.
    named_ticket: Option<Ticket>,
    /// Slots that no reader can look at: their entries are to be dropped.
    unnamed: Chain,
}

impl Limbo {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: Retired::none(),
            due_at: limits.batch,
            sealed: VecDeque::new(),
            latest: None,
            sealed_len: 0,
            sealed_weight: 0,
            reclaim_at: WITHOUT_BARRIER * limits.batch,
            named: Chain::new(),
            named_ticket: None,
            unnamed: Chain::new(),
        }
    }

    /// The number of slots that wait.
    pub(super) fn len(&self) -> u32 {
        self.open.chain.len + self.reclaimable() + self.named.len
    }

    /// The number of slots for which a reclaiming operation can do something.
    fn reclaimable(&self) -> u32 {
        self.sealed_len + self.unnamed.len
    }

    /// The batch that takes what leaves now.
    #[inline]
    pub(super) fn open(&mut self) -> &mut Retired {
        &mut self.open
    }

    pub(super) fn retire(&mut self, cells: &Cells, slots: Retired) {
        cells.append(&mut self.open.chain, slots.chain);
        self.open.weight = self.open.weight.saturating_add(slots.weight);
    }

    /// Reports whether [`due`](Self::due) has something to say. More than the weight `heavy` does not wait.
    #[inline]
    pub(super) fn is_due(&self, heavy: u64) -> bool {
        self.open.chain.len >= self.due_at || self.open.weight > heavy
    }

    /// Reports whether so many slots, or so heavy ones, would be sealed.
    pub(super) fn is_much(&self, slots: &Retired, heavy: u64) -> bool {
        slots.chain.len >= self.limits.batch_now() || slots.weight > heavy
    }

    /// Seals the open batch if it is full, and returns the ticket up to which the operation has to reclaim, if it has to.
    pub(super) fn due(&mut self, heavy: u64) -> Option<Ticket> {
        if !self.is_due(heavy) {
            return None;
        }
        let ticket = self.seal()?;
        // Another segment's barrier may have helped this one, too.
        let passed = self.sealed.iter().rev().find(|batch| batch.ticket.has_passed());
        if self.sealed_weight <= heavy
            && let Some(batch) = passed
        {
            return Some(batch.ticket);
        }
        if self.reclaimable() < self.reclaim_at && self.sealed_weight <= heavy {
            return None;
        }
        self.reclaim_at = AT_MOST * self.limits.batch_now();
        self.set_due();
        Some(ticket)
    }

    fn set_due(&mut self) {
        let until_reclaim = self.reclaim_at.saturating_sub(self.reclaimable()).max(1);
        self.due_at = until_reclaim.min(self.limits.batch_now());
    }

    /// Gives the open batch a ticket. Returns the ticket up to which to reclaim so that nothing waits that need not; `None`
    /// if nothing waits.
    pub(super) fn seal(&mut self) -> Option<Ticket> {
        if self.open.chain.len > 0 {
            let (ticket, slots) = (Ticket::draw(), self.open.take());
            self.sealed_len += slots.chain.len;
            self.sealed_weight = self.sealed_weight.saturating_add(slots.weight);
            self.sealed.push_back(Batch { ticket, slots });
            self.latest = Some(ticket);
            self.set_due();
        }
        self.latest.filter(|_| self.len() > 0)
    }

    /// Sorts out the slots whose tickets had passed before the scan: those that it shows named stay.
    pub(super) fn sort_out(&mut self, cells: &Cells, scan: &Scan) {
        let mut scanned = Chain::new();
        if self.named_ticket <= Some(scan.ticket) {
            scanned = self.named.take();
        }
        while self.sealed.front().is_some_and(|batch| batch.ticket <= scan.ticket) {
            let Some(Batch { slots, .. }) = self.sealed.pop_front() else { break };
            self.sealed_len -= slots.chain.len;
            self.sealed_weight = self.sealed_weight.saturating_sub(slots.weight);
            cells.append(&mut scanned, slots.chain);
        }
        if !scan.named.is_empty() {
            cells.divide(&mut scanned, &mut self.named, |slot| scan.named.contains(&slot));
            self.named_ticket = self.named_ticket.max(Some(scan.ticket));
        }
        cells.append(&mut self.unnamed, scanned);
    }

    /// Lets the next operation reclaim in due time, if this one is done.
    fn end_reclaim(&mut self) {
        if self.unnamed.len == 0 {
            self.reclaim_at = WITHOUT_BARRIER * self.limits.batch_now();
        }
        self.set_due();
    }

    /// Takes some of the slots that no reader can look at; none if there is none left.
    pub(super) fn take_unnamed(&mut self, cells: &Cells) -> Chain {
        let chunk = cells.split_front(&mut self.unnamed, self.limits.chunk());
        self.end_reclaim();
        chunk
    }

    /// Makes all slots free that no reader can look at, whose entries need no dropping.
    pub(super) fn release_unnamed(&mut self, cells: &Cells, books: &mut CellBooks) {
        cells.release(books, self.unnamed.take());
        self.end_reclaim();
    }
}

#[cfg(all(test, not(larder_loom)))]
mod tests {
    use super::*;
    use crate::removal::RemovalCause;
    use crate::table::cells::Header;
    use crate::table::hazard::Hazard;
    use std::alloc::Layout;

    struct Fixture {
        cells: Cells,
        books: CellBooks,
        limbo: Limbo,
    }

    impl Fixture {
        fn new(expected: usize) -> Self {
            let (cells, books) = Cells::new(Layout::new::<Header>(), 2 * expected);
            Self { cells, books, limbo: Limbo::new(Limits::new(expected)) }
        }

        /// Retires a new slot.
        fn retire(&mut self) -> u32 {
            let slot = self.cells.take(&mut self.books);
            let header = self.cells.header(slot);
            header.end(RemovalCause::Size);
            self.cells.push_front(&mut self.limbo.open().chain, slot, header);
            slot
        }

        fn scan(&self, ticket: Ticket) -> Scan {
            Scan::after(ticket, &self.cells).unwrap()
        }

        /// Frees what a scan shows to be free.
        fn reclaim(&mut self, scan: &Scan) -> u32 {
            let before = self.limbo.len();
            self.limbo.sort_out(&self.cells, scan);
            self.limbo.release_unnamed(&self.cells, &mut self.books);
            before - self.limbo.len()
        }
    }

    #[test]
    fn an_older_scan_does_not_free_a_slot_that_a_newer_one_found_named() {
        let mut fixture = Fixture::new(1_000);
        let older = fixture.scan(Ticket::draw());
        let slot = fixture.retire();
        let hazard = Hazard::claim();
        hazard.protect(fixture.cells.address(slot).unwrap());
        let ticket = fixture.limbo.seal().unwrap();
        let newer = fixture.scan(ticket);
        assert_eq!(fixture.reclaim(&newer), 0, "it is named");
        assert_eq!(fixture.reclaim(&older), 0, "it was not removed yet when the older scan looked");
        drop(hazard);
        let newest = fixture.scan(ticket);
        assert_eq!(fixture.reclaim(&newest), 1);
    }

    /// The operation that has to reclaim is stopped: others go on for some batches, and then each has to.
    #[test]
    fn others_reclaim_where_the_first_is_stopped() {
        let mut fixture = Fixture::new(100_000);
        let batch = fixture.limbo.limits.batch_now();
        let (mut due, mut retired) = (Vec::new(), 0);
        while retired < AT_MOST * batch + 3 {
            fixture.retire();
            retired += 1;
            match fixture.limbo.due(u64::MAX) {
                // By the barrier of another test.
                Some(ticket) if ticket.has_passed() => return,
                Some(ticket) => due.push((retired, ticket)),
                None => {}
            }
        }
        let when: Vec<_> = due.iter().map(|(retired, _)| *retired).collect();
        let most = AT_MOST * batch;
        assert_eq!(when, [WITHOUT_BARRIER * batch, most, most + 1, most + 2, most + 3]);
        let scan = fixture.scan(due[0].1);
        assert_eq!(fixture.reclaim(&scan), WITHOUT_BARRIER * batch, "those that were sealed when it was due");
    }

    #[test]
    fn heavy_entries_do_not_wait_for_a_batch() {
        let mut fixture = Fixture::new(1_000);
        fixture.retire();
        fixture.limbo.open().weight = 10;
        assert!(fixture.limbo.due(10).is_none());
        fixture.limbo.open().weight = 11;
        let ticket = fixture.limbo.due(10).unwrap();
        let scan = fixture.scan(ticket);
        assert_eq!(fixture.reclaim(&scan), 1);
    }

    /// Three far blocks, of which the last two become free.
    #[test]
    fn near_cells_are_used_first_and_far_blocks_are_given_back() {
        let (cells, mut books) = Cells::new(Layout::new::<Header>(), 100);
        let slots: Vec<_> = (0..400).map(|_| cells.take(&mut books)).collect();
        assert!(cells.trim(&mut books).is_empty(), "all are in use");
        let mut chain = Chain::new();
        slots.iter().filter(|&&slot| slot != 120).for_each(|&slot| cells.push_back(&mut chain, slot));
        cells.release(&mut books, chain);
        let again: Vec<_> = (0..100).map(|_| cells.take(&mut books)).collect();
        assert!(again.iter().all(|&slot| slot < 100), "near ones first");
        let trimmed = cells.trim(&mut books);
        assert_eq!(trimmed.len(), 2);
        assert!(cells.address(120).is_some() && cells.address(399).is_none());
        drop(trimmed);
        let far: Vec<_> = (0..300).map(|_| cells.take(&mut books)).collect();
        let mut all: Vec<_> = far.iter().chain(&again).copied().chain([120]).collect();
        all.sort_unstable();
        assert_eq!(all, (0..401).collect::<Vec<_>>(), "each once");
    }
}
