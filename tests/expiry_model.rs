//! Time against a model: random operations by one thread, by the manual clock, over all policies.
//!
//! The model knows each entry's deadline, and all of them in order. The listener tells it what has left; then everything must
//! add up: each entry leaves once, as `Expired` if its time was over and never otherwise, and what is left and not over is what
//! every view of the cache shows. `LARDER_CASES` sets how many cases are tried.
#![allow(missing_docs)]

mod common;

use common::{Census, Counted, policies, size_from};
use larder::{Cache, Clock, Computed, EvictionPolicy, Expiry, InsertOptions, Op, RemovalCause};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KEYS: u64 = 16;
/// No end.
const NEVER: u64 = u64::MAX;
/// Where the model's clock starts: it ends with what 64 bits tell, as the manual one.
const EPOCH: u64 = 1 << 63;

#[derive(Clone, Debug)]
struct Setup {
    policy: EvictionPolicy,
    segments: usize,
    capacity: u64,
    start: u64,
    ttl: Option<u64>,
    tti: Option<u64>,
    max_reads: Option<u64>,
    /// Whether there is an `Expiry`, which takes the place of `tti`.
    asked: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    InsertWith(u64, Option<u64>, Option<u64>, Option<bool>),
    Get(u64),
    GetMany(u64, u64),
    GetOrLoad(u64),
    Refresh(u64),
    Remove(u64),
    RemoveIf(u64, bool),
    ComputeInsert(u64),
    ComputeRemove(u64),
    OrInsert(u64),
    Pin(u64, bool),
    Retain(u64),
    Drain,
    InvalidateAll,
    Advance(u64),
    RunPendingTasks,
    SetCapacity(u64),
}

/// A time of any magnitude, from none to centuries.
fn span() -> impl Strategy<Value = u64> {
    let any_bits = || (0..59_u32, any::<u64>()).prop_map(|(bits, amount)| amount & ((1 << bits) - 1));
    prop_oneof![
        6 => any_bits(),
        // Whole ticks and whole buckets, where it is easy to be off by one.
        2 => (0..59_u32, 0..3_u64).prop_map(|(bits, off)| (1 << bits) + off - 1),
        1 => Just(0),
        1 => Just(NEVER),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || 0..KEYS;
    let advance = || span().prop_map(|time| if time == NEVER { 1 } else { time });
    let step = prop_oneof![
        6 => key().prop_map(Step::Insert),
        8 => (key(), prop::option::of(span()), prop::option::of(span()), prop::option::weighted(0.2, any::<bool>()))
            .prop_map(|(key, ttl, tti, pinned)| Step::InsertWith(key, ttl, tti, pinned)),
        6 => key().prop_map(Step::Get),
        2 => (key(), key()).prop_map(|(a, b)| Step::GetMany(a, b)),
        2 => key().prop_map(Step::GetOrLoad),
        1 => key().prop_map(Step::Refresh),
        2 => key().prop_map(Step::Remove),
        1 => (key(), any::<bool>()).prop_map(|(key, yes)| Step::RemoveIf(key, yes)),
        2 => key().prop_map(Step::ComputeInsert),
        1 => key().prop_map(Step::ComputeRemove),
        2 => key().prop_map(Step::OrInsert),
        2 => (key(), any::<bool>()).prop_map(|(key, pinned)| Step::Pin(key, pinned)),
        1 => (2..5_u64).prop_map(Step::Retain),
        1 => Just(Step::Drain),
        1 => Just(Step::InvalidateAll),
        12 => advance().prop_map(Step::Advance),
        4 => Just(Step::RunPendingTasks),
        1 => (0..3 * KEYS).prop_map(Step::SetCapacity),
    ];
    prop::collection::vec(step, 1..80)
}

fn setups(capacity: impl Strategy<Value = u64>) -> impl Strategy<Value = Setup> {
    let start =
        prop_oneof![3 => Just(1), 1 => 1..EPOCH, 1 => (0..1_u64 << 50).prop_map(|left| EPOCH - 1 - left)];
    (
        prop::sample::select(policies()),
        prop::sample::select(vec![1, 8]),
        capacity,
        start,
        prop::option::of(span()),
        prop::option::of(span()),
        prop::option::weighted(0.2, 1..5_u64),
        prop::bool::weighted(0.3),
    )
        .prop_map(|(policy, segments, capacity, start, ttl, tti, max_reads, asked)| Setup {
            policy,
            segments,
            capacity,
            start,
            ttl,
            tti: tti.filter(|_| !asked),
            max_reads,
            asked,
        })
}

/// An identity that no other insert has.
type Value = Counted<u64>;

/// An `Expiry` that says for each entry something else, always the same for the model.
struct Varied;

impl Expiry<u64, Value> for Varied {
    fn after_create(&self, key: &u64, value: &Value) -> Option<Duration> {
        match *value.what % 4 {
            0 => None,
            1 => Some(Duration::from_secs(5)),
            2 => Some(Duration::from_nanos(*key)),
            _ => Some(Duration::from_secs(1 << 25)),
        }
    }

    fn after_update(&self, key: &u64, value: &Value, remaining: Option<Duration>) -> Option<Duration> {
        if value.what.is_multiple_of(3) { remaining } else { self.after_create(key, value) }
    }

    fn after_read(&self, key: &u64, _: &Value, remaining: Option<Duration>) -> Option<Duration> {
        match key % 4 {
            0 => remaining,
            1 => Some(Duration::from_secs(3)),
            2 => remaining.map(|time| time / 2),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    id: u64,
    deadline: u64,
    /// Beyond which reads do not get.
    end: u64,
    tti: u64,
    reads: u64,
    /// The times to live and to idle that it was given.
    own: [Option<u64>; 2],
}

struct Model {
    setup: Setup,
    cache: Cache<u64, Value>,
    clock: Clock,
    now: u64,
    census: Census,
    events: Arc<Mutex<Vec<(u64, u64, RemovalCause)>>>,
    /// What is in the cache, over or not.
    entries: BTreeMap<u64, Entry>,
    /// Deadlines and their keys.
    deadlines: BTreeSet<(u64, u64)>,
    next: u64,
    expired: u64,
}

/// What a step must make leave, by identity.
#[derive(Default)]
struct Leaves {
    /// As the user's doing.
    said: BTreeMap<u64, RemovalCause>,
    /// As over.
    over: BTreeSet<u64>,
    /// What arrives, which may be turned away.
    arrival: Option<u64>,
}

impl Model {
    fn new(setup: Setup) -> Self {
        let (clock, events) = (Clock::manual_at(Duration::from_nanos(setup.start)), Arc::default());
        let log: Arc<Mutex<Vec<_>>> = Arc::clone(&events);
        let mut builder = Cache::builder()
            .max_capacity(setup.capacity)
            .segments(setup.segments)
            .eviction_policy(setup.policy.clone())
            .clock(clock.clone())
            .eviction_listener(move |&key: &u64, value: &Value, cause| {
                log.lock().unwrap().push((key, *value.what, cause));
            });
        if let Some(time) = setup.ttl {
            builder = builder.time_to_live(Duration::from_nanos(time));
        }
        if let Some(time) = setup.tti {
            builder = builder.time_to_idle(Duration::from_nanos(time));
        }
        if let Some(reads) = setup.max_reads {
            builder = builder.max_reads(reads);
        }
        if setup.asked {
            builder = builder.expire_after(Varied);
        }
        Self {
            now: EPOCH + setup.start,
            setup,
            cache: builder.build().unwrap(),
            clock,
            census: Census::default(),
            events,
            entries: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next: 0,
            expired: 0,
        }
    }

    fn value(&mut self) -> Value {
        self.next += 1;
        self.census.count(self.next)
    }

    /// The entry of a key, if it is not over.
    fn seen(&self, key: u64) -> Option<&Entry> {
        self.entries.get(&key).filter(|entry| entry.deadline == NEVER || self.now < entry.deadline)
    }

    fn id(&self, key: u64) -> Option<u64> {
        self.seen(key).map(|entry| entry.id)
    }

    fn remaining(&self, entry: &Entry) -> Option<Duration> {
        (entry.deadline != NEVER).then(|| Duration::from_nanos(entry.deadline - self.now))
    }

    fn in_nanos(time: Option<Duration>) -> u64 {
        time.map_or(NEVER, |time| u64::try_from(time.as_nanos()).unwrap_or(NEVER))
    }

    fn forget(&mut self, key: u64) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        self.deadlines.remove(&(entry.deadline, key));
        Some(entry)
    }

    fn put(&mut self, key: u64, entry: Entry) {
        self.deadlines.insert((entry.deadline, key));
        assert!(self.entries.insert(key, entry).is_none());
    }

    /// The value of this moment is written; the entry before it leaves.
    fn written(&mut self, key: u64, ttl: Option<u64>, tti: Option<u64>, leaves: &mut Leaves) {
        let (id, own_times) = (self.next, [ttl, tti]);
        let is_asked = self.setup.asked && ttl.is_none();
        let value = self.census.count(id);
        let own = match (is_asked, self.seen(key)) {
            (false, _) => NEVER,
            (true, None) => Self::in_nanos(Varied.after_create(&key, &value)),
            (true, Some(old)) => Self::in_nanos(Varied.after_update(&key, &value, self.remaining(old))),
        };
        match (self.id(key), self.entries.get(&key)) {
            (Some(old), _) => _ = leaves.said.insert(old, RemovalCause::Replaced),
            (None, Some(old)) => _ = leaves.over.insert(old.id),
            (None, None) => {}
        }
        self.forget(key);
        let tti = tti.or(self.setup.tti).unwrap_or(NEVER);
        let mut end = self.now.saturating_add(ttl.or(self.setup.ttl).unwrap_or(NEVER));
        if tti != NEVER {
            // Reads ask for no other.
            end = end.min(self.now.saturating_add(own));
        }
        let deadline = end.min(self.now.saturating_add(tti)).min(self.now.saturating_add(own));
        self.put(
            key,
            Entry { id, deadline, end, tti, reads: self.setup.max_reads.unwrap_or(NEVER), own: own_times },
        );
        leaves.arrival = Some(id);
    }

    /// The same for an update, which keeps the times that the entry was given.
    fn updated(&mut self, key: u64, leaves: &mut Leaves) {
        let [ttl, tti] = self.seen(key).map_or([None; 2], |entry| entry.own);
        self.written(key, ttl, tti, leaves);
    }

    /// The key is read: gives what is to be found.
    fn read(&mut self, key: u64, leaves: &mut Leaves) -> Option<u64> {
        let id = self.id(key)?;
        let mut entry = self.forget(key)?;
        entry.reads -= u64::from(self.setup.max_reads.is_some());
        if entry.reads == 0 {
            leaves.over.insert(id);
            return Some(id);
        }
        if entry.tti != NEVER {
            entry.deadline = entry.end.min(self.now.saturating_add(entry.tti));
        } else if self.setup.asked {
            let remaining = self.remaining(&entry);
            let next = Varied.after_read(&key, &self.census.count(id), remaining);
            if next != remaining {
                entry.deadline = entry.end.min(self.now.saturating_add(Self::in_nanos(next)));
            }
        }
        self.put(key, entry);
        Some(id)
    }

    fn removed(&mut self, keys: impl IntoIterator<Item = u64>, leaves: &mut Leaves) {
        for key in keys {
            if let Some(id) = self.id(key) {
                leaves.said.insert(id, RemovalCause::Explicit);
                self.forget(key);
            }
        }
    }

    fn run(&mut self, step: &Step) {
        let cache = self.cache.clone();
        let id = |value: Value| *value.what;
        let mut leaves = Leaves::default();
        match *step {
            Step::Insert(key) => {
                cache.insert(key, self.value());
                self.written(key, None, None, &mut leaves);
            }
            Step::InsertWith(key, ttl, tti, pinned) => {
                let mut options = InsertOptions::new();
                if let Some(time) = ttl {
                    options = options.ttl(Duration::from_nanos(time));
                }
                if let Some(time) = tti {
                    options = options.tti(Duration::from_nanos(time));
                }
                if let Some(pinned) = pinned {
                    options = options.pinned(pinned);
                }
                cache.insert_with(key, self.value(), options);
                self.written(key, ttl, tti, &mut leaves);
            }
            Step::Get(key) => assert_eq!(cache.get(&key).map(id), self.read(key, &mut leaves)),
            Step::GetMany(a, b) => {
                let found: Vec<_> = cache.get_many(&[a, b]).into_iter().map(|value| value.map(id)).collect();
                let expected = [self.read(a, &mut leaves), self.read(b, &mut leaves)];
                assert_eq!(found, expected);
            }
            Step::GetOrLoad(key) => {
                let value = self.value();
                let loaded = cache.get_or_load(key, |_| value);
                let expected = self.read(key, &mut leaves).unwrap_or_else(|| {
                    self.written(key, None, None, &mut leaves);
                    self.next
                });
                assert_eq!(id(loaded), expected);
            }
            Step::Refresh(key) => {
                let value = self.value();
                assert_eq!(id(cache.refresh(key, |_| value)), self.next);
                self.updated(key, &mut leaves);
            }
            Step::Remove(key) => {
                assert_eq!(cache.remove(&key).map(id), self.id(key));
                self.removed([key], &mut leaves);
            }
            Step::RemoveIf(key, yes) => {
                assert_eq!(cache.remove_if(&key, |_, _| yes).map(id), self.id(key).filter(|_| yes));
                self.removed(yes.then_some(key), &mut leaves);
            }
            Step::ComputeInsert(key) => {
                let value = self.value();
                let mut seen = Vec::new();
                let computed = cache.compute(key, |now| {
                    seen.push(now.map(|value| *value.what));
                    Op::Insert(value.clone())
                });
                assert_eq!(seen, [self.id(key)]);
                match computed {
                    Computed::Inserted(_) => assert_eq!(self.id(key), None),
                    Computed::Replaced(_) => assert!(self.id(key).is_some()),
                    Computed::Rejected(_) => {}
                    other => panic!("{other:?}"),
                }
                self.updated(key, &mut leaves);
            }
            Step::ComputeRemove(key) => {
                match cache.compute(key, |_| Op::Remove) {
                    Computed::Removed(value) => assert_eq!(Some(id(value)), self.id(key)),
                    Computed::Absent => assert_eq!(self.id(key), None),
                    other => panic!("{other:?}"),
                }
                self.removed([key], &mut leaves);
            }
            Step::OrInsert(key) => {
                let value = self.value();
                let given = id(cache.entry(key).or_insert(value));
                let id = self.next;
                let expected = self.read(key, &mut leaves).unwrap_or_else(|| {
                    self.written(key, None, None, &mut leaves);
                    id
                });
                assert_eq!(given, expected);
            }
            Step::Pin(key, pinned) => {
                let found = if pinned { cache.pin(&key) } else { cache.unpin(&key) };
                assert_eq!(found, self.id(key).is_some());
            }
            Step::Retain(n) => {
                cache.retain(|key, _| key % n == 0);
                self.removed((0..KEYS).filter(|key| key % n != 0), &mut leaves);
            }
            Step::Drain => {
                let drained: BTreeMap<_, _> = cache.drain().map(|(key, value)| (key, id(value))).collect();
                assert_eq!(drained, self.view());
                self.removed(0..KEYS, &mut leaves);
            }
            Step::InvalidateAll => {
                cache.invalidate_all();
                leaves.over = self.over().map(|(_, id)| id).collect();
                self.removed(0..KEYS, &mut leaves);
            }
            Step::Advance(time) => {
                self.clock.advance(Duration::from_nanos(time));
                self.now = self.now.saturating_add(time);
            }
            Step::RunPendingTasks => {
                cache.run_pending_tasks();
                let now = self.now >> 20;
                leaves.over = self.over().filter(|(end, _)| end >> 20 < now).map(|(_, id)| id).collect();
            }
            Step::SetCapacity(capacity) => cache.set_capacity(capacity),
        }
        self.account(leaves);
        self.check();
    }

    /// The deadlines and identities of entries that are over.
    fn over(&self) -> impl Iterator<Item = (u64, u64)> {
        let over = self.deadlines.range(..=(self.now, u64::MAX)).filter(|(deadline, _)| *deadline != NEVER);
        over.map(|(deadline, key)| (*deadline, self.entries[key].id))
    }

    /// What has left, against what must have and may have.
    fn account(&mut self, mut leaves: Leaves) {
        let events = std::mem::take(&mut *self.events.lock().unwrap());
        let all_over: BTreeSet<_> = self.over().map(|(_, id)| id).collect();
        for (key, id, cause) in events {
            let context = format!("{key} leaves as {cause} at {}", self.now);
            if let Some(expected) = leaves.said.remove(&id) {
                assert_eq!(cause, expected, "{context}");
                continue;
            }
            if leaves.over.remove(&id) || all_over.contains(&id) {
                // What arrives without time to live may never get in.
                let is_arrival = leaves.arrival == Some(id) && cause == RemovalCause::Rejected;
                assert!(cause == RemovalCause::Expired || is_arrival, "{context}");
                self.expired += u64::from(cause == RemovalCause::Expired);
                if self.entries.get(&key).is_some_and(|entry| entry.id == id) {
                    self.forget(key);
                }
                continue;
            }
            let entry = self.forget(key).unwrap_or_else(|| panic!("{context}, and was not there"));
            assert_eq!(entry.id, id, "{context}");
            let may_go =
                cause == RemovalCause::Size || leaves.arrival == Some(id) && cause == RemovalCause::Rejected;
            assert!(may_go && self.setup.capacity < KEYS, "{context}");
        }
        assert!(
            leaves.said.is_empty() && leaves.over.is_empty(),
            "not heard of {:?}, {:?}",
            leaves.said,
            leaves.over
        );
    }

    fn view(&self) -> BTreeMap<u64, u64> {
        (0..KEYS).filter_map(|key| Some((key, self.id(key)?))).collect()
    }

    /// All views show what the model has, and the books are right.
    fn check(&mut self) {
        let cache = &self.cache;
        let view = self.view();
        for key in 0..KEYS {
            assert_eq!(cache.peek(&key).map(|value| *value.what), view.get(&key).copied(), "{key}");
            assert_eq!(cache.contains_key(&key), view.contains_key(&key));
        }
        assert_eq!(cache.iter().map(|(key, value)| (key, *value.what)).collect::<BTreeMap<_, _>>(), view);
        assert_eq!(cache.len(), self.entries.len());
        let order: BTreeSet<_> = cache.coldest(usize::MAX).into_iter().map(|(key, _)| key).collect();
        assert!(order.iter().all(|key| view.contains_key(key)));
        cache.validate();
        // These two have looked for what is over, too.
        self.account(Leaves::default());
        assert_eq!(self.cache.len(), self.entries.len());
        assert_eq!(self.cache.stats().expiration_count(), self.expired);
    }

    fn end(self) {
        let Self { cache, census, .. } = self;
        drop(cache);
        assert_eq!(census.living(), 0);
    }
}

fn config() -> ProptestConfig {
    let cases = size_from("LARDER_CASES", 300, 3) as u32;
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 4_000, ..ProptestConfig::default() }
}

fn agree(setup: Setup, steps: &[Step]) {
    let mut model = Model::new(setup);
    steps.iter().for_each(|step| model.run(step));
    model.end();
}

proptest! {
    #![proptest_config(config())]

    /// Nothing is ever evicted: what is not over is there.
    #[test]
    fn entries_end_when_they_should_and_only_then(setup in setups(Just(1_000)), steps in steps()) {
        let steps: Vec<_> = steps.into_iter().filter(|step| !matches!(step, Step::SetCapacity(_))).collect();
        agree(setup, &steps);
    }

    /// Where entries are evicted, too, each still leaves once and for its one right cause.
    #[test]
    fn entries_end_where_others_are_evicted(setup in setups(0..KEYS), steps in steps()) {
        agree(setup, &steps);
    }
}
