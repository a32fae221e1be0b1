//! Seeded random numbers: the same on every machine and in every version of every library.

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 when that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit.max(1)
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len() as u64) as usize)
    }

    /// As many different ones of them, in their order; all when there are no more.
    pub fn choose<T: Clone>(&mut self, from: &[T], count: usize) -> Vec<T> {
        let mut left = count.min(from.len()) as u64;
        let mut chosen = Vec::new();
        for (index, item) in from.iter().enumerate() {
            if self.below((from.len() - index) as u64) < left {
                chosen.push(item.clone());
                left -= 1;
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choosing_is_exact_and_seeded() {
        let all: Vec<u32> = (0..100).collect();
        let chosen = Dice::new(7).choose(&all, 30);
        assert_eq!(chosen.len(), 30);
        assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(chosen, Dice::new(7).choose(&all, 30));
        assert_ne!(chosen, Dice::new(8).choose(&all, 30));
        assert_eq!(Dice::new(7).choose(&all, 1000), all);
    }
}
