//! Starting the child, listening to it, and killing it.

use std::ffi::OsString;
use std::io::{BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::child::Orders;
use super::wire::{self, Ack, Message};
use crate::failure::Failure;
use crate::interrupt;

/// How long a child may take to open the store.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks for Ctrl-C and the child's end.
const LOOK: Duration = Duration::from_millis(20);
/// How long Ctrl-C may take to reach this process when it has ended the child.
const SAME_KEY: Duration = Duration::from_secs(1);

/// A child under way. It is killed when dropped, if not before.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    ready: Receiver<()>,
    acks: Option<JoinHandle<Vec<Ack>>>,
    complaints: Option<JoinHandle<String>>,
}

/// What a child left behind.
#[derive(Debug)]
pub(crate) struct Remains {
    pub(crate) acks: Vec<Ack>,
    /// When it was killed, by the monotonic clock.
    pub(crate) killed: Duration,
    /// How it ended if it was not by the kill, and what it said.
    pub(crate) ended_itself: Option<String>,
}

impl Running {
    /// Starts this program once more, as a child.
    pub(crate) fn start(orders: &Orders) -> Result<Self, Failure> {
        Self::start_with(super::child_args(orders))
    }

    /// Starts this program once more, with these arguments.
    pub(crate) fn start_with(args: Vec<OsString>) -> Result<Self, Failure> {
        let failed = |e| Failure::refused(format!("cannot start the child: {e}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (tell, ready) = mpsc::channel();
        let acks = child.stdout.take().map(|out| {
            thread::spawn(move || {
                let (mut out, mut acks) = (BufReader::with_capacity(1 << 16, out), Vec::new());
                while let Ok(Some(message)) = Message::receive(&mut out) {
                    match message {
                        // Nobody may be waiting any more: that is no matter.
                        Message::Ready => drop(tell.send(())),
                        Message::Ack(ack) => acks.push(ack),
                    }
                }
                acks
            })
        });
        let complaints = child.stderr.take().map(|mut err| {
            thread::spawn(move || {
                let mut text = Vec::new();
                // What could be read is told; a child killed while it spoke is usual.
                let _ = err.read_to_end(&mut text);
                String::from_utf8_lossy(&text).trim().to_owned()
            })
        });
        Ok(Self {
            child,
            ready,
            acks,
            complaints,
        })
    }

    /// Waits until the child has the store open; false if it ended before, or Ctrl-C
    /// came.
    pub(crate) fn wait_ready(&self) -> bool {
        let until = Instant::now() + PATIENCE;
        while !interrupt::requested() && Instant::now() < until {
            match self.ready.recv_timeout(LOOK) {
                Ok(()) => return true,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        false
    }

    /// Lets it work for a while; less if it ends by itself, or Ctrl-C comes.
    pub(crate) fn leave_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now())
            && !interrupt::requested()
            && matches!(self.child.try_wait(), Ok(None))
        {
            thread::sleep(left.min(LOOK));
        }
    }

    /// Kills it by SIGKILL, and collects what it told.
    pub(crate) fn kill(mut self) -> Result<Remains, Failure> {
        let failed = |e| Failure::refused(format!("cannot end the child: {e}"));
        let ended = self.child.try_wait().map_err(failed)?;
        let killed = wire::now();
        if ended.is_none() {
            self.child.kill().map_err(failed)?;
        }
        let status = self.child.wait().map_err(failed)?;
        // Ctrl-C in a terminal goes to both.
        if status.signal() == Some(Signal::SIGINT as i32) {
            let until = Instant::now() + SAME_KEY;
            while !interrupt::requested() && Instant::now() < until {
                thread::sleep(LOOK);
            }
        }
        let acks = self
            .acks
            .take()
            .and_then(|t| t.join().ok())
            .unwrap_or_default();
        let said = self
            .complaints
            .take()
            .and_then(|t| t.join().ok())
            .unwrap_or_default();
        let ended_itself = (!by_kill(status)).then(|| match said.is_empty() {
            true => status.to_string(),
            false => format!("{status}: {said}"),
        });
        Ok(Remains {
            acks,
            killed,
            ended_itself,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn by_kill(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::SIGKILL as i32)
}
