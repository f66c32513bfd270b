//! All SQL but that which makes up the data.

use super::{NewEvent, Shape};
use crate::domain::{Behaviour, Event, FEATURES, Features, Item, ItemId, Kind, RECENT, User, UserId};
use crate::model::{Model, Neighbour, Trained, taste_of, train_on};
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Result, Row, params};
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// A user's last events, of which their taste is made.
const TASTE: usize = 300;
/// Of each user, for training.
const HISTORY: i64 = 40;

pub(super) const SCHEMA: &str = "
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, budget_cents INTEGER NOT NULL);
    CREATE TABLE items (
        id INTEGER PRIMARY KEY, title TEXT NOT NULL, shelf INTEGER NOT NULL, price_cents INTEGER NOT NULL,
        is_available INTEGER NOT NULL, features BLOB NOT NULL
    );
    -- AUTOINCREMENT: the number of an event is never given again.
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, user INTEGER NOT NULL REFERENCES users,
        item INTEGER NOT NULL REFERENCES items, kind INTEGER NOT NULL, at INTEGER NOT NULL
    );
    CREATE TABLE neighbours (item INTEGER PRIMARY KEY, list BLOB NOT NULL);
    -- One row each.
    CREATE TABLE model (version INTEGER NOT NULL, popular BLOB NOT NULL);
    CREATE TABLE store (identity INTEGER NOT NULL);
";

/// Made once the events are there: that is faster.
pub(super) const INDEX: &str = "
    CREATE INDEX events_of_user ON events (user, id, item, kind);
    CREATE INDEX settled_of_user ON events (user, item) WHERE kind IN (2, 3);
";

pub(super) fn user(connection: &mut Connection, id: UserId) -> Result<Option<User>> {
    let mut select = connection.prepare_cached("SELECT name, budget_cents FROM users WHERE id = ?")?;
    select.query_row([id], |row| Ok(User { id, name: row.get(0)?, budget_cents: row.get(1)? })).optional()
}

/// What there is of these items, in one query.
pub(super) fn items(connection: &mut Connection, ids: &[ItemId]) -> Result<Vec<Item>> {
    // The list goes in as one parameter, so that the statement is prepared once, however many items there are.
    let mut select = connection.prepare_cached(
        "SELECT id, title, shelf, price_cents, is_available, features FROM items
         WHERE id IN (SELECT value FROM json_each(?))",
    )?;
    let read = |row: &Row<'_>| {
        Ok(Item {
            id: row.get(0)?,
            title: row.get::<_, String>(1)?.into(),
            shelf: row.get(2)?,
            price_cents: row.get(3)?,
            is_available: row.get(4)?,
            features: features(row, 5)?,
        })
    };
    select.query_map([list(ids)], read)?.collect()
}

/// In one transaction, so that both parts are of the same moment.
pub(super) fn behaviour(connection: &mut Connection, user: UserId) -> Result<Behaviour> {
    let transaction = connection.transaction()?;
    let mut select = transaction.prepare_cached(
        "SELECT id, item, kind FROM events INDEXED BY events_of_user WHERE user = ? ORDER BY id DESC LIMIT ?",
    )?;
    let read = |row: &Row<'_>| Ok(Event { id: row.get(0)?, item: row.get(1)?, kind: kind(row, 2)? });
    let mut recent = select.query_map(params![user, RECENT as i64], read)?.collect::<Result<Vec<_>>>()?;
    recent.reverse();
    let mut select = transaction
        .prepare_cached("SELECT DISTINCT item FROM events WHERE user = ? AND kind IN (2, 3) ORDER BY item")?;
    let settled = select.query_map([user], |row| row.get(0))?.collect::<Result<_>>()?;
    Ok(Behaviour { recent, settled })
}

pub(super) fn taste(connection: &mut Connection, user: UserId) -> Result<Features> {
    let mut select = connection.prepare_cached(
        "SELECT last.kind, items.features
         FROM (SELECT id, item, kind FROM events INDEXED BY events_of_user
               WHERE user = ? ORDER BY id DESC LIMIT ?) AS last
         JOIN items ON items.id = last.item
         ORDER BY last.id DESC",
    )?;
    let read = |row: &Row<'_>| Ok((kind(row, 0)?, features(row, 1)?));
    let history = select.query_map(params![user, TASTE as i64], read)?.collect::<Result<Vec<_>>>()?;
    Ok(taste_of(&history))
}

/// Users who did most of what was done last, the busiest first.
pub(super) fn busiest(connection: &mut Connection, most: u32) -> Result<Vec<UserId>> {
    let mut select = connection.prepare_cached(
        "SELECT user FROM events WHERE id > (SELECT coalesce(max(id), 0) FROM events) - 500000
         GROUP BY user ORDER BY count(*) DESC LIMIT ?",
    )?;
    select.query_map([most], |row| row.get(0))?.collect()
}

/// The model, with the neighbours of all items or of these.
pub(super) fn model(connection: &mut Connection, items: Option<&[ItemId]>) -> Result<Model> {
    let transaction = connection.transaction()?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, bytes_to_items(&row.get::<_, Vec<u8>>(1)?)));
    let (version, popular) =
        transaction.prepare_cached("SELECT version, popular FROM model")?.query_row([], read)?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, bytes_to_neighbours(&row.get::<_, Vec<u8>>(1)?)));
    let neighbours = match items {
        None => transaction
            .prepare_cached("SELECT item, list FROM neighbours")?
            .query_map([], read)?
            .collect::<Result<HashMap<_, _>>>()?,
        Some(items) => transaction
            .prepare_cached(
                "SELECT item, list FROM neighbours WHERE item IN (SELECT value FROM json_each(?))",
            )?
            .query_map([list(items)], read)?
            .collect::<Result<_>>()?,
    };
    Ok(Model { version, popular, neighbours })
}

pub(super) fn model_version(connection: &mut Connection) -> Result<u64> {
    connection.prepare_cached("SELECT version FROM model")?.query_row([], |row| row.get(0))
}

pub(super) fn last_event(connection: &mut Connection) -> Result<i64> {
    connection.prepare_cached("SELECT coalesce(max(id), 0) FROM events")?.query_row([], |row| row.get(0))
}

pub(super) fn active_since(connection: &mut Connection, event: i64) -> Result<Vec<UserId>> {
    let mut select = connection.prepare_cached("SELECT DISTINCT user FROM events WHERE id > ?")?;
    select.query_map([event], |row| row.get(0))?.collect()
}

pub(super) fn shape(connection: &mut Connection) -> Result<Shape> {
    let mut select = connection.prepare_cached(
        "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM items), identity FROM store",
    )?;
    select.query_row([], |row| Ok(Shape { users: row.get(0)?, items: row.get(1)?, identity: row.get(2)? }))
}

/// Writes some pages that nobody reads, and more of them than an event takes. An error says that events have no room either.
pub(super) fn probe(connection: &mut Connection) -> Result<()> {
    connection
        .execute_batch("CREATE TABLE IF NOT EXISTS probe (id INTEGER PRIMARY KEY, padding BLOB NOT NULL)")?;
    connection.prepare_cached("INSERT OR REPLACE INTO probe VALUES (1, randomblob(65536))")?.execute([])?;
    Ok(())
}

pub(super) fn record(connection: &mut Connection, new: NewEvent) -> Result<Event> {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64);
    connection
        .prepare_cached("INSERT INTO events (user, item, kind, at) VALUES (?, ?, ?, ?)")?
        .execute(params![new.user, new.item, new.kind.code(), at])?;
    Ok(Event { id: connection.last_insert_rowid(), item: new.item, kind: new.kind })
}

pub(super) fn train(connection: &mut Connection) -> Result<Trained> {
    let mut select =
        connection.prepare_cached("SELECT user, item, kind FROM events ORDER BY user, id DESC")?;
    let mut rows = select.query([])?;
    let mut histories: Vec<Vec<ItemId>> = Vec::new();
    let (mut last, mut seen) = (None, 0);
    while let Some(row) = rows.next()? {
        let user: UserId = row.get(0)?;
        if last != Some(user) {
            (last, seen) = (Some(user), 0);
            histories.push(Vec::new());
        }
        seen += 1;
        if seen <= HISTORY && kind(row, 2)? != Kind::Dismiss {
            histories.last_mut().expect("this user's").push(row.get(1)?);
        }
    }
    Ok(train_on(histories))
}

/// Puts a model in the place of the one before, in one transaction.
pub(super) fn save_model(connection: &mut Connection, trained: &Trained) -> Result<u64> {
    let transaction = connection.transaction()?;
    let before: Option<u64> =
        transaction.query_row("SELECT version FROM model", [], |row| row.get(0)).optional()?;
    let version = before.unwrap_or(0) + 1;
    transaction.execute("DELETE FROM model", [])?;
    transaction.execute(
        "INSERT INTO model (version, popular) VALUES (?, ?)",
        params![version, items_to_bytes(&trained.popular)],
    )?;
    transaction.execute("DELETE FROM neighbours", [])?;
    {
        let mut insert = transaction.prepare_cached("INSERT INTO neighbours (item, list) VALUES (?, ?)")?;
        for (item, neighbours) in &trained.neighbours {
            insert.execute(params![item, neighbours_to_bytes(neighbours)])?;
        }
    }
    transaction.commit()?;
    Ok(version)
}

/// As JSON, which SQLite can read.
fn list(ids: &[ItemId]) -> String {
    let ids: Vec<_> = ids.iter().map(ItemId::to_string).collect();
    format!("[{}]", ids.join(","))
}

fn kind(row: &Row<'_>, column: usize) -> Result<Kind> {
    let code = row.get(column)?;
    Kind::from_code(code).ok_or(Error::IntegralValueOutOfRange(column, code.into()))
}

fn features(row: &Row<'_>, column: usize) -> Result<Features> {
    let bytes = row.get_ref(column)?.as_blob()?;
    let (numbers, rest) = bytes.as_chunks::<4>();
    let numbers: Vec<f32> = numbers.iter().map(|&number| f32::from_le_bytes(number)).collect();
    let wrong = || Error::InvalidColumnType(column, "features".to_owned(), Type::Blob);
    if rest.is_empty() { numbers.try_into().map_err(|_| wrong()) } else { Err(wrong()) }
}

pub(super) fn features_to_bytes(features: &Features) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 * FEATURES);
    features.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
    bytes
}

fn items_to_bytes(items: &[ItemId]) -> Vec<u8> {
    items.iter().flat_map(|item| item.to_le_bytes()).collect()
}

fn bytes_to_items(bytes: &[u8]) -> Vec<ItemId> {
    bytes.as_chunks::<4>().0.iter().map(|&item| ItemId::from_le_bytes(item)).collect()
}

fn neighbours_to_bytes(neighbours: &[Neighbour]) -> Vec<u8> {
    let pair = |neighbour: &Neighbour| (neighbour.item.to_le_bytes(), neighbour.similarity.to_le_bytes());
    neighbours.iter().map(pair).flat_map(|(item, similarity)| item.into_iter().chain(similarity)).collect()
}

fn bytes_to_neighbours(bytes: &[u8]) -> Vec<Neighbour> {
    let neighbour = |&[a, b, c, d, e, f, g, h]: &[u8; 8]| Neighbour {
        item: ItemId::from_le_bytes([a, b, c, d]),
        similarity: f32::from_le_bytes([e, f, g, h]),
    };
    bytes.as_chunks::<8>().0.iter().map(neighbour).collect()
}
