//! Random numbers, of no cryptographic worth.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// A number above 0, up to 1.
pub(crate) fn random() -> f64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0_u8));
    }
    // SplitMix64, by G. Steele, D. Lea and C. Flood, "Fast splittable pseudorandom number generators" (2014).
    let state = STATE.try_with(|state| {
        state.set(state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        state.get()
    });
    let mut mixed = state.unwrap_or(0);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    ((mixed >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_spread_evenly() {
        let n = if cfg!(miri) { 1_000 } else { 100_000 };
        let mut buckets = [0; 10];
        for _ in 0..n {
            let number = random();
            assert!(number > 0.0 && number <= 1.0);
            buckets[((number * 10.0) as usize).min(9)] += 1;
        }
        // Within six times the standard deviation.
        let most = 6.0 * (n as f64 * 0.09).sqrt();
        assert!(
            buckets.iter().all(|&count| (f64::from(count) - n as f64 / 10.0).abs() < most),
            "{buckets:?}"
        );
    }
}
