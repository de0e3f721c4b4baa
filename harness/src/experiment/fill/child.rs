//! The process that is killed while it fills and empties the store.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

use super::load::{self, Did};
use super::{TREE, open};
use crate::crash::wire::{self, Ack, Message};
use crate::failure::{FINE, Failure, Outcome};

/// The verb that makes this program such a process.
pub(crate) const VERB: &str = "fill-child";
/// Above the record's number: it was deleted.
const DELETED: u64 = 1 << 62;

/// What it is told.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) path: PathBuf,
    pub(crate) seed: u64,
    pub(crate) writers: u16,
    pub(crate) cache: u64,
}

impl Orders {
    /// The command line that says so.
    pub(crate) fn args(&self) -> Vec<OsString> {
        vec![
            VERB.into(),
            self.path.clone().into(),
            format!("--seed={}", self.seed).into(),
            format!("--writers={}", self.writers).into(),
            format!("--cache={}", self.cache).into(),
        ]
    }
}

/// What an acknowledgement is about.
pub(crate) fn did(ack: &Ack) -> Did {
    match ack.seq & DELETED {
        0 => Did::Put(ack.seq),
        _ => Did::Deleted(ack.seq & !DELETED),
    }
}

/// Fills and empties the store, and waits to be killed.
pub(crate) fn serve(orders: &Orders) -> Outcome {
    let broke = |e: std::io::Error| Failure::refused(format!("the parent is gone: {e}"));
    let (store, pipe) = (
        open(&orders.path, orders.cache)?,
        wire::stdout().map_err(broke)?,
    );
    let tree = store.tree(TREE)?;
    Message::Ready.send(&pipe).map_err(broke)?;
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..orders.writers {
            let (tree, pipe, next) = (&tree, &pipe, &next);
            let tell = move |did: Did, csn: u64| {
                let (n, mark) = match did {
                    Did::Put(n) => (n, 0),
                    Did::Deleted(n) => (n, DELETED),
                };
                let ack = Ack {
                    thread,
                    sync: load::is_sync(n),
                    seq: n | mark,
                    csn,
                    at: wire::now(),
                };
                Message::Ack(ack).send(pipe).map_err(broke)
            };
            scope.spawn(move || {
                let work = || {
                    let filled = load::fill(tree, orders.seed, next, tell)?;
                    load::empty(tree, &filled.put, tell)
                };
                if let Err(failure) = work() {
                    // The parent must see it though the other writers go on.
                    eprintln!("gaur: writer {thread}: {failure}");
                    std::process::exit(failure.code.into());
                }
            });
        }
    });
    // All was deleted before the kill came: wait for it.
    loop {
        std::thread::park();
        if crate::interrupt::requested() {
            return Ok(FINE);
        }
    }
}
