//! What the benches share: keys to ask for, caches to ask, and how to time them.

// Every bench is a crate of its own and uses a part of this.
#![allow(dead_code)]

pub(crate) mod bars;
pub(crate) mod epoch_map;
pub(crate) mod heap;
pub(crate) mod holders;
pub(crate) mod keys;
pub(crate) mod loaders;
pub(crate) mod peaks;
pub(crate) mod plan;
pub(crate) mod plot;
pub(crate) mod rounds;
pub(crate) mod subjects;
pub(crate) mod turns;

/// The names of larder's policies.
pub(crate) const POLICIES: [&str; 7] = ["s3_lirs", "tiny_lfu", "s3_fifo", "sieve", "lru", "lfu", "fifo"];

/// A number with its thousands set apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let parts = digits.as_bytes().rchunks(3).rev().map(|part| std::str::from_utf8(part).expect("digits"));
    parts.collect::<Vec<_>>().join(",")
}

pub(crate) fn threads_of(number: usize) -> String {
    format!("{number} thread{}", if number == 1 { "" } else { "s" })
}

/// Numbers one after another, as in "1, 2 and 8".
pub(crate) fn listed(numbers: &[usize]) -> String {
    let words: Vec<_> = numbers.iter().map(usize::to_string).collect();
    match words.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => words.concat(),
    }
}
