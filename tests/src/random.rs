//! Pseudo-random numbers that can be replayed from a seed.

/// Small, seedable, and the same everywhere.
pub struct Random(u64);

impl Random {
    /// The seed in `WILCO_TEST_SEED`, if there is one.
    pub fn given() -> Option<u64> {
        std::env::var("WILCO_TEST_SEED").ok().and_then(|seed| seed.parse().ok())
    }

    /// From `WILCO_TEST_SEED`, or from the clock.
    pub fn seeded() -> Random {
        let seed = Random::given().unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |since| since.as_nanos() as u64)
        });
        Random::new(seed)
    }

    /// From a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The seed, or the current state of the sequence.
    pub fn state(&self) -> u64 {
        self.0
    }

    /// The next number (SplitMix64).
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// True in this percentage of cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
