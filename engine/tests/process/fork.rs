//! A forked child inherits a store that is not its own: everything it tries is refused
//! at once, and nothing it does, dropping included, reaches the parent's store.
//!
//! A child of a process of many threads may do little: it tries what it is to try, says so
//! by its exit code, and ends by `_exit`.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gaur::{
    CheckOptions, Durability, Error, FormatOptions, OpenOptions, Store, Tree, TrimOptions,
    WriteBatch, check_device,
};
use gaur_iodriver::{Device, DriverChoice, IoBuf, IoErrorKind, Op, Request};

/// Forks taken while others write.
const FORKS: usize = 40;
/// Seconds after which a child counts as hanging.
const PATIENCE: u32 = 20;

/// Runs `body` in a forked child and returns its process number. The child exits with
/// 0 if `body` returned, and 1 if it panicked; an alarm ends one that hangs.
fn forked(body: impl FnOnce()) -> i32 {
    // SAFETY: the child runs `body` and ends by `_exit`: it returns to nobody.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "cannot fork");
    if child > 0 {
        return child;
    }
    // SAFETY: calls without memory, in the child alone.
    unsafe { libc::alarm(PATIENCE) };
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    // SAFETY: as above; ends the child without running anything of the parent's.
    unsafe { libc::_exit(i32::from(done.is_err())) }
}

/// Waits for a child and says how it failed, if it did.
fn reap(child: i32, what: &str) {
    let mut status = 0;
    // SAFETY: `status` is a place for one number.
    let ended = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(ended, child, "{what}");
    assert!(!libc::WIFSIGNALED(status), "{what}: the child hung or fell");
    assert_eq!(libc::WEXITSTATUS(status), 0, "{what}: see above");
}

fn key(i: u64) -> Vec<u8> {
    i.to_be_bytes().to_vec()
}

fn refused<T: std::fmt::Debug>(what: &str, result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Forked)), "{what}: {result:?}");
}

/// Everything a child may think of.
fn try_all(store: &Store, tree: &Tree, scan: gaur::Scan, batch: WriteBatch) {
    for durability in [Durability::Sync, Durability::Buffered] {
        refused("put", tree.put_with(b"child", b"x", durability));
        refused("delete", tree.delete_with(&key(1), durability));
    }
    refused("a large value", tree.put(b"child", &[1; 100_000]));
    refused("commit", store.commit(batch, Durability::Sync));
    refused("get", tree.get(&key(1)));
    refused("get of what is not there", tree.get(b"nothing"));
    refused("contains", tree.contains(&key(2)));
    refused("iter", tree.iter().map(|_| ()));
    refused("a scan goes on", scan.collect::<Result<Vec<_>, _>>());
    refused("flush", store.flush());
    refused("wait_durable", store.wait_durable(1));
    refused("checkpoint", store.checkpoint());
    refused("set_cache_bytes", store.set_cache_bytes(2 << 20));
    let trim = |dry_run| TrimOptions {
        dry_run,
        ..TrimOptions::default()
    };
    for dry_run in [true, false] {
        let trimmed = store.trim(&trim(dry_run), |_| ControlFlow::Continue(()));
        refused("trim", trimmed);
    }
    refused("create_tree", store.create_tree("child"));
    refused("open_tree", store.open_tree("t"));
    refused("tree", store.tree("t"));
    assert!(store.tree_names().is_empty());
    assert!(store.notes().len() < 10);
    assert!(store.stats().rows().is_empty());
    refused("close", store.clone().close());
}

fn options(driver: DriverChoice) -> OpenOptions {
    OpenOptions {
        driver,
        cache_bytes: 1 << 20,
        checkpoint_interval: Duration::from_millis(20),
        ..OpenOptions::default()
    }
}

fn format(path: &Path) {
    let options = FormatOptions {
        create_size: Some(64 << 20),
        ..FormatOptions::default()
    };
    Store::format(path, &options).unwrap();
}

/// Children forked at any moment while threads write, read and scan.
fn children_are_refused(dir: &Path, driver: DriverChoice) {
    let path = dir.join("store");
    format(&path);
    let store = Store::open(&path, &options(driver)).unwrap();
    let tree = store.tree("t").unwrap();
    for i in 0..6000 {
        tree.put_with(&key(i), &[7; 300], Durability::Buffered)
            .unwrap();
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|s| {
        let writers: Vec<_> = (0..3u64)
            .map(|t| {
                let (tree, over) = (&tree, &over);
                s.spawn(move || {
                    let mut n = 0;
                    while !over.load(Ordering::Relaxed) {
                        let k = key(6000 + 3 * n + t);
                        let durability = [Durability::Sync, Durability::Buffered];
                        tree.put_with(&k, &[t as u8; 300], durability[n as usize % 2])
                            .unwrap();
                        tree.get(&key(n * 37 % 6000)).unwrap().unwrap();
                        if n % 64 == 0 {
                            assert!(tree.iter().unwrap().take(500).all(|r| r.is_ok()));
                        }
                        n += 1;
                    }
                    n
                })
            })
            .collect();
        for i in 0..FORKS {
            let mut scan = tree.iter().unwrap();
            assert!(scan.next().unwrap().is_ok());
            let mut batch = WriteBatch::new();
            batch.put(&tree, b"child", b"x");
            let (store, tree) = (store.clone(), tree.clone());
            let child = forked(move || {
                try_all(&store, &tree, scan, batch);
                drop((store, tree));
            });
            reap(child, &format!("child {i}"));
        }
        over.store(true, Ordering::Relaxed);
        for (t, writer) in writers.into_iter().enumerate() {
            let n = writer.join().unwrap();
            assert!(n > 0);
            for i in 0..n {
                let got = tree.get(&key(6000 + 3 * i + t as u64)).unwrap();
                assert_eq!(got.as_deref(), Some(&[t as u8; 300][..]));
            }
        }
    });
    assert_eq!(tree.get(b"child").unwrap(), None);

    // The last handles dropped in a child leave lock and store alone.
    let child = {
        let (store, tree) = (&store, &tree);
        forked(move || {
            // SAFETY: each is read out once, and the child never uses the original again.
            let own = unsafe { (std::ptr::read(store), std::ptr::read(tree)) };
            drop(own);
        })
    };
    reap(child, "dropping the last handles");
    match Store::open(&path, &options(driver)) {
        Err(Error::Io(e)) => assert_eq!(e.kind, IoErrorKind::Busy),
        other => panic!("the lock is gone: {other:?}"),
    }
    tree.put(b"parent", b"x").unwrap();

    // A child that lives on, with all it inherited, keeps nobody out.
    let child = forked(|| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    drop(tree);
    store.close().unwrap();
    let start = Instant::now();
    let store = Store::open(&path, &options(driver)).unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "the lock stayed");
    let tree = store.open_tree("t").unwrap();
    assert_eq!(tree.get(b"parent").unwrap().as_deref(), Some(&b"x"[..]));
    // SAFETY: a child of this process that was not waited for.
    unsafe { libc::kill(child, libc::SIGKILL) };
    let mut status = 0;
    // SAFETY: `status` is a place for one number.
    unsafe { libc::waitpid(child, &mut status, 0) };

    // What the parent has open does not keep a child from a store of its own.
    let own = dir.join("own");
    let child = forked(|| {
        let busy = Store::open(&path, &options(driver));
        assert!(matches!(&busy, Err(Error::Io(e)) if e.kind == IoErrorKind::Busy));
        format(&own);
        let store = Store::open(&own, &options(driver)).unwrap();
        let mine = store.tree("mine").unwrap();
        mine.put(b"k", b"v").unwrap();
        refused("the parent's", tree.put(b"child", b"x"));
        assert_eq!(mine.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
        drop(mine);
        store.close().unwrap();
    });
    reap(child, "a store of the child's own");
    drop(tree);
    store.close().unwrap();
    for path in [&path, &own] {
        let opened = gaur_iodriver::open(path, &Default::default()).unwrap();
        let report = check_device(opened.device, &CheckOptions::default()).unwrap();
        assert!(report.clean, "{:?}", report.problems);
    }
}

/// The same one layer below, with requests in flight.
fn queues_are_refused(dir: &Path, driver: DriverChoice) {
    let path = dir.join("device");
    let options = gaur_iodriver::OpenOptions {
        driver,
        create: Some(1 << 20),
        ..Default::default()
    };
    let device = gaur_iodriver::open(&path, &options).unwrap().device;
    let write = |token: u64| Request {
        token,
        op: Op::Write {
            offset: token * 4096,
            buf: IoBuf::zeroed(4096),
            durable: true,
        },
    };
    for _ in 0..10 {
        let mut queue = device.queue(8).unwrap();
        queue.submit(&mut (0..32).map(write).collect()).unwrap();
        let child = forked(|| {
            // SAFETY: read out in the child alone, which never uses the original.
            let mut queue = unsafe { std::ptr::read(&queue) };
            let mut done = Vec::new();
            let kind = |e: gaur_iodriver::IoError| e.kind;
            let forked = Some(IoErrorKind::Forked);
            assert_eq!(
                queue.submit(&mut vec![write(1)]).map_err(kind).err(),
                forked
            );
            assert_eq!(queue.wait(1, None, &mut done).map_err(kind).err(), forked);
            assert_eq!(queue.wait(0, None, &mut done).map_err(kind).err(), forked);
            drop(queue);
            // SAFETY: as above.
            let device: std::sync::Arc<dyn Device> = unsafe { std::ptr::read(&device) };
            assert_eq!(device.queue(1).map(|_| ()).map_err(kind).err(), forked);
            assert_eq!(device.flush().map_err(kind).err(), forked);
            let mut buf = IoBuf::zeroed(4096);
            assert_eq!(device.write_at(0, &buf).map_err(kind).err(), forked);
            assert_eq!(device.read_at(0, &mut buf).map_err(kind).err(), forked);
            assert_eq!(
                device.grow(2 << 20, None).map(|_| ()).map_err(kind).err(),
                forked
            );
            drop(device);
        });
        let mut done = Vec::new();
        while done.len() < 32 {
            queue.wait(1, None, &mut done).unwrap();
        }
        assert!(done.iter().all(|c| c.result.is_ok()));
        reap(child, "a queue");
    }
}

/// All of it on a driver.
pub(crate) fn test(dir: &Path, driver: DriverChoice) {
    queues_are_refused(dir, driver);
    children_are_refused(dir, driver);
}
