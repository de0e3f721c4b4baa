//! Discarding a whole device before a store is made on it.
//!
//! All but the two superblock blocks, which were erased just before: a discarded
//! block may read as anything, even as what was there, and an old superblock must
//! not come back. Nothing else is read before it is written.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use gaur_iodriver::{Completion, Device, Op, Request};

use crate::alloc::Unit;
use crate::error::{Error, Result};
use crate::format::geometry::SECOND_SUPERBLOCK;

/// The largest discard that is sent: progress is shown, and an end is looked for,
/// between two.
const STEP: u64 = 1 << 30;

type ProgressFn = dyn Fn(u64, u64) -> ControlFlow<()> + Send + Sync;

/// Is told how far the discard at format is: bytes done, and bytes in all. It may end
/// the format, which leaves no store.
#[derive(Clone)]
pub struct DiscardProgress(Arc<ProgressFn>);

impl DiscardProgress {
    /// Calls `tell` after each step; with all bytes done, also while the log is zeroed.
    pub fn new(tell: impl Fn(u64, u64) -> ControlFlow<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }
}

impl fmt::Debug for DiscardProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiscardProgress")
    }
}

/// Discards all of the device but `kept` bytes at each superblock's place. Returns how
/// much; what could not be discarded is no error but a note.
///
/// # Errors
/// [`Error::Interrupted`], if the progress function said so.
pub(crate) fn discard_all(
    device: &dyn Device,
    kept: u64,
    progress: Option<&DiscardProgress>,
    notes: &mut Vec<String>,
) -> Result<u64> {
    let geometry = device.geometry();
    let unit = Unit::of(&geometry);
    if !unit.is_some() {
        notes.push(format!(
            "nothing was discarded: {}",
            match geometry.is_block_device {
                true => "the device cannot discard",
                false => "the file is not sparse and keeps its space",
            }
        ));
        return Ok(0);
    }
    let mut queue = device.queue(1)?;
    let all = geometry.capacity;
    let step = unit.step(STEP, kept);
    let mut discarded = 0;
    for (from, to) in [(kept, SECOND_SUPERBLOCK), (SECOND_SUPERBLOCK + kept, all)] {
        let Some((mut at, end)) = unit.inside(from, to) else {
            continue;
        };
        while at < end {
            let len = step.min(end - at);
            let op = Op::Discard { offset: at, len };
            queue.submit(&mut vec![Request { token: 0, op }])?;
            let mut done: Vec<Completion> = Vec::new();
            while done.is_empty() {
                queue.wait(1, None, &mut done)?;
            }
            if let Some(e) = done.into_iter().find_map(|c| c.result.err()) {
                notes.push(format!("the rest of the device was not discarded: {e}"));
                return Ok(discarded);
            }
            at += len;
            discarded += len;
            go_on(progress, at, all)?;
        }
    }
    Ok(discarded)
}

/// Tells of so many bytes done.
///
/// # Errors
/// [`Error::Interrupted`], if the progress function said so.
pub(crate) fn go_on(progress: Option<&DiscardProgress>, done: u64, all: u64) -> Result<()> {
    match progress {
        Some(p) if (p.0)(done, all).is_break() => Err(Error::Interrupted(
            "before the store was made: there is no store on the device now; format it again"
                .into(),
        )),
        _ => Ok(()),
    }
}
