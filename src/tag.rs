use std::fmt;

/// What groups entries, to be [invalidated together](crate::Cache::invalidate_tag).
///
/// A number of 64 bits. Text becomes one by a fixed hash function, the same on all machines. Should two texts become the
/// same number, entries of both go when one is invalidated; none stays that should go.
///
/// ```
/// use larder::Tag;
///
/// assert_eq!(Tag::from("user:7"), Tag::from("user:7".to_owned()));
/// assert_ne!(Tag::from("user:7"), Tag::from("user:8"));
/// assert_eq!(Tag::from(7).number(), 7);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(u64);

impl Tag {
    /// The number that it is.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl From<u64> for Tag {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl From<&str> for Tag {
    fn from(text: &str) -> Self {
        // FNV-1a (Fowler, Noll, Vo), and a folded multiplication, since its high bits are weak for short texts.
        let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = text.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step);
        let product = u128::from(hash) * 0x9e37_79b9_7f4a_7c15;
        Self(product as u64 ^ (product >> 64) as u64)
    }
}

impl From<&String> for Tag {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<String> for Tag {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&Self> for Tag {
    fn from(tag: &Self) -> Self {
        *tag
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({:#x})", self.0)
    }
}
