//! A view and a commit that it must not see: `commit/view.rs`, `commit/versions.rs`,
//! `worker.rs`, with latch and mark; and a freeze that pins it: `commit/pin.rs`.

use std::sync::Arc;

use gaur_iodriver::sync::atomic::{AtomicU64, Ordering};

use super::{explore, spawn};
use crate::cache::Latch;
use crate::commit::pin::{Pin, Pins};
use crate::commit::versions::Versions;
use crate::commit::view::{Reads, View};
use crate::commit::visible::Visible;
use crate::format::{Csn, Generation};
use crate::node::{HEADER_WORDS, NodeBuf};
use crate::worker::{Worker, Workers};

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
    pins: Pins,
    /// The leaf's value in the generation that was frozen.
    frozen: AtomicU64,
}

impl Store {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            workers: Workers::new(),
            drawn: AtomicU64::new(0),
            visible: Visible::new(0),
            versions: Versions::new(1 << 20),
            latch: Latch::default(),
            leaf: NodeBuf::new(2 * HEADER_WORDS),
            pins: Pins::default(),
            frozen: AtomicU64::new(0),
        })
    }

    /// Freezes a generation, as the checkpointer does.
    fn freeze(&self) {
        self.workers.close();
        let cut = self.drawn.load(Ordering::Acquire);
        self.frozen
            .store(self.leaf.page().load(VALUE), Ordering::Relaxed);
        if self.workers.has_lasting() {
            let pin = Arc::new(Pin::new(Generation(1), cut, Vec::new()));
            self.pins.pin(pin, &self.workers, || 0);
        }
        self.workers.open();
    }

    fn commit_inside(&self, me: &Worker) {
        let _inside = self.workers.enter(me);
        self.commit();
    }

    /// The next commit, as `Core::commit` makes it: of 7 times its CSN.
    fn commit(&self) {
        let held = self.latch.lock();
        let leaf = self.leaf.page();
        // Under the latch, so nobody draws in between.
        let csn = self.drawn.load(Ordering::Relaxed) + 1;
        // As the log publishes it.
        self.drawn.store(csn, Ordering::Release);
        if self.workers.oldest_view().is_some() {
            let before = leaf.load(VALUE) as u8;
            self.versions.keep(1, b"k", csn, Some((1, vec![before])));
        }
        leaf.store(VALUE, 7 * csn);
        leaf.store(CSN, csn);
        drop(held);
        self.visible.applied(csn);
    }

    /// What the view sees, whether it is pinned or not.
    fn read(&self, view: &View) -> u64 {
        loop {
            match view.reads(&self.pins) {
                Reads::Running => {
                    let seen = self.read_running(view);
                    if view.reads(&self.pins).is_running() {
                        return seen;
                    }
                }
                Reads::Frozen(pin) => {
                    let frozen = self.frozen.load(Ordering::Relaxed);
                    return self.image(view, pin.cut).unwrap_or(frozen);
                }
                Reads::Nothing => panic!("a pin was let go of"),
            }
        }
    }

    /// What the view sees, as a scan reads it.
    fn read_running(&self, view: &View) -> u64 {
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
        self.image(view, Csn::MAX).unwrap_or(value)
    }

    /// What the first of the commits up to `upto` that the view does not see changed.
    fn image(&self, view: &View, upto: Csn) -> Option<u64> {
        let mut images = self.versions.range(1, b"k", None, (view.csn(), upto));
        let (_, image) = images.pop()?;
        image.map(|(_, bytes)| u64::from(bytes[0]))
    }
}

#[test]
fn a_view_sees_all_before_it_and_nothing_after() {
    explore(Some(3), || {
        let store = Store::new();
        let s = store.clone();
        let reader = spawn(move || {
            // A thread's first view: its worker is added beside the commit.
            let me = s.workers.claim().unwrap();
            let view = View::open(me, &s.visible, true, || s.drawn.load(Ordering::Acquire));
            assert_eq!(
                s.read(&view),
                7 * view.csn(),
                "a view at {} sees",
                view.csn()
            );
        });
        store.commit();
        reader.join().unwrap();
    });
}

#[test]
fn a_view_is_pinned_to_what_it_sees() {
    explore(Some(3), || {
        let store = Store::new();
        let s = store.clone();
        let reader = spawn(move || {
            let me = s.workers.claim().unwrap();
            let drawn = || s.drawn.load(Ordering::Acquire);
            let view = View::open(me.clone(), &s.visible, true, drawn);
            // Changed since by its own thread, for one.
            s.commit_inside(&me);
            let seen = s.read(&view);
            assert_eq!(seen, 7 * view.csn(), "a view at {} sees", view.csn());
        });
        let me = store.workers.claim().unwrap();
        store.commit_inside(&me);
        store.freeze();
        store.commit_inside(&me);
        reader.join().unwrap();
    });
}
