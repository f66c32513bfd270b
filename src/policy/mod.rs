//! Eviction policies: the ones that come with the crate, and the trait to write another.
//!
//! Each segment of a cache has a policy of its own, behind the segment's lock. A policy orders *slots*: small numbers
//! that stand for entries. It sees an entry's hash and weight, and what its reads left behind, through [`Entries`]; it
//! never sees a key or a value. So a policy needs no unsafe code and no locks, and can be tested without a cache.
//!
//! # What the cache calls, and when
//!
//! | what happens | calls |
//! | --- | --- |
//! | a new key | [`admit`](Policy::admit); [`evict`](Policy::evict) until it fits; [`insert`](Policy::insert) |
//! | a new value for a key | [`moved`](Policy::moved), then what a read does |
//! | a read | nothing, a mark on the entry, or [`hit`](Policy::hit), as [`reads`](Policy::reads) asks for |
//! | an entry leaves for another reason than its size | [`remove`](Policy::remove) |
//! | `hottest` or `coldest` is called | [`walk`](Policy::walk), and [`heat`](Policy::heat) for each entry |
//! | a snapshot is written | [`save`](Policy::save) and `heat` for each entry, then [`save_rest`](Policy::save_rest) |
//! | a snapshot is read | [`restore`](Policy::restore) for each entry, then [`restore_rest`](Policy::restore_rest) |
//!
//! Pinned entries are not shown to the policy: they leave it with `remove` when pinned and come back with `insert`.
//! The capacity that the policy is told is what remains beside them. Nor are entries of weight 0, where weight is the only
//! bound: to evict them would make no room. An update that changes that takes the entry out, or brings it, in the same way.
//!
//! # A policy of one's own
//!
//! MRU, which evicts what came last: right for one loop over more than the cache holds, wrong for all else. What a snapshot
//! brings back came before all that is there; the coldest first, so that each goes below those before it.
//!
//! ```
//! use larder::policy::{End, Entries, Policy, Reads, Slot};
//! use larder::{Cache, EvictionPolicy, RemovalCause};
//! use std::collections::VecDeque;
//! use std::ops::ControlFlow;
//!
//! #[derive(Default)]
//! struct Mru(VecDeque<Slot>);
//!
//! impl Policy for Mru {
//!     fn reads(&self) -> Reads {
//!         Reads::Ignored
//!     }
//!     fn insert(&mut self, slot: Slot, _: Entries<'_>) {
//!         self.0.push_back(slot);
//!     }
//!     fn moved(&mut self, old: Slot, new: Slot, _: Entries<'_>) {
//!         for slot in self.0.iter_mut().filter(|slot| **slot == old) {
//!             *slot = new;
//!         }
//!     }
//!     fn evict(&mut self, _: Entries<'_>) -> Option<Slot> {
//!         self.0.pop_back()
//!     }
//!     fn remove(&mut self, slot: Slot, _: RemovalCause, _: Entries<'_>) {
//!         self.0.retain(|&other| other != slot);
//!     }
//!     fn walk(&self, from: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>) {
//!         let _ = match from {
//!             End::Coldest => self.0.iter().rev().copied().try_for_each(visit),
//!             End::Hottest => self.0.iter().copied().try_for_each(visit),
//!         };
//!     }
//!     fn restore(&mut self, slot: Slot, _: u64, _: Entries<'_>) {
//!         self.0.push_front(slot);
//!     }
//! }
//!
//! let cache = Cache::builder()
//!     .max_capacity(2)
//!     .eviction_policy(EvictionPolicy::custom(|_capacity| Mru::default()))
//!     .build()?;
//! for key in 0..4 {
//!     cache.insert(key, key);
//! }
//! assert_eq!(cache.get(&0), Some(0));
//! assert_eq!(cache.get(&3), Some(3));
//! assert_eq!(cache.len(), 2);
//! # Ok::<(), larder::BuildError>(())
//! ```

mod choice;
mod fifo;
mod lfu;
mod lru;
mod s3_fifo;
mod s3_lirs;
mod sieve;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod snapshots;
mod tiny_lfu;
#[cfg(test)]
mod traces;

pub(crate) use choice::Chosen;
pub use choice::EvictionPolicy;

use crate::parts::lists::Lists;
use crate::removal::RemovalCause;
use crate::table::Cells;
use std::fmt;
use std::ops::ControlFlow;

/// Visits lists whose fronts leave first: `order` from the coldest list to the hottest.
fn walk<const N: usize>(
    lists: &Lists<N>,
    order: &[usize],
    from: End,
    visit: &mut dyn FnMut(Slot) -> ControlFlow<()>,
) {
    let _ = match from {
        End::Coldest => order.iter().flat_map(|&list| lists.iter(list)).map(Slot::new).try_for_each(visit),
        End::Hottest => {
            order.iter().rev().flat_map(|&list| lists.iter_back(list)).map(Slot::new).try_for_each(visit)
        }
    };
}

/// For how many entries a ghost is made: of the slots some are just being left, and while a reader is held up these can be
/// many more than there are entries. A ghost for all slots would then remember nearly every key, and tell nothing.
fn ghosts(slots: usize, capacity: u64) -> usize {
    usize::try_from(capacity).map_or(slots, |capacity| slots.min(capacity))
}

/// The most records that a ghost from a snapshot may have to come back at its own size, with `slots` known by now: eight
/// times what these would be given. So it comes back whole to a cache that had more entries before, and does not swamp one
/// that is much smaller than it was.
fn most_ghosts(slots: usize, capacity: u64) -> usize {
    ghosts(slots_before(slots), capacity)
}

/// How many slots a policy had at most, for all that is believed of a snapshot.
fn slots_before(slots: usize) -> usize {
    slots.max(64).saturating_mul(8)
}

/// An entry's place in its segment: what a policy orders.
///
/// Numbers are small and dense: at most a few more than the segment ever held entries at once. A number is used again
/// after its entry has left, and an entry moves to another number when its value is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u32);

impl Slot {
    /// A slot by its number: for tests of a policy without a cache.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The slot's number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The slot's number, to index with.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a read of an entry leaves behind for its policy: a constant of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reads {
    /// Nothing.
    Ignored,
    /// A counter in the entry, from 0 up to this number, where it stays until the policy sets it back.
    ///
    /// The cheapest that tells anything: a read writes one byte, and nothing once the counter is full. Reads at the same
    /// moment may count as one.
    Marked(u8),
    /// An event in a small buffer, given to [`Policy::hit`] before the policy is asked or told anything else.
    ///
    /// For policies that need the order of reads. Driven by one thread no event is lost; under contention some are.
    Recorded,
}

/// From which end [`Policy::walk`] starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the entry that would be evicted first, as far as the queues tell.
    Coldest,
    /// With the entry that would be evicted last.
    Hottest,
}

impl End {
    /// Returns the place of an entry in an order that starts from this end: what is less comes first.
    pub(crate) fn rank(self, heat: u64) -> u64 {
        match self {
            Self::Coldest => heat,
            Self::Hottest => !heat,
        }
    }
}

/// What a policy sees of a hash: what its table keeps.
#[inline]
pub(crate) fn policy_hash(hash: u64) -> u64 {
    hash >> 16
}

/// What a policy can ask of the entries in its segment.
///
/// Asked for a slot that no entry has it gives whatever stands there, and panics when there never was such a slot.
#[derive(Clone, Copy)]
pub struct Entries<'a> {
    cells: &'a Cells,
    /// By slot; none while all are 1.
    weights: &'a Vec<u64>,
}

impl<'a> Entries<'a> {
    #[inline]
    pub(crate) fn new(cells: &'a Cells, weights: &'a Vec<u64>) -> Self {
        Self { cells, weights }
    }

    /// A hash of the entry's key: 48 bits, well mixed, above which all is 0. Seeds differ from cache to cache.
    #[inline]
    #[must_use]
    pub fn hash(&self, slot: Slot) -> u64 {
        policy_hash(self.cells.header(slot.number()).hash())
    }

    /// As the entry's header has it.
    #[cfg_attr(not(feature = "serde"), allow(dead_code, reason = "only snapshots need it"))]
    pub(crate) fn header_hash(&self, slot: Slot) -> u64 {
        self.cells.header(slot.number()).hash()
    }

    /// The entry's weight; 1 where nothing else was said.
    #[inline]
    #[must_use]
    pub fn weight(&self, slot: Slot) -> u64 {
        self.weights.get(slot.index()).copied().unwrap_or(1)
    }

    /// The counter that [`Reads::Marked`] asked for; 0 when the entry is new.
    #[inline]
    #[must_use]
    pub fn mark(&self, slot: Slot) -> u8 {
        self.cells.header(slot.number()).mark()
    }

    /// A hint that the entry is about to be asked about: lets the processor fetch what answers that.
    ///
    /// Worth giving for the entry that will be looked at first when the next one is to be evicted.
    #[inline]
    pub fn prefetch(&self, slot: Slot) {
        self.cells.prefetch(slot.number());
    }

    /// Sets that counter back. A read at the same moment may be lost.
    #[inline]
    pub fn set_mark(&self, slot: Slot, mark: u8) {
        self.cells.header(slot.number()).set_mark(mark);
    }
}

impl fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").finish_non_exhaustive()
    }
}

/// An eviction policy over the slots of one segment.
///
/// See the [module](self) for which call comes when, and for an example. A policy should answer in O(1), amortised: it
/// runs under the segment's lock. It may be wrong without harm to memory or to the capacity: a victim that is no entry
/// counts as none, and without a victim the new entry is refused. A policy that panics lets the panic reach the caller
/// whose operation it was; the cache then stays usable, but entries may linger that the policy does not know of.
///
/// # Snapshots
///
/// What a policy knows can be saved with the entries, so that a cache that is started again decides as it would have before:
/// [`save`](Self::save) gives a *note* for each entry, [`save_rest`](Self::save_rest) what goes beyond entries. Neither may
/// hold slots, since entries come back to others. In the new cache [`restore`](Self::restore) is called for each entry and
/// [`restore_rest`](Self::restore_rest) once, at the end. By default the order is kept, and right so for policies whose
/// newcomers leave last.
///
/// A snapshot comes from outside: it may have been cut short, come from another policy, or be made to do harm. Whatever notes
/// and words it holds, a policy should not panic, keep its books right, and use no more time or memory than their number
/// warrants.
pub trait Policy: Send + 'static {
    /// What reads leave behind. Asked once.
    fn reads(&self) -> Reads;

    /// The weight that the entries together may have has changed.
    fn set_capacity(&mut self, capacity: u64) {
        let _ = capacity;
    }

    /// Slots below `slots` may come from now on: the moment to grow tables indexed by slot. It never shrinks.
    fn reserve(&mut self, slots: usize) {
        let _ = slots;
    }

    /// A key that is not in the cache wants to enter; `false` refuses it.
    ///
    /// Room is made after this, and [`insert`](Self::insert) follows when there is enough. The cache may ask again for
    /// the same entry, when room must come from other segments.
    fn admit(&mut self, hash: u64, weight: u64, entries: Entries<'_>) -> bool {
        let _ = (hash, weight, entries);
        true
    }

    /// A new entry stands in `slot`.
    fn insert(&mut self, slot: Slot, entries: Entries<'_>);

    /// An entry was read: only for [`Reads::Recorded`]. The slot may be one that has left since; then it means nothing.
    fn hit(&mut self, slot: Slot, entries: Entries<'_>) {
        let _ = (slot, entries);
    }

    /// An entry's value was replaced: it stands in `new` from now on, perhaps with another weight.
    ///
    /// Nothing else of it changed: its mark has come along. `entries` still knows `old`. That the entry was used is told
    /// afterwards, as a read is.
    fn moved(&mut self, old: Slot, new: Slot, entries: Entries<'_>);

    /// Chooses the entry that leaves to make room, and forgets it; none if it has no entry.
    fn evict(&mut self, entries: Entries<'_>) -> Option<Slot>;

    /// An entry leaves that the policy has not chosen.
    ///
    /// `Replaced` comes here only when an entry had to leave for its own new value (see [`moved`](Self::moved)).
    /// A pin takes the entry out as `Explicit`, and when the capacity shrinks `Size` may come.
    fn remove(&mut self, slot: Slot, cause: RemovalCause, entries: Entries<'_>);

    /// Visits the slots in the order of the queues, from the end where entries leave or from the opposite one, until told to
    /// stop. Reads that only left marks need not count here: they do in [`heat`](Self::heat).
    fn walk(&self, from: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>);

    /// Returns how hot an entry is: a number that means the same in all segments.
    ///
    /// [`Cache::hottest`](crate::Cache::hottest) and [`coldest`](crate::Cache::coldest) rank entries by it, and a snapshot
    /// leaves out those of the least heat where not all fit. Entries of equal heat are ranked as [`walk`](Self::walk) and
    /// [`save`](Self::save) have them. By default the mark, and 0 where reads leave none.
    ///
    /// Heat must not fall along a walk from the coldest entry, unless reads are [`Marked`](Reads::Marked): then all entries
    /// are visited and sorted, otherwise no more than were asked for.
    fn heat(&self, slot: Slot, entries: Entries<'_>) -> u64 {
        match self.reads() {
            Reads::Marked(_) => u64::from(entries.mark(slot)),
            Reads::Ignored | Reads::Recorded => 0,
        }
    }

    /// Visits all entries for a snapshot, from the one that would leave last to the one that would leave first, each with a
    /// note: what [`restore`](Self::restore) needs to put it where it was.
    ///
    /// The entry's mark is saved by the cache, and recorded reads were told before. By default the order of
    /// [`walk`](Self::walk), with 0 for a note.
    fn save(&self, entries: Entries<'_>, visit: &mut dyn FnMut(Slot, u64)) {
        let _ = entries;
        self.walk(End::Hottest, &mut |slot| {
            visit(slot, 0);
            ControlFlow::Continue(())
        });
    }

    /// What the policy knows beside, for a snapshot: sizes that it has found, what it remembers of absent keys. By default
    /// nothing.
    fn save_rest(&self) -> Vec<u64> {
        Vec::new()
    }

    /// An entry from a snapshot stands in `slot`, with the note that [`save`](Self::save) gave: instead of
    /// [`admit`](Self::admit) and [`insert`](Self::insert).
    ///
    /// Entries come in the opposite order of `save`; some may be missing, and those of several segments may come in turns. The
    /// policy may have others, and be told and asked anything in between. The entry's mark is what it was, and is not above
    /// what [`reads`](Self::reads) asks for. By default as `insert`.
    fn restore(&mut self, slot: Slot, note: u64, entries: Entries<'_>) {
        let _ = note;
        self.insert(slot, entries);
    }

    /// Comes once after the entries of a snapshot, with what [`save_rest`](Self::save_rest) gave.
    ///
    /// `same_hashes` says whether keys have the hashes, and the segments, that they had. If not, what `words` say of keys by
    /// their hashes means nothing any more; all else does. By default nothing happens.
    fn restore_rest(&mut self, words: &[u64], same_hashes: bool) {
        let _ = (words, same_hashes);
    }

    /// Checks the policy's own books and panics if they are wrong. `len` is how many entries it should have.
    fn validate(&self, len: usize, entries: Entries<'_>) {
        let _ = (len, entries);
    }
}
