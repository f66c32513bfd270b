//! What the service does, without HTTP: each thing it needs comes from a cache, which has it loaded from the store.
//!
//! The pattern is the same everywhere. A task asks the cache, with a loader that awaits the store; the store does its blocking
//! work elsewhere. So a hit stays in the task, a miss blocks no thread of the executor, and however many tasks miss the same
//! key one of them loads it and the others await that.

use crate::caches::{Caches, Due, MODEL, ResultKey, Session};
use crate::console::{warn, with_causes};
use crate::domain::{Behaviour, Event, Features, Item, ItemId, User, UserId};
use crate::model::{Model, Ranking, candidates, rank};
use crate::server::Failure;
use crate::store::{NewEvent, Shape, Store};
use larder::{Computed, LoadError, Op, WarmUp};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Users who are warmed up.
const BUSIEST: u32 = 10_000;

/// Who comes while the caches are warmed up needs the store, too.
fn gently() -> WarmUp<'static> {
    WarmUp::new().batch(100).rate(20_000).sleep_with(tokio::time::sleep)
}

/// An id of a session is the hexadecimal digits of so many random bytes.
const SESSION_BYTES: usize = 16;

/// Whether a text can be an id that `begin_session` has given.
pub fn is_session_id(id: &str) -> bool {
    id.len() == 2 * SESSION_BYTES && id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub enum Error {
    NoUser(UserId),
    NoItem(ItemId),
    NoSession,
    /// A model is being trained already.
    Training,
    Store(Arc<rusqlite::Error>),
    Internal(String),
}

impl Error {
    pub fn internal(error: impl fmt::Display) -> Self {
        Self::Internal(error.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUser(user) => write!(f, "there is no user {user}"),
            Self::NoItem(item) => write!(f, "there is no item {item}"),
            Self::NoSession => f.write_str("there is no such session; it may have ended"),
            Self::Training => f.write_str("a model is being trained already"),
            Self::Store(error) => write!(f, "the store has failed: {error}"),
            Self::Internal(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}

impl From<Arc<rusqlite::Error>> for Error {
    fn from(error: Arc<rusqlite::Error>) -> Self {
        Self::Store(error)
    }
}

/// All who waited for a load that failed get the same error.
impl From<LoadError<Error>> for Error {
    fn from(error: LoadError<Error>) -> Self {
        match error {
            LoadError::Failed(error) => Error::clone(&error),
            other => Self::internal(other),
        }
    }
}

pub struct Service {
    pub store: Store,
    pub caches: Caches,
    pub shape: Shape,
    pub started: Instant,
    /// Without, all is read from the store and computed for each request.
    is_caching: bool,
    training: Mutex<()>,
}

impl Service {
    pub async fn new(store: Store, caches: Caches, is_caching: bool) -> Result<Self, Error> {
        let shape = store.shape().await?;
        Ok(Self { store, caches, shape, started: Instant::now(), is_caching, training: Mutex::new(()) })
    }

    /// Ranked items for a user, and what they were computed from.
    pub async fn recommend(&self, key: ResultKey) -> Result<Arc<Ranking>, Error> {
        // Who does not exist is known from another cache, and needs no place in this one.
        let user = self.user(key.user).await?;
        if !self.is_caching {
            return Ok(Arc::new(self.compute(&user, key.shelf).await?));
        }
        let load = |key: &ResultKey| {
            let shelf = key.shelf;
            async move { self.compute(&user, shelf).await.map(Arc::new) }
        };
        Ok(self.caches.results.try_get_or_load_async(key, load).await?)
    }

    async fn compute(&self, user: &User, shelf: Option<u8>) -> Result<Ranking, Error> {
        let (behaviour, taste) = tokio::try_join!(self.behaviour(user.id), self.taste(user.id))?;
        let model = self.model(&behaviour).await?;
        let candidates = candidates(&behaviour, &model);
        let items = self.items(candidates.keys().copied().collect()).await?;
        let items = rank(user, &taste, &candidates, &items, shelf);
        Ok(Ranking { items, model: model.version, last_event: behaviour.last_event() })
    }

    pub async fn user(&self, id: UserId) -> Result<Arc<User>, Error> {
        let load = |id: UserId| async move { Ok::<_, Error>(self.store.user(id).await?.map(Arc::new)) };
        let user = if self.is_caching {
            self.caches.users.try_get_or_load_async(id, |&id| load(id)).await?
        } else {
            load(id).await?
        };
        user.ok_or(Error::NoUser(id))
    }

    pub async fn behaviour(&self, user: UserId) -> Result<Arc<Behaviour>, Error> {
        let load = |user: UserId| async move { Ok::<_, Error>(Arc::new(self.store.behaviour(user).await?)) };
        if !self.is_caching {
            return load(user).await;
        }
        Ok(self.caches.behaviour.try_get_or_load_async(user, |&user| load(user)).await?)
    }

    async fn taste(&self, user: UserId) -> Result<Features, Error> {
        let load = |user: UserId| async move { Ok::<_, Error>(self.store.taste(user).await?) };
        if !self.is_caching {
            return load(user).await;
        }
        Ok(self.caches.tastes.try_get_or_load_async(user, |&user| load(user)).await?)
    }

    /// All of it from the cache; from the store only what this behaviour needs.
    async fn model(&self, behaviour: &Behaviour) -> Result<Arc<Model>, Error> {
        if !self.is_caching {
            let items = behaviour.recent.iter().map(|event| event.item).collect();
            return Ok(Arc::new(self.store.model_for(items).await?));
        }
        let load = |_: &String| async { Ok::<_, Error>(Arc::new(self.store.model().await?)) };
        // A lookup by `&str` needs no `String`, and there is a model nearly always.
        match self.caches.models.get(MODEL) {
            Some(model) => Ok(model),
            None => Ok(self.caches.models.try_get_or_load_async(MODEL.to_owned(), load).await?),
        }
    }

    /// What there is of these items.
    pub async fn items(&self, ids: Vec<ItemId>) -> Result<HashMap<ItemId, Arc<Item>>, Error> {
        let load = |ids: Vec<ItemId>| async move {
            let items = self.store.items(ids).await?;
            Ok::<_, Error>(items.into_iter().map(|item| (item.id, Arc::new(item))).collect::<Vec<_>>())
        };
        if !self.is_caching {
            return Ok(load(ids).await?.into_iter().collect());
        }
        Ok(self.caches.items.try_get_all_or_load_async(ids, load).await?)
    }

    /// Records what a user has done, and says whether it counts in the session. When this has returned, no recommendation is
    /// shown that was computed before.
    pub async fn record(&self, new: NewEvent, session: Option<&str>) -> Result<(Event, bool), Error> {
        self.user(new.user).await?;
        if !self.items(vec![new.item]).await?.contains_key(&new.item) {
            return Err(Error::NoItem(new.item));
        }
        // First the store, then the caches: the other way round a cache could load what the store does not have yet.
        let caches = self.caches.clone();
        let event = self.store.record(new, move |event| caches.user_has_acted(new.user, event)).await?;
        Ok((event, session.is_some_and(|session| self.count_in(session, new.user))))
    }

    /// A session that has ended stays so, and nobody counts in another's: the event itself is recorded all the same.
    fn count_in(&self, session: &str, user: UserId) -> bool {
        let counted = self.caches.sessions.compute(session.to_owned(), |session| match session {
            Some(session) if session.user == user => {
                Op::Insert(Session { events: session.events + 1, ..session.clone() })
            }
            _ => Op::Keep,
        });
        matches!(counted, Computed::Replaced(_))
    }

    pub async fn begin_session(&self, user: UserId) -> Result<String, Error> {
        self.user(user).await?;
        // It lets in who knows it, so nobody must be able to guess it.
        let mut bytes = [0; SESSION_BYTES];
        getrandom::fill(&mut bytes).map_err(Error::internal)?;
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.caches.sessions.insert(id.clone(), Session { user, events: 0 });
        Ok(id)
    }

    /// To be looked at is to be used: its time begins anew.
    pub fn session(&self, id: &str) -> Result<Session, Error> {
        self.caches.sessions.get(id).ok_or(Error::NoSession)
    }

    /// Trains a model from all events and puts it in the place of the one in use, whose readers do not wait.
    ///
    /// Results that were computed with the model before are not invalidated: all at once would have to be computed then. They
    /// end within about three minutes.
    pub async fn retrain(&self) -> Result<u64, Error> {
        let _only_one = self.training.try_lock().map_err(|_| Error::Training)?;
        let version = self.store.train().await?;
        if self.is_caching {
            let model = Arc::new(self.store.model().await?);
            // Not a refresh, which would join a load that is under way, and that may have read the model before. A write is
            // kept, and that load is not.
            self.caches.models.insert(MODEL.to_owned(), model);
        }
        Ok(version)
    }

    /// Of the model in use, if one is.
    pub fn model_version(&self) -> Option<u64> {
        self.caches.models.peek(MODEL).map(|model| model.version)
    }

    pub fn is_caching(&self) -> bool {
        self.is_caching
    }

    pub fn is_training(&self) -> bool {
        self.training.try_lock().is_err()
    }

    /// Has what the busiest users need loaded before they ask for it, in batches: a cold start costs them nothing then. What
    /// is there already, from a snapshot, is not loaded again.
    pub async fn warm_up(self: Arc<Self>) {
        let warmed = async {
            let busiest = self.store.busiest(BUSIEST).await?;
            let users = |ids: Vec<UserId>| async {
                let loaded = self.store.users(ids).await?;
                Ok::<_, Error>(loaded.into_iter().map(|user| (user.id, Some(Arc::new(user)))))
            };
            self.caches.users.try_warm_async(busiest.clone(), gently(), users).await?;
            let behaviours = |users: Vec<UserId>| async {
                let loaded = self.store.behaviours(users).await?;
                Ok::<_, Error>(loaded.into_iter().map(|(user, behaviour)| (user, Arc::new(behaviour))))
            };
            self.caches.behaviour.try_warm_async(busiest.clone(), gently(), behaviours).await?;
            let tastes = |users: Vec<UserId>| async { Ok::<_, Error>(self.store.tastes(users).await?) };
            self.caches.tastes.try_warm_async(busiest, gently(), tastes).await?;
            Ok::<_, Failure>(())
        };
        if let Err(error) = warmed.await {
            warn(format_args!("the caches were not warmed up: {}", with_causes(&*error)));
        }
    }

    /// Computes anew what readers found due, one after the other: it is not urgent, and who waits for an answer needs the cores.
    pub async fn refresh(self: Arc<Self>, mut due: Due) {
        loop {
            tokio::select! {
                Some(refresh) = due.tastes.recv() => {
                    // A refresh that is dropped has failed: the old value stays, and is tried again later.
                    if let Ok(taste) = self.store.taste(*refresh.key()).await {
                        refresh.complete(taste);
                    }
                }
                Some(refresh) = due.results.recv() => {
                    let ResultKey { user, shelf } = *refresh.key();
                    let Ok(user) = self.user(user).await else { continue };
                    if let Ok(ranking) = self.compute(&user, shelf).await {
                        refresh.complete(Arc::new(ranking));
                    }
                }
                else => return,
            }
        }
    }

    /// Trains every now and then, if there is something new to learn from.
    pub async fn keep_training(self: Arc<Self>, every: Duration) {
        let mut trained_on = 0;
        loop {
            tokio::time::sleep(every).await;
            let last = self.store.last_event().await.unwrap_or(trained_on);
            if last == trained_on {
                continue;
            }
            match self.retrain().await {
                Ok(_) => trained_on = last,
                Err(error) => warn(format_args!("no model was trained: {error}")),
            }
        }
    }
}
