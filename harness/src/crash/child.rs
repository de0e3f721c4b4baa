//! The child: writes until it is killed.

use std::fs::File;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use gaur::{Durability, OpenOptions, Store, Tree};

use super::plan::Plan;
use super::state::{Change, Commit, State, TREES};
use super::wire::{self, Ack, Message};
use crate::failure::{FINE, Failure, Outcome};
use crate::run::config::Driver;

/// What the parent tells its child.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) path: PathBuf,
    pub(crate) seed: u64,
    pub(crate) round: u32,
    pub(crate) threads: u16,
    pub(crate) cache: u64,
    pub(crate) driver: Driver,
    pub(crate) checkpoint_interval: Duration,
    pub(crate) buffered_interval: Duration,
    /// Recover and do nothing more.
    pub(crate) recover_only: bool,
}

impl Orders {
    /// How parent and child open the store.
    pub(crate) fn open(&self) -> gaur::Result<(Store, Vec<Tree>)> {
        let o = OpenOptions {
            cache_bytes: self.cache,
            driver: self.driver.into(),
            checkpoint_interval: self.checkpoint_interval,
            buffered_interval: self.buffered_interval,
            ..OpenOptions::default()
        };
        let store = Store::open(&self.path, &o)?;
        let trees = TREES
            .map(|name| store.tree(name))
            .into_iter()
            .collect::<Result<_, _>>()?;
        Ok((store, trees))
    }
}

/// Opens the store and writes by the plan, for ever. Ends only by an error.
pub(crate) fn serve(orders: &Orders) -> Outcome {
    let (store, trees) = orders.open()?;
    let pipe = wire::stdout().map_err(|e| pipe_broke(&e))?;
    Message::Ready.send(&pipe).map_err(|e| pipe_broke(&e))?;
    if orders.recover_only {
        return Ok(FINE);
    }
    thread::scope(|scope| {
        let writers: Vec<_> = (0..orders.threads)
            .map(|t| {
                let (store, trees, pipe) = (&store, &trees, &pipe);
                scope.spawn(move || match write(orders, store, trees, pipe, t) {
                    Ok(never) => never,
                    Err(failure) => {
                        // The parent must see it though the other writers go on.
                        crate::output::complain(&format!("writer {t}: {failure}"));
                        std::process::exit(failure.code.into());
                    }
                })
            })
            .collect();
        for writer in writers {
            if let Err(panic) = writer.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    Ok(FINE)
}

fn pipe_broke(e: &std::io::Error) -> Failure {
    Failure::refused(format!("the parent is gone: {e}"))
}

/// One writer.
fn write(
    orders: &Orders,
    store: &Store,
    trees: &[Tree],
    pipe: &File,
    thread: u16,
) -> Result<(), Failure> {
    let mut state = State::read(trees, thread).map_err(Failure::found)?;
    let mut plan = Plan::new(orders.seed, orders.round, thread);
    loop {
        let commit = plan.next(&state);
        let csn = commit_to(store, trees, &commit, thread)?;
        let ack = Ack {
            thread,
            sync: commit.sync,
            seq: commit.seq,
            csn,
            at: wire::now(),
        };
        Message::Ack(ack).send(pipe).map_err(|e| pipe_broke(&e))?;
        state.apply(&commit);
    }
}

/// Single changes go the way of single puts and deletes, others are batches.
fn commit_to(store: &Store, trees: &[Tree], commit: &Commit, thread: u16) -> Result<u64, Failure> {
    let durability = if commit.sync {
        Durability::Sync
    } else {
        Durability::Buffered
    };
    let tree = |c: &Change| &trees[usize::from(c.slot().tree)];
    let csn = match commit.changes.as_slice() {
        [change] => {
            let key = change.slot().key(thread);
            match change.stamp() {
                Some(stamp) => tree(change).put_with(&key, &stamp.value(&key), durability)?,
                None => tree(change).delete_with(&key, durability)?,
            }
        }
        _ => store.commit(commit.batch(trees, thread), durability)?,
    };
    Ok(csn)
}
