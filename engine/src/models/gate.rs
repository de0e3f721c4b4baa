//! The gate, the freeze, and closing to commits: `worker.rs`.

use std::sync::Arc;

use gaur_iodriver::sync::atomic::{AtomicU64, Ordering};
use loom::cell::UnsafeCell;

use super::{explore, spawn};
use crate::format::Run;
use crate::worker::Workers;

/// What writers change inside the gate. loom notes each access and fails if two are
/// not ordered.
#[derive(Default)]
struct Trees(UnsafeCell<u64>);

// SAFETY: loom runs one thread at a time, and checks that accesses are ordered.
unsafe impl Sync for Trees {}
// SAFETY: as above.
unsafe impl Send for Trees {}

impl Trees {
    fn change(&self) {
        // SAFETY: loom fails the model if anybody else has the pointer meanwhile.
        self.0.with_mut(|n| unsafe { *n += 1 });
    }
}

#[test]
fn a_closed_gate_has_nobody_inside() {
    explore(None, || {
        let workers = Workers::new();
        let trees = Arc::new(Trees::default());
        let me = workers.claim().unwrap();
        let (w, t) = (workers.clone(), trees.clone());
        let writer = spawn(move || {
            let _inside = w.enter(&me);
            t.change();
        });
        workers.close();
        trees.change();
        workers.open();
        writer.join().unwrap();
        trees.0.with(|n| {
            // SAFETY: the writer has ended.
            assert_eq!(unsafe { *n }, 2);
        });
    });
}

#[test]
fn a_worker_added_meanwhile_sees_the_gate_closed() {
    explore(Some(3), || {
        let workers = Workers::new();
        let trees = Arc::new(Trees::default());
        let (w, t) = (workers.clone(), trees.clone());
        let writer = spawn(move || {
            let me = w.claim().unwrap();
            let _inside = w.enter(&me);
            t.change();
        });
        workers.close();
        trees.change();
        workers.open();
        writer.join().unwrap();
    });
}

#[test]
fn a_generation_is_frozen_whole() {
    // As the checkpointer freezes: what was noted in a generation, and nothing of the
    // next one, is in its journal. Two writers, one of them new.
    explore(Some(2), || {
        let workers = Workers::new();
        let running = Arc::new(AtomicU64::new(1));
        let me = workers.claim().unwrap();
        let write = |me: &crate::worker::Worker, w: &Workers, running: &AtomicU64| {
            let _inside = w.enter(me);
            let generation = running.load(Ordering::Acquire);
            me.used(Run::single(generation));
        };
        let (w, r) = (workers.clone(), running.clone());
        let one = spawn(move || write(&me, &w, &r));
        let (w, r) = (workers.clone(), running.clone());
        let two = spawn(move || {
            let me = w.claim().unwrap();
            write(&me, &w, &r);
        });
        workers.close();
        let frozen = workers.take_journals().used;
        running.store(2, Ordering::Release);
        workers.open();
        assert!(frozen.iter().all(|r| r.start == 1), "too new: {frozen:?}");
        one.join().unwrap();
        two.join().unwrap();
        let rest = workers.take_journals().used;
        assert!(rest.iter().all(|r| r.start == 2), "left behind: {rest:?}");
        assert_eq!(frozen.len() + rest.len(), 2);
    });
}

#[test]
fn a_closed_store_has_no_commit_under_way() {
    explore(None, || {
        let workers = Workers::new();
        let trees = Arc::new(Trees::default());
        let me = workers.claim().unwrap();
        let (w, t) = (workers.clone(), trees.clone());
        let writer = spawn(move || {
            if let Ok(_committing) = me.begin_commit(&w) {
                t.change();
            }
        });
        workers.refuse_commits();
        trees.change();
        writer.join().unwrap();
    });
}
