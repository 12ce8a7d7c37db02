//! Random numbers from a seed: the same seed gives the same run on every machine.

/// SplitMix64: tiny, and good enough to choose faults with.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts a sequence.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to `bound` - 1; `bound` is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// Returns true once in `times`, on average.
    pub fn is_one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// Returns the seed that the environment variable asks for, or `fallback`, and prints which it is.
#[must_use]
pub fn seed_from_environment(variable: &str, fallback: u64) -> u64 {
    let asked = std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = asked.unwrap_or(fallback);
    println!("{variable}={seed}");
    seed
}
