//! Ctrl-C: the first ends the work in good order, the second at once.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// The exit code of a process that a second Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Catches Ctrl-C and SIGTERM from now on.
pub(crate) fn catch() {
    // Without a handler the default action ends the process: no worse.
    let _ = ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED);
        }
    });
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
