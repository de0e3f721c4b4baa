//! The standard workload: a small store with a small log and a small cache, three
//! writers, and everything a writer can do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gaur::{Durability, DurableMethod, Error, FormatOptions, OpenOptions, Store, Tree, WriteBatch};
use gaur_iodriver::sim::{SimDisk, SimOptions};

use crate::campaign::history::{Change, Commit, Done, Known};

pub(crate) const ONE: &str = "one";
const RECORDS: u32 = 3000;
const WRITERS: u32 = 3;
const ROUNDS: u32 = 24;

pub(crate) fn key(i: u32) -> Vec<u8> {
    format!("key-{:05}", i.wrapping_mul(7919) % 10_007).into_bytes()
}

pub(crate) fn open(disk: &SimDisk) -> Result<Store, Error> {
    let options = OpenOptions {
        // Small: the evictor reads and writes too.
        cache_bytes: 1 << 20,
        checkpoint_interval: Duration::from_secs(3600),
        buffered_interval: Duration::from_millis(2),
        discard: true,
        ..OpenOptions::default()
    };
    Store::open_device(disk.device(), &options)
}

/// A store with something in it and something to replay, and what it holds.
pub(crate) fn formatted() -> (SimDisk, Known) {
    let disk = SimDisk::new(SimOptions {
        capacity: 32 << 20,
        seed: 7,
        ..SimOptions::default()
    });
    let options = FormatOptions {
        durable_method: Some(DurableMethod::Dsync),
        log_size: Some(4 << 20),
        ..FormatOptions::default()
    };
    Store::format_device(disk.device(), &options).unwrap();
    let store = open(&disk).unwrap();
    let tree = store.tree(ONE).unwrap();
    let mut done = Done::default();
    done.created.push(ONE.into());
    let mut put = |k: Vec<u8>, v: Vec<u8>, durability| {
        let csn = tree.put_with(&k, &v, durability).unwrap();
        let changes = vec![Change::Put(ONE.into(), k, v.into())];
        done.commits.push(Commit { csn, changes });
    };
    for i in 0..RECORDS {
        put(key(i), vec![1; 400], Durability::Buffered);
    }
    store.checkpoint().unwrap();
    put(key(3), b"replayed".to_vec(), Durability::Buffered);
    put(key(4), vec![2; 20_000], Durability::Sync);
    let mut known = Known::default();
    known.settle(done, store.flush().unwrap());
    drop(tree);
    drop(store);
    (disk.snapshot(), known)
}

/// What the workload did, and the errors its writers met.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) done: Done,
    pub(crate) errors: Vec<Error>,
    /// Writers that panicked. What they did before is in `done`.
    pub(crate) panicked: u32,
}

impl Outcome {
    /// Notes the end of a commit; whether the writer goes on.
    fn note(&mut self, changes: Vec<Change>, sync: bool, result: Result<u64, Error>) -> bool {
        match result {
            Ok(csn) => {
                self.done.commits.push(Commit { csn, changes });
                if sync {
                    self.done.durable(csn);
                }
                return true;
            }
            Err(Error::OutcomeUnknown { csn, cause }) => {
                self.done.commits.push(Commit { csn, changes });
                self.errors.push(Error::OutcomeUnknown { csn, cause });
            }
            // Nothing happened: what was to be read, or a large value to be written,
            // was not. Whether the store has stopped the next one tells.
            Err(e @ Error::Io(_)) => {
                self.errors.push(e);
                return true;
            }
            Err(e) => self.errors.push(e),
        }
        false
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.done.merge(other.done);
        self.errors.extend(other.errors);
        self.panicked += other.panicked;
    }
}

/// Three writers at once; each ends when the store has stopped.
pub(crate) fn work(store: &Store) -> Outcome {
    let mut outs = [(); WRITERS as usize].map(|()| Outcome::default());
    let panicked = std::thread::scope(|s| {
        let writers: Vec<_> = (0..)
            .zip(&mut outs)
            .map(|(t, out)| s.spawn(move || writer(store, t, out)))
            .collect();
        writers.into_iter().filter_map(|w| w.join().err()).count()
    });
    let mut all = Outcome {
        panicked: panicked as u32,
        ..Outcome::default()
    };
    outs.into_iter().for_each(|out| all.merge(out));
    all
}

fn commit(
    store: &Store,
    trees: &[(&str, &Tree)],
    changes: &[Change],
    sync: bool,
) -> Result<u64, Error> {
    let tree = |name: &str| trees.iter().find(|t| t.0 == name).expect("one of them").1;
    let mut batch = WriteBatch::new();
    for change in changes {
        match change {
            Change::Put(t, k, v) => batch.put(tree(t), k, v),
            Change::Delete(t, k) => batch.delete(tree(t), k),
            Change::Create(_) => unreachable!(),
        };
    }
    let durability = if sync {
        Durability::Sync
    } else {
        Durability::Buffered
    };
    store.commit(batch, durability)
}

fn writer(store: &Store, t: u32, out: &mut Outcome) {
    let Ok(one) = store.open_tree(ONE) else {
        unreachable!("it was there when the store was opened")
    };
    let own_name: Arc<str> = format!("own-{t}").into();
    let mut own = None;
    for i in 0..ROUNDS {
        let n = i * WRITERS + t;
        let sync = i % 3 == 0;
        if i == 4 {
            match store.create_tree(&own_name) {
                Ok(tree) => {
                    out.done.created.push(own_name.clone());
                    own = Some(tree);
                }
                Err(e) => {
                    let changes = vec![Change::Create(own_name.clone())];
                    if !out.note(changes, true, Err(e)) {
                        return;
                    }
                }
            }
        }
        // A large value, one in the leaf, or small ones.
        let len = match i % 8 {
            2 => 30_000,
            5 => 1_500,
            _ => 20 + n as usize,
        };
        let value = |n: u32| vec![n as u8; len];
        let mut changes = vec![Change::Put(ONE.into(), key(n * 31), value(n).into())];
        if i % 4 == 1 {
            changes.push(Change::Delete(ONE.into(), key(n * 17 + 1)));
        }
        if t == 0 && (6..20).contains(&i) {
            // Always the same keys, and together half the log: it asks for a checkpoint.
            for j in 0..170 {
                let k = format!("log-{j:03}").into_bytes();
                changes.push(Change::Put(ONE.into(), k, vec![i as u8; 900].into()));
            }
        }
        let mut trees = vec![(ONE, &one)];
        if let Some(own) = &own {
            trees.push((&*own_name, own));
            for j in 0..6 {
                let k = key(n * 6 + j);
                changes.push(Change::Put(own_name.clone(), k, vec![n as u8; 300].into()));
            }
        }
        let result = commit(store, &trees, &changes, sync);
        if !out.note(changes, sync, result) {
            return;
        }
        if n % 30 == 22 {
            let last = out.done.last();
            match store.checkpoint() {
                Ok(()) => out.done.durable(last),
                Err(e) => {
                    out.errors.push(e);
                    return;
                }
            }
        }
    }
}

/// What a stopped store still does and does not.
pub(crate) fn stopped(store: &Store, out: &Outcome, before: &Known, what: &str) {
    let tree = store.open_tree(ONE).unwrap();
    for durability in [Durability::Sync, Durability::Buffered] {
        let refused = tree.put_with(b"after", b"x", durability);
        assert!(
            matches!(refused, Err(Error::Stopped(_))),
            "{what}: {refused:?}"
        );
        let refused = tree.delete_with(&key(1), durability);
        assert!(
            matches!(refused, Err(Error::Stopped(_))),
            "{what}: {refused:?}"
        );
    }
    let big = tree.put(b"after", &[1; 20_000]);
    assert!(matches!(big, Err(Error::Stopped(_))), "{what}: {big:?}");
    let new = store.create_tree("another");
    assert!(matches!(new, Err(Error::Stopped(_))), "{what}: {new:?}");
    let checkpoint = store.checkpoint();
    assert!(
        matches!(checkpoint, Err(Error::Stopped(_))),
        "{what}: {checkpoint:?}"
    );
    assert!(!tree.contains(b"after").unwrap());
    // Reads go on, also of what has to be read from the device.
    let touched: BTreeSet<_> = out
        .done
        .commits
        .iter()
        .flat_map(|c| &c.changes)
        .filter_map(|c| match c {
            Change::Put(_, k, _) | Change::Delete(_, k) => Some(k.clone()),
            Change::Create(_) => None,
        })
        .collect();
    for (k, v) in before.trees[ONE]
        .iter()
        .filter(|(k, _)| !touched.contains(*k))
    {
        let got = tree.get(k).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(got.as_deref(), Some(&v[..]), "{what}");
    }
    assert!(tree.iter().unwrap().all(|r| r.is_ok()), "{what}");
}
