//! Random programs: a few operations for each of a few threads, the same ones for the same seed.

use crate::common::Random;
use crate::setup::{Family, Setup};
use crate::values::{Id, Value};

pub const MOST_KEYS: u64 = 3;
pub const TAGS: u64 = 2;
const MOST_THREADS: u64 = 4;
const MOST_OPS: u64 = 4;
/// Numbers that an operation has for its values: one for each key, and one more for each key that is brought unasked.
const IDS: u64 = 2 * MOST_KEYS;

/// A set of keys, one bit for each.
pub type Keys = u8;

/// Says whether a set has a key.
pub fn has(keys: Keys, key: u64) -> bool {
    key < MOST_KEYS && keys >> key & 1 == 1
}

#[derive(Clone, Copy, Debug)]
pub enum Read {
    Get,
    Peek,
    With,
    Contains,
}

#[derive(Clone, Copy, Debug)]
pub enum Decision {
    Keep,
    Insert,
    Remove,
}

/// How a loader ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Loads,
    Fails,
    Panics,
}

#[derive(Clone, Copy, Debug)]
pub struct Loading {
    /// `refresh` instead of `get_or_load`.
    pub is_refresh: bool,
    /// `try_get_or_load` or `try_refresh`; only these loaders fail.
    pub is_try: bool,
    /// A future that is polled up to so many times and then dropped.
    pub polls: Option<u64>,
    /// How often the loader lets others run; so often its future is pending.
    pub pauses: u64,
    pub fate: Fate,
}

#[derive(Clone, Copy, Debug)]
pub struct LoadingMany {
    pub keys: Keys,
    /// Keys that the loader brings, if it is asked for them.
    pub brings: Keys,
    /// Keys that it brings in any case.
    pub unasked: Keys,
    /// See [`Loading`].
    pub polls: Option<u64>,
    pub pauses: u64,
    pub fate: Fate,
}

/// An operation, with the key that it is about.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Read(Read, u64),
    GetMany(Keys),
    Insert(u64),
    /// Inserts with a time to live of so many units, if any, and with the value's tags.
    InsertWith(u64, Option<u64>),
    Remove(u64),
    Invalidate(u64),
    /// Removes if the predicate says so, which it does or not.
    RemoveIf(u64, bool),
    Compute(u64, Decision),
    OrInsert(u64),
    Upsert(u64),
    Load(u64, Loading),
    LoadMany(LoadingMany),
    InvalidateTag(u64),
    InvalidateAll,
    /// Keeps these keys.
    Retain(Keys),
    /// Takes so many entries, and drops the rest.
    Drain(usize),
    Iter,
    Keys,
    ForEach,
    Hottest,
    Pin(u64, bool),
    Advance(u64),
    SetCapacity(u64),
    /// Inserts so many keys that nobody else asks for.
    Fill(u64),
}

/// An operation in its place in the program.
#[derive(Clone, Debug)]
pub struct Call {
    pub op: Op,
    /// First of the numbers for its values.
    pub first: Id,
}

#[derive(Clone, Debug)]
pub struct Program {
    pub seed: u64,
    pub setup: Setup,
    pub keys: u64,
    /// Operations before the threads begin.
    pub prelude: Vec<Call>,
    pub threads: Vec<Vec<Call>>,
    /// Operations after the threads have ended.
    pub finale: Vec<Call>,
    /// Tags by value.
    pub tags: Vec<u8>,
}

impl Program {
    pub fn random(family: Family, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let setup = Setup::random(family, &mut random);
        let mut author = Author::new(&setup, random);
        let (prelude, threads) = match family {
            Family::Crowded if author.random.one_in(2) => author.coming_and_going(),
            Family::Crowded => author.anything(),
            _ if author.random.one_in(3) => author.crossing(),
            _ => author.anything(),
        };
        let finale = (0..author.keys).map(|key| author.written(Op::Read(Read::Get, key))).collect();
        let Author { keys, tags, .. } = author;
        Self { seed, setup, keys, prelude, threads, finale, tags }
    }

    pub fn value(&self, id: Id) -> Value {
        Value { id, tags: self.tags[usize::from(id)] }
    }
}

/// A way to write operations of some kind.
type Chapter<'a> = fn(&mut Author<'a>) -> Op;

/// State of writing a program.
struct Author<'a> {
    setup: &'a Setup,
    random: Random,
    keys: u64,
    /// Kinds of operations that this program has, each as often as its weight says.
    chapters: Vec<Chapter<'a>>,
    /// Whether inserts give tags and lives, which updates keep. Then there are none: the model knows those of values, not of
    /// entries.
    gives: bool,
    tags: Vec<u8>,
}

impl<'a> Author<'a> {
    fn new(setup: &'a Setup, mut random: Random) -> Self {
        let is_crowded = setup.family == Family::Crowded;
        let loads = if is_crowded { 0 } else { 1 };
        let all: [(Chapter<'a>, usize); 8] = [
            (Self::read, 4),
            (Self::write, 2),
            (Self::removal, 3),
            (Self::computation, 2),
            (Self::load, 5 * loads),
            (Self::load_many, 2 * loads),
            (Self::sweep, 2),
            (Self::scan, 1),
        ];
        let is_choosy = random.one_in(2);
        let mut chapters: Vec<Chapter<'a>> = Vec::new();
        for (chapter, weight) in all {
            if !is_choosy || random.one_in(2) {
                chapters.extend(std::iter::repeat_n(chapter, weight));
            }
        }
        let specials = if setup.is_timed() { 5 } else { 2 };
        chapters.extend(std::iter::repeat_n(Self::special as Chapter<'a>, specials));
        let keys = if is_crowded { MOST_KEYS } else { [1, 1, 1, 2, 3][random.below(5) as usize] };
        let gives = !setup.is_soft() && random.one_in(2);
        Self { setup, random, keys, chapters, gives, tags: Vec::new() }
    }

    /// Gives an operation its numbers, and its values their tags.
    fn written(&mut self, op: Op) -> Call {
        let first = self.tags.len() as Id;
        let count = match op {
            Op::LoadMany(_) => IDS,
            Op::Insert(_) | Op::InsertWith(..) | Op::Compute(..) | Op::OrInsert(_) | Op::Upsert(_) => 1,
            Op::Load(..) => 1,
            _ => 0,
        };
        let is_tagged = self.setup.is_tagged || matches!(op, Op::InsertWith(..));
        for _ in 0..count {
            self.tags.push(if is_tagged { self.random.below(1 << TAGS) as u8 } else { 0 });
        }
        Call { op, first }
    }

    /// Writes any operations: some for before the threads begin, and those of each thread.
    fn anything(&mut self) -> (Vec<Call>, Vec<Vec<Call>>) {
        let prelude = (0..self.random.below(4)).map(|_| self.opening()).collect();
        let threads = (0..2 + self.random.below(MOST_THREADS - 1))
            .map(|_| (0..1 + self.random.below(MOST_OPS)).map(|_| self.call()).collect())
            .collect();
        (prelude, threads)
    }

    /// Lets a load and an invalidation cross, while the entry leaves by itself, if it may.
    fn crossing(&mut self) -> (Vec<Call>, Vec<Vec<Call>>) {
        let invalidation: Chapter<'a> = if self.random.one_in(2) { Self::removal } else { Self::sweep };
        let first: Chapter<'a> = if self.random.one_in(2) { Self::special } else { Self::read };
        let mut write = |chapters: &[Chapter<'a>]| -> Vec<Call> {
            let ops: Vec<_> = chapters.iter().map(|chapter| chapter(self)).collect();
            ops.into_iter().map(|op| self.written(op)).collect()
        };
        let prelude = write(&[Self::write, first]);
        let others = [write(&[Self::special, Self::read]), write(&[Self::load])];
        let threads = [write(&[invalidation]), write(&[Self::load, Self::read])].into_iter().chain(others);
        (prelude, threads.collect())
    }

    /// Lets the last of some keys come and go in one place of the index, while others look for it.
    fn coming_and_going(&mut self) -> (Vec<Call>, Vec<Vec<Call>>) {
        let key = MOST_KEYS - 1;
        let prelude = (0..MOST_KEYS).map(|key| self.written(Op::Insert(key))).collect();
        let changes = [Op::Remove(key), Op::Insert(key)];
        let writer = (0..MOST_OPS).zip(changes.into_iter().cycle()).map(|(_, op)| self.written(op)).collect();
        let reader = [Read::Get, Read::Peek, Read::With, Read::Get]
            .map(|read| Call { op: Op::Read(read, key), first: 0 });
        (prelude, vec![writer, reader.to_vec(), reader.to_vec()])
    }

    fn call(&mut self) -> Call {
        let chapter = self.chapters[self.random.below(self.chapters.len() as u64) as usize];
        let op = chapter(self);
        self.written(op)
    }

    /// Brings the cache into some state.
    fn opening(&mut self) -> Call {
        let op = match self.random.below(6) {
            0..3 => Op::Insert(self.key()),
            3 => self.write(),
            4 if self.setup.family != Family::Crowded => {
                Op::Load(self.key(), Loading { fate: Fate::Loads, polls: None, ..self.loading() })
            }
            _ => self.special(),
        };
        self.written(op)
    }

    fn key(&mut self) -> u64 {
        self.random.below(self.keys)
    }

    fn some_keys(&mut self) -> Keys {
        self.random.below(1 << self.keys) as Keys
    }

    fn read(&mut self) -> Op {
        match self.random.below(6) {
            0 => Op::Read(Read::Peek, self.key()),
            1 => Op::Read(Read::With, self.key()),
            2 => Op::Read(Read::Contains, self.key()),
            3 => Op::GetMany(self.some_keys()),
            _ => Op::Read(Read::Get, self.key()),
        }
    }

    fn write(&mut self) -> Op {
        if !self.gives || self.random.one_in(2) {
            return Op::Insert(self.key());
        }
        let lives = self.setup.is_timed() && self.random.one_in(2);
        let time_to_live = lives.then(|| 1 + self.random.below(3));
        Op::InsertWith(self.key(), time_to_live)
    }

    fn removal(&mut self) -> Op {
        match self.random.below(5) {
            0 => Op::Remove(self.key()),
            1 => Op::Invalidate(self.key()),
            2 => Op::RemoveIf(self.key(), self.random.one_in(2)),
            _ => Op::InvalidateTag(self.random.below(TAGS)),
        }
    }

    fn computation(&mut self) -> Op {
        match self.random.below(5) {
            0 => Op::Compute(self.key(), Decision::Keep),
            1 if !self.gives => Op::Compute(self.key(), Decision::Insert),
            2 => Op::Compute(self.key(), Decision::Remove),
            3 if !self.gives => Op::Upsert(self.key()),
            _ => Op::OrInsert(self.key()),
        }
    }

    fn loading(&mut self) -> Loading {
        let is_try = self.random.one_in(2);
        let fate = match self.random.below(8) {
            0 => Fate::Panics,
            1..4 if is_try => Fate::Fails,
            _ => Fate::Loads,
        };
        Loading {
            is_refresh: !self.gives && self.random.one_in(3),
            is_try,
            polls: self.random.one_in(3).then(|| 1 + self.random.below(4)),
            pauses: self.random.below(4),
            fate,
        }
    }

    fn load(&mut self) -> Op {
        Op::Load(self.key(), self.loading())
    }

    fn load_many(&mut self) -> Op {
        let all = (1 << self.keys) - 1;
        Op::LoadMany(LoadingMany {
            keys: self.some_keys(),
            brings: if self.random.one_in(3) { self.some_keys() } else { all },
            unasked: if !self.gives && self.random.one_in(2) { self.some_keys() } else { 0 },
            polls: self.random.one_in(4).then(|| 1 + self.random.below(6)),
            pauses: self.random.below(4),
            fate: match self.random.below(6) {
                0 => Fate::Panics,
                1 => Fate::Fails,
                _ => Fate::Loads,
            },
        })
    }

    fn sweep(&mut self) -> Op {
        match self.random.below(4) {
            0 | 1 => Op::InvalidateAll,
            2 => Op::Retain(self.some_keys()),
            _ => Op::Drain([0, 1, 1_000][self.random.below(3) as usize]),
        }
    }

    fn scan(&mut self) -> Op {
        match self.random.below(4) {
            0 => Op::Iter,
            1 => Op::Keys,
            2 => Op::ForEach,
            _ => Op::Hottest,
        }
    }

    fn special(&mut self) -> Op {
        if self.setup.is_timed() && self.random.below(4) > 0 {
            return Op::Advance(1 + self.random.below(2));
        }
        match self.setup.family {
            Family::Growing => Op::Fill(8 << self.random.below(4)),
            _ if self.setup.evicts && self.random.one_in(2) => Op::Fill(1 + self.random.below(3)),
            _ if self.setup.evicts => Op::SetCapacity(self.random.below(5)),
            _ => Op::Pin(self.key(), self.random.one_in(2)),
        }
    }
}
