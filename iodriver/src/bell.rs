//! What a queue without a ring waits on: rung by every completion, and by
//! [`Wake::wake`], which alone makes a wait return early.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::contract::Wake;
use crate::sync::Event;

/// A bell with a memory for wakes.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    woken: AtomicBool,
    event: Event,
}

impl Bell {
    /// Makes the owner look again.
    pub(crate) fn ring(&self) {
        self.event.set();
    }

    /// Waits until rung since the last time.
    pub(crate) fn listen(&self, timeout: Option<Duration>) {
        self.event.wait(timeout);
    }

    /// Whether somebody used the waker; uses that up.
    pub(crate) fn take_wake(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Bell {
    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.event.set();
    }
}
