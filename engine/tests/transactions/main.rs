//! Transactions from outside: what a caller is promised. `docs/transactions.md` says it
//! in words. The history checker is beside the code (`txn::tests`), since it leaves
//! parts of the validation out.

mod basics;
mod hermitage;
mod limits;
mod looking;
mod points;

use std::time::Duration;

use gaur::{
    Conflict, ConflictOn, Csn, Durability, Error, FormatOptions, Isolation, OpenOptions, Store,
    Transaction, TransactionOptions, Tree,
};
use gaur_iodriver::sim::{SimDisk, SimOptions};

const BUFFERED: Durability = Durability::Buffered;

fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(SimOptions {
        capacity: 64 << 20,
        seed,
        ..SimOptions::default()
    });
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    disk
}

fn open(disk: &SimDisk) -> Store {
    let options = OpenOptions {
        cache_bytes: 4 << 20,
        checkpoint_interval: Duration::from_millis(50),
        ..OpenOptions::default()
    };
    Store::open_device(disk.device(), &options).unwrap()
}

fn begin(store: &Store, isolation: Isolation) -> Transaction {
    store.begin(&TransactionOptions { isolation }).unwrap()
}

/// The conflict that a commit fails with.
fn conflict(committed: Result<Csn, Error>) -> Conflict {
    match committed {
        Err(Error::Conflict(on)) => *on,
        other => panic!("{other:?} is no conflict"),
    }
}

/// All records of a tree as a transaction sees them.
fn all(t: &Transaction, tree: &Tree) -> Vec<(Vec<u8>, Vec<u8>)> {
    t.iter(tree).unwrap().map(Result::unwrap).collect()
}
