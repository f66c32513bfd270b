//! A bounded map under crossbeam-epoch, as small as it can be and still fair: what larder's own reclamation is measured
//! beside.
//!
//! Readers pin, and follow a chain from one of a fixed number of buckets. Writers hold the lock of one of a few stripes,
//! which evict what came first, and leave what they take out to the default collector.

#![allow(unsafe_code)] // What it measures is a way to make such code safe.

use super::subjects::{Cache, Hasher, Lookup};
use crossbeam_epoch::{Atomic, Guard, Owned, Shared, pin, unprotected};
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Mutex;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const STRIPES: usize = 8;

pub(crate) struct EpochMap<V> {
    /// A chain for each bucket. It is changed under the lock of the bucket's stripe.
    heads: Box<[Atomic<Node<V>>]>,
    /// The keys of each stripe, the oldest first.
    stripes: [Mutex<VecDeque<u64>>; STRIPES],
    /// Keys that a stripe may have.
    most: usize,
    hasher: Hasher,
}

struct Node<V> {
    key: u64,
    value: V,
    next: Atomic<Node<V>>,
}

impl<V: Send + Sync + 'static> EpochMap<V> {
    pub(crate) fn new(capacity: usize) -> Self {
        let buckets = (2 * capacity).next_power_of_two().max(STRIPES);
        Self {
            heads: (0..buckets).map(|_| Atomic::null()).collect(),
            stripes: [(); STRIPES].map(|()| Mutex::default()),
            most: capacity.div_ceil(STRIPES),
            hasher: Hasher::new(),
        }
    }

    #[inline]
    fn bucket(&self, key: u64) -> usize {
        // Their number is a power of two.
        self.hasher.hash_one(key) as usize & (self.heads.len() - 1)
    }

    #[inline]
    fn find<'g>(&'g self, key: u64, guard: &'g Guard) -> Option<&'g V> {
        let mut next = self.heads[self.bucket(key)].load(Acquire, guard);
        // SAFETY: a node is initialised before a link leads to it (Release, Acquire), and destroyed when every guard is gone
        // that was there before it was taken out.
        while let Some(node) = unsafe { next.as_ref() } {
            if node.key == key {
                return Some(&node.value);
            }
            next = node.next.load(Acquire, guard);
        }
        None
    }

    /// Returns the link to a key's node, or else the last one of its chain. For the holder of the stripe's lock.
    fn link<'g>(&'g self, key: u64, guard: &'g Guard) -> &'g Atomic<Node<V>> {
        let mut link = &self.heads[self.bucket(key)];
        // SAFETY: as in `find`.
        while let Some(node) = unsafe { link.load(Relaxed, guard).as_ref() }
            && node.key != key
        {
            link = &node.next;
        }
        link
    }

    /// Takes a key's node out, if it is there. For the holder of the stripe's lock.
    fn unlink<'g>(&'g self, key: u64, guard: &'g Guard) -> Shared<'g, Node<V>> {
        let link = self.link(key, guard);
        let found = link.load(Relaxed, guard);
        // SAFETY: as in `find`.
        if let Some(node) = unsafe { found.as_ref() } {
            link.store(node.next.load(Relaxed, guard), Release);
        }
        found
    }

    /// Puts a key in, and returns the node that left for it: the key's own, or the oldest of the stripe.
    fn replace<'g>(&'g self, key: u64, value: V, guard: &'g Guard) -> Shared<'g, Node<V>> {
        let bucket = self.bucket(key);
        let mut keys = self.stripes[bucket % STRIPES].lock().expect("no panic under it");
        let mut leaving = self.unlink(key, guard);
        if leaving.is_null() {
            if keys.len() == self.most
                && let Some(oldest) = keys.pop_front()
            {
                leaving = self.unlink(oldest, guard);
            }
            keys.push_back(key);
        }
        let head = &self.heads[bucket];
        let next = Atomic::from(head.load(Relaxed, guard));
        head.store(Owned::new(Node { key, value, next }), Release);
        leaving
    }

    /// Calls `meanwhile` under the guard of a read, and says whether the key was there.
    pub(crate) fn with(&self, key: u64, meanwhile: impl FnOnce()) -> bool {
        let guard = pin();
        self.find(key, &guard).map(|_| meanwhile()).is_some()
    }
}

impl<V: Clone + Send + Sync + 'static> Lookup for EpochMap<V> {
    type Value = V;

    fn name(&self) -> &str {
        "crossbeam-epoch"
    }

    #[inline]
    fn get(&self, key: u64) -> Option<V> {
        self.find(key, &pin()).cloned()
    }
}

impl<V: Clone + Send + Sync + 'static> Cache for EpochMap<V> {
    fn insert(&self, key: u64, value: V) {
        let guard = pin();
        let leaving = self.replace(key, value, &guard);
        if !leaving.is_null() {
            // SAFETY: no link leads to it, and it was taken out once.
            unsafe { guard.defer_destroy(leaving) };
        }
    }
}

impl<V> Drop for EpochMap<V> {
    fn drop(&mut self) {
        // SAFETY: nobody else has the map.
        let guard = unsafe { unprotected() };
        for head in &self.heads {
            let mut next = head.load(Relaxed, guard);
            while !next.is_null() {
                // SAFETY: what was taken out is in no chain, so each node is destroyed once.
                let node = unsafe { next.into_owned() };
                next = node.next.load(Relaxed, guard);
            }
        }
    }
}

/// The floor: the map when nobody may write to it, which is read without a pin.
pub(crate) struct Unpinned(EpochMap<u64>);

impl Unpinned {
    pub(crate) fn new(map: EpochMap<u64>) -> Self {
        Self(map)
    }
}

impl Lookup for Unpinned {
    type Value = u64;

    fn name(&self) -> &str {
        "without a pin"
    }

    #[inline]
    fn get(&self, key: u64) -> Option<u64> {
        // SAFETY: nothing is taken out of a map that nobody writes to.
        self.0.find(key, unsafe { unprotected() }).copied()
    }
}
