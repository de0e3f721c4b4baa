//! Dropping the last handle, with everything under way: no thread stays, the lock is free
//! for the next, and nothing durable is lost.

use std::path::Path;
use std::time::Duration;

use gaur::{CheckOptions, Durability, Error, FormatOptions, OpenOptions, Store, check_device};
use gaur_iodriver::sim::{SimDisk, SimOptions};
use gaur_iodriver::{DriverChoice, Latency, LatencyProfile};

const ROUNDS: u64 = 12;
const THREADS: u64 = 4;

/// Threads of this process that belong to a store or a device.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| name.starts_with("gaur-"))
        .collect()
}

/// A joined thread may still be listed for a moment: the kernel wakes who joins first.
fn no_thread_stays(what: &str) {
    for _ in 0..200 {
        if threads().is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what}: {:?} stay", threads());
}

fn options(driver: DriverChoice) -> OpenOptions {
    OpenOptions {
        driver,
        // Small and often: there is always something under way.
        cache_bytes: 1 << 20,
        checkpoint_interval: Duration::from_millis(5),
        discard: true,
        ..OpenOptions::default()
    }
}

fn key(round: u64, t: u64, i: u64) -> Vec<u8> {
    format!("{round}-{t}-{i:06}").into_bytes()
}

/// Opens, writes from several threads, and drops the last handle, whichever that is, with
/// scans open. What was acknowledged as durable is added to `durable`.
fn round(open: &dyn Fn() -> Store, round: u64, durable: &mut Vec<Vec<u8>>) {
    let store = open();
    let tree = store.tree("t").unwrap();
    for key in durable.iter() {
        assert!(tree.get(key).unwrap().is_some(), "lost");
    }
    let mut scans = Vec::new();
    let workers: Vec<_> = (0..THREADS)
        .map(|t| {
            let (store, tree) = (store.clone(), tree.clone());
            std::thread::spawn(move || {
                let mut synced = Vec::new();
                let mut scan = tree.iter().unwrap();
                for i in 0..150 + 50 * ((round + t) % 3) {
                    let k = key(round, t, i);
                    if i % 40 == 7 {
                        tree.put(&k, &[1; 9000]).unwrap();
                        synced.push(k);
                    } else {
                        tree.put_with(&k, &[1; 400], Durability::Buffered).unwrap();
                    }
                    if i % 10 == 3 {
                        scan.next().transpose().unwrap();
                    }
                }
                drop((store, tree));
                (synced, scan)
            })
        })
        .collect();
    scans.push(tree.iter().unwrap());
    drop((store, tree));
    for worker in workers {
        let (synced, scan) = worker.join().unwrap();
        durable.extend(synced);
        scans.push(scan);
    }
    no_thread_stays("with scans open");
    // The scans hold nothing but what they have read.
    for scan in scans {
        let end = scan.filter_map(Result::err).last();
        assert!(matches!(end, None | Some(Error::Closed)), "{end:?}");
    }
}

pub(crate) fn test(dir: &Path, driver: DriverChoice) {
    let path = dir.join("store");
    let format = FormatOptions {
        create_size: Some(64 << 20),
        ..FormatOptions::default()
    };
    Store::format(&path, &format).unwrap();
    no_thread_stays("after format");
    let mut durable = Vec::new();
    for n in 0..ROUNDS {
        round(
            &|| Store::open(&path, &options(driver)).unwrap(),
            n,
            &mut durable,
        );
        // The lock is free at once.
        let look = gaur_iodriver::OpenOptions {
            lock_wait: Duration::ZERO,
            ..Default::default()
        };
        let opened = gaur_iodriver::open(&path, &look).unwrap();
        let report = check_device(opened.device, &CheckOptions::default()).unwrap();
        assert!(report.clean, "{:?}", report.problems);
        no_thread_stays("after the check");
    }
}

/// On a slow disk, where requests are in flight for long.
pub(crate) fn simulated() {
    let slow = Latency::fixed(Duration::from_millis(2));
    let disk = SimDisk::new(SimOptions {
        latency: LatencyProfile {
            read: Latency::default(),
            write: slow,
            flush: slow,
            discard: slow,
        },
        ..SimOptions::default()
    });
    Store::format_device(disk.device(), &FormatOptions::default()).unwrap();
    let mut durable = Vec::new();
    for n in 0..3 {
        let open = || Store::open_device(disk.device(), &options(DriverChoice::Auto)).unwrap();
        round(&open, n, &mut durable);
        let report = check_device(disk.device(), &CheckOptions::default()).unwrap();
        assert!(report.clean, "{:?}", report.problems);
    }
}
