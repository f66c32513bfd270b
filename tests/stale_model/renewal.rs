//! What is in the cache, and what is being loaded: how long it is good for something, and who is to load it anew.

use super::*;

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) written: u64,
    /// Beyond which reads do not move the deadline.
    pub(super) end: u64,
    pub(super) tti: u64,
    pub(super) deadline: u64,
    pub(super) reads: u64,
    /// Whether somebody loads it anew.
    pub(super) is_claimed: bool,
    pub(super) failures: u32,
    /// When loading it anew may be tried again.
    pub(super) retry: u64,
    /// It is not said when loading it anew is tried.
    pub(super) is_unsure: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Fresh,
    Due,
    Stale,
    /// Over, and to load it has just failed.
    Waiting,
    Failing,
    Absent,
}

/// A load that is under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) number: u64,
    pub(super) key: u64,
    /// Whether the key was neither written nor made invalid since.
    pub(super) is_valid: bool,
    /// Whether its tag was invalidated since.
    pub(super) is_tagged: bool,
    pub(super) is_refresh: bool,
    /// The entry that was found due.
    pub(super) claim: Option<u64>,
    pub(super) elsewhere: Option<Refresh<u64, u64>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Given {
    Value(u64),
    Error,
    /// It was given up.
    Nothing,
}

/// The value that was found, and whether it was over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Old {
    pub(super) id: u64,
    pub(super) was_over: bool,
}

pub(super) enum Look {
    Hit(u64),
    Renews(Old),
    Misses,
}

impl Model {
    pub(super) fn id(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn grace(&self) -> u64 {
        self.setup.revalidate.max(self.setup.on_error)
    }

    pub(super) fn is_over(&self, entry: &Entry) -> bool {
        entry.deadline <= self.now
    }

    /// Whether the entry of a key is good for nothing any more.
    pub(super) fn is_gone(&self, key: u64) -> bool {
        let end = |entry: &Entry| entry.deadline.saturating_add(self.grace());
        self.entries.get(&key).is_some_and(|entry| end(entry) <= self.now)
    }

    /// The entry of a key, if it is not over.
    pub(super) fn seen(&self, key: u64) -> Option<&Entry> {
        self.entries.get(&key).filter(|entry| !self.is_over(entry))
    }

    pub(super) fn seen_id(&self, key: u64) -> Option<u64> {
        self.seen(key).map(|entry| entry.id)
    }

    pub(super) fn stage(&self, key: u64) -> Stage {
        let Some(entry) = self.entries.get(&key) else { return Stage::Absent };
        if !self.is_over(entry) {
            let is_due = self.setup.refresh_after.is_some_and(|time| entry.written + time <= self.now);
            return if is_due { Stage::Due } else { Stage::Fresh };
        }
        match self.now - entry.deadline {
            late if late < self.setup.revalidate => Stage::Stale,
            late if late >= self.setup.on_error => Stage::Absent,
            _ if !entry.is_claimed && self.now < entry.retry => Stage::Waiting,
            _ => Stage::Failing,
        }
    }

    /// The load that who misses the key joins.
    pub(super) fn flight(&mut self, key: u64) -> Option<&mut Flight> {
        self.flights.iter_mut().find(|flight| flight.key == key && flight.is_valid)
    }

    /// The key was written or made invalid: nobody joins what is under way, and it is not kept.
    pub(super) fn void(&mut self, key: u64) {
        if let Some(flight) = self.flight(key) {
            flight.is_valid = false;
        }
    }

    /// What is good for nothing any more may stay for a while.
    pub(super) fn leaves(&mut self, key: u64) {
        if !self.is_gone(key)
            && let Some(entry) = self.entries.remove(&key)
        {
            let cause = if self.is_over(&entry) { RemovalCause::Expired } else { RemovalCause::Explicit };
            self.must.insert(entry.id, (cause, self.is_over(&entry)));
        }
    }

    pub(super) fn removed(&mut self, key: u64) {
        self.leaves(key);
        self.void(key);
    }

    pub(super) fn written(&mut self, key: u64, id: u64, [ttl, tti]: [u64; 2], is_loaded: bool) {
        if let Some(old) = self.entries.remove(&key) {
            let is_kept = is_loaded && self.now < old.deadline.saturating_add(self.grace());
            let is_replaced = is_kept || !self.is_over(&old);
            let cause = if is_replaced { RemovalCause::Replaced } else { RemovalCause::Expired };
            self.must.insert(old.id, (cause, self.is_over(&old)));
        }
        self.void(key);
        let life = |own: u64, general: Option<u64>| if own == NEVER { general.unwrap_or(NEVER) } else { own };
        let (end, tti) = (self.now.saturating_add(life(ttl, self.setup.ttl)), life(tti, self.setup.tti));
        let entry = Entry {
            id,
            written: self.now,
            end,
            tti,
            deadline: end.min(self.now.saturating_add(tti)),
            reads: self.setup.max_reads.unwrap_or(NEVER),
            is_claimed: false,
            failures: 0,
            retry: 0,
            is_unsure: false,
        };
        self.entries.insert(key, entry);
    }

    /// The value is given, over or not.
    pub(super) fn read(&mut self, key: u64) -> u64 {
        let entry = self.entries.get_mut(&key).expect("it is there");
        let id = entry.id;
        if entry.tti != NEVER && self.now < entry.deadline {
            entry.deadline = entry.end.min(self.now.saturating_add(entry.tti));
        }
        entry.reads -= u64::from(self.setup.max_reads.is_some());
        if entry.reads == 0 {
            self.entries.remove(&key);
            self.must.insert(id, (RemovalCause::Expired, true));
        }
        id
    }

    pub(super) fn stale(&mut self, least: bool, most: bool) {
        self.stale[0] += u64::from(least);
        self.stale[1] += u64::from(most);
    }

    pub(super) fn fails(&mut self, key: u64) {
        let (now, backoff) = (self.now, self.setup.backoff);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.retry = now + (backoff << entry.failures.min(6));
            entry.failures += 1;
            entry.is_claimed = false;
        }
    }

    /// A caller who brings a loader looks at the key. `was_called` and `is_ready` are what came of it.
    pub(super) fn look(&mut self, key: u64, was_called: bool, is_ready: bool) -> Look {
        let (stage, is_loaded) = (self.stage(key), self.flight(key).is_some());
        let is_handed = self.handed.lock().unwrap().iter().any(|refresh| *refresh.key() == key);
        let is_valid = |id| self.flights.iter().any(|flight| flight.is_valid && flight.claim == Some(id));
        let Some(entry) = self.entries.get_mut(&key).filter(|_| stage != Stage::Absent) else {
            self.counts.misses += 1;
            return Look::Misses;
        };
        // The one who loads it anew is out of date, but the entry has stayed: does another do so meanwhile?
        let is_unsure = entry.is_unsure || entry.is_claimed && !is_valid(entry.id);
        let is_hit = match stage {
            Stage::Waiting | Stage::Failing if is_unsure => is_ready && !was_called,
            stage => stage != Stage::Failing,
        };
        if !is_hit {
            self.counts.misses += 1;
            return Look::Misses;
        }
        self.counts.hits += 1;
        let may_renew =
            matches!(stage, Stage::Due | Stage::Stale) && !entry.is_claimed && entry.retry <= self.now;
        // Another's `refresh` is under way.
        entry.is_unsure |= may_renew && is_loaded;
        let renews = if is_unsure || entry.is_unsure { was_called || is_handed } else { may_renew };
        entry.is_unsure |= renews && entry.is_claimed;
        entry.is_claimed |= renews;
        let old = Old { id: entry.id, was_over: self.now >= entry.deadline };
        self.read(key);
        if renews && !self.setup.has_hook {
            return Look::Renews(old);
        }
        if renews {
            let mut handed = self.handed.lock().unwrap();
            let at = handed.iter().position(|refresh| *refresh.key() == key).expect("the hook was called");
            let refresh = handed.swap_remove(at);
            drop(handed);
            self.lead(key, true, Some(old), Some(refresh));
        }
        self.stale(old.was_over, old.was_over);
        Look::Hit(old.id)
    }

    pub(super) fn lead(
        &mut self,
        key: u64,
        is_refresh: bool,
        old: Option<Old>,
        elsewhere: Option<Refresh<u64, u64>>,
    ) -> u64 {
        let (number, claim) = (self.id(), old.map(|old| old.id));
        let (is_valid, is_tagged) = (true, false);
        self.flights.push(Flight { number, key, is_valid, is_tagged, is_refresh, claim, elsewhere });
        number
    }

    /// A load has come to its end.
    pub(super) fn land(&mut self, number: u64, given: Given) {
        let at = self.flights.iter().position(|flight| flight.number == number).expect("it is under way");
        let flight = self.flights.remove(at);
        let key = flight.key;
        if flight.is_refresh {
            match given {
                Given::Value(_) => self.counts.refreshes += 1,
                Given::Error | Given::Nothing => self.counts.refresh_failures += 1,
            }
        }
        let entry = self.entries.get_mut(&key);
        let claimed = entry.filter(|entry| flight.claim.is_none_or(|id| id == entry.id));
        match (given, claimed) {
            (Given::Value(_), Some(entry)) if flight.claim.is_some() => {
                entry.is_claimed = false;
                entry.is_unsure |= FAULTS;
            }
            (Given::Error | Given::Nothing, Some(_)) if flight.claim.is_some() => self.fails(key),
            // Does that put off the next attempt?
            (Given::Error | Given::Nothing, Some(entry)) if flight.is_refresh => entry.is_unsure = true,
            _ => {}
        }
        if let Given::Value(id) = given
            && flight.is_valid
            && !flight.is_tagged
        {
            self.written(key, id, [NEVER; 2], true);
        }
    }

    /// What is there for one whose loader has failed, or who waited for one that has.
    pub(super) fn rescue(&mut self, key: u64, is_own: bool, seen: Loaded) -> Loaded {
        match self.stage(key) {
            Stage::Absent => return Err(()),
            // Written meanwhile.
            Stage::Fresh | Stage::Due if seen.is_err() => return Err(()),
            Stage::Fresh | Stage::Due => {}
            stage => {
                self.stale(true, true);
                if is_own && stage == Stage::Failing {
                    self.fails(key);
                }
            }
        }
        Ok(self.read(key))
    }
}
