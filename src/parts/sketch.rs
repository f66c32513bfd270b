//! A frequency sketch: how often a hash was counted lately, in four bits, for very many hashes in little memory.
//!
//! A count-min sketch. G. Cormode, S. Muthukrishnan: "An improved data stream summary: the count-min sketch and its
//! applications", 2005; aged as in TinyLFU: G. Einziger, R. Friedman, B. Manes: "TinyLFU: a highly efficient cache
//! admission policy", ACM Transactions on Storage, 2017.
//!
//! A hash has four counters and its estimate is the least of them: others that share a counter can only make it larger.
//! All four stand in one block of 32 bytes, half a cache line, so that counting and asking touch memory once.
//!
//! ```text
//! block:  4 words (rows) x 16 counters of 4 bits
//! hash:   | block (bits 16..48, the highest first) | a counter's place in each row (4 x 4 bits) |
//! ```
//!
//! # Ageing
//!
//! All counters are halved once for every [`PERIOD`] counts a slot. Halving a large sketch at once would be a
//! noticeable pause, so it is done block by block, at an even pace along with the counting; the block where that has got
//! to is the *sweep*. Two hashes' estimates may thus differ by one halving.
//!
//! # Growing
//!
//! The number of blocks doubles when it is outgrown. A block is picked by the highest bits of the hash, so block `b`
//! becomes `2b` and `2b + 1`, both with its counters: no estimate gets smaller.

/// How many counts a slot there are between two halvings of a counter.
const PERIOD: u64 = 10;
/// The slots for which one block is meant: between this number and half of it stand beside a block.
const SLOTS_PER_BLOCK: usize = 8;
/// A counter's largest value.
pub(crate) const MAX: u8 = 15;

const ROWS: usize = 4;
const LOW_THREE_BITS: u64 = 0x7777_7777_7777_7777;

#[derive(Clone, Copy)]
#[repr(align(32))]
struct Block([u64; ROWS]);

/// The sketch. Without [`reserve`](Self::reserve) it counts nothing.
pub(crate) struct Sketch {
    /// None, or a power of two of them.
    blocks: Vec<Block>,
    /// The block that is halved next.
    sweep: usize,
    /// Counts until then.
    until_sweep: u64,
    /// Counts between two steps of the sweep.
    stride: u64,
}

impl Sketch {
    pub(crate) fn new() -> Self {
        Self { blocks: Vec::new(), sweep: 0, until_sweep: 0, stride: 0 }
    }

    /// Makes room for the hashes of so many slots, and for a few times more that come and go.
    pub(crate) fn reserve(&mut self, slots: usize) {
        let blocks = slots.div_ceil(SLOTS_PER_BLOCK).next_power_of_two();
        if self.blocks.is_empty() {
            self.blocks = vec![Block([0; ROWS]); blocks];
        }
        while self.blocks.len() < blocks {
            self.blocks = self.blocks.iter().flat_map(|&block| [block, block]).collect();
            self.sweep *= 2;
        }
        self.stride = (slots as u64 * PERIOD / self.blocks.len() as u64).max(1);
        self.until_sweep = self.until_sweep.min(self.stride);
    }

    /// Counts `hash` so many times, up to [`MAX`] in all.
    #[inline]
    pub(crate) fn add(&mut self, hash: u64, times: u8) {
        let Some(block) = self.block_of(hash) else { return };
        for (row, word) in self.blocks[block].0.iter_mut().enumerate() {
            let shift = shift_of(hash, row);
            let room = u64::from(MAX) - (*word >> shift & 15);
            *word += u64::from(times).min(room) << shift;
        }
        self.age(u64::from(times));
    }

    /// How often `hash` was counted lately; too large when others share all its counters.
    #[inline]
    pub(crate) fn estimate(&self, hash: u64) -> u8 {
        let Some(block) = self.block_of(hash) else { return 0 };
        let rows = self.blocks[block].0.iter().enumerate();
        rows.fold(MAX, |least, (row, word)| least.min((*word >> shift_of(hash, row) & 15) as u8))
    }

    /// Lets the sweep keep up with the counting.
    #[inline]
    fn age(&mut self, counts: u64) {
        if self.until_sweep > counts {
            self.until_sweep -= counts;
        } else {
            self.sweep();
        }
    }

    #[cold]
    fn sweep(&mut self) {
        self.until_sweep = self.stride;
        for word in &mut self.blocks[self.sweep].0 {
            *word = *word >> 1 & LOW_THREE_BITS;
        }
        self.sweep = (self.sweep + 1) & (self.blocks.len() - 1);
    }

    #[inline]
    fn block_of(&self, hash: u64) -> Option<usize> {
        let block = ((hash >> 16) & 0xffff_ffff) * self.blocks.len() as u64 >> 32;
        (!self.blocks.is_empty()).then_some(block as usize)
    }
}

/// Where in its row a hash's counter begins.
#[inline]
fn shift_of(hash: u64, row: usize) -> u32 {
    (hash >> (4 * row) & 15) as u32 * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: u64) -> u64 {
        key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
    }

    #[test]
    fn counts_nothing_without_room() {
        let mut sketch = Sketch::new();
        sketch.add(1, 3);
        assert_eq!(sketch.estimate(1), 0);
    }

    #[test]
    fn never_counts_less_than_half_between_two_halvings() {
        let mut sketch = Sketch::new();
        sketch.reserve(1_000);
        let all = 500;
        for key in 0..all {
            sketch.add(hash(key), (key % 20) as u8);
        }
        let mut exact = 0;
        for key in 0..all {
            let (estimate, count) = (sketch.estimate(hash(key)), (key % 20).min(u64::from(MAX)) as u8);
            assert!(estimate >= count / 2);
            exact += usize::from(estimate == count || estimate == count / 2);
        }
        assert!(exact > 400, "only {exact} of {all} estimates are near");
    }

    #[test]
    fn growing_makes_no_estimate_smaller() {
        let mut sketch = Sketch::new();
        sketch.reserve(16);
        for key in 0..16 {
            sketch.add(hash(key), key as u8);
        }
        let before: Vec<_> = (0..16).map(|key| sketch.estimate(hash(key))).collect();
        sketch.reserve(300);
        let after: Vec<_> = (0..16).map(|key| sketch.estimate(hash(key))).collect();
        assert_eq!(before, after);
    }

    #[test]
    fn forgets_at_the_pace_of_counting_and_never_overflows() {
        let mut sketch = Sketch::new();
        sketch.reserve(64);
        sketch.add(hash(1), MAX);
        for other in 0..64 * PERIOD * 5 {
            sketch.add(hash(other + 2), 1);
        }
        assert!(sketch.estimate(hash(1)) < MAX);
        for _ in 0..100_000 {
            sketch.add(hash(1), MAX);
        }
        assert!(sketch.estimate(hash(1)) >= MAX / 2);
    }
}
