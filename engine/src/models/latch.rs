//! The latch and optimistic reading: `cache/latch.rs`, `node/page.rs`.

use std::sync::Arc;

use super::{explore, spawn};
use crate::cache::Latch;
use crate::node::{HEADER_WORDS, NodeBuf};

/// Two words of a node that writers change together.
const A: usize = HEADER_WORDS;
const B: usize = HEADER_WORDS + 1;

struct Node {
    latch: Latch,
    words: NodeBuf,
}

impl Node {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            latch: Latch::default(),
            words: NodeBuf::new(2 * HEADER_WORDS),
        })
    }

    /// Adds 1 to both words, under the latch.
    fn add(&self) {
        let n = self.words.page().load(A) + 1;
        self.words.page().store(A, n);
        self.words.page().store(B, n);
    }
}

#[test]
fn a_reader_sees_all_or_nothing() {
    explore(None, || {
        let node = Node::new();
        let n = node.clone();
        let writer = spawn(move || {
            let _held = n.latch.lock();
            n.add();
        });
        if let Some(version) = node.latch.try_version() {
            let page = node.words.page();
            let (b, a) = (page.load(B), page.load(A));
            if node.latch.validate(version) {
                assert_eq!(a, b, "torn");
            }
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_writer_finds_what_the_one_before_left() {
    explore(None, || {
        let node = Node::new();
        let n = node.clone();
        let writer = spawn(move || {
            let _held = n.latch.lock();
            n.add();
        });
        {
            let _held = node.latch.lock();
            node.add();
        }
        writer.join().unwrap();
        assert_eq!(node.words.page().load(A), 2, "lost");
        assert_eq!(node.words.page().load(B), 2, "lost");
    });
}

#[test]
fn an_upgrade_finds_what_a_release_without_a_change_left() {
    // The version does not move on, so it is the lock itself that must be ordered: who
    // ends a write changes a frame's state and leaves the version.
    explore(None, || {
        let node = Node::new();
        let n = node.clone();
        let writer = spawn(move || {
            let held = n.latch.lock();
            n.add();
            held.release_unchanged();
        });
        let version = node.latch.version();
        let mut added = 1;
        if let Some(held) = node.latch.try_upgrade(version) {
            node.add();
            held.release_unchanged();
            added += 1;
        }
        writer.join().unwrap();
        assert_eq!(node.words.page().load(A), added, "lost");
    });
}

#[test]
fn who_parks_is_woken() {
    // A deadlock, if a wake is lost: one waits to lock, one for a version.
    explore(Some(2), || {
        let node = Node::new();
        let (one, two) = (node.clone(), node.clone());
        let locker = spawn(move || {
            let _held = one.latch.lock();
            one.add();
        });
        let reader = spawn(move || {
            let version = two.latch.version();
            let b = two.words.page().load(B);
            let a = two.words.page().load(A);
            assert!(!two.latch.validate(version) || a == b, "torn");
        });
        {
            let _held = node.latch.lock();
            node.add();
        }
        locker.join().unwrap();
        reader.join().unwrap();
        assert_eq!(node.words.page().load(A), 2, "lost");
    });
}
