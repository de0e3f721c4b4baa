//! Which commits are visible: `commit/visible.rs`.

use std::sync::Arc;

use gaur_iodriver::sync::atomic::{AtomicU64, Ordering};

use super::{explore, spawn};
use crate::commit::visible::Visible;

#[test]
fn of_two_neighbours_one_closes_the_gap() {
    explore(Some(3), || {
        let visible = Arc::new(Visible::new(0));
        let v = visible.clone();
        let other = spawn(move || v.applied(2));
        visible.applied(1);
        other.join().unwrap();
        assert_eq!(visible.upto(), 2, "hidden");
    });
}

#[test]
fn what_is_visible_was_applied() {
    explore(Some(2), || {
        let visible = Arc::new(Visible::new(0));
        let data = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let (v, d) = (visible.clone(), data.clone());
        let other = spawn(move || {
            d[1].store(1, Ordering::Relaxed);
            v.applied(2);
        });
        let (v, d) = (visible.clone(), data.clone());
        let reader = spawn(move || {
            for csn in [1, 2] {
                if v.is_visible(csn) {
                    let word = &d[csn as usize - 1];
                    assert_eq!(word.load(Ordering::Relaxed), 1, "not applied");
                }
            }
        });
        data[0].store(1, Ordering::Relaxed);
        visible.applied(1);
        other.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn who_waits_is_woken() {
    // A deadlock, if a wake is lost.
    explore(None, || {
        let visible = Arc::new(Visible::new(0));
        let v = visible.clone();
        let waiter = spawn(move || {
            v.wait(1);
            assert!(v.is_visible(1));
        });
        visible.applied(1);
        waiter.join().unwrap();
    });
}

#[test]
fn both_who_wait_are_woken() {
    explore(Some(2), || {
        let visible = Arc::new(Visible::new(0));
        let waiters = [1, 2].map(|csn| {
            let v = visible.clone();
            spawn(move || v.wait(csn))
        });
        visible.applied(1);
        visible.applied(2);
        waiters.into_iter().for_each(|w| w.join().unwrap());
    });
}
