//! Entries that are loaded anew before they end, or are good for something after, against a model: random operations by one
//! thread, by the manual clock, over all policies.
//!
//! The model follows what the documentation says. It knows of each entry when it was written, ends, and may be loaded anew;
//! and of each load under way who leads it, who waits for it, and whether what it brings may be kept. A step is done by the
//! cache first; then the model says what had to come of it: which value, whether the loader was called, who left and why.
//! `LARDER_CASES` sets how many cases are tried.
#![allow(missing_docs)]

#[path = "stale_model/calls.rs"]
mod calls;
mod common;
#[path = "stale_model/renewal.rs"]
mod renewal;
#[path = "stale_model/steps.rs"]
mod steps;

use calls::{Call, Loaded, Role};
use common::loads::{Gate, Task};
use common::time::{tti, ttl};
use common::{Log, logged, policies, size_from};
use larder::{Cache, Clock, Computed, EvictionPolicy, InsertOptions, LoadError, Op, Refresh, RemovalCause};
use proptest::prelude::*;
use renewal::{Entry, Flight, Given, Look, Stage};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;
use steps::{Load, Setup, Step, setups, steps};

const KEYS: u64 = 4;
/// Each key carries one of these.
const TAGS: u64 = 2;
/// No end.
const NEVER: u64 = u64::MAX;
/// The time of the next attempt may be as much too early.
const ROUNDING: u64 = 256;

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    hits: u64,
    misses: u64,
    loads: u64,
    load_failures: u64,
    waits: u64,
    refreshes: u64,
    refresh_failures: u64,
    expired: u64,
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

    fn count_read(&mut self, is_hit: bool) {
        *(if is_hit { &mut self.counts.hits } else { &mut self.counts.misses }) += 1;
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
                self.written(key, id, [NEVER; 2]);
            }
            Step::InsertWith(key, ref options, ttl, tti) => {
                let id = self.id();
                cache.insert_with(key, id, options.clone());
                self.written(key, id, [ttl, tti]);
            }
            Step::Get(key) => {
                let expected = self.seen_id(key);
                assert_eq!(cache.get(&key), expected);
                self.count_read(expected.is_some());
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
                self.count_read(seen.is_some());
                self.updated(key, id);
            }
            Step::ComputeRemove(key) => {
                let is_removed = matches!(cache.compute(key, |_| Op::Remove), Computed::Removed(_));
                assert_eq!(is_removed, self.seen(key).is_some());
                self.count_read(is_removed);
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
                self.count_read(seen.is_some());
                self.may_end = Some(key);
                seen.into_iter().for_each(|_| _ = self.read(key));
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
                self.entries.retain(|_, entry| {
                    if is_gone(entry) {
                        self.must.insert(entry.id, (RemovalCause::Expired, true));
                    }
                    !is_gone(entry)
                });
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
            self.counts.expired += u64::from(cause == RemovalCause::Expired);
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
            expired: stats.expiration_count(),
        };
        assert_eq!(counts, self.counts);
        let stale = stats.stale_count();
        assert!((self.stale[0]..=self.stale[1]).contains(&stale), "{stale} stale, not {:?}", self.stale);
        self.stale = [stale; 2];
    }
}

fn config() -> ProptestConfig {
    let cases = size_from("LARDER_CASES", 250, 2) as u32;
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 4_000, ..ProptestConfig::default() }
}

fn agree(setup: Setup, steps: &[Step]) {
    let mut model = Model::new(setup);
    (0..KEYS).for_each(|key| model.run(&Step::Insert(key)));
    steps.iter().for_each(|step| model.run(step));
}

/// Longer rows of failures than random steps give.
#[test]
fn waits_after_failures_grow_up_to_64_times() {
    let setup = Setup {
        policy: EvictionPolicy::default(),
        segments: 1,
        capacity: 1_000,
        start: 0,
        ttl: None,
        tti: None,
        max_reads: None,
        refresh_after: Some(1),
        revalidate: 0,
        on_error: 0,
        backoff: 1_000,
        has_hook: false,
        has_ages: false,
    };
    let fails =
        Step::Load(Load { key: 1, is_anew: false, may_fail: true, is_sync: true, outcome: Some(false) });
    // To just before the next attempt, and to that.
    let round = [fails.clone(), Step::AdvanceTo(0, 0), fails, Step::AdvanceTo(0, 0)];
    let steps: Vec<_> =
        std::iter::once(Step::Advance(1)).chain((0..10).flat_map(|_| round.clone())).collect();
    let mut model = Model::new(setup);
    model.run(&Step::Insert(1));
    steps.iter().for_each(|step| model.run(step));
    assert_eq!(model.cache.stats().refresh_failure_count(), 10);
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
