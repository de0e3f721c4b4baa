//! Change feeds: what they give, when they end, what happens to slow ones, power cuts.

mod basics;
mod power;
mod slow;

use std::collections::BTreeMap;
use std::time::Duration;

use gaur::{
    ChangeFeed, Csn, Durability, Error, FeedCommit, FeedOp, FeedOptions, FormatOptions,
    OpenOptions, Store,
};
use gaur_iodriver::sim::{SimDisk, SimOptions};

const BUFFERED: Durability = Durability::Buffered;
const MIB: u64 = 1 << 20;
/// Only a fault makes anybody wait so long.
const LONG: Duration = Duration::from_secs(60);

/// A store of which nothing is durable and nothing is checkpointed unless asked for.
fn options() -> OpenOptions {
    OpenOptions {
        cache_bytes: 4 * MIB,
        checkpoint_interval: Duration::from_secs(3600),
        buffered_interval: Duration::from_secs(3600),
        ..OpenOptions::default()
    }
}

fn formatted(seed: u64, capacity: u64) -> SimDisk {
    let disk = SimDisk::new(SimOptions {
        capacity,
        seed,
        ..SimOptions::default()
    });
    let options = FormatOptions {
        log_size: Some(4 * MIB),
        ..FormatOptions::default()
    };
    Store::format_device(disk.device(), &options).unwrap();
    disk
}

fn open(disk: &SimDisk) -> Store {
    Store::open_device(disk.device(), &options()).unwrap()
}

fn feed(store: &Store, after: Csn) -> ChangeFeed {
    store.changes(after, &FeedOptions::default()).unwrap()
}

/// The commits that are durable by now.
fn ready(feed: &mut ChangeFeed) -> Vec<FeedCommit> {
    let next = || feed.next_within(Duration::ZERO).unwrap();
    std::iter::from_fn(next).collect()
}

fn numbers(commits: &[FeedCommit]) -> Vec<Csn> {
    commits.iter().map(FeedCommit::csn).collect()
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a consumer makes of a feed: trees by number, with their names and records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Copy {
    csn: Csn,
    trees: BTreeMap<u32, (String, Records)>,
}

impl Copy {
    fn take(&mut self, commit: &FeedCommit) {
        assert!(self.try_take(commit), "the device failed");
    }

    /// False, and nothing done, if the device failed.
    fn try_take(&mut self, commit: &FeedCommit) -> bool {
        let next = self.csn + 1;
        assert_eq!(commit.csn(), next, "one was left out, or came twice");
        assert_eq!(commit.iter().count(), commit.len());
        let mut values = Vec::new();
        for op in commit.iter() {
            values.push(match op.value() {
                // It was replaced; a later commit says so.
                Err(Error::ValueGone { .. }) => Some(b"gone".to_vec()),
                Err(Error::Io(_)) => return false,
                value => value.unwrap(),
            });
        }
        for (op, value) in commit.iter().zip(values) {
            match op {
                FeedOp::CreateTree { tree, name } => {
                    let name = String::from_utf8(name.to_vec()).unwrap();
                    let old = self.trees.insert(tree, (name, BTreeMap::new()));
                    assert_eq!(old, None);
                }
                FeedOp::Delete { tree, key } => {
                    self.trees.get_mut(&tree).unwrap().1.remove(key);
                }
                FeedOp::Put { tree, key, .. } | FeedOp::PutLarge { tree, key, .. } => {
                    let records = &mut self.trees.get_mut(&tree).unwrap().1;
                    records.insert(key.to_vec(), value.unwrap());
                }
                other => panic!("{other:?}"),
            }
        }
        self.csn = commit.csn();
        true
    }

    /// It is what the store holds.
    fn compare(&self, store: &Store) {
        assert_eq!(self.trees.len(), store.tree_names().len());
        for (id, (name, records)) in &self.trees {
            let tree = store.open_tree(name).unwrap();
            assert_eq!(tree.id(), *id);
            let there: BTreeMap<_, _> = tree.iter().unwrap().map(Result::unwrap).collect();
            assert!(there == *records, "tree {name} differs");
        }
    }
}
