//! What was committed, and what a recovered store must therefore hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use gaur::{Csn, Store};

pub(crate) type Value = Arc<[u8]>;
pub(crate) type Records = BTreeMap<Vec<u8>, Value>;

/// One change of a commit.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Put(Arc<str>, Vec<u8>, Value),
    Delete(Arc<str>, Vec<u8>),
    /// A tree whose creation is not acknowledged.
    Create(Arc<str>),
}

/// A commit that drew a number: it is in the log, whatever became of it.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) csn: Csn,
    pub(crate) changes: Vec<Change>,
}

/// What one thread did.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) commits: Vec<Commit>,
    /// Trees whose creation was acknowledged. Its number is not told, but it is
    /// the only one missing then.
    pub(crate) created: Vec<Arc<str>>,
    /// Acknowledged as durable, by whatever way.
    pub(crate) durable: Csn,
    pub(crate) full: u64,
    /// Transactions that met others.
    pub(crate) conflicts: u64,
    /// All free space was discarded.
    pub(crate) trims: u64,
}

impl Done {
    /// Notes that all up to `csn` is durable.
    pub(crate) fn durable(&mut self, csn: Csn) {
        self.durable = self.durable.max(csn);
    }

    /// The last commit of this thread.
    pub(crate) fn last(&self) -> Csn {
        self.commits.last().map_or(0, |c| c.csn)
    }

    pub(crate) fn merge(&mut self, other: Self) {
        assert!(
            other.commits.is_sorted_by(|a, b| a.csn < b.csn),
            "a thread's commits have growing numbers"
        );
        self.commits.extend(other.commits);
        self.created.extend(other.created);
        self.durable(other.durable);
        self.full += other.full;
        self.conflicts += other.conflicts;
        self.trims += other.trims;
    }
}

/// What the store holds, for certain, at commit `csn`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) csn: Csn,
    pub(crate) trees: BTreeMap<Arc<str>, Records>,
}

impl Known {
    /// The store was found to end with commit `last`: applies those up to it and
    /// forgets the others, which are lost. Returns how many.
    ///
    /// # Panics
    /// If that loses what was acknowledged, or if the numbers have a hole or repeat.
    pub(crate) fn settle(&mut self, mut done: Done, last: Csn) -> u64 {
        assert!(
            last >= done.durable,
            "LOST: commit {} was acknowledged as durable, the store ends with {last}",
            done.durable
        );
        assert!(
            last >= self.csn,
            "LOST: commit {} had been recovered before, the store ends with {last}",
            self.csn
        );
        done.commits.sort_by_key(|c| c.csn);
        for name in &done.created {
            self.trees.entry(name.clone()).or_default();
        }
        let mut next = self.csn + 1;
        let mut missing = done.created.len();
        let mut lost = 0;
        for commit in done.commits {
            if commit.csn > last {
                lost += 1;
                continue;
            }
            assert!(
                commit.csn >= next,
                "two commits have the number {}",
                commit.csn
            );
            let hole = (commit.csn - next) as usize;
            assert!(
                hole <= missing,
                "nobody made the commits {next} to {} (known: {})",
                commit.csn - 1,
                self.csn
            );
            missing -= hole;
            next = commit.csn + 1;
            for change in commit.changes {
                self.apply(change);
            }
        }
        let hole = (last + 1).saturating_sub(next) as usize;
        assert_eq!(
            hole, missing,
            "nobody made the commits {next} to {last}, or a tree's creation is missing"
        );
        self.csn = last;
        lost
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Put(tree, key, value) => {
                self.trees.entry(tree).or_default().insert(key, value);
            }
            Change::Delete(tree, key) => {
                self.trees.entry(tree).or_default().remove(&key);
            }
            Change::Create(tree) => {
                self.trees.entry(tree).or_default();
            }
        }
    }

    /// The trees, by name, and their records.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let trees = self.trees.iter();
        trees.map(|(name, records)| (name.to_string(), records.len() as u64))
    }

    /// Checks that the store holds exactly this, forwards and backwards.
    pub(crate) fn compare(&self, store: &Store, when: &str) {
        let names = store.tree_names();
        let want: Vec<&str> = self.trees.keys().map(|n| &**n).collect();
        assert_eq!(names, want, "{when}, at commit {}: the trees", self.csn);
        for (name, records) in &self.trees {
            let tree = store.open_tree(name).expect("it is in the list");
            let place = format!("{when}, at commit {}, tree {name}", self.csn);
            let mut want = records.iter();
            for found in tree.iter().expect("a scan begins") {
                let (key, value) = found.unwrap_or_else(|e| panic!("{place}: {e}"));
                let Some((k, v)) = want.next() else {
                    panic!("{place}: {} should not be there", show(&key));
                };
                assert!(
                    key == *k,
                    "{place}: found {}, expected {}",
                    show(&key),
                    show(k)
                );
                assert!(
                    value == **v,
                    "{place}: {} has {} bytes {:?}…, expected {} bytes {:?}…",
                    show(k),
                    value.len(),
                    &value[..value.len().min(12)],
                    v.len(),
                    &v[..v.len().min(12)]
                );
            }
            assert!(want.next().is_none(), "{place}: records are missing");
            let mut want = records.iter().rev();
            for found in tree.iter().expect("a scan begins").rev() {
                let (key, value) = found.unwrap_or_else(|e| panic!("{place}: {e}"));
                let same = want.next().is_some_and(|(k, v)| key == *k && value == **v);
                assert!(same, "{place}: backwards, {} differs", show(&key));
            }
            assert!(
                want.next().is_none(),
                "{place}: backwards, records are missing"
            );
        }
    }
}

fn show(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
