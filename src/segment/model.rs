//! Loads that race with each other and with writes, under loom. How to run it: see the models of `table`.

use super::*;
use crate::clock::Clock;
use crate::policy::EvictionPolicy;
use crate::sync::AtomicU32;
use crate::sync::model::check;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

const HASH: u64 = 1 << 24;

type Numbers = Segment<u32, u32>;

fn segment() -> Arc<Numbers> {
    let rules = Rules {
        clock: Clock::default(),
        life: Life::ENDLESS,
        jitter: 0,
        max_reads: None,
        is_asked: false,
        has_ages: false,
        soft: None,
    };
    let plan = Plan { weight: 8, places: Some(8), sizing: Sizing { initial: 1, expected: 0 } };
    Arc::new(Segment::new(&plan, EvictionPolicy::fifo().make(8), &Arc::new(rules), None))
}

/// Stores a value for key 1, and returns the load that ends with it.
fn store(segment: &Numbers, value: u32, seen: Seen) -> (Outcome, Option<Ended<u32, u32>>) {
    let mut arrival = Arrival {
        hash: HASH,
        weight: 1,
        pin: None,
        search: None,
        life: None,
        tags: &[],
        given: Given::NOTHING,
        back: None,
    };
    let mut ended = None;
    let mut offer = Offer::new(1, value, seen);
    offer.ended = Some(&mut ended);
    let mut panics = Panics::default();
    let outcome = segment.insert(&Bank::new(8, Some(8), 1), &mut arrival, &mut offer, &mut panics);
    panics.resume();
    (outcome, ended)
}

/// Invalidates key 1 as a cache does.
fn invalidate(segment: &Numbers) {
    loop {
        let leaving = match segment.find(HASH, |key| *key == 1) {
            Some(found) => segment.remove(&Bank::new(8, Some(8), 1), found.slot(), RemovalCause::Explicit),
            None => segment.invalidate_absent(&Bank::new(8, Some(8), 1), HASH, |key| *key == 1),
        };
        if let Some(leaving) = leaving {
            return leaving.settle();
        }
    }
}

/// Loads key 1 as a cache does, or sleeps until the load lands that is under way.
fn load(segment: &Numbers, value: u32, loads: &AtomicUsize) -> Option<u32> {
    match segment.board(HASH, 1, Reason::Missing) {
        Boarding::There => None,
        Boarding::Joins(flight, _) => match flight.wait.block(None) {
            Some(Landing::Loaded(value)) => Some(*value),
            _ => unreachable!("its leader lands a value"),
        },
        Boarding::Leads(number, _) => {
            loads.fetch_add(1, Relaxed);
            let (_, ended) = store(segment, value, Seen::Loading(LoadId::Of(number)));
            let ended = ended.expect("the load ends with its value");
            if let Some(flight) = &ended.flight {
                flight.wait.land(Landing::Loaded(value));
            }
            Some(value)
        }
    }
}

/// Returns the value of key 1. In a thread: the main one is not to have thread locals, see the models of `table`.
fn value(segment: Arc<Numbers>) -> Option<u32> {
    let read = move || segment.find(HASH, |key| *key == 1).map(|found| found.entry().1);
    loom::thread::spawn(read).join().unwrap()
}

/// Threads that miss a key at once load it once, and all get the value.
#[test]
fn a_key_is_loaded_once() {
    check("single flight", 3, || {
        let segment = segment();
        let loads = Arc::new(AtomicUsize::new(0));
        let threads = [0, 1].map(|_| {
            let (segment, loads) = (Arc::clone(&segment), Arc::clone(&loads));
            loom::thread::spawn(move || load(&segment, 7, &loads))
        });
        let values = threads.map(|thread| thread.join().unwrap());
        assert_eq!(loads.load(Relaxed), 1, "loads");
        assert!(values.iter().all(|value| value.is_none_or(|value| value == 7)));
    });
}

/// A load that began before a write does not take its place.
#[test]
fn a_load_does_not_undo_a_write() {
    check("load and write", 3, || {
        let segment = segment();
        let shared = Arc::clone(&segment);
        let loader = loom::thread::spawn(move || load(&shared, 1, &AtomicUsize::new(0)));
        assert!(store(&segment, 2, Seen::Whatever).0 == Outcome::Stored);
        loader.join().unwrap();
        assert_eq!(value(segment), Some(2), "a load's older value");
    });
}

/// A load that began before an invalidation leaves nothing behind. This one reads what the invalidation is for.
#[test]
fn a_load_does_not_outlive_an_invalidation() {
    check("load and invalidation", 3, || {
        let (segment, source) = (segment(), Arc::new(AtomicU32::new(1)));
        let (shared, read) = (Arc::clone(&segment), Arc::clone(&source));
        let loader = loom::thread::spawn(move || {
            let Boarding::Leads(number, _) = shared.board(HASH, 1, Reason::Missing) else {
                unreachable!("nobody else loads it")
            };
            let seen = Seen::Loading(LoadId::Of(number));
            _ = store(&shared, read.load(Relaxed), seen);
        });
        let invalidated = Arc::clone(&segment);
        let invalidation = loom::thread::spawn(move || {
            source.store(2, Relaxed);
            invalidate(&invalidated);
        });
        loader.join().unwrap();
        invalidation.join().unwrap();
        assert_ne!(value(segment), Some(1), "an older value");
    });
}
