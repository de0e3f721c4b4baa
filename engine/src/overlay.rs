//! What the log changes, held beside the trees: how a store that was not closed is
//! read as recovery would give it, although nothing may be written.
//!
//! Recovery proper replays the log into the trees, whose changed nodes then lie in
//! memory until they are written. A read-only open writes none of them, so it does
//! not make them: it keeps the last change to each key, by tree and key, and readers
//! look here first. That takes memory by what the log changes, never by how many
//! nodes that touches, and needs neither space nor frames. Large values stay on the
//! device. Once made it does not change.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::commit::versions::Image;
use crate::core::MAX_PIECES;
use crate::error::{Damage, Error, Result};
use crate::format::node::{KIND_EXTENT, KIND_VALUE};
use crate::format::{BlockPtr, CATALOG, Csn, Generation, Geometry, Run, TreeId};
use crate::log::{LogOp, LogReader, Ops, Runs};
use crate::node::{MAX_KEY, max_inline};
use crate::saved::Origin;
use crate::writeback::catalog::MAX_NAME;

/// Memory that an entry takes beside its key and value, about: two allocations,
/// their sizes, and its share of a node of the map.
const OVERHEAD: u64 = 112;

/// The last change to each key that the log changes.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    trees: BTreeMap<TreeId, BTreeMap<Vec<u8>, Image>>,
    /// Ranges that were deleted, by where they begin, and where they end; none touch. What
    /// was put there since is among the keys.
    holes: BTreeMap<TreeId, BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    bytes: u64,
}

impl Overlay {
    /// What the log made of a key; `None`: it does not change it.
    pub(crate) fn get(&self, tree: TreeId, key: &[u8]) -> Option<&Image> {
        let there = self.trees.get(&tree).and_then(|t| t.get(key));
        there.or_else(|| self.in_hole(tree, key).then_some(&None))
    }

    /// Whether the log deletes what the trees have of this key, as part of a range.
    pub(crate) fn in_hole(&self, tree: TreeId, key: &[u8]) -> bool {
        let before = self.holes.get(&tree).and_then(|holes| {
            let upto = (Bound::Unbounded, Bound::Included(key));
            holes.range::<[u8], _>(upto).next_back()
        });
        before.is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < end.as_slice()))
    }

    /// Whether the log changes this very key, after ranges that it deletes.
    pub(crate) fn puts(&self, tree: TreeId, key: &[u8]) -> bool {
        let keys = self.trees.get(&tree);
        keys.is_some_and(|keys| keys.contains_key(key))
    }

    /// Whether the log deletes ranges of the tree.
    pub(crate) fn has_holes(&self, tree: TreeId) -> bool {
        self.holes.contains_key(&tree)
    }

    /// A range is deleted.
    fn delete_range(&mut self, tree: TreeId, lower: &[u8], upper: Option<&[u8]>) {
        let bounds = (
            Bound::Included(lower),
            upper.map_or(Bound::Unbounded, Bound::Excluded),
        );
        if let Some(keys) = self.trees.get_mut(&tree) {
            let gone: Vec<_> = keys
                .range::<[u8], _>(bounds)
                .map(|(k, _)| k.clone())
                .collect();
            for key in gone {
                let image = keys.remove(&key).expect("just seen");
                self.bytes -= cost(&key, &image);
            }
        }
        let (mut from, mut to) = (lower.to_vec(), upper.map(<[u8]>::to_vec));
        self.bytes += hole_cost(&from, &to);
        let holes = self.holes.entry(tree).or_default();
        // Those that it meets become part of it.
        while let Some((start, end)) = holes
            .range::<[u8], _>((
                Bound::Unbounded,
                to.as_deref().map_or(Bound::Unbounded, Bound::Included),
            ))
            .next_back()
            .filter(|(_, end)| end.as_ref().is_none_or(|end| *end >= from))
            .map(|(start, end)| (start.clone(), end.clone()))
        {
            holes.remove(&start);
            self.bytes -= hole_cost(&start, &end);
            self.bytes -= hole_cost(&from, &to);
            from = from.min(start);
            to = to.zip(end).map(|(a, b)| a.max(b));
            self.bytes += hole_cost(&from, &to);
        }
        holes.insert(from, to);
    }

    /// The changed keys of `[lower, upper)`, in order.
    pub(crate) fn range<'a>(
        &'a self,
        tree: TreeId,
        lower: &[u8],
        upper: Option<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = (&'a Vec<u8>, &'a Image)> {
        let empty = upper.is_some_and(|u| u <= lower);
        let tree = self.trees.get(&tree).filter(|_| !empty);
        let bounds = (
            Bound::Included(lower),
            upper.map_or(Bound::Unbounded, Bound::Excluded),
        );
        tree.into_iter()
            .flat_map(move |t| t.range::<[u8], _>(bounds))
    }

    /// How many keys of a tree are changed.
    pub(crate) fn keys(&self, tree: TreeId) -> u64 {
        self.trees.get(&tree).map_or(0, |t| t.len() as u64)
    }

    /// How many keys are changed and ranges deleted, and about how much memory that takes.
    pub(crate) fn size(&self) -> (u64, u64) {
        let keys: u64 = self.trees.values().map(|t| t.len() as u64).sum();
        let holes: u64 = self.holes.values().map(|t| t.len() as u64).sum();
        (keys + holes, self.bytes)
    }

    /// The tree is no more.
    fn forget(&mut self, tree: TreeId) {
        let holes = self.holes.remove(&tree).unwrap_or_default();
        self.bytes -= holes.iter().map(|(a, b)| hole_cost(a, b)).sum::<u64>();
        let gone = self.trees.remove(&tree).unwrap_or_default();
        self.bytes -= gone
            .iter()
            .map(|(key, image)| cost(key, image))
            .sum::<u64>();
    }

    fn set(&mut self, tree: TreeId, key: &[u8], image: Image) {
        self.bytes += cost(key, &image);
        let old = self.trees.entry(tree).or_default();
        if let Some(old) = old.insert(key.to_vec(), image) {
            self.bytes -= cost(key, &old);
        }
    }
}

fn hole_cost(from: &[u8], to: &Option<Vec<u8>>) -> u64 {
    OVERHEAD + from.len() as u64 + to.as_ref().map_or(0, |to| to.len() as u64)
}

fn cost(key: &[u8], image: &Image) -> u64 {
    OVERHEAD + key.len() as u64 + image.as_ref().map_or(0, |i| i.1.len() as u64)
}

/// What a record of the log may say: the conditions for replaying it, whether into
/// the trees, beside them, or only in a check.
#[derive(Debug)]
pub(crate) struct Rules {
    geometry: Geometry,
    trees: BTreeMap<TreeId, Vec<u8>>,
    names: BTreeSet<Vec<u8>>,
    /// Generations of the snapshots.
    snapshots: Vec<Generation>,
}

impl Rules {
    /// With the trees that the checkpoint has.
    pub(crate) fn new<'a>(
        geometry: Geometry,
        trees: impl Iterator<Item = (TreeId, &'a str)>,
        snapshots: Vec<Generation>,
    ) -> Self {
        let trees: BTreeMap<_, _> = trees
            .map(|(id, name)| (id, name.as_bytes().to_vec()))
            .collect();
        Self {
            geometry,
            names: trees.values().cloned().collect(),
            trees,
            snapshots,
        }
    }

    /// Whether recovery can do this operation, after those it was asked about
    /// before; if not, why.
    pub(crate) fn check(&mut self, op: &LogOp<'_>) -> Result<(), String> {
        let (tree, key) = match *op {
            LogOp::CreateTree {
                tree,
                name,
                options,
            } => return self.create(tree, name, options),
            LogOp::DropTree { tree, name } => return self.drop_tree(tree, name),
            LogOp::RenameTree { tree, name } => return self.rename(tree, name),
            LogOp::LoadTree {
                tree,
                name,
                root,
                runs,
            } => {
                self.loaded(root, runs)?;
                return self.create(tree, name, &[]);
            }
            LogOp::DeleteRange { tree, lower, upper } => {
                // An end may be right behind a key.
                if upper.is_some_and(|u| u.len() > MAX_KEY + 1) || lower.len() > MAX_KEY + 1 {
                    return Err("deletes a range between keys that cannot be".into());
                }
                (tree, &[][..])
            }
            LogOp::Put { tree, key, .. }
            | LogOp::PutExtent { tree, key, .. }
            | LogOp::Delete { tree, key } => (tree, key),
        };
        if !self.trees.contains_key(&tree) {
            return Err(format!("names tree {tree}, which there is not"));
        }
        if key.len() > MAX_KEY {
            return Err(format!("has a key of {} bytes", key.len()));
        }
        match *op {
            LogOp::Put { value, .. }
                if value.len() > max_inline(self.geometry.block_size, key.len()) =>
            {
                Err(format!("has a value of {} bytes in it", value.len()))
            }
            LogOp::PutExtent { extents, .. } => {
                if extents.len() > MAX_PIECES {
                    return Err(format!("has a value in {} pieces", extents.len()));
                }
                let block_size = self.geometry.block_size;
                match extents
                    .iter()
                    .find(|e| !self.geometry.is_data(e.run(block_size)))
                {
                    None => Ok(()),
                    Some(e) => Err(format!(
                        "names an extent outside the data, block {}",
                        e.addr
                    )),
                }
            }
            _ => Ok(()),
        }
    }

    /// Whether it is of a tree that there is not.
    fn is_unknown(&self, op: &LogOp<'_>) -> bool {
        match *op {
            LogOp::CreateTree { .. } | LogOp::LoadTree { .. } => false,
            LogOp::DropTree { tree, .. }
            | LogOp::RenameTree { tree, .. }
            | LogOp::Put { tree, .. }
            | LogOp::PutExtent { tree, .. }
            | LogOp::DeleteRange { tree, .. }
            | LogOp::Delete { tree, .. } => !self.trees.contains_key(&tree),
        }
    }

    /// Whether a tree can have been loaded like this.
    fn loaded(&self, root: BlockPtr, runs: Runs<'_>) -> Result<(), String> {
        if let Some(bad) = runs.iter().find(|run| !self.geometry.is_data(*run)) {
            return Err(format!(
                "loads a tree outside the data, block {}",
                bad.start
            ));
        }
        let mut behind = 0;
        for run in runs.iter() {
            if run.start < behind {
                return Err(format!("loads a tree into block {} twice", run.start));
            }
            behind = run.end();
        }
        let within = |run: Run| run.start <= root.addr && root.addr < run.end();
        let is_node = root.len == 1 && root.flags == 0 && root.checksum != 0;
        match root.is_null() || is_node && runs.iter().any(within) {
            true => Ok(()),
            false => Err(format!("loads a tree with a root at block {}", root.addr)),
        }
    }

    fn drop_tree(&mut self, tree: TreeId, name: &[u8]) -> Result<(), String> {
        if self.trees.get(&tree).is_none_or(|n| n != name) {
            return Err(format!("drops tree {tree}, which there is not"));
        }
        self.trees.remove(&tree);
        self.names.remove(name);
        Ok(())
    }

    fn rename(&mut self, tree: TreeId, name: &[u8]) -> Result<(), String> {
        Self::check_name(name)?;
        if self.names.contains(name) {
            return Err("gives a tree a name that another has".into());
        }
        let Some(old) = self.trees.get_mut(&tree) else {
            return Err(format!("renames tree {tree}, which there is not"));
        };
        self.names.remove(old);
        self.names.insert(name.to_vec());
        *old = name.to_vec();
        Ok(())
    }

    fn check_name(name: &[u8]) -> Result<(), String> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(format!("names a tree with {} bytes", name.len()));
        }
        match std::str::from_utf8(name) {
            Ok(_) => Ok(()),
            Err(_) => Err("a tree's name is not UTF-8".into()),
        }
    }

    fn create(&mut self, tree: TreeId, name: &[u8], options: &[u8]) -> Result<(), String> {
        Self::check_name(name)?;
        if let Some(from) = Origin::decode(options)? {
            if !self.snapshots.contains(&from.generation) {
                let generation = from.generation;
                return Err(format!(
                    "makes a tree from snapshot {generation}, which there is not"
                ));
            }
            let root = from.root;
            if !root.is_null() && !self.geometry.is_data(root.run()) {
                return Err("makes a tree with a root outside the data".into());
            }
        }
        if tree == CATALOG || tree == TreeId::MAX {
            return Err(format!("makes a tree of number {tree}"));
        }
        if self.trees.contains_key(&tree) || self.names.contains(name) {
            return Err(format!("makes tree {tree}, which there is already"));
        }
        self.trees.insert(tree, name.to_vec());
        self.names.insert(name.to_vec());
        Ok(())
    }
}

/// How to read the log beside the trees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside {
    /// The most memory that the changes may take.
    pub(crate) memory: u64,
    /// Take what lies before damage, instead of failing.
    pub(crate) salvage: bool,
    /// The tree of trees is damaged: changes to trees that are not known are passed
    /// over.
    pub(crate) unknown_trees: bool,
}

/// What the log behind a checkpoint adds to it.
#[derive(Debug, Default)]
pub(crate) struct Added {
    pub(crate) overlay: Overlay,
    pub(crate) created: Vec<(TreeId, String, Option<Origin>)>,
    /// Names of trees that the checkpoint has.
    pub(crate) renamed: BTreeMap<TreeId, String>,
    /// Trees that the checkpoint has and the log drops.
    pub(crate) dropped: BTreeSet<TreeId>,
    pub(crate) commits: u64,
    pub(crate) ops: u64,
    pub(crate) last_csn: Csn,
    /// Where the log is damaged; what lies behind is not in it.
    pub(crate) damage: Option<Damage>,
}

/// Reads the log to its end, or to where it is damaged.
///
/// # Errors
/// [`Error::ReplayMemory`] with how much is needed; unless salvaging,
/// [`Error::Damaged`] and [`Error::Io`].
pub(crate) fn read(
    reader: &mut LogReader,
    rules: &mut Rules,
    cut: Csn,
    how: Beside,
) -> Result<Added> {
    let mut added = Added {
        last_csn: cut,
        ..Added::default()
    };
    // Above the limit the rest is only counted, to say how much would do.
    let mut needed = 0;
    loop {
        let found = match reader.next_record() {
            Ok(None) => break,
            Ok(Some(record)) => checked(record.ops, rules, how)
                .map(|ops| (record.csn, ops))
                .map_err(|why| bad_record(record.csn, &why)),
            Err(e) => Err(e),
        };
        match found {
            Ok((csn, ops)) => {
                added.commits += 1;
                added.ops += ops.len() as u64;
                added.last_csn = csn;
                for op in &ops {
                    needed += added.take(op, needed > 0);
                }
                if added.overlay.bytes > how.memory {
                    needed = added.overlay.bytes;
                    added.overlay = Overlay::default();
                }
            }
            Err(Error::Damaged(damage)) if how.salvage => {
                added.damage = Some(damage);
                break;
            }
            Err(Error::Io(e)) if how.salvage => {
                added.damage = Some(Damage::new("log block", 0, e.to_string()));
                break;
            }
            Err(e) => return Err(e),
        }
    }
    if needed > 0 {
        let max = how.memory;
        return Err(Error::ReplayMemory { needed, max });
    }
    Ok(added)
}

/// The operations of a commit, all of which can be done.
fn checked<'a>(ops: &'a [u8], rules: &mut Rules, how: Beside) -> Result<Vec<LogOp<'a>>, String> {
    let mut all = Vec::new();
    for op in Ops::new(ops) {
        let op = op.map_err(str::to_owned)?;
        if how.unknown_trees && rules.is_unknown(&op) {
            continue;
        }
        rules.check(&op)?;
        all.push(op);
    }
    alone(&all)?;
    Ok(all)
}

/// A range delete is a commit by itself.
fn alone(ops: &[LogOp<'_>]) -> Result<(), String> {
    let ranges = ops.iter().any(|op| matches!(op, LogOp::DeleteRange { .. }));
    match ranges && ops.len() > 1 {
        true => Err("deletes a range and does more".into()),
        false => Ok(()),
    }
}

/// A commit in the log that cannot be replayed.
pub(crate) fn bad_record(csn: Csn, why: &str) -> Error {
    Damage::new("log record", 0, format!("commit {csn}: {why}")).into()
}

impl Added {
    /// Takes an operation in, or only says what it would cost.
    fn take(&mut self, op: &LogOp<'_>, only_count: bool) -> u64 {
        let (tree, key, image) = match *op {
            LogOp::Put { tree, key, value } => (tree, key, Some((KIND_VALUE, value))),
            LogOp::PutExtent { tree, key, extents } => {
                (tree, key, Some((KIND_EXTENT, extents.as_bytes())))
            }
            LogOp::Delete { tree, key } => (tree, key, None),
            LogOp::DeleteRange { tree, lower, upper } => {
                if only_count {
                    return OVERHEAD;
                }
                self.overlay.delete_range(tree, lower, upper);
                return 0;
            }
            LogOp::CreateTree {
                tree,
                name,
                options,
            } => {
                let name = String::from_utf8_lossy(name).into_owned();
                let from = Origin::decode(options).ok().flatten();
                self.created.push((tree, name, from));
                return 0;
            }
            LogOp::LoadTree {
                tree, name, root, ..
            } => {
                let name = String::from_utf8_lossy(name).into_owned();
                self.created.push((tree, name, Some(Origin::loaded(root))));
                return 0;
            }
            LogOp::DropTree { tree, .. } => {
                self.overlay.forget(tree);
                self.renamed.remove(&tree);
                let before = self.created.len();
                self.created.retain(|c| c.0 != tree);
                if self.created.len() == before {
                    self.dropped.insert(tree);
                }
                return 0;
            }
            LogOp::RenameTree { tree, name } => {
                let name = String::from_utf8_lossy(name).into_owned();
                match self.created.iter_mut().find(|c| c.0 == tree) {
                    Some(created) => created.1 = name,
                    None => {
                        self.renamed.insert(tree, name);
                    }
                }
                return 0;
            }
        };
        let image = image.map(|(kind, value)| (kind, value.to_vec()));
        if only_count {
            return cost(key, &image);
        }
        self.overlay.set(tree, key, image);
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ExtentPtr;
    use crate::log::OpsBuilder;

    /// What the rules say of each operation that `build` makes, one after another.
    fn judge(build: impl FnOnce(&mut OpsBuilder)) -> Vec<Result<(), String>> {
        let mut ops = OpsBuilder::new();
        build(&mut ops);
        let geometry = Geometry::new(4096, 64 << 20, 1000);
        let mut rules = Rules::new(geometry, [(1, "one")].into_iter(), Vec::new());
        let ops = Ops::new(ops.as_bytes()).map(|op| op.unwrap());
        ops.map(|op| rules.check(&op)).collect()
    }

    #[test]
    fn what_recovery_cannot_do_is_refused_with_the_reason() {
        let piece = |addr| ExtentPtr {
            addr,
            flags: 0,
            birth: Generation::first(1),
            checksum: 1,
            bytes: 5000,
        };
        let geometry = Geometry::new(4096, 64 << 20, 1000);
        let data = geometry.capacity - 2;
        let most = max_inline(4096, 1);
        let said = judge(|ops| {
            ops.put(1, &[b'k'; MAX_KEY], b"v").unwrap();
            ops.put(1, &[b'k'; MAX_KEY + 1], b"v").unwrap();
            ops.put(1, b"k", &vec![0; most]).unwrap();
            ops.put(1, b"k", &vec![0; most + 1]).unwrap();
            ops.delete(2, b"k").unwrap();
            ops.put_extents(1, b"k", &[piece(data)]).unwrap();
            ops.put_extents(1, b"k", &[piece(data), piece(0)]).unwrap();
            ops.put_extents(1, b"k", &vec![piece(data); MAX_PIECES + 1])
                .unwrap();
            ops.drop_tree(1, b"two").unwrap();
            ops.drop_tree(1, b"one").unwrap();
            ops.delete(1, b"k").unwrap();
        });
        let no = |why: &str| Err(why.to_owned());
        assert_eq!(
            said,
            [
                Ok(()),
                no(&format!("has a key of {} bytes", MAX_KEY + 1)),
                Ok(()),
                no(&format!("has a value of {} bytes in it", most + 1)),
                no("names tree 2, which there is not"),
                Ok(()),
                no("names an extent outside the data, block 0"),
                no(&format!("has a value in {} pieces", MAX_PIECES + 1)),
                no("drops tree 1, which there is not"),
                Ok(()),
                no("names tree 1, which there is not"),
            ]
        );
    }

    #[test]
    fn a_tree_is_made_once_and_has_a_name() {
        let said = judge(|ops| {
            ops.create_tree(2, b"two", b"").unwrap();
            ops.put(2, b"k", b"v").unwrap();
            ops.create_tree(2, b"other", b"").unwrap();
            ops.create_tree(3, b"one", b"").unwrap();
            ops.create_tree(3, b"", b"").unwrap();
            ops.create_tree(3, &[b'n'; MAX_NAME + 1], b"").unwrap();
            ops.create_tree(3, b"\xFF", b"").unwrap();
            ops.create_tree(CATALOG, b"x", b"").unwrap();
            ops.create_tree(TreeId::MAX, b"x", b"").unwrap();
        });
        let no = |why: &str| Err(why.to_owned());
        assert_eq!(
            said,
            [
                Ok(()),
                Ok(()),
                no("makes tree 2, which there is already"),
                no("makes tree 3, which there is already"),
                no("names a tree with 0 bytes"),
                no(&format!("names a tree with {} bytes", MAX_NAME + 1)),
                no("a tree's name is not UTF-8"),
                no(&format!("makes a tree of number {CATALOG}")),
                no(&format!("makes a tree of number {}", TreeId::MAX)),
            ]
        );
    }

    #[test]
    fn a_name_is_free_again_once_its_tree_is_dropped_or_renamed() {
        let said = judge(|ops| {
            ops.create_tree(2, b"two", b"").unwrap();
            ops.rename_tree(2, b"one").unwrap();
            ops.rename_tree(2, b"three").unwrap();
            ops.rename_tree(3, b"x").unwrap();
            ops.rename_tree(1, b"").unwrap();
            ops.rename_tree(1, b"two").unwrap();
            ops.drop_tree(1, b"one").unwrap();
            ops.drop_tree(1, b"two").unwrap();
            ops.create_tree(4, b"two", b"").unwrap();
        });
        let no = |why: &str| Err(why.to_owned());
        assert_eq!(
            said,
            [
                Ok(()),
                no("gives a tree a name that another has"),
                Ok(()),
                no("renames tree 3, which there is not"),
                no("names a tree with 0 bytes"),
                Ok(()),
                no("drops tree 1, which there is not"),
                Ok(()),
                Ok(()),
            ]
        );
    }

    #[test]
    fn the_last_change_counts_and_ranges_are_half_open() {
        let mut o = Overlay::default();
        let value = |v: &[u8]| Some((KIND_VALUE, v.to_vec()));
        o.set(1, b"b", value(b"old, and longer"));
        o.set(1, b"b", value(b"new"));
        o.set(1, b"d", None);
        o.set(2, b"c", value(b"other tree"));
        assert_eq!(o.get(1, b"b"), Some(&value(b"new")));
        assert_eq!((o.get(1, b"d"), o.get(1, b"c")), (Some(&None), None));
        let keys = |lower: &[u8], upper: Option<&[u8]>| -> Vec<Vec<u8>> {
            o.range(1, lower, upper).map(|(k, _)| k.clone()).collect()
        };
        assert_eq!(keys(b"", None), [b"b", b"d"]);
        assert_eq!(keys(b"b", Some(b"d")), [b"b"]);
        assert!(keys(b"d", Some(b"d")).is_empty() && keys(b"e", Some(b"a")).is_empty());
        assert_eq!((o.keys(1), o.keys(2), o.keys(3)), (2, 1, 0));
        let entries = 3 * OVERHEAD + 3 + 3 + 10;
        assert_eq!(o.size(), (3, entries));
    }
}
