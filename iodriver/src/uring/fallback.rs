//! Queues without a ring, for when the kernel gives no more rings.
//!
//! That io_uring is there is found out when a device is opened, with one small ring. A
//! later ring may still be refused: too much memory is locked (before Linux 5.12), or too
//! many files are open. Such a queue works like those of the psync driver.

use std::sync::{Arc, OnceLock};

use crate::error::IoError;
use crate::psync::Pool;

/// The threads that take the place of rings, once they are needed, and why they are.
#[derive(Debug, Default)]
pub(crate) struct Fallback(OnceLock<(String, Arc<Pool>)>);

impl Fallback {
    /// The threads; the first refusal is kept for the note.
    pub(crate) fn pool(&self, refusal: &IoError) -> Arc<Pool> {
        let new = || (refusal.detail.clone(), Arc::new(Pool::new()));
        self.0.get_or_init(new).1.clone()
    }

    /// What there is to tell.
    pub(crate) fn note(&self) -> Option<String> {
        let (why, _) = self.0.get()?;
        Some(format!("some queues work without io_uring: {why}"))
    }
}
