//! Reading: points, and the values behind pointers.

use std::sync::Arc;

use gaur_iodriver::{IoBuf, fault};

use crate::commit::extents;
use crate::commit::view::View;
use crate::core::Core;
use crate::error::{Damage, Error, Result};
use crate::format::Csn;
use crate::format::node::KIND_EXTENT;
use crate::large::Verifier;
use crate::node::Page;
use crate::stats::Wait;
use crate::tree::{Carry, Found, Toward, TreeState};
use crate::worker::Worker;

/// An entry as a leaf stores it: kind and bytes.
pub(crate) type Entry = (u8, Vec<u8>);

/// What a key holds: its entry, and the value if that is large.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) entry: Option<Entry>,
    large: Option<Vec<u8>>,
}

impl Current {
    pub(crate) fn value(&self) -> Option<&[u8]> {
        let stored = || self.entry.as_ref().map(|e| e.1.as_slice());
        self.large.as_deref().or_else(stored)
    }

    pub(crate) fn into_value(self) -> Option<Vec<u8>> {
        self.large.or(self.entry.map(|e| e.1))
    }
}

/// The entry of `key` in a leaf.
pub(crate) fn entry(page: Page<'_>, key: &[u8]) -> Option<Entry> {
    let (pos, found) = page.search(key);
    found.then(|| {
        let mut value = Vec::new();
        page.copy_value(pos, &mut value);
        (page.entry(pos).kind, value)
    })
}

impl Core {
    /// The newest visible value of `key`.
    pub(crate) fn get(
        &self,
        worker: &Worker,
        tree: &TreeState,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        Ok(self.current(worker, tree, key)?.into_value())
    }

    /// The newest visible entry of `key`, with its value.
    pub(crate) fn current(&self, worker: &Worker, tree: &TreeState, key: &[u8]) -> Result<Current> {
        worker.counters.gets.add(1);
        let current = self.read_current(worker, tree, key);
        tree.check(Csn::MAX)?;
        current
    }

    fn read_current(&self, worker: &Worker, tree: &TreeState, key: &[u8]) -> Result<Current> {
        loop {
            let entry = self.lookup(worker, tree, key)?;
            let Some((KIND_EXTENT, pieces)) = &entry else {
                return Ok(Current { entry, large: None });
            };
            match self.read_extents(tree, pieces) {
                Ok(whole) => {
                    let large = Some(whole);
                    return Ok(Current { entry, large });
                }
                // The value may have been replaced and its blocks used again while
                // we read. It is damage only if the leaf still names them.
                Err(Error::Damaged(damage)) => {
                    if self.lookup(worker, tree, key)? == entry {
                        return Err(Error::Damaged(damage));
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Whether `key` is there.
    pub(crate) fn contains(&self, worker: &Worker, tree: &TreeState, key: &[u8]) -> Result<bool> {
        worker.counters.gets.add(1);
        let entry = self.lookup(worker, tree, key);
        tree.check(Csn::MAX)?;
        Ok(entry?.is_some())
    }

    /// The value of `key` at the commit that an open view looks at.
    pub(crate) fn get_at(
        &self,
        worker: &Worker,
        tree: &Arc<TreeState>,
        key: &[u8],
        view: &View,
    ) -> Result<Option<Vec<u8>>> {
        match self.lookup_at(worker, tree, key, view)? {
            // The view keeps the extents from being used again.
            Some((KIND_EXTENT, pieces)) => {
                let value = self.read_extents(tree, &pieces);
                self.check_view(view)?;
                value.map(Some)
            }
            entry => Ok(entry.map(|(_, value)| value)),
        }
    }

    /// Whether `key` is there at the commit that an open view looks at.
    pub(crate) fn contains_at(
        &self,
        worker: &Worker,
        tree: &Arc<TreeState>,
        key: &[u8],
        view: &View,
    ) -> Result<bool> {
        Ok(self.lookup_at(worker, tree, key, view)?.is_some())
    }

    /// The entry of `key` at the commit that an open view looks at.
    pub(crate) fn lookup_at(
        &self,
        worker: &Worker,
        tree: &Arc<TreeState>,
        key: &[u8],
        view: &View,
    ) -> Result<Option<Entry>> {
        worker.counters.gets.add(1);
        tree.anchor.check_since(view.csn())?;
        loop {
            let reads = view.reads(&self.forest.pins);
            let unwritten = reads.is_unwritten();
            let since = (view.csn(), reads.upto());
            let entry = match self.seen(tree, reads) {
                Some(seen) => self.entry_at(worker, tree, seen, key, since),
                None => Ok(None),
            };
            // If it was pinned meanwhile, images may be missing.
            if reads.is_running() && !view.reads(&self.forest.pins).is_running() {
                continue;
            }
            if unwritten && matches!(entry, Err(Error::Damaged(_))) && self.is_written_now(reads) {
                continue;
            }
            tree.check(view.csn())?;
            self.check_view(view)?;
            return entry;
        }
    }

    /// The entry of `key` at a view, of which `seen` is what it reads of `tree`; the commits
    /// up to `upto` are in that.
    fn entry_at(
        &self,
        worker: &Worker,
        tree: &TreeState,
        seen: &TreeState,
        key: &[u8],
        (view, upto): (Csn, Csn),
    ) -> Result<Option<Entry>> {
        if let Some(image) = self.overlay().and_then(|o| o.get(tree.id, key)) {
            return Ok(image.clone());
        }
        let (entry, csn) = self.leaf_entry(worker, seen, key)?;
        if csn.is_some_and(|csn| csn <= view) {
            return Ok(entry);
        }
        // Whatever later commit is in what was read left its image before that, or made
        // known what it cut out.
        let (entry, upto) = match tree.cuts.at(key, (view, upto)) {
            None => (entry, upto),
            Some(cut) => (self.leaf_entry(worker, &cut.tree, key)?.0, cut.csn - 1),
        };
        match self.versions.get(tree.id, key, (view, upto)) {
            Some(image) => Ok(image),
            None => Ok(entry),
        }
    }

    /// The newest visible entry of `key`: kind and stored bytes.
    pub(crate) fn lookup(
        &self,
        worker: &Worker,
        tree: &TreeState,
        key: &[u8],
    ) -> Result<Option<Entry>> {
        if let Some(image) = self.overlay().and_then(|o| o.get(tree.id, key)) {
            return Ok(image.clone());
        }
        let (entry, csn) = self.leaf_entry(worker, tree, key)?;
        // What is read is visible before it is returned, and with it all lower
        // commits: these are being applied and wait for nothing.
        if let Some(csn) = csn
            && !self.visible.is_visible(csn)
        {
            worker
                .counters
                .waiting(Wait::Visible, || self.visible.wait(csn));
        }
        Ok(entry)
    }

    /// The entry of `key` as its leaf holds it, visible or not, and the leaf's newest
    /// commit; without: the tree has no leaf.
    fn leaf_entry(
        &self,
        worker: &Worker,
        tree: &TreeState,
        key: &[u8],
    ) -> Result<(Option<Entry>, Option<Csn>)> {
        let mut carry = Carry::default();
        loop {
            let at = match self.forest.descend(tree, Toward::Key(key), 0, None) {
                Found::Node(at) => at,
                Found::Empty(_) => return Ok((None, None)),
                missing if self.forest.needs_aside(&carry) => {
                    let toward = Toward::Key(key);
                    match self.forest.leaf_aside(worker, tree, toward, missing)? {
                        Some(leaf) => {
                            let page = leaf.page();
                            self.check_csn(tree, page.addr(), page.csn())?;
                            return Ok((entry(page, key), Some(page.csn())));
                        }
                        None => continue,
                    }
                }
                missing => {
                    self.forest.bring_in(worker, tree, missing, &mut carry)?;
                    continue;
                }
            };
            let frame = self.forest.cache.frame(at.frame);
            let page = self.forest.cache.page(at.frame);
            let (csn, addr) = (page.csn(), page.addr());
            let entry = entry(page, key);
            if frame.latch.validate(at.version) {
                frame.touch(1);
                self.check_csn(tree, addr, csn)?;
                return Ok((entry, Some(csn)));
            }
        }
    }

    /// Damage if a leaf has a commit that was never made: nobody may wait for it.
    fn check_csn(&self, tree: &TreeState, addr: u64, csn: Csn) -> Result<()> {
        if !self.visible.is_visible(csn) && csn > self.last_drawn() {
            let why = format!("has commit {csn}, which was never made");
            return Err(Damage::new("node", addr, why).in_tree(tree.id).into());
        }
        Ok(())
    }

    /// Reads a large value from its pieces.
    pub(crate) fn read_extents(&self, tree: &TreeState, pieces: &[u8]) -> Result<Vec<u8>> {
        let block_size = self.forest.geometry.block_size;
        let mut whole = Vec::new();
        for piece in extents(pieces) {
            let run = piece.run(block_size);
            let bad = |what: &str| Damage::new("large value", piece.addr, what).in_tree(tree.id);
            if !self.forest.geometry.is_data(run) {
                return Err(bad("points outside the data area").into());
            }
            let mut buf = IoBuf::zeroed(run.len as usize * block_size as usize);
            self.forest
                .device
                .read_at(self.forest.geometry.byte(run.start), &mut buf)?;
            let mut verifier = Verifier::new(piece);
            verifier.add(&buf);
            if !verifier.is_sound() && !fault!(ExtentChecksumNotCompared) {
                return Err(bad("checksum differs").into());
            }
            whole.extend_from_slice(&buf[..piece.bytes as usize]);
        }
        Ok(whole)
    }
}
