//! Opening, locking, geometry and description of files and block devices.

#[path = "common/loopdev.rs"]
mod loopdev;
#[path = "common/seccomp.rs"]
mod seccomp;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use gaur_iodriver::{
    Completion, Description, Device, DeviceKind, DriverChoice, DurableMethod, IoBuf, IoError,
    IoErrorKind, Op, OpenOptions, Opened, Request, describe, look, look::users, open,
};
use loopdev::LoopDevice;
use seccomp::{Refusal, with_refused};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

fn dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn options() -> OpenOptions {
    OpenOptions::default()
}

fn creating(size: u64) -> OpenOptions {
    OpenOptions {
        create: Some(size),
        ..options()
    }
}

fn reading() -> OpenOptions {
    OpenOptions {
        read_only: true,
        ..options()
    }
}

/// Opens what must be refused, without waiting for a holder to go. All opens
/// that must succeed do wait: another test may just be starting a process, which
/// until its exec has our files open too.
fn refusal(path: &Path, options: &OpenOptions) -> IoError {
    let impatient = OpenOptions {
        lock_wait: Duration::ZERO,
        ..options.clone()
    };
    match open(path, &impatient) {
        Ok(opened) => panic!("{} was opened: {opened:?}", path.display()),
        Err(e) => e,
    }
}

fn one(device: &dyn Device, op: Op) -> Completion {
    let mut queue = device.queue(1).expect("a queue");
    let mut out = Vec::new();
    queue
        .submit(&mut vec![Request { token: 0, op }])
        .expect("submit");
    queue.wait(1, None, &mut out).expect("wait");
    out.remove(0)
}

/// A loop device on a new image, or `None` with the reason printed.
fn loop_device(dir: &TempDir, more: &[&str]) -> Option<LoopDevice> {
    let image = dir.path().join("image");
    File::create(&image)
        .and_then(|f| f.set_len(16 * MIB))
        .expect("an image");
    LoopDevice::attach(&image, 512, more)
        .map_err(|reason| println!("skipped: {reason}"))
        .ok()
}

fn run(command: &str, args: &[&str]) -> bool {
    Command::new(command)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

#[test]
fn what_is_not_there_or_no_device() {
    let dir = dir();
    let e = refusal(&dir.path().join("nothing"), &options());
    assert_eq!(e.kind, IoErrorKind::NotFound);
    assert!(e.to_string().contains("nothing"), "{e}");
    let e = refusal(dir.path(), &options());
    assert_eq!(e.kind, IoErrorKind::Unsupported);
    let e = refusal(Path::new("/dev/null"), &options());
    assert_eq!(e.kind, IoErrorKind::Unsupported);
}

#[test]
fn creates_preallocated_and_sparse_files() {
    let dir = dir();
    let full = dir.path().join("full");
    let opened = open(&full, &creating(8 * MIB)).expect("created");
    assert_eq!(opened.geometry.capacity, 8 * MIB);
    assert_eq!(opened.geometry.discard_granularity, 0);
    assert!(opened.geometry.volatile_cache && !opened.geometry.is_block_device);
    let metadata = fs::metadata(&full).expect("there");
    assert_eq!(metadata.len(), 8 * MIB);
    assert!(metadata.blocks() * 512 >= 8 * MIB, "space is set aside");
    assert_eq!(metadata.mode() & 0o077, 0, "for its owner alone");

    let sparse = dir.path().join("sparse");
    let opened = open(
        &sparse,
        &OpenOptions {
            sparse: true,
            ..creating(8 * MIB)
        },
    )
    .expect("created");
    assert!(opened.geometry.discard_granularity > 0);
    let blocks = || fs::metadata(&sparse).expect("there").blocks() * 512;
    assert!(blocks() < MIB);
    // What is written takes space, what is discarded gives it back.
    let buf = IoBuf::zeroed(4 * MIB as usize);
    opened.device.write_at(0, &buf).expect("write");
    opened.device.flush().expect("flush");
    assert!(blocks() >= 4 * MIB);
    let discard = Op::Discard {
        offset: 0,
        len: 4 * MIB,
    };
    one(opened.device.as_ref(), discard)
        .result
        .expect("discard");
    assert!(blocks() < 4 * MIB);
    assert_eq!(fs::metadata(&sparse).expect("there").len(), 8 * MIB);
    drop(opened);

    // That it is sparse must be said again, then or later.
    let opened = open(&sparse, &options()).expect("opened");
    assert_eq!(opened.geometry.discard_granularity, 0);
    opened.device.write_at(0, &buf).expect("write");
    opened.device.flush().expect("flush");
    let discard = || Op::Discard {
        offset: 0,
        len: 4 * MIB,
    };
    let e = one(opened.device.as_ref(), discard()).result;
    assert_eq!(e.expect_err("not sparse").kind, IoErrorKind::Unsupported);
    assert!(blocks() >= 4 * MIB);
    opened.device.treat_as_sparse();
    assert!(opened.device.geometry().discard_granularity > 0);
    let other = opened.device.with_durable_method(DurableMethod::Dsync);
    one(other.as_ref(), discard()).result.expect("discard");
    assert!(blocks() < 4 * MIB);
    opened.device.grow(16 * MIB, Some(0)).expect("grow");
    assert!(blocks() < 4 * MIB, "it grows without taking space");
}

#[test]
fn a_file_with_holes_gets_its_space_unless_it_is_sparse() {
    let dir = dir();
    let path = dir.path().join("holes");
    let blocks = || fs::metadata(&path).expect("there").blocks() * 512;
    fs::File::create(&path)
        .and_then(|f| f.set_len(8 * MIB))
        .expect("a file");
    for sparse in [true, false] {
        let opened = open(
            &path,
            &OpenOptions {
                sparse,
                ..options()
            },
        )
        .expect("opened");
        assert_eq!(opened.geometry.discard_zeroes, sparse);
        let mut buf = IoBuf::zeroed(4096);
        buf.fill(7);
        opened.device.write_at(MIB, &buf).expect("write");
        opened.device.preallocate().expect("preallocated");
        assert_eq!(blocks() >= 8 * MIB, !sparse);
        let mut back = IoBuf::zeroed(4096);
        opened.device.read_at(MIB, &mut back).expect("read");
        assert_eq!(back[..], buf[..], "what is there stays");
    }
}

#[test]
fn a_size_that_no_file_has_is_refused() {
    let dir = dir();
    let path = dir.path().join("huge");
    let huge = OpenOptions {
        sparse: true,
        ..creating(1 << 62)
    };
    let e = refusal(&path, &huge);
    assert_eq!(e.kind, IoErrorKind::Unsupported);
    assert!(e.to_string().contains("cannot hold a file"), "{e}");
    assert!(!path.exists());
}

#[test]
fn creating_harms_nothing_that_exists() {
    let dir = dir();
    let path = dir.path().join("file");
    fs::write(&path, b"precious").expect("written");
    let e = refusal(&path, &creating(8 * MIB));
    assert_eq!(e.kind, IoErrorKind::Denied);
    assert!(e.detail.contains("8 B"), "{e}");
    assert_eq!(fs::read(&path).expect("there"), b"precious");
    // An empty one is as good as none.
    fs::write(&path, b"").expect("written");
    assert_eq!(
        open(&path, &creating(MIB))
            .expect("created")
            .geometry
            .capacity,
        MIB
    );
    // What fails leaves nothing behind.
    let path = dir.path().join("other");
    let e = refusal(&path, &creating(MIB + 1));
    assert_eq!(e.kind, IoErrorKind::Misaligned);
    assert!(!path.exists());
    let e = refusal(&path, &creating(1 << 60));
    assert!(
        matches!(e.kind, IoErrorKind::NoSpace | IoErrorKind::Unsupported),
        "{e}"
    );
    assert!(!path.exists());
    let e = refusal(
        &path,
        &OpenOptions {
            read_only: true,
            ..creating(MIB)
        },
    );
    assert_eq!(e.kind, IoErrorKind::Denied);
    assert!(!path.exists());
}

#[test]
fn one_writer_or_many_readers() {
    let dir = dir();
    let path = dir.path().join("file");
    let writer = open(&path, &creating(MIB)).expect("created");
    for options in [options(), reading()] {
        let e = refusal(&path, &options);
        assert_eq!(e.kind, IoErrorKind::Busy);
        assert!(e.detail.contains("Close that one first"), "{e}");
    }
    let looking = OpenOptions {
        exclusive: false,
        ..reading()
    };
    open(&path, &looking).expect("told to look");
    drop(writer);
    let first = open(&path, &reading()).expect("a reader");
    let second = open(&path, &reading()).expect("another reader");
    assert_eq!(refusal(&path, &options()).kind, IoErrorKind::Busy);
    drop((first, second));
    open(&path, &options()).expect("a writer again");
}

#[test]
fn a_used_device_is_free_when_it_and_its_queues_are_dropped() {
    let dir = dir();
    for driver in [DriverChoice::Auto, DriverChoice::Psync] {
        let path = dir.path().join(driver.to_string());
        let choose = OpenOptions {
            driver,
            ..creating(MIB)
        };
        let opened = open(&path, &choose).expect("created");
        let mut queue = opened.device.queue(4).expect("a queue");
        let buf = IoBuf::zeroed(4096);
        queue
            .submit(&mut vec![Request {
                token: 0,
                op: Op::Write {
                    offset: 0,
                    buf,
                    durable: true,
                },
            }])
            .expect("submit");
        let waker = queue.waker();
        drop(opened);
        assert_eq!(refusal(&path, &options()).kind, IoErrorKind::Busy);
        drop(queue);
        // The ring gives its file back when it is closed, which the kernel may
        // do a moment later; the lock wait is there for that.
        open(&path, &OpenOptions::default()).expect("free again");
        waker.wake();
    }
}

#[test]
fn waits_for_a_holder_that_goes_away() {
    let dir = dir();
    let path = dir.path().join("file");
    let holder = open(&path, &creating(MIB)).expect("created");
    let leaving = thread::spawn(move || {
        thread::sleep(Duration::from_millis(150));
        drop(holder);
    });
    let start = Instant::now();
    open(&path, &OpenOptions::default()).expect("free in time");
    assert!(start.elapsed() >= Duration::from_millis(100));
    leaving.join().expect("the holder");

    let _holder = open(&path, &options()).expect("free");
    let start = Instant::now();
    let patient = OpenOptions {
        lock_wait: Duration::from_millis(120),
        ..options()
    };
    let e = open(&path, &patient).expect_err("it stays");
    assert_eq!(e.kind, IoErrorKind::Busy);
    assert!(start.elapsed() >= Duration::from_millis(120));
    assert!(start.elapsed() < Duration::from_secs(14), "it lives");
}

/// Not of one that is only ending: see the next.
#[test]
fn does_not_wait_for_another_process_that_lives() {
    let dir = dir();
    let path = dir.path().join("file");
    drop(open(&path, &creating(MIB)).expect("created"));
    let holder = Command::new("flock")
        .arg("-F")
        .arg(&path)
        .args(["sleep", "100"])
        .spawn();
    let Ok(mut holder) = holder else {
        println!("skipped: no flock");
        return;
    };
    let start = Instant::now();
    let impatient = OpenOptions {
        lock_wait: Duration::ZERO,
        ..options()
    };
    let held = || open(&path, &impatient).err();
    while held().is_none() && start.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(10));
    }
    let patient = OpenOptions {
        lock_wait: Duration::from_secs(60),
        ..options()
    };
    let start = Instant::now();
    let e = open(&path, &patient).expect_err("it is held");
    let took = start.elapsed();
    holder.kill().expect("killed");
    holder.wait().expect("ended");
    assert_eq!(e.kind, IoErrorKind::Busy);
    let process = format!("process {}", holder.id());
    // Not where the kernel does not tell who has a lock.
    if e.to_string().contains(&process) {
        assert!(took < Duration::from_secs(30), "{took:?}");
    }
}

/// Only a ring has the file, as after the end of the process that made it: then no
/// `/proc/*/fd` shows it.
#[test]
fn waits_longer_for_what_is_left_of_a_process() {
    let Ok(ring) = io_uring::IoUring::new(2) else {
        println!("skipped: no io_uring here");
        return;
    };
    let dir = dir();
    let path = dir.path().join("file");
    drop(open(&path, &creating(MIB)).expect("created"));
    if users(&path).expect("looked").processes_not_seen > 0 {
        println!("skipped: not all processes may be looked at");
        return;
    }
    let file = File::options().write(true).open(&path).expect("opened");
    file.lock().expect("locked");
    ring.submitter()
        .register_files(&[file.as_raw_fd()])
        .expect("registered");
    drop(file);
    assert_eq!(refusal(&path, &options()).kind, IoErrorKind::Busy);
    let dying = thread::spawn(move || {
        thread::sleep(Duration::from_millis(1200));
        drop(ring);
    });
    let hasty = OpenOptions {
        lock_wait: Duration::from_millis(50),
        ..options()
    };
    let opened = open(&path, &hasty);
    dying.join().expect("the ring");
    opened.expect("free in time");
}

/// The claim on a block device, which nothing but the last close gives back.
#[test]
fn a_device_is_free_when_another_thread_drops_its_queues() {
    let dir = dir();
    let Some(device) = loop_device(&dir, &[]) else {
        return;
    };
    // A process that another test starts has our files too, until its exec.
    let busy = (0..20).filter(|_| {
        let opened = open(device.path(), &options()).expect("free");
        let mut queue = opened.device.queue(4).expect("a queue");
        let user = thread::spawn(move || {
            queue.submit(&mut vec![Request {
                token: 0,
                op: Op::Flush,
            }])?;
            queue.wait(1, None, &mut Vec::new())?;
            queue.hand_over();
            Ok::<_, IoError>(queue)
        });
        drop(user.join().expect("the user").expect("a flush"));
        drop(opened);
        let hasty = OpenOptions {
            lock_wait: Duration::ZERO,
            ..options()
        };
        open(device.path(), &hasty).is_err()
    });
    let busy = busy.count();
    assert!(busy < 10, "{busy} of 20 times it was not free at once");
}

#[test]
fn a_read_only_device_takes_no_writes() {
    let dir = dir();
    let path = dir.path().join("file");
    drop(open(&path, &creating(MIB)).expect("created"));
    let before = fs::metadata(&path).expect("there");
    for driver in [DriverChoice::Auto, DriverChoice::Psync] {
        let choose = OpenOptions {
            driver,
            sparse: true,
            ..reading()
        };
        let opened = open(&path, &choose).expect("opened");
        assert!(opened.read_only);
        let device = opened.device.as_ref();
        let mut buf = IoBuf::zeroed(4096);
        device.read_at(0, &mut buf).expect("read");
        let e = device.write_at(0, &buf).expect_err("read-only");
        assert_eq!(e.kind, IoErrorKind::Denied);
        let write = Op::Write {
            offset: 0,
            buf,
            durable: true,
        };
        let e = one(device, write).result.expect_err("read-only");
        assert_eq!(e.kind, IoErrorKind::Denied);
        let discard = Op::Discard {
            offset: 0,
            len: 4096,
        };
        let e = one(device, discard).result.expect_err("read-only");
        assert_eq!(e.kind, IoErrorKind::Denied);
        let e = device.grow(2 * MIB, Some(0)).expect_err("read-only");
        assert_eq!(e.kind, IoErrorKind::Denied);
    }
    let after = fs::metadata(&path).expect("there");
    assert_eq!(
        (before.len(), before.mtime_nsec(), before.blocks()),
        (after.len(), after.mtime_nsec(), after.blocks())
    );
}

#[test]
fn drivers_are_chosen_and_direct_is_told_truly() {
    let dir = dir();
    let path = dir.path().join("file");
    let opened = open(
        &path,
        &OpenOptions {
            driver: DriverChoice::Psync,
            ..creating(MIB)
        },
    )
    .expect("created");
    assert_eq!(opened.device.driver(), "psync");
    drop(opened);
    let opened = open(
        &path,
        &OpenOptions {
            direct: false,
            ..options()
        },
    )
    .expect("opened");
    assert!(!opened.geometry.direct);
    assert_eq!(opened.geometry.memory_align, 1);
    let mut bytes = vec![0; 512 * 3 + 1];
    opened
        .device
        .read_at(512, &mut bytes[1..])
        .expect("any memory will do");
    drop(opened);
    let opened = open(&path, &options()).expect("opened");
    let fdinfo = opened.geometry.direct || !opened.notes.is_empty();
    assert!(fdinfo, "direct, or a note why not: {opened:?}");
    for (name, choice) in [
        ("auto", DriverChoice::Auto),
        ("uring", DriverChoice::Uring),
        ("psync", DriverChoice::Psync),
    ] {
        assert_eq!(name.parse(), Ok(choice));
        assert_eq!(choice.to_string(), name);
    }
    assert!("nvme".parse::<DriverChoice>().is_err());
}

#[test]
fn memory_file_systems_are_told_of() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
        println!("skipped: no /dev/shm");
        return;
    };
    let opened = open(dir.path().join("file"), &creating(MIB)).expect("created");
    assert!(!opened.geometry.direct);
    assert!(opened.notes.iter().any(|n| n.contains("memory")));
    let write = Op::Write {
        offset: 4096,
        buf: IoBuf::zeroed(4096),
        durable: true,
    };
    one(opened.device.as_ref(), write).result.expect("write");
}

#[test]
fn psync_takes_over_where_io_uring_is_forbidden() {
    let forbidden = Refusal::of(libc::SYS_io_uring_setup, libc::EPERM);
    with_refused(&[forbidden], || {
        let dir = dir();
        let path = dir.path().join("file");
        let opened: Opened = open(&path, &creating(MIB)).expect("created");
        assert_eq!(opened.device.driver(), "psync");
        assert!(
            opened.notes.iter().any(|n| n.contains("forbidden")),
            "{:?}",
            opened.notes
        );
        let write = Op::Write {
            offset: 0,
            buf: IoBuf::zeroed(4096),
            durable: true,
        };
        one(opened.device.as_ref(), write).result.expect("write");
        drop(opened);
        let strict = OpenOptions {
            driver: DriverChoice::Uring,
            ..options()
        };
        let e = refusal(&path, &strict);
        assert_eq!(e.kind, IoErrorKind::Queue);
        assert!(e.detail.contains("use psync or auto"), "{e}");
    });
}

#[test]
fn files_grow() {
    let dir = dir();
    for sparse in [false, true] {
        let path = dir.path().join(format!("file-{sparse}"));
        let options = OpenOptions {
            sparse,
            ..creating(MIB)
        };
        let device = open(&path, &options).expect("created").device;
        let space = (!sparse).then_some(0);
        device
            .write_at(0, &{
                let mut buf = IoBuf::zeroed(4096);
                buf.fill(7);
                buf
            })
            .expect("write");
        let e = device
            .write_at(MIB, &IoBuf::zeroed(4096))
            .expect_err("the end");
        assert_eq!(e.kind, IoErrorKind::OutOfRange);
        assert_eq!(device.grow(4 * MIB, space).expect("grow").capacity, 4 * MIB);
        device.write_at(MIB, &IoBuf::zeroed(4096)).expect("write");
        assert_eq!(device.grow(MIB, space).expect("grow").capacity, 4 * MIB);
        assert_eq!(
            device.grow(4 * MIB + 1, space).expect_err("odd").kind,
            IoErrorKind::Misaligned
        );
        let e = device.grow(1 << 60, space).expect_err("too much");
        assert!(
            matches!(e.kind, IoErrorKind::NoSpace | IoErrorKind::Unsupported),
            "{e}"
        );
        assert_eq!(device.geometry().capacity, 4 * MIB);
        assert_eq!(fs::metadata(&path).expect("there").len(), 4 * MIB);
        let allocated = fs::metadata(&path).expect("there").blocks() * 512;
        assert_eq!(allocated >= 4 * MIB, !sparse);
        // Made longer by somebody else, without space.
        let outside = fs::OpenOptions::new().write(true).open(&path);
        outside.and_then(|f| f.set_len(6 * MIB)).expect("longer");
        assert_eq!(device.geometry().capacity, 4 * MIB, "not before a refresh");
        assert_eq!(device.refresh().expect("refresh").capacity, 6 * MIB);
        device.grow(6 * MIB, Some(4 * MIB)).expect("space");
        let now = fs::metadata(&path).expect("there");
        assert_eq!(now.len(), 6 * MIB);
        let more = now.blocks() * 512 - allocated;
        assert_eq!(more >= 2 * MIB, !sparse, "{more}");
        let mut buf = IoBuf::zeroed(4096);
        device.read_at(0, &mut buf).expect("read");
        assert!(buf.iter().all(|&b| b == 7));
    }
}

#[test]
fn a_file_cut_short_behind_our_back_gives_an_error() {
    let dir = dir();
    for driver in [DriverChoice::Auto, DriverChoice::Psync] {
        let path = dir.path().join(driver.to_string());
        let options = OpenOptions {
            driver,
            ..creating(MIB)
        };
        let device = open(&path, &options).expect("created").device;
        let file = File::options().write(true).open(&path).expect("opened");
        file.set_len(MIB / 2).expect("cut");
        let mut buf = IoBuf::zeroed(8192);
        let e = device
            .read_at(MIB / 2 - 4096, &mut buf)
            .expect_err("past the end");
        assert_eq!(e.kind, IoErrorKind::OutOfRange);
        let read = Op::Read {
            offset: MIB / 2 - 4096,
            buf,
        };
        let c = one(device.as_ref(), read);
        assert_eq!(
            c.result.expect_err("past the end").kind,
            IoErrorKind::OutOfRange
        );
        assert!(c.buf.is_some());
        assert_eq!(device.refresh().expect("refresh").capacity, MIB / 2);
        file.set_len(2 * MIB).expect("longer");
        assert_eq!(device.refresh().expect("refresh").capacity, 2 * MIB);
    }
}

#[test]
fn a_block_device_has_one_writer() {
    let dir = dir();
    let Some(device) = loop_device(&dir, &[]) else {
        return;
    };
    let writer = open(device.path(), &options()).expect("opened");
    assert!(writer.geometry.is_block_device && writer.geometry.direct);
    let e = refusal(device.path(), &options());
    assert_eq!(e.kind, IoErrorKind::Busy);
    assert_eq!(refusal(device.path(), &reading()).kind, IoErrorKind::Busy);
    let e = writer
        .device
        .grow(32 * MIB, Some(0))
        .expect_err("a block device");
    assert_eq!(e.kind, IoErrorKind::Unsupported);
    drop(writer);
    let first = open(device.path(), &reading()).expect("a reader");
    let second = open(device.path(), &reading()).expect("another");
    drop((first, second));
    let e = refusal(device.path(), &creating(MIB));
    assert_eq!(e.kind, IoErrorKind::Unsupported);

    // The image grows, and with it the device.
    let writer = open(device.path(), &options()).expect("opened");
    File::options()
        .write(true)
        .open(dir.path().join("image"))
        .and_then(|f| f.set_len(32 * MIB))
        .expect("longer");
    let path = device.path().to_string_lossy().into_owned();
    assert!(run("losetup", &["--set-capacity", &path]));
    assert_eq!(writer.device.geometry().capacity, 16 * MIB);
    assert_eq!(writer.device.refresh().expect("refresh").capacity, 32 * MIB);
}

#[test]
fn a_write_protected_device_is_only_read() {
    let dir = dir();
    let Some(device) = loop_device(&dir, &["--read-only"]) else {
        return;
    };
    let e = refusal(device.path(), &options());
    assert_eq!(e.kind, IoErrorKind::Denied, "{e}");
    open(device.path(), &reading()).expect("for reading");
    assert!(describe(device.path()).expect("described").read_only);
}

/// Unmounts at the end of a test, whatever its end.
struct Mount(String);

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", &[&self.0]);
    }
}

#[test]
fn a_mounted_device_is_refused_always() {
    let dir = dir();
    let Some(device) = loop_device(&dir, &["--partscan"]) else {
        return;
    };
    let path = device.path().to_string_lossy().into_owned();
    // A blank in the name is escaped in the kernel's list of mounts.
    let place = dir.path().join("a place");
    fs::create_dir(&place).expect("a directory");
    let place = place.to_string_lossy().into_owned();
    if !run("mkfs.ext4", &["-q", &path]) || !run("mount", &[&path, &place]) {
        println!("skipped: no file system can be mounted here");
        return;
    }
    let mount = Mount(place.clone());
    for exclusive in [true, false] {
        let options = OpenOptions {
            exclusive,
            ..options()
        };
        let e = refusal(device.path(), &options);
        assert_eq!(e.kind, IoErrorKind::Busy);
        assert!(
            e.detail
                .contains("a place; nothing was written. Unmount it first"),
            "{e}"
        );
    }
    let facts = describe(device.path()).expect("described");
    assert_eq!(facts.mounted_at, Some(place.clone()));
    let found = users(device.path()).expect("looked");
    let [mounted] = found.mounts.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((&mounted.device, &mounted.at), (&path, &place));
    assert_eq!(mounted.fs_type, "ext4");
    // What lies below a file there, down to the image.
    let file = Path::new(&place).join("file");
    fs::write(&file, b"x").expect("written");
    let facts = look::file(&file).expect("a file");
    assert_eq!((&*facts.fs_type, &facts.mounted_at), ("ext4", &place));
    let image = dir.path().join("image").display().to_string();
    assert_eq!(facts.chain[0], path.trim_start_matches("/dev/"));
    assert!(
        facts.chain[1].starts_with(&format!("{image} on ")),
        "{facts:?}"
    );
    assert!(facts.max_size >= Some(4 << 40) && facts.fs_free > Some(0));
    drop(mount);
    assert!(users(device.path()).expect("looked").is_empty());
    open(device.path(), &OpenOptions::default()).expect("unmounted");
}

#[test]
fn a_disk_with_a_mounted_partition_is_refused() {
    let dir = dir();
    let Some(device) = loop_device(&dir, &["--partscan"]) else {
        return;
    };
    let path = device.path().to_string_lossy().into_owned();
    let part = format!("{path}p1");
    // Told to the kernel, without a table on the device.
    if !run("addpart", &[&path, "1", "2048", "30720"]) || !Path::new(&part).exists() {
        println!("skipped: no partitions can be made here");
        return;
    }
    let place = dir.path().join("place");
    fs::create_dir(&place).expect("a directory");
    let place = place.to_string_lossy().into_owned();
    assert_eq!(
        describe(&part).expect("described").kind,
        DeviceKind::Partition
    );
    let shown = describe(&part).expect("described").to_string();
    assert!(shown.contains("kind            partition"), "{shown}");
    let partition = look::hardware(&part).expect("known").partition;
    let partition = partition.expect("a part");
    assert_eq!(partition.disk, path.trim_start_matches("/dev/"));
    assert_eq!((partition.number, partition.start), (1, MIB));
    {
        let opened = open(&part, &OpenOptions::default()).expect("a free partition");
        assert_eq!(opened.geometry.capacity, 15 * MIB);
        // Whoever has a part open uses the disk.
        let held = fs::File::open(&part).expect("opened");
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::from(held))
            .spawn()
            .expect("a process");
        let found = users(device.path()).expect("looked").processes;
        child.kill().expect("killed");
        child.wait().expect("gone");
        assert!(found.iter().any(|p| p.pid == child.id() && p.path == part));
        assert_eq!(opened.geometry.logical_block, 512);
        assert_eq!(refusal(device.path(), &options()).kind, IoErrorKind::Busy);
    }
    if !run("mkfs.ext4", &["-q", &part]) || !run("mount", &[&part, &place]) {
        println!("skipped: no file system can be mounted here");
        return;
    }
    let _mount = Mount(place);
    for exclusive in [true, false] {
        let options = OpenOptions {
            exclusive,
            ..options()
        };
        for path in [&path, &part] {
            let e = refusal(Path::new(path), &options);
            assert_eq!(e.kind, IoErrorKind::Busy);
            assert!(e.detail.contains("Unmount it first"), "{e}");
        }
        let e = refusal(device.path(), &options);
        assert!(e.detail.contains(&format!("the partition {part}")), "{e}");
    }
}

#[test]
fn a_partition_of_a_mounted_disk_is_refused() {
    let dir = dir();
    let Some(device) = loop_device(&dir, &["--partscan"]) else {
        return;
    };
    let path = device.path().to_string_lossy().into_owned();
    let part = format!("{path}p1");
    let place = dir.path().join("place");
    fs::create_dir(&place).expect("a directory");
    let place = place.to_string_lossy().into_owned();
    if !run("addpart", &[&path, "1", "2049", "20480"])
        || !Path::new(&part).exists()
        || !run("mkfs.ext4", &["-q", "-F", &path])
    {
        println!("skipped: no partitions or file systems can be made here");
        return;
    }
    let opened = open(&part, &options()).expect("a free partition");
    assert_eq!(opened.start, 2049 * 512);
    drop(opened);
    if !run("mount", &[&path, &place]) {
        println!("skipped: no file system can be mounted here");
        return;
    }
    let _mount = Mount(place.clone());
    let e = refusal(Path::new(&part), &options());
    assert_eq!(e.kind, IoErrorKind::Busy);
    let named = format!("is a part of {path}, which is mounted at {place}");
    assert!(e.detail.contains(&named), "{e}");
}

#[test]
fn what_a_loop_device_shows_is_refused_and_its_use_is_seen() {
    let dir = dir();
    let Some(device) = loop_device(&dir, &[]) else {
        return;
    };
    // The file, while the device is there.
    let e = refusal(&dir.path().join("image"), &options());
    assert_eq!(e.kind, IoErrorKind::Busy);
    let path = device.path().to_string_lossy().into_owned();
    assert!(e.detail.contains(&path), "{e}");
    open(dir.path().join("image"), &reading()).expect("may be looked at");
    // A device that shows a device that is mounted.
    let place = dir.path().join("place");
    fs::create_dir(&place).expect("a directory");
    let place = place.to_string_lossy().into_owned();
    let Ok(upper) = LoopDevice::attach(device.path(), 512, &[]) else {
        println!("skipped: no loop device on a loop device here");
        return;
    };
    open(upper.path(), &options()).expect("free");
    if !run("mkfs.ext4", &["-q", &path]) || !run("mount", &[&path, &place]) {
        println!("skipped: no file system can be mounted here");
        return;
    }
    let _mount = Mount(place.clone());
    let e = refusal(upper.path(), &options());
    assert_eq!(e.kind, IoErrorKind::Busy);
    let named = format!("shows {path}, which is mounted at {place}");
    assert!(e.detail.contains(&named), "{e}");
}

#[test]
fn a_loop_device_on_a_file_in_use_is_refused() {
    let dir = dir();
    let image = dir.path().join("image");
    let made = OpenOptions {
        create: Some(16 * MIB),
        ..options()
    };
    let writer = open(&image, &made).expect("made");
    let device = match LoopDevice::attach(&image, 512, &[]) {
        Ok(device) => device,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let e = refusal(device.path(), &options());
    assert_eq!(e.kind, IoErrorKind::Busy);
    assert!(e.detail.contains("which another store holds open"), "{e}");
    drop(writer);
    open(device.path(), &options()).expect("free");
}

#[test]
fn links_are_followed_and_named() {
    let dir = dir();
    let real = dir.path().canonicalize().expect("a name");
    let (file, link) = (real.join("file"), real.join("link"));
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    // No file is made behind a link.
    let e = refusal(&link, &creating(MIB));
    assert_eq!(e.kind, IoErrorKind::NotFound);
    assert!(e.detail.contains("which does not exist"), "{e}");
    assert!(!file.exists());
    drop(open(&file, &creating(MIB)).expect("created"));
    let opened = open(&link, &options()).expect("opened");
    let name = format!("{} → {}", link.display(), file.display());
    assert_eq!(opened.name, name);
    assert!(opened.notes.iter().any(|n| n.contains("is a link to")));
    let e = refusal(&link, &options());
    assert!(e.detail.starts_with(&name), "{e}");
    assert_eq!(
        e.to_string(),
        e.detail,
        "an open has no place on the device"
    );
}

#[test]
fn holes_are_told_of() {
    let dir = dir();
    let path = dir.path().join("file");
    let sparse = OpenOptions {
        sparse: true,
        ..creating(64 * MIB)
    };
    let device = open(&path, &sparse).expect("created").device;
    // A file system that knows no holes says that all is data.
    let start = device.next_data(0).expect("asked");
    if start == Some(0) {
        println!("skipped: no holes on this file system");
        return;
    }
    assert_eq!(start, None);
    let data = IoBuf::zeroed(4096);
    device.write_at(32 * MIB, &data).expect("written");
    device.flush().expect("flushed");
    assert_eq!(device.next_data(0).expect("asked"), Some(32 * MIB));
    assert_eq!(device.next_data(33 * MIB).expect("asked"), None);
    assert_eq!(device.next_data(64 * MIB).expect("asked"), None);
}

#[test]
fn describes_devices_and_files() {
    let dir = dir();
    let path = dir.path().join("file");
    drop(open(&path, &creating(MIB)).expect("created"));
    let facts: Description = describe(&path).expect("described");
    assert_eq!(facts.kind, DeviceKind::File);
    assert_eq!(facts.capacity, Some(MIB));
    assert!(facts.to_string().contains("write cache"));
    let e = describe(dir.path().join("nothing")).expect_err("nothing there");
    assert_eq!(e.kind, IoErrorKind::NotFound);

    let Some(device) = loop_device(&dir, &[]) else {
        return;
    };
    let facts = describe(device.path()).expect("described");
    assert_eq!(facts.kind, DeviceKind::Disk);
    assert_eq!(facts.capacity, Some(16 * MIB));
    assert_eq!(facts.logical_block, Some(512));
    assert_eq!(facts.mounted_at, None);
    assert!(!facts.swap && !facts.read_only && facts.holders.is_empty());
    let image = dir.path().join("image");
    assert_eq!(
        facts.backing_file.as_deref(),
        Some(&*image.to_string_lossy())
    );
    println!("{facts}");
    let hardware = look::hardware(device.path()).expect("known");
    let shows = hardware.loop_device.expect("a loop device");
    assert_eq!(shows.backing_file, image.to_string_lossy());
    assert_eq!((shows.offset, shows.direct), (0, Some(false)));
    assert_eq!((hardware.partition, hardware.nvme), (None, None));
}
