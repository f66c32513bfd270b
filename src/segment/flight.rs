//! Single flight: who asks for a key that is being loaded joins those who wait for it.

use super::loads::{AnyLoads, Ended};
use super::soft::Claim;
use super::{Extras, Segment};
use crate::options::InsertOptions;
use crate::parts::wait::Wait;
use crate::tag::Tag;
use std::any::Any;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// A load, for those who wait for it.
pub(crate) struct Flight<V> {
    /// The load's.
    pub(crate) number: u64,
    pub(crate) wait: Wait<Landing<V>>,
}

impl<V> Flight<V> {
    pub(super) fn new(number: u64) -> Self {
        Self { number, wait: Wait::new() }
    }
}

/// Loads have numbers from blocks, so that threads seldom share the counter.
const BLOCK: u64 = 1 << 10;

fn next_number() -> u64 {
    static BLOCKS: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NEXT: Cell<u64> = const { Cell::new(0) };
    }
    let next = match NEXT.get() {
        next if next % BLOCK != 0 => next,
        _ => BLOCKS.fetch_add(1, Relaxed) * BLOCK,
    };
    NEXT.set(next + 1);
    next
}

/// How a flight ended.
pub(crate) enum Landing<V> {
    Loaded(V),
    /// An error, of a type that its receiver may know.
    Failed(Arc<dyn Any + Send + Sync>),
    /// Nothing came of it: who waited takes over.
    Abandoned,
    /// A load of many keys brought nothing for this one.
    Absent,
}

/// Why somebody wants to load a key.
#[derive(Clone, Copy)]
pub(crate) enum Reason {
    /// It was not there.
    Missing,
    /// For a new value, whether there is one or not.
    Anew,
    /// It was due.
    Due(Claim),
}

/// What somebody meets who wants a key.
pub(crate) enum Boarding<V> {
    /// There is no reason any more.
    There,
    /// With the tags that were invalidated since the flight began.
    Joins(Arc<Flight<V>>, Vec<Tag>),
    /// Nobody is loading it: the one who asks does it now, under this number.
    /// A refresh has the options that its entry was given.
    Leads(u64, Option<Box<InsertOptions>>),
}

impl<K: Eq + Send + Sync + 'static, V: Send + Sync + 'static> Segment<K, V> {
    /// Says that the key is there, or finds the flight that brings it, or registers a load.
    ///
    /// The entry is looked for under the lock under which loads are registered and land, so that a load that has just
    /// landed is not begun again.
    pub(crate) fn board(&self, hash: u64, key: K, reason: Reason) -> Boarding<V> {
        let number = next_number();
        // Locked after the key has come, and so unlocked before it is dropped.
        let mut writer = self.table.lock();
        let find = || self.table.find_locked(&writer, hash, |other| *other == key);
        // The entry whose value is renewed, and whether there is nothing to load.
        let (renewed, is_there) = match reason {
            Reason::Missing => (None, find().is_some_and(|slot| !self.is_over(slot))),
            Reason::Anew => (find().filter(|&slot| !self.is_over(slot)), false),
            // If it has gone, its old value is good enough for who found it.
            Reason::Due(claim) => {
                let renewed = find().filter(|&slot| self.is_claimed(slot, claim));
                (renewed, renewed.is_none())
            }
        };
        if is_there {
            return Boarding::There;
        }
        let given = renewed.and_then(|slot| self.given(&writer, slot));
        let loads = writer.extras().loads();
        if let Some((flight, tags)) = loads.join(hash, &key) {
            return Boarding::Joins(flight, tags);
        }
        let tags = given.as_ref().and_then(|given| given.tags.as_deref());
        loads.register(hash, key, number, tags.unwrap_or_default());
        Boarding::Leads(number, given)
    }

    /// Begins to watch which keys change, for [`LoadId::Open`](super::LoadId::Open).
    pub(crate) fn open_load(&self, id: u64) {
        self.table.lock().extras().loads::<K, V>().open(id);
    }
}

impl<K: 'static, V: 'static> Segment<K, V> {
    /// Takes a load out that will bring nothing more.
    pub(crate) fn end_load(&self, hash: u64, number: u64) -> Option<Ended<K, V>> {
        self.table.lock().end_load(hash, number)
    }
}

impl<K, V> Segment<K, V> {
    /// Lets nobody join a load any more, and nothing stay that it brings.
    pub(crate) fn void_load(&self, hash: u64, number: u64) {
        self.void_somehow(|loads| loads.void_one(hash, number));
    }

    pub(crate) fn close_load(&self, id: u64) {
        self.void_somehow(|loads| loads.close(id));
    }

    fn void_somehow(&self, void: impl FnOnce(&mut dyn AnyLoads)) {
        if let Some(Extras { loads: Some(loads), .. }) = self.table.lock().extras.as_deref_mut() {
            void(&mut **loads);
        }
    }
}
