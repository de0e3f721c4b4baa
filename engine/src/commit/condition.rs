//! What a commit depends on, looked at under its latches before it draws its CSN.
//!
//! `docs/transactions.md` says what must hold, how it is held, and why that is right.

use std::cell::Cell;

use gaur_iodriver::sync::thread;

use super::Change;
use crate::core::Core;
use crate::error::{Conflict, ConflictOn, Error};
use crate::format::Csn;
use crate::log::{Hold, Record, Refused};
use crate::node::Page;
use crate::read::Entry;
use crate::tree::{Leaf, TreeState};
use crate::txn::reads::{Bounds, Reads};

/// Draws that are tried before others are kept from drawing.
const OPTIMISTIC: u32 = 3;
/// Looks at what is visible before the processor is given up.
const SPINS: u32 = 100;

/// What must hold of the store when a commit draws its CSN.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Condition<'a> {
    /// The key of the only change holds this entry.
    Holds(&'a Option<Entry>),
    /// The keys of these changes, all there are, hold these entries; `None`: whatever they hold.
    Hold(&'a [Option<Option<Entry>>]),
    /// What a transaction depends on has not changed since its view.
    Unchanged(Validation<'a>),
}

/// What a transaction depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validation<'a> {
    /// The commit that it looked at. A view that it still holds open.
    pub(crate) view: Csn,
    /// What it read.
    pub(crate) reads: &'a Reads,
    /// What it writes must be as it was, too: the first committer wins.
    pub(crate) writes: bool,
    #[cfg(test)]
    pub(crate) without: Option<Part>,
}

/// Parts of the validation, each of which tests leave out to see that it is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// Waiting for commits that have drawn and are not applied yet.
    Waiting,
    /// That nobody else draws between the look and the draw.
    Condition,
}

/// Whether a test leaves this part out.
fn lacks(on: &Validation<'_>, part: Part) -> bool {
    #[cfg(test)]
    let without = on.without;
    #[cfg(not(test))]
    let (without, _) = (None, on);
    without == Some(part)
}

/// Why a commit drew no CSN. Nothing has happened.
#[derive(Debug)]
pub(super) enum NotDrawn {
    /// The log refused.
    Refused(Refused),
    /// What it depends on does not hold.
    Failed(Error),
}

impl From<Refused> for NotDrawn {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Error> for NotDrawn {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

/// A latched leaf, with the changes `from..to` that go into it.
pub(super) type Latched<'a> = (Leaf<'a>, usize, usize);

impl Core {
    /// Appends the record if the condition holds. All leaves of the changes are latched,
    /// and every change by a lower CSN to a key in them is applied and left its image.
    pub(super) fn draw_if(
        &self,
        record: &Record<'_>,
        appended: &Cell<bool>,
        condition: Condition<'_>,
        leaves: &[Latched<'_>],
        changes: &[Change<'_>],
    ) -> Result<Csn, NotDrawn> {
        let csn = match condition {
            Condition::Holds(entry) => {
                holds(leaves[0].0.page, &changes[0], entry)?;
                self.log().try_append(record)?
            }
            Condition::Hold(entries) => {
                for (leaf, from, to) in leaves {
                    for (change, entry) in changes[*from..*to].iter().zip(&entries[*from..*to]) {
                        if let Some(entry) = entry {
                            holds(leaf.page, change, entry)?;
                        }
                    }
                }
                self.log().try_append(record)?
            }
            Condition::Unchanged(on) => self.draw_validated(record, on, leaves, changes)?,
        };
        appended.set(true);
        Ok(csn)
    }

    fn draw_validated(
        &self,
        record: &Record<'_>,
        on: Validation<'_>,
        leaves: &[Latched<'_>],
        changes: &[Change<'_>],
    ) -> Result<Csn, NotDrawn> {
        if lacks(&on, Part::Whole) {
            return Ok(self.log().try_append(record)?);
        }
        on.reads.check_trees()?;
        if on.writes {
            for (leaf, from, to) in leaves {
                for change in &changes[*from..*to] {
                    self.unwritten(leaf.page, change, on.view)?;
                }
            }
        }
        let rest = self.unchanged_where_latched(on, leaves, changes)?;
        self.versions.check(on.view)?;
        if !rest {
            return Ok(self.log().try_append(record)?);
        }
        let mut looked_to = on.view;
        for turn in 0.. {
            let hold: Option<Hold<'_>> = match turn < OPTIMISTIC {
                true => None,
                false => Some(self.log().hold().ok_or(Refused::Held)?),
            };
            let last = self.last_drawn();
            if last > looked_to {
                if !lacks(&on, Part::Waiting) {
                    self.visible_soon(last);
                }
                self.unchanged(on.reads, looked_to)?;
                self.versions.check(on.view)?;
                looked_to = last;
            }
            #[cfg(test)]
            crate::txn::tests::pause();
            if lacks(&on, Part::Condition) {
                return Ok(self.log().try_append(record)?);
            }
            match self.log().try_append_after(record, last, hold.as_ref()) {
                Err(Refused::Moved) => {}
                other => return Ok(other?),
            }
        }
        unreachable!("with the hold the last CSN stands still")
    }

    /// Looks, without any promise, whether a transaction would fail: before anything is
    /// written for it.
    pub(crate) fn look_before(&self, on: &Validation<'_>) -> Result<(), Error> {
        if lacks(on, Part::Whole) {
            return Ok(());
        }
        on.reads.check_trees()?;
        self.unchanged(on.reads, on.view)?;
        self.versions.check(on.view)
    }

    /// Waits until all commits up to `last`, which was drawn, are visible, which also
    /// means that their before-images are there. These commits hold all they need, so
    /// this waits for processors only; it may be done under latches.
    fn visible_soon(&self, last: Csn) {
        let mut looks = 0;
        while !self.visible.is_visible(last) {
            looks += 1;
            if looks < SPINS {
                thread::spin();
            } else {
                thread::yield_now();
            }
        }
    }

    /// Whether no key or range that was read has an image after `since`.
    fn unchanged(&self, reads: &Reads, since: Csn) -> Result<(), Error> {
        if self.versions.is_empty() && !reads.were_cut() {
            return Ok(());
        }
        for (tree, key) in reads.points() {
            self.key_unchanged(tree, key, since, ConflictOn::Read)?;
        }
        for (tree, bounds) in reads.ranges() {
            self.range_unchanged(tree, bounds, since)?;
        }
        Ok(())
    }

    /// Looks at those reads that lie in the latched leaves. Returns whether there are
    /// others.
    fn unchanged_where_latched(
        &self,
        on: Validation<'_>,
        leaves: &[Latched<'_>],
        changes: &[Change<'_>],
    ) -> Result<bool, Error> {
        let mut rest = false;
        for (tree, key) in on.reads.points() {
            match latched(leaves, changes, tree, key) {
                Some(page) if page.csn() > on.view => {
                    self.key_unchanged(tree, key, on.view, ConflictOn::Read)?;
                }
                Some(_) => {}
                None => rest = true,
            }
        }
        for (tree, bounds) in on.reads.ranges() {
            match bounds.ends().and_then(|(lower, upper)| {
                latched(leaves, changes, tree, lower).filter(|page| page.covers(upper))
            }) {
                Some(page) if page.csn() > on.view => {
                    self.range_unchanged(tree, bounds, on.view)?;
                }
                Some(_) => {}
                None => rest = true,
            }
        }
        Ok(rest)
    }

    /// Whether nobody wrote what a change is about since `view`.
    fn unwritten(&self, page: Page<'_>, change: &Change<'_>, view: Csn) -> Result<(), Error> {
        if page.csn() <= view {
            return Ok(());
        }
        self.key_unchanged(change.tree, change.key, view, ConflictOn::Write)
    }

    fn key_unchanged(
        &self,
        tree: &TreeState,
        key: &[u8],
        since: Csn,
        on: ConflictOn,
    ) -> Result<(), Error> {
        let put = self.versions.changed(tree.id, key, since);
        match put.or_else(|| tree.cuts.changed(key, since)) {
            None => Ok(()),
            Some(csn) => Err(conflict(tree, key.to_vec(), csn, on)),
        }
    }

    fn range_unchanged(&self, tree: &TreeState, bounds: &Bounds, since: Csn) -> Result<(), Error> {
        let put = self.versions.changed_in(tree.id, bounds, since);
        match put.or_else(|| tree.cuts.changed_in(bounds, since)) {
            None => Ok(()),
            Some((key, csn)) => {
                let (lower, upper) = (bounds.lower.clone(), bounds.upper.clone());
                let on = ConflictOn::Range { lower, upper };
                Err(conflict(tree, key, csn, on))
            }
        }
    }
}

fn conflict(tree: &TreeState, key: Vec<u8>, csn: Csn, on: ConflictOn) -> Error {
    Error::Conflict(Box::new(Conflict {
        tree: tree.name().to_string(),
        key,
        csn,
        on,
    }))
}

/// Whether the change's key has this entry in its latched leaf.
fn holds(page: Page<'_>, change: &Change<'_>, entry: &Option<Entry>) -> Result<(), Error> {
    let now = crate::read::entry(page, change.key);
    if now == *entry {
        return Ok(());
    }
    let key = change.key.to_vec();
    Err(conflict(change.tree, key, page.csn(), ConflictOn::Read))
}

/// The latched leaf that covers `key`, if one of them does. The leaves are in order of
/// tree and key.
fn latched<'a>(
    leaves: &[Latched<'a>],
    changes: &[Change<'_>],
    tree: &TreeState,
    key: &[u8],
) -> Option<Page<'a>> {
    let behind = leaves.partition_point(|(_, from, _)| {
        let first = &changes[*from];
        (first.tree.id, first.key) <= (tree.id, key)
    });
    // The leaf's first change may lie on either side of the key.
    [behind.checked_sub(1), Some(behind)]
        .into_iter()
        .flatten()
        .filter_map(|i| leaves.get(i))
        .find(|(leaf, from, _)| changes[*from].tree.id == tree.id && leaf.page.covers(key))
        .map(|(leaf, ..)| leaf.page)
}
