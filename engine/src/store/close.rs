//! Ends: closing, and dropping the last handle.

use std::sync::atomic::Ordering;

use super::Inner;
use crate::error::{Error, Result};
use crate::trace::span;
use crate::writeback::checkpoint::Checkpointer;

impl Inner {
    pub(super) fn close(&self) -> Result<()> {
        let core = &self.core;
        core.check_home()?;
        let _span = span!("close", core.forest.store);
        let _one = self.closing.lock();
        core.refuse_commits();
        let mut result = Ok(());
        if let Some(ended) = self.end_checkpointer() {
            let stopped = core.progress().stopped();
            let Ok(mut c) = ended else {
                let why = stopped.unwrap_or_else(|| "the checkpointer panicked".into());
                return Err(Error::Stopped(why));
            };
            result = match stopped {
                Some(why) => Err(Error::Stopped(why)),
                None => {
                    core.empty_stashes();
                    c.close(core)
                }
            };
            if let Err(e) = &result {
                core.fail(e);
                result = Err(core.stopped_error());
            }
            core.forest.unpin();
        }
        self.end_evictor();
        if let Some(log) = core.log_if_started() {
            let ended = log.shutdown().map(|_| ());
            result = result.and(ended);
        }
        core.progress().stop("the store was closed");
        core.forest.pool.allocator().shutdown();
        core.forest.events.end();
        result
    }

    /// Ends the checkpointer thread; `None` if there is none any more.
    fn end_checkpointer(&self) -> Option<std::thread::Result<Checkpointer>> {
        let handle = self.checkpointer.lock().take()?;
        self.core.closing.store(true, Ordering::Release);
        self.core.progress().ask();
        Some(handle.join())
    }

    /// Ends the evictor, and lets go of the workers' queues, which hold the device.
    fn end_evictor(&self) {
        self.core.closing.store(true, Ordering::Release);
        self.core.forest.cache.ask_for_frames();
        if let Some(handle) = self.evictor.lock().take() {
            let _ = handle.join();
        }
        for w in self.core.forest.workers.all() {
            *w.queue.lock() = None;
        }
    }
}

impl Drop for Inner {
    /// Ends the threads without a checkpoint: what was committed is in the log, and
    /// the next open replays it.
    fn drop(&mut self) {
        if !self.core.is_home() {
            // A forked child has none of the threads, and locks may be held for ever
            // there: all of it is left as it is, nothing is sent, awaited or unlocked.
            std::mem::forget(self.core.clone());
            if let Some(evictor) = self.evictor.get_mut().take() {
                evictor.forget();
            }
            if let Some(checkpointer) = self.checkpointer.get_mut().take() {
                checkpointer.forget();
            }
            return;
        }
        self.core.refuse_commits();
        drop(self.end_checkpointer());
        self.end_evictor();
        if let Some(log) = self.core.log_if_started() {
            let _ = log.shutdown();
        }
        self.core.forest.pool.allocator().shutdown();
    }
}
