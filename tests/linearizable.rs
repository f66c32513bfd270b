//! Operations on one key are linearizable: short random programs, run by a few threads, and for each a search for an
//! order of its operations that explains all results. Guarantees 1, 2, 7 and 9 to 11 of the crate.
//!
//! Every value is written once, so it tells by which write or load it came. Operations have stamps before and after; the
//! begin and the end of a loader have, too. A load is two steps: it begins before its loader does, and lands after that.
//! An invalidation makes loads void at the very moment at which it looks at the key.
//!
//! A failure says how many histories are not linearizable, by kind, with the shortest of each kind; and the longest order
//! that was found for that one. `LARDER_HISTORIES` sets how many programs each test runs, `LARDER_CREWS` how many of them
//! at the same time, `LARDER_EXAMPLES` how many histories of a kind are told, and `LARDER_HISTORY=<seed>` runs a single
//! program so often instead.
//!
//! ```text
//! LARDER_HISTORIES=1000000 cargo test --release --test linearizable entries_end
//! ```
#![allow(missing_docs, unreachable_pub)]

#[path = "linearizable/actor.rs"]
mod actor;
#[path = "linearizable/checker.rs"]
mod checker;
mod common;
#[path = "linearizable/crew.rs"]
mod crew;
#[path = "linearizable/hand_written.rs"]
mod hand_written;
#[path = "linearizable/history.rs"]
mod history;
#[path = "linearizable/loaders.rs"]
mod loaders;
#[path = "linearizable/many.rs"]
mod many;
#[path = "linearizable/model.rs"]
mod model;
#[path = "linearizable/program.rs"]
mod program;
#[path = "linearizable/setup.rs"]
mod setup;
#[path = "linearizable/signals.rs"]
mod signals;
#[path = "linearizable/track.rs"]
mod track;
#[path = "linearizable/values.rs"]
mod values;

use setup::Family;

#[test]
fn no_entry_leaves_by_itself() {
    crew::check(Family::Roomy, false);
}

#[test]
fn the_index_grows() {
    crew::check(Family::Growing, false);
}

#[test]
fn all_keys_have_one_hash() {
    crew::check(Family::Crowded, false);
}

#[test]
fn entries_are_evicted() {
    crew::check(Family::Tight, false);
}

#[test]
fn entries_end() {
    crew::check(Family::Ending, false);
}

#[test]
fn entries_become_stale() {
    crew::check(Family::Stale, false);
}

#[test]
fn threads_are_interrupted() {
    crew::check(Family::Roomy, true);
}

#[test]
fn threads_are_interrupted_while_the_index_grows() {
    crew::check(Family::Growing, true);
}

#[test]
fn threads_are_interrupted_while_all_keys_have_one_hash() {
    crew::check(Family::Crowded, true);
}
