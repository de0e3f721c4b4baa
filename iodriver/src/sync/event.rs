//! A flag to wait for, which can be set without waiting.

use std::time::Duration;

use super::latch;

/// A flag that one thread waits for and any thread sets. Setting it while nobody
/// waits is kept; setting it several times is the same as once.
///
/// The lock inside is held for a few instructions only and never while waiting,
/// so [`Event::set`] may be called under a latch.
#[derive(Debug, Default)]
pub struct Event {
    flag: parking_lot::Mutex<bool>,
    changed: parking_lot::Condvar,
}

impl Event {
    /// A new event that is not set.
    pub const fn new() -> Self {
        Self {
            flag: parking_lot::Mutex::new(false),
            changed: parking_lot::Condvar::new(),
        }
    }

    /// Sets the flag and wakes the waiter. Allowed under a latch.
    pub fn set(&self) {
        *self.flag.lock() = true;
        #[cfg(feature = "simulation")]
        super::schedule::seam::set(super::schedule::seam::key(self));
        self.changed.notify_one();
    }

    /// Waits until the flag is set, at most `timeout` (`None`: no limit), and
    /// takes it back; returns whether it was set. Panics under a latch.
    #[track_caller]
    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        latch::assert_may_block("Event::wait");
        #[cfg(feature = "simulation")]
        if super::schedule::is_simulated() {
            let look = || std::mem::take(&mut *self.flag.lock());
            return super::schedule::seam::wait(self, look, timeout);
        }
        let mut flag = self.flag.lock();
        match timeout {
            None => self.changed.wait_while(&mut flag, |set| !*set),
            Some(timeout) => {
                // The wait may wake for nothing; its own loop keeps the time.
                self.changed.wait_while_for(&mut flag, |set| !*set, timeout);
            }
        }
        std::mem::take(&mut flag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_kept_and_taken_once() {
        let event = Event::new();
        assert!(!event.wait(Some(Duration::from_millis(1))));
        event.set();
        event.set();
        assert!(event.wait(None));
        assert!(!event.wait(Some(Duration::from_millis(1))));
    }
}
