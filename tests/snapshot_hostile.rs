//! Bytes that claim more than they are: decoding them allocates in proportion to what is there.
#![allow(missing_docs)]
#![cfg(feature = "serde")]
// A global allocator cannot be had without.
#![allow(unsafe_code)]

use larder::{Bincode, Codec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};

thread_local! {
    /// Bytes that this thread has asked for, those given back included.
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: usize) {
    ASKED.with(|asked| asked.set(asked.get() + bytes));
}

// SAFETY: All is the system's; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: The caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: The caller's promise is the same.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: The caller's promise is the same.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A tree in which each level could make room for as many branches as it claims.
#[derive(Serialize, Deserialize)]
struct Tree(Vec<Tree>);

/// A length as bincode writes it.
fn length(len: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    Bincode.encode(&len, &mut bytes).unwrap();
    bytes
}

/// Bytes allocated while these are refused.
fn asked_for<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> usize {
    let before = ASKED.get();
    let result: Result<T, _> = Bincode.decode(bytes);
    assert!(result.is_err());
    drop(result);
    ASKED.get() - before
}

/// No more than a little for the error, and some words for each byte.
fn is_modest<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let asked = asked_for::<T>(bytes);
    let most = 1_000 + 200 * bytes.len();
    assert!(asked <= most, "{asked} bytes for {} of {}", bytes.len(), std::any::type_name::<T>());
}

#[test]
fn claimed_lengths_are_not_allocated() {
    for claimed in [u64::MAX, i64::MAX as u64, 1 << 40, 1 << 32, 1 << 20, 1000] {
        for there in [0, 1, 30] {
            // Each of these bytes is a number, or the length of something empty but for the last.
            let mut bytes = length(claimed);
            bytes.resize(bytes.len() + there, 0);
            is_modest::<String>(&bytes);
            is_modest::<Box<str>>(&bytes);
            is_modest::<Vec<u8>>(&bytes);
            is_modest::<Vec<u64>>(&bytes);
            is_modest::<Vec<String>>(&bytes);
            is_modest::<Vec<Option<Box<str>>>>(&bytes);
            is_modest::<VecDeque<u32>>(&bytes);
            is_modest::<BinaryHeap<u32>>(&bytes);
            is_modest::<HashSet<u64>>(&bytes);
            is_modest::<HashMap<u64, String>>(&bytes);
            is_modest::<BTreeMap<u64, Vec<u8>>>(&bytes);
            is_modest::<Vec<Vec<Vec<Vec<u64>>>>>(
                &[bytes.clone(), bytes.clone(), bytes.clone(), bytes].concat(),
            );
        }
    }
}

#[test]
fn a_length_within_each_length_is_not_allocated() {
    // At each level there is one more, with a claim of its own.
    let bytes = length(u64::MAX).repeat(100);
    let asked = asked_for::<Tree>(&bytes);
    assert!(asked <= 128 * 24 * bytes.len() + 1_000, "{asked}");
}

#[test]
fn deep_bytes_do_not_overflow_the_stack() {
    for byte in [1, 2, 100] {
        asked_for::<Tree>(&vec![byte; 1_000_000]);
    }
}

#[test]
fn elements_without_bytes_come_to_an_end() {
    for claimed in [u64::MAX, 1 << 40, 1 << 17] {
        assert!(asked_for::<Vec<()>>(&length(claimed)) <= 1_000);
        assert!(asked_for::<HashMap<(), ()>>(&length(claimed)) <= 1_000);
        assert!(asked_for::<Vec<[(); 8]>>(&length(claimed)) <= 1_000);
    }
}
