//! Made-up data, the same in each run: users with tastes, items on shelves, and events of the skew that real ones have.

use super::queries::{INDEX, SCHEMA, features_to_bytes};
use crate::domain::{FEATURES, Features, Kind};
use crate::model::normalized;
use crate::random::{Random, Zipf};
use rusqlite::{Connection, Result, Transaction, params};
use std::time::{SystemTime, UNIX_EPOCH};

const SEED: u64 = 20;
/// A few users have done a lot, most have done little; likewise for items on their shelves.
const USER_SKEW: f64 = 0.7;
const ITEM_SKEW: f64 = 0.9;

/// Shelves are numbered from 0.
pub const SHELVES: u8 = SHELF_NAMES.len() as u8;
const SHELF_NAMES: [(&str, [&str; 4]); 12] = [
    ("tea", ["Assam", "Sencha", "Darjeeling", "Rooibos"]),
    ("coffee", ["Yirgacheffe", "Mocha", "Ristretto", "Bourbon"]),
    ("jam", ["Quince jelly", "Apricot jam", "Plum butter", "Marmalade"]),
    ("cheese", ["Gruyere", "Manchego", "Cheddar", "Stilton"]),
    ("bread", ["Rye loaf", "Baguette", "Focaccia", "Crispbread"]),
    ("pasta", ["Orecchiette", "Tagliatelle", "Fregola", "Bucatini"]),
    ("oil", ["Olive oil", "Walnut oil", "Pumpkin oil", "Sesame oil"]),
    ("spice", ["Cardamom", "Sumac", "Saffron", "Star anise"]),
    ("pickle", ["Cornichons", "Kimchi", "Capers", "Piccalilli"]),
    ("nuts", ["Almonds", "Pistachios", "Hazelnuts", "Pecans"]),
    ("chocolate", ["Nougat", "Truffles", "Dark bar", "Gianduja"]),
    ("fish", ["Sardines", "Anchovies", "Smoked trout", "Bottarga"]),
];

/// How much there is to make up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub users: u32,
    pub items: u32,
    pub events: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self { users: 20_000, items: 5_000, events: 400_000 }
    }
}

pub(super) fn fill(connection: &mut Connection, size: Size) -> Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    let mut random = Random::new(SEED);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    transaction.execute("INSERT INTO store (identity) VALUES (?)", [now.as_nanos() as i64])?;
    fill_users(&transaction, size, &mut random)?;
    fill_items(&transaction, size, &mut random)?;
    fill_events(&transaction, size, &mut random, now.as_millis() as i64)?;
    transaction.execute_batch(INDEX)?;
    transaction.commit()
}

fn fill_users(transaction: &Transaction<'_>, size: Size, random: &mut Random) -> Result<()> {
    let mut insert = transaction.prepare("INSERT INTO users (id, name, budget_cents) VALUES (?, ?, ?)")?;
    for user in 1..=size.users {
        insert.execute(params![user, format!("User {user}"), 3_000 + random.below(7_000)])?;
    }
    Ok(())
}

/// Items go to the shelves in turns, so the first items are the most popular of their shelves.
fn fill_items(transaction: &Transaction<'_>, size: Size, random: &mut Random) -> Result<()> {
    let shelves: Vec<Features> = SHELF_NAMES.iter().map(|_| direction(random)).collect();
    let mut insert = transaction.prepare(
        "INSERT INTO items (id, title, shelf, price_cents, is_available, features) VALUES (?, ?, ?, ?, ?, ?)",
    )?;
    for item in 1..=size.items {
        let shelf = shelf_of(item);
        let (_, names) = SHELF_NAMES[shelf];
        let title = format!("{} no. {item}", names[random.below(4) as usize]);
        let own = direction(random);
        let features = normalized(std::array::from_fn(|at| shelves[shelf][at] + 0.7 * own[at]));
        let price = 200 + (random.part().powi(3) * 6_000.0) as u32;
        insert.execute(params![item, title, shelf, price, random.is(0.95), features_to_bytes(&features)])?;
    }
    Ok(())
}

fn fill_events(transaction: &Transaction<'_>, size: Size, random: &mut Random, now: i64) -> Result<()> {
    let users = Zipf::new(size.users, USER_SKEW);
    // The last shelf may have an item less than the others; who asks for that gets the first one.
    let ranks = Zipf::new(size.items.div_ceil(u32::from(SHELVES)), ITEM_SKEW);
    let mut insert = transaction.prepare("INSERT INTO events (user, item, kind, at) VALUES (?, ?, ?, ?)")?;
    for event in 0..size.events {
        let user = users.rank(random) + 1;
        let shelf = taste(user, random);
        let item = 1 + shelf + ranks.rank(random) * u32::from(SHELVES);
        let item = if item <= size.items { item } else { 1 + shelf % size.items };
        let at = now - 1_000 * i64::from(size.events - event);
        insert.execute(params![user, item, any_kind(random).code(), at])?;
    }
    Ok(())
}

fn shelf_of(item: u32) -> usize {
    (item - 1) as usize % usize::from(SHELVES)
}

pub fn shelf_name(shelf: u8) -> &'static str {
    SHELF_NAMES.get(usize::from(shelf)).map_or("other", |(name, _)| name)
}

/// Each user likes two shelves, and looks at the others now and then.
fn taste(user: u32, random: &mut Random) -> u32 {
    let mut likes = Random::new(u64::from(user));
    let (first, second) = (likes.below(u32::from(SHELVES)), likes.below(u32::from(SHELVES)));
    match random.part() {
        part if part < 0.6 => first,
        part if part < 0.85 => second,
        _ => random.below(u32::from(SHELVES)),
    }
}

fn any_kind(random: &mut Random) -> Kind {
    match random.part() {
        part if part < 0.62 => Kind::View,
        part if part < 0.92 => Kind::Click,
        part if part < 0.98 => Kind::Buy,
        _ => Kind::Dismiss,
    }
}

fn direction(random: &mut Random) -> Features {
    normalized([(); FEATURES].map(|()| random.part() as f32 - 0.5))
}
