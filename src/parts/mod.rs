//! Parts that know neither keys nor values nor policies: plain data structures over slot numbers and hashes.

pub(crate) mod ghost;
pub(crate) mod keeper;
pub(crate) mod lists;
pub(crate) mod random;
pub(crate) mod read_buffer;
pub(crate) mod sketch;
pub(crate) mod striped;
pub(crate) mod timer;
pub(crate) mod wait;
pub(crate) mod wheel;

use std::ops::{Deref, DerefMut};

/// Something that shares no cache line with others. 128 bytes: x86-64 fetches lines in pairs, and on others they are that long.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(T);

impl<T> Apart<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for Apart<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Apart<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// A number of which each bit depends on all of another: folded multiplication, by the constant of Knuth's multiplicative
/// hashing.
#[inline]
pub(crate) fn folded(number: u64) -> u64 {
    let product = u128::from(number) * 0x9e37_79b9_7f4a_7c15;
    product as u64 ^ (product >> 64) as u64
}

/// Makes an array longer. The new part is zeroed by the allocator, so that it takes memory only when it is used.
pub(crate) fn extend_zeroed<T: Copy + Default>(array: &mut Vec<T>, len: usize) {
    if len > array.len() {
        // Of numbers the compiler knows that their default is zero bytes.
        let mut longer = vec![T::default(); len];
        longer[..array.len()].copy_from_slice(array);
        *array = longer;
    }
}
