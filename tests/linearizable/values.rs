//! Keys and values that let other threads run now and then: in their `Eq`, `Hash` and `Clone`.

use crate::common::Random;
use std::cell::RefCell;
use std::hash::{Hash, Hasher};

/// Number that tells a value, or a load that brings none, from all others of its history.
pub type Id = u8;

thread_local! {
    static STUMBLES: RefCell<(Random, u64)> = RefCell::new((Random::new(0), 0));
}

/// Makes this thread yield once in `odds` chances from now on; never if that is 0.
pub fn stumble_once_in(odds: u64, seed: u64) {
    STUMBLES.set((Random::new(seed), odds));
}

/// Takes a chance to yield.
pub fn stumble() {
    let yields = STUMBLES.with_borrow_mut(|(random, odds)| *odds > 0 && random.one_in(*odds));
    if yields {
        std::thread::yield_now();
    }
}

/// A key that is compared, hashed and cloned slowly.
#[derive(Debug)]
pub struct Key(pub u64);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        stumble();
        let is_equal = self.0 == other.0;
        stumble();
        is_equal
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        stumble();
        state.write_u64(self.0);
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        stumble();
        Self(self.0)
    }
}

/// A value that no other write or load brings.
#[derive(Debug)]
pub struct Value {
    pub id: Id,
    /// One bit for each tag.
    pub tags: u8,
}

impl Value {
    pub fn tags(&self) -> impl Iterator<Item = u64> + use<> {
        let tags = self.tags;
        (0..super::program::TAGS).filter(move |tag| tags >> tag & 1 == 1)
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        stumble();
        Self { id: self.id, tags: self.tags }
    }
}

/// Error of a load.
#[derive(Debug)]
pub struct Failure {
    /// Number of the load, or of the first of the loads of many keys.
    pub first: Id,
    pub is_of_many: bool,
}

impl Failure {
    /// Gives the number of the load of a key that failed so.
    pub fn id(&self, key: u64) -> Id {
        if self.is_of_many { self.first + key as Id } else { self.first }
    }
}
