//! Snapshots against a model: a random history, then what comes back in another cache, by the manual clock.
//!
//! The saving cache itself tells what it holds; from that, and from the rules of both caches, follows what each entry is to
//! be in the loading one. `LARDER_CASES` sets how many cases are tried.
#![cfg(feature = "serde")]
#![allow(missing_docs)]

mod common;

use common::{policies, size_from};
use larder::{Cache, Clock, EvictionPolicy, Expiry, InsertOptions, Metadata};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

type Numbers = Cache<u64, u64, ahash::RandomState>;

const KEYS: u64 = 24;
const TAGS: u64 = 4;

fn seeds(seed: u64) -> ahash::RandomState {
    ahash::RandomState::with_seeds(seed, 2, 3, 4)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn cases(most: usize) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(size_from("LARDER_CASES", most, 2) as u32)
    }
}

/// What a cache is built by.
#[derive(Clone, Debug)]
struct Rules {
    policy: EvictionPolicy,
    segments: usize,
    capacity: u64,
    seed: u64,
    ttl: Option<u64>,
    tti: Option<u64>,
    jitter: bool,
    max_reads: Option<u64>,
    ages: bool,
    /// An `Expiry`, in place of `tti`.
    asked: bool,
    soft: bool,
    start: u64,
}

/// An `Expiry` by key.
struct ByKey;

impl Expiry<u64, u64> for ByKey {
    fn after_create(&self, key: &u64, _: &u64) -> Option<Duration> {
        (!key.is_multiple_of(3)).then(|| secs(20 + key))
    }
    fn after_read(&self, key: &u64, _: &u64, remaining: Option<Duration>) -> Option<Duration> {
        if key.is_multiple_of(2) { remaining } else { Some(secs(30)) }
    }
}

impl Rules {
    fn build(&self) -> (Numbers, Clock) {
        let clock = Clock::manual_at(Duration::from_nanos(self.start));
        let mut builder = Cache::builder()
            .max_capacity(self.capacity)
            .segments(self.segments)
            .eviction_policy(self.policy.clone())
            .clock(clock.clone());
        if let Some(time) = self.ttl {
            builder = builder.time_to_live(secs(time));
        }
        if let Some(time) = self.tti {
            builder = builder.time_to_idle(secs(time));
        }
        if self.jitter {
            builder = builder.time_to_live_jitter(0.5);
        }
        if let Some(reads) = self.max_reads {
            builder = builder.max_reads(reads);
        }
        if self.ages {
            builder = builder.record_ages();
        }
        if self.asked {
            builder = builder.expire_after(ByKey);
        }
        if self.soft {
            builder = builder
                .refresh_after_write(secs(7))
                .stale_while_revalidate(secs(15))
                .stale_if_error(secs(25));
        }
        (builder.build_with_hasher(seeds(self.seed)).unwrap(), clock)
    }
}

fn rules() -> impl Strategy<Value = Rules> {
    let time = || prop::option::weighted(0.4, 1..60_u64);
    (
        prop::sample::select(policies()),
        prop::sample::select(vec![1, 8]),
        4..40_u64,
        0..2_u64,
        (time(), time(), prop::option::weighted(0.3, 1..6_u64)),
        (any::<bool>(), any::<bool>(), prop::bool::weighted(0.3), any::<bool>()),
        prop_oneof![Just(1), any::<u64>().prop_map(|start| start >> 2)],
    )
        .prop_map(
            |(
                policy,
                segments,
                capacity,
                seed,
                (ttl, tti, max_reads),
                (jitter, ages, asked, soft),
                start,
            )| {
                let tti = tti.filter(|_| !asked);
                Rules {
                    policy,
                    segments,
                    capacity,
                    seed,
                    ttl,
                    tti,
                    jitter,
                    max_reads,
                    ages,
                    asked,
                    soft,
                    start,
                }
            },
        )
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    InsertWith(u64, Option<u64>, Option<u64>, Option<u64>, Option<bool>, u64),
    Get(u64),
    Remove(u64),
    Pin(u64, bool),
    InvalidateTag(u64),
    Advance(u64),
    SetCapacity(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || 0..KEYS;
    let time = || prop::option::weighted(0.3, 0..50_u64);
    let weight = prop::option::weighted(0.3, 0..6_u64);
    let pinned = prop::option::weighted(0.2, any::<bool>());
    let step = prop_oneof![
        8 => key().prop_map(Step::Insert),
        8 => (key(), time(), time(), weight, pinned, 0..1_u64 << TAGS)
            .prop_map(|(key, ttl, tti, weight, pinned, tags)| Step::InsertWith(key, ttl, tti, weight, pinned, tags)),
        12 => key().prop_map(Step::Get),
        2 => key().prop_map(Step::Remove),
        2 => (key(), any::<bool>()).prop_map(|(key, pinned)| Step::Pin(key, pinned)),
        1 => (0..TAGS).prop_map(Step::InvalidateTag),
        4 => (0..12_u64).prop_map(Step::Advance),
        1 => (4..40_u64).prop_map(Step::SetCapacity),
    ];
    prop::collection::vec(step, 0..100)
}

/// Drives a cache; `next` is a value that no other insert has.
fn drive(cache: &Numbers, clock: &Clock, steps: &[Step], next: &mut u64) {
    for step in steps {
        *next += 1;
        match *step {
            Step::Insert(key) => cache.insert(key, *next),
            Step::InsertWith(key, ttl, tti, weight, pinned, tags) => {
                let mut options = InsertOptions::new().tags((0..TAGS).filter(|tag| tags >> tag & 1 == 1));
                if let Some(time) = ttl {
                    options = options.ttl(if time == 0 { Duration::MAX } else { secs(time) });
                }
                if let Some(time) = tti {
                    options = options.tti(if time == 0 { Duration::MAX } else { secs(time) });
                }
                if let Some(weight) = weight {
                    options = options.weight(weight);
                }
                if let Some(pinned) = pinned {
                    options = options.pinned(pinned);
                }
                cache.insert_with(key, *next, options);
            }
            Step::Get(key) => _ = cache.get(&key),
            Step::Remove(key) => _ = cache.remove(&key),
            Step::Pin(key, true) => _ = cache.pin(&key),
            Step::Pin(key, false) => _ = cache.unpin(&key),
            Step::InvalidateTag(tag) => _ = cache.invalidate_tag(tag),
            Step::Advance(time) => clock.advance(secs(time)),
            Step::SetCapacity(capacity) => cache.set_capacity(capacity),
        }
        cache.validate();
    }
}

fn save(cache: &Numbers) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut told = Vec::new();
    let report = cache.snapshot().progress(|done, all| told.push((done, all))).save_to(&mut bytes).unwrap();
    assert_eq!(report.bytes, bytes.len() as u64);
    assert_progress(&told);
    cache.validate();
    bytes
}

/// Progress only grows, and ends with all.
fn assert_progress(told: &[(u64, u64)]) {
    assert!(told.is_sorted_by_key(|told| told.0), "{told:?}");
    let (done, all) = told.last().expect("it is told at least once");
    assert_eq!(done, all, "{told:?}");
}

/// What can be seen of each entry.
fn entries(cache: &Numbers) -> BTreeMap<u64, (u64, Metadata)> {
    cache.iter().map(|(key, value)| (key, (value, cache.metadata(&key).expect("it is there")))).collect()
}

fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

proptest! {
    #![proptest_config(cases(250))]

    /// Each entry that comes back is what it was, but for the time between and for stricter rules.
    #[test]
    fn what_comes_back_is_what_was_there(
        rules in (rules(), rules(), any::<[bool; 2]>()),
        before in steps(),
        after in steps(),
        downtime in prop::option::weighted(0.5, 0..40_u64),
    ) {
        let (old_rules, mut new_rules, [is_same_policy, is_same_hasher]) = rules;
        if is_same_policy {
            new_rules.policy = old_rules.policy.clone();
        }
        if is_same_hasher {
            (new_rules.seed, new_rules.segments) = (old_rules.seed, old_rules.segments);
        }
        let (old, old_clock) = old_rules.build();
        let mut next = 0;
        drive(&old, &old_clock, &before, &mut next);
        let expected = entries(&old);
        let idle = with_own_idle(&before, old_rules.tti);
        let own_lives = with_own_life(&before);
        let bytes = save(&old);
        prop_assert!(entries(&old) == expected, "to save changes nothing");

        let (new, new_clock) = new_rules.build();
        let mut told = Vec::new();
        let mut snapshot = new.snapshot().progress(|done, all| told.push((done, all)));
        if let Some(time) = downtime {
            snapshot = snapshot.downtime(secs(time));
        }
        let report = snapshot.load_from(&bytes[..]).unwrap();
        assert_progress(&told);
        new.validate();
        let passed = secs(downtime.unwrap_or(0));
        let found = entries(&new);
        prop_assert!(new.weighted_size() <= new.capacity());
        prop_assert_eq!(report.entries + report.left_out, expected.len() as u64);

        let lives = |metadata: &Metadata| metadata.remaining.is_none_or(|left| left > passed);
        let living: BTreeSet<_> = expected.iter().filter(|entry| lives(&entry.1.1)).map(|entry| *entry.0).collect();
        prop_assert!(found.keys().all(|key| living.contains(key)), "one is back that was over");
        let weight: u64 = expected.iter().filter(|entry| living.contains(entry.0)).map(|entry| entry.1.1.weight).sum();
        let all_weight: u64 = expected.values().map(|entry| entry.1.weight).sum();
        if all_weight <= new.capacity() && (new_rules.segments == 1 || weight <= new.capacity() / 8) {
            prop_assert_eq!(found.len(), living.len(), "there is room for all");
        }
        for (key, (value, now)) in &found {
            let (value_before, then) = &expected[key];
            prop_assert_eq!(value, value_before);
            prop_assert_eq!(now.weight, then.weight);
            prop_assert_eq!(now.is_pinned, then.is_pinned);
            let reads = match (then.reads_left, new_rules.max_reads) {
                (Some(left), Some(most)) => Some(left.min(most)),
                (_, most) => most,
            };
            prop_assert_eq!(now.reads_left, reads);
            let age = then.age.map_or(Duration::ZERO, |age| age + passed);
            prop_assert_eq!(now.age, (new_rules.ages || new_rules.soft).then_some(age));
            let left = then.remaining.map(|left| left - passed);
            // Its own time to idle, if it has one, takes the place of the rule's: then that says nothing.
            let idles = old_rules.asked || old_rules.tti.is_some() || idle.contains(key);
            // A life of its own does not become one by the rules, but for one that would end with them anyway.
            let may_be_own = old_rules.asked || own_lives.contains(key);
            let is_own = may_be_own
                && match old_rules.ttl.map(secs) {
                    Some(rule) => then.remaining.is_none_or(|left| left > rule),
                    None => then.remaining.is_some(),
                };
            let most = if is_own || may_be_own && idles { left } else { earlier(left, new_rules.ttl.map(secs)) };
            let least = earlier(most, new_rules.tti.map(secs));
            prop_assert!(
                earlier(now.remaining, most) == now.remaining,
                "{} has {:?} left, of {:?} before",
                key, now.remaining, most,
            );
            // With jitter a new rule may shorten a life, but not what is left of an old one.
            // What bounds its life beside idling is not told.
            let is_shortened = new_rules.jitter
                && new_rules.ttl.is_some_and(|ttl| idles || left.is_none_or(|left| secs(ttl) < left));
            if !(is_shortened || may_be_own && idles) {
                // A time to idle of its own stays.
                let exact = if idle.contains(key) { most } else { least };
                prop_assert_eq!(now.remaining, exact, "{}", key);
            }
        }
        for tag in 0..TAGS {
            let carries: BTreeSet<_> = tagged(&old, tag).into_iter().filter(|key| found.contains_key(key)).collect();
            prop_assert_eq!(tagged(&new, tag), carries);
        }
        // And it works on.
        drive(&new, &new_clock, &after, &mut next);
        prop_assert!(new.weighted_size() <= new.capacity());
    }
}

/// The keys that were inserted last with a time to idle of their own.
fn with_own_idle(steps: &[Step], rule: Option<u64>) -> BTreeSet<u64> {
    let mut keys = BTreeSet::new();
    for step in steps {
        match *step {
            Step::InsertWith(key, _, Some(tti), ..) if Some(tti).filter(|&tti| tti != 0) != rule => {
                keys.insert(key);
            }
            Step::Insert(key) | Step::InsertWith(key, ..) => _ = keys.remove(&key),
            _ => {}
        }
    }
    keys
}

/// The keys that were inserted last with a time to live of their own.
fn with_own_life(steps: &[Step]) -> BTreeSet<u64> {
    let mut keys = BTreeSet::new();
    for step in steps {
        match *step {
            Step::InsertWith(key, Some(_), ..) => _ = keys.insert(key),
            Step::Insert(key) | Step::InsertWith(key, ..) => _ = keys.remove(&key),
            _ => {}
        }
    }
    keys
}

/// The keys of the entries that carry a tag, which go by that.
fn tagged(cache: &Numbers, tag: u64) -> BTreeSet<u64> {
    let keys = || cache.iter().map(|entry| entry.0).collect::<BTreeSet<_>>();
    let before = keys();
    // More, where some are over but still good for something.
    let count = cache.invalidate_tag(tag);
    let after = keys();
    cache.validate();
    let gone: BTreeSet<_> = before.difference(&after).copied().collect();
    assert!(gone.len() <= count);
    gone
}

proptest! {
    #![proptest_config(cases(250))]

    /// A cache that was started again goes on as if it had not stopped, with one segment and the same hasher.
    #[test]
    fn a_restart_changes_nothing(rules in rules(), before in steps(), after in steps()) {
        let mut rules = Rules { segments: 1, soft: false, ..rules };
        // What their ghosts have grown to tells which capacities there were.
        let forgets = ["s3_lirs", "s3_fifo"].contains(&rules.policy.to_string().as_str());
        let is_steady = |step: &Step| {
            !forgets || !matches!(step, Step::Pin(..) | Step::SetCapacity(_) | Step::InsertWith(_, _, _, _, Some(_), _))
        };
        let before: Vec<_> = before.into_iter().filter(is_steady).collect();
        // Which of too many pinned entries go first when the capacity shrinks is up to chance.
        let pins = |step: &Step| matches!(step, Step::Pin(..) | Step::InsertWith(_, _, _, _, Some(_), _));
        let has_pins = before.iter().chain(&after).any(pins);
        let is_clear = |step: &Step| !has_pins || !matches!(step, Step::SetCapacity(_));
        let after: Vec<_> = after.into_iter().filter(is_clear).collect();
        let (old, old_clock) = rules.build();
        let mut next = 0;
        drive(&old, &old_clock, &before, &mut next);
        {
            old.run_pending_tasks();
            let advanced: u64 = before.iter().map(|step| if let Step::Advance(time) = step { *time } else { 0 }).sum();
            rules.start += secs(advanced).as_nanos() as u64;
            rules.capacity = old.capacity();
            let (new, new_clock) = rules.build();
            new.snapshot().load_from(&save(&old)[..]).unwrap();
            new.validate();
            prop_assert_eq!(new.hottest(100), old.hottest(100));
            prop_assert_eq!(entries(&new), entries(&old));
            let mut again = next;
            for (at, step) in after.iter().enumerate() {
                let step = std::slice::from_ref(step);
                drive(&old, &old_clock, step, &mut next);
                drive(&new, &new_clock, step, &mut again);
                // Those that are over are still to go in one and not in the other, or the other way round.
                old.run_pending_tasks();
                new.run_pending_tasks();
                prop_assert_eq!(entries(&new), entries(&old), "after {} steps", at + 1);
                prop_assert_eq!(new.hottest(100), old.hottest(100), "after {} steps", at + 1);
            }
        }
    }
}

/// A pinned entry was read: once it is unpinned that still counts, after a restart as without one.
#[test]
fn reads_of_pinned_entries_come_back() {
    for policy in policies() {
        let make = || {
            let builder = Cache::builder().max_capacity(8).segments(1).eviction_policy(policy.clone());
            builder.build_with_hasher(seeds(1)).unwrap()
        };
        let old: Numbers = make();
        (0..8).for_each(|key| old.insert(key, key));
        old.pin(&0);
        (0..3).for_each(|_| _ = old.get(&0));
        let new: Numbers = make();
        new.snapshot().load_from(&save(&old)[..]).unwrap();
        for cache in [&old, &new] {
            cache.unpin(&0);
            (10..19).for_each(|key| cache.insert(key, key));
            cache.validate();
        }
        assert_eq!(entries(&new), entries(&old), "{policy}");
        assert_eq!(new.hottest(10), old.hottest(10), "{policy}");
    }
}

fn manual() -> (larder::Builder<u64, u64>, Clock) {
    let clock = Clock::manual();
    (Cache::builder().max_capacity(100).clock(clock.clone()), clock)
}

fn saved(cache: &Cache<u64, u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    cache.snapshot().save_to(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_time_to_idle_in_one_cache_only() {
    let (builder, clock) = manual();
    let idle = builder.time_to_idle(secs(10)).build().unwrap();
    idle.insert(1, 1);
    idle.insert_with(2, 2, InsertOptions::new().tti(secs(20)));
    clock.advance(secs(4));
    let bytes = saved(&idle);

    // The new cache knows none: what was left is left, and reads do not put it off.
    let (builder, clock) = manual();
    let cache = builder.build().unwrap();
    cache.snapshot().load_from(&bytes[..]).unwrap();
    clock.advance(secs(5));
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(1), Some(2)));
    cache.validate();
    clock.advance(secs(1));
    assert_eq!(cache.get(&1), None);
    // A time of the entry's own is a time to idle as before.
    assert_eq!(cache.metadata(&2).unwrap().remaining, Some(secs(19)));
    clock.advance(secs(18));
    assert_eq!(cache.get(&2), Some(2));
    clock.advance(secs(20));
    assert_eq!(cache.get(&2), None);
    cache.validate();

    // The reverse: a life without idling gets one, and its end stays.
    let (builder, clock) = manual();
    let plain = builder.time_to_live(secs(30)).build().unwrap();
    plain.insert(1, 1);
    clock.advance(secs(4));
    let (builder, clock) = manual();
    let cache = builder.time_to_idle(secs(10)).build().unwrap();
    cache.snapshot().load_from(&saved(&plain)[..]).unwrap();
    assert_eq!(cache.metadata(&1).unwrap().remaining, Some(secs(10)));
    for _ in 0..2 {
        clock.advance(secs(9));
        assert_eq!(cache.get(&1), Some(1));
    }
    assert_eq!(cache.metadata(&1).unwrap().remaining, Some(secs(8)));
    clock.advance(secs(8));
    assert_eq!(cache.get(&1), None);
    cache.validate();
}

/// An end that was moved by reads moves on, and not beyond the time to live that was left.
#[test]
fn reads_go_on_putting_off_the_end() {
    let (builder, clock) = manual();
    let old = builder.time_to_live(secs(30)).time_to_idle(secs(10)).build().unwrap();
    old.insert(1, 1);
    clock.advance(secs(8));
    old.get(&1);
    clock.advance(secs(8));
    let (builder, clock) = manual();
    let new = builder.time_to_live(secs(30)).time_to_idle(secs(10)).build().unwrap();
    new.snapshot().downtime(secs(1)).load_from(&saved(&old)[..]).unwrap();
    assert_eq!(new.metadata(&1).unwrap().remaining, Some(secs(1)));
    new.get(&1);
    assert_eq!(new.metadata(&1).unwrap().remaining, Some(secs(10)));
    clock.advance(secs(9));
    new.get(&1);
    assert_eq!(new.metadata(&1).unwrap().remaining, Some(secs(4)), "30 - 17 - 9");
    clock.advance(secs(4));
    assert_eq!(new.get(&1), None);
    new.validate();
}

#[test]
fn what_an_expiry_has_said_stays() {
    let (builder, clock) = manual();
    let old = builder.expire_after(ByKey).build().unwrap();
    (0..8).for_each(|key| old.insert(key, key));
    clock.advance(secs(5));
    old.get(&7);
    let (builder, clock) = manual();
    let new = builder.expire_after(ByKey).build().unwrap();
    new.snapshot().load_from(&saved(&old)[..]).unwrap();
    assert_eq!(entries_of(&new), entries_of(&old));
    // And it is asked as before.
    clock.advance(secs(5));
    new.get(&5);
    assert_eq!(new.metadata(&5).unwrap().remaining, Some(secs(30)));
    new.validate();
    // Where none is asked the end stays where it is.
    let (builder, clock) = manual();
    let plain = builder.build().unwrap();
    plain.snapshot().load_from(&saved(&old)[..]).unwrap();
    assert_eq!(entries_of(&plain), entries_of(&old));
    clock.advance(secs(25));
    assert!((0..8).all(|key| plain.get(&key).is_some() == key.is_multiple_of(3) || key == 7));
    plain.validate();
}

fn entries_of(cache: &Cache<u64, u64>) -> BTreeMap<u64, (u64, Metadata)> {
    cache.iter().map(|(key, value)| (key, (value, cache.metadata(&key).unwrap()))).collect()
}

#[test]
fn stale_entries_are_not_saved_and_due_ones_are_due() {
    let (builder, clock) = manual();
    let soft = |builder: larder::Builder<u64, u64>| {
        builder
            .time_to_live(secs(30))
            .refresh_after_write(secs(10))
            .stale_while_revalidate(secs(60))
            .stale_if_error(secs(90))
            .build()
            .unwrap()
    };
    let old = soft(builder);
    old.insert(1, 1);
    clock.advance(secs(18));
    old.insert(2, 2);
    clock.advance(secs(12));
    old.insert(3, 3);
    assert_eq!(old.get_or_load(1, |_| 1), 1, "it is stale");
    old.insert_with(1, 1, InsertOptions::new().ttl(Duration::ZERO));
    let bytes = saved(&old);
    let (builder, _) = manual();
    let new = soft(builder);
    let report = new.snapshot().load_from(&bytes[..]).unwrap();
    assert_eq!(report.entries, 2);
    assert_eq!(new.peek(&1), None);
    // Due, so that one call loads it anew.
    assert_eq!(new.get_or_load(2, |_| 22), 22);
    assert_eq!(new.get_or_load(3, |_| 33), 3, "fresh");
    new.validate();
}

#[test]
fn jitter_does_not_shorten_a_restored_life() {
    let make = || {
        let (builder, clock) = manual();
        (builder.time_to_live(secs(100)).time_to_live_jitter(1.0).build().unwrap(), clock)
    };
    let (old, clock) = make();
    (0..50).for_each(|key| old.insert(key, key));
    clock.advance(secs(3));
    let (new, _) = make();
    new.snapshot().load_from(&saved(&old)[..]).unwrap();
    assert_eq!(entries_of(&new), entries_of(&old));
    new.validate();
}

#[test]
fn a_negative_time_to_live_holds_for_what_comes_back() {
    type Users = Cache<u64, Option<u64>>;
    let make = |negative: Option<u64>| {
        let clock = Clock::manual();
        let mut builder = Users::builder().max_capacity(100).time_to_live(secs(600)).clock(clock.clone());
        if let Some(time) = negative {
            builder = builder.negative_time_to_live(secs(time));
        }
        (builder.build().unwrap(), clock)
    };
    let save = |cache: &Users| {
        let mut bytes = Vec::new();
        cache.snapshot().save_to(&mut bytes).unwrap();
        bytes
    };
    let (old, clock) = make(Some(5));
    old.insert(1, None);
    old.insert(2, Some(2));
    clock.advance(secs(2));
    let (new, _) = make(Some(5));
    new.snapshot().load_from(&save(&old)[..]).unwrap();
    assert_eq!(new.metadata(&1).unwrap().remaining, Some(secs(3)));
    assert_eq!(new.metadata(&2).unwrap().remaining, Some(secs(598)));
    // Nothing lives longer than the new cache's builder says.
    let (old, _) = make(None);
    old.insert(1, None);
    old.insert(2, Some(2));
    new.invalidate_all();
    new.snapshot().load_from(&save(&old)[..]).unwrap();
    assert_eq!(new.metadata(&1).unwrap().remaining, Some(secs(5)));
    assert_eq!(new.metadata(&2).unwrap().remaining, Some(secs(600)));
    new.validate();
}

/// A time to idle without end stays one where the rule says otherwise.
#[test]
fn an_entry_that_may_idle_for_ever_comes_back_so() {
    let make = || manual().0.time_to_idle(secs(1)).build().unwrap();
    let old = make();
    old.insert_with(1, 1, InsertOptions::new().tti(Duration::MAX));
    let new = make();
    new.snapshot().load_from(&saved(&old)[..]).unwrap();
    assert_eq!(entries_of(&new), entries_of(&old));
    assert_eq!(new.metadata(&1).unwrap().remaining, None);
}
