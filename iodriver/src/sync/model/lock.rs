//! loom's locks under the calls of this module's.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::latch;

const UNPOISONED: &str = "no poison in a model";

/// A mutex that may be held for long. Must not be taken under a latch.
#[derive(Debug, Default)]
pub struct Mutex<T: ?Sized>(loom::sync::Mutex<T>);

/// Guard of a [`Mutex`].
#[derive(Debug)]
pub struct MutexGuard<'a, T: ?Sized>(Option<loom::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    /// A new, unlocked mutex.
    #[track_caller]
    pub fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.0.into_inner().expect(UNPOISONED)
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Locks, waiting as long as it takes. Panics under a latch.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        latch::assert_may_block("Mutex::lock");
        MutexGuard(Some(self.0.lock().expect(UNPOISONED)))
    }

    /// Locks if nobody holds it. Allowed under a latch.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok().map(|g| MutexGuard(Some(g)))
    }

    /// Locks, for a few instructions that wait for nothing: a channel's own lock.
    #[track_caller]
    pub(super) fn lock_briefly(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().expect(UNPOISONED)))
    }

    /// The value, without locking.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().expect(UNPOISONED)
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_ref().expect("locked")
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("locked")
    }
}

/// A condition variable for [`Mutex`].
#[derive(Debug, Default)]
pub struct Condvar(loom::sync::Condvar);

impl Condvar {
    /// A new condition variable.
    #[track_caller]
    pub fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    /// Waits to be notified. Panics under a latch.
    #[track_caller]
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        latch::assert_may_block("Condvar::wait");
        let held = guard.0.take().expect("locked");
        guard.0 = Some(self.0.wait(held).expect(UNPOISONED));
    }

    /// Waits to be notified; in a model no time runs out.
    #[track_caller]
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _timeout: Duration) -> bool {
        self.wait(guard);
        false
    }

    /// Wakes one waiter.
    #[track_caller]
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all waiters.
    #[track_caller]
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A mutex for a bounded, short section that never waits.
#[derive(Debug, Default)]
pub struct ShortMutex<T: ?Sized>(loom::sync::Mutex<T>);

/// Guard of a [`ShortMutex`].
#[derive(Debug)]
pub struct ShortGuard<'a, T: ?Sized>(loom::sync::MutexGuard<'a, T>);

impl<T> ShortMutex<T> {
    /// A new, unlocked mutex.
    #[track_caller]
    pub fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }
}

impl<T: ?Sized> ShortMutex<T> {
    /// Locks; the wait is bounded by the sections of the others.
    #[track_caller]
    pub fn lock(&self) -> ShortGuard<'_, T> {
        let guard = self.0.lock().expect(UNPOISONED);
        latch::acquired();
        ShortGuard(guard)
    }

    /// Locks if nobody holds it.
    pub fn try_lock(&self) -> Option<ShortGuard<'_, T>> {
        let guard = self.0.try_lock().ok()?;
        latch::acquired();
        Some(ShortGuard(guard))
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
