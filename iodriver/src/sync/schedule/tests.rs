use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::sync::{Condvar, Event, Mutex, ShortMutex, channel, thread, time};

fn plan(seed: u64) -> Plan {
    Plan::from_seed(seed)
}

/// Three threads, a channel, locks and a condition; what came of it.
fn busy() -> Vec<u64> {
    let (s, r) = channel::bounded(2);
    let order = Arc::new(Mutex::new(Vec::new()));
    let turn = Arc::new((Mutex::new(0), Condvar::new()));
    let threads: Vec<_> = (0..3u64)
        .map(|n| {
            let (s, order, turn) = (s.clone(), order.clone(), turn.clone());
            thread::spawn("worker", move || {
                for i in 0..20 {
                    s.send(n * 100 + i).unwrap();
                    order.lock().push(n);
                    if i % 7 == 0 {
                        thread::sleep(time::Duration::from_micros(n * 3));
                    }
                }
                let mut at = turn.0.lock();
                while *at != n {
                    turn.1.wait(&mut at);
                }
                *at += 1;
                turn.1.notify_all();
            })
            .unwrap()
        })
        .collect();
    drop(s);
    let mut got = Vec::new();
    while let Ok(n) = r.recv() {
        got.push(n);
        note(n);
    }
    for t in threads {
        t.join().unwrap();
    }
    got.extend(order.lock().iter());
    got
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_not() {
    let mut traces = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let (end, report) = run(&plan(seed), busy);
        let End::Done(got) = end else {
            panic!("seed {seed}: {end:?}")
        };
        assert_eq!(got.len(), 120);
        for _ in 0..5 {
            let (end, again) = run(&plan(seed), busy);
            assert!(matches!(end, End::Done(g) if g == got), "seed {seed}");
            assert_eq!(again, report, "seed {seed}");
        }
        traces.insert(report.trace);
    }
    assert_eq!(traces.len(), 50);
}

#[test]
fn time_jumps_when_nobody_can_run() {
    let begun = std::time::Instant::now();
    let (end, report) = run(&plan(1), || {
        let begun = time::now();
        thread::sleep(time::Duration::from_secs(3600));
        assert!(!Event::new().wait(Some(time::Duration::from_secs(60))));
        begun.elapsed()
    });
    let End::Done(took) = end else {
        panic!("{end:?}")
    };
    assert!((3660..3661).contains(&took.as_secs()), "{took:?}");
    assert!(report.time > took);
    assert!(begun.elapsed().as_secs() < 60);
}

#[test]
fn a_deadlock_is_told() {
    for seed in 0..20 {
        let (end, _) = run(&plan(seed), || {
            let locks = Arc::new((Mutex::new(()), Mutex::new(())));
            let other = locks.clone();
            let t = thread::spawn("other", move || {
                let _one = other.1.lock();
                let (s, r) = channel::bounded::<()>(1);
                assert!(r.try_recv().is_err());
                drop(s);
                thread::sleep(time::Duration::from_millis(1));
                let _two = other.0.lock();
            });
            let _one = locks.0.lock();
            thread::sleep(time::Duration::from_millis(1));
            let _two = locks.1.lock();
            t.unwrap().join().unwrap();
        });
        // Who is first may have both.
        match end {
            End::Deadlock(all) => {
                assert_eq!(all.len(), 2, "{all:?}");
                assert!(all.iter().all(|s| s.waits_for == "a mutex"), "{all:?}");
                assert!(all[0].at.contains("tests.rs"), "{all:?}");
                assert!(all[1].to_string().contains("other waits for a mutex at"));
            }
            other => assert!(matches!(other, End::Done(())), "{other:?}"),
        }
    }
}

#[test]
fn what_does_not_end_is_told() {
    let endless = Plan {
        max_points: 1000,
        ..plan(1)
    };
    let (end, _) = run(&endless, || {
        loop {
            thread::yield_now();
        }
    });
    let End::<()>::TooLong(all) = end else {
        panic!("{end:?}")
    };
    assert_eq!(all.len(), 1);
}

#[test]
fn a_panic_is_told_with_its_message() {
    let (end, _) = run(&plan(1), || panic!("said {}", 7));
    let End::<()>::Panicked(message) = end else {
        panic!("{end:?}")
    };
    assert_eq!(message, "said 7");
}

#[test]
fn destructors_of_thread_locals_run_before_anybody_else() {
    thread_local! {
        static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
    }
    struct Last(Arc<AtomicU64>);
    impl Drop for Last {
        fn drop(&mut self) {
            // A moment in which another thread would come first if it could.
            std::thread::sleep(std::time::Duration::from_millis(1));
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (end, _) = run(&plan(1), || {
        let ended = Arc::new(AtomicU64::new(0));
        for n in 1..20 {
            let mine = ended.clone();
            let t = thread::spawn("ends", move || LAST.set(Some(Last(mine)))).unwrap();
            while !t.is_finished() {
                thread::yield_now();
            }
            assert_eq!(ended.load(Ordering::SeqCst), n);
        }
    });
    assert!(matches!(end, End::Done(())), "{end:?}");
}

#[test]
fn an_order_that_matters_is_found() {
    // Reads, lets go, and writes back: some seed loses an addition.
    let mut named = false;
    let lost = (0..50).any(|seed| {
        let (end, report) = run(&plan(seed), || {
            let sum = Arc::new(ShortMutex::new(0));
            let threads = [(); 2].map(|()| {
                let sum = sum.clone();
                thread::spawn("adds", move || {
                    let _in = within("adding");
                    let n = *sum.lock();
                    *sum.lock() = n + 1;
                })
            });
            for t in threads {
                t.unwrap().join().unwrap();
            }
            *sum.lock()
        });
        named |= report.sites.contains_key("adding");
        matches!(end, End::Done(1))
    });
    assert!(lost && named);
}
