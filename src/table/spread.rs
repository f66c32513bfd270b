//! A power of two of things, one of which a hash chooses.

use std::ops::Deref;
use std::sync::Arc;

/// Chosen without a check of bounds, which every hit would pay for. As a slice otherwise.
pub(crate) struct Spread<T> {
    things: Arc<[T]>,
    mask: usize,
}

impl<T> Spread<T> {
    /// # Panics
    ///
    /// If the number of things is not a power of two.
    pub(crate) fn new(things: Arc<[T]>) -> Self {
        assert!(things.len().is_power_of_two());
        Self { mask: things.len() - 1, things }
    }

    /// Returns the index of a hash, by its lowest bits.
    #[inline]
    pub(crate) fn index(&self, hash: u64) -> usize {
        hash as usize & self.mask
    }

    #[inline]
    pub(crate) fn of(&self, hash: u64) -> &T {
        // SAFETY: the index is at most `mask`, which is one less than the length: both are set in `new` only.
        unsafe { self.things.get_unchecked(self.index(hash)) }
    }
}

impl<T> Deref for Spread<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.things
    }
}
