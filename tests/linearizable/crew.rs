//! Crews of threads that run one program after another, and check what happened.
//!
//! There are more threads than cores, so that they are interrupted wherever they are.

use crate::actor::Actor;
use crate::checker::Search;
use crate::common::{quiet, size_from, until};
use crate::history::{Record, Stamps};
use crate::program::{Call, Program};
use crate::setup::{Family, Larder};
use crate::signals;
use crate::track::{Leniency, Track};
use crate::values::stumble_once_in;
use larder::Clock;
use std::collections::BinaryHeap;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// Threads that help the first one of a crew.
const HELPERS: usize = 3;
/// A history takes less time, in seconds.
const PATIENCE: u64 = 60;

/// A program that is being run.
struct Job {
    program: Program,
    cache: Larder,
    clock: Clock,
    stamps: Stamps,
    /// Threads that are ready to begin.
    ready: AtomicUsize,
    /// Threads that have not ended.
    left: AtomicUsize,
    records: Mutex<Vec<Record>>,
}

impl Job {
    fn new(program: Program) -> Self {
        let clock = Clock::manual();
        let cache = program.setup.build(&clock);
        let left = AtomicUsize::new(program.threads.len());
        let (stamps, ready, records) = Default::default();
        Self { program, cache, clock, stamps, ready, left, records }
    }

    /// Carries out some operations as the thread of this number.
    fn carry_out(&self, thread: usize, calls: &[Call]) {
        let Self { program, cache, clock, stamps, .. } = self;
        let mut actor = Actor { cache, clock, program, stamps, thread, from: 0, facts: Vec::new() };
        let records: Vec<_> = calls.iter().map(|call| actor.act(call)).collect();
        self.records.lock().unwrap().extend(records);
    }

    /// Carries out the operations of one thread, when all are ready.
    fn join_in(&self, thread: usize) {
        stumble_once_in(self.program.setup.odds, self.program.seed + thread as u64);
        self.ready.fetch_add(1, SeqCst);
        until(|| self.ready.load(SeqCst) == self.program.threads.len());
        self.carry_out(thread + 1, &self.program.threads[thread]);
        stumble_once_in(0, 0);
        self.left.fetch_sub(1, SeqCst);
    }

    /// Runs the program, with the help of others.
    fn run(self, helpers: &[mpsc::Sender<Arc<Self>>]) -> (Program, Vec<Record>) {
        let job = Arc::new(self);
        job.carry_out(0, &job.program.prelude);
        for helper in &helpers[..job.program.threads.len() - 1] {
            helper.send(Arc::clone(&job)).expect("it lives as long as this");
        }
        job.join_in(0);
        until(|| job.left.load(SeqCst) == 0);
        job.carry_out(0, &job.program.finale);
        let mut records = std::mem::take(&mut *job.records.lock().unwrap());
        records.sort_by_key(|record| record.from);
        job.cache.validate();
        (job.program.clone(), records)
    }
}

/// Counts of histories, and the shortest of those that are not linearizable.
#[derive(Default)]
struct Tally {
    histories: u64,
    /// Violations by kind.
    violations: [Violations; KINDS.len()],
}

/// Kinds of violations, each with what is to be let pass for a history to be linearizable; the last one, for nothing.
const KINDS: [(&str, Leniency); 6] = [
    ("have a drain that passes over an entry", Leniency { drains: true, ..Leniency::NONE }),
    ("void loads before they look at the key", Leniency { early: true, ..Leniency::NONE }),
    ("let a load survive", Leniency { early: true, survival: true, ..Leniency::NONE }),
    (
        "void loads because of a tag that the entry had before its end",
        Leniency { tags: true, ..Leniency::NONE },
    ),
    ("have several of these", Leniency::ALL),
    ("have something else", Leniency::ALL),
];

#[derive(Default)]
struct Violations {
    count: u64,
    /// Number of facts of the shortest ones, and their descriptions.
    shortest: BinaryHeap<(usize, String)>,
}

impl Violations {
    fn add(&mut self, program: &Program, records: &[Record], key: u64, deadlock: &str) {
        self.count += 1;
        let length = records.iter().map(|record| 2 + record.facts.len()).sum();
        self.shortest.push((length, described(program, records, key, deadlock)));
        if self.shortest.len() > size_from("LARDER_EXAMPLES", 1, 1) {
            self.shortest.pop();
        }
    }
}

fn described(program: &Program, records: &[Record], key: u64, deadlock: &str) -> String {
    let mut text = format!("seed {} of {:?}, key {key}\n", program.seed, program.setup);
    for record in records {
        let _ = writeln!(text, "  {record}");
    }
    let tags = program.tags.iter().enumerate().filter(|(_, tags)| **tags > 0);
    let _ = writeln!(text, "  tags, as bits, by value: {:?}", tags.collect::<Vec<_>>());
    text + deadlock
}

impl Tally {
    /// Checks a history, key by key.
    fn check(tally: &Mutex<Self>, program: &Program, records: &[Record]) {
        tally.lock().unwrap().histories += 1;
        for key in 0..program.keys {
            let track = |leniency| Track::new(program, records, key, leniency);
            let strict = track(Leniency::NONE);
            let mut search = Search::new(&strict);
            if search.succeeds() {
                continue;
            }
            let is_it = |(_, leniency)| Search::new(&track(leniency)).succeeds();
            let kind = KINDS.iter().position(|&kind| is_it(kind)).unwrap_or(KINDS.len() - 1);
            tally.lock().unwrap().violations[kind].add(program, records, key, &search.deadlock());
        }
    }

    fn report(&self) {
        println!("{} histories", self.histories);
        let mut has_any = false;
        for (violations, (kind, _)) in self.violations.iter().zip(KINDS) {
            if violations.count > 0 {
                println!("{} of them are not linearizable: they {kind}. The shortest:", violations.count);
                violations.shortest.iter().for_each(|(_, history)| println!("{history}"));
                has_any = true;
            }
        }
        assert!(!has_any, "not linearizable, see above; LARDER_HISTORY=<seed> repeats one program");
    }
}

/// State that the crews of a test share.
struct Shared {
    family: Family,
    /// The seed of the only program, if there is one.
    seed: Option<u64>,
    next: AtomicU64,
    end: u64,
    tally: Mutex<Tally>,
    /// Each crew's history.
    current: Vec<AtomicU64>,
}

/// Runs as many histories as the environment says, and fails if any of them is not linearizable.
pub fn check(family: Family, are_interrupted: bool) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone: MutexGuard<'_, ()> = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    quiet();
    let crews = size_from("LARDER_CREWS", 6, 2);
    let seed = std::env::var("LARDER_HISTORY").ok().map(|seed| seed.parse().expect("a number"));
    let shared = Arc::new(Shared {
        family,
        seed,
        next: AtomicU64::new(0),
        end: size_from("LARDER_HISTORIES", if cfg!(debug_assertions) { 5_000 } else { 30_000 }, 20) as u64,
        tally: Mutex::default(),
        current: (0..crews).map(|_| AtomicU64::new(0)).collect(),
    });
    let register = Arc::new(signals::Register::default());
    let leaders: Vec<_> = (0..crews).map(|crew| spawn(crew, &shared, &register)).collect();
    let done = Arc::new(AtomicBool::new(false));
    let interrupter = are_interrupted.then(|| register.interrupt_until(Arc::clone(&done)));
    watch(&shared, &leaders);
    done.store(true, SeqCst);
    interrupter.into_iter().for_each(|thread| thread.join().unwrap());
    register.release();
    leaders.into_iter().for_each(|leader| leader.join().unwrap());
    shared.tally.lock().unwrap().report();
}

/// Begins a crew.
fn spawn(crew: usize, shared: &Arc<Shared>, register: &Arc<signals::Register>) -> JoinHandle<()> {
    let (shared, register) = (Arc::clone(shared), Arc::clone(register));
    std::thread::spawn(move || {
        let helper = |thread: usize| {
            let (sender, jobs) = mpsc::channel::<Arc<Job>>();
            let register = Arc::clone(&register);
            let help = move || register.stay(|| jobs.iter().for_each(|job| job.join_in(thread)));
            (sender, std::thread::spawn(help))
        };
        let (senders, threads): (Vec<_>, Vec<_>) = (1..=HELPERS).map(helper).unzip();
        register.stay(|| {
            let result = catch_unwind(AssertUnwindSafe(|| lead(crew, &shared, &senders)));
            drop(senders);
            shared.current[crew].store(u64::MAX, SeqCst);
            result.unwrap_or_else(|payload| resume_unwind(payload));
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    })
}

/// Runs histories until there are enough.
fn lead(crew: usize, shared: &Shared, helpers: &[mpsc::Sender<Arc<Job>>]) {
    loop {
        let number = shared.next.fetch_add(1, Relaxed);
        if number >= shared.end {
            return;
        }
        let seed = shared.seed.unwrap_or(number);
        shared.current[crew].store(number, SeqCst);
        let run = || Job::new(Program::random(shared.family, seed)).run(helpers);
        let (program, records) = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
            println!("seed {seed} of {:?} panics", shared.family);
            resume_unwind(payload)
        });
        Tally::check(&shared.tally, &program, &records);
    }
}

/// Waits until all crews have ended. Panics if one hangs.
fn watch(shared: &Shared, leaders: &[JoinHandle<()>]) {
    let mut last = vec![(0, 0); leaders.len()];
    loop {
        let now = shared.current.iter().map(|current| current.load(SeqCst));
        for ((before, times), now) in last.iter_mut().zip(now) {
            *times = if now == *before && now != u64::MAX { *times + 1 } else { 0 };
            *before = now;
            let seed = shared.seed.unwrap_or(now);
            assert!(*times < PATIENCE * 100, "seed {seed} of {:?} hangs", shared.family);
        }
        if last.iter().all(|(current, _)| *current == u64::MAX) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
