//! The history checker: random transactions on real threads, whose history must be as
//! that of some serial order, and which is seen to notice when it is not.

mod check;
mod history;

use std::cell::RefCell;

use gaur_iodriver::sync::rng::Rng;
use gaur_iodriver::sync::thread;
use rand::RngExt;

thread_local! {
    /// Where set, this thread gives up the processor at random in [`pause`].
    static PAUSES: RefCell<Option<Rng>> = const { RefCell::new(None) };
}

/// Called where the order of threads matters most, so that all orders are met.
pub(crate) fn pause() {
    PAUSES.with_borrow_mut(|r| {
        if let Some(r) = r
            && r.random_bool(0.3)
        {
            for _ in 0..r.random_range(1..4) {
                thread::yield_now();
            }
        }
    });
}

/// Has the calling thread pause from now on.
fn pause_at_random(r: Rng) {
    PAUSES.set(Some(r));
}
