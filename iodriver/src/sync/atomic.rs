//! Atomics of the protocols that models check.
//!
//! In an ordinary build these are the standard library's. Under `--cfg loom` they are
//! loom's, and each memory order, fence or step that carries a name here can be left out
//! by that name: a model that still passes then does not hold it.

pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// The memory order `order`, which a model can weaken by `name`.
#[inline(always)]
pub const fn order(name: &'static str, order: Ordering) -> Ordering {
    let _ = name;
    order
}

/// A fence, which a model can leave out by `name`.
#[inline(always)]
pub fn fence(name: &'static str, order: Ordering) {
    let _ = name;
    std::sync::atomic::fence(order);
}

/// True: whether to do a step that is not an atomic access, such as taking a lock; a
/// model can leave it out by `name`.
#[inline(always)]
pub const fn step(name: &'static str) -> bool {
    let _ = name;
    true
}
