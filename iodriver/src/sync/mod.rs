//! The one door to threads, locks, channels, parking, clocks and randomness.
//!
//! Nothing else in the workspace may block a thread or ask for the time. That
//! gives two things: promise P4 (no thread waits while it holds a node latch)
//! is checked in every build, because each blocking primitive here calls
//! [`latch::assert_may_block`]; and a seeded scheduler can later take the place
//! of the operating system's without a change above this module.
//!
//! Two kinds of lock:
//! - [`Mutex`], [`RwLock`], [`Condvar`] and the blocking calls of a channel may
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
#[cfg_attr(loom, path = "model/thread.rs")]
pub mod thread;
pub mod time;

pub use event::Event;
pub use lock::{Condvar, Mutex, MutexGuard, ShortGuard, ShortMutex};
#[cfg(not(loom))]
pub use lock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use process::Home;
