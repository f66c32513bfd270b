//! Carries out loads of many keys, by blocking or by polling.

use crate::actor::{Actor, RESPONSE};
use crate::history::What;
use crate::loaders::{end_by, or_none, poll, sure, surely};
use crate::program::{Fate, Keys, LoadingMany, MOST_KEYS, has};
use crate::values::{Failure, Id, Key, Value};
use larder::LoadError;
use std::cell::RefCell;
use std::collections::HashMap;
use std::task::Poll;

/// Result of a load; none if the caller panicked on purpose or gave up.
type Outcome = Option<Result<HashMap<Key, Value>, LoadError<Failure>>>;

/// One call of a loader.
struct Batch {
    keys: Keys,
    /// Keys for which it brought values, unasked or not.
    brought: Keys,
    started: u64,
    ended: Option<u64>,
}

/// Loader of many keys, and the calls of it.
struct Loader<'a> {
    actor: &'a Actor<'a>,
    loading: LoadingMany,
    first: Id,
    batches: RefCell<Vec<Batch>>,
}

impl Loader<'_> {
    /// Begins to load some keys. Gives the number of the batch.
    fn begin(&self, keys: &[Key]) -> usize {
        let started = self.actor.stamps.next();
        let keys = keys.iter().fold(0, |keys, key| keys | 1 << key.0);
        let mut batches = self.batches.borrow_mut();
        batches.push(Batch { keys, brought: 0, started, ended: None });
        batches.len() - 1
    }

    /// Ends a batch. The first one brings further keys.
    fn end(&self, number: usize) -> Result<Vec<(Key, Value)>, Failure> {
        let batch = &mut self.batches.borrow_mut()[number];
        batch.ended = Some(self.actor.stamps.next());
        end_by(self.loading.fate, Failure { first: self.first, is_of_many: true })?;
        let unasked = if number == 0 { self.loading.unasked & !batch.keys } else { 0 };
        batch.brought = (batch.keys & self.loading.brings) | unasked;
        let value = |key| (Key(key), self.actor.program.value(id_of(batch, key, self.first)));
        Ok(self.actor.keys_of(batch.brought).map(value).collect())
    }

    fn run_blocking(&self, wanted: Vec<Key>) -> Outcome {
        let load = |keys: &[Key]| {
            let number = self.begin(keys);
            (0..self.loading.pauses).for_each(|_| std::thread::yield_now());
            self.end(number)
        };
        let cache = self.actor.cache;
        or_none(|| match self.loading.fate {
            Fate::Fails => cache.try_get_all_or_load(wanted, load),
            _ => Ok(cache.get_all_or_load(wanted, |keys| sure(load(keys)))),
        })
    }

    fn run_polling(&self, wanted: Vec<Key>, polls: u64) -> Outcome {
        let load = |keys: Vec<Key>| {
            let number = self.begin(&keys);
            let mut pauses = self.loading.pauses;
            std::future::poll_fn(move |_| match pauses.checked_sub(1) {
                Some(left) => {
                    pauses = left;
                    Poll::Pending
                }
                None => Poll::Ready(self.end(number)),
            })
        };
        let cache = self.actor.cache;
        let call = || match self.loading.fate {
            Fate::Fails => poll(polls, cache.try_get_all_or_load_async(wanted, load)),
            _ => poll(polls, async move {
                Ok(cache.get_all_or_load_async(wanted, |keys| surely(load(keys))).await)
            }),
        };
        or_none(call).flatten()
    }
}

impl Actor<'_> {
    pub fn load_many(&mut self, loading: LoadingMany, first: Id) {
        let loader = Loader { actor: self, loading, first, batches: RefCell::default() };
        let wanted: Vec<_> = self.keys_of(loading.keys).map(Key).collect();
        let found = match loading.polls {
            None => loader.run_blocking(wanted),
            Some(polls) => loader.run_polling(wanted, polls),
        };
        let batches = loader.batches.into_inner();
        batches.iter().for_each(|batch| self.note_batch(batch, loading, first));
        let asked = batches.iter().fold(0, |keys, batch| keys | batch.keys);
        match found {
            Some(Ok(found)) => self.note_found(&found, loading, first, asked),
            Some(Err(LoadError::Failed(_))) => {}
            None if loading.polls.is_some() => {}
            None if loading.fate == Fate::Panics && !batches.is_empty() => {}
            _ => self.note(0, What::Wrong("a load of many panics, or waits for itself")),
        }
    }

    fn keys_of(&self, keys: Keys) -> impl Iterator<Item = u64> + use<> {
        (0..self.program.keys).filter(move |&key| has(keys, key))
    }

    fn note_batch(&mut self, batch: &Batch, loading: LoadingMany, first: Id) {
        let Batch { started, ended, .. } = *batch;
        let end = ended.unwrap_or(started);
        for key in self.keys_of(batch.keys | batch.brought) {
            let id = id_of(batch, key, first);
            let begins = if has(batch.keys, key) { What::Begins(id) } else { What::Opens(id) };
            self.note_within(key, self.from, started, begins);
            let what = match loading.fate {
                _ if has(batch.brought, key) => What::Lands(id),
                Fate::Loads if ended.is_some() => What::Omits(id),
                _ => What::Ends(id),
            };
            self.note_within(key, end, RESPONSE, what);
        }
    }

    fn note_found(&mut self, found: &HashMap<Key, Value>, loading: LoadingMany, first: Id, asked: Keys) {
        for key in self.keys_of(loading.keys) {
            let own = has(asked, key);
            match found.get(&Key(key)).map(|value| value.id) {
                Some(id) if own && id == first + key as Id => {}
                Some(id) if !own || self.program.setup.is_soft() => self.note(key, What::Obtains(id)),
                None if own && !has(loading.brings, key) => {}
                None if !own => self.note(key, What::JoinsOmission),
                _ => self.note(key, What::Wrong("a load of many gives something else than its loader")),
            }
        }
    }
}

/// Gives the number of the value that a batch brings for a key: another one if it is brought unasked.
fn id_of(batch: &Batch, key: u64, first: Id) -> Id {
    let unasked = if has(batch.keys, key) { 0 } else { MOST_KEYS as Id };
    first + key as Id + unasked
}
