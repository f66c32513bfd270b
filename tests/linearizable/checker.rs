//! Looks for an order of the steps of a history that the model allows, as Wing and Gong did, and Lowe: depth first, and
//! never twice from where it has been.

use crate::model::{Ids, State, is_read};
use crate::track::{NEVER, Track};
use ahash::HashSet;
use ahash::HashSetExt;

/// Searches the orders of a history.
pub struct Search<'a> {
    track: &'a Track,
    been: HashSet<(Ids, State)>,
    path: Vec<usize>,
    /// Longest order that was found, and the state after it.
    best: (Vec<usize>, State),
}

impl<'a> Search<'a> {
    pub fn new(track: &'a Track) -> Self {
        assert!(track.steps.len() <= Ids::BITS as usize, "a history of too many steps");
        Self { track, been: HashSet::new(), path: Vec::new(), best: (Vec::new(), State::START) }
    }

    /// Says whether there is an order that the model allows.
    pub fn succeeds(&mut self) -> bool {
        self.goes_on(0, State::START)
    }

    /// Describes the longest order that was found, and what is left.
    pub fn deadlock(&self) -> String {
        let (order, state) = &self.best;
        let step = |&index: &usize| {
            let step = &self.track.steps[index];
            format!("[{:>3}, {:>3}] {:?}", step.from, step.to, step.what)
        };
        let rest: Vec<_> = (0..self.track.steps.len()).filter(|index| !order.contains(index)).collect();
        let list = |steps: &[usize]| steps.iter().map(step).collect::<Vec<_>>().join("\n    ");
        format!(
            "  the longest order:\n    {}\n  leads to {:?}\n  left:\n    {}",
            list(order),
            state,
            list(&rest)
        )
    }

    fn goes_on(&mut self, done: Ids, state: State) -> bool {
        let length = self.path.len();
        let done = self.take_reads(done, state);
        let succeeds = self.path.len() == self.track.steps.len() || self.goes_further(done, state);
        if !succeeds {
            self.path.truncate(length);
        }
        succeeds
    }

    fn goes_further(&mut self, done: Ids, state: State) -> bool {
        if !self.been.insert((done, state)) {
            return false;
        }
        if self.path.len() >= self.best.0.len() {
            self.best = (self.path.clone(), state);
        }
        let track = self.track;
        let horizon = self.horizon(done);
        for index in self.candidates(done, horizon) {
            for next in track.apply(&track.steps[index], state, horizon).into_iter().flatten() {
                self.path.push(index);
                if self.goes_on(done | 1 << index, next) {
                    return true;
                }
                self.path.pop();
            }
        }
        let decayed = track.decay(state, horizon).into_iter().flatten();
        decayed.into_iter().any(|next| self.goes_on(done, next))
    }

    /// Takes all reads that are possible: they change nothing, so there is no harm in doing so early.
    fn take_reads(&mut self, mut done: Ids, state: State) -> Ids {
        let track = self.track;
        loop {
            let before = done;
            let horizon = self.horizon(done);
            for index in self.candidates(done, horizon) {
                let step = &track.steps[index];
                if is_read(step.what) && track.apply(step, state, horizon)[0].is_some() {
                    done |= 1 << index;
                    self.path.push(index);
                }
            }
            if done == before {
                return done;
            }
        }
    }

    /// Gives the stamp by which the first of the steps to come has ended.
    fn horizon(&self, done: Ids) -> u64 {
        let left = self.track.steps.iter().enumerate().filter(|(index, _)| done >> index & 1 == 0);
        left.map(|(_, step)| step.to).min().unwrap_or(NEVER)
    }

    /// Gives the steps to come that began before another one had ended.
    fn candidates(&self, done: Ids, horizon: u64) -> impl Iterator<Item = usize> + use<'a> {
        let steps = self.track.steps.iter().enumerate();
        let begun = steps.take_while(move |(_, step)| step.from <= horizon);
        begun.map(|(index, _)| index).filter(move |index| done >> index & 1 == 0)
    }
}
