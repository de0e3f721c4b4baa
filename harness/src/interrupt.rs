//! Ctrl-C: the first ends the work in good order, the second at once.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{Failure, REFUSED};
use crate::output;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// What is done at the first Ctrl-C by itself, whatever the other threads wait for.
static AT_ONCE: OnceLock<Box<dyn Fn() + Send + Sync>> = OnceLock::new();

/// The exit code of a process that a second Ctrl-C ended.
const INTERRUPTED: i32 = 130;

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
