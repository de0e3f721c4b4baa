//! Threads: named spawn, sleep, yield.

use std::time::Duration;

use super::latch;
#[cfg(feature = "simulation")]
use super::schedule;

pub use std::thread::ThreadId;

/// A running thread.
#[derive(Debug)]
pub struct JoinHandle<T> {
    inner: std::thread::JoinHandle<T>,
    #[cfg(feature = "simulation")]
    task: Option<schedule::Task>,
}

impl<T> JoinHandle<T> {
    /// Waits for the thread's end. Panics under a latch.
    #[track_caller]
    pub fn join(self) -> std::thread::Result<T> {
        latch::assert_may_block("JoinHandle::join");
        #[cfg(feature = "simulation")]
        if let Some(task) = &self.task {
            task.join();
        }
        self.inner.join()
    }

    /// Lets go of the thread without a system call: in a forked child it does not exist.
    pub fn forget(self) {
        std::mem::forget(self.inner);
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        #[cfg(feature = "simulation")]
        if let Some(task) = &self.task {
            return task.is_finished();
        }
        self.inner.is_finished()
    }
}

/// Starts a thread under `name` (at most 15 bytes are shown by the kernel).
pub fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    #[cfg(feature = "simulation")]
    if schedule::is_simulated() {
        return schedule::seam::spawn(name, builder, body)
            .map(|(inner, task)| JoinHandle { inner, task });
    }
    builder.spawn(body).map(|inner| JoinHandle {
        inner,
        #[cfg(feature = "simulation")]
        task: None,
    })
}

/// Sleeps. Panics under a latch.
#[track_caller]
pub fn sleep(time: Duration) {
    latch::assert_may_block("sleep");
    #[cfg(feature = "simulation")]
    if schedule::is_simulated() {
        schedule::seam::sleep(time);
        return;
    }
    std::thread::sleep(time);
}

/// Lets another thread run. Allowed under a latch: it gives up the processor,
/// not the right to it.
pub fn yield_now() {
    #[cfg(feature = "simulation")]
    if schedule::give_way() {
        return;
    }
    std::thread::yield_now();
}

/// For a loop that waits for what another thread does within a few instructions, and
/// that gives up or parks when that takes longer. Allowed under a latch.
#[inline]
pub fn spin() {
    super::point();
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
