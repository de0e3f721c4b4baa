//! Ctrl-C: the first ends the work in good order, the second at once.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::failure::{Failure, REFUSED};
use crate::output;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// What is done at the first Ctrl-C by itself, whatever the other threads wait for.
static AT_ONCE: OnceLock<Box<dyn Fn() + Send + Sync>> = OnceLock::new();

/// The exit code of a process that a second Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// How long an input is waited for between two looks, in milliseconds.
const LOOK: u16 = 50;

/// Catches Ctrl-C and SIGTERM from now on.
pub(crate) fn catch() {
    // Without a handler the default action ends the process: no worse.
    let _ = ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED);
        }
        if let Some(act) = AT_ONCE.get() {
            act();
        }
    });
}

/// From now on the first Ctrl-C removes this file, which was made for this process
/// alone, and ends it: for work that has nothing to bring in order.
pub(crate) fn catch_removing(path: &Path) {
    let path = path.to_owned();
    let _ = AT_ONCE.set(Box::new(move || {
        let what = match std::fs::remove_file(&path) {
            Ok(()) => "was removed".to_owned(),
            Err(e) => format!("could not be removed: {e}"),
        };
        output::complain(&format!("interrupted; {} {what}", path.display()));
        std::process::exit(REFUSED.into());
    }));
    catch();
}

/// Ends the work in good order, as the first Ctrl-C does.
pub(crate) fn request() {
    REQUESTED.store(true, Ordering::Relaxed);
}

/// Whether Ctrl-C came.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// The same, for what asks between two steps whether to go on.
pub(crate) fn flow() -> ControlFlow<()> {
    match requested() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// An error if Ctrl-C came.
pub(crate) fn check() -> Result<(), Failure> {
    match requested() {
        true => Err(Failure::refused("interrupted")),
        false => Ok(()),
    }
}

/// An input that is read no more after Ctrl-C, also while nothing comes.
#[derive(Debug)]
pub(crate) struct Watched<R>(pub(crate) R);

impl<R: Read + AsFd> Read for Watched<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if requested() {
                return Err(io::Error::other("interrupted"));
            }
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(LOOK)) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                // Whatever else is wrong with it, reading tells.
                _ => return self.0.read(into),
            }
        }
    }
}
