//! System calls that fail. A seccomp filter answers in the kernel's place, for one
//! thread, so that what hardly ever fails does.

#[path = "../common/loopdev.rs"]
mod loopdev;
mod rings;
#[path = "../common/seccomp.rs"]
mod seccomp;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use gaur_iodriver::{
    Completion, Device, DriverChoice, IoError, IoErrorKind, Op, OpenOptions, Request, check_create,
    open,
};
use loopdev::LoopDevice;
use seccomp::{Refusal, with_refused};

const MIB: u64 = 1 << 20;

fn creating(driver: DriverChoice, sparse: bool) -> OpenOptions {
    OpenOptions {
        create: Some(MIB),
        driver,
        sparse,
        ..OpenOptions::default()
    }
}

/// A new file in `dir`, open; sparse, so that it can be discarded from.
fn sparse_file(dir: &Path, driver: DriverChoice) -> Arc<dyn Device> {
    let path = dir.join(format!("file-{driver}"));
    open(path, &creating(driver, true)).expect("created").device
}

fn one(device: &dyn Device, op: Op) -> Completion {
    let mut queue = device.queue(1).expect("a queue");
    let mut out = Vec::new();
    queue
        .submit(&mut vec![Request { token: 7, op }])
        .expect("submit");
    queue.wait(1, None, &mut out).expect("wait");
    out.remove(0)
}

#[test]
fn a_failed_flush_is_told_and_not_tried_again() {
    let dir = tempfile::tempdir().expect("a directory");
    with_refused(&[Refusal::of(libc::SYS_fdatasync, libc::EIO)], || {
        let device = sparse_file(dir.path(), DriverChoice::Psync);
        let e = device.flush().expect_err("no flush");
        assert_eq!((e.kind, e.what), (IoErrorKind::Failed, "flush"));
        let e = one(device.as_ref(), Op::Flush)
            .result
            .expect_err("the same");
        assert_eq!(e.os, Some(libc::EIO));
        let flushes = device.counters().flushes;
        assert_eq!(flushes, 2, "one call each");
    });
}

#[test]
fn a_failed_discard_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    for (errno, kind) in [
        (libc::EIO, IoErrorKind::Failed),
        (libc::EOPNOTSUPP, IoErrorKind::Unsupported),
    ] {
        with_refused(&[Refusal::of(libc::SYS_fallocate, errno)], || {
            for driver in [DriverChoice::Auto, DriverChoice::Psync] {
                let path = dir.path().join(format!("{driver}-{errno}"));
                let device = open(path, &creating(driver, true)).expect("created").device;
                let discard = Op::Discard {
                    offset: 4096,
                    len: 8192,
                };
                let e = one(device.as_ref(), discard).result.expect_err("refused");
                assert_eq!((e.kind, e.offset, e.len), (kind, 4096, 8192));
            }
        });
    }
}

#[test]
fn a_file_that_gets_no_space_is_not_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    for (call, sparse, errno, kind) in [
        (
            libc::SYS_fallocate,
            false,
            libc::ENOSPC,
            IoErrorKind::NoSpace,
        ),
        (
            libc::SYS_fallocate,
            false,
            libc::EDQUOT,
            IoErrorKind::NoSpace,
        ),
        (
            libc::SYS_fallocate,
            false,
            libc::EOPNOTSUPP,
            IoErrorKind::Unsupported,
        ),
        (libc::SYS_fallocate, false, libc::EPERM, IoErrorKind::Denied),
        (libc::SYS_fallocate, false, libc::EIO, IoErrorKind::Failed),
        (
            libc::SYS_ftruncate,
            true,
            libc::EFBIG,
            IoErrorKind::Unsupported,
        ),
        (libc::SYS_ftruncate, true, libc::EIO, IoErrorKind::Failed),
        (libc::SYS_fsync, false, libc::EIO, IoErrorKind::Failed),
        (libc::SYS_flock, false, libc::ENOLCK, IoErrorKind::Failed),
    ] {
        with_refused(&[Refusal::of(call, errno)], || {
            let e = open(&path, &creating(DriverChoice::Psync, sparse)).expect_err("refused");
            assert_eq!((e.kind, e.os), (kind, Some(errno)), "{e}");
            assert!(e.detail.starts_with(&path.display().to_string()), "{e}");
            assert!(!path.exists());
        });
    }
}

#[test]
fn a_place_where_nothing_may_be_written_is_foreseen() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    let refusals = [
        #[cfg(target_arch = "x86_64")]
        Refusal::of(libc::SYS_access, libc::EROFS),
        Refusal::of(libc::SYS_faccessat, libc::EROFS),
    ];
    with_refused(&refusals, || {
        let e = check_create(&path, &creating(DriverChoice::Psync, true)).expect_err("refused");
        assert_eq!(e.kind, IoErrorKind::Denied);
        assert!(e.detail.contains("may not be written"), "{e}");
    });
}

#[test]
fn a_growth_that_fails_says_why_and_leaves_the_size() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    let device = open(&path, &creating(DriverChoice::Psync, false))
        .expect("created")
        .device;
    let grow_by = |refusal: Refusal, space: Option<u64>| {
        let mut error = None;
        with_refused(&[refusal], || {
            error = Some(device.grow(2 * MIB, space).expect_err("refused"));
        });
        error
    };
    if let Some(e) = grow_by(Refusal::of(libc::SYS_fallocate, libc::ENOSPC), Some(0)) {
        assert_eq!(e.kind, IoErrorKind::NoSpace);
    }
    if let Some(e) = grow_by(Refusal::of(libc::SYS_ftruncate, libc::EPERM), None) {
        assert_eq!(e.kind, IoErrorKind::Denied);
        assert!(e.detail.contains("cannot set the file's size"), "{e}");
    }
    assert_eq!(device.refresh().expect("asked").capacity, MIB);
    // Longer already, but perhaps not after a power cut.
    if let Some(e) = grow_by(Refusal::of(libc::SYS_fsync, libc::EIO), None) {
        assert_eq!(e.kind, IoErrorKind::Failed);
        assert!(e.detail.contains("did not become durable"), "{e}");
    }
}

#[test]
fn where_holes_are_not_known_all_is_data() {
    let dir = tempfile::tempdir().expect("a directory");
    let device = sparse_file(dir.path(), DriverChoice::Psync);
    with_refused(&[Refusal::of(libc::SYS_lseek, libc::EINVAL)], || {
        assert_eq!(device.next_data(8192).expect("asked"), Some(8192));
    });
    with_refused(&[Refusal::of(libc::SYS_lseek, libc::EIO)], || {
        let e = device.next_data(8192).expect_err("not known");
        assert_eq!((e.kind, e.offset), (IoErrorKind::Failed, 8192));
    });
}

#[test]
fn without_direct_access_the_page_cache_is_used_and_told_of() {
    let dir = tempfile::tempdir().expect("a directory");
    let refusal = Refusal::of_open_with(libc::O_DIRECT, libc::EINVAL);
    with_refused(&[refusal], || {
        let path = dir.path().join("file");
        let opened = open(&path, &creating(DriverChoice::Psync, true)).expect("created");
        assert!(!opened.geometry.direct);
        let notes = opened.notes.iter().filter(|n| n.contains("O_DIRECT"));
        assert_eq!(notes.count(), 1, "{:?}", opened.notes);
    });
}

#[test]
fn a_device_that_does_not_answer_is_not_opened() {
    let dir = tempfile::tempdir().expect("a directory");
    let image = dir.path().join("image");
    fs::File::create(&image)
        .and_then(|f| f.set_len(16 * MIB))
        .expect("an image");
    let device = match LoopDevice::attach(&image, 512, &[]) {
        Ok(device) => device,
        Err(reason) => return println!("skipped: {reason}"),
    };
    with_refused(&[Refusal::of(libc::SYS_ioctl, libc::EIO)], || {
        let e: IoError = open(device.path(), &OpenOptions::default()).expect_err("no answer");
        assert_eq!((e.kind, e.what), (IoErrorKind::Failed, "probe"));
        assert!(e.detail.contains("BLKSSZGET"), "{e}");
    });
}
