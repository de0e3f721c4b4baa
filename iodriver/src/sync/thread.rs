//! Threads: named spawn, sleep, yield.

use std::time::Duration;

use super::latch;

pub use std::thread::ThreadId;

/// A running thread.
#[derive(Debug)]
pub struct JoinHandle<T>(std::thread::JoinHandle<T>);

impl<T> JoinHandle<T> {
    /// Waits for the thread's end. Panics under a latch.
    #[track_caller]
    pub fn join(self) -> std::thread::Result<T> {
        latch::assert_may_block("JoinHandle::join");
        self.0.join()
    }

    /// Lets go of the thread without a system call: in a forked child it does not exist.
    pub fn forget(self) {
        std::mem::forget(self.0);
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// Starts a thread under `name` (at most 15 bytes are shown by the kernel).
pub fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map(JoinHandle)
}

/// Sleeps. Panics under a latch.
#[track_caller]
pub fn sleep(time: Duration) {
    latch::assert_may_block("sleep");
    std::thread::sleep(time);
}

/// Lets another thread run. Allowed under a latch: it gives up the processor,
/// not the right to it.
pub fn yield_now() {
    std::thread::yield_now();
}

/// For a loop that waits for what another thread does within a few instructions, and
/// that gives up or parks when that takes longer. Allowed under a latch.
#[inline]
pub fn spin() {
    std::hint::spin_loop();
}

/// Whether the calling thread is unwinding after a panic.
pub fn is_panicking() -> bool {
    std::thread::panicking()
}

/// Which thread is calling.
pub fn current_id() -> ThreadId {
    std::thread::current().id()
}
