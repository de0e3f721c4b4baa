//! Bounded channels (crossbeam) whose blocking calls check the latch depth.

use std::time::Duration;

use super::latch;

pub use crossbeam_channel::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

/// A channel that holds at most `capacity` messages.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (s, r) = crossbeam_channel::bounded(capacity);
    (Sender(s), Receiver(r))
}

/// A channel without a bound, for messages whose number is bounded elsewhere.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    let (s, r) = crossbeam_channel::unbounded();
    (Sender(s), Receiver(r))
}

/// The sending half.
#[derive(Debug)]
pub struct Sender<T>(crossbeam_channel::Sender<T>);

/// The receiving half.
#[derive(Debug)]
pub struct Receiver<T>(crossbeam_channel::Receiver<T>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Sender<T> {
    /// Sends, waiting for room. Panics under a latch.
    #[track_caller]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        latch::assert_may_block("Sender::send");
        self.0.send(value)
    }

    /// Sends if there is room now. Allowed under a latch.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.0.try_send(value)
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Receiver<T> {
    /// Receives, waiting for a message. Panics under a latch.
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        latch::assert_may_block("Receiver::recv");
        self.0.recv()
    }

    /// Receives, waiting at most `timeout`. Panics under a latch.
    #[track_caller]
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        latch::assert_may_block("Receiver::recv_timeout");
        self.0.recv_timeout(timeout)
    }

    /// Receives if a message is there. Allowed under a latch.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.0.try_recv()
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
