//! Entries that are loaded anew before they end, or are good for something after, against a model: random operations by one
//! thread, by the manual clock, over all policies.
//!
//! The model follows what the documentation says. It knows of each entry when it was written, ends, and may be loaded anew;
//! and of each load under way who leads it, who waits for it, and whether what it brings may be kept. A step is done by the
//! cache first; then the model says what had to come of it: which value, whether the loader was called, who left and why.
//! Where the documentation leaves it open the model takes what it saw: see `is_unsure`. `LARDER_CASES` sets how many cases are
//! tried.
#![allow(missing_docs)]

mod common;

use common::loads::{Gate, Task};
use common::time::{tti, ttl};
use common::{Log, logged, policies, size_from};
use larder::{Cache, Clock, Computed, EvictionPolicy, InsertOptions, LoadError, Op, Refresh, RemovalCause};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

const KEYS: u64 = 4;
/// Each key carries one of these.
const TAGS: u64 = 2;
/// No end.
const NEVER: u64 = u64::MAX;
/// The time of the next attempt may be as much too early.
const ROUNDING: u64 = 256;

/// Whether the faults are still there that `stale_faults.rs` shows.
const FAULTS: bool = true;

#[derive(Clone, Debug)]
struct Setup {
    policy: EvictionPolicy,
    segments: usize,
    capacity: u64,
    start: u64,
    ttl: Option<u64>,
    tti: Option<u64>,
    max_reads: Option<u64>,
    refresh_after: Option<u64>,
    revalidate: u64,
    on_error: u64,
    backoff: u64,
    has_hook: bool,
    has_ages: bool,
}

/// A call for one key.
#[derive(Clone, Debug)]
struct Load {
    key: u64,
    /// Whether it is a `refresh`.
    is_anew: bool,
    may_fail: bool,
    /// Whether it is no task, if it would not wait.
    is_sync: bool,
    /// Whether the loader succeeds, if it ends at once.
    outcome: Option<bool>,
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    InsertWith(u64, InsertOptions, u64, u64),
    Get(u64),
    Load(Load),
    /// What the loader gives, if it succeeds, of the keys and beside them.
    LoadMany(Vec<u64>, Option<Vec<u64>>),
    /// A loader ends that is under way, or its caller is dropped.
    End(usize, Option<bool>),
    DropJoiner(usize),
    /// A `Refresh` is completed or dropped.
    Complete(usize, bool),
    Remove(u64),
    RemoveIf(u64, bool),
    Invalidate(u64),
    Retain(u64),
    Drain,
    InvalidateAll,
    InvalidateTag(u64),
    ComputeInsert(u64),
    ComputeRemove(u64),
    ComputeKeep(u64),
    Advance(u64),
    /// To one of the times at which something changes, or so much before it.
    AdvanceTo(usize, u64),
    RunPendingTasks,
}

/// Short spans most often, so that much happens at about the same time.
fn span() -> impl Strategy<Value = u64> {
    prop_oneof![
        12 => (1..40_u64).prop_map(|n| n * 1_000),
        // Some ticks of the wheel.
        1 => (1..20_u64).prop_map(|n| n << 18),
        1 => 0..3_u64,
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || 0..KEYS;
    let some_of = || prop::collection::btree_set(0..KEYS, 1..4).prop_map(|keys| keys.into_iter().collect());
    let outcome = prop_oneof![3 => Just(None), 2 => Just(Some(true)), 2 => Just(Some(false))];
    let load = (key(), prop::bool::weighted(0.15), any::<bool>(), any::<bool>(), outcome);
    let load = load.prop_map(|(key, is_anew, may_fail, is_sync, outcome)| Load {
        key,
        is_anew,
        may_fail,
        is_sync,
        outcome,
    });
    let life = (key(), prop::option::of(span()), prop::option::weighted(0.2, span()));
    let with_life = |(key, ends, idles): (u64, Option<u64>, Option<u64>)| {
        let (end, idle) = (ends.unwrap_or(NEVER), idles.unwrap_or(NEVER));
        let options = match (ends, idles) {
            (Some(end), Some(idle)) => ttl(Duration::from_nanos(end)).tti(Duration::from_nanos(idle)),
            (Some(end), None) => ttl(Duration::from_nanos(end)),
            (None, Some(idle)) => tti(Duration::from_nanos(idle)),
            (None, None) => InsertOptions::new(),
        };
        Step::InsertWith(key, options, end, idle)
    };
    let ends_one = prop_oneof![
        1 => key().prop_map(Step::Remove),
        3 => key().prop_map(|key| Step::RemoveIf(key, false)),
        1 => key().prop_map(|key| Step::RemoveIf(key, true)),
        1 => key().prop_map(Step::Invalidate),
        1 => key().prop_map(Step::ComputeRemove),
    ];
    let ends_many = prop_oneof![
        2 => (1..4_u64).prop_map(Step::Retain),
        1 => Just(Step::Drain),
        1 => Just(Step::InvalidateAll),
        2 => (0..TAGS).prop_map(Step::InvalidateTag),
    ];
    let step = prop_oneof![
        12 => key().prop_map(Step::Insert),
        4 => life.prop_map(with_life),
        6 => key().prop_map(Step::Get),
        50 => load.prop_map(Step::Load),
        10 => (some_of(), prop::option::of(some_of())).prop_map(|(keys, given)| Step::LoadMany(keys, given)),
        24 => (any::<usize>(), prop::option::weighted(0.8, any::<bool>())).prop_map(|(at, end)| Step::End(at, end)),
        2 => any::<usize>().prop_map(Step::DropJoiner),
        10 => (any::<usize>(), any::<bool>()).prop_map(|(at, yes)| Step::Complete(at, yes)),
        5 => ends_one,
        2 => ends_many,
        2 => key().prop_map(Step::ComputeInsert),
        2 => key().prop_map(Step::ComputeKeep),
        5 => span().prop_map(Step::Advance),
        30 => (0..4_usize, prop_oneof![2 => Just(0), 1 => Just(1)]).prop_map(|(at, off)| Step::AdvanceTo(at, off)),
        4 => Just(Step::RunPendingTasks),
    ];
    prop::collection::vec(step, 1..160)
}

fn setups(capacity: impl Strategy<Value = u64>) -> impl Strategy<Value = Setup> {
    let place =
        (prop::sample::select(policies()), prop::sample::select(vec![1, 4]), capacity, 0..1_u64 << 40);
    let lives = (
        prop::option::weighted(0.8, span()),
        prop::option::weighted(0.3, span()),
        prop::option::weighted(0.15, 1..5_u64),
    );
    let none_or = || prop_oneof![1 => Just(0), 3 => span()];
    let backoff = (1..30_u64).prop_map(|n| n * 1_000);
    let soft = (
        prop::option::weighted(0.7, (0..8_u64).prop_map(|n| n * 1_000)),
        none_or(),
        none_or(),
        backoff,
        prop::bool::weighted(0.3),
    );
    (place, lives, soft, any::<bool>()).prop_map(|(place, lives, soft, has_ages)| Setup {
        policy: place.0,
        segments: place.1,
        capacity: place.2,
        start: place.3,
        ttl: lives.0,
        tti: lives.1,
        max_reads: lives.2,
        refresh_after: soft.0,
        revalidate: soft.1,
        on_error: soft.2,
        backoff: soft.3,
        has_hook: soft.4,
        has_ages,
    })
}

#[derive(Clone, Debug)]
struct Entry {
    id: u64,
    written: u64,
    /// Beyond which reads do not move the deadline.
    end: u64,
    tti: u64,
    deadline: u64,
    reads: u64,
    /// Whether somebody loads it anew.
    is_claimed: bool,
    failures: u32,
    /// When loading it anew may be tried again.
    retry: u64,
    /// It is not said when loading it anew is tried.
    is_unsure: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Fresh,
    Due,
    Stale,
    /// Over, and to load it has just failed.
    Waiting,
    Failing,
    Absent,
}

/// A load that is under way.
#[derive(Debug)]
struct Flight {
    number: u64,
    key: u64,
    /// Whether the key was neither written nor made invalid since.
    is_valid: bool,
    /// Whether its tag was invalidated since.
    is_tagged: bool,
    is_refresh: bool,
    /// The entry that was found due.
    claim: Option<u64>,
    elsewhere: Option<Refresh<u64, u64>>,
}

#[derive(Clone, Copy, Debug)]
enum Given {
    Value(u64),
    Error,
    /// It was given up.
    Nothing,
}

/// The value that was found, and whether it was over.
#[derive(Clone, Copy, Debug)]
struct Old {
    id: u64,
    was_over: bool,
}

enum Look {
    Hit(u64),
    Renews(Old),
    Misses,
}

type Loaded = Result<u64, ()>;

enum Role {
    Leads(u64, Option<Old>),
    /// Waits for another's flight, and whether that was out of date already.
    Joins(u64, bool),
}

/// A call that is under way.
struct Call {
    load: Load,
    /// What its loader gives.
    id: u64,
    gate: Gate<bool>,
    is_called: Arc<AtomicBool>,
    task: Task<'static, Loaded>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    hits: u64,
    misses: u64,
    loads: u64,
    load_failures: u64,
    waits: u64,
    refreshes: u64,
    refresh_failures: u64,
}

struct Model {
    setup: Setup,
    cache: Cache<u64, u64>,
    clock: Clock,
    now: u64,
    log: Log<u64, u64>,
    /// What the hook was given.
    handed: Arc<Mutex<Vec<Refresh<u64, u64>>>>,
    /// What is in the cache, over or not.
    entries: BTreeMap<u64, Entry>,
    flights: Vec<Flight>,
    calls: Vec<(Call, Role)>,
    last: u64,
    counts: Counts,
    /// At least and at most.
    stale: [u64; 2],
    /// What must have left with this step, and whether it was over.
    must: BTreeMap<u64, (RemovalCause, bool)>,
    /// Of this key what is over may have left.
    may_end: Option<u64>,
}

fn plain<E>(result: Result<u64, LoadError<E>>) -> Loaded {
    result.map_err(|error| assert!(matches!(error, LoadError::Failed(_))))
}

impl Model {
    fn new(setup: Setup) -> Self {
        let clock = Clock::manual_at(Duration::from_nanos(setup.start));
        let handed: Arc<Mutex<Vec<_>>> = Arc::default();
        let mut builder = Cache::builder()
            .max_capacity(setup.capacity)
            .segments(setup.segments)
            .eviction_policy(setup.policy.clone())
            .tags(|key, _| [key % TAGS])
            .record_stats()
            .stale_while_revalidate(Duration::from_nanos(setup.revalidate))
            .stale_if_error(Duration::from_nanos(setup.on_error))
            .refresh_backoff(Duration::from_nanos(setup.backoff))
            .clock(clock.clone());
        if let Some(time) = setup.ttl {
            builder = builder.time_to_live(Duration::from_nanos(time));
        }
        if let Some(time) = setup.tti {
            builder = builder.time_to_idle(Duration::from_nanos(time));
        }
        if let Some(time) = setup.refresh_after {
            builder = builder.refresh_after_write(Duration::from_nanos(time));
        }
        if let Some(reads) = setup.max_reads {
            builder = builder.max_reads(reads);
        }
        if setup.has_ages {
            builder = builder.record_ages();
        }
        if setup.has_hook {
            let handed = Arc::clone(&handed);
            builder = builder.refresh_with(move |refresh| handed.lock().unwrap().push(refresh));
        }
        let (builder, log) = logged(builder);
        Self {
            now: setup.start.max(1),
            setup,
            cache: builder.build().unwrap(),
            clock,
            log,
            handed,
            entries: BTreeMap::new(),
            flights: Vec::new(),
            calls: Vec::new(),
            last: 0,
            counts: Counts::default(),
            stale: [0; 2],
            must: BTreeMap::new(),
            may_end: None,
        }
    }

    fn id(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn grace(&self) -> u64 {
        self.setup.revalidate.max(self.setup.on_error)
    }

    fn is_over(&self, entry: &Entry) -> bool {
        entry.deadline <= self.now
    }

    /// Whether the entry of a key is good for nothing any more.
    fn is_gone(&self, key: u64) -> bool {
        let end = |entry: &Entry| entry.deadline.saturating_add(self.grace());
        self.entries.get(&key).is_some_and(|entry| end(entry) <= self.now)
    }

    /// The entry of a key, if it is not over.
    fn seen(&self, key: u64) -> Option<&Entry> {
        self.entries.get(&key).filter(|entry| !self.is_over(entry))
    }

    fn seen_id(&self, key: u64) -> Option<u64> {
        self.seen(key).map(|entry| entry.id)
    }

    fn stage(&self, key: u64) -> Stage {
        let Some(entry) = self.entries.get(&key) else { return Stage::Absent };
        if !self.is_over(entry) {
            let is_due = self.setup.refresh_after.is_some_and(|time| entry.written + time <= self.now);
            return if is_due { Stage::Due } else { Stage::Fresh };
        }
        match self.now - entry.deadline {
            late if late < self.setup.revalidate => Stage::Stale,
            late if late >= self.setup.on_error => Stage::Absent,
            _ if !entry.is_claimed && self.now < entry.retry => Stage::Waiting,
            _ => Stage::Failing,
        }
    }

    /// The load that who misses the key joins.
    fn flight(&mut self, key: u64) -> Option<&mut Flight> {
        self.flights.iter_mut().find(|flight| flight.key == key && flight.is_valid)
    }

    /// The key was written or made invalid: nobody joins what is under way, and it is not kept.
    fn void(&mut self, key: u64) {
        if let Some(flight) = self.flight(key) {
            flight.is_valid = false;
        }
    }

    /// What is good for nothing any more may stay for a while.
    fn leaves(&mut self, key: u64) {
        if !self.is_gone(key)
            && let Some(entry) = self.entries.remove(&key)
        {
            let cause = if self.is_over(&entry) { RemovalCause::Expired } else { RemovalCause::Explicit };
            self.must.insert(entry.id, (cause, self.is_over(&entry)));
        }
    }

    fn removed(&mut self, key: u64) {
        self.leaves(key);
        self.void(key);
    }

    fn written(&mut self, key: u64, id: u64, [ttl, tti]: [u64; 2], is_loaded: bool) {
        if let Some(old) = self.entries.remove(&key) {
            let is_kept = is_loaded && self.now < old.deadline.saturating_add(self.grace());
            let is_replaced = is_kept || !self.is_over(&old);
            let cause = if is_replaced { RemovalCause::Replaced } else { RemovalCause::Expired };
            self.must.insert(old.id, (cause, self.is_over(&old)));
        }
        self.void(key);
        let life = |own: u64, general: Option<u64>| if own == NEVER { general.unwrap_or(NEVER) } else { own };
        let (end, tti) = (self.now.saturating_add(life(ttl, self.setup.ttl)), life(tti, self.setup.tti));
        let entry = Entry {
            id,
            written: self.now,
            end,
            tti,
            deadline: end.min(self.now.saturating_add(tti)),
            reads: self.setup.max_reads.unwrap_or(NEVER),
            is_claimed: false,
            failures: 0,
            retry: 0,
            is_unsure: false,
        };
        self.entries.insert(key, entry);
    }

    /// The value is given, over or not.
    fn read(&mut self, key: u64) -> u64 {
        let entry = self.entries.get_mut(&key).expect("it is there");
        let id = entry.id;
        if entry.tti != NEVER && self.now < entry.deadline {
            entry.deadline = entry.end.min(self.now.saturating_add(entry.tti));
        }
        entry.reads -= u64::from(self.setup.max_reads.is_some());
        if entry.reads == 0 {
            self.entries.remove(&key);
            self.must.insert(id, (RemovalCause::Expired, true));
        }
        id
    }

    fn stale(&mut self, least: bool, most: bool) {
        self.stale[0] += u64::from(least);
        self.stale[1] += u64::from(most);
    }

    fn fails(&mut self, key: u64) {
        let (now, backoff) = (self.now, self.setup.backoff);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.retry = now + (backoff << entry.failures.min(6));
            entry.failures += 1;
            entry.is_claimed = false;
        }
    }

    /// A caller who brings a loader looks at the key. `was_called` and `is_ready` are what came of it.
    fn look(&mut self, key: u64, was_called: bool, is_ready: bool) -> Look {
        let (stage, is_loaded) = (self.stage(key), self.flight(key).is_some());
        let is_handed = self.handed.lock().unwrap().iter().any(|refresh| *refresh.key() == key);
        let is_valid = |id| self.flights.iter().any(|flight| flight.is_valid && flight.claim == Some(id));
        let Some(entry) = self.entries.get_mut(&key).filter(|_| stage != Stage::Absent) else {
            self.counts.misses += 1;
            return Look::Misses;
        };
        // The one who loads it anew is out of date, but the entry has stayed: does another do so meanwhile?
        let is_unsure = entry.is_unsure || entry.is_claimed && !is_valid(entry.id);
        let is_hit = match stage {
            Stage::Waiting | Stage::Failing if is_unsure => is_ready && !was_called,
            stage => stage != Stage::Failing,
        };
        if !is_hit {
            self.counts.misses += 1;
            return Look::Misses;
        }
        self.counts.hits += 1;
        let may_renew =
            matches!(stage, Stage::Due | Stage::Stale) && !entry.is_claimed && entry.retry <= self.now;
        // Another's `refresh` is under way.
        entry.is_unsure |= may_renew && is_loaded;
        let renews = if is_unsure || entry.is_unsure { was_called || is_handed } else { may_renew };
        entry.is_unsure |= renews && entry.is_claimed;
        entry.is_claimed |= renews;
        let old = Old { id: entry.id, was_over: self.now >= entry.deadline };
        self.read(key);
        if renews && !self.setup.has_hook {
            return Look::Renews(old);
        }
        if renews {
            let mut handed = self.handed.lock().unwrap();
            let at = handed.iter().position(|refresh| *refresh.key() == key).expect("the hook was called");
            let refresh = handed.swap_remove(at);
            drop(handed);
            self.lead(key, true, Some(old), Some(refresh));
        }
        self.stale(old.was_over, old.was_over);
        Look::Hit(old.id)
    }

    fn lead(
        &mut self,
        key: u64,
        is_refresh: bool,
        old: Option<Old>,
        elsewhere: Option<Refresh<u64, u64>>,
    ) -> u64 {
        let (number, claim) = (self.id(), old.map(|old| old.id));
        let (is_valid, is_tagged) = (true, false);
        self.flights.push(Flight { number, key, is_valid, is_tagged, is_refresh, claim, elsewhere });
        number
    }

    /// A load has come to its end.
    fn land(&mut self, number: u64, given: Given) {
        let at = self.flights.iter().position(|flight| flight.number == number).expect("it is under way");
        let flight = self.flights.remove(at);
        let key = flight.key;
        if flight.is_refresh {
            match given {
                Given::Value(_) => self.counts.refreshes += 1,
                Given::Error | Given::Nothing => self.counts.refresh_failures += 1,
            }
        }
        let entry = self.entries.get_mut(&key);
        let claimed = entry.filter(|entry| flight.claim.is_none_or(|id| id == entry.id));
        match (given, claimed) {
            (Given::Value(_), Some(entry)) if flight.claim.is_some() => {
                entry.is_claimed = false;
                entry.is_unsure |= FAULTS;
            }
            (Given::Error | Given::Nothing, Some(_)) if flight.claim.is_some() => self.fails(key),
            // Does that put off the next attempt?
            (Given::Error | Given::Nothing, Some(entry)) if flight.is_refresh => entry.is_unsure = true,
            _ => {}
        }
        if let Given::Value(id) = given
            && flight.is_valid
            && !flight.is_tagged
        {
            self.written(key, id, [NEVER; 2], true);
        }
    }

    /// What is there for one whose loader has failed, or who waited for one that has.
    fn rescue(&mut self, key: u64, is_own: bool, seen: Loaded) -> Loaded {
        match self.stage(key) {
            Stage::Absent => return Err(()),
            // Written meanwhile.
            Stage::Fresh | Stage::Due if seen.is_err() => return Err(()),
            Stage::Fresh | Stage::Due => {}
            stage => {
                self.stale(true, true);
                if is_own && stage == Stage::Failing {
                    self.fails(key);
                }
            }
        }
        Ok(self.read(key))
    }

    fn call(&mut self, load: &Load) {
        let mut load = load.clone();
        load.may_fail |= load.outcome == Some(false);
        let (cache, id, key, is_anew) = (self.cache.clone(), self.id(), load.key, load.is_anew);
        let (gate, is_called) = (Gate::default(), Arc::new(AtomicBool::new(false)));
        let (ends, calls, may_fail) = (gate.get(), Arc::clone(&is_called), load.may_fail);
        let mut task = Task::new(async move {
            let loader = |_: &u64| {
                calls.store(true, SeqCst);
                async move { if ends.await { Ok(id) } else { Err(()) } }
            };
            match (is_anew, may_fail) {
                (false, false) => Ok(cache.get_or_load_async(key, |key| unwrapped(loader(key))).await),
                (false, true) => plain(cache.try_get_or_load_async(key, loader).await),
                (true, false) => Ok(cache.refresh_async(key, |key| unwrapped(loader(key))).await),
                (true, true) => plain(cache.try_refresh_async(key, loader).await),
            }
        });
        let polled = match load.outcome {
            Some(succeeds) if load.is_sync && self.flight(key).is_none() => {
                let loader = |_: &u64| {
                    is_called.store(true, SeqCst);
                    if succeeds { Ok(id) } else { Err(()) }
                };
                let cache = &self.cache;
                Poll::Ready(match (is_anew, load.may_fail) {
                    (false, false) => Ok(cache.get_or_load(key, |key| loader(key).unwrap())),
                    (false, true) => plain(cache.try_get_or_load(key, loader)),
                    (true, false) => Ok(cache.refresh(key, |key| loader(key).unwrap())),
                    (true, true) => plain(cache.try_refresh(key, loader)),
                })
            }
            outcome => {
                outcome.into_iter().for_each(|succeeds| gate.give(succeeds));
                task.poll()
            }
        };
        self.goes_on(Call { load, id, gate, is_called, task }, polled, true);
    }

    /// A call has begun, or what it waited for has come to nothing.
    fn goes_on(&mut self, call: Call, polled: Poll<Loaded>, is_first: bool) {
        let (key, is_anew) = (call.load.key, call.load.is_anew);
        let was_called = call.is_called.swap(false, SeqCst);
        let result = match polled {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        };
        let mut old = None;
        if is_first && !is_anew {
            match self.look(key, was_called, result.is_some()) {
                Look::Hit(id) => return assert_eq!((was_called, result), (false, Some(Ok(id)))),
                Look::Renews(found) => old = Some(found),
                Look::Misses => {}
            }
        } else if !is_anew && self.seen(key).is_some() {
            return assert_eq!((was_called, result), (false, Some(Ok(self.read(key)))));
        }
        if old.is_none()
            && let Some(flight) = self.flight(key)
        {
            // Nobody knows what carries a tag before it is loaded: a new load may begin, but need not.
            flight.is_valid = !(flight.is_tagged && was_called);
            if flight.is_valid {
                let role = Role::Joins(flight.number, flight.is_tagged);
                assert_eq!((was_called, result), (false, None), "one waits for who loads");
                self.counts.waits += 1;
                return self.calls.push((call, role));
            }
        }
        assert!(was_called, "nobody else loads");
        let number = self.lead(key, is_anew || old.is_some(), old, None);
        match (call.load.outcome, result) {
            (Some(succeeds), Some(result)) => self.ends(&call, number, old, succeeds, result),
            (None, None) => self.calls.push((call, Role::Leads(number, old))),
            (_, result) => panic!("the loader of {key} ends early or late: {result:?}"),
        }
    }

    /// A loader has come to its end, and its caller got `result`.
    fn ends(&mut self, call: &Call, number: u64, old: Option<Old>, succeeds: bool, result: Loaded) {
        let given = if succeeds { Given::Value(call.id) } else { Given::Error };
        *(if succeeds { &mut self.counts.loads } else { &mut self.counts.load_failures }) += 1;
        let key = call.load.key;
        let is_over = self.seen(key).is_none();
        self.land(number, given);
        let expected = match (given, old) {
            (Given::Value(id), _) => Ok(id),
            (_, Some(old)) => {
                self.stale(old.was_over, old.was_over || is_over);
                Ok(old.id)
            }
            (_, None) if call.load.is_anew => Err(()),
            (_, None) => self.rescue(key, true, result),
        };
        assert_eq!(result, expected, "who loads {key}");
        self.settle(number, given);
    }

    /// Those who waited go on.
    fn settle(&mut self, number: u64, given: Given) {
        let is_joiner = |call: &mut (Call, Role)| matches!(call.1, Role::Joins(other, _) if other == number);
        let joiners: Vec<_> = self.calls.extract_if(.., is_joiner).collect();
        for (mut call, role) in joiners {
            let polled = call.task.poll();
            let key = call.load.key;
            match (given, role, polled) {
                (Given::Value(id), Role::Joins(_, false), _) => {
                    assert_eq!(polled, Poll::Ready(Ok(id)), "{key}")
                }
                (Given::Error, _, Poll::Ready(result)) if call.load.may_fail => {
                    let is_anew = call.load.is_anew;
                    let expected = if is_anew { Err(()) } else { self.rescue(key, false, result) };
                    assert_eq!(result, expected, "who waits for {key}");
                }
                _ => self.goes_on(call, polled, false),
            }
        }
    }

    /// Asks for many keys, none of which this thread would wait for. The loader gives what is `given`, if anything.
    fn call_for_many(&mut self, keys: &[u64], given: Option<&[u64]>) {
        let is_there = |stage| matches!(stage, Stage::Fresh | Stage::Due | Stage::Stale);
        let keys: Vec<u64> = keys.to_vec();
        let keys: Vec<u64> =
            keys.into_iter().filter(|&key| is_there(self.stage(key)) || self.flight(key).is_none()).collect();
        let values: Option<BTreeMap<u64, u64>> =
            given.map(|given| given.iter().map(|&key| (key, self.id())).collect());
        let mut asked: Vec<u64> = Vec::new();
        let result = self.cache.try_get_all_or_load(keys.clone(), |wanted| {
            assert!(asked.is_empty(), "one call");
            asked = wanted.to_vec();
            asked.sort_unstable();
            values.clone().ok_or(())
        });
        let result: Result<BTreeMap<u64, u64>, ()> =
            result.map(|found| found.into_iter().collect()).map_err(|_| ());
        let (mut found, mut led) = (BTreeMap::new(), Vec::new());
        for &key in &keys {
            let was_asked = asked.contains(&key);
            let old = match self.look(key, was_asked, true) {
                Look::Hit(id) => {
                    found.insert(key, id);
                    continue;
                }
                Look::Renews(old) => Some(old),
                Look::Misses => None,
            };
            led.push((key, old, self.lead(key, old.is_some(), old, None)));
        }
        assert_eq!(asked, led.iter().map(|led| led.0).collect::<Vec<_>>(), "for these the loader is called");
        if led.is_empty() {
            return assert_eq!(result, Ok(found));
        }
        *(if values.is_some() { &mut self.counts.loads } else { &mut self.counts.load_failures }) += 1;
        let mut is_failed = false;
        for &(key, old, number) in &led {
            let value = values.as_ref().map(|values| values.get(&key).copied());
            let landing = match value {
                Some(Some(id)) => Given::Value(id),
                Some(None) => Given::Nothing,
                None => Given::Error,
            };
            self.land(number, landing);
            let got = match (landing, old) {
                (Given::Value(id), _) => Some(id),
                (_, Some(old)) => {
                    // Where another key fails it is not given after all.
                    let is_given = result.is_ok() && !(FAULTS && matches!(landing, Given::Nothing));
                    self.stale(old.was_over && is_given, old.was_over);
                    Some(old.id)
                }
                (Given::Nothing, None) => None,
                (Given::Error, None) => {
                    let least = self.stale[0];
                    let rescued = self.rescue(key, true, Ok(0));
                    if result.is_err() {
                        self.stale[0] = least;
                    }
                    is_failed |= rescued.is_err();
                    rescued.ok()
                }
            };
            got.into_iter().for_each(|id| _ = found.insert(key, id));
        }
        assert_eq!(result, if is_failed { Err(()) } else { Ok(found) });
        for (key, id) in values.into_iter().flatten().filter(|(key, _)| !asked.contains(key)) {
            self.written(key, id, [NEVER; 2], true);
        }
    }

    fn end(&mut self, at: usize, end: Option<bool>) {
        let leads = |(_, call): &(usize, &(Call, Role))| matches!(call.1, Role::Leads(..));
        let leaders: Vec<usize> = self.calls.iter().enumerate().filter(leads).map(|(at, _)| at).collect();
        if leaders.is_empty() {
            return;
        }
        let (mut call, Role::Leads(number, old)) = self.calls.remove(leaders[at % leaders.len()]) else {
            unreachable!("it leads")
        };
        match end {
            Some(succeeds) => {
                let succeeds = succeeds || !call.load.may_fail;
                call.gate.give(succeeds);
                let result = call.task.ready();
                self.ends(&call, number, old, succeeds, result);
            }
            None => {
                drop(call);
                self.land(number, Given::Nothing);
                self.settle(number, Given::Nothing);
            }
        }
    }

    fn complete(&mut self, at: usize, succeeds: bool) {
        let elsewhere: Vec<&mut Flight> =
            self.flights.iter_mut().filter(|flight| flight.elsewhere.is_some()).collect();
        if elsewhere.is_empty() {
            return;
        }
        let at = at % elsewhere.len();
        let flight = elsewhere.into_iter().nth(at).expect("there are more");
        let (number, refresh) = (flight.number, flight.elsewhere.take().expect("it has one"));
        let id = self.id();
        let given = if succeeds { Given::Value(id) } else { Given::Nothing };
        if succeeds {
            refresh.complete(id);
            self.counts.loads += 1;
        } else {
            drop(refresh);
        }
        self.land(number, given);
        self.settle(number, given);
    }

    fn advance(&mut self, to: u64) {
        let mut to = to.max(self.now);
        // It is not said how exact this is.
        while let Some(entry) =
            self.entries.values().find(|entry| entry.retry > to && entry.retry - to < ROUNDING)
        {
            to = entry.retry;
        }
        self.clock.advance(Duration::from_nanos(to - self.now));
        self.now = to;
    }

    /// When something changes.
    fn times(&self) -> Vec<u64> {
        let of_entry = |entry: &Entry| {
            let due = self.setup.refresh_after.map_or(NEVER, |time| entry.written + time);
            let over = |time| entry.deadline.saturating_add(time);
            [
                due,
                over(0),
                over(self.setup.revalidate),
                over(self.setup.on_error),
                entry.retry,
                entry.retry - entry.retry.min(ROUNDING),
            ]
        };
        let times = self.entries.values().flat_map(of_entry);
        times.filter(|&time| time != NEVER && time > self.now).collect()
    }

    fn run(&mut self, step: &Step) {
        let cache = self.cache.clone();
        match *step {
            Step::Insert(key) => {
                let id = self.id();
                cache.insert(key, id);
                self.written(key, id, [NEVER; 2], false);
            }
            Step::InsertWith(key, ref options, ttl, tti) => {
                let id = self.id();
                cache.insert_with(key, id, options.clone());
                self.written(key, id, [ttl, tti], false);
            }
            Step::Get(key) => {
                let expected = self.seen_id(key);
                assert_eq!(cache.get(&key), expected);
                *(if expected.is_some() { &mut self.counts.hits } else { &mut self.counts.misses }) += 1;
                expected.into_iter().for_each(|_| _ = self.read(key));
            }
            Step::Load(ref load) => self.call(load),
            Step::LoadMany(ref keys, ref given) => self.call_for_many(keys, given.as_deref()),
            Step::End(at, end) => self.end(at, end),
            Step::DropJoiner(at) => {
                let at = at % self.calls.len().max(1);
                if matches!(self.calls.get(at), Some((_, Role::Joins(..)))) {
                    self.calls.remove(at);
                }
            }
            Step::Complete(at, succeeds) => self.complete(at, succeeds),
            Step::Remove(key) => {
                assert_eq!(cache.remove(&key), self.seen_id(key));
                self.removed(key);
            }
            Step::RemoveIf(key, yes) => {
                assert_eq!(cache.remove_if(&key, |_, _| yes), self.seen_id(key).filter(|_| yes));
                if yes || self.seen(key).is_none() {
                    self.leaves(key);
                }
                self.void(key);
            }
            Step::Invalidate(key) => {
                assert_eq!(cache.invalidate(&key), self.seen(key).is_some());
                self.removed(key);
            }
            Step::Retain(n) => {
                cache.retain(|key, _| key % n == 0);
                for key in 0..KEYS {
                    if key % n != 0 || self.seen(key).is_none() {
                        self.leaves(key);
                    }
                    self.void(key);
                }
            }
            Step::Drain => {
                let drained: BTreeMap<_, _> = cache.drain().collect();
                assert_eq!(drained, self.view());
                (0..KEYS).for_each(|key| self.removed(key));
            }
            Step::InvalidateAll => {
                cache.invalidate_all();
                (0..KEYS).for_each(|key| self.removed(key));
            }
            Step::InvalidateTag(tag) => {
                cache.invalidate_tag(tag);
                for key in (0..KEYS).filter(|key| key % TAGS == tag) {
                    self.leaves(key);
                    self.flight(key).into_iter().for_each(|flight| flight.is_tagged = true);
                }
            }
            Step::ComputeInsert(key) => {
                let id = self.id();
                let mut seen = None;
                let computed = cache.compute(key, |now| {
                    seen = now.copied();
                    Op::Insert(id)
                });
                assert_eq!(seen, self.seen_id(key));
                assert_eq!(matches!(computed, Computed::Replaced(_)), seen.is_some());
                self.written(key, id, [NEVER; 2], false);
            }
            Step::ComputeRemove(key) => {
                let is_removed = matches!(cache.compute(key, |_| Op::Remove), Computed::Removed(_));
                assert_eq!(is_removed, self.seen(key).is_some());
                self.removed(key);
            }
            // Is a load out of date after that?
            Step::ComputeKeep(key) if self.flights.iter().all(|flight| flight.key != key) => {
                let mut seen = None;
                cache.compute(key, |now| {
                    seen = now.copied();
                    Op::Keep
                });
                assert_eq!(seen, self.seen_id(key));
                self.may_end = Some(key);
            }
            Step::ComputeKeep(_) => {}
            Step::Advance(time) => self.advance(self.now + time),
            Step::AdvanceTo(at, off) => {
                let mut times = self.times();
                times.sort_unstable();
                let time = if times.is_empty() { self.now + 1 } else { times[at % times.len()] };
                self.advance(time - off);
            }
            Step::RunPendingTasks => {
                cache.run_pending_tasks();
                let (grace, now) = (self.grace(), self.now);
                let is_gone = |entry: &Entry| entry.deadline.saturating_add(grace) >> 20 < now >> 20;
                let gone = self.entries.extract_if(.., |_, entry| is_gone(entry)).map(|(_, entry)| entry.id);
                self.must.extend(gone.map(|id| (id, (RemovalCause::Expired, true))));
            }
        }
        self.account();
        self.check();
    }

    /// What has left, against what must have and may have.
    fn account(&mut self) {
        let can_evict = self.setup.capacity < KEYS;
        let may_end = self.may_end.take();
        for (key, id, cause) in std::mem::take(&mut *self.log.lock().unwrap()) {
            let is_room_made = can_evict && matches!(cause, RemovalCause::Size | RemovalCause::Rejected);
            let context = format!("{id} of {key} leaves as {cause}, at {}", self.now);
            if let Some((expected, was_over)) = self.must.remove(&id) {
                let is_room_made = is_room_made || can_evict && was_over && cause == RemovalCause::Expired;
                assert!(cause == expected || is_room_made, "{context}, not {expected}");
                continue;
            }
            let entry = self.entries.remove(&key).unwrap_or_else(|| panic!("{context}, and was not there"));
            assert_eq!(entry.id, id, "{context}");
            let is_gone = entry.deadline.saturating_add(self.grace()) <= self.now;
            let may_expire = is_gone || (can_evict || may_end == Some(key)) && self.is_over(&entry);
            assert!(is_room_made || cause == RemovalCause::Expired && may_expire, "{context}");
        }
        assert!(self.must.is_empty(), "not heard of {:?} at {}", self.must, self.now);
    }

    fn view(&self) -> BTreeMap<u64, u64> {
        (0..KEYS).filter_map(|key| Some((key, self.seen_id(key)?))).collect()
    }

    /// All that can be seen is what the model has, and the books are right.
    fn check(&mut self) {
        let (cache, view) = (&self.cache, self.view());
        cache.validate();
        for key in 0..KEYS {
            assert_eq!(cache.peek(&key), view.get(&key).copied(), "{key}");
            assert_eq!(cache.contains_key(&key), view.contains_key(&key), "{key}");
            let (metadata, entry) = (cache.metadata(&key), self.seen(key));
            assert_eq!(metadata.is_some(), entry.is_some(), "{key}");
            if let (Some(metadata), Some(entry)) = (metadata, entry) {
                let has_ages = self.setup.has_ages || self.setup.refresh_after.is_some();
                let age = has_ages.then(|| Duration::from_nanos(self.now - entry.written));
                let remaining =
                    (entry.deadline != NEVER).then(|| Duration::from_nanos(entry.deadline - self.now));
                assert_eq!((metadata.age, metadata.remaining), (age, remaining), "{key}");
                assert_eq!(metadata.reads_left, self.setup.max_reads.map(|_| entry.reads), "{key}");
                assert_eq!((metadata.weight, metadata.is_pinned), (1, false));
            }
        }
        assert_eq!(cache.iter().collect::<BTreeMap<_, _>>(), view);
        // Walks look for what is over, too.
        self.account();
        assert_eq!(self.cache.len(), self.entries.len());
        assert!(self.handed.lock().unwrap().is_empty(), "the hook was called without need");
        let stats = self.cache.stats();
        let counts = Counts {
            hits: stats.hit_count(),
            misses: stats.miss_count(),
            loads: stats.load_success_count(),
            load_failures: stats.load_failure_count(),
            waits: stats.load_wait_count(),
            refreshes: stats.refresh_count(),
            refresh_failures: stats.refresh_failure_count(),
        };
        assert_eq!(counts, self.counts);
        let stale = stats.stale_count();
        assert!((self.stale[0]..=self.stale[1]).contains(&stale), "{stale} stale, not {:?}", self.stale);
        self.stale = [stale; 2];
    }
}

async fn unwrapped(loading: impl Future<Output = Loaded>) -> u64 {
    loading.await.unwrap()
}

fn config() -> ProptestConfig {
    let cases = size_from("LARDER_CASES", 400, 3) as u32;
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 4_000, ..ProptestConfig::default() }
}

fn agree(setup: Setup, steps: &[Step]) {
    let mut model = Model::new(setup);
    (0..KEYS).for_each(|key| model.run(&Step::Insert(key)));
    steps.iter().for_each(|step| model.run(step));
}

proptest! {
    #![proptest_config(config())]

    /// Nothing is ever evicted: what is good for something is there.
    #[test]
    fn entries_are_renewed_when_they_should(setup in setups(Just(1_000)), steps in steps()) {
        agree(setup, &steps);
    }

    /// Where entries are evicted, too, nothing is given that is not good any more.
    #[test]
    fn entries_are_renewed_where_others_are_evicted(setup in setups(1..KEYS), steps in steps()) {
        agree(setup, &steps);
    }
}
