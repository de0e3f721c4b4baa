//! Randomness: seeded generators whose seed the caller knows and can print.

use rand::SeedableRng;

/// The generator used everywhere: the same seed gives the same sequence on every
/// machine.
pub type Rng = rand_chacha::ChaCha8Rng;

/// A generator from a seed.
pub fn seeded(seed: u64) -> Rng {
    Rng::seed_from_u64(seed)
}

/// A fresh seed from the operating system, for the caller to print. In a simulation it
/// comes from that one's seed.
pub fn fresh_seed() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(seed) = super::schedule::random() {
        return seed;
    }
    rand::random()
}
