//! Commits, and waiting for them to be durable.

use std::cell::Cell;

use gaur_iodriver::fault;

use super::Store;
use super::merge::commit_merging;
use crate::commit::batch::{BatchOp, WriteBatch, check_key, check_value};
use crate::commit::condition::Condition;
use crate::commit::{Change, Stamp};
use crate::core::{Core, MAX_PIECES};
use crate::error::{Error, Result};
use crate::format::node::{KIND_EXTENT, KIND_VALUE};
use crate::format::{Csn, ExtentPtr};
use crate::log::{OpsBuilder, Record, record_check};
use crate::node::max_inline;
use crate::options::Durability;
use crate::shortage::Claim;
use crate::stats::Wait;
use crate::worker::Worker;

impl Store {
    /// Commits a batch: all of it or nothing. Returns its CSN; an empty batch draws
    /// none and returns the newest visible one.
    ///
    /// # Errors
    /// [`Error::KeyTooLong`], [`Error::ValueTooLong`], [`Error::BatchTooLarge`],
    /// [`Error::OtherStore`], [`Error::Full`], [`Error::ReadOnly`], [`Error::Closed`],
    /// [`Error::Forked`], [`Error::Stopped`]: nothing happened. [`Error::Io`] and [`Error::Damaged`]:
    /// what the commit had to read could not be read; nothing happened. [`Error::NoMergeOperator`] and
    /// [`Error::Merge`], of a batch that merges: nothing happened. [`Error::OutcomeUnknown`]: the store stopped while the
    /// commit was in flight.
    pub fn commit(&self, batch: WriteBatch, durability: Durability) -> Result<Csn> {
        let core = self.core();
        core.check_writable()?;
        self.check_owns_all(&batch)?;
        if batch.is_empty() {
            return Ok(core.visible.upto());
        }
        if batch.merges() {
            return commit_merging(core, &batch, durability);
        }
        let ops = batch.sorted();
        if fault!(BatchInTwoRecords) && ops.len() > 1 {
            let (first, second) = ops.split_at(ops.len() / 2);
            commit_ops(core, first, durability)?;
            return commit_ops(core, second, durability);
        }
        commit_ops(core, &ops, durability)
    }

    /// Waits until commit `csn` survives the loss of power.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] if the store stopped before; [`Error::Forked`].
    pub fn wait_durable(&self, csn: Csn) -> Result<()> {
        let core = self.core();
        core.check_home()?;
        match core.log_if_started() {
            None => Ok(()),
            Some(log) => {
                let worker = core.forest.workers.mine()?;
                worker
                    .counters
                    .waiting(Wait::Durable, || log.wait_durable(csn))
            }
        }
    }

    /// Makes all commits so far durable, and returns the last of them.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] if the store stopped before; [`Error::Forked`].
    pub fn flush(&self) -> Result<Csn> {
        self.core().check_home()?;
        match self.core().log_if_started() {
            None => Ok(self.core().visible.upto()),
            Some(log) => log.flush(),
        }
    }

    /// Makes a checkpoint and waits for its end; writers go on meanwhile.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::ReadOnly`], [`Error::Closed`].
    pub fn checkpoint(&self) -> Result<()> {
        self.core().check_writable()?;
        let done = self.core().progress().wait_for_next();
        // Closed meanwhile: the last checkpoint was another's.
        done.map_err(|e| self.core().check_open().err().unwrap_or(e))
    }
}

pub(crate) fn record_of(ops: &OpsBuilder, sync: bool) -> Record<'_> {
    Record {
        ops: ops.as_bytes(),
        count: ops.count(),
        check: record_check(ops.as_bytes()),
        names_extents: ops.names_extents(),
        sync,
    }
}

/// How a commit draws its CSN.
pub(super) fn stamp<'a>(
    record: &'a Record<'a>,
    appended: &'a Cell<bool>,
    condition: Option<Condition<'a>>,
) -> Stamp<'a> {
    match condition {
        None => Stamp::Append(record, appended),
        Some(condition) => Stamp::AppendIf(record, appended, condition),
    }
}

/// The claim of a commit; for each of its changes, whether it is a put.
pub(super) fn claim_of<'a>(puts: impl IntoIterator<Item = bool>) -> Claim<'a> {
    if puts.into_iter().any(|put| put) || fault!(DeletesRefusedWhenFull) {
        Claim::adding()
    } else {
        Claim::freeing()
    }
}

/// Large values of a commit that has not happened yet; given back if it does not. Once
/// the record is appended they are the commit's, also if its writer then panics.
pub(super) struct Pieces<'a> {
    pub(super) core: &'a Core,
    pub(super) written: Vec<Vec<u8>>,
    pub(super) appended: Cell<bool>,
}

impl Drop for Pieces<'_> {
    fn drop(&mut self) {
        if !self.appended.get() {
            self.written.iter().for_each(|p| self.core.drop_extents(p));
        }
    }
}

pub(super) fn commit_ops(core: &Core, ops: &[BatchOp<'_>], durability: Durability) -> Result<Csn> {
    commit_ops_if(core, ops, durability, None)
}

/// Commits sorted operations, if a condition holds.
pub(crate) fn commit_ops_if(
    core: &Core,
    ops: &[BatchOp<'_>],
    durability: Durability,
    condition: Option<Condition<'_>>,
) -> Result<Csn> {
    let block_size = core.forest.geometry.block_size;
    let mut bytes = 0;
    for op in ops {
        check_key(op.key)?;
        op.tree.check_writable()?;
        let len = op.value.map_or(0, <[u8]>::len);
        check_value(len)?;
        let stored = if len > max_inline(block_size, op.key.len()) {
            MAX_PIECES * ExtentPtr::SIZE
        } else {
            len
        };
        bytes += OpsBuilder::size_of(op.key.len(), stored);
    }
    let max = core.log().max_record();
    if bytes > max {
        return Err(Error::BatchTooLarge { len: bytes, max });
    }
    core.throttle
        .pass(core, ops.iter().all(|op| op.value.is_none()));
    let worker = core.forest.workers.mine()?;
    let _busy = worker.begin_commit(&core.forest.workers)?;

    // Lives longer than the pieces: who comes next in the lane finds their space.
    let mut claim = claim_of(ops.iter().map(|op| op.value.is_some()));
    let mut pieces = Pieces {
        core,
        written: Vec::new(),
        appended: Cell::new(false),
    };
    let mut large = Vec::new();
    for op in ops {
        let value = op.value.unwrap_or(&[]);
        let inline = value.len() <= max_inline(block_size, op.key.len());
        large.push((!inline).then_some(pieces.written.len()));
        if !inline {
            pieces
                .written
                .push(core.write_extents(&worker, &mut claim, value)?);
        }
    }
    let mut encoded = OpsBuilder::new();
    let mut changes = Vec::with_capacity(ops.len());
    for (op, large) in ops.iter().zip(&large) {
        let value = match (large, op.value) {
            (Some(i), _) => {
                let stored = &pieces.written[*i];
                let list: Vec<ExtentPtr> = crate::commit::extents(stored).collect();
                encoded.put_extents(op.tree.id, op.key, &list)?;
                Some((KIND_EXTENT, stored.as_slice()))
            }
            (None, Some(value)) => {
                encoded.put(op.tree.id, op.key, value)?;
                Some((KIND_VALUE, value))
            }
            (None, None) => {
                encoded.delete(op.tree.id, op.key)?;
                None
            }
        };
        changes.push(Change {
            tree: op.tree,
            key: op.key,
            value,
        });
    }
    let sync = durability == Durability::Sync;
    let record = record_of(&encoded, sync);
    let stamp = stamp(&record, &pieces.appended, condition);
    let (made, claim) = core.make(&worker, &changes, stamp, claim);
    drop(changes);
    drop(pieces);
    drop(claim);
    let csn = made?;
    finish(core, &worker, csn, durability)
}

pub(super) fn finish(
    core: &Core,
    worker: &Worker,
    csn: Csn,
    durability: Durability,
) -> Result<Csn> {
    if durability == Durability::Sync {
        worker
            .counters
            .waiting(Wait::Durable, || core.log().wait_durable(csn))?;
    }
    Ok(csn)
}
