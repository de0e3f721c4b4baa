//! The clock.

pub use std::time::{Duration, Instant};

/// The monotonic time now.
pub fn now() -> Instant {
    Instant::now()
}
