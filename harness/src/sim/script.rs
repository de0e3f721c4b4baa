//! What the threads of a simulated world do: drawn from a seed before anything runs,
//! so that it can be shown, repeated and cut down.

use std::sync::Arc;

use gaur_iodriver::sync::rng::Rng;
use rand::RngExt;

/// A value, made from a seed where it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) seed: u64,
    pub(crate) len: usize,
}

impl Value {
    pub(crate) fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len + 8);
        let mut word = self.seed | 1;
        while bytes.len() < self.len {
            word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (word >> 29);
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.truncate(self.len);
        bytes
    }
}

/// The key of a number: short, long, and with long common prefixes.
pub(crate) fn key(n: u32) -> Vec<u8> {
    match n % 4 {
        0 => format!("a-rather-long-common-prefix/{n:06}").into_bytes(),
        1 => format!("{n:08x}-{}", "k".repeat((n % 300) as usize)).into_bytes(),
        _ => format!("k{:06}", n.wrapping_mul(7919) % 1_000_000).into_bytes(),
    }
}

/// The name of a tree.
pub(crate) fn tree_name(tree: u8) -> String {
    format!("tree-{tree}")
}

/// The name of a snapshot.
pub(crate) fn snapshot_name(snapshot: u8) -> String {
    format!("snapshot-{snapshot}")
}

/// One change of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Put(u8, u32, Value),
    Delete(u8, u32),
    /// Deletes what lies from one of two different keys on and before the other, in the order
    /// of their bytes. A commit by itself.
    Range(u8, u32, u32),
}

/// The keys of a [`Change::Range`].
pub(crate) fn range(a: u32, b: u32) -> std::ops::Range<Vec<u8>> {
    let (a, b) = (key(a), key(b));
    a.clone().min(b.clone())..a.max(b)
}

/// One step of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Put or delete alone if it is one change, a batch otherwise; or a transaction,
    /// which reads first what it changes.
    Commit {
        changes: Arc<[Change]>,
        sync: bool,
        transaction: bool,
    },
    Checkpoint,
    Flush,
    /// Waits for the thread's last commit.
    WaitDurable,
    /// Only of the first thread, like all about whole trees.
    Create(u8),
    Drop(u8),
    /// Takes a named snapshot, deletes it, goes back to it.
    Snapshot(u8),
    Forget(u8),
    Back(u8),
    Trim,
    /// The device is this many bytes larger, and the store is told.
    Grow(u64),
    /// The store is to make its file this many bytes larger.
    Enlarge(u64),
    /// This many 64ths of the most.
    Cache(u64),
    /// Reads a tree, so many records of it.
    Scan(u8, u32),
    Get(u8, u32),
    Pause(u64),
}

/// What all threads do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// Trees made before the threads begin.
    pub(crate) trees: u8,
    pub(crate) threads: Vec<Vec<Step>>,
    /// Closed at the end, or dropped.
    pub(crate) close: bool,
}

impl Script {
    pub(crate) fn steps(&self) -> usize {
        self.threads.iter().map(Vec::len).sum()
    }
}

/// What scripts are like.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    pub(crate) writers: usize,
    pub(crate) steps: usize,
    pub(crate) trees: u8,
    /// Different keys in a tree.
    pub(crate) keys: u32,
    /// Most steps are about this many of them.
    pub(crate) hot: u32,
    /// Of a hundred commits, how many are `Sync`.
    pub(crate) sync: u32,
    /// Of a thousand values, how many lie in extents.
    pub(crate) large: u32,
    pub(crate) largest: usize,
    /// Bytes of an ordinary value, at most.
    pub(crate) usual: usize,
    pub(crate) batch: usize,
    /// Of a hundred changes, how many are deletes.
    pub(crate) deletes: u32,
    /// Of a thousand further steps, how many empty a stretch of keys, so that leaves
    /// are merged.
    pub(crate) sweeps: u32,
    /// Of a thousand steps of the first thread, how many are checkpoints.
    pub(crate) checkpoints: u32,
    /// Of a thousand further steps, how many are scans.
    pub(crate) scans: u32,
    /// Of a hundred commits, how many are transactions.
    pub(crate) transactions: u32,
    pub(crate) grow: bool,
    pub(crate) trim: bool,
}

impl Mix {
    /// Of scripts that are written by hand.
    pub(crate) fn none() -> Self {
        Self {
            writers: 1,
            steps: 0,
            trees: 1,
            keys: 1,
            hot: 1,
            sync: 100,
            large: 0,
            largest: 0,
            usual: 0,
            batch: 0,
            deletes: 0,
            sweeps: 0,
            checkpoints: 0,
            scans: 0,
            transactions: 0,
            grow: false,
            trim: false,
        }
    }

    pub(crate) fn script(&self, rng: &mut Rng) -> Script {
        let mut made = self.trees;
        let threads = (0..self.writers)
            .map(|thread| {
                let steps = self.steps / self.writers;
                (0..steps.max(1))
                    .map(|_| self.step(thread, &mut made, rng))
                    .collect()
            })
            .collect();
        Script {
            trees: self.trees,
            threads,
            close: rng.random_bool(0.5),
        }
    }

    fn step(&self, thread: usize, made: &mut u8, rng: &mut Rng) -> Step {
        let dice = rng.random_range(0..1000);
        if thread == 0 && dice < self.checkpoints {
            return Step::Checkpoint;
        }
        let tree = rng.random_range(0..self.trees);
        match dice {
            930..935 if thread == 0 && *made < 40 => {
                *made += 1;
                Step::Create(*made - 1)
            }
            935..940 if thread == 0 && self.trim => Step::Trim,
            920..930 if thread == 0 && self.grow => {
                Step::Grow([16 << 10, 1 << 20, 30 << 20, 130 << 20][rng.random_range(0..4)])
            }
            940..945 => {
                let from = rng.random_range(0..self.keys);
                Step::Commit {
                    changes: [Change::Range(
                        tree,
                        from,
                        from + rng.random_range(1..=self.keys),
                    )]
                    .into(),
                    sync: rng.random_range(0..100) < self.sync,
                    transaction: false,
                }
            }
            945..950 => Step::Cache(rng.random_range(16..=64)),
            950..960 => Step::Scan(tree, rng.random_range(1..100)),
            960..975 => Step::Get(tree, rng.random_range(0..self.keys)),
            975..985 => Step::Pause(rng.random_range(1..3000)),
            985..993 => Step::WaitDurable,
            993..1000 => Step::Flush,
            _ if rng.random_range(0..1000) < self.scans => {
                Step::Scan(tree, rng.random_range(1..400))
            }
            _ if rng.random_range(0..1000) < self.sweeps => {
                let from = rng.random_range(0..self.keys);
                Step::Commit {
                    changes: (from..from + 40).map(|n| Change::Delete(tree, n)).collect(),
                    sync: rng.random_range(0..100) < self.sync,
                    transaction: false,
                }
            }
            _ => {
                let n = match rng.random_bool(0.4) {
                    true => rng.random_range(2..=self.batch.max(2)),
                    false => 1,
                };
                Step::Commit {
                    changes: (0..n).map(|_| self.change(rng)).collect(),
                    sync: rng.random_range(0..100) < self.sync,
                    transaction: rng.random_range(0..100) < self.transactions,
                }
            }
        }
    }

    fn change(&self, rng: &mut Rng) -> Change {
        let tree = rng.random_range(0..self.trees);
        let keys = match rng.random_bool(0.7) {
            true => self.hot,
            false => self.keys,
        };
        let key = rng.random_range(0..keys);
        if rng.random_range(0..100) < self.deletes {
            return Change::Delete(tree, key);
        }
        let len = if rng.random_range(0..1000) < self.large {
            rng.random_range(2000..self.largest)
        } else {
            match rng.random_range(0..10) {
                0 => rng.random_range(0..=self.usual * 8).min(1800),
                1 => 0,
                _ => rng.random_range(0..=self.usual),
            }
        };
        let seed = rng.random();
        Change::Put(tree, key, Value { seed, len })
    }
}
