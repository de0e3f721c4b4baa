//! Range deletes: all keys of a range, in one commit that costs what the two ways to its
//! ends cost, however much lies between.
//!
//! A range within a few leaves is deleted as by a batch: they are latched, beside each other,
//! and their records go one by one, each leaving its before-image. Any other, with the gate
//! closed:
//!
//! 1. The nodes on both ways are latched, from the node where they part. All are
//!    writable; what is missing for that was brought in, copied and reserved before.
//! 2. The CSN is drawn.
//! 3. What lies between the ways becomes a tree by itself ([`Detached`]): copies of these
//!    nodes, with the children and the records of the range. Nothing below is touched.
//! 4. That tree is made known, and then its children and records are taken out of the
//!    nodes. Each gap gets one empty child, so no fence changes, and everything fits: a
//!    node gets one entry for those it loses, and a copy covers less than the node.
//! 5. The gate opens. The empty children are merged away.
//!
//! `docs/concurrency.md` says who meets what of it.

use std::ops::Bound;
use std::sync::Arc;

use gaur_iodriver::sync::within;

use super::condition::NotDrawn;
use super::{AbortOnUnwind, Change, ReleaseOnUnwind, Stamp};
use crate::alloc::{Request, Shape};
use crate::cache::{Exclusive, FrameId, Version};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::format::{BlockNo, Csn, Generation};
use crate::log::Refused;
use crate::node::{Bounds, Child, MAX_KEY, Page};
use crate::pool::Pool;
use crate::readers::GivenUp;
use crate::shortage::Claim;
use crate::stats::Wait;
use crate::tree::detached::Detached;
use crate::tree::{Leaf, Op, TreeState, underfull};
use crate::worker::Worker;

/// Leaves up to which a range is deleted record by record: less than what cutting it out
/// writes, and leaves to be freed.
const FEW: usize = 8;

/// Sorts behind every key that there can be.
const BEHIND_ALL: [u8; MAX_KEY + 1] = [0xFF; MAX_KEY + 1];

/// Dropped trees and deleted ranges that a checkpoint has not seen, above which one is
/// asked for: it has to name them all.
const MANY: usize = 64;

/// Parts cut out of one tree and not freed yet, above which the oldest views that may keep
/// them are given up: each is named by every checkpoint, and asked by such views.
const MOST_PARTS: usize = 1024;

/// The keys from `lower` on, up to before `upper`; `None`: to the end. Some key can lie
/// in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyRange<'a> {
    pub(crate) lower: &'a [u8],
    pub(crate) upper: Option<&'a [u8]>,
}

impl KeyRange<'_> {
    /// Whether nothing of it lies behind the leaf that covers its beginning.
    fn ends_in(&self, page: Page<'_>) -> bool {
        match (self.upper, page.upper()) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(upper), Some(end)) => upper <= end.as_slice(),
        }
    }

    /// The first slot of a leaf that lies in it or behind.
    fn begin(&self, page: Page<'_>) -> usize {
        page.search(self.lower).0
    }

    /// The first slot of a leaf that lies behind it.
    fn end(&self, page: Page<'_>) -> usize {
        match self.upper {
            Some(upper) if page.covers(upper) => page.search(upper).0,
            _ => page.slots(),
        }
    }

    /// A key in the last leaf that has to do with it.
    fn last(&self) -> &[u8] {
        self.upper.unwrap_or(&BEHIND_ALL)
    }
}

/// A node on a way, latched.
#[derive(Debug)]
struct Step<'a> {
    page: Page<'a>,
    guard: Exclusive<'a>,
    /// Through which the way goes on; of a leaf, where the range begins or ends.
    slot: usize,
}

/// The two ways, from the node where they part.
#[derive(Debug)]
struct Ways<'a> {
    fork: Step<'a>,
    /// The slot of the fork through which the second way goes.
    right_slot: usize,
    /// From below the fork to the leaves.
    left: Vec<Step<'a>>,
    right: Vec<Step<'a>>,
}

/// Frames and blocks in hand, as many of both.
#[derive(Debug, Default)]
struct Spare(Vec<(FrameId, BlockNo)>);

/// The leaves that have any of a range.
enum Leaves<'a> {
    /// All of them, latched, one beside the other.
    Few(Vec<Leaf<'a>>),
    Many,
    /// They are not what they were.
    Changed,
}

/// How it ended that a range was to be cut out.
enum Outcome {
    Done(Csn),
    /// This many frames and blocks are needed.
    Wants(usize),
    /// Something on the ways is not ready, or somebody is there.
    Again,
    Refused(Refused),
}

/// An empty subtree in a gap: its least key and its level.
type Filler = (Vec<u8>, u8);

impl Core {
    /// Makes the deletion of a range one commit, as [`Core::make`] does with changes.
    pub(crate) fn delete_range<'a>(
        &'a self,
        worker: &'a Worker,
        tree: &Arc<TreeState>,
        range: KeyRange<'_>,
        stamp: Stamp<'_>,
        claim: Claim<'a>,
    ) -> (Result<Csn>, Claim<'a>) {
        let unwinding = ReleaseOnUnwind(worker);
        let mut op = Op::new(&self.forest, worker, claim);
        let done = self.delete_range_with(&mut op, tree, range, stamp);
        op.leave();
        let claim = op.claim;
        self.forest.pool.settle(worker, claim.is_short());
        std::mem::forget(unwinding);
        (done.map_err(|e| self.spread(e)), claim)
    }

    fn delete_range_with<'a>(
        &'a self,
        op: &mut Op<'a>,
        tree: &Arc<TreeState>,
        range: KeyRange<'_>,
        stamp: Stamp<'_>,
    ) -> Result<Csn> {
        loop {
            let leaves = match self.leaves(op, tree, range)? {
                Leaves::Few(leaves) => leaves,
                Leaves::Many => {
                    op.leave();
                    return self.cut_out(op, tree, range, stamp);
                }
                Leaves::Changed => {
                    op.worker.counters.restarts_batch.add(1);
                    continue;
                }
            };
            match self.delete_in(op, tree, range, stamp, leaves)? {
                Ok(csn) => return Ok(csn),
                Err(refused) => self.wait_refused(op, refused)?,
            }
        }
    }

    /// The leaves that have any of the range, latched, if there are few.
    fn leaves<'a>(
        &'a self,
        op: &mut Op<'a>,
        tree: &TreeState,
        range: KeyRange<'_>,
    ) -> Result<Leaves<'a>> {
        let leaf = op.leaf(tree, range.lower)?;
        if range.ends_in(leaf.page) {
            return Ok(Leaves::Few(vec![leaf]));
        }
        leaf.guard.release_unchanged();
        op.leave();
        let few = FEW.min(self.forest.cache.frames() / 4);
        let lower = Bound::Included(range.lower.to_vec());
        let upper = match range.upper {
            Some(upper) => Bound::Excluded(upper.to_vec()),
            None => Bound::Unbounded,
        };
        let size = self.forest.range_size(op.worker, tree, &lower, &upper)?;
        if size.leaves > few as u64 {
            return Ok(Leaves::Many);
        }
        // As a batch's: prepared one after another, and then taken in order.
        let cuts = tree.cuts.made();
        let mut prepared: Vec<(FrameId, Version, Vec<u8>)> = Vec::new();
        let mut next = Some(range.lower.to_vec());
        while let Some(key) = next {
            if prepared.len() == few {
                return Ok(Leaves::Many);
            }
            let leaf = op.leaf(tree, &key)?;
            let ends = range.ends_in(leaf.page);
            next = leaf.page.upper().filter(|_| !ends);
            prepared.push((leaf.frame, leaf.guard.version(), key));
            leaf.guard.release_unchanged();
        }
        op.enter();
        tree.check(Csn::MAX)?;
        let mut leaves: Vec<Leaf<'a>> = Vec::new();
        for (frame, version, key) in &prepared {
            let taken = op.retake(*frame, *version);
            let taken = taken.or_else(|| op.relatch(*frame, tree, key));
            leaves.extend(taken);
        }
        let beside = |two: &[Leaf<'_>]| two[0].page.upper().as_ref() == Some(&two[1].page.lower());
        let all = leaves.len() == prepared.len()
            && leaves.windows(2).all(beside)
            && leaves.last().is_some_and(|last| range.ends_in(last.page));
        if all && tree.cuts.made() == cuts {
            return Ok(Leaves::Few(leaves));
        }
        let leaves = leaves.into_iter();
        leaves.for_each(|leaf| leaf.guard.release_unchanged());
        Ok(Leaves::Changed)
    }

    /// Deletes what lies in these leaves, one record after the other.
    fn delete_in(
        &self,
        op: &mut Op<'_>,
        tree: &TreeState,
        range: KeyRange<'_>,
        stamp: Stamp<'_>,
        leaves: Vec<Leaf<'_>>,
    ) -> Result<Result<Csn, Refused>> {
        let csn = match self.draw(stamp, &[], &[]) {
            Ok(csn) => csn,
            Err(not) => {
                let leaves = leaves.into_iter();
                leaves.for_each(|leaf| leaf.guard.release_unchanged());
                return match not {
                    NotDrawn::Refused(refused) => Ok(Err(refused)),
                    NotDrawn::Failed(e) => Err(e),
                };
            }
        };
        let _site = within("apply");
        let unwinding = AbortOnUnwind;
        let watched = self.forest.workers.oldest_view().is_some();
        let mut emptied = Vec::new();
        for (i, leaf) in leaves.iter().enumerate() {
            let page = leaf.page;
            let from = if i == 0 { range.begin(page) } else { 0 };
            let to = range.end(page);
            for slot in (from..to).rev() {
                let key = page.key(slot);
                let change = Change {
                    tree,
                    key: &key,
                    value: None,
                };
                self.apply(op.worker, page, &change, csn, watched);
            }
            page.set_csn(csn);
            if from < to && underfull(page) {
                emptied.push(page.lower());
            }
        }
        drop(leaves);
        self.visible.applied(csn);
        std::mem::forget(unwinding);
        op.worker.counters.commits.add(1);
        op.worker.counters.ops.add(1);
        for key in emptied {
            op.merge_leaf(tree, &key);
        }
        Ok(Ok(csn))
    }

    /// Deletes a range that lies in many leaves. Nothing is held.
    fn cut_out<'a>(
        &'a self,
        op: &mut Op<'a>,
        tree: &Arc<TreeState>,
        range: KeyRange<'_>,
        stamp: Stamp<'_>,
    ) -> Result<Csn> {
        if op.claim.is_short() {
            // Who has the lock that follows may wait for the lane.
            self.forest.pool.settle(op.worker, true);
            op.claim.leave_lane();
        }
        // One at a time holds frames that it does not use yet.
        let _one = self.creating.lock();
        let mut spare = Spare::default();
        let done = self.cut_out_with(op, tree, range, stamp, &mut spare);
        op.leave();
        for (frame, block) in spare.0 {
            self.forest.cache.put_back(frame);
            Pool::keep(op.worker, block);
        }
        let (csn, fillers) = done?;
        // The gaps, and then what is left of the nodes beside them.
        let c = &op.worker.counters;
        c.commits.add(1);
        c.ops.add(1);
        for (key, level) in &fillers {
            op.merge_down(tree, key, *level);
        }
        Ok(csn)
    }

    fn cut_out_with<'a>(
        &'a self,
        op: &mut Op<'a>,
        tree: &Arc<TreeState>,
        range: KeyRange<'_>,
        stamp: Stamp<'_>,
        spare: &mut Spare,
    ) -> Result<(Csn, Vec<Filler>)> {
        let mut want = 8;
        // Once, for what the tree of trees says of it until all of it is free.
        let room = self.forest.claim(op.worker, &mut op.claim, |urgency| {
            self.forest.pool.allocator().reserve(Request {
                blocks: 1,
                shape: Shape::Nodes,
                hint: 0,
                urgency,
            })
        })?;
        self.for_catalog.lock().extend(room);
        let workers = &self.forest.workers;
        loop {
            self.take_spare(op, want, spare)?;
            for key in [range.lower, range.last()] {
                op.leaf(tree, key)?.guard.release_unchanged();
            }
            op.leave();
            let turn = workers.turn();
            workers.close();
            let mut fillers = Vec::new();
            let done = self.cut_closed(op.worker, tree, range, stamp, spare, &mut fillers);
            workers.open();
            drop(turn);
            match done? {
                Outcome::Done(csn) => {
                    if self.trees.lock().dropped() > MANY {
                        self.progress().ask();
                    }
                    self.bound_parts(tree);
                    return Ok((csn, fillers));
                }
                Outcome::Wants(n) => want = want.max(n),
                Outcome::Again => {}
                Outcome::Refused(refused) => self.wait_refused(op, refused)?,
            }
        }
    }

    /// Gives up the oldest views if too many parts are kept for them.
    fn bound_parts(&self, tree: &TreeState) {
        let parts = tree.cuts.all();
        if parts.len() > MOST_PARTS {
            let csn = parts[parts.len() / 2].csn;
            self.versions.raise_floor(csn);
            self.forest.pins.lose_images(csn);
            self.readers.tell_given_up(self, GivenUp::Memory);
        }
    }

    /// Has `want` frames and blocks in hand.
    fn take_spare<'a>(&'a self, op: &mut Op<'a>, want: usize, spare: &mut Spare) -> Result<()> {
        let most = self.forest.cache.frames() / 4;
        if want > most {
            return Err(Error::BatchTooWide { max: most });
        }
        while spare.0.len() < want {
            op.leave();
            let need = (want - spare.0.len()) as u64;
            self.forest.claim(op.worker, &mut op.claim, |urgency| {
                self.forest.pool.reserve(op.worker, need, 0, urgency)
            })?;
            while spare.0.len() < want
                && let Some([frame]) = op.frames()?
            {
                let Some(block) = Pool::take_stashed(op.worker) else {
                    self.forest.cache.put_back(frame);
                    break;
                };
                spare.0.push((frame, block));
            }
        }
        Ok(())
    }

    /// What the log asks for, before the commit is tried again.
    fn wait_refused(&self, op: &mut Op<'_>, refused: Refused) -> Result<()> {
        op.leave();
        let c = &op.worker.counters;
        match refused {
            Refused::Full => {
                c.restarts_log.add(1);
                self.progress().ask();
                c.waiting(Wait::LogSpace, || self.log().wait_space())
            }
            Refused::Held => {
                c.restarts_held.add(1);
                c.waiting(Wait::Hold, || self.log().wait_hold());
                Ok(())
            }
            _ => Err(self.stopped_error()),
        }
    }

    /// Cuts the range out. The gate is closed.
    fn cut_closed(
        &self,
        worker: &Worker,
        tree: &Arc<TreeState>,
        range: KeyRange<'_>,
        stamp: Stamp<'_>,
        spare: &mut Spare,
        fillers: &mut Vec<Filler>,
    ) -> Result<Outcome> {
        let _site = within("range delete");
        tree.check(Csn::MAX)?;
        let running = self.forest.running();
        let Some(ways) = self.ways(tree, range, running) else {
            return Ok(Outcome::Again);
        };
        let needs = ways.needs();
        if needs > spare.0.len() {
            ways.release_unchanged();
            return Ok(Outcome::Wants(needs));
        }
        let csn = match self.draw(stamp, &[], &[]) {
            Ok(csn) => csn,
            Err(not) => {
                ways.release_unchanged();
                return match not {
                    NotDrawn::Refused(refused) => Ok(Outcome::Refused(refused)),
                    NotDrawn::Failed(e) => Err(e),
                };
            }
        };
        let unwinding = AbortOnUnwind;
        let mut cut = Cutting {
            core: self,
            worker,
            tree,
            running,
            csn,
            spare,
        };
        let part = cut.part(&ways);
        part.set_dropped(csn);
        tree.cuts.add(Arc::new(Detached {
            csn,
            lower: range.lower.to_vec(),
            upper: range.upper.map(<[u8]>::to_vec),
            tree: part.clone(),
        }));
        let level = ways.fork.page.level() - 1;
        cut.take_out(&ways, fillers);
        fillers.extend([range.lower, range.last()].map(|key| (key.to_vec(), level)));
        drop(ways);
        self.shelf.lock().depend(tree.origin);
        self.trees.lock().detach(part);
        self.reclaiming.begin(1);
        self.visible.applied(csn);
        std::mem::forget(unwinding);
        Ok(Outcome::Done(csn))
    }

    /// Latches the ways to both ends from where they part; `None`: a node is not in
    /// memory, not writable, or somebody has it, or the ways do not part.
    fn ways<'a>(
        &'a self,
        tree: &TreeState,
        range: KeyRange<'_>,
        running: Generation,
    ) -> Option<Ways<'a>> {
        let cache = &self.forest.cache;
        // Changed are only pointers' checksums and hints, by those who hold the parent.
        let writable = |child: Child| -> Option<(FrameId, Page<'a>)> {
            let id = child.hint.checked_sub(1)?;
            let frame = cache.frame(id);
            (frame.holds(child.ptr) && frame.writable(running)).then(|| (id, cache.page(id)))
        };
        let mut child = tree.anchor.child();
        let (id, page, slots) = loop {
            let (id, page) = writable(child)?;
            if page.level() == 0 {
                return None;
            }
            let slots = (page.child_slot(range.lower), page.child_slot(range.last()));
            if slots.0 < slots.1 {
                break (id, page, slots);
            }
            child = page.child(slots.0);
        };
        let latched = |guards: &mut Vec<Step<'a>>, mut child: Child, key: &[u8]| -> Option<()> {
            loop {
                let (id, page) = writable(child)?;
                let guard = cache.frame(id).latch.lock_soon()?;
                let inner = page.level() > 0;
                let slot = match inner {
                    true => page.child_slot(key),
                    false => page.search(key).0,
                };
                guards.push(Step { page, guard, slot });
                if !inner {
                    return Some(());
                }
                child = page.child(slot);
            }
        };
        let fork = Step {
            page,
            guard: cache.frame(id).latch.lock_soon()?,
            slot: slots.0,
        };
        let mut ways = Ways {
            fork,
            right_slot: slots.1,
            left: Vec::new(),
            right: Vec::new(),
        };
        let (left, right) = (page.child(slots.0), page.child(slots.1));
        let both = latched(&mut ways.left, left, range.lower)
            .and_then(|()| latched(&mut ways.right, right, range.last()));
        if both.is_none() {
            ways.release_unchanged();
            return None;
        }
        Some(ways)
    }
}

impl Ways<'_> {
    fn release_unchanged(self) {
        let steps = self.left.into_iter().chain(self.right);
        steps
            .chain([self.fork])
            .for_each(|step| step.guard.release_unchanged());
    }

    /// How many nodes it takes to cut out what lies between.
    fn needs(&self) -> usize {
        let level = |s: &Step<'_>| usize::from(s.page.level());
        let left = self.left.iter().filter(|s| s.slot + 1 < s.page.slots());
        let right = self.right.iter().filter(|s| s.slot > 0);
        let fork = if self.right_slot - self.fork.slot > 1 {
            level(&self.fork)
        } else {
            0
        };
        let copies = 1 + self.left.len() + self.right.len();
        copies + fork + left.map(level).sum::<usize>() + right.map(level).sum::<usize>()
    }
}

/// A range that is being cut out.
#[derive(Debug)]
struct Cutting<'a, 's> {
    core: &'a Core,
    worker: &'a Worker,
    tree: &'a Arc<TreeState>,
    running: Generation,
    csn: Csn,
    spare: &'s mut Spare,
}

impl Cutting<'_, '_> {
    /// A new node that `fill` makes.
    fn node(&mut self, fill: impl FnOnce(Page<'_>)) -> Child {
        let (frame, block) = self.spare.0.pop().expect("as many as are needed");
        let cache = &self.core.forest.cache;
        // Only who has a stale hint can be there, for a moment.
        let guard = cache.frame(frame).latch.lock();
        fill(cache.page(frame));
        let forest = &self.core.forest;
        let child = forest.adopt(self.worker, (frame, block), self.running, 1);
        drop(guard);
        child
    }

    /// What lies between the ways, as a tree: it has the nodes on them with what they
    /// have of the range, and all below.
    fn part(&mut self, ways: &Ways<'_>) -> Arc<TreeState> {
        let lower = ways.left.last().map(|s| s.page.lower());
        let upper = ways.right.last().and_then(|s| s.page.upper());
        let bounds = Bounds {
            lower: lower.expect("a fork is no leaf"),
            upper,
        };
        let mut left: Option<Child> = None;
        for step in ways.left.iter().rev() {
            let upper = step.page.upper();
            let lower = bounds.lower.clone();
            left = Some(
                self.copy(step.page, Bounds { lower, upper }, left, None, |slots| {
                    step.slot + usize::from(left.is_some())..slots
                }),
            );
        }
        let mut right: Option<Child> = None;
        for step in ways.right.iter().rev() {
            let lower = step.page.lower();
            let upper = bounds.upper.clone();
            let path = right.map(|child| (step.slot, child));
            right = Some(
                self.copy(step.page, Bounds { lower, upper }, None, path, |_| {
                    0..step.slot
                }),
            );
        }
        let path = right.map(|child| (ways.right_slot, child));
        let between = ways.fork.slot + 1..ways.right_slot;
        let root = self.copy(ways.fork.page, bounds.clone(), left, path, |_| between);
        Arc::new(TreeState::part(self.tree, root, bounds))
    }

    /// A node with some slots of another, within these bounds: before them the child
    /// `first`, behind them, at the key of its slot, the child `last`.
    fn copy(
        &mut self,
        from: Page<'_>,
        bounds: Bounds,
        first: Option<Child>,
        last: Option<(usize, Child)>,
        slots: impl FnOnce(usize) -> std::ops::Range<usize>,
    ) -> Child {
        let (id, store) = (self.tree.id, self.core.forest.store);
        let key = |slot: usize| match slot {
            0 => from.lower(),
            slot => from.key(slot),
        };
        self.node(|to| {
            to.init(from.level(), id, store, from.csn(), &bounds);
            if let Some(child) = first {
                to.insert_child(0, &bounds.lower, child);
            }
            for slot in slots(from.slots()) {
                match from.level() {
                    0 => to.append_from(from, slot),
                    _ => to.insert_child(to.slots(), &key(slot), from.child(slot)),
                }
            }
            if let Some((slot, child)) = last {
                to.insert_child(to.slots(), &key(slot), child);
            }
        })
    }

    /// Takes the range out of the nodes on the ways.
    fn take_out(&mut self, ways: &Ways<'_>, fillers: &mut Vec<Filler>) {
        let left = |s: &Step<'_>| s.slot + usize::from(s.page.level() > 0);
        let steps = ways.left.iter().map(|s| (s, left(s), s.page.slots()));
        let fork = [(&ways.fork, ways.fork.slot + 1, ways.right_slot)];
        let right = ways.right.iter().map(|s| (s, 0, s.slot));
        for (step, from, to) in steps.chain(fork).chain(right) {
            let page = step.page;
            if page.level() == 0 {
                (from..to).rev().for_each(|slot| page.remove(slot));
                page.set_csn(self.csn);
                continue;
            }
            if from >= to {
                continue;
            }
            let bounds = Bounds {
                lower: if from == 0 {
                    page.lower()
                } else {
                    page.key(from)
                },
                upper: if to < page.slots() {
                    Some(page.key(to))
                } else {
                    page.upper()
                },
            };
            (from..to).rev().for_each(|slot| page.remove(slot));
            let filler = self.filler(page.level() - 1, &bounds);
            page.insert_child(from, &bounds.lower, filler);
            fillers.push((bounds.lower, page.level() - 1));
        }
    }

    /// An empty subtree.
    fn filler(&mut self, level: u8, bounds: &Bounds) -> Child {
        let (id, store, csn) = (self.tree.id, self.core.forest.store, self.csn);
        let mut child = self.node(|page| page.init(0, id, store, csn, bounds));
        for level in 1..=level {
            let below = child;
            child = self.node(|page| {
                page.init(level, id, store, csn, bounds);
                page.insert_child(0, &bounds.lower, below);
            });
        }
        child
    }
}
