//! Channels with the calls of this module's.
//!
//! They promise no more than a channel must: a message comes after its sending. Whether
//! one is there, and how many, is a look that may be behind, and orders nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use crossbeam_channel::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

use super::atomic::{AtomicBool, AtomicUsize, Ordering};
use super::lock::{Condvar, Mutex, MutexGuard};

#[derive(Debug)]
struct State<T> {
    messages: VecDeque<T>,
    senders: usize,
    receivers: usize,
}

#[derive(Debug)]
struct Channel<T> {
    capacity: usize,
    /// Changed under the lock and looked at without.
    len: AtomicUsize,
    /// There is no sender any more.
    ended: AtomicBool,
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T> Channel<T> {
    /// Channels are used under latches: their own lock is held for a few instructions.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock_briefly()
    }

    fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let mut s = self.state();
        if s.receivers == 0 {
            return Err(TrySendError::Disconnected(value));
        }
        if s.messages.len() >= self.capacity {
            return Err(TrySendError::Full(value));
        }
        s.messages.push_back(value);
        self.len.fetch_add(1, Ordering::Relaxed);
        drop(s);
        self.changed.notify_all();
        Ok(())
    }

    fn take(&self, s: &mut MutexGuard<'_, State<T>>) -> Result<T, TryRecvError> {
        match s.messages.pop_front() {
            Some(value) => {
                self.len.fetch_sub(1, Ordering::Relaxed);
                self.changed.notify_all();
                Ok(value)
            }
            None if s.senders == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }
}

fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel {
        capacity,
        len: AtomicUsize::new(0),
        ended: AtomicBool::new(false),
        state: Mutex::new(State {
            messages: VecDeque::new(),
            senders: 1,
            receivers: 1,
        }),
        changed: Condvar::new(),
    });
    (Sender(channel.clone()), Receiver(channel))
}

/// A channel that holds at most `capacity` messages.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    channel(capacity)
}

/// A channel without a bound.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(usize::MAX)
}

/// The sending half.
#[derive(Debug)]
pub struct Sender<T>(Arc<Channel<T>>);

/// The receiving half.
#[derive(Debug)]
pub struct Receiver<T>(Arc<Channel<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.0.state().receivers += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut s = self.0.state();
        s.senders -= 1;
        if s.senders == 0 {
            self.0.ended.store(true, Ordering::Relaxed);
            drop(s);
            self.0.changed.notify_all();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut s = self.0.state();
        s.receivers -= 1;
        if s.receivers == 0 {
            // What is in it goes with the last who could take it, as in the ordinary
            // channel: with a request the way to answer it.
            let rest = std::mem::take(&mut s.messages);
            drop(s);
            self.0.changed.notify_all();
            drop(rest);
        }
    }
}

impl<T> Sender<T> {
    /// Sends, waiting for room. Panics under a latch.
    #[track_caller]
    pub fn send(&self, mut value: T) -> Result<(), SendError<T>> {
        super::latch::assert_may_block("Sender::send");
        loop {
            match self.0.try_send(value) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(v)) => return Err(SendError(v)),
                Err(TrySendError::Full(v)) => value = v,
            }
            let mut s = self.0.state();
            if s.messages.len() >= self.0.capacity && s.receivers > 0 {
                self.0.changed.wait(&mut s);
            }
        }
    }

    /// Sends if there is room now. Allowed under a latch.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.0.try_send(value)
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.0.len.load(Ordering::Relaxed)
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Receiver<T> {
    /// Receives, waiting for a message. Panics under a latch.
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        super::latch::assert_may_block("Receiver::recv");
        let mut s = self.0.state();
        loop {
            match self.0.take(&mut s) {
                Ok(value) => return Ok(value),
                Err(TryRecvError::Disconnected) => return Err(RecvError),
                Err(TryRecvError::Empty) => self.0.changed.wait(&mut s),
            }
        }
    }

    /// Receives, waiting for a message: in a model no time runs out.
    #[track_caller]
    pub fn recv_timeout(&self, _timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv().map_err(|_| RecvTimeoutError::Disconnected)
    }

    /// Receives if a message is there. Allowed under a latch.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        if self.0.len.load(Ordering::Relaxed) == 0 && !self.0.ended.load(Ordering::Relaxed) {
            return Err(TryRecvError::Empty);
        }
        self.0.take(&mut self.0.state())
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.0.len.load(Ordering::Relaxed)
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
