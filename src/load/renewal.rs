//! Entries that are due or stale: one caller loads them anew, or has that done, and the others get what is there.

use super::{Joined, Lead, Want, led};
use crate::cache::Cache;
use crate::error::LoadError;
use crate::options::InsertOptions;
use crate::refresh::Refresh;
use crate::segment::{Boarding, Claim, Landing, Reason, Segment, Spent, Stage};
use std::hash::{BuildHasher, Hash};

/// A claim until a load has it: it is not lost if the key's `Clone` panics.
struct Held<'a, K, V> {
    segment: &'a Segment<K, V>,
    claim: Claim,
}

impl<K, V> Held<'_, K, V> {
    fn hand_over(self) -> Claim {
        let claim = self.claim;
        std::mem::forget(self);
        claim
    }
}

impl<K, V> Drop for Held<'_, K, V> {
    fn drop(&mut self) {
        self.segment.give_back(self.claim);
    }
}

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// What a caller with a loader gets at once, where entries may be due; otherwise what it has to do.
    #[inline(never)]
    pub(super) fn look_softly<'a>(
        &'a self,
        hash: u64,
        segment: &'a Segment<K, V>,
        key: &K,
    ) -> Result<V, Want<'a, K, V, S>> {
        if let Ok(Some(found)) = segment.glance(hash, |other| other == key)
            && segment.is_fresh(&found)
        {
            segment.mark(&found);
            self.inner.count_read(true);
            return Ok(found.entry().1.clone());
        }
        self.look_closely(hash, segment, key)
    }

    #[inline(never)]
    fn look_closely<'a>(
        &'a self,
        hash: u64,
        segment: &'a Segment<K, V>,
        key: &K,
    ) -> Result<V, Want<'a, K, V, S>> {
        let found = segment.find_to_load(hash, |other| other == key, true);
        let good = found.filter(|(found, stage)| match stage {
            Stage::Fresh | Stage::Due => self.inner.note_read(segment, found),
            Stage::Stale => self.inner.spend_read(segment, found) != Spent::Over,
            Stage::Failing | Stage::Over => false,
        });
        self.inner.count_read(good.is_some());
        let (found, stage) = good.ok_or(Want::Missing)?;
        let value = found.entry().1.clone();
        let claim = if stage == Stage::Fresh { None } else { segment.claim(found.slot()) };
        drop(found);
        if let Some(lead) = claim.and_then(|claim| self.begin_renewal(hash, segment, key, claim)) {
            return Err(Want::Renewal(Some(Box::new(lead))));
        }
        if stage == Stage::Stale {
            self.inner.count_stale();
        }
        Ok(value)
    }

    /// Leads the load of an entry that was found due; `None` if others do, or are asked to.
    fn begin_renewal<'a>(
        &'a self,
        hash: u64,
        segment: &'a Segment<K, V>,
        key: &K,
        claim: Claim,
    ) -> Option<Lead<'a, K, V, S>> {
        let held = Held { segment, claim };
        self.inner.begin_loading();
        // Cloned before it is led: who panics leads nothing.
        let hook = self.inner.loading.refresher.as_ref().map(|hook| (hook, key.clone(), key.clone()));
        let mut boarding = segment.board(hash, key.clone(), Reason::Due(claim));
        if let (Boarding::Joins(flight, _), true) = (&boarding, claim.is_second) {
            // Whoever had the first one has been loading for too long: see `load_timeout`.
            segment.void_load(hash, flight.number);
            boarding = segment.board(hash, key.clone(), Reason::Due(claim));
        }
        let Boarding::Leads(number, given) = boarding else { return None };
        let Some((hook, key, keys_twin)) = hook else {
            let mut lead = Lead::new(self, hash, number, true, given);
            lead.claim = Some(held.hand_over());
            return Some(lead);
        };
        let refresh = self.refresh_elsewhere(hash, [key, keys_twin], number, given, held.hand_over());
        led::leading(&[number], || hook(refresh));
        None
    }

    /// A load for others to make.
    fn refresh_elsewhere(
        &self,
        hash: u64,
        [key, twin]: [K; 2],
        number: u64,
        given: Option<Box<InsertOptions>>,
        claim: Claim,
    ) -> Refresh<K, V> {
        let cache = self.clone();
        let started = self.inner.load_starts();
        let finish = move |value: Option<V>| {
            let mut lead = Lead::new(&cache, hash, number, true, given);
            lead.started = started;
            lead.claim = Some(claim);
            led::leading(&[number], || drop(lead.land(&twin, value.ok_or(GivenUp))));
        };
        Refresh::new(key, Box::new(finish))
    }

    /// What the end of another's flight means for one who waited; `None` if it has to board again.
    pub(super) fn arrive_softly<E: Send + Sync + 'static>(
        &self,
        hash: u64,
        key: &K,
        joined: &Joined<V>,
        landing: Option<&Landing<V>>,
        want: &Want<'_, K, V, S>,
    ) -> Option<Result<V, LoadError<E>>> {
        let arrived = self.arrive(hash, key, joined, landing);
        if !matches!(landing, Some(Landing::Failed(_))) {
            return arrived;
        }
        self.rescue(hash, key, want, false).map(Ok).or(arrived)
    }

    /// The value that is given where a loader has failed, one's own or another's: an old one that is still good, unless a new one
    /// was asked for.
    pub(super) fn rescue(&self, hash: u64, key: &K, want: &Want<'_, K, V, S>, is_own: bool) -> Option<V> {
        if !self.inner.is_soft || matches!(want, Want::Anew) {
            return None;
        }
        // It was read before the load began, and does not count for `max_reads` again.
        let is_renewal = matches!(want, Want::Renewal(_));
        let segment = self.inner.segment(hash);
        let (found, stage) = segment.find_to_load(hash, |other| other == key, is_renewal)?;
        let is_over = matches!(stage, Stage::Failing | Stage::Stale);
        if stage == Stage::Failing && is_own {
            segment.note_failure(found.slot());
        }
        if !is_renewal && (!is_over || self.inner.spend_read(segment, &found) == Spent::Over) {
            return None;
        }
        if is_over {
            self.inner.count_stale();
        }
        Some(found.entry().1.clone())
    }
}

/// The error of a refresh that was given up by who was to make it: of a type that nobody expects who waits for it.
struct GivenUp;
