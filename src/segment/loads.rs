//! The loads of a segment that are under way, and whether what comes of them may be kept.
//!
//! A load is *registered* under the segment's lock, before the loader runs. Whoever changes the key, or makes it invalid,
//! takes the registration out, under the same lock as the change; and what was loaded gets in, under that lock again, only
//! if it is still registered. So after an invalidation nobody sees a value whose load began before it.
//!
//! Registrations are by hash. A change of another key with the same hash takes them out, too, which costs a load.

use crate::policy::policy_hash;
use std::any::Any;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// Changes that a load of many keys remembers. After more it keeps nothing that it was not asked for.
const MOST_CHANGED: usize = 1024;

/// What those who want the same key share; the typed side knows what it is.
pub(crate) type AnyFlight = Arc<dyn Any + Send + Sync>;

#[derive(Default)]
pub(crate) struct Loads {
    by_hash: HashMap<u64, Load, BuildHasherDefault<AsIs>>,
    /// Loads of which nobody knows what keys they will bring.
    open: Vec<OpenLoad>,
}

struct Load {
    flight: AnyFlight,
    /// Further keys of the same hash: next to never.
    more: Vec<AnyFlight>,
}

/// A load of many keys that may bring others.
struct OpenLoad {
    id: u64,
    /// The hashes that were changed since it began; `None` if all may have been.
    changed: Option<Vec<u64>>,
}

/// Which load an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoadId {
    /// That with this flight, by address.
    Of(usize),
    /// A load of many keys, of one that it was not asked for.
    Open(u64),
}

pub(crate) fn id_of(flight: &AnyFlight) -> usize {
    Arc::as_ptr(flight).cast::<()>().addr()
}

impl Loads {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.by_hash.is_empty() && self.open.is_empty()
    }

    /// The flight of this hash that `is_it`.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(&AnyFlight) -> bool) -> Option<&AnyFlight> {
        let load = self.by_hash.get(&policy_hash(hash))?;
        std::iter::once(&load.flight).chain(&load.more).find(|flight| is_it(flight))
    }

    pub(super) fn register(&mut self, hash: u64, flight: AnyFlight) {
        match self.by_hash.get_mut(&policy_hash(hash)) {
            Some(load) => load.more.push(flight),
            None => _ = self.by_hash.insert(policy_hash(hash), Load { flight, more: Vec::new() }),
        }
    }

    /// Whether what a load has brought for this hash may be kept.
    pub(super) fn may_land(&self, hash: u64, id: LoadId) -> bool {
        match id {
            LoadId::Of(id) => self.find(hash, |flight| id_of(flight) == id).is_some(),
            LoadId::Open(id) => self
                .open
                .iter()
                .filter(|load| load.id == id)
                .filter_map(|load| load.changed.as_ref())
                .any(|changed| !changed.contains(&policy_hash(hash))),
        }
    }

    /// Takes one load out, if it is still registered.
    pub(super) fn end(&mut self, hash: u64, id: usize) {
        let Some(load) = self.by_hash.get_mut(&policy_hash(hash)) else { return };
        load.more.retain(|flight| id_of(flight) != id);
        if id_of(&load.flight) == id {
            match load.more.pop() {
                Some(other) => load.flight = other,
                None => _ = self.by_hash.remove(&policy_hash(hash)),
            }
        }
    }

    /// The key of this hash has changed.
    #[cold]
    pub(super) fn void(&mut self, hash: u64) {
        self.by_hash.remove(&policy_hash(hash));
        for load in &mut self.open {
            if let Some(changed) = load.changed.as_mut().filter(|changed| changed.len() < MOST_CHANGED) {
                changed.push(policy_hash(hash));
            } else {
                load.changed = None;
            }
        }
    }

    /// All keys may have changed.
    pub(super) fn void_all(&mut self) {
        self.by_hash.clear();
        self.open.iter_mut().for_each(|load| load.changed = None);
    }

    pub(super) fn open(&mut self, id: u64) {
        self.open.push(OpenLoad { id, changed: Some(Vec::new()) });
    }

    pub(super) fn close(&mut self, id: u64) {
        self.open.retain(|load| load.id != id);
    }
}

/// The part of a hash that entries keep: registrations are found by that.
/// Hashes need no hashing.
#[derive(Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a hash is a u64");
    }

    fn write_u64(&mut self, hash: u64) {
        // The highest bits, which a map wants to differ, too, are 0.
        self.0 = hash.rotate_left(32) | hash;
    }
}
