//! Options that entries were given by [`InsertOptions`], and that their next values keep.
//!
//! A tag, a weight or a life is an entry's own if options gave it, and not the builder's rules. An update, as by `compute` or a
//! refresh, brings a value and no options: it is stored with those that [`Segment::given`] reads from the entry, so all of them go
//! the way of options. An entry's own lives stand in columns of `times.rs`; of its weight and tags there is a note here.

use super::{Core, Extras, Segment};
use crate::options::InsertOptions;
use crate::table::Writer;
use std::time::Duration;

/// Which of these are an entry's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) weight: bool,
    pub(crate) tags: bool,
}

impl Given {
    pub(crate) const NOTHING: Self = Self { weight: false, tags: false };
}

impl Extras {
    /// Takes no memory as long as no entry has a weight or tags of its own.
    pub(super) fn note_given(&mut self, slot: u32, given: Given) {
        let slot = slot as usize;
        if given != Given::NOTHING && slot >= self.given.len() {
            self.given.resize(slot + 1, Given::NOTHING);
        }
        if let Some(noted) = self.given.get_mut(slot) {
            *noted = given;
        }
    }

    pub(super) fn given(&self, slot: u32) -> Given {
        self.given.get(slot as usize).copied().unwrap_or(Given::NOTHING)
    }
}

impl<K, V> Segment<K, V> {
    /// Returns the options of the entry in `slot` for its next value; `None` if it has none.
    // Seldom needed: a load of what is missing, the most of them, does not ask.
    #[cold]
    pub(super) fn given(&self, writer: &Writer<'_, Core>, slot: u32) -> Option<Box<InsertOptions>> {
        let mut options = InsertOptions::new();
        if let Some(extras) = &writer.extras {
            let given = extras.given(slot);
            options.weight = given.weight.then(|| writer.weights.get(slot));
            options.tags = given.tags.then(|| extras.tags.of(slot).collect());
        }
        if let Some(times) = self.times() {
            let (ttl, tti) = times.given(slot);
            options.ttl = ttl.map(Duration::from_nanos);
            options.tti = tti.map(Duration::from_nanos);
        }
        options.is_any().then(|| Box::new(options))
    }

    /// Returns the options of an entry that was found, as long as the [`Found`](crate::table::Found) lives. They are incomplete
    /// if the entry has left.
    pub(crate) fn given_to(&self, slot: u32) -> Option<Box<InsertOptions>> {
        self.given(&self.table.lock(), slot)
    }
}
