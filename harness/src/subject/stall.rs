//! A stall on purpose, to see whether a measurement shows it.

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::{Change, Direction, Session, Subject};
use crate::failure::Failure;
use crate::interrupt;
use crate::run::config::Durable;

/// The longest sleep, so that Ctrl-C is seen.
const NAP: Duration = Duration::from_millis(20);

/// When calls are held up. Nothing is, before it is armed.
#[derive(Debug)]
pub(crate) struct Stall {
    at: Duration,
    lasts: Duration,
    armed: OnceLock<Instant>,
}

impl Stall {
    /// One that begins `at` after the arming and `lasts` so long.
    pub(crate) fn new(at: Duration, lasts: Duration) -> Self {
        Self {
            at,
            lasts,
            armed: OnceLock::new(),
        }
    }

    /// Time counts from here; only the first call counts.
    pub(crate) fn arm(&self) {
        self.armed.get_or_init(Instant::now);
    }

    /// Returns when no stall is on: a call that begins in it waits for its end.
    fn pass(&self) {
        let Some(armed) = self.armed.get() else {
            return;
        };
        loop {
            let since = armed.elapsed();
            let left = self.at.saturating_add(self.lasts).saturating_sub(since);
            if since < self.at || left.is_zero() || interrupt::requested() {
                return;
            }
            thread::sleep(left.min(NAP));
        }
    }
}

/// A subject whose calls wait while the stall is on.
pub(crate) struct Stalled {
    inner: Box<dyn Subject>,
    stall: Arc<Stall>,
}

impl Stalled {
    /// `inner` with this stall.
    pub(crate) fn new(inner: Box<dyn Subject>, stall: Arc<Stall>) -> Self {
        Self { inner, stall }
    }
}

impl Subject for Stalled {
    fn session(&self) -> Result<Box<dyn Session + '_>, Failure> {
        Ok(Box::new(Held {
            inner: self.inner.session()?,
            stall: &self.stall,
        }))
    }

    fn flush(&self) -> Result<(), Failure> {
        self.inner.flush()
    }

    fn stats(&self) -> Option<::gaur::Stats> {
        self.inner.stats()
    }

    fn capacity(&self) -> Option<u64> {
        self.inner.capacity()
    }

    fn store(&self) -> Option<&::gaur::Store> {
        self.inner.store()
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        self.inner.close()
    }
}

struct Held<'a> {
    inner: Box<dyn Session + 'a>,
    stall: &'a Stall,
}

impl Session for Held<'_> {
    fn get(&mut self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        self.stall.pass();
        self.inner.get(key, found)
    }

    fn scan(
        &mut self,
        from: &[u8],
        limit: usize,
        direction: Direction,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<usize, Failure> {
        self.stall.pass();
        self.inner.scan(from, limit, direction, each)
    }

    fn commit(&mut self, changes: &[Change<'_>], durability: Durable) -> Result<(), Failure> {
        self.stall.pass();
        self.inner.commit(changes, durability)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Null;

    #[test]
    fn calls_in_the_stall_wait_for_its_end_and_no_others() {
        let lasts = Duration::from_millis(60);
        let stall = Arc::new(Stall::new(Duration::ZERO, lasts));
        let subject = Stalled::new(Box::new(Null::new(vec![1])), stall.clone());
        let mut session = subject.session().unwrap();
        // Not armed: nothing waits, however late it is.
        assert!(session.get(b"k", &mut |_| {}).unwrap());
        stall.arm();
        let begin = Instant::now();
        assert!(session.get(b"k", &mut |_| {}).unwrap());
        assert!(begin.elapsed() > lasts / 2);
        assert!(stall.armed.get().unwrap().elapsed() >= lasts);
        // Over: had it waited again, the end would have moved.
        stall.arm();
        assert!(session.get(b"k", &mut |_| {}).unwrap());
    }
}
