//! The store: SQLite in a file. It is the truth; all else is computed from it.
//!
//! SQLite blocks the thread that calls it, and a thread of the executor that is blocked answers nobody. So each call goes
//! to a thread for blocking work, by [`Pool::run`], with a connection of its own.

mod fill;
mod pool;
mod queries;

pub use fill::{SHELVES, Size, shelf_name};

use pool::Pool;

use crate::domain::{Behaviour, Event, Features, Item, ItemId, Kind, User, UserId};
use crate::model::Model;
use rusqlite::Connection;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Connections that read at the same time.
const READERS: usize = 4;

pub type Result<T> = std::result::Result<T, Arc<rusqlite::Error>>;

/// What a user does, before the store has numbered it.
#[derive(Clone, Copy, Debug)]
pub struct NewEvent {
    pub user: UserId,
    pub item: ItemId,
    pub kind: Kind,
}

#[derive(Clone)]
pub struct Store {
    readers: Pool,
    /// One, since SQLite has one writer at a time: who waits for it waits in a task, not in a thread.
    writer: Pool,
}

impl Store {
    /// Opens the store in this file, and fills a new one with made-up users, items and events.
    pub fn open(file: &Path, size: Size) -> rusqlite::Result<Self> {
        if !file.exists() {
            fill_aside(file, size)?;
        }
        Ok(Self { readers: Pool::open(file, READERS)?, writer: Pool::open(file, 1)? })
    }

    pub async fn user(&self, id: UserId) -> Result<Option<User>> {
        self.readers.run(move |connection| queries::user(connection, id)).await
    }

    pub async fn items(&self, ids: Vec<ItemId>) -> Result<Vec<Item>> {
        self.readers.run(move |connection| queries::items(connection, &ids)).await
    }

    pub async fn behaviour(&self, user: UserId) -> Result<Behaviour> {
        self.readers.run(move |connection| queries::behaviour(connection, user)).await
    }

    pub async fn taste(&self, user: UserId) -> Result<Features> {
        self.readers.run(move |connection| queries::taste(connection, user)).await
    }

    /// Each of these that there is.
    pub async fn users(&self, ids: Vec<UserId>) -> Result<Vec<User>> {
        let each = move |connection: &mut Connection| {
            ids.into_iter().filter_map(|id| queries::user(connection, id).transpose()).collect()
        };
        self.readers.run(each).await
    }

    pub async fn behaviours(&self, users: Vec<UserId>) -> Result<Vec<(UserId, Behaviour)>> {
        let each = move |connection: &mut Connection| {
            users.into_iter().map(|user| Ok((user, queries::behaviour(connection, user)?))).collect()
        };
        self.readers.run(each).await
    }

    pub async fn tastes(&self, users: Vec<UserId>) -> Result<Vec<(UserId, Features)>> {
        let each = move |connection: &mut Connection| {
            users.into_iter().map(|user| Ok((user, queries::taste(connection, user)?))).collect()
        };
        self.readers.run(each).await
    }

    /// Who will probably come soon: who has done most lately.
    pub async fn busiest(&self, most: u32) -> Result<Vec<UserId>> {
        self.readers.run(move |connection| queries::busiest(connection, most)).await
    }

    /// Of the model that was trained last.
    pub async fn model_version(&self) -> Result<u64> {
        self.readers.run(queries::model_version).await
    }

    /// The whole model that was trained last.
    pub async fn model(&self) -> Result<Model> {
        self.readers.run(|connection| queries::model(connection, None)).await
    }

    /// As much of it as these items need.
    pub async fn model_for(&self, items: Vec<ItemId>) -> Result<Model> {
        self.readers.run(move |connection| queries::model(connection, Some(&items))).await
    }

    /// The number of the last event.
    pub async fn last_event(&self) -> Result<i64> {
        self.readers.run(queries::last_event).await
    }

    /// Who has done something after this event.
    pub async fn active_since(&self, event: i64) -> Result<Vec<UserId>> {
        self.readers.run(move |connection| queries::active_since(connection, event)).await
    }

    /// How many users and items there are, and which store it is: another one has another number.
    pub async fn shape(&self) -> Result<Shape> {
        self.readers.run(queries::shape).await
    }

    /// Records an event, and then tells `then` of it; of none if that failed, perhaps after it was written.
    ///
    /// Both happen in one piece of blocking work, which goes on to its end even if the caller is dropped, as happens when a
    /// client hangs up. With `then` after the `await` instead, an event could be in the store and the caches not know of it.
    pub async fn record(
        &self,
        new: NewEvent,
        then: impl FnOnce(Option<Event>) + Send + 'static,
    ) -> Result<Event> {
        let record = move |connection: &mut Connection| {
            let event = queries::record(connection, new);
            then(event.as_ref().ok().copied());
            event
        };
        self.writer.run(record).await
    }

    /// Whether events could be recorded now. An error says why not.
    pub async fn probe(&self) -> Result<()> {
        self.writer.run(queries::probe).await
    }

    /// The number of the last event that [`record`](Self::record) has told of: the writer does one thing after the other.
    pub async fn last_told(&self) -> Result<i64> {
        self.writer.run(queries::last_event).await
    }

    /// Trains a model from the events that there are, and keeps it in the place of the one before. Gives its version.
    pub async fn train(&self) -> Result<u64> {
        // Training takes a while, so a reader's connection does it: events are recorded meanwhile.
        let trained = self.readers.run(queries::train).await?;
        self.writer.run(move |connection| queries::save_model(connection, &trained)).await
    }
}

/// What there is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub users: u32,
    pub items: u32,
    pub identity: i64,
}

/// A store that was not filled to its end, since the process was killed, must not be taken for one that was. So it is filled
/// under another name.
fn fill_aside(file: &Path, size: Size) -> rusqlite::Result<()> {
    let aside = file.with_extension("new");
    for leftover in ["new", "new-wal", "new-shm"] {
        let _ = fs::remove_file(file.with_extension(leftover));
    }
    let mut connection = pool::connect(&aside)?;
    fill::fill(&mut connection, size)?;
    let trained = queries::train(&mut connection)?;
    queries::save_model(&mut connection, &trained)?;
    // The last connection that closes brings the write-ahead log into the file.
    connection.close().map_err(|(_, error)| error)?;
    // The log of another store, whose file somebody has removed alone, must not be taken for this one's.
    for leftover in ["sqlite-wal", "sqlite-shm"] {
        let _ = fs::remove_file(file.with_extension(leftover));
    }
    fs::rename(&aside, file).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
