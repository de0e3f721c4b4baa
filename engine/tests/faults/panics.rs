//! Panics: of the store's own threads, which is fail-stop, and of a user's, which is not.

use std::sync::Once;
use std::time::Duration;

use gaur_iodriver::sim::{Fault, FaultKind, OpKind};

use crate::campaign::Watchdog;
use crate::work::formatted;
use crate::{Ended, all_faults, calls, recovers, run};

/// Keeps injected panics from filling the output.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<String>();
            if text.is_none_or(|t| !t.starts_with("injected panic")) {
                usual(info);
            }
        }));
    });
}

#[test]
fn a_thread_panics_at_every_call() {
    quiet();
    let watchdog = Watchdog::start(Duration::from_secs(60));
    let (base, before) = formatted();
    for op in [OpKind::Write, OpKind::Flush, OpKind::Read] {
        let (opening, all) = calls(&base);
        let (mut tried, mut stopped, mut users) = (0, 0, 0);
        // While opening it is the caller's own thread that panics.
        let step = if all_faults() { 1 } else { 4 };
        for at in (opening.next(op)..all.next(op)).step_by(step) {
            let what = format!("a panic in {op:?} {at}");
            watchdog.feed(what.clone());
            let disk = base.snapshot();
            disk.inject(Fault::once(op, at, FaultKind::Panic));
            let (out, ended) = run(&disk, &before, &what);
            tried += 1;
            stopped += u64::from(ended == Ended::Stopped);
            users += u64::from(out.panicked);
            recovers(&disk, out, &before, at, &what);
        }
        println!(
            "{op:?}: {tried} panics, {users} of them in a writer's call, {stopped} stores stopped"
        );
        if op != OpKind::Read {
            assert!((stopped + users) * 10 >= tried * 7, "{stopped} of {tried}");
        }
    }
}
