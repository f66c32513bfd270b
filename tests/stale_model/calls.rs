//! Calls that bring a loader: what each of them gets, and when.

use super::*;

pub(super) type Loaded = Result<u64, ()>;

pub(super) enum Role {
    /// With whether it found the key due, or stale.
    Leads(u64, bool),
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
        let mut is_renewal = false;
        if is_first && !is_anew {
            match self.look(key) {
                Look::Hit(id) => return assert_eq!((was_called, result), (false, Some(Ok(id))), "{key}"),
                Look::Renews => is_renewal = true,
                Look::Misses => {}
            }
        } else if !is_anew && self.seen(key).is_some() {
            return assert_eq!((was_called, result), (false, Some(Ok(self.read(key)))));
        }
        if !is_renewal && let Some(flight) = self.flight(key) {
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
        let number = self.lead(key, is_anew || is_renewal, is_renewal, None);
        match (call.load.outcome, result) {
            (Some(succeeds), Some(result)) => self.ends(&call, number, is_renewal, succeeds, result),
            (None, None) => self.calls.push((call, Role::Leads(number, is_renewal))),
            (_, result) => panic!("the loader of {key} ends early or late: {result:?}"),
        }
    }

    /// A loader has come to its end, and its caller got `result`.
    pub(super) fn ends(
        &mut self,
        call: &Call,
        number: u64,
        is_renewal: bool,
        succeeds: bool,
        result: Loaded,
    ) {
        let given = if succeeds { Given::Value(call.id) } else { Given::Error };
        *(if succeeds { &mut self.counts.loads } else { &mut self.counts.load_failures }) += 1;
        let key = call.load.key;
        self.land(number, given);
        let expected = match given {
            Given::Value(id) => Ok(id),
            _ if call.load.is_anew => Err(()),
            _ => self.rescue(key, true, is_renewal),
        };
        assert_eq!(result, expected, "who loads {key}");
        self.settle(number, given);
    }

    /// Those who waited go on.
    pub(super) fn settle(&mut self, number: u64, given: Given) {
        let is_joiner = |call: &mut (Call, Role)| matches!(call.1, Role::Joins(other, _) if other == number);
        let joiners: Vec<_> = self.calls.extract_if(.., is_joiner).collect();
        for (mut call, role) in joiners {
            // What the one before has loaded may have been evicted.
            self.account();
            let polled = call.task.poll();
            let Load { key, is_anew, may_fail, .. } = call.load;
            let has_failed = matches!(given, Given::Error | Given::Dropped);
            let old = (has_failed && !is_anew).then(|| self.rescue(key, false, false));
            let expected = match (given, role, old) {
                (Given::Value(id), Role::Joins(_, false), _) => Ok(id),
                (_, _, Some(Ok(old))) => Ok(old),
                (Given::Error, ..) if may_fail => Err(()),
                _ => {
                    self.goes_on(call, polled, false);
                    continue;
                }
            };
            assert_eq!(polled, Poll::Ready(expected), "who waits for {key}");
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
            values.clone().ok_or(())
        });
        let result: Result<BTreeMap<u64, u64>, ()> =
            result.map(|found| found.into_iter().collect()).map_err(|_| ());
        let (mut found, mut led, mut missing) = (BTreeMap::new(), Vec::new(), Vec::new());
        for &key in &keys {
            match self.look(key) {
                Look::Hit(id) => _ = found.insert(key, id),
                Look::Renews => led.push((key, true, self.lead(key, true, true, None))),
                Look::Misses => missing.push(key),
            }
        }
        led.extend(missing.into_iter().map(|key| (key, false, self.lead(key, false, false, None))));
        // Those that are due come first.
        assert_eq!(asked, led.iter().map(|led| led.0).collect::<Vec<_>>(), "for these the loader is called");
        if led.is_empty() {
            return assert_eq!(result, Ok(found));
        }
        *(if values.is_some() { &mut self.counts.loads } else { &mut self.counts.load_failures }) += 1;
        let mut is_failed = false;
        match values {
            None => {
                led.iter().for_each(|&(.., number)| self.land(number, Given::Error));
                let least = self.stale[0];
                for (key, is_renewal, _) in led {
                    let old = self.rescue(key, true, is_renewal);
                    old.into_iter().for_each(|id| _ = found.insert(key, id));
                    is_failed |= old.is_err();
                }
                if is_failed {
                    // What was there for others was not given after all.
                    self.stale[0] = least;
                }
            }
            Some(mut values) => {
                for (key, is_renewal, number) in led {
                    if let Some(id) = values.remove(&key) {
                        self.land(number, Given::Value(id));
                        found.insert(key, id);
                        continue;
                    }
                    self.land(number, Given::Error);
                    // What was loaded may have been given its place.
                    let is_evicted =
                        self.has_left(key) && result.as_ref().is_ok_and(|got| !got.contains_key(&key));
                    if is_renewal && !is_evicted {
                        self.rescue(key, true, true).into_iter().for_each(|id| _ = found.insert(key, id));
                    }
                }
                values.into_iter().for_each(|(key, id)| self.updated(key, id));
            }
        }
        assert_eq!(result, if is_failed { Err(()) } else { Ok(found) });
    }

    /// Whether what there is of a key has left already, without that this was expected.
    fn has_left(&self, key: u64) -> bool {
        let entry = self.entries.get(&key);
        entry.is_some_and(|entry| self.log.lock().unwrap().iter().any(|(_, id, _)| *id == entry.id))
    }

    pub(super) fn end(&mut self, at: usize, end: Option<bool>) {
        let leads = |(_, call): &(usize, &(Call, Role))| matches!(call.1, Role::Leads(..));
        let leaders: Vec<usize> = self.calls.iter().enumerate().filter(leads).map(|(at, _)| at).collect();
        if leaders.is_empty() {
            return;
        }
        let (mut call, Role::Leads(number, is_renewal)) = self.calls.remove(leaders[at % leaders.len()])
        else {
            unreachable!("it leads")
        };
        match end {
            Some(succeeds) => {
                let succeeds = succeeds || !call.load.may_fail;
                call.gate.give(succeeds);
                let result = call.task.ready();
                self.ends(&call, number, is_renewal, succeeds, result);
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
        let given = if succeeds { Given::Value(id) } else { Given::Dropped };
        if succeeds {
            refresh.complete(id);
            self.counts.loads += 1;
        } else {
            drop(refresh);
            self.counts.load_failures += 1;
        }
        self.land(number, given);
        self.settle(number, given);
    }
}
