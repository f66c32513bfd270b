//! Records of what happened, with stamps that say in which order.

use crate::program::Op;
use crate::values::Id;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

/// Source of stamps. An event whose stamp is smaller than another's was before it.
#[derive(Default)]
pub struct Stamps(AtomicU64);

impl Stamps {
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, SeqCst)
    }
}

/// One effect on a key, or one thing learnt of it, that has its place at some moment between two others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The key has this value, or none.
    Reads(Option<Id>),
    /// The key has some value, or none.
    Exists(bool),
    Writes(Id),
    /// The key had this value, or none, and has that one now.
    Replaces(Option<Id>, Id),
    /// The key had this value, or none, and has none now.
    Removes(Option<Id>),
    /// The key had some value, or none, and has none now.
    RemovesAny(bool),
    /// The key has no value, and a drain finds it so.
    Misses,
    /// The key has no value now because of a drain that was dropped early.
    Empties,
    /// The key has no value now.
    Clears,
    /// The key has this value and keeps it, but its loads are void.
    Passes(Id),
    /// The same, or the key, which had this value a moment ago, has none now.
    Declines(Id),
    /// The key has this value, and loses it, unless another operation is faster.
    Sweeps(Id),
    /// The key has no value now if that carries the tag; `false` if no entry did.
    Untags(u64, bool),
    /// A load begins since the value is missing, or due.
    Begins(Id),
    /// A load begins for a new value, whether there is one or not.
    Renews(Id),
    /// A load of many begins that is to bring this unasked.
    Opens(Id),
    /// A load ends with its value.
    Lands(Id),
    /// A load ends without a value: by an error, a panic or because it is dropped.
    Ends(Id),
    /// A load of many ends without a value for this key.
    Omits(Id),
    /// The key has this value, or another caller's load is joined that brings it.
    Obtains(Id),
    /// Another caller's load is joined, of this value or with this error.
    Joins(Id),
    /// Another caller's load of many is joined, which brings nothing for this key.
    JoinsOmission,
    /// Loads are void from now on: only where an invalidation need not do this at one moment with the rest.
    Voids,
    /// Nothing explains this.
    Wrong(&'static str),
}

/// Something that happened to a key between two stamps.
#[derive(Clone, Copy, Debug)]
pub struct Fact {
    pub key: u64,
    pub from: u64,
    pub to: u64,
    pub what: What,
}

/// One operation that was carried out.
#[derive(Clone, Debug)]
pub struct Record {
    /// Threads have numbers from 1; 0 is before and after them.
    pub thread: usize,
    pub op: Op,
    pub from: u64,
    pub to: u64,
    pub facts: Vec<Fact>,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {} [{:>3}, {:>3}] {:?}", self.thread, self.from, self.to, self.op)?;
        for fact in &self.facts {
            write!(f, "\n    key {} [{:>3}, {:>3}] {:?}", fact.key, fact.from, fact.to, fact.what)?;
        }
        Ok(())
    }
}
