//! The clock.

pub use std::time::Duration;
#[cfg(not(feature = "simulation"))]
pub use std::time::Instant;

#[cfg(feature = "simulation")]
pub use super::schedule::clock::Instant;

/// The monotonic time now.
pub fn now() -> Instant {
    Instant::now()
}

/// The date, in seconds since 1970; 0 if the system's is before that.
pub fn unix_seconds() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(time) = super::schedule::time() {
        return time.as_secs();
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| d.as_secs())
}
