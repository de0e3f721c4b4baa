//! How far checkpoints are, and the wishes for the next one.

use gaur_iodriver::sync::channel;
use gaur_iodriver::sync::time::{Duration, Instant, now};
use gaur_iodriver::sync::{Condvar, Mutex};

use crate::error::{Error, Result};

#[derive(Debug, Default)]
struct State {
    /// Checkpoints begun (generations frozen) and ended.
    begun: u64,
    /// Number of the checkpoint that somebody waits for.
    wanted: u64,
    ended: u64,
    stopped: Option<String>,
    /// There is a checkpointer.
    served: bool,
}

/// Shared by the checkpointer and those who want something of it.
#[derive(Debug)]
pub(crate) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
    nudge: (channel::Sender<()>, channel::Receiver<()>),
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            nudge: channel::bounded(1),
        }
    }

    /// Asks for a checkpoint soon. Never waits; allowed under a latch.
    pub(crate) fn ask(&self) {
        let _ = self.nudge.0.try_send(());
    }

    /// What wakes the checkpointer, as [`Progress::ask`] does.
    pub(crate) fn nudger(&self) -> &channel::Sender<()> {
        &self.nudge.0
    }

    /// The checkpointer's wait: true if it was asked, false if the time ran out.
    pub(crate) fn asked_within(&self, timeout: Duration) -> bool {
        self.nudge.1.recv_timeout(timeout).is_ok()
    }

    /// Whether somebody waits for the next checkpoint, even if there is nothing new.
    pub(crate) fn is_wanted(&self) -> bool {
        let s = self.state.lock();
        s.wanted > s.begun
    }

    /// A checkpointer begins its work.
    pub(crate) fn serve(&self) {
        self.state.lock().served = true;
    }

    /// Whether there is a checkpointer. During replay there is none, so nobody may
    /// wait for a checkpoint.
    pub(crate) fn is_served(&self) -> bool {
        self.state.lock().served
    }

    pub(crate) fn begin(&self) {
        self.state.lock().begun += 1;
    }

    /// What the generation freed is released.
    pub(crate) fn end(&self) {
        let mut s = self.state.lock();
        s.ended = s.begun;
        self.changed.notify_all();
    }

    /// No further checkpoint will end: wakes all who wait. Whether that is news.
    pub(crate) fn stop(&self, why: &str) -> bool {
        let mut s = self.state.lock();
        let first = s.stopped.is_none();
        s.stopped.get_or_insert_with(|| why.to_owned());
        self.changed.notify_all();
        first
    }

    /// Why there will be no further checkpoint.
    pub(crate) fn stopped(&self) -> Option<String> {
        self.state.lock().stopped.clone()
    }

    /// Waits for the end of a checkpoint that began after this call.
    pub(crate) fn wait_for_next(&self) -> Result<()> {
        let mut s = self.state.lock();
        let wanted = s.begun + 1;
        s.wanted = wanted;
        while s.ended < wanted {
            if let Some(why) = &s.stopped {
                return Err(Error::Stopped(why.clone()));
            }
            // Asked for again once it has begun, it would be followed by another.
            if s.begun < wanted {
                self.ask();
            }
            self.changed.wait_for(&mut s, Duration::from_millis(20));
        }
        Ok(())
    }

    /// Checkpoints that have ended: what they freed is free.
    pub(crate) fn ended(&self) -> u64 {
        self.state.lock().ended
    }

    /// Whether a checkpoint has begun and not ended.
    pub(crate) fn is_under_way(&self) -> bool {
        let s = self.state.lock();
        s.begun > s.ended
    }

    /// Waits until the checkpoint under way has ended, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Stopped`] if it will not.
    pub(crate) fn wait_ended(&self, limit: Duration) -> Result<()> {
        let end: Instant = now() + limit;
        let mut s = self.state.lock();
        let begun = s.begun;
        while s.ended < begun && now() < end {
            if let Some(why) = &s.stopped {
                return Err(Error::Stopped(why.clone()));
            }
            self.changed.wait_for(&mut s, Duration::from_millis(20));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_asks_no_more_once_the_checkpoint_has_begun() {
        let progress = Progress::new();
        std::thread::scope(|s| {
            let waiter = s.spawn(|| progress.wait_for_next());
            while !progress.is_wanted() {
                std::thread::yield_now();
            }
            progress.begin();
            // What was asked for until then.
            progress.asked_within(Duration::ZERO);
            std::thread::sleep(Duration::from_millis(70));
            assert!(!progress.asked_within(Duration::ZERO));
            progress.end();
            waiter.join().unwrap().unwrap();
        });
    }
}
