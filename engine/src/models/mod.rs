//! Models: the engine's protocols under loom, which tries every order in which their
//! threads may run and every value that the memory model lets each load return.
//!
//! The code is the engine's own; `gaur_iodriver::sync` gives it loom's atomics, locks and
//! threads. So a model is small: two or three threads, one or two steps each. Where it
//! says so, the number of preemptions is bounded; else everything is tried.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test -p gaur --profile models --lib --target-dir target/loom models
//! ```
//!
//! A model must fail when what it is about is taken away. Each order, fence and step
//! that the protocols' code names is weakened by that name (`GAUR_WEAKEN`) in [`weaken`].

mod device;
mod gate;
mod latch;
mod stash;
mod view;
mod visible;
mod weaken;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gaur_iodriver::sync::thread;

pub(crate) use device::Media;

/// Tries everything, with at most so many preemptions in one execution if a number is
/// given. Says how many executions that were.
pub(crate) fn explore(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicU64::new(0));
    let count = executions.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 50_000;
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let thread = std::thread::current();
    println!(
        "{}: {} executions",
        thread.name().unwrap_or("model"),
        executions.load(Ordering::Relaxed)
    );
}

/// As [`explore`], for a model that needs more stack than loom gives its first thread.
pub(crate) fn explore_deep(preemptions: usize, model: impl Fn() + Send + Sync + Copy + 'static) {
    explore(Some(preemptions), move || {
        spawn(model).join().expect("a model's panic ends it");
    });
}

/// A thread of a model.
pub(crate) fn spawn<T: Send + 'static>(
    body: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    thread::spawn("model", body).expect("a model's thread starts")
}
