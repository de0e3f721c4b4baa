//! Discarding all free space of an open store, as `fstrim` does for a file system.

use std::ops::ControlFlow;

use gaur_iodriver::sync::thread;
use gaur_iodriver::sync::time::Duration;

use crate::alloc::DiscardRate;
use crate::core::Core;
use crate::error::Result;

/// How to trim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrimOptions {
    /// How fast.
    pub rate: DiscardRate,
    /// Only say what would be discarded; a store opened read-only allows it.
    pub dry_run: bool,
}

/// How far a trim is, or what it did. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrimReport {
    /// Of the store, all that was looked at.
    pub looked_at: u64,
    /// The store's size: where it ends.
    pub size: u64,
    /// Free space that was found.
    pub free: u64,
    /// Discarded; of a dry run: would be. The rest of the free space is less than a
    /// unit of the device in each place.
    pub discarded: u64,
    /// Discards that failed. Harmless.
    pub failures: u64,
    /// Groups of blocks whose map is damaged: what is free in them is not known.
    pub unknown_groups: u64,
    /// It was ended early.
    pub interrupted: bool,
}

/// The longest time without a call of the progress function, I/O left out.
const NAP: Duration = Duration::from_millis(100);

/// Group after group: the allocator lends the free runs to their discards.
pub(crate) fn trim(
    core: &Core,
    options: &TrimOptions,
    mut progress: impl FnMut(&TrimReport) -> ControlFlow<()>,
) -> Result<TrimReport> {
    if !options.dry_run {
        core.check_writable()?;
        // What was deleted before is free after it.
        core.progress().wait_for_next()?;
    }
    // What is won meanwhile was never written.
    let geometry = core.forest.geometry.now();
    let allocator = core.forest.pool.allocator();
    let mut report = TrimReport {
        size: geometry.byte(geometry.capacity),
        ..TrimReport::default()
    };
    for group in 0..geometry.groups() {
        let start = geometry.group_start(group);
        let mut from = Some(0);
        while let Some(at) = from {
            core.check_open()?;
            // A store that has stopped leaves the device alone.
            if let Some(stopped) = core.log_if_started().and_then(|log| log.stopped()) {
                return Err(stopped);
            }
            let done = allocator.trim(group, at, options.rate, options.dry_run);
            // Closed meanwhile: that is why the allocator went.
            let done = done
                .wait()
                .map_err(|e| core.check_open().err().unwrap_or_else(|| core.spread(e)))?;
            from = done.rest.map(|rest| rest.from);
            let looked = from.map_or(geometry.group_len(group), u64::from);
            report.looked_at = geometry.byte(start + looked);
            report.free += done.free;
            report.discarded += done.discarded;
            report.failures += done.failures;
            report.unknown_groups += u64::from(done.unknown);
            if progress(&report).is_break() {
                report.interrupted = report.looked_at < report.size;
                return Ok(report);
            }
            // What the rate demands beyond a nap, the allocator waits for or tells again.
            if let Some(rest) = done.rest {
                thread::sleep(rest.due.min(NAP));
            }
        }
    }
    Ok(report)
}
