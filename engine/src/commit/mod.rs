//! Commits: prepare the leaves, draw the CSN, apply.
//!
//! 1. *Prepare* (may wait, holds nothing while it does): bring the leaves in, make
//!    them writable, see that there is room.
//! 2. *Latch* all leaves, in key order, and look again. If one is no longer ready,
//!    or not free at once, release all and prepare again.
//! 3. *Append* to the log, which draws the CSN. If the log refuses, release all,
//!    wait, begin again; nothing has happened.
//! 4. *Apply* to the latched leaves. This cannot fail: room, blocks and frames
//!    are there. Release; visible once all lower commits are.
//!
//! Steps 2 to 4 are inside the generation gate and wait for nothing. (A single
//! leaf stays latched from step 1 on.)
//! Since all leaves of a commit stay latched from before its CSN is drawn until it
//! is applied, the log's order and the order of conflicting changes are one, and
//! no reader meets half a commit.

pub(crate) mod batch;
pub(crate) mod condition;
pub(crate) mod pin;
pub(crate) mod range;
pub(crate) mod versions;
pub(crate) mod view;
pub(crate) mod visible;

use std::cell::Cell;

use gaur_iodriver::fault;
use gaur_iodriver::sync::within;

use crate::cache::{FrameId, Version};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::node::KIND_EXTENT;
use crate::format::{Csn, ExtentPtr};
use crate::log::{Record, Refused};
use crate::node::{Incoming, Page, entry_words};
use crate::pool::Pool;
use crate::shortage::Claim;
use crate::stats::Wait;
use crate::tree::{GROUP, Leaf, Op, TreeState, underfull};
use crate::worker::{Freed, Worker};
use crate::writeback::evict::collect_versions;
use condition::{Condition, Latched, NotDrawn};

/// One change to one key, as it goes into a leaf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    pub(crate) tree: &'a TreeState,
    pub(crate) key: &'a [u8],
    /// Entry kind and stored value; `None`: delete.
    pub(crate) value: Option<(u8, &'a [u8])>,
}

/// Where the CSN comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stamp<'a> {
    /// A new commit: append this record. Says so as soon as it is appended: from then
    /// on what it names is in use, whatever happens to the caller.
    Append(&'a Record<'a>, &'a Cell<bool>),
    /// The same, if a condition holds.
    AppendIf(&'a Record<'a>, &'a Cell<bool>, Condition<'a>),
    /// Replay: it is in the log already.
    Replay(Csn),
}

/// Leaf of a batch, prepared: the changes `from..to` go into `frame`.
#[derive(Clone, Copy, Debug)]
struct Group {
    frame: FrameId,
    /// At which it was ready.
    version: Version,
    from: usize,
    to: usize,
    /// How often something was cut out of its tree by then.
    cuts: u64,
}

impl Group {
    /// Lets go of the leaf.
    fn of(leaf: Leaf<'_>, tree: &TreeState, from: usize, to: usize) -> Self {
        let cuts = tree.cuts.made();
        let (frame, version) = (leaf.frame, leaf.guard.version());
        leaf.guard.release_unchanged();
        Self {
            frame,
            version,
            from,
            to,
            cuts,
        }
    }
}

/// Ends the process if it is dropped: between drawing a CSN and applying the commit
/// nothing fails but by our own bug, and then a crash, which recovery mends, is
/// better than leaves changed by half.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        eprintln!("gaur: a commit could not be applied; aborting, the next open recovers");
        std::process::abort();
    }
}

/// Has a panicking writer's stash recalled by others, as if its operation had ended.
struct ReleaseOnUnwind<'a>(&'a Worker);

impl Drop for ReleaseOnUnwind<'_> {
    fn drop(&mut self) {
        Pool::release(self.0);
    }
}

impl Core {
    /// Makes the changes, which are sorted by tree and key without repetition, one
    /// commit. Returns its CSN; it is visible then, and durable when the log says.
    ///
    /// # Errors
    /// Before anything is logged: nothing has happened, and what was reserved is
    /// given back. The claim, and with it the lane, is the caller's to end.
    pub(crate) fn make<'a>(
        &'a self,
        worker: &'a Worker,
        changes: &[Change<'_>],
        stamp: Stamp<'_>,
        claim: Claim<'a>,
    ) -> (Result<Csn>, Claim<'a>) {
        let unwinding = ReleaseOnUnwind(worker);
        let mut op = Op::new(&self.forest, worker, claim);
        let done = self.make_with(&mut op, changes, stamp);
        op.leave();
        let claim = op.claim;
        self.forest.pool.settle(worker, claim.is_short());
        std::mem::forget(unwinding);
        if self.versions.is_over() {
            collect_versions(self);
        }
        (done.map_err(|e| self.spread(e)), claim)
    }

    fn make_with(&self, op: &mut Op<'_>, changes: &[Change<'_>], stamp: Stamp<'_>) -> Result<Csn> {
        loop {
            let Some(mut leaves) = self.ready(op, changes)? else {
                continue;
            };
            let csn = match self.draw(stamp, &leaves, changes) {
                Ok(csn) => csn,
                Err(NotDrawn::Refused(Refused::Full)) => {
                    leaves
                        .drain(..)
                        .for_each(|(l, ..)| l.guard.release_unchanged());
                    op.leave();
                    op.worker.counters.restarts_log.add(1);
                    self.progress().ask();
                    op.worker
                        .counters
                        .waiting(Wait::LogSpace, || self.log().wait_space())?;
                    continue;
                }
                Err(NotDrawn::Refused(Refused::Held)) => {
                    leaves
                        .drain(..)
                        .for_each(|(l, ..)| l.guard.release_unchanged());
                    op.leave();
                    op.worker.counters.restarts_held.add(1);
                    op.worker
                        .counters
                        .waiting(Wait::Hold, || self.log().wait_hold());
                    continue;
                }
                Err(not) => {
                    leaves
                        .drain(..)
                        .for_each(|(l, ..)| l.guard.release_unchanged());
                    return Err(match not {
                        NotDrawn::Failed(e) => e,
                        NotDrawn::Refused(refused) => {
                            assert_eq!(
                                refused,
                                Refused::Stopped,
                                "a batch's size is checked before it is made"
                            );
                            self.stopped_error()
                        }
                    });
                }
            };
            let _site = within("apply");
            // A commit that is drawn and never applied would hide all later ones.
            let unwinding = AbortOnUnwind;
            #[cfg(test)]
            crate::txn::tests::pause();
            // After the CSN was drawn: a view that opened before does not see it.
            let watched =
                self.forest.workers.oldest_view().is_some() && !fault!(BeforeImageNotKept);
            #[cfg(faults)]
            if fault!(LatchReleasedEarly) {
                leaves.iter().for_each(|(l, ..)| l.guard.release_early());
                gaur_iodriver::sync::thread::yield_now();
            }
            let mut emptied = Vec::new();
            for (leaf, from, to) in &leaves {
                for change in &changes[*from..*to] {
                    self.apply(op.worker, leaf.page, change, csn, watched);
                }
                if !fault!(LeafCsnNotNoted) {
                    leaf.page.set_csn(csn);
                }
                if changes[*to - 1].value.is_none() && underfull(leaf.page) {
                    emptied.push(*to - 1);
                }
            }
            drop(leaves);
            self.visible.applied(csn);
            std::mem::forget(unwinding);
            let c = &op.worker.counters;
            c.commits.add(1);
            c.ops.add(changes.len() as u64);
            for i in emptied {
                op.merge_leaf(changes[i].tree, changes[i].key);
            }
            return Ok(csn);
        }
    }

    /// All leaves latched and ready for their changes; `None`: begin again.
    fn ready<'a>(
        &self,
        op: &mut Op<'a>,
        changes: &[Change<'_>],
    ) -> Result<Option<Vec<(Leaf<'a>, usize, usize)>>> {
        let mut ahead = self.look_ahead(op, changes, 0)?;
        let mut warm = self.warm(changes, 0);
        let (leaf, to) = self.prepare(op, changes, 0)?;
        if to == changes.len() {
            return Ok(Some(vec![(leaf, 0, to)]));
        }
        let mut groups = vec![Group::of(leaf, changes[0].tree, 0, to)];
        while let Some(from) = groups.last().map(|g| g.to).filter(|&to| to < changes.len()) {
            let most = self.forest.cache.frames() / 4;
            if groups.len() > most {
                return Err(Error::BatchTooWide { max: most });
            }
            op.ahead = (changes.len() - from) as u64;
            if from >= ahead {
                ahead = self.look_ahead(op, changes, from)?;
            }
            if from >= warm {
                warm = self.warm(changes, from);
            }
            let (leaf, to) = self.prepare(op, changes, from)?;
            groups.push(Group::of(leaf, changes[from].tree, from, to));
        }
        op.enter();
        // None is dropped from here to the end of the commit.
        for g in &groups {
            changes[g.from].tree.check(Csn::MAX)?;
        }
        // A leaf that was cut out stands as it was, and is its tree's no more.
        if groups
            .iter()
            .any(|g| g.cuts != changes[g.from].tree.cuts.made())
        {
            op.worker.counters.restarts_batch.add(1);
            return Ok(None);
        }
        let mut leaves: Vec<(Leaf<'a>, usize, usize)> = Vec::with_capacity(groups.len());
        for (i, g) in groups.iter().enumerate() {
            if let Some(soon) = groups.get(i + GROUP / 2) {
                self.forest.cache.prefetch(soon.frame);
            }
            let leaf = op.retake(g.frame, g.version).or_else(|| {
                let mine = &changes[g.from..g.to];
                let leaf = op.relatch(g.frame, mine[0].tree, mine[0].key)?;
                if leaf.page.covers(mine[mine.len() - 1].key) && has_room(leaf.page, mine) {
                    return Some(leaf);
                }
                leaf.guard.release_unchanged();
                None
            });
            match leaf {
                Some(leaf) => leaves.push((leaf, g.from, g.to)),
                None => {
                    leaves
                        .drain(..)
                        .for_each(|(l, ..)| l.guard.release_unchanged());
                    op.worker.counters.restarts_batch.add(1);
                    return Ok(None);
                }
            }
        }
        Ok(Some(leaves))
    }

    /// Reads what the next changes will need in one go; returns up to which. Only
    /// while this worker meets misses at all: looking costs a descent a key.
    fn look_ahead(&self, op: &mut Op<'_>, changes: &[Change<'_>], from: usize) -> Result<usize> {
        if changes.len() - from < 2 || !op.worker.missed_lately() {
            return Ok(changes.len());
        }
        op.leave();
        let to = changes.len().min(from + 4 * self.forest.read_ahead());
        let keys = changes[from..to].iter().map(|c| (c.tree, c.key));
        self.forest.prefetch_keys(op.worker, keys)?;
        Ok(to)
    }

    /// Has the next leaves come into the processor's caches; returns up to which.
    fn warm(&self, changes: &[Change<'_>], from: usize) -> usize {
        let to = changes.len().min(from + GROUP);
        if to - from > 1 {
            self.forest
                .warm(changes[from..to].iter().map(|c| (c.tree, c.key)));
        }
        to
    }

    /// The latched leaf for change `from`, with room for it and for those behind it
    /// that go to the same leaf, up to `to`.
    fn prepare<'a>(
        &self,
        op: &mut Op<'a>,
        changes: &[Change<'_>],
        from: usize,
    ) -> Result<(Leaf<'a>, usize)> {
        let Change { tree, key, .. } = changes[from];
        loop {
            let leaf = op.leaf(tree, key)?;
            let to = if changes.len() == from + 1 {
                from + 1
            } else {
                let same = |c: &Change<'_>| c.tree.id == tree.id && leaf.page.covers(c.key);
                from + 1 + changes[from + 1..].partition_point(same)
            };
            let mine = &changes[from..to];
            if has_room(leaf.page, mine) {
                return Ok((leaf, to));
            }
            leaf.guard.release_unchanged();
            let incoming: Vec<Incoming<'_>> = mine
                .iter()
                .filter_map(|c| {
                    c.value.map(|(_, v)| Incoming {
                        key: c.key,
                        value_len: v.len(),
                    })
                })
                .collect();
            op.split(tree, key, 0, &incoming)?;
        }
    }

    fn draw(
        &self,
        stamp: Stamp<'_>,
        leaves: &[Latched<'_>],
        changes: &[Change<'_>],
    ) -> Result<Csn, NotDrawn> {
        match stamp {
            Stamp::Append(record, appended) => {
                let csn = self.log().try_append(record)?;
                appended.set(true);
                Ok(csn)
            }
            Stamp::AppendIf(record, appended, condition) => {
                self.draw_if(record, appended, condition, leaves, changes)
            }
            Stamp::Replay(csn) => Ok(csn),
        }
    }

    /// Changes a latched leaf that has room.
    fn apply(&self, worker: &Worker, page: Page<'_>, change: &Change<'_>, csn: Csn, watched: bool) {
        let (pos, found) = page.search(change.key);
        let old_kind = found.then(|| page.entry(pos).kind);
        if watched || old_kind == Some(KIND_EXTENT) {
            let image = old_kind.map(|kind| {
                let mut value = Vec::new();
                page.copy_value(pos, &mut value);
                (kind, value)
            });
            if let Some((KIND_EXTENT, pieces)) = &image {
                let block_size = self.forest.geometry.block_size;
                let mut journal = worker.journal.lock();
                extents(pieces)
                    .filter(|e| change.tree.owns(e.birth))
                    .for_each(|e| journal.free_extent(csn, Freed::piece(&e, block_size)));
            }
            // Deleting what is not there changes nothing.
            if watched && (found || change.value.is_some()) {
                worker.counters.before_images.add(1);
                self.versions.keep(change.tree.id, change.key, csn, image);
            }
        }
        match change.value {
            Some((kind, value)) => {
                if kind == KIND_EXTENT {
                    change.tree.has_large();
                    let block_size = self.forest.geometry.block_size;
                    let mut journal = worker.journal.lock();
                    journal
                        .used
                        .extend(extents(value).map(|e| e.run(block_size)));
                }
                if found {
                    page.replace(pos, kind, value);
                } else {
                    page.insert(pos, change.key, kind, value);
                }
            }
            None if found => page.remove(pos),
            None => {}
        }
    }

    /// Gives a worker's stash back, for an exact account.
    pub(crate) fn empty_stashes(&self) {
        for w in self.forest.workers.all() {
            if Pool::stashed(w) > 0 {
                self.forest.pool.give_back(w, 0);
            }
        }
    }

    /// The error for whoever comes after the store has stopped.
    pub(crate) fn stopped_error(&self) -> Error {
        self.progress()
            .stopped()
            .map(Error::Stopped)
            .or_else(|| self.log().stopped())
            .unwrap_or(Error::Closed)
    }
}

/// The pieces of a large value.
pub(crate) fn extents(value: &[u8]) -> impl Iterator<Item = ExtentPtr> + '_ {
    value.chunks(ExtentPtr::SIZE).filter_map(ExtentPtr::decode)
}

/// Whether all changes, in their order, fit into the leaf.
fn has_room(page: Page<'_>, changes: &[Change<'_>]) -> bool {
    let free = page.free_words() as isize;
    let mut taken = 0isize;
    for c in changes {
        let (pos, found) = page.search(c.key);
        let old = if found {
            page.entry(pos).words() as isize
        } else {
            0
        };
        match c.value {
            Some((_, v)) => {
                let new = entry_words(c.key.len() - page.prefix_len(), v.len()) as isize;
                taken += new + isize::from(!found) - old;
                if taken > free {
                    return false;
                }
            }
            None => taken -= old + isize::from(found),
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use gaur_iodriver::{SimDisk, SimOptions};

    use super::*;
    use crate::alloc::Urgency;
    use crate::{FormatOptions, OpenOptions, Store};

    #[test]
    fn what_a_panicking_writer_reserved_is_recalled() {
        let disk = SimDisk::new(SimOptions {
            capacity: 32 << 20,
            ..SimOptions::default()
        });
        Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
        let store = Store::open_device(disk.device(), &OpenOptions::default()).unwrap();
        let forest = &store.core().forest;
        let worker = forest.workers.mine().unwrap();
        let reserve = || forest.pool.reserve(&worker, 20, 0, Urgency::Normal);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let _unwinding = ReleaseOnUnwind(&worker);
            reserve().unwrap();
            assert_eq!(forest.pool.recall(&worker, &forest.workers), 0);
            std::panic::resume_unwind(Box::new("a writer's"));
        }));
        assert!(ended.is_err());
        assert!(forest.pool.recall(&worker, &forest.workers) >= 20);
    }
}
