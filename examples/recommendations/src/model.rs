//! The recommender: which items go together, what a user likes, and what to show. Plain computation, no store and no cache.
//!
//! 1. *Training* counts which items the same users took: each item's nearest neighbours.
//! 2. *Candidates* are the neighbours of what a user did lately, and what is popular.
//! 3. *Ranking* scores them by that and by the user's taste, and leaves out what must not be shown.

use crate::domain::{Behaviour, Event, Features, Item, ItemId, Kind, User};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// Items that are ranked for a user: the most that can be asked for.
pub const RANKED: usize = 50;

const NEIGHBOURS: usize = 20;
const POPULAR: usize = 100;
/// How much less the event before counts.
const FADING: f32 = 0.97;
/// Two items that few users took may go together by chance.
const CHANCE: f32 = 5.0;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    pub item: ItemId,
    pub similarity: f32,
}

/// What training gives.
#[derive(Debug)]
pub struct Trained {
    pub popular: Vec<ItemId>,
    pub neighbours: Vec<(ItemId, Vec<Neighbour>)>,
}

/// What ranking needs of that.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Grows with each training.
    pub version: u64,
    pub popular: Vec<ItemId>,
    pub neighbours: HashMap<ItemId, Vec<Neighbour>>,
}

impl Model {
    pub fn bytes(&self) -> u64 {
        let neighbours = self.neighbours.values().map(|list| 48 + list.len() * size_of::<Neighbour>());
        (size_of::<Self>() + self.popular.len() * size_of::<ItemId>() + neighbours.sum::<usize>()) as u64
    }
}

/// An item for a user. Enough of it to be shown, so that a result that is cached needs nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    pub id: ItemId,
    pub title: Arc<str>,
    pub shelf: u8,
    pub price_cents: u32,
    pub score: f32,
}

/// What to show to a user, and what that was computed from.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    pub items: Vec<Ranked>,
    /// The model's version.
    pub model: u64,
    /// The last event of the user that counted.
    pub last_event: i64,
}

impl Ranking {
    pub fn bytes(&self) -> u64 {
        (size_of::<Self>() + self.items.len() * size_of::<Ranked>()) as u64
    }
}

/// Finds each item's neighbours: those that the same users took, in proportion to how often either was taken at all.
pub fn train_on(mut histories: Vec<Vec<ItemId>>) -> Trained {
    for history in &mut histories {
        history.sort_unstable();
        history.dedup();
    }
    let items = histories.iter().flatten().max().map_or(0, |&item| item as usize + 1);
    let mut takers: Vec<Vec<u32>> = vec![Vec::new(); items];
    for (user, history) in histories.iter().enumerate() {
        history.iter().for_each(|&item| takers[item as usize].push(user as u32));
    }
    let mut together = vec![0_u32; items];
    let taken = (0..items).filter(|&item| !takers[item].is_empty());
    let neighbours = taken.map(|item| {
        let histories = takers[item].iter().map(|&user| &histories[user as usize]);
        (item as ItemId, neighbours_of(item, histories, &takers, &mut together))
    });
    Trained { neighbours: neighbours.collect(), popular: popular(&takers) }
}

/// `together` is all 0 before and after.
fn neighbours_of<'h>(
    item: usize,
    histories: impl Iterator<Item = &'h Vec<ItemId>>,
    takers: &[Vec<u32>],
    together: &mut [u32],
) -> Vec<Neighbour> {
    let mut touched = Vec::new();
    for &other in histories.flatten().filter(|&&other| other as usize != item) {
        if together[other as usize] == 0 {
            touched.push(other);
        }
        together[other as usize] += 1;
    }
    let similarity = |other: ItemId| {
        let both = (takers[item].len() as f32 * takers[other as usize].len() as f32).sqrt();
        together[other as usize] as f32 / (both + CHANCE)
    };
    let mut all: Vec<_> =
        touched.iter().map(|&other| Neighbour { item: other, similarity: similarity(other) }).collect();
    touched.iter().for_each(|&other| together[other as usize] = 0);
    keep_best(&mut all, NEIGHBOURS, |neighbour| (neighbour.similarity, neighbour.item));
    all
}

fn popular(takers: &[Vec<u32>]) -> Vec<ItemId> {
    let mut items: Vec<_> =
        (0..takers.len() as ItemId).filter(|&item| !takers[item as usize].is_empty()).collect();
    keep_best(&mut items, POPULAR, |&item| (takers[item as usize].len() as f32, item));
    items
}

/// Sorts by score, the best first, and by number where scores are the same, so that the outcome is always the same.
fn keep_best<T>(all: &mut Vec<T>, most: usize, score: impl Fn(&T) -> (f32, ItemId)) {
    let order = |a: &T, b: &T| {
        let ((a_score, a), (b_score, b)) = (score(a), score(b));
        b_score.total_cmp(&a_score).then(a.cmp(&b))
    };
    if all.len() > most && most > 0 {
        all.select_nth_unstable_by(most - 1, order);
        all.truncate(most);
    }
    all.sort_unstable_by(order);
}

/// The direction in which a user's events point, the newest first.
pub fn taste_of(history: &[(Kind, Features)]) -> Features {
    let mut sum = Features::default();
    let mut fading = 1.0;
    for (kind, features) in history {
        let weight = fading * kind.weight();
        sum.iter_mut().zip(features).for_each(|(sum, feature)| *sum += weight * feature);
        fading *= FADING;
    }
    normalized(sum)
}

/// As long as 1, or 0.
pub fn normalized(features: Features) -> Features {
    let length = features.iter().map(|feature| feature * feature).sum::<f32>().sqrt();
    if length > 0.0 { features.map(|feature| feature / length) } else { features }
}

/// What may be shown, and how much the user's last events speak for it.
pub fn candidates(behaviour: &Behaviour, model: &Model) -> HashMap<ItemId, f32> {
    let mut scores: HashMap<ItemId, f32> = model.popular.iter().map(|&item| (item, 0.0)).collect();
    let mut fading = 1.0;
    for Event { item, kind, .. } in behaviour.recent.iter().rev() {
        for neighbour in model.neighbours.get(item).into_iter().flatten() {
            *scores.entry(neighbour.item).or_default() += fading * kind.weight() * neighbour.similarity;
        }
        fading *= FADING;
    }
    scores.retain(|&item, _| !behaviour.has_settled(item));
    scores
}

/// Orders the candidates for a user; `items` are what is known of them. With a shelf only those that stand there.
pub fn rank(
    user: &User,
    taste: &Features,
    candidates: &HashMap<ItemId, f32>,
    items: &HashMap<ItemId, Arc<Item>>,
    shelf: Option<u8>,
) -> Vec<Ranked> {
    let may_be_shown = |item: &&Arc<Item>| {
        item.is_available
            && item.price_cents <= user.budget_cents
            && shelf.is_none_or(|shelf| item.shelf == shelf)
    };
    let score = |item: &Item| {
        let likes: f32 = item.features.iter().zip(taste).map(|(feature, taste)| feature * taste).sum();
        likes + candidates.get(&item.id).copied().unwrap_or(0.0)
    };
    let mut scored: Vec<_> = items.values().filter(may_be_shown).map(|item| (item, score(item))).collect();
    keep_best(&mut scored, RANKED, |(item, score)| (*score, item.id));
    let ranked = |(item, score): (&Arc<Item>, f32)| Ranked {
        id: item.id,
        title: Arc::clone(&item.title),
        shelf: item.shelf,
        price_cents: item.price_cents,
        score,
    };
    scored.into_iter().map(ranked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_together_is_near() {
        let trained = train_on(vec![vec![1, 2, 2], vec![2, 1], vec![1, 2, 3], vec![3, 4]]);
        let neighbours: HashMap<_, _> = trained.neighbours.into_iter().collect();
        let near = |item: ItemId| neighbours[&item].iter().map(|near| near.item).collect::<Vec<_>>();
        assert_eq!(near(1), [2, 3]);
        assert_eq!(near(4), [3]);
        assert_eq!(trained.popular, [1, 2, 3, 4]);
    }

    #[test]
    fn nothing_to_train_on_is_no_fault() {
        let trained = train_on(Vec::new());
        assert!(trained.popular.is_empty() && trained.neighbours.is_empty());
        assert_eq!(taste_of(&[]), Features::default());
    }

    #[test]
    fn what_must_not_be_shown_is_left_out() {
        let user = User { id: 1, name: "Ada".into(), budget_cents: 500 };
        let item = |id, price_cents, is_available| {
            let features = Features::default();
            (id, Arc::new(Item { id, title: "Tea".into(), shelf: 0, price_cents, is_available, features }))
        };
        let items = HashMap::from([item(1, 500, true), item(2, 501, true), item(3, 100, false)]);
        let all = HashMap::from([(1, 1.0), (2, 2.0), (3, 3.0)]);
        let ids = |shelf| {
            let ranked = rank(&user, &Features::default(), &all, &items, shelf);
            ranked.iter().map(|item| item.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(None), [1]);
        assert!(ids(Some(7)).is_empty());
    }

    #[test]
    fn what_is_settled_is_no_candidate() {
        let model = Model { version: 1, popular: vec![1, 2], neighbours: HashMap::new() };
        let bought = Behaviour::default().with(Event { id: 1, item: 2, kind: Kind::Buy });
        assert_eq!(candidates(&bought, &model), HashMap::from([(1, 0.0)]));
    }
}
