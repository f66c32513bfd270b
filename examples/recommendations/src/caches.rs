//! All caches of the service. Each says what it holds, how long that is good for, and who is told when it changes.
//!
//! | cache | holds | becomes wrong when | and then |
//! | --- | --- | --- | --- |
//! | users | who exists, and who does not | the shop changes it: rarely | it ends, after minutes or seconds |
//! | behaviour | a user's last events | the user acts | the event is appended |
//! | tastes | what a user likes in the long run | little by little | it is computed anew, in the background |
//! | items | what the shop sells | the shop changes it: rarely | it ends, after minutes |
//! | models | which items go together | a model is trained | the new one takes its place |
//! | results | ranked items | the user acts | all results of the user are invalidated |
//! | sessions | who is visiting | the visitor leaves | it ends, when it is idle |

use crate::domain::{Behaviour, Event, Features, Item, ItemId, User, UserId};
use crate::model::{Model, Ranking};
use larder::{BuildError, Builder, Cache, EvictionPolicy, Op, Refresh};
use serde::{Deserialize, Serialize};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// A request that takes longer has failed, and so has a load.
pub const REQUEST_TIME: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;
/// Refreshes that may wait to be made. What does not fit is tried again by a later reader.
const WAITING: usize = 1_000;

/// The key of the model that is in use. A shop could have others beside it.
pub const MODEL: &str = "neighbours";

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResultKey {
    pub user: UserId,
    pub shelf: Option<u8>,
}

/// A visit. It stands nowhere but in its cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    pub user: UserId,
    pub events: u32,
}

/// Handles; a clone means the same caches.
#[derive(Clone)]
pub struct Caches {
    pub users: Cache<UserId, Option<Arc<User>>>,
    pub behaviour: Cache<UserId, Arc<Behaviour>>,
    pub tastes: Cache<UserId, Features>,
    pub items: Cache<ItemId, Arc<Item>>,
    pub models: Cache<String, Arc<Model>>,
    pub results: Cache<ResultKey, Arc<Ranking>>,
    pub sessions: Cache<String, Session>,
}

/// Entries that are to be computed anew, for the task that does so.
pub struct Due {
    pub tastes: mpsc::Receiver<Refresh<UserId, Features>>,
    pub results: mpsc::Receiver<Refresh<ResultKey, Arc<Ranking>>>,
}

impl Caches {
    pub fn new() -> Result<(Self, Due), BuildError> {
        let (due_tastes, tastes) = mpsc::channel(WAITING);
        let (due_results, results) = mpsc::channel(WAITING);
        let caches = Self {
            users: users()?,
            behaviour: behaviour()?,
            tastes: tastes_with(due_tastes)?,
            items: items()?,
            models: models()?,
            results: results_with(due_results)?,
            sessions: sessions()?,
        };
        Ok((caches, Due { tastes, results }))
    }

    /// Tells the caches of an event that is in the store. When this has returned, nobody gets a result that was computed
    /// before the event. Without an event: there may be one.
    pub fn user_has_acted(&self, user: UserId, event: Option<Event>) {
        self.behaviour.compute(user, |behaviour| match (behaviour, event) {
            (Some(behaviour), Some(event)) => Op::Insert(Arc::new(behaviour.with(event))),
            // It is not there, but may be on its way from the store, read before the event. `Keep` would let that in.
            _ => Op::Remove,
        });
        // After the behaviour: a result that is computed from now on finds the event there.
        self.results.invalidate_tag(user_tag(user));
    }

    /// Has all forgotten that depends on what this user did.
    pub fn forget(&self, user: UserId) {
        self.behaviour.invalidate(&user);
        self.tastes.invalidate(&user);
        self.results.invalidate_tag(user_tag(user));
    }
}

/// The same for every cache.
fn named<K, V>(name: &str) -> Builder<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    // Statistics and ages are for /metrics and the page. Without a time-out a loader that never ends, such as a store that
    // hangs, would keep all others waiting who want the same key.
    Cache::builder().name(name).record_stats().record_ages().load_timeout(REQUEST_TIME)
}

/// Also who does not exist: otherwise anybody could keep the store busy with numbers that nobody has. But somebody who
/// signs up now wants to be known soon.
fn users() -> Result<Cache<UserId, Option<Arc<User>>>, BuildError> {
    named("users")
        .max_capacity(20_000)
        .time_to_live(10 * MINUTE)
        .negative_time_to_live(Duration::from_secs(10))
        // What was loaded together, after a start, does not end together.
        .time_to_live_jitter(0.2)
        .build()
}

/// Never wrong, since events are appended as they are recorded: so it need not end, but for those who have left.
fn behaviour() -> Result<Cache<UserId, Arc<Behaviour>>, BuildError> {
    named("behaviour")
        .max_capacity(8 * MIB)
        .weigher(|_, behaviour: &Arc<Behaviour>| behaviour.bytes())
        .time_to_idle(60 * MINUTE)
        .build()
}

/// One event more hardly changes what a user likes in the long run. So nobody waits for a new taste: readers get the old
/// one while it is computed, and also when the store fails.
fn tastes_with(due: mpsc::Sender<Refresh<UserId, Features>>) -> Result<Cache<UserId, Features>, BuildError> {
    named("tastes")
        .max_capacity(15_000)
        .refresh_after_write(MINUTE / 2)
        .time_to_live(60 * MINUTE)
        .stale_if_error(24 * 60 * MINUTE)
        // A refresh that finds no place is dropped, which counts as one that failed.
        .refresh_with(move |refresh| drop(due.try_send(refresh)))
        .build()
}

/// Wanted by hundreds at a time, so they are loaded by one query for all that are missing, in parts of a sensible size.
fn items() -> Result<Cache<ItemId, Arc<Item>>, BuildError> {
    named("items")
        .max_capacity(20_000)
        .time_to_live(10 * MINUTE)
        .time_to_live_jitter(0.2)
        .max_batch(1_000)
        .eviction_policy(EvictionPolicy::tiny_lfu())
        .build()
}

/// Readers hold an `Arc` of the model for as long as they rank; a new one is put in its place beneath them.
fn models() -> Result<Cache<String, Arc<Model>>, BuildError> {
    named("models")
        .max_capacity(64 * MIB)
        .weigher(|_, model: &Arc<Model>| model.bytes())
        // A model is heavy, and one segment for all is enough for a few of them.
        .max_entries(16)
        .build()
}

/// A user's own events are seen at once, by the tag. All else that goes into a ranking, the model and the shop's prices,
/// may be older: after a minute a caller still gets the old ranking, while a new one is computed in the background, and
/// after three nobody does.
fn results_with(
    due: mpsc::Sender<Refresh<ResultKey, Arc<Ranking>>>,
) -> Result<Cache<ResultKey, Arc<Ranking>>, BuildError> {
    named("results")
        .max_capacity(24 * MIB)
        .weigher(|_, ranking: &Arc<Ranking>| ranking.bytes())
        .tags(|key: &ResultKey, _| [user_tag(key.user)])
        .time_to_live(MINUTE)
        .time_to_live_jitter(0.2)
        .stale_while_revalidate(2 * MINUTE)
        .refresh_with(move |refresh| drop(due.try_send(refresh)))
        .build()
}

/// Nobody says goodbye, so sessions end by themselves. Should there be too many, those go that were used longest ago.
fn sessions() -> Result<Cache<String, Session>, BuildError> {
    named("sessions")
        .max_capacity(50_000)
        .time_to_idle(30 * MINUTE)
        .eviction_policy(EvictionPolicy::lru())
        // Also when nobody comes any more.
        .housekeeping(MINUTE)
        .build()
}

fn user_tag(user: UserId) -> String {
    format!("user:{user}")
}
