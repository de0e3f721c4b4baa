//! Locks that check the latch depth before they wait.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::latch;
#[cfg(feature = "simulation")]
use super::schedule::{is_simulated, seam};

/// A mutex that may be held for long. Must not be taken under a latch.
#[derive(Debug, Default)]
pub struct Mutex<T: ?Sized>(parking_lot::Mutex<T>);

/// Guard of a [`Mutex`].
#[derive(Debug)]
pub struct MutexGuard<'a, T: ?Sized> {
    inner: parking_lot::MutexGuard<'a, T>,
    /// Behind `inner`: what it wakes finds the lock free.
    #[cfg(feature = "simulation")]
    _unlocked: seam::Unlocked,
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    fn new(inner: parking_lot::MutexGuard<'a, T>) -> Self {
        Self {
            #[cfg(feature = "simulation")]
            _unlocked: seam::Unlocked::of(parking_lot::MutexGuard::mutex(&inner)),
            inner,
        }
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> Mutex<T> {
    /// A new, unlocked mutex.
    pub const fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Locks, waiting as long as it takes. Panics under a latch.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        latch::assert_may_block("Mutex::lock");
        #[cfg(feature = "simulation")]
        if is_simulated() {
            return MutexGuard::new(seam::lock(&self.0, "a mutex"));
        }
        MutexGuard::new(self.0.lock())
    }

    /// Locks if nobody holds it. Allowed under a latch.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        super::point();
        self.0.try_lock().map(MutexGuard::new)
    }

    /// The value, without locking: `&mut self` is proof that nobody else can.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

/// A condition variable for [`Mutex`].
#[derive(Debug, Default)]
pub struct Condvar(parking_lot::Condvar);

impl Condvar {
    /// A new condition variable.
    pub const fn new() -> Self {
        Self(parking_lot::Condvar::new())
    }

    /// Waits to be notified. Panics under a latch.
    #[track_caller]
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        latch::assert_may_block("Condvar::wait");
        #[cfg(feature = "simulation")]
        if is_simulated() {
            seam::condvar(&self.0, &mut guard.inner, None);
            return;
        }
        self.0.wait(&mut guard.inner);
    }

    /// Waits to be notified, at most `timeout`; true if the time ran out.
    #[track_caller]
    pub fn wait_for<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) -> bool {
        latch::assert_may_block("Condvar::wait_for");
        #[cfg(feature = "simulation")]
        if is_simulated() {
            return seam::condvar(&self.0, &mut guard.inner, Some(timeout));
        }
        self.0.wait_for(&mut guard.inner, timeout).timed_out()
    }

    /// Wakes one waiter.
    pub fn notify_one(&self) {
        #[cfg(feature = "simulation")]
        super::schedule::wake_one(seam::key(&self.0));
        self.0.notify_one();
    }

    /// Wakes all waiters.
    pub fn notify_all(&self) {
        #[cfg(feature = "simulation")]
        super::schedule::wake_all(seam::key(&self.0));
        self.0.notify_all();
    }
}

/// A mutex for a bounded, short section that never waits. May be taken under a
/// latch; while held it counts as a latch.
#[derive(Debug, Default)]
pub struct ShortMutex<T: ?Sized>(parking_lot::Mutex<T>);

/// Guard of a [`ShortMutex`].
#[derive(Debug)]
pub struct ShortGuard<'a, T: ?Sized>(MutexGuard<'a, T>);

impl<T> ShortMutex<T> {
    /// A new, unlocked mutex.
    pub const fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }
}

impl<T: ?Sized> ShortMutex<T> {
    /// Locks; the wait is bounded by the sections of the others.
    #[track_caller]
    pub fn lock(&self) -> ShortGuard<'_, T> {
        #[cfg(feature = "simulation")]
        let guard = match is_simulated() {
            true => seam::lock(&self.0, "a short mutex"),
            false => self.0.lock(),
        };
        #[cfg(not(feature = "simulation"))]
        let guard = self.0.lock();
        latch::acquired();
        ShortGuard(MutexGuard::new(guard))
    }

    /// Locks if nobody holds it.
    pub fn try_lock(&self) -> Option<ShortGuard<'_, T>> {
        let guard = self.0.try_lock()?;
        latch::acquired();
        Some(ShortGuard(MutexGuard::new(guard)))
    }
}

impl<T: ?Sized> Deref for ShortGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for ShortGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: ?Sized> Drop for ShortGuard<'_, T> {
    fn drop(&mut self) {
        latch::released();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_section_cannot_wait() {
        let caught = std::thread::spawn(|| {
            let short = ShortMutex::new(1);
            let long = Mutex::new(2);
            let _g = short.lock();
            let _ = *long.lock();
        })
        .join();
        assert!(caught.is_err());
    }

    #[test]
    fn short_guard_restores_the_depth() {
        let short = ShortMutex::new(1);
        {
            let mut g = short.lock();
            *g += 1;
            assert_eq!(latch::depth(), 1);
            assert!(short.try_lock().is_none());
        }
        assert_eq!(latch::depth(), 0);
        assert_eq!(*short.lock(), 2);
    }
}
