//! A view and a commit that it must not see: `commit/view.rs`, `commit/versions.rs`,
//! `worker.rs`, with latch and mark.

use std::sync::Arc;

use gaur_iodriver::sync::atomic::{AtomicU64, Ordering};

use super::{explore, spawn};
use crate::cache::Latch;
use crate::commit::versions::Versions;
use crate::commit::view::View;
use crate::commit::visible::Visible;
use crate::node::{HEADER_WORDS, NodeBuf};
use crate::worker::Workers;

/// The value in the leaf, and the CSN of its newest change.
const VALUE: usize = HEADER_WORDS;
const CSN: usize = HEADER_WORDS + 1;

struct Store {
    workers: Arc<Workers>,
    drawn: AtomicU64,
    visible: Visible,
    versions: Versions,
    latch: Latch,
    leaf: NodeBuf,
}

impl Store {
    /// A commit of 7 over 0, as `Core::commit` makes it.
    fn commit(&self) {
        let held = self.latch.lock();
        // As the log publishes it.
        self.drawn.store(1, Ordering::Release);
        if self.workers.oldest_view().is_some() {
            self.versions.keep(1, b"k", 1, Some((1, vec![0])));
        }
        let leaf = self.leaf.page();
        leaf.store(VALUE, 7);
        leaf.store(CSN, 1);
        drop(held);
        self.visible.applied(1);
    }

    /// What the view sees, as a scan reads it.
    fn read(&self, view: &View) -> u64 {
        let (value, csn) = loop {
            let version = self.latch.version();
            let leaf = self.leaf.page();
            let read = (leaf.load(VALUE), leaf.load(CSN));
            if self.latch.validate(version) {
                break read;
            }
        };
        if csn <= view.csn() {
            return value;
        }
        match self
            .versions
            .range(1, b"k", None, view.csn(), Csn::MAX)
            .pop()
        {
            Some((_, Some((_, image)))) => u64::from(image[0]),
            _ => value,
        }
    }
}

#[test]
fn a_view_sees_all_before_it_and_nothing_after() {
    explore(Some(3), || {
        let store = Arc::new(Store {
            workers: Workers::new(),
            drawn: AtomicU64::new(0),
            visible: Visible::new(0),
            versions: Versions::new(1 << 20),
            latch: Latch::default(),
            leaf: NodeBuf::new(2 * HEADER_WORDS),
        });
        let s = store.clone();
        let reader = spawn(move || {
            // A thread's first view: its worker is added beside the commit.
            let me = s.workers.claim().unwrap();
            let view = View::open(me, &s.visible, || s.drawn.load(Ordering::Acquire));
            let seen = if view.csn() == 1 { 7 } else { 0 };
            assert_eq!(s.read(&view), seen, "a view at {} sees", view.csn());
        });
        store.commit();
        reader.join().unwrap();
    });
}
