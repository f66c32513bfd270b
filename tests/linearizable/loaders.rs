//! Carries out loads of one key, by blocking or by polling.

use crate::actor::{Actor, RESPONSE};
use crate::history::What;
use crate::program::{Fate, Loading};
use crate::values::{Failure, Id, Key, Value};
use larder::LoadError;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Result of a load; none if the caller panicked on purpose or gave up.
type Outcome = Option<Result<Value, LoadError<Failure>>>;

/// Times at which a loader ran.
#[derive(Clone, Copy, Default)]
struct Run {
    started: Option<u64>,
    ended: Option<u64>,
}

impl Actor<'_> {
    pub fn load(&mut self, key: u64, loading: Loading, id: Id) {
        let mut run = Run::default();
        let outcome = match loading.polls {
            None => self.load_blocking(key, loading, id, &mut run),
            Some(polls) => self.load_polling(key, loading, id, polls, &mut run),
        };
        self.note_load(key, loading, id, run, outcome);
    }

    fn load_blocking(&self, key: u64, loading: Loading, id: Id, run: &mut Run) -> Outcome {
        let mut load = || {
            run.started = Some(self.stamps.next());
            (0..loading.pauses).for_each(|_| std::thread::yield_now());
            run.ended = Some(self.stamps.next());
            self.result(loading.fate, id)
        };
        let key = Key(key);
        let call = || match (loading.is_refresh, loading.is_try) {
            (false, false) => Ok(self.cache.get_or_load(key, |_| sure(load()))),
            (false, true) => self.cache.try_get_or_load(key, |_| load()),
            (true, false) => Ok(self.cache.refresh(key, |_| sure(load()))),
            (true, true) => self.cache.try_refresh(key, |_| load()),
        };
        or_none(call)
    }

    fn load_polling(&self, key: u64, loading: Loading, id: Id, polls: u64, run: &mut Run) -> Outcome {
        let load = || {
            run.started = Some(self.stamps.next());
            let mut pauses = loading.pauses;
            std::future::poll_fn(move |_| {
                if let Some(left) = pauses.checked_sub(1) {
                    pauses = left;
                    return Poll::Pending;
                }
                run.ended = Some(self.stamps.next());
                Poll::Ready(self.result(loading.fate, id))
            })
        };
        let cache = self.cache;
        let key = Key(key);
        let call = || match (loading.is_refresh, loading.is_try) {
            (false, false) => {
                poll(polls, async move { Ok(cache.get_or_load_async(key, |_| surely(load())).await) })
            }
            (false, true) => poll(polls, cache.try_get_or_load_async(key, |_| load())),
            (true, false) => {
                poll(polls, async move { Ok(cache.refresh_async(key, |_| surely(load())).await) })
            }
            (true, true) => poll(polls, cache.try_refresh_async(key, |_| load())),
        };
        or_none(call).flatten()
    }

    fn result(&self, fate: Fate, id: Id) -> Result<Value, Failure> {
        end_by(fate, Failure { first: id, is_of_many: false }).map(|()| self.program.value(id))
    }

    fn note_load(&mut self, key: u64, loading: Loading, id: Id, run: Run, outcome: Outcome) {
        let Some(started) = run.started else {
            match outcome {
                Some(Ok(value)) if loading.is_refresh => self.note(key, What::Joins(value.id)),
                Some(Ok(value)) => self.note(key, What::Obtains(value.id)),
                Some(Err(LoadError::Failed(error))) => self.note(key, What::Joins(error.id(key))),
                Some(Err(_)) => self.note(key, What::Wrong("a load waits for itself")),
                None if loading.polls.is_some() => {}
                None => self.note(key, What::Wrong("a panic without a loader")),
            }
            return;
        };
        let begins = if loading.is_refresh { What::Renews(id) } else { What::Begins(id) };
        self.note_within(key, self.from, started, begins);
        let end = run.ended.unwrap_or(started);
        match outcome {
            Some(Ok(value)) if value.id == id => self.note_within(key, end, RESPONSE, What::Lands(id)),
            // An old value in place of an error.
            Some(Ok(value)) if loading.fate == Fate::Fails => {
                self.note_within(key, end, RESPONSE, What::Ends(id));
                self.note_within(key, end, RESPONSE, What::Obtains(value.id));
            }
            Some(Err(LoadError::Failed(error))) if error.id(key) == id => {
                self.note_within(key, end, RESPONSE, What::Ends(id));
            }
            None if loading.fate == Fate::Panics || loading.polls.is_some() => {
                self.note_within(key, end, RESPONSE, What::Ends(id));
            }
            _ => self.note(key, What::Wrong("a load gives something else than its loader")),
        }
    }
}

/// Ends a loader; gives nothing if it is to load.
pub fn end_by(fate: Fate, failure: Failure) -> Result<(), Failure> {
    match fate {
        Fate::Loads => Ok(()),
        Fate::Fails => Err(failure),
        Fate::Panics => panic!("on purpose"),
    }
}

/// Gives the value of a loader that does not fail.
pub fn sure<T>(result: Result<T, Failure>) -> T {
    result.unwrap_or_else(|failure| unreachable!("it does not fail: {failure:?}"))
}

pub async fn surely<T>(result: impl Future<Output = Result<T, Failure>>) -> T {
    sure(result.await)
}

/// Runs a call; gives none if it panics on purpose.
pub fn or_none<T>(call: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => Some(result),
        Err(payload) if is_on_purpose(&*payload) => None,
        Err(payload) => resume_unwind(payload),
    }
}

fn is_on_purpose(payload: &(dyn Any + Send)) -> bool {
    payload.downcast_ref::<&str>().is_some_and(|text| text.contains("on purpose"))
}

/// Polls a future so many times, and drops it then. Gives its output, if it came to that.
pub fn poll<T>(polls: u64, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        std::thread::yield_now();
    }
    None
}
