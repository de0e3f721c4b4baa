//! The one door to threads, locks, channels, parking, clocks and randomness.
//!
//! Nothing else in the workspace may block a thread or ask for the time. That
//! gives two things: promise P4 (no thread waits while it holds a node latch)
//! is checked in every build, because each blocking primitive here calls
//! [`latch::assert_may_block`]; and a seeded scheduler can take the place of the
//! operating system's without a change above this module (feature `simulation`,
//! module `schedule`).
//!
//! Two kinds of lock:
//! - [`Mutex`], [`Condvar`] and the blocking calls of a channel may
//!   wait for long: taking one while a latch is held is our own bug and panics.
//! - [`ShortMutex`] guards a few hundred bounded instructions (a log append). It
//!   may be taken under a latch; while it is held the thread counts as holding a
//!   latch, so its body cannot wait either.
//!
//! Under `--cfg loom` what [`atomic`], [`channel`], [`latch`], the locks and [`thread`] are
//! made of is loom's (folder `model`), for the models of the engine's protocols.

#[cfg_attr(loom, path = "model/atomic.rs")]
pub mod atomic;
#[cfg_attr(loom, path = "model/channel.rs")]
pub mod channel;
mod event;
#[cfg_attr(loom, path = "model/latch.rs")]
pub mod latch;
#[cfg_attr(loom, path = "model/lock.rs")]
mod lock;
mod process;
pub mod rng;
#[cfg(feature = "simulation")]
pub mod schedule;
#[cfg_attr(loom, path = "model/thread.rs")]
pub mod thread;
pub mod time;

pub use event::Event;
pub use lock::{Condvar, Mutex, MutexGuard, ShortGuard, ShortMutex};
pub use process::Home;

/// Here another thread may run, in a simulation; else nothing. Each primitive of this
/// module is such a place; it is called besides only between two looks at memory that
/// others change.
#[inline]
pub fn point() {
    #[cfg(feature = "simulation")]
    schedule::point();
}

/// Whether what is called `name` fails here on purpose: never, but in a simulation whose
/// plan says so.
#[inline]
pub fn fails(name: &'static str) -> bool {
    #[cfg(feature = "simulation")]
    return schedule::fails(name);
    #[cfg(not(feature = "simulation"))]
    {
        let _ = name;
        false
    }
}

/// The calling thread is in part `name` of the engine until what is returned is
/// dropped: so that a simulation can tell where threads were interrupted, and at what
/// the power failed. Nothing without the feature `simulation`.
#[inline]
#[must_use]
pub fn within(name: &'static str) -> Within {
    #[cfg(feature = "simulation")]
    return schedule::within(name);
    #[cfg(not(feature = "simulation"))]
    {
        let _ = name;
        Within(())
    }
}

#[cfg(feature = "simulation")]
pub use schedule::Within;

/// What [`within`] returns.
#[cfg(not(feature = "simulation"))]
#[derive(Debug)]
pub struct Within(());

/// Nothing; so that dropping one early means the same in both builds.
#[cfg(not(feature = "simulation"))]
impl Drop for Within {
    fn drop(&mut self) {}
}

/// The part of the engine that the calling thread is in, as [`within`] says; empty if
/// there is none, and without the feature `simulation`.
#[inline]
pub fn site() -> &'static str {
    #[cfg(feature = "simulation")]
    return schedule::site();
    #[cfg(not(feature = "simulation"))]
    ""
}
