//! The history of one key, made ready for the search: its steps in order, and the times of its values.

use crate::history::{Fact, Record, What};
use crate::model::{Ids, bit, is_invalidation};
use crate::program::{Op, Program, TAGS};
use crate::values::Id;

/// A step of the history.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub from: u64,
    pub to: u64,
    pub what: What,
}

/// No stamp is as late.
pub const NEVER: u64 = u64::MAX;

/// Stamps between which a value comes to the stages of its life.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// From when on it may be due.
    pub due_from: u64,
    /// From when on it may have ended.
    pub ends_from: u64,
    /// Callers without a loader who come later do not get it.
    pub gone_by: u64,
    /// From when on it may have gone for all.
    pub leaves_from: u64,
    /// Callers with a loader who come later do not get it.
    pub given_up_by: u64,
}

impl Life {
    const ENDLESS: Self =
        Self { due_from: NEVER, ends_from: NEVER, gone_by: NEVER, leaves_from: NEVER, given_up_by: NEVER };
}

/// The history of one key.
pub struct Track {
    /// Steps by the stamp of their invocation.
    pub steps: Vec<Step>,
    lives: Vec<Life>,
    /// Values by the tags that they carry, but for those that no load came to bring.
    pub tagged: [Ids; TAGS as usize],
    /// Loads that bring something unasked, so nobody joins them.
    pub open: Ids,
    /// Loads of many that bring nothing for the key.
    pub omitted: Ids,
    pub evicts: bool,
    pub is_soft: bool,
    pub leniency: Leniency,
}

/// Deviations that are let pass, to tell kinds of violations apart.
#[derive(Clone, Copy, Debug)]
pub struct Leniency {
    /// Whether invalidations may void loads at other moments, too, than that at which they look at the key.
    pub early: bool,
    /// Whether invalidations may void loads at another moment only: then a load survives that begins in between.
    pub survival: bool,
    /// Whether a drain may pass over an entry that it has met but another operation has replaced since.
    pub drains: bool,
    /// Whether an `invalidate_tag` may void the loads of a key whose entry had the tag but has ended.
    pub tags: bool,
}

impl Leniency {
    pub const NONE: Self = Self { early: false, survival: false, drains: false, tags: false };
    pub const ALL: Self = Self { early: true, survival: true, drains: true, tags: true };
}

impl Track {
    pub fn new(program: &Program, records: &[Record], key: u64, leniency: Leniency) -> Self {
        let facts = records.iter().flat_map(|record| &record.facts).filter(|fact| fact.key == key);
        let mut track = Self {
            steps: facts.map(|&Fact { from, to, what, .. }| Step { from, to, what }).collect(),
            lives: vec![Life::ENDLESS; program.tags.len()],
            tagged: [0; TAGS as usize],
            open: 0,
            omitted: 0,
            evicts: program.setup.evicts,
            is_soft: program.setup.is_soft(),
            leniency,
        };
        if program.setup.is_timed() {
            let time = Time::new(records);
            records.iter().for_each(|record| track.note_lives(program, &time, record, key));
        }
        track.note_ids(program);
        track.loosen(|what| leniency.early && is_invalidation(what) || matches!(what, What::Sweeps(_)));
        track.steps.sort_by_key(|step| step.from);
        track
    }

    pub fn life(&self, id: Id) -> &Life {
        &self.lives[usize::from(id)]
    }

    fn note_lives(&mut self, program: &Program, time: &Time, record: &Record, key: u64) {
        let setup = &program.setup;
        for fact in record.facts.iter().filter(|fact| fact.key == key) {
            let (What::Writes(id) | What::Replaces(_, id) | What::Lands(id)) = fact.what else { continue };
            let own = if let Op::InsertWith(_, own) = record.op { own } else { None };
            let mut life = Life::ENDLESS;
            if let Some(after) = setup.refresh_after {
                life.due_from = time.possibly(fact.from, after);
            }
            if let Some(after) = own.or(setup.time_to_live) {
                let stays = after + setup.revalidate;
                life.ends_from = time.possibly(fact.from, after);
                life.due_from = life.due_from.min(if setup.is_soft() { life.ends_from } else { NEVER });
                life.gone_by = time.surely(fact.to, after);
                life.leaves_from = time.possibly(fact.from, stays);
                life.given_up_by = time.surely(fact.to, stays);
            }
            self.lives[usize::from(id)] = life;
        }
    }

    fn note_ids(&mut self, program: &Program) {
        let mut failed = 0;
        for step in &self.steps {
            match step.what {
                What::Opens(id) => self.open |= bit(id),
                What::Omits(id) => self.omitted |= bit(id),
                What::Ends(id) => failed |= bit(id),
                // An entry that a sweep has seen has gone when it returns, by the sweep or by another operation.
                What::Sweeps(id) => {
                    let life = &mut self.lives[usize::from(id)];
                    life.gone_by = life.gone_by.min(step.to);
                    life.given_up_by = life.given_up_by.min(step.to);
                }
                _ => {}
            }
        }
        for (tag, tagged) in self.tagged.iter_mut().enumerate() {
            let carriers = (0..).zip(&program.tags).filter(|(_, tags)| *tags >> tag & 1 == 1);
            *tagged = carriers.fold(0, |ids, (id, _)| ids | bit(id)) & !failed;
        }
    }

    /// Lets some steps void loads at another moment of their call, too. A `retain` does so by its documentation: before it asks
    /// about an entry, which it removes later.
    fn loosen(&mut self, which: impl Fn(What) -> bool) {
        let early = self.steps.iter().filter(|step| which(step.what));
        let voids: Vec<_> = early.map(|step| Step { what: What::Voids, ..*step }).collect();
        self.steps.extend(voids);
    }
}

/// Advances of the clock, each with the stamps around it, in units.
struct Time(Vec<(u64, u64, u64)>);

impl Time {
    fn new(records: &[Record]) -> Self {
        let advance = |record: &Record| match record.op {
            Op::Advance(units) => Some((record.from, record.to, units)),
            _ => None,
        };
        Self(records.iter().filter_map(advance).collect())
    }

    /// Gives the stamp from which on it may be `after` units since some moment after `from`.
    fn possibly(&self, from: u64, after: u64) -> u64 {
        let mut begins: Vec<_> = self
            .0
            .iter()
            .filter(|(_, to, _)| *to > from)
            .map(|&(begins, _, units)| (begins, units))
            .collect();
        reach(&mut begins, after).max(from)
    }

    /// Gives the stamp from which on it is `after` units since any moment before `to`.
    fn surely(&self, to: u64, after: u64) -> u64 {
        let mut ends: Vec<_> =
            self.0.iter().filter(|(from, ..)| *from > to).map(|&(_, ends, units)| (ends, units)).collect();
        reach(&mut ends, after)
    }
}

/// Gives the stamp of the step by which all come to `after`.
fn reach(steps: &mut [(u64, u64)], after: u64) -> u64 {
    steps.sort_unstable();
    let mut sum = 0;
    let reached = steps.iter().find(|(_, units)| {
        sum += units;
        sum >= after
    });
    reached.map_or(NEVER, |&(stamp, _)| stamp)
}
