//! How many values live at most, while threads insert and others keep what they read: what a cache may hold, and what waits
//! to be dropped.

use super::heap::let_go;
use super::holders::{Holder, Kind, VALUES};
use super::rounds::round;
use super::subjects::Writes;
use std::hint::black_box;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::thread;
use std::time::{Duration, Instant};

/// How long a value is held at a time.
const HOLD: Duration = Duration::from_millis(50);
/// A key that stays, if it can; far from those that are inserted.
const HELD: u64 = u64::MAX;
/// Keys of the cache that is only read from.
const READ: u32 = 1_000;

/// Company of the threads that insert: other work of the process.
#[derive(Clone, Copy)]
pub(crate) enum Beside {
    Nothing,
    /// Threads that read from another cache of the same kind.
    Readers(usize),
    /// A thread that holds a value of the cache for a while, again and again.
    Closure,
    /// A thread that holds an iterator of the cache.
    Iterator,
    /// A thread that uses crossbeam-epoch for something else, and does not go on.
    Stranger,
}

impl Beside {
    fn threads(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Readers(readers) => readers,
            Self::Closure | Self::Iterator | Self::Stranger => 1,
        }
    }

    pub(crate) fn title(self) -> String {
        match self {
            Self::Nothing => "nothing".to_owned(),
            Self::Readers(readers) => format!("{readers} readers of another cache"),
            Self::Closure => "a value that is held, 50 ms at a time".to_owned(),
            Self::Iterator => "an iterator that is held".to_owned(),
            Self::Stranger => "a stranger that stays pinned".to_owned(),
        }
    }
}

/// A full cache of values that count themselves, and another of its kind.
pub(crate) struct Pantry<V> {
    cache: Box<dyn Holder<Value = V>>,
    other: Box<dyn Writes>,
    value: fn() -> V,
    capacity: u64,
    /// Keys from here on are fresh.
    fresh: AtomicU64,
}

impl<V> Pantry<V> {
    pub(crate) fn new(kind: &Kind<V>, capacity: u64, value: fn() -> V) -> Self {
        let other = (kind.make_other)(2 * READ as usize);
        other.fill(0..READ.into());
        let cache = (kind.make)(capacity as usize);
        let pantry = Self { cache, other, value, capacity, fresh: AtomicU64::new(0) };
        pantry.insert(2 * capacity);
        pantry
    }

    /// Inserts fresh keys.
    fn insert(&self, keys: u64) {
        let first = self.fresh.fetch_add(keys, Relaxed);
        (first..first + keys).for_each(|key| self.cache.insert(key, (self.value)()));
    }

    /// Returns how many values live at most, times the capacity, while some threads insert so many fresh keys together. The
    /// largest of some runs.
    pub(crate) fn peak(&self, runs: usize, threads: usize, inserts: u64, beside: Beside) -> f64 {
        let peaks = (0..runs).map(|_| self.run(threads, inserts, beside));
        peaks.max().expect("a run") as f64 / self.capacity as f64
    }

    fn run(&self, threads: usize, inserts: u64, beside: Beside) -> usize {
        self.rest();
        VALUES.forget_peak();
        let work = || _ = round(threads, |_| (), |_| self.insert(inserts / threads as u64));
        self.accompany(beside, work);
        VALUES.peak()
    }

    /// Has what waits from earlier runs dropped.
    fn rest(&self) {
        drop_down_to(self.capacity, || self.cache.settle());
    }

    /// Runs `work` beside something.
    fn accompany(&self, beside: Beside, work: impl FnOnce()) {
        let (begun, done) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (begun, done) = (&begun, &done);
        thread::scope(|scope| {
            for _ in 0..beside.threads() {
                scope.spawn(move || self.keep_company(beside, begun, done));
            }
            while begun.load(SeqCst) < beside.threads() {
                thread::yield_now();
            }
            work();
            done.store(true, SeqCst);
        });
    }

    fn keep_company(&self, beside: Beside, begun: &AtomicUsize, done: &AtomicBool) {
        let wait = |most| {
            begun.fetch_add(1, SeqCst);
            let start = Instant::now();
            while !done.load(SeqCst) && start.elapsed() < most {
                thread::sleep(Duration::from_millis(1));
            }
        };
        match beside {
            Beside::Nothing => {}
            Beside::Readers(_) => self.read(begun, done),
            Beside::Closure => {
                while !done.load(SeqCst) {
                    if !self.cache.hold(HELD, &|| wait(HOLD)) {
                        self.cache.insert(HELD, (self.value)());
                    }
                }
            }
            Beside::Iterator => self.cache.pause(&|| wait(Duration::MAX)),
            Beside::Stranger => {
                let _guard = crossbeam_epoch::pin();
                wait(Duration::MAX);
            }
        }
    }

    fn read(&self, begun: &AtomicUsize, done: &AtomicBool) {
        let keys: Vec<u32> = (0..READ).collect();
        begun.fetch_add(1, SeqCst);
        while !done.load(SeqCst) {
            black_box(self.other.read(&keys));
        }
    }
}

/// Has what waits to be dropped go, until so many values live.
fn drop_down_to(values: u64, settle: impl Fn()) {
    for _ in 0..100 {
        settle();
        let_go();
        if VALUES.live() as u64 <= values {
            return;
        }
    }
    eprintln!("the next peak begins with {} values, rather than {values}", VALUES.live());
}

/// A table of peaks: of one capacity, beside some things.
pub(crate) struct Setting<V> {
    pub(crate) capacity: u64,
    pub(crate) value: fn() -> V,
    pub(crate) threads: Vec<usize>,
    /// Fresh keys that all threads together insert in a run.
    pub(crate) inserts: u64,
    /// The largest of so many counts.
    pub(crate) runs: usize,
    pub(crate) besides: Vec<Beside>,
}

impl<V> Setting<V> {
    /// Returns what stands for each company in a table: its title, and a cell for each kind of cache, with a figure for each
    /// number of threads.
    pub(crate) fn rows(&self, kinds: &[Kind<V>]) -> Vec<Vec<String>> {
        let mut rows: Vec<_> = self.besides.iter().map(|beside| vec![beside.title()]).collect();
        for kind in kinds {
            eprintln!("peaks of {}, {} entries ...", kind.name, self.capacity);
            let pantry = Pantry::new(kind, self.capacity, self.value);
            for (&beside, row) in self.besides.iter().zip(&mut rows) {
                let figure =
                    |&threads| format!("{:.2}", pantry.peak(self.runs, threads, self.inserts, beside));
                row.push(self.threads.iter().map(figure).collect::<Vec<_>>().join(", "));
            }
            drop(pantry);
            drop_down_to(0, || ());
        }
        rows
    }
}
