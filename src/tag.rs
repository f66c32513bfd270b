use std::fmt;

/// What groups entries, to be [invalidated together](crate::Cache::invalidate_tag).
///
/// A number of 64 bits. Text becomes one by a fixed hash function, the same on all machines, and so does a text with a number.
/// Should two of them become the same tag, entries of both go when one is invalidated; none stays that should go.
///
/// A number alone is itself the tag, whatever it stands for: user 7 and item 7 are one tag. Where numbers of several kinds are
/// used, name the kind: `("user", 7)`.
///
/// ```
/// use larder::{Cache, InsertOptions, Tag};
///
/// assert_eq!(Tag::from("user:7"), Tag::from("user:7".to_owned()));
/// assert_ne!(Tag::from("user:7"), Tag::from("user:8"));
/// assert_eq!(Tag::from(7).number(), 7);
/// assert_ne!(Tag::from(("user", 7)), Tag::from(("item", 7)));
///
/// let prices = Cache::new(100);
/// prices.insert_with("a", 1, InsertOptions::new().tags([("user", 7), ("item", 9)]));
/// prices.insert_with("b", 2, InsertOptions::new().tags([("user", 9), ("item", 7)]));
/// assert_eq!(prices.invalidate_tag(("user", 7)), 1);
/// assert_eq!((prices.get("a"), prices.get("b")), (None, Some(2)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(u64);

impl Tag {
    /// The number that it is.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    fn from_bytes(bytes: impl Iterator<Item = u8>) -> Self {
        // FNV-1a (Fowler, Noll, Vo), and a folded multiplication, since its high bits are weak for short texts.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325, step);
        let product = u128::from(hash) * 0x9e37_79b9_7f4a_7c15;
        Self(product as u64 ^ (product >> 64) as u64)
    }
}

/// A number as it is: see [`Tag`] for numbers of several kinds.
impl From<u64> for Tag {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl From<&str> for Tag {
    fn from(text: &str) -> Self {
        Self::from_bytes(text.bytes())
    }
}

/// A kind, and a number of that kind: `("user", 7)`.
impl From<(&str, u64)> for Tag {
    fn from((kind, number): (&str, u64)) -> Self {
        // A byte that is in no text keeps it apart from all texts.
        Self::from_bytes(kind.bytes().chain([0xff]).chain(number.to_le_bytes()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Snapshots keep tags: these numbers must not change.
    #[test]
    fn a_tag_is_the_same_number_everywhere() {
        assert_eq!(Tag::from("user:7").number(), 0x74d5_d1f2_769d_92fa);
        assert_eq!(Tag::from(("user", 7)).number(), 0x5407_353a_1d08_d325);
    }

    #[test]
    fn numbers_of_different_kinds_are_different_tags() {
        let kinds = ["", "user", "item", "user:", "users"];
        let numbers = [0, 1, 7, 255, 256, u64::MAX];
        let pairs = kinds.iter().flat_map(|&kind| numbers.map(|number| Tag::from((kind, number))));
        let all = pairs.chain(kinds.map(Tag::from)).chain(numbers.map(Tag::from));
        assert_eq!(
            all.collect::<HashSet<_>>().len(),
            kinds.len() * numbers.len() + kinds.len() + numbers.len()
        );
    }
}
