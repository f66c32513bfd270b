//! The default hasher, in types of our own, so that another one can take its place without anybody's code breaking.

use ahash::AHasher;
use std::fmt;
use std::hash::{BuildHasher, Hasher};

/// The hashing of keys where nothing else is said: by [ahash](https://docs.rs/ahash), with a random seed.
///
/// The operating system gives 512 random bits once in a process, from which each `new` makes a seed of its own. So the hash
/// of a key cannot be known from outside, and it is not the same in two processes or versions.
///
/// # Keys that attackers choose
///
/// ahash has two algorithms, and it is settled when the program is compiled which of them is in it:
///
/// - rounds of AES, keyed with the seed, on x86 and x86-64 **with the target feature `aes`**: `-C target-feature=+aes`, or
///   `-C target-cpu=native` on a machine that has it, in `RUSTFLAGS`;
/// - multiplications of 64 by 64 bits everywhere else, and so **in a plain build** for `x86_64-unknown-linux-gnu`, whatever
///   the processor can do.
///
/// Without knowledge of the seed neither can be made to collide, says its documentation. It also says that ahash is not
/// cryptographically secure, has had no peer review, uses fewer rounds of AES than the standard, and relies on an attacker
/// who cannot observe its seed. So an attacker who watches for a while how long operations take may learn which keys
/// collide; AES makes that harder, and nobody promises that it makes it impossible. Where that is to be feared,
/// [`std::hash::RandomState`] (SipHash) withstands it, at a price for every operation: see
/// [`Builder::build_with_hasher`](crate::Builder::build_with_hasher).
#[derive(Clone, Default)]
pub struct RandomState(ahash::RandomState);

impl RandomState {
    /// Makes one with a seed of its own.
    ///
    /// # Panics
    ///
    /// The first one in a process, if the operating system has no random bits to give.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for RandomState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the seed: it is a secret.
        f.write_str("RandomState { .. }")
    }
}

impl BuildHasher for RandomState {
    type Hasher = KeyHasher;

    #[inline]
    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(self.0.build_hasher())
    }
}

/// The [`Hasher`] of a [`RandomState`].
#[derive(Clone)]
pub struct KeyHasher(AHasher);

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHasher { .. }")
    }
}

/// Hands everything on, each kind of number by its own method.
macro_rules! hand_on {
    ($($method:ident: $kind:ty),*) => {
        $(
            #[inline]
            fn $method(&mut self, value: $kind) {
                self.0.$method(value);
            }
        )*
    };
}

impl Hasher for KeyHasher {
    hand_on!(write: &[u8], write_u8: u8, write_u16: u16, write_u32: u32, write_u64: u64, write_u128: u128,
        write_usize: usize);

    #[inline]
    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::Hash;

    #[test]
    fn each_state_has_a_seed_of_its_own() {
        let (one, other) = (RandomState::new(), RandomState::new());
        assert_ne!(one.hash_one(1_u64), other.hash_one(1_u64));
        assert_eq!(one.hash_one("text"), one.clone().hash_one("text".to_owned()));
    }

    /// Asserts that each byte of the hashes is spread as random ones are: segments, tags and places are cut out of them.
    fn assert_spread<K: Hash>(what: &str, keys: impl Iterator<Item = K>) {
        let state = RandomState::new();
        let hashes: Vec<u64> = keys.take(256).map(|key| state.hash_one(key)).collect();
        assert_eq!(hashes.len(), 256);
        for shift in (0..=56).step_by(8) {
            let mut seen = [false; 256];
            hashes.iter().for_each(|hash| seen[(hash >> shift) as u8 as usize] = true);
            // Random ones give 162 on average, with a deviation of 5.
            let different = seen.iter().filter(|&&seen| seen).count();
            assert!(different > 120, "{what}, from bit {shift}: {different}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too many hashes for it")]
    fn all_bits_spread_numbers_in_a_row() {
        for stride in [1, 2, 3, 7, 8, 10, 64, 100, 1000, 4096, 1 << 20, 1 << 32, 1 << 40, 1_u64 << 56] {
            assert_spread(&format!("u64, stride {stride}"), (0..).map(|number| number * stride));
            assert_spread(&format!("u64, stride -{stride}"), (0..).map(|number| u64::MAX - number * stride));
            assert_spread(
                &format!("u128, stride {stride}"),
                (0..).map(|number| u128::from(number * stride) << 64),
            );
            assert_spread(&format!("pair, stride {stride}"), (0..).map(|number| (1_u64, number * stride)));
        }
        assert_spread("u8", 0_u8..=255);
        assert_spread("u32", 0_u32..);
    }

    #[test]
    #[cfg_attr(miri, ignore = "too many hashes for it")]
    fn all_bits_spread_texts_in_a_row() {
        assert_spread("bytes", (0_u8..=255).map(|number| vec![number]));
        assert_spread("zeros", (0..).map(|len| vec![0_u8; len]));
        for len in [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65, 200] {
            let padding = "x".repeat(len);
            assert_spread(&format!("number behind {len}"), (0..).map(|number| format!("{padding}{number}")));
            assert_spread(&format!("number before {len}"), (0..).map(|number| format!("{number}{padding}")));
        }
    }
}
