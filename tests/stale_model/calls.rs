//! Calls that bring a loader: what each of them gets, and when.

use super::*;

pub(super) type Loaded = Result<u64, ()>;

pub(super) enum Role {
    Leads(u64, Option<Old>),
    /// Waits for another's flight, and whether that was out of date already.
    Joins(u64, bool),
}

/// A call that is under way.
pub(super) struct Call {
    pub(super) load: Load,
    /// What its loader gives.
    pub(super) id: u64,
    pub(super) gate: Gate<bool>,
    pub(super) is_called: Arc<AtomicBool>,
    pub(super) task: Task<'static, Loaded>,
}

pub(super) fn plain<E>(result: Result<u64, LoadError<E>>) -> Loaded {
    result.map_err(|error| assert!(matches!(error, LoadError::Failed(_))))
}

pub(super) async fn unwrapped(loading: impl Future<Output = Loaded>) -> u64 {
    loading.await.unwrap()
}

impl Model {
    pub(super) fn call(&mut self, load: &Load) {
        let mut load = load.clone();
        load.may_fail |= load.outcome == Some(false);
        let (cache, id, key, is_anew) = (self.cache.clone(), self.id(), load.key, load.is_anew);
        let (gate, is_called) = (Gate::default(), Arc::new(AtomicBool::new(false)));
        let (ends, calls, may_fail) = (gate.get(), Arc::clone(&is_called), load.may_fail);
        let mut task = Task::new(async move {
            let loader = |_: &u64| {
                calls.store(true, SeqCst);
                async move { if ends.await { Ok(id) } else { Err(()) } }
            };
            match (is_anew, may_fail) {
                (false, false) => Ok(cache.get_or_load_async(key, |key| unwrapped(loader(key))).await),
                (false, true) => plain(cache.try_get_or_load_async(key, loader).await),
                (true, false) => Ok(cache.refresh_async(key, |key| unwrapped(loader(key))).await),
                (true, true) => plain(cache.try_refresh_async(key, loader).await),
            }
        });
        let polled = match load.outcome {
            Some(succeeds) if load.is_sync && self.flight(key).is_none() => {
                let loader = |_: &u64| {
                    is_called.store(true, SeqCst);
                    if succeeds { Ok(id) } else { Err(()) }
                };
                let cache = &self.cache;
                Poll::Ready(match (is_anew, load.may_fail) {
                    (false, false) => Ok(cache.get_or_load(key, |key| loader(key).unwrap())),
                    (false, true) => plain(cache.try_get_or_load(key, loader)),
                    (true, false) => Ok(cache.refresh(key, |key| loader(key).unwrap())),
                    (true, true) => plain(cache.try_refresh(key, loader)),
                })
            }
            outcome => {
                outcome.into_iter().for_each(|succeeds| gate.give(succeeds));
                task.poll()
            }
        };
        self.goes_on(Call { load, id, gate, is_called, task }, polled, true);
    }

    /// A call has begun, or what it waited for has come to nothing.
    pub(super) fn goes_on(&mut self, call: Call, polled: Poll<Loaded>, is_first: bool) {
        let (key, is_anew) = (call.load.key, call.load.is_anew);
        let was_called = call.is_called.swap(false, SeqCst);
        let result = match polled {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        };
        let mut old = None;
        if is_first && !is_anew {
            match self.look(key, was_called, result.is_some()) {
                Look::Hit(id) => return assert_eq!((was_called, result), (false, Some(Ok(id)))),
                Look::Renews(found) => old = Some(found),
                Look::Misses => {}
            }
        } else if !is_anew && self.seen(key).is_some() {
            return assert_eq!((was_called, result), (false, Some(Ok(self.read(key)))));
        }
        if old.is_none()
            && let Some(flight) = self.flight(key)
        {
            // Nobody knows what carries a tag before it is loaded: a new load may begin, but need not.
            flight.is_valid = !(flight.is_tagged && was_called);
            if flight.is_valid {
                let role = Role::Joins(flight.number, flight.is_tagged);
                assert_eq!((was_called, result), (false, None), "one waits for who loads");
                self.counts.waits += 1;
                return self.calls.push((call, role));
            }
        }
        assert!(was_called, "nobody else loads");
        let number = self.lead(key, is_anew || old.is_some(), old, None);
        match (call.load.outcome, result) {
            (Some(succeeds), Some(result)) => self.ends(&call, number, old, succeeds, result),
            (None, None) => self.calls.push((call, Role::Leads(number, old))),
            (_, result) => panic!("the loader of {key} ends early or late: {result:?}"),
        }
    }

    /// A loader has come to its end, and its caller got `result`.
    pub(super) fn ends(
        &mut self,
        call: &Call,
        number: u64,
        old: Option<Old>,
        succeeds: bool,
        result: Loaded,
    ) {
        let given = if succeeds { Given::Value(call.id) } else { Given::Error };
        *(if succeeds { &mut self.counts.loads } else { &mut self.counts.load_failures }) += 1;
        let key = call.load.key;
        let is_over = self.seen(key).is_none();
        self.land(number, given);
        let expected = match (given, old) {
            (Given::Value(id), _) => Ok(id),
            (_, Some(old)) => {
                self.stale(old.was_over, old.was_over || is_over);
                Ok(old.id)
            }
            (_, None) if call.load.is_anew => Err(()),
            (_, None) => self.rescue(key, true, result),
        };
        assert_eq!(result, expected, "who loads {key}");
        self.settle(number, given);
    }

    /// Those who waited go on.
    pub(super) fn settle(&mut self, number: u64, given: Given) {
        let is_joiner = |call: &mut (Call, Role)| matches!(call.1, Role::Joins(other, _) if other == number);
        let joiners: Vec<_> = self.calls.extract_if(.., is_joiner).collect();
        for (mut call, role) in joiners {
            let polled = call.task.poll();
            let key = call.load.key;
            match (given, role, polled) {
                (Given::Value(id), Role::Joins(_, false), _) => {
                    assert_eq!(polled, Poll::Ready(Ok(id)), "{key}")
                }
                (Given::Error, _, Poll::Ready(result)) if call.load.may_fail => {
                    let is_anew = call.load.is_anew;
                    let expected = if is_anew { Err(()) } else { self.rescue(key, false, result) };
                    assert_eq!(result, expected, "who waits for {key}");
                }
                _ => self.goes_on(call, polled, false),
            }
        }
    }

    /// Asks for many keys, none of which this thread would wait for. The loader gives what is `given`, if anything.
    pub(super) fn call_for_many(&mut self, keys: &[u64], given: Option<&[u64]>) {
        let is_there = |stage| matches!(stage, Stage::Fresh | Stage::Due | Stage::Stale);
        let keys: Vec<u64> = keys.to_vec();
        let keys: Vec<u64> =
            keys.into_iter().filter(|&key| is_there(self.stage(key)) || self.flight(key).is_none()).collect();
        let values: Option<BTreeMap<u64, u64>> =
            given.map(|given| given.iter().map(|&key| (key, self.id())).collect());
        let mut asked: Vec<u64> = Vec::new();
        let result = self.cache.try_get_all_or_load(keys.clone(), |wanted| {
            assert!(asked.is_empty(), "one call");
            asked = wanted.to_vec();
            asked.sort_unstable();
            values.clone().ok_or(())
        });
        let result: Result<BTreeMap<u64, u64>, ()> =
            result.map(|found| found.into_iter().collect()).map_err(|_| ());
        let (mut found, mut led) = (BTreeMap::new(), Vec::new());
        for &key in &keys {
            let was_asked = asked.contains(&key);
            let old = match self.look(key, was_asked, true) {
                Look::Hit(id) => {
                    found.insert(key, id);
                    continue;
                }
                Look::Renews(old) => Some(old),
                Look::Misses => None,
            };
            led.push((key, old, self.lead(key, old.is_some(), old, None)));
        }
        assert_eq!(asked, led.iter().map(|led| led.0).collect::<Vec<_>>(), "for these the loader is called");
        if led.is_empty() {
            return assert_eq!(result, Ok(found));
        }
        *(if values.is_some() { &mut self.counts.loads } else { &mut self.counts.load_failures }) += 1;
        let mut is_failed = false;
        for &(key, old, number) in &led {
            let value = values.as_ref().map(|values| values.get(&key).copied());
            let landing = match value {
                Some(Some(id)) => Given::Value(id),
                Some(None) => Given::Nothing,
                None => Given::Error,
            };
            self.land(number, landing);
            let got = match (landing, old) {
                (Given::Value(id), _) => Some(id),
                (_, Some(old)) => {
                    // Where another key fails it is not given after all.
                    let is_given = result.is_ok() && !(FAULTS && matches!(landing, Given::Nothing));
                    self.stale(old.was_over && is_given, old.was_over);
                    Some(old.id)
                }
                (Given::Nothing, None) => None,
                (Given::Error, None) => {
                    let least = self.stale[0];
                    let rescued = self.rescue(key, true, Ok(0));
                    if result.is_err() {
                        self.stale[0] = least;
                    }
                    is_failed |= rescued.is_err();
                    rescued.ok()
                }
            };
            got.into_iter().for_each(|id| _ = found.insert(key, id));
        }
        assert_eq!(result, if is_failed { Err(()) } else { Ok(found) });
        for (key, id) in values.into_iter().flatten().filter(|(key, _)| !asked.contains(key)) {
            self.written(key, id, [NEVER; 2], true);
        }
    }

    pub(super) fn end(&mut self, at: usize, end: Option<bool>) {
        let leads = |(_, call): &(usize, &(Call, Role))| matches!(call.1, Role::Leads(..));
        let leaders: Vec<usize> = self.calls.iter().enumerate().filter(leads).map(|(at, _)| at).collect();
        if leaders.is_empty() {
            return;
        }
        let (mut call, Role::Leads(number, old)) = self.calls.remove(leaders[at % leaders.len()]) else {
            unreachable!("it leads")
        };
        match end {
            Some(succeeds) => {
                let succeeds = succeeds || !call.load.may_fail;
                call.gate.give(succeeds);
                let result = call.task.ready();
                self.ends(&call, number, old, succeeds, result);
            }
            None => {
                drop(call);
                self.land(number, Given::Nothing);
                self.settle(number, Given::Nothing);
            }
        }
    }

    pub(super) fn complete(&mut self, at: usize, succeeds: bool) {
        let elsewhere: Vec<&mut Flight> =
            self.flights.iter_mut().filter(|flight| flight.elsewhere.is_some()).collect();
        if elsewhere.is_empty() {
            return;
        }
        let at = at % elsewhere.len();
        let flight = elsewhere.into_iter().nth(at).expect("there are more");
        let (number, refresh) = (flight.number, flight.elsewhere.take().expect("it has one"));
        let id = self.id();
        let given = if succeeds { Given::Value(id) } else { Given::Nothing };
        if succeeds {
            refresh.complete(id);
            self.counts.loads += 1;
        } else {
            drop(refresh);
        }
        self.land(number, given);
        self.settle(number, given);
    }
}
