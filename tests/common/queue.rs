//! A policy of one's own, and what such a one finds out.

use super::Identity;
use larder::policy::{End, Entries, Policy, Reads, Slot};
use larder::{Cache, EvictionPolicy, RemovalCause};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

/// A queue that leaves to the defaults what they can do.
#[derive(Default)]
pub struct Queue(pub VecDeque<Slot>);

impl Policy for Queue {
    fn reads(&self) -> Reads {
        Reads::Marked(3)
    }
    fn insert(&mut self, slot: Slot, _: Entries<'_>) {
        self.0.push_back(slot);
    }
    fn moved(&mut self, old: Slot, new: Slot, _: Entries<'_>) {
        self.0.iter_mut().filter(|slot| **slot == old).for_each(|slot| *slot = new);
    }
    fn evict(&mut self, _: Entries<'_>) -> Option<Slot> {
        self.0.pop_front()
    }
    fn remove(&mut self, slot: Slot, _: RemovalCause, _: Entries<'_>) {
        self.0.retain(|&other| other != slot);
    }
    fn walk(&self, from: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>) {
        let _ = match from {
            End::Coldest => self.0.iter().copied().try_for_each(visit),
            End::Hottest => self.0.iter().rev().copied().try_for_each(visit),
        };
    }
}

/// A hook that is given the number of the segment.
pub type Hook = Arc<dyn Fn(usize) + Send + Sync>;

/// A queue that calls hooks under the lock of its segment.
pub struct Hooked {
    queue: Queue,
    index: usize,
    on_admit: Hook,
    on_insert: Hook,
    on_capacity: Hook,
}

impl Policy for Hooked {
    fn reads(&self) -> Reads {
        Reads::Ignored
    }
    fn set_capacity(&mut self, _: u64) {
        (self.on_capacity)(self.index);
    }
    fn admit(&mut self, _: u64, _: u64, _: Entries<'_>) -> bool {
        (self.on_admit)(self.index);
        true
    }
    fn insert(&mut self, slot: Slot, entries: Entries<'_>) {
        (self.on_insert)(self.index);
        self.queue.insert(slot, entries);
    }
    fn moved(&mut self, old: Slot, new: Slot, entries: Entries<'_>) {
        self.queue.moved(old, new, entries);
    }
    fn evict(&mut self, entries: Entries<'_>) -> Option<Slot> {
        self.queue.evict(entries)
    }
    fn remove(&mut self, slot: Slot, cause: RemovalCause, entries: Entries<'_>) {
        self.queue.remove(slot, cause, entries);
    }
    fn walk(&self, from: End, visit: &mut dyn FnMut(Slot) -> ControlFlow<()>) {
        self.queue.walk(from, visit);
    }
}

pub fn hooked(on_admit: Hook, on_insert: Hook, on_capacity: Hook) -> EvictionPolicy {
    let made = AtomicUsize::new(0);
    EvictionPolicy::custom(move |_| Hooked {
        queue: Queue::default(),
        index: made.fetch_add(1, SeqCst),
        on_admit: on_admit.clone(),
        on_insert: on_insert.clone(),
        on_capacity: on_capacity.clone(),
    })
}

/// Returns `count` keys of each segment, for any cache of so many segments with [`Identity`].
pub fn keys_of_segments(segments: usize, count: usize) -> Vec<Vec<u64>> {
    let last = Arc::new(AtomicUsize::new(usize::MAX));
    let seen = Arc::clone(&last);
    let policy = hooked(Arc::new(|_| ()), Arc::new(move |index| seen.store(index, SeqCst)), Arc::new(|_| ()));
    let builder = Cache::<u64, u64>::builder().max_capacity(1 << 40).segments(segments);
    let cache = builder.eviction_policy(policy).build_with_hasher(Identity).unwrap();
    let mut keys = vec![Vec::new(); segments];
    for key in 0.. {
        cache.insert(key, 0);
        let of_segment = &mut keys[last.load(SeqCst)];
        if of_segment.len() < count {
            of_segment.push(key);
        }
        if keys.iter().all(|keys| keys.len() == count) {
            break;
        }
    }
    keys
}
