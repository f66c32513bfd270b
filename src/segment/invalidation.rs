//! Invalidation: to take entries out and to make loads void, in one step.
//!
//! A key is invalid when its entry has left and what is being loaded for it is not kept. Both happen in one hold of the lock,
//! also where there is no entry: to find the key absent and to make its loads void is one step. Otherwise a load could begin
//! while the entry is there, which then expires or is evicted: the removal would find nothing, and the load would go on.
//!
//! A scan does so for a range of hashes at a time. A load that begins behind the scan is kept.

use super::{Bank, Leaving, Panics, Segment};
use crate::removal::RemovalCause;
use crate::table::Found;
use crate::tag::Tag;

/// Entries that are removed by one hold of the lock, where all of a group are.
const MOST_AT_ONCE: usize = 64;

/// Entries that a scan removes as it visits them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// All of them.
    All,
    /// Expired ones: what becomes of the others is decided later.
    Expired,
}

/// Keys that a scan has made invalid.
pub(crate) struct Visited<'s, K, V> {
    /// Where to go on.
    pub(crate) next: Option<u64>,
    /// The entries that had not expired.
    pub(crate) found: Vec<Found<'s, K, V>>,
    pub(crate) leaving: Leaving<'s, K, V>,
}

impl<K, V> Segment<K, V> {
    /// Makes void the loads of a key that is found absent in the same hold of the lock, and takes out its expired entry, which
    /// loaders could still be given. `None` if the key is there.
    pub(crate) fn invalidate_absent(
        &self,
        bank: &Bank,
        hash: u64,
        matches: impl Fn(&K) -> bool,
    ) -> Option<Leaving<'_, K, V>> {
        let mut write = self.write();
        let slot = self.table.find_locked(&write.writer, hash, matches);
        if slot.is_some_and(|slot| !write.is_over(slot)) {
            self.close(write).settle();
            return None;
        }
        if let Some(slot) = slot {
            write.take_out_slot(slot, RemovalCause::Expired);
            write.return_surplus(bank);
        }
        write.void_loads(hash);
        Some(self.close(write))
    }

    /// Makes void the loads of the key whose entry was found in `slot`, and leaves that entry where it is. Returns whether it was
    /// still the key's.
    pub(crate) fn invalidate_beside(&self, slot: u32, hash: u64) -> bool {
        let mut write = self.write();
        let is_there = write.writer.live(slot).is_some() && !write.is_over(slot);
        if is_there {
            write.void_loads(hash);
        }
        self.close(write).settle();
        is_there
    }

    /// Makes void the loads of a key that was to be removed, but whose entry has left by itself.
    pub(crate) fn void_loads(&self, hash: u64, panics: &mut Panics) {
        let mut write = self.write();
        write.void_loads(hash);
        self.close(write).settle_but(panics);
    }

    /// Makes the keys of some hashes from `cursor` on invalid, but for those of their entries that `takes` leaves.
    pub(crate) fn invalidate_from(&self, bank: &Bank, cursor: u64, takes: Takes) -> Visited<'_, K, V> {
        let (mut slots, mut found) = (Vec::new(), Vec::new());
        let mut write = self.write();
        let next = write.invalidate_from(cursor, &mut slots);
        for slot in slots {
            let cause = write.cause_of_invalidation(slot);
            if cause == RemovalCause::Explicit {
                found.extend(self.table.found(&write.writer, slot));
            }
            if cause == RemovalCause::Expired || takes == Takes::All {
                write.take_out_slot(slot, cause);
            }
        }
        write.return_surplus(bank);
        Visited { next, found, leaving: self.close(write) }
    }

    /// Removes the entries of some hashes from `cursor` on because of `cause`, and says where to go on. Loads of their keys go on
    /// if the cache decided on that.
    pub(crate) fn remove_from(
        &self,
        bank: &Bank,
        cursor: u64,
        cause: RemovalCause,
    ) -> (Option<u64>, Leaving<'_, K, V>) {
        let mut slots = Vec::new();
        let mut write = self.write();
        let next = if cause.was_evicted() {
            write.writer.entries_from(cursor, &mut slots)
        } else {
            write.invalidate_from(cursor, &mut slots)
        };
        slots.into_iter().for_each(|slot| write.take_out_slot(slot, cause));
        write.return_surplus(bank);
        (next, self.close(write))
    }

    /// Removes the entries that carry a tag, and lets no load land that began before and brings it. Returns how many of the
    /// entries had not expired.
    pub(crate) fn invalidate_tag(&self, bank: &Bank, tag: Tag, panics: &mut Panics) -> usize {
        let mut write = self.write();
        // Entries that come from now on are not meant: without a count this could go on without end.
        let mut left = write.tagged(tag);
        let mut removed = 0;
        loop {
            // In each hold: since the one before, an entry may have left by itself after a load of its key had begun.
            write.void_tag(tag);
            let batch = MOST_AT_ONCE.min(left);
            let causes = (0..batch).map_while(|_| write.take_out_tagged(tag));
            let (taken, counted) = causes.fold((0, 0), |(taken, counted), cause| {
                (taken + 1, counted + usize::from(cause == RemovalCause::Explicit))
            });
            write.return_surplus(bank);
            self.close(write).settle_but(panics);
            (left, removed) = (left - taken, removed + counted);
            if taken < batch || left == 0 {
                return removed;
            }
            write = self.write();
        }
    }
}
