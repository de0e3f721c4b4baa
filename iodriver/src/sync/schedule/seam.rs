//! The primitives of [`sync`](crate::sync) as they are in a simulation. Each tries the
//! real one, which never waits because only one thread runs, and blocks the simulated
//! thread if that fails.

use std::panic::Location;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel as real;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::state::Woken;
use super::{Start, Task, block, give_way, point, time, wake_all};

/// What something is waited for under: where it is.
pub(in crate::sync) fn key<T: ?Sized>(of: &T) -> usize {
    std::ptr::from_ref(of).cast::<()>() as usize
}

/// Wakes who waits for a lock, when the guard is dropped.
#[derive(Debug)]
pub(in crate::sync) struct Unlocked(usize);

impl Unlocked {
    pub(in crate::sync) fn of<T: ?Sized>(lock: &Mutex<T>) -> Self {
        Self(key(lock))
    }
}

impl Drop for Unlocked {
    fn drop(&mut self) {
        wake_all(self.0);
        point();
    }
}

#[track_caller]
pub(in crate::sync) fn lock<'a, T: ?Sized>(
    lock: &'a Mutex<T>,
    what: &'static str,
) -> MutexGuard<'a, T> {
    let at = Location::caller();
    point();
    loop {
        if let Some(guard) = lock.try_lock() {
            return guard;
        }
        block(key(lock), what, at, None);
    }
}

/// Waits on a condition; whether the time is over.
#[track_caller]
pub(in crate::sync) fn condvar<T: ?Sized>(
    condition: &Condvar,
    guard: &mut MutexGuard<'_, T>,
    timeout: Option<Duration>,
) -> bool {
    let at = Location::caller();
    let lock = MutexGuard::mutex(guard);
    let mut timed_out = false;
    // Nobody else runs between the look at the lock and taking it.
    MutexGuard::unlocked(guard, || {
        wake_all(key(lock));
        timed_out = block(key(condition), "a condition", at, timeout) == Woken::ByTime;
        while lock.is_locked() {
            block(key(lock), "a condition's mutex", at, None);
        }
    });
    timed_out
}

/// Waits until `look` says so; whether it did before the time was over.
#[track_caller]
pub(in crate::sync) fn wait<T>(
    event: &T,
    mut look: impl FnMut() -> bool,
    timeout: Option<Duration>,
) -> bool {
    let at = Location::caller();
    let end = timeout.and_then(|t| time()?.checked_add(t));
    point();
    loop {
        if look() {
            return true;
        }
        let left = end.map(|end| end.saturating_sub(time().unwrap_or_default()));
        if left == Some(Duration::ZERO) {
            return false;
        }
        block(key(event), "an event", at, left);
    }
}

/// An event was set.
pub(in crate::sync) fn set(key: usize) {
    if wake_all(key) > 0 {
        point();
    }
}

#[track_caller]
pub(in crate::sync) fn park(key: usize, validate: impl FnOnce() -> bool) {
    let at = Location::caller();
    point();
    if validate() {
        block(key, "a latch", at, None);
    }
}

#[track_caller]
pub(in crate::sync) fn sleep(duration: Duration) {
    let at = Location::caller();
    let Some(now) = time() else { return };
    let end = now.saturating_add(duration);
    give_way();
    while let Some(left) = time().and_then(|now| end.checked_sub(now)) {
        if left.is_zero() {
            return;
        }
        block(NOBODY, "time to pass", at, Some(left));
    }
}

pub(in crate::sync) fn spawn<T: Send + 'static>(
    name: &str,
    builder: std::thread::Builder,
    body: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<(std::thread::JoinHandle<T>, Option<Task>)> {
    let Some(start) = Start::here(name) else {
        return builder.spawn(body).map(|handle| (handle, None));
    };
    let (task, never) = (start.handle(), start.again());
    let spawned = builder.spawn(move || {
        start.begin();
        body()
    });
    match spawned {
        Ok(handle) => {
            point();
            Ok((handle, Some(task)))
        }
        Err(e) => {
            never.never();
            Err(e)
        }
    }
}

/// Nothing is woken under this key.
const NOBODY: usize = usize::MAX;
/// Channels are waited for under keys that are no addresses.
const CHANNEL_KEYS: usize = 1 << 63;

/// One channel.
#[derive(Clone, Copy, Debug)]
pub(in crate::sync) struct ChannelId(usize);

impl ChannelId {
    pub(in crate::sync) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(CHANNEL_KEYS);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// One end of a channel. Dropping it wakes the other, which may be alone then.
#[derive(Clone, Debug)]
pub(in crate::sync) struct Side(ChannelId);

impl Drop for Side {
    fn drop(&mut self) {
        wake_all(self.0.0);
    }
}

impl Side {
    pub(in crate::sync) fn new(id: ChannelId) -> Self {
        Self(id)
    }

    /// Something was tried: if it worked, the other side may go on.
    pub(in crate::sync) fn after<T, E>(&self, result: Result<T, E>) -> Result<T, E> {
        if result.is_ok() {
            wake_all(self.0.0);
        }
        point();
        result
    }

    #[track_caller]
    pub(in crate::sync) fn send<T>(
        &self,
        channel: &real::Sender<T>,
        mut value: T,
    ) -> Result<(), real::SendError<T>> {
        let at = Location::caller();
        point();
        loop {
            match channel.try_send(value) {
                Ok(()) => return self.after(Ok(())),
                Err(real::TrySendError::Disconnected(value)) => {
                    return Err(real::SendError(value));
                }
                Err(real::TrySendError::Full(again)) => value = again,
            }
            block(self.0.0, "room in a channel", at, None);
        }
    }

    #[track_caller]
    pub(in crate::sync) fn recv<T>(
        &self,
        channel: &real::Receiver<T>,
    ) -> Result<T, real::RecvError> {
        self.receive(channel, None).map_err(|_| real::RecvError)
    }

    #[track_caller]
    pub(in crate::sync) fn recv_timeout<T>(
        &self,
        channel: &real::Receiver<T>,
        timeout: Duration,
    ) -> Result<T, real::RecvTimeoutError> {
        self.receive(channel, Some(timeout))
    }

    #[track_caller]
    fn receive<T>(
        &self,
        channel: &real::Receiver<T>,
        timeout: Option<Duration>,
    ) -> Result<T, real::RecvTimeoutError> {
        let at = Location::caller();
        let end = timeout.and_then(|t| time()?.checked_add(t));
        point();
        loop {
            match channel.try_recv() {
                Ok(value) => return self.after(Ok(value)),
                Err(real::TryRecvError::Disconnected) => {
                    return Err(real::RecvTimeoutError::Disconnected);
                }
                Err(real::TryRecvError::Empty) => {}
            }
            let left = end.map(|end| end.saturating_sub(time().unwrap_or_default()));
            if left == Some(Duration::ZERO) {
                return Err(real::RecvTimeoutError::Timeout);
            }
            block(self.0.0, "a message", at, left);
        }
    }
}
