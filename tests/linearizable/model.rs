//! The sequential model of one key: what a step makes of its state, and which states a key comes to by itself.
//!
//! An entry is present or stale, which is as good as absent to callers without a loader. A load is *under way* from when
//! it begins until it ends. An invalidation makes the loads that are under way void: they bring nothing into the cache,
//! and nobody joins them. One that only carries an invalidated tag is outdated: the callers who join it from then on do
//! not get its value, but others still wait for it instead of loading.

use crate::history::What;
use crate::track::{Step, Track};
use crate::values::Id;

/// A set of values or loads.
pub type Ids = u128;

pub fn bit(id: Id) -> Ids {
    1 << id
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    Absent,
    Present(Id),
    /// Ended, but served while a caller loads, in caches that do so; and not yet swept.
    Stale(Id),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub entry: Entry,
    /// Loads that are under way.
    under_way: Ids,
    void: Ids,
    outdated: Ids,
}

/// States that a step may lead to; none if it is impossible.
pub type Next = [Option<State>; 2];

const IMPOSSIBLE: Next = [None, None];

impl State {
    pub const START: Self = Self { entry: Entry::Absent, under_way: 0, void: 0, outdated: 0 };

    fn voided(self) -> Self {
        Self { void: self.under_way, ..self }
    }

    fn with(self, entry: Entry) -> Self {
        Self { entry, ..self }
    }

    fn begun(self, id: Id) -> Self {
        Self { under_way: self.under_way | bit(id), ..self }
    }

    fn ended(self, id: Id) -> Self {
        let others = !bit(id);
        let Self { entry, under_way, void, outdated } = self;
        Self { entry, under_way: under_way & others, void: void & others, outdated: outdated & others }
    }

    fn may_land(self, id: Id) -> bool {
        self.under_way & !self.void & !self.outdated & bit(id) != 0
    }

    fn is_present(self) -> bool {
        matches!(self.entry, Entry::Present(_))
    }
}

/// Says whether a step never changes the state.
pub fn is_read(what: What) -> bool {
    use What::*;
    matches!(what, Reads(_) | Exists(_) | Obtains(_) | Joins(_) | JoinsOmission)
}

/// Says whether a step makes loads void, but for those that do so by a write.
pub fn is_invalidation(what: What) -> bool {
    use What::*;
    matches!(
        what,
        Removes(_) | RemovesAny(_) | Passes(_) | Declines(_) | Sweeps(_) | Misses | Empties | Clears
    )
}

fn only(state: State) -> Next {
    [Some(state), None]
}

fn only_if(is_possible: bool, state: State) -> Next {
    if is_possible { only(state) } else { IMPOSSIBLE }
}

impl Track {
    /// Gives the states to which a step leads, where its moment may be as late as `horizon`.
    pub fn apply(&self, step: &Step, state: State, horizon: u64) -> Next {
        match step.what {
            What::Reads(seen) => only_if(self.sees(step, state, seen), state),
            What::Misses | What::Empties => self.drain(step, state),
            What::Exists(_) | What::RemovesAny(_) | What::Removes(_) | What::Clears => {
                self.apply_removal(step, state)
            }
            What::Writes(id) => only(state.voided().with(Entry::Present(id))),
            What::Replaces(seen, id) => {
                // By its documentation: a write goes by the time at which it got the lock.
                let ends = |id| seen == Some(id) && step.from < self.life(id).gone_by;
                let sees_end = matches!(state.entry, Entry::Stale(id) if ends(id));
                only_if(self.sees(step, state, seen) || sees_end, state.voided().with(Entry::Present(id)))
            }
            What::Passes(id) => only_if(self.sees(step, state, Some(id)), self.after_sight(state)),
            What::Declines(id) if self.sees(step, state, Some(id)) => only(self.after_sight(state)),
            What::Declines(_) => self.removed_if(!state.is_present(), state),
            What::Sweeps(id) if self.sees(step, state, Some(id)) => {
                [Some(self.removed(state)), Some(self.after_sight(state))]
            }
            What::Untags(tag, removed) => self.untag(state, tag, removed),
            What::Voids => only(state.voided()),
            What::Sweeps(_) | What::Wrong(_) => IMPOSSIBLE,
            _ => self.apply_to_loads(step, state, horizon),
        }
    }

    fn apply_removal(&self, step: &Step, state: State) -> Next {
        match step.what {
            What::Exists(true) => only_if(self.sees_any(step, state), state),
            What::Exists(false) => only_if(!state.is_present(), state),
            What::RemovesAny(true) => self.removed_if(self.sees_any(step, state), state),
            What::RemovesAny(false) => self.removed_if(!state.is_present(), state),
            What::Removes(seen) => self.removed_if(self.sees(step, state, seen), state),
            _ => self.removed_if(true, state),
        }
    }

    fn drain(&self, step: &Step, state: State) -> Next {
        let empties = step.what == What::Empties;
        if self.leniency.drains && state.is_present() {
            return [Some(self.after_sight(state)), empties.then(|| self.removed(state))];
        }
        // By its documentation: it does not give what it takes out and what ends before its turn.
        let may_end = matches!(state.entry, Entry::Present(id) if self.life(id).ends_from < step.to);
        self.removed_if(empties || may_end || !state.is_present(), state)
    }

    /// Says whether the key has this value, or none, to a caller without a loader.
    fn sees(&self, step: &Step, state: State, seen: Option<Id>) -> bool {
        match seen {
            None => !state.is_present(),
            Some(id) => state.entry == Entry::Present(id) && step.from < self.life(id).gone_by,
        }
    }

    fn sees_any(&self, step: &Step, state: State) -> bool {
        matches!(state.entry, Entry::Present(id) if self.sees(step, state, Some(id)))
    }

    /// Gives the state after an invalidation.
    fn removed(&self, state: State) -> State {
        let lingers = self.leniency.tags && matches!(state.entry, Entry::Stale(_));
        state.voided().with(if lingers { state.entry } else { Entry::Absent })
    }

    /// Gives the states after an invalidation that takes place if that is possible.
    fn removed_if(&self, is_possible: bool, state: State) -> Next {
        let next = is_possible.then(|| self.removed(state));
        // An invalidation that finds nothing may have made the loads void before.
        let may_not_void = self.leniency.survival && !state.is_present();
        [next, next.filter(|_| may_not_void).map(|next| State { void: state.void, ..next })]
    }

    /// Gives the state after an invalidation that has seen an entry, and let it be.
    fn after_sight(&self, state: State) -> State {
        if self.leniency.survival { state } else { state.voided() }
    }

    fn untag(&self, state: State, tag: u64, has_removed: bool) -> Next {
        let tagged = self.tagged[tag as usize];
        let rest = State { outdated: state.outdated | (state.under_way & tagged), ..state };
        match state.entry {
            Entry::Present(id) if tagged & bit(id) != 0 => {
                only_if(has_removed, rest.voided().with(Entry::Absent))
            }
            // It is removed, but need not be known to have been there.
            Entry::Stale(id) if tagged & bit(id) != 0 && (self.is_soft || self.leniency.tags) => {
                let rest = rest.with(Entry::Absent);
                [Some(rest), Some(rest.voided())]
            }
            _ => only(rest),
        }
    }

    fn apply_to_loads(&self, step: &Step, state: State, horizon: u64) -> Next {
        let joinable = state.under_way & !state.void & !self.open;
        match step.what {
            What::Begins(id) => {
                let is_wanted = match state.entry {
                    Entry::Present(id) => self.life(id).due_from < horizon,
                    _ => true,
                };
                only_if(joinable == 0 && is_wanted, state.begun(id))
            }
            What::Renews(id) => only_if(joinable == 0, state.begun(id)),
            What::Opens(id) => only(state.begun(id)),
            What::Lands(id) if state.may_land(id) => only(state.ended(id).voided().with(Entry::Present(id))),
            What::Lands(id) | What::Ends(id) | What::Omits(id) => {
                only_if(state.under_way & bit(id) != 0, state.ended(id))
            }
            What::Joins(id) => only_if(joinable & !state.outdated & bit(id) != 0, state),
            What::JoinsOmission => only_if(joinable & self.omitted != 0, state),
            What::Obtains(id) => {
                let life = self.life(id);
                let is_there = match state.entry {
                    Entry::Present(found) => found == id && step.from < life.given_up_by,
                    Entry::Stale(found) => found == id && step.from < life.given_up_by,
                    Entry::Absent => false,
                };
                only_if(is_there || joinable & !state.outdated & bit(id) != 0, state)
            }
            _ => IMPOSSIBLE,
        }
    }

    /// Gives the states to which a key comes by itself, at some moment not later than `horizon`.
    pub fn decay(&self, state: State, horizon: u64) -> Next {
        let gone = |is_gone: bool| is_gone.then(|| state.with(Entry::Absent));
        match state.entry {
            Entry::Absent => IMPOSSIBLE,
            Entry::Present(id) => {
                let has_ended = self.life(id).ends_from < horizon;
                let stale = has_ended.then(|| state.with(Entry::Stale(id)));
                [gone(self.evicts || has_ended && !self.is_soft), stale]
            }
            Entry::Stale(id) => [gone(self.evicts || self.life(id).leaves_from < horizon), None],
        }
    }
}
