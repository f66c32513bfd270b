//! Read, decide and write as one step for a key: `compute` and `entry`.
//!
//! Optimistic: the user's code runs on what was read, without a lock, and its decision is carried out only if the key
//! is still as it was read; otherwise it runs again on the current value. As long as the entry found is held its slot is not
//! used for another one, so "as it was read" means that the key's slot is the same.

use crate::cache::{Cache, Stored};
use crate::hash::RandomState;
use crate::removal::RemovalCause;
use crate::segment::{Offer, Seen};
use std::fmt;
use std::hash::{BuildHasher, Hash};

/// What [`Cache::compute`] is to do with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<V> {
    /// Leave it as it is.
    Keep,
    /// Give it this value.
    Insert(V),
    /// Remove its entry.
    Remove,
}

/// What [`Cache::compute`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Computed<V> {
    /// The key was absent and has this value now.
    Inserted(V),
    /// The key had a value and has this one now.
    Replaced(V),
    /// The key had this value and is absent now.
    Removed(V),
    /// The key has this value, as before.
    Kept(V),
    /// The key is absent, as before.
    Absent,
    /// This value was refused or over at once, see [`Cache::insert`], and the key is absent now.
    Rejected(V),
}

impl<V> Computed<V> {
    /// The value that the key has now.
    #[must_use]
    pub fn into_value(self) -> Option<V> {
        match self {
            Self::Inserted(value) | Self::Replaced(value) | Self::Kept(value) => Some(value),
            Self::Removed(_) | Self::Absent | Self::Rejected(_) => None,
        }
    }
}

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + 'static,
{
    /// Changes the value of `key` as `decide` says, atomically: between what `decide` was last given and its decision
    /// being carried out, nobody else changes the key.
    ///
    /// `decide` runs without a lock, so it may use the cache; and it runs again when another thread was faster, so it
    /// should have no other effects. Only its last answer counts.
    ///
    /// Counts a hit if the key had a value when `decide` was last called, a miss if not. If the entry is kept it has been read, as by
    /// [`get`](Self::get): the policy is told, its time to idle begins again, an [`Expiry`](crate::Expiry) hears of it, and one of
    /// [`max_reads`](crate::Builder::max_reads) is spent. A new value of an entry keeps what that was given by options: see
    /// [`InsertOptions`](crate::InsertOptions#updates).
    ///
    /// ```
    /// use larder::{Cache, Computed, Op};
    ///
    /// let events: Cache<u32, Vec<&str>> = Cache::new(1_000);
    /// let append = |event| {
    ///     events.compute(7, |seen| {
    ///         let mut seen = seen.cloned().unwrap_or_default();
    ///         seen.push(event);
    ///         Op::Insert(seen)
    ///     })
    /// };
    /// append("click");
    /// assert_eq!(append("buy"), Computed::Replaced(vec!["click", "buy"]));
    /// ```
    pub fn compute(&self, key: K, mut decide: impl FnMut(Option<&V>) -> Op<V>) -> Computed<V> {
        let mut key = key;
        let (hash, segment) = self.inner.locate(&key);
        let (computed, is_hit) = loop {
            let found = segment.find(hash, |other| *other == key);
            let current = found.as_ref().map(|found| &found.entry().1);
            let is_hit = current.is_some();
            let value = match (decide(current), found.as_ref()) {
                (Op::Keep, Some(found)) => {
                    if segment.renew(found) && self.inner.note_read(segment, found) {
                        break (Computed::Kept(found.entry().1.clone()), is_hit);
                    }
                    // It has expired, or another read was its last one.
                    continue;
                }
                (Op::Keep, None) => break (Computed::Absent, is_hit),
                (Op::Remove, None) => {
                    // What is being loaded goes, and so does what has just landed.
                    if self.confirm_absent((hash, segment), &key) {
                        break (Computed::Absent, is_hit);
                    }
                    continue;
                }
                (Op::Remove, Some(current)) => {
                    let value = current.entry().1.clone();
                    let removed = segment.remove(&self.inner.bank, current.slot(), RemovalCause::Explicit);
                    drop(found);
                    match removed {
                        Some(leaving) => {
                            leaving.settle();
                            break (Computed::Removed(value), is_hit);
                        }
                        None => continue,
                    }
                }
                (Op::Insert(value), _) => value,
            };
            let given = found.as_ref().and_then(|found| self.inner.given_to(segment, found));
            let seen = found.as_ref().map_or(Seen::Nothing, |found| Seen::At(found.slot()));
            let mut offer = Offer::new(key, value.clone(), seen);
            offer.held = found;
            match self.update_at(hash, offer, given, 0) {
                Stored::Yes if is_hit => break (Computed::Replaced(value), is_hit),
                Stored::Yes => break (Computed::Inserted(value), is_hit),
                Stored::Refused => break (Computed::Rejected(value), is_hit),
                Stored::Changed(again) => key = again,
            }
        };
        self.inner.count_read(is_hit);
        computed
    }

    /// The key's entry, to look at and insert in one step.
    ///
    /// Where its methods find the entry and keep it, that is a read of the entry, and they count a hit or a miss: as
    /// [`compute`](Self::compute).
    ///
    /// ```
    /// use larder::Cache;
    ///
    /// let counts = Cache::new(100);
    /// assert_eq!(counts.entry("a").or_insert(1), 1);
    /// assert_eq!(counts.entry("a").or_insert(5), 1);
    /// assert_eq!(counts.entry("a").and_upsert_with(|count| count.map_or(1, |n| n + 1)), 2);
    /// ```
    pub fn entry(&self, key: K) -> Entry<'_, K, V, S> {
        Entry { cache: self, key }
    }
}

/// A key of a cache, there or not: [`Cache::entry`].
///
/// Its methods are atomic for the key, and give the value that the key has afterwards; or the one that was to be
/// inserted, if the cache did not keep it.
#[must_use = "an entry does nothing until a method is called"]
pub struct Entry<'a, K, V, S = RandomState> {
    cache: &'a Cache<K, V, S>,
    key: K,
}

impl<K, V, S> Entry<'_, K, V, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + 'static,
{
    /// The key's value, after inserting `value` if it had none.
    pub fn or_insert(self, value: V) -> V {
        self.or_insert_with(|| value)
    }

    /// The key's value, after inserting what `make` gives if it had none.
    ///
    /// `make` runs without a lock, at most once. Others may run theirs for the same key at the same time; one of the
    /// values gets in, and all get that one.
    pub fn or_insert_with(self, make: impl FnOnce() -> V) -> V {
        let mut make = Some(make);
        let mut made = None;
        let computed = self.cache.compute(self.key, |current| match current {
            Some(_) => Op::Keep,
            None => {
                if let Some(make) = make.take() {
                    made = Some(make());
                }
                Op::Insert(made.clone().expect("made above, or the last time round"))
            }
        });
        value_of(computed)
    }

    /// The key's value, after inserting the default if it had none.
    pub fn or_default(self) -> V
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }

    /// The new value that `make` gives, from the one that the key has, if any.
    ///
    /// `make` runs without a lock, and again when another thread was faster.
    pub fn and_upsert_with(self, mut make: impl FnMut(Option<&V>) -> V) -> V {
        value_of(self.cache.compute(self.key, |current| Op::Insert(make(current))))
    }
}

fn value_of<V>(computed: Computed<V>) -> V {
    match computed {
        Computed::Inserted(value)
        | Computed::Replaced(value)
        | Computed::Kept(value)
        | Computed::Rejected(value) => value,
        Computed::Removed(_) | Computed::Absent => {
            unreachable!("only `Op::Remove`, or `Keep` of nothing, ends so")
        }
    }
}

impl<K: fmt::Debug, V, S> fmt::Debug for Entry<'_, K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("key", &self.key).finish_non_exhaustive()
    }
}
