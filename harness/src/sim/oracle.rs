//! What a recovered store must hold.
//!
//! Every commit that may be in the log has a number that the thread that made it knows:
//! it was acknowledged, or its outcome is unknown. So for each number there is exactly
//! one right state: that of all commits up to it, each whole. A store that says with
//! which commit it ends is right if that is not before what was acknowledged as durable
//! when the power failed, and if it holds that state. States are compared by digests;
//! only what is wrong is spelled out.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::Arc;

use gaur::{Csn, NamedSnapshot, Store, Tree};
use xxhash_rust::xxh3::Xxh3Default;

use super::looked::{Looked, ReadSet};
use super::script::{Change, Value, key, range, tree_name};

/// The records of all trees.
pub(crate) type State = BTreeMap<u8, BTreeMap<u32, Value>>;

/// One number for what a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    /// Of all records and names of trees, in any order.
    sum: u64,
    pub(crate) records: u64,
    pub(crate) trees: u64,
}

impl Digest {
    fn tree(&mut self, name: &str) {
        let hash = hash(&[name.as_bytes(), b"a tree"]);
        self.sum = self.sum.wrapping_add(hash);
        self.trees += 1;
    }

    fn drop_tree(&mut self, name: &str) {
        let hash = hash(&[name.as_bytes(), b"a tree"]);
        self.sum = self.sum.wrapping_sub(hash);
        self.trees -= 1;
    }

    fn add(&mut self, hash: u64, there: bool) {
        if there {
            self.sum = self.sum.wrapping_add(hash);
            self.records = self.records.wrapping_add(1);
        } else {
            self.sum = self.sum.wrapping_sub(hash);
            self.records = self.records.wrapping_sub(1);
        }
    }

    /// Of a store.
    pub(crate) fn of(store: &Store, backwards: bool) -> gaur::Result<Self> {
        let open = |name: &str| store.open_tree(name);
        Self::of_trees(store.tree_names(), open, backwards)
    }

    /// Of a snapshot.
    pub(crate) fn of_snapshot(snapshot: &NamedSnapshot) -> gaur::Result<Self> {
        let open = |name: &str| snapshot.tree(name);
        Self::of_trees(snapshot.tree_names(), open, false)
    }

    fn of_trees(
        names: Vec<String>,
        open: impl Fn(&str) -> gaur::Result<Tree>,
        backwards: bool,
    ) -> gaur::Result<Self> {
        let mut digest = Self::default();
        for name in names {
            digest.tree(&name);
            let scan = open(&name)?.iter()?;
            let mut one = |record: gaur::Result<(Vec<u8>, Vec<u8>)>| {
                let (key, value) = record?;
                digest.add(hash(&[name.as_bytes(), &key, &value]), true);
                Ok::<(), gaur::Error>(())
            };
            match backwards {
                true => scan.rev().try_for_each(&mut one)?,
                false => scan.into_iter().try_for_each(&mut one)?,
            }
        }
        Ok(digest)
    }
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut h = Xxh3Default::new();
    for part in parts {
        h.write_u64(part.len() as u64);
        h.write(part);
    }
    h.finish()
}

fn record(tree: u8, n: u32, value: Value) -> u64 {
    hash(&[tree_name(tree).as_bytes(), &key(n), &value.bytes()])
}

/// A commit that drew a number.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) csn: Csn,
    pub(crate) changes: Arc<[Change]>,
}

/// A commit about whole trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    Make(u8),
    Drop(u8),
    /// All trees are again as they were at this commit.
    Back(Csn),
}

/// What one thread did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    pub(crate) commits: Vec<Commit>,
    /// Commits about whole trees, in order. Their numbers are not told: they are those
    /// that are missing. The last may have failed: then there may be none for it.
    pub(crate) wholes: Vec<Whole>,
    pub(crate) full: u64,
    pub(crate) looked: Vec<Looked>,
    pub(crate) read: Vec<ReadSet>,
    /// The first error that a fault explains.
    pub(crate) stopped: Option<String>,
}

/// All states that a store may be in.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// The commit that the store began with: all up to it is there for good.
    first: Csn,
    /// After each commit, from none on.
    digests: Vec<Digest>,
    /// What each did; number 0 does nothing.
    commits: Vec<Made>,
}

#[derive(Clone, Debug)]
enum Made {
    Nothing,
    Whole(Whole),
    Changes(Arc<[Change]>),
}

impl Expected {
    /// Of a store without any commit.
    pub(crate) fn empty() -> Self {
        Self {
            first: 0,
            digests: vec![Digest::default()],
            commits: vec![Made::Nothing],
        }
    }

    /// The same, of a store that is known to have had all up to commit `first`. What
    /// came after that and was in flight when the power went may still be there, until
    /// somebody sees the store.
    pub(crate) fn beginning(&self, first: Csn) -> Self {
        Self {
            first,
            ..self.clone()
        }
    }

    /// What these commits make of the state at commit `first`.
    pub(crate) fn after(&self, first: Csn, all: Vec<Done>) -> Result<Self, String> {
        let mut wholes: Vec<Whole> = Vec::new();
        let mut commits: BTreeMap<Csn, Arc<[Change]>> = BTreeMap::new();
        for done in all {
            wholes.extend(done.wholes);
            for c in done.commits {
                if c.csn <= first || commits.insert(c.csn, c.changes).is_some() {
                    return Err(format!("two commits have the number {}", c.csn));
                }
            }
        }
        let known = first as usize + 1;
        let mut expected = Self {
            first,
            digests: self.digests[..known].to_vec(),
            commits: self.commits[..known].to_vec(),
        };
        let mut state = self.state_at(first);
        let mut digest = self.digests[first as usize];
        let mut wholes = wholes.into_iter();
        let mut next = first + 1;
        loop {
            let made = match commits.remove(&next) {
                Some(changes) => Made::Changes(changes),
                None => match wholes.next() {
                    Some(whole) => Made::Whole(whole),
                    None => break,
                },
            };
            match made {
                Made::Whole(Whole::Back(csn)) => {
                    (state, digest) = (expected.state_at(csn), expected.digests[csn as usize]);
                }
                ref made => apply(&mut state, Some(&mut digest), made),
            }
            expected.digests.push(digest);
            expected.commits.push(made);
            next += 1;
        }
        if let Some((csn, _)) = commits.first_key_value() {
            return Err(format!("nobody made the commits {next} to {}", csn - 1));
        }
        Ok(expected)
    }

    /// The commit that the store began with.
    pub(crate) fn first(&self) -> Csn {
        self.first
    }

    /// The last commit that drew a number.
    pub(crate) fn last(&self) -> Csn {
        self.digests.len() as u64 - 1
    }

    /// Whether a store may end with commit `csn` and hold this, if all up to `durable`
    /// was acknowledged.
    pub(crate) fn judge(&self, csn: Csn, found: Digest, durable: Csn) -> Result<(), String> {
        let durable = durable.max(self.first);
        if csn < durable {
            return Err(format!(
                "LOST: commit {durable} was acknowledged as durable, the store ends with {csn}"
            ));
        }
        let Some(&right) = self.digests.get(csn as usize) else {
            return Err(format!(
                "the store ends with commit {csn}, and {} was the last",
                self.last()
            ));
        };
        if found == right {
            return Ok(());
        }
        let at = self.digests.iter().position(|d| *d == found);
        let like = at.map_or_else(
            || "no state there ever was".to_owned(),
            |i| format!("the state at commit {i}"),
        );
        Err(format!(
            "WRONG: the store says that it ends with commit {csn} and holds {} records in {} trees, \
             {like}; right are {} in {}",
            found.records, found.trees, right.records, right.trees
        ))
    }

    /// Whether a snapshot that says it was taken at commit `csn` may hold this.
    pub(crate) fn judge_snapshot(&self, csn: Csn, found: Digest) -> Result<(), String> {
        match self.digests.get(csn as usize) {
            Some(right) if *right == found => Ok(()),
            right => Err(format!(
                "WRONG: a snapshot of commit {csn} holds {} records in {} trees, right is {right:?}",
                found.records, found.trees
            )),
        }
    }

    /// Whether a store holds some state that there was.
    pub(crate) fn is_a_state(&self, found: Digest) -> bool {
        self.digests.contains(&found)
    }

    /// The state after commit `csn`.
    pub(crate) fn state_at(&self, csn: Csn) -> State {
        let mut state = State::new();
        for made in self.commits.iter().take(csn as usize + 1) {
            match made {
                Made::Whole(Whole::Back(csn)) => state = self.state_at(*csn),
                made => apply(&mut state, None, made),
            }
        }
        state
    }

    /// What a store holds otherwise than it should at commit `csn`, the first few.
    pub(crate) fn differences(&self, store: &Store, csn: Csn) -> Vec<String> {
        let mut out = Vec::new();
        let state = self.state_at(csn);
        for (&tree, records) in &state {
            let name = tree_name(tree);
            let Ok(t) = store.open_tree(&name) else {
                out.push(format!("tree {name} is missing"));
                continue;
            };
            for (&n, value) in records {
                let (k, right) = (key(n), value.bytes());
                match t.get(&k) {
                    Ok(Some(found)) if found == right => {}
                    Ok(found) => out.push(format!(
                        "{name}, key {n}: {} bytes found, {} right, written by commit {}",
                        found.map_or("no".to_owned(), |f| f.len().to_string()),
                        right.len(),
                        self.writer_of(tree, n, csn)
                    )),
                    Err(e) => out.push(format!("{name}, key {n}: {e}")),
                }
                if out.len() > 5 {
                    return out;
                }
            }
            let there = t.iter().map_or(0, Iterator::count);
            if there != records.len() {
                out.push(format!(
                    "{name}: a scan finds {there} records, {} right",
                    records.len()
                ));
            }
        }
        out
    }

    fn writer_of(&self, tree: u8, n: u32, upto: Csn) -> Csn {
        let upto = upto as usize;
        let wrote = |made: &Made| match made {
            Made::Changes(changes) => changes.iter().any(|c| match c {
                Change::Put(t, k, _) | Change::Delete(t, k) => (*t, *k) == (tree, n),
                Change::Range(t, a, b) => *t == tree && range(*a, *b).contains(&key(n)),
            }),
            _ => false,
        };
        let at = self.commits.iter().take(upto + 1).rposition(wrote);
        at.unwrap_or(0) as u64
    }
}

fn apply(state: &mut State, mut digest: Option<&mut Digest>, made: &Made) {
    match made {
        Made::Nothing => {}
        Made::Whole(Whole::Back(_)) => unreachable!("the past is not at hand here"),
        Made::Whole(Whole::Drop(tree)) => {
            let gone = state.remove(tree);
            if let (Some(gone), Some(digest)) = (gone, digest) {
                for (n, value) in gone {
                    digest.add(record(*tree, n, value), false);
                }
                digest.drop_tree(&tree_name(*tree));
            }
        }
        Made::Whole(Whole::Make(tree)) => {
            if state.insert(*tree, BTreeMap::new()).is_none()
                && let Some(digest) = digest
            {
                digest.tree(&tree_name(*tree));
            }
        }
        Made::Changes(changes) => {
            for change in changes.iter() {
                let (tree, n, value) = match *change {
                    Change::Put(tree, n, value) => (tree, n, Some(value)),
                    Change::Delete(tree, n) => (tree, n, None),
                    Change::Range(tree, a, b) => {
                        let range = range(a, b);
                        let records = state.entry(tree).or_default();
                        records.retain(|n, value| {
                            let gone = range.contains(&key(*n));
                            if gone && let Some(digest) = &mut digest {
                                digest.add(record(tree, *n, *value), false);
                            }
                            !gone
                        });
                        continue;
                    }
                };
                let records = state.entry(tree).or_default();
                let old = match value {
                    Some(value) => records.insert(n, value),
                    None => records.remove(&n),
                };
                let Some(digest) = &mut digest else {
                    continue;
                };
                if let Some(old) = old {
                    digest.add(record(tree, n, old), false);
                }
                if let Some(value) = value {
                    digest.add(record(tree, n, value), true);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(tree: u8, n: u32, seed: u64) -> Change {
        Change::Put(tree, n, Value { seed, len: 20 })
    }

    fn done() -> Done {
        let commit = |csn, changes: &[Change]| Commit {
            csn,
            changes: changes.into(),
        };
        Done {
            commits: vec![
                commit(2, &[put(0, 1, 7)]),
                commit(3, &[put(0, 1, 8), put(0, 2, 9)]),
                commit(4, &[Change::Delete(0, 1)]),
            ],
            wholes: vec![Whole::Make(0)],
            ..Done::default()
        }
    }

    #[test]
    fn lost_torn_and_invented_commits_are_told_apart_from_right_ones() {
        let e = Expected::empty().after(0, vec![done()]).unwrap();
        assert_eq!(e.last(), 4);
        let at = |csn: Csn| e.digests[csn as usize];
        assert_eq!((at(3).records, at(3).trees), (2, 1));
        assert_eq!((at(4).records, at(0)), (1, Digest::default()));
        e.judge(3, at(3), 2).unwrap();
        assert!(e.judge(3, at(3), 4).unwrap_err().contains("LOST"));
        assert!(
            e.judge(3, at(2), 0)
                .unwrap_err()
                .contains("state at commit 2")
        );
        assert!(e.judge(5, at(4), 0).unwrap_err().contains("4 was the last"));
        // Half a batch is no state there ever was.
        let mut half = at(2);
        half.add(record(0, 2, Value { seed: 9, len: 20 }), true);
        assert!(!e.is_a_state(half));
        assert!(e.judge(3, half, 0).unwrap_err().contains("no state"));
        // From a later state on.
        let later = e.after(3, Vec::new()).unwrap();
        assert_eq!((later.last(), later.first), (3, 3));
        assert!(later.judge(2, at(2), 0).unwrap_err().contains("LOST"));
        assert!(later.is_a_state(at(2)));
    }

    #[test]
    fn trees_go_and_come_back_with_what_they_had() {
        let mut all = done();
        all.wholes.push(Whole::Drop(0));
        all.wholes.push(Whole::Back(3));
        let e = Expected::empty().after(0, vec![all]).unwrap();
        let at = |csn: Csn| e.digests[csn as usize];
        assert_eq!(at(5), Digest::default());
        assert_eq!((at(6), e.state_at(6)), (at(3), e.state_at(3)));
        e.judge_snapshot(3, at(6)).unwrap();
        assert!(e.judge_snapshot(4, at(6)).is_err());
    }

    #[test]
    fn numbers_without_a_commit_and_commits_without_a_number_of_their_own() {
        let mut twice = done();
        twice.commits[2].csn = 3;
        assert!(Expected::empty().after(0, vec![twice]).is_err());
        let mut hole = done();
        hole.commits[2].csn = 9;
        let why = Expected::empty().after(0, vec![hole]).unwrap_err();
        assert_eq!(why, "nobody made the commits 4 to 8");
    }
}
