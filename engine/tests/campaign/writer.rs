//! The workload: what one thread does to a store until it is told to stop or the
//! store fails.

use std::ops::ControlFlow;
use std::sync::Arc;

use gaur::{
    Csn, DiscardRate, Durability, Error, Isolation, Store, Transaction, TransactionOptions, Tree,
    TrimOptions, WriteBatch,
};
use gaur_iodriver::sim::SimDisk;
use gaur_iodriver::sync::rng::Rng;
use rand::RngExt;

use super::history::{Change, Commit, Done, Value};

/// What a workload is like.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    /// Threads that write.
    pub(crate) writers: u64,
    /// Different keys in a tree.
    pub(crate) keys: u32,
    /// How many commits of a hundred are `Sync`.
    pub(crate) sync: u32,
    /// How many values of a thousand lie in extents.
    pub(crate) large: u32,
    /// Operations of a batch, at most.
    pub(crate) batch: usize,
    /// How many operations of a thousand are checkpoints (of the first thread).
    pub(crate) checkpoints: u32,
}

/// The trees every store of a campaign has.
pub(crate) const TREES: [&str; 2] = ["one", "two"];

/// One thread of a workload.
pub(crate) struct Writer<'a> {
    pub(crate) store: &'a Store,
    /// Says whether a failure is to be expected.
    pub(crate) disk: &'a SimDisk,
    pub(crate) mix: &'a Mix,
    pub(crate) rng: Rng,
    pub(crate) number: u64,
    /// Makes names of trees unique.
    pub(crate) label: u64,
    pub(crate) done: Done,
    trees: Vec<(Arc<str>, Tree)>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(
        store: &'a Store,
        disk: &'a SimDisk,
        mix: &'a Mix,
        rng: Rng,
        (number, label): (u64, u64),
    ) -> Self {
        Self {
            store,
            disk,
            mix,
            rng,
            number,
            label,
            done: Done::default(),
            trees: Vec::new(),
        }
    }

    /// Runs until `limit` operations are done or the store fails; what was done.
    pub(crate) fn run(mut self, limit: usize) -> Done {
        let names: Vec<String> = TREES.iter().map(|n| (*n).to_owned()).collect();
        for name in names {
            if self.open(&name).is_none() {
                return self.done;
            }
        }
        for _ in 0..limit {
            if !self.step() {
                break;
            }
        }
        self.done
    }

    fn open(&mut self, name: &str) -> Option<()> {
        let shared: Arc<str> = name.into();
        let tree = match self.store.open_tree(name) {
            Err(Error::NoSuchTree(_)) => match self.store.create_tree(name) {
                Ok(tree) => {
                    self.done.created.push(shared.clone());
                    Ok(tree)
                }
                Err(Error::TreeExists(_)) => self.store.open_tree(name),
                Err(e) => {
                    self.failed(e, vec![Change::Create(shared)]);
                    return None;
                }
            },
            other => other,
        };
        self.trees.push((shared, tree.expect("the tree is there")));
        Some(())
    }

    fn key(&mut self) -> Vec<u8> {
        let n = self.rng.random_range(0..self.mix.keys);
        match n % 4 {
            0 => format!("a-rather-long-common-prefix/{n:06}").into_bytes(),
            1 => format!("{n:08x}-{}", "k".repeat((n % 300) as usize)).into_bytes(),
            _ => format!("k{:06}", n.wrapping_mul(7919) % 1_000_000).into_bytes(),
        }
    }

    fn value(&mut self) -> Value {
        let len = if self.rng.random_range(0..1000) < self.mix.large {
            self.rng.random_range(4000..60_000)
        } else {
            match self.rng.random_range(0..10) {
                0 => self.rng.random_range(300..1500),
                1 => 0,
                _ => self.rng.random_range(8..120),
            }
        };
        let start: u64 = self.rng.random();
        let word = |i: usize| start.wrapping_mul(i as u64 / 8 + 1).to_le_bytes()[i % 8];
        (0..len).map(word).collect()
    }

    fn change(&mut self) -> (usize, Change) {
        let at = self.rng.random_range(0..self.trees.len());
        let name = self.trees[at].0.clone();
        let key = self.key();
        if self.rng.random_range(0..5) == 0 {
            (at, Change::Delete(name, key))
        } else {
            let value = self.value();
            (at, Change::Put(name, key, value))
        }
    }

    /// One operation; false if the store has failed.
    fn step(&mut self) -> bool {
        if self.rng.random_range(0..200) == 0 {
            // From what it was at open to four times that.
            let most = self.store.cache_budget().most;
            let bytes = self.rng.random_range(most / 4..=most);
            // Closed or stopped, it says; what this thread does next does too.
            let _ = self.store.set_cache_bytes(bytes);
        }
        let durability = if self.rng.random_range(0..100) < self.mix.sync {
            Durability::Sync
        } else {
            Durability::Buffered
        };
        let dice = self.rng.random_range(0..1000);
        if self.number == 0 && dice < self.mix.checkpoints {
            let before = self.done.last();
            let result = self.store.checkpoint().map(|()| before);
            return self.told(result);
        }
        match dice {
            960..970 if self.number == 0 => {
                let before = self.done.last();
                let options = TrimOptions {
                    rate: DiscardRate::UNLIMITED,
                    dry_run: false,
                };
                let go_on = |_: &_| ControlFlow::Continue(());
                let result = self.store.trim(&options, go_on).map(|_| before);
                self.done.trims += u64::from(result.is_ok());
                self.told(result)
            }
            980..985 if self.trees.len() < TREES.len() + 1 => {
                let name = format!("zz-{}-{}-{}", self.label, self.number, self.done.last());
                self.open(&name).is_some()
            }
            985..993 => {
                let last = self.done.last();
                let result = self.store.wait_durable(last).map(|()| last);
                self.told(result)
            }
            993..1000 => {
                let result = self.store.flush();
                self.told(result)
            }
            0..600 => {
                let (at, change) = self.change();
                let tree = self.trees[at].1.clone();
                let result = match &change {
                    Change::Put(_, k, v) => tree.put_with(k, v, durability),
                    Change::Delete(_, k) => tree.delete_with(k, durability),
                    Change::Create(_) => unreachable!("not drawn"),
                };
                self.committed(result, vec![change], durability)
            }
            600..740 => self.transaction(durability),
            _ => {
                let mut batch = WriteBatch::new();
                let mut changes = Vec::new();
                for _ in 0..self.rng.random_range(2..=self.mix.batch) {
                    let (at, change) = self.change();
                    let tree = &self.trees[at].1;
                    match &change {
                        Change::Put(_, k, v) => batch.put(tree, k, v),
                        Change::Delete(_, k) => batch.delete(tree, k),
                        Change::Create(_) => unreachable!("not drawn"),
                    };
                    changes.push(change);
                }
                let result = self.store.commit(batch, durability);
                self.committed(result, changes, durability)
            }
        }
    }

    /// A transaction that reads, writes, and takes some of it back; it may meet others.
    fn transaction(&mut self, durability: Durability) -> bool {
        let mut changes = Vec::new();
        let result = self.in_transaction(&mut changes, durability);
        match result {
            Err(e) if e.is_retryable() => {
                // Nothing was drawn.
                self.done.conflicts += 1;
                true
            }
            result if changes.is_empty() => result.map_err(|e| self.expected(&e)).is_ok(),
            result => self.committed(result, changes, durability),
        }
    }

    fn in_transaction(
        &mut self,
        changes: &mut Vec<Change>,
        durability: Durability,
    ) -> Result<Csn, Error> {
        let isolation = match self.rng.random() {
            true => Isolation::Serializable,
            false => Isolation::Snapshot,
        };
        let mut t = self.store.begin(&TransactionOptions { isolation })?;
        let apply = |t: &mut Transaction, tree: &Tree, change: &Change| match change {
            Change::Put(_, k, v) => t.put(tree, k, v),
            Change::Delete(_, k) => t.delete(tree, k),
            Change::Create(_) => unreachable!("not drawn"),
        };
        let mut made = Vec::new();
        for _ in 0..self.rng.random_range(1..=self.mix.batch) {
            let (at, change) = self.change();
            let key = self.key();
            let tree = &self.trees[at].1;
            match self.rng.random_range(0..3) {
                0 => drop(t.get(tree, &key)?),
                1 => {
                    let some = self.rng.random_range(1..20);
                    for record in t.range(tree, key..)?.take(some) {
                        record?;
                    }
                }
                _ => {}
            }
            apply(&mut t, tree, &change)?;
            made.push(change);
        }
        let saved = t.savepoint();
        for _ in 0..self.rng.random_range(0..3) {
            let (at, change) = self.change();
            apply(&mut t, &self.trees[at].1, &change)?;
        }
        t.rollback_to(saved)?;
        *changes = made;
        t.commit(durability)
    }

    fn committed(
        &mut self,
        result: Result<Csn, Error>,
        changes: Vec<Change>,
        durability: Durability,
    ) -> bool {
        match result {
            Ok(csn) => {
                self.done.commits.push(Commit { csn, changes });
                if durability == Durability::Sync {
                    self.done.durable(csn);
                }
                true
            }
            Err(e) => self.failed(e, changes),
        }
    }

    /// A call that says what is durable.
    fn told(&mut self, result: Result<Csn, Error>) -> bool {
        match result {
            Ok(csn) => {
                self.done.durable(csn);
                true
            }
            Err(e) => {
                self.expected(&e);
                false
            }
        }
    }

    /// A commit that was refused or whose outcome is unknown.
    fn failed(&mut self, e: Error, changes: Vec<Change>) -> bool {
        match e {
            Error::OutcomeUnknown { csn, .. } => {
                self.done.commits.push(Commit { csn, changes });
            }
            Error::Full { .. } => {
                let deletes = changes.iter().all(|c| matches!(c, Change::Delete(..)));
                assert!(!deletes || changes.len() > 16, "a delete was refused: {e}");
                self.done.full += 1;
                return true;
            }
            _ => {}
        }
        self.expected(&e);
        false
    }

    /// With the power off, some errors are what must come.
    fn expected(&self, e: &Error) {
        let fits = matches!(
            e,
            Error::OutcomeUnknown { .. } | Error::Stopped(_) | Error::Io(_)
        );
        assert!(
            fits && !self.disk.is_powered(),
            "failed with the power {}: {e}",
            if self.disk.is_powered() { "on" } else { "off" }
        );
    }
}
