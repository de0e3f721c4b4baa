//! Bounded channels (crossbeam) whose blocking calls check the latch depth.

use std::time::Duration;

use super::latch;
#[cfg(feature = "simulation")]
use super::schedule::seam::{ChannelId, Side};

pub use crossbeam_channel::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

/// A channel that holds at most `capacity` messages.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    both(crossbeam_channel::bounded(capacity))
}

/// A channel without a bound, for messages whose number is bounded elsewhere.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    both(crossbeam_channel::unbounded())
}

fn both<T>(
    (s, r): (crossbeam_channel::Sender<T>, crossbeam_channel::Receiver<T>),
) -> (Sender<T>, Receiver<T>) {
    #[cfg(feature = "simulation")]
    let id = ChannelId::new();
    let sender = Sender {
        inner: s,
        #[cfg(feature = "simulation")]
        side: Side::new(id),
    };
    let receiver = Receiver {
        inner: r,
        #[cfg(feature = "simulation")]
        side: Side::new(id),
    };
    (sender, receiver)
}

/// The sending half.
#[derive(Debug)]
pub struct Sender<T> {
    inner: crossbeam_channel::Sender<T>,
    /// Behind `inner`: what it wakes looks at a channel without it.
    #[cfg(feature = "simulation")]
    side: Side,
}

/// The receiving half.
#[derive(Debug)]
pub struct Receiver<T> {
    inner: crossbeam_channel::Receiver<T>,
    #[cfg(feature = "simulation")]
    side: Side,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            #[cfg(feature = "simulation")]
            side: self.side.clone(),
        }
    }
}

impl<T> Sender<T> {
    /// Sends, waiting for room. Panics under a latch.
    #[track_caller]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        latch::assert_may_block("Sender::send");
        #[cfg(feature = "simulation")]
        if super::schedule::is_simulated() {
            return self.side.send(&self.inner, value);
        }
        self.inner.send(value)
    }

    /// Sends if there is room now. Allowed under a latch.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        #[cfg(feature = "simulation")]
        return self.side.after(self.inner.try_send(value));
        #[cfg(not(feature = "simulation"))]
        self.inner.try_send(value)
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            #[cfg(feature = "simulation")]
            side: self.side.clone(),
        }
    }
}

impl<T> Receiver<T> {
    /// Receives, waiting for a message. Panics under a latch.
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        latch::assert_may_block("Receiver::recv");
        #[cfg(feature = "simulation")]
        if super::schedule::is_simulated() {
            return self.side.recv(&self.inner);
        }
        self.inner.recv()
    }

    /// Receives, waiting at most `timeout`. Panics under a latch.
    #[track_caller]
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        latch::assert_may_block("Receiver::recv_timeout");
        #[cfg(feature = "simulation")]
        if super::schedule::is_simulated() {
            return self.side.recv_timeout(&self.inner, timeout);
        }
        self.inner.recv_timeout(timeout)
    }

    /// Receives if a message is there. Allowed under a latch.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        #[cfg(feature = "simulation")]
        return self.side.after(self.inner.try_recv());
        #[cfg(not(feature = "simulation"))]
        self.inner.try_recv()
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }
}
