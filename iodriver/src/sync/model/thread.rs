//! A model's threads.

use std::time::Duration;

pub use std::thread::ThreadId;

/// Bytes of stack of a thread that [`spawn`] starts.
const STACK: usize = 256 << 10;

/// A running thread.
#[derive(Debug)]
pub struct JoinHandle<T>(loom::thread::JoinHandle<T>);

impl<T> JoinHandle<T> {
    /// Waits for the thread's end.
    #[track_caller]
    pub fn join(self) -> std::thread::Result<T> {
        super::latch::assert_may_block("JoinHandle::join");
        self.0.join()
    }

    /// Lets go of the thread.
    pub fn forget(self) {
        std::mem::forget(self.0);
    }

    /// Whether the thread has ended: not known in a model.
    pub fn is_finished(&self) -> bool {
        false
    }
}

/// Starts a thread under `name`.
#[track_caller]
pub fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    loom::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK / size_of::<usize>())
        .spawn(body)
        .map(JoinHandle)
}

/// Lets the others run: in a model no time passes.
pub fn sleep(_time: Duration) {
    super::latch::assert_may_block("sleep");
    loom::thread::yield_now();
}

/// Lets another thread run.
pub fn yield_now() {
    loom::thread::yield_now();
}

/// Lets another thread run: a loop that waits for it must end.
pub fn spin() {
    loom::thread::yield_now();
}

/// Whether the calling thread is unwinding after a panic.
pub fn is_panicking() -> bool {
    std::thread::panicking()
}

/// Which thread of the operating system is calling.
pub fn current_id() -> ThreadId {
    std::thread::current().id()
}
