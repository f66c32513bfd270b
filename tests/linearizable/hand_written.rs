//! The checker itself, on histories that are written by hand: some legal, some not.

use crate::checker::Search;
use crate::common::Random;
use crate::history::What::*;
use crate::history::{Fact, Record, What};
use crate::program::{Op, Program, Read};
use crate::setup::{Family, Setup};
use crate::track::{Leniency, Track};

/// Something that happens between two stamps.
type Event = (u64, u64, What);

/// Values 0 to 7 carry no tag; 8 carries tag 1.
fn program(family: Family, adapt: impl Fn(&mut Setup)) -> Program {
    let mut setup = Setup::random(family, &mut Random::new(1));
    setup.evicts = family == Family::Tight;
    adapt(&mut setup);
    let tags = vec![0, 0, 0, 0, 0, 0, 0, 0, 2];
    Program { seed: 0, setup, keys: 1, prelude: vec![], threads: vec![], finale: vec![], tags }
}

fn record(op: Op, from: u64, to: u64, facts: Vec<Fact>) -> Record {
    Record { thread: 1, op, from, to, facts }
}

fn records(events: &[Event]) -> Vec<Record> {
    let record =
        |&(from, to, what)| record(Op::Read(Read::Get, 0), from, to, vec![Fact { key: 0, from, to, what }]);
    events.iter().map(record).collect()
}

fn is_legal_if(program: &Program, records: &[Record], leniency: Leniency) -> bool {
    Search::new(&Track::new(program, records, 0, leniency)).succeeds()
}

fn is_legal_in(family: Family, events: &[Event]) -> bool {
    is_legal_if(&program(family, |_| ()), &records(events), Leniency::NONE)
}

fn is_legal(events: &[Event]) -> bool {
    is_legal_in(Family::Roomy, events)
}

#[test]
fn reads_see_the_last_write() {
    assert!(is_legal(&[(0, 1, Reads(None)), (2, 3, Writes(0)), (4, 5, Reads(Some(0)))]));
    assert!(!is_legal(&[(0, 1, Writes(0)), (2, 3, Writes(1)), (4, 5, Reads(Some(0)))]));
    assert!(!is_legal(&[(0, 1, Writes(0)), (2, 3, Reads(None))]));
    // While a write is on its way both values may be read, but the new one not first.
    let write = [(0, 1, Writes(0)), (2, 9, Writes(1))];
    assert!(is_legal(&[write[0], write[1], (3, 4, Reads(Some(0))), (5, 6, Reads(Some(1)))]));
    assert!(!is_legal(&[write[0], write[1], (3, 4, Reads(Some(1))), (5, 6, Reads(Some(0)))]));
}

#[test]
fn a_value_is_removed_once() {
    let write = (0, 1, Writes(0));
    assert!(is_legal(&[write, (2, 5, Removes(Some(0))), (3, 4, Removes(None))]));
    assert!(!is_legal(&[write, (2, 5, Removes(Some(0))), (3, 4, Removes(Some(0)))]));
    assert!(!is_legal(&[write, (2, 5, RemovesAny(true)), (3, 4, Replaces(None, 1)), (6, 7, Exists(false))]));
}

#[test]
fn only_tight_caches_evict() {
    let history = [(0, 1, Writes(0)), (2, 3, Reads(None))];
    assert!(is_legal_in(Family::Tight, &history));
    assert!(!is_legal_in(Family::Roomy, &history));
    assert!(!is_legal_in(Family::Tight, &[history[0], history[1], (4, 5, Reads(Some(0)))]));
}

#[test]
fn an_invalidation_makes_loads_void() {
    let load = |end, after| [(0, 1, Begins(0)), (2, 3, Clears), (4, end, Lands(0)), (6, 7, after)];
    assert!(is_legal(&load(5, Reads(None))));
    assert!(!is_legal(&load(5, Reads(Some(0)))));
    // An eviction does not.
    let history = [(0, 1, Writes(1)), (2, 3, Renews(0)), (4, 5, Reads(None)), (6, 7, Lands(0))];
    assert!(is_legal_in(Family::Tight, &[&history[..], &[(8, 9, Reads(Some(0)))]].concat()));
}

#[test]
fn an_invalidation_is_one_moment() {
    // The removal has to come behind the write that it removes, but the load is void before.
    let history = [
        (0, 1, Writes(0)),
        (2, 3, Renews(1)),
        (4, 13, Removes(Some(2))),
        (5, 6, Lands(1)),
        (7, 8, Reads(Some(0))),
        (9, 10, Writes(2)),
    ];
    assert!(!is_legal(&history));
    let loose = Leniency { early: true, ..Leniency::NONE };
    assert!(is_legal_if(&program(Family::Roomy, |_| ()), &records(&history), loose));
}

#[test]
fn a_removal_makes_void_what_began_before_it_looked() {
    // The entry is evicted between the removal's two looks, and the load that began in between survives it.
    let history = [
        (0, 1, Writes(0)),
        (2, 9, Removes(None)),
        (3, 4, Reads(Some(0))),
        (5, 6, Renews(1)),
        (7, 8, Reads(Some(0))),
        (10, 11, Lands(1)),
        (12, 13, Reads(Some(1))),
    ];
    assert!(!is_legal_in(Family::Tight, &history));
    assert!(is_legal_in(Family::Tight, &history[..6]));
    let early = Leniency { early: true, ..Leniency::NONE };
    let is_legal_if = |leniency| is_legal_if(&program(Family::Tight, |_| ()), &records(&history), leniency);
    assert!(!is_legal_if(early));
    assert!(is_legal_if(Leniency { survival: true, ..early }));
}

#[test]
fn one_loader_runs_at_a_time() {
    assert!(!is_legal(&[(0, 1, Begins(0)), (2, 3, Begins(1)), (4, 5, Lands(0)), (6, 7, Lands(1))]));
    assert!(is_legal(&[
        (0, 1, Begins(0)),
        (2, 3, Removes(None)),
        (4, 5, Begins(1)),
        (6, 7, Lands(0)),
        (8, 9, Lands(1)),
        (10, 11, Reads(Some(1))),
    ]));
    // A loader runs only if the value is missing.
    assert!(!is_legal(&[(0, 1, Writes(0)), (2, 3, Begins(1)), (4, 5, Lands(1))]));
    assert!(is_legal(&[(0, 1, Writes(0)), (2, 3, Renews(1)), (4, 5, Lands(1)), (6, 7, Reads(Some(1)))]));
}

#[test]
fn joiners_come_while_the_load_is_good() {
    let load = [(0, 1, Begins(0)), (6, 8, Lands(0))];
    assert!(is_legal(&[load[0], load[1], (2, 7, Joins(0))]));
    assert!(!is_legal(&[load[0], load[1], (2, 3, Clears), (4, 7, Obtains(0))]));
    assert!(!is_legal(&[load[0], load[1], (9, 10, Joins(0))]));
    assert!(is_legal(&[(0, 1, Begins(0)), (6, 8, Ends(0)), (2, 7, Joins(0)), (9, 10, Reads(None))]));
    assert!(is_legal(&[(0, 1, Begins(0)), (6, 8, Omits(0)), (2, 7, JoinsOmission)]));
    assert!(!is_legal(&[load[0], load[1], (2, 7, JoinsOmission)]));
}

#[test]
fn tags_concern_the_loads_that_carry_them() {
    let load = |id, tag, after| {
        is_legal(&[(0, 1, Begins(id)), (2, 3, Untags(tag, false)), (4, 5, Lands(id)), (6, 7, Reads(after))])
    };
    assert!(load(8, 1, None) && !load(8, 1, Some(8)));
    assert!(load(8, 0, Some(8)) && !load(8, 0, None));
    assert!(load(0, 1, Some(0)) && !load(0, 1, None));
    let entry = |id, removed, after| {
        is_legal(&[(0, 1, Writes(id)), (2, 3, Untags(1, removed)), (4, 5, Reads(after))])
    };
    assert!(entry(8, true, None) && !entry(8, true, Some(8)) && !entry(8, false, None));
    assert!(entry(0, false, Some(0)) && entry(0, true, Some(0)));
}

#[test]
fn unasked_values_give_way() {
    let load = |what, after| {
        is_legal(&[(0, 1, Opens(0)), (2, 3, what), (4, 5, Lands(0)), (6, 7, Reads(Some(after)))])
    };
    assert!(load(Writes(1), 1) && !load(Writes(1), 0));
    assert!(load(Reads(None), 0));
    assert!(!load(Clears, 0));
}

#[test]
fn drains_meet_what_is_there() {
    let history = [(0, 1, Writes(0)), (2, 5, Misses), (3, 4, Replaces(Some(0), 1)), (6, 7, Reads(Some(1)))];
    assert!(!is_legal(&history));
    let loose = Leniency { drains: true, ..Leniency::NONE };
    assert!(is_legal_if(&program(Family::Roomy, |_| ()), &records(&history), loose));
}

#[test]
fn sweeps_leave_what_came_later() {
    assert!(is_legal(&[(0, 1, Writes(0)), (2, 5, Sweeps(0)), (3, 4, Writes(1)), (6, 7, Reads(Some(1)))]));
    assert!(!is_legal(&[(0, 1, Writes(0)), (2, 3, Sweeps(0)), (4, 5, Reads(Some(0)))]));
}

/// A history with an advance of the clock by one unit.
fn with_advance(from: u64, to: u64, events: &[Event]) -> Vec<Record> {
    let mut records = records(events);
    records.push(record(Op::Advance(1), from, to, vec![]));
    records
}

#[test]
fn entries_end_with_the_clock() {
    let program = program(Family::Ending, |setup| setup.time_to_live = Some(1));
    let is_legal = |records: &[Record]| is_legal_if(&program, records, Leniency::NONE);
    let write = (0, 1, Writes(0));
    assert!(is_legal(&with_advance(2, 3, &[write, (4, 5, Reads(None))])));
    assert!(!is_legal(&with_advance(2, 3, &[write, (4, 5, Reads(Some(0)))])));
    assert!(!is_legal(&with_advance(4, 5, &[write, (2, 3, Reads(None))])));
    // What has ended has done so for good, but not before the clock begins to move.
    let reads = |first, second| [write, (3, 4, Reads(first)), (5, 6, Reads(second))];
    assert!(is_legal(&with_advance(2, 7, &reads(Some(0), None))));
    assert!(!is_legal(&with_advance(2, 7, &reads(None, Some(0)))));
    // A write during which the clock moves ends later, or not.
    assert!(is_legal(&with_advance(1, 2, &[(0, 3, Writes(0)), (4, 5, Reads(Some(0)))])));
    assert!(is_legal(&with_advance(1, 2, &[(0, 3, Writes(0)), (4, 5, Reads(None))])));
}

#[test]
fn stale_entries_are_for_loaders() {
    let program = program(Family::Stale, |setup| {
        setup.time_to_live = Some(1);
        setup.refresh_after = None;
        setup.revalidate = 1;
    });
    let is_legal = |events: &[Event]| {
        let events = [&[(0, 1, Writes(0))], events].concat();
        is_legal_if(&program, &with_advance(2, 3, &events), Leniency::NONE)
    };
    assert!(is_legal(&[(4, 5, Reads(None)), (6, 7, Obtains(0))]));
    assert!(!is_legal(&[(4, 5, Removes(None)), (6, 7, Obtains(0))]));
    assert!(is_legal(&[(4, 5, Begins(1)), (6, 7, Obtains(0)), (8, 9, Lands(1)), (10, 11, Reads(Some(1)))]));
    assert!(!is_legal(&[(4, 5, Begins(1)), (6, 7, Lands(1)), (8, 9, Obtains(0))]));
}
