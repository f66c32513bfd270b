//! Carries out operations and records what they show.

use crate::history::{Fact, Record, Stamps, What};
use crate::program::{Call, Decision, Keys, MOST_KEYS, Op, Program, Read, has};
use crate::setup::Larder;
use crate::signals;
use crate::values::{Id, Key, Value, stumble};
use larder::{Clock, Computed, InsertOptions};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Stands for the response, which has no stamp yet.
pub const RESPONSE: u64 = u64::MAX;

/// Worker that carries out the operations of a thread.
pub struct Actor<'a> {
    pub cache: &'a Larder,
    pub clock: &'a Clock,
    pub program: &'a Program,
    pub stamps: &'a Stamps,
    pub thread: usize,
    /// Stamp of the invocation.
    pub from: u64,
    pub facts: Vec<Fact>,
}

/// Entries that a scan met: values by key.
type Met = [Vec<Id>; MOST_KEYS as usize];

impl Actor<'_> {
    pub fn act(&mut self, call: &Call) -> Record {
        signals::is_busy();
        self.from = self.stamps.next();
        if catch_unwind(AssertUnwindSafe(|| self.carry_out(call))).is_err() {
            self.note(0, What::Wrong("a panic"));
        }
        let to = self.stamps.next();
        let mut facts = std::mem::take(&mut self.facts);
        facts.iter_mut().filter(|fact| fact.to == RESPONSE).for_each(|fact| fact.to = to);
        Record { thread: self.thread, op: call.op, from: self.from, to, facts }
    }

    /// Notes something that happened during the operation.
    pub fn note(&mut self, key: u64, what: What) {
        self.note_within(key, self.from, RESPONSE, what);
    }

    pub fn note_within(&mut self, key: u64, from: u64, to: u64, what: What) {
        self.facts.push(Fact { key, from, to, what });
    }

    fn carry_out(&mut self, call: &Call) {
        match call.op {
            Op::Read(read, key) => self.read(read, key),
            Op::GetMany(keys) => self.get_many(keys),
            Op::Insert(_) | Op::InsertWith(..) => self.insert(call),
            Op::Remove(_) | Op::Invalidate(_) | Op::RemoveIf(..) => self.remove(call.op),
            Op::Compute(key, decision) => self.compute(key, decision, call.first),
            Op::OrInsert(key) => self.or_insert(key, call.first),
            Op::Upsert(key) => self.upsert(key, call.first),
            Op::Load(key, loading) => self.load(key, loading, call.first),
            Op::LoadMany(loading) => self.load_many(loading, call.first),
            Op::InvalidateTag(tag) => {
                let removed = self.cache.invalidate_tag(tag);
                self.note_all(|_| What::Untags(tag, removed > 0));
            }
            Op::InvalidateAll => {
                self.cache.invalidate_all();
                self.note_all(|_| What::Clears);
            }
            Op::Retain(keys) => self.retain(keys),
            Op::Drain(most) => self.drain(most),
            Op::Iter | Op::Keys | Op::ForEach | Op::Hottest => self.scan(call.op),
            Op::Pin(..) | Op::Advance(_) | Op::SetCapacity(_) | Op::Fill(_) => self.adjust(call),
        }
    }

    fn note_all(&mut self, what: impl Fn(u64) -> What) {
        (0..self.program.keys).for_each(|key| self.note(key, what(key)));
    }

    fn read(&mut self, read: Read, key: u64) {
        let wanted = Key(key);
        let found = match read {
            Read::Get => self.cache.get(&wanted).map(|value| value.id),
            Read::Peek => self.cache.peek(&wanted).map(|value| value.id),
            Read::With => self.cache.with(&wanted, |value| {
                stumble();
                value.id
            }),
            Read::Contains => {
                let is_there = self.cache.contains_key(&wanted);
                return self.note(key, What::Exists(is_there));
            }
        };
        self.note(key, What::Reads(found));
    }

    fn get_many(&mut self, keys: Keys) {
        let wanted: Vec<_> = (0..self.program.keys).filter(|&key| has(keys, key)).map(Key).collect();
        let found = self.cache.get_many(&wanted);
        for (key, value) in wanted.iter().zip(found) {
            self.note(key.0, What::Reads(value.map(|value| value.id)));
        }
    }

    fn insert(&mut self, call: &Call) {
        let value = self.program.value(call.first);
        let key = match call.op {
            Op::InsertWith(key, time_to_live) => {
                let mut options = InsertOptions::new().tags(value.tags());
                if let Some(time) = time_to_live {
                    options = options.ttl(self.program.setup.unit * time as u32);
                }
                self.cache.insert_with(Key(key), value, options);
                key
            }
            Op::Insert(key) => {
                self.cache.insert(Key(key), value);
                key
            }
            _ => unreachable!("it inserts"),
        };
        self.note(key, What::Writes(call.first));
    }

    fn remove(&mut self, op: Op) {
        match op {
            Op::Remove(key) => {
                let removed = self.cache.remove(&Key(key)).map(|value| value.id);
                self.note(key, What::Removes(removed));
            }
            Op::Invalidate(key) => {
                let removed = self.cache.invalidate(&Key(key));
                self.note(key, What::RemovesAny(removed));
            }
            Op::RemoveIf(key, goes) => {
                let mut last = None;
                let removed = self.cache.remove_if(&Key(key), |_, value| {
                    last = Some(value.id);
                    stumble();
                    goes
                });
                let what = match (last, goes) {
                    (Some(id), false) => What::Declines(id),
                    _ => What::Removes(removed.map(|value| value.id)),
                };
                self.note(key, what);
            }
            _ => unreachable!("it removes"),
        }
    }

    fn compute(&mut self, key: u64, decision: Decision, id: Id) {
        let mut seen = None;
        let computed = self.cache.compute(Key(key), |current| {
            seen = current.map(|value| value.id);
            stumble();
            match decision {
                Decision::Keep => larder::Op::Keep,
                Decision::Insert => larder::Op::Insert(self.program.value(id)),
                Decision::Remove => larder::Op::Remove,
            }
        });
        self.note_computed(key, seen, computed, decision);
    }

    fn note_computed(&mut self, key: u64, seen: Option<Id>, computed: Computed<Value>, decision: Decision) {
        let what = match (computed, decision) {
            (Computed::Inserted(value), Decision::Insert) if seen.is_none() => What::Replaces(None, value.id),
            (Computed::Replaced(value), Decision::Insert) if seen.is_some() => What::Replaces(seen, value.id),
            (Computed::Rejected(_), Decision::Insert) => What::Removes(seen),
            (Computed::Removed(value), Decision::Remove) if seen == Some(value.id) => What::Removes(seen),
            (Computed::Absent, Decision::Remove) if seen.is_none() => What::Removes(None),
            (Computed::Kept(value), Decision::Keep) if seen == Some(value.id) => What::Reads(seen),
            (Computed::Absent, Decision::Keep) if seen.is_none() => What::Reads(None),
            _ => What::Wrong("`compute` has done something else than it says"),
        };
        self.note(key, what);
    }

    fn or_insert(&mut self, key: u64, id: Id) {
        let make = || {
            stumble();
            self.program.value(id)
        };
        let value = self.cache.entry(Key(key)).or_insert_with(make);
        let is_own = value.id == id;
        self.note(key, if is_own { What::Replaces(None, id) } else { What::Reads(Some(value.id)) });
    }

    fn upsert(&mut self, key: u64, id: Id) {
        let mut seen = None;
        self.cache.entry(Key(key)).and_upsert_with(|current| {
            seen = current.map(|value| value.id);
            stumble();
            self.program.value(id)
        });
        self.note(key, What::Replaces(seen, id));
    }

    fn retain(&mut self, keys: Keys) {
        let mut met = Met::default();
        self.cache.retain(|key, value| {
            stumble();
            if let Some(met) = met.get_mut(key.0 as usize) {
                met.push(value.id);
            }
            has(keys, key.0)
        });
        let kept = |key, id| if has(keys, key) { What::Passes(id) } else { What::Sweeps(id) };
        self.note_met(&met, kept, What::Removes(None));
    }

    /// Drains the cache. What the iterator has not given before it is dropped goes all the same.
    fn drain(&mut self, most: usize) {
        let mut met = Met::default();
        let mut entries = self.cache.drain();
        let mut is_at_end = false;
        for _ in 0..most {
            match entries.next() {
                Some((key, value)) => _ = met.get_mut(key.0 as usize).map(|met| met.push(value.id)),
                None => is_at_end = true,
            }
            if is_at_end {
                break;
            }
        }
        drop(entries);
        let otherwise = if is_at_end { What::Misses } else { What::Empties };
        self.note_met(&met, |_, id| What::Removes(Some(id)), otherwise);
    }

    fn scan(&mut self, op: Op) {
        let mut met = Met::default();
        let mut meet = |key: u64, id| _ = met.get_mut(key as usize).map(|met| met.push(id));
        match op {
            Op::Iter => self.cache.iter().for_each(|(key, value)| meet(key.0, value.id)),
            Op::ForEach => self.cache.for_each(|key, value| meet(key.0, value.id)),
            Op::Hottest => {
                self.cache.hottest(1_000).iter().for_each(|(key, value)| meet(key.0, value.id));
                // Some entries are not among them: those that are pinned.
                for (key, id) in (0..).zip(&met).filter_map(|(key, met)| Some((key, *met.first()?))) {
                    self.note(key, What::Reads(Some(id)));
                }
                return;
            }
            _ => {
                self.cache.keys().for_each(|key| meet(key.0, 0));
                return self.note_met(&met, |_, _| What::Exists(true), What::Exists(false));
            }
        }
        self.note_met(&met, |_, id| What::Reads(Some(id)), What::Reads(None));
    }

    fn note_met(&mut self, met: &Met, what: impl Fn(u64, Id) -> What, otherwise: What) {
        for key in 0..self.program.keys {
            match met[key as usize][..] {
                [] => self.note(key, otherwise),
                [id] => self.note(key, what(key, id)),
                _ => self.note(key, What::Wrong("a key comes twice")),
            }
        }
    }

    fn adjust(&mut self, call: &Call) {
        match call.op {
            Op::Pin(key, pinned) => {
                let wanted = Key(key);
                let is_there = if pinned { self.cache.pin(&wanted) } else { self.cache.unpin(&wanted) };
                self.note(key, What::Exists(is_there));
            }
            Op::Advance(units) => self.clock.advance(self.program.setup.unit * units as u32),
            Op::SetCapacity(capacity) => self.cache.set_capacity(capacity),
            Op::Fill(keys) => {
                let first = 1_000 * (self.from + 1);
                (first..first + keys).for_each(|key| self.cache.insert(Key(key), Value { id: 0, tags: 0 }));
            }
            _ => unreachable!("it adjusts"),
        }
    }
}
