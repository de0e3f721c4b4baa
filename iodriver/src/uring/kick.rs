//! An eventfd that gets a queue's owner out of the ring.
//!
//! The flag says what happened; the eventfd only makes the owner look. A stray
//! event is therefore harmless, and a wake is never lost: the flag is set before
//! the eventfd is written, and read after the ring was entered.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::contract::Wake;

/// The eventfd and the flag of one queue.
#[derive(Debug)]
pub(crate) struct Kick {
    eventfd: EventFd,
    woken: AtomicBool,
}

impl Kick {
    pub(crate) fn new() -> nix::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self {
            eventfd: EventFd::from_flags(flags)?,
            woken: AtomicBool::new(false),
        })
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// Makes the owner look, without a wake.
    pub(crate) fn kick(&self) {
        // EAGAIN means that the counter is at its end, so the event is there.
        let _ = self.eventfd.write(1);
    }

    /// Forgets events up to now.
    pub(crate) fn drain(&self) {
        let _ = self.eventfd.read();
    }

    /// Whether somebody used the waker; uses that up.
    pub(crate) fn take_wake(&self) -> bool {
        self.woken.load(Ordering::Relaxed) && self.woken.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Kick {
    fn wake(&self) {
        // Whoever set the flag first writes; the others' wakes are the same one.
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.kick();
        }
    }
}
