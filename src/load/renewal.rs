//! Entries that are due or stale: one caller loads them anew, or has that done, and the others get what is there.

use super::{Lead, Want, led};
use crate::cache::Cache;
use crate::error::LoadError;
use crate::refresh::Refresh;
use crate::segment::{Boarding, Claim, Flight, Reason, Segment, Stage};
use crate::table::{pin, try_pin};
use std::convert::Infallible;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

/// A claim until it is handed over to a flight: it is not lost if the key's `Clone` panics.
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
        self.segment.release(self.claim);
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
    pub(super) fn look_softly(&self, hash: u64, segment: &Segment<K, V>, key: &K) -> Result<V, Want<V>> {
        if let Some(guard) = try_pin()
            && let Ok(Some(found)) = segment.glance(&guard, hash, |other| other == key)
            && segment.is_fresh(&found)
        {
            segment.mark(&found);
            self.inner.count_read(true);
            return Ok(found.entry().1.clone());
        }
        self.look_closely(hash, segment, key)
    }

    #[inline(never)]
    fn look_closely(&self, hash: u64, segment: &Segment<K, V>, key: &K) -> Result<V, Want<V>> {
        let guard = pin();
        let found = segment.find_to_load(&guard, hash, |other| other == key);
        let good =
            found.filter(|(found, stage)| *stage != Stage::Failing && self.inner.note_read(segment, found));
        self.inner.count_read(good.is_some());
        let (found, stage) = good.ok_or(Want::Missing)?;
        let value = found.entry().1.clone();
        if let Some(claim) = segment.claim(found.slot(), stage) {
            return Err(Want::Due(value, claim));
        }
        if stage == Stage::Stale {
            self.inner.count_stale();
        }
        Ok(value)
    }

    /// Leads the load of an entry that was found due; `None` if others do, or are asked to.
    pub(super) fn begin_renewal(&self, hash: u64, key: &K, claim: Claim) -> Option<Lead<'_, K, V, S>> {
        self.inner.begin_loading();
        let segment = self.inner.segment(hash);
        let held = Held { segment, claim };
        let hook = self.inner.loading.refresher.as_ref().map(|hook| (hook, key.clone()));
        let mut boarding = segment.board(hash, key.clone(), Reason::Due(claim));
        if let (Boarding::Joins(flight, _), true) = (&boarding, claim.is_second) {
            // Whoever had the first one has been loading for too long: see `load_timeout`.
            segment.end_load(hash, flight.number);
            boarding = segment.board(hash, key.clone(), Reason::Due(claim));
        }
        if let Boarding::Leads(flight) = boarding {
            let Some((hook, key)) = hook else {
                let mut lead = Lead::new(self, hash, flight, true);
                lead.due = Some(held.hand_over());
                return Some(lead);
            };
            hook(self.refresh_elsewhere(hash, key, flight, held));
        }
        if claim.is_stale {
            self.inner.count_stale();
        }
        None
    }

    /// A load for others to make.
    fn refresh_elsewhere(
        &self,
        hash: u64,
        key: K,
        flight: Arc<Flight<K, V>>,
        held: Held<'_, K, V>,
    ) -> Refresh<K, V> {
        let cache = self.clone();
        let started = self.inner.load_starts();
        let claim = held.hand_over();
        let finish = move |value| {
            let number = flight.number;
            let mut lead = Lead::new(&cache, hash, flight, true);
            lead.started = started;
            lead.due = Some(claim);
            if let Some(value) = value {
                let landed = led::leading(&[number], || lead.land::<Infallible>(Ok(value)));
                drop(landed);
            }
        };
        Refresh::new(key, Box::new(finish))
    }

    /// What a caller gets instead of an error.
    pub(super) fn soften<E>(
        &self,
        hash: u64,
        key: &K,
        want: Want<V>,
        is_own: bool,
        error: LoadError<E>,
    ) -> Result<V, LoadError<E>> {
        match want {
            Want::Due(old, _) => Ok(old),
            Want::Missing => self.rescue(hash, key, is_own).ok_or(error),
            Want::Anew => Err(error),
        }
    }

    /// The value that is still good where a loader has failed, one's own or another's.
    pub(super) fn rescue(&self, hash: u64, key: &K, is_own: bool) -> Option<V> {
        if !self.inner.is_soft {
            return None;
        }
        let guard = pin();
        let segment = self.inner.segment(hash);
        let (found, stage) = segment.find_to_load(&guard, hash, |other| other == key)?;
        if stage == Stage::Failing && is_own {
            segment.note_failure(found.slot());
        }
        if matches!(stage, Stage::Failing | Stage::Stale) {
            self.inner.count_stale();
        }
        self.inner.note_read(segment, &found).then(|| found.entry().1.clone())
    }
}
