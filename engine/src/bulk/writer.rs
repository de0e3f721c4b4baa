//! The thread that writes what a bulk load has built.
//!
//! It counts as committing while it has writes in flight, so that closing the store waits for
//! them and for nothing else: not for whoever feeds it.

use std::sync::Arc;

use gaur_iodriver::sync::channel::{self, Receiver, Sender};
use gaur_iodriver::sync::thread::{self, JoinHandle};
use gaur_iodriver::{IoBuf, IoError, Op, Queue, Request};

use super::blocks::BUFFER;
use crate::core::Core;
use crate::error::{Error, Result};

/// Writes in flight.
const DEPTH: usize = 4;
/// Buffers that wait to be written.
const WAITING: usize = 2;

/// A buffer, full, and where it belongs.
#[derive(Debug)]
pub(super) struct Full {
    pub(super) offset: u64,
    pub(super) buf: IoBuf,
}

#[derive(Debug)]
pub(super) struct Writer {
    full: Sender<Full>,
    written: Receiver<IoBuf>,
    thread: JoinHandle<Result<()>>,
}

impl Writer {
    pub(super) fn start(core: &Arc<Core>) -> Result<Self> {
        let (full, inbox) = channel::bounded(WAITING);
        let (back, written) = channel::bounded(DEPTH + WAITING);
        let core = core.clone();
        let body = move || {
            let done = write_all(&core, &inbox, &back);
            done.inspect_err(|e| {
                // Closed is no failure of the store's.
                if !matches!(e, Error::Closed) {
                    core.fail(e);
                }
            })
        };
        let thread = thread::spawn("gaur-bulk", body).map_err(|e| {
            Error::Io(IoError::from_errno(
                "start thread",
                0,
                0,
                e.raw_os_error().unwrap_or(0),
            ))
        })?;
        Ok(Self {
            full,
            written,
            thread,
        })
    }

    /// A buffer to fill.
    pub(super) fn buffer(&mut self) -> IoBuf {
        self.written
            .try_recv()
            .unwrap_or_else(|_| IoBuf::zeroed(BUFFER))
    }

    /// Has it written. False: the thread has ended.
    pub(super) fn send(&mut self, full: Full) -> bool {
        self.full.send(full).is_ok()
    }

    /// Waits until all is written.
    pub(super) fn end(self, core: &Core) -> Result<()> {
        drop(self.full);
        drop(self.written);
        self.thread.join().unwrap_or_else(|_| {
            let e = Error::Stopped("the thread of a bulk load panicked".into());
            core.fail(&e);
            Err(e)
        })
    }

    /// Lets go of it, in a process that does not have the thread.
    pub(super) fn forget(self) {
        self.thread.forget();
        std::mem::forget((self.full, self.written));
    }
}

fn write_all(core: &Core, inbox: &Receiver<Full>, back: &Sender<IoBuf>) -> Result<()> {
    let worker = core.forest.workers.mine()?;
    let mut queue = core.forest.device.queue(DEPTH as u32)?;
    while let Ok(first) = inbox.recv() {
        let _busy = worker.begin_commit(&core.forest.workers)?;
        // A store that has stopped writes nothing more.
        if let Some(stopped) = core.log().stopped() {
            return Err(stopped);
        }
        let written = burst(queue.as_mut(), first, inbox, back);
        // Nothing may be in flight when closing goes on.
        let mut done = Vec::new();
        while queue.in_flight() > 0 && queue.wait(1, None, &mut done).is_ok() {
            done.clear();
        }
        written?;
    }
    queue.hand_over();
    Ok(())
}

/// Writes until nothing waits to be written.
fn burst(
    queue: &mut dyn Queue,
    first: Full,
    inbox: &Receiver<Full>,
    back: &Sender<IoBuf>,
) -> Result<()> {
    let mut next = Some(first);
    let mut done = Vec::new();
    loop {
        while let Some(Full { offset, buf }) = next.take() {
            let durable = false;
            let op = Op::Write {
                offset,
                buf,
                durable,
            };
            queue.submit(&mut vec![Request { token: 0, op }])?;
            if queue.in_flight() < DEPTH {
                next = inbox.try_recv().ok();
            }
        }
        if queue.in_flight() == 0 {
            return Ok(());
        }
        queue.wait(1, None, &mut done)?;
        for completion in done.drain(..) {
            completion.result?;
            if let Some(buf) = completion.buf.filter(|b| b.len() == BUFFER) {
                let _ = back.try_send(buf);
            }
        }
        next = inbox.try_recv().ok();
    }
}
