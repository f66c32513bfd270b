//! A power of two of things, one of which a hash chooses.

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

/// Chosen without a check of bounds, which every hit would pay for. As a slice otherwise.
pub(crate) struct Spread<T> {
    /// The first of them: an `Arc` has its counts before its things, which every hit would have to skip.
    first: NonNull<T>,
    mask: usize,
    things: Arc<[T]>,
}

// SAFETY: `first` is a part of `things`, to which only shared references are given: what goes for the `Arc` goes for both.
unsafe impl<T: Send + Sync> Send for Spread<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Spread<T> {}

impl<T> Spread<T> {
    /// # Panics
    ///
    /// If the number of things is not a power of two.
    pub(crate) fn new(things: Arc<[T]>) -> Self {
        assert!(things.len().is_power_of_two());
        Self { first: NonNull::from(&*things).cast(), mask: things.len() - 1, things }
    }

    /// Returns the index of a hash, by its lowest bits.
    #[inline]
    pub(crate) fn index(&self, hash: u64) -> usize {
        hash as usize & self.mask
    }

    #[inline]
    pub(crate) fn of(&self, hash: u64) -> &T {
        // SAFETY: 1. The index is at most `mask`, which is one less than the length: both are set in `new` only. 2. The things
        // live and stay where they are as long as `things`, which nobody writes to but through shared references.
        unsafe { self.first.add(self.index(hash)).as_ref() }
    }
}

impl<T> Deref for Spread<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.things
    }
}
