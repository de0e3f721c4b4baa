//! Rings, descriptors and threads that are not to be had, or end in use.

use std::sync::Arc;
use std::time::Duration;

use gaur_iodriver::{Device, DriverChoice, IoBuf, IoErrorKind, Op, Request, open};

use super::seccomp::{Refusal, with_refused};
use super::{creating, one, sparse_file};

/// A device on io_uring, or `None` with the reason printed.
fn uring(dir: &std::path::Path, strict: bool) -> Option<Arc<dyn Device>> {
    let driver = match strict {
        true => DriverChoice::Uring,
        false => DriverChoice::Auto,
    };
    let path = dir.join(format!("ring-{strict}"));
    match open(path, &creating(driver, true)) {
        Ok(opened) if opened.device.driver() == "uring" => Some(opened.device),
        _ => {
            println!("skipped: no io_uring here");
            None
        }
    }
}

fn write(byte: u8) -> Op {
    let mut buf = IoBuf::zeroed(4096);
    buf.fill(byte);
    Op::Write {
        offset: 4096,
        buf,
        durable: true,
    }
}

#[test]
fn a_queue_without_a_ring_works_without_one_and_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(strict) = uring(dir.path(), true) else {
        return;
    };
    for (errno, words) in [
        (libc::EMFILE, "too many open files"),
        (libc::ENFILE, "too many open files"),
        (libc::ENOMEM, "RLIMIT_MEMLOCK"),
        (libc::EPERM, "io_uring is forbidden"),
        (libc::ENOSYS, "the kernel has no io_uring"),
    ] {
        let Some(device) = uring(dir.path(), false) else {
            return;
        };
        assert!(device.notes().is_empty());
        with_refused(&[Refusal::of(libc::SYS_io_uring_setup, errno)], || {
            one(device.as_ref(), write(errno as u8))
                .result
                .expect("written");
            let mut back = IoBuf::zeroed(4096);
            device.read_at(4096, &mut back).expect("read");
            assert!(back.iter().all(|b| *b == errno as u8));
            let notes = device.notes().join("; ");
            assert!(notes.contains("without io_uring"), "{notes}");
            assert!(notes.contains(words), "{notes}");
            let e = strict.queue(1).expect_err("nothing else will do");
            assert_eq!((e.kind, e.os), (IoErrorKind::Queue, Some(errno)));
            assert!(e.detail.contains(words), "{e}");
        });
        drop(device);
        std::fs::remove_file(dir.path().join("ring-false")).expect("removed");
    }
    // What is no want of anything is an error for all.
    let Some(device) = uring(dir.path(), false) else {
        return;
    };
    with_refused(
        &[Refusal::of(libc::SYS_io_uring_setup, libc::EFAULT)],
        || {
            let e = device.queue(1).expect_err("not refused but broken");
            assert!(e.detail.contains("io_uring cannot be set up"), "{e}");
        },
    );
    with_refused(&[Refusal::of(libc::SYS_eventfd2, libc::EMFILE)], || {
        let e = strict.queue(1).expect_err("no waker");
        assert!(e.detail.contains("no eventfd"), "{e}");
    });
}

#[test]
fn a_ring_that_cannot_be_entered_ends_its_queue() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(device) = uring(dir.path(), true) else {
        return;
    };
    with_refused(&[Refusal::of(libc::SYS_io_uring_enter, libc::EIO)], || {
        let mut queue = device.queue(1).expect("a queue");
        let mut requests = vec![Request {
            token: 1,
            op: write(1),
        }];
        let e = queue.submit(&mut requests).expect_err("not entered");
        assert_eq!((e.kind, e.os), (IoErrorKind::Queue, Some(libc::EIO)));
        assert!(requests.is_empty(), "the queue has the buffer");
        let e = queue
            .wait(1, Some(Duration::ZERO), &mut Vec::new())
            .expect_err("nor now");
        assert_eq!(e.kind, IoErrorKind::Queue);
    });
}

#[test]
fn a_ring_that_cannot_be_enabled_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(device) = uring(dir.path(), true) else {
        return;
    };
    let refusal = Refusal::of(libc::SYS_io_uring_register, libc::EPERM);
    with_refused(&[refusal], || {
        let mut queue = device.queue(1).expect("a queue");
        let mut requests = vec![Request {
            token: 1,
            op: write(1),
        }];
        // A ring of an older kernel's kind needs no enabling.
        if let Err(e) = queue.submit(&mut requests) {
            assert_eq!((e.kind, e.os), (IoErrorKind::Queue, Some(libc::EPERM)));
            assert!(e.detail.contains("cannot be enabled"), "{e}");
        }
        // Rings that cannot be asked what they can are not used.
        let path = dir.path().join("other");
        let opened = open(path, &creating(DriverChoice::Auto, true)).expect("created");
        assert_eq!(opened.device.driver(), "psync");
        assert!(opened.notes.iter().any(|n| n.contains("forbidden")));
    });
}

#[test]
fn a_queue_with_requests_in_flight_stays_with_its_thread() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(device) = uring(dir.path(), true) else {
        return;
    };
    let mut queue = device.queue(2).expect("a queue");
    let request = |token| Request {
        token,
        op: write(token as u8),
    };
    queue.submit(&mut vec![request(1)]).expect("submit");
    let deferred = gaur_iodriver::look::rings().is_ok_and(|r| r.deferred);
    let mut queue = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            match queue.submit(&mut vec![request(2)]) {
                Err(e) => {
                    assert!(deferred);
                    assert_eq!((e.kind, e.os), (IoErrorKind::Queue, Some(libc::EEXIST)));
                }
                Ok(()) => assert!(!deferred),
            }
            queue
        });
        other.join().expect("the other thread")
    });
    // Back with its own it goes on.
    let mut out = Vec::new();
    let n = if deferred { 1 } else { 2 };
    while out.len() < n {
        queue.wait(n - out.len(), None, &mut out).expect("wait");
    }
    assert!(out.iter().all(|c| c.result.is_ok()));
    let told = format!("{queue:?}");
    assert!(told.contains("in_kernel: 0"), "{told}");
    if deferred {
        // With nothing in flight it may go.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                queue.submit(&mut vec![request(3)]).expect("submit");
                queue.wait(1, None, &mut out).expect("wait");
                drop(queue);
            });
        });
    }
}

#[test]
fn threads_that_cannot_be_started_are_told_of() {
    let dir = tempfile::tempdir().expect("a directory");
    let ring = uring(dir.path(), true);
    let pool = sparse_file(dir.path(), DriverChoice::Psync);
    let no_threads = [
        Refusal::of(libc::SYS_clone, libc::EAGAIN),
        Refusal::of(libc::SYS_clone3, libc::EAGAIN),
    ];
    with_refused(&no_threads, || {
        let e = pool.queue(4).expect_err("no thread");
        assert_eq!((e.kind, e.os), (IoErrorKind::Queue, Some(libc::EAGAIN)));
        assert!(e.detail.contains("thread limit"), "{e}");
        if let Some(ring) = &ring {
            let discard = Op::Discard {
                offset: 0,
                len: 4096,
            };
            let e = one(ring.as_ref(), discard).result.expect_err("no thread");
            assert_eq!((e.kind, e.what), (IoErrorKind::Queue, "discard"));
        }
    });
    // One is enough to go on.
    one(pool.as_ref(), write(1)).result.expect("written");
    with_refused(&no_threads, || {
        let mut queue = pool.queue(4).expect("shares the one");
        let request = |token| Request {
            token,
            op: write(token as u8),
        };
        queue
            .submit(&mut (0..4).map(request).collect())
            .expect("submit");
        let mut out = Vec::new();
        queue.wait(4, None, &mut out).expect("wait");
        assert_eq!(out.len(), 4);
        assert!(out.iter().all(|c| c.result.is_ok()));
    });
}
