//! How one thread lets another run.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

/// What a thread waits for before it may run.
#[derive(Debug, Default)]
pub(super) struct Baton {
    go: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Baton {
    /// Lets the owner run. It may not have begun to wait.
    pub(super) fn give(&self) {
        // Sequentially consistent, as in `wait`: either the owner sees that it may go,
        // or its handle is seen here.
        self.go.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Waits for the owner's turn.
    pub(super) fn wait(&self) {
        self.thread.get_or_init(std::thread::current);
        while !self.go.swap(false, Ordering::SeqCst) {
            std::thread::park();
        }
    }
}
