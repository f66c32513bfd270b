//! Entries that are loaded anew before they end, or are still good for something after.
//!
//! ```text
//! written            refresh_after             deadline        + revalidate       + on_error
//!    |      fresh          |          due          |      stale      |     failing     |  gone
//! ```
//!
//! A due or stale entry is *claimed* by one of those who want it: it loads the value anew, and the others get the one that is
//! there. That there is one claim saves the others the way to the lock; that there is one loader is seen to by registration
//! (`loads.rs`), as with all loads.
//!
//! Who made a claim forgets it when its entry has been replaced, gives it back when nothing came of it, or says that to load
//! has failed; then it is some time until the next. One that is lost keeps its entry from being loaded anew until the patience
//! with it is over.
//!
//! To all who bring no loader an entry that is stale, or failing, is over.

use super::Segment;
use super::times::{Extra, FOREVER, Times};
use crate::clock::EPOCH;
use crate::parts::random::random;
use crate::table::Found;
use std::sync::atomic::Ordering::Relaxed;

/// When entries are loaded anew, and what those that are over are good for. In nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Soft {
    /// How old an entry is that is due.
    pub(crate) refresh_after: u64,
    /// How long one that is over is served while one caller loads.
    pub(crate) revalidate: u64,
    /// How long it is served if to load fails.
    pub(crate) on_error: u64,
    /// How much sooner than necessary entries may be loaded anew, in times that their loading took; 0 for not at all.
    pub(crate) early: f64,
    /// How long to wait after a failure; after each further one twice as long.
    pub(crate) backoff: u64,
    /// After how long a claim is taken for lost.
    pub(crate) patience: u64,
}

impl Soft {
    /// How long entries that are over stay.
    pub(crate) fn grace(&self) -> u64 {
        self.revalidate.max(self.on_error)
    }
}

/// What an entry is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Fresh,
    /// Good, but to be loaded anew.
    Due,
    /// Over, but good for all while one loads.
    Stale,
    /// Over, but good if to load fails.
    Failing,
    Over,
}

/// Whoever holds it loads an entry anew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    slot: u32,
    /// What its slot's turn is as long as it stands.
    turn: u64,
    /// Whether another was taken for lost.
    pub(crate) is_second: bool,
}

/// A slot's turn is the time before which nobody is to claim its entry, but for the bits below; 0 if it never was.
const CLAIMED: u64 = 1 << 7;
/// Loads in a row that failed.
const FAILURES: u64 = CLAIMED - 1;
const TIME: u64 = !(CLAIMED | FAILURES);
/// Claims have a number here, in place of what is below 17 ms of their time, so that each knows itself.
const NUMBER: u64 = 0xffff << NUMBER_SHIFT;
const NUMBER_SHIFT: u32 = 8;
/// The waits after failures grow so often.
const DOUBLINGS: u64 = 6;

/// Whether a load has failed just now.
fn is_waiting(turn: u64, now: u64) -> bool {
    turn & CLAIMED == 0 && turn & TIME > now
}

/// A time that is doubled for each failure.
fn doubled(time: u64, failures: u64) -> u64 {
    time.saturating_mul(1 << failures.min(DOUBLINGS))
}

impl Soft {
    fn turn_after_failure(&self, turn: u64, now: u64) -> u64 {
        let failures = turn & FAILURES;
        (now.saturating_add(doubled(self.backoff, failures)) & TIME) | (failures + 1).min(FAILURES)
    }
}

impl Times {
    /// What the entry in `slot` is good for.
    fn stage(&self, soft: &Soft, slot: u32, now: u64) -> Stage {
        if self.is_used_up(slot) {
            return Stage::Over;
        }
        let deadline = self.deadline(slot);
        if !self.has_ended(slot, deadline, now) {
            return if self.is_due(soft, slot, deadline, now) { Stage::Due } else { Stage::Fresh };
        }
        // As it was when it had ended: nobody changes it any more.
        let late = now.saturating_sub(self.deadline(slot) | EPOCH);
        if late < soft.revalidate || late < soft.on_error && is_waiting(self.turn(slot), now) {
            Stage::Stale
        } else if late < soft.on_error {
            Stage::Failing
        } else {
            Stage::Over
        }
    }

    fn is_due(&self, soft: &Soft, slot: u32, deadline: u64, now: u64) -> bool {
        let written = self.written(slot).unwrap_or(now);
        let due = written.saturating_add(soft.refresh_after).min(deadline);
        if due <= now {
            return true;
        }
        let took = self.extra(Extra::Took, slot);
        // By an exponential distribution, whose logarithm is worth taking only if it may turn out so: below 2^-53 there are no numbers.
        let most = took as f64 * soft.early;
        let left = (due - now) as f64;
        left < 37.0 * most && left <= most * -random().ln()
    }

    fn turn(&self, slot: u32) -> u64 {
        self.extra(Extra::Turn, slot)
    }

    fn claim(&self, soft: &Soft, slot: u32, now: u64) -> Option<Claim> {
        let turns = self.extra_at(Extra::Turn, slot);
        let before = turns.load(Relaxed);
        if before & TIME > now {
            return None;
        }
        let is_second = before & CLAIMED != 0;
        let failures = ((before & FAILURES) + u64::from(is_second)).min(FAILURES);
        // Longer each time, or loads that take longer than this would never come to their end.
        let until = now.saturating_add(doubled(soft.patience, failures));
        let number = (self.claims.fetch_add(1, Relaxed) << NUMBER_SHIFT) & NUMBER;
        let turn = (until & TIME & !NUMBER) | number | CLAIMED | failures;
        turns.compare_exchange(before, turn, Relaxed, Relaxed).ok()?;
        Some(Claim { slot, turn, is_second })
    }

    /// Ends a claim with what its slot's turn is to be next.
    fn end_claim(&self, claim: Claim, next: u64) {
        // Otherwise it was taken for lost, or the entry has gone.
        let turn = self.extra_at(Extra::Turn, claim.slot);
        let _ = turn.compare_exchange(claim.turn, next, Relaxed, Relaxed);
    }

    /// Unless it was noted already.
    fn note_failure(&self, soft: &Soft, slot: u32, now: u64) {
        let turns = self.extra_at(Extra::Turn, slot);
        let next = |turn| (!is_waiting(turn, now)).then(|| soft.turn_after_failure(turn, now));
        let _ = turns.fetch_update(Relaxed, Relaxed, next);
    }

    /// By when the wheel is to look at an entry with this deadline, over or not.
    pub(super) fn watched(&self, deadline: u64) -> u64 {
        if deadline == FOREVER { FOREVER } else { (deadline | EPOCH).saturating_add(self.grace) }
    }

    /// Whether the entry in `slot`, which is over, is good for nothing any more.
    pub(super) fn is_gone(&self, slot: u32, now: u64) -> bool {
        self.is_used_up(slot) || self.watched(self.deadline(slot)) <= now
    }
}

impl<K, V> Segment<K, V> {
    /// The entry whose key `matches`, if it is good for anything to a cache with rules for that. If it `is_read`, and not over,
    /// its time to idle begins anew.
    pub(crate) fn find_to_load(
        &self,
        hash: u64,
        matches: impl Fn(&K) -> bool,
        is_read: bool,
    ) -> Option<(Found<'_, K, V>, Stage)> {
        let (times, soft) = (self.times()?, self.rules.soft.as_ref()?);
        self.find_good(
            || self.table.find(hash, &matches),
            |found| {
                let slot = found.slot();
                loop {
                    match times.stage(soft, slot, times.now()) {
                        // It has come to its end since.
                        Stage::Fresh | Stage::Due if is_read && !times.note_read(slot) => {}
                        Stage::Over => return None,
                        Stage::Fresh => return Some(Stage::Fresh),
                        stage => return (!found.has_ended()).then_some(stage),
                    }
                }
            },
        )
    }

    /// As [`find_to_load`](Self::find_to_load) for what a glance has found: whether that is fresh, and nothing more is to be done
    /// than to look at the time.
    #[inline]
    pub(crate) fn is_fresh(&self, found: &Found<'_, K, V>) -> bool {
        let (Some(times), Some(soft)) = (self.times(), &self.rules.soft) else { return false };
        if self.rules.does_more() || soft.early > 0.0 {
            return false;
        }
        let (slot, now) = (found.slot(), times.now());
        let deadline = times.deadline(slot);
        let due = times.written(slot).map_or(FOREVER, |written| written.saturating_add(soft.refresh_after));
        let is_fresh = now < deadline.min(due);
        if is_fresh && deadline != FOREVER {
            times.renew(slot, deadline, now);
        }
        is_fresh
    }

    /// The right to load the entry in `slot` anew, if nobody else has it, and no load has failed just now.
    pub(crate) fn claim(&self, slot: u32) -> Option<Claim> {
        let (times, soft) = (self.times()?, self.rules.soft.as_ref()?);
        times.claim(soft, slot, times.now())
    }

    /// Whether the entry in `slot` is the one that was claimed, and the claim still stands.
    pub(super) fn is_claimed(&self, slot: u32, claim: Claim) -> bool {
        claim.slot == slot && self.times().is_some_and(|times| times.turn(slot) == claim.turn)
    }

    /// Nothing came of a claim: others may have it.
    pub(crate) fn give_back(&self, claim: Claim) {
        if let Some(times) = self.times() {
            times.end_claim(claim, claim.turn & FAILURES);
        }
    }

    /// To load what was claimed has failed: it is some time until the next claim.
    pub(crate) fn fail(&self, claim: Claim) {
        if let (Some(times), Some(soft)) = (self.times(), &self.rules.soft) {
            times.end_claim(claim, soft.turn_after_failure(claim.turn, times.now()));
        }
    }

    /// To load what was found, which is over, has failed: it is some time until that is tried again.
    pub(crate) fn note_failure(&self, slot: u32) {
        if let (Some(times), Some(soft)) = (self.times(), &self.rules.soft) {
            times.note_failure(soft, slot, times.now());
        }
    }
}
