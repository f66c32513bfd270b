//! What `stale_model.rs` has found that is not as the documentation says. Each test fails as long as its fault is there.
#![allow(missing_docs)]

mod common;

use common::loads::{Gate, Task};
use common::time::{NS, builder, secs};
use larder::{Builder, Clock, LoadError};
use std::future::pending;

/// Entries are due after 10 seconds, and over after 20.
fn soft(clock: &Clock) -> Builder<u64, u64> {
    builder(clock).refresh_after_write(secs(10)).record_stats()
}

/// `Stats::stale_count`: "values given after the life of their entry was over".
#[test]
fn stale_values_are_counted_where_a_call_for_many_brings_no_others() {
    let clock = Clock::manual();
    let cache = soft(&clock).time_to_live(secs(20)).stale_while_revalidate(secs(10)).build().unwrap();
    cache.insert(1, 1);
    clock.advance(secs(20));
    let found = cache.get_all_or_load([1], |_| Vec::new());
    assert_eq!((found.get(&1), cache.stats().refresh_failure_count()), (Some(&1), 1));
    assert_eq!(cache.stats().stale_count(), 1);
}

/// `refresh_after_write`: "of the callers who bring a loader and find it due one loads it anew". Here nobody does so any
/// more, for ever, after a load that brought a value which was not kept. Nothing has failed.
#[test]
fn an_entry_is_refreshed_after_a_refresh_that_was_out_of_date() {
    let stays: [fn(&larder::Cache<u64, u64>); 2] =
        [|cache| _ = cache.remove_if(&1, |_, _| false), |cache| cache.retain(|_, _| true)];
    for stays in stays {
        let clock = Clock::manual();
        let cache = soft(&clock).build().unwrap();
        cache.insert(1, 1);
        clock.advance(secs(10));
        let new = cache.get_or_load(1, |_| {
            stays(&cache);
            2
        });
        assert_eq!((new, cache.get(&1)), (2, Some(1)));
        clock.advance(secs(1_000_000));
        assert_eq!(cache.get_or_load(1, |_| 3), 3);
    }
}

/// `stale_if_error`: "given to callers whose loader failed, or who waited for one that did", and "after a failure all callers
/// get the old value, without their loaders being called". (`try_get_or_load` says that who cannot fail runs its own loader.)
#[test]
fn who_cannot_fail_and_waited_for_a_load_that_failed_gets_the_old_value() {
    let clock = Clock::manual();
    let cache = builder(&clock).time_to_live(secs(20)).stale_if_error(secs(10)).build().unwrap();
    cache.insert(1, 1);
    clock.advance(secs(20));
    let gate: Gate<Result<u64, ()>> = Gate::default();
    let mut leads = Task::new(cache.try_get_or_load_async(1, |_| gate.get())).starts();
    let mut waits = Task::new(cache.get_or_load_async(1, |_| async { 2 })).starts();
    gate.give(Err(()));
    assert_eq!(leads.ready().unwrap(), 1);
    assert_eq!(cache.get_or_load(1, |_| unreachable!()), 1, "who comes later gets it");
    assert_eq!(waits.ready(), 1);
}

/// `refresh_backoff`: "after a refresh that failed .. after each further failure in a row twice as long". Here one has failed,
/// and the wait is 8 seconds: each caller who met it under way counted as a failure.
#[test]
fn who_meets_a_refresh_under_way_is_no_failure() {
    let clock = Clock::manual();
    let cache = soft(&clock).build().unwrap();
    cache.insert(1, 1);
    clock.advance(secs(10));
    let refresh = Task::new(cache.refresh_async(1, |_| pending())).starts();
    for wait in [1, 2, 4] {
        assert_eq!(cache.get_or_load(1, |_| unreachable!()), 1);
        clock.advance(secs(wait));
    }
    assert_eq!(cache.get_or_load(1, |_| unreachable!()), 1);
    drop(refresh);
    assert_eq!(cache.stats().refresh_failure_count(), 1);
    clock.advance(secs(1));
    assert_eq!(cache.get_or_load(1, |_| 2), 2);
}

/// The table of "Loading": who loads gets the error if the loader gives one. It does so in a cache of which nothing was said of
/// refreshes; with them it gets what others have written meanwhile.
#[test]
fn an_error_is_given_where_nothing_is_stale() {
    for is_soft in [false, true] {
        let clock = Clock::manual();
        let cache = if is_soft { builder(&clock).stale_if_error(NS) } else { builder(&clock) };
        let cache = cache.build().unwrap();
        let result = cache.try_get_or_load(1, |_| {
            cache.insert(1, 1);
            Err(())
        });
        assert!(matches!(result, Err(LoadError::Failed(_))), "{is_soft}: {result:?}");
    }
}
