//! Pseudo-random numbers, the same in each run: made-up data and traffic need no others.

/// SplitMix64, by Steele, Lea and Flood.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let number = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ number >> 31
    }

    /// From 0 to 1, without 1.
    pub fn part(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn below(&mut self, end: u32) -> u32 {
        (self.part() * f64::from(end)) as u32
    }

    pub fn is(&mut self, probability: f64) -> bool {
        self.part() < probability
    }
}

/// Ranks of which the first are the most likely: the probability of rank `r` is in proportion to `1 / r^exponent`.
pub struct Zipf {
    /// The probability of this rank or one before.
    up_to: Vec<f64>,
}

impl Zipf {
    pub fn new(ranks: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut up_to: Vec<f64> = (1..=ranks)
            .map(|rank| {
                sum += f64::from(rank).powf(-exponent);
                sum
            })
            .collect();
        up_to.iter_mut().for_each(|part| *part /= sum);
        Self { up_to }
    }

    /// From 0 on.
    pub fn rank(&self, random: &mut Random) -> u32 {
        let part = random.part();
        self.up_to.partition_point(|&up_to| up_to <= part) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_ranks_are_the_most_likely() {
        let (zipf, mut random) = (Zipf::new(100, 1.0), Random::new(1));
        let mut counts = [0_u32; 100];
        (0..100_000).for_each(|_| counts[zipf.rank(&mut random) as usize] += 1);
        let ratio = f64::from(counts[0]) / f64::from(counts[9]);
        assert!((8.0..12.5).contains(&ratio), "{ratio}");
        assert!(counts[99] > 0);
    }
}
