//! Discards of a uring device, on a thread of their own.
//!
//! A discard is a system call that may take seconds, and the ring's command for
//! it is too new to rely on. The thread starts with the first discard and ends
//! with the device.

use std::sync::Arc;

use super::kick::Kick;
use crate::error::{IoError, IoErrorKind};
use crate::sync::channel::{Sender, unbounded};
use crate::sync::{Home, Mutex, thread};
use crate::target::Target;

/// A discard and the way back to its queue.
#[derive(Debug)]
pub(crate) struct DiscardJob {
    pub(crate) target: Arc<Target>,
    pub(crate) token: u64,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) reply: Sender<(u64, Result<(), IoError>)>,
    pub(crate) kick: Arc<Kick>,
}

/// The thread, once there is one.
#[derive(Debug, Default)]
pub(crate) struct Helper {
    home: Home,
    running: Mutex<Option<(Sender<DiscardJob>, thread::JoinHandle<()>)>>,
}

impl Helper {
    /// Hands a discard over; its result comes through the job's reply.
    pub(crate) fn discard(&self, job: DiscardJob) {
        let mut running = self.running.lock();
        if running.is_none() {
            let (jobs, incoming) = unbounded::<DiscardJob>();
            let started = thread::spawn("gaur-discard", move || {
                while let Ok(job) = incoming.recv() {
                    run(job);
                }
            });
            match started {
                Ok(handle) => *running = Some((jobs, handle)),
                Err(e) => {
                    let error = IoError::with_errno(
                        IoErrorKind::Queue,
                        "discard",
                        job.offset,
                        job.len,
                        e.raw_os_error().unwrap_or(libc::EAGAIN),
                        "no thread for discards can be started",
                    );
                    let _ = job.reply.try_send((job.token, Err(error)));
                    return;
                }
            }
        }
        if let Some((jobs, _)) = running.as_ref() {
            let _ = jobs.try_send(job);
        }
    }
}

fn run(job: DiscardJob) {
    let result = job.target.discard(job.offset, job.len);
    // Given back before the caller can learn of the end; see the psync driver.
    drop(job.target);
    let _ = job.reply.try_send((job.token, result));
    job.kick.kick();
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some((jobs, handle)) = self.running.get_mut().take() {
            if !self.home.is_here() {
                // The thread is the parent's; a forked child has it not.
                std::mem::forget(jobs);
                handle.forget();
                return;
            }
            drop(jobs);
            let _ = handle.join();
        }
    }
}
