//! Sequences of keys, drawn before the clock starts.

/// How often the keys are asked for.
#[derive(Clone, Copy)]
pub(crate) enum Popularity {
    /// The key of rank `r` with a weight of `1 / r^0.99`, as YCSB does it.
    Zipf,
    Uniform,
}

impl Popularity {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Zipf => "Zipf 0.99",
            Self::Uniform => "uniform",
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// At least 0, below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn shuffle(&mut self, items: &mut [u32]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u32 + 1) as usize);
        }
    }
}

/// Draws keys below some number.
pub(crate) struct Generator {
    keys: u32,
    /// With Zipf, the share of all draws that go to each rank or a more popular one, and the key of that rank. Keys
    /// stand in no order of popularity: filled in the order of the keys, no cache holds the popular ones together.
    ranks: Option<(Vec<f64>, Vec<u32>)>,
}

impl Generator {
    pub(crate) fn new(popularity: Popularity, keys: u32) -> Self {
        let ranks = match popularity {
            Popularity::Uniform => None,
            Popularity::Zipf => {
                let mut sums: Vec<f64> = (1..=keys)
                    .scan(0.0, |sum, rank| {
                        *sum += f64::from(rank).powf(-0.99);
                        Some(*sum)
                    })
                    .collect();
                let total = sums.last().copied().unwrap_or(1.0);
                sums.iter_mut().for_each(|sum| *sum /= total);
                let mut order: Vec<u32> = (0..keys).collect();
                Random::new(0).shuffle(&mut order);
                Some((sums, order))
            }
        };
        Self { keys, ranks }
    }

    /// `len` draws. Another seed gives others from the same distribution, with the same keys popular.
    pub(crate) fn draw(&self, len: usize, seed: u64) -> Vec<u32> {
        let mut random = Random::new(seed);
        let mut draw = || match &self.ranks {
            None => random.below(self.keys),
            Some((sums, order)) => {
                let at = random.unit();
                order[sums.partition_point(|&sum| sum <= at).min(order.len() - 1)]
            }
        };
        (0..len).map(|_| draw()).collect()
    }
}

/// `len` draws from `position` on, around and around.
pub(crate) fn window(draws: &[u32], position: usize, len: usize) -> &[u32] {
    let start = position % (draws.len() - len);
    &draws[start..start + len]
}

/// Keys that no other thread has.
pub(crate) fn range_of(thread: usize, position: usize, operations: usize) -> std::ops::Range<u64> {
    let start = (thread as u64) << 40 | position as u64;
    start..start + operations as u64
}
