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
    /// The times to live and to idle that it was given.
    pub(super) own: [u64; 2],
    /// The load that somebody makes of it who found it due.
    pub(super) claim: Option<u64>,
    pub(super) failures: u32,
    /// When loading it anew may be tried again.
    pub(super) retry: u64,
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
    /// The times that the entry was given that is loaded anew.
    pub(super) own: [u64; 2],
    pub(super) elsewhere: Option<Refresh<u64, u64>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Given {
    Value(u64),
    Error,
    /// A `Refresh` was dropped: an error that no caller knows what to do with.
    Dropped,
    /// The caller was dropped.
    Nothing,
}

pub(super) enum Look {
    Hit(u64),
    Renews,
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
            _ if entry.claim.is_none() && self.now < entry.retry => Stage::Waiting,
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

    pub(super) fn written(&mut self, key: u64, id: u64, [ttl, tti]: [u64; 2]) {
        if let Some(old) = self.entries.remove(&key) {
            let was_over = self.is_over(&old);
            let cause = if was_over { RemovalCause::Expired } else { RemovalCause::Replaced };
            self.must.insert(old.id, (cause, was_over));
        }
        self.void(key);
        let life = |own: u64, general: Option<u64>| if own == NEVER { general.unwrap_or(NEVER) } else { own };
        // Updates keep no time as none at all.
        let own = [ttl.max(1), tti.max(1)];
        let (end, tti) = (self.now.saturating_add(life(ttl, self.setup.ttl)), life(tti, self.setup.tti));
        let entry = Entry {
            id,
            written: self.now,
            end,
            tti,
            deadline: end.min(self.now.saturating_add(tti)),
            reads: self.setup.max_reads.unwrap_or(NEVER),
            own,
            claim: None,
            failures: 0,
            retry: 0,
        };
        self.entries.insert(key, entry);
    }

    /// The same for an update, which keeps the times that the entry was given, unless it was evicted just before.
    pub(super) fn updated(&mut self, key: u64, id: u64) {
        let log = self.log.lock().unwrap();
        let is_there = |entry: &&Entry| !log.iter().any(|event| event.1 == entry.id && event.2.was_evicted());
        let own = self.seen(key).filter(is_there).map_or([NEVER; 2], |entry| entry.own);
        drop(log);
        self.written(key, id, own);
    }

    /// To read an entry that is not over puts off its end.
    fn touch(&mut self, key: u64) {
        let now = self.now;
        if let Some(entry) =
            self.entries.get_mut(&key).filter(|entry| entry.tti != NEVER && now < entry.deadline)
        {
            entry.deadline = entry.end.min(now.saturating_add(entry.tti));
        }
    }

    /// The value is given, over or not.
    pub(super) fn read(&mut self, key: u64) -> u64 {
        self.touch(key);
        let entry = self.entries.get_mut(&key).expect("it is there");
        let id = entry.id;
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

    /// To load the entry anew has failed, whoever tried.
    pub(super) fn fails(&mut self, key: u64) {
        let (now, backoff) = (self.now, self.setup.backoff);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.retry = now + (backoff << entry.failures.min(6));
            entry.failures += 1;
            entry.claim = None;
        }
    }

    /// A caller who brings a loader looks at the key.
    pub(super) fn look(&mut self, key: u64) -> Look {
        let stage = self.stage(key);
        if matches!(stage, Stage::Failing | Stage::Absent) {
            self.counts.misses += 1;
            return Look::Misses;
        }
        self.counts.hits += 1;
        let (now, is_loaded) = (self.now, self.flight(key).is_some());
        let id = self.read(key);
        // Nothing is put in the place of what has left with its last read.
        let is_free = |entry: &Entry| entry.claim.is_none() && entry.retry <= now;
        let is_free = !is_loaded && self.entries.get(&key).is_some_and(is_free);
        let renews = is_free && matches!(stage, Stage::Due | Stage::Stale);
        if renews && !self.setup.has_hook {
            return Look::Renews;
        }
        if renews {
            let mut handed = self.handed.lock().unwrap();
            let at = handed.iter().position(|refresh| *refresh.key() == key).expect("the hook was called");
            let refresh = handed.swap_remove(at);
            drop(handed);
            self.lead(key, true, true, Some(refresh));
        }
        let is_over = !matches!(stage, Stage::Fresh | Stage::Due);
        self.stale(is_over, is_over);
        Look::Hit(id)
    }

    pub(super) fn lead(
        &mut self,
        key: u64,
        is_refresh: bool,
        is_renewal: bool,
        elsewhere: Option<Refresh<u64, u64>>,
    ) -> u64 {
        let number = self.id();
        let renewed = if is_renewal { self.entries.get(&key) } else { self.seen(key) };
        let own = renewed.filter(|_| is_refresh).map_or([NEVER; 2], |entry| entry.own);
        if is_renewal {
            self.entries.get_mut(&key).expect("it was found").claim = Some(number);
        }
        let (is_valid, is_tagged) = (true, false);
        self.flights.push(Flight { number, key, is_valid, is_tagged, is_refresh, own, elsewhere });
        number
    }

    /// A load has come to its end.
    pub(super) fn land(&mut self, number: u64, given: Given) {
        let at = self.flights.iter().position(|flight| flight.number == number).expect("it is under way");
        let flight = self.flights.remove(at);
        let key = flight.key;
        if flight.is_refresh {
            let is_new = matches!(given, Given::Value(_));
            *(if is_new { &mut self.counts.refreshes } else { &mut self.counts.refresh_failures }) += 1;
        }
        if let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.claim == Some(number)) {
            entry.claim = None;
            if matches!(given, Given::Error | Given::Dropped) {
                self.fails(key);
            }
        }
        if let Given::Value(id) = given
            && flight.is_valid
            && !flight.is_tagged
        {
            self.written(key, id, flight.own);
        }
    }

    /// What is there for one whose loader has failed, or who waited for one that has.
    pub(super) fn rescue(&mut self, key: u64, is_own: bool, is_renewal: bool) -> Loaded {
        let stage = self.stage(key);
        match stage {
            Stage::Absent => return Err(()),
            // Written meanwhile: for who found it missing that is no old value.
            Stage::Fresh | Stage::Due if !is_renewal => return Err(()),
            Stage::Fresh | Stage::Due => self.touch(key),
            Stage::Stale | Stage::Waiting | Stage::Failing => {
                self.stale(true, true);
                if is_own && stage == Stage::Failing {
                    self.fails(key);
                }
            }
        }
        match (is_renewal, stage) {
            // It was read before.
            (true, _) => Ok(self.entries[&key].id),
            (false, _) => Ok(self.read(key)),
        }
    }
}
