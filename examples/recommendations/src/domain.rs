//! What the service speaks of: users, items, and what users do with items.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub type UserId = u32;
pub type ItemId = u32;

/// Numbers that describe an item. A user's taste is described by the same ones.
pub const FEATURES: usize = 16;
pub type Features = [f32; FEATURES];

/// Events of a user that the service looks at when it ranks.
pub const RECENT: usize = 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    pub id: UserId,
    pub name: String,
    /// Dearer items are not shown.
    pub budget_cents: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub id: ItemId,
    pub title: Arc<str>,
    pub shelf: u8,
    pub price_cents: u32,
    pub is_available: bool,
    pub features: Features,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    View,
    Click,
    Buy,
    Dismiss,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::View, Self::Click, Self::Buy, Self::Dismiss];

    /// As the store has it.
    pub fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// How much it says of the user's taste.
    pub fn weight(self) -> f32 {
        match self {
            Self::View => 1.0,
            Self::Click => 2.0,
            Self::Buy => 4.0,
            Self::Dismiss => -2.0,
        }
    }

    /// Whether the item need not be recommended any more.
    pub fn settles(self) -> bool {
        matches!(self, Self::Buy | Self::Dismiss)
    }
}

/// Something that a user has done. The store numbers events in the order in which they were committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub id: i64,
    pub item: ItemId,
    pub kind: Kind,
}

/// What a user has done lately, and what is settled for good.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Behaviour {
    /// In the order of their numbers, the newest last.
    pub recent: Vec<Event>,
    /// Bought or dismissed, in order.
    pub settled: Vec<ItemId>,
}

impl Behaviour {
    /// The same with one event more.
    ///
    /// Events may come twice, once from the store and once from who recorded them, and two that were recorded at the same time
    /// may come in the wrong order. Neither makes a difference here.
    pub fn with(&self, event: Event) -> Self {
        let mut next = self.clone();
        if let Err(place) = next.recent.binary_search_by_key(&event.id, |event| event.id) {
            next.recent.insert(place, event);
        }
        if next.recent.len() > RECENT {
            next.recent.remove(0);
        }
        if let (true, Err(place)) = (event.kind.settles(), next.settled.binary_search(&event.item)) {
            next.settled.insert(place, event.item);
        }
        next
    }

    pub fn last_event(&self) -> i64 {
        self.recent.last().map_or(0, |event| event.id)
    }

    pub fn has_settled(&self, item: ItemId) -> bool {
        self.settled.binary_search(&item).is_ok()
    }

    pub fn bytes(&self) -> u64 {
        (size_of::<Self>()
            + self.recent.len() * size_of::<Event>()
            + self.settled.len() * size_of::<ItemId>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_count_once_and_in_order() {
        let event = |id| Event { id, item: id as ItemId * 10, kind: Kind::Buy };
        let in_order = (1..=3).fold(Behaviour::default(), |behaviour, id| behaviour.with(event(id)));
        let shuffled =
            [2, 3, 2, 1, 1].iter().fold(Behaviour::default(), |behaviour, &id| behaviour.with(event(id)));
        assert_eq!(shuffled, in_order);
        assert_eq!((shuffled.last_event(), shuffled.settled), (3, vec![10, 20, 30]));
    }

    #[test]
    fn only_recent_events_stay() {
        let event = |id| Event { id, item: 1, kind: Kind::View };
        let behaviour = (1..=100).fold(Behaviour::default(), |behaviour, id| behaviour.with(event(id)));
        assert_eq!(behaviour.recent.len(), RECENT);
        assert_eq!(behaviour.with(event(1)), behaviour);
    }

    #[test]
    fn kinds_have_codes() {
        Kind::ALL.iter().for_each(|&kind| assert_eq!(Kind::from_code(kind.code()), Some(kind)));
        assert_eq!(Kind::from_code(4), None);
    }
}
