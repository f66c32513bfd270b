//! What is done with the cache, and with which caches.

use super::*;

#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) policy: EvictionPolicy,
    pub(super) segments: usize,
    pub(super) capacity: u64,
    pub(super) start: u64,
    pub(super) ttl: Option<u64>,
    pub(super) tti: Option<u64>,
    pub(super) max_reads: Option<u64>,
    pub(super) refresh_after: Option<u64>,
    pub(super) revalidate: u64,
    pub(super) on_error: u64,
    pub(super) backoff: u64,
    pub(super) has_hook: bool,
    pub(super) has_ages: bool,
}

/// A call for one key.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) key: u64,
    /// Whether it is a `refresh`.
    pub(super) is_anew: bool,
    pub(super) may_fail: bool,
    /// Whether it is no task, if it would not wait.
    pub(super) is_sync: bool,
    /// Whether the loader succeeds, if it ends at once.
    pub(super) outcome: Option<bool>,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
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
pub(super) fn span() -> impl Strategy<Value = u64> {
    prop_oneof![
        12 => (1..40_u64).prop_map(|n| n * 1_000),
        // Some ticks of the wheel.
        1 => (1..20_u64).prop_map(|n| n << 18),
        1 => 0..3_u64,
    ]
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
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

pub(super) fn setups(capacity: impl Strategy<Value = u64>) -> impl Strategy<Value = Setup> {
    let place =
        (prop::sample::select(policies()), prop::sample::select(vec![1, 4]), capacity, 0..1_u64 << 40);
    let lives = (
        prop::option::weighted(0.8, span()),
        prop::option::weighted(0.3, span()),
        prop::option::weighted(0.15, 1..5_u64),
    );
    let none_or = || prop_oneof![1 => Just(0), 3 => span()];
    let backoff = (1..8_u64).prop_map(|n| n * 1_000);
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
        // One that would never be called is refused.
        has_hook: soft.4 && (soft.0.is_some() || soft.1.max(soft.2) > 0),
        has_ages,
    })
}
